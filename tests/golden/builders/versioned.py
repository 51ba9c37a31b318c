"""Golden cases `versioned_*`: tables that keep the former values of a key."""

from __future__ import annotations

from typing import Any

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import cat, first, length
from thalweg.stores.builders import versioned_store
from thalweg.topology.dsl import Materialized, StreamsBuilder


def versioned(name: str, history_ms: int) -> Materialized[Any, Any]:
    """Keeps a table in a versioned store."""
    return Materialized(store=versioned_store(name, history_ms))


@dsl_case
def versioned_table(b: StreamsBuilder) -> None:
    b.table("in", materialized=versioned("vt", 100)).to_stream().to("out")


@dsl_case
def versioned_segments(b: StreamsBuilder) -> None:
    b.table("in", materialized=versioned("vt", 60_000)).to_stream().to("out")


@dsl_case
def versioned_aggregate(b: StreamsBuilder) -> None:
    table = (
        b.stream("in")
        .group_by_key()
        .aggregate(
            lambda: "",
            lambda k, v, a: v if length(a) > 8 else a + v,
            materialized=versioned("va", 100),
        )
    )
    table.to_stream().to("out")


@dsl_case
def versioned_table_group(b: StreamsBuilder) -> None:
    table = b.table("in", materialized=versioned("vt", 1000))
    counts = table.group_by(lambda k, v: (first(v), v)).count("cnt")
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def versioned_filter(b: StreamsBuilder) -> None:
    table = b.table("in", materialized=versioned("vt", 1000))
    kept = table.filter(lambda k, v: not v.startswith("a")).map_values(lambda v: v + "!")
    kept.to_stream().to("out")


@dsl_case
def versioned_join(b: StreamsBuilder) -> None:
    left = b.table("l", materialized=versioned("lt", 1000))
    right = b.table("r", materialized=versioned("rt", 1000))
    left.left_join(right, cat).to_stream().to("out")


@dsl_case
def versioned_stream_table(b: StreamsBuilder) -> None:
    table = b.table("t", materialized=versioned("vt", 60))
    stream = b.stream("s")
    stream.join(table, cat).to("out")
    stream.left_join(table, cat).to("out-left")
