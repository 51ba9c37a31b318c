"""Session rows as segments of time, with retention.

Owns where a session's row is among the bytes below. `stores.rows.timed` says which rows are
expired. This module must not know serdes, caches or changelogs; keys and values are bytes.

A session's time is its end. A row is at::

    segment(8) ‖ key ‖ end(8) ‖ start(8)           segment = end // segment interval

Source: JVM `RocksDBSessionStore`, `InMemorySessionStore`, `SessionKeySchema`; kafka-streams
semantics D2, D3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from struct import Struct
from typing import Final

from thalweg.stores.formats import SESSION_SUFFIX_BYTES, decode_session_key, pack_int64
from thalweg.stores.rows.contract import Change, Row
from thalweg.stores.rows.timed import SEGMENT_BYTES, TimedRows, filtered
from thalweg.stores.windowed import FOREVER_MS

_key_of: Final = itemgetter(0)
_bounds: Final = Struct(">qq")


class SessionRows(TimedRows):
    """The rows of one session store; their time is the session's end.

    One worker writes. Other threads may call `get`, and the scans with `shared`.
    """

    # -- writing -------------------------------------------------------------------------

    def remove_row(self, row_key: bytes, end_ms: int) -> None:
        """Deletes a row; of an expired one nobody hears."""
        if self.rows.persistent and end_ms > self.observed_ms:
            self._observe(end_ms)
        if end_ms >= self._accepted_from_ms:
            self.rows.put(row_key, None)

    # -- reading -------------------------------------------------------------------------

    def row_key(self, key: bytes, end_ms: int, start_ms: int) -> bytes:
        """Returns where a row stands; what scans are ordered by."""
        return pack_int64(end_ms // self._interval_ms) + key + _bounds.pack(end_ms, start_ms)

    def key_of(self, row_key: bytes) -> tuple[bytes, int, int]:
        """Returns key, end and start of a row that a scan yields."""
        end_ms, start_ms = _bounds.unpack_from(row_key, len(row_key) - SESSION_SUFFIX_BYTES)
        return row_key[SEGMENT_BYTES:-SESSION_SUFFIX_BYTES], end_ms, start_ms

    def find(
        self,
        key: bytes,
        earliest_end_ms: int,
        latest_start_ms: int,
        *,
        reverse: bool = False,
        shared: bool = False,
    ) -> Iterator[Row]:
        """Scans the live sessions of one key by end, then start.

        Args:
            key: the key.
            earliest_end_ms: lowest end, included.
            latest_start_ms: highest start, included.
            reverse: newest first.
            shared: whether another thread than the worker asks.
        """
        from_ms, to_ms = self._span(earliest_end_ms, FOREVER_MS)
        if to_ms < from_ms:
            return iter(())
        start_at = SESSION_SUFFIX_BYTES // 2
        latest = pack_int64(max(min(latest_start_ms, FOREVER_MS), -1))
        size = SEGMENT_BYTES + len(key) + SESSION_SUFFIX_BYTES
        segments = self._segments(from_ms, to_ms, shared)
        if segments is None:
            earliest = pack_int64(from_ms)
            rows = self._scan_all(from_ms, to_ms, reverse, shared)
            of_key = slice(SEGMENT_BYTES, SEGMENT_BYTES + len(key))
            end_of = slice(-SESSION_SUFFIX_BYTES, -start_at)

            def wanted(row_key: bytes) -> bool:
                return (
                    len(row_key) == size
                    and row_key[of_key] == key
                    and row_key[end_of] >= earliest
                    and row_key[-start_at:] <= latest
                )

            return filtered(rows, wanted)
        lower = key + _bounds.pack(from_ms, 0)
        upper = key + _bounds.pack(to_ms, FOREVER_MS) + b"\0"
        rows = self._scan_each(segments, lower, upper, reverse, shared)
        # Between the two stand rows of longer keys that begin alike.
        return filtered(
            rows, lambda row_key: len(row_key) == size and row_key[-start_at:] <= latest
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
        """Scans the live sessions of the keys from `lower` to `upper`, both included.

        Rows come segment by segment; inside one by key, then end, then start.

        Args:
            lower: first key, None for no bound.
            upper: last key, None for no bound.
            earliest_end_ms: lowest end, included.
            latest_start_ms: highest start, included.
            reverse: the other way round.
            shared: whether another thread than the worker asks.
        """
        from_ms, to_ms = self._span(earliest_end_ms, FOREVER_MS)
        if to_ms < from_ms:
            return iter(())
        key_of = self.key_of

        def wanted(row_key: bytes) -> bool:
            key, end_ms, start_ms = key_of(row_key)
            return (
                from_ms <= end_ms
                and start_ms <= latest_start_ms
                and (lower is None or key >= lower)
                and (upper is None or key <= upper)
            )

        segments = None
        if lower is not None or upper is not None:
            segments = self._segments(from_ms, to_ms, shared)
        if segments is None:
            return filtered(self._scan_all(from_ms, to_ms, reverse, shared), wanted)
        last = None if upper is None else _above_rows_of(upper)
        return filtered(self._scan_each(segments, lower or b"", last, reverse, shared), wanted)

    def ended(self, from_ms: int, to_ms: int, *, shared: bool = False) -> Iterator[Row]:
        """Scans the sessions of all keys whose end lies between two times, both included.

        Args:
            from_ms: lowest end.
            to_ms: highest end.
            shared: whether another thread than the worker asks.
        """
        first, last = self._span(from_ms, to_ms)
        if last < first:
            return iter(())
        key_of = self.key_of
        return filtered(
            self._scan_all(first, last, False, shared),
            lambda row_key: first <= key_of(row_key)[1] <= last,
        )

    def all(self, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans every live row."""
        return self.find_range(None, None, 0, FOREVER_MS, reverse=reverse, shared=shared)

    def spans(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        first_from: Callable[[bytes], bytes | None],
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Returns the [lower, upper) of row keys among which sessions of keys and ends stand.

        Both ends of keys and times are included. Among the rows may be some of other keys and
        times, and expired ones.

        Args:
            lower: first key, None for no bound.
            upper: last key, None for no bound.
            from_ms: lowest end.
            to_ms: highest end.
            first_from: returns the lowest row key at or above the given bytes.
        """
        above = None if upper is None else _above_rows_of(upper)
        return self._ranges(lower, above, from_ms, to_ms, first_from)

    # -- the rest of a row store ---------------------------------------------------------

    def restore(self, changes: Iterable[Change]) -> None:
        """Writes rows of a changelog to the backend; expired ones are left out.

        Args:
            changes: (session key as in the changelog, value or None), in the log's order.
        """
        batch: list[Change] = []
        for session_key, value in changes:
            _, end_ms, _ = decode_session_key(session_key)
            if end_ms > self.observed_ms:
                self._observe(end_ms)
            if end_ms < self._accepted_from_ms:
                continue
            self._note_time(end_ms)
            batch.append((pack_int64(end_ms // self._interval_ms) + session_key, value))
        # Stable: of one row the last still wins.
        batch.sort(key=_key_of)
        self.rows.restore(self._laid_out(batch))
        self._note_applied()

    def _laid_out(self, changes: list[Change]) -> list[Change]:
        """Returns changes of rows, the key before the time, as they are to stand."""
        return changes


def _above_rows_of(upper: bytes) -> bytes:
    """Returns bytes above the rows of all keys up to `upper`, inside a segment.

    A key that `upper` begins with is below it, but its rows need not be: an end may stand
    higher than the bytes `upper` goes on with.
    """
    suffix = _bounds.pack(FOREVER_MS, FOREVER_MS)
    return max(upper[:size] + suffix for size in range(len(upper) + 1)) + b"\0"
