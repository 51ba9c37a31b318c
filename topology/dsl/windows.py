"""Windows of event time, as the DSL names them.

Owns which windows a timestamp belongs to, the limits of the settings, when results are sent, and
the partition of a windowed key (that of its inner key, so that all windows of a key are in one
partition). It must not know aggregations or stores.

Source: JVM `TimeWindows`, `UnlimitedWindows`, `SlidingWindows`, `SessionWindows`, `EmitStrategy`,
`WindowedStreamPartitioner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from thalweg.stores.durations import Duration, to_ms
from thalweg.stores.murmur2 import murmur2
from thalweg.stores.serde import Serde
from thalweg.stores.windowed import FOREVER_MS, Windowed


def duration_ms(duration: Duration, what: str) -> int:
    """Turns a duration into milliseconds.

    Raises:
        TypeError: if it is neither a `timedelta` nor an int.
        ValueError: if it is negative.
    """
    length_ms = to_ms(duration)
    if type(length_ms) is not int:  # a bool is no duration
        raise TypeError(f"{what} must be a timedelta or an int of milliseconds, got {duration!r}")
    if length_ms < 0:
        raise ValueError(f"{what} must not be negative, got {duration!r}")
    return length_ms


@dataclass(frozen=True, slots=True)
class TimeWindows:
    """Windows of one size, aligned to the epoch: tumbling, or hopping after `advance_by`.

    Attributes:
        size_ms: length of a window; its end is exclusive.
        advance_ms: distance between the starts of two windows.
        grace_ms: how long after its end a window still takes late records.
    """

    size_ms: int
    advance_ms: int
    grace_ms: int = 0

    def __post_init__(self) -> None:
        """Checks the settings against each other."""
        if self.size_ms <= 0:
            raise ValueError(f"window size must be at least 1 ms, got {self.size_ms}")
        if not 0 < self.advance_ms <= self.size_ms:
            raise ValueError(
                f"windows of {self.size_ms} ms must advance by 1 to {self.size_ms} ms, "
                f"got {self.advance_ms}; a larger step would leave records out"
            )

    @classmethod
    def of_size(cls, size: Duration, grace: Duration | None = None) -> TimeWindows:
        """Makes tumbling windows; without `grace`, late records are dropped."""
        size_ms = duration_ms(size, "window size")
        grace_ms = 0 if grace is None else duration_ms(grace, "grace")
        return cls(size_ms, size_ms, grace_ms)

    def advance_by(self, advance: Duration) -> TimeWindows:
        """Makes the windows hop: a new one starts every `advance`."""
        return replace(self, advance_ms=duration_ms(advance, "advance"))

    @property
    def is_unlimited(self) -> bool:
        """Whether the windows have no end: no."""
        return False

    def windows_for(self, timestamp: int) -> Sequence[tuple[int, int]]:
        """Returns (start, end) of the windows that contain `timestamp`, earliest first."""
        size_ms, advance_ms = self.size_ms, self.advance_ms
        if advance_ms == size_ms:
            start = timestamp - timestamp % size_ms
            return ((start, start + size_ms),)
        first = max(0, timestamp - size_ms + advance_ms) // advance_ms * advance_ms
        return [(start, start + size_ms) for start in range(first, timestamp + 1, advance_ms)]


@dataclass(frozen=True, slots=True)
class UnlimitedWindows:
    """One window without an end, from `start_ms` on; earlier records belong to none."""

    start_ms: int = 0

    def __post_init__(self) -> None:
        """Checks the start."""
        if self.start_ms < 0:
            raise ValueError(f"an unlimited window must not start before 0, got {self.start_ms}")

    @classmethod
    def of(cls, start_ms: int = 0) -> UnlimitedWindows:
        """Makes the window that starts at `start_ms` after the epoch."""
        return cls(start_ms)

    @property
    def size_ms(self) -> int:
        """Length of the window, as the JVM counts it."""
        return FOREVER_MS

    @property
    def grace_ms(self) -> int:
        """How long after its end the window takes records: it never ends."""
        return 0

    @property
    def is_unlimited(self) -> bool:
        """Whether the window has no end: yes."""
        return True

    def windows_for(self, timestamp: int) -> Sequence[tuple[int, int]]:
        """Returns (start, end) of the window if it contains `timestamp`."""
        return ((self.start_ms, FOREVER_MS),) if timestamp >= self.start_ms else ()


@dataclass(frozen=True, slots=True)
class SlidingWindows:
    """Windows of one size that records themselves make: each ends at one or begins behind one.

    Two records of a key are in one window if their times differ by no more than the difference;
    both ends of a window are included. So there is a window for each set of records that are so
    close together.

    Attributes:
        difference_ms: how far apart the first and the last record of a window may be.
        grace_ms: how long after its end a window still takes late records.
    """

    difference_ms: int
    grace_ms: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.difference_ms <= 0:
            raise ValueError(f"time difference must be at least 1 ms, got {self.difference_ms}")

    @classmethod
    def of_time_difference(
        cls, difference: Duration, grace: Duration | None = None
    ) -> SlidingWindows:
        """Makes sliding windows; without `grace`, late records are dropped.

        Example:
            >>> SlidingWindows.of_time_difference(timedelta(minutes=5), grace=timedelta(minutes=1))
        """
        grace_ms = 0 if grace is None else duration_ms(grace, "grace")
        return cls(duration_ms(difference, "time difference"), grace_ms)

    @property
    def size_ms(self) -> int:
        """Length of a window: its end less its start."""
        return self.difference_ms


@dataclass(frozen=True, slots=True)
class SessionWindows:
    """Sessions: windows that last as long as there is no gap between the records of a key.

    A record belongs to a session if it is no further from one of its records than the gap. A
    record between two sessions can make one of them. A session begins and ends with a record, and
    both ends are included.

    Attributes:
        gap_ms: the longest time without a record within a session.
        grace_ms: how long after its end and the gap a session still takes late records.
    """

    gap_ms: int
    grace_ms: int = 0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if self.gap_ms <= 0:
            raise ValueError(f"inactivity gap must be at least 1 ms, got {self.gap_ms}")

    @classmethod
    def of_inactivity_gap(cls, gap: Duration, grace: Duration | None = None) -> SessionWindows:
        """Makes sessions; without `grace`, late records are dropped.

        Example:
            >>> SessionWindows.of_inactivity_gap(timedelta(minutes=30), grace=timedelta(minutes=5))
        """
        grace_ms = 0 if grace is None else duration_ms(grace, "grace")
        return cls(duration_ms(gap, "inactivity gap"), grace_ms)


class EmitStrategy(Enum):
    """When the results of windows are sent."""

    ON_WINDOW_UPDATE = "on_window_update"
    ON_WINDOW_CLOSE = "on_window_close"

    @staticmethod
    def on_window_update() -> EmitStrategy:
        """Sends a result on whenever it changes, or with the next commit; the default."""
        return EmitStrategy.ON_WINDOW_UPDATE

    @staticmethod
    def on_window_close() -> EmitStrategy:
        """Sends the result of a window on once, when stream time has passed its end and grace.

        Only records close a window, also records of other keys. If no more records come, its result
        is not sent.
        """
        return EmitStrategy.ON_WINDOW_CLOSE


def check_emit_strategy(strategy: object) -> None:
    """Refuses a value that is no emit strategy.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(strategy, EmitStrategy):
        raise TypeError(
            f"emit_strategy() takes EmitStrategy.on_window_close() or "
            f"EmitStrategy.on_window_update(), got {strategy!r}"
        )


class WindowedStreamPartitioner:
    """Sends all windows of a key to the partition of the key itself.

    Args:
        inner: how the key inside the windowed key is written.
    """

    def __init__(self, inner: Serde[Any]) -> None:
        self.inner = inner

    def __call__(self, topic: str, key: Windowed[Any], _value: Any, num_partitions: int) -> int:
        """Returns the partition of `key` in `topic`."""
        return (murmur2(self.inner.serializer(topic)(key.key)) & 0x7FFFFFFF) % num_partitions
