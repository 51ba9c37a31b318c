"""Golden cases `nulls_*`: null keys and null values."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import cat, plus
from thalweg.stores.record import Record
from thalweg.topology.dsl import Materialized, StreamsBuilder, TimeWindows
from thalweg.topology.processor import Processor


@dsl_case
def nulls_aggregate(b: StreamsBuilder) -> None:
    grouped = b.stream("in", key_serde=S, value_serde=S).group_by_key()
    grouped.count().to_stream().to("count", key_serde=S, value_serde=L)
    grouped.reduce(plus).to_stream().to("reduce")
    grouped.aggregate(lambda: "", lambda k, v, total: plus(total, v)).to_stream().to("aggregate")


@dsl_case
def nulls_group_by(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by(lambda k, v: None if v is None or v == "w" else v).count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def nulls_tumbling(b: StreamsBuilder) -> None:
    grouped = b.stream("in", key_serde=S, value_serde=S).group_by_key()
    grouped.windowed_by(TimeWindows.of_size(10)).count().to_stream().to("count")
    texts = grouped.windowed_by(TimeWindows.of_size(10)).aggregate(
        lambda: "",
        lambda k, v, total: plus(total, v),
        materialized=Materialized(key_serde=S, value_serde=S),
    )
    texts.to_stream().to("aggregate")
    hopping = grouped.windowed_by(TimeWindows.of_size(10).advance_by(5))
    hopping.reduce(plus).to_stream().to("reduce")


@dsl_case
def nulls_table(b: StreamsBuilder) -> None:
    records = b.stream("in")
    records.to_table(name="t1").to_stream().to("table")
    records.repartition("r").to("repartitioned")
    records.map(lambda k, v: (k, v)).to_table(name="t2").to_stream().to("table2")


@dsl_case
def nulls_table_group(b: StreamsBuilder) -> None:
    grouped = b.table("in").group_by(
        lambda k, v: (None if v == "nk" else "g", None if v == "nv" else v)
    )
    grouped.count().to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def nulls_table_to_stream_aggregate(b: StreamsBuilder) -> None:
    counts = b.table("in").to_stream().group_by_key().count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def nulls_joinst(b: StreamsBuilder) -> None:
    stream, table = b.stream("l"), b.table("r")
    stream.join(table, cat).to("inner")
    stream.left_join(table, cat).to("left")


@dsl_case
def nulls_joinst_repartition(b: StreamsBuilder) -> None:
    stream, table = b.stream("l"), b.table("r")
    stream.map(lambda k, v: (k, v)).join(table, cat).to("inner")
    stream.map(lambda k, v: (k, v)).left_join(table, cat).to("left")


@dsl_case
def nulls_jointt(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat).to_stream().to("inner")
    left.left_join(right, cat).to_stream().to("left")
    left.outer_join(right, cat).to_stream().to("outer")


class Show(Processor[str, str, str, str]):
    """Forwards key and value as text."""

    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record.with_value(plus(record.key, "/", record.value)))


@dsl_case
def nulls_process(b: StreamsBuilder) -> None:
    b.stream("in").process(Show).to("out")
