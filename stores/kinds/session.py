"""Session stores: their rows, what users call, and their changelog.

Owns the description of a store of this kind (`SessionSpec`), how a row is found by key, end and
start, scans by key and time, the methods for the operator that fills the store, how the changelog
is restored, and the read-only store of other threads. `stores.rows.sessions` says where a row is
among the bytes and which rows are expired. This module must not know what keeps the bytes.

Rows have no timestamp. An operator forwards the result of a session with the session's end as
timestamp, and logs it with the time of the record that changed it.

A cache behaves as for window stores: a read that misses does not fill the cache, the old value is
read when a row is flushed, and flushed rows can be read even after the retention.

Source: JVM `MeteredSessionStore`, `CachingSessionStore`, `ChangeLoggingSessionBytesStore`,
`SessionCacheFlushListener`.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from thalweg.stores.api import (
    CacheBudget,
    Dump,
    KeyValueIterator,
    RestoreRecord,
    StoreHost,
    StoreIterator,
)
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.cache.cached_store import CachedStore
from thalweg.stores.changelog import deletion_headers, key_first, window_write
from thalweg.stores.codec import RowCodec
from thalweg.stores.kinds.typed import TypedFace, TypedStore
from thalweg.stores.known import KnownKeys, KnownRows
from thalweg.stores.pairs import StoredPairs
from thalweg.stores.record import CurrentRecord
from thalweg.stores.row_format import RowFormat, format_of_sessions, headers_beside, stamped
from thalweg.stores.rows.contract import Row
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.rows.sessions import SessionRows
from thalweg.stores.rows.time_first import TimeFirstSessionRows
from thalweg.stores.rows.timed import SEGMENT_BYTES
from thalweg.stores.session_faces import ReadOnlySessionStore, SessionStore
from thalweg.stores.updates import UNREAD, Forward, Pair, unheard
from thalweg.stores.window_updates import SessionUpdates
from thalweg.stores.windowed import FOREVER_MS, SessionWindow, Windowed

SessionKey: TypeAlias = tuple[Any, int, int]
"""(key, end in ms, start in ms): the time of a row comes first, as in its bytes."""


class SessionSpan(NamedTuple):
    """Sessions of a range of keys; all ends are included.

    Attributes:
        lower: the first encoded key, None for no bound.
        upper: the last encoded key, None for no bound.
        earliest_end_ms: the lowest end.
        latest_start_ms: the highest start.
        latest_end_ms: the highest end.
        is_one_key: whether `lower` is also `upper`; rows then come in the order of time.
        by_end: whether the sessions of all keys are asked for by their end.
    """

    lower: bytes | None
    upper: bytes | None
    earliest_end_ms: int
    latest_start_ms: int
    latest_end_ms: int = FOREVER_MS
    is_one_key: bool = False
    by_end: bool = False


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Values by key and session, kept for a retention time.

    Attributes:
        retention_ms: how long sessions are kept, by their end.
        segment_interval_ms: span of time that expires at once.
        is_time_first: rows on disk stand by time first, for an operator that goes over all keys
            of a span of time.
        has_headers: whether values have headers; rows by time first have none, as in the JVM.
    """

    retention_ms: int = 0
    segment_interval_ms: int = 0
    is_time_first: bool = False
    has_headers: bool = False

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row; the time of a session is in its key."""
        return format_of_sessions(self.has_headers, self.is_time_first)

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "session-with-headers" if self.has_headers else "session"

    @property
    def function(self) -> str:
        """The function of `stores.builders` that describes such a store, for messages."""
        return "session_store_with_headers" if self.has_headers else "session_store"

    def with_timestamps(self) -> SessionSpec:
        """Returns the same: there is no other."""
        return self

    def with_headers(self) -> SessionSpec:
        """Returns the same, with values that have headers."""
        return replace(self, has_headers=True)

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        return {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(min(self.retention_ms + additional_ms, FOREVER_MS)),
        }

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedSessionStore:
        """Stacks the layers of a store."""
        rows = PendingByteStore(open_bytes())
        is_time_first = self.is_time_first and rows.persistent
        segments = (TimeFirstSessionRows if is_time_first else SessionRows)(
            rows,
            retention_ms=self.retention_ms,
            segment_interval_ms=self.segment_interval_ms,
            expired=lambda: host.drop_expired(codec.name),
            keeps_expired=cache is not None,
        )
        pairs = SessionPairs(segments, codec)
        if cache is None:
            return TypedSessionStore(pairs, host)
        return TypedSessionStore(pairs, host, CachedStore(pairs, cache))


class SessionPairs(StoredPairs[SessionKey, SessionSpan]):
    """Rows of a session store by key, end and start.

    Args:
        segments: keeps the bytes; closed with this.
        codec: encodes keys and values.
    """

    caches_reads = False
    keeps_rows = False  # they expire

    def __init__(self, segments: SessionRows, codec: RowCodec) -> None:
        super().__init__(segments.rows, codec)
        self.segments = segments
        self._row_key, self._get_row = segments.row_key, segments.get_row
        log = codec.log
        if isinstance(segments, TimeFirstSessionRows) and log is not None:
            log = key_first(log, segments.logged_key)
        self.log = log
        self.write_raw = window_write(
            segments.put_row, log, codec.current, row_format=codec.row_format
        )

    def entry_key(self, key: SessionKey) -> Hashable:
        """Returns the key itself, its first part in bytes where keys are not kept decoded."""
        return key if self.keeps_key_decoded else (self.codec.encode_key(key[0]), *key[1:])

    def stored_key(self, entry_key: Any) -> bytes:
        """Returns where a row stands, segment first."""
        key, end_ms, start_ms = entry_key
        return self._row_key(
            self.codec.encode_key(key) if self.keeps_key_decoded else key, end_ms, start_ms
        )

    def key_of(self, entry_key: Any) -> SessionKey:
        """Returns the key of a cached row."""
        if self.keeps_key_decoded:
            key: SessionKey = entry_key
            return key
        return (self.codec.decode_key(entry_key[0]), *entry_key[1:])

    def read(self, key: SessionKey) -> Pair | None:
        """Reads a session's row, None where there is no live one."""
        self.gets += 1
        return self.peek(key)

    def read_raw(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by where it stands."""
        self.gets += 1
        row = self._get_row(stored_key, entry_key[1])
        return None if row is None else self.codec.unpack(row)

    def read_unapplied(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by the time that was observed when rows were applied last."""
        self.gets += 1
        row = self.segments.get_unapplied(stored_key, entry_key[1])
        return None if row is None else self.codec.unpack(row)

    def peek(self, key: SessionKey) -> Pair | None:
        """Reads as `read` and changes nothing; any thread may call it."""
        stored_key = self._row_key(self.codec.encode_key(key[0]), key[1], key[2])
        row = self._get_row(stored_key, key[1])
        return None if row is None else self.codec.unpack(row)

    def put(self, key: SessionKey, value: Any, timestamp: int) -> None:
        """Writes a row, None deletes it."""
        self.puts += 1
        codec = self.codec
        encoded = None if value is None else codec.encode_value(value)
        stored_key = self._row_key(codec.encode_key(key[0]), key[1], key[2])
        self.write_raw(key, stored_key, encoded, timestamp)

    def remove(self, key: SessionKey, timestamp: int) -> None:
        """Deletes a row; of one that is expired nobody hears.

        Args:
            key: the row.
            timestamp: with which the deletion is logged.
        """
        self.puts += 1
        stored_key = self._row_key(self.codec.encode_key(key[0]), key[1], key[2])
        self.segments.remove_row(stored_key, key[1])
        if self.log is not None:
            headers = deletion_headers(self.codec.row_format, self.codec.current)
            self.log(stored_key[SEGMENT_BYTES:], None, timestamp, headers)

    def ranges(
        self, span: SessionSpan, first_from: Callable[[bytes], bytes | None]
    ) -> Iterable[tuple[bytes | None, bytes | None]]:
        """Returns the ranges of the segments in which rows of the span may stand."""
        return self.segments.spans(
            span.lower, span.upper, span.earliest_end_ms, span.latest_end_ms, first_from
        )

    def covers(self, span: SessionSpan, stored_key: bytes) -> bool:
        """Tells whether a row is one of the span's, expired or not."""
        raw_key, end_ms, start_ms = self.segments.key_of(stored_key)
        return (
            span.earliest_end_ms <= end_ms <= span.latest_end_ms
            and start_ms <= span.latest_start_ms
            and (span.lower is None or raw_key >= span.lower)
            and (span.upper is None or raw_key <= span.upper)
        )

    def placed(self, span: SessionSpan, stored_key: bytes) -> bytes:
        """Returns what a scan of a span yields a row under."""
        segments = self.segments
        if not isinstance(segments, TimeFirstSessionRows):
            return stored_key
        by_key = span.lower is not None or span.upper is not None
        return segments.placed(stored_key, by_key=by_key)

    def scan(
        self, span: SessionSpan, *, reverse: bool = False, shared: bool = False
    ) -> Iterator[Row]:
        """Scans live rows: of one key by time, else by segment, key and time."""
        lower, upper, earliest, latest_start, latest_end, is_one_key, by_end = span
        segments = self.segments
        if by_end:
            return segments.ended(earliest, latest_end, shared=shared)
        if is_one_key and lower is not None:
            return segments.find(lower, earliest, latest_start, reverse=reverse, shared=shared)
        return segments.find_range(
            lower, upper, earliest, latest_start, reverse=reverse, shared=shared
        )


class Sessions(SessionUpdates):
    """What the operator that fills a session store uses, bound once per task.

    Changes are forwarded at once, or when the cache is flushed.

    Args:
        stored: the rows.
        cached: the cache in front of them, None where there is none.
        recent: which sessions of a key there may be.
        forward: takes the changes, with the key as `SessionKey`; None forwards nothing.
        send_old: whether changes carry the old value.
    """

    def __init__(
        self,
        stored: SessionPairs,
        cached: CachedStore[SessionKey, SessionSpan] | None,
        recent: KnownKeys[tuple[int, int]],
        forward: Forward | None,
        *,
        send_old: bool,
    ) -> None:
        self._stored = stored
        self._cached = cached
        self._recent = recent
        self._forward = _without_headers(stored.codec.current, forward or unheard)
        self._sends_old = send_old
        self._read = stored.read if cached is None else cached.read
        self._keeps_key_decoded = stored.keeps_key_decoded
        self._encode_key = stored.codec.encode_key

    def known(self, key: Any, floor_ms: int) -> KnownRows[tuple[int, int]]:
        """Returns which sessions of a key there may be."""
        name = key if self._keeps_key_decoded else self._encode_key(key)
        return self._recent.young.get(name) or self._recent.of(name, floor_ms)

    def find(
        self,
        key: Any,
        known: KnownRows[tuple[int, int]],
        earliest_end_ms: int,
        latest_start_ms: int,
    ) -> Sequence[tuple[int, int, Any]]:
        """Returns (end, start, value) of the sessions of a key, by end, then start."""
        marks = known.marks
        if earliest_end_ms < known.floor_ms:
            return self._scanned(key, earliest_end_ms, latest_start_ms)
        if not marks or marks[-1][0] < earliest_end_ms:
            return ()
        found: list[tuple[int, int, Any]] = []
        read, gone = self._read, None
        for end_ms, start_ms in marks[bisect_left(marks, (earliest_end_ms,)) :]:
            if start_ms <= latest_start_ms:
                pair = read((key, end_ms, start_ms))
                if pair is not None:
                    found.append((end_ms, start_ms, pair[0]))
                else:
                    gone = [*(gone or ()), (end_ms, start_ms)]
        if gone is not None:
            for mark in gone:
                self._recent.remove(known, mark)
        return found

    def _scanned(
        self, key: Any, earliest_end_ms: int, latest_start_ms: int
    ) -> Sequence[tuple[int, int, Any]]:
        """Finds by a scan, which sees earlier sessions than are known."""
        raw_key = self._encode_key(key)
        span = SessionSpan(raw_key, raw_key, earliest_end_ms, latest_start_ms, is_one_key=True)
        pairs = self._stored if self._cached is None else self._cached
        key_of, unpack = self._stored.segments.key_of, self._stored.codec.unpack
        # As another thread does: a scan of the worker would count as one of a user.
        return [(*key_of(at)[1:], unpack(row)[0]) for at, row in pairs.scan(span, shared=True)]

    def remove(
        self,
        key: Any,
        known: KnownRows[tuple[int, int]],
        session: tuple[int, int, Any],
        timestamp: int,
    ) -> None:
        """Deletes a session that was found."""
        end_ms, start_ms, old = session
        self._recent.remove(known, (end_ms, start_ms))
        row = key, end_ms, start_ms
        if self._cached is not None:
            self._cached.put_row(row, None, end_ms, timestamp, UNREAD)
        else:
            self._stored.remove(row, timestamp)
            self._forward(row, None, old if self._sends_old else None, end_ms)

    def write(
        self,
        key: Any,
        known: KnownRows[tuple[int, int]],
        end_ms: int,
        start_ms: int,
        value: Any,
        timestamp: int,
        floor_ms: int,
    ) -> None:
        """Writes a session; None deletes it."""
        row = key, end_ms, start_ms
        mark = end_ms, start_ms
        marks = known.marks
        at = len(marks)
        if at and not marks[-1] < mark:
            at = bisect_left(marks, mark)
        is_new = at == len(marks) or marks[at] != mark
        if is_new and value is not None:
            self._recent.add(known, mark, floor_ms)
        if self._cached is not None:
            is_absent = is_new and end_ms >= known.floor_ms
            self._cached.put_row(row, value, end_ms, timestamp, None if is_absent else UNREAD)
            return
        stored = self._stored
        stored.puts += 1
        codec = stored.codec
        encoded = None if value is None else codec.encode_value(value)
        stored_key = stored.segments.row_key(self._encode_key(key), end_ms, start_ms)
        row_bytes = None if encoded is None else codec.pack(encoded, end_ms)
        stored.segments.put_row(stored_key, end_ms, row_bytes)
        if stored.log is not None:
            headers = None
            if encoded is None:
                headers = deletion_headers(codec.row_format, codec.current)
            stored.log(stored_key[SEGMENT_BYTES:], encoded, timestamp, headers)
        self._forward(row, value, None, end_ms)


def _without_headers(current: CurrentRecord, forward: Forward) -> Forward:
    """Forwards changes without the headers of the record in hand, as the JVM does without a cache.

    Source: JVM `KStreamSessionWindowAggregate.maybeForwardUpdate`, which makes a new record.
    """

    def forward_bare(key: Any, new: Any, old: Any, timestamp: int) -> None:
        origin = current.origin
        if origin.__class__ is not tuple:
            forward(key, new, old, timestamp)
            return
        current.origin = origin[0]
        try:
            forward(key, new, old, timestamp)
        finally:
            current.origin = origin

    return forward_bare


class SessionReads(ReadOnlySessionStore[Any, Any]):
    """All reads of a session store, over `_one` and `_scan`."""

    codec: RowCodec
    key_of: Callable[[bytes], tuple[bytes, int, int]]
    """Returns key, end and start of a row that a scan yields."""

    @abstractmethod
    def _one(self, key: SessionKey) -> Pair | None:
        """Returns the row of a key, end and start."""

    @abstractmethod
    def _scan(self, span: SessionSpan, *, reverse: bool) -> Iterator[Row]:
        """Scans a span."""

    @abstractmethod
    def _shown(self, rows: Generator[Any, None, None]) -> StoreIterator[Any]:
        """Returns the iterator that a user gets."""

    @abstractmethod
    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store."""

    def fetch_session(self, key: Any, start_ms: int, end_ms: int) -> Any:
        """Returns the value of one session."""
        self.check_key(key)
        pair = self._one((key, end_ms, start_ms))
        return None if pair is None else self.codec.to_user(pair)

    def fetch(self, key: Any) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans a key's sessions, oldest first."""
        return self.find_sessions(key, 0, FOREVER_MS)

    def backward_fetch(self, key: Any) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans a key's sessions, newest first."""
        return self.backward_find_sessions(key, 0, FOREVER_MS)

    def fetch_range(self, lower: Any, upper: Any) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the sessions of a range of keys, both ends included, None leaves one open."""
        return self.find_sessions_range(lower, upper, 0, FOREVER_MS)

    def backward_fetch_range(self, lower: Any, upper: Any) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_range`, in reverse."""
        return self.backward_find_sessions_range(lower, upper, 0, FOREVER_MS)

    def find_sessions(
        self, key: Any, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans a key's sessions that end and start within bounds, oldest first."""
        return self._of_key(key, earliest_end_ms, latest_start_ms, reverse=False)

    def backward_find_sessions(
        self, key: Any, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `find_sessions`, newest first."""
        return self._of_key(key, earliest_end_ms, latest_start_ms, reverse=True)

    def find_sessions_range(
        self, lower: Any, upper: Any, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the sessions of a range of keys that end and start within bounds."""
        return self._of_keys(lower, upper, earliest_end_ms, latest_start_ms, reverse=False)

    def backward_find_sessions_range(
        self, lower: Any, upper: Any, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `find_sessions_range`, in reverse."""
        return self._of_keys(lower, upper, earliest_end_ms, latest_start_ms, reverse=True)

    def find_ended(
        self, earliest_end_ms: int, latest_end_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the sessions of all keys that end between two times, both included."""
        span = SessionSpan(None, None, earliest_end_ms, FOREVER_MS, latest_end_ms, by_end=True)
        return self._shown(self._decoded(self._scan(span, reverse=False)))

    def all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live session."""
        return self._of_keys(None, None, 0, FOREVER_MS, reverse=False)

    def backward_all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live session, in reverse."""
        return self._of_keys(None, None, 0, FOREVER_MS, reverse=True)

    def _of_key(
        self, key: Any, earliest_end_ms: int, latest_start_ms: int, *, reverse: bool
    ) -> KeyValueIterator[Windowed[Any], Any]:
        self.check_key(key)
        raw_key = self.codec.encode_key(key)
        span = SessionSpan(raw_key, raw_key, earliest_end_ms, latest_start_ms, is_one_key=True)
        return self._shown(self._decoded(self._scan(span, reverse=reverse)))

    def _of_keys(
        self, lower: Any, upper: Any, earliest_end_ms: int, latest_start_ms: int, *, reverse: bool
    ) -> KeyValueIterator[Windowed[Any], Any]:
        encode = self.codec.encode_key
        first = None if lower is None else encode(lower)
        last = None if upper is None else encode(upper)
        span = SessionSpan(first, last, earliest_end_ms, latest_start_ms)
        return self._shown(self._decoded(self._scan(span, reverse=reverse)))

    def _decoded(self, rows: Iterator[Row]) -> Generator[tuple[Windowed[Any], Any], None, None]:
        """Yields rows under their windowed key."""
        codec, key_of = self.codec, self.key_of
        decode_key, unpack, to_user = codec.decode_key, codec.unpack, codec.to_user
        for row_key, row in rows:
            raw_key, end_ms, start_ms = key_of(row_key)
            window = SessionWindow(start_ms, end_ms)
            yield Windowed(decode_key(raw_key), window), to_user(unpack(row))


class TypedSessionStore(TypedStore[SessionKey, SessionSpan], SessionReads, SessionStore[Any, Any]):
    """A session store.

    One worker uses it; `read_only()` faces may read from other threads meanwhile.
    """

    _stored: SessionPairs

    def __init__(
        self,
        stored: SessionPairs,
        host: StoreHost,
        cached: CachedStore[SessionKey, SessionSpan] | None = None,
    ) -> None:
        super().__init__(stored, host, cached)
        self.key_of = stored.segments.key_of
        self._recent: KnownKeys[tuple[int, int]] = KnownKeys(
            self._load,
            self._is_cached,
            lambda: stored.segments.live_from_ms,
            lambda time_ms: (time_ms,),
        )

    def _load(self, name: Any, floor_ms: int) -> list[tuple[int, int]]:
        stored = self._stored
        raw_key = stored.codec.encode_key(name) if stored.keeps_key_decoded else name
        key_of = stored.segments.key_of
        return [key_of(at)[1:] for at, _ in stored.segments.find(raw_key, floor_ms, FOREVER_MS)]

    def _is_cached(self, name: Any, mark: tuple[int, int]) -> bool:
        return self._cached is not None and self._cached.has((name, *mark))

    def sessions(self, forward: Forward | None, *, send_old: bool) -> Sessions:
        """Returns what the operator uses that fills the store.

        Args:
            forward: takes the changes, with the key as `SessionKey`; None forwards nothing.
            send_old: whether changes carry the old value.
        """
        if self._cached is not None:
            self._cached.updates(forward, send_old=send_old)
        return Sessions(self._stored, self._cached, self._recent, forward, send_old=send_old)

    def read_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads the newest row of a key and session, with the session's end as its time."""
        return _timed(self.pairs.read_row(_row_of(key)), key)

    def forwarded_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads the row that was forwarded last."""
        return _timed(self.pairs.forwarded_row(_row_of(key)), key)

    def _one(self, key: SessionKey) -> Pair | None:
        return self.pairs.read_row(key)

    def _scan(self, span: SessionSpan, *, reverse: bool) -> Iterator[Row]:
        return self.pairs.scan(span, reverse=reverse)

    def _shown(self, rows: Generator[Any, None, None]) -> StoreIterator[Any]:
        return self.counted(rows)

    def put(self, session: Windowed[Any], value: Any) -> None:
        """Sets the value of a session; None deletes it."""
        self._write(session, value)

    def remove(self, session: Windowed[Any]) -> None:
        """Deletes a session."""
        if self._cached is not None:
            self._write(session, None)
        else:
            self.check_session(session)
            self._stored.remove(_row_of(session), self.host.current.timestamp)

    def _write(self, session: Windowed[Any], value: Any) -> None:
        self.check_session(session)
        row = _row_of(session)
        value, timestamp = self.codec.from_user(value)
        if self._cached is not None:
            end_ms = stamped(row[1], headers_beside(timestamp))
            self._cached.put_row(row, value, end_ms, int(timestamp), UNREAD)
        else:
            self._stored.put(row, value, timestamp)
        if value is not None:
            stored = self._stored
            name = row[0] if stored.keeps_key_decoded else stored.codec.encode_key(row[0])
            self._recent.note(name, row[1:])

    def check_session(self, session: Windowed[Any]) -> None:
        """Refuses what is no windowed key, None as a key, and a closed store."""
        if not isinstance(session, Windowed):
            message = (
                f"a row of store '{self.name}' is a key with its session: give "
                f"Windowed(key, SessionWindow(start_ms, end_ms)), not a {type(session).__name__}"
            )
            raise TypeError(message)
        self.check_key(session.key)

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""
        self._recent.clear()
        self._stored.segments.restore(self.codec.row_format.restored(batch))

    def read_only(self) -> ReadOnlySessionStore[Any, Any]:
        """Returns a read-only face that any thread may use while the worker writes."""
        return SessionFace(self)

    def dump(self) -> Dump:
        """Returns kind and live rows below the cache, for test drivers; bytes as hex.

        `raw_key` is what the JVM's RocksDB holds; stores in memory have none.
        """
        entries: list[dict[str, Any]] = []
        for row_key, row in self._stored.segments.all():
            raw_key, end_ms, start_ms = self.key_of(row_key)
            entry: dict[str, Any] = {"key": raw_key.hex(), "start": start_ms, "end": end_ms}
            if self.persistent:
                entry["raw_key"] = row_key[SEGMENT_BYTES:].hex()
            entry["value"] = row.hex()
            entries.append(entry)
        return self.codec.row_format.dump_name("session"), entries


def _row_of(session: Windowed[Any]) -> SessionKey:
    return session.key, session.window.end_ms, session.window.start_ms


def _timed(pair: Pair | None, session: Windowed[Any]) -> Pair | None:
    return None if pair is None else (pair[0], session.window.end_ms)


class SessionFace(TypedFace[SessionKey, SessionSpan], SessionReads):
    """Reads of one task's session store, for any thread."""

    def __init__(self, store: TypedSessionStore) -> None:
        super().__init__(store)
        self.key_of = store.key_of

    def _scan(self, span: SessionSpan, *, reverse: bool) -> Iterator[Row]:
        return self._rows(span, reverse=reverse)

    def _shown(self, rows: Generator[Any, None, None]) -> StoreIterator[Any]:
        return StoreIterator(rows)
