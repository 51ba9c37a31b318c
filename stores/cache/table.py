"""The cached rows of one store: their order of use and of update, eviction and flush.

Owns the table of entries. A flush writes the dirty rows in the order of their last updates. It must
not know keys, serdes, the store below, nor who receives a flushed row.

Source: JVM `NamedCache`; kafka-streams semantics D15.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Final

from sortedcontainers import SortedKeyList

from thalweg.stores.api import CacheBudget
from thalweg.stores.cache.entry import (
    CONTEXT_OVERHEAD_BYTES,
    ENTRY_OVERHEAD_BYTES,
    MUST_RESIZE,
    WRITTEN,
    CacheEntry,
    HotRow,
    context_bytes,
)
from thalweg.stores.record import CurrentRecord
from thalweg.stores.updates import UNREAD, Pair, Unread

_updated: Final = attrgetter("updated")
_updated_at: Final = attrgetter("updated", "updated_offset")
_used: Final = attrgetter("used")
_used_at: Final = attrgetter("used", "updated_offset")
_raw_key: Final = attrgetter("raw_key")


class EntryTable:
    """Cached rows with exact least-recently-used eviction that costs an update nothing.

    Instead of a linked list that every access must mend, a row carries the tick of its last
    use. Only when something must be evicted are rows sorted by it, once for many evictions:
    a row used since it was sorted is skipped, it stands further back by now.

    A hot row's entry in `rows` keeps its byte size and dirty flag current; its other fields may
    be stale until `demote` brings them up to date. Hot rows of one tick were updated by records
    of `hot_topic` with rising offsets, so that an update need not count a tick of its own;
    `hot_offset` is the last of these offsets. `folds_total` counts updates by a fold.

    Args:
        cache: the budget its rows count against.
        current: the cell of the task; tells an entry where it came from, and the flush the
            store below.
        write_down: writes one row to the store below and forwards it; `current` is what it was
            when the row was updated last.
    """

    __slots__ = (
        "_current", "_evicts_again", "_flushes_again", "_in_order", "_is_flushing", "_queue",
        "_queue_tick", "_was_hot", "cache", "dirty", "flushing", "folds_total", "hot", "hot_offset", "hot_topic",
        "rows", "tick", "write_down",
    )  # fmt: skip

    def __init__(
        self,
        cache: CacheBudget,
        current: CurrentRecord,
        write_down: Callable[[CacheEntry], None],
    ) -> None:
        self.cache = cache
        self.rows: dict[Hashable, CacheEntry] = {}
        self.dirty: list[CacheEntry] = []
        self.flushing: list[CacheEntry] = []
        self.hot: dict[Hashable, HotRow] = {}
        self.hot_topic: str | None = None
        self.hot_offset = -1
        self.folds_total = 0
        self.tick = 0
        self._current = current
        self.write_down = write_down
        # Rows by use, the last one first, as they were at a tick.
        self._queue: list[CacheEntry] = []
        self._queue_tick = 0
        # Whether ticks alone no longer tell the order.
        self._was_hot = False
        # Only stores that are scanned pay for order.
        self._in_order: SortedKeyList[CacheEntry, bytes] | None = None
        self._is_flushing = self._flushes_again = self._evicts_again = False

    def entry(self, key: Hashable) -> CacheEntry | None:
        """Returns the entry of a cached row, up to date."""
        if key in self.hot:
            self.demote(key)
        return self.rows.get(key)

    def demote(self, key: Hashable) -> None:
        """Brings the entry of a hot row up to date; the row is hot no longer."""
        # The entry first: a reader that misses the hot row finds it there.
        self.hot[key].write_back()
        del self.hot[key]

    def demote_all(self) -> None:
        """Brings the entries of all hot rows up to date; none is hot any longer."""
        for row in self.hot.values():
            row.write_back()
        self.hot.clear()

    def promote(self, entry: CacheEntry) -> None:
        """Makes a row hot, if records of the topic that updated it last can leave it so."""
        if entry.same_size_topic is not MUST_RESIZE and isinstance(entry.origin, int):
            self._was_hot = True
            if entry.updated == self.tick:
                # The next record shares its tick: what has the same offset comes after it.
                self.hot_offset = entry.origin
            self.hot[entry.key] = HotRow(entry)

    def use(self, key: Hashable) -> None:
        """Notes the use of a row that is cached."""
        entry = self.entry(key)
        if entry is not None:
            entry.used = self.tick + 1
            self.tick += 2

    def mark_dirty(self, entry: CacheEntry) -> None:
        """Notes that the store below does not have a row as it is here."""
        entry.dirty = True
        self.dirty.append(entry)

    def update(self, entry: CacheEntry, pair: Pair, context_timestamp: int, size: int) -> None:
        """Sets the newest value of a row, new or known, and what it weighs.

        Evicts when the budget is exceeded.

        Args:
            entry: the row.
            pair: its value, None for a deleted row, and timestamp.
            context_timestamp: time of the record that updates it.
            size: bytes of key and value as the JVM would cache them.
        """
        current, cache = self._current, self.cache
        topic, origin = current.topic, current.origin
        is_new = entry.used < 0
        # Dirty first: a reader that has seen the new pair must not take the one below for newer.
        if not entry.dirty:
            self.mark_dirty(entry)
        entry.pair = pair
        entry.context_timestamp = context_timestamp
        entry.topic = topic
        entry.partition = current.partition
        entry.origin = origin
        must_resize = pair[0] is None or topic is None or origin.__class__ is tuple
        entry.same_size_topic = MUST_RESIZE if must_resize else topic
        self.tick = entry.used = entry.updated = self.tick + 1
        entry.updated_offset = WRITTEN
        if is_new:
            self._take_in(entry)
        size += ENTRY_OVERHEAD_BYTES + context_bytes(topic, origin)
        cache.size_bytes += size - entry.size_bytes
        entry.size_bytes = size
        if cache.size_bytes > cache.max_bytes:
            self.evict()

    def insert_clean(self, entry: CacheEntry, size: int) -> None:
        """Takes in a row as it was read from the store below."""
        cache = self.cache
        self._take_in(entry)
        self.tick = entry.used = self.tick + 1
        entry.size_bytes = size + ENTRY_OVERHEAD_BYTES + CONTEXT_OVERHEAD_BYTES
        cache.size_bytes += entry.size_bytes
        if cache.size_bytes > cache.max_bytes:
            self.evict()

    def _take_in(self, entry: CacheEntry) -> None:
        # From here on other threads see it: as dirty as it is.
        self.rows[entry.key] = entry
        if self._in_order is not None:
            self._in_order.add(entry)

    def peek(self, key: Hashable) -> Pair | Unread:
        """Returns the newest pair of a row, `UNREAD` if it is not here; for other threads."""
        row = self.hot.get(key)
        if row is not None:
            return row.pair()
        entry = self.rows.get(key)
        if entry is not None:
            return entry.pair
        for entry in self.flushing:
            if entry.key == key:
                return entry.pair
        return UNREAD

    def differing(self, *, every: bool) -> dict[bytes, Pair]:
        """Returns rows the store below may not have as they are here; for other threads too.

        Args:
            every: return all rows.

        Returns:
            Stored key -> newest pair, in no order.
        """
        find_hot, found = self.hot.get, dict[bytes, Pair]()
        # Rows first: one that is clean by now was in `flushing` before it became so.
        for entry in list(self.rows.values()):
            if every or entry.dirty:
                row = find_hot(entry.key)
                found[entry.raw_key] = entry.pair if row is None else row.pair()
        for entry in self.flushing:
            found.setdefault(entry.raw_key, entry.pair)
        return found

    def differing_between(
        self, lower: bytes | None, upper: bytes | None, *, every: bool
    ) -> dict[bytes, Pair]:
        """Returns as `differing` the rows whose stored key is in [lower, upper); for the worker.

        It walks the rows of the range and those being flushed, dirty or not. Whoever scans has
        seen them.
        """
        find_hot, found = self.hot.get, dict[bytes, Pair]()
        for entry in self._ordered().irange_key(lower, upper, (True, False)):
            if every or entry.dirty:
                row = find_hot(entry.key)
                pair = entry.pair if row is None else row.pair()
                entry.seen = entry.seen or pair[0] is not None
                found[entry.raw_key] = pair
        for entry in self.flushing:
            raw_key = entry.raw_key
            if (lower is None or raw_key >= lower) and (upper is None or raw_key < upper):
                found.setdefault(raw_key, entry.pair)
        return found

    def first_from(self, lower: bytes) -> bytes | None:
        """Returns the lowest stored key at or above `lower`; for the worker."""
        lowest = min(
            (entry.raw_key for entry in self.flushing if entry.raw_key >= lower), default=None
        )
        entry: CacheEntry | None = next(self._ordered().irange_key(lower), None)
        if entry is None or (lowest is not None and lowest < entry.raw_key):
            return lowest
        return entry.raw_key

    def _ordered(self) -> SortedKeyList[CacheEntry, bytes]:
        if self._in_order is None:
            self._in_order = SortedKeyList(self.rows.values(), key=_raw_key)
        return self._in_order

    # -- giving way and flushing ---------------------------------------------------------

    def evict(self) -> None:
        """Evicts until the budget holds or no row is left.

        A dirty victim takes all dirty rows of the store with it to be flushed, itself first.
        Nothing is evicted while the budget is held, and no dirty row while a flush is under way:
        both are made up for at the end.
        """
        cache = self.cache
        if cache.defers(self, flush=False):
            return
        while cache.size_bytes > cache.max_bytes:
            queue = self._queue
            if not queue:
                if not self.rows:
                    return
                self.demote_all()
                queue.extend(self.rows.values())
                queue.sort(key=_used_at if self._was_hot else _used, reverse=True)
                self._queue_tick = self.tick
            entry = queue.pop()
            if not 0 <= entry.used <= self._queue_tick or entry.key in self.hot:
                continue  # here no longer, or used since
            if not entry.dirty:
                self._remove(entry)
            elif self._is_flushing:
                queue.append(entry)
                self._evicts_again = True
                return
            else:
                self._flush(entry)

    def flush(self) -> None:
        """Writes every dirty row down and forwards it, in the order of last updates."""
        if not self.dirty or self.cache.defers(self, flush=True):
            return
        if self._is_flushing:
            self._flushes_again = True
            return
        self._flush(None)

    def clear(self) -> None:
        """Forgets every row."""
        self.cache.size_bytes -= sum(entry.size_bytes for entry in self.rows.values())
        self.hot.clear()
        self.rows.clear()
        self.dirty, self._queue, self._in_order = [], [], None

    def _remove(self, entry: CacheEntry) -> None:
        """Takes a row out; its bytes no longer count."""
        if self.hot:
            self.hot.pop(entry.key, None)
        if self._in_order is not None:
            self._in_order.remove(entry)
        del self.rows[entry.key]
        entry.used = -1
        self.cache.size_bytes -= entry.size_bytes

    def _flush(self, evicted: CacheEntry | None) -> None:
        """Flushes, and makes up for what was asked for meanwhile."""
        self._is_flushing = True
        try:
            self._flush_once(evicted)
            while self._flushes_again:
                self._flushes_again = False
                self._flush_once(None)
        finally:
            self._is_flushing = self._flushes_again = False
        evicts_again, self._evicts_again = self._evicts_again, False
        if evicts_again and evicted is None:  # else whoever evicted it goes on
            self.evict()

    def _flush_once(self, evicted: CacheEntry | None) -> None:
        flushed, self.dirty = self.dirty, []
        hot = [row for row in self.hot.values() if row.is_dirty]
        for row in hot:
            row.write_back()
        if self._was_hot:
            # Only these share a tick, and come after any other of that tick. To sort all rows by both is slow.
            late = [entry for entry in flushed if entry.updated_offset >= 0]
            late.sort(key=_updated_at)
            flushed = [entry for entry in flushed if entry.updated_offset < 0]
            flushed += late
        flushed.sort(key=_updated)
        for row in hot:
            row.is_dirty = False
        if evicted is not None:
            flushed.remove(evicted)
            flushed.insert(0, evicted)
        # Readers that miss the evicted row find it here.
        self.flushing = flushed
        evicted_bytes = 0
        if evicted is not None:
            self._remove(evicted)
            # As in the JVM its bytes count until the flush is over: stores downstream, which
            # the flush fills, give way the earlier.
            evicted_bytes = evicted.size_bytes
            self.cache.size_bytes += evicted_bytes
        current = self._current
        try:
            with current.saved():
                current.run = ()
                write_down = self.write_down
                for entry in flushed:
                    current.topic, current.partition = entry.topic, entry.partition
                    current.origin, current.timestamp = entry.origin, entry.context_timestamp
                    # Not before its turn: until then listeners have not heard of it. And not
                    # after it: what is forwarded may come back and update the row anew.
                    entry.dirty = False
                    write_down(entry)
        except BaseException:
            known = set(map(id, self.dirty))
            self.dirty += [one for one in flushed if one.dirty and id(one) not in known]
            raise
        finally:
            self.flushing = []
            self.cache.size_bytes -= evicted_bytes
        rows = self.rows
        for entry in flushed:
            if entry.pair[0] is None and not entry.dirty and rows.get(entry.key) is entry:
                self._remove(entry)
