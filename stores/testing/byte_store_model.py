"""What a byte store must hold, as a dict, and random histories that compare the two.

Owns the model of `stores.bytes.contract` and the state machine over it. The tests of single
guarantees are in `stores.testing.byte_store`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    Change,
    RangeDeletion,
    Row,
    Sync,
)
from thalweg.stores.errors import StoreClosedError

Rows: TypeAlias = dict[bytes, bytes]

EDGES: Final = [
    b"",
    b"\x00",
    b"\x00\x00",
    b"\x00\xff",
    b"a",
    b"a\x00",
    b"ab",
    b"b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\x00",
    b"\xff\xff",
]
"""Keys in order, at which orders of signed bytes, of text and of padded keys go wrong."""

key_bytes = st.lists(st.sampled_from([0, 1, 0x61, 0x80, 0xFE, 0xFF]), max_size=3).map(bytes)
value_bytes = st.binary(max_size=4)
bounds = st.none() | key_bytes
any_changes = st.lists(
    st.tuples(key_bytes, st.none() | value_bytes) | st.builds(RangeDeletion, key_bytes, bounds),
    max_size=8,
)
limits = st.none() | st.integers(0, 20)


def between(rows: Rows, lower: bytes | None, upper: bytes | None, reverse: bool) -> list[Row]:
    """Returns what a scan of [lower, upper) must give."""
    found = [
        row
        for row in rows.items()
        if (lower is None or row[0] >= lower) and (upper is None or row[0] < upper)
    ]
    return sorted(found, reverse=reverse)


def applied(rows: Rows, changes: Iterable[AnyChange]) -> Rows:
    """Returns what rows are after a write."""
    rows = dict(rows)
    for change in changes:
        if isinstance(change, RangeDeletion):
            deleted = between(rows, change.lower, change.upper, False)
        else:
            deleted = [row for row in rows.items() if row[0] == change[0]]
        for key, _ in deleted:
            del rows[key]
        if not isinstance(change, RangeDeletion) and change[1] is not None:
            rows[change[0]] = change[1]
    return rows


def numbered(count: int, value: bytes = b"", prefix: bytes = b"row") -> list[Change]:
    """Makes rows in order of their keys."""
    return [(prefix + number.to_bytes(2, "big"), value) for number in range(count)]


class _OpenScan:
    """A scan of the machine, with the rows it has still to give."""

    def __init__(self, scan: Iterator[Row], expected: list[Row]) -> None:
        self.scan = scan
        self.expected = expected


class ByteStoreMachine(RuleBasedStateMachine):
    """A byte store and a dict, told the same things."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.rows: Rows = {}
        self.scans: list[_OpenScan] = []
        self.views: list[tuple[ByteView, Rows]] = []
        self.store: ByteStore

    def open_store(self, directory: Path) -> ByteStore:
        """Opens the store; the suite's."""
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        """Opens it for the first time."""
        self.store = self.open_store(Path(self.directory.name))

    @rule(key=key_bytes, value=value_bytes)
    def put(self, key: bytes, value: bytes) -> None:
        """Writes a row."""
        self.store.put(key, value)
        self.rows[key] = value

    @rule(key=key_bytes)
    def delete(self, key: bytes) -> None:
        """Deletes a row."""
        self.store.delete(key)
        self.rows.pop(key, None)

    @rule(changes=any_changes, sync=st.sampled_from(Sync))
    def write(self, changes: list[AnyChange], sync: Sync) -> None:
        """Writes a few changes, ranges to delete among them."""
        self.store.write(iter(changes), sync=sync)
        self.rows = applied(self.rows, changes)

    @rule(prefix=key_bytes, count=st.integers(1, 600), value=value_bytes)
    def write_many(self, prefix: bytes, count: int, value: bytes) -> None:
        """Writes more rows than a scan reads at a time."""
        many = dict(numbered(count, value, prefix))
        sync = Sync.NONE if count % 2 else Sync.PROCESS
        self.store.write(many.items(), sync=sync)
        self.rows.update(many)  # type: ignore[arg-type]

    @rule(lower=key_bytes, upper=key_bytes)
    def delete_range(self, lower: bytes, upper: bytes) -> None:
        """Deletes what lies between."""
        self.store.delete_range(lower, upper)
        self.rows = {key: v for key, v in self.rows.items() if not lower <= key < upper}

    @rule(key=key_bytes)
    def get(self, key: bytes) -> None:
        """Reads a row."""
        assert self.store.get(key) == self.rows.get(key)

    @rule(lower=bounds, upper=bounds, reverse=st.booleans(), limit=limits)
    def scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool, limit: int | None
    ) -> None:
        """Scans a range to its end or to a limit."""
        found = list(self.store.range(lower, upper, reverse=reverse, limit=limit))
        assert found == between(self.rows, lower, upper, reverse)[:limit]

    @precondition(lambda self: len(self.views) < 3)
    @rule()
    def open_view(self) -> None:
        """Opens a view that stays open."""
        self.views.append((self.store.view(), dict(self.rows)))

    @precondition(lambda self: self.views)
    @rule(data=st.data(), lower=bounds, upper=bounds, reverse=st.booleans(), limit=limits)
    def look(
        self,
        data: st.DataObject,
        lower: bytes | None,
        upper: bytes | None,
        reverse: bool,
        limit: int | None,
    ) -> None:
        """Reads an open view by key and range."""
        view, rows = data.draw(st.sampled_from(self.views))
        assert [view.get(key) for key in EDGES] == [rows.get(key) for key in EDGES]
        found = list(view.range(lower, upper, reverse=reverse, limit=limit))
        assert found == between(rows, lower, upper, reverse)[:limit]

    @precondition(lambda self: self.views)
    @rule()
    def close_view(self) -> None:
        """Closes the oldest view."""
        self.views.pop(0)[0].close()

    @precondition(lambda self: len(self.scans) < 3)
    @rule(lower=bounds, upper=bounds, reverse=st.booleans())
    def open_scan(self, lower: bytes | None, upper: bytes | None, reverse: bool) -> None:
        """Opens a scan that stays open."""
        scan = self.store.range(lower, upper, reverse=reverse)
        self.scans.append(_OpenScan(scan, between(self.rows, lower, upper, reverse)))

    @precondition(lambda self: self.scans)
    @rule(data=st.data(), count=st.integers(1, 300))
    def go_on(self, data: st.DataObject, count: int) -> None:
        """Reads on in an open scan."""
        scan = data.draw(st.sampled_from(self.scans))
        for _ in range(min(count, len(scan.expected))):
            assert next(scan.scan) == scan.expected.pop(0)

    @precondition(lambda self: self.scans)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Reads an open scan to its end."""
        scan = data.draw(st.sampled_from(self.scans))
        self.scans.remove(scan)
        assert list(scan.scan) == scan.expected

    @rule()
    def flush(self) -> None:
        """Flushes, which changes nothing to be seen."""
        self.store.flush()

    @precondition(lambda self: self.store.persistent)
    @rule()
    def reopen(self) -> None:
        """Closes it and opens it again."""
        self.store.close()
        self.store = self.open_store(Path(self.directory.name))
        for scan in self.scans:
            with pytest.raises(StoreClosedError):
                list(scan.scan)
        for view, _ in self.views:
            with pytest.raises(StoreClosedError):
                view.get(b"a")
        self.scans, self.views = [], []

    def teardown(self) -> None:
        """Compares everything."""
        try:
            with closing(self.store):
                for scan in self.scans:
                    assert list(scan.scan) == scan.expected
                for view, rows in self.views:
                    assert list(view.range()) == between(rows, None, None, False)
                    view.close()
                assert list(self.store.range()) == between(self.rows, None, None, False)
                assert all(self.store.get(key) == value for key, value in self.rows.items())
        finally:
            self.directory.cleanup()
