"""Joins of two streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.scenarios.registry import SERDES, plus, topology
from thalweg.stores.builders import window_store
from thalweg.topology.dsl import JoinWindows, StreamJoined, StreamsBuilder


@topology
def stream_stream_join(
    b: StreamsBuilder,
    *,
    kind: str = "inner",
    difference: int = 100,
    grace: int = 0,
    before: int | None = None,
    after: int | None = None,
    key: str = "int32",
    value: str = "string",
    other_value: str = "string",
    store: str | None = None,
    this_store: Mapping[str, Any] | None = None,
    other_store: Mapping[str, Any] | None = None,
    repartition: bool = False,
    joiner: str = "+",
) -> None:
    """Two streams, `kind` joined, into `out`."""
    k, v, w = SERDES[key], SERDES[value], SERDES[other_value]
    one = b.stream("left", key_serde=k, value_serde=v)
    other = b.stream("right", key_serde=k, value_serde=w)
    if repartition:
        one = one.map(lambda k, v: (k, v))
        other = other.flat_map(lambda k, v: [(k, v)]).select_key(lambda k, v: k)
    joined: StreamJoined[Any, Any, Any] = StreamJoined(
        key_serde=k,
        value_serde=v,
        other_value_serde=w,
        this_store=None if this_store is None else window_store(**this_store),
        other_store=None if other_store is None else window_store(**other_store),
        store="memory" if store == "memory" else None,
    )
    windows = windows_of(difference, grace, before, after)
    join: Any = {"inner": one.join, "left": one.left_join, "outer": one.outer_join}[kind]
    join(other, plus(joiner), windows, joined=joined).to(
        "out", key_serde=k, value_serde=SERDES["string"]
    )


def windows_of(
    difference: int, grace: int = 0, before: int | None = None, after: int | None = None
) -> JoinWindows:
    """Returns windows of join; all in milliseconds."""
    windows = JoinWindows.of_time_difference(difference, grace)
    if before is not None:
        windows = windows.before(before)
    if after is not None:
        windows = windows.after(after)
    return windows


@topology
def stream_self_join(
    b: StreamsBuilder,
    *,
    difference: int,
    grace: int = 0,
    before: int | None = None,
    after: int | None = None,
    key: str = "string",
    read_twice: bool = False,
    joiner: str = "",
) -> None:
    """A stream joined with itself, into `out`."""
    k, v = SERDES[key], SERDES["string"]
    one = b.stream("left", key_serde=k, value_serde=v)
    other = b.stream("left", key_serde=k, value_serde=v) if read_twice else one
    joined: StreamJoined[Any, Any, Any] = StreamJoined(
        key_serde=k, value_serde=v, other_value_serde=v
    )
    windows = windows_of(difference, grace, before, after)
    one.join(other, plus(joiner), windows, joined=joined).to("out", key_serde=k, value_serde=v)


@topology
def stream_joined_twice(
    b: StreamsBuilder, *, names: tuple[str | None, str | None] = (None, None), last: str
) -> None:
    """A stream with changed keys, joined with two others."""
    one = b.stream("topic")
    left, right = b.stream("topic2"), b.stream("topic3")
    changed = one.map(lambda k, v: (v, k))
    for other, name, out in ((left, names[0], "out-one"), (right, names[1], last)):
        joined: StreamJoined[Any, Any, Any] = StreamJoined(
            name=name,
            key_serde=SERDES["string"],
            value_serde=SERDES["string"],
            other_value_serde=SERDES["string"],
        )
        changed.join(other, plus(""), windows_of(100), joined=joined).to(out)


@topology
def stream_join_with_key(b: StreamsBuilder, *, kind: str, other: str) -> None:
    """A join whose joiner is handed the key; all other sources are there too."""
    s, i = SERDES["string"], SERDES["int32"]
    left = b.stream("left", key_serde=s, value_serde=i)
    right = b.stream("right", key_serde=s, value_serde=i)
    table = b.table("table", key_serde=s, value_serde=i)
    global_table = b.global_table("global", key_serde=s, value_serde=i)

    def join(key: str, one: int, two: int | None) -> str:
        return f"{key}:{one + (two or 0)}"

    joins: dict[str, Any] = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}
    if other == "stream":
        joined: StreamJoined[Any, Any, Any] = StreamJoined(
            key_serde=s, value_serde=i, other_value_serde=i
        )
        result = joins[kind](right, join, windows_of(100, 24 * 3_600_000), joined=joined)
    elif other == "table":
        result = joins[kind](table, join)
    else:
        result = joins[kind](global_table, join, key_selector=lambda k, v: k)
    result.to("out", key_serde=s, value_serde=s)


@topology
def stream_joined_with_one_twice(b: StreamsBuilder, *, difference: int, grace: int) -> None:
    """A stream joined with another, and the result with the other again."""
    left, right = b.stream("left"), b.stream("right")
    windows = windows_of(difference, grace)
    left.join(right, plus("-"), windows).join(right, plus("-"), windows).to("out")


@topology
def repartitioned_and_joined(b: StreamsBuilder, *, kind: str, other: str) -> None:
    """A stream written to a repartition topic and left or outer joined, or written there again."""
    left: Any = b.stream("left").repartition()
    right: Any = b.stream("right").repartition()
    windows = windows_of(60_000, 10_000)
    if other == "stream":
        join = left.left_join if kind == "left" else left.outer_join
        result = join(right, plus("|"), windows)
    elif other == "table":
        result = left.left_join(right.to_table(), plus("|"))
    elif other == "global":
        table = b.global_table("global")
        result = left.left_join(table, plus("|"), key_selector=lambda k, v: None)
    else:
        result = left.repartition()
    result.to("out")
