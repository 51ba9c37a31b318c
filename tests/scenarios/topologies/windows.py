"""Aggregations over windows of all kinds, plain and co-grouped, and their suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.scenarios.registry import SERDES, topology
from thalweg.stores.windowed import Windowed
from thalweg.topology.dsl import (
    BufferConfig,
    EmitStrategy,
    JoinWindows,
    KStream,
    KTable,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    UnlimitedWindows,
)

S = SERDES["string"]
L = SERDES["int64"]


def added(_key: object, value: str, aggregate: str) -> str:
    """Adds a value to an aggregate that is text."""
    return f"{aggregate}+{value}"


def removed(_key: object, value: str, aggregate: str) -> str:
    """Takes a value away from an aggregate that is text."""
    return f"{aggregate}-{value}"


def concatenated(left: str, right: str) -> str:
    """Joins two texts by `+`."""
    return f"{left}+{right}"


def merged(_key: object, left: Any, right: Any) -> Any:
    """Merges the aggregates of two sessions."""
    return left + right if isinstance(left, int) else f"{left}+{right}"


def sorted_chars(_key: object, value: str, aggregate: str) -> str:
    """Adds a letter so that the order of addition does not show."""
    return "".join(sorted(aggregate + value))


def or_none(_key: object, value: str, aggregate: str) -> str | None:
    """Takes the value as the aggregate; `drop` deletes it."""
    return None if value == "drop" else value


AGGREGATORS = {
    "add": added, "remove": removed, "sort": sorted_chars, "last": or_none,
    "append": lambda _key, value, aggregate: aggregate + value,
    "sum": lambda _key, value, aggregate: aggregate + int(value),
    "number": lambda _key, _value, aggregate: aggregate + 1,
}  # fmt: skip


def windows_of(given: Sequence[Any]) -> Any:
    """Returns the windows of `[kind, number, …]`.

    The numbers are size, grace and advance of "time", difference and grace of "sliding", gap and
    grace of "session", start of "unlimited".
    """
    kind, first, *rest = given
    grace = rest[0] if rest else None
    if kind == "time":
        windows = TimeWindows.of_size(first, grace)
        return windows.advance_by(rest[1]) if len(rest) > 1 else windows
    if kind == "sliding":
        return SlidingWindows.of_time_difference(first, grace)
    if kind == "session":
        return SessionWindows.of_inactivity_gap(first, grace)
    return UnlimitedWindows.of(first)


def materialized(
    name: str | None = None,
    *,
    store: Any = None,
    cache: bool = True,
    retention: int | None = None,
    value: str = "string",
) -> Materialized[Any, Any]:
    """Returns where an aggregation keeps its rows."""
    return Materialized(
        name,
        key_serde=S,
        value_serde=SERDES[value],
        store=store,
        caching=cache,
        retention=retention,
    )


def with_text_keys(table: KTable[Windowed[str], Any]) -> KStream[str, Any]:
    """Returns the changes of a table of windows, each under the text of its key."""
    return table.to_stream().map(lambda key, value: (str(key), value))


def buffer_of(given: Any) -> BufferConfig:
    """Returns the buffer that `args` describe: None, or bounds and what happens when it is full."""
    if given is None:
        return BufferConfig.unbounded()
    return BufferConfig(**given)


def _windowed(
    stream: Any,
    *,
    windows: Sequence[Any],
    operation: str = "aggregate",
    emit: str = "update",
    name: str | None = None,
    store: str | None = None,
    cache: bool = True,
    retention: int | None = None,
    initial: Any = "0",
    aggregator: str = "add",
    separator: str = "+",
    plain: bool = False,
) -> tuple[Any, str]:
    """Returns a windowed table and the name of its serde."""
    windowed = stream.group_by_key(key_serde=S, value_serde=S).windowed_by(windows_of(windows))
    if emit == "close":
        windowed = windowed.emit_strategy(EmitStrategy.on_window_close())
    serde = "int64" if operation == "count" else "int32" if initial == 0 else "string"
    kept: Any = materialized(name, store=store, cache=cache, retention=retention, value=serde)
    if plain:
        kept = None
    if operation == "count":
        return windowed.count(materialized=kept), serde
    if operation == "reduce":
        reducer = lambda left, right: f"{left}{separator}{right}"
        return windowed.reduce(reducer, materialized=kept), serde
    function = AGGREGATORS[aggregator]
    if windows[0] == "session":
        return windowed.aggregate(lambda: initial, function, merged, materialized=kept), serde
    return windowed.aggregate(lambda: initial, function, materialized=kept), serde


@topology
def windowed_aggregate(b: StreamsBuilder, **given: Any) -> None:
    """Aggregates `in` over windows; changes go to `out` under text keys."""
    table, serde = _windowed(b.stream("in", key_serde=S, value_serde=S), **given)
    with_text_keys(table).to("out", key_serde=S, value_serde=SERDES[serde])


@topology
def windowed_join(b: StreamsBuilder, *, store: Any = None, **given: Any) -> None:
    """Aggregates `one` and `two` over windows, and joins both tables into `joined`."""
    first, _ = _windowed(b.stream("one"), name="one-store", store=store, **given)
    second, _ = _windowed(b.stream("two"), name="two-store", store=store, **given)
    with_text_keys(first).to("first")
    with_text_keys(second).to("second")
    joined = first.join(second, lambda left, right: f"{left}%{right}")
    with_text_keys(joined).to("joined")


@topology
def windowed_after_join(b: StreamsBuilder, **given: Any) -> None:
    """Joins `one` and `two` within 2 ms, and aggregates the pairs over windows."""
    joined = b.stream("one").join(
        b.stream("two"),
        lambda left, right: f"{left},{right}",
        JoinWindows.of_time_difference(2, 0),
    )
    table, _ = _windowed(joined, **given)
    with_text_keys(table).to("out")


@topology
def windowed_suppress(
    b: StreamsBuilder,
    *,
    wait: int | None = None,
    buffer: Any = None,
    raw: bool = True,
    suppressed: str | None = None,
    **given: Any,
) -> None:
    """Suppresses a windowed aggregation of `in`: all changes go to `raw`, what is let go to `out`.

    Without `wait` only final results are let go.
    """
    table, serde = _windowed(b.stream("in", key_serde=S, value_serde=S), **given)
    held = buffer_of(buffer)
    if wait is None:
        policy = Suppressed.until_window_closes(held, name=suppressed)
    else:
        policy = Suppressed.until_time_limit(wait, held, name=suppressed)
    late = table.suppress(policy)
    with_text_keys(late).to("out", key_serde=S, value_serde=SERDES[serde])
    if raw:
        with_text_keys(table).to("raw", key_serde=S, value_serde=SERDES[serde])


@topology
def described_final_suppress(b: StreamsBuilder, *, name: str | None = None) -> None:
    """Counts sessions of a chosen key, final results only."""
    grouped = b.stream("input").group_by(lambda k, v: k, key_serde=S, value_serde=S)
    sessions = grouped.windowed_by(SessionWindows.of_inactivity_gap(5, 5))
    counts = sessions.count(materialized=Materialized("counts", caching=False))
    late = counts.suppress(Suppressed.until_window_closes(name=name))
    with_text_keys(late).to("output-suppressed", key_serde=S, value_serde=L)


@topology
def described_suppress(b: StreamsBuilder, *, name: str | None = None) -> None:
    """Counts by key, and holds the counts back for a second."""
    counts = b.stream("input").group_by_key().count()
    late = counts.suppress(Suppressed.until_time_limit(1000, name=name))
    late.to_stream().to("output", key_serde=S, value_serde=L)


@topology
def suppressed_counts_of_values(
    b: StreamsBuilder, *, wait: int, buffer: Any = None, cache: bool = False
) -> None:
    """Counts the rows of a table by value: all changes go to `raw`, what is let go to `out`."""
    kept: Materialized[str, str] = Materialized(
        key_serde=S, value_serde=S, caching=cache, logging=False
    )
    table = b.table("in", materialized=kept)
    counts = table.group_by(lambda k, v: (v, k), key_serde=S, value_serde=S).count()
    late = counts.suppress(Suppressed.until_time_limit(wait, buffer_of(buffer)))
    late.to_stream().to("out", key_serde=S, value_serde=L)
    counts.to_stream().to("raw", key_serde=S, value_serde=L)


@topology
def suppressed_table(
    b: StreamsBuilder, *, wait: int, buffer: Any = None, topic: str = "in"
) -> None:
    """Holds back the changes of a table."""
    policy = Suppressed.until_time_limit(wait, buffer_of(buffer))
    b.table(topic).suppress(policy).to_stream().to("out")


@topology
def suppress_before_group(b: StreamsBuilder) -> None:
    """Counts the rows of a table whose changes are held back."""
    late = b.table("in").suppress(Suppressed.until_time_limit(10))
    counts = late.group_by(lambda k, v: (k, v), key_serde=S, value_serde=S).count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@topology
def suppress_before_join(b: StreamsBuilder, *, side: str) -> None:
    """Joins two tables, the changes of one of which are held back."""
    left, right = b.table("left"), b.table("right")
    policy = Suppressed.until_time_limit(10)
    if side == "left":
        left = left.suppress(policy)
    else:
        right = right.suppress(policy)

    def pair(one: object, other: object) -> str:
        shown = ["null" if half is None else half for half in (one, other)]
        return f"({shown[0]},{shown[1]})"

    left.outer_join(right, pair).to_stream().to("out")


@topology
def suppressed_cogroup(b: StreamsBuilder) -> None:
    """Suppresses a windowed co-grouping."""
    one, two = b.stream("one").group_by_key(), b.stream("two").group_by_key()
    both = one.cogroup(AGGREGATORS["append"]).cogroup(two, AGGREGATORS["append"])
    windowed = both.windowed_by(TimeWindows.of_size(900_000, 0))
    table = windowed.aggregate(lambda: "", materialized=materialized("store"), named="test")
    with_text_keys(table.suppress(Suppressed.until_window_closes())).to("out")


@topology
def windowed_cogroup(
    b: StreamsBuilder,
    *,
    windows: Sequence[Any],
    aggregators: Sequence[str] = ("add", "remove"),
    name: str | None = None,
    plain: bool = False,
    cache: bool = True,
) -> None:
    """Co-groups `in` and `in2`, one of them if there is one aggregator, over windows.

    Changes go to `out` under text keys.
    """
    streams = [b.stream(topic) for topic, _ in zip(("in", "in2"), aggregators, strict=False)]
    first, *others = (stream.group_by_key() for stream in streams)
    both: Any = first.cogroup(AGGREGATORS[aggregators[0]])
    for other, aggregator in zip(others, aggregators[1:], strict=True):
        both = both.cogroup(other, AGGREGATORS[aggregator])
    windowed = both.windowed_by(windows_of(windows))
    kept = None if plain else materialized(cache=cache)
    merger = [merged] if windows[0] == "session" else []
    table = windowed.aggregate(lambda: "0", *merger, materialized=kept, named=name)
    if not plain:
        with_text_keys(table).to("out")
