"""Group commit: order, durability, failures, cancelling, back-pressure and the end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait

import pytest

from thalweg.stores.bytes.committer import Committer
from thalweg.stores.bytes.contract import RangeDeletion
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import BackendError, StoreClosedError
from thalweg.stores.testing.faulty import FaultyByteStore


def test_a_write_is_done_when_it_is_durable() -> None:
    store = FaultyByteStore()
    with Committer(store) as committer:
        committer.append([(b"a", b"1"), (b"b", b"1")]).result()
        committer.append([RangeDeletion(b"a", b"b")]).result()
        assert store.undurable_count == 0
    assert list(store.after_power_loss().range()) == [(b"b", b"1")]


def test_those_that_wait_share_one_flush() -> None:
    store = FaultyByteStore()
    store.block("flush")
    with Committer(store) as committer:
        first = committer.append([(b"first", b"")])
        assert store.wait_until_blocked("flush")
        others = [committer.append([(b"%03d" % number, b"")]) for number in range(100)]
        assert not first.done()
        store.release("flush")
        wait([first, *others])
        # A write and a flush for the first, and one of each for all others.
        assert store.operations == 4
    assert len(list(store.after_power_loss().range())) == 101


def test_writes_of_many_threads_are_applied_in_the_order_of_each() -> None:
    store = FaultyByteStore()
    last: list[Future[None]] = []

    def write(writer: int) -> None:
        for number in range(200):
            done = committer.append([(b"%d" % writer, b"%d" % number)])
        last.append(done)

    with Committer(store) as committer:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        committer.flush()
        assert all(done.done() for done in last)
        assert store.undurable_count == 0
    assert {value for _, value in store.after_power_loss().range()} == {b"199"}


def test_a_write_that_fails_fails_alone() -> None:
    store = MemoryByteStore("mine")
    gate = FaultyByteStore("gate")
    gate.block("write")
    with Committer(gate) as blocked, Committer(store) as committer:
        blocked.append([(b"a", b"")])
        assert gate.wait_until_blocked("write")
        good = [committer.append([(b"%d" % number, b"v")]) for number in range(3)]
        bad = committer.append([([], b"v")])  # type: ignore[list-item]  # cannot be a key
        later = committer.append([(b"9", b"v")])
        for done in (*good, later):
            done.result()
        with pytest.raises(TypeError):
            bad.result()
        gate.release("write")
    assert [key for key, _ in store.range()] == [b"0", b"1", b"2", b"9"]


def test_a_flush_that_fails_fails_all_that_waited_for_it() -> None:
    store = FaultyByteStore()
    store.fail_at = 1
    with Committer(store) as committer:
        failed = committer.append([(b"a", b"1")])
        with pytest.raises(BackendError):
            failed.result()
        committer.append([(b"b", b"1")]).result()


def test_a_cancelled_write_is_not_made() -> None:
    store = FaultyByteStore()
    store.block("write")
    with Committer(store) as committer:
        first = committer.append([(b"a", b"1")])
        assert store.wait_until_blocked("write")
        second = committer.append([(b"b", b"1")])
        assert second.cancel()
        store.release("write")
        first.result()
        committer.flush()
    assert list(store.after_power_loss().range()) == [(b"a", b"1")]


def test_whoever_writes_waits_while_too_much_does() -> None:
    store = FaultyByteStore()
    store.block("write")
    with Committer(store, waiting_bytes_max=10) as committer:
        committer.append([(b"a", b"1")])
        assert store.wait_until_blocked("write")
        committer.append([(b"b", b"v" * 10)])
        assert committer.waiting_bytes == 11
        done: list[Future[None]] = []
        writer = threading.Thread(target=lambda: done.append(committer.append([(b"c", b"1")])))
        writer.start()
        assert done == []
        store.release("write")
        writer.join()
        done[0].result()


def test_closing_writes_what_waits_and_refuses_the_rest() -> None:
    store = FaultyByteStore()
    store.block("write")
    committer = Committer(store)
    waiting = [committer.append([(b"%d" % number, b"")]) for number in range(5)]
    closing = threading.Thread(target=committer.close)
    closing.start()
    store.release("write")
    closing.join()
    assert all(done.result() is None for done in waiting)
    with pytest.raises(StoreClosedError, match="committer of store 'faulty' is closed"):
        committer.append([(b"late", b"")])
    committer.close()
    assert len(list(store.after_power_loss().range())) == 5


async def test_an_asyncio_program_waits_without_a_thread_of_its_own() -> None:
    store = FaultyByteStore()
    with Committer(store) as committer:
        await asyncio.gather(
            *(asyncio.wrap_future(committer.append([(b"%d" % n, b"")])) for n in range(64))
        )
    assert len(list(store.after_power_loss().range())) == 64
