"""The newest rows of a window store that keeps duplicates, in memory, by key.

Owns the choice of the rows in memory: all rows that start at `complete_from_ms` or later. A reader
that does not look further back need not read the store below. Rows are grouped by spans of time; if
there are too many bytes, the oldest span is dropped as a whole. Every row is also in the store
below, so a dropped row is only slower to read. This module must not know what keys and rows are,
nor the store below.

Source: none. The JVM opens a RocksDB iterator for each record of a join.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort_right
from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

StartAndValue: TypeAlias = tuple[int, Any]
"""(start in ms, value) of a row."""

NOTHING: Final[Sequence[StartAndValue]] = ()
NEVER_MS: Final = 2**63 - 1

_start_of: Final = itemgetter(0)


class RecentRows:
    """Rows by span of time and key, each key's in the order of their starts.

    Rows of one start stay in the order they were added in. One thread uses it.

    Args:
        reach_ms: how far apart the ends of a read are, about; a read looks at four spans at most.
        room: tells how many bytes may be kept, as the caller weighs them; asked when a span begins.
        live_from: tells below which start rows are expired; they go when a span begins.

    Attributes:
        complete_from_ms: rows that start here or later are all here.
    """

    __slots__ = (
        "_bytes", "_interval_ms", "_live_from", "_max_bytes", "_room", "_spans", "_weights", "complete_from_ms",
    )  # fmt: skip

    def __init__(
        self, reach_ms: int, room: Callable[[], int], live_from: Callable[[], int]
    ) -> None:
        self.complete_from_ms = 0
        self._interval_ms = max(reach_ms // 2, 1)
        self._room = room
        self._max_bytes = 0
        self._live_from = live_from
        self._spans: dict[int, dict[Hashable, list[StartAndValue]]] = {}
        self._weights: dict[int, int] = {}
        self._bytes = 0

    def clear(self, complete_from_ms: int) -> None:
        """Forgets every row; those that start at or after the given time are to be added."""
        self._spans.clear()
        self._weights.clear()
        self._bytes = 0
        # A span is here as a whole, or not at all.
        self.complete_from_ms = -(-complete_from_ms // self._interval_ms) * self._interval_ms

    def add(self, key: Hashable, start_ms: int, value: Any, weight: int) -> None:
        """Adds a row, unless it belongs to a span that is not here."""
        number = start_ms // self._interval_ms
        span = self._spans.get(number)
        if span is None:
            if start_ms < self.complete_from_ms:
                return
            self._forget_below(self._live_from())
            self._max_bytes = self._room()
            span = self._spans[number] = {}
            self._weights[number] = 0
        rows = span.get(key)
        if rows is None:
            span[key] = [(start_ms, value)]
        elif rows[-1][0] <= start_ms:
            rows.append((start_ms, value))
        else:
            insort_right(rows, (start_ms, value), key=_start_of)
        self._weights[number] += weight
        self._bytes += weight
        if self._bytes > self._max_bytes:
            self._forget_oldest()

    def read(self, key: Hashable, from_ms: int, to_ms: int) -> Sequence[StartAndValue]:
        """Returns the rows of a key that start between two times, both included, oldest first.

        What is returned must not be changed, and not be kept beyond the next `add`.
        """
        find, interval = self._spans.get, self._interval_ms
        found: Sequence[StartAndValue] = NOTHING
        for number in range(from_ms // interval, to_ms // interval + 1):
            span = find(number)
            if span is not None:
                rows = span.get(key)
                if rows is not None:
                    if rows[0][0] < from_ms or rows[-1][0] > to_ms:
                        low = bisect_left(rows, from_ms, key=_start_of)
                        rows = rows[low : bisect_right(rows, to_ms, key=_start_of)]
                    if rows:
                        found = [*found, *rows] if found else rows
        return found

    @property
    def span_count(self) -> int:
        """How many spans of time have rows here."""
        return len(self._spans)

    def _forget_below(self, start_ms: int) -> None:
        until = start_ms // self._interval_ms
        for number in [number for number in self._spans if number < until]:
            self._forget(number)

    def _forget_oldest(self) -> None:
        while self._bytes > self._max_bytes:
            self._forget(min(self._spans))

    def _forget(self, number: int) -> None:
        del self._spans[number]
        self._bytes -= self._weights.pop(number)
        self.complete_from_ms = max(self.complete_from_ms, (number + 1) * self._interval_ms)
