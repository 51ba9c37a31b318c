"""The ends of changelogs, by counting instead of asking.

Owns the offset after the last flushed record of each partition. A delivery report per record would
cost as much as sending the record; counting is one addition. The count starts from the partition's
end before the first record. It is exact while this transport is the only writer of the partition,
as it is for a changelog. If there are other writers, such as a worker that does not know yet that
its task moved, the count is too low, never too high. So a store always contains what its checkpoint
says.

    base (asked once) ─► + records flushed ─► + 1 marker of each transaction before

A transaction leaves one marker after its records in every partition that it wrote to. The marker is
written shortly after the commit was acknowledged, but before the records of the next transaction;
it is counted only then. The records of an aborted transaction are not counted.

It must not know who sends, or how an end is requested.

Source: JVM `RecordCollectorImpl.offsets`, which reads them from each record's metadata;
KIP-98 (markers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from thalweg.streams.transport.port import TopicPartition


class PendingCounts(dict[int, int]):
    """Records sent to the partitions of one topic and not flushed; reading an absent one is 0.

    `counts[partition] += 1` is all a record costs.
    """

    __slots__ = ("_on_first", "topic")

    def __init__(self, topic: str, on_first: Callable[[TopicPartition], None]) -> None:
        super().__init__()
        self.topic = topic
        self._on_first = on_first

    def __missing__(self, partition: int) -> int:
        self._on_first(TopicPartition(self.topic, partition))
        return 0


class WrittenOffsets:
    """Keeps the count of one transport. Not thread-safe.

    Args:
        end_of: asks the log for the end of a partition; called before the first record of a
            partition is sent whose end was not noted.
        transactional: whether records are followed by markers.
    """

    def __init__(self, end_of: Callable[[TopicPartition], int], *, transactional: bool) -> None:
        self._end_of = end_of
        self._transactional = transactional
        self._ends: dict[TopicPartition, int] = {}
        self._markers: set[TopicPartition] = set()
        self._pending: dict[str, PendingCounts] = {}
        self._before: dict[TopicPartition, tuple[int, bool]] = {}
        self._sent: set[TopicPartition] = set()

    def counts(self, topic: str) -> PendingCounts:
        """Returns the counts of a topic, for its sender to add to."""
        counts = self._pending.get(topic)
        if counts is None:
            counts = self._pending[topic] = PendingCounts(topic, self._begin)
        return counts

    def _begin(self, partition: TopicPartition) -> None:
        if partition not in self._ends:
            self._ends[partition] = self._end_of(partition)

    def note_end(self, partition: TopicPartition, end_offset: int) -> None:
        """Begins to count from an end the log told, unless records of ours are under way.

        Told of a partition whose store is about to be restored up to there: whatever others
        wrote to it meanwhile, the store will hold.
        """
        counts = self._pending.get(partition.topic)
        if partition in self._before or (counts and partition.partition in counts):
            return
        self._ends[partition] = end_offset
        self._markers.discard(partition)

    def flushed(self) -> None:
        """Notes that everything sent is in the log."""
        for topic, counts in self._pending.items():
            for number, records in counts.items():
                partition = TopicPartition(topic, number)
                has_marker = partition in self._markers
                if self._transactional and partition not in self._before:
                    self._before[partition] = self._ends[partition], has_marker
                self._ends[partition] += records + has_marker
                self._markers.discard(partition)
                self._sent.add(partition)
            counts.clear()

    def committed(self) -> None:
        """Notes that what was flushed is committed."""
        self._markers.update(self._before)
        self._before.clear()

    def aborted(self) -> None:
        """Notes that everything since the last commit is taken back, or lost."""
        for partition, (end_offset, has_marker) in self._before.items():
            self._ends[partition] = end_offset
            if has_marker:
                self._markers.add(partition)
        self._before.clear()
        for counts in self._pending.values():
            counts.clear()

    def offsets(self) -> Mapping[TopicPartition, int]:
        """Returns the offset behind the last flushed record of each partition written to."""
        return {partition: self._ends[partition] for partition in self._sent}
