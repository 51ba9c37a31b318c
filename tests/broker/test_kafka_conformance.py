"""Kafka keeps the port's promises, at-least-once and exactly-once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest

from tests.unit.streams.transport.conformance import (
    WAIT_MS,
    TransportConformance,
    World,
    partitions_of,
    produce,
    read,
)
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import ProductionError
from thalweg.streams.transport.kafka.transport import KafkaTransport
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    TopicPartition,
    Transport,
)


class SettledTransport(KafkaTransport):
    """Returns from a commit when all partitions know of it, as the embedded log does.

    The suite asks for the end of partitions right after a commit.
    """

    def __init__(self, config: StreamsConfig, observer: KafkaTransport) -> None:
        super().__init__(config)
        self._observer = observer

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        super().commit(offsets)
        if self.settings.reads_committed:
            observer = self._observer
            counts = observer.partition_counts(observer.topics())
            partitions = [TopicPartition(t, n) for t, count in counts.items() for n in range(count)]
            while observer.end_offsets(partitions) != observer.high_watermarks(partitions):
                pass


class KafkaWorld(World):
    """A cluster; the topics and groups of a test are gone when it ends."""

    def __init__(self, servers: str, guarantee: str) -> None:
        super().__init__()
        self.now_ms = time.time_ns() // 1_000_000
        self.config = StreamsConfig(
            application_id="conformance",
            bootstrap_servers=servers,
            processing_guarantee=guarantee,
            producer_configs={"topic.metadata.propagation.max.ms": 1_000},
        )
        self.groups = {self.config.application_id}
        self.observer = KafkaTransport(self.config)
        self.found = set(self.observer.topics())

    def new_transport(self, group: str | None) -> Transport:
        config = self.config if group is None else self.config.replace(application_id=group)
        self.groups.add(config.application_id)
        return SettledTransport(config, self.observer)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        with self.observer as transport:
            transport.delete_topics(set(transport.topics()) - self.found)
        for group in self.groups:
            with KafkaTransport(self.config.replace(application_id=group)) as transport:
                transport.delete_offsets()


class TestAtLeastOnce(TransportConformance):
    can_abort = False

    @pytest.fixture
    def world(self, kafka: str) -> Iterator[World]:
        with KafkaWorld(kafka, "at_least_once") as world:
            yield world

    def test_a_topic_that_is_missing_is_created_by_sending(self, world: World) -> None:
        """If the cluster allows it; else it is told."""
        transport = world.open()
        transport.sender("fresh")(None, b"v", 1, None, None)
        refused = ""
        try:
            transport.flush()
        except ProductionError as error:
            refused = str(error)
            transport.abort()

        is_there = transport.partition_count("fresh") is not None
        assert is_there == (not refused)
        assert is_there or "topic 'fresh'" in refused

    def test_no_partition_waits_for_ever(self, world: World) -> None:
        """A partition's turn is what one fetch brought of it."""
        transport = world.open()
        transport.create_topics([NewTopic("t", 4)])
        for partition in range(4):
            produce(transport, "t", *[b"v"] * 200, partition=partition)
        reader = transport.reader()
        reader.add(dict.fromkeys(partitions_of(transport, "t"), 0))

        assert {at: len(records) for at, records in read(reader, 800).items()} == dict.fromkeys(
            partitions_of(transport, "t"), 200
        )


class TestExactlyOnce(TestAtLeastOnce):
    can_abort = True

    @pytest.fixture
    def world(self, kafka: str) -> Iterator[World]:
        with KafkaWorld(kafka, "exactly_once_v2") as world:
            yield world

    def test_the_known_end_rises_above_the_position_while_there_is_more(self, world: World) -> None:
        """Behind the last record stands the transaction's marker: read over, not returned."""
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        produce(transport, "t", b"a", b"b", b"c")
        reader = transport.reader()
        reader.add({at: 0})
        read(reader, 3)
        assert (reader.position(at), reader.known_end_offset(at)) == (3, 4)

        assert not reader.poll(10, WAIT_MS)

        assert (reader.position(at), reader.known_end_offset(at)) == (4, 4)

    def test_offsets_are_found_by_time(self, world: World) -> None:
        """The marker behind the last record counts as a record of the moment of the commit."""
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        send = transport.sender("t")
        for timestamp in (10, 30, 20, 40):
            send(b"k", b"%d" % timestamp, timestamp, None, 0)
        transport.flush()
        transport.commit({})

        found = [transport.offsets_for_time([zero, one], time_ms) for time_ms in (0, 11, 31, 41)]

        assert found == [{zero: offset, one: 0} for offset in (0, 1, 3, 4)]
