"""The log itself: topics, records and committed offsets on one byte store.

Owns the contents of the log, their order, and who may see them. One `LocalLog` serves every
transport of a process. They share one lock, which is held while rows are written. It must not know
directories or clocks; it runs on any byte store.

*One commit is one batch.* Records, the ends of their partitions and the positions of a group are
written to the store together and durably, or not at all. Records that were sent and not committed
are only in the outboxes of their transport. So nothing needs to be cleaned up after an abort or the
death of the process.

*Own records at once.* A transport can read the records that it has sent before it commits. For this
it claims the partition, which fixes the offsets. Nobody else sees these records, nor later commits
of others, until the claim ends. If the transport aborts, its offsets are given to the next records,
unless others have committed after them; then they stay empty.

*Records that are not written.* If an application consumes records of its own repartition topic in
the transaction that produces them, they are not written, because the committed position is already
after them. Their offsets are used, so that positions only rise.

*After a failed write* the contents of the store are unknown, so the log refuses everything until it
is opened again.

Source: design 4; JVM broker `UnifiedLog` (last stable offset), `GroupMetadataManager`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from thalweg.stores.bytes.contract import (
    ByteStore,
    Change,
    Sync,
    prefix_end,
)
from thalweg.stores.record import RawRecord, offset_of, record_offset
from thalweg.streams.errors import (
    BackendError,
    ConfigError,
    ProductionError,
    TransportError,
)
from thalweg.streams.transport.log import formats
from thalweg.streams.transport.log.cleaner import (
    DIRTY_RECORDS_MIN,
    Cleaner,
    first_row,
    release,
)
from thalweg.streams.transport.log.outbox import Outbox
from thalweg.streams.transport.log.topics import (
    Partition,
    Topic,
    TopicConfigs,
    check_partition_count,
    name_fault,
)
from thalweg.streams.transport.port import NewTopic, OffsetAndMetadata, TopicPartition
from thalweg.topology.subtopologies import partitions_text

END_OFFSET: Final = -1
"""In `delete_records`: everything there is. Kafka's word for the high watermark."""


class LocalLog:
    """An open log. Any thread may call any method.

    Args:
        store: where its rows are; closed with the log.
        place: where that is, for messages.
        dirty_records_min: how many records a compacted partition gets before it is compacted.

    Raises:
        ConfigError: the store holds something else, or a log of a later version.
        CorruptDataError: its rows cannot be read.
    """

    def __init__(
        self, store: ByteStore, *, place: str, dirty_records_min: int = DIRTY_RECORDS_MIN
    ) -> None:
        self.lock = threading.Condition(threading.RLock())
        self._store = store
        self._place = place
        self._topics: dict[str, Topic] = {}
        self._next_topic_id = 0
        self._committed: dict[str, dict[Partition, OffsetAndMetadata]] = {}
        self._failure: BaseException | None = None
        self._cleaner = Cleaner(store, self._write, dirty_records_min)
        self._load()

    def close(self) -> None:
        """Closes the store. Closing again does nothing."""
        with self.lock:
            self._store.close()
            self.lock.notify_all()

    def check_usable(self) -> None:
        """Refuses a log of which a write failed.

        Raises:
            BackendError: it must be opened again.
        """
        if self._failure is not None:
            message = (
                f"the log {self._place} failed earlier ({self._failure}); mend the cause, close "
                "what uses the log and open it again"
            )
            raise BackendError(message) from self._failure

    # -- topics --------------------------------------------------------------------------

    def topic(self, name: str) -> Topic | None:
        """Returns a topic, None where there is none."""
        return self._topics.get(name)

    def topic_names(self) -> list[str]:
        """Returns the names of all topics."""
        with self.lock:
            return sorted(self._topics)

    def partition(self, at: TopicPartition) -> Partition:
        """Returns a partition.

        Raises:
            TransportError: it does not exist.
        """
        topic = self._topics.get(at.topic)
        if topic is None:
            message = (
                f"topic {at.topic!r} does not exist in this log; create it, or send it a record"
            )
            raise TransportError(message, topic=at.topic, partition=at.partition)
        if not 0 <= at.partition < len(topic.partitions):
            last = len(topic.partitions) - 1
            message = f"topic {at.topic!r} has partitions 0 to {last} only, not {at.partition}"
            raise TransportError(message, topic=at.topic, partition=at.partition)
        return topic.partitions[at.partition]

    def create_topics(self, new: Iterable[NewTopic]) -> None:
        """Creates topics, all or none; those that exist with the same partition count stay.

        Raises:
            TransportError: a name, a count or a config cannot be, or a topic exists with
                another partition count.
        """
        with self.lock:
            self.check_usable()
            created: dict[str, Topic] = {}
            rows: list[Change] = []
            topic_id = self._next_topic_id
            for one in new:
                fault = name_fault(one.name)
                if fault is not None:
                    raise TransportError(fault)
                check_partition_count(one.name, one.partitions)
                found = self._topics.get(one.name) or created.get(one.name)
                if found is None:
                    configs = {name: str(value) for name, value in one.configs.items()}
                    created[one.name] = Topic(one.name, topic_id, one.partitions, configs)
                    row = formats.encode_topic(one.name, one.partitions, configs)
                    rows.append((formats.topic_key(topic_id), row))
                    topic_id += 1
                elif len(found.partitions) != one.partitions:
                    message = (
                        f"topic {one.name!r} exists with {partitions_text(len(found.partitions))}, "
                        f"and {one.partitions} are asked for; its number does not change: ask for "
                        f"{len(found.partitions)}, or delete the topic and create it anew"
                    )
                    raise TransportError(message, topic=one.name)
            if not created:
                return
            rows.append((formats.NEXT_TOPIC_KEY, formats.encode_number(topic_id)))
            self._write(rows, durable=True)
            self._next_topic_id = topic_id
            self._topics.update(created)
            for topic in created.values():
                self._cleaner.watch(topic)

    def alter_configs(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Changes configs of a topic, durably; None takes one back.

        Raises:
            TransportError: there is no such topic, or a config cannot have its value.
        """
        with self.lock:
            self.check_usable()
            topic = self.existing_topic(name)
            given = {n: v for n, v in {**topic.given, **changes}.items() if v is not None}
            configs = TopicConfigs(name, given)
            row = formats.encode_topic(name, len(topic.partitions), given)
            self._write([(formats.topic_key(topic.id), row)], durable=True)
            topic.given, topic.configs = given, configs
            self._cleaner.forget(topic)
            self._cleaner.watch(topic)

    def existing_topic(self, name: str) -> Topic:
        """Returns a topic.

        Raises:
            TransportError: there is none.
        """
        topic = self._topics.get(name)
        if topic is None:
            message = f"topic {name!r} does not exist in this log; create it, or send it a record"
            raise TransportError(message, topic=name)
        return topic

    def topic_or_new(self, name: str, partition_count: int) -> Topic:
        """Returns a topic, created without configs where there is none.

        Raises:
            TransportError: it cannot be called so.
        """
        with self.lock:
            if name not in self._topics:
                self.create_topics([NewTopic(name, partition_count)])
            return self._topics[name]

    def delete_topics(self, names: Collection[str]) -> None:
        """Deletes topics with their records and everybody's positions in them."""
        with self.lock:
            self.check_usable()
            deleted = [self._topics[name] for name in dict.fromkeys(names) if name in self._topics]
            if not deleted:
                return
            rows: list[Change] = []
            for topic in deleted:
                rows.append((formats.topic_key(topic.id), None))
                rows += [(partition.row_key(), None) for partition in topic.partitions]
                rows.append((formats.deleted_key(topic.id), b""))
            for group, positions in self._committed.items():
                rows += [
                    (_position_key(group, partition), None)
                    for partition in positions
                    if partition.topic in deleted
                ]
            self._write(rows, durable=True)
            for topic in deleted:
                topic.is_deleted = True
                del self._topics[topic.name]
                self._cleaner.forget(topic)
                for positions in self._committed.values():
                    for partition in topic.partitions:
                        positions.pop(partition, None)
                self._drop_chunks(topic.id)
            self.lock.notify_all()

    def _drop_chunks(self, topic_id: int) -> None:
        prefix = formats.topic_chunks_prefix(topic_id)
        self._store.delete_range(prefix, prefix_end(prefix) or formats.END_KEY)
        self._write([(formats.deleted_key(topic_id), None)])

    # -- reading -------------------------------------------------------------------------

    def read(self, partition: Partition, position: int) -> tuple[Sequence[RawRecord], int]:
        """Returns committed records from a position on, as many as stand together.

        Returns:
            The records, and the position behind them. Without records there are none up to
            that position.

        Raises:
            CorruptDataError: they cannot be read.
        """
        stable_end = partition.stable_end
        if position >= stable_end:
            return (), position
        chunk = self._store.get(partition.chunk_key(position))
        if chunk is None:
            # Compaction must not join chunks while this looks for one.
            with self.lock:
                chunk = self._chunk_over(partition, position, stable_end)
        if chunk is None:
            return (), stable_end
        records = formats.decode_chunk(chunk, partition.at)
        next_position = formats.chunk_head(chunk).last_offset + 1
        if offset_of(records[0][3]) < position:
            records = records[bisect_left(records, position, key=record_offset) :]
        return records, next_position

    def _chunk_over(self, partition: Partition, position: int, end: int) -> bytes | None:
        """Returns the chunk that `position` falls into, or the next one before `end`."""
        here = partition.chunk_key(position)
        row = first_row(self._store.range(partition.chunk_key(0), here, reverse=True))
        if row is not None and formats.chunk_head(row[1]).last_offset >= position:
            return row[1]
        row = first_row(self._store.range(here, partition.chunk_key(end)))
        return None if row is None else row[1]

    def offset_for_time(self, partition: Partition, timestamp_ms: int) -> int:
        """Returns the first offset whose record is not older, the end offset if none is."""
        begin, end = partition.begin, partition.stable_end
        rows = self._store.range(partition.chunk_key(0), partition.chunk_key(end))
        found = end
        for _, chunk in rows:
            head = formats.chunk_head(chunk)
            if head.newest_ms < timestamp_ms:
                continue
            offsets = (
                offset_of(origin)
                for timestamp, _, _, origin in formats.decode_chunk(chunk, partition.at)
                if timestamp >= timestamp_ms and offset_of(origin) >= begin
            )
            offset = next(offsets, None)
            if offset is not None:
                found = offset
                break
        release(rows)
        return found

    def wait(self, predicate: Callable[[], bool], timeout_ms: float) -> bool:
        """Waits until `predicate` holds, asked after each change; returns whether it does."""
        with self.lock:
            return self.lock.wait_for(predicate, timeout_ms / 1000)

    def wake(self) -> None:
        """Lets all who wait ask their predicates again."""
        with self.lock:
            self.lock.notify_all()

    # -- transactions --------------------------------------------------------------------

    def reserve(self, outbox: Outbox) -> None:
        """Settles the offsets of an outbox's records, if nobody else's stand in the way.

        Afterwards `outbox.reserved` records have the offsets from `claim_base` on, provided
        that the outbox has the partition's claim.
        """
        with self.lock:
            partition = outbox.partition
            end = partition.end
            if partition.claim is None:
                partition.claim_base = end
                partition.claim = outbox
                outbox.reserve(end)
            elif partition.claim is outbox and end == partition.claim_base + outbox.reserved:
                outbox.reserve(end)

    def release(self, outboxes: Collection[Outbox]) -> None:
        """Takes back what the outboxes hold."""
        with self.lock:
            for outbox in outboxes:
                self._end_claim(outbox)
                outbox.renew()
            self.lock.notify_all()

    def _end_claim(self, outbox: Outbox) -> None:
        partition = outbox.partition
        if partition.claim is outbox:
            partition.claim = None
        if partition.claim is None:
            partition.stable_end = partition.committed_end

    def commit(
        self,
        outboxes: Sequence[Outbox],
        group: str | None,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
        now_ms: int,
    ) -> dict[TopicPartition, int]:
        """Makes the outboxes' records and the group's positions last, as one.

        Returns:
            Partition -> the offset behind the last record written to it, of tracked ones.

        Raises:
            ProductionError: a record cannot be written; nothing was done.
            TransportError: a position is of a partition that does not exist; nothing was done.
            BackendError: the store failed; the log must be opened again.
        """
        with self.lock:
            self.check_usable()
            rows: list[Change] = []
            ends = [self._add_records(rows, outbox, offsets) for outbox in outboxes]
            positions: dict[Partition, OffsetAndMetadata] = {}
            for at, position in offsets.items():
                assert group is not None
                partition = self.partition(at)
                positions[partition] = position
                rows.append((_position_key(group, partition), formats.encode_offset(position)))
            self._write(rows, durable=True)
            written = {
                outbox.partition.at: outbox.end_offset for outbox in outboxes if outbox.is_tracked
            }
            counts = [(outbox.partition, len(outbox)) for outbox in outboxes]
            if group is not None:
                self._committed.setdefault(group, {}).update(positions)
            for outbox, end, newest_ms in ends:
                outbox.partition.committed_end = end
                outbox.partition.newest_ms = newest_ms
                self._end_claim(outbox)
                outbox.renew()
            self.lock.notify_all()
            self._cleaner.step(counts, now_ms)
            return written

    def _add_records(
        self,
        rows: list[Change],
        outbox: Outbox,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> tuple[Outbox, int, int]:
        """Adds the rows of an outbox; returns it with its partition's new end and newest time."""
        partition = outbox.partition
        if partition.topic.is_deleted:
            raise deleted_topic_error(partition.topic)
        end, newest_ms = partition.end, partition.newest_ms
        outbox.settle(end)
        skipped = 0
        if outbox.is_repartition and partition.claim is outbox and partition.at in offsets:
            consumed = offsets[partition.at].offset - partition.claim_base
            skipped = min(max(0, consumed), outbox.reserved)
        for base, chunk in outbox.chunks(skipped):
            rows.append((partition.chunk_key(base), chunk.value))
            newest_ms = max(newest_ms, chunk.newest_ms)
        end += len(outbox) - outbox.reserved
        row = partition.row()._replace(end=end, newest_ms=newest_ms)
        rows.append((partition.row_key(), formats.encode_partition(row)))
        return outbox, end, newest_ms

    # -- positions of groups -------------------------------------------------------------

    def committed(
        self, group: str, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Returns a group's committed positions; partitions without are left out."""
        found = {}
        with self.lock:
            positions = self._committed.get(group, {})
            for at in partitions:
                topic = self._topics.get(at.topic)
                if topic is not None and 0 <= at.partition < len(topic.partitions):
                    position = positions.get(topic.partitions[at.partition])
                    if position is not None:
                        found[at] = position
        return found

    def delete_offsets(self, group: str) -> None:
        """Forgets a group's committed positions."""
        with self.lock:
            self.check_usable()
            positions = self._committed.get(group)
            if positions:
                rows = [(_position_key(group, partition), None) for partition in positions]
                self._write(rows, durable=True)
                del self._committed[group]

    def groups(self) -> list[str]:
        """Returns the groups that have committed positions."""
        with self.lock:
            return sorted(group for group, positions in self._committed.items() if positions)

    # -- forgetting ----------------------------------------------------------------------

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Forgets what lies before an offset; -1 is the end. Not beyond what is committed.

        Raises:
            TransportError: a partition does not exist.
        """
        with self.lock:
            self.check_usable()
            found = [(self.partition(at), offset) for at, offset in offsets.items()]
            for partition, offset in found:
                stable_end = partition.stable_end
                begin = stable_end if offset == END_OFFSET else min(offset, stable_end)
                if begin > partition.begin:
                    self._cleaner.advance_begin(partition, begin)

    # -- rows ----------------------------------------------------------------------------

    def _write(self, rows: Sequence[Change], *, durable: bool = False) -> None:
        try:
            self._store.write(rows, sync=Sync.DISK if durable else Sync.PROCESS)
        except BaseException as error:
            # Whether the rows are there is not known, so nothing may build on it.
            self._failure = error
            raise

    def _load(self) -> None:
        store = self._store
        found = store.get(formats.FORMAT_KEY)
        if found is None:
            if first_row(store.range()) is not None:
                message = f"the log {self._place} holds something else; choose another data_dir"
                raise ConfigError(message)
            store.write([(formats.FORMAT_KEY, formats.FORMAT)], sync=Sync.DISK)
        elif found != formats.FORMAT:
            message = (
                f"the log {self._place} has format {found.decode(errors='replace')}, this version "
                f"reads {formats.FORMAT.decode()}: use the version that wrote it, or choose "
                "another data_dir"
            )
            raise ConfigError(message)
        next_id = store.get(formats.NEXT_TOPIC_KEY)
        self._next_topic_id = 0 if next_id is None else formats.decode_number(next_id)
        by_id: dict[int, Topic] = {}
        for key, row in self._rows(formats.TOPIC):
            name, partition_count, configs = formats.decode_topic(row)
            topic = Topic(name, formats.parse_topic_id(key), partition_count, configs)
            by_id[topic.id] = self._topics[name] = topic
        for key, row in self._rows(formats.PARTITION):
            number = formats.parse_partition(key)
            partition = by_id[formats.parse_topic_id(key)].partitions[number]
            partition.load(formats.decode_partition(row))
        for key, row in self._rows(formats.OFFSET):
            group, topic_id, number = formats.parse_offset_key(key)
            positions = self._committed.setdefault(group, {})
            positions[by_id[topic_id].partitions[number]] = formats.decode_offset(row)
        for topic in self._topics.values():
            self._cleaner.watch(topic)
        for key, _ in self._rows(formats.DELETED):
            self._drop_chunks(formats.parse_topic_id(key))

    def _rows(self, tag: bytes) -> list[tuple[bytes, bytes]]:
        return list(self._store.range(tag, prefix_end(tag)))


def deleted_topic_error(topic: Topic) -> ProductionError:
    """Returns what is raised when records were sent to a topic that is gone."""
    message = (
        f"topic {topic.name!r} was deleted after records were sent to it; create it again, and "
        "start the application again"
    )
    return ProductionError(message, topic=topic.name)


def _position_key(group: str, partition: Partition) -> bytes:
    return formats.offset_key(group, partition.topic.id, partition.at.partition)
