"""The write-back cache of all kinds of stores: one downstream update per key and commit.

Owns the reads, writes and folds of cached rows, and the flush of a row: it is written to the store
below (which logs to the changelog), and the change is forwarded. The cache wraps the rows below
(`stores.pairs.StoredPairs`), which describe the differences between kinds. It must not know kinds,
nor who receives the changes.

Rows are kept decoded if this is safe: keys of serdes whose equality is byte equality, values of
immutable types. Others are kept as bytes. Otherwise user code that changes an aggregate in place
would also change the old value in the cache.

Rows that folds update record by record are hot: their changing fields are in one small object. It
is half the memory of an entry and a new pair, and with many keys memory access is the cost of an
update.

A row can be read in two ways. `read` returns the newest row. `forwarded_row` returns the row as it
was forwarded last: a join must not see a change of one side before it receives the change, or it
would use the change twice. A row that was put and deleted between two flushes leaves no trace,
unless user code has read it meanwhile.

Other threads may read meanwhile. A row moves from hot, to its entry, to the flushed rows, to the
store below, and is always in at least one of them. Readers look in that order.

Source: JVM `CachingKeyValueStore`, `CachingWindowStore`; kafka-streams semantics D15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from thalweg.stores.api import CacheBudget
from thalweg.stores.cache.entry import HOT_AFTER, CacheEntry
from thalweg.stores.cache.table import EntryTable
from thalweg.stores.pairs import Pairs, Span, StoredPairs
from thalweg.stores.row_format import headers_beside, without_headers
from thalweg.stores.rows.contract import Change, Row, merge, within
from thalweg.stores.updates import (
    UNREAD,
    Failed,
    Forward,
    Key,
    Pair,
    Process,
    Step,
    Unread,
    Updates,
    add_one,
)


class CachedStore(Pairs[Key, Span]):
    """Pairs whose writes wait in memory until commit or eviction.

    One worker writes; other threads may call `peek` and shared scans.

    Args:
        below: the rows in the store; closed with this.
        cache: the budget of the worker's caches.
    """

    def __init__(self, below: StoredPairs[Key, Span], cache: CacheBudget) -> None:
        codec = below.codec
        self._below = below
        self._codec = codec
        self._current = codec.current
        self._table = EntryTable(cache, codec.current, self._write_down)
        self._forward: Forward | None = None
        self._sends_old = False
        self._keeps_key_decoded = below.keeps_key_decoded
        self._keeps_value_decoded = codec.value_serde.immutable
        self._has_fixed_size = codec.value_serde.fixed_size_bytes is not None
        self._prefix_bytes = codec.row_format.cached_bytes
        self._bytes_beside = codec.row_format.bytes_beside
        self._forwards_own_headers = codec.row_format.forwards_own_headers
        self._lookups = 0
        self._misses = 0
        self._puts = 0
        # Rows that a fold made: each was looked up, missed and put.
        self._new_rows = 0

    # -- reading and writing -------------------------------------------------------------

    def read(self, key: Key) -> Pair | None:
        """Reads the newest row of a key, cached or stored."""
        table = self._table
        self._lookups += 1
        entry_key: Any = key if self._keeps_key_decoded else self._below.entry_key(key)
        entry = table.entry(entry_key) if table.hot else table.rows.get(entry_key)
        if entry is None:
            self._misses += 1
            below = self._below
            stored_key = below.stored_key(entry_key)
            pair = below.read_raw(entry_key, stored_key)
            if pair is not None and below.caches_reads:
                self._insert_clean(CacheEntry(entry_key, stored_key), pair)
            return pair
        # Advance by two, so that a read never shares a tick with a hot row; rows of one tick
        # are ordered by offset.
        entry.used = table.tick + 1
        table.tick += 2
        return self._decoded_pair(entry.pair)

    def read_row(self, key: Key) -> Pair | None:
        """Reads as `read` and notes that the row was seen; a deletion is nothing to see."""
        table = self._table
        # As `read`, in a call of its own: each record of a stream-table join comes here.
        entry_key: Any = key if self._keeps_key_decoded else self._below.entry_key(key)
        entry = table.entry(entry_key) if table.hot else table.rows.get(entry_key)
        if entry is None:
            return self.read(key)
        self._lookups += 1
        entry.used = table.tick + 1
        table.tick += 2
        pair = entry.pair
        if entry.dirty and pair[0] is not None:
            entry.seen = True
        return self._decoded_pair(pair)

    def forwarded_row(self, key: Key) -> Pair | None:
        """Reads the row that was forwarded last, which is not one that waits for a flush."""
        table, below = self._table, self._below
        entry_key = below.entry_key(key)
        entry = table.entry(entry_key)
        if not below.keeps_rows and (entry is None or entry.dirty):
            # It may have expired while the change that asks for it waited in another cache.
            self._lookups += 1
            self._misses += 1
            return below.read_unapplied(entry_key, below.stored_key(entry_key))
        if entry is None or not entry.dirty:
            return self.read(key)
        self._lookups += 1
        entry.used = table.tick + 1
        table.tick += 2
        self._misses += entry.stored is UNREAD
        return self._stored(entry)

    def put(self, key: Key, value: Any, timestamp: int) -> None:
        """Writes a row into the cache; None deletes. Evicts when the budget is exceeded."""
        time = timestamp if value is None else self._current.timestamp
        self.put_row(key, value, timestamp, time, UNREAD)

    def put_row(
        self,
        key: Key,
        value: Any,
        timestamp: int,
        context_timestamp: int,
        stored: Pair | Unread | None,
    ) -> None:
        """Writes a row into the cache as an operator does.

        Args:
            key: the key.
            value: the value, None to delete.
            timestamp: with which the change is forwarded; in stores that keep one, that of the
                value.
            context_timestamp: time of the record that writes.
            stored: the row below, None where it is known that there is none.
        """
        row, value_bytes = value, 0
        if value is not None:
            is_bare = timestamp.__class__ is int
            value_bytes = self._prefix_bytes if is_bare else self._bytes_beside(timestamp)
            if self._keeps_value_decoded:
                value_bytes += self._value_bytes(value)
            else:
                row = self._codec.encode_value(value)
                value_bytes += len(row)
        entry_key: Any = key if self._keeps_key_decoded else self._below.entry_key(key)
        entry = self._table.entry(entry_key)
        if entry is None:
            entry = CacheEntry(entry_key, self._below.stored_key(entry_key))
            entry.stored = stored
        self._puts += 1
        size = value_bytes + len(entry.raw_key)
        self._table.update(entry, (row, timestamp), context_timestamp, size)

    def _insert_clean(self, entry: CacheEntry, pair: Pair) -> None:
        value = pair[0]
        if self._keeps_value_decoded:
            entry.pair = pair
            size = self._value_bytes(value)
        else:
            row = self._codec.encode_value(value)
            entry.pair = row, pair[1]
            size = len(row)
        if self._below.keeps_rows:
            entry.stored = entry.pair
        size += self._bytes_beside(pair[1])
        self._table.insert_clean(entry, size + len(entry.raw_key))

    def _value_bytes(self, value: Any) -> int:
        if value.__class__ is str and value.isascii() and not self._has_fixed_size:
            return len(value)
        # Also where the size is known: what cannot be written is told now, not at the flush.
        return len(self._codec.encode_value(value))

    def _decoded_pair(self, pair: Pair) -> Pair | None:
        if pair[0] is None:
            return None
        return pair if self._keeps_value_decoded else (self._codec.decode_value(pair[0]), pair[1])

    # -- updates of an operator ----------------------------------------------------------

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Key]:
        """Returns updates that are forwarded when their row is flushed, None for not at all."""
        self._forward = forward
        self._sends_old = send_old
        is_decoded = self._keeps_key_decoded and self._keeps_value_decoded
        if forward is None or send_old or not is_decoded or self._forwards_own_headers:
            self._table.write_down = self._write_down
        else:
            self._table.write_down = self._write_decoded(forward)
        current, put = self._current, self.put_row

        def write(
            key: Key, new: Any, _old: Any, timestamp: int, deleted_at: int | None = None, /
        ) -> None:
            if new is None:
                time = timestamp if deleted_at is None else deleted_at
                put(key, None, time, time, UNREAD)
            else:
                put(key, new, timestamp, current.timestamp, UNREAD)

        has_headers = self._codec.row_format.has_headers
        read = without_headers(self.read) if has_headers else self.read
        return Updates(read, write, self.fold)

    def fold(self, step: Step, on_null: Process, failed: Failed) -> Process:
        """Binds a whole aggregation; see `stores.updates.Updates`.

        It equals a read, the step and a write, and saves their calls where the row is hot.
        """
        if self._keeps_key_decoded and self._keeps_value_decoded and self._has_fixed_size:
            return self._fold_decoded(step, on_null, failed)
        slow = self._fold_slow

        def fold(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                on_null(key, value, timestamp)
                return
            try:
                slow(key, value, timestamp, step)
            except Exception as error:
                failed(error, key, value, timestamp)

        return fold

    def _fold_decoded(self, step: Step, on_null: Process, failed: Failed) -> Process:
        """Binds a fold of rows that are kept decoded and whose values have all one size."""
        table, current = self._table, self._current
        new_row, cold, slow = self._fold_new(step), self._fold_cold, self._fold_slow
        hot_rows, hot, cached = table.hot, table.hot.get, table.rows.get
        is_count = step is add_one

        def fold(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                on_null(key, value, timestamp)
                return
            try:
                row = hot(key) if hot_rows else None
                topic = current.topic
                offset: Any = current.origin
                if row is None:
                    entry = cached(key)
                    if entry is None:
                        new_row(key, value, timestamp)
                        return
                    folds = entry.updated_offset
                    if (
                        not HOT_AFTER < folds < 0
                        or entry.same_size_topic is not topic
                        or offset.__class__ is not int
                    ):
                        cold(key, value, timestamp, step)
                        return
                    old, newest = entry.pair
                    result = old + 1 if is_count else step(key, value, old)
                    if result.__class__ is not old.__class__:
                        slow(key, value, timestamp, lambda _key, _value, _old: result)
                        return
                    if not entry.dirty:
                        table.mark_dirty(entry)
                    entry.pair = result, timestamp if timestamp > newest else newest
                    # The partition is that of the topic already: a task reads one of each.
                    entry.context_timestamp = timestamp
                    entry.origin = offset
                    entry.updated_offset = folds - 1
                    table.tick = entry.used = entry.updated = table.tick + 1
                    table.folds_total += 1
                    return
                if (
                    topic is not table.hot_topic
                    or topic is not row.topic
                    or offset.__class__ is not int
                    or offset < table.hot_offset
                ):
                    cold(key, value, timestamp, step)
                    return
                old = row.value
                result = old + 1 if is_count else step(key, value, old)
                if result.__class__ is not old.__class__:
                    slow(key, value, timestamp, lambda _key, _value, _old: result)
                    return
                if not row.is_dirty:
                    row.is_dirty = True
                    table.mark_dirty(row.entry)
                if offset == table.hot_offset:
                    table.tick += 1  # one record updates several rows: ticks tell their order
                row.offset = None
                row.value = result
                if timestamp > row.timestamp:
                    row.timestamp = timestamp
                row.context_timestamp = timestamp
                row.tick = table.tick
                row.offset = table.hot_offset = offset
                table.folds_total += 1
            except Exception as error:
                table.use(key)
                failed(error, key, value, timestamp)

        return fold

    def _fold_cold(self, key: Any, value: Any, timestamp: int, step: Step) -> None:
        """Folds into a cached row that is not hot, or not by this record; it becomes so if it can.

        A row that is folded a few times only costs less without: see `HOT_AFTER`.
        """
        table, current = self._table, self._current
        entry = table.entry(key)
        topic, origin = current.topic, current.origin
        # A tick of its own: the order of the hot ones tells nothing of this record.
        table.hot_topic, table.hot_offset = topic, -1
        table.tick += 1
        if (
            entry is None
            or topic is None
            or entry.same_size_topic is not topic
            or not isinstance(origin, int)
        ):
            self._fold_slow(key, value, timestamp, step)
            return
        old, newest = entry.pair
        result = step(key, value, old)
        if result.__class__ is not old.__class__:
            self._fold_slow(key, value, timestamp, lambda _key, _value, _old: result)
            return
        if not entry.dirty:
            table.mark_dirty(entry)
        entry.pair = result, max(timestamp, newest)
        entry.context_timestamp, entry.origin = timestamp, origin
        table.tick = entry.used = entry.updated = table.tick + 1
        table.promote(entry)
        table.folds_total += 1

    def _fold_new(self, step: Step) -> Process:
        """Binds a fold into a row that is not cached; keys and values are kept decoded."""
        below, table, put = self._below, self._table, self.put_row
        stored_key_of, read_raw, encode = below.stored_key, below.read_raw, self._codec.encode_value
        prefix_bytes, caches_reads = self._prefix_bytes, below.caches_reads

        def fold(key: Any, value: Any, timestamp: int) -> None:
            stored_key = stored_key_of(key)
            pair = read_raw(key, stored_key)
            if pair is not None:
                self._lookups += 1
                self._misses += 1
                if caches_reads:
                    self._insert_clean(CacheEntry(key, stored_key), pair)
                result, newest = step(key, value, pair[0]), max(timestamp, pair[1])
                time = timestamp if result is None else newest
                put(key, result, time, timestamp, UNREAD)
                return
            result = step(key, value, None)
            if result is None:
                self._lookups += 1
                self._misses += 1
                put(key, None, timestamp, timestamp, None)
                return
            # What cannot be written is told now, not at the flush.
            size = prefix_bytes + len(encode(result)) + len(stored_key)
            self._new_rows += 1
            entry = CacheEntry(key, stored_key)
            # There was none just now, and rows come only from here: flush need not read again.
            entry.stored = None
            table.update(entry, (result, timestamp), timestamp, size)

        return fold

    def _fold_slow(self, key: Any, value: Any, timestamp: int, step: Step) -> None:
        pair = self.read(key)
        stored: Unread | None = UNREAD
        if pair is None:
            old, newest = None, timestamp
            # There was none just now, and rows come only from here: flush need not read again.
            stored = None
        else:
            old, newest = pair[0], max(timestamp, pair[1])
        result = step(key, value, old)
        self.put_row(key, result, timestamp if result is None else newest, timestamp, stored)

    # -- flushing ------------------------------------------------------------------------

    @property
    def has_unflushed(self) -> bool:
        """Whether rows are dirty."""
        return bool(self._table.dirty)

    def flush(self) -> None:
        """Writes every dirty row down and forwards it, in the order of last updates."""
        self._table.flush()

    def _write_decoded(self, forward: Forward) -> Callable[[CacheEntry], None]:
        """Binds `_write_down` for rows that are kept decoded and changes without old values."""
        codec, current, general = self._codec, self._current, self._write_down
        write, encode = self._below.write_raw, codec.value_serde.bare_serializer(codec.topic)

        def write_down(entry: CacheEntry) -> None:
            pair = entry.pair
            row, timestamp = pair
            if row is None:
                general(entry)
                return
            try:
                raw = encode(row)
            except Exception:
                raw = codec.encode_value(row)  # says what is wrong
            entry.stored = pair if keeps_rows else UNREAD
            write(entry.key, entry.raw_key, raw, timestamp)
            current.timestamp = timestamp
            forward(entry.key, row, None, timestamp)

        keeps_rows = self._below.keeps_rows
        return write_down

    def _write_down(self, entry: CacheEntry) -> None:
        (row, timestamp), forward = entry.pair, self._forward
        below: Pair | None = None
        if forward is not None and (row is None or self._sends_old):
            below = self._stored(entry)
            if row is None and below is None and not entry.seen:
                return  # came and went within the interval: leaves no trace
        entry.seen = False
        if not self._below.keeps_rows:
            entry.stored = UNREAD
        else:
            entry.stored = None if row is None else (row, timestamp)
        value = encoded = row
        if row is not None:
            if self._keeps_value_decoded:
                encoded = self._codec.encode_value(row)
            else:
                value = self._codec.decode_value(row)
        self._below.write_raw(entry.key, entry.raw_key, encoded, timestamp)
        if forward is None:
            return
        if self._forwards_own_headers:
            current = self._current
            offset, headers = current.offset(), headers_beside(timestamp)
            current.origin = (offset, headers) if headers else offset
        old = below[0] if self._sends_old and below is not None else None
        self._current.timestamp = timestamp
        forward(self._below.key_of(entry.key), value, old, timestamp)

    def _stored(self, entry: CacheEntry) -> Pair | None:
        """Returns the row below a cached one."""
        stored = entry.stored
        if not isinstance(stored, Unread):
            return None if stored is None else self._decoded_pair(stored)
        below = self._below.read_raw(entry.key, entry.raw_key)
        if self._below.keeps_rows:
            if below is None or self._keeps_value_decoded:
                entry.stored = below
            else:
                entry.stored = self._codec.encode_value(below[0]), below[1]
        return below

    def close(self) -> None:
        """Forgets what is cached and releases what the store holds."""
        self._table.clear()
        self._table.write_down = self._below.refuse
        self._below.close()

    # -- scans, and reads of other threads -----------------------------------------------

    def cached_rows(self) -> Iterator[Change]:
        """Yields (stored key, stored value) of the rows that differ from the store below.

        Rows of a store that forgets on its own are yielded whole. Unordered; safe to
        call from any thread.
        """
        return self._packed(self._table.differing(every=not self._below.keeps_rows))

    def _packed(self, rows: dict[bytes, Pair]) -> Iterator[Change]:
        codec, is_decoded = self._codec, self._keeps_value_decoded
        for stored_key, (row, timestamp) in rows.items():
            if row is None:
                yield stored_key, None
            else:
                raw = codec.encode_value(row) if is_decoded else row
                yield stored_key, codec.pack(raw, timestamp)

    def scan(self, span: Span, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans stored rows with the cached ones over them."""
        below, table = self._below, self._table
        every = not below.keeps_rows
        if shared:
            found = table.differing(every=every)
        else:
            found = dict[bytes, Pair]()
            for lower, upper in below.ranges(span, table.first_from):
                found |= table.differing_between(lower, upper, every=every)
        placed = below.placed
        covered = {
            placed(span, key): pair for key, pair in found.items() if below.covers(span, key)
        }
        # What is above comes first: a row on its way down is then seen twice, not missed.
        overlay = within(self._packed(covered), None, None, reverse)
        return merge(below.scan(span, reverse=reverse, shared=shared), overlay, reverse)

    def has(self, entry_key: Any) -> bool:
        """Tells whether a row is cached, also one that is deleted."""
        return entry_key in self._table.rows

    def peek(self, key: Key) -> Pair | None:
        """Reads as `read`, without a trace in the cache; any thread may call it."""
        found = self._table.peek(self._below.entry_key(key))
        if isinstance(found, Unread):
            return self._below.peek(key)
        return self._decoded_pair(found)

    # -- counts --------------------------------------------------------------------------

    @property
    def hits(self) -> int:
        """Reads that the cache answered."""
        return self._lookups - self._misses + self._table.folds_total

    @property
    def misses(self) -> int:
        """Reads that went to the store below."""
        return self._misses + self._new_rows

    @property
    def gets_total(self) -> int:
        """Reads, cached or not."""
        return self._lookups + self._new_rows + self._table.folds_total

    @property
    def puts_total(self) -> int:
        """Writes into the cache."""
        return self._puts + self._new_rows + self._table.folds_total
