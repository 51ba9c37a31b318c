"""Members against a strict coordinator, under every order of events hypothesis thinks of.

Answers and requests get lost, coordinators move, sessions end, owners dawdle or hang. What
must hold at any time: nobody runs a task, active or standby, that was not given or was taken
back; who is thrown out runs what it had until it is told, and nothing after; no
acknowledgement is skipped, no epoch goes back, no broker is flooded. What must hold in the
end, once the faults stop: every member runs exactly its target.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.unit.rebalance.coordinator import Coordinator, common, without
from thalweg.rebalance.actions import (
    Action,
    Describe,
    FindCoordinator,
    Heartbeat,
    Send,
    Tell,
    Wait,
)
from thalweg.rebalance.errors import Code, UnreachableError
from thalweg.rebalance.events import (
    Assigned,
    Event,
    Fatal,
    Lost,
    Revoked,
)
from thalweg.rebalance.heartbeat import Refusal
from thalweg.rebalance.membership import ACTIVE, Membership, State
from thalweg.rebalance.values import (
    NO_TASKS,
    MemberSettings,
    TaskAssignment,
    TaskId,
)

TASKS = frozenset(TaskId(part, partition) for part in ("0", "1") for partition in range(3))
NAMES = ("m0", "m1", "m2")
POLL_MS = 20_000
WAIT_MAX_MS = 1_000
"""No back-off is longer, and the coordinator's interval is shorter."""
FLOOD = 6
"""Requests one member may send at one moment without an answer that is a success."""


@dataclass
class Process:
    """A member, its owner's loop, and what is on the wire between them and the broker."""

    name: str
    machine: Membership
    inbox: deque[Event] = field(default_factory=deque)
    wire: Action | None = None
    runs: TaskAssignment = NO_TASKS
    had: TaskAssignment = NO_TASKS
    """What the coordinator had it hold while it was last a member."""
    owed: TaskAssignment | None = None
    given_up: TaskAssignment = NO_TASKS
    epoch: int = 0
    sent_at: tuple[float, int] = (0.0, 0)

    def note(self, action: Action, now_ms: float) -> None:
        """Checks what may be sent."""
        if isinstance(action, Wait):
            return
        at, count = self.sent_at
        self.sent_at = (now_ms, count + 1 if at == now_ms else 1)
        assert self.sent_at[1] <= FLOOD, f"{self.name} floods the broker"
        if isinstance(action, Send):
            self.note_heartbeat(action.heartbeat)

    def note_heartbeat(self, sent: Heartbeat) -> None:
        if self.owed is not None and not sent.is_leaving:
            assert sent.owned is not None, "an acknowledgement was skipped"
            assert self.owed <= sent.owned
            assert not common(self.given_up, sent.owned), "what was given up is not released"
        self.owed = None
        self.given_up = NO_TASKS
        if sent.owned is not None and not sent.is_joining:
            assert self.runs <= sent.owned or self.machine.state not in ACTIVE, (
                "it runs what it does not tell of"
            )


class MembersAndCoordinator(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16))
    def start(self, seed: int) -> None:
        self.now_ms = 1_000.0
        self.coordinator = Coordinator(TASKS, has_standbys=True)
        self.unaware: set[str] = set()  # thrown out, and no answer since
        self.processes = {
            name: Process(
                name,
                Membership(
                    MemberSettings(
                        "g", name, name, frozenset({"0", "1"}), rebalance_timeout_ms=POLL_MS
                    ),
                    random.Random(seed + index),
                ),
            )
            for index, name in enumerate(NAMES)
        }

        for name in NAMES:
            self.join(name)
        self.pass_time(10, 300)

    # -- the members ---------------------------------------------------------------------

    @rule(rounds=st.integers(1, 4), step_ms=st.sampled_from([20, 300, 600]))
    def pass_time(self, rounds: int, step_ms: int) -> None:
        """Everything goes well for a while."""
        for _ in range(rounds):
            for name in NAMES:
                self.act(name)
                self.deliver(name, "ok")
                self.own(name)
                self.check()
            self.now_ms += step_ms

    @rule(name=st.sampled_from(NAMES), fate=st.sampled_from(["ok", "drop", "lose", 14, 15, 16, 29]))
    def exchange(self, name: str, fate: str | int) -> None:
        """One process's next request, which may go wrong; its owner does not look."""
        for _ in range(3):
            self.act(name)
            if isinstance(fate, int) and isinstance(self.processes[name].wire, Send):
                self.refuse(name, fate)
                return
            self.deliver(name, fate if isinstance(fate, str) else "ok")

    @rule(
        name=st.sampled_from(NAMES),
        fate=st.sampled_from(["drop", 14, 15, 16]),
        step_ms=st.sampled_from([0, 600]),
    )
    def storm(self, name: str, fate: str | int, step_ms: int) -> None:
        """Everything one process tries goes wrong, as often as it tries."""
        for _ in range(20):
            self.exchange(name, fate)
            self.now_ms += step_ms

    @precondition(lambda self: any(one.machine.is_out for one in self.processes.values()))
    @rule(name=st.sampled_from(NAMES))
    def join(self, name: str) -> None:
        process = self.processes[name]
        if process.machine.state is State.UNSUBSCRIBED:
            process.machine.join(self.now_ms)

    @rule(name=st.sampled_from(NAMES))
    def act(self, name: str) -> None:
        """One process takes its next steps, until something has to come back."""
        process = self.processes[name]
        if process.wire is not None:
            return
        while True:
            action = process.machine.next_action(self.now_ms)
            if not isinstance(action, Tell):
                break
            process.inbox.extend(action.events)
        process.note(action, self.now_ms)
        if isinstance(action, Wait):
            if action.until_ms is not None:
                assert action.until_ms - self.now_ms <= WAIT_MAX_MS
            return
        process.wire = action

    @rule(name=st.sampled_from(NAMES), fate=st.sampled_from(["ok", "drop", "lose"]))
    def deliver(self, name: str, fate: str) -> None:
        """What is on the wire arrives, or only one way, or not at all."""
        process = self.processes[name]
        wire, process.wire = process.wire, None
        machine, broken = process.machine, UnreachableError("broken")
        if isinstance(wire, FindCoordinator):
            if fate in ("drop", "lose"):
                machine.coordinator_failed(broken, self.now_ms)
            else:
                machine.coordinator_found()
        elif isinstance(wire, Describe):
            known = self.coordinator.members.get(name)
            if fate in ("drop", "lose") or known is None:
                machine.described(None, NO_TASKS)
            else:
                machine.described(known.epoch, known.assigned)
        elif isinstance(wire, Send):
            number = wire.heartbeat.number
            if fate == "drop":
                machine.failed(number, broken, self.now_ms)
                return
            answer = self.coordinator.heartbeat(name, wire.heartbeat)
            if wire.heartbeat.is_joining:
                assert not process.runs, "it joins with tasks still running"
                self.unaware.discard(name)
            if fate == "lose":
                machine.failed(number, broken, self.now_ms)
                return
            self.unaware.discard(name)
            if isinstance(answer, Refusal):
                assert answer.code != Code.INVALID_REQUEST, answer.message
                machine.refused(number, answer.code, answer.message, self.now_ms)
                self.act(name)  # the owner is told at once
            else:
                machine.answered(number, answer, self.now_ms)
                process.sent_at = (self.now_ms, 0)

    @rule(name=st.sampled_from(NAMES), code=st.sampled_from([14, 15, 16, 29]))
    def refuse(self, name: str, code: int) -> None:
        """The coordinator has moved, or is loading, or somebody took a right away."""
        process = self.processes[name]
        wire = process.wire
        if isinstance(wire, Send):
            process.wire = None
            process.machine.refused(wire.heartbeat.number, code, "", self.now_ms)

    # -- their owners --------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def own(self, name: str, count: int = 99) -> None:
        """The loop polls, and handles some of what it was told."""
        process = self.processes[name]
        process.machine.note_poll(self.now_ms)
        for _ in range(min(count, len(process.inbox))):
            self.handle(process, process.inbox.popleft())

    def handle(self, process: Process, event: Event) -> None:
        assert not isinstance(event, Fatal), event
        if isinstance(event, Revoked):
            assert event.tasks <= process.runs.active
            revoked = TaskAssignment(event.tasks)
            process.runs = without(process.runs, revoked)
            process.given_up |= revoked
        elif isinstance(event, Assigned):
            process.given_up |= without(process.runs, event.tasks)
            process.runs = event.tasks
            if process.machine.acknowledge(event.number, event.tasks, self.now_ms):
                process.owed = event.tasks
            else:
                # Overtaken: whatever comes next in the inbox, or a good-bye, takes it away.
                assert self.is_overtaken(process)
        elif isinstance(event, Lost):
            process.runs = process.given_up = NO_TASKS
            process.owed = None
            process.machine.acknowledge(event.number, NO_TASKS, self.now_ms)

    def is_overtaken(self, process: Process) -> bool:
        """Tells whether a loss follows, told or not."""
        while isinstance(action := process.machine.next_action(self.now_ms), Tell):
            process.inbox.extend(action.events)
        if process.wire is None:
            process.note(action, self.now_ms)
            process.wire = None if isinstance(action, Wait) else action
        return any(isinstance(event, Lost) for event in process.inbox)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        """The owner closes its tasks and leaves."""
        process = self.processes[name]
        process.runs = process.given_up = NO_TASKS
        process.inbox.clear()
        process.owed = None
        process.machine.leave()

    # -- the world -----------------------------------------------------------------------

    @rule(duration_ms=st.sampled_from([1, 50, 200, 500, 2_000, 9_000]))
    def wait(self, duration_ms: int) -> None:
        self.now_ms += duration_ms

    @rule(order=st.permutations(NAMES))
    def share_out(self, order: list[str]) -> None:
        if self.coordinator.members:
            self.coordinator.share_out(order)

    @rule(order=st.permutations(NAMES), loser=st.sampled_from(NAMES))
    def lose_a_change(self, order: list[str], loser: str) -> None:
        """The answer that changes the tasks of one member gets lost; nobody changes them again."""
        self.share_out(order)
        self.now_ms += 500
        self.exchange(loser, "lose")
        self.converge()

    @rule(name=st.sampled_from(NAMES))
    def expire(self, name: str) -> None:
        if name in self.coordinator.members:
            self.unaware.add(name)
            self.coordinator.expire(name)

    @rule()
    def delete(self) -> None:
        self.unaware.update(self.coordinator.members)
        self.coordinator.delete()

    # -- what must hold ------------------------------------------------------------------

    def check(self) -> None:
        self.nobody_runs_what_was_not_given_or_was_taken_back()
        self.no_epoch_goes_back_but_to_nothing()

    @invariant()
    def nobody_runs_what_was_not_given_or_was_taken_back(self) -> None:
        for process in self.processes.values():
            may_run = self.may_run(process)
            assert process.runs <= may_run, (process.name, process.runs, may_run)

    def may_run(self, process: Process) -> TaskAssignment:
        """Returns what a member holds, or had if it or its owner cannot know that it is out."""
        holds = self.coordinator.has().get(process.name)
        if holds is not None:
            process.had = holds
            return holds
        is_unaware = process.name in self.unaware and process.machine.identity.is_member
        is_told = any(isinstance(event, Lost) for event in process.inbox)
        return process.had if is_unaware or is_told else NO_TASKS

    @invariant()
    def no_epoch_goes_back_but_to_nothing(self) -> None:
        for process in self.processes.values():
            epoch = process.machine.identity.epoch
            assert epoch == 0 or epoch >= process.epoch
            process.epoch = epoch

    @invariant()
    def who_is_out_runs_nothing_for_long(self) -> None:
        for process in self.processes.values():
            if process.machine.is_out and not process.inbox:
                assert not process.runs

    def is_settled(self, process: Process) -> bool:
        """Tells whether a member runs its target, or is out and runs nothing."""
        known = self.coordinator.members.get(process.name)
        if process.machine.is_out:
            return known is None and not process.runs
        target = self.coordinator.target.get(process.name, NO_TASKS)
        return known is not None and known.holds == target == process.runs

    def teardown(self) -> None:
        """The faults stop: everybody comes to run its target, and nothing else."""
        if not hasattr(self, "coordinator"):
            return
        for process in self.processes.values():
            self.own(process.name)
            self.join(process.name)
        self.converge()
        count = len(self.coordinator.members)
        runs = [process.runs for process in self.processes.values()]
        active = sorted(task for one in runs for task in one.active)
        standby = sorted(task for one in runs for task in one.standby)
        assert active == (sorted(TASKS) if count else [])
        assert standby == (sorted(TASKS) if count > 1 else [])

    def converge(self) -> None:
        """Nothing goes wrong until everybody runs its target; sessions of the gone end."""
        for _ in range(400):
            for name in NAMES:
                if self.processes[name].machine.is_out:
                    self.coordinator.expire(name)
                self.own(name)
                self.act(name)
                self.deliver(name, "ok")
                self.check()
            if all(self.is_settled(process) for process in self.processes.values()):
                break
            self.now_ms += 100
        for name, process in self.processes.items():
            assert self.is_settled(process), (name, process.machine.state, process.runs)


TestMembersAndCoordinator = MembersAndCoordinator.TestCase
TestMembersAndCoordinator.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
