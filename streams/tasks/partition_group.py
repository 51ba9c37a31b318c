"""The choice of a task's next record: the co-partitioned inputs, ordered by timestamp.

Owns the buffered records of a task's partitions, the choice between them, and the waiting for
partitions that may still have earlier records. It is pure: it takes records and `now_ms` and
returns what to process; it reads no clock and no socket.

The next record is the one with the lowest timestamp among the heads of the queues. Several
consecutive records of one partition are returned as one run. At equal timestamps the order is that
of the JVM's binary heap: the queue that was used last comes after the others. With four partitions
or more, a run is one step of the heap, but in the JVM each record is one step, so the order of
equal heads may differ.

Source: JVM `PartitionGroup`, `RecordQueue`; KIP-353, KIP-695; semantics D14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from thalweg.stores.record import RawRecord

FOREVER: Final = 1 << 62


class RecordQueue:
    """Buffered records of one partition, oldest first; timestamps may fall."""

    __slots__ = ("_position", "_records", "partition", "source")

    def __init__(self, partition: Any, source: Any) -> None:
        self.partition = partition
        self.source = source
        self._records: Sequence[RawRecord] = ()
        self._position = 0

    def __len__(self) -> int:
        return len(self._records) - self._position

    @property
    def head_timestamp(self) -> int:
        """Timestamp of the next record; the queue must not be empty."""
        return self._records[self._position][0]

    def add(self, records: Sequence[RawRecord]) -> None:
        """Appends records behind those that wait."""
        if len(self):
            self._records = [*self._records[self._position :], *records]
        else:
            self._records = records
        self._position = 0

    def take(self, most: int) -> Sequence[RawRecord]:
        """Removes and returns up to `most` records, all of them without a copy."""
        records, start = self._records, self._position
        if start == 0 and len(records) <= most:
            self._records, self._position = (), 0
            return records
        run = records[start : start + most]
        self._position = start + len(run)
        return run

    def take_before(self, limit: int, most: int) -> Sequence[RawRecord]:
        """Takes the first record, and those behind it while they are older than `limit`."""
        records, position = self._records, self._position
        stop = min(len(records), position + most)
        end = position + 1
        while end < stop and records[end][0] < limit:
            end += 1
        return self.take(end - position)


def _nothing_more(_partition: Any) -> bool:
    return False


class PartitionGroup:
    """The queues of one task. Not thread-safe: one worker owns it.

    Args:
        queues: one per partition.
        max_task_idle_ms: how long to wait for an empty partition that is known to have
            nothing more; -1 does not wait even for partitions known to have more.
        has_more: tells whether the log is known to hold records of a partition that were not
            handed over yet; asked once per run of records, and only about empty partitions.
    """

    def __init__(
        self,
        queues: Iterable[RecordQueue],
        max_task_idle_ms: int = 0,
        has_more: Callable[[Any], bool] = _nothing_more,
    ) -> None:
        self.queues = {queue.partition: queue for queue in queues}
        self._max_task_idle_ms = max_task_idle_ms
        self._heap: list[RecordQueue] = []
        self._waits_until_ms: dict[Any, int] = {}
        self._has_more = has_more

    def open(self, queue: RecordQueue) -> None:
        """Takes up a partition, with an empty queue."""
        self.queues[queue.partition] = queue

    def close(self, partition: Any) -> None:
        """Lets go of a partition and of what it has buffered."""
        self.queues.pop(partition).take(FOREVER)
        self._waits_until_ms.pop(partition, None)
        left = [queue for queue in self._heap if queue.partition != partition]
        self._heap.clear()
        for queue in left:
            _push(self._heap, queue)

    def add(self, partition: Any, records: Sequence[RawRecord]) -> int:
        """Buffers records of one partition and returns how many wait there now."""
        queue = self.queues[partition]
        was_empty = not len(queue)
        queue.add(records)
        if was_empty and records:
            _push(self._heap, queue)
        return len(queue)

    def empty_partitions(self) -> list[Any]:
        """Returns the partitions of which nothing is buffered."""
        return [partition for partition, queue in self.queues.items() if not len(queue)]

    def buffered_count(self) -> int:
        """Counts the records waiting in all queues."""
        return sum(map(len, self._heap))

    def is_ready(self, now_ms: int) -> bool:
        """Decides whether to process or to wait for an empty partition.

        The wait for a partition begins when it is first found empty with nothing more in the
        log, whether or not others have records then: one that is silent anyway delays nobody.
        """
        heap, waits = self._heap, self._waits_until_ms
        if self._max_task_idle_ms < 0:
            return bool(heap)
        if len(heap) == len(self.queues):
            if waits:
                waits.clear()
            return bool(heap)
        if self._max_task_idle_ms == 0:
            return bool(heap) and not any(map(self._has_more, self.empty_partitions()))
        has_waited = True
        for partition, queue in self.queues.items():
            if len(queue):
                waits.pop(partition, None)
            elif self._has_more(partition):
                waits.pop(partition, None)
                has_waited = False
            elif now_ms < waits.setdefault(partition, now_ms + self._max_task_idle_ms):
                has_waited = False
        return has_waited and bool(heap)

    def next_run(self, most: int) -> tuple[RecordQueue, Sequence[RawRecord]] | None:
        """Takes the records that come next, all of one partition, at most `most`.

        Returns:
            The queue they came from and the records; None when nothing is buffered.
        """
        heap = self._heap
        if not heap:
            return None
        queue = heap[0]
        if len(heap) == 1:
            run = queue.take(most)
        else:
            others = min(other.head_timestamp for other in heap[1:3])
            run = queue.take_before(others, most)
        _pop(heap)
        if len(queue):
            _push(heap, queue)
        return queue, run

    def clear(self) -> None:
        """Forgets everything buffered."""
        for queue in self.queues.values():
            queue.take(FOREVER)
        self._heap.clear()
        self._waits_until_ms.clear()


def _push(heap: list[RecordQueue], queue: RecordQueue) -> None:
    """Sifts up with a strict comparison, as `java.util.PriorityQueue` does."""
    timestamp = queue.head_timestamp
    index = len(heap)
    heap.append(queue)
    while index:
        parent = (index - 1) >> 1
        if timestamp >= heap[parent].head_timestamp:
            break
        heap[index] = heap[parent]
        index = parent
    heap[index] = queue


def _pop(heap: list[RecordQueue]) -> None:
    """Removes the root and sifts the last queue down from there.

    The root's own head timestamp may have changed or be gone: it is not looked at.
    """
    last = heap.pop()
    if not heap:
        return
    size, timestamp, index = len(heap), last.head_timestamp, 0
    while (child := 2 * index + 1) < size:
        if child + 1 < size and heap[child].head_timestamp > heap[child + 1].head_timestamp:
            child += 1
        if timestamp <= heap[child].head_timestamp:
            break
        heap[index] = heap[child]
        index = child
    heap[index] = last
