"""Time and randomness: the only module that reads them.

Owns the wall clock, the monotonic clock and the seeded random generator of the runtime. All other
modules get `now_ms` or a `Clock` as an argument, so that a test or a simulation can run a whole
application on a clock that it moves. It must not know what time is used for.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from datetime import timedelta

from thalweg.stores.durations import to_ms


class Clock(ABC):
    """Where time comes from.

    Attributes:
        random: generator for jitter and identifiers; seeded in tests.
    """

    random: random.Random

    @abstractmethod
    def now_ms(self) -> int:
        """Returns wall-clock time in epoch milliseconds; it may jump."""

    @abstractmethod
    def monotonic_ms(self) -> float:
        """Returns milliseconds since some fixed moment; it never goes back."""

    @abstractmethod
    def sleep_ms(self, duration_ms: float) -> None:
        """Waits, or lets a manual clock pass the time at once."""

    @abstractmethod
    def wait(self, signal: threading.Event, timeout_ms: float) -> bool:
        """Waits until a signal is set, at most so long; returns whether it is set.

        All waiting of a worker goes through here: a simulation's clock passes the time at once.
        """


class SystemClock(Clock):
    """The machine's clock."""

    def __init__(self) -> None:
        self.random = random.Random()

    def now_ms(self) -> int:
        """Returns wall-clock time in epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Returns milliseconds that never go back."""
        return time.monotonic_ns() / 1_000_000

    def sleep_ms(self, duration_ms: float) -> None:
        """Waits for `duration_ms`; not at all when it is not positive."""
        if duration_ms > 0:
            time.sleep(duration_ms / 1000)

    def wait(self, signal: threading.Event, timeout_ms: float) -> bool:
        """Waits until a signal is set, at most `timeout_ms`."""
        return signal.wait(timeout_ms / 1000)


class ManualClock(Clock):
    """A clock that stands still until it is told to move.

    Args:
        now_ms: where wall-clock time begins, in epoch milliseconds.
        seed: seed of `random`.
    """

    def __init__(self, now_ms: int = 0, *, seed: int = 0) -> None:
        if now_ms < 0:
            message = f"now_ms must be 0 or more, got {now_ms}"
            raise ValueError(message)
        self.random = random.Random(seed)
        self._now_ms = now_ms
        self._elapsed_ms = 0.0

    def now_ms(self) -> int:
        """Returns the time it was moved to, in epoch milliseconds."""
        return self._now_ms

    def monotonic_ms(self) -> float:
        """Returns by how much it was advanced; setting the wall clock does not change it."""
        return self._elapsed_ms

    def sleep_ms(self, duration_ms: float) -> None:
        """Advances by `duration_ms`, rounded up to whole milliseconds, and returns at once."""
        if duration_ms > 0:
            self.advance(-int(-duration_ms // 1))

    def wait(self, signal: threading.Event, timeout_ms: float) -> bool:
        """Waits for other threads by the machine's time; this clock stays where it is.

        Who moves the clock is another thread: time must not pass behind its back.
        """
        return signal.wait(timeout_ms / 1000)

    def advance(self, duration: timedelta | int) -> None:
        """Moves the clock forward.

        Args:
            duration: a timedelta, or milliseconds; 0 or more.

        Raises:
            ValueError: the duration is negative.
        """
        duration_ms = to_ms(duration)
        if duration_ms < 0:
            message = f"a clock cannot be advanced by {duration_ms} ms; use set_now_ms to jump back"
            raise ValueError(message)
        self._now_ms += duration_ms
        self._elapsed_ms += duration_ms

    def set_now_ms(self, now_ms: int) -> None:
        """Lets wall-clock time jump, as an administrator or NTP may; monotonic time stays."""
        if now_ms < 0:
            message = f"now_ms must be 0 or more, got {now_ms}"
            raise ValueError(message)
        self._now_ms = now_ms
