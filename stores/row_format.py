"""What stands beside the value in a row: nothing, its time, or its time and headers.

Owns the forms of a row, which parts users see, which parts are written to a changelog, and how a
row is made from a changelog record. A kind of store names the form of its rows and needs no
branches for it. This module must not know serdes, nor where rows are kept.

A value is passed together with its time. If the value also has headers, the time is a `Stamp`: an
int with headers. So code that does not use headers need not know of them.

Source: JVM `ValueAndTimestampSerializer`, `ValueTimestampHeadersSerializer`,
`AggregationWithHeadersSerializer`, `TimestampedToHeadersStoreAdapter`,
`PlainToHeadersStoreAdapter`, and the change-logging stores; KIP-258, KIP-1271.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import concat
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from thalweg.stores.api import RestoreRecord, ValueAndTimestamp, ValueTimestampHeaders
from thalweg.stores.formats import TIMESTAMP_BYTES, decode_value_and_timestamp, pack_int64
from thalweg.stores.header_formats import decode_headers, encode_prefix, prefix_length
from thalweg.stores.record import (
    CurrentRecord,
    HeaderList,
    Headers,
    columns_by_key,
    headers_of,
    wrong_timestamp,
)
from thalweg.stores.rows.contract import Change
from thalweg.stores.session_faces import AggregationWithHeaders
from thalweg.stores.updates import Key, Pair

NO_TIMESTAMP: Final = -1
"""The timestamp of a value in a store whose rows have none."""


class Stamp(int):
    """The event time of a value that has headers.

    Attributes:
        headers: the headers; they must not be changed.
    """

    headers: HeaderList

    def __new__(cls, timestamp: int, headers: HeaderList) -> Self:
        """Makes one of a time and headers."""
        stamp = super().__new__(cls, timestamp)
        stamp.headers = headers
        return stamp


def stamped(timestamp: int, headers: HeaderList | None) -> int:
    """Returns a time with headers, or the time alone where there are none."""
    return Stamp(timestamp, headers) if headers else timestamp


def headers_beside(timestamp: int) -> HeaderList | None:
    """Returns the headers that travel with a time, None where there are none."""
    return timestamp.headers if isinstance(timestamp, Stamp) else None


def without_headers(read: Callable[[Key], Pair | None]) -> Callable[[Key], Pair | None]:
    """Returns a read for operators: they make rows of their own, which have no headers."""

    def read_plain(key: Key) -> Pair | None:
        pair = read(key)
        return (pair[0], int(pair[1])) if pair is not None and pair[1].__class__ is Stamp else pair

    return read_plain


class RowFormat:
    """Rows that are the value alone."""

    is_timestamped: ClassVar[bool] = False
    """Whether users see the time of a value."""
    has_headers: ClassVar[bool] = False
    """Whether a value has headers, be it in the changelog only."""
    shows_headers: ClassVar[bool] = False
    """Whether users see the headers of a value."""
    takes_headers_of_record: ClassVar[bool] = False
    """Whether the headers of a value are those of the record that is being processed."""
    forwards_own_headers: ClassVar[bool] = False
    """Whether a cache forwards a change with the headers of its row, not of the last record."""
    cached_bytes: ClassVar[int] = 0
    """How many bytes a cache counts beside a value without headers."""
    dumped_as: ClassVar[str] = "{}"
    """How a dump writes the name of a kind, which tells the form of its rows."""

    def dump_name(self, kind: str) -> str:
        """Returns what a dump calls a kind whose rows have this form."""
        return self.dumped_as.format(kind)

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row, and its time."""
        return row, NO_TIMESTAMP

    def value_of(self, row: bytes) -> bytes:
        """Returns the value of a row."""
        return self.unpack(row)[0]

    def unpacker(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Pair]:
        """Returns what makes a pair of a row.

        Args:
            decode: reads a value.
        """
        unpack = self.unpack

        def pair(row: bytes) -> Pair:
            value, timestamp = unpack(row)
            return decode(value), timestamp

        return pair

    def bytes_beside(self, timestamp: int) -> int:
        """Returns how many bytes a cache counts beside a value."""
        return self.cached_bytes

    def to_user(self, pair: Pair) -> Any:
        """Returns a pair as users see it."""
        return pair[0]

    def from_user(self, store: str, value: Any, current: CurrentRecord) -> Pair:
        """Returns what a user puts as a pair; a value of None deletes.

        Raises:
            TypeError: it is not of the form that such a store takes.
        """
        return value, current.timestamp

    def restored(self, batch: Sequence[RestoreRecord]) -> list[Change]:
        """Returns the rows that records of a changelog stand for, in the order of the log."""
        return [(key, value) for _, key, value, _ in batch if key is not None]

    def restored_by_key(self, batch: Sequence[RestoreRecord]) -> Iterable[Change]:
        """Returns the rows that records of a changelog stand for, best in the order of keys.

        The hot path of restoring: without deletions nothing is done per record in Python.
        """
        _, keys, values = columns_by_key(batch)
        return zip(keys, values, strict=True)


class TimestampedFormat(RowFormat):
    """Rows with the time of their value in front."""

    is_timestamped = True
    cached_bytes = TIMESTAMP_BYTES
    dumped_as = "timestamped-{}"

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return pack_int64(timestamp) + value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row, and its time."""
        return decode_value_and_timestamp(row)

    def to_user(self, pair: Pair) -> Any:
        """Returns a pair as users see it."""
        return ValueAndTimestamp(pair[0], pair[1])

    def from_user(self, store: str, value: Any, current: CurrentRecord) -> Pair:
        """Returns what a user puts as a pair; a value of None deletes.

        Raises:
            TypeError: it is no `ValueAndTimestamp`.
        """
        if value is None:
            return None, current.timestamp
        if not isinstance(value, ValueAndTimestamp):
            message = (
                f"store '{store}' keeps values with their timestamp: put "
                f"{self._wanted}, not a {type(value).__name__}"
            )
            raise TypeError(message)
        if value.value is None:
            return None, current.timestamp
        if value.timestamp.__class__ is not int:
            raise wrong_timestamp(value.timestamp, f"the timestamp of a value in '{store}'")
        return value.value, value.timestamp

    _wanted: ClassVar[str] = "ValueAndTimestamp(value, timestamp_ms)"

    def restored(self, batch: Sequence[RestoreRecord]) -> list[Change]:
        """Returns the rows that records of a changelog stand for, in the order of the log."""
        pack = pack_int64
        return [
            (key, None if value is None else pack(timestamp) + value)
            for timestamp, key, value, _ in batch
            if key is not None
        ]

    def restored_by_key(self, batch: Sequence[RestoreRecord]) -> Iterable[Change]:
        """Returns the rows that records of a changelog stand for, in the order of keys."""
        timestamps, keys, values = columns_by_key(batch)
        times = map(pack_int64, timestamps)
        rows: Any
        # Four times as fast as to look for None; empty values take the long way too.
        if all(values):
            rows = map(concat, times, values)  # type: ignore[arg-type]  # no value is None
        else:
            pairs = zip(times, values, strict=True)
            rows = [None if value is None else time + value for time, value in pairs]
        return zip(keys, rows, strict=True)


class HeadersFormat(TimestampedFormat):
    """Rows with the headers and the time of their value in front."""

    has_headers = True
    shows_headers = True
    cached_bytes = 1 + TIMESTAMP_BYTES
    dumped_as = "timestamped-{}-headers"
    _wanted = "ValueTimestampHeaders(value, timestamp_ms, headers)"

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return encode_prefix(headers_beside(timestamp)) + pack_int64(timestamp) + value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row, and its time with its headers."""
        end = prefix_length(row)
        value, timestamp = decode_value_and_timestamp(row[end:])
        return value, timestamp if end == 1 else Stamp(timestamp, decode_headers(row))

    def bytes_beside(self, timestamp: int) -> int:
        """Returns how many bytes a cache counts beside a value."""
        return len(encode_prefix(headers_beside(timestamp))) + TIMESTAMP_BYTES

    def to_user(self, pair: Pair) -> Any:
        """Returns a pair as users see it."""
        headers = Headers(headers_beside(pair[1]) or ())
        return ValueTimestampHeaders(pair[0], int(pair[1]), headers)

    def from_user(self, store: str, value: Any, current: CurrentRecord) -> Pair:
        """Returns what a user puts as a pair; a value of None deletes, and headers may be left out.

        Raises:
            TypeError: it is neither `ValueTimestampHeaders` nor `ValueAndTimestamp`.
        """
        pair = super().from_user(store, value, current)
        if pair[0] is None or not isinstance(value, ValueTimestampHeaders):
            return pair
        return pair[0], stamped(pair[1], list(value.headers))

    def restored(self, batch: Sequence[RestoreRecord]) -> list[Change]:
        """Returns the rows that records of a changelog stand for, in the order of the log."""
        pack = self.pack
        return [
            (key, None if value is None else pack(value, stamped(timestamp, headers_of(origin))))
            for timestamp, key, value, origin in batch
            if key is not None
        ]

    def restored_by_key(self, batch: Sequence[RestoreRecord]) -> Iterable[Change]:
        """Returns as `restored`: columns have no headers."""
        return self.restored(batch)


class TimestampedUnderHeaders(HeadersFormat):
    """Rows with a time, of a store whose values have headers: these reach the changelog only."""

    dumped_as = "timestamped-{}"

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return pack_int64(timestamp) + value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row, and its time."""
        return decode_value_and_timestamp(row)


class PlainUnderHeaders(HeadersFormat):
    """Rows of the value alone, of a store whose values have headers: the changelog has all."""

    dumped_as = "{}"

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row; its time is not known."""
        return row, NO_TIMESTAMP


class SessionHeadersFormat(RowFormat):
    """Rows with the headers of their value in front; the time of a session is in its key."""

    has_headers = True
    shows_headers = True
    forwards_own_headers = True
    cached_bytes = 1
    dumped_as = "{}-headers"

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return encode_prefix(headers_beside(timestamp)) + value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row, and what stands for its time, with its headers."""
        end = prefix_length(row)
        return row[end:], stamped(NO_TIMESTAMP, decode_headers(row) if end > 1 else None)

    def bytes_beside(self, timestamp: int) -> int:
        """Returns how many bytes a cache counts beside a value."""
        return len(encode_prefix(headers_beside(timestamp)))

    def to_user(self, pair: Pair) -> Any:
        """Returns a pair as users see it."""
        return AggregationWithHeaders(pair[0], Headers(headers_beside(pair[1]) or ()))

    def from_user(self, store: str, value: Any, current: CurrentRecord) -> Pair:
        """Returns what a user puts as a pair; a value of None deletes.

        Raises:
            TypeError: it is no `AggregationWithHeaders`.
        """
        if value is None:
            return None, current.timestamp
        if not isinstance(value, AggregationWithHeaders):
            message = (
                f"store '{store}' keeps values with their headers: put "
                f"AggregationWithHeaders(aggregation, headers), not a {type(value).__name__}"
            )
            raise TypeError(message)
        return value.aggregation, stamped(current.timestamp, list(value.headers))

    def restored(self, batch: Sequence[RestoreRecord]) -> list[Change]:
        """Returns the rows that records of a changelog stand for, in the order of the log."""
        return [
            (key, None if value is None else encode_prefix(headers_of(origin)) + value)
            for _, key, value, origin in batch
            if key is not None
        ]

    def restored_by_key(self, batch: Sequence[RestoreRecord]) -> Iterable[Change]:
        """Returns as `restored`: columns have no headers."""
        return self.restored(batch)


class PlainSessionUnderHeaders(SessionHeadersFormat):
    """Rows of the value alone, of sessions with headers: these reach the changelog only."""

    dumped_as = "{}"

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return value

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row, and what stands for its time."""
        return row, NO_TIMESTAMP

    def restored(self, batch: Sequence[RestoreRecord]) -> list[Change]:
        """Returns the rows that records of a changelog stand for, in the order of the log."""
        return [(key, value) for _, key, value, _ in batch if key is not None]


class _OfRecords(RowFormat):
    """Values with the headers of the record in hand, of which users see the value alone."""

    is_timestamped = False
    shows_headers = False
    takes_headers_of_record = True

    def unpack(self, row: bytes) -> tuple[bytes, int]:
        """Returns the value of a row; users see no time."""
        return super().unpack(row)[0], NO_TIMESTAMP

    def to_user(self, pair: Pair) -> Any:
        """Returns a pair as users see it."""
        return pair[0]

    def from_user(self, store: str, value: Any, current: CurrentRecord) -> Pair:
        """Returns what a user puts as a pair; a value of None deletes."""
        return value, current.timestamp


class RecordsWithHeaders(_OfRecords, HeadersFormat):
    """Rows of records that a join keeps, with headers and time in front."""


class PlainRecords(_OfRecords, PlainUnderHeaders):
    """Rows of records that a join keeps, of the value alone."""


PLAIN: Final = RowFormat()
TIMESTAMPED: Final = TimestampedFormat()
HEADERS: Final = HeadersFormat()
TIMESTAMPED_UNDER_HEADERS: Final = TimestampedUnderHeaders()
PLAIN_UNDER_HEADERS: Final = PlainUnderHeaders()
SESSION_HEADERS: Final = SessionHeadersFormat()
PLAIN_SESSION_UNDER_HEADERS: Final = PlainSessionUnderHeaders()
_RECORDS_WITH_HEADERS: Final = RecordsWithHeaders()
_PLAIN_RECORDS: Final = PlainRecords()

HeaderRows: TypeAlias = Literal["headers", "timestamped", "plain"]
"""What the rows of a store whose values have headers keep beside a value: all of it, its time, or
nothing."""

_UNDER_HEADERS: Final[Mapping[HeaderRows, RowFormat]] = {
    "headers": HEADERS,
    "timestamped": TIMESTAMPED_UNDER_HEADERS,
    "plain": PLAIN_UNDER_HEADERS,
}


def format_of(is_timestamped: bool, header_rows: HeaderRows | None) -> RowFormat:
    """Returns the form of the rows of a store.

    Args:
        is_timestamped: whether users see the time of a value.
        header_rows: what rows keep where users see its headers; None where they do not.
    """
    if header_rows is not None:
        return _UNDER_HEADERS[header_rows]
    return TIMESTAMPED if is_timestamped else PLAIN


def format_of_records(header_rows: HeaderRows | None) -> RowFormat:
    """Returns the form of the rows of a join's store: headers in front, or the value alone."""
    return _RECORDS_WITH_HEADERS if header_rows == "headers" else _PLAIN_RECORDS


def format_of_sessions(has_headers: bool, is_time_first: bool) -> RowFormat:
    """Returns the form of the rows of a session store.

    Args:
        has_headers: whether values have headers.
        is_time_first: whether rows stand by time first.
    """
    if not has_headers:
        return PLAIN
    return PLAIN_SESSION_UNDER_HEADERS if is_time_first else SESSION_HEADERS
