"""The thread that keeps a member in its group, and its interface for the processing loop.

Owns the thread with its event loop, the execution of `membership`'s actions, its log messages, and
the queue of events between the threads. It must not know tasks. No user code runs in this thread,
so slow user code does not delay heartbeats. `note_poll` still detects a processing loop that hangs.

    processing loop                                     heartbeat thread
    start ───────────────────────────────────────────►  join
    poll ◄── events ──────────────────────────────────  assignments, losses, statuses
    acknowledge ─────────────────────────────────────►  acknowledgement, at once
    commit_offsets, fetch_offsets ──── wait ─────────►  with the newest epoch
    leave ───────────────────────────────────────────►  good-bye, the thread ends

Source: JVM `ConsumerNetworkThread`, `StreamThread`; kip1071 reference 3, 7.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError
from typing import Any, Final, TypeVar

from thalweg.rebalance.actions import (
    Action,
    Describe,
    FindCoordinator,
    Heartbeat,
    Send,
    Tell,
    Wait,
)
from thalweg.rebalance.backoff import Backoff, Randomness
from thalweg.rebalance.connection import Connection
from thalweg.rebalance.describe import describe, describe_within
from thalweg.rebalance.description import GroupDescription
from thalweg.rebalance.errors import (
    MembershipLostError,
    RebalanceError,
    RefusedError,
    UnreachableError,
    code_name,
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
from thalweg.rebalance.heartbeat import Heartbeats, Refusal, read_answer
from thalweg.rebalance.membership import Membership, State
from thalweg.rebalance.messages import (
    HEARTBEAT,
    CommittedOffset,
    SubtopologyFacts,
    TopicPartition,
)
from thalweg.rebalance.offsets import Offsets
from thalweg.rebalance.readiness import ENDS_THE_MEMBER
from thalweg.rebalance.values import (
    NO_TASKS,
    Endpoint,
    EndpointPartitions,
    GroupIdentity,
    MemberSettings,
    TaskAssignment,
)

JOIN_TIMEOUT_MS: Final = 60_000
"""Long enough for a coordinator to load its groups after it moved."""
LEAVE_TIMEOUT_MS: Final = 5_000
"""The session ends by itself; nobody waits longer for a good-bye than for that to matter."""
REQUEST_TIMEOUT_MS: Final = 30_000
"""For offsets: longer than a coordinator takes to move."""

_HEARTBEAT_TIMEOUT_MIN_MS: Final = 2_000
_HEARTBEAT_TIMEOUT_MAX_MS: Final = 10_000
_STOP_SECONDS: Final = 2.0
"""What the thread may take to close its connections once it is told to stop."""
_WATCH_SECONDS: Final = 0.25
"""How often who waits for the heartbeat thread looks whether it still runs."""

_INTERRUPTED_MS: Final = 6_000
"""How long a question may take yet once the owner is to stop: less than a stop may take."""
_INTERRUPTED_AWAY_MS: Final = 500
"""The same while the coordinator is not to be reached."""
_TELL_SECONDS: Final = 10.0
"""How often whoever joins is told what it waits for."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


def heartbeat_timeout_ms(interval_ms: float, *, is_joining: bool) -> float:
    """Returns how long to wait for an answer: two intervals, so that the session outlasts a loss.

    Args:
        interval_ms: time between heartbeats.
        is_joining: a join may have to wait for the coordinator to load.
    """
    if is_joining:
        return _HEARTBEAT_TIMEOUT_MAX_MS
    return min(_HEARTBEAT_TIMEOUT_MAX_MS, max(_HEARTBEAT_TIMEOUT_MIN_MS, 2 * interval_ms))


class GroupClient:
    """One member of one group. Its methods are for one thread, the processing loop's.

    Args:
        settings: who it is.
        subtopologies: the topology it runs; global stores are left out.
        connection: to the brokers, see `BrokerConnection`; it belongs to the client.
        monotonic_ms: returns milliseconds that never go back; called by both threads.
        randomness: for the jitter of back-offs; used by the heartbeat thread only.
        backoff: how long to wait after failures.

    Attributes:
        on_wait: called now and then while a question of the processing loop waits for its answer,
            in the loop's thread.
    """

    def __init__(
        self,
        settings: MemberSettings,
        subtopologies: Iterable[SubtopologyFacts],
        connection: Connection,
        *,
        monotonic_ms: Callable[[], float],
        randomness: Randomness,
        backoff: Backoff | None = None,
    ) -> None:
        self.settings = settings
        self._heartbeats = Heartbeats(settings, subtopologies)
        self._connection = connection
        self._monotonic_ms = monotonic_ms
        self._membership = Membership(settings, randomness, backoff)
        self._offsets = Offsets(
            settings.group_id,
            connection,
            self.identity,
            monotonic_ms=monotonic_ms,
            randomness=randomness,
            backoff=backoff,
        )
        self._events: deque[Event] = deque()
        self._handed_out: Assigned | Lost | None = None
        self._polled_ms: float = 0
        self._answered_ms: float = 0
        self._failure: RebalanceError | None = None
        self._is_leaving = False
        self.on_wait: Callable[[], None] = _nothing
        self._is_interrupted = False
        self._interrupted_ms = 0.0
        # Set once the member is in, or never will be.
        self._is_settled = threading.Event()
        self._is_running = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._acting: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"{settings.group_id}-heartbeat", daemon=True
        )

    # -- the face ------------------------------------------------------------------------

    def start(self, timeout_ms: float | None = JOIN_TIMEOUT_MS) -> None:
        """Starts the thread and joins; returns when the coordinator has let the member in.

        Which tasks it gets comes later, from `poll`. A client starts once. Interrupted, it
        returns although the member may not be in: `leave` is all that is left to do then.

        Args:
            timeout_ms: how long to try when brokers cannot be reached or are not ready; None
                for as long as it takes.

        Raises:
            UnreachableError: no broker could be reached, with the reason per address.
            AuthenticationError: the broker does not let this client in.
            UnsupportedBrokerError: the broker does not know the protocol.
            TopologyRefusedError: the topology is not legal, or not that of the group.
            RefusedError: the broker refuses the member for another reason.
        """
        self._polled_ms = self._monotonic_ms()
        self._thread.start()
        self._is_running.wait()
        self._call(lambda: self._membership.join(self._monotonic_ms()))
        is_settled = self._wait_settled(timeout_ms)
        failure = self._failure
        if self._is_interrupted or (is_settled and self._membership.identity.is_member):
            return
        self.close()
        raise failure or UnreachableError(
            f"group {self.settings.group_id!r} did not answer within {timeout_ms:.0f} ms"
        )

    def _wait_settled(self, timeout_ms: float | None) -> bool:
        if timeout_ms is not None:
            return self._is_settled.wait(timeout_ms / 1000)
        while not self._is_settled.wait(_TELL_SECONDS):
            why = self._failure or "it has not answered yet"
            _log.warning("group %s: waiting for its coordinator: %s", self.settings.group_id, why)
        return True

    def interrupt(self) -> None:
        """Lets `start` return at once, and no question wait for long any more.

        For any thread, before or while others wait.
        """
        self._interrupted_ms = self._monotonic_ms()
        self._is_interrupted = True
        self._is_settled.set()

    def poll(self) -> list[Event]:
        """Returns what happened since the last call, in order; never waits.

        Handle all of it, then call `acknowledge` if there was an `Assigned` or a `Lost`.
        """
        if not self._events:
            return []
        events: list[Event] = []
        with contextlib.suppress(IndexError):
            while True:
                events.append(self._events.popleft())
        # Assignments and losses that were queued before a `Lost` are discarded.
        losses = [index for index, event in enumerate(events) if isinstance(event, Lost)]
        if losses:
            overtaken = events[: losses[-1]]
            events = [
                *(one for one in overtaken if not isinstance(one, Revoked | Assigned | Lost)),
                *events[losses[-1] :],
            ]
        for event in events:
            if isinstance(event, Assigned | Lost):
                self._handed_out = event
        return events

    def acknowledge(
        self,
        active: Iterable[tuple[str, int]] = (),
        standby: Iterable[tuple[str, int]] = (),
        warmup: Iterable[tuple[str, int]] = (),
    ) -> None:
        """Tells the group what runs now, after the newest `Assigned` or `Lost` was handled.

        What is revoked must be committed and closed by now: others get it at once. Does not
        wait; has no effect if the event was overtaken by another, which `poll` returns then.

        Args:
            active: (subtopology id, partition) of each active task.
            standby: of each standby task.
            warmup: of each task that warms up.

        Raises:
            ValueError: tasks run that were not assigned.
        """
        event = self._handed_out
        if event is None:
            return
        tasks = TaskAssignment.of(active, standby, warmup)
        offered = event.tasks if isinstance(event, Assigned) else NO_TASKS
        if not tasks <= offered:
            message = f"the assignment is {offered}, but what runs is {tasks}"
            raise ValueError(message)
        number = event.number
        self._call(lambda: self._membership.acknowledge(number, tasks, self._monotonic_ms()))

    def note_poll(self, now_ms: float) -> None:
        """Notes that the processing loop is alive; to be called in each of its rounds.

        Args:
            now_ms: from the clock given as `monotonic_ms`.
        """
        self._polled_ms = now_ms
        if self._membership.state is State.STALE:
            self._call(lambda: None)

    def identity(self) -> GroupIdentity:
        """Returns who commits: the member id and the newest epoch. For any thread."""
        return self._membership.identity

    @property
    def is_ready(self) -> bool:
        """Whether the group can run, by its statuses. For any thread."""
        return self._membership.is_ready

    @property
    def is_in_touch(self) -> bool:
        """Whether a heartbeat was answered within the last two intervals. For any thread.

        If not, the session may have run out unheard, as in a process that was halted.
        """
        return self._monotonic_ms() - self._answered_ms <= 2 * self._membership.interval_ms

    def endpoints(self) -> Mapping[Endpoint, EndpointPartitions]:
        """Returns which instance has which partitions, as the group last said. For any thread."""
        return self._membership.endpoints

    def commit_offsets(
        self,
        offsets: Mapping[TopicPartition, tuple[int, str]],
        timeout_ms: float = REQUEST_TIMEOUT_MS,
    ) -> None:
        """Commits offsets as the member and waits until that is done.

        Args:
            offsets: (topic, partition) -> (offset of the next record, metadata).
            timeout_ms: how long to try.

        Raises:
            MembershipLostError: this is no member; its tasks belong to others.
            RefusedError: the broker refuses; see its code, topic and partition.
            UnreachableError: the coordinator did not answer in time; the offsets may have been
                committed all the same.
        """
        self._wait_for(self._offsets.commit(dict(offsets), timeout_ms))

    def fetch_offsets(
        self, partitions: Collection[TopicPartition], timeout_ms: float = REQUEST_TIMEOUT_MS
    ) -> dict[TopicPartition, CommittedOffset]:
        """Reads committed offsets as the member; waits for transactions that are not finished.

        Args:
            partitions: (topic, partition) each.
            timeout_ms: how long to try.

        Returns:
            What is committed; partitions without a committed offset are left out.

        Raises:
            MembershipLostError: this is no member.
            RefusedError: the broker refuses, or a transaction did not finish in time.
            UnreachableError: the coordinator did not answer in time.
        """
        return self._wait_for(self._offsets.fetch(list(partitions), timeout_ms))

    def describe(self, timeout_ms: float = REQUEST_TIMEOUT_MS) -> GroupDescription:
        """Asks the coordinator what it knows of the group.

        Raises:
            RefusedError: it refuses, or there is no such group.
            UnreachableError: it did not answer in time.
        """
        group_id = self.settings.group_id
        return self._wait_for(describe_within(self._connection, group_id, timeout_ms))

    def request_shutdown(self) -> None:
        """Asks all instances of the application to shut down. The good-bye repeats it."""
        self._call(self._membership.request_shutdown)

    def prepare_leave(self) -> None:
        """Takes no new tasks any more; still a member, so that tasks can be committed."""
        self._call(self._membership.prepare_leave)

    def leave(self, timeout_ms: float = LEAVE_TIMEOUT_MS) -> bool:
        """Leaves the group and ends the thread; all tasks are committed and closed by now.

        Leaving again does nothing.

        Args:
            timeout_ms: how long to try to say good-bye.

        Returns:
            Whether the good-bye was said, or there was none to say. If not, the tasks move on
            when the session ends.
        """
        if not self._thread.is_alive():
            return True
        self._is_leaving = True
        self._call(self._membership.leave)
        self._thread.join(timeout_ms / 1000)
        was_said = not self._thread.is_alive()
        self.close()
        return was_said

    def close(self) -> None:
        """Ends the thread without a good-bye: for a member that never joined, and for tests."""
        if self._thread.is_alive():
            self._is_leaving = True
            self._call(lambda: self._acting is not None and self._acting.cancel())
            self._thread.join(_STOP_SECONDS)

    # -- between the threads -------------------------------------------------------------

    def _call(self, what: Callable[[], object]) -> None:
        """Has something done by the heartbeat thread, soon; by nobody if that has ended."""
        loop, wake = self._loop, self._wake
        if loop is None or wake is None:
            return

        def do() -> None:
            what()
            wake.set()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(do)

    def _wait_for(self, doing: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        lost = MembershipLostError(f"this member has left group {self.settings.group_id!r}")
        if loop is None or not self._thread.is_alive():
            doing.close()
            raise lost
        try:
            future = asyncio.run_coroutine_threadsafe(doing, loop)
        except RuntimeError as error:  # the loop has ended
            doing.close()
            raise lost from error
        began_ms = self._monotonic_ms()
        while True:
            try:
                return future.result(_WATCH_SECONDS)
            except MembershipLostError:
                # The next heartbeat tells what became of the member: send it now.
                self._call(lambda: self._membership.suspect(self._monotonic_ms()))
                raise
            except TimeoutError:
                if not self._thread.is_alive():
                    raise lost from None
                self.on_wait()
                if self._is_interrupted and self._has_waited(began_ms):
                    future.cancel()
                    raise UnreachableError(
                        f"the coordinator of group {self.settings.group_id!r} did not answer in "
                        "the time a stop may take"
                    ) from None
            except CancelledError as error:
                raise lost from error

    def _has_waited(self, began_ms: float) -> bool:
        """Tells whether a question has taken what it may while the owner is to stop."""
        is_away = isinstance(self._failure, UnreachableError)
        most_ms = _INTERRUPTED_AWAY_MS if is_away else _INTERRUPTED_MS
        return self._monotonic_ms() - max(began_ms, self._interrupted_ms) > most_ms

    # -- the heartbeat thread ------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        finally:
            self._is_settled.set()
            self._is_running.set()

    async def _main(self) -> None:
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._acting = asyncio.create_task(self._act())
        self._is_running.set()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._acting
        finally:
            await self._connection.close()

    async def _act(self) -> None:
        """Does what the membership asks, until it is out for good."""
        membership = self._membership
        try:
            while not (self._is_leaving and membership.is_out):
                membership.note_poll(self._polled_ms)
                await self._do(membership.next_action(self._monotonic_ms()))
        except Exception as error:
            # The end of a thread: the processing loop has to hear of it, or it waits for ever.
            _log.exception("group %s: the heartbeat thread failed", self.settings.group_id)
            fatal = RebalanceError(f"the heartbeat thread failed: {type(error).__name__}: {error}")
            self._tell([Fatal(fatal)])

    async def _do(self, action: Action) -> None:
        membership = self._membership
        match action:
            case Tell(events):
                self._tell(events)
            case Send(heartbeat):
                await self._send(heartbeat)
            case FindCoordinator():
                try:
                    await self._connection.find_coordinator(self.settings.group_id)
                except RebalanceError as error:
                    self._note_failure(error)
                    membership.coordinator_failed(error, self._monotonic_ms())
                else:
                    membership.coordinator_found()
            case Describe():
                await self._describe_member()
            case Wait(until_ms):
                await self._wait(until_ms)

    async def _wait(self, until_ms: float | None) -> None:
        wake = self._wake
        assert wake is not None
        seconds = None if until_ms is None else max(0, until_ms - self._monotonic_ms()) / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wake.wait()
        wake.clear()

    async def _send(self, heartbeat: Heartbeat) -> None:
        membership, number = self._membership, heartbeat.number
        try:
            timeout_ms = heartbeat_timeout_ms(
                membership.interval_ms, is_joining=heartbeat.is_joining
            )
            body = self._heartbeats.encode(heartbeat)
            answer = read_answer(await self._connection.request(HEARTBEAT, body, timeout_ms))
        except RebalanceError as error:
            self._note_failure(error)
            membership.failed(number, error, self._monotonic_ms())
            return
        if isinstance(answer, Refusal):
            said = f"{code_name(answer.code)} {answer.message}".rstrip()
            self._note_failure(RefusedError(said, code=answer.code))
            membership.refused(number, answer.code, answer.message, self._monotonic_ms())
            return
        before = membership.identity.epoch
        membership.answered(number, answer, self._monotonic_ms())
        self._note_success()
        if heartbeat.is_joining and membership.identity.is_member:
            _log.info("group %s: joined as %s", self.settings.group_id, membership.identity)
            self._is_settled.set()
        elif membership.identity.epoch != before:
            _log.debug("group %s: %s", self.settings.group_id, membership.identity)

    async def _describe_member(self) -> None:
        membership, settings = self._membership, self.settings
        try:
            timeout_ms = heartbeat_timeout_ms(membership.interval_ms, is_joining=False)
            group = await describe(self._connection, settings.group_id, timeout_ms)
        except RebalanceError as error:
            _log.warning("group %s: cannot be described: %s", settings.group_id, error)
            membership.described(None, NO_TASKS)
            return
        member = group.member(settings.member_id)
        if member is None:
            membership.described(None, NO_TASKS)
        else:
            membership.described(member.epoch, member.tasks)

    # -- what is told and logged ---------------------------------------------------------

    def _tell(self, events: Iterable[Event]) -> None:
        group_id = self.settings.group_id
        for event in events:
            match event:
                case Revoked(tasks):
                    _log.info("group %s: gives up %s", group_id, TaskAssignment(tasks))
                case Assigned(_, tasks):
                    _log.info("group %s: is to run %s", group_id, tasks)
                case Lost(_, reason):
                    _log.warning("group %s: lost its tasks: %s", group_id, reason)
                case StatusChanged(statuses, _):
                    for status in statuses:
                        # What ends the member is raised as well: whoever tells that need not
                        # tell this.
                        extra = {"is_raised": status.code in ENDS_THE_MEMBER}
                        _log.log(status.level, "group %s: %s", group_id, status, extra=extra)
                case ShutdownRequested():
                    _log.warning("group %s: all instances are asked to shut down", group_id)
                case Refused(error):
                    _log.error("%s", error)
                case Fatal(error):
                    # Its owner raises it, and whoever catches it tells it.
                    _log.debug("group %s: the end: %s", group_id, error)
                    if not self._is_settled.is_set():
                        self._failure = error
            self._events.append(event)
            if isinstance(event, Fatal):
                self._is_settled.set()

    def _note_failure(self, error: RebalanceError) -> None:
        """Keeps the newest failure for whoever waits, and logs it once while it lasts."""
        if self._failure is None or self._failure.message != error.message:
            level = logging.WARNING if isinstance(error, UnreachableError) else logging.INFO
            _log.log(level, "group %s: %s", self.settings.group_id, error)
        self._failure = error

    def _note_success(self) -> None:
        self._answered_ms = self._monotonic_ms()
        if isinstance(self._failure, UnreachableError):
            _log.info("group %s: its coordinator answers again", self.settings.group_id)
        self._failure = None


def _nothing() -> None:
    pass
