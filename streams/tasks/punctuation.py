"""When punctuators are due: one queue per kind of time.

Owns the grid of a schedule. If several periods have passed, the punctuator is called once, and the
next call is on the grid again. It only decides; the task runs the punctuator.

Source: JVM `PunctuationQueue`, `PunctuationSchedule`, KIP-138, KIP-1146; semantics D13.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

NEVER: Final = 1 << 62
"""Later than any timestamp: an empty queue is due then."""

Punctuator = Callable[[int], None]


class Schedule:
    """One recurring punctuation; `cancel` may be called any time, also from inside it."""

    __slots__ = ("callback", "due_ms", "interval_ms", "is_cancelled", "node")

    def __init__(self, node: str, due_ms: int, interval_ms: int, callback: Punctuator) -> None:
        self.node = node
        self.due_ms = due_ms
        self.interval_ms = interval_ms
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Ends the schedule; further calls do nothing."""
        self.is_cancelled = True


class PunctuationQueue:
    """Schedules by due time; of those due at once, the one queued first goes first."""

    __slots__ = ("_queue", "_sequence", "next_due_ms")

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Schedule]] = []
        self._sequence = count()
        self.next_due_ms = NEVER

    def add(self, schedule: Schedule) -> None:
        """Queues a schedule by its `due_ms`."""
        heapq.heappush(self._queue, (schedule.due_ms, next(self._sequence), schedule))
        self.next_due_ms = self._queue[0][0]

    def run_due(self, now_ms: int, run: Callable[[Schedule, int], None]) -> bool:
        """Runs every schedule due at `now_ms` and queues its next turn.

        Args:
            now_ms: stream time or wall clock, whichever the queue is for.
            run: called with (schedule, now_ms).

        Returns:
            Whether anything ran.
        """
        ran = False
        queue = self._queue
        while queue and queue[0][0] <= now_ms:
            schedule = heapq.heappop(queue)[2]
            if schedule.is_cancelled:
                continue
            run(schedule, now_ms)
            ran = True
            if not schedule.is_cancelled:
                missed = (now_ms - schedule.due_ms) // schedule.interval_ms
                schedule.due_ms += (missed + 1) * schedule.interval_ms
                heapq.heappush(queue, (schedule.due_ms, next(self._sequence), schedule))
        self.next_due_ms = queue[0][0] if queue else NEVER
        return ran
