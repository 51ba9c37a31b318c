"""Write-back cache of a window store: one downstream update per key, window and commit.

Owns the cached window rows of one store and their flush. It must not know how segments lie
below the metered store it wraps, but for their order; nor who listens.

It differs from the cache of key-value stores where the JVM's does. A read that misses
leaves nothing in the cache. The old value is asked for when a row is flushed, and what has
expired by then is not found. Flushed rows stay and are read even past the retention of the
store below. A row weighs 8 bytes more, the segment's number.

Other threads may read meanwhile, as told in `stores.layers.caching`.

Source: JVM `CachingWindowStore`, `SegmentedCacheFunction`; kafka-streams semantics D15.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

from stores.api import CacheBudget, StoreHost, WindowFlushListener
from stores.formats import WINDOW_SUFFIX_BYTES, encode_window_key
from stores.layers.caching import EntryTable
from stores.layers.metered import MeteredWindowStore, Pair
from stores.layers.pending import Change, Row, merge, within
from stores.layers.record_cache import CacheEntry, Unread
from stores.segments import SEGMENT_BYTES


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
        has_fixed_size = inner.value_serde.fixed_size_bytes is not None
        self._has_simple_values = self._value_is_row and has_fixed_size
        self._lookups = 0
        self._misses = 0

    # -- reading and writing -------------------------------------------------------------

    def fetch_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads the newest (value, timestamp) of a window, cached or stored."""
        table = self._table
        self._lookups += 1
        entry = table.rows.get((key if self._key_is_row else self.encode_key(key), start_ms))
        if entry is None:
            self._misses += 1
            return self._inner.fetch_pair_raw(self.encode_key(key), start_ms)
        table.tick = entry.used = table.tick + 1
        return self._decoded_pair(entry.pair)

    def put_pair(self, key: Any, start_ms: int, value: Any | None, timestamp: int) -> None:
        """Writes a row into the cache; None deletes. Evicts when the budget is exceeded."""
        table, current = self._table, self.current
        row_key: Hashable = (key if self._key_is_row else self.encode_key(key), start_ms)
        entry = table.rows.get(row_key)
        self._puts += 1
        if (
            entry is not None
            and value is not None
            and self._has_simple_values
            and entry.light_topic is current.topic
            and current.origin.__class__ is not tuple
        ):
            if not entry.dirty:
                table.mark_dirty(entry)
            entry.pair = value, timestamp
            entry.context_timestamp = current.timestamp
            entry.origin = current.origin
            table.tick = entry.updated = table.tick + 1
            return
        row, size = value, SEGMENT_BYTES
        if value is not None:
            encoded = self.encode_value(value)
            size += len(encoded) + (8 if self.timestamped else 0)
            row = value if self._value_is_row else encoded
        if entry is None:
            entry = CacheEntry(row_key, encode_window_key(self.encode_key(key), start_ms))
        time = timestamp if value is None else current.timestamp
        table.update(entry, (row, timestamp), time, size + len(entry.raw_key))

    def _decoded_pair(self, pair: Pair) -> Pair | None:
        if pair[0] is None:
            return None
        return pair if self._value_is_row else (self.decode_value(pair[0]), pair[1])

    # -- flushing ------------------------------------------------------------------------

    def set_flush_listener(self, listener: Callable[..., None], send_old_values: bool) -> bool:
        """Takes the function that hears of every flushed change."""
        self._listener = listener
        self._send_old_values = send_old_values
        return True

    def flush_cache(self) -> None:
        """Writes every dirty row down and forwards it, in the order of last updates."""
        self._table.flush()

    def _write_down(self, entry: CacheEntry) -> None:
        (row, timestamp), listener = entry.pair, self._listener
        raw_key, start_ms = _key_and_start(entry)
        below: Pair | None = None
        if listener is not None and (row is None or self._send_old_values):
            below = self._inner.fetch_pair_raw(raw_key, start_ms)
            if row is None and below is None:
                return  # came and went within the interval: leaves no trace
        current = self.current
        current.topic, current.partition = entry.topic, entry.partition
        current.origin, current.timestamp = entry.origin, entry.context_timestamp
        value = row
        if self._value_is_row or row is None:
            self._inner.put_pair_raw(raw_key, start_ms, value, timestamp)
        else:
            value = self.decode_value(row)
            self._inner.put_pair_encoded(raw_key, start_ms, row, timestamp)
        if listener is None:
            return
        old = below[0] if self._send_old_values and below is not None else None
        key = entry.key[0] if self._key_is_row else self.decode_key(raw_key)  # type: ignore[index]
        current.timestamp = entry.context_timestamp if row is None else timestamp
        listener(key, start_ms, value, old, current.timestamp)

    def close(self) -> None:
        """Forgets what is cached and releases what the store holds."""
        self._table.clear()
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
        overlay = self._cached_rows(raw_key, raw_key, from_ms, to_ms, reverse)
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
        overlay = self._cached_rows(lower, upper, from_ms, to_ms, reverse)
        rows = self.segments.fetch_range(
            lower, upper, from_ms, to_ms, reverse=reverse, shared=shared
        )
        return merge(rows, overlay, reverse)

    def _cached_rows(
        self, lower: bytes | None, upper: bytes | None, from_ms: int, to_ms: int, reverse: bool
    ) -> list[Change]:
        """Returns the cached rows of a range in the order of scans, expired ones included."""
        rows: dict[bytes, bytes | None] = {}
        for entry, (row, timestamp) in self._table.differing(every=True):
            raw_key, start_ms = _key_and_start(entry)
            if (
                not from_ms <= start_ms <= to_ms
                or (lower is not None and raw_key < lower)
                or (upper is not None and raw_key > upper)
            ):
                continue
            rows[self.segments.row_key(raw_key, start_ms)] = self.pack_cached(
                row, timestamp, is_decoded=self._value_is_row
            )
        return within(rows.items(), None, None, reverse)

    # -- counts --------------------------------------------------------------------------

    @property
    def cache_hits(self) -> int:
        """Reads that the cache answered."""
        return self._lookups - self._misses

    @property
    def cache_misses(self) -> int:
        """Reads that went to the store below."""
        return self._misses

    @property
    def gets_total(self) -> int:
        """Reads, cached or not."""
        return self._lookups


def _key_and_start(entry: CacheEntry) -> tuple[bytes, int]:
    """Returns the stored key and the window start of a cached row."""
    start_ms: int = entry.key[1]  # type: ignore[index]
    return entry.raw_key[:-WINDOW_SUFFIX_BYTES], start_ms
