"""The cleaner of the embedded log: retention and compaction, in slices.

Owns both rules and the work in progress. It runs after commits, under the log's lock, and does at
most a few times as much work as the commit. So the size of the log stays bounded without a thread
and without long commits. It must not know transports.

*Retention.* A chunk is deleted when its newest timestamp is more than `retention.ms` in the past.
The present is the wall clock. For topics that are also compacted (changelogs of window stores), the
present is the newest timestamp of the partition if that is earlier. The reason: their stores keep
windows by stream time, and when old data is processed, a changelog must not lose rows that its
store has.

*Compaction.* A run takes the records since the last run (the dirty part, at most `KEYS_MAX`
records) and goes backwards from their end to the partition's begin. It keeps the last record of
each key of the dirty part, and of the older records those whose key is not in the dirty part.
Chunks are merged as they empty; offsets stay. A chunk of the dirty part with tombstones gets a
horizon, `delete.retention.ms` later; a run after the horizon drops the tombstones. A run never
drops tombstones of its own dirty part: if it were interrupted, the value before the tombstone would
be back. A run that a crash interrupts is repeated.

Source: JVM broker `LogCleaner`, `UnifiedLog.deleteOldSegments`; KIP-534 (tombstones' horizon).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from thalweg.stores.bytes.contract import ByteStore, Change, Row
from thalweg.stores.record import RawRecord, offset_of
from thalweg.streams.transport.log.formats import (
    CHUNK_BYTES,
    CHUNK_RECORDS,
    NO_HORIZON,
    base_of,
    chunk_head,
    decode_chunk,
    encode_chunks,
    encode_partition,
)
from thalweg.streams.transport.log.topics import Partition, Topic

DIRTY_RECORDS_MIN: Final = 10_000
"""A dirty part with fewer records is left alone: reading it costs a restore nothing."""

RETENTION_CHECK_MS: Final = 60_000
"""How often chunks are looked at for their age."""

KEYS_MAX: Final = 500_000
"""Most dirty records of one run, whose keys it must remember, about 70 MB; the rest waits for
the next."""

_SLICE_RECORDS_MIN: Final = 1_000
_SLICE_FACTOR: Final = 3
"""Records looked at per record that came. A run looks at dirty and clean part once; with as
much dirty as clean, twice what came keeps up."""

_STEP_RECORDS: Final = 4_000
"""Records after which a step of a run ends: the least a slice can be."""

_AGED_CHUNKS: Final = 100
"""Most chunks of one partition whose age is looked at behind one commit."""

_log = logging.getLogger(__name__)


class Cleaner:
    """Retention and compaction of one log. Every method is called under the log's lock.

    Args:
        store: the log's rows.
        write: applies rows, and notes the log's failure.
        dirty_records_min: see `DIRTY_RECORDS_MIN`.
    """

    def __init__(
        self,
        store: ByteStore,
        write: Callable[[Sequence[Change]], None],
        dirty_records_min: int = DIRTY_RECORDS_MIN,
    ) -> None:
        self._store = store
        self._write = write
        self._dirty_records_min = dirty_records_min
        self._candidates: dict[Partition, None] = {}
        self._aging: dict[Partition, None] = {}
        self._due: list[Partition] = []
        self._last_check_ms: int | None = None
        self._run: Iterator[int] | None = None
        self._told_aged: set[Topic] = set()

    def watch(self, topic: Topic) -> None:
        """Takes a topic into care."""
        if topic.configs.is_compacted:
            self._candidates.update(dict.fromkeys(topic.partitions))
        if topic.configs.is_deleted_by_age:
            self._aging.update(dict.fromkeys(topic.partitions))

    def forget(self, topic: Topic) -> None:
        """Lets go of a topic that was deleted."""
        self._told_aged.discard(topic)
        for partition in topic.partitions:
            self._candidates.pop(partition, None)
            self._aging.pop(partition, None)

    def step(self, written: Iterable[tuple[Partition, int]], now_ms: int) -> None:
        """Does a slice of work behind a commit.

        Args:
            written: partitions that were written to, with how many records.
            now_ms: wall clock.
        """
        budget = 0
        for partition, count in written:
            configs = partition.topic.configs
            if configs.is_compacted:
                self._candidates[partition] = None
                budget += count
            elif configs.is_deleted_by_age:
                self._tell_if_aged(partition, now_ms)
        self._drop_aged(now_ms)
        budget = max(_SLICE_RECORDS_MIN, _SLICE_FACTOR * budget)
        while budget > 0:
            if self._run is None:
                dirty = self._next_dirty()
                if dirty is None:
                    return
                self._run = self._compact(dirty, now_ms)
            looked_at = next(self._run, None)
            if looked_at is None:
                self._run = None
            else:
                budget -= looked_at

    # -- retention -----------------------------------------------------------------------

    def _tell_if_aged(self, partition: Partition, now_ms: int) -> None:
        """Says, once for each topic, that what was written to it is deleted at once."""
        topic = partition.topic
        if partition.newest_ms >= now_ms - topic.configs.retention_ms or topic in self._told_aged:
            return
        self._told_aged.add(topic)
        _log.warning(
            "records written to topic %r are older than its retention.ms of %d and are deleted at "
            "once: the newest is of %s; thalweg topics config %s retention.ms=-1 keeps them",
            topic.name,
            topic.configs.retention_ms,
            datetime.fromtimestamp(partition.newest_ms / 1000, UTC).date(),
            topic.name,
        )

    def _drop_aged(self, now_ms: int) -> None:
        last_ms = self._last_check_ms
        # A clock that was set back must not put the next check off.
        if last_ms is None or not 0 <= now_ms - last_ms < RETENTION_CHECK_MS:
            self._last_check_ms = now_ms
            self._due = list(self._aging)
        due, self._due = self._due, []
        for partition in due:
            if not partition.topic.is_deleted and self._drop_oldest(partition, now_ms):
                self._due.append(partition)

    def _drop_oldest(self, partition: Partition, now_ms: int) -> bool:
        """Drops a partition's chunks that are too old; returns whether there may be more."""
        configs = partition.topic.configs
        present_ms = min(now_ms, partition.newest_ms) if configs.is_compacted else now_ms
        oldest_ms = present_ms - configs.retention_ms
        begin, looked_at = partition.begin, 0
        rows = self._store.range(partition.chunk_key(0), partition.chunk_key(partition.stable_end))
        for _, chunk in rows:
            head = chunk_head(chunk)
            if head.newest_ms >= oldest_ms:
                break
            begin = max(begin, head.last_offset + 1)
            looked_at += 1
            if looked_at == _AGED_CHUNKS:
                break
        release(rows)
        if looked_at:
            self.advance_begin(partition, begin)
        return looked_at == _AGED_CHUNKS

    def advance_begin(self, partition: Partition, begin: int) -> None:
        """Lets a partition forget what lies before `begin`."""
        row = partition.row()._replace(begin=begin)
        self._write([(partition.row_key(), encode_partition(row))])
        partition.begin = begin
        # The chunk that `begin` falls into stays whole.
        above = partition.chunk_key(begin)
        last = first_row(self._store.range(partition.chunk_key(0), above, reverse=True))
        if last is not None:
            key, chunk = last
            reaches_over = chunk_head(chunk).last_offset >= begin
            self._store.delete_range(partition.chunk_key(0), key if reaches_over else above)

    # -- compaction ----------------------------------------------------------------------

    def _next_dirty(self) -> Partition | None:
        while self._candidates:
            partition, _ = self._candidates.popitem()
            dirty = partition.stable_end - max(partition.begin, partition.cleaned_end)
            ratio = partition.topic.configs.cleanable_ratio
            if dirty >= self._dirty_records_min and dirty >= ratio * (
                dirty + partition.cleaned_count
            ):
                return partition
        return None

    def _compact(self, partition: Partition, now_ms: int) -> Iterator[int]:
        """Makes one run over a partition; yields how many records each step looked at."""
        start = max(partition.begin, partition.cleaned_end)
        end = self._run_end(partition, start, now_ms)
        if end <= start:
            return
        seen: set[bytes | None] = set()
        cursor, kept = end, 0
        while (group := self._group(partition, start, cursor, seen, now_ms)).keys:
            self._rewrite(partition, group)
            cursor = base_of(group.keys[0])
            kept += len(group.records)
            yield group.looked_at
            if partition.topic.is_deleted:
                return
        row = partition.row()._replace(cleaned_end=end, cleaned_count=kept)
        self._write([(partition.row_key(), encode_partition(row))])
        partition.cleaned_end, partition.cleaned_count = end, kept

    def _run_end(self, partition: Partition, start: int, now_ms: int) -> int:
        """Returns up to where a run that begins at `start` may go: the end of some chunk."""
        end = partition.stable_end
        if end - start > KEYS_MAX:
            here, there = partition.chunk_key(start), partition.chunk_key(start + KEYS_MAX)
            last = first_row(self._store.range(here, there, reverse=True))
            end = start + KEYS_MAX if last is None else chunk_head(last[1]).last_offset + 1
        lag_ms = partition.topic.configs.compaction_lag_ms
        if lag_ms:
            rows = self._store.range(partition.chunk_key(start), partition.chunk_key(end))
            for key, chunk in rows:
                if chunk_head(chunk).newest_ms > now_ms - lag_ms:
                    end = base_of(key)
                    break
            release(rows)
        return end

    def _group(
        self, partition: Partition, start: int, end: int, seen: set[bytes | None], now_ms: int
    ) -> _Group:
        """Reads chunks from `end` back whose remaining records make one chunk."""
        keys: list[bytes] = []
        parts: list[list[RawRecord]] = []
        kept = looked_at = size = 0
        horizon_ms, is_changed = NO_HORIZON, False
        rows = self._store.range(partition.chunk_key(0), partition.chunk_key(end), reverse=True)
        for key, chunk in rows:
            head = chunk_head(chunk)
            if keys and (kept >= CHUNK_RECORDS or size + len(chunk) > CHUNK_BYTES):
                break
            is_dirty = head.last_offset >= start
            records = decode_chunk(chunk, partition.at)
            left = _last_of_keys(records, seen) if is_dirty else _not_of_keys(records, seen)
            chunk_horizon_ms = head.horizon_ms
            if chunk_horizon_ms == NO_HORIZON:
                chunk_horizon_ms = now_ms + partition.topic.configs.delete_retention_ms
            if not is_dirty and now_ms > chunk_horizon_ms:
                left = [record for record in left if record[2] is not None]
            elif any(record[2] is None for record in left):
                horizon_ms = max(horizon_ms, chunk_horizon_ms)
                is_changed = is_changed or chunk_horizon_ms != head.horizon_ms
            is_changed = is_changed or len(left) < len(records)
            keys.append(key)
            parts.append(left)
            kept += len(left)
            size += len(chunk)
            looked_at += len(records)
            if looked_at >= _STEP_RECORDS:
                break
        release(rows)
        keys.reverse()
        remaining = [record for part in reversed(parts) for record in part]
        # Chunks are joined where that makes them fewer.
        is_changed = is_changed or len(keys) > -(-len(remaining) // CHUNK_RECORDS)
        return _Group(keys, remaining, horizon_ms, looked_at, is_changed)

    def _rewrite(self, partition: Partition, group: _Group) -> None:
        """Puts a group's records in the place of its chunks.

        The first chunk keeps its key: a reader that stands there finds it as before.
        """
        if not group.is_changed:
            return
        changes: dict[bytes, bytes | None] = dict.fromkeys(group.keys)
        key, at = group.keys[0], 0
        for chunk in encode_chunks(
            group.records,
            partition.at,
            record_bytes_max=_ANY_SIZE,
            needs_keys=False,
            horizon_ms=group.horizon_ms,
        ):
            changes[key if at == 0 else partition.chunk_key(offset_of(group.records[at][3]))] = (
                chunk.value
            )
            at += chunk.record_count
        self._write(list(changes.items()))


_ANY_SIZE: Final = 1 << 62
"""A record that is in the log was small enough when it came."""


class _Group(NamedTuple):
    """Neighbouring chunks that become one, or as few as there is room in.

    Attributes:
        keys: their keys.
        records: what remains of them.
        horizon_ms: until when the tombstones among the records stay.
        looked_at: how many records they had.
        is_changed: whether there is anything to write.
    """

    keys: list[bytes]
    records: list[RawRecord]
    horizon_ms: int
    looked_at: int
    is_changed: bool


def _last_of_keys(records: Sequence[RawRecord], seen: set[bytes | None]) -> list[RawRecord]:
    """Returns the last record of every key that was not seen, and notes the key."""
    left = []
    for record in reversed(records):
        key = record[1]
        if key not in seen:
            seen.add(key)
            left.append(record)
    left.reverse()
    return left


def _not_of_keys(records: Sequence[RawRecord], seen: set[bytes | None]) -> list[RawRecord]:
    """Returns the records whose keys were not seen; there is one of each key."""
    return [record for record in records if record[1] not in seen]


def first_row(rows: Iterator[Row]) -> Row | None:
    """Returns the first row of a scan and lets go of it."""
    row = next(rows, None)
    release(rows)
    return row


def release(rows: Iterator[Row]) -> None:
    """Lets go of a scan that was not read to its end."""
    close = getattr(rows, "close", None)
    if close is not None:
        close()
