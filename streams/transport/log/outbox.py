"""The records that one transport has sent to one partition and not committed.

Owns the records, the offsets that they get when they are sent, and the chunks into which they were
written. It must not know when a commit happens or what else belongs to it. The transport's thread
owns it; other threads read only `reserved`, under the log's lock.

Offsets are a guess: a record gets its offset as if nobody else sent to the partition. The guess is
nearly always right, so records need not be changed again before they are read or written. `settle`
corrects a wrong guess.

Records are written as chunks early, a thousand at a time, and then released. The reasons: new
records are still in the processor's cache, and a list of a second's records would cost the garbage
collector time. In the rare case that they are needed again, they are read from the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from thalweg.stores.record import RawRecord, record_offset
from thalweg.streams.errors import TransportError
from thalweg.streams.transport.log.formats import (
    CHUNK_BYTES,
    CHUNK_RECORDS,
    Chunk,
    decode_chunk,
    encode_chunks,
)
from thalweg.streams.transport.log.topics import Partition
from thalweg.streams.transport.port import Slot


class Outbox:
    """Records of one transport for one partition.

    Args:
        partition: the partition.
        slots: what the topic's senders look up by partition; kept up to date.
        is_repartition: whether the transport's application alone consumes the records. They
            are written only by a commit, which knows which are still wanted; those that were
            processed before can be forgotten.

    Attributes:
        is_kept: whether records are asked for again, and so had better not be let go.
        is_tracked: whether the transport is asked where its records end up.
        reserved: how many of the records, from the first on, have the offsets they will keep.
    """

    __slots__ = (
        "_chunks",
        "_first",
        "_guess",
        "_records",
        "_slots",
        "_written",
        "is_kept",
        "is_repartition",
        "is_tracked",
        "partition",
        "reserved",
    )

    def __init__(self, partition: Partition, slots: list[Slot], *, is_repartition: bool) -> None:
        self.partition = partition
        self.is_repartition = is_repartition
        self.is_kept = is_repartition
        self.is_tracked = False
        self.reserved = 0
        self._slots = slots
        # The records from number `_first` on; those before are in chunks only, or forgotten.
        self._records: list[RawRecord] = []
        self._first = 0
        # Chunks of the records up to number `_written`.
        self._chunks: list[Chunk] = []
        self._written = 0
        # The offset that record number `reserved` is stamped with.
        self._guess = 0
        self.renew()

    def __len__(self) -> int:
        """Counts the records sent since the last commit."""
        return self._first + len(self._records)

    def renew(self) -> None:
        """Forgets all records and begins anew at the partition's end."""
        self._records.clear()
        self._chunks.clear()
        self._first = self._written = self.reserved = 0
        self._stamp_from(self.partition.end)

    def _stamp_from(self, offset: int) -> None:
        self._guess = offset
        number = offset + len(self) - self.reserved
        self._slots[self.partition.at.partition] = (self._records.append, count(number).__next__)

    @property
    def end_offset(self) -> int:
        """The offset behind the last record, as stamped."""
        return self._guess + len(self) - self.reserved

    def settle(self, end: int) -> None:
        """Stamps the records that are not reserved with the offsets from `end` on."""
        if self.reserved == len(self) or self._guess == end:
            return
        self._recall(self.reserved)
        self._stamp(self.reserved - self._first, end)
        self._chunks.clear()
        self._written = 0
        self._stamp_from(end)

    def _stamp(self, start: int, offset: int) -> None:
        """Gives the records from index `start` on the offsets from `offset` on."""
        records = self._records
        for index in range(start, len(records)):
            timestamp, key, value, origin = records[index]
            if isinstance(origin, tuple):
                records[index] = (timestamp, key, value, (offset, origin[1]))
            else:
                records[index] = (timestamp, key, value, offset)
            offset += 1

    def reserve(self, end: int) -> None:
        """Settles all records on the offsets from `end` on and reserves them."""
        if self.reserved < len(self):
            self.settle(end)
            self._guess += len(self) - self.reserved
            self.reserved = len(self)

    def slice(self, start: int, stop: int) -> list[RawRecord]:
        """Returns the records of the numbers [start, stop), and keeps all from now on.

        Raises:
            TransportError: they were forgotten.
        """
        self.is_kept = True
        self._recall(start)
        return self._records[start - self._first : stop - self._first]

    def forget(self, count: int) -> None:
        """Lets go of the first `count` records of a repartition topic: they were processed.

        A list of a second's records would wear out the processor's cache. They must be
        reserved, and the commit must skip them.
        """
        if self.is_repartition and self._first < count <= self.reserved:
            del self._records[: count - self._first]
            self._first = count

    def _recall(self, start: int) -> None:
        """Reads back what is in chunks only, if a record from number `start` on is."""
        if start >= self._first:
            return
        at = self.partition.at
        if self.is_repartition:
            message = (
                f"records of {at} were asked for again after they were processed; commit the "
                "position behind them, or abort"
            )
            raise TransportError(message, topic=at.topic, partition=at.partition)
        written = [r for chunk in self._chunks for r in decode_chunk(chunk.value, at)]
        self._records[:0] = written[: self._first]
        self._first = 0

    def write(self) -> None:
        """Writes what was sent since the last call as chunks.

        A last chunk that is not full is written again with what came after it.

        Raises:
            ProductionError: a record is not what a record must be.
        """
        if self._written == len(self):
            return
        if self._chunks:
            last = self._chunks[-1]
            if _has_room(last) and self._written - last.record_count >= self._first:
                self._written -= last.record_count
                self._chunks.pop()
        self._add_chunks(len(self))

    @property
    def can_drop(self) -> bool:
        """Whether single records can still be taken out: no offset was told, none was read."""
        return not (self.reserved or self.is_tracked)

    def drop(self, record: RawRecord) -> None:
        """Takes a record out that was refused; those behind it move up."""
        offset = record_offset(record)
        index = offset - self._guess - self._first
        del self._records[index]
        self._stamp(index, offset)
        self._stamp_from(self._guess)

    @property
    def unwritten_count(self) -> int:
        """How many records are in no chunk."""
        return self._first + len(self._records) - self._written

    def write_full(self) -> None:
        """Writes as many records as fill chunks, and lets go of them if they are not kept.

        Raises:
            ProductionError: a record is not what a record must be.
        """
        full = self.unwritten_count // CHUNK_RECORDS * CHUNK_RECORDS
        if full:
            self._add_chunks(self._written + full)
            if not self.is_kept:
                del self._records[: self._written - self._first]
                self._first = self._written

    def _add_chunks(self, stop: int) -> None:
        records = self._records[self._written - self._first : stop - self._first]
        for chunk in self._encode(records):
            self._chunks.append(chunk)
            self._written += chunk.record_count

    def chunks(self, skipped: int) -> Iterator[tuple[int, Chunk]]:
        """Yields (base offset, chunk) of the settled records, but for the first `skipped`.

        Raises:
            ProductionError: a record is not what a record must be.
        """
        base = self.partition.claim_base if self.reserved else self._guess
        if self.reserved and base + self.reserved != self._guess:
            # Others' records stand between what was reserved and the rest.
            reserved, rest = (
                self.slice(skipped, self.reserved),
                self.slice(self.reserved, len(self)),
            )
            yield from _based(base + skipped, self._encode(reserved))
            yield from _based(self._guess, self._encode(rest))
        elif skipped or self.is_repartition:
            yield from _based(base + skipped, self._encode(self.slice(skipped, len(self))))
        else:
            self.write()
            yield from _based(base, self._chunks)

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


def _based(base: int, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Chunk]]:
    for chunk in chunks:
        yield base, chunk
        base += chunk.record_count
