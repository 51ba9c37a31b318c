"""Rows in segments of time, with retention: what windows and sessions share.

Owns the observed stream time and the rules of expiry: which puts come too late, which rows are
hidden, and which are deleted. It must not know what follows the segment in a row's key, nor serdes,
caches or changelogs; keys and values are bytes.

All segments of a store share one byte store, so a commit is one batch and expiry is one range
deletion. A row is at::

    segment(8) ‖ what follows                 segment = time of the row // segment interval

Inside a segment rows are in the byte order of the rest, as in the JVM's segment databases.

In memory the segment interval is 1 ms. So rows are ordered by time first and expire one by one, as
in the JVM's in-memory stores.

Stream time is the highest time of a row that was put, even of an expired one. A row is hidden when
its time is at or below stream time less the retention. A put is dropped when its whole segment is
expired; in memory, when the row itself is expired.

Source: JVM `AbstractRocksDBSegmentedBytesStore`, `AbstractSegments`; kafka-streams semantics D2.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import chain
from struct import Struct
from typing import Final

from sortedcontainers import SortedList

from thalweg.stores.bytes.contract import prefix_end
from thalweg.stores.formats import pack_int64
from thalweg.stores.rows.contract import ExpiringRowStore, Row
from thalweg.stores.windowed import FOREVER_MS

SEGMENT_BYTES: Final = 8
FEW_SEGMENTS: Final = 16
"""Up to here a scan of one key opens each segment; beyond, it filters one scan of them all."""

_NO_TIME_MS: Final = -1
_segment: Final = Struct(">q")


class TimedRows:
    """Rows that each have a time, in segments of it.

    One worker writes. Other threads may call `get_row`, and the scans with `shared`.

    Args:
        rows: where rows are kept; closed with this.
        retention_ms: how long a row is kept after its time, in observed time.
        segment_interval_ms: span of a segment; of no meaning in memory.
        expired: hears of a put that was dropped.
        shows_last_ms: whether rows are shown that are older by exactly the retention.
        keeps_expired: let `get_unapplied` find what expired since rows were applied last, and
            what was dropped since.

    Attributes:
        observed_ms: the highest time of a row that was put, -1 before the first; of a store
            opened again the start of its newest segment, until something newer is put.
        live_from_ms: rows before it are hidden.
    """

    def __init__(
        self,
        rows: ExpiringRowStore,
        *,
        retention_ms: int,
        segment_interval_ms: int,
        expired: Callable[[], None],
        shows_last_ms: bool = False,
        keeps_expired: bool = False,
    ) -> None:
        self.rows = rows
        self.observed_ms = _NO_TIME_MS
        self._retention_ms = retention_ms
        self._hidden_ms = 0 if shows_last_ms else 1
        self._interval_ms = segment_interval_ms if rows.persistent else 1
        self._expired = expired
        # No row is later: the observed time, or more where that is not known exactly.
        self._rows_until_ms = _NO_TIME_MS
        self.live_from_ms = 0
        self._accepted_from_ms = 0
        # No segment expires before a row of this time.
        self._next_expiry_ms = 0
        self._keeps_expired = keeps_expired
        self._applied_from_ms = 0, 0
        self._seen_applies = 0
        # Where every time is a segment of its own, scans of a key must not try them all.
        self._times: SortedList[int] | None = None if rows.persistent else SortedList()
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
            break

    # -- writing -------------------------------------------------------------------------

    def put_row(self, row_key: bytes, time_ms: int, value: bytes | None) -> None:
        """Writes a row, None deletes it; drops it if it comes too late.

        Args:
            row_key: where the row stands.
            time_ms: its time.
            value: what it holds.
        """
        if self._accepts(time_ms):
            self.rows.put(row_key, value)

    def _accepts(self, time_ms: int) -> bool:
        """Moves time on, and tells whether a row is to be written.

        What expired since rows were applied goes with the next `apply`, and is not read otherwise
        until then.
        """
        return self._observes(time_ms) or (self._keeps_expired and time_ms >= self._applied()[1])

    def _observes(self, time_ms: int) -> bool:
        """Moves time on, and tells whether a put at that time is still accepted."""
        if time_ms > self.observed_ms:
            self._observe(time_ms)
        if time_ms < self._accepted_from_ms:
            self._expired()
            return False
        if self._times is not None:
            self._note_time(time_ms)
        return True

    def _note_time(self, time_ms: int) -> None:
        times = self._times
        if times is not None and time_ms not in self._known:
            self._known.add(time_ms)
            times.add(time_ms)

    def _observe(self, time_ms: int) -> None:
        if self._keeps_expired:
            self._applied()
        self.observed_ms = time_ms
        if time_ms > self._rows_until_ms:
            self._rows_until_ms = time_ms
        self.live_from_ms = time_ms - self._retention_ms + self._hidden_ms
        if time_ms < self._next_expiry_ms:
            return
        times, interval = self._times, self._interval_ms
        if times is None:
            oldest_segment = (time_ms - self._retention_ms) // interval
            self._next_expiry_ms = (oldest_segment + 1) * interval + self._retention_ms
        else:
            oldest_segment = self.live_from_ms
        accepted_from = max(oldest_segment, 0) * interval
        if accepted_from <= self._accepted_from_ms:
            return
        self._accepted_from_ms = accepted_from
        self.rows.expire_below(pack_int64(oldest_segment))
        while times and times[0] < accepted_from:
            self._known.discard(times.pop(0))

    # -- reading -------------------------------------------------------------------------

    def get_row(self, row_key: bytes, time_ms: int) -> bytes | None:
        """Reads a row by where it stands, unless it is expired."""
        return None if time_ms < self.live_from_ms else self.rows.get(row_key)

    def get_unapplied(self, row_key: bytes, time_ms: int) -> bytes | None:
        """Reads as `get_row`, by the time that was observed when rows were applied last."""
        return None if time_ms < self._applied()[0] else self.rows.get(row_key)

    def _applied(self) -> tuple[int, int]:
        """Returns from when on rows were live, and accepted, when rows were applied last."""
        if self._seen_applies != self.rows.apply_count:
            self._note_applied()
        return self._applied_from_ms

    def _note_applied(self) -> None:
        self._seen_applies = self.rows.apply_count
        self._applied_from_ms = self.live_from_ms, self._accepted_from_ms

    @property
    def segment_ms(self) -> int:
        """Span of a segment."""
        return self._interval_ms

    def segment_start(self, row_key: bytes) -> int:
        """Returns where the segment of a row begins."""
        segment: int = _segment.unpack_from(row_key)[0]
        return segment * self._interval_ms

    def _span(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Cuts a span to the time in which there can be live rows."""
        return max(from_ms, self.live_from_ms, 0), min(to_ms, self._rows_until_ms)

    def _segments(self, from_ms: int, to_ms: int, shared: bool) -> list[int] | None:
        """Returns the segments that may hold rows of a span; None if it is cheaper to scan all."""
        first, last = from_ms // self._interval_ms, to_ms // self._interval_ms
        if last - first < FEW_SEGMENTS:
            return list(range(first, last + 1))
        if self._times is None or shared:
            return None
        return list(self._times.irange(from_ms, to_ms))

    def _ranges(
        self,
        lower: bytes | None,
        above: bytes | None,
        from_ms: int,
        to_ms: int,
        first_from: Callable[[bytes], bytes | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Yields the [lower, upper) of row keys among which rows of keys and times stand.

        Args:
            lower: what the first row's key begins with behind its segment, None for no bound.
            above: bytes above those of the last row, None for no bound.
            from_ms: first time.
            to_ms: last time.
            first_from: returns the lowest row key at or above the given bytes, by which
                segments without rows are passed over.
        """
        segment = max(from_ms, 0) // self._interval_ms
        last = min(to_ms, FOREVER_MS) // self._interval_ms
        for _ in range(0 if lower is None and above is None else FEW_SEGMENTS):
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
        if len(ordered) <= FEW_SEGMENTS:
            # All at once: rows are those of the moment of the call.
            return _one_after_another([open_scan(segment) for segment in ordered])
        return chain.from_iterable(map(open_scan, ordered))


def filtered(rows: Iterator[Row], is_wanted: Callable[[bytes], bool]) -> Generator[Row, None, None]:
    """Yields the rows whose key is wanted; closing it closes `rows`."""
    try:
        for row in rows:
            if is_wanted(row[0]):
                yield row
    finally:
        release(rows)


def _one_after_another(scans: list[Iterator[Row]]) -> Generator[Row, None, None]:
    try:
        for scan in scans:
            yield from scan
    finally:
        for scan in scans:
            release(scan)


def release(rows: Iterator[Row]) -> None:
    """Closes a scan, where it holds anything."""
    close = getattr(rows, "close", None)
    if close is not None:
        close()
