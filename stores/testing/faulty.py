"""A byte store that fails when a test says so.

Owns the faults: an operation that fails, an operation that blocks until it is released, the death
of the process, a loss of power, and a disk that reports flushes it has not done. The rows are in
memory, so that a test can crash the store thousands of times a second.

Every operation that may fail is counted in the order of calls: `get`, `range`, `view`, `write`,
`flush`. To test a failure at every operation, run the history once, read `operations`, and run it
again with `fail_at` set to each smaller number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    Row,
    Sync,
)
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import BackendError, StoreClosedError

OPERATIONS: Final = ("get", "range", "view", "write", "flush")
"""The operations that are counted and may fail."""


class FaultyByteStore(ByteStore):
    """A byte store in memory with faults to order.

    A write that fails changes nothing, unless `fail_after` is set: then it is done, and only
    its caller is told otherwise, as when the answer of a disk is lost.

    Args:
        name: the store's name.
        rows: what it holds at the beginning; a disk has it.
        lies: a flush returns, and so does a durable write, without the disk having anything.

    Attributes:
        operations: how many operations were begun so far.
        fail_at: the number, from 0, of the operation that fails; None for none.
        fail_always: also every later operation fails, as on a full disk.
        fail_after: an operation that fails is done all the same.
        error: makes the error of an operation that fails.
    """

    def __init__(
        self, name: str = "faulty", rows: Iterable[Row] = (), *, lies: bool = False
    ) -> None:
        self._live = MemoryByteStore(name)
        self._lies = lies
        self._lock = threading.RLock()
        # What would be left after a loss of power, and all writes since, in order.
        self._on_disk = MemoryByteStore(name)
        self._since: list[tuple[Sync, list[AnyChange]]] = []
        self._barriers: dict[str, threading.Event] = {}
        self._arrived: dict[str, threading.Event] = {}
        self.operations = 0
        self.fail_at: int | None = None
        self.fail_always = False
        self.fail_after = False
        self.error: Callable[[], Exception] = lambda: BackendError("a fault that a test ordered")
        first = list(rows)
        self._live.write(first)
        self._on_disk.write(first)

    # -- faults --------------------------------------------------------------------------

    def block(self, operation: str) -> None:
        """Lets every later operation of that name wait until `release`.

        Raises:
            ValueError: no operation has that name.
        """
        if operation not in OPERATIONS:
            message = f"'{operation}' is no operation of a byte store: {', '.join(OPERATIONS)}"
            raise ValueError(message)
        self._arrived[operation] = threading.Event()
        self._barriers[operation] = threading.Event()

    def wait_until_blocked(self, operation: str, timeout_seconds: float = 30) -> bool:
        """Waits until an operation has come to its barrier; False when none came in time."""
        return self._arrived[operation].wait(timeout_seconds)

    def release(self, operation: str) -> None:
        """Lets operations of that name go on, those that wait and later ones."""
        self._barriers.pop(operation).set()

    def after_death(self) -> FaultyByteStore:
        """Returns the store as it is opened after the process died; this one is closed.

        Writes with `Sync.NONE` are gone where no later flush took them to the disk.
        """
        return self._reopened(lambda sync: sync is not Sync.NONE)

    def after_power_loss(self, kept: int = 0) -> FaultyByteStore:
        """Returns the store as it is opened after a loss of power; this one is closed.

        Args:
            kept: how many of the writes that no flush made durable have reached the disk all
                the same; those that were made first.
        """
        seen = -1

        def reached(_sync: Sync) -> bool:
            nonlocal seen
            seen += 1
            return seen < kept

        return self._reopened(reached)

    @property
    def undurable_count(self) -> int:
        """How many writes would be lost with the power."""
        return len(self._since)

    def _reopened(self, reached: Callable[[Sync], bool]) -> FaultyByteStore:
        with self._lock:
            again = FaultyByteStore(self.name, self._on_disk.range(), lies=self._lies)
            for sync, changes in self._since:
                if reached(sync):
                    again._live.write(changes)
                    again._on_disk.write(changes)
            self._live.close()
            return again

    def _begin(self, operation: str) -> bool:
        """Counts an operation and lets it wait; tells whether it is to fail when it is done."""
        barrier = self._barriers.get(operation)
        if barrier is not None:
            self._arrived[operation].set()
            barrier.wait()
        with self._lock:
            number, self.operations = self.operations, self.operations + 1
        if not self._live.is_open:
            message = f"store '{self.name}' is closed; open it again"
            raise StoreClosedError(message)
        if self.fail_at is None or number < self.fail_at:
            return False
        if number > self.fail_at and not self.fail_always:
            return False
        if self.fail_after:
            return True
        raise self.error()

    def _end(self, fails: bool) -> None:
        if fails:
            raise self.error()

    # -- the store -----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The store's name, for messages."""
        return self._live.name

    @property
    def persistent(self) -> bool:
        """Never: a new one is had by `after_death` or `after_power_loss` only."""
        return False

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._live.is_open

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        self._end(self._begin("get"))
        return self._live.get(key)

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        self._end(self._begin("range"))
        return self._live.range(lower, upper, reverse=reverse, limit=limit)

    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        self._end(self._begin("view"))
        return self._live.view()

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins."""
        taken = list(changes)
        fails = self._begin("write")
        with self._lock:
            self._live.write(taken)
            self._since.append((sync, taken))
            if sync is Sync.DISK:
                self._reach_disk()
        self._end(fails)

    def approximate_count(self) -> int:
        """Counts the rows."""
        return self._live.approximate_count()

    def flush(self) -> None:
        """Returns when everything written before would survive a loss of power, or says so."""
        fails = self._begin("flush")
        with self._lock:
            self._reach_disk()
        self._end(fails)

    def _reach_disk(self) -> None:
        if not self._lies:
            for _, changes in self._since:
                self._on_disk.write(changes)
            self._since.clear()

    def close(self) -> None:
        """Closes it. Closing again does nothing. Open scans end with an error."""
        for operation in list(self._barriers):
            self.release(operation)
        self._live.close()
