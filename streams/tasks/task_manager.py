"""The tasks of one worker: made, restored, running, closed.

Owns which tasks exist and their states, what a task is made from, where it begins to read, and the
global stores. It must not know when to commit or who assigned the tasks.

    created ──► restoring ──► running ──► closed

A store on disk that can be restored is kept if its checkpoint matches. Otherwise it is deleted and
restored from the beginning: its rows are those of some commit, but later tombstones may have been
compacted away. A store without a changelog cannot be restored and is always kept: it contains
committed rows, however the worker ended. It is deleted only if its files cannot be read.

Source: JVM `TaskManager`, `Tasks`, `StreamTask.initializeIfNeeded`, `GlobalStateManagerImpl`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.stores.api import TaskStore
from thalweg.stores.bytes.rocks_budget import process_budget
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.directory import (
    CHECKPOINT_FILE,
    STORES_DIRECTORY,
    StateDirectory,
    read_checkpoint,
)
from thalweg.stores.errors import (
    CorruptDataError,
    Reaction,
    StoreMovedError,
    StreamsError,
)
from thalweg.stores.formats import decode_partition_metadata, decode_processor_metadata
from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import BrokerError, OffsetOutOfRangeError
from thalweg.streams.restore_listener import NOBODY, RestoreListener
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.commit import Committer, checkpoint_of, positions_of
from thalweg.streams.tasks.failures import FailurePolicy
from thalweg.streams.tasks.global_task import GlobalTask
from thalweg.streams.tasks.plan import TaskPlan, plan_of
from thalweg.streams.tasks.refill import Refill, needs_all, needs_refill
from thalweg.streams.tasks.restoration import NO_END, Restorer, StoreRestoration
from thalweg.streams.tasks.source_topics import SourceTopics, source_topics
from thalweg.streams.tasks.store_notes import RefillNote, unpacked_offsets
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import (
    OffsetAndMetadata,
    Reader,
    TopicPartition,
    Transport,
)
from thalweg.topology.physical import SourceNode, Topology
from thalweg.topology.processor import AutoOffsetReset
from thalweg.topology.subtopologies import Subtopology

_LIMITS_LEAST_MS: Final = 1_000
"""How often, at most, the group is asked how far source topics that standbys follow are processed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a task begins to read partitions.

    Attributes:
        committed: what the group has of them.
        positions: the offsets to begin at.
        times: the times of the partitions, as far as they are known.
        kept: what the task's operators kept with the last commit.
        is_passing: whether one of the offsets would be another one later.
    """

    committed: Mapping[TopicPartition, OffsetAndMetadata]
    positions: Mapping[TopicPartition, int]
    times: Mapping[TopicPartition, int]
    kept: Mapping[str, int]
    is_passing: bool

    def note(self, task: ActiveTask) -> None:
        """Tells the task; it asks for a commit at once where an offset would be lost otherwise.

        A source that begins at the end of the log would do so anew at each start, and pass over
        what came in between.
        """
        committed = {at: one.offset for at, one in self.committed.items()}
        task.offsets.begin(self.positions, committed)
        task.scope.commit_requested |= self.is_passing


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
        self.policy = FailurePolicy(config, transport, clock.monotonic_ms)
        transport.on_refused = self.policy.delivery_refused
        self.committer = Committer(transport)
        self.restorer = Restorer(transport, restore_listener)
        self.reader: Reader = transport.reader()
        self.running: dict[TaskId, ActiveTask] = {}
        self.restoring: dict[TaskId, ActiveTask] = {}
        self.standby: dict[TaskId, ActiveTask] = {}
        self.follower = Restorer(transport)
        self._limits_due_ms = 0.0
        self.by_partition: dict[TopicPartition, ActiveTask] = {}
        self.created_total = 0
        self.closed_total = 0
        self.processed_closed_total = 0
        self.global_task = GlobalTask.of(
            topology, parts, config, transport, directory, clock, self._cache, restore_listener
        )

    @property
    def cache(self) -> RecordCache | None:
        """The stores' record cache, None where caching is off."""
        return self._cache

    def dropped_records(self) -> Mapping[str, int]:
        """Returns reason -> records left out since the start; any thread may ask."""
        every = [self.policy.drops]
        if self.global_task is not None:
            every.append(self.global_task.drops)
        dropped: dict[str, int] = {}
        for drops in every:
            for reason, count in drops.totals().items():
                dropped[reason] = dropped.get(reason, 0) + count
        if self.policy.refused_records_total:
            dropped["refused"] = self.policy.refused_records_total
        return dropped

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
        elif new:
            # Asked first: where the log does not answer, they are taken up once more.
            start = self._start_of(task, new)
            self.reader.add(start.positions)
            for partition in new:
                task.add_partition(partition, start.times.get(partition, -1))
                self.by_partition[partition] = task
                offset = start.positions[partition]
                _log.info("task %s reads %s from offset %d", task.id, partition, offset)
            start.note(task)

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
        self.processed_closed_total += task.processed_records_total
        partitions = [p for p in task.partitions if self.by_partition.pop(p, None) is not None]
        try:
            if partitions:
                self.reader.remove(partitions)
        finally:
            self._close_stores(task, self.restorer, clean=clean)

    def _close_stores(self, task: ActiveTask, restorer: Restorer, *, clean: bool) -> None:
        try:
            self._take_restored(task, restorer)
            if clean:
                self.committer.checkpoint(task)
        finally:
            self.committer.forget(task)
            try:
                task.close()
            finally:
                # Its directory is kept for a while from now on, not from its last checkpoint.
                self._directory.touch_task(task.task_id)

    def _take_restored(self, task: ActiveTask, restorer: Restorer) -> None:
        """Ends the restoring of a task's stores and notes how far they are."""
        restored = restorer.remove(task.task_id)
        self._note_restored(task, restored)
        task.restored_records_total += sum(one.restored for one in restored)
        _close_appliers(restored)

    def _note_restored(self, task: ActiveTask, restored: Iterable[StoreRestoration]) -> None:
        """Notes how far the stores of a task were restored."""
        for one in restored:
            task.stores.set_position(one.partition, one.position)

    def _create(self, task_id: TaskId) -> None:
        self.created_total += 1
        task, vouched = self._open(task_id)
        self.restoring[task_id] = task
        try:
            ends = self._restore_ends(task)
            self._begin_restoring(self.restorer, task, vouched, ends)
        except BaseException:
            # Half made it would stay so: it is made anew when it is asked for again.
            self.close(task_id, clean=False)
            raise

    def _open(self, task_id: TaskId) -> tuple[ActiveTask, Mapping[TopicPartition, int]]:
        """Makes a task with its stores open; returns it and how far its checkpoint says they are."""
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
        vouched = self._restore_positions(task)
        wiped: set[str] = set()
        while True:
            # One that is made now is as far as its topic's beginning, which it need not say.
            noted = {
                at: name
                for at, name in self._noted(task).items()
                if (task.directory / STORES_DIRECTORY / name).is_dir()
            }
            try:
                task.stores.open_all()
            except CorruptDataError as error:
                damaged = next(
                    name
                    for name in plan.store_names
                    if name not in task.stores or not task.stores[name].is_open
                )
                task.close()
                if damaged in wiped:
                    raise
                wiped.add(damaged)
                self._wipe(task, damaged, vouched, error)
            except BaseException:
                task.close()
                raise
            else:
                break
        try:
            self._trust_notes(task, noted, vouched)
            self._settle(task)
        except BaseException:
            task.close()
            raise
        return task, vouched

    def _noted(self, task: ActiveTask) -> dict[TopicPartition, str]:
        """Returns source topic -> store on disk that is filled from it, and notes how far."""
        plan, changelogs = task.plan, task.stores.changelog_partitions()
        return {
            changelogs[name]: name
            for name in plan.refills
            if name in plan.persistent_stores and needs_refill(plan, name, self._config)
        }

    def _trust_notes(
        self,
        task: ActiveTask,
        noted: Mapping[TopicPartition, str],
        vouched: dict[TopicPartition, int],
    ) -> None:
        """Takes over how far stores are by their own notes.

        One that does not say it, or is where it must not be, is wiped and opened again.
        """
        begins = self._transport.begin_offsets(noted)
        ends = self._processed(noted)
        for at, name in noted.items():
            note = RefillNote.unpacked(task.stores[name].note())
            if (
                note is not None
                and note.topic == at.topic
                and begins[at] <= note.position <= ends[at]
                # What fills it may have to see the topic from the beginning.
                and (note.position == ends[at] or not needs_all(task.plan, name))
            ):
                vouched[at] = note.position
                continue
            _log.warning("task %s: store %r is rebuilt from %s", task.id, name, at)
            vouched.pop(at, None)
            task.stores[name].close()
            self._directory.remove_stores(task.task_id, (name,), checkpoint_of(vouched))
            task.stores.open(name)

    def _settle(self, task: ActiveTask) -> None:
        """Decides about rows without a changelog that were kept aside for a commit."""
        for name in task.plan.lasting_stores:
            store = task.stores[name]
            note = store.prepared()
            if note is None:
                continue
            offsets = unpacked_offsets(note)
            committed = self._transport.committed(offsets)
            is_committed = all(
                at in committed and committed[at].offset >= offset for at, offset in offsets.items()
            )
            store.settle(is_committed=is_committed)
            store.close()  # it may have looked at its rows when it was opened
            task.stores.open(name)

    def _wipe(
        self,
        task: ActiveTask,
        store: str,
        vouched: dict[TopicPartition, int],
        error: CorruptDataError,
    ) -> None:
        """Deletes a store whose files cannot be read."""
        partition = task.stores.changelog_partitions().get(store)
        if partition is None:
            _log.error(
                "task %s: %s. Store %r has no changelog: its rows are lost, it begins empty",
                *(task.id, error, store),
            )
        else:
            _log.warning("task %s: %s; store %r is rebuilt", task.id, error, store)
            vouched.pop(partition, None)
        self._directory.remove_stores(task.task_id, (store,), checkpoint_of(vouched))

    def distrust(self, task_id: TaskId, store: str | None = None) -> None:
        """Lets stores of a task that is closed be restored from the beginning.

        Args:
            task_id: the task.
            store: the one whose files cannot be trusted; None for all that can be restored.
        """
        plan = self._plan(task_id.subtopology)
        topics = plan.changelog_topics
        stores = [name for name in plan.persistent_stores if name in topics]
        if store in plan.persistent_stores:
            stores = [store]
            if store not in topics:
                _log.error(
                    "task %s: store %r cannot be read and has no changelog: its rows are lost, "
                    "it begins empty",
                    *(task_id, store),
                )
        path = self._directory.task_directory(str(task_id)) / CHECKPOINT_FILE
        try:
            kept = read_checkpoint(path)
        except CorruptDataError:
            kept = {}
        for name in stores:
            kept.pop((topics.get(name, ""), task_id.partition), None)
        self._directory.remove_stores(str(task_id), stores, kept)

    def _begin_restoring(
        self,
        restorer: Restorer,
        task: ActiveTask,
        vouched: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        changelogs = task.stores.changelog_partitions()
        begins = self._transport.begin_offsets(set(changelogs.values()))
        follows = restorer is self.follower
        restorations: list[StoreRestoration] = []
        try:
            for name, partition in changelogs.items():
                store, begin = task.stores[name], begins[partition]
                start = vouched.get(partition, begin) if store.persistent else begin
                end = ends.get(partition, NO_END)
                one = StoreRestoration(
                    task.task_id, store, partition, start, start, end, follows=follows
                )
                restorations.append(one)
                if needs_refill(task.plan, name, self._config):
                    note = RefillNote.unpacked(store.note())
                    time_ms = note.partition_time_ms if note and start > begin else -1
                    one.applier = Refill(task, name, partition, time_ms)
            restorer.add(task.task_id, restorations)
        except BaseException:
            _close_appliers(restorations)
            raise

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
                task, vouched = self._open(task_id)
                self.standby[task_id] = task
                try:
                    ends = self._processed(_source_changelogs(task))
                    self._begin_restoring(self.follower, task, vouched, ends)
                except BaseException:
                    self.close_standby(self.standby.keys() - {task_id}, clean=False)
                    raise

    def update_standby(self, most: int) -> int:
        """Applies what came into the changelogs of standby tasks; returns the records."""
        if self.follower.is_idle:
            return 0
        self._move_limits()
        try:
            return self.follower.restore(most, 0)
        except OffsetOutOfRangeError as error:
            for task_id, task in list(self.standby.items()):
                store = _store_of(task, error)
                if store is not None:
                    _log.warning("standby task %s: %s; its store is rebuilt", task_id, error)
                    self.close_standby(set(self.standby) - {task_id}, clean=False)
                    self.distrust(task_id, store)
                    self.create_standby((task_id,))
            return 0

    def _move_limits(self) -> None:
        """Lets stores that follow a source topic go on to what is processed by now.

        Not further: who takes over processes the rest, and must find the rows of before.
        """
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._limits_due_ms:
            return
        # Asked no more often than it can have changed; and not for each of many quick commits.
        self._limits_due_ms = now_ms + max(self._config.commit_interval_ms, _LIMITS_LEAST_MS)
        limited = {
            one.partition: one
            for task in self.standby.values()
            for one in self.follower.of_task(task.task_id)
            if one.end_offset != NO_END
        }
        try:
            for partition, limit in self._processed(limited).items():
                self.follower.move_end(limited[partition], limit)
        except BrokerError as error:
            if error.reaction is not Reaction.RETRY:
                raise
            _log.warning("standby tasks wait where they are: %s", error)

    def checkpoint_standby(self) -> None:
        """Notes how far standby tasks are, where enough came to make that worth while."""
        for task in self.standby.values():
            self._note_restored(task, self.follower.of_task(task.task_id))
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

    def _global_store(self, name: str) -> TaskStore | None:
        return None if self.global_task is None else self.global_task.stores.get(name)

    # -- restoring -----------------------------------------------------------------------

    def _begin(self, partition: TopicPartition) -> int:
        return self._transport.begin_offsets((partition,))[partition]

    def _restore_positions(self, task: ActiveTask) -> dict[TopicPartition, int]:
        """Returns how far stores on disk are; wipes those of which no checkpoint says it."""
        noted = self._noted(task)
        kept = {
            partition: name
            for name, partition in task.stores.changelog_partitions().items()
            if name in task.plan.persistent_stores
        }
        try:
            known = positions_of(read_checkpoint(task.directory / CHECKPOINT_FILE))
        except CorruptDataError as error:
            _log.warning("task %s: %s", task.id, error)
            known = {}
        begins = self._transport.begin_offsets(kept)
        ends = {
            **self._transport.high_watermarks(kept),
            # A row that the commit does not know of must not be there when it is processed.
            **self._processed([one for one in _source_changelogs(task) if one in kept]),
        }
        vouched, wiped = {}, []
        for partition, name in kept.items():
            position = known.get(partition)
            if position is None:
                # Those with notes say it themselves when they can be read.
                if partition not in noted:
                    wiped.append(name)
            elif begins[partition] <= position <= ends[partition]:
                vouched[partition] = position
            else:
                wiped.append(name)
                _log.warning(
                    "task %s: its checkpoint stands at %d of %s, which has %d to %d; "
                    "the store is rebuilt",
                    *(task.id, position, partition, begins[partition], ends[partition]),
                )
        if wiped or known.keys() != vouched.keys():
            self._directory.remove_stores(task.task_id, wiped, checkpoint_of(vouched))
        return vouched

    def _processed(self, sources: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns how far source topics were processed, by what is committed."""
        if not sources:
            return {}
        committed = self._transport.committed(sources)
        begins = self._transport.begin_offsets(sources)
        return {
            one: max(begins[one], committed[one].offset) if one in committed else begins[one]
            for one in sources
        }

    def _restore_ends(self, task: ActiveTask) -> Mapping[TopicPartition, int]:
        """Returns where restoring ends: the log's end, for a source topic what was processed.

        A commit just before, of a task that moved here, may be on its way to the changelog.
        """
        changelogs = set(task.stores.changelog_partitions().values())
        ends = self._transport.high_watermarks(changelogs)
        return {**ends, **self._processed(_source_changelogs(task))}

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
            store = _store_of(task, error)
            if store is not None:
                _log.warning("task %s: %s; its store is rebuilt", task_id, error)
                self.close(task_id, clean=False)
                self.distrust(task_id, store)
                self._create(task_id)

    def _start(self, task_id: TaskId) -> None:
        task = self.restoring[task_id]
        # Asked first: where the log does not answer, the task is found complete once more.
        start = self._start_of(task, task.partitions)
        if self._is_outrun(task, start.committed):
            return
        # Whatever asks the log or writes a file comes first: where that fails, the task is found
        # complete once more, and this is done again.
        self._note_restored(task, self.restorer.of_task(task.task_id))
        if task.stores.positions():
            self.committer.checkpoint(task)
        task.compile(start.kept)
        self.reader.add(start.positions)
        self.by_partition.update(dict.fromkeys(task.partitions, task))
        start.note(task)
        self._take_restored(task, self.restorer)
        task.start(start.times, self._has_more, self.reader.position)
        # A query that comes in between must find the task, if only as one that is not ready.
        self.running[task_id] = task
        del self.restoring[task_id]
        _log.info("task %s is running", task_id)

    def _is_outrun(
        self, task: ActiveTask, committed: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> bool:
        """Lets source topics that were processed on meanwhile be restored on; tells if any was."""
        is_outrun = False
        for one in self.restorer.of_task(task.task_id):
            known = committed.get(one.partition)
            if known is not None and known.offset > one.end_offset:
                self.restorer.move_end(one, known.offset)
                is_outrun = True
        return is_outrun

    def _start_of(self, task: ActiveTask, partitions: Collection[TopicPartition]) -> _Start:
        # A topic that was deleted and created anew begins anew.
        known = [partition for partition in partitions if partition.topic not in self._gone]
        committed = self._transport.committed(known)
        return _Start(
            committed,
            {
                partition: committed[partition].offset
                if partition in committed
                else self.reset_position(task, partition)
                for partition in partitions
            },
            {at: decode_partition_metadata(known.metadata) for at, known in committed.items()},
            _kept(committed.values()),
            any(
                partition not in committed
                and self._reset_of(task, partition.topic).policy != "earliest"
                for partition in partitions
            ),
        )

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
        self.policy.drops.tell(None)
        if first is not None:
            raise first


def _close_appliers(restorations: Collection[StoreRestoration]) -> None:
    for one in restorations:
        if one.applier is not None:
            one.applier.close()


def _source_changelogs(task: ActiveTask) -> list[TopicPartition]:
    """Returns the changelogs of a task that it reads as sources as well."""
    sources = set(task.partitions)
    return [one for one in task.stores.changelog_partitions().values() if one in sources]


def _store_of(task: ActiveTask, error: OffsetOutOfRangeError) -> str | None:
    """Returns the store of a task whose changelog an error is about, None if it has none."""
    place = (error.topic, error.partition)
    return next(
        (name for name, at in task.stores.changelog_partitions().items() if at == place), None
    )


def _kept(committed: Iterable[OffsetAndMetadata]) -> dict[str, int]:
    """Returns what operators kept; a commit has it beside each offset that moved: the newest."""
    kept: dict[str, int] = {}
    for known in committed:
        for name, number in decode_processor_metadata(known.metadata).items():
            kept[name] = max(number, kept.get(name, number))
    return kept
