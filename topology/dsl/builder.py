"""The start of every topology: sources, tables of topics, stores.

Owns `StreamsBuilder`. Its calls add to one logical graph, and `build` writes the graph into a
topology.

Source: JVM `StreamsBuilder`, `InternalStreamsBuilder`; kafka-streams A1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar, overload

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.topology.dsl.global_table import GlobalKTable, read_global_table
from thalweg.topology.dsl.options import (
    Materialized,
    check_name,
    settle,
    with_name,
)
from thalweg.topology.dsl.stream import KStream
from thalweg.topology.dsl.table import KTable
from thalweg.topology.dsl.table_logic import SourceLogic
from thalweg.topology.graph import writer
from thalweg.topology.graph.logical import ROOT, LogicalGraph, Place
from thalweg.topology.graph.options import BuildOptions
from thalweg.topology.graph.steps import (
    AddGlobalStore,
    AddProcessor,
    AddSource,
    AddStore,
    SourceStep,
    Step,
)
from thalweg.topology.operators.process import check_supplier
from thalweg.topology.physical import Topology
from thalweg.topology.processor import (
    AutoOffsetReset,
    Processor,
    TimestampExtractor,
    check_extractor,
)

K = TypeVar("K")
V = TypeVar("V")

Topics = str | Sequence[str] | re.Pattern[str]
OffsetReset = str | AutoOffsetReset


class StreamsBuilder:
    """Builds a topology of streams and tables.

    Generated names count up in the order of the calls; inserting an operation renames what
    follows it, so name stores and repartition topics that are to outlive changes.
    """

    def __init__(self) -> None:
        self._graph = LogicalGraph()

    def __repr__(self) -> str:
        graph = self._graph.snapshot()
        seen: dict[str, None] = {}
        steps = list(graph.children[ROOT])
        while steps:
            step = steps.pop(0)
            name = graph.steps[step].name
            if name not in seen:
                seen[name] = None
                steps += graph.children[step]
        return f"<StreamsBuilder: {', '.join(seen) or 'nothing yet'}>"

    @overload
    def stream(
        self,
        topics: Topics,
        *,
        key_serde: Serde[K],
        value_serde: Serde[V],
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
    ) -> KStream[K, V]: ...

    @overload
    def stream(
        self,
        topics: Topics,
        *,
        key_serde: None = None,
        value_serde: Serde[V],
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
    ) -> KStream[Any, V]: ...

    @overload
    def stream(
        self,
        topics: Topics,
        *,
        key_serde: Serde[K],
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
    ) -> KStream[K, Any]: ...

    @overload
    def stream(
        self,
        topics: Topics,
        *,
        key_serde: None = None,
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
    ) -> KStream[Any, Any]: ...

    def stream(
        self,
        topics: Topics,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
    ) -> KStream[Any, Any]:
        """Reads topics as a stream.

        The same topics may be read twice; both streams then share one source.

        Args:
            topics: a topic, several, or a compiled pattern of names.
            key_serde: how keys are read; the application's default if not given.
            value_serde: how values are read; the application's default if not given.
            timestamp_extractor: gives records their event time.
            offset_reset: where to start without a committed offset.
            name: name of the source.
        """
        key_serde = serde_of(key_serde, "key_serde of stream()")
        value_serde = serde_of(value_serde, "value_serde of stream()")
        check_extractor(timestamp_extractor, "stream()")
        name = self._graph.names.name_or_new(check_name(name), "KSTREAM-SOURCE-")
        source = AddSource(
            name=name,
            topics=_checked(topics),
            key_serde=key_serde,
            value_serde=value_serde,
            timestamp_extractor=timestamp_extractor,
            offset_reset=offset_reset,
            hint=SerdeHint.of("stream"),
        )
        step = self._graph.add(SourceStep(source))
        return KStream(Place(self._graph, name, step, (name,)), key_serde, value_serde)

    @overload
    def table(
        self,
        topic: str,
        *,
        key_serde: Serde[K],
        value_serde: Serde[V],
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[K, V] | None = None,
    ) -> KTable[K, V]: ...

    @overload
    def table(
        self,
        topic: str,
        *,
        key_serde: None = None,
        value_serde: Serde[V],
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[Any, V] | None = None,
    ) -> KTable[Any, V]: ...

    @overload
    def table(
        self,
        topic: str,
        *,
        key_serde: Serde[K],
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[K, Any] | None = None,
    ) -> KTable[K, Any]: ...

    @overload
    def table(
        self,
        topic: str,
        *,
        key_serde: None = None,
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: None = None,
    ) -> KTable[Any, Any]: ...

    @overload
    def table(
        self,
        topic: str,
        *,
        key_serde: None = None,
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[K, V],
    ) -> KTable[K, V]: ...

    def table(
        self,
        topic: str,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: OffsetReset | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[Any, Any] | None = None,
    ) -> KTable[Any, Any]:
        """Reads a topic as a table: the latest value per key, None deletes.

        The table is kept in a store only if it has a name or an operation needs it.

        Args:
            topic: the topic.
            key_serde: how keys are read and stored; that of `materialized` if not given.
            value_serde: how values are read and stored; that of `materialized` if not given.
            timestamp_extractor: gives records their event time.
            offset_reset: where to start without a committed offset.
            name: name of the processor; its source is called `<name>-source`.
            store: name of the store; with a name the table can be queried.
            materialized: how to keep the table.
        """
        graph = self._graph
        (topic,) = _checked(topic)
        name = check_name(name)
        key_serde = serde_of(key_serde, "key_serde of table()")
        value_serde = serde_of(value_serde, "value_serde of table()")
        check_extractor(timestamp_extractor, "table()")
        materialized = with_name(materialized, store)
        hint = SerdeHint.of("table")
        settled = settle(graph.names, materialized, topic + "-", hint=hint)
        settled = settled.with_serdes(
            key_serde or settled.key_serde, value_serde or settled.value_serde
        )
        source_name = graph.names.name_or_new(name, "KSTREAM-SOURCE-", "-source")
        table_name = graph.names.name_or_new(name, "KTABLE-SOURCE-")
        if settled.queryable_name is not None:
            graph.facts.kept.add(table_name)
        logic = SourceLogic(
            graph.facts, table_name, settled.name, is_versioned=settled.is_versioned
        )
        source = AddSource(
            name=source_name,
            topics=(topic,),
            key_serde=settled.key_serde,
            value_serde=settled.value_serde,
            timestamp_extractor=timestamp_extractor,
            offset_reset=offset_reset,
            hint=hint,
        )
        processor = AddProcessor(
            table_name,
            logic.make,
            parents=(source_name,),
            store=settled.key_value(),
            topic=topic,
        )
        step = graph.add(Step(table_name, (source, processor)))
        return KTable(
            Place(graph, table_name, step, (source_name,)),
            settled.key_serde,
            settled.value_serde,
            settled.queryable_name,
            logic,
        )

    @overload
    def global_table(
        self,
        topic: str,
        *,
        key_serde: Serde[K],
        value_serde: Serde[V],
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[K, V] | None = None,
    ) -> GlobalKTable[K, V]: ...

    @overload
    def global_table(
        self,
        topic: str,
        *,
        key_serde: None = None,
        value_serde: Serde[V],
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[Any, V] | None = None,
    ) -> GlobalKTable[Any, V]: ...

    @overload
    def global_table(
        self,
        topic: str,
        *,
        key_serde: Serde[K],
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[K, Any] | None = None,
    ) -> GlobalKTable[K, Any]: ...

    @overload
    def global_table(
        self,
        topic: str,
        *,
        key_serde: None = None,
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: None = None,
    ) -> GlobalKTable[Any, Any]: ...

    @overload
    def global_table(
        self,
        topic: str,
        *,
        key_serde: None = None,
        value_serde: None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[K, V],
    ) -> GlobalKTable[K, V]: ...

    def global_table(
        self,
        topic: str,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
        store: str | None = None,
        materialized: Materialized[Any, Any] | None = None,
    ) -> GlobalKTable[Any, Any]:
        """Reads a topic as a table that every worker holds whole, for joins by any key.

        It is complete before anything else starts, and has no changelog: the topic is.

            products = builder.global_table("products", store="products")
            orders.join(
                products,
                lambda order, product: {**order, "price": product["price"]},
                key_selector=lambda _, order: order["product_id"],
            )

        Args:
            topic: the topic; read from its beginning, all partitions of it.
            key_serde: how keys are read and stored; that of `materialized` if not given.
            value_serde: how values are read and stored; that of `materialized` if not given.
            timestamp_extractor: gives records their event time.
            name: name of the processor; its source is called `<name>-source`.
            store: name of the store; with a name the table can be queried.
            materialized: how to keep the table.
        """
        (topic,) = _checked(topic)
        check_extractor(timestamp_extractor, "global_table()")
        return read_global_table(
            self._graph,
            topic,
            serde_of(key_serde, "key_serde of global_table()"),
            serde_of(value_serde, "value_serde of global_table()"),
            timestamp_extractor,
            check_name(name),
            with_name(materialized, store),
        )

    def add_state_store(self, store: StoreBuilder) -> StreamsBuilder:
        """Adds a store for processors to use by its name."""
        if not isinstance(store, StoreBuilder):
            raise TypeError(f"add_state_store() needs a store of stores.builders, got {store!r}")
        self._graph.add(Step(store.name, (AddStore(store),)))
        return self

    def add_global_store(
        self,
        store: StoreBuilder,
        topic: str,
        supplier: Callable[[], Processor[K, V, Any, Any]],
        *,
        key_serde: Serde[K] | None = None,
        value_serde: Serde[V] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        name: str | None = None,
    ) -> StreamsBuilder:
        """Adds a store that every worker fills from all partitions of a topic.

        Args:
            store: the store; it has no changelog, the topic is.
            topic: the topic.
            supplier: makes the processor that updates the store.
            key_serde: how keys are read; the application's default if not given.
            value_serde: how values are read; the application's default if not given.
            timestamp_extractor: gives records their event time.
            name: name of the processor; its source is called `<name>-source`.
        """
        if not isinstance(store, StoreBuilder):
            raise TypeError(f"add_global_store() needs a store of stores.builders, got {store!r}")
        key_serde = serde_of(key_serde, "key_serde of add_global_store()")
        value_serde = serde_of(value_serde, "value_serde of add_global_store()")
        check_extractor(timestamp_extractor, "add_global_store()")
        check_supplier("add_global_store()", supplier, may_raise=True)
        (topic,) = _checked(topic)
        name = check_name(name)
        source_name = self._graph.names.name_or_new(name, "KSTREAM-SOURCE-", "-source")
        processor_name = self._graph.names.name_or_new(name, "KTABLE-SOURCE-")
        added = AddGlobalStore(
            store=store.without_logging(),
            source_name=source_name,
            topic=topic,
            processor_name=processor_name,
            supplier=supplier,
            key_serde=key_serde,
            value_serde=value_serde,
            timestamp_extractor=timestamp_extractor,
        )
        self._graph.add(Step(store.name, (added,)))
        return self

    def build(
        self, config: Any = None, *, optimize: str | Collection[str] | None = None
    ) -> Topology:
        """Writes all streams and tables into a new topology.

        Args:
            config: the application's configuration, a mapping or an object; read are
                `topology.optimization`, `upgrade.from`, `processor.wrapper.class`,
                `ensure.explicit.internal.resource.naming` and `process_may_change_keys`.
            optimize: wins over the configuration's `topology.optimization`.

        Raises:
            TopologyError: if the result is not a legal topology.
        """
        return writer.build(self._graph, BuildOptions.of(config, optimize))


def _checked(topics: Topics) -> Any:
    """Returns a pattern, or the topics as a tuple.

    Raises:
        TypeError: if it is none of what a source can read.
        ValueError: if there is no topic or an empty name.
    """
    if isinstance(topics, re.Pattern):
        return topics
    given: object = topics
    names = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"a source reads topics by name or by a compiled pattern, got {topics!r}")
    if not names or not all(names):
        raise ValueError(f"a source needs the name of at least one topic, got {topics!r}")
    return names
