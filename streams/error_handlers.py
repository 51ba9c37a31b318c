"""What to do with a record that fails: fail, go on without it, try again; and dead letters.

Owns the contract of the three handlers (deserialization, processing, production), the
built-in ones and the form of a dead letter. It must not know where in the runtime a record
failed, nor send anything: a handler returns a `Response`, the runtime acts on it.

A handler is any callable `(context, record, error) -> Response`:

    def handler(context, record, error):
        if isinstance(error, ValueError):
            return Response.resume(dead_letter(context, error, topic="bad-orders"))
        return Response.fail()

`record` is what the failing step had in hand: for deserialization a `ConsumedRecord` of raw
bytes; for processing the `Record` that reached the node, None in a punctuation; for
production the `OutgoingRecord`.

A dead letter carries the raw key and value the task read (after a repartition: those of the
repartition topic), the original headers, and behind them, in this order,
`__streams.errors.exception`, `.message`, `.stacktrace`, `.topic`, `.partition`, `.offset`, all
as text. The JVM writes the Java class of the exception; here it is Python's qualified name,
without module for built-in exceptions, as a traceback shows it.

Source: KIP-1033, KIP-1034; JVM 4.2 `ExceptionHandlerUtils`, `ProductionExceptionHandler`;
golden `faults_*`.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

from thalweg.streams.errors import BrokerError

HEADER_EXCEPTION: Final = "__streams.errors.exception"
HEADER_MESSAGE: Final = "__streams.errors.message"
HEADER_STACKTRACE: Final = "__streams.errors.stacktrace"
HEADER_TOPIC: Final = "__streams.errors.topic"
HEADER_PARTITION: Final = "__streams.errors.partition"
HEADER_OFFSET: Final = "__streams.errors.offset"

_log = logging.getLogger(__name__)

HeaderList: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Header names and values, in order; a name may occur more than once."""


class Decision(Enum):
    """What happens next."""

    FAIL = "fail"
    """The error goes up and stops the application."""
    RESUME = "resume"
    """The record is dropped and counted; the next one is processed."""
    RETRY = "retry"
    """The record is sent again. For production errors only: elsewhere it means FAIL."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record to send beside the normal output, in the same commit.

    Attributes:
        topic: where to; it must exist or the transport must create topics.
        key: raw bytes.
        value: raw bytes.
        timestamp: epoch milliseconds, None leaves it to the transport.
        headers: names and values, in order.
        partition: None lets the key decide.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A handler's answer; made by `fail`, `resume` and `retry`."""

    decision: Decision
    dead_letters: tuple[DeadLetter, ...] = ()

    @classmethod
    def fail(cls, *dead_letters: DeadLetter) -> Response:
        """Stops the application, after sending the dead letters."""
        return cls(Decision.FAIL, dead_letters)

    @classmethod
    def resume(cls, *dead_letters: DeadLetter) -> Response:
        """Drops the record and continues, after sending the dead letters."""
        return cls(Decision.RESUME, dead_letters)

    @classmethod
    def retry(cls) -> Response:
        """Sends the record again; answers a production error only."""
        return cls(Decision.RETRY)


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """Where a record failed.

    If the log refuses a record after it was sent, its input record is no longer known. Topic,
    partition and offset are then as in a punctuation, task_id is empty, and the other fields are
    those of the refused record.

    Attributes:
        topic: topic the task read the record from; None in a punctuation.
        partition: its partition, -1 in a punctuation.
        offset: its offset, -1 in a punctuation.
        headers: its headers.
        timestamp: event time of the record, or time of the punctuation, in epoch ms.
        node: name of the topology node that failed.
        task_id: `<subtopology>_<partition>`.
        raw_key: key of the record as it was read.
        raw_value: value of the record as it was read.
        dead_letter_queue_topic: the setting of that name.
    """

    topic: str | None
    partition: int
    offset: int
    headers: HeaderList
    timestamp: int
    node: str
    task_id: str
    raw_key: bytes | None = field(default=None, repr=False)
    raw_value: bytes | None = field(default=None, repr=False)
    dead_letter_queue_topic: str | None = None


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """A record that could not be sent.

    Attributes:
        topic: where it was to go.
        partition: the partition chosen, None when the key was to decide.
        timestamp: epoch milliseconds.
        key: raw bytes; the decoded key when it could not be encoded.
        value: raw bytes; the decoded value when it could not be encoded.
        headers: names and values, in order.
    """

    topic: str
    partition: int | None
    timestamp: int | None
    key: Any = field(repr=False)
    value: Any = field(repr=False)
    headers: HeaderList = ()


ErrorHandler: TypeAlias = Callable[[ErrorContext, Any, Exception], Response]
"""Decides about a failed record: (context, record, error) -> response."""

DeserializationHandler: TypeAlias = ErrorHandler
"""Handler of records that cannot be decoded; `record` is a raw `ConsumedRecord`."""

ProcessingHandler: TypeAlias = ErrorHandler
"""Handler of exceptions of user code; `record` is the node's `Record`, None in a punctuation."""

ProductionHandler: TypeAlias = ErrorHandler
"""Handler of records that cannot be encoded or sent; `record` is an `OutgoingRecord`."""


def error_name(error: BaseException) -> str:
    """Returns the qualified name of an exception's class, as a traceback prints it."""
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def dead_letter(context: ErrorContext, error: Exception, *, topic: str) -> DeadLetter:
    """Builds the dead letter of a failed record.

    Args:
        context: where it failed.
        error: the exception of the user's code, not one that wraps it.
        topic: the dead-letter topic.

    Returns:
        Raw key and value as read, the original headers and the six error headers.
    """
    message = str(error)
    headers: list[tuple[str, bytes | None]] = [
        *context.headers,
        (HEADER_EXCEPTION, error_name(error).encode()),
        (HEADER_MESSAGE, message.encode(errors="replace") if message else None),
        (HEADER_STACKTRACE, "".join(traceback.format_exception(error)).encode(errors="replace")),
        (HEADER_TOPIC, None if context.topic is None else context.topic.encode()),
        (HEADER_PARTITION, str(context.partition).encode()),
        (HEADER_OFFSET, str(context.offset).encode()),
    ]
    return DeadLetter(topic, context.raw_key, context.raw_value, context.timestamp, tuple(headers))


def dead_letters(context: ErrorContext, error: Exception) -> tuple[DeadLetter, ...]:
    """Returns the dead letter for the configured topic, nothing when none is configured."""
    topic = context.dead_letter_queue_topic
    return () if topic is None else (dead_letter(context, error, topic=topic),)


_IS_RAISED: Final = {"is_raised": True}
"""Marks a log record about an error that stops the application: whoever catches it there and
tells it need not tell this too."""


def log_and_fail(context: ErrorContext, record: Any, error: Exception) -> Response:
    """Logs the error and stops the application; the default for decoding and processing."""
    _log.error("%s; stopping", _told(context, error), extra=_IS_RAISED)
    return _fail(context, record, error)


def log_and_continue(context: ErrorContext, record: Any, error: Exception) -> Response:  # noqa: ARG001
    """Logs the error, drops the record and continues.

    Of records that cannot be decoded the runtime tells once a minute and source, with how many
    there were: a topic may hold many of them.
    """
    _log.warning("%s; the record is dropped", _told(context, error))
    return Response.resume(*dead_letters(context, error))


def continue_quietly(context: ErrorContext, record: Any, error: Exception) -> Response:  # noqa: ARG001
    """Drops the record and goes on, where somebody else tells of it: `streams.tasks.drops`."""
    return Response.resume(*dead_letters(context, error))


def retry_or_fail(context: ErrorContext, record: Any, error: Exception) -> Response:
    """Sends again what failed for a passing reason, else fails; the default for production."""
    response = _retry_or_fail(context, record, error)
    if response.decision is Decision.FAIL:
        _log.error("%s; stopping", _told(context, error), extra=_IS_RAISED)
    return response


BUILT_IN: Final[Mapping[str, ErrorHandler]] = {
    "log_and_fail": log_and_fail,
    "log_and_continue": log_and_continue,
    "retry_or_fail": retry_or_fail,
}
"""Handlers that TOML and environment may name without a module."""


def in_silence(handler: ErrorHandler) -> ErrorHandler:
    """Returns what decides as a handler does and logs nothing of an error that is raised anyway.

    The runtime asks so: whoever catches what stops an application tells it, once.

    Args:
        handler: any; one that is not built in is returned as it is.
    """
    if handler is log_and_fail:
        return _fail
    return _retry_or_fail if handler is retry_or_fail else handler


def _fail(context: ErrorContext, record: Any, error: Exception) -> Response:  # noqa: ARG001
    return Response.fail(*dead_letters(context, error))


def _retry_or_fail(context: ErrorContext, record: Any, error: Exception) -> Response:
    if isinstance(error, BrokerError) and error.retriable:
        return Response.retry()
    return _fail(context, record, error)


def _told(context: ErrorContext, error: Exception) -> str:
    """Tells where it failed, without the record's payload."""
    if not context.task_id:
        return f"node {context.node}: {error_name(error)}: {error}"
    if context.topic is None:
        place = f"a punctuation at {context.timestamp} ms"
    else:
        place = f"{context.topic}-{context.partition} offset {context.offset}"
    return f"task {context.task_id}, node {context.node}, {place}: {error_name(error)}: {error}"
