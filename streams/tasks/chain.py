"""The entry of a chain: from raw records of one partition to calls of plain functions.

Owns decoding, timestamp extraction and the hot loop. Per record it does what no batch can
do: decode, note where the record came from, call the chain. It must not choose records or
know what the chain does.

Source: JVM `RecordDeserializer`, `RecordQueue.updateHead`, `SourceNode`; design, a record's
way 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stores.errors import StreamsError
from stores.formats import decode_change
from stores.record import Headers, RawRecord, headers_of, offset_of
from stores.serde import serdes
from streams.error_handlers import error_name
from streams.errors import ProcessingError
from streams.measures import Measure
from streams.tasks.failures import FailurePolicy
from streams.tasks.task import TaskFace
from streams.transport.port import TopicPartition
from topology.compiler import Chain
from topology.nodes.table import ChangeSerde
from topology.processor import (
    ConsumedRecord,
    fail_on_invalid_timestamp,
    wallclock_timestamp,
)

Decode = Callable[[bytes], Any]


class SourceRun:
    """Feeds one partition's records to a chain.

    Attributes:
        run: the hot loop, a closure bound to task, chain and decoders.
        partition_time_ms: highest timestamp of the partition that was processed, -1 before.
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
        "latency",
        "partition",
        "partition_time_ms",
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
        self.partition_time_ms = -1
        self.source_name = chain.source.name
        self.records_total = 0
        self.latency = Measure()
        self._newest_stamped_ms = -1
        extract = chain.source.timestamp_extractor or task.config.default_timestamp_extractor
        # Taking the record's own timestamp needs no call; a negative one fails in the loop.
        self._extract = None if extract is fail_on_invalid_timestamp else extract
        self.run: Callable[[Sequence[RawRecord]], None] = self._loop()

    def decoders(self) -> tuple[Decode, Decode]:
        """Returns the functions that decode keys and values of this topic."""
        source, config = self._chain.source, self._task.config
        value_serde: Any = source.value_serde or config.default_value_serde
        key_serde = source.key_serde or config.default_key_serde
        if isinstance(value_serde, ChangeSerde):
            inner = (value_serde.inner or config.default_value_serde).deserializer(self.topic)

            def change(data: bytes) -> tuple[Any, Any]:
                new, old = decode_change(data)
                return (None if new is None else inner(new)), (None if old is None else inner(old))

            return key_serde.deserializer(self.topic), change
        return key_serde.deserializer(self.topic), value_serde.deserializer(self.topic)

    def _bare_decoders(self) -> tuple[Decode | None, Decode | None]:
        """Returns the fastest functions that decode right bytes, None for bytes as they are."""
        source, config = self._chain.source, self._task.config
        key_serde = source.key_serde or config.default_key_serde
        value_serde: Any = source.value_serde or config.default_value_serde
        decode_key = None if key_serde is serdes.bytes else key_serde.bare_deserializer(self.topic)
        if isinstance(value_serde, ChangeSerde):
            return decode_key, self.decoders()[1]
        if value_serde is serdes.bytes:
            return decode_key, None
        return decode_key, value_serde.bare_deserializer(self.topic)

    def stamped(self, records: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Puts the extractor's timestamps in place of the records' own.

        The default extractor takes the record's own timestamp: nothing is done then.
        """
        extract = self._extract
        if extract is None or not records:
            return records
        if extract is wallclock_timestamp:
            now_ms = self._task.now_ms()
            return [
                (now_ms, raw_key, raw_value, origin) for _, raw_key, raw_value, origin in records
            ]
        decode_key, decode_value = self.decoders()
        seen = max(self.partition_time_ms, self._newest_stamped_ms)
        stamped = []
        for timestamp, raw_key, raw_value, origin in records:
            try:
                record = ConsumedRecord(
                    None if raw_key is None else decode_key(raw_key),
                    None if raw_value is None else decode_value(raw_value),
                    timestamp,
                    self.topic,
                    self.partition,
                    offset_of(origin),
                    Headers(headers_of(origin) or ()),
                )
            except Exception:  # the hot loop meets the record again and asks the handler
                stamped.append((timestamp, raw_key, raw_value, origin))
                continue
            try:
                extracted = extract(record, seen)
                seen = max(seen, extracted)
            except Exception as error:
                raise self._unstamped(record, error) from error
            stamped.append((extracted, raw_key, raw_value, origin))
        self._newest_stamped_ms = seen
        return stamped

    def _unstamped(self, record: ConsumedRecord, error: Exception) -> ProcessingError:
        """Returns what to raise where an extractor failed or returned no whole number."""
        return ProcessingError(
            f"the timestamp extractor failed: {error_name(error)}: {error}; it must return epoch "
            "milliseconds, a negative number drops the record",
            task_id=self._task.task_id,
            topic=self.topic,
            partition=self.partition,
            offset=record.offset,
            node=self.source_name,
        )

    def _loop(self) -> Callable[[Sequence[RawRecord]], None]:
        """Returns the hot loop: with the time kept up to date for user code that sees it."""
        if self._task.shows_time or self._chain.takes_changes:
            return self._timed_loop()
        task, current = self._task, self._task.current
        process: Any = self._chain.process
        decode_key, decode_value = self._bare_decoders()
        # A record this worker sent itself may have one object as key and value.
        is_one_serde = decode_key is decode_value
        topic = self.topic

        def run(records: Sequence[RawRecord]) -> None:
            current.topic = topic
            current.partition, current.run = self.partition, records
            newest = self.partition_time_ms
            try:
                for record in records:
                    timestamp, key, value, current.origin = record
                    current.timestamp = timestamp
                    try:
                        if value is key and is_one_serde:
                            if key is not None and decode_key is not None:
                                key = value = decode_key(key)
                        else:
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
                self.partition_time_ms = newest
                if newest > task.stream_time_ms:
                    task.stream_time_ms = newest

        return run

    def _timed_loop(self) -> Callable[[Sequence[RawRecord]], None]:
        task, current = self._task, self._task.current
        process: Any = self._chain.process
        changes = self._chain.takes_changes
        decode_key, decode_value = self._bare_decoders()
        punctuations, topic = task.stream_punctuations, self.topic

        def run(records: Sequence[RawRecord]) -> None:
            current.topic = topic
            current.partition, current.run = self.partition, records
            stream_time = task.stream_time_ms
            newest = self.partition_time_ms
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
                    self.partition_time_ms = newest = timestamp
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

        return run

    def _undecodable(self, record: RawRecord, error: Exception) -> None:
        clear = self._clear(record, error)
        self._policy.deserialization_failed(self._task, self._chain.source.name, clear)

    def _clear(self, record: RawRecord, error: Exception) -> Exception:
        """Returns the error the checked decoders raise for a record, which says more."""
        decode_key, decode_value = self.decoders()
        try:
            if record[1] is not None:
                decode_key(record[1])
            if record[2] is not None:
                decode_value(record[2])
        except Exception as clear:
            return clear
        return error

    def _reject_timestamp(self, timestamp: int) -> None:
        """Drops a record whose extractor returned a negative timestamp; without one, fails."""
        if self._extract is not None:
            self._task.dropped_records_total += 1
            return
        message = (
            f"the record's timestamp is {timestamp}, and times begin at 0 (1970); give the source a "
            "timestamp_extractor, for example log_and_skip_on_invalid_timestamp"
        )
        raise StreamsError(message, node=self._chain.source.name)
