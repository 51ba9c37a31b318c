"""The bytes of a buffered change, in every version that a changelog may contain.

Owns these layouts and nothing else: it must not know serdes, stores or topics. All integers are
big endian and signed; `‖` means "followed by". A length of -1 stands for no value::

    sized value     length(4) ‖ value
    context         timestamp(8) ‖ offset(8) ‖ sized topic ‖ partition(4) ‖
                    count(4) ‖ {sized name ‖ sized value}, once for each header
    change          context ‖ sized prior ‖ sized old ‖ sized new
      where old equals prior, its length is -2 and its bytes are left out
    changelog       3   change ‖ time(8)
      read only     2   context ‖ sized pair ‖ sized prior ‖ time(8)
                    1   time(8) ‖ context ‖ sized pair
                    0   time(8) ‖ pair
    pair            sized old ‖ sized new

The version stands in the record's header `v`; version 0 has none, and no context: it is that of
the changelog's own record. Some versions of the JVM wrote 3 and said 2.

Source: JVM `BufferValue`, `ProcessorRecordContext`, `ContextualRecord`, `FullChangeSerde`,
`TimeOrderedKeyValueBufferChangelogDeserializationHelper`; kafka-streams A14.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - the module names it so
from typing import Final, NamedTuple

from thalweg.stores.errors import DeserializationError
from thalweg.stores.record import HeaderList

VERSION_HEADER: Final = "v"
VERSION: Final = b"\x03"

_int64: Final = Struct(">q")
_int32: Final = Struct(">i")
_times: Final = Struct(">qq")
_NO_VALUE: Final = -1
_SAME_AS_PRIOR: Final = -2
_ABSENT: Final = _int32.pack(_NO_VALUE)
_SAME: Final = _int32.pack(_SAME_AS_PRIOR)


class ChangeContext(NamedTuple):
    """Where the record came from that made a change.

    Attributes:
        timestamp: event time of the change, epoch milliseconds.
        offset: the record's offset, -1 where there was no record.
        topic: its topic, None where there was no record.
        partition: its partition, -1 where there was no record.
        headers: its headers.
    """

    timestamp: int
    offset: int
    topic: str | None
    partition: int
    headers: HeaderList

    @property
    def size_bytes(self) -> int:
        """How much memory the JVM counts for it."""
        size = 20 + (0 if self.topic is None else _units(self.topic))
        for name, value in self.headers:
            size += _units(name) + (0 if value is None else len(value))
        return size


class BufferedChange(NamedTuple):
    """A change as a changelog holds it.

    Attributes:
        time: its place in the buffer.
        context: where it came from.
        prior: the value before the first change of its key that the buffer holds.
        old: the value before this change.
        new: the value.
    """

    time: int
    context: ChangeContext
    prior: bytes | None
    old: bytes | None
    new: bytes | None


def encode_buffered(
    context: ChangeContext, prior: bytes | None, old: bytes | None, new: bytes | None
) -> bytes:
    """Lays out a change without its time."""
    parts = [_times.pack(context.timestamp, context.offset)]
    # The JVM cannot write a change without a topic, as one made in a punctuation.
    _add(parts, (context.topic or "").encode())
    parts += (_int32.pack(context.partition), _int32.pack(len(context.headers)))
    for name, value in context.headers:
        _add(parts, name.encode())
        _add(parts, value)
    _add(parts, prior)
    if old is not None and old == prior:
        parts.append(_SAME)
    else:
        _add(parts, old)
    _add(parts, new)
    return b"".join(parts)


def encode_logged(change: bytes, time: int) -> bytes:
    """Lays out the value of a changelog record, of version 3."""
    return change + _int64.pack(time)


def decode_logged(
    version: bytes | None, data: bytes, own: ChangeContext, prior: bytes | None
) -> BufferedChange:
    """Reads the value of a changelog record.

    Args:
        version: the value of its header `v`, None where it has none.
        data: the value.
        own: the context of the changelog record itself, for version 0.
        prior: the prior value that the buffer holds for the key, for versions 0 and 1.

    Raises:
        DeserializationError: it is none.
    """
    try:
        if version == VERSION:
            return _read_3(data)
        if version == b"\x02":
            try:
                return _read_2(data)
            except (StructError, _OverrunError):
                return _read_3(data)
        if version == b"\x01":
            return _read_1(data, prior)
        if version is None:
            return _read_0(data, own, prior)
    except (StructError, _OverrunError) as error:
        message = (
            f"{len(data)} bytes of version {version[0] if version else 0} are no buffered change"
        )
        raise DeserializationError(message) from error
    message = f"a buffered change is of version 0 to 3, not {version.hex()!r}"
    raise DeserializationError(message)


class _OverrunError(Exception):
    """A value says that it is longer than what is left."""


class _Reader:
    """Reads bytes from their beginning on."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int64(self) -> int:
        """Reads eight bytes."""
        value: int = _int64.unpack_from(self._data, self._at)[0]
        self._at += 8
        return value

    def int32(self) -> int:
        """Reads four bytes."""
        value: int = _int32.unpack_from(self._data, self._at)[0]
        self._at += 4
        return value

    def sized(self) -> bytes | None:
        """Reads a sized value."""
        return self.of_length(self.int32())

    def present(self) -> bytes:
        """Reads a sized value that has to be there."""
        value = self.sized()
        if value is None:
            raise _OverrunError
        return value

    def of_length(self, length: int) -> bytes | None:
        """Reads a value whose length was read."""
        if length == _NO_VALUE:
            return None
        value = self._data[self._at : self._at + length]
        if length < 0 or len(value) < length:
            raise _OverrunError
        self._at += length
        return value

    def context(self) -> ChangeContext:
        """Reads a context."""
        timestamp, offset = self.int64(), self.int64()
        topic = _text(self.present())
        partition, count = self.int32(), self.int32()
        if count < _NO_VALUE:
            raise _OverrunError
        headers = [(_text(self.present()), self.sized()) for _ in range(count)]
        return ChangeContext(timestamp, offset, topic or None, partition, headers)

    def rest(self) -> bytes:
        """Returns what is left."""
        return self._data[self._at :]


def _read_3(data: bytes) -> BufferedChange:
    reader = _Reader(data)
    context, prior = reader.context(), reader.sized()
    length = reader.int32()
    old = prior if length == _SAME_AS_PRIOR else reader.of_length(length)
    new = reader.sized()
    return BufferedChange(reader.int64(), context, prior, old, new)


def _read_2(data: bytes) -> BufferedChange:
    reader = _Reader(data)
    context = reader.context()
    old, new = _pair(reader.present())
    prior = reader.sized()
    return BufferedChange(reader.int64(), context, prior, old, new)


def _read_1(data: bytes, prior: bytes | None) -> BufferedChange:
    reader = _Reader(data)
    time, context = reader.int64(), reader.context()
    old, new = _pair(reader.present())
    return BufferedChange(time, context, old if prior is None else prior, old, new)


def _read_0(data: bytes, own: ChangeContext, prior: bytes | None) -> BufferedChange:
    reader = _Reader(data)
    time = reader.int64()
    old, new = _pair(reader.rest())
    return BufferedChange(time, own, old if prior is None else prior, old, new)


def _pair(data: bytes) -> tuple[bytes | None, bytes | None]:
    reader = _Reader(data)
    return reader.sized(), reader.sized()


def _add(parts: list[bytes], value: bytes | None) -> None:
    if value is None:
        parts.append(_ABSENT)
    else:
        parts += (_int32.pack(len(value)), value)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _units(text: str) -> int:
    """Returns the number of UTF-16 units of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
