"""Golden cases `cache_*`: the record cache, commits by hand."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import cat, first, text
from thalweg.topology.dsl import Materialized, StreamsBuilder, TimeWindows


def _count(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by_key().count("cnt")
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def cache_count(b: StreamsBuilder) -> None:
    _count(b)


@dsl_case
def cache_zero(b: StreamsBuilder) -> None:
    _count(b)


@dsl_case
def cache_evict(b: StreamsBuilder) -> None:
    _count(b)


@dsl_case
def cache_disabled_store(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by_key()
    grouped.count("cached").to_stream().to("out1", key_serde=S, value_serde=L)
    direct = grouped.count(materialized=Materialized("direct", caching=False))
    direct.to_stream().to("out2", key_serde=S, value_serde=L)


@dsl_case
def cache_table(b: StreamsBuilder) -> None:
    b.table("in", store="tab").to_stream().to("out")


@dsl_case
def cache_table_group(b: StreamsBuilder) -> None:
    grouped = b.table("in", store="tab").group_by(lambda k, v: (first(v), v))
    grouped.count("cnt").to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def cache_window(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by_key(key_serde=S, value_serde=S)
    grouped.windowed_by(TimeWindows.of_size(10, 10)).count("cnt").to_stream().to("out")


@dsl_case
def cache_table_join(b: StreamsBuilder) -> None:
    left, right = b.table("l", store="lt"), b.table("r", store="rt")
    left.outer_join(right, cat, name="jt").to_stream().to("out")


@dsl_case
def cache_chain(b: StreamsBuilder) -> None:
    counts = b.stream("in").group_by_key().count("c1").to_stream()
    counts.map_values(lambda n: text(n)).to_table(name="t2").to_stream().to("out")
