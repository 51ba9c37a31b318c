"""The worker: one loop that polls, processes, punctuates and commits.

Owns the loop's order, its waiting, and the reaction to errors that need not stop the
application. Everything it does is decided elsewhere: which tasks (`group`), which record
(`tasks.partition_group`), the order of a commit (`tasks.commit`). Nothing here is done per
record.

    ┌► assignment ─► restore a slice ─► poll ─► process ─► punctuate ─► commit if due ─┐
    └──────────────────────────────────────────────────────────────────────────────────┘

Source: JVM `StreamThread`, `TaskExecutor`; design 3.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from thalweg.rebalance.values import Endpoint
from thalweg.stores.directory import StateDirectory
from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    Reaction,
    StoreNotReadyError,
)
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import (
    BrokerError,
    OffsetOutOfRangeError,
    StreamsError,
    TransportError,
)
from thalweg.streams.group.member import (
    Assignment,
    GroupChange,
    GroupMember,
    SoleMember,
)
from thalweg.streams.queries.metadata import GroupView, InstanceTasks
from thalweg.streams.restore_listener import NOBODY, RestoreListener
from thalweg.streams.samples import LoopMeasures, Measure
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.source_topics import source_topics
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.tasks.task_manager import TaskManager
from thalweg.streams.transport.port import TopicPartition, Transport
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import subtopologies

RESTORE_RECORDS: Final = 5_000
"""Most records restored at once: what fits the processor's cache."""

RESTORE_MS: Final = 25
"""How long a round may restore, so that running tasks get their turn; at least once."""

PROCESS_RECORDS: Final = 10_000
"""Most records of one task at once."""

FIRST_RECORDS: Final = 16
"""Records of a task at once, before it is known how long one takes."""

SLICE_MS: Final = 50
"""How long a task may process at once: bounds how long the others, a commit, a punctuation and
a stop wait for slow user code."""

_CLEANUP_LEAST_MS: Final = 1_000
"""How often, at most, to look for state that nobody has come back to."""

_RETRY_MS: Final = 100
"""Pause after an error that may pass; the log behind it has time-outs of its own."""

_QUIET_MS: Final = 10_000
"""While brokers are away every attempt fails: that is told once in so many milliseconds."""

_log = logging.getLogger(__name__)


class WorkerState(Enum):
    """Where a worker is in its life."""

    CREATED = "CREATED"
    STARTING = "STARTING"
    PARTITIONS_REVOKED = "PARTITIONS_REVOKED"
    PARTITIONS_ASSIGNED = "PARTITIONS_ASSIGNED"
    RUNNING = "RUNNING"
    PENDING_SHUTDOWN = "PENDING_SHUTDOWN"
    DEAD = "DEAD"


WorkerListener = Callable[[WorkerState, WorkerState], None]
"""Hears of a worker's state: (new, old), in the worker's thread."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has done so far.

    Attributes:
        state: where it is in its life.
        running_tasks: how many tasks process.
        restoring_tasks: how many tasks are still being restored.
        processed_records: records processed since the start.
        restored_records: changelog records restored since the start.
        remaining_restore_records: changelog offsets still to go.
        commits: commits since the start.
        lag_records: records in the log that are not processed yet, as far as known.
        is_idle: whether everything is processed and committed: the last two commits found
            nothing left, and there was nothing to do between them.
        dropped_records: reason -> records left out since the start, of reasons that occurred.
    """

    state: WorkerState
    running_tasks: int
    restoring_tasks: int
    processed_records: int
    restored_records: int
    remaining_restore_records: int
    commits: int
    lag_records: int
    is_idle: bool
    dropped_records: Mapping[str, int] = field(default_factory=dict)


class Worker:
    """Runs tasks in the thread that calls `run`.

    `stop`, `pause`, `resume`, `progress` and `stores` may be called from any thread.

    Args:
        topology: the graph.
        config: the application's settings.
        transport: the log; its owner closes it after the worker.
        clock: where time comes from.
        on_state: hears of changes of state.
        member: the group's member; by default the only one there is.
        directory: the state directory, which the worker closes; opened by default.
        restore_listener: hears how stores are restored.
        on_failure: hears what the worker dies of before it leaves its group; tells whether all
            instances of the application are to stop.

    Raises:
        StoreLockedError: another process uses the state directory.
        TopologyError: the topology does not fit its topics.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        transport: Transport,
        *,
        clock: Clock | None = None,
        on_state: WorkerListener | None = None,
        member: GroupMember | None = None,
        directory: StateDirectory | None = None,
        restore_listener: RestoreListener = NOBODY,
        on_failure: Callable[[BaseException], bool] = lambda _error: False,
    ) -> None:
        self.config = config
        self.state = WorkerState.CREATED
        self._transport = transport
        self._clock = clock or SystemClock()
        self._on_state = on_state
        self._on_failure = on_failure
        self._parts = subtopologies(topology, config.topology_config)
        local = [part for part in self._parts if not part.is_global]
        self._has_patterns = any(part.source_patterns for part in local)
        self._member = member or SoleMember(local, config, transport)
        self._directory = directory or StateDirectory(config.state_dir, config.application_id)
        try:
            self._manager = TaskManager(
                topology,
                self._parts,
                config,
                transport,
                self._directory,
                self._clock,
                restore_listener,
            )
        except BaseException:
            self._directory.close()
            raise
        self._assignment = Assignment()
        self._change: GroupChange | None = None
        self._must_open = False
        self._must_acknowledge = False
        self._must_abort = False
        self._failing_since_ms: float | None = None
        self._quiet_until_ms = 0.0
        self._counts: Mapping[str, int] = {}
        self.measures = LoopMeasures()
        self._stop_asked = threading.Event()
        self._is_paused = False
        self._paused_partitions: set[TopicPartition] = set()
        self._rebuilt: set[str] = set()
        self._processed_closed = 0
        self._slices: dict[TaskId, int] = {}
        # A wall clock may be set back: what recurs is timed by the clock that cannot.
        self._last_commit_ms = 0.0
        self._last_purge_ms = 0.0
        self._last_cleanup_ms = 0.0
        self._next_wall_due_ms = 0
        self._drained_at = -1
        self._is_idle = False

    # -- from any thread -----------------------------------------------------------------

    def stop(self) -> None:
        """Asks the worker to finish the records in hand, commit and close."""
        self._stop_asked.set()
        self._transport.hurry()
        self._member.interrupt()
        self._manager.reader.wake()

    def pause(self) -> None:
        """Stops processing; tasks stay and restoring goes on."""
        self._is_paused = True

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._is_paused = False

    def stores(self, name: str, partition: int | None = None) -> list[Any]:
        """Returns the read-only faces of a store's tasks, or of the one task of a partition.

        Raises:
            StoreNotReadyError: a task that has the store is not running yet.
            StoreMovedError: no task of the partition is here.
        """
        faces = self._manager.read_only_stores(name, partition)
        if faces is None or self.state in (WorkerState.CREATED, WorkerState.STARTING):
            raise StoreNotReadyError(self._not_ready(name))
        return faces

    def _not_ready(self, store: str) -> str:
        part = next((one for one in self._parts if store in one.stores), None)
        if self.state is WorkerState.RUNNING and part is not None and part.source_patterns:
            patterns = " or ".join(repr(one) for one in part.source_topic_regex)
            return (
                f"store {store!r} is not ready: no topic that can be read matches its source's "
                f"pattern {patterns}; create one"
            )
        return f"store {store!r} is not ready: its tasks are being assigned or restored; ask again"

    def group_view(self, endpoint: Endpoint) -> GroupView:
        """Returns what is known of the group now, for queries.

        Args:
            endpoint: where this instance answers.
        """
        active = frozenset((task.id.subtopology, task.id.partition) for task in self.tasks)
        standby = frozenset(self._assignment.standby) - active
        tasks = InstanceTasks(active, frozenset((one[0], one[1]) for one in standby))
        return GroupView(self._counts, tasks, endpoint, self._member.endpoints())

    @property
    def tasks(self) -> list[ActiveTask]:
        """The tasks at this moment, for metrics."""
        # A task on its way from restoring to running is in both: no moment finds it in neither.
        restoring = dict(self._manager.restoring)
        return list({**restoring, **self._manager.running}.values())

    @property
    def manager(self) -> TaskManager:
        """The worker's tasks, for metrics."""
        return self._manager

    def progress(self) -> Progress:
        """Returns what was done so far."""
        manager = self._manager
        running = list(manager.running.values())
        restoration = manager.restorer.progress()
        return Progress(
            state=self.state,
            running_tasks=len(running),
            restoring_tasks=len(manager.restoring),
            processed_records=self._processed_closed
            + sum(task.processed_records_total for task in running),
            restored_records=restoration.restored_total,
            remaining_restore_records=restoration.remaining,
            commits=manager.committer.commits_total,
            lag_records=sum(sum(self.lag_of(task).values()) for task in running),
            is_idle=self._is_idle,
            dropped_records=manager.dropped_records(),
        )

    def lag_of(self, task: ActiveTask) -> dict[TopicPartition, int]:
        """Returns partition -> records of it not processed yet, as far as known."""
        reader, lags = self._manager.reader, {}
        # What is processed is looked at, not what is read: a run of records in hand is in
        # neither the log's rest nor a queue.
        for partition, processed in list(task.offsets.next.items()):
            try:
                end = reader.last_end_offset(partition)
            except StreamsError:  # the partition was just taken away
                continue
            lags[partition] = 0 if end is None else max(0, end - processed)
        return lags

    @property
    def standby_tasks(self) -> list[str]:
        """The standby tasks the group has assigned."""
        return sorted(map(str, self._assignment.standby))

    def sent_records(self) -> Mapping[str, int]:
        """Returns topic -> records sent to it, as far as the log counts them."""
        return self._transport.sent_records()

    def now_ms(self) -> int:
        """Returns wall-clock time in epoch milliseconds, as this worker sees it."""
        return self._clock.now_ms()

    # -- the loop ------------------------------------------------------------------------

    def run(self) -> None:
        """Works until `stop` or an error.

        Raises:
            StreamsError: what the worker died of; nothing after the last commit lasts.
        """
        self._set_state(WorkerState.STARTING)
        try:
            if not self._stop_asked.is_set():
                self._reach(self._member.start)
                if self._manager.global_task is not None:
                    fill = self._manager.global_task.start
                    self._reach(lambda: fill(self._stop_asked.is_set))
            self._last_commit_ms = self._last_purge_ms = self._clock.monotonic_ms()
            self._last_cleanup_ms = self._last_commit_ms
            while not self._stop_asked.is_set():
                try:
                    self._round()
                except StreamsError as error:
                    if not self._recovers(error):
                        raise
        except BaseException as error:
            self._set_state(WorkerState.PENDING_SHUTDOWN)
            if self._on_failure(error):
                self._member.request_shutdown()
            self._close(clean=False)
            raise
        self._set_state(WorkerState.PENDING_SHUTDOWN)
        self._close(clean=True)

    def _reach(self, step: Callable[[], None]) -> None:
        """Does a step of the start, for as long as it takes to reach the log."""
        while not self._stop_asked.is_set():
            try:
                step()
                return
            except BrokerError as error:
                if not self._recovers(error):
                    raise

    def _round(self) -> None:
        manager, now_ms = self._manager, self._clock.now_ms()
        change = self._member.poll(now_ms)
        if change is not None:
            is_lost = change.is_lost or (self._change is not None and self._change.is_lost)
            self._change = GroupChange(change.assignment, is_lost=is_lost)
        if self._change is not None:
            with self._timed(self.measures.rebalance):
                self._reassign(self._change.assignment, is_lost=self._change.is_lost)
            # Only now: what failed on the way is taken up again in the next round.
            self._change = None
        if self._must_abort:
            self._take_back()
        if self._must_open:
            self._open_tasks()
        else:
            self._open_standby_tasks()
        restored = 0
        if not manager.restorer.is_idle:
            busy = bool(manager.running) and not self._is_paused
            timeout_ms = 0 if busy else self.config.poll_ms
            restored = self._for_a_while(lambda: manager.restore(RESTORE_RECORDS, timeout_ms))
        if self.state is WorkerState.PARTITIONS_ASSIGNED and self._is_settled():
            self._set_state(WorkerState.RUNNING)
        if manager.global_task is not None:
            manager.global_task.update()
        restored += self._for_a_while(lambda: manager.update_standby(RESTORE_RECORDS))
        if not self._member.is_in_touch:
            # Others may have the tasks by now, as when this process was halted: nothing is
            # written over what they write before the group has answered.
            self._failing_since_ms = None
            self._stop_asked.wait(min(self.config.poll_ms, _RETRY_MS) / 1000)
            return
        if self._is_paused:
            if not restored:
                self._stop_asked.wait(self.config.poll_ms / 1000)
        elif manager.running:
            self._poll_and_process(now_ms, restored)
        elif not restored:
            self._stop_asked.wait(min(self.config.poll_ms, _RETRY_MS) / 1000)
        self._commit_if_due()

    def _for_a_while(self, restore: Callable[[], int]) -> int:
        """Restores until time is up or there is nothing at hand; returns the records."""
        deadline_ms = self._clock.monotonic_ms() + RESTORE_MS
        restored = 0
        while count := restore():
            restored += count
            if self._clock.monotonic_ms() >= deadline_ms or self._stop_asked.is_set():
                break
        return restored

    def _poll_and_process(self, now_ms: int, restored: int) -> None:
        clock, measures = self._clock, self.measures
        began_ms = clock.monotonic_ms()
        ready = self._ready_records(now_ms)
        if ready < self.config.max_poll_records:
            is_busy = restored or ready or not self._manager.restorer.is_idle
            self._poll(0 if is_busy else self._poll_timeout_ms(now_ms))
        polled_ms = clock.monotonic_ms()
        processed = self._process()
        now_ms = clock.now_ms()
        measures.poll.note(polled_ms - began_ms, now_ms)
        if processed:
            measures.process.note(clock.monotonic_ms() - polled_ms, now_ms)

    @contextmanager
    def _timed(self, measure: Measure) -> Iterator[None]:
        """Notes how long a step takes that does not come every round."""
        began_ms = self._clock.monotonic_ms()
        yield
        measure.note(self._clock.monotonic_ms() - began_ms, self._clock.now_ms())

    def _reassign(self, assignment: Assignment, *, is_lost: bool) -> None:
        manager = self._manager
        keep = assignment.active
        going = [t for t in (*manager.running, *manager.restoring) if t not in keep]
        if is_lost:
            self._set_state(WorkerState.PARTITIONS_REVOKED)
            self._give_up_tasks()
        elif going:
            self._set_state(WorkerState.PARTITIONS_REVOKED)
            self._commit()
            self._close_tasks(keep, clean=True)
        # One that becomes active goes on from the checkpoint it leaves behind now.
        manager.close_standby(assignment.standby - keep)
        self._set_state(WorkerState.PARTITIONS_ASSIGNED)
        self._assignment = assignment
        self._must_open = self._must_acknowledge = True

    def _open_tasks(self) -> None:
        """Opens what is assigned and not open, then acknowledges; tried again where it fails.

        Nobody waits for standby tasks: those that take too long are opened in later rounds.
        """
        manager, assignment = self._manager, self._assignment
        self._counts = source_topics(self._parts, self._transport).counts
        manager.create(assignment.active)
        self._open_standby_tasks()
        self._must_open = False
        if self._must_acknowledge:
            self._must_acknowledge = False
            self._member.acknowledge(assignment)

    def _open_standby_tasks(self) -> None:
        """Opens standby tasks that are not open, as many as time allows; at least one.

        To open a store takes long, on a busy machine a second: running tasks do not wait for
        all of them.
        """
        manager, assignment = self._manager, self._assignment
        missing = assignment.standby - assignment.active - manager.standby.keys()
        deadline_ms = self._clock.monotonic_ms() + RESTORE_MS
        for task_id in sorted(missing):
            manager.create_standby((task_id,))
            if self._clock.monotonic_ms() >= deadline_ms or self._stop_asked.is_set():
                break

    def _is_settled(self) -> bool:
        """Whether everything assigned runs, in a group that assigns."""
        return self._manager.restorer.is_idle and not self._must_open and self._member.is_ready

    # -- errors that need not stop the application ---------------------------------------

    def _recovers(self, error: StreamsError) -> bool:
        """Does what an error asks for; tells whether that was possible."""
        if self._may_rebuild(error):
            self._rebuild(error)
            return True
        if isinstance(error, TransportError) and self._goes_on_without(error):
            # It was deleted while it was asked for: what was in hand is done once more.
            self._give_up_tasks()
            self._set_state(WorkerState.PARTITIONS_ASSIGNED)
            return True
        if error.reaction not in (Reaction.RETRY, Reaction.REJOIN):
            return False
        if self._is_bounded(error):
            now_ms = self._clock.monotonic_ms()
            if self._failing_since_ms is None:
                self._failing_since_ms = now_ms
            if now_ms - self._failing_since_ms > self.config.task_timeout_ms:
                return False
        else:
            self._failing_since_ms = None
        is_torn = any(task.is_torn for task in self._manager.running.values())
        if error.reaction is Reaction.REJOIN or self.config.is_exactly_once or is_torn:
            # What was done since the last commit cannot be committed any more.
            self._tell("going back to the last commit: %s", error)
            if not self._must_abort:
                self._give_up_tasks()
            self._set_state(WorkerState.PARTITIONS_ASSIGNED)
            self._must_open = True
        else:
            self._tell("trying again: %s", error)
        self._stop_asked.wait(_RETRY_MS / 1000)
        return True

    def _is_bounded(self, error: StreamsError) -> bool:
        """Tells whether `task_timeout_ms` bounds how often an error is tried again.

        Not while the brokers are away, however long that is. An error of a node is bounded by
        the record it happened at, and then the record's handler is asked (`tasks.failures`).
        """
        return not (_is_away(error) or error.node is not None or not self._member.is_in_touch)

    def _tell(self, text: str, error: StreamsError) -> None:
        """Logs an error that is tried again: a warning now and then, the others for debugging."""
        now_ms = self._clock.monotonic_ms()
        is_news = now_ms >= self._quiet_until_ms
        if is_news:
            self._quiet_until_ms = now_ms + _QUIET_MS
        _log.log(logging.WARNING if is_news else logging.DEBUG, text, error)

    def _may_rebuild(self, error: StreamsError) -> bool:
        """Tells whether a task's stores are to blame, for the first time."""
        manager = self._manager
        known = {str(one) for one in (*manager.running, *manager.restoring, *manager.standby)}
        return (
            error.reaction is Reaction.RESTORE_TASK
            and error.task_id in known
            and error.task_id not in self._rebuilt
        )

    def _rebuild(self, error: StreamsError) -> None:
        """Goes back to the last commit and rebuilds the stores of the task that failed.

        What was sent since then belongs to all tasks together, so all of them go back.
        """
        assert error.task_id is not None
        _log.warning("the stores of a task cannot be trusted and are rebuilt: %s", error)
        self._rebuilt.add(error.task_id)
        self._give_up_tasks()
        manager = self._manager
        manager.close_standby(manager.standby.keys() - {TaskId.parse(error.task_id)}, clean=False)
        manager.distrust(TaskId.parse(error.task_id), _damaged_store(error))
        self._set_state(WorkerState.PARTITIONS_ASSIGNED)
        self._must_open = True

    def _give_up_tasks(self) -> None:
        """Closes all tasks as of the last commit; what was sent since then is taken back.

        Where the log does not answer, it is asked again before tasks are opened.
        """
        self._must_abort = True
        self._close_tasks(frozenset(), clean=False)
        try:
            self._take_back()
        except StreamsError as error:
            if error.reaction not in (Reaction.RETRY, Reaction.REJOIN):
                raise
            self._tell("trying again: %s", error)

    def _take_back(self) -> None:
        self._transport.abort()
        self._must_abort = False

    def _close_tasks(self, keep: frozenset[Any], *, clean: bool) -> None:
        manager = self._manager
        for task_id, task in manager.running.items():
            if task_id not in keep:
                self._processed_closed += task.processed_records_total
                self._paused_partitions.difference_update(task.partitions)
        manager.close_unwanted(keep, clean=clean)

    # -- records -------------------------------------------------------------------------

    def _poll_timeout_ms(self, now_ms: int) -> float:
        """Returns how long to wait for records when there is nothing else to do."""
        config = self.config
        wait_ms: float = config.poll_ms
        if config.commit_interval_ms:
            passed_ms = self._clock.monotonic_ms() - self._last_commit_ms
            wait_ms = min(wait_ms, config.commit_interval_ms - passed_ms)
        wait_ms = min(wait_ms, self._next_wall_due_ms - now_ms)
        return max(0, wait_ms)

    def _ready_records(self, now_ms: int) -> int:
        """Returns how many records wait that may be processed now."""
        return sum(
            task.group.buffered_count()
            for task in self._manager.running.values()
            if task.group.is_ready(now_ms)
        )

    def _poll(self, timeout_ms: float) -> None:
        manager = self._manager
        reader, most = manager.reader, self.config.buffered_records_per_partition
        try:
            batches = reader.poll(self.config.max_poll_records, timeout_ms)
        except OffsetOutOfRangeError as error:
            self._reset(error)
            return
        except BrokerError as error:
            if isinstance(error, TransportError) and self._goes_on_without(error):
                return
            if error.reaction is not Reaction.RETRY:
                raise
            self._tell("reading failed, trying again: %s", error)
            self._stop_asked.wait(_RETRY_MS / 1000)
            return
        if batches:
            self._is_idle = False
        full = []
        for partition, records in batches:
            self.measures.polled_records += len(records)
            task = manager.by_partition[partition]
            if task.add(partition, records) > most and len(task.partitions) > 1:
                full.append(partition)
        if full:
            reader.pause(full)
            self._paused_partitions.update(full)

    def _reset(self, error: OffsetOutOfRangeError) -> None:
        """Goes on where the source's offset reset says, after records were deleted."""
        partition = TopicPartition(error.topic or "", error.partition or 0)
        task = self._manager.by_partition.get(partition)
        if task is None:
            raise error
        position = self._manager.reset_position(task, partition)
        _log.warning("%s; going on at offset %d", error, position)
        task.offsets.move(partition, position)
        self._manager.reader.add({partition: position})

    def _goes_on_without(self, error: TransportError) -> bool:
        """Lets go of a topic that was deleted; tells whether the sources can do without."""
        gone = self._manager.let_go(error.topic) if error.topic is not None else []
        self._paused_partitions.difference_update(gone)
        # One of the same name may be there by now.
        self._must_open = self._must_open or bool(gone)
        return bool(gone)

    def _process(self) -> int:
        """Processes what is buffered, round after round, until it is time for something else.

        Returns:
            How many records were processed.
        """
        manager, clock = self._manager, self._clock
        tasks = list(manager.running.values())
        now_ms = clock.now_ms()
        deadline_ms = self._last_commit_ms + max(1, self.config.commit_interval_ms)
        work, processed = True, 0
        while work:
            work = False
            for task in tasks:
                done = self._process_slice(task, now_ms)
                if done:
                    processed += done
                    work = work or bool(task.group.buffered_count())
                if self._stop_asked.is_set():
                    break
            now_ms = clock.now_ms()
            self._punctuate(tasks, now_ms)
            if clock.monotonic_ms() >= deadline_ms or any(
                task.scope.commit_requested for task in tasks
            ):
                break
            if self._stop_asked.is_set():
                break
        for task in tasks:
            task.note_positions()
            manager.reader.processed(task.offsets.uncommitted())
        if self._paused_partitions:
            self._resume_drained()
        return processed

    def _process_slice(self, task: ActiveTask, now_ms: int) -> int:
        """Processes as many records of a task as `SLICE_MS` allows, by what the last ones took."""
        most, began_ms = self._slices.get(task.id, FIRST_RECORDS), self._clock.monotonic_ms()
        done = task.process(now_ms, most)
        took_ms = self._clock.monotonic_ms() - began_ms
        if took_ms > SLICE_MS:
            self._slices[task.id] = max(1, int(done * SLICE_MS / took_ms))
        elif done == most and most < PROCESS_RECORDS:
            self._slices[task.id] = min(2 * most, PROCESS_RECORDS)
        return done

    def _punctuate(self, tasks: list[ActiveTask], now_ms: int) -> None:
        began_ms, has_run = self._clock.monotonic_ms(), False
        for task in tasks:
            has_run = task.punctuate_wall_clock(now_ms) or has_run
        if has_run:
            self.measures.punctuate.note(self._clock.monotonic_ms() - began_ms, now_ms)
        self._next_wall_due_ms = min(
            (task.scope.wall_punctuations.next_due_ms for task in tasks), default=now_ms + 1_000
        )

    def _resume_drained(self) -> None:
        manager, most = self._manager, self.config.buffered_records_per_partition
        drained = [
            partition
            for partition in self._paused_partitions
            if len(manager.by_partition[partition].group.queues[partition]) <= most
        ]
        if drained:
            manager.reader.resume(drained)
            self._paused_partitions.difference_update(drained)

    # -- commit --------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        if not self._member.is_in_touch:
            return
        running, now_ms = self._manager.running.values(), self._clock.monotonic_ms()
        if (
            now_ms - self._last_commit_ms >= self.config.commit_interval_ms
            # Only a commit shows that what failed is over.
            or self._failing_since_ms is not None
            or any(task.scope.commit_requested for task in running)
        ):
            with self._timed(self.measures.commit):
                self._commit()
            self._last_commit_ms = self._clock.monotonic_ms()
            self._failing_since_ms = None
        if now_ms - self._last_purge_ms >= self.config.repartition_purge_interval_ms:
            self._purge()
            self._last_purge_ms = now_ms
        cleanup_ms = max(self.config.state_cleanup_delay_ms, _CLEANUP_LEAST_MS)
        if now_ms - self._last_cleanup_ms >= cleanup_ms:
            self._clean_up()
            self._last_cleanup_ms = now_ms

    def _commit(self) -> None:
        manager = self._manager
        self._paused_partitions.difference_update(manager.let_go_of_deleted())
        manager.committer.commit([manager.running[task_id] for task_id in sorted(manager.running)])
        if manager.global_task is not None:
            manager.global_task.commit()
        manager.checkpoint_standby()
        self._note_idle()

    def _note_idle(self) -> None:
        """Notes whether there is nothing left to do, now that everything is committed.

        A commit may send records on to the next subtopology; what it sent is seen by the poll
        that follows. So two commits in a row must have found everything read.
        """
        manager = self._manager
        running, reader = manager.running.values(), manager.reader
        if not (manager.restorer.is_idle and self.state is WorkerState.RUNNING) or any(
            task.group.buffered_count()
            or any(reader.known_end_offset(p) != reader.position(p) for p in task.partitions)
            for task in running
        ):
            self._drained_at, self._is_idle = -1, False
            return
        processed = self._processed_closed + sum(task.processed_records_total for task in running)
        self._is_idle = processed == self._drained_at
        self._drained_at = processed

    def _purge(self) -> None:
        """Lets the log forget repartition records that were processed and committed."""
        internal = {t.name for part in self._parts for t in part.repartition_source_topics}
        partitions = [p for p in self._manager.by_partition if p.topic in internal]
        committed = self._transport.committed(partitions)
        if committed:
            self._transport.delete_records({p: known.offset for p, known in committed.items()})

    def _clean_up(self) -> None:
        """Deletes the state of tasks that moved away and did not come back.

        Whose they are is known while the group is in order only: one that has not answered yet,
        or is about to assign anew, says nothing about them.

        Source: JVM `StateDirectory.cleanRemovedTasks`.
        """
        if self.state is not WorkerState.RUNNING:
            return
        manager, assigned = self._manager, self._assignment
        here = (*manager.running, *manager.restoring, *manager.standby)
        keep = {str(task_id) for task_id in (*here, *assigned.active, *assigned.standby)}
        try:
            removed = self._directory.remove_obsolete(
                keep, self._clock.now_ms(), self.config.state_cleanup_delay_ms
            )
        except BackendError as error:
            _log.warning("old state stays for the moment: %s", error)
            return
        if removed:
            _log.info("deleted the state of tasks that moved away: %s", ", ".join(removed))

    # -- the end -------------------------------------------------------------------------

    def _close(self, *, clean: bool) -> None:
        """Closes everything, whatever fails on the way; only the first error is raised."""
        errors: list[Exception] = []

        def attempt(step: Callable[[], None]) -> None:
            try:
                step()
            except Exception as error:
                _log.log(logging.DEBUG if errors else logging.WARNING, "while closing: %s", error)
                errors.append(error)

        self._transport.hurry()
        attempt(self._member.prepare_leave)
        clean = clean and self._member.is_in_touch and not self._must_abort
        if clean:
            attempt(self._commit)
        is_committed = clean and not errors
        if not is_committed:
            attempt(self._transport.abort)
        processed = sum(task.processed_records_total for task in self._manager.running.values())
        attempt(lambda: self._manager.close_all(clean=is_committed))
        self._processed_closed += processed
        attempt(self._member.leave)
        attempt(self._directory.close)
        self._set_state(WorkerState.DEAD)
        if clean and errors and not _is_away(errors[0]):
            raise errors[0]

    def _set_state(self, new: WorkerState) -> None:
        old = self.state
        if new is old:
            return
        self.state = new
        _log.debug("worker: %s -> %s", old.name, new.name)
        if self._on_state is not None:
            self._on_state(new, old)


def _damaged_store(error: StreamsError) -> str | None:
    """Returns the store whose files an error is about, None where it does not say."""
    return error.store if isinstance(error, CorruptDataError) else None


def _is_away(error: Exception) -> bool:
    """Tells whether an error means that the brokers are away: a stop need not wait for them."""
    return isinstance(error, BrokerError) and error.is_away
