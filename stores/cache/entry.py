"""Cached rows: the entry of each row, and the hot row of rows that are updated often.

Owns the fields of a cached row and its size. Sizes are counted as in the JVM: an entry has the size
of its key, 25 bytes of bookkeeping, its stored value (with the 8-byte timestamp if the store has
one) and its record context (20 bytes, topic name, headers).

Source: JVM `LRUCacheEntry`, `ProcessorRecordContext`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from thalweg.stores.record import Origin
from thalweg.stores.updates import UNREAD, Unread

ENTRY_OVERHEAD_BYTES: Final = 25
"""Three references of an LRU node and the dirty flag."""

CONTEXT_OVERHEAD_BYTES: Final = 20
"""Timestamp, offset and partition of the record that wrote the entry."""

WRITTEN: Final = -1
"""The `updated_offset` of a row after a write; each fold of its entry subtracts one."""

HOT_AFTER: Final = -5
"""The `updated_offset` at which the next fold makes a row hot."""

MUST_RESIZE: Final = object()
"""No topic: an update has to weigh the row."""


class CacheEntry:
    """One cached row: a mutable record, made once per key and reused by every update.

    `pair` is the newest (value, timestamp), the value None where the row is deleted; it is
    one tuple, replaced and never changed, so that readers of other threads see no half of
    an update. `stored` is the pair in the store below, None when it has no such row,
    `UNREAD` when that is not known. `used` (the last read or update) and `updated` are ticks of
    the store's own counter: the former orders entries for eviction and is negative outside of
    the table, the latter for flushing.
    Hot updates of one tick are ordered by `updated_offset`, the record's offset. It is negative
    after any other update: `WRITTEN`, or less by the number of folds since.
    `seen` tells that user code has read the row as it is here while the store below had none: a
    deletion must then be told, else what was made of the row would stay.

    `same_size_topic` is the topic whose records may update a row without weighing it anew: the
    row has a value and was written by a record of that topic without headers. Where that does
    not hold it is `MUST_RESIZE`.
    """

    __slots__ = (
        "context_timestamp",
        "dirty",
        "key",
        "origin",
        "pair",
        "partition",
        "raw_key",
        "same_size_topic",
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
        self.same_size_topic: object = MUST_RESIZE
        self.topic: str | None = ""
        self.partition = -1
        self.origin: Origin = None
        self.context_timestamp = -1
        self.size_bytes = 0
        self.used = -1
        self.updated = 0
        self.updated_offset = WRITTEN


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
        self.topic = entry.same_size_topic
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
