"""Materialisations, legal names, and the arity of user functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

from thalweg.stores.builders import lru_store, window_store
from thalweg.stores.kinds.key_value import KeyValueSpec
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import serdes
from thalweg.topology.dsl import Materialized, TimeWindows
from thalweg.topology.dsl.options import (
    arity,
    check_name,
    settle,
    with_name,
)
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.names import Names

VALUE_OR_BOTH = {1: "value", 2: "key, value"}


class Doubler:
    def __call__(self, key: str, value: int) -> int:
        return value * 2

    def of_value(self, value: int) -> int:
        return value * 2


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda value: value, 1),
        (lambda key, value: value, 2),
        (lambda value, more=1: value, 1),
        (lambda *everything: everything, 1),
        (str.split, 1),
        (len, 1),
        (int, 1),
        (operator.add, 2),
        (Doubler(), 2),
        (Doubler().of_value, 1),
    ],
)
def test_required_parameters_decide_the_arity(fn: Callable[..., Any], expected: int) -> None:
    assert arity(fn, VALUE_OR_BOTH, "map_values") == expected


def test_a_function_of_another_arity_is_refused_with_its_name() -> None:
    def triple(one: int, two: int, three: int) -> int:
        return one + two + three

    with pytest.raises(
        TypeError,
        match=r"map_values\(\) needs a function of \(value\) or \(key, value\); triple takes 3",
    ):
        arity(triple, VALUE_OR_BOTH, "map_values")
    with pytest.raises(TypeError, match="needs a function, got 'str'"):
        arity("str", VALUE_OR_BOTH, "map_values")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "x" * 250, "ä"])
def test_names_that_no_topic_could_have_are_refused(name: str) -> None:
    with pytest.raises(TopologyError, match="is illegal"):
        check_name(name)


def test_a_store_may_be_named_in_one_place_only() -> None:
    assert with_name(None, None) is None
    assert with_name(None, "a") == Materialized("a")
    assert with_name(Materialized(caching=False), "a") == Materialized("a", caching=False)
    assert with_name(Materialized("a"), "a") == Materialized("a")
    with pytest.raises(TypeError, match="named twice"):
        with_name(Materialized("b"), "a")


def test_a_materialisation_describes_its_store() -> None:
    given: Materialized[str, int] = Materialized(
        "counts",
        key_serde=serdes.string,
        logging={"segment.bytes": "1"},
        caching=False,
        store="memory",
    )

    store = settle(Names(), given, "P-", value_serde=serdes.int64)
    builder = store.key_value()

    assert (builder.name, builder.kind, builder.backend) == (
        "counts",
        "timestamped-key-value",
        "memory",
    )
    assert (builder.key_serde, builder.value_serde) == (serdes.string, serdes.int64)
    assert (builder.logged, builder.log_config, builder.cached) == (
        True,
        {"segment.bytes": "1"},
        False,
    )
    assert store.queryable_name == "counts"


def test_a_store_of_its_own_gives_backend_and_name() -> None:
    store = settle(Names(), Materialized(store=lru_store("lru", 2), logging=False), "P-")
    builder = store.key_value()

    assert (builder.name, builder.backend) == ("lru", "memory")
    assert builder.spec == KeyValueSpec(is_timestamped=True, max_entries=2)
    assert builder.kind == "timestamped-key-value"
    assert not builder.logged


def test_a_store_without_a_name_gets_one_but_cannot_be_queried() -> None:
    store = settle(Names(), None, "KSTREAM-REDUCE-")

    assert store.name == "KSTREAM-REDUCE-STATE-STORE-0000000000"
    assert store.queryable_name is None


def test_windows_are_kept_for_size_and_grace_or_longer() -> None:
    windows = TimeWindows.of_size(100_000, 40_000)

    kept = settle(Names(), None, "P-").window(windows)
    longer = settle(Names(), Materialized("w", retention=500_000), "P-").window(windows)

    assert kept.spec == WindowSpec(
        is_timestamped=True,
        retention_ms=140_000,
        window_size_ms=100_000,
        segment_interval_ms=70_000,
    )
    assert isinstance(longer.spec, WindowSpec)
    assert longer.spec.retention_ms == 500_000
    with pytest.raises(TopologyError, match="retain at least 140000 ms"):
        settle(Names(), Materialized("w", retention=139_999), "P-").window(windows)


def test_a_given_store_of_another_kind_is_refused() -> None:
    lru = settle(Names(), Materialized(store=lru_store("lru", 2)), "P-")
    windows = window_store("w", retention_ms=10, window_size_ms=10)
    window = settle(Names(), Materialized(store=windows), "P-")

    with pytest.raises(
        TopologyError, match=r"gives the key-value store 'lru'; give one of timestamped"
    ):
        lru.window(TimeWindows.of_size(10))
    with pytest.raises(
        TopologyError, match=r"gives the window store 'w'; give one of timestamped_k"
    ):
        window.key_value()


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(ValueError, match="store of Materialized must be"):
        Materialized("a", store="disk")  # type: ignore[arg-type]
