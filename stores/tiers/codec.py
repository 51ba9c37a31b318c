"""Codecs: how values of a tier become bytes.

Owns the codecs and the mark that tells a row's codec. They must not know tiers or keys.

A row that `json` version 1 wrote is the JSON text and nothing else. Rows of all other codecs
begin with a mark, so that a tier opened with the wrong codec, or with another version of it,
says so instead of reading nonsense::

    0xC1 | length of the name, one byte | name, UTF-8 | version, four bytes, big-endian | payload

0xC1 begins neither UTF-8 text nor msgpack.

Source: storage-tiers T8, T9, G9, T-H8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import msgspec

from thalweg.stores.errors import CodecMismatchError, CorruptDataError, DecodeError, EncodeError

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_TypeOf: TypeAlias = type[T]  # where an argument is called `type`

_MARK: Final = b"\xc1"
_PLAIN: Final = ("json", 1)


class Codec(Protocol[T]):
    """Turns values into bytes and back. Any thread may use it.

    What it writes is never empty: an empty row is an absent one.
    """

    @property
    def name(self) -> str:
        """The name of the format."""

    @property
    def version(self) -> int:
        """The version of the format, at least 0; another one does not read these bytes."""

    def encode(self, value: T) -> bytes:
        """Writes a value."""

    def decode(self, data: bytes) -> T:
        """Reads a value. May raise anything where it cannot."""


@runtime_checkable
class ListCodec(Protocol[T]):
    """A codec with a way of its own to write lists; others are given the list as a value."""

    def encode_all(self, values: list[T]) -> bytes:
        """Writes a list of values."""

    def decode_all(self, data: bytes) -> list[T]:
        """Reads a list of values."""


@runtime_checkable
class ChecksValues(Protocol[T_contra]):
    """A codec that can refuse a value before it is written."""

    def check(self, value: T_contra) -> None:
        """Raises `EncodeError` for a value that could not be written."""


class JsonCodec(Generic[T]):
    """JSON in one form only: keys sorted, no spaces, UTF-8; equal values are equal bytes.

    Args:
        type: the values' type, anything msgspec knows; None for whatever JSON can hold.
        version: the version of the values' form, for you to raise when it changes.
    """

    name: Final = "json"

    def __init__(self, type: type[T] | None = None, *, version: int = 1) -> None:
        self.version: Final = version
        self._type = type
        self._encoder = msgspec.json.Encoder(order="sorted")
        wanted = cast("_TypeOf[T]", Any if type is None else type)
        self._decoder = msgspec.json.Decoder(wanted)
        self._list_decoder = msgspec.json.Decoder(list[wanted])  # type: ignore[valid-type]

    def encode(self, value: T) -> bytes:
        """Writes a value.

        Raises:
            EncodeError: it is of another type, or JSON has no form for it, as for NaN.
        """
        _check_type(value, self._type)
        return self._encoded(value)

    def decode(self, data: bytes) -> T:
        """Reads a value."""
        return self._decoder.decode(data)

    def encode_all(self, values: list[T]) -> bytes:
        """Writes a list of values."""
        for value in values:
            _check_type(value, self._type)
        return self._encoded(values)

    def decode_all(self, data: bytes) -> list[T]:
        """Reads a list of values."""
        return self._list_decoder.decode(data)

    def _encoded(self, value: object) -> bytes:
        try:
            try:
                data = self._encoder.encode(value)
            except TypeError:
                # It sorts keys that are text; numbers, which JSON writes as text, have to be so.
                value = msgspec.to_builtins(value, str_keys=True)
                data = self._encoder.encode(value)
            # msgspec writes NaN and infinity as null.
            if b"null" in data and _has_no_number(msgspec.to_builtins(value, str_keys=True)):
                raise EncodeError("JSON has no NaN and no infinity; use None or a string")
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise EncodeError(f"JSON has no form for this value: {error}") from error
        return data


class MsgpackCodec(Generic[T]):
    """msgpack: smaller and quicker than JSON, and it has bytes.

    Args:
        type: the values' type, anything msgspec knows; None for whatever msgpack can hold.
        version: the version of the values' form, for you to raise when it changes.
    """

    name: Final = "msgpack"

    def __init__(self, type: type[T] | None = None, *, version: int = 1) -> None:
        self.version: Final = version
        self._type = type
        self._encoder = msgspec.msgpack.Encoder()
        wanted = cast("_TypeOf[T]", Any if type is None else type)
        self._decoder = msgspec.msgpack.Decoder(wanted)
        self._list_decoder = msgspec.msgpack.Decoder(list[wanted])  # type: ignore[valid-type]

    def encode(self, value: T) -> bytes:
        """Writes a value.

        Raises:
            EncodeError: it is of another type, or msgpack has no form for it.
        """
        _check_type(value, self._type)
        return self._encoded(value)

    def decode(self, data: bytes) -> T:
        """Reads a value."""
        return self._decoder.decode(data)

    def encode_all(self, values: list[T]) -> bytes:
        """Writes a list of values."""
        for value in values:
            _check_type(value, self._type)
        return self._encoded(values)

    def decode_all(self, data: bytes) -> list[T]:
        """Reads a list of values."""
        return self._list_decoder.decode(data)

    def _encoded(self, value: object) -> bytes:
        try:
            return self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise EncodeError(f"msgpack has no form for this value: {error}") from error


class BytesCodec:
    """Bytes as they are; a list of them is a msgpack array."""

    name: Final = "bytes"
    version: Final = 1
    _decoder: Final = msgspec.msgpack.Decoder(list[bytes])

    def check(self, value: bytes) -> None:
        """Refuses what is not bytes, and empty ones, which a reader would take for absent.

        Raises:
            EncodeError: the value is refused.
        """
        if not isinstance(value, bytes):
            raise EncodeError(f"the codec bytes/1 writes bytes, not {type(value).__name__}")
        if not value:
            raise EncodeError("an empty value cannot be told from an absent one; delete the key")

    def encode(self, value: bytes) -> bytes:
        """Returns the value.

        Raises:
            EncodeError: it is not bytes, or empty.
        """
        self.check(value)
        return value

    def decode(self, data: bytes) -> bytes:
        """Returns the value."""
        return data

    def encode_all(self, values: list[bytes]) -> bytes:
        """Writes a list of bytes, empty ones among them."""
        for value in values:
            if not isinstance(value, bytes):
                raise EncodeError(f"the codec bytes/1 writes bytes, not {type(value).__name__}")
        return msgspec.msgpack.encode(values)

    def decode_all(self, data: bytes) -> list[bytes]:
        """Reads a list of bytes."""
        return self._decoder.decode(data)


class Sealed(Generic[T]):
    """A codec as tiers use it: rows with their mark, errors that name the place.

    Args:
        codec: the codec.
        owner: the tier's name, for messages.
    """

    def __init__(self, codec: Codec[T], owner: str) -> None:
        self._codec = codec
        self._owner = owner
        self._lists = codec if isinstance(codec, ListCodec) else None
        self._checks = codec.check if isinstance(codec, ChecksValues) else None
        name = codec.name.encode()
        if not 0 < len(name) < 256 or not 0 <= codec.version < 1 << 32:
            message = (
                f"tier '{owner}': a codec needs a name of 1 to 255 bytes and a version from 0 "
                f"below 2**32, not {codec.name!r} and {codec.version!r}"
            )
            raise ValueError(message)
        self._is_plain = (codec.name, codec.version) == _PLAIN
        self._mark = _MARK + bytes((len(name),)) + name + codec.version.to_bytes(4, "big")

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self._codec.name}/{self._codec.version}"

    def check(self, value: T) -> None:
        """Lets the codec refuse a value that is about to be saved."""
        if self._checks is not None:
            try:
                self._checks(value)
            except EncodeError as error:
                raise EncodeError(f"tier '{self._owner}': {error.message}") from error

    def encode(self, value: T, key: str) -> bytes:
        """Writes a row."""
        try:
            data = self._codec.encode(value)
        except Exception as error:  # whatever a user's codec raises
            raise self._not_written(key, error) from error
        return self._sealed(data, key)

    def encode_all(self, values: list[T], key: str) -> bytes:
        """Writes a row of many values."""
        try:
            if self._lists is not None:
                data = self._lists.encode_all(values)
            else:
                data = self._codec.encode(cast("T", values))
        except Exception as error:
            raise self._not_written(key, error) from error
        return self._sealed(data, key)

    def decode(self, stored: bytes, key: str) -> T:
        """Reads a row."""
        payload = self.payload(stored, key)
        try:
            return self._codec.decode(payload)
        except Exception as error:
            raise self._not_read(key, error) from error

    def decode_all(self, stored: bytes, key: str) -> list[T]:
        """Reads a row of many values."""
        payload = self.payload(stored, key)
        try:
            if self._lists is not None:
                return cast("list[T]", self._lists.decode_all(payload))
            values = self._codec.decode(payload)
            if not isinstance(values, Iterable):
                raise TypeError(f"a list was expected, not {type(values).__name__}")
            return list(values)
        except Exception as error:
            raise self._not_read(key, error) from error

    def payload(self, stored: bytes, key: str) -> bytes:
        """Returns what the codec wrote, without the mark.

        Raises:
            CodecMismatchError: another codec or another version wrote it.
            CorruptDataError: the mark is damaged.
        """
        if stored.startswith(self._mark):
            return stored[len(self._mark) :]
        if stored[:1] != _MARK:
            if self._is_plain:
                return stored
            found = "{}/{}".format(*_PLAIN)
        else:
            end = 2 + int.from_bytes(stored[1:2], "big")
            try:
                found = f"{stored[2:end].decode()}/{int.from_bytes(stored[end : end + 4], 'big')}"
            except UnicodeDecodeError:
                found = ""
            if end == 2 or len(stored) < end + 4 or not found:
                message = (
                    f"tier '{self._owner}': the row of key {key!r} is damaged: the mark of its "
                    f"codec cannot be read; delete the row or put a backup in its place"
                )
                raise CorruptDataError(message)
        message = (
            f"tier '{self._owner}': the row of key {key!r} was written with the codec {found}, and "
            f"the tier reads {self.label}; open it with the codec it was written with"
        )
        raise CodecMismatchError(message, expected=self.label, found=found)

    def _sealed(self, data: bytes, key: str) -> bytes:
        if not data:
            message = (
                f"tier '{self._owner}': the codec {self.label} wrote nothing for key {key!r}; a "
                f"codec must write at least one byte, or the row could not be told from none"
            )
            raise EncodeError(message)
        return data if self._is_plain and data[:1] != _MARK else self._mark + data

    def _not_written(self, key: str, error: Exception) -> EncodeError:
        text = error.message if isinstance(error, EncodeError) else str(error)
        return EncodeError(
            f"tier '{self._owner}': a value of key {key!r} cannot be written with the codec "
            f"{self.label}: {text}"
        )

    def _not_read(self, key: str, error: Exception) -> DecodeError:
        return DecodeError(
            f"tier '{self._owner}': the row of key {key!r} cannot be read with the codec "
            f"{self.label}: {error}; it was written as another type, or it is damaged"
        )


def _check_type(value: object, wanted: object) -> None:
    """Refuses what could be written but never be read again."""
    if isinstance(wanted, type) and not isinstance(value, wanted):
        if wanted is float and type(value) is int:
            return
        raise EncodeError(f"{wanted.__name__} was expected, not {type(value).__name__}")


def _has_no_number(value: object) -> bool:
    """Tells whether there is a float in a value that is not a number, or infinite."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_no_number, value.values())) or any(map(_has_no_number, value))
    return isinstance(value, list | tuple) and any(map(_has_no_number, value))
