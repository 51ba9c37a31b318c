"""How long calls wait for the brokers, and what a stop makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from thalweg.streams.clock import ManualClock
from thalweg.streams.errors import BrokerError
from thalweg.streams.transport.kafka.deadlines import HURRY_AWAY_MS, HURRY_MS, Deadlines


class Waiting:
    """Deadlines with a clock, a connection and a stop that the test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.connection = SimpleNamespace(is_away=False)
        self.is_stopping = False
        self.deadlines = Deadlines(
            self.clock.monotonic_ms, self.connection, lambda: self.is_stopping
        )

    def left_of(self, wait_ms: float) -> float:
        return self.deadlines.left_ms(self.clock.monotonic_ms() + wait_ms)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_without_a_stop_all_the_time_is_left(waiting: Waiting) -> None:
    assert waiting.left_of(30_000) == 30_000
    waiting.deadlines.raise_hurried("nothing")
    assert not waiting.deadlines.is_hurried


def test_a_stop_shortens_every_wait(waiting: Waiting) -> None:
    waiting.deadlines.hurry()
    assert waiting.left_of(30_000) == HURRY_MS
    assert waiting.left_of(10) == 10

    waiting.clock.advance(1_000)
    assert waiting.left_of(30_000) == HURRY_MS - 1_000


def test_a_stop_is_noticed_by_whoever_waits(waiting: Waiting) -> None:
    waiting.is_stopping = True
    assert waiting.left_of(30_000) == HURRY_MS
    assert waiting.deadlines.is_hurried


def test_brokers_that_are_away_are_waited_for_for_a_moment(waiting: Waiting) -> None:
    waiting.deadlines.hurry()
    waiting.connection.is_away = True
    assert waiting.left_of(30_000) == HURRY_AWAY_MS

    waiting.clock.advance(HURRY_AWAY_MS)
    with pytest.raises(BrokerError, match=r"^no luck: the brokers did not answer") as caught:
        waiting.deadlines.raise_hurried("no luck")
    assert caught.value.retriable
    assert caught.value.is_away


def test_the_time_begins_anew_unless_it_has_run_out(waiting: Waiting) -> None:
    waiting.deadlines.hurry()
    waiting.clock.advance(HURRY_MS - 1)
    waiting.deadlines.hurry()
    assert waiting.left_of(30_000) == HURRY_MS

    waiting.clock.advance(HURRY_MS)
    with pytest.raises(BrokerError):
        waiting.deadlines.raise_hurried("no luck")
    waiting.deadlines.hurry()
    assert waiting.left_of(30_000) <= 0
