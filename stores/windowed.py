"""Windows as values: an interval of event time, and a key together with one.

Owns what a window is and how windows compare. The DSL decides which windows a timestamp belongs to;
`stores.formats` writes a windowed key.

Source: JVM `Window`, `TimeWindow`, `UnlimitedWindow`, `SessionWindow`, `Windowed`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Generic, NamedTuple, TypeVar

from thalweg.stores.durations import to_ms

K = TypeVar("K")

FOREVER_MS: Final = 2**63 - 1
"""The end of an unlimited window: the largest time a Java long can hold."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_ms(moment: int | datetime) -> int:
    """Returns a moment as epoch milliseconds, exactly.

    Args:
        moment: epoch milliseconds, or a datetime; without a zone it is local time, as in Python.
    """
    if not isinstance(moment, datetime):
        return moment
    return to_ms(moment.astimezone(UTC) - _EPOCH)


class Window:
    """An interval of event time, in epoch milliseconds.

    Windows of one kind with the same bounds are equal; windows of different kinds never are.

    Args:
        start_ms: start, included, 0 or more.
        end_ms: end, not before the start; whether it is included depends on the kind.

    Raises:
        ValueError: the bounds are negative or the wrong way round.
    """

    __slots__ = ("end_ms", "start_ms")

    def __init__(self, start_ms: int, end_ms: int) -> None:
        if start_ms < 0 or end_ms < start_ms:
            message = f"a window runs from 0 or later to no earlier end, got {start_ms} to {end_ms}"
            raise ValueError(message)
        self.start_ms = start_ms
        self.end_ms = end_ms

    @property
    def start(self) -> datetime:
        """The start as a moment in UTC."""
        return datetime.fromtimestamp(self.start_ms / 1000, UTC)

    @property
    def end(self) -> datetime:
        """The end as a moment in UTC; of an unlimited window the last moment there is."""
        if self.end_ms == FOREVER_MS:
            return datetime.max.replace(tzinfo=UTC)
        return datetime.fromtimestamp(self.end_ms / 1000, UTC)

    def overlaps(self, other: Window) -> bool:
        """Tells whether there is a moment in both windows.

        Raises:
            TypeError: the windows are of different kinds.
        """
        if type(other) is not type(self):
            message = f"cannot compare a {type(self).__name__} with a {type(other).__name__}"
            raise TypeError(message)
        return self.start_ms < other.end_ms and other.start_ms < self.end_ms

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Window)
            and type(other) is type(self)
            and self.start_ms == other.start_ms
            and self.end_ms == other.end_ms
        )

    def __hash__(self) -> int:
        return hash((self.start_ms, self.end_ms))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.start_ms}, {self.end_ms})"


class TimeWindow(Window):
    """An interval with its end excluded; it is not empty."""

    __slots__ = ()

    def __init__(self, start_ms: int, end_ms: int) -> None:
        if start_ms == end_ms:
            message = f"a time window must not be empty, got {start_ms} to {end_ms}"
            raise ValueError(message)
        super().__init__(start_ms, end_ms)


class UnlimitedWindow(Window):
    """All time from a start on."""

    __slots__ = ()

    def __init__(self, start_ms: int) -> None:
        super().__init__(start_ms, FOREVER_MS)

    def overlaps(self, other: Window) -> bool:
        """Tells whether there is a moment in both windows: always.

        Raises:
            TypeError: the other window is of another kind.
        """
        return super().overlaps(other) or True

    def __repr__(self) -> str:
        return f"UnlimitedWindow({self.start_ms})"


class SessionWindow(Window):
    """An interval with both ends included; start and end are those of its records.

    Two sessions overlap if there is a moment in both.
    """

    __slots__ = ()

    def overlaps(self, other: Window) -> bool:
        """Tells whether there is a moment in both windows.

        Raises:
            TypeError: the other window is of another kind.
        """
        super().overlaps(other)
        return self.start_ms <= other.end_ms and other.start_ms <= self.end_ms


class Windowed(NamedTuple, Generic[K]):
    """A key within a window: the key of a windowed aggregation's result.

    Attributes:
        key: the key that was aggregated by.
        window: the window.
    """

    key: K
    window: Window

    def __str__(self) -> str:
        return f"[{self.key}@{self.window.start_ms}/{self.window.end_ms}]"
