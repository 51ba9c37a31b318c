"""Golden cases `table_*`: operators of tables, grouping with adder and subtractor."""

from __future__ import annotations

import re

from tests.golden.builders.registry import D, I, L, S, dsl_case
from tests.golden.java import as_long, first, length, long_difference, long_sum, parity, plus
from thalweg.topology.dsl import Materialized, StreamsBuilder


@dsl_case
def table_source(b: StreamsBuilder) -> None:
    b.table("in").to_stream().to("out")


@dsl_case
def table_source_named(b: StreamsBuilder) -> None:
    b.table("in", store="tab").to_stream().to("out")


@dsl_case
def table_source_serdes(b: StreamsBuilder) -> None:
    table = b.table(
        "in",
        key_serde=I,
        value_serde=D,
        materialized=Materialized(key_serde=I, value_serde=D),
    )
    doubled = table.map_values(lambda v: v * 2)
    doubled.to_stream().to("out", key_serde=I, value_serde=D)


@dsl_case
def table_source_inmemory_nolog(b: StreamsBuilder) -> None:
    table = b.table("in", materialized=Materialized("tab", store="memory", logging=False))
    table.to_stream().to("out")


@dsl_case
def table_filter(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    table.filter(lambda k, v: v > 5).to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def table_filter_materialized(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    big = table.filter(
        lambda k, v: v > 5, materialized=Materialized("big", key_serde=S, value_serde=L)
    )
    big.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def table_filter_not(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    small = table.filter_not(
        lambda k, v: v > 5, materialized=Materialized(key_serde=S, value_serde=L)
    )
    small.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def table_map_values(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    tens = table.map_values(lambda v: None if v is None else as_long(v * 10))
    tens.to_stream().to("out1", key_serde=S, value_serde=L)
    texts = table.map_values(lambda k, v: plus(k, "|", v))
    texts.to_stream().to("out2", key_serde=S, value_serde=S)
    mapped = table.map_values(
        lambda v: plus("m", v), materialized=Materialized("mapped", value_serde=S)
    )
    mapped.to_stream().to("out3", key_serde=S, value_serde=S)


class Sizer:
    """Appends the length of the value to the key."""

    def transform(self, key: str, value: str | None) -> str | None:
        return None if value is None else plus(key, length(value))


@dsl_case
def table_transform_values(b: StreamsBuilder) -> None:
    table = b.table("in")
    table.transform_values(Sizer).to_stream().to("out1")
    table.transform_values(Sizer, name="tv").to_stream().to("out2")


@dsl_case
def table_chain(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    end = (
        table.filter(lambda k, v: v > 0)
        .map_values(lambda v: as_long(v * 2))
        .filter(
            lambda k, v: v % 4 == 0, materialized=Materialized("end", key_serde=S, value_serde=L)
        )
    )
    end.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def table_to_stream_mapper(b: StreamsBuilder) -> None:
    b.table("in").to_stream(lambda k, v: plus(k, v)).to("out")


@dsl_case
def table_to_stream_to_table(b: StreamsBuilder) -> None:
    one = b.table("in", store="one").to_stream()
    two = one.map_values(lambda v: None if v is None else plus(v, "!")).to_table(name="two")
    two.to_stream().to("out")


@dsl_case
def table_group_count(b: StreamsBuilder) -> None:
    grouped = b.table("in").group_by(lambda k, v: (first(v), v), key_serde=S, value_serde=S)
    grouped.count().to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def table_group_reduce(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    grouped = table.group_by(lambda k, v: (parity(v), v), name="parity", key_serde=S, value_serde=L)
    sums = grouped.reduce(long_sum, long_difference, "sum")
    sums.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def table_group_aggregate(b: StreamsBuilder) -> None:
    def remove(_key: str, value: str, total: str) -> str | None:
        # replaceFirst takes a regular expression.
        return None if total == "+" + value else re.sub(r"\+" + value, "", total, count=1)

    grouped = b.table("in").group_by(lambda k, v: (first(v), plus(k, v)))
    grouped.aggregate(
        lambda: "", lambda k, v, total: plus(total, "+", v), remove, "agg"
    ).to_stream().to("out")


@dsl_case
def table_group_sample(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    grouped = table.filter(lambda k, v: v > 0).group_by(
        lambda k, v: (parity(v), v), key_serde=S, value_serde=L
    )
    grouped.count().to_stream().to("count", key_serde=S, value_serde=L)
    sums = grouped.reduce(long_sum, long_difference)
    sums.to_stream().to("sum", key_serde=S, value_serde=L)


@dsl_case
def table_group_upgrade_from_34(b: StreamsBuilder) -> None:
    table = b.table("in", key_serde=S, value_serde=L)
    grouped = table.group_by(lambda k, v: (parity(v), v), key_serde=S, value_serde=L)
    sums = grouped.reduce(long_sum, long_difference)
    sums.to_stream().to("out", key_serde=S, value_serde=L)
