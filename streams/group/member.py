"""The group of a worker, which decides which tasks it runs.

Owns the interface of group membership, and the sole member: on the embedded log one process has all
tasks, and creates the internal topics. It must not know how tasks are made or closed; it is told
when an assignment has been carried out.

Source: KIP-1071 as the worker needs it; JVM `StreamsRebalanceData`, and for the sole member
`InternalTopicManager`, `RepartitionTopics`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from thalweg.rebalance.values import Endpoint, EndpointPartitions
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import MissingTopicsError, TopologyError
from thalweg.streams.notices import NOTICES
from thalweg.streams.similar_names import similar_names
from thalweg.streams.tasks.source_topics import source_topics
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import NewTopic, Transport
from thalweg.topology.subtopologies import (
    Subtopology,
    internal_topic_partitions,
    partitions_text,
    task_count,
)

_log = logging.getLogger(__name__)

PATTERN_CHECK_MS: Final = 1_000
"""How often a sole member looks for new topics that match the pattern of a source."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The tasks a worker is to run.

    Attributes:
        active: tasks that process.
        standby: tasks whose stores are kept warm.
    """

    active: frozenset[TaskId] = frozenset()
    standby: frozenset[TaskId] = frozenset()


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What a member hears of its group.

    Attributes:
        assignment: what to run from now on.
        is_lost: the tasks held so far belong to others already: close them without a commit.
    """

    assignment: Assignment
    is_lost: bool = False


class GroupMember(ABC):
    """A worker's membership. The worker's thread uses it."""

    @abstractmethod
    def start(self) -> None:
        """Joins.

        Raises:
            GroupError: the group cannot be joined.
            MissingTopicsError: a source topic does not exist.
        """

    def interrupt(self) -> None:  # noqa: B027 - most members join at once
        """Lets `start` return without having joined, for a worker that is to stop. Any thread."""

    @abstractmethod
    def poll(self, now_ms: float) -> GroupChange | None:
        """Returns what changed since the last call, None if nothing did; never waits.

        Args:
            now_ms: the time by a clock that never goes back.
        """

    @abstractmethod
    def acknowledge(self, assignment: Assignment) -> None:
        """Tells the group that an assignment is taken over and what it revoked is closed."""

    @property
    def is_ready(self) -> bool:
        """Whether the group assigns tasks: its topics are there. Any thread may ask."""
        return True

    @property
    def is_in_touch(self) -> bool:
        """Whether the group has heard of the member lately, so that its tasks are its own still."""
        return True

    def prepare_leave(self) -> None:  # noqa: B027 - most members need not be told
        """Is told that tasks are about to be closed for good: none should come any more."""

    def request_shutdown(self) -> None:  # noqa: B027 - most members are alone
        """Asks all instances of the application to stop."""

    @abstractmethod
    def leave(self) -> None:
        """Leaves the group. Leaving again does nothing."""

    def endpoints(self) -> Mapping[Endpoint, EndpointPartitions]:
        """Returns what the group says of its instances, for queries; any thread may ask.

        Empty where there are no others, or none that answer queries.
        """
        return {}


class SoleMember(GroupMember):
    """The only member of its group: creates what topics are missing and takes every task.

    Args:
        parts: the subtopologies.
        config: the application's settings.
        transport: the log, owned by this process.
    """

    def __init__(
        self, parts: Sequence[Subtopology], config: StreamsConfig, transport: Transport
    ) -> None:
        self._parts = parts
        self._config = config
        self._transport = transport
        self._has_patterns = any(part.source_patterns for part in parts)
        self._unfit: Mapping[str, str] = {}
        self._given: Assignment | None = None
        self._given_counts: Mapping[str, int] = {}
        self._next_check_ms = 0.0
        self._started = False

    def start(self) -> None:
        """Creates source topics, with `default_partitions`, and internal topics."""
        self._create_topics()
        self._started = True

    def poll(self, now_ms: float) -> GroupChange | None:
        """Returns all tasks at first, and again when a pattern matches new topics."""
        if not self._started:
            return None
        if self._given is not None:
            if not self._has_patterns or now_ms < self._next_check_ms:
                return None
            self._create_topics()
        self._next_check_ms = now_ms + PATTERN_CHECK_MS
        counts = self._counts()
        if self._given is not None and counts == self._given_counts:
            return None
        self._given_counts = counts
        self._given = Assignment(
            frozenset(
                TaskId(part.id, partition)
                for part in self._parts
                for partition in range(task_count(part, counts))
            )
        )
        return GroupChange(self._given)

    def acknowledge(self, assignment: Assignment) -> None:
        """Does nothing: nobody waits for a task."""

    def leave(self) -> None:
        """Does nothing but forget: nobody takes the tasks over."""
        self._started = False
        self._given = None

    def _counts(self) -> dict[str, int]:
        topics = source_topics(self._parts, self._transport)
        for topic, reason in topics.unfit.items():
            if self._unfit.get(topic) != reason:
                _log.error("%s", reason)
        self._unfit = topics.unfit
        return dict(topics.counts)

    def _create_topics(self) -> None:
        counts = self._counts()
        partitions = self._config.default_partitions
        missing = [
            topic for part in self._parts for topic in part.source_topics if topic not in counts
        ]
        if missing:
            self._tell_missing(missing, partitions)
        self._transport.create_topics(
            [NewTopic(topic, partitions) for topic in dict.fromkeys(missing)]
        )
        if missing:
            # They may decide which topics of a pattern fit.
            counts = self._counts()
        wanted = missing_internal_topics(self._parts, counts)
        existing = self._transport.partition_counts({topic.name for topic in wanted})
        for topic in wanted:
            if existing.get(topic.name, topic.partitions) != topic.partitions:
                raise TopologyError(
                    f"internal topic {topic.name!r} has {partitions_text(existing[topic.name])} and "
                    f"the topology needs {topic.partitions}: the partition count of a source topic "
                    "or of a repartition() has changed; take the change back, or begin anew with "
                    "`thalweg reset`, which deletes the application's internal topics and state",
                    topic=topic.name,
                )
        self._transport.create_topics(wanted)

    def _tell_missing(self, missing: Sequence[str], partitions: int) -> None:
        """Says which source topics are made: one that is misspelt would stay empty for ever."""
        begin = f"{self._config.application_id}-"
        known = [topic for topic in self._transport.topics() if not topic.startswith(begin)]
        for topic in dict.fromkeys(missing):
            alike = ", ".join(map(repr, similar_names(topic, known)))
            NOTICES.info(
                "source topic %r did not exist and is created, empty, with %d partition%s%s",
                topic,
                partitions,
                "" if partitions == 1 else "s",
                f"; is one of these meant: {alike}?" if alike else "",
            )


def missing_internal_topics(
    parts: Sequence[Subtopology], counts: Mapping[str, int]
) -> list[NewTopic]:
    """Returns the internal topics with the partition counts a broker would give them.

    Args:
        parts: the subtopologies.
        counts: topic -> partition count, of the topics that exist.

    Raises:
        MissingTopicsError: the counts follow from topics that do not exist.
    """
    try:
        found = internal_topic_partitions(parts, counts)
    except TopologyError as error:
        if error.topic is not None and error.topic not in counts:
            raise MissingTopicsError(error.message, topic=error.topic) from error
        raise
    internal = {
        topic.name: topic
        for part in parts
        for topic in (*part.repartition_source_topics, *part.state_changelog_topics)
    }
    return [
        NewTopic(name, count, internal[name].replication_factor, internal[name].configs)
        for name, count in found.items()
    ]
