"""The byte budget that all cached stores of one worker share.

Owns the count of cached bytes and the rule who must give way: when the budget is
exceeded, the store that was just written evicts its least recently used entries until
the budget holds or it has none left. While it is held nobody gives way: whoever would have
to does so on release. It knows nothing of keys, serdes or stores below.

Sizes are counted as the JVM counts them, so that the same input evicts the same entries:
an entry weighs its key, 25 bytes of bookkeeping, its stored value (with the 8-byte
timestamp where the store has one) and its record context (20 bytes, topic name, headers).

Source: JVM `ThreadCache`, `NamedCache`, `LRUCacheEntry`, `ProcessorRecordContext`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, Protocol

from thalweg.stores.record import Origin

ENTRY_OVERHEAD_BYTES: Final = 25
"""Three references of an LRU node and the dirty flag."""

CONTEXT_OVERHEAD_BYTES: Final = 20
"""Timestamp, offset and partition of the record that wrote the entry."""


class Unread:
    """Marks that nobody has asked yet what the store below holds for a key."""

    __slots__ = ()


UNREAD: Final = Unread()

HEAVY: Final = object()
"""No topic: an update has to weigh the row."""


class CacheEntry:
    """One cached row: a mutable record, made once per key and reused by every update.

    `pair` is the newest (value, timestamp), the value None where the row is deleted; it is
    one tuple, replaced and never changed, so that readers of other threads see no half of
    an update. `stored` is the pair in the store below, None when it has no such row,
    `UNREAD` when that is not known. `used` (the last read or update) and `updated` are ticks of
    the store's own counter: the former orders entries for eviction and is negative outside of
    the table, the latter for flushing.
    Folds of one tick are ordered by `updated_offset`, which is -1 for any other update.
    `seen` tells that user code has read the row as it is here while the store below had none: a
    deletion must then be told, else what was made of the row would stay.

    `light_topic` is the topic whose records may update a row without weighing it anew: the
    row has a value and was written by a record of that topic without headers. Where that does
    not hold it is `HEAVY`.
    """

    __slots__ = (
        "context_timestamp",
        "dirty",
        "key",
        "light_topic",
        "origin",
        "pair",
        "partition",
        "raw_key",
        "seen",
        "size_bytes",
        "stored",
        "topic",
        "updated",
        "updated_offset",
        "used",
    )

    def __init__(self, key: Hashable, raw_key: bytes) -> None:
        self.key = key
        self.raw_key = raw_key
        self.pair: tuple[Any, int] = (None, -1)
        self.stored: tuple[Any, int] | Unread | None = UNREAD
        self.dirty = False
        self.seen = False
        self.light_topic: object = HEAVY
        self.topic: str | None = ""
        self.partition = -1
        self.origin: Origin = None
        self.context_timestamp = -1
        self.size_bytes = 0
        self.used = -1
        self.updated = 0
        self.updated_offset = -1


class HotRow:
    """What changes of a cached row while an aggregation updates it record by record.

    The worker changes it in place, `offset` being None meanwhile; other threads read it by
    `pair`. `topic` is the one whose records may update it, `tick` the table's at the last
    update, `offset` and `context_timestamp` are those of the record then.

    Args:
        entry: the row, up to date.
    """

    __slots__ = (
        "context_timestamp",
        "entry",
        "is_dirty",
        "offset",
        "tick",
        "timestamp",
        "topic",
        "value",
    )

    def __init__(self, entry: CacheEntry) -> None:
        assert isinstance(entry.origin, int)
        self.entry = entry
        self.value, self.timestamp = entry.pair
        self.offset: int | None = entry.origin
        self.context_timestamp = entry.context_timestamp
        self.topic = entry.light_topic
        self.tick = entry.updated
        self.is_dirty = entry.dirty

    def pair(self) -> tuple[Any, int]:
        """Returns value and timestamp as they were together; any thread may call it."""
        while True:
            offset = self.offset
            pair = self.value, self.timestamp
            # An update in between would have left another offset.
            if offset is not None and self.offset is offset:
                return pair

    def write_back(self) -> None:
        """Brings the entry up to date."""
        entry, offset = self.entry, self.offset
        assert offset is not None
        entry.pair = self.value, self.timestamp
        entry.origin = entry.updated_offset = offset
        entry.context_timestamp, entry.updated = self.context_timestamp, self.tick
        # A listener may have read it since, before it became hot.
        entry.used = max(entry.used, self.tick)


def context_bytes(topic: str | None, origin: Origin) -> int:
    """Weighs a record context as the JVM does: fixed part, topic name, headers."""
    size = CONTEXT_OVERHEAD_BYTES + (len(topic) if topic else 0)
    if origin.__class__ is tuple:
        for name, value in origin[1]:
            size += len(name) + (len(value) if value is not None else 0)
    return size


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
