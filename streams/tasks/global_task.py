"""The global stores of a worker: filled from all partitions, in every worker.

Owns the task that runs the nodes of global stores, the reading of their topics and its position. A
global store is complete before any other task starts, and is kept up to date afterwards. Its
processors only write its store: they send nothing and commit nothing. The position is in its
checkpoint. It must not know the tasks that read its stores.

Every instance reads the topics, and reads them again if a checkpoint does not match the files on
disk. So records that cannot be decoded make no dead letters.

Records always go through the store's processor, also the first time, so that a custom processor
sees all of them (in the JVM since KAFKA-7663).

Source: JVM `GlobalStreamThread`, `GlobalStateUpdateTask`, `GlobalStateManagerImpl`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from thalweg.stores.api import TaskStore
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.directory import (
    CHECKPOINT_FILE,
    GLOBAL_DIRECTORY,
    StateDirectory,
    read_checkpoint,
)
from thalweg.stores.errors import CorruptDataError
from thalweg.stores.record import HeaderList
from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import MissingTopicsError
from thalweg.streams.restore_listener import RestoreListener, tell
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.commit import commit_positions, positions_of
from thalweg.streams.tasks.drops import Drops
from thalweg.streams.tasks.failures import FailurePolicy
from thalweg.streams.tasks.plan import whole_plan
from thalweg.streams.tasks.store_notes import unpacked_offsets, unpacked_times
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import (
    Reader,
    Send,
    TopicPartition,
    Transport,
)
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import Subtopology

GLOBAL_ID: Final = TaskId(-1, -1)
_READ_MS: Final = 100
_READ_RECORDS: Final = 10_000

_log = logging.getLogger(__name__)


class NoLetters:
    """Where dead letters go that nobody shall get: nowhere, which is logged once per topic.

    Args:
        whose: whose letters they are, for the log.
    """

    def __init__(self, whose: str = "a global store") -> None:
        self._whose = whose
        self._told: set[str] = set()

    def sender(self, topic: str, *, track_offsets: bool = False) -> Send:
        """Returns a function that sends nothing."""
        if topic not in self._told:
            self._told.add(topic)
            _log.warning("dead letters of %s are not sent (to topic %s)", self._whose, topic)
        return _send_nothing

    def direct_slots(self, _topic: str) -> None:
        """Returns None: records are to be sent."""

    def partition_count(self, topic: str) -> int | None:
        """Returns None: there is no topic here."""
        return None


def _send_nothing(
    _key: bytes | None,
    _value: bytes | None,
    _timestamp: int | None,
    _headers: HeaderList | None,
    _partition: int | None,
) -> None:
    pass


class GlobalTask:
    """Keeps the global stores of one worker. Its worker owns it."""

    def __init__(
        self,
        task: ActiveTask,
        reader: Reader,
        transport: Transport,
        directory: StateDirectory,
        clock: Clock,
        listener: RestoreListener,
    ) -> None:
        self._task = task
        self._reader = reader
        self._transport = transport
        self._directory = directory
        self._clock = clock
        self._listener = listener
        self._positions: dict[TopicPartition, int] = {}
        plan = task.plan
        kept = {plan.changelog_topics[name] for name in plan.persistent_stores}
        self._kept = [partition for partition in task.partitions if partition.topic in kept]
        self._is_damaged = False
        self._is_open = False

    @classmethod
    def of(
        cls,
        topology: Topology,
        parts: Sequence[Subtopology],
        config: StreamsConfig,
        transport: Transport,
        directory: StateDirectory,
        clock: Clock,
        cache: RecordCache | None,
        listener: RestoreListener,
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
        policy = FailurePolicy(
            config, NoLetters(), guards_processing=config.processing_handler_global_enabled
        )
        task = ActiveTask(
            GLOBAL_ID,
            plan,
            [TopicPartition(topic, p) for topic in topics for p in range(counts[topic])],
            config=config,
            collector=RecordCollector(transport, plan.topic_names, policy),
            policy=policy,
            cache=cache,
            directory=directory.task_directory(GLOBAL_DIRECTORY),
            now_ms=clock.now_ms,
        )
        return cls(task, transport.reader(), transport, directory, clock, listener)

    @property
    def drops(self) -> Drops:
        """What was left out."""
        return self._task.scope.drops

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Partition of a global topic -> the next record to be read. Any thread may ask."""
        return self._positions.copy()

    @property
    def stores(self) -> Mapping[str, TaskStore]:
        """The global stores by name."""
        return self._task.stores

    def start(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Opens the stores and reads their topics up to what is there now.

        Called again after a BrokerError, it goes on where it was.

        Args:
            is_stopped: whether to give up; asked again and again. They are not complete then.
        """
        task = self._task
        ends = self._transport.end_offsets(task.partitions)
        if not self._is_open:
            begins = self._transport.begin_offsets(task.partitions)
            known = self._known(begins, ends)
            try:
                task.stores.open_all()
            except CorruptDataError as error:
                task.close()
                known = self._wiped(error)
                task.stores.open_all()
            noted, times = self._noted(known, ends)
            self._positions = {**begins, **known, **noted}
            task.compile()
            task.start(times)
            self._is_open = True
        self._reader.add(self._positions)
        self._fill(ends, is_stopped)
        self.commit()

    def _fill(self, ends: Mapping[TopicPartition, int], is_stopped: Callable[[], bool]) -> None:
        listener, positions = self._listener, self._positions
        names = {topic: name for name, topic in self._task.plan.changelog_topics.items()}
        totals = dict.fromkeys(self._task.partitions, 0)
        left = dict.fromkeys(totals)

        def told(call: Callable[..., None], partition: TopicPartition, *numbers: int) -> None:
            tell(call, partition, names[partition.topic], *numbers)

        for partition in totals:
            start = positions[partition]
            told(listener.on_restore_start, partition, start, max(start, ends[partition]))
        try:
            while True:
                for partition in [one for one in left if positions[one] >= ends[one]]:
                    del left[partition]
                    told(listener.on_restore_end, partition, totals[partition])
                if not left or is_stopped():
                    break
                for partition, count in self._apply(_READ_MS).items():
                    totals[partition] += count
                    if partition in left:
                        told(listener.on_batch_restored, partition, positions[partition], count)
        finally:
            for partition in left:
                told(listener.on_restore_suspended, partition, totals[partition])

    def _known(
        self, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """Returns where stores on disk go on, after wiping what no checkpoint vouches for."""
        try:
            known = positions_of(read_checkpoint(self._task.directory / CHECKPOINT_FILE))
        except CorruptDataError as error:
            return self._wiped(error)
        for partition in self._kept:
            position = known.get(partition)
            if position is None:
                # A checkpoint names no partition that was empty; one that still is may be left out.
                if known and not ends[partition]:
                    continue
                return self._wiped(None)
            if not begins[partition] <= position <= ends[partition]:
                return self._wiped(
                    f"the checkpoint stands at {position} of {partition}, "
                    f"which has {begins[partition]} to {ends[partition]}"
                )
        return {partition: known[partition] for partition in self._kept if partition in known}

    def _noted(
        self, known: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """Returns where stores that are kept stand by their notes, and their partitions' times.

        A note may be ahead of the checkpoint.
        """
        noted: dict[TopicPartition, int] = {}
        times: dict[TopicPartition, int] = {}
        for store in self._task.stores.values():
            note = store.note()
            if note is not None:
                noted.update(unpacked_offsets(note))
                times.update(unpacked_times(note))
        right = [at for at in known if at in noted and known[at] <= noted[at] <= ends[at]]
        return {at: noted[at] for at in right}, {at: times[at] for at in right}

    def _wiped(self, reason: object | None) -> Mapping[TopicPartition, int]:
        """Removes what is on disk: rows of keys deleted long ago would stay."""
        if reason is not None:
            _log.warning("global stores: %s; their topics are read again", reason)
        self._directory.remove_task(GLOBAL_DIRECTORY)
        self._directory.task_directory(GLOBAL_DIRECTORY)  # makes it anew
        return {}

    def update(self, timeout_ms: float = 0) -> int:
        """Applies what came since the last call and returns how many records it were."""
        return sum(self._apply(timeout_ms).values())

    def _apply(self, timeout_ms: float) -> Mapping[TopicPartition, int]:
        """Applies what came, and returns how many records it were of which partition."""
        task, counts = self._task, {}
        for partition, records in self._reader.poll(_READ_RECORDS, timeout_ms):
            task.add(partition, records)
            counts[partition] = len(records)
        try:
            while task.group.buffered_count():
                task.process(self._clock.now_ms())
        except CorruptDataError:
            self._is_damaged = True
            raise
        for partition in task.partitions:
            self._positions[partition] = self._reader.position(partition)
        return counts

    def commit(self) -> None:
        """Lets the stores write what they hold back, and notes how far they are."""
        task = self._task
        if not task.offsets.uncommitted():
            return
        positions = {
            name: {at: self._positions[at] for at in self._kept if at.topic == topic}
            for name, topic in task.plan.changelog_topics.items()
            if name in task.plan.persistent_stores
        }
        commit_positions(task, positions if self._kept else {})

    def close(self, *, clean: bool) -> None:
        """Closes the stores; clean leaves a checkpoint."""
        try:
            if clean:
                self.commit()
        finally:
            self._reader.close()
            self._task.close()
            self.drops.tell(None)
            if self._is_damaged:
                self._directory.remove_task(GLOBAL_DIRECTORY)
