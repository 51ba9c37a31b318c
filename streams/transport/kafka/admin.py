"""The admin side of Kafka: requests to the brokers other than records.

Owns one admin client: topics and their configs, offsets of partitions, deleting records, and the
committed positions of a group without members. It must not know the consumers or the producer.

A request that fails with a temporary error is repeated within a deadline.

Source: JVM `InternalTopicManager`, `Admin`; librdkafka INTRODUCTION.md and its sources.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Final, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
)
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are no explicit exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic as TopicToCreate

from thalweg.streams.clock import Clock
from thalweg.streams.errors import AuthenticationError, BrokerError, TransportError
from thalweg.streams.transport.kafka.clients import Connection
from thalweg.streams.transport.kafka.deadlines import REQUEST_MS, RETRY_MS, STEP_MS, Deadlines
from thalweg.streams.transport.kafka.errors import (
    LEADER_CHANGED,
    MISSING,
    NOT_LET_IN,
    PASSING,
    UNREACHABLE,
    failure_of,
    is_away,
    told,
)
from thalweg.streams.transport.kafka.group_metadata import MemberIdentity
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    TopicConfig,
    TopicPartition,
)
from thalweg.topology.subtopologies import partitions_text

_DESCRIBE_MS: Final = 5_000
"""How long one question about topics may take; it is asked again for as long as any other. See
`KafkaAdmin._await_broker`."""

_DELETION_MS: Final = 1_000

_BROKERS_OWN: Final = frozenset(
    {"__cluster_metadata", "__consumer_offsets", "__share_group_state", "__transaction_state"}
)

_log = logging.getLogger(__name__)

K = TypeVar("K")
R = TypeVar("R")

_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class KafkaAdmin:
    """Asks the brokers, for one transport.

    Args:
        client: the admin client.
        connection: what is known of the connection.
        deadlines: how long may be waited.
        clock: where time comes from.
        group_id: the application's group.
        reads_committed: whether ends of partitions are those of what is committed.
    """

    def __init__(
        self,
        client: AdminClient,
        connection: Connection,
        deadlines: Deadlines,
        clock: Clock,
        group_id: str,
        *,
        reads_committed: bool,
    ) -> None:
        self._client = client
        self._connection = connection
        self._deadlines = deadlines
        self._clock = clock
        self._group_id = group_id
        self._reads_committed = reads_committed
        self._counts: dict[str, int] = {}
        self._deletions: dict[TopicPartition, Future[Any]] = {}

    def hear(self) -> None:
        """Hears of the client's connections; for the transport's thread."""
        self._client.poll(0)

    def connect(self, servers: str | None, within_ms: int) -> None:
        """Reaches a broker, or tells why not.

        Raises:
            AuthenticationError: it refuses the credentials, or TLS cannot be agreed on.
            BrokerError: no broker is reached in time.
        """
        seconds = within_ms / 1000
        future = self._client.describe_cluster(request_timeout=seconds)
        what = f"cannot reach Kafka at {servers}"
        try:
            self._awaited(what, future)
        except KafkaException as error:
            # "Connection refused" says more than "timed out".
            reason = self._connection.last or error.args[0]
            text = told(f"{what} within {seconds:g} s", reason)
            if reason.name() in NOT_LET_IN:
                raise AuthenticationError(text) from error
            away = is_away(reason)
            raise BrokerError(text, retriable=away, is_away=away) from error
        self._connection.forget()

    def _awaited(self, what: str, future: Future[R]) -> R:
        """Waits for an answer; credentials that are refused end the wait at once."""
        while True:
            try:
                answer = future.result(timeout=RETRY_MS / 1000)
            except TimeoutError:
                self._client.poll(0)
                self._connection.raise_refusal(what)
                self._deadlines.raise_hurried(what)
            else:
                self._connection.reached()
                return answer
            finally:
                self._client.poll(0)

    def _answers(
        self, what: str, ask: Callable[[AdminClient], Mapping[K, Future[R]]]
    ) -> dict[K, R | KafkaError]:
        """Asks the brokers, again where the reason against an answer passes.

        Returns:
            What was asked about -> the answer, or what came instead.
        """
        self._connection.refuse_closed()
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            self._await_broker(what, deadline_ms)
            answers: dict[K, R | KafkaError] = {}
            for key, future in ask(self._client).items():
                try:
                    answers[key] = self._awaited(what, future)
                except KafkaException as error:
                    answers[key] = error.args[0]
            passing = [
                answer
                for answer in answers.values()
                if isinstance(answer, KafkaError) and answer.name() in PASSING
            ]
            if not passing or self._deadlines.left_ms(deadline_ms) <= 0:
                return answers
            if any(answer.name() in LEADER_CHANGED for answer in passing):
                # An admin client goes on asking the leaders it knows until it is told of others.
                with suppress(KafkaException):
                    self._client.list_topics(timeout=STEP_MS / 1000)
            self._clock.sleep_ms(RETRY_MS)

    def _await_broker(self, what: str, deadline_ms: float) -> None:
        """Waits for a broker where there was none lately, before it is asked anything.

        A description of topics that waits for one takes a whole processor (librdkafka 2.16: it
        connects again and again without a pause); a question for metadata does not.

        Raises:
            BrokerError: none answers in time.
        """
        while self._connection.is_away:
            try:
                self._client.list_topics(timeout=STEP_MS / 1000)
                self._connection.reached()
            except KafkaException as error:
                self._client.poll(0)
                self._connection.raise_refusal(what)
                self._deadlines.raise_hurried(what)
                if self._deadlines.left_ms(deadline_ms) <= 0:
                    raise failure_of(what, error.args[0]) from error
                self._clock.sleep_ms(RETRY_MS)

    def ask_group(self, what: str, ask: Callable[[AdminClient, float], Any]) -> Any:
        """Asks the coordinator of the application's group; None without such a group.

        Raises:
            StreamsError: the coordinator refuses, or is not to be reached.
        """
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            answers = self._answers(what, lambda admin: ask(admin, REQUEST_MS / 1000))
            answer = answers[self._group_id]
            refused = [answer] if isinstance(answer, KafkaError) else _errors_within(answer)
            if not refused:
                return answer
            fault: KafkaError = refused[0]
            if fault.name() == "GROUP_ID_NOT_FOUND":
                return None
            if (
                fault.name() not in PASSING - UNREACHABLE
                or self._deadlines.left_ms(deadline_ms) <= 0
            ):
                raise failure_of(what, fault)
            self._clock.sleep_ms(RETRY_MS)

    # -- topics --------------------------------------------------------------------------

    def topics(self) -> Sequence[str]:
        """Returns the names of all topics but the brokers' own."""
        self._connection.refuse_closed()
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            try:
                found = self._client.list_topics(timeout=STEP_MS / 1000).topics
                return sorted(found.keys() - _BROKERS_OWN)
            except KafkaException as error:
                fault: KafkaError = error.args[0]
                if fault.name() not in PASSING or self._deadlines.left_ms(deadline_ms) <= 0:
                    raise failure_of("cannot list the topics", fault) from error
            finally:
                self._client.poll(0)
            self._connection.raise_refusal("cannot list the topics")
            self._clock.sleep_ms(RETRY_MS)

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Returns partition counts; see `Transport.partition_counts`."""
        if not topics:
            return {}
        names = TopicCollection(list(dict.fromkeys(topics)))
        what = f"cannot describe topics {', '.join(sorted(set(topics)))}"
        answers = self._answers(
            what,
            lambda admin: admin.describe_topics(names, request_timeout=_DESCRIBE_MS / 1000),
        )
        counts = {}
        for topic, answer in answers.items():
            if not isinstance(answer, KafkaError):
                counts[topic] = len(answer.partitions)
            elif answer.name() not in MISSING:
                raise failure_of(f"cannot describe topic {topic!r}", answer, topic=topic)
        self._counts.update(counts)
        return counts

    def partition_count(self, topic: str) -> int | None:
        """Returns a partition count, as known before or else asked for; None without the topic."""
        return self._counts.get(topic) or self.partition_counts((topic,)).get(topic)

    def check(self, partitions: Collection[TopicPartition]) -> None:
        """Raises TransportError where a partition does not exist."""
        unsure = {p.topic for p in partitions if p.partition >= self._counts.get(p.topic, 0)}
        counts = self.partition_counts(unsure)
        for partition in partitions:
            if partition.topic in unsure and partition.partition >= counts.get(partition.topic, 0):
                there = counts.get(partition.topic)
                message = (
                    f"topic {partition.topic!r} does not exist; create it, or correct its name"
                    if there is None
                    else f"topic {partition.topic!r} has {there} partitions, no {partition}"
                )
                raise TransportError(message, topic=partition.topic, partition=partition.partition)

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Creates topics; see `Transport.create_topics`. Returns when they can be used."""
        wanted = {topic.name: topic for topic in topics}
        if not wanted:
            return
        new = [
            TopicToCreate(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication_factor,
                config=dict(topic.configs),
            )
            for topic in wanted.values()
        ]
        seconds = REQUEST_MS / 1000
        answers = self._answers(
            f"cannot create topics {', '.join(wanted)}",
            lambda admin: admin.create_topics(
                new, request_timeout=seconds, operation_timeout=seconds
            ),
        )
        for name, answer in answers.items():
            if isinstance(answer, KafkaError) and answer.name() != "TOPIC_ALREADY_EXISTS":
                raise failure_of(f"cannot create topic {name!r}", answer, topic=name)
        counts = self._visible(wanted)
        for name, topic in wanted.items():
            if counts[name] != topic.partitions:
                message = (
                    f"topic {name!r} exists with {partitions_text(counts[name])}, and "
                    f"{topic.partitions} are asked for; ask for {counts[name]}, or delete the topic "
                    "and create it anew"
                )
                raise TransportError(message, topic=name)

    def _visible(self, names: Collection[str]) -> Mapping[str, int]:
        """Waits until the brokers know topics that were just created."""
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            counts = self.partition_counts(names)
            missing = [name for name in names if name not in counts]
            if not missing:
                return counts
            if self._deadlines.left_ms(deadline_ms) <= 0:
                message = (
                    f"topic {missing[0]!r} was created, but no broker knows it; it may be being "
                    "deleted: try again"
                )
                raise TransportError(message, topic=missing[0])
            self._clock.sleep_ms(RETRY_MS)

    def delete_topics(self, topics: Collection[str]) -> None:
        """Deletes topics; see `Transport.delete_topics`."""
        if not topics:
            return
        names = list(dict.fromkeys(topics))
        seconds = REQUEST_MS / 1000
        answers = self._answers(
            f"cannot delete topics {', '.join(names)}",
            lambda admin: admin.delete_topics(
                names, request_timeout=seconds, operation_timeout=seconds
            ),
        )
        for name, answer in answers.items():
            self._counts.pop(name, None)
            if isinstance(answer, KafkaError) and answer.name() not in MISSING:
                raise failure_of(f"cannot delete topic {name!r}", answer, topic=name)

    def topic_configs(self, topic: str) -> Mapping[str, TopicConfig]:
        """Returns the configs of a topic, with those it has from the brokers."""
        what = f"cannot read the configs of topic {topic!r}"
        asked = [ConfigResource(ResourceType.TOPIC, topic)]
        answers = self._answers(
            what, lambda admin: admin.describe_configs(asked, request_timeout=REQUEST_MS / 1000)
        )
        (answer,) = answers.values()
        if isinstance(answer, KafkaError):
            raise failure_of(what, answer, topic=topic)
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return {
            name: TopicConfig(entry.value or "", entry.source != own)
            for name, entry in sorted(answer.items())
        }

    def alter_topic_configs(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Changes configs of a topic; None takes one back to that of the brokers."""
        what = f"cannot change the configs of topic {topic!r}"
        entries = [
            ConfigEntry(
                name,
                value,
                incremental_operation=(
                    AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
                ),
            )
            for name, value in changes.items()
        ]
        asked = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]
        answers = self._answers(
            what,
            lambda admin: admin.incremental_alter_configs(asked, request_timeout=REQUEST_MS / 1000),
        )
        (answer,) = answers.values()
        if isinstance(answer, KafkaError):
            raise failure_of(what, answer, topic=topic)

    # -- offsets -------------------------------------------------------------------------

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset of each partition."""
        return self._listed(partitions, _EARLIEST)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the end of each partition; exactly-once, of what is committed.

        A commit is known to its partitions some milliseconds after it returns.
        """
        return self._listed(partitions, _LATEST)

    def high_watermarks(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Returns the end of each partition, records of open transactions included."""
        return self._listed(partitions, _LATEST, IsolationLevel.READ_UNCOMMITTED)

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> Mapping[TopicPartition, int]:
        """Returns the first offset not older; see `Transport.offsets_for_time`."""
        found = self._listed(partitions, OffsetSpec.for_timestamp(timestamp_ms))
        none = [partition for partition, offset in found.items() if offset < 0]
        return {**found, **self.end_offsets(none)}

    def end_of(self, partition: TopicPartition) -> int:
        """Returns the end of one partition, records of open transactions included."""
        return self._listed((partition,), _LATEST, IsolationLevel.READ_UNCOMMITTED)[partition]

    def _listed(
        self,
        partitions: Collection[TopicPartition],
        spec: OffsetSpec,
        isolation: IsolationLevel | None = None,
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        asked = {Position(*partition): spec for partition in partitions}
        if isolation is None:
            isolation = (
                IsolationLevel.READ_COMMITTED
                if self._reads_committed
                else IsolationLevel.READ_UNCOMMITTED
            )
        answers = self._answers(
            f"cannot list offsets of {', '.join(map(str, partitions))}",
            lambda admin: admin.list_offsets(
                asked, isolation_level=isolation, request_timeout=REQUEST_MS / 1000
            ),
        )
        offsets = {}
        for position, answer in answers.items():
            partition = TopicPartition(position.topic, position.partition)
            if isinstance(answer, KafkaError):
                what = f"cannot list offsets of {partition}"
                raise failure_of(what, answer, topic=partition.topic, partition=partition.partition)
            offsets[partition] = answer.offset
        return offsets

    # -- what is deleted -----------------------------------------------------------------

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Lets the brokers forget records; waits for them only for a moment."""
        self._connection.refuse_closed()
        self.note_deletions()
        asked = [Position(*partition, offset) for partition, offset in offsets.items()]
        if not asked:
            return
        try:
            futures = self._client.delete_records(asked, request_timeout=REQUEST_MS / 1000)
        except KafkaException as error:
            raise failure_of("cannot delete records", error.args[0]) from error
        wait(futures.values(), _DELETION_MS / 1000)
        for position, future in futures.items():
            self._deletions[TopicPartition(position.topic, position.partition)] = future
        self.note_deletions()

    def note_deletions(self) -> None:
        """Looks what became of deletions; what failed is asked for again by the next purge."""
        self._client.poll(0)
        for partition, future in list(self._deletions.items()):
            if not future.done():
                continue
            del self._deletions[partition]
            error = future.exception()
            if error is not None:
                _log.warning("records of %s were not deleted: %s", partition, error)

    def delete_offsets(self) -> None:
        """Deletes the application's group; it must have no members.

        Raises:
            BrokerError: a worker of the application still runs.
        """
        self.ask_group(
            f"cannot delete the offsets of {self._group_id!r}",
            lambda admin, seconds: admin.delete_consumer_groups(
                [self._group_id], request_timeout=seconds
            ),
        )

    def release(self) -> None:
        """Lets go of the client: its thread ends with the last reference."""
        self.note_deletions()
        del self._client


class IdleGroup:
    """The positions of a group that has no members, kept by whoever comes.

    Args:
        ask: asks the group's coordinator; returns None where there is no such group.
        group_id: the group.
    """

    def __init__(
        self, ask: Callable[[str, Callable[[AdminClient, float], Any]], Any], group_id: str
    ) -> None:
        self._ask = ask
        self._group_id = group_id

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Returns committed positions, those of pending transactions included."""
        asked = ConsumerGroupTopicPartitions(self._group_id, [Position(*p) for p in partitions])
        answer = self._ask(
            f"cannot read the offsets of group {self._group_id!r}",
            lambda admin, seconds: admin.list_consumer_group_offsets(
                [asked], require_stable=True, request_timeout=seconds
            ),
        )
        return {
            TopicPartition(one.topic, one.partition): OffsetAndMetadata(
                one.offset, one.metadata or ""
            )
            for one in (() if answer is None else answer.topic_partitions)
            if one.offset >= 0
        }

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Makes positions last."""
        asked = ConsumerGroupTopicPartitions(
            self._group_id,
            [
                Position(*partition, known.offset, known.metadata)
                for partition, known in offsets.items()
            ],
        )
        self._ask(
            f"cannot commit offsets of group {self._group_id!r}",
            lambda admin, seconds: admin.alter_consumer_group_offsets(
                [asked], request_timeout=seconds
            ),
        )

    def identity(self) -> MemberIdentity:
        """Returns nobody: only the producer's own identity is checked."""
        return MemberIdentity(self._group_id)


def _errors_within(answer: Any) -> list[KafkaError]:
    """Returns the errors of single partitions in an answer about offsets."""
    partitions = getattr(answer, "topic_partitions", ())
    return [one.error for one in partitions if one.error is not None]
