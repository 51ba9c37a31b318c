"""Write-back cache of a window store: one downstream update per key, window and commit.

Owns the cached window rows of one store, their flush, and the step of an aggregation that
updates one. Where a row stands and in which order, it asks `stores.rows.segments`. It must not know
what keeps the rows below, nor who listens.

It differs from the cache of key-value stores where the JVM's does. A read that misses
leaves nothing in the cache. The old value is asked for when a row is flushed, and what has
expired by then is not found. Flushed rows stay and are read even past the retention of the
store below. A row weighs 8 bytes more, the segment's number.

Other threads may read meanwhile, as told in `stores.cache.key_value`.

Source: JVM `CachingWindowStore`, `SegmentedCacheFunction`; kafka-streams semantics D15.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any

from thalweg.stores.api import CacheBudget, StoreHost, WindowFlushListener
from thalweg.stores.cache.budget import CacheEntry, Unread
from thalweg.stores.cache.key_value import EntryTable
from thalweg.stores.kinds.metered import MeteredWindowStore, Pair
from thalweg.stores.rows.pending import (
    Change,
    Row,
    merge,
    within,
)
from thalweg.stores.rows.segments import window_key_of
from thalweg.stores.windowed import Windowed

Step = Callable[[Any, Any, Any | None], Any]
"""(key, value, old aggregate or None) -> new aggregate or None."""


class CachingWindowStore(MeteredWindowStore):
    """A window store whose writes wait in memory until commit or eviction.

    One worker writes; `read_only()` faces may read from other threads meanwhile.

    Args:
        inner: the store below; closed with this one.
        host: the task it lives in.
        cache: the budget of the worker's caches.
    """

    def __init__(self, inner: MeteredWindowStore, host: StoreHost, cache: CacheBudget) -> None:
        super().__init__(inner.segments, inner.builder, host)
        self._inner = inner
        self._table = EntryTable(cache, host.current, self._write_down)
        self._listener: WindowFlushListener | None = None
        self._send_old_values = False
        self._key_is_row = inner.key_serde.keyable
        self._value_is_row = inner.value_serde.immutable
        self._fixed_bytes = inner.value_serde.fixed_size_bytes
        self._prefix_bytes = 8 if inner.timestamped else 0
        self._lookups = 0
        self._misses = 0

    @property
    def uncached(self) -> MeteredWindowStore:
        """The store below, for who fills it while nothing is cached."""
        return self._inner

    # -- reading and writing -------------------------------------------------------------

    def fetch_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads the newest (value, timestamp) of a window, cached or stored."""
        table = self._table
        self._lookups += 1
        part = key if self._key_is_row else self.encode_key(key)
        entry = table.rows.get((part, start_ms))
        if entry is None:
            self._misses += 1
            return self._inner.fetch_row(self._row_key(part, start_ms), start_ms)
        table.tick = entry.used = table.tick + 1
        return self._decoded_pair(entry.pair)

    def read_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads as `fetch_pair`, for whoever does not own the store; notes that it was seen."""
        pair = self.fetch_pair(key, start_ms)
        entry = self._entry(key, start_ms)
        if entry is not None and entry.dirty:
            entry.seen = True
        return pair

    def forwarded_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads the row that the listener has heard of: not what waits for the next flush."""
        start_ms = key.window.start_ms
        entry = self._entry(key.key, start_ms)
        if entry is None or not entry.dirty:
            return self.fetch_pair(key.key, start_ms)
        table = self._table
        self._lookups += 1
        self._misses += 1
        table.tick = entry.used = table.tick + 1
        return self._inner.fetch_row(entry.raw_key, start_ms)

    def _entry(self, key: Any, start_ms: int) -> CacheEntry | None:
        part = key if self._key_is_row else self.encode_key(key)
        return self._table.rows.get((part, start_ms))

    def put_pair(self, key: Any, start_ms: int, value: Any | None, timestamp: int) -> None:
        """Writes a row into the cache; None deletes. Evicts when the budget is exceeded."""
        row, value_bytes = value, 0
        if value is not None:
            encoded = self.encode_value(value)
            value_bytes = self._prefix_bytes + len(encoded)
            row = value if self._value_is_row else encoded
        part = key if self._key_is_row else self.encode_key(key)
        cached_key: Hashable = (part, start_ms)
        entry = self._table.rows.get(cached_key)
        if entry is None:
            entry = CacheEntry(cached_key, self._row_key(part, start_ms))
        self._puts += 1
        time = timestamp if value is None else self.current.timestamp
        size = value_bytes + len(entry.raw_key)
        self._table.update(entry, (row, timestamp), time, size)

    def fold(self, step: Step) -> Callable[[Any, int, Any, int], None]:
        """Binds a whole aggregation step to the cache, for the hot path.

        The returned function takes (key, window start, value, timestamp), reads the row,
        computes `step(key, value, old)` and writes it back with the later of both timestamps.
        It equals `fetch_pair` + `put_pair` and saves their calls where values are kept decoded
        and weigh the same.

        Args:
            step: returns the new aggregate, None to delete the row; `old` is None where
                there is no row.
        """
        if not (self._key_is_row and self._value_is_row and self._fixed_bytes is not None):
            return partial(self._fold_slow, step)
        table, current, inner = self._table, self.current, self._inner
        find, row_key_of, encode_key = table.rows.get, self.segments.row_key, self.encode_key
        slow, encode_value, prefix_bytes = self._fold_slow, self.encode_value, self._prefix_bytes

        def fold(key: Any, start_ms: int, value: Any, timestamp: int) -> None:
            cached_key = key, start_ms
            entry = find(cached_key)
            if entry is None:
                row_key = row_key_of(encode_key(key), start_ms)
                below = inner.fetch_row(row_key, start_ms)
                self._lookups += 1
                self._misses += 1
                if below is None:
                    result, newest = step(key, value, None), timestamp
                else:
                    result, newest = step(key, value, below[0]), max(timestamp, below[1])
                if result is None:
                    self.put_pair(key, start_ms, None, timestamp)
                    return
                # What cannot be written is told now, not at the flush.
                size = prefix_bytes + len(encode_value(result)) + len(row_key)
                self._puts += 1
                entry = CacheEntry(cached_key, row_key)
                table.update(entry, (result, newest), current.timestamp, size)
                return
            origin = current.origin
            if entry.light_topic is not current.topic or origin.__class__ is tuple:
                slow(step, key, start_ms, value, timestamp)
                return
            table.tick = entry.used = table.tick + 1
            old, newest = entry.pair
            result = step(key, value, old)
            if result.__class__ is not old.__class__:
                self._lookups += 1
                time = timestamp if result is None else max(timestamp, newest)
                self.put_pair(key, start_ms, result, time)
                return
            if not entry.dirty:
                table.mark_dirty(entry)
            entry.pair = result, timestamp if timestamp > newest else newest
            entry.context_timestamp = current.timestamp
            entry.origin = origin
            entry.updated = table.tick
            table.folds_total += 1

        return fold

    def _fold_slow(self, step: Step, key: Any, start_ms: int, value: Any, timestamp: int) -> None:
        pair = self.fetch_pair(key, start_ms)
        old, newest = (None, timestamp) if pair is None else (pair[0], max(timestamp, pair[1]))
        result = step(key, value, old)
        self.put_pair(key, start_ms, result, timestamp if result is None else newest)

    def _row_key(self, part: Any, start_ms: int) -> bytes:
        """Returns where a row stands, by what its cached key has of the user's key."""
        raw_key = self.encode_key(part) if self._key_is_row else part
        return self.segments.row_key(raw_key, start_ms)

    def _decoded_pair(self, pair: Pair) -> Pair | None:
        if pair[0] is None:
            return None
        return pair if self._value_is_row else (self.decode_value(pair[0]), pair[1])

    # -- flushing ------------------------------------------------------------------------

    def set_flush_listener(self, listener: Callable[..., None], send_old_values: bool) -> bool:
        """Takes the function that hears of every flushed change."""
        self._listener = listener
        self._send_old_values = send_old_values
        is_simple = self._key_is_row and self._value_is_row and not send_old_values
        self._table.write_down = (
            self._simple_write_down(listener) if is_simple else self._write_down
        )
        return True

    def _simple_write_down(self, listener: WindowFlushListener) -> Callable[[CacheEntry], None]:
        """Binds `_write_down` for rows that are kept decoded and listeners without old values."""
        inner, current, general = self._inner, self.current, self._write_down
        write, encode = inner.put_row, self.value_serde.bare_serializer(self.topic)

        def write_down(entry: CacheEntry) -> None:
            row, timestamp = entry.pair
            if row is None:
                general(entry)
                return
            try:
                raw = encode(row)
            except Exception:
                raw = self.encode_value(row)  # says what is wrong
            inner.puts_below += 1
            cached_key: Any = entry.key
            key, start_ms = cached_key
            write(entry.raw_key, start_ms, raw, timestamp)
            current.timestamp = timestamp
            listener(key, start_ms, row, None, timestamp)

        return write_down

    @property
    def has_unflushed(self) -> bool:
        """Whether rows are dirty."""
        return bool(self._table.dirty)

    def flush_cache(self) -> None:
        """Writes every dirty row down and forwards it, in the order of last updates."""
        self._table.flush()

    def _write_down(self, entry: CacheEntry) -> None:
        (row, timestamp), listener = entry.pair, self._listener
        row_key = entry.raw_key
        raw_key, start_ms = window_key_of(row_key)
        below: Pair | None = None
        if listener is not None and (row is None or self._send_old_values):
            below = self._inner.fetch_row(row_key, start_ms)
            if row is None and below is None and not entry.seen:
                return  # came and went within the interval: leaves no trace
        entry.seen = False
        encoded = self.encode_value(row) if self._value_is_row and row is not None else row
        self._inner.puts_below += 1
        self._inner.put_row(row_key, start_ms, encoded, timestamp)
        if listener is None:
            return
        value = row if self._value_is_row or row is None else self.decode_value(row)
        old = below[0] if self._send_old_values and below is not None else None
        key = entry.key[0] if self._key_is_row else self.decode_key(raw_key)  # type: ignore[index]
        time = self.current.timestamp = entry.context_timestamp if row is None else timestamp
        listener(key, start_ms, value, old, time)

    def close(self) -> None:
        """Forgets what is cached and releases what the store holds."""
        self._table.clear()
        self._table.write_down = self._refuse
        self._inner.close()
        super().close()

    # -- scans, and reads of other threads -----------------------------------------------

    def peek_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads as `fetch_pair`, without a trace in the cache; any thread may call it."""
        raw_key = self.encode_key(key)
        found = self._table.peek((key if self._key_is_row else raw_key, start_ms))
        if isinstance(found, Unread):
            return self._inner.peek_pair(key, start_ms)
        return self._decoded_pair(found)

    def rows_of_key(
        self, raw_key: bytes, from_ms: int, to_ms: int, reverse: bool, *, shared: bool
    ) -> Iterator[Row]:
        """Scans rows of one key, the cached ones over the stored ones."""
        overlay = self._cached_rows(raw_key, raw_key, from_ms, to_ms, reverse, shared)
        rows = self.segments.fetch(raw_key, from_ms, to_ms, reverse=reverse, shared=shared)
        return merge(rows, overlay, reverse)

    def rows_between(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        reverse: bool,
        *,
        shared: bool,
    ) -> Iterator[Row]:
        """Scans rows of a range of keys, the cached ones over the stored ones."""
        # What is above comes first: a row on its way down is then seen twice, not missed.
        overlay = self._cached_rows(lower, upper, from_ms, to_ms, reverse, shared)
        rows = self.segments.fetch_range(
            lower, upper, from_ms, to_ms, reverse=reverse, shared=shared
        )
        return merge(rows, overlay, reverse)

    def _cached_rows(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        reverse: bool,
        shared: bool,
    ) -> list[Change]:
        """Returns the cached rows of a range in the order of scans, expired ones included."""
        table, found = self._table, dict[bytes, Pair]()
        if shared:
            found = table.differing(every=True)
        else:
            for span in self.segments.spans(lower, upper, from_ms, to_ms, table.first_from):
                found |= table.differing_between(*span, every=True)
        rows: list[Change] = []
        for row_key, (row, timestamp) in found.items():
            raw_key, start_ms = window_key_of(row_key)
            if (
                max(from_ms, 0) <= start_ms <= to_ms
                and (lower is None or raw_key >= lower)
                and (upper is None or raw_key <= upper)
            ):
                packed = self.pack_cached(row, timestamp, is_decoded=self._value_is_row)
                rows.append((row_key, packed))
        return within(rows, None, None, reverse)

    # -- counts --------------------------------------------------------------------------

    @property
    def cache_hits(self) -> int:
        """Reads that the cache answered."""
        return self._lookups - self._misses + self._table.folds_total

    @property
    def cache_misses(self) -> int:
        """Reads that went to the store below."""
        return self._misses

    @property
    def gets_total(self) -> int:
        """Reads, cached or not."""
        return self._lookups + self._table.folds_total

    @property
    def puts_total(self) -> int:
        """Writes into the cache."""
        return self._puts + self._table.folds_total
