"""The memory backend against the public suite, and what only it promises."""

from __future__ import annotations

from pathlib import Path

from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.testing.byte_store import ByteStoreSuite
from thalweg.stores.testing.byte_store_model import numbered


class TestMemoryByteStore(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return MemoryByteStore("mine")


def test_it_does_not_outlive_the_process() -> None:
    with MemoryByteStore("mine") as store:
        assert not store.persistent
        assert store.name == "mine"


def test_its_count_is_exact() -> None:
    with MemoryByteStore("mine") as store:
        store.write(numbered(100))
        store.write(numbered(60, b"again"))
        store.delete(b"row\x00\x00")
        store.delete(b"row\x00\x00")
        store.write([(b"row\x00\x00", None), (b"row\x00\x01", None), (b"x", b"")])
        store.delete_range(b"row\x00\x50", b"s")
        assert store.approximate_count() == len(list(store.range())) == 79
