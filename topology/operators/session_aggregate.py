"""Aggregations per key and session.

Owns how a record finds its sessions and merges them, and which records come too late. A session
that grows or is merged is removed and written again; each step sends a change. The timestamp of a
result is the end of its session. With a cache, sessions that are removed and written between two
flushes send no change.

Each node has its own stream time, as in `window_aggregate`.

Source: JVM `KStreamSessionWindowAggregate`; kafka-streams semantics D1, D3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Protocol, TypeAlias, cast

from thalweg.stores.session_faces import AggregationWithHeaders
from thalweg.stores.window_updates import KeepsSessions
from thalweg.stores.windowed import SessionWindow, Windowed
from thalweg.topology.operators.aggregate import MissingResult, Warn, reduce_step
from thalweg.topology.operators.operator import NodeScope, Process, TableMaker
from thalweg.topology.operators.window_close import lag_of, on_close

Initializer: TypeAlias = Callable[[], Any]
Aggregator: TypeAlias = Callable[[Any, Any, Any], Any]
"""(key, value, aggregate) -> aggregate."""
Merger: TypeAlias = Callable[[Any, Any, Any], Any]
"""(key, aggregate, aggregate of the next session) -> aggregate."""


class Sessions(Protocol):
    """How sessions are told apart."""

    @property
    def gap_ms(self) -> int:
        """The longest time without a record within a session."""
        ...

    @property
    def grace_ms(self) -> int:
        """How long after its end and the gap a session still takes late records."""
        ...


@dataclass(frozen=True, eq=False)
class SessionedAggregate(TableMaker):
    """Common part of the aggregations of sessions: a session store and three functions.

    Attributes:
        windows: how sessions are told apart.
        emits_on_close: whether a result is sent on once, when its session closes.
        time_name: names its stream time where several operators fill one store; the store does
            if not given.
    """

    store_name: str
    windows: Sessions
    emits_on_close: bool = field(default=False, kw_only=True)
    time_name: str | None = field(default=None, kw_only=True)
    missing_result: MissingResult = field(default_factory=MissingResult, init=False)

    @property
    def closes_after_ms(self) -> int:
        """How long after its end a session closes: a record within the gap would still join it."""
        return self.windows.gap_ms + self.windows.grace_ms

    def functions(self, warn: Warn) -> tuple[Initializer, Aggregator, Merger]:
        """Returns initializer, aggregator and merger.

        Args:
            warn: what to call when user code returned None where that is rarely meant.
        """
        raise NotImplementedError

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        store = cast("KeepsSessions", scope.task.store(self.store_name))
        warn = self.missing_result.of(scope.name, self.store_name)
        initial, aggregator, merger = self.functions(warn)
        forward, failed, drop, late = scope.forward, scope.failed, scope.drop, scope.late
        gap_ms, grace_ms = self.windows.gap_ms, self.windows.grace_ms

        def forward_change(row: tuple[Any, int, int], new: Any, old: Any, timestamp: int) -> None:
            forward(Windowed(row[0], SessionWindow(row[2], row[1])), new, old, timestamp)

        sessions = store.sessions(
            None if self.emits_on_close else forward_change, send_old=self.tells_old_values
        )
        known_of, find, remove, write = (
            sessions.known,
            sessions.find,
            sessions.remove,
            sessions.write,
        )
        close = None
        if self.emits_on_close:
            close = on_close(scope, self.store_name, _closed, store.find_ended, _result)

        def observed() -> int:
            return stream_time

        stream_time = scope.task.keep_time(self.time_name or self.store_name, observed)
        lag = lag_of(scope, self.store_name, observed)

        def aggregate(key: Any, value: Any, timestamp: int) -> None:
            nonlocal stream_time
            if key is None:
                drop(key, value, timestamp)
                return
            if timestamp > stream_time:
                stream_time = timestamp
            close_time = stream_time - grace_ms - gap_ms
            # No record that counts looks further back, but one that joins a session of a later end.
            floor = close_time - gap_ms - lag()
            try:
                known = known_of(key, floor)
                result = initial()
                first = last = timestamp
                found: Sequence[tuple[int, int, Any]] = ()
                if timestamp >= close_time or find(key, known, close_time, timestamp + gap_ms):
                    found = find(key, known, timestamp - gap_ms, timestamp + gap_ms)
                    for end, start, old in found:
                        result = merger(key, result, old)
                        if start < first:
                            first = start
                        if end > last:
                            last = end
                if last < close_time:
                    late(key, timestamp, last, stream_time)
                else:
                    if first != last or first != timestamp:
                        for session in found:
                            remove(key, known, session, timestamp)
                    result = aggregator(key, value, result)
                    write(key, known, last, first, result, timestamp, floor)
                if close is not None:
                    close(close_time)
            except Exception as error:
                failed(error, key, value, timestamp)

        return aggregate


def _closed(emitted: int, close_time: int) -> tuple[int, int] | None:
    """Returns between which ends sessions have closed since the last look."""
    lower, upper = max(emitted, 0), close_time - 1
    return (lower, upper) if upper >= lower else None


def _result(session: Windowed[Any], stored: Any) -> tuple[Any, int]:
    """Returns value and timestamp of a stored session."""
    value = stored.aggregation if isinstance(stored, AggregationWithHeaders) else stored
    return value, session.window.end_ms


@dataclass(frozen=True, eq=False)
class SessionCount(SessionedAggregate):
    """Counts the records of each key and session."""

    def functions(self, warn: Warn) -> tuple[Initializer, Aggregator, Merger]:
        """Returns the counting functions."""

        def count(_key: Any, _value: Any, aggregate: int) -> int:
            return aggregate + 1

        return int, count, lambda _key, one, two: add(one, two)


@dataclass(frozen=True, eq=False)
class SessionReduce(SessionedAggregate):
    """Combines the values of each key and session with `fn(aggregate, value)`."""

    fn: Callable[[Any, Any], Any]

    def functions(self, warn: Warn) -> tuple[Initializer, Aggregator, Merger]:
        """Returns the reducing functions; sessions are reduced as values are."""
        step = reduce_step(self.fn, warn)
        return _nothing, step, lambda key, one, two: step(key, two, one)


@dataclass(frozen=True, eq=False)
class SessionAggregate(SessionedAggregate):
    """Folds the values of each key and session with `fn(key, value, aggregate)`."""

    initializer: Initializer
    fn: Aggregator
    merger: Merger

    def functions(self, warn: Warn) -> tuple[Initializer, Aggregator, Merger]:
        """Returns the user's functions."""
        return self.initializer, self.fn, self.merger


def _nothing() -> None:
    """The aggregate of no values."""
