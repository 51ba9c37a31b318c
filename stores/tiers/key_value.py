"""The key-value tier: values by key.

Owns saves and deletions by key. It must not know what is in the values.

Source: storage-tiers T42-T46, T-H3.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Literal, TypeAlias, TypeVar

from thalweg.stores.bytes.contract import AnyChange, ByteStore, Sync
from thalweg.stores.tiers.codec import Codec
from thalweg.stores.tiers.tier import Tier, key_bytes, key_text
from thalweg.stores.tiers.wave import Batch, wave_of

T = TypeVar("T")


class _Mark(Enum):
    DELETED = "deleted"


_Deleted: TypeAlias = Literal[_Mark.DELETED]

# Within the class `list` is a method.
_Keys: TypeAlias = list[str]
_Changes: TypeAlias = list[AnyChange]


class KeyValueTier(Tier[T, dict[bytes, T | _Deleted]]):
    """Keeps a value for each key; of several saves of one key the last one counts.

    Args:
        store: keeps the rows.
        name: the tier's name, for messages; None for the store's name.
        codec: how values are written; None for JSON.
        debounce_ms: None to write with every save; any number to let saves wait.
        compact_every: write everything that waits with every n-th save.
        filter: tells by key and value what is saved; the rest is passed over without an error.
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
        filter: Callable[[str, T], bool] | None = None,
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

    def save(self, key: str, value: T) -> None:
        """Saves a value in place of the one that waits under its key, if there is one.

        Raises:
            TypeError: the key is no text.
            CodecError: what waits was to be written and cannot be; it waits again.
            StorageError: the byte store failed; what waits waits again.
        """
        if self._filter is not None and not self._filter(key, value):
            return
        self._sealed.check(value)
        self._accept({key_bytes(key, self._name): value}, 1)

    def load(self, key: str) -> T | None:
        """Reads the value that was written under a key, None where there is none.

        Raises:
            CodecMismatchError: another codec, or another version of it, wrote it.
            DecodeError: it cannot be read.
        """
        stored = self._store.get(key_bytes(key, self._name))
        return self._sealed.decode(stored, key) if stored else None

    def delete(self, key: str) -> None:
        """Deletes a key, at once: what was written first, then what waits.

        Within a wave the deletion belongs to the wave. An absent key is no error.

        Raises:
            StorageError: the byte store failed; what waits under the key still does.
        """
        row = key_bytes(key, self._name)
        wave = wave_of(self)
        if wave is not None:
            staged = wave.staged[self]
            deleted: dict[bytes, T | _Deleted] = {row: _Mark.DELETED}
            wave.staged[self] = deleted if staged is None else self._merged(staged, deleted)
            return
        with self._writing:
            self._store.write([(row, None)], sync=self._sync)
            with self._lock:
                self._pending.pop(row, None)

    def list(self, prefix: str = "") -> _Keys:
        """Returns the keys that were written and begin with a prefix, in rising order.

        Raises:
            NoListSupportError: the byte store cannot list its keys.
        """
        start = key_bytes(prefix, self._name)
        return [key_text(key) for key in self._keys(start) if key.startswith(start)]

    def _nothing(self) -> dict[bytes, T | _Deleted]:
        return {}

    def _merged(
        self, older: dict[bytes, T | _Deleted], newer: dict[bytes, T | _Deleted]
    ) -> dict[bytes, T | _Deleted]:
        older.update(newer)
        return older

    def _changes(self, pending: dict[bytes, T | _Deleted], batch: Batch) -> _Changes:
        encode = self._sealed.encode
        return [
            (key, None if value is _Mark.DELETED else encode(value, key_text(key)))
            for key, value in pending.items()
        ]
