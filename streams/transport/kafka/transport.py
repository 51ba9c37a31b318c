"""Kafka as a log: the one door to librdkafka.

Owns the clients of one worker: a consumer for each reader, one producer, an admin client. It
must not know tasks or stores, nor how the application's group works: committed positions and
the member's identity come from `GroupOffsets`.

At-least-once, records last as they are sent, offsets when the group has them. Exactly-once,
one transaction follows the other: the next begins as soon as one ends, which costs the broker
nothing while nothing is sent. A producer that cannot go on is replaced by `abort`.

Kafka cannot tell timestamp 0 from none: it is sent as 1.

Source: design 4; JVM `StreamsProducer`, `StoreChangelogReader`, `InternalTopicManager`;
librdkafka INTRODUCTION.md and its sources; kafka-streams reference D19.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias, TypeVar, cast
from uuid import UUID
from weakref import WeakSet

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
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

from thalweg.stores.errors import Reaction
from thalweg.stores.record import HeaderList
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import (
    AuthenticationError,
    BrokerError,
    ConfigError,
    ProductionError,
    StreamsError,
    TransportError,
)
from thalweg.streams.transport.changelog_ends import WrittenOffsets
from thalweg.streams.transport.kafka.errors import (
    CREDENTIALS,
    DISCONNECTED,
    LEADER_CHANGED,
    MISSING,
    NOT_LET_IN,
    OUT_OF_STEP,
    PASSING,
    TOO_LARGE,
    UNREACHABLE,
    Verdict,
    delivery_failure,
    failure_of,
    is_away,
    rejoining,
    told,
    verdict_of,
)
from thalweg.streams.transport.kafka.group_metadata import (
    GroupOffsets,
    MemberIdentity,
    consumer_group_metadata,
)
from thalweg.streams.transport.kafka.reader import KafkaReader
from thalweg.streams.transport.kafka.settings import KafkaSettings, kafka_settings
from thalweg.streams.transport.partitioning import partition_of
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    RefusedRecord,
    Send,
    TopicConfig,
    TopicPartition,
    Transport,
)
from thalweg.topology.subtopologies import partitions_text

REQUEST_MS: Final = 30_000
"""How long a question to the brokers may take; a broker restarts in less."""

CLOSE_MS: Final = 5_000
"""How long `abort` waits for records to land, at-least-once."""

HURRY_MS: Final = 6_000
"""How long anything waits for the brokers once the worker is to stop, all together: less than the
ten seconds a stop may take."""

HURRY_AWAY_MS: Final = 500
"""The same where no broker is to be reached: what it waits for does not come."""

_STEP_MS: Final = 500
"""How long a call into librdkafka may block that can be made again to go on: a stop is noticed
in between."""

_ABORT_MS: Final = 5_000
"""How long a transaction's abort may take before the producer is replaced, which has the brokers
abort it as well."""

_NEW_PRODUCER_MS: Final = 2_000
"""How long `abort` waits for a new producer to be let in; called again, it goes on with it."""

_DELETION_MS: Final = 1_000
_RETRY_MS: Final = 100
_TLS_ATTEMPTS: Final = 2
"""A handshake may break once because the broker is starting; twice it is the settings."""

_BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of batch.size."""

_BROKERS_OWN: Final = frozenset(
    {"__cluster_metadata", "__consumer_offsets", "__share_group_state", "__transaction_state"}
)
_PURGED: Final = frozenset({"_PURGE_INFLIGHT", "_PURGE_QUEUE"})

_QUIET_MS: Final = 10_000
"""While brokers are away, every attempt fails: it is told once in so many milliseconds."""

_TOLD_TWICE: Final = frozenset({"ERROR", "FAIL", "TXNERR"})
"""Lines of librdkafka's log that it also reports as errors."""

_log = logging.getLogger(__name__)

_Rebind: TypeAlias = Callable[[Callable[..., None]], None]
"""Makes a sender go on with the `produce` of another producer."""

K = TypeVar("K")
R = TypeVar("R")

_EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class _ClientLog:
    """Where the log of librdkafka goes: to Python's, at its levels."""

    def __init__(self) -> None:
        self._log = logging.getLogger(f"{__name__}.librdkafka")

    def log(self, level: int, text: str, facility: str, client: str, line: str) -> None:
        """Logs one line; what comes as an error too, for debugging only."""
        self._log.log(
            logging.DEBUG if facility in _TOLD_TWICE else level, text, facility, client, line
        )


class _Heard:
    """What the clients of a transport were told about their connections.

    Args:
        monotonic_ms: a clock that never goes back.
        went: called when a connection broke that was there.

    Attributes:
        last: the latest error, None after a success.
        refusal: the credentials were refused, or TLS cannot be agreed on.
        is_away: a connection broke, and nothing was answered since.
    """

    def __init__(self, monotonic_ms: Callable[[], float], went: Callable[[], None]) -> None:
        self._went = went
        self.last: KafkaError | None = None
        self.refusal: KafkaError | None = None
        self.is_away = False
        self._monotonic_ms = monotonic_ms
        self._quiet_until_ms = 0.0
        self._tls_failures = 0

    def client(self, fault: KafkaError) -> None:
        """Takes note of an error of any client."""
        name, now_ms = fault.name(), self._monotonic_ms()
        is_news = now_ms >= self._quiet_until_ms
        if is_news:
            self._quiet_until_ms = now_ms + _QUIET_MS
        _log.log(logging.WARNING if is_news else logging.DEBUG, "%s (%s)", fault.str(), name)
        # "All brokers are down" follows the reason and would hide it.
        if name != "_ALL_BROKERS_DOWN" or self.last is None:
            self.last = fault
        if is_away(fault):
            self.lost()
        if name == "_SSL":
            self._tls_failures += 1
        if name in CREDENTIALS or self._tls_failures >= _TLS_ATTEMPTS:
            self.refusal = self.refusal or fault

    def lost(self) -> None:
        """Takes note that a connection broke."""
        if not self.is_away:
            self.is_away = True
            self._went()

    def reached(self) -> None:
        """Takes note that a broker answered."""
        self.is_away = False

    def forget(self) -> None:
        """Forgets everything: the connection works."""
        self.last = self.refusal = None
        self.is_away = False
        self._tls_failures = 0


class KafkaTransport(Transport):
    """A Kafka cluster, as one worker uses it.

    Args:
        config: the application's settings; `bootstrap_servers` names the cluster.
        group: the group's committed positions. None keeps them under the application's id
            without being a member: for tools, while no worker runs.
        clock: where time and identifiers come from.
        process_id: tells processes of the application apart; None draws one.
        worker: tells workers of one process apart.
        is_stopping: whether whoever opens it is about to stop: nothing waits for long then, as
            after `hurry`.

    Raises:
        ConfigError: a setting of a Kafka client is unknown, wrong or the runtime's own.
        BrokerError: the cluster cannot be reached.
        AuthenticationError: it refuses the credentials, or TLS cannot be agreed on.
    """

    def __init__(
        self,
        config: StreamsConfig,
        *,
        group: GroupOffsets | None = None,
        clock: Clock | None = None,
        process_id: str | None = None,
        worker: int = 1,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock or SystemClock()
        self._is_stopping = is_stopping
        self._hurried_ms: float | None = None
        self._has_given_up = False
        if process_id is None:
            process_id = str(UUID(int=self._clock.random.getrandbits(128), version=4))
        client_id = f"{config.application_id}-{process_id}-{worker}"
        self._is_transactional = config.is_exactly_once
        self.settings: KafkaSettings = kafka_settings(
            config,
            client_id=client_id,
            transactional_id=client_id if self._is_transactional else None,
        )
        self._servers = config.bootstrap_servers
        self._group_id = config.application_id
        self._readers: WeakSet[KafkaReader] = WeakSet()
        self._heard = _Heard(self._clock.monotonic_ms, self._suspend_readers)
        self._was_let_in = False
        self._counts: dict[str, int] = {}
        self._senders: dict[tuple[str, bool], tuple[Send, _Rebind]] = {}
        self._failure: StreamsError | None = None
        self._is_producer_dead = False
        self._lost_batches = 0
        self._fresh: Producer | None = None
        self._fresh_since_ms = 0.0
        self._deletions: dict[TopicPartition, Future[Any]] = {}
        self._unkeyed = 0
        # Longer than that the broker keeps no transaction open: waiting on would be for nothing.
        timeout_ms = int(self.settings.producer.get("transaction.timeout.ms", REQUEST_MS))
        self._commit_step_ms = min(timeout_ms, REQUEST_MS)
        # A record of less may have been in one batch with others.
        self._batch_bytes = int(self.settings.producer.get("batch.size", _BATCH_BYTES))
        self._written = WrittenOffsets(self._end_of, transactional=self._is_transactional)
        self._is_closed = False
        self._given = {
            name: getattr(config, name)
            for name in ("consumer_configs", "producer_configs", "admin_configs")
        }
        self._admin: AdminClient = self._made(
            "admin_configs", AdminClient, self.settings.admin, self._heard.client
        )
        if config.consumer_configs:
            # Wrong settings are told now, not when the first reader is made.
            self._new_consumer().close()
        self._connect()
        self._producer = self._made_producer()
        if self._is_transactional:
            self._open_transactions(self._producer, REQUEST_MS)
        self._group: GroupOffsets = group or _IdleGroup(self._ask_group, self._group_id)

    def _made(
        self,
        mapping: str,
        client: Callable[..., Any],
        settings: Mapping[str, Any],
        on_error: Callable[[KafkaError], None],
    ) -> Any:
        """Makes a client, whose log and errors come to us.

        Raises:
            ConfigError: a setting is unknown or wrong.
        """
        try:
            return client({**settings, "error_cb": on_error}, logger=_ClientLog())
        except (KafkaException, TypeError, ValueError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            # A setting given for one client may have been taken over by this one.
            origins = (given for given, names in self._given.items() if _names(reason, names))
            raise ConfigError(f"{next(origins, mapping)}: {reason}") from error

    def _new_consumer(self) -> Consumer:
        consumer: Consumer = self._made(
            "consumer_configs", Consumer, self.settings.consumer, self._heard.client
        )
        return consumer

    def _connect(self) -> None:
        """Reaches a broker, or tells why not."""
        seconds = self.settings.setup_timeout_ms / 1000
        future = self._admin.describe_cluster(request_timeout=seconds)
        what = f"cannot reach Kafka at {self._servers}"
        try:
            self._awaited(what, future)
        except KafkaException as error:
            # "Connection refused" says more than "timed out".
            reason = self._heard.last or error.args[0]
            text = told(f"{what} within {seconds:g} s", reason)
            if reason.name() in NOT_LET_IN:
                raise AuthenticationError(text) from error
            away = is_away(reason)
            raise BrokerError(text, retriable=away, is_away=away) from error
        self._heard.forget()
        self._was_let_in = True

    def _made_producer(self) -> Producer:
        settings = {**self.settings.producer, "on_delivery": self._undelivered}
        producer: Producer = self._made("producer_configs", Producer, settings, self._heard.client)
        return producer

    def _open_transactions(self, producer: Producer, wait_ms: float) -> None:
        """Makes the producer the one with its transactional id; called again, it goes on."""
        self._transact("cannot open transactions", producer.init_transactions, wait_ms)
        self._heard.reached()
        self._begin_transaction(producer)

    # -- a stop that must not wait for the brokers ---------------------------------------

    def hurry(self) -> None:
        """Lets nothing wait for long any more; see `Transport.hurry`."""
        if not self._has_given_up:
            self._hurried_ms = self._clock.monotonic_ms()

    def _left_ms(self, deadline_ms: float) -> float:
        """Returns how long may be waited yet; less than 0 for not at all."""
        if self._hurried_ms is None and self._is_stopping():
            self.hurry()
        if self._hurried_ms is not None:
            most_ms = HURRY_AWAY_MS if self._heard.is_away else HURRY_MS
            deadline_ms = min(deadline_ms, self._hurried_ms + most_ms)
        return deadline_ms - self._clock.monotonic_ms()

    def _raise_hurried(self, what: str) -> None:
        """Raises BrokerError if there is a stop and it has waited long enough."""
        if self._left_ms(float("inf")) <= 0:
            self._has_given_up = True
            message = f"{what}: the brokers did not answer in the time a stop may take"
            raise BrokerError(message, retriable=True, is_away=True)

    # -- questions to the brokers --------------------------------------------------------

    def _awaited(self, what: str, future: Future[R]) -> R:
        """Waits for an answer; credentials that are refused end the wait at once."""
        while True:
            try:
                answer = future.result(timeout=_RETRY_MS / 1000)
            except TimeoutError:
                self._admin.poll(0)
                self._raise_refusal(what)
                self._raise_hurried(what)
            else:
                self._heard.reached()
                return answer
            finally:
                self._admin.poll(0)

    def _raise_refusal(self, what: str) -> None:
        fault = self._heard.refusal
        if fault is not None:
            # Whoever was let in before need not be wrong: a broker that starts may refuse too.
            kind = BrokerError if self._was_let_in else AuthenticationError
            raise kind(told(what, fault))

    def _admin_call(
        self, what: str, ask: Callable[[AdminClient], Mapping[K, Future[R]]]
    ) -> dict[K, R | KafkaError]:
        """Asks the brokers, again where the reason against an answer passes.

        Returns:
            What was asked about -> the answer, or what came instead.
        """
        self._refuse_closed()
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            answers: dict[K, R | KafkaError] = {}
            for key, future in ask(self._admin).items():
                try:
                    answers[key] = self._awaited(what, future)
                except KafkaException as error:
                    answers[key] = error.args[0]
            passing = [
                answer
                for answer in answers.values()
                if isinstance(answer, KafkaError) and answer.name() in PASSING - UNREACHABLE
            ]
            if not passing or self._left_ms(deadline_ms) <= 0:
                return answers
            if any(answer.name() in LEADER_CHANGED for answer in passing):
                # An admin client goes on asking the leaders it knows until it is told of others.
                with suppress(KafkaException):
                    self._admin.list_topics(timeout=_STEP_MS / 1000)
            self._clock.sleep_ms(_RETRY_MS)

    def _ask_group(self, what: str, ask: Callable[[AdminClient, float], Any]) -> Any:
        """Asks the coordinator of the application's group; None without such a group.

        Raises:
            StreamsError: the coordinator refuses, or is not to be reached.
        """
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            answers = self._admin_call(what, lambda admin: ask(admin, REQUEST_MS / 1000))
            answer = answers[self._group_id]
            refused = [answer] if isinstance(answer, KafkaError) else _errors_within(answer)
            if not refused:
                return answer
            fault: KafkaError = refused[0]
            if fault.name() == "GROUP_ID_NOT_FOUND":
                return None
            if fault.name() not in PASSING - UNREACHABLE or self._left_ms(deadline_ms) <= 0:
                raise failure_of(what, fault)
            self._clock.sleep_ms(_RETRY_MS)

    # -- topics --------------------------------------------------------------------------

    def topics(self) -> Sequence[str]:
        """Returns the names of all topics but the brokers' own."""
        self._refuse_closed()
        deadline_ms = self._clock.monotonic_ms() + REQUEST_MS
        while True:
            try:
                found = self._admin.list_topics(timeout=_STEP_MS / 1000).topics
                return sorted(found.keys() - _BROKERS_OWN)
            except KafkaException as error:
                fault: KafkaError = error.args[0]
                if fault.name() not in PASSING or self._left_ms(deadline_ms) <= 0:
                    raise failure_of("cannot list the topics", fault) from error
            finally:
                self._admin.poll(0)
            self._raise_refusal("cannot list the topics")
            self._clock.sleep_ms(_RETRY_MS)

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Returns partition counts; see `Transport.partition_counts`."""
        if not topics:
            return {}
        names = TopicCollection(list(dict.fromkeys(topics)))
        what = f"cannot describe topics {', '.join(sorted(set(topics)))}"
        answers = self._admin_call(
            what,
            lambda admin: admin.describe_topics(names, request_timeout=REQUEST_MS / 1000),
        )
        counts = {}
        for topic, answer in answers.items():
            if not isinstance(answer, KafkaError):
                counts[topic] = len(answer.partitions)
            elif answer.name() not in MISSING:
                raise failure_of(f"cannot describe topic {topic!r}", answer, topic=topic)
        self._counts.update(counts)
        return counts

    def _check(self, partitions: Collection[TopicPartition]) -> None:
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
        answers = self._admin_call(
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
            if self._left_ms(deadline_ms) <= 0:
                message = (
                    f"topic {missing[0]!r} was created, but no broker knows it; it may be being "
                    "deleted: try again"
                )
                raise TransportError(message, topic=missing[0])
            self._clock.sleep_ms(_RETRY_MS)

    def delete_topics(self, topics: Collection[str]) -> None:
        """Deletes topics; see `Transport.delete_topics`."""
        if not topics:
            return
        names = list(dict.fromkeys(topics))
        seconds = REQUEST_MS / 1000
        answers = self._admin_call(
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
        answers = self._admin_call(
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
        answers = self._admin_call(
            what,
            lambda admin: admin.incremental_alter_configs(asked, request_timeout=REQUEST_MS / 1000),
        )
        (answer,) = answers.values()
        if isinstance(answer, KafkaError):
            raise failure_of(what, answer, topic=topic)

    # -- reading -------------------------------------------------------------------------

    def reader(self, *, in_bulk: bool = False) -> KafkaReader:
        """Returns a new reader with a consumer of its own."""
        self._refuse_closed()
        reader = KafkaReader(
            self._new_consumer(),
            self._check,
            self._serve,
            self._heard.reached,
            self._clock.monotonic_ms,
            reads_committed=self.settings.reads_committed,
            in_bulk=in_bulk,
        )
        self._readers.add(reader)
        return reader

    def _suspend_readers(self) -> None:
        for reader in list(self._readers):
            try:
                reader.suspend()
            except StreamsError as error:  # it is told by the reader's next poll, if it matters
                _log.debug("%s", error)

    def _serve(self) -> None:
        """Hears what became of records sent; once per poll of any reader."""
        self._refuse_closed()
        try:
            self._producer.poll(0)
        except KafkaException as error:
            raise self._dead(error) from error
        if self._heard.refusal is not None:
            self._raise_refusal(f"Kafka at {self._servers} refuses the connection")

    def _dead(self, error: KafkaException) -> StreamsError:
        """Takes note that the producer cannot go on, which is told by whatever is called."""
        self._is_producer_dead = True
        if self._failure is None:
            self._failure = failure_of("the producer cannot go on", error.args[0])
        return self._failure

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
        """Returns the end of each partition, records of open transactions included.

        Asked for a changelog before its store is restored up to there: what is written to it
        later is counted from there, see `written_offsets`.
        """
        ends = self._listed(partitions, _LATEST, IsolationLevel.READ_UNCOMMITTED)
        for partition, end_offset in ends.items():
            self._written.note_end(partition, end_offset)
        return ends

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> Mapping[TopicPartition, int]:
        """Returns the first offset not older; see `Transport.offsets_for_time`."""
        found = self._listed(partitions, OffsetSpec.for_timestamp(timestamp_ms))
        none = [partition for partition, offset in found.items() if offset < 0]
        return {**found, **self.end_offsets(none)}

    def _end_of(self, partition: TopicPartition) -> int:
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
                if self.settings.reads_committed
                else IsolationLevel.READ_UNCOMMITTED
            )
        answers = self._admin_call(
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

    # -- writing -------------------------------------------------------------------------

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic; see `Transport.sender`."""
        known = self._senders.get((topic, track_offsets))
        if known is None:
            known = self._tracked(topic) if track_offsets else self._untracked(topic)
            self._senders[topic, track_offsets] = known
        return known[0]

    def _untracked(self, topic: str) -> tuple[Send, _Rebind]:
        produce: Callable[..., None] = self._producer.produce
        failed = self._not_taken

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            try:
                produce(
                    topic,
                    value,
                    key,
                    -1 if partition is None else partition,
                    None,
                    None,
                    timestamp or (0 if timestamp is None else 1),
                    headers,
                )
            except (BufferError, KafkaException) as error:
                failed(error, topic, key, value, timestamp, headers, partition)

        def rebind(other: Callable[..., None]) -> None:
            nonlocal produce
            produce = other

        return send, rebind

    def _tracked(self, topic: str) -> tuple[Send, _Rebind]:
        send_on, rebind = self._untracked(topic)
        counts, choose = self._written.counts(topic), self._chosen

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            if partition is None:
                partition = choose(topic, key)
            counts[partition] += 1
            send_on(key, value, timestamp, headers, partition)

        return send, rebind

    def _chosen(self, topic: str, key: bytes | None) -> int:
        """Chooses a partition here, where it must be known which one it is."""
        count = self._counts.get(topic) or self.partition_count(topic)
        if count is None:
            message = f"topic {topic!r} does not exist; create it, or correct its name"
            raise TransportError(message, topic=topic)
        if key is None:
            self._unkeyed += 1
            return self._unkeyed % count
        return partition_of(key, count)

    def _not_taken(
        self,
        error: BufferError | KafkaException,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int | None,
        headers: HeaderList | None,
        partition: int | None,
    ) -> None:
        """Sends a record as soon as the buffer has room, or remembers that it never will be."""
        produce: Callable[..., None] = self._producer.produce
        chosen = -1 if partition is None else partition
        stamp = timestamp or (0 if timestamp is None else 1)
        while isinstance(error, BufferError):
            what = f"cannot send to topic {topic!r}"
            self._raise_refusal(what)
            self._raise_hurried(what)
            # What was sent since the last commit is lost already: more of it is for nothing.
            self._raise_failure()
            try:
                self._producer.poll(_RETRY_MS / 1000)
                produce(topic, value, key, chosen, None, None, stamp, headers)
            except (BufferError, KafkaException) as again:
                error = again
            else:
                return
        record = RefusedRecord(topic, partition, timestamp, key, value, headers or [])
        # The client has not taken it: a transaction is as whole as before.
        failure = delivery_failure(error.args[0], topic, _size_bytes(record))
        self._note_failure(failure, record, may_drop=True)

    def _undelivered(self, fault: KafkaError | None, message: Message) -> None:
        """Asks about a record that did not reach its topic, or remembers it."""
        if fault is None or fault.name() in _PURGED:
            return
        kind, timestamp = message.timestamp()
        record = RefusedRecord(
            message.topic() or "",
            message.partition(),
            None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
            message.key(),
            message.value(),
            cast("HeaderList", message.headers() or []),
        )
        size_bytes = _size_bytes(record)
        is_batch = fault.name() in TOO_LARGE and size_bytes < self._batch_bytes
        failure = delivery_failure(fault, record.topic, None if is_batch else size_bytes)
        self._note_failure(failure, record, may_drop=not (is_batch or self._is_transactional))

    def _note_failure(
        self, failure: StreamsError, record: RefusedRecord, *, may_drop: bool
    ) -> None:
        """Remembers that a record will not be in the log, unless it may be done without."""
        if self._failure is not None:
            return
        if (
            may_drop
            and self.on_refused is not None
            and isinstance(failure, ProductionError)
            and (record.topic, True) not in self._senders
        ):
            try:
                if self.on_refused(record, failure):
                    return
            except StreamsError as raised:
                failure = raised
        self._failure = failure
        if failure.reaction is Reaction.REJOIN:
            # One that found no broker twice may never look again (librdkafka issue 5430). Its
            # successor has to ask for an identity first, which a broker that just started may
            # not give at once.
            self._lost_batches += 1
            self._is_producer_dead |= self._is_transactional or self._lost_batches > 1

    def flush(self) -> None:
        """Waits until everything sent is in the log; see `Transport.flush`.

        An error is raised again until `abort`: the batch it belongs to is not whole.
        """
        self._refuse_closed()
        what = "cannot deliver what was sent"
        deadline_ms = self._clock.monotonic_ms() + self._commit_step_ms
        while left := self._flushed(_RETRY_MS):
            self._raise_refusal(what)
            self._raise_hurried(what)
            if self._failure is not None and self._failure.reaction is Reaction.REJOIN:
                break
            if self._is_transactional and self._clock.monotonic_ms() >= deadline_ms:
                # As long as that the broker keeps no transaction open. librdkafka has been seen
                # to wait on after a restart of the broker; a new producer looks anew.
                self._is_producer_dead = True
                message = (
                    f"{what}: {left:,} records of the transaction found no broker to take them "
                    f"within {self._commit_step_ms:,} ms"
                )
                raise self._failure or rejoining(message, is_away=True)
        self._raise_failure()
        self._written.flushed()

    def _flushed(self, timeout_ms: int) -> int:
        """Returns how many records are still on their way after a while."""
        try:
            return self._producer.flush(timeout_ms / 1000)
        except KafkaException as error:
            raise self._dead(error) from error

    def _refuse_dead(self) -> None:
        if self._is_producer_dead:
            message = "the producer cannot go on: call abort()"
            raise self._failure or rejoining(message)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            message = "the transport is closed"
            raise TransportError(message)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def written_offsets(self) -> Mapping[TopicPartition, int]:
        """Returns how far tracked partitions were written; see `Transport.written_offsets`.

        Counted, not asked for: never too high, too low only where others write as well.
        """
        return self._written.offsets()

    # -- committing ----------------------------------------------------------------------

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Returns committed positions; see `Transport.committed`."""
        if not partitions:
            return {}
        # confluent-kafka counts the NUL behind a C string as part of it when it sends offsets
        # to a transaction.
        return {
            partition: known._replace(metadata=known.metadata.rstrip("\0"))
            for partition, known in self._group.committed(partitions).items()
        }

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Makes positions and records last; see `Transport.commit`.

        Raises:
            TaskMigratedError: the group refuses the member; or the broker has given up the
                transaction. Call `abort`, then go on.
            BrokerError: it is not known whether the commit happened, or it did not.
            ProductionError: a record was refused; nothing is committed.
        """
        self._refuse_closed()
        self._raise_failure()
        self._refuse_dead()
        if self._is_transactional:
            self._commit_transaction(offsets)
        elif offsets:
            self._group.commit(offsets)
        self._heard.reached()
        self._lost_batches = 0
        self._written.committed()

    def _commit_transaction(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        producer = self._producer
        if offsets:
            positions = [
                Position(*partition, known.offset, known.metadata)
                for partition, known in offsets.items()
            ]
            identity = consumer_group_metadata(self._group.identity())
            what = "cannot commit offsets"

            def send(seconds: float) -> None:
                self._in_time(
                    what,
                    lambda: producer.send_offsets_to_transaction(positions, identity, seconds),
                )

            self._transact(what, send, self._commit_step_ms, self._commit_step_ms)
        self._transact(
            "cannot commit the transaction", producer.commit_transaction, self._commit_step_ms
        )
        self._begin_transaction(producer)

    def _in_time(self, what: str, call: Callable[[], None]) -> None:
        """Makes a call into librdkafka that may outlast its time-out; then it is left alone.

        Offsets of a transaction wait for a coordinator that is away for a minute, whatever the
        call was told (librdkafka 2.16: requests made anew have the socket's time-out alone).

        Raises:
            BrokerError: it takes too long; the producer is of no use any more.
        """
        deadline_ms = self._clock.monotonic_ms() + self._commit_step_ms
        outcome: Future[None] = Future()

        def run() -> None:
            try:
                call()
            except Exception as error:
                outcome.set_exception(error)
            else:
                outcome.set_result(None)

        # The process does not wait for it at its end.
        threading.Thread(target=run, name="transaction-offsets", daemon=True).start()
        while True:
            try:
                return outcome.result(_RETRY_MS / 1000)
            except TimeoutError as error:
                self.hear()
                self._raise_refusal(what)
                if self._left_ms(deadline_ms) <= 0:
                    self._is_producer_dead = True
                    message = f"{what}: the coordinator did not answer in time"
                    raise rejoining(message, is_away=True) from error

    def _begin_transaction(self, producer: Producer) -> None:
        """Begins the next transaction; the broker hears of it with its first record."""
        self._transact("cannot begin a transaction", lambda _: producer.begin_transaction())

    def _transact(
        self,
        what: str,
        call: Callable[[float], None],
        wait_ms: float = REQUEST_MS,
        step_ms: float = _STEP_MS,
    ) -> None:
        """Makes a step of a transaction, again while the reason against it passes.

        Args:
            what: what cannot be done when it fails.
            call: makes the step within so many seconds; called again, it goes on with it.
            wait_ms: how long to try.
            step_ms: how long one call may block.
        """
        deadline_ms = self._clock.monotonic_ms() + wait_ms
        while True:
            left_ms = self._left_ms(deadline_ms)
            try:
                call(max(min(left_ms, step_ms), 1) / 1000)
            except KafkaException as error:
                fault: KafkaError = error.args[0]
                if not fault.retriable() or left_ms <= _RETRY_MS:
                    # One that gets no answer may never get one: librdkafka can lose sight of a
                    # transaction's coordinator when that is restarted. A new one looks anew.
                    self._is_producer_dead |= fault.fatal() or fault.retriable()
                    # Records that were refused say more than the transaction they broke.
                    raise self._failure or self._broken(what, fault) from error
                if fault.name() in DISCONNECTED:
                    self._heard.lost()
                self.hear()
                self._raise_refusal(what)
                self._clock.sleep_ms(_RETRY_MS)
            else:
                return

    def hear(self) -> None:
        """Hears of the connections of clients that are not polled while something is waited for.

        For the worker's thread, in which it may be in the middle of a wait for something else.
        """
        self._admin.poll(0)
        # What becomes of records of a producer that is being replaced matters no more.
        with suppress(KafkaException):
            (self._producer if self._fresh is None else self._fresh).poll(0)

    def _broken(self, what: str, fault: KafkaError) -> StreamsError:
        """Returns what a step of a transaction failed of."""
        verdict = verdict_of(fault)
        is_over = fault.txn_requires_abort() or fault.name() in OUT_OF_STEP
        if verdict in (Verdict.FENCED, Verdict.REJOIN) or fault.name() in NOT_LET_IN or not is_over:
            return failure_of(what, fault)
        # The transaction is over, and what was sent in it; another may go better.
        self._is_producer_dead = True
        return rejoining(told(what, fault), is_away=verdict is Verdict.AWAY)

    def abort(self) -> None:
        """Takes back what was sent since the last commit; at-least-once, lets it land.

        Afterwards the transport can be used again, whatever happened before. While the brokers
        do not answer it fails after a moment; called again, it goes on.

        Raises:
            BrokerError: the brokers do not answer.
        """
        self._refuse_closed()
        # It would wait for nothing, and a new producer takes the transaction back as well.
        self._is_producer_dead |= self._is_transactional and self._heard.is_away
        if self._is_producer_dead:
            pass
        elif self._is_transactional:
            producer = self._producer
            try:
                self._transact(
                    "cannot abort the transaction", producer.abort_transaction, _ABORT_MS
                )
                self._begin_transaction(producer)
            except StreamsError as error:
                _log.info("the producer is replaced: %s", error)
                self._is_producer_dead = True
        else:
            # So that whoever asks for a partition's end afterwards sees all there will be.
            self._drain()
        if self._is_producer_dead:
            self._replace_producer()
        self._failure = None
        self._written.aborted()

    def _replace_producer(self) -> None:
        """Puts a new producer into the old one's place; if that fails, the next call goes on."""
        self._raise_hurried("no new producer is made")
        now_ms = self._clock.monotonic_ms()
        if self._fresh is None or now_ms - self._fresh_since_ms > REQUEST_MS:
            # One that was not let in for so long has perhaps lost sight of its coordinator.
            self._retire_producer()
            self._fresh, self._fresh_since_ms = self._made_producer(), now_ms
        fresh = self._fresh
        if self._is_transactional:
            failure, self._failure = self._failure, None
            try:
                self._open_transactions(fresh, _NEW_PRODUCER_MS)
            except BrokerError as error:
                if not error.retriable:
                    self._fresh = None
                raise
            except StreamsError:
                self._fresh = None
                raise
            finally:
                self._failure = failure
        self._producer, self._fresh = fresh, None
        self._is_producer_dead = False
        for _, rebind in self._senders.values():
            rebind(self._producer.produce)

    def _retire_producer(self) -> None:
        """Lets go of the producers; their own close() would wait for records to time out."""
        for producer in (self._producer, self._fresh):
            if producer is not None:
                with suppress(KafkaException):
                    producer.purge()
        for _, rebind in self._senders.values():
            rebind(_refuse_to_send)

    def _drain(self) -> None:
        deadline_ms = self._clock.monotonic_ms() + CLOSE_MS
        with suppress(StreamsError):
            while left := self._flushed(_RETRY_MS):
                if self._left_ms(deadline_ms) <= 0:
                    _log.warning("%d records were not delivered in time", left)
                    return

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Lets the brokers forget records; waits for them only for a moment."""
        self._refuse_closed()
        self._note_deletions()
        asked = [Position(*partition, offset) for partition, offset in offsets.items()]
        if not asked:
            return
        try:
            futures = self._admin.delete_records(asked, request_timeout=REQUEST_MS / 1000)
        except KafkaException as error:
            raise failure_of("cannot delete records", error.args[0]) from error
        wait(futures.values(), _DELETION_MS / 1000)
        for position, future in futures.items():
            self._deletions[TopicPartition(position.topic, position.partition)] = future
        self._note_deletions()

    def _note_deletions(self) -> None:
        """Looks what became of deletions; what failed is asked for again by the next purge."""
        self._admin.poll(0)
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
        self._ask_group(
            f"cannot delete the offsets of {self._group_id!r}",
            lambda admin, seconds: admin.delete_consumer_groups(
                [self._group_id], request_timeout=seconds
            ),
        )

    def close(self) -> None:
        """Releases the clients; see `Transport.close`. Takes at most some `HURRY_MS`."""
        if self._is_closed:
            return
        if self._hurried_ms is None:
            self.hurry()
        self._is_closed = True
        if self._is_producer_dead:
            pass
        elif self._is_transactional:
            try:
                self._transact("cannot abort the transaction", self._producer.abort_transaction)
            except StreamsError as error:  # the broker ends it by itself, in time
                _log.debug("%s", error)
        else:
            self._drain()
        self._retire_producer()
        self._note_deletions()
        # Their threads end with the last reference.
        del self._producer, self._fresh, self._admin


class _IdleGroup:
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


def _size_bytes(record: RefusedRecord) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _refuse_to_send(*_: object) -> NoReturn:
    message = "nothing can be sent: the transport is closed, or lost its producer"
    raise TransportError(message)


def _names(text: str, settings: Mapping[str, Any]) -> bool:
    """Tells whether a text names one of the settings."""
    return any(name in text for name in settings)
