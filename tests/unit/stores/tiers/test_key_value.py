"""The key-value tier."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.unit.stores.tiers.recording import CountingCodec, RecordingStore, UnlistableStore
from thalweg.stores.bytes.contract import Sync
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.errors import BackendError, DecodeError, EncodeError, NoListSupportError
from thalweg.stores.testing.faulty import FaultyByteStore
from thalweg.stores.tiers import KeyValueTier, memory_append_log, memory_kv, memory_snapshot


def test_t42_the_last_save_of_a_key_counts_and_a_filter_looks_at_both() -> None:
    store = RecordingStore()
    tier = KeyValueTier[int](
        store, debounce_ms=0, compact_every=4, filter=lambda key, value: key != "x" or value > 5
    )
    tier.save("a", 1)
    tier.save("b", 1)
    tier.save("x", 5)
    tier.save("a", 2)
    assert store.writes == []
    tier.save("x", 6)
    assert store.writes == [[(b"a", b"2"), (b"b", b"1"), (b"x", b"6")]]


def test_t43_a_failed_flush_leaves_everything_waiting_and_nothing_written() -> None:
    store = FaultyByteStore()
    codec = CountingCodec()
    tier = KeyValueTier[int](store, codec=codec, debounce_ms=0)
    for number in range(4):
        tier.save(f"k{number}", number)
    codec.fails = lambda value: value == 2
    with pytest.raises(EncodeError, match="a value of key 'k2'"):
        tier.flush()
    assert tier.list() == []
    codec.fails = lambda _: False
    store.fail_at = store.operations
    with pytest.raises(BackendError):
        tier.flush()
    assert tier.list() == []
    tier.flush()
    assert [tier.load(f"k{number}") for number in range(4)] == [0, 1, 2, 3]
    encoded = codec.encoded_count
    tier.flush()
    assert codec.encoded_count == encoded


def test_t44_a_load_reads_what_was_written_and_a_rollback_drops_what_waits() -> None:
    store = MemoryByteStore("mine")
    tier = KeyValueTier[Any](store, debounce_ms=0)
    tier.save("a", 1)
    assert tier.load("a") is None
    tier.rollback()
    tier.flush()
    assert tier.load("a") is None
    store.put(b"a", b"")
    assert tier.load("a") is None
    store.put(b"a", b"[")
    with pytest.raises(DecodeError, match="row of key 'a'"):
        tier.load("a")


def test_t45_a_deletion_is_made_first_and_then_drops_what_waits() -> None:
    store = FaultyByteStore()
    tier = KeyValueTier[int](store, debounce_ms=0)
    tier.save("a", 1)
    tier.flush()
    tier.save("a", 2)
    store.fail_at = store.operations
    with pytest.raises(BackendError):
        tier.delete("a")
    assert tier.load("a") == 1
    tier.flush()
    assert tier.load("a") == 2
    tier.save("a", 3)
    tier.delete("a")
    tier.delete("absent")
    tier.flush()
    assert tier.load("a") is None


def test_t46_a_key_that_waits_is_not_listed() -> None:
    tier = memory_kv("mine", debounce_ms=0)
    for key in ("b", "a/2", "a/1", "a", "aé", "a🙂"):
        tier.save(key, 1)
    assert tier.list() == []
    tier.flush()
    tier.save("a/3", 1)
    assert tier.list() == ["a", "a/1", "a/2", "aé", "a🙂", "b"]
    assert tier.list("a/") == ["a/1", "a/2"]
    assert tier.list("c") == []


def test_t2_t46_a_store_that_cannot_list_fails_when_it_is_asked_to() -> None:
    tier = KeyValueTier[int](UnlistableStore("mine"))
    tier.save("a", 1)
    assert tier.load("a") == 1
    tier.delete("b")
    with pytest.raises(NoListSupportError, match="'mine' cannot list"):
        tier.list()


def test_t4_a_tier_over_a_store_that_cannot_list_is_no_error() -> None:
    for make in (memory_kv, memory_snapshot, memory_append_log):
        kind = type(make())
        kind(UnlistableStore("mine"))  # type: ignore[arg-type]


def test_t2_tiers_of_one_store_share_its_keys_unless_they_are_in_namespaces() -> None:
    store = MemoryByteStore("mine")
    first, second = KeyValueTier[int](store), KeyValueTier[int](store)
    first.save("a", 1)
    assert second.load("a") == 1
    apart = KeyValueTier[int](Namespace(store, b"apart/"))
    assert apart.load("a") is None
    apart.save("a", 2)
    assert first.load("a") == 1
    assert first.list() == ["a", "apart/a"]


@pytest.mark.parametrize("sync", [Sync.NONE, Sync.PROCESS, Sync.DISK])
def test_t3_a_flush_of_a_tier_is_no_flush_of_its_store(sync: Sync) -> None:
    store = RecordingStore()
    tier = KeyValueTier[int](store, sync=sync, debounce_ms=0)
    tier.save("a", 1)
    tier.flush()
    tier.delete("a")
    assert store.flush_count == 0
    assert store.syncs == [sync, sync]


def test_t5_a_store_in_memory_has_a_name_and_a_count_and_gives_copies() -> None:
    store = MemoryByteStore("renamed")
    tier = KeyValueTier[list[int]](store)
    assert memory_kv().name == "memory"
    assert tier.name == "renamed"
    assert store.approximate_count() == 0
    tier.save("a", [1])
    assert store.approximate_count() == 1
    read = tier.load("a")
    assert read is not None
    read.append(2)
    assert tier.load("a") == [1]


def test_t17_rows_are_listed_by_prefix() -> None:
    store = MemoryByteStore("mine")
    tier = KeyValueTier[Any](store, debounce_ms=0)
    tier.save("a/1", 1)
    tier.save("a/2", 2)
    tier.flush()
    tier.save("a/3", 3)
    store.put(b"a/empty", b"")
    assert list(tier.list_by_prefix_bytes("a/")) == [("a/1", b"1"), ("a/2", b"2")]
    # The keys are those of the call, the values those of the reading.
    rows = tier.list_by_prefix_bytes("")
    tier.flush()
    tier.save("a/2", 22)
    tier.delete("a/1")
    tier.flush()
    assert list(rows) == [("a/2", b"22")]


def test_t17_a_store_that_lists_too_much_leaks_nothing() -> None:
    class Sloppy(MemoryByteStore):
        def range(self, lower: Any = None, upper: Any = None, **how: Any) -> Any:
            return reversed(list(super().range()))

    tier = KeyValueTier[int](Sloppy("mine"))
    for key in ("b", "a2", "c", "a1"):
        tier.save(key, 1)
    assert [key for key, _ in tier.list_by_prefix_bytes("a")] == ["a1", "a2"]


def test_t17_an_error_of_the_listing_is_its_first_row() -> None:
    rows = KeyValueTier[int](UnlistableStore("mine")).list_by_prefix_bytes("")
    with pytest.raises(NoListSupportError):
        next(rows)
    assert list(rows) == []


def test_t47_every_tier_in_memory_has_a_store_of_its_own() -> None:
    for make in (memory_kv, memory_snapshot, memory_append_log):
        assert make().store is not make().store
        assert make("mine").name == "mine"
    kv = memory_kv("mine")
    kv.save("a", 1)
    assert memory_kv("mine").load("a") is None


def test_th1_what_was_saved_during_a_failed_flush_is_kept() -> None:
    store = FaultyByteStore()
    tier = KeyValueTier[int](store, debounce_ms=0)
    tier.save("a", 1)
    tier.save("b", 1)
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
    tier.save("b", 2)
    tier.save("c", 2)
    store.release("write")
    flushing.join()
    assert len(errors) == 1
    tier.flush()
    assert [tier.load(key) for key in "abc"] == [1, 2, 2]


def test_th2_a_rollback_during_a_flush_that_fails_is_final() -> None:
    store = FaultyByteStore()
    tier = KeyValueTier[int](store, debounce_ms=0)
    tier.save("a", 1)
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
    tier.rollback()
    tier.save("b", 1)
    store.release("write")
    flushing.join()
    assert len(errors) == 1
    tier.flush()
    assert tier.list() == ["b"]


def test_th3_a_deletion_waits_for_a_flush_of_its_key() -> None:
    store = FaultyByteStore()
    tier = KeyValueTier[int](store, debounce_ms=0)
    tier.save("a", 1)
    store.block("write")
    flushing = threading.Thread(target=tier.flush)
    flushing.start()
    assert store.wait_until_blocked("write")
    deleting = threading.Thread(target=tier.delete, args=("a",))
    deleting.start()
    store.release("write")
    flushing.join()
    deleting.join()
    tier.flush()
    assert tier.load("a") is None


def test_th5_rows_are_written_in_the_order_of_their_saves() -> None:
    store = RecordingStore()
    tier = KeyValueTier[int](store, debounce_ms=0)
    keys = [f"{number * 7919 % 101}" for number in range(101)]
    for key in keys:
        tier.save(key, 1)
    tier.flush()
    assert [change[0].decode() for change in store.writes[0]] == keys  # type: ignore[index]


@pytest.mark.parametrize("key", [1, None, b"bytes"])
def test_a_key_is_text(key: Any) -> None:
    tier = memory_kv("mine", debounce_ms=0)
    for call in (lambda: tier.save(key, 1), lambda: tier.load(key), lambda: tier.delete(key)):
        with pytest.raises(TypeError, match="tier 'mine': a key is text"):
            call()
    with pytest.raises(ValueError, match="tier 'mine': a key is text"):
        tier.save("\ud900", 1)


def test_rows_of_others_whose_keys_are_no_text_can_be_listed_and_read() -> None:
    store = MemoryByteStore("mine")
    store.put(b"\xff\x00", b"1")
    tier = KeyValueTier[int](store)
    (key,) = tier.list()
    assert tier.load(key) == 1
    tier.delete(key)
    assert tier.list() == []
