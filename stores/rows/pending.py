"""Writes of a task that are not committed yet, held in front of a byte store.

Owns the buffer, and the merge of buffer and store on reads. A byte store never contains uncommitted
rows. After the task's commit has succeeded, `apply` moves the buffer down as one batch. Until then
the buffer is in memory only, and a crash or an abort discards it. So exactly-once needs no deletion
of state. This module must not know keys, values or windows.

One worker writes and scans. Other threads may call `get`, `snapshot` and
`approximate_count`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NoReturn

from sortedcontainers import SortedList

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    RangeDeletion,
    Sync,
)
from thalweg.stores.rows.contract import Change, Row, closed, merge, within


class Absent:
    """Marks a key the buffer says nothing about."""

    __slots__ = ()


ABSENT: Final = Absent()


class PendingByteStore:
    """A byte store whose writes wait for the commit.

    Args:
        backend: where rows go on `apply`; closed with this store.
    """

    def __init__(self, backend: ByteStore) -> None:
        self.backend = backend
        self.is_open = True
        self._pending: dict[bytes, bytes | None] = {}
        self._sorted: SortedList[bytes] | None = None
        self._expired_below: bytes | None = None
        self._apply_count = 0
        self.put: Callable[[bytes, bytes | None], None] = self._pending.__setitem__
        self.get: Callable[[bytes], bytes | None] = self._bind_get()

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    @property
    def persistent(self) -> bool:
        """Whether the backend outlives the process."""
        return self.backend.persistent

    @property
    def pending_count(self) -> int:
        """Number of keys written since the last commit."""
        return len(self._pending)

    @property
    def apply_count(self) -> int:
        """How often the buffer was written to the backend."""
        return self._apply_count

    def _bind_get(self) -> Callable[[bytes], bytes | None]:
        find, read, absent = self._pending.get, self.backend.get, ABSENT

        def get(key: bytes) -> bytes | None:
            value = find(key, absent)
            # A class test is cheaper than isinstance on the hottest read of all.
            return read(key) if value.__class__ is Absent else value  # type: ignore[return-value]

        return get

    def scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans [lower, upper) of buffer and backend, as they are now."""
        keys, pending = self._sorted_keys(), self._pending
        overlay = [
            (key, pending[key])
            for key in keys.irange(lower, upper, inclusive=(True, False), reverse=reverse)
        ]
        return merge(self.backend.range(lower, upper, reverse=reverse), overlay, reverse)

    def snapshot(
        self, lower: bytes | None, upper: bytes | None, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans as `scan` from any thread, at the price of a pass over the buffer."""
        while True:
            apply_count = self._apply_count
            # The copy is one step under the GIL, and must come before the backend is opened:
            # a commit in between then shows rows twice, the same, rather than not at all.
            pending = self._pending.copy()
            rows = self.backend.range(lower, upper, reverse=reverse)
            if self._apply_count == apply_count:
                return merge(rows, within(pending.items(), lower, upper, reverse), reverse)
            # A commit began in between, of rows newer than the copy perhaps: it would hide
            # them, and not those it does not have.

    def _sorted_keys(self) -> SortedList[bytes]:
        # Only stores that are scanned pay for order. A dict keeps insertion order, and keys
        # are only ever added to the buffer, so those not sorted yet are its last ones.
        keys, pending = self._sorted, self._pending
        if keys is None:
            keys = self._sorted = SortedList(pending)
        elif len(keys) < len(pending):
            keys.update(list(islice(reversed(pending), len(pending) - len(keys))))
        return keys

    def expire_below(self, upper: bytes) -> None:
        """Deletes, on the next `apply`, every row whose key is below `upper`.

        Until then the rows are still there.
        """
        if self._expired_below is None or upper > self._expired_below:
            self._expired_below = upper

    def approximate_count(self) -> int:
        """Estimates the rows of both; exact where the backend can tell cheaply."""
        backend = self.backend
        count = backend.approximate_count()
        for key, value in self._pending.copy().items():
            if backend.persistent:
                count += value is not None
            else:
                count += (value is not None) - (backend.get(key) is not None)
        return count

    def apply(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Writes the buffer to the backend and deletes what expired, in one batch.

        Args:
            durable: return only when it would survive a loss of power.
            note: kept with the batch, for `note`.
        """
        pending, upper = self._pending, self._expired_below
        sync = Sync.DISK if durable else Sync.PROCESS
        changes: Iterable[AnyChange] = pending.items()
        if upper is not None:
            changes = [
                RangeDeletion(b"", upper),
                *(item for item in pending.items() if item[0] >= upper),
            ]
        if pending or upper is not None or note is not None:
            self._apply_count += 1
            if note is None:
                self.backend.write(changes, sync=sync)
            else:
                self.backend.write_noted(changes, note, sync=sync)
            pending.clear()
            self._sorted = self._expired_below = None
        elif durable:
            self.backend.flush()

    def note(self) -> bytes | None:
        """Returns the note of the last `apply` that had one, None where there is none."""
        return self.backend.note()

    def prepare(self, note: bytes) -> None:
        """Keeps the buffer aside in the backend, before the commit that will decide about it."""
        if self._pending:
            self.backend.prepare(self._pending.items(), note)

    def prepared(self) -> bytes | None:
        """Returns the note of a buffer that was not applied before a crash, None without one."""
        found = self.backend.prepared()
        return None if found is None else found[0]

    def settle(self, *, is_committed: bool) -> None:
        """Writes what was kept aside to the backend, or gives it up."""
        found = self.backend.prepared()
        if found is not None:
            self.backend.write(found[1] if is_committed else ())

    def restore(self, batch: Iterable[Change]) -> None:
        """Writes rows of a changelog to the backend in one batch; the last of a key wins.

        Best in the order of keys. They are sure to last from the next durable `apply` on.
        """
        self.backend.write(batch, sync=Sync.NONE)

    def close(self) -> None:
        """Forgets the buffer and closes the backend."""
        if not self.is_open:
            return
        self.is_open = False
        self.put = self._refuse_put
        self._pending.clear()
        self._sorted = None
        self.backend.close()

    def _refuse_put(self, _key: bytes, _value: bytes | None) -> NoReturn:
        raise closed(self.name)
