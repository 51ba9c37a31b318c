"""Headers in stores, in partitioners, and errors of global stores: what Kafka 4.3 and 4.4 added."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from thalweg import (
    Headers,
    Materialized,
    Processor,
    Record,
    StreamsBuilder,
    StreamsError,
    TimeWindows,
    TopologyTestDriver,
    ValueTimestampHeaders,
    key_value_store,
    log_and_continue,
    serdes,
    timestamped_key_value_store,
    timestamped_key_value_store_with_headers,
)

S, N = serdes.string, serdes.int64


def counting(materialized: Materialized[str, int]) -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.stream("in", key_serde=S, value_serde=S).group_by_key().count(materialized=materialized)
    return builder


def kind_of(builder: StreamsBuilder, store: str = "n", **settings: Any) -> str:
    with TopologyTestDriver(builder, **settings) as driver:
        driver.create_input_topic("in", S, S).pipe_input("a", "x", 1)
        kind, _ = driver.store_entries(store)
        return kind


@pytest.mark.parametrize(
    ("store", "kind"),
    [
        ("rocks", "timestamped-kv-headers"),
        ("memory", "timestamped-kv"),
        (timestamped_key_value_store("n"), "timestamped-kv"),
        (key_value_store("n"), "timestamped-kv"),
    ],
)
def test_the_setting_decides_about_stores_on_disk_that_nobody_chose(store: Any, kind: str) -> None:
    builder = counting(Materialized("n", store=store))

    assert kind_of(builder, dsl_store_format="headers") == kind
    assert kind_of(counting(Materialized("n", store=store))) == "timestamped-kv"


def test_a_store_with_headers_may_be_chosen_without_the_setting() -> None:
    builder = counting(Materialized(store=timestamped_key_value_store_with_headers("n")))

    assert kind_of(builder) == "timestamped-kv-headers"


def test_windows_have_headers_too() -> None:
    builder = StreamsBuilder()
    grouped = builder.stream("in", key_serde=S, value_serde=S).group_by_key()
    grouped.windowed_by(TimeWindows.of_size(10)).count("n")

    assert kind_of(builder, dsl_store_format="headers") == "timestamped-window-headers"


def test_a_processor_reads_a_store_of_the_dsl_with_its_headers() -> None:
    with TopologyTestDriver(counting(Materialized("n")), dsl_store_format="headers") as driver:
        driver.pipe_raw("in", b"a", b"x", 5, [("h", b"1")])
        found = driver.get_state_store("n").get("a")

    # As in the JVM the DSL writes no headers; results have those of the record that made them.
    assert found == ValueTimestampHeaders(1, 5)


def test_headers_that_a_processor_wrote_end_with_the_next_result() -> None:
    class Write(Processor[str, str, None, None]):
        def process(self, record: Record[str, str]) -> None:
            store = self.context.get_state_store("n")
            store.put(record.key, ValueTimestampHeaders(9, record.timestamp, record.headers))

    builder = counting(Materialized("n", caching=False))
    builder.stream("other", key_serde=S, value_serde=S).process(Write, "n")
    with TopologyTestDriver(builder, dsl_store_format="headers") as driver:
        driver.pipe_raw("other", b"a", b"x", 50, [("h", b"1")])
        assert driver.get_state_store("n").get("a").headers == Headers([("h", b"1")])
        driver.pipe_raw("in", b"a", b"x", 5)
        assert driver.get_state_store("n").get("a") == ValueTimestampHeaders(10, 50)


def test_a_partitioner_may_see_headers() -> None:
    def choose(
        topic: str, key: str | None, value: str, headers: Headers, partitions: int
    ) -> int | Collection[int] | None:
        assert (topic, partitions) == ("out", 1)
        return 0 if headers.last("to") == b"0" else ()

    builder = StreamsBuilder()
    builder.stream("in", key_serde=S, value_serde=S).to("out", partitioner=choose)
    with TopologyTestDriver(builder) as driver:
        driver.pipe_raw("in", b"a", b"x", 5, [("to", b"0")])
        driver.pipe_raw("in", b"a", b"y", 5)
        assert [(one.value, one.partition) for one in driver.take_produced()] == [(b"x", 0)]


def test_a_partitioner_of_three_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match="headers, partition count"):
        StreamsBuilder().stream("in").to("out", partitioner=lambda _t, _k, _v: 0)  # type: ignore[arg-type, misc]


def test_global_stores_are_guarded_only_if_the_setting_says_so() -> None:
    class Fail(Processor[str, str, None, None]):
        def process(self, record: Record[str, str]) -> None:
            raise ValueError(record.key)

    def driver(*, is_guarded: bool) -> TopologyTestDriver:
        builder = StreamsBuilder()
        store = key_value_store("g", S, S, in_memory=True).without_logging()
        builder.add_global_store(store, "global", Fail, key_serde=S, value_serde=S)
        builder.stream("in").to("out")
        return TopologyTestDriver(
            builder,
            processing_handler=log_and_continue,
            processing_handler_global_enabled=is_guarded,
        )

    with driver(is_guarded=True) as guarded:
        guarded.pipe_raw("global", b"a", b"x", 0)
        assert guarded.dropped_records_total() == 1
    with driver(is_guarded=False) as bare, pytest.raises(StreamsError, match="ValueError: a"):
        bare.pipe_raw("global", b"a", b"x", 0)
