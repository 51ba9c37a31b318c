"""Topics of a test: encode what a test pipes into a topology, decode what it reads.

Owns the records of a test, the time of an input topic, and how a duration, a moment and a topic's
name are checked. It must not know how a record goes through the topology: the driver does that.

Source: JVM `TestInputTopic`, `TestOutputTopic`, `TestRecord`.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from thalweg.stores.callables import shown
from thalweg.stores.durations import to_ms
from thalweg.stores.record import HeaderList, Headers, checked_headers, wrong_timestamp
from thalweg.stores.serde import Serde, SerdeHint, bytes_of, read_fault, write_fault
from thalweg.streams.errors import DeserializationError, SerializationError, TransportError

K = TypeVar("K")
V = TypeVar("V")

_INPUT: Final = SerdeHint.of("create_input_topic")
_OUTPUT: Final = SerdeHint.of("create_output_topic")


class ProducedRecord(NamedTuple):
    """A record that left the topology, in bytes.

    Attributes:
        topic: where to.
        partition: where the application chose it, else None.
        key: its key.
        value: its value.
        timestamp: epoch milliseconds; None was left to the log.
        headers: names and values, in order.
    """

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    timestamp: int | None
    headers: HeaderList


@dataclass(frozen=True, slots=True)
class TestRecord(Generic[K, V]):
    """A decoded record of a test's topic.

    Attributes:
        key: its key.
        value: its value.
        timestamp: epoch milliseconds; None, on input, takes the topic's time.
        headers: its headers.
    """

    __test__: ClassVar[bool] = False  # not a test, whatever pytest thinks of its name

    key: K
    value: V
    timestamp: int | None = None
    headers: Headers = field(default_factory=Headers)


class PipesTopics(Protocol):
    """What topics ask of the driver that made them."""

    def pipe_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None:
        """Pipes a record of bytes."""
        ...

    def produced(self, topic: str) -> deque[ProducedRecord]:
        """Returns the records of a topic that were not read yet."""
        ...

    def produced_topic_names(self) -> set[str]:
        """Returns the names of all topics that were written to."""
        ...


class TestInputTopic(Generic[K, V]):
    """A topic a test writes; made by `TopologyTestDriver.create_input_topic`."""

    __test__ = False

    def __init__(
        self,
        driver: PipesTopics,
        topic: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        start_ms: int,
        auto_advance_ms: int,
    ) -> None:
        self._driver = driver
        self._topic = topic
        self._serdes = key_serde, value_serde
        self._encode_key = key_serde.header_serializer(topic)
        self._encode_value = value_serde.header_serializer(topic)
        self._now_ms = start_ms
        self._auto_advance_ms = forward_ms(auto_advance_ms)

    def pipe_input(
        self,
        key: K | None,
        value: V | None,
        timestamp: datetime | int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Pipes a record; without a timestamp it gets the topic's time, which then advances.

        Raises:
            SerializationError: key or value is not of its serde's type.
            TypeError: the timestamp is neither an int nor a datetime, or the headers are none.
            StreamsError: the record failed, and its handler said to stop.
        """
        own = Headers(checked_headers(() if headers is None else headers))
        if timestamp is None:
            timestamp_ms = self._now_ms
            self._now_ms += self._auto_advance_ms
        else:
            timestamp_ms = moment_ms(timestamp, "the timestamp of a piped record")
        key_serde, value_serde = self._serdes
        topic = self._topic
        try:
            raw_key, raw_value = None, None
            if key is not None:
                raw_key = bytes_of(key_serde, topic, key, self._encode_key(key, own))
            if value is not None:
                raw_value = bytes_of(value_serde, topic, value, self._encode_value(value, own))
        except Exception as error:
            half, cause = write_fault(topic, error, (key_serde, key), (value_serde, value), own)
            given = key if half == "key" else value
            message = (
                f"cannot write the {half} of a record for topic {topic!r}: "
                f"{_INPUT.unwritable(half, cause, given)}"
            )
            raise SerializationError(message, topic=topic) from cause
        self._driver.pipe_raw(topic, raw_key, raw_value, timestamp_ms, own)

    def pipe_value(self, value: V | None, timestamp: datetime | int | None = None) -> None:
        """Pipes a record without a key."""
        self.pipe_input(None, value, timestamp)

    def pipe_record(self, record: TestRecord[K, V]) -> None:
        """Pipes a `TestRecord`."""
        self.pipe_input(record.key, record.value, record.timestamp, record.headers)

    def pipe_records(self, records: Iterable[TestRecord[K, V]]) -> None:
        """Pipes records, one after another."""
        for record in records:
            self.pipe_record(record)

    def pipe_key_values(
        self,
        rows: Iterable[tuple[K | None, V | None]],
        start: datetime | int | None = None,
        advance: timedelta | int = 0,
    ) -> None:
        """Pipes (key, value) rows; with `start` their times begin there and step by `advance`."""
        if start is None:
            for key, value in rows:
                self.pipe_input(key, value)
            return
        now_ms, step_ms = moment_ms(start), duration_ms(advance)
        for key, value in rows:
            self.pipe_input(key, value, now_ms)
            now_ms += step_ms

    def pipe_values(
        self,
        values: Iterable[V | None],
        start: datetime | int | None = None,
        advance: timedelta | int = 0,
    ) -> None:
        """Pipes values without keys; times as in `pipe_key_values`."""
        self.pipe_key_values(((None, value) for value in values), start, advance)

    def advance_time(self, duration: timedelta | int) -> None:
        """Advances the topic's time."""
        self._now_ms += forward_ms(duration_ms(duration))


class TestOutputTopic(Generic[K, V]):
    """A topic a test reads; made by `TopologyTestDriver.create_output_topic`.

    Records are read once, oldest first. Reading from an empty topic raises LookupError, and
    asking anything of a topic that the topology does not write a TransportError.
    """

    __test__ = False

    def __init__(
        self, driver: PipesTopics, topic: str, key_serde: Serde[K], value_serde: Serde[V]
    ) -> None:
        self._driver = driver
        self._topic = topic
        self._serdes = key_serde, value_serde
        self._decode_key = key_serde.header_deserializer(topic)
        self._decode_value = value_serde.header_deserializer(topic)

    @property
    def queue_size(self) -> int:
        """Number of records not read yet."""
        return len(self._driver.produced(self._topic))

    @property
    def is_empty(self) -> bool:
        """Whether every record was read."""
        return not self._driver.produced(self._topic)

    def read_record(self) -> TestRecord[K, V]:
        """Returns the next record.

        Raises:
            LookupError: there is none.
            DeserializationError: the topic's serdes cannot read it.
        """
        queue = self._driver.produced(self._topic)
        if not queue:
            written = ", ".join(sorted(self._driver.produced_topic_names())) or "none"
            message = f"topic {self._topic!r} has no more records (topics written to: {written})"
            raise LookupError(message)
        record = queue.popleft()
        headers = Headers(record.headers)
        try:
            key: Any = None if record.key is None else self._decode_key(record.key, headers)
            value: Any = None if record.value is None else self._decode_value(record.value, headers)
        except Exception as error:
            key_serde, value_serde = self._serdes
            half, cause = read_fault(
                self._topic,
                error,
                (key_serde, record.key),
                (value_serde, record.value),
                Headers(record.headers),
            )
            message = (
                f"cannot read the {half} of a record of topic {self._topic!r}: "
                f"{_OUTPUT.unreadable(half, cause)}"
            )
            raise DeserializationError(message, topic=self._topic) from cause
        return TestRecord(key, value, record.timestamp, headers)

    def read_key_value(self) -> tuple[K, V]:
        """Returns key and value of the next record; LookupError if there is none."""
        record = self.read_record()
        return record.key, record.value

    def read_value(self) -> V:
        """Returns the value of the next record; LookupError if there is none."""
        return self.read_record().value

    def read_records_to_list(self) -> list[TestRecord[K, V]]:
        """Returns all records left."""
        return [self.read_record() for _ in range(self.queue_size)]

    def read_key_values_to_list(self) -> list[tuple[K, V]]:
        """Returns key and value of all records left."""
        return [self.read_key_value() for _ in range(self.queue_size)]

    def read_key_values_to_map(self) -> dict[K, V]:
        """Returns the last value of each key of all records left.

        Raises:
            ValueError: a record has no key.
        """
        rows = self.read_key_values_to_list()
        if any(key is None for key, _ in rows):
            message = f"topic {self._topic!r} has records without a key; read them as a list"
            raise ValueError(message)
        return dict(rows)

    def read_values_to_list(self) -> list[V]:
        """Returns the values of all records left."""
        return [self.read_value() for _ in range(self.queue_size)]


def unknown_topic(
    topic: str, verb: Literal["read", "write"], known: Iterable[str], patterns: Iterable[str] = ()
) -> TransportError:
    """Returns the error of a topic that the topology does not read or write."""
    names = sorted(known)
    shown = ", ".join([*names, *(f"all that match {pattern!r}" for pattern in patterns)])
    message = f"the topology does not {verb} topic {topic!r}; it {verb}s: {shown or 'none'}"
    close = difflib.get_close_matches(topic, names, 3)
    if close:
        message += f"; did you mean {' or '.join(map(repr, close))}?"
    return TransportError(message, topic=topic)


def forward_ms(advance_ms: int) -> int:
    """Refuses a time that goes back."""
    if advance_ms < 0:
        message = f"a topic's time only goes forward, got {advance_ms} ms"
        raise ValueError(message)
    return advance_ms


def duration_ms(duration: timedelta | int) -> int:
    """Returns a duration in milliseconds."""
    found = to_ms(duration)
    if found.__class__ is not int:
        message = f"a duration is a timedelta or an int of milliseconds, got {shown(duration)}"
        raise TypeError(message)
    return found


def moment_ms(moment: datetime | int, what: str = "a topic's time") -> int:
    """Returns a moment in epoch milliseconds."""
    if isinstance(moment, datetime):
        return int(moment.timestamp() * 1000)
    if moment.__class__ is not int:
        raise wrong_timestamp(moment, f"{what}, unless a datetime,")
    return moment
