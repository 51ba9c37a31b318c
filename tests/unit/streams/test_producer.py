"""Writing and reading topics from a script: producer and consumer on the embedded log."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from thalweg.stores.record import Headers
from thalweg.stores.serde import serdes
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.streams.config import StreamsConfig
from thalweg.streams.consumer import Consumer, read_topic
from thalweg.streams.errors import (
    AppStateError,
    DeserializationError,
    ProductionError,
    SerializationError,
    TransportError,
)
from thalweg.streams.producer import COMMIT_RECORDS, Producer


@pytest.fixture
def config(tmp_path: Path) -> StreamsConfig:
    """Returns the settings of an application with a log of its own."""
    return StreamsConfig(
        application_id="app", data_dir=tmp_path / "log", state_dir=tmp_path / "state"
    )


def values(config: StreamsConfig, topic: str, **options: Any) -> list[Any]:
    options.setdefault("value_serde", serdes.string)
    return [record.value for record in read_topic(config, topic, **options)]


def test_what_is_sent_can_be_read(config: StreamsConfig) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    with Producer(config) as producer:
        producer.send(
            "t",
            1.5,
            key="k",
            key_serde=serdes.string,
            value_serde=serdes.float64,
            timestamp=moment,
            headers=[("h", b"x"), ("n", None)],
        )
        producer.send("t", None, key="k", key_serde=serdes.string, timestamp=7)

    first, second = read_topic(config, "t", key_serde=serdes.string, value_serde=serdes.float64)

    assert (first.key, first.value, first.timestamp) == ("k", 1.5, 1_767_312_000_000)
    assert first.headers == Headers([("h", b"x"), ("n", None)])
    assert (first.topic, first.partition, first.offset) == ("t", 0, 0)
    assert (second.key, second.value, second.timestamp, second.offset) == ("k", None, 7, 1)
    assert len(second.headers) == 0


def test_the_settings_serdes_are_used_where_none_is_given(config: StreamsConfig) -> None:
    config = config.replace(default_key_serde=serdes.string, default_value_serde=serdes.int64)
    with Producer(config) as producer:
        producer.send("t", 5, key="k")

    (record,) = read_topic(config, "t")
    assert (record.key, record.value) == ("k", 5)


def test_one_topic_may_be_sent_with_several_serdes(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        producer.send("t", "x", value_serde=serdes.string)
        producer.send("t", 5, value_serde=serdes.json)
        producer.send("t", b"\xff")

    assert values(config, "t", value_serde=serdes.bytes) == [b"x", b"5", b"\xff"]


def test_records_are_seen_when_they_are_committed(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        producer.send("t", "a", value_serde=serdes.string)
        assert (values(config, "t"), producer.committed_records) == ([], 0)
        producer.flush()
        assert (values(config, "t"), producer.committed_records) == (["a"], 1)
        producer.send("t", "b", value_serde=serdes.string)
    assert values(config, "t") == ["a", "b"]
    assert producer.committed_records == 2


def test_a_full_batch_is_committed_by_itself(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        for number in range(COMMIT_RECORDS + 1):
            producer.send("t", number, value_serde=serdes.int64)
        seen = values(config, "t", value_serde=serdes.int64)
        assert seen == list(range(COMMIT_RECORDS))
        assert producer.record_count("t") == COMMIT_RECORDS


def test_a_value_of_the_wrong_type_is_not_sent(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        with pytest.raises(SerializationError, match=r"serde int64 .* \[topic t\]"):
            producer.send("t", "x", value_serde=serdes.int64)
        producer.send("t", "y", value_serde=serdes.string)

    assert values(config, "t") == ["y"]


def test_what_was_sent_before_an_error_stays(config: StreamsConfig) -> None:
    def send_and_fail() -> None:
        with Producer(config) as producer:
            producer.send("t", "a", value_serde=serdes.string)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send_and_fail()

    assert values(config, "t") == ["a"]


def test_a_refused_record_takes_its_batch_back(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        producer.send("t", "a", value_serde=serdes.string)
        producer.send("t", "b", value_serde=serdes.string, partition=7)
        with pytest.raises(ProductionError, match="partition 7"):
            producer.flush()
        producer.send("t", "c", value_serde=serdes.string)

    assert values(config, "t") == ["c"]
    assert producer.committed_records == 1


def test_keys_choose_partitions(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        producer.create_topic("t", 3)
        for number in range(30):
            producer.send(
                "t", number, key=number % 5, key_serde=serdes.int32, value_serde=serdes.int32
            )
        producer.send("t", 99, value_serde=serdes.int32, partition=2)

    records = list(read_topic(config, "t", key_serde=serdes.int32, value_serde=serdes.int32))
    homes = {r.key: {x.partition for x in records if x.key == r.key} for r in records if r.key}
    assert all(len(partitions) == 1 for partitions in homes.values())
    assert [r.partition for r in records if r.value == 99] == [2]
    for partition in range(3):
        offsets = [r.offset for r in records if r.partition == partition]
        assert offsets == sorted(offsets)


def test_a_topic_that_exists_keeps_its_partitions(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        producer.create_topic("t", 3, configs={"retention.ms": "1000"})
        producer.create_topic("t", 3)
        with pytest.raises(TransportError, match="t"):
            producer.create_topic("t", 4)


def test_topics_are_created_with_the_settings_partitions(config: StreamsConfig) -> None:
    config = config.replace(default_partitions=4)
    with Producer(config) as producer:
        producer.send("t", b"x")

    with Consumer(config) as consumer:
        assert consumer.topics() == {"t": 4}


def test_records_of_a_topic_are_counted(config: StreamsConfig) -> None:
    with Producer(config) as producer:
        assert producer.record_count("t") == 0
        producer.create_topic("t", 2)
        for partition in (0, 1, 1):
            producer.send("t", b"x", partition=partition)
        producer.flush()
        assert producer.record_count("t") == 3
    with Consumer(config) as consumer:
        assert consumer.offsets("t") == [(0, 1), (0, 2)]


def test_a_closed_producer_refuses(config: StreamsConfig) -> None:
    producer = Producer(config)
    producer.send("t", b"x")
    producer.close()
    producer.close()

    with pytest.raises(AppStateError, match="the producer is closed"):
        producer.send("t", b"x")
    with pytest.raises(AppStateError):
        producer.create_topic("u", 1)


def test_a_windowed_key_goes_where_its_bytes_say(config: StreamsConfig) -> None:
    serde = serdes.windowed(serdes.string, 5)
    with Producer(config) as producer:
        producer.send("t", b"x", key=Windowed("k", TimeWindow(10, 15)), key_serde=serde)

    (record,) = read_topic(config, "t", key_serde=serde)
    assert record.key == Windowed("k", TimeWindow(10, 15))


# -- consumer ------------------------------------------------------------------------------


@pytest.fixture
def three(config: StreamsConfig) -> StreamsConfig:
    """Returns the settings of a log with a topic of "a", "b", "c" and one of 2 partitions."""
    with Producer(config) as producer:
        for value in "abc":
            producer.send("t", value, value_serde=serdes.string)
        producer.create_topic("two", 2)
        producer.send("two", "x", value_serde=serdes.string, partition=0)
        producer.send("two", "y", value_serde=serdes.string, partition=1)
    return config


def test_reading_begins_where_it_is_told_to(three: StreamsConfig) -> None:
    assert values(three, "t") == ["a", "b", "c"]
    assert values(three, "t", start="end") == []
    assert values(three, "t", start=1) == ["b", "c"]
    assert values(three, "t", start=99) == []
    assert values(three, "t", start=-99) == ["a", "b", "c"]
    with pytest.raises(ValueError, match='start is "beginning", "end" or an offset'):
        values(three, "t", start="latest")


def test_single_partitions_can_be_read(three: StreamsConfig) -> None:
    assert values(three, "two", partitions=[1]) == ["y"]
    assert sorted(values(three, "two")) == ["x", "y"]
    assert values(three, "two", partitions=[]) == []
    with pytest.raises(TransportError, match="'two' has no partition 2; it has 2"):
        values(three, "two", partitions=[2])


def test_a_topic_that_does_not_exist_is_told(three: StreamsConfig) -> None:
    with pytest.raises(TransportError, match="there is no topic 'nope'; the log's topics: t, two"):
        values(three, "nope")


def test_a_record_that_cannot_be_read_is_named(three: StreamsConfig) -> None:
    with Consumer(three) as consumer:
        records = consumer.read("t", value_serde=serdes.int64)
        with pytest.raises(DeserializationError, match=r"\[topic t, partition 0, offset 0\]"):
            next(records)


def test_reading_to_the_end_leaves_out_what_comes_later(three: StreamsConfig) -> None:
    with Consumer(three) as consumer, Producer(three) as producer:
        records = consumer.read("t", value_serde=serdes.string)
        seen = [next(records).value]
        producer.send("t", "d", value_serde=serdes.string)
        producer.flush()
        seen += [record.value for record in records]

    assert seen == ["a", "b", "c"]


def test_following_goes_on_with_what_comes_later(three: StreamsConfig) -> None:
    with Consumer(three) as consumer, Producer(three) as producer:
        records = consumer.read("t", value_serde=serdes.string, start="end", follow=True)
        producer.send("t", "d", value_serde=serdes.string)
        producer.flush()
        assert [record.value for record in itertools.islice(records, 1)] == ["d"]


def test_a_closed_consumer_refuses(three: StreamsConfig) -> None:
    consumer = Consumer(three)
    consumer.close()
    consumer.close()

    with pytest.raises(AppStateError, match="the consumer is closed"):
        consumer.read("t")


def test_many_records_are_read_in_order(config: StreamsConfig) -> None:
    numbers = range(25_000)
    with Producer(config) as producer:
        for number in numbers:
            producer.send("t", number, value_serde=serdes.int64)

    def read() -> Iterator[int]:
        for record in read_topic(config, "t", value_serde=serdes.int64):
            yield record.value

    assert list(read()) == list(numbers)
