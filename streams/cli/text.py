"""Text and values: serdes by name, what is typed on a command line, values shown.

Owns the names of serdes and how a value is shown. Keys are read by `streams.queries.keys`, the same
for HTTP and the command line; here a wrong key becomes an error of usage. It must not know stores,
topics or commands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import msgspec

from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import FOREVER_MS, Windowed
from thalweg.streams.cli import modules
from thalweg.streams.cli.exits import UsageError
from thalweg.streams.queries import keys

SERDES: Final[Mapping[str, Serde[Any]]] = {
    name: getattr(serdes, name)
    for name in (
        *("string", "bytes", "int32", "int64", "float64", "bool", "uuid", "json", "msgpack"),
    )
}
SERDE_FORMS: Final = f"{', '.join(SERDES)}, windowed(SERDE,SIZE_MS), or module:attribute"

_WINDOWED: Final = re.compile(r"windowed\((.+),\s*(\d+)\)")


def serde_named(name: str) -> Serde[Any]:
    """Returns a serde by its name on the command line.

    Raises:
        UsageError: there is none; says which there are.
    """
    if name in SERDES:
        return SERDES[name]
    if windowed := _WINDOWED.fullmatch(name):
        size_ms = int(windowed[2])
        if size_ms < 1:
            message = f"serde {name!r}: the size of windows is at least 1 ms"
            raise UsageError(message)
        return serdes.windowed(serde_named(windowed[1].strip()), size_ms)
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = attrgetter(attribute)(modules.load(module))
        except Exception as error:  # whatever a module of the user's raises when it is loaded
            message = f"serde {name!r} cannot be loaded: {type(error).__name__}: {error}"
            raise UsageError(message) from error
        if isinstance(found, Serde):
            return found
        message = f"{name} is a {type(found).__name__}, no Serde"
        raise UsageError(message)
    message = f"there is no serde {name!r}; give one of {SERDE_FORMS}"
    raise UsageError(message)


# -- text to values ------------------------------------------------------------------------


def value_of(typed: str, serde: Serde[Any]) -> Any:
    """Reads a key or value typed as text, by the serde it will be written with.

    Raises:
        UsageError: the text is not of the serde's form; names the form.
    """
    try:
        return keys.parse_key(serde, typed)
    except ValueError as error:
        raise UsageError(str(error)) from error


def prefix_of(typed: str, serde: Serde[Any]) -> bytes:
    """Returns the bytes with which the keys that are asked for begin.

    Raises:
        UsageError: the text is not of the serde's form; names the form.
    """
    try:
        return keys.parse_prefix(serde, typed)
    except ValueError as error:
        raise UsageError(str(error)) from error


def moment_ms(typed: str) -> int:
    """Reads a moment: epoch milliseconds, or ISO 8601, in UTC where it names no zone.

    Raises:
        UsageError: it is neither, or before 1970.
    """
    try:
        return keys.parse_moment_ms(typed)
    except ValueError as error:
        raise UsageError(str(error)) from error


# -- values to text ------------------------------------------------------------------------


def shown(value: Any) -> str:
    """Returns a key or value for people.

    Text is shown as it is, a windowed key as `key@start/end`, bytes as text where they are
    UTF-8 and else as hex, all else as JSON.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Windowed):
        return f"{shown(value.key)}@{shown_moment(value.window.start_ms)}/" + shown_moment(
            value.window.end_ms
        )
    if isinstance(value, bytes):
        return bytes_text(value)
    return json_text(value)


def shown_moment(moment_ms: int) -> str:
    """Returns a moment in UTC, with milliseconds only where there are some."""
    try:
        moment = datetime.fromtimestamp(moment_ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):  # beyond the year 9999: an unlimited window
        return "forever" if moment_ms == FOREVER_MS else str(moment_ms)
    millis = f".{moment_ms % 1000:03}" if moment_ms % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{millis}Z"


def bytes_text(data: bytes) -> str:
    """Returns bytes as the text they are in UTF-8, else as 0x and hex digits."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"


def json_text(value: Any) -> str:
    """Returns a value as JSON; bytes as in `bytes_text`, what JSON does not know as text."""
    return msgspec.json.encode(plain(value), enc_hook=str).decode()


def plain(value: Any) -> Any:
    """Returns a value made of what JSON knows."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes_text(bytes(value))
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Windowed):
        start, end = value.window.start_ms, value.window.end_ms
        return {"key": plain(value.key), "start": start, "end": end}
    try:
        value = msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True, enc_hook=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return _without_bytes(value)


def _without_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_bytes(item) for item in value]
    return bytes_text(value) if isinstance(value, bytes) else value
