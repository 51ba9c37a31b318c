"""What a reader does while brokers are away: it fetches nothing before it knows who leads.

The consumer is a stand-in for librdkafka's, with leaders that the test sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Position

from thalweg.streams.clock import ManualClock
from thalweg.streams.transport.kafka.reader import KafkaReader
from thalweg.streams.transport.port import TopicPartition

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


class Leaders:
    """A consumer that knows leaders, and notes which partitions it fetches.

    Attributes:
        of: partition -> its leader, -1 for none; None while no broker answers.
    """

    def __init__(self) -> None:
        self.of: dict[int, int] | None = {0: 1, 1: 1}
        self.fetched: set[tuple[str, int]] = set()
        self.starts: list[tuple[int, int]] = []
        self.lookups = 0

    def incremental_assign(self, positions: Sequence[Position]) -> None:
        self.starts += [(one.partition, one.offset) for one in positions]
        self.fetched |= {(one.topic, one.partition) for one in positions}

    def incremental_unassign(self, positions: Sequence[Position]) -> None:
        assert {(one.topic, one.partition) for one in positions} <= self.fetched
        self.fetched -= {(one.topic, one.partition) for one in positions}

    def pause(self, positions: Sequence[Position]) -> None:
        self.fetched -= {(one.topic, one.partition) for one in positions}

    def resume(self, positions: Sequence[Position]) -> None:
        self.fetched |= {(one.topic, one.partition) for one in positions}

    def list_topics(self, topic: str, timeout: float) -> Any:
        self.lookups += 1
        if self.of is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        partitions = {n: SimpleNamespace(id=n, leader=leader) for n, leader in self.of.items()}
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=partitions)})

    def consume(self, _most: int, _seconds: float) -> list[Any]:
        return []

    def get_watermark_offsets(self, _handle: Position, *, cached: bool) -> tuple[int, int]:
        return 0, 0


class Reading:
    """A reader of two partitions on such a consumer."""

    def __init__(self) -> None:
        self.consumer, self.clock, self.reached = Leaders(), ManualClock(), 0
        consumer: Any = self.consumer
        self.reader = KafkaReader(
            consumer,
            lambda _partitions: None,
            lambda: None,
            self._note_reached,
            self.clock.monotonic_ms,
            reads_committed=False,
        )
        self.reader.add({ONE: 5, TWO: 7})

    def _note_reached(self) -> None:
        self.reached += 1

    def poll(self) -> None:
        """Polls a second later."""
        self.clock.advance(1_000)
        self.reader.poll(100, 0)


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_it_reads_what_it_is_told(reading: Reading) -> None:
    assert reading.consumer.fetched == {ONE, TWO}


def test_nothing_is_fetched_while_brokers_are_away(reading: Reading) -> None:
    reading.consumer.of = None
    reading.reader.suspend()

    for _ in range(3):
        reading.poll()

    assert reading.consumer.fetched == set()
    assert reading.reached == 0


def test_a_partition_is_read_on_when_it_has_a_leader(reading: Reading) -> None:
    reading.reader.suspend()
    reading.consumer.of = {0: 1, 1: -1}
    reading.poll()
    assert reading.consumer.fetched == {ONE}
    assert reading.reached == 1

    reading.consumer.of = {0: 1, 1: 2}
    reading.poll()
    assert reading.consumer.fetched == {ONE, TWO}
    assert reading.consumer.starts[2:] == [(0, 5), (1, 7)], "where it was"

    lookups = reading.consumer.lookups
    reading.poll()
    assert reading.consumer.lookups == lookups, "there is nothing more to look for"


def test_brokers_may_go_again_and_again(reading: Reading) -> None:
    for _ in range(3):
        reading.reader.suspend()
        reading.reader.suspend()
        assert reading.consumer.fetched == set()
        reading.poll()
        assert reading.consumer.fetched == {ONE, TWO}


def test_what_is_resumed_meanwhile_is_fetched_later(reading: Reading) -> None:
    reading.reader.pause([ONE])
    reading.reader.suspend()
    reading.reader.resume([ONE])
    assert reading.consumer.fetched == set()

    reading.poll()

    assert reading.consumer.fetched == {ONE, TWO}


def test_what_is_given_up_meanwhile_is_not_looked_for(reading: Reading) -> None:
    reading.reader.suspend()
    reading.reader.remove([ONE])
    reading.consumer.of = {0: -1, 1: 1}

    reading.poll()
    lookups = reading.consumer.lookups
    reading.poll()

    assert reading.consumer.fetched == {TWO}
    assert reading.consumer.lookups == lookups


def test_a_closed_reader_is_left_alone(reading: Reading) -> None:
    reading.consumer.close = lambda: None  # type: ignore[attr-defined] - a method of the port
    reading.reader.close()

    reading.reader.suspend()
