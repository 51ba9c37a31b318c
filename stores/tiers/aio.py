"""The asyncio face of tiers.

Owns the thread that a tier is called in on behalf of coroutines. It must not know what a tier
does.

A tier may wait for its byte store, and the event loop must not wait. Each face has one thread,
which makes the calls one after the other, in the order in which coroutines made them. A call that
has begun is finished, even if its coroutine is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from thalweg.stores.errors import StoreClosedError
from thalweg.stores.tiers.append_log import AppendLogTier, Cursor, Page
from thalweg.stores.tiers.key_value import KeyValueTier
from thalweg.stores.tiers.snapshot import SnapshotTier

T = TypeVar("T")
R = TypeVar("R")


class _AnyTier(Protocol):
    """What every tier can do."""

    @property
    def name(self) -> str: ...
    def flush(self) -> None: ...
    def compact(self) -> None: ...
    def rollback(self) -> None: ...
    def list_by_prefix_bytes(self, prefix: str) -> Iterator[tuple[str, bytes]]: ...


class _AsyncTier:
    """What the faces of all tiers have in common: their thread, and what every tier can do.

    Args:
        tier: called in the thread; it may be used directly as well, from other threads.
    """

    def __init__(self, tier: _AnyTier) -> None:
        self._any = tier
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"tier {tier.name}")
        self._is_closed = False

    async def flush(self) -> None:
        """Writes what waits."""
        await self._call(self._any.flush)

    async def compact(self) -> None:
        """Writes what waits, whatever the cadence says."""
        await self._call(self._any.compact)

    async def rollback(self) -> None:
        """Drops what waits."""
        await self._call(self._any.rollback)

    async def list_by_prefix_bytes(self, prefix: str) -> list[tuple[str, bytes]]:
        """Reads the rows whose keys begin with a prefix: key, and what the codec wrote."""
        return await self._call(lambda: [*self._any.list_by_prefix_bytes(prefix)])

    async def close(self) -> None:
        """Ends the thread after the calls that were made; the tier can still be used.

        What waits in the tier is not written by this. Closing again does nothing.
        """
        self._is_closed = True
        await asyncio.to_thread(self._thread.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, function: Callable[..., R], *arguments: Any) -> R:
        if self._is_closed:
            message = f"the asyncio face of tier '{self._any.name}' is closed; make another one"
            raise StoreClosedError(message)
        # A wave that is open here is open in the thread too.
        within = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await asyncio.shield(
            loop.run_in_executor(self._thread, within.run, function, *arguments)
        )


class AsyncSnapshotTier(_AsyncTier, Generic[T]):
    """The asyncio face of a snapshot tier.

    Args:
        tier: the tier.
    """

    def __init__(self, tier: SnapshotTier[T]) -> None:
        super().__init__(tier)
        self.tier = tier

    async def save(self, snapshot: T) -> None:
        """Saves a snapshot; see `SnapshotTier.save`."""
        await self._call(self.tier.save, snapshot)

    async def load(self) -> T | None:
        """Reads the snapshot that was written last; see `SnapshotTier.load`."""
        return await self._call(self.tier.load)


class AsyncAppendLogTier(_AsyncTier, Generic[T]):
    """The asyncio face of an append-log tier.

    Args:
        tier: the tier.
    """

    def __init__(self, tier: AppendLogTier[T]) -> None:
        super().__init__(tier)
        self.tier = tier

    async def append(self, entry: T) -> None:
        """Appends one entry; see `AppendLogTier.append_entries`."""
        await self._call(self.tier.append, entry)

    async def append_entries(self, entries: Iterable[T]) -> None:
        """Appends entries; see `AppendLogTier.append_entries`."""
        await self._call(self.tier.append_entries, list(entries))

    async def load_entries(
        self,
        cursor: Cursor | None = None,
        page_size: int | None = None,
        key_filter: str | None = None,
    ) -> Page[T]:
        """Reads a page; see `AppendLogTier.load_entries`."""
        return await self._call(self.tier.load_entries, cursor, page_size, key_filter)

    async def load_entries_all(self, key_filter: str | None = None) -> list[T]:
        """Reads all entries; see `AppendLogTier.load_entries`."""
        return await self._call(self.tier.load_entries_all, key_filter)


class AsyncKeyValueTier(_AsyncTier, Generic[T]):
    """The asyncio face of a key-value tier.

    Args:
        tier: the tier.
    """

    def __init__(self, tier: KeyValueTier[T]) -> None:
        super().__init__(tier)
        self.tier = tier

    async def save(self, key: str, value: T) -> None:
        """Saves a value; see `KeyValueTier.save`."""
        await self._call(self.tier.save, key, value)

    async def load(self, key: str) -> T | None:
        """Reads a value; see `KeyValueTier.load`."""
        return await self._call(self.tier.load, key)

    async def delete(self, key: str) -> None:
        """Deletes a key; see `KeyValueTier.delete`."""
        await self._call(self.tier.delete, key)

    async def keys(self, prefix: str = "") -> list[str]:
        """Returns the keys that begin with a prefix; see `KeyValueTier.list`."""
        return await self._call(self.tier.list, prefix)
