"""A byte store in SQLite, by the standard library.

Owns all use of sqlite3: the table, the connections, and what its errors mean. It must not know what
its bytes mean.

    <path>/rows.sqlite   the database, in WAL mode, with `-wal` and `-shm` beside it
    <path>/.lock         locked by the process that owns the directory

There is one table, `rows(key, value, checksum)`; the checksum is CRC-32 of key and value,
because SQLite itself does not notice a byte that the disk flipped in a row.

One connection writes. Reads take a connection from a pool: a `get` for one statement, a scan or a
view until it ends, within a transaction that shows the rows of its start. In WAL mode readers and
the writer do not wait for each other. But while a view is open, SQLite cannot shorten its log.

Source: SQLite's documentation of WAL mode and `PRAGMA synchronous`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from weakref import WeakSet
from zlib import crc32

from thalweg.stores.bytes.contract import AnyChange, ByteStore, ByteView, Row, Sync, settle
from thalweg.stores.bytes.owner import cannot_open, disown, own_directory
from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    StorageError,
    StoreClosedError,
    StoreError,
)

DATABASE_FILE: Final = "rows.sqlite"

_FIRST_CHUNK_COUNT: Final = 16
"""Rows a scan reads when it is opened: what most scans of prefixes need."""

_CHUNK_COUNT: Final = 512

_IDLE_COUNT_MAX: Final = 8
"""Connections that wait for a reader; each holds a few files open."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (
    key BLOB NOT NULL PRIMARY KEY CHECK (typeof(key) = 'blob'),
    value BLOB NOT NULL CHECK (typeof(value) = 'blob'),
    checksum INTEGER NOT NULL
) WITHOUT ROWID
"""
_GET: Final = "SELECT value, checksum FROM rows WHERE key = ?"
_PUT: Final = "REPLACE INTO rows VALUES (?, ?, ?)"
_DELETE: Final = "DELETE FROM rows WHERE key = ?"


def _ranged(verb: str, lower: bytes | None, upper: bytes | None) -> tuple[str, list[bytes]]:
    sides = (("key >= ?", lower), ("key < ?", upper))
    bounds = {condition: bound for condition, bound in sides if bound is not None}
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    return f"{verb} FROM rows{where}", list(bounds.values())


class _Scan:
    """A cursor with the connection that its rows come from.

    Args:
        store: whose rows it reads; gets the connection back in the end.
        connection: within a transaction; None where a view owns it.
        cursor: has been told what to select.
    """

    __slots__ = ("__weakref__", "_connection", "_cursor", "_lock", "_store", "is_done")

    def __init__(
        self,
        store: SqliteByteStore,
        connection: sqlite3.Connection | None,
        cursor: sqlite3.Cursor,
        lock: threading.Lock,
    ) -> None:
        self._store = store
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = cursor
        self._lock = lock
        self.is_done = False

    def read(self, count: int) -> list[Row]:
        """Reads the next rows, up to `count`."""
        with self._lock:
            if self.is_done:
                return []
            if self._cursor is None or not self._store.is_open:
                raise self._store._closed()  # noqa: SLF001 - a scan is part of its store
            try:
                rows = self._cursor.fetchmany(count)
            except sqlite3.Error as error:
                raise self._store._failed("scan rows", error) from error  # noqa: SLF001
            found = [
                (key, value)
                for key, value, checksum in rows
                if crc32(value, crc32(key)) == checksum
            ]
            if len(found) < len(rows):
                raise self._store._damaged("the checksum of a row does not fit")  # noqa: SLF001
            if len(rows) < count:
                self.is_done = True
                self._give_back()
        return found

    def release(self) -> None:
        """Gives the connection back; the scan cannot go on."""
        with self._lock:
            self._give_back()

    def _give_back(self) -> None:
        cursor, self._cursor = self._cursor, None
        connection, self._connection = self._connection, None
        if cursor is not None:
            with suppress(sqlite3.Error):
                cursor.close()
        if connection is not None:
            self._store._give_back(connection)  # noqa: SLF001

    def __del__(self) -> None:
        # Nobody reads a scan that is forgotten: no lock is needed.
        self._give_back()


class _SqliteView(ByteView):
    """A view: a connection within a transaction.

    Args:
        store: whose rows it shows; gets the connection back in the end.
        connection: within a transaction that has read already.
    """

    def __init__(self, store: SqliteByteStore, connection: sqlite3.Connection) -> None:
        self._store = store
        self._connection: sqlite3.Connection | None = connection
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """Returns the value a key had then, None where there was none."""
        with self._lock:
            return self._store._read(self._open(), key)  # noqa: SLF001 - part of the store

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans the rows there were then."""
        store = self._store
        with self._lock:
            cursor = store._select(self._open(), lower, upper, reverse, limit)  # noqa: SLF001
        scan = _Scan(store, None, cursor, self._lock)
        return store._rows([], scan, self._open)  # noqa: SLF001

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or not self._store.is_open:
            message = f"a view of store '{self._store.name}' is closed; open another one"
            raise StoreClosedError(message)
        return self._connection

    def release(self) -> None:
        """Gives the connection back."""
        with self._lock:
            self._give_back()

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._store._give_back(connection)  # noqa: SLF001

    def close(self) -> None:
        """Lets go of the moment. Closing again does nothing."""
        self.release()

    def __del__(self) -> None:
        self._give_back()


class SqliteByteStore(ByteStore):
    """An ordered map in an SQLite database.

    What was written survives the death of the process. With `Sync.DISK`, or after a `flush`,
    it survives a loss of power too.

    Args:
        name: the store's name; None for `sqlite:` and the directory.
        path: its directory; made, with its parents, where it is missing.
        durable: every write waits for the disk.

    Raises:
        StoreLockedError: it is open already, in another process or in this one.
        CorruptDataError: what is in the directory is no database, or a damaged one.
        BackendError: the directory cannot be used.
    """

    def __init__(self, name: str | None, path: str | Path, *, durable: bool = False) -> None:
        self._name = f"sqlite:{path}" if name is None else name
        self._path = Path(path)
        self._durable = durable
        self._is_open = True
        self._write_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._readers: WeakSet[_Scan | _SqliteView] = WeakSet()
        self._flush_count = 0
        self._owned = own_directory(self._name, self._path)
        try:
            self._writer = self._connect()
            try:
                self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
                self._synchronous("FULL" if durable else "NORMAL")
                self._writer.execute(_SCHEMA)
                self._flush_count = self._writer.execute("PRAGMA user_version").fetchone()[0]
            except BaseException:
                self._writer.close()
                raise
        except sqlite3.Error as error:
            self._is_open = False
            disown(self._owned)
            raise self._refused(error) from error

    @property
    def name(self) -> str:
        """The store's name, for messages."""
        return self._name

    @property
    def path(self) -> Path:
        """The store's directory."""
        return self._path

    @property
    def durable(self) -> bool:
        """Whether every write waits for the disk."""
        return self._durable

    @property
    def persistent(self) -> bool:
        """Always: rows outlive the process."""
        return True

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._is_open

    # -- connections ---------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        # Any thread may use any connection, one at a time: locks and the pool see to that.
        return sqlite3.connect(
            self._path / DATABASE_FILE, isolation_level=None, check_same_thread=False, timeout=30
        )

    def _take(self) -> sqlite3.Connection:
        if not self._is_open:
            raise self._closed()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if self._is_open and len(self._idle) < _IDLE_COUNT_MAX:
                self._idle.append(connection)
                if self._is_open:
                    return
                # Closed by another thread just now, which may not have seen it.
                self._close_idle()
            else:
                connection.close()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def _reader(self) -> Generator[sqlite3.Connection, None, None]:
        connection = self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    # -- reads ---------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        try:
            with self._reader() as connection:
                return self._read(connection, key)
        except sqlite3.Error as error:
            raise self._failed("read a row", error) from error

    def _read(self, connection: sqlite3.Connection, key: bytes) -> bytes | None:
        try:
            row = connection.execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failed("read a row", error) from error
        if row is None:
            return None
        value: bytes = row[0]
        if crc32(value, crc32(key)) != row[1]:
            raise self._damaged("the checksum of a row does not fit")
        return value

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            cursor = self._select(connection, lower, upper, reverse, limit)
        except sqlite3.Error as error:
            self._give_back(connection)
            raise self._failed("scan rows", error) from error
        scan = _Scan(self, connection, cursor, threading.Lock())
        self._readers.add(scan)
        # The moment of a transaction is that of its first read.
        first = scan.read(_FIRST_CHUNK_COUNT)
        return self._rows(first, scan, self._check_open)

    def _select(
        self,
        connection: sqlite3.Connection,
        lower: bytes | None,
        upper: bytes | None,
        reverse: bool,
        limit: int | None,
    ) -> sqlite3.Cursor:
        text, bounds = _ranged("SELECT key, value, checksum", lower, upper)
        order = f"ORDER BY key {'DESC' if reverse else 'ASC'} LIMIT ?"
        # A negative limit is none.
        return connection.execute(f"{text} {order}", [*bounds, -1 if limit is None else limit])

    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM rows LIMIT 1").fetchone()
        except sqlite3.Error as error:
            self._give_back(connection)
            raise self._failed("open a view", error) from error
        view = _SqliteView(self, connection)
        self._readers.add(view)
        return view

    # -- writes --------------------------------------------------------------------------

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins."""
        ranges, rows = settle(changes)
        try:
            put = [
                (key, value, crc32(value, crc32(key)))
                for key, value in rows.items()
                if value is not None
            ]
        except TypeError as error:
            raise self._no_bytes(error) from error
        deleted = [(key,) for key, value in rows.items() if value is None]
        with self._write_lock:
            self._check_open()
            writer = self._writer
            full = sync is Sync.DISK and not self._durable
            try:
                if full:
                    self._synchronous("FULL")
                writer.execute("BEGIN IMMEDIATE")
                try:
                    for each in ranges:
                        writer.execute(*_ranged("DELETE", each.lower, each.upper))
                    writer.executemany(_DELETE, deleted)
                    writer.executemany(_PUT, put)
                    if full:
                        self._touch()
                    writer.execute("COMMIT")
                except BaseException:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                    raise
                finally:
                    if full:
                        self._synchronous("NORMAL")
            except sqlite3.IntegrityError as error:
                raise self._no_bytes(error) from error
            except sqlite3.Error as error:
                raise self._failed("write rows", error) from error

    def flush(self) -> None:
        """Waits for the disk: SQLite syncs its log, with all that was written before."""
        if self._durable:
            self._check_open()
            return
        self.write((), sync=Sync.DISK)

    def _touch(self) -> None:
        # A transaction that changes nothing syncs nothing.
        self._flush_count = (self._flush_count + 1) & 0x7FFFFFFF
        self._writer.execute(f"PRAGMA user_version = {self._flush_count}")

    def _synchronous(self, level: str) -> None:
        self._writer.execute(f"PRAGMA synchronous = {level}")

    # -- the rest ------------------------------------------------------------------------

    def approximate_count(self) -> int:
        """Counts the rows, exactly, by a look at all of them."""
        try:
            with self._reader() as connection:
                count: int = connection.execute("SELECT count(*) FROM rows").fetchone()[0]
        except sqlite3.Error as error:
            raise self._failed("count rows", error) from error
        return count

    def close(self) -> None:
        """Releases the database. Closing again does nothing. Open scans end with an error.

        Raises:
            BackendError: SQLite could not tidy up; what was written is safe all the same.
        """
        with self._write_lock:
            if not self._is_open:
                return
            self._is_open = False
            for reader in list(self._readers):
                reader.release()
            self._close_idle()
            try:
                self._writer.close()
            except sqlite3.Error as error:
                message = f"{self._place()} was closed unclean: {error}"
                raise BackendError(message) from error
            finally:
                disown(self._owned)

    def _rows(
        self, rows: list[Row], scan: _Scan, check_open: Callable[[], object]
    ) -> Generator[Row, None, None]:
        count = _FIRST_CHUNK_COUNT
        try:
            yield from rows
            while not scan.is_done:
                count = min(4 * count, _CHUNK_COUNT)
                check_open()
                rows = scan.read(count)
                yield from rows
        finally:
            scan.release()
        check_open()

    # -- errors --------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._is_open:
            raise self._closed()

    def _place(self) -> str:
        return f"store '{self._name}' in {self._path}"

    def _closed(self) -> StoreClosedError:
        return StoreClosedError(f"store '{self._name}' is closed; ask the application for it again")

    def _no_bytes(self, error: Exception) -> TypeError:
        return TypeError(f"{self._place()}: cannot write a row: keys and values are bytes: {error}")

    def _failed(self, what: str, error: sqlite3.Error) -> StorageError | StoreError:
        if not self._is_open:
            return self._closed()
        if _is_damage(error):
            return self._damaged(str(error))
        remedy = "; free space and try again" if "full" in str(error) else ""
        return BackendError(f"{self._place()}: cannot {what}: {error}{remedy}")

    def _refused(self, error: sqlite3.Error) -> StorageError:
        if _is_damage(error):
            return self._damaged(str(error))
        return cannot_open(self._place(), error)

    def _damaged(self, text: str) -> CorruptDataError:
        return CorruptDataError(
            f"{self._place()} is damaged: {text}; put a backup in its place, or delete the "
            f"directory where the rows can be had again, as a store's from its changelog"
        )


def _is_damage(error: sqlite3.Error) -> bool:
    return type(error) is sqlite3.DatabaseError
