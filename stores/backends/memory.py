"""A byte store in memory, ordered by sortedcontainers.

Owns the rows and the lock between the writer and readers of other threads. It must not know
what its bytes mean.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from sortedcontainers import SortedDict

from stores.backends.contract import ByteStore, Change, Row
from stores.errors import StoreClosedError


class MemoryByteStore(ByteStore):
    """An ordered map that dies with the process.

    Args:
        name: the store's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_open = True
        self._rows: SortedDict[bytes, bytes] = SortedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The store's name, for messages."""
        return self._name

    @property
    def persistent(self) -> bool:
        """Never: rows die with the process."""
        return False

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._is_open

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        self._check_open()
        value: bytes | None = self._rows.get(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key."""
        with self._lock:
            self._check_open()
            self._rows[key] = value

    def delete(self, key: bytes) -> None:
        """Deletes a key; an absent one is no error."""
        with self._lock:
            self._check_open()
            self._rows.pop(key, None)

    def range(
        self, lower: bytes | None = None, upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`."""
        with self._lock:
            self._check_open()
            rows = self._rows
            keys = rows.irange(lower, upper, inclusive=(True, False), reverse=reverse)
            return iter([(key, rows[key]) for key in keys])

    def write_batch(self, changes: Iterable[Change], *, durable: bool = False) -> None:
        """Applies changes in order, all or none."""
        batch = list(changes)
        with self._lock:
            self._check_open()
            for key, value in batch:
                if value is None:
                    self._rows.pop(key, None)
                else:
                    self._rows[key] = value

    def delete_range(self, lower: bytes, upper: bytes) -> None:
        """Deletes [lower, upper), atomically."""
        with self._lock:
            self._check_open()
            for key in list(self._rows.irange(lower, upper, inclusive=(True, False))):
                del self._rows[key]

    def approximate_count(self) -> int:
        """Counts the rows."""
        self._check_open()
        return len(self._rows)

    def flush(self, *, durable: bool = False) -> None:
        """Does nothing: there is no further to go."""
        self._check_open()

    def close(self) -> None:
        """Forgets every row. Closing again does nothing."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            message = f"store '{self._name}' is closed; ask the application for it again"
            raise StoreClosedError(message)
