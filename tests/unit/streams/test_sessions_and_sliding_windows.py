"""Session and sliding windows, and results on close, through the test driver.

Results are compared with those of plain Python over all records at once, whatever the cache, the
store and the order of records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg import (
    EmitStrategy,
    KTable,
    Materialized,
    Record,
    SessionWindow,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    TimeWindow,
    TimeWindows,
    TopologyError,
    TopologyTestDriver,
    UnlimitedWindows,
    Windowed,
    serdes,
)
from thalweg.topology.processor import Processor, ProcessorContext

Event = tuple[str, int]
"""(key, time)."""

ON_CLOSE = EmitStrategy.on_window_close()
FOREVER = 10**9

_events = st.lists(
    st.tuples(st.sampled_from(["a", "ab", "b"]), st.integers(0, 60)), min_size=1, max_size=40
)
_caches = st.sampled_from([None, 0, 300, 1_000_000])
_stores = st.sampled_from(["memory", "rocks"])


def kept(cache: int | None, store: str, retention: int | None = None) -> Materialized[str, Any]:
    return Materialized(
        "st",
        key_serde=serdes.string,
        caching=cache is not None,
        store="memory" if store == "memory" else "rocks",
        retention=retention,
    )


def grouped(builder: StreamsBuilder) -> Any:
    return builder.stream("in", key_serde=serdes.string, value_serde=serdes.string).group_by_key()


def to_out(table: KTable[Any, Any], serde: Any) -> None:
    table.to_stream().to("out", key_serde=serde, value_serde=serdes.int64)


class Run:
    """One topology over events, committed at some of them."""

    def __init__(self, builder: StreamsBuilder, cache: int | None = 0, **config: Any) -> None:
        self.driver = TopologyTestDriver(
            builder, commit="manual", statestore_cache_max_bytes=cache or 0, **config
        )
        self.topic = self.driver.create_input_topic("in", serdes.string, serdes.string)
        self.rows: dict[Any, int] = {}
        self.told: list[tuple[Any, int | None, int]] = []

    def pipe(self, events: Iterable[Event], key_serde: Any, commits: int = 7) -> Run:
        out = self.driver.create_output_topic("out", key_serde, serdes.int64)
        for number, (key, time) in enumerate(events):
            self.topic.pipe_input(key, "v", time)
            if number % commits == 0:
                self.driver.commit()
        self.driver.commit()
        for record in out.read_records_to_list():
            self.told.append((record.key, record.value, record.timestamp))
            if record.value is None:
                self.rows.pop(record.key, None)
            else:
                self.rows[record.key] = record.value
        return self

    def stored(self) -> dict[Any, Any]:
        return dict(self.driver.get_state_store("st").all())

    def close(self) -> None:
        self.driver.close()


def times_of(events: Iterable[Event]) -> dict[str, list[int]]:
    times: dict[str, list[int]] = defaultdict(list)
    for key, time in sorted(events, key=lambda event: event[1]):
        times[key].append(time)
    return times


def sessions_of(events: Iterable[Event], gap: int) -> dict[Windowed[str], int]:
    found = {}
    for key, times in times_of(events).items():
        first = last = times[0]
        count = 0
        for time in [*times, FOREVER]:
            if time - last > gap:
                found[Windowed(key, SessionWindow(first, last))] = count
                first, count = time, 0
            last, count = time, count + 1
    return found


def sliding_of(events: Iterable[Event], size: int) -> dict[Windowed[str], int]:
    found = {}
    for key, times in times_of(events).items():
        for start in {max(time - size, 0) for time in times} | {time + 1 for time in times}:
            count = bisect_right(times, start + size) - bisect_left(times, start)
            if count:
                found[Windowed(key, TimeWindow(start, start + size))] = count
    return found


@settings(max_examples=80, deadline=None)
@given(_events, _caches, _stores)
@example([("a", 0), ("a", 10), ("a", 5)], None, "memory")
def test_sessions_are_those_of_all_records(
    events: list[Event], cache: int | None, store: str
) -> None:
    builder = StreamsBuilder()
    windowed = grouped(builder).windowed_by(SessionWindows.of_inactivity_gap(4, 100))
    serde = serdes.session_windowed(serdes.string)
    to_out(windowed.count(materialized=kept(cache, store)), serde)
    run = Run(builder, cache).pipe(events, serde)

    expected = sessions_of(events, 4)
    assert run.rows == run.stored() == expected
    assert all(time == session.window.end_ms for session, _, time in run.told)
    run.close()


@settings(max_examples=80, deadline=None)
@given(_events, _caches, _stores)
@example([("a", 3), ("a", 1), ("a", 12), ("a", 2)], 0, "memory")
def test_sliding_windows_are_those_of_all_records(
    events: list[Event], cache: int | None, store: str
) -> None:
    builder = StreamsBuilder()
    windowed = grouped(builder).windowed_by(SlidingWindows.of_time_difference(8, 100))
    serde = serdes.windowed(serdes.string, 8)
    to_out(windowed.count(materialized=kept(cache, store)), serde)
    run = Run(builder, cache).pipe(events, serde)

    expected = sliding_of(events, 8)
    early = {window for window in expected if window.window.start_ms == 0}
    told = {window: count for window, count in run.rows.items() if window not in early}
    assert told == {window: n for window, n in expected.items() if window not in early}
    # The window that begins at 0 has the records that are too early for one of their own.
    for key, times in times_of(events).items():
        first = Windowed(key, TimeWindow(0, 8))
        if any(time < 8 for time in times):
            assert run.rows[first] == sum(time <= 8 for time in times)
    assert {window: pair.value for window, pair in run.stored().items()} == run.rows
    run.close()


@settings(max_examples=60, deadline=None)
@given(_events, st.sampled_from([0, 1_000_000]), _stores, st.sampled_from(["time", "slide"]))
def test_what_is_sent_on_at_the_close_is_the_last_result(
    events: list[Event], cache: int, store: str, kind: str
) -> None:
    windows: Any = TimeWindows.of_size(10, 100).advance_by(5)
    if kind == "slide":
        windows = SlidingWindows.of_time_difference(10, 100)
    size = windows.size_ms
    serde = serdes.windowed(serdes.string, size)
    results = []
    for strategy in (EmitStrategy.on_window_update(), ON_CLOSE):
        builder = StreamsBuilder()
        windowed = grouped(builder).windowed_by(windows).emit_strategy(strategy)
        to_out(windowed.count(materialized=kept(cache, store, 10_000)), serde)
        run = Run(builder, cache).pipe([*events, ("z", 1_000)], serde)
        results.append(run)
    updates, finals = results

    closed = {window: n for window, n in updates.rows.items() if window.window.end_ms < 900}
    assert finals.rows == closed
    assert len(finals.told) == len(closed)
    order = [(window.window.start_ms, window.key) for window, _, _ in finals.told]
    assert order == sorted(order)
    for run in results:
        run.close()


@settings(max_examples=40, deadline=None)
@given(_events, _stores)
def test_sessions_are_sent_on_at_their_close(events: list[Event], store: str) -> None:
    builder = StreamsBuilder()
    windowed = grouped(builder).windowed_by(SessionWindows.of_inactivity_gap(4, 100))
    serde = serdes.session_windowed(serdes.string)
    to_out(windowed.emit_strategy(ON_CLOSE).count(materialized=kept(0, store, 10_000)), serde)
    run = Run(builder).pipe([*events, ("z", 1_000)], serde)

    assert run.rows == sessions_of(events, 4)
    order = [(session.window.end_ms, session.key) for session, _, _ in run.told]
    ends = [end for end, _ in order]
    assert ends == sorted(ends)
    assert len(run.told) == len(run.rows)
    run.close()


def test_results_are_looked_for_once_in_the_interval() -> None:
    builder = StreamsBuilder()
    windowed = grouped(builder).windowed_by(TimeWindows.of_size(10)).emit_strategy(ON_CLOSE)
    to_out(windowed.count("st"), serdes.windowed(serdes.string, 10))
    with TopologyTestDriver(builder, window_emit_interval_ms=1_000) as driver:
        topic = driver.create_input_topic("in", serdes.string, serdes.string)
        out = driver.create_output_topic("out", serdes.windowed(serdes.string, 10), serdes.int64)
        topic.pipe_input("a", "v", 5)
        topic.pipe_input("a", "v", 12)
        assert out.is_empty
        driver.advance_wall_clock_time(1_000)
        topic.pipe_input("a", "v", 13)
        assert out.read_key_values_to_list() == [(Windowed("a", TimeWindow(0, 10)), 1)]


def test_a_late_record_counts_if_it_joins_an_open_session() -> None:
    builder = StreamsBuilder()
    windowed = grouped(builder).windowed_by(SessionWindows.of_inactivity_gap(10))
    serde = serdes.session_windowed(serdes.string)
    to_out(windowed.count(materialized=kept(None, "memory", 1_000)), serde)
    with TopologyTestDriver(builder) as driver:
        topic = driver.create_input_topic("in", serdes.string, serdes.string)
        for time in (30, 40, 22, 100, 8):
            topic.pipe_input("a", "v", time)
        store = driver.get_state_store("st")
        with store.fetch("a") as rows:
            assert [(row.window.start_ms, row.window.end_ms, n) for row, n in rows] == [
                (22, 40, 3),
                (100, 100, 1),
            ]
        assert driver.dropped_records_total() == 1


class Deleter(Processor[str, str, str, str]):
    """Deletes and adds sessions of a store that an aggregation fills."""

    def init(self, context: ProcessorContext[str, str]) -> None:
        super().init(context)
        self.store: Any = context.get_state_store("st")

    def process(self, record: Record[str, str]) -> None:
        start, _, end = record.value.partition("-")
        session = Windowed(record.key, SessionWindow(int(start), int(end)))
        if session in self.store:
            self.store.remove(session)
        else:
            self.store.put(session, 100)


@pytest.mark.parametrize("cache", [None, 0, 1_000_000])
def test_what_others_write_into_the_store_is_seen(cache: int | None) -> None:
    builder = StreamsBuilder()
    windowed = grouped(builder).windowed_by(SessionWindows.of_inactivity_gap(4, 100))
    windowed.count(materialized=kept(cache, "rocks", 1_000))
    changes = builder.stream("changes", key_serde=serdes.string, value_serde=serdes.string)
    changes.process(Deleter, "st")
    with TopologyTestDriver(builder, statestore_cache_max_bytes=cache or 0) as driver:
        topic = driver.create_input_topic("in", serdes.string, serdes.string)
        other = driver.create_input_topic("changes", serdes.string, serdes.string)
        topic.pipe_input("a", "v", 10)
        other.pipe_input("a", "10-10", 10)
        topic.pipe_input("a", "v", 12)
        other.pipe_input("a", "14-20", 20)
        topic.pipe_input("a", "v", 22)
        with driver.get_state_store("st").fetch("a") as rows:
            assert [(row.window.start_ms, row.window.end_ms, n) for row, n in rows] == [
                (12, 12, 1),
                (14, 22, 101),
            ]


@pytest.mark.parametrize("cache", [0, 1_000_000])
@pytest.mark.parametrize("kind", ["sessions", "sliding"])
def test_streams_of_a_co_grouping_may_be_far_apart_in_time(cache: int, kind: str) -> None:
    builder = StreamsBuilder()
    one, two = (
        builder.stream(name, key_serde=serdes.string, value_serde=serdes.string).group_by_key()
        for name in ("one", "two")
    )
    both = one.cogroup(lambda _key, value, text: text + value)
    both = both.cogroup(two, lambda _key, value, text: text + value)
    many: Materialized[str, str] = Materialized("st", value_serde=serdes.string, retention=100_000)
    if kind == "sessions":
        sessions = both.windowed_by(SessionWindows.of_inactivity_gap(5))
        sessions.aggregate(str, lambda _key, left, right: left + right, materialized=many)
    else:
        both.windowed_by(SlidingWindows.of_time_difference(5)).aggregate(str, materialized=many)
    with TopologyTestDriver(builder, statestore_cache_max_bytes=cache) as driver:
        first = driver.create_input_topic("one", serdes.string, serdes.string)
        second = driver.create_input_topic("two", serdes.string, serdes.string)
        second.pipe_input("k", "s", 10)
        for time in range(20, 2_000, 20):
            first.pipe_input("k", "f", time)
        second.pipe_input("k", "t", 23)  # of a stream that has come to 10 only
        store = driver.get_state_store("st")
        if kind == "sessions":
            assert store.fetch_session("k", 20, 23) == "ft"
        else:
            assert store.fetch("k", 18).value == "ft"


def test_records_without_key_or_value() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    stream.group_by_key().windowed_by(SessionWindows.of_inactivity_gap(10)).count("sessions")
    stream.group_by_key().windowed_by(SlidingWindows.of_time_difference(10)).count("sliding")
    with TopologyTestDriver(builder) as driver:
        topic: Any = driver.create_input_topic("in", serdes.string, serdes.string)
        topic.pipe_input(None, "v", 20)
        topic.pipe_input("a", None, 20)
        assert len(driver.get_state_store("sessions")) == 1
        assert len(driver.get_state_store("sliding")) == 0
        assert driver.dropped_records_total() == 3


def test_a_failed_function_stops_its_record_only() -> None:
    builder = StreamsBuilder()

    def failing(_key: str, value: str, text: str) -> str:
        if value == "bad":
            raise ValueError(value)
        return text + value

    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    windowed = stream.group_by_key().windowed_by(SessionWindows.of_inactivity_gap(10))
    windowed.aggregate(str, failing, lambda _key, x, y: x + y, "st", value_serde=serdes.string)
    from thalweg import log_and_continue

    with TopologyTestDriver(builder, processing_handler=log_and_continue) as driver:
        topic = driver.create_input_topic("in", serdes.string, serdes.string)
        for value, time in (("a", 1), ("bad", 30), ("b", 31)):
            topic.pipe_input("k", value, time)
        with driver.get_state_store("st").fetch("k") as rows:
            assert [value for _, value in rows] == ["a", "b"]


def _sessions(builder: StreamsBuilder) -> Any:
    return grouped(builder).windowed_by(SessionWindows.of_inactivity_gap(10, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: SessionWindows.of_inactivity_gap(0), ValueError, "at least 1 ms"),
        (lambda b: SlidingWindows.of_time_difference(0), ValueError, "at least 1 ms"),
        (lambda b: SessionWindows.of_inactivity_gap(-1), ValueError, "must not be negative"),
        (lambda b: grouped(b).windowed_by(10), TypeError, "needs windows"),
        (lambda b: _sessions(b).emit_strategy("close"), TypeError, "on_window_close"),
        (
            lambda b: grouped(b).windowed_by(UnlimitedWindows.of()).emit_strategy(ON_CLOSE).count(),
            TopologyError,
            "never close",
        ),
        (
            lambda b: _sessions(b).count(materialized=Materialized(retention=14)),
            TopologyError,
            "retain at least 15 ms",
        ),
        (
            lambda b: (
                grouped(b)
                .windowed_by(SlidingWindows.of_time_difference(10, 5))
                .count(materialized=Materialized(retention=24))
            ),
            TopologyError,
            "retain at least 25 ms",
        ),
        (
            lambda b: _sessions(b).aggregate(str, lambda k, v, a: a, lambda k, v: v),
            TypeError,
            "key, aggregate, next aggregate",
        ),
    ],
)
def test_mistakes_are_told_at_the_call(
    call: Callable[[StreamsBuilder], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(StreamsBuilder())
