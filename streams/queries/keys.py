"""Keys, prefixes and times as text, from a URL or a command line.

Owns how each is written, the same everywhere. It must not know stores, nor who asks.

    string    as it is                  uuid              550e8400-e29b-41d4-a716-446655440000
    int32     -5                        json, msgpack     JSON text
    int64     -5                        bytes             text; or 0x and hex digits; or
    float64   1.5                                         base64: and base64
    bool      true                      of one type       JSON text
                                        of your own       what its deserializer takes, as UTF-8
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from thalweg.stores.errors import DeserializationError, SerdeError
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import FOREVER_MS

BASE64: Final = "base64:"
"""Comes before bytes that are written in base64."""

_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)


def parse_key(serde: Serde[Any], text: str) -> Any:
    """Reads a key written as text.

    Args:
        serde: of the store's keys; what is read is a key it can write.
        text: see the module for its form.

    Raises:
        ValueError: the text is not of the serde's form; names the form.
    """
    read, form = _reader(serde)
    try:
        key = read(text)
        serde.serializer("")(key)  # a number may be out of the serde's range
    except (ValueError, SerdeError, msgspec.MsgspecError) as error:
        reason = _reason(error)
        message = f"{text!r} is not {form}"
        raise ValueError(f"{message}: {reason}" if reason else message) from error
    return key


def parse_prefix(serde: Serde[Any], text: str) -> bytes:
    """Reads the bytes with which the keys that are asked for begin.

    Of keys that are text it is any text, need not be a whole key; of numbers a whole key. For
    any serde it may be 0x and hex digits, or base64: and base64.

    Raises:
        ValueError: the text is not of the serde's form; names the form.
    """
    if _HEX.fullmatch(text) or text.startswith(BASE64):
        return _bytes(text)
    if serde.fixed_size_bytes is not None and serde is not serdes.uuid:
        encoded: bytes = serde.serializer("")(parse_key(serde, text))
        return encoded
    return text.encode()


def parse_moment_ms(text: str) -> int:
    """Reads a moment: epoch milliseconds, or ISO 8601, in UTC where it names no zone.

    Raises:
        ValueError: it is neither, or before 1970.
    """
    try:
        if _WHOLE.fullmatch(text):
            moment = int(text)
        else:
            given = datetime.fromisoformat(text)
            given = given if given.tzinfo else given.replace(tzinfo=UTC)
            moment = (given - _EPOCH) // _MILLISECOND
        if not 0 <= moment <= FOREVER_MS:
            raise ValueError(moment)
    except (ValueError, OverflowError) as error:
        message = (
            f"{text!r} is no moment from 1970 on: give epoch milliseconds, or a date and time "
            "such as 2026-01-31T12:00:00 (UTC, if no zone is named)"
        )
        raise ValueError(message) from error
    return moment


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = datetime(1970, 1, 1, microsecond=1000, tzinfo=UTC) - _EPOCH


def _reader(serde: Serde[Any]) -> tuple[Callable[[str], Any], str]:
    """Returns the function that reads keys of a serde, and what it takes, for people."""
    for known, read, form in _FORMS:
        if serde is known:
            return read, form
    decode = serde.deserializer("")
    if serde.name.startswith("msgpack"):
        pack = msgspec.msgpack.encode
        return lambda text: decode(pack(_json(text))), f"what serde {serde.name} takes, as JSON"
    return lambda text: decode(text.encode()), f"what serde {serde.name} takes"


def _reason(error: Exception) -> str:
    """Returns why JSON was refused; of other forms the name says it all."""
    cause = error.__cause__ if isinstance(error, DeserializationError) else error
    return str(cause) if isinstance(cause, msgspec.MsgspecError) else ""


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _bytes(text: str) -> bytes:
    if text.startswith(BASE64):
        return base64.b64decode(text.removeprefix(BASE64), validate=True)
    return bytes.fromhex(text[2:]) if _HEX.fullmatch(text) else text.encode()


def _json(text: str) -> Any:
    return msgspec.json.decode(text)


_FORMS: Final[tuple[tuple[Serde[Any], Callable[[str], Any], str], ...]] = (
    (serdes.string, str, "a text without lone surrogates"),
    (serdes.bytes, _bytes, "bytes: a text, 0x and hex digits, or base64: and base64"),
    (serdes.int32, _whole, "an int from -2**31 to 2**31 - 1"),
    (serdes.int64, _whole, "an int from -2**63 to 2**63 - 1"),
    (serdes.float64, float, "a number"),
    (serdes.bool, _bool, "true or false"),
    (serdes.uuid, UUID, "a UUID"),
    (serdes.json, _json, "JSON"),
    (serdes.msgpack, _json, "JSON"),
)
