"""Co-groupings: several grouped streams that are aggregated into one table.

Owns `cogroup` and its aggregations: one operator for each stream, all with the same store, and the
merge of their changes. It must not know how an aggregate is kept.

Source: JVM `CogroupedKStreamImpl`, `CogroupedStreamAggregateBuilder` (KIP-150); kafka-streams A13
for the order in which numbers are used up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.serde import Serde, SerdeHint, serdes
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
from thalweg.topology.dsl.session_windowed import MERGER
from thalweg.topology.dsl.table import KTable
from thalweg.topology.dsl.table_logic import TableLogic
from thalweg.topology.dsl.windows import (
    SessionWindows,
    SlidingWindows,
    TimeWindows,
    UnlimitedWindows,
)
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.facts import NotedFacts
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import RepartitionStep, aggregating, always, processor_step
from thalweg.topology.operators.aggregate import Aggregate
from thalweg.topology.operators.operator import TableMaker
from thalweg.topology.operators.session_aggregate import SessionAggregate
from thalweg.topology.operators.sliding_aggregate import SlidingAggregate
from thalweg.topology.operators.table import StoreView, TablePassThrough, TableView
from thalweg.topology.operators.window_aggregate import WindowAggregate

if TYPE_CHECKING:
    from thalweg.topology.dsl.grouped import KGroupedStream
    from thalweg.topology.dsl.grouping import StreamGrouping

K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A")

_AGGREGATE = "COGROUPKSTREAM-AGGREGATE-"
_MERGE = "COGROUPKSTREAM-MERGE-"
_AGGREGATOR = {3: "key, value, aggregate"}
_HINT = SerdeHint(
    "aggregate()",
    "aggregate(..., materialized=Materialized(..., key_serde=...))",
    "aggregate(..., value_serde=...)",
)

Aggregator = Callable[[Any, Any, Any], Any]


class CogroupLogic(TableLogic):
    """A table made by several aggregations with one store.

    Args:
        facts: where what is settled of them is noted.
        names: their processors.
        store_name: the store.
        is_versioned: whether that store is versioned.
    """

    def __init__(
        self,
        facts: NotedFacts,
        names: tuple[str, ...],
        store_name: str,
        *,
        is_versioned: bool,
    ) -> None:
        self.is_versioned = is_versioned
        self._facts = facts
        self._names = names
        self._store_name = store_name

    def view(self) -> TableView:
        """Reads the store."""
        return StoreView(self._store_name)

    def send_old_values(self, force: bool) -> bool:
        """Has each of the aggregations send what the store held before."""
        self._facts.old_values.update(self._names)
        return True


class Cogrouping:
    """The grouped streams of a co-grouping, each with its aggregator, and their repartitions."""

    def __init__(self) -> None:
        self._inputs: dict[StreamGrouping, Aggregator] = {}
        self._repartitions: dict[StreamGrouping, Place] = {}

    def add(self, grouping: StreamGrouping, fn: Aggregator) -> None:
        """Adds a stream; one that is added again has another aggregator from now on."""
        arity(fn, _AGGREGATOR, "cogroup")
        first = self._first
        if first is not None and first.place.graph is not grouping.place.graph:
            raise TopologyError(
                f"{first.place.name} and {grouping.place.name} belong to different builders; make "
                "both with one",
                node=grouping.place.name,
            )
        self._inputs[grouping] = fn

    @property
    def _first(self) -> StreamGrouping | None:
        return next(iter(self._inputs), None)

    @property
    def place(self) -> Place:
        """Where the first of the streams stands."""
        assert self._first is not None
        return self._first.place

    @property
    def shown(self) -> str:
        """The streams, for people."""
        return ", ".join(grouping.place.name for grouping in self._inputs)

    def settled(
        self,
        name: str | None,
        value_serde: Serde[Any] | None,
        materialized: Materialized[Any, Any] | None,
    ) -> Store:
        """Settles name and serdes of the store; keys are written as in the streams."""
        return settle(
            self.place.names,
            with_name(materialized, name),
            _AGGREGATE,
            key_serde=next((one.key_serde for one in self._inputs if one.key_serde), None),
            value_serde=aggregate_serde(value_serde, materialized),
            hint=_HINT,
        )

    def table(
        self,
        store: Store,
        builder: StoreBuilder,
        named: str | None,
        key_serde: Serde[Any] | None,
        make: Callable[[Aggregator, str | None], TableMaker],
    ) -> KTable[Any, Any]:
        """Puts the aggregations and what brings them together into the graph.

        Args:
            store: the settled store.
            builder: describes it.
            named: base of the names of the processors.
            key_serde: of the table.
            make: makes the operator of a stream, given its aggregator and what names its
                stream time, None for the first.
        """
        named = check_name(named)
        graph, names = self.place.graph, self.place.names
        parents = list(self._parents(store.name))
        graph.copartition(
            (source for one in self._inputs for source in one.place.sources),
            (source for parent in parents for source in parent.sources),
        )
        aggregates = []
        for index, (fn, parent) in enumerate(zip(self._inputs.values(), parents, strict=True)):
            node_name = names.name_or_new(named, _AGGREGATE, f"-cogroup-agg-{index}")
            operator = make(fn, f"{store.name}-{index}" if index else None)
            step = processor_step(
                node_name,
                aggregating(node_name, operator),
                store=None if index else builder,
                stores=(store.name,) if index else (),
            )
            aggregates.append(parent.then(step))
        merge_name = names.name_or_new(named, _MERGE, "-cogroup-merge")
        merge = processor_step(merge_name, always(TablePassThrough()))
        step_id = graph.add(merge, *(aggregate.step for aggregate in aggregates))
        return KTable(
            # The JVM, too, takes the table for one without sources.
            Place(graph, merge_name, step_id, (merge_name,)),
            key_serde,
            store.value_serde,
            store.queryable_name,
            CogroupLogic(
                graph.facts,
                tuple(one.name for one in aggregates),
                store.name,
                is_versioned=store.is_versioned,
            ),
        )

    def _parents(self, store_name: str) -> Iterator[Place]:
        """Yields where each aggregation stands; the first to ask makes a stream's repartition."""
        for grouping in self._inputs:
            place = grouping.place
            if grouping.repartition_required:
                names = place.names.repartition_names(grouping.name or store_name)
                known = self._repartitions.get(grouping)
                if known is None:
                    step = RepartitionStep(
                        names=names,
                        key_serde=grouping.key_serde,
                        value_serde=grouping.value_serde,
                        hint=grouping.hint,
                    )
                    added: StepId = place.graph.add(step, place.step)
                    known = Place(place.graph, names.source, added, (names.source,))
                    self._repartitions[grouping] = known
                place = known
            yield place


class CogroupedKStream(Generic[K, A]):
    """Grouped streams that are aggregated into one table.

    Made by `KGroupedStream.cogroup`. Each stream has an aggregator of its own; all of them work on
    the same aggregate of a key.
    """

    def __init__(self, cogrouping: Cogrouping) -> None:
        self._cogrouping = cogrouping

    def __repr__(self) -> str:
        return f"<CogroupedKStream of {self._cogrouping.shown}>"

    def cogroup(
        self, grouped: KGroupedStream[K, V], fn: Callable[[K, V, A], A | None]
    ) -> CogroupedKStream[K, A]:
        """Adds another grouped stream, and returns this co-grouping.

        Args:
            grouped: the stream. Its topic must have as many partitions as those of the others.
            fn: (key, value, aggregate) -> aggregate; None deletes the row.

        Raises:
            TypeError: it is no grouped stream, or `fn` no function of three arguments.
            TopologyError: the streams are of different builders.

        Example:
            >>> totals = clicks.cogroup(add_click).cogroup(orders, add_order)
        """
        from thalweg.topology.dsl.grouped import KGroupedStream

        if not isinstance(grouped, KGroupedStream):
            raise TypeError(f"cogroup() takes a grouped stream, got {grouped!r}")
        self._cogrouping.add(grouped.grouping, fn)
        return self

    def aggregate(
        self,
        initializer: Callable[[], A],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[K, A]:
        """Folds the values of each key, from all of the streams, into an aggregate.

        Records without key or value are dropped.

        Args:
            initializer: makes the aggregate of a key that has none.
            name: name of the store; with a name the table can be queried.
            value_serde: how the store writes aggregates, in place of that of `materialized`.
            materialized: how to keep the result.
            named: base of the names of the processors.

        Example:
            >>> table = clicks.cogroup(add_click).cogroup(orders, add_order).aggregate(Totals)
        """
        arity(initializer, {0: ""}, "aggregate")
        store = self._cogrouping.settled(name, value_serde, materialized)
        return self._cogrouping.table(
            store,
            store.key_value(),
            named,
            store.key_serde,
            lambda fn, _time_name: Aggregate(store.name, initializer, fn),
        )

    @overload
    def windowed_by(
        self, windows: TimeWindows | UnlimitedWindows | SlidingWindows
    ) -> TimeWindowedCogroupedKStream[K, A]: ...
    @overload
    def windowed_by(self, windows: SessionWindows) -> SessionWindowedCogroupedKStream[K, A]: ...
    def windowed_by(
        self, windows: TimeWindows | UnlimitedWindows | SlidingWindows | SessionWindows
    ) -> TimeWindowedCogroupedKStream[K, A] | SessionWindowedCogroupedKStream[K, A]:
        """Groups by windows of event time, too.

        Example:
            >>> per_hour = clicks.cogroup(add_click).windowed_by(TimeWindows.of_size(3_600_000))
        """
        if isinstance(windows, SessionWindows):
            return SessionWindowedCogroupedKStream(self._cogrouping, windows)
        if not isinstance(windows, (TimeWindows, UnlimitedWindows, SlidingWindows)):
            raise TypeError(f"windowed_by() needs windows, got {windows!r}")
        return TimeWindowedCogroupedKStream(self._cogrouping, windows)


class TimeWindowedCogroupedKStream(Generic[K, A]):
    """Grouped streams that are aggregated into one table, by windows of event time."""

    def __init__(
        self, cogrouping: Cogrouping, windows: TimeWindows | UnlimitedWindows | SlidingWindows
    ) -> None:
        self._cogrouping = cogrouping
        self._windows = windows

    def __repr__(self) -> str:
        return f"<TimeWindowedCogroupedKStream of {self._cogrouping.shown}, {self._windows}>"

    def aggregate(
        self,
        initializer: Callable[[], A],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], A]:
        """Folds the values of each key and window; see `CogroupedKStream.aggregate`.

        Each stream has its own stream time, which decides which of its records are late.

        Example:
            >>> table = per_hour.aggregate(Totals, "totals-by-hour")
        """
        arity(initializer, {0: ""}, "aggregate")
        windows = self._windows
        store = self._cogrouping.settled(name, value_serde, materialized)
        key_serde = store.key_serde
        return self._cogrouping.table(
            store,
            store.window(windows),
            named,
            None if key_serde is None else serdes.windowed(key_serde, windows.size_ms),
            lambda fn, time_name: (
                SlidingAggregate(store.name, windows, initializer, fn, time_name=time_name)
                if isinstance(windows, SlidingWindows)
                else WindowAggregate(store.name, windows, initializer, fn, time_name=time_name)
            ),
        )


class SessionWindowedCogroupedKStream(Generic[K, A]):
    """Grouped streams that are aggregated into one table, by sessions."""

    def __init__(self, cogrouping: Cogrouping, windows: SessionWindows) -> None:
        self._cogrouping = cogrouping
        self._windows = windows

    def __repr__(self) -> str:
        return f"<SessionWindowedCogroupedKStream of {self._cogrouping.shown}, {self._windows}>"

    def aggregate(
        self,
        initializer: Callable[[], A],
        merger: Callable[[K, A, A], A],
        name: str | None = None,
        *,
        value_serde: Serde[A] | None = None,
        materialized: Materialized[K, A] | None = None,
        named: str | None = None,
    ) -> KTable[Windowed[K], A]:
        """Folds the values of each key and session; see `SessionWindowedKStream.aggregate`.

        Each stream has its own stream time, which decides which of its records are late.

        Example:
            >>> table = visits.aggregate(Totals, lambda user, one, two: one + two, "totals")
        """
        arity(initializer, {0: ""}, "aggregate")
        arity(merger, MERGER, "aggregate")
        windows = self._windows
        store = self._cogrouping.settled(name, value_serde, materialized)
        key_serde = store.key_serde
        return self._cogrouping.table(
            store,
            store.session(windows),
            named,
            None if key_serde is None else serdes.session_windowed(key_serde),
            lambda fn, time_name: SessionAggregate(
                store.name, windows, initializer, fn, merger, time_name=time_name
            ),
        )
