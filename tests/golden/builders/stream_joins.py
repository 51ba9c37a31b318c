"""Golden cases `joinss_*`, and what others have of joins of two streams."""

from __future__ import annotations

from datetime import timedelta

from tests.golden.builders.process import Tag
from tests.golden.builders.registry import I, L, S, dsl_case
from tests.golden.builders.versioned import versioned
from tests.golden.java import cat, first, plus
from thalweg.topology.dsl import JoinWindows, StreamJoined, StreamsBuilder

A_DAY = timedelta(hours=24)


@dsl_case
def joinss_inner_sample(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.join(right, cat, JoinWindows.of_time_difference(10, A_DAY)).to("out")


@dsl_case
def joinss_left_sample(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.left_join(right, cat, JoinWindows.of_time_difference(10, A_DAY)).to("out")


@dsl_case
def joinss_outer_sample(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.outer_join(right, cat, JoinWindows.of_time_difference(10, A_DAY)).to("out")


@dsl_case
def joinss_outer_close(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.outer_join(right, cat, JoinWindows.of_time_difference(100)).to("out")


@dsl_case
def joinss_outer_grace_sample(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.outer_join(right, cat, JoinWindows.of_time_difference(100, 10)).to("out")


@dsl_case
def joinss_inner(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.join(right, cat, JoinWindows.of_time_difference(10, 5)).to("out")


@dsl_case
def joinss_left(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.left_join(right, cat, JoinWindows.of_time_difference(10, 5)).to("out")


@dsl_case
def joinss_outer(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    windows = JoinWindows.of_time_difference(10, 5)
    left.outer_join(right, lambda k, x, y: plus(k, ":", x, "|", y), windows).to("out")


@dsl_case
def joinss_inner_asymmetric(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.join(right, cat, JoinWindows.of_time_difference(3, 8).after(12)).to("out")


@dsl_case
def joinss_outer_asymmetric(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.outer_join(right, cat, JoinWindows.of_time_difference(12).before(0)).to("out")


@dsl_case
def joinss_left_negative_before(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.left_join(right, cat, JoinWindows.of_time_difference(12, 3).before(-2)).to("out")


@dsl_case
def joinss_repartition(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    keyed = left.select_key(lambda k, v: first(v))
    windows = JoinWindows.of_time_difference(10)
    keyed.join(right.select_key(lambda k, v: first(v)), cat, windows).to("out")


@dsl_case
def joinss_named(b: StreamsBuilder) -> None:
    left = b.stream("l")
    right = b.stream("r", key_serde=S, value_serde=I)
    joined = StreamJoined(
        key_serde=S, value_serde=S, other_value_serde=I, name="jn", store_name="js"
    )
    keyed = left.select_key(lambda k, v: k)
    keyed.left_join(right, cat, JoinWindows.of_time_difference(10, 2), joined=joined).to("out")


@dsl_case
def joinss_outer_inmemory(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    windows = JoinWindows.of_time_difference(10, 5)
    joined: StreamJoined[str, str, str] = StreamJoined(store="memory", logging=False)
    left.outer_join(right, cat, windows, joined=joined).to("out")


@dsl_case
def joinss_outer_throttled(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.outer_join(right, cat, JoinWindows.of_time_difference(10, 5)).to("out")


@dsl_case
def joinss_three(b: StreamsBuilder) -> None:
    x, y, z = b.stream("a"), b.stream("b"), b.stream("c")
    windows = JoinWindows.of_time_difference(10)
    x.join(y, cat, windows).join(z, cat, windows).to("out")


@dsl_case
def joinss_self(b: StreamsBuilder) -> None:
    stream = b.stream("in")
    stream.join(stream, cat, JoinWindows.of_time_difference(8, 5)).to("out")


@dsl_case
def joinss_self_optimized(b: StreamsBuilder) -> None:
    joinss_self(b)


@dsl_case
def joinss_self_optimized_asymmetric(b: StreamsBuilder) -> None:
    stream = b.stream("in")
    stream.join(stream, cat, JoinWindows.of_time_difference(3, 5).after(9)).to("out")


@dsl_case
def default_joinss_outer(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.outer_join(right, cat, JoinWindows.of_time_difference(10, 5)).to("out")


# -- records without key or value ------------------------------------------------------------


@dsl_case
def nulls_joinss_inner(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.join(right, cat, JoinWindows.of_time_difference(20)).to("out")


@dsl_case
def nulls_joinss_left(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.left_join(right, cat, JoinWindows.of_time_difference(20)).to("out")


@dsl_case
def nulls_joinss_outer_repartition(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    mapped = left.map(lambda k, v: (k, v))
    windows = JoinWindows.of_time_difference(20)
    mapped.outer_join(right.map(lambda k, v: (k, v)), cat, windows).to("out")


@dsl_case
def nulls_joinss_inner_repartition(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    mapped = left.map(lambda k, v: (k, v))
    windows = JoinWindows.of_time_difference(20)
    mapped.join(right.map(lambda k, v: (k, v)), cat, windows).to("out")


# -- shared repartitions ---------------------------------------------------------------------


@dsl_case
def opt_merge_join(b: StreamsBuilder) -> None:
    stream = b.stream("in", name="src")
    mapped = stream.map(lambda k, v: (first(v), v), name="mapper")
    doubled = mapped.filter(lambda k, v: k == "b", name="flt").map_values(
        lambda v: plus(v, v), name="mv"
    )
    doubled.process(Tag, name="tag")
    counts = mapped.group_by_key(name="cnt-rep").count("cnt")
    counts.to_stream().to("counts", key_serde=S, value_serde=L)
    others = mapped.filter(lambda k, v: k != "c")
    reduced = others.group_by_key().reduce(lambda x, y: plus(x, y), "red")
    reduced.to_stream().to("reduced")
    table = b.table("t")
    mapped.join(table, cat).to("joined")
    joined = StreamJoined(key_serde=S, value_serde=S, other_value_serde=L, store_name="js")
    windows = JoinWindows.of_time_difference(20)
    only_a = mapped.filter(lambda k, v: k == "a")
    only_a.join(counts.to_stream(), cat, windows, joined=joined).to("windowed")


# -- names -----------------------------------------------------------------------------------


@dsl_case
def naming_joinss(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    windows = JoinWindows.of_time_difference(10)
    left.join(right, cat, windows)
    left.left_join(right, cat, windows)
    left.outer_join(right, cat, windows)


@dsl_case
def naming_joinss_named(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    windows = JoinWindows.of_time_difference(10)

    def joined(name: str | None, store: str | None = None) -> StreamJoined[str, str, str]:
        return StreamJoined(
            name=name, store_name=store, key_serde=S, value_serde=S, other_value_serde=S
        )

    left.join(right, cat, windows, joined=StreamJoined(store_name="st1"))
    left.left_join(right, cat, windows, joined=StreamJoined(store_name="st2", name="nm2"))
    left.select_key(lambda k, v: v).outer_join(right, cat, windows, joined=joined("nm3"))
    left.join(right.select_key(lambda k, v: v), cat, windows, joined=joined("nm4"))


@dsl_case
def naming_join_twice(b: StreamsBuilder) -> None:
    left, right = b.stream("l").select_key(lambda k, v: v), b.stream("r")
    table = b.table("t")
    windows = JoinWindows.of_time_difference(10)
    left.join(right, cat, windows).to("o1")
    left.join(right, cat, windows).to("o2")
    left.join(table, cat).to("o3")
    left.join(table, cat, name="jn").to("o4")


@dsl_case
def naming_join_twice_optimized(b: StreamsBuilder) -> None:
    naming_join_twice(b)


@dsl_case
def naming_copartition(b: StreamsBuilder) -> None:
    x, y, z = b.stream("a"), b.stream("b"), b.stream("c")
    windows = JoinWindows.of_time_difference(10)
    both = x.join(y, cat, windows)
    both.join(z.select_key(lambda k, v: v), cat, windows).to("o1")
    b.stream("d").join(b.table("e"), cat).to("o2")
    fixed = b.stream("f").repartition("fixed", partitions=6)
    fixed.join(b.stream("g").select_key(lambda k, v: v), cat, windows).to("o3")


@dsl_case
def naming_copartition_optimized(b: StreamsBuilder) -> None:
    naming_copartition(b)


# -- with a versioned table that is given time -------------------------------------------------


@dsl_case
def versioned_stream_table_grace(b: StreamsBuilder) -> None:
    table = b.table("t", materialized=versioned("vt", 100))
    b.stream("s").join(table, cat, grace=20, name="j", key_serde=S, value_serde=S).to("out")


@dsl_case
def versioned_stream_table_grace_left(b: StreamsBuilder) -> None:
    table = b.table("t", materialized=versioned("vt", 100))
    b.stream("s").left_join(table, cat, grace=20, key_serde=S, value_serde=S).to("out")


@dsl_case
def nulls_joinst_grace_left(b: StreamsBuilder) -> None:
    stream, table = b.stream("l"), b.table("r", materialized=versioned("vt", 100))
    stream.left_join(table, cat, grace=20, key_serde=S, value_serde=S).to("out")


@dsl_case
def nulls_joinst_grace_inner(b: StreamsBuilder) -> None:
    stream, table = b.stream("l"), b.table("r", materialized=versioned("vt", 100))
    stream.join(table, cat, grace=20, key_serde=S, value_serde=S).to("out")


@dsl_case
def naming_joinst(b: StreamsBuilder) -> None:
    stream, table = b.stream("s"), b.table("t", materialized=versioned("vt", 10_000))
    stream.join(table, cat)
    stream.left_join(table, cat)
    stream.join(table, cat, name="j1")
    stream.left_join(table, cat, grace=50, key_serde=S, value_serde=S)
    stream.select_key(lambda k, v: v).join(table, cat, grace=50, name="j2")


@dsl_case
def headers_joinst_grace(b: StreamsBuilder) -> None:
    table = b.table("t", materialized=versioned("tv", 200))
    b.stream("s").join(table, cat, grace=10, name="gj", key_serde=S, value_serde=S).to("out")
