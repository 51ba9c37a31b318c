"""Samples of loops: how long a step took, how late a record was.

Owns the sums, and the extremes of the last minute. Nothing here is called per record: a loop
records a round, a task a batch. It must not know what is measured or who asks.

Extremes are kept over two samples of 30 seconds, the present one and the one before. So they cover
between 30 and 60 seconds.

Source: JVM `Sensor`, `SampledStat` with `metrics.sample.window.ms` 30000 and
`metrics.num.samples` 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

SAMPLE_MS: Final = 30_000


class Recent(NamedTuple):
    """What was measured in the last half minute to minute.

    Attributes:
        value_count: how many values.
        total: their sum.
        least: the least of them.
        most: the greatest.
    """

    value_count: int
    total: float
    least: float
    most: float

    @property
    def average(self) -> float:
        """Their mean."""
        return self.total / self.value_count


class Measure:
    """Values of one kind. One thread notes them, any may read.

    Attributes:
        count: values since the start.
        total: their sum.
    """

    __slots__ = ("_before", "_now", "_until_ms", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._until_ms = 0
        self._now: Recent | None = None
        self._before: Recent | None = None

    def note(self, value: float, now_ms: int) -> None:
        """Notes a value.

        Args:
            value: the value; durations are milliseconds.
            now_ms: wall clock; a clock that was set back prolongs a sample.
        """
        self.count += 1
        self.total += value
        now = self._now
        if now_ms >= self._until_ms:
            # A sample that ended long ago tells nothing of the last minute.
            is_recent = now_ms < self._until_ms + SAMPLE_MS
            self._before = now if is_recent else None
            self._until_ms = (self._until_ms if is_recent else now_ms) + SAMPLE_MS
            now = None
        if now is None:
            self._now = Recent(1, value, value, value)
        else:
            self._now = Recent(
                now.value_count + 1, now.total + value, min(now.least, value), max(now.most, value)
            )

    def recent(self, now_ms: int) -> Recent | None:
        """Returns what was noted lately, None where that is nothing."""
        now, before, until_ms = self._now, self._before, self._until_ms
        if now is None or now_ms >= until_ms + SAMPLE_MS:
            return None
        if before is None or now_ms >= until_ms:
            return now
        return Recent(
            now.value_count + before.value_count,
            now.total + before.total,
            min(now.least, before.least),
            max(now.most, before.most),
        )


@dataclass(slots=True)
class LoopMeasures:
    """What a worker's loop notes, in milliseconds.

    Attributes:
        poll: waiting for records, per round.
        process: processing what was polled, per round.
        punctuate: wall-clock punctuations, where any ran.
        commit: commits.
        rebalance: taking over assignments: tasks closed and made, not their restoring.
        polled_records: records that came.
    """

    poll: Measure = field(default_factory=Measure)
    process: Measure = field(default_factory=Measure)
    punctuate: Measure = field(default_factory=Measure)
    commit: Measure = field(default_factory=Measure)
    rebalance: Measure = field(default_factory=Measure)
    polled_records: int = 0
