"""The entry of a chain: from raw records of one partition to calls of plain functions.

Owns decoding, timestamp extraction and the hot loop. A record with an extracted timestamp is
decoded once, when it is buffered. Per record the loop does only what cannot be done per batch: it
decodes, notes the record's origin, and calls the chain. It must not choose records or know what the
chain does.

Source: JVM `RecordDeserializer`, `RecordQueue.updateHead`, `SourceNode`; design, a record's
way 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thalweg.stores.callables import shown
from thalweg.stores.errors import DeserializationError, StreamsError
from thalweg.stores.formats import decode_change
from thalweg.stores.record import (
    Headers,
    RawRecord,
    headers_of,
    offset_of,
)
from thalweg.stores.serde import Serde, read_fault, serdes
from thalweg.streams.error_handlers import error_name
from thalweg.streams.errors import ProcessingError
from thalweg.streams.samples import Measure
from thalweg.streams.tasks.drops import shown_key
from thalweg.streams.tasks.failures import FailurePolicy
from thalweg.streams.tasks.task import TaskFace
from thalweg.streams.transport.port import TopicPartition
from thalweg.topology.compiler import Chain
from thalweg.topology.edges import Edge
from thalweg.topology.processor import (
    ConsumedRecord,
    fail_on_invalid_timestamp,
    log_and_skip_on_invalid_timestamp,
    wallclock_timestamp,
)

Decode = Callable[[bytes], Any]

_NEED_NO_VALUES = (None, log_and_skip_on_invalid_timestamp, wallclock_timestamp)
"""The extractors for which nothing is decoded; None stands for a record's own timestamp."""

_LATEST_MS = 2**63 - 1
"""The latest time that a record can carry."""


class SourceRun:
    """Feeds one partition's records to a chain.

    Attributes:
        run: the hot loop, a closure bound to task, chain and decoders.
        source_name: the source node.
        records_total: records fed so far; its task counts.
        latency: from a record's timestamp to its turn; its task notes the first and the last
            of what it processes at once.
    """

    __slots__ = (
        "_chain",
        "_extract",
        "_newest_stamped_ms",
        "_policy",
        "_task",
        "_time",
        "latency",
        "partition",
        "records_total",
        "run",
        "source_name",
        "topic",
    )

    def __init__(
        self, task: TaskFace, chain: Chain, partition: TopicPartition, policy: FailurePolicy
    ) -> None:
        self._task = task
        self._chain = chain
        self._policy = policy
        self.topic = partition.topic
        self.partition = partition.partition
        self._time = task.offsets.times[partition]
        self.source_name = chain.source.name
        self.records_total = 0
        self.latency = Measure()
        self._newest_stamped_ms = -1
        extract = chain.source.timestamp_extractor or task.config.default_timestamp_extractor
        # Taking the record's own timestamp needs no call; a negative one fails in the loop.
        self._extract = None if extract is fail_on_invalid_timestamp else extract
        self.run: Callable[[Sequence[RawRecord]], None] = self._loop()

    def _serdes(self) -> tuple[Serde[Any], Serde[Any], bool]:
        """Returns the serdes of keys and of values, and whether values come two at a time."""
        source, config = self._chain.source, self._task.config
        key_serde = source.key_serde or config.default_key_serde
        value_serde = source.value_serde or config.default_value_serde
        return key_serde, value_serde, source.gives is Edge.CHANGE

    def decoders(self) -> tuple[Decode, Decode]:
        """Returns the functions that decode keys and values of this topic.

        What a serde sees of headers is those of the task's current record.
        """
        key_serde, value_serde, is_change = self._serdes()
        decode_key = self._seeing(key_serde) or key_serde.deserializer(self.topic)
        decode = self._seeing(value_serde) or value_serde.deserializer(self.topic)
        return decode_key, _change_decoder(decode) if is_change else decode

    def _bare_decoders(self) -> tuple[Decode | None, Decode | None]:
        """Returns the fastest functions that decode right bytes, None for bytes as they are."""
        key_serde, value_serde, is_change = self._serdes()
        decode_key, decode_value = self._bare(key_serde), self._bare(value_serde)
        if is_change:
            return decode_key, self.decoders()[1]
        return decode_key, decode_value

    def _bare(self, serde: Serde[Any]) -> Decode | None:
        if serde is serdes.bytes:
            return None
        return self._seeing(serde) or serde.bare_deserializer(self.topic)

    def _seeing(self, serde: Serde[Any]) -> Decode | None:
        """Returns the function of a serde that sees headers, None for any other serde.

        Headers that it changes are those of the record from then on, as in the JVM.
        """
        if not serde.sees_headers:
            return None
        decode, current = serde.header_deserializer(self.topic), self._task.current

        def decode_with_headers(data: bytes) -> Any:
            headers = Headers(headers_of(current.origin) or ())
            value = decode(data, headers)
            offset = current.offset()
            current.origin = (offset, headers.raw()) if len(headers) else offset
            return value

        return decode_with_headers

    def stamped(self, records: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Puts the extractor's timestamps in place of the records' own.

        The default extractor takes the record's own timestamp: nothing is done then. Nor where
        records with a negative one are skipped: the hot loop leaves them out. Any other extractor
        sees key and value: what was decoded for it goes on with the record, as a fifth field.
        """
        extract = self._extract
        if extract is None or extract is log_and_skip_on_invalid_timestamp or not records:
            return records
        if extract is wallclock_timestamp:
            now_ms = self._task.now_ms()
            return [
                (now_ms, raw_key, raw_value, origin) for _, raw_key, raw_value, origin in records
            ]
        decode_key, decode_value = self._bare_decoders()
        seen = max(self._time.ms, self._newest_stamped_ms)
        stamped: list[Any] = []
        current = self._task.current
        before = current.origin
        for timestamp, raw_key, raw_value, origin in records:
            current.origin = origin  # serdes that see headers look there, and may change them
            key: Any = raw_key
            value: Any = raw_value
            try:
                if decode_key is not None and raw_key is not None:
                    key = decode_key(raw_key)
                if decode_value is not None and raw_value is not None:
                    value = decode_value(raw_value)
            except Exception:  # the hot loop meets the record again and asks the handler
                stamped.append((timestamp, raw_key, raw_value, origin, None))
                continue
            offset = offset_of(origin)
            record = ConsumedRecord(
                *(key, value, timestamp, self.topic, self.partition, offset),
                Headers(current.headers() or ()),
            )
            try:
                extracted: Any = extract(record, seen)
                if extracted.__class__ is not int or extracted > _LATEST_MS:
                    extracted = _whole(extracted)
                seen = max(seen, extracted)
            except Exception as error:
                current.origin = before
                raise self._unstamped(record, error) from error
            stamped.append((extracted, raw_key, raw_value, current.origin, (key, value)))
        current.origin = before
        self._newest_stamped_ms = seen
        return stamped

    def _unstamped(self, record: ConsumedRecord, error: Exception) -> ProcessingError:
        """Returns what to raise where an extractor failed or returned no whole number."""
        return ProcessingError(
            f"the timestamp extractor failed: {error_name(error)}: {error}; it must return epoch "
            "milliseconds as an int, a negative number drops the record",
            task_id=self._task.task_id,
            topic=self.topic,
            partition=self.partition,
            offset=record.offset,
            node=self.source_name,
        )

    def keep_time(self) -> None:
        """Keeps stream time from the next run of records on, for an operator that asked late."""
        self.run = self._loop()

    def _loop(self) -> Callable[[Sequence[RawRecord]], None]:
        """Returns the hot loop: with the time kept up to date for operators that asked for it."""
        if self._extract not in _NEED_NO_VALUES:
            return self._stamped_loop()
        if self._task.keeps_stream_time or self._chain.source.gives is Edge.CHANGE:
            return self._timed_loop()
        task, current = self._task, self._task.current
        process: Any = self._chain.process
        decode_key, decode_value = self._bare_decoders()
        topic, partition, time = self.topic, self.partition, self._time

        def run(records: Sequence[RawRecord]) -> None:
            current.topic = topic
            current.partition, current.run = partition, records
            newest = time.ms
            try:
                for record in records:
                    timestamp, key, value, current.origin = record
                    current.timestamp = timestamp
                    try:
                        if decode_key is not None and key is not None:
                            key = decode_key(key)
                        if decode_value is not None and value is not None:
                            value = decode_value(value)
                    except Exception as error:
                        self._undecodable(record, error)
                        continue
                    if timestamp > newest:
                        newest = timestamp
                    elif timestamp < 0:
                        self._reject_timestamp(timestamp)
                        continue
                    process(key, value, timestamp)
            finally:
                time.ms = newest
                if newest > task.stream_time_ms:
                    task.stream_time_ms = newest

        return run

    def _timed_loop(self) -> Callable[[Sequence[RawRecord]], None]:
        task, current = self._task, self._task.current
        process: Any = self._chain.process
        changes = self._chain.source.gives is Edge.CHANGE
        decode_key, decode_value = self._bare_decoders()
        punctuations = task.stream_punctuations
        topic, partition, time = self.topic, self.partition, self._time

        def run(records: Sequence[RawRecord]) -> None:
            current.topic = topic
            current.partition, current.run = partition, records
            stream_time = task.stream_time_ms
            newest = time.ms
            try:
                for record in records:
                    timestamp, key, value, current.origin = record
                    current.timestamp = timestamp
                    try:
                        if decode_key is not None and key is not None:
                            key = decode_key(key)
                        if decode_value is not None and value is not None:
                            value = decode_value(value)
                    except Exception as error:
                        self._undecodable(record, error)
                        continue
                    if timestamp > newest:
                        newest = timestamp
                        if timestamp > stream_time:
                            task.stream_time_ms = stream_time = timestamp
                    elif timestamp < 0:
                        self._reject_timestamp(timestamp)
                        continue
                    if changes:
                        new, old = value or (None, None)
                        process(key, new, old, timestamp)
                    else:
                        process(key, value, timestamp)
                    if stream_time >= punctuations.next_due_ms:
                        task.punctuate_stream_time()
            finally:
                time.ms = newest

        return run

    def _stamped_loop(self) -> Callable[[Sequence[RawRecord]], None]:
        """Returns the loop for records that were decoded when they were stamped."""
        task, current = self._task, self._task.current
        process: Any = self._chain.process
        changes = self._chain.source.gives is Edge.CHANGE
        decode_key, decode_value = self.decoders()
        punctuations = task.stream_punctuations
        topic, partition, time = self.topic, self.partition, self._time

        def run(records: Sequence[Any]) -> None:
            current.topic = topic
            current.partition, current.run = partition, records
            stream_time = task.stream_time_ms
            newest = time.ms
            try:
                for record in records:
                    timestamp, key, value, current.origin, decoded = record
                    current.timestamp = timestamp
                    if decoded is not None:
                        key, value = decoded
                    else:  # it could not be decoded: the fault is found once more, and told
                        try:
                            key = None if key is None else decode_key(key)
                            value = None if value is None else decode_value(value)
                        except Exception as error:
                            self._undecodable(record, error)
                            continue
                    if timestamp > newest:
                        newest = timestamp
                        if timestamp > stream_time:
                            task.stream_time_ms = stream_time = timestamp
                    elif timestamp < 0:
                        self._reject_timestamp(timestamp)
                        continue
                    if changes:
                        new, old = value or (None, None)
                        process(key, new, old, timestamp)
                    else:
                        process(key, value, timestamp)
                    if stream_time >= punctuations.next_due_ms:
                        task.punctuate_stream_time()
            finally:
                time.ms = newest

        return run

    def _undecodable(self, record: RawRecord, error: Exception) -> None:
        source, (key_serde, value_serde, is_change) = self._chain.source, self._serdes()
        raw_key, raw_value = record[1], record[2]
        headers = Headers(headers_of(record[3]) or ())
        checked = None if is_change else raw_value
        half, cause = read_fault(
            self.topic, error, (key_serde, raw_key), (value_serde, checked), headers
        )
        clear = DeserializationError(
            f"source {source.name!r}{source.hint.by()} cannot read the {half} of a record of topic "
            f"{self.topic!r}: {source.hint.unreadable(half, cause)}",
            node=source.name,
        )
        clear.__cause__ = cause
        self._policy.deserialization_failed(self._task, source.name, clear)

    def _reject_timestamp(self, timestamp: int) -> None:
        """Drops a record whose extractor returned a negative timestamp; without one, fails."""
        if self._extract is not None:
            key = f"key {shown_key(self._task.current.raw()[0])}"
            self._task.drop(self.source_name, "invalid-timestamp", key, f"timestamp {timestamp}")
            return
        message = (
            f"the record's timestamp is {timestamp}, and times begin at 0 (1970); give the source a "
            "timestamp_extractor, for example log_and_skip_on_invalid_timestamp"
        )
        raise StreamsError(message, node=self._chain.source.name)


def _change_decoder(decode: Decode) -> Decode:
    """Returns the function that reads both values of a change."""

    def change(data: bytes) -> tuple[Any, Any]:
        new, old = decode_change(data)
        return (None if new is None else decode(new)), (None if old is None else decode(old))

    return change


def _whole(extracted: Any) -> int:
    """Returns what an extractor returned as an int.

    Raises:
        TypeError: it is none, or none that a record can carry.
    """
    if isinstance(extracted, int) and not isinstance(extracted, bool) and extracted <= _LATEST_MS:
        return int(extracted)
    raise TypeError(f"it returned {shown(extracted)}")
