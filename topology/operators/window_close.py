"""Results of windows that are sent once, when the window closes.

Owns when to look for closed windows, up to which time they were emitted, and the difference between
the stream times of operators that share a store. The operator says which windows have closed. The
task keeps the progress over restarts, in the JVM's form, so that neither runtime sends a window
twice.

Closed windows are looked for at most once per interval of wall-clock time (1 s), so that many small
steps of stream time do not cost a scan each.

Source: JVM `AbstractKStreamTimeWindowAggregateProcessor`, `KStreamSessionWindowAggregate`; KIP-825,
kafka-streams semantics D6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Protocol

from thalweg.stores.windowed import Windowed
from thalweg.topology.operators.operator import NodeScope


class Rows(Protocol):
    """An open scan of windows, with their result and its time."""

    def __iter__(self) -> Any: ...

    def close(self) -> None:
        """Releases what it reads from."""


Span = tuple[int, int]
"""First and last time, both included."""


def on_close(
    scope: NodeScope,
    store_name: str,
    span: Callable[[int, int], Span | None],
    rows: Callable[[int, int], Any],
    result: Callable[[Windowed[Any], Any], tuple[Any, int]],
) -> Callable[[int], None]:
    """Binds what an operator calls at the end of each record, with the time windows close at.

    Args:
        scope: the operator's.
        store_name: its store, which names the progress.
        span: (closing time of the last look or -1, closing time now) -> which rows to scan, None
            if no window can have closed.
        rows: opens the scan of a span.
        result: (windowed key, stored value) -> value and timestamp to send on.
    """
    task, forward = scope.task, scope.forward
    now_ms, interval_ms = task.now_ms, task.window_emit_interval_ms
    next_ms = 0
    emitted = -1

    def progress() -> int:
        return emitted

    emitted = task.keep_emitted(store_name, progress)

    def close(close_time: int) -> None:
        nonlocal next_ms, emitted
        now = now_ms()
        if now < next_ms:
            return
        next_ms = now + interval_ms
        if emitted != -1 and emitted >= close_time:
            return
        wanted = span(emitted, close_time)
        if wanted is None:
            return
        with closing(rows(*wanted)) as found:
            each: Iterable[tuple[Windowed[Any], Any]] = found
            for windowed, stored in each:
                value, timestamp = result(windowed, stored)
                forward(windowed, value, None, timestamp)
        emitted = close_time

    return close


def lag_of(scope: NodeScope, store_name: str, observed: Callable[[], int]) -> Callable[[], int]:
    """Returns what tells how far an operator is ahead of the others that fill its store.

    Only a co-grouping has others. Each has its own stream time, and may still need windows that
    are too old for the rest.

    Args:
        scope: the operator's.
        store_name: the store.
        observed: returns the operator's stream time.
    """
    times = scope.task.shared(("stream times", store_name), list[Callable[[], int]])
    times.append(observed)

    def lag() -> int:
        return 0 if len(times) == 1 else observed() - min(time() for time in times)

    return lag
