"""The snapshot tier."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.unit.stores.tiers.recording import CountingCodec, RecordingStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import BackendError, DecodeError, EncodeError
from thalweg.stores.testing.faulty import FaultyByteStore
from thalweg.stores.tiers import SnapshotTier, memory_snapshot


def by_name(snapshot: dict[str, Any]) -> str:
    return str(snapshot["name"])


def test_t20_a_filter_and_a_key_of_its_own() -> None:
    tier = memory_snapshot("mine", filter=lambda snapshot: snapshot["ok"], key_of=by_name)
    tier.save({"name": "a", "ok": True})
    tier.save({"name": "b", "ok": False})
    tier.save({"name": "c", "ok": True})
    assert [key for key, _ in tier.list_by_prefix_bytes("")] == ["a", "c"]
    assert memory_snapshot("mine").load() is None
    plain = memory_snapshot("mine")
    plain.save(1)
    assert [key for key, _ in plain.list_by_prefix_bytes("")] == ["mine"]


def test_t21_only_the_newest_snapshot_waits() -> None:
    store = RecordingStore()
    tier = SnapshotTier[int](store, debounce_ms=0)
    for number in range(10):
        tier.save(number)
    tier.flush()
    tier.flush()
    assert store.writes == [[(b"store", b"9")]]


def test_t21_the_snapshot_that_makes_a_flush_due_is_the_one_written() -> None:
    """Many threads, a key for each snapshot, and each of them makes a flush due."""
    store = RecordingStore()
    tier = SnapshotTier[int](store, debounce_ms=0, compact_every=1, key_of=str)
    threads = [
        threading.Thread(target=lambda n=n: [tier.save(100 * n + i) for i in range(100)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(key) for key, _ in tier.list_by_prefix_bytes("")) == list(range(400))


def test_t21_an_older_snapshot_is_never_written_over_a_newer_one() -> None:
    store = RecordingStore()
    tier = SnapshotTier[int](store)
    numbers = iter(range(1_000))
    lock = threading.Lock()
    last = 0

    def save() -> None:
        nonlocal last
        while True:
            with lock:
                number = next(numbers, None)
                if number is None:
                    return
                # Handed over in order, by whichever thread.
                tier.save(number)
                last = number

    threads = [threading.Thread(target=save) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tier.load() == last == 999


def test_t22_others_may_save_while_a_snapshot_is_written() -> None:
    store = FaultyByteStore()
    store.block("write")
    tier = SnapshotTier[int](store, debounce_ms=0)
    tier.save(1)
    flushing = threading.Thread(target=tier.flush)
    flushing.start()
    assert store.wait_until_blocked("write")
    tier.save(2)
    assert tier.load() is None
    store.release("write")
    flushing.join()
    assert tier.load() == 1
    tier.flush()
    assert tier.load() == 2


def test_t23_the_key_is_told_when_the_snapshot_is_written() -> None:
    asked: list[int] = []

    def key_of(number: int) -> str:
        asked.append(number)
        return f"k{number}"

    tier = memory_snapshot("mine", debounce_ms=0, key_of=key_of)
    for number in range(3):
        tier.save(number)
    assert asked == []
    tier.flush()
    assert asked == [2]
    assert tier.last_saved_key == "k2"


def test_t24_a_snapshot_that_cannot_be_written_waits_again() -> None:
    store = FaultyByteStore()
    tier = SnapshotTier[int](store)
    tier.save(1)
    store.fail_at = store.operations
    with pytest.raises(BackendError):
        tier.save(2)
    assert tier.load() == 1
    tier.flush()
    assert tier.load() == 2


def test_t24_the_last_key_moves_with_success_only() -> None:
    codec = CountingCodec()
    tier = memory_snapshot("mine", codec=codec, key_of=str)
    tier.save(1)
    codec.fails = lambda value: value == 2
    with pytest.raises(EncodeError, match="tier 'mine': a value of key '2' cannot be written"):
        tier.save(2)
    assert tier.last_saved_key == "1"
    assert tier.load() == 1
    codec.fails = lambda _: False
    tier.flush()
    assert tier.last_saved_key == "2"
    assert tier.load() == 2


def test_t25_a_flush_of_nothing_touches_nothing_and_a_rollback_leaves_what_was_written() -> None:
    store = FaultyByteStore()
    tier = SnapshotTier[int](store, debounce_ms=0)
    tier.flush()
    assert store.operations == 0
    tier.save(1)
    tier.flush()
    tier.save(2)
    tier.rollback()
    tier.flush()
    assert tier.load() == 1


def test_t26_what_a_load_finds() -> None:
    store = MemoryByteStore("mine")
    tier = SnapshotTier[Any](store)
    assert tier.load() is None
    store.put(b"mine", b"")
    assert tier.load() is None
    store.put(b"mine", b"{")
    with pytest.raises(DecodeError, match="row of key 'mine'"):
        tier.load()
    tier.save([1])
    assert tier.load() == [1]


def test_t27_a_fresh_tier_finds_a_custom_key_by_its_load_key() -> None:
    store = MemoryByteStore("mine")
    SnapshotTier[dict[str, Any]](store, key_of=by_name).save({"name": "graph"})
    assert SnapshotTier[dict[str, Any]](store, key_of=by_name).load() is None
    again = SnapshotTier[dict[str, Any]](store, key_of=by_name, load_key="graph")
    assert again.load() == {"name": "graph"}
    again.save({"name": "other"})
    assert again.load() == {"name": "other"}


def test_th1_a_newer_snapshot_wins_over_one_that_could_not_be_written() -> None:
    store = FaultyByteStore()
    tier = SnapshotTier[int](store, debounce_ms=0)
    tier.save(1)
    store.block("write")
    store.fail_at = 0
    errors: list[BackendError] = []

    def flush() -> None:
        try:
            tier.flush()
        except BackendError as error:
            errors.append(error)

    flushing = threading.Thread(target=flush)
    flushing.start()
    assert store.wait_until_blocked("write")
    tier.save(2)
    store.release("write")
    flushing.join()
    assert len(errors) == 1
    tier.flush()
    assert tier.load() == 2


def test_a_snapshot_of_none_is_a_snapshot() -> None:
    store = RecordingStore()
    tier = SnapshotTier[None](store, debounce_ms=0)
    tier.save(None)
    tier.flush()
    assert store.writes == [[(b"store", b"null")]]
