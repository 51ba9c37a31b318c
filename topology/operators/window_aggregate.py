"""Aggregations per key and window of event time.

Owns which windows of a record are still open (stream time less grace), the count of the
misses. A result has the later timestamp of record and stored aggregate; where the store has a
cache, that is the store's affair. Windows themselves come from the DSL's window values.

Stream time is the node's own: the highest timestamp that reached it in this task, also of
records of other keys, and before lateness is judged. The task keeps it over restarts, so that a
window that was closed stays closed.

Source: JVM `KStreamWindowAggregate`; kafka-streams semantics D1, D2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol

from thalweg.stores.api import WindowFlushListener
from thalweg.stores.windowed import (
    TimeWindow,
    UnlimitedWindow,
    Window,
    Windowed,
)
from thalweg.topology.operators.aggregate import (
    MissingResult,
    Step,
    Warn,
    aggregate_step,
    count_step,
    reduce_step,
)
from thalweg.topology.operators.operator import NodeScope, Process, TableMaker

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


@dataclass(frozen=True, eq=False)
class WindowedAggregate(TableMaker):
    """Common part of the windowed aggregations: a window store and a step."""

    store_name: str
    windows: Windows
    missing_result: MissingResult = field(default_factory=MissingResult, init=False)

    def step(self, warn: Warn) -> Step:
        """Returns the function (key, value, old aggregate or None) -> new aggregate or None.

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

        def flushed(key: Any, start: int, new: Any, old: Any, timestamp: int) -> None:
            forward(Windowed(key, ends(start)), new, old, timestamp)

        if store.set_flush_listener(flushed, self.tells_old_values):
            fold = store.fold(step)
        else:
            fold = self._fold_and_forward(store, step, flushed)

        def observed() -> int:
            return stream_time

        stream_time = scope.task.keep_time(self.store_name, observed)

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
                        fold(key, start, value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return aggregate

    def _fold_and_forward(
        self, store: Any, step: Step, forward: WindowFlushListener
    ) -> Callable[[Any, int, Any, int], None]:
        """Returns what a store does by itself that has a cache: fold, and forward each change."""
        fetch, put, send_old = store.fetch_pair, store.put_pair, self.tells_old_values

        def fold(key: Any, start: int, value: Any, timestamp: int) -> None:
            pair = fetch(key, start)
            old, newest = (None, timestamp) if pair is None else (pair[0], max(timestamp, pair[1]))
            new = step(key, value, old)
            put(key, start, new, timestamp if new is None else newest)
            forward(key, start, new, old if send_old else None, newest)

        return fold


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
        return count_step


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
        return aggregate_step(self.initializer, self.fn, warn)
