"""Records as lines: plain text with a separator, or JSON objects, in and out.

Owns both forms. It must not know where lines come from or records go to.

    plain     value                 key SEPARATOR value
    JSON      {"key": …, "value": …, "timestamp": …, "headers": {…}, "partition": …}

Without a serde ("auto"), text is written as UTF-8 and all else as JSON; read, UTF-8 is shown
as text and other bytes as 0x and hex digits, in JSON an object or array as what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from thalweg.stores.record import HeaderList, Headers
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.streams.cli import text
from thalweg.streams.cli.exits import UsageError
from thalweg.topology.processor import ConsumedRecord

AUTO: Final = "auto"

_JSON_BEGINS: Final = (b"{", b"[")


class Line(NamedTuple):
    """A record to send.

    Attributes:
        key: the key, None for none.
        value: the value, None for none.
        key_serde: how the key is written.
        value_serde: how the value is written.
        timestamp: epoch milliseconds, None for the time of sending.
        headers: names and values, None for none.
        partition: where to, None by the key.
    """

    key: Any
    value: Any
    key_serde: Serde[Any]
    value_serde: Serde[Any]
    timestamp: int | None = None
    headers: HeaderList | None = None
    partition: int | None = None


Parse: TypeAlias = Callable[[bytes], Line | None]
"""Reads a line without its end; None for one that says nothing."""


class _Object(msgspec.Struct, forbid_unknown_fields=True):
    """A line of JSON; topic and offset are what `consume --json` writes, and not looked at."""

    value: Any
    key: Any = None
    timestamp: int | str | None = None
    headers: dict[str, str | None] | list[tuple[str, str | None]] | None = None
    partition: int | None = None
    topic: str | None = None
    offset: int | None = None


def serde_or_none(name: str) -> Serde[Any] | None:
    """Returns a serde by its name, None for "auto"."""
    return None if name == AUTO else text.serde_named(name)


# -- lines to records ----------------------------------------------------------------------


def plain_lines(
    key_serde: Serde[Any] | None, value_serde: Serde[Any] | None, separator: str | None
) -> Parse:
    """Returns the reader of plain lines.

    Args:
        key_serde: how keys are written; None for text as UTF-8.
        value_serde: the same for values.
        separator: stands between key and value; None where lines have no keys.
    """
    key_serde, value_serde = key_serde or serdes.string, value_serde or serdes.string
    read_key, read_value = _reader(key_serde), _reader(value_serde)
    between = None if separator is None else separator.encode()

    def parse(line: bytes) -> Line:
        if between is None:
            return Line(None, read_value(line), key_serde, value_serde)
        key, found, value = line.partition(between)
        if not found:
            message = f"there is no {separator!r} between key and value"
            raise UsageError(message)
        return Line(read_key(key), read_value(value), key_serde, value_serde)

    return parse


def _reader(serde: Serde[Any]) -> Callable[[bytes], Any]:
    if serde.name == "bytes":
        return lambda data: data
    if serde.name == "string":
        return _utf8
    return lambda data: text.value_of(_utf8(data), serde)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 ({error.reason} at byte {error.start}); --value-serde bytes"
        raise UsageError(f"{message} takes bytes as they are") from error


def json_lines(key_serde: Serde[Any] | None, value_serde: Serde[Any] | None) -> Parse:
    """Returns the reader of JSON lines; serdes as for `plain_lines`, None is for "auto"."""
    decode = msgspec.json.Decoder(_Object).decode

    def parse(line: bytes) -> Line | None:
        if not line.strip():
            return None
        try:
            row = decode(line)
        except msgspec.DecodeError as error:
            message = f"it is not a record in JSON: {error}"
            raise UsageError(message) from error
        headers = None
        if row.headers is not None:
            items = row.headers.items() if isinstance(row.headers, dict) else row.headers
            headers = [
                (name, None if t is None else text.value_of(t, serdes.bytes)) for name, t in items
            ]
        at = row.timestamp
        key, own_key_serde = _value("key", row.key, key_serde)
        value, own_value_serde = _value("value", row.value, value_serde)
        return Line(
            key,
            value,
            own_key_serde,
            own_value_serde,
            timestamp=text.moment_ms(at) if isinstance(at, str) else at,
            headers=headers,
            partition=row.partition,
        )

    return parse


def _value(what: str, given: Any, serde: Serde[Any] | None) -> tuple[Any, Serde[Any]]:
    """Returns a value for its serde, and the serde, chosen where there is none."""
    if serde is None:
        return given, serdes.string if isinstance(given, str) else serdes.json
    if given is None or serde.name in ("json", "msgpack"):
        return given, serde
    try:
        return _read(given, serde), serde
    except UsageError as error:
        message = f"{what}: {error}"
        raise UsageError(message) from error


def _read(given: Any, serde: Serde[Any]) -> Any:
    if isinstance(given, str):
        return text.value_of(given, serde)
    if serde.name == "string":
        message = f"{text.json_text(given)} is not a text"
        raise UsageError(message)
    if serde.name.startswith("windowed"):
        try:
            inner, window = given["key"], given.get("window")
            if window is None:
                span = TimeWindow(given["start"], given["end"])
            else:  # as earlier versions of `consume --json` wrote it
                span = TimeWindow(window["start_ms"], window["end_ms"])
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            message = f"{text.json_text(given)} is not {{key, start, end}}"
            raise UsageError(message) from error
        return Windowed(_read(inner, serde.inner), span)  # type: ignore[attr-defined]
    return text.value_of(text.json_text(given), serde)


# -- records to lines ----------------------------------------------------------------------


def plain_line(record: ConsumedRecord, separator: str) -> str:
    """Returns a record as plain text: its key, if it has one, the separator, its value."""
    value = text.shown(record.value)
    return value if record.key is None else f"{text.shown(record.key)}{separator}{value}"


def json_line(record: ConsumedRecord) -> str:
    """Returns a record as a JSON object."""
    row = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _as_json(record.key),
        "value": _as_json(record.value),
    }
    if len(record.headers):
        row["headers"] = _headers(record.headers)
    return text.json_text(row)


def _headers(headers: Headers) -> Any:
    rows = [(name, None if data is None else text.bytes_text(data)) for name, data in headers]
    names = {name for name, _ in rows}
    return dict(rows) if len(names) == len(rows) else rows


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes) and value.startswith(_JSON_BEGINS):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            pass
    return value


# -- reading lines -------------------------------------------------------------------------


def chunks_of_lines(read: Callable[[], bytes]) -> Iterator[list[bytes]]:
    """Yields the lines of what `read` returns, piece by piece, until it returns nothing.

    Lines end with a line feed, which a carriage return may precede; the last need not.

    Args:
        read: returns what is there, waiting for something; empty at the end.
    """
    rest = b""
    while data := read():
        *lines, rest = (rest + data).split(b"\n")
        yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]
