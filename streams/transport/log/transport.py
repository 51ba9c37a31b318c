"""A transport on the embedded log, for one worker or one script.

Owns the outboxes of a transaction and the functions that fill them, the readers, and the refused
records. It must not know where the log's rows are, nor what records mean.

Sending costs a tuple and an append; records are checked and written by `flush`, one batch of
a partition at a time.

Source: design 4; JVM `StreamsProducer`, `KafkaProducer` (auto-created topics).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import cycle

from thalweg.stores.record import HeaderList, RawRecord, headers_of
from thalweg.streams.errors import ProductionError, TransportError
from thalweg.streams.transport.log.engine import LocalLog, deleted_topic_error
from thalweg.streams.transport.log.formats import CHUNK_RECORDS
from thalweg.streams.transport.log.outbox import Outbox
from thalweg.streams.transport.log.reader import LogReader
from thalweg.streams.transport.log.topics import (
    CONFIG_DEFAULTS,
    Partition,
    Topic,
    name_fault,
)
from thalweg.streams.transport.partitioning import KEY_HASHES
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    Reader,
    RefusedRecord,
    Send,
    Slot,
    TopicConfig,
    TopicPartition,
    Transport,
)


class _Outlet:
    """Where the senders of one topic put records."""

    __slots__ = ("outboxes", "send", "slots", "topic")

    def __init__(self, topic: Topic, group: str | None) -> None:
        self.topic = topic
        self.slots: list[Slot] = [(_refuse_closed, _never_counted)] * len(topic.partitions)
        is_repartition = topic.is_repartition_of(group)
        self.outboxes = [
            Outbox(partition, self.slots, is_repartition=is_repartition)
            for partition in topic.partitions
        ]
        self.send: Send | None = None


class LogTransport(Transport):
    """A log as one worker uses it; see `streams.transport.port` for what it promises.

    Beyond that: its readers see what it has sent at once, others what it has committed.
    Records and positions of a commit last as one, so that processing is exactly-once.
    A topic that is sent to and does not exist is created. `flush` raises what a broker would
    refuse: a record above the topic's `max.message.bytes`, one without a key in a compacted
    topic, a partition that does not exist, an illegal topic name; about the first two
    `on_refused` is asked. `commit` does so as well where `flush` was not called; after either,
    nothing can be committed until `abort`.
    The records of an application's repartition topics are checked only where they are
    written, see `streams.transport.log.engine`.

    Args:
        log: the log; not closed with the transport.
        group: whose positions `commit` keeps, an application's id. None commits records only.
        default_partitions: partition count of topics that are created by sending to them.
        now_ms: wall clock, for records without a timestamp and for retention.

    Raises:
        ValueError: the group is no name a topic could have, or the count is below 1.
    """

    def __init__(
        self,
        log: LocalLog,
        group: str | None = None,
        *,
        default_partitions: int = 1,
        now_ms: Callable[[], int],
    ) -> None:
        if group is not None and name_fault(group) is not None:
            message = f"group must be an application id, like a topic's name, got {group!r}"
            raise ValueError(message)
        if default_partitions < 1:
            message = f"default_partitions must be 1 or more, got {default_partitions}"
            raise ValueError(message)
        self._log = log
        self._group = group
        self._default_partitions = default_partitions
        self._now_ms = now_ms
        self._outlets: dict[str, _Outlet] = {}
        self._outboxes: dict[Partition, Outbox] = {}
        self._readers: list[LogReader] = []
        self._refused: ProductionError | None = None
        self._written: dict[TopicPartition, int] = {}
        self._flushed: dict[TopicPartition, int] = {}
        self._sent: dict[str, int] = {}
        self._is_closed = False

    # -- topics --------------------------------------------------------------------------

    def topics(self) -> Sequence[str]:
        """Returns the names of all topics."""
        self._check_open()
        return self._log.topic_names()

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Returns topic -> partition count; topics that do not exist are left out."""
        self._check_open()
        found = {name: self._log.topic(name) for name in topics}
        return {name: len(topic.partitions) for name, topic in found.items() if topic is not None}

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Creates topics, at once and durably; those with the same partition count stay."""
        self._check_open()
        self._log.create_topics(topics)

    def delete_topics(self, topics: Collection[str]) -> None:
        """Deletes topics with all they hold, at once and durably."""
        self._check_open()
        self._log.delete_topics(topics)

    def topic_configs(self, topic: str) -> Mapping[str, TopicConfig]:
        """Returns the configs of a topic, with the log's defaults of those it understands."""
        self._check_open()
        given = self._log.existing_topic(topic).given
        return {
            name: TopicConfig({**CONFIG_DEFAULTS, **given}[name], name not in given)
            for name in sorted({*CONFIG_DEFAULTS, *given})
        }

    def alter_topic_configs(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Changes configs of a topic, at once and durably."""
        self._check_open()
        self._log.alter_configs(topic, changes)

    # -- reading -------------------------------------------------------------------------

    def reader(self, *, in_bulk: bool = False) -> Reader:
        """Returns a new reader."""
        self._check_open()
        reader = LogReader(self._log, self._group, self._outboxes, self._write_full_chunks)
        self._readers.append(reader)
        return reader

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset each partition still has."""
        self._check_open()
        return {at: self._log.partition(at).begin for at in partitions}

    def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the offset behind the last committed record of each partition."""
        self._check_open()
        return {at: self._log.partition(at).stable_end for at in partitions}

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> Mapping[TopicPartition, int]:
        """Returns the first offset whose record is not older; reads all that lies before it."""
        self._check_open()
        return {
            at: self._log.offset_for_time(self._log.partition(at), timestamp_ms)
            for at in partitions
        }

    # -- writing -------------------------------------------------------------------------

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic; creates the topic where it is missing."""
        self._check_open()
        outlet = self._outlets.get(topic)
        if outlet is None or outlet.topic.is_deleted:
            fault = name_fault(topic)
            if fault is not None:
                return self._refuse_all(ProductionError(f"a record cannot be sent: {fault}"))
            found = self._log.topic_or_new(topic, self._default_partitions)
            outlet = self._outlets[topic] = _Outlet(found, self._group)
            outlet.send = self._send(outlet)
            self._outboxes.update((outbox.partition, outbox) for outbox in outlet.outboxes)
        if track_offsets:
            for outbox in outlet.outboxes:
                outbox.is_tracked = True
        assert outlet.send is not None
        return outlet.send

    def direct_slots(self, topic: str) -> Sequence[Slot] | None:
        """Returns where the senders of a topic put records."""
        self.sender(topic)
        outlet = self._outlets.get(topic)
        return None if outlet is None else outlet.slots

    def _send(self, outlet: _Outlet) -> Send:
        slots, now_ms, hashes = outlet.slots, self._now_ms, KEY_HASHES
        partition_count = len(slots)
        next_keyless = cycle(range(partition_count)).__next__
        refuse = self._refuse_partition

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            if partition is None:
                partition = next_keyless() if key is None else hashes[key] % partition_count
            elif not 0 <= partition < partition_count:
                refuse(outlet.topic, partition)
                return
            if timestamp is None:
                timestamp = now_ms()
            append, next_offset = slots[partition]
            if headers:
                append((timestamp, key, value, (next_offset(), headers)))
            else:
                append((timestamp, key, value, next_offset()))

        def send_to_only(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            if partition:
                refuse(outlet.topic, partition)
                return
            if timestamp is None:
                timestamp = now_ms()
            append, next_offset = slots[0]
            if headers:
                append((timestamp, key, value, (next_offset(), headers)))
            else:
                append((timestamp, key, value, next_offset()))

        return send if partition_count > 1 else send_to_only

    def _refuse_partition(self, topic: Topic, partition: int) -> None:
        message = (
            f"a record was sent to partition {partition} of topic {topic.name!r}, which has "
            f"0 to {len(topic.partitions) - 1}; mend the partitioner"
        )
        self._note_refused(ProductionError(message, topic=topic.name, partition=partition))

    def _refuse_all(self, error: ProductionError) -> Send:
        def refuse(
            _key: bytes | None,
            _value: bytes | None,
            _timestamp: int | None,
            _headers: HeaderList | None,
            _partition: int | None,
        ) -> None:
            self._note_refused(error)

        return refuse

    def _note_refused(self, error: ProductionError) -> None:
        self._refused = self._refused or error

    def flush(self) -> None:
        """Checks and writes what was sent, in memory: a commit makes it last."""
        self._check_open()
        if self._refused is not None:
            raise self._refused
        try:
            for outbox in self._unsent():
                if outbox.partition.topic.is_deleted:
                    raise deleted_topic_error(outbox.partition.topic)
                if not outbox.is_repartition:
                    self._write(outbox, outbox.write)
                if outbox.is_tracked:
                    # What is told of offsets must not change when it is committed.
                    self._log.reserve(outbox)
                    self._flushed[outbox.partition.at] = outbox.end_offset
        except ProductionError as error:
            self._note_refused(error)
            raise

    def _write_full_chunks(self) -> None:
        """Writes what fills chunks while it is fresh; what is wrong with it flush will tell."""
        if self._refused is not None:
            return
        for outbox in self._outboxes.values():
            if outbox.unwritten_count >= CHUNK_RECORDS and not outbox.is_repartition:
                try:
                    self._write(outbox, outbox.write_full)
                except ProductionError as error:
                    self._note_refused(error)

    def _write(self, outbox: Outbox, write: Callable[[], None]) -> None:
        """Writes records as chunks, without those that are refused where that is allowed."""
        while True:
            try:
                return write()
            except ProductionError as error:
                record, ask = error.record, self.on_refused
                if record is None or ask is None or not outbox.can_drop:
                    raise
                timestamp, key, value, origin = record
                headers = headers_of(origin) or []
                if not ask(
                    RefusedRecord(*outbox.partition.at, timestamp, key, value, headers), error
                ):
                    raise
                outbox.drop(record)

    def _unsent(self) -> list[Outbox]:
        return [outbox for outbox in self._outboxes.values() if outbox]

    def written_offsets(self) -> Mapping[TopicPartition, int]:
        """Returns the offset behind the last flushed record of every tracked partition."""
        return self._written | self._flushed

    def sent_records(self) -> Mapping[str, int]:
        """Returns topic -> records committed to it."""
        return dict(self._sent)

    # -- committing ----------------------------------------------------------------------

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Returns the group's committed positions; partitions without are left out."""
        self._check_open()
        return {} if self._group is None else self._log.committed(self._group, partitions)

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Makes positions, and all that was sent since the last commit, last as one.

        Raises:
            ProductionError: a record was refused; nothing is committed until `abort`.
            TransportError: a position is of a partition that does not exist.
            BackendError: the disk failed or is full; the log must be opened again.
            ValueError: positions were given to a transport without a group.
        """
        if offsets and self._group is None:
            message = "positions are committed by a group; open the transport with group="
            raise ValueError(message)
        self.flush()
        unsent = self._unsent()
        if not unsent and not offsets:
            return
        sent = [(outbox.partition.at.topic, len(outbox)) for outbox in unsent]
        try:
            written = self._log.commit(unsent, self._group, offsets, self._now_ms())
        except ProductionError as error:
            self._note_refused(error)
            raise
        self._written.update(written)
        self._flushed.clear()
        for topic, count in sent:
            self._sent[topic] = self._sent.get(topic, 0) + count

    def abort(self) -> None:
        """Takes back what was sent since the last commit.

        Readers that stand behind it are out of range until they are set anew.
        """
        self._refused = None
        self._flushed.clear()
        unsent = self._unsent()
        if unsent:
            self._log.release(unsent)
            self._drop_outboxes_of_deleted_topics()

    def _drop_outboxes_of_deleted_topics(self) -> None:
        for partition in [p for p in self._outboxes if p.topic.is_deleted]:
            del self._outboxes[partition]

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Lets the log forget what lies before an offset, at once; -1 is the end."""
        self._check_open()
        self._log.delete_records(offsets)

    def delete_offsets(self) -> None:
        """Forgets the group's committed positions."""
        self._check_open()
        if self._group is not None:
            self._log.delete_offsets(self._group)

    def close(self) -> None:
        """Releases the transport and its readers; what was not committed is taken back."""
        if self._is_closed:
            return
        self._is_closed = True
        for reader in self._readers:
            reader.close()
        self._log.release(list(self._outboxes.values()))
        for outlet in self._outlets.values():
            outlet.slots[:] = [(_refuse_closed, _never_counted)] * len(outlet.slots)

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed_error()


def _closed_error() -> TransportError:
    return TransportError("the transport is closed; open another one")


def _refuse_closed(_record: RawRecord) -> None:
    raise _closed_error()


def _never_counted() -> int:
    return -1
