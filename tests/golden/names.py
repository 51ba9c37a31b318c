"""Compares the names of a golden case: description, subtopologies, topology bytes.

Owns the JSON form of a subtopology in the golden files, both ways.

Source: the README of the golden files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tests.golden.builders import DESCRIBED, Build
from tests.golden.runner import Case
from tests.golden.settings import topology_config, topology_settings
from thalweg.rebalance.messages import encode_topology
from thalweg.stores.errors import StreamsError
from thalweg.topology.errors import TopologyError
from thalweg.topology.subtopologies import (
    CopartitionGroup,
    InternalTopic,
    Subtopology,
    subtopologies,
)


def check_names(case: Case, build: Build) -> None:
    """Builds the topology and compares it, or the fact that it is refused."""
    data, settings = case.data, topology_settings(case.config)
    if "build_error" in data:
        with pytest.raises(TopologyError):
            build(settings).describe()
        return
    topology = build(settings)
    assert str(topology.describe()) == data["describe"]
    config = topology_config(case.config)
    if "subtopologies_error" in data:
        if case.name in DESCRIBED:
            assert encode_topology(subtopologies(topology, config))
            return
        with pytest.raises(StreamsError):
            encode_topology(subtopologies(topology, config))
        return
    found = [one for one in subtopologies(topology, config) if not one.is_global]
    described = sorted((_json(one) for one in found), key=_id)
    assert described == sorted(data["subtopologies"], key=_id)
    assert encode_topology(found).hex() == data["topology_hex"]


def check_bytes(case: Case) -> None:
    """Encodes the subtopologies that the file lists, and compares the bytes."""
    found = [_subtopology(one) for one in case.data["subtopologies"]]
    assert encode_topology(found).hex() == case.data["topology_hex"]


def _subtopology(one: Mapping[str, Any]) -> Subtopology:
    """Reads a subtopology: `_json` the other way round."""
    sources = sorted(one["source_topics"])
    repartitions = sorted(topic["name"] for topic in one["repartition_source_topics"])
    return Subtopology(
        id=int(one["id"]),
        node_names=(),
        source_topics=tuple(one["source_topics"]),
        repartition_source_topics=_topics(one["repartition_source_topics"]),
        repartition_sink_topics=tuple(one["repartition_sink_topics"]),
        state_changelog_topics=_topics(one["state_changelog_topics"]),
        copartition_groups=tuple(
            CopartitionGroup(
                tuple(sources[index] for index in group["source_topics"]),
                tuple(repartitions[index] for index in group["repartition_source_topics"]),
            )
            for group in one["copartition_groups"]
        ),
    )


def _topics(described: Iterable[Mapping[str, Any]]) -> tuple[InternalTopic, ...]:
    return tuple(InternalTopic(**topic) for topic in described)


def _json(one: Subtopology) -> dict[str, Any]:
    sources = sorted(one.source_topics)
    repartitions = sorted(topic.name for topic in one.repartition_source_topics)
    return {
        "id": str(one.id),
        "source_topics": list(one.source_topics),
        "repartition_sink_topics": list(one.repartition_sink_topics),
        "repartition_source_topics": [_topic(topic) for topic in one.repartition_source_topics],
        "state_changelog_topics": [_topic(topic) for topic in one.state_changelog_topics],
        "copartition_groups": [
            {
                "source_topics": [sources.index(name) for name in group.source_topics],
                "repartition_source_topics": [
                    repartitions.index(name) for name in group.repartition_source_topics
                ],
            }
            for group in one.copartition_groups
        ],
    }


def _id(subtopology: Mapping[str, Any]) -> str:
    return str(subtopology["id"])


def _topic(topic: InternalTopic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "configs": dict(topic.configs),
    }
