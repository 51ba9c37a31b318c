"""Aggregations without windows, of streams, tables and co-groupings; what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.scenarios.registry import SERDES, topology
from tests.scenarios.topologies.windows import AGGREGATORS, added, concatenated, removed
from thalweg.stores.builders import versioned_store
from thalweg.topology.dsl import (
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
)

S = SERDES["string"]
L = SERDES["int64"]


GROUPINGS: dict[str, Any] = {
    "value": lambda key, value: (value, value),
    "whole": lambda key, value: (key, int(value)),
}


@topology
def grouped_table(
    b: StreamsBuilder,
    *,
    grouping: str = "value",
    operation: str = "aggregate",
    store: str | None = None,
    value: str = "string",
) -> None:
    """Groups the rows of `in` and aggregates them into `out`."""
    serde = {"count": L, "sum": SERDES["int32"]}.get(operation, S)
    grouped: Any = b.table("in", key_serde=S, value_serde=SERDES[value]).group_by(
        GROUPINGS[grouping],
        key_serde=S,
        value_serde=SERDES["int32"] if operation == "sum" else S,
    )
    kept: Materialized[Any, Any] = Materialized(store, key_serde=S, value_serde=serde)
    if operation == "count":
        result = grouped.count(materialized=kept)
    elif operation == "sum":
        result = grouped.reduce(lambda x, y: x + y, lambda x, y: x - y, materialized=kept)
    else:
        result = grouped.aggregate(lambda: "0", added, removed, materialized=kept)
    result.to_stream().to("out", key_serde=S, value_serde=serde)


@topology
def grouped_stream(b: StreamsBuilder, *, operation: str, store: str | None = None) -> None:
    """Aggregates the records of `in` by key into `out`."""
    grouped = b.stream("in").group_by_key(key_serde=S, value_serde=S)
    serde = L if operation == "count" else S
    kept: Materialized[Any, Any] | None = None
    if store:
        kept = Materialized(store, key_serde=S, value_serde=serde)
    result: Any
    if operation == "count":
        result = grouped.count(materialized=kept)
    elif operation == "reduce":
        result = grouped.reduce(concatenated, materialized=kept)
    else:
        result = grouped.aggregate(lambda: "0", added, materialized=kept)
    result.to_stream().to("out", key_serde=S, value_serde=serde)


@topology
def cogroup(
    b: StreamsBuilder,
    *,
    aggregators: Sequence[str],
    values: Sequence[str] = ("string", "string", "string"),
    initial: Any = "",
    into: str = "string",
    cache: bool = True,
) -> None:
    """Co-groups `in`, `in2` and `in3`, as many as there are aggregators, into `out`."""
    grouped = [
        b.stream(topic, key_serde=S, value_serde=SERDES[value]).group_by_key()
        for topic, value, _ in zip(("in", "in2", "in3"), values, aggregators, strict=False)
    ]
    both: Any = grouped[0].cogroup(AGGREGATORS[aggregators[0]])
    for other, aggregator in zip(grouped[1:], aggregators[1:], strict=True):
        both = both.cogroup(other, AGGREGATORS[aggregator])
    kept: Materialized[Any, Any] = Materialized(
        "store", key_serde=S, value_serde=SERDES[into], caching=cache
    )
    table = both.aggregate(lambda: initial, materialized=kept)
    table.to_stream().to("out", key_serde=S, value_serde=SERDES[into])


@topology
def cogroup_join(b: StreamsBuilder) -> None:
    """Joins a co-grouping with a table."""
    one, two = b.stream("in").group_by_key(), b.stream("in2").group_by_key()
    both = one.cogroup(AGGREGATORS["append"]).cogroup(two, AGGREGATORS["append"])
    table = both.aggregate(lambda: "", "store", named="name")
    table.join(b.table("in3"), concatenated).to_stream().to("out")


@topology
def described_cogroups(b: StreamsBuilder, *, kind: str) -> None:
    """Co-groupings of streams, the first of which has changed its keys, in several combinations."""
    append = AGGREGATORS["append"]

    def empty() -> str:
        return ""

    def both(first: Any, second: Any) -> Any:
        return first.cogroup(append).cogroup(second, append)

    one = b.stream("one")
    if kind == "used_twice":
        single = _turned(one).group_by_key(name="foo").cogroup(append)
        single.aggregate(empty)
        single.aggregate(empty)
        return
    two = b.stream("two")
    if kind == "one_changed":
        table = both(_turned(one).group_by_key(), two.group_by_key())
        table.aggregate(empty, "store", named="test").to_stream().to("output")
        return
    three = (
        b.stream("three")
        if kind in ("grouped_reused_in_different_cogroups", "grouped_remade")
        else None
    )
    first, second = _turned(one).group_by_key(), two.group_by_key()
    if kind == "grouped_reused_in_same_cogroups":
        former = both(first, second).aggregate(empty)
        both(first, second).aggregate(empty).to_stream().to("output")
        former.to_stream().to("OUTPUT2")
    elif kind == "grouped_reused_in_different_cogroups":
        assert three is not None
        both(first, three.group_by_key()).aggregate(empty)
        both(first, second).aggregate(empty)
    elif kind == "grouped_reused":
        both(first, second).aggregate(empty)
        first.aggregate(empty, append)
    elif kind == "grouped_remade":
        assert three is not None
        again = _turned(one).group_by_key()
        both(first, second).aggregate(empty)
        both(three.group_by_key(), again).aggregate(empty)
    else:
        raise ValueError(kind)


def _turned(stream: Any) -> Any:
    """Swaps key and value."""
    return stream.map(lambda key, value: (value, key))


@topology
def suppressed_versioned(b: StreamsBuilder, *, filtered: bool) -> None:
    """Suppresses a versioned table, which is refused."""
    kept: Materialized[Any, Any] = Materialized(store=versioned_store("versioned", 300_000))
    table = b.table("in", materialized=kept)
    if filtered:
        table = table.filter(lambda _key, _value: True)
    table.suppress(Suppressed.until_time_limit(0)).to_stream().to("out")


@topology
def without_function(b: StreamsBuilder, *, kind: str) -> None:
    """Leaves out one function, or the windows, which is refused when the operator is called."""
    none: Any = None

    def append(_key: Any, value: str, aggregate: str) -> str:
        return aggregate + value

    stream: Any = b.stream("in").group_by_key()
    table: Any = b.table("in2").group_by(lambda key, value: (key, value))
    windowed = stream.windowed_by(TimeWindows.of_size(10, 0))
    sliding = stream.windowed_by(SlidingWindows.of_time_difference(10, 100))
    session = stream.windowed_by(SessionWindows.of_inactivity_gap(30, 0))
    both = stream.cogroup(append)
    calls: dict[str, Any] = {
        "reduce": lambda: stream.reduce(none, "store"),
        "aggregate_initializer": lambda: stream.aggregate(none, append, "store"),
        "aggregate": lambda: stream.aggregate(str, none, "store"),
        "windows": lambda: stream.windowed_by(none),
        "windowed_initializer": lambda: windowed.aggregate(none, append, "store"),
        "windowed_aggregate": lambda: windowed.aggregate(str, none, "store"),
        "windowed_reduce": lambda: windowed.reduce(none, "store"),
        "sliding_initializer": lambda: sliding.aggregate(none, append, "store"),
        "sliding_aggregate": lambda: sliding.aggregate(str, none, "store"),
        "sliding_reduce": lambda: sliding.reduce(none, "store"),
        "session_reduce": lambda: session.reduce(none, "store"),
        "session_initializer": lambda: session.aggregate(none, append, append, "store"),
        "session_aggregate": lambda: session.aggregate(str, none, append, "store"),
        "session_merger": lambda: session.aggregate(str, append, none, "store"),
        "table_initializer": lambda: table.aggregate(none, append, append, "store"),
        "table_adder": lambda: table.aggregate(str, none, append, "store"),
        "table_subtractor": lambda: table.aggregate(str, append, none, "store"),
        "table_reduce_adder": lambda: table.reduce(none, concatenated, "store"),
        "table_reduce_subtractor": lambda: table.reduce(concatenated, none, "store"),
        "cogroup_initializer": lambda: both.aggregate(none),
        "cogroup_aggregator": lambda: stream.cogroup(none),
        "cogroup_windowed_initializer": lambda: both.windowed_by(
            TimeWindows.of_size(10, 0)
        ).aggregate(none),
        "cogroup_sliding_initializer": lambda: both.windowed_by(
            SlidingWindows.of_time_difference(10, 100)
        ).aggregate(none),
        "cogroup_session_initializer": lambda: both.windowed_by(
            SessionWindows.of_inactivity_gap(30, 0)
        ).aggregate(none, append),
        "cogroup_session_merger": lambda: both.windowed_by(
            SessionWindows.of_inactivity_gap(30, 0)
        ).aggregate(str, none),
    }
    calls[kind]()
