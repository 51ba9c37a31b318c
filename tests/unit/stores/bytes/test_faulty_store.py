"""The faulty store: without faults a byte store as any; with them, what it promises."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from thalweg.stores.bytes.contract import ByteStore, Sync
from thalweg.stores.errors import BackendError, StoreClosedError
from thalweg.stores.testing.byte_store import ByteStoreSuite
from thalweg.stores.testing.faulty import FaultyByteStore


class TestFaultyStoreWithoutFaults(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return FaultyByteStore()


def test_the_nth_operation_fails_and_changes_nothing() -> None:
    store = FaultyByteStore()
    store.fail_at = 1
    store.put(b"a", b"1")
    with pytest.raises(BackendError, match="ordered"):
        store.write([(b"a", b"2"), (b"b", b"2")])
    assert list(store.range()) == [(b"a", b"1")]
    assert store.operations == 3


def test_every_later_operation_fails_as_on_a_full_disk() -> None:
    store = FaultyByteStore()
    store.fail_at, store.fail_always = 0, True
    for _ in range(3):
        with pytest.raises(BackendError):
            store.put(b"a", b"1")


def test_an_operation_may_be_done_although_it_fails() -> None:
    store = FaultyByteStore()
    store.fail_at, store.fail_after = 0, True
    with pytest.raises(BackendError):
        store.put(b"a", b"1")
    assert store.get(b"a") == b"1"


def test_what_is_lost_with_the_process_and_with_the_power() -> None:
    def written() -> FaultyByteStore:
        store = FaultyByteStore(rows=[(b"first", b"")])
        store.write([(b"disk", b"")], sync=Sync.DISK)
        store.write([(b"process", b"")], sync=Sync.PROCESS)
        store.write([(b"none", b"")], sync=Sync.NONE)
        return store

    store = written()
    assert [key for key, _ in store.after_death().range()] == [b"disk", b"first", b"process"]
    assert [key for key, _ in written().after_power_loss().range()] == [b"disk", b"first"]
    assert written().after_power_loss(kept=1).get(b"process") == b""
    flushed = written()
    flushed.flush()
    assert flushed.undurable_count == 0
    assert flushed.after_power_loss().get(b"none") == b""
    with pytest.raises(StoreClosedError):
        store.get(b"disk")


def test_a_lying_disk_keeps_nothing() -> None:
    store = FaultyByteStore(lies=True)
    store.write([(b"a", b"1")], sync=Sync.DISK)
    store.flush()
    assert store.get(b"a") == b"1"
    assert store.undurable_count == 1
    assert list(store.after_power_loss().range()) == []


def test_an_operation_waits_at_its_barrier() -> None:
    store = FaultyByteStore()
    store.block("flush")
    flushing = threading.Thread(target=store.flush)
    flushing.start()
    assert store.wait_until_blocked("flush")
    store.put(b"a", b"1")
    assert store.undurable_count == 1
    store.release("flush")
    flushing.join()
    assert store.undurable_count == 0
    with pytest.raises(ValueError, match="'read' is no operation"):
        store.block("read")
