"""Text and values: serdes by name, keys typed on a command line, values shown.

Owns how a key or value is written as text, both ways. It must not know stores, topics or
commands.

    string    as it is                  uuid              550e8400-e29b-41d4-a716-446655440000
    int32     -5                        json, msgpack     JSON text
    int64     -5                        bytes             text, or 0x and hex digits
    float64   1.5                       of one type       JSON text
    bool      true                      of your own       what its deserializer takes, as UTF-8
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from stores.errors import DeserializationError, SerdeError
from stores.serde import Serde, serdes
from stores.windowed import FOREVER_MS, Windowed
from streams.cli.exits import UsageError

SERDES: Final[Mapping[str, Serde[Any]]] = {
    name: getattr(serdes, name)
    for name in (
        *("string", "bytes", "int32", "int64", "float64", "bool", "uuid", "json", "msgpack"),
    )
}
SERDE_FORMS: Final = f"{', '.join(SERDES)}, windowed(SERDE,SIZE_MS), or module:attribute"

_WINDOWED: Final = re.compile(r"windowed\((.+),\s*(\d+)\)")
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


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
            found = getattr(importlib.import_module(module), attribute)
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


def value_of(text: str, serde: Serde[Any]) -> Any:
    """Reads a key or value typed as text, by the serde it will be written with.

    Raises:
        UsageError: the text is not of the serde's form; names the form.
    """
    name = serde.name
    reader = _READERS.get(name)
    try:
        if reader is not None:
            value = reader(text)
        elif name.startswith("msgpack"):
            packed = msgspec.msgpack.encode(msgspec.json.decode(text))
            value = serde.deserializer("")(packed)
        else:
            value = serde.deserializer("")(text.encode())
        serde.serializer("")(value)  # a number may be out of the serde's range
    except (ValueError, SerdeError, msgspec.MsgspecError) as error:
        message = f"{text!r} is not {_FORMS.get(name, f'what serde {name} takes')}"
        reason = _reason(error)
        raise UsageError(f"{message}: {reason}" if reason else message) from error
    return value


def _reason(error: Exception) -> str:
    """Returns why JSON was refused; other forms say it all by their name."""
    cause = error.__cause__ if isinstance(error, DeserializationError) else error
    return str(cause) if isinstance(cause, msgspec.MsgspecError) else ""


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def bytes_of(text: str) -> bytes:
    """Returns the bytes of a text, or of 0x and hex digits."""
    return bytes.fromhex(text[2:]) if _HEX.fullmatch(text) else text.encode()


def _json(text: str) -> Any:
    return msgspec.json.decode(text)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": str,
    "bytes": bytes_of,
    "int32": int,
    "int64": int,
    "float64": float,
    "bool": _bool,
    "uuid": UUID,
    "json": _json,
    "msgpack": _json,
}
_FORMS: Final[Mapping[str, str]] = {
    "string": "a text without lone surrogates",
    "bytes": "a text, or 0x and hex digits",
    "int32": "an int from -2**31 to 2**31 - 1",
    "int64": "an int from -2**63 to 2**63 - 1",
    "float64": "a number",
    "bool": "true or false",
    "uuid": "a UUID",
    "json": "JSON",
    "msgpack": "JSON",
}


def prefix_of(text: str, serde: Serde[Any]) -> bytes:
    """Returns the bytes with which the keys that are asked for begin.

    Raises:
        UsageError: the text is not of the serde's form.
    """
    if _HEX.fullmatch(text):
        return bytes.fromhex(text[2:])
    if serde.fixed_size_bytes is not None and serde.name != "uuid":
        return serde.serializer("")(value_of(text, serde))
    # Of keys that are text the prefix need not be a whole key.
    return text.encode()


def moment_ms(text: str) -> int:
    """Reads a moment: epoch milliseconds, or ISO 8601, in UTC where it names no zone.

    Raises:
        UsageError: it is neither, or before 1970.
    """
    try:
        if re.fullmatch(r"[+-]?\d+", text):
            moment = int(text)
        else:
            given = datetime.fromisoformat(text)
            moment = int((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)
        if not 0 <= moment <= FOREVER_MS:
            raise ValueError
    except (ValueError, OverflowError) as error:
        message = (
            f"{text!r} is no moment from 1970 on: give epoch milliseconds, or a date and time "
            "such as 2026-01-31T12:00:00 (UTC, if no zone is named)"
        )
        raise UsageError(message) from error
    return moment


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
        window = {"start_ms": value.window.start_ms, "end_ms": value.window.end_ms}
        return {"key": plain(value.key), "window": window}
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
