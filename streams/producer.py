"""Writing records into the log an application uses, from a script or another thread.

Owns the producer: serdes bound once per topic, records sent without waiting, commits batch by
batch. It must not know topologies or tasks, and it belongs to no group.

Source: JVM `KafkaProducer` as scripts use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from thalweg.stores.record import (
    HeaderList,
    Headers,
    checked_headers,
    wrong_timestamp,
)
from thalweg.stores.serde import (
    Serde,
    SerdeHint,
    serde_of,
    write_fault,
)
from thalweg.streams.clock import SystemClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import AppStateError, SerializationError, StreamsError
from thalweg.streams.transport.opening import open_client_transport
from thalweg.streams.transport.port import NewTopic, TopicPartition, Transport

COMMIT_RECORDS: Final = 10_000
"""Records after which a producer commits by itself: bounds what waits in memory, and what
is lost when the process dies."""

COMMIT_BYTES: Final = 16 * 1024 * 1024
"""Bytes of keys and values after which it does so too."""

_SEND: Final = SerdeHint.of("send")

_Encode: TypeAlias = Callable[..., bytes]
_Bound: TypeAlias = tuple[Any, _Encode, _Encode, bool]
"""(send of the transport, encode key, encode value, whether these take headers too) of one topic
and pair of serdes."""

_log = logging.getLogger(__name__)


class Producer:
    """Writes decoded records to topics of the log an application runs on.

    Records become visible, all or none of a batch, when they are committed: every
    `COMMIT_RECORDS` or `COMMIT_BYTES`, by `flush` and by `close`. Where another process owns the
    embedded log, as while an application runs there, records go through that one.

    Use a producer from one thread; each thread may have its own.

        with app.producer() as producer:
            producer.send("lines", "to be or not to be", value_serde=serdes.string)

    Args:
        config: names the log; default serdes are used where a record's are not given.
        transport: opens the log to write to, instead of the one the settings name.

    Attributes:
        committed_records: how many records were committed so far.

    Raises:
        ConfigError: the settings name a log that cannot be opened.
        StoreLockedError: another process owns the embedded log and does not answer.
    """

    def __init__(
        self, config: StreamsConfig, *, transport: Callable[[], Transport] | None = None
    ) -> None:
        self._key_serde: Serde[Any] = config.default_key_serde
        self._value_serde: Serde[Any] = config.default_value_serde
        self._transport = (
            open_client_transport(config, SystemClock()) if transport is None else transport()
        )
        self._bound: dict[tuple[str, Serde[Any] | None, Serde[Any] | None], _Bound] = {}
        self._uncommitted = 0
        self._uncommitted_bytes = 0
        self._is_closed = False
        self.committed_records = 0

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        timestamp: int | datetime | None = None,
        headers: Headers | Iterable[tuple[str, bytes | None]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Sends a record without waiting.

        Args:
            topic: where to; the embedded log creates a topic that does not exist.
            value: the value; None deletes the key's row in a table.
            key: the key, None for none.
            key_serde: how the key is written; the settings' default if not given.
            value_serde: how the value is written, likewise.
            timestamp: event time in epoch milliseconds, or a moment (without a zone: local
                time); the time of sending if not given.
            headers: names and values.
            partition: the partition; if not given it follows from the key's bytes as in the
                JVM, round robin without a key.

        Raises:
            SerializationError: key or value is not of its serde's type; nothing was sent.
            ProductionError: a record of this batch was refused by the log.
            AppStateError: the producer is closed.
            TypeError: a serde, the timestamp or the headers are not of their type.
        """
        try:
            bound = self._bound.get((topic, key_serde, value_serde))
        except TypeError:  # nothing that could be a serde
            bound = None
        if bound is None:
            bound = self._bind(topic, key_serde, value_serde)
        send, encode_key, encode_value, sees_headers = bound
        if timestamp.__class__ is not int and timestamp is not None:
            if not isinstance(timestamp, datetime):
                raise wrong_timestamp(timestamp, "the timestamp of a record, unless a datetime,")
            timestamp = int(timestamp.timestamp() * 1000)
        raw_headers: HeaderList | None = None
        if headers is not None:
            raw_headers = list(checked_headers(headers))
        try:
            if sees_headers:
                own = Headers(raw_headers or ())
                raw_key = None if key is None else encode_key(key, own)
                raw_value = None if value is None else encode_value(value, own)
                raw_headers = own.raw() or None
            else:
                raw_key = None if key is None else encode_key(key)
                raw_value = None if value is None else encode_value(value)
        except Exception as error:
            raise self._unwritable(
                error, topic, (key_serde, key), (value_serde, value), raw_headers
            ) from error
        send(raw_key, raw_value, timestamp, raw_headers, partition)
        self._uncommitted += 1
        self._uncommitted_bytes += _size(raw_key) + _size(raw_value)
        if self._uncommitted >= COMMIT_RECORDS or self._uncommitted_bytes >= COMMIT_BYTES:
            self.flush()

    def _bind(
        self, topic: str, key_serde: Serde[Any] | None, value_serde: Serde[Any] | None
    ) -> _Bound:
        self._refuse_closed()
        keys = serde_of(key_serde, "key_serde of send()") or self._key_serde
        values = serde_of(value_serde, "value_serde of send()") or self._value_serde
        sees_headers = keys.sees_headers or values.sees_headers
        encoders: tuple[_Encode, _Encode]
        if sees_headers:
            encoders = keys.header_serializer(topic), values.header_serializer(topic)
        else:
            encoders = keys.bare_serializer(topic), values.bare_serializer(topic)
        bound = (self._transport.sender(topic), *encoders, sees_headers)
        self._bound[topic, key_serde, value_serde] = bound
        return bound

    def _unwritable(
        self,
        error: Exception,
        topic: str,
        key: tuple[Serde[Any] | None, Any],
        value: tuple[Serde[Any] | None, Any],
        headers: HeaderList | None,
    ) -> SerializationError:
        """Returns what to raise where a record cannot be written."""
        keys = serde_of(key[0], "key_serde of send()") or self._key_serde
        values = serde_of(value[0], "value_serde of send()") or self._value_serde
        own = Headers(headers or ())
        half, cause = write_fault(topic, error, (keys, key[1]), (values, value[1]), own)
        given = key[1] if half == "key" else value[1]
        wrong = SerializationError(
            f"cannot write the {half} of a record for topic {topic!r}: "
            f"{_SEND.unwritable(half, cause, given)}",
            topic=topic,
        )
        wrong.__cause__ = cause
        return wrong

    def flush(self) -> None:
        """Commits the sent records: they become durable and visible to readers.

        Raises:
            ProductionError: a record was refused; the batch is taken back where the log can.
            BrokerError: the log cannot be reached.
        """
        if not self._uncommitted:
            return
        sent, self._uncommitted, self._uncommitted_bytes = self._uncommitted, 0, 0
        try:
            self._transport.flush()
            self._transport.commit({})
        except StreamsError:
            self._transport.abort()
            raise
        self.committed_records += sent

    def create_topic(
        self, name: str, partitions: int, *, configs: Mapping[str, str] | None = None
    ) -> None:
        """Creates a topic; one that exists with as many partitions stays as it is.

        Args:
            name: its name.
            partitions: partition count, at least 1.
            configs: by Kafka's names, such as `retention.ms`.

        Raises:
            TransportError: it exists with another partition count, or the name is illegal.
        """
        self._refuse_closed()
        self._transport.create_topics([NewTopic(name, partitions, configs=configs or {})])

    def topics(self) -> list[str]:
        """Returns the names of all topics, in order."""
        self._refuse_closed()
        return sorted(self._transport.topics())

    def has_topic(self, name: str) -> bool:
        """Tells whether a topic exists."""
        self._refuse_closed()
        return self._transport.partition_count(name) is not None

    def retention_ms(self, topic: str) -> int | None:
        """Returns how old a topic's records may become by their timestamps, in milliseconds.

        None where records are not deleted for their age, or where the log does not say.
        """
        self._refuse_closed()
        try:
            configs = self._transport.topic_configs(topic)
            policies = configs["cleanup.policy"].value
            retention_ms = int(configs["retention.ms"].value)
        except (StreamsError, LookupError, ValueError):
            return None
        own_time = configs.get("message.timestamp.type")
        if own_time is not None and own_time.value == "LogAppendTime":
            return None
        is_kept = retention_ms < 0 or "delete" not in policies or "compact" in policies
        return None if is_kept else retention_ms

    def record_count(self, topic: str) -> int:
        """Returns how many committed offsets a topic has; 0 if the topic does not exist.

        As long as nothing was deleted or compacted that is the number of its records.
        """
        self._refuse_closed()
        count = self._transport.partition_count(topic) or 0
        partitions = [TopicPartition(topic, number) for number in range(count)]
        begins = self._transport.begin_offsets(partitions)
        ends = self._transport.end_offsets(partitions)
        return sum(ends[partition] - begins[partition] for partition in partitions)

    def close(self) -> None:
        """Commits the sent records and releases the log. Closing again does nothing.

        Raises:
            ProductionError: as `flush`; the log is released all the same.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.flush()
        finally:
            # A sender of a closed transport must not be found again.
            self._bound.clear()
            self._transport.close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            message = "the producer is closed; make a new one"
            raise AppStateError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes; what was sent before an error is committed too, as it was sent."""
        try:
            self.close()
        except StreamsError as closing:
            if error is None:
                raise
            _log.warning("while closing a producer: %s", closing)


def _size(data: object) -> int:
    """Counts bytes; what a serde of the user's wrote that is none, the log refuses."""
    return len(data) if isinstance(data, bytes) else 0
