"""The worker: one loop that polls, processes, punctuates and commits.

Owns the order of the loop, its waiting, and the reaction to errors that need not stop the
application. The decisions are made elsewhere: which tasks (`group`), what is closed and opened when
(`worker.assignment`), when each step is due (`worker.pacing`), which record is next
(`tasks.partition_group`), the order of a commit (`tasks.commit`). Nothing here is done per record.

    ┌► assignment ─► restore a slice ─► poll ─► process ─► punctuate ─► commit if due ─┐
    └──────────────────────────────────────────────────────────────────────────────────┘

Source: JVM `StreamThread`, `TaskExecutor`; design 3.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
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
from thalweg.streams.group.member import Assignment, GroupMember, SoleMember
from thalweg.streams.queries.metadata import GroupView, InstanceTasks
from thalweg.streams.restore_listener import NOBODY, RestoreListener
from thalweg.streams.samples import LoopMeasures, Measure
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.source_topics import source_topics
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.tasks.task_manager import TaskManager
from thalweg.streams.transport.port import TopicPartition, Transport
from thalweg.streams.worker.assignment import (
    Abandon,
    Abandoned,
    Abort,
    Aborted,
    Acknowledge,
    Acknowledged,
    Action,
    AssignmentState,
    Changed,
    Close,
    Closed,
    Damage,
    Damaged,
    Ended,
    Event,
    Failed,
    GiveUp,
    Open,
    Opened,
    Passed,
    Pause,
    Round,
    Settled,
    Started,
    Stopping,
    TopicGone,
    WorkerState,
    step,
)
from thalweg.streams.worker.pacing import (
    RESTORE_MS,
    RESTORE_RECORDS,
    RETRY_MS,
    Idleness,
    Pacing,
)
from thalweg.streams.worker.processing import Processing
from thalweg.streams.worker.progress import Progress, WorkerListener
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import subtopologies

_PASSING: Final = frozenset({Reaction.RETRY, Reaction.REJOIN})
"""What errors ask for that may pass: the same again, or the same from the last commit."""

_log = logging.getLogger(__name__)


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
        self._transport = transport
        self._clock = clock or SystemClock()
        self._on_state = on_state
        self._on_failure = on_failure
        self._parts = subtopologies(topology, config.topology_config)
        own = [part for part in self._parts if not part.is_global]
        self._member = member or SoleMember(own, config, transport)
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
        self._assignment = AssignmentState()
        self._pacing = Pacing(
            commit_interval_ms=config.commit_interval_ms,
            purge_interval_ms=config.repartition_purge_interval_ms,
            cleanup_delay_ms=config.state_cleanup_delay_ms,
            poll_ms=config.poll_ms,
        )
        self._idleness = Idleness()
        self._counts: Mapping[str, int] = {}
        self.measures = LoopMeasures()
        self._stop_asked = threading.Event()
        self._is_paused = False
        self._rebuilt: set[str] = set()
        self._processing = Processing(
            self._manager, config, self._clock, self._pacing, self.measures, self._stop_asked
        )

    # -- from any thread -----------------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        """Where the worker is in its life."""
        return self._assignment.worker

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
        standby = frozenset(self._assignment.assignment.standby) - active
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
            processed_records=manager.processed_closed_total
            + sum(task.processed_records_total for task in running),
            restored_records=restoration.restored_total,
            remaining_restore_records=restoration.remaining,
            commits=manager.committer.commits_total,
            lag_records=sum(sum(self.lag_of(task).values()) for task in running),
            is_idle=self._idleness.is_idle,
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
        return sorted(map(str, self._assignment.assignment.standby))

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
        self._step(Started())
        try:
            if not self._stop_asked.is_set():
                self._reach(self._member.start)
                if self._manager.global_task is not None:
                    fill = self._manager.global_task.start
                    self._reach(lambda: fill(self._stop_asked.is_set))
            self._pacing.begin(self._clock.monotonic_ms())
            while not self._stop_asked.is_set():
                try:
                    self._round()
                except StreamsError as error:
                    if not self._recovers(error):
                        raise
        except BaseException as error:
            self._step(Stopping())
            if self._on_failure(error):
                self._member.request_shutdown()
            self._close(clean=False)
            raise
        self._step(Stopping())
        self._close(clean=True)

    def _reach(self, call: Callable[[], None]) -> None:
        """Makes a call of the start, for as long as it takes to reach the log."""
        while not self._stop_asked.is_set():
            try:
                call()
                return
            except BrokerError as error:
                if not self._recovers(error):
                    raise

    def _round(self) -> None:
        manager, now_ms = self._manager, self._clock.now_ms()
        due = self._step(self._heard())
        self._carry_out(due)
        if not any(isinstance(action, Open) for action in due):
            self._open_standby_tasks()
        restored = 0
        if not manager.restorer.is_idle:
            busy = bool(manager.running) and not self._is_paused
            timeout_ms = 0 if busy else self.config.poll_ms
            restored = self._for_a_while(lambda: manager.restore(RESTORE_RECORDS, timeout_ms))
        if manager.restorer.is_idle and self._member.is_ready:
            self._step(Settled())
        if manager.global_task is not None:
            manager.global_task.update()
        restored += self._for_a_while(lambda: manager.update_standby(RESTORE_RECORDS))
        if not self._member.is_in_touch:
            # Others may have the tasks by now, as when this process was halted: nothing is
            # written over what they write before the group has answered.
            self._step(Passed())
            self._wait(self._pacing.idle_ms)
            return
        if self._is_paused:
            if not restored:
                self._wait(self.config.poll_ms)
        elif manager.running:
            self._poll_and_process(now_ms, restored)
        elif not restored:
            self._wait(self._pacing.idle_ms)
        self._commit_if_due()

    def _heard(self) -> Event:
        """Returns what the group says now."""
        change, manager = self._member.poll(self._clock.monotonic_ms()), self._manager
        if change is None:
            return Round()
        open_tasks = frozenset((*manager.running, *manager.restoring))
        return Changed(change.assignment, change.is_lost, open_tasks)

    def _step(self, event: Event) -> tuple[Action, ...]:
        """Notes an event; returns what to do about it."""
        old = self.state
        self._assignment, actions = step(self._assignment, event, self._clock.monotonic_ms())
        new = self.state
        if new is not old:
            _log.debug("worker: %s -> %s", old.name, new.name)
            if self._on_state is not None:
                self._on_state(new, old)
        return actions

    def _wait(self, duration_ms: float) -> None:
        """Waits, unless the worker is to stop."""
        self._clock.wait(self._stop_asked, duration_ms)

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
        ready = self._processing.ready_records(now_ms)
        if ready < self.config.max_poll_records:
            is_busy = restored or ready or not self._manager.restorer.is_idle
            self._poll(0 if is_busy else self._pacing.poll_timeout_ms(began_ms, now_ms))
        polled_ms = clock.monotonic_ms()
        processed = self._processing.process()
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

    # -- the assignment ------------------------------------------------------------------

    def _carry_out(self, actions: Iterable[Action]) -> None:
        """Does what `worker.assignment` asks for, and notes each step that is done."""
        for action in actions:
            if (done := self._do(action)) is not None:
                self._step(done)

    def _do(self, action: Action) -> Event | None:
        """Does one thing; returns the event that says so."""
        match action:
            case Close():
                with self._timed(self.measures.rebalance):
                    self._close_revoked(action)
                return Closed()
            case Abandon():
                # Only what the group asks for counts as a rebalance.
                is_asked = self._assignment.is_owed
                with self._timed(self.measures.rebalance) if is_asked else nullcontext():
                    self._abandon(action)
                return Abandoned()
            case Abort():
                self._transport.abort()
                return Aborted()
            case Open(assignment):
                self._open_tasks(assignment)
                return Opened()
            case Acknowledge(assignment):
                self._member.acknowledge(assignment)
                return Acknowledged()
            case Pause():
                self._wait(RETRY_MS)
        return None

    def _close_revoked(self, action: Close) -> None:
        manager = self._manager
        if any(task not in action.active for task in (*manager.running, *manager.restoring)):
            self._commit()
            self._close_tasks(action.active, clean=True)
        manager.close_standby(action.standby)

    def _abandon(self, action: Abandon) -> None:
        manager = self._manager
        self._close_tasks(frozenset(), clean=False)
        if action.damaged:
            damaged = {one.task_id for one in action.damaged}
            manager.close_standby(manager.standby.keys() - damaged, clean=False)
            for one in action.damaged:
                manager.distrust(one.task_id, one.store)
        manager.close_standby(action.standby)

    def _open_tasks(self, assignment: Assignment) -> None:
        """Opens what is assigned and not open.

        Nobody waits for standby tasks: those that take too long are opened in later rounds.
        """
        self._counts = source_topics(self._parts, self._transport).counts
        self._manager.create(assignment.active)
        self._open_standby_tasks()

    def _open_standby_tasks(self) -> None:
        """Opens standby tasks that are not open, as many as time allows; at least one.

        To open a store takes long, on a busy machine a second: running tasks do not wait for
        all of them.
        """
        manager, assignment = self._manager, self._assignment.assignment
        missing = assignment.standby - assignment.active - manager.standby.keys()
        deadline_ms = self._clock.monotonic_ms() + RESTORE_MS
        for task_id in sorted(missing):
            manager.create_standby((task_id,))
            if self._clock.monotonic_ms() >= deadline_ms or self._stop_asked.is_set():
                break

    # -- errors that need not stop the application ---------------------------------------

    def _recovers(self, error: StreamsError) -> bool:
        """Does what an error asks for; tells whether that was possible."""
        event = self._meaning(error)
        if event is None:
            return False
        actions = self._step(event)
        if GiveUp() in actions:
            return False
        if isinstance(event, Failed):
            back, again = "going back to the last commit: %s", "trying again: %s"
            self._tell(back if event.goes_back else again, error)
        for action in actions:
            try:
                self._carry_out((action,))
            except StreamsError as another:
                # Where the log does not answer, it is asked again before tasks are opened.
                if not isinstance(action, Abort) or another.reaction not in _PASSING:
                    raise
                self._tell("trying again: %s", another)
        return True

    def _meaning(self, error: StreamsError) -> Event | None:
        """Returns what an error means for the assignment; None if the worker dies of it."""
        if self._may_rebuild(error):
            assert error.task_id is not None
            _log.warning("the stores of a task cannot be trusted and are rebuilt: %s", error)
            self._rebuilt.add(error.task_id)
            store = error.store if isinstance(error, CorruptDataError) else None
            return Damaged(Damage(TaskId.parse(error.task_id), store))
        if isinstance(error, TransportError) and self._goes_on_without(error):
            # It was deleted while it was asked for: what was in hand is done once more.
            return TopicGone(goes_back=True)
        if error.reaction not in _PASSING:
            return None
        is_torn = any(task.is_torn for task in self._manager.running.values())
        return Failed(
            # What was done since the last commit cannot be committed any more.
            error.reaction is Reaction.REJOIN or self.config.is_exactly_once or is_torn,
            self.config.task_timeout_ms if self._is_bounded(error) else None,
        )

    def _is_bounded(self, error: StreamsError) -> bool:
        """Tells whether `task_timeout_ms` bounds how often an error is tried again.

        Not while the brokers are away, however long that is. An error of a node is bounded by
        the record it happened at, and then the record's handler is asked (`tasks.failures`).
        """
        return not (_is_away(error) or error.node is not None or not self._member.is_in_touch)

    def _tell(self, text: str, error: StreamsError) -> None:
        """Logs an error that is tried again: a warning now and then, the others for debugging."""
        is_news = self._pacing.is_news(self._clock.monotonic_ms())
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

    def _close_tasks(self, keep: frozenset[TaskId], *, clean: bool) -> None:
        manager = self._manager
        for task_id, task in manager.running.items():
            if task_id not in keep:
                self._processing.forget(task.partitions)
        manager.close_unwanted(keep, clean=clean)

    # -- records -------------------------------------------------------------------------

    def _poll(self, timeout_ms: float) -> None:
        try:
            has_records = self._processing.poll(timeout_ms)
        except OffsetOutOfRangeError as error:
            self._reset(error)
            return
        except BrokerError as error:
            if isinstance(error, TransportError) and self._goes_on_without(error):
                return
            if error.reaction is not Reaction.RETRY:
                raise
            self._tell("reading failed, trying again: %s", error)
            self._wait(RETRY_MS)
            return
        if has_records:
            self._idleness.note_records()

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
        self._processing.forget(gone)
        if gone:  # one of the same name may be there by now
            self._step(TopicGone(goes_back=False))
        return bool(gone)

    # -- commit --------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        if not self._member.is_in_touch:
            return
        pacing, now_ms = self._pacing, self._clock.monotonic_ms()
        if (
            pacing.commit.is_due(now_ms)
            # Only a commit shows that what failed is over.
            or self._assignment.failing_since_ms is not None
            or any(task.scope.commit_requested for task in self._manager.running.values())
        ):
            with self._timed(self.measures.commit):
                self._commit()
            pacing.commit.done(self._clock.monotonic_ms())
            self._step(Passed())
        if pacing.purge.is_due(now_ms):
            self._purge()
            pacing.purge.done(now_ms)
        if pacing.cleanup.is_due(now_ms):
            self._clean_up()
            pacing.cleanup.done(now_ms)

    def _commit(self) -> None:
        manager = self._manager
        self._processing.forget(manager.let_go_of_deleted())
        manager.committer.commit([manager.running[task_id] for task_id in sorted(manager.running)])
        if manager.global_task is not None:
            manager.global_task.commit()
        manager.checkpoint_standby()
        self._note_idle()

    def _note_idle(self) -> None:
        """Notes whether there is nothing left to do, now that everything is committed."""
        manager = self._manager
        is_settled = manager.restorer.is_idle and self.state is WorkerState.RUNNING
        if not (is_settled and self._processing.is_drained()):
            self._idleness.note_commit(None)
            return
        running = sum(task.processed_records_total for task in manager.running.values())
        self._idleness.note_commit(manager.processed_closed_total + running)

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
        manager, assigned = self._manager, self._assignment.assignment
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

        def attempt(call: Callable[[], None]) -> None:
            try:
                call()
            except Exception as error:
                _log.log(logging.DEBUG if errors else logging.WARNING, "while closing: %s", error)
                errors.append(error)

        self._transport.hurry()
        attempt(self._member.prepare_leave)
        clean = clean and self._member.is_in_touch and self._assignment.can_commit
        if clean:
            attempt(self._commit)
        is_committed = clean and not errors
        if not is_committed:
            attempt(self._transport.abort)
        attempt(lambda: self._manager.close_all(clean=is_committed))
        attempt(self._member.leave)
        attempt(self._directory.close)
        self._step(Ended())
        if clean and errors and not _is_away(errors[0]):
            raise errors[0]


def _is_away(error: Exception) -> bool:
    """Tells whether an error means that the brokers are away: a stop need not wait for them."""
    return isinstance(error, BrokerError) and error.is_away
