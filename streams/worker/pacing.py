"""When a worker does its periodic work, and how much of it at once.

Owns when to commit, to purge and to look for old state, how long to poll, how many records of a
task are processed at a time, how often a failure is logged, and when an application counts as idle.
Times are arguments; it has no clock. It must not know what a commit is or where records come from.

Due times use a clock that never goes back: the wall clock may be set back.

Source: JVM `StreamThread.runOnce`, `maybeCommit`, `maybePurge`; `TaskExecutor`.
"""

from __future__ import annotations

from typing import Final

RESTORE_RECORDS: Final = 5_000
"""Most records restored at once: what fits the processor's cache."""

RESTORE_MS: Final = 25
"""How long a round may restore, so that running tasks get their turn; at least once."""

PROCESS_RECORDS: Final = 10_000
"""Most records of one task at once."""

FIRST_RECORDS: Final = 16
"""Records of a task at once, before it is known how long one takes."""

SLICE_MS: Final = 50
"""How long a task may process at once: bounds how long the others, a commit, a punctuation and
a stop wait for slow user code."""

RETRY_MS: Final = 100
"""Pause after an error that may pass; the log behind it has time-outs of its own."""

_CLEANUP_LEAST_MS: Final = 1_000
"""How often, at most, to look for state that nobody has come back to."""

_QUIET_MS: Final = 10_000
"""While brokers are away every attempt fails: that is told once in so many milliseconds."""


class Every:
    """Something that is due when its interval has passed since it was last done.

    Args:
        interval_ms: how long that is; 0 for always.

    Attributes:
        last_ms: when it was last done.
    """

    __slots__ = ("interval_ms", "last_ms")

    def __init__(self, interval_ms: float) -> None:
        self.interval_ms = interval_ms
        self.last_ms = 0.0

    def is_due(self, now_ms: float) -> bool:
        """Whether the interval has passed."""
        return now_ms - self.last_ms >= self.interval_ms

    def done(self, now_ms: float) -> None:
        """Notes that it was done."""
        self.last_ms = now_ms


class Pacing:
    """What a worker does again and again, and when.

    Args:
        commit_interval_ms: between commits; 0 for one in each round.
        purge_interval_ms: between purges of repartition topics.
        cleanup_delay_ms: how long state is kept that nobody has come back to.
        poll_ms: how long to wait for records when there is nothing else to do.

    Attributes:
        commit: when to commit.
        purge: when to let the log forget what was committed.
        cleanup: when to look for state that nobody has come back to.
        next_punctuation_ms: when the next punctuation by the wall clock is due, in its time.
    """

    def __init__(
        self,
        *,
        commit_interval_ms: int,
        purge_interval_ms: int,
        cleanup_delay_ms: int,
        poll_ms: int,
    ) -> None:
        self.commit = Every(commit_interval_ms)
        self.purge = Every(purge_interval_ms)
        self.cleanup = Every(max(cleanup_delay_ms, _CLEANUP_LEAST_MS))
        self.next_punctuation_ms = 0
        self._poll_ms = poll_ms
        self._told_ms: float | None = None

    def begin(self, now_ms: float) -> None:
        """Notes when the loop begins: intervals count from then."""
        for one in (self.commit, self.purge, self.cleanup):
            one.done(now_ms)

    @property
    def processing_ends_ms(self) -> float:
        """Until when a round may go on processing; at least a millisecond from the last commit."""
        return self.commit.last_ms + max(1, self.commit.interval_ms)

    @property
    def idle_ms(self) -> float:
        """How long to wait where there is no task to read for: a new one may come any moment."""
        return min(self._poll_ms, RETRY_MS)

    def poll_timeout_ms(self, now_ms: float, wall_ms: int) -> float:
        """Returns how long to wait for records when there is nothing else to do.

        Args:
            now_ms: the time by the clock that never goes back.
            wall_ms: the wall clock's time, by which punctuations are due.
        """
        wait_ms: float = self._poll_ms
        if self.commit.interval_ms:
            wait_ms = min(wait_ms, self.commit.last_ms + self.commit.interval_ms - now_ms)
        return max(0, min(wait_ms, self.next_punctuation_ms - wall_ms))

    def is_news(self, now_ms: float) -> bool:
        """Whether a failure is to be told to people; notes that it is."""
        if self._told_ms is not None and now_ms < self._told_ms + _QUIET_MS:
            return False
        self._told_ms = now_ms
        return True


class Slices:
    """How many records of each task are processed at once, by how long the last ones took."""

    __slots__ = ("_most",)

    def __init__(self) -> None:
        self._most: dict[object, int] = {}

    def most(self, task: object) -> int:
        """Returns how many records of a task to process at once."""
        return self._most.get(task, FIRST_RECORDS)

    def note(self, task: object, done: int, took_ms: float) -> None:
        """Notes how long some records took, of which `most` was the bound."""
        most = self.most(task)
        if took_ms > SLICE_MS:
            self._most[task] = max(1, int(done * SLICE_MS / took_ms))
        elif done == most and most < PROCESS_RECORDS:
            self._most[task] = min(2 * most, PROCESS_RECORDS)


class Idleness:
    """Whether everything is processed and committed.

    A commit may send records on to the next subtopology; what it sent is seen by the poll that
    follows. So two commits in a row must have found everything read, and nothing processed
    between them.

    Attributes:
        is_idle: whether there is nothing left to do; any thread may ask.
    """

    __slots__ = ("_drained_at", "is_idle")

    def __init__(self) -> None:
        self.is_idle = False
        self._drained_at: int | None = None

    def note_records(self) -> None:
        """Notes that records have come."""
        self.is_idle = False

    def note_commit(self, processed: int | None) -> None:
        """Notes a commit.

        Args:
            processed: the records processed since the start; None if more are known to wait.
        """
        self.is_idle = processed is not None and processed == self._drained_at
        self._drained_at = processed
