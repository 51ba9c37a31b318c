"""Waves: saves of several tiers as one change."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.stores.tiers.recording import RecordingStore
from thalweg.stores.bytes.contract import ByteStore, Sync
from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.bytes.lmdb import LmdbByteStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.bytes.sqlite import SqliteByteStore
from thalweg.stores.errors import BackendError, EncodeError, StoreClosedError
from thalweg.stores.testing.faulty import FaultyByteStore
from thalweg.stores.tiers import AppendLogTier, KeyValueTier, SnapshotTier, Tier, wave


class House:
    """A tier of each kind, each in a namespace of one store."""

    def __init__(self, store: ByteStore, **options: Any) -> None:
        self.store = store
        self.snapshots = SnapshotTier[int](Namespace(store, b"s/"), name="s", **options)
        self.log = AppendLogTier[int](Namespace(store, b"l/"), name="l", **options)
        inner = Namespace(Namespace(store, b"k/"), b"in/")
        self.values = KeyValueTier[int](inner, name="k", **options)
        self.tiers = (self.snapshots, self.log, self.values)

    def save(self, number: int) -> None:
        self.snapshots.save(number)
        self.log.append(number)
        self.values.save(f"k{number}", number)

    @property
    def state(self) -> tuple[int | None, list[int], list[str]]:
        return self.snapshots.load(), self.log.load_entries_all(), self.values.list()


def in_wave(tiers: Iterable[Tier[Any, Any]], *saves: Callable[[], object]) -> None:
    """Saves within a wave of its own."""
    with wave(*tiers):
        for save in saves:
            save()


def give_up() -> None:
    """Ends a wave with an error."""
    raise KeyError


def test_th6_a_wave_is_one_write() -> None:
    house = House(RecordingStore())
    with wave(*house.tiers):
        house.save(1)
        house.save(2)
        assert house.state == (None, [], [])
    assert house.store.writes == [  # type: ignore[attr-defined]
        [(b"s/s", b"2"), (b"l/l", b"[1,2]"), (b"k/in/k1", b"1"), (b"k/in/k2", b"2")]
    ]
    assert house.state == (2, [1, 2], ["k1", "k2"])


def test_t1_a_wave_that_raises_leaves_nothing_of_itself() -> None:
    house = House(RecordingStore(), debounce_ms=0)
    house.save(1)
    with pytest.raises(KeyError):
        in_wave(house.tiers, lambda: house.save(2), give_up)
    assert house.store.writes == []  # type: ignore[attr-defined]
    # What waited before the wave still does.
    for tier in house.tiers:
        tier.flush()
    assert house.state == (1, [1], ["k1"])


@pytest.mark.parametrize("kind", ["files", "lmdb", "rocks", "sqlite"])
def test_th6_a_wave_is_one_write_of_every_byte_store(tmp_path: Path, kind: str) -> None:
    make: Any = {
        "files": FilesByteStore,
        "lmdb": LmdbByteStore,
        "rocks": RocksByteStore,
        "sqlite": SqliteByteStore,
    }[kind]
    with make("mine", tmp_path) as store:
        house = House(store)
        for number in range(3):
            with wave(*house.tiers, sync=Sync.DISK):
                house.save(number)
        with contextlib.suppress(KeyError), wave(*house.tiers):
            house.save(9)
            raise KeyError
    with make("mine", tmp_path) as store:
        assert House(store).state == (2, [0, 1, 2], ["k0", "k1", "k2"])


def test_th6_a_wave_that_fails_at_any_operation_is_there_whole_or_not_at_all() -> None:
    with_rows = House(FaultyByteStore())
    with_rows.save(0)
    rows = list(with_rows.store.range())
    for fail_after in (False, True):
        fail_at = 0
        while True:
            store = FaultyByteStore(rows=rows)
            store.fail_at, store.fail_after = fail_at, fail_after
            house = House(store)
            try:
                with wave(*house.tiers, sync=Sync.DISK):
                    house.save(1)
            except BackendError:
                left = House(store.after_power_loss(kept=9))
                whole = fail_after and len(list(left.store.range())) > len(rows)
                assert left.state == ((1, [0, 1], ["k0", "k1"]) if whole else (0, [0], ["k0"]))
            else:
                assert House(store.after_power_loss()).state == (1, [0, 1], ["k0", "k1"])
                break
            fail_at += 1
        assert fail_at > 1


def test_a_wave_that_could_not_be_written_can_be_tried_again_as_a_whole() -> None:
    store = FaultyByteStore()
    house = House(store)
    house.save(0)
    store.fail_at, store.fail_always = store.operations, True
    with pytest.raises(BackendError):
        in_wave(house.tiers, lambda: house.save(1), lambda: house.values.delete("k0"))
    store.fail_at = None
    assert house.state == (0, [0], ["k0"])
    with wave(*house.tiers):
        pass
    assert house.state == (1, [0, 1], ["k1"])


def test_a_wave_with_a_value_that_cannot_be_written_writes_nothing() -> None:
    house = House(RecordingStore())
    bad: Any = object()
    with pytest.raises(EncodeError, match="tier 'k'"):
        in_wave(house.tiers, lambda: house.save(1), lambda: house.values.save("bad", bad))
    assert house.state == (None, [], [])
    house.values.rollback()
    house.log.flush()
    assert house.state == (None, [1], [])


def test_a_deletion_within_a_wave_belongs_to_it() -> None:
    house = House(RecordingStore())
    house.save(1)
    with pytest.raises(KeyError):
        in_wave(house.tiers, lambda: house.values.delete("k1"), give_up)
    assert house.state == (1, [1], ["k1"])
    with wave(*house.tiers):
        house.values.delete("k1")
        house.values.save("k2", 1)
        house.values.delete("k2")
        house.values.delete("k3")
        house.values.save("k3", 1)
        assert house.values.list() == ["k1"]
    assert house.values.list() == ["k3"]


def test_a_rollback_within_a_wave_takes_from_the_wave() -> None:
    house = House(RecordingStore())
    with wave(*house.tiers):
        house.save(1)
        house.log.rollback()
        house.log.append(2)
    assert house.state == (1, [2], ["k1"])


def test_a_flush_within_a_wave_leaves_the_wave_to_its_end() -> None:
    house = House(RecordingStore(), debounce_ms=0)
    house.save(1)
    with wave(*house.tiers):
        house.save(2)
        for tier in house.tiers:
            tier.flush()
        assert house.state == (1, [1], ["k1"])
    assert house.state == (2, [1, 2], ["k1", "k2"])


def test_saves_of_other_threads_do_not_belong_to_a_wave() -> None:
    house = House(RecordingStore())
    with contextlib.suppress(KeyError), wave(*house.tiers):
        house.save(1)
        other = threading.Thread(target=house.save, args=(2,))
        other.start()
        other.join()
        assert house.state == (2, [2], ["k2"])
        raise KeyError
    assert house.state == (2, [2], ["k2"])


def test_waves_of_many_threads_are_whole() -> None:
    house = House(MemoryByteStore("mine"))

    def work(writer: int) -> None:
        for number in range(50):
            with wave(*reversed(house.tiers) if writer % 2 else house.tiers):
                house.save(100 * writer + number)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot, log, keys = house.state
    assert snapshot == log[-1]
    assert sorted(log) == sorted(int(key[1:]) for key in keys)
    assert len(log) == 200


def test_t1_over_several_stores_a_wave_is_written_store_by_store() -> None:
    first, second = House(FaultyByteStore("first")), House(FaultyByteStore("second"))
    with wave(*first.tiers, *second.tiers):
        first.save(1)
        second.save(1)
    assert first.state == second.state == (1, [1], ["k1"])
    store = second.store
    assert isinstance(store, FaultyByteStore)
    store.fail_at, store.fail_always = store.operations, True
    with pytest.raises(BackendError):
        in_wave((*first.tiers, *second.tiers), lambda: first.save(2), lambda: second.save(2))
    store.fail_at = None
    assert first.state == (2, [1, 2], ["k1", "k2"])
    assert second.state == (1, [1], ["k1"])
    # Only what was not written is tried again.
    with wave(*first.tiers, *second.tiers):
        pass
    assert first.state == second.state == (2, [1, 2], ["k1", "k2"])


def test_two_tiers_of_one_log_in_one_wave() -> None:
    store = RecordingStore("mine")
    first, second = AppendLogTier[int](store), AppendLogTier[int](store)
    overwriting = AppendLogTier[int](store, mode="overwrite")
    first.append(0)
    with wave(first, second):
        first.append(1)
        second.append_entries([2, 3])
    assert first.load_entries_all() == [0, 1, 2, 3]
    with wave(first, overwriting, second):
        first.append(4)
        overwriting.append_entries([5])
        second.append(6)
    assert first.load_entries_all() == [5, 6]


def test_a_wave_survives_the_most_that_a_tier_asks_for() -> None:
    store = RecordingStore()
    first, second = KeyValueTier[int](store), KeyValueTier[int](store, sync=Sync.DISK)
    for how in ({}, {"sync": Sync.NONE}):
        with wave(first, second, **how):
            first.save("a", 1)
            second.save("b", 1)
    assert store.syncs == [Sync.DISK, Sync.NONE]


def test_saves_within_a_wave_are_counted() -> None:
    store = RecordingStore()
    tier = KeyValueTier[int](store, debounce_ms=0, compact_every=2)
    with contextlib.suppress(KeyError), wave(tier):
        tier.save("a", 1)
        raise KeyError
    assert tier.count == 1
    tier.save("b", 1)
    assert tier.list() == ["b"]


def test_an_empty_wave_writes_nothing() -> None:
    house = House(RecordingStore())
    with wave(*house.tiers):
        pass
    with wave():
        pass
    assert house.store.writes == []  # type: ignore[attr-defined]


def test_a_tier_is_in_one_wave_at_a_time() -> None:
    house = House(RecordingStore())
    with wave(house.log):
        with pytest.raises(ValueError, match="tier 'l' is in an open wave already"):
            in_wave((house.values, house.log))
        with wave(house.values):
            house.values.save("inner", 1)
            house.log.append(1)
        assert house.state == (None, [], ["inner"])
    assert house.state == (None, [1], ["inner"])
    again = wave(house.log)
    with again:
        house.log.append(2)
    with again:
        house.log.append(3)
    assert house.log.load_entries_all() == [1, 2, 3]


def test_a_wave_over_a_closed_namespace_is_refused() -> None:
    store = MemoryByteStore("mine")
    namespace = Namespace(store, b"a/")
    tier, other = KeyValueTier[int](namespace), KeyValueTier[int](Namespace(store, b"b/"))
    namespace.close()
    with pytest.raises(StoreClosedError):
        in_wave((other, tier), lambda: other.save("a", 1), lambda: tier.save("a", 1))
    assert list(store.range()) == []


async def test_a_wave_of_an_asyncio_program() -> None:
    house = House(RecordingStore())
    async with wave(*house.tiers):
        house.save(1)
    assert house.state == (1, [1], ["k1"])

    async def fail() -> None:
        async with wave(*house.tiers):
            house.save(2)
            give_up()

    with pytest.raises(KeyError):
        await fail()
    assert house.state == (1, [1], ["k1"])
