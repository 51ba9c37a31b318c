"""The append-log tier."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stores.tiers.recording import CountingCodec, RecordingStore, UnlistableStore
from thalweg.stores.bytes.contract import RangeDeletion
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import BackendError, DecodeError, EncodeError
from thalweg.stores.testing.faulty import FaultyByteStore
from thalweg.stores.tiers import AppendLogTier, Cursor, memory_append_log


def by_first(entry: str) -> str:
    return entry[0]


def flush_and_fail(tier: AppendLogTier[Any], errors: list[BackendError]) -> threading.Thread:
    def flush() -> None:
        try:
            tier.flush()
        except BackendError as error:
            errors.append(error)

    flushing = threading.Thread(target=flush)
    flushing.start()
    return flushing


def test_t28_a_key_for_each_entry_and_a_mode() -> None:
    tier = memory_append_log("mine", key_of=by_first)
    tier.append_entries(["b1", "a1", "b2"])
    assert tier.load_entries_all() == ["a1", "b1", "b2"]
    assert tier.mode == "append"
    with pytest.raises(ValueError, match="AppendLogTier 'mine': mode is 'append' or 'overwrite'"):
        memory_append_log("mine", mode="replace")  # type: ignore[arg-type]


def test_t29_no_entries_change_nothing() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[int](store)
    tier.append_entries([])
    tier.append_entries(iter(()))
    assert (tier.count, store.operations) == (0, 0)


def test_t30_entries_of_a_key_are_in_the_order_of_the_calls_and_a_flush_holds_nobody_up() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[str](store, debounce_ms=0, key_of=by_first)
    tier.append_entries(["a1", "b1"])
    tier.append("a2")
    store.block("write")
    flushing = threading.Thread(target=tier.flush)
    flushing.start()
    assert store.wait_until_blocked("write")
    tier.append("a3")
    store.release("write")
    flushing.join()
    tier.flush()
    assert tier.load_entries_all() == ["a1", "a2", "a3", "b1"]


def test_t31_the_first_row_of_a_log_is_the_list_as_the_codec_writes_it() -> None:
    store = MemoryByteStore("mine")
    tier = AppendLogTier[Any](store, debounce_ms=0)
    tier.append_entries([1, {"b": 2, "a": 1}])
    tier.flush()
    assert list(store.range()) == [(b"mine", b'[1,{"a":1,"b":2}]')]


def test_t31_a_codec_without_lists_of_its_own_is_given_the_list() -> None:
    class Plain:
        name = "plain"
        version = 1

        def encode(self, value: Any) -> bytes:
            return repr(value).encode()

        def decode(self, data: bytes) -> Any:
            return [int(each) for each in data.decode().strip("[]").split(",")]

    tier = AppendLogTier[int](MemoryByteStore("mine"), codec=Plain())
    tier.append_entries([1, 2])
    tier.append(3)
    assert tier.load_entries_all() == [1, 2, 3]


def test_t32_a_flush_continues_what_is_there_also_from_another_tier() -> None:
    store = RecordingStore()
    first, second = AppendLogTier[int](store), AppendLogTier[int](store)
    first.append_entries([1, 2])
    second.append(3)
    first.append(4)
    assert first.load_entries_all() == second.load_entries_all() == [1, 2, 3, 4]
    # What was there is neither read nor written again.
    assert [len(write) for write in store.writes] == [1, 1, 1]
    store.put(b"store", b"")
    assert second.load_entries_all() == [3, 4]


def test_t32_overwriting_replaces_the_log() -> None:
    store = RecordingStore()
    tier = AppendLogTier[str](store, mode="overwrite", key_of=by_first)
    tier.append_entries(["a1", "a2", "b1"])
    tier.append("a3")
    assert tier.load_entries_all() == ["a3", "b1"]
    appending = AppendLogTier[str](store, key_of=by_first)
    appending.append("a4")
    appending.append_entries(["a5", "a\0", "b2"])
    assert appending.load_entries_all() == ["a3", "a4", "a5", "a\0", "b1", "b2"]
    tier.append("a6")
    assert tier.load_entries_all() == ["a6", "b1", "b2"]
    assert any(isinstance(change, RangeDeletion) for change in store.writes[-1])


@pytest.mark.parametrize("operation", ["range", "write"])
def test_t33_a_failure_restores_what_is_new_and_a_retry_repeats_nothing(operation: str) -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[str](store, debounce_ms=0, key_of=by_first)
    tier.append_entries(["a1", "b1"])
    tier.flush()
    tier.append_entries(["a2", "b2", "c2"])
    # The end of each log is looked up, then all of them are one write.
    store.fail_at = store.operations + (1 if operation == "range" else 3)
    with pytest.raises(BackendError):
        tier.flush()
    assert tier.load_entries_all() == ["a1", "b1"]
    tier.append("a3")
    tier.flush()
    assert tier.load_entries_all() == ["a1", "a2", "a3", "b1", "b2", "c2"]


def test_t33_a_row_that_cannot_be_read_or_an_entry_that_cannot_be_written() -> None:
    store = MemoryByteStore("mine")
    codec = CountingCodec()
    tier = AppendLogTier[int](store, codec=codec, debounce_ms=0)
    store.put(b"mine", b"[1,")
    tier.append(2)
    with pytest.raises(DecodeError, match="row of key 'mine' cannot be read"):
        tier.flush()
    store.put(b"mine", b"[1]")
    codec.fails = lambda value: value == 2
    with pytest.raises(EncodeError, match="a value of key 'mine' cannot be written"):
        tier.flush()
    codec.fails = lambda _: False
    tier.flush()
    tier.flush()
    assert tier.load_entries_all() == [1, 2]


def test_t34_a_failed_overwrite_restores_its_entries() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[int](store, mode="overwrite")
    tier.append(1)
    store.fail_at = store.operations
    with pytest.raises(BackendError):
        tier.append_entries([2, 3])
    assert tier.load_entries_all() == [1]
    tier.flush()
    assert tier.load_entries_all() == [2, 3]


def test_t35_a_rollback_before_the_write_leaves_nothing_of_the_flush() -> None:
    """Both logs are one write: of a flush that is rolled back all is dropped, or nothing."""
    store = FaultyByteStore()
    tier = AppendLogTier[str](store, debounce_ms=0, key_of=by_first)
    tier.append_entries(["a1", "b1"])
    store.block("range")
    flushing = threading.Thread(target=tier.flush)
    flushing.start()
    assert store.wait_until_blocked("range")
    tier.rollback()
    tier.append("c1")
    store.release("range")
    flushing.join()
    assert tier.load_entries_all() == []
    tier.flush()
    assert tier.load_entries_all() == ["c1"]


def test_t35_a_write_that_is_on_its_way_cannot_be_undone() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[str](store, debounce_ms=0, key_of=by_first)
    tier.append_entries(["a1", "b1"])
    store.block("write")
    flushing = threading.Thread(target=tier.flush)
    flushing.start()
    assert store.wait_until_blocked("write")
    tier.rollback()
    store.release("write")
    flushing.join()
    tier.flush()
    assert tier.load_entries_all() == ["a1", "b1"]


def test_t36_the_mode_can_be_asked_for() -> None:
    assert memory_append_log(mode="overwrite").mode == "overwrite"


def test_t37_entries_are_in_the_order_of_keys_and_then_of_their_appending() -> None:
    tier = memory_append_log("mine", key_of=lambda entry: entry.rstrip("0123456789"))
    entries = [f"{key}{number}" for number in range(3) for key in ("b", "a\0", "a", "a/", "a!")]
    for entry in entries:
        tier.append(entry)
    assert tier.load_entries_all() == sorted(entries, key=lambda each: (each[:-1], each[-1]))


def test_t37_a_store_that_cannot_list_has_one_row_for_each_log() -> None:
    store = UnlistableStore("mine")
    tier = AppendLogTier[int](store)
    tier.append_entries([1, 2])
    tier.append(3)
    assert store.writes == [[(b"mine", b"[1,2]")], [(b"mine", b"[1,2,3]")]]
    assert tier.load_entries_all() == [1, 2, 3]
    assert tier.load_entries(None, 2) == ([1, 2], Cursor(2))
    assert tier.load_entries(Cursor(2), 2) == ([3], None)
    keyed = AppendLogTier[str](store, key_of=by_first)
    keyed.append_entries(["a1", "b1", "a2"])
    assert keyed.load_entries_all("a") == ["a1", "a2"]
    overwriting = AppendLogTier[int](store, mode="overwrite")
    overwriting.append(9)
    assert overwriting.load_entries_all() == [9]


def test_t37_any_other_error_of_the_store_is_raised() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[int](store)
    tier.append(1)
    store.fail_at = store.operations
    with pytest.raises(BackendError):
        tier.load_entries_all()


def test_t38_without_a_page_size_everything_from_the_cursor_on() -> None:
    tier = memory_append_log("mine")
    tier.append_entries(range(5))
    for size in (None, 0):
        assert tier.load_entries(None, size) == ([0, 1, 2, 3, 4], None)
        assert tier.load_entries(Cursor(3), size) == ([3, 4], None)
    assert tier.load_entries(None, 4) == ([0, 1, 2, 3], Cursor(4))
    assert tier.load_entries(None, 5) == ([0, 1, 2, 3, 4], None)
    assert tier.load_entries(Cursor(3), 2) == ([3, 4], None)
    for cursor, size in ((Cursor(-1), 1), (None, -1)):
        with pytest.raises(ValueError, match=r"tier 'mine': position .* must be at least 0"):
            tier.load_entries(cursor, size)


def test_t39_a_cursor_past_the_end_gives_an_empty_page() -> None:
    tier = memory_append_log("mine")
    assert tier.load_entries() == ([], None)
    tier.append_entries([1, 2])
    tier.append(3)
    for position in (3, 4, 1_000):
        for size in (None, 2):
            assert tier.load_entries(Cursor(position), size) == ([], None)


def test_t39_the_cost_of_a_page_is_that_of_its_entries() -> None:
    """In rows that are decoded: a log before the page costs one at the most."""
    codec = CountingCodec()
    tier = AppendLogTier[int](
        MemoryByteStore("mine"), codec=codec, key_of=lambda number: f"{number // 100}"
    )
    for start in range(0, 1_000, 10):
        tier.append_entries(range(start, start + 10))

    def cost(position: int) -> int:
        before = codec.decoded_count
        page = tier.load_entries(Cursor(position), 10)
        assert page.entries == list(range(position, position + 10))
        return codec.decoded_count - before

    assert max(map(cost, range(0, 990, 7))) <= 3


_pages = st.integers(1, 9)


@given(
    st.lists(st.lists(st.sampled_from(["a", "ab", "a\0", "b", "\0"]), max_size=6), max_size=12),
    _pages,
    st.none() | st.sampled_from(["", "a", "a\0", "ab", "\0", "c"]),
)
def test_t38_t39_t40_pages_put_together_are_the_log(
    batches: list[list[str]], size: int, key_filter: str | None
) -> None:
    tier: AppendLogTier[tuple[str, int]] = memory_append_log("mine", key_of=lambda entry: entry[0])
    model: dict[str, list[list[Any]]] = {}
    for number, batch in enumerate(batches):
        tier.append_entries([(key, number) for key in batch])
        for key in batch:
            model.setdefault(key, []).append([key, number])
    wanted = [
        entry for key in sorted(model) if key.startswith(key_filter or "") for entry in model[key]
    ]
    assert tier.load_entries_all(key_filter) == wanted
    found: list[Any] = []
    cursor: Cursor | None = None
    while True:
        page = tier.load_entries(cursor, size, key_filter)
        assert page.entries == wanted[len(found) : len(found) + size]
        found += page.entries
        if page.cursor is None:
            break
        assert page.cursor == (len(found), None)
        cursor = page.cursor
    assert found == wanted
    for position in range(len(wanted) + 2):
        assert tier.load_entries(Cursor(position), None, key_filter).entries == wanted[position:]


def test_t40_a_filter_is_a_prefix_of_keys() -> None:
    tier = memory_append_log("mine", key_of=by_first)
    tier.append_entries(["a1", "b1", "ab"])
    assert tier.load_entries(key_filter="a") == (["a1", "ab"], None)
    assert tier.load_entries_all("a") == ["a1", "ab"]
    assert tier.load_entries_all("c") == []
    assert tier.load_entries(None, 1, "a").cursor == Cursor(1, None)


def test_t41_rows_of_other_kinds_are_read_as_logs_unless_a_filter_keeps_them_out() -> None:
    store = MemoryByteStore("mine")
    tier = AppendLogTier[int](store, name="log/a")
    tier.append(1)
    store.put(b"value", b"1")
    with pytest.raises(DecodeError, match=r"row of key 'value' .* written as another type"):
        tier.load_entries_all()
    assert tier.load_entries_all("log/") == [1]


def test_t19_reads_of_no_tier_see_what_waits() -> None:
    tier = memory_append_log("mine", debounce_ms=0)
    tier.append(1)
    assert tier.load_entries() == ([], None)
    assert list(tier.list_by_prefix_bytes("")) == []
    tier.flush()
    tier.append(2)
    assert tier.load_entries() == ([1], None)


def test_th1_entries_that_could_not_be_written_stand_before_later_ones() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[str](store, debounce_ms=0, key_of=by_first)
    tier.append_entries(["a1", "b1"])
    store.block("write")
    store.fail_at = 2
    errors: list[BackendError] = []
    flushing = flush_and_fail(tier, errors)
    assert store.wait_until_blocked("write")
    tier.append_entries(["a2", "c2"])
    store.release("write")
    flushing.join()
    assert len(errors) == 1
    tier.flush()
    assert tier.load_entries_all() == ["a1", "a2", "b1", "c2"]


def test_th2_entries_that_were_rolled_back_during_a_failing_flush_do_not_come_back() -> None:
    store = FaultyByteStore()
    tier = AppendLogTier[int](store, debounce_ms=0)
    tier.append(1)
    store.block("write")
    store.fail_at = 1
    errors: list[BackendError] = []
    flushing = flush_and_fail(tier, errors)
    assert store.wait_until_blocked("write")
    tier.rollback()
    tier.append(2)
    store.release("write")
    flushing.join()
    assert len(errors) == 1
    tier.flush()
    assert tier.load_entries_all() == [2]


def test_th4_tiers_that_share_a_log_lose_nothing() -> None:
    """Two tiers, four threads, one key; and a store without lists, which reads and writes anew."""
    for store in (MemoryByteStore("mine"), UnlistableStore("mine")):
        tiers = [AppendLogTier[int](store, debounce_ms=0, compact_every=3) for _ in range(2)]

        def append(writer: int, tiers: list[AppendLogTier[int]] = tiers) -> None:
            for number in range(100):
                tiers[writer % 2].append(100 * writer + number)

        threads = [threading.Thread(target=append, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for tier in tiers:
            tier.flush()
        found = tiers[0].load_entries_all()
        assert sorted(found) == list(range(400))
        for writer in range(4):
            mine = [number for number in found if number // 100 == writer]
            assert mine == sorted(mine)


def test_th5_logs_are_written_in_the_order_of_their_first_entries() -> None:
    store = RecordingStore()
    tier = AppendLogTier[str](store, debounce_ms=0, key_of=by_first)
    tier.append_entries("zmazy")
    tier.flush()
    assert [change[0] for change in store.writes[0]] == [b"z", b"m", b"a", b"y"]  # type: ignore[index]


def test_th7_an_append_costs_what_is_new() -> None:
    store = RecordingStore()
    codec = CountingCodec()
    tier = AppendLogTier[str](store, codec=codec)

    def cost() -> int:
        store.writes.clear()
        tier.append("entry")
        ((change,),) = store.writes
        assert isinstance(change, tuple)
        return len(change[0]) + len(change[1] or b"")

    tier.append("entry")
    first = cost()
    for _ in range(300):
        assert cost() == first
    # What was stored is decoded once, to count the log's first row.
    assert codec.decoded_count == 1
