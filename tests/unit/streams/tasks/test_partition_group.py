"""Which record of a task comes next, against a model that looks at every queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.record import RawRecord, offset_of
from thalweg.streams.tasks.partition_group import PartitionGroup, RecordQueue

NAMES = "abcdef"

Taken = tuple[str, int, int]
"""Partition, offset, timestamp."""


def group_of(names: Iterable[str], max_task_idle_ms: int = 0, **more: bool) -> PartitionGroup:
    """Returns a group of empty queues; `more` tells of which partitions the log has records."""
    queues = [RecordQueue(name, f"source of {name}") for name in names]
    return PartitionGroup(queues, max_task_idle_ms, lambda name: more.get(name, False))


def records(*timestamps: int, first_offset: int = 0) -> list[RawRecord]:
    """Returns raw records of these timestamps."""
    return [(at, b"k", b"v", first_offset + n) for n, at in enumerate(timestamps)]


def drained(group: PartitionGroup, most: int) -> list[Taken]:
    """Takes everything, at most `most` records at once."""
    taken: list[Taken] = []
    while (found := group.next_run(most)) is not None:
        queue, run = found
        assert 0 < len(run) <= most
        taken += [(queue.partition, offset_of(record[3]), record[0]) for record in run]
    return taken


class PriorityQueue:
    """`java.util.PriorityQueue` of (timestamp, name), by its documented sifting."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, str]] = []

    def offer(self, row: tuple[int, str]) -> None:
        rows = self.rows
        rows.append(row)
        at = len(rows) - 1
        while at and row[0] < rows[(at - 1) // 2][0]:
            parent = (at - 1) // 2
            rows[at], rows[parent] = rows[parent], rows[at]
            at = parent

    def poll(self) -> tuple[int, str]:
        rows = self.rows
        first, last = rows[0], rows.pop()
        if not rows:
            return first
        rows[0] = last
        at = 0
        while True:
            children = [child for child in (2 * at + 1, 2 * at + 2) if child < len(rows)]
            if not children:
                return first
            least = min(children, key=lambda child: rows[child][0])  # the left one of equals
            if rows[at][0] <= rows[least][0]:
                return first
            rows[at], rows[least] = rows[least], rows[at]
            at = least


class Model:
    """The JVM's group: one record at a time, through its priority queue."""

    def __init__(self, names: Iterable[str]) -> None:
        self.queues: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
        self.by_time = PriorityQueue()

    def add(self, name: str, batch: Sequence[RawRecord]) -> None:
        was_empty = not self.queues[name]
        self.queues[name] += [(offset_of(record[3]), record[0]) for record in batch]
        if was_empty and batch:
            self.by_time.offer((self.queues[name][0][1], name))

    def take(self) -> Taken | None:
        if not self.by_time.rows:
            return None
        _, name = self.by_time.poll()
        offset, timestamp = self.queues[name].pop(0)
        if self.queues[name]:
            self.by_time.offer((self.queues[name][0][1], name))
        return name, offset, timestamp


batches = st.tuples(st.sampled_from(NAMES), st.lists(st.integers(0, 9), max_size=6))
steps = st.lists(st.one_of(batches, st.integers(1, 5)), max_size=30)
"""Either records of a partition arrive, or some are taken."""


@given(steps)
def test_one_by_one_the_order_is_the_jvms_ties_included(
    steps: list[tuple[str, list[int]] | int],
) -> None:
    group, model = group_of(NAMES), Model(NAMES)
    offsets = dict.fromkeys(NAMES, 0)
    for step in steps:
        if isinstance(step, int):
            for _ in range(step):
                found, expected = group.next_run(1), model.take()
                if found is None:
                    assert expected is None
                    break
                queue, (record,) = found
                assert (queue.partition, offset_of(record[3]), record[0]) == expected
            continue
        name, timestamps = step
        batch = records(*timestamps, first_offset=offsets[name])
        offsets[name] += len(batch)
        model.add(name, batch)
        assert group.add(name, batch) == len(model.queues[name])
        assert group.buffered_count() == sum(map(len, model.queues.values()))
        assert group.empty_partitions() == [n for n, queue in model.queues.items() if not queue]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=3),
    st.integers(1, 12),
)
def test_runs_hand_over_what_would_have_come_record_by_record(
    queues: list[list[int]], most: int
) -> None:
    single, runs = group_of(NAMES[: len(queues)]), group_of(NAMES[: len(queues)])
    for name, timestamps in zip(NAMES, queues, strict=False):
        single.add(name, records(*timestamps))
        runs.add(name, records(*timestamps))
    assert drained(runs, most) == drained(single, 1)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=4, max_size=6),
    st.integers(1, 12),
)
def test_with_many_partitions_runs_differ_among_equal_timestamps_only(
    queues: list[list[int]], most: int
) -> None:
    group = group_of(NAMES[: len(queues)])
    waiting = {
        name: list(enumerate(timestamps)) for name, timestamps in zip(NAMES, queues, strict=False)
    }
    for name, timestamps in zip(NAMES, queues, strict=False):
        group.add(name, records(*timestamps))
    for name, offset, timestamp in drained(group, most):
        assert timestamp == min(queue[0][1] for queue in waiting.values() if queue)
        assert waiting[name].pop(0) == (offset, timestamp)
    assert not any(waiting.values())


def test_a_run_ends_where_another_partition_has_a_record_as_old() -> None:
    group = group_of("ab")
    group.add("a", records(1, 2, 3, 5, 6))
    group.add("b", records(3, 9))
    runs = []
    while (found := group.next_run(100)) is not None:
        runs.append((found[0].partition, [record[0] for record in found[1]]))
    assert runs == [("a", [1, 2]), ("b", [3]), ("a", [3, 5, 6]), ("b", [9])]


def test_the_only_partition_is_handed_over_whole_and_without_a_copy() -> None:
    group, batch = group_of("a"), records(5, 1, 9)
    group.add("a", batch)
    found = group.next_run(3)
    assert found is not None
    assert found[1] is batch
    assert found[0].source == "source of a"
    assert group.next_run(3) is None


def test_records_that_come_late_wait_behind_those_of_their_partition() -> None:
    group = group_of("ab")
    group.add("a", records(7))
    group.add("a", records(1, first_offset=1))
    group.add("b", records(3))
    assert drained(group, 10) == [("b", 0, 3), ("a", 0, 7), ("a", 1, 1)]


def test_nothing_added_is_nothing() -> None:
    group = group_of("a")
    assert group.add("a", []) == 0
    assert not group.is_ready(0)
    assert group.next_run(1) is None


def test_clear_forgets_everything_and_goes_on() -> None:
    group = group_of("ab")
    group.add("a", records(1, 2))
    group.add("b", records(1))
    group.next_run(1)
    group.clear()
    assert group.buffered_count() == 0
    assert group.next_run(1) is None
    group.add("b", records(4))
    assert drained(group, 1) == [("b", 0, 4)]


def test_a_partition_taken_up_later_is_waited_for() -> None:
    group = group_of("a", b=True)
    group.add("a", records(5))
    assert group.is_ready(0)
    group.open(RecordQueue("b", "source"))
    assert not group.is_ready(0)
    group.add("b", records(2))
    assert group.is_ready(0)
    assert drained(group, 1) == [("b", 0, 2), ("a", 0, 5)]


# -- idling --------------------------------------------------------------------------------


def test_by_default_a_task_waits_only_for_records_known_to_be_there() -> None:
    log = {"b": True}
    group = PartitionGroup([RecordQueue(n, n) for n in "ab"], 0, lambda name: log.get(name, False))
    group.add("a", records(1))
    assert not group.is_ready(0)
    assert not group.is_ready(1_000_000)
    log["b"] = False
    assert group.is_ready(0)


def test_idling_off_waits_for_nothing() -> None:
    group = group_of("ab", -1, b=True)
    assert not group.is_ready(0)
    group.add("a", records(1))
    assert group.is_ready(0)


def test_a_partition_at_its_end_is_waited_for_as_long_as_set() -> None:
    group = group_of("ab", 100)
    group.add("a", records(1, 2))
    assert [group.is_ready(now_ms) for now_ms in (1_000, 1_099, 1_100, 1_500)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_wait_starts_anew_when_the_partition_brought_something() -> None:
    group = group_of("ab", 100)
    group.add("a", records(1, 7))
    assert not group.is_ready(1_000)
    group.add("b", records(3))
    assert group.is_ready(1_050)
    assert drained(group, 1)[:2] == [("a", 0, 1), ("b", 0, 3)]
    group.add("a", records(8, first_offset=2))
    assert not group.is_ready(1_100)
    assert not group.is_ready(1_199)
    assert group.is_ready(1_200)


def test_who_was_silent_for_long_enough_is_not_waited_for_again() -> None:
    group = group_of("ab", 100)
    assert not group.is_ready(1_000)
    group.add("a", records(1))
    assert group.is_ready(1_200)


def test_each_partition_has_a_wait_of_its_own() -> None:
    group = group_of("abc", 100)
    group.add("a", records(1, 2, 9))
    group.add("b", records(1))
    assert not group.is_ready(1_000)
    assert group.is_ready(1_100)
    group.next_run(1)
    group.next_run(1)
    assert group.empty_partitions() == ["b", "c"]
    assert not group.is_ready(1_150)
    assert not group.is_ready(1_249)
    assert group.is_ready(1_250)


@given(
    st.integers(-1, 5),
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.fixed_dictionaries({name: st.booleans() for name in "abc"}),
            st.sets(st.sampled_from("abc")),
            st.integers(0, 3),
        ),
        max_size=15,
    ),
)
def test_readiness_follows_the_waits_of_all_partitions(
    idle_ms: int, rounds: list[tuple[int, dict[str, bool], set[str], int]]
) -> None:
    more: dict[str, bool] = {}
    group = PartitionGroup([RecordQueue(n, n) for n in "abc"], idle_ms, lambda name: more[name])
    buffered = dict.fromkeys("abc", 0)
    silent_since: dict[str, int] = {}
    now_ms = 0
    for passed_ms, has_more, arriving, takes in rounds:
        now_ms += passed_ms
        more.update(has_more)
        for name in sorted(arriving):
            group.add(name, records(now_ms))
            buffered[name] += 1
        for name in "abc":
            if buffered[name] or more[name]:
                silent_since.pop(name, None)
            else:
                silent_since.setdefault(name, now_ms)
        is_ready = any(buffered.values()) and (
            idle_ms < 0
            or all(
                buffered[name] or (not more[name] and now_ms - silent_since[name] >= idle_ms)
                for name in "abc"
            )
        )
        assert group.is_ready(now_ms) is is_ready
        for _ in range(takes):
            if (found := group.next_run(1)) is not None:
                buffered[found[0].partition] -= 1


@pytest.mark.parametrize("most", [1, 3, 4, 100])
def test_at_most_so_many_are_taken(most: int) -> None:
    group = group_of("a")
    group.add("a", records(*range(10)))
    sizes = []
    while (found := group.next_run(most)) is not None:
        sizes.append(len(found[1]))
    assert sum(sizes) == 10
    assert sizes[0] == min(most, 10)
