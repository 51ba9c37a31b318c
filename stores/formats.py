"""Every byte layout that reaches a disk or a topic and equals the JVM's.

Owns the layouts and nothing else: it must not know serdes, stores or topics. All integers
are big endian and signed; `‖` means "followed by"::

    value with timestamp (rows)     timestamp(8) ‖ value
    window key (rows, changelogs)   key ‖ start(8) ‖ seqnum(4)
    windowed key (topics)           key ‖ start(8)
    session key (everywhere)        key ‖ end(8) ‖ start(8)
    change (repartition topics)     old ‖ 00
                                    new ‖ 01
                                    zigzag-varint(length of new) ‖ new ‖ old ‖ 02
      read only                     … ‖ is_latest(1) ‖ 03, 04, 05 for the same three
    unmatched record (joins), key   timestamp(8) ‖ side(1: 1 is the left one) ‖ key
      its values, a list            01 ‖ count(4) ‖ {length(4) ‖ side(1) ‖ value}, count times
    offset metadata (commits)       base64 of 02 ‖ partition time(8) ‖ processors' own
      processors' own, if any       count(4) ‖ {length(4) ‖ name ‖ number(8)}, count times
      read only                     base64 of 01 ‖ partition time(8)

In a changelog a timestamped value stands alone; its timestamp is the record's.

Source: JVM `ValueAndTimestampSerializer`, `WindowKeySchema`, `SessionKeySchema`, `TimeWindowedSerializer`,
`ChangedSerializer` (KIP-904), `TimestampedKeyAndJoinSideSerializer`, `LeftOrRightValueSerializer`,
`ListSerializer`, `TopicPartitionMetadata` (KIP-695), `ProcessorMetadata`; kafka-streams A14.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from struct import Struct
from types import MappingProxyType
from typing import Final

from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.hash_order import names_order

TIMESTAMP_BYTES: Final = 8
WINDOW_SUFFIX_BYTES: Final = 12
SESSION_SUFFIX_BYTES: Final = 16
UNKNOWN_TIME_MS: Final = -1
"""The partition time of a partition nothing was processed of."""

_int64: Final = Struct(">q")
_start_and_seqnum: Final = Struct(">qi")
_end_and_start: Final = Struct(">qq")
_metadata: Final = Struct(">bq")
_int32: Final = Struct(">i")
_time_and_side: Final = Struct(">q?")
_LIST_HEAD_BYTES: Final = 5
_METADATA_VERSION: Final = 2
_OLD, _NEW, _BOTH = 0, 1, 2
_WITH_IS_LATEST: Final = 3
_MAX_VARINT_BYTES: Final = 5

pack_int64: Final = _int64.pack
"""Packs a timestamp; what `encode_value_and_timestamp` puts in front."""
pack_int32: Final = _int32.pack
pack_window_suffix: Final = _start_and_seqnum.pack
"""Packs (start in ms, seqnum) of a window; what `encode_window_key` puts behind the key."""


def encode_value_and_timestamp(value: bytes, timestamp: int) -> bytes:
    """Lays out a row of a timestamped store: `timestamp(8) ‖ value`."""
    return pack_int64(timestamp) + value


def decode_value_and_timestamp(data: bytes) -> tuple[bytes, int]:
    """Reads a row of a timestamped store.

    Returns:
        The value and its timestamp in epoch milliseconds.

    Raises:
        DeserializationError: it is shorter than a timestamp.
    """
    if len(data) < TIMESTAMP_BYTES:
        raise _short("a value with its timestamp", data, TIMESTAMP_BYTES)
    return data[TIMESTAMP_BYTES:], _int64.unpack_from(data)[0]


def encode_window_key(key: bytes, start_ms: int, seqnum: int = 0) -> bytes:
    """Lays out the key of a window row, in store and changelog: `key ‖ start(8) ‖ seqnum(4)`.

    Args:
        key: the serialised key.
        start_ms: start of the window.
        seqnum: tells duplicates apart in stores that keep them, else 0.
    """
    return key + _start_and_seqnum.pack(start_ms, seqnum)


def decode_window_key(data: bytes) -> tuple[bytes, int, int]:
    """Reads the key of a window row.

    Returns:
        The serialised key, the window's start and the seqnum.

    Raises:
        DeserializationError: it is shorter than start and seqnum.
    """
    if len(data) < WINDOW_SUFFIX_BYTES:
        raise _short("a window key", data, WINDOW_SUFFIX_BYTES)
    start_ms, seqnum = _start_and_seqnum.unpack_from(data, len(data) - WINDOW_SUFFIX_BYTES)
    return data[:-WINDOW_SUFFIX_BYTES], start_ms, seqnum


def encode_windowed_key(key: bytes, start_ms: int) -> bytes:
    """Lays out the windowed key of a record: `key ‖ start(8)`."""
    return key + pack_int64(start_ms)


def decode_windowed_key(data: bytes) -> tuple[bytes, int]:
    """Reads the windowed key of a record.

    Returns:
        The serialised key and the window's start.

    Raises:
        DeserializationError: it is shorter than a start.
    """
    if len(data) < TIMESTAMP_BYTES:
        raise _short("a windowed key", data, TIMESTAMP_BYTES)
    return data[:-TIMESTAMP_BYTES], _int64.unpack_from(data, len(data) - TIMESTAMP_BYTES)[0]


def encode_session_key(key: bytes, start_ms: int, end_ms: int) -> bytes:
    """Lays out the key of a session, in store, changelog and topic: `key ‖ end(8) ‖ start(8)`."""
    return key + _end_and_start.pack(end_ms, start_ms)


def decode_session_key(data: bytes) -> tuple[bytes, int, int]:
    """Reads the key of a session.

    Returns:
        The serialised key, the session's end and its start.

    Raises:
        DeserializationError: it is shorter than end and start.
    """
    if len(data) < SESSION_SUFFIX_BYTES:
        raise _short("a session key", data, SESSION_SUFFIX_BYTES)
    end_ms, start_ms = _end_and_start.unpack_from(data, len(data) - SESSION_SUFFIX_BYTES)
    return data[:-SESSION_SUFFIX_BYTES], end_ms, start_ms


def encode_change(new: bytes | None, old: bytes | None) -> bytes:
    """Lays out a change of a grouped table's row, as the module says.

    Readers up to version 3.4 know no change with both values; for them a change is sent as
    two, which is the affair of who sends.

    Raises:
        SerializationError: there is neither an old nor a new value.
    """
    if new is None:
        if old is None:
            message = "a change needs an old or a new value, this one has neither"
            raise SerializationError(message)
        return old + b"\x00"
    if old is None:
        return new + b"\x01"
    return b"".join((_encode_varint(len(new)), new, old, b"\x02"))


def decode_change(data: bytes) -> tuple[bytes | None, bytes | None]:
    """Reads a change.

    Whether a change is its key's latest (flags 3 to 5, of versioned tables) is not told.

    Returns:
        The new value and the old value; None where the change has none.

    Raises:
        DeserializationError: it is no change.
    """
    if not data:
        raise _short("a change", data, 1)
    kind, end = data[-1], len(data) - 1
    if kind >= _WITH_IS_LATEST:
        kind -= _WITH_IS_LATEST
        end -= 1
        if end < 0:
            raise _short("a change", data, 2)
        if data[end] > 1:
            message = f"the is-latest flag of a change must be 0 or 1, got {data[end]}"
            raise DeserializationError(message)
    if kind == _BOTH:
        length, start = _decode_varint(data, end)
        if not 0 <= length <= end - start:
            message = f"a change of {len(data)} bytes says that its new value has {length}"
            raise DeserializationError(message)
        return data[start : start + length], data[start + length : end]
    if kind == _NEW:
        return data[:end], None
    if kind == _OLD:
        return None, data[:end]
    message = f"a change ends with its kind, 0 to 5, got {data[-1]}; was it written by serde?"
    raise DeserializationError(message)


def encode_sided_key(timestamp: int, is_left: bool, key: bytes) -> bytes:
    """Lays out the key of records that a join has not matched: `timestamp(8) ‖ side(1) ‖ key`."""
    return _time_and_side.pack(timestamp, is_left) + key


def decode_sided_key(data: bytes) -> tuple[int, bool, bytes]:
    """Reads the key of records that a join has not matched.

    Returns:
        Their timestamp, whether they are of the left side, and the serialised key.

    Raises:
        DeserializationError: it is shorter than timestamp and side.
    """
    if len(data) < _time_and_side.size:
        raise _short("the key of an unmatched record", data, _time_and_side.size)
    timestamp, side = _time_and_side.unpack_from(data)
    return timestamp, side == 1, data[_time_and_side.size :]


def appended(values: bytes | None, value: bytes) -> bytes:
    """Lays out a list of values with one more at its end.

    Args:
        values: the list as it was laid out before; None for an empty one.
        value: the serialised value.
    """
    if values is None:
        return b"".join((b"\x01", pack_int32(1), pack_int32(len(value)), value))
    count: int = _int32.unpack_from(values, 1)[0] + 1
    return b"".join((b"\x01", pack_int32(count), values[5:], pack_int32(len(value)), value))


def encode_values(values: Sequence[bytes]) -> bytes:
    """Lays out a list of values of any size: `01 ‖ count(4) ‖ {length(4) ‖ value}`."""
    parts = [b"\x01", pack_int32(len(values))]
    for value in values:
        parts += (pack_int32(len(value)), value)
    return b"".join(parts)


def decode_values(data: bytes) -> list[bytes]:
    """Reads a list of values.

    Raises:
        DeserializationError: it is no such list.
    """
    if len(data) < _LIST_HEAD_BYTES or data[0] != 1:
        message = f"a list of values begins with 01 and a count, got {data[:8].hex(' ')}"
        raise DeserializationError(message)
    at, found = _LIST_HEAD_BYTES, []
    try:
        for _ in range(_int32.unpack_from(data, 1)[0]):
            start = at + _int32.size
            at = start + _int32.unpack_from(data, at)[0]
            found.append(data[start:at])
    except struct.error:
        at = -1
    if at != len(data):
        message = f"a list of values of {len(data)} bytes does not end with its last value"
        raise DeserializationError(message)
    return found


def encode_partition_metadata(
    partition_time_ms: int, processors: Mapping[str, int] = MappingProxyType({})
) -> str:
    """Lays out the metadata committed beside an offset.

    Args:
        partition_time_ms: highest timestamp processed of the partition, -1 if none.
        processors: numbers that processors keep, by name.
    """
    parts = [_metadata.pack(_METADATA_VERSION, partition_time_ms)]
    if processors:
        parts.append(_int32.pack(len(processors)))
        for name in names_order(sorted(processors)):
            raw_name = name.encode()
            parts += (_int32.pack(len(raw_name)), raw_name, _int64.pack(processors[name]))
    return b64encode(b"".join(parts)).decode()


def decode_partition_metadata(text: str) -> int:
    """Reads the partition time out of the metadata committed beside an offset.

    What this library and the JVM's did not write is not refused: an operator's tool may have
    moved the offset and left a note of its own.

    Returns:
        Highest timestamp processed of the partition, -1 where it is not known.
    """
    data = _decode_metadata(text)
    if len(data) < _metadata.size or data[0] not in (1, _METADATA_VERSION):
        return UNKNOWN_TIME_MS
    partition_time_ms: int = _metadata.unpack_from(data)[1]
    return partition_time_ms


def decode_processor_metadata(text: str) -> dict[str, int]:
    """Reads what processors keep out of the metadata committed beside an offset.

    Returns:
        Number by name; empty where there is none, or where it cannot be understood.
    """
    data, start = _decode_metadata(text), _metadata.size
    if len(data) <= start or data[0] != _METADATA_VERSION:
        return {}
    try:
        (count,), start = _int32.unpack_from(data, start), start + _int32.size
        found: dict[str, int] = {}
        for _ in range(count):
            (length,), start = _int32.unpack_from(data, start), start + _int32.size
            if length < 0:
                return {}
            name, start = data[start : start + length].decode(), start + length
            (found[name],), start = _int64.unpack_from(data, start), start + _int64.size
    except (struct.error, UnicodeDecodeError):
        return {}
    return found


def _decode_metadata(text: str) -> bytes:
    """Returns the bytes of metadata, none where it is no base64."""
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return b""


def _encode_varint(value: int) -> bytes:
    """Writes 0 to 2**31 - 1 as Kafka's zigzag varint: 7 bits a byte, lowest first."""
    rest = value << 1
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def _decode_varint(data: bytes, end: int) -> tuple[int, int]:
    """Returns the number at the start of `data[:end]` and where it ends."""
    number = 0
    for at in range(min(end, _MAX_VARINT_BYTES)):
        number |= (data[at] & 0x7F) << (7 * at)
        if data[at] < 0x80:
            return (number >> 1) ^ -(number & 1), at + 1
    message = f"a change of {len(data)} bytes ends within the length of its new value"
    raise DeserializationError(message)


def _short(what: str, data: bytes, least: int) -> DeserializationError:
    return DeserializationError(
        f"{what} has at least {least} bytes, got {len(data)}; it was written in another layout"
    )
