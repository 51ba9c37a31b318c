"""The tasks of one worker: made, restored, running, closed.

Owns which tasks there are and in which state, what a task is made from, where it begins to
read, and the global stores. It must not know when to commit or who assigned the tasks.

    created ──► restoring ──► running ──► closed
                    └── checkpoint unusable: wiped, from the beginning

Source: JVM `TaskManager`, `Tasks`, `StreamTask.initializeIfNeeded`, `GlobalStateManagerImpl`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from stores.api import StateStore
from stores.backends.rocks import process_budget
from stores.directory import CHECKPOINT_FILE, StateDirectory, read_checkpoint
from stores.errors import CorruptDataError, StoreMovedError, StreamsError
from stores.formats import decode_partition_metadata
from stores.layers.record_cache import RecordCache
from streams.clock import Clock
from streams.config import StreamsConfig
from streams.errors import OffsetOutOfRangeError
from streams.restore_listener import NOBODY, RestoreListener
from streams.tasks.active_task import ActiveTask
from streams.tasks.collector import RecordCollector
from streams.tasks.commit import Committer, positions_of
from streams.tasks.failures import FailurePolicy
from streams.tasks.global_task import GlobalTask
from streams.tasks.plan import TaskPlan, plan_of
from streams.tasks.restoration import NO_END, Restorer, StoreRestoration
from streams.tasks.source_topics import SourceTopics, source_topics
from streams.tasks.task import TaskId
from streams.transport.port import OffsetAndMetadata, Reader, TopicPartition, Transport
from topology.processor import AutoOffsetReset
from topology.subtopologies import Subtopology
from topology.topology import SourceNode, Topology

_log = logging.getLogger(__name__)


class TaskManager:
    """Makes and closes the tasks of one worker. Not thread-safe, but for `read_only_stores`.

    Args:
        topology: the graph.
        parts: its subtopologies.
        config: the application's settings.
        transport: the worker's log.
        directory: where state is kept.
        clock: where time comes from.
        restore_listener: hears how stores are restored.
    """

    def __init__(
        self,
        topology: Topology,
        parts: Sequence[Subtopology],
        config: StreamsConfig,
        transport: Transport,
        directory: StateDirectory,
        clock: Clock,
        restore_listener: RestoreListener = NOBODY,
    ) -> None:
        self._topology = topology
        self._parts = {part.id: part for part in parts}
        self._has_patterns = any(part.source_patterns for part in parts)
        self._source_topics = SourceTopics({})
        self._gone: set[str] = set()
        self._config = config
        self._transport = transport
        self._directory = directory
        self._clock = clock
        self._plans: dict[int, TaskPlan] = {}
        process_budget().resize(config.rocksdb_block_cache_bytes, config.rocksdb_write_buffer_bytes)
        cache_bytes = config.statestore_cache_max_bytes
        self._cache = RecordCache(cache_bytes) if cache_bytes else None
        self.policy = FailurePolicy(config, transport)
        transport.on_refused = self.policy.delivery_refused
        self.committer = Committer(transport)
        self.restorer = Restorer(transport, restore_listener)
        self.reader: Reader = transport.reader()
        self.running: dict[TaskId, ActiveTask] = {}
        self.restoring: dict[TaskId, ActiveTask] = {}
        self.standby: dict[TaskId, ActiveTask] = {}
        self.follower = Restorer(transport)
        self.by_partition: dict[TopicPartition, ActiveTask] = {}
        self.created_total = 0
        self.closed_total = 0
        self.global_task = GlobalTask.of(
            topology, parts, config, transport, directory, clock, self._cache, restore_listener
        )

    @property
    def cache(self) -> RecordCache | None:
        """The stores' record cache, None where caching is off."""
        return self._cache

    # -- assignment ----------------------------------------------------------------------

    @property
    def tasks(self) -> list[ActiveTask]:
        """All tasks, in the order of their ids."""
        every = {**self.running, **self.restoring}
        return [every[task_id] for task_id in sorted(every)]

    def create(self, wanted: Collection[TaskId]) -> None:
        """Makes the tasks of `wanted` that are not there yet, and begins to restore them.

        Tasks that are there take up topics that their patterns came to match.
        """
        self._source_topics = source_topics(list(self._parts.values()), self._transport)
        for task_id in sorted(wanted):
            if task_id in self.running:
                self._take_up(self.running[task_id])
            elif task_id in self.restoring:
                self._take_up(self.restoring[task_id])
            else:
                self._create(task_id)

    def _take_up(self, task: ActiveTask) -> None:
        new = [one for one in self._source_partitions(task.id) if one not in task.partitions]
        if not task.is_running:  # it begins to read when its stores are complete
            for partition in new:
                task.add_partition(partition)
            return
        # Asked first: where the log does not answer, the task is as it was.
        committed = self._transport.committed([p for p in new if p.topic not in self._gone])
        positions, times = self._start_positions(task, new, committed)
        for partition in new:
            task.add_partition(partition, times.get(partition, -1))
            self.by_partition[partition] = task
            task.next_offsets[partition] = positions[partition]
            self.reader.add({partition: positions[partition]})
            _log.info("task %s reads %s from offset %d", task.id, partition, positions[partition])

    def let_go_of_deleted(self) -> list[TopicPartition]:
        """Lets tasks go on without topics that a pattern matched and that do not exist any more.

        Returns:
            The partitions that are gone.
        """
        if not self._has_patterns:
            return []
        existing = set(self._transport.topics())
        read = {p.topic for task in self.tasks for p in task.partitions}
        return [gone for topic in sorted(read - existing) for gone in self.let_go(topic)]

    def let_go(self, topic: str) -> list[TopicPartition]:
        """Lets tasks go on without a topic that was deleted, where a pattern matched it.

        Records of it that were not processed are gone. A topic of the same name that is
        created later begins anew.

        Returns:
            Its partitions; none where a source names the topic and cannot do without.
        """
        gone = []
        for task in self.tasks:
            if self._parts[task.id.subtopology].matches(topic):
                for partition in [one for one in task.partitions if one.topic == topic]:
                    gone.append(partition)
                    task.drop_partition(partition)
                    if self.by_partition.pop(partition, None) is not None:
                        self.reader.remove((partition,))
        if gone:
            self._gone.add(topic)
            _log.warning(
                "topic %r, which a source reads by its pattern, was deleted: the application goes "
                "on without it; what stores have of it stays",
                topic,
            )
        return gone

    def close_unwanted(self, wanted: Collection[TaskId], *, clean: bool = True) -> list[TaskId]:
        """Closes the tasks that are not wanted any more; commit them before.

        Args:
            wanted: the tasks to keep.
            clean: leave a checkpoint; without, what was not committed is forgotten.
        """
        unwanted = [t for t in (*self.running, *self.restoring) if t not in wanted]
        for task_id in unwanted:
            self.close(task_id, clean=clean)
        return unwanted

    def close(self, task_id: TaskId, *, clean: bool) -> None:
        """Closes one task. Its stores are closed whatever happens.

        Raises:
            ProcessingError: a processor's `close` raised.
        """
        task = self.running.pop(task_id, None) or self.restoring.pop(task_id)
        self.closed_total += 1
        partitions = [p for p in task.partitions if self.by_partition.pop(p, None) is not None]
        if partitions:
            self.reader.remove(partitions)
        self._close_stores(task, self.restorer, clean=clean)

    def _close_stores(self, task: ActiveTask, restorer: Restorer, *, clean: bool) -> None:
        try:
            for one in restorer.remove(task.task_id):
                task.set_store_position(one.partition, one.position)
            if clean:
                self.committer.checkpoint(task)
        finally:
            self.committer.forget(task)
            task.close()

    def _create(self, task_id: TaskId) -> None:
        self.created_total += 1
        task, starts = self._open(task_id)
        self.restoring[task_id] = task
        try:
            ends = self._restore_ends(task, set(task.changelog_partitions().values()))
            self.restorer.add(task.task_id, self._restorations(task, starts, ends))
        except BaseException:
            # Half made it would stay so: it is made anew when it is asked for again.
            self.close(task_id, clean=False)
            raise

    def _open(self, task_id: TaskId) -> tuple[ActiveTask, Mapping[TopicPartition, int]]:
        """Makes a task with its stores open; returns it and where its changelogs go on."""
        plan = self._plan(task_id.subtopology)
        directory = self._directory.task_directory(str(task_id))
        task = ActiveTask(
            task_id,
            plan,
            self._source_partitions(task_id),
            config=self._config,
            collector=self._collector(plan),
            policy=self.policy,
            cache=self._cache,
            directory=directory,
            now_ms=self._clock.now_ms,
            global_store=self._global_store,
        )
        changelogs = set(task.changelog_partitions().values())
        starts = self._restore_positions(task, changelogs, directory)
        try:
            task.open_stores()
        except CorruptDataError:
            _log.warning("task %s: its stores cannot be read; they are rebuilt", task_id)
            task.close()
            starts = self._wiped(task, changelogs)
            task.open_stores()
        except BaseException:
            task.close()
            raise
        return task, starts

    def _restorations(
        self,
        task: ActiveTask,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> list[StoreRestoration]:
        restorations = []
        for name, partition in task.changelog_partitions().items():
            store = task.stores[name]
            start = starts[partition] if store.persistent else self._begin(partition)
            end = ends.get(partition, NO_END)
            restorations.append(StoreRestoration(task.task_id, store, partition, start, start, end))
        return restorations

    # -- standby tasks -------------------------------------------------------------------

    def close_standby(self, keep: Collection[TaskId], *, clean: bool = True) -> None:
        """Closes the standby tasks that are not to be kept."""
        for task_id in [one for one in self.standby if one not in keep]:
            self.closed_total += 1
            self._close_stores(self.standby.pop(task_id), self.follower, clean=clean)

    def create_standby(self, wanted: Collection[TaskId]) -> None:
        """Opens standby tasks that are not there yet; their stores follow the changelogs."""
        new = sorted(set(wanted) - self.standby.keys())
        if new:
            self._source_topics = source_topics(list(self._parts.values()), self._transport)
        for task_id in new:
            if task_id not in self.standby:
                self.created_total += 1
                task, starts = self._open(task_id)
                self.standby[task_id] = task
                try:
                    self.follower.add(task.task_id, self._restorations(task, starts, {}))
                except BaseException:
                    self.close_standby(self.standby.keys() - {task_id}, clean=False)
                    raise

    def update_standby(self, most: int) -> int:
        """Applies what came into the changelogs of standby tasks; returns the records."""
        if self.follower.is_idle:
            return 0
        try:
            return self.follower.restore(most, 0)
        except OffsetOutOfRangeError as error:
            for task_id, task in list(self.standby.items()):
                if _has_changelog(task, error):
                    _log.warning("standby task %s: %s; its stores are rebuilt", task_id, error)
                    self.close_standby(set(self.standby) - {task_id}, clean=False)
                    self._directory.remove_task(str(task_id))
                    self.create_standby((task_id,))
            return 0

    def checkpoint_standby(self) -> None:
        """Notes how far standby tasks are, where enough came to make that worth while."""
        for task in self.standby.values():
            for one in self.follower.of_task(task.task_id):
                task.set_store_position(one.partition, one.position)
            self.committer.checkpoint_if_due(task)

    def _plan(self, subtopology: int) -> TaskPlan:
        plan = self._plans.get(subtopology)
        if plan is None:
            part = self._parts.get(subtopology)
            if part is None:
                message = (
                    f"a task of subtopology {subtopology} was assigned, but the topology has "
                    f"{len(self._parts)}; all members of a group must run the same topology"
                )
                raise StreamsError(message)
            plan = self._plans[subtopology] = plan_of(self._topology, part, self._config)
        return plan

    def _collector(self, plan: TaskPlan) -> RecordCollector:
        return RecordCollector(self._transport, plan.topic_names, self.policy)

    def _source_partitions(self, task_id: TaskId) -> list[TopicPartition]:
        part, counts = self._parts[task_id.subtopology], self._source_topics.counts
        return [
            TopicPartition(topic, task_id.partition)
            for topic in dict.fromkeys(self._source_topics.read_by(part))
            if task_id.partition < counts.get(topic, 0)
        ]

    def _global_store(self, name: str) -> StateStore | None:
        return None if self.global_task is None else self.global_task.stores.get(name)

    # -- restoring -----------------------------------------------------------------------

    def _begin(self, partition: TopicPartition) -> int:
        return self._transport.begin_offsets((partition,))[partition]

    def _restore_positions(
        self, task: ActiveTask, changelogs: Collection[TopicPartition], directory: Path
    ) -> Mapping[TopicPartition, int]:
        """Returns where each store goes on, after wiping what no checkpoint vouches for."""
        try:
            known = positions_of(read_checkpoint(directory / CHECKPOINT_FILE))
        except CorruptDataError as error:
            _log.warning("task %s: %s; its stores are rebuilt", task.id, error)
            return self._wiped(task, changelogs)
        kept = {
            partition
            for name, partition in task.changelog_partitions().items()
            if name in task.plan.persistent_stores
        }
        begins = self._transport.begin_offsets(changelogs)
        ends = self._transport.high_watermarks(changelogs)
        for partition in kept:
            position = known.get(partition)
            if position is None:
                continue
            if not begins[partition] <= position <= ends[partition]:
                _log.warning(
                    "task %s: its checkpoint stands at %d of %s, which has %d to %d; "
                    "its stores are rebuilt",
                    *(task.id, position, partition, begins[partition], ends[partition]),
                )
                return self._wiped(task, changelogs)
        # A checkpoint names no store that was empty; one that has no changelog yet still is.
        if any(p not in known and (ends[p] > 0 or not known) for p in kept):
            # Rows of deleted keys could stay: their tombstones may be compacted away.
            return self._wiped(task, changelogs)
        return {partition: known.get(partition, begins[partition]) for partition in changelogs}

    def _wiped(
        self, task: ActiveTask, changelogs: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        self._directory.remove_task(task.task_id)
        task.directory = self._directory.task_directory(task.task_id)
        return dict(self._transport.begin_offsets(changelogs))

    def _restore_ends(
        self, task: ActiveTask, changelogs: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Returns where restoring ends: the log's end, for a source topic what was processed.

        A commit just before, of a task that moved here, may be on its way to the changelog.
        """
        ends = dict(self._transport.high_watermarks(changelogs))
        sources = [partition for partition in changelogs if partition in task.partitions]
        if sources:
            committed = self._transport.committed(sources)
            begins = self._transport.begin_offsets(sources)
            for partition in sources:
                known = committed.get(partition)
                processed = begins[partition] if known is None else known.offset
                ends[partition] = min(ends[partition], processed)
        return ends

    def restore(self, most: int, timeout_ms: float) -> int:
        """Restores a slice, starts the tasks that are complete; returns the records restored.

        A changelog that lost what a checkpoint builds on has its task rebuilt from zero.
        """
        if self.restorer.is_idle:
            return 0
        done = 0
        try:
            done = self.restorer.restore(most, timeout_ms)
        except OffsetOutOfRangeError as error:
            self._rebuild(error)
        for task_id in self.restorer.complete():
            self._start(TaskId.parse(task_id))
        return done

    def _rebuild(self, error: OffsetOutOfRangeError) -> None:
        for task_id, task in list(self.restoring.items()):
            if _has_changelog(task, error):
                _log.warning("task %s: %s; its stores are rebuilt", task_id, error)
                self.close(task_id, clean=False)
                self._directory.remove_task(str(task_id))
                self._create(task_id)

    def _start(self, task_id: TaskId) -> None:
        task = self.restoring[task_id]
        # Asked first: where the log does not answer, the task is found complete once more.
        committed = self._transport.committed(task.partitions)
        positions, times = self._start_positions(task, task.partitions, committed)
        for one in self.restorer.remove(task.task_id):
            task.set_store_position(one.partition, one.position)
            task.restored_records_total += one.restored
        if task.store_positions():
            self.committer.checkpoint(task)
        task.next_offsets.update(positions)
        task.start(times, self._has_more)
        # A query that comes in between must find the task, if only as one that is not ready.
        self.running[task_id] = task
        del self.restoring[task_id]
        self.by_partition.update(dict.fromkeys(task.partitions, task))
        self.reader.add(positions)
        _log.info("task %s is running", task_id)

    def _start_positions(
        self,
        task: ActiveTask,
        partitions: Collection[TopicPartition],
        committed: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        positions, times = {}, {}
        for partition in partitions:
            known = committed.get(partition)
            if known is None:
                positions[partition] = self.reset_position(task, partition)
            else:
                positions[partition] = known.offset
                times[partition] = _partition_time(known)
        return positions, times

    def _has_more(self, partition: TopicPartition) -> bool:
        end = self.reader.known_end_offset(partition)
        return end is None or self.reader.position(partition) < end

    def reset_position(self, task: ActiveTask, partition: TopicPartition) -> int:
        """Returns where a source without a usable committed offset begins.

        Raises:
            StreamsError: the source says "none".
        """
        reset = self._reset_of(task, partition.topic)
        if reset.policy == "earliest":
            return self._begin(partition)
        if reset.policy == "latest":
            return self._transport.end_offsets((partition,))[partition]
        if reset.policy == "by_duration":
            since_ms = self._clock.now_ms() - (reset.duration_ms or 0)
            return self._transport.offsets_for_time((partition,), max(0, since_ms))[partition]
        message = (
            "there is no committed offset to go on from, and the source's offset_reset is "
            '"none"; set it to "earliest" or "latest"'
        )
        raise StreamsError(message, topic=partition.topic, partition=partition.partition)

    def _reset_of(self, task: ActiveTask, topic: str) -> AutoOffsetReset:
        names = task.plan.topic_names
        matching = AutoOffsetReset.earliest()
        for name in task.plan.node_names:
            source = self._topology.nodes[name]
            if isinstance(source, SourceNode) and source.offset_reset is not None:
                if topic in {names.get(one, one) for one in source.topics}:
                    return source.offset_reset
                if source.pattern is not None and source.pattern.fullmatch(topic):
                    matching = source.offset_reset
        return matching

    # -- queries -------------------------------------------------------------------------

    def read_only_stores(self, name: str, partition: int | None = None) -> list[Any] | None:
        """Returns the read-only faces of a store, None if a task that has it is not running.

        Any thread may call this.

        Args:
            name: the store.
            partition: only of this one; a global store has none.

        Raises:
            StoreMovedError: no task of the partition is here.
        """
        if self.global_task is not None and name in self.global_task.stores:
            return [self.global_task.stores[name].read_only()]

        def has(task: ActiveTask) -> bool:
            is_asked = partition is None or task.id.partition == partition
            return is_asked and name in task.plan.store_names

        if any(map(has, list(self.restoring.values()))):
            return None
        faces = [task.stores[name].read_only() for task in list(self.running.values()) if has(task)]
        if partition is not None and not faces:
            message = f"partition {partition} of store {name!r} is not in this instance; ask again"
            raise StoreMovedError(message)
        return faces or None

    def close_all(self, *, clean: bool) -> None:
        """Closes every task, the global stores and the readers; the first error is raised."""
        first: Exception | None = None
        for task_id in (*self.running, *self.restoring):
            try:
                self.close(task_id, clean=clean)
            except Exception as error:
                first = first or error
        try:
            self.close_standby((), clean=clean)
        except Exception as error:
            first = first or error
        if self.global_task is not None:
            self.global_task.close(clean=clean)
        self.restorer.close()
        self.follower.close()
        self.reader.close()
        if first is not None:
            raise first


def _has_changelog(task: ActiveTask, error: OffsetOutOfRangeError) -> bool:
    place = (error.topic, error.partition)
    return any(tuple(partition) == place for partition in task.changelog_partitions().values())


def _partition_time(known: OffsetAndMetadata) -> int:
    """Returns the partition time committed with an offset, -1 if there is none to read."""
    if not known.metadata:
        return -1
    try:
        return decode_partition_metadata(known.metadata)
    except CorruptDataError as error:
        _log.warning("partition time starts anew: %s", error)
        return -1
