"""Group commit: order, durability, failures, cancelling, back-pressure and the end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.waiting import HANG_S
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


async def test_a_coroutine_waits_for_room_without_blocking_the_loop() -> None:
    store = FaultyByteStore()
    store.block("write")
    with Committer(store, waiting_bytes_max=100) as committer:
        first = asyncio.create_task(committer.commit([(b"first", b"")]))
        while not store.wait_until_blocked("write", 0.01):
            await asyncio.sleep(0)
        tasks = [
            asyncio.create_task(committer.commit([(b"%03d" % number, b"v" * 47)]))
            for number in range(64)
        ]
        for _ in range(100):
            await asyncio.sleep(0)
        assert committer.waiting_bytes == 100
        assert not any(task.done() for task in tasks)
        # One that gives up while it waits for room does not write, and holds nobody up.
        tasks[-1].cancel()
        tasks[5].cancel()
        store.release("write")
        await first
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results].count(True) == 2
    keys = [key for key, _ in store.after_power_loss().range()]
    assert keys == [b"%03d" % number for number in range(63) if number != 5] + [b"first"]


async def test_coroutines_that_wait_for_room_are_refused_when_it_is_closed() -> None:
    store = FaultyByteStore()
    store.block("write")
    committer = Committer(store, waiting_bytes_max=1)
    handed_over = committer.append([(b"first", b"")])
    assert store.wait_until_blocked("write")
    second = committer.append([(b"second", b"")])
    third = asyncio.create_task(committer.commit([(b"third", b"")]))
    await asyncio.sleep(0)
    closing = threading.Thread(target=committer.close)
    closing.start()
    with pytest.raises(StoreClosedError):
        await third
    store.release("write")
    closing.join()
    assert handed_over.result() is second.result() is None
    assert [key for key, _ in store.after_power_loss().range()] == [b"first", b"second"]


async def test_a_coroutine_hears_of_the_error_of_its_write() -> None:
    store = FaultyByteStore()
    store.fail_at = 0
    with Committer(store) as committer:
        with pytest.raises(BackendError):
            await committer.commit([(b"a", b"")])
        await committer.commit([(b"b", b"")])
    assert [key for key, _ in store.after_power_loss().range()] == [b"b"]


async def test_a_cancelled_coroutine_that_waits_for_its_turn_does_not_write() -> None:
    store = FaultyByteStore()
    store.block("write")
    with Committer(store) as committer:
        first = committer.append([(b"first", b"")])
        assert store.wait_until_blocked("write")
        second = asyncio.create_task(committer.commit([(b"second", b"")]))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        store.release("write")
        await asyncio.wrap_future(first)
    assert [key for key, _ in store.after_power_loss().range()] == [b"first"]


def test_durable_reads_show_a_write_once_it_is_durable() -> None:
    store = FaultyByteStore(rows=[(b"a", b"old")])
    store.put(b"undurable", b"")
    with Committer(store, durable_reads=True) as committer:
        reads = committer.reads
        assert reads.get(b"undurable") == b""
        store.block("flush")
        done = committer.append([(b"a", b"new"), (b"b", b"new"), (b"undurable", None)])
        assert store.wait_until_blocked("flush")
        assert store.get(b"a") == b"new"
        assert reads.get(b"a") == b"old"
        scan = reads.range()
        store.release("flush")
        done.result()
        assert reads.get(b"a") == b"new"
        assert list(reads.range()) == [(b"a", b"new"), (b"b", b"new")]
        assert list(reads.range(reverse=True, limit=1)) == [(b"b", b"new")]
        # An open scan keeps to the moment of its call, also beyond later writes.
        committer.append([(b"a", b"newer")]).result()
        assert list(scan) == [(b"a", b"old"), (b"undurable", b"")]
        forgotten = reads.range()
        next(forgotten)
    with pytest.raises(StoreClosedError, match="committer"):
        reads.get(b"a")
    assert list(forgotten) == [(b"b", b"new")]


def test_durable_reads_do_not_show_what_a_flush_failed_to_save() -> None:
    store = FaultyByteStore()
    with Committer(store, durable_reads=True) as committer:
        store.fail_at = store.operations + 1
        with pytest.raises(BackendError):
            committer.append([(b"a", b"1")]).result()
        assert committer.reads.get(b"a") is None
        # A later flush takes the row along that was written before the disk failed.
        committer.append([(b"b", b"1")]).result()
        assert committer.reads.get(b"a") == b"1"


def test_durable_reads_are_kept_only_where_they_are_asked_for() -> None:
    with (
        Committer(MemoryByteStore("mine")) as committer,
        pytest.raises(ValueError, match="durable_reads=True"),
    ):
        _ = committer.reads


def test_long_scans_of_durable_rows_give_every_row_once() -> None:
    store = MemoryByteStore("mine")
    rows = [(b"%05d" % number, b"") for number in range(1_000)]
    with Committer(store, durable_reads=True) as committer:
        committer.append(rows).result()
        scan = committer.reads.range()
        found = [next(scan) for _ in range(10)]
        committer.append([(key, None) for key, _ in rows]).result()
        assert found + list(scan) == rows
        assert list(committer.reads.range()) == []


def test_whoever_is_told_may_write_again_at_once() -> None:
    """The callback of a future runs in the committer's own thread, however much waits."""
    store = FaultyByteStore()
    later: list[Future[None]] = []
    is_told = threading.Event()

    def write_again(_: Future[None]) -> None:
        later.extend(committer.append([(b"b%d" % number, b"1")]) for number in range(3))
        is_told.set()

    with Committer(store, waiting_bytes_max=1) as committer:
        committer.append([(b"a", b"1")]).add_done_callback(write_again)
        assert is_told.wait(HANG_S)
    assert [done.result() for done in later] == [None] * 3
    assert len(list(store.after_power_loss().range())) == 4


@settings(deadline=None, max_examples=150)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=8),
    group_count=st.integers(1, 4),
    fail_at=st.none() | st.integers(0, 20),
    fail_always=st.booleans(),
    fail_after=st.booleans(),
    lies=st.booleans(),
    kept=st.integers(0, 10),
)
def test_what_was_acknowledged_survives_and_nothing_is_there_in_part(
    sizes: list[int],
    group_count: int,
    fail_at: int | None,
    fail_always: bool,
    fail_after: bool,
    lies: bool,
    kept: int,
) -> None:
    """Groups of writers on a store that fails somewhere and then loses its power."""
    store = FaultyByteStore(lies=lies)
    store.fail_at, store.fail_always, store.fail_after = fail_at, fail_always, fail_after
    done: list[Future[None]] = []
    with Committer(store) as committer:
        for group in range(group_count):
            store.block("write")
            for number, size in enumerate(sizes):
                key = b"%d/%d/" % (group, number)
                done.append(committer.append([(key + b"%d" % row, b"") for row in range(size)]))
            store.release("write")
            committer.flush()
    # Every writer was told one thing or the other.
    acknowledged = [one.done() and one.exception(timeout=0) is None for one in done]
    if fail_at is None:
        assert all(acknowledged)
    left = [key for key, _ in store.after_power_loss(kept).range()]
    for at, size in enumerate(sizes * group_count):
        prefix = b"%d/%d/" % divmod(at, len(sizes))
        count = sum(key.startswith(prefix) for key in left)
        assert count in (0, size)
        if acknowledged[at] and not lies:
            assert count == size
