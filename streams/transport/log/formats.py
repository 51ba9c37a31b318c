"""The byte formats of the embedded log.

Owns the rows' keys and values and the limits of a chunk. It must not know who writes rows or
when. Numbers in keys and rows are big-endian. All rows stand in one byte store:

    "f"                                      format number, decimal text
    "n"                                      id of the next topic, u32
    "t" topic u32                            msgpack (name, partition count, configs)
    "p" topic u32, partition u32             begin u64, end u64, cleaned end u64,
                                             cleaned count u64, newest timestamp i64
    "c" topic u32, partition u32, base u64   a chunk: consecutive records of one partition
    "o" length u8, group, topic u32, partition u32
                                             msgpack (offset, metadata)
    "d" topic u32                            empty: deleted, its chunks may still stand

A chunk's key has an offset not above that of its first record, and above all of the chunk
before it. Its value is

    last offset u64 | newest timestamp i64 | tombstone horizon i64 | record count u32 | records

with the records as a msgpack array of raw records, (timestamp, key, value, origin): they are
read back as the tuples they were sent as, without a step in Python per record. Offsets rise;
they have gaps where records were compacted away or never written.

The end of a partition is kept in its own row because records may lie before it that were
never written. A topic's id is never given to another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from thalweg.stores.record import HeaderList, RawRecord, offset_of
from thalweg.streams.errors import CorruptDataError, ProductionError
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition

FORMAT: Final = b"1"

FORMAT_KEY: Final = b"f"
NEXT_TOPIC_KEY: Final = b"n"
TOPIC: Final = b"t"
PARTITION: Final = b"p"
CHUNK: Final = b"c"
OFFSET: Final = b"o"
DELETED: Final = b"d"

CHUNK_RECORDS: Final = 1000
"""Most records of a chunk: what a poll asks for by default, so that a chunk is handed over
whole."""

CHUNK_BYTES: Final = 1 << 20
"""A chunk of several records is not larger: bounds what a reader has in its hands."""

TIMESTAMP_MAX: Final = (1 << 63) - 1

END_KEY: Final = b"\xff"
"""Above every key."""

NO_HORIZON: Final = -1
"""A chunk that was never cleaned says nothing about its tombstones."""

_U32 = struct.Struct(">I")
_PARTITION_KEY = struct.Struct(">cII")
_OFFSET_TAIL = struct.Struct(">II")
_BASE = struct.Struct(">Q")
_PARTITION_ROW = struct.Struct(">QQQQq")
_HEAD = struct.Struct(">QqqI")

_timestamp = itemgetter(0)
_encode = msgspec.msgpack.Encoder().encode
_RECORDS = msgspec.msgpack.Decoder(
    list[
        tuple[
            int,
            bytes | None,
            bytes | None,
            int | tuple[int, list[tuple[str, bytes | None]]],
        ]
    ]
)
_TOPIC_ROW = msgspec.msgpack.Decoder(tuple[str, int, dict[str, str]])
_OFFSET_ROW = msgspec.msgpack.Decoder(tuple[int, str])


class PartitionRow(NamedTuple):
    """What is kept of a partition besides its records.

    Attributes:
        begin: the first offset it still has.
        end: the offset behind its last record.
        cleaned_end: up to where it was compacted.
        cleaned_count: how many records compaction left before that.
        newest_ms: the highest timestamp it ever had, -1 without records.
    """

    begin: int = 0
    end: int = 0
    cleaned_end: int = 0
    cleaned_count: int = 0
    newest_ms: int = -1


class ChunkHead(NamedTuple):
    """What is known of a chunk without its records.

    Attributes:
        last_offset: offset of its last record.
        newest_ms: its highest timestamp.
        horizon_ms: wall-clock time after which compaction may drop its tombstones.
        record_count: how many records it has.
    """

    last_offset: int
    newest_ms: int
    horizon_ms: int
    record_count: int


# -- keys ----------------------------------------------------------------------------------


def topic_key(topic_id: int) -> bytes:
    """Returns the key of a topic's row."""
    return TOPIC + _U32.pack(topic_id)


def deleted_key(topic_id: int) -> bytes:
    """Returns the key of the note that a topic was deleted."""
    return DELETED + _U32.pack(topic_id)


def partition_key(topic_id: int, partition: int) -> bytes:
    """Returns the key of a partition's row."""
    return _PARTITION_KEY.pack(PARTITION, topic_id, partition)


def chunks_prefix(topic_id: int, partition: int) -> bytes:
    """Returns what the keys of a partition's chunks begin with."""
    return _PARTITION_KEY.pack(CHUNK, topic_id, partition)


def topic_chunks_prefix(topic_id: int) -> bytes:
    """Returns what the keys of a topic's chunks begin with."""
    return CHUNK + _U32.pack(topic_id)


def base_bytes(base: int) -> bytes:
    """Returns what stands behind the prefix in the key of a chunk."""
    return _BASE.pack(base)


def base_of(key: bytes) -> int:
    """Returns the base offset in the key of a chunk."""
    base: int = _BASE.unpack_from(key, len(key) - 8)[0]
    return base


def group_prefix(group: str) -> bytes:
    """Returns what the keys of a group's offsets begin with."""
    name = group.encode()
    return OFFSET + bytes((len(name),)) + name


def offset_key(group: str, topic_id: int, partition: int) -> bytes:
    """Returns the key of a committed offset."""
    return group_prefix(group) + _OFFSET_TAIL.pack(topic_id, partition)


def parse_offset_key(key: bytes) -> tuple[str, int, int]:
    """Returns (group, topic id, partition) of the key of a committed offset."""
    topic_id, partition = _OFFSET_TAIL.unpack_from(key, len(key) - 8)
    return key[2:-8].decode(), topic_id, partition


def parse_topic_id(key: bytes) -> int:
    """Returns the topic id in a key of a tag and one or more numbers."""
    topic_id: int = _U32.unpack_from(key, 1)[0]
    return topic_id


def parse_partition(key: bytes) -> int:
    """Returns the partition in the key of a partition's row."""
    partition: int = _U32.unpack_from(key, 5)[0]
    return partition


# -- rows ----------------------------------------------------------------------------------


def encode_number(number: int) -> bytes:
    """Writes a topic id."""
    return _U32.pack(number)


def decode_number(row: bytes) -> int:
    """Reads a topic id."""
    number: int = _U32.unpack(row)[0]
    return number


def encode_topic(name: str, partition_count: int, configs: Mapping[str, str]) -> bytes:
    """Writes a topic's row."""
    return _encode((name, partition_count, dict(configs)))


def decode_topic(row: bytes) -> tuple[str, int, dict[str, str]]:
    """Reads a topic's row: (name, partition count, configs)."""
    return _TOPIC_ROW.decode(row)


def encode_partition(row: PartitionRow) -> bytes:
    """Writes a partition's row."""
    return _PARTITION_ROW.pack(*row)


def decode_partition(row: bytes) -> PartitionRow:
    """Reads a partition's row."""
    return PartitionRow._make(_PARTITION_ROW.unpack(row))


def encode_offset(position: OffsetAndMetadata) -> bytes:
    """Writes a committed offset."""
    return _encode(tuple(position))


def decode_offset(row: bytes) -> OffsetAndMetadata:
    """Reads a committed offset."""
    return OffsetAndMetadata._make(_OFFSET_ROW.decode(row))


# -- chunks --------------------------------------------------------------------------------


_INTS: Final = frozenset({int})
_BYTES: Final = frozenset({bytes})
_BYTES_OR_NONE: Final = frozenset({bytes, type(None)})


class Chunk(NamedTuple):
    """Records as they are kept.

    Attributes:
        record_count: how many they are.
        newest_ms: their highest timestamp.
        value: the bytes.
    """

    record_count: int
    newest_ms: int
    value: bytes


def encode_chunks(
    records: Sequence[RawRecord],
    at: TopicPartition,
    *,
    record_bytes_max: int,
    needs_keys: bool,
    horizon_ms: int = NO_HORIZON,
) -> Iterator[Chunk]:
    """Writes records as chunks, none above the limits.

    Args:
        records: in offset order, with their offsets.
        at: the partition they belong to, for errors.
        record_bytes_max: limit of key, value and headers of one record together.
        needs_keys: refuse records without a key.
        horizon_ms: see `ChunkHead`.

    Raises:
        ProductionError: a record is not what a record must be, or is too large.
    """
    for start in range(0, len(records), CHUNK_RECORDS):
        part = records[start : start + CHUNK_RECORDS]
        newest_ms = _check(part, at, needs_keys=needs_keys)
        yield from _chunks(part, at, newest_ms, record_bytes_max, horizon_ms)


def _chunks(
    records: Sequence[RawRecord],
    at: TopicPartition,
    newest_ms: int,
    record_bytes_max: int,
    horizon_ms: int,
) -> Iterator[Chunk]:
    count = len(records)
    try:
        body = _encode(records)
    except (msgspec.MsgspecError, OverflowError, TypeError) as error:
        raise _refused(at, f"cannot be written ({error})") from error
    if len(body) > record_bytes_max:
        _check_sizes(records, at, record_bytes_max)
    if len(body) > CHUNK_BYTES and count > 1:
        for half in (records[: count // 2], records[count // 2 :]):
            half_newest_ms = max(map(_timestamp, half))
            yield from _chunks(half, at, half_newest_ms, record_bytes_max, horizon_ms)
        return
    head = _HEAD.pack(offset_of(records[-1][3]), newest_ms, horizon_ms, count)
    yield Chunk(count, newest_ms, head + body)


def _check(records: Sequence[RawRecord], at: TopicPartition, *, needs_keys: bool) -> int:
    """Refuses what would be read back as something else; returns the newest timestamp."""
    timestamps, keys, values, origins = zip(*records, strict=True)
    if (
        _INTS.issuperset(map(type, timestamps))
        and (_BYTES if needs_keys else _BYTES_OR_NONE).issuperset(map(type, keys))
        and _BYTES_OR_NONE.issuperset(map(type, values))
        and _INTS.issuperset(map(type, origins))
        and max(timestamps) <= TIMESTAMP_MAX
    ):
        return int(max(timestamps))
    return _check_each(records, at, needs_keys=needs_keys)


def _check_each(records: Sequence[RawRecord], at: TopicPartition, *, needs_keys: bool) -> int:
    """Checks records one by one: some have headers, or there is one to refuse."""
    newest_ms = -1
    for record in records:
        timestamp, key, value, origin = record
        if timestamp.__class__ is not int:
            fault = f"has the timestamp {timestamp!r}: give an int, in epoch ms"
            raise _refused(at, fault, record)
        if timestamp > newest_ms:
            newest_ms = timestamp
        if key.__class__ is not bytes and (needs_keys or key is not None):
            raise _refused(
                at,
                "has no key, by which a compacted topic tells what replaces it"
                if key is None
                else f"has a key of type {type(key).__name__}: its serde must return bytes",
                record,
            )
        if value.__class__ is not bytes and value is not None:
            fault = f"has a value of type {type(value).__name__}: its serde must return bytes"
            raise _refused(at, fault, record)
        if origin.__class__ is tuple:
            _check_headers(origin[1], at, record)
        if timestamp > TIMESTAMP_MAX:
            fault = f"has the timestamp {timestamp}, which is none in epoch ms"
            raise _refused(at, fault, record)
    return newest_ms


def _check_headers(headers: HeaderList, at: TopicPartition, record: RawRecord) -> None:
    for header in headers:
        if (
            len(header) != 2
            or not isinstance(header[0], str)
            or not (header[1] is None or isinstance(header[1], bytes))
        ):
            fault = f"has a header {header[0]!r} that is no pair of str and bytes"
            raise _refused(at, fault, record)


def _check_sizes(records: Sequence[RawRecord], at: TopicPartition, limit: int) -> None:
    for record in records:
        _, key, value, origin = record
        size = len(key or b"") + len(value or b"")
        if isinstance(origin, tuple):
            size += sum(len(name) + len(content or b"") for name, content in origin[1])
        if size > limit:
            raise _refused(
                at,
                f"has {size} bytes and the topic takes up to {limit}: raise the topic's "
                "max.message.bytes or send less",
                record,
            )


def _refused(at: TopicPartition, fault: str, record: RawRecord | None = None) -> ProductionError:
    message = f"a record sent to topic {at.topic!r} {fault}"
    error = ProductionError(message, topic=at.topic, partition=at.partition)
    error.record = record
    return error


def chunk_head(chunk: bytes) -> ChunkHead:
    """Reads a chunk's head."""
    return ChunkHead._make(_HEAD.unpack_from(chunk))


def decode_chunk(chunk: bytes, at: TopicPartition) -> Sequence[RawRecord]:
    """Reads a chunk's records.

    Args:
        chunk: its bytes.
        at: the partition it belongs to, for errors.

    Raises:
        CorruptDataError: the bytes are no chunk.
    """
    try:
        records: Sequence[RawRecord] = _RECORDS.decode(memoryview(chunk)[_HEAD.size :])
    except msgspec.MsgspecError as error:
        message = f"records of the log cannot be read: {error}"
        raise CorruptDataError(message, topic=at.topic, partition=at.partition) from error
    return records
