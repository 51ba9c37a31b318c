"""Group commit: many writers, one wait for the disk.

Owns the queue of writes, the one thread that writes them down, and what each writer is told. It
must not know what a write means. A writer hands changes over and gets a future; the thread
takes all that wait, writes them, waits for the disk once, and answers them all. That way many
writers share the cost of a wait which alone takes most of the time.

Source: storage-tiers D2 (`flush_wal(sync=True)` is the call that lets other threads run).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Final, NamedTuple, Self

from thalweg.stores.bytes.contract import AnyChange, ByteStore, RangeDeletion
from thalweg.stores.errors import StoreClosedError

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of changes that may wait unless a committer is told otherwise."""


class _Waiting(NamedTuple):
    """A write that waits for its turn."""

    changes: list[AnyChange]
    size_bytes: int
    done: Future[None]


class Committer:
    """Makes the writes of many threads durable, many by one wait for the disk.

    Any thread may call any method. While it is open it is the store's only writer. Writes are
    applied in the order in which they were handed over, each whole or not at all. They can be
    read as soon as they are written, which is before they are durable.

    Args:
        store: written to; it stays open when the committer is closed.
        waiting_bytes_max: when more than this waits, `append` waits until less does.
    """

    def __init__(self, store: ByteStore, *, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._store = store
        self._waiting_bytes_max = waiting_bytes_max
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._taken: list[_Waiting] = []
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._run, name=f"committer of {store.name}", daemon=True
        )
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the changes that wait for their turn now."""
        return self._waiting_bytes

    def append(self, changes: Iterable[AnyChange]) -> Future[None]:
        """Hands a write over and returns at once, unless too much waits already.

        Args:
            changes: as `ByteStore.write` takes them; read before this returns.

        Returns:
            A future that is done when the write would survive a loss of power. It holds the
            error of a write that failed. Cancelled before its turn, the write is not made. An
            asyncio program waits for it by `asyncio.wrap_future`.

        Raises:
            StoreClosedError: the committer is closed.
        """
        taken = list(changes)
        waiting = _Waiting(taken, _size_bytes(taken), Future())
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or self._waiting_bytes < self._waiting_bytes_max
            )
            if self._is_closed:
                message = f"the committer of store '{self._store.name}' is closed; open another one"
                raise StoreClosedError(message)
            self._waiting.append(waiting)
            self._waiting_bytes += waiting.size_bytes
            self._changed.notify_all()
        return waiting.done

    def flush(self) -> None:
        """Returns when all that was handed over before is written or has failed."""
        with self._changed:
            unanswered = [one.done for one in (*self._taken, *self._waiting)]
        wait(unanswered)

    def close(self) -> None:
        """Writes what waits, then stops. Writes handed over from now on are refused."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                taken = self._taken = self._waiting
                self._waiting, self._waiting_bytes = [], 0
                self._changed.notify_all()
            if not taken:
                return
            self._commit([one for one in taken if one.done.set_running_or_notify_cancel()])

    def _commit(self, group: list[_Waiting]) -> None:
        written = self._write(group)
        try:
            if written:
                self._store.flush()
        except Exception as error:
            for one in written:
                one.done.set_exception(error)
        else:
            for one in written:
                one.done.set_result(None)

    def _write(self, group: list[_Waiting]) -> list[_Waiting]:
        """Writes a group; returns the writes that succeeded and tells the others' errors."""
        if not group:
            return []
        try:
            self._store.write([change for one in group for change in one.changes])
        except Exception as error:
            if len(group) == 1:
                group[0].done.set_exception(error)
                return []
        else:
            return group
        # One of them is at fault, perhaps: each by itself, so that only that one fails.
        return [one for each in group for one in self._write([each])]


def _size_bytes(changes: list[AnyChange]) -> int:
    size = 0
    for change in changes:
        if isinstance(change, RangeDeletion):
            size += len(change.lower) + len(change.upper or b"")
        else:
            size += len(change[0]) + len(change[1] or b"")
    return size
