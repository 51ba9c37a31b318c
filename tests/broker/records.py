"""Topics as anyone sees them who is no application of ours."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are no explicit exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.waiting import HANG_S, wait_until

_NOT_READY = frozenset(
    {
        "NOT_COORDINATOR",
        "COORDINATOR_NOT_AVAILABLE",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "INVALID_REPLICATION_FACTOR",  # no broker is let in yet
    }
)

HeaderRows = Sequence[tuple[str, bytes | None]]

T = TypeVar("T")
_FETCH_S = 0.05
"""Reading many at once waits so long for more of them."""
_numbers = itertools.count()


def unique(name: str) -> str:
    """Returns a name nobody else has."""
    return f"{name}-{next(_numbers)}-{uuid.uuid4().hex[:6]}"


def when_ready(ask: Callable[[], T]) -> T:
    """Asks a broker, again while it has just started and says that something is not there yet.

    Raises:
        KafkaException: it refuses for another reason, or for too long.
    """
    end = time.monotonic() + HANG_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].name() not in _NOT_READY or time.monotonic() > end:
                raise
        time.sleep(0.2)


class Record(NamedTuple):
    """One record of a topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Topics:
    """The topics of a cluster.

    Args:
        servers: bootstrap servers without security.
    """

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._client: dict[str, str | int | float | bool] = {
            "bootstrap.servers": servers,
            "log_level": 0,
        }
        self._admin = AdminClient(self._client)

    def create(self, name: str, partitions: int = 1, **configs: str) -> str:
        """Creates a topic and waits for it; `name` stays as it is."""
        named = {key.replace("_", "."): value for key, value in configs.items()}
        made = self._admin.create_topics([NewTopic(name, partitions, 1, config=named)])
        made[name].result(HANG_S)
        # The controller has it; the broker hears of it a moment later.
        wait_until(lambda: self.partitions(name) == partitions, HANG_S, f"topic {name}")
        return name

    def configure(self, topic: str, **configs: str) -> None:
        """Changes configurations of a topic."""
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        (changed,) = self._admin.incremental_alter_configs([resource]).values()
        changed.result(HANG_S)

    def delete(self, names: Iterable[str]) -> None:
        """Deletes topics; those that do not exist are no error."""
        wanted = list(names)
        if not wanted:
            return
        for gone in self._admin.delete_topics(wanted).values():
            try:
                gone.result(HANG_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise

    def delete_group(self, group: str) -> None:
        """Deletes a group without members; one that does not exist is no error."""
        (gone,) = self._admin.delete_consumer_groups([group]).values()
        try:
            gone.result(HANG_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise

    def names(self) -> set[str]:
        """Returns the names of all topics."""
        return set(self._admin.list_topics(timeout=HANG_S).topics)

    def partitions(self, topic: str) -> int:
        """Returns how many partitions a topic has."""
        return len(self._admin.list_topics(topic, HANG_S).topics[topic].partitions)

    def produce(
        self,
        topic: str,
        rows: Iterable[tuple[bytes | None, bytes | None]],
        *,
        timestamps: Iterable[int] | None = None,
        headers: Iterable[HeaderRows] | None = None,
        partition: int = -1,
    ) -> None:
        """Writes rows of key and value, and waits until they are written."""
        refused: list[object] = []
        producer = Producer(
            {
                **self._client,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        for (key, value), timestamp, given in zip(
            rows,
            timestamps or itertools.repeat(0),
            headers or itertools.repeat(()),
            strict=False,
        ):
            producer.produce(
                topic,
                value,
                key,
                partition,
                timestamp=timestamp,
                headers=list(given),
                on_delivery=lambda error, _: refused.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(HANG_S) == 0, "the broker does not take the records"
        assert not refused, refused

    def read(self, topic: str, *, is_committed: bool = True) -> list[Record]:
        """Returns all records there are, partition after partition."""
        with Follower(self, topic, is_committed=is_committed) as follower:
            return follower.all()

    def last_values(self, topic: str) -> dict[bytes | None, bytes | None]:
        """Returns the last value of each key."""
        return {record.key: record.value for record in self.read(topic)}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Returns the committed offsets of a group, by partition; those without are left out."""
        consumer = Consumer({**self._client, "group.id": group})
        try:
            partitions = [TopicPartition(topic, n) for n in range(self.partitions(topic))]
            found = when_ready(lambda: consumer.committed(partitions, timeout=HANG_S))
        finally:
            consumer.close()
        return {one.partition: one.offset for one in found if one.offset >= 0}

    def begins(self, topic: str) -> dict[int, int]:
        """Returns the offset of the first record of each partition; deletions move it."""
        return self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def ends(self, topic: str) -> dict[int, int]:
        """Returns the offset behind the last record of each partition."""
        return self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        asked = self._admin.list_offsets(
            {TopicPartition(topic, n): which for n in range(self.partitions(topic))}
        )
        return {at.partition: found.result(HANG_S).offset for at, found in asked.items()}

    def own_configs(self, topic: str) -> dict[str, str]:
        """Returns the configurations that were given to a topic itself."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        (found,) = self._admin.describe_configs([resource]).values()
        return {
            name: entry.value
            for name, entry in found.result(HANG_S).items()
            if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        }


class Follower:
    """Reads a topic from its beginning on; each call goes on where the last one ended.

    Args:
        topics: the cluster.
        topic: the topic.
        is_committed: pass over what transactions have not committed.
    """

    def __init__(self, topics: Topics, topic: str, *, is_committed: bool = True) -> None:
        self._topic = topic
        self._partitions = topics.partitions(topic)
        self._consumer = Consumer(
            {
                "bootstrap.servers": topics.servers,
                "group.id": unique("follower"),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed" if is_committed else "read_uncommitted",
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 500,
                # A partition that had no leader for a moment is left alone until the next refresh
                # (librdkafka issue 5430), five minutes by default.
                "topic.metadata.refresh.interval.ms": 2_000,
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(self._partitions)]
        )

    def more(self) -> list[Record]:
        """Returns records that have come since the last call."""
        return [
            record
            for message in self._consumer.consume(1000, _FETCH_S)
            if (record := _record(message)) is not None
        ]

    def all(self) -> list[Record]:
        """Returns everything from here to the present ends, partition after partition."""
        found: dict[int, list[Record]] = defaultdict(list)
        ended: set[int] = set()
        deadline = time.monotonic() + HANG_S
        while len(ended) < self._partitions:
            assert time.monotonic() < deadline, f"{self._topic} cannot be read to its end"
            for message in self._consumer.consume(1000, _FETCH_S):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
                elif (record := _record(message)) is not None:
                    found[record.partition].append(record)
        return [record for partition in sorted(found) for record in found[partition]]

    def close(self) -> None:
        """Ends the reading."""
        self._consumer.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the reading."""
        self.close()


def _record(message: Message) -> Record | None:
    """Returns a message as a record, None for news of the connection."""
    if message.error() is not None:
        return None
    partition = message.partition()
    assert partition is not None
    return Record(
        partition,
        message.key(),
        message.value(),
        message.timestamp()[1],
        tuple(message.headers() or ()),
    )
