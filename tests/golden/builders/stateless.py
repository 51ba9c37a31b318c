"""Golden cases `stateless_*`: filter … branch, merge, repartition, sinks, to_table, headers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tests.golden.builders.registry import I, L, S, dsl_case
from tests.golden.java import first, length, plus, split, text, units
from thalweg.stores.record import RecordContext
from thalweg.topology.dsl import KStream, StreamsBuilder


@dsl_case
def stateless_filter(b: StreamsBuilder) -> None:
    b.stream("in").filter(lambda k, v: v is not None and "a" in v).to("out")


@dsl_case
def stateless_filter_not(b: StreamsBuilder) -> None:
    b.stream("in").filter_not(lambda k, v: k == "k1").to("out")


@dsl_case
def stateless_map(b: StreamsBuilder) -> None:
    b.stream("in").map(lambda k, v: (v, k)).to("out")


@dsl_case
def stateless_map_values(b: StreamsBuilder) -> None:
    lengths = b.stream("in").map_values(lambda v: None if v is None else length(v))
    lengths.to("out", key_serde=S, value_serde=I)


@dsl_case
def stateless_map_values_with_key(b: StreamsBuilder) -> None:
    b.stream("in").map_values(lambda k, v: plus(k, "|", v)).to("out")


@dsl_case
def stateless_flat_map(b: StreamsBuilder) -> None:
    def chars(k: str, v: str) -> list[tuple[str, str]]:
        return [(plus(k, i), unit) for i, unit in enumerate(units(v))]

    b.stream("in").flat_map(chars).to("out")


@dsl_case
def stateless_flat_map_values(b: StreamsBuilder) -> None:
    b.stream("in").flat_map_values(lambda v: split(v, " ")).to("out")


@dsl_case
def stateless_flat_map_values_with_key(b: StreamsBuilder) -> None:
    b.stream("in").flat_map_values(lambda k, v: [] if k == "k0" else [k, v]).to("out")


@dsl_case
def stateless_select_key(b: StreamsBuilder) -> None:
    b.stream("in").select_key(lambda k, v: None if v is None else first(v)).to("out")


@dsl_case
def stateless_branch_default(b: StreamsBuilder) -> None:
    branches = (
        b.stream("in")
        .split()
        .branch(lambda k, v: v is None)
        .branch(lambda k, v: v.startswith("a"))
        .default_branch()
    )

    def label(number: str, stream: KStream[Any, Any]) -> None:
        stream.map_values(lambda v: plus(number, ":", v)).to("out")

    for name, stream in sorted(branches.items()):
        label(name[-1], stream)


@dsl_case
def stateless_branch_named(b: StreamsBuilder) -> None:
    branches = (
        b.stream("in")
        .split(name="sp-")
        .branch(lambda k, v: v is None, name="none")
        .branch(lambda k, v: length(v) > 1, name="long")
        .default_branch(name="rest")
    )
    branches["sp-none"].to("out-none")
    branches["sp-long"].to("out-long")
    branches["sp-rest"].to("out-rest")


@dsl_case
def stateless_branch_functions(b: StreamsBuilder) -> None:
    branches = (
        b.stream("in")
        .split(name="s-")
        .branch(lambda k, v: k == "k0", to=lambda s: s.to("out-0"))
        .branch(
            lambda k, v: k == "k1",
            then=lambda s: s.map_values(lambda v: plus("f", v)),
            name="fun",
        )
        .no_default_branch()
    )
    branches["s-fun"].to("out-1")


@dsl_case
def stateless_merge(b: StreamsBuilder) -> None:
    x, y, z = b.stream("a"), b.stream("b"), b.stream("c")
    x.merge(y).merge(z.map_values(lambda v: plus("c", v)), name="last-merge").to("out")


@dsl_case
def stateless_peek_foreach(b: StreamsBuilder) -> None:
    records = b.stream("in")
    records.peek(lambda k, v: None).to("out")
    records.for_each(lambda k, v: None)


@dsl_case
def stateless_repartition(b: StreamsBuilder) -> None:
    b.stream("in").repartition().map_values(lambda v: plus(v, "!")).to("out")


@dsl_case
def stateless_repartition_named(b: StreamsBuilder) -> None:
    b.stream("in").select_key(lambda k, v: 0 if v is None else length(v)).repartition(
        "by-len", partitions=4, key_serde=L, value_serde=S
    ).to("out")


@dsl_case
def stateless_repartition_then_count(b: StreamsBuilder) -> None:
    counts = b.stream("in").select_key(lambda k, v: first(v)).repartition().group_by_key().count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


class ByKey:
    """Chooses a topic by key and time; `describe()` prints its text."""

    def __call__(self, key: str | None, value: Any, context: RecordContext) -> str:
        return f"out-{text(key)}{context.timestamp % 2}"

    def __repr__(self) -> str:
        return "by-key"


@dsl_case
def stateless_to_extractor(b: StreamsBuilder) -> None:
    b.stream("in").to(ByKey())


@dsl_case
def stateless_sink_partitioner(b: StreamsBuilder) -> None:
    def choose(topic: str, key: Any, value: Any, partitions: int) -> Collection[int] | None:
        if value is None:
            return ()
        return (0,) if value.startswith("a") else None

    b.stream("in").to("out", key_serde=S, value_serde=S, partitioner=choose)


@dsl_case
def stateless_to_table(b: StreamsBuilder) -> None:
    b.stream("in").to_table().to_stream().to("out")


@dsl_case
def stateless_to_table_named(b: StreamsBuilder) -> None:
    b.stream("in").to_table(named="tt", name="tt-store").to_stream().to("out")


@dsl_case
def stateless_to_table_repartition(b: StreamsBuilder) -> None:
    keyed = b.stream("in").select_key(lambda k, v: "n" if v is None else first(v))
    keyed.to_table(name="tr").to_stream().to("out")


@dsl_case
def stateless_many_topics(b: StreamsBuilder) -> None:
    ab, again = b.stream(["a", "b"]), b.stream(["a", "b"])
    ab.map_values(lambda v: plus("1", v)).to("out1")
    again.map_values(lambda v: plus("2", v)).to("out2")


@dsl_case
def stateless_headers(b: StreamsBuilder) -> None:
    b.stream("in").map(lambda k, v: (plus("x", k), v)).group_by_key().aggregate(
        lambda: "", lambda k, v, total: v if length(total) > 8 else plus(total, v), "agg"
    ).to_stream().to("out")
