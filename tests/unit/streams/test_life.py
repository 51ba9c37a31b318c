"""The states of an application: which step is legal, and who waits for one."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from tests.waiting import HANG_S
from thalweg.streams.errors import StreamsError
from thalweg.streams.life import Life, State

SHORT, LONG = timedelta(milliseconds=1), timedelta(seconds=HANG_S)


def test_a_legal_step_tells_the_state_before() -> None:
    life = Life()
    assert life.move(State.REBALANCING) is State.CREATED
    assert life.move(State.RUNNING) is State.REBALANCING
    assert life.state is State.RUNNING


def test_a_step_out_of_a_shutdown_is_refused() -> None:
    life = Life()
    life.move(State.PENDING_SHUTDOWN)
    assert life.move(State.RUNNING) is None
    assert life.move(State.PENDING_SHUTDOWN) is None
    assert life.state is State.PENDING_SHUTDOWN


def test_whoever_waits_is_woken_by_the_state() -> None:
    life = Life()
    assert not life.wait_for(State.REBALANCING, timeout=SHORT)

    mover = threading.Thread(target=life.move, args=(State.REBALANCING,))
    mover.start()
    assert life.wait_for(State.REBALANCING, timeout=LONG)
    mover.join()


def test_the_end_ends_every_wait() -> None:
    life = Life()
    life.move(State.PENDING_SHUTDOWN)
    life.move(State.NOT_RUNNING)
    assert not life.wait_for(State.RUNNING)
    assert life.wait_for(State.NOT_RUNNING)


def test_its_error_is_raised_once_there_is_one() -> None:
    life = Life()
    life.raise_error()
    life.error = StreamsError("it failed")
    with pytest.raises(StreamsError, match="it failed"):
        life.raise_error()
