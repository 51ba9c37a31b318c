"""The physical graph: sources, processors, sinks and the stores they share.

Owns how nodes are added to a graph, and which nodes belong to one subtopology. The rules of a legal
graph are in `topology.checks`. Nodes are kept in the order in which they were added, which
determines subtopology numbers and the order of children. It must not know application ids or
partition counts of existing topics: names of internal topics have no prefix here.

Source: JVM `Topology`, `InternalTopologyBuilder`; kafka-streams reference A1, A7, A8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.callables import arity
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.topology.checks import (
    check_builder,
    check_new,
    check_parents,
    check_unmatched,
    check_unread,
    checked_topics,
    store_named_twice,
)
from thalweg.topology.description import (
    NodeDescription,
    NodeKind,
    SubtopologyDescription,
    TopologyDescription,
    bracketed,
    shown_function,
)
from thalweg.topology.edges import Edge
from thalweg.topology.errors import TopologyError
from thalweg.topology.java_order import set_order
from thalweg.topology.operators.operator import Operator
from thalweg.topology.operators.process import processor_operator, supplied_stores
from thalweg.topology.operators.wrapped import wrapped
from thalweg.topology.processor import (
    AnySupplier,
    AutoOffsetReset,
    ProcessorWrapper,
    StreamPartitioner,
    TimestampExtractor,
    TopicNameExtractor,
    check_extractor,
    check_partitioner,
)
from thalweg.topology.unions import Unions

Topics: TypeAlias = str | Sequence[str] | re.Pattern[str]
"""What a source reads: a topic, several, or all whose whole name matches a pattern."""

_BY_ADD_SOURCE = SerdeHint.of("add_source")
_BY_ADD_SINK = SerdeHint.of("add_sink")
_BY_ADD_GLOBAL_STORE = SerdeHint.of("add_global_store")
_BY_ADD_READ_ONLY_STORE = SerdeHint.of("add_read_only_state_store")


@dataclass(frozen=True, slots=True)
class SourceNode:
    """Reads topics.

    Attributes:
        name: its name.
        topics: the topics, bare where internal; empty if there is a pattern.
        pattern: the topics' names match it as a whole.
        key_serde: None for the application's default, like `value_serde`.
        timestamp_extractor: None for the application's default.
        offset_reset: None for the application's default.
        hint: where its serdes are given, for messages.
        gives: what its children are called with; CHANGE where the topic carries both values of
            each change, and `value_serde` reads one of them.
    """

    kind: ClassVar[NodeKind] = NodeKind.SOURCE
    name: str
    topics: tuple[str, ...]
    pattern: re.Pattern[str] | None = None
    key_serde: Serde[Any] | None = None
    value_serde: Serde[Any] | None = None
    timestamp_extractor: TimestampExtractor | None = None
    offset_reset: AutoOffsetReset | None = None
    hint: SerdeHint = _BY_ADD_SOURCE
    gives: Edge = Edge.RECORD

    @property
    def parents(self) -> tuple[str, ...]:
        """None: a source is where records come from."""
        return ()

    def describe(self) -> NodeDescription:
        """Returns what is printed about it."""
        if self.pattern is not None:
            return NodeDescription(self.kind, self.name, f"topics: {self.pattern.pattern}")
        topics = tuple(set_order(self.topics, copied=True))
        return NodeDescription(self.kind, self.name, f"topics: {bracketed(topics)}", topics=topics)


@dataclass(slots=True)
class ProcessorNode:
    """Handles records.

    Attributes:
        name: its name.
        operator: what it does.
        parents: where its records come from.
        stores: the stores it may use, in the order they were connected.
        wrapped: makes the processors that the user has put around its operator; None without.
    """

    kind: ClassVar[NodeKind] = NodeKind.PROCESSOR
    name: str
    operator: Operator
    parents: tuple[str, ...]
    stores: list[str] = field(default_factory=list)
    wrapped: AnySupplier | None = None

    def describe(self) -> NodeDescription:
        """Returns what is printed about it."""
        stores = tuple(set_order(set_order(self.stores), copied=True))
        return NodeDescription(self.kind, self.name, f"stores: {bracketed(stores)}", stores=stores)


@dataclass(frozen=True, slots=True)
class SinkNode:
    """Writes records to a topic, or to one chosen per record.

    Attributes:
        name: its name.
        topic: the topic, bare if internal; None if there is an extractor.
        extractor: chooses the topic.
        key_serde: None for the application's default, like `value_serde`.
        partitioner: chooses partitions; None for the default one, by the key's bytes.
        parents: where its records come from.
        hint: where its serdes are given, for messages.
        takes: what it is called with; CHANGE where the topic carries both values of each change,
            and `value_serde` writes one of them.
    """

    kind: ClassVar[NodeKind] = NodeKind.SINK
    name: str
    topic: str | None
    extractor: TopicNameExtractor | None = None
    key_serde: Serde[Any] | None = None
    value_serde: Serde[Any] | None = None
    partitioner: StreamPartitioner | None = None
    parents: tuple[str, ...] = ()
    hint: SerdeHint = _BY_ADD_SINK
    takes: Edge = Edge.RECORD

    def describe(self) -> NodeDescription:
        """Returns what is printed about it."""
        if self.topic is None:
            detail = f"extractor class: {shown_function(self.extractor)}"
            return NodeDescription(self.kind, self.name, detail)
        return NodeDescription(self.kind, self.name, f"topic: {self.topic}", topics=(self.topic,))


PhysicalNode: TypeAlias = SourceNode | ProcessorNode | SinkNode


class Topology:
    """A graph put together node by node, parents first. Methods return the topology itself.

    Args:
        processor_wrapper: (name of a processor, supplier) -> supplier, asked of each processor
            that is added; see `ProcessorWrapper`. A `StreamsBuilder` takes it from the
            configuration.

    Attributes:
        nodes: name -> node, in the order added; to be read only, like all of these.
        stores: name -> store of a task.
        global_stores: name -> store that every worker fills from all partitions.
        internal_topics: bare name of each repartition topic -> fixed partition count or None.
        store_topics: store -> source topic it is restored from, in place of a changelog.
        store_fillers: store -> processor that fills it from that topic.
        copartitioned: groups of sources whose topics need equal partition counts.
    """

    def __init__(self, *, processor_wrapper: ProcessorWrapper | None = None) -> None:
        self._processor_wrapper = processor_wrapper
        self.nodes: dict[str, PhysicalNode] = {}
        self.stores: dict[str, StoreBuilder] = {}
        self.global_stores: dict[str, StoreBuilder] = {}
        self.internal_topics: dict[str, int | None] = {}
        self.store_topics: dict[str, str] = {}
        self.store_fillers: dict[str, str] = {}
        self.copartitioned: list[tuple[str, ...]] = []
        self._children: dict[str, list[str]] = {}
        self._kinds: dict[str, NodeKind] = {}
        self._readers: dict[str, str] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._global_nodes: set[str] = set()
        self._users: dict[str, str] = {}
        # Store -> the object it was added as, by whom, and whether no other object will do.
        self._added: dict[str, tuple[StoreBuilder, str, bool]] = {}
        self._unions = Unions()

    def __repr__(self) -> str:
        topics = [
            topic.pattern if isinstance(topic, re.Pattern) else topic
            for node in self.nodes.values()
            if isinstance(node, SourceNode)
            for topic in (node.topics if node.pattern is None else (node.pattern,))
        ]
        parts = [f"{len(self.nodes)} nodes"]
        if topics:
            parts.append(f"from {', '.join(topics)}")
        stores = [*self.stores, *self.global_stores]
        if stores:
            parts.append(f"stores {', '.join(stores)}")
        return f"<Topology: {'; '.join(parts)}>"

    # -- building ------------------------------------------------------------------------

    def add_source(
        self,
        name: str,
        topics: Topics,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
        offset_reset: str | AutoOffsetReset | None = None,
        hint: SerdeHint = _BY_ADD_SOURCE,
        gives: Edge = Edge.RECORD,
    ) -> Self:
        """Adds a node that reads topics.

        Args:
            name: its name.
            topics: a topic, several, or a compiled pattern that whole names match.
            key_serde: how keys are read; the application's default if not given.
            value_serde: how values are read; the application's default if not given.
            timestamp_extractor: gives records their event time.
            offset_reset: where to start without a committed offset: "earliest", "latest",
                "none" or an `AutoOffsetReset`.
            hint: where its serdes are given; for messages.
            gives: whether the topic carries records, or both values of changes.

        Raises:
            TopologyError: a name or topic is taken.
            TypeError: a serde or the extractor is none.
        """
        check_new(name, self.nodes)
        check_extractor(timestamp_extractor, f"source {name!r}")
        pattern = topics if isinstance(topics, re.Pattern) else None
        names = () if isinstance(topics, re.Pattern) else checked_topics(name, topics)
        if pattern is None:
            check_unread(name, names, self._readers, self._patterns, self.internal_topics)
        else:
            check_unmatched(name, pattern, self._readers, self.internal_topics)
        self._put(
            SourceNode(
                name,
                names,
                pattern,
                serde_of(key_serde, f"key_serde of source {name!r}"),
                serde_of(value_serde, f"value_serde of source {name!r}"),
                timestamp_extractor,
                AutoOffsetReset.of(offset_reset),
                hint,
                gives,
            )
        )
        return self

    def add_processor(self, name: str, supplier: AnySupplier | Operator, *parents: str) -> Self:
        """Adds a node that handles records.

        Args:
            name: its name.
            supplier: makes a new processor at each call; a class without arguments will do.
                An attribute `stores` names stores to add and connect.
            parents: names of the nodes whose records it handles.

        Raises:
            TopologyError: the name is taken, a parent is missing, or the supplier returns
                one object twice.
        """
        check_new(name, self.nodes)
        check_parents(name, parents, self._kinds, self._global_nodes)
        stores: list[StoreBuilder] = []
        if isinstance(supplier, Operator):
            operator = supplier
        else:
            operator = processor_operator(name, supplier)
            stores += supplied_stores(supplier)
        outer: AnySupplier | None = None
        if self._processor_wrapper is not None:
            operator, outer, added = wrapped(name, operator, self._processor_wrapper)
            stores += added
        self._put(ProcessorNode(name, operator, parents, wrapped=outer))
        for builder in stores:
            check_builder(builder)
            self._note_store(builder, f"processor {name!r}", exact=True)
            self.stores[builder.name] = builder
            self._connect(name, builder.name)
        return self

    def add_sink(
        self,
        name: str,
        topic: str | TopicNameExtractor,
        *parents: str,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        partitioner: StreamPartitioner | None = None,
        hint: SerdeHint = _BY_ADD_SINK,
        takes: Edge = Edge.RECORD,
    ) -> Self:
        """Adds a node that writes records.

        Args:
            name: its name.
            topic: a topic, or a function of (key, value, context) that chooses one.
            parents: names of the nodes whose records it writes.
            key_serde: how keys are written; the application's default if not given.
            value_serde: how values are written; the application's default if not given.
            partitioner: chooses partitions; the default is by the key's bytes.
            hint: where its serdes are given; for messages.
            takes: whether the topic carries records, or both values of changes.

        Raises:
            TopologyError: the name is taken or a parent is missing.
            TypeError: a serde, the partitioner or the topic is none.
        """
        check_new(name, self.nodes)
        check_parents(name, parents, self._kinds, self._global_nodes)
        extractor = None if isinstance(topic, str) else topic
        if extractor is not None and not callable(extractor):
            raise TypeError(f"sink {name!r} needs a topic or a function choosing one: {topic!r}")
        if extractor is not None:
            arity(extractor, {3: "key, value, context"}, f"the topic of sink {name!r}")
        check_partitioner(partitioner, f"sink {name!r}")
        if not topic:
            raise ValueError(f"sink {name!r} needs the name of a topic, got an empty one")
        self._put(
            SinkNode(
                name,
                topic if isinstance(topic, str) else None,
                extractor,
                serde_of(key_serde, f"key_serde of sink {name!r}"),
                serde_of(value_serde, f"value_serde of sink {name!r}"),
                partitioner,
                parents,
                hint,
                takes,
            )
        )
        return self

    def add_state_store(self, builder: StoreBuilder, *processors: str) -> Self:
        """Adds a store and connects processors with it.

        Processors of one store come into one subtopology. The same store may be added again.

        Raises:
            TopologyError: another store has this name, or a processor is missing.
        """
        check_builder(builder)
        users = " and ".join(repr(processor) for processor in processors)
        self._note_store(builder, f"processor {users}" if users else "add_state_store()")
        self.stores[builder.name] = builder
        for processor in processors:
            self._connect(processor, builder.name)
        return self

    def connect_processor_and_state_stores(self, processor: str, *stores: str) -> Self:
        """Lets a processor use stores that were added before.

        Raises:
            TopologyError: the processor or a store is missing.
        """
        if not stores:
            raise TopologyError(
                f"no store is given to connect processor {processor!r} with; name at least one",
                node=processor,
            )
        for store in stores:
            self._connect(processor, store)
        return self

    def add_global_store(
        self,
        builder: StoreBuilder,
        source_name: str,
        topic: str,
        processor_name: str,
        supplier: AnySupplier | Operator,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
    ) -> Self:
        """Adds a store that every worker fills from all partitions of a topic.

        All processors may read it without being connected.

        Args:
            builder: the store, without logging: its topic is its changelog.
            source_name: name of the source.
            topic: the topic.
            processor_name: name of the processor.
            supplier: makes the processor that updates the store.
            key_serde: how keys are read; the application's default if not given.
            value_serde: how values are read; the application's default if not given.
            timestamp_extractor: gives records their event time.

        Raises:
            TopologyError: a name or the topic is taken, or the store is logged.
        """
        check_builder(builder)
        check_new(source_name, self.nodes)
        check_new(processor_name, self.nodes)
        if source_name == processor_name:
            raise TopologyError(
                f"source and processor of global store {builder.name!r} are both named "
                f"{source_name!r}; give each node a name of its own",
                node=source_name,
            )
        place = f"global processor {processor_name!r}"
        if builder.name in self._added:
            raise store_named_twice(builder.name, self._added[builder.name][1], place)
        if builder.logged:
            raise TopologyError(
                f"global store {builder.name!r} must not be logged, its topic {topic!r} is its "
                "changelog; add it with without_logging()",
                topic=topic,
            )
        (topic,) = checked_topics(source_name, topic)
        check_unread(source_name, (topic,), self._readers, self._patterns, self.internal_topics)
        operator = (
            supplier
            if isinstance(supplier, Operator)
            else processor_operator(processor_name, supplier)
        )
        check_extractor(timestamp_extractor, f"source {source_name!r}")
        self._put(
            SourceNode(
                source_name,
                (topic,),
                None,
                serde_of(key_serde, f"key_serde of source {source_name!r}"),
                serde_of(value_serde, f"value_serde of source {source_name!r}"),
                timestamp_extractor,
                hint=_BY_ADD_GLOBAL_STORE,
            )
        )
        self._put(ProcessorNode(processor_name, operator, (source_name,), [builder.name]))
        self._global_nodes.update((source_name, processor_name))
        self._note_store(builder, place)
        self.global_stores[builder.name] = builder
        self.store_topics[builder.name] = topic
        return self

    def add_read_only_state_store(
        self,
        builder: StoreBuilder,
        source_name: str,
        topic: str,
        processor_name: str,
        supplier: AnySupplier | Operator,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp_extractor: TimestampExtractor | None = None,
    ) -> Self:
        """Adds a store that is filled from a topic, and restored from it.

        The topic should be compacted. It is read from its beginning. To restore the store the
        processor handles the records again: what it forwards goes nowhere then, and other
        stores it is connected with are not changed. See `add_global_store` for the arguments.
        """
        check_builder(builder)
        self.add_source(
            source_name,
            topic,
            key_serde=key_serde,
            value_serde=value_serde,
            timestamp_extractor=timestamp_extractor,
            offset_reset=AutoOffsetReset.earliest(),
            hint=_BY_ADD_READ_ONLY_STORE,
        )
        self.add_processor(processor_name, supplier, source_name)
        self._note_store(builder, f"processor {processor_name!r}")
        self.stores[builder.name] = builder.without_logging()
        self._connect(processor_name, builder.name)
        return self.connect_source_store_and_topic(builder.name, topic, processor_name)

    # -- building, for the DSL -----------------------------------------------------------

    def add_internal_topic(self, name: str, partitions: int | None) -> Self:
        """Declares a topic between subtopologies, which the runtime creates.

        Args:
            name: bare name: the runtime puts the application's id in front.
            partitions: a fixed partition count; None leaves it to the runtime.

        Raises:
            TopologyError: it has been declared with another count.
        """
        if partitions is not None and partitions < 1:
            raise ValueError(f"topic {name!r} needs at least 1 partition, got {partitions}")
        known = self.internal_topics.setdefault(name, partitions)
        if known != partitions:
            raise TopologyError(
                f"internal topic {name!r} is declared with {_count(known)} and with "
                f"{_count(partitions)}; give it one count or another name",
                topic=name,
            )
        return self

    def copartition(self, sources: Iterable[str]) -> Self:
        """Demands equal partition counts of the topics of these sources.

        Names that are no source are skipped: the JVM does so with sources that were merged
        into others.

        Raises:
            TopologyError: all of the topics have fixed counts, and these differ.
        """
        group = tuple(dict.fromkeys(sources))
        topics = [topic for name in group for topic in self.source_topics(name)]
        counts = {topic: self.internal_topics.get(topic) for topic in topics}
        if None not in counts.values() and len(set(counts.values())) > 1:
            shown = ", ".join(f"{topic}: {count}" for topic, count in sorted(counts.items()))
            raise TopologyError(
                f"topics that are joined need the same number of partitions ({shown}), as they are "
                f"read by {' and '.join(group)}; give repartition(partitions=...) one number",
                node=group[0],
            )
        self.copartitioned.append(group)
        return self

    def connect_source_store_and_topic(
        self, store: str, topic: str, filler: str | None = None
    ) -> Self:
        """Makes a source topic the changelog of an unlogged store.

        Args:
            store: the store.
            topic: a topic that a source reads.
            filler: the processor that fills the store, which handles the topic's records again
                when the store is restored; the first one it was connected with if not given.

        Raises:
            TopologyError: the store is missing or has such a topic already, or the topic has
                a store.
        """
        if store not in self.stores:
            raise TopologyError(f"store {store!r} is not added yet; add it first", topic=topic)
        if store in self.store_topics:
            raise TopologyError(
                f"store {store!r} is already restored from topic {self.store_topics[store]!r}; "
                "a store has one source topic",
                topic=topic,
            )
        other = next((name for name, known in self.store_topics.items() if known == topic), None)
        if other is not None:
            raise TopologyError(
                f"topic {topic!r} restores store {other!r} already; a topic is the changelog of "
                f"one store: give {store!r} a changelog of its own",
                topic=topic,
            )
        self.store_topics[store] = topic
        filler = filler or self._users.get(store)
        if filler is not None:
            self.store_fillers[store] = filler
        return self

    # -- reading -------------------------------------------------------------------------

    def children(self, name: str) -> tuple[str, ...]:
        """Returns the names of a node's children in the order they were added."""
        return tuple(self._children[name])

    def source_topics(self, name: str) -> tuple[str, ...]:
        """Returns the topics a source names, nothing if it is a pattern or no source."""
        node = self.nodes.get(name)
        return node.topics if isinstance(node, SourceNode) else ()

    def is_global(self, name: str) -> bool:
        """Tells whether a node belongs to a global store."""
        return name in self._global_nodes

    def groups(self) -> list[tuple[str, ...]]:
        """Returns the names of each subtopology's nodes, in the order they were added.

        The place in the list is the subtopology's number; global stores have one, too.
        """
        groups: dict[str, list[str]] = {}
        for name in self.nodes:
            groups.setdefault(self._unions.root(name), []).append(name)
        return [tuple(names) for names in groups.values()]

    def describe(self) -> TopologyDescription:
        """Returns the topology for people to read: `str()` of it, or its `mermaid()`."""
        parents = {name: node.parents for name, node in self.nodes.items()}
        return TopologyDescription(
            tuple(
                SubtopologyDescription.of(
                    number,
                    [self.nodes[name].describe() for name in names],
                    parents,
                    is_global=self.is_global(names[0]),
                )
                for number, names in enumerate(self.groups())
            )
        )

    # -- rules ---------------------------------------------------------------------------

    def _note_store(self, builder: StoreBuilder, place: str, *, exact: bool = False) -> None:
        """Refuses a name that another store has.

        Args:
            builder: the store.
            place: who adds it.
            exact: take only the same object for the same store, not one that is equal to it.
        """
        known, first, is_exact = self._added.setdefault(builder.name, (builder, place, exact))
        is_same = known is builder or (known == builder and not exact and not is_exact)
        if not is_same or builder.name in self.global_stores:
            raise store_named_twice(builder.name, first, place)

    def _put(self, node: PhysicalNode) -> None:
        name = node.name
        self.nodes[name] = node
        self._kinds[name] = node.kind
        self._children[name] = []
        self._unions.add(name)
        for parent in node.parents:
            self._children[parent].append(name)
            self._unions.unite(name, parent)
        if isinstance(node, SourceNode):
            self._readers.update(dict.fromkeys(node.topics, name))
            if node.pattern is not None:
                self._patterns[name] = node.pattern

    def _connect(self, processor: str, store: str) -> None:
        if store in self.global_stores:
            raise TopologyError(
                f"processor {processor!r} need not be connected with global store {store!r}, all "
                "processors may read it; leave it out",
                node=processor,
            )
        if store not in self.stores:
            raise TopologyError(
                f"store {store!r} of processor {processor!r} is not added yet; "
                "call add_state_store first",
                node=processor,
            )
        node = self.nodes.get(processor)
        if node is None:
            raise TopologyError(
                f"processor {processor!r} of store {store!r} is not added yet; add it first",
                node=processor,
            )
        if not isinstance(node, ProcessorNode) or self.is_global(processor):
            raise TopologyError(
                f"store {store!r} cannot be connected with {processor!r}, which is not a "
                "processor of a task; connect it with a processor",
                node=processor,
            )
        if store not in node.stores:
            node.stores.append(store)
        self._unions.unite(self._users.setdefault(store, processor), processor)


def _count(partitions: int | None) -> str:
    return "no fixed partition count" if partitions is None else f"{partitions} partitions"
