"""Aggregators that change the aggregate in place and return None: the log says it, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg import (
    Materialized,
    StreamsBuilder,
    TimeWindows,
    TopologyTestDriver,
    serdes,
)

S, LISTS = serdes.string, serdes.json(list[int])
KEPT = Materialized[Any, Any]("kept", value_serde=LISTS)


def extend(aggregate: list[int], value: list[int]) -> Any:
    aggregate.extend(value)


def fold(_key: str, value: list[int], aggregate: list[int]) -> Any:
    aggregate.extend(value)


def subtract(_key: str, value: list[int], aggregate: list[int]) -> list[int]:
    return [one for one in aggregate if one not in value]


def returning(fn: Callable[..., Any], at: int) -> Callable[..., Any]:
    """Returns what the function ought to be; it also returns the aggregate."""

    def returns(*arguments: Any) -> Any:
        fn(*arguments)
        return arguments[at]

    return (lambda a, b: returns(a, b)) if at == 0 else (lambda a, b, c: returns(a, b, c))


def topology(way: str, *, returns: bool) -> StreamsBuilder:
    aggregator = returning(fold, 2) if returns else fold
    reducer = returning(extend, 0) if returns else extend
    builder = StreamsBuilder()
    if way.startswith("table"):
        table = builder.table("in", key_serde=S, value_serde=LISTS)
        rows = table.group_by(lambda _k, v: ("all", v), key_serde=S, value_serde=LISTS)
        if way == "table aggregate":
            rows.aggregate(list, aggregator, subtract, materialized=KEPT)
        else:
            rows.reduce(reducer, lambda a, b: subtract("", b, a), materialized=KEPT)
        return builder
    grouped: Any = builder.stream("in", key_serde=S, value_serde=LISTS).group_by_key()
    if way.startswith("windowed"):
        grouped = grouped.windowed_by(TimeWindows.of_size(1000))
    if way.endswith("aggregate"):
        grouped.aggregate(list, aggregator, materialized=KEPT)
    else:
        grouped.reduce(reducer, materialized=KEPT)
    return builder


@pytest.mark.parametrize("returns", [True, False])
@pytest.mark.parametrize("cache_bytes", [0, 1_000_000])
@pytest.mark.parametrize(
    "way",
    ["aggregate", "reduce", "windowed aggregate", "windowed reduce", "table aggregate", "table reduce"],
)  # fmt: skip
def test_a_function_that_returns_none_is_told_of_once(
    way: str, cache_bytes: int, returns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with TopologyTestDriver(
        topology(way, returns=returns), statestore_cache_max_bytes=cache_bytes
    ) as driver:
        values = driver.create_input_topic("in", S, LISTS)
        for number in range(6):
            values.pipe_input(f"k{number % 2}", [number])

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if returns:
        assert warnings == []
    else:
        (warning,) = warnings
        assert "with store 'kept' returned None" in warning
        assert "let it return the aggregate" in warning


def test_a_reducer_that_deletes_a_row_now_and_then_is_not_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=S, value_serde=S)
    stream.group_by_key().reduce(lambda old, new: None if new == "end" else old + new)
    with TopologyTestDriver(builder) as driver:
        values = driver.create_input_topic("in", S, S)
        values.pipe_key_values([("k", one) for one in ("a", "b", "end", "c", "d", "end")])

    assert caplog.records == []
