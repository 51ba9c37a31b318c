"""The positions of a task: what is processed, and what is committed.

Owns, per partition, the offset after the last processed record, the committed offset and the
partition time; and the numbers that operators commit with the offsets, such as their stream times.
Nothing else writes them. It must not know how records are processed or when a commit happens.

Source: JVM `StreamTask.committableOffsetsAndMetadata`, `StreamTask.partitionTimes`, KIP-695.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from thalweg.streams.transport.port import TopicPartition

TIME_PREFIX: Final = "stream-time/"
"""Before the name of an operator's time in the metadata of commits. No store can be called so:
under its bare name the JVM keeps what it has emitted."""


class PartitionTime:
    """The highest timestamp of a partition that was processed; its source moves it.

    A cell, because two short runs of records may follow each other at once: a look into a
    dictionary for each of them would show in joins.
    """

    __slots__ = ("ms",)

    def __init__(self, ms: int = -1) -> None:
        self.ms = ms


class Offsets:
    """The offsets of one task. Not thread-safe, but for reading `next` and `committed_so_far`.

    Attributes:
        next: partition -> the offset behind all that was processed. For reading only.
        times: partition -> the highest timestamp that was processed, -1 before any.
    """

    __slots__ = ("_committed", "_kept", "_operator_times", "_position", "next", "times")

    def __init__(self) -> None:
        self.next: dict[TopicPartition, int] = {}
        self.times: dict[TopicPartition, PartitionTime] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._kept: dict[str, int] = {}
        self._operator_times: dict[str, list[Callable[[], int]]] = {}
        self._position: Callable[[TopicPartition], int] | None = None

    # -- the beginning -------------------------------------------------------------------

    def keep(self, kept: Mapping[str, int]) -> None:
        """Takes over what operators kept with the last commit; none keeps anything yet."""
        self._kept = dict(kept)
        self._operator_times.clear()

    def begin(
        self, positions: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]
    ) -> None:
        """Begins to read partitions.

        Args:
            positions: the offsets to begin at.
            committed: what the group has of them.
        """
        self.next.update(positions)
        self._committed.update(committed)

    def follow(self, position: Callable[[TopicPartition], int]) -> None:
        """Counts offsets that are no records, see `note_positions`.

        Args:
            position: tells the offset up to which everything of a partition was handed over.
        """
        self._position = position

    def drop(self, partition: TopicPartition) -> None:
        """Forgets a partition that is gone."""
        for each in (self.next, self._committed, self.times):
            each.pop(partition, None)

    # -- processing ----------------------------------------------------------------------

    def move(self, partition: TopicPartition, offset: int) -> None:
        """Notes that everything of a partition before `offset` is processed, or passed over."""
        self.next[partition] = offset

    def open_time(self, partition: TopicPartition, time_ms: int) -> None:
        """Takes over the highest timestamp of a partition that was processed before."""
        self.times[partition] = PartitionTime(time_ms)

    def note_positions(self, empty: Iterable[TopicPartition]) -> None:
        """Counts offsets that are no records, where all that was read is processed.

        Markers of transactions, records of aborted ones and what compaction left out are
        processed when everything before them is.

        Args:
            empty: the partitions of which nothing waits to be processed.
        """
        position = self._position
        if position is not None:
            for partition in empty:
                self.next[partition] = position(partition)

    # -- what operators keep -------------------------------------------------------------

    def keep_time(self, name: str, read: Callable[[], int]) -> int:
        """Keeps an operator's own stream time with every commit.

        Returns:
            The time as of the last commit, -1 if it is not known.
        """
        return self._keep(TIME_PREFIX + name, read)

    def keep_emitted(self, name: str, read: Callable[[], int]) -> int:
        """Keeps with every commit how far an operator has sent on what it sends once.

        Returns:
            The progress as of the last commit, -1 if there is none.
        """
        return self._keep(name, read)

    def _keep(self, name: str, read: Callable[[], int]) -> int:
        self._operator_times.setdefault(name, []).append(read)
        return self._kept.get(name, -1)

    def kept(self) -> dict[str, int]:
        """Returns what the task's operators keep with a commit, by name: their stream times.

        What others have kept there, such as a JVM member the progress of what it emits, stays.
        """
        every = self._operator_times.items()
        times = {name: max(read() for read in readers) for name, readers in every}
        return {
            **{name: n for name, n in self._kept.items() if not name.startswith(TIME_PREFIX)},
            **{name: time_ms for name, time_ms in times.items() if time_ms >= 0},
        }

    # -- commit --------------------------------------------------------------------------

    def committed_so_far(self) -> dict[TopicPartition, int]:
        """Returns partition -> next offset, as the group has it. Any thread may call it."""
        return self._committed.copy()

    def uncommitted(self) -> dict[TopicPartition, int]:
        """Returns partition -> next offset, where the group does not have it.

        Where nothing was ever committed, that is the position the task began at.
        """
        committed = self._committed
        return {
            partition: offset
            for partition, offset in self.next.items()
            if committed.get(partition) != offset
        }

    def committable(self) -> dict[TopicPartition, tuple[int, int]]:
        """Returns partition -> (next offset, partition time), where the group does not have it.

        If only what is kept beside the offsets has changed, as when a punctuation has moved an
        operator's time, all partitions are returned.
        """
        offsets: Mapping[TopicPartition, int] = self.uncommitted()
        if not offsets and self.kept() != self._kept:
            offsets = self.next
        times = self.times
        return {partition: (offset, times[partition].ms) for partition, offset in offsets.items()}

    def committed(self) -> None:
        """Notes that the group has all of this."""
        self._committed.update(self.next)
        self._kept = self.kept()
