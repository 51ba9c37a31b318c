"""What a member and the group's coordinator say to each other, in bytes.

Owns the translation of a topology into the request's struct: the order of everything in it,
which the coordinator compares byte for byte with that of the group. It must not know how a
topology is built; the protocols here say what of it is needed.

Source: KIP-1071, StreamsGroupHeartbeatRequest version 0; kip1071 reference 1.4 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Final, Protocol

from kio.schema.streams_group_heartbeat.v0 import request as schema
from kio.schema.types import TopicName
from kio.serial import entity_writer
from kio.static.primitive import i16, i32

TOPOLOGY_EPOCH: Final = 0
"""The only epoch there is: brokers know no topology updates."""


class TopicFacts(Protocol):
    """An internal topic as the coordinator is to create it."""

    @property
    def name(self) -> str:
        """Its name in the log."""
        ...

    @property
    def partitions(self) -> int:
        """The fixed partition count, 0 if it follows from others; 0 for changelogs."""
        ...

    @property
    def replication_factor(self) -> int:
        """The replication factor, -1 for the broker's default."""
        ...

    @property
    def configs(self) -> Mapping[str, str]:
        """Its configs."""
        ...


class CopartitionFacts(Protocol):
    """Source topics that need equal partition counts, in the order to be sent."""

    @property
    def source_topics(self) -> Sequence[str]:
        """The topics of users."""
        ...

    @property
    def repartition_source_topics(self) -> Sequence[str]:
        """The internal topics."""
        ...


class SubtopologyFacts(Protocol):
    """A subtopology as the coordinator is told it."""

    @property
    def id(self) -> int:
        """Its number."""
        ...

    @property
    def source_topics(self) -> Sequence[str]:
        """The topics of users that it reads."""
        ...

    @property
    def source_topic_regex(self) -> Sequence[str]:
        """Patterns (RE2) of further topics; brokers up to 4.4 refuse them."""
        ...

    @property
    def repartition_source_topics(self) -> Sequence[TopicFacts]:
        """The internal topics that it reads."""
        ...

    @property
    def repartition_sink_topics(self) -> Sequence[str]:
        """The internal topics that it writes."""
        ...

    @property
    def state_changelog_topics(self) -> Sequence[TopicFacts]:
        """The changelogs of its stores."""
        ...

    @property
    def copartition_groups(self) -> Sequence[CopartitionFacts]:
        """Its copartition groups, in the order to be sent."""
        ...

    @property
    def is_global(self) -> bool:
        """Whether it is a global store, which the coordinator is not told."""
        ...


def encode_topology(subtopologies: Iterable[SubtopologyFacts]) -> bytes:
    """Returns the `Topology` struct of a member's first heartbeat."""
    buffer = BytesIO()
    entity_writer(schema.Topology)(buffer, topology_message(subtopologies))
    return buffer.getvalue()


def topology_message(subtopologies: Iterable[SubtopologyFacts]) -> schema.Topology:
    """Returns the topology as a part of a heartbeat; numbers are sorted as text."""
    sent = sorted((one for one in subtopologies if not one.is_global), key=lambda one: str(one.id))
    return schema.Topology(
        epoch=i32(TOPOLOGY_EPOCH), subtopologies=tuple(_subtopology(one) for one in sent)
    )


def _subtopology(one: SubtopologyFacts) -> schema.Subtopology:
    sources = sorted(one.source_topics)
    repartitions = sorted(topic.name for topic in one.repartition_source_topics)
    return schema.Subtopology(
        subtopology_id=str(one.id),
        source_topics=_names(sources),
        source_topic_regex=tuple(sorted(one.source_topic_regex)),
        state_changelog_topics=_topics(one.state_changelog_topics),
        repartition_sink_topics=_names(sorted(one.repartition_sink_topics)),
        repartition_source_topics=_topics(one.repartition_source_topics),
        copartition_groups=tuple(
            schema.CopartitionGroup(
                source_topics=_indexes(group.source_topics, sources),
                repartition_source_topics=_indexes(group.repartition_source_topics, repartitions),
            )
            for group in one.copartition_groups
        ),
    )


def _topics(topics: Iterable[TopicFacts]) -> tuple[schema.TopicInfo, ...]:
    return tuple(
        schema.TopicInfo(
            name=TopicName(topic.name),
            partitions=i32(topic.partitions),
            replication_factor=i16(topic.replication_factor),
            topic_configs=tuple(
                schema.KeyValue(key=key, value=value)
                for key, value in sorted(topic.configs.items())
            ),
        )
        for topic in sorted(topics, key=lambda topic: topic.name)
    )


def _names(names: Iterable[str]) -> tuple[TopicName, ...]:
    return tuple(TopicName(name) for name in names)


def _indexes(names: Iterable[str], among: Sequence[str]) -> tuple[i16, ...]:
    return tuple(i16(among.index(name)) for name in names)
