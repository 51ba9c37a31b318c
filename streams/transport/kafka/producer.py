"""The producer side of Kafka: sending, delivery errors, transactions, and a new producer.

Owns the one producer of a transport: who sends to which topic, what was refused, how long a
commit may take, and when the producer is replaced. It must not know readers, nor how the
application's group works.

At-least-once: records are durable when they are sent. Exactly-once: the transactions follow each
other; the next begins as soon as one ends, which costs the broker nothing while nothing is sent. A
producer that cannot go on is replaced by `abort`.

Kafka does not distinguish timestamp 0 from no timestamp, so 0 is sent as 1.

Source: design 4; JVM `StreamsProducer`; librdkafka INTRODUCTION.md and its sources; kafka-streams
reference D19.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeAlias, cast

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)
from confluent_kafka import TopicPartition as Position

from thalweg.stores.errors import Reaction
from thalweg.stores.record import HeaderList
from thalweg.streams.clock import Clock
from thalweg.streams.errors import BrokerError, ProductionError, StreamsError, TransportError
from thalweg.streams.transport.changelog_ends import WrittenOffsets
from thalweg.streams.transport.kafka.admin import KafkaAdmin
from thalweg.streams.transport.kafka.clients import Clients, Connection
from thalweg.streams.transport.kafka.deadlines import REQUEST_MS, RETRY_MS, STEP_MS, Deadlines
from thalweg.streams.transport.kafka.errors import (
    DISCONNECTED,
    NOT_LET_IN,
    OUT_OF_STEP,
    TOO_LARGE,
    Verdict,
    delivery_failure,
    failure_of,
    rejoining,
    told,
    verdict_of,
)
from thalweg.streams.transport.kafka.settings import credentials_of
from thalweg.streams.transport.partitioning import partition_of
from thalweg.streams.transport.port import (
    OffsetAndMetadata,
    OnRefused,
    RefusedRecord,
    Send,
    TopicPartition,
)

CLOSE_MS: Final = 5_000
"""How long `abort` waits for records to land, at-least-once."""

_ABORT_MS: Final = 5_000
"""How long a transaction's abort may take before the producer is replaced, which has the brokers
abort it as well."""

_NEW_PRODUCER_MS: Final = 2_000
"""How long `abort` waits for a new producer to be let in; called again, it goes on with it."""

_BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of batch.size."""

_PURGED: Final = frozenset({"_PURGE_INFLIGHT", "_PURGE_QUEUE"})

_log = logging.getLogger(__name__)

_Rebind: TypeAlias = Callable[[Callable[..., None]], None]
"""Makes a sender go on with the `produce` of another producer."""


class KafkaProducer:
    """Sends the records of one transport.

    Args:
        clients: makes the producer, and another one when it cannot go on.
        admin: tells partition counts.
        connection: what is known of the connection.
        deadlines: how long may be waited.
        clock: where time comes from.
        settings: the producer's settings, by librdkafka's names.
        written: counts what is written to changelogs.
        on_refused: returns who is asked about refused records, see `Transport.on_refused`.
        transactional: whether all is sent in transactions.

    Raises:
        ConfigError: a setting is unknown or wrong.
        BrokerError: transactions cannot be opened.
    """

    def __init__(
        self,
        clients: Clients,
        admin: KafkaAdmin,
        connection: Connection,
        deadlines: Deadlines,
        clock: Clock,
        *,
        settings: Mapping[str, Any],
        written: WrittenOffsets,
        on_refused: Callable[[], OnRefused | None],
        transactional: bool,
    ) -> None:
        self._clients = clients
        self._admin = admin
        self._connection = connection
        self._deadlines = deadlines
        self._clock = clock
        self._written = written
        self._on_refused = on_refused
        self._is_transactional = transactional
        self._senders: dict[tuple[str, bool], tuple[Send, _Rebind]] = {}
        self._failure: StreamsError | None = None
        self._is_producer_dead = False
        self._lost_batches = 0
        self._fresh: Producer | None = None
        self._fresh_since_ms = 0.0
        self._unkeyed = 0
        # Longer than that the broker keeps no transaction open: waiting on would be for nothing.
        timeout_ms = int(settings.get("transaction.timeout.ms", REQUEST_MS))
        self._commit_step_ms = min(timeout_ms, REQUEST_MS)
        # A record of less may have been in one batch with others.
        self._batch_bytes = int(settings.get("batch.size", _BATCH_BYTES))
        self._credentials = credentials_of(settings)
        self._producer = clients.producer(self._undelivered)
        if transactional:
            self._open_transactions(self._producer, REQUEST_MS)

    def _open_transactions(self, producer: Producer, wait_ms: float) -> None:
        """Makes the producer the one with its transactional id; called again, it goes on."""
        self._transact("cannot open transactions", producer.init_transactions, wait_ms)
        self._connection.reached()
        self._connection.let_in(self._credentials)
        self._begin_transaction(producer)

    # -- sending -------------------------------------------------------------------------

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic; see `Transport.sender`."""
        known = self._senders.get((topic, track_offsets))
        if known is None:
            known = self._tracked(topic) if track_offsets else self._untracked(topic)
            self._senders[topic, track_offsets] = known
        return known[0]

    def _untracked(self, topic: str) -> tuple[Send, _Rebind]:
        produce: Callable[..., None] = self._producer.produce
        failed = self._not_taken

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            try:
                produce(
                    topic,
                    value,
                    key,
                    -1 if partition is None else partition,
                    None,
                    None,
                    timestamp or (0 if timestamp is None else 1),
                    headers,
                )
            except (BufferError, KafkaException) as error:
                failed(error, topic, key, value, timestamp, headers, partition)

        def rebind(other: Callable[..., None]) -> None:
            nonlocal produce
            produce = other

        return send, rebind

    def _tracked(self, topic: str) -> tuple[Send, _Rebind]:
        send_on, rebind = self._untracked(topic)
        counts, choose = self._written.counts(topic), self._chosen

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            if partition is None:
                partition = choose(topic, key)
            counts[partition] += 1
            send_on(key, value, timestamp, headers, partition)

        return send, rebind

    def _chosen(self, topic: str, key: bytes | None) -> int:
        """Chooses a partition here, where it must be known which one it is."""
        count = self._admin.partition_count(topic)
        if count is None:
            message = f"topic {topic!r} does not exist; create it, or correct its name"
            raise TransportError(message, topic=topic)
        if key is None:
            self._unkeyed += 1
            return self._unkeyed % count
        return partition_of(key, count)

    def _not_taken(
        self,
        error: BufferError | KafkaException,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int | None,
        headers: HeaderList | None,
        partition: int | None,
    ) -> None:
        """Sends a record as soon as the buffer has room, or remembers that it never will be."""
        produce: Callable[..., None] = self._producer.produce
        chosen = -1 if partition is None else partition
        stamp = timestamp or (0 if timestamp is None else 1)
        while isinstance(error, BufferError):
            what = f"cannot send to topic {topic!r}"
            self._connection.raise_refusal(what)
            self._deadlines.raise_hurried(what)
            # What was sent since the last commit is lost already: more of it is for nothing.
            self._raise_failure()
            try:
                self._producer.poll(RETRY_MS / 1000)
                produce(topic, value, key, chosen, None, None, stamp, headers)
            except (BufferError, KafkaException) as again:
                error = again
            else:
                return
        record = RefusedRecord(topic, partition, timestamp, key, value, headers or [])
        # The client has not taken it: a transaction is as whole as before.
        failure = delivery_failure(error.args[0], topic, _size_bytes(record))
        self._note_failure(failure, record, may_drop=True)

    def _undelivered(self, fault: KafkaError | None, message: Message) -> None:
        """Asks about a record that did not reach its topic, or remembers it."""
        if fault is None or fault.name() in _PURGED:
            return
        kind, timestamp = message.timestamp()
        record = RefusedRecord(
            message.topic() or "",
            message.partition(),
            None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
            message.key(),
            message.value(),
            cast("HeaderList", message.headers() or []),
        )
        size_bytes = _size_bytes(record)
        is_batch = fault.name() in TOO_LARGE and size_bytes < self._batch_bytes
        failure = delivery_failure(fault, record.topic, None if is_batch else size_bytes)
        self._note_failure(failure, record, may_drop=not (is_batch or self._is_transactional))

    def _note_failure(
        self, failure: StreamsError, record: RefusedRecord, *, may_drop: bool
    ) -> None:
        """Remembers that a record will not be in the log, unless it may be done without."""
        if self._failure is not None:
            return
        if (
            may_drop
            and (on_refused := self._on_refused()) is not None
            and isinstance(failure, ProductionError)
            and (record.topic, True) not in self._senders
        ):
            try:
                if on_refused(record, failure):
                    return
            except StreamsError as raised:
                failure = raised
        self._failure = failure
        if failure.reaction is Reaction.REJOIN:
            # One that found no broker twice may never look again (librdkafka issue 5430). Its
            # successor has to ask for an identity first, which a broker that just started may
            # not give at once.
            self._lost_batches += 1
            self._is_producer_dead |= self._is_transactional or self._lost_batches > 1

    def flush(self) -> None:
        """Waits until everything sent is in the log; see `Transport.flush`.

        An error is raised again until `abort`: the batch it belongs to is not whole.
        """
        what = "cannot deliver what was sent"
        deadline_ms = self._clock.monotonic_ms() + self._commit_step_ms
        is_proof = len(self._producer) > 0
        while left := self._flushed(RETRY_MS):
            self._connection.raise_refusal(what)
            self._deadlines.raise_hurried(what)
            if self._failure is not None and self._failure.reaction is Reaction.REJOIN:
                break
            if self._is_transactional and self._clock.monotonic_ms() >= deadline_ms:
                # As long as that the broker keeps no transaction open. librdkafka has been seen
                # to wait on after a restart of the broker; a new producer looks anew.
                self._is_producer_dead = True
                message = (
                    f"{what}: {left:,} records of the transaction found no broker to take them "
                    f"within {self._commit_step_ms:,} ms"
                )
                raise self._failure or rejoining(message, is_away=True)
        self._raise_failure()
        if is_proof:
            self._connection.let_in(self._credentials)
        self._written.flushed()

    def _flushed(self, timeout_ms: int) -> int:
        """Returns how many records are still on their way after a while."""
        try:
            return self._producer.flush(timeout_ms / 1000)
        except KafkaException as error:
            raise self._dead(error) from error

    def _dead(self, error: KafkaException) -> StreamsError:
        """Takes note that the producer cannot go on, which is told by whatever is called."""
        self._is_producer_dead = True
        if self._failure is None:
            self._failure = failure_of("the producer cannot go on", error.args[0])
        return self._failure

    def serve(self) -> None:
        """Hears what became of records sent.

        Raises:
            StreamsError: the producer cannot go on.
        """
        try:
            self._producer.poll(0)
        except KafkaException as error:
            raise self._dead(error) from error

    def refuse_failed(self) -> None:
        """Raises what went wrong since the last commit, if anything did."""
        self._raise_failure()
        if self._is_producer_dead:
            message = "the producer cannot go on: call abort()"
            raise self._failure or rejoining(message)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # -- committing ----------------------------------------------------------------------

    def commit_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], member: bytes
    ) -> None:
        """Commits the transaction with the offsets, and begins the next one.

        Args:
            offsets: the positions that go with the records.
            member: who commits, as librdkafka keeps it; not looked at without offsets.

        Raises:
            TaskMigratedError: the group refuses the member, or the broker gave the transaction up.
            BrokerError: it is not known whether the commit happened, or it did not.
        """
        producer = self._producer
        if offsets:
            positions = [
                Position(*partition, known.offset, known.metadata)
                for partition, known in offsets.items()
            ]
            what = "cannot commit offsets"

            def send(seconds: float) -> None:
                self._in_time(
                    what,
                    lambda: producer.send_offsets_to_transaction(positions, member, seconds),
                )

            self._transact(what, send, self._commit_step_ms, self._commit_step_ms)
        self._transact(
            "cannot commit the transaction", producer.commit_transaction, self._commit_step_ms
        )
        self._begin_transaction(producer)

    def note_committed(self) -> None:
        """Hears that all that was sent and flushed is committed."""
        self._lost_batches = 0
        self._written.committed()

    def _in_time(self, what: str, call: Callable[[], None]) -> None:
        """Makes a call into librdkafka that may outlast its time-out; then it is left alone.

        Offsets of a transaction wait for a coordinator that is away for a minute, whatever the
        call was told (librdkafka 2.16: requests made anew have the socket's time-out alone).

        Raises:
            BrokerError: it takes too long; the producer is of no use any more.
        """
        deadline_ms = self._clock.monotonic_ms() + self._commit_step_ms
        outcome: Future[None] = Future()

        def run() -> None:
            try:
                call()
            except Exception as error:
                outcome.set_exception(error)
            else:
                outcome.set_result(None)

        # The process does not wait for it at its end.
        threading.Thread(target=run, name="transaction-offsets", daemon=True).start()
        while True:
            try:
                return outcome.result(RETRY_MS / 1000)
            except TimeoutError as error:
                self.hear()
                self._connection.raise_refusal(what)
                if self._deadlines.left_ms(deadline_ms) <= 0:
                    self._is_producer_dead = True
                    message = f"{what}: the coordinator did not answer in time"
                    raise rejoining(message, is_away=True) from error

    def _begin_transaction(self, producer: Producer) -> None:
        """Begins the next transaction; the broker hears of it with its first record."""
        self._transact("cannot begin a transaction", lambda _: producer.begin_transaction())

    def _transact(
        self,
        what: str,
        call: Callable[[float], None],
        wait_ms: float = REQUEST_MS,
        step_ms: float = STEP_MS,
    ) -> None:
        """Makes a step of a transaction, again while the reason against it passes.

        Args:
            what: what cannot be done when it fails.
            call: makes the step within so many seconds; called again, it goes on with it.
            wait_ms: how long to try.
            step_ms: how long one call may block.
        """
        deadline_ms = self._clock.monotonic_ms() + wait_ms
        while True:
            left_ms = self._deadlines.left_ms(deadline_ms)
            try:
                call(max(min(left_ms, step_ms), 1) / 1000)
            except KafkaException as error:
                fault: KafkaError = error.args[0]
                if not fault.retriable() or left_ms <= RETRY_MS:
                    # One that gets no answer may never get one: librdkafka can lose sight of a
                    # transaction's coordinator when that is restarted. A new one looks anew.
                    self._is_producer_dead |= fault.fatal() or fault.retriable()
                    # Records that were refused say more than the transaction they broke.
                    raise self._failure or self._broken(what, fault) from error
                if fault.name() in DISCONNECTED:
                    self._connection.lost()
                self.hear()
                self._connection.raise_refusal(what)
                self._clock.sleep_ms(RETRY_MS)
            else:
                return

    def hear(self) -> None:
        """Hears of the connections of clients that are not polled while something is waited for.

        For the worker's thread, in which it may be in the middle of a wait for something else.
        """
        self._admin.hear()
        # What becomes of records of a producer that is being replaced matters no more.
        with suppress(KafkaException):
            (self._producer if self._fresh is None else self._fresh).poll(0)

    def _broken(self, what: str, fault: KafkaError) -> StreamsError:
        """Returns what a step of a transaction failed of."""
        verdict = verdict_of(fault)
        is_over = fault.txn_requires_abort() or fault.name() in OUT_OF_STEP
        if verdict in (Verdict.FENCED, Verdict.REJOIN) or fault.name() in NOT_LET_IN or not is_over:
            return failure_of(what, fault)
        # The transaction is over, and what was sent in it; another may go better.
        self._is_producer_dead = True
        return rejoining(told(what, fault), is_away=verdict is Verdict.AWAY)

    # -- a new producer ------------------------------------------------------------------

    def abort(self) -> None:
        """Takes back what was sent since the last commit; at-least-once, lets it land.

        Afterwards the transport can be used again, whatever happened before. While the brokers
        do not answer it fails after a moment; called again, it goes on.

        Raises:
            BrokerError: the brokers do not answer.
        """
        # It would wait for nothing, and a new producer takes the transaction back as well.
        self._is_producer_dead |= self._is_transactional and self._connection.is_away
        if self._is_producer_dead:
            pass
        elif self._is_transactional:
            producer = self._producer
            try:
                self._transact(
                    "cannot abort the transaction", producer.abort_transaction, _ABORT_MS
                )
                self._begin_transaction(producer)
            except StreamsError as error:
                _log.info("the producer is replaced: %s", error)
                self._is_producer_dead = True
        else:
            # So that whoever asks for a partition's end afterwards sees all there will be.
            self._drain()
        if self._is_producer_dead:
            self._replace_producer()
        self._failure = None
        self._written.aborted()

    def _replace_producer(self) -> None:
        """Puts a new producer into the old one's place; if that fails, the next call goes on."""
        self._deadlines.raise_hurried("no new producer is made")
        now_ms = self._clock.monotonic_ms()
        if self._fresh is None or now_ms - self._fresh_since_ms > REQUEST_MS:
            # One that was not let in for so long has perhaps lost sight of its coordinator.
            self._retire_producer()
            self._fresh, self._fresh_since_ms = self._clients.producer(self._undelivered), now_ms
        fresh = self._fresh
        if self._is_transactional:
            failure, self._failure = self._failure, None
            try:
                self._open_transactions(fresh, _NEW_PRODUCER_MS)
            except BrokerError as error:
                if not error.retriable:
                    self._fresh = None
                raise
            except StreamsError:
                self._fresh = None
                raise
            finally:
                self._failure = failure
        self._producer, self._fresh = fresh, None
        self._is_producer_dead = False
        for _, rebind in self._senders.values():
            rebind(self._producer.produce)

    def _retire_producer(self) -> None:
        """Lets go of the producers; their own close() would wait for records to time out."""
        for producer in (self._producer, self._fresh):
            if producer is not None:
                with suppress(KafkaException):
                    producer.purge()
        for _, rebind in self._senders.values():
            rebind(_refuse_to_send)

    def _drain(self) -> None:
        deadline_ms = self._clock.monotonic_ms() + CLOSE_MS
        with suppress(StreamsError):
            while left := self._flushed(RETRY_MS):
                if self._deadlines.left_ms(deadline_ms) <= 0:
                    _log.warning("%d records were not delivered in time", left)
                    return

    def close(self) -> None:
        """Releases the producer; what was not committed is taken back where that is possible."""
        if self._is_producer_dead:
            pass
        elif self._is_transactional:
            try:
                self._transact("cannot abort the transaction", self._producer.abort_transaction)
            except StreamsError as error:  # the broker ends it by itself, in time
                _log.debug("%s", error)
        else:
            self._drain()
        self._retire_producer()
        # Their threads end with the last reference.
        del self._producer, self._fresh


def _size_bytes(record: RefusedRecord) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _refuse_to_send(*_: object) -> NoReturn:
    message = "nothing can be sent: the transport is closed, or lost its producer"
    raise TransportError(message)
