"""Rows ordered by time first, for operators that read all keys of a span of time.

Owns the layout of windows and sessions whose operator emits results when they close. Each row is
stored twice: ordered by time with its value, and ordered by key without a value, as an index. This
module must not know serdes, caches or changelogs.

After its segment, the key of a row is::

    windows     00 ‖ start(8) ‖ key ‖ seqnum(4)     index  01 ‖ key ‖ start(8) ‖ seqnum(4)
    sessions    00 ‖ end(8) ‖ start(8) ‖ key        index  01 ‖ key ‖ end(8) ‖ start(8)

Scans by key read the index, so their results are in the order of keys.

Rows in memory are ordered by time anyway and do not need this.

Source: JVM `RocksDBTimeOrderedWindowStore`, `RocksDBTimeOrderedSessionStore`,
`PrefixedWindowKeySchemas`, `PrefixedSessionKeySchemas`, `AbstractDualSchemaRocksDBSegmentedBytesStore`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from operator import itemgetter
from struct import Struct
from typing import Final

from thalweg.stores.bytes.contract import prefix_end
from thalweg.stores.formats import pack_int64
from thalweg.stores.rows.contract import Change, Row
from thalweg.stores.rows.segments import SegmentedRows
from thalweg.stores.rows.sessions import SessionRows
from thalweg.stores.rows.timed import SEGMENT_BYTES, TimedRows, filtered, release
from thalweg.stores.windowed import FOREVER_MS

_BASE: Final = b"\0"
_INDEX: Final = b"\1"
_BEHIND: Final = SEGMENT_BYTES + 1
"""Where a row's key goes on behind segment and prefix."""

_key_of: Final = itemgetter(0)
_time: Final = Struct(">q")
_bounds: Final = Struct(">qq")
_window: Final = Struct(">qi")


class _TimeFirst(TimedRows):
    """What both kinds share: a base row and an index row for each."""

    @abstractmethod
    def index_key(self, row_key: bytes) -> bytes:
        """Returns where the index of a row stands."""

    @abstractmethod
    def base_key(self, index_key: bytes) -> bytes:
        """Returns where the row of an index stands."""

    def put_row(self, row_key: bytes, time_ms: int, value: bytes | None) -> None:
        """Writes a row and its index, None deletes both; drops it if it comes too late."""
        if self._accepts(time_ms):
            self._put_both(row_key, value)

    def _put_both(self, row_key: bytes, value: bytes | None) -> None:
        self.rows.put(self.index_key(row_key), None if value is None else b"")
        self.rows.put(row_key, value)

    def logged_key(self, key: bytes) -> bytes:
        """Returns what a row is logged under: the key first.

        Args:
            key: where the row stands, without its segment.
        """
        return self.index_key(bytes(SEGMENT_BYTES) + key)[_BEHIND:]

    def _laid_out(self, changes: list[Change]) -> list[Change]:
        both: list[Change] = []
        for row_key, value in changes:
            index_key = row_key[:SEGMENT_BYTES] + _INDEX + row_key[SEGMENT_BYTES:]
            both.append((index_key, None if value is None else b""))
            both.append((self.base_key(index_key), value))
        both.sort(key=_key_of)
        return both

    def _by_time(self, from_ms: int, to_ms: int, reverse: bool, shared: bool) -> Iterator[Row]:
        """Scans the base rows whose time lies between two, both included."""
        if to_ms < from_ms:
            return iter(())
        lower = _BASE + pack_int64(from_ms)
        upper = prefix_end(_BASE + pack_int64(to_ms))
        segments = self._segments(from_ms, to_ms, shared)
        if segments is not None:
            return self._scan_each(segments, lower, upper, reverse, shared)
        return filtered(
            self._scan_all(from_ms, to_ms, reverse, shared),
            lambda row_key: lower <= row_key[SEGMENT_BYTES:] < (upper or _INDEX),
        )

    def _by_key(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        last: bytes,
        is_wanted: Callable[[bytes], bool],
        *,
        reverse: bool,
        shared: bool,
    ) -> Iterator[Row]:
        """Scans by the index: [lower, upper] of keys, `last` being the highest end of a row key."""
        if to_ms < from_ms:
            return iter(())
        first = _INDEX + (lower or b"")
        above = prefix_end(_INDEX)
        if upper is not None:
            above = max(_INDEX + upper[:size] + last for size in range(len(upper) + 1)) + b"\0"
        segments = self._segments(from_ms, to_ms, shared)
        if segments is not None:
            found = self._scan_each(segments, first, above, reverse, shared)
        else:
            found = self._scan_all(from_ms, to_ms, reverse, shared)
        return self._values_of(filtered(found, is_wanted))

    def _values_of(self, index: Iterator[Row]) -> Generator[Row, None, None]:
        get, base_key = self.rows.get, self.base_key
        try:
            for index_key, _ in index:
                value = get(base_key(index_key))
                if value is not None:
                    yield index_key, value
        finally:
            release(index)

    def _base_ranges(
        self, from_ms: int, to_ms: int, first_from: Callable[[bytes], bytes | None]
    ) -> Iterator[tuple[bytes, bytes | None]]:
        lower = _BASE + pack_int64(max(from_ms, 0))
        above = prefix_end(_BASE + pack_int64(max(min(to_ms, FOREVER_MS), 0)))
        return self._ranges(lower, above, from_ms, to_ms, first_from)


class TimeFirstWindowRows(_TimeFirst, SegmentedRows):
    """The rows of a window store whose windows are emitted when they close."""

    def row_key(self, key: bytes, start_ms: int) -> bytes:
        """Returns where a row stands: by time."""
        segment = pack_int64(start_ms // self._interval_ms)
        return segment + _BASE + pack_int64(start_ms) + key + bytes(4)

    def key_of(self, row_key: bytes) -> tuple[bytes, int]:
        """Returns key and window start of a row that a scan yields, by time or by key."""
        if row_key[SEGMENT_BYTES]:
            start_ms: int = _window.unpack_from(row_key, len(row_key) - 12)[0]
            return row_key[_BEHIND:-12], start_ms
        return row_key[_BEHIND + 8 : -4], _time.unpack_from(row_key, _BEHIND)[0]

    def index_key(self, row_key: bytes) -> bytes:
        """Returns where the index of a row stands."""
        start, key = row_key[_BEHIND : _BEHIND + 8], row_key[_BEHIND + 8 : -4]
        return row_key[:SEGMENT_BYTES] + _INDEX + key + start + row_key[-4:]

    def base_key(self, index_key: bytes) -> bytes:
        """Returns where the row of an index stands."""
        segment, key = index_key[:SEGMENT_BYTES], index_key[_BEHIND:-12]
        return segment + _BASE + index_key[-12:-4] + key + index_key[-4:]

    def fetch(
        self, key: bytes, from_ms: int, to_ms: int, *, reverse: bool = False, shared: bool = False
    ) -> Iterator[Row]:
        """Scans the live rows of one key by time; see `SegmentedRows.fetch`."""
        return self.fetch_range(key, key, from_ms, to_ms, reverse=reverse, shared=shared)

    def fetch_range(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        *,
        reverse: bool = False,
        shared: bool = False,
    ) -> Iterator[Row]:
        """Scans as `SegmentedRows.fetch_range`; rows of all keys come by time, then key."""
        from_ms, to_ms = self._span(from_ms, to_ms)
        if lower is None and upper is None:
            return self._by_time(from_ms, to_ms, reverse, shared)
        key_of = self.key_of

        def wanted(row_key: bytes) -> bool:
            if not row_key[SEGMENT_BYTES]:
                return False
            key, start_ms = key_of(row_key)
            return (
                from_ms <= start_ms <= to_ms
                and (lower is None or key >= lower)
                and (upper is None or key <= upper)
            )

        last = _window.pack(max(to_ms, 0), 2**31 - 1)
        return self._by_key(
            lower, upper, from_ms, to_ms, last, wanted, reverse=reverse, shared=shared
        )

    def spans(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        first_from: Callable[[bytes], bytes | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Returns the [lower, upper) of row keys of all keys between two times."""
        return self._base_ranges(from_ms, to_ms, first_from)

    def placed(self, row_key: bytes, *, by_key: bool) -> bytes:
        """Returns what a scan by key, or one by time, yields a row under."""
        return self.index_key(row_key) if by_key else row_key


class TimeFirstSessionRows(_TimeFirst, SessionRows):
    """The rows of a session store whose sessions are emitted when they close."""

    def row_key(self, key: bytes, end_ms: int, start_ms: int) -> bytes:
        """Returns where a row stands: by time."""
        segment = pack_int64(end_ms // self._interval_ms)
        return segment + _BASE + _bounds.pack(end_ms, start_ms) + key

    def key_of(self, row_key: bytes) -> tuple[bytes, int, int]:
        """Returns key, end and start of a row that a scan yields, by time or by key."""
        if row_key[SEGMENT_BYTES]:
            end_ms, start_ms = _bounds.unpack_from(row_key, len(row_key) - 16)
            return row_key[_BEHIND:-16], end_ms, start_ms
        end_ms, start_ms = _bounds.unpack_from(row_key, _BEHIND)
        return row_key[_BEHIND + 16 :], end_ms, start_ms

    def index_key(self, row_key: bytes) -> bytes:
        """Returns where the index of a row stands."""
        bounds, key = row_key[_BEHIND : _BEHIND + 16], row_key[_BEHIND + 16 :]
        return row_key[:SEGMENT_BYTES] + _INDEX + key + bounds

    def base_key(self, index_key: bytes) -> bytes:
        """Returns where the row of an index stands."""
        key = index_key[_BEHIND:-16]
        return index_key[:SEGMENT_BYTES] + _BASE + index_key[-16:] + key

    def remove_row(self, row_key: bytes, end_ms: int) -> None:
        """Deletes a row and its index; of an expired one nobody hears."""
        if end_ms > self.observed_ms:
            self._observe(end_ms)
        if end_ms >= self._accepted_from_ms:
            self._put_both(row_key, None)

    def find(
        self,
        key: bytes,
        earliest_end_ms: int,
        latest_start_ms: int,
        *,
        reverse: bool = False,
        shared: bool = False,
    ) -> Iterator[Row]:
        """Scans the live sessions of one key; see `SessionRows.find`."""
        return self.find_range(
            key, key, earliest_end_ms, latest_start_ms, reverse=reverse, shared=shared
        )

    def find_range(
        self,
        lower: bytes | None,
        upper: bytes | None,
        earliest_end_ms: int,
        latest_start_ms: int,
        *,
        reverse: bool = False,
        shared: bool = False,
    ) -> Iterator[Row]:
        """Scans as `SessionRows.find_range`; sessions of all keys come by end, start, key."""
        from_ms, to_ms = self._span(earliest_end_ms, FOREVER_MS)
        key_of = self.key_of

        def wanted(row_key: bytes) -> bool:
            key, end_ms, start_ms = key_of(row_key)
            return (
                from_ms <= end_ms
                and start_ms <= latest_start_ms
                and (lower is None or key >= lower)
                and (upper is None or key <= upper)
            )

        if lower is None and upper is None:
            return filtered(self._by_time(from_ms, to_ms, reverse, shared), wanted)
        return self._by_key(
            lower,
            upper,
            from_ms,
            to_ms,
            _bounds.pack(FOREVER_MS, FOREVER_MS),
            lambda row_key: row_key[SEGMENT_BYTES] == 1 and wanted(row_key),
            reverse=reverse,
            shared=shared,
        )

    def ended(self, from_ms: int, to_ms: int, *, shared: bool = False) -> Iterator[Row]:
        """Scans the sessions of all keys by end, start, key; those that are hidden, too."""
        return self._by_time(max(from_ms, 0), min(to_ms, self._rows_until_ms), False, shared)

    def spans(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        first_from: Callable[[bytes], bytes | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Returns the [lower, upper) of row keys of all keys between two ends."""
        return self._base_ranges(from_ms, to_ms, first_from)

    def placed(self, row_key: bytes, *, by_key: bool) -> bytes:
        """Returns what a scan by key, or one by time, yields a row under."""
        return self.index_key(row_key) if by_key else row_key
