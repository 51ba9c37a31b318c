"""Streams: sequences of records.

Owns the operations of a `KStream` except its joins (`stream_joins`), and how each changes the
serdes and the need for a repartition. Keys and values may be None; as in the JVM, types do not say
so.

Source: JVM `KStreamImpl`, `BranchedKStreamImpl`; kafka-streams A2, A13, D4.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO, TypeVar, overload

from thalweg.stores.record import RecordContext
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.topology.dsl.branched import BranchedKStream
from thalweg.topology.dsl.grouped import KGroupedStream
from thalweg.topology.dsl.grouping import StreamGrouping
from thalweg.topology.dsl.options import (
    Materialized,
    arity,
    check_name,
    materialized_hint,
    settle,
    with_name,
)
from thalweg.topology.dsl.stream_joins import StreamJoins
from thalweg.topology.dsl.table import KTable
from thalweg.topology.dsl.table_logic import SourceLogic
from thalweg.topology.dsl.windows import WindowedStreamPartitioner
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import (
    AddSink,
    Changes,
    RepartitionStep,
    Step,
    always,
    processor_step,
)
from thalweg.topology.operators.operator import Operator
from thalweg.topology.operators.process import ProcessorApiOperator, check_supplier
from thalweg.topology.operators.stateless import (
    Filter,
    FlatMap,
    FlatMapValues,
    Map,
    MapValues,
    PassThrough,
    Peek,
    SelectKey,
)
from thalweg.topology.operators.table import StreamToTable
from thalweg.topology.processor import (
    FixedKeyProcessor,
    Processor,
    StreamPartitioner,
    check_partitioner,
)

K = TypeVar("K")
V = TypeVar("V")
KR = TypeVar("KR")
VR = TypeVar("VR")

_KEY_VALUE = {2: "key, value"}
_VALUE_OR_BOTH = {1: "value", 2: "key, value"}


class KStream(StreamJoins[K, V]):
    """A stream of records; made by a builder or an operation."""

    def __repr__(self) -> str:
        return f"<KStream {self._place.name}>"

    def filter(
        self, predicate: Callable[[K, V], bool], *, name: str | None = None
    ) -> KStream[K, V]:
        """Keeps the records for which `predicate(key, value)` holds."""
        arity(predicate, _KEY_VALUE, "filter")
        return self.at(self._then("KSTREAM-FILTER-", name, Filter(predicate)))

    def filter_not(
        self, predicate: Callable[[K, V], bool], *, name: str | None = None
    ) -> KStream[K, V]:
        """Keeps the records for which `predicate(key, value)` does not hold."""
        arity(predicate, _KEY_VALUE, "filter_not")
        return self.at(self._then("KSTREAM-FILTER-", name, Filter(predicate, negate=True)))

    def map(
        self,
        fn: Callable[[K, V], tuple[KR | None, VR | None]],
        *,
        name: str | None = None,
    ) -> KStream[KR, VR]:
        """Replaces key and value by the pair `fn(key, value)`.

        The key may have changed: an aggregation or join that follows repartitions first.
        """
        arity(fn, _KEY_VALUE, "map")
        place = self._then("KSTREAM-MAP-", name, Map(fn), Changes.KEY)
        return KStream(place, None, None, True)

    @overload
    def map_values(
        self, fn: Callable[[V], VR | None], *, name: str | None = None
    ) -> KStream[K, VR]: ...

    @overload
    def map_values(
        self, fn: Callable[[K, V], VR | None], *, name: str | None = None
    ) -> KStream[K, VR]: ...

    def map_values(self, fn: Callable[..., Any], *, name: str | None = None) -> KStream[K, Any]:
        """Replaces the value by `fn(value)` or `fn(key, value)`."""
        with_key = arity(fn, _VALUE_OR_BOTH, "map_values") == 2
        place = self._then("KSTREAM-MAPVALUES-", name, MapValues(fn, with_key), Changes.VALUE)
        return KStream(place, self._key_serde, None, self._repartition_required)

    def flat_map(
        self,
        fn: Callable[[K, V], Iterable[tuple[KR | None, VR | None]]],
        *,
        name: str | None = None,
    ) -> KStream[KR, VR]:
        """Replaces a record by the pairs of `fn(key, value)`, possibly none; see `map`."""
        arity(fn, _KEY_VALUE, "flat_map")
        place = self._then("KSTREAM-FLATMAP-", name, FlatMap(fn), Changes.KEY)
        return KStream(place, None, None, True)

    @overload
    def flat_map_values(
        self, fn: Callable[[V], Iterable[VR]], *, name: str | None = None
    ) -> KStream[K, VR]: ...

    @overload
    def flat_map_values(
        self, fn: Callable[[K, V], Iterable[VR]], *, name: str | None = None
    ) -> KStream[K, VR]: ...

    def flat_map_values(
        self, fn: Callable[..., Iterable[Any]], *, name: str | None = None
    ) -> KStream[K, Any]:
        """Replaces the value by each of `fn(value)` or `fn(key, value)`, possibly none."""
        with_key = arity(fn, _VALUE_OR_BOTH, "flat_map_values") == 2
        operator = FlatMapValues(fn, with_key)
        place = self._then("KSTREAM-FLATMAPVALUES-", name, operator, Changes.VALUE)
        return KStream(place, self._key_serde, None, self._repartition_required)

    def select_key(
        self, fn: Callable[[K, V], KR | None], *, name: str | None = None
    ) -> KStream[KR, V]:
        """Replaces the key by `fn(key, value)`; see `map`."""
        return KStream(self._select_key(fn, name, "select_key"), None, self._value_serde, True)

    def peek(self, fn: Callable[[K, V], object], *, name: str | None = None) -> KStream[K, V]:
        """Calls `fn(key, value)` and passes the record on."""
        arity(fn, _KEY_VALUE, "peek")
        return self.at(self._then("KSTREAM-PEEK-", name, Peek(fn, forward=True)))

    def for_each(self, fn: Callable[[K, V], object], *, name: str | None = None) -> None:
        """Calls `fn(key, value)`; the stream ends here."""
        arity(fn, _KEY_VALUE, "for_each")
        self._then("KSTREAM-FOREACH-", name, Peek(fn, forward=False))

    def print(
        self,
        *,
        label: str | None = None,
        mapper: Callable[[K, V], str] | None = None,
        file: TextIO | None = None,
        name: str | None = None,
    ) -> None:
        """Prints records as "[label]: key, value"; the stream ends here.

        Args:
            label: the text in brackets; if not given, the name of the processor above.
            mapper: (key, value) -> the text that is printed after the label.
            file: where to print; standard output if not given.
            name: name of the processor.
        """
        if mapper is not None:
            arity(mapper, _KEY_VALUE, "print")
        shown = self._place.name if label is None else label

        def show(key: K, value: V) -> None:
            text = f"{key}, {value}" if mapper is None else mapper(key, value)
            print(f"[{shown}]: {text}", file=sys.stdout if file is None else file, flush=True)

        self._then("KSTREAM-PRINTER-", name, Peek(show, forward=False))

    def split(self, name: str | None = None) -> BranchedKStream[K, V]:
        """Splits the stream by predicates; `name` is the prefix of the branches' names."""
        return BranchedKStream(self, name)

    def merge(self, other: KStream[K, V], *, name: str | None = None) -> KStream[K, V]:
        """Makes one stream of two, in no defined order; give the serdes again downstream."""
        if not isinstance(other, KStream):
            raise TypeError(f"a stream can only be merged with a stream, got {other!r}")
        graph = self._place.graph
        if other.place.graph is not graph:
            raise TopologyError("streams of different builders cannot be merged", node=name)
        node_name = graph.names.name_or_new(check_name(name), "KSTREAM-MERGE-")
        merge = processor_step(node_name, always(PassThrough()), is_merge=True)
        step = graph.add(merge, self._place.step, other.place.step)
        sources = tuple(dict.fromkeys(self._place.sources + other.place.sources))
        place = Place(graph, node_name, step, sources)
        required = self._repartition_required or other._repartition_required
        return KStream(place, None, None, required)

    def repartition(
        self,
        name: str | None = None,
        *,
        partitions: int | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        partitioner: StreamPartitioner | None = None,
    ) -> KStream[K, V]:
        """Sends the stream through an internal topic, so that equal keys are in one partition.

        Args:
            name: base of the topic's name; "-repartition" is added.
            partitions: partition count of the topic; without, the runtime chooses.
            key_serde: how keys are written; inherited if not given.
            value_serde: how values are written; inherited if not given.
            partitioner: chooses the partition; by key if not given.
        """
        if partitions is not None and partitions < 1:
            raise ValueError(f"a topic has at least 1 partition, got {partitions}")
        names = self._place.names
        # Unlike elsewhere a given name uses up no number here.
        base = check_name(name) or names.new_name("KSTREAM-REPARTITION-")
        key_serde = serde_of(key_serde, "key_serde of repartition()") or self._key_serde
        value_serde = serde_of(value_serde, "value_serde of repartition()") or self._value_serde
        check_partitioner(partitioner, "repartition()")
        step = RepartitionStep(
            names=names.repartition_names(base),
            key_serde=key_serde,
            value_serde=value_serde,
            partitions=partitions,
            partitioner=partitioner,
            hint=SerdeHint.of("repartition"),
            is_shareable=False,
        )
        place = _behind(self._place, step)
        return KStream(place, key_serde, value_serde)

    def to(
        self,
        topic: str | Callable[[K, V, RecordContext], str],
        *,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        partitioner: StreamPartitioner | None = None,
        name: str | None = None,
    ) -> None:
        """Writes the stream to a topic.

        Args:
            topic: the topic, or (key, value, context) -> topic for each record.
            key_serde: how keys are written; inherited if not given.
            value_serde: how values are written; inherited if not given.
            partitioner: chooses partitions; by key if not given.
            name: name of the sink.
        """
        if not isinstance(topic, str):
            arity(topic, {3: "key, value, context"}, "to")
        elif not topic:
            raise ValueError("a sink needs the name of a topic")
        check_partitioner(partitioner, "to()")
        value_serde = serde_of(value_serde, "value_serde of to()")
        key_serde = serde_of(key_serde, "key_serde of to()") or self._key_serde
        inner = _inner_of_windowed(key_serde)
        if partitioner is None and inner is not None:
            partitioner = WindowedStreamPartitioner(inner)
        sink = AddSink(
            name=self._place.names.name_or_new(check_name(name), "KSTREAM-SINK-"),
            topic=topic,
            key_serde=key_serde,
            value_serde=value_serde or self._value_serde,
            partitioner=partitioner,
            hint=SerdeHint.of("to"),
        )
        self._place.then(Step(sink.name, (sink,)))

    def to_table(
        self,
        *,
        name: str | None = None,
        materialized: Materialized[K, V] | None = None,
        named: str | None = None,
    ) -> KTable[K, V]:
        """Reads the stream as a table: the latest value per key, None deletes.

        Args:
            name: name of the store; with a name the table can be queried.
            materialized: how to keep the table.
            named: name of the processor.
        """
        place, names, facts = self._place, self._place.names, self._place.graph.facts
        node_name = names.name_or_new(check_name(named), "KSTREAM-TOTABLE-")
        materialized = with_name(materialized, name)
        store = settle(
            names,
            materialized,
            "KSTREAM-TOTABLE-",
            key_serde=self._key_serde,
            value_serde=self._value_serde,
            hint=materialized_hint("to_table"),
        )
        key_serde, value_serde = store.key_serde, store.value_serde
        if self._repartition_required:
            repartition = RepartitionStep(
                names=names.repartition_names(node_name),
                key_serde=key_serde,
                value_serde=value_serde,
                hint=store.hint,
            )
            place = _behind(place, repartition)
        if store.queryable_name is not None:
            facts.kept.add(node_name)
        logic = SourceLogic(
            facts, node_name, store.name, StreamToTable, is_versioned=store.is_versioned
        )
        place = place.then(processor_step(node_name, logic.make, store=store.key_value()))
        return KTable(place, key_serde, value_serde, store.queryable_name, logic)

    def group_by(
        self,
        fn: Callable[[K, V], KR | None],
        *,
        name: str | None = None,
        key_serde: Serde[KR] | None = None,
        value_serde: Serde[V] | None = None,
    ) -> KGroupedStream[KR, V]:
        """Groups by the new key `fn(key, value)` for an aggregation, which repartitions.

        Args:
            fn: returns the new key; records for which it is None are dropped.
            name: name of the processor, and base of the repartition topic's name; then
                several aggregations share the topic.
            key_serde: how new keys are written.
            value_serde: how values are written; inherited if not given.
        """
        key_serde = serde_of(key_serde, "key_serde of group_by()")
        value_serde = serde_of(value_serde, "value_serde of group_by()")
        place = self._select_key(fn, name, "group_by")
        grouping = StreamGrouping(place, key_serde, value_serde or self._value_serde, name, True)
        return KGroupedStream(grouping)

    def group_by_key(
        self,
        *,
        name: str | None = None,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
    ) -> KGroupedStream[K, V]:
        """Groups by the key for an aggregation, which repartitions if the key has changed.

        Args:
            name: base of the repartition topic's name, if there is one.
            key_serde: how keys are written; inherited if not given.
            value_serde: how values are written; inherited if not given.
        """
        return KGroupedStream(
            StreamGrouping(
                self._place,
                serde_of(key_serde, "key_serde of group_by_key()") or self._key_serde,
                serde_of(value_serde, "value_serde of group_by_key()") or self._value_serde,
                check_name(name),
                self._repartition_required,
                "group_by_key",
            )
        )

    def process(
        self,
        supplier: Callable[[], Processor[K, V, KR, VR]],
        *stores: str,
        name: str | None = None,
    ) -> KStream[KR, VR]:
        """Runs a processor, one instance per task; the records that it forwards are the new stream.

        Args:
            supplier: makes the processor; a class without arguments will do. An attribute
                `stores` of it (a list of store builders) is added to the topology.
            stores: names of stores it uses that were added otherwise.
            name: name of the processor.
        """
        check_supplier("process()", supplier, may_raise=True)
        changes = Changes.KEY | Changes.VALUE | Changes.BY_PROCESSOR
        operator = ProcessorApiOperator(supplier)
        place = self._process("KSTREAM-PROCESSOR-", name, operator, stores, changes)
        return KStream(place, None, None, True)

    def process_values(
        self,
        supplier: Callable[[], FixedKeyProcessor[K, V, VR]],
        *stores: str,
        name: str | None = None,
    ) -> KStream[K, VR]:
        """Runs a processor that cannot change keys, so nothing is repartitioned; see `process`."""
        check_supplier("process_values()", supplier, may_raise=True)
        operator = ProcessorApiOperator(supplier, fixed_key=True)
        changes = Changes.VALUE | Changes.BY_PROCESSOR
        place = self._process("KSTREAM-PROCESSVALUES-", name, operator, stores, changes)
        return KStream(place, self._key_serde, None, self._repartition_required)

    def _select_key(self, fn: Callable[[K, V], Any], name: str | None, operator: str) -> Place:
        arity(fn, _KEY_VALUE, operator)
        return self._then("KSTREAM-KEY-SELECT-", name, SelectKey(fn), Changes.KEY)

    def _process(
        self,
        prefix: str,
        name: str | None,
        operator: Operator,
        stores: tuple[str, ...],
        changes: Changes,
    ) -> Place:
        if not all(isinstance(store, str) for store in stores):
            raise TypeError(f"process() takes names of stores behind the supplier, got {stores!r}")
        # A given name uses up no number here.
        node_name = check_name(name) or self._place.names.new_name(prefix)
        step = processor_step(node_name, always(operator), stores=stores, changes=changes)
        return self._place.then(step)

    def _then(
        self,
        prefix: str,
        name: str | None,
        operator: Operator,
        changes: Changes = Changes.NOTHING,
    ) -> Place:
        """Puts an operation below this stream."""
        node_name = self._place.names.name_or_new(check_name(name), prefix)
        return self._place.then(processor_step(node_name, always(operator), changes=changes))

    def _stream(
        self,
        place: Place,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        repartition_required: bool = False,
    ) -> KStream[Any, Any]:
        return KStream(place, key_serde, value_serde, repartition_required)

    def at(self, place: Place) -> KStream[K, V]:
        """Makes the stream behind an operation that changes neither type; for parts of the DSL."""
        return KStream(place, self._key_serde, self._value_serde, self._repartition_required)


def _inner_of_windowed(serde: Serde[Any] | None) -> Serde[Any] | None:
    """Returns the serde of the key inside a windowed key, None for any other serde."""
    inner = getattr(serde, "inner", None)
    return inner if isinstance(inner, Serde) else None


def _behind(place: Place, repartition: RepartitionStep) -> Place:
    """Puts a repartition below a place and returns the place behind it."""
    step = place.graph.add(repartition, place.step)
    return Place(place.graph, repartition.name, step, (repartition.name,))
