"""The SQLite backend against the public suite, and what only it promises."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.bytes.sqlite import SqliteByteStore
from thalweg.stores.testing.byte_store import ByteStoreSuite


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


def test_t7_one_table_holds_all_rows_and_a_database_without_it_is_empty(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "rows.sqlite").close()
    with SqliteByteStore(None, tmp_path) as store:
        assert store.name == f"sqlite:{tmp_path}"
        assert list(store.range()) == []
        store.write([(b"a", b"1"), (b"b", b"2")])
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as database:
        assert database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall() == [("rows",)]
        assert database.execute("SELECT key, value FROM rows").fetchall() == [
            (b"a", b"1"),
            (b"b", b"2"),
        ]


def test_readers_share_a_few_connections(tmp_path: Path) -> None:
    with SqliteByteStore("mine", tmp_path) as store:
        store.write([(b"%05d" % number, b"") for number in range(1_000)])
        views = [store.view() for _ in range(40)]
        scans = [store.range() for _ in range(40)]
        assert all(next(scan) == (b"00000", b"") for scan in scans)
        store.delete(b"00001")
        assert all(view.get(b"00001") == b"" for view in views)
        for view in views:
            view.close()
        del scans
        descriptors = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc").is_dir() else 0
        for _ in range(100):
            assert store.get(b"00001") is None
        if descriptors:
            assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 3
