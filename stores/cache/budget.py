"""The byte budget that all cached stores of one worker share.

Owns the count of cached bytes and the eviction rule. When the budget is exceeded, the store that
was just written evicts its least recently used entries until the budget holds or it has no more
entries. While eviction is suspended, nothing is evicted; the eviction is done when the suspension
ends. This module must not know keys, serdes or the stores below. `stores.cache.entry` computes the
size of an entry.

Source: JVM `ThreadCache`, `NamedCache`.
"""

from __future__ import annotations

from typing import Protocol


class Giving(Protocol):
    """Rows of one store, as the budget sees them."""

    def evict(self) -> None:
        """Evicts rows until the budget holds or none is left."""

    def flush(self) -> None:
        """Writes every dirty row down and forwards it."""


class RecordCache:
    """Counts the bytes cached by all stores of one worker against `max_bytes`.

    Not thread-safe: one worker owns it. A `max_bytes` of 0 means that stores are built
    without a cache; a cache with room for nothing evicts each entry as it is written.

    Args:
        max_bytes: the budget, at least 0.
    """

    __slots__ = ("_holds", "_waiting", "max_bytes", "size_bytes")

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            message = f"max_bytes must not be negative, got {max_bytes}"
            raise ValueError(message)
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._holds = 0
        # Who gives way on release; whether it is to be flushed as a whole.
        self._waiting: dict[Giving, bool] = {}

    def hold(self) -> None:
        """Lets nothing be evicted or flushed before the release that belongs to it."""
        self._holds += 1

    def defers(self, rows: Giving, *, flush: bool) -> bool:
        """Tells whether the budget is held; `rows` are then evicted or flushed on release."""
        if not self._holds:
            return False
        self._waiting[rows] = self._waiting.get(rows, False) or flush
        return True

    def release(self, *, failed: bool = False) -> None:
        """Ends a hold. After the last one, who had to wait gives way.

        Args:
            failed: an error is on its way: nothing is flushed before it has been dealt with.
        """
        self._holds -= 1
        while self._waiting and not self._holds and not failed:
            rows = next(iter(self._waiting))
            if self._waiting.pop(rows):
                rows.flush()
            if self.size_bytes > self.max_bytes:
                rows.evict()
