"""Joins of tables by foreign key, by what the test driver shows of them.

Bytes, names and the order of records are held by the golden cases. Here: random changes against a
model, what is left out, what is refused when a topology is built, and what else is made of a
result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.streams.running import Log, idle
from thalweg import (
    Materialized,
    StreamsBuilder,
    StreamsError,
    TimeWindow,
    TimeWindows,
    TopologyError,
    TopologyTestDriver,
    Windowed,
    serdes,
)
from thalweg.streams.testing import ProducedRecord
from thalweg.topology.dsl import KTable

S, N = serdes.string, serdes.int64
KINDS: tuple[Kind, ...]
Kind: TypeAlias = Literal["join", "left_join"]
KINDS = ("join", "left_join")
Row: TypeAlias = tuple[str, str, str | None]
"""Topic, key, value."""


def target(value: str) -> str | None:
    """Returns the key that a left value names: "f:rest" names f, ":rest" nothing."""
    return value.split(":", maxsplit=1)[0] or None


def pair(left: str, right: str | None) -> str:
    return f"{left}+{right}"


def joined(kind: Kind, left: KTable[Any, Any], right: KTable[Any, Any], **more: Any) -> Any:
    return getattr(left, kind)(right, pair, foreign_key_extractor=target, **more)


def model(kind: Kind, left: dict[str, str], right: dict[str, str]) -> dict[str, str]:
    result = {}
    for key, value in left.items():
        name = target(value)
        found = None if name is None else right.get(name)
        if found is not None or kind == "left_join":
            result[key] = pair(value, found)
    return result


def last(records: list[ProducedRecord], topic: str) -> dict[str, str]:
    """Returns the table that a topic's records make."""
    rows: dict[str, str] = {}
    for record in records:
        if record.topic == topic:
            key = S.deserializer(topic)(record.key or b"")
            rows.pop(key, None)
            if record.value is not None:
                rows[key] = S.deserializer(topic)(record.value)
    return rows


def piped(driver: TopologyTestDriver, *rows: Row) -> list[tuple[str, str | None, int]]:
    """Pipes rows at times from 0 on and returns what came out, with its time."""
    out = driver.create_output_topic("out", S, S)
    for time, (topic, key, value) in enumerate(rows):
        driver.create_input_topic(topic, S, S).pipe_input(key, value, time)
    return [(str(one.key), one.value, one.timestamp) for one in out.read_records_to_list()]


def left_rows() -> st.SearchStrategy[Row]:
    values = st.none() | st.tuples(st.sampled_from(["", "f", "g"]), st.integers(0, 2)).map(
        lambda two: f"{two[0]}:{two[1]}"
    )
    return st.tuples(st.just("l"), st.sampled_from(["a", "b", "c"]), values)


def right_rows() -> st.SearchStrategy[Row]:
    values = st.none() | st.sampled_from(["x", "y"])
    return st.tuples(st.just("r"), st.sampled_from(["f", "g"]), values)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    rows=st.lists(left_rows() | right_rows() | st.none(), max_size=25),
    stores=st.tuples(*[st.sampled_from([None, True, False])] * 3),
    cache_bytes=st.sampled_from([0, 300, 100_000]),
    is_self=st.booleans(),
)
def test_the_result_follows_the_rows_of_both_tables(
    kind: Kind,
    rows: list[Row | None],
    stores: tuple[bool | None, bool | None, bool | None],
    cache_bytes: int,
    is_self: bool,
) -> None:
    def kept(name: str, caching: bool | None) -> Materialized[Any, Any]:
        named = None if caching is None else name
        return Materialized(
            named, key_serde=S, value_serde=S, caching=caching is not False, store="memory"
        )

    builder = StreamsBuilder()
    left = builder.table("l", key_serde=S, value_serde=S, materialized=kept("ls", stores[0]))
    right = left
    if not is_self:
        right = builder.table("r", key_serde=S, value_serde=S, materialized=kept("rs", stores[1]))
    result = joined(kind, left, right, materialized=kept("js", stores[2]))
    result.to_stream().to("out", key_serde=S, value_serde=S)
    counts = result.group_by(
        lambda _key, value: (value.split("+")[1], value), key_serde=S, value_serde=S
    ).count(materialized=Materialized("counts", value_serde=N))
    counts.to_stream().to("counts", key_serde=S, value_serde=N)

    tables: dict[str, dict[str, str]] = {"l": {}, "r": {}}
    with TopologyTestDriver(
        builder, commit="manual", statestore_cache_max_bytes=cache_bytes
    ) as driver:
        for time, row in enumerate(rows):
            if row is None:
                driver.commit()
                continue
            topic, key, value = row
            if is_self and topic == "r":
                # A left row of the same name: names of right rows are names of left ones.
                topic, value = "l", value and f"{key}:{value}"
            tables[topic].pop(key, None)
            if value is not None:
                tables[topic][key] = value
            driver.pipe_raw(topic, key.encode(), value and value.encode(), time)
        for _ in range(3):
            driver.commit()
        expected = model(kind, tables["l"], tables["l" if is_self else "r"])
        assert last(driver.take_produced(), "out") == expected
        found = {key: one.value for key, one in driver.get_state_store("counts").all() if one.value}
        groups = [value.split("+")[1] for value in expected.values()]
        assert found == {group: groups.count(group) for group in groups}


@pytest.mark.parametrize("with_key", [False, True])
def test_the_extractor_sees_the_value_or_key_and_value(with_key: bool) -> None:
    builder = StreamsBuilder()
    left = builder.table("l", key_serde=S, value_serde=S)
    right = builder.table("r", key_serde=S, value_serde=S)

    def by_key(key: str, value: str) -> str:
        return key + value

    def by_value(value: str) -> str:
        return "k" + value

    result: KTable[str, str] = (
        left.join(right, pair, foreign_key_extractor=by_key)
        if with_key
        else left.join(right, pair, foreign_key_extractor=by_value)
    )
    result.to_stream().to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        assert piped(driver, ("r", "kv", "x"), ("l", "k", "v")) == [("k", "v+x", 1)]


def simple(kind: Kind = "join", **more: Any) -> StreamsBuilder:
    builder = StreamsBuilder()
    left = builder.table("l", key_serde=S, value_serde=S)
    right = builder.table("r", key_serde=S, value_serde=S)
    joined(kind, left, right, **more).to_stream().to("out", key_serde=S, value_serde=S)
    return builder


def test_an_inner_join_counts_rows_that_name_nothing() -> None:
    with TopologyTestDriver(simple()) as driver:
        assert piped(driver, ("r", "f", "x"), ("l", "k", ":1"), ("l", "k", "f:1")) == [
            ("k", "f:1+x", 2)
        ]
        assert driver.dropped_records_total() == 1
        # It named a row before: what was joined of it goes.
        assert piped(driver, ("l", "k", ":2")) == [("k", None, 0)]
        assert driver.dropped_records_total() == 2


def test_a_left_join_keeps_rows_that_name_nothing() -> None:
    with TopologyTestDriver(simple("left_join")) as driver:
        assert piped(driver, ("l", "k", ":1"), ("l", "k", ":2"), ("l", "k", None)) == [
            ("k", ":1+None", 0),
            ("k", ":2+None", 1),
            ("k", None, 2),
        ]
        assert driver.dropped_records_total() == 0


def test_the_result_has_the_later_time_of_both_rows_and_of_a_right_row_its_own() -> None:
    builder = simple()
    with TopologyTestDriver(builder) as driver:
        out = driver.create_output_topic("out", S, S)
        left, right = driver.create_input_topic("l", S, S), driver.create_input_topic("r", S, S)
        right.pipe_input("f", "x", 50)
        left.pipe_input("k", "f:1", 10)
        right.pipe_input("f", "y", 5)
        assert [one.timestamp for one in out.read_records_to_list()] == [50, 5]


def test_an_answer_to_an_older_row_is_left_out() -> None:
    builder = StreamsBuilder()
    left = builder.table(
        "l", materialized=Materialized("ls", key_serde=S, value_serde=S, caching=False)
    )
    right = builder.table("r", key_serde=S, value_serde=S)
    joined("join", left, right).to_stream().to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        assert piped(driver, ("l", "k", "f:1")) == []
        store = driver.get_state_store("ls")
        store.put("k", store.get("k")._replace(value="f:2"))
        assert piped(driver, ("r", "f", "x")) == []
        assert driver.dropped_records_total() == 1


def test_windows_are_joined_by_foreign_key() -> None:
    builder = StreamsBuilder()
    windows = TimeWindows.of_size(10)
    left: KTable[Windowed[str], int] = (
        builder.stream("l", key_serde=S, value_serde=S)
        .group_by_key()
        .windowed_by(windows)
        .count(materialized=Materialized(key_serde=S, value_serde=N))
    )
    right = builder.table("r", key_serde=S, value_serde=S)
    result = left.join(
        right,
        lambda count, name: f"{name} {count}",
        foreign_key_extractor=lambda window, _count: window.key,
    )
    result.to_stream(lambda window, _value: f"{window.key}@{window.window.start_ms}").to(
        "out", key_serde=S, value_serde=S
    )
    with TopologyTestDriver(builder) as driver:
        rows: list[Row] = [("r", "k", "name"), ("l", "k", "v"), ("l", "k", "v")]
        assert piped(driver, *rows) == [("k@0", "name 1", 1), ("k@0", "name 2", 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_registrations_for_windows_go_where_their_windows_are(kind: Kind) -> None:
    builder = StreamsBuilder()
    left = builder.table("l", key_serde=S, value_serde=S)
    right = (
        builder.stream("r", key_serde=S, value_serde=S)
        .group_by_key()
        .windowed_by(TimeWindows.of_size(10))
        .count(materialized=Materialized(key_serde=S, value_serde=N))
    )

    def window(value: str) -> Windowed[str] | None:
        return Windowed(value, TimeWindow(0, 10)) if value else None

    result: KTable[str, str] = getattr(left, kind)(
        right, lambda value, count: f"{value} {count}", foreign_key_extractor=window
    )
    result.to_stream().to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        rows: list[Row] = [("r", "k", "v"), ("l", "a", "k"), ("l", "b", "")]
        unnamed = [("b", " None", 2)] if kind == "left_join" else []
        assert piped(driver, *rows) == [("a", "k 1", 1), *unnamed]


def test_a_partitioner_of_the_left_table_sees_keys() -> None:
    asked: list[tuple[str, Any, Any, int]] = []

    def choose(topic: str, key: str, value: Any, count: int) -> set[int]:
        asked.append((topic, key, value, count))
        return {0}

    builder = simple(partitioner=choose, other_partitioner=choose)
    with TopologyTestDriver(builder, application_id="app") as driver:
        assert piped(driver, ("r", "f", "x"), ("l", "k", "f:1"), ("r", "f", "y")) == [
            ("k", "f:1+x", 1),
            ("k", "f:1+y", 2),
        ]
    registrations = "app-KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000006-topic"
    responses = "app-KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-0000000014-topic"
    assert asked == [
        (registrations, "f", None, 1),
        (responses, "k", None, 1),
        (responses, "k", None, 1),
    ]


def test_a_partitioner_must_choose_one_partition() -> None:
    builder = simple(other_partitioner=lambda _topic, _key, _value, _count: [0, 1])
    with (
        TopologyTestDriver(builder) as driver,
        pytest.raises(StreamsError, match="chose 2 partitions"),
    ):
        piped(driver, ("l", "k", "f:1"))


@pytest.mark.parametrize(
    ("upgrade_from", "version", "is_long"), [("3.3", 0, False), ("3.4", 1, True), (None, 1, True)]
)
def test_versions_up_to_3_3_read_registrations_without_a_partition(
    upgrade_from: str | None, version: int, is_long: bool
) -> None:
    with TopologyTestDriver(simple(), upgrade_from=upgrade_from) as driver:
        driver.pipe_raw("r", b"f", b"x", 0)
        driver.take_produced()
        driver.pipe_raw("l", b"k", b"f:1", 1)
        produced = driver.take_produced()
    registered = [one for one in produced if "REGISTRATION" in one.topic]
    kept = [one for one in produced if "SUBSCRIPTION-STATE-STORE" in one.topic]
    (response,) = [one for one in produced if "RESPONSE" in one.topic]
    for record in (*registered, *kept):
        assert record.value is not None
        assert record.value[0] == version
        assert record.value.endswith(b"k\0\0\0\0" if is_long else b"k")
    assert response.partition == (0 if is_long else None)
    assert last(produced, "out") == {"k": "f:1+x"}


def test_an_extractor_that_fails_is_told_with_its_node() -> None:
    builder = StreamsBuilder()
    left = builder.table("l", key_serde=S, value_serde=S)
    right = builder.table("r", key_serde=S, value_serde=S)
    left.join(right, pair, foreign_key_extractor=lambda value: value.missing, named="fk")  # type: ignore[attr-defined]
    with (
        TopologyTestDriver(builder) as driver,
        pytest.raises(StreamsError, match="fk-subscription-registration-processor"),
    ):
        piped(driver, ("l", "k", "f:1"))


def test_a_foreign_key_of_the_wrong_type_is_told() -> None:
    builder = StreamsBuilder()
    left = builder.table("l", key_serde=S, value_serde=S)
    right = builder.table("r", key_serde=S, value_serde=S)
    left.join(right, pair, foreign_key_extractor=len)  # type: ignore[arg-type]
    with (
        TopologyTestDriver(builder) as driver,
        pytest.raises(StreamsError, match="a value of type int"),
    ):
        piped(driver, ("l", "k", "f:1"))


# -- refused when the topology is built ----------------------------------------------------


def tables() -> tuple[KTable[str, str], KTable[str, str]]:
    builder = StreamsBuilder()
    return (
        builder.table("l", key_serde=S, value_serde=S),
        builder.table("r", key_serde=S, value_serde=S),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_the_wrong_number_of_arguments_are_refused(kind: Kind) -> None:
    left, right = tables()
    join: Any = getattr(left, kind)

    with pytest.raises(TypeError, match=rf"{kind}\(\).*left, right"):
        join(right, lambda _one: "", foreign_key_extractor=target)
    with pytest.raises(TypeError, match=rf"foreign_key_extractor of {kind}\(\)"):
        join(right, pair, foreign_key_extractor=lambda _one, _two, _three: "")
    with pytest.raises(TypeError, match=r"partitioner of .*topic, key, value"):
        join(right, pair, foreign_key_extractor=target, partitioner=lambda _key: 0)


def test_a_join_by_key_takes_no_partitioner() -> None:
    left, right = tables()
    join: Any = left.join

    with pytest.raises(TypeError, match="foreign_key_extractor"):
        join(right, pair, partitioner=lambda _topic, _key, _value, _count: 0)


def test_tables_of_two_builders_are_refused() -> None:
    left, _ = tables()
    _, right = tables()

    with pytest.raises(TopologyError, match="different builders"):
        left.join(right, pair, foreign_key_extractor=target)


def test_names_can_be_made_explicit() -> None:
    config = {"ensure.explicit.internal.resource.naming": "true"}

    def built(**more: Any) -> None:
        builder = StreamsBuilder()
        left = builder.table("l", key_serde=S, value_serde=S, store="ls")
        right = builder.table("r", key_serde=S, value_serde=S, store="rs")
        joined("join", left, right, **more)
        builder.build(config)

    built(named="fk")
    with pytest.raises(TopologyError) as refused:
        built()
    for part in ("REGISTRATION-0000000004", "STATE-STORE-0000000008", "RESPONSE-0000000012"):
        assert part in refused.value.message


def test_the_counts_of_partitions_follow_from_both_tables() -> None:
    from thalweg.topology.subtopologies import (
        TopologyConfig,
        internal_topic_partitions,
        subtopologies,
    )

    topology = simple(named="fk").build()
    parts = subtopologies(topology, TopologyConfig("app"))
    counts = internal_topic_partitions(parts, {"l": 3, "r": 5})

    assert counts["app-fk-subscription-registration-topic"] == 5
    assert counts["app-fk-subscription-store-changelog"] == 5
    assert counts["app-fk-subscription-response-topic"] == 3


# -- on a log ------------------------------------------------------------------------------


def test_rows_meet_across_partitions_and_go_on_where_state_is_lost(tmp_path: Path) -> None:
    log = Log()
    log.create("l", 3)
    log.create("r", 2)
    log.create("out", 3)
    left = {f"k{number}": f"f{number % 5}:{number}" for number in range(30)}
    right = {f"f{number}": f"x{number}" for number in range(4)}

    def run(state: str) -> None:
        app = log.app(simple("left_join"), tmp_path / state)
        app.start()
        idle(app)
        app.close()

    def result() -> dict[str, str]:
        return {seen.key: seen.value for seen in log.read("out")}

    log.send("l", *left.items())
    log.send("r", *right.items())
    run("one")
    assert result() == model("left_join", left, right)

    left |= {"k1": "f4:new", "k2": "f0:new"}
    right |= {"f3": "y3", "f4": "y4"}
    log.send("r", *right.items())
    log.send("l", ("k1", left["k1"]), ("k2", left["k2"]))
    run("two")
    assert result() == model("left_join", left, right)
    # Answers have come to the partitions of their left rows.
    place = {seen.key: seen.partition for seen in log.read("l")}
    assert all(place[seen.key] == seen.partition for seen in log.read("out"))
