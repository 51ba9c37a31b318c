"""Grouped tables: tables whose rows were grouped by another key, the input of an aggregation.

Owns count, reduce and aggregate of grouped tables, and the repartition topic in front of them.

Source: JVM `KGroupedTableImpl`; kafka-streams A13 for the order in which numbers are used up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from thalweg.stores.serde import Serde, SerdeHint, serdes
from thalweg.topology.dsl.grouping import (
    AGGREGATOR,
    REDUCER,
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
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import aggregating, change_repartition_step, processor_step
from thalweg.topology.operators.aggregate import (
    GroupedTableAggregate,
    TableAggregate,
    TableCount,
    TableReduce,
)

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")

_TABLE_REDUCE = "KTABLE-REDUCE-"
_TABLE_AGGREGATE = "KTABLE-AGGREGATE-"
_GROUP_BY = SerdeHint.of("group_by")


class KGroupedTable(Generic[K, V]):
    """A table whose rows are grouped by another key; its aggregates gain and lose rows."""

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
            hint=hint_of("count", _GROUP_BY),
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
        arity(adder, REDUCER, "reduce")
        arity(subtractor, REDUCER, "reduce")
        store = settle(
            self._place.names,
            with_name(materialized, name),
            _TABLE_AGGREGATE,
            key_serde=self._key_serde,
            value_serde=self._value_serde,
            hint=hint_of("reduce", _GROUP_BY),
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
        arity(adder, AGGREGATOR, "aggregate")
        arity(subtractor, AGGREGATOR, "aggregate")
        store = settle(
            self._place.names,
            with_name(materialized, name),
            _TABLE_AGGREGATE,
            key_serde=self._key_serde,
            value_serde=aggregate_serde(value_serde, materialized),
            hint=hint_of("aggregate", _GROUP_BY),
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
