"""Change logging: what a store's write puts into its changelog.

Owns which key, value, timestamp and headers a change is logged with. It must not know
serdes, caches or where the log goes; it gets the function that appends.

The row below is written first, then the change is logged, as in the JVM. So records that the store
below logs because of the write (an LRU store logs its evictions) come before the record of the
write itself. If a change cannot be logged, the task ends before the change is committed.

The timestamp is that of the value if the rows have one, else that of the current record. A deletion
is logged with the timestamp of the record that deletes. Headers are logged only if the rows have
headers: those of the value, or of the record that deletes. Stores of joins log the headers of the
current record, as the JVM does since 4.3.

Source: JVM `ChangeLoggingKeyValueBytesStore`, `ChangeLoggingTimestampedKeyValueBytesStore`,
`ChangeLoggingWindowBytesStore`, `ChangeLoggingTimestampedWindowBytesStore`,
`ProcessorContextImpl.logChange`; the golden files' changelog records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from thalweg.stores.api import Log
from thalweg.stores.formats import pack_int64, pack_window_suffix
from thalweg.stores.record import CurrentRecord, HeaderList, headers_of
from thalweg.stores.row_format import RowFormat, headers_beside, stamped
from thalweg.stores.rows.timed import SEGMENT_BYTES

Write: TypeAlias = Callable[[Any, bytes, bytes | None, int], None]
"""Writes a row: (entry key, stored key, value or None to delete, timestamp).

The entry key is what a cache finds the row by; of window and session stores its second part is
the time of the row. Other kinds do not look at it.
"""

DuplicateWrite: TypeAlias = Callable[[bytes, int, bytes | None, int], None]
"""Writes one more row of a window: (encoded key, window start in ms, value, timestamp)."""

_LARGEST_SEQNUM: Final = 2**31 - 1


def key_value_write(
    put: Callable[[bytes, bytes | None], None],
    log: Log | None,
    current: CurrentRecord,
    *,
    row_format: RowFormat,
) -> Write:
    """Returns the write of a key-value store.

    Args:
        put: writes a row below.
        log: appends to the changelog; None where the store has none.
        current: tells the time of the record being processed.
        row_format: what stands beside the value in a row.
    """
    if row_format.has_headers:
        return _write_with_headers(put, log, current, row_format)
    if row_format.is_timestamped:

        def write_timestamped(
            _entry_key: Any, key: bytes, value: bytes | None, timestamp: int
        ) -> None:
            put(key, None if value is None else pack_int64(timestamp) + value)

        if log is None:
            return write_timestamped

        def log_timestamped(
            _entry_key: Any, key: bytes, value: bytes | None, timestamp: int
        ) -> None:
            put(key, None if value is None else pack_int64(timestamp) + value)
            log(key, value, timestamp, None)

        return log_timestamped

    if log is None:

        def write_plain(_entry_key: Any, key: bytes, value: bytes | None, _timestamp: int) -> None:
            put(key, value)

        return write_plain

    def log_plain(_entry_key: Any, key: bytes, value: bytes | None, _timestamp: int) -> None:
        put(key, value)
        log(key, value, current.timestamp, None)

    return log_plain


def _write_with_headers(
    put: Callable[[bytes, bytes | None], None],
    log: Log | None,
    current: CurrentRecord,
    row_format: RowFormat,
) -> Write:
    """Returns the write of a key-value store whose values have headers."""
    pack = row_format.pack

    def write(_entry_key: Any, key: bytes, value: bytes | None, timestamp: int) -> None:
        put(key, None if value is None else pack(value, timestamp))

    if log is None:
        return write

    def log_with_headers(_entry_key: Any, key: bytes, value: bytes | None, timestamp: int) -> None:
        put(key, None if value is None else pack(value, timestamp))
        log(key, value, int(timestamp), logged_headers(value, timestamp, current))

    return log_with_headers


def logged_headers(
    value: bytes | None, timestamp: int, current: CurrentRecord
) -> HeaderList | None:
    """Returns the headers with which a row is logged that has some.

    Args:
        value: the value. A deletion has the headers of the record that deletes.
        timestamp: its time, with its headers.
        current: the record being processed.
    """
    return headers_of(current.origin) if value is None else headers_beside(timestamp)


def deletion_headers(row_format: RowFormat, current: CurrentRecord) -> HeaderList | None:
    """Returns the headers with which a deletion is logged: of the record, if rows have some."""
    return headers_of(current.origin) if row_format.has_headers else None


def log_evictions(log: Log | None, current: CurrentRecord) -> Callable[[bytes], None] | None:
    """Returns what logs the rows a plain LRU store forgets, None where nothing is logged."""
    if log is None:
        return None

    def evicted(key: bytes) -> None:
        log(key, None, current.timestamp, None)

    return evicted


def window_write(
    put: Callable[[bytes, int, bytes | None], None],
    log: Log | None,
    current: CurrentRecord,
    *,
    row_format: RowFormat,
) -> Write:
    """Returns the write of a window store without duplicates, or of a session store.

    A write is logged even if the store below drops it because it came too late.

    Args:
        put: writes a row below: (row key as in `stores.rows`, time of the row, value).
        log: appends to the changelog; None where the store has none.
        current: tells the time of the record being processed.
        row_format: what stands beside the value in a row.
    """
    pack, timestamped = row_format.pack, row_format.is_timestamped

    def put_row(entry_key: Any, row_key: bytes, value: bytes | None, timestamp: int) -> None:
        put(row_key, entry_key[1], None if value is None else pack(value, timestamp))

    if log is None:
        return put_row

    if row_format.has_headers:

        def log_with_headers(
            entry_key: Any, row_key: bytes, value: bytes | None, timestamp: int
        ) -> None:
            put(row_key, entry_key[1], None if value is None else pack(value, timestamp))
            headers = logged_headers(value, timestamp, current)
            time = int(timestamp) if timestamped else current.timestamp
            log(row_key[SEGMENT_BYTES:], value, time, headers)

        return log_with_headers

    def log_row(entry_key: Any, row_key: bytes, value: bytes | None, timestamp: int) -> None:
        start_ms = entry_key[1]
        if timestamped:
            put(row_key, start_ms, None if value is None else pack_int64(timestamp) + value)
            log(row_key[SEGMENT_BYTES:], value, timestamp, None)
        else:
            put(row_key, start_ms, value)
            log(row_key[SEGMENT_BYTES:], value, current.timestamp, None)

    return log_row


def key_first(log: Log, logged_key: Callable[[bytes], bytes]) -> Log:
    """Returns the log of a store whose rows stand by time first: it is logged by key first.

    Args:
        log: appends to the changelog.
        logged_key: turns what a row stands under, without its segment, into what it is logged
            under.
    """
    return lambda key, value, timestamp, headers: log(logged_key(key), value, timestamp, headers)


def duplicates_write(
    put: Callable[[bytes, int, bytes | None], int],
    log: Log | None,
    current: CurrentRecord,
    *,
    row_format: RowFormat,
    is_taken: Callable[[bytes, int, int], bool],
) -> DuplicateWrite:
    """Returns the write of a window store that keeps duplicates, by the user's key.

    They are numbered in the changelog apart from the store: deletions, which do nothing
    there, take a number here.

    Args:
        put: writes a window row below and returns its seqnum.
        log: appends to the changelog; None where the store has none.
        current: tells the headers of the record being processed.
        row_format: what stands beside the value in a row.
        is_taken: tells whether a row of an earlier run has a key, start and number.
    """
    seqnum = 0
    pack, has_headers = row_format.pack, row_format.has_headers
    is_of_record = row_format.takes_headers_of_record

    def write(key: bytes, start_ms: int, value: bytes | None, timestamp: int) -> None:
        nonlocal seqnum
        headers, logged_at = None, timestamp
        if is_of_record:
            headers = headers_of(current.origin)
            timestamp = stamped(timestamp, headers)
        elif has_headers:
            headers, logged_at = logged_headers(value, timestamp, current), int(timestamp)
        number = put(key, start_ms, None if value is None else pack(value, timestamp))
        if log is not None:
            # Never behind the store's own number, which goes on from what was restored.
            seqnum = seqnum + 1 & _LARGEST_SEQNUM
            if number > seqnum:
                seqnum = number
            if value is None or number != seqnum:
                # Numbers begin anew with each run, and must not hit what an earlier one has logged.
                while is_taken(key, start_ms, seqnum):
                    seqnum = seqnum + 1 & _LARGEST_SEQNUM
            log(key + pack_window_suffix(start_ms, seqnum), value, logged_at, headers)

    return write
