"""The propagation of one change of a table to everything downstream.

Owns the state of a propagation in one task: which tables have changed since the outermost change
began, what their rows were before, and which rows were sent to the sides of a join meanwhile.

A table forwards a change to one child after the other. If both sides of a join come from one table,
the join also receives the change in two halves. Between them, one side has changed and the other
has not, and the other side must be read as it was before. So tables whose changes reach both sides
of a join begin a propagation. `topology.self_joins` finds these tables.

Caches evict only after the outermost change has arrived everywhere. Changes that they would forward
earlier would overtake it.

Source: none, the JVM reads the newest row of the other side (docs/differences.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from thalweg.stores.api import CacheBudget
from thalweg.stores.updates import Forward, Pair

TellChange = Forward
Read = Callable[[Any], Pair | None]

NO_TIME: Final = -1
"""The timestamp of a row as it was: a result made of it has that of the change."""


class Propagation:
    """What is under way in one task. All changes of one propagation are of one key.

    Args:
        cache: the budget of the task's caches, None where caching is off.

    Attributes:
        depth: how many tables a change is on its way from, one behind the other; 0 where none is.
    """

    def __init__(self, cache: CacheBudget | None) -> None:
        self._cache = cache
        self.depth = 0
        self._before: dict[str, Any] = {}
        self.told: dict[tuple[object, str], Pair | None] = {}
        """(join, side) -> the row that this side was told of last."""

    def begins_at(self, store: str, forward: TellChange) -> TellChange:
        """Returns `forward` for the table in `store`; its changes must carry old values."""

        def propagate(key: Any, new: Any, old: Any, timestamp: int) -> None:
            self._before.setdefault(store, old)
            self._begin()
            try:
                forward(key, new, old, timestamp)
            except BaseException:
                self._end(failed=True)
                raise
            self._end()

        return propagate

    def _begin(self) -> None:
        self.depth += 1
        if self._cache is not None:
            self._cache.hold()

    def _end(self, *, failed: bool = False) -> None:
        self.depth -= 1
        if not self.depth:
            self._before.clear()
            self.told.clear()
        if self._cache is not None:
            self._cache.release(failed=failed)

    def apart(self, key: Any, forward: TellChange) -> TellChange:
        """Returns `forward` for changes of any key that are let go while one of `key` is on its way.

        What is noted of the change under way says nothing of other keys.
        """
        before, told = self._before, self.told

        def forward_apart(other: Any, new: Any, old: Any, timestamp: int) -> None:
            if other == key:
                forward(other, new, old, timestamp)
                return
            notes = dict(before), dict(told)
            before.clear()
            told.clear()
            try:
                forward(other, new, old, timestamp)
            finally:
                before.clear()
                told.clear()
                before.update(notes[0])
                told.update(notes[1])

        return forward_apart

    def row_before(self, store: str, forwarded_row: Read) -> Read:
        """Returns a read of the rows of `store` as they were before the propagation.

        Args:
            store: the store.
            forwarded_row: reads the row that was forwarded last.
        """
        before = self._before

        def read(key: Any) -> Pair | None:
            if store not in before:
                return forwarded_row(key)
            old = before[store]
            return None if old is None else (old, NO_TIME)

        return read

    def row_told(self, join: object, side: str, before: Read) -> Read:
        """Returns a read of the rows that a side of a join was told of last.

        Args:
            join: the join, any value that tells it from others.
            side: the side.
            before: reads the side's row as it was before the propagation.
        """
        told, place = self.told, (join, side)

        def read(key: Any) -> Pair | None:
            return told[place] if place in told else before(key)

        return read
