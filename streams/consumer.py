"""Reading decoded records of a topic, outside of any topology.

Owns the consumer: where it begins, when it has read everything, and decoding. It commits nothing
and is in no group, so reading changes nothing. It must not know topologies or tasks.

Source: JVM `KafkaConsumer` with `assign`, as `kafka-console-consumer` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

from thalweg.stores.errors import DeserializationError
from thalweg.stores.record import Headers, headers_of, offset_of
from thalweg.stores.serde import (
    Serde,
    SerdeHint,
    read_fault,
    serde_of,
)
from thalweg.streams.clock import SystemClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import AppStateError, TransportError
from thalweg.streams.transport.opening import open_client_transport
from thalweg.streams.transport.port import Batch, TopicPartition, Transport
from thalweg.topology.processor import ConsumedRecord

Start: TypeAlias = Literal["beginning", "end"] | int
"""Where reading begins in every partition: an offset, or one of its ends."""

_POLL_RECORDS: Final = 10_000
_POLL_MS: Final = 100
_FOLLOW_POLL_MS: Final = 250
"""How long to wait where there is nothing to do but to wait."""
_READ: Final = SerdeHint.of("read")


class Consumer:
    """Reads topics of the log an application runs on.

    Where another process owns the embedded log, as while an application runs there, it is read
    through that one.

    Use a consumer from one thread; each thread may have its own.

    Args:
        config: names the log; default serdes are used where none are given.
        transport: opens the log to read, instead of the one the settings name.

    Raises:
        ConfigError: the settings name a log that cannot be opened.
        StoreLockedError: another process owns the embedded log and does not answer.
    """

    def __init__(
        self, config: StreamsConfig, *, transport: Callable[[], Transport] | None = None
    ) -> None:
        self._config = config
        self._transport = (
            open_client_transport(config, SystemClock()) if transport is None else transport()
        )
        self._is_closed = False

    def read(
        self,
        topic: str,
        *,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        start: Start = "beginning",
        partitions: Collection[int] | None = None,
        follow: bool = False,
    ) -> Iterator[ConsumedRecord]:
        """Yields the records of a topic, each partition's in the order of their offsets.

        Partitions take turns; there is no order between them. Close the iterator, or the
        consumer, when you stop early.

        Args:
            topic: the topic.
            key_serde: how keys are read; the settings' default if not given.
            value_serde: how values are read, likewise.
            start: where to begin; an offset outside of what a partition has is moved to its
                nearer end.
            partitions: only these; all if not given.
            follow: go on with what comes later, for ever; else end where the topic ends now.

        Raises:
            ValueError: `start` is none of these.
            TransportError: the topic or a partition does not exist.
            DeserializationError: a record cannot be decoded; names it.
            BrokerError: the log cannot be read.
        """
        if not isinstance(start, int) and start not in ("beginning", "end"):
            message = f'start is "beginning", "end" or an offset, got {start!r}'
            raise ValueError(message)
        keys = serde_of(key_serde, "key_serde of read()") or self._config.default_key_serde
        values = serde_of(value_serde, "value_serde of read()") or self._config.default_value_serde
        wanted = self._partitions(topic, partitions)
        begins = self._transport.begin_offsets(wanted)
        ends = self._transport.end_offsets(wanted)
        positions = {
            partition: _position(start, begins[partition], ends[partition]) for partition in wanted
        }
        return self._records(
            positions, None if follow else dict(ends), _decoder(topic, keys, values)
        )

    def _records(
        self,
        positions: dict[TopicPartition, int],
        ends: dict[TopicPartition, int] | None,
        decode: Callable[[Batch, int | None], Iterator[ConsumedRecord]],
    ) -> Iterator[ConsumedRecord]:
        reader = self._transport.reader()
        try:
            reader.add(positions)
            left = {p for p in positions if ends is not None and positions[p] < ends[p]}
            wait_ms = _FOLLOW_POLL_MS if ends is None else _POLL_MS
            while ends is None or left:
                for batch in reader.poll(_POLL_RECORDS, wait_ms):
                    yield from decode(batch, None if ends is None else ends[batch[0]])
                if ends is not None:
                    left = {p for p in left if reader.position(p) < ends[p]}
        finally:
            reader.close()

    def _partitions(
        self, topic: str, numbers: Collection[int] | None
    ) -> dict[TopicPartition, None]:
        if self._is_closed:
            message = "the consumer is closed; make a new one"
            raise AppStateError(message)
        count = self._transport.partition_count(topic)
        if count is None:
            known = ", ".join(sorted(self._transport.topics())) or "none"
            message = f"there is no topic {topic!r}; the log's topics: {known}"
            raise TransportError(message)
        for number in numbers or ():
            if not 0 <= number < count:
                message = f"topic {topic!r} has no partition {number}; it has {count}"
                raise TransportError(message)
        chosen = range(count) if numbers is None else sorted(numbers)
        return dict.fromkeys(TopicPartition(topic, number) for number in chosen)

    def topics(self) -> dict[str, int]:
        """Returns topic -> partition count, by name."""
        return dict(sorted(self._transport.partition_counts(self._transport.topics()).items()))

    def offsets(self, topic: str) -> list[tuple[int, int]]:
        """Returns the first offset and the one behind the last of each partition, in order.

        Raises:
            TransportError: the topic does not exist.
        """
        partitions = self._partitions(topic, None)
        begins = self._transport.begin_offsets(partitions)
        ends = self._transport.end_offsets(partitions)
        return [(begins[partition], ends[partition]) for partition in partitions]

    def close(self) -> None:
        """Lets go of the log. Closing again does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_topic(
    config: StreamsConfig,
    topic: str,
    *,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    start: Start = "beginning",
    partitions: Collection[int] | None = None,
    follow: bool = False,
) -> Iterator[ConsumedRecord]:
    """Yields the records of a topic, with a consumer of its own; see `Consumer.read`."""
    with Consumer(config) as consumer:
        yield from consumer.read(
            topic,
            key_serde=key_serde,
            value_serde=value_serde,
            start=start,
            partitions=partitions,
            follow=follow,
        )


def _position(start: Start, begin: int, end: int) -> int:
    if start == "beginning":
        return begin
    if start == "end":
        return end
    return min(max(start, begin), end)


def _decoder(
    topic: str, keys: Serde[Any], values: Serde[Any]
) -> Callable[[Batch, int | None], Iterator[ConsumedRecord]]:
    """Returns the function that decodes a batch, up to an offset where one is given."""
    decode_key: Callable[..., Any] = keys.bare_deserializer(topic)
    decode_value: Callable[..., Any] = values.bare_deserializer(topic)
    sees_headers = keys.sees_headers or values.sees_headers
    if sees_headers:
        decode_key, decode_value = (
            keys.header_deserializer(topic),
            values.header_deserializer(topic),
        )

    def decode(batch: Batch, end: int | None) -> Iterator[ConsumedRecord]:
        (_, partition), records = batch
        for timestamp, raw_key, raw_value, origin in records:
            offset = offset_of(origin)
            if end is not None and offset >= end:
                return
            headers = Headers(headers_of(origin) or ())
            try:
                if sees_headers:
                    key = None if raw_key is None else decode_key(raw_key, headers)
                    value = None if raw_value is None else decode_value(raw_value, headers)
                else:
                    key = None if raw_key is None else decode_key(raw_key)
                    value = None if raw_value is None else decode_value(raw_value)
            except Exception as error:
                own = Headers(headers_of(origin) or ())
                half, cause = read_fault(topic, error, (keys, raw_key), (values, raw_value), own)
                raise DeserializationError(
                    f"cannot read the {half} of a record of topic {topic!r}: "
                    f"{_READ.unreadable(half, cause)}",
                    topic=topic,
                    partition=partition,
                    offset=offset,
                ) from cause
            yield ConsumedRecord(key, value, timestamp, topic, partition, offset, headers)

    return decode
