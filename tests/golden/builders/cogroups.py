"""Golden cases `cogroup_*` and others with a co-grouping."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, different_description, dsl_case
from tests.golden.java import cat, first, plus
from thalweg.topology.dsl import (
    CogroupedKStream,
    KGroupedStream,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
)

TEXTS = Materialized(key_serde=S, value_serde=S)


@dsl_case
def cogroup_kv(b: StreamsBuilder) -> None:
    x = b.stream("a", key_serde=S, value_serde=S).group_by_key()
    y = b.stream("b", key_serde=S, value_serde=L).group_by_key()
    both = x.cogroup(lambda k, v, a: plus(a, v)).cogroup(y, lambda k, v, a: plus(a, "#", v))
    both.aggregate(lambda: "", "cg").to_stream().to("out")


def _counted(x: KGroupedStream[str, str], y: KGroupedStream[str, str]) -> None:
    both = x.cogroup(lambda k, v, a: plus(a, "1")).cogroup(y, lambda k, v, a: plus(a, "2"))
    both.aggregate(lambda: "").to_stream().to("out")


@different_description("A co-grouping of streams with changed keys works with streams groups.")
@dsl_case
def cogroup_repartition(b: StreamsBuilder) -> None:
    # The sources are numbered before the key selectors.
    x, y = b.stream("a"), b.stream("b")
    named = x.group_by(lambda k, v: first(v), name="ga")
    _counted(named, y.group_by(lambda k, v: first(v), name="gb"))


@different_description("A co-grouping of streams with changed keys works with streams groups.")
@dsl_case
def cogroup_repartition_one(b: StreamsBuilder) -> None:
    x, y = b.stream("a"), b.stream("b")
    _counted(x.group_by_key(), y.group_by(lambda k, v: first(v)))


@dsl_case
def cogroup_repartition_unnamed(b: StreamsBuilder) -> None:
    x, y = b.stream("a"), b.stream("b")
    _counted(x.group_by(lambda k, v: first(v)), y.group_by(lambda k, v: first(v)))


@dsl_case
def cogroup_tumbling(b: StreamsBuilder) -> None:
    windowed = _appended(b).windowed_by(TimeWindows.of_size(10, 5))
    windowed.aggregate(lambda: "", materialized=TEXTS).to_stream().to("out")


def _appended(b: StreamsBuilder) -> CogroupedKStream[str, str]:
    a, c = b.stream("a"), b.stream("b")
    x = a.group_by_key(key_serde=S, value_serde=S)
    y = c.group_by_key(key_serde=S, value_serde=S)
    return x.cogroup(lambda k, v, a: plus(a, v)).cogroup(y, lambda k, v, a: plus(a, "-", v))


@dsl_case
def naming_nested(b: StreamsBuilder) -> None:
    stream, table = b.stream("in"), b.table("t")
    counts = stream.group_by(lambda k, v: v).count().to_stream()
    texts = counts.map(lambda k, n: (k, plus("", n))).group_by_key(key_serde=S, value_serde=S)
    final = texts.windowed_by(TimeWindows.of_size(10, 2)).count()
    closed = final.suppress(Suppressed.until_window_closes()).to_stream(lambda w, n: w.key)
    joined = closed.map_values(lambda n: plus("", n)).left_join(table, cat)
    last = joined.repartition("rep").group_by_key().cogroup(lambda k, v, a: a)
    last.aggregate(lambda: "").to_stream().to("out")


@dsl_case
def cogroup_sliding(b: StreamsBuilder) -> None:
    windowed = _appended(b).windowed_by(SlidingWindows.of_time_difference(6, 4))
    windowed.aggregate(lambda: "", materialized=TEXTS).to_stream().to("out")


@dsl_case
def cogroup_session(b: StreamsBuilder) -> None:
    sessions = _appended(b).windowed_by(SessionWindows.of_inactivity_gap(5, 5))
    table = sessions.aggregate(
        lambda: "",
        lambda k, p, q: plus(p, "/", q),
        materialized=Materialized("cg", key_serde=S, value_serde=S),
        named="cgs",
    )
    table.to_stream().to("out")


@dsl_case
def nulls_cogroup(b: StreamsBuilder) -> None:
    grouped = b.stream("in", key_serde=S, value_serde=S).group_by_key()
    both: CogroupedKStream[str, str] = grouped.cogroup(lambda k, v, a: plus(a, v))
    both.aggregate(lambda: "").to_stream().to("kv")
    windowed = both.windowed_by(TimeWindows.of_size(10))
    windowed.aggregate(lambda: "", materialized=TEXTS).to_stream().to("window")
    sliding = both.windowed_by(SlidingWindows.of_time_difference(10))
    sliding.aggregate(lambda: "", materialized=TEXTS).to_stream().to("sliding")


@dsl_case
def naming_cogroup(b: StreamsBuilder) -> None:
    x, y = b.stream("a"), b.stream("b")

    def same(_key: str, _value: str, total: str) -> str:
        return total

    x.group_by_key().cogroup(same).cogroup(y.group_by_key(), same).aggregate(lambda: "")
    both = x.group_by_key().cogroup(same).cogroup(y.group_by_key(), same)
    both.aggregate(lambda: "", "cs", named="cg")
    by = x.group_by(lambda k, v: v).cogroup(same)
    by = by.cogroup(y.group_by(lambda k, v: v, name="yg"), same)
    by.windowed_by(TimeWindows.of_size(10)).aggregate(lambda: "")
    one = x.group_by_key().cogroup(same).windowed_by(SessionWindows.of_inactivity_gap(10))
    one.aggregate(lambda: "", lambda k, p, q: p, materialized=TEXTS)
