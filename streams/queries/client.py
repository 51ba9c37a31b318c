"""Questions to the stores of a running worker, from outside of it.

Owns which page answers a question and how pages follow each other. Keys and moments go as text,
as they were typed: the worker knows the serdes. It must not know how a page is fetched, nor how
rows are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from thalweg.stores.errors import UnknownStoreError
from thalweg.streams.errors import BrokerError
from thalweg.streams.queries.answers import RefusedError
from thalweg.streams.queries.peer import Page
from thalweg.streams.queries.questions import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    Parameters,
    key_target,
)

Get: TypeAlias = Callable[[str], Page]
"""Fetches path and query of a worker; raises PeerError."""

T = TypeVar("T")


class RunningStore(msgspec.Struct, frozen=True):
    """A store of a running worker.

    Attributes:
        name: its name.
        kind: its kind, as `StoreBuilder.kind`.
        key_serde: the name of its keys' serde.
        value_serde: the name of its values' serde.
    """

    name: str
    kind: str
    key_serde: str
    value_serde: str

    @property
    def is_window(self) -> bool:
        """Whether rows are found by key and window start."""
        return self.kind in ("window", "timestamped-window")


class RowsAsked(NamedTuple):
    """Which rows of a store are asked for, as text.

    Attributes:
        key: of one key.
        lower: the first key.
        upper: the last key, included.
        prefix: how keys begin; of stores without windows.
        time_from: the first window start.
        time_to: the last window start, included.
        reverse: highest keys, newest windows first.
    """

    key: str | None = None
    lower: str | None = None
    upper: str | None = None
    prefix: str | None = None
    time_from: str | None = None
    time_to: str | None = None
    reverse: bool = False


class _Stores(msgspec.Struct, frozen=True):
    stores: list[RunningStore]


class _Rows(msgspec.Struct, frozen=True):
    rows: list[msgspec.Raw]
    cursor: str | None


_decode_stores: Final[Callable[[bytes], _Stores]] = msgspec.json.Decoder(_Stores).decode
_decode_rows: Final[Callable[[bytes], _Rows]] = msgspec.json.Decoder(_Rows).decode


class StoreClient:
    """Asks a running worker; it answers with the rows of all instances.

    Args:
        get: fetches its pages.
    """

    def __init__(self, get: Get) -> None:
        self._get = get

    def stores(self) -> list[RunningStore]:
        """Returns the stores there are.

        Raises:
            PeerError: there is no worker.
            BrokerError: what it says cannot be read.
        """
        return _read(_decode_stores, self._page("/stores")).stores

    def store(self, name: str) -> RunningStore:
        """Returns a store.

        Raises:
            UnknownStoreError: there is none of that name; names those there are.
            PeerError: there is no worker.
        """
        found = {store.name: store for store in self.stores()}
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            message = f"there is no store {name!r}; the stores of that worker: {known}"
            raise UnknownStoreError(message)
        return found[name]

    def rows(
        self, store: RunningStore, asked: RowsAsked, limit: int | None = None
    ) -> Iterator[bytes]:
        """Yields rows as JSON, in order, a page at a time.

        Args:
            store: the store.
            asked: which rows.
            limit: the most rows; None for all.

        Raises:
            PeerError: there is no worker, or it is gone.
            RefusedError: it does not answer, or the question is wrong; says why.
        """
        if asked.key is not None and not store.is_window:
            path, parameters = key_target(store.name, asked.key)
            page = self._get(_target(path, parameters))
            if limit != 0 and not _is_absent(page):
                yield _accepted(page)
            return
        yield from self._pages(*_scan_of(store, asked), limit)

    def _pages(self, path: str, parameters: Parameters, limit: int | None) -> Iterator[bytes]:
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = LIMIT_DEFAULT if left is None else min(left, LIMIT_MAX)
            given = [*parameters, ("limit", str(size))]
            if cursor is not None:
                given.append(("cursor", cursor))
            page = _read(_decode_rows, self._page(_target(path, given)))
            # Rows of equal order are not divided: there may be more than were asked for.
            rows: Sequence[msgspec.Raw] = page.rows if left is None else page.rows[:left]
            yield from map(bytes, rows)
            cursor = page.cursor
            if cursor is None:
                return
            left = None if left is None else left - len(rows)

    def _page(self, target: str) -> bytes:
        return _accepted(self._get(target))


def _scan_of(store: RunningStore, asked: RowsAsked) -> tuple[str, Parameters]:
    """Returns path and parameters of the question for many rows."""
    path = f"/stores/{quote(store.name, safe='')}"
    given: list[tuple[str, str | None]]
    if not store.is_window:
        given = [("from", asked.lower), ("to", asked.upper), ("prefix", asked.prefix)]
    else:
        path += "/windows"
        given = [
            ("key_from", asked.lower),
            ("key_to", asked.upper),
            ("from", asked.time_from),
            ("to", asked.time_to),
        ]
        if asked.key is not None:
            path, own = key_target(store.name, asked.key, is_windows=True)
            given += own
    if asked.reverse:
        given.append(("reverse", "true"))
    return path, [(name, value) for name, value in given if value is not None]


def _target(path: str, parameters: Parameters) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def _accepted(page: Page) -> bytes:
    """Returns the body of an answer.

    Raises:
        RefusedError: it is a refusal.
    """
    if page.status == HTTPStatus.OK:
        return page.body
    code, detail = _problem(page)
    try:
        status = HTTPStatus(page.status)
    except ValueError:
        status = HTTPStatus.BAD_GATEWAY
    raise RefusedError(status, code, detail)


def _is_absent(page: Page) -> bool:
    return page.status == HTTPStatus.NOT_FOUND and _problem(page)[0] == "key-not-found"


def _problem(page: Page) -> tuple[str, str]:
    try:
        given: Any = msgspec.json.decode(page.body)
        return str(given["code"]), str(given["detail"])
    except (ValueError, LookupError, TypeError):
        return "refused", f"the worker answers with HTTP status {page.status}"


def _read(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except ValueError as error:
        message = (
            f"what the worker answers cannot be read: {error}; use the thalweg that it runs with"
        )
        raise BrokerError(message) from error
