"""What a legal topology is: unique names, known parents, topics read by one source only.

Owns the rules and their messages. It must not know how a topology is stored: each rule gets what it
checks as arguments.

Source: JVM `InternalTopologyBuilder`; kafka-streams reference A1, A7, A8.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

from thalweg.stores.builders import StoreBuilder
from thalweg.topology.description import NodeKind
from thalweg.topology.errors import TopologyError


def check_new(name: str, known: Container[str]) -> None:
    """Refuses a name that another node has.

    Raises:
        TopologyError: it is taken.
        TypeError: it is no name.
        ValueError: it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"a node needs a name, got {name!r}")
    if not name:
        raise ValueError("a node needs a name, got an empty one")
    if name in known:
        raise TopologyError(
            f"a node named {name!r} is already added; give each node a name of its own",
            node=name,
        )


def check_parents(
    name: str,
    parents: Sequence[str],
    kinds: Mapping[str, NodeKind],
    global_nodes: Container[str],
) -> None:
    """Refuses parents that a node cannot have.

    Args:
        name: the node.
        parents: its parents.
        kinds: node -> what it is.
        global_nodes: those that feed global stores.

    Raises:
        TopologyError: there is none, one is missing, given twice, a sink or of a global store.
    """
    if not parents:
        raise TopologyError(
            f"node {name!r} has no parent; name the nodes its records come from", node=name
        )
    for parent in parents:
        if parent == name:
            raise TopologyError(f"node {name!r} cannot be its own parent", node=name)
        kind = kinds.get(parent)
        if kind is None:
            raise TopologyError(
                f"parent {parent!r} of node {name!r} is not added yet; add parents first",
                node=name,
            )
        if kind is NodeKind.SINK:
            raise TopologyError(
                f"sink {parent!r} cannot be the parent of node {name!r}, nothing leaves a "
                f"sink; read its topic with a source",
                node=name,
            )
        if parent in global_nodes:
            raise TopologyError(
                f"{parent!r} feeds a global store and cannot be the parent of node {name!r}; "
                "read the store from the processor instead",
                node=name,
            )
    if len(set(parents)) < len(parents):
        raise TopologyError(
            f"node {name!r} names a parent twice: {', '.join(parents)}; name each once",
            node=name,
        )


def check_unread(
    name: str,
    topics: Sequence[str],
    readers: Mapping[str, str],
    patterns: Mapping[str, re.Pattern[str]],
    internal_topics: Container[str],
) -> None:
    """Refuses topics that a source reads already.

    Args:
        name: the source that would read them.
        topics: the topics.
        readers: topic -> source that names it.
        patterns: source -> pattern of the topics it reads.
        internal_topics: the bare names of internal topics.

    Raises:
        TopologyError: one is read, or given twice.
    """
    for at, topic in enumerate(topics):
        reader = name if topic in topics[:at] else readers.get(topic)
        # Patterns never match an internal topic, whose whole name is longer.
        if topic not in internal_topics:
            for source, pattern in patterns.items():
                reader = source if pattern.fullmatch(topic) else reader
        if reader is not None:
            raise TopologyError(
                f"topic {topic!r} of source {name!r} is already read by source {reader!r}; "
                "read the topic once and use that stream or table as often as you like (with "
                f"add_processor: name {reader!r} as the parent)",
                node=name,
                topic=topic,
            )


def check_unmatched(
    name: str,
    pattern: re.Pattern[str],
    readers: Mapping[str, str],
    internal_topics: Container[str],
) -> None:
    """Refuses a pattern that matches a topic which another source names; see `check_unread`."""
    for topic, reader in readers.items():
        if topic not in internal_topics and pattern.fullmatch(topic):
            raise TopologyError(
                f"pattern {pattern.pattern!r} of source {name!r} matches topic {topic!r}, "
                f"which source {reader!r} already reads; narrow the pattern",
                node=name,
                topic=topic,
            )


def checked_topics(name: str, topics: object) -> tuple[str, ...]:
    """Returns the topics that a source names.

    Raises:
        TypeError: these are no names.
        ValueError: there is none, or an empty one.
    """
    given = (topics,) if isinstance(topics, str) else topics
    if not isinstance(given, Sequence) or not all(isinstance(topic, str) for topic in given):
        raise TypeError(
            f"source {name!r} reads topics by name or by a compiled pattern, got {topics!r}"
        )
    if not given or not all(given):
        raise ValueError(f"source {name!r} needs the name of at least one topic, got {topics!r}")
    return tuple(given)


def check_builder(builder: object) -> None:
    """Refuses what does not describe a store.

    Raises:
        TypeError: it does not.
    """
    if not isinstance(builder, StoreBuilder):
        raise TypeError(f"a store is described by a builder of stores.builders, got {builder!r}")


def store_named_twice(name: str, first: str, second: str) -> TopologyError:
    """Returns what to raise when two stores have one name.

    Args:
        name: the name.
        first: who has added it.
        second: who would add it, too.
    """
    return TopologyError(
        f"a store named {name!r} has already been added by {first}, and {second} names another one "
        "so; give each store a name of its own, or, to share a store of the Processor API, "
        "give both the same store builder object"
    )
