"""When tiers flush by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stores.tiers.recording import RecordingStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.tiers import AppendLogTier, KeyValueTier, SnapshotTier, Tier
from thalweg.stores.tiers.cadence import Cadence

Save = Callable[[Any, int], None]

TIERS: dict[str, tuple[Any, Save]] = {
    "snapshot": (SnapshotTier, lambda tier, number: tier.save(number)),
    "log": (AppendLogTier, lambda tier, number: tier.append(number)),
    "kv": (KeyValueTier, lambda tier, number: tier.save(f"k{number}", number)),
}
each_tier = pytest.mark.parametrize("kind", TIERS)


@each_tier
def test_t10_t16_what_a_tier_was_made_with(kind: str) -> None:
    make, _ = TIERS[kind]
    tier: Tier[Any, Any] = make(MemoryByteStore("mine"))
    assert (tier.name, tier.debounce_ms, tier.compact_every) == ("mine", None, None)
    assert (tier.codec.name, tier.codec.version) == ("json", 1)
    tier = make(MemoryByteStore("mine"), name="other", debounce_ms=20, compact_every=7)
    assert (tier.name, tier.debounce_ms, tier.compact_every) == ("other", 20, 7)


@each_tier
def test_t11_a_cadence_of_nothing_is_refused(kind: str) -> None:
    make, _ = TIERS[kind]
    for value in (0, -1):
        with pytest.raises(ValueError, match=rf"{make.__name__} 'mine'.* None or at least 1"):
            make(MemoryByteStore("mine"), compact_every=value)
    with pytest.raises(ValueError, match=rf"{make.__name__} 'mine'.* None or at least 0"):
        make(MemoryByteStore("mine"), debounce_ms=-1)


@each_tier
def test_t12_without_a_debounce_every_save_is_written(kind: str) -> None:
    make, save = TIERS[kind]
    for compact_every in (None, 3):
        store = RecordingStore()
        tier = make(store, compact_every=compact_every)
        for number in range(5):
            save(tier, number)
        assert len(store.writes) == 5


@each_tier
@pytest.mark.parametrize("debounce_ms", [0, 1, 1000])
def test_t12_any_debounce_leaves_the_flush_to_its_owner(kind: str, debounce_ms: int) -> None:
    make, save = TIERS[kind]
    store = RecordingStore()
    tier = make(store, debounce_ms=debounce_ms)
    for number in range(100):
        save(tier, number)
    assert store.writes == []
    tier.flush()
    assert len(store.writes) == 1


@each_tier
def test_t12_every_nth_save_is_written_all_the_same(kind: str) -> None:
    make, save = TIERS[kind]
    store = RecordingStore()
    tier = make(store, debounce_ms=0, compact_every=3)
    written = []
    for number in range(9):
        save(tier, number)
        written.append(len(store.writes))
    assert written == [0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_t13_a_batch_that_crosses_several_multiples_is_written_once() -> None:
    store = RecordingStore()
    tier = AppendLogTier[int](store, debounce_ms=0, compact_every=3)
    tier.append_entries([1, 2])
    assert store.writes == []
    tier.append_entries(range(3, 12))
    assert len(store.writes) == 1
    tier.append_entries([12])
    assert len(store.writes) == 2
    assert tier.load_entries_all() == list(range(1, 13))


@given(
    st.lists(st.integers(0, 20), max_size=30),
    st.none() | st.integers(1, 7),
    st.none() | st.integers(0, 3),
)
def test_t12_t13_the_rule_is_the_crossing_of_a_multiple(
    batches: list[int], every: int | None, debounce_ms: int | None
) -> None:
    cadence = Cadence("test", debounce_ms, every)
    count = 0
    for batch in batches:
        crossed = every is not None and any(
            number % every == 0 for number in range(count + 1, count + batch + 1)
        )
        count += batch
        expected = crossed or debounce_ms is None
        assert cadence.is_due_after(batch) is expected
        assert cadence.accept(batch) is expected
        assert cadence.count == count


def test_t14_what_a_filter_rejects_is_not_counted() -> None:
    store = RecordingStore()
    snapshots = SnapshotTier[int](
        store, debounce_ms=0, compact_every=2, filter=lambda number: number % 2 == 0
    )
    values = KeyValueTier[int](
        store, debounce_ms=0, compact_every=2, filter=lambda key, number: key != "no"
    )
    for number in (1, 3, 5, 2, 7):
        snapshots.save(number)
        values.save("no", number)
    values.save("yes", 1)
    assert (snapshots.count, values.count, store.writes) == (1, 1, [])
    snapshots.save(4)
    values.save("yes", 2)
    assert (snapshots.load(), values.load("yes"), values.load("no")) == (4, 2, None)


@each_tier
def test_t15_neither_a_rollback_nor_a_failure_takes_from_the_count(kind: str) -> None:
    make, save = TIERS[kind]
    store = MemoryByteStore("mine")
    tier = make(store, debounce_ms=0, compact_every=4)
    for number in range(3):
        save(tier, number)
    tier.rollback()
    assert tier.count == 3
    save(tier, 3)
    assert tier.count == 4
    assert len(list(store.range())) == 1
    if kind == "log":
        tier.append_entries(range(10))
        assert tier.count == 14


@each_tier
def test_t18_compact_writes_whatever_the_cadence_says(kind: str) -> None:
    make, save = TIERS[kind]
    store = RecordingStore()
    tier = make(store, debounce_ms=1000, compact_every=1000)
    tier.compact()
    assert store.writes == []
    save(tier, 1)
    tier.compact()
    assert len(store.writes) == 1
