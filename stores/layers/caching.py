"""Write-back cache of a key-value store: one downstream update per key and commit.

Owns the cached rows of one store, their order of use and of update, and the flush: for
each dirty row, in the order of last updates, the store below is written (which logs to the
changelog) and the change is forwarded downstream. It must not know what lies below the
metered store it wraps, nor who listens.

Rows are kept decoded where that is safe: keys of serdes whose equality is byte equality,
values of immutable types. Anything else is kept as bytes, because user code that mutates
an aggregate in place would otherwise change what the cache believes is the old value.

Source: JVM `CachingKeyValueStore`, `NamedCache`; kafka-streams semantics D15.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from typing import Any, Final

from stores.api import FlushListener, StoreHost
from stores.layers.metered import MeteredKeyValueStore
from stores.layers.record_cache import (
    CONTEXT_OVERHEAD_BYTES,
    ENTRY_OVERHEAD_BYTES,
    UNREAD,
    CacheEntry,
    RecordCache,
    Unread,
    context_bytes,
)

_last_use: Final = attrgetter("used")
_last_update: Final = attrgetter("updated")

Pair = tuple[Any, int]
Process = Callable[[Any, Any, int], None]
Failed = Callable[[Exception, Any, Any, int], None]


class EntryTable:
    """Cached rows with exact least-recently-used eviction that costs an update nothing.

    Instead of a linked list that every access must mend, a row carries the tick of its last
    use. Only when something must be evicted are rows sorted by it, once for many evictions:
    a row used since it was sorted is skipped, it stands further back by now.
    """

    __slots__ = ("_queue", "cache", "dirty", "rows", "tick")

    def __init__(self, cache: RecordCache) -> None:
        self.cache = cache
        self.rows: dict[Hashable, CacheEntry] = {}
        self.dirty: list[CacheEntry] = []
        self.tick = 0
        self._queue: list[tuple[int, CacheEntry]] = []

    def eldest(self) -> CacheEntry | None:
        """Returns the least recently used row, or None when there is no row."""
        rows, queue = self.rows, self._queue
        while True:
            while queue:
                used, entry = queue.pop()
                if entry.used == used and rows.get(entry.key) is entry:
                    return entry
            if not rows:
                return None
            queue.extend((e.used, e) for e in sorted(rows.values(), key=_last_use, reverse=True))

    def remove(self, entry: CacheEntry) -> None:
        """Takes a row out; its bytes no longer count."""
        del self.rows[entry.key]
        self.cache.size_bytes -= entry.size_bytes

    def take_dirty(self) -> list[CacheEntry]:
        """Returns the dirty rows, last updated last, and marks them clean."""
        flushed = self.dirty
        self.dirty = []
        flushed.sort(key=_last_update)
        for entry in flushed:
            entry.dirty = False
        return flushed


class CachingKeyValueStore(MeteredKeyValueStore):
    """A key-value store whose writes wait in memory until commit or eviction.

    One worker writes; `read_only()` faces may read from other threads meanwhile.
    """

    def __init__(self, inner: MeteredKeyValueStore, host: StoreHost, cache: RecordCache) -> None:
        super().__init__(inner.bytes_store, inner.builder, host)
        self._inner = inner
        self._current = host.current
        self._table = EntryTable(cache)
        self._listener: FlushListener | None = None
        self._send_old_values = False
        self._key_is_row = inner.key_serde.keyable
        self._value_is_row = inner.value_serde.immutable
        self._fixed_bytes = inner.value_serde.fixed_size_bytes
        self._prefix_bytes = 8 if inner.timestamped else 0
        self._stored_is_lasting = not inner.evicts
        self.cache_hits = 0
        self.cache_misses = 0

    # -- reading and writing -------------------------------------------------------------

    def get_pair(self, key: Any) -> Pair | None:
        """Reads the newest (value, timestamp) of a key, cached or stored."""
        table = self._table
        row_key = key if self._key_is_row else self.encode_key(key)
        entry = table.rows.get(row_key)
        if entry is None:
            raw_key = self.encode_key(key) if self._key_is_row else row_key
            pair = self._inner.get_pair_raw(raw_key)
            if pair is not None:
                self._insert_clean(row_key, raw_key, pair)
            return pair
        table.tick = entry.used = table.tick + 1
        if entry.value is None:
            return None
        value = entry.value if self._value_is_row else self.decode_value(entry.value)
        return value, entry.timestamp

    def put_pair(self, key: Any, value: Any | None, timestamp: int) -> None:
        """Writes a row into the cache; None deletes. Evicts when the budget is exceeded."""
        self._put(key, value, timestamp, UNREAD)

    def _put(
        self, key: Any, value: Any | None, timestamp: int, stored: Pair | Unread | None
    ) -> None:
        table, current = self._table, self._current
        row_key = key if self._key_is_row else self.encode_key(key)
        entry = table.rows.get(row_key)
        if entry is None:
            raw_key = self.encode_key(key) if self._key_is_row else row_key
            entry = table.rows[row_key] = CacheEntry(row_key, raw_key)
            entry.stored = stored
        row = value
        if value is None:
            size = 0
        elif self._value_is_row:
            size = self._prefix_bytes + self._value_bytes(value)
        else:
            row = self.encode_value(value)
            size = self._prefix_bytes + len(row)
        entry.value = row
        entry.timestamp = timestamp
        entry.context_timestamp = current.timestamp
        entry.topic = current.topic
        entry.partition = current.partition
        entry.origin = current.origin
        table.tick = entry.used = entry.updated = table.tick + 1
        if not entry.dirty:
            entry.dirty = True
            table.dirty.append(entry)
        size += (
            len(entry.raw_key) + ENTRY_OVERHEAD_BYTES + context_bytes(current.topic, current.origin)
        )
        cache = table.cache
        cache.size_bytes += size - entry.size_bytes
        entry.size_bytes = size
        if cache.size_bytes > cache.max_bytes:
            self._evict()

    def fold(
        self, step: Callable[[Any, Any, Any | None], Any], on_null: Process, failed: Failed
    ) -> Process:
        """Binds a whole aggregation step to the cache, for the hot path.

        The returned function reads the row of `key`, computes `step(key, value, old)` and
        writes it back with the later of both timestamps; a key or value of None goes to
        `on_null` instead. It equals `get_pair` + `put_pair` and saves their calls where the
        row is cached already.

        Args:
            step: returns the new aggregate, None to delete the row; `old` is None where
                there is no row.
            on_null: takes the (key, value, timestamp) of records that are dropped.
            failed: takes (error, key, value, timestamp) of a step that raised.
        """
        slow = self._fold_slow
        if not (self._key_is_row and self._value_is_row and self._fixed_bytes is not None):

            def fold_bytes(key: Any, value: Any, timestamp: int) -> None:
                if key is None or value is None:
                    on_null(key, value, timestamp)
                    return
                try:
                    slow(key, value, timestamp, step)
                except Exception as error:
                    failed(error, key, value, timestamp)

            return fold_bytes

        table, current = self._table, self._current
        find = table.rows.get

        def fold(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                on_null(key, value, timestamp)
                return
            try:
                entry = find(key)
                # The short way is for a row whose weight cannot change: already dirty, written
                # by a record of the same topic, and neither that nor this record has headers.
                if (
                    entry is None
                    or not entry.dirty
                    or entry.topic is not current.topic
                    or current.origin.__class__ is tuple
                    or entry.origin.__class__ is tuple
                    or entry.value is None
                ):
                    slow(key, value, timestamp, step)
                    return
                result = step(key, value, entry.value)
                if result is None:
                    slow(key, value, timestamp, lambda _key, _value, _old: None)
                    return
                entry.value = result
                entry.timestamp = max(entry.timestamp, timestamp)
                entry.context_timestamp = timestamp
                entry.partition = current.partition
                entry.origin = current.origin
                table.tick = entry.used = entry.updated = table.tick + 1
            except Exception as error:
                failed(error, key, value, timestamp)

        return fold

    def _fold_slow(
        self, key: Any, value: Any, timestamp: int, step: Callable[[Any, Any, Any | None], Any]
    ) -> None:
        pair = self.get_pair(key)
        if pair is None:
            result = step(key, value, None)
            # What was read just now is still so: remember it, and flush need not read again.
            self._put(key, result, timestamp, None if self._stored_is_lasting else UNREAD)
        else:
            result = step(key, value, pair[0])
            self._put(key, result, max(timestamp, pair[1]), UNREAD)

    def _insert_clean(self, row_key: Hashable, raw_key: bytes, pair: Pair) -> None:
        table = self._table
        entry = table.rows[row_key] = CacheEntry(row_key, raw_key)
        value, entry.timestamp = pair
        size = self._prefix_bytes
        if self._value_is_row:
            entry.value = value
            size += self._value_bytes(value)
        else:
            entry.value = self.encode_value(value)
            size += len(entry.value)
        if self._stored_is_lasting:
            entry.stored = (entry.value, entry.timestamp)
        table.tick = entry.used = table.tick + 1
        entry.size_bytes = size + len(raw_key) + ENTRY_OVERHEAD_BYTES + CONTEXT_OVERHEAD_BYTES
        table.cache.size_bytes += entry.size_bytes
        if table.cache.size_bytes > table.cache.max_bytes:
            self._evict()

    def _value_bytes(self, value: Any) -> int:
        if self._fixed_bytes is not None:
            return self._fixed_bytes
        if value.__class__ is str and value.isascii():
            return len(value)
        return len(self.encode_value(value))

    # -- flushing ------------------------------------------------------------------------

    def set_flush_listener(self, listener: FlushListener, send_old_values: bool) -> bool:
        """Takes the function that hears of every flushed change."""
        self._listener = listener
        self._send_old_values = send_old_values
        return True

    def flush_cache(self) -> None:
        """Writes every dirty row down and forwards it, in the order of last updates."""
        if self._table.dirty:
            self._flush(self._table.take_dirty())

    def _evict(self) -> None:
        table = self._table
        cache = table.cache
        while cache.size_bytes > cache.max_bytes:
            entry = table.eldest()
            if entry is None:
                return
            table.remove(entry)
            if entry.dirty:
                flushed = table.take_dirty()
                flushed.remove(entry)
                flushed.insert(0, entry)
                self._flush(flushed)

    def _flush(self, flushed: list[CacheEntry]) -> None:
        current = self._current
        before = (
            current.topic, current.partition, current.origin, current.timestamp,
            current.raw_key, current.raw_value,
        )  # fmt: skip
        try:
            current.raw_key = current.raw_value = None
            for entry in flushed:
                self._write_down(entry)
        finally:
            (
                current.topic, current.partition, current.origin, current.timestamp,
                current.raw_key, current.raw_value,
            ) = before  # fmt: skip
        table = self._table
        for entry in flushed:
            if entry.value is None and not entry.dirty and table.rows.get(entry.key) is entry:
                table.remove(entry)

    def _write_down(self, entry: CacheEntry) -> None:
        row, timestamp, listener = entry.value, entry.timestamp, self._listener
        stored = entry.stored
        if listener is not None and (row is None or self._send_old_values):
            if stored is UNREAD:
                below = self._inner.get_pair_raw(entry.raw_key)
                stored = below and (self._to_row(below[0]), below[1])
            if row is None and stored is None:
                return  # came and went within the interval: leaves no trace
        if self._stored_is_lasting:
            entry.stored = None if row is None else (row, timestamp)
        current = self._current
        current.topic, current.partition = entry.topic, entry.partition
        current.origin, current.timestamp = entry.origin, entry.context_timestamp
        value = row if self._value_is_row or row is None else self.decode_value(row)
        if self._value_is_row:
            self._inner.put_pair_raw(entry.raw_key, value, timestamp)
        else:
            self._inner.put_pair_encoded(entry.raw_key, row, timestamp)
        if listener is None:
            return
        old = None
        if self._send_old_values and stored:
            assert not isinstance(stored, Unread)
            old = stored[0] if self._value_is_row else self.decode_value(stored[0])
        key = entry.key if self._key_is_row else self.decode_key(entry.raw_key)
        listener(key, value, old, entry.context_timestamp if row is None else timestamp)

    def _to_row(self, value: Any) -> Any:
        return value if self._value_is_row else self.encode_value(value)

    # -- scans ---------------------------------------------------------------------------

    def cached_rows(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yields (stored key, stored value) of the rows that differ from the store below.

        Rows of a store that forgets on its own (LRU) are yielded whole. Unordered; safe to
        call from any thread.
        """
        every = not self._stored_is_lasting
        for entry in list(self._table.rows.values()):
            if entry.dirty or every:
                row = entry.value
                if row is not None:
                    raw = self.encode_value(row) if self._value_is_row else row
                    row = self.pack(raw, entry.timestamp)
                yield entry.raw_key, row
