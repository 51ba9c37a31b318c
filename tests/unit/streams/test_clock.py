"""The one door to time: the machine's clock, and one that is moved by hand."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.clock import ManualClock, SystemClock


def test_the_machines_clock_goes_on() -> None:
    clock = SystemClock()
    wall, monotonic = clock.now_ms(), clock.monotonic_ms()
    assert wall > 1_600_000_000_000
    clock.sleep_ms(2)
    assert clock.monotonic_ms() >= monotonic + 2


@pytest.mark.parametrize("duration_ms", [0, -1, -0.5])
def test_there_is_no_negative_sleep(duration_ms: float) -> None:
    SystemClock().sleep_ms(duration_ms)
    clock = ManualClock(5)
    clock.sleep_ms(duration_ms)
    assert (clock.now_ms(), clock.monotonic_ms()) == (5, 0)


def test_waiting_ends_with_the_signal_or_the_time() -> None:
    manual = ManualClock(5)
    for clock in (SystemClock(), manual):
        signal = threading.Event()
        began_ms = SystemClock().monotonic_ms()
        assert not clock.wait(signal, 2)
        assert SystemClock().monotonic_ms() >= began_ms + 2
        signal.set()
        assert clock.wait(signal, 3_600_000)
    # It is moved by another thread, for whom this one waits.
    assert (manual.now_ms(), manual.monotonic_ms()) == (5, 0)


def test_a_manual_clock_stands_still() -> None:
    clock = ManualClock(1_000)
    assert [clock.now_ms() for _ in range(3)] == [1_000] * 3
    assert clock.monotonic_ms() == 0


@given(st.lists(st.one_of(st.integers(0, 10_000), st.timedeltas(timedelta(0), timedelta(days=9)))))
def test_it_goes_as_far_as_it_is_advanced(steps: list[int | timedelta]) -> None:
    clock, passed = ManualClock(7), 0
    for step in steps:
        clock.advance(step)
        passed += step if isinstance(step, int) else step // timedelta(milliseconds=1)
        assert (clock.now_ms(), clock.monotonic_ms()) == (7 + passed, passed)


@given(st.floats(0, 1_000, exclude_min=True))
def test_sleeping_lets_whole_milliseconds_pass_at_once(duration_ms: float) -> None:
    clock = ManualClock()
    clock.sleep_ms(duration_ms)
    assert duration_ms <= clock.now_ms() <= duration_ms + 1


def test_the_wall_clock_may_jump_the_other_may_not() -> None:
    clock = ManualClock(1_000)
    clock.advance(5)
    clock.set_now_ms(10)
    assert (clock.now_ms(), clock.monotonic_ms()) == (10, 5)
    clock.advance(timedelta(seconds=1))
    assert (clock.now_ms(), clock.monotonic_ms()) == (1_010, 1_005)


def test_it_does_not_go_back_or_before_1970() -> None:
    clock = ManualClock(1_000)
    for step in (-1, timedelta(milliseconds=-1)):
        with pytest.raises(ValueError, match="use set_now_ms to jump back"):
            clock.advance(step)
    with pytest.raises(ValueError, match="now_ms must be 0 or more, got -1"):
        clock.set_now_ms(-1)
    with pytest.raises(ValueError, match="now_ms must be 0 or more, got -1"):
        ManualClock(-1)
    assert clock.now_ms() == 1_000


def test_randomness_is_seeded() -> None:
    def numbers(seed: int) -> list[float]:
        clock = ManualClock(seed=seed)
        return [clock.random.random() for _ in range(5)]

    assert numbers(1) == numbers(1) != numbers(2)
    assert numbers(0) == [one.random.random() for one in [ManualClock()] for _ in range(5)]
    assert SystemClock().random.random() != SystemClock().random.random()
