"""What every transport must do, whoever stands behind it: the port's promises as tests.

A test module makes a subclass of `TransportConformance` and gives it a `world` fixture:

    class TestLocal(TransportConformance):
        @pytest.fixture
        def world(self, tmp_path):
            with LocalWorld(tmp_path) as world:
                yield world
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import ClassVar, Self

import pytest

from tests.waiting import HANG_S
from thalweg.stores.record import (
    RawRecord,
    columns_by_key,
    headers_of,
    offset_of,
)
from thalweg.streams.errors import (
    OffsetOutOfRangeError,
    ProductionError,
    StreamsError,
    TransportError,
)
from thalweg.streams.transport.partitioning import partition_of
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    Reader,
    RefusedRecord,
    TopicPartition,
    Transport,
)

WAIT_MS = 10_000
"""How long a read may wait for what must come; a transport that is in order never takes it."""


class World(ABC):
    """A log, and the transports a test opens on it. Closes them all."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.now_ms = 1_000_000

    @abstractmethod
    def new_transport(self, group: str | None) -> Transport:
        """Opens a transport on the same log as before."""

    def open(self, group: str | None = None) -> Transport:
        """Opens a transport that is closed at the end of the test."""
        return self._stack.enter_context(self.new_transport(group))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def read(reader: Reader, count: int) -> dict[TopicPartition, list[RawRecord]]:
    """Polls until `count` records came."""
    found: dict[TopicPartition, list[RawRecord]] = {}
    while count > 0:
        batches = reader.poll(count, WAIT_MS)
        if not batches:
            # A move over offsets without records may return early; then nothing may be left.
            batches = reader.poll(count, WAIT_MS)
            assert batches, f"{count} records are missing"
        for at, records in batches:
            assert records
            found.setdefault(at, []).extend(records)
            count -= len(records)
    assert count == 0
    return found


def read_all(transport: Transport, topic: str, count: int) -> dict[TopicPartition, list[RawRecord]]:
    """Reads a topic from its beginning: exactly `count` records."""
    partitions = partitions_of(transport, topic)
    reader = transport.reader()
    reader.add(transport.begin_offsets(partitions))
    found = read(reader, count)
    assert not reader.poll(1, 0)
    reader.close()
    return found


def partitions_of(transport: Transport, topic: str) -> list[TopicPartition]:
    """Returns all partitions of a topic that exists."""
    count = transport.partition_count(topic)
    assert count is not None
    return [TopicPartition(topic, number) for number in range(count)]


def values(batches: Mapping[TopicPartition, Sequence[RawRecord]]) -> list[bytes | None]:
    """Returns the values of all records, partition by partition."""
    return [record[2] for at in sorted(batches) for record in batches[at]]


def produce(transport: Transport, topic: str, *contents: bytes, partition: int = 0) -> None:
    """Sends and commits values."""
    send = transport.sender(topic)
    for content in contents:
        send(None, content, 0, None, partition)
    transport.flush()
    transport.commit({})


class TransportConformance:
    """The suite; see the module."""

    can_abort: ClassVar[bool] = True
    """Whether what was not committed is never seen by others (Kafka: only exactly-once)."""

    def world(self) -> Iterator[World]:
        raise NotImplementedError

    # -- topics --------------------------------------------------------------------------

    def test_topics_are_created_with_their_partitions(self, world: World) -> None:
        transport = world.open()

        transport.create_topics([NewTopic("one", 1), NewTopic("three", 3)])

        assert {"one", "three"} <= set(transport.topics())
        assert transport.partition_counts(["one", "three", "none"]) == {"one": 1, "three": 3}
        assert transport.partition_count("none") is None

    def test_other_transports_see_created_topics(self, world: World) -> None:
        first, second = world.open(), world.open()

        first.create_topics([NewTopic("t", 2)])

        assert second.partition_count("t") == 2

    def test_creating_a_topic_again_keeps_it(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        produce(transport, "t", b"kept")

        transport.create_topics([NewTopic("t", 2)])

        assert values(read_all(transport, "t", 1)) == [b"kept"]

    def test_a_topic_does_not_change_its_partition_count(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])

        with pytest.raises(TransportError, match=r"'t' exists with 2 partitions"):
            transport.create_topics([NewTopic("t", 3)])

        assert transport.partition_count("t") == 2

    @pytest.mark.parametrize("name", ["", "a b", "é", ".", "..", "a/b", "a" * 250])
    def test_a_topic_has_a_name_kafka_takes(self, world: World, name: str) -> None:
        transport = world.open()

        with pytest.raises(TransportError):
            transport.create_topics([NewTopic(name, 1)])

        assert name not in transport.topics()

    def test_a_deleted_topic_is_gone(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1), NewTopic("other", 1)])
        produce(transport, "t", b"gone")

        transport.delete_topics(["t", "never-was"])

        assert transport.partition_count("t") is None
        assert "other" in transport.topics()

    def test_a_topic_made_anew_begins_empty(self, world: World) -> None:
        transport = world.open("app")
        transport.create_topics([NewTopic("t", 1)])
        produce(transport, "t", b"gone")
        at = TopicPartition("t", 0)
        transport.commit({at: OffsetAndMetadata(1)})
        transport.delete_topics(["t"])

        transport.create_topics([NewTopic("t", 1)])

        assert transport.end_offsets([at]) == {at: 0}
        assert transport.committed([at]) == {}
        produce(transport, "t", b"new")
        assert values(read_all(transport, "t", 1)) == [b"new"]

    # -- sending -------------------------------------------------------------------------

    def test_a_record_comes_back_as_it_was_sent(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        send = transport.sender("t")
        headers = [("a", b"1"), ("b", None), ("a", b""), ("ü", b"\xff")]
        send(b"key", b"value", 1, None, None)
        send(None, None, 2, headers, None)
        send(b"", b"", 3, [], 0)
        send(b"\x00\xff", b"\xc1" * 300, 2**40, None, 0)
        transport.flush()
        transport.commit({})

        (records,) = read_all(transport, "t", 4).values()

        assert [record[:3] for record in records] == [
            (1, b"key", b"value"),
            (2, None, None),
            (3, b"", b""),
            (2**40, b"\x00\xff", b"\xc1" * 300),
        ]
        assert [headers_of(record[3]) or [] for record in records] == [[], headers, [], []]
        offsets = [offset_of(record[3]) for record in records]
        assert offsets == sorted(set(offsets))

    def test_a_record_without_a_timestamp_gets_the_time_of_sending(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        transport.sender("t")(b"k", b"v", None, None, None)
        transport.flush()
        transport.commit({})

        (records,) = read_all(transport, "t", 1).values()

        assert abs(records[0][0] - world.now_ms) < 60_000

    def test_the_keys_hash_chooses_the_partition(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 5)])
        send = transport.sender("t")
        keys = [b"key-%d" % number for number in range(50)]
        for key in keys:
            send(key, key, 0, None, None)
        transport.flush()
        transport.commit({})

        found = read_all(transport, "t", len(keys))

        assert {record[1]: at.partition for at in found for record in found[at]} == {
            key: partition_of(key, 5) for key in keys
        }

    def test_records_without_keys_are_spread(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 3)])
        send = transport.sender("t")
        for _ in range(3000):
            send(None, b"v", 0, None, None)
        transport.flush()
        transport.commit({})

        ends = transport.end_offsets(partitions_of(transport, "t"))

        assert min(ends.values()) > 0

    def test_a_partition_that_was_chosen_is_kept(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 3)])

        produce(transport, "t", b"a", b"b", partition=2)

        found = read_all(transport, "t", 2)
        assert {at.partition: values({at: found[at]}) for at in found} == {2: [b"a", b"b"]}

    def test_order_within_a_partition_is_that_of_sending(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        contents = [b"%d" % number for number in range(5000)]
        first, second = transport.sender("t"), transport.sender("t")
        for turn, content in enumerate(contents):
            (first, second)[turn % 2](b"k", content, 0, None, 1)
            if turn % 1700 == 0:
                transport.flush()
        transport.flush()
        transport.commit({})

        (records,) = read_all(transport, "t", len(contents)).values()

        assert [record[2] for record in records] == contents

    def test_a_topic_that_is_missing_is_created_by_sending(self, world: World) -> None:
        transport = world.open()

        produce(transport, "fresh", b"v")

        assert transport.partition_count("fresh") is not None
        assert values(read_all(transport, "fresh", 1)) == [b"v"]

    def test_a_record_above_the_limit_is_refused_by_flush(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        transport.sender("t")(b"k", bytes(2_000_000), 0, None, None)

        with pytest.raises(ProductionError, match="t"):
            transport.flush()

        transport.abort()
        produce(transport, "t", b"fits")
        assert values(read_all(transport, "t", 1)) == [b"fits"]

    def test_a_refused_record_is_asked_about_and_can_be_done_without(self, world: World) -> None:
        transport, asked = world.open(), []
        transport.create_topics([NewTopic("t", 1), NewTopic("letters", 1)])

        def go_on(record: RefusedRecord, error: ProductionError) -> bool:
            asked.append((record, type(error)))
            transport.sender("letters")(record.key, b"too large", 1, None, None)
            return True

        transport.on_refused = go_on
        send = transport.sender("t")
        for value in (b"1", bytes(2_000_000), b"3"):
            send(b"k", value, 7, [("h", b"x")], None)
        transport.flush()
        transport.commit({})

        assert values(read_all(transport, "t", 2)) == [b"1", b"3"]
        assert values(read_all(transport, "letters", 1)) == [b"too large"]
        ((record, kind),) = asked
        assert (record.topic, record.timestamp, record.key) == ("t", 7, b"k")
        assert (len(record.value or b""), record.headers) == (2_000_000, [("h", b"x")])
        assert kind is ProductionError

    @pytest.mark.parametrize("is_tracked", [True, False])
    def test_a_refused_record_is_an_error_unless_it_is_allowed_to_be_dropped(
        self, world: World, is_tracked: bool
    ) -> None:
        transport, asked = world.open(), []
        transport.create_topics([NewTopic("t", 1)])

        def go_on(record: RefusedRecord, _error: ProductionError) -> bool:
            asked.append(record.topic)
            return is_tracked  # of a changelog nobody is asked

        transport.on_refused = go_on
        transport.sender("t", track_offsets=is_tracked)(b"k", bytes(2_000_000), 7, None, 0)
        with pytest.raises(ProductionError, match="2000001 bytes"):
            transport.flush()

        assert asked == ([] if is_tracked else ["t"])
        transport.abort()
        produce(transport, "t", b"fits")
        assert values(read_all(transport, "t", 1)) == [b"fits"]

    def test_a_topic_keeps_to_the_limit_it_was_created_with(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1, configs={"max.message.bytes": "100"})])
        transport.sender("t")(b"k", bytes(500), 0, None, None)

        with pytest.raises(ProductionError) as caught:
            transport.flush()

        assert caught.value.topic == "t"
        transport.abort()

    def test_a_partition_that_does_not_exist_is_refused_by_flush(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        transport.sender("t")(b"k", b"v", 0, None, 2)

        with pytest.raises(ProductionError) as caught:
            transport.flush()

        assert caught.value.topic == "t"
        transport.abort()

    def test_a_compacted_topic_refuses_records_without_a_key(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1, configs={"cleanup.policy": "compact"})])
        transport.sender("t")(None, b"v", 0, None, None)

        with pytest.raises(ProductionError):
            transport.flush()

        transport.abort()

    def test_an_illegal_topic_name_is_refused_by_flush(self, world: World) -> None:
        transport = world.open()
        transport.sender("not a name")(b"k", b"v", 0, None, None)

        with pytest.raises(ProductionError):
            transport.flush()

        transport.abort()

    def test_written_offsets_tell_where_tracked_records_end(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 3), NewTopic("untracked", 1)])
        assert transport.written_offsets() == {}
        send = transport.sender("t", track_offsets=True)
        for partition in (0, 2, 2):
            send(b"k", b"v", 0, None, partition)
        transport.sender("untracked")(b"k", b"v", 0, None, 0)
        transport.flush()
        transport.commit({})

        written = transport.written_offsets()

        ends = transport.end_offsets(partitions_of(transport, "t"))
        reader = transport.reader()
        reader.add({TopicPartition("t", 0): 0, TopicPartition("t", 2): 0})
        last = {at: offset_of(found[-1][3]) for at, found in read(reader, 3).items()}
        assert written == {at: offset + 1 for at, offset in last.items()}
        assert all(written[at] <= ends[at] for at in written)

    # -- transactions --------------------------------------------------------------------

    def test_others_see_records_after_the_commit(self, world: World) -> None:
        writer, other = world.open(), world.open()
        writer.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        reader = other.reader()
        reader.add({at: 0})
        writer.sender("t")(b"k", b"v", 0, None, None)
        writer.flush()
        if self.can_abort:
            assert not reader.poll(10, 0)
            assert other.end_offsets([at]) == {at: 0}

        writer.commit({})

        assert values(read(reader, 1)) == [b"v"]
        assert other.end_offsets([at])[at] >= 1

    def test_an_abort_takes_back_what_was_sent(self, world: World) -> None:
        if not self.can_abort:
            pytest.skip("records may last without their offsets")
        transport = world.open("app")
        transport.create_topics([NewTopic("t", 1)])
        produce(transport, "t", b"before")
        send = transport.sender("t")
        send(b"k", b"taken back", 0, None, None)
        transport.flush()

        transport.abort()
        transport.commit({TopicPartition("t", 0): OffsetAndMetadata(1)})
        send(b"k", b"after", 0, None, None)
        transport.flush()
        transport.commit({})

        assert values(read_all(transport, "t", 2)) == [b"before", b"after"]

    def test_what_was_not_committed_is_gone_after_close(self, world: World) -> None:
        if not self.can_abort:
            pytest.skip("records may last without their offsets")
        writer, other = world.open(), world.open()
        writer.create_topics([NewTopic("t", 1)])
        writer.sender("t")(b"k", b"v", 0, None, None)
        writer.flush()

        writer.close()

        produce(other, "t", b"other")
        assert values(read_all(other, "t", 1)) == [b"other"]

    def test_a_commit_of_nothing_does_nothing(self, world: World) -> None:
        transport = world.open("app")
        transport.create_topics([NewTopic("t", 1)])

        transport.commit({})
        transport.flush()
        transport.abort()
        transport.commit({})

        assert transport.end_offsets([TopicPartition("t", 0)]) == {TopicPartition("t", 0): 0}

    def test_after_a_refused_record_nothing_is_committed_before_an_abort(
        self, world: World
    ) -> None:
        if not self.can_abort:
            pytest.skip("records may last without their offsets")
        transport = world.open("app")
        transport.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        send = transport.sender("t")
        send(b"k", b"fine", 0, None, None)
        send(b"k", bytes(2_000_000), 0, None, None)
        with pytest.raises(ProductionError):
            transport.flush()

        with pytest.raises(StreamsError):
            transport.commit({at: OffsetAndMetadata(1)})

        assert transport.committed([at]) == {}
        assert transport.end_offsets([at]) == {at: 0}
        transport.abort()
        transport.commit({at: OffsetAndMetadata(1)})
        assert transport.committed([at]) == {at: OffsetAndMetadata(1)}

    # -- positions of groups -------------------------------------------------------------

    def test_positions_belong_to_the_group(self, world: World) -> None:
        first, second = world.open("one"), world.open("two")
        first.create_topics([NewTopic("t", 3)])
        zero, one = TopicPartition("t", 0), TopicPartition("t", 1)

        first.commit({zero: OffsetAndMetadata(5, "AQ=="), one: OffsetAndMetadata(0)})

        assert first.committed(partitions_of(first, "t")) == {
            zero: OffsetAndMetadata(5, "AQ=="),
            one: OffsetAndMetadata(0),
        }
        assert first.committed([one]) == {one: OffsetAndMetadata(0)}
        assert second.committed([zero, one]) == {}

    def test_later_positions_replace_earlier_ones(self, world: World) -> None:
        transport = world.open("app")
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        transport.commit({zero: OffsetAndMetadata(5), one: OffsetAndMetadata(6)})

        transport.commit({zero: OffsetAndMetadata(3, "Ag==")})

        assert transport.committed([zero, one]) == {
            zero: OffsetAndMetadata(3, "Ag=="),
            one: OffsetAndMetadata(6),
        }

    def test_positions_outlive_the_transport(self, world: World) -> None:
        keeper = world.open()
        keeper.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        with world.new_transport("app") as transport:
            transport.commit({at: OffsetAndMetadata(7)})

        assert world.open("app").committed([at]) == {at: OffsetAndMetadata(7)}

    def test_deleted_positions_are_gone(self, world: World) -> None:
        transport, other = world.open("app"), world.open("other")
        transport.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        transport.commit({at: OffsetAndMetadata(7)})
        other.commit({at: OffsetAndMetadata(8)})

        transport.delete_offsets()

        assert transport.committed([at]) == {}
        assert other.committed([at]) == {at: OffsetAndMetadata(8)}

    # -- reading -------------------------------------------------------------------------

    def test_a_reader_begins_at_its_position(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        produce(transport, "t", *[b"%d" % n for n in range(20)])
        (records,) = read_all(transport, "t", 20).values()
        offsets = [offset_of(record[3]) for record in records]
        reader = transport.reader()

        reader.add({at: offsets[13]})

        assert reader.position(at) == offsets[13]
        assert values(read(reader, 7)) == [b"%d" % n for n in range(13, 20)]
        assert reader.position(at) > offsets[19]

    def test_adding_a_partition_again_moves_the_reader(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        produce(transport, "t", b"a", b"b", partition=0)
        produce(transport, "t", b"c", b"d", partition=1)
        reader = transport.reader()
        reader.add({zero: 0, one: 0})
        read(reader, 4)

        reader.add({zero: 0})

        assert values(read(reader, 2)) == [b"a", b"b"]
        assert not reader.poll(10, 0)

    def test_a_removed_partition_brings_nothing_more(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        produce(transport, "t", b"a", b"b", partition=0)
        produce(transport, "t", b"c", partition=1)
        reader = transport.reader()
        reader.add({zero: 0})
        read(reader, 1)

        reader.remove([zero, TopicPartition("t", 9)])
        reader.add({one: 0})

        assert values(read(reader, 1)) == [b"c"]
        assert not reader.poll(10, 0)

    def test_paused_partitions_keep_their_position(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        produce(transport, "t", b"a", b"b", partition=0)
        produce(transport, "t", b"c", partition=1)
        reader = transport.reader()
        reader.add({zero: 0})
        read(reader, 1)
        position = reader.position(zero)
        reader.add({one: 0})

        reader.pause([zero])

        assert values(read(reader, 1)) == [b"c"]
        assert not reader.poll(10, 0)
        assert reader.position(zero) == position
        reader.resume([zero])
        assert values(read(reader, 1)) == [b"b"]

    def test_a_poll_brings_no_more_than_asked(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        for partition in (0, 1):
            produce(transport, "t", *[b"%d" % n for n in range(30)], partition=partition)
        reader = transport.reader()
        reader.add(dict.fromkeys(partitions_of(transport, "t"), 0))
        seen: dict[TopicPartition, list[RawRecord]] = {}

        for most in (1, 7, 50, 2):
            batches = reader.poll(most, WAIT_MS)
            assert 0 < sum(len(records) for _, records in batches) <= most
            assert len({at for at, _ in batches}) == len(batches)
            for at, records in batches:
                seen.setdefault(at, []).extend(records)
                assert reader.position(at) == offset_of(seen[at][-1][3]) + 1

        assert all(
            [record[2] for record in records] == [b"%d" % n for n in range(len(records))]
            for records in seen.values()
        )

    def test_no_partition_waits_for_ever(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 4)])
        for partition in range(4):
            produce(transport, "t", *[b"v"] * 200, partition=partition)
        reader = transport.reader()
        reader.add(dict.fromkeys(partitions_of(transport, "t"), 0))

        served = [at for _ in range(40) for at, _ in reader.poll(10, WAIT_MS)]

        assert set(served) == set(partitions_of(transport, "t"))

    def test_the_known_end_rises_above_the_position_while_there_is_more(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        produce(transport, "t", b"a", b"b", b"c")
        reader = transport.reader()
        assert reader.known_end_offset(at) is None
        reader.add({at: 0})

        read(reader, 2)

        end = reader.known_end_offset(at)
        assert end is not None
        assert reader.position(at) < end
        read(reader, 1)
        assert reader.position(at) >= end

    def test_a_reader_out_of_range_says_so(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        at = TopicPartition("t", 0)
        produce(transport, "t", b"a", b"b")
        reader = transport.reader()
        reader.add({at: 1000})

        with pytest.raises(OffsetOutOfRangeError) as caught:
            reader.poll(10, WAIT_MS)

        assert (caught.value.topic, caught.value.partition) == ("t", 0)
        reader.add({at: 0})
        assert values(read(reader, 2)) == [b"a", b"b"]

    @pytest.mark.parametrize("at", [TopicPartition("none", 0), TopicPartition("t", 5)])
    def test_a_reader_refuses_what_does_not_exist(self, world: World, at: TopicPartition) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        reader = transport.reader()

        with pytest.raises(TransportError):
            reader.add({at: 0})

    def test_a_waiting_reader_wakes_when_another_transport_commits(self, world: World) -> None:
        writer, other = world.open(), world.open()
        writer.create_topics([NewTopic("t", 1)])
        reader = other.reader()
        reader.add({TopicPartition("t", 0): 0})
        found: list[list[bytes | None]] = []
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            # Far above the suite's own limit: who does not wake up is killed by it.
            found.append(values(dict(reader.poll(10, 3_600_000))))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        begun.wait()
        produce(writer, "t", b"news")
        thread.join(HANG_S)

        assert found == [[b"news"]]

    def test_two_readers_of_a_transport_do_not_disturb_each_other(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        produce(transport, "t", b"a", b"b", b"c")
        at = TopicPartition("t", 0)
        first, second = transport.reader(), transport.reader()
        first.add({at: 0})
        second.add({at: 0})

        read(first, 2)
        second_read = values(read(second, 3))
        first.close()
        first.close()

        assert second_read == [b"a", b"b", b"c"]
        assert not second.poll(1, 0)

    def test_records_read_in_bulk_are_records_and_columns(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        send = transport.sender("t")
        sent: list[tuple[bytes | None, bytes | None]] = [
            (b"c", b"1"),
            (b"a", b"2"),
            (b"a", b"z"),
            (None, b"no key"),
            (b"b", None),
            (b"a", b""),
            (b"c", b"3"),
        ]
        for number, (key, value) in enumerate(sent):
            send(key, value, 100 + number, [("h", b"x")] if number == 1 else None, 0)
        transport.flush()
        transport.commit({})
        reader = transport.reader(in_bulk=True)
        reader.add({TopicPartition("t", 0): 0})

        count = 0
        while count < len(sent):
            for _, records in reader.poll(100, WAIT_MS):
                expected = sent[count : count + len(records)]
                count += len(records)
                assert [(key, value) for _, key, value, _ in records] == expected
                assert (records[0][1], records[-1][1]) == (expected[0][0], expected[-1][0])
                assert [record[1] for record in records[1:3]] == [key for key, _ in expected[1:3]]
                rows = [(key, value, time) for time, key, value, _ in records if key is not None]
                rows.sort(key=lambda row: row[0])
                times, keys, contents = columns_by_key(records)
                assert list(zip(keys, contents, times, strict=True)) == rows
        assert [*reader.poll(1, 0)] == []
        reader.close()

    # -- offsets -------------------------------------------------------------------------

    def test_offsets_are_found_by_time(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        send = transport.sender("t")
        for timestamp in (10, 30, 20, 40):
            send(b"k", b"%d" % timestamp, timestamp, None, 0)
        transport.flush()
        transport.commit({})
        (records,) = read_all(transport, "t", 4).values()
        offsets = [offset_of(record[3]) for record in records]
        ends = transport.end_offsets([zero, one])

        def found(timestamp_ms: int) -> Mapping[TopicPartition, int]:
            return transport.offsets_for_time([zero, one], timestamp_ms)

        assert found(0) == {zero: offsets[0], one: ends[one]}
        assert found(11) == {zero: offsets[1], one: ends[one]}
        assert found(31) == {zero: offsets[3], one: ends[one]}
        assert found(41) == {zero: ends[zero], one: ends[one]}

    def test_deleted_records_are_out_of_range(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 2)])
        zero, one = partitions_of(transport, "t")
        produce(transport, "t", *[b"%d" % n for n in range(10)], partition=0)
        produce(transport, "t", b"kept", partition=1)

        transport.delete_records({zero: 4})

        assert transport.begin_offsets([zero, one]) == {zero: 4, one: 0}
        reader = transport.reader()
        reader.add({zero: 3})
        with pytest.raises(OffsetOutOfRangeError):
            reader.poll(10, WAIT_MS)
        reader.add({zero: 4, one: 0})
        assert values(read(reader, 7)) == [*[b"%d" % n for n in range(4, 10)], b"kept"]

    # -- the end -------------------------------------------------------------------------

    def test_a_closed_transport_refuses(self, world: World) -> None:
        transport = world.open()
        transport.create_topics([NewTopic("t", 1)])
        reader = transport.reader()
        reader.add({TopicPartition("t", 0): 0})

        transport.close()
        transport.close()

        with pytest.raises(StreamsError):
            transport.flush()
        with pytest.raises(StreamsError):
            transport.commit({})
        with pytest.raises(StreamsError):
            transport.reader()
