"""The Processor API context of one node in one task.

Owns forwarding from user code into a chain, schedules, and access to the stores of a node. During a
forward, the headers and timestamp of the forwarded record are those of the current record;
afterwards the previous ones are restored.

Source: JVM `ProcessorContextImpl`, KIP-478, KIP-1146.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from thalweg.stores.callables import arity, shown
from thalweg.stores.durations import to_ms
from thalweg.stores.errors import StreamsError, UnknownStoreError
from thalweg.stores.record import (
    Record,
    RecordMetadata,
    checked_headers,
    wrong_timestamp,
)
from thalweg.streams.tasks.punctuation import Punctuator
from thalweg.streams.tasks.task import TaskFace
from thalweg.topology.operators.operator import Process
from thalweg.topology.processor import (
    Cancellable,
    FixedKeyRecord,
    PunctuationType,
    ReceivedRecord,
)


class TaskProcessorContext:
    """What a processor sees of its task. Use it from the task's own thread only."""

    def __init__(
        self, task: TaskFace, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> None:
        self._task = task
        self._node = node
        self._children = dict(children)
        self._every = tuple(children.values())
        self._stores = frozenset(stores)
        # User code may ask for it at any time.
        self._stream_time = task.stream_time()

    @property
    def application_id(self) -> str:
        """The application's id."""
        return self._task.config.application_id

    @property
    def task_id(self) -> str:
        """The task, as `<subtopology>_<partition>`."""
        return self._task.task_id

    @property
    def state_dir(self) -> Path:
        """The task's own directory."""
        return self._task.directory

    @property
    def key_serde(self) -> Any:
        """The application's default key serde."""
        return self._task.config.default_key_serde

    @property
    def value_serde(self) -> Any:
        """The application's default value serde."""
        return self._task.config.default_value_serde

    def app_configs(self) -> Mapping[str, Any]:
        """Returns the application's settings by name."""
        return self._task.config.as_dict()

    def forward(self, record: Any, child: str | None = None) -> None:
        """Hands a record to all children in the order they were added, or to one.

        Args:
            record: a `Record` or `FixedKeyRecord`; its headers and timestamp are what the
                children see as current.
            child: name of the one child to call.

        Raises:
            StreamsError: there is no child of that name.
            TypeError: it is no record, or its headers or timestamp are not what they must be.
        """
        if child is None:
            targets = self._every
        else:
            target = self._children.get(child)
            if target is None:
                known = ", ".join(self._children) or "none"
                message = f"cannot forward to {child!r}: it is not a child; the children: {known}"
                raise StreamsError(message, node=self._node)
            targets = (target,)
        try:
            headers, time = record.headers, record.timestamp
            headers.raw()
        except AttributeError:
            raise _not_forwarded(record) from None
        if time.__class__ is not int:
            raise wrong_timestamp(time)
        current = self._task.current
        origin, timestamp = current.origin, current.timestamp
        offset = current.offset()
        current.timestamp = time
        try:
            for target in targets:
                current.origin = (offset, headers.raw()) if len(headers) else offset
                target(record.key, record.value, time)
        finally:
            current.origin, current.timestamp = origin, timestamp

    def commit(self) -> None:
        """Asks for a commit as soon as the records in hand are processed."""
        self._task.commit_requested = True

    def schedule(
        self,
        interval: timedelta | int,
        type: PunctuationType,
        callback: Punctuator,
        *,
        start_time: datetime | int | None = None,
    ) -> Cancellable:
        """Calls `callback(timestamp_ms)` every `interval` of stream time or wall clock.

        Stream time: first due at 0, so with the first record, after it was processed. Wall
        clock: first due one interval from now. With `start_time` the first call is due
        then, and the grid starts there.

        Args:
            interval: a timedelta, or milliseconds; at least 1 ms.
            type: which time drives it.
            callback: gets the current time of that kind, not the planned one.
            start_time: anchor of the grid, a datetime or epoch milliseconds.

        Raises:
            ValueError: the interval is below 1 ms or the start time is negative.
            TypeError: the callback is no plain function of one argument, or another argument
                is not of its type.
        """
        if not isinstance(type, PunctuationType):
            message = (
                f"schedule() needs a PunctuationType, got {shown(type)}; give "
                "PunctuationType.STREAM_TIME or PunctuationType.WALL_CLOCK_TIME"
            )
            raise TypeError(message)
        arity(callback, {1: "timestamp_ms"}, "schedule()")
        interval_ms = _ms(interval)
        if interval_ms < 1:
            message = f"a punctuation needs an interval of at least 1 ms, got {interval!r}"
            raise ValueError(message)
        start_ms = None
        if start_time is not None:
            if isinstance(start_time, datetime):
                start_ms = int(start_time.timestamp() * 1000)
            elif start_time.__class__ is int:
                start_ms = start_time
            else:
                raise wrong_timestamp(start_time, "start_time of schedule(), unless a datetime,")
            if start_ms < 0:
                message = f"a punctuation cannot start before 1970, got {start_time!r}"
                raise ValueError(message)
        return self._task.schedule(self._node, interval_ms, type, callback, start_ms)

    def get_state_store(self, name: str) -> Any:
        """Returns a store the node is connected to, or a global store.

        Raises:
            UnknownStoreError: the node is not connected to such a store.
        """
        if name not in self._stores:
            found = self._global(name)
            if found is not None:
                return found
            known = ", ".join(sorted(self._stores)) or "none"
            message = (
                f"processor {self._node!r} is not connected to a store {name!r} (connected: {known}); "
                "name it in process(...) or call connect_processor_and_state_stores"
            )
            raise UnknownStoreError(message, node=self._node)
        return self._task.store(name)

    def _global(self, name: str) -> Any:
        return self._task.global_store(name)

    def record_metadata(self) -> RecordMetadata:
        """Returns topic, partition and offset of the current record.

        In a punctuation topic is None and the numbers are -1.
        """
        current = self._task.current
        return RecordMetadata(current.topic, current.partition, current.offset())

    def current_stream_time_ms(self) -> int:
        """Returns the highest timestamp the task has processed, -1 before the first."""
        return self._stream_time()

    def current_system_time_ms(self) -> int:
        """Returns the wall clock in epoch milliseconds."""
        return self._task.now_ms()


class FixedKeyContext(TaskProcessorContext):
    """What a processor sees that cannot change keys.

    Attributes:
        received: the record it was given last.
    """

    received: FixedKeyRecord[Any, Any] | None = None

    def forward(self, record: Any, child: str | None = None) -> None:
        """Hands on a record that was received, or was derived from one; see the base class.

        Raises:
            TypeError: it is another record, whose key may belong to another partition.
        """
        if record.__class__ is not ReceivedRecord and not self._is_kept(record):
            raise _other_key(record)
        super().forward(record, child)

    def _is_kept(self, record: Any) -> bool:
        """Whether a record that the user made has the key that was received."""
        return (
            isinstance(record, FixedKeyRecord)
            and self.received is not None
            and bool(record.key == self.received.key)
        )


def _ms(interval: timedelta | int) -> int:
    interval_ms = to_ms(interval)
    if interval_ms.__class__ is not int:
        message = f"schedule() needs a timedelta or an int of milliseconds, got {shown(interval)}"
        raise TypeError(message)
    return interval_ms


def _other_key(record: Any) -> TypeError:
    """Returns what to raise about a record that a processor with a fixed key cannot forward."""
    what = shown(record)
    if isinstance(record, FixedKeyRecord):
        what = f"one with the key {shown(record.key)}, which is not the key of the record in hand"
    return TypeError(
        f"forward() of a FixedKeyProcessor needs the FixedKeyRecord it received, got {what}; give "
        "record.with_value(...), or use process() and a Processor to change keys"
    )


def _not_forwarded(record: Any) -> TypeError:
    """Returns what to raise about something that cannot be forwarded."""
    if isinstance(record, Record | FixedKeyRecord):
        try:
            checked_headers(record.headers)
        except TypeError as error:
            return error
        return TypeError(
            f"the headers of a forwarded record are Headers, got {shown(record.headers)}"
        )
    return TypeError(
        f"forward() needs a Record, got {shown(record)}; give record.with_value(...) or "
        "Record(key, value, timestamp)"
    )
