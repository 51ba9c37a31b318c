"""Kafka as a log: the consumer side, the producer side and the admin side behind the port.

Owns what concerns all three: the settings, the readers to suspend when brokers become unreachable,
a commit with its offsets, and closing. It must not know tasks or stores, nor how the application's
group works: committed positions and the member's identity come from `GroupOffsets`. Only `reader`,
`producer`, `admin` and `clients` know librdkafka.

At-least-once: records are durable when they are sent, offsets when the group has them.
Exactly-once: both are committed in one transaction.

Source: design 4; JVM `StreamsProducer`, `StoreChangelogReader`, `InternalTopicManager`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from uuid import UUID
from weakref import WeakSet

from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import StreamsError
from thalweg.streams.transport.changelog_ends import WrittenOffsets
from thalweg.streams.transport.kafka.admin import IdleGroup, KafkaAdmin
from thalweg.streams.transport.kafka.clients import Clients, Connection
from thalweg.streams.transport.kafka.deadlines import Deadlines
from thalweg.streams.transport.kafka.group_metadata import GroupOffsets, consumer_group_metadata
from thalweg.streams.transport.kafka.producer import KafkaProducer
from thalweg.streams.transport.kafka.reader import KafkaReader
from thalweg.streams.transport.kafka.settings import KafkaSettings, credentials_of, kafka_settings
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    Send,
    TopicConfig,
    TopicPartition,
    Transport,
)

_log = logging.getLogger(__name__)


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
        clock = clock or SystemClock()
        if process_id is None:
            process_id = str(UUID(int=clock.random.getrandbits(128), version=4))
        client_id = f"{config.application_id}-{process_id}-{worker}"
        self._is_transactional = config.is_exactly_once
        self.settings: KafkaSettings = kafka_settings(
            config,
            client_id=client_id,
            transactional_id=client_id if self._is_transactional else None,
        )
        self._servers = config.bootstrap_servers
        self._monotonic_ms = clock.monotonic_ms
        self._readers: WeakSet[KafkaReader] = WeakSet()
        self._connection = Connection(clock.monotonic_ms, self._suspend_readers)
        self._deadlines = Deadlines(clock.monotonic_ms, self._connection, is_stopping)
        self._clients = Clients(config, self.settings, self._connection)
        self._admin = KafkaAdmin(
            self._clients.admin(),
            self._connection,
            self._deadlines,
            clock,
            config.application_id,
            reads_committed=self.settings.reads_committed,
        )
        if config.consumer_configs:
            # Wrong settings are told now, not when the first reader is made.
            self._clients.consumer().close()
        self._admin.connect(self._servers, self.settings.setup_timeout_ms)
        self._connection.let_in(credentials_of(self.settings.admin))
        self._written = WrittenOffsets(self._admin.end_of, transactional=self._is_transactional)
        self._producer = KafkaProducer(
            self._clients,
            self._admin,
            self._connection,
            self._deadlines,
            clock,
            settings=self.settings.producer,
            written=self._written,
            on_refused=lambda: self.on_refused,
            transactional=self._is_transactional,
        )
        self._group: GroupOffsets = group or IdleGroup(self._admin.ask_group, config.application_id)

    def hurry(self) -> None:
        """Lets nothing wait for long any more; see `Transport.hurry`."""
        self._deadlines.hurry()

    def hear(self) -> None:
        """Hears of the connections of clients that are not polled while something is waited for.

        For the worker's thread, in which it may be in the middle of a wait for something else.
        """
        self._producer.hear()

    # -- topics --------------------------------------------------------------------------

    def topics(self) -> Sequence[str]:
        """Returns the names of all topics but the brokers' own."""
        return self._admin.topics()

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Returns partition counts; see `Transport.partition_counts`."""
        return self._admin.partition_counts(topics)

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Creates topics; see `Transport.create_topics`. Returns when they can be used."""
        self._admin.create_topics(topics)

    def delete_topics(self, topics: Collection[str]) -> None:
        """Deletes topics; see `Transport.delete_topics`."""
        self._admin.delete_topics(topics)

    def topic_configs(self, topic: str) -> Mapping[str, TopicConfig]:
        """Returns the configs of a topic, with those it has from the brokers."""
        return self._admin.topic_configs(topic)

    def alter_topic_configs(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Changes configs of a topic; None takes one back to that of the brokers."""
        self._admin.alter_topic_configs(topic, changes)

    # -- reading -------------------------------------------------------------------------

    def reader(self, *, in_bulk: bool = False) -> KafkaReader:
        """Returns a new reader with a consumer of its own."""
        self._connection.refuse_closed()
        reader = KafkaReader(
            self._clients.consumer(),
            self._admin.check,
            self._serve,
            self._connection.reached,
            self._monotonic_ms,
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
        self._connection.refuse_closed()
        self._producer.serve()
        if self._connection.refusal is not None:
            self._connection.raise_refusal(f"Kafka at {self._servers} refuses the connection")

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset of each partition."""
        return self._admin.begin_offsets(partitions)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the end of each partition; exactly-once, of what is committed.

        A commit is known to its partitions some milliseconds after it returns.
        """
        return self._admin.end_offsets(partitions)

    def high_watermarks(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Returns the end of each partition, records of open transactions included.

        Asked for a changelog before its store is restored up to there: what is written to it
        later is counted from there, see `written_offsets`.
        """
        ends = self._admin.high_watermarks(partitions)
        for partition, end_offset in ends.items():
            self._written.note_end(partition, end_offset)
        return ends

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> Mapping[TopicPartition, int]:
        """Returns the first offset not older; see `Transport.offsets_for_time`."""
        return self._admin.offsets_for_time(partitions, timestamp_ms)

    # -- writing -------------------------------------------------------------------------

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic; see `Transport.sender`."""
        return self._producer.sender(topic, track_offsets=track_offsets)

    def flush(self) -> None:
        """Waits until everything sent is in the log; see `Transport.flush`.

        An error is raised again until `abort`: the batch it belongs to is not whole.
        """
        self._connection.refuse_closed()
        self._producer.flush()

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
        self._connection.refuse_closed()
        self._producer.refuse_failed()
        if self._is_transactional:
            member = consumer_group_metadata(self._group.identity()) if offsets else b""
            self._producer.commit_transaction(offsets, member)
        elif offsets:
            self._group.commit(offsets)
        self._connection.reached()
        self._producer.note_committed()

    def abort(self) -> None:
        """Takes back what was sent since the last commit; at-least-once, lets it land.

        Afterwards the transport can be used again, whatever happened before. While the brokers
        do not answer it fails after a moment; called again, it goes on.

        Raises:
            BrokerError: the brokers do not answer.
        """
        self._connection.refuse_closed()
        self._producer.abort()

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Lets the brokers forget records; waits for them only for a moment."""
        self._admin.delete_records(offsets)

    def delete_offsets(self) -> None:
        """Deletes the application's group; it must have no members.

        Raises:
            BrokerError: a worker of the application still runs.
        """
        self._admin.delete_offsets()

    def close(self) -> None:
        """Releases the clients; see `Transport.close`. Takes at most some `HURRY_MS`."""
        if self._connection.is_closed:
            return
        if not self._deadlines.is_hurried:
            self._deadlines.hurry()
        self._connection.is_closed = True
        self._producer.close()
        self._admin.release()
