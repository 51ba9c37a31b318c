"""Tables: filtered, mapped, transformed, grouped, and two of them joined by key."""

from __future__ import annotations

from typing import Any

from tests.scenarios.registry import SERDES, plus, topology
from thalweg.stores.builders import key_value_store, versioned_store
from thalweg.topology.dsl import KTable, Materialized, StreamsBuilder

S, I = SERDES["string"], SERDES["int32"]  # noqa: E741 - the names they have elsewhere


def watch(table: KTable[Any, Any], key: str, value: str) -> None:
    """Writes a table to `out`, and to `changes` which values left it (-) and came into it (+)."""
    k, v = SERDES[key], SERDES[value]
    table.to_stream().to("out", key_serde=k, value_serde=v)
    grouped = table.group_by(lambda k, v: (k, v), key_serde=k, value_serde=v)
    kept: Materialized[Any, Any] = Materialized(key_serde=k, value_serde=S)
    seen = grouped.aggregate(
        lambda: "",
        lambda k, v, seen: f"{seen}+({v})",
        lambda k, v, seen: f"{seen}-({v})",
        materialized=kept,
    )
    seen.to_stream().to("changes", key_serde=k, value_serde=S)


@topology
def table_table_join(
    b: StreamsBuilder,
    *,
    kind: str = "inner",
    store: str | None = None,
    watched: bool = False,
    key: str = "int32",
    joiner: str = "+",
    history: tuple[int | None, int | None] = (None, None),
) -> None:
    """Two tables, joined, into `out`; each is versioned with a `history`."""
    k = SERDES[key]
    tables = []
    for topic, kept in zip(("left", "right"), history, strict=True):
        given: dict[str, Any] = {}
        if kept is not None:
            given["materialized"] = Materialized(
                store=versioned_store(f"{topic}-store", kept, in_memory=True)
            )
        tables.append(b.table(topic, key_serde=k, value_serde=S, **given))
    left, right = tables
    join: Any = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[kind]
    materialized: Materialized[Any, Any] | None = None
    if store == "with serdes":
        materialized = Materialized(key_serde=k, value_serde=S)
    elif store is not None:
        materialized = Materialized(name=store, key_serde=k, value_serde=S)
    joined = join(right, plus(joiner), materialized=materialized)
    if watched:
        watch(joined, key, "string")
    else:
        joined.to_stream().to("out", key_serde=k, value_serde=S)


@topology
def table_filter_and_filter_not(
    b: StreamsBuilder, *, store: str | None = None, not_store: str | None = None
) -> None:
    """The even numbers of a table into `out1`, the others into `out2`."""
    table = b.table("in", key_serde=S, value_serde=I)
    even = table.filter(lambda k, v: v % 2 == 0, name=store)
    odd = table.filter_not(lambda k, v: v % 2 == 0, name=not_store)
    even.to_stream().to("out1", key_serde=S, value_serde=I)
    odd.to_stream().to("out2", key_serde=S, value_serde=I)


@topology
def table_filter(
    b: StreamsBuilder,
    *,
    source_store: str | None = None,
    store: str | None = None,
    watched: bool = False,
) -> None:
    """A table into `out1`, its even numbers into `out`."""
    table = b.table("in", key_serde=S, value_serde=I, store=source_store)
    even = table.filter(lambda k, v: v % 2 == 0, name=store)
    table.to_stream().to("out1", key_serde=S, value_serde=I)
    if watched:
        watch(even, "string", "int32")
    else:
        even.to_stream().to("out", key_serde=S, value_serde=I)


@topology
def table_filter_of_grouped(
    b: StreamsBuilder,
    *,
    source_history: int | None = None,
    source_store: str | None = None,
    history: int | None = None,
    store: str | None = None,
    result: str | None = None,
) -> None:
    """A table into `out1`, its rows with `accept` into `out2` and, grouped, into a reduction."""
    given: dict[str, Any] = {"store": source_store}
    if source_history is not None:
        given = {
            "materialized": Materialized(
                store=versioned_store("versioned", source_history, in_memory=True)
            )
        }
    table = b.table("in", key_serde=S, value_serde=S, **given)
    filter_given: dict[str, Any] = {"name": store}
    if history is not None:
        filter_given = {
            "materialized": Materialized(
                store=versioned_store("versioned", history, in_memory=True)
            )
        }
    accepted = table.filter(lambda k, v: v.lower() == "accept", **filter_given)
    accepted.group_by(lambda k, v: (k, v)).reduce(plus(), plus("-"), name=result)
    table.to_stream().to("out1")
    accepted.to_stream().to("out2")


@topology
def table_map_values(
    b: StreamsBuilder,
    *,
    first: bool = False,
    store: str | None = None,
    watched: bool = False,
) -> None:
    """A table of texts as numbers, into `out`; with `first`, only the first digit of each."""
    table = b.table("in", key_serde=S, value_serde=S)

    def number(value: str) -> int:
        return int(value[0]) if first else int(value)

    kept: dict[str, Any] = {}
    if store is not None:
        kept["materialized"] = Materialized(name=store, value_serde=I)
    mapped = table.map_values(number, **kept)
    if watched:
        watch(mapped, "string", "int32")
    else:
        mapped.to_stream().to("out", key_serde=S, value_serde=I)


@topology
def table_map_values_twice(b: StreamsBuilder) -> None:
    """A table of texts as numbers, kept in `store2`, and as negative ones, in `store3`."""
    table = b.table("in", key_serde=S, value_serde=S)
    plain: Materialized[Any, Any] = Materialized(name="store2", value_serde=I)
    table.map_values(lambda v: int(v), materialized=plain)
    negative: Materialized[Any, Any] = Materialized(name="store3", value_serde=I)
    table.map_values(lambda v: -int(v), materialized=negative)


class _Exclaims:
    def transform(self, key: object, value: object) -> str:
        return f"{key}->{'null' if value is None else value}!"


class _Counts:
    def __init__(self) -> None:
        self._count = 0

    def transform(self, key: object, value: object) -> int:
        self._count += 1
        return self._count


class _Measures:
    def transform(self, key: object, value: str | None) -> int | None:
        return None if value is None else len(value)


@topology
def table_transform_values(b: StreamsBuilder, *, store: str | None = None) -> None:
    """A table whose values get the key and an exclamation mark, into `out`."""
    b.add_state_store(key_value_store("stateStore", SERDES["int64"], SERDES["int64"]))
    table = b.table("in", key_serde=S, value_serde=S)
    kept: dict[str, Any] = {}
    if store is not None:
        kept["materialized"] = Materialized(name=store, key_serde=S, value_serde=S)
    transformed = table.transform_values(_Exclaims, "stateStore", **kept)
    transformed.to_stream().to("out", key_serde=S, value_serde=S)


@topology
def table_transform_values_grouped(
    b: StreamsBuilder, *, stateful: bool, store: str | None = None
) -> None:
    """A table whose values become numbers, summed by key, into `out` as text."""
    table = b.table("in", key_serde=S, value_serde=S)
    kept: dict[str, Any] = {}
    if store is not None:
        kept["materialized"] = Materialized(name=store, key_serde=S, value_serde=I)
    supplier: Any = _Counts if stateful else _Measures
    transformed = table.transform_values(supplier, **kept)
    grouped = transformed.group_by(lambda k, v: (k, v), key_serde=S, value_serde=I)
    reduced = grouped.reduce(lambda x, y: x + y, lambda x, y: x - y)
    reduced.map_values(lambda v: str(v)).to_stream().to("out", key_serde=S, value_serde=S)


@topology
def table_aggregate(b: StreamsBuilder, *, by: str = "key", history: int | None = None) -> None:
    """A table grouped by its key or its value, with the trail of what came and went, into `out`."""
    given: dict[str, Any] = {}
    if history is not None:
        given["materialized"] = Materialized(
            store=versioned_store("versioned", history, in_memory=True)
        )
    table = b.table("in", key_serde=S, value_serde=S, **given)

    def select(key: str, value: str) -> Any:
        if by == "key":
            return key, value
        return {"null": (None, value), "NULL": None}.get(key, (value, value))

    grouped = table.group_by(select, key_serde=S, value_serde=S)
    seen = grouped.aggregate(
        lambda: "0",
        lambda k, v, seen: f"{seen}+{v}",
        lambda k, v, seen: f"{seen}-{v}",
        materialized=Materialized(name="topic1-Canonized", value_serde=S),
    )
    seen.to_stream().to("out", key_serde=S, value_serde=S)


@topology
def table_count(
    b: StreamsBuilder, *, by: str = "value", store: str | None = None, history: int | None = None
) -> None:
    """A table grouped by its value or its key and counted, into `out`."""
    given: dict[str, Any] = {}
    if history is not None:
        given["materialized"] = Materialized(
            store=versioned_store("versioned", history, in_memory=True)
        )
    table = b.table("in", key_serde=S, value_serde=S, **given)
    grouped = table.group_by(
        lambda k, v: (v, v) if by == "value" else (k, v), key_serde=S, value_serde=S
    )
    counted = grouped.count(store)
    counted.to_stream().to("out", key_serde=S, value_serde=SERDES["int64"])


@topology
def table_aggregate_of_key_parts(b: StreamsBuilder) -> None:
    """Rows grouped by the first character of the key; the second is added and removed."""
    table = b.table("in", key_serde=S, value_serde=S)
    grouped = table.group_by(lambda k, v: (k[0], k[1]), key_serde=S, value_serde=S)
    seen = grouped.aggregate(
        lambda: "",
        lambda k, v, seen: seen + v,
        lambda k, v, seen: seen.replace(v, ""),
        materialized=Materialized(name="someStore", value_serde=S),
    )
    seen.to_stream().to("out", key_serde=S, value_serde=S)


@topology
def table_to_stream_by_name(b: StreamsBuilder) -> None:
    """A table as a stream, its numbers spelled out."""
    names = {1: "ONE", 2: "TWO", 3: "THREE"}
    table = b.table("in", key_serde=I, value_serde=S)
    table.to_stream(lambda k, v: names[k]).to("out", key_serde=S, value_serde=S)


@topology
def tables_joined_and_kept(
    b: StreamsBuilder,
    *,
    kinds: list[str],
    history: tuple[int | None, int | None] = (None, None),
) -> None:
    """A table joined with another once or twice, kept in `store` and written to `out`."""
    tables = []
    for topic, kept in zip(("left", "right"), history, strict=True):
        if kept is None:
            materialized: Materialized[Any, Any] = Materialized(topic, logging=False)
        else:
            materialized = Materialized(
                store=versioned_store(topic, kept, in_memory=True), logging=False
            )
        tables.append(b.table(topic, materialized=materialized))
    joined, right = tables
    for at, kind in enumerate(kinds):
        result: Materialized[Any, Any] | None = None
        if at == len(kinds) - 1:
            result = Materialized(
                "store", key_serde=SERDES["int64"], value_serde=S, caching=False, logging=False
            )
        join: Any = {"inner": joined.join, "left": joined.left_join, "outer": joined.outer_join}
        joined = join[kind](right, plus("-"), materialized=result)
    joined.to_stream().to("out")


@topology
def table_reduce(b: StreamsBuilder) -> None:
    """A table of letters grouped by its key, reduced to the letters that are there, into `out`."""
    table = b.table("in", key_serde=S, value_serde=S)

    def add(seen: str, value: str) -> str:
        return "".join(sorted({*seen, *value}))

    def subtract(seen: str, value: str) -> str:
        return "".join(sorted({*seen} - {*value}))

    table.group_by(lambda k, v: (k, v)).reduce(add, subtract).to_stream().to("out")


@topology
def tables_joined_many_times(b: StreamsBuilder) -> None:
    """An aggregate joined with five tables and a join of two that are joined already."""
    k = SERDES["int64"]

    def table(topic: str) -> Any:
        kept = key_value_store(f"{topic}-base-store", in_memory=True)
        return b.table(topic, key_serde=k, value_serde=S, materialized=Materialized(store=kept))

    grouped = table("agg").group_by(lambda k, v: (k, v), key_serde=k, value_serde=S)
    added: Materialized[Any, Any] = Materialized(store=key_value_store("agg-store", in_memory=True))
    result = grouped.reduce(plus(), plus(), materialized=added)
    one, two, three, four, five, six = (
        table(f"table{name}") for name in ("One", "Two", "Three", "Four", "Five", "Six")
    )
    seven = one.map_values(lambda v: v.upper())
    eight = six.left_join(seven, plus())
    for other in (one, two, three, four, five, eight):
        result = result.left_join(other, plus())
    result.map_values(lambda v: v.upper())


@topology
def table_source(
    b: StreamsBuilder, *, value: str = "string", store: str | None = None, watched: bool = False
) -> None:
    """A table, into `out`."""
    table = b.table("in", key_serde=S, value_serde=SERDES[value], store=store)
    if watched:
        watch(table, "string", value)
    else:
        table.to_stream().to("out", key_serde=S, value_serde=SERDES[value])
