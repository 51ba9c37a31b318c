"""Which serdes operators pass on to their stores, and what is told where a serde fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg.stores.builders import key_value_store, timestamped_key_value_store
from thalweg.stores.record import Record
from thalweg.stores.serde import Serde, serdes
from thalweg.streams.errors import DeserializationError, SerializationError, StreamsError
from thalweg.streams.testing import TopologyTestDriver
from thalweg.topology.dsl import (
    KTable,
    Materialized,
    StreamsBuilder,
    TimeWindows,
)
from thalweg.topology.physical import Topology
from thalweg.topology.processor import Processor

S, L = serdes.string, serdes.int64


class Doubled:
    """A value transformer."""

    def transform(self, _key: str, value: int | None) -> int | None:
        return None if value is None else value * 2


def table(builder: StreamsBuilder) -> KTable[str, int]:
    return builder.table("in", key_serde=S, value_serde=L)


KEPT: dict[str, Callable[[StreamsBuilder], KTable[Any, Any]]] = {
    "filter": lambda b: table(b).filter(lambda _k, v: v > 0, name="kept"),
    "filter, not named": lambda b: (
        table(b)
        .filter(lambda _k, v: v > 0, materialized=Materialized())
        .filter(lambda _k, _v: True, name="kept")
    ),
    "filter_not": lambda b: table(b).filter_not(lambda _k, v: v < 0, name="kept"),
    "filter with options": lambda b: table(b).filter(
        lambda _k, v: v > 0, materialized=Materialized("kept", caching=False)
    ),
    "map_values": lambda b: table(b).map_values(
        lambda v: v, materialized=Materialized("kept", value_serde=L)
    ),
    "transform_values": lambda b: table(b).transform_values(
        Doubled, materialized=Materialized("kept", value_serde=L)
    ),
    "join": lambda b: table(b).join(
        table_of(b), lambda one, _other: one, materialized=Materialized("kept", value_serde=L)
    ),
    "outer_join": lambda b: table(b).outer_join(
        table_of(b), lambda one, _other: one, materialized=Materialized("kept", value_serde=L)
    ),
    "to_table": lambda b: table(b).to_stream().to_table(name="kept"),
    "to_table with options": lambda b: (
        table(b).to_stream().to_table(materialized=Materialized("kept", store="memory"))
    ),
    "table": lambda b: b.table("in", key_serde=S, value_serde=L, store="kept"),
    "a store that has serdes": lambda b: b.table(
        "in", materialized=Materialized(store=timestamped_key_value_store("kept", S, L))
    ),
    "reduce": lambda b: table(b).to_stream().group_by_key().reduce(max, "kept"),
    "aggregate": lambda b: (
        table(b)
        .to_stream()
        .group_by_key()
        .aggregate(int, lambda _k, v, total: total + v, "kept", value_serde=L)
    ),
    "table aggregate": lambda b: (
        table(b)
        .group_by(lambda k, v: (k, v), key_serde=S, value_serde=L)
        .aggregate(
            int,
            lambda _k, v, total: total + v,
            lambda _k, v, total: total - v,
            "kept",
            value_serde=L,
        )
    ),
}


def table_of(builder: StreamsBuilder) -> KTable[str, int]:
    return builder.table("other", key_serde=S, value_serde=L)


@pytest.mark.parametrize("case", KEPT)
def test_stores_have_the_serdes_that_are_known(case: str) -> None:
    builder = StreamsBuilder()
    KEPT[case](builder).to_stream().to("out", value_serde=L)
    with TopologyTestDriver(builder) as driver:
        if case == "join":
            driver.create_input_topic("other", S, L).pipe_input("k", 1)
        driver.create_input_topic("in", S, L).pipe_input("k", 5)
        assert driver.get_state_store("kept").get("k").value in (5, 10)
        assert driver.create_output_topic("out", S, L).read_key_value()[0] == "k"


def test_a_windowed_aggregate_takes_the_serde_of_its_values() -> None:
    builder = StreamsBuilder()
    grouped = builder.stream("in", key_serde=S, value_serde=L).group_by_key()
    windowed = grouped.windowed_by(TimeWindows.of_size(10))
    windowed.aggregate(int, lambda _k, v, total: total + v, "sum", value_serde=L).filter(
        lambda _k, v: v > 1, name="large"
    )
    with TopologyTestDriver(builder) as driver:
        driver.create_input_topic("in", S, L).pipe_input("k", 5)
        ((key, row),) = driver.get_state_store("large").all()
        assert (key.key, row.value) == ("k", 5)


def test_two_serdes_of_one_aggregate_are_refused() -> None:
    grouped = StreamsBuilder().stream("in").group_by_key()
    same = Materialized[Any, Any]("a", value_serde=L)
    grouped.aggregate(int, max, value_serde=L, materialized=same)
    with pytest.raises(TypeError, match="two value serdes, string and, by materialized, int64"):
        grouped.aggregate(int, max, value_serde=S, materialized=same)


# -- what is told --------------------------------------------------------------------------


def raised(builder: StreamsBuilder | Topology, key: bytes | None, value: bytes) -> StreamsError:
    with TopologyTestDriver(builder) as driver, pytest.raises(StreamsError) as error:
        driver.pipe_raw("in", key, value, 0)
    return error.value


def grouped(builder: StreamsBuilder) -> Any:
    return builder.stream("in", key_serde=S, value_serde=S).group_by_key()


WRONG: dict[str, tuple[Callable[[StreamsBuilder], Any], str]] = {
    "aggregate": (
        lambda b: grouped(b).aggregate(int, lambda _k, _v, total: total + 1, "s"),
        (
            "store 's' of aggregate() cannot write the value of a row: serde bytes cannot write a value "
            "of type int: it takes bytes; give the serde of its type: aggregate(..., value_serde=...)"
        ),
    ),
    "aggregate with materialized": (
        lambda b: grouped(b).aggregate(
            int, lambda _k, _v, n: n + 1, materialized=Materialized("s", value_serde=S)
        ),
        "give the serde of its type: Materialized(..., value_serde=...)",
    ),
    "windowed aggregate": (
        lambda b: (
            grouped(b)
            .windowed_by(TimeWindows.of_size(10))
            .aggregate(int, lambda _k, _v, total: total + 1, "s")
        ),
        "store 's' of aggregate() cannot write the value of a row: serde bytes cannot",
    ),
    "reduce": (
        lambda b: grouped(b).reduce(max, materialized=Materialized("s", key_serde=L)),
        (
            "store 's' of reduce() cannot write the key of a row: serde int64 cannot write a value of "
            "type str: it takes an int from -2**63 to 2**63 - 1; give the serde of its type: "
            "Materialized(..., key_serde=...)"
        ),
    ),
    "count": (
        lambda b: b.stream("in", value_serde=S).group_by(lambda _k, v: v).count("s"),
        (
            "cannot write the key of a record for topic 'test-driver-s-repartition': serde bytes cannot "
            "write a value of type str: it takes bytes; give the serde of its type: "
            "group_by(..., key_serde=...)"
        ),
    ),
    "table map_values": (
        lambda b: b.table("in", key_serde=S, value_serde=S).map_values(len, name="s"),
        (
            "store 's' of map_values() cannot write the value of a row: serde bytes cannot write a "
            "value of type int: it takes bytes; give the serde of its type: "
            "map_values(..., materialized=Materialized(..., value_serde=...))"
        ),
    ),
    "to": (
        lambda b: b.stream("in", value_serde=S).map_values(len).to("out", name="end"),
        (
            "sink 'end' of to() cannot write the value of a record for topic 'out': serde bytes cannot "
            "write a value of type int: it takes bytes; give the serde of its type: "
            "to(..., value_serde=...)"
        ),
    ),
    "repartition": (
        lambda b: b.stream("in", value_serde=S).map_values(len).repartition("r"),
        "give the serde of its type: repartition(..., value_serde=...)",
    ),
    "join": (
        lambda b: (
            b.stream("in", value_serde=S)
            .select_key(lambda _k, v: v)
            .join(
                b.table("t"),
                max,  # type: ignore[arg-type]
            )
        ),
        "give the serde of its type: join(..., key_serde=...)",
    ),
    "windowed key": (
        lambda b: (
            grouped(b)
            .windowed_by(TimeWindows.of_size(10))
            .count("s")
            .to_stream()
            .to("out", key_serde=S, value_serde=L)
        ),
        "keys of windows need serdes.windowed(",
    ),
    "stream": (
        lambda b: b.stream("in", value_serde=L, name="start").to("out"),
        (
            "source 'start' of stream() cannot read the value of a record of topic 'in': serde int64 "
            "cannot read 4 bytes (74 65 78 74)"
        ),
    ),
    "table": (
        lambda b: b.table("in", key_serde=L, value_serde=S),
        "of table() cannot read the key of a record of topic 'in': serde int64 cannot read 1 bytes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_serde_error_names_store_or_topic_the_half_the_operator_and_the_remedy(case: str) -> None:
    build, said = WRONG[case]
    builder = StreamsBuilder()
    build(builder)

    assert said in raised(builder, b"k", b"text").message


def test_a_store_of_a_processor_names_what_describes_it() -> None:
    class Put(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.get_state_store("mine").put(record.key, 5)

    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("mine", S, S))
    builder.stream("in", key_serde=S).process(Put, "mine")

    assert (
        "store 'mine' cannot write the value of a row: serde string cannot write a value of type "
        "int: it takes a str without lone surrogates; give the serde of its type: "
        "key_value_store(..., value_serde=...)"
    ) in raised(builder, b"k", b"v").message


def test_a_topology_put_together_by_hand_names_its_calls() -> None:
    topology = Topology().add_source("s", "in", value_serde=S)
    topology.add_sink("o", "out", "s", value_serde=L)

    assert raised(topology, b"k", b"v").message.endswith("add_sink(..., value_serde=...)")
    topology = Topology().add_source("s", "in", value_serde=L).add_sink("o", "out", "s")
    assert "add_source(..., value_serde=...)" in raised(topology, b"k", b"v").message


def failing_write(_value: Any) -> bytes:
    raise LookupError("no schema for this")


def failing_read(_data: bytes) -> Any:
    raise LookupError("no schema for that")


BROKEN: Serde[Any] = Serde.of(failing_write, bytes.decode, name="broken")
UNREADABLE: Serde[Any] = Serde.of(str.encode, failing_read, name="unreadable")


class OwnSerde(Serde[str]):
    """A serde whose functions raise whatever they like."""

    @property
    def name(self) -> str:
        return "own"

    def serializer(self, topic: str) -> Callable[[str], bytes]:
        return failing_write

    def deserializer(self, topic: str) -> Callable[[bytes], str]:
        return failing_read


@pytest.mark.parametrize("serde", [BROKEN, OwnSerde()], ids=str)
def test_what_a_serde_of_ones_own_raises_is_told_on_writing(serde: Serde[Any]) -> None:
    builds: list[Callable[[StreamsBuilder], Any]] = [
        lambda b: b.stream("in", value_serde=S).to("out", value_serde=serde),
        lambda b: b.stream("in", value_serde=S).to("out", value_serde=serde, partitioner=zero),
        lambda b: grouped(b).reduce(max, materialized=Materialized("s", value_serde=serde)),
        lambda b: b.table("in", key_serde=S, value_serde=S).map_values(
            str.upper, materialized=Materialized("s", value_serde=serde)
        ),
        lambda b: (
            b.table("in", key_serde=S, value_serde=S)
            .group_by(lambda k, v: (k, v), key_serde=S, value_serde=serde)
            .count()
        ),
    ]
    for build in builds:
        builder = StreamsBuilder()
        build(builder)
        error = raised(builder, b"k", b"v")
        assert "LookupError: 'no schema for this'" in error.message or (
            "LookupError: no schema for this" in error.message
        )
    with TopologyTestDriver(StreamsBuilder()) as driver:
        topic = driver.create_input_topic("in", value_serde=serde)
        with pytest.raises(SerializationError, match=r"no schema for this.*create_input_topic\("):
            topic.pipe_value("v")


def zero(_topic: str, _key: Any, _value: Any, _count: int) -> int:
    return 0


@pytest.mark.parametrize("serde", [UNREADABLE, OwnSerde()], ids=str)
def test_what_a_serde_of_ones_own_raises_is_told_on_reading(serde: Serde[Any]) -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=serde).to("out")
    assert "no schema for that" in raised(builder, b"k", b"v").message
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    with TopologyTestDriver(builder) as driver:
        driver.pipe_raw("in", None, b"v", 0)
        out = driver.create_output_topic("out", value_serde=serde)
        with pytest.raises(DeserializationError, match=r"no schema for that.*create_output_topic"):
            out.read_value()


def test_what_a_store_cannot_read_is_told() -> None:
    builder = StreamsBuilder()
    builder.table("in", key_serde=S, value_serde=S, store="s").filter(lambda _k, _v: True)
    with TopologyTestDriver(builder, statestore_cache_max_bytes=0) as driver:
        driver.restore_entries("s", [(0, b"k", b"\xff", 0)])
        with pytest.raises(DeserializationError) as error:
            driver.get_state_store("s").get("k")
    assert error.value.message.startswith(
        "store 's' of table() cannot read the value of a row: serde string cannot read 1 bytes (ff)"
    )
    assert error.value.message.endswith("table(..., value_serde=...)")


@pytest.mark.parametrize("returned", [None, "text", 5, {}], ids=repr)
def test_a_serde_that_writes_no_bytes_is_told(returned: Any) -> None:
    wrong: Serde[Any] = Serde.of(lambda _value: returned, bytes.decode, name="wrong")
    builds: list[Callable[[StreamsBuilder], Any]] = [
        lambda b: b.stream("in", value_serde=S).to("out", value_serde=wrong),
        lambda b: b.stream("in", value_serde=S).to("out", value_serde=wrong, partitioner=zero),
        lambda b: grouped(b).reduce(max, materialized=Materialized("s", value_serde=wrong)),
    ]
    for build in builds:
        builder = StreamsBuilder()
        build(builder)
        message = raised(builder, b"k", b"v").message
        assert f"its function returned {returned!r}" in message
        assert "it must return bytes" in message


def test_a_serde_may_write_a_buffer() -> None:
    buffers = Serde.of(lambda value: memoryview(bytearray(value, "utf-8")), bytes.decode, name="b")  # type: ignore[arg-type, return-value]
    builder = StreamsBuilder()
    builder.stream("in", value_serde=S).to("out", value_serde=buffers)
    with TopologyTestDriver(builder) as driver:
        driver.pipe_raw("in", None, b"v", 0)
        assert driver.take_produced()[0].value == b"v"
