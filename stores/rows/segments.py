"""Window rows as segments of time, with retention.

Owns where a window's row is among the bytes below, and how duplicates are numbered.
`stores.rows.timed` says which rows are expired. This module must not know serdes, caches or
changelogs; keys and values are bytes.

A row is at::

    segment(8) ‖ key ‖ start(8) ‖ seqnum(4)        segment = start // segment interval

Inside a segment rows are in the byte order of the rest, by key and then time, as in the JVM's
segment databases. A scan of one key visits each segment of its time span. There are few segments:
retention / interval, and one or two more.

Source: JVM `RocksDBWindowStore`, `InMemoryWindowStore`, `WindowKeySchema`; kafka-streams
semantics D2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from struct import Struct
from typing import Final

from thalweg.stores.formats import (
    WINDOW_SUFFIX_BYTES,
    decode_window_key,
    encode_window_key,
    pack_int64,
    pack_window_suffix,
)
from thalweg.stores.rows.contract import Change, ExpiringRowStore, Row
from thalweg.stores.rows.timed import SEGMENT_BYTES, TimedRows, filtered
from thalweg.stores.windowed import FOREVER_MS

_LARGEST_SEQNUM: Final = 2**31 - 1

_key_of: Final = itemgetter(0)
_suffix: Final = Struct(">qi")


class SegmentedRows(TimedRows):
    """The rows of one window store; their time is the window's start.

    One worker writes. Other threads may call `get`, and the scans with `shared`.

    Args:
        rows: where rows are kept; closed with this.
        retention_ms: how long a row is kept after its start, in observed time.
        segment_interval_ms: span of a segment; of no meaning in memory.
        retain_duplicates: keep every put of a key and start under a number of its own.
        expired: hears of a put that was dropped.
        shows_last_ms: whether rows are shown that are older by exactly the retention.
        keeps_expired: let `get_unapplied` find what expired since rows were applied last, and
            what was dropped since.
    """

    def __init__(
        self,
        rows: ExpiringRowStore,
        *,
        retention_ms: int,
        segment_interval_ms: int,
        retain_duplicates: bool,
        expired: Callable[[], None],
        shows_last_ms: bool = False,
        keeps_expired: bool = False,
    ) -> None:
        super().__init__(
            rows,
            retention_ms=retention_ms,
            segment_interval_ms=segment_interval_ms,
            expired=expired,
            shows_last_ms=shows_last_ms,
            keeps_expired=keeps_expired,
        )
        self.retain_duplicates = retain_duplicates
        self._seqnum = 0
        # Of rows that a store opened again found: their numbers are not known.
        self._may_collide = self._has_earlier = retain_duplicates and self.observed_ms >= 0

    # -- writing -------------------------------------------------------------------------

    def put(self, key: bytes, start_ms: int, value: bytes | None) -> int:
        """Writes a row, None deletes it; drops it if it comes too late.

        Deleting does nothing in a store that keeps duplicates.

        Returns:
            The number the row has among its duplicates, 0 in stores that keep none.
        """
        if self.retain_duplicates:
            return self.put_duplicate(key, start_ms, value)
        self.put_row(self.row_key(key, start_ms), start_ms, value)
        return 0

    def put_duplicate(self, key: bytes, start_ms: int, value: bytes | None) -> int:
        """Writes as `put`, in a store that keeps duplicates."""
        times = self._times
        if value is None:
            if times is not None:
                self._observes(start_ms)
            return self._seqnum
        # The JVM's stores differ: on disk a dropped put takes a number, in memory it does not.
        if times is None:
            self._seqnum = (self._seqnum + 1) & _LARGEST_SEQNUM
        if start_ms > self.observed_ms:
            self._observe(start_ms)
        if start_ms < self._accepted_from_ms:
            self._expired()
            return self._seqnum
        if times is not None:
            self._note_time(start_ms)
            self._count()
        segment = pack_int64(start_ms // self._interval_ms)
        row_key = segment + key + pack_window_suffix(start_ms, self._seqnum)
        if self._may_collide:
            # Numbers begin anew when a store is opened again: leave the old rows alone.
            while self.rows.get(row_key) is not None:
                self._count()
                row_key = segment + key + pack_window_suffix(start_ms, self._seqnum)
        self.rows.put(row_key, value)
        return self._seqnum

    def is_taken(self, key: bytes, start_ms: int, number: int) -> bool:
        """Tells whether a duplicate of an earlier run has that number."""
        if not self._has_earlier:
            return False
        segment = pack_int64(start_ms // self._interval_ms)
        return self.rows.get(segment + key + pack_window_suffix(start_ms, number)) is not None

    def _count(self) -> None:
        self._seqnum = (self._seqnum + 1) & _LARGEST_SEQNUM

    # -- reading -------------------------------------------------------------------------

    def row_key(self, key: bytes, start_ms: int) -> bytes:
        """Returns where a row stands; what scans are ordered by."""
        return pack_int64(start_ms // self._interval_ms) + key + _suffix.pack(start_ms, 0)

    def key_of(self, row_key: bytes) -> tuple[bytes, int]:
        """Returns key and window start of a row that a scan yields."""
        return window_key_of(row_key)

    def get(self, key: bytes, start_ms: int) -> bytes | None:
        """Reads one row unless it is expired; of duplicates the newest."""
        lower = self.row_key(key, start_ms)
        if not self.retain_duplicates:
            return self.get_row(lower, start_ms)
        if start_ms < self.live_from_ms:
            return None
        upper = lower[:-WINDOW_SUFFIX_BYTES] + _suffix.pack(start_ms, _LARGEST_SEQNUM) + b"\0"
        rows = self.rows.snapshot(lower, upper, True)
        return next((value for row_key, value in rows if len(row_key) == len(lower)), None)

    def fetch(
        self, key: bytes, from_ms: int, to_ms: int, *, reverse: bool = False, shared: bool = False
    ) -> Iterator[Row]:
        """Scans the live rows of one key by time.

        Args:
            key: the key.
            from_ms: first start, included.
            to_ms: last start, included.
            reverse: newest first.
            shared: whether another thread than the worker asks.
        """
        from_ms, to_ms = self._span(from_ms, to_ms)
        if to_ms < from_ms:
            return iter(())
        segments = self._segments(from_ms, to_ms, shared)
        if segments is None:
            rows = self._scan_all(from_ms, to_ms, reverse, shared)
            size = SEGMENT_BYTES + len(key) + WINDOW_SUFFIX_BYTES
            prefix_of_key = slice(SEGMENT_BYTES, SEGMENT_BYTES + len(key))
            return filtered(
                rows, lambda row_key: len(row_key) == size and row_key[prefix_of_key] == key
            )
        lower = key + _suffix.pack(from_ms, 0)
        upper = key + _suffix.pack(to_ms, _LARGEST_SEQNUM) + b"\0"
        rows = self._scan_each(segments, lower, upper, reverse, shared)
        # Between the two stand rows of longer keys that begin alike.
        size = SEGMENT_BYTES + len(lower)
        return filtered(rows, lambda row_key: len(row_key) == size)

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
        """Scans the live rows of the keys from `lower` to `upper`, both included.

        Rows come segment by segment; inside one by key, then time.

        Args:
            lower: first key, None for no bound.
            upper: last key, None for no bound.
            from_ms: first start, included.
            to_ms: last start, included.
            reverse: the other way round.
            shared: whether another thread than the worker asks.
        """
        from_ms, to_ms = self._span(from_ms, to_ms)
        if to_ms < from_ms:
            return iter(())

        def wanted(row_key: bytes) -> bool:
            key = row_key[SEGMENT_BYTES:-WINDOW_SUFFIX_BYTES]
            start_ms: int = _suffix.unpack_from(row_key, len(row_key) - WINDOW_SUFFIX_BYTES)[0]
            return (
                from_ms <= start_ms <= to_ms
                and (lower is None or key >= lower)
                and (upper is None or key <= upper)
            )

        segments = None
        if lower is not None or upper is not None:
            segments = self._segments(from_ms, to_ms, shared)
        if segments is None:
            return filtered(self._scan_all(from_ms, to_ms, reverse, shared), wanted)
        last = None if upper is None else _above_rows_of(upper, to_ms)
        return filtered(self._scan_each(segments, lower or b"", last, reverse, shared), wanted)

    def all(self, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans every live row."""
        return self.fetch_range(None, None, 0, FOREVER_MS, reverse=reverse, shared=shared)

    def spans(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        first_from: Callable[[bytes], bytes | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Returns the [lower, upper) of row keys among which rows of keys and times stand.

        Both ends of keys and times are included. Among the rows may be some of other keys and
        times, many where there are many segments, and expired ones.

        Args:
            lower: first key, None for no bound.
            upper: last key, None for no bound.
            from_ms: first start.
            to_ms: last start.
            first_from: returns the lowest row key at or above the given bytes, by which
                segments without rows are passed over.
        """
        above = None if upper is None else _above_rows_of(upper, min(max(to_ms, 0), FOREVER_MS))
        return self._ranges(lower, above, from_ms, to_ms, first_from)

    # -- the rest of a row store ---------------------------------------------------------

    def restore(self, changes: Iterable[Change]) -> None:
        """Writes rows of a changelog to the backend; expired ones are left out.

        Args:
            changes: (window key as in the changelog, value or None), in the log's order.
        """
        self._has_earlier = True
        batch: list[Change] = []
        for window_key, value in changes:
            key, start_ms, seqnum = decode_window_key(window_key)
            if start_ms > self.observed_ms:
                self._observe(start_ms)
            if start_ms < self._accepted_from_ms:
                continue
            self._note_time(start_ms)
            self._seqnum = max(self._seqnum, seqnum)
            segment = pack_int64(start_ms // self._interval_ms)
            batch.append((segment + encode_window_key(key, start_ms, seqnum), value))
        # Stable: of one row the last still wins.
        batch.sort(key=_key_of)
        self.rows.restore(self._laid_out(batch))
        self._note_applied()

    def _laid_out(self, changes: list[Change]) -> list[Change]:
        """Returns changes of rows, the key before the time, as they are to stand."""
        return changes


def window_key_of(row_key: bytes) -> tuple[bytes, int]:
    """Returns the key and the window start of a row."""
    start_ms: int = _suffix.unpack_from(row_key, len(row_key) - WINDOW_SUFFIX_BYTES)[0]
    return row_key[SEGMENT_BYTES:-WINDOW_SUFFIX_BYTES], start_ms


def _above_rows_of(upper: bytes, to_ms: int) -> bytes:
    """Returns bytes above the rows of all keys up to `upper`, inside a segment.

    A key that `upper` begins with is below it, but its rows need not be: a time may stand
    higher than the bytes `upper` goes on with.
    """
    suffix = _suffix.pack(to_ms, _LARGEST_SEQNUM)
    return max(upper[:size] + suffix for size in range(len(upper) + 1)) + b"\0"
