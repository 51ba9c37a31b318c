"""Rows of an LRU store: at most so many, the least recently used one gives way.

Owns the order of use and the eviction. Rows are in memory only, so a crash cannot leave uncommitted
rows, and writes need no buffer. Eviction must not wait for the commit, because the next record's
result depends on whether a row is still there.

Source: JVM `MemoryLRUCache`; eviction is logged by plain stores only (golden `agg_lru`,
`process_all_store_kinds`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from thalweg.stores.rows.contract import (
    Change,
    Row,
    closed,
    within,
)


class LruRows:
    """A bounded map of bytes to bytes in the order of use.

    Args:
        name: the store's name.
        max_entries: how many rows it keeps, at least 1.
    """

    persistent = False

    def __init__(self, name: str, max_entries: int) -> None:
        if max_entries < 1:
            message = f"max_entries of LRU store '{name}' must be at least 1, got {max_entries}"
            raise ValueError(message)
        self.name = name
        self.is_open = True
        self.on_evict: Callable[[bytes], None] | None = None
        self._max_entries = max_entries
        self._rows: OrderedDict[bytes, bytes] = OrderedDict()
        self.get: Callable[[bytes], bytes | None] = self._get
        self.put: Callable[[bytes, bytes | None], None] = self._put

    def _get(self, key: bytes) -> bytes | None:
        if not self.is_open:
            raise closed(self.name)
        value = self._rows.get(key)
        if value is not None:
            self._rows.move_to_end(key)
        return value

    def peek(self, key: bytes) -> bytes | None:
        """Reads a row without using it; any thread may call it."""
        self._check_open()
        return self._rows.get(key)

    def _put(self, key: bytes, value: bytes | None) -> None:
        if not self.is_open:
            raise closed(self.name)
        evicted = self._write(key, value)
        if evicted is not None and self.on_evict is not None:
            self.on_evict(evicted)

    def _write(self, key: bytes, value: bytes | None) -> bytes | None:
        rows = self._rows
        if value is None:
            rows.pop(key, None)
            return None
        rows[key] = value
        rows.move_to_end(key)
        return rows.popitem(last=False)[0] if len(rows) > self._max_entries else None

    def scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans [lower, upper) in byte order, which is no use of a row."""
        self._check_open()
        rows: list[Change] = within(dict.copy(self._rows).items(), lower, upper, reverse)
        return iter([(key, value) for key, value in rows if value is not None])

    snapshot = scan

    def approximate_count(self) -> int:
        """Counts the rows."""
        self._check_open()
        return len(self._rows)

    def apply(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Does nothing: rows are where they stay."""

    def prepare(self, note: bytes) -> None:
        """Does nothing: rows do not outlive the process."""

    def prepared(self) -> None:
        """Returns None: nothing is kept aside."""

    def settle(self, *, is_committed: bool) -> None:
        """Does nothing: nothing is kept aside."""

    def note(self) -> None:
        """Returns None: nothing outlives the process, so nothing is noted."""

    def restore(self, batch: Iterable[Change]) -> None:
        """Puts the rows of a changelog, in order; evictions are not logged again."""
        self._check_open()
        for key, value in batch:
            self._write(key, value)

    def close(self) -> None:
        """Forgets every row."""
        self.is_open = False
        self._rows.clear()

    def _check_open(self) -> None:
        if not self.is_open:
            raise closed(self.name)
