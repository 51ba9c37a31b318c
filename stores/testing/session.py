"""The conformance suite of session stores: every stack of layers against a sorted map.

Owns what any session store must do about keys, sessions and retention, whatever keeps
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

from thalweg.stores.errors import StoreClosedError
from thalweg.stores.formats import encode_session_key
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.testing.key_value import readers
from thalweg.stores.windowed import SessionWindow, Windowed

Operation: TypeAlias = tuple[Any, ...]
SessionKey: TypeAlias = tuple[str, int, int]
"""(key, end, start)."""

RETENTION_MS = 100
SEGMENT_INTERVAL_MS = 30

# Few, so that operations meet; with the bytes that ranges go wrong at.
_keys = st.sampled_from(["", "a", "a\0", "ab", "b", "é"])
_starts = st.sampled_from([0, 1, 29, 30, 59, 60, 100, 101, 129, 130, 159, 160, 200, 230, 300])
_lengths = st.sampled_from([0, 1, 30, 45, 100])
_values = st.integers(-3, 3)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _keys, _starts, _lengths, _values),
        st.tuples(st.just("put"), _keys, _starts, _lengths, st.none() | _values),
        st.tuples(st.just("remove"), _keys, _starts, _lengths),
        st.tuples(st.just("write"), _keys, _starts, _lengths, _values),
        st.tuples(st.just("merge"), _keys, _starts, _values),
        st.tuples(st.just("fetch"), _keys, _starts, _lengths),
        st.tuples(st.just("forwarded_row"), _keys, _starts, _lengths),
        st.tuples(st.just("find"), _keys, _starts, _starts),
        st.tuples(st.just("find_range"), st.none() | _keys, st.none() | _keys, _starts, _starts),
        st.tuples(st.just("find_ended"), _starts, _starts),
        st.tuples(st.just("flush")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash")),
    ),
    max_size=30,
)


class SessionStoreSuite:
    """What a session store of `serdes.string` to `serdes.int64` must do.

    It is to keep sessions for 100 ms, in segments of 30 ms where it has segments.

    Attributes:
        logged: whether it logs its changes.
        cache_bytes: budget of the record cache it is given; None for none. A small one
            makes it evict.
        examples: how many sequences of operations are tried against the model.
        is_time_first: whether its rows stand by time first.
    """

    logged: bool = True
    cache_bytes: int | None = None
    examples: int = 50
    is_time_first: bool = False

    def open_store(self, host: RecordingHost) -> Any:
        """Opens the store, as it was left in the host's directory."""
        raise NotImplementedError

    def test_it_is_a_sorted_map_of_live_sessions(self) -> None:
        """Reads, scans, commits, crashes and restores, all against a dict."""

        @settings(max_examples=self.examples, deadline=None)
        @given(_operations)
        @example([("write", "", 10, 0, 0), ("reopen",), ("write", "", 100, 0, 0), ("reopen",)])
        @example([("put", "", 0, 30, 0), ("merge", "", 0, 1), ("flush",), ("merge", "", 59, 2)])
        @example([("write", "", 0, 0, 0), ("fetch", "", 0, 0), ("merge", "", 1, 0), ("flush",)])
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
        rows = [_session(key, start, 5) for start in (200, 230, 260) for key in ("a", "b")]
        for row in rows:
            self._put(store, host, row, 0)

        def read(newest: dict[Any, int]) -> None:
            for row in rows:
                self._check_read(row, face.fetch_session(row.key, *_bounds(row)), newest)
            with face.fetch("a") as found:
                of_one = list(found)
            assert [row.window.start_ms for row, _ in of_one] == [200, 230, 260]
            for row, value in of_one:
                self._check_read(row, value, newest)
            with face.all() as found:
                every = list(found)
            assert {row for row, _ in every} == set(rows)
            for row, value in every:
                self._check_read(row, value, newest)

        with readers(read):
            for number in range(1, 2_000):
                self._put(store, host, rows[number % len(rows)], number)
                if number % 20 == 0:
                    store.flush_cache()
                if number % 50 == 0:
                    store.apply_pending()
        store.close()

    def test_open_scans_are_counted_until_they_end(self, tmp_path: Path) -> None:
        """Ends one scan by reading, one by closing."""
        store, host = self._opened(tmp_path)
        self._put(store, host, _session("a", 50, 0), 1)

        one, two = store.fetch("a"), store.all()
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
        nobody: Any = Windowed(None, SessionWindow(0, 0))
        calls: list[Callable[[], object]] = [
            lambda: store.fetch(None),
            lambda: store.fetch_session(None, 0, 0),
            lambda: store.put(nobody, 1),
            lambda: store.remove(nobody),
            lambda: face.fetch(None),
            lambda: face.backward_find_sessions(None, 0, 10),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="cannot be None"):
                call()
        with pytest.raises(TypeError, match=r"give Windowed\(key"):
            store.put("a", 1)
        store.close()

    def test_it_reads_as_a_mapping(self, tmp_path: Path) -> None:
        """Finds, misses and deletes as a dict does."""
        store, host = self._opened(tmp_path)
        host.set_record(5)
        row, other = _session("a", 50, 5), _session("a", 51, 5)
        store[row] = 3

        for face in (store, store.read_only()):
            assert row in face
            assert other not in face
            assert face[row] == 3
            assert list(face) == list(reversed(face)) == [row]
            assert list(face.items()) == [(row, 3)]
            with pytest.raises(KeyError, match="no session"):
                face[other]
            with pytest.raises(TypeError, match="by key and session"):
                face["a"]
        del store[row]
        assert len(store) == 0
        with pytest.raises(KeyError, match="no session"):
            del store[row]
        store.close()

    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        """Refuses every call, also through a face that was given before."""
        store, host = self._opened(tmp_path)
        face = store.read_only()
        row = _session("a", 50, 0)
        self._put(store, host, row, 1)
        store.close()
        store.close()

        assert not store.is_open
        calls: list[Callable[[], object]] = [
            lambda: store.fetch("a"),
            lambda: store.fetch_session("a", 50, 50),
            lambda: store.put(row, 1),
            lambda: store.remove(row),
            store.all,
            lambda: face.fetch("a"),
            lambda: face.find_ended(0, 100),
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

    def _put(self, store: Any, host: RecordingHost, row: Windowed[str], number: int) -> None:
        host.set_record(number)
        store.put(row, number)

    def _check_read(self, row: Windowed[str], value: Any, newest: dict[Any, int]) -> None:
        assert value is not None, f"{row} is gone"
        assert value >= newest.get(row, 0), f"{row} went back to {value}"
        newest[row] = value


def _session(key: str, start: int, length: int) -> Windowed[str]:
    return Windowed(key, SessionWindow(start, start + length))


def _bounds(row: Windowed[str]) -> tuple[int, int]:
    return row.window.start_ms, row.window.end_ms


class _Run:
    """One example of the model test: the store, and the dict it is compared with."""

    def __init__(self, suite: SessionStoreSuite, directory: Path) -> None:
        self.suite = suite
        self.directory = directory
        self.rows: dict[SessionKey, int] = {}
        self.newest_ms = -1
        self.knows_time = True
        self.committed: dict[SessionKey, int] = {}
        self.committed_ms = -1
        self.committed_changes = 0
        self.forwarded: dict[SessionKey, int] = {}
        self.seen: set[SessionKey] = set()
        self.host = RecordingHost(directory / "store", suite.cache_bytes)
        self.open()

    def open(self) -> None:
        before = self.host
        self.host = RecordingHost(self.directory / "store", self.suite.cache_bytes)
        self.host.changes = before.changes
        self.store = self.suite.open_store(self.host)
        self.listens = self.store.is_cached
        self.sessions = self.store.sessions(self.flushed, send_old=True)
        self.floor_ms = 0

    def flushed(self, row: SessionKey, new: int | None, old: int | None, timestamp: int) -> None:
        assert timestamp == row[1]
        self.seen.discard(row)
        if self.listens:
            # An expired row below is not found, whatever was forwarded of it.
            assert old == self.forwarded.get(row) or (old is None and not self.is_live(row))
        if new is None:
            self.forwarded.pop(row, None)
        else:
            self.forwarded[row] = new

    def apply(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)

    def check_budget(self) -> None:
        cache = self.host.record_cache
        assert cache is None or 0 <= cache.size_bytes <= cache.max_bytes

    def is_live(self, row: SessionKey) -> bool:
        return row[1] > self.newest_ms - RETENTION_MS

    # -- operations ----------------------------------------------------------------------

    def observe(self, end: int) -> None:
        self.knows_time = self.knows_time or end >= self.newest_ms
        self.newest_ms = max(self.newest_ms, end)

    def keep(self, row: SessionKey, value: int | None) -> None:
        self.observe(row[1])
        if value is None:
            self.rows.pop(row, None)
        else:
            self.rows[row] = value

    def put(self, key: str, start: int, length: int, value: int | None) -> None:
        self.host.set_record(start)
        self.store.put(_session(key, start, length), value)
        self.keep((key, start + length, start), value)

    def remove(self, key: str, start: int, length: int) -> None:
        row = key, start + length, start
        if row[1] > self.newest_ms:
            return  # whether a removal moves time on is a store's own affair
        self.host.set_record(start)
        self.store.remove(_session(key, start, length))
        self.rows.pop(row, None)

    def write(self, key: str, start: int, length: int, value: int) -> None:
        """Writes as the operator does that fills the store."""
        self.host.set_record(start)
        known = self.sessions.known(key, self.floor())
        end = start + length
        self.sessions.write(key, known, end, start, value, start, self.floor())
        self.keep((key, end, start), value)

    def floor(self) -> int:
        self.floor_ms = max(self.floor_ms, self.newest_ms - 50)
        return self.floor_ms

    def merge(self, key: str, time: int, value: int) -> None:
        """Finds, removes and writes as the operator does that fills the store."""
        self.host.set_record(time)
        known = self.sessions.known(key, self.floor())
        found = self.sessions.find(key, known, time - 10, time + 10)
        wanted = sorted(
            (end, start, number)
            for (one, end, start), number in self.rows.items()
            if one == key and end >= time - 10 and start <= time + 10
        )
        live = [row for row in found if self.is_live((key, row[0], row[1]))]
        assert live == [row for row in wanted if self.is_live((key, row[0], row[1]))]
        if self.hides_expired():
            assert live == list(found)
        for one in found:
            self.sessions.remove(key, known, one, time)
            self.rows.pop((key, one[0], one[1]), None)
        end = max([time, *(row[0] for row in found)])
        start = min([time, *(row[1] for row in found)])
        self.sessions.write(key, known, end, start, value, time, self.floor())
        self.keep((key, end, start), value)

    def note_seen(self, rows: Iterable[SessionKey]) -> None:
        self.seen |= {row for row in rows if row in self.rows and self.listens}

    def forwarded_row(self, key: str, start: int, length: int) -> None:
        row = key, start + length, start
        pair = self.store.forwarded_row(_session(key, start, length))
        told = self.forwarded if self.listens else self.rows
        if self.is_live(row):
            assert pair == (None if told.get(row) is None else (told[row], row[1]))

    def fetch(self, key: str, start: int, length: int) -> None:
        row = key, start + length, start
        self.note_seen([row])
        for face in (self.store, self.store.read_only()):
            found = face.fetch_session(key, start, start + length)
            if self.is_live(row):
                assert found == self.rows.get(row)
            elif self.hides_expired():
                assert found is None

    def find(self, key: str, earliest: int, latest: int) -> None:
        rows = [
            row for row in self.rows if row[0] == key and row[1] >= earliest and row[2] <= latest
        ]
        self.note_seen(rows)
        for face in (self.store, self.store.read_only()):
            found = list(face.find_sessions(key, earliest, latest))
            self.compare(found, rows)
            assert found[::-1] == list(face.backward_find_sessions(key, earliest, latest))
            every = list(face.fetch(key))
            self.compare(every, [row for row in self.rows if row[0] == key])
            assert every[::-1] == list(face.backward_fetch(key))
        self.note_seen(row for row in self.rows if row[0] == key)

    def find_range(self, lower: str | None, upper: str | None, earliest: int, latest: int) -> None:
        of_keys = [
            row
            for row in self.rows
            if (lower is None or row[0].encode() >= lower.encode())
            and (upper is None or row[0].encode() <= upper.encode())
        ]
        self.note_seen(of_keys)
        rows = [row for row in of_keys if row[1] >= earliest and row[2] <= latest]
        by_key = lower is not None or upper is not None
        for face in (self.store, self.store.read_only()):
            found = list(face.find_sessions_range(lower, upper, earliest, latest))
            self.compare(found, rows, by_key=by_key)
            backward = list(face.backward_find_sessions_range(lower, upper, earliest, latest))
            assert backward == found[::-1]
            every = list(face.fetch_range(lower, upper))
            self.compare(every, of_keys, by_key=by_key)
            assert list(face.backward_fetch_range(lower, upper)) == every[::-1]

    def find_ended(self, earliest: int, latest: int) -> None:
        rows = [row for row in self.rows if earliest <= row[1] <= latest]
        self.note_seen(rows)
        for face in (self.store, self.store.read_only()):
            found = list(face.find_ended(earliest, latest))
            live = [(row, value) for row, value in found if self.is_live(_row(row))]
            self.compare(live, rows, by_key=False)

    def flush(self) -> None:
        self.store.flush()
        if self.listens:
            assert self.live_rows(self.forwarded) == self.live_rows(self.rows)
            gone = {row for row in self.seen - self.rows.keys() if self.is_live(row)}
            assert not gone, f"rows were read and then deleted without a word: {gone}"
        self.seen.clear()

    def live_rows(self, rows: dict[SessionKey, int]) -> dict[SessionKey, int]:
        return {row: value for row, value in rows.items() if self.is_live(row)}

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

    def hides_expired(self) -> bool:
        return self.suite.cache_bytes is None and self.knows_time

    def compare(
        self, found: list[tuple[Windowed[str], Any]], rows: list[SessionKey], *, by_key: bool = True
    ) -> None:
        live = {_row(one): value for one, value in found if self.is_live(_row(one))}
        if self.hides_expired():
            assert len(live) == len(found), f"expired sessions were found: {found}"
        assert live == {row: self.rows[row] for row in rows if self.is_live(row)}
        assert all(type(one.window) is SessionWindow for one, _ in found)
        self.check_order([_row(one) for one, _ in found], by_key=by_key)

    def check_order(self, found: list[SessionKey], *, by_key: bool) -> None:
        interval = SEGMENT_INTERVAL_MS if self.store.persistent else 1
        is_by_time = self.suite.is_time_first and self.store.persistent and not by_key

        def place(row: SessionKey) -> Any:
            key, end, start = row
            if is_by_time:
                return end, start, key.encode()
            return end // interval, encode_session_key(key.encode(), start, end)

        assert found == sorted(found, key=place)

    def check_all(self) -> None:
        self.note_seen(self.rows)
        for face in (self.store, self.store.read_only()):
            found = list(face.all())
            self.compare(found, list(self.rows), by_key=False)
            assert list(face.backward_all()) == found[::-1]

    def check_rows_below(self) -> None:
        _, entries = self.store.dump()
        rows = [
            (bytes.fromhex(entry["key"]).decode(), entry["end"], entry["start"])
            for entry in entries
        ]
        self.check_order(rows, by_key=False)
        assert sorted(row for row in rows if self.is_live(row)) == sorted(self.live_rows(self.rows))

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
        return [entry for entry in store.dump()[1] if entry["end"] > self.newest_ms - RETENTION_MS]


def _row(one: Windowed[str]) -> SessionKey:
    return one.key, one.window.end_ms, one.window.start_ms
