"""Golden cases `time_*`, `faults_*`: timestamp extractors, errors, dead letter queue."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import first, plus, split
from thalweg import Processor, Record
from thalweg.stores.builders import key_value_store
from thalweg.stores.errors import StreamsError
from thalweg.topology.dsl import StreamsBuilder, TimeWindows
from thalweg.topology.processor import ConsumedRecord, wallclock_timestamp


def _prefix(record: ConsumedRecord) -> int:
    return int(split(record.value, ":")[0])


@dsl_case
def time_custom_extractor(b: StreamsBuilder) -> None:
    records = b.stream("in", name="src", timestamp_extractor=lambda record, _time: _prefix(record))
    grouped = records.group_by_key(key_serde=S, value_serde=S)
    grouped.windowed_by(TimeWindows.of_size(20)).count().to_stream().to("out")


@dsl_case
def time_negative_skipped(b: StreamsBuilder) -> None:
    # A negative timestamp tells the source to skip the record.
    b.stream("in", timestamp_extractor=lambda record, _time: _prefix(record)).to("out")


@dsl_case
def time_partition_time(b: StreamsBuilder) -> None:
    def prefix_or_partition_time(record: ConsumedRecord, partition_time_ms: int) -> int:
        timestamp = _prefix(record)
        if timestamp >= 0:
            return timestamp
        if partition_time_ms < 0:
            raise StreamsError("the partition has no time yet")
        return partition_time_ms

    b.stream("in", timestamp_extractor=prefix_or_partition_time).to("out")


@dsl_case
def time_negative_fails(b: StreamsBuilder) -> None:
    b.stream("in").to("out")


@dsl_case
def time_wallclock(b: StreamsBuilder) -> None:
    b.stream("in", timestamp_extractor=wallclock_timestamp).to("out")


def _longs(b: StreamsBuilder) -> None:
    b.stream("in", key_serde=S, value_serde=L).to("out", key_serde=S, value_serde=L)


@dsl_case
def faults_deserialize_fail(b: StreamsBuilder) -> None:
    _longs(b)


@dsl_case
def faults_deserialize_continue(b: StreamsBuilder) -> None:
    _longs(b)


@dsl_case
def faults_deserialize_dlq(b: StreamsBuilder) -> None:
    _longs(b)


def _boom(value: str) -> str:
    if value in ("boom", "f"):
        raise RuntimeError("boom!")
    return value


@dsl_case
def faults_process_fail(b: StreamsBuilder) -> None:
    b.stream("in").map_values(lambda v: _boom(v)).to("out")


def _boom_behind_repartition(b: StreamsBuilder) -> None:
    keyed = b.stream("in").select_key(lambda k, v: first(v)).repartition("r")
    keyed.map_values(lambda v: _boom(v)).to("out")


@dsl_case
def faults_process_continue(b: StreamsBuilder) -> None:
    _boom_behind_repartition(b)


@dsl_case
def faults_process_dlq(b: StreamsBuilder) -> None:
    _boom_behind_repartition(b)


def _global(b: StreamsBuilder) -> None:
    class Fill(Processor[str, str, None, None]):
        def process(self, record: Record[str, str]) -> None:
            if record.key == "bad":
                raise ValueError("bad key")
            self.context.get_state_store("gs").put(record.key, record.value)

    class Find(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            found = self.context.get_state_store("gs").get(record.key)
            self.context.forward(record.with_value(plus(found, "")))

    store = key_value_store("gs", S, S, in_memory=True).without_logging()
    b.add_global_store(store, "g", Fill, key_serde=S, value_serde=S)
    b.stream("s").process(Find).to("out")


@dsl_case
def faults_global_continue(b: StreamsBuilder) -> None:
    _global(b)


@dsl_case
def faults_global_disabled(b: StreamsBuilder) -> None:
    _global(b)
