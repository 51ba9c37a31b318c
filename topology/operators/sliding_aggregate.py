"""Aggregations per key and sliding window.

Owns which windows a record creates and which it belongs to: a window that ends at the record, a
window that begins just after it if there are later records, and a window that begins just after the
previous record. The time of a window's aggregate is that of its latest record; it shows which
records are in the window.

If a record's time is less than the time difference, its window would begin before 0. Such records
share the window that begins at 0. They do not close windows, as in the JVM.

Each node has its own stream time, as in `window_aggregate`.

Source: JVM `KStreamSlidingWindowAggregate` (KIP-450); kafka-streams semantics D1, D5.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, cast

from thalweg.stores.known import KnownKeys, KnownRows
from thalweg.stores.updates import Step
from thalweg.stores.window_updates import KeepsWindows
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.topology.operators.aggregate import MissingResult, Warn, reduce_step
from thalweg.topology.operators.operator import NodeScope, Process, TableMaker
from thalweg.topology.operators.window_aggregate import stored_result
from thalweg.topology.operators.window_close import lag_of, on_close

_RECENT_WINDOWS = 64
"""How many windows are kept to be the keys of many rows."""


class Sliding(Protocol):
    """How far records of one window may be apart."""

    @property
    def difference_ms(self) -> int:
        """The longest time between two records of a window."""
        ...

    @property
    def grace_ms(self) -> int:
        """How long after its end a window still takes records."""
        ...


@dataclass(frozen=True, eq=False)
class SlidedAggregate(TableMaker):
    """Common part of the aggregations of sliding windows: a window store and a step.

    Attributes:
        windows: how far records of one window may be apart.
        time_name: names its stream time where several operators fill one store; the store does
            if not given.
        emits_on_close: whether a result is sent on once, when its window closes.
    """

    store_name: str
    windows: Sliding
    time_name: str | None = field(default=None, kw_only=True)
    emits_on_close: bool = field(default=False, kw_only=True)
    missing_result: MissingResult = field(default_factory=MissingResult, init=False)

    @property
    def closes_after_ms(self) -> int:
        """How long after its end a window closes."""
        return self.windows.grace_ms

    def functions(self, warn: Warn) -> tuple[Callable[[], Any], Step]:
        """Returns initializer and aggregator.

        Args:
            warn: what to call when user code returned None where that is rarely meant.
        """
        raise NotImplementedError

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        store = cast("KeepsWindows", scope.task.store(self.store_name))
        initial, step = self.functions(self.missing_result.of(scope.name, self.store_name))
        forward, failed, drop, late = scope.forward, scope.failed, scope.drop, scope.late
        size, grace_ms = self.windows.difference_ms, self.windows.grace_ms

        @lru_cache(_RECENT_WINDOWS)
        def window(start: int) -> TimeWindow:
            return TimeWindow(start, start + size)

        def forward_change(row: tuple[Any, int], new: Any, old: Any, timestamp: int) -> None:
            forward(Windowed(row[0], window(row[1])), new, old, timestamp)

        updates = store.updates(
            None if self.emits_on_close else forward_change, send_old=self.tells_old_values
        )
        write = updates.write
        starts = store.starts()
        young, of, note = starts.young, starts.of, starts.add
        name_of = None if store.keeps_key_decoded else store.name_of
        close = None
        if self.emits_on_close:
            close = on_close(scope, self.store_name, self._closed, store.fetch_all, stored_result)

        def observed() -> int:
            return stream_time

        stream_time = scope.task.keep_time(self.time_name or self.store_name, observed)
        lag = lag_of(scope, self.store_name, observed)

        def begin_right(
            key: Any, known: KnownRows[int], right: tuple[Any, int], timestamp: int, floor: int
        ) -> None:
            """Makes the window just behind a record, of the later ones that there are."""
            write((key, timestamp + 1), right[0], None, right[1], timestamp)
            note(known, timestamp + 1, floor)

        def update(
            key: Any, start: int, base: Any, old: Any, newest: int, value: Any, timestamp: int
        ) -> None:
            """Folds a record into an aggregate with the latest record of `newest`, as a window's.

            A window that is new has no old value, whatever it begins with.
            """
            if start + size < stream_time - grace_ms:
                late(key, timestamp, start + size, stream_time)
                return
            if timestamp > newest:
                newest = timestamp
            write((key, start), step(key, value, base), old, newest, timestamp)

        parts = _Parts(size, initial, updates.read, update, begin_right, starts)
        any_order, early = _bind_any_order(parts), _bind_early(parts)

        def aggregate(key: Any, value: Any, timestamp: int) -> None:
            nonlocal stream_time
            if key is None or value is None:
                drop(key, value, timestamp)
                return
            if timestamp > stream_time:
                stream_time = timestamp
            close_time = stream_time - grace_ms
            if timestamp + size < close_time:
                late(key, timestamp, timestamp + size, stream_time)
                return
            try:
                name = key if name_of is None else name_of(key)
                floor = close_time - 3 * size - lag()
                known = young.get(name) or of(name, floor)
                if timestamp < size:
                    early(key, known, value, timestamp, floor)
                    return
                any_order(key, known, value, timestamp, floor)
                if close is not None:
                    close(close_time)
            except Exception as error:
                failed(error, key, value, timestamp)

        return aggregate

    def _closed(self, emitted: int, close_time: int) -> tuple[int, int] | None:
        """Returns between which starts windows have closed since the last look."""
        size = self.windows.difference_ms
        upper = close_time - size - 1
        if upper < 0:
            return None
        return 0 if emitted == -1 else max(0, emitted - size), upper


Fold = Callable[[Any, KnownRows[int], Any, int, int], None]
"""Takes (key, known windows, value, timestamp, start of the oldest window of any use)."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is bound for a task.

    Attributes:
        size: length of the windows.
        initial: makes the aggregate of a window without records.
        read: returns the aggregate of a key and start, with the time of its latest record.
        update: folds a record into a window.
        begin_right: makes the window just behind a record.
        starts: which windows a key may have.
    """

    size: int
    initial: Callable[[], Any]
    read: Callable[[Any], Any]
    update: Callable[..., None]
    begin_right: Callable[..., None]
    starts: KnownKeys[int]


def _bind_any_order(parts: _Parts) -> Fold:
    """Binds the fold of a record that is not earlier than a window is long."""
    size, initial, read, update = parts.size, parts.initial, parts.read, parts.update
    begin_right, note, forget = parts.begin_right, parts.starts.add, parts.starts.remove

    def fold(key: Any, known: KnownRows[int], value: Any, timestamp: int, floor: int) -> None:
        marks = known.marks
        seen: list[int] = []
        left = right = None  # aggregates with the time of their latest record
        has_left = has_right = False
        before = -1  # time of the record before this one
        at = len(marks)
        if at and marks[-1] > timestamp + 1:
            at = bisect_right(marks, timestamp + 1)
        for start in marks[bisect_left(marks, timestamp - 2 * size, 0, at) : at][::-1]:
            pair = read((key, start))
            if pair is None:
                forget(known, start)
                continue
            seen.append(start)
            end = start + size
            if start == timestamp + 1:
                has_right = True
                continue
            if end < timestamp:
                left, before = pair, pair[1]
                break
            update(key, start, pair[0], pair[0], pair[1], value, timestamp)
            if end == timestamp:
                has_left = True
                if pair[1] >= timestamp:
                    return  # there was a record of this time: it has made all windows
                before = pair[1]
            elif right is None:
                right = pair
        if before != -1 and before + 1 not in seen and before + 1 + size >= timestamp:
            update(key, before + 1, initial(), None, timestamp, value, timestamp)
            note(known, before + 1, floor)
        if not has_left:
            start = timestamp - size
            old = initial() if left is None or before < start else left[0]
            update(key, start, old, None, timestamp, value, timestamp)
            note(known, start, floor)
        if right is not None and not has_right and right[1] > timestamp:
            begin_right(key, known, right, timestamp, floor)

    return fold


def _bind_early(parts: _Parts) -> Fold:
    """Binds the fold of a record that would make a window which begins before 0."""
    initial, read, update = parts.initial, parts.read, parts.update
    begin_right, note, forget = parts.begin_right, parts.starts.add, parts.starts.remove

    def fold(key: Any, known: KnownRows[int], value: Any, timestamp: int, floor: int) -> None:
        marks = known.marks
        seen: list[int] = []
        combined = right = None
        has_right = False
        for start in marks[: bisect_right(marks, timestamp + 1)]:
            pair = read((key, start))
            if pair is None:
                forget(known, start)
                continue
            seen.append(start)
            if start == 0:
                combined = pair
            elif start <= timestamp:
                right = pair
                update(key, start, pair[0], pair[0], pair[1], value, timestamp)
            else:
                has_right = True
        if right is None and combined is not None and combined[1] > timestamp:
            right = combined
        if right is not None and not has_right and right[1] > timestamp:
            begin_right(key, known, right, timestamp, floor)
        if combined is None:
            update(key, 0, initial(), None, timestamp, value, timestamp)
            note(known, 0, floor)
            return
        before = combined[1]
        if before < timestamp and before + 1 not in seen:
            update(key, before + 1, initial(), None, timestamp, value, timestamp)
            note(known, before + 1, floor)
        update(key, 0, combined[0], combined[0], before, value, timestamp)

    return fold


@dataclass(frozen=True, eq=False)
class SlidingCount(SlidedAggregate):
    """Counts the records of each key and window."""

    def functions(self, warn: Warn) -> tuple[Callable[[], Any], Step]:
        """Returns the counting functions."""
        return int, lambda _key, _value, aggregate: aggregate + 1


@dataclass(frozen=True, eq=False)
class SlidingReduce(SlidedAggregate):
    """Combines the values of each key and window with `fn(aggregate, value)`."""

    fn: Callable[[Any, Any], Any]

    def functions(self, warn: Warn) -> tuple[Callable[[], Any], Step]:
        """Returns the reducing functions."""
        return _nothing, reduce_step(self.fn, warn)


@dataclass(frozen=True, eq=False)
class SlidingAggregate(SlidedAggregate):
    """Folds the values of each key and window with `fn(key, value, aggregate)`."""

    initializer: Callable[[], Any]
    fn: Step

    def functions(self, warn: Warn) -> tuple[Callable[[], Any], Step]:
        """Returns the user's functions."""
        return self.initializer, self.fn


def _nothing() -> None:
    """The aggregate of no values."""
