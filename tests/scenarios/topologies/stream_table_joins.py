"""Joins of streams with tables and global tables."""

from __future__ import annotations

from typing import Any

from tests.scenarios.registry import SERDES, plus, topology
from thalweg.stores.builders import key_value_store, versioned_store
from thalweg.topology.dsl import Materialized, StreamsBuilder


@topology
def stream_table_join(
    b: StreamsBuilder,
    *,
    kind: str = "inner",
    key: str = "int32",
    joiner: str = "+",
    history: int | None = None,
    memory_store: str | None = None,
    grace: int | None = None,
    filtered: bool = False,
    name: str | None = None,
) -> None:
    """A stream joined with a table, into `out`; the table is versioned with a `history`."""
    k, v = SERDES[key], SERDES["string"]
    given: dict[str, Any] = {}
    if history is not None:
        given["materialized"] = Materialized(store=versioned_store("V-grace", history))
    elif memory_store is not None:
        given["materialized"] = Materialized(store=key_value_store(memory_store, in_memory=True))
    stream = b.stream("stream", key_serde=k, value_serde=v)
    table = b.table("table", key_serde=k, value_serde=v, **given)
    if filtered:
        table = table.filter(lambda k, v: True)
    if grace is not None:
        given = {"grace": grace, "key_serde": k, "value_serde": v, "other_value_serde": v}
        given["name"] = name or "Grace"
    else:
        given = {}
    join: Any = {"inner": stream.join, "left": stream.left_join}[kind]
    join(table, plus(joiner), **given).to("out", key_serde=k, value_serde=v)


@topology
def stream_joined_with_two_tables(
    b: StreamsBuilder, *, names: tuple[str | None, str | None] = (None, None)
) -> None:
    """A stream with changed keys, joined with two tables."""
    one = b.stream("topic")
    left, right = b.table("topic2"), b.table("topic3")
    changed = one.map(lambda k, v: (v, k))
    for table, name, out in ((left, names[0], "out-one"), (right, names[1], "out-two")):
        changed.join(table, plus(""), name=name).to(out)


@topology
def stream_global_table_join(
    b: StreamsBuilder, *, kind: str = "inner", key: str = "int32", by: str = "second part"
) -> None:
    """A stream joined with a global table by the part behind the comma, or by the whole value."""
    k, v = SERDES[key], SERDES["string"]
    stream = b.stream("stream", key_serde=k, value_serde=v)
    table = b.global_table("global", key_serde=v, value_serde=v)

    def select(_key: Any, value: str) -> str | None:
        if by == "value":
            return value
        parts = value.split(",")
        return parts[1] if len(parts) > 1 else None

    join: Any = {"inner": stream.join, "left": stream.left_join}[kind]
    join(table, plus(), key_selector=select).to("out", key_serde=k, value_serde=v)
