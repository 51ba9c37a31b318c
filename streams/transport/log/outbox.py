"""What one transport has sent to one partition and not committed.

Owns the records, the offsets they are stamped with as they are sent, and the chunks they were
written as so far. It must not know when a commit happens or what else goes into it. The
transport's thread owns it; only `reserved` is read by others, under the log's lock.

Offsets are guessed: a record is stamped as if nobody else sent to the partition. The guess is
nearly always right, so that records need not be touched again, neither to be read by the
transport that sent them nor to be written. `settle` makes it right where it was wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeAlias

from stores.record import RawRecord, offset_of
from streams.transport.log.formats import CHUNK_BYTES, CHUNK_RECORDS, Chunk, encode_chunks
from streams.transport.log.topics import Partition

End: TypeAlias = tuple[Callable[[RawRecord], None], Callable[[], int]]
"""Where a sender puts a record: (append, next offset)."""


class Outbox:
    """Records of one transport for one partition.

    Args:
        partition: the partition.
        ends: what the topic's senders look up by partition; kept up to date.
        is_repartition: whether the transport's application alone consumes the records.

    Attributes:
        is_tracked: whether the transport is asked where its records end up.
        records: what was sent since the last commit.
        reserved: how many of them, from the first on, have the offsets they will keep.
    """

    __slots__ = (
        "_chunks",
        "_ends",
        "_written",
        "is_repartition",
        "is_tracked",
        "partition",
        "records",
        "reserved",
    )

    def __init__(self, partition: Partition, ends: list[End], *, is_repartition: bool) -> None:
        self.partition = partition
        self.records: list[RawRecord] = []
        self.reserved = 0
        self.is_repartition = is_repartition
        self.is_tracked = False
        self._ends = ends
        self._chunks: list[Chunk] = []
        self._written = 0
        self.renew()

    def renew(self) -> None:
        """Forgets all records and begins anew at the partition's end."""
        self.records.clear()
        self._chunks.clear()
        self._written = 0
        self.reserved = 0
        self._stamp_from(self.partition.end)

    def _stamp_from(self, offset: int) -> None:
        self._ends[self.partition.at.partition] = (self.records.append, count(offset).__next__)

    def settle(self, end: int) -> None:
        """Stamps the records that are not reserved with the offsets from `end` on."""
        records, start = self.records, self.reserved
        if start == len(records) or offset_of(records[start][3]) == end:
            return
        for index in range(start, len(records)):
            timestamp, key, value, origin = records[index]
            offset = end + index - start
            if isinstance(origin, tuple):
                records[index] = (timestamp, key, value, (offset, origin[1]))
            else:
                records[index] = (timestamp, key, value, offset)
        self._stamp_from(end + len(records) - start)
        self._chunks.clear()
        self._written = 0

    def write(self) -> None:
        """Writes what was sent since the last call as chunks.

        A last chunk that is not full is written again with what came after it.

        Raises:
            ProductionError: a record is not what a record must be.
        """
        records, chunks = self.records, self._chunks
        if self._written == len(records):
            return
        if chunks and _has_room(chunks[-1]):
            self._written -= chunks.pop().record_count
        for chunk in self._encode(records[self._written :] if self._written else records):
            chunks.append(chunk)
            self._written += chunk.record_count

    def chunks(self, skipped: int) -> Iterator[tuple[int, Chunk]]:
        """Yields (base offset, chunk) of the settled records, but for the first `skipped`.

        Raises:
            ProductionError: a record is not what a record must be.
        """
        records, reserved = self.records, self.reserved
        has_gap = 0 < reserved < len(records) and (
            offset_of(records[reserved - 1][3]) + 1 != offset_of(records[reserved][3])
        )
        if has_gap:
            # Others' records stand between what was reserved and the rest.
            yield from _based(records, skipped, self._encode(records[skipped:reserved]))
            yield from _based(records, reserved, self._encode(records[reserved:]))
        elif skipped:
            yield from _based(records, skipped, self._encode(records[skipped:]))
        else:
            self.write()
            yield from _based(records, 0, self._chunks)

    def _encode(self, records: Sequence[RawRecord]) -> Iterator[Chunk]:
        configs = self.partition.topic.configs
        return encode_chunks(
            records,
            self.partition.at,
            record_bytes_max=configs.record_bytes_max,
            needs_keys=configs.is_compacted,
        )


def _has_room(chunk: Chunk) -> bool:
    return chunk.record_count < CHUNK_RECORDS and len(chunk.value) < CHUNK_BYTES // 2


def _based(
    records: Sequence[RawRecord], start: int, chunks: Iterator[Chunk] | Sequence[Chunk]
) -> Iterator[tuple[int, Chunk]]:
    for chunk in chunks:
        yield offset_of(records[start][3]), chunk
        start += chunk.record_count
