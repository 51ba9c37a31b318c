"""Tiers in memory: each over a byte store of its own, which dies with the process.

Owns only the functions that make them.

Source: storage-tiers T47.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.tiers.append_log import AppendLogTier, Mode
from thalweg.stores.tiers.codec import Codec
from thalweg.stores.tiers.key_value import KeyValueTier
from thalweg.stores.tiers.snapshot import SnapshotTier

T = TypeVar("T")


def memory_snapshot(
    name: str = "memory",
    *,
    codec: Codec[T] | None = None,
    debounce_ms: int | None = None,
    compact_every: int | None = None,
    filter: Callable[[T], bool] | None = None,
    key_of: Callable[[T], str] | None = None,
    load_key: str | None = None,
) -> SnapshotTier[T]:
    """Makes a snapshot tier over a fresh byte store in memory; see `SnapshotTier`."""
    return SnapshotTier(
        MemoryByteStore(name),
        codec=codec,
        debounce_ms=debounce_ms,
        compact_every=compact_every,
        filter=filter,
        key_of=key_of,
        load_key=load_key,
    )


def memory_append_log(
    name: str = "memory",
    *,
    codec: Codec[T] | None = None,
    debounce_ms: int | None = None,
    compact_every: int | None = None,
    key_of: Callable[[T], str] | None = None,
    mode: Mode = "append",
) -> AppendLogTier[T]:
    """Makes an append-log tier over a fresh byte store in memory; see `AppendLogTier`."""
    return AppendLogTier(
        MemoryByteStore(name),
        codec=codec,
        debounce_ms=debounce_ms,
        compact_every=compact_every,
        key_of=key_of,
        mode=mode,
    )


def memory_kv(
    name: str = "memory",
    *,
    codec: Codec[T] | None = None,
    debounce_ms: int | None = None,
    compact_every: int | None = None,
    filter: Callable[[str, T], bool] | None = None,
) -> KeyValueTier[T]:
    """Makes a key-value tier over a fresh byte store in memory; see `KeyValueTier`."""
    return KeyValueTier(
        MemoryByteStore(name),
        codec=codec,
        debounce_ms=debounce_ms,
        compact_every=compact_every,
        filter=filter,
    )
