"""Golden cases `naming_*`: names only, no input."""

from __future__ import annotations

from tests.golden.builders.papi import GlobalUpdate, StoreCount
from tests.golden.builders.process import Same, Tag
from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.builders.tables import Sizer
from tests.golden.java import cat
from thalweg.stores.builders import StoreBuilder, key_value_store
from thalweg.topology.dsl import Materialized, StreamsBuilder


@dsl_case
def naming_stateless(b: StreamsBuilder) -> None:
    (
        b.stream("in")
        .filter(lambda k, v: True)
        .filter_not(lambda k, v: False)
        .map(lambda k, v: (k, v))
        .map_values(lambda v: v)
        .flat_map(lambda k, v: [(k, v)])
        .flat_map_values(lambda v: [v])
        .select_key(lambda k, v: k)
        .peek(lambda k, v: None)
        .merge(b.stream("in2"))
        .process(Tag)
        .process_values(Same)
        .print()
    )


@dsl_case
def naming_stateless_named(b: StreamsBuilder) -> None:
    tagged = (
        b.stream("in", name="source")
        .filter(lambda k, v: True, name="n1")
        .filter_not(lambda k, v: False, name="n2")
        .map(lambda k, v: (k, v), name="n3")
        .map_values(lambda v: v, name="n4")
        .flat_map(lambda k, v: [(k, v)], name="n5")
        .flat_map_values(lambda v: [v], name="n6")
        .select_key(lambda k, v: k, name="n7")
        .peek(lambda k, v: None, name="n8")
        .merge(b.stream("in2"), name="n9")
        .process(Tag, name="n10")
    )
    tagged.for_each(lambda k, v: None, name="n11")
    tagged.to("out", name="n12")
    tagged.to_table(named="n13").to_stream(name="n14").to("out2")


@dsl_case
def naming_mixed(b: StreamsBuilder) -> None:
    filtered = b.stream("in").filter(lambda k, v: True)
    filtered.map_values(lambda v: v, name="mid").filter(lambda k, v: True).to("out")


@dsl_case
def naming_split(b: StreamsBuilder) -> None:
    records = b.stream("in")
    (
        records.split()
        .branch(lambda k, v: True, to=lambda x: x.to("o1"))
        .branch(lambda k, v: True, to=lambda x: x.to("o2"), name="named")
        .default_branch(to=lambda x: x.to("o3"))
    )
    (
        records.split(name="pre-")
        .branch(
            lambda k, v: True,
            to=lambda x: (
                x.split().branch(lambda k, v: True, to=lambda y: y.to("o4")).no_default_branch()
            ),
        )
        .no_default_branch()
    )


@dsl_case
def naming_tables(b: StreamsBuilder) -> None:
    unnamed, named, stored = (
        b.table("in"),
        b.table("in2", name="tsrc"),
        b.table("in3", store="st"),
    )
    texts = Materialized(key_serde=S, value_serde=S)
    (
        unnamed.filter(lambda k, v: True)
        .map_values(lambda v: v)
        .transform_values(Sizer)
        .to_stream()
        .to("o1")
    )
    (
        named.filter(lambda k, v: True, materialized=texts)
        .map_values(lambda v: v, materialized=texts)
        .transform_values(Sizer, materialized=texts)
        .to_stream()
        .to("o2")
    )
    (
        stored.filter(lambda k, v: True, named="f", name="fs")
        .map_values(lambda v: v, named="mv", name="ms")
        .transform_values(Sizer, name="ts", named="tv")
        .to_stream(name="str")
        .to("o3")
    )


@dsl_case
def naming_aggregations(b: StreamsBuilder) -> None:
    records = b.stream("in")
    records.group_by_key().count()
    records.group_by_key().count(materialized=Materialized(key_serde=S, value_serde=L))
    records.group_by_key().reduce(lambda x, y: x)
    records.group_by_key().aggregate(lambda: "", lambda k, v, total: total)
    records.group_by(lambda k, v: v).count(named="c1")
    records.group_by(lambda k, v: v, name="gr").reduce(lambda x, y: x, "rs", named="r1")
    records.group_by(lambda k, v: v, name="gr2-repartition").aggregate(
        lambda: "",
        lambda k, v, total: total,
        named="a1",
        materialized=Materialized(key_serde=S, value_serde=S),
    )


@dsl_case
def naming_repartition(b: StreamsBuilder) -> None:
    (
        b.stream("in")
        .repartition()
        .repartition("two")
        .repartition(partitions=3)
        .repartition("four", partitions=5)
        .to("out")
    )


@dsl_case
def naming_to_table(b: StreamsBuilder) -> None:
    records = b.stream("in")
    records.to_table()
    records.to_table(named="t2")
    records.select_key(lambda k, v: v).to_table()
    records.select_key(lambda k, v: v).to_table(named="t4")
    records.select_key(lambda k, v: v).to_table(named="t5", name="s5")
    records.select_key(lambda k, v: v).to_table(name="s6")


@dsl_case
def naming_jointt(b: StreamsBuilder) -> None:
    left, right, third = b.table("l"), b.table("r"), b.table("t")
    left.join(right, cat)
    left.left_join(right, cat, named="lj")
    left.outer_join(right, cat, materialized=Materialized(key_serde=S, value_serde=S))
    left.join(right, cat, named="ij", name="is").join(third, cat).to_stream().to("out")


@dsl_case
def naming_table_group(b: StreamsBuilder) -> None:
    table = b.table("in")
    table.group_by(lambda k, v: (k, v)).count()
    table.group_by(lambda k, v: (k, v), name="g1").reduce(lambda x, y: x, lambda x, y: x)
    table.group_by(lambda k, v: (k, v), name="g2").aggregate(
        lambda: "", lambda k, v, total: total, lambda k, v, total: total, "as", named="ag"
    )
    table.group_by(lambda k, v: (k, v)).count(materialized=Materialized(key_serde=S, value_serde=L))


class AutoStoreCount:
    """Supplies processors and the store they count in."""

    stores: list[StoreBuilder] = [key_value_store("auto", S, L, in_memory=True)]

    def __call__(self) -> StoreCount:
        return StoreCount("auto")


@dsl_case
def naming_process(b: StreamsBuilder) -> None:
    b.add_state_store(key_value_store("added", S, L, in_memory=True))
    b.add_global_store(
        key_value_store("glob", S, S, in_memory=True).without_logging(),
        "gt",
        GlobalUpdate,
        key_serde=S,
        value_serde=S,
    )
    counted = b.stream("in").process(AutoStoreCount())
    again = counted.process(lambda: StoreCount("added"), "added", name="named")
    again.process_values(Same, name="pv").to("out")


@dsl_case
def naming_order(b: StreamsBuilder) -> None:
    z, y = b.stream("z"), b.stream("y")
    z.filter(lambda k, v: True, name="bb").map_values(lambda v: v, name="cc").to("o1", name="dd")
    z.filter(lambda k, v: True, name="aa").to("o2")
    y.merge(z).filter(lambda k, v: True).group_by_key().count()
    b.stream("w").to("o3")
    b.stream(["q", "p"]).to("o4")


@dsl_case
def naming_explicit_required(b: StreamsBuilder) -> None:
    records = b.stream("in")
    records.group_by(lambda k, v: v).count().to_stream().to("out")
    records.repartition().to("out2")


@dsl_case
def naming_overlapping_sources(b: StreamsBuilder) -> None:
    b.stream(["a", "b"]).to("o1")
    b.stream(["b", "c"]).to("o2")


@dsl_case
def naming_stream_and_table(b: StreamsBuilder) -> None:
    b.stream("a").to("o1")
    b.table("a").to_stream().to("o2")


@dsl_case
def naming_duplicate(b: StreamsBuilder) -> None:
    once = b.stream("a").filter(lambda k, v: True, name="x")
    once.filter(lambda k, v: True, name="x").to("o1")
