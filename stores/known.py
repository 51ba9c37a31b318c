"""An index in memory: at which times the keys of a store may have rows.

Owns the times of the rows of the most recently used keys. An operator that looks for rows of a key
near a time, for each record, then needs no scan. The index only says where to look: a row in the
index may be gone, so the reader must ask the store. A row that is not in the index does not exist.
It must not know keys, serdes or what keeps the rows.

Its size is bounded: it has the rows of a limited number of keys, for each key only rows that are
not too old, and the keys that have rows in a cache.

Source: none in the JVM, which scans cache and segments for each record.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, Protocol, TypeVar


class Ordered(Protocol):
    """What can be sorted."""

    def __lt__(self, other: Any, /) -> bool: ...


Mark = TypeVar("Mark", bound=Ordered)
"""What tells a key's rows apart, by time: a window's start, or a session's end and start."""

MOST_KEYS: Final = 50_000
"""How many keys are noted before half of them are forgotten."""

_FEW_ROWS: Final = 16
"""Up to here nobody looks for rows of a key that are too old."""


class KnownRows(Generic[Mark]):
    """The rows of one key.

    Attributes:
        key: the key, as a cache knows it.
        marks: the rows, by time; all there are from `floor_ms` on.
        floor_ms: earlier rows may be missing.
        limit: how many there are before the oldest are looked through.
    """

    __slots__ = ("floor_ms", "key", "limit", "marks")

    def __init__(self, key: Hashable, marks: list[Mark], floor_ms: int) -> None:
        self.key = key
        self.marks = marks
        self.floor_ms = floor_ms
        self.limit = max(_FEW_ROWS, 2 * len(marks))


class KnownKeys(Generic[Mark]):
    """The rows of many keys. For the worker only.

    Args:
        load: returns the marks of a key's rows from a time on, in order, without those that
            only a cache has.
        is_cached: tells whether a cache has a row, given (key, mark).
        live_from: returns the time before which rows can be read from a cache only.
        bound: returns what is not above any mark of a time and above those before.
        most_keys: how many keys are noted before half of them are forgotten.

    Attributes:
        young: the keys that were asked for last; others are found by `of`.
    """

    def __init__(
        self,
        load: Callable[[Any, int], list[Mark]],
        is_cached: Callable[[Any, Mark], bool],
        live_from: Callable[[], int],
        bound: Callable[[int], Any],
        most_keys: int = MOST_KEYS,
    ) -> None:
        self.young: dict[Hashable, KnownRows[Mark]] = {}
        self._old: dict[Hashable, KnownRows[Mark]] = {}
        self._load = load
        self._is_cached = is_cached
        self._live_from = live_from
        self._bound = bound
        self._most_young = max(most_keys // 2, 1)
        self._floor_ms = 0

    def of(self, key: Hashable, floor_ms: int) -> KnownRows[Mark]:
        """Returns the rows of a key.

        Args:
            key: as a cache knows it.
            floor_ms: earlier rows are of no use any longer.
        """
        known = self.young.get(key)
        if known is None:
            known = self._old.pop(key, None)
            if known is None:
                # A cache may have earlier rows of a key that was forgotten.
                self._floor_ms = floor_ms = max(floor_ms, self._floor_ms)
                known = KnownRows(key, self._load(key, floor_ms), floor_ms)
            if len(self.young) >= self._most_young:
                self._turn()
            self.young[key] = known
        return known

    def add(self, known: KnownRows[Mark], mark: Mark, floor_ms: int) -> None:
        """Notes a row.

        Args:
            known: the rows of its key.
            mark: the row.
            floor_ms: earlier rows are of no use any longer.
        """
        marks = known.marks
        if not marks or marks[-1] < mark:
            marks.append(mark)
        else:
            at = bisect_left(marks, mark)
            if marks[at] == mark:
                return
            marks.insert(at, mark)
        if len(marks) > known.limit:
            self._cut(known, floor_ms)

    def remove(self, known: KnownRows[Mark], mark: Mark) -> None:
        """Notes that a row is gone."""
        marks = known.marks
        at = bisect_left(marks, mark)
        if at < len(marks) and marks[at] == mark:
            del marks[at]

    def note(self, key: Hashable, mark: Mark) -> None:
        """Notes a row that was written by someone who has not looked for rows."""
        self.add(self.of(key, 0), mark, 0)

    def clear(self) -> None:
        """Forgets everything."""
        self.young.clear()
        self._old.clear()

    def _cut(self, known: KnownRows[Mark], floor_ms: int) -> None:
        marks, key, is_cached = known.marks, known.key, self._is_cached
        if floor_ms > known.floor_ms:
            del marks[: bisect_left(marks, self._bound(floor_ms))]
            known.floor_ms = floor_ms
        at = bisect_left(marks, self._bound(self._live_from()))
        marks[:at] = [mark for mark in marks[:at] if is_cached(key, mark)]
        known.limit = max(_FEW_ROWS, 2 * len(known.marks))

    def _turn(self) -> None:
        """Forgets the keys that nobody has asked for lately, but for those with cached rows."""
        is_cached = self._is_cached
        kept = {
            key: known
            for key, known in self._old.items()
            if any(is_cached(key, mark) for mark in known.marks)
        }
        self._old = self.young
        self._old.update(kept)
        self.young = {}
