"""Joins of two streams: each record matches the records of the other side that are near in time.

Owns the rules of the join: which records match, and what happens to records without a match, and
when. Each side has two nodes. The first, `JoinWindow`, forwards a record and then stores it. The
second, `StreamStreamJoin`, reads the window of the other side. So a record never matches itself
twice.

A record without a match may get one later, so its result with None must wait. It waits in a store
that both sides share, until its window is closed: until the stream time of both sides together has
passed the latest possible match plus the grace. The store is checked when a record moves stream
time, but at most once per interval of wall-clock time. A record that arrives after its window has
closed is joined with None at once.

The time of the earliest waiting record (`JoinTime.earliest_ms`) may be that of a later record. This
delays results a little, as in the JVM, which this code follows exactly.

It must not know windows as users give them, nor how records are kept.

Source: JVM `KStreamKStreamJoin`, `KStreamKStreamJoinLeftSide`, `…RightSide`, `KStreamJoinWindow`,
`KStreamKStreamSelfJoin`, KIP-962; kafka-streams semantics D8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from thalweg.stores.updates import KeepsLists, KeepsRecords, Records
from thalweg.topology.operators.operator import NodeScope, Operator, Process

NEVER_MS: Final = 2**63 - 1
"""The largest number of a Java long: the earliest time where nothing waits."""

Joined = Callable[[Any, Any, Any], Any]
"""(key, left value or None, right value or None) -> result."""


@dataclass(slots=True)
class JoinTime:
    """What the two sides of a join know together about time, in one task.

    Attributes:
        stream_ms: the highest timestamp seen so far, -1 before the first.
        earliest_ms: no waiting record that could be closed is earlier, `NEVER_MS` where none waits.
        next_look_ms: before this time of the wall clock what waits is not looked through.
    """

    stream_ms: int = -1
    earliest_ms: int = NEVER_MS
    next_look_ms: int = 0


@dataclass(frozen=True, eq=False)
class JoinWindow(Operator):
    """Hands the records of one side on, and keeps each of them then.

    Attributes:
        store_name: the window store of the side.
    """

    store_name: str

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        put = _records(scope, self.store_name).put
        forward, failed = scope.forward, scope.failed

        def keep(key: Any, value: Any, timestamp: int) -> None:
            forward(key, value, timestamp)
            if key is not None:
                try:
                    put(key, value, timestamp)
                except Exception as error:
                    failed(error, key, value, timestamp)

        return keep


@dataclass(frozen=True, eq=False)
class StreamStreamJoin(Operator):
    """One side of a join of streams.

    Attributes:
        other_store: the window store of the other side.
        joiner: (left, right) -> value, or (key, left, right) -> value when `with_key`.
        with_key: whether the joiner takes the key.
        is_left: whether this is the left side.
        before_ms: how much earlier than a left record a right one may be.
        after_ms: how much later than a left record a right one may be.
        wait_ms: how long after its window's end a record without a match waits.
        keeps_unmatched: whether records of this side without a match go on.
        waiting_store: where they wait, for both sides; None for an inner join.
    """

    other_store: str
    joiner: Callable[..., Any]
    with_key: bool
    is_left: bool
    before_ms: int
    after_ms: int
    wait_ms: int = 0
    keeps_unmatched: bool = False
    waiting_store: str | None = None

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        return self._inner(scope) if self.waiting_store is None else self._outer(scope)

    @property
    def _reach(self) -> tuple[int, int]:
        """How much earlier and later than one of ours a record of the other side may be."""
        if self.is_left:
            return self.before_ms, self.after_ms
        return self.after_ms, self.before_ms

    def _inner(self, scope: NodeScope) -> Process:
        fetch = _records(scope, self.other_store).fetch
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        joiner, with_key, is_left = self.joiner, self.with_key, self.is_left
        before_ms, after_ms = self._reach

        def join(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                drop(key, value, timestamp)
                return
            from_ms, to_ms = timestamp - before_ms, timestamp + after_ms
            try:
                for start_ms, other in fetch(
                    key, from_ms if from_ms > 0 else 0, to_ms if to_ms > 0 else 0
                ):
                    left, right = (value, other) if is_left else (other, value)
                    joined = joiner(key, left, right) if with_key else joiner(left, right)
                    forward(key, joined, timestamp if timestamp > start_ms else start_ms)
            except Exception as error:
                failed(error, key, value, timestamp)

        return join

    def _outer(self, scope: NodeScope) -> Process:
        assert self.waiting_store is not None
        fetch = _records(scope, self.other_store).fetch
        waiting = _lists(scope, self.waiting_store)
        append, remove_if_present = waiting.append, waiting.remove_if_present
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        is_left, keeps_unmatched, joined = self.is_left, self.keeps_unmatched, self._joined()
        before_ms, after_ms = self._reach
        time = scope.task.shared(("join", self.waiting_store), JoinTime)
        emit_closed = self._emit_closed(scope, time, waiting)
        kept_ms = scope.task.keep_time(self.waiting_store, lambda: time.stream_ms)
        time.stream_ms = max(time.stream_ms, kept_ms)

        def unmatched(key: Any, value: Any) -> Any:
            return joined(key, value, None) if is_left else joined(key, None, value)

        def join(key: Any, value: Any, timestamp: int) -> None:
            if timestamp > time.stream_ms:
                time.stream_ms = timestamp
            if value is None or (key is None and not keeps_unmatched):
                drop(key, value, timestamp)
                return
            try:
                if key is None:
                    forward(None, unmatched(None, value), timestamp)
                    return
                if timestamp == time.stream_ms:
                    emit_closed(timestamp)
                from_ms, to_ms = max(timestamp - before_ms, 0), max(timestamp + after_ms, 0)
                rows = fetch(key, from_ms, to_ms)
                for start_ms, other in rows:
                    remove_if_present((start_ms, not is_left, key), timestamp)
                    left, right = (value, other) if is_left else (other, value)
                    forward(key, joined(key, left, right), max(timestamp, start_ms))
                if rows or not keeps_unmatched:
                    return
                if to_ms < time.stream_ms:
                    forward(key, unmatched(key, value), timestamp)
                else:
                    time.earliest_ms = min(time.earliest_ms, timestamp)
                    append((timestamp, is_left, key), (is_left, value), timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return join

    def _emit_closed(
        self, scope: NodeScope, time: JoinTime, waiting: KeepsLists
    ) -> Callable[[int], None]:
        """Returns the function that forwards what waits and whose window is closed.

        It is called with the timestamp of the record in hand, with which deletions are logged.
        """
        forward, joined, now_ms = scope.forward, self._joined(), scope.task.now_ms
        interval_ms = scope.task.outer_join_emit_interval_ms
        entries, remove = waiting.entries, waiting.remove
        left_wait_ms, right_wait_ms = self.after_ms + self.wait_ms, self.before_ms + self.wait_ms
        own_wait_ms = left_wait_ms if self.is_left else right_wait_ms

        def find_earliest() -> None:
            first = next(iter(entries()), None)
            if first is not None:
                time.earliest_ms = min(time.earliest_ms, first[0][0])

        scope.task.on_start(scope.name, find_earliest)

        def emit_closed(timestamp: int) -> None:
            stream_ms = time.stream_ms
            if _as_long(time.earliest_ms + own_wait_ms) >= stream_ms:
                return
            now = now_ms()
            if now < time.next_look_ms:
                return
            time.next_look_ms = now + interval_ms
            time.earliest_ms = NEVER_MS
            is_left_open = is_right_open = False
            emitted = None
            for sided_key, (is_left, value) in entries():
                time.earliest_ms = at_ms = sided_key[0]
                if is_left_open and is_right_open:
                    break
                if at_ms + (left_wait_ms if is_left else right_wait_ms) >= stream_ms:
                    if is_left:
                        is_left_open = True
                    else:
                        is_right_open = True
                    continue
                key = sided_key[2]
                left, right = (value, None) if is_left else (None, value)
                forward(key, joined(key, left, right), at_ms)
                # A key goes when all of its values are forwarded, so that none is lost.
                if emitted is not None and emitted is not sided_key:
                    remove(emitted, timestamp)
                emitted = sided_key
            if emitted is not None:
                remove(emitted, timestamp)

        return emit_closed

    def _joined(self) -> Joined:
        joiner = self.joiner
        if self.with_key:
            return joiner
        return lambda _key, left, right: joiner(left, right)


@dataclass(frozen=True, eq=False)
class StreamSelfJoin(Operator):
    """A stream joined with itself, by one window store.

    Its results are those of the two sides of a join, each record also with itself.

    Attributes:
        store_name: the window store.
        joiner: (left, right) -> value, or (key, left, right) -> value when `with_key`.
        with_key: whether the joiner takes the key.
        before_ms: how much earlier than a left record a right one may be.
        after_ms: how much later than a left record a right one may be.
        retention_ms: how long the store keeps a record. One that comes later than that does not
            meet itself.
    """

    store_name: str
    joiner: Callable[..., Any]
    with_key: bool
    before_ms: int
    after_ms: int
    retention_ms: int

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fetch = _records(scope, self.store_name).fetch
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        joiner, with_key = self.joiner, self.with_key
        before_ms, after_ms = self.before_ms, self.after_ms
        retention_ms = self.retention_ms

        def observed() -> int:
            return stream_ms

        stream_ms = scope.task.keep_time(self.store_name, observed)

        def join(key: Any, value: Any, timestamp: int) -> None:
            nonlocal stream_ms
            if key is None or value is None:
                drop(key, value, timestamp)
                return
            try:
                own = joiner(key, value, value) if with_key else joiner(value, value)
                stream_ms = max(stream_ms, timestamp)
                emits_own = timestamp > stream_ms - retention_ms + 1
                earlier, later = max(timestamp - before_ms, 0), max(timestamp + after_ms, 0)
                for start_ms, other in fetch(key, earlier, later):
                    joined = joiner(key, value, other) if with_key else joiner(value, other)
                    forward(key, joined, max(timestamp, start_ms))
                # As the right side it reaches the other way.
                earlier, later = max(timestamp - after_ms, 0), max(timestamp + before_ms, 0)
                for start_ms, other in fetch(key, earlier, later):
                    if emits_own and timestamp < start_ms:
                        emits_own = False
                        forward(key, own, timestamp)
                    joined = joiner(key, other, value) if with_key else joiner(other, value)
                    forward(key, joined, max(timestamp, start_ms))
                if emits_own:
                    forward(key, own, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return join


def _records(scope: NodeScope, store: str) -> Records:
    return cast("KeepsRecords", scope.task.store(store)).records()


def _lists(scope: NodeScope, store: str) -> KeepsLists:
    return cast("KeepsLists", scope.task.store(store))


def _as_long(number: int) -> int:
    """Returns a sum as Java counts it, where it may be more than `NEVER_MS`."""
    return number - 2**64 if number > NEVER_MS else number
