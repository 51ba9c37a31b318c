"""When a tier flushes by itself.

Owns the rule and its count. It must not know what is saved, nor where. There is no timer here:
a tier that is debounced is flushed by its owner.

Source: storage-tiers T11-T15.
"""

from __future__ import annotations


class Cadence:
    """Counts what was saved, and tells when it is time to flush.

    Without a debounce every save flushes. With one, of any length, a flush is due when the
    count crosses a multiple of `compact_every`: a batch that jumps over several crosses once.
    The count never falls. Not thread-safe: a tier calls it under its lock.

    Args:
        owner: who is asked for, for messages.
        debounce_ms: how long the owner means to wait before it flushes, in milliseconds; None
            to flush with every save. 0 is a debounce too.
        compact_every: flush with every n-th save, at least 1; None for no such flush.

    Raises:
        ValueError: one of the two is out of its range.
    """

    __slots__ = ("compact_every", "count", "debounce_ms")

    def __init__(self, owner: str, debounce_ms: int | None, compact_every: int | None) -> None:
        if compact_every is not None and compact_every < 1:
            message = f"{owner}: compact_every is {compact_every}; it must be None or at least 1"
            raise ValueError(message)
        if debounce_ms is not None and debounce_ms < 0:
            message = f"{owner}: debounce_ms is {debounce_ms}; it must be None or at least 0"
            raise ValueError(message)
        self.debounce_ms = debounce_ms
        self.compact_every = compact_every
        self.count = 0

    def is_due_after(self, saved: int) -> bool:
        """Tells whether a flush will be due when `saved` more were saved."""
        every = self.compact_every
        return self.debounce_ms is None or (
            every is not None and self.count // every != (self.count + saved) // every
        )

    def accept(self, saved: int) -> bool:
        """Counts what was saved; tells whether a flush is due."""
        is_due = self.is_due_after(saved)
        self.count += saved
        return is_due
