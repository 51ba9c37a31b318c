"""The snapshot tier: one value, of which only the newest counts.

Owns under which key a snapshot is written and read. It must not know what is in it.

Source: storage-tiers T20-T27.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from thalweg.stores.bytes.contract import AnyChange, ByteStore, Sync
from thalweg.stores.tiers.codec import Codec
from thalweg.stores.tiers.tier import Tier, key_bytes
from thalweg.stores.tiers.wave import Batch, Taken

T = TypeVar("T")


class SnapshotTier(Tier[T, list[T]]):
    """Keeps the newest of the snapshots it is given.

    Without `key_of` it stands under the tier's name. With it, every key keeps the newest snapshot
    that was written under it; `load` reads the key of the last one this tier has written.

    Args:
        store: keeps the row.
        name: the tier's name, and the key; None for the store's name.
        codec: how snapshots are written; None for JSON.
        debounce_ms: None to write every snapshot; any number to let the newest wait.
        compact_every: write every n-th snapshot although it may wait.
        filter: tells which snapshots are saved; others are passed over without an error.
        key_of: tells a snapshot's key, when it is written.
        load_key: the key `load` reads before this tier has written anything; None for the name.
        sync: what a write survives.

    Raises:
        ValueError: `compact_every` is less than 1, or `debounce_ms` less than 0.
    """

    def __init__(
        self,
        store: ByteStore,
        *,
        name: str | None = None,
        codec: Codec[T] | None = None,
        debounce_ms: int | None = None,
        compact_every: int | None = None,
        filter: Callable[[T], bool] | None = None,
        key_of: Callable[[T], str] | None = None,
        load_key: str | None = None,
        sync: Sync = Sync.PROCESS,
    ) -> None:
        super().__init__(
            store,
            name=name,
            codec=codec,
            debounce_ms=debounce_ms,
            compact_every=compact_every,
            sync=sync,
        )
        self._filter = filter
        self._key_of = key_of
        self._load_key = self.name if load_key is None else load_key
        self._encoded_key = self._load_key
        self._last_saved_key: str | None = None

    @property
    def last_saved_key(self) -> str | None:
        """The key of the last snapshot this tier has written, None before the first."""
        return self._last_saved_key

    def save(self, snapshot: T) -> None:
        """Saves a snapshot in place of one that waits, if there is one.

        Raises:
            CodecError: it was to be written and cannot be; it waits again.
            StorageError: the byte store failed; it waits again.
        """
        if self._filter is not None and not self._filter(snapshot):
            return
        self._sealed.check(snapshot)
        self._accept([snapshot], 1)

    def load(self) -> T | None:
        """Reads the snapshot that was written last, None where there is none.

        Raises:
            CodecMismatchError: another codec, or another version of it, wrote it.
            DecodeError: it cannot be read.
        """
        key = self._load_key if self._last_saved_key is None else self._last_saved_key
        stored = self._store.get(key_bytes(key, self.name))
        return self._sealed.decode(stored, key) if stored else None

    def written(self, taken: Taken) -> None:
        """Notes the key of what was written; for waves."""
        if taken.pending:
            self._last_saved_key = self._encoded_key

    def _nothing(self) -> list[T]:
        return []

    def _merged(self, older: list[T], newer: list[T]) -> list[T]:
        return newer or older

    def _changes(self, pending: list[T], batch: Batch) -> list[AnyChange]:
        changes: list[AnyChange] = []
        for snapshot in pending:
            key = self.name if self._key_of is None else self._key_of(snapshot)
            encoded = self._sealed.encode(snapshot, key)
            changes.append((key_bytes(key, self.name), encoded))
            # Under the lock of the byte store, which is held until it is written.
            self._encoded_key = key
        return changes
