"""Grouped streams: the input of an aggregation.

Owns count, reduce and aggregate of grouped streams, and the calls that add windows.

Source: JVM `KGroupedStreamImpl`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from thalweg.stores.serde import Serde, serdes
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
from thalweg.topology.dsl.session_windowed import SessionWindowedKStream
from thalweg.topology.dsl.table import KTable
from thalweg.topology.dsl.table_logic import AggregateLogic
from thalweg.topology.dsl.windowed import TimeWindowedKStream
from thalweg.topology.dsl.windows import (
    SessionWindows,
    SlidingWindows,
    TimeWindows,
    UnlimitedWindows,
)
from thalweg.topology.operators.aggregate import Aggregate, Count, KeyedAggregate, Reduce

if TYPE_CHECKING:
    from thalweg.topology.dsl.cogrouped import CogroupedKStream

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")


class KGroupedStream(Generic[K, V]):
    """A stream grouped by its key."""

    def __init__(self, grouping: StreamGrouping) -> None:
        self._grouping = grouping

    def __repr__(self) -> str:
        return f"<KGroupedStream of {self._grouping.place.name}>"

    def count(
        self,
        name: str | None = None,
        *,
        materialized: Materialized[K, int] | None = None,
        named: str | None = None,
    ) -> KTable[K, int]:
        """Counts the records of each key; records without key or value do not count.

        Args:
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the result.
            named: name of the processor.
        """
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
        return self._table(store, AGGREGATE, named, Count(store.name))

    def reduce(
        self,
        fn: Callable[[V, V], V | None],
        name: str | None = None,
        *,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[K, V]:
        """Combines the values of each key; the first value is taken as it is.

        Args:
            fn: (aggregate, value) -> aggregate; None deletes the row.
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the result.
            named: name of the processor.
        """
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
        return self._table(store, REDUCE, named, Reduce(store.name, fn))

    def aggregate(
        self,
        initializer: Callable[[], A],
        fn: Callable[[K, V, A], A | None],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[K, A]:
        """Folds the values of each key into an aggregate.

        Args:
            initializer: makes the aggregate of a key that has none.
            fn: (key, value, aggregate) -> aggregate; None deletes the row.
            name: name of the store; with a name the table can be queried.
            value_serde: how the store writes aggregates, in place of that of `materialized`.
            materialized: how to keep the result.
            named: name of the processor.
        """
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
        return self._table(store, AGGREGATE, named, Aggregate(store.name, initializer, fn))

    @overload
    def windowed_by(
        self, windows: TimeWindows | UnlimitedWindows | SlidingWindows
    ) -> TimeWindowedKStream[K, V]: ...
    @overload
    def windowed_by(self, windows: SessionWindows) -> SessionWindowedKStream[K, V]: ...
    def windowed_by(
        self, windows: TimeWindows | UnlimitedWindows | SlidingWindows | SessionWindows
    ) -> TimeWindowedKStream[K, V] | SessionWindowedKStream[K, V]:
        """Groups by windows of event time, too.

        Example:
            >>> per_hour = clicks.windowed_by(TimeWindows.of_size(timedelta(hours=1))).count()
            >>> visits = clicks.windowed_by(SessionWindows.of_inactivity_gap(1_800_000)).count()
        """
        if isinstance(windows, SessionWindows):
            return SessionWindowedKStream(self._grouping, windows)
        if not isinstance(windows, (TimeWindows, UnlimitedWindows, SlidingWindows)):
            raise TypeError(f"windowed_by() needs windows, got {windows!r}")
        return TimeWindowedKStream(self._grouping, windows)

    def cogroup(self, fn: Callable[[K, V, A], A | None]) -> CogroupedKStream[K, A]:
        """Begins an aggregation of several grouped streams into one table.

        Args:
            fn: (key, value, aggregate) -> aggregate, for the records of this stream; None deletes
                the row.

        Example:
            >>> totals = clicks.cogroup(add_click).cogroup(orders, add_order).aggregate(Totals)
        """
        from thalweg.topology.dsl.cogrouped import CogroupedKStream, Cogrouping

        cogrouping = Cogrouping()
        cogrouping.add(self._grouping, fn)
        return CogroupedKStream(cogrouping)

    @property
    def grouping(self) -> StreamGrouping:
        """The stream and its repartition; for other parts of the DSL."""
        return self._grouping

    def _table(
        self, store: Store, prefix: str, named: str | None, operator: KeyedAggregate
    ) -> KTable[K, Any]:
        grouping = self._grouping
        name = grouping.place.names.name_or_new(check_name(named), prefix)
        place = grouping.aggregate(name, operator, store.key_value())
        return KTable(
            place,
            store.key_serde,
            store.value_serde,
            store.queryable_name,
            AggregateLogic(place.graph.facts, name, store.name, is_versioned=store.is_versioned),
        )
