"""The consumer side of Kafka: partitions are read from positions that the reader keeps.

Owns one consumer: its assigned partitions, their positions, which of them are paused, and their
last known ends. It must not know the producer, the admin client, nor the group that commits
positions.

Partitions are assigned at explicit positions; a reader never subscribes. A change of the assignment
is effective when the call returns: librdkafka drops the records that it fetched under the old
assignment. Records of a paused partition are first kept here, because pausing in librdkafka
discards fetched records. Only when there are many of them, the partition is paused in librdkafka
too.

Source: design 4; JVM `StoreChangelogReader`; librdkafka INTRODUCTION.md and its sources.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Position

from thalweg.stores.record import RawRecord, offset_of
from thalweg.streams.errors import StreamsError, TransportError
from thalweg.streams.transport.kafka.errors import failure_of
from thalweg.streams.transport.kafka.messages import MessageRun, raw_records
from thalweg.streams.transport.port import Batch, Reader, TopicPartition

CHUNK_RECORDS: Final = 1_000
"""Most messages taken from librdkafka at once: each is an object with three more inside, and
ten thousand of them leave the processor's cache before their turn comes. Measured: a record of
100 bytes from poll to produce costs 1.9 us with 1,000, 2.9 us with 10,000."""

HELD_RECORDS_MAX: Final = 20_000
"""A paused partition with more records held here is paused in librdkafka too."""

_LEADERS_MS: Final = 250
"""How often to look for leaders of partitions that are not read while there is none, and how long
that may take."""

_LOOK_UP_MS: Final = 1_000

_ENDS_MS: Final = 20
"""How old the known ends of partitions may get that bring nothing."""

_log = logging.getLogger(__name__)

# Methods of messages, called through `map`: a call less per field and record.
_error = Message.error
_partition = Message.partition
_topic = Message.topic


class _Assigned:
    """One partition a reader reads.

    Attributes:
        partition: its name.
        handle: its name for librdkafka.
        position: offset behind all that was taken from librdkafka.
        end_seen: where the end of the partition was met last, -1 before.
        known_end: the end of the partition as known lately, None before.
        is_paused: whether records are held back.
        is_stopped: whether it is paused in librdkafka too.
        is_suspended: whether it is not assigned there until its leader is known again.
        held: records held back, oldest first.
    """

    __slots__ = (
        "end_seen",
        "handle",
        "held",
        "is_paused",
        "is_stopped",
        "is_suspended",
        "known_end",
        "partition",
        "position",
    )

    def __init__(self, partition: TopicPartition, position: int) -> None:
        self.partition = partition
        self.handle = Position(partition.topic, partition.partition)
        self.position = position
        self.end_seen = -1
        self.known_end: int | None = None
        self.is_paused = False
        self.is_stopped = self.is_suspended = False
        self.held: list[RawRecord] = []


class KafkaReader(Reader):
    """Reads partitions with a consumer of its own. Made by `KafkaTransport.reader`.

    Args:
        consumer: the consumer, not assigned anything.
        check: raises TransportError where a partition does not exist.
        serve: called once per poll: lets the transport's other clients do their callbacks.
        reached: called when brokers answer that had gone.
        monotonic_ms: a clock that never goes back.
        reads_committed: whether records of open transactions are passed over.
        in_bulk: whether a poll brings all there is at once, as restoring likes it.
    """

    def __init__(
        self,
        consumer: Consumer,
        check: Callable[[Collection[TopicPartition]], None],
        serve: Callable[[], None],
        reached: Callable[[], None],
        monotonic_ms: Callable[[], float],
        *,
        reads_committed: bool,
        in_bulk: bool = False,
    ) -> None:
        self._in_bulk = in_bulk
        self._consumer = consumer
        self._check = check
        self._serve = serve
        self._reached = reached
        self._monotonic_ms = monotonic_ms
        self._reads_committed = reads_committed
        self._assigned: dict[tuple[str, int], _Assigned] = {}
        self._topics: frozenset[str] = frozenset()
        self._released: deque[_Assigned] = deque()
        self._failures: deque[StreamsError] = deque()
        self._has_moved = False
        self._ends_due_ms = 0.0
        self._leaders_due_ms: float | None = None
        self._is_closed = False

    def add(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begins to read partitions; see `Reader.add`."""
        if not positions:
            return
        self._check(positions.keys())
        self.remove([partition for partition in positions if partition in self._assigned])
        self._look_up({partition.topic for partition in positions} - self._topics)
        starts = [Position(*partition, offset) for partition, offset in positions.items()]
        self._change("read", self._consumer.incremental_assign, starts)
        for partition, offset in positions.items():
            self._assigned[partition] = _Assigned(partition, offset)
        self._topics = frozenset(topic for topic, _ in self._assigned)

    def _look_up(self, topics: Collection[str]) -> None:
        """Lets the consumer know who leads the partitions of topics it is to read.

        By itself librdkafka looks for topics that are new to it once in a second only.
        """
        deadline_ms = self._monotonic_ms() + _LOOK_UP_MS
        for topic in sorted(topics):
            left_ms = deadline_ms - self._monotonic_ms()
            if left_ms <= 0:
                return
            try:
                self._consumer.list_topics(topic, timeout=left_ms / 1000)
            except KafkaException as error:
                _log.debug("cannot look topic %s up: %s", topic, error)

    def suspend(self) -> None:
        """Stops fetching until it is known who leads the partitions; called when brokers went.

        A fetch as of an old leader is answered with the new ones, and librdkafka up to 2.16 takes
        memory that nobody has written for a leader if one of several partitions has none yet: it
        may then crash (its issue 5280). What was not fetched at all cannot be answered so.
        They are given up and assigned anew: one that is paused while librdkafka looks for its
        leader may stay so for good.
        """
        going = [one for one in self._assigned.values() if not one.is_suspended]
        if self._is_closed or not going:
            return
        self._leaders_due_ms = self._monotonic_ms()
        self._give_up(going)
        for one in going:
            one.is_suspended, one.is_stopped = True, False

    def _give_up(self, leaving: Collection[_Assigned]) -> None:
        stopped = [one.handle for one in leaving if one.is_stopped]
        if stopped:
            # librdkafka would remember the pause beyond this assignment.
            self._change("resume", self._consumer.resume, stopped)
        known = [one.handle for one in leaving if not one.is_suspended]
        if known:
            self._change("give up", self._consumer.incremental_unassign, known)

    def _find_leaders(self, due_ms: float) -> None:
        """Looks who leads suspended partitions, and reads those on that have a leader."""
        now_ms = self._monotonic_ms()
        if now_ms < due_ms:
            return
        self._leaders_due_ms = now_ms + _LEADERS_MS
        suspended = [one for one in self._assigned.values() if one.is_suspended]
        led = set()
        for topic in sorted({one.partition.topic for one in suspended}):
            try:
                known = self._consumer.list_topics(topic, timeout=_LEADERS_MS / 1000)
            except KafkaException as error:
                _log.debug("cannot look topic %s up: %s", topic, error)
                break  # the brokers are away still
            self._reached()
            if topic in known.topics:
                partitions = known.topics[topic].partitions.values()
                led |= {(topic, one.id) for one in partitions if one.leader >= 0}
        back = [one for one in suspended if one.partition in led]
        if len(back) == len(suspended):
            self._leaders_due_ms = None
        if back:
            starts = [Position(*one.partition, one.position) for one in back]
            self._change("read", self._consumer.incremental_assign, starts)
        for one in back:
            one.is_suspended = False

    def remove(self, partitions: Collection[TopicPartition]) -> None:
        """Stops reading partitions; see `Reader.remove`."""
        leaving = [self._assigned.pop(p) for p in partitions if p in self._assigned]
        if not leaving:
            return
        self._give_up(leaving)
        for one in leaving:
            if one in self._released:
                self._released.remove(one)
        self._topics = frozenset(topic for topic, _ in self._assigned)

    def poll(self, most: int, timeout_ms: float) -> Sequence[Batch]:
        """Returns records; see `Reader.poll`.

        Returns early without any when a position moves over offsets that are no records.
        """
        self._serve()
        if self._failures:
            raise self._failures.popleft()
        if self._released:
            return self._taken_from_held(most)
        if self._leaders_due_ms is not None:
            self._find_leaders(self._leaders_due_ms)
        self._has_moved = False
        batches = self._available(most) or self._waited_for(most, timeout_ms)
        self._note_ends(batches)
        return batches

    def _available(self, most: int) -> Sequence[Batch]:
        """Returns what was fetched already: a chunk, in bulk up to `most`."""
        if not self._in_bulk:
            return self._batches(self._consume(min(most, CHUNK_RECORDS), 0.0))
        found: dict[TopicPartition, list[Message]] = {}
        while most > 0:
            try:
                messages = self._consume(min(most, CHUNK_RECORDS), 0.0)
            except StreamsError as error:
                # Positions are behind what was found: it is handed over first.
                self._failures.append(error)
                break
            if not messages:
                break
            most -= len(messages)
            for one, run in self._taken(messages):
                known = found.get(one.partition)
                if known is None:
                    found[one.partition] = run
                else:
                    known += run
        return [(partition, MessageRun(run)) for partition, run in found.items()]

    def _waited_for(self, most: int, timeout_ms: float) -> Sequence[Batch]:
        deadline_ms = self._monotonic_ms() + timeout_ms
        while not self._failures and not self._has_moved and timeout_ms > 0:
            # Asked for more than one, it would wait for all of them.
            messages = self._consume(1, -(-timeout_ms // 1) / 1000)
            if messages and most > 1:
                messages += self._consume(min(most, CHUNK_RECORDS) - 1, 0.0)
            batches = self._batches(messages)
            if batches:
                return batches
            timeout_ms = deadline_ms - self._monotonic_ms()
        if self._failures:
            raise self._failures.popleft()
        return ()

    def _consume(self, most: int, seconds: float) -> list[Message]:
        try:
            return self._consumer.consume(most, seconds)
        except KafkaException as error:
            raise failure_of("cannot read", error.args[0]) from error
        except RuntimeError as error:
            message = "the reader is closed"
            raise TransportError(message) from error

    def _batches(self, messages: list[Message]) -> Sequence[Batch]:
        form = MessageRun if self._in_bulk else raw_records
        return [(one.partition, form(run)) for one, run in self._taken(messages)]

    def _taken(self, messages: list[Message]) -> Iterator[tuple[_Assigned, list[Message]]]:
        """Moves positions behind messages and yields them, but what is to be held back."""
        if any(map(_error, messages)):
            messages = self._without_events(messages)
        for key, run in self._runs(messages).items():
            one = self._assigned.get(key)
            if one is None:
                continue
            # The end may have been met behind them, over offsets that are no records.
            one.position = max((run[-1].offset() or 0) + 1, one.end_seen)
            if one.is_paused:
                self._hold(one, raw_records(run))
            else:
                yield one, run

    def _runs(self, messages: list[Message]) -> Mapping[tuple[str, int], list[Message]]:
        """Groups messages by partition, in their order."""
        if not messages:
            return {}
        if len(self._assigned) == 1:
            return {next(iter(self._assigned)): messages}
        runs: dict[tuple[str, int], list[Message]] = {}
        for number, group in groupby(messages, _partition):
            run = list(group)
            topics: Any = None
            if len(self._topics) > 1:
                topics = list(map(_topic, run))
                if topics.count(topics[0]) == len(topics):
                    topics = None
            # Partitions of one number, but of several topics, stand next to each other.
            parts = ((_topic(run[0]), run),) if topics is None else groupby(run, _topic)
            for topic, part in parts:
                key: Any = (topic, number)
                known = runs.get(key)
                if known is None:
                    runs[key] = list(part)
                else:
                    known.extend(part)
        return runs

    def _without_events(self, messages: list[Message]) -> list[Message]:
        """Takes note of what is told among the records, and returns the records."""
        records = []
        for message in messages:
            fault = message.error()
            if fault is None:
                records.append(message)
                continue
            key: Any = (message.topic(), message.partition())
            one = self._assigned.get(key)
            if fault.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                if one is not None:
                    one.end_seen = message.offset() or 0
                    if one.end_seen > one.position:
                        one.position = one.end_seen
                        self._has_moved = True
            elif one is not None:
                what = f"cannot read {one.partition} at offset {one.position}"
                self._failures.append(
                    failure_of(
                        what,
                        fault,
                        topic=one.partition.topic,
                        partition=one.partition.partition,
                        offset=one.position,
                    )
                )
            else:
                # Not about a partition of ours; the consumer's own group is of no use to us.
                _log.debug("a reader heard: %s (%s)", fault.str(), fault.name())
        return records

    # -- pausing -------------------------------------------------------------------------

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Holds partitions back; see `Reader.pause`."""
        for partition in partitions:
            one = self._assigned.get(partition)
            if one is not None:
                one.is_paused = True
                if one in self._released:
                    self._released.remove(one)

    def wake(self) -> None:
        """Does nothing: librdkafka cannot be woken, and is never asked to wait for long."""

    def processed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Does nothing: what was sent is the broker's."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Reads partitions on; see `Reader.resume`."""
        stopped = []
        for partition in partitions:
            one = self._assigned.get(partition)
            if one is None or not one.is_paused:
                continue
            one.is_paused = False
            if one.held:
                self._released.append(one)
            if one.is_stopped:
                one.is_stopped = False
                stopped.append(one.handle)
        if stopped:
            self._change("resume", self._consumer.resume, stopped)

    def _hold(self, one: _Assigned, records: list[RawRecord]) -> None:
        one.held += records
        if len(one.held) > HELD_RECORDS_MAX and not (one.is_stopped or one.is_suspended):
            one.is_stopped = True
            self._change("pause", self._consumer.pause, [one.handle])

    def _taken_from_held(self, most: int) -> list[Batch]:
        batches: list[Batch] = []
        while self._released and most > 0:
            one = self._released[0]
            taken, one.held = one.held[:most], one.held[most:]
            most -= len(taken)
            batches.append((one.partition, taken))
            if not one.held:
                self._released.popleft()
        return batches

    def _change(
        self, what: str, call: Callable[[list[Position]], Any], handles: list[Position]
    ) -> None:
        try:
            call(handles)
        except KafkaException as error:
            names = ", ".join(f"{handle.topic}-{handle.partition}" for handle in handles)
            raise failure_of(f"cannot {what} {names}", error.args[0]) from error
        except RuntimeError as error:
            message = "the reader is closed"
            raise TransportError(message) from error

    # -- positions -----------------------------------------------------------------------

    def position(self, partition: TopicPartition) -> int:
        """Returns the offset of the next record; see `Reader.position`.

        Raises:
            TransportError: the partition is not read.
        """
        one = self._assigned.get(partition)
        if one is None:
            message = f"{partition} is not read here"
            raise TransportError(message, topic=partition.topic, partition=partition.partition)
        held = one.held
        return offset_of(held[0][3]) if held else one.position

    def known_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns the end as last heard of; see `Reader.known_end_offset`."""
        one = self._assigned.get(partition)
        if one is None:
            return None
        one.known_end = self._end_of(one)
        return one.known_end

    def last_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns an end known lately; see `Reader.last_end_offset`.

        A consumer that is asked while it waits for records may keep other threads waiting for
        many seconds.
        """
        one = self._assigned.get(partition)
        return None if one is None else one.known_end

    def _note_ends(self, batches: Sequence[Batch]) -> None:
        """Keeps the known ends up to date: where records came from, and now and then all."""
        for partition, _ in batches:
            one = self._assigned[partition]
            one.known_end = self._end_of(one)
        if self._monotonic_ms() >= self._ends_due_ms:
            self._ends_due_ms = self._monotonic_ms() + _ENDS_MS
            for one in self._assigned.values():
                one.known_end = self._end_of(one)

    def _end_of(self, one: _Assigned) -> int | None:
        if self._reads_committed and one.end_seen == one.position:
            # The broker tells the end with records of open transactions, which no one may read.
            return one.position
        try:
            _, end_offset = self._consumer.get_watermark_offsets(one.handle, cached=True)
        except (KafkaException, RuntimeError):  # not fetched yet, or just closed
            return None
        return end_offset if end_offset >= 0 else None

    def close(self) -> None:
        """Releases the consumer."""
        if self._is_closed:
            return
        self._is_closed = True
        self._assigned.clear()
        self._released.clear()
        self._consumer.close()
