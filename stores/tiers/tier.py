"""What all tiers have in common: saves that wait, and when and how they are written.

Owns the pending state, its lock, the cadence, the rollback epoch, and the listing of raw rows.
It must not know what a tier's saves look like: `Pending` is opaque here.

Two locks, taken in this order: that of the byte store (see `stores.tiers.wave`), held while
something is written; and the tier's own, held for moments only and never while a codec or the
byte store works. A save that makes a flush due takes the first one before it is counted, so
that what made it due is what is written, in the order of the saves.

Source: storage-tiers T1-T19, T-H1, T-H2.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any, Generic, TypeVar

from thalweg.stores.bytes.contract import AnyChange, ByteStore, Sync, prefix_end
from thalweg.stores.tiers.cadence import Cadence
from thalweg.stores.tiers.codec import Codec, JsonCodec, Sealed
from thalweg.stores.tiers.wave import (
    Batch,
    Taken,
    root_changes,
    wave_of,
    write_taken,
    writing_of,
)

T = TypeVar("T")
Pending = TypeVar("Pending")


def key_bytes(key: str, owner: str) -> bytes:
    """Returns the key of a row.

    Raises:
        TypeError: it is no string.
        ValueError: it cannot be written as UTF-8.
    """
    try:
        return key.encode("utf-8", "surrogateescape")
    except (AttributeError, UnicodeEncodeError) as error:
        message = f"tier '{owner}': a key is text that UTF-8 can write, not {key!r}"
        kind = TypeError if isinstance(error, AttributeError) else ValueError
        raise kind(message) from error


def key_text(key: bytes) -> str:
    """Returns a row's key as text; bytes that are no UTF-8 come back as they are."""
    return key.decode("utf-8", "surrogateescape")


class Tier(ABC, Generic[T, Pending]):
    """A kind of storage over a byte store, whose saves wait for a flush.

    Reads see what was written, never what waits. Any thread may call any method. A flush hands
    rows to the byte store and does not wait for the disk, unless `sync` says so: `store.flush()`
    does that for everything written before.

    Args:
        store: keeps the rows; several tiers may share one, each within a `Namespace` of it.
        name: the tier's name, for messages and as a key; None for the store's.
        codec: how values are written; None for JSON.
        debounce_ms: None to write with every save; any number to let saves wait.
        compact_every: write with every n-th save although they may wait; None for no such write.
        sync: what a write survives.

    Raises:
        ValueError: `compact_every` is less than 1, or `debounce_ms` less than 0.
    """

    def __init__(
        self,
        store: ByteStore,
        *,
        name: str | None,
        codec: Codec[T] | None,
        debounce_ms: int | None,
        compact_every: int | None,
        sync: Sync,
    ) -> None:
        self._store = store
        self._name = store.name if name is None else name
        self._cadence = Cadence(f"{type(self).__name__} '{self._name}'", debounce_ms, compact_every)
        default: Codec[Any] = JsonCodec()
        self._codec: Codec[T] = default if codec is None else codec
        self._sealed = Sealed(self._codec, self._name)
        self._sync = sync
        self._writing = writing_of(store).lock
        self._lock = threading.Lock()
        self._pending = self._nothing()
        self._epoch = 0

    # -- what it was told ----------------------------------------------------------------

    @property
    def name(self) -> str:
        """The tier's name."""
        return self._name

    @property
    def store(self) -> ByteStore:
        """The byte store that keeps the rows."""
        return self._store

    @property
    def codec(self) -> Codec[T]:
        """How values are written."""
        return self._codec

    @property
    def debounce_ms(self) -> int | None:
        """What it was made with."""
        return self._cadence.debounce_ms

    @property
    def compact_every(self) -> int | None:
        """What it was made with."""
        return self._cadence.compact_every

    @property
    def sync(self) -> Sync:
        """What a write survives."""
        return self._sync

    @property
    def count(self) -> int:
        """How much was accepted so far; neither a rollback nor a failure takes from it."""
        return self._cadence.count

    # -- pending state -------------------------------------------------------------------

    def flush(self) -> None:
        """Writes what waits, as one write; without anything that waits it does nothing.

        What a wave of this thread holds waits for the wave's end.

        Raises:
            CodecError: a value cannot be written. Everything waits again, so a later flush
                tries again; `rollback` gives it up.
            StorageError: the byte store failed. Everything waits again.
        """
        with self._writing:
            self._write(self.take(None))

    def compact(self) -> None:
        """Writes what waits, as `flush`, whatever the cadence says."""
        self.flush()

    def rollback(self) -> None:
        """Drops what waits, also what an open wave of this thread holds of this tier.

        What was written stays. A flush that goes on in another thread and has not yet reached
        the byte store writes nothing.
        """
        wave = wave_of(self)
        if wave is not None:
            wave.staged[self] = None
        with self._lock:
            self._epoch += 1
            self._pending = self._nothing()

    def _accept(self, saved: Pending, count: int) -> None:
        """Takes what was saved, and writes if it is time to."""
        wave = wave_of(self)
        if wave is not None:
            with self._lock:
                self._cadence.accept(count)
            staged = wave.staged[self]
            wave.staged[self] = saved if staged is None else self._merged(staged, saved)
            return
        cadence = self._cadence
        with self._lock:
            if not cadence.is_due_after(count):
                self._pending = self._merged(self._pending, saved)
                cadence.accept(count)
                return
        with self._writing:
            with self._lock:
                self._pending = self._merged(self._pending, saved)
                if not cadence.accept(count):
                    return
                taken = self._take()
            self._write(taken)

    def _write(self, taken: Taken) -> None:
        if taken.pending:
            write_taken([taken])

    def _take(self) -> Taken:
        pending, self._pending = self._pending, self._nothing()
        return Taken(self, pending, self._epoch)

    def take(self, staged: Pending | None) -> Taken:
        """Takes everything that waits; for waves."""
        with self._lock:
            if staged is not None:
                self._pending = self._merged(self._pending, staged)
            return self._take()

    def put_back(self, taken: Taken) -> None:
        """Lets what could not be written wait again, before what was saved since; for waves."""
        with self._lock:
            if taken.epoch == self._epoch:
                self._pending = self._merged(taken.pending, self._pending)

    def is_rolled_back(self, taken: Taken) -> bool:
        """Tells whether there was a rollback since; for waves."""
        with self._lock:
            return taken.epoch != self._epoch

    def written(self, taken: Taken) -> None:
        """Hears that it was written; for waves."""

    def add_changes(self, pending: Pending, batch: Batch) -> None:
        """Adds what was saved to a batch; for waves."""
        batch.changes.extend(root_changes(self._store, self._changes(pending, batch)))

    @abstractmethod
    def _nothing(self) -> Pending:
        """Makes an empty pending state, which is false."""

    @abstractmethod
    def _merged(self, older: Pending, newer: Pending) -> Pending:
        """Puts newer saves behind older ones, which may be changed in place."""

    @abstractmethod
    def _changes(self, pending: Pending, batch: Batch) -> list[AnyChange]:
        """Encodes pending saves as changes of the tier's store."""

    # -- raw rows ------------------------------------------------------------------------

    def list_by_prefix_bytes(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yields the rows whose keys begin with a prefix: key, and what the codec wrote.

        The keys are listed by this call, the values are read one after the other; rows that
        are gone by then, or empty, are left out. Rows stand under the keys of the byte store;
        those of a log tell the log and the number of its last entry.

        Raises:
            StorageError: by the first `next`, when the keys could not be listed; by a later
                one when a row cannot be read.
        """
        start = key_bytes(prefix, self._name)
        error: Exception | None = None
        keys: list[bytes] = []
        try:
            keys = sorted(key for key in self._keys(start) if key.startswith(start))
        except Exception as failed:  # told where the caller can catch it with the rest
            error = failed
        return self._rows(keys, error)

    def _keys(self, prefix: bytes) -> Iterator[bytes]:
        return (key for key, _ in self._store.range(prefix, prefix_end(prefix)))

    def _rows(
        self, keys: list[bytes], error: Exception | None
    ) -> Generator[tuple[str, bytes], None, None]:
        if error is not None:
            raise error
        for key in keys:
            stored = self._store.get(key)
            if stored:
                text = key_text(key)
                yield text, self._sealed.payload(stored, text)
