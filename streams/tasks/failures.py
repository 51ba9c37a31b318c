"""Failures of records: the handler is called, and its response is carried out.

Owns the calls of the three handlers, the sending of dead letters, and the carrier of errors. If a
handler lets an error stop the application, the error is raised in a `StoppingError`: no operator
above handles it again, and the task unwraps it. Errors that are not the fault of the record skip
the handler: a full disk, a lost task, a log that cannot be reached. But if a temporary error lasts
for `task_timeout_ms` at one record, the record is considered the cause, and the handler is called.
It must not know how the handlers decide.

Source: JVM `ProcessorNode.process`, `RecordDeserializer`, `RecordCollectorImpl`,
`AbstractTask.maybeInitTaskTimeoutOrThrow`, KIP-572, KIP-1033, KIP-1034.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, TypeAlias

from thalweg.stores.callables import shown
from thalweg.stores.errors import (
    DeserializationError,
    Reaction,
    StorageError,
    StreamsError,
)
from thalweg.stores.record import Headers, Record
from thalweg.streams.config import StreamsConfig
from thalweg.streams.error_handlers import (
    DeadLetter,
    Decision,
    ErrorContext,
    ErrorHandler,
    OutgoingRecord,
    Response,
    continue_quietly,
    error_name,
    in_silence,
    log_and_continue,
    log_and_fail,
)
from thalweg.streams.errors import (
    BrokerError,
    ProcessingError,
    ProductionError,
    TaskError,
)
from thalweg.streams.tasks.drops import Drops, shown_key
from thalweg.streams.tasks.task import TaskFace
from thalweg.streams.transport.port import RefusedRecord, Send, Slot
from thalweg.topology.processor import ConsumedRecord

_NOT_THE_RECORDS_FAULT = (StorageError, TaskError, BrokerError)

_FORGOTTEN_MS: Final = 60_000
"""A record that has not failed for so long, or for `task_timeout_ms`, begins anew."""

_Place: TypeAlias = tuple[str, str | None, int, int, str]
"""Task, topic, partition, offset, and for a punctuation its node."""


class StoppingError(ProcessingError):
    """Carries an error that stops the application up to the task in which it happened.

    Operators hand on whatever reaches them; by its class they know that it was asked about.
    User code that catches it on the way, around `forward`, sees message and place of the error.

    Attributes:
        error: the error; its cause is what user code or a serde raised.
    """

    def __init__(self, error: StreamsError) -> None:
        super().__init__(
            error.message,
            task_id=error.task_id,
            topic=error.topic,
            partition=error.partition,
            offset=error.offset,
            node=error.node,
        )
        self.error = error


def carried_by(error: StreamsError) -> StreamsError:
    """Returns the error that a carrier has brought up, or the error itself."""
    return error.error if isinstance(error, StoppingError) else error


@contextmanager
def out_of_carriers() -> Iterator[None]:
    """Raises an error that comes up in a carrier without the carrier."""
    try:
        yield
    except StoppingError as carrier:
        raise carrier.error  # noqa: B904 - its cause stands in it


@dataclass(slots=True)
class _Trying:
    """A record that is tried again and again.

    Attributes:
        since_ms: when it failed first.
        last_ms: when it failed last.
    """

    since_ms: float
    last_ms: float


class Outlet(Protocol):
    """What the sending side of a task needs of a transport."""

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns the function that sends to a topic."""
        ...

    def direct_slots(self, topic: str) -> Sequence[Slot] | None:
        """Returns where records of a topic's partitions can be put, None if nowhere."""
        ...

    def partition_count(self, topic: str) -> int | None:
        """Returns the partition count of a topic, None if it does not exist."""
        ...


class FailurePolicy:
    """Decides about failed records of all tasks of one worker.

    Args:
        config: names the handlers and the dead-letter topic.
        outlet: where dead letters go, in the same commit as all else.
        monotonic_ms: a clock that never goes back. Without one, nothing is tried too often.
        guards_processing: whether the processing handler is asked; else what fails stops the
            application.
    """

    def __init__(
        self,
        config: StreamsConfig,
        outlet: Outlet,
        monotonic_ms: Callable[[], float] = lambda: 0.0,
        *,
        guards_processing: bool = True,
    ) -> None:
        self._letters_topic = config.dead_letter_queue_topic
        self._task_timeout_ms = config.task_timeout_ms
        # What stops the application is raised, and told once, by whoever catches it. What is
        # passed over is told with the others, not record by record.
        deserialization = config.deserialization_handler
        if deserialization is log_and_continue:
            deserialization = continue_quietly
        self._deserialization = in_silence(deserialization)
        processing = config.processing_handler if guards_processing else log_and_fail
        self._processing = in_silence(processing)
        self._production = in_silence(config.production_handler)
        self._outlet = outlet
        self._monotonic_ms = monotonic_ms
        self._tried: dict[_Place, _Trying] = {}
        self._senders: dict[str, Send] = {}
        self._sinks: dict[str, str] = {}
        self.refused_records_total = 0
        self.drops = Drops()

    def note_sink(self, topic: str, node: str) -> None:
        """Remembers which node sends to a topic."""
        self._sinks[topic] = node

    def deserialization_failed(self, task: TaskFace, node: str, error: Exception) -> None:
        """Asks about a record that cannot be decoded.

        Raises:
            StoppingError: the handler stops the application; carries a DeserializationError.
        """
        current = task.current
        record = ConsumedRecord(
            *current.raw(),
            current.timestamp,
            current.topic or "",
            current.partition,
            current.offset(),
            Headers(current.headers() or ()),
        )
        context = self._context(task, node, current.timestamp)
        handler = self._deserialization
        message = error.message if isinstance(error, StreamsError) else str(error)
        if self._ask(handler, "deserialization_handler", context, record, error) is Decision.RESUME:
            key = f"key {shown_key(record.key)}"
            task.drop(node, "unreadable", key, f"timestamp {record.timestamp}", message)
            return
        self._raise(
            DeserializationError(
                f"a record cannot be decoded: {message}; to go on without such records, set "
                'deserialization_handler to "log_and_continue"'
            ),
            context,
            error,
        )

    def processing_failed(
        self, task: TaskFace, node: str, error: Exception, key: Any, value: Any, timestamp: int
    ) -> None:
        """Asks about user code that raised, in a record or (key, value None) a punctuation.

        Raises:
            StoppingError: the handler stops the application; carries a ProcessingError, whose
                cause is the error.
        """
        if isinstance(error, StoppingError):
            raise error
        if isinstance(error, _NOT_THE_RECORDS_FAULT) and not self._is_stuck(task, node, error):
            _place(error, self._context(task, node, timestamp))
            raise error
        current = task.current
        record = None
        if current.topic is not None:
            # A negative timestamp may be the very fault; the handler still gets to see the rest.
            record = Record(key, value, max(timestamp, 0), Headers(current.headers() or ()))
        context = self._context(task, node, timestamp)
        handler = self._processing
        if self._ask(handler, "processing_handler", context, record, error) is Decision.RESUME:
            task.drop(node, "failed")
            return
        if isinstance(error, StreamsError):
            message = error.message
        else:
            message = f"{error_name(error)}: {error}"
        self._raise(ProcessingError(message), context, error)

    def _is_stuck(self, task: TaskFace, node: str, error: StreamsError) -> bool:
        """Tells whether a record has failed for passing reasons longer than they may last.

        What goes back to the last commit comes by here again and again, so that only the record
        itself can tell. One that is to blame stays so: it comes by once more when a record behind
        it fails before the next commit. Brokers that are away are waited for as long as it takes.
        """
        if error.reaction not in (Reaction.RETRY, Reaction.REJOIN):
            return False
        current = task.current
        is_record = current.topic is not None
        offset = current.offset() if is_record else -1
        place = (task.task_id, current.topic, current.partition, offset, "" if is_record else node)
        if isinstance(error, BrokerError) and error.is_away:
            self._tried.pop(place, None)
            return False
        now_ms, bound_ms = self._monotonic_ms(), self._task_timeout_ms
        since_last_ms = max(bound_ms, _FORGOTTEN_MS)
        for other, trying in list(self._tried.items()):
            if now_ms - trying.last_ms > since_last_ms:
                del self._tried[other]
        trying = self._tried.setdefault(place, _Trying(now_ms, now_ms))
        trying.last_ms = now_ms
        return now_ms - trying.since_ms > bound_ms

    def serialization_failed(
        self, task: TaskFace, node: str, error: StreamsError, topic: str, key: Any, value: Any
    ) -> None:
        """Asks about a record that a sink cannot encode.

        Raises:
            StoppingError: the handler stops the application; carries a SerializationError.
        """
        current = task.current
        context = self._context(task, node, current.timestamp)
        record = OutgoingRecord(
            topic, None, current.timestamp, key, value, tuple(current.headers() or ())
        )
        handler = self._production
        if self._ask(handler, "production_handler", context, record, error) is Decision.RESUME:
            task.drop(node, "unwritable")
            return
        self._raise(error, context, error.__cause__)

    def delivery_refused(self, record: RefusedRecord, error: ProductionError) -> bool:
        """Asks about a record the log refuses after it was sent.

        Returns:
            Whether to go on without it.

        Raises:
            StoppingError: the handler raised, or returned nonsense; carries a ProcessingError.
        """
        if record.topic in self._senders:
            return False  # a dead letter, about which nobody is to be asked again
        headers = tuple(record.headers)
        context = ErrorContext(
            topic=None,
            partition=-1,
            offset=-1,
            headers=headers,
            timestamp=-1 if record.timestamp is None else record.timestamp,
            node=self._sinks.get(record.topic, ""),
            task_id="",
            raw_key=record.key,
            raw_value=record.value,
            dead_letter_queue_topic=self._letters_topic,
        )
        outgoing = OutgoingRecord(*record[:-1], headers)
        _place(error, context)
        handler = self._production
        decision = self._ask(handler, "production_handler", context, outgoing, error)
        self.refused_records_total += decision is Decision.RESUME
        return decision is Decision.RESUME

    def _context(self, task: TaskFace, node: str, timestamp: int) -> ErrorContext:
        current = task.current
        raw_key, raw_value = current.raw()
        return ErrorContext(
            topic=current.topic,
            partition=current.partition,
            offset=current.offset(),
            headers=tuple(current.headers() or ()),
            timestamp=timestamp,
            node=node,
            task_id=task.task_id,
            raw_key=raw_key,
            raw_value=raw_value,
            dead_letter_queue_topic=self._letters_topic,
        )

    def _ask(
        self,
        handler: ErrorHandler,
        setting: str,
        context: ErrorContext,
        record: Any,
        error: Exception,
    ) -> Decision:
        try:
            response = handler(context, record, error)
        except Exception as raised:
            self._raise(
                ProcessingError(f"the {setting} itself raised {error_name(raised)}: {raised}"),
                context,
                raised,
            )
        if not isinstance(response, Response) or not isinstance(response.decision, Decision):
            self._raise(
                ProcessingError(
                    f"the {setting} returned {shown(response)}; it must return Response.fail(), "
                    "Response.resume() or Response.retry()"
                ),
                context,
                error,
            )
        for letter in response.dead_letters:
            if not isinstance(letter, DeadLetter):
                self._raise(
                    ProcessingError(
                        f"the {setting} returned {shown(letter)} among its dead letters; each must "
                        "be a DeadLetter, such as dead_letter(context, error, topic=...) makes"
                    ),
                    context,
                    error,
                )
            send = self._senders.get(letter.topic)
            if send is None:
                send = self._senders[letter.topic] = self._outlet.sender(letter.topic)
            headers = list(letter.headers) or None
            send(letter.key, letter.value, letter.timestamp, headers, letter.partition)
        return response.decision

    @staticmethod
    def _raise(error: StreamsError, context: ErrorContext, cause: BaseException | None) -> NoReturn:
        error.topic = error.partition = error.offset = None
        _place(error, context)
        error.__cause__ = cause
        raise StoppingError(error) from cause


def _place(error: StreamsError, context: ErrorContext) -> None:
    """Notes where an error happened, as far as it does not say so itself."""
    error.task_id = error.task_id or context.task_id or None
    error.node = error.node or context.node or None
    if context.topic is not None and error.topic is None:
        error.topic, error.partition = context.topic, context.partition
        error.offset = context.offset
