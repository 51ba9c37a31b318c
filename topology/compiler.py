"""Turns the nodes of one subtopology into chains of plain function calls for one task.

Owns the order of compilation (children first) and the connection to the children. Every operator
compiles itself, except for chains that `topology.fusion` compiles into one function. This module
must not know how records are read, sent or stored: sinks and stores come from the task's scope.

Source: design, a record's way 3; JVM `InternalTopologyBuilder.buildProcessorNode` has the
same order but builds objects that call each other through a context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from thalweg.topology.fusion import Stage, fused
from thalweg.topology.operators.operator import (
    NodeScope,
    Operator,
    Process,
    TableMaker,
    TaskScope,
    join_children,
    nowhere,
)
from thalweg.topology.operators.wrapped import compile_wrapped
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
    open: operators bind their methods now.
    """
    compiled: dict[str, Process] = {}
    stages: dict[str, Stage[Operator]] = {}
    chains: dict[str, Chain] = {}
    for name in reversed(list(node_names)):
        node = topology.nodes[name]
        if isinstance(node, SinkNode):
            compiled[name] = scope.sink(node)
            continue
        children = {child: compiled.get(child, nowhere) for child in topology.children(name)}
        gives = node.operator.gives if isinstance(node, ProcessorNode) else node.gives
        forward = join_children(list(children.values()), gives)
        if isinstance(node, SourceNode):
            chains[name] = Chain(node, forward)
            continue
        operator = node.operator
        if isinstance(operator, TableMaker) and operator.begins_propagation:
            assert operator.store_name is not None
            forward = scope.propagation.begins_at(operator.store_name, forward)
        place = NodeScope(name, scope, forward, children, node.stores, node.parents)
        if node.wrapped is not None:
            compiled[name] = compile_wrapped(operator, node.wrapped, place)
            continue
        stages[name] = Stage(operator, place)
        process = fused(_chain_from(topology, name, stages))
        compiled[name] = process or operator.compile(stages[name].scope)
    return dict(reversed(chains.items()))


def _chain_from(
    topology: Topology, name: str, stages: Mapping[str, Stage[Operator]]
) -> Iterator[Stage[Operator]]:
    """Yields the stage of a node, that of its only child, and so on."""
    while name in stages:
        yield stages[name]
        children = topology.children(name)
        if len(children) != 1:
            return
        (name,) = children
