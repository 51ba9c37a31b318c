"""Tables in versioned stores: what an out-of-order record does to everything behind it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log, idle
from thalweg import (
    KTable,
    Materialized,
    Processor,
    Record,
    StreamsBuilder,
    TimeWindows,
    TopologyError,
    TopologyTestDriver,
    VersionedKeyValueStore,
    VersionedRecord,
    serdes,
    versioned_store,
)

Input = tuple[str, str | None, int]
Output = tuple[str, Any, int]


def versioned(name: str, history: timedelta | int = 100) -> Materialized[Any, Any]:
    return Materialized(store=versioned_store(name, history))


@contextmanager
def driving(builder: StreamsBuilder) -> Iterator[TopologyTestDriver]:
    with TopologyTestDriver(
        builder, default_key_serde=serdes.string, default_value_serde=serdes.string
    ) as driver:
        yield driver


def pipe(driver: TopologyTestDriver, topic: str, *records: Input) -> None:
    into = driver.create_input_topic(topic)
    for record in records:
        into.pipe_input(*record)


def read(driver: TopologyTestDriver, topic: str = "out", value_serde: Any = None) -> list[Output]:
    out = driver.create_output_topic(topic, value_serde=value_serde)
    return [(record.key, record.value, record.timestamp) for record in out.read_records_to_list()]


# -- which tables are versioned ------------------------------------------------------------


def tables(builder: StreamsBuilder) -> dict[str, tuple[KTable[Any, Any], bool]]:
    """Returns tables of every sort, and whether they are versioned."""
    table = builder.table("t", materialized=versioned("source"))
    plain = builder.table("p")
    stream = builder.stream("s")
    grouped = stream.group_by_key()

    def keep(_key: Any, _value: Any) -> bool:
        return True

    regrouped = table.group_by(lambda key, value: (key, value))
    return {
        "a versioned source": (table, True),
        "a plain source": (plain, False),
        "a filter": (table.filter(keep), True),
        "a chain": (table.filter_not(keep).map_values(str), True),
        "transformed": (table.transform_values(lambda: lambda _key, value: value), True),
        "of a plain table": (plain.filter(keep), False),
        "in a plain store": (table.filter(keep, name="plain"), False),
        "with serdes only": (table.map_values(str, materialized=Materialized()), False),
        "in a versioned store": (plain.map_values(str, materialized=versioned("mapped")), True),
        "behind a plain store": (table.filter(keep, name="plain2").map_values(str), False),
        "a join": (table.join(table.map_values(str), max), False),
        "a join in a store": (table.left_join(plain, max, materialized=versioned("joined")), True),
        "an aggregation": (grouped.count(materialized=versioned("counted")), True),
        "a plain aggregation": (grouped.count(), False),
        "of a grouped table": (regrouped.count(materialized=versioned("recounted")), True),
        "of a stream": (stream.to_table(materialized=versioned("of-stream")), True),
        "of the stream of a table": (table.to_stream().to_table(), False),
    }


@pytest.mark.parametrize("name", list(tables(StreamsBuilder())))
def test_a_table_knows_whether_it_is_versioned(name: str) -> None:
    table, expected = tables(StreamsBuilder())[name]

    assert table.is_versioned is expected


# -- out-of-order records ------------------------------------------------------------------


LATE: list[Input] = [("a", "x1", 10), ("a", "x3", 30), ("a", "x2", 20), ("a", None, 25)]
"""Two versions, and two changes of the past between them."""


def test_a_table_tells_of_changes_of_its_past() -> None:
    builder = StreamsBuilder()
    builder.table("t", materialized=versioned("rows")).to_stream().to("out")
    with driving(builder) as driver:
        pipe(driver, "t", *LATE, ("a", "x", 120), ("a", "too late", 19))

        assert read(driver) == [*LATE, ("a", "x", 120)]
        assert driver.dropped_records_total() == 1
        rows: VersionedKeyValueStore[str, str] = driver.get_state_store("rows")
        assert rows["a"] == VersionedRecord("x", 120)
        assert rows.get("a", 24) == VersionedRecord("x2", 20, 25)
        assert rows.get("a", datetime.fromtimestamp(0.027, UTC)) is None
        with rows.versions("a", 20, 110) as found:
            assert [version.value for version in found] == ["x2", "x3"]


def test_filters_hide_what_they_reject_in_the_past() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", materialized=versioned("rows"))
    table.filter(lambda _key, value: value != "x2").to_stream().to("out")
    with driving(builder) as driver:
        pipe(driver, "t", *LATE, ("b", "x2", 40))

        # Without versions a rejected row that was never let through would not be told.
        assert read(driver) == [
            *LATE[:2],
            ("a", None, 20),
            ("a", None, 25),
            ("b", None, 40),
        ]


def test_a_group_counts_the_latest_rows_only() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", materialized=versioned("rows"))
    grouped = table.map_values(lambda value: value).group_by(lambda key, value: (value, key))
    grouped.count().to_stream().to("out", value_serde=serdes.int64)
    with driving(builder) as driver:
        pipe(driver, "t", *LATE)

        assert read(driver, value_serde=serdes.int64) == [
            ("x1", 1, 10),
            ("x1", 0, 30),
            ("x3", 1, 30),
        ]
        assert driver.dropped_records_total() == 0


@pytest.mark.parametrize("kind", ["join", "left_join", "outer_join"])
def test_joins_of_tables_leave_changes_of_the_past_out(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    builder = StreamsBuilder()
    left = builder.table("l", materialized=versioned("left"))
    right = builder.table("r", materialized=versioned("right"))
    getattr(left, kind)(right, lambda one, two: f"{one}{two}").to_stream().to("out")
    with driving(builder) as driver:
        pipe(driver, "r", ("a", "y", 5))
        read(driver)
        pipe(driver, "l", *LATE)
        pipe(driver, "r", ("a", "y0", 4), ("a", "y1", 40))

        assert read(driver) == [("a", "x1y", 10), ("a", "x3y", 30), ("a", "x3y1", 40)]
        assert driver.dropped_records_total() == 3
        told = [record.getMessage() for record in caplog.records]
        assert told
        assert all("(out-of-order)" in message for message in told)


def test_a_join_with_a_plain_table_tells_of_all_its_changes() -> None:
    builder = StreamsBuilder()
    left = builder.table("l", materialized=versioned("left"))
    left.join(builder.table("r"), lambda one, two: f"{one}{two}").to_stream().to("out")
    with driving(builder) as driver:
        pipe(driver, "l", ("a", "x", 30), ("a", "old", 20))
        pipe(driver, "r", ("a", "y", 40), ("a", "late", 10))

        assert read(driver) == [("a", "xy", 40), ("a", "xlate", 30)]


def test_a_store_says_again_what_is_the_latest() -> None:
    """One child's own versioned store does not change what the next child is told."""
    builder = StreamsBuilder()
    table = builder.table("t", materialized=versioned("rows"))
    table.filter(lambda _key, _value: True, materialized=versioned("short", 0))
    table.group_by(lambda key, value: (value, key)).count(name="groups")
    other = builder.table("o", materialized=versioned("others"))
    other.map_values(lambda _value: None, materialized=versioned("nothing")).to_stream().to("out")
    with driving(builder) as driver:
        pipe(driver, "t", *LATE)

        groups = driver.get_state_store("groups")
        assert {key: row.value for key, row in groups.all()} == {"x3": 1, "x1": 0}


# -- as of a time --------------------------------------------------------------------------


def test_a_stream_meets_the_row_of_its_own_time() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", materialized=versioned("rows"))
    views = {
        "source": table,
        "mapped": table.map_values(lambda value: f"<{value}>"),
        "filtered": table.filter(lambda _key, value: value != "x2"),
        "transformed": table.transform_values(lambda: lambda _key, value: f"({value})"),
        "newest": table.filter(lambda _key, _value: True, name="plain"),
    }
    stream = builder.stream("s")
    for topic, view in views.items():
        stream.left_join(view, lambda one, two: f"{one} {two}").to(topic)
    with driving(builder) as driver:
        pipe(driver, "t", *LATE)
        pipe(driver, "s", ("a", "s", 22), ("a", "s", 27), ("a", "s", 99), ("a", "s", 5))

        seen = {topic: [value for _, value, _ in read(driver, topic)] for topic in views}
        assert seen == {
            "source": ["s x2", "s None", "s x3", "s None"],
            "mapped": ["s <x2>", "s None", "s <x3>", "s None"],
            "filtered": ["s None", "s None", "s x3", "s None"],
            "transformed": ["s (x2)", "s (None)", "s (x3)", "s (None)"],
            "newest": ["s None"] * 4,
        }


def test_a_processor_has_a_versioned_store() -> None:
    class Rates(Processor[str, str, str, str]):
        stores = [versioned_store("rates", timedelta(seconds=1), serdes.string, serdes.string)]

        def process(self, record: Record[str, str]) -> None:
            rates: VersionedKeyValueStore[str, str] = self.context.get_state_store("rates")
            before = rates.get(record.key, record.timestamp)
            valid_to = rates.put(record.key, record.value, record.timestamp)
            told = f"{before and before.value} {valid_to}"
            self.context.forward(record.with_value(told))

    builder = StreamsBuilder()
    builder.stream("in").process(Rates).to("out")
    with driving(builder) as driver:
        pipe(driver, "in", ("a", "1", 100), ("a", "2", 300), ("a", "3", 200), ("a", "4", 2_000))
        pipe(driver, "in", ("a", "5", 100))

        assert [value for _, value, _ in read(driver)] == [
            f"None {VersionedKeyValueStore.VALID_TO_UNDEFINED}",
            "1 -1",
            "1 300",
            "2 -1",
            f"None {VersionedKeyValueStore.NOT_PUT}",
        ]


# -- what is refused -----------------------------------------------------------------------


def test_a_window_has_no_versions() -> None:
    grouped = StreamsBuilder().stream("in").group_by_key()

    with pytest.raises(TopologyError, match=r"the versioned store 'v'.*window_store"):
        grouped.windowed_by(TimeWindows.of_size(10)).count(materialized=versioned("v"))


def test_a_global_table_has_no_versions() -> None:
    with pytest.raises(TopologyError, match=r"global table of topic 'g'.*versioned store 'v'"):
        StreamsBuilder().global_table("g", materialized=versioned("v"))


def test_a_versioned_store_has_no_cache() -> None:
    with pytest.raises(ValueError, match=r"leave out with_caching\(\)"):
        versioned_store("v", 100).with_caching()


@pytest.mark.parametrize(
    ("history", "interval", "what"),
    [(-1, None, "history_retention"), (100, 0, "segment_interval"), (0, -5, "segment_interval")],
)
def test_impossible_durations_are_refused(history: int, interval: int | None, what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} of store 'v'"):
        versioned_store("v", history, segment_interval=interval)


def test_in_memory_it_is_the_same() -> None:
    builder = StreamsBuilder()
    store = versioned_store("rows", 100, in_memory=True)
    builder.table("t", materialized=Materialized(store=store)).to_stream().to("out")
    with driving(builder) as driver:
        pipe(driver, "t", *LATE)

        assert read(driver) == LATE
        assert not driver.get_state_store("rows").persistent


def test_segments_are_those_of_the_jvm() -> None:
    minute = 60_000
    intervals = {
        0: 2_000,
        30_000: 10_000,
        2 * minute: 24_000,
        30 * minute: 150_000,
        100 * minute: 300_000,
    }

    assert {
        history: versioned_store("v", history).spec.segment_interval_ms  # type: ignore[attr-defined]
        for history in intervals
    } == intervals


# -- over restarts -------------------------------------------------------------------------


@pytest.mark.parametrize("is_lost", [False, True], ids=["reopened", "restored"])
@pytest.mark.parametrize("backend", ["rocks", "memory", "sqlite"])
def test_an_application_finds_its_history_again(
    backend: Any, is_lost: bool, tmp_path: Path
) -> None:
    def topology() -> StreamsBuilder:
        builder = StreamsBuilder()
        store = versioned_store("rows", 100).with_backend(backend)
        table = builder.table("t", materialized=Materialized(store=store))
        builder.stream("s").left_join(table, lambda one, two: f"{one}{two}").to("out")
        return builder

    log = Log()
    log.create("t")
    log.create("s")
    log.send("t", ("k", "a"), ("k", "c"), ("k", "b"), timestamps=[10, 50, 30])
    with log.app(topology(), tmp_path) as app:
        idle(app)
    if is_lost:
        shutil.rmtree(tmp_path)
    log.send("s", ("k", "0"), ("k", "1"), ("k", "2"), timestamps=[20, 40, 60])
    with log.app(topology(), tmp_path) as app:
        idle(app)

    assert [seen.value for seen in log.read("out")] == ["0a", "1b", "2c"]
    assert [seen.timestamp for seen in log.read("app-rows-changelog")] == [10, 50, 30]
