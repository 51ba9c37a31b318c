"""Suppression: which updates of a table are emitted, and when; against a simple model."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.streams.running import Log
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    BufferConfig,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    StreamsError,
    Suppressed,
    TimeWindows,
    TopologyError,
    TopologyTestDriver,
    log_and_continue,
    serdes,
    versioned_store,
)

S, N = serdes.string, serdes.int64
Record: TypeAlias = tuple[str, int | None, int]
"""(key, value, timestamp)."""

KEYS = ("a", "b", "c", "d")
records = st.lists(
    st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 3), st.integers(0, 30)), max_size=40
)


def emitted(table_of: Any, given: list[Record], **settings: Any) -> list[Record]:
    """Pipes records into a table and returns what comes out behind it."""
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=N, store="table")
    table_of(table).to_stream().to("out", key_serde=S, value_serde=N)
    with TopologyTestDriver(builder, **settings) as driver:
        source = driver.create_input_topic("in", S, N)
        sink = driver.create_output_topic("out", S, N)
        for key, value, timestamp in given:
            source.pipe_input(key, value, timestamp)
        return [(one.key, one.value, one.timestamp or 0) for one in sink.read_records_to_list()]


class Model:
    """What a suppression does, in a few lines."""

    def __init__(self, limit: int, max_records: int | None) -> None:
        self.limit = limit
        self.max_records = max_records
        self.held: dict[str, tuple[int, Record]] = {}
        self.time = -1
        self.rows: set[str] = set()
        self.out: list[Record] = []

    def take(self, record: Record) -> None:
        key, value, timestamp = record
        if value is None and key not in self.rows:
            return  # the table's own cache leaves it out
        (self.rows.discard if value is None else self.rows.add)(key)
        self.time = max(self.time, timestamp)
        place = self.held[key][0] if key in self.held else timestamp
        self.held[key] = place, record
        while self.held:
            first = min(self.held, key=lambda one: (self.held[one][0], one))
            is_due = self.held[first][0] <= self.time - self.limit
            if not is_due and (self.max_records is None or len(self.held) <= self.max_records):
                return
            self.out.append(self.held.pop(first)[1])


@given(records, st.integers(0, 12), st.none() | st.integers(0, 3))
def test_the_last_update_of_a_key_comes_after_the_limit(
    given: list[Record], limit: int, most: int | None
) -> None:
    model = Model(limit, most)
    for record in given:
        model.take(record)
    buffer = BufferConfig.unbounded() if most is None else BufferConfig(max_records=most)

    assert (
        emitted(lambda table: table.suppress(Suppressed.until_time_limit(limit, buffer)), given)
        == model.out
    )


@given(records, st.sampled_from([0, 5]))
def test_a_window_has_one_result_when_it_has_closed(given: list[Record], grace: int) -> None:
    builder = StreamsBuilder()
    grouped = builder.stream("in", key_serde=S, value_serde=N).group_by_key(
        key_serde=S, value_serde=N
    )
    windowed = grouped.windowed_by(TimeWindows.of_size(10, grace))
    final = windowed.reduce(lambda one, other: one + other).suppress(
        Suppressed.until_window_closes()
    )
    final.to_stream(lambda one, _value: f"{one.key}@{one.window.start_ms}").to(
        "final", key_serde=S, value_serde=N
    )
    sums: dict[tuple[int, str], int] = {}
    time = -1
    with TopologyTestDriver(builder) as driver:
        source, sink = (
            driver.create_input_topic("in", S, N),
            driver.create_output_topic("final", S, N),
        )
        for key, value, timestamp in given:
            if value is None:
                continue
            source.pipe_input(key, value, timestamp)
            time = max(time, timestamp)
            start = timestamp // 10 * 10
            if start + 10 + grace > time:
                sums[start, key] = sums.get((start, key), 0) + value
        source.pipe_input("z", 0, 1000)
        found = sink.read_key_values_to_list()

    closed = {f"{key}@{start}": total for (start, key), total in sums.items()}
    assert dict(found) == closed
    assert len(found) == len(closed)


def test_updates_keep_the_place_and_lend_the_time_of_the_last() -> None:
    given = [("a", 1, 0), ("b", 2, 1), ("a", 3, 4), ("c", 9, 5), ("c", 9, 6)]

    out = emitted(lambda table: table.suppress(Suppressed.until_time_limit(5)), given)

    assert out == [("a", 3, 4), ("b", 2, 1)]


def test_bytes_are_counted_as_the_jvm_counts_them() -> None:
    # One row: place 8, key 1, context 20, topic "in" 2, value 8.
    one_row = 39
    given = [("a", 1, 0), ("b", 2, 1), ("c", 3, 2)]

    for most, count in ((3 * one_row, 0), (3 * one_row - 1, 1), (2 * one_row - 1, 2), (0, 3)):
        buffer = BufferConfig(max_bytes=most)
        out = emitted(
            lambda table, buffer=buffer: table.suppress(Suppressed.until_time_limit(99, buffer)),
            given,
        )
        assert out == given[:count]


def test_a_full_buffer_that_shuts_down_is_an_error() -> None:
    buffer = BufferConfig(max_records=1, max_bytes=70).shut_down_when_full()

    def table_of(table: Any) -> Any:
        return table.suppress(Suppressed.until_time_limit(99, buffer, name="late"))

    given = [("a", 1, 0), ("b", 2, 1)]
    with pytest.raises(
        StreamsError, match=r"2 records of at most 1, 78 bytes of at most 70"
    ) as caught:
        emitted(table_of, given)
    assert caught.value.node == "late"
    assert emitted(table_of, given, processing_handler=log_and_continue) == []


def test_an_emitted_update_has_the_headers_of_its_record() -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=N)
    table.suppress(Suppressed.until_time_limit(5)).to_stream().to("out")
    with TopologyTestDriver(builder) as driver:
        driver.pipe_raw("in", b"a", bytes(8), 0, [("h", b"1")])
        driver.pipe_raw("in", b"b", bytes(8), 9)
        (record,) = [one for one in driver.take_produced() if one.topic == "out"]

    assert record.headers == [("h", b"1")]
    assert record.timestamp == 0


def test_a_join_reads_what_was_emitted_last() -> None:
    builder = StreamsBuilder()
    left = builder.table("left", key_serde=S, value_serde=N)
    right = builder.table("right", key_serde=S, value_serde=N)
    late = left.suppress(Suppressed.until_time_limit(10))
    late.join(right, lambda one, other: one * 10 + other).to_stream().to(
        "out", key_serde=S, value_serde=N
    )
    with TopologyTestDriver(builder) as driver:
        lefts, rights = (
            driver.create_input_topic("left", S, N),
            driver.create_input_topic("right", S, N),
        )
        out = driver.create_output_topic("out", S, N)
        lefts.pipe_input("a", 1, 0)
        rights.pipe_input("a", 1, 1)
        assert out.is_empty  # of the left nothing was emitted
        lefts.pipe_input("b", 1, 20)
        assert out.read_key_values_to_list() == [("a", 11)]
        lefts.pipe_input("a", 2, 21)
        rights.pipe_input("a", 2, 22)
        assert out.read_key_values_to_list() == [("a", 12)]
        lefts.pipe_input("c", 1, 40)
        assert out.read_key_values_to_list() == [("a", 22)]


@given(records)
def test_a_table_joined_with_itself_held_back_ends_with_the_right_rows(given: list[Record]) -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=N)
    late = table.suppress(Suppressed.until_time_limit(5))
    joined = table.join(late, lambda now, before: now * 10 + before)
    joined.to_stream().to("out", key_serde=S, value_serde=N)
    rows: dict[str, int] = {}
    with TopologyTestDriver(builder) as driver:
        source, out = driver.create_input_topic("in", S, N), driver.create_output_topic("out", S, N)
        for key, value, timestamp in given:
            source.pipe_input(key, value, timestamp)
            rows.pop(key, None)
            if value is not None:
                rows[key] = value
        source.pipe_input("z", None, 2000)
        source.pipe_input("y", 0, 1000)  # lets all others go
        found: dict[str, int] = {}
        for key, value in out.read_key_values_to_list():
            found.pop(key, None)
            if value is not None:
                found[key] = value

    assert found == {key: value * 11 for key, value in rows.items()}


def test_a_table_that_was_not_kept_is_kept_for_its_old_values() -> None:
    builder = StreamsBuilder()
    builder.table("in").suppress(Suppressed.until_time_limit(1)).to_stream().to("out")

    assert "KTABLE-SOURCE-0000000002 (stores: [in-STATE-STORE-0000000000])" in str(
        builder.build().describe()
    )


def test_where_no_window_closes_the_way_up_is_told() -> None:
    table = StreamsBuilder().table("in", key_serde=S, value_serde=N).filter(lambda _k, v: v > 1)

    with pytest.raises(TopologyError, match=r"KTABLE-SOURCE-\d+ -> KTABLE-FILTER-\d+"):
        table.suppress(Suppressed.until_window_closes())


def test_grace_is_found_through_other_operators() -> None:
    builder = StreamsBuilder()
    counts = builder.stream("in").group_by_key().windowed_by(TimeWindows.of_size(10, 7)).count()
    counts.map_values(str).suppress(Suppressed.until_window_closes(name="final"))

    operator: Any = builder.build().nodes["final"].operator  # type: ignore[union-attr]
    assert operator.wait_ms == 7


@pytest.mark.parametrize(
    ("windows", "wait_ms"),
    [
        (SessionWindows.of_inactivity_gap(8, 4), 12),
        (SlidingWindows.of_time_difference(10, 5), 5),
        (TimeWindows.of_size(10, 7).advance_by(5), 7),
    ],
)
def test_every_window_says_when_it_closes(windows: Any, wait_ms: int) -> None:
    builder = StreamsBuilder()
    counts = builder.stream("in").group_by_key().windowed_by(windows).count()
    counts.suppress(Suppressed.until_window_closes(name="final"))

    operator: Any = builder.build().nodes["final"].operator  # type: ignore[union-attr]
    assert operator.wait_ms == wait_ms


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BufferConfig(max_records=-1), "must not be negative"),
        (lambda: BufferConfig(max_bytes="1"), "must be an int"),
        (lambda: BufferConfig(when_full="never"), "emit_early"),
        (lambda: Suppressed.until_time_limit(-1), "must not be negative"),
        (lambda: Suppressed.until_time_limit("1"), "timedelta"),
        (lambda: Suppressed.until_time_limit(1, 5), "BufferConfig"),
        (lambda: Suppressed.until_time_limit(1, name="a b"), "illegal"),
        (lambda: Suppressed.until_window_closes(BufferConfig(max_records=1)), "cannot emit early"),
        (lambda: StreamsBuilder().table("in").suppress(5), "needs Suppressed"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, TopologyError), match=message):
        make()


def test_options_can_be_changed_one_by_one() -> None:
    buffer = BufferConfig.unbounded().with_max_records(3).with_max_bytes(9)
    assert buffer == BufferConfig(max_records=3, max_bytes=9, when_full="shut_down")
    assert buffer.emit_early_when_full().when_full == "emit_early"
    assert buffer.with_no_bound() == BufferConfig.unbounded()
    assert buffer.without_logging().logging is False
    assert buffer.with_logging({"retention.ms": "1"}).logging == {"retention.ms": "1"}
    limited = Suppressed.until_time_limit(timedelta(seconds=1), buffer)
    assert limited.with_name("late") == Suppressed.until_time_limit(1000, buffer, name="late")


def test_the_changelog_takes_the_configs_that_are_given() -> None:
    builder = StreamsBuilder()
    buffer = BufferConfig.unbounded().with_logging({"segment.ms": "5"})
    builder.table("in").suppress(Suppressed.until_time_limit(1, buffer, name="late"))

    store = builder.build().stores["late-store"]
    assert dict(store.log_config) == {"segment.ms": "5"}


def test_explicit_names_are_asked_for_what_others_can_see() -> None:
    def build(buffer: BufferConfig) -> None:
        builder = StreamsBuilder()
        table = builder.table("in", materialized=Materialized("table"))
        table.suppress(Suppressed.until_time_limit(1, buffer)).to_stream().to("out")
        builder.build({"ensure.explicit.internal.resource.naming": "true"})

    build(BufferConfig.unbounded().without_logging())
    with pytest.raises(TopologyError, match="KTABLE-SUPPRESS-STATE-STORE"):
        build(BufferConfig.unbounded())


def test_metrics_tell_what_is_held() -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=N)
    table.suppress(Suppressed.until_time_limit(5, name="late")).to_stream().to("out")
    with TopologyTestDriver(builder) as driver:
        source = driver.create_input_topic("in", S, N)
        for key, timestamp in (("a", 0), ("b", 4), ("c", 5)):
            source.pipe_input(key, 1, timestamp)
        told = {
            one.name: one.value for one in driver.metrics() if "late-store" in one.tags.values()
        }

    assert told["suppression-buffer-count"] == 2
    assert told["suppression-buffer-size"] == 2 * 39
    assert told["suppression-emit-total"] == 1
    assert told["put-total"] == 3


@pytest.mark.parametrize("moves", [False, True], ids=["restarts", "moves"])
def test_what_is_held_and_its_time_outlive_the_task(tmp_path: Path, *, moves: bool) -> None:
    def started(home: str) -> Steps:
        builder = StreamsBuilder()
        table = builder.table("in", key_serde=S, value_serde=S)
        late = table.suppress(Suppressed.until_time_limit(5, name="late"))
        late.to_stream().to("out", key_serde=S, value_serde=S)
        return Steps(builder, log, tmp_path / home, statestore_cache_max_bytes=0).start()

    log = Log()
    rows = (("a", "1"), ("b", "1"), ("a", "2"))
    log.send("in", *rows, timestamps=(0, 8, 4), headers=[("h", b"1")])
    with started("one") as steps:
        steps.process()
        steps.close()
    log.send("in", ("c", "1"), timestamps=[2])  # due at once, as long as the time is known
    with started("two" if moves else "one") as steps:
        steps.process()
        log.send("in", ("d", "1"), timestamps=[9])
        steps.process()
        steps.close()

    out = log.read("out")
    assert [(one.key, one.value, one.timestamp) for one in out] == [
        ("a", "1", 0),
        ("c", "1", 2),
        ("a", "2", 4),
    ]
    assert [one.headers for one in out] == [[("h", b"1")], [], [("h", b"1")]]


def test_a_versioned_table_is_refused() -> None:
    builder = StreamsBuilder()
    versioned = Materialized[str, int](store=versioned_store("rows", timedelta(days=1)))
    table = builder.table("in", materialized=versioned)

    with pytest.raises(TopologyError, match=r"this one is versioned; give the table before it a"):
        table.suppress(Suppressed.until_time_limit(10))
