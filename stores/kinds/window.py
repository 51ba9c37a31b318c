"""Window stores, plain or timestamped: their rows, what users call, and their changelog.

Owns the description of a store of this kind (`WindowSpec`), how a row is found by key and window
start, scans by key and time, how the changelog is restored, and the read-only store of other
threads. `stores.rows.segments` says where a row is among the bytes and which rows are expired. This
module must not know what keeps the bytes.

The cache differs from that of key-value stores in the same points as in the JVM. A read that misses
does not fill the cache. The old value is read when a row is flushed; a row that has expired by then
is not found. Flushed rows stay cached and can be read even after the retention of the store below.
A row weighs 8 bytes more, for the segment's number.

Source: JVM `MeteredWindowStore`, `CachingWindowStore`, `SegmentedCacheFunction`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from thalweg.stores.api import (
    CacheBudget,
    Dump,
    KeyValueIterator,
    ReadOnlyWindowStore,
    RestoreRecord,
    StoreHost,
    StoreIterator,
    WindowStore,
    WindowStoreIterator,
)
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.cache.cached_store import CachedStore
from thalweg.stores.changelog import duplicates_write, key_first, window_write
from thalweg.stores.codec import RowCodec
from thalweg.stores.kinds.typed import TypedFace, TypedStore
from thalweg.stores.kinds.window_records import WindowRecords
from thalweg.stores.known import KnownKeys
from thalweg.stores.pairs import StoredPairs
from thalweg.stores.row_format import HeaderRows, RowFormat, format_of, format_of_records
from thalweg.stores.rows.contract import Row
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.rows.segments import SegmentedRows
from thalweg.stores.rows.time_first import TimeFirstWindowRows
from thalweg.stores.rows.timed import SEGMENT_BYTES
from thalweg.stores.updates import Pair, Records
from thalweg.stores.windowed import FOREVER_MS, TimeWindow, Windowed

WindowKey: TypeAlias = tuple[Any, int]
"""(key, window start in ms)."""


class WindowSpan(NamedTuple):
    """Windows of a range of keys, by their start; all ends are included.

    Attributes:
        lower: the first encoded key, None for no bound.
        upper: the last encoded key, None for no bound.
        from_ms: the first start.
        to_ms: the last start.
        is_one_key: whether `lower` is also `upper`; rows then come in the order of time.
    """

    lower: bytes | None
    upper: bytes | None
    from_ms: int
    to_ms: int
    is_one_key: bool = False


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Values by key and window start, kept for a retention time.

    Attributes:
        is_timestamped: whether rows carry the event time of their value.
        retention_ms: how long windows are kept, by their start.
        window_size_ms: length of the windows; rows keep only their start.
        segment_interval_ms: span of time that expires at once.
        retain_duplicates: keep every put of a key and start, not the last one only.
        is_time_first: rows on disk stand by time first, for an operator that goes over all keys
            of a span of time.
        header_rows: of a store whose values have headers, what its rows keep beside a value; None
             for one without headers.
        keeps_records: whether the headers are those of the record in hand, and users see values
             alone: such are the stores of a join of streams.
    """

    is_timestamped: bool = False
    retention_ms: int = 0
    window_size_ms: int = 0
    segment_interval_ms: int = 0
    retain_duplicates: bool = False
    is_time_first: bool = False
    header_rows: HeaderRows | None = None
    keeps_records: bool = False

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row."""
        if self.keeps_records:
            return format_of_records(self.header_rows)
        return format_of(self.is_timestamped, self.header_rows)

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        if self.row_format.shows_headers:
            return "timestamped-window-with-headers"
        return "timestamped-window" if self.is_timestamped else "window"

    @property
    def function(self) -> str:
        """The function of `stores.builders` that describes such a store, for messages."""
        if self.row_format.shows_headers:
            return "timestamped_window_store_with_headers"
        return "timestamped_window_store" if self.is_timestamped else "window_store"

    def with_timestamps(self) -> WindowSpec:
        """Returns the same, with rows that carry the event time of their value."""
        return replace(self, is_timestamped=True)

    def with_headers(self) -> WindowSpec:
        """Returns the same, with rows that carry time and headers."""
        if self.keeps_records:
            return replace(self, header_rows="headers")
        if self.header_rows is not None:
            return self
        return replace(self, is_timestamped=True, header_rows="headers")

    def of_records(self, *, in_memory: bool) -> WindowSpec:
        """Returns the same for a join of streams. Rows in memory have headers, as in the JVM."""
        return replace(self, header_rows="headers" if in_memory else "plain", keeps_records=True)

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        return {
            # Rows that share key and start differ by a number: compaction would not help.
            "cleanup.policy": "delete" if self.retain_duplicates else "compact,delete",
            "retention.ms": str(min(self.retention_ms + additional_ms, FOREVER_MS)),
        }

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedWindowStore:
        """Stacks the layers of a store."""
        rows = PendingByteStore(open_bytes())
        # As in the JVM, duplicates are not cached: they would replace each other.
        is_cached = cache is not None and not self.retain_duplicates
        is_time_first = self.is_time_first and rows.persistent
        segments = (TimeFirstWindowRows if is_time_first else SegmentedRows)(
            rows,
            shows_last_ms=is_time_first,
            retention_ms=self.retention_ms,
            segment_interval_ms=self.segment_interval_ms,
            retain_duplicates=self.retain_duplicates,
            expired=lambda: host.drop_expired(codec.name),
            keeps_expired=is_cached,
        )
        pairs = WindowPairs(segments, codec, self.window_size_ms)
        if cache is None or not is_cached:
            return TypedWindowStore(pairs, host)
        return TypedWindowStore(pairs, host, CachedStore(pairs, cache))


class WindowPairs(StoredPairs[WindowKey, WindowSpan]):
    """Rows of a window store by key and window start.

    Args:
        segments: keeps the bytes; closed with this.
        codec: encodes keys and values.
        window_size_ms: length of the windows.

    Attributes:
        records: what joins of streams use, in a store that keeps duplicates.
    """

    caches_reads = False
    keeps_rows = False  # they expire

    def __init__(
        self,
        segments: SegmentedRows,
        codec: RowCodec,
        window_size_ms: int,
    ) -> None:
        super().__init__(segments.rows, codec)
        self.window_size_ms = window_size_ms
        self.segments = segments
        self._encode_key = codec.encode_key
        self._row_key, self._get_row = segments.row_key, segments.get_row
        log = codec.log
        if isinstance(segments, TimeFirstWindowRows) and log is not None:
            log = key_first(log, segments.logged_key)
        self.write_raw = window_write(
            segments.put_row, log, codec.current, row_format=codec.row_format
        )
        self.records: WindowRecords | None = None
        if segments.retain_duplicates:
            write = duplicates_write(
                segments.put_duplicate,
                codec.log,
                codec.current,
                row_format=codec.row_format,
                is_taken=segments.is_taken,
            )
            self.records = WindowRecords(segments, codec, write, window_size_ms)

    def entry_key(self, key: WindowKey) -> Hashable:
        """Returns the key itself, its first part in bytes where keys are not kept decoded."""
        return key if self.keeps_key_decoded else (self.codec.encode_key(key[0]), key[1])

    def stored_key(self, entry_key: Any) -> bytes:
        """Returns where a row stands, segment first."""
        key = entry_key[0]
        raw_key = self._encode_key(key) if self.keeps_key_decoded else key
        return self._row_key(raw_key, entry_key[1])

    def key_of(self, entry_key: Any) -> WindowKey:
        """Returns the key of a cached row."""
        if self.keeps_key_decoded:
            key: WindowKey = entry_key
            return key
        return self.codec.decode_key(entry_key[0]), entry_key[1]

    def read(self, key: WindowKey) -> Pair | None:
        """Reads a window's row, None where there is no live one."""
        self.gets += 1
        return self.peek(key)

    def read_raw(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by where it stands; not for stores that keep duplicates."""
        self.gets += 1
        row = self._get_row(stored_key, entry_key[1])
        return None if row is None else self.codec.unpack(row)

    def read_unapplied(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by the time that was observed when rows were applied last."""
        self.gets += 1
        row = self.segments.get_unapplied(stored_key, entry_key[1])
        return None if row is None else self.codec.unpack(row)

    def peek(self, key: WindowKey) -> Pair | None:
        """Reads as `read` and changes nothing; any thread may call it."""
        row = self.segments.get(self.codec.encode_key(key[0]), key[1])
        return None if row is None else self.codec.unpack(row)

    def put(self, key: WindowKey, value: Any, timestamp: int) -> None:
        """Writes a row, None deletes it."""
        self.puts += 1
        codec = self.codec
        encoded = None if value is None else codec.encode_value(value)
        raw_key = codec.encode_key(key[0])
        if self.records is not None:
            self.records.write(raw_key, key[1], encoded, timestamp)
            self.records.forget()
        else:
            self.write_raw(key, self.segments.row_key(raw_key, key[1]), encoded, timestamp)

    def ranges(
        self, span: WindowSpan, first_from: Callable[[bytes], bytes | None]
    ) -> Iterable[tuple[bytes | None, bytes | None]]:
        """Returns the ranges of the segments in which rows of the span may stand."""
        lower, upper, from_ms, to_ms, _ = span
        return self.segments.spans(lower, upper, from_ms, to_ms, first_from)

    def covers(self, span: WindowSpan, stored_key: bytes) -> bool:
        """Tells whether a row is one of the span's, expired or not."""
        lower, upper, from_ms, to_ms, _ = span
        raw_key, start_ms = self.segments.key_of(stored_key)
        return (
            max(from_ms, 0) <= start_ms <= to_ms
            and (lower is None or raw_key >= lower)
            and (upper is None or raw_key <= upper)
        )

    def placed(self, span: WindowSpan, stored_key: bytes) -> bytes:
        """Returns what a scan of a span yields a row under."""
        segments = self.segments
        if not isinstance(segments, TimeFirstWindowRows):
            return stored_key
        by_key = span.lower is not None or span.upper is not None
        return segments.placed(stored_key, by_key=by_key)

    def scan(
        self, span: WindowSpan, *, reverse: bool = False, shared: bool = False
    ) -> Iterator[Row]:
        """Scans live rows: of one key by time, else by segment, key and time."""
        lower, upper, from_ms, to_ms, is_one_key = span
        if is_one_key and lower is not None:
            return self.segments.fetch(lower, from_ms, to_ms, reverse=reverse, shared=shared)
        return self.segments.fetch_range(
            lower, upper, from_ms, to_ms, reverse=reverse, shared=shared
        )

    def close(self) -> None:
        """Releases the rows; writes are refused from here on."""
        super().close()
        if self.records is not None:
            self.records.write = self.refuse
            self.records.close()


class WindowReads(ReadOnlyWindowStore[Any, Any]):
    """All reads of a window store, over `_one` and `_scan`."""

    codec: RowCodec
    window_size_ms: int
    key_of: Callable[[bytes], tuple[bytes, int]]
    """Returns key and start of a row that a scan yields."""

    @abstractmethod
    def _one(self, key: WindowKey) -> Pair | None:
        """Returns the row of a key and start."""

    @abstractmethod
    def _scan(self, span: WindowSpan, *, reverse: bool) -> Iterator[Row]:
        """Scans a span."""

    @abstractmethod
    def _shown(self, rows: Generator[Any, None, None]) -> StoreIterator[Any]:
        """Returns the iterator that a user gets."""

    @abstractmethod
    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store."""

    def fetch(self, key: Any, from_ms: int, to_ms: int | None = None, /) -> Any:
        """Returns the row at one window start, or scans a key's windows between two."""
        self.check_key(key)
        if to_ms is None:
            pair = self._one((key, from_ms))
            return None if pair is None else self.codec.to_user(pair)
        return self._windows_of(key, from_ms, to_ms, reverse=False)

    def backward_fetch(self, key: Any, from_ms: int, to_ms: int) -> WindowStoreIterator[Any]:
        """Scans a key's windows, newest first."""
        self.check_key(key)
        return self._windows_of(key, from_ms, to_ms, reverse=True)

    def fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""
        return self._windows(lower, upper, from_ms, to_ms)

    def backward_fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_range`, in reverse."""
        return self._windows(lower, upper, from_ms, to_ms, reverse=True)

    def fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the windows of all keys."""
        return self._windows(None, None, from_ms, to_ms)

    def backward_fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_all`, in reverse."""
        return self._windows(None, None, from_ms, to_ms, reverse=True)

    def all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live row."""
        return self._windows(None, None, 0, FOREVER_MS)

    def backward_all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live row, in reverse."""
        return self._windows(None, None, 0, FOREVER_MS, reverse=True)

    def _windows_of(
        self, key: Any, from_ms: int, to_ms: int, *, reverse: bool
    ) -> WindowStoreIterator[Any]:
        raw_key = self.codec.encode_key(key)
        span = WindowSpan(raw_key, raw_key, from_ms, to_ms, is_one_key=True)
        return self._shown(self._starts(self._scan(span, reverse=reverse)))

    def _windows(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int, *, reverse: bool = False
    ) -> KeyValueIterator[Windowed[Any], Any]:
        encode = self.codec.encode_key
        first = None if lower is None else encode(lower)
        last = None if upper is None else encode(upper)
        span = WindowSpan(first, last, from_ms, to_ms)
        return self._shown(self._decoded(self._scan(span, reverse=reverse)))

    def _decoded(self, rows: Iterator[Row]) -> Generator[tuple[Windowed[Any], Any], None, None]:
        """Yields rows under their windowed key."""
        codec = self.codec
        decode_key, unpack, to_user = codec.decode_key, codec.unpack, codec.to_user
        size_ms, key_of = self.window_size_ms, self.key_of
        for row_key, row in rows:
            raw_key, start = key_of(row_key)
            window = TimeWindow(start, min(start + size_ms, FOREVER_MS))
            yield Windowed(decode_key(raw_key), window), to_user(unpack(row))

    def _starts(self, rows: Iterator[Row]) -> Generator[tuple[int, Any], None, None]:
        """Yields rows of one key under their window's start."""
        unpack, to_user, key_of = self.codec.unpack, self.codec.to_user, self.key_of
        for row_key, row in rows:
            yield key_of(row_key)[1], to_user(unpack(row))


class TypedWindowStore(TypedStore[WindowKey, WindowSpan], WindowReads, WindowStore[Any, Any]):
    """A window store, plain or timestamped.

    One worker uses it; `read_only()` faces may read from other threads meanwhile.
    """

    _stored: WindowPairs
    _starts_known: KnownKeys[int] | None = None

    @property
    def window_size_ms(self) -> int:  # type: ignore[override]  # read only here
        """Length of the windows."""
        return self._stored.window_size_ms

    @property
    def key_of(self) -> Callable[[bytes], tuple[bytes, int]]:  # type: ignore[override]  # the same
        """Returns what tells key and start of a row that a scan yields."""
        return self._stored.segments.key_of

    def read_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads the newest row of a key and window, for whoever does not fill the store."""
        return self._read_row((key.key, key.window.start_ms))

    def forwarded_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads the row that was forwarded last."""
        return self._forwarded_row((key.key, key.window.start_ms))

    def _one(self, key: WindowKey) -> Pair | None:
        return self.pairs.read_row(key)

    def _scan(self, span: WindowSpan, *, reverse: bool) -> Iterator[Row]:
        return self.pairs.scan(span, reverse=reverse)

    def _shown(self, rows: Generator[Any, None, None]) -> StoreIterator[Any]:
        return self.counted(rows)

    def put(self, key: Any, value: Any, start_ms: int) -> None:
        """Sets the value of a window; None deletes it."""
        self.check_key(key)
        pair = self.codec.from_user(value)
        self.pairs.put((key, start_ms), pair[0], pair[1])
        if self._starts_known is not None:
            self._starts_known.note(self.name_of(key), start_ms)

    def starts(self) -> KnownKeys[int]:
        """Returns what tells the operator that fills the store which windows a key may have."""
        if self._starts_known is None:
            self._starts_known = KnownKeys(
                self._load,
                self._is_cached,
                lambda: self._stored.segments.live_from_ms,
                lambda time_ms: time_ms,
            )
        return self._starts_known

    def _load(self, name: Any, floor_ms: int) -> list[int]:
        stored = self._stored
        raw_key = stored.codec.encode_key(name) if stored.keeps_key_decoded else name
        key_of = stored.segments.key_of
        rows = stored.segments.fetch(raw_key, floor_ms, FOREVER_MS)
        return [key_of(at)[1] for at, _ in rows]

    def _is_cached(self, name: Any, start_ms: int) -> bool:
        return self._cached is not None and self._cached.has((name, start_ms))

    @property
    def keeps_key_decoded(self) -> bool:
        """Whether a key is known by itself, to `starts` and to a cache."""
        return self._stored.keeps_key_decoded

    def name_of(self, key: Any) -> Any:
        """Returns what a key is known by: itself, or its bytes."""
        return key if self.keeps_key_decoded else self.codec.encode_key(key)

    def records(self) -> Records:
        """Returns what a join of streams does with the store, which must keep duplicates."""
        records = self._stored.records
        if records is None:
            message = f"store '{self.name}' keeps no duplicates; give retain_duplicates=True"
            raise ValueError(message)
        return records.bound()

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""
        if self._stored.records is not None:
            self._stored.records.forget()
        if self._starts_known is not None:
            self._starts_known.clear()
        self._stored.segments.restore(self.codec.row_format.restored(batch))

    def read_only(self) -> ReadOnlyWindowStore[Any, Any]:
        """Returns a read-only face that any thread may use while the worker writes."""
        return WindowFace(self)

    def dump(self) -> Dump:
        """Returns kind and live rows below the cache, for test drivers; bytes as hex.

        `raw_key` is what the JVM's RocksDB holds; stores in memory have none.
        """
        entries: list[dict[str, Any]] = []
        for row_key, row in self._stored.segments.all():
            raw_key, start_ms = self.key_of(row_key)
            entry: dict[str, Any] = {"key": raw_key.hex(), "start": start_ms}
            if self.persistent:
                entry["raw_key"] = row_key[SEGMENT_BYTES:].hex()
            entry["value"] = row.hex()
            entries.append(entry)
        return self.codec.row_format.dump_name("window"), entries


class WindowFace(TypedFace[WindowKey, WindowSpan], WindowReads):
    """Reads of one task's window store, for any thread."""

    def __init__(self, store: TypedWindowStore) -> None:
        super().__init__(store)
        self.window_size_ms = store.window_size_ms
        self.key_of = store.key_of

    def _scan(self, span: WindowSpan, *, reverse: bool) -> Iterator[Row]:
        return self._rows(span, reverse=reverse)

    def _shown(self, rows: Generator[Any, None, None]) -> StoreIterator[Any]:
        return StoreIterator(rows)
