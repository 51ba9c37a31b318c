"""When punctuations are due: the grid, what was missed, cancelling; and in a task, their place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import (
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    StreamsBuilder,
    serdes,
)
from thalweg.streams.tasks.punctuation import NEVER, PunctuationQueue, Schedule
from thalweg.streams.testing import TopologyTestDriver

STREAM_TIME, WALL_CLOCK = PunctuationType.STREAM_TIME, PunctuationType.WALL_CLOCK_TIME

Calls = list[tuple[str, int]]


def queue_of(calls: Calls, *schedules: tuple[str, int, int]) -> tuple[PunctuationQueue, Any]:
    """Returns a queue of (name, due, interval) and what runs it, noting into `calls`."""
    queue = PunctuationQueue()
    for name, due_ms, interval_ms in schedules:
        queue.add(
            Schedule(name, due_ms, interval_ms, lambda now_ms, n=name: calls.append((n, now_ms)))
        )

    def run(schedule: Schedule, now_ms: int) -> None:
        schedule.callback(now_ms)

    return queue, run


def ran(due_ms: int, interval_ms: int, moments: list[int]) -> list[int]:
    """Returns at which moments one schedule runs."""
    calls: Calls = []
    queue, run = queue_of(calls, ("p", due_ms, interval_ms))
    for now_ms in moments:
        queue.run_due(now_ms, run)
    return [now_ms for _, now_ms in calls]


# -- the grid ------------------------------------------------------------------------------


def test_missed_periods_make_one_call_and_the_grid_stays() -> None:
    moments = [99, 100, 101, 200, 1001, 1099, 1100]
    assert ran(100, 100, moments) == [100, 200, 1001, 1100]


def test_an_anchored_grid_stays_on_its_anchor() -> None:
    moments = [49, 50, 149, 150, 250, 1051, 1149, 1150]
    assert ran(50, 100, moments) == [50, 150, 250, 1051, 1150]


@given(
    st.integers(0, 50), st.integers(1, 20), st.lists(st.integers(0, 400), max_size=40).map(sorted)
)
def test_a_schedule_runs_once_for_the_grid_points_passed_since_the_last_look(
    anchor: int, interval: int, moments: list[int]
) -> None:
    expected, passed = [], 0
    for now_ms in moments:
        points = sum(1 for point in range(anchor, now_ms + 1, interval))
        if points > passed:
            expected.append(now_ms)
            passed = points
    assert ran(anchor, interval, moments) == expected


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=6),
    st.lists(st.integers(0, 100), max_size=20).map(sorted),
)
def test_next_due_is_the_earliest_of_all_and_nothing_due_is_left(
    schedules: list[tuple[int, int]], moments: list[int]
) -> None:
    queue, run = queue_of([], *((str(n), *one) for n, one in enumerate(schedules)))
    assert queue.next_due_ms == min((due for due, _ in schedules), default=NEVER)
    for now_ms in moments:
        is_due = queue.next_due_ms <= now_ms
        assert queue.run_due(now_ms, run) is is_due
        next_points = [
            due + max(0, (now_ms - due) // interval + 1) * interval for due, interval in schedules
        ]
        assert queue.next_due_ms == min(next_points, default=NEVER)


def test_those_due_together_run_in_the_order_they_were_queued() -> None:
    calls: Calls = []
    queue, run = queue_of(calls, ("late", 20, 10), ("first", 10, 10), ("second", 10, 10))
    queue.run_due(25, run)
    assert calls == [("first", 25), ("second", 25), ("late", 25)]


# -- cancelling ----------------------------------------------------------------------------


def test_what_was_cancelled_does_not_run() -> None:
    calls: Calls = []
    queue, run = queue_of(calls)
    schedule = Schedule("p", 10, 10, lambda now_ms: calls.append(("p", now_ms)))
    queue.add(schedule)
    queue.run_due(10, run)
    schedule.cancel()
    schedule.cancel()
    assert queue.run_due(100, run) is False
    assert calls == [("p", 10)]
    assert queue.next_due_ms == NEVER


def test_a_punctuator_may_cancel_itself_and_others() -> None:
    calls: Calls = []
    queue = PunctuationQueue()
    schedules: dict[str, Schedule] = {}

    def once(now_ms: int) -> None:
        calls.append(("once", now_ms))
        schedules["once"].cancel()
        schedules["other"].cancel()

    schedules["once"] = Schedule("once", 10, 10, once)
    schedules["other"] = Schedule("other", 10, 10, lambda now_ms: calls.append(("other", now_ms)))
    queue.add(schedules["once"])
    queue.add(schedules["other"])
    queue.run_due(10, lambda schedule, now_ms: schedule.callback(now_ms))
    queue.run_due(100, lambda schedule, now_ms: schedule.callback(now_ms))
    assert calls == [("once", 10)]


def test_a_punctuator_may_schedule_another_one() -> None:
    calls: Calls = []
    queue = PunctuationQueue()

    def spawn(now_ms: int) -> None:
        calls.append(("spawn", now_ms))
        queue.add(Schedule("child", now_ms + 5, 100, lambda at: calls.append(("child", at))))

    queue.add(Schedule("spawn", 10, 1_000, spawn))
    queue.run_due(10, lambda schedule, now_ms: schedule.callback(now_ms))
    assert queue.next_due_ms == 15
    queue.run_due(15, lambda schedule, now_ms: schedule.callback(now_ms))
    assert calls == [("spawn", 10), ("child", 15)]


# -- in a task -----------------------------------------------------------------------------


class Scheduling(Processor[Any, Any, Any, Any]):
    """Forwards its records, and lets `set_up` schedule."""

    def __init__(self, set_up: Callable[[ProcessorContext[Any, Any]], None]) -> None:
        self._set_up = set_up

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        super().init(context)
        self._set_up(context)

    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record)


def driver_of(
    set_up: Callable[[ProcessorContext[Any, Any]], None], wall_clock_ms: int = 0
) -> TopologyTestDriver:
    builder = StreamsBuilder()
    builder.stream("in").process(lambda: Scheduling(set_up)).to("out")
    return TopologyTestDriver(
        builder,
        wall_clock_ms=wall_clock_ms,
        default_key_serde=serdes.string,
        default_value_serde=serdes.string,
    )


def test_stream_time_fires_with_the_first_record_after_it_was_processed() -> None:
    def set_up(context: ProcessorContext[Any, Any]) -> None:
        context.schedule(
            timedelta(milliseconds=10),
            STREAM_TIME,
            lambda now_ms: context.forward(Record("time", str(now_ms), now_ms)),
        )

    with driver_of(set_up) as driver:
        records, out = driver.create_input_topic("in"), driver.create_output_topic("out")
        seen = []
        for at in (0, 5, 9, 10, 11, 100):
            records.pipe_input("record", str(at), at)
            seen.append([row for row in out.read_key_values_to_list() if row[0] == "time"])
        assert seen == [[("time", "0")], [], [], [("time", "10")], [], [("time", "100")]]
        records.pipe_input("record", "200", 200)
        assert out.read_key_values_to_list() == [("record", "200"), ("time", "200")]


def test_wall_clock_fires_one_interval_from_now() -> None:
    calls: list[int] = []
    with driver_of(lambda context: context.schedule(10, WALL_CLOCK, calls.append), 7) as driver:
        for step in (3, 3, 4, 100):
            driver.advance_wall_clock_time(step)
            calls.append(-1)
    assert calls == [-1, -1, 17, -1, 117, -1]


@pytest.mark.parametrize(
    ("start", "now_ms", "expected"),
    [
        (50, 0, [50, 150]),
        (datetime(1970, 1, 1, 0, 0, 0, 50_000, tzinfo=UTC), 0, [50, 150]),
        (50, 50, [60, 150]),
        (50, 60, [150]),
        (50, 250, [260, 350]),
        (0, 250, [300, 400]),
    ],
)
def test_a_wall_clock_grid_starts_at_its_anchor(
    start: datetime | int, now_ms: int, expected: list[int]
) -> None:
    calls: list[int] = []

    def set_up(context: ProcessorContext[Any, Any]) -> None:
        context.schedule(100, WALL_CLOCK, calls.append, start_time=start)

    with driver_of(set_up, now_ms) as driver:
        for _ in range(15):
            driver.advance_wall_clock_time(10)
    assert calls == expected


def test_a_stream_time_grid_starts_at_its_anchor() -> None:
    calls: list[int] = []

    def set_up(context: ProcessorContext[Any, Any]) -> None:
        context.schedule(100, STREAM_TIME, calls.append, start_time=50)

    with driver_of(set_up) as driver:
        records = driver.create_input_topic("in")
        for at in (0, 49, 50, 149, 1051, 1149, 1150):
            records.pipe_input("k", "v", at)
    assert calls == [50, 1051, 1150]


def test_a_punctuation_has_no_record() -> None:
    seen: list[Any] = []

    def set_up(context: ProcessorContext[Any, Any]) -> None:
        def look(now_ms: int) -> None:
            metadata = context.record_metadata()
            assert metadata is not None
            seen.append((metadata, context.current_stream_time_ms(), now_ms))
            context.forward(Record("p", None, 7))

        context.schedule(1_000, STREAM_TIME, look)

    with driver_of(set_up) as driver:
        driver.pipe_raw("in", b"k", b"v", 5, [("h", b"1")])
        out = driver.create_output_topic("out").read_records_to_list()
    assert seen == [((None, -1, -1), 5, 5)]
    assert [(one.key, one.timestamp, list(one.headers)) for one in out] == [
        ("k", 5, [("h", b"1")]),
        ("p", 7, []),
    ]


@pytest.mark.parametrize(
    ("interval", "start", "message"),
    [
        (0, None, "at least 1 ms"),
        (timedelta(microseconds=999), None, "at least 1 ms"),
        (-5, None, "at least 1 ms"),
        (10, -1, "before 1970"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(
    interval: timedelta | int, start: int | None, message: str
) -> None:
    def set_up(context: ProcessorContext[Any, Any]) -> None:
        with pytest.raises(ValueError, match=message):
            context.schedule(interval, STREAM_TIME, print, start_time=start)

    driver_of(set_up).close()
