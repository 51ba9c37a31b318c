"""Serdes that see and set the headers of the record they read or write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg.stores.record import Headers
from thalweg.stores.serde import Serde, serdes
from thalweg.streams.config import StreamsConfig
from thalweg.streams.consumer import Consumer
from thalweg.streams.errors import DeserializationError
from thalweg.streams.producer import Producer
from thalweg.streams.testing import TopologyTestDriver
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.topology.dsl import Materialized, StreamsBuilder, TimeWindows
from thalweg.topology.processor import ConsumedRecord

S = serdes.string


def write(value: str, headers: Headers) -> bytes:
    """Says in a header in which encoding a text is."""
    encoding = "utf-16-be" if any(ord(letter) > 127 for letter in value) else "ascii"
    headers.remove("encoding").add("encoding", encoding.encode())
    return value.encode(encoding)


def read(data: bytes, headers: Headers) -> str:
    encoding = headers.last("encoding")
    if encoding is None:
        raise LookupError("there is no header 'encoding'")
    return data.decode(encoding.decode())


TEXT = Serde.of(write, read, name="text", headers=True, keyable=True, immutable=True)
WIDE = "wörter".encode("utf-16-be")


def run(build: Callable[[StreamsBuilder], Any], **settings: Any) -> list[Any]:
    """Returns what a topology makes of a wide text in topic `in`."""
    builder = StreamsBuilder()
    build(builder)
    with TopologyTestDriver(builder, **settings) as driver:
        driver.pipe_raw("in", b"k", WIDE, 7, [("trace", b"1"), ("encoding", b"utf-16-be")])
        return driver.take_produced()


def test_a_source_hands_headers_to_its_serdes() -> None:
    produced = run(lambda b: b.stream("in", value_serde=TEXT).to("out", value_serde=S))

    assert produced[0].value == "wörter".encode()
    assert produced[0].headers == [("trace", b"1"), ("encoding", b"utf-16-be")]


def test_a_sink_sends_the_headers_that_its_serdes_set() -> None:
    produced = run(
        lambda b: (
            b.stream("in", value_serde=TEXT)
            .map_values(lambda _v: "plain")
            .to("out", value_serde=TEXT)
        )
    )

    assert produced[0].value == b"plain"
    assert produced[0].headers == [("trace", b"1"), ("encoding", b"ascii")]


def test_what_one_sink_sets_is_not_seen_by_another() -> None:
    def build(builder: StreamsBuilder) -> None:
        stream = builder.stream("in", value_serde=serdes.bytes)
        stream.map_values(lambda _v: "a").to("one", value_serde=TEXT)
        stream.to("two")

    one, two = run(build)
    assert one.headers == [("trace", b"1"), ("encoding", b"ascii")]
    assert two.headers == [("trace", b"1"), ("encoding", b"utf-16-be")]


def test_every_kind_of_sink_sends_them() -> None:
    def build(builder: StreamsBuilder) -> None:
        stream = builder.stream("in", value_serde=TEXT)
        stream.to("chosen", value_serde=TEXT, partitioner=lambda _t, _k, _v, _n: [0])
        stream.to(lambda _k, _v, _c: "named", value_serde=TEXT)
        stream.to("keyed", key_serde=serdes.bytes, value_serde=TEXT)

    assert [
        (record.topic, record.partition, record.value, dict(record.headers)["encoding"])
        for record in run(build)
    ] == [
        ("chosen", 0, WIDE, b"utf-16-be"),
        ("named", None, WIDE, b"utf-16-be"),
        ("keyed", None, WIDE, b"utf-16-be"),
    ]


def test_repartition_topics_carry_them() -> None:
    produced = run(
        lambda b: (
            b.stream("in", value_serde=TEXT)
            .group_by(lambda _k, v: v[0], name="by", key_serde=S, value_serde=TEXT)
            .reduce(max, materialized=Materialized("s", key_serde=S, value_serde=S))
            .to_stream()
            .to("out", key_serde=S, value_serde=S)
        )
    )

    repartition = next(record for record in produced if record.topic.endswith("-repartition"))
    assert repartition.headers == [("trace", b"1"), ("encoding", b"utf-16-be")]
    assert produced[-1].key == b"w"
    assert produced[-1].value == "wörter".encode()


def test_changes_of_a_grouped_table_carry_them() -> None:
    produced = run(
        lambda b: (
            b.table("in", value_serde=TEXT, materialized=None)
            .group_by(lambda k, v: (k, v), value_serde=TEXT)
            .aggregate(
                str,
                lambda _k, v, _a: v,
                lambda _k, _v, a: a,
                materialized=Materialized("s", value_serde=S),
            )
            .to_stream()
            .to("out", value_serde=S)
        ),
        default_value_serde=S,
    )

    repartition = next(record for record in produced if record.topic.endswith("-repartition"))
    assert ("encoding", b"utf-16-be") in repartition.headers
    assert produced[-1].value == "wörter".encode()


def test_a_windowed_key_hands_them_to_the_serde_inside() -> None:
    def build(builder: StreamsBuilder) -> None:
        stream = builder.stream("in", value_serde=TEXT)
        grouped = stream.group_by(lambda _k, v: v, name="by", key_serde=TEXT, value_serde=TEXT)
        counts = grouped.windowed_by(TimeWindows.of_size(10)).count(
            materialized=Materialized("s", key_serde=S)
        )
        counts.to_stream().to("out", key_serde=serdes.windowed(TEXT, 10), value_serde=serdes.int64)

    assert run(build)[-1].key == WIDE + bytes(8)


def test_an_extractor_sees_what_such_a_serde_reads() -> None:
    def extract(record: ConsumedRecord, _time: int) -> int:
        assert record.value == "wörter"
        return len(record.value)

    produced = run(
        lambda b: b.stream("in", value_serde=TEXT, timestamp_extractor=extract).to(
            "out", value_serde=S
        )
    )
    assert produced[0].timestamp == 6


def test_headers_that_reading_changes_are_those_of_the_record() -> None:
    def unseal(data: bytes, headers: Headers) -> str:
        headers.remove("encoding")
        return data.decode("utf-16-be")

    sealed = Serde.of(write, unseal, name="sealed", headers=True)
    produced = run(lambda b: b.stream("in", value_serde=sealed).to("out", value_serde=S))

    assert produced[0].headers == [("trace", b"1")]


def test_rows_of_stores_have_no_headers() -> None:
    builder = StreamsBuilder()
    builder.table("in", value_serde=TEXT, store="s")
    with TopologyTestDriver(builder, statestore_cache_max_bytes=0) as driver:
        driver.pipe_raw("in", b"k", WIDE, 7, [("encoding", b"utf-16-be")])
        driver.take_produced()
        with pytest.raises(DeserializationError) as error:
            driver.get_state_store("s").get(b"k")
    assert "LookupError: there is no header 'encoding'" in error.value.message
    assert "rows of stores have no headers" in error.value.message


def test_a_record_without_the_header_is_told() -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=TEXT).to("out")
    with TopologyTestDriver(builder) as driver, pytest.raises(DeserializationError) as error:
        driver.pipe_raw("in", None, b"v", 0)
    assert "LookupError: there is no header 'encoding'" in error.value.message


def test_the_driver_writes_and_reads_with_headers() -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=TEXT).to("out", value_serde=TEXT)
    with TopologyTestDriver(builder) as driver:
        driver.create_input_topic("in", S, TEXT).pipe_input("k", "wörter", headers=Headers())
        record = driver.create_output_topic("out", S, TEXT).read_record()
        assert (record.value, record.headers.last("encoding")) == ("wörter", b"utf-16-be")


def test_producer_and_consumer_hand_headers_over() -> None:
    log = memory_log()
    config = StreamsConfig(application_id="a")

    def transport() -> MemoryTransport:
        return MemoryTransport(log, "a")

    with Producer(config, transport=transport) as producer:
        producer.send("t", "wörter", value_serde=TEXT, headers=[("trace", b"1")])
        producer.send("t", "plain", key="k", key_serde=TEXT, value_serde=TEXT)
    with Consumer(config, transport=transport) as consumer:
        records = list(consumer.read("t", key_serde=TEXT, value_serde=TEXT))
    assert [(record.key, record.value) for record in records] == [
        (None, "wörter"),
        ("k", "plain"),
    ]
    assert list(records[0].headers) == [("trace", b"1"), ("encoding", b"utf-16-be")]


def test_functions_that_take_headers_are_told_by_their_arguments() -> None:
    with pytest.raises(TypeError, match=r"Serde.of\(\) needs a function of \(value, headers\)"):
        Serde.of(lambda value: b"", read, name="x", headers=True)  # type: ignore[arg-type, call-overload]
    with pytest.raises(TypeError, match=r"Serde.of\(\) needs a function of \(data\)"):
        Serde.of(str.encode, read, name="x")  # type: ignore[arg-type, call-overload]


def test_a_serde_that_does_not_look_at_headers_is_called_as_before() -> None:
    assert not S.sees_headers
    assert S.header_serializer("t")("a", Headers()) == b"a"
    assert S.header_deserializer("t")(b"a", Headers()) == "a"
