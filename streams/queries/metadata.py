"""Metadata of stores: their partitions, and the instances that run their tasks.

Owns the values that `App` returns for such requests, and how they are computed from the topology,
the partition counts of its topics and what the group knows of its instances. It is pure. It must
not know how an instance is reached, nor how a store is read.

A store is spread over the partitions of its subtopology. A row belongs, by the default
partitioner, to the partition of its key's bytes. A global store is whole in every instance.

Source: JVM `StreamsMetadata`, `StreamsMetadataState`, `KeyQueryMetadata`; kafka-streams A10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.rebalance.values import Endpoint, EndpointPartitions
from thalweg.streams.transport.partitioning import partition_of
from thalweg.streams.transport.port import TopicPartition
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import Subtopology, task_count

NO_ENDPOINT = Endpoint("", 0)
"""Of an instance that answers no queries of others: its `application_server` is not set."""


def endpoint_of(address: str) -> Endpoint:
    """Splits `host:port`."""
    host, _, port = address.rpartition(":")
    return Endpoint(host, int(port))


@dataclass(frozen=True, slots=True)
class StreamsMetadata:
    """What one instance of the application has.

    Attributes:
        endpoint: where it answers queries; `NO_ENDPOINT` if it does not.
        store_names: stores of which it has active partitions, and the global ones.
        topic_partitions: what its active tasks read.
        standby_store_names: stores it keeps standby copies of.
        standby_topic_partitions: what the tasks it keeps copies of read elsewhere.
        is_local: whether it is the instance that was asked.
    """

    endpoint: Endpoint
    store_names: frozenset[str] = frozenset()
    topic_partitions: frozenset[TopicPartition] = frozenset()
    standby_store_names: frozenset[str] = frozenset()
    standby_topic_partitions: frozenset[TopicPartition] = frozenset()
    is_local: bool = False

    @property
    def host(self) -> str:
        """The endpoint's host, empty without one."""
        return self.endpoint.host

    @property
    def port(self) -> int:
        """The endpoint's port, 0 without one."""
        return self.endpoint.port


@dataclass(frozen=True, slots=True)
class KeyQueryMetadata:
    """Who has the row of a key, if its topic is partitioned by the default partitioner.

    Attributes:
        active_host: the instance that processes the key's partition; None while it is not
            known, and `NO_ENDPOINT` where that is this instance and has no endpoint.
        standby_hosts: instances with standby copies of it.
        partition: the partition; -1 in a global store.
        is_local: whether this instance has it, so that no other need be asked.
    """

    active_host: Endpoint | None
    standby_hosts: tuple[Endpoint, ...] = ()
    partition: int = -1
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class InstanceTasks:
    """The tasks of this instance, by role, as (subtopology, partition).

    Attributes:
        active: that process or are restored to do so.
        standby: that are kept up to date.
    """

    active: frozenset[tuple[int, int]] = frozenset()
    standby: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class GroupView:
    """What an instance knows of the whole group at one moment.

    Attributes:
        counts: topic -> partition count, of all topics tasks read; empty before the first
            assignment.
        tasks: this instance's own tasks.
        endpoint: where this instance answers, `NO_ENDPOINT` if it does not.
        endpoints: what the group says of its instances; may lag behind, also about this one.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    tasks: InstanceTasks = InstanceTasks()
    endpoint: Endpoint = NO_ENDPOINT
    endpoints: Mapping[Endpoint, EndpointPartitions] = field(default_factory=dict)


class StoreDirectory:
    """Answers who has which store, for one topology.

    Args:
        topology: the graph.
        parts: its subtopologies.
    """

    def __init__(self, topology: Topology, parts: Sequence[Subtopology]) -> None:
        self._parts = [part for part in parts if not part.is_global]
        self._part_of = {store: part for part in self._parts for store in part.stores}
        self._global_stores = frozenset(topology.global_stores)

    def is_global(self, store: str) -> bool:
        """Whether every instance has the whole store."""
        return store in self._global_stores

    def partition_count(self, store: str, view: GroupView) -> int:
        """Returns over how many partitions a store is spread; 0 where that is not known."""
        part = self._part_of.get(store)
        return 0 if part is None else task_count(part, view.counts)

    def owner(self, store: str, partition: int, view: GroupView) -> Endpoint | None:
        """Returns who processes a partition of a store, None while nobody is known to.

        This instance's own tasks are known best: what the group says of them does not count.
        """
        part = self._part_of[store]
        if (part.id, partition) in view.tasks.active:
            return view.endpoint
        return next(self._having(part, partition, view, is_standby=False), None)

    def standbys(self, store: str, partition: int, view: GroupView) -> tuple[Endpoint, ...]:
        """Returns who has standby copies of a partition of a store."""
        part = self._part_of[store]
        own = (view.endpoint,) if (part.id, partition) in view.tasks.standby else ()
        return (*own, *self._having(part, partition, view, is_standby=True))

    def _having(
        self, part: Subtopology, partition: int, view: GroupView, *, is_standby: bool
    ) -> Iterator[Endpoint]:
        topics = _topics(part, view.counts)
        for endpoint, has in view.endpoints.items():
            partitions = has.standby if is_standby else has.active
            if endpoint != view.endpoint and any(
                partition in partitions.get(topic, ()) for topic in topics
            ):
                yield endpoint

    def is_local(self, store: str, partition: int, view: GroupView) -> bool:
        """Whether this instance has the active task of a partition."""
        return (self._part_of[store].id, partition) in view.tasks.active

    def key_metadata(self, store: str, raw_key: bytes, view: GroupView) -> KeyQueryMetadata:
        """Returns who has the row of a key, by the default partitioner.

        Args:
            store: the store.
            raw_key: the key as its serde writes it.
            view: what is known now.
        """
        if self.is_global(store):
            return KeyQueryMetadata(view.endpoint, is_local=True)
        count = self.partition_count(store, view)
        if not count:
            return KeyQueryMetadata(None)
        partition = partition_of(raw_key, count)
        return KeyQueryMetadata(
            self.owner(store, partition, view),
            self.standbys(store, partition, view),
            partition,
            self.is_local(store, partition, view),
        )

    def instances(self, view: GroupView) -> list[StreamsMetadata]:
        """Returns what each known instance has; this one is the first."""
        own = self._metadata(
            view.endpoint,
            _topic_partitions(self._parts, view.tasks.active, view.counts),
            _topic_partitions(self._parts, view.tasks.standby, view.counts),
            view,
            is_local=True,
        )
        others = [
            self._metadata(endpoint, _flat(has.active), _flat(has.standby), view)
            for endpoint, has in sorted(view.endpoints.items())
            if endpoint != view.endpoint
        ]
        return [own, *others]

    def _metadata(
        self,
        endpoint: Endpoint,
        active: frozenset[TopicPartition],
        standby: frozenset[TopicPartition],
        view: GroupView,
        *,
        is_local: bool = False,
    ) -> StreamsMetadata:
        return StreamsMetadata(
            endpoint,
            self._stores_reading(active, view) | self._global_stores,
            active,
            self._stores_reading(standby, view),
            standby,
            is_local,
        )

    def _stores_reading(
        self, partitions: frozenset[TopicPartition], view: GroupView
    ) -> frozenset[str]:
        read = {topic for topic, _ in partitions}
        return frozenset(
            store
            for part in self._parts
            if not read.isdisjoint(_topics(part, view.counts))
            for store in part.stores
        )

    def tasks(
        self, instance: StreamsMetadata, view: GroupView
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Returns the active and the standby tasks of an instance, as (subtopology, partition)."""
        active: set[tuple[int, int]] = set()
        standby: set[tuple[int, int]] = set()
        for part in self._parts:
            topics = set(_topics(part, view.counts))
            for found, partitions in (
                (active, instance.topic_partitions),
                (standby, instance.standby_topic_partitions),
            ):
                found.update((part.id, p) for topic, p in partitions if topic in topics)
        return sorted(active), sorted(standby)

    def store_partitions(
        self, instance: StreamsMetadata, view: GroupView
    ) -> dict[str, tuple[list[int], list[int]]]:
        """Returns store -> its active and its standby partitions in an instance."""
        found: dict[str, tuple[list[int], list[int]]] = {}
        for part in self._parts:
            topics = set(_topics(part, view.counts))
            active, standby = (
                sorted({p for topic, p in partitions if topic in topics})
                for partitions in (instance.topic_partitions, instance.standby_topic_partitions)
            )
            if active or standby:
                found.update(dict.fromkeys(part.stores, (active, standby)))
        return found


def topics_read(parts: Iterable[Subtopology], topics: Iterable[str]) -> list[str]:
    """Returns the topics that tasks of some subtopologies read.

    Args:
        parts: the subtopologies.
        topics: all topics there are, for sources that read by pattern.
    """
    read: dict[str, None] = {}
    existing = list(topics)
    for part in parts:
        if part.is_global:
            continue
        read.update(dict.fromkeys(part.source_topics))
        read.update(dict.fromkeys(topic.name for topic in part.repartition_source_topics))
        read.update(dict.fromkeys(filter(part.matches, existing)))
    return list(read)


def _topics(part: Subtopology, counts: Mapping[str, int]) -> list[str]:
    return [topic for topic in topics_read((part,), counts) if topic in counts]


def _topic_partitions(
    parts: Iterable[Subtopology],
    tasks: frozenset[tuple[int, int]],
    counts: Mapping[str, int],
) -> frozenset[TopicPartition]:
    return frozenset(
        TopicPartition(topic, partition)
        for part in parts
        for topic in _topics(part, counts)
        for number, partition in tasks
        if number == part.id and partition < counts[topic]
    )


def _flat(partitions: Mapping[str, frozenset[int]]) -> frozenset[TopicPartition]:
    return frozenset(
        TopicPartition(topic, number) for topic, numbers in partitions.items() for number in numbers
    )
