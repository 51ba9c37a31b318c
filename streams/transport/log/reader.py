"""Reads the embedded log: committed records of all transports, uncommitted ones of its own.

Owns positions, the order of topics, and the records that were decoded and not handed over yet. It
must not know how records are kept.

Repartition topics of the application are read before its other topics. So records that are inside
the topology are finished before new ones are read. They are then still in the processor's cache,
and a commit has few of them left to write. No topic starves, because only other topics add records
to repartition topics.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from thalweg.stores.record import RawRecord, offset_of
from thalweg.streams.errors import BrokerError, OffsetOutOfRangeError, TransportError
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.log.outbox import Outbox
from thalweg.streams.transport.log.topics import Partition
from thalweg.streams.transport.port import Batch, Reader, TopicPartition


class _Cursor:
    """Where a reader stands in one partition."""

    __slots__ = ("at", "index", "is_paused", "next_position", "partition", "position", "records")

    def __init__(self, at: TopicPartition, partition: Partition, position: int) -> None:
        self.at = at
        self.partition = partition
        self.position = position
        self.is_paused = False
        # Records read and not handed over, from `index` on; none when it is empty. Behind
        # them the partition goes on at `next_position`.
        self.records: Sequence[RawRecord] = ()
        self.index = 0
        self.next_position = position


class _Turns:
    """Cursors that take turns."""

    def __init__(self, cursors: Sequence[_Cursor] = ()) -> None:
        self._cursors = list(cursors)
        self._next = 0

    def in_turn(self) -> list[_Cursor]:
        """Returns all, the one whose turn it is first."""
        return self._cursors[self._next :] + self._cursors[: self._next]

    def go_on_behind(self, cursor: _Cursor) -> None:
        """Lets the next round begin behind a cursor."""
        self._next = (self._cursors.index(cursor) + 1) % len(self._cursors)


class LogReader(Reader):
    """A reader of a transport; see `streams.transport.port` for what it promises.

    Args:
        log: the log.
        group: the application whose repartition topics come first, None if there is none.
        outboxes: what its transport has sent and not committed, by partition.
        before_poll: called before records are looked for.
    """

    def __init__(
        self,
        log: LocalLog,
        group: str | None,
        outboxes: Mapping[Partition, Outbox],
        before_poll: Callable[[], None],
    ) -> None:
        self._log = log
        self._group = group
        self._outboxes = outboxes
        self._before_poll = before_poll
        self._cursors: dict[TopicPartition, _Cursor] = {}
        self._inner_turns, self._outer_turns = _Turns(), _Turns()
        self._is_woken = False
        self._is_closed = False

    def add(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begins to read partitions, each from an offset; others stay as they are."""
        self._check_open()
        found = {at: self._log.partition(at) for at in positions}
        for at, partition in found.items():
            self._cursors[at] = _Cursor(at, partition, positions[at])
        self._take_turns()

    def remove(self, partitions: Collection[TopicPartition]) -> None:
        """Stops reading partitions."""
        for at in partitions:
            self._cursors.pop(at, None)
        self._take_turns()

    def _take_turns(self) -> None:
        inner: list[_Cursor] = []
        outer: list[_Cursor] = []
        for cursor in self._cursors.values():
            is_inner = cursor.partition.topic.is_repartition_of(self._group)
            (inner if is_inner else outer).append(cursor)
        self._inner_turns, self._outer_turns = _Turns(inner), _Turns(outer)

    def poll(self, most: int, timeout_ms: float) -> Sequence[Batch]:
        """Returns at most `most` records, waiting up to `timeout_ms` when there are none."""
        self._check_open()
        self._before_poll()
        batches, has_moved = self._take(most)
        # Offsets without records were passed over: their owner wants to know at once.
        if batches or has_moved or timeout_ms <= 0:
            return batches
        if self._log.wait(self._has_news, timeout_ms):
            self._check_open()
            self._is_woken = False
            batches, _ = self._take(most)
        return batches

    def wake(self) -> None:
        """Lets a `poll` that waits return, or the next one that would wait."""
        self._is_woken = True
        self._log.wake()

    def _has_news(self) -> bool:
        return (
            self._is_closed
            or self._is_woken
            or any(
                cursor.partition.stable_end > cursor.position or cursor.partition.topic.is_deleted
                for cursor in self._cursors.values()
                if not cursor.is_paused
            )
        )

    def _take(self, most: int) -> tuple[list[Batch], bool]:
        has_moved = False
        batches: list[Batch] = []
        for turns in (self._inner_turns, self._outer_turns):
            for cursor in turns.in_turn():
                if cursor.is_paused:
                    continue
                before = cursor.position
                try:
                    records = self._read(cursor, most)
                except BrokerError:
                    if not batches:
                        raise
                    # What was read of others is handed over first: the next poll raises it.
                    return batches, True
                has_moved = has_moved or cursor.position != before
                if records:
                    batches.append((cursor.at, records))
                    # Whoever comes behind the one that had most of this poll begins the next.
                    turns.go_on_behind(cursor)
                    most -= len(records)
                    if most <= 0:
                        return batches, has_moved
        return batches, has_moved

    def _read(self, cursor: _Cursor, most: int) -> Sequence[RawRecord]:
        """Takes up to `most` records of one partition; whole chunks are not copied."""
        batch = self._next_records(cursor, most)
        if not batch or len(batch) == most:
            return batch
        gathered: list[RawRecord] = []
        try:
            more = self._next_records(cursor, most - len(batch))
            if not more:
                return batch
            gathered += (*batch, *more)
            while len(gathered) < most and (
                more := self._next_records(cursor, most - len(gathered))
            ):
                gathered += more
        except BrokerError:
            # What was read so far is handed over first: the next poll raises it.
            return gathered or batch
        return gathered

    def _next_records(self, cursor: _Cursor, most: int) -> Sequence[RawRecord]:
        records, index = cursor.records, cursor.index
        if not records:
            records, index = self._load(cursor, most), 0
        if len(records) - index <= most:
            cursor.records, cursor.index = (), 0
            cursor.position = cursor.next_position
            return records[index:] if index else records
        batch = records[index : index + most]
        cursor.records, cursor.index = records, index + most
        cursor.position = offset_of(batch[-1][3]) + 1
        return batch

    def _load(self, cursor: _Cursor, most: int) -> Sequence[RawRecord]:
        """Returns records from the cursor's position on, and notes where they end."""
        partition = cursor.partition
        if partition.topic.is_deleted:
            message = (
                f"topic {cursor.at.topic!r} was deleted while it was read; create it again, and "
                "start the application again"
            )
            raise TransportError(message, topic=cursor.at.topic, partition=cursor.at.partition)
        if cursor.position < partition.stable_end:
            records, next_position = self._log.read(partition, cursor.position)
            # Asked afterwards: what was forgotten meanwhile must not pass for a gap.
            if cursor.position < partition.begin:
                raise self._out_of_range(cursor)
            cursor.next_position = next_position
            if records:
                return records
            cursor.position = next_position
        records = self._own_records(cursor, most)
        if records or cursor.position == partition.stable_end:
            return records
        if not partition.begin <= cursor.position <= self._end(partition):
            raise self._out_of_range(cursor)
        return records

    def _own_records(self, cursor: _Cursor, most: int) -> Sequence[RawRecord]:
        """Takes records that the reader's own transport has not committed."""
        partition = cursor.partition
        outbox = self._outboxes.get(partition)
        if not outbox:
            return ()
        if partition.claim is not outbox or outbox.reserved < len(outbox):
            self._log.reserve(outbox)
        if partition.claim is not outbox:
            return ()
        index = cursor.position - partition.claim_base
        if index < 0:
            return ()
        records = outbox.slice(index, min(index + most, outbox.reserved))
        cursor.next_position = cursor.position + len(records)
        return records

    def _end(self, partition: Partition) -> int:
        """Returns up to where this reader may read."""
        outbox = self._outboxes.get(partition)
        if not outbox:
            return partition.stable_end
        if partition.claim is None:
            return partition.stable_end + len(outbox)
        if partition.claim is not outbox:
            return partition.stable_end
        reserved_end = partition.claim_base + outbox.reserved
        if partition.committed_end > partition.claim_base:
            return reserved_end
        return partition.claim_base + len(outbox)

    def _out_of_range(self, cursor: _Cursor) -> OffsetOutOfRangeError:
        partition = cursor.partition
        message = (
            f"{cursor.at} has offsets {partition.begin} to {self._end(partition)}, "
            f"the reader stands at {cursor.position}"
        )
        return OffsetOutOfRangeError(
            message, topic=cursor.at.topic, partition=cursor.at.partition, offset=cursor.position
        )

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Holds partitions back until `resume`."""
        for at in partitions:
            self._cursor(at).is_paused = True

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Reads partitions on that were paused."""
        for at in partitions:
            self._cursor(at).is_paused = False

    def processed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Lets go of own records in repartition topics that need not be written any more."""
        for at, position in positions.items():
            cursor = self._cursors.get(at)
            if cursor is not None:
                partition = cursor.partition
                outbox = self._outboxes.get(partition)
                if outbox is not None and partition.claim is outbox:
                    outbox.forget(position - partition.claim_base)

    def position(self, partition: TopicPartition) -> int:
        """Returns the offset of the next record `poll` would return."""
        return self._cursor(partition).position

    def known_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns the end of the log, own uncommitted records included."""
        cursor = self._cursors.get(partition)
        return None if cursor is None else self._end(cursor.partition)

    def last_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns the end of the log, own uncommitted records included."""
        return self.known_end_offset(partition)

    def close(self) -> None:
        """Releases the reader. Closing again does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._cursors.clear()
            self._take_turns()
            self._log.wake()

    def _cursor(self, at: TopicPartition) -> _Cursor:
        try:
            return self._cursors[at]
        except KeyError:
            message = f"{at} is not read by this reader"
            raise TransportError(message, topic=at.topic, partition=at.partition) from None

    def _check_open(self) -> None:
        if self._is_closed:
            message = "the reader is closed; open another one"
            raise TransportError(message)
