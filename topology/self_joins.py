"""Finds joins of tables whose two sides receive the same change, and where such changes begin.

Owns this search, which is made once when a topology is built. The common case is a table that is
joined with a table derived from it. It must not know what such a join does
(`topology.operators.propagation`).

Source: none, the JVM treats such joins as any other (docs/differences.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from thalweg.topology.operators.operator import TableMaker
from thalweg.topology.operators.process import ProcessorApiOperator
from thalweg.topology.operators.table import TableTransformValues
from thalweg.topology.operators.table_join import TableJoin
from thalweg.topology.physical import ProcessorNode, Topology


def settle_self_joins(topology: Topology) -> None:
    """Tells joins and tables of a complete topology whether one change reaches both sides."""
    owners: dict[str, list[ProcessorNode]] = {}
    for node in _processors(topology):
        if isinstance(node.operator, TableMaker) and node.operator.store_name is not None:
            owners.setdefault(node.operator.store_name, []).append(node)
    writers = _writers(topology, owners)
    sides: dict[str, list[tuple[ProcessorNode, TableJoin]]] = {}
    for node in _processors(topology):
        if isinstance(node.operator, TableJoin):
            sides.setdefault(node.operator.join, []).append((node, node.operator))
    for both in sides.values():
        tables = {name for _, join in both for name in join.other_view.store_names()}
        common = set.intersection(*(_ancestors(topology, node.name, writers) for node, _ in both))
        if any(owner.name in common for table in tables for owner in owners[table]):
            for node, join in both:
                node.operator = replace(join, is_self_join=True)
            for owner in (owner for table in tables for owner in owners[table]):
                assert isinstance(owner.operator, TableMaker)
                owner.operator = replace(owner.operator, begins_propagation=True)


def _processors(topology: Topology) -> Iterator[ProcessorNode]:
    return (node for node in topology.nodes.values() if isinstance(node, ProcessorNode))


def _writers(topology: Topology, owners: Mapping[str, list[ProcessorNode]]) -> dict[str, list[str]]:
    """Returns table -> nodes of user code that may write into its store, or have it flushed."""
    writers: dict[str, list[str]] = {}
    for node in _processors(topology):
        if isinstance(node.operator, (ProcessorApiOperator, TableTransformValues)):
            for store in node.stores:
                for owner in owners.get(store, ()):
                    if owner is not node:
                        writers.setdefault(owner.name, []).append(node.name)
    return writers


def _ancestors(topology: Topology, name: str, writers: Mapping[str, list[str]]) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += (*topology.nodes[name].parents, *writers.get(name, ()))
    return found
