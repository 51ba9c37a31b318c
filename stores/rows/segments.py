"""Window rows as segments of time, with retention.

Owns where a window's row stands among the bytes below, the observed stream time, and what
is expired: which puts come too late, which rows are hidden, which are deleted. It must not
know serdes, caches or changelogs; keys and values are bytes.

All segments of a store share one byte store, so that a commit is one batch and expiry one
deleted range. A row stands at::

    segment(8) ‖ key ‖ start(8) ‖ seqnum(4)        segment = start // segment interval

Inside a segment rows are in the byte order of what follows it, by key and then time, as in
the JVM's segment databases. A scan of one key visits each segment of its time span; there are few: retention / interval
and one or two more.

In memory the segment interval is 1 ms, which orders rows by time first and expires them one
by one: the layout and the rules of the JVM's in-memory store.

Time is the highest window start that was put, expired ones included. A row is hidden when
its start is at or below that time less the retention. A put is dropped when its whole
segment is expired; in memory, when the row itself is.

Source: JVM `AbstractRocksDBSegmentedBytesStore`, `AbstractSegments`, `RocksDBWindowStore`,
`InMemoryWindowStore`, `WindowKeySchema`; kafka-streams semantics D2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from operator import itemgetter
from struct import Struct
from typing import Final

from sortedcontainers import SortedList

from thalweg.stores.bytes.contract import prefix_end
from thalweg.stores.formats import (
    WINDOW_SUFFIX_BYTES,
    decode_window_key,
    encode_window_key,
    pack_int64,
    pack_window_suffix,
)
from thalweg.stores.rows.contract import Change, ExpiringRowStore, Row
from thalweg.stores.windowed import FOREVER_MS

SEGMENT_BYTES: Final = 8
_LARGEST_SEQNUM: Final = 2**31 - 1
_NO_TIME_MS: Final = -1
_FEW_SEGMENTS: Final = 16
"""Up to here a scan of one key opens each segment; beyond, it filters one scan of them all."""

_key_of: Final = itemgetter(0)
_suffix: Final = Struct(">qi")
_segment: Final = Struct(">q")


class SegmentedRows:
    """The rows of one window store.

    One worker writes. Other threads may call `get`, and the scans with `shared`.

    Args:
        rows: where rows are kept; closed with this.
        retention_ms: how long a row is kept after its start, in observed time.
        segment_interval_ms: span of a segment; of no meaning in memory.
        retain_duplicates: keep every put of a key and start under a number of its own.
        expired: hears of a put that was dropped.
        keeps_expired: let `get_unapplied` find what expired since rows were applied last, and
            what was dropped since.

    Attributes:
        observed_ms: the highest start that was put, -1 before the first; of a store opened
            again the start of its newest segment, until something newer is put.
    """

    def __init__(
        self,
        rows: ExpiringRowStore,
        *,
        retention_ms: int,
        segment_interval_ms: int,
        retain_duplicates: bool,
        expired: Callable[[], None],
        keeps_expired: bool = False,
    ) -> None:
        self.rows = rows
        self.observed_ms = _NO_TIME_MS
        self._retention_ms = retention_ms
        self._interval_ms = segment_interval_ms if rows.persistent else 1
        self.retain_duplicates = retain_duplicates
        self._expired = expired
        # No row starts later: the observed time, or more where that is not known exactly.
        self._rows_until_ms = _NO_TIME_MS
        self._live_from_ms = 0
        self._accepted_from_ms = 0
        # No segment expires before a put at this start.
        self._next_expiry_ms = 0
        self._keeps_expired = keeps_expired
        self._applied_from_ms = 0, 0
        self._seen_applies = 0
        self._seqnum = 0
        self._may_collide = False
        self._has_earlier = False
        # Where every start is a segment of its own, scans of a key must not try them all.
        self._starts: SortedList[int] | None = None if rows.persistent else SortedList()
        self._known: set[int] = set()
        if rows.persistent:
            self._resume()
        self._note_applied()

    def _resume(self) -> None:
        """Finds out how far time had come in a store opened again: to its newest segment."""
        for row_key, _ in self.rows.scan(None, None, reverse=True):
            newest_segment: int = _segment.unpack_from(row_key)[0]
            self._observe(newest_segment * self._interval_ms)
            self._rows_until_ms = (newest_segment + 1) * self._interval_ms - 1
            self._may_collide = self._has_earlier = self.retain_duplicates
            break

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

    def put_row(self, row_key: bytes, start_ms: int, value: bytes | None) -> None:
        """Writes as `put` to where a row stands, in a store that keeps no duplicates."""
        if self._observes(start_ms) or (self._keeps_expired and start_ms >= self._applied()[1]):
            # What expired since goes with the next `apply`, and is not read otherwise until then.
            self.rows.put(row_key, value)

    def put_duplicate(self, key: bytes, start_ms: int, value: bytes | None) -> int:
        """Writes as `put`, in a store that keeps duplicates."""
        starts = self._starts
        if value is None:
            if starts is not None:
                self._observes(start_ms)
            return self._seqnum
        # The JVM's stores differ: on disk a dropped put takes a number, in memory it does not.
        if starts is None:
            self._seqnum = (self._seqnum + 1) & _LARGEST_SEQNUM
        if start_ms > self.observed_ms:
            self._observe(start_ms)
        if start_ms < self._accepted_from_ms:
            self._expired()
            return self._seqnum
        if starts is not None:
            self._note_start(start_ms)
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

    def _observes(self, start_ms: int) -> bool:
        """Moves time on, and tells whether a put at that start is still accepted."""
        if start_ms > self.observed_ms:
            self._observe(start_ms)
        if start_ms < self._accepted_from_ms:
            self._expired()
            return False
        if self._starts is not None:
            self._note_start(start_ms)
        return True

    def _note_start(self, start_ms: int) -> None:
        starts = self._starts
        if starts is not None and start_ms not in self._known:
            self._known.add(start_ms)
            starts.add(start_ms)

    def _observe(self, start_ms: int) -> None:
        if self._keeps_expired:
            self._applied()
        self.observed_ms = start_ms
        if start_ms > self._rows_until_ms:
            self._rows_until_ms = start_ms
        self._live_from_ms = start_ms - self._retention_ms + 1
        if start_ms < self._next_expiry_ms:
            return
        starts, interval = self._starts, self._interval_ms
        if starts is None:
            oldest_segment = (start_ms - self._retention_ms) // interval
            self._next_expiry_ms = (oldest_segment + 1) * interval + self._retention_ms
        else:
            oldest_segment = self._live_from_ms
        accepted_from = max(oldest_segment, 0) * interval
        if accepted_from <= self._accepted_from_ms:
            return
        self._accepted_from_ms = accepted_from
        self.rows.expire_below(pack_int64(oldest_segment))
        while starts and starts[0] < accepted_from:
            self._known.discard(starts.pop(0))

    # -- reading -------------------------------------------------------------------------

    @property
    def live_from_ms(self) -> int:
        """The first start that is not expired; 0 or less where nothing is."""
        return self._live_from_ms

    @property
    def segment_ms(self) -> int:
        """Span of a segment."""
        return self._interval_ms

    def segment_start(self, row_key: bytes) -> int:
        """Returns where the segment of a row begins."""
        segment: int = _segment.unpack_from(row_key)[0]
        return segment * self._interval_ms

    def row_key(self, key: bytes, start_ms: int) -> bytes:
        """Returns where a row stands; what scans are ordered by."""
        return pack_int64(start_ms // self._interval_ms) + key + _suffix.pack(start_ms, 0)

    def get(self, key: bytes, start_ms: int) -> bytes | None:
        """Reads one row unless it is expired; of duplicates the newest."""
        lower = self.row_key(key, start_ms)
        if not self.retain_duplicates:
            return self.get_row(lower, start_ms)
        if start_ms < self._live_from_ms:
            return None
        upper = lower[:-WINDOW_SUFFIX_BYTES] + _suffix.pack(start_ms, _LARGEST_SEQNUM) + b"\0"
        rows = self.rows.snapshot(lower, upper, True)
        return next((value for row_key, value in rows if len(row_key) == len(lower)), None)

    def get_row(self, row_key: bytes, start_ms: int) -> bytes | None:
        """Reads as `get` by where a row stands, in a store that keeps no duplicates."""
        return None if start_ms < self._live_from_ms else self.rows.get(row_key)

    def get_unapplied(self, row_key: bytes, start_ms: int) -> bytes | None:
        """Reads as `get_row`, by the time that was observed when rows were applied last."""
        return None if start_ms < self._applied()[0] else self.rows.get(row_key)

    def _applied(self) -> tuple[int, int]:
        """Returns from when on rows were live, and accepted, when rows were applied last."""
        if self._seen_applies != self.rows.apply_count:
            self._note_applied()
        return self._applied_from_ms

    def _note_applied(self) -> None:
        self._seen_applies = self.rows.apply_count
        self._applied_from_ms = self._live_from_ms, self._accepted_from_ms

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
            return _filtered(
                rows, lambda row_key: len(row_key) == size and row_key[prefix_of_key] == key
            )
        lower = key + _suffix.pack(from_ms, 0)
        upper = key + _suffix.pack(to_ms, _LARGEST_SEQNUM) + b"\0"
        rows = self._scan_each(segments, lower, upper, reverse, shared)
        # Between the two stand rows of longer keys that begin alike.
        size = SEGMENT_BYTES + len(lower)
        return _filtered(rows, lambda row_key: len(row_key) == size)

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
            return _filtered(self._scan_all(from_ms, to_ms, reverse, shared), wanted)
        last = None if upper is None else _above_rows_of(upper, to_ms)
        return _filtered(self._scan_each(segments, lower or b"", last, reverse, shared), wanted)

    def all(self, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans every live row."""
        return self.fetch_range(None, None, 0, FOREVER_MS, reverse=reverse, shared=shared)

    def _span(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Cuts a span to the time in which there can be live rows."""
        return max(from_ms, self._live_from_ms, 0), min(to_ms, self._rows_until_ms)

    def _segments(self, from_ms: int, to_ms: int, shared: bool) -> list[int] | None:
        """Returns the segments that may hold rows of a span; None if it is cheaper to scan all."""
        first, last = from_ms // self._interval_ms, to_ms // self._interval_ms
        if last - first < _FEW_SEGMENTS:
            return list(range(first, last + 1))
        if self._starts is None or shared:
            return None
        return list(self._starts.irange(from_ms, to_ms))

    def spans(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        first_from: Callable[[bytes], bytes | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Yields the [lower, upper) of row keys among which rows of keys and times stand.

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
        segment = max(from_ms, 0) // self._interval_ms
        last = min(to_ms, FOREVER_MS) // self._interval_ms
        above = None if upper is None else _above_rows_of(upper, min(max(to_ms, 0), FOREVER_MS))
        for _ in range(0 if lower is None and upper is None else _FEW_SEGMENTS):
            row_key = first_from(pack_int64(segment)) if segment <= last else None
            segment = last + 1 if row_key is None else _segment.unpack_from(row_key)[0]
            if segment > last:
                return
            prefix = pack_int64(segment)
            yield prefix + (lower or b""), prefix_end(prefix) if above is None else prefix + above
            segment += 1
        if segment <= last:
            yield pack_int64(segment), prefix_end(pack_int64(last))

    def _scan_all(self, from_ms: int, to_ms: int, reverse: bool, shared: bool) -> Iterator[Row]:
        lower = pack_int64(from_ms // self._interval_ms)
        upper = prefix_end(pack_int64(to_ms // self._interval_ms))
        scan = self.rows.snapshot if shared else self.rows.scan
        return scan(lower, upper, reverse)

    def _scan_each(
        self,
        segments: list[int],
        lower: bytes,
        upper: bytes | None,
        reverse: bool,
        shared: bool,
    ) -> Iterator[Row]:
        scan = self.rows.snapshot if shared else self.rows.scan

        def open_scan(segment: int) -> Iterator[Row]:
            prefix = pack_int64(segment)
            last = prefix_end(prefix) if upper is None else prefix + upper
            return scan(prefix + lower, last, reverse)

        ordered = segments[::-1] if reverse else segments
        if len(ordered) == 1:
            return open_scan(ordered[0])
        if len(ordered) <= _FEW_SEGMENTS:
            # All at once: rows are those of the moment of the call.
            return _one_after_another([open_scan(segment) for segment in ordered])
        return chain.from_iterable(map(open_scan, ordered))

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
            self._note_start(start_ms)
            self._seqnum = max(self._seqnum, seqnum)
            segment = pack_int64(start_ms // self._interval_ms)
            batch.append((segment + encode_window_key(key, start_ms, seqnum), value))
        # Stable: of one row the last still wins.
        batch.sort(key=_key_of)
        self.rows.restore(batch)
        self._note_applied()


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


def _filtered(
    rows: Iterator[Row], is_wanted: Callable[[bytes], bool]
) -> Generator[Row, None, None]:
    try:
        for row in rows:
            if is_wanted(row[0]):
                yield row
    finally:
        _release(rows)


def _one_after_another(scans: list[Iterator[Row]]) -> Generator[Row, None, None]:
    try:
        for scan in scans:
            yield from scan
    finally:
        for scan in scans:
            _release(scan)


def _release(rows: Iterator[Row]) -> None:
    release = getattr(rows, "close", None)
    if release is not None:
        release()
