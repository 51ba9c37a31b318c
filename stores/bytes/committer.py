"""Group commit: many writers, one wait for the disk.

Owns the queue of writes, the one thread that writes them, the result that each writer gets, and the
reads that show only durable rows. It must not know what a write means. A writer hands its changes
over and gets a future. The thread takes all waiting writes, writes them, waits for the disk once,
and resolves all futures. So many writers share one wait for the disk, which takes most of the time.

Source: storage-tiers D2 (`flush_wal(sync=True)` is the call that lets other threads run).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Final, NamedTuple, Self

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    RangeDeletion,
    Row,
    first_key_after,
)
from thalweg.stores.errors import StoreClosedError

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of changes that may wait unless a committer is told otherwise."""

_CHUNK_COUNT: Final = 256
"""Rows that a scan of durable rows reads at a time."""


class _Waiting(NamedTuple):
    """A write that waits for its turn."""

    changes: list[AnyChange]
    size_bytes: int
    done: Future[None]


class _Room(NamedTuple):
    """A coroutine that waits until there is room for its write."""

    loop: asyncio.AbstractEventLoop
    is_there: asyncio.Future[None]


class DurableReads:
    """The rows of a committer's store that would survive a loss of power.

    They are those of the last wait for the disk that succeeded: a write can be read here from
    the moment on at which its writer is told that it is done. Any thread may call any method.
    Reads of one moment take turns.
    """

    def __init__(self, store: ByteStore) -> None:
        self._name = store.name
        self._lock = threading.Lock()
        self._shown: _Shown | None = None
        self.show(store)

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        shown = self._enter()
        try:
            return shown.get(key)
        finally:
            shown.leave()

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans as `ByteStore.range`; the scan keeps to the moment of the call."""
        scan = _DurableScan(self._enter(), lower, upper, reverse)
        return scan if limit is None else islice(scan, limit)

    def show(self, store: ByteStore) -> None:
        """Goes on to the rows there are now; the committer's."""
        shown = _Shown(store.view())
        with self._lock:
            before, self._shown = self._shown, shown
        if before is not None:
            before.leave()

    def close(self) -> None:
        """Ends the reads; scans that are open may go on. Closing again does nothing."""
        with self._lock:
            shown, self._shown = self._shown, None
        if shown is not None:
            shown.leave()

    def _enter(self) -> _Shown:
        with self._lock:
            if self._shown is None:
                message = f"the committer of store '{self._name}' is closed; open another one"
                raise StoreClosedError(message)
            self._shown.enter()
            return self._shown


class _Shown:
    """A view that is closed when the last of its users has left."""

    def __init__(self, view: ByteView) -> None:
        self._view = view
        # A scan that is forgotten leaves whenever the interpreter finds it, also within a read.
        self._lock = threading.RLock()
        self._user_count = 1

    def enter(self) -> None:
        with self._lock:
            self._user_count += 1

    def leave(self) -> None:
        with self._lock:
            self._user_count -= 1
            if not self._user_count:
                self._view.close()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            return self._view.get(key)

    def read(self, lower: bytes | None, upper: bytes | None, reverse: bool) -> list[Row]:
        with self._lock:
            return list(self._view.range(lower, upper, reverse=reverse, limit=_CHUNK_COUNT))


class _DurableScan:
    """A scan that leaves its view when it ends, is closed or forgotten, read or not."""

    def __init__(
        self, shown: _Shown, lower: bytes | None, upper: bytes | None, reverse: bool
    ) -> None:
        self._shown: _Shown | None = shown
        self._rows = self._read(shown, lower, upper, reverse)

    def _read(
        self, shown: _Shown, lower: bytes | None, upper: bytes | None, reverse: bool
    ) -> Generator[Row, None, None]:
        while True:
            found = shown.read(lower, upper, reverse)
            yield from found
            if len(found) < _CHUNK_COUNT:
                self.close()
                return
            if reverse:
                upper = found[-1][0]
            else:
                lower = first_key_after(found[-1][0])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row:
        if self._shown is None:
            raise StopIteration
        return next(self._rows)

    def close(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.leave()

    __del__ = close


class Committer:
    """Makes the writes of many threads durable, many by one wait for the disk.

    Any thread may call any method. While it is open it is the store's only writer. Writes are
    applied in the order in which they were handed over, each whole or not at all. Reads of the
    store see them as soon as they are written, which is before they are durable; `reads` shows
    them from then on only.

    Close it: writes that wait when the process ends without that are lost, unanswered.

    Args:
        store: written to; it stays open when the committer is closed.
        waiting_bytes_max: when more than this waits, whoever writes waits until less does.
        durable_reads: keep `reads`, which costs a view of the store after each wait for the
            disk.
    """

    def __init__(
        self,
        store: ByteStore,
        *,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
        durable_reads: bool = False,
    ) -> None:
        self._store = store
        self._waiting_bytes_max = waiting_bytes_max
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._coroutines: deque[_Room] = deque()
        self._taken: list[_Waiting] = []
        self._is_closed = False
        self._reads: DurableReads | None = None
        if durable_reads:
            store.flush()
            self._reads = DurableReads(store)
        self._thread = threading.Thread(
            target=self._run, name=f"committer of {store.name}", daemon=True
        )
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the changes that wait for their turn now."""
        return self._waiting_bytes

    @property
    def reads(self) -> DurableReads:
        """The rows that are durable.

        Raises:
            ValueError: the committer was not asked to keep them.
        """
        if self._reads is None:
            message = (
                f"the committer of store '{self._store.name}' keeps no durable reads; "
                f"make it with durable_reads=True"
            )
            raise ValueError(message)
        return self._reads

    def append(self, changes: Iterable[AnyChange]) -> Future[None]:
        """Hands a write over and returns at once, unless too much waits already.

        Not for an asyncio program, whose loop would wait: see `commit`.

        Args:
            changes: as `ByteStore.write` takes them; read before this returns.

        Returns:
            A future that is done when the write would survive a loss of power. It holds the
            error of a write that failed. Cancelled before its turn, the write is not made.
            After an error of the disk the write may be there later all the same.

        Raises:
            StoreClosedError: the committer is closed.
        """
        waiting = _waiting(changes)
        with self._changed:
            # The thread itself, in the callback of a future, must not wait for itself.
            if threading.current_thread() is not self._thread:
                self._changed.wait_for(self._is_room_or_closed)
            self._hand_over(waiting)
        return waiting.done

    async def commit(self, changes: Iterable[AnyChange]) -> None:
        """Makes a write durable, for an asyncio program: nothing here blocks the loop.

        It waits for room as `append` does. Cancelled before its turn, the write is not made;
        after that it is, although nobody hears of it.

        Args:
            changes: as `ByteStore.write` takes them; read before this first waits.

        Raises:
            StoreClosedError: the committer is closed.
            StorageError: the write failed.
        """
        waiting = _waiting(changes)
        while not self._try_hand_over(waiting):
            room = _Room(asyncio.get_running_loop(), asyncio.get_running_loop().create_future())
            with self._changed:
                if self._is_room_or_closed():
                    continue
                self._coroutines.append(room)
            try:
                await room.is_there
            except asyncio.CancelledError:
                with self._changed:
                    with suppress(ValueError):
                        self._coroutines.remove(room)
                    # It may have been its turn: the next one shall not wait for nothing.
                    self._call_coroutines()
                raise
        await asyncio.wrap_future(waiting.done)

    def flush(self) -> None:
        """Returns when all that was handed over before is written or has failed."""
        with self._changed:
            unanswered = [one.done for one in (*self._taken, *self._waiting)]
        wait(unanswered)

    def close(self) -> None:
        """Writes what waits, then stops. Writes handed over from now on are refused.

        So are those that wait for room. Closing again does nothing.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._call_coroutines()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        if self._reads is not None:
            self._reads.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- handing over --------------------------------------------------------------------

    def _is_room_or_closed(self) -> bool:
        return self._is_closed or self._waiting_bytes < self._waiting_bytes_max

    def _hand_over(self, waiting: _Waiting) -> None:
        if self._is_closed:
            message = f"the committer of store '{self._store.name}' is closed; open another one"
            raise StoreClosedError(message)
        self._waiting.append(waiting)
        self._waiting_bytes += waiting.size_bytes
        self._changed.notify_all()

    def _try_hand_over(self, waiting: _Waiting) -> bool:
        with self._changed:
            if not self._is_room_or_closed():
                return False
            self._hand_over(waiting)
            return True

    def _call_coroutines(self) -> None:
        """Calls all that wait for room; those for whom there is none wait again."""
        while self._coroutines:
            room = self._coroutines.popleft()
            # A loop that was closed has nobody left to call.
            with suppress(RuntimeError):
                room.loop.call_soon_threadsafe(_tell, room.is_there)

    # -- the thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._taken = []
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                taken = self._taken = self._waiting
                self._waiting, self._waiting_bytes = [], 0
                self._changed.notify_all()
                self._call_coroutines()
            if not taken:
                return
            self._commit([one for one in taken if one.done.set_running_or_notify_cancel()])

    def _commit(self, group: list[_Waiting]) -> None:
        written = self._write(group)
        try:
            if written:
                self._store.flush()
                if self._reads is not None:
                    self._reads.show(self._store)
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


def _waiting(changes: Iterable[AnyChange]) -> _Waiting:
    taken = list(changes)
    return _Waiting(taken, _size_bytes(taken), Future())


def _tell(is_there: asyncio.Future[None]) -> None:
    if not is_there.done():
        is_there.set_result(None)


def _size_bytes(changes: list[AnyChange]) -> int:
    size = 0
    for change in changes:
        if isinstance(change, RangeDeletion):
            size += len(change.lower) + len(change.upper or b"")
        else:
            size += len(change[0]) + len(change[1] or b"")
    return size
