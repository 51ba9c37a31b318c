"""The member's thread and its face, over a group without a broker."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.rebalance.coordinator import Coordinator
from tests.unit.rebalance.group import GroupConnection
from tests.waiting import HANG_S, wait_until
from thalweg.rebalance.backoff import Backoff
from thalweg.rebalance.errors import (
    AuthenticationError,
    MembershipLostError,
    RebalanceError,
    RefusedError,
    UnreachableError,
)
from thalweg.rebalance.events import (
    Assigned,
    Event,
    Fatal,
    Lost,
    Revoked,
    StatusChanged,
)
from thalweg.rebalance.group_codes import Status, StatusCode
from thalweg.rebalance.heartbeat_thread import GroupClient, heartbeat_timeout_ms
from thalweg.rebalance.messages import HEARTBEAT, Api, CommittedOffset
from thalweg.rebalance.values import MemberSettings, TaskAssignment, TaskId

TASKS = frozenset(TaskId("0", partition) for partition in range(4))


def monotonic_ms() -> float:
    return time.monotonic_ns() / 1e6


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator(TASKS, interval_ms=10)


Open = Callable[..., GroupClient]


@pytest.fixture
def open_client(coordinator: Coordinator) -> Iterator[Open]:
    """Makes members of one group; all are closed in the end."""
    clients: list[GroupClient] = []

    def make(
        member_id: str = "m", connection: GroupConnection | None = None, **settings: Any
    ) -> GroupClient:
        told = MemberSettings("g", member_id, "p", frozenset({"0"}), **settings)
        client = GroupClient(
            told,
            (),
            connection or GroupConnection(coordinator),
            monotonic_ms=monotonic_ms,
            randomness=random.Random(1),
            backoff=Backoff(1, 10),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
    assert not [one for one in threading.enumerate() if one.name == "g-heartbeat"]


def events(client: GroupClient, kind: type[Event]) -> list[Event]:
    """Waits for events up to the first of a kind."""
    found: list[Event] = []

    def poll() -> bool:
        client.note_poll(monotonic_ms())
        found.extend(client.poll())
        return any(isinstance(event, kind) for event in found)

    wait_until(poll, HANG_S, kind.__name__)
    return found


def run_all(client: GroupClient) -> TaskAssignment:
    """Takes over the next assignment that has tasks."""
    while True:
        (assigned,) = [e for e in events(client, Assigned) if isinstance(e, Assigned)]
        client.acknowledge(assigned.tasks.active)
        if assigned.tasks:
            return assigned.tasks


def test_a_member_is_in_when_start_returns(open_client: Open, coordinator: Coordinator) -> None:
    client = open_client()

    client.start()

    assert client.identity().is_member
    assert client.identity().member_id in coordinator.members
    assert client.is_ready
    assert client.endpoints() == {}


def test_tasks_come_by_polling_and_are_acknowledged(
    open_client: Open, coordinator: Coordinator
) -> None:
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()

    assert run_all(client).active == TASKS

    def is_told() -> bool:
        lists = [one.active_tasks for one in connection.heartbeats if one.active_tasks]
        return bool(lists) and {p for one in lists[-1] for p in one.partitions} == {0, 1, 2, 3}

    wait_until(is_told, HANG_S, "the acknowledgement")


def test_a_second_member_gets_what_the_first_gave_up(
    open_client: Open, coordinator: Coordinator
) -> None:
    first, second = open_client("m1"), open_client("m2")
    first.start()
    run_all(first)
    second.start()
    revoked, assigned = events(first, Assigned)

    assert isinstance(revoked, Revoked)
    assert isinstance(assigned, Assigned)
    assert assigned.tasks.active == TASKS - revoked.tasks
    assert not coordinator.members["m2"].assigned
    first.acknowledge(assigned.tasks.active)
    assert run_all(second).active == revoked.tasks


def test_only_what_was_assigned_can_be_acknowledged(open_client: Open) -> None:
    client = open_client()
    client.acknowledge([("0", 9)])  # nothing to acknowledge yet
    client.start()
    run_all(client)

    with pytest.raises(ValueError, match="but what runs is active 0_9"):
        client.acknowledge([("0", 9)])


def test_a_member_thrown_out_is_told_once_what_it_lost(
    open_client: Open, coordinator: Coordinator
) -> None:
    client = open_client()
    client.start()
    run_all(client)
    coordinator.expire("m")

    found = events(client, Lost)

    assert [type(event) for event in found] == [Lost]
    assert "UNKNOWN_MEMBER_ID" in found[0].reason  # type: ignore[union-attr]
    assert not client.identity().is_member
    client.acknowledge()
    assert run_all(client).active == TASKS


def test_what_a_loss_overtakes_on_its_way_is_not_told(
    open_client: Open, coordinator: Coordinator
) -> None:
    """The loop was slow: it hears of a revocation and a loss at once, and only the loss counts."""
    first, second = open_client("m1"), open_client("m2")
    first.start()
    run_all(first)
    second.start()
    wait_until(lambda: coordinator.members["m1"].revoking, HANG_S, "the revocation")
    coordinator.expire("m1")
    wait_until(lambda: not first.identity().is_member, HANG_S, "the loss")

    found = events(first, Lost)

    assert [type(event) for event in found] == [Lost]


def test_offsets_are_committed_and_read_as_the_member(open_client: Open) -> None:
    client = open_client()
    client.start()

    client.commit_offsets({("t", 0): (5, "m"), ("t", 1): (6, "")})

    assert client.fetch_offsets([("t", 0), ("t", 1), ("t", 2)]) == {
        ("t", 0): CommittedOffset(5, "m"),
        ("t", 1): CommittedOffset(6, ""),
    }


def test_a_commit_that_finds_no_member_hastens_the_next_heartbeat(
    open_client: Open, coordinator: Coordinator
) -> None:
    coordinator.interval_ms = 100_000
    client = open_client()
    client.start()
    run_all(client)
    coordinator.members.clear()

    with pytest.raises(MembershipLostError):
        client.commit_offsets({("t", 0): (5, "")})

    events(client, Lost)


def test_slow_user_code_delays_no_heartbeat(open_client: Open, coordinator: Coordinator) -> None:
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()
    run_all(client)
    before = len(connection.heartbeats)

    # This thread is busy and does not poll.
    wait_until(lambda: len(connection.heartbeats) > before + 20, HANG_S, "20 heartbeats")

    assert client.identity().is_member


def test_a_loop_that_hangs_is_noticed(open_client: Open, coordinator: Coordinator) -> None:
    client = open_client(rebalance_timeout_ms=200)
    client.start()
    run_all(client)

    wait_until(lambda: "m" not in coordinator.members, HANG_S, "the good-bye")

    assert [type(event) for event in events(client, Lost)] == [Lost]
    client.acknowledge()
    assert run_all(client).active == TASKS


def test_a_member_that_leaves_says_so_and_ends_its_thread(
    open_client: Open, coordinator: Coordinator
) -> None:
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()

    assert client.leave()

    assert coordinator.members == {}
    assert connection.is_closed
    assert connection.heartbeats[-1].member_epoch == -1
    assert client.leave(), "leaving again does nothing"
    with pytest.raises(MembershipLostError, match="has left"):
        client.commit_offsets({("t", 0): (1, "")})
    with pytest.raises(MembershipLostError, match="has left"):
        client.describe()
    client.acknowledge()
    client.request_shutdown()


def test_a_good_bye_nobody_hears_does_not_hold_anyone_up(
    open_client: Open, coordinator: Coordinator
) -> None:
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()
    release = threading.Event()
    connection.before = lambda _api: release.wait(HANG_S) and None  # the network hangs
    timer = threading.Timer(0.5, release.set)
    timer.start()

    assert not client.leave(timeout_ms=50)

    timer.join()


def test_joining_can_be_interrupted(open_client: Open, coordinator: Coordinator) -> None:
    connection = GroupConnection(coordinator)
    asked = threading.Event()

    def away(_api: Api) -> None:
        asked.set()
        raise UnreachableError("nobody is there")

    connection.before = away
    client = open_client(connection=connection)
    joining = threading.Thread(target=client.start)
    joining.start()
    assert asked.wait(HANG_S)
    assert joining.is_alive()

    client.interrupt()

    joining.join(HANG_S)
    assert not joining.is_alive()
    assert client.leave()
    assert coordinator.members == {}


def test_a_client_that_was_interrupted_before_does_not_wait(
    open_client: Open, coordinator: Coordinator
) -> None:
    client = open_client(connection=GroupConnection(coordinator))
    client.interrupt()

    client.start()

    assert client.leave()
    assert coordinator.members == {}


def test_a_start_without_a_bound_waits_for_its_coordinator_and_says_so(
    open_client: Open,
    coordinator: Coordinator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("thalweg.rebalance.heartbeat_thread._TELL_SECONDS", 0.001)
    connection = GroupConnection(coordinator)

    def away(_api: Api) -> None:
        if "waiting for its coordinator: nobody is there" not in caplog.text:
            raise UnreachableError("nobody is there")

    connection.before = away
    client = open_client(connection=connection)

    client.start(timeout_ms=None)

    assert client.identity().is_member


def test_who_is_to_stop_does_not_wait_for_an_answer_about_offsets(
    open_client: Open, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.rebalance.heartbeat_thread._INTERRUPTED_AWAY_MS", 1)
    monkeypatch.setattr("thalweg.rebalance.heartbeat_thread._INTERRUPTED_MS", 1)
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()
    asked = threading.Event()

    def away(_api: Api) -> None:
        asked.set()
        raise UnreachableError("nobody is there")

    connection.before = away
    failures: list[RebalanceError] = []

    def commit() -> None:
        try:
            client.commit_offsets({("t", 0): (1, "")}, timeout_ms=3_600_000)
        except RebalanceError as error:
            failures.append(error)

    committing = threading.Thread(target=commit)
    committing.start()
    assert asked.wait(HANG_S)

    client.interrupt()

    committing.join(HANG_S)
    assert not committing.is_alive()
    (failure,) = failures
    assert isinstance(failure, UnreachableError)
    assert "the time a stop may take" in failure.message


def test_who_hears_nothing_is_out_of_touch_until_it_does(
    open_client: Open, coordinator: Coordinator
) -> None:
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()
    wait_until(lambda: client.is_in_touch, HANG_S, "an answer")

    def away(_api: Api) -> None:
        raise UnreachableError("nobody is there")

    connection.before, here = away, connection.before

    wait_until(lambda: not client.is_in_touch, HANG_S, "silence")
    connection.before = here
    wait_until(lambda: client.is_in_touch, HANG_S, "an answer")


def test_a_shutdown_is_asked_for(open_client: Open, coordinator: Coordinator) -> None:
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()

    client.request_shutdown()
    client.leave()

    assert connection.heartbeats[-1].shutdown_application


STATUSES = [
    (0, "t", "WARNING", "this member's topology is older than the group's", True),
    (1, "t", "WARNING", "source topics do not exist: create them", False),
    (2, "t", "ERROR", "partition counts do not fit", False),
    (3, "t", "INFO", "the broker is creating the internal topics", False),
    (3, "Creation failed: t", "ERROR", "the broker cannot create the internal topics", False),
    (3, "Unauthorized to CREATE", "ERROR", "the broker cannot create the internal topics", False),
    (4, "t", "WARNING", "a member asked all instances of the application to shut down", True),
    (5, "t", "INFO", "the broker waits for more members before it assigns tasks", False),
    (6, "t", "WARNING", "client tags are missing", True),
    (99, "t", "WARNING", "status 99, which this version does not know", True),
]


@pytest.mark.parametrize(("code", "detail", "level", "words", "is_ready"), STATUSES)
def test_statuses_are_told_and_logged(
    open_client: Open,
    caplog: pytest.LogCaptureFixture,
    code: int,
    detail: str,
    level: str,
    words: str,
    is_ready: bool,
) -> None:
    caplog.set_level(logging.INFO, "thalweg.rebalance")
    connection = GroupConnection(Coordinator(frozenset(), interval_ms=10))
    connection.statuses = [{"status_code": code, "status_detail": detail}]
    client = open_client(connection=connection)
    client.start()

    (changed,) = [e for e in events(client, StatusChanged) if isinstance(e, StatusChanged)]

    assert changed == StatusChanged((Status(code, detail),), is_ready)
    assert client.is_ready == is_ready
    begins = f"group g: {words}"
    (logged,) = [one for one in caplog.records if one.getMessage().startswith(begins)]
    assert logged.levelname == level
    assert logged.getMessage().endswith(f"({detail})")
    assert "group g: joined as member m with epoch 1" in caplog.messages


def test_no_status_is_left_out_above() -> None:
    assert {code for code, *_ in STATUSES} == {*StatusCode, 99}


def test_a_group_is_described(open_client: Open) -> None:
    client = open_client()
    client.start()

    member = client.describe().member("m")

    assert member is not None
    assert member.tasks.active == TASKS


# Starting.


def raising(*errors: RebalanceError) -> Callable[[Api], None]:
    """Fails with these, the last of them for ever."""
    left = list(errors)

    def before(api: Api) -> None:
        raise left.pop(0) if len(left) > 1 else left[0]

    return before


@pytest.mark.parametrize(
    "error", [AuthenticationError("wrong password"), UnreachableError("nobody there")]
)
def test_a_start_that_fails_says_why_and_ends_the_thread(
    open_client: Open, coordinator: Coordinator, error: RebalanceError
) -> None:
    connection = GroupConnection(coordinator)
    connection.before = raising(error)
    client = open_client(connection=connection)

    with pytest.raises(type(error), match=error.message):
        client.start(timeout_ms=100)

    assert connection.is_closed


def test_a_start_gets_over_what_passes(open_client: Open, coordinator: Coordinator) -> None:
    connection = GroupConnection(coordinator)
    failures = iter([UnreachableError("not yet")] * 5)

    def before(api: Api) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    connection.before = before
    client = open_client(connection=connection)

    client.start()

    assert client.identity().is_member
    assert connection.lookups > 5


def test_a_start_that_is_refused_says_why(open_client: Open, coordinator: Coordinator) -> None:
    class Refusing(Coordinator):
        def heartbeat(self, member_id: str, sent: Any) -> Any:
            from thalweg.rebalance.heartbeat import Refusal

            return Refusal(30, "")

    client = open_client(connection=GroupConnection(Refusing(TASKS)))

    with pytest.raises(RefusedError, match="grant READ on the group"):
        client.start()


def test_a_fault_of_the_thread_is_told(
    open_client: Open, coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the loop would wait for ever for somebody who is not there any more."""
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()

    def fault(api: Api) -> None:
        raise KeyError("bug")

    connection.before = fault
    (fatal,) = [e for e in events(client, Fatal) if isinstance(e, Fatal)]

    assert "the heartbeat thread failed: KeyError: 'bug'" in fatal.error.message
    wait_until(lambda: not client._thread.is_alive(), HANG_S, "the end of the thread")
    with pytest.raises(MembershipLostError):
        client.commit_offsets({("t", 0): (1, "")})


def test_an_outage_is_logged_once_and_so_is_its_end(
    open_client: Open, coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "thalweg.rebalance")
    connection = GroupConnection(coordinator)
    client = open_client(connection=connection)
    client.start()
    failing = raising(UnreachableError("nobody there"))
    connection.before = lambda api: failing(api) if api == HEARTBEAT else None
    lookups = connection.lookups
    wait_until(lambda: connection.lookups > lookups + 5, HANG_S, "five attempts")
    connection.before = lambda _api: None
    wait_until(lambda: "group g: its coordinator answers again" in caplog.messages, HANG_S, "end")

    assert caplog.messages.count("group g: nobody there") == 1


# How long to wait.


@pytest.mark.parametrize(
    ("interval_ms", "expected"), [(10, 2_000), (500, 2_000), (3_000, 6_000), (15_000, 10_000)]
)
def test_an_answer_is_waited_for_shorter_than_a_session(interval_ms: int, expected: int) -> None:
    assert heartbeat_timeout_ms(interval_ms, is_joining=False) == expected
    assert heartbeat_timeout_ms(interval_ms, is_joining=True) == 10_000
