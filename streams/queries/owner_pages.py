"""What a running application answers other processes, through the log that its process owns.

Owns the page that reads a store for them, as long as it is read; all else are the routes of
`server`. It must not know sockets, nor who asks.

Source: KIP-67, KIP-535.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from typing import Any, Final

import msgspec

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import StreamsError
from thalweg.stores.windowed import Windowed
from thalweg.streams.errors import BrokerError
from thalweg.streams.queries.http import (
    HOP_THREADS,
    QUESTION_THREADS,
    Instance,
    query_application,
)
from thalweg.streams.queries.owner_rows import (
    LENGTH,
    METHODS,
    PATH,
    Argument,
    Asked,
    Page,
    StoredRow,
)
from thalweg.streams.transport.log import owner_wire
from thalweg.streams.transport.log.owner_server import (
    Receive,
    Scope,
    Send,
    read_body,
)

PAGE_ROWS: Final = 500
PAGE_BYTES: Final = 1024 * 1024
"""A page ends where it has so many rows or bytes."""

_log = logging.getLogger(__name__)


class OwnerPages:
    """The pages, as an ASGI application.

    Args:
        application: answers.
    """

    def __init__(self, application: Instance) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(QUESTION_THREADS, "thalweg-rows")
        self._pools = (
            ThreadPoolExecutor(QUESTION_THREADS, "thalweg-query"),
            ThreadPoolExecutor(QUESTION_THREADS, "thalweg-part"),
            ThreadPoolExecutor(HOP_THREADS, "thalweg-hop"),
        )
        self._routes = query_application(application, *self._pools)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["method"] == "POST" and scope["path"] == PATH:
            await self._answer_rows(receive, send)
        else:
            await self._routes(scope, receive, send)

    def close(self) -> None:
        """Ends the threads that answer."""
        for pool in (self._pool, *self._pools):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _answer_rows(self, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        headers = [(b"content-type", b"application/msgpack")]
        await send(
            {"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": headers}
        )
        pages: Any = _pages(self._application, body or b"")
        loop = asyncio.get_running_loop()
        # Whoever asked may have had enough: then the rest is not read.
        gone = asyncio.ensure_future(receive())
        try:
            while not gone.done():
                page = await loop.run_in_executor(self._pool, next, pages)
                data = owner_wire.encode(page)
                await send(
                    {
                        "type": "http.response.body",
                        "body": LENGTH.pack(len(data)) + data,
                        "more_body": not page.is_last,
                    }
                )
                if page.is_last:
                    return
        finally:
            gone.cancel()
            await loop.run_in_executor(self._pool, pages.close)


def owner_pages(application: Instance) -> OwnerPages:
    """Returns the pages of an application."""
    return OwnerPages(application)


def _pages(application: Instance, body: bytes) -> Iterator[Page]:
    """Yields the rows of an answer, page by page; the last one says that it is."""
    rows: list[StoredRow] = []
    size = 0
    try:
        for row in _rows(application, body):
            rows.append(row)
            size += len(row.key) + len(row.value)
            if len(rows) >= PAGE_ROWS or size >= PAGE_BYTES:
                yield Page(rows)
                rows, size = [], 0
    except StreamsError as error:
        yield Page([], is_last=True, failure=owner_wire.failure_of(error))
    except msgspec.MsgspecError as error:
        message = f"what was asked of the application cannot be read ({error}): another version?"
        yield Page([], is_last=True, failure=owner_wire.failure_of(BrokerError(message)))
    except Exception as error:
        _log.exception("a question of another process failed")
        message = f"the application failed to answer ({type(error).__name__}: {error})"
        yield Page([], is_last=True, failure=owner_wire.failure_of(BrokerError(message)))
    else:
        yield Page(rows, is_last=True)


def _rows(application: Instance, body: bytes) -> Iterator[StoredRow]:
    asked = msgspec.msgpack.decode(body, type=Asked)
    if asked.method not in METHODS:
        message = f"a store has no read {asked.method!r}: another version?"
        raise BrokerError(message)
    builder = application.store_builder(asked.store)
    assert builder.key_serde is not None
    assert builder.value_serde is not None
    decode_key = builder.key_serde.deserializer(builder.name)
    face = application.store(asked.store, timestamped=builder.is_timestamped, partition=None)
    arguments = [_argument(one, decode_key) for one in asked.arguments]
    found = getattr(face, asked.method)(*arguments)
    row_of = _row_of(builder)
    if asked.method == "get":
        if found is not None:
            yield row_of(arguments[0], found)
        return
    with closing(found):
        for key, value in found:
            yield row_of(key, value)


def _argument(given: Argument, decode_key: Callable[[bytes], Any]) -> Any:
    return given.plain if given.key is None else decode_key(given.key)


def _row_of(builder: StoreBuilder) -> Callable[[Any, Any], StoredRow]:
    assert builder.key_serde is not None
    assert builder.value_serde is not None
    encode_key = builder.key_serde.serializer(builder.name)
    encode_value = builder.value_serde.serializer(builder.name)
    is_timestamped = builder.is_timestamped

    def row_of(key: Any, value: Any) -> StoredRow:
        timestamp = None
        if is_timestamped:
            value, timestamp = value
        if isinstance(key, Windowed):
            window = key.window
            return StoredRow(
                encode_key(key.key),
                encode_value(value),
                timestamp,
                window.start_ms,
                window.end_ms,
            )
        return StoredRow(encode_key(key), encode_value(value), timestamp)

    return row_of
