"""The Processor API: what a user's own processor is, gets and may call.

Owns the types users write against: processors, their context, timestamp extractors, topic
name extractors, partitioners, offset resets. It must not know how a task provides them.

Source: JVM `org.apache.kafka.streams.processor(.api)`, KIP-478, KIP-820, KIP-1106, KIP-1146;
kafka-streams reference A7.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from thalweg.stores.callables import arity, refuse_async, shown
from thalweg.stores.durations import to_ms
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import (
    Headers,
    Record,
    RecordContext,
    RecordMetadata,
    checked_headers,
    wrong_timestamp,
)

KIn = TypeVar("KIn")
VIn = TypeVar("VIn")
KOut = TypeVar("KOut")
VOut = TypeVar("VOut")
VNew = TypeVar("VNew")

_log = logging.getLogger(__name__)


# -- records as user code meets them -------------------------------------------------------


class ConsumedRecord(NamedTuple):
    """A decoded input record, as a timestamp extractor sees it.

    Attributes:
        timestamp: the time the record carries, in epoch milliseconds.
    """

    key: Any
    value: Any
    timestamp: int
    topic: str
    partition: int
    offset: int
    headers: Headers


class FixedKeyRecord(Generic[KIn, VIn]):
    """A record whose key cannot be changed, so that it stays in its partition.

    Made by the runtime; processors derive new ones with `with_value` and similar methods.
    """

    __slots__ = ("_key", "headers", "timestamp", "value")

    def __init__(
        self, key: KIn, value: VIn, timestamp: int, headers: Headers | None = None
    ) -> None:
        try:
            is_negative = timestamp < 0
        except TypeError:
            raise wrong_timestamp(timestamp) from None
        if is_negative:
            raise StreamsError(
                f"Malformed Record: negative timestamp {timestamp} for key {key!r}; "
                "give it the time of the event in epoch milliseconds"
            )
        self._key = key
        self.value = value
        self.timestamp = timestamp
        self.headers = Headers() if headers is None else headers

    @property
    def key(self) -> KIn:
        """The key; there is no `with_key`."""
        return self._key

    def with_value(self, value: VNew) -> FixedKeyRecord[KIn, VNew]:
        """Returns the record with another value and a copy of the headers."""
        made: Any = self.__class__
        same: FixedKeyRecord[KIn, VNew] = made(
            self._key, value, self.timestamp, self.headers.copy()
        )
        return same

    def with_timestamp(self, timestamp: int) -> FixedKeyRecord[KIn, VIn]:
        """Returns the record with another time and a copy of the headers."""
        return self.__class__(self._key, self.value, timestamp, self.headers.copy())

    def with_headers(self, headers: Headers) -> FixedKeyRecord[KIn, VIn]:
        """Returns the record with a copy of other headers.

        Raises:
            TypeError: they are no headers.
        """
        own = Headers(checked_headers(headers))
        return self.__class__(self._key, self.value, self.timestamp, own)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FixedKeyRecord):
            return NotImplemented
        return (self._key, self.value, self.timestamp, self.headers) == (
            other._key,
            other.value,
            other.timestamp,
            other.headers,
        )

    __hash__ = None  # type: ignore[assignment]  # headers are mutable

    def __repr__(self) -> str:
        return f"FixedKeyRecord({self._key!r}, {self.value!r}, {self.timestamp}, {self.headers!r})"


class ReceivedRecord(FixedKeyRecord[KIn, VIn]):
    """A record that the runtime made, or one derived from it: its key is one of the partition's.

    A processor may keep it and forward it later, as with the JVM, where no other can be made.
    """

    __slots__ = ()


# -- what a processor may call -------------------------------------------------------------


class PunctuationType(Enum):
    """Which time drives a punctuation."""

    STREAM_TIME = "stream-time"
    """The highest timestamp seen by the task; stands still without records."""
    WALL_CLOCK_TIME = "wall-clock-time"
    """The clock on the wall."""


class Cancellable(Protocol):
    """A recurring punctuation."""

    def cancel(self) -> None:
        """Ends it; further calls do nothing."""
        ...


Punctuator: TypeAlias = Callable[[int], None]
"""Called with the current time in milliseconds, of the kind it was scheduled by."""


class _Context(Protocol):
    """What the contexts of both kinds of processors have in common."""

    @property
    def application_id(self) -> str:
        """The application's id."""
        ...

    @property
    def task_id(self) -> str:
        """The task, as `<subtopology>_<partition>`."""
        ...

    @property
    def state_dir(self) -> Path:
        """The task's own directory."""
        ...

    @property
    def key_serde(self) -> Any:
        """The application's default key serde."""
        ...

    @property
    def value_serde(self) -> Any:
        """The application's default value serde."""
        ...

    def app_configs(self) -> Mapping[str, Any]:
        """Returns the application's settings by name."""
        ...

    def commit(self) -> None:
        """Asks for a commit as soon as the current records are processed."""
        ...

    def schedule(
        self,
        interval: timedelta | int,
        type: PunctuationType,
        callback: Punctuator,
        *,
        start_time: datetime | int | None = None,
    ) -> Cancellable:
        """Calls `callback(timestamp_ms)` every `interval` of stream time or wall clock.

        Args:
            interval: a timedelta, or milliseconds; at least 1 ms.
            type: which time drives it.
            callback: gets the current time of that kind, not the planned one.
            start_time: where the grid of calls starts, a datetime or epoch milliseconds.
        """
        ...

    def get_state_store(self, name: str) -> Any:
        """Returns a store the processor is connected to, or a global store."""
        ...

    def record_metadata(self) -> RecordMetadata:
        """Returns topic, partition and offset of the current record.

        In a punctuation there is no record: the topic is None and the numbers are -1.
        """
        ...

    def current_stream_time_ms(self) -> int:
        """Returns the highest timestamp the task has processed, -1 before the first."""
        ...

    def current_system_time_ms(self) -> int:
        """Returns the wall clock in epoch milliseconds."""
        ...


class ProcessorContext(_Context, Protocol[KOut, VOut]):
    """A processor's view of its task. Use it from the task's own thread only."""

    def forward(self, record: Record[KOut, VOut], child: str | None = None) -> None:
        """Hands a record to all children in the order they were added, or to the named one."""
        ...


class FixedKeyProcessorContext(_Context, Protocol[KOut, VOut]):
    """The view of a processor that cannot change keys."""

    def forward(self, record: FixedKeyRecord[KOut, VOut], child: str | None = None) -> None:
        """Hands a record to all children in the order they were added, or to the named one."""
        ...


# -- processors ----------------------------------------------------------------------------


class Processor(ABC, Generic[KIn, VIn, KOut, VOut]):
    """A step written by the user; each task has an instance of its own.

    Attributes:
        context: the task, from `init` on.
    """

    context: ProcessorContext[KOut, VOut]

    def init(self, context: ProcessorContext[KOut, VOut]) -> None:
        """Called before the first record; stores are restored by then.

        Override it to look up stores or schedule punctuations. `self.context` is set by then.
        """
        self.context = context

    @abstractmethod
    def process(self, record: Record[KIn, VIn]) -> None:
        """Handles one record; `self.context.forward` sends records on, any number of them."""

    def close(self) -> None:
        """Called once when the task closes. Stores are closed by the runtime."""


class FixedKeyProcessor(ABC, Generic[KIn, VIn, VOut]):
    """A processor that cannot change keys, so that nothing downstream is repartitioned.

    Attributes:
        context: the task, from `init` on.
    """

    context: FixedKeyProcessorContext[KIn, VOut]

    def init(self, context: FixedKeyProcessorContext[KIn, VOut]) -> None:
        """Called before the first record; see `Processor.init`."""
        self.context = context

    @abstractmethod
    def process(self, record: FixedKeyRecord[KIn, VIn]) -> None:
        """Handles one record; forward what is derived from it by `with_value` and similar methods."""

    def close(self) -> None:
        """Called once when the task closes. Stores are closed by the runtime."""


def checked_product(who: str, product: Any) -> Any:
    """Returns what a supplier made if it is a processor.

    Args:
        who: the processor's name or operator, for messages.
        product: what the supplier returned.

    Raises:
        TypeError: it is no processor, or one whose methods are async.
    """
    if isinstance(product, type) or not callable(getattr(product, "process", None)):
        message = (
            f"the supplier of {who} made {shown(product)}, not a processor; it must return a new "
            "Processor at each call: a class without arguments will do"
        )
        raise TypeError(message)
    for method in ("init", "process", "close"):
        refuse_async(getattr(product, method, None), f"{who}: {type(product).__name__}.{method}()")
    return product


ProcessorSupplier: TypeAlias = Callable[[], Processor[KIn, VIn, KOut, VOut]]
"""Makes a new processor at each call; a class without arguments will do. An attribute (or
method) `stores` may name `StoreBuilder`s to add and connect (KIP-401)."""

FixedKeyProcessorSupplier: TypeAlias = Callable[[], FixedKeyProcessor[KIn, VIn, VOut]]
"""As `ProcessorSupplier`, for processors that cannot change keys."""

AnySupplier: TypeAlias = (
    ProcessorSupplier[Any, Any, Any, Any] | FixedKeyProcessorSupplier[Any, Any, Any]
)
"""Makes processors of either sort."""

ProcessorWrapper: TypeAlias = Callable[[str, AnySupplier], AnySupplier]
"""Puts something around the processors of a topology: (name of a node, supplier) -> supplier.

It is asked once about each processor node, also of those that operators of the DSL are, but not of
global stores. What the supplier it returns makes takes the records of that node; it hands them to
the processor that the given supplier makes, or does not. It calls that one's `init` and `close`
from its own. An attribute `stores` of the returned supplier adds stores to the node.

The value of a record of a table is a `TableChange`.
"""


class TableChange(NamedTuple):
    """What processors put around an operator of a table see as the value of a record.

    Attributes:
        new: the new value, None if the row is deleted.
        old: the value before, None if there was none or if nobody downstream needs it.
    """

    new: Any
    old: Any


# -- sinks ---------------------------------------------------------------------------------

TopicNameExtractor: TypeAlias = Callable[[Any, Any, RecordContext], str]
"""Chooses the topic of a record: (key, value, context) -> name of a topic that exists."""

StreamPartitioner: TypeAlias = (
    Callable[[str, Any, Any, int], int | Collection[int] | None]
    | Callable[[str, Any, Any, Headers, int], int | Collection[int] | None]
)
"""Chooses partitions: (topic, key, value, partition count), or with the record's headers (topic,
key, value, headers, partition count) -> one, several, none (an empty collection drops the record),
or None for the default way, by the key's bytes."""

_PARTITIONERS: Final = {
    4: "topic, key, value, partition count",
    5: "topic, key, value, headers, partition count",
}


def check_partitioner(partitioner: object, who: str) -> None:
    """Refuses what cannot be called as a partitioner is; None is no partitioner.

    Raises:
        TypeError: it is no plain function of four or five arguments.
    """
    if partitioner is not None:
        arity(cast("Any", partitioner), _PARTITIONERS, f"the partitioner of {who}")


def sees_headers(partitioner: StreamPartitioner) -> bool:
    """Tells whether a partitioner is called with the headers of the record (KIP-1321)."""
    return arity(partitioner, _PARTITIONERS, "a partitioner") == 5


def check_extractor(extractor: object, who: str) -> None:
    """Refuses what cannot be called as a timestamp extractor is; None is none.

    Raises:
        TypeError: it is no plain function of two arguments.
    """
    if extractor is not None:
        names = "record, partition time"
        arity(cast("Any", extractor), {2: names}, f"the timestamp_extractor of {who}")


# -- timestamps ----------------------------------------------------------------------------

TimestampExtractor: TypeAlias = Callable[[ConsumedRecord, int], int]
"""Gives a record its event time: (record, partition time) -> epoch milliseconds.

Partition time is the highest timestamp seen in the partition so far, -1 at first. A negative
result drops the record."""


def fail_on_invalid_timestamp(record: ConsumedRecord, _partition_time_ms: int) -> int:
    """Takes the record's own timestamp, and stops the application at a negative one.

    This is the default. A source given exactly this function may skip the call.
    """
    if record.timestamp < 0:
        raise StreamsError(
            f"the record's timestamp is {record.timestamp}, and times begin at 0 (1970); give the "
            "source another timestamp_extractor, for example log_and_skip_on_invalid_timestamp",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
    return record.timestamp


def log_and_skip_on_invalid_timestamp(record: ConsumedRecord, _partition_time_ms: int) -> int:
    """Takes the record's own timestamp; a record with a negative one is logged and dropped."""
    if record.timestamp < 0:
        _log.warning(
            "dropped a record with the timestamp %d: topic %s, partition %d, offset %d",
            record.timestamp,
            record.topic,
            record.partition,
            record.offset,
        )
    return record.timestamp


def use_partition_time_on_invalid_timestamp(record: ConsumedRecord, partition_time_ms: int) -> int:
    """Takes the record's own timestamp, the partition time in place of a negative one."""
    if record.timestamp >= 0:
        return record.timestamp
    if partition_time_ms < 0:
        raise StreamsError(
            f"the record's timestamp is {record.timestamp} and the partition has no time yet to "
            "take instead; give the source another timestamp_extractor, for example "
            "log_and_skip_on_invalid_timestamp",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
    return partition_time_ms


def wallclock_timestamp(_record: ConsumedRecord, _partition_time_ms: int) -> int:
    """Takes the time of processing.

    A source given exactly this function uses the runtime's clock, which tests can set.
    """
    return time.time_ns() // 1_000_000


# -- where to start ------------------------------------------------------------------------

_NAMED_RESETS = ("earliest", "latest", "none")


@dataclass(frozen=True, slots=True)
class AutoOffsetReset:
    """Where a source starts reading a partition without a committed offset.

    Attributes:
        policy: "earliest", "latest", "none" (fail) or "by_duration".
        duration_ms: how far back to start, for "by_duration".
    """

    policy: str
    duration_ms: int | None = None

    @classmethod
    def earliest(cls) -> AutoOffsetReset:
        """Starts at the oldest record there is."""
        return cls("earliest")

    @classmethod
    def latest(cls) -> AutoOffsetReset:
        """Starts at the next record to come."""
        return cls("latest")

    @classmethod
    def none(cls) -> AutoOffsetReset:
        """Fails."""
        return cls("none")

    @classmethod
    def by_duration(cls, duration: timedelta | int) -> AutoOffsetReset:
        """Starts at the first record not older than `duration`, a timedelta or milliseconds.

        Raises:
            ValueError: if it is negative.
        """
        duration_ms = to_ms(duration)
        if duration_ms < 0:
            raise ValueError(f"an offset reset looks back, its duration cannot be {duration!r}")
        return cls("by_duration", duration_ms)

    @classmethod
    def of(cls, reset: str | AutoOffsetReset | None) -> AutoOffsetReset | None:
        """Reads a name, "earliest", "latest" or "none"; leaves the rest as it is.

        Raises:
            ValueError: if there is no such name.
            TypeError: if it is none of these.
        """
        if reset is None or isinstance(reset, AutoOffsetReset):
            return reset
        if not isinstance(reset, str):
            raise TypeError(f"offset_reset needs a name or an AutoOffsetReset, got {reset!r}")
        if reset not in _NAMED_RESETS:
            raise ValueError(
                f"offset_reset {reset!r} is not known; use {', '.join(_NAMED_RESETS)} or "
                "AutoOffsetReset.by_duration(...)"
            )
        return cls(reset)
