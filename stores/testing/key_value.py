"""The conformance suite of key-value stores: every stack of layers against a sorted map.

Owns what any key-value store must do, whatever keeps its bytes and whichever layers it has.
A test class inherits the suite and says how to open the store; pytest and hypothesis do the
rest::

    class TestMine(KeyValueStoreSuite):
        def open_store(self, host):
            return my_builder.build(host)

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.stores.api import ValueAndTimestamp
from thalweg.stores.errors import StoreClosedError
from thalweg.stores.testing.host import RecordingHost

Operation: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = dict[str, tuple[int, int]]
"""Key -> (value, timestamp)."""

# Few, so that operations meet; with the bytes that ranges go wrong at.
_keys = st.sampled_from(["", "a", "a\0", "ab", "b", "é"])
_values = st.integers(-3, 3)
_times = st.integers(0, 9)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _keys, _values, _times),
        st.tuples(st.just("put"), _keys, st.none() | _values, _times),
        st.tuples(st.just("put_if_absent"), _keys, _values, _times),
        st.tuples(st.just("put_all"), st.lists(st.tuples(_keys, _values), max_size=3), _times),
        st.tuples(st.just("delete"), _keys, _times),
        st.tuples(st.just("get"), _keys),
        st.tuples(st.just("forwarded_row"), _keys),
        st.tuples(st.just("scan"), st.none() | _keys, st.none() | _keys),
        st.tuples(st.just("scan"), _keys, _keys),
        st.tuples(st.just("prefix"), _keys),
        st.tuples(st.just("flush")),
        st.tuples(st.just("flush")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash")),
    ),
    max_size=30,
)


class KeyValueStoreSuite:
    """What a key-value store of `serdes.string` to `serdes.int64` must do.

    Attributes:
        timestamped: whether it keeps `ValueAndTimestamp`.
        logged: whether it logs its changes.
        cache_bytes: budget of the record cache it is given; None for none. A small one
            makes it evict.
        examples: how many sequences of operations are tried against the model.
    """

    timestamped: bool = False
    logged: bool = True
    cache_bytes: int | None = None
    examples: int = 50

    def open_store(self, host: RecordingHost) -> Any:
        """Opens the store, as it was left in the host's directory."""
        raise NotImplementedError

    def test_it_is_a_sorted_map_that_keeps_what_was_committed(self) -> None:
        """Reads, scans, commits, crashes and restores, all against a dict."""

        @settings(max_examples=self.examples, deadline=None)
        @given(_operations)
        def behaves(operations: list[Operation]) -> None:
            with TemporaryDirectory() as directory:
                run = _Run(self, Path(directory))
                try:
                    for operation in operations:
                        run.apply(*operation)
                        run.check_budget()
                    run.check_all()
                    run.commit()
                    run.check_all()
                    run.check_rows_below()
                    run.check_restoration()
                finally:
                    run.store.close()

        behaves()

    def test_threads_that_read_see_whole_updates_in_order(self, tmp_path: Path) -> None:
        """Reads while one thread writes, flushes, evicts and commits."""
        store, host = self._opened(tmp_path)
        face = store.read_only()
        keys = [f"k{number}" for number in range(7)]
        for key in keys:
            self._put(store, host, key, 0)

        def read(newest: dict[str, int]) -> None:
            for key in keys:
                self._check_read(key, face.get(key), newest)
            with face.all() as rows:
                found = list(rows)
            assert [key for key, _ in found] == keys
            for key, value in found:
                self._check_read(key, value, newest)

        with readers(read):
            for number in range(1, 2_000):
                self._put(store, host, keys[number % 7], number)
                if number % 20 == 0:
                    store.flush_cache()
                if number % 50 == 0:
                    store.apply_pending()
        store.close()

    def test_a_scan_keeps_to_the_rows_of_its_beginning(self, tmp_path: Path) -> None:
        """Deletes and adds rows under an open scan, as `all` and `delete` in turn do."""
        store, host = self._opened(tmp_path)
        for key in ("a", "b", "c"):
            self._put(store, host, key, 1)
        store.flush_cache()
        store.apply_pending()
        self._put(store, host, "d", 1)

        with store.all() as rows:
            found = []
            for key, _ in rows:
                found.append(key)
                store.delete(key)
                self._put(store, host, f"{key}-", 1)

        assert found == ["a", "b", "c", "d"]
        assert [key for key, _ in store.all()] == ["a-", "b-", "c-", "d-"]
        store.close()

    def test_open_scans_are_counted_until_they_end(self, tmp_path: Path) -> None:
        """Ends one scan by reading, one by closing."""
        store, host = self._opened(tmp_path)
        self._put(store, host, "a", 1)

        one, two = store.all(), store.range("a", None)
        assert store.open_iterators == 2
        assert len(list(one)) == 1
        assert store.open_iterators == 1
        two.close()
        two.close()
        assert store.open_iterators == 0
        store.close()

    def test_none_is_no_key(self, tmp_path: Path) -> None:
        """Refuses what would be a row nobody finds."""
        store, _ = self._opened(tmp_path)
        face = store.read_only()
        calls: list[Callable[[], object]] = [
            lambda: store.get(None),
            lambda: store.put(None, self._value(1, 1)),
            lambda: store.delete(None),
            lambda: face.get(None),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="cannot be None"):
                call()
        store.close()

    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        """Refuses every call, also through a face that was given before."""
        store, host = self._opened(tmp_path)
        face = store.read_only()
        self._put(store, host, "a", 1)
        store.close()
        store.close()

        assert not store.is_open
        calls: list[Callable[[], object]] = [
            lambda: store.get("a"),
            lambda: store.put("a", self._value(1, 1)),
            store.all,
            lambda: face.get("a"),
            face.all,
            lambda: face.range("a", "b"),
        ]
        for call in calls:
            with pytest.raises(StoreClosedError, match="is closed"):
                call()
        if host.record_cache is not None:
            assert host.record_cache.size_bytes == 0

    # -- how the suite talks to the store ------------------------------------------------

    def _opened(self, directory: Path) -> tuple[Any, RecordingHost]:
        host = RecordingHost(directory, self.cache_bytes)
        return self.open_store(host), host

    def _value(self, value: int | None, timestamp: int) -> Any:
        if value is None or not self.timestamped:
            return value
        return ValueAndTimestamp(value, timestamp)

    def _put(self, store: Any, host: RecordingHost, key: str, number: int) -> None:
        host.set_record(number)
        store.put(key, self._value(number, number))

    def _check_read(self, key: str, found: Any, newest: dict[str, int]) -> None:
        assert found is not None, f"{key} is gone"
        value = found
        if self.timestamped:
            value, timestamp = found
            assert value == timestamp, f"{key} is half of an update: {found}"
        assert value >= newest.get(key, 0), f"{key} went back to {value}"
        newest[key] = value


class _Run:
    """One example of the model test: the store, and the dict it is compared with."""

    def __init__(self, suite: KeyValueStoreSuite, directory: Path) -> None:
        self.suite = suite
        self.directory = directory
        self.rows: Rows = {}
        self.committed: Rows = {}
        self.forwarded: dict[str, int] = {}
        self.seen: set[str] = set()
        self.host = RecordingHost(directory / "store", suite.cache_bytes)
        self.open()

    def open(self) -> None:
        before = self.host
        self.host = RecordingHost(self.directory / "store", self.suite.cache_bytes)
        self.host.changes = before.changes
        self.store = self.suite.open_store(self.host)
        self.listens = self.store.is_cached
        self.store.updates(self.flushed, send_old=True)

    def flushed(self, key: str, new: int | None, old: int | None, _timestamp: int) -> None:
        assert old == self.forwarded.get(key), f"{key} was forwarded with another old value"
        self.seen.discard(key)
        if new is None:
            self.forwarded.pop(key, None)  # what was seen is deleted, forwarded or not
        else:
            self.forwarded[key] = new

    def apply(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)

    def check_budget(self) -> None:
        cache = self.host.record_cache
        assert cache is None or 0 <= cache.size_bytes <= cache.max_bytes

    # -- operations ----------------------------------------------------------------------

    def put(self, key: str, value: int | None, timestamp: int) -> None:
        self.host.set_record(timestamp)
        self.store.put(key, self.suite._value(value, timestamp))  # noqa: SLF001
        self.set(key, value, timestamp)

    def set(self, key: str, value: int | None, timestamp: int) -> None:
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = (value, timestamp)

    def put_if_absent(self, key: str, value: int, timestamp: int) -> None:
        self.host.set_record(timestamp)
        self.note_seen(key)
        found = self.store.put_if_absent(key, self.suite._value(value, timestamp))  # noqa: SLF001
        assert found == self.expected(key)
        self.rows.setdefault(key, (value, timestamp))

    def put_all(self, entries: list[tuple[str, int]], timestamp: int) -> None:
        self.host.set_record(timestamp)
        self.store.put_all(
            [(key, self.suite._value(value, timestamp)) for key, value in entries]  # noqa: SLF001
        )
        for key, value in entries:
            self.set(key, value, timestamp)

    def delete(self, key: str, timestamp: int) -> None:
        self.host.set_record(timestamp)
        self.note_seen(key)
        assert self.store.delete(key) == self.expected(key)
        self.rows.pop(key, None)

    def note_seen(self, *keys: str) -> None:
        self.seen |= {key for key in keys if key in self.rows and self.listens}

    def get(self, key: str) -> None:
        self.note_seen(key)
        assert self.store.get(key) == self.expected(key)
        assert self.store.read_only().get(key) == self.expected(key)

    def forwarded_row(self, key: str) -> None:
        pair = self.store.forwarded_row(key)
        newest = self.rows[key][0] if key in self.rows else None
        expected = self.forwarded.get(key) if self.listens else newest
        assert (pair and pair[0]) == expected

    def scan(self, lower: str | None, upper: str | None) -> None:
        found = [
            key
            for key in self.ordered()
            if (lower is None or key.encode() >= lower.encode())
            and (upper is None or key.encode() <= upper.encode())
        ]
        expected = [(key, self.expected(key)) for key in found]
        self.note_seen(*found)
        for face in (self.store, self.store.read_only()):
            assert list(face.range(lower, upper)) == expected
            assert list(face.reverse_range(lower, upper)) == expected[::-1]

    def prefix(self, prefix: str) -> None:
        found = [key for key in self.ordered() if key.encode().startswith(prefix.encode())]
        self.note_seen(*found)
        for face in (self.store, self.store.read_only()):
            assert [key for key, _ in face.prefix_scan(prefix)] == found
            assert [key for key, _ in face.prefix_scan(prefix.encode())] == found

    def flush(self) -> None:
        self.store.flush()
        if self.listens:
            assert self.forwarded == {key: value for key, (value, _) in self.rows.items()}
            gone = self.seen - self.rows.keys()
            assert not gone, f"rows were read and then deleted without a word: {gone}"
        self.seen.clear()

    def commit(self) -> None:
        self.flush()
        self.store.apply_pending()
        self.committed = dict(self.rows)
        self.committed_changes = len(self.host.changes)

    committed_changes = 0

    def reopen(self) -> None:
        self.commit()
        self.crash()

    def crash(self) -> None:
        is_kept = self.store.persistent
        self.store.close()
        del self.host.changes[self.committed_changes :]
        self.open()
        if not is_kept:
            if self.suite.logged:
                self.store.restore(self.host.restore_records())
            else:
                self.committed = {}
        self.rows = dict(self.committed)
        self.forwarded = {key: value for key, (value, _) in self.rows.items()}
        self.seen.clear()
        self.check_all()

    # -- comparisons ---------------------------------------------------------------------

    def ordered(self) -> list[str]:
        return sorted(self.rows, key=str.encode)

    def expected(self, key: str) -> Any:
        if key not in self.rows:
            return None
        return self.suite._value(*self.rows[key])  # noqa: SLF001

    def check_all(self) -> None:
        expected = [(key, self.expected(key)) for key in self.ordered()]
        self.note_seen(*self.rows)
        for face in (self.store, self.store.read_only()):
            assert list(face.all()) == expected
            assert list(face.reverse_all()) == expected[::-1]
        assert self.store.approximate_num_entries() >= 0

    def check_rows_below(self) -> None:
        _, entries = self.store.dump()
        assert [entry["key"] for entry in entries] == [key.encode().hex() for key in self.ordered()]

    def check_restoration(self) -> None:
        if not self.suite.logged:
            assert self.host.changes == []
            return
        host = RecordingHost(self.directory / "restored", self.suite.cache_bytes)
        restored = self.suite.open_store(host)
        try:
            restored.restore(self.host.restore_records())
            assert restored.dump() == self.store.dump()
            assert host.changes == []
        finally:
            restored.close()


@contextmanager
def readers(read: Callable[[dict[str, int]], None], count: int = 2) -> Iterator[None]:
    """Calls `read` over and over in other threads while the block runs.

    Each thread calls with a dict of its own, at least once after the block began, and as
    often as it can; what one raises is raised at the end of the block.
    """
    done, failures = threading.Event(), []
    ready = threading.Barrier(count + 1)

    def work() -> None:
        newest: dict[str, int] = {}
        try:
            ready.wait()
            while True:
                read(newest)
                if done.is_set():
                    return
        except BaseException as error:  # an assertion of the reader belongs to the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        ready.wait()
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    for failure in failures:
        raise failure
