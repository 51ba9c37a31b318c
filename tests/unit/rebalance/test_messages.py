"""A topology in the bytes of a heartbeat; expected bytes were sent by a JVM member."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kio.schema.streams_group_heartbeat.v0.request import CopartitionGroup

from thalweg.rebalance.messages import encode_topology, topology_message


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int = 0
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    source_topics: tuple[str, ...] = ()
    repartition_source_topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    id: int
    source_topics: tuple[str, ...] = ()
    source_topic_regex: tuple[str, ...] = ()
    repartition_source_topics: tuple[Topic, ...] = ()
    repartition_sink_topics: tuple[str, ...] = ()
    state_changelog_topics: tuple[Topic, ...] = ()
    copartition_groups: tuple[Group, ...] = ()
    is_global: bool = False


def test_a_topology_is_encoded_as_the_jvm_does() -> None:
    configs = {"message.timestamp.type": "CreateTime", "cleanup.policy": "compact"}
    part = Part(0, ("ro", "in"), state_changelog_topics=(Topic("ro", configs=configs),))

    assert encode_topology([part]).hex() == (
        "00000000"  # epoch
        "02"  # one subtopology
        "0230"  # "0"
        "0303696e03726f"  # reads "in", "ro"
        "01"  # no patterns
        "0203726f00000000ffff"  # changelog "ro"
        "030f636c65616e75702e706f6c69637908636f6d7061637400"
        "176d6573736167652e74696d657374616d702e747970650b43726561746554696d6500"
        "00"
        "01"  # writes no repartition topics
        "01"  # reads none
        "01"  # no groups
        "00"
        "00"
    )


def test_everything_is_sorted_but_groups() -> None:
    part = Part(
        0,
        ("b", "a"),
        ("z.*", "y.*"),
        (Topic("r2", 3), Topic("r1")),
        ("w2", "w1"),
        (Topic("c2"), Topic("c1")),
        (Group(("b", "a"), ("r2",)), Group((), ("r1", "r2"))),
    )

    (sent,) = topology_message([part]).subtopologies

    assert sent.source_topics == ("a", "b")
    assert sent.source_topic_regex == ("y.*", "z.*")
    assert [(topic.name, topic.partitions) for topic in sent.repartition_source_topics] == [
        ("r1", 0),
        ("r2", 3),
    ]
    assert sent.repartition_sink_topics == ("w1", "w2")
    assert [topic.name for topic in sent.state_changelog_topics] == ["c1", "c2"]
    assert sent.copartition_groups == (
        _group((1, 0), (1,)),
        _group((), (0, 1)),
    )


def test_numbers_are_sorted_as_text_and_global_stores_left_out() -> None:
    parts = [Part(2), Part(10), Part(1, is_global=True), Part(0)]

    sent = topology_message(parts).subtopologies

    assert [one.subtopology_id for one in sent] == ["0", "10", "2"]


def _group(sources: tuple[int, ...], repartitions: tuple[int, ...]) -> CopartitionGroup:
    return CopartitionGroup(
        source_topics=sources,  # type: ignore[arg-type]
        repartition_source_topics=repartitions,  # type: ignore[arg-type]
    )
