"""The rows of an LRU store, against a list in the order of use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from thalweg.stores.bytes.contract import Change, Row
from thalweg.stores.errors import StoreClosedError
from thalweg.stores.rows.lru import LruRows
from thalweg.stores.testing.byte_store_model import between
from thalweg.stores.testing.key_value import readers

_keys = st.sampled_from([b"", b"a", b"ab", b"b", b"\xff", b"\xff\x00"])
_values = st.binary(max_size=1)
_bounds = st.none() | _keys


class LruMachine(RuleBasedStateMachine):
    """`used` has the rows, the least recently used first."""

    @initialize(max_entries=st.integers(1, 4))
    def open(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.rows = LruRows("mine", max_entries)
        self.used: list[Row] = []
        self.evicted: list[bytes] = []
        self.expected: list[bytes] = []
        self.scans: list[tuple[Iterator[Row], list[Row]]] = []
        self.rows.on_evict = self.evicted.append

    def _write(self, key: bytes, value: bytes | None) -> bytes | None:
        self.used = [row for row in self.used if row[0] != key]
        if value is not None:
            self.used.append((key, value))
        return self.used.pop(0)[0] if len(self.used) > self.max_entries else None

    @rule(key=_keys, value=st.none() | _values)
    def put(self, key: bytes, value: bytes | None) -> None:
        self.rows.put(key, value)
        evicted = self._write(key, value)
        if evicted is not None:
            self.expected.append(evicted)

    @rule(key=_keys)
    def get(self, key: bytes) -> None:
        value = dict(self.used).get(key)
        assert self.rows.get(key) == value
        if value is not None:
            self._write(key, value)

    @rule(key=_keys)
    def peek(self, key: bytes) -> None:
        assert self.rows.peek(key) == dict(self.used).get(key)

    @rule(lower=_bounds, upper=_bounds, reverse=st.booleans(), shared=st.booleans())
    def scan(self, lower: bytes | None, upper: bytes | None, reverse: bool, shared: bool) -> None:
        scan = self.rows.snapshot if shared else self.rows.scan
        expected = between(dict(self.used), lower, upper, reverse)
        assert list(scan(lower, upper, reverse)) == expected
        self.scans.append((scan(lower, upper, reverse), expected))

    @rule()
    def finish_scans(self) -> None:
        for scan, expected in self.scans:
            assert list(scan) == expected
        self.scans = []

    @rule(batch=st.lists(st.tuples(_keys, st.none() | _values), max_size=6))
    def restore(self, batch: list[Change]) -> None:
        """Evicts as well, and says nothing of it."""
        self.rows.restore(iter(batch))
        for key, value in batch:
            self._write(key, value)

    @rule(durable=st.booleans())
    def apply(self, durable: bool) -> None:
        self.rows.apply(durable=durable)

    @invariant()
    def nothing_else_is_evicted(self) -> None:
        if hasattr(self, "rows"):
            assert self.evicted == self.expected
            assert self.rows.approximate_count() == len(self.used) <= self.max_entries


TestLruRows: Any = LruMachine.TestCase
TestLruRows.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("max_entries", [0, -1])
def test_it_keeps_at_least_one_row(max_entries: int) -> None:
    with pytest.raises(ValueError, match=f"'mine' must be at least 1, got {max_entries}"):
        LruRows("mine", max_entries)


def test_a_read_and_a_put_are_uses_a_peek_and_a_scan_are_not() -> None:
    rows = LruRows("mine", 4)
    for key in (b"a", b"b", b"c", b"d"):
        rows.put(key, b"1")
    rows.get(b"a")
    rows.put(b"b", b"2")
    rows.peek(b"c")
    list(rows.scan(None, None))
    evicted: list[bytes] = []
    rows.on_evict = evicted.append
    for key in (b"e", b"f", b"g", b"h"):
        rows.put(key, b"1")
    assert evicted == [b"c", b"d", b"a", b"b"]


def test_a_listener_may_read_what_is_left() -> None:
    rows = LruRows("mine", 1)
    seen: list[list[Row]] = []
    rows.on_evict = lambda _: seen.append(list(rows.scan(None, None)))
    rows.put(b"a", b"1")
    rows.put(b"b", b"2")
    assert seen == [[(b"b", b"2")]]


def test_a_closed_store_refuses() -> None:
    rows = LruRows("mine", 2)
    get, put = rows.get, rows.put
    put(b"a", b"1")
    assert not rows.persistent
    assert rows.is_open
    rows.close()
    rows.close()
    assert not rows.is_open
    for call in (
        lambda: get(b"a"),
        lambda: put(b"a", b"1"),
        lambda: rows.peek(b"a"),
        lambda: rows.scan(None, None),
        lambda: rows.snapshot(None, None),
        lambda: rows.restore([(b"a", b"1")]),
        rows.approximate_count,
    ):
        with pytest.raises(StoreClosedError, match="'mine' is closed"):
            call()


def test_threads_may_peek_and_scan() -> None:
    """A key is put with its own number, so that a row tells whether it is whole."""
    rows = LruRows("mine", 50)
    rows.put(b"000", b"000")

    def read(_: Any) -> None:
        found = list(rows.snapshot(None, None))
        assert 1 <= len(found) <= 51
        assert all(key == value for key, value in found)
        for key, _value in found[:5]:
            assert rows.peek(key) in (key, None)

    with readers(read):
        for number in range(20_000):
            key = b"%03d" % (number * 7 % 500)
            rows.put(key, key)
            rows.get(b"%03d" % (number % 500))
