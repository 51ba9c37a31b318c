"""The member's states, row by row of the protocol: what it sends, when, and what follows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from thalweg.rebalance.actions import (
    Action,
    Answer,
    Describe,
    FindCoordinator,
    Heartbeat,
    Send,
    Tell,
    Wait,
)
from thalweg.rebalance.backoff import Backoff
from thalweg.rebalance.errors import (
    AuthenticationError,
    Code,
    MissingTopicsError,
    RebalanceError,
    RefusedError,
    TopologyRefusedError,
    UnreachableError,
    UnsupportedBrokerError,
)
from thalweg.rebalance.events import (
    Assigned,
    Event,
    Fatal,
    Lost,
    Refused,
    Revoked,
    ShutdownRequested,
    StatusChanged,
)
from thalweg.rebalance.group_codes import Status
from thalweg.rebalance.membership import (
    ACTIVE,
    AT_ONCE,
    ON_INTERVAL,
    PREDECESSORS,
    Membership,
    State,
)
from thalweg.rebalance.values import (
    Endpoint,
    EndpointPartitions,
    GroupIdentity,
    MemberSettings,
    TaskAssignment,
    TaskId,
)

POLL_MS = 60_000


def tasks(*ids: str, standby: Iterable[str] = ()) -> TaskAssignment:
    return TaskAssignment.of(map(task, ids), map(task, standby))


def task(name: str) -> TaskId:
    subtopology_id, partition = name.split("_")
    return TaskId(subtopology_id, int(partition))


A = tasks("0_0", "0_1")
B = tasks("0_0")
NONE = TaskAssignment()


class Watched(Membership):
    """A membership that keeps all states it was in."""

    states: tuple[State, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "state":
            super().__setattr__("states", (*self.states, value))


@dataclass
class Member:
    """A membership with someone who acts for it, and keeps what it was told."""

    settings: dict[str, Any] = field(default_factory=dict)
    now_ms: float = 1_000.0

    def __post_init__(self) -> None:
        self.machine = Watched(
            MemberSettings(
                "g", "m", "p", frozenset({"0", "1"}), rebalance_timeout_ms=POLL_MS, **self.settings
            ),
            random.Random(7),
            Backoff(100, 1_000),
        )
        self.events: list[Event] = []
        self.lookups = 0
        self.sent: Heartbeat | None = None

    @property
    def state(self) -> State:
        return self.machine.state

    def step(self) -> Action:
        """Acts until something has to come from outside: an answer, or time."""
        while True:
            action = self.machine.next_action(self.now_ms)
            if isinstance(action, Tell):
                self.events += action.events
            elif isinstance(action, FindCoordinator):
                self.lookups += 1
                self.machine.coordinator_found()
            else:
                if isinstance(action, Send):
                    self.sent = action.heartbeat
                return action

    def heartbeat(self) -> Heartbeat:
        action = self.step()
        assert isinstance(action, Send), action
        return action.heartbeat

    def waits(self) -> float | None:
        action = self.step()
        assert isinstance(action, Wait), action
        return action.until_ms

    def answer(self, epoch: int, given: TaskAssignment | None = None, **more: Any) -> None:
        assert self.sent is not None
        self.machine.answered(self.sent.number, Answer(epoch, tasks=given, **more), self.now_ms)

    def refuse(self, code: int, message: str = "") -> None:
        assert self.sent is not None
        self.machine.refused(self.sent.number, code, message, self.now_ms)

    def fail(self, error: RebalanceError | None = None) -> None:
        assert self.sent is not None
        error = error or UnreachableError("broken")
        self.machine.failed(self.sent.number, error, self.now_ms)

    def told(self, kind: type) -> list[Any]:
        self.step_events()
        return [event for event in self.events if isinstance(event, kind)]

    def step_events(self) -> None:
        """Takes events only, as long as there are some."""
        while isinstance(action := self.machine.next_action(self.now_ms), Tell):
            self.events += action.events
        if isinstance(action, Send):
            self.sent = action.heartbeat

    def acknowledge(self, runs: TaskAssignment | None = None) -> bool:
        """The owner does what the newest assignment or loss asks."""
        self.step_events()
        newest = next(e for e in reversed(self.events) if isinstance(e, Assigned | Lost))
        if runs is None:
            runs = newest.tasks if isinstance(newest, Assigned) else NONE
        return self.machine.acknowledge(newest.number, runs, self.now_ms)

    def later(self, duration_ms: float) -> None:
        self.now_ms += duration_ms


def joining(**settings: Any) -> Member:
    """A member that has sent its first heartbeat."""
    member = Member(settings)
    member.machine.join(member.now_ms)
    member.heartbeat()
    return member


def stable(given: TaskAssignment = A, epoch: int = 3, **settings: Any) -> Member:
    """A member that runs what it was given."""
    member = joining(**settings)
    member.answer(epoch, given)
    member.acknowledge()
    member.heartbeat()
    member.answer(epoch)
    assert member.state is State.STABLE
    member.waits()
    return member


def reconciling(given: TaskAssignment = A) -> Member:
    member = joining()
    member.answer(3, given)
    assert member.state is State.RECONCILING
    return member


def acknowledging() -> Member:
    member = reconciling()
    member.acknowledge()
    assert member.state is State.ACKNOWLEDGING
    return member


def fenced() -> Member:
    member = due(stable())
    member.refuse(Code.FENCED_MEMBER_EPOCH)
    assert member.state is State.FENCED
    return member


def prepared() -> Member:
    member = stable()
    member.machine.prepare_leave()
    assert member.state is State.PREPARE_LEAVING
    return member


def leaving() -> Member:
    """A member that has to leave, but has not said so yet."""
    member = stable()
    member.machine.leave()
    assert member.state is State.LEAVING
    return member


def stale() -> Member:
    member = stable()
    member.later(POLL_MS + 1)
    member.heartbeat()
    assert member.state is State.STALE
    return member


def fatal() -> Member:
    member = due(stable())
    member.refuse(Code.GROUP_AUTHORIZATION_FAILED)
    assert member.state is State.FATAL
    return member


def due(member: Member) -> Member:
    """Lets the interval pass; the heartbeat is then on its way."""
    member.later(5_000)
    member.heartbeat()
    return member


def in_flight(make: Callable[[], Member]) -> Member:
    """A member in the state that `make` leads to, with a heartbeat on its way if it sends any."""
    if make is acknowledging:
        member = due(reconciling())
        member.acknowledge()
    elif make is leaving:
        member = due(stable())
        member.machine.leave()
    else:
        member = make()
        if member.state in ON_INTERVAL:
            due(member)
    assert member.state is make().state
    return member


# 3.1: the states.

REFERENCE = {
    "UNSUBSCRIBED": "PREPARE_LEAVING LEAVING FENCED",
    "JOINING": "FENCED UNSUBSCRIBED STALE",
    "RECONCILING": "STABLE JOINING ACKNOWLEDGING RECONCILING",
    "ACKNOWLEDGING": "RECONCILING",
    "STABLE": "JOINING ACKNOWLEDGING RECONCILING",
    "FENCED": "JOINING STABLE RECONCILING ACKNOWLEDGING PREPARE_LEAVING LEAVING",
    "PREPARE_LEAVING": "JOINING STABLE RECONCILING ACKNOWLEDGING UNSUBSCRIBED",
    "LEAVING": "PREPARE_LEAVING",
    "STALE": "LEAVING",
    "FATAL": "JOINING STABLE RECONCILING ACKNOWLEDGING PREPARE_LEAVING LEAVING UNSUBSCRIBED",
}


NOT_MADE = {
    # A newer target waits until the older is acknowledged.
    ("RECONCILING", "RECONCILING"),
    # Nothing is stable before it is acknowledged.
    ("JOINING", "STABLE"),
    ("RECONCILING", "STABLE"),
    # Who is thrown out while it leaves has left: it is UNSUBSCRIBED.
    ("PREPARE_LEAVING", "FENCED"),
    ("LEAVING", "FENCED"),
    # Who is not subscribed has nothing to leave, and nothing on its way that could fail.
    ("UNSUBSCRIBED", "PREPARE_LEAVING"),
    ("UNSUBSCRIBED", "FATAL"),
}
"""Moves of the JVM's member that this one does not make."""


def is_thrown_out(member: Member) -> None:
    member.refuse(Code.FENCED_MEMBER_EPOCH)


def fails_for_good(member: Member) -> None:
    member.refuse(Code.GROUP_AUTHORIZATION_FAILED)


def prepares(member: Member) -> None:
    member.machine.prepare_leave()


def leaves(member: Member) -> None:
    member.machine.leave()


def is_given(member: Member) -> None:
    member.answer(4, B)


def acknowledges_the_older(member: Member) -> None:
    member.answer(4, B)
    member.acknowledge()
    member.heartbeat()


def polls_again(member: Member) -> None:
    member.acknowledge()
    member.later(1)
    member.machine.note_poll(member.now_ms)
    member.waits()


def is_silent_for_too_long(member: Member) -> None:
    member.later(POLL_MS + 1)
    member.heartbeat()


MOVES: dict[tuple[str, str], tuple[Callable[[], Member], Callable[[Member], object]]] = {
    ("PREPARE_LEAVING", "UNSUBSCRIBED"): (prepared, is_thrown_out),
    ("LEAVING", "UNSUBSCRIBED"): (leaving, is_thrown_out),
    ("FENCED", "UNSUBSCRIBED"): (fenced, leaves),
    ("FENCED", "JOINING"): (fenced, Member.acknowledge),
    ("UNSUBSCRIBED", "JOINING"): (Member, lambda one: one.machine.join(one.now_ms)),
    ("STALE", "JOINING"): (stale, polls_again),
    ("JOINING", "RECONCILING"): (joining, is_given),
    ("STABLE", "RECONCILING"): (stable, is_given),
    ("ACKNOWLEDGING", "RECONCILING"): (reconciling, acknowledges_the_older),
    ("RECONCILING", "ACKNOWLEDGING"): (reconciling, Member.acknowledge),
    ("ACKNOWLEDGING", "STABLE"): (acknowledging, lambda one: one.answer(3) or one.heartbeat()),
    ("JOINING", "FENCED"): (joining, is_thrown_out),
    ("RECONCILING", "FENCED"): (reconciling, is_thrown_out),
    ("ACKNOWLEDGING", "FENCED"): (acknowledging, is_thrown_out),
    ("STABLE", "FENCED"): (stable, is_thrown_out),
    ("JOINING", "PREPARE_LEAVING"): (joining, prepares),
    ("RECONCILING", "PREPARE_LEAVING"): (reconciling, prepares),
    ("ACKNOWLEDGING", "PREPARE_LEAVING"): (acknowledging, prepares),
    ("STABLE", "PREPARE_LEAVING"): (stable, prepares),
    ("PREPARE_LEAVING", "LEAVING"): (prepared, leaves),
    ("LEAVING", "STALE"): (stable, lambda one: one.answer(3) or is_silent_for_too_long(one)),
    ("JOINING", "FATAL"): (joining, fails_for_good),
    ("RECONCILING", "FATAL"): (reconciling, fails_for_good),
    ("ACKNOWLEDGING", "FATAL"): (acknowledging, fails_for_good),
    ("STABLE", "FATAL"): (stable, fails_for_good),
    ("PREPARE_LEAVING", "FATAL"): (prepared, fails_for_good),
    ("LEAVING", "FATAL"): (leaving, fails_for_good),
}
"""From where to where: a member with a heartbeat on its way, if it sends any; what happens."""


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_a_member_moves_as_the_jvms_does(before: str, after: str) -> None:
    make, happens = MOVES[before, after]
    member = in_flight(make)
    happens(member)

    states = [state.name for state in member.machine.states]
    assert (before, after) in itertools.pairwise(states)


def test_moves_are_those_of_the_jvm_but_for_a_few() -> None:
    allowed = {
        (before.name, after.name) for after, befores in PREDECESSORS.items() for before in befores
    }
    jvm = {(before, after) for after, befores in REFERENCE.items() for before in befores.split()}

    assert allowed == set(MOVES), "each is made above"
    assert jvm - allowed == NOT_MADE
    assert allowed <= jvm


def test_states_are_silent_or_at_once_or_on_interval() -> None:
    assert {state.name for state in AT_ONCE} == {"JOINING", "ACKNOWLEDGING", "LEAVING"}
    assert {state.name for state in ON_INTERVAL} == {"RECONCILING", "STABLE", "PREPARE_LEAVING"}
    assert ACTIVE <= AT_ONCE | ON_INTERVAL


def test_an_unsubscribed_member_is_silent() -> None:
    member = Member()

    assert member.waits() is None
    assert member.lookups == 0
    assert member.machine.is_out


def test_a_joining_member_sends_at_once_with_epoch_0_and_no_tasks() -> None:
    member = joining()

    assert member.lookups == 1
    assert member.sent == Heartbeat(1, 0, -1, NONE)
    assert member.waits() is None, "one heartbeat at a time"
    assert not member.machine.identity.is_member


def test_a_reconciling_member_sends_on_interval() -> None:
    member = reconciling()
    assert member.waits() == member.now_ms + 5_000

    member.later(5_000)

    assert member.heartbeat() == Heartbeat(3, 3, -1, None)


def test_an_acknowledging_member_sends_at_once() -> None:
    member = acknowledging()

    assert member.heartbeat().owned == A
    assert member.state is State.STABLE


def test_a_stable_member_sends_on_interval_and_says_nothing_again() -> None:
    member = stable()
    assert member.waits() == member.now_ms + 5_000

    member.later(5_000)

    assert member.heartbeat().owned is None


def test_a_fenced_member_is_silent_until_its_tasks_are_released() -> None:
    member = fenced()
    assert member.waits() is None

    assert member.acknowledge()

    assert member.state is State.JOINING
    assert member.heartbeat().is_joining


def test_a_member_that_prepares_to_leave_is_still_one() -> None:
    member = prepared()
    assert member.waits() == member.now_ms + 5_000

    member.later(5_000)
    sent = member.heartbeat()

    assert (sent.epoch, sent.owned) == (3, None)
    assert member.machine.identity == GroupIdentity("m", 3)


def test_a_leaving_member_sends_at_once_with_epoch_minus_1() -> None:
    member = leaving()

    sent = member.heartbeat()

    assert (sent.epoch, sent.owned) == (-1, None)
    assert member.state is State.UNSUBSCRIBED
    assert not member.machine.is_out, "the answer is awaited"
    member.answer(-1, interval_ms=0)
    assert member.machine.is_out


def test_a_stale_member_is_silent() -> None:
    member = stale()
    member.answer(-1, interval_ms=0)

    assert member.waits() is None


def test_a_fatal_member_is_silent_for_ever() -> None:
    member = fatal()

    assert member.waits() is None
    member.later(1_000_000)
    assert member.waits() is None
    assert member.machine.is_out


# 3.1: the events.


def test_the_first_assignment_is_reconciled_even_when_it_is_empty() -> None:
    member = joining()
    member.answer(1, NONE)

    (assigned,) = member.told(Assigned)
    assert assigned.tasks == NONE
    assert member.state is State.RECONCILING
    member.acknowledge()
    assert member.heartbeat().owned == NONE


def test_a_join_answered_without_lists_gives_nothing() -> None:
    member = joining()
    member.answer(1, None)

    (assigned,) = member.told(Assigned)
    assert assigned.tasks == NONE


def test_an_assignment_that_is_already_run_changes_nothing() -> None:
    member = due(stable())
    member.answer(3, A)

    assert member.state is State.STABLE
    assert len(member.told(Assigned)) == 1


def test_an_assignment_taken_away_is_revoked_first_and_acknowledged_at_once() -> None:
    member = due(stable())
    member.events.clear()
    member.answer(3, B)

    member.step_events()
    assert member.events == [
        Revoked(frozenset({task("0_1")})),
        Assigned(member.events[-1].number, B),  # type: ignore[union-attr]
    ]
    assert member.waits() is not None, "not before the owner says so"
    member.acknowledge()
    sent = member.heartbeat()
    assert (sent.epoch, sent.owned) == (3, B)


def test_only_active_tasks_are_revoked() -> None:
    member = due(stable(tasks("0_0", standby=["0_1"])))
    member.events.clear()
    member.answer(3, tasks("0_0", "0_1"))
    assert [type(event) for event in self_events(member)] == [Assigned]

    member.acknowledge()
    member.heartbeat()
    member.answer(3, tasks("0_0", standby=["0_1"]))

    (revoked,) = member.told(Revoked)
    assert revoked.tasks == {task("0_1")}


def self_events(member: Member) -> list[Event]:
    member.step_events()
    return member.events


def test_a_newer_assignment_waits_for_the_acknowledgement_of_the_older() -> None:
    member = reconciling(A)
    member.later(5_000)
    member.heartbeat()
    member.answer(4, B)
    assert len(member.told(Assigned)) == 1

    member.acknowledge()
    sent = member.heartbeat()

    assert sent.owned == A
    assert member.state is State.RECONCILING
    member.answer(4)
    assert [event.tasks for event in member.told(Assigned)] == [A, B]
    member.acknowledge()
    assert member.heartbeat().owned == B


def test_what_is_opened_before_the_answer_is_named_with_the_acknowledgement() -> None:
    """Else the broker may give it to others, while the owner opens it."""
    member = joining()
    member.answer(1, NONE)
    member.later(5_000)
    member.heartbeat()
    member.answer(2, A)
    member.acknowledge(NONE)

    assert member.heartbeat().owned == A
    assert [event.tasks for event in member.told(Assigned)] == [NONE, A]


def test_what_is_being_opened_and_closed_is_named_when_lists_are_sent_again() -> None:
    member = due(stable(tasks("0_0", "0_1")))
    member.answer(4, tasks("0_0", "1_0"))
    due(member)
    member.refuse(14)
    member.later(200)

    assert member.heartbeat().owned == tasks("0_0", "0_1", "1_0")
    member.answer(4)
    member.acknowledge()
    assert member.heartbeat().owned == tasks("0_0", "1_0")


def test_an_assignment_that_went_and_came_back_is_acknowledged_once() -> None:
    member = reconciling(A)
    for given in (B, A):
        member.later(5_000)
        member.heartbeat()
        member.answer(3, given)

    member.acknowledge()
    member.heartbeat()

    assert member.state is State.STABLE


def test_an_acknowledgement_is_not_overtaken_by_a_newer_assignment() -> None:
    member = reconciling(A)
    member.later(5_000)
    member.heartbeat()
    member.acknowledge()
    member.answer(4, B)

    assert member.heartbeat().owned == A
    assert member.state is State.RECONCILING


def test_tasks_that_could_not_be_opened_are_not_claimed_nor_offered_again() -> None:
    member = reconciling(A)
    member.acknowledge(B)

    assert member.heartbeat().owned == B
    assert member.state is State.STABLE
    member.answer(3)
    assert member.waits() == member.now_ms + 5_000


def test_nobody_claims_a_task_that_was_not_given() -> None:
    member = reconciling(B)

    with pytest.raises(ValueError, match="the assignment is active 0_0, but what runs is"):
        member.acknowledge(A)
    with pytest.raises(ValueError, match="the assignment is active 0_0, but what runs is"):
        member.acknowledge(tasks(standby=["0_0"]))


def test_the_epoch_of_every_answer_is_adopted_also_while_reconciling() -> None:
    member = reconciling()
    assert member.machine.identity.epoch == 3
    member.later(5_000)
    member.heartbeat()
    member.answer(7)

    assert member.machine.identity == GroupIdentity("m", 7)


def test_an_epoch_never_goes_back() -> None:
    member = due(stable(epoch=5))
    member.answer(4)

    assert member.state is State.FENCED
    assert member.machine.identity.epoch == 0


@pytest.mark.parametrize("make", [reconciling, acknowledging, stable])
@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.FENCED_MEMBER_EPOCH])
def test_a_member_thrown_out_loses_its_tasks_and_joins_with_the_same_id(
    make: Any, code: Code
) -> None:
    member = in_flight(make)
    member.refuse(code, "who?")

    assert member.machine.identity == GroupIdentity("m", 0)
    assert member.state is State.FENCED
    (loss,) = member.told(Lost)
    assert loss.reason == f"{code.name} ({code}) who?"
    member.acknowledge()
    sent = member.heartbeat()
    assert (sent.epoch, sent.owned) == (0, NONE)


def test_who_has_no_tasks_to_lose_joins_again_at_once() -> None:
    member = joining()
    member.refuse(Code.FENCED_MEMBER_EPOCH)

    assert member.heartbeat().is_joining
    assert member.told(Lost) == []


def test_a_task_may_not_run_after_it_was_lost() -> None:
    member = fenced()

    with pytest.raises(ValueError, match="after a loss nothing may run"):
        member.acknowledge(B)
    assert member.state is State.FENCED


def test_an_acknowledgement_of_what_was_lost_meanwhile_does_not_count() -> None:
    member = reconciling()
    assigned = member.told(Assigned)[0]
    member.later(5_000)
    member.heartbeat()
    member.refuse(Code.FENCED_MEMBER_EPOCH)

    assert not member.machine.acknowledge(assigned.number, A, member.now_ms)
    assert member.state is State.FENCED


def test_an_acknowledgement_from_before_a_rejoin_does_not_count_after_it() -> None:
    member = reconciling()
    assigned = member.told(Assigned)[0]
    member.later(5_000)
    member.heartbeat()
    member.refuse(Code.FENCED_MEMBER_EPOCH)
    member.acknowledge()
    member.heartbeat()
    member.answer(9, A)

    assert not member.machine.acknowledge(assigned.number, A, member.now_ms)
    assert member.state is State.RECONCILING


def test_an_assignment_that_is_lost_before_it_is_told_is_not_told() -> None:
    member = reconciling()
    member.later(POLL_MS + 1)

    assert [type(event) for event in self_events(member)] == [Lost]


@pytest.mark.parametrize("make", [prepared, leaving])
@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.FENCED_MEMBER_EPOCH])
def test_a_member_thrown_out_while_it_leaves_is_out(make: Any, code: Code) -> None:
    member = in_flight(make)
    member.refuse(code)

    assert member.state is State.UNSUBSCRIBED
    assert member.told(Lost) == []
    assert member.machine.is_out


@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.GROUP_ID_NOT_FOUND])
def test_what_is_answered_to_a_good_bye_does_not_matter(code: Code) -> None:
    member = leaving()
    member.heartbeat()
    member.refuse(code)

    assert member.state is State.UNSUBSCRIBED
    assert member.machine.is_out
    assert member.told(Fatal) == []


def test_a_good_bye_that_gets_lost_is_not_repeated() -> None:
    member = leaving()
    member.heartbeat()
    member.fail()

    assert member.machine.is_out
    assert member.waits() is None


def test_a_good_bye_without_a_coordinator_is_not_sent() -> None:
    member = due(stable())
    member.fail()
    member.machine.leave()

    # Who waits for its end looks again at once: nothing else happens any more.
    assert member.waits() == member.now_ms
    assert member.waits() is None
    assert member.state is State.UNSUBSCRIBED
    assert member.lookups == 1


def test_a_good_bye_is_not_sent_when_the_lookup_fails() -> None:
    member = Member()
    member.machine.join(member.now_ms)
    assert member.machine.next_action(member.now_ms) == FindCoordinator()
    member.machine.leave()
    member.machine.coordinator_failed(UnreachableError("no"), member.now_ms)

    assert member.state is State.UNSUBSCRIBED


def test_a_good_bye_waits_for_the_answer_that_is_due_and_ignores_it() -> None:
    member = due(stable())
    member.machine.leave()
    assert member.waits() is None

    member.answer(9, B)

    assert member.heartbeat().is_leaving
    assert member.told(Revoked) == []


@pytest.mark.parametrize("make", [fenced, stale])
def test_who_is_out_already_leaves_without_a_word(make: Any) -> None:
    member = make()
    if member.state is State.STALE:
        member.answer(-1)
    member.machine.leave()
    member.machine.note_poll(member.now_ms + 1)
    member.later(2)

    assert member.waits() is None
    assert member.machine.is_out


def test_who_leaves_is_told_of_no_more_tasks() -> None:
    member = joining()
    member.answer(3, A)
    member.machine.leave()

    assert member.told(Assigned) == []


def test_leaving_twice_is_leaving_once() -> None:
    member = leaving()
    member.machine.leave()
    assert member.heartbeat().is_leaving
    member.machine.leave()
    member.answer(-1)

    assert member.machine.is_out


def test_a_member_that_was_never_let_in_says_good_bye_too() -> None:
    member = joining()
    member.machine.leave()
    member.answer(3, A)

    assert member.heartbeat().is_leaving
    assert member.told(Assigned) == []


def test_who_left_may_come_back() -> None:
    member = leaving()
    member.heartbeat()
    member.answer(-1)
    member.machine.join(member.now_ms)

    assert member.heartbeat().is_joining


# 3.6: the owner hangs.


def test_who_does_not_poll_leaves_and_loses_its_tasks() -> None:
    member = stable()
    assert member.waits() == member.now_ms + 5_000
    member.later(POLL_MS)
    member.heartbeat()
    member.answer(3)
    member.later(1)

    sent = member.heartbeat()

    assert sent.is_leaving
    assert member.state is State.STALE
    (lost,) = member.told(Lost)
    assert lost.reason == (
        f"the processing loop has not polled for {POLL_MS + 1} ms, longer than {POLL_MS} ms"
    )
    assert not member.machine.identity.is_member


def test_who_polls_again_and_released_its_tasks_joins_again() -> None:
    member = stale()
    member.answer(-1, interval_ms=0)
    member.machine.note_poll(member.now_ms + 1)
    member.later(1)
    assert member.waits() is None, "the tasks are not released"

    member.acknowledge()

    assert member.heartbeat().is_joining


def test_who_released_its_tasks_but_does_not_poll_stays_out() -> None:
    member = stale()
    member.answer(-1, interval_ms=0)
    member.acknowledge()

    assert member.waits() is None
    member.machine.note_poll(member.now_ms + 1)
    member.later(1)
    assert member.heartbeat().is_joining


def test_a_late_answer_to_a_good_bye_does_not_stop_the_next_join() -> None:
    member = stale()
    member.acknowledge()
    member.machine.note_poll(member.now_ms + 1)
    member.later(1)
    assert member.waits() is None
    assert member.state is State.JOINING

    member.answer(-1, interval_ms=0)

    assert member.heartbeat().is_joining
    assert member.machine.interval_ms == 5_000


def test_who_polls_stays() -> None:
    member = stable()
    for _ in range(20):
        member.machine.note_poll(member.now_ms)
        due(member)
        member.answer(3)

    assert member.state is State.STABLE
    assert member.told(Lost) == []


def test_it_wakes_up_for_the_poll_that_does_not_come() -> None:
    member = stable()
    member.later(4_000)
    due(member)
    member.answer(3, interval_ms=POLL_MS)

    assert member.waits() == 1_000.0 + POLL_MS


def test_who_hangs_without_a_coordinator_is_out_all_the_same() -> None:
    member = due(stable())
    member.fail()
    member.later(POLL_MS)

    assert member.waits() == member.now_ms
    assert member.waits() is None
    assert member.state is State.STALE


# 2.2: error codes. Each row of the table.


def test_14_the_coordinator_loads_keep_it_and_try_again_after_a_while() -> None:
    member = due(stable())
    member.refuse(14)

    until_ms = member.waits()
    assert until_ms is not None
    assert 80 <= until_ms - member.now_ms <= 120
    assert member.lookups == 1
    member.later(120)
    assert member.heartbeat().owned == A, "all lists again after an error"
    assert member.state is State.STABLE


@pytest.mark.parametrize("code", [15, 16])
@pytest.mark.parametrize("make", [joining, stable])
def test_15_and_16_look_the_coordinator_up_and_send_as_soon_as_it_is_found(
    code: int, make: Any
) -> None:
    member = in_flight(make)
    before = member.state
    member.refuse(code)

    assert member.heartbeat().owned is not None
    assert member.lookups == 2
    assert member.state is before


def test_15_and_16_again_and_again_do_not_flood() -> None:
    member = joining()
    waits = []
    for _ in range(8):
        member.refuse(16)
        action = member.step()
        if isinstance(action, Wait):
            assert action.until_ms is not None
            waits.append(action.until_ms - member.now_ms)
            member.now_ms = action.until_ms
            member.heartbeat()

    assert len(waits) == 7, "only the first was free"
    assert all(80 <= wait <= 1_000.001 for wait in waits)
    assert waits[-1] > 700


def test_25_and_110_again_and_again_do_not_flood() -> None:
    member = joining()
    member.refuse(110)
    assert member.heartbeat().is_joining
    member.refuse(110)

    until_ms = member.waits()
    assert until_ms is not None
    assert until_ms >= member.now_ms + 80


def test_29_is_reported_once_and_tried_again() -> None:
    member = due(stable())
    member.refuse(29, "topics t")
    (refused,) = member.told(Refused)
    assert isinstance(refused.error, RefusedError)
    assert "grant DESCRIBE" in refused.error.message
    assert "TOPIC_AUTHORIZATION_FAILED (29): topics t" in refused.error.message
    assert member.state is State.STABLE
    assert member.waits() is not None

    member.later(2_000)
    member.heartbeat()
    member.refuse(29, "topics t")
    assert len(member.told(Refused)) == 1

    member.later(2_000)
    member.heartbeat()
    member.answer(3)
    due(member)
    member.refuse(29)
    assert len(member.told(Refused)) == 2


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (30, RefusedError, "grant READ on the group"),
        (31, RefusedError, "CLUSTER_AUTHORIZATION_FAILED (31)"),
        (35, UnsupportedBrokerError, "must be Kafka 4.2.1 or newer"),
        (42, RefusedError, "INVALID_REQUEST (42): said"),
        (81, RefusedError, "group.streams.max.size"),
        (82, RefusedError, "FENCED_INSTANCE_ID (82)"),
        (111, RefusedError, "UNRELEASED_INSTANCE_ID (111)"),
        (130, TopologyRefusedError, "STREAMS_INVALID_TOPOLOGY (130)"),
        (131, TopologyRefusedError, "STREAMS_INVALID_TOPOLOGY_EPOCH (131)"),
        (132, TopologyRefusedError, "STREAMS_TOPOLOGY_FENCED (132)"),
        (-1, RefusedError, "UNKNOWN_SERVER_ERROR (-1)"),
        (113, RefusedError, "STALE_MEMBER_EPOCH (113)"),
        (4711, RefusedError, "error 4711: said"),
    ],
)
@pytest.mark.parametrize("make", [joining, reconciling, acknowledging, stable])
def test_other_codes_are_the_end(
    code: int, kind: type[RebalanceError], words: str, make: Any
) -> None:
    member = in_flight(make)
    had_tasks = make is not joining
    member.refuse(code, "said")

    (end,) = member.told(Fatal)
    assert type(end.error) is kind
    assert end.error.code == code
    assert words in end.error.message
    assert member.state is State.FATAL
    assert bool(member.told(Lost)) == had_tasks
    assert not member.machine.identity.is_member
    assert member.waits() is None


def test_42_for_another_topology_says_so() -> None:
    member = joining()
    member.refuse(42, "Topology updates are not supported yet.")

    (end,) = member.told(Fatal)
    assert isinstance(end.error, TopologyRefusedError)
    assert "a group keeps the topology it began with" in end.error.message


def test_69_a_group_deleted_under_its_members_is_made_again() -> None:
    member = due(stable())
    member.refuse(69, "Group g not found.")

    assert member.state is State.FENCED


@pytest.mark.parametrize("make", [joining, stable])
def test_69_a_group_of_another_type_is_the_end(make: Any) -> None:
    member = in_flight(make)
    member.refuse(69, "Group g is not a streams group.")

    (end,) = member.told(Fatal)
    assert "use an application id that no other kind of group has" in end.error.message


@pytest.mark.parametrize("make", [joining, stable])
def test_135_a_topology_that_was_not_described_is_no_failure(make: Any) -> None:
    member = in_flight(make)
    before, epoch = member.state, member.machine.identity.epoch
    member.refuse(Code.STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED, "the plug-in failed")

    assert member.waits() == member.now_ms + 5_000, "no sooner than the next heartbeat"
    assert member.told(Fatal) == member.told(Lost) == member.told(Refused) == []
    member.later(5_000)
    sent = member.heartbeat()
    assert (sent.epoch, sent.owned) == (epoch, member.machine.owned), "all lists again"
    assert member.lookups == 1
    assert member.state is before


def test_a_broken_connection_drops_the_coordinator_and_is_tried_again() -> None:
    member = due(stable())
    member.fail()

    until_ms = member.waits()
    assert until_ms is not None
    assert 80 <= until_ms - member.now_ms <= 120
    member.later(120)
    assert member.heartbeat().owned == A
    assert member.lookups == 2
    assert member.state is State.STABLE


def test_a_connection_that_can_never_be_is_the_end() -> None:
    member = due(stable())
    error = AuthenticationError("wrong password")
    member.fail(error)

    assert member.told(Fatal) == [Fatal(error)]
    assert member.state is State.FATAL


def test_a_lookup_that_fails_is_tried_again_ever_more_slowly() -> None:
    member = Member()
    member.machine.join(member.now_ms)
    waits = []
    for _ in range(10):
        assert member.machine.next_action(member.now_ms) == FindCoordinator()
        member.machine.coordinator_failed(UnreachableError("no"), member.now_ms)
        action = member.machine.next_action(member.now_ms)
        assert isinstance(action, Wait)
        assert action.until_ms is not None
        waits.append(action.until_ms - member.now_ms)
        member.now_ms = action.until_ms

    assert 80 <= waits[0] <= 120
    assert all(80 <= wait <= 1_000.001 for wait in waits)
    assert all(wait >= 800 for wait in waits[5:])


def test_a_lookup_that_is_refused_for_good_is_the_end() -> None:
    member = Member()
    member.machine.join(member.now_ms)
    member.machine.next_action(member.now_ms)
    error = RefusedError("no", code=Code.GROUP_AUTHORIZATION_FAILED)
    member.machine.coordinator_failed(error, member.now_ms)

    assert member.told(Fatal) == [Fatal(error)]


@pytest.mark.parametrize("make", [prepared, leaving])
def test_an_error_that_is_the_end_while_leaving_takes_no_tasks(make: Any) -> None:
    member = in_flight(make)
    member.refuse(30)

    assert member.state is State.FATAL
    assert member.told(Lost) == []


def test_success_forgets_failures() -> None:
    member = due(stable())
    for _ in range(6):
        member.refuse(14)
        member.later(1_000)
        member.heartbeat()
    member.answer(3)
    due(member)
    member.refuse(14)

    until_ms = member.waits()
    assert until_ms is not None
    assert until_ms - member.now_ms <= 120


def test_an_answer_with_an_epoch_no_broker_gives_is_none() -> None:
    member = joining()
    member.answer(0, A)

    assert member.state is State.JOINING
    assert member.waits() is not None, "no flood"
    assert member.told(Assigned) == []


# Stale answers.


def test_an_answer_to_another_heartbeat_is_ignored() -> None:
    member = due(stable())
    assert member.sent is not None
    old = member.sent.number - 1
    member.machine.answered(old, Answer(99, tasks=B), member.now_ms)
    member.machine.refused(old, 30, "", member.now_ms)
    member.machine.failed(old, UnreachableError("late"), member.now_ms)

    assert member.state is State.STABLE
    assert member.machine.identity.epoch == 3
    assert member.waits() is None, "the answer is still awaited"


def test_an_answer_counts_once() -> None:
    member = due(stable())
    member.answer(4)
    member.answer(99, B)

    assert member.machine.identity.epoch == 4
    assert member.told(Revoked) == []


# 3.8: an answer that gets lost is never repeated.


def lost_answer() -> Member:
    member = due(stable())
    member.fail()
    member.later(200)
    assert member.heartbeat().owned == A
    return member


def test_after_a_lost_answer_the_group_is_asked() -> None:
    member = lost_answer()
    member.answer(4)

    assert isinstance(member.step(), Describe)
    assert member.waits() is None, "one thing at a time"


def test_what_the_lost_answer_took_away_is_revoked() -> None:
    member = lost_answer()
    member.answer(4)
    member.step()
    member.machine.described(4, B)

    assert member.told(Revoked) == [Revoked(frozenset({task("0_1")}))]
    member.acknowledge()
    assert member.heartbeat().owned == B


def test_what_the_lost_answer_gave_is_taken() -> None:
    member = lost_answer()
    member.answer(4)
    member.step()
    member.machine.described(4, tasks("0_0", "0_1", "1_0"))

    assert member.told(Assigned)[-1].tasks == tasks("0_0", "0_1", "1_0")


def test_if_nothing_was_lost_nothing_happens_and_nobody_asks_again() -> None:
    member = lost_answer()
    member.answer(3)
    member.step()
    member.machine.described(3, A)

    assert member.state is State.STABLE
    due(member)
    member.answer(3)
    assert member.waits() is not None


def test_an_answer_with_lists_makes_asking_needless() -> None:
    member = lost_answer()
    member.answer(4, B)

    assert isinstance(member.step(), Wait)
    assert len(member.told(Revoked)) == 1


@pytest.mark.parametrize("epoch", [None, 5])
def test_if_the_group_cannot_tell_it_is_asked_after_the_next_heartbeat(epoch: int | None) -> None:
    member = lost_answer()
    member.answer(4)
    member.step()
    member.machine.described(epoch, B)
    assert isinstance(member.step(), Wait)
    assert member.told(Revoked) == []

    due(member)
    member.answer(4)

    assert isinstance(member.step(), Describe)


def test_what_the_group_says_waits_for_an_acknowledgement_on_its_way() -> None:
    member = due(stable())
    member.fail()
    member.later(200)
    member.heartbeat()
    member.answer(4, B)
    member.told(Assigned)
    due(member)
    member.fail()
    member.later(200)
    member.heartbeat()
    member.answer(4)
    member.step()
    member.acknowledge()
    member.machine.described(4, tasks("0_0", "1_0"))

    assert member.heartbeat().owned == tasks("0_0", "1_0"), "what is opened before the answer too"
    assert member.told(Assigned)[-1].tasks == tasks("0_0", "1_0")


def test_a_join_needs_no_asking() -> None:
    member = joining()
    member.fail()
    member.later(200)
    assert member.heartbeat().is_joining
    member.answer(4, A)

    assert isinstance(member.step(), Wait)


# Interval.


def test_the_broker_sets_the_interval() -> None:
    member = due(stable())
    member.later(100)
    member.answer(3, interval_ms=700)

    assert member.waits() == member.now_ms + 600, "it counts from when it was sent"


@pytest.mark.parametrize("interval_ms", [0, -5])
def test_an_interval_that_is_none_is_not_adopted(interval_ms: int) -> None:
    member = due(stable())
    member.answer(3, interval_ms=interval_ms)

    assert member.machine.interval_ms == 5_000


def test_who_is_suspected_to_be_out_asks_at_once() -> None:
    member = stable()
    member.machine.suspect(member.now_ms)

    assert member.heartbeat().epoch == 3


# 2.1: statuses.


def status(*codes: int, detail: str = "d") -> tuple[Status, ...]:
    return tuple(Status(code, detail) for code in codes)


def test_a_status_is_told_when_it_changes() -> None:
    member = stable()
    for statuses in (status(0), status(0), status(6, 99), (), ()):
        due(member)
        member.answer(3, statuses=statuses)

    assert [event.statuses for event in member.told(StatusChanged)] == [
        status(0), status(6, 99), (),
    ]  # fmt: skip
    assert member.told(Fatal) == []
    assert member.state is State.STABLE


@pytest.mark.parametrize("code", [1, 2, 3, 5])
def test_a_group_without_its_topics_is_not_ready(code: int) -> None:
    member = joining()
    member.answer(1, NONE, statuses=status(code))

    (changed,) = member.told(StatusChanged)
    assert not changed.is_ready
    assert not member.machine.is_ready


@pytest.mark.parametrize("code", [0, 4, 6, 99])
def test_other_statuses_do_not_stop_a_group(code: int) -> None:
    member = joining()
    member.answer(1, NONE, statuses=status(code))

    assert member.machine.is_ready


def test_a_delay_stops_nobody_who_has_tasks() -> None:
    member = due(stable())
    member.answer(3, statuses=status(5))

    assert member.machine.is_ready


def test_1_missing_source_topics_may_appear() -> None:
    member = joining()
    member.answer(1, NONE, statuses=status(1))
    member.acknowledge()
    member.later(9_000)
    member.heartbeat()
    member.answer(1, statuses=status(1))
    assert member.told(Fatal) == []

    due(member)
    member.answer(2, A)

    assert [event.is_ready for event in member.told(StatusChanged)] == [False, True]
    assert member.told(Fatal) == []


def test_1_missing_source_topics_that_stay_missing_are_the_end() -> None:
    member = joining()
    member.answer(1, NONE, statuses=status(1, detail="Source topics t are missing."))
    member.acknowledge()
    for _ in range(4):
        member.later(5_000)
        member.heartbeat()
        member.answer(1, statuses=status(1, detail="Source topics t are missing."))

    (end,) = member.told(Fatal)
    assert isinstance(end.error, MissingTopicsError)
    assert "Source topics t are missing." in end.error.message
    assert member.state is not State.FATAL, "it leaves as any member does"


def test_1_how_long_source_topics_may_be_missing_can_be_set() -> None:
    member = joining(missing_topics_timeout_ms=0)
    member.answer(1, NONE, statuses=status(1))

    assert len(member.told(Fatal)) == 1


def test_2_partition_counts_that_do_not_fit_are_the_end_at_once() -> None:
    member = joining()
    member.answer(1, NONE, statuses=status(2, detail="expected 3, found 4"))

    (end,) = member.told(Fatal)
    assert isinstance(end.error, TopologyRefusedError)
    assert "expected 3, found 4" in end.error.message


def test_3_missing_internal_topics_are_waited_for() -> None:
    member = joining()
    member.answer(1, NONE, statuses=status(3))
    member.acknowledge()
    member.heartbeat()
    for _ in range(10):
        member.answer(1, statuses=status(3))
        due(member)

    assert member.told(Fatal) == []
    assert len(member.told(StatusChanged)) == 1


def test_4_a_shutdown_is_told_once() -> None:
    member = due(stable())
    member.answer(3, statuses=status(4))
    due(member)
    member.answer(3)
    due(member)
    member.answer(3, statuses=status(4))

    assert member.told(ShutdownRequested) == [ShutdownRequested()]


# Shutdown of all.


def test_a_shutdown_is_asked_for_at_once_and_in_every_heartbeat_from_then_on() -> None:
    member = stable()
    member.machine.request_shutdown()
    assert member.heartbeat().is_shutting_down
    member.answer(3)
    assert member.waits() is not None

    assert due(member).sent.is_shutting_down  # type: ignore[union-attr]


def test_a_shutdown_rides_on_the_good_bye() -> None:
    member = stable()
    member.machine.request_shutdown()
    member.machine.leave()

    sent = member.heartbeat()

    assert sent.is_leaving
    assert sent.is_shutting_down


# End points.


def test_end_points_are_kept_until_others_come() -> None:
    here = {Endpoint("h", 1): EndpointPartitions({"t": frozenset({0})})}
    member = due(stable())
    member.answer(3, endpoint_epoch=2, endpoints=here)
    assert due(member).sent.endpoint_epoch == 2  # type: ignore[union-attr]
    member.answer(3, endpoint_epoch=2)
    assert member.machine.endpoints == here

    due(member)
    member.answer(3, endpoint_epoch=3, endpoints={})

    assert member.machine.endpoints == {}


def test_a_rejoin_keeps_the_epoch_of_the_end_points() -> None:
    member = due(stable())
    member.answer(3, endpoint_epoch=2)
    due(member)
    member.refuse(110)
    member.acknowledge()

    assert member.heartbeat().endpoint_epoch == 2


HERE = Endpoint("h", 1)


def test_a_join_tells_the_end_point_and_nothing_else_does() -> None:
    member = joining(endpoint=HERE)
    assert member.sent is not None
    assert member.sent.tells_endpoint
    member.answer(3, A)
    member.acknowledge()

    assert not member.heartbeat().tells_endpoint


def test_a_broker_that_fails_at_the_end_point_hears_it_when_topics_are_there() -> None:
    member = joining(endpoint=HERE, missing_topics_timeout_ms=60_000)
    member.refuse(Code.UNKNOWN_SERVER_ERROR)
    sent = member.heartbeat()
    assert sent.is_joining
    assert not sent.tells_endpoint
    member.answer(1, NONE, statuses=status(1))
    member.acknowledge()
    assert not member.heartbeat().tells_endpoint
    member.answer(1, A)

    sent = member.heartbeat()
    assert sent.is_joining
    assert sent.tells_endpoint
    assert [event.tasks for event in member.told(Assigned)] == [NONE], "nothing runs yet"
    member.answer(2, A)
    member.acknowledge()
    assert member.heartbeat().owned == A
    assert member.told(Lost) == []


def test_an_offer_of_nothing_does_not_keep_the_end_point_back() -> None:
    member = joining(endpoint=HERE)
    member.refuse(Code.UNKNOWN_SERVER_ERROR)
    member.heartbeat()
    member.answer(1, NONE, statuses=status(1))
    member.later(5_000)
    member.heartbeat()
    member.answer(1, None, statuses=status(3))

    assert member.heartbeat().tells_endpoint
    assert not member.acknowledge(), "it was overtaken"
    member.answer(2, A)
    assert member.acknowledge()


def test_a_broker_that_fails_at_the_end_point_whatever_it_says_is_the_end() -> None:
    member = joining(endpoint=HERE)
    for _ in range(3):
        member.refuse(Code.UNKNOWN_SERVER_ERROR)
        member.heartbeat()
        member.answer(1, NONE)
        assert member.heartbeat().tells_endpoint
    member.refuse(Code.UNKNOWN_SERVER_ERROR)

    assert len(member.told(Fatal)) == 1


def test_a_broker_that_fails_without_the_end_point_too_is_the_end() -> None:
    member = joining(endpoint=HERE)
    member.refuse(Code.UNKNOWN_SERVER_ERROR)
    member.heartbeat()
    member.refuse(Code.UNKNOWN_SERVER_ERROR)

    assert len(member.told(Fatal)) == 1


# Unknown tasks.


def test_a_task_of_another_topology_is_the_end() -> None:
    member = joining()
    member.answer(3, tasks("0_0", "7_0"))

    (end,) = member.told(Fatal)
    assert "assigns tasks of subtopology 7, which this topology does not have" in end.error.message
    assert member.state is State.FATAL


# Every state meets every input.

STATES = {
    State.UNSUBSCRIBED: Member,
    State.JOINING: joining,
    State.RECONCILING: reconciling,
    State.ACKNOWLEDGING: acknowledging,
    State.STABLE: stable,
    State.FENCED: fenced,
    State.PREPARE_LEAVING: prepared,
    State.LEAVING: leaving,
    State.STALE: stale,
    State.FATAL: fatal,
}
INPUTS = {
    "poll": lambda one: one.machine.note_poll(one.now_ms),
    "prepare": lambda one: one.machine.prepare_leave(),
    "leave": lambda one: one.machine.leave(),
    "shutdown": lambda one: one.machine.request_shutdown(),
    "suspect": lambda one: one.machine.suspect(one.now_ms),
    "answer": lambda one: one.sent and one.answer(4, B),
    "answer without lists": lambda one: one.sent and one.answer(4),
    "refuse 25": lambda one: one.sent and one.refuse(25),
    "refuse 16": lambda one: one.sent and one.refuse(16),
    "refuse 42": lambda one: one.sent and one.refuse(42),
    "fail": lambda one: one.sent and one.fail(),
    "fail for good": lambda one: one.sent and one.fail(AuthenticationError("no")),
    "wrong acknowledgement": lambda one: one.machine.acknowledge(-1, A, one.now_ms),
    "silence": lambda one: one.later(POLL_MS + 1),
    "no coordinator": lambda one: one.machine.coordinator_failed(
        UnreachableError("no"), one.now_ms
    ),
    "description": lambda one: one.machine.described(3, B),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("first", INPUTS)
@pytest.mark.parametrize("in_flight", [False, True])
def test_every_state_takes_every_input_twice(state: State, first: str, in_flight: bool) -> None:
    for second in INPUTS:
        member = STATES[state]()
        assert member.state is state
        if in_flight:
            member.later(5_000)
            member.step_events()
        for name in (first, second):
            INPUTS[name](member)
            member.step_events()
        assert member.machine.identity.epoch in (0, 3, 4)
        assert member.state in ACTIVE or member.told(Lost) or member.state is not State.FENCED
