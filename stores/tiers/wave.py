"""Waves: saves of several tiers that are written as one.

Owns the lock of writers of a byte store, the batch that a flush makes, and waves. It must not know
how a tier turns its saves into rows.

A tier writes while it holds the lock of the byte store that its rows end up in, below all
namespaces. So two flushes that share a store never mix, nor do a flush and a deletion. Of two
saves, the one that was counted first is written first.

Source: storage-tiers T1, T-H2, T-H4, T-H6.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, Token
from itertools import count
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self
from weakref import WeakKeyDictionary

from thalweg.stores.bytes.contract import AnyChange, ByteStore, Sync
from thalweg.stores.bytes.namespace import Namespace

_SYNC_ORDER: Final = tuple(Sync)


class Batch:
    """The changes of one write, and what tiers have to know of those before theirs.

    Attributes:
        changes: of the byte store below all namespaces.
        log_ends: key of a log, as it stands there -> how many entries it has after the changes.
        log_rows: key of a log -> its only row after the changes, where rows cannot be listed.
    """

    def __init__(self) -> None:
        self.changes: list[AnyChange] = []
        self.log_ends: dict[bytes, int] = {}
        self.log_rows: dict[bytes, bytes] = {}


class WavedTier(Protocol):
    """What a wave asks of a tier."""

    @property
    def name(self) -> str:
        """The tier's name, for messages."""

    @property
    def store(self) -> ByteStore:
        """Where its rows are."""

    @property
    def sync(self) -> Sync:
        """What its writes survive."""

    def add_changes(self, pending: Any, batch: Batch) -> None:
        """Adds what was saved to a batch."""

    def take(self, staged: Any) -> Taken:
        """Takes everything that waits out of the tier, what was staged in a wave behind it."""

    def put_back(self, taken: Taken) -> None:
        """Lets what could not be written wait again, unless it was rolled back meanwhile."""

    def is_rolled_back(self, taken: Taken) -> bool:
        """Tells whether the tier was rolled back since."""

    def written(self, taken: Taken) -> None:
        """Hears that it was written."""


class Taken(NamedTuple):
    """What was taken out of a tier to be written.

    Attributes:
        tier: whose it is.
        pending: what was saved, in the tier's own form.
        epoch: how often the tier had been rolled back.
    """

    tier: WavedTier
    pending: Any
    epoch: int


class Writing:
    """The right to write to a byte store; of several, those with lower numbers are taken first."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.RLock()


_numbers = count()
_writing: WeakKeyDictionary[ByteStore, Writing] = WeakKeyDictionary()
_writing_lock = threading.Lock()


def root_of(store: ByteStore) -> ByteStore:
    """Returns the byte store below all namespaces."""
    while isinstance(store, Namespace):
        store = store.below
    return store


def root_key(store: ByteStore, key: bytes) -> bytes:
    """Returns where a row stands below all namespaces."""
    while isinstance(store, Namespace):
        key = store.key(key)
        store = store.below
    return key


def root_changes(store: ByteStore, changes: Iterable[AnyChange]) -> Iterable[AnyChange]:
    """Returns changes as those of the byte store below all namespaces."""
    while isinstance(store, Namespace):
        changes = store.changes(changes)
        store = store.below
    return changes


def writing_of(store: ByteStore) -> Writing:
    """Returns the lock of the byte store below all namespaces."""
    root = root_of(store)
    with _writing_lock:
        found = _writing.get(root)
        if found is None:
            found = _writing[root] = Writing(next(_numbers))
        return found


@contextmanager
def writing_to(stores: Iterable[ByteStore]) -> Iterator[None]:
    """Holds the locks of several byte stores, taken in one order by everyone."""
    found = {id(each): each for each in map(writing_of, stores)}
    with ExitStack() as held:
        for each in sorted(found.values(), key=lambda each: each.number):
            held.enter_context(each.lock)
        yield


def write_taken(taken: list[Taken], sync: Sync | None = None) -> None:
    """Writes what was taken, with one write for each byte store.

    The caller holds the locks. Whatever could not be written is put back, and so is what was
    to be written after it.

    Args:
        taken: of one or several tiers, in the order in which it is applied.
        sync: what it survives; None for the most that one of the tiers asks for.
    """
    groups: dict[int, list[Taken]] = {}
    for each in taken:
        groups.setdefault(id(root_of(each.tier.store)), []).append(each)
    left = list(groups.values())
    try:
        while left:
            _write_group(left[0], sync)
            del left[0]
    except BaseException:
        for each in (each for group in left for each in group):
            each.tier.put_back(each)
        raise


def _write_group(group: list[Taken], sync: Sync | None) -> None:
    """Writes what goes to one byte store; what was rolled back meanwhile is left out."""
    alive: list[Taken] | None = None
    while True:
        still = [each for each in group if not each.tier.is_rolled_back(each)]
        if still == alive:
            break
        # First, or anew without the changes that are no longer wanted.
        alive, batch = still, Batch()
        for each in alive:
            each.tier.add_changes(each.pending, batch)
    if alive and batch.changes:
        wanted = max((each.tier.sync for each in alive), key=_SYNC_ORDER.index)
        root_of(alive[0].tier.store).write(batch.changes, sync=wanted if sync is None else sync)
    for each in alive:
        each.tier.written(each)


_open_waves: ContextVar[tuple[wave, ...]] = ContextVar("open waves of tiers", default=())


def wave_of(tier: WavedTier) -> wave | None:
    """Returns the wave that is open for a tier here: in this thread, in this asyncio task."""
    for each in _open_waves.get():
        if tier in each.staged and each.is_open:
            return each
    return None


class wave:  # noqa: N801 - used like a function: `with wave(first, second):`
    """Makes the saves of several tiers one change: all are written at its end, or none.

    Saves within the block wait until it ends. Then they are written, with whatever else waits
    in these tiers: with one atomic write for all tiers of one byte store, be they in namespaces
    of it or not; tiers of different byte stores are written one store after the other. When
    the block raises, what was saved within it is dropped, and nothing else.

    Only saves by the thread, or the asyncio task, that is within the block belong to it. Reads
    see nothing of them before the end. When the write at the end fails, everything waits in
    the tiers again: an empty `with wave(first, second): pass` tries again. In an asyncio program,
    `async with wave(first, second):` does not block the loop.

    Args:
        *tiers: whose saves belong together.
        sync: what the write survives; None for the most that one of the tiers asks for.

    Raises:
        ValueError: one of the tiers is in an open wave here already.
    """

    def __init__(self, *tiers: WavedTier, sync: Sync | None = None) -> None:
        self._sync = sync
        # What was saved within the block, in each tier's own form; None for nothing.
        self.staged: dict[WavedTier, Any] = dict.fromkeys(tiers)
        self.is_open = False
        self._token: Token[tuple[wave, ...]] | None = None

    def __enter__(self) -> Self:
        for tier in self.staged:
            if self.is_open or wave_of(tier) is not None:
                message = f"tier '{tier.name}' is in an open wave already; end that one first"
                raise ValueError(message)
        self.staged = dict.fromkeys(self.staged)
        self.is_open = True
        self._token = _open_waves.set((*_open_waves.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is None:
            self._write()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is None:
            await asyncio.shield(asyncio.to_thread(self._write))

    def _end(self) -> None:
        self.is_open = False
        if self._token is not None:
            _open_waves.reset(self._token)
            self._token = None

    def _write(self) -> None:
        tiers = list(self.staged)
        with writing_to(tier.store for tier in tiers):
            write_taken([tier.take(self.staged[tier]) for tier in tiers], self._sync)
