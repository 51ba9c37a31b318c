"""Writes a logical graph into a topology.

Owns how each addition of a step becomes nodes and stores, and the checks before that. Operators are
made here, from the facts that the DSL has recorded.

Source: JVM `InternalStreamsBuilder.buildAndOptimizeTopology`, `GraphNode.writeToTopology`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from thalweg.stores.builders import StoreBuilder
from thalweg.topology.checks import store_named_twice
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.facts import Facts
from thalweg.topology.graph.logical import Copartition, Graph, LogicalGraph
from thalweg.topology.graph.names import Names
from thalweg.topology.graph.options import (
    MERGE_REPARTITION_TOPICS,
    REUSE_SOURCE_TOPICS,
    SINGLE_STORE_SELF_JOIN,
    BuildOptions,
)
from thalweg.topology.graph.rewrites import (
    let_null_keys_through,
    merge_sources,
    single_store_self_joins,
)
from thalweg.topology.graph.shared_repartitions import share_repartitions
from thalweg.topology.graph.steps import (
    AddGlobalStore,
    Addition,
    AddProcessor,
    AddSharedStore,
    AddSink,
    AddSource,
    AddStore,
    AddTopic,
    StoreDemand,
)
from thalweg.topology.operators.operator import Operator, TableMaker
from thalweg.topology.operators.process import ProcessorApiOperator, supplied_stores
from thalweg.topology.physical import Topology
from thalweg.topology.self_joins import settle_self_joins


@dataclass(frozen=True, slots=True)
class _Processor:
    """A processor whose operator is made.

    Attributes:
        add: what the step says.
        operator: the operator.
        supplied: stores that the user's supplier brings along (KIP-401).
        store: its own store, if it is to be added.
    """

    add: AddProcessor
    operator: Operator
    supplied: tuple[StoreBuilder, ...]
    store: StoreBuilder | None


_Written: TypeAlias = (
    AddTopic
    | AddSource
    | _Processor
    | AddSink
    | AddSharedStore
    | AddStore
    | AddGlobalStore
    | StoreDemand
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One addition, and the parents of the step that it belongs to."""

    what: _Written
    parents: tuple[str, ...]


def build(logical: LogicalGraph, options: BuildOptions) -> Topology:
    """Writes everything into a new topology.

    Raises:
        TopologyError: if the graph is not a legal topology.
    """
    graph = _rewritten(logical.snapshot(), options)
    facts = logical.facts.settled(
        legacy_changes=options.legacy_changes,
        legacy_registrations=options.legacy_registrations,
    )
    entries = list(_entries(graph, facts, options))
    if options.explicit_names:
        _refuse_generated_names(entries, logical.names)
    _refuse_stores_named_twice(entries)
    _refuse_topics_named_twice(entries)
    topology = Topology(processor_wrapper=options.processor_wrapper)
    for entry in entries:
        _write(topology, entry, options)
    for entry in entries:
        if isinstance(entry.what, StoreDemand):
            entry.what.check(topology.stores)
    _copartition(topology, graph.copartitioned)
    settle_self_joins(topology)
    return topology


def _copartition(topology: Topology, demands: Iterable[Copartition]) -> None:
    subtopology = {name: number for number, names in enumerate(topology.groups()) for name in names}
    for demand in demands:
        sources = demand.sources
        # Sources that were merged into others are not there.
        places = {subtopology[source] for source in sources if source in subtopology}
        if demand.instead is not None and len(places) > 1:
            sources = demand.instead
        topology.copartition(sources)


def _rewritten(graph: Graph, options: BuildOptions) -> Graph:
    """Returns the graph as it is written: rewritten as every one, and as the user wants it."""
    graph = merge_sources(graph)
    if MERGE_REPARTITION_TOPICS in options.optimizations:
        graph = share_repartitions(graph, processors_change=options.processors_change)
    if SINGLE_STORE_SELF_JOIN in options.optimizations:
        graph = single_store_self_joins(graph)
    return let_null_keys_through(graph)


def _entries(graph: Graph, facts: Facts, options: BuildOptions) -> Iterator[_Entry]:
    for step in graph.in_order():
        parents = graph.parent_names(step)
        for addition in graph.steps[step].adds:
            yield _Entry(_made(addition, facts, options), parents)


def _made(addition: Addition, facts: Facts, options: BuildOptions) -> _Written:
    """Returns the addition, a processor with its operator."""
    if isinstance(addition, AddStore | AddSharedStore):
        return replace(addition, store=options.settled(addition.store))
    if not isinstance(addition, AddProcessor):
        return addition
    operator = addition.make(facts)
    supplied: Sequence[StoreBuilder] = ()
    if isinstance(operator, ProcessorApiOperator):
        supplied = supplied_stores(operator.supplier)
    is_kept = not isinstance(operator, TableMaker) or operator.store_name is not None
    store = addition.store if is_kept else None
    if store is not None:
        store = options.settled(store)
    return _Processor(addition, operator, tuple(supplied), store)


def _write(topology: Topology, entry: _Entry, options: BuildOptions) -> None:
    match entry.what:
        case AddTopic(name, partitions):
            topology.add_internal_topic(name, partitions)
        case AddSource() as source:
            topology.add_source(
                source.name,
                source.topics,
                key_serde=source.key_serde,
                value_serde=source.value_serde,
                timestamp_extractor=source.timestamp_extractor,
                offset_reset=source.offset_reset,
                hint=source.hint,
                gives=source.gives,
            )
        case _Processor() as processor:
            _write_processor(topology, processor, entry.parents, options)
        case AddSink() as sink:
            topology.add_sink(
                sink.name,
                sink.topic,
                *(entry.parents if sink.parents is None else sink.parents),
                key_serde=sink.key_serde,
                value_serde=sink.value_serde,
                partitioner=sink.partitioner,
                hint=sink.hint,
                takes=sink.takes,
            )
        case AddSharedStore(store, processors):
            topology.add_state_store(store, *processors)
        case AddStore(store):
            topology.add_state_store(store)
        case AddGlobalStore() as added:
            topology.add_global_store(
                options.settled(added.store),
                added.source_name,
                added.topic,
                added.processor_name,
                added.supplier,
                key_serde=added.key_serde,
                value_serde=added.value_serde,
                timestamp_extractor=added.timestamp_extractor,
            )


def _write_processor(
    topology: Topology, processor: _Processor, parents: Sequence[str], options: BuildOptions
) -> None:
    add, store = processor.add, processor.store
    topology.add_processor(
        add.name, processor.operator, *(parents if add.parents is None else add.parents)
    )
    for builder in processor.supplied:
        topology.add_state_store(builder, add.name)
    if store is not None:
        if add.topic is not None and REUSE_SOURCE_TOPICS in options.optimizations:
            topology.add_state_store(store.without_logging(), add.name)
            topology.connect_source_store_and_topic(store.name, add.topic, add.name)
        else:
            topology.add_state_store(store, add.name)
    # As in the JVM, after its own: a description tells stores of one hash in this order.
    if add.stores:
        topology.connect_processor_and_state_stores(add.name, *add.stores)


def _refuse_generated_names(entries: Iterable[_Entry], names: Names) -> None:
    found = []
    for entry in entries:
        what = entry.what
        if isinstance(what, AddTopic) and names.is_generated(what.name):
            found.append(f"repartition topic {what.name}")
        store = what.store if isinstance(what, _Processor | AddSharedStore | AddStore) else None
        if store is not None and names.is_generated(store.name):
            found.append(f"store {store.name}")
    if found:
        raise TopologyError(
            "ensure.explicit.internal.resource.naming is set, but these have generated names: "
            f"{', '.join(found)}; give the operations a name"
        )


def _refuse_stores_named_twice(entries: Iterable[_Entry]) -> None:
    """Refuses them before anything else does that is named after a store.

    A store that the user has added by itself is the same as an equal one that was added so.
    """
    known: dict[str, tuple[StoreBuilder, str, bool]] = {}
    for entry in entries:
        place, takes_equal, stores = _stores_of(entry)
        for store in stores:
            first, first_place, first_takes_equal = known.setdefault(
                store.name, (store, place, takes_equal)
            )
            is_equal = takes_equal and first_takes_equal and first == store
            if first is not store and not is_equal:
                raise store_named_twice(store.name, first_place, place)


def _refuse_topics_named_twice(entries: Iterable[_Entry]) -> None:
    """Refuses them before anything else does that is named after a topic."""
    known: set[str] = set()
    for entry in entries:
        if not isinstance(entry.what, AddTopic):
            continue
        topic = entry.what.name
        if topic in known:
            raise TopologyError(
                f"two operations would have their repartition topic named {topic!r}; give each "
                "grouping a name of its own, group_by(..., name=...) or group_by_key(name=...), "
                "and each repartition() too, or use one grouped stream for both",
                topic=topic,
            )
        known.add(topic)


def _stores_of(entry: _Entry) -> tuple[str, bool, tuple[StoreBuilder, ...]]:
    """Returns who adds stores, whether equal ones are the same, and the stores."""
    match entry.what:
        case _Processor(add, _, supplied, store):
            own = () if store is None else (store,)
            return f"processor {add.name!r}", False, (*supplied, *own)
        case AddSharedStore(store, processors):
            return f"processors {', '.join(map(repr, processors))}", False, (store,)
        case AddStore(store):
            return "add_state_store()", True, (store,)
        case AddGlobalStore() as added:
            return f"add_global_store() of topic {added.topic!r}", False, (added.store,)
        case _:
            return "", False, ()
