"""Golden cases `joinst*`, `jointt_*`: streams with tables, tables with tables."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import as_long, cat, first, plus
from thalweg.topology.dsl import KTable, Materialized, StreamsBuilder


@dsl_case
def joinst(b: StreamsBuilder) -> None:
    stream, table = b.stream("s"), b.table("t")
    stream.join(table, cat).to("out")
    stream.left_join(table, lambda k, x, y: plus(k, ":", x, "|", y)).to("out-left")


@dsl_case
def joinst_repartition(b: StreamsBuilder) -> None:
    stream, table = b.stream("s"), b.table("t", store="tab")
    keyed = stream.select_key(lambda k, v: k)
    keyed.join(table.filter(lambda k, v: not v.startswith("a")), cat, name="jst").to("out")


@dsl_case
def joinst_aggregate(b: StreamsBuilder) -> None:
    stream, counted = b.stream("s"), b.stream("c")
    stream.left_join(counted.group_by_key().count(), cat).to("out")


@dsl_case
def jointt_sample(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat).to_stream().to("inner")
    left.left_join(right, cat).to_stream().to("left")
    left.outer_join(right, cat).to_stream().to("outer")


@dsl_case
def jointt_inner(b: StreamsBuilder) -> None:
    b.table("l").join(b.table("r"), cat, name="jt").to_stream().to("out")


@dsl_case
def jointt_left(b: StreamsBuilder) -> None:
    b.table("l").left_join(b.table("r"), cat, named="lj").to_stream().to("out")


@dsl_case
def jointt_outer_lazy(b: StreamsBuilder) -> None:
    left = b.table("l", key_serde=S, value_serde=L)
    right = b.table("r", key_serde=S, value_serde=L)
    joined = left.filter(lambda k, v: v > 3).outer_join(
        right.map_values(lambda v: as_long(v * 2)),
        cat,
        materialized=Materialized(key_serde=S, value_serde=S),
    )
    joined.to_stream().to("out", key_serde=S, value_serde=S)


@dsl_case
def jointt_chain(b: StreamsBuilder) -> None:
    x, y, z = b.table("a"), b.table("b"), b.table("c")
    joined = x.join(y, cat).left_join(z, cat, materialized=Materialized(key_serde=S, value_serde=S))
    grouped = joined.group_by(lambda k, v: (first(v), v), key_serde=S, value_serde=S)
    grouped.count().to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def jointt_aggregates(b: StreamsBuilder) -> None:
    def counts(topic: str) -> KTable[str, int]:
        return b.stream(topic, key_serde=S, value_serde=S).group_by_key().count()

    left = counts("a")
    joined = left.outer_join(
        counts("b"), cat, materialized=Materialized(key_serde=S, value_serde=S)
    )
    joined.to_stream().to("out")
