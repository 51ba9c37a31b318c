"""Streams grouped by key and window: the input of an aggregation.

Owns count, reduce and aggregate of streams by time windows and sliding windows.

Source: JVM `TimeWindowedKStreamImpl`, `SlidingWindowedKStreamImpl`.
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
from thalweg.topology.dsl.windows import (
    EmitStrategy,
    SlidingWindows,
    TimeWindows,
    UnlimitedWindows,
    check_emit_strategy,
)
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.sliding_aggregate import (
    SlidedAggregate,
    SlidingAggregate,
    SlidingCount,
    SlidingReduce,
)
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
    """A stream grouped by its key and by windows of event time.

    Made by `KGroupedStream.windowed_by`.
    """

    def __init__(
        self,
        grouping: StreamGrouping,
        windows: TimeWindows | UnlimitedWindows | SlidingWindows,
        strategy: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE,
    ) -> None:
        self._grouping = grouping
        self._windows = windows
        self._on_close = strategy is EmitStrategy.ON_WINDOW_CLOSE

    def __repr__(self) -> str:
        return f"<TimeWindowedKStream of {self._grouping.place.name}, {self._windows}>"

    def emit_strategy(self, strategy: EmitStrategy) -> TimeWindowedKStream[K, V]:
        """Sets when results are sent: whenever they change, or once, when their window closes.

        Raises:
            TopologyError: the windows never close.

        Example:
            >>> finals = per_hour.emit_strategy(EmitStrategy.on_window_close()).count()
        """
        check_emit_strategy(strategy)
        windows = self._windows
        if isinstance(windows, UnlimitedWindows) and strategy is EmitStrategy.ON_WINDOW_CLOSE:
            raise TopologyError(
                "unlimited windows never close, so that on_window_close() would send nothing on; "
                "leave emit_strategy() out"
            )
        return TimeWindowedKStream(self._grouping, windows, strategy)

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
        if not isinstance(self._windows, SlidingWindows):
            burn_for_count(grouping, materialized)
        store = settle(
            names,
            materialized,
            AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=serdes.int64,
            hint=hint_of("count", grouping.hint),
        )
        windows, on_close = self._windows, self._on_close
        operator: WindowedAggregate | SlidedAggregate
        if isinstance(windows, SlidingWindows):
            operator = SlidingCount(store.name, windows, emits_on_close=on_close)
        else:
            operator = WindowCount(store.name, windows, emits_on_close=on_close)
        return self._table(store, AGGREGATE, named, operator)

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
        windows, on_close = self._windows, self._on_close
        operator: WindowedAggregate | SlidedAggregate
        if isinstance(windows, SlidingWindows):
            operator = SlidingReduce(store.name, windows, fn, emits_on_close=on_close)
        else:
            operator = WindowReduce(store.name, windows, fn, emits_on_close=on_close)
        return self._table(store, REDUCE, named, operator)

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
        windows, on_close = self._windows, self._on_close
        operator: WindowedAggregate | SlidedAggregate
        if isinstance(windows, SlidingWindows):
            operator = SlidingAggregate(
                store.name, windows, initializer, fn, emits_on_close=on_close
            )
        else:
            operator = WindowAggregate(
                store.name, windows, initializer, fn, emits_on_close=on_close
            )
        return self._table(store, AGGREGATE, named, operator)

    def _table(
        self,
        store: Store,
        prefix: str,
        named: str | None,
        operator: WindowedAggregate | SlidedAggregate,
    ) -> KTable[Windowed[K], Any]:
        grouping = self._grouping
        name = grouping.place.names.name_or_new(check_name(named), prefix)
        builder = store.window(self._windows, on_close=self._on_close)
        place = grouping.aggregate(name, operator, builder)
        key_serde = store.key_serde
        return KTable(
            place,
            None if key_serde is None else serdes.windowed(key_serde, self._windows.size_ms),
            store.value_serde,
            store.queryable_name,
            AggregateLogic(place.graph.facts, name, store.name),
        )
