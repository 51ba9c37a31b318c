"""Views of rows that have no snapshots of their own.

Owns the state of a view: the old values of the rows that were changed since it was opened. A writer
first calls `Moment.save`. So opening a view costs nothing, and the writer pays in proportion to
what it writes. It must not know where the rows are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from heapq import merge
from itertools import islice
from typing import Any, Final, Protocol

from sortedcontainers import SortedList

from thalweg.stores.bytes.contract import ByteView, Row, first_chunk, first_key_after
from thalweg.stores.errors import StoreClosedError

_FIRST_CHUNK_COUNT: Final = 16
"""Rows a scan reads at first: what most scans of prefixes need."""

_CHUNK_COUNT: Final = 256
"""Rows a scan reads at a time after that, under the lock."""


class LiveRows(Protocol):
    """The rows as they are now."""

    @property
    def name(self) -> str:
        """The store's name."""

    def get(self, key: bytes, /) -> bytes | None:
        """Returns the value of a key, None where there is none."""

    def check_open(self) -> None:
        """Raises `StoreClosedError` when the store was closed."""


def between(
    keys: SortedList[bytes], lower: bytes | None, upper: bytes | None, reverse: bool = False
) -> Iterator[bytes]:
    """Returns the keys in [lower, upper), in falling order with `reverse`."""
    found: Iterator[bytes] = keys.irange(lower, upper, inclusive=(True, False), reverse=reverse)
    return found


class Moment:
    """All rows of a store as they were when a view was opened.

    All calls are made under the store's lock.

    Args:
        keys: the store's keys in order.
        rows: the store's rows.
    """

    __slots__ = ("__weakref__", "_before", "_keys", "_rows", "_saved", "name")

    def __init__(self, keys: SortedList[bytes], rows: LiveRows) -> None:
        self._keys = keys
        self._rows = rows
        # Values of what changed since, None for what was not there; and its keys in order.
        self._before: dict[bytes, bytes | None] = {}
        self._saved: SortedList[bytes] = SortedList()
        self.name = rows.name

    def save(self, changed: Iterable[bytes]) -> None:
        """Saves the rows that are about to change."""
        before, find = self._before, self._rows.get
        for key in changed:
            if key not in before:
                before[key] = find(key)
                self._saved.add(key)

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key then."""
        self._rows.check_open()
        return self._before[key] if key in self._before else self._rows.get(key)

    def read(
        self, lower: bytes | None, upper: bytes | None, reverse: bool, count: int
    ) -> list[Row]:
        """Returns the first rows of a range then, fewer than `count` only where it ends."""
        self._rows.check_open()
        before, find = self._before, self._rows.get
        live = (key for key in between(self._keys, lower, upper, reverse) if key not in before)
        saved = (
            key for key in between(self._saved, lower, upper, reverse) if before[key] is not None
        )
        keys = islice(merge(live, saved, reverse=reverse), count)
        found: list[Any] = [(key, before[key] if key in before else find(key)) for key in keys]
        return found


class MomentView(ByteView):
    """A view that reads a moment.

    Args:
        lock: the store's lock, under which the moment is read.
        moment: what the store saves changed rows for, as long as this view holds it.
    """

    def __init__(self, lock: AbstractContextManager[Any], moment: Moment) -> None:
        self._lock = lock
        self._moment: Moment | None = moment
        self._name = moment.name

    def get(self, key: bytes) -> bytes | None:
        """Returns the value a key had then, None where there was none."""
        with self._lock:
            return self._open_moment().get(key)

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans the rows there were then."""
        with self._lock:
            self._open_moment().read(lower, upper, reverse, 0)
        scan = self._scan(lower, upper, reverse, first_chunk(limit, _FIRST_CHUNK_COUNT))
        return scan if limit is None else islice(scan, limit)

    def _scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool, count: int
    ) -> Generator[Row, None, None]:
        while True:
            with self._lock:
                found = self._open_moment().read(lower, upper, reverse, count)
            yield from found
            if len(found) < count:
                return
            if reverse:
                upper = found[-1][0]
            else:
                lower = first_key_after(found[-1][0])
            count = _CHUNK_COUNT

    def _open_moment(self) -> Moment:
        if self._moment is None:
            message = f"a view of store '{self._name}' is closed; open another one"
            raise StoreClosedError(message)
        return self._moment

    def close(self) -> None:
        """Lets go of the moment. Closing again does nothing."""
        with self._lock:
            self._moment = None
