"""Versions of rows in segments of time: which one is the latest, and which were before it.

Owns where a version is among the bytes below, how a put changes its neighbouring versions, the
observed stream time, and the rules of expiry. It must not know serdes or changelogs; keys and
values are bytes.

The latest version of each key has its own row and never expires. An older version is in the segment
of the time at which it ended, in one row with all versions of its key that ended there. So a
segment can be deleted as a whole when its time has passed::

    latest     ff ff ff ff ff ff ff ff ‖ key    timestamp(8) ‖ value
    a segment  segment(8) ‖ key                 versions (`rows.version_row`)

A segment's number is time // segment interval. A deletion is a version too, but never the latest: a
key whose newest version is a deletion has no latest version.

Stream time is the highest timestamp that was put. A put is refused if it is older than stream time
less the history retention. A read at such a time finds a version only if it is still the latest.

Other threads may read while the worker puts. A version is written to its new place before it is
removed from the old one, and readers look from new to old.

Source: JVM `RocksDBVersionedStore`, `LogicalKeyValueSegments`,
`RocksDBVersionedStoreRestoreWriteBuffer`; KIP-889.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Final, TypeAlias

from thalweg.stores.api import NOT_PUT, VALID_TO_UNDEFINED
from thalweg.stores.formats import pack_int64
from thalweg.stores.rows.contract import ExpiringRowStore, Row
from thalweg.stores.rows.version_row import (
    bounds,
    find,
    new_row,
    versions_of,
    with_earliest,
    with_inserted,
    with_latest,
    with_replaced,
)

LATEST_PREFIX: Final = pack_int64(-1)
"""What the keys of the latest versions begin with: behind all segments in the order of bytes."""

_PREFIX_BYTES: Final = 8
_NO_TIME_MS: Final = -1
_time: Final = Struct(">q").unpack_from

Logged: TypeAlias = tuple[int, bytes, bytes | None]
"""(timestamp, key, value) of a changelog record."""


Found: TypeAlias = tuple[bytes, int, int | None]
"""(value, when it begins, when it ends or None for the latest of its key) of a version."""


class VersionedRows:
    """The rows of one versioned store.

    One worker writes. Other threads may call `latest_row`, `at` and `between`.

    Args:
        rows: where rows are kept; closed with this.
        history_ms: how long a version is kept after its end, in observed time.
        segment_interval_ms: span of a segment.
        expired: hears of a put that came too late.

    Attributes:
        observed_ms: the highest timestamp that was put, -1 before the first; of a store opened
            again the start of its newest segment, until something newer is put.
    """

    def __init__(
        self,
        rows: ExpiringRowStore,
        *,
        history_ms: int,
        segment_interval_ms: int,
        expired: Callable[[], None],
    ) -> None:
        self.rows = rows
        self.observed_ms = _NO_TIME_MS
        self._history_ms = history_ms
        self._interval_ms = segment_interval_ms
        self._expired = expired
        self._oldest_segment = 0
        # Replaced as a whole where it changes, for other threads read it.
        self._segments: tuple[tuple[int, bytes], ...] = ()
        """(number, what its keys begin with) of each live segment, newest first."""
        self._keep_segments(self._stored_segments())
        if self._segments:
            self._observe(self._segments[0][0] * segment_interval_ms)

    def _keep_segments(self, segments: Iterable[int]) -> None:
        ordered = sorted(segments, reverse=True)
        self._segments = tuple((segment, pack_int64(segment)) for segment in ordered)

    def _stored_segments(self) -> Iterator[int]:
        """Yields the segments of a store that is opened again."""
        lower = pack_int64(0)
        while True:
            row = next(iter(self.rows.scan(lower, LATEST_PREFIX)), None)
            if row is None:
                return
            segment: int = _time(row[0])[0]
            yield segment
            lower = pack_int64(segment + 1)

    # -- writing -------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes | None, timestamp: int) -> int:
        """Adds a version, None a deletion.

        Returns:
            When the version ends: the time of the one behind it, `VALID_TO_UNDEFINED` if it is the
            latest, `NOT_PUT` if it came too late.
        """
        if timestamp > self.observed_ms:
            self._observe(timestamp)
        elif timestamp < self.observed_ms - self._history_ms:
            self._expired()
            return NOT_PUT
        return self._put(self.rows, key, value, timestamp)

    def is_expired(self, timestamp: int) -> bool:
        """Tells whether a put of that time comes too late."""
        return timestamp < self.observed_ms - self._history_ms

    def restore(self, records: Iterable[Logged]) -> None:
        """Applies records of a changelog, in its order, straight to the backend.

        The JVM leaves out what is expired at the end of a batch. Here the end is the same as that of
        the store that wrote the changelog, whatever the batches are.
        """
        over = _Overlay(self.rows)
        for timestamp, key, value in records:
            if timestamp > self.observed_ms:
                self._observe(timestamp)
            elif self.is_expired(timestamp):
                continue
            self._put(over, key, value, timestamp)
        oldest = pack_int64(self._oldest_segment)
        self.rows.restore(sorted(change for change in over.changes.items() if change[0] >= oldest))

    def _observe(self, timestamp: int) -> None:
        self.observed_ms = timestamp
        oldest = (timestamp - self._history_ms) // self._interval_ms
        if oldest <= self._oldest_segment:
            return
        self._oldest_segment = oldest
        if self._segments and self._segments[-1][0] < oldest:
            self._segments = tuple(one for one in self._segments if one[0] >= oldest)
            self.rows.expire_below(pack_int64(oldest))

    def _row_at(self, timestamp: int, key: bytes) -> bytes:
        """Returns where the versions of a key stand that end at a time within the history."""
        number = timestamp // self._interval_ms
        for segment, prefix in self._segments:
            if segment == number:
                return prefix + key
        self._keep_segments((number, *(segment for segment, _ in self._segments)))
        return pack_int64(number) + key

    def _put(self, rows: _Rows, key: bytes, value: bytes | None, timestamp: int) -> int:
        get, put = rows.get, rows.put
        latest_key = LATEST_PREFIX + key
        latest = get(latest_key)
        ends: int | None = None
        if latest is not None:
            latest_ms: int = _time(latest)[0]
            if timestamp >= latest_ms:
                if timestamp > latest_ms:
                    row_key = self._row_at(timestamp, key)
                    row, old = get(row_key), latest[_PREFIX_BYTES:]
                    put(row_key, _with_latest(row, latest_ms, timestamp, old))
                put(latest_key, None if value is None else pack_int64(timestamp) + value)
                return VALID_TO_UNDEFINED
            ends = latest_ms
        return self._put_older(rows, key, value, timestamp, ends)

    def _put_older(
        self, rows: _Rows, key: bytes, value: bytes | None, timestamp: int, ends: int | None
    ) -> int:
        """Puts a version that does not take the place of a latest one.

        Segments are looked through from the newest down.

        Args:
            rows: what is read and written.
            key: the key.
            value: the value.
            timestamp: its time.
            ends: when it ends, by what was found so far; None where nothing is newer.
        """
        interval = self._interval_ms
        lowest = timestamp // interval
        for segment, prefix in self._segments:
            if segment < lowest:
                break
            if ends is not None and segment > ends // interval:
                continue  # older versions ended by then
            row_key = prefix + key
            row = rows.get(row_key)
            if row is None:
                continue
            next_ms, first_ms = bounds(row)
            if next_ms <= timestamp:
                break  # this segment and all older ones end before
            if first_ms <= timestamp:
                return self._put_between(rows, row_key, row, value, timestamp)
            ends = first_ms
        if ends is not None:
            # The version ends where another begins, and stands in the segment of that time.
            row_key = self._row_at(ends, key)
            row = rows.get(row_key)
            if row is None or bounds(row)[0] <= timestamp:
                rows.put(row_key, _with_latest(row, timestamp, ends, value))
            else:
                rows.put(row_key, with_earliest(row, timestamp, value))
            return ends
        if value is None:
            self._put_deletion(rows, key, timestamp)
        else:
            rows.put(LATEST_PREFIX + key, pack_int64(timestamp) + value)
        return VALID_TO_UNDEFINED

    def _put_between(
        self, rows: _Rows, row_key: bytes, row: bytes, value: bytes | None, timestamp: int
    ) -> int:
        """Puts a version into a row that has versions before and after it."""
        valid_from, valid_to, before = find(row, timestamp)
        if valid_from == timestamp:
            rows.put(row_key, with_replaced(row, timestamp, timestamp, value))
            return valid_to
        older_key = self._row_at(timestamp, row_key[_PREFIX_BYTES:])
        if older_key == row_key:
            rows.put(row_key, with_inserted(row, timestamp, value))
            return valid_to
        # The version before now ends in an older segment. It goes there first.
        older = rows.get(older_key)
        rows.put(older_key, _with_latest(older, valid_from, timestamp, before))
        rows.put(row_key, with_replaced(row, valid_from, timestamp, value))
        return valid_to

    def _put_deletion(self, rows: _Rows, key: bytes, timestamp: int) -> None:
        """Puts a deletion of a key that has no latest version, behind all others."""
        row_key = self._row_at(timestamp, key)
        row = rows.get(row_key)
        if row is None:
            rows.put(row_key, new_row(None, timestamp, timestamp))
            return
        ended_ms = bounds(row)[0]
        if ended_ms != timestamp:
            rows.put(row_key, with_latest(row, ended_ms, timestamp, None))

    # -- reading -------------------------------------------------------------------------

    def latest_row(self, key: bytes) -> bytes | None:
        """Reads the latest version: `timestamp(8) ‖ value`, None where there is none."""
        return self.rows.get(LATEST_PREFIX + key)

    def at(self, key: bytes, timestamp: int) -> Found | None:
        """Reads the version that is valid at a time, None where there is none."""
        get, interval = self.rows.get, self._interval_ms
        latest = get(LATEST_PREFIX + key)
        segments = self._segments  # not before: what was the latest may be in one of them by now
        # The newest segment that may have the version: those before a version ended by its time.
        highest = segments[0][0] if segments else -1
        if latest is not None:
            latest_ms: int = _time(latest)[0]
            if latest_ms <= timestamp:
                return latest[_PREFIX_BYTES:], latest_ms, None
            highest = latest_ms // interval
        if timestamp < self.observed_ms - self._history_ms:
            return None
        lowest = timestamp // interval
        for segment, prefix in segments:
            if segment < lowest:
                return None
            if segment > highest:
                continue
            row = get(prefix + key)
            if row is None:
                continue
            next_ms, first_ms = bounds(row)
            if next_ms <= timestamp:
                return None
            if first_ms <= timestamp:
                valid_from, valid_to, value = find(row, timestamp)
                return None if value is None else (value, valid_from, valid_to)
            highest = first_ms // interval
        return None

    def between(self, key: bytes, from_ms: int, to_ms: int) -> list[Found]:
        """Reads the versions that are valid at some time from `from_ms` to `to_ms`, newest first.

        Both ends are included. Where the history is over at `to_ms`, only the latest one is found.
        """
        found: list[Found] = []
        latest = self.rows.get(LATEST_PREFIX + key)
        segments = self._segments
        oldest: int | None = None
        if latest is not None:
            oldest = _time(latest)[0]
            if oldest <= to_ms:
                found.append((latest[_PREFIX_BYTES:], oldest, None))
        if to_ms < self.observed_ms - self._history_ms:
            segments = ()
        for _, prefix in segments:
            row = self.rows.get(prefix + key)
            for valid_from, valid_to, value in () if row is None else versions_of(row):
                if oldest is not None and valid_from >= oldest:
                    continue  # put or moved since the rows before were read
                oldest = valid_from
                if value is not None and valid_from <= to_ms and valid_to > from_ms:
                    found.append((value, valid_from, valid_to))
        return found

    def latest(
        self, lower: bytes | None, upper: bytes | None, *, reverse: bool, shared: bool
    ) -> Iterator[Row]:
        """Scans keys and `timestamp(8) ‖ value` of the latest versions in [lower, upper)."""
        scan = self.rows.snapshot if shared else self.rows.scan
        first = LATEST_PREFIX + (lower or b"")
        last = None if upper is None else LATEST_PREFIX + upper
        for row_key, row in scan(first, last, reverse):
            yield row_key[_PREFIX_BYTES:], row

    def segments(self) -> Iterator[tuple[int, list[Row]]]:
        """Yields number and rows of each live segment, oldest first; for test drivers."""
        for segment, prefix in reversed(self._segments):
            rows = self.rows.scan(prefix, pack_int64(segment + 1))
            yield segment, [(row_key[_PREFIX_BYTES:], row) for row_key, row in rows]


def _with_latest(row: bytes | None, valid_from: int, valid_to: int, value: bytes | None) -> bytes:
    """Returns the row of a key with one more version on top, a new row where there was none."""
    if row is None:
        return new_row(value, valid_from, valid_to)
    return with_latest(row, valid_from, valid_to, value)


class _Overlay:
    """Rows with changes over them that are not written yet.

    Attributes:
        changes: what was put.
    """

    def __init__(self, rows: ExpiringRowStore) -> None:
        self.changes: dict[bytes, bytes | None] = {}
        self.put: Callable[[bytes, bytes | None], None] = self.changes.__setitem__
        self._below = rows.get

    def get(self, key: bytes) -> bytes | None:
        """Reads a row."""
        return self.changes[key] if key in self.changes else self._below(key)


_Rows: TypeAlias = ExpiringRowStore | _Overlay
