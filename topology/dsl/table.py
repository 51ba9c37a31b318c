"""Tables: the latest value per key, as they change.

Owns the operations of a `KTable`. `topology.dsl.table_logic` says how a table provides its rows and
old values; `topology.dsl.table_joins` and `topology.dsl.foreign_key_joins` say what joins add to
the graph.

A value may be None wherever a row was deleted; as in the JVM, types do not say so.

Source: JVM `KTableImpl`; kafka-streams A13, D11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from thalweg.stores.callables import arity as arity_of
from thalweg.stores.callables import refuse_async, shown
from thalweg.stores.serde import Serde, serde_of
from thalweg.topology.dsl.foreign_key_joins import join_by_foreign_key
from thalweg.topology.dsl.options import (
    Materialized,
    arity,
    check_name,
    materialized_hint,
    settle,
    with_name,
)
from thalweg.topology.dsl.suppress import Suppressed, suppress_table
from thalweg.topology.dsl.table_joins import join_by_key
from thalweg.topology.dsl.table_logic import DerivedLogic, TableLogic
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import always, processor_step
from thalweg.topology.operators.aggregate import TableGroupBySelect
from thalweg.topology.operators.table import (
    FilterView,
    MapView,
    TableFilter,
    TableMapValues,
    TableOperator,
    TableTransformValues,
    TableView,
    ToStream,
    TransformView,
)
from thalweg.topology.operators.table_join import Kind
from thalweg.topology.processor import StreamPartitioner

if TYPE_CHECKING:
    from thalweg.topology.dsl.grouped_table import KGroupedTable
    from thalweg.topology.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
KO = TypeVar("KO")
VR = TypeVar("VR")
VO = TypeVar("VO")
K_contra = TypeVar("K_contra", contravariant=True)
V_contra = TypeVar("V_contra", contravariant=True)
VR_co = TypeVar("VR_co", covariant=True)


class ValueTransformer(Protocol[K_contra, V_contra, VR_co]):
    """Maps values with state: what a supplier given to `transform_values` makes.

    It may also have `init(context)` and `close()`.
    """

    def transform(self, key: K_contra, value: V_contra, /) -> VR_co | None:
        """Returns the new value; `value` is None for a deleted row."""
        ...


class KTable(Generic[K, V]):
    """A table of the latest value per key; made by a builder or an operation."""

    def __init__(
        self,
        place: Place,
        key_serde: Serde[K] | None,
        value_serde: Serde[V] | None,
        queryable_store_name: str | None,
        logic: TableLogic,
    ) -> None:
        self._place = place
        self._key_serde = key_serde
        self._value_serde = value_serde
        self._queryable_store_name = queryable_store_name
        self._logic = logic
        self._sends_old_values = False

    @property
    def queryable_store_name(self) -> str | None:
        """Name of the store that can be queried, None if there is none."""
        return self._queryable_store_name

    def __repr__(self) -> str:
        store = self._queryable_store_name
        return f"<KTable {self._place.name}{f', store {store!r}' if store else ''}>"

    @property
    def place(self) -> Place:
        """Where the table stands in the graph; for other parts of the DSL."""
        return self._place

    @property
    def key_serde(self) -> Serde[K] | None:
        """The serde of its keys, None where it is not known; for other parts of the DSL."""
        return self._key_serde

    @property
    def value_serde(self) -> Serde[V] | None:
        """The serde of its values, None where it is not known; for other parts of the DSL."""
        return self._value_serde

    @property
    def is_versioned(self) -> bool:
        """Whether the former rows of a key are kept, too, by this table or the one it is made of."""
        return self._logic.is_versioned

    def view(self) -> TableView:
        """Says how to read the current row; for other parts of the DSL. May make a store."""
        return self._logic.view()

    def send_old_values(self, force: bool) -> bool:
        """Makes changes carry old values; for other parts of the DSL. May make a store."""
        if not self._sends_old_values:
            self._sends_old_values = self._logic.send_old_values(force)
        return self._sends_old_values

    def filter(
        self,
        predicate: Callable[[K, V], bool],
        *,
        name: str | None = None,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[K, V]:
        """Keeps the rows for which `predicate(key, value)` holds.

        Args:
            predicate: tells which rows to keep.
            name: name of the store; without, the table is computed on the fly.
            materialized: how to keep the result; a store only if it has a name.
            named: name of the processor.
        """
        return self._filter(predicate, False, name, materialized, named)

    def filter_not(
        self,
        predicate: Callable[[K, V], bool],
        *,
        name: str | None = None,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[K, V]:
        """Keeps the rows for which `predicate(key, value)` does not hold; see `filter`."""
        return self._filter(predicate, True, name, materialized, named)

    def _filter(
        self,
        predicate: Callable[[K, V], bool],
        negate: bool,
        name: str | None,
        materialized: Materialized[K, V] | None,
        named: str | None,
    ) -> KTable[K, V]:
        operator = "filter_not" if negate else "filter"
        arity(predicate, {2: "key, value"}, operator)
        materialized = with_name(materialized, name)
        self._burn_store_name(materialized, "KTABLE-FILTER-")
        table = self._then(
            "KTABLE-FILTER-",
            named,
            lambda store_name: TableFilter(
                store_name, predicate, negate, is_versioned=self.is_versioned
            ),
            lambda view: FilterView(view, predicate, negate),
            operator,
            materialized,
            self._value_serde,
        )
        # If the table above is in a store already, its old values spare needless tombstones.
        if self.send_old_values(False):
            self._place.graph.facts.old_values.add(table.place.name)
        return table

    @overload
    def map_values(
        self,
        fn: Callable[[V], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    @overload
    def map_values(
        self,
        fn: Callable[[K, V], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    def map_values(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        materialized: Materialized[K, Any] | None = None,
        named: str | None = None,
    ) -> KTable[K, Any]:
        """Maps each row's value by `fn(value)` or `fn(key, value)`; see `filter` for the rest."""
        with_key = arity(fn, {1: "value", 2: "key, value"}, "map_values") == 2
        materialized = with_name(materialized, name)
        self._burn_store_name(materialized, "KTABLE-MAPVALUES-")
        return self._then(
            "KTABLE-MAPVALUES-",
            named,
            lambda store_name: TableMapValues(store_name, fn, with_key),
            lambda view: MapView(view, fn, with_key),
            "map_values",
            materialized,
        )

    def transform_values(
        self,
        supplier: Callable[[], ValueTransformer[K, V, VR]],
        *stores: str,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]:
        """Maps rows by a stateful transformer, one instance per task.

        Args:
            supplier: makes the transformer; a class without arguments will do.
            stores: names of stores it uses.
            name: name of the store; without, the table is computed on the fly.
            materialized: how to keep the result; a store only if it has a name.
            named: name of the processor.
        """
        _check_transformers(supplier)
        materialized = with_name(materialized, name)
        return self._then(
            "KTABLE-TRANSFORMVALUES-",
            named,
            lambda store_name: TableTransformValues(store_name, supplier),
            lambda view: TransformView(view, supplier),
            "transform_values",
            materialized,
            stores=stores,
        )

    @overload
    def to_stream(self, *, name: str | None = None) -> KStream[K, V]: ...

    @overload
    def to_stream(
        self, mapper: Callable[[K, V], KR | None], *, name: str | None = None
    ) -> KStream[KR, V]: ...

    def to_stream(
        self, mapper: Callable[[K, V], Any] | None = None, *, name: str | None = None
    ) -> KStream[Any, V]:
        """Turns the table into the stream of its changes; a deleted row is a None.

        Args:
            mapper: (key, value) -> new key.
            name: name of the processor.
        """
        from thalweg.topology.dsl.stream import KStream

        if mapper is not None:
            arity(mapper, {2: "key, value"}, "to_stream")
        node_name = self._place.names.name_or_new(check_name(name), "KTABLE-TOSTREAM-")
        place = self._place.then(processor_step(node_name, always(ToStream())))
        stream = KStream(place, self._key_serde, self._value_serde)
        return stream if mapper is None else stream.select_key(mapper)

    def group_by(
        self,
        mapper: Callable[[K, V], tuple[KR | None, VR | None] | None],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
    ) -> KGroupedTable[KR, VR]:
        """Groups rows by `mapper(key, value) -> (group, value)` for an aggregation.

        Args:
            mapper: gives a row's group and the value it has there; None leaves the row out.
            name: name of the processor, and of the repartition topic.
            key_serde: how groups are written to the repartition topic.
            value_serde: how values are written there.
        """
        from thalweg.topology.dsl.grouped_table import KGroupedTable

        arity(mapper, {2: "key, value"}, "group_by")
        key_serde = serde_of(key_serde, "key_serde of group_by()")
        value_serde = serde_of(value_serde, "value_serde of group_by()")
        node_name = self._place.names.name_or_new(check_name(name), "KTABLE-SELECT-")
        place = self._place.then(
            processor_step(
                node_name,
                lambda facts: TableGroupBySelect(mapper, facts.legacy_changes, self.is_versioned),
            )
        )
        self.send_old_values(True)
        return KGroupedTable(place, key_serde, value_serde, name)

    @overload
    def join(
        self,
        other: KTable[K, VO],
        joiner: Callable[[V, VO], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    @overload
    def join(
        self,
        other: KTable[KO, VO],
        joiner: Callable[[V, VO], VR | None],
        *,
        foreign_key_extractor: Callable[[V], KO | None],
        partitioner: StreamPartitioner | None = None,
        other_partitioner: StreamPartitioner | None = None,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    @overload
    def join(
        self,
        other: KTable[KO, VO],
        joiner: Callable[[V, VO], VR | None],
        *,
        foreign_key_extractor: Callable[[K, V], KO | None],
        partitioner: StreamPartitioner | None = None,
        other_partitioner: StreamPartitioner | None = None,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    def join(
        self,
        other: KTable[Any, Any],
        joiner: Callable[[Any, Any], Any],
        *,
        foreign_key_extractor: Callable[..., Any] | None = None,
        partitioner: StreamPartitioner | None = None,
        other_partitioner: StreamPartitioner | None = None,
        name: str | None = None,
        materialized: Materialized[K, Any] | None = None,
        named: str | None = None,
    ) -> KTable[K, Any]:
        """Joins the rows that both tables have, or rows with those that they name.

        By key, each row is joined with the other table's row of the same key:

            stock.join(prices, lambda count, price: count * price)

        By foreign key, each row is joined with the row that `foreign_key_extractor` names, and
        again when that row changes:

            orders.join(
                customers,
                lambda order, customer: {**order, "name": customer["name"]},
                foreign_key_extractor=lambda order: order["customer_id"],
            )

        Args:
            other: the right table; joined by key, its topic must have as many partitions.
            joiner: (left value, right value) -> joined value.
            foreign_key_extractor: (value) or (key, value) of a row of this table -> key of the
                row in the other table; None where there is none.
            partitioner: with a foreign key, how this table's topic is partitioned, if not by the
                bytes of its keys: (topic, key, None, partition count) -> partition.
            other_partitioner: likewise, of the other table's topic.
            name: name of the store; without it and `materialized`, there is no store.
            materialized: how to keep the result.
            named: name of the processors, and of the topics and store of a foreign key.
        """
        materialized = with_name(materialized, name)
        return self._join(
            other,
            joiner,
            "inner",
            materialized,
            named,
            foreign_key_extractor,
            (partitioner, other_partitioner),
        )

    @overload
    def left_join(
        self,
        other: KTable[K, VO],
        joiner: Callable[[V, VO | None], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    @overload
    def left_join(
        self,
        other: KTable[KO, VO],
        joiner: Callable[[V, VO | None], VR | None],
        *,
        foreign_key_extractor: Callable[[V], KO | None],
        partitioner: StreamPartitioner | None = None,
        other_partitioner: StreamPartitioner | None = None,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    @overload
    def left_join(
        self,
        other: KTable[KO, VO],
        joiner: Callable[[V, VO | None], VR | None],
        *,
        foreign_key_extractor: Callable[[K, V], KO | None],
        partitioner: StreamPartitioner | None = None,
        other_partitioner: StreamPartitioner | None = None,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]: ...

    def left_join(
        self,
        other: KTable[Any, Any],
        joiner: Callable[[Any, Any], Any],
        *,
        foreign_key_extractor: Callable[..., Any] | None = None,
        partitioner: StreamPartitioner | None = None,
        other_partitioner: StreamPartitioner | None = None,
        name: str | None = None,
        materialized: Materialized[K, Any] | None = None,
        named: str | None = None,
    ) -> KTable[K, Any]:
        """Joins each row of this table with the other's, or with None; see `join`."""
        materialized = with_name(materialized, name)
        return self._join(
            other,
            joiner,
            "left",
            materialized,
            named,
            foreign_key_extractor,
            (partitioner, other_partitioner),
        )

    def outer_join(
        self,
        other: KTable[K, VO],
        joiner: Callable[[V | None, VO | None], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]:
        """Joins the rows that either table has, None standing for the other; see `join`."""
        return self._join(other, joiner, "outer", with_name(materialized, name), named)

    def _join(
        self,
        other: KTable[Any, Any],
        joiner: Callable[..., Any],
        kind: Kind,
        materialized: Materialized[K, Any] | None,
        named: str | None,
        extractor: Callable[..., Any] | None = None,
        partitioners: tuple[StreamPartitioner | None, StreamPartitioner | None] = (None, None),
    ) -> KTable[K, Any]:
        if not isinstance(other, KTable):
            raise TypeError(f"a table can only be joined with a table, got {other!r}")
        if extractor is not None:
            joined = join_by_foreign_key(
                self,
                other,
                joiner,
                extractor,
                materialized,
                named,
                is_left=kind == "left",
                partitioner=partitioners[0],
                other_partitioner=partitioners[1],
            )
        elif partitioners != (None, None):
            raise TypeError(
                "a join by key takes no partitioner: both tables must be partitioned alike; "
                "give it a foreign_key_extractor, or none"
            )
        else:
            joined = join_by_key(self, other, joiner, kind, materialized, named)
        return KTable(
            joined.place,
            joined.key_serde,
            joined.value_serde,
            joined.queryable_store_name,
            joined.logic,
        )

    def suppress(self, suppressed: Suppressed) -> KTable[K, V]:
        """Holds updates back: only the last update of each key is emitted, when it is due.

            counts.suppress(Suppressed.until_window_closes()).to_stream().to("final")

        Time is stream time: without new records nothing is emitted.

        Args:
            suppressed: `Suppressed.until_time_limit(...)`, or for windows
                `Suppressed.until_window_closes(...)`.
        """
        place, logic = suppress_table(self, suppressed, self._key_serde, self._value_serde)
        return KTable(place, self._key_serde, self._value_serde, None, logic)

    def _burn_store_name(self, materialized: Materialized[Any, Any] | None, prefix: str) -> None:
        """Uses up the number of a store that is never made, as the JVM does."""
        if materialized is not None and materialized.name is None:
            self._place.names.new_store_name(prefix)

    def _then(
        self,
        prefix: str,
        named: str | None,
        make: Callable[[str | None], TableOperator],
        derive: Callable[[TableView], TableView],
        operator: str,
        materialized: Materialized[Any, Any] | None,
        value_serde: Serde[Any] | None = None,
        *,
        stores: tuple[str, ...] = (),
    ) -> KTable[K, Any]:
        """Puts an operation below this table, with a store if it has a name.

        Keys keep their serde, and values too where `value_serde` is given: that of this table.
        Unlike in the JVM, a store that is only named has the serdes that the result has.

        Args:
            prefix: of a generated name.
            named: name of the processor.
            make: makes the operator, given the name of its store.
            derive: makes the view of the result of this table's view.
            operator: the operation, for messages.
            materialized: how to keep the result.
            value_serde: of the result, where `materialized` has none.
            stores: stores that are added elsewhere, to connect it with.
        """
        names = self._place.names
        name = names.name_or_new(check_name(named), prefix)
        key_serde = (materialized and materialized.key_serde) or self._key_serde
        value_serde = (materialized and materialized.value_serde) or value_serde
        store_name = materialized and materialized.name
        store, is_versioned = None, self.is_versioned and materialized is None
        if store_name is not None:
            settled = settle(
                names,
                materialized,
                prefix,
                key_serde=key_serde,
                value_serde=value_serde,
                hint=materialized_hint(operator),
            )
            store, is_versioned = settled.key_value(), settled.is_versioned
        step = processor_step(
            name,
            lambda facts: replace(make(store_name), send_old_values=name in facts.old_values),
            store=store,
            stores=stores,
        )
        logic = DerivedLogic(self, name, store_name, derive, is_versioned=is_versioned)
        return KTable(self._place.then(step), key_serde, value_serde, store_name, logic)


def _check_transformers(supplier: Any) -> None:
    """Looks at what a supplier of value transformers makes.

    Raises:
        TypeError: it makes none.
    """
    if not callable(supplier):
        raise TypeError(
            "transform_values() needs a class or function that makes transformers, got "
            f"{shown(supplier)}; every task needs its own"
        )
    arity_of(supplier, {0: ""}, "transform_values()")
    try:
        made = supplier()
    except Exception:
        return  # the task tells it, with its place
    transform = getattr(made, "transform", made)
    if isinstance(made, type) or not callable(transform):
        raise TypeError(
            f"the supplier of transform_values() made {shown(made)}; it must return an object "
            "with transform(key, value), or a function of (key, value)"
        )
    arity_of(transform, {2: "key, value"}, "transform_values()")
    for method in ("init", "close"):
        refuse_async(getattr(made, method, None), f"transform_values(): {method}()")
