"""The table of assignments: every pair of state and event, and what no sequence may lead to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.streams.group.member import Assignment
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.worker.assignment import (
    LEGAL_MOVES,
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
    Phase,
    Round,
    Settled,
    Started,
    Stopping,
    TopicGone,
    WorkerState,
    step,
)

A, B, C = TaskId(0, 0), TaskId(0, 1), TaskId(1, 0)
FIRST = Assignment(frozenset({A, B}), frozenset({C}))
SECOND = Assignment(frozenset({A, C}))
KEPT_STANDBY = frozenset({C})
DAMAGE = Damage(B, "counts")

CREATED, STARTING = WorkerState.CREATED, WorkerState.STARTING
REVOKED, ASSIGNED = WorkerState.PARTITIONS_REVOKED, WorkerState.PARTITIONS_ASSIGNED
RUNNING, DEAD = WorkerState.RUNNING, WorkerState.DEAD
PENDING = WorkerState.PENDING_SHUTDOWN

CLOSE, OPEN, ACKNOWLEDGE = Close(FIRST.active, KEPT_STANDBY), Open(FIRST), Acknowledge(FIRST)
ABANDON = Abandon(KEPT_STANDBY, ())

STATES = {
    phase: AssignmentState(ASSIGNED, phase, FIRST, is_owed=phase is not Phase.OPEN)
    for phase in Phase
}
"""A state for each phase, on the way to `FIRST`."""

DUE: dict[Phase, tuple[Action, ...]] = {
    Phase.OPEN: (),
    Phase.CLOSING: (CLOSE, OPEN, ACKNOWLEDGE),
    Phase.ABANDONING: (ABANDON, Abort(), OPEN, ACKNOWLEDGE),
    Phase.ABORTING: (Abort(), OPEN, ACKNOWLEDGE),
    Phase.OPENING: (OPEN, ACKNOWLEDGE),
}

GIVEN = Changed(SECOND, False, frozenset({A, B}))  # B goes
MORE = Changed(SECOND, False, frozenset({A}))  # nothing goes
LOST = Changed(Assignment(), True, frozenset({A, B}))
OPEN_2, ACKNOWLEDGE_2 = Open(SECOND), Acknowledge(SECOND)
CLOSE_2 = Close(SECOND.active, frozenset())
ABANDON_2 = Abandon(frozenset(), ())
AGAIN, BACK = Failed(False, None), Failed(True, None)

FORWARD: dict[tuple[Phase, type[Event]], Phase] = {
    (Phase.CLOSING, Closed): Phase.OPENING,
    (Phase.ABANDONING, Abandoned): Phase.ABORTING,
    (Phase.ABORTING, Aborted): Phase.OPENING,
    (Phase.OPENING, Opened): Phase.OPEN,
}


def changed(phase: Phase, event: Changed) -> tuple[AssignmentState, tuple[Action, ...]]:
    """What a new assignment leads to, by the phase it comes in."""
    if event.is_lost:
        empty = Assignment()
        after = AssignmentState(REVOKED, Phase.ABANDONING, empty, is_owed=True)
        return after, (Abandon(frozenset(), ()), Abort(), Open(empty), Acknowledge(empty))
    if phase in (Phase.ABANDONING, Phase.ABORTING):
        after = AssignmentState(ASSIGNED, Phase.ABANDONING, SECOND, is_owed=True)
        return after, (ABANDON_2, Abort(), OPEN_2, ACKNOWLEDGE_2)
    worker = REVOKED if event is GIVEN else ASSIGNED
    after = AssignmentState(worker, Phase.CLOSING, SECOND, is_owed=True)
    return after, (CLOSE_2, OPEN_2, ACKNOWLEDGE_2)


def expected(phase: Phase, event: Event) -> tuple[AssignmentState, tuple[Action, ...]]:
    """What the table has to say, told anew."""
    before = STATES[phase]
    goes_back = phase in (Phase.ABANDONING, Phase.ABORTING)
    match event:
        case Stopping():
            return replace(before, worker=PENDING), ()
        case Round():
            return before, DUE[phase]
        case Changed():
            return changed(phase, event)
        case Closed() | Abandoned() | Aborted() | Opened():
            return replace(before, phase=FORWARD.get((phase, type(event)), phase)), ()
        case Settled() if phase is Phase.OPEN:
            return replace(before, worker=RUNNING), ()
        case Failed(goes_back=False):
            return before, (Pause(),)
        case Failed() if goes_back:
            return before, (Pause(),)
        case Failed():
            return replace(before, phase=Phase.ABANDONING), (ABANDON, Abort(), Pause())
        case TopicGone(goes_back=True) if not goes_back:
            return replace(before, phase=Phase.ABANDONING), (ABANDON, Abort())
        case TopicGone(goes_back=False) if phase is Phase.OPEN:
            return replace(before, phase=Phase.OPENING), ()
        case Damaged(damage):
            after = replace(before, phase=Phase.ABANDONING, damaged=(damage,))
            return after, (Abandon(KEPT_STANDBY - {damage.task_id}, (damage,)), Abort())
        case _:
            return before, ()


EVENTS: list[Event] = [
    Stopping(),
    Round(),
    GIVEN,
    MORE,
    LOST,
    Closed(),
    Abandoned(),
    Aborted(),
    Opened(),
    Acknowledged(),
    Settled(),
    AGAIN,
    BACK,
    Passed(),
    TopicGone(goes_back=True),
    TopicGone(goes_back=False),
    Damaged(DAMAGE),
    Damaged(Damage(C, None)),
]


def named(one: object) -> str:
    """Returns how a case is called."""
    return one.name if isinstance(one, Phase | WorkerState) else type(one).__name__


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, EVENTS)), ids=named)
def test_the_table(phase: Phase, event: Event) -> None:
    assert step(STATES[phase], event, 0) == expected(phase, event)


@pytest.mark.parametrize("old", WorkerState, ids=named)
@pytest.mark.parametrize("phase", Phase, ids=named)
@pytest.mark.parametrize("event", [Started(), Ended(), *EVENTS], ids=named)
def test_no_event_moves_a_worker_to_where_it_may_not_go(
    old: WorkerState, phase: Phase, event: Event
) -> None:
    for is_owed in (False, True):
        with suppress(RuntimeError):
            after, _ = step(AssignmentState(old, phase, FIRST, is_owed=is_owed), event, 0)
            assert after.worker is old or after.worker in LEGAL_MOVES[old]


@pytest.mark.parametrize(
    ("old", "event", "new"),
    [
        *((old, Started(), STARTING) for old in (REVOKED, ASSIGNED, RUNNING)),
        *((old, Ended(), DEAD) for old in (CREATED, STARTING, REVOKED, ASSIGNED, RUNNING)),
        (CREATED, LOST, REVOKED),
        (CREATED, BACK, ASSIGNED),
    ],
    ids=named,
)
def test_illegal_moves_of_a_worker_are_refused(
    old: WorkerState, event: Event, new: WorkerState
) -> None:
    with pytest.raises(RuntimeError, match=f"cannot go from {old.name} to {new.name}"):
        step(AssignmentState(old), event, 0)


@pytest.mark.parametrize("worker", [PENDING, DEAD])
@pytest.mark.parametrize("event", EVENTS, ids=named)
def test_an_assignment_means_nothing_any_more_once_all_is_closed(
    worker: WorkerState, event: Event
) -> None:
    state = AssignmentState(worker, Phase.CLOSING, FIRST, is_owed=True)
    assert step(state, event, 0) == (state, ())


def test_a_worker_does_not_run_before_it_was_given_tasks() -> None:
    state, _ = step(AssignmentState(), Started(), 0)
    for event in (Settled(), BACK, Abandoned(), Aborted(), Opened(), Settled()):
        state, _ = step(state, event, 0)
        assert state.worker is STARTING
    state, actions = step(state, Changed(FIRST, False, frozenset()), 0)
    assert actions == (CLOSE, OPEN, ACKNOWLEDGE)
    for event in (Closed(), Opened(), Settled()):
        state, _ = step(state, event, 0)
        assert state.worker is ASSIGNED, "the group was not told yet"
    for event in (Acknowledged(), Settled()):
        state, _ = step(state, event, 0)
    assert state == AssignmentState(RUNNING, Phase.OPEN, FIRST)


def test_what_is_damaged_stays_so_until_it_is_closed() -> None:
    state, _ = step(STATES[Phase.OPEN], Damaged(DAMAGE), 0)
    state, actions = step(state, Changed(SECOND, False, frozenset()), 0)
    assert actions[0] == Abandon(frozenset(), (DAMAGE,))
    state, _ = step(state, Abandoned(), 0)
    assert state.damaged == ()


def test_a_failure_is_put_up_with_for_as_long_as_its_time_out_says() -> None:
    state = STATES[Phase.OPEN]
    for now_ms in (0, 500, 1_000):
        state, actions = step(state, Failed(False, 1_000), now_ms)
        assert actions == (Pause(),)
    _, actions = step(state, Failed(False, 1_000), 1_001)
    assert actions == (GiveUp(),)
    # Brokers that are away are waited for, and what failed before is another story then.
    state, _ = step(state, Failed(False, None), 1_001)
    state, actions = step(state, Failed(False, 1_000), 5_000)
    assert actions == (Pause(),)
    state, _ = step(state, Passed(), 6_000)
    assert state.failing_since_ms is None


@dataclass
class World:
    """Tasks, a log and a group that a table is carried out on; each action may fail."""

    state: AssignmentState = field(default_factory=AssignmentState)
    open: frozenset[TaskId] = frozenset()
    standby: frozenset[TaskId] = frozenset()
    acknowledged: Assignment | None = None
    is_tainted: bool = False
    now_ms: int = 0
    is_over: bool = False

    def tell(self, event: Event) -> tuple[Action, ...]:
        self.now_ms += 1
        self.state, actions = step(self.state, event, self.now_ms)
        return actions

    def carry_out(self, actions: tuple[Action, ...], fails_at: int | None = None) -> bool:
        """Does actions in order; tells whether all went well."""
        for index, action in enumerate(actions):
            fails = index == fails_at
            match action:
                case Close(active, standby):
                    assert not self.is_tainted, "a commit of what has to be taken back"
                    if fails:
                        return False
                    self.open &= active
                    self.standby &= standby
                    self.tell(Closed())
                case Abandon(standby, damaged):
                    self.is_tainted = True
                    if fails:
                        self.open = frozenset(sorted(self.open)[1:])
                        return False
                    self.open = frozenset()
                    self.standby &= standby
                    assert all(one.task_id not in self.standby for one in damaged)
                    self.tell(Abandoned())
                case Abort():
                    if fails:
                        return False
                    self.is_tainted = False
                    self.tell(Aborted())
                case Open(assignment):
                    assert not self.is_tainted, "a task is opened before what failed is taken back"
                    assert assignment == self.state.assignment
                    assert self.open <= assignment.active, "opened before others were closed"
                    if fails:
                        self.open |= frozenset(sorted(assignment.active)[:1])
                        return False
                    self.open |= assignment.active
                    self.standby |= assignment.standby - assignment.active
                    self.tell(Opened())
                case Acknowledge(assignment):
                    if fails:
                        return False
                    assert self.open == assignment.active, "acknowledged what does not run"
                    self.acknowledged = assignment
                    self.tell(Acknowledged())
                case GiveUp():
                    self.is_over = True
                case Pause():
                    pass
        return True


tasks = st.frozensets(st.sampled_from([A, B, C]))
assignments = st.builds(Assignment, tasks, tasks)
happenings = st.one_of(
    st.tuples(st.just("changed"), assignments, st.booleans()),
    st.tuples(st.just("failed"), st.booleans()),
    st.tuples(st.just("gone"), st.booleans()),
    st.tuples(st.just("damaged"), st.sampled_from([A, B, C])),
    st.tuples(st.just("settled")),
    st.tuples(st.just("round")),
)
failing = st.one_of(st.none(), st.integers(0, 3))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(happenings, failing, st.booleans(), failing), max_size=25))
def test_from_any_sequence_what_is_assigned_is_open_and_acknowledged_in_the_end(
    steps: list[Any],
) -> None:
    world = World()
    world.tell(Started())
    for (what, *given_), fails_at, goes_back, fails_again in steps:
        match what:
            case "changed":
                assignment, is_lost = given_
                actions = world.tell(Changed(assignment, is_lost, world.open))
            case "failed":
                actions = world.tell(Failed(given_[0], None))
            case "gone":
                actions = world.tell(TopicGone(given_[0]))
            case "damaged":
                actions = world.tell(Damaged(Damage(given_[0], None)))
            case "settled":
                actions = world.tell(Settled())
            case _:
                actions = world.tell(Round())
        # What is carried out in answer to a failure may fail as well.
        if not world.carry_out(actions, fails_at):
            world.carry_out(world.tell(Failed(goes_back, None)), fails_again)
        assert world.state.worker in (STARTING, REVOKED, ASSIGNED, RUNNING)
        assert world.state.can_commit or world.state.phase in (Phase.ABANDONING, Phase.ABORTING)
        if world.is_tainted:
            assert not world.state.can_commit
        if world.state.worker is RUNNING and world.state.phase is Phase.OPEN:
            assert world.open == world.state.assignment.active
    # One round in which nothing fails is enough.
    assert world.carry_out(world.tell(Round()))
    assert world.state.phase is Phase.OPEN
    assert not world.state.is_owed
    assert world.open == world.state.assignment.active
    assert not world.standby & world.open
    changes = [given_ for (what, *given_), *_ in steps if what == "changed"]
    assert world.acknowledged == (changes[-1][0] if changes else None)
