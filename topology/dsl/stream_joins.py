"""Joins of a stream: with another stream, with tables and with global tables.

Owns the joins of a `KStream`, their arguments, and the repartitions in front of them. It must not
know what a join does to a record (`topology.operators`).

Source: JVM `KStreamImpl.doJoin`, `KStreamImplJoin`, `StreamStreamJoinNode`,
`KStreamImpl.doStreamTableJoin`, `KStreamImpl.repartitionForJoin`; kafka-streams A4, A13.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from thalweg.stores.durations import Duration
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.topology.dsl.global_joins import join_with_global
from thalweg.topology.dsl.global_table import GlobalKTable
from thalweg.topology.dsl.grace_joins import grace_buffer, history_demand
from thalweg.topology.dsl.join_windows import JoinWindows, StreamJoined
from thalweg.topology.dsl.options import arity, check_name
from thalweg.topology.dsl.table import KTable
from thalweg.topology.dsl.windowed_joins import WindowedJoin, stream_hint
from thalweg.topology.dsl.windows import duration_ms
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import (
    Addition,
    AddProcessor,
    RepartitionStep,
    Step,
    StoreDemand,
    always,
)
from thalweg.topology.operators.grace_join import StreamTableGraceJoin
from thalweg.topology.operators.stream_table_join import StreamTableJoin

if TYPE_CHECKING:
    from thalweg.topology.dsl.stream import KStream

K = TypeVar("K")
KG = TypeVar("KG")
V = TypeVar("V")
VR = TypeVar("VR")
VT = TypeVar("VT")
VO = TypeVar("VO")

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
        other: KStream[K, VO],
        joiner: Callable[[V, VO], VR | None],
        windows: JoinWindows,
        *,
        joined: StreamJoined[K, V, VO] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        other: KStream[K, VO],
        joiner: Callable[[K, V, VO], VR | None],
        windows: JoinWindows,
        *,
        joined: StreamJoined[K, V, VO] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[V, VT], VR | None],
        *,
        grace: Duration | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[K, V, VT], VR | None],
        *,
        grace: Duration | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        other: GlobalKTable[KG, VT],
        joiner: Callable[[V, VT], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        other: GlobalKTable[KG, VT],
        joiner: Callable[[K, V, VT], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def join(
        self,
        other: GlobalKTable[KG, VT],
        joiner: Callable[[K, KG, V, VT], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    def join(
        self,
        other: KStream[K, Any] | KTable[K, Any] | GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        windows: JoinWindows | None = None,
        *,
        joined: StreamJoined[Any, Any, Any] | None = None,
        grace: Duration | None = None,
        key_selector: Callable[[K, V], Any] | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[Any] | None = None,
    ) -> KStream[K, Any]:
        """Joins each record with those of another stream near in time, or with a table's row.

            orders.join(payments, Paid, JoinWindows.of_time_difference(timedelta(minutes=5)))
            orders.join(customers, lambda order, customer: f"{order} of {customer}")

        With a stream, each two records of one key within the windows make a result; its timestamp
        is the later one. With a table, a record is joined with the row that its key has at this
        moment. Records without a match are dropped. Both topics need equal partition counts.

        With a table, the row is that of the record's key:

            clicks.join(users, lambda click, user: {**click, "name": user["name"]})

        With a global table, it is that of any key, which `key_selector` tells:

            orders.join(
                products,
                lambda order, product: {**order, "price": product["price"]},
                key_selector=lambda _, order: order["product_id"],
            )

        Args:
            other: the stream, table or global table.
            joiner: (value, other value) or (key, value, other value) -> joined value; with
                a global table also (key, selected key, value, row).
            windows: with a stream, how far apart two records may be.
            joined: with a stream, names, serdes and stores.
            grace: with a versioned table, how long a record waits for the table, until a record of
                the stream is later by that; a timedelta or milliseconds. It then meets the row its
                key had at its own time.
            key_selector: with a global table, (key, value) -> key of the row; records for which
                it is None have none.
            name: with a table, name of the processor, and base of the repartition topic's name,
                if there is one.
            key_serde: with a table, how keys are written to the repartition topic; inherited if
                not given.
            value_serde: with a table, how values are written there; inherited if not given.
            other_value_serde: of the table; for symmetry with the JVM, not used.
        """
        if isinstance(other, StreamJoins):
            _refuse_table_options("join", grace, name, key_serde, value_serde, other_value_serde)
            return self._join_stream("join", other, joiner, windows, joined)
        _refuse_stream_options("join", windows, joined)
        serde_of(other_value_serde, "other_value_serde of join()")
        if isinstance(other, GlobalKTable):
            _refuse_grace(grace, "join")
            return self._join_with_global(other, joiner, key_selector, False, name)
        _refuse_selector(key_selector, "join")
        return self._join_table(other, joiner, False, grace, name, key_serde, value_serde)

    @overload
    def left_join(
        self,
        other: KStream[K, VO],
        joiner: Callable[[V, VO | None], VR | None],
        windows: JoinWindows,
        *,
        joined: StreamJoined[K, V, VO] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        other: KStream[K, VO],
        joiner: Callable[[K, V, VO | None], VR | None],
        windows: JoinWindows,
        *,
        joined: StreamJoined[K, V, VO] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[V, VT | None], VR | None],
        *,
        grace: Duration | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        other: KTable[K, VT],
        joiner: Callable[[K, V, VT | None], VR | None],
        *,
        grace: Duration | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[VT] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        other: GlobalKTable[KG, VT],
        joiner: Callable[[V, VT | None], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        other: GlobalKTable[KG, VT],
        joiner: Callable[[K, V, VT | None], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def left_join(
        self,
        other: GlobalKTable[KG, VT],
        joiner: Callable[[K, KG | None, V, VT | None], VR | None],
        *,
        key_selector: Callable[[K, V], KG | None],
        name: str | None = None,
    ) -> KStream[K, VR]: ...

    def left_join(
        self,
        other: KStream[K, Any] | KTable[K, Any] | GlobalKTable[Any, Any],
        joiner: Callable[..., Any],
        windows: JoinWindows | None = None,
        *,
        joined: StreamJoined[Any, Any, Any] | None = None,
        grace: Duration | None = None,
        key_selector: Callable[[K, V], Any] | None = None,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        other_value_serde: Serde[Any] | None = None,
    ) -> KStream[K, Any]:
        """Joins as `join`; a record without a match is joined with None.

            orders.left_join(payments, Paid, JoinWindows.of_time_difference(300_000, grace=5_000))

        With a stream, a record is joined with None when its window and the grace are over and it
        has no match; a later record of either stream must arrive for that. With a table, it is
        joined at once. Records without a key are joined with None at once.
        """
        if isinstance(other, StreamJoins):
            _refuse_table_options(
                "left_join", grace, name, key_serde, value_serde, other_value_serde
            )
            return self._join_stream("left_join", other, joiner, windows, joined)
        _refuse_stream_options("left_join", windows, joined)
        serde_of(other_value_serde, "other_value_serde of left_join()")
        if isinstance(other, GlobalKTable):
            _refuse_grace(grace, "left_join")
            return self._join_with_global(other, joiner, key_selector, True, name)
        _refuse_selector(key_selector, "left_join")
        return self._join_table(other, joiner, True, grace, name, key_serde, value_serde)

    @overload
    def outer_join(
        self,
        other: KStream[K, VO],
        joiner: Callable[[V | None, VO | None], VR | None],
        windows: JoinWindows,
        *,
        joined: StreamJoined[K, V, VO] | None = None,
    ) -> KStream[K, VR]: ...

    @overload
    def outer_join(
        self,
        other: KStream[K, VO],
        joiner: Callable[[K, V | None, VO | None], VR | None],
        windows: JoinWindows,
        *,
        joined: StreamJoined[K, V, VO] | None = None,
    ) -> KStream[K, VR]: ...

    def outer_join(
        self,
        other: KStream[K, Any],
        joiner: Callable[..., Any],
        windows: JoinWindows | None = None,
        *,
        joined: StreamJoined[Any, Any, Any] | None = None,
    ) -> KStream[K, Any]:
        """Joins two streams as `left_join` does, where records of either may be joined with None.

            orders.outer_join(payments, Paid, JoinWindows.of_time_difference(300_000))

        Args:
            other: the stream.
            joiner: (value or None, other value or None) -> joined value, or with the key first.
            windows: how far apart two records may be.
            joined: names, serdes and stores.
        """
        if not isinstance(other, StreamJoins):
            raise TypeError(
                f"outer_join() of a stream takes another stream, got {other!r}; with a table, use "
                "left_join()"
            )
        return self._join_stream("outer_join", other, joiner, windows, joined)

    def _join_stream(
        self,
        operator: str,
        other: Any,
        joiner: Callable[..., Any],
        windows: JoinWindows | None,
        joined: StreamJoined[Any, Any, Any] | None,
    ) -> KStream[K, Any]:
        if not isinstance(windows, JoinWindows):
            raise TypeError(
                f"{operator}() of two streams needs to know how far apart records may be, got "
                f"{windows!r}; give JoinWindows.of_time_difference(...)"
            )
        if joined is not None and not isinstance(joined, StreamJoined):
            raise TypeError(f"joined of {operator}() must be a StreamJoined(...), got {joined!r}")
        this, that = self, cast("StreamJoins[K, Any]", other)
        given = joined or StreamJoined()
        hint = stream_hint(operator)
        if this._repartition_required:
            base = this._place.name if given.name is None else given.name + "-left"
            serdes = given.key_serde or this._key_serde, given.value_serde or this._value_serde
            this = this._repartition_for_join(base, *serdes, hint)
        if that._repartition_required:
            base = that._place.name if given.name is None else given.name + "-right"
            serdes = (
                given.key_serde or that._key_serde,
                given.other_value_serde or that._value_serde,
            )
            that = that._repartition_for_join(base, *serdes, hint)
        sources = this._place.copartition_with(that._place)
        given = replace(
            given,
            key_serde=given.key_serde or this._key_serde or that._key_serde,
            value_serde=given.value_serde or this._value_serde,
            other_value_serde=given.other_value_serde or that._value_serde,
        )
        with_key = arity(joiner, _JOINER, operator) == 3
        shape = WindowedJoin(given, windows, joiner, with_key, operator)
        step, name = shape.put_below(this._place, that._place)
        place = Place(this._place.graph, name, step, sources)
        return self._stream(place, given.key_serde, None)

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

    def _join_table(
        self,
        table: KTable[K, Any],
        joiner: Callable[..., Any],
        left: bool,
        grace: Duration | None,
        name: str | None,
        key_serde: Serde[K] | None,
        value_serde: Serde[V] | None,
    ) -> KStream[K, Any]:
        if not isinstance(table, KTable):
            raise TypeError(f"a stream can only be joined with a stream or a table, got {table!r}")
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
        stores = tuple(dict.fromkeys(view.store_names()))
        key_serde = key_serde or stream._key_serde
        if grace is None:
            join = StreamTableJoin(view, joiner, with_key, left)
            adds: tuple[Addition, ...] = (AddProcessor(node_name, always(join), stores=stores),)
        else:
            serdes = key_serde, value_serde or stream._value_serde
            grace_ms = duration_ms(grace, "grace")
            buffer = grace_buffer(table, node_name, serdes, operator)
            waiting = StreamTableGraceJoin(view, joiner, with_key, left, grace_ms, buffer.name)
            adds = (
                AddProcessor(node_name, always(waiting), stores=stores, store=buffer),
                StoreDemand(history_demand(node_name, stores, grace_ms)),
            )
        step = Step(node_name, adds, takes_null_keys=left)
        place = Place(graph, node_name, graph.add(step, stream.place.step), sources)
        return self._stream(place, key_serde, None)

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


def _refuse_table_options(operator: str, *options: object) -> None:
    if any(option is not None for option in options):
        raise TypeError(
            f"name and serdes of {operator}() are for tables; of two streams give them as "
            "joined=StreamJoined(...)"
        )


def _refuse_stream_options(operator: str, *options: object) -> None:
    if any(option is not None for option in options):
        raise TypeError(
            f"{operator}() takes windows and joined= only with another stream; a table has no "
            "windows"
        )


def _refuse_selector(key_selector: object, operator: str) -> None:
    """Refuses a key selector where the table is not global."""
    if key_selector is not None:
        raise TypeError(
            f"{operator}() with a table joins by the record's key and takes no key_selector; call "
            "select_key() first, or read the topic as a global_table()"
        )


def _refuse_grace(grace: object, operator: str) -> None:
    """Refuses a grace where the table is global."""
    if grace is not None:
        raise TypeError(
            f"{operator}() with a global table takes no grace: it meets the newest row; leave grace "
            "out, or read the topic as a table() in a versioned store"
        )
