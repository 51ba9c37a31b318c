"""The test driver: a whole topology in one task, record by record, without a log.

Owns the order in which a piped record goes through the topology until nothing is left to do, and
the access of a test to the stores. The clock moves only when the test moves it. Use it from one
thread. The topics that a test writes and reads are in `testing_topics`.

    with TopologyTestDriver(builder, application_id="app") as driver:
        lines = driver.create_input_topic("lines", value_serde=serdes.string)
        counts = driver.create_output_topic("counts", serdes.string, serdes.int64)
        lines.pipe_input(None, "a b a")
        assert counts.read_key_values_to_map() == {"a": 2, "b": 1}

One task, 0_0, holds all subtopologies; every topic has one partition. After each record the
driver commits, so that caches do not hide updates; with `commit="manual"` it commits only
when told.

Source: JVM `TopologyTestDriver`.
"""

from __future__ import annotations

import re
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import (
    Any,
    Final,
    Literal,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.callables import shown
from thalweg.stores.formats import (
    decode_partition_metadata,
    decode_processor_metadata,
    encode_partition_metadata,
)
from thalweg.stores.record import (
    HeaderList,
    RawRecord,
    checked_headers,
)
from thalweg.stores.serde import (
    Serde,
    serde_of,
)
from thalweg.streams.clock import ManualClock
from thalweg.streams.config import Settings, StreamsConfig
from thalweg.streams.error_handlers import BUILT_IN
from thalweg.streams.errors import (
    AppStateError,
)
from thalweg.streams.observe.metrics import Metric, of_task
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.commit import Committer, commit_positions
from thalweg.streams.tasks.failures import FailurePolicy
from thalweg.streams.tasks.global_task import NoLetters
from thalweg.streams.tasks.offsets import TIME_PREFIX
from thalweg.streams.tasks.plan import whole_plan
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.testing_stores import DriverStores
from thalweg.streams.testing_topics import (
    ProducedRecord,
    TestInputTopic,
    TestOutputTopic,
    TestRecord,
    duration_ms,
    moment_ms,
    unknown_topic,
)
from thalweg.streams.transport.port import OffsetAndMetadata, Send, TopicPartition
from thalweg.topology.dsl.builder import StreamsBuilder
from thalweg.topology.physical import SinkNode, Topology
from thalweg.topology.subtopologies import Subtopology, subtopologies, topic_names

K = TypeVar("K")
V = TypeVar("V")

__all__ = [
    "ProducedRecord",
    "TestInputTopic",
    "TestOutputTopic",
    "TestRecord",
    "TopologyTestDriver",
]

_APPLICATION_ID: Final = "test-driver"


class _Capture:
    """Where the driver's task sends to: a list, in order. Offsets are kept as metadata only.

    Args:
        is_exactly_once: offsets go into the producer's transaction then. As in the JVM's driver,
            the consumer, whose commits are reported, hears nothing of them.
    """

    def __init__(self, *, is_exactly_once: bool) -> None:
        self.records: list[ProducedRecord] = []
        self.metadata: dict[str, str] = {}
        self._is_exactly_once = is_exactly_once

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        records = self.records

        def send(
            key: bytes | None,
            value: bytes | None,
            timestamp: int | None,
            headers: HeaderList | None,
            partition: int | None,
        ) -> None:
            records.append(
                ProducedRecord(topic, partition, key, value, timestamp, list(headers or ()))
            )

        return send

    def direct_slots(self, _topic: str) -> None:
        """Returns None: records are to be sent."""

    def partition_count(self, topic: str) -> int | None:
        return 1

    def flush(self) -> None:
        """Does nothing: what was sent is in the list."""

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Notes the metadata beside the offsets: what the JVM's driver has of them."""
        if not self._is_exactly_once:
            for partition, (_, metadata) in offsets.items():
                time_ms = decode_partition_metadata(metadata)
                kept = {
                    name: number
                    for name, number in decode_processor_metadata(metadata).items()
                    if not name.startswith(TIME_PREFIX)
                }
                self.metadata[partition.topic] = encode_partition_metadata(time_ms, kept)

    def written_offsets(self) -> Mapping[TopicPartition, int]:
        """Returns nothing: changelogs have no offsets here."""
        return {}


class TopologyTestDriver(DriverStores):
    """Runs a topology on piped records, to the end of each.

    Args:
        topology: the topology, or the builder that makes it.
        config: its settings; or give single `settings`. Without an `application_id` it is
            "test-driver". State is kept in a directory that `close` removes, whatever
            `state_dir` says.
        wall_clock_ms: the start of the wall clock, in epoch milliseconds.
        commit: "every-record", as the JVM's driver does, or "manual".
        settings: as for `StreamsConfig`.

    Raises:
        TopologyError: the topology cannot be built.
        StreamsError: a processor's `init` failed.
    """

    def __init__(
        self,
        topology: Topology | StreamsBuilder,
        *,
        config: StreamsConfig | None = None,
        wall_clock_ms: int = 0,
        commit: Literal["every-record", "manual"] = "every-record",
        **settings: Unpack[Settings],
    ) -> None:
        if config is not None and settings:
            message = f"give config= or settings, not both (got {', '.join(settings)})"
            raise TypeError(message)
        if commit not in ("every-record", "manual"):
            message = f'commit is "every-record" or "manual", got {commit!r}'
            raise ValueError(message)
        if config is None:
            settings.setdefault("application_id", _APPLICATION_ID)
            config = StreamsConfig(**settings)
        if isinstance(topology, StreamsBuilder):
            topology = topology.build(config)
        self.config = self._task_config = config
        if config.outer_join_emit_interval_ms is None:
            self._task_config = self._task_config.replace(outer_join_emit_interval_ms=0)
        if config.window_emit_interval_ms is None:
            self._task_config = self._task_config.replace(window_emit_interval_ms=0)
        self.clock = ManualClock(moment_ms(wall_clock_ms, "wall_clock_ms"))
        self._topology = topology
        self._commits = commit == "every-record"
        self._capture = _Capture(is_exactly_once=config.is_exactly_once)
        self._committer = Committer(self._capture)
        self._scanned = 0
        self._taken = 0
        self._read: dict[str, deque[ProducedRecord]] = {}
        self._produced_topics: dict[str, None] = {}
        self._offsets: dict[str, int] = {}
        self._parts = subtopologies(topology, config.topology_config)
        self._directory = tempfile.TemporaryDirectory(prefix="thalweg-test-")
        self._is_closed = False
        cache_bytes = config.statestore_cache_max_bytes
        cache = RecordCache(cache_bytes) if cache_bytes else None
        self._global: ActiveTask | None = None
        self._task: ActiveTask | None = None
        try:
            self._global = self._open_task([p for p in self._parts if p.is_global], cache)
            self._task = self._open_task([p for p in self._parts if not p.is_global], cache)
            for task in self._tasks:
                task.compile()
                task.start()
        except BaseException:
            with suppress(Exception):  # what went wrong first is what counts
                self.close()
            raise
        self._capture_outputs()

    def _open_task(
        self, parts: Sequence[Subtopology], cache: RecordCache | None
    ) -> ActiveTask | None:
        if not parts:
            return None
        plan = whole_plan(self._topology, parts, self._task_config)
        is_global = parts[0].is_global
        policy = FailurePolicy(
            self._task_config,
            NoLetters() if is_global else self._capture,
            guards_processing=not is_global or self._task_config.processing_handler_global_enabled,
        )
        directory = Path(self._directory.name) / ("global" if is_global else "0_0")
        directory.mkdir(parents=True)
        topics = dict.fromkeys(
            topic
            for part in parts
            for topic in (*part.source_topics, *(t.name for t in part.repartition_source_topics))
        )
        globals_ = None if is_global else self._global
        task = ActiveTask(
            TaskId(-1, -1) if is_global else TaskId(0, 0),
            plan,
            [TopicPartition(topic, 0) for topic in topics],
            config=self._task_config,
            collector=RecordCollector(self._capture, plan.topic_names, policy),
            policy=policy,
            cache=cache,
            directory=directory,
            now_ms=self.clock.now_ms,
            global_store=lambda name: None if globals_ is None else globals_.stores.get(name),
        )
        try:
            task.stores.open_all()
        except BaseException:
            task.close()
            raise
        return task

    # -- input ---------------------------------------------------------------------------

    @overload
    def create_input_topic(
        self,
        topic: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        *,
        start: datetime | int | None = None,
        auto_advance: timedelta | int = 0,
    ) -> TestInputTopic[K, V]: ...

    @overload
    def create_input_topic(
        self,
        topic: str,
        key_serde: Serde[K],
        value_serde: None = None,
        *,
        start: datetime | int | None = None,
        auto_advance: timedelta | int = 0,
    ) -> TestInputTopic[K, Any]: ...

    @overload
    def create_input_topic(
        self,
        topic: str,
        key_serde: None = None,
        *,
        value_serde: Serde[V],
        start: datetime | int | None = None,
        auto_advance: timedelta | int = 0,
    ) -> TestInputTopic[Any, V]: ...

    @overload
    def create_input_topic(
        self,
        topic: str,
        key_serde: None,
        value_serde: Serde[V],
        *,
        start: datetime | int | None = None,
        auto_advance: timedelta | int = 0,
    ) -> TestInputTopic[Any, V]: ...

    @overload
    def create_input_topic(
        self,
        topic: str,
        key_serde: None = None,
        value_serde: None = None,
        *,
        start: datetime | int | None = None,
        auto_advance: timedelta | int = 0,
    ) -> TestInputTopic[Any, Any]: ...

    def create_input_topic(
        self,
        topic: str,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
        *,
        start: datetime | int | None = None,
        auto_advance: timedelta | int = 0,
    ) -> TestInputTopic[Any, Any]:
        """Returns a topic to pipe decoded records into.

        Args:
            topic: its name; the topology must read it.
            key_serde: the application's default if not given.
            value_serde: the application's default if not given.
            start: time of the first record; the driver's wall clock by default.
            auto_advance: by how much the topic's time advances after each record.
        """
        start_ms = self.clock.now_ms() if start is None else moment_ms(start)
        return TestInputTopic(
            self,
            topic,
            serde_of(key_serde, "key_serde of create_input_topic()")
            or self.config.default_key_serde,
            serde_of(value_serde, "value_serde of create_input_topic()")
            or self.config.default_value_serde,
            start_ms,
            duration_ms(auto_advance),
        )

    def pipe_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None:
        """Pipes a record of bytes and processes until nothing moves any more.

        Raises:
            TransportError: the topology does not read the topic.
            StreamsError: a record failed, and its handler said to stop.
            TypeError: key or value are no bytes, or the timestamp is no int.
        """
        self._refuse_closed()
        for half, data in (("key", key), ("value", value)):
            if data is not None and not isinstance(data, bytes):
                message = f"pipe_raw() takes the {half} as bytes, got {shown(data)}"
                raise TypeError(message)
        timestamp = moment_ms(timestamp, "the timestamp of a piped record")
        if not self._append(topic, key, value, timestamp, list(checked_headers(headers))):
            raise unknown_topic(
                topic, "read", self._source_topics(), [p.pattern for p in self._patterns]
            )
        self._settle()

    def advance_wall_clock_time(self, duration: timedelta | int) -> None:
        """Moves the wall clock and runs the punctuations that become due, once each.

        Args:
            duration: a timedelta, or milliseconds.
        """
        self._refuse_closed()
        self.clock.advance(duration_ms(duration))
        if self._task is not None:
            try:
                self._task.punctuate_wall_clock(self.clock.now_ms())
                if self._commits:
                    self._commit()
            finally:
                self._capture_outputs()
        self._settle()

    def commit(self) -> None:
        """Commits, which flushes caches, and processes what that sends on."""
        self._refuse_closed()
        try:
            self._commit()
        finally:
            self._capture_outputs()
        self._settle()

    def _append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: HeaderList,
    ) -> bool:
        """Queues a record with the tasks that read its topic; tells whether there is one."""
        partition = TopicPartition(topic, 0)
        offset = self._offsets.get(topic, 0)
        record: RawRecord = (timestamp, key, value, (offset, headers) if headers else offset)
        is_read = False
        task = self._task
        if task is not None and self._reads(task, partition):
            self._offsets[topic] = offset + 1
            task.add(partition, [record])
            is_read = True
        if self._global is not None and partition in self._global.partitions:
            self._offsets[topic] = offset + 1
            self._global.add(partition, [record])
            self._global.process(self.clock.now_ms())
            commit_positions(self._global, {})
            is_read = True
        return is_read

    def _reads(self, task: ActiveTask, partition: TopicPartition) -> bool:
        if partition in task.partitions:
            return True
        if not any(part.matches(partition.topic) for part in self._parts):
            return False
        task.add_partition(partition)
        return True

    @property
    def _tasks(self) -> list[ActiveTask]:
        return [task for task in (self._global, self._task) if task is not None]

    def _source_topics(self) -> set[str]:
        return {partition.topic for task in self._tasks for partition in task.partitions}

    @property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [pattern for part in self._parts for pattern in part.source_patterns]

    def _sink_topics(self) -> set[str]:
        """Returns the topics the topology can write, as far as their names are known."""
        topics = {topic.name for part in self._parts for topic in part.state_changelog_topics}
        for node in self._topology.nodes.values():
            if isinstance(node, SinkNode) and node.topic is not None:
                topics.add(node.topic)
        names = topic_names(self._topology, self.config.application_id)
        topics = {names.get(topic, topic) for topic in topics}
        letters = self.config.dead_letter_queue_topic
        return topics | self._produced_topics.keys() | ({letters} if letters else set())

    def _may_write_anywhere(self) -> bool:
        """Whether records choose their topic, or a handler may choose one for a dead letter."""
        config, built_in = self.config, BUILT_IN.values()
        return any(
            handler not in built_in
            for handler in (
                config.deserialization_handler,
                config.processing_handler,
                config.production_handler,
            )
        ) or any(
            isinstance(node, SinkNode) and node.topic is None
            for node in self._topology.nodes.values()
        )

    def _settle(self) -> None:
        """Processes, record by record, until every queue is empty."""
        task = self._task
        if task is None:
            return
        while True:
            try:
                if not task.process(self.clock.now_ms(), 1):
                    return
                if self._commits or task.scope.commit_requested:
                    self._commit()
            finally:
                self._capture_outputs()

    def _commit(self) -> None:
        if self._task is not None:
            self._committer.commit((self._task,))

    def _capture_outputs(self) -> None:
        """Takes over what was sent, and queues what the topology itself reads."""
        records = self._capture.records
        while self._scanned < len(records):
            record = records[self._scanned]
            self._scanned += 1
            self._read.setdefault(record.topic, deque()).append(record)
            self._produced_topics[record.topic] = None
            timestamp = self.clock.now_ms() if record.timestamp is None else record.timestamp
            self._append(record.topic, record.key, record.value, timestamp, record.headers)

    # -- output --------------------------------------------------------------------------

    @overload
    def create_output_topic(
        self,
        topic: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
    ) -> TestOutputTopic[K, V]: ...

    @overload
    def create_output_topic(
        self,
        topic: str,
        key_serde: Serde[K],
        value_serde: None = None,
    ) -> TestOutputTopic[K, Any]: ...

    @overload
    def create_output_topic(
        self,
        topic: str,
        key_serde: None = None,
        *,
        value_serde: Serde[V],
    ) -> TestOutputTopic[Any, V]: ...

    @overload
    def create_output_topic(
        self,
        topic: str,
        key_serde: None,
        value_serde: Serde[V],
    ) -> TestOutputTopic[Any, V]: ...

    @overload
    def create_output_topic(
        self,
        topic: str,
        key_serde: None = None,
        value_serde: None = None,
    ) -> TestOutputTopic[Any, Any]: ...

    def create_output_topic(
        self,
        topic: str,
        key_serde: Serde[Any] | None = None,
        value_serde: Serde[Any] | None = None,
    ) -> TestOutputTopic[Any, Any]:
        """Returns a topic to read decoded records from; serdes as for the input.

        Args:
            topic: its name; the topology must write it.
            key_serde: the application's default if not given.
            value_serde: the application's default if not given.
        """
        return TestOutputTopic(
            self,
            topic,
            serde_of(key_serde, "key_serde of create_output_topic()")
            or self.config.default_key_serde,
            serde_of(value_serde, "value_serde of create_output_topic()")
            or self.config.default_value_serde,
        )

    def take_produced(self) -> list[ProducedRecord]:
        """Returns what was produced to any topic since the last call, in order."""
        records = self._capture.records[self._taken :]
        self._taken = len(self._capture.records)
        return records

    def produced_topic_names(self) -> set[str]:
        """Returns the names of all topics that were written to."""
        return set(self._produced_topics)

    def produced(self, topic: str) -> deque[ProducedRecord]:
        """Returns the records of a topic that no output topic has read yet.

        Raises:
            TransportError: the topology does not write the topic.
        """
        if topic not in self._read:
            written = self._sink_topics()
            if topic not in written and not self._may_write_anywhere():
                raise unknown_topic(topic, "write", written)
        return self._read.setdefault(topic, deque())

    # -- what it did ------------------------------------------------------------------------

    def dropped_records_total(self) -> int:
        """Returns how many records were dropped so far."""
        return sum(task.scope.dropped_records_total for task in self._tasks)

    def committed_metadata(self) -> Mapping[str, str]:
        """Returns source topic -> metadata the consumer committed last with its offset."""
        return dict(self._capture.metadata)

    def metrics(self) -> list[Metric]:
        """Returns the task's metrics."""
        return [] if self._task is None else list(of_task(self._task))

    # -- the end -------------------------------------------------------------------------

    def close(self) -> None:
        """Closes processors and stores and removes the state. Closing again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        with ExitStack() as stack:
            stack.callback(self._directory.cleanup)
            for task in self._tasks:
                stack.callback(task.close)
                stack.callback(task.scope.drops.tell, None)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            message = "the test driver is closed; make a new one"
            raise AppStateError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as closing:
            # What failed in the test is what counts.
            if error is None:
                raise
            error.add_note(f"The driver could not be closed: {closing}")
