"""Answers as JSON: rows and errors.

Owns how keys and values look in JSON, the parts of an answer that instances exchange, and the
errors, each with its HTTP status and a `code` that never changes. It must not know how a row was
found.

    str, int, bool, None           as they are; a float that JSON does not know as "NaN",
                                   "Infinity", "-Infinity"
    json, msgpack, typed values    as msgspec writes them
    bytes                          {"base64": "AAE="}, at any depth
    windowed key                   {"key": …, "start": ms, "end": ms}
    headers                        [["name", "text"], …], in order
    what no JSON is known for      {"base64": …} of the bytes its serde writes

Source: RFC 9457 (problem details).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from thalweg.stores.errors import (
    SerdeError,
    StoreClosedError,
    StoreMovedError,
    StoreNotReadyError,
    StreamsError,
    UnknownStoreError,
)
from thalweg.stores.record import Headers
from thalweg.stores.serde import Serde
from thalweg.stores.windowed import Windowed
from thalweg.streams.errors import AppStateError

RETRY_SECONDS: Final = 1
"""When to ask again what could not be answered now."""


# -- values --------------------------------------------------------------------------------


def plain(value: object, serde: Serde[Any]) -> object:
    """Returns a key or value made of what JSON knows.

    Args:
        value: what a store returned.
        serde: wrote it; writes it again where nothing else is known.
    """
    if value is None or value.__class__ in (str, int, bool):
        return value
    if isinstance(value, Windowed):
        start, end = value.window.start_ms, value.window.end_ms
        return {"key": plain(value.key, serde), "start": start, "end": end}
    try:
        built = msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True)
    except (TypeError, ValueError, RecursionError):
        return _marked(serde.serializer("")(value))
    return _finished(built)


def _finished(value: object) -> object:
    """Replaces what msgspec leaves that JSON has no form for, all the way down."""
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finished(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return _marked(bytes(value))
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _marked(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def row_as_json(
    key: object,
    value: object,
    more: Mapping[str, object],
    key_serde: Serde[Any],
    value_serde: Serde[Any],
) -> bytes:
    """Returns a row of a store as JSON: over HTTP and on a command line it is the same.

    Args:
        key: the key, of a window store a `Windowed`.
        value: the value.
        more: what the store keeps beside the value, such as its `timestamp`; made of what JSON
            knows.
        key_serde: of the store.
        value_serde: of the store.
    """
    shown = {"key": plain(key, key_serde), "value": plain(value, value_serde), **more}
    return json_bytes(shown)


def headers_as_json(headers: Headers) -> list[tuple[str, object]]:
    """Returns names and values in order; a value is text where it is UTF-8, else marked bytes."""
    return [(name, None if value is None else _text(value)) for name, value in headers]


def _text(data: bytes) -> object:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _marked(data)


def json_bytes(value: object) -> bytes:
    """Returns a value that `plain` made, or that is made of such, as JSON."""
    return msgspec.json.encode(value)


# -- parts of an answer --------------------------------------------------------------------


class PartRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of a part.

    Attributes:
        order: stands where the row stands: rows of all parts are merged by it.
        row: the row as JSON.
    """

    order: bytes
    row: msgspec.Raw


class Part(msgspec.Struct, frozen=True):
    """What some partitions answer to a question.

    Attributes:
        rows: in the order asked for.
        is_cut: whether there are more rows behind the last one.
        count: how many rows there are, where that was asked.
    """

    rows: list[PartRow] = []
    is_cut: bool = False
    count: int = 0


PART_FORMAT: Final = 1
"""The version of the form in which instances hand each other parts."""


class _SentPart(msgspec.Struct, frozen=True):
    """A part on its way. No field may be missing: `{}` is no part without rows."""

    thalweg_part: int
    rows: list[PartRow]
    is_cut: bool
    count: int


_decode_sent: Final[Callable[[bytes], _SentPart]] = msgspec.json.Decoder(_SentPart).decode


def encode_part(part: Part) -> bytes:
    """Returns a part as an instance hands it to another."""
    return msgspec.json.encode(_SentPart(PART_FORMAT, part.rows, part.is_cut, part.count))


def decode_part(data: bytes) -> Part:
    """Reads a part of another instance.

    Raises:
        ValueError: it is none, or of another form; msgspec's errors are such.
    """
    sent = _decode_sent(data)
    if sent.thalweg_part != PART_FORMAT:
        message = f"its form is {sent.thalweg_part}, not {PART_FORMAT}"
        raise ValueError(message)
    return Part(sent.rows, sent.is_cut, sent.count)


# -- refusals ------------------------------------------------------------------------------


class RefusedError(StreamsError):
    """There is no answer, for a reason whoever asked can act on.

    Args:
        status: the HTTP status.
        code: names the reason for programs; it stays.
        detail: says it to people, and what to do.
        facts: what else is known, for programs.
    """

    def __init__(self, status: HTTPStatus, code: str, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.facts: Mapping[str, object] = facts

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that go with it."""
        if self.status is HTTPStatus.SERVICE_UNAVAILABLE:
            return {"Retry-After": str(RETRY_SECONDS)}
        return {}

    def body(self) -> bytes:
        """Returns the problem details."""
        return json_bytes(
            {
                "title": self.status.phrase,
                "status": int(self.status),
                "code": self.code,
                "detail": self.message,
                **self.facts,
            }
        )


def bad(code: str, detail: str, **facts: object) -> RefusedError:
    """Refuses a question that cannot be understood."""
    return RefusedError(HTTPStatus.BAD_REQUEST, code, detail, **facts)


def not_now(code: str, detail: str, **facts: object) -> RefusedError:
    """Refuses a question that can be asked again."""
    return RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, **facts)


def not_so(code: str, detail: str, **facts: Any) -> RefusedError:
    """Refuses a question of which another server has rows that it does not give to instances.

    To ask again does not help, and is not asked for.
    """
    return RefusedError(HTTPStatus.BAD_GATEWAY, code, detail, **facts)


_REFUSALS: Final[tuple[tuple[type[StreamsError], HTTPStatus, str], ...]] = (
    (UnknownStoreError, HTTPStatus.NOT_FOUND, "unknown-store"),
    (StoreNotReadyError, HTTPStatus.SERVICE_UNAVAILABLE, "store-not-ready"),
    (StoreMovedError, HTTPStatus.SERVICE_UNAVAILABLE, "store-moved"),
    (StoreClosedError, HTTPStatus.SERVICE_UNAVAILABLE, "store-moved"),
    (AppStateError, HTTPStatus.SERVICE_UNAVAILABLE, "not-running"),
    (SerdeError, HTTPStatus.INTERNAL_SERVER_ERROR, "unreadable-row"),
)


def refusal_of(error: StreamsError) -> RefusedError:
    """Returns the refusal that an error of a store or the application means."""
    if isinstance(error, RefusedError):
        return error
    for kind, status, code in _REFUSALS:
        if isinstance(error, kind):
            return RefusedError(status, code, str(error))
    return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "store-failed", str(error))
