"""A member of a streams group, as a state machine.

Owns the states and their legal transitions, the contents of a heartbeat, when it is sent, and what
its answer or its failure means. It is pure: events come in with `now_ms`, and `next_action` says
what to do; nothing here reads a clock or a socket. It must not know bytes, connections or how tasks
are run. All times are of one monotonic clock, in milliseconds.

    UNSUBSCRIBED ──► JOINING ──► RECONCILING ◄──► ACKNOWLEDGING ──► STABLE ──┐
         ▲              ▲             ▲                                      │
         │              │             └────────── a new target ──────────────┤
         │              ├── released ── FENCED ◄─ the broker says so ────────┤
         │              └── polled ──── STALE ◄─┐                            │
         └───────────── LEAVING ◄── PREPARE_LEAVING ◄── leave, poll timeout ─┘

The rules that matter most:
* One heartbeat at a time, one reconciliation at a time.
* The acknowledgement is sent at once, only after the owner says that what was revoked is
  closed, and always carries all three lists: without them nothing counts as given up.
* After any failure the next heartbeat carries all lists again. The broker accepts that, but
  never repeats an assignment whose answer got lost; so after the first answer without lists
  the group is asked what this member has.
* Lists name every task that may run, those the owner was told to open included: a task given
  and not named is one the broker may give to others at once.
* Before it joins again, the owner has to let go of its tasks: a join says that it has none.
* Brokers of 4.2 fail (-1) at a member with an end point while source topics are missing,
  perhaps only because they were created just now. Such a member joins without, hears of the
  missing topics, and joins again with its end point when they are there.

The JVM's member sends without a pause while it joins, and resets its back-off at codes 15, 16, 25
and 110. Here this holds only for the first failure in a row, so that no broker is flooded. The
JVM's member reconciles when the group's readiness changes; here the owner is only told, because
running tasks may go on.

Source: JVM `MemberState`, `StreamsMembershipManager`, `StreamsGroupHeartbeatRequestManager`
(4.2); kip1071 reference 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from thalweg.rebalance.actions import (
    DEFAULT_INTERVAL_MS,
    Action,
    Answer,
    Describe,
    FindCoordinator,
    Heartbeat,
    Send,
    Tell,
    Wait,
)
from thalweg.rebalance.backoff import Backoff, Randomness
from thalweg.rebalance.errors import (
    Code,
    RebalanceError,
    TopologyRefusedError,
    code_name,
)
from thalweg.rebalance.events import (
    Assigned,
    Event,
    Fatal,
    Lost,
    Refused,
    Revoked,
)
from thalweg.rebalance.group_codes import StatusCode
from thalweg.rebalance.readiness import Readiness
from thalweg.rebalance.refusals import Consequence, consequence, refusal
from thalweg.rebalance.values import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    NO_ENDPOINT_EPOCH,
    NO_TASKS,
    Endpoint,
    EndpointPartitions,
    GroupIdentity,
    MemberSettings,
    TaskAssignment,
)


class State(Enum):
    """Where a member is; each says whether it sends heartbeats."""

    UNSUBSCRIBED = "unsubscribed"
    """Not in the group, nor on the way: none."""
    JOINING = "joining"
    """Asks to be let in, with epoch 0: at once."""
    RECONCILING = "reconciling"
    """The owner takes over a new assignment: on interval."""
    ACKNOWLEDGING = "acknowledging"
    """The owner has taken it over: at once."""
    STABLE = "stable"
    """Runs what it is to run: on interval."""
    FENCED = "fenced"
    """Thrown out; the owner lets go of its tasks: none."""
    PREPARE_LEAVING = "prepare_leaving"
    """The owner closes its tasks before it leaves: on interval."""
    LEAVING = "leaving"
    """Says good-bye, with epoch -1: at once."""
    STALE = "stale"
    """Left because the owner did not poll; joins when it does: none."""
    FATAL = "fatal"
    """Cannot be a member; the end: none."""


ACTIVE: Final = frozenset({State.JOINING, State.RECONCILING, State.ACKNOWLEDGING, State.STABLE})
"""In the group or on the way, and willing to take tasks."""

PREDECESSORS: Final[Mapping[State, frozenset[State]]] = {
    State.UNSUBSCRIBED: frozenset({State.PREPARE_LEAVING, State.LEAVING, State.FENCED}),
    State.JOINING: frozenset({State.FENCED, State.UNSUBSCRIBED, State.STALE}),
    State.RECONCILING: ACTIVE - {State.RECONCILING},
    State.ACKNOWLEDGING: frozenset({State.RECONCILING}),
    State.STABLE: frozenset({State.ACKNOWLEDGING}),
    State.FENCED: ACTIVE,
    State.PREPARE_LEAVING: ACTIVE,
    State.LEAVING: frozenset({State.PREPARE_LEAVING}),
    State.STALE: frozenset({State.LEAVING}),
    State.FATAL: ACTIVE | {State.PREPARE_LEAVING, State.LEAVING},
}
"""From where a state may be entered.

The JVM allows more, which does not happen here: a newer target waits until the older is
acknowledged, and no assignment is stable before it is; who is thrown out while it leaves has
left; and an owner without a member has nothing to leave and nothing that can fail.
"""

AT_ONCE: Final = frozenset({State.JOINING, State.ACKNOWLEDGING, State.LEAVING})
"""States that do not wait for the interval."""
ON_INTERVAL: Final = frozenset({State.RECONCILING, State.STABLE, State.PREPARE_LEAVING})
"""States that do."""
_HEARTBEATS: Final = AT_ONCE | ON_INTERVAL


_UNCONFIGURED: Final = frozenset(
    {StatusCode.MISSING_SOURCE_TOPICS, StatusCode.INCORRECTLY_PARTITIONED_TOPICS}
)
"""Statuses of a group whose topology the broker cannot lay over its topics."""

_ENDPOINT_FAILURES_MAX: Final = 3
"""How often in a row a failure is laid to the end point before it is taken for what it says."""


@dataclass(slots=True)
class _Attempts:
    """Failures in a row, and until when to hold back after the last one."""

    failures: int = 0
    until_ms: float = 0


class Membership:
    """One member for its whole life. Not thread-safe: one thread feeds it and acts for it.

    Feed it events, then call `next_action` and act until it says `Wait`.

    Args:
        settings: who it is.
        randomness: for the jitter of back-offs.
        backoff: how long to wait after failures.

    Attributes:
        state: where it is.
        endpoints: who has what, as the group last said.
        interval_ms: time between heartbeats.
    """

    def __init__(
        self,
        settings: MemberSettings,
        randomness: Randomness,
        backoff: Backoff | None = None,
    ) -> None:
        self.settings = settings
        self.state = State.UNSUBSCRIBED
        self.endpoints: Mapping[Endpoint, EndpointPartitions] = {}
        self.interval_ms = DEFAULT_INTERVAL_MS
        self._randomness = randomness
        self._backoff = backoff or Backoff()
        self._readiness = Readiness()
        self._epoch = JOIN_EPOCH
        self._endpoint_epoch = NO_ENDPOINT_EPOCH
        # What the broker wants, what the owner was last offered, what it says it runs.
        self._target = NO_TASKS
        self._offered = NO_TASKS
        self._owned = NO_TASKS
        self._must_list = True
        # Numbers of what the owner has still to acknowledge.
        self._numbers = 0
        self._offer: int | None = None
        self._loss: int | None = None
        self._events: list[Event] = []
        self._refused_code: int | None = None
        # What is on its way, and when the next heartbeat is due.
        self._in_flight: Heartbeat | None = None
        self._is_asking = False
        self._has_coordinator = False
        self._attempts = _Attempts()
        self._due_ms: float = 0
        self._sent_ms: float = 0
        # When the owner polled, and when it had not for too long.
        self._polled_ms: float = 0
        self._is_expired = False
        self._stale_ms: float = 0
        self._is_closed = False
        # Whether an assignment may have been lost on the way, and whether to ask now.
        self._is_doubtful = False
        self._must_describe = False
        self._wants_shutdown = False
        self._has_sent_shutdown = False
        self._hides_endpoint = False
        self._endpoint_failures = 0

    # -- what can be read ----------------------------------------------------------------

    @property
    def identity(self) -> GroupIdentity:
        """As whom to commit; every answer brings the newest epoch."""
        return GroupIdentity(self.settings.member_id, self._epoch)

    @property
    def owned(self) -> TaskAssignment:
        """What the owner acknowledged last."""
        return self._owned

    @property
    def is_ready(self) -> bool:
        """Whether the group can run, by its statuses."""
        return self._readiness.is_ready

    @property
    def is_out(self) -> bool:
        """Whether it has nothing more to send, and will not have unless told to join."""
        is_gone = self.state in (State.UNSUBSCRIBED, State.FATAL)
        return (is_gone or (self.state is State.STALE and self._is_closed)) and not self._in_flight

    # -- what the owner does -------------------------------------------------------------

    def join(self, now_ms: float) -> None:
        """Starts to become a member; only from UNSUBSCRIBED."""
        self._polled_ms = now_ms
        self._is_closed = False
        self._start_joining(now_ms)

    def note_poll(self, polled_ms: float) -> None:
        """Notes that the processing loop is alive; a member that left for it joins again."""
        self._polled_ms = max(self._polled_ms, polled_ms)

    def acknowledge(self, number: int, tasks: TaskAssignment, now_ms: float) -> bool:
        """Notes that the owner has done what the event of that number asked.

        Args:
            number: of the newest `Assigned` or `Lost`.
            tasks: what runs now: of the assignment all, or what of it could be opened; after
                a loss nothing.
            now_ms: the time.

        Returns:
            Whether it counts; not if the event was overtaken by another.

        Raises:
            ValueError: tasks run that were not offered.
        """
        if number == self._loss:
            if tasks:
                message = f"after a loss nothing may run, but {tasks} does"
                raise ValueError(message)
            self._loss = None
            if self.state is State.FENCED:
                self._start_joining(now_ms)
            return True
        if number != self._offer or self.state is not State.RECONCILING:
            return False
        if not tasks <= self._offered:
            message = f"the assignment is {self._offered}, but what runs is {tasks}"
            raise ValueError(message)
        self._offer = None
        self._owned = tasks
        self._move(State.ACKNOWLEDGING)
        return True

    def prepare_leave(self) -> None:
        """Takes no new tasks any more, while the owner closes those it has."""
        if self.state in ACTIVE:
            self._move(State.PREPARE_LEAVING)
            self._withdraw()

    def leave(self) -> None:
        """Leaves; the owner has closed its tasks. Does nothing when it is no member."""
        self.prepare_leave()
        self._loss = None
        self._is_closed = True
        self._is_expired = False
        if self.state is State.PREPARE_LEAVING:
            self._release()
            self._move(State.LEAVING)
        elif self.state is State.FENCED:
            self._move(State.UNSUBSCRIBED)

    def request_shutdown(self) -> None:
        """Asks all instances of the application to shut down, from the next heartbeat on."""
        self._wants_shutdown = True

    def suspect(self, now_ms: float) -> None:
        """Sends the next heartbeat at once: something else said that this is no member."""
        self._due_ms = min(self._due_ms, now_ms)

    # -- what comes back -----------------------------------------------------------------

    def coordinator_found(self) -> None:
        """Notes that the coordinator is known."""
        self._is_asking = False
        self._has_coordinator = True

    def coordinator_failed(self, error: RebalanceError, now_ms: float) -> None:
        """Notes that the coordinator cannot be found."""
        self._is_asking = False
        if self.state is State.LEAVING:
            self._finish_leaving(now_ms)
        elif error.retriable:
            self._fail(now_ms)
        else:
            self._die(error)

    def answered(self, number: int, answer: Answer, now_ms: float) -> None:
        """Takes an answer in; one that is not to the heartbeat in flight is ignored."""
        sent = self._arrived(number)
        if sent is None:
            return
        if answer.interval_ms > 0:
            self.interval_ms = answer.interval_ms
        self._due_ms = self._sent_ms + self.interval_ms
        if sent.is_leaving:
            return
        if answer.epoch <= JOIN_EPOCH:  # not what a broker answers: as good as no answer
            self._doubt()
            self._fail(now_ms)
            return
        self._attempts = _Attempts()
        self._refused_code = None
        if sent.tells_endpoint:
            self._endpoint_failures = 0
        self._endpoint_epoch = answer.endpoint_epoch
        if answer.endpoints is not None:
            self.endpoints = answer.endpoints
        if self.state not in ACTIVE and self.state is not State.PREPARE_LEAVING:
            return
        if answer.epoch < sent.epoch:
            self._fence(f"its epoch fell from {sent.epoch} to {answer.epoch}", now_ms)
            return
        self._epoch = answer.epoch
        if self.state in ACTIVE and self._may_tell_endpoint(answer):
            self._hides_endpoint = False
            self._withdraw()
            self._move(State.FENCED)
            self._start_joining(now_ms)
        elif self.state in ACTIVE:
            self._take_tasks(sent, answer.tasks)
        if self.state in ACTIVE:
            missing_ms = self.settings.missing_topics_timeout_ms
            self._events += self._readiness.take(
                answer.statuses,
                has_tasks=bool(self._target),
                missing_ms=2 * self.interval_ms if missing_ms is None else missing_ms,
                now_ms=now_ms,
            )

    def refused(self, number: int, code: int, message: str, now_ms: float) -> None:
        """Takes an answer in that is an error.

        Args:
            number: of the heartbeat.
            code: the broker's error code, not 0.
            message: the broker's own words.
            now_ms: the time.
        """
        sent = self._arrived(number)
        if sent is None:
            return
        self._must_list = True
        if sent.is_leaving or self.state not in _HEARTBEATS:
            return
        is_at_endpoint = code == Code.UNKNOWN_SERVER_ERROR and sent.tells_endpoint
        if is_at_endpoint and self._endpoint_failures < _ENDPOINT_FAILURES_MAX:
            self._endpoint_failures += 1
            self._hides_endpoint = True
            self._fail(now_ms, is_first_free=True)
            return
        match consequence(code, message, is_joining=sent.is_joining):
            case Consequence.RETRY:
                self._fail(now_ms)
            case Consequence.PAUSE:
                self._attempts.until_ms = self._sent_ms + self.interval_ms
            case Consequence.REDISCOVER:
                # A coordinator that just lost its log answers so, too.
                self._doubt()
                self._has_coordinator = False
                self._fail(now_ms, is_first_free=True)
            case Consequence.REJOIN:
                self._fence(f"{code_name(code)} {message}".rstrip(), now_ms)
            case Consequence.REPORT:
                self._fail(now_ms)
                if self._refused_code != code:
                    self._refused_code = code
                    error = refusal(self.settings.group_id, code, message)
                    self._events.append(Refused(error))
            case Consequence.STOP:
                self._die(refusal(self.settings.group_id, code, message))

    def failed(self, number: int, error: RebalanceError, now_ms: float) -> None:
        """Notes that no answer came; the broker may have heard the heartbeat all the same."""
        sent = self._arrived(number)
        if sent is None:
            return
        self._doubt()
        self._has_coordinator = False
        if sent.is_leaving or self.state not in _HEARTBEATS:
            return
        if error.retriable:
            self._fail(now_ms)
        else:
            self._die(error)

    def described(self, epoch: int | None, tasks: TaskAssignment) -> None:
        """Takes in what the group says of this member, after an answer may have been lost.

        Args:
            epoch: the member epoch there, None if the group could not be asked; it is asked
                again after the next heartbeat.
            tasks: what the broker has given this member.
        """
        self._is_asking = False
        self._must_describe = False
        if epoch != self._epoch or self.state not in ACTIVE:
            return
        self._is_doubtful = False
        self._set_target(tasks)

    # -- what to do ----------------------------------------------------------------------

    def next_action(self, now_ms: float) -> Action:
        """Decides what to do now. To be called until it says `Wait`, and after every event."""
        self._check_poll(now_ms)
        if self._events:
            events, self._events = tuple(self._events), []
            return Tell(events)
        if self._in_flight is not None or self._is_asking or self.state not in _HEARTBEATS:
            return Wait()
        if not self._has_coordinator:
            return self._find_coordinator(now_ms)
        if self._must_describe and self.state in ACTIVE:
            self._is_asking = True
            return Describe()
        due_ms = self._attempts.until_ms
        if self.state is State.LEAVING:
            due_ms = now_ms
        elif self.state in ON_INTERVAL and self._has_sent_shutdown == self._wants_shutdown:
            due_ms = max(due_ms, self._due_ms)
        if now_ms < due_ms:
            return self._wait(due_ms)
        return Send(self._generate(now_ms))

    def _find_coordinator(self, now_ms: float) -> Action:
        if self.state is State.LEAVING:
            self._finish_leaving(now_ms)
            return Wait(now_ms)  # it is out by this alone: nothing else would wake anybody
        if now_ms < self._attempts.until_ms:
            return self._wait(self._attempts.until_ms)
        self._is_asking = True
        return FindCoordinator()

    def _wait(self, until_ms: float) -> Wait:
        if self.state in ACTIVE:
            until_ms = min(until_ms, self._polled_ms + self.settings.rebalance_timeout_ms)
        return Wait(until_ms)

    @property
    def _tells_endpoint(self) -> bool:
        is_known = self.settings.endpoint is not None and not self._hides_endpoint
        return is_known and self.state is State.JOINING

    def _may_tell_endpoint(self, answer: Answer) -> bool:
        """Tells whether to join once more, because the broker does not fail at it any more."""
        codes = {status.code for status in answer.statuses}
        return self._hides_endpoint and not codes & _UNCONFIGURED and not self._owned

    def _generate(self, now_ms: float) -> Heartbeat:
        """Makes the heartbeat of the state, and makes the state's move."""
        epoch, owned = self._epoch, None
        if self.state is State.JOINING:
            owned = NO_TASKS
        elif self.state is State.LEAVING:
            epoch = LEAVE_EPOCH
        elif self.state is State.ACKNOWLEDGING or self._must_list:
            owned = self._may_run()
        self._must_list = False
        self._numbers += 1
        self._sent_ms, self._due_ms = now_ms, now_ms + self.interval_ms
        self._has_sent_shutdown = self._wants_shutdown
        self._in_flight = Heartbeat(
            self._numbers,
            epoch,
            self._endpoint_epoch,
            owned,
            self._wants_shutdown,
            self._tells_endpoint,
        )
        if self.state is State.ACKNOWLEDGING:
            # The next target, if there is one by now.
            if self._target == self._offered:
                self._move(State.STABLE)
            else:
                self._reconcile()
        elif self.state is State.LEAVING:
            self._finish_leaving(now_ms)
        return self._in_flight

    def _may_run(self) -> TaskAssignment:
        """Returns what the owner runs, is told to run, or will be told before the answer."""
        may_run = self._owned
        if self._offer is not None:
            may_run |= self._offered
        if self._target != self._offered:
            may_run |= self._target
        return may_run

    # -- moves ---------------------------------------------------------------------------

    def _move(self, state: State) -> None:
        assert self.state in PREDECESSORS[state], f"{self.state.name} -> {state.name}"
        self.state = state

    def _start_joining(self, now_ms: float) -> None:
        self._move(State.JOINING)
        self._epoch = JOIN_EPOCH
        self._release()
        self._is_doubtful = self._must_describe = False
        self._due_ms = now_ms

    def _release(self) -> None:
        """Forgets all tasks."""
        self._target = self._offered = self._owned = NO_TASKS
        self._offer = None
        self._must_list = True

    def _take_tasks(self, sent: Heartbeat, tasks: TaskAssignment | None) -> None:
        if sent.is_joining:
            # Goes through a reconciliation even with nothing to run: a join is acknowledged.
            self._set_target(tasks or NO_TASKS, is_first=True)
        elif tasks is not None:
            self._is_doubtful = self._must_describe = False
            self._set_target(tasks)
        else:
            self._must_describe = self._is_doubtful

    def _set_target(self, tasks: TaskAssignment, *, is_first: bool = False) -> None:
        unknown = {task.subtopology_id for task in tasks.tasks} - self.settings.subtopology_ids
        if unknown:
            self._die(
                TopologyRefusedError(
                    f"the group {self.settings.group_id!r} assigns tasks of subtopology "
                    f"{', '.join(sorted(unknown))}, which this topology does not have: all "
                    "instances must run the same topology"
                )
            )
            return
        self._target = tasks
        if self._offer is not None or self.state is State.ACKNOWLEDGING:
            return  # one at a time: this one follows when that one is acknowledged
        if is_first or tasks != self._offered:
            self._reconcile()

    def _reconcile(self) -> None:
        """Offers the target to the owner."""
        self._move(State.RECONCILING)
        revoked = self._owned.active - self._target.active
        if revoked:
            self._events.append(Revoked(revoked))
        self._numbers += 1
        self._offer, self._offered = self._numbers, self._target
        self._events.append(Assigned(self._offer, self._target))

    def _fence(self, reason: str, now_ms: float) -> None:
        """The broker has thrown this member out, or has lost it."""
        self._epoch = JOIN_EPOCH
        if self.state not in ACTIVE:  # it was about to leave anyway
            self._release()
            self._move(State.UNSUBSCRIBED)
            return
        self._fail(now_ms, is_first_free=True)
        self._move(State.FENCED)
        self._lose(reason)
        if self._loss is None:
            self._start_joining(now_ms)

    def _lose(self, reason: str) -> None:
        """Tells the owner that its tasks are gone, if it has or may be opening some."""
        had_tasks = bool(self._owned) or self._offer is not None
        self._withdraw()
        if had_tasks:
            self._numbers += 1
            self._loss = self._numbers
            self._events.append(Lost(self._loss, reason))
        self._release()

    def _withdraw(self) -> None:
        """Takes back the assignment that the owner has not acknowledged yet."""
        self._offer = None
        self._events = [one for one in self._events if not isinstance(one, Revoked | Assigned)]

    def _check_poll(self, now_ms: float) -> None:
        """Leaves when the owner hangs, and joins again when it does not any more."""
        if self.state is State.STALE:
            is_alive = self._polled_ms > self._stale_ms
            if is_alive and self._loss is None and not self._is_closed:
                self._start_joining(now_ms)
        elif self.state in ACTIVE and self._in_flight is None and not self._is_asking:
            silent_ms = now_ms - self._polled_ms
            if silent_ms > self.settings.rebalance_timeout_ms:
                self._move(State.PREPARE_LEAVING)
                self._lose(
                    f"the processing loop has not polled for {silent_ms:.0f} ms, longer than "
                    f"{self.settings.rebalance_timeout_ms} ms"
                )
                self._is_expired = True
                self._move(State.LEAVING)

    def _finish_leaving(self, now_ms: float) -> None:
        """Is out of the group; whether the broker hears of it does not matter any more."""
        self._epoch = JOIN_EPOCH
        if self._is_expired:
            self._is_expired = False
            self._stale_ms = now_ms
            self._move(State.STALE)
        else:
            self._move(State.UNSUBSCRIBED)

    def _die(self, error: RebalanceError) -> None:
        was_active = self.state in ACTIVE
        self._move(State.FATAL)
        self._epoch = JOIN_EPOCH
        if was_active:
            self._lose(error.message)
        self._events.append(Fatal(error))

    # -- failures ------------------------------------------------------------------------

    def _arrived(self, number: int) -> Heartbeat | None:
        """Takes the heartbeat of that number out of flight, None if it is not in flight."""
        sent = self._in_flight
        if sent is None or sent.number != number:
            return None
        self._in_flight = None
        return sent

    def _doubt(self) -> None:
        """The broker may have changed what this member has without our hearing of it."""
        self._must_list = True
        self._is_doubtful = True

    def _fail(self, now_ms: float, *, is_first_free: bool = False) -> None:
        """Holds back, the longer the more failures came in a row."""
        self._attempts.failures += 1
        failures = self._attempts.failures - (1 if is_first_free else 0)
        self._attempts.until_ms = now_ms + self._backoff.delay_ms(failures, self._randomness)
        self._due_ms = now_ms
