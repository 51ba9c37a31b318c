"""When workers are started again, and when all is over: decisions on a clock of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.processes.restart_policy import (
    DONE,
    FAILED,
    REFUSED,
    SHUT_DOWN,
    STOPPED_AT_ONCE,
    Decision,
    Ending,
    RestartPolicy,
    Restarts,
)

POLICY = RestartPolicy(
    pause_ms=100, pause_most_ms=400, window_ms=10_000, crashes_most=4, stop_ms=1_000
)


def running(count: int) -> Restarts:
    """Returns a restarts whose workers all run."""
    restarts = Restarts(count, POLICY)
    for worker in restarts.decide(0).starts:
        restarts.started(worker)
    return restarts


def test_all_workers_are_started_at_first() -> None:
    assert Restarts(3).decide(0) == Decision(starts=(1, 2, 3))


def test_nothing_is_done_while_all_run() -> None:
    assert running(2).decide(5) == Decision()


def test_a_crashed_worker_waits_longer_each_time_up_to_a_bound() -> None:
    restarts, now, pauses = running(2), 0.0, []
    for _ in range(4):
        outcome = restarts.exited(1, -9, now)
        assert outcome.ending is Ending.RESTARTED
        pauses.append(outcome.pause_ms)
        assert restarts.decide(now) == Decision(wait_ms=outcome.pause_ms)
        now += outcome.pause_ms
        assert restarts.decide(now) == Decision(starts=(1,))
        restarts.started(1)

    assert pauses == [100, 200, 400, 400]


def test_a_worker_that_crashes_too_often_ends_all() -> None:
    restarts, now = running(2), 0.0
    for _ in range(4):
        now += restarts.exited(1, FAILED, now).pause_ms
        assert restarts.decide(now).starts == (1,)
        restarts.started(1)

    outcome = restarts.exited(1, FAILED, now)

    assert (outcome.ending, outcome.crashes) == (Ending.GIVEN_UP, 5)
    assert restarts.decide(now) == Decision(terminates=(2,), wait_ms=1_000)
    assert restarts.exited(2, DONE, now + 1).ending is Ending.STOPPED
    assert restarts.decide(now + 1) == Decision(exit_code=FAILED)


def test_crashes_long_ago_are_forgotten() -> None:
    restarts, now = running(1), 0.0
    for _ in range(20):
        now += 5_000
        outcome = restarts.exited(1, FAILED, now)
        assert outcome.ending is Ending.RESTARTED
        assert outcome.crashes <= 2
        restarts.started(1)


@pytest.mark.parametrize("code", [REFUSED, SHUT_DOWN])
def test_a_worker_that_cannot_run_or_ends_all_is_not_tried_again(code: int) -> None:
    restarts = running(2)

    assert restarts.exited(1, code, 0).ending is Ending.GIVEN_UP
    assert restarts.decide(0).terminates == (2,)
    restarts.exited(2, DONE, 1)
    assert restarts.decide(1).exit_code == code


def test_workers_that_are_done_are_left_alone() -> None:
    restarts = running(2)

    assert restarts.exited(1, DONE, 0).ending is Ending.DONE
    assert restarts.decide(0) == Decision()
    restarts.exited(2, DONE, 1)
    assert restarts.decide(1) == Decision(exit_code=DONE)


def test_a_stop_asks_everyone_once_and_starts_nobody() -> None:
    restarts = running(3)
    restarts.exited(3, FAILED, 0)
    restarts.stop(10)

    assert restarts.decide(10) == Decision(terminates=(1, 2), wait_ms=1_000)
    assert restarts.decide(500) == Decision(wait_ms=510)
    restarts.exited(1, DONE, 600)
    restarts.exited(2, DONE, 600)
    assert restarts.decide(600) == Decision(exit_code=DONE)


def test_a_worker_that_does_not_stop_in_time_is_killed() -> None:
    restarts = running(2)
    restarts.stop(0)
    restarts.decide(0)
    restarts.exited(1, DONE, 10)

    assert restarts.decide(1_000) == Decision(kills=(2,))
    assert restarts.decide(1_000) == Decision()
    restarts.exited(2, -9, 1_001)
    assert restarts.decide(1_001) == Decision(exit_code=STOPPED_AT_ONCE)


def test_a_second_stop_kills_at_once() -> None:
    restarts = running(1)
    restarts.stop(0)
    assert restarts.decide(0).terminates == (1,)
    restarts.stop(1)

    assert restarts.decide(1) == Decision(kills=(1,))


def test_a_worker_that_was_asked_before_it_could_listen_has_stopped_cleanly() -> None:
    restarts = running(1)
    restarts.stop(0)
    restarts.decide(0)
    restarts.exited(1, -15, 1)

    assert restarts.decide(1) == Decision(exit_code=DONE)


def test_a_worker_that_fails_while_it_stops_is_told_by_the_exit_code() -> None:
    restarts = running(2)
    restarts.stop(0)
    restarts.decide(0)
    restarts.exited(1, FAILED, 1)
    restarts.exited(2, DONE, 1)

    assert restarts.decide(1).exit_code == FAILED


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(1, 4), st.sampled_from([-9, 0, 1, 3])),
        max_size=60,
    ),
)
def test_nobody_is_started_twice_and_the_end_comes_once_nobody_is_left(
    count: int, steps: list[tuple[int, int, int]]
) -> None:
    restarts, now, alive = Restarts(count, POLICY), 0.0, set[int]()
    over = False

    def act() -> Decision:
        decision = restarts.decide(now)
        assert not alive & set(decision.starts)
        assert set(decision.terminates) | set(decision.kills) <= alive
        for worker in decision.starts:
            restarts.started(worker)
            alive.add(worker)
        return decision

    for elapsed, worker, code in steps:
        now += elapsed
        over = act().exit_code is not None
        assert not (over and alive)
        if over:
            break
        if worker in alive:
            alive.discard(worker)
            restarts.exited(worker, code, now)
    restarts.stop(now)
    act()
    for worker in list(alive):
        restarts.exited(worker, DONE, now)
    assert restarts.decide(now).exit_code is not None
