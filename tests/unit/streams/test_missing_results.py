"""Aggregators that change the aggregate in place and return None: the log says it, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
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


# -- subtractors ---------------------------------------------------------------------------


class Total(msgspec.Struct):
    rows: int
    sum: int


def take(_key: str, value: list[int], aggregate: list[int]) -> Any:
    aggregate[:] = [one for one in aggregate if one not in value]


def take_and_return(_key: str, value: list[int], aggregate: list[int]) -> Any:
    take(_key, value, aggregate)
    return aggregate or None


def add_total(_key: str, value: list[int], total: Total) -> Total:
    return Total(total.rows + 1, total.sum + sum(value))


def take_total(_key: str, value: list[int], total: Total) -> Any:
    total.rows -= 1
    total.sum -= sum(value)


def take_total_and_return(_key: str, value: list[int], total: Total) -> Any:
    take_total(_key, value, total)
    return total if total.rows else None


def take_number(_key: str, value: list[int], number: int) -> Any:
    number - sum(value)


def take_number_and_return(_key: str, value: list[int], number: int) -> Any:
    return number - sum(value) or None


def grown(aggregate: list[int], value: list[int]) -> list[int]:
    return aggregate + value


def add_number(_key: str, value: list[int], number: int) -> int:
    return number + sum(value)


AGGREGATES: dict[str, tuple[Any, Any, Any, Any]] = {
    "list": (list, lambda _k, v, a: a + v, take, take_and_return),
    "struct": (lambda: Total(0, 0), add_total, take_total, take_total_and_return),
    "number": (int, add_number, take_number, take_number_and_return),
}
SERDES = {"list": LISTS, "struct": serdes.json(Total), "number": serdes.int64}


def warned(way: str, caplog: pytest.LogCaptureFixture, *, returns: bool, groups: int) -> list[str]:
    """Returns the warnings of a grouped table whose rows are changed and deleted."""
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=LISTS)
    rows = table.group_by(
        lambda key, v: (str(int(key) % groups), v), key_serde=S, value_serde=LISTS
    )
    if way == "reduce":
        subtractor = take_and_return if returns else take
        rows.reduce(grown, lambda a, v: subtractor("", v, a), materialized=KEPT)
    else:
        initial, adder, forgets, gives = AGGREGATES[way]
        kept = Materialized[Any, Any]("kept", value_serde=SERDES[way])
        rows.aggregate(initial, adder, gives if returns else forgets, materialized=kept)
    with TopologyTestDriver(builder) as driver:
        values = driver.create_input_topic("in", S, LISTS)
        for number in range(12):
            values.pipe_input(f"{number}", [number + 1])
        for number in range(12):
            values.pipe_input(f"{number}", [number + 10] if number % 2 else None)
        for number in range(12):
            values.pipe_input(f"{number}", None)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("way", ["reduce", *AGGREGATES])
def test_a_subtractor_that_forgets_to_return_is_told_of_once(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = warned(way, caplog, returns=False, groups=2)

    assert "with store 'kept' returned None" in warning


@pytest.mark.parametrize("groups", [1, 2, 12])
@pytest.mark.parametrize("way", ["reduce", *AGGREGATES])
def test_a_subtractor_that_deletes_the_last_row_of_a_group_is_not_told_of(
    way: str, groups: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert warned(way, caplog, returns=True, groups=groups) == []
