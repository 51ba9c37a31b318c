"""Golden cases `opt_*`, and the optimised ones of `naming_*`."""

from __future__ import annotations

from tests.golden.builders.naming import naming_aggregations, naming_tables
from tests.golden.builders.registry import L, S, different_case, dsl_case
from tests.golden.java import cat, first, length, plus
from thalweg.topology.dsl import (
    KStream,
    Materialized,
    StreamsBuilder,
    TimeWindows,
)


@dsl_case
def opt_reuse_source(b: StreamsBuilder) -> None:
    b.table("in", store="tab").to_stream().to("out")


def _two_counts(b: StreamsBuilder) -> None:
    keyed = b.stream("in").select_key(lambda k, v: first(v))
    keyed.group_by_key().count("one").to_stream().to("out1", key_serde=S, value_serde=L)
    keyed.group_by_key().reduce(lambda x, y: plus(x, y), "two").to_stream().to("out2")


@dsl_case
def opt_none(b: StreamsBuilder) -> None:
    _two_counts(b)


@dsl_case
def opt_merge(b: StreamsBuilder) -> None:
    _two_counts(b)


@dsl_case
def opt_merge_blocked(b: StreamsBuilder) -> None:
    keyed = b.stream("in").select_key(lambda k, v: first(v)).map_values(lambda v: plus(v, "!"))
    keyed.group_by_key().count().to_stream().to("out1", key_serde=S, value_serde=L)
    longer = keyed.filter(lambda k, v: length(v) > 2)
    longer.group_by_key().count().to_stream().to("out2", key_serde=S, value_serde=L)


@dsl_case
def opt_merge_through_merge(b: StreamsBuilder) -> None:
    x, y = b.stream("a"), b.stream("b")
    merged = x.select_key(lambda k, v: first(v)).merge(y.select_key(lambda k, v: first(v)))
    merged.group_by_key().count().to_stream().to("out1", key_serde=S, value_serde=L)
    merged.group_by_key().reduce(lambda p, q: plus(p, q)).to_stream().to("out2")


@dsl_case
def opt_stream_table(b: StreamsBuilder) -> None:
    b.stream("s").join(b.table("t"), cat).to("out")


def _short(stream: KStream[str, str]) -> KStream[str, str]:
    return stream.filter(lambda k, v: length(v) < 9)


def _two_aggregations(merged: KStream[str, str]) -> None:
    merged.group_by_key().count("a").to_stream().to("a-out", key_serde=S, value_serde=L)
    merged.group_by_key().reduce(lambda x, y: plus(x, y), "b").to_stream().to("b-out")


@dsl_case
def opt_merge_first_parent(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    _two_aggregations(_short(left.select_key(lambda k, v: v)).merge(_short(right)))


@dsl_case
def opt_merge_second_parent(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    _two_aggregations(_short(right).merge(_short(left.select_key(lambda k, v: v))))


@dsl_case
def opt_merge_both_parents(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    keyed = (_short(stream.select_key(lambda k, v: v)) for stream in (left, right))
    _two_aggregations(next(keyed).merge(next(keyed)))


@different_case("Topologies that the JVM's optimiser refuses are built.")
@dsl_case
def opt_merge_chain_refused(b: StreamsBuilder) -> None:
    x, y, z = b.stream("a"), b.stream("b"), b.stream("c")
    swapped = x.map(lambda k, v: (v, k)).filter(lambda k, v: k is not None and v is not None)
    merged = (
        swapped.peek(lambda k, v: None)
        .merge(y.filter(lambda k, v: v is not None))
        .merge(z.filter_not(lambda k, v: v is None).peek(lambda k, v: None))
    )
    merged.group_by_key().count("n").to_stream().to("n-out", key_serde=S, value_serde=L)
    reduced = merged.group_by_key().reduce(lambda p, q: q if length(p) > 5 else plus(p, q), "red")
    reduced.to_stream().to("r-out")
    windowed = merged.group_by_key(key_serde=S, value_serde=S).windowed_by(
        TimeWindows.of_size(10, 5)
    )
    counts = windowed.count(materialized=Materialized("w"))
    counts.to_stream(lambda w, n: w.key).to("w-out", key_serde=S, value_serde=L)


@dsl_case
def naming_aggregations_optimized(b: StreamsBuilder) -> None:
    naming_aggregations(b)


@dsl_case
def naming_tables_optimized(b: StreamsBuilder) -> None:
    naming_tables(b)
