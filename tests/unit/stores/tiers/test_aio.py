"""The asyncio face of tiers."""

from __future__ import annotations

import asyncio

import pytest

from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.errors import BackendError, StoreClosedError
from thalweg.stores.testing.faulty import FaultyByteStore
from thalweg.stores.tiers import (
    AppendLogTier,
    AsyncAppendLogTier,
    AsyncKeyValueTier,
    AsyncSnapshotTier,
    Cursor,
    KeyValueTier,
    memory_append_log,
    memory_kv,
    memory_snapshot,
    wave,
)


async def test_every_tier_has_its_face() -> None:
    async with (
        AsyncSnapshotTier[int](memory_snapshot()) as snapshots,
        AsyncAppendLogTier[int](memory_append_log()) as log,
        AsyncKeyValueTier[int](memory_kv(debounce_ms=0)) as values,
    ):
        await snapshots.save(1)
        assert await snapshots.load() == 1
        await log.append_entries(iter([1, 2]))
        await log.append(3)
        assert await log.load_entries_all() == [1, 2, 3]
        assert await log.load_entries(None, 2) == ([1, 2], Cursor(2))
        await values.save("a", 1)
        await values.save("b", 1)
        assert await values.load("a") is None
        await values.flush()
        await values.save("c", 1)
        await values.rollback()
        await values.compact()
        await values.delete("a")
        assert await values.keys() == ["b"]
        assert await values.list_by_prefix_bytes("") == [("b", b"1")]
    await values.close()
    with pytest.raises(StoreClosedError, match="asyncio face of tier 'memory' is closed"):
        await values.load("a")
    assert values.tier.load("b") == 1


async def test_calls_are_made_in_the_order_of_the_coroutines() -> None:
    async with AsyncAppendLogTier[int](memory_append_log()) as log:
        await asyncio.gather(*(log.append(number) for number in range(100)))
        assert await log.load_entries_all() == list(range(100))


async def test_a_slow_store_does_not_hold_the_loop_up() -> None:
    store = FaultyByteStore()
    store.block("write")
    async with AsyncKeyValueTier[int](KeyValueTier(store)) as values:
        saving = asyncio.create_task(values.save("a", 1))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not saving.done()
        store.release("write")
        await saving
        store.fail_at = store.operations
        with pytest.raises(BackendError):
            await values.save("b", 1)


async def test_a_call_that_was_begun_is_made_although_its_coroutine_is_cancelled() -> None:
    store = FaultyByteStore()
    store.block("write")
    async with AsyncKeyValueTier[int](KeyValueTier(store)) as values:
        saving = asyncio.create_task(values.save("a", 1))
        while not store.wait_until_blocked("write", 0.01):
            await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        store.release("write")
        assert await values.load("a") == 1


async def test_a_wave_of_asyncio_faces() -> None:
    store = MemoryByteStore("mine")
    values = KeyValueTier[int](Namespace(store, b"v/"))
    log = AppendLogTier[int](Namespace(store, b"l/"))
    async with AsyncKeyValueTier(values) as first, AsyncAppendLogTier(log) as second:
        async with wave(values, log):
            await asyncio.gather(first.save("a", 1), second.append(1))
            assert await first.keys() == []
        assert await first.keys() == ["a"]

        async def fail() -> None:
            async with wave(values, log):
                await first.save("b", 1)
                await second.append(2)
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        assert await first.keys() == ["a"]
        assert await second.load_entries_all() == [1]
