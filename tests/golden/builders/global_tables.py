"""Golden cases of global tables: `joinglobal*`, `nulls_joinglobal`, `naming_global`."""

from __future__ import annotations

from tests.golden.builders.registry import dsl_case
from tests.golden.java import cat, first, fk, plus
from thalweg.topology.dsl import StreamsBuilder


@dsl_case
def joinglobal(b: StreamsBuilder) -> None:
    table, stream = b.global_table("g", store="glob"), b.stream("s")
    stream.join(table, cat, key_selector=lambda k, v: fk(v)).to("out")
    stream.left_join(table, cat, key_selector=lambda k, v: fk(v)).to("out-left")


@dsl_case
def joinglobal_unnamed(b: StreamsBuilder) -> None:
    stream, table = b.stream("s"), b.global_table("g")
    joined = stream.left_join(table, lambda k, x, y: plus(k, x, y), key_selector=lambda k, v: k)
    joined.to("out")


@dsl_case
def nulls_joinglobal(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.global_table("r")
    left.join(right, cat, key_selector=lambda k, v: k).to("inner")
    left.left_join(right, cat, key_selector=lambda k, v: k).to("left")
    left.join(right, cat, key_selector=lambda k, v: "c").to("inner-c")
    left.left_join(right, cat, key_selector=lambda k, v: "c").to("left-c")


@dsl_case
def naming_global(b: StreamsBuilder) -> None:
    one, two = b.global_table("g1"), b.global_table("g2", store="gs")
    b.global_table("g3", name="gsrc")
    joined = b.stream("in").join(one, cat, key_selector=lambda k, v: k)
    joined.left_join(two, cat, key_selector=lambda k, v: k, name="gj").to("out")
    b.stream("other").to("out2")


# -- of Kafka 4.4.0 ------------------------------------------------------------------------


@dsl_case
def joinglobal_mapped_key(b: StreamsBuilder) -> None:
    table, stream = b.global_table("g", store="gs"), b.stream("s")

    def select(k: str, v: str) -> str | None:
        return None if v == "x" else first(v)

    def join(k: str | None, selected: str | None, v: str, row: str | None) -> str:
        return plus(k, "/", selected, "/", v, "/", row)

    stream.join(table, join, key_selector=select).to("inner")
    stream.left_join(table, join, key_selector=select, name="lj").to("left")
