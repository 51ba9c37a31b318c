"""Joins of a stream: with tables and global tables, whose rows of the moment each record meets.

Owns which joins a `KStream` has, what they take, and the repartitions ahead of them. It must not
know what a join does to a record (`topology.operators`).

Source: JVM `KStreamImpl.doStreamTableJoin`, `KStreamImpl.repartitionForJoin`; kafka-streams A4.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.topology.dsl.global_joins import join_with_global
from thalweg.topology.dsl.global_table import GlobalKTable
from thalweg.topology.dsl.options import arity, check_name
from thalweg.topology.dsl.table import KTable
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import RepartitionStep, always, processor_step
from thalweg.topology.operators.stream_table_join import StreamTableJoin

if TYPE_CHECKING:
    from thalweg.topology.dsl.stream import KStream

K = TypeVar("K")
KG = TypeVar("KG")
V = TypeVar("V")
VR = TypeVar("VR")
VT = TypeVar("VT")

_JOINER = {2: "left, right", 3: "key, left, right"}


class StreamJoins(ABC, Generic[K, V]):
    """The joins of a stream.

    Args:
        place: where the stream stands in the graph.
        key_serde: how its keys are written, if that is known.
        value_serde: how its values are written, if that is known.
        repartition_required: whether its keys may have changed since it was partitioned.
    """

    def __init__(
        self,
        place: Place,
        key_serde: Serde[K] | None,
        value_serde: Serde[V] | None,
        repartition_required: bool = False,
    ) -> None:
        self._place = place
        self._key_serde = key_serde
        self._value_serde = value_serde
        self._repartition_required = repartition_required
        self._join_repartition: StepId | None = None

    @property
    def place(self) -> Place:
        """Where the stream stands in the graph; for other parts of the DSL."""
        return self._place

    @abstractmethod
    def _stream(
        self,
        place: Place,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        repartition_required: bool = False,
    ) -> KStream[Any, Any]:
        """Makes the stream that stands at another place."""

    @overload
    def join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[V, VT], VR | None],
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[K, V, VT], VR | None],
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        table: GlobalKTable[KG, VT],
        joiner: Callable[[V, VT], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        table: GlobalKTable[KG, VT],
        joiner: Callable[[K, V, VT], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        table: GlobalKTable[KG, VT],
        joiner: Callable[[K, KG, V, VT], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    def join(
        self,
        table: KTable[K, Any] | GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        *,
        key_selector: Callable[[K, V], Any] | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[Any] | None = None,
    ) -> KStream[K, Any]:
        """Joins each record with the row its key has in a table; records without are left out.

        With a table, the row is that of the record's key:

            clicks.join(users, lambda click, user: {**click, "name": user["name"]})

        With a global table, it is that of any key, which `key_selector` tells:

            orders.join(
                products,
                lambda order, product: {**order, "price": product["price"]},
                key_selector=lambda _, order: order["product_id"],
            )

        Args:
            table: a global table, or a table; its topic must have as many partitions as the
                stream's.
            joiner: (value, row) or (key, value, row) -> joined value; with a global table also
                (key, selected key, value, row).
            key_selector: with a global table, (key, value) -> key of the row; records for which
                it is None have none.
            name: name of the processor, and base of the repartition topic's name, if there
                is one.
            key_serde: how keys are written to the repartition topic; inherited if not given.
            value_serde: how values are written there; inherited if not given.
            other_value_serde: of the table; for symmetry with the JVM, not used.
        """
        serde_of(other_value_serde, "other_value_serde of join()")
        if isinstance(table, GlobalKTable):
            return self._join_with_global(table, joiner, key_selector, False, name)
        _refuse_selector(key_selector, "join")
        return self._join(table, joiner, False, name, key_serde, value_serde)

    @overload
    def left_join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[V, VT | None], VR | None],
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        table: KTable[K, VT],
        joiner: Callable[[K, V, VT | None], VR | None],
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        table: GlobalKTable[KG, VT],
        joiner: Callable[[V, VT | None], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        table: GlobalKTable[KG, VT],
        joiner: Callable[[K, V, VT | None], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        table: GlobalKTable[KG, VT],
        joiner: Callable[[K, KG | None, V, VT | None], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    def left_join(
        self,
        table: KTable[K, Any] | GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        *,
        key_selector: Callable[[K, V], Any] | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[Any] | None = None,
    ) -> KStream[K, Any]:
        """Joins each record with the row its key has in a table, or with None; see `join`.

        Records without a key go on, too, joined with None.
        """
        serde_of(other_value_serde, "other_value_serde of left_join()")
        if isinstance(table, GlobalKTable):
            return self._join_with_global(table, joiner, key_selector, True, name)
        _refuse_selector(key_selector, "left_join")
        return self._join(table, joiner, True, name, key_serde, value_serde)

    def _join_with_global(
        self,
        table: GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        key_selector: Callable[..., Any] | None,
        left: bool,
        name: str | None,
    ) -> KStream[K, Any]:
        place = join_with_global(self._place, table, joiner, key_selector, name, is_left=left)
        return self._stream(place, self._key_serde, None, self._repartition_required)

    def _join(
        self,
        table: KTable[K, Any],
        joiner: Callable[..., Any],
        left: bool,
        name: str | None,
        key_serde: Serde[K] | None,
        value_serde: Serde[V] | None,
    ) -> KStream[K, Any]:
        if not isinstance(table, KTable):
            raise TypeError(f"a stream can only be joined with a table, got {table!r}")
        operator = "left_join" if left else "join"
        with_key = arity(joiner, _JOINER, operator) == 3
        key_serde = serde_of(key_serde, f"key_serde of {operator}()")
        value_serde = serde_of(value_serde, f"value_serde of {operator}()")
        name = check_name(name)
        stream: StreamJoins[K, V] = self
        if self._repartition_required:
            stream = self._repartition_for_join(
                name or self._place.name,
                key_serde or self._key_serde,
                value_serde or self._value_serde,
                SerdeHint.of(operator),
            )
        graph = self._place.graph
        sources = stream.place.copartition_with(table.place)
        node_name = graph.names.name_or_new(name, "KSTREAM-LEFTJOIN-" if left else "KSTREAM-JOIN-")
        view = table.view()
        step = processor_step(
            node_name,
            always(StreamTableJoin(view, joiner, with_key, left)),
            stores=tuple(dict.fromkeys(view.store_names())),
            takes_null_keys=left,
        )
        place = Place(graph, node_name, graph.add(step, stream.place.step), sources)
        return self._stream(place, key_serde or stream._key_serde, None)

    def _repartition_for_join(
        self,
        base: str,
        key_serde: Serde[K] | None,
        value_serde: Serde[V] | None,
        hint: SerdeHint,
    ) -> KStream[K, V]:
        """Repartitions the stream, or uses the repartition an earlier join has made.

        A repartition is shared only if it is named after the stream itself. Its numbers are
        used up each time, and the name made of them is the source even if it is not added.
        """
        graph = self._place.graph
        names = graph.names.repartition_names(base)
        if self._join_repartition is None or base != self._place.name:
            step = RepartitionStep(
                names=names, key_serde=key_serde, value_serde=value_serde, hint=hint
            )
            self._join_repartition = graph.add(step, self._place.step)
        place = Place(graph, names.source, self._join_repartition, (names.source,))
        return self._stream(place, key_serde, value_serde)


def _refuse_selector(key_selector: object, operator: str) -> None:
    """Refuses a key selector where the table is not global."""
    if key_selector is not None:
        raise TypeError(
            f"{operator}() with a table joins by the record's key and takes no key_selector; call "
            "select_key() first, or read the topic as a global_table()"
        )
