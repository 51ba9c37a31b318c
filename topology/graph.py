"""The logical graph: what the DSL's calls build up before there is a topology.

Owns the one counter behind all generated names, the nodes in order of creation, the merging
of sources of the same topics, the rewrite that lets null keys through repartition filters
ahead of left joins, and the writing of all nodes into a `Topology`. It must not know
streams, tables or serdes; its nodes carry specs of `topology.operators`.

The order of everything here decides names and subtopology numbers, which a group shares
with JVM members; it follows JVM `InternalStreamsBuilder` and the nodes of
`kstream.internals.graph`.
"""

from __future__ import annotations

import heapq
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.serde import Serde, SerdeHint
from thalweg.topology.edges import Edge
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.operator import Operator
from thalweg.topology.operators.process import ProcessorApiOperator
from thalweg.topology.operators.stateless import NullKeyFilter, PassThrough
from thalweg.topology.operators.table import TableOperator
from thalweg.topology.physical import Topology, store_named_twice
from thalweg.topology.processor import fail_on_invalid_timestamp
from thalweg.topology.self_joins import settle_self_joins

REUSE_SOURCE_TOPICS = "reuse.ktable.source.topics"
MERGE_REPARTITION_TOPICS = "merge.repartition.topics"
SINGLE_STORE_SELF_JOIN = "single.store.self.join"
_OPTIMIZATIONS = frozenset({REUSE_SOURCE_TOPICS, MERGE_REPARTITION_TOPICS, SINGLE_STORE_SELF_JOIN})
_LAST_LEGACY_CHANGES = (3, 4)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The part of an application's configuration that shapes its topology.

    Attributes:
        optimizations: rewrites to apply, by their JVM names.
        legacy_changes: write changes of grouped tables as versions up to 3.4 read them.
        explicit_names: refuse generated names of stores and topics.
    """

    optimizations: frozenset[str] = frozenset()
    legacy_changes: bool = False
    explicit_names: bool = False

    @classmethod
    def of(cls, config: Any, optimize: str | Collection[str] | None = None) -> BuildOptions:
        """Reads the options from a configuration.

        Args:
            config: None, a mapping by the JVM's names or their snake_case, or an object with
                snake_case attributes.
            optimize: "all", "none" or names of rewrites; wins over the configuration.

        Raises:
            TopologyError: if a rewrite or version is not known.
        """
        if optimize is None:
            optimize = _setting(config, "topology.optimization")
        upgrade_from = _setting(config, "upgrade.from")
        explicit = _setting(config, "ensure.explicit.internal.resource.naming")
        return cls(
            _optimizations(optimize),
            upgrade_from is not None and _is_legacy(str(upgrade_from)),
            str(explicit).lower() == "true",
        )


def _setting(config: Any, name: str) -> Any:
    snake = name.replace(".", "_")
    if isinstance(config, Mapping):
        return config.get(name, config.get(snake))
    return getattr(config, snake, None)


def _optimizations(given: str | Collection[str] | None) -> frozenset[str]:
    if given is None:
        return frozenset()
    names = given.split(",") if isinstance(given, str) else given
    wanted = frozenset(name.strip() for name in names) - {"", "none"}
    if "all" in wanted:
        return _OPTIMIZATIONS
    unknown = wanted - _OPTIMIZATIONS
    if unknown:
        raise TopologyError(
            f"topology_optimization {', '.join(sorted(unknown))} is not known; use all, none or "
            f"some of {', '.join(sorted(_OPTIMIZATIONS))}"
        )
    return wanted


def _is_legacy(version: str) -> bool:
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        raise TopologyError(
            f'upgrade.from {version!r} is not a version; write it like "3.4"'
        ) from None
    return (major, minor) <= _LAST_LEGACY_CHANGES


class GraphNode(ABC):
    """A step of the logical graph; most become one processor."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Dicts as ordered sets: a node may be added below a parent twice and counts once.
        self.parents: dict[GraphNode, None] = {}
        self.children: dict[GraphNode, None] = {}
        self.priority = 0
        self.takes_null_keys = False
        """Whether it is a left join, for which records without a key must arrive."""

    def add_child(self, child: GraphNode) -> None:
        """Puts `child` below this node."""
        self.children[child] = None
        child.parents[self] = None

    def remove_child(self, child: GraphNode) -> None:
        """Takes `child` from below this node."""
        del self.children[child]
        del child.parents[self]

    def parent_names(self) -> tuple[str, ...]:
        """Returns the parents' names in the order they were added."""
        return tuple(parent.name for parent in self.parents)

    @abstractmethod
    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds what this node stands for to `topology`."""

    def generated_names(self, is_generated: Callable[[str], bool]) -> Iterable[str]:
        """Returns the stores and topics of this node that have a generated name."""
        return ()

    takes_equal_stores = False
    """Whether a store it adds is the same as an equal one, not only as the same object."""

    def own_stores(self) -> Iterable[StoreBuilder]:
        """Returns the stores that this node adds."""
        return ()

    @property
    def place(self) -> str:
        """Where a store of it comes from, in messages."""
        return f"processor {self.name!r}"


class RootNode(GraphNode):
    """Above all sources."""

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds nothing."""


class SourceGraphNode(GraphNode):
    """A stream of topics."""

    def __init__(
        self,
        name: str,
        topics: Sequence[str] | re.Pattern[str],
        *,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        timestamp_extractor: Any,
        offset_reset: Any,
        hint: SerdeHint,
    ) -> None:
        super().__init__(name)
        self.hint = hint
        self.topics = topics if isinstance(topics, re.Pattern) else tuple(dict.fromkeys(topics))
        self.key_serde = key_serde
        self.value_serde = value_serde
        self.timestamp_extractor = timestamp_extractor
        self.offset_reset = offset_reset

    def merge(self, other: SourceGraphNode) -> None:
        """Takes over the children of another source of the same topics."""
        if self.offset_reset != other.offset_reset:
            raise TopologyError(
                f"sources {self.name} and {other.name} read the same topics with different "
                f"offset resets, {self.offset_reset} and {other.offset_reset}; use one of them",
                node=other.name,
            )
        for child in list(other.children):
            other.remove_child(child)
            self.add_child(child)

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds the source."""
        topics = self.topics
        topology.add_source(
            self.name,
            topics if isinstance(topics, re.Pattern) else list(topics),
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            timestamp_extractor=self.timestamp_extractor,
            offset_reset=self.offset_reset,
            hint=self.hint,
        )


class TableSourceGraphNode(SourceGraphNode):
    """A table of a topic: its source, its processor and, where one is needed, its store."""

    def __init__(
        self,
        name: str,
        source_name: str,
        topic: str,
        node: TableOperator,
        store: StoreBuilder,
        **source: Any,
    ) -> None:
        super().__init__(name, (topic,), **source)
        self.source_name = source_name
        self.topic = topic
        self.node = node
        self.store = store

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds source, processor and store."""
        topology.add_source(
            self.source_name,
            [self.topic],
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            timestamp_extractor=self.timestamp_extractor,
            offset_reset=self.offset_reset,
            hint=self.hint,
        )
        topology.add_processor(self.name, self.node, self.source_name)
        if self.node.store_name is None:
            return
        if REUSE_SOURCE_TOPICS in options.optimizations:
            topology.add_state_store(self.store.without_logging(), self.name)
            topology.connect_source_store_and_topic(self.store.name, self.topic, self.name)
        else:
            topology.add_state_store(self.store, self.name)

    def generated_names(self, is_generated: Callable[[str], bool]) -> Iterable[str]:
        """Returns the store, if there is one and its name is generated."""
        if self.node.store_name is not None and is_generated(self.store.name):
            yield f"store {self.store.name}"

    def own_stores(self) -> Iterable[StoreBuilder]:
        """Returns the table's store, if there is one."""
        return () if self.node.store_name is None else (self.store,)


class ProcessorGraphNode(GraphNode):
    """One processor.

    Args:
        name: its name.
        node: what it does.
        store: a store of its own.
        stores: stores that are added elsewhere, to connect it with.
        lazy_store: add `store` only if `node` has taken its name by the time of writing.
    """

    def __init__(
        self,
        name: str,
        node: Operator,
        *,
        store: StoreBuilder | None = None,
        stores: Sequence[str] = (),
        lazy_store: bool = False,
    ) -> None:
        super().__init__(name)
        self.node = node
        self.store = store
        self.stores = tuple(stores)
        self.lazy_store = lazy_store

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds the processor with its stores."""
        topology.add_processor(self.name, self.node, *self.parent_names())
        for builder in _supplied_stores(self.node):
            topology.add_state_store(builder, self.name)
        if self.stores:
            topology.connect_processor_and_state_stores(self.name, *self.stores)
        store = self.written_store()
        if store is not None:
            topology.add_state_store(store, self.name)

    def written_store(self) -> StoreBuilder | None:
        """Returns the processor's own store if the topology is to have it."""
        if (
            self.lazy_store
            and isinstance(self.node, TableOperator)
            and self.node.store_name is None
        ):
            return None
        return self.store

    def generated_names(self, is_generated: Callable[[str], bool]) -> Iterable[str]:
        """Returns the processor's own store if its name is generated."""
        store = self.written_store()
        if store is not None and is_generated(store.name):
            yield f"store {store.name}"

    def own_stores(self) -> Iterable[StoreBuilder]:
        """Returns what its supplier brings along, and its own store."""
        store = self.written_store()
        return (*_supplied_stores(self.node), *(() if store is None else (store,)))


def _supplied_stores(node: Operator) -> Iterable[StoreBuilder]:
    """Returns the stores that a user's processor supplier brings along (KIP-401)."""
    if not isinstance(node, ProcessorApiOperator):
        return ()
    stores: Any = getattr(node.supplier, "stores", None)
    if callable(stores):
        stores = stores()
    return stores or ()


class GroupedTableSelectGraphNode(GraphNode):
    """The choice of a group for both halves of a table's change.

    Args:
        name: its name.
        make: makes the processor, given whether changes are written the legacy way.
    """

    def __init__(self, name: str, make: Callable[[bool], Operator]) -> None:
        super().__init__(name)
        self.make = make

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds the processor."""
        topology.add_processor(self.name, self.make(options.legacy_changes), *self.parent_names())


class SinkGraphNode(GraphNode):
    """The end of a stream in a topic."""

    def __init__(
        self,
        name: str,
        topic: Any,
        *,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        partitioner: Any,
        hint: SerdeHint,
    ) -> None:
        super().__init__(name)
        self.hint = hint
        self.topic = topic
        self.key_serde = key_serde
        self.value_serde = value_serde
        self.partitioner = partitioner

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds the sink."""
        topology.add_sink(
            self.name,
            self.topic,
            *self.parent_names(),
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            partitioner=self.partitioner,
            hint=self.hint,
        )


@dataclass(frozen=True, slots=True)
class RepartitionNames:
    """What a repartition of a stream is called, in its parts."""

    topic: str
    sink: str
    filter: str
    source: str


class RepartitionGraphNode(GraphNode):
    """A way through an internal topic: a filter of null keys, a sink and a source.

    Args:
        names: names of its parts; the node itself is called like its source.
        key_serde: how keys are written and read.
        value_serde: how values are written and read.
        partitions: partition count of the topic; None leaves it to the runtime.
        partitioner: chooses partitions; None for the default one.
        hint: where its serdes are given.
    """

    def __init__(
        self,
        names: RepartitionNames,
        *,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        partitions: int | None = None,
        partitioner: Any = None,
        hint: SerdeHint,
    ) -> None:
        super().__init__(names.source)
        self.hint = hint
        self.names = names
        self.key_serde = key_serde
        self.value_serde = value_serde
        self.partitions = partitions
        self.partitioner = partitioner
        self.drops_null_keys = False

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds topic, filter, sink and source."""
        names = self.names
        topology.add_internal_topic(names.topic, self.partitions)
        keep: Operator = NullKeyFilter() if self.drops_null_keys else PassThrough()
        topology.add_processor(names.filter, keep, *self.parent_names())
        topology.add_sink(
            names.sink,
            names.topic,
            names.filter,
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            partitioner=self.partitioner,
            hint=self.hint,
        )
        topology.add_source(
            names.source,
            [names.topic],
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            timestamp_extractor=fail_on_invalid_timestamp,
            hint=self.hint,
        )

    def generated_names(self, is_generated: Callable[[str], bool]) -> Iterable[str]:
        """Returns the topic if its name is generated."""
        if is_generated(self.names.topic):
            yield f"repartition topic {self.names.topic}"


class GroupedTableRepartitionGraphNode(GraphNode):
    """A way through an internal topic for the changes of a grouped table; no filter."""

    def __init__(
        self,
        topic: str,
        sink_name: str,
        source_name: str,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
    ) -> None:
        super().__init__(source_name)
        self.hint = SerdeHint.of("group_by")
        self.topic = topic
        self.sink_name = sink_name
        self.key_serde = key_serde
        self.value_serde = value_serde

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds topic, sink and source."""
        topology.add_internal_topic(self.topic, None)
        topology.add_sink(
            self.sink_name,
            self.topic,
            *self.parent_names(),
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            hint=self.hint,
            takes=Edge.CHANGE,
        )
        topology.add_source(
            self.name,
            [self.topic],
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            timestamp_extractor=fail_on_invalid_timestamp,
            hint=self.hint,
            gives=Edge.CHANGE,
        )

    def generated_names(self, is_generated: Callable[[str], bool]) -> Iterable[str]:
        """Returns the topic if its name is generated."""
        if is_generated(self.topic):
            yield f"repartition topic {self.topic}"


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One side of a table-table join: its processor, the table it follows, what it reads."""

    name: str
    node: Operator
    parent: str
    stores: tuple[str, ...]


class TableJoinGraphNode(GraphNode):
    """A join of two tables: a processor per side, and the one that brings them together."""

    def __init__(
        self,
        name: str,
        this: JoinSide,
        other: JoinSide,
        merge: Operator,
        store: StoreBuilder | None,
    ) -> None:
        super().__init__(name)
        self.sides = (this, other)
        self.merge = merge
        self.store = store

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds the three processors and connects them with both tables' stores."""
        for side in self.sides:
            topology.add_processor(side.name, side.node, side.parent)
        topology.add_processor(self.name, self.merge, *(side.name for side in self.sides))
        for side in self.sides:
            topology.connect_processor_and_state_stores(side.name, *side.stores)
        if self.store is not None:
            topology.add_state_store(self.store, self.name)

    def generated_names(self, is_generated: Callable[[str], bool]) -> Iterable[str]:
        """Returns the store if its name is generated."""
        if self.store is not None and is_generated(self.store.name):
            yield f"store {self.store.name}"

    def own_stores(self) -> Iterable[StoreBuilder]:
        """Returns the store of the result, if there is one."""
        return () if self.store is None else (self.store,)


class StateStoreGraphNode(GraphNode):
    """A store added by the user; processors name it."""

    takes_equal_stores = True

    def __init__(self, store: StoreBuilder) -> None:
        super().__init__(store.name)
        self.store = store

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds the store."""
        topology.add_state_store(self.store)

    def own_stores(self) -> Iterable[StoreBuilder]:
        """Returns the store."""
        return (self.store,)

    @property
    def place(self) -> str:
        """The call that adds the store, in messages."""
        return "add_state_store()"


class GlobalStoreGraphNode(GraphNode):
    """A store fed from all partitions of a topic in every worker."""

    def __init__(
        self,
        store: StoreBuilder,
        source_name: str,
        topic: str,
        processor_name: str,
        supplier: Any,
        **source: Any,
    ) -> None:
        super().__init__(store.name)
        self.store = store.without_logging()
        self.source_name = source_name
        self.topic = topic
        self.processor_name = processor_name
        self.supplier = supplier
        self.source = source

    def write(self, topology: Topology, options: BuildOptions) -> None:
        """Adds source, processor and store."""
        topology.add_global_store(
            self.store,
            self.source_name,
            self.topic,
            self.processor_name,
            self.supplier,
            **self.source,
        )

    def own_stores(self) -> Iterable[StoreBuilder]:
        """Returns the store."""
        return (self.store,)

    @property
    def place(self) -> str:
        """The call that adds the store, in messages."""
        return f"add_global_store() of topic {self.topic!r}"


class LogicalGraph:
    """All nodes of one builder, and the counter behind their names."""

    def __init__(self) -> None:
        self.root = RootNode("root")
        self._counter = 0
        self._next_priority = 0
        self._generated: set[str] = set()
        self._copartitioned: list[tuple[str, ...]] = []

    def new_name(self, prefix: str) -> str:
        """Makes a name of `prefix` and the next number."""
        name = f"{prefix}{self._counter:010d}"
        self._counter += 1
        return name

    def new_store_name(self, prefix: str) -> str:
        """Makes a store name of `prefix` and the next number."""
        name = self.new_name(prefix + "STATE-STORE-")
        self._generated.add(name)
        return name

    def name_or_new(self, given: str | None, prefix: str, suffix: str = "") -> str:
        """Returns the given name with `suffix`, or makes one.

        The number is used up in either case: naming one node must not renumber the others.
        """
        made = self.new_name(prefix)
        return made if given is None else given + suffix

    def repartition_names(self, base: str) -> RepartitionNames:
        """Names the parts of a repartition; always uses up three numbers."""
        topic = base if base.endswith("-repartition") else base + "-repartition"
        sink = self.new_name("KSTREAM-SINK-")
        keep = self.new_name("KSTREAM-FILTER-")
        source = self.new_name("KSTREAM-SOURCE-")
        if re.fullmatch(r"KSTREAM.*-[0-9]{10}", base):
            self._generated.add(topic)
            return RepartitionNames(topic, sink, keep, source)
        return RepartitionNames(topic, topic + "-sink", topic + "-filter", topic + "-source")

    def add(self, node: GraphNode, *parents: GraphNode) -> None:
        """Puts a node below its parents, or below the root; a node added again moves back."""
        for parent in parents or (self.root,):
            parent.add_child(node)
            node.priority = self._next_priority
            self._next_priority += 1

    def copartition(self, sources: Iterable[str]) -> None:
        """Demands equal partition counts of the topics of these source nodes."""
        self._copartitioned.append(tuple(dict.fromkeys(sources)))

    def is_generated(self, name: str) -> bool:
        """Tells whether a store or topic name was made by the counter."""
        return name in self._generated or name.removesuffix("-repartition") in self._generated

    def build(self, options: BuildOptions) -> Topology:
        """Writes everything into a new topology.

        Raises:
            TopologyError: if the graph is not a legal topology.
        """
        unsupported = options.optimizations - {REUSE_SOURCE_TOPICS}
        if unsupported:
            raise TopologyError(
                f"topology_optimization {', '.join(sorted(unsupported))} is not supported yet; "
                f"use {REUSE_SOURCE_TOPICS} or none"
            )
        self._merge_sources()
        self._let_null_keys_through()
        order = self._in_order()
        if options.explicit_names:
            self._refuse_generated_names(order)
        _refuse_stores_named_twice(order)
        topology = Topology()
        for node in order:
            node.write(topology, options)
        for sources in self._copartitioned:
            topology.copartition(list(sources))
        settle_self_joins(topology)
        return topology

    def _in_order(self) -> list[GraphNode]:
        """Returns the nodes by priority, but none before its parents."""
        written: dict[GraphNode, None] = {}
        # The second entry keeps the heap from comparing nodes.
        queue: list[tuple[int, int, GraphNode]] = [(-1, 0, self.root)]
        offered = 1
        while queue:
            node = heapq.heappop(queue)[2]
            if node in written or any(parent not in written for parent in node.parents):
                continue
            written[node] = None
            for child in node.children:
                heapq.heappush(queue, (child.priority, offered, child))
                offered += 1
        return list(written)

    def _merge_sources(self) -> None:
        """Joins sources of the same topics into one node; overlapping ones are refused."""
        by_pattern: dict[tuple[str, int], SourceGraphNode] = {}
        by_topic: dict[str, SourceGraphNode] = {}
        for node in list(self.root.children):
            if not isinstance(node, SourceGraphNode) or isinstance(node, TableSourceGraphNode):
                continue
            topics = node.topics
            if isinstance(topics, re.Pattern):
                first = by_pattern.setdefault((topics.pattern, topics.flags), node)
            else:
                first = node
                for topic in topics:
                    first = by_topic.setdefault(topic, node)
                    if first is not node:
                        break
                if set(topics) != set(_names(first)):
                    raise TopologyError(
                        f"sources {first.name} and {node.name} are subscribed to overlapping but "
                        f"not equal input topics, {sorted(_names(first))} and {sorted(topics)}; "
                        "read each topic in a stream of its own and merge the streams",
                        node=node.name,
                    )
            if first is not node:
                first.merge(node)
                self.root.remove_child(node)

    def _let_null_keys_through(self) -> None:
        """Makes repartitions drop null keys, but for those ahead of a left join."""
        needed: dict[GraphNode, bool] = {}
        for node in reversed(self._in_order()):
            needed[node] = any(child.takes_null_keys or needed[child] for child in node.children)
            if isinstance(node, RepartitionGraphNode):
                node.drops_null_keys = not needed[node]

    def _refuse_generated_names(self, order: Iterable[GraphNode]) -> None:
        found = [name for node in order for name in node.generated_names(self.is_generated)]
        if found:
            raise TopologyError(
                "ensure.explicit.internal.resource.naming is set, but these have generated names: "
                f"{', '.join(found)}; give the operations a name"
            )


def _refuse_stores_named_twice(order: Iterable[GraphNode]) -> None:
    """Refuses them before anything else does that is named after a store."""
    known: dict[str, tuple[StoreBuilder, GraphNode]] = {}
    for node in order:
        for store in node.own_stores():
            first, other = known.setdefault(store.name, (store, node))
            takes_equal = node.takes_equal_stores and other.takes_equal_stores
            if first is not store and not (takes_equal and first == store):
                raise store_named_twice(store.name, other.place, node.place)


def _names(source: SourceGraphNode) -> tuple[str, ...]:
    return () if isinstance(source.topics, re.Pattern) else source.topics


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the graph a stream or table stands, so where its next operation goes.

    Attributes:
        graph: the graph.
        name: name of the processor whose output this is.
        node: the graph node of that processor.
        sources: the source nodes above it in its subtopology, for copartitioning.
    """

    graph: LogicalGraph
    name: str
    node: GraphNode
    sources: tuple[str, ...]

    def then(self, node: GraphNode) -> Place:
        """Puts a node below this place and returns the place of that node."""
        self.graph.add(node, self.node)
        return Place(self.graph, node.name, node, self.sources)

    def copartition_with(self, other: Place) -> tuple[str, ...]:
        """Demands equal partition counts here and there; returns the sources of both."""
        if other.graph is not self.graph:
            raise TopologyError(
                f"{self.name} and {other.name} belong to different builders; make both with one",
                node=self.name,
            )
        both = tuple(dict.fromkeys(self.sources + other.sources))
        self.graph.copartition(both)
        return both
