"""Write-back cache of a key-value store: one downstream update per key and commit.

Owns the cached rows of one store, their order of use and of update, and the flush: for
each dirty row, in the order of last updates, the store below is written (which logs to the
changelog) and the change is forwarded downstream. It must not know what lies below the
metered store it wraps, nor who listens.

Rows are kept decoded where that is safe: keys of serdes whose equality is byte equality,
values of immutable types. Anything else is kept as bytes, because user code that mutates
an aggregate in place would otherwise change what the cache believes is the old value.

Rows that an aggregation updates record by record are hot: what changes is kept in a small
object of its own. That touches half the memory an entry and a new pair would, which with many
keys is what an update costs.

A row may be read in two ways. `get_pair` returns the newest one. `forwarded_row` returns what
listeners have heard of it: a join must not see a change of one side before it is told of it,
or it takes the change into account twice. A row that was put and deleted between two flushes
leaves no trace, unless user code has read it in between.

Other threads may read meanwhile. A row's way is cache (hot, then its entry), flush, store
below, and it is never in none of them: readers look in that order.

Source: JVM `CachingKeyValueStore`, `NamedCache`; kafka-streams semantics D15.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from typing import Any, Final

from sortedcontainers import SortedKeyList

from thalweg.stores.api import CacheBudget, FlushListener, StoreHost
from thalweg.stores.cache.budget import (
    CONTEXT_OVERHEAD_BYTES,
    ENTRY_OVERHEAD_BYTES,
    HEAVY,
    UNREAD,
    CacheEntry,
    HotRow,
    Unread,
    context_bytes,
)
from thalweg.stores.kinds.metered import MeteredKeyValueStore, Pair
from thalweg.stores.record import CurrentRecord
from thalweg.stores.rows.pending import (
    Change,
    Row,
    merge,
    within,
)

_updated: Final = attrgetter("updated")
_updated_at: Final = attrgetter("updated", "updated_offset")
_used: Final = attrgetter("used")
_used_at: Final = attrgetter("used", "updated_offset")
_raw_key: Final = attrgetter("raw_key")

Process = Callable[[Any, Any, int], None]
Failed = Callable[[Exception, Any, Any, int], None]


class EntryTable:
    """Cached rows with exact least-recently-used eviction that costs an update nothing.

    Instead of a linked list that every access must mend, a row carries the tick of its last
    use. Only when something must be evicted are rows sorted by it, once for many evictions:
    a row used since it was sorted is skipped, it stands further back by now.

    A hot row has an entry in `rows`, weighed and as dirty as itself, whose pair, origin, times
    and tick may be older; `cool` brings it up to date. Hot rows of one tick were updated
    by records of `hot_topic` with rising offsets, so that an update need not count a tick of its
    own; `hot_offset` is the last of them. `folds_total` counts updates by `fold`.

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

    def find(self, key: Hashable) -> CacheEntry | None:
        """Returns the entry of a cached row, up to date."""
        if key in self.hot:
            self.cool(key)
        return self.rows.get(key)

    def cool(self, key: Hashable) -> None:
        """Brings the entry of a hot row up to date; it is hot no longer."""
        # The entry first: a reader that misses the hot row finds it there.
        self.hot[key].write_back()
        del self.hot[key]

    def cool_all(self) -> None:
        """Brings the entries of all hot rows up to date; none is hot any longer."""
        for row in self.hot.values():
            row.write_back()
        self.hot.clear()

    def heat(self, entry: CacheEntry) -> None:
        """Makes a row hot, if records of the topic that updated it last can leave it so."""
        if entry.light_topic is not HEAVY and isinstance(entry.origin, int):
            self._was_hot = True
            self.hot[entry.key] = HotRow(entry)

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
        is_heavy = pair[0] is None or topic is None or origin.__class__ is tuple
        entry.light_topic = HEAVY if is_heavy else topic
        self.tick = entry.used = entry.updated = self.tick + 1
        entry.updated_offset = -1
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
                entry.seen = True
                row = find_hot(entry.key)
                found[entry.raw_key] = entry.pair if row is None else row.pair()
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
                self.cool_all()
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
        flushed.sort(key=_updated_at if self._was_hot else _updated)
        for row in hot:
            row.is_dirty = False
        if evicted is not None:
            flushed.remove(evicted)
            flushed.insert(0, evicted)
        # Readers that miss the evicted row find it here.
        self.flushing = flushed
        if evicted is not None:
            self._remove(evicted)
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
        rows = self.rows
        for entry in flushed:
            if entry.pair[0] is None and not entry.dirty and rows.get(entry.key) is entry:
                self._remove(entry)


def _add_one(_key: Any, _value: Any, old: int | None) -> int:
    return 1 if old is None else old + 1


class CachingKeyValueStore(MeteredKeyValueStore):
    """A key-value store whose writes wait in memory until commit or eviction.

    One worker writes; `read_only()` faces may read from other threads meanwhile.

    Args:
        inner: the store below; closed with this one.
        host: the task it lives in.
        cache: the budget of the worker's caches.
    """

    def __init__(self, inner: MeteredKeyValueStore, host: StoreHost, cache: CacheBudget) -> None:
        super().__init__(inner.bytes_store, inner.builder, host)
        self._inner = inner
        self._table = EntryTable(cache, host.current, self._write_down)
        self._listener: FlushListener | None = None
        self._send_old_values = False
        self._key_is_row = inner.key_serde.keyable
        self._value_is_row = inner.value_serde.immutable
        self._fixed_bytes = inner.value_serde.fixed_size_bytes
        self._prefix_bytes = 8 if inner.timestamped else 0
        self._stored_is_lasting = not inner.evicts
        self._lookups = 0
        self._misses = 0
        self._puts = 0

    @property
    def uncached(self) -> MeteredKeyValueStore:
        """The store below, for who fills it while nothing is cached."""
        return self._inner

    # -- reading and writing -------------------------------------------------------------

    def get_pair(self, key: Any) -> Pair | None:
        """Reads the newest (value, timestamp) of a key, cached or stored."""
        table = self._table
        self._lookups += 1
        row_key = key if self._key_is_row else self.encode_key(key)
        entry = table.find(row_key) if table.hot else table.rows.get(row_key)
        if entry is None:
            self._misses += 1
            raw_key = self.encode_key(key) if self._key_is_row else row_key
            pair = self._inner.get_pair_raw(raw_key)
            if pair is not None:
                self._insert_clean(row_key, raw_key, pair)
            return pair
        # Two ticks: no hot row shares that of a read, its offset would set them in a wrong order.
        entry.used = table.tick + 1
        table.tick += 2
        return self._decoded_pair(entry.pair)

    def read_row(self, key: Any) -> Pair | None:
        """Reads as `get_pair`, for whoever does not own the store; notes that it was seen."""
        pair = self.get_pair(key)
        entry = self._table.rows.get(key if self._key_is_row else self.encode_key(key))
        if entry is not None and entry.dirty:
            entry.seen = True
        return pair

    def forwarded_row(self, key: Any) -> Pair | None:
        """Reads the row that the listener has heard of: not what waits for the next flush."""
        table = self._table
        row_key = key if self._key_is_row else self.encode_key(key)
        entry = table.find(row_key) if table.hot else table.rows.get(row_key)
        if entry is None or not entry.dirty:
            return self.get_pair(key)
        self._lookups += 1
        entry.used = table.tick + 1
        table.tick += 2
        self._misses += entry.stored is UNREAD
        stored = self._stored(entry)
        return None if stored is None else self._decoded_pair(stored)

    def put_pair(self, key: Any, value: Any | None, timestamp: int) -> None:
        """Writes a row into the cache; None deletes. Evicts when the budget is exceeded."""
        time = timestamp if value is None else self.current.timestamp
        self._put(key, value, timestamp, time, UNREAD)

    def _put(
        self,
        key: Any,
        value: Any | None,
        timestamp: int,
        context_timestamp: int,
        stored: Pair | Unread | None,
    ) -> None:
        row, value_bytes = value, 0
        if value is not None:
            value_bytes = self._prefix_bytes
            if self._value_is_row:
                value_bytes += self._value_bytes(value)
            else:
                row = self.encode_value(value)
                value_bytes += len(row)
        row_key = key if self._key_is_row else self.encode_key(key)
        entry = self._table.find(row_key)
        if entry is None:
            raw_key = self.encode_key(key) if self._key_is_row else row_key
            entry = CacheEntry(row_key, raw_key)
            entry.stored = stored
        self._puts += 1
        size = value_bytes + len(entry.raw_key)
        self._table.update(entry, (row, timestamp), context_timestamp, size)

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

        table, current, cold = self._table, self.current, self._fold_cold
        find, is_count = table.hot.get, step is _add_one

        def fold(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                on_null(key, value, timestamp)
                return
            try:
                row = find(key)
                topic = current.topic
                offset: Any = current.origin
                if (
                    row is None
                    or topic is not table.hot_topic
                    or topic is not row.topic
                    or offset.__class__ is not int
                    or offset <= table.hot_offset
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
                row.offset = None
                row.value = result
                if timestamp > row.timestamp:
                    row.timestamp = timestamp
                row.context_timestamp = timestamp
                row.tick = table.tick
                row.offset = table.hot_offset = offset
                table.folds_total += 1
            except Exception as error:
                failed(error, key, value, timestamp)

        return fold

    def count(self, on_null: Process, failed: Failed) -> Process:
        """Binds the counting of records; equals `fold` with a step that adds one."""
        return self.fold(_add_one, on_null, failed)

    def _fold_cold(
        self, key: Any, value: Any, timestamp: int, step: Callable[[Any, Any, Any | None], Any]
    ) -> None:
        """Folds into a row that is not hot, or not by this record; it becomes so if it can."""
        table, current = self._table, self.current
        entry = table.find(key)
        topic, origin = current.topic, current.origin
        # A tick of its own: the order of the hot ones tells nothing of this record.
        table.hot_topic, table.hot_offset = topic, -1
        table.tick += 1
        if (
            entry is None
            or topic is None
            or entry.light_topic is not topic
            or not isinstance(origin, int)
        ):
            self._fold_slow(key, value, timestamp, step)
            entry = table.rows.get(key)
            if entry is not None and entry.dirty:
                table.heat(entry)
            return
        old, newest = entry.pair
        result = step(key, value, old)
        if result.__class__ is not old.__class__:
            self._fold_slow(key, value, timestamp, lambda _key, _value, _old: result)
            return
        if not entry.dirty:
            table.mark_dirty(entry)
        entry.pair = result, max(timestamp, newest)
        # The partition is that of the topic already: a task reads one of each.
        entry.context_timestamp, entry.origin = timestamp, origin
        table.tick = entry.used = entry.updated = table.tick + 1
        entry.updated_offset = -1
        table.heat(entry)
        table.folds_total += 1

    def _fold_slow(
        self, key: Any, value: Any, timestamp: int, step: Callable[[Any, Any, Any | None], Any]
    ) -> None:
        pair = self.get_pair(key)
        stored: Unread | None = UNREAD
        if pair is None:
            old, newest = None, timestamp
            # What was read just now is still so: remember it, and flush need not read again.
            stored = None if self._stored_is_lasting else UNREAD
        else:
            old, newest = pair[0], max(timestamp, pair[1])
        result = step(key, value, old)
        self._put(key, result, timestamp if result is None else newest, timestamp, stored)

    def _insert_clean(self, row_key: Hashable, raw_key: bytes, pair: Pair) -> None:
        entry = CacheEntry(row_key, raw_key)
        value = pair[0]
        if self._value_is_row:
            entry.pair = pair
            size = self._value_bytes(value)
        else:
            row = self.encode_value(value)
            entry.pair = row, pair[1]
            size = len(row)
        if self._stored_is_lasting:
            entry.stored = entry.pair
        self._table.insert_clean(entry, self._prefix_bytes + size + len(raw_key))

    def _value_bytes(self, value: Any) -> int:
        if value.__class__ is str and value.isascii() and self._fixed_bytes is None:
            return len(value)
        # Also where the size is known: what cannot be written is told now, not at the flush.
        return len(self.encode_value(value))

    def _decoded_pair(self, pair: Pair) -> Pair | None:
        if pair[0] is None:
            return None
        return pair if self._value_is_row else (self.decode_value(pair[0]), pair[1])

    # -- flushing ------------------------------------------------------------------------

    def set_flush_listener(self, listener: Callable[..., None], send_old_values: bool) -> bool:
        """Takes the function that hears of every flushed change."""
        self._listener = listener
        self._send_old_values = send_old_values
        is_simple = self._key_is_row and self._value_is_row and self._stored_is_lasting
        self._table.write_down = (
            self._simple_write_down(listener)
            if is_simple and not send_old_values
            else self._write_down
        )
        return True

    def _simple_write_down(self, listener: Callable[..., None]) -> Callable[[CacheEntry], None]:
        """Binds `_write_down` for rows that are kept decoded and listeners without old values."""
        inner, current, general = self._inner, self.current, self._write_down
        write, encode = inner.put_pair_encoded, self.value_serde.bare_serializer(self.topic)

        def write_down(entry: CacheEntry) -> None:
            pair = entry.pair
            row, timestamp = pair
            if row is None:
                general(entry)
                return
            try:
                raw = encode(row)
            except Exception:
                raw = self.encode_value(row)  # says what is wrong
            entry.stored = pair
            inner.puts_below += 1
            write(entry.raw_key, raw, timestamp)
            current.timestamp = timestamp
            listener(entry.key, row, None, timestamp)

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
        stored: Pair | None = None
        if listener is not None and (row is None or self._send_old_values):
            stored = self._stored(entry)
            if row is None and stored is None and not entry.seen:
                return  # came and went within the interval: leaves no trace
        entry.seen = False
        if self._stored_is_lasting:
            entry.stored = None if row is None else (row, timestamp)
        value = row if self._value_is_row or row is None else self.decode_value(row)
        if self._value_is_row:
            self._inner.put_pair_raw(entry.raw_key, value, timestamp)
        else:
            self._inner.put_pair_encoded(entry.raw_key, row, timestamp)
        if listener is None:
            return
        old = None
        if self._send_old_values and stored:
            old = stored[0] if self._value_is_row else self.decode_value(stored[0])
        key = entry.key if self._key_is_row else self.decode_key(entry.raw_key)
        time = self.current.timestamp = entry.context_timestamp if row is None else timestamp
        listener(key, value, old, time)

    def _stored(self, entry: CacheEntry) -> Pair | None:
        """Returns the row below a cached one, its value as the cache keeps it."""
        stored = entry.stored
        if isinstance(stored, Unread):
            below = self._inner.get_pair_raw(entry.raw_key)
            stored = below and (self._to_row(below[0]), below[1])
            if self._stored_is_lasting:
                entry.stored = stored
        return stored

    def _to_row(self, value: Any) -> Any:
        return value if self._value_is_row else self.encode_value(value)

    def close(self) -> None:
        """Forgets what is cached and releases what the store holds."""
        self._table.clear()
        self._table.write_down = self._refuse
        self._inner.close()
        super().close()

    # -- scans, and reads of other threads -----------------------------------------------

    def cached_rows(self) -> Iterator[Change]:
        """Yields (stored key, stored value) of the rows that differ from the store below.

        Rows of a store that forgets on its own (LRU) are yielded whole. Unordered; safe to
        call from any thread.
        """
        return self._packed(self._table.differing(every=not self._stored_is_lasting))

    def _packed(self, rows: dict[bytes, Pair]) -> Iterator[Change]:
        for raw_key, (row, timestamp) in rows.items():
            yield raw_key, self.pack_cached(row, timestamp, is_decoded=self._value_is_row)

    def scan_rows(self, lower: bytes | None, upper: bytes | None, reverse: bool) -> Iterator[Row]:
        """Scans stored rows with the cached ones over them; for the worker."""
        every = not self._stored_is_lasting
        cached = self._table.differing_between(lower, upper, every=every)
        overlay = within(self._packed(cached), None, None, reverse)
        return merge(self.bytes_store.scan(lower, upper, reverse), overlay, reverse)

    def snapshot_rows(
        self, lower: bytes | None, upper: bytes | None, reverse: bool
    ) -> Iterator[Row]:
        """Scans as `scan_rows`; any thread may call it."""
        # What is above comes first: a row on its way down is then seen twice, not missed.
        overlay = within(self.cached_rows(), lower, upper, reverse)
        return merge(self.bytes_store.snapshot(lower, upper, reverse), overlay, reverse)

    def peek_pair(self, key: Any) -> Pair | None:
        """Reads as `get_pair`, without a trace in the cache; any thread may call it."""
        raw_key = self.encode_key(key)
        found = self._table.peek(key if self._key_is_row else raw_key)
        if isinstance(found, Unread):
            return self._inner.peek_pair_raw(raw_key)
        return self._decoded_pair(found)

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
