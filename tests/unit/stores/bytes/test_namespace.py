"""Namespaces: the suite of byte stores, and that they do not see each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.bytes.contract import ByteStore, RangeDeletion, Sync
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.errors import StoreClosedError
from thalweg.stores.testing.byte_store import ByteStoreSuite
from thalweg.stores.testing.faulty import FaultyByteStore


class _Owning(Namespace):
    """A namespace that closes the store below, as the suite opens both anew."""

    def close(self) -> None:
        super().close()
        self._store.close()


class TestNamespaceInMemory(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        below = MemoryByteStore("below")
        below.write([(b"mind", b"before"), (b"mine", b"neighbour"), (b"mined", b"behind")])
        return _Owning(below, b"mine/", name="mine")


class TestNamespaceOfTheHighestBytes(ByteStoreSuite):
    """Its rows have no upper bound that is a key."""

    def open_store(self, directory: Path) -> ByteStore:
        below = MemoryByteStore("below")
        below.put(b"\xff\xfe", b"neighbour")
        return _Owning(below, b"\xff\xff", name="mine")


class TestNamespaceOnDisk(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return _Owning(RocksByteStore("below", directory / "rows"), b"mine/", name="mine")


class TestNamespaceOfAFaultyStore(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return _Owning(FaultyByteStore(rows=[(b"mind", b"before")]), b"mine/", name="mine")


_keys = st.binary(max_size=3)
_prefixes = st.sampled_from([b"a/", b"b/", b"\xff/"])
_changes = st.lists(
    st.tuples(_keys, st.none() | st.binary(max_size=2))
    | st.builds(RangeDeletion, _keys, st.none() | _keys),
    max_size=6,
)


@given(st.lists(st.tuples(_prefixes, _changes), max_size=12))
def test_namespaces_of_one_store_do_not_see_each_other(
    writes: list[tuple[bytes, list[tuple[bytes, bytes | None] | RangeDeletion]]],
) -> None:
    with MemoryByteStore("below") as below:
        alone = {prefix: MemoryByteStore("alone") for prefix in (b"a/", b"b/", b"\xff/")}
        shared = {prefix: Namespace(below, prefix) for prefix in alone}
        for prefix, changes in writes:
            alone[prefix].write(changes)
            shared[prefix].write(changes)
        for prefix, store in alone.items():
            assert list(shared[prefix].range()) == list(store.range())
            with shared[prefix].view() as view:
                assert list(view.range(reverse=True)) == list(store.range(reverse=True))
            assert shared[prefix].approximate_count() == store.approximate_count()


def test_one_write_goes_over_several_namespaces() -> None:
    with MemoryByteStore("below") as below:
        first, second = Namespace(below, b"1/"), Namespace(below, b"2/")
        second.put(b"old", b"")
        changes = [*first.changes([(b"a", b"1")]), *second.changes([RangeDeletion(b"", None)])]
        below.write(changes, sync=Sync.DISK)
        assert first.get(b"a") == b"1"
        assert list(second.range()) == []


def test_a_namespace_within_a_namespace() -> None:
    with MemoryByteStore("below") as below:
        inner = Namespace(Namespace(below, b"outer/"), b"inner/")
        inner.put(b"a", b"1")
        assert list(below.range()) == [(b"outer/inner/a", b"1")]
        assert list(inner.range()) == [(b"a", b"1")]


def test_the_store_below_outlives_its_namespaces() -> None:
    with MemoryByteStore("below") as below:
        with Namespace(below, b"a/") as namespace:
            namespace.put(b"k", b"v")
        assert not namespace.is_open
        with pytest.raises(StoreClosedError, match="below"):
            namespace.get(b"k")
        assert below.get(b"a/k") == b"v"
        again = Namespace(below, b"a/")
    assert not again.is_open
    with pytest.raises(StoreClosedError):
        again.put(b"k", b"v")


def test_a_namespace_needs_a_prefix() -> None:
    with (
        MemoryByteStore("below") as below,
        pytest.raises(ValueError, match="'below' needs a prefix"),
    ):
        Namespace(below, b"")
