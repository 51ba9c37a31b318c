"""The SQLite backend against the public suite, and what only it promises."""

from __future__ import annotations

from pathlib import Path

from stores.backends.contract import ByteStore
from stores.backends.namespace import Namespace
from stores.backends.sqlite import SqliteByteStore
from stores.testing.byte_store import ByteStoreSuite


class TestSqliteByteStore(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return SqliteByteStore("mine", directory / "rows")


class _Owning(Namespace):
    """A namespace that closes the store below, as the suite opens both anew."""

    def close(self) -> None:
        super().close()
        self._store.close()


class TestNamespaceOfSqlite(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return _Owning(SqliteByteStore("below", directory / "rows"), b"mine/", name="mine")
