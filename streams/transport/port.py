"""The port of transports: topics, reading, sending, committing.

Owns the abstract classes and the terms of their guarantees. The implementations (the embedded log,
Kafka, the test driver) must not know tasks or stores; the runtime must not know the
implementations.

A transport belongs to one worker and its thread. It sends without waiting; errors are raised by the
next `flush`. Records and offsets belong together: `commit` makes both durable; after `abort` or a
crash, neither is. The exception is at-least-once on Kafka: records may be durable without their
offsets, but never the other way round.

Source: design 4; JVM `Consumer`, `Producer`, `Admin` as `StreamThread` uses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from thalweg.stores.record import HeaderList, RawRecord
from thalweg.streams.errors import ProductionError, TransportError


class TopicPartition(NamedTuple):
    """One partition of a topic; the text form is `<topic>-<partition>`."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class OffsetAndMetadata(NamedTuple):
    """A committed position.

    Attributes:
        offset: the next record to read.
        metadata: what the application stored with it (partition time), base64 text.
    """

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create.

    Attributes:
        name: its name.
        partitions: partition count, at least 1.
        replication_factor: -1 leaves it to the broker.
        configs: by Kafka's names, such as `cleanup.policy`, `retention.ms`.
    """

    name: str
    partitions: int
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)


class TopicConfig(NamedTuple):
    """A config of a topic.

    Attributes:
        value: as Kafka writes it.
        is_default: whether it is the log's, not the topic's own.
    """

    value: str
    is_default: bool


Send: TypeAlias = Callable[
    [bytes | None, bytes | None, int | None, HeaderList | None, int | None], None
]
"""Sends a record to a topic without waiting: (key, value, timestamp, headers, partition).

A timestamp of None is the time of sending. A partition of None is chosen by the key's bytes
(murmur2, as the JVM's producer does), round robin without a key. Lists of headers are kept,
not copied.
"""


class RefusedRecord(NamedTuple):
    """A record that was sent and that the log does not take.

    Attributes:
        topic: where it was to go.
        partition: its partition, None if none was chosen.
        timestamp: epoch milliseconds, None if it was to be the time of sending.
        key: raw bytes.
        value: raw bytes.
        headers: names and values, in order.
    """

    topic: str
    partition: int | None
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: HeaderList


OnRefused: TypeAlias = Callable[[RefusedRecord, ProductionError], bool]
"""Decides about a record the log refuses: whether to go on without it."""

Slot: TypeAlias = tuple[Callable[[RawRecord], None], Callable[[], int]]
"""Where records of one partition can be put directly: (append to its buffer, next offset)."""

Batch: TypeAlias = tuple[TopicPartition, Sequence[RawRecord]]
"""Records of one partition in offset order."""


class Reader(ABC):
    """Reads partitions from positions that its owner keeps; it belongs to no group.

    One thread uses it.
    """

    @abstractmethod
    def add(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begins to read partitions, each from an offset; others stay as they are.

        A partition that is read already goes on from the new offset.

        Raises:
            TransportError: a topic or partition does not exist.
        """

    @abstractmethod
    def remove(self, partitions: Collection[TopicPartition]) -> None:
        """Stops reading partitions; no record of them is returned any more."""

    @abstractmethod
    def poll(self, most: int, timeout_ms: float) -> Sequence[Batch]:
        """Returns at most `most` records, waiting up to `timeout_ms` when there are none.

        Batches of one call belong to different partitions. Partitions that are paused bring
        nothing. Partitions take turns, so that none waits for ever.

        Raises:
            BrokerError: the log cannot be read; `retriable` tells whether to go on.
            OffsetOutOfRangeError: a position lies outside what the log still has.
        """

    @abstractmethod
    def wake(self) -> None:
        """Lets a `poll` that waits for records return, if it can; any thread may call it."""

    @abstractmethod
    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Holds partitions back until `resume`; their positions stay."""

    @abstractmethod
    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Reads partitions on that were paused."""

    @abstractmethod
    def processed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Hears up to where records were processed; the next commit has these positions too.

        What only this application wants, as the records of its repartition topics, need not
        be kept any longer. A reader that has no use for it does nothing.
        """

    @abstractmethod
    def position(self, partition: TopicPartition) -> int:
        """Returns the offset of the next record `poll` would return."""

    @abstractmethod
    def known_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns the end of the log as last heard of, without asking; None if never heard.

        Where position is below it, there are records not handed over yet. For the thread that
        polls.
        """

    @abstractmethod
    def last_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns an end known lately, as `known_end_offset`; any thread may call it."""

    @abstractmethod
    def close(self) -> None:
        """Releases the reader. Closing again does nothing."""


class Transport(ABC):
    """A log, as one worker uses it.

    Attributes:
        on_refused: asked about each record the log refuses for what it is; where it returns
            True the record is dropped, else the next flush raises the error. Not asked about
            records of topics whose offsets are tracked (changelogs), about a batch of which
            nobody knows the culprit, nor where a transaction is broken by it. What it raises
            is raised by the flush. It may send, and is called in the transport's thread.
    """

    on_refused: OnRefused | None = None

    # -- topics --------------------------------------------------------------------------

    @abstractmethod
    def topics(self) -> Sequence[str]:
        """Returns the names of all topics, for sources that read by pattern."""

    @abstractmethod
    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Returns topic -> partition count; topics that do not exist are left out."""

    def partition_count(self, topic: str) -> int | None:
        """Returns the partition count of a topic, None if it does not exist."""
        return self.partition_counts((topic,)).get(topic)

    @abstractmethod
    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Creates topics; those that exist with the same partition count stay.

        Raises:
            TransportError: a topic exists with another partition count.
        """

    @abstractmethod
    def delete_topics(self, topics: Collection[str]) -> None:
        """Deletes topics with all they hold; those that do not exist are passed over."""

    def topic_configs(self, topic: str) -> Mapping[str, TopicConfig]:
        """Returns the configs of a topic by their names, with those that are the log's.

        Raises:
            TransportError: the topic does not exist, or the log has no configs.
        """
        message = f"the configs of topic {topic!r} are not known: this log tells of none"
        raise TransportError(message)

    def alter_topic_configs(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Changes configs of a topic; None takes one back to that of the log.

        Raises:
            TransportError: the topic does not exist, a config cannot have its value, or the log
                has no configs.
        """
        message = f"the configs of topic {topic!r} cannot be changed in this log"
        raise TransportError(message)

    # -- reading -------------------------------------------------------------------------

    @abstractmethod
    def reader(self, *, in_bulk: bool = False) -> Reader:
        """Returns a new reader; close it before the transport.

        Args:
            in_bulk: it will read much at once and nothing else, as restoring does: a poll
                brings all there is, and records may be `LazyRecords`.
        """

    @abstractmethod
    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset each partition still has."""

    @abstractmethod
    def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the offset behind the last committed record of each partition."""

    def high_watermarks(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Returns the end of each partition, records of open transactions included.

        Whoever has read up to there has read all that was committed before the call. The end
        of what is committed does not promise that where a commit returns before all
        partitions know of it.
        """
        return self.end_offsets(partitions)

    @abstractmethod
    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> Mapping[TopicPartition, int]:
        """Returns the first offset whose record is not older, the end offset if none is."""

    # -- writing -------------------------------------------------------------------------

    @abstractmethod
    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic.

        Args:
            topic: where to. One that does not exist is created where the log may do so, or
                fails at the next flush.
            track_offsets: remember where the records end up, for `written_offsets`.
        """

    def direct_slots(self, topic: str) -> Sequence[Slot] | None:
        """Returns the slots of a topic's partitions, by number; None where the log has none.

        A record (timestamp, key, value, next offset) that is put into a slot is sent as by
        `sender`, at half the cost. The items change: look the slot up for each record.
        """
        return None

    @abstractmethod
    def flush(self) -> None:
        """Waits until everything sent is in the log (in the transaction, if there is one).

        Raises:
            ProductionError: a record was refused; names its topic. What was sent since the
                last commit must not be committed then.
            BrokerError: the log cannot be reached.
        """

    @abstractmethod
    def written_offsets(self) -> Mapping[TopicPartition, int]:
        """Returns the offset behind the last flushed record of every tracked partition.

        Only of partitions sent to since the transport was opened.
        """

    def sent_records(self) -> Mapping[str, int]:
        """Returns topic -> records sent to it since the transport was opened, for metrics.

        Any thread may ask. A transport that does not count leaves it empty; one that does may
        count late, and again what is sent again.
        """
        return {}

    # -- committing ----------------------------------------------------------------------

    @abstractmethod
    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Returns the application's committed positions; partitions without are left out."""

    @abstractmethod
    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Makes positions, and all that was sent since the last commit, last.

        Call `flush` before. With nothing sent and no offsets it does nothing.

        Raises:
            TaskMigratedError: another member owns the partitions by now.
            BrokerError: it is not known whether the commit happened, or it did not.
        """

    @abstractmethod
    def abort(self) -> None:
        """Takes back what was sent since the last commit, where the log can do that."""

    def hurry(self) -> None:  # noqa: B027 - a log of this process keeps nobody waiting
        """Lets calls that wait for the log give up soon, with a BrokerError; any thread may call.

        For a worker that is to stop, and again when it closes: the time begins anew, unless it
        has run out already. It holds until the transport is closed.
        """

    @abstractmethod
    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Lets the log forget what lies before an offset; it may take its time."""

    @abstractmethod
    def delete_offsets(self) -> None:
        """Forgets the application's committed positions, as `thalweg reset` does."""

    @abstractmethod
    def close(self) -> None:
        """Releases the transport; what was not committed is taken back. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
