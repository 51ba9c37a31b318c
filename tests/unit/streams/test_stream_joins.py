"""Joins of two streams through the test driver, and against a model that keeps every record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg import (
    JoinWindows,
    KStream,
    Record,
    StreamJoined,
    StreamsBuilder,
    TopologyTestDriver,
    serdes,
)
from thalweg.stores.builders import key_value_store, window_store
from thalweg.stores.kinds import window_records
from thalweg.topology.errors import TopologyError

Result = tuple[str | None, str, int]
Step = tuple[str, str | None, str | None, int]

NEVER_MS = 2**63 - 1


def both(left: str | None, right: str | None) -> str:
    return f"{left}+{right}"


def built(
    join: str,
    windows: JoinWindows,
    joined: StreamJoined[str, str, str] | None = None,
    optimize: str = "none",
) -> Any:
    builder = StreamsBuilder()
    left: Any = builder.stream("l", key_serde=serdes.string, value_serde=serdes.string)
    right = left if optimize != "none" else builder.stream("r", value_serde=serdes.string)
    getattr(left, join)(right, both, windows, joined=joined).to("out", value_serde=serdes.string)
    return builder.build(optimize=optimize)


def driver_of(topology: Any, **config: Any) -> TopologyTestDriver:
    return TopologyTestDriver(topology, default_key_serde=serdes.string, **config)


def results(driver: TopologyTestDriver) -> list[Result]:
    return [
        (
            None if one.key is None else one.key.decode(),
            (one.value or b"").decode(),
            one.timestamp or 0,
        )
        for one in driver.take_produced()
        if one.topic == "out"
    ]


def pipe(driver: TopologyTestDriver, *steps: Step) -> list[Result]:
    for topic, key, value, timestamp in steps:
        driver.pipe_raw(
            topic,
            None if key is None else key.encode(),
            None if value is None else value.encode(),
            timestamp,
        )
    return results(driver)


# -- the model -------------------------------------------------------------------------------


@dataclass
class Side:
    """One side's records: (key, timestamp, value), and the newest timestamp."""

    records: list[tuple[str, int, str]] = field(default_factory=list)
    newest_ms: int = -1


@dataclass
class Model:
    """What the JVM does with each record, over plain lists."""

    join: str
    windows: JoinWindows
    in_memory: bool = False
    stream_ms: int = -1
    earliest_ms: int = NEVER_MS
    left: Side = field(default_factory=Side)
    right: Side = field(default_factory=Side)
    waiting: dict[tuple[int, bool, bytes], list[str]] = field(default_factory=dict)

    def process(self, topic: str, key: str | None, value: str | None, at_ms: int) -> list[Result]:
        is_left = topic == "l"
        windows = self.windows
        before_ms, after_ms = windows.before_ms, windows.after_ms
        if not is_left:
            before_ms, after_ms = after_ms, before_ms
        keeps = self.join == "outer_join" or (self.join == "left_join" and is_left)
        found: list[Result] = []
        self.stream_ms = max(self.stream_ms, at_ms)

        def result(left: str | None, right: str | None) -> str:
            return both(left, right) if is_left else both(right, left)

        mine, theirs = (self.left, self.right) if is_left else (self.right, self.left)
        if key is None or value is None:
            if key is not None and self.in_memory:  # a store on disk does not hear of it
                mine.newest_ms = max(mine.newest_ms, at_ms)
            if keeps and value is not None:
                return [(None, result(value, None), at_ms)]
            return []
        if self.join != "join" and at_ms == self.stream_ms:
            found += self.closed(after_ms)
        live_from = theirs.newest_ms - windows.retention_ms + 1
        from_ms, to_ms = max(at_ms - before_ms, 0, live_from), max(at_ms + after_ms, 0)
        matches = sorted(
            (row for row in theirs.records if row[0] == key and from_ms <= row[1] <= to_ms),
            key=lambda row: row[1],
        )
        for _, start_ms, other in matches:
            self.waiting.pop((start_ms, not is_left, key.encode()), None)
            found.append((key, result(value, other), max(at_ms, start_ms)))
        if keeps and not matches:
            if to_ms < self.stream_ms:
                found.append((key, result(value, None), at_ms))
            else:
                self.earliest_ms = min(self.earliest_ms, at_ms)
                self.waiting.setdefault((at_ms, is_left, key.encode()), []).append(value)
        mine.newest_ms = max(mine.newest_ms, at_ms)
        mine.records.append((key, at_ms, value))
        return found

    def closed(self, own_after_ms: int) -> list[Result]:
        grace_ms = self.windows.grace_ms
        limit = self.earliest_ms + own_after_ms + grace_ms
        limit = limit - 2**64 if limit > NEVER_MS else limit
        if limit >= self.stream_ms:
            return []
        self.earliest_ms = NEVER_MS
        found: list[Result] = []
        is_open: set[bool] = set()
        for (at_ms, is_left, key), values in sorted(self.waiting.items()):
            self.earliest_ms = at_ms
            if len(is_open) == 2:
                break
            wait_ms = (self.windows.after_ms if is_left else self.windows.before_ms) + grace_ms
            if at_ms + wait_ms >= self.stream_ms:
                # The next value of the same key is a row of its own to the JVM.
                is_open.add(is_left)
                continue
            for value in values:
                left, right = (value, None) if is_left else (None, value)
                found.append((key.decode(), both(left, right), at_ms))
            del self.waiting[at_ms, is_left, key]
        return found


_windows = st.builds(
    lambda before, size, grace: JoinWindows(before, size - before, grace),
    st.integers(-5, 12),
    st.integers(0, 12),
    st.integers(0, 6),
)
_steps = st.lists(
    st.tuples(
        st.sampled_from("lr"),
        st.sampled_from(["a", "b", "ab"]) | st.none(),
        st.sampled_from("uvwxyz") | st.none(),
        st.integers(0, 40),
    ),
    max_size=25,
)


@pytest.mark.parametrize("store", ["memory", "rocks"])
@pytest.mark.parametrize("room", [0, 2_000, 1 << 20])
def test_a_join_does_what_the_model_does(
    store: Any, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_records, "RECENT_BYTES", room)

    @settings(max_examples=100 if store == "memory" else 15, deadline=None)
    @given(st.sampled_from(["join", "left_join", "outer_join"]), _windows, _steps)
    @example("left_join", JoinWindows(2, -2, 0), [("l", "a", "u", 3), ("r", "a", "v", 1)])
    @example(
        "outer_join",
        JoinWindows(3, 0, 0),
        [("l", "a", "u", 1), ("r", "b", "v", 1), ("l", "a", "w", 1), ("r", "a", "x", 40)],
    )
    def behaves(join: str, windows: JoinWindows, steps: list[Step]) -> None:
        model = Model(join, windows, store == "memory")
        with driver_of(built(join, windows, StreamJoined(store=store))) as driver:
            for step in steps:
                assert pipe(driver, step) == model.process(*step), step

    behaves()


# -- one by one ------------------------------------------------------------------------------


def test_records_of_one_key_and_time_are_all_kept() -> None:
    with driver_of(built("join", JoinWindows.of_time_difference(5))) as driver:
        assert pipe(driver, ("l", "k", "1", 10), ("l", "k", "2", 10), ("r", "k", "a", 12)) == [
            ("k", "1+a", 12),
            ("k", "2+a", 12),
        ]


def test_a_match_takes_every_waiting_record_of_its_time_away() -> None:
    with driver_of(built("left_join", JoinWindows.of_time_difference(5))) as driver:
        steps: Iterable[Step] = [("l", "k", "1", 10), ("l", "k", "2", 10), ("r", "k", "a", 12)]
        assert pipe(driver, *steps) == [("k", "1+a", 12), ("k", "2+a", 12)]
        assert pipe(driver, ("r", "z", "z", 99)) == []


def test_closed_windows_are_looked_for_once_in_an_interval() -> None:
    topology = built("left_join", JoinWindows.of_time_difference(5))
    with driver_of(topology, outer_join_emit_interval_ms=1_000) as driver:
        # The first look finds nothing, and is one all the same.
        assert pipe(driver, ("l", "k", "1", 10), ("r", "x", "x", 20)) == []
        driver.advance_wall_clock_time(999)
        assert pipe(driver, ("r", "x", "x", 21)) == []
        driver.advance_wall_clock_time(1)
        assert pipe(driver, ("r", "x", "x", 22)) == [("k", "1+None", 10)]


def test_records_without_a_key_or_value_are_counted() -> None:
    with driver_of(built("left_join", JoinWindows.of_time_difference(5))) as driver:
        assert pipe(driver, ("l", None, "1", 10)) == [(None, "1+None", 10)]
        assert pipe(driver, ("r", None, "a", 10), ("l", "k", None, 10), ("r", "k", None, 10)) == []
        assert driver.dropped_records_total() == 3


def test_a_joiner_that_raises_ends_its_record() -> None:
    builder = StreamsBuilder()
    left: KStream[str, str] = builder.stream(
        "l", key_serde=serdes.string, value_serde=serdes.string
    )
    right: KStream[str, str] = builder.stream("r", value_serde=serdes.string)

    def joiner(one: str, two: str) -> str:
        if two == "bad":
            raise ValueError(two)
        return one + two

    left.join(right, joiner, JoinWindows.of_time_difference(5)).to("out", value_serde=serdes.string)
    from thalweg import log_and_continue

    with driver_of(builder.build(), processing_handler=log_and_continue) as driver:
        steps: Iterable[Step] = [("r", "k", "a", 1), ("r", "k", "bad", 2), ("r", "k", "c", 3)]
        assert pipe(driver, *steps, ("l", "k", "1", 4)) == [("k", "1a", 4)]
        # The record is kept, for it came to its window.
        assert pipe(driver, ("r", "k", "d", 5)) == [("k", "1d", 5)]


def test_results_have_the_headers_of_the_record_in_hand() -> None:
    with driver_of(built("join", JoinWindows.of_time_difference(5))) as driver:
        driver.pipe_raw("l", b"k", b"1", 10, [("h", b"left")])
        driver.pipe_raw("r", b"k", b"a", 10, [("h", b"right")])
        produced = {one.topic.rpartition("-")[2]: one.headers for one in driver.take_produced()}
        assert produced["out"] == [("h", b"right")]
        assert produced["changelog"] == [("h", b"right")]


def test_a_stream_joined_with_itself_by_one_store() -> None:
    windows = JoinWindows.of_time_difference(5)
    topology = built("join", windows, optimize="single.store.self.join")
    assert len(topology.stores) == 1
    with driver_of(topology) as driver:
        found = pipe(driver, ("l", "k", "1", 10), ("l", "k", "2", 8), ("l", "k", None, 9))
        assert found == [
            ("k", "1+1", 10),
            ("k", "2+1", 10),
            ("k", "2+2", 8),
            ("k", "1+2", 10),
        ]
        assert driver.dropped_records_total() == 1


def test_left_and_outer_joins_with_itself_need_one_store_too() -> None:
    for join in ("left_join", "outer_join"):
        topology = built(join, JoinWindows.of_time_difference(5), optimize="single.store.self.join")
        assert len(topology.stores) == 1
        with driver_of(topology) as driver:
            assert pipe(driver, ("l", "k", "1", 10)) == [("k", "1+1", 10)]


def test_a_join_goes_on_where_it_was_restored() -> None:
    windows = JoinWindows.of_time_difference(5)
    topology = built("left_join", windows)
    with driver_of(topology) as driver:
        pipe_only = [("l", "k", "1", 10), ("r", "x", "x", 11)]
        for topic, key, value, timestamp in pipe_only:
            driver.pipe_raw(topic, key.encode(), value.encode(), timestamp)
        produced = driver.take_produced()
    with driver_of(built("left_join", windows)) as driver:
        for name in topology.stores:
            driver.restore_entries(
                name,
                [
                    (one.timestamp or 0, one.key or b"", one.value, offset)
                    for offset, one in enumerate(produced)
                    if one.topic == f"test-driver-{name}-changelog"
                ],
            )
        assert pipe(driver, ("r", "k", "a", 12)) == [("k", "1+a", 12)]
        assert pipe(driver, ("l", "x", "2", 13)) == [("x", "2+x", 13)]


# -- options ---------------------------------------------------------------------------------


def own(name: str, **options: Any) -> Any:
    settings: dict[str, Any] = {"retention_ms": 10, "window_size_ms": 10, "retain_duplicates": True}
    return window_store(name, **{**settings, **options})


def test_stores_of_ones_own_are_used_as_they_are() -> None:
    windows = JoinWindows.of_time_difference(5)
    joined: StreamJoined[str, str, str] = StreamJoined(
        this_store=own("mine", in_memory=True).without_logging(), other_store=own("theirs")
    )
    topology = built("outer_join", windows, joined)
    stores = topology.stores
    assert list(stores) == ["mine", "theirs", "mine-outer-shared-join-store"]
    assert [store.backend for store in stores.values()] == ["memory", "rocks", "memory"]
    assert [store.logged for store in stores.values()] == [False, True, True]
    with driver_of(topology) as driver:
        assert pipe(driver, ("l", "k", "1", 10), ("r", "k", "a", 12)) == [("k", "1+a", 12)]


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (own("s", retain_duplicates=False), "retain_duplicates=True"),
        (own("s", retention_ms=11), "window_size_ms and retention_ms"),
        (own("s", window_size_ms=9), "window_size_ms and retention_ms"),
        (key_value_store("s"), r"give one of window_store\(\.\.\.\)"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(store: Any, message: str) -> None:
    windows = JoinWindows.of_time_difference(5)
    with pytest.raises(TopologyError, match=message):
        built("join", windows, StreamJoined(this_store=store))
    with pytest.raises(TopologyError, match=message):
        built("join", windows, StreamJoined(other_store=store))


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(TopologyError, match="both named 's'"):
        StreamJoined(this_store=own("s"), other_store=own("s"))
    with pytest.raises(ValueError, match="must be one of"):
        StreamJoined(store="disk")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="this_store of StreamJoined"):
        StreamJoined(this_store="s")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="is illegal"):
        StreamJoined(name="a b")


def test_windows_that_end_before_they_begin_are_refused() -> None:
    with pytest.raises(ValueError, match="end before they begin"):
        JoinWindows.of_time_difference(5).before(-6)
    with pytest.raises(ValueError, match="must not be negative"):
        JoinWindows.of_time_difference(-1)
    with pytest.raises(ValueError, match="grace must not be negative"):
        JoinWindows.of_time_difference(5, -1)
    with pytest.raises(TypeError, match="timedelta or an int"):
        JoinWindows.of_time_difference("5")  # type: ignore[arg-type]
    assert JoinWindows.of_time_difference(5).before(-5).size_ms == 0


def test_what_is_for_tables_is_refused_between_streams() -> None:
    builder = StreamsBuilder()
    left: Any = builder.stream("l")
    right: Any = builder.stream("r")
    table: Any = builder.table("t")
    windows = JoinWindows.of_time_difference(5)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: left.join(right, both), "how far apart"),
        (lambda: left.join(right, both, windows, name="x"), r"joined=StreamJoined\(\.\.\.\)"),
        (lambda: left.left_join(right, both, windows, joined="x"), "must be a StreamJoined"),
        (lambda: left.join(table, both, windows), "a table has no windows"),
        (lambda: left.left_join(table, both, joined=StreamJoined()), "a table has no windows"),
        (lambda: left.outer_join(table, both, windows), r"use left_join\(\)"),
        (lambda: left.join(right, lambda one: one, windows), "left, right"),
        (lambda: left.join("r", both, windows), "a table has no windows"),
        (lambda: left.join("r", both), "with a stream or a table"),
    ]
    for call, message in calls:
        with pytest.raises(TypeError, match=message):
            call()


def test_generated_names_of_its_stores_can_be_refused() -> None:
    builder = StreamsBuilder()
    left: Any = builder.stream("l")
    right: Any = builder.stream("r")
    left.left_join(right, both, JoinWindows.of_time_difference(5))
    with pytest.raises(TopologyError, match="OUTERSHARED-0000000004-store"):
        builder.build({"ensure.explicit.internal.resource.naming": "true"})

    builder = StreamsBuilder()
    left, right = builder.stream("l"), builder.stream("r")
    named: Any = StreamJoined(store_name="s")
    left.left_join(right, both, JoinWindows.of_time_difference(5), joined=named)
    builder.build({"ensure.explicit.internal.resource.naming": "true"})


def test_two_joins_cannot_have_stores_of_one_name() -> None:
    builder = StreamsBuilder()
    left: Any = builder.stream("l")
    right: Any = builder.stream("r")
    named: Any = StreamJoined(store_name="s")
    for _ in range(2):
        left.join(right, both, JoinWindows.of_time_difference(5), joined=named)
    with pytest.raises(TopologyError, match="s-this-join-store"):
        builder.build()


def test_users_may_keep_duplicates_in_a_store_of_their_own() -> None:
    from thalweg import Processor, ProcessorContext

    class Keep(Processor[str, str, str, str]):
        stores = (own("kept", retention_ms=1_000),)

        def init(self, context: ProcessorContext[str, str]) -> None:
            self.kept: Any = context.get_state_store("kept")

        def process(self, record: Record[str, str]) -> None:
            self.kept.put(record.key, record.value, record.timestamp)

    builder = StreamsBuilder()
    builder.stream("l", key_serde=serdes.string, value_serde=serdes.string).process(Keep)
    with driver_of(builder.build(), default_value_serde=serdes.string) as driver:
        pipe(driver, ("l", "k", "1", 5), ("l", "k", "2", 5), ("l", "k", "3", 6))
        store: Any = driver.get_state_store("kept")
        assert list(store.fetch("k", 0, 10)) == [(5, "1"), (5, "2"), (6, "3")]
