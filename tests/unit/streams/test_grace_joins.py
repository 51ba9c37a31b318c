"""Joins of a stream with a versioned table that let records wait, through the test driver."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from thalweg import (
    Materialized,
    StreamsBuilder,
    StreamsError,
    TopologyTestDriver,
    log_and_continue,
    serdes,
    versioned_store,
)
from thalweg.topology.errors import TopologyError

Result = tuple[str, str, int]


def built(
    join: str = "join", grace: Any = 60, history: int = 600, joiner: Any = None
) -> StreamsBuilder:
    builder = StreamsBuilder()
    rows: Any = Materialized(store=versioned_store("rows", history))
    table: Any = builder.table("t", materialized=rows)
    stream: Any = builder.stream("s")
    joined = getattr(stream, join)(
        table, joiner or (lambda value, row: f"{value}+{row}"), grace=grace, name="j"
    )
    joined.to("out")
    return builder


def driver_of(builder: StreamsBuilder, **config: Any) -> TopologyTestDriver:
    return TopologyTestDriver(
        builder, default_key_serde=serdes.string, default_value_serde=serdes.string, **config
    )


def pipe(driver: TopologyTestDriver, *steps: tuple[str, str | None, str, int]) -> list[Result]:
    for topic, key, value, timestamp in steps:
        driver.pipe_raw(topic, None if key is None else key.encode(), value.encode(), timestamp)
    return [
        ((one.key or b"").decode(), (one.value or b"").decode(), one.timestamp or 0)
        for one in driver.take_produced()
        if one.topic == "out"
    ]


def test_a_record_meets_the_row_of_its_time_when_its_grace_is_over() -> None:
    with driver_of(built()) as driver:
        assert (
            pipe(
                driver,
                ("t", "k", "a", 100),
                ("t", "k", "b", 200),
                ("s", "k", "3", 300),
                ("s", "k", "2", 250),
                ("s", "k", "1", 241),
            )
            == []
        )
        # The table's own records do not move the time of the stream.
        assert pipe(driver, ("t", "k", "c", 700), ("t", "k", "b2", 245)) == []
        assert pipe(driver, ("s", "x", "9", 310)) == [("k", "1+b", 241), ("k", "2+b2", 250)]
        assert pipe(driver, ("s", "x", "9", 360)) == [("k", "3+b2", 300)]


def test_a_record_that_is_too_late_meets_its_row_at_once() -> None:
    with driver_of(built()) as driver:
        pipe(driver, ("t", "k", "a", 100), ("t", "k", "b", 200), ("s", "x", "9", 300))
        assert pipe(driver, ("s", "k", "1", 239)) == [("k", "1+b", 239)]
        assert pipe(driver, ("s", "k", "2", 240)) == [("k", "2+b", 240)]


def test_a_left_join_lets_records_go_without_a_row() -> None:
    with driver_of(built("left_join")) as driver:
        assert pipe(driver, ("s", "k", "1", 10), ("s", "x", "9", 100)) == [("k", "1+None", 10)]


def test_results_have_the_headers_and_place_of_the_record_that_waited() -> None:
    with driver_of(built("left_join", grace=timedelta(milliseconds=5))) as driver:
        driver.pipe_raw("s", b"k", b"1", 10, [("h", b"1")])
        driver.pipe_raw("s", b"x", b"9", 20, [("h", b"2")])
        (out,) = [one for one in driver.take_produced() if one.topic == "out"]
        assert out.headers == [("h", b"1")]


def test_what_waits_is_restored() -> None:
    with driver_of(built()) as driver:
        driver.pipe_raw("t", b"k", b"a", 100, ())
        driver.pipe_raw("s", b"k", b"1", 300, ())
        produced = driver.take_produced()
    with driver_of(built()) as driver:
        for name in ("rows", "j-Buffer"):
            driver.restore_entries(
                name,
                [
                    (one.timestamp or 0, one.key or b"", one.value, offset)
                    for offset, one in enumerate(produced)
                    if one.topic == f"test-driver-{name}-changelog"
                ],
            )
        assert pipe(driver, ("s", "k", "2", 299), ("s", "x", "9", 360)) == [
            ("k", "2+a", 299),
            ("k", "1+a", 300),
        ]


def test_an_error_is_told_of_the_record_that_waited() -> None:
    def joiner(value: str, row: str | None) -> str:
        if value == "bad":
            raise ValueError(value)
        return f"{value}+{row}"

    with driver_of(
        built("left_join", joiner=joiner), processing_handler=log_and_continue
    ) as driver:
        found = pipe(
            driver,
            ("s", "k", "1", 10),
            ("s", "k", "bad", 11),
            ("s", "k", "3", 12),
            ("s", "x", "9", 100),
        )
        assert found == [("k", "1+None", 10), ("k", "3+None", 12)]
        assert pipe(driver, ("s", "y", "9", 200)) == [("x", "9+None", 100)]


def test_a_left_join_cannot_let_a_record_without_a_key_wait() -> None:
    with (
        driver_of(built("left_join")) as driver,
        pytest.raises(StreamsError, match="without a key"),
    ):
        pipe(driver, ("s", None, "1", 10))


def test_a_table_without_a_history_or_with_a_short_one_is_refused() -> None:
    builder = StreamsBuilder()
    table, stream = builder.table("t"), builder.stream("s")
    with pytest.raises(TopologyError, match="keeps its newest rows only"):
        stream.join(table, max, grace=10)
    with pytest.raises(TopologyError, match="keep them as long at least"):
        built(grace=601).build()
    built(grace=600).build()


def test_other_joins_take_no_grace() -> None:
    builder = StreamsBuilder()
    stream: Any = builder.stream("s")
    everywhere = builder.global_table("g")
    with pytest.raises(TypeError, match="takes no grace"):
        stream.join(everywhere, max, key_selector=lambda key, value: key, grace=10)
    with pytest.raises(TypeError, match="are for tables"):
        stream.join(stream, max, grace=10)
    with pytest.raises(ValueError, match="must not be negative"):
        built(grace=-1)


def test_a_filtered_table_is_read_as_of_then() -> None:
    builder = StreamsBuilder()
    rows: Any = Materialized(store=versioned_store("rows", 600))
    table: Any = builder.table("t", materialized=rows)
    shouted = table.filter(lambda key, row: row != "b").map_values(str.upper)
    builder.stream("s").join(shouted, lambda value, row: f"{value}+{row}", grace=60).to("out")
    with driver_of(builder) as driver:
        pipe(driver, ("t", "k", "a", 100), ("t", "k", "b", 200))
        assert pipe(driver, ("s", "k", "1", 150), ("s", "k", "2", 250), ("s", "x", "9", 400)) == [
            ("k", "1+A", 150)
        ]
