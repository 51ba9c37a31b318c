"""Golden cases `agg_*`: count, reduce and aggregate without windows."""

from __future__ import annotations

from tests.golden.builders.registry import D, I, L, S, dsl_case
from tests.golden.java import first, long_sum, plus, split
from thalweg.stores.builders import lru_store
from thalweg.topology.dsl import Materialized, StreamsBuilder


@dsl_case
def agg_count(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by_key().count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_count_inmemory(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by_key().count(materialized=Materialized("cnt", store="memory"))
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_count_materialized_unnamed(b: StreamsBuilder) -> None:
    counts = (
        b.stream("in").group_by_key().count(materialized=Materialized(key_serde=S, value_serde=L))
    )
    counts.to_stream().to("out")


@dsl_case
def agg_group_by_count(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by(lambda k, v: None if v is None else first(v)).count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_group_by_named(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by(lambda k, v: first(v), name="byfirst")
    counts = grouped.count("cnt", named="counter").to_stream(name="ts")
    counts.to("out", key_serde=S, value_serde=L, name="sink")


@dsl_case
def agg_word_count(b: StreamsBuilder) -> None:
    words = b.stream("in").flat_map_values(lambda v: split(v, " "))
    counts = words.group_by(lambda k, word: word).count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_reduce(b: StreamsBuilder) -> None:
    sums = b.stream("in", key_serde=S, value_serde=L).group_by_key().reduce(long_sum, "sum")
    sums.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_aggregate(b: StreamsBuilder) -> None:
    texts = (
        b.stream("in")
        .group_by_key()
        .aggregate(lambda: "", lambda k, v, total: None if v == "a" else plus(total, v), "agg")
    )
    texts.to_stream().to("out")


@dsl_case
def agg_aggregate_serdes(b: StreamsBuilder) -> None:
    totals = (
        b.stream("in", key_serde=I, value_serde=D)
        .group_by_key()
        .aggregate(
            lambda: 0.0,
            lambda k, v, total: total + v,
            materialized=Materialized(key_serde=I, value_serde=D),
        )
    )
    totals.to_stream().to("out", key_serde=I, value_serde=D)


@dsl_case
def agg_two_unnamed(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by(lambda k, v: first(v))
    grouped.count().to_stream().to("out1", key_serde=S, value_serde=L)
    grouped.reduce(lambda x, y: plus(x, y)).to_stream().to("out2")


@dsl_case
def agg_two_named(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by(lambda k, v: first(v), name="g")
    grouped.count().to_stream().to("out1", key_serde=S, value_serde=L)
    grouped.reduce(lambda x, y: plus(x, y)).to_stream().to("out2")


@dsl_case
def agg_no_log_no_cache(b: StreamsBuilder) -> None:
    counts = (
        b.stream("in")
        .group_by_key()
        .count(materialized=Materialized("cnt", logging=False, caching=False))
    )
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_topic_configs(b: StreamsBuilder) -> None:
    logging = {"segment.bytes": "1000000", "retention.ms": "77"}
    counts = (
        b.stream("in")
        .group_by(lambda k, v: v)
        .count(materialized=Materialized("cnt", logging=logging))
    )
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_lru(b: StreamsBuilder) -> None:
    counts = (
        b.stream("in").group_by_key().count(materialized=Materialized(store=lru_store("lru", 2)))
    )
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def agg_nested(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by_key().count().to_stream()
    by_count = counts.map(lambda k, n: (n, k)).group_by_key(key_serde=L, value_serde=S)
    by_count.count().to_stream().to("out", key_serde=L, value_serde=L)


@dsl_case
def agg_count_eos(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by(lambda k, v: v).count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)
