"""A topology as text: the JVM's `describe()`, byte for byte, and a Mermaid flowchart.

Owns the form of both. What is described comes from `topology.physical`, the order of names
from `topology.java_order`.

Source: JVM `InternalTopologyBuilder.TopologyDescription`; kafka-streams reference A8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from thalweg.topology.java_order import described_order


class NodeKind(Enum):
    """What a node does at the edge of the graph, if anything."""

    SOURCE = "Source"
    PROCESSOR = "Processor"
    SINK = "Sink"


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """One node.

    Attributes:
        kind: source, processor or sink.
        name: its name.
        detail: what stands in parentheses: topics, stores, topic or extractor.
        topics: names of the topics it reads or writes, as far as they are known.
        stores: names of its stores.
        successors: its children, in the order of the text.
        predecessors: its parents, in the order of the text.
    """

    kind: NodeKind
    name: str
    detail: str
    topics: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    successors: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.kind.value}: {self.name} ({self.detail})"]
        if self.kind is not NodeKind.SINK:
            lines.append(f"      --> {_names(self.successors)}")
        if self.kind is not NodeKind.SOURCE:
            lines.append(f"      <-- {_names(self.predecessors)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class SubtopologyDescription:
    """Nodes that are connected by calls or by a store; the tasks of one number run them.

    Attributes:
        id: its number.
        nodes: in the order of the text.
        is_global: whether this is a global store with its source, which no task runs.
    """

    id: int
    nodes: tuple[NodeDescription, ...]
    is_global: bool = False

    @classmethod
    def of(
        cls,
        id: int,
        nodes: Sequence[NodeDescription],
        parents: Mapping[str, Sequence[str]],
        *,
        is_global: bool,
    ) -> SubtopologyDescription:
        """Puts nodes and the names behind their arrows in order.

        Args:
            id: the number.
            nodes: without successors and predecessors, in the order they were added.
            parents: node -> its parents, in the order they were given.
            is_global: whether this is a global store.
        """
        order = described_order({node.name: parents[node.name] for node in nodes})
        by_name = {node.name: node for node in nodes}
        arranged = (
            replace(
                by_name[name],
                successors=tuple(order.successors[name]),
                predecessors=tuple(order.predecessors[name]),
            )
            for name in order.nodes
        )
        return cls(id, tuple(arranged), is_global)

    def __str__(self) -> str:
        nodes = "".join(f"    {node}\n" for node in self.nodes)
        if self.is_global:
            return f"Sub-topology: {self.id} for global store (will not generate tasks)\n{nodes}"
        return f"Sub-topology: {self.id}\n{nodes}\n"


@dataclass(frozen=True, slots=True)
class TopologyDescription:
    """A whole topology; `str()` of it is the JVM's text.

    Attributes:
        subtopologies: by number, those of global stores among them.
    """

    subtopologies: tuple[SubtopologyDescription, ...]

    def __str__(self) -> str:
        return "Topologies:\n " + "".join(f"  {part}" for part in self.subtopologies)

    def mermaid(self) -> str:
        """Returns a Mermaid flowchart.

        A frame per subtopology with its nodes, and its stores as barrels on dotted lines;
        topics, which join subtopologies, stand outside.
        """
        lines, edges = ["flowchart TD"], []
        barrels: list[str] = []
        topics: dict[str, str] = {}
        nodes = 0
        for part in self.subtopologies:
            ids = {node.name: f"n{nodes + at}" for at, node in enumerate(part.nodes)}
            nodes += len(ids)
            title = f"Sub-topology {part.id}" + (" (global store)" if part.is_global else "")
            lines.append(f"  subgraph s{part.id}[{_quoted(title)}]")
            stores: dict[str, str] = {}
            for node in part.nodes:
                own = ids[node.name]
                lines.append(f"    {own}{_shape(node)}")
                for store in node.stores:
                    barrel = stores.setdefault(store, f"s{part.id}_{len(stores)}")
                    edges.append(f"  {own} -.- {barrel}")
                for topic in node.topics:
                    queue = topics.setdefault(topic, f"t{len(topics)}")
                    is_source = node.kind is NodeKind.SOURCE
                    edges.append(f"  {queue} --> {own}" if is_source else f"  {own} --> {queue}")
                edges.extend(f"  {own} --> {ids[child]}" for child in node.successors)
            lines.extend(f"    {barrel}[({_quoted(store)})]" for store, barrel in stores.items())
            lines.append("  end")
            barrels.extend(stores.values())
        lines.extend(f"  {queue}[[{_quoted(topic)}]]" for topic, queue in topics.items())
        return "\n".join([*lines, *edges, *_styled(topics.values(), barrels)]) + "\n"


def bracketed(names: Iterable[str]) -> str:
    """Returns names as the JVM prints a set."""
    return f"[{', '.join(names)}]"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _shape(node: NodeDescription) -> str:
    if node.kind is NodeKind.PROCESSOR:
        return f"[{_quoted(node.name)}]"
    if node.topics:
        return f"([{_quoted(node.name)}])"
    return f"([{_quoted(f'{node.name}<br>{node.detail}')}])"


def _styled(topics: Iterable[str], stores: Iterable[str]) -> list[str]:
    """Colours topics and stores, legibly on light and on dark pages."""
    lines = []
    for name, ids, style in (
        ("topic", topics, "fill:#dbeafe,stroke:#2563eb,color:#1e3a5f"),
        ("store", stores, "fill:#fef3c7,stroke:#b45309,color:#5f370e"),
    ):
        if members := ",".join(ids):
            lines += [f"  classDef {name} {style}", f"  class {members} {name}"]
    return lines


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'


def shown_function(extractor: object) -> str:
    """Returns the text of a function, without the address Python would put in."""
    kind = type(extractor)
    name = getattr(extractor, "__qualname__", None)
    if isinstance(name, str):
        return name
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return kind.__qualname__
    return str(extractor)
