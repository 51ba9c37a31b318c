"""Groupings: streams and tables on their way into an aggregation.

Owns count, reduce and aggregate of grouped streams (whole and by windows) and of grouped
tables, and the repartition topic in front of them where the key has changed.

Source: JVM `KGroupedStreamImpl`, `GroupedStreamAggregateBuilder`, `TimeWindowedKStreamImpl`,
`KGroupedTableImpl`; kafka-streams A13 for the order in which numbers are used up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.serde import (
    Serde,
    SerdeHint,
    serdes,
)
from thalweg.stores.windowed import Windowed
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
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import (
    RepartitionStep,
    aggregating,
    change_repartition_step,
    processor_step,
)
from thalweg.topology.operators.aggregate import (
    Aggregate,
    Count,
    GroupedTableAggregate,
    KeyedAggregate,
    Reduce,
    TableAggregate,
    TableCount,
    TableReduce,
)
from thalweg.topology.operators.operator import TableMaker
from thalweg.topology.operators.window_aggregate import (
    WindowAggregate,
    WindowCount,
    WindowedAggregate,
    WindowReduce,
)

if TYPE_CHECKING:
    from thalweg.topology.dsl.cogrouped import CogroupedKStream

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")

_REDUCE = "KSTREAM-REDUCE-"
_AGGREGATE = "KSTREAM-AGGREGATE-"
_TABLE_REDUCE = "KTABLE-REDUCE-"
_TABLE_AGGREGATE = "KTABLE-AGGREGATE-"
_REDUCER = {2: "aggregate, value"}
_AGGREGATOR = {3: "key, value, aggregate"}
_GROUP_BY = SerdeHint.of("group_by")


class StreamGrouping:
    """A stream about to be aggregated, and its repartition where one is required.

    Args:
        place: where the stream stands.
        key_serde: how keys are written to the repartition topic.
        value_serde: how values are written there.
        name: base of the topic's name; then all aggregations share the topic. Without,
            each has one of its own, named after its store.
        repartition_required: whether the key has changed.
        operator: what grouped it, for messages.
    """

    def __init__(
        self,
        place: Place,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        name: str | None,
        repartition_required: bool,
        operator: str = "group_by",
    ) -> None:
        self.hint = SerdeHint.of(operator)
        self.place = place
        self.key_serde = key_serde
        self.value_serde = value_serde
        self.name = name
        self.repartition_required = repartition_required
        self._repartition: StepId | None = None

    def aggregate(self, name: str, operator: TableMaker, store: StoreBuilder) -> Place:
        """Puts an aggregation and, if required, a repartition into the graph."""
        place = self.place
        if self.repartition_required:
            names = place.names.repartition_names(self.name or store.name)
            if self._repartition is None or self.name is None:
                step = RepartitionStep(
                    names=names,
                    key_serde=self.key_serde,
                    value_serde=self.value_serde,
                    hint=self.hint,
                )
                self._repartition = place.graph.add(step, place.step)
            else:
                place.graph.put_below(self._repartition, place.step)
            place = Place(place.graph, names.source, self._repartition, (names.source,))
        return place.then(processor_step(name, aggregating(name, operator), store=store))


def _hint_of(operator: str, grouping: SerdeHint) -> SerdeHint:
    """Returns where the serdes of an aggregation's store are given."""
    values = {
        "aggregate": "aggregate(..., value_serde=...)",
        "count": "count(..., materialized=Materialized(..., value_serde=serdes.int64))",
    }
    return SerdeHint(f"{operator}()", grouping.key, values.get(operator, grouping.value))


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
        _burn_for_count(grouping, materialized)
        store = settle(
            names,
            materialized,
            _AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=serdes.int64,
            hint=_hint_of("count", grouping.hint),
        )
        return self._table(store, _AGGREGATE, named, Count(store.name))

    def reduce(
        self,
        fn: Callable[[V, V], V | None],
        name: str | None = None,
        *,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[K, V]:
        """Combines the values of each key; the first stands as it is.

        Args:
            fn: (aggregate, value) -> aggregate; None deletes the row.
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the result.
            named: name of the processor.
        """
        arity(fn, _REDUCER, "reduce")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            _REDUCE,
            key_serde=grouping.key_serde,
            value_serde=grouping.value_serde,
            hint=_hint_of("reduce", grouping.hint),
        )
        return self._table(store, _REDUCE, named, Reduce(store.name, fn))

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
        arity(fn, _AGGREGATOR, "aggregate")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            _AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=aggregate_serde(value_serde, materialized),
            hint=_hint_of("aggregate", grouping.hint),
        )
        return self._table(store, _AGGREGATE, named, Aggregate(store.name, initializer, fn))

    def windowed_by(self, windows: TimeWindows | UnlimitedWindows) -> TimeWindowedKStream[K, V]:
        """Groups by windows of event time, too."""
        if not isinstance(windows, (TimeWindows, UnlimitedWindows)):
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
        _burn_for_count(grouping, materialized)
        store = settle(
            names,
            materialized,
            _AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=serdes.int64,
            hint=_hint_of("count", grouping.hint),
        )
        return self._table(store, _AGGREGATE, named, WindowCount(store.name, self._windows))

    def reduce(
        self,
        fn: Callable[[V, V], V | None],
        name: str | None = None,
        *,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], V]:
        """Combines the values of each key and window; see `KGroupedStream.reduce`."""
        arity(fn, _REDUCER, "reduce")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            _REDUCE,
            key_serde=grouping.key_serde,
            value_serde=grouping.value_serde,
            hint=_hint_of("reduce", grouping.hint),
        )
        return self._table(store, _REDUCE, named, WindowReduce(store.name, self._windows, fn))

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
        arity(fn, _AGGREGATOR, "aggregate")
        grouping, names = self._grouping, self._grouping.place.names
        store = settle(
            names,
            with_name(materialized, name),
            _AGGREGATE,
            key_serde=grouping.key_serde,
            value_serde=aggregate_serde(value_serde, materialized),
            hint=_hint_of("aggregate", grouping.hint),
        )
        operator = WindowAggregate(store.name, self._windows, initializer, fn)
        return self._table(store, _AGGREGATE, named, operator)

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


def _burn_for_count(grouping: StreamGrouping, materialized: Materialized[Any, Any] | None) -> None:
    """Uses up the number that counting into an unnamed materialisation takes in the JVM."""
    if materialized is not None and materialized.name is None:
        grouping.place.names.new_store_name(_AGGREGATE)


class KGroupedTable(Generic[K, V]):
    """A table whose rows were grouped anew; aggregates both gain and lose rows."""

    def __init__(
        self,
        place: Place,
        key_serde: Serde[K] | None,
        value_serde: Serde[V] | None,
        name: str | None,
    ) -> None:
        self._place = place
        self._key_serde = key_serde
        self._value_serde = value_serde
        self._name = name
        self._repartition: StepId | None = None

    def __repr__(self) -> str:
        return f"<KGroupedTable of {self._place.name}>"

    def count(
        self,
        name: str | None = None,
        *,
        materialized: Materialized[K, int] | None = None,
        named: str | None = None,
    ) -> KTable[K, int]:
        """Counts the rows of each group; see `KGroupedStream.count`."""
        store = settle(
            self._place.names,
            with_name(materialized, name),
            _TABLE_AGGREGATE,
            key_serde=self._key_serde,
            value_serde=serdes.int64,
            hint=_hint_of("count", _GROUP_BY),
        )
        return self._table(store, _TABLE_AGGREGATE, named, TableCount(store.name))

    def reduce(
        self,
        adder: Callable[[V, V], V | None],
        subtractor: Callable[[V, V], V | None],
        name: str | None = None,
        *,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[K, V]:
        """Combines the values of each group's rows.

        Args:
            adder: (aggregate, value of a row that came) -> aggregate.
            subtractor: (aggregate, value of a row that went) -> aggregate.
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the result.
            named: name of the processor.
        """
        arity(adder, _REDUCER, "reduce")
        arity(subtractor, _REDUCER, "reduce")
        store = settle(
            self._place.names,
            with_name(materialized, name),
            _TABLE_AGGREGATE,
            key_serde=self._key_serde,
            value_serde=self._value_serde,
            hint=_hint_of("reduce", _GROUP_BY),
        )
        return self._table(store, _TABLE_REDUCE, named, TableReduce(store.name, adder, subtractor))

    def aggregate(
        self,
        initializer: Callable[[], A],
        adder: Callable[[K, V, A], A | None],
        subtractor: Callable[[K, V, A], A | None],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[K, A]:
        """Folds the values of each group's rows into an aggregate.

        Args:
            initializer: makes the aggregate of a group that has none.
            adder: (group, value of a row that came, aggregate) -> aggregate.
            subtractor: (group, value of a row that went, aggregate) -> aggregate.
            name: name of the store; with a name the table can be queried.
            value_serde: how the store writes aggregates, in place of that of `materialized`.
            materialized: how to keep the result.
            named: name of the processor.
        """
        arity(initializer, {0: ""}, "aggregate")
        arity(adder, _AGGREGATOR, "aggregate")
        arity(subtractor, _AGGREGATOR, "aggregate")
        store = settle(
            self._place.names,
            with_name(materialized, name),
            _TABLE_AGGREGATE,
            key_serde=self._key_serde,
            value_serde=aggregate_serde(value_serde, materialized),
            hint=_hint_of("aggregate", _GROUP_BY),
        )
        operator = TableAggregate(store.name, initializer, adder, subtractor)
        return self._table(store, _TABLE_AGGREGATE, named, operator)

    def _table(
        self, store: Store, prefix: str, named: str | None, operator: GroupedTableAggregate
    ) -> KTable[K, Any]:
        graph, names = self._place.graph, self._place.names
        named = check_name(named)
        sink = names.name_or_new(named, "KSTREAM-SINK-", "-sink")
        source = names.name_or_new(named, "KSTREAM-SOURCE-", "-source")
        name = names.name_or_new(named, prefix)
        if self._repartition is None or self._name is None:
            step = change_repartition_step(
                f"{self._name or store.name}-repartition",
                sink,
                source,
                self._key_serde,
                self._value_serde,
            )
            self._repartition = graph.add(step, self._place.step)
        else:
            graph.put_below(self._repartition, self._place.step)
        place = Place(graph, source, self._repartition, (source,)).then(
            processor_step(name, aggregating(name, operator), store=store.key_value())
        )
        return KTable(
            place,
            store.key_serde,
            store.value_serde,
            store.queryable_name,
            AggregateLogic(place.graph.facts, name, store.name, is_versioned=store.is_versioned),
        )
