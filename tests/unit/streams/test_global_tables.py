"""Global tables: joins with streams, queries, and what is refused when a topology is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log, settled
from thalweg import (
    GlobalKTable,
    KStream,
    Materialized,
    StreamsBuilder,
    StreamsError,
    TopologyError,
    TopologyTestDriver,
    key_value_store,
    serdes,
    versioned_store,
    window_store,
)

S, N = serdes.string, serdes.int64


def made(builder: StreamsBuilder, **more: Any) -> tuple[KStream[str, str], GlobalKTable[str, str]]:
    return (
        builder.stream("s", key_serde=S, value_serde=S),
        builder.global_table("g", key_serde=S, value_serde=S, **more),
    )


def first(_key: str, value: str) -> str | None:
    return value[:1] or None


def piped(driver: TopologyTestDriver, *rows: tuple[str, str | None, str | None]) -> list[Any]:
    out = driver.create_output_topic("out", S, S)
    for time, (topic, key, value) in enumerate(rows):
        driver.create_input_topic(topic, S, S).pipe_input(key, value, time)
    return [(one.key, one.value, one.timestamp) for one in out.read_records_to_list()]


@pytest.mark.parametrize(
    ("joiner", "expected"),
    [
        (lambda value, row: f"{value} {row}", "a1 x"),
        (lambda key, value, row: f"{key} {value} {row}", "k a1 x"),
        (lambda key, selected, value, row: f"{key} {selected} {value} {row}", "k a a1 x"),
    ],
)
@pytest.mark.parametrize("kind", ["join", "left_join"])
def test_a_joiner_may_see_both_keys(kind: str, joiner: Any, expected: str) -> None:
    builder = StreamsBuilder()
    stream, table = made(builder)
    getattr(stream, kind)(table, joiner, key_selector=first).to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        assert piped(driver, ("g", "a", "x"), ("s", "k", "a1")) == [("k", expected, 1)]


def test_what_a_selector_finds_no_key_for_is_joined_with_none_by_left_joins_only() -> None:
    builder = StreamsBuilder()
    stream, table = made(builder)
    for kind in ("join", "left_join"):
        joined = getattr(stream, kind)(
            table, lambda value, row: f"{value} {row}", key_selector=first
        )
        joined.to("out" if kind == "left_join" else "inner", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        assert piped(driver, ("s", "k", ""), ("s", None, "b"), ("s", "k", None)) == [
            ("k", " None", 0),
            (None, "b None", 1),
        ]
        # The inner join leaves out the first and the last, the left join the last.
        assert driver.dropped_records_total() == 3
        assert driver.create_output_topic("inner", S, S).is_empty


def test_rows_are_those_of_the_moment_and_never_told_by_themselves() -> None:
    builder = StreamsBuilder()
    stream, table = made(builder)
    stream.join(table, lambda value, row: value + row, key_selector=first).to(
        "out", key_serde=S, value_serde=S
    )
    with TopologyTestDriver(builder) as driver:
        rows: list[tuple[str, str | None, str | None]] = [
            ("s", "k", "a"),
            ("g", "a", "1"),
            ("s", "k", "a"),
            ("g", "a", "2"),
            ("s", "k", "a"),
            ("g", "a", None),
            ("s", "k", "a"),
        ]
        assert [one[1] for one in piped(driver, *rows)] == ["a1", "a2"]


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("backend", ["rocks", "memory"])
def test_a_named_store_can_be_read(caching: bool, backend: Any) -> None:
    builder = StreamsBuilder()
    table = builder.global_table(
        "g",
        store="kept",
        materialized=Materialized(key_serde=S, value_serde=S, caching=caching, store=backend),
    )
    stream = builder.stream("s", key_serde=S, value_serde=S)
    stream.join(table, lambda value, row: value + row, key_selector=first).to("out")
    assert table.queryable_store_name == "kept"
    with TopologyTestDriver(builder) as driver:
        piped(driver, ("g", "a", "1"), ("g", None, "left out"))
        assert driver.get_state_store("kept").get("a").value == "1"


def test_a_store_without_a_name_is_not_queryable() -> None:
    _, table = made(StreamsBuilder())

    assert table.queryable_store_name is None
    assert repr(table) == "<GlobalKTable, store 'g-STATE-STORE-0000000001'>"


def test_a_given_store_is_kept_in() -> None:
    builder = StreamsBuilder()
    made(builder, materialized=Materialized(store=key_value_store("mine", in_memory=True)))

    (store,) = builder.build().global_stores.values()
    assert (store.name, store.backend, store.is_timestamped, store.logged) == (
        "mine",
        "memory",
        True,
        False,
    )


def test_the_key_of_the_stream_and_its_need_of_a_repartition_stay() -> None:
    builder = StreamsBuilder()
    stream, table = made(builder)
    keyed = stream.select_key(lambda _key, value: value)
    keyed.join(table, lambda value, row: value, key_selector=first).group_by_key(
        key_serde=S, value_serde=S
    ).count()

    assert list(builder.build().internal_topics) == [
        "KSTREAM-AGGREGATE-STATE-STORE-0000000006-repartition"
    ]


def test_a_selector_that_fails_is_told_with_its_node() -> None:
    builder = StreamsBuilder()
    stream, table = made(builder)
    stream.join(
        table,
        lambda value, row: value,
        key_selector=lambda _key, value: value.missing,  # type: ignore[attr-defined]
        name="look-up",
    )
    with TopologyTestDriver(builder) as driver, pytest.raises(StreamsError, match="look-up"):
        piped(driver, ("s", "k", "a"))


# -- refused when the topology is built ----------------------------------------------------


@pytest.mark.parametrize("kind", ["join", "left_join"])
def test_functions_of_the_wrong_number_of_arguments_are_refused(kind: str) -> None:
    builder = StreamsBuilder()
    stream, table = made(builder)
    join = getattr(stream, kind)

    with pytest.raises(TypeError, match="needs a key_selector"):
        join(table, lambda value, row: value)
    with pytest.raises(TypeError, match=rf"key_selector of {kind}\(\).*key, value"):
        join(table, lambda value, row: value, key_selector=len)
    with pytest.raises(TypeError, match=rf"{kind}\(\).*value, row"):
        join(table, len, key_selector=first)


def test_a_join_with_a_table_takes_no_selector() -> None:
    builder = StreamsBuilder()
    stream, _ = made(builder)
    table = builder.table("t", key_serde=S, value_serde=S)
    join: Any = stream.join

    with pytest.raises(TypeError, match="global_table"):
        join(table, lambda value, row: value, key_selector=first)


def test_parts_of_two_builders_are_refused() -> None:
    stream, _ = made(StreamsBuilder())
    _, table = made(StreamsBuilder())

    with pytest.raises(TopologyError, match="different builders"):
        stream.join(table, lambda value, row: value, key_selector=first)


def test_a_topic_is_read_whole_or_by_partition() -> None:
    builder = StreamsBuilder()
    made(builder)
    builder.stream("g").to("out")

    with pytest.raises(TopologyError, match="'g'"):
        builder.build()


def test_windows_are_no_rows_of_a_global_table() -> None:
    kept = Materialized[Any, Any](store=window_store("w", retention_ms=10, window_size_ms=10))

    with pytest.raises(TopologyError, match="keeps a timestamped-key-value store"):
        StreamsBuilder().global_table("g", materialized=kept)


def test_a_global_table_is_not_versioned() -> None:
    kept = Materialized[Any, Any](store=versioned_store("v", 10))

    with pytest.raises(TopologyError, match="cannot be versioned"):
        StreamsBuilder().global_table("g", materialized=kept)


# -- on a log ------------------------------------------------------------------------------


def test_the_table_is_complete_before_a_record_is_joined(tmp_path: Path) -> None:
    log = Log()
    log.create("g", 4)
    log.send("g", *((f"k{number}", f"{number}") for number in range(20)))
    log.send("s", *((None, f"k{number}") for number in range(0, 20, 3)))
    builder = StreamsBuilder()
    stream, table = made(builder, store="kept")
    stream.join(table, lambda value, row: f"{value}={row}", key_selector=lambda _, value: value).to(
        "out", key_serde=S, value_serde=S
    )

    def run(*expected: str) -> None:
        app = log.app(builder, tmp_path)
        app.start()
        settled(app, log, "out", len(expected))
        app.close()
        assert [seen.value for seen in log.read("out")] == list(expected)

    first_run = [f"k{number}={number}" for number in range(0, 20, 3)]
    run(*first_run)
    log.send("g", ("k0", "new"))
    log.send("s", (None, "k0"), (None, "k1"))
    run(*first_run, "k0=new", "k1=1")
