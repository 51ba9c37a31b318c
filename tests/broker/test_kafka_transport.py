"""The Kafka transport against a broker, beyond what the port promises of every transport."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import pytest

from tests.broker.broker import Broker
from tests.unit.streams.transport.conformance import WAIT_MS, produce, read, values
from thalweg.stores.record import (
    HeaderList,
    RawRecord,
    columns_by_key,
    headers_of,
    offset_of,
)
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import (
    AuthenticationError,
    BrokerError,
    ConfigError,
    OffsetOutOfRangeError,
    ProductionError,
    TaskMigratedError,
    TransportError,
)
from thalweg.streams.transport.kafka import reader as kafka_reader
from thalweg.streams.transport.kafka.group_metadata import GroupOffsets, MemberIdentity
from thalweg.streams.transport.kafka.transport import KafkaTransport
from thalweg.streams.transport.partitioning import partition_of
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    Reader,
    TopicPartition,
)

Open = Callable[..., KafkaTransport]


@pytest.fixture
def open_transport(kafka: str) -> Iterator[Open]:
    """Opens transports of one application that nobody else has; closes them."""
    name = f"transport-{uuid4().hex[:8]}"
    opened: list[KafkaTransport] = []

    def open_one(
        *,
        exactly_once: bool = False,
        group: GroupOffsets | None = None,
        process_id: str | None = None,
        **settings: Any,
    ) -> KafkaTransport:
        config = StreamsConfig(
            application_id=name,
            bootstrap_servers=kafka,
            processing_guarantee="exactly_once_v2" if exactly_once else "at_least_once",
            **settings,
        )
        opened.append(KafkaTransport(config, group=group, process_id=process_id))
        return opened[-1]

    yield open_one
    for transport in opened:
        transport.close()


def new_topic(transport: KafkaTransport, partitions: int = 1, **configs: str) -> str:
    """Creates a topic of its own for a test."""
    name = f"t-{uuid4().hex[:8]}"
    names = {key.replace("_", "."): value for key, value in configs.items()}
    transport.create_topics([NewTopic(name, partitions, configs=names)])
    return name


def drained(reader: Reader) -> dict[TopicPartition, list[RawRecord]]:
    """Reads until the ends of all partitions are known to be reached."""
    found: dict[TopicPartition, list[RawRecord]] = {}
    while batches := reader.poll(1000, 2_000):
        for at, records in batches:
            found.setdefault(at, []).extend(records)
    return found


# -- partitions and records -----------------------------------------------------------------


def test_librdkafka_puts_keys_where_the_jvm_does(open_transport: Open) -> None:
    """The partitions follow from Java's murmur2 of the keys; see kafka-streams A15."""
    transport = open_transport()
    topic = new_topic(transport, 7)
    java_hashes = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"abc": 479470107,
        b"a-little-bit-long-string": -985981536,
    }
    keys = [*java_hashes, b"", *(bytes([n, 255 - n]) * (n % 9 + 1) for n in range(60))]
    send = transport.sender(topic)
    for key in keys:
        send(key, b"v", 1, None, None)
    transport.flush()
    reader = transport.reader()
    reader.add({TopicPartition(topic, n): 0 for n in range(7)})

    found = {
        record[1]: at.partition
        for at, records in read(reader, len(keys)).items()
        for record in records
    }

    reader.close()
    assert found == {key: partition_of(key, 7) for key in keys}
    assert {key: found[key] for key in java_hashes} == {
        key: (hashed & 0x7FFFFFFF) % 7 for key, hashed in java_hashes.items()
    }


def test_tracked_records_go_where_untracked_ones_do(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport, 5)
    tracked, untracked = transport.sender(topic, track_offsets=True), transport.sender(topic)
    for number in range(40):
        for send in (tracked, untracked):
            send(b"%d" % number, b"v", 1, None, None)
    transport.flush()
    reader = transport.reader()
    reader.add({TopicPartition(topic, n): 0 for n in range(5)})

    places: dict[bytes | None, set[int]] = {}
    for at, records in read(reader, 80).items():
        for record in records:
            places.setdefault(record[1], set()).add(at.partition)

    reader.close()
    assert all(len(partitions) == 1 for partitions in places.values())


def test_timestamp_zero_is_sent_as_one(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    transport.sender(topic)(b"k", b"v", 0, None, 0)
    transport.flush()
    reader = transport.reader()
    reader.add({TopicPartition(topic, 0): 0})

    ((record,),) = read(reader, 1).values()

    reader.close()
    assert record[0] == 1


def test_records_with_and_without_headers_come_in_one_batch(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    send = transport.sender(topic)
    headers: list[HeaderList | None] = [
        [("h", b"%d" % n)] if n % 3 == 0 else None for n in range(10)
    ]
    for number, given in enumerate(headers):
        send(b"k", b"%d" % number, 1, given, 0)
    transport.flush()
    reader = transport.reader()
    reader.add({TopicPartition(topic, 0): 0})

    (records,) = read(reader, 10).values()

    reader.close()
    assert [headers_of(record[3]) for record in records] == headers
    assert [offset_of(record[3]) for record in records] == list(range(10))


def test_partitions_of_one_number_and_several_topics_are_told_apart(open_transport: Open) -> None:
    transport = open_transport()
    topics = [new_topic(transport, 2) for _ in range(3)]
    sent: dict[TopicPartition, list[bytes | None]] = {}
    for number in range(600):
        at = TopicPartition(topics[number % 3], number // 3 % 2)
        sent.setdefault(at, []).append(b"%d" % number)
        transport.sender(at.topic)(b"k", b"%d" % number, 1, None, at.partition)
        if number % 50 == 0:
            transport.flush()
    transport.flush()
    reader = transport.reader()
    reader.add(dict.fromkeys(sent, 0))

    found = read(reader, 600)

    reader.close()
    assert {at: values({at: records}) for at, records in found.items()} == sent


# -- positions ------------------------------------------------------------------------------


def test_positions_are_exact_over_every_change(open_transport: Open) -> None:
    """Each change is made while much more is fetched already than was handed over."""
    transport = open_transport()
    topic = new_topic(transport, 2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    for at in (zero, one):
        produce(transport, topic, *[b"%d" % n for n in range(5_000)], partition=at.partition)
    reader = transport.reader()
    expected = {zero: 0, one: 0}
    reader.add(expected)

    def check(most: int, brings: set[TopicPartition]) -> None:
        for at, records in reader.poll(most, WAIT_MS):
            assert at in brings
            assert [offset_of(record[3]) for record in records] == list(
                range(expected[at], expected[at] + len(records))
            )
            expected[at] += len(records)
        assert {at: reader.position(at) for at in expected} == expected

    check(100, {zero, one})
    for start in (3_000, 17, 2_500, 0, 4_999, 100):
        reader.add({zero: start})
        expected[zero] = start
        check(30, {zero, one})
        reader.remove([one])
        del expected[one]
        check(30, {zero})
        reader.add({one: start // 2})
        expected[one] = start // 2
        reader.pause([zero])
        check(30, {one})
        check(30, {one})
        reader.resume([zero])
        check(30, {zero, one})
    reader.remove([zero, one])
    with pytest.raises(TransportError, match="is not read here"):
        reader.position(zero)
    assert not reader.poll(10, 200)
    reader.close()


def test_a_bulk_reader_brings_many_chunks_at_once(
    open_transport: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reader, "CHUNK_RECORDS", 100)
    transport = open_transport()
    topic = new_topic(transport, 2)
    partitions = [TopicPartition(topic, n) for n in range(2)]
    contents = [b"%d" % n for n in range(3_000)]
    for at in partitions:
        produce(transport, topic, *contents, partition=at.partition)
    bulk, single = transport.reader(in_bulk=True), transport.reader()
    found: dict[TopicPartition, list[RawRecord]] = {at: [] for at in partitions}
    largest = 0
    for reader in (bulk, single):
        reader.add(dict.fromkeys(partitions, 0))
    while sum(map(len, found.values())) < 6_000:
        batches = bulk.poll(1_000, WAIT_MS)
        assert len({at for at, _ in batches}) == len(batches)
        assert sum(len(records) for _, records in batches) <= 1_000
        for at, records in batches:
            largest = max(largest, len(records))
            found[at] += records
            assert bulk.position(at) == len(found[at])
            # Without keys there is nothing a store could keep.
            assert [*columns_by_key(records).keys] == []

    assert [values({at: found[at]}) for at in partitions] == [contents, contents]
    assert largest > 100
    assert 0 < sum(len(records) for _, records in single.poll(1_000, WAIT_MS)) <= 100
    bulk.close()
    single.close()


def test_a_long_pause_loses_and_repeats_nothing(
    open_transport: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a limit the partition is paused in librdkafka too, which drops what it fetched."""
    monkeypatch.setattr(kafka_reader, "HELD_RECORDS_MAX", 50)
    transport = open_transport()
    topic = new_topic(transport, 2)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    contents = [b"%d" % n for n in range(3_000)]
    produce(transport, topic, *contents, partition=0)
    produce(transport, topic, *contents, partition=1)
    reader = transport.reader()
    reader.add({zero: 0})
    first = read(reader, 10)
    reader.add({one: 0})
    reader.pause([zero])
    assert values(read(reader, 3_000)) == contents
    assert reader.position(zero) == 10

    reader.resume([zero])
    rest: list[RawRecord] = []
    for turn in range(3):
        rest += read(reader, 20)[zero]
        assert reader.position(zero) == 10 + len(rest)
        reader.pause([zero])
        assert not reader.poll(10, 100)
        assert reader.position(zero) == 10 + len(rest)
        if turn:
            reader.pause([zero])
        reader.resume([zero])
    rest += read(reader, 2_990 - len(rest))[zero]

    assert values(first) + [record[2] for record in rest] == contents
    # A pause does not outlive the assignment.
    reader.pause([zero])
    assert not reader.poll(10, 50)
    reader.remove([zero])
    reader.add({zero: 2_999})
    assert values(read(reader, 1)) == [b"2999"]
    reader.close()


def test_a_partition_paused_before_its_first_record_begins_at_its_position(
    open_transport: Open,
) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    produce(transport, topic, *[b"%d" % n for n in range(100)])
    reader = transport.reader()
    reader.add({at: 40})
    reader.pause([at])
    assert not reader.poll(10, 300)
    assert reader.position(at) == 40

    reader.resume([at])

    assert values(read(reader, 60)) == [b"%d" % n for n in range(40, 100)]
    reader.close()


def test_a_reader_moves_over_offsets_that_compaction_left_empty(open_transport: Open) -> None:
    """Restoring waits for the position to reach the end: it must, without records."""
    transport = open_transport(exactly_once=True)
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    send = transport.sender(topic)
    for _ in range(3):
        send(b"k", b"v", 1, None, 0)
        transport.flush()
        transport.commit({})
    for _ in range(2):
        send(b"k", b"taken back", 1, None, 0)
        transport.flush()
        transport.abort()
    ends = transport.high_watermarks([at])
    reader = transport.reader()
    reader.add({at: 0})

    found = []
    while reader.position(at) < ends[at]:
        found += [record for _, records in reader.poll(100, WAIT_MS) for record in records]

    reader.close()
    # The marker of the last transaction may still be on its way.
    assert ends[at] in (9, 10)
    assert [record[2] for record in found] == [b"v"] * 3


def test_a_failure_of_one_partition_loses_no_records_of_another(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport, 3)
    zero, one, two = (TopicPartition(topic, n) for n in range(3))
    produce(transport, topic, *[b"%d" % n for n in range(500)], partition=0)
    reader = transport.reader()
    reader.add({zero: 0, one: 99, two: 98})

    found: list[bytes | None] = []
    failed: set[tuple[str | None, int | None, int | None]] = set()
    while len(found) < 500 or len(failed) < 2:
        try:
            found += values(dict(reader.poll(100, WAIT_MS)))
        except OffsetOutOfRangeError as error:
            failed.add((error.topic, error.partition, error.offset))

    reader.close()
    assert found == [b"%d" % n for n in range(500)]
    assert failed == {(topic, 1, 99), (topic, 2, 98)}


def test_a_reader_goes_on_in_a_topic_that_was_truncated_under_it(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    produce(transport, topic, *[b"%d" % n for n in range(10)])
    reader = transport.reader()
    reader.add({at: 10})
    assert not reader.poll(10, 100)
    reader.remove([at])
    transport.delete_records({at: 8})
    reader.add({at: 3})
    with pytest.raises(OffsetOutOfRangeError):
        read(reader, 1)

    reader.add(transport.begin_offsets([at]))

    assert values(read(reader, 2)) == [b"8", b"9"]
    reader.close()


# -- sending --------------------------------------------------------------------------------


def test_a_refused_record_stays_refused_until_the_batch_is_given_up(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    send = transport.sender(topic, track_offsets=True)
    send(b"key", bytes(3_000_000), 1, None, 0)

    for _ in range(2):
        with pytest.raises(ProductionError) as caught:
            transport.flush()
        assert f"3000003 bytes for topic {topic!r}" in str(caught.value)
        assert "max.message.bytes" in str(caught.value)
    with pytest.raises(ProductionError):
        transport.commit({at: OffsetAndMetadata(1)})

    transport.abort()
    send(b"key", b"small", 1, None, 0)
    transport.flush()
    transport.commit({at: OffsetAndMetadata(1)})
    assert transport.written_offsets() == {at: 1}
    assert transport.committed([at]) == {at: OffsetAndMetadata(1)}


def test_nobody_is_asked_about_a_batch_whose_culprit_is_not_known(open_transport: Open) -> None:
    transport, asked = open_transport(), []
    topic = new_topic(transport, max_message_bytes="10000")
    transport.on_refused = lambda record, _error: bool(asked.append(record)) or True
    for size in (10, 20_000, 10):
        transport.sender(topic)(b"key", bytes(size), 1, None, 0)

    with pytest.raises(ProductionError) as caught:
        transport.flush()

    assert asked == []
    assert f"a batch of records for topic {topic!r} was refused" in caught.value.message
    assert "batch.size" in caught.value.message
    transport.abort()


def test_the_broker_refuses_a_record_alone_and_it_can_be_done_without(
    open_transport: Open,
) -> None:
    transport, asked = open_transport(producer_configs={"batch.size": 5_000}), []
    topic = new_topic(transport, max_message_bytes="10000")
    transport.on_refused = lambda record, _error: bool(asked.append(record.value)) or True
    for size in (10, 20_000, 11):
        transport.sender(topic)(b"key", bytes(size), 1, None, 0)
    transport.flush()
    transport.commit({})

    assert asked == [bytes(20_000)]
    reader = transport.reader()
    reader.add({TopicPartition(topic, 0): 0})
    found = [len(record[2] or b"") for records in drained(reader).values() for record in records]
    assert found == [10, 11]


def test_in_a_transaction_nobody_is_asked_about_what_the_broker_refuses(
    open_transport: Open,
) -> None:
    transport, asked = open_transport(exactly_once=True, producer_configs={"batch.size": 100}), []
    topic = new_topic(transport, max_message_bytes="10000")
    transport.on_refused = lambda record, _error: bool(asked.append(record)) or True
    transport.sender(topic)(b"key", bytes(20_000), 1, None, 0)

    with pytest.raises(ProductionError, match="20003 bytes"):
        transport.flush()

    assert asked == []
    transport.abort()


def test_the_last_known_end_is_told_while_a_poll_waits(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    produce(transport, topic, b"a", b"b")
    reader = transport.reader()
    reader.add({at: 0})
    drained(reader)
    waiting = threading.Thread(target=lambda: reader.poll(1, WAIT_MS))
    waiting.start()

    # librdkafka keeps a second thread waiting that asks the consumer itself.
    ends = {reader.last_end_offset(at) for _ in range(1_000)}

    assert waiting.is_alive()
    assert ends == {2}
    produce(transport, topic, b"c")
    waiting.join()


def test_more_records_than_the_buffer_holds_are_all_sent(open_transport: Open) -> None:
    transport = open_transport(producer_configs={"queue.buffering.max.messages": 100})
    topic = new_topic(transport)
    contents = [b"%d" % n for n in range(2_000)]
    produce(transport, topic, *contents)
    reader = transport.reader()
    reader.add({TopicPartition(topic, 0): 0})

    assert values(read(reader, 2_000)) == contents
    reader.close()


def test_written_offsets_are_the_truth_over_transactions(open_transport: Open) -> None:
    transport = open_transport(exactly_once=True)
    topic = new_topic(transport, 2)
    zero = TopicPartition(topic, 0)
    send = transport.sender(topic, track_offsets=True)
    told = []
    for records in (3, 1, 2):
        for _ in range(records):
            send(b"k", b"v", 1, None, 0)
        transport.flush()
        transport.commit({})
        told.append(transport.written_offsets())
    reader = transport.reader()
    reader.add({zero: 0})
    offsets = [offset_of(record[3]) for record in read(reader, 6)[zero]]
    reader.close()

    assert [one[zero] for one in told] == [offsets[n] + 1 for n in (2, 3, 5)]
    assert all(TopicPartition(topic, 1) not in one for one in told)


# -- transactions ---------------------------------------------------------------------------


class Member:
    """A group's face that the test controls."""

    def __init__(self, group_id: str, member_id: str = "", epoch: int = -1) -> None:
        self.current = MemberIdentity(group_id, member_id, epoch)
        self.commits: list[Mapping[TopicPartition, OffsetAndMetadata]] = []

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[Any, Any]:
        return {}

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self.commits.append(offsets)

    def identity(self) -> MemberIdentity:
        return self.current


def test_at_least_once_leaves_positions_to_the_group(open_transport: Open) -> None:
    member = Member("g")
    transport = open_transport(group=member)
    at = TopicPartition("t", 0)

    transport.commit({at: OffsetAndMetadata(1, "AQ==")})
    transport.commit({})

    assert member.commits == [{at: OffsetAndMetadata(1, "AQ==")}]


def test_records_and_positions_last_together(open_transport: Open) -> None:
    transport, observer = open_transport(exactly_once=True), open_transport(exactly_once=True)
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    send = transport.sender(topic)
    send(b"k", b"one", 1, None, 0)
    transport.flush()
    transport.commit({at: OffsetAndMetadata(1, "AQ==")})
    send(b"k", b"two", 1, None, 0)
    transport.flush()
    transport.abort()
    reader = observer.reader()
    reader.add({at: 0})

    assert values(read(reader, 1)) == [b"one"]
    assert not drained(reader)
    assert observer.committed([at]) == {at: OffsetAndMetadata(1, "AQ==")}
    reader.close()


def test_a_member_the_group_does_not_know_commits_nothing(open_transport: Open) -> None:
    """The transaction can be taken back, and the same producer goes on."""
    observer = open_transport(exactly_once=True)
    topic = new_topic(observer)
    at = TopicPartition(topic, 0)
    observer.commit({at: OffsetAndMetadata(7)})
    group_id = observer.settings.consumer["group.id"]
    member = Member(group_id, "stranger", 3)
    transport = open_transport(exactly_once=True, group=member)
    transport.sender(topic)(b"k", b"refused", 1, None, 0)
    transport.flush()

    with pytest.raises(TaskMigratedError):
        transport.commit({at: OffsetAndMetadata(8)})

    transport.abort()
    assert observer.committed([at]) == {at: OffsetAndMetadata(7)}
    member.current = MemberIdentity(group_id)
    transport.sender(topic)(b"k", b"accepted", 1, None, 0)
    transport.flush()
    transport.commit({at: OffsetAndMetadata(9)})
    reader = observer.reader()
    reader.add({at: 0})
    assert values(read(reader, 1)) == [b"accepted"]
    assert observer.committed([at]) == {at: OffsetAndMetadata(9)}
    reader.close()


def test_a_fenced_producer_is_replaced_by_an_abort(open_transport: Open) -> None:
    """Its senders, bound into chains long before, go on with the new one."""
    first = open_transport(exactly_once=True, process_id="same")
    topic = new_topic(first)
    at = TopicPartition(topic, 0)
    send, tracked = first.sender(topic), first.sender(topic, track_offsets=True)
    send(b"k", b"lost", 1, None, 0)
    first.flush()
    second = open_transport(exactly_once=True, process_id="same")
    produce(second, topic, b"second")

    send(b"k", b"too late", 1, None, 0)
    with pytest.raises(TaskMigratedError):
        first.flush()
    with pytest.raises(TaskMigratedError):
        first.commit({})

    first.abort()
    send(b"k", b"first again", 1, None, 0)
    tracked(b"k", b"and again", 1, None, 0)
    first.flush()
    first.commit({})
    reader = second.reader()
    reader.add({at: 0})
    assert values(read(reader, 3)) == [b"second", b"first again", b"and again"]
    reader.close()


def test_a_transaction_the_broker_gave_up_can_be_taken_back(open_transport: Open) -> None:
    """As after a process was suspended in the middle of one."""
    transport = open_transport(
        exactly_once=True,
        commit_interval_ms=100,
        producer_configs={"transaction.timeout.ms": 1_000},
    )
    observer = open_transport(exactly_once=True)
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    send = transport.sender(topic)
    send(b"k", b"too late", 1, None, 0)
    transport.flush()
    reader = observer.reader()
    reader.add({at: 0})
    while reader.position(at) < 2:  # the record, and the broker's marker behind it
        assert not reader.poll(10, WAIT_MS)

    with pytest.raises(TaskMigratedError):
        transport.commit({})

    transport.abort()
    send(b"k", b"again", 1, None, 0)
    transport.flush()
    transport.commit({})
    assert values(read(reader, 1)) == [b"again"]
    reader.close()


def test_closing_takes_back_what_was_not_committed_at_once(open_transport: Open) -> None:
    """Nobody waits for the transaction's time-out."""
    transport, observer = open_transport(exactly_once=True), open_transport(exactly_once=True)
    topic = new_topic(transport)
    at = TopicPartition(topic, 0)
    transport.sender(topic)(b"k", b"v", 1, None, 0)
    transport.flush()

    transport.close()

    produce(observer, topic, b"after")
    reader = observer.reader()
    reader.add({at: 0})
    assert values(read(reader, 1)) == [b"after"]
    reader.close()


# -- topics and groups ----------------------------------------------------------------------


def test_the_brokers_own_topics_are_not_told(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport)
    transport.commit({TopicPartition(topic, 0): OffsetAndMetadata(1)})

    topics = transport.topics()

    assert topic in topics
    assert not any(name.startswith("__") for name in topics)


@pytest.mark.parametrize(
    "topic",
    [
        NewTopic("t-impossible", 1, replication_factor=99),
        NewTopic("t-impossible", 1, configs={"no.such.config": "1"}),
        NewTopic("t-impossible", 1, configs={"retention.ms": "soon"}),
        NewTopic("not a name", 1),
    ],
)
def test_a_topic_the_cluster_cannot_make_is_named(open_transport: Open, topic: NewTopic) -> None:
    with pytest.raises(TransportError, match=topic.name):
        open_transport().create_topics([topic])


def test_internal_topics_get_their_settings(open_transport: Open) -> None:
    transport = open_transport()
    topic = new_topic(transport, cleanup_policy="compact", max_message_bytes="1000")

    transport.sender(topic)(None, b"v", 1, None, 0)

    with pytest.raises(ProductionError):
        transport.flush()


# -- settings and connections ---------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["consumer_configs", "producer_configs", "admin_configs"])
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("no.such.setting", 1, 'No such configuration property: "no.such.setting"'),
        ("socket.timeout.ms", -5, "socket.timeout.ms"),
        ("ssl.ca.location", "/nowhere/ca.pem", "ssl.ca.location"),
    ],
)
def test_a_setting_librdkafka_refuses_is_named(
    open_transport: Open, mapping: str, name: str, value: Any, text: str
) -> None:
    given = {name: value}
    if name.startswith("ssl."):
        given["security.protocol"] = "SSL"
    with pytest.raises(ConfigError) as caught:
        open_transport(**{mapping: given})

    assert str(caught.value).startswith(mapping)
    assert text in str(caught.value)


def test_a_cluster_that_is_not_there_is_told_in_time() -> None:
    config = StreamsConfig(
        application_id="app",
        bootstrap_servers="127.0.0.1:1",
        admin_configs={"socket.connection.setup.timeout.ms": 1_000},
    )

    with pytest.raises(BrokerError) as caught:
        KafkaTransport(config)

    assert "cannot reach Kafka at 127.0.0.1:1 within 1 s" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "check bootstrap_servers" in str(caught.value)


def test_a_host_without_an_address_is_told() -> None:
    config = StreamsConfig(
        application_id="app",
        bootstrap_servers="no-such-host.invalid:9092",
        admin_configs={"socket.connection.setup.timeout.ms": 1_000},
    )

    with pytest.raises(BrokerError, match="host names in bootstrap_servers"):
        KafkaTransport(config)


def test_a_listener_without_tls_is_told(open_transport: Open) -> None:
    with pytest.raises(BrokerError, match="names a TLS listener"):
        open_transport(
            consumer_configs={"security.protocol": "SSL"},
            admin_configs={"socket.connection.setup.timeout.ms": 1_000},
        )


def secured(name: str, configs: Mapping[str, str], **changed: str) -> StreamsConfig:
    """Returns the settings of an application that uses another listener."""
    security = {**configs, **changed}
    return StreamsConfig(
        application_id=name,
        bootstrap_servers=security.pop("bootstrap.servers"),
        consumer_configs=security,
        # Longer than a test may take: a refusal must not be waited for.
        admin_configs={"socket.connection.setup.timeout.ms": 600_000},
    )


@pytest.mark.parametrize("listener", ["sasl_configs", "tls_configs"])
def test_every_client_gets_the_security_given_once(
    broker: Broker, name: str, listener: str
) -> None:
    with KafkaTransport(secured(name, getattr(broker, listener))) as transport:
        transport.create_topics([NewTopic(name, 1)])
        produce(transport, name, b"v")
        transport.commit({TopicPartition(name, 0): OffsetAndMetadata(1)})
        reader = transport.reader()
        reader.add({TopicPartition(name, 0): 0})

        assert values(read(reader, 1)) == [b"v"]
        reader.close()


def test_credentials_the_broker_refuses_end_the_attempt_at_once(broker: Broker, name: str) -> None:
    config = secured(name, broker.sasl_configs, **{"sasl.password": "wrong"})

    with pytest.raises(AuthenticationError, match=r"sasl\.username and sasl\.password") as caught:
        KafkaTransport(config)

    assert "wrong" not in str(caught.value)


def test_a_certificate_of_a_stranger_ends_the_attempt(broker: Broker, name: str) -> None:
    trusted = dict(broker.tls_configs)
    # Its own certificate, but none of the authority that signed it.
    trusted["ssl.ca.location"] = trusted["ssl.certificate.location"]

    with pytest.raises(AuthenticationError, match=r"ssl\.ca\.location"):
        KafkaTransport(secured(name, trusted))


def test_librdkafkas_log_goes_to_pythons(
    open_transport: Open, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "thalweg.streams.transport.kafka.transport"):
        transport = open_transport(producer_configs={"debug": "broker"})
        transport.flush()
        transport.close()

    assert any(record.name.endswith(".librdkafka") for record in caplog.records)
    assert capfd.readouterr().err == ""
