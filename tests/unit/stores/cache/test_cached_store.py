"""The write-back cache: what it forwards and logs, in which order, and when it gives way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thalweg.stores.api import ValueAndTimestamp
from thalweg.stores.builders import (
    StoreBuilder,
    key_value_store,
    lru_store,
    timestamped_key_value_store,
    timestamped_window_store,
    window_store,
)
from thalweg.stores.cache import cached_store
from thalweg.stores.cache.entry import HOT_AFTER, WRITTEN
from thalweg.stores.errors import SerializationError, StoreClosedError
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.testing import RecordingHost
from thalweg.stores.updates import add_one, raise_error

TEXT, LONG = serdes.string, serdes.int64
PLENTY = 1_000_000
COUNTS = timestamped_key_value_store("st", TEXT, LONG, in_memory=True).with_caching()
TEXTS = replace(COUNTS, value_serde=TEXT)
WINDOWS = timestamped_window_store(
    "w", TEXT, LONG, retention_ms=100, window_size_ms=10, in_memory=True
).with_caching()

# What the JVM counts of an entry beside its key and value: three references, the dirty flag,
# and of a record its timestamp, offset, partition and topic.
FIXED_BYTES = 25 + 20 + len("input")


class Opened:
    """A cached store, what it forwarded and what it logged."""

    def __init__(
        self,
        builder: StoreBuilder,
        directory: Path,
        cache_bytes: int = PLENTY,
        *,
        send_old_values: bool = False,
        listens: bool = True,
    ) -> None:
        self.host = RecordingHost(directory, cache_bytes)
        self.store: Any = builder.build(self.host)
        self.is_window = isinstance(builder.spec, WindowSpec)
        self.forwarded: list[tuple[Any, ...]] = []
        if listens:
            self.listen(self.hear, send_old_values)

    def listen(self, listener: Callable[..., None], send_old_values: bool) -> None:
        """Tells the store where changes go; a window change is heard with its start."""
        if self.is_window:

            def forward(key: tuple[Any, int], *change: Any) -> None:
                listener(*key, *change)

            self.store.updates(forward, send_old=send_old_values)
        else:
            self.store.updates(listener, send_old=send_old_values)

    def hear(self, *change: Any) -> None:
        self.forwarded.append(change)

    def fold(self, *step: Callable[..., Any]) -> Any:
        """Binds a step; of window stores it is called with key and start as two arguments."""
        bound = self.store.pairs.fold
        if not self.is_window:
            return bound(*step)
        fold = bound(lambda row, *value: step[0](row[0], *value), pytest.fail, raise_error)
        return lambda key, start, value, timestamp: fold((key, start), value, timestamp)

    def get_pair(self, key: str) -> Any:
        return self.store.pairs.read(key)

    def fetch_pair(self, key: str, start_ms: int) -> Any:
        return self.store.pairs.read((key, start_ms))

    def peek_pair(self, *key: Any) -> Any:
        return self.store.pairs.peek(key if self.is_window else key[0])

    def put_pair(self, *row: Any) -> None:
        key, (value, timestamp) = row[:-2], row[-2:]
        self.store.pairs.put(key if self.is_window else key[0], value, timestamp)

    def put(self, key: str, value: Any, timestamp: int) -> None:
        self.host.set_record(timestamp)
        self.put_pair(key, value, timestamp)

    def logged(self) -> list[tuple[bytes, bytes | None, int | None]]:
        return [(change.key, change.value, change.timestamp) for change in self.host.changes]

    @property
    def size_bytes(self) -> int:
        cache = self.host.record_cache
        assert cache is not None
        return cache.size_bytes


@pytest.fixture(scope="module", autouse=True)
def _rows_become_hot_soon() -> Iterator[None]:
    """Makes a row hot at its first fold after a write, so that short runs meet hot rows."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cached_store, "HOT_AFTER", WRITTEN)
        yield


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    all_opened: list[Opened] = []

    def open_store(builder: StoreBuilder, cache_bytes: int = PLENTY, **settings: bool) -> Opened:
        directory = tmp_path / str(len(all_opened))
        all_opened.append(Opened(builder, directory, cache_bytes, **settings))
        return all_opened[-1]

    yield open_store
    for one in all_opened:
        one.store.close()


# Flushing.


def test_updates_of_one_interval_are_one_change_in_the_order_of_last_updates(opened: Any) -> None:
    one = opened(TEXTS, send_old_values=True)
    for key, value, time in (("a", "1", 5), ("b", "1", 6), ("c", "1", 7), ("a", "2", 3)):
        one.put(key, value, time)
    assert one.forwarded == []
    assert one.logged() == []

    one.store.flush_cache()

    assert one.forwarded == [("b", "1", None, 6), ("c", "1", None, 7), ("a", "2", None, 3)]
    assert one.logged() == [(b"b", b"1", 6), (b"c", b"1", 7), (b"a", b"2", 3)]
    one.store.flush_cache()
    assert len(one.forwarded) == 3


@pytest.mark.parametrize("send_old_values", [True, False])
def test_the_old_value_is_that_of_the_interval_before(opened: Any, send_old_values: bool) -> None:
    one = opened(TEXTS, send_old_values=send_old_values)
    for value in ("1", "2", None, "3"):
        one.put("a", value, 5)
        one.put("a", value, 5)
        one.store.flush_cache()

    old = [None, "1", "2", None] if send_old_values else [None] * 4
    assert [(new, before) for _, new, before, _ in one.forwarded] == list(
        zip(["1", "2", None, "3"], old, strict=True)
    )


def test_the_old_value_of_a_row_read_before_is_kept_up(opened: Any) -> None:
    one = opened(TEXTS, send_old_values=True)
    one.store.restore([(1, b"a", b"0", 0)])
    assert one.get_pair("a") == ("0", 1)
    for value in ("1", "2"):
        one.put("a", value, 5)
        one.store.flush_cache()

    assert one.forwarded == [("a", "1", "0", 5), ("a", "2", "1", 5)]


def test_what_came_and_went_within_an_interval_leaves_no_trace(opened: Any) -> None:
    one = opened(TEXTS)
    one.put("a", "1", 5)
    one.put("a", None, 6)
    one.put("never", None, 6)
    one.store.flush_cache()

    assert (one.forwarded, one.logged()) == ([], [])
    assert one.size_bytes == 0


def test_without_a_listener_every_deletion_is_logged(opened: Any) -> None:
    one = opened(key_value_store("st", TEXT, TEXT, in_memory=True).with_caching(), listens=False)
    one.host.set_record(6)
    one.store.put("a", None)
    one.store.flush_cache()

    assert one.logged() == [(b"a", None, 6)]


def test_a_deletion_goes_on_with_the_time_of_the_record_that_deletes(opened: Any) -> None:
    one = opened(TEXTS, send_old_values=True)
    one.put("a", "1", 50)
    one.store.flush_cache()
    one.put("a", None, 20)
    one.store.flush_cache()

    assert one.forwarded[-1] == ("a", None, "1", 20)
    assert one.logged()[-1] == (b"a", None, 20)
    assert list(one.store.all()) == []


def test_a_change_is_forwarded_in_the_context_of_its_last_record(opened: Any) -> None:
    one = opened(TEXTS)
    current, seen = one.host.current, []

    def listen(key: str, _new: Any, _old: Any, timestamp: int) -> None:
        seen.append((key, current.topic, current.origin, current.timestamp, timestamp))

    one.listen(listen, False)
    one.host.set_record(5, offset=1, topic="one")
    one.put_pair("a", "1", 40)
    one.host.set_record(6, offset=2, topic="two", headers=[("h", b"1")])
    one.put_pair("a", "2", 41)
    one.host.set_record(9, offset=3, topic="three")
    one.store.flush_cache()

    # The time children see is that of the value, as it is for whoever forwards.
    assert seen == [("a", "two", (2, [("h", b"1")]), 41, 41)]
    assert (current.topic, current.origin, current.timestamp) == ("three", 3, 9)


def test_a_listener_may_write_to_the_store_it_hears_of(opened: Any) -> None:
    one = opened(TEXTS, send_old_values=True)

    def listen(key: str, new: str | None, old: str | None, timestamp: int) -> None:
        one.hear(key, new, old, timestamp)
        if new is not None and len(new) < 3:
            one.put_pair(key, new + new[0], timestamp)

    one.listen(listen, True)
    one.put("a", "x", 1)
    for _ in range(4):
        one.store.flush_cache()

    assert [(new, old) for _, new, old, _ in one.forwarded] == [
        ("x", None), ("xx", "x"), ("xxx", "xx"),
    ]  # fmt: skip


def test_values_that_can_change_are_not_shared(opened: Any) -> None:
    lists: Serde[Any] = serdes.json(list[int])
    one = opened(replace(COUNTS, value_serde=lists), send_old_values=True)

    def append(_key: str, value: int, aggregate: list[int] | None) -> list[int]:
        aggregate = [] if aggregate is None else aggregate
        aggregate.append(value)
        return aggregate

    fold = one.fold(append, one.hear, one.hear)
    for number in (1, 2, 3):
        fold("a", number, number)
        fold("a", number, number)
        one.store.flush_cache()

    assert [(new, old) for _, new, old, _ in one.forwarded] == [
        ([1, 1], None),
        ([1, 1, 2, 2], [1, 1]),
        ([1, 1, 2, 2, 3, 3], [1, 1, 2, 2]),
    ]
    one.get_pair("a")[0].append("not stored")
    assert one.get_pair("a")[0] == [1, 1, 2, 2, 3, 3]


def test_what_cannot_be_written_leaves_the_row_as_it_was(opened: Any) -> None:
    one = opened(replace(COUNTS, value_serde=serdes.json(list[int])))
    one.store.restore([(1, b"a", b"[1]", 0)])

    with pytest.raises(SerializationError):
        one.put_pair("a", object(), 2)
    with pytest.raises(SerializationError):
        one.put_pair("b", object(), 2)

    assert one.get_pair("a") == ([1], 1)
    assert one.get_pair("b") is None
    one.store.flush_cache()
    assert one.forwarded == []


@pytest.mark.parametrize("cache_bytes", [1, 2 * FIXED_BYTES, 3 * FIXED_BYTES, PLENTY])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "flush"]),
            st.sampled_from("abcd"),
            st.sampled_from(["", "1", "22"]),
        ),
        max_size=40,
    ),
    st.integers(1, 3),
    st.booleans(),
)
def test_a_listener_may_use_the_store_while_it_is_flushed(
    cache_bytes: int, steps: list[tuple[str, str, str]], answers: int, holds: bool
) -> None:
    """Each call of the listener takes steps of its own, in the middle of a flush."""
    rows: dict[str, str] = {}
    told: dict[str, str | None] = {}
    left = list(reversed(steps))
    is_held = False
    with TemporaryDirectory() as directory:
        one = Opened(TEXTS, Path(directory), cache_bytes)
        cache: Any = one.host.record_cache

        def step() -> None:
            what, key, value = left.pop()
            if what == "put":
                rows[key] = value  # first: to put may be to evict, and so to take other steps
                one.put(key, value or None, len(left))
            elif what == "get":
                # A read may evict, and so take other steps, after it has found the row.
                before, heard = rows.get(key, ""), told.get(key)
                found = one.get_pair(key) or ("",)
                assert found[0] in (before, rows.get(key, ""))
                assert (one.peek_pair(key) or ("",))[0] == rows.get(key, "")
                assert (one.store.forwarded_row(key) or (None,))[0] in (heard, told.get(key))
            else:
                one.store.flush_cache()

        def listen(key: str, new: str | None, old: str | None, _timestamp: int) -> None:
            nonlocal is_held
            assert not is_held, "something was forwarded while the budget was held"
            assert old == told.get(key)
            told[key] = new
            if holds:
                is_held = True
                cache.hold()
            for _ in range(answers):
                if left:
                    step()
            if holds:
                is_held = False
                cache.release()

        one.listen(listen, True)
        while left:
            step()
        while one.store.has_unflushed:
            one.store.flush_cache()

        expected = {key: value for key, value in rows.items() if value}
        assert {key: value for key, value in told.items() if value is not None} == expected
        below = {bytes.fromhex(row["key"]).decode() for row in one.store.dump()[1]}
        assert below == expected.keys()
        assert dict(map(lambda row: row[:2], one.logged())).keys() >= {k.encode() for k in expected}
        assert cache.size_bytes <= cache.max_bytes
        one.store.close()


# Aggregation steps bound to the cache.

steps = st.lists(
    st.tuples(
        st.sampled_from("abcd") | st.none(),
        st.sampled_from([0, 1, 2, 3]) | st.none(),
        st.integers(0, 9),
        st.sampled_from(["input", "other", None]),
        st.sampled_from([None, None, [("h", b"12")]]),
        st.sampled_from([False, False, True]),
        st.sampled_from([1, 1, 1, 0, -2]),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([PLENTY, 300, 1]), st.sampled_from([LONG, serdes.json(int)]))
@example([("a", 1, 1, "input", None, False, 1)] * 3, PLENTY, LONG)
@example([("a", 1, 1, "input", None, True, 1), ("a", 0, 1, "input", None, False, 1)], PLENTY, LONG)
@example(
    [
        (key, 1, 1, "input", None, False, step)
        for key, step in zip("abab", (1, 0, 1, 0), strict=True)
    ],
    PLENTY,
    LONG,
)
@example(
    [
        (key, 1, 1, "input", None, False, step)
        for key, step in zip("ababa", (9, 1, 1, 1, -5), strict=True)
    ],
    PLENTY,
    LONG,
)
def test_a_bound_step_does_what_reading_and_writing_does(
    records: list[tuple[Any, ...]], cache_bytes: int, value_serde: Serde[int]
) -> None:
    def add(_key: str, value: int, total: int | None) -> int | None:
        return None if value == 0 else value + (total or 0)

    builder = replace(COUNTS, value_serde=value_serde)
    with TemporaryDirectory() as directory:
        bound, plain = (
            Opened(builder, Path(directory) / name, cache_bytes, send_old_values=True)
            for name in ("bound", "plain")
        )
        fold = bound.fold(add, bound.hear, bound.hear)
        offset = 1_000
        for key, value, time, topic, headers, flushes, step in records:
            offset += step
            for one in (bound, plain):
                one.host.set_record(time, offset=offset, topic=topic, headers=headers)
            fold(key, value, time)
            if key is None or value is None:
                plain.hear(key, value, time)
            else:
                pair = plain.get_pair(key)
                old, newest = pair or (None, time)
                new = add(key, value, old)
                plain.put_pair(key, new, time if new is None else max(newest, time))
            if flushes:
                for one in (bound, plain):
                    one.store.flush_cache()
            assert bound.size_bytes == plain.size_bytes <= cache_bytes
            assert bound.peek_pair("a") == plain.peek_pair("a")
            assert dict(bound.store.pairs.cached_rows()) == dict(plain.store.pairs.cached_rows())
        for one in (bound, plain):
            one.store.flush_cache()
            one.store.close()

    assert bound.forwarded == plain.forwarded
    assert bound.host.changes == plain.host.changes


def test_a_read_between_two_steps_keeps_the_order_of_updates_and_of_use(opened: Any) -> None:
    one = opened(COUNTS, cache_bytes=3 * (FIXED_BYTES + 1 + 16))
    count = one.fold(add_one, one.hear, one.hear)
    for offset, key in enumerate("abcab"):
        one.host.set_record(5, offset=offset)
        count(key, "x", 5)
    assert one.get_pair("c") == (1, 5)
    assert one.get_pair("a") == (2, 5)
    one.host.set_record(6, offset=9)
    count("d", "x", 6)  # no room for four: b was used longest ago, and takes all dirty ones along

    assert [(key, new) for key, new, _, _ in one.forwarded] == [
        ("b", 2), ("c", 1), ("a", 2), ("d", 1),
    ]  # fmt: skip


def test_another_thread_sees_value_and_time_of_one_update(opened: Any) -> None:
    one = opened(COUNTS)
    fold = one.fold(lambda _key, value, _old: value, one.hear, one.hear)
    one.host.set_record(0, offset=0)
    fold("a", 0, 0)
    seen: list[Any] = []
    is_done = threading.Event()

    def look() -> None:
        while not is_done.is_set():
            seen.append(one.peek_pair("a"))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(1, 20_000):
            one.host.set_record(number, offset=number)
            fold("a", number, number)
            if number % 1_000 == 0:
                one.store.flush_cache()
    finally:
        is_done.set()
        reader.join()
        sys.setswitchinterval(interval)

    assert [pair for pair in seen if pair[0] != pair[1]] == []
    assert [value for value, _ in seen] == sorted(value for value, _ in seen)


def test_counting_is_a_step_that_adds_one(opened: Any) -> None:
    one, two = opened(COUNTS, send_old_values=True), opened(COUNTS, send_old_values=True)
    count = one.fold(add_one, one.hear, one.hear)
    fold = two.fold(lambda _k, _v, old: 1 if old is None else old + 1, two.hear, two.hear)
    records = [("a", "x", 5), ("b", "x", 6), ("a", "y", 3), (None, "x", 1), ("a", None, 1)]
    for _ in range(2):
        for key, value, time in records:
            for opened_store, step in ((one, count), (two, fold)):
                opened_store.host.set_record(time)
                step(key, value, time)
        one.store.flush_cache()
        two.store.flush_cache()

    assert one.forwarded == two.forwarded
    assert one.logged() == two.logged()


def test_a_step_that_raises_changes_nothing(opened: Any) -> None:
    one = opened(COUNTS)
    failures = []

    def divide(_key: str, value: int, total: int | None) -> int:
        return 6 // value + (total or 0)

    fold = one.fold(divide, one.hear, lambda *failure: failures.append(failure))
    for value in (2, 0, 3, 0):
        fold("a", value, value)

    assert [(type(error), key, value, time) for error, key, value, time in failures] == [
        (ZeroDivisionError, "a", 0, 0),
        (ZeroDivisionError, "a", 0, 0),
    ]
    assert one.get_pair("a") == (5, 3)


# The budget.


def test_rows_weigh_what_they_weigh_in_the_jvm(opened: Any) -> None:
    one = opened(TEXTS)
    one.put("key", "value", 1)
    assert one.size_bytes == 3 + 8 + 5 + FIXED_BYTES
    one.put("key", "é", 1)
    assert one.size_bytes == 3 + 8 + 2 + FIXED_BYTES
    one.put("key", None, 1)
    assert one.size_bytes == 3 + FIXED_BYTES
    one.host.set_record(1, headers=[("name", b"12345"), ("n", None)])
    one.put_pair("key", "value", 1)
    assert one.size_bytes == 3 + 8 + 5 + FIXED_BYTES + 4 + 5 + 1
    one.host.set_record(1, topic=None)
    one.put_pair("key", "value", 1)
    assert one.size_bytes == 3 + 8 + 5 + FIXED_BYTES - len("input")


def test_a_row_that_was_only_read_weighs_less_and_needs_no_flush(opened: Any) -> None:
    one = opened(TEXTS)
    one.store.restore([(1, b"a", b"12", 0)])
    assert one.get_pair("a") == ("12", 1)
    assert one.get_pair("absent") is None

    assert one.size_bytes == 1 + 8 + 2 + FIXED_BYTES - len("input")
    one.store.flush_cache()
    assert one.forwarded == []


def test_a_window_row_weighs_its_segment_too(opened: Any) -> None:
    one = opened(WINDOWS)
    one.put_pair("key", 50, 1, 55)
    assert one.size_bytes == 8 + (3 + 12) + 8 + 8 + FIXED_BYTES
    one.put_pair("key", 50, None, 55)
    assert one.size_bytes == 8 + (3 + 12) + FIXED_BYTES


def test_the_victim_goes_first_and_takes_all_dirty_rows_along(opened: Any) -> None:
    room_for_three = 3 * (1 + 8 + 1 + FIXED_BYTES)
    one = opened(TEXTS, room_for_three)
    for key in ("a", "b", "c"):
        one.put(key, "1", 1)
    one.put("a", "2", 2)
    one.get_pair("b")
    assert one.forwarded == []

    one.put("d", "1", 3)  # "c" was not used for longest

    assert [key for key, *_ in one.forwarded] == ["c", "b", "a", "d"]
    assert one.size_bytes == room_for_three
    one.put("e", "1", 4)  # "a" is next, and clean
    assert len(one.forwarded) == 4
    one.store.flush_cache()
    assert [key for key, *_ in one.forwarded[4:]] == ["e"]


def test_a_cache_with_room_for_nothing_writes_through(opened: Any) -> None:
    one = opened(TEXTS, 1, send_old_values=True)
    one.put("a", "1", 1)
    one.put("a", "2", 2)

    assert one.forwarded == [("a", "1", None, 1), ("a", "2", "1", 2)]
    assert one.size_bytes == 0


def test_a_store_gives_way_itself_and_leaves_others_their_rows(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path, 200)
    full, other = (replace(TEXTS, name=name).build(host) for name in ("full", "other"))
    full.pairs.put("a", "x" * 100, 1)  # type: ignore[attr-defined]
    other.pairs.put("b", "y", 1)  # type: ignore[attr-defined]

    assert [change.store for change in host.changes] == ["other"]
    for store in (full, other):
        store.close()
    assert host.record_cache is not None
    assert host.record_cache.size_bytes == 0


def test_a_store_is_cached_only_where_there_is_a_cache_and_a_use_for_it(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path, PLENTY)
    duplicates = window_store(
        "d", TEXT, LONG, retention_ms=9, window_size_ms=9, retain_duplicates=True, in_memory=True
    )

    assert COUNTS.build(host).is_cached
    assert WINDOWS.build(host).is_cached
    for builder, where in (
        (COUNTS.without_caching(), host),
        (WINDOWS.without_caching(), host),
        (duplicates.with_caching(), host),
        (COUNTS, RecordingHost(tmp_path)),
        (COUNTS, RecordingHost(tmp_path, 0)),
        (WINDOWS, RecordingHost(tmp_path, 0)),
    ):
        store = builder.build(where)
        assert not store.is_cached
        seen: list[Any] = []
        key: Any = ("a", 5) if isinstance(builder.spec, WindowSpec) else "a"
        updates = store.updates(partial(_note, seen), send_old=False)
        updates.write(key, 1, None, 5)
        assert seen == [(key, 1, None, 5)]  # at once
        store.close()


def _note(seen: list[Any], *change: Any) -> None:
    seen.append(change)


# Reading.


def test_scans_show_what_is_cached_over_what_is_stored(opened: Any) -> None:
    one = opened(TEXTS)
    for key in ("a", "b", "c"):
        one.put(key, "1", 1)
    one.store.flush_cache()
    one.put("b", "2", 2)
    one.put("c", None, 2)
    one.put("d", "1", 2)

    expected = [("a", ("1", 1)), ("b", ("2", 2)), ("d", ("1", 2))]
    assert list(one.store.all()) == expected
    assert list(one.store.read_only().all()) == expected
    assert list(one.store.range("b", "d")) == expected[1:]


def test_plain_stores_can_be_cached(opened: Any) -> None:
    one = opened(key_value_store("st", TEXT, TEXT, in_memory=True).with_caching(), listens=False)
    one.host.set_record(7)
    one.store.put("a", "1")
    assert one.store.put_if_absent("a", "2") == "1"
    one.host.set_record(8)
    assert one.store.delete("a") == "1"
    one.store.put_all([("b", "1"), ("a", "3")])
    assert one.logged() == []
    one.store.flush_cache()

    assert one.logged() == [(b"b", b"1", 8), (b"a", b"3", 8)]
    assert one.store.read_only().get("a") == "3"


def test_an_lru_store_below_may_forget_what_the_cache_still_has(opened: Any) -> None:
    plain = lru_store("lru", 1, TEXT, TEXT).with_caching()
    builder = replace(plain, spec=plain.spec.with_timestamps())
    one = opened(builder, send_old_values=True)
    one.put("a", "1", 1)
    one.put("b", "1", 1)
    one.store.flush_cache()  # the store below keeps "b" only
    one.put("a", "2", 2)
    one.put("b", "2", 2)
    one.store.flush_cache()

    assert [(key, old) for key, _, old, _ in one.forwarded[2:]] == [("a", None), ("b", None)]
    assert one.store.get("a") == ValueAndTimestamp("2", 2)
    assert [key for key, _ in one.store.all()] == ["a", "b"]


def test_uses_of_the_cache_are_counted(opened: Any) -> None:
    one = opened(COUNTS)
    count = one.fold(lambda _k, _v, old: (old or 0) + 1, one.hear, one.hear)
    for key in "aababab":
        count(key, "x", 1)
    one.get_pair("absent")
    one.put_pair("c", 1, 1)

    # Each step reads and writes; the first of a key misses.
    assert (one.store.gets_total, one.store.puts_total) == (8, 8)
    assert (one.store.cache_hits, one.store.cache_misses) == (5, 3)


# Windows.


def test_window_updates_are_one_change_per_window(opened: Any) -> None:
    one = opened(WINDOWS, send_old_values=True)
    for number, start in enumerate((50, 60, 50)):
        one.host.set_record(start + 5)
        one.put_pair("a", start, number, start + 5)
    one.store.flush_cache()
    one.put_pair("a", 50, 9, 57)
    one.store.flush_cache()

    assert one.forwarded == [("a", 60, 1, None, 65), ("a", 50, 2, None, 55), ("a", 50, 9, 2, 57)]
    assert [(change.key[-12:-4], change.timestamp) for change in one.host.changes] == [
        ((60).to_bytes(8, "big"), 65),
        ((50).to_bytes(8, "big"), 55),
        ((50).to_bytes(8, "big"), 57),
    ]


def test_a_new_row_is_looked_for_once_below(opened: Any) -> None:
    one = opened(WINDOWS, send_old_values=True)
    fold = one.fold(lambda _key, value, total: value + (total or 0))
    for value in (1, 2):
        one.host.set_record(55)
        fold("a", 50, value, 55)
    one.store.flush_cache()

    assert one.forwarded == [("a", 50, 3, None, 55)]
    assert one.store.pairs._below.gets == 1


def test_a_window_that_came_and_went_leaves_no_trace(opened: Any) -> None:
    one = opened(WINDOWS)
    one.put_pair("a", 50, 1, 55)
    one.put_pair("a", 50, None, 56)
    one.store.flush_cache()

    assert (one.forwarded, one.host.changes, one.size_bytes) == ([], [], 0)


def test_cached_windows_are_read_past_the_retention(opened: Any) -> None:
    one = opened(WINDOWS, send_old_values=True)
    one.put_pair("a", 50, 1, 55)
    one.store.flush_cache()
    one.put_pair("a", 500, 1, 505)
    one.store.flush_cache()

    # The row below is expired; the cache still has it, for reads of either kind.
    assert one.store.dump()[1][0]["start"] == 500
    assert one.fetch_pair("a", 50) == (1, 55)
    assert [start for start, _ in one.store.fetch("a", 0, 999)] == [50, 500]
    # An update finds no old value below, and a deletion leaves no trace at all.
    one.put_pair("a", 50, 2, 56)
    one.store.flush_cache()
    assert one.forwarded[-1] == ("a", 50, 2, None, 56)
    logged = len(one.host.changes)
    one.put_pair("a", 50, None, 57)
    one.store.flush_cache()
    assert one.forwarded[-1] == ("a", 50, 2, None, 56)
    assert len(one.host.changes) == logged
    assert one.fetch_pair("a", 50) is None


def test_reading_a_window_leaves_nothing_in_the_cache(opened: Any) -> None:
    one = opened(WINDOWS)
    one.put_pair("a", 50, 1, 55)
    one.store.flush()
    one.store.apply_pending()
    again = opened(WINDOWS)
    again.store.restore(one.host.restore_records())

    assert again.fetch_pair("a", 50) == (1, 55)
    assert again.size_bytes == 0
    assert (again.store.cache_hits, again.store.cache_misses) == (0, 1)


window_steps = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([40, 50, 60, 200]),
        st.sampled_from([0, 1, 2, 3]),
        st.integers(0, 9),
        st.sampled_from(["input", "input", "other", None]),
        st.sampled_from([None, None, None, [("h", b"12")]]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=40,
)


@given(
    window_steps,
    st.sampled_from([PLENTY, 300, 1]),
    st.sampled_from([LONG, serdes.json(int)]),
    st.booleans(),
)
@example([("a", 50, 1, 5, "input", None, False)] * 3, PLENTY, LONG, False)
@example([("a", 50, value, 5, "input", None, value == 1) for value in (1, 2, 0)], 300, LONG, False)
def test_a_step_bound_to_windows_does_what_reading_and_writing_does(
    records: list[tuple[Any, ...]], cache_bytes: int, value_serde: Serde[int], sends_old: bool
) -> None:
    def add(_key: str, value: int, total: int | None) -> int | None:
        return None if value == 0 else value + (total or 0)

    builder = replace(WINDOWS, value_serde=value_serde)
    with TemporaryDirectory() as directory:
        bound, plain = (
            Opened(builder, Path(directory) / name, cache_bytes, send_old_values=old)
            for name, old in (("bound", sends_old), ("plain", True))
        )
        fold = bound.fold(add)
        for offset, (key, start, value, late, topic, headers, flushes) in enumerate(records):
            time = start + late
            for one in (bound, plain):
                one.host.set_record(time, offset=offset, topic=topic, headers=headers)
            fold(key, start, value, time)
            old, newest = plain.fetch_pair(key, start) or (None, time)
            new = add(key, value, old)
            plain.put_pair(key, start, new, time if new is None else max(newest, time))
            if flushes:
                for one in (bound, plain):
                    one.store.flush_cache()
            assert bound.size_bytes == plain.size_bytes <= cache_bytes
            assert bound.peek_pair("a", 50) == plain.peek_pair("a", 50)
            assert list(bound.store.all()) == list(plain.store.all())
        for one in (bound, plain):
            one.store.flush_cache()
            one.store.close()

    forwarded = [
        (key, start, new, old if sends_old else None, time)
        for key, start, new, old, time in plain.forwarded
    ]
    assert bound.forwarded == forwarded
    assert bound.host.changes == plain.host.changes
    for count in ("gets_total", "puts_total", "cache_hits", "cache_misses"):
        assert getattr(bound.store, count) == getattr(plain.store, count)


@pytest.mark.parametrize("builder", [COUNTS, WINDOWS])
def test_a_row_becomes_hot_after_a_few_folds(
    opened: Any, builder: StoreBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_store, "HOT_AFTER", HOT_AFTER)
    one = opened(builder)
    fold = one.fold(lambda _key, value, total: value + (total or 0), pytest.fail, raise_error)
    key: Any = ("a", 50) if isinstance(builder.spec, WindowSpec) else ("a",)
    hot = one.store.pairs._table.hot
    for offset in range(12):
        one.host.set_record(50 + offset, offset=offset)
        fold(*key, 1, 50 + offset)
        assert bool(hot) is (offset > 4)
        assert one.peek_pair(*key) == (offset + 1, 50 + offset)
        if offset == 8:
            one.store.flush_cache()
    one.store.flush_cache()

    assert one.forwarded == [(*key, 9, None, 58), (*key, 12, None, 61)]


def test_windows_that_one_record_updates_are_flushed_in_the_order_of_their_updates(
    opened: Any,
) -> None:
    one = opened(WINDOWS)
    fold = one.fold(lambda _key, value, total: value + (total or 0))
    for offset in range(3):
        one.host.set_record(55, offset=offset)
        for start in (50, 45) if offset < 2 else (45, 40, 50):
            fold("a", start, 1, 55)
    one.store.flush_cache()

    assert [change[1:3] for change in one.forwarded] == [(45, 3), (40, 1), (50, 3)]


def test_a_step_on_a_window_that_raises_changes_nothing(opened: Any) -> None:
    one = opened(WINDOWS)
    fold = one.fold(lambda _key, value, total: 6 // value + (total or 0))
    fold("a", 50, 2, 51)
    for start in (50, 60):
        with pytest.raises(ZeroDivisionError):
            fold("a", start, 0, 55)

    assert one.fetch_pair("a", 50) == (3, 51)
    assert one.fetch_pair("a", 60) is None


@pytest.mark.parametrize("in_memory", [True, False])
def test_scans_of_windows_find_what_is_cached_wherever_it_stands(
    opened: Any, in_memory: bool
) -> None:
    """Scans of the worker look by order, those of other threads at every cached row."""
    one = opened(
        timestamped_window_store(
            "w", TEXT, LONG, retention_ms=600_000, window_size_ms=10, in_memory=in_memory
        ).with_caching()
    )
    rows = [
        (key, start)
        for start in (0, 10, 59_990, 300_000, 310_000, 610_000, 4_000_000)
        for key in ("", "a", "ab", "b", "é")
    ]
    shared = one.store.read_only()
    for number, (key, start) in enumerate(rows):
        one.put_pair(key, start, number, start)
        if number % 11 == 10:
            one.store.flush_cache()
    known = {row: number for number, row in enumerate(rows)}

    for key in ("", "a", "ab", "b"):
        for span in ((0, 10), (10, 300_000), (0, 2**63 - 1), (5, 3), (-9, 59_990)):
            starts = sorted(
                (start, value)
                for (one_key, start), value in known.items()
                if one_key == key and span[0] <= start <= span[1]
            )
            found = [(start, pair.value) for start, pair in one.store.fetch(key, *span)]
            assert found == starts
            assert [
                (start, pair.value) for start, pair in one.store.backward_fetch(key, *span)
            ] == starts[::-1]
            assert [(start, pair.value) for start, pair in shared.fetch(key, *span)] == starts
    for lower, upper in ((None, None), ("a", "b"), (None, "ab"), ("ab", None), ("b", "a")):
        for first, last in ((0, 10), (10, 300_000), (0, 2**63 - 1)):
            asked = (lower, upper, first, last)
            found_rows = list(one.store.fetch_range(*asked))
            assert found_rows == list(shared.fetch_range(*asked))
            assert {(w.key, w.window.start_ms): pair.value for w, pair in found_rows} == {
                (key, start): value
                for (key, start), value in known.items()
                if first <= start <= last
                and (lower is None or key >= lower)
                and (upper is None or key <= upper)
            }


def test_a_listener_may_scan_the_store_it_hears_of(opened: Any) -> None:
    one = opened(COUNTS, listens=False)
    seen: list[list[tuple[str, int]]] = []

    def look(*_change: Any) -> None:
        seen.append([(key, pair.value) for key, pair in one.store.all()])

    one.listen(look, False)
    assert list(one.store.all()) == []  # from here on rows are kept in order
    for key in ("b", "a"):
        one.put(key, 1, 1)
    one.store.flush_cache()
    one.put("c", 1, 2)
    one.put("a", None, 2)
    one.store.flush_cache()

    # Rows on their way down are there still, and deleted ones are not.
    assert seen == [[("a", 1), ("b", 1)]] * 2 + [[("b", 1), ("c", 1)]] * 2
    assert [key for key, _ in one.store.all()] == ["b", "c"]


# What a listener, a step or a caller may do besides.


def half(_key: str, value: int, total: int | None) -> Any:
    """A step whose result an int64 cannot hold where the value is odd."""
    return (total or 0) + (value if value % 2 == 0 else 0.5)


def test_an_aggregate_that_cannot_be_written_is_the_error_of_its_record(opened: Any) -> None:
    keyed, windowed = opened(COUNTS), opened(WINDOWS)
    failures: list[Exception] = []
    fold = keyed.fold(half, keyed.hear, lambda error, *_record: failures.append(error))
    fold_window = windowed.fold(half)
    for offset, (key, value) in enumerate([("a", 1), ("a", 2), ("a", 1), ("b", 1), ("b", 2)]):
        keyed.host.set_record(50, offset=offset)
        windowed.host.set_record(50, offset=offset)
        fold(key, value, 50)
        if value == 1:
            with pytest.raises(SerializationError):
                fold_window(key, 50, value, 50)
        else:
            fold_window(key, 50, value, 50)

    assert [type(error) for error in failures] == [SerializationError] * 3
    for one in (keyed, windowed):
        one.store.flush_cache()
    assert keyed.forwarded == [("a", 2, None, 50), ("b", 2, None, 50)]
    assert windowed.forwarded == [("a", 50, 2, None, 50), ("b", 50, 2, None, 50)]


def test_a_value_that_cannot_be_written_is_refused_when_it_is_put(opened: Any) -> None:
    for one, key in ((opened(COUNTS), ("a",)), (opened(WINDOWS), ("a", 50))):
        with pytest.raises(SerializationError):
            one.put_pair(*key, "text", 50)
        one.store.flush_cache()
        assert one.forwarded == []


def test_a_step_that_raises_has_used_the_window(opened: Any) -> None:
    one = opened(WINDOWS, cache_bytes=2 * (FIXED_BYTES + 8 + 1 + 12 + 16))
    fold = one.fold(lambda _key, value, total: 6 // value + (total or 0))
    for key, value in (("a", 1), ("b", 1)):
        fold(key, 50, value, 50)
    with pytest.raises(ZeroDivisionError):
        fold("a", 50, 0, 50)
    fold("c", 50, 1, 50)

    assert [key for key, *_ in one.forwarded] == ["b", "a", "c"]  # b was used longest ago


@pytest.mark.parametrize("builder", [COUNTS, WINDOWS])
def test_the_last_listener_hears_what_it_asked_for(opened: Any, builder: StoreBuilder) -> None:
    one = opened(builder, listens=False)
    key = ("a", 50) if isinstance(builder.spec, WindowSpec) else ("a",)
    one.listen(lambda *_change: pytest.fail("it was replaced"), False)
    one.listen(one.hear, True)
    for value in (1, 2):
        one.put_pair(*key, value, 50)
        one.store.flush_cache()

    assert one.forwarded == [(*key, 1, None, 50), (*key, 2, 1, 50)]


@pytest.mark.parametrize("builder", [COUNTS, WINDOWS])
def test_a_closed_store_writes_nothing(tmp_path: Path, builder: StoreBuilder) -> None:
    one = Opened(builder, tmp_path)
    keys: list[tuple[Any, ...]] = [("a", 1_000_000), ("b", 0)]
    if not isinstance(builder.spec, WindowSpec):
        keys = [("a",), ("b",)]
    one.put_pair(*keys[0], 1, 1)
    one.store.flush_cache()
    one.store.close()
    one.put_pair(*keys[1], 1, 1)
    with pytest.raises(StoreClosedError):
        one.store.flush_cache()

    assert len(one.forwarded) == len(one.host.changes) == 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_scans_may_ask_beyond_all_time(opened: Any, in_memory: bool) -> None:
    one = opened(replace(WINDOWS, backend="memory" if in_memory else "rocks"))
    one.put_pair("a", 50, 1, 50)
    for span in ((0, 2**63 + 7), (-(10**30), 10**30)):
        assert [start for start, _ in one.store.fetch("a", *span)] == [50]
        assert [key.key for key, _ in one.store.fetch_all(*span)] == ["a"]
        assert [key.key for key, _ in one.store.fetch_range("a", "b", *span)] == ["a"]
    assert list(one.store.fetch("a", -(10**30), -1)) == []


def test_a_listener_that_writes_an_evicted_row_anew_finds_the_new_one(opened: Any) -> None:
    one = opened(COUNTS, cache_bytes=FIXED_BYTES + 1 + 16 + 1, listens=False)
    seen: list[Any] = []

    def again(key: str, value: int, *_change: Any) -> None:
        if (key, value) == ("a", 1):
            one.put("a", 9, 2)
            seen.append(one.get_pair("a"))
            seen.append([(row, pair.value) for row, pair in one.store.all()])
            seen.append([(row, pair.value) for row, pair in one.store.read_only().all()])

    one.listen(again, False)
    one.put("a", 1, 1)
    one.put("b", 5, 1)

    assert seen == [(9, 2), [("a", 9), ("b", 5)], [("a", 9), ("b", 5)]]


def test_a_cold_step_that_raises_leaves_the_order_of_updates(opened: Any) -> None:
    one = opened(COUNTS)
    fold = one.fold(
        lambda _key, value, total: 6 // value + (total or 0), one.hear, lambda *_failure: None
    )
    for key, value, topic, offset in (
        ("a", 1, "input", 100),
        ("a", 1, "input", 101),
        ("k", 1, "other", 1),
        ("k", 1, "other", 2),
        ("a", 1, "input", 102),
        ("x", 0, "other", 3),
        ("k", 1, "other", 4),
    ):
        one.host.set_record(5, offset=offset, topic=topic)
        fold(key, value, 5)
    one.store.flush_cache()

    assert [key for key, *_ in one.forwarded] == ["a", "k"]
