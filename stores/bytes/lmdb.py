"""A byte store in LMDB.

Owns all use of lmdb: the layout of keys, the size of the map, and what its errors mean. It must not
know what its bytes mean. It needs the extra `lmdb`.

    <path>/data.mdb, lock.mdb   the database
    <path>/.lock                locked by the process that owns the directory

LMDB takes keys of 1 to 511 bytes. A row whose key has at most 509 bytes is stored under `k` and the
key. Its value is a CRC-32 of key and value (four bytes, big-endian), and the value. Longer keys
that begin with the same 509 bytes share one row. It is stored under `k`, those bytes and a zero
byte, directly behind the row of those bytes alone, so that the order of keys is kept. Its value is
a CRC-32 and a msgpack list of `[rest of the key, value]`, in order. Such keys are slow if many of
them begin with the same bytes.

LMDB maps the database into memory, so the map must be larger than the rows. The map is doubled when
it is full. This requires that no scan and no view is open at that moment.

A commit always waits for the disk. Without that, LMDB may lose the whole database in a loss of
power, not only the last rows.

Source: LMDB's documentation; storage-tiers E.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, cast
from weakref import WeakSet
from zlib import crc32

import msgspec

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    RangeDeletion,
    Row,
    Sync,
    first_chunk,
    first_key_after,
    settle,
)
from thalweg.stores.bytes.owner import cannot_open, disown, own_directory
from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    StorageError,
    StoreClosedError,
    StoreError,
)

try:
    import lmdb
except ImportError as error:
    message = "a byte store in LMDB needs the package lmdb: pip install 'thalweg[lmdb]'"
    raise ImportError(message) from error

MAP_BYTES: Final = 16 * 1024 * 1024 * 1024
"""The map unless a store is told otherwise: addresses, neither memory nor disk."""

_SHORT_BYTES_MAX: Final = 509
_PREFIX: Final = b"k"
_END: Final = b"l"
_FIRST_CHUNK_COUNT: Final = 16
_CHUNK_COUNT: Final = 512

_rest: Final = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])


def _place_of(key: bytes) -> bytes:
    """Returns the key of LMDB under which a row stands, alone or with others."""
    if len(key) <= _SHORT_BYTES_MAX:
        return _PREFIX + key
    return _PREFIX + key[:_SHORT_BYTES_MAX] + b"\0"


class _Reader:
    """A transaction that reads, with a cursor, and what is shared by scans and views.

    All calls are made under the store's read lock.
    """

    __slots__ = ("__weakref__", "_transaction", "store")

    def __init__(self, store: LmdbByteStore, transaction: lmdb.Transaction) -> None:
        self.store = store
        self._transaction: lmdb.Transaction | None = transaction

    def get(self, key: bytes) -> bytes | None:
        return self.store._value(self.open(), key)  # noqa: SLF001 - part of its store

    def read(
        self, lower: bytes | None, upper: bytes | None, reverse: bool, count: int
    ) -> list[Row]:
        rows = self.store._rows(self.open(), lower, upper, reverse)  # noqa: SLF001
        return list(islice(rows, count))

    def open(self) -> lmdb.Transaction:
        if self._transaction is None:
            name = self.store.name
            raise StoreClosedError(f"store '{name}', or a view of it, is closed; open it again")
        return self._transaction

    def release(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abort()

    def __del__(self) -> None:
        # The store's close waits for nobody who forgot a scan; the lock may be held right here.
        self.release()


class _LmdbView(ByteView):
    """A view: one transaction."""

    def __init__(self, lock: AbstractContextManager[Any], reader: _Reader) -> None:
        self._lock = lock
        self._reader = reader

    def get(self, key: bytes) -> bytes | None:
        """Returns the value a key had then, None where there was none."""
        with self._lock:
            return self._reader.get(key)

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans the rows there were then."""
        with self._lock:
            self._reader.open()
        rows = self._scan(lower, upper, reverse, first_chunk(limit, _FIRST_CHUNK_COUNT))
        return rows if limit is None else islice(rows, limit)

    def _scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool, count: int
    ) -> Generator[Row, None, None]:
        while True:
            with self._lock:
                found = self._reader.read(lower, upper, reverse, count)
            yield from found
            if len(found) < count:
                return
            if reverse:
                upper = found[-1][0]
            else:
                lower = first_key_after(found[-1][0])
            count = min(4 * count, _CHUNK_COUNT)

    def close(self) -> None:
        """Lets go of the moment. Closing again does nothing."""
        with self._lock:
            self._reader.release()


class LmdbByteStore(ByteStore):
    """An ordered map in an LMDB database.

    Every write waits for the disk, whatever its `sync` asks for. While a view is open, LMDB
    cannot use again the space of rows that are changed or deleted.

    Args:
        name: the store's name; None for `lmdb:` and the directory.
        path: its directory; made, with its parents, where it is missing.
        map_bytes: the size of the map at first, at least 64 KiB.

    Raises:
        StoreLockedError: it is open already, in another process or in this one.
        CorruptDataError: what is in the directory is no database of LMDB.
        BackendError: the directory cannot be used.
    """

    def __init__(self, name: str | None, path: str | Path, *, map_bytes: int = MAP_BYTES) -> None:
        self._name = f"lmdb:{path}" if name is None else name
        self._path = Path(path)
        self._is_open = True
        self._write_lock = threading.Lock()
        # LMDB must not be closed, nor its map moved, while a thread is within it.
        self._read_lock = threading.RLock()
        self._readers: WeakSet[_Reader] = WeakSet()
        self._owned = own_directory(self._name, self._path)
        try:
            self._environment = lmdb.open(
                str(path), map_size=map_bytes, max_readers=4_096, max_spare_txns=16
            )
        except lmdb.Error as error:
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
    def persistent(self) -> bool:
        """Always: rows outlive the process."""
        return True

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._is_open

    @property
    def map_bytes(self) -> int:
        """The size of the map now: what the rows may take, with all that LMDB adds."""
        with self._read_lock:
            self._check_open()
            size: int = self._environment.info()["map_size"]
            return size

    # -- reads ---------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        with self._read_lock:
            self._check_open()
            try:
                with self._environment.begin() as transaction:
                    return self._value(transaction, key)
            except lmdb.Error as error:
                raise self._failed("read a row", error) from error

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        with self._read_lock:
            view = self.view()
            count = first_chunk(limit, _FIRST_CHUNK_COUNT)
            first = view._reader.read(lower, upper, reverse, count)  # noqa: SLF001
            if len(first) < count:
                view.close()
                rows = self._until_closed(iter(first))
            else:
                edge = first[-1][0]
                if reverse:
                    upper = edge
                else:
                    lower = first_key_after(edge)
                rest = view.range(lower, upper, reverse=reverse)
                rows = self._until_closed(chain(first, rest), view.close)
        return rows if limit is None else islice(rows, limit)

    def _until_closed(
        self, rows: Iterator[Row], release: Callable[[], None] | None = None
    ) -> Generator[Row, None, None]:
        try:
            yield from rows
        finally:
            if release is not None:
                release()
        self._check_open()

    def view(self) -> _LmdbView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        with self._read_lock:
            self._check_open()
            try:
                reader = _Reader(self, self._environment.begin())
            except lmdb.Error as error:
                raise self._failed("open a view", error) from error
            self._readers.add(reader)
            return _LmdbView(self._read_lock, reader)

    def _value(self, transaction: lmdb.Transaction, key: bytes) -> bytes | None:
        place = _place_of(key)
        content = self._stored(transaction, place)
        if content is None:
            return None
        if len(key) <= _SHORT_BYTES_MAX:
            return content
        rest = key[_SHORT_BYTES_MAX:]
        return next((value for each, value in self._long(content) if each == rest), None)

    def _rows(
        self, transaction: lmdb.Transaction, lower: bytes | None, upper: bytes | None, reverse: bool
    ) -> Iterator[Row]:
        """Yields the rows of a range; the transaction must not change meanwhile."""
        lower = lower or b""
        with transaction.cursor() as cursor:
            first, end = _place_of(lower), _END if upper is None else _place_of(upper)
            if not reverse:
                found = cursor.set_range(first)
                pairs = cursor.iternext() if found else iter(())
            else:
                # A row of long keys that `upper` lies within is looked at, too.
                if not cursor.set_range(end):
                    found = cursor.last()
                elif cursor.key() == end and upper is not None and len(upper) > _SHORT_BYTES_MAX:
                    found = True
                else:
                    found = cursor.prev()
                pairs = cursor.iterprev() if found else iter(())
            # Without buffers, both are bytes.
            for place, stored in cast("Iterator[Row]", pairs):
                if place < first if reverse else place > end:
                    return
                content = self._checked(place, stored)
                if len(place) <= _SHORT_BYTES_MAX + 1:
                    rows = [(place[1:], content)]
                else:
                    head = place[1:-1]
                    rows = [(head + rest, value) for rest, value in self._long(content)]
                for key, value in reversed(rows) if reverse else rows:
                    if key >= lower and (upper is None or key < upper):
                        yield key, value

    def _stored(self, transaction: lmdb.Transaction, place: bytes) -> bytes | None:
        found = cast("bytes | None", transaction.get(place))
        return None if found is None else self._checked(place, found)

    def _checked(self, place: bytes, stored: bytes) -> bytes:
        content = stored[4:]
        if crc32(content, crc32(place)) != int.from_bytes(stored[:4], "big"):
            raise self._damaged("the checksum of a row does not fit")
        return content

    def _long(self, content: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return _rest.decode(content)
        except msgspec.MsgspecError as error:
            raise self._damaged(f"a row of long keys: {error}") from error

    # -- writes --------------------------------------------------------------------------

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins.

        It waits for the disk, whatever `sync` says.

        Raises:
            BackendError: also when the map is full and a scan or a view is open.
        """
        ranges, rows = settle(changes)
        with self._write_lock:
            self._check_open()
            while True:
                try:
                    with self._environment.begin(write=True) as transaction:
                        for each in ranges:
                            self._delete_range(transaction, each)
                        for key, value in rows.items():
                            self._set(transaction, key, value)
                    return
                except lmdb.MapFullError as error:
                    self._grow(error)
                except lmdb.Error as error:
                    raise self._failed("write rows", error) from error
                except TypeError as error:
                    message = f"{self._path_text()}: cannot write a row: keys and values are bytes"
                    raise TypeError(f"{message}: {error}") from error

    def _set(self, transaction: lmdb.Transaction, key: bytes, value: bytes | None) -> None:
        place = _place_of(key)
        content = value
        if len(key) > _SHORT_BYTES_MAX:
            stored = self._stored(transaction, place)
            found = {} if stored is None else dict(self._long(stored))
            if value is None:
                found.pop(key[_SHORT_BYTES_MAX:], None)
            else:
                found[key[_SHORT_BYTES_MAX:]] = value
            content = msgspec.msgpack.encode(sorted(found.items())) if found else None
        if content is None:
            transaction.delete(place)
        else:
            checksum = crc32(content, crc32(place)).to_bytes(4, "big")
            transaction.put(place, checksum + content)

    def _delete_range(self, transaction: lmdb.Transaction, deleted: RangeDeletion) -> None:
        keys = [key for key, _ in self._rows(transaction, deleted.lower, deleted.upper, False)]
        for key in keys:
            self._set(transaction, key, None)

    def _grow(self, error: lmdb.Error) -> None:
        """Doubles the map; nobody may be within it."""
        with self._read_lock:
            open_count = sum(1 for reader in self._readers if reader._transaction is not None)  # noqa: SLF001
            map_bytes = self.map_bytes
            if open_count:
                message = (
                    f"{self._path_text()}: cannot write rows: the map of {map_bytes} bytes is full, "
                    f"and cannot grow while {open_count} views and scans are open; close them, "
                    f"or open the store with a larger map_bytes"
                )
                raise BackendError(message) from error
            self._environment.set_mapsize(2 * map_bytes)

    # -- the rest ------------------------------------------------------------------------

    def approximate_count(self) -> int:
        """Counts the rows; long keys that begin alike count as one."""
        with self._read_lock:
            self._check_open()
            try:
                count: int = self._environment.stat()["entries"]
            except lmdb.Error as error:
                raise self._failed("count rows", error) from error
            return count

    def flush(self) -> None:
        """Returns at once: every write waited for the disk."""
        self._check_open()

    def close(self) -> None:
        """Releases the database. Closing again does nothing. Open scans end with an error."""
        with self._write_lock, self._read_lock:
            if not self._is_open:
                return
            self._is_open = False
            for reader in list(self._readers):
                reader.release()
            with suppress(lmdb.Error):
                self._environment.close()
            disown(self._owned)

    # -- errors --------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreClosedError(
                f"store '{self._name}' is closed; ask the application for it again"
            )

    def _path_text(self) -> str:
        return f"store '{self._name}' in {self._path}"

    def _failed(self, what: str, error: lmdb.Error) -> StorageError | StoreError:
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
            return self._damaged(str(error))
        return BackendError(
            f"{self._path_text()}: cannot {what}: {error}; check the disk, then try again"
        )

    def _refused(self, error: lmdb.Error) -> StorageError:
        if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
            return self._damaged(str(error))
        return cannot_open(self._path_text(), error)

    def _damaged(self, text: str) -> CorruptDataError:
        return CorruptDataError(
            f"{self._path_text()} is damaged: {text}; put a backup in its place, or delete the "
            f"directory where the rows can be had again, as a store's from its changelog"
        )
