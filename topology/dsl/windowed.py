"""Streams grouped by windows, too, on their way into an aggregation.

Owns count, reduce and aggregate of windowed streams.

Source: JVM `TimeWindowedKStreamImpl`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import Windowed
from thalweg.topology.dsl.grouping import (
    AGGREGATE,
    AGGREGATOR,
    REDUCE,
    REDUCER,
    StreamGrouping,
    burn_for_count,
    hint_of,
)
from thalweg.topology.dsl.options import (
    Materialized,
    Store,
    aggregate_serde,
    arity,
    check_name,
    settle,
    with_name,
)
from thalweg.topology.dsl.table import KTable
from thalweg.topology.dsl.table_logic import AggregateLogic
from thalweg.topology.dsl.windows import TimeWindows, UnlimitedWindows
from thalweg.topology.operators.window_aggregate import (
    WindowAggregate,
    WindowCount,
    WindowedAggregate,
    WindowReduce,
)

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")


class TimeWindowedKStream(Generic[K, V]):
    """A stream grouped by its key and by windows of event time."""

    def __init__(self, grouping: StreamGrouping, windows: TimeWindows | UnlimitedWindows) -> None:
        self._grouping = grouping
        self._windows = windows

    def __repr__(self) -> str:
        return f"<TimeWindowedKStream of {self._grouping.place.name}, {self._windows}>"

    def count(
        self,
        name: str | None = None,
        *,
        materialized: Materialized[K, int] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], int]:
        """Counts the records of each key and window; see `KGroupedStream.count`."""
        grouping, names = self._grouping, self._grouping.place.names
        materialized = with_name(materialized, name)
        burn_for_count(grouping, materialized)
        store = settle(
            names,
            materialized,
            AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=serdes.int64,
            hint=hint_of("count", grouping.hint),
        )
        return self._table(store, AGGREGATE, named, WindowCount(store.name, self._windows))

    def reduce(
        self,
        fn: Callable[[V, V], V | None],
        name: str | None = None,
        *,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], V]:
        """Combines the values of each key and window; see `KGroupedStream.reduce`."""
        arity(fn, REDUCER, "reduce")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            REDUCE,
            key_serde=grouping.key_serde,
            value_serde=grouping.value_serde,
            hint=hint_of("reduce", grouping.hint),
        )
        return self._table(store, REDUCE, named, WindowReduce(store.name, self._windows, fn))

    def aggregate(
        self,
        initializer: Callable[[], A],
        fn: Callable[[K, V, A], A | None],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], A]:
        """Folds the values of each key and window; see `KGroupedStream.aggregate`."""
        arity(initializer, {0: ""}, "aggregate")
        arity(fn, AGGREGATOR, "aggregate")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=aggregate_serde(value_serde, materialized),
            hint=hint_of("aggregate", grouping.hint),
        )
        operator = WindowAggregate(store.name, self._windows, initializer, fn)
        return self._table(store, AGGREGATE, named, operator)

    def _table(
        self, store: Store, prefix: str, named: str | None, operator: WindowedAggregate
    ) -> KTable[Windowed[K], Any]:
        grouping = self._grouping
        name = grouping.place.names.name_or_new(check_name(named), prefix)
        place = grouping.aggregate(name, operator, store.window(self._windows))
        key_serde = store.key_serde
        return KTable(
            place,
            None if key_serde is None else serdes.windowed(key_serde, self._windows.size_ms),
            store.value_serde,
            store.queryable_name,
            AggregateLogic(place.graph.facts, name, store.name),
        )
