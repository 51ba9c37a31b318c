"""The conformance suite of window stores: every stack of layers against a sorted map.

Owns what any window store must do about keys, window starts and retention, whatever keeps
its bytes and whichever layers it has. A test class inherits the suite and says how to open
the store, as told in `stores.testing.key_value`.

Stores may differ in one thing: rows past the retention, because a cache shows them as long as it
has them. The suite demands every live row, and no expired row of stores without a cache.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.stores.api import ValueAndTimestamp
from thalweg.stores.errors import StoreClosedError
from thalweg.stores.formats import encode_window_key
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.testing.key_value import readers
from thalweg.stores.windowed import TimeWindow, Windowed

Operation: TypeAlias = tuple[Any, ...]
RowKey: TypeAlias = tuple[str, int]
"""(key, window start)."""

RETENTION_MS = 100
SEGMENT_INTERVAL_MS = 30
WINDOW_SIZE_MS = 10

# Few, so that operations meet; with the bytes that ranges go wrong at.
_keys = st.sampled_from(["", "a", "a\0", "ab", "b", "é"])
_starts = st.sampled_from([0, 1, 29, 30, 59, 60, 100, 101, 129, 130, 159, 160, 200, 230, 300])
_values = st.integers(-3, 3)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _keys, _starts, _values),
        st.tuples(st.just("put"), _keys, _starts, st.none() | _values),
        st.tuples(st.just("fetch"), _keys, _starts),
        st.tuples(st.just("forwarded_row"), _keys, _starts),
        st.tuples(st.just("fetch_key"), _keys, _starts, _starts),
        st.tuples(st.just("fetch_range"), st.none() | _keys, st.none() | _keys, _starts, _starts),
        st.tuples(st.just("flush")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash")),
    ),
    max_size=30,
)


class WindowStoreSuite:
    """What a window store of `serdes.string` to `serdes.int64` must do.

    It is to keep windows of 10 ms for 100 ms, in segments of 30 ms where it has segments.

    Attributes:
        timestamped: whether it keeps `ValueAndTimestamp`.
        logged: whether it logs its changes.
        cache_bytes: budget of the record cache it is given; None for none. A small one
            makes it evict.
        examples: how many sequences of operations are tried against the model.
        is_time_first: whether its rows stand by time first; those that are older by exactly the
            retention are shown then.
    """

    timestamped: bool = False
    is_time_first: bool = False
    logged: bool = True
    cache_bytes: int | None = None
    examples: int = 50

    def open_store(self, host: RecordingHost) -> Any:
        """Opens the store, as it was left in the host's directory."""
        raise NotImplementedError

    def test_it_is_a_sorted_map_of_live_windows(self) -> None:
        """Reads, scans, commits, crashes and restores, all against a dict."""

        @settings(max_examples=self.examples, deadline=None)
        @given(_operations)
        @example([("put", "", 10, 0), ("reopen",), ("put", "", 100, 0), ("reopen",)])
        @example([("put", "", 10, 0), ("fetch", "", 10), ("put", "", 10, None)])
        @example([("put", "", 10, 0), ("fetch_key", "", 0, 50), ("put", "", 10, None)])
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
        windows = [(key, start) for start in (200, 230, 260) for key in ("a", "b")]
        for key, start in windows:
            self._put(store, host, key, start, 0)

        def read(newest: dict[str, int]) -> None:
            for key, start in windows:
                self._check_read(f"{key}@{start}", face.fetch(key, start), newest)
            with face.fetch("a", 0, 300) as rows:
                of_one = list(rows)
            assert [start for start, _ in of_one] == [200, 230, 260]
            for start, value in of_one:
                self._check_read(f"a@{start}", value, newest)
            with face.all() as rows:
                found = list(rows)
            assert {(one.key, one.window.start_ms) for one, _ in found} == set(windows)
            for one, value in found:
                self._check_read(f"{one.key}@{one.window.start_ms}", value, newest)

        with readers(read):
            for number in range(1, 2_000):
                key, start = windows[number % len(windows)]
                self._put(store, host, key, start, number)
                if number % 20 == 0:
                    store.flush_cache()
                if number % 50 == 0:
                    store.apply_pending()
        store.close()

    def test_open_scans_are_counted_until_they_end(self, tmp_path: Path) -> None:
        """Ends one scan by reading, one by closing."""
        store, host = self._opened(tmp_path)
        self._put(store, host, "a", 50, 1)

        one, two = store.fetch("a", 0, 100), store.all()
        assert store.open_iterators == 2
        assert len(list(one)) == 1
        assert store.open_iterators == 1
        two.close()
        assert store.open_iterators == 0
        store.close()

    def test_none_is_no_key(self, tmp_path: Path) -> None:
        """Refuses what would be a row nobody finds."""
        store, _ = self._opened(tmp_path)
        face = store.read_only()
        calls: list[Callable[[], object]] = [
            lambda: store.fetch(None, 0),
            lambda: store.fetch(None, 0, 10),
            lambda: store.put(None, self._value(1, 1), 0),
            lambda: face.fetch(None, 0),
            lambda: face.backward_fetch(None, 0, 10),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="cannot be None"):
                call()
        store.close()

    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        """Refuses every call, also through a face that was given before."""
        store, host = self._opened(tmp_path)
        face = store.read_only()
        self._put(store, host, "a", 50, 1)
        store.close()
        store.close()

        assert not store.is_open
        calls: list[Callable[[], object]] = [
            lambda: store.fetch("a", 50),
            lambda: store.put("a", self._value(1, 1), 50),
            store.all,
            lambda: face.fetch("a", 50),
            lambda: face.fetch("a", 0, 100),
            face.all,
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

    def _put(self, store: Any, host: RecordingHost, key: str, start: int, number: int) -> None:
        host.set_record(number)
        store.put(key, self._value(number, number), start)

    def _check_read(self, window: str, found: Any, newest: dict[str, int]) -> None:
        assert found is not None, f"{window} is gone"
        value = found
        if self.timestamped:
            value, timestamp = found
            assert value == timestamp, f"{window} is half of an update: {found}"
        assert value >= newest.get(window, 0), f"{window} went back to {value}"
        newest[window] = value


class _Run:
    """One example of the model test: the store, and the dict it is compared with."""

    def __init__(self, suite: WindowStoreSuite, directory: Path) -> None:
        self.suite = suite
        self.directory = directory
        self.rows: dict[RowKey, int] = {}
        self.newest_ms = -1
        self.knows_time = True
        self.committed: dict[RowKey, int] = {}
        self.committed_ms = -1
        self.committed_changes = 0
        self.forwarded: dict[RowKey, int] = {}
        self.seen: set[RowKey] = set()
        self.host = RecordingHost(directory / "store", suite.cache_bytes)
        self.open()

    def open(self) -> None:
        before = self.host
        self.host = RecordingHost(self.directory / "store", self.suite.cache_bytes)
        self.host.changes = before.changes
        self.store = self.suite.open_store(self.host)
        self.listens = self.store.is_cached
        self.store.updates(self.flushed, send_old=True)

    def flushed(self, row: RowKey, new: int | None, old: int | None, _timestamp: int) -> None:
        start = row[1]
        self.seen.discard(row)
        # An expired row below is not found, whatever was forwarded of it.
        assert old == self.forwarded.get(row) or (old is None and not self.is_live(start))
        if new is None:
            self.forwarded.pop(row, None)
        else:
            self.forwarded[row] = new

    def apply(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)

    def check_budget(self) -> None:
        cache = self.host.record_cache
        assert cache is None or 0 <= cache.size_bytes <= cache.max_bytes

    def is_live(self, start: int) -> bool:
        return start > self.newest_ms - RETENTION_MS - self.suite.is_time_first

    # -- operations ----------------------------------------------------------------------

    def put(self, key: str, start: int, value: int | None) -> None:
        self.host.set_record(start + 5)
        self.store.put(key, self.suite._value(value, start + 5), start)  # noqa: SLF001
        self.knows_time = self.knows_time or start >= self.newest_ms
        self.newest_ms = max(self.newest_ms, start)
        if value is None:
            self.rows.pop((key, start), None)
        else:
            self.rows[key, start] = value

    def note_seen(self, rows: Iterable[RowKey]) -> None:
        self.seen |= {row for row in rows if row in self.rows and self.listens}

    def forwarded_row(self, key: str, start: int) -> None:
        window = TimeWindow(start, start + WINDOW_SIZE_MS)
        pair = self.store.forwarded_row(Windowed(key, window))
        told = self.forwarded if self.listens else self.rows
        # A change that waits in the cache of another store wants to be seen with this row.
        was_live = self.listens and start > self.committed_ms - RETENTION_MS
        if self.is_live(start) or was_live:
            assert (pair and pair[0]) == told.get((key, start))

    def fetch(self, key: str, start: int) -> None:
        expected = self.rows.get((key, start))
        self.note_seen([(key, start)])
        for face in (self.store, self.store.read_only()):
            found = face.fetch(key, start)
            if self.is_live(start):
                assert found == self.suite._value(expected, start + 5)  # noqa: SLF001
            elif self.hides_expired():
                assert found is None

    def fetch_key(self, key: str, from_ms: int, to_ms: int) -> None:
        rows = [row for row in self.rows if row[0] == key and from_ms <= row[1] <= to_ms]
        self.note_seen(rows)
        expected = sorted(row[1] for row in rows if self.is_live(row[1]))
        for face in (self.store, self.store.read_only()):
            found = [(start, value) for start, value in face.fetch(key, from_ms, to_ms)]
            assert found[::-1] == list(face.backward_fetch(key, from_ms, to_ms))
            assert self.live(start for start, _ in found) == expected
            for start, value in found:
                if self.is_live(start):
                    assert value == self.value(key, start)

    def fetch_range(self, lower: str | None, upper: str | None, from_ms: int, to_ms: int) -> None:
        rows = [
            (key, start)
            for key, start in self.rows
            if from_ms <= start <= to_ms
            and (lower is None or key.encode() >= lower.encode())
            and (upper is None or key.encode() <= upper.encode())
        ]
        self.note_seen(rows)
        for face in (self.store, self.store.read_only()):
            found = list(face.fetch_range(lower, upper, from_ms, to_ms))
            self.compare(found, rows, by_key=lower is not None or upper is not None)
            backward = list(face.backward_fetch_range(lower, upper, from_ms, to_ms))
            assert backward == found[::-1]
            if lower is None and upper is None:
                assert list(face.fetch_all(from_ms, to_ms)) == found
                assert list(face.backward_fetch_all(from_ms, to_ms)) == backward

    def flush(self) -> None:
        self.store.flush()
        if self.listens:
            assert {
                row: value for row, value in self.forwarded.items() if self.is_live(row[1])
            } == {row: value for row, value in self.rows.items() if self.is_live(row[1])}
            gone = {row for row in self.seen - self.rows.keys() if self.is_live(row[1])}
            assert not gone, f"rows were read and then deleted without a word: {gone}"
        self.seen.clear()

    def commit(self) -> None:
        self.flush()
        self.store.apply_pending()
        self.committed, self.committed_ms = dict(self.rows), self.newest_ms
        self.committed_changes = len(self.host.changes)

    def reopen(self) -> None:
        self.commit()
        self.crash()

    def crash(self) -> None:
        is_kept = self.store.persistent
        self.store.close()
        del self.host.changes[self.committed_changes :]
        self.open()
        if not is_kept and self.suite.logged:
            self.store.restore(self.host.restore_records())
        elif not is_kept:
            self.committed, self.committed_ms = {}, -1
        self.rows, self.newest_ms = dict(self.committed), self.committed_ms
        self.forwarded = dict(self.rows)
        self.seen.clear()
        # A store opened again knows time only by its segments, until something newer comes.
        self.knows_time = not is_kept
        self.check_all()

    # -- comparisons ---------------------------------------------------------------------

    def live(self, starts: Iterable[int]) -> list[int]:
        found = list(starts)
        if self.hides_expired():
            assert all(map(self.is_live, found)), f"expired windows were found: {found}"
        return [start for start in found if self.is_live(start)]

    def hides_expired(self) -> bool:
        return self.suite.cache_bytes is None and self.knows_time

    def value(self, key: str, start: int) -> Any:
        return self.suite._value(self.rows[key, start], start + 5)  # noqa: SLF001

    def compare(
        self,
        found: list[tuple[Windowed[str], Any]],
        rows: list[RowKey],
        *,
        by_key: bool = False,
    ) -> None:
        live = [(one, value) for one, value in found if self.is_live(one.window.start_ms)]
        self.live(one.window.start_ms for one, _ in found)
        assert sorted((one.key, one.window.start_ms) for one, _ in live) == sorted(
            row for row in rows if self.is_live(row[1])
        )
        for one, value in live:
            start = one.window.start_ms
            assert one.window == TimeWindow(start, start + WINDOW_SIZE_MS)
            assert value == self.value(one.key, start)
        self.check_order([(one.key.encode(), one.window.start_ms) for one, _ in found], by_key)

    def check_order(self, found: list[tuple[bytes, int]], by_key: bool = False) -> None:
        if self.suite.is_time_first and not by_key:
            assert found == sorted(found, key=lambda row: (row[1], row[0] + bytes(4)))
            return
        interval = SEGMENT_INTERVAL_MS if self.store.persistent else 1
        assert found == sorted(
            found, key=lambda row: (row[1] // interval, encode_window_key(row[0], row[1]))
        )

    def check_all(self) -> None:
        self.note_seen(self.rows)
        for face in (self.store, self.store.read_only()):
            found = list(face.all())
            self.compare(found, list(self.rows))
            assert list(face.backward_all()) == found[::-1]

    def check_rows_below(self) -> None:
        _, entries = self.store.dump()
        rows = [(bytes.fromhex(entry["key"]), entry["start"]) for entry in entries]
        self.check_order(rows)
        found = sorted((key.decode(), start) for key, start in rows if self.is_live(start))
        assert found == sorted(row for row in self.rows if self.is_live(row[1]))

    def check_restoration(self) -> None:
        if not self.suite.logged:
            assert self.host.changes == []
            return
        host = RecordingHost(self.directory / "restored", self.suite.cache_bytes)
        restored = self.suite.open_store(host)
        try:
            restored.restore(self.host.restore_records())
            assert self.live_entries(restored) == self.live_entries(self.store)
            assert host.changes == []
        finally:
            restored.close()

    def live_entries(self, store: Any) -> list[Any]:
        return [entry for entry in store.dump()[1] if self.is_live(entry["start"])]
