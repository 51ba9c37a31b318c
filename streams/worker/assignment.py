"""How a worker carries out its assignment: a table of states, events and actions.

Owns the order of the steps: what is closed before what is opened, when the group is told, when sent
records are aborted, and which transitions a worker's state may make. It must not know how tasks are
made, the group's protocol, or the time. It gets events and returns actions, and `worker.loop`
carries them out.

    OPEN ── Changed ──► CLOSING ── Closed ───────────────────────► OPENING ── Opened ──► OPEN
      │                                                               ▲
      └── lost, Failed, Damaged ──► ABANDONING ── Abandoned ──► ABORTING ── Aborted

Each phase has one action. An action that fails leaves the phase as it is, so that the next `Round`
asks for it again. `OPEN` asks for an acknowledgement until the group has it.

Source: JVM `StreamThread.State`, `TaskManager.handleAssignment`, `handleLostAll`,
`StreamThread.handleTaskMigrated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

from thalweg.streams.group.member import Assignment
from thalweg.streams.tasks.task import TaskId


class WorkerState(Enum):
    """Where a worker is in its life."""

    CREATED = "CREATED"
    STARTING = "STARTING"
    PARTITIONS_REVOKED = "PARTITIONS_REVOKED"
    PARTITIONS_ASSIGNED = "PARTITIONS_ASSIGNED"
    RUNNING = "RUNNING"
    PENDING_SHUTDOWN = "PENDING_SHUTDOWN"
    DEAD = "DEAD"


LEGAL_MOVES: Final[Mapping[WorkerState, frozenset[WorkerState]]] = MappingProxyType(
    {
        WorkerState.CREATED: frozenset({WorkerState.STARTING, WorkerState.PENDING_SHUTDOWN}),
        WorkerState.STARTING: frozenset(
            {
                WorkerState.PARTITIONS_REVOKED,
                WorkerState.PARTITIONS_ASSIGNED,
                WorkerState.PENDING_SHUTDOWN,
            }
        ),
        WorkerState.PARTITIONS_REVOKED: frozenset(
            {WorkerState.PARTITIONS_ASSIGNED, WorkerState.PENDING_SHUTDOWN}
        ),
        WorkerState.PARTITIONS_ASSIGNED: frozenset(
            {
                WorkerState.PARTITIONS_REVOKED,
                WorkerState.RUNNING,
                WorkerState.PENDING_SHUTDOWN,
            }
        ),
        WorkerState.RUNNING: frozenset(
            {
                WorkerState.PARTITIONS_REVOKED,
                WorkerState.PARTITIONS_ASSIGNED,
                WorkerState.PENDING_SHUTDOWN,
            }
        ),
        WorkerState.PENDING_SHUTDOWN: frozenset({WorkerState.DEAD}),
        WorkerState.DEAD: frozenset(),
    }
)
"""State -> the states that may follow it."""


class Phase(Enum):
    """What stands between the tasks that are open and those that are assigned."""

    OPEN = "open"
    """Nothing: what is assigned is open. So it is before the first assignment, which is empty."""
    CLOSING = "closing"
    """Tasks that are not assigned any more have to be committed and closed."""
    ABANDONING = "abandoning"
    """All tasks have to be closed as of the last commit."""
    ABORTING = "aborting"
    """All tasks are closed; what they sent since the last commit has to be taken back."""
    OPENING = "opening"
    """Tasks that are assigned have to be opened."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Stores of a task that cannot be trusted.

    Attributes:
        task_id: the task.
        store: the store; None for all of the task that can be restored.
    """

    task_id: TaskId
    store: str | None


@dataclass(frozen=True, slots=True)
class AssignmentState:
    """Where a worker stands between what the group assigns and what is open.

    Attributes:
        worker: where the worker is in its life.
        phase: what has to be done next.
        assignment: what the group assigned last.
        is_owed: whether the group waits to hear that `assignment` is taken over.
        damaged: what must be restored from the beginning once it is closed.
        failing_since_ms: since when steps fail that a time-out bounds; None if none does.
    """

    worker: WorkerState = WorkerState.CREATED
    phase: Phase = Phase.OPEN
    assignment: Assignment = field(default_factory=Assignment)
    is_owed: bool = False
    damaged: tuple[Damage, ...] = ()
    failing_since_ms: float | None = None

    @property
    def can_commit(self) -> bool:
        """Whether what was done since the last commit can be committed."""
        return self.phase not in _GOING_BACK


_GOING_BACK: Final = frozenset({Phase.ABANDONING, Phase.ABORTING})

# -- events ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The worker runs."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The worker is to end, for whatever reason."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything is closed."""


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the loop begins, and the group has nothing new to say."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The group assigns anew.

    Attributes:
        assignment: what to run from now on.
        is_lost: the tasks held so far belong to others already.
        open_tasks: the active tasks that are open.
    """

    assignment: Assignment
    is_lost: bool
    open_tasks: frozenset[TaskId]


@dataclass(frozen=True, slots=True)
class Closed:
    """`Close` is done."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """`Abandon` is done."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """`Abort` is done."""


@dataclass(frozen=True, slots=True)
class Opened:
    """`Open` is done."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """`Acknowledge` is done."""


@dataclass(frozen=True, slots=True)
class Settled:
    """All stores are restored, in a group that assigns."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Something failed that may succeed later.

    Attributes:
        goes_back: what was done since the last commit cannot be committed any more.
        timeout_ms: how long such failures are put up with; None for ever.
    """

    goes_back: bool
    timeout_ms: float | None


@dataclass(frozen=True, slots=True)
class Passed:
    """What failed is over, or does not count any more."""


@dataclass(frozen=True, slots=True)
class TopicGone:
    """A topic was deleted that a source can do without; one of its name may come again.

    Attributes:
        goes_back: a step failed because of it, so what is in hand is done once more.
    """

    goes_back: bool


@dataclass(frozen=True, slots=True)
class Damaged:
    """The stores of a task cannot be trusted.

    Attributes:
        damage: which.
    """

    damage: Damage


Event: TypeAlias = (
    Started
    | Stopping
    | Ended
    | Round
    | Changed
    | Closed
    | Abandoned
    | Aborted
    | Opened
    | Acknowledged
    | Settled
    | Failed
    | Passed
    | TopicGone
    | Damaged
)

# -- actions -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Close:
    """Commit if active tasks go, then close what is not kept.

    Attributes:
        active: the active tasks to keep.
        standby: the standby tasks to keep. A standby that becomes active is closed: the active
            task goes on from the checkpoint it leaves behind.
    """

    active: frozenset[TaskId]
    standby: frozenset[TaskId]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Close all active tasks as of the last commit, and the standby tasks not to keep.

    Attributes:
        standby: the standby tasks to keep.
        damaged: what must be restored from the beginning; closed without a checkpoint.
    """

    standby: frozenset[TaskId]
    damaged: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """Take back what was sent since the last commit."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open the tasks of an assignment that are not open.

    Attributes:
        assignment: all that is assigned.
    """

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the group that an assignment is taken over.

    Attributes:
        assignment: which.
    """

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait a moment: what failed may succeed then."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Let the worker die of what failed: it was tried again for as long as is allowed."""


Action: TypeAlias = Close | Abandon | Abort | Open | Acknowledge | Pause | GiveUp

# -- the table ---------------------------------------------------------------------------

_LIFE: Final[Mapping[type[Event], WorkerState]] = MappingProxyType(
    {
        Started: WorkerState.STARTING,
        Stopping: WorkerState.PENDING_SHUTDOWN,
        Ended: WorkerState.DEAD,
    }
)
"""Event -> the worker's state after it."""

_OVER: Final = frozenset({WorkerState.PENDING_SHUTDOWN, WorkerState.DEAD})
"""The states in which an assignment means nothing any more: everything is being closed."""

_NEXT: Final[Mapping[tuple[Phase, type[Event]], Phase]] = MappingProxyType(
    {
        (Phase.CLOSING, Closed): Phase.OPENING,
        (Phase.ABANDONING, Abandoned): Phase.ABORTING,
        (Phase.ABORTING, Aborted): Phase.OPENING,
        (Phase.OPENING, Opened): Phase.OPEN,
    }
)
"""(Phase, event that its action is done) -> the next phase."""

Step: TypeAlias = tuple[AssignmentState, tuple[Action, ...]]


def step(state: AssignmentState, event: Event, now_ms: float) -> Step:
    """Returns what an event makes of a state, and what to do now, in order.

    An action that is done is told by the event named after it. What an action that fails leaves
    undone is returned again with the next `Round`.

    Args:
        state: where the worker stands.
        event: what happened.
        now_ms: when, by a clock that never goes back.

    Raises:
        RuntimeError: the worker's state cannot follow its present one.
    """
    after, actions = _step(state, event, now_ms)
    if after.worker is not state.worker and after.worker not in LEGAL_MOVES[state.worker]:
        message = f"a worker cannot go from {state.worker.name} to {after.worker.name}"
        raise RuntimeError(message)
    return after, actions


def _step(state: AssignmentState, event: Event, now_ms: float) -> Step:
    phase, nothing = state.phase, ()
    if state.worker in _OVER and not isinstance(event, Ended):
        return state, nothing
    match event:
        case Started() | Stopping() | Ended():
            return replace(state, worker=_LIFE[type(event)]), nothing
        case Round():
            return state, due(state)
        case Changed():
            return _changed(state, event)
        case Closed() | Abandoned() | Aborted() | Opened():
            return _done(state, event), nothing
        case Acknowledged() if phase is Phase.OPEN:
            return replace(state, is_owed=False), nothing
        case Settled():
            is_due = state.worker is WorkerState.PARTITIONS_ASSIGNED
            if is_due and phase is Phase.OPEN and not state.is_owed:
                return replace(state, worker=WorkerState.RUNNING), nothing
        case Failed():
            return _failed(state, event, now_ms)
        case Passed():
            return replace(state, failing_since_ms=None), nothing
        case TopicGone(goes_back=True):
            return _back(state)
        case TopicGone() if phase is Phase.OPEN:
            return replace(state, phase=Phase.OPENING), nothing
        case Damaged(damage):
            return _abandoning(replace(state, damaged=(*state.damaged, damage)))
        case _:
            pass
    return state, nothing


def due(state: AssignmentState) -> tuple[Action, ...]:
    """Returns all that is to be done until what is assigned is open and acknowledged."""
    phase, assignment = state.phase, state.assignment
    standby = assignment.standby - assignment.active
    actions: list[Action] = []
    if phase is Phase.CLOSING:
        actions.append(Close(assignment.active, standby))
    if phase is Phase.ABANDONING:
        damaged = {one.task_id for one in state.damaged}
        actions.append(Abandon(standby - damaged, state.damaged))
    if phase in _GOING_BACK:
        actions.append(Abort())
    if phase is not Phase.OPEN:
        actions.append(Open(assignment))
    if state.is_owed:
        actions.append(Acknowledge(assignment))
    return tuple(actions)


def _done(state: AssignmentState, event: Closed | Abandoned | Aborted | Opened) -> AssignmentState:
    """Returns the state after the action of a phase; the action of another changes nothing."""
    phase = _NEXT.get((state.phase, type(event)))
    match phase:
        case None:
            return state
        case Phase.ABORTING:
            return replace(state, phase=phase, worker=_assigned(state), damaged=())
        case Phase.OPENING:
            return replace(state, phase=phase, worker=_assigned(state))
        case _:
            return replace(state, phase=phase)


def _changed(state: AssignmentState, event: Changed) -> Step:
    after = replace(state, assignment=event.assignment, is_owed=True)
    if event.is_lost:
        after = replace(after, phase=Phase.ABANDONING, worker=WorkerState.PARTITIONS_REVOKED)
    elif state.phase in _GOING_BACK:
        after = replace(after, phase=Phase.ABANDONING)
    else:
        goes = event.open_tasks - event.assignment.active
        worker = WorkerState.PARTITIONS_REVOKED if goes else state.worker
        after = replace(after, phase=Phase.CLOSING, worker=worker)
    return after, due(after)


def _failed(state: AssignmentState, event: Failed, now_ms: float) -> Step:
    since_ms = None
    if event.timeout_ms is not None:
        since_ms = now_ms if state.failing_since_ms is None else state.failing_since_ms
        if now_ms - since_ms > event.timeout_ms:
            return replace(state, failing_since_ms=since_ms), (GiveUp(),)
    state = replace(state, failing_since_ms=since_ms)
    if not event.goes_back:
        return state, (Pause(),)
    after, actions = _back(state)
    return after, (*actions, Pause())


def _back(state: AssignmentState) -> Step:
    """Goes back to the last commit: tasks are closed and what they sent is taken back.

    The log's answer is not waited for here: where an abort fails, the next round asks again.
    """
    if state.phase in _GOING_BACK:
        return replace(state, worker=_assigned(state)), ()
    return _abandoning(state)


def _abandoning(state: AssignmentState) -> Step:
    after = replace(state, phase=Phase.ABANDONING, worker=_assigned(state))
    return after, tuple(one for one in due(after) if isinstance(one, Abandon | Abort))


def _assigned(state: AssignmentState) -> WorkerState:
    """Returns the worker's state once nothing is revoked; one that has no tasks yet still starts."""
    if state.worker is WorkerState.STARTING and not state.is_owed:
        return WorkerState.STARTING
    return WorkerState.PARTITIONS_ASSIGNED
