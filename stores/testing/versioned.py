"""The conformance suite of versioned stores: every stack of layers against a list of versions.

Owns what any versioned store must do about keys, times and history, whatever keeps its bytes. A test
class inherits the suite and says how to open the store, as told in `stores.testing.key_value`.

Stores may differ in one thing: versions that ended before the history retention, because they are
deleted segment by segment. The suite demands every version within the history and accepts any
others that are still there.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.stores.api import NOT_PUT, VALID_TO_UNDEFINED, VersionedRecord
from thalweg.stores.errors import StoreClosedError
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.testing.key_value import readers

Operation: TypeAlias = tuple[Any, ...]
History: TypeAlias = dict[int, int | None]
"""Timestamp -> value of one key, None where it was deleted."""

HISTORY_MS = 100
SEGMENT_INTERVAL_MS = 30
_CLOCK = "clock"
"""A key that is put to tell a store the time, and never looked at."""

# Few, so that operations meet; with the bytes that prefixes go wrong at.
_keys = st.sampled_from(["", "a", "a\0", "ab", "é"])
_times = st.sampled_from([0, 1, 10, 29, 30, 31, 59, 60, 75, 90, 100, 101, 130, 131, 160, 200, 260])
_values = st.integers(-3, 3)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _keys, _times, _values),
        st.tuples(st.just("put"), _keys, _times, st.none() | _values),
        st.tuples(st.just("put"), st.just("a"), _times, st.none() | _values),
        st.tuples(st.just("delete"), _keys, _times),
        st.tuples(st.just("get"), _keys, _times),
        st.tuples(st.just("versions"), _keys, _times, _times),
        st.tuples(st.just("update"), _keys, _times, st.none() | _values),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash")),
    ),
    max_size=40,
)


class VersionedStoreSuite:
    """What a versioned store of `serdes.string` to `serdes.int64` must do.

    It is to keep 100 ms of history, in segments of 30 ms.

    Attributes:
        logged: whether it logs its changes.
        examples: how many sequences of operations are tried against the model.
    """

    logged: bool = True
    examples: int = 50

    def open_store(self, host: RecordingHost) -> Any:
        """Opens the store, as it was left in the host's directory."""
        raise NotImplementedError

    def test_it_is_a_map_that_keeps_former_values(self) -> None:
        """Puts in and out of order, reads, commits, crashes and restores, all against a dict."""

        @settings(max_examples=self.examples, deadline=None)
        @given(_operations)
        @example([("put", "", 0, None), ("put", "", 10, 1), ("put", "", 1, 2), ("get", "", 1)])
        @example(
            [("put", "", 90, 1), ("put", "", 31, None), ("put", "", 10, 2), ("put", "", 60, 3)]
        )
        def behaves(operations: list[Operation]) -> None:
            with TemporaryDirectory() as directory:
                run = _Run(self, Path(directory))
                try:
                    for operation in operations:
                        run.apply(*operation)
                    run.check_all()
                    run.commit()
                    run.check_all()
                    run.check_restoration()
                finally:
                    run.store.close()

        behaves()

    def test_threads_that_read_see_whole_histories(self, tmp_path: Path) -> None:
        """Reads while one thread puts, in and out of order, and commits."""
        store, host = self._opened(tmp_path)
        face = store.read_only()
        keys = ["a", "b", "c"]
        for key in keys:
            self._put(store, host, key, 0)

        def read(newest: dict[str, int]) -> None:
            for key in keys:
                record = face.get(key)
                assert record is not None, f"{key} is gone"
                assert record.value == record.timestamp
                assert record.timestamp >= newest.get(key, 0), f"{key} went back"
                newest[key] = record.timestamp
                then = face.get(key, record.timestamp - 20)
                assert then is None or then.timestamp <= record.timestamp - 20
                with face.versions(key) as versions:
                    found = list(versions)
                assert found
                for one, two in pairwise(found):
                    assert one.value == one.timestamp < two.timestamp

        with readers(read):
            for number in range(1, 1_000):
                self._put(store, host, keys[number % 3], number)
                if number > 10 and number % 7 == 0:
                    self._put(store, host, keys[number % 3], number - 10)
                if number % 50 == 0:
                    store.apply_pending()
        store.close()

    def test_a_deletion_at_the_time_of_the_latest_version_takes_it_away(
        self, tmp_path: Path
    ) -> None:
        """As the JVM's: the version before ends there, and without one nothing is remembered."""
        store, _ = self._opened(tmp_path)

        store.put("a", 1, 10)
        store.put("a", 2, 20)
        store.put("a", None, 20)
        assert store.get("a") is None
        assert store.get("a", 15) == VersionedRecord(1, 10, 20)
        assert store.put("a", 3, 15) == 20

        store.put("b", 1, 20)
        store.put("b", None, 20)
        assert store.put("b", 2, 10) == VALID_TO_UNDEFINED
        assert store.get("b") == VersionedRecord(2, 10, None)
        store.close()

    def test_puts_past_the_history_are_refused_and_counted(self, tmp_path: Path) -> None:
        """Refuses them, and logs them all the same."""
        store, host = self._opened(tmp_path)
        store.put("a", 1, 200)

        assert store.put("a", 2, 100) == 200
        assert store.put("a", 3, 99) == NOT_PUT
        assert store.delete("a", 99) is None
        assert host.expired == 2
        assert store.get("a", 100) == VersionedRecord(2, 100, 200)
        assert len(host.changes) == (4 if self.logged else 0)
        store.close()

    def test_a_change_tells_whether_it_is_the_latest(self, tmp_path: Path) -> None:
        """Sets it for who is told of the change, and puts it back."""
        store, host = self._opened(tmp_path)
        told: list[tuple[Any, ...]] = []
        updates = store.updates(
            lambda *change: told.append((*change, host.current.is_latest)), send_old=True
        )
        updates.write("a", 1, None, 200)
        updates.write("a", 2, 1, 150)
        updates.write("a", 3, 1, 99)
        updates.fold(lambda _key, value, old: old + value, _fail, _fail)("a", 4, 160)

        assert told == [
            ("a", 1, None, 200, True),
            ("a", 2, 1, 150, False),
            ("a", 5, 1, 200, True),
        ]
        assert host.current.is_latest
        store.close()

    def test_open_scans_are_counted_until_they_end(self, tmp_path: Path) -> None:
        """Ends one scan by reading, one by closing."""
        store, host = self._opened(tmp_path)
        self._put(store, host, "a", 1)

        one, two = store.versions("a"), store.versions("a", 0, 10)
        assert store.open_iterators == 2
        assert len(list(one)) == 1
        two.close()
        assert store.open_iterators == 0
        store.close()

    def test_what_cannot_be_a_version_is_refused(self, tmp_path: Path) -> None:
        """Refuses None as a key, and times that are none."""
        store, _ = self._opened(tmp_path)
        face = store.read_only()
        keyless: list[Callable[[], object]] = [
            lambda: store.get(None),
            lambda: store.put(None, 1, 1),
            lambda: store.delete(None, 1),
            lambda: store.versions(None),
            lambda: face.get(None, 1),
        ]
        for call in keyless:
            with pytest.raises(ValueError, match="cannot be None"):
                call()
        with pytest.raises(TypeError, match="epoch milliseconds"):
            store.put("a", 1, "now")
        with pytest.raises(ValueError, match="negative timestamp"):
            store.put("a", 1, -1)
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
            lambda: store.put("a", 1, 1),
            lambda: store.versions("a"),
            lambda: face.get("a"),
            lambda: face.get("a", 5),
            lambda: face.versions("a"),
        ]
        for call in calls:
            with pytest.raises(StoreClosedError, match="is closed"):
                call()

    # -- how the suite talks to the store ------------------------------------------------

    def _opened(self, directory: Path) -> tuple[Any, RecordingHost]:
        host = RecordingHost(directory)
        return self.open_store(host), host

    def _put(self, store: Any, host: RecordingHost, key: str, number: int) -> None:
        host.set_record(number)
        store.put(key, number, number)


def _fail(*_arguments: Any) -> None:
    pytest.fail("the step failed")


class _Run:
    """One example of the model test: the store, and the dicts it is compared with."""

    def __init__(self, suite: VersionedStoreSuite, directory: Path) -> None:
        self.suite = suite
        self.directory = directory
        self.histories: dict[str, History] = {}
        self.observed_ms = -1
        self.committed: dict[str, History] = {}
        self.committed_ms = -1
        self.committed_changes = 0
        self.host = RecordingHost(directory / "store")
        self.open()

    def open(self) -> None:
        before = self.host
        self.host = RecordingHost(self.directory / "store")
        self.host.changes = before.changes
        self.store = self.suite.open_store(self.host)
        self.told: list[tuple[Any, ...]] = []
        self.updates = self.store.updates(
            lambda *change: self.told.append((*change, self.host.current.is_latest)), send_old=True
        )

    def apply(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)

    # -- the model -----------------------------------------------------------------------

    @property
    def history_from_ms(self) -> int:
        return self.observed_ms - HISTORY_MS

    def versions_of(self, key: str) -> list[VersionedRecord[int | None]]:
        """Returns all versions of a key, oldest first, deletions among them."""
        history = sorted(self.histories.get(key, {}).items())
        ends: list[int | None] = [timestamp for timestamp, _ in history[1:]]
        if history:
            ends.append(None)
        return [
            VersionedRecord(value, timestamp, end)
            for (timestamp, value), end in zip(history, ends, strict=True)
        ]

    def latest(self, key: str) -> VersionedRecord[int | None] | None:
        versions = self.versions_of(key)
        return versions[-1] if versions and versions[-1].value is not None else None

    def at(self, key: str, moment: int) -> VersionedRecord[int | None] | None:
        latest = self.latest(key)
        if latest is not None and latest.timestamp <= moment:
            return latest
        if moment < self.history_from_ms:
            return None
        valid = [one for one in self.versions_of(key) if one.timestamp <= moment]
        return valid[-1] if valid and valid[-1].value is not None else None

    def takes_latest_away(self, key: str, timestamp: int, value: int | None) -> bool:
        """Tells of a deletion at the latest version's own time, which has a test of its own."""
        latest = self.latest(key)
        return value is None and latest is not None and latest.timestamp == timestamp

    def note(self, key: str, timestamp: int, value: int | None) -> int:
        """Puts into the model and returns what the store's put is to return."""
        if timestamp < self.history_from_ms:
            return NOT_PUT
        self.observed_ms = max(self.observed_ms, timestamp)
        self.histories.setdefault(key, {})[timestamp] = value
        behind = [one for one in self.histories[key] if one > timestamp]
        return min(behind, default=VALID_TO_UNDEFINED)

    # -- operations ----------------------------------------------------------------------

    def put(self, key: str, timestamp: int, value: int | None) -> None:
        if not self.takes_latest_away(key, timestamp, value):
            expected = self.note(key, timestamp, value)
            assert self.store.put(key, value, timestamp) == expected

    def update(self, key: str, timestamp: int, value: int | None) -> None:
        if self.takes_latest_away(key, timestamp, value):
            return
        latest = self.latest(key)
        old = latest and latest.value
        self.told.clear()
        expected = self.note(key, timestamp, value)
        self.updates.write(key, value, old, timestamp)
        is_latest = expected == VALID_TO_UNDEFINED
        told = [(key, value, old, timestamp, is_latest)]
        assert self.told == ([] if expected == NOT_PUT else told)

    def delete(self, key: str, timestamp: int) -> None:
        if self.takes_latest_away(key, timestamp, None):
            return
        expected = None if timestamp < self.history_from_ms else self.at(key, timestamp)
        self.note(key, timestamp, None)
        assert self.store.delete(key, timestamp) == expected

    def get(self, key: str, moment: int) -> None:
        for face in (self.store, self.store.read_only()):
            assert face.get(key) == self.latest(key)
            assert face.get(key, moment) == self.at(key, moment)
            assert (key in face) is (self.latest(key) is not None)
        pair = self.store.read_as_of(key, moment)
        expected = self.at(key, moment)
        assert pair == (expected and expected[:2])

    def versions(self, key: str, from_ms: int, to_ms: int) -> None:
        valid = [
            one
            for one in self.versions_of(key)
            if one.value is not None
            and one.timestamp <= to_ms
            and (one.valid_to is None or one.valid_to > from_ms)
        ]
        if to_ms < self.history_from_ms:
            certain = allowed = [one for one in valid if one.valid_to is None]
        else:
            certain, allowed = self.certain(valid), valid
        for face in (self.store, self.store.read_only()):
            found = list(face.versions(key, from_ms, to_ms))
            assert found[::-1] == list(face.versions(key, from_ms, to_ms, reverse=True))
            assert [one for one in allowed if one in found] == found
            assert all(one in found for one in certain)

    def certain(
        self, versions: Iterable[VersionedRecord[int | None]]
    ) -> list[VersionedRecord[int | None]]:
        """Returns the versions that are within the history."""
        first = self.history_from_ms
        return [one for one in versions if one.valid_to is None or one.valid_to > first]

    def commit(self) -> None:
        self.store.flush()
        self.store.apply_pending()
        self.committed, self.committed_ms = deepcopy(self.histories), self.observed_ms
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
        self.histories, self.observed_ms = deepcopy(self.committed), self.committed_ms
        # A store opened again knows time only by its segments, until something newer comes.
        if self.observed_ms >= 0:
            self.store.put(_CLOCK, 0, self.observed_ms)
        self.check_all()

    # -- comparisons ---------------------------------------------------------------------

    def check_all(self) -> None:
        for key in self.histories:
            for moment in (0, self.history_from_ms, self.observed_ms - 50, self.observed_ms):
                self.get(key, max(moment, 0))
            self.versions(key, 0, 1_000)

    def check_restoration(self) -> None:
        if not self.suite.logged:
            assert self.host.changes == []
            return
        host = RecordingHost(self.directory / "restored")
        restored = self.suite.open_store(host)
        try:
            records = self.host.restore_records()
            half = len(records) // 2
            restored.restore(records[:half])
            restored.restore(records[half:])
            restored.apply_pending()
            assert restored.dump() == self.store.dump()
            assert host.changes == []
        finally:
            restored.close()
