"""Turns the nodes of one subtopology into chains of plain function calls for one task.

Owns the order of compilation (children first) and the joining of children; every node
compiles itself. It must not know how records are read, sent or stored: sinks and stores
come from the task's scope.

Source: design, a record's way 3; JVM `InternalTopologyBuilder.buildProcessorNode` has the
same order but builds objects that call each other through a context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from thalweg.topology.operators.operator import (
    NodeScope,
    Process,
    Selection,
    TaskScope,
    join_children,
    nowhere,
)
from thalweg.topology.physical import (
    ProcessorNode,
    SinkNode,
    SourceNode,
    Topology,
)


class CompileScope(TaskScope, Protocol):
    """A task that can also make the end of a chain."""

    def sink(self, node: SinkNode) -> Process:
        """Returns the function that encodes and sends what reaches a sink."""
        ...


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a source's records enter: the source node and the function to call."""

    source: SourceNode
    process: Process


def compile_chains(
    topology: Topology, node_names: Iterable[str], scope: CompileScope
) -> Mapping[str, Chain]:
    """Compiles the named nodes, given parents first, and returns source name -> chain.

    What nodes forward to others than the named ones goes nowhere. Stores of the scope must be
    open: nodes bind their methods now.
    """
    compiled: dict[str, Process] = {}
    past_filter: dict[str, Process] = {}
    selections: dict[str, Selection | None] = {}
    chains: dict[str, Chain] = {}
    for name in reversed(list(node_names)):
        node = topology.nodes[name]
        if isinstance(node, SinkNode):
            compiled[name] = scope.sink(node)
            continue
        children = {child: compiled.get(child, nowhere) for child in topology.children(name)}
        gives = node.node.gives if isinstance(node, ProcessorNode) else node.gives
        forward = join_children(list(children.values()), gives)
        if isinstance(node, SourceNode):
            chains[name] = Chain(node, forward)
            continue
        if node.node.begins_propagation:
            assert node.node.store_name is not None
            forward = scope.propagation.begins_at(node.node.store_name, forward)
        place = NodeScope(name, scope, forward, children, node.stores)
        if len(children) == 1:
            (child,) = children
            place.selection = selections.get(child)
            if node.node.can_drop_null_keys:
                place.drops_null_keys = child in past_filter
                place.forward = past_filter.get(child, forward)
        if node.node.drops_null_keys:
            past_filter[name] = forward
        selections[name] = node.node.selection(place)
        compiled[name] = node.node.compile(place)
    return dict(reversed(chains.items()))
