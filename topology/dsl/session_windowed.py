"""Streams grouped by key and session: the input of an aggregation.

Owns count, reduce and aggregate of sessions.

Source: JVM `SessionWindowedKStreamImpl`.
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
from thalweg.topology.dsl.windows import EmitStrategy, SessionWindows, check_emit_strategy
from thalweg.topology.operators.session_aggregate import (
    SessionAggregate,
    SessionCount,
    SessionedAggregate,
    SessionReduce,
)

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")

MERGER = {3: "key, aggregate, next aggregate"}


class SessionWindowedKStream(Generic[K, V]):
    """A stream grouped by its key and by sessions.

    Made by `KGroupedStream.windowed_by`.
    """

    def __init__(
        self,
        grouping: StreamGrouping,
        windows: SessionWindows,
        strategy: EmitStrategy = EmitStrategy.ON_WINDOW_UPDATE,
    ) -> None:
        self._grouping = grouping
        self._windows = windows
        self._on_close = strategy is EmitStrategy.ON_WINDOW_CLOSE

    def __repr__(self) -> str:
        return f"<SessionWindowedKStream of {self._grouping.place.name}, {self._windows}>"

    def emit_strategy(self, strategy: EmitStrategy) -> SessionWindowedKStream[K, V]:
        """Sets when results are sent: whenever they change, or once, when their session closes.

        Example:
            >>> finals = sessions.emit_strategy(EmitStrategy.on_window_close()).count()
        """
        check_emit_strategy(strategy)
        return SessionWindowedKStream(self._grouping, self._windows, strategy)

    def count(
        self,
        name: str | None = None,
        *,
        materialized: Materialized[K, int] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], int]:
        """Counts the records of each key and session; records without a key do not count.

        Args:
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the result.
            named: name of the processor.

        Example:
            >>> views = clicks.windowed_by(SessionWindows.of_inactivity_gap(1_800_000)).count()
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
        operator = SessionCount(store.name, self._windows, emits_on_close=self._on_close)
        return self._table(store, AGGREGATE, named, operator)

    def reduce(
        self,
        fn: Callable[[V, V], V | None],
        name: str | None = None,
        *,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], V]:
        """Combines the values of each key and session; the first value is taken as it is.

        Args:
            fn: (aggregate, value) -> aggregate; None deletes the row. It combines the aggregates
                of two sessions, too, that become one.
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the result.
            named: name of the processor.

        Example:
            >>> longest = visits.windowed_by(sessions).reduce(max)
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
        operator = SessionReduce(store.name, self._windows, fn, emits_on_close=self._on_close)
        return self._table(store, REDUCE, named, operator)

    def aggregate(
        self,
        initializer: Callable[[], A],
        fn: Callable[[K, V, A], A | None],
        merger: Callable[[K, A, A], A],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], A]:
        """Folds the values of each key and session into an aggregate.

        Args:
            initializer: makes the aggregate that a record begins with.
            fn: (key, value, aggregate) -> aggregate; None deletes the row.
            merger: (key, aggregate, aggregate of the next session) -> aggregate. It is called for
                each session that a record belongs to, with that of `initializer` at first.
            name: name of the store; with a name the table can be queried.
            value_serde: how the store writes aggregates, in place of that of `materialized`.
            materialized: how to keep the result.
            named: name of the processor.

        Example:
            >>> pages = clicks.windowed_by(sessions).aggregate(
            ...     list, lambda user, page, pages: [*pages, page], lambda user, one, two: one + two
            ... )
        """
        arity(initializer, {0: ""}, "aggregate")
        arity(fn, AGGREGATOR, "aggregate")
        arity(merger, MERGER, "aggregate")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=aggregate_serde(value_serde, materialized),
            hint=hint_of("aggregate", grouping.hint),
        )
        operator = SessionAggregate(
            store.name, self._windows, initializer, fn, merger, emits_on_close=self._on_close
        )
        return self._table(store, AGGREGATE, named, operator)

    def _table(
        self, store: Store, prefix: str, named: str | None, operator: SessionedAggregate
    ) -> KTable[Windowed[K], Any]:
        grouping = self._grouping
        name = grouping.place.names.name_or_new(check_name(named), prefix)
        builder = store.session(self._windows, on_close=self._on_close)
        place = grouping.aggregate(name, operator, builder)
        key_serde = store.key_serde
        return KTable(
            place,
            None if key_serde is None else serdes.session_windowed(key_serde),
            store.value_serde,
            store.queryable_name,
            AggregateLogic(place.graph.facts, name, store.name),
        )
