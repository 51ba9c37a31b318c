"""The conformance suite of list stores: every stack of layers against a sorted map of lists.

Owns what any list store must do about additions, deletions and their order, whatever keeps its
bytes. A test class inherits the suite and says how to open the store, as told in
`stores.testing.key_value`.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.stores.errors import StoreClosedError
from thalweg.stores.formats import decode_values, encode_values, pack_int64
from thalweg.stores.testing.host import RecordingHost

Operation: TypeAlias = tuple[Any, ...]

# Few, so that operations meet; with the bytes that ranges go wrong at.
_keys = st.sampled_from(["", "a", "a\0", "ab", "b", "é"])
_values = st.integers(-3, 3)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), _keys, _values),
        st.tuples(st.just("append"), _keys, _values),
        st.tuples(st.just("remove"), _keys),
        st.tuples(st.just("remove_if_present"), _keys),
        st.tuples(st.just("scan"), st.none() | _keys, st.none() | _keys),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("crash")),
    ),
    max_size=30,
)


class ListStoreSuite:
    """What a list store of `serdes.string` to `serdes.int64` must do.

    Attributes:
        logged: whether it logs its changes.
        examples: how many sequences of operations are tried against the model.
    """

    logged: bool = True
    examples: int = 50

    def open_store(self, host: RecordingHost) -> Any:
        """Opens the store, as it was left in the host's directory."""
        raise NotImplementedError

    def test_it_is_a_sorted_map_of_lists(self) -> None:
        """Adds, deletes, scans, commits, crashes and restores, all against a dict."""

        @settings(max_examples=self.examples, deadline=None)
        @given(_operations)
        @example([("append", "a", 1), ("append", "a", 1), ("reopen",), ("append", "a", 2)])
        @example([("append", "a", 1), ("commit",), ("remove", "a"), ("append", "a", 2)])
        @example([("remove_if_present", "a"), ("remove", "a")])
        def behaves(operations: list[Operation]) -> None:
            with TemporaryDirectory() as directory:
                run = _Run(self, Path(directory))
                try:
                    for operation in operations:
                        getattr(run, operation[0])(*operation[1:])
                    run.check_all()
                    run.commit()
                    run.check_all()
                    run.check_restoration()
                finally:
                    run.store.close()

        behaves()

    def test_an_addition_logs_the_whole_list(self, tmp_path: Path) -> None:
        """Logs additions with all that the key has, and deletions as such."""
        host = RecordingHost(tmp_path)
        store = self.open_store(host)
        host.set_record(5)
        store.append("k", 1)
        store.append("k", 2, 7)
        store.remove_if_present("other")
        store.remove("k")
        one, two = pack_int64(1), pack_int64(2)
        expected = [
            (b"k", encode_values([one]), 5),
            (b"k", encode_values([one, two]), 7),
            (b"k", None, 5),
        ]
        found = [(change.key, change.value, change.timestamp) for change in host.changes]
        assert found == (expected if self.logged else [])
        store.close()

    def test_none_is_no_key(self, tmp_path: Path) -> None:
        """Refuses what would be a row nobody finds."""
        store = self.open_store(RecordingHost(tmp_path))
        calls: list[Callable[[], object]] = [
            lambda: store.append(None, 1),
            lambda: store.remove(None),
            lambda: store.remove_if_present(None),
            lambda: store.get(None),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="cannot be None"):
                call()
        store.close()

    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        """Refuses every call, also through a face that was given before."""
        store = self.open_store(RecordingHost(tmp_path))
        face = store.read_only()
        store.append("a", 1)
        store.close()
        store.close()

        assert not store.is_open
        calls: list[Callable[[], object]] = [
            lambda: store.append("a", 1),
            lambda: store.remove("a"),
            lambda: store.remove_if_present("a"),
            lambda: store.get("a"),
            lambda: face.get("a"),
            face.all,
        ]
        for call in calls:
            with pytest.raises(StoreClosedError, match="is closed"):
                call()


class _Run:
    """One example of the model test: the store, and the dict it is compared with."""

    def __init__(self, suite: ListStoreSuite, directory: Path) -> None:
        self.suite = suite
        self.directory = directory
        self.lists: dict[str, list[int]] = {}
        self.committed: dict[str, list[int]] = {}
        self.committed_changes = 0
        self.host = RecordingHost(directory / "store")
        self.store = suite.open_store(self.host)

    def append(self, key: str, value: int) -> None:
        self.store.append(key, value)
        self.lists.setdefault(key, []).append(value)
        self.check(key)

    def remove(self, key: str) -> None:
        logged = len(self.host.changes)
        self.store.remove(key)
        assert len(self.host.changes) == logged + self.suite.logged
        self.lists.pop(key, None)
        self.check(key)

    def remove_if_present(self, key: str) -> None:
        logged = len(self.host.changes)
        self.store.remove_if_present(key)
        is_there = self.lists.pop(key, None) is not None
        assert len(self.host.changes) == logged + (self.suite.logged and is_there)
        self.check(key)

    def check(self, key: str) -> None:
        for face in (self.store, self.store.read_only()):
            assert face.get(key) == self.lists.get(key)

    def scan(self, lower: str | None, upper: str | None) -> None:
        expected = [
            (key, self.lists[key])
            for key in self.ordered(self.lists)
            if (lower is None or key.encode() >= lower.encode())
            and (upper is None or key.encode() <= upper.encode())
        ]
        for face in (self.store, self.store.read_only()):
            assert list(face.range(lower, upper)) == expected
            assert list(face.reverse_range(lower, upper)) == expected[::-1]

    @staticmethod
    def ordered(lists: dict[str, list[int]]) -> list[str]:
        return sorted(lists, key=str.encode)

    def commit(self) -> None:
        self.store.flush()
        self.store.apply_pending()
        self.committed = {key: list(values) for key, values in self.lists.items()}
        self.committed_changes = len(self.host.changes)

    def reopen(self) -> None:
        self.commit()
        self.crash()

    def crash(self) -> None:
        is_kept = self.store.persistent
        self.store.close()
        del self.host.changes[self.committed_changes :]
        before, self.host = self.host, RecordingHost(self.directory / "store")
        self.host.changes = before.changes
        self.store = self.suite.open_store(self.host)
        if not is_kept and self.suite.logged:
            self.store.restore(self.host.restore_records())
        elif not is_kept:
            self.committed = {}
        self.lists = {key: list(values) for key, values in self.committed.items()}
        self.check_all()

    def check_all(self) -> None:
        self.scan(None, None)
        assert list(self.store.entries()) == [
            (key, value) for key in self.ordered(self.lists) for value in self.lists[key]
        ]

    def check_restoration(self) -> None:
        kind, entries = self.store.dump()
        assert kind == "kv"
        found = {
            bytes.fromhex(entry["key"]).decode(): decode_values(bytes.fromhex(entry["value"]))
            for entry in entries
        }
        assert found == {key: list(map(pack_int64, row)) for key, row in self.lists.items()}
        if not self.suite.logged:
            assert self.host.changes == []
            return
        host = RecordingHost(self.directory / "restored")
        restored = self.suite.open_store(host)
        try:
            restored.restore(self.host.restore_records())
            assert restored.dump() == (kind, entries)
            assert host.changes == []
        finally:
            restored.close()
