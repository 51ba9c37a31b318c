"""The embedded log for processes that do not own it: they go through the owner.

Owns the choice between owning a log and asking its owner, and the transport of processes that ask.
They can do what scripts around an application do: write, read and look at topics. Applications,
their positions and a reset need to own the log. It must not know how the owner is reached, see
`owner_client`.

Sent records wait here until they are committed. A commit is one request: the owner writes its
records as one durable batch before it answers.

Source: design 4.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Final, NoReturn

from thalweg.stores.errors import StoreLockedError
from thalweg.stores.record import HeaderList, RawRecord
from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import BrokerError, ProductionError, TransportError
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.log import owner_wire
from thalweg.streams.transport.log.directory import locked_error, owner_of
from thalweg.streams.transport.log.owner_client import OwnerClient, OwnerGoneError
from thalweg.streams.transport.log.topics import name_fault
from thalweg.streams.transport.partitioning import KEY_HASHES
from thalweg.streams.transport.port import (
    Batch,
    NewTopic,
    OffsetAndMetadata,
    Reader,
    Send,
    TopicConfig,
    TopicPartition,
    Transport,
)

OWNER_WAIT_MS: Final = 5_000
"""How long to wait for an owner that is opening the log, or closing it."""

_LOOK_MS: Final = 25


def open_own_log(config: StreamsConfig, clock: Clock) -> Transport:
    """Opens the embedded log for an application, which needs it for itself.

    Waits a little for an owner that runs no application: a command such as `thalweg produce`, or
    one that is opening the log, or closing it.

    Raises:
        StoreLockedError: another process owns the log; says which and what to do.
        ConfigError: the directory cannot be used.
    """
    deadline_ms = clock.monotonic_ms() + OWNER_WAIT_MS
    while True:
        try:
            return _own_log(config, clock)
        except StoreLockedError:
            about = owner_of(config.data_dir)
            runs_another = about is not None and bool(about.applications)
            if runs_another or clock.monotonic_ms() >= deadline_ms:
                raise
        clock.sleep_ms(_LOOK_MS)


def _own_log(config: StreamsConfig, clock: Clock) -> LocalTransport:
    return LocalTransport(
        config.data_dir,
        config.application_id,
        default_partitions=config.default_partitions,
        now_ms=clock.now_ms,
    )


def open_log_or_owner(config: StreamsConfig, clock: Clock) -> Transport:
    """Opens the embedded log; where another process owns it, through that one.

    Raises:
        StoreLockedError: another process owns the log and does not answer.
        ConfigError: the directory cannot be used.
    """
    deadline_ms = clock.monotonic_ms() + OWNER_WAIT_MS
    while True:
        try:
            return _own_log(config, clock)
        except StoreLockedError as error:
            locked = error
        owner = find_owner(config.data_dir)
        if owner is not None:
            return ThroughOwner(
                owner, default_partitions=config.default_partitions, now_ms=clock.now_ms
            )
        if clock.monotonic_ms() >= deadline_ms:
            path = config.data_dir.expanduser().resolve()
            about = owner_of(path)
            why = "nobody answers there" if about is None or not about.reason else about.reason
            holder = "" if about is None else str(about.process_id)
            raise locked_error(path, holder, why) if about is not None else locked
        clock.sleep_ms(_LOOK_MS)


def find_owner(data_dir: Path) -> OwnerClient | None:
    """Returns the owner of a log if another process is that and answers, else None."""
    path = data_dir.expanduser().resolve()
    about = owner_of(path)
    if about is None or not about.socket or about.process_id == os.getpid():
        return None
    client = OwnerClient(path, about)
    return client if client.is_alive() else None


class ThroughOwner(Transport):
    """A transport on a log that another process owns; see `streams.transport.port`.

    Its readers see what is committed. A topic that is sent to and does not exist is created.
    What the log refuses about a record is raised by `commit`, which then has written none.

    Args:
        owner: the owner.
        default_partitions: partition count of topics that are created by sending to them.
        now_ms: wall clock, for records without a timestamp.
    """

    def __init__(
        self, owner: OwnerClient, *, default_partitions: int, now_ms: Callable[[], int]
    ) -> None:
        self._owner = owner
        self._default_partitions = default_partitions
        self._now_ms = now_ms
        self._senders: dict[str, Send] = {}
        self._sent: dict[TopicPartition, list[owner_wire.SentRow]] = {}
        self._is_closed = False

    # -- topics --------------------------------------------------------------------------

    def topics(self) -> Sequence[str]:
        """Returns the names of all topics."""
        return sorted(self._counts(None))

    def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Returns topic -> partition count; topics that do not exist are left out."""
        return self._counts(list(topics))

    def _counts(self, topics: list[str] | None) -> dict[str, int]:
        self._check_open()
        return self._owner.call("topics", topics, dict[str, int])

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Creates topics, at once and durably; those with the same partition count stay."""
        self._check_open()
        rows = [
            owner_wire.TopicRow(
                topic.name,
                topic.partitions,
                topic.replication_factor,
                {name: str(value) for name, value in topic.configs.items()},
            )
            for topic in topics
        ]
        self._owner.call("create", rows, type(None))

    def delete_topics(self, topics: Collection[str]) -> None:
        """Deletes topics with all they hold, at once and durably."""
        self._check_open()
        self._owner.call("delete", list(topics), type(None))

    def topic_configs(self, topic: str) -> Mapping[str, TopicConfig]:
        """Returns the configs of a topic, with the log's defaults of those it understands."""
        self._check_open()
        return self._owner.call("configs", topic, dict[str, TopicConfig])

    def alter_topic_configs(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Changes configs of a topic, at once and durably."""
        self._check_open()
        self._owner.call("alter", owner_wire.AlterRequest(topic, dict(changes)), type(None))

    # -- reading -------------------------------------------------------------------------

    def reader(self, *, in_bulk: bool = False) -> Reader:
        """Returns a new reader."""
        self._check_open()
        return _OwnersReader(self._owner)

    def begin_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset each partition still has."""
        return {
            TopicPartition(row.topic, row.partition): row.begin for row in self._ends(partitions)
        }

    def end_offsets(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the offset behind the last committed record of each partition."""
        return {TopicPartition(row.topic, row.partition): row.end for row in self._ends(partitions)}

    def _ends(self, partitions: Collection[TopicPartition]) -> list[owner_wire.OffsetsRow]:
        self._check_open()
        return self._owner.call("offsets", list(partitions), list[owner_wire.OffsetsRow])

    def offsets_for_time(
        self, partitions: Collection[TopicPartition], timestamp_ms: int
    ) -> Mapping[TopicPartition, int]:
        """Returns the first offset whose record is not older, the end offset if none is."""
        self._check_open()
        places: list[owner_wire.Place] = [(at.topic, at.partition) for at in partitions]
        request = owner_wire.TimeRequest(places, timestamp_ms)
        return dict(
            zip(partitions, self._owner.call("offsets-for-time", request, list[int]), strict=True)
        )

    # -- writing -------------------------------------------------------------------------

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic; creates the topic where it is missing."""
        self._check_open()
        found = self._senders.get(topic)
        if found is None:
            fault = name_fault(topic)
            if fault is not None:
                message = f"a record cannot be sent: {fault}"
                raise ProductionError(message)
            count = self.partition_count(topic)
            if count is None:
                count = self._default_partitions
                self.create_topics([NewTopic(topic, count)])
            found = self._senders[topic] = self._send(topic, count)
        return found

    def _send(self, topic: str, partition_count: int) -> Send:
        sent, now_ms, hashes = self._sent, self._now_ms, KEY_HASHES
        next_keyless = cycle(range(partition_count)).__next__

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            if partition is None:
                partition = next_keyless() if key is None else hashes[key] % partition_count
            if timestamp is None:
                timestamp = now_ms()
            rows = sent.setdefault(TopicPartition(topic, partition), [])
            rows.append((timestamp, key, value, headers))

        return send

    def flush(self) -> None:
        """Does nothing: what was sent goes to the owner at once with its commit."""
        self._check_open()

    def written_offsets(self) -> Mapping[TopicPartition, int]:
        """Returns nothing: offsets are the owner's."""
        return {}

    # -- committing ----------------------------------------------------------------------

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Refuses: positions are an application's."""
        self._refuse("an application's positions are known")

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Has the owner write all that was sent since the last commit, as one.

        Raises:
            ProductionError: a record was refused; nothing was written.
            BrokerError: the owner has ended; says whether the records may have been written.
            StoreLockedError: positions were given.
        """
        self._check_open()
        if offsets:
            self._refuse("an application's positions are committed")
        if not self._sent:
            return
        batches = [owner_wire.Batch(*at, rows) for at, rows in self._sent.items()]
        count = sum(len(batch.rows) for batch in batches)
        try:
            body = owner_wire.encode(batches)
        except (TypeError, OverflowError) as error:
            message = f"a record cannot be written ({error})"
            raise ProductionError(message) from error
        if len(body) > owner_wire.REQUEST_BYTES_MAX:
            message = (
                f"{count:,} records of {len(body):,} bytes are to be written as one, and the "
                f"log's owner takes {owner_wire.REQUEST_BYTES_MAX:,}: flush() more often"
            )
            raise ProductionError(message)
        try:
            self._owner.call("send", body, int)
        except OwnerGoneError as error:
            message = f"{error.message}: {count:,} records were not written; write them again"
            raise BrokerError(message, retriable=True) from error
        except BrokerError as error:
            if type(error) is not BrokerError:
                raise
            message = (
                f"{error.message}: it is not known whether the last {count:,} records were "
                "written, all or none of them"
            )
            raise BrokerError(message) from error
        self._sent.clear()

    def abort(self) -> None:
        """Forgets what was sent since the last commit."""
        self._sent.clear()

    def delete_records(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Refuses: that is an application's affair."""
        self._refuse("records are deleted")

    def delete_offsets(self) -> None:
        """Refuses: that needs an application that does not run."""
        self._refuse("an application's positions are deleted")

    def _refuse(self, what: str) -> NoReturn:
        message = (
            f"process {self._owner.process_id} owns the log: {what} in that process only; stop it "
            "first"
        )
        raise StoreLockedError(message)

    def close(self) -> None:
        """Lets go of the owner; what was not committed is forgotten."""
        self._is_closed = True
        self._sent.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            message = "the transport is closed; open another one"
            raise TransportError(message)


class _OwnersReader(Reader):
    """A reader of committed records. It keeps the positions, the owner keeps nothing."""

    def __init__(self, owner: OwnerClient) -> None:
        self._owner = owner
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._is_closed = False

    def add(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begins to read partitions, each from an offset; others stay as they are."""
        self._check_open()
        # Asked so that one that does not exist is told at once.
        self._owner.call("offsets", list(positions), list[owner_wire.OffsetsRow])
        self._positions.update(positions)

    def remove(self, partitions: Collection[TopicPartition]) -> None:
        """Stops reading partitions."""
        for at in partitions:
            self._positions.pop(at, None)
            self._paused.discard(at)

    def poll(self, most: int, timeout_ms: float) -> Sequence[Batch]:
        """Returns at most `most` records, waiting up to `timeout_ms` when there are none."""
        self._check_open()
        wanted = [(*at, offset) for at, offset in self._positions.items() if at not in self._paused]
        request = owner_wire.PollRequest(wanted, most, max(0.0, timeout_ms))
        answer = self._owner.call(
            "poll", request, list[owner_wire.PolledPartition], wait_ms=timeout_ms
        )
        batches: list[Batch] = []
        for one in answer:
            at = TopicPartition(one.topic, one.partition)
            self._positions[at], self._ends[at] = one.position, one.end
            if one.rows:
                batches.append((at, [_record(row) for row in one.rows]))
        # The partitions that bring something take turns: the first ones go behind the others.
        for at, _ in batches:
            self._positions[at] = self._positions.pop(at)
        return batches

    def wake(self) -> None:
        """Does nothing: a poll waits for no longer than it was told to."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Holds partitions back until `resume`."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Reads partitions on that were paused."""
        self._paused.difference_update(partitions)

    def processed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Does nothing: it reads what is committed only."""

    def position(self, partition: TopicPartition) -> int:
        """Returns the offset of the next record `poll` would return."""
        try:
            return self._positions[partition]
        except KeyError:
            message = f"{partition} is not read by this reader"
            raise TransportError(
                message, topic=partition.topic, partition=partition.partition
            ) from None

    def known_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns the end of the log as the last poll told it."""
        return self._ends.get(partition)

    def last_end_offset(self, partition: TopicPartition) -> int | None:
        """Returns the end of the log as the last poll told it."""
        return self._ends.get(partition)

    def close(self) -> None:
        """Releases the reader. Closing again does nothing."""
        self._is_closed = True
        self._positions.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            message = "the reader is closed; open another one"
            raise TransportError(message)


def _record(row: owner_wire.ReadRow) -> RawRecord:
    timestamp, key, value, offset, headers = row
    return timestamp, key, value, offset if headers is None else (offset, headers)
