"""The plan of a task: the part of the graph that it runs, and the names that it uses.

Owns how the plan is made from a subtopology. It must not know partitions or open stores.

Source: JVM `InternalTopologyBuilder.buildSubtopology`, `ProcessorTopology`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thalweg.streams.config import StreamsConfig
from thalweg.topology.physical import SourceNode, Topology
from thalweg.topology.subtopologies import (
    Subtopology,
    changelog_topics,
    stores_in_order,
    topic_names,
)


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a task is made from; the same for each of a subtopology's partitions.

    Attributes:
        topology: the whole graph.
        node_names: the nodes of this task, parents first.
        store_names: its stores, in the order in which they are opened and flushed.
        topic_names: name in the topology -> name in the log (internal topics differ).
        changelog_topics: store name -> topic it is restored from.
        unlogged_stores: stores whose changelog is written by someone else or not at all.
        persistent_stores: stores whose rows outlive the process.
        lasting_stores: persistent stores that nothing restores: they have no changelog.
        refills: store that is restored from a source topic -> the nodes that fill it, from
            the source to the one that writes it, parents first.
    """

    topology: Topology
    node_names: Sequence[str]
    store_names: Sequence[str]
    topic_names: Mapping[str, str]
    changelog_topics: Mapping[str, str]
    unlogged_stores: frozenset[str]
    persistent_stores: frozenset[str]
    lasting_stores: Sequence[str]
    refills: Mapping[str, Sequence[str]]


def plan_of(topology: Topology, part: Subtopology, config: StreamsConfig) -> TaskPlan:
    """Returns the plan of a subtopology's tasks."""
    return _plan(topology, part.node_names, config)


def whole_plan(topology: Topology, parts: Sequence[Subtopology], config: StreamsConfig) -> TaskPlan:
    """Returns the plan of one task that runs all subtopologies, as a test driver does.

    Its stores are flushed in the order in which their nodes were added to the topology.
    """
    names = {name for part in parts for name in part.node_names}
    return _plan(topology, [name for name in topology.nodes if name in names], config)


def _plan(topology: Topology, node_names: Sequence[str], config: StreamsConfig) -> TaskPlan:
    application_id = config.application_id
    stores = stores_in_order(topology, node_names)
    builders = {**topology.stores, **topology.global_stores}
    changelogs = changelog_topics(topology, application_id)
    persistent = frozenset(name for name in stores if builders[name].persistent)
    return TaskPlan(
        topology=topology,
        node_names=node_names,
        store_names=stores,
        topic_names=topic_names(topology, application_id),
        changelog_topics=changelogs,
        unlogged_stores=frozenset(
            name for name in stores if name in topology.store_topics or not builders[name].logged
        ),
        persistent_stores=persistent,
        lasting_stores=[name for name in stores if name in persistent and name not in changelogs],
        refills=_refills(topology, node_names, stores),
    )


def _refills(
    topology: Topology, node_names: Sequence[str], stores: Sequence[str]
) -> dict[str, Sequence[str]]:
    """Returns the way of records from its source topic into each store that has one."""
    refills: dict[str, Sequence[str]] = {}
    for store in stores:
        topic, filler = topology.store_topics.get(store), topology.store_fillers.get(store)
        if topic is None or filler not in node_names:
            continue
        behind: set[str] = set()
        for name in node_names:
            node = topology.nodes[name]
            if isinstance(node, SourceNode):
                if topic in node.topics or (node.pattern and node.pattern.fullmatch(topic)):
                    behind.add(name)
            elif not behind.isdisjoint(node.parents):
                behind.add(name)
        before = {filler}
        for name in reversed(node_names):
            if name in before:
                before.update(topology.nodes[name].parents)
        if filler in behind:
            refills[store] = [name for name in node_names if name in behind & before]
    return refills
