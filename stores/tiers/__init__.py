"""Tiers: kinds of storage over any byte store, for whoever wants to keep something.

`SnapshotTier` keeps the newest value, `KeyValueTier` a value for each key, `AppendLogTier`
entries in order. Saves go to the byte store at once, or wait for a flush; `wave` makes the saves of several
tiers one change.
"""

from __future__ import annotations

from thalweg.stores.tiers.aio import AsyncAppendLogTier, AsyncKeyValueTier, AsyncSnapshotTier
from thalweg.stores.tiers.append_log import AppendLogTier, Cursor, Page
from thalweg.stores.tiers.codec import BytesCodec, Codec, JsonCodec, MsgpackCodec
from thalweg.stores.tiers.key_value import KeyValueTier
from thalweg.stores.tiers.memory import memory_append_log, memory_kv, memory_snapshot
from thalweg.stores.tiers.snapshot import SnapshotTier
from thalweg.stores.tiers.tier import Tier
from thalweg.stores.tiers.wave import wave

__all__ = [
    "AppendLogTier",
    "AsyncAppendLogTier",
    "AsyncKeyValueTier",
    "AsyncSnapshotTier",
    "BytesCodec",
    "Codec",
    "Cursor",
    "JsonCodec",
    "KeyValueTier",
    "MsgpackCodec",
    "Page",
    "SnapshotTier",
    "Tier",
    "memory_append_log",
    "memory_kv",
    "memory_snapshot",
    "wave",
]
