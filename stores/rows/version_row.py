"""A row of a versioned store's segment: the versions of one key that ended in one span of time.

Owns the bytes of such a row and every change of them. It must not know segments, stores or serdes.
The layout is the JVM's; all integers are big endian and signed::

    next(8) ‖ first(8) ‖ {timestamp(8) ‖ size(4)}, newest first ‖ values, oldest first

`next` is where the newest version of the row ends, `first` is where the oldest begins. A version begins at
its timestamp and ends where the one before it in the list begins. A size of -1 is a deletion. The number of
versions is not written: the list ends with the timestamp `first`.

A deletion of a key without versions has no end. Its row is called degenerate: `next` and `first`
are both the deletion's timestamp.

Source: JVM `RocksDBVersionedStoreSegmentValueFormatter`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

_head: Final = Struct(">qq")
_entry: Final = Struct(">qi")
_int64: Final = Struct(">q")
_NEXT_BYTES: Final = 8
_HEAD_BYTES: Final = 16
_DELETED: Final = -1

bounds: Final = _head.unpack_from
"""Reads (`next`, `first`) of a row."""


class Version(NamedTuple):
    """One version of a key.

    Attributes:
        valid_from: when it begins, its own timestamp.
        valid_to: when it ends, which it does not include.
        value: its value, None for a deletion.
    """

    valid_from: int
    valid_to: int
    value: bytes | None


def new_row(value: bytes | None, valid_from: int, valid_to: int) -> bytes:
    """Lays out a row of one version; a deletion may begin and end at one time."""
    if value is None:
        return _head.pack(valid_to, valid_from) + _entry.pack(valid_from, _DELETED)
    return _head.pack(valid_to, valid_from) + _entry.pack(valid_from, len(value)) + value


def versions_of(row: bytes) -> Iterator[Version]:
    """Yields the versions of a row, newest first, deletions among them."""
    valid_to, first = _head.unpack_from(row)
    at, end = _HEAD_BYTES, len(row)
    while True:
        timestamp, size = _entry.unpack_from(row, at)
        if size < 0:
            yield Version(timestamp, valid_to, None)
        else:
            yield Version(timestamp, valid_to, row[end - size : end])
            end -= size
        if timestamp == first:
            return
        valid_to = timestamp
        at += _entry.size


def find(row: bytes, timestamp: int) -> tuple[int, int, bytes | None]:
    """Returns the version that is valid at a time between `first` and `next`.

    It is a plain tuple, as of `Version`: each record of a join as of its time comes here.

    Raises:
        ValueError: the time is not between them.
    """
    valid_to, first = _head.unpack_from(row)
    if not first <= timestamp < valid_to:
        message = f"the row has versions from {first} to {valid_to}, none of {timestamp}"
        raise ValueError(message)
    at, end = _HEAD_BYTES, len(row)
    while True:
        valid_from, size = _entry.unpack_from(row, at)
        if valid_from <= timestamp:
            return valid_from, valid_to, None if size < 0 else row[end - size : end]
        if size > 0:
            end -= size
        valid_to = valid_from
        at += _entry.size


def with_latest(row: bytes, valid_from: int, valid_to: int, value: bytes | None) -> bytes:
    """Adds the newest version of a row.

    Where the row ends before the version begins, the key was deleted in between. Where the row
    ends later, it is cut: an update of two rows was interrupted between them.
    """
    next_ms, first = _head.unpack_from(row)
    if valid_from < next_ms:
        row = _cut(row, valid_from)
        next_ms, first = _head.unpack_from(row)
    if next_ms == first:
        if next_ms == valid_from:
            return new_row(value, valid_from, valid_to)
        row = new_row(None, next_ms, valid_from)
    elif next_ms != valid_from:
        row = _on_top(row, next_ms, valid_from, None)
    return _on_top(row, valid_from, valid_to, value)


def _on_top(row: bytes, timestamp: int, valid_to: int, value: bytes | None) -> bytes:
    """Puts a version in front of the list; the hot path of a versioned store."""
    size = _DELETED if value is None else len(value)
    return b"".join(
        (
            _int64.pack(valid_to),
            row[_NEXT_BYTES:_HEAD_BYTES],
            _entry.pack(timestamp, size),
            row[_HEAD_BYTES:],
            value or b"",
        )
    )


def _cut(row: bytes, timestamp: int) -> bytes:
    """Ends a row at a time; what began then or later is gone."""
    kept = [version for version in versions_of(row) if version.valid_from < timestamp]
    if not kept:
        return new_row(None, timestamp, timestamp)
    return _row(timestamp, [(version.valid_from, version.value) for version in kept])


def with_earliest(row: bytes, timestamp: int, value: bytes | None) -> bytes:
    """Adds the oldest version of a row; it ends where the oldest one so far begins."""
    next_ms, first = _head.unpack_from(row)
    if next_ms == first:
        return new_row(value, timestamp, next_ms)
    return _row(next_ms, [*_listed(row), (timestamp, value)])


def with_inserted(row: bytes, timestamp: int, value: bytes | None) -> bytes:
    """Adds a version at its place: behind the one that is valid at its time."""
    next_ms, _ = _head.unpack_from(row)
    listed = _listed(row)
    place = next(at for at, (valid_from, _) in enumerate(listed) if valid_from <= timestamp)
    return _row(next_ms, [*listed[:place], (timestamp, value), *listed[place:]])


def with_replaced(row: bytes, valid_from: int, timestamp: int, value: bytes | None) -> bytes:
    """Puts a version in the place of the one that begins at `valid_from`."""
    next_ms, _ = _head.unpack_from(row)
    changed = [(timestamp, value) if one[0] == valid_from else one for one in _listed(row)]
    return _row(next_ms, changed)


def _listed(row: bytes) -> list[tuple[int, bytes | None]]:
    return [(version.valid_from, version.value) for version in versions_of(row)]


def _row(next_ms: int, versions: list[tuple[int, bytes | None]]) -> bytes:
    """Lays out a row of versions, which are given newest first."""
    entries = [
        _entry.pack(timestamp, _DELETED if value is None else len(value))
        for timestamp, value in versions
    ]
    values = [value for _, value in reversed(versions) if value]
    return b"".join((_head.pack(next_ms, versions[-1][0]), *entries, *values))
