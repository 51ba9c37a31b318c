"""Golden cases `process_*`, `punctuate_*`: the Processor API inside the DSL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import long_sum, plus, text
from thalweg.stores.api import KeyValueStore
from thalweg.stores.builders import key_value_store
from thalweg.stores.record import Record
from thalweg.topology.dsl import StreamsBuilder
from thalweg.topology.processor import (
    Cancellable,
    FixedKeyProcessor,
    FixedKeyRecord,
    Processor,
    ProcessorContext,
    PunctuationType,
)


class Tag(Processor[str, str, str, str]):
    """Adds "@" + topic + offset to the value, one more header, 1 ms; drops nulls."""

    def process(self, record: Record[str, str]) -> None:
        if record.value is None:
            return
        metadata = self.context.record_metadata()
        assert metadata is not None
        where = plus(record.value, "@", metadata.topic, metadata.offset)
        tagged = record.with_value(where).with_timestamp(record.timestamp + 1)
        tagged.headers.add("tag", b"\x01")
        self.context.forward(tagged)


@dsl_case
def process_tag(b: StreamsBuilder) -> None:
    tagged = b.stream("in").process(Tag)
    tagged.to("out")
    counts = tagged.group_by_key().count("cnt")
    counts.to_stream().to("counts", key_serde=S, value_serde=L)


class Twice(FixedKeyProcessor[str, str, str]):
    """Forwards the value doubled, then "2nd" 5 ms later."""

    def process(self, record: FixedKeyRecord[str, str]) -> None:
        self.context.forward(record.with_value(plus(record.value, record.value)))
        self.context.forward(record.with_value("2nd").with_timestamp(record.timestamp + 5))


class Same(FixedKeyProcessor[str, str, str]):
    """Forwards what comes."""

    def process(self, record: FixedKeyRecord[str, str]) -> None:
        self.context.forward(record)


@dsl_case
def process_values(b: StreamsBuilder) -> None:
    keyed = b.stream("in").select_key(lambda k, v: k).repartition("r")
    counts = keyed.process_values(Twice, name="pv").group_by_key().count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


class Dedup(Processor[str, str, str, str]):
    """Forwards the first record of each key; null forgets the key."""

    def init(self, context: ProcessorContext[str, str]) -> None:
        super().init(context)
        self.seen: KeyValueStore[str, int] = context.get_state_store("seen")

    def process(self, record: Record[str, str]) -> None:
        count = self.seen.get(record.key)
        if record.value is None:
            self.seen.delete(record.key)
            return
        self.seen.put(record.key, 1 if count is None else count + 1)
        if count is None:
            self.context.forward(record)


@dsl_case
def process_store(b: StreamsBuilder) -> None:
    b.add_state_store(key_value_store("seen", S, L))
    b.stream("in").process(Dedup, "seen", name="dedup").to("out")


@dsl_case
def process_store_shared(b: StreamsBuilder) -> None:
    b.add_state_store(key_value_store("seen", S, L, in_memory=True).without_logging())
    x, y = b.stream("a"), b.stream("b")
    x.process(Dedup, "seen").to("out-a")
    y.process(Dedup, "seen").to("out-b")


class Punct(Processor[str, str, str, str]):
    """Forwards both times and the record's place every 10 ms, and once after 7 ms."""

    def __init__(self, kind: PunctuationType, anchor_ms: int | None) -> None:
        self.kind = kind
        self.anchor_ms = anchor_ms

    def init(self, context: ProcessorContext[str, str]) -> None:
        super().init(context)
        context.schedule(10, self.kind, self.report, start_time=self.anchor_ms)
        self.once: Cancellable = context.schedule(7, self.kind, self.report_once)

    def report(self, now_ms: int) -> None:
        context, metadata = self.context, self.context.record_metadata()
        times = f"{context.current_stream_time_ms()}/{context.current_system_time_ms()}/"
        place = (
            "-" if metadata is None else plus(metadata.topic, metadata.partition, metadata.offset)
        )
        context.forward(Record("p", times + place, now_ms))

    def report_once(self, now_ms: int) -> None:
        self.context.forward(Record("once", text(now_ms), now_ms))
        self.once.cancel()

    def process(self, record: Record[str, str]) -> None:
        pass


def _punct(
    kind: PunctuationType, anchor_ms: int | None = None
) -> Callable[[], Processor[str, str, str, str]]:
    return lambda: Punct(kind, anchor_ms)


@dsl_case
def punctuate_stream(b: StreamsBuilder) -> None:
    b.stream("in").process(_punct(PunctuationType.STREAM_TIME)).to("out")


@dsl_case
def punctuate_stream_offset(b: StreamsBuilder) -> None:
    b.stream("in").process(_punct(PunctuationType.STREAM_TIME)).to("out")


@dsl_case
def punctuate_wall(b: StreamsBuilder) -> None:
    b.stream("in").process(_punct(PunctuationType.WALL_CLOCK_TIME)).to("out")


@dsl_case
def punctuate_anchored_stream(b: StreamsBuilder) -> None:
    b.stream("in").process(_punct(PunctuationType.STREAM_TIME, 5)).to("out")


@dsl_case
def punctuate_anchored_wall(b: StreamsBuilder) -> None:
    b.stream("in").process(_punct(PunctuationType.WALL_CLOCK_TIME, 25)).to("out")


class SumBuffer(Processor[str, int, str, int]):
    """Sums per key and sends the sums off every 20 ms of wall clock."""

    def init(self, context: ProcessorContext[str, int]) -> None:
        super().init(context)
        self.sums: KeyValueStore[str, int] = context.get_state_store("buf")
        context.schedule(20, PunctuationType.WALL_CLOCK_TIME, self.send_off)

    def send_off(self, _now_ms: int) -> None:
        with self.sums.all() as rows:
            sums: list[tuple[str, Any]] = list(rows)
        for key, total in sums:
            self.context.forward(Record(key, total, self.context.current_stream_time_ms()))
            self.sums.delete(key)

    def process(self, record: Record[str, int]) -> None:
        self.sums.put(record.key, long_sum(self.sums.get(record.key) or 0, record.value))


@dsl_case
def punctuate_flush_store(b: StreamsBuilder) -> None:
    b.add_state_store(key_value_store("buf", S, L))
    sums = b.stream("in", key_serde=S, value_serde=L).process(SumBuffer, "buf")
    totals = sums.group_by_key(key_serde=S, value_serde=L).reduce(long_sum, "sum")
    totals.to_stream().to("out", key_serde=S, value_serde=L)
