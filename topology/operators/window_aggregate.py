"""Aggregations per key and window of event time.

Owns which windows of a record are still open (stream time less grace), and the count of records
that are too late. A result has the later timestamp of record and stored aggregate; with a cache,
the store computes it. The DSL's window values say which windows a record belongs to.

Each node has its own stream time: the highest timestamp that it has received in this task, of any
key. It is updated before lateness is checked. The task keeps it over restarts, so that a closed
window stays closed.

Source: JVM `KStreamWindowAggregate`; kafka-streams semantics D1, D2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol, cast

from thalweg.stores.updates import Step, add_one, raise_error, read_and_write
from thalweg.stores.window_updates import KeepsWindows
from thalweg.stores.windowed import (
    TimeWindow,
    UnlimitedWindow,
    Window,
    Windowed,
)
from thalweg.topology.operators.aggregate import (
    MissingResult,
    Warn,
    reduce_step,
)
from thalweg.topology.operators.operator import NodeScope, Process, TableMaker
from thalweg.topology.operators.window_close import on_close

_RECENT_WINDOWS: Final = 64
"""How many windows are kept to be the keys of many rows."""


class Windows(Protocol):
    """How a timestamp falls into windows."""

    @property
    def grace_ms(self) -> int:
        """How long after its end a window still takes records."""
        ...

    def windows_for(self, timestamp: int) -> Sequence[tuple[int, int]]:
        """Returns (start, end) of the windows that contain `timestamp`, earliest first."""
        ...

    @property
    def is_unlimited(self) -> bool:
        """Whether the windows have no end."""
        ...

    @property
    def size_ms(self) -> int:
        """Length of a window."""
        ...


@dataclass(frozen=True, eq=False)
class WindowedAggregate(TableMaker):
    """Common part of the windowed aggregations: a window store and a step.

    Attributes:
        windows: how a timestamp falls into windows.
        time_name: names its stream time where several operators fill one store; the store does
            if not given.
        emits_on_close: whether a result is sent on once, when its window closes.
    """

    store_name: str
    windows: Windows
    time_name: str | None = field(default=None, kw_only=True)
    emits_on_close: bool = field(default=False, kw_only=True)
    missing_result: MissingResult = field(default_factory=MissingResult, init=False)

    @property
    def closes_after_ms(self) -> int:
        """How long after its end a window closes."""
        return self.windows.grace_ms

    def step(self, warn: Warn) -> Step:
        """Returns the function (row, value, old aggregate or None) -> new aggregate or None.

        A row is (key, window start).

        Args:
            warn: what to call when user code returned None where that is rarely meant.
        """
        raise NotImplementedError

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        store = scope.task.store(self.store_name)
        step = self.step(self.missing_result.of(scope.name, self.store_name))
        forward, failed, drop, late = scope.forward, scope.failed, scope.drop, scope.late
        windows_for, grace_ms = self.windows.windows_for, self.windows.grace_ms
        window_of = self.windows
        ends: Callable[[int], Window] = (
            UnlimitedWindow if window_of.is_unlimited else _sized(window_of)
        )

        def forward_change(row: tuple[Any, int], new: Any, old: Any, timestamp: int) -> None:
            forward(Windowed(row[0], ends(row[1])), new, old, timestamp)

        updates = store.updates(
            None if self.emits_on_close else forward_change, send_old=self.tells_old_values
        )
        # A value of None is folded as any other. An error ends the record, whatever windows
        # are left, so it is dealt with below.
        fold = updates.fold(step, read_and_write(updates, step), raise_error)

        close = None
        if self.emits_on_close:
            fetch_all = cast("KeepsWindows", store).fetch_all
            close = on_close(scope, self.store_name, self._closed, fetch_all, stored_result)

        def observed() -> int:
            return stream_time

        stream_time = scope.task.keep_time(self.time_name or self.store_name, observed)

        def aggregate(key: Any, value: Any, timestamp: int) -> None:
            nonlocal stream_time
            if key is None:
                drop(key, value, timestamp)
                return
            if timestamp > stream_time:
                stream_time = timestamp
            close_time = stream_time - grace_ms
            try:
                for start, end in windows_for(timestamp):
                    if end <= close_time:
                        late(key, timestamp, end, stream_time)
                    else:
                        fold((key, start), value, timestamp)
                if close is not None:
                    close(close_time)
            except Exception as error:
                failed(error, key, value, timestamp)

        return aggregate

    def _closed(self, emitted: int, close_time: int) -> tuple[int, int] | None:
        """Returns between which starts windows have closed since the last look."""
        windows_for, size_ms = self.windows.windows_for, self.windows.size_ms
        upper = close_time - size_ms
        if upper < 0:
            return None
        if emitted == -1:
            return 0, upper
        lower = max(0, emitted - size_ms) + 1
        if windows_for(upper) == windows_for(lower - 1):
            return None
        return lower, upper


def stored_result(_window: Windowed[Any], stored: Any) -> tuple[Any, int]:
    """Returns value and timestamp of a stored result."""
    return stored.value, stored.timestamp


def _sized(windows: Any) -> Callable[[int], Window]:
    size_ms: int = windows.size_ms

    @lru_cache(_RECENT_WINDOWS)
    def window(start: int) -> Window:
        return TimeWindow(start, start + size_ms)

    return window


@dataclass(frozen=True, eq=False)
class WindowCount(WindowedAggregate):
    """Counts the records of each key and window."""

    def step(self, warn: Warn) -> Step:
        """Returns the counting step."""
        return add_one


@dataclass(frozen=True, eq=False)
class WindowReduce(WindowedAggregate):
    """Combines the values of each key and window with `fn(aggregate, value)`."""

    fn: Callable[[Any, Any], Any]

    def step(self, warn: Warn) -> Step:
        """Returns the reducing step."""
        return reduce_step(self.fn, warn)


@dataclass(frozen=True, eq=False)
class WindowAggregate(WindowedAggregate):
    """Folds the values of each key and window with `fn(key, value, aggregate)`."""

    initializer: Callable[[], Any]
    fn: Step

    def step(self, warn: Warn) -> Step:
        """Returns the folding step."""
        initializer, fn = self.initializer, self.fn

        def fold(row: tuple[Any, int], value: Any, old: Any) -> Any:
            if old is not None:
                return fn(row[0], value, old)
            new = fn(row[0], value, initializer())
            if new is None:
                warn()
            return new

        return fold
