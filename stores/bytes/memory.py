"""A byte store in memory.

Owns the rows, their order, and the lock between the writer and the readers of other threads. It
must not know what its bytes mean.

The rows are one dict; `get` uses only that. Their order is a sorted list of the keys. The first
scan makes this list, and later writes maintain it, so stores without scans do not pay for it.

A scan reads the live rows, one chunk at a time under the lock. A short scan needs only the chunk
that is read when it is opened. Before a write changes rows, it saves their old values for the open
scans. So a scan costs the writer in proportion to the rows that are written meanwhile. Two other
designs were measured. Copying the range when a scan is opened stops the writer for 0.7 µs per row.
Sorted runs that are copied when they change make a batch of 1,000 scattered rows cost 14 ms instead
of 0.2 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final
from weakref import WeakSet

from sortedcontainers import SortedList

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    Row,
    Sync,
    first_key_after,
    settle,
)
from thalweg.stores.bytes.moment import Moment, MomentView, between
from thalweg.stores.errors import StoreClosedError

_FIRST_CHUNK_COUNT: Final = 16
"""Rows a scan reads when it is opened: what most scans of windows and prefixes need."""

_CHUNK_COUNT: Final = 256
"""Rows a scan reads at a time after that: some 50 µs under the lock."""


class _Rows(dict[bytes, bytes | None]):
    """The rows by key; None, while a batch is being applied, is a row it deletes.

    Absence is answered by `__missing__`. So a `get` that finds something is nothing but the
    C function `dict.__getitem__`, and yet a closed store, which has no rows, refuses: whoever
    bound `get` earlier must hear of it too.
    """

    __slots__ = ("is_open", "name")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.is_open = True

    def __missing__(self, _key: bytes) -> None:
        self.check_open()

    def check_open(self) -> None:
        if not self.is_open:
            message = f"store '{self.name}' is closed; ask the application for it again"
            raise StoreClosedError(message)


class _View:
    """What an open scan has still to read, as it was when the scan was opened.

    All calls are made under the store's lock.

    Args:
        keys: the store's keys in order.
        rows: the store's rows.
        lower: where the rest begins, None for the first key.
        upper: where it ends, exclusive; None for no end.
        reverse: whether the scan falls.
    """

    __slots__ = (
        "__weakref__",
        "_before",
        "_keys",
        "_lower",
        "_reverse",
        "_rows",
        "_saved",
        "_upper",
        "is_done",
    )

    def __init__(
        self,
        keys: SortedList[bytes],
        rows: _Rows,
        lower: bytes | None,
        upper: bytes | None,
        reverse: bool,
    ) -> None:
        self._keys = keys
        self._rows = rows
        self._lower = lower
        self._upper = upper
        self._reverse = reverse
        # Values of what changed since, None for what was not there; and its keys in order.
        self._before: dict[bytes, bytes | None] = {}
        self._saved: SortedList[bytes] | None = None
        self.is_done = False

    def save(self, changed: Iterable[bytes]) -> None:
        """Saves the rows that are about to change."""
        if self.is_done:
            return
        lower, upper, before, find = self._lower, self._upper, self._before, self._rows.get
        for key in changed:
            if (lower is None or key >= lower) and (upper is None or key < upper):
                before.setdefault(key, find(key))

    def read(self) -> list[Row]:
        """Reads the next rows; none when there are no more."""
        found: list[Row] = []
        while not (found or self.is_done):
            lower, upper, reverse = self._lower, self._upper, self._reverse
            live = list(islice(between(self._keys, lower, upper, reverse), _CHUNK_COUNT))
            if len(live) < _CHUNK_COUNT:
                self.is_done = True
            elif reverse:
                self._upper = lower = live[-1]
            else:
                self._lower = upper = first_key_after(live[-1])
            if self._before:
                saved = between(self._saved_keys(), lower, upper)
                found = self._as_before(sorted({*live, *saved}, reverse=reverse))
            else:
                found = _rows_of(live, self._rows)
        return found

    def _saved_keys(self) -> SortedList[bytes]:
        saved, before = self._saved, self._before
        if saved is None:
            saved = self._saved = SortedList(before)
        elif len(saved) < len(before):
            # A dict keeps the order of insertion: what is not in `saved` yet are its last.
            saved.update(list(islice(reversed(before), len(before) - len(saved))))
        return saved

    def _as_before(self, keys: list[bytes]) -> list[Row]:
        before, rows = self._before, self._rows
        found: list[Row] = []
        for key in keys:
            value = before[key] if key in before else rows[key]
            if value is not None:
                found.append((key, value))
        return found


def _rows_of(keys: list[bytes], rows: _Rows) -> list[Row]:
    # Under the lock no batch is half applied, so no value is None.
    return list(zip(keys, map(rows.__getitem__, keys), strict=True))  # type: ignore[arg-type]


class MemoryByteStore(ByteStore):
    """An ordered map that dies with the process.

    A write is atomic for readers of other threads because one `dict.update` applies it, which
    the interpreter does not interrupt.

    Args:
        name: the store's name.
    """

    def __init__(self, name: str) -> None:
        self._rows = _Rows(name)
        self._lock = threading.Lock()
        self._keys: SortedList[bytes] | None = None
        self._views: WeakSet[_View] = WeakSet()
        self._moments: WeakSet[Moment] = WeakSet()
        # The hottest read of all: no Python frame for rows that are there.
        self.get = self._rows.__getitem__  # type: ignore[method-assign, assignment]

    @property
    def name(self) -> str:
        """The store's name, for messages."""
        return self._rows.name

    @property
    def persistent(self) -> bool:
        """Never: rows die with the process."""
        return False

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._rows.is_open

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        return self._rows[key]

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        rows, view = self._rows, None
        count = _FIRST_CHUNK_COUNT if limit is None else min(limit, _FIRST_CHUNK_COUNT)
        with self._lock:
            rows.check_open()
            keys = self._sorted_keys()
            found = list(islice(between(keys, lower, upper, reverse), count))
            first = _rows_of(found, rows)
            if len(found) == _FIRST_CHUNK_COUNT and limit != _FIRST_CHUNK_COUNT:
                if reverse:
                    upper = found[-1]
                else:
                    lower = first_key_after(found[-1])
                view = _View(keys, rows, lower, upper, reverse)
                self._views.add(view)
        scan = self._scan(first, view)
        return scan if limit is None else islice(scan, limit)

    def _scan(self, rows: list[Row], view: _View | None) -> Generator[Row, None, None]:
        yield from rows
        while view is not None and not view.is_done:
            with self._lock:
                self._rows.check_open()
                rows = view.read()
            yield from rows
        self._rows.check_open()

    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        with self._lock:
            self._rows.check_open()
            moment = Moment(self._sorted_keys(), self._rows)
            self._moments.add(moment)
        return MomentView(self._lock, moment)

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins."""
        ranges, batch = settle(changes)
        rows = self._rows
        with self._lock:
            rows.check_open()
            if ranges:
                keys = self._sorted_keys()
                deleted = dict[bytes, bytes | None]()
                for lower, upper in ((each.lower, each.upper) for each in ranges):
                    end = len(keys) if upper is None else keys.bisect_left(upper)
                    deleted.update(dict.fromkeys(keys[keys.bisect_left(lower) : end]))
                batch = deleted | batch
            self._write(batch)

    def _write(self, batch: dict[bytes, bytes | None]) -> None:
        """Applies the last change of each key; under the lock."""
        rows = self._rows
        deleted = [key for key, value in batch.items() if value is None]
        for view in self._views:
            view.save(batch)
        for moment in self._moments:
            moment.save(batch)
        keys = self._keys
        if keys is not None:
            keys.update([key for key in batch if key not in rows])
            # Rows deleted that were not there are in `keys` by now, like all others.
            for key in deleted:
                keys.remove(key)
        rows.update(batch)
        for key in deleted:
            del rows[key]

    def approximate_count(self) -> int:
        """Counts the rows."""
        with self._lock:
            self._rows.check_open()
            return len(self._rows)

    def flush(self) -> None:
        """Does nothing: memory is as far as rows get."""
        self._rows.check_open()

    def close(self) -> None:
        """Forgets every row. Closing again does nothing. Open scans end with an error."""
        with self._lock:
            self._rows.is_open = False
            self._rows.clear()
            self._keys = None

    def _sorted_keys(self) -> SortedList[bytes]:
        if self._keys is None:
            self._keys = SortedList(self._rows)
        return self._keys
