"""Pending writes over each backend: a buffer in front of a map, against two dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from thalweg.stores.bytes.contract import (
    ByteStore,
    Change,
    Row,
    Sync,
)
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.errors import BackendError, StoreClosedError
from thalweg.stores.rows.contract import merge, within
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.testing.byte_store_model import between, numbered
from thalweg.stores.testing.key_value import readers

Open = Callable[[Path], ByteStore]
BACKENDS: dict[str, Open] = {
    "memory": lambda _: MemoryByteStore("mine"),
    "rocks": lambda directory: RocksByteStore("mine", directory / "rows"),
}

_keys = st.lists(st.sampled_from([0, 0x61, 0xFF]), max_size=3).map(bytes)
_values = st.binary(max_size=2)
_bounds = st.none() | _keys


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ByteStore]:
    with BACKENDS[request.param](tmp_path) as backend:
        yield backend


@pytest.fixture
def store(backend: ByteStore) -> PendingByteStore:
    return PendingByteStore(backend)


class Machine(RuleBasedStateMachine):
    """The committed rows, those of the buffer over them, and what expires with the next commit."""

    open_backend: Open

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.committed: dict[bytes, bytes] = {}
        self.pending: dict[bytes, bytes | None] = {}
        self.expired = b""
        self.scans: list[tuple[Iterator[Row], list[Row]]] = []
        self.store: PendingByteStore

    @initialize()
    def open(self) -> None:
        self.store = PendingByteStore(type(self).open_backend(Path(self.directory.name)))

    @property
    def rows(self) -> dict[bytes, bytes]:
        both = {**self.committed, **self.pending}
        return {key: value for key, value in both.items() if value is not None}

    @rule(key=_keys, value=st.none() | _values)
    def put(self, key: bytes, value: bytes | None) -> None:
        self.store.put(key, value)
        self.pending[key] = value

    @rule(key=_keys)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.rows.get(key)

    @rule(lower=_bounds, upper=_bounds, reverse=st.booleans(), shared=st.booleans())
    def scan(self, lower: bytes | None, upper: bytes | None, reverse: bool, shared: bool) -> None:
        scan = self.store.snapshot if shared else self.store.scan
        assert list(scan(lower, upper, reverse)) == between(self.rows, lower, upper, reverse)

    @precondition(lambda self: len(self.scans) < 3)
    @rule(lower=_bounds, upper=_bounds, reverse=st.booleans(), shared=st.booleans())
    def open_scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool, shared: bool
    ) -> None:
        scan = self.store.snapshot if shared else self.store.scan
        expected = between(self.rows, lower, upper, reverse)
        self.scans.append((scan(lower, upper, reverse), expected))

    @precondition(lambda self: self.scans)
    @rule()
    def finish_scan(self) -> None:
        scan, expected = self.scans.pop(0)
        assert list(scan) == expected

    @rule(upper=_keys)
    def expire_below(self, upper: bytes) -> None:
        self.store.expire_below(upper)
        self.expired = max(self.expired, upper)

    @rule(durable=st.booleans())
    def apply(self, durable: bool) -> None:
        self.store.apply(durable=durable)
        self.committed = {key: v for key, v in self.rows.items() if key >= self.expired}
        self.pending, self.expired = {}, b""
        assert self.store.pending_count == 0
        assert list(self.store.backend.range()) == sorted(self.committed.items())

    @rule(batch=st.lists(st.tuples(_keys, st.none() | _values), max_size=5))
    def restore(self, batch: list[Change]) -> None:
        self.store.restore(batch)
        for key, value in batch:
            self.committed.pop(key, None)
            if value is not None:
                self.committed[key] = value

    @rule()
    def count(self) -> None:
        assert self.store.pending_count == len(self.pending)
        if not self.store.persistent:
            assert self.store.approximate_count() == len(self.rows)

    @rule()
    def crash(self) -> None:
        """What was not committed is gone; with a backend that keeps nothing, all is."""
        self.store.close()
        for scan, _ in self.scans:
            with pytest.raises(StoreClosedError):
                list(scan)
        if not self.store.persistent:
            self.committed = {}
        self.scans, self.pending, self.expired = [], {}, b""
        self.open()

    def teardown(self) -> None:
        try:
            assert list(self.store.backend.range()) == sorted(self.committed.items())
            self.store.close()
        finally:
            self.directory.cleanup()


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_it_is_a_buffer_before_a_map(name: str) -> None:
    class ThisMachine(Machine):
        open_backend = staticmethod(BACKENDS[name])

    run_state_machine_as_test(
        ThisMachine,
        settings=settings(
            max_examples=60 if name == "memory" else 25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# -- commits ---------------------------------------------------------------------------------


def test_nothing_reaches_the_backend_before_the_commit(store: PendingByteStore) -> None:
    store.restore([(b"a", b"1"), (b"b", b"1")])
    store.put(b"a", None)
    store.put(b"c", b"2")
    assert list(store.backend.range()) == [(b"a", b"1"), (b"b", b"1")]
    assert list(store.scan(None, None)) == [(b"b", b"1"), (b"c", b"2")]
    store.apply()
    assert list(store.backend.range()) == [(b"b", b"1"), (b"c", b"2")]


def test_the_highest_expiry_counts(store: PendingByteStore) -> None:
    store.restore(numbered(5, b"v", prefix=b""))
    store.put(b"\x00\x01", b"again")
    store.put(b"\x00\x04", b"again")
    store.expire_below(b"\x00\x03")
    store.expire_below(b"\x00\x02")
    assert len(list(store.scan(None, None))) == 5
    store.apply()
    assert list(store.backend.range()) == [(b"\x00\x03", b"v"), (b"\x00\x04", b"again")]
    store.put(b"\x00\x00", b"late")
    store.apply()
    assert next(store.scan(None, None)) == (b"\x00\x00", b"late")


def test_a_commit_that_fails_can_be_tried_again() -> None:
    class Failing(MemoryByteStore):
        is_full = True

        def write(self, changes: Any, *, sync: Sync = Sync.PROCESS) -> None:
            if self.is_full:
                raise BackendError("the disk is full")
            super().write(changes, sync=sync)

    backend = Failing("mine")
    store = PendingByteStore(backend)
    store.put(b"a", b"1")
    store.put(b"b", b"2")
    store.expire_below(b"b")
    with pytest.raises(BackendError):
        store.apply()
    assert list(store.scan(None, None)) == [(b"a", b"1"), (b"b", b"2")]
    backend.is_full = False
    store.apply()
    assert list(backend.range()) == [(b"b", b"2")]


# -- the end ---------------------------------------------------------------------------------


def test_a_closed_store_refuses(store: PendingByteStore) -> None:
    store.put(b"a", b"1")
    get, scan = store.get, store.scan(None, None)
    assert store.is_open
    store.close()
    store.close()
    assert not store.is_open
    assert not store.backend.is_open
    for call in (
        lambda: get(b"a"),
        lambda: get(b"b"),
        lambda: store.put(b"a", b"1"),
        lambda: store.scan(None, None),
        lambda: store.snapshot(None, None),
        lambda: store.restore([(b"a", b"1")]),
        lambda: store.apply(durable=True),
        store.approximate_count,
        lambda: list(scan),
    ):
        with pytest.raises(StoreClosedError, match="'mine' is closed"):
            call()


def test_it_is_named_as_its_backend(store: PendingByteStore, backend: ByteStore) -> None:
    assert store.name == "mine"
    assert store.persistent == backend.persistent


# -- other threads ---------------------------------------------------------------------------


def test_snapshots_of_other_threads_are_of_one_moment(store: PendingByteStore) -> None:
    """One number is put under all keys in turn, then committed, then the next."""
    keys = [b"k%03d" % number for number in range(40)]

    def check(values: list[int]) -> None:
        # Keys put later have the same number still, or the one before.
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] <= 1

    def read(newest: dict[str, int]) -> None:
        rows = list(store.snapshot(b"k", b"l"))
        assert [key for key, _ in rows] == keys
        check([int(value) for _, value in rows])
        falling = list(store.snapshot(b"k", b"l", True))
        check([int(value) for _, value in reversed(falling)])
        assert int(falling[0][1]) >= int(rows[-1][1])
        for key in (keys[0], keys[-1]):
            value = store.get(key)
            assert value is not None
            assert int(value) >= newest.get(str(key), 0)
            newest[str(key)] = int(value)
        assert store.approximate_count() >= 0

    store.restore((key, b"0") for key in keys)
    with readers(read):
        for number in range(1, 300):
            value = b"%d" % number
            for key in keys:
                store.put(key, value)
            # Another buffer than before, in size too.
            store.put(b"x%d" % (number % 7), value)
            store.apply()


class Interrupted(MemoryByteStore):
    """Lets another thread do something just before it is read."""

    def __init__(self) -> None:
        super().__init__("mine")
        self.other_thread: Callable[[], None] | None = None
        read = self.get

        def get(key: bytes) -> bytes | None:
            self._interrupt()
            return read(key)

        self.get = get  # type: ignore[method-assign]

    def _interrupt(self) -> None:
        other, self.other_thread = self.other_thread, None
        if other is not None:
            other()

    def range(
        self, lower: bytes | None = None, upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[Row]:
        self._interrupt()
        return super().range(lower, upper, reverse=reverse)


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_commit_may_come_between_the_buffer_and_the_backend(is_applied: bool) -> None:
    backend = Interrupted()
    store = PendingByteStore(backend)

    def put(number: int) -> None:
        for key in (b"a", b"b"):
            store.put(key, b"%d" % number)

    def commit() -> None:
        store.apply()
        put(2)
        store.put(b"c", b"2")
        if is_applied:
            store.apply()

    put(1)
    backend.other_thread = commit
    rows = dict(store.snapshot(None, None))
    assert rows in ({b"a": b"1", b"b": b"1"}, {b"a": b"2", b"b": b"2", b"c": b"2"})


def test_puts_may_come_while_rows_are_counted() -> None:
    backend = Interrupted()
    store = PendingByteStore(backend)
    store.put(b"a", b"1")
    backend.other_thread = lambda: store.put(b"b", b"1")
    assert store.approximate_count() == 1


# -- merging ---------------------------------------------------------------------------------


def test_a_merged_scan_closes_what_it_reads() -> None:
    closed: list[bool] = []

    def rows() -> Iterator[Row]:
        try:
            yield b"a", b"1"
            yield b"b", b"2"
        finally:
            closed.append(True)

    scan = merge(rows(), [(b"a", b"new")], False)
    assert next(scan) == (b"a", b"new")
    scan.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_changes_are_chosen_and_sorted() -> None:
    changes = [(b"b", b"1"), (b"c", None), (b"a", b"2")]
    assert within(changes, None, None, False) == [(b"a", b"2"), (b"b", b"1"), (b"c", None)]
    assert within(changes, b"a", b"c", True) == [(b"b", b"1"), (b"a", b"2")]
