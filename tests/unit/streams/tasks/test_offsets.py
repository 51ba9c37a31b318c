"""The offsets of a task, by themselves."""

from __future__ import annotations

from thalweg.streams.tasks.offsets import TIME_PREFIX, Offsets
from thalweg.streams.transport.port import TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def begun(committed: dict[TopicPartition, int]) -> Offsets:
    """Returns offsets of two partitions that begin at 5 and 7."""
    offsets = Offsets()
    for partition in (A, B):
        offsets.open_time(partition, -1)
    offsets.begin({A: 5, B: 7}, committed)
    return offsets


def test_only_what_the_group_does_not_have_is_committable() -> None:
    offsets = begun({A: 5})
    assert offsets.committable() == {B: (7, -1)}, "where it begins, for nothing was committed"
    offsets.committed()
    assert offsets.committable() == {}
    offsets.move(A, 6)
    offsets.times[A].ms = 100
    assert offsets.uncommitted() == {A: 6}
    assert offsets.committable() == {A: (6, 100)}


def test_a_time_that_moved_alone_is_committed_beside_all_offsets() -> None:
    offsets, time_ms = begun({A: 5, B: 7}), 3
    offsets.keep({TIME_PREFIX + "store": 3, "of the JVM": 1})
    assert offsets.keep_time("store", lambda: time_ms) == 3
    assert offsets.keep_time("store", lambda: -1) == 3
    assert offsets.keep_time("new", lambda: -1) == -1
    assert offsets.committable() == {}
    time_ms = 4
    assert offsets.committable() == {A: (5, -1), B: (7, -1)}
    assert offsets.kept() == {TIME_PREFIX + "store": 4, "of the JVM": 1}
    offsets.committed()
    assert offsets.committable() == {}


def test_offsets_that_are_no_records_count_where_nothing_waits() -> None:
    offsets = begun({A: 5, B: 7})
    offsets.note_positions([A])
    assert offsets.next == {A: 5, B: 7}, "nobody tells positions"
    offsets.follow({A: 9, B: 9}.__getitem__)
    offsets.note_positions([A])
    assert offsets.next == {A: 9, B: 7}


def test_nothing_is_left_of_a_partition_that_is_gone() -> None:
    offsets = begun({A: 5})
    offsets.drop(A)
    assert offsets.next == {B: 7}
    assert offsets.times.keys() == {B}
    offsets.begin({A: 5}, {})
    assert A in offsets.uncommitted()
