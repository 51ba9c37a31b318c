"""The sending side of tasks: sinks and changelogs, encoded and handed to the transport.

Owns the functions at the end of chains. They encode, choose a partition if the application has a
partitioner, and send without waiting; delivery errors are raised by the next commit. It must not
know when that is.

Source: JVM `RecordCollectorImpl`, `SinkNode`; semantics A15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from thalweg.stores.api import Log
from thalweg.stores.callables import shown
from thalweg.stores.errors import StreamsError
from thalweg.stores.formats import encode_change
from thalweg.stores.record import Headers, RecordContext, headers_of
from thalweg.stores.serde import (
    Serde,
    bytes_of,
    serdes,
    write_fault,
)
from thalweg.streams.errors import SerializationError
from thalweg.streams.tasks.drops import shown_key
from thalweg.streams.tasks.failures import FailurePolicy, Outlet
from thalweg.streams.tasks.task import TaskFace
from thalweg.streams.transport.partitioning import partition_of
from thalweg.topology.dsl.windows import WindowedStreamPartitioner
from thalweg.topology.edges import Edge
from thalweg.topology.operators.operator import Process
from thalweg.topology.physical import SinkNode
from thalweg.topology.processor import sees_headers


class RecordCollector:
    """Makes the ends of chains for the tasks of one worker.

    Args:
        transport: where records go.
        topic_names: name in the topology -> name in the log.
        policy: what to do when a record cannot be encoded.
    """

    def __init__(
        self, transport: Outlet, topic_names: Mapping[str, str], policy: FailurePolicy
    ) -> None:
        self._transport = transport
        self._topic_names = topic_names
        self._policy = policy

    def changelog(self, topic: str, partition: int) -> Log:
        """Returns log(key, value, timestamp, headers) into one changelog partition."""
        send = self._transport.sender(topic, track_offsets=True)
        slots = self._transport.direct_slots(topic)
        if slots is not None and partition >= len(slots):
            slots = None  # to be told by the transport

        def log(key: bytes, value: bytes | None, timestamp: int | None, headers: Any) -> None:
            if slots is None or headers or timestamp is None:
                send(key, value, timestamp, headers, partition)
            else:
                append, next_offset = slots[partition]
                append((timestamp, key, value, next_offset()))

        return log

    def sink(self, task: TaskFace, node: SinkNode) -> Process:
        """Returns what a chain calls at a sink."""
        if node.topic is None:
            return self._dynamic_sink(task, node)
        topic = self._topic_names.get(node.topic, node.topic)
        self._policy.note_sink(topic, node.name)
        if any(serde.sees_headers for serde in self._serdes(task, node)):
            return self._header_sink(task, node, topic)
        if node.takes is Edge.CHANGE:
            return self._change_sink(task, node, topic)
        if node.partitioner is not None:
            return self._partitioned_sink(task, node, topic)
        encode_key, encode_value = self._bare_encoders(task, node, topic)
        send, slots = self._transport.sender(topic), self._transport.direct_slots(topic)
        only = slots if slots is not None and len(slots) == 1 else None
        failed, current = self._failed(task, node, topic), task.current

        def sink(key: Any, value: Any, timestamp: int) -> None:
            try:
                # Bytes need no call where the serde is that of bytes.
                raw_key = key
                if key is not None and (encode_key is not None or key.__class__ is not bytes):
                    raw_key = encode_key(key)  # type: ignore[misc]
                raw_value = value
                if value is not None and (encode_value is not None or value.__class__ is not bytes):
                    raw_value = encode_value(value)  # type: ignore[misc]
            except Exception as error:
                failed(error, key, value)
                return
            origin = current.origin
            if origin.__class__ is tuple:
                send(raw_key, raw_value, timestamp, headers_of(origin), None)
            elif only is None:
                send(raw_key, raw_value, timestamp, None, None)
            else:
                append, next_offset = only[0]
                append((timestamp, raw_key, raw_value, next_offset()))

        return sink

    def _change_sink(self, task: TaskFace, node: SinkNode, topic: str) -> Process:
        key_serde, value_serde = self._serdes(task, node)
        encode_key, inner = key_serde.bare_serializer(topic), value_serde.bare_serializer(topic)
        send, failed, current = (
            self._transport.sender(topic),
            self._failed(task, node, topic),
            task.current,
        )

        def sink(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                raw_key = None if key is None else encode_key(key)
                value = encode_change(
                    None if new is None else inner(new), None if old is None else inner(old)
                )
            except Exception as error:
                failed(error, key, new)
                return
            send(raw_key, value, timestamp, headers_of(current.origin), None)

        return sink

    def _header_sink(self, task: TaskFace, node: SinkNode, topic: str) -> Process:
        """Returns the sink of serdes that see headers, for each kind of sink.

        What a serde sets goes with the record it writes: other children do not see it.
        """
        key_serde, value_serde = self._serdes(task, node)
        encode_key = key_serde.header_serializer(topic)
        encode_value = value_serde.header_serializer(topic)
        send, failed, current = (
            self._transport.sender(topic),
            self._failed(task, node, topic),
            task.current,
        )
        choose, policy = self._partitioner(task, node, topic), self._policy

        def put(key: Any, value: Any, make: Callable[[Headers], Any], timestamp: int) -> None:
            headers = Headers(headers_of(current.origin) or ())
            try:
                raw_key = None if key is None else encode_key(key, headers)
                raw_value = make(headers)
                for raw, serde in ((raw_key, key_serde), (raw_value, value_serde)):
                    if raw is not None and raw.__class__ is not bytes:
                        bytes_of(serde, topic, value, raw)
            except Exception as error:
                failed(error, key, value)
                return
            try:
                chosen = choose(key, value)
            except Exception as error:
                policy.processing_failed(task, node.name, error, key, value, timestamp)
                return
            if not chosen:
                task.drop(
                    node.name, "no-partition", f"key {shown_key(key)}", f"timestamp {timestamp}"
                )
            for partition in chosen:
                send(raw_key, raw_value, timestamp, headers.raw() or None, partition)

        if node.takes is Edge.CHANGE:

            def change_sink(key: Any, new: Any, old: Any, timestamp: int) -> None:
                def make(headers: Headers) -> bytes:
                    return encode_change(
                        None if new is None else encode_value(new, headers),
                        None if old is None else encode_value(old, headers),
                    )

                put(key, new, make, timestamp)

            return change_sink

        def sink(key: Any, value: Any, timestamp: int) -> None:
            put(
                key,
                value,
                lambda headers: None if value is None else encode_value(value, headers),
                timestamp,
            )

        return sink

    def _partitioned_sink(self, task: TaskFace, node: SinkNode, topic: str) -> Process:
        encode_key, encode_value = self._encoders(task, node, topic)
        send, failed, current = (
            self._transport.sender(topic),
            self._failed(task, node, topic),
            task.current,
        )
        choose = self._partitioner(task, node, topic)
        policy = self._policy

        def sink(key: Any, value: Any, timestamp: int) -> None:
            try:
                raw_key = None if key is None else encode_key(key)
                raw_value = None if value is None else encode_value(value)
            except Exception as error:
                failed(error, key, value)
                return
            headers = headers_of(current.origin)
            try:
                chosen = choose(key, value)
            except Exception as error:
                policy.processing_failed(task, node.name, error, key, value, timestamp)
                return
            if not chosen:
                task.drop(
                    node.name, "no-partition", f"key {shown_key(key)}", f"timestamp {timestamp}"
                )
            for partition in chosen:
                send(raw_key, raw_value, timestamp, headers, partition)

        return sink

    def _partitioner(
        self, task: TaskFace, node: SinkNode, topic: str
    ) -> Callable[[Any, Any], tuple[int | None, ...]]:
        """Returns choose(key, value) -> partitions to send to; None leaves one to the default."""
        count = self._transport.partition_count(topic)
        chosen: Any = node.partitioner
        if isinstance(chosen, WindowedStreamPartitioner):
            # Bound once, and hashes of keys are kept: not so where the partitioner is called.
            encode_inner = chosen.inner.serializer(topic)

            def by_inner_key(key: Any, _value: Any) -> tuple[int | None, ...]:
                return (partition_of(encode_inner(key.key), count or 1),)

            return by_inner_key

        if chosen is None:
            return lambda _key, _value: (None,)

        def known(partition: int) -> int:
            """Returns the partition count; where there is no topic, what makes anything right."""
            found = self._transport.partition_count(topic)
            return max(partition, 0) + 1 if found is None else found

        current, takes_headers = task.current, sees_headers(chosen)

        def by_user(key: Any, value: Any) -> tuple[int | None, ...]:
            if takes_headers:
                headers = Headers(current.headers() or ())
                answer = chosen(topic, key, value, headers, count or 1)
            else:
                answer = chosen(topic, key, value, count or 1)
            if answer is None:
                return (None,)
            if answer.__class__ is int and 0 <= answer < (count or 1):
                return (answer,)
            if answer.__class__ is int:
                several: tuple[Any, ...] = (answer,)
            elif isinstance(answer, Iterable) and not isinstance(answer, str | bytes):
                several = tuple(answer)
            else:
                several = (answer,)
            if not all(isinstance(one, int) and not isinstance(one, bool) for one in several):
                message = (
                    f"the partitioner of topic {topic!r} returned {shown(answer)}; it must return "
                    "a partition (an int), several, or None for the default one"
                )
                raise StreamsError(message, node=node.name)
            for one in several:
                # Asked anew before it is refused: topics grow.
                if one < 0 or (one >= (count or 1) and one >= known(one)):
                    message = (
                        f"the partitioner of topic {topic!r} returned partition {one}; the topic "
                        f"has 0 to {known(one) - 1}"
                    )
                    raise StreamsError(message, node=node.name)
            return tuple(dict.fromkeys(several))

        return by_user

    def _dynamic_sink(self, task: TaskFace, node: SinkNode) -> Process:
        extract: Any = node.extractor
        current, policy = task.current, self._policy
        ends: dict[str, Process] = {}

        def sink(key: Any, value: Any, timestamp: int) -> None:
            context = RecordContext(
                current.topic,
                current.partition,
                current.offset(),
                timestamp,
                Headers(current.headers() or ()),
            )
            try:
                topic = extract(key, value, context)
                end = ends.get(topic) if topic.__class__ is str else None
                if end is None:
                    end = ends[topic] = self._resolved(task, node, topic)
            except Exception as error:
                policy.processing_failed(task, node.name, error, key, value, timestamp)
                return
            end(key, value, timestamp)

        return sink

    def _resolved(self, task: TaskFace, node: SinkNode, topic: str) -> Process:
        if not isinstance(topic, str) or not topic:
            given = shown(topic) if topic != "" else "an empty text"
            message = (
                f"the topic extractor of a sink returned {given}, not a topic name; it must return "
                "the name of a topic as a str"
            )
            raise StreamsError(message, node=node.name)
        named = SinkNode(
            name=node.name,
            topic=topic,
            extractor=None,
            key_serde=node.key_serde,
            value_serde=node.value_serde,
            partitioner=node.partitioner,
            parents=node.parents,
            hint=node.hint,
        )
        return self.sink(task, named)

    @staticmethod
    def _serdes(task: TaskFace, node: SinkNode) -> tuple[Serde[Any], Serde[Any]]:
        """Returns the serdes of keys and of values, of one value where they come as a change."""
        key_serde = node.key_serde or task.config.default_key_serde
        return key_serde, node.value_serde or task.config.default_value_serde

    def _encoders(
        self, task: TaskFace, node: SinkNode, topic: str
    ) -> tuple[Callable[[Any], bytes], Callable[[Any], bytes]]:
        key_serde, value_serde = self._serdes(task, node)
        return key_serde.bare_serializer(topic), value_serde.bare_serializer(topic)

    def _bare_encoders(
        self, task: TaskFace, node: SinkNode, topic: str
    ) -> tuple[Callable[[Any], bytes] | None, Callable[[Any], bytes] | None]:
        """Returns the fastest encoders, None where bytes go out as they are."""
        key_serde, value_serde = self._serdes(task, node)
        return (
            None if key_serde is serdes.bytes else key_serde.bare_serializer(topic),
            None if value_serde is serdes.bytes else value_serde.bare_serializer(topic),
        )

    def _failed(
        self, task: TaskFace, node: SinkNode, topic: str
    ) -> Callable[[Exception, Any, Any], None]:
        key_serde, value_serde = self._serdes(task, node)

        def failed(error: Exception, key: Any, value: Any) -> None:
            headers = Headers(task.current.headers() or ())
            which, cause = write_fault(
                topic, error, (key_serde, key), (value_serde, value), headers
            )
            given = key if which == "key" else value
            wrapped = SerializationError(
                f"sink {node.name!r}{node.hint.by()} cannot write the {which} of a record for topic "
                f"{topic!r}: {node.hint.unwritable(which, cause, given)}",
                node=node.name,
            )
            wrapped.__cause__ = cause
            self._policy.serialization_failed(task, node.name, wrapped, topic, key, value)

        return failed
