"""The global stores of a worker: filled from all partitions, in every worker.

Owns the task that runs the nodes of global stores, the reading of their topics and how far
that is. A global store is complete before any other task starts, and is kept up to date from
then on. Its processors only ever write its store: nothing is sent, nothing committed; where
it stands is in its checkpoint. It must not know the tasks that look its stores up.

Records are always led through the store's processor, also the first time, so that a custom
one sees them all (the JVM does so since KAFKA-7663).

Source: JVM `GlobalStreamThread`, `GlobalStateUpdateTask`, `GlobalStateManagerImpl`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from stores.api import StateStore
from stores.directory import StateDirectory, read_checkpoint, write_checkpoint
from stores.errors import CorruptDataError
from stores.layers.record_cache import RecordCache
from streams.clock import Clock
from streams.config import StreamsConfig
from streams.errors import MissingTopicsError
from streams.tasks.active_task import ActiveTask
from streams.tasks.collector import RecordCollector
from streams.tasks.commit import CHECKPOINT_FILE, checkpoint_of, positions_of
from streams.tasks.failures import FailurePolicy
from streams.tasks.plan import whole_plan
from streams.tasks.task import TaskId
from streams.transport.port import Reader, TopicPartition, Transport
from topology.subtopologies import Subtopology
from topology.topology import Topology

DIRECTORY: Final = "global"
GLOBAL_ID: Final = TaskId(-1, -1)
_READ_MS: Final = 100
_READ_RECORDS: Final = 10_000

_log = logging.getLogger(__name__)


class GlobalTask:
    """Keeps the global stores of one worker. Its worker owns it."""

    def __init__(
        self, task: ActiveTask, reader: Reader, transport: Transport, clock: Clock
    ) -> None:
        self._task = task
        self._reader = reader
        self._transport = transport
        self._clock = clock
        self._positions: dict[TopicPartition, int] = {}
        self._is_persistent = False

    @classmethod
    def of(
        cls,
        topology: Topology,
        parts: Sequence[Subtopology],
        config: StreamsConfig,
        transport: Transport,
        directory: StateDirectory,
        clock: Clock,
        policy: FailurePolicy,
        cache: RecordCache | None,
    ) -> GlobalTask | None:
        """Makes the task, None if the topology has no global stores.

        Raises:
            MissingTopicsError: a topic does not exist.
        """
        global_parts = [part for part in parts if part.is_global]
        if not global_parts:
            return None
        plan = whole_plan(topology, global_parts, config)
        topics = [topic for part in global_parts for topic in part.source_topics]
        counts = transport.partition_counts(topics)
        for topic in topics:
            if topic not in counts:
                message = f"the topic of a global store does not exist: {topic}; create it first"
                raise MissingTopicsError(message, topic=topic)
        task = ActiveTask(
            GLOBAL_ID,
            plan,
            [TopicPartition(topic, p) for topic in topics for p in range(counts[topic])],
            config=config,
            collector=RecordCollector(transport, plan.topic_names, policy),
            policy=policy,
            cache=cache,
            directory=directory.task_directory(DIRECTORY),
            now_ms=clock.now_ms,
        )
        return cls(task, transport.reader(), transport, clock)

    @property
    def stores(self) -> Mapping[str, StateStore]:
        """The global stores by name."""
        return self._task.stores

    def start(self) -> None:
        """Opens the stores and reads their topics up to what is there now."""
        task = self._task
        task.open_stores()
        self._is_persistent = all(store.persistent for store in task.stores.values())
        begins = self._transport.begin_offsets(task.partitions)
        ends = self._transport.end_offsets(task.partitions)
        known = self._known()
        self._positions = {
            partition: known[partition]
            if begins[partition] <= known.get(partition, -1) <= ends[partition]
            else begins[partition]
            for partition in task.partitions
        }
        task.start()
        self._reader.add(self._positions)
        while any(self._positions[p] < ends[p] for p in task.partitions):
            self.update(_READ_MS)
        self.commit()

    def _known(self) -> Mapping[TopicPartition, int]:
        if not self._is_persistent:
            return {}
        try:
            return positions_of(read_checkpoint(self._task.directory / CHECKPOINT_FILE))
        except CorruptDataError as error:
            _log.warning("global stores: %s; their topics are read again", error)
            return {}

    def update(self, timeout_ms: float = 0) -> int:
        """Applies what came since the last call and returns how many records it were."""
        task, done = self._task, 0
        for partition, records in self._reader.poll(_READ_RECORDS, timeout_ms):
            task.add(partition, records)
        while task.group.buffered_count():
            done += task.process(self._clock.now_ms())
        for partition in task.partitions:
            self._positions[partition] = self._reader.position(partition)
        return done

    def commit(self) -> None:
        """Lets the stores write what they hold back, and notes how far they are."""
        task = self._task
        if not task.consumed:
            return
        task.flush_caches()
        task.committed(durable=self._is_persistent)
        if self._is_persistent:
            write_checkpoint(task.directory / CHECKPOINT_FILE, checkpoint_of(self._positions))

    def close(self, *, clean: bool) -> None:
        """Closes the stores; clean leaves a checkpoint."""
        try:
            if clean:
                self.commit()
        finally:
            self._reader.close()
            self._task.close()
