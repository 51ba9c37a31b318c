"""Tables: the latest value per key, as they change.

Owns the operations of a `KTable`, and two questions that run up a chain of tables: how to
read a table's current row (its view), and whether its changes carry the old value. Asking
may force a table that so far was only passed through into a store.

A value may be None wherever a row was deleted; as in the JVM, types do not say so.

Source: JVM `KTableImpl`, `KTableKTableAbstractJoin`; kafka-streams A13, D10, D11.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from thalweg.stores.callables import arity as arity_of
from thalweg.stores.callables import refuse_async, shown
from thalweg.stores.serde import Serde, serde_of
from thalweg.topology.dsl.options import (
    Materialized,
    arity,
    check_name,
    materialized_hint,
    settle,
    with_name,
)
from thalweg.topology.graph.facts import Facts, NotedFacts
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import AddProcessor, Step, always, processor_step
from thalweg.topology.operators.aggregate import TableGroupBySelect
from thalweg.topology.operators.table import (
    FilterView,
    MapView,
    StoreView,
    TableFilter,
    TableMapValues,
    TableOperator,
    TableSource,
    TableTransformValues,
    TableView,
    ToStream,
    TransformView,
)
from thalweg.topology.operators.table_join import (
    JoinView,
    Kind,
    Side,
    TableJoin,
    TableJoinMerge,
)

if TYPE_CHECKING:
    from thalweg.topology.dsl.grouped_table import KGroupedTable
    from thalweg.topology.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
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


class TableLogic(ABC):
    """How one table answers for its rows and its old values."""

    @abstractmethod
    def view(self) -> TableView:
        """Says how to read the table; may force it into a store."""

    @abstractmethod
    def send_old_values(self, force: bool) -> bool:
        """Makes changes carry old values.

        Args:
            force: whether a table may be put into a store for it.

        Returns:
            Whether they do from now on.
        """


class SourceLogic(TableLogic):
    """A table made of a topic or a stream; a store only once somebody needs it.

    Args:
        facts: where what is settled of it is noted.
        name: its processor.
        store_name: its store, if it is kept.
        operator: the class of its operator.
    """

    def __init__(
        self,
        facts: NotedFacts,
        name: str,
        store_name: str,
        operator: type[TableSource] = TableSource,
    ) -> None:
        self._facts = facts
        self._name = name
        self._store_name = store_name
        self._operator = operator

    def make(self, facts: Facts) -> TableSource:
        """Makes the operator."""
        return self._operator(
            self._store_name if self._name in facts.kept else None,
            send_old_values=self._name in facts.old_values,
        )

    def view(self) -> TableView:
        """Puts the table into its store and reads that."""
        self._facts.kept.add(self._name)
        return StoreView(self._store_name)

    def send_old_values(self, force: bool) -> bool:
        """Reads old values from the store, which is there already or forced."""
        if not force and self._name not in self._facts.kept:
            return False
        self._facts.kept.add(self._name)
        self._facts.old_values.add(self._name)
        return True


class AggregateLogic(TableLogic):
    """A table made by an aggregation, always in a store."""

    def __init__(self, facts: NotedFacts, name: str, store_name: str) -> None:
        self._facts = facts
        self._name = name
        self._store_name = store_name

    def view(self) -> TableView:
        """Reads the store."""
        return StoreView(self._store_name)

    def send_old_values(self, force: bool) -> bool:
        """Sends what the store held before."""
        self._facts.old_values.add(self._name)
        return True


class DerivedLogic(TableLogic):
    """A table that filters or maps another, in a store or computed on the fly."""

    def __init__(
        self,
        parent: KTable[Any, Any],
        name: str,
        store_name: str | None,
        derive: Callable[[TableView], TableView],
    ) -> None:
        self._facts = parent.place.graph.facts
        self._parent = parent
        self._name = name
        self._store_name = store_name
        self._derive = derive

    def view(self) -> TableView:
        """Reads the store, or the parent's row through the operation."""
        if self._store_name is not None:
            return StoreView(self._store_name)
        return self._derive(self._parent.view())

    def send_old_values(self, force: bool) -> bool:
        """Takes old values from the store, or from the parent's changes."""
        if self._store_name is not None or self._parent.send_old_values(force):
            self._facts.old_values.add(self._name)
        return self._name in self._facts.old_values


class JoinLogic(TableLogic):
    """A table joined of two.

    Args:
        tables: the two.
        names: the processors of both sides and of the merge.
        store_name: the store of the result, if it is kept.
        derive: makes the view of the result of both tables' views.
    """

    def __init__(
        self,
        tables: tuple[KTable[Any, Any], KTable[Any, Any]],
        names: tuple[str, str, str],
        store_name: str | None,
        derive: Callable[[TableView, TableView], TableView],
    ) -> None:
        self._tables = tables
        self._names = names
        self._store_name = store_name
        self._derive = derive

    def view(self) -> TableView:
        """Reads the store, or joins both sides' rows."""
        if self._store_name is not None:
            return StoreView(self._store_name)
        left, right = self._tables
        return self._derive(left.view(), right.view())

    def send_old_values(self, force: bool) -> bool:
        """Takes old values from both sides, which are in stores anyway."""
        for table in self._tables:
            table.send_old_values(True)
        self._tables[0].place.graph.facts.old_values.update(self._names)
        return True


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
            lambda store_name: TableFilter(store_name, predicate, negate),
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
        mapper: Callable[[K, V], tuple[KR | None, VR | None]],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[VR] | None = None,
    ) -> KGroupedTable[KR, VR]:
        """Groups rows by `mapper(key, value) -> (group, value)` for an aggregation.

        Args:
            mapper: gives a row's group and the value it has there.
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
                node_name, lambda facts: TableGroupBySelect(mapper, facts.legacy_changes)
            )
        )
        self.send_old_values(True)
        return KGroupedTable(place, key_serde, value_serde, name)

    def join(
        self,
        other: KTable[K, VO],
        joiner: Callable[[V, VO], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]:
        """Joins the rows that both tables have.

        Args:
            other: the right table; its topic must have as many partitions.
            joiner: (left value, right value) -> joined value.
            name: name of the store; without it and `materialized`, there is no store.
            materialized: how to keep the result.
            named: name of the processors.
        """
        return self._join(other, joiner, "inner", with_name(materialized, name), named)

    def left_join(
        self,
        other: KTable[K, VO],
        joiner: Callable[[V, VO | None], VR | None],
        *,
        name: str | None = None,
        materialized: Materialized[K, VR] | None = None,
        named: str | None = None,
    ) -> KTable[K, VR]:
        """Joins each row of this table with the other's, or with None; see `join`."""
        return self._join(other, joiner, "left", with_name(materialized, name), named)

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
        other: KTable[K, Any],
        joiner: Callable[..., Any],
        kind: Kind,
        materialized: Materialized[K, VR] | None,
        named: str | None,
    ) -> KTable[K, VR]:
        if not isinstance(other, KTable):
            raise TypeError(f"a table can only be joined with a table, got {other!r}")
        operator = "join" if kind == "inner" else f"{kind}_join"
        arity(joiner, {2: "left, right"}, operator)
        graph, names = self._place.graph, self._place.names
        named = check_name(named)
        store = None
        if materialized is not None:
            store = settle(
                names,
                materialized,
                "KTABLE-MERGE-",
                key_serde=self._key_serde,
                hint=materialized_hint(operator),
            )
        merge_name = names.name_or_new(named, "KTABLE-MERGE-")
        sources = self._place.copartition_with(other.place)
        if kind != "inner":
            self.send_old_values(True)
        if kind == "outer":
            other.send_old_values(True)
        left, right = self.view(), other.view()
        store_name = store and store.name
        this_name = names.name_or_new(named, "KTABLE-JOINTHIS-", "-join-this")
        other_name = names.name_or_new(named, "KTABLE-JOINOTHER-", "-join-other")

        def side(name: str, side: Side, table: KTable[Any, Any], view: TableView) -> AddProcessor:
            """Returns a side: it follows the changes of `table` and reads `view`."""
            return AddProcessor(
                name,
                lambda facts: TableJoin(
                    view,
                    joiner,
                    side,
                    kind,
                    merge_name,
                    send_old_values=name in facts.old_values,
                ),
                parents=(table.place.name,),
                stores=tuple(dict.fromkeys(view.store_names())),
            )

        merge = AddProcessor(
            merge_name,
            lambda facts: TableJoinMerge(
                store_name, send_old_values=merge_name in facts.old_values
            ),
            parents=(this_name, other_name),
            store=store and store.key_value(),
        )
        adds = (side(this_name, "this", self, right), side(other_name, "other", other, left), merge)
        step = graph.add(Step(merge_name, adds), self._place.step, other.place.step)
        logic = JoinLogic(
            (self, other),
            (this_name, other_name, merge_name),
            store_name,
            lambda one, two: JoinView(one, two, joiner, kind),
        )
        return KTable(
            Place(graph, merge_name, step, sources),
            store.key_serde if store else self._key_serde,
            store and store.value_serde,
            store_name,
            logic,
        )

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
        store = None
        if store_name is not None:
            store = settle(
                names,
                materialized,
                prefix,
                key_serde=key_serde,
                value_serde=value_serde,
                hint=materialized_hint(operator),
            ).key_value()
        step = processor_step(
            name,
            lambda facts: replace(make(store_name), send_old_values=name in facts.old_values),
            store=store,
            stores=stores,
        )
        logic = DerivedLogic(self, name, store_name, derive)
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
