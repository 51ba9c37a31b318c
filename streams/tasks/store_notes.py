"""Notes beside the rows of a store on disk: its position, if nothing else records it.

Owns the bytes of notes. It must not know when they are written. They are written with the rows, in
one step, so they are correct after a crash too.

    of a store filled from a source topic:   position int64 | partition time int64 | topic, UTF-8
    of rows kept aside for a commit:         its offsets: msgpack [[topic, partition, offset] …]
    of a global store:                       the same, with the partition time behind the offset
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from thalweg.stores.errors import CorruptDataError
from thalweg.streams.transport.port import TopicPartition


class _Noted(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    partition: int
    offset: int
    partition_time_ms: int = -1


_decode_noted: Final = msgspec.msgpack.Decoder(list[_Noted]).decode
_numbers: Final = Struct(">qq")


class RefillNote(NamedTuple):
    """How far a store is; a checkpoint file cannot say it.

    That is behind the rows after a crash. It does no harm where a record says what a row is;
    a processor that makes a row from the one before would do so twice.

    Attributes:
        topic: the source topic.
        position: the next record to come.
        partition_time_ms: the highest timestamp before it, -1 if there is none.
    """

    topic: str
    position: int
    partition_time_ms: int

    def packed(self) -> bytes:
        """Returns the note as a store keeps it."""
        return _numbers.pack(self.position, self.partition_time_ms) + self.topic.encode()

    @classmethod
    def unpacked(cls, note: bytes | None) -> RefillNote | None:
        """Reads a note, None if there is none to be read."""
        if note is None or len(note) < _numbers.size:
            return None
        return cls(note[_numbers.size :].decode(errors="replace"), *_numbers.unpack_from(note))


def packed_offsets(
    offsets: Mapping[TopicPartition, int], times: Mapping[TopicPartition, int] | None = None
) -> bytes:
    """Returns the note of rows that count once these offsets are committed.

    Args:
        offsets: partition -> offset.
        times: partition -> the highest timestamp before it.
    """
    known = times or {}
    return msgspec.msgpack.encode(
        [(*at, offset, *((known[at],) if at in known else ())) for at, offset in offsets.items()]
    )


def unpacked_offsets(note: bytes) -> dict[TopicPartition, int]:
    """Reads the offsets of a note of `packed_offsets`.

    Raises:
        CorruptDataError: it is none.
    """
    return {TopicPartition(one.topic, one.partition): one.offset for one in _noted(note)}


def unpacked_times(note: bytes) -> dict[TopicPartition, int]:
    """Reads the times of a note of `packed_offsets`, -1 where there is none.

    Raises:
        CorruptDataError: it is none.
    """
    return {TopicPartition(one.topic, one.partition): one.partition_time_ms for one in _noted(note)}


def _noted(note: bytes) -> list[_Noted]:
    try:
        return _decode_noted(note)
    except msgspec.DecodeError as error:
        message = f"what is noted of rows kept aside cannot be read: {error}"
        raise CorruptDataError(message) from error
