"""A byte store in RocksDB, by way of rocksdict in raw mode.

Owns reads and writes through rocksdict, the workarounds for its traps, and what its errors mean. It
must not know what its bytes mean, nor where its directory is. Options are in `bytes.rocks_budget`.

Traps of rocksdict 0.3 that this module works around; each was observed:

* An existing database is opened with the options with which it was created, and with its own block
  cache, unless the options are also given for its column family.
* The upper bound in the read options is a pointer into the bytes object that was passed, and
  nothing keeps that object alive. Setting the lower bound sets the upper one.
* `items()` treats a damaged block as the end. Only `RdictIter` has a status that can be checked.
* An iterator keeps the database open, and so its lock held, after `close`.
* Iterators of a `Snapshot` show rows that were written after it was taken; only its `get` does not.
  So a view is one iterator, which is moved to each key and range that is read.
* Writing with the `sync` option holds the GIL while the disk works; `flush_wal` does not.

Source: storage-tiers D2; JVM `RocksDBStore` for what the options are set to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final
from weakref import WeakSet

import msgspec
from rocksdict import (
    DbClosedError,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    Change,
    RangeDeletion,
    Row,
    Sync,
    first_chunk,
    first_key_after,
    settle,
)
from thalweg.stores.bytes.rocks_budget import (
    WRITE_BUFFER_MIN_BYTES,
    RocksBudget,
    process_budget,
)
from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    StorageError,
    StoreClosedError,
    StoreError,
    StoreLockedError,
)
from thalweg.stores.files import make_directory

UNLOGGED_MIN_COUNT: Final = 1_000
"""Restored changes since the last durable flush, of all batches, from which on RocksDB's log is
left out."""

_UNLOGGED: Final = WriteOptions()
setattr(_UNLOGGED, "disable_wal", True)  # noqa: B010 - a property; its stub says method

_FIRST_CHUNK_COUNT: Final = 8
"""Rows a scan reads when it is opened: what most scans of windows and prefixes need."""

_CHUNK_COUNT_MAX: Final = 512
"""Rows a scan reads at a time in the end, after growing fourfold with each step."""

_RANGE_DELETIONS_MAX: Final = 200
"""Range deletions after which the write buffer is written to a file: RocksDB sorts all that a
buffer holds anew for the first read after each, 2 µs apiece."""

_NOTES: Final = "notes"
"""The column family of notes: its rows cannot be taken for those of a user."""

_NOTE_KEY: Final = b""
_PREPARED_KEY: Final = b"prepared"

_decode_prepared: Final = msgspec.msgpack.Decoder(
    tuple[bytes, list[tuple[bytes, bytes | None]]]
).decode

_key_of: Final[Callable[[Change], bytes]] = itemgetter(0)


class _Scan:
    """A cursor that `RocksByteStore.close` can take away from the scan that reads it.

    Args:
        cursor: stands on the next row.
        lower: where a falling scan ends, b"" for none.
        upper: kept alive for the cursor, which points into it.
        reverse: whether the scan falls.
    """

    __slots__ = ("__weakref__", "_cursor", "_lock", "_lower", "_reverse", "_upper", "is_done")

    def __init__(self, cursor: RdictIter, lower: bytes, upper: bytes | None, reverse: bool) -> None:
        self._cursor: RdictIter | None = cursor
        self._lower = lower
        self._upper = upper
        self._reverse = reverse
        self._lock = threading.Lock()
        self.is_done = False

    def read(self, limit: int) -> list[Row]:
        """Reads the next rows, up to `limit`.

        Raises:
            DbClosedError: the cursor was taken away.
            Exception: what RocksDB says of bytes that it could not read.
        """
        found: list[Row] = []
        with self._lock:
            cursor = self._cursor
            if cursor is None:
                raise DbClosedError
            value, step = cursor.value, cursor.prev if self._reverse else cursor.next
            for key in islice(iter(cursor.key, None), limit):
                found.append((key, value()))
                step()
            if self._reverse:
                while found and found[-1][0] < self._lower:
                    found.pop()
                    self.is_done = True
            if self.is_done or len(found) < limit:
                cursor.status()
                self.is_done = True
                self._cursor = None
        return found

    def release(self) -> None:
        """Lets go of the database."""
        with self._lock:
            self._cursor = None


class _RocksView(ByteView):
    """A view: one iterator, which shows the moment it was made at wherever it is put.

    Args:
        name: the store's name.
        cursor: the iterator, without bounds.
        failed: makes the store's error of one of rocksdict's.
    """

    def __init__(
        self, name: str, cursor: RdictIter, failed: Callable[[str, Exception], Exception]
    ) -> None:
        self._name = name
        self._cursor: RdictIter | None = cursor
        self._failed = failed
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """Returns the value a key had then, None where there was none."""
        rows = self._read(key, first_key_after(key), False, 1)
        return rows[0][1] if rows else None

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans the rows there were then."""
        self._read(b"", b"", False, 0)
        count = first_chunk(limit, _FIRST_CHUNK_COUNT)
        scan = self._scan(lower or b"", upper, reverse, count)
        return scan if limit is None else islice(scan, limit)

    def _scan(
        self, lower: bytes, upper: bytes | None, reverse: bool, count: int
    ) -> Generator[Row, None, None]:
        while True:
            found = self._read(lower, upper, reverse, count)
            yield from found
            if len(found) < count:
                return
            if reverse:
                upper = found[-1][0]
            else:
                lower = first_key_after(found[-1][0])
            count = min(4 * count, _CHUNK_COUNT_MAX)

    def _read(self, lower: bytes, upper: bytes | None, reverse: bool, count: int) -> list[Row]:
        """Returns the first rows of a range, fewer than `count` only where it ends."""
        found: list[Row] = []
        with self._lock:
            cursor = self._cursor
            if cursor is None:
                message = f"a view of store '{self._name}' is closed; open another one"
                raise StoreClosedError(message)
            try:
                if not reverse:
                    cursor.seek(lower)
                elif upper is None:
                    cursor.seek_to_last()
                else:
                    cursor.seek_for_prev(upper)
                    if cursor.key() == upper:
                        cursor.prev()
                key_of, value_of = cursor.key, cursor.value
                step = cursor.prev if reverse else cursor.next
                while len(found) < count:
                    key = key_of()
                    if key is None or key < lower or (upper is not None and key >= upper):
                        break
                    found.append((key, value_of()))
                    step()
                cursor.status()
            except Exception as error:
                raise self._failed("read a view", error) from error
        return found

    def release(self) -> None:
        """Lets go of the database."""
        with self._lock:
            self._cursor = None

    def close(self) -> None:
        """Lets go of the moment. Closing again does nothing."""
        self.release()


def _notes_options() -> Options:
    options = Options(raw_mode=True)
    options.set_write_buffer_size(WRITE_BUFFER_MIN_BYTES)
    return options


class RocksByteStore(ByteStore):
    """An ordered map in a directory of its own.

    What was written is in RocksDB's log, handed to the operating system, when a call returns:
    it survives the death of the process. `durable` waits for the disk. A log whose last
    entry is torn is read up to it; one that is damaged elsewhere is an error, not a loss.

    Args:
        name: the store's name.
        path: its directory; made, with its parents, where it is missing.
        budget: the memory it shares with others; None takes the process's own.

    Raises:
        StoreLockedError: it is open already, in another process or in this one.
        CorruptDataError: what is in the directory cannot be read.
        BackendError: the directory cannot be used.
    """

    def __init__(self, name: str, path: str | Path, budget: RocksBudget | None = None) -> None:
        self._name = name
        self._path = Path(path)
        self._budget = process_budget() if budget is None else budget
        self._is_open = True
        self._options = self._budget.options()
        self._scans: WeakSet[_Scan | _RocksView] = WeakSet()
        self._range_deletion_count = 0
        self._restored_count = 0
        self._notes: Rdict | None = None
        self._has_prepared = False
        try:
            make_directory(self._path)
            families = {"default": self._options}
            if (self._path / "CURRENT").exists() and _NOTES in Rdict.list_cf(str(path)):
                families[_NOTES] = _notes_options()
            self._main = Rdict(str(path), self._options, families)
            # Reads of the column family itself spare RocksDB a look-up by name.
            self._db = self._main.get_column_family("default")
            if _NOTES in families:
                self._notes = self._main.get_column_family(_NOTES)
                self._has_prepared = self._notes.get(_PREPARED_KEY) is not None
        except Exception as error:
            raise self._refused(error) from error
        self._budget.join(self._db)
        # The hottest read as a closure: calling a method costs it 15 % more.
        self.get = self._bind_get()  # type: ignore[method-assign, assignment]

    def _bind_get(self) -> Callable[[bytes], bytes | None]:
        read, failed = self._db.get, self._failed

        def get(key: bytes) -> bytes | None:
            try:
                return read(key)
            except Exception as error:
                raise failed("read a row", error) from error

        return get

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

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        return self._bind_get()(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key."""
        try:
            self._db.put(key, value)
        except Exception as error:
            raise self._failed("write a row", error) from error

    def delete(self, key: bytes) -> None:
        """Deletes a key; an absent one is no error."""
        try:
            self._db.delete(key)
        except Exception as error:
            raise self._failed("delete a row", error) from error

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        lower = lower or b""
        try:
            scan = _Scan(self._cursor(lower, upper, reverse), lower, upper, reverse)
            first = scan.read(first_chunk(limit, _FIRST_CHUNK_COUNT))
        except Exception as error:
            raise self._failed("scan rows", error) from error
        if not scan.is_done:
            self._scans.add(scan)
            if not self._is_open:
                # Closed by another thread just now, which may not have seen it.
                scan.release()
        rows = self._rows(first, scan)
        return rows if limit is None else islice(rows, limit)

    def _cursor(self, lower: bytes, upper: bytes | None, reverse: bool) -> RdictIter:
        options = ReadOptions()
        if upper is not None:
            # A bound below the start is beyond what RocksDB promises.
            upper = max(lower, upper)
            options.set_iterate_upper_bound(upper)
        cursor = self._db.iter(options)
        if not reverse:
            cursor.seek(lower)
        elif upper is None:
            cursor.seek_to_last()
        else:
            cursor.seek_for_prev(upper)
        return cursor

    def _rows(self, rows: list[Row], scan: _Scan) -> Generator[Row, None, None]:
        limit = _FIRST_CHUNK_COUNT
        yield from rows
        while not scan.is_done:
            limit = min(4 * limit, _CHUNK_COUNT_MAX)
            try:
                rows = scan.read(limit)
            except Exception as error:
                raise self._failed("scan rows", error) from error
            yield from rows
        if not self._is_open:
            raise self._closed()

    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        try:
            view = _RocksView(self._name, self._db.iter(ReadOptions()), self._failed)
        except Exception as error:
            raise self._failed("open a view", error) from error
        self._scans.add(view)
        if not self._is_open:
            view.release()
        return view

    def write_noted(
        self, changes: Iterable[AnyChange], note: bytes, *, sync: Sync = Sync.PROCESS
    ) -> None:
        """Applies changes, and keeps a note with them, all or none."""
        self._open_notes()
        ranges, rows = settle(changes)
        self._write(ranges, sorted(rows.items(), key=_key_of), logged=True, note=note)
        if sync is Sync.DISK:
            self.flush()

    def _open_notes(self) -> Rdict:
        if not self._is_open:
            raise self._closed()
        if self._notes is None:
            try:
                self._notes = self._main.create_column_family(_NOTES, _notes_options())
            except Exception as error:
                raise self._failed("keep a note", error) from error
        return self._notes

    def prepare(self, changes: Iterable[Change], note: bytes) -> bool:
        """Keeps changes aside until the next `write`."""
        notes = self._open_notes()
        try:
            notes.put(_PREPARED_KEY, msgspec.msgpack.encode((note, list(changes))))
        except Exception as error:
            raise self._failed("keep changes aside", error) from error
        self._has_prepared = True
        return True

    def prepared(self) -> tuple[bytes, list[Change]] | None:
        """Returns note and changes that were kept aside, None where there are none."""
        try:
            kept = None if self._notes is None else self._notes.get(_PREPARED_KEY)
        except Exception as error:
            raise self._failed("read changes kept aside", error) from error
        if kept is None:
            return None
        try:
            return _decode_prepared(kept)
        except msgspec.DecodeError as error:
            raise self._damaged(f"changes kept aside cannot be read: {error}") from error

    def note(self) -> bytes | None:
        """Returns the note that was kept with the last changes, None where there is none."""
        try:
            return None if self._notes is None else self._notes.get(_NOTE_KEY)
        except Exception as error:
            raise self._failed("read a note", error) from error

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins.

        With `Sync.NONE` they go past RocksDB's log, which costs as much as the writing. The
        first few since the last flush are logged all the same; if there are more, the next
        flush writes a table file.
        """
        if sync is Sync.NONE:
            changes = changes if isinstance(changes, list) else list(changes)
            if RangeDeletion not in set(map(type, changes)):
                self._write((), changes, logged=False)  # type: ignore[arg-type]  # rows only
                return
        ranges, rows = settle(changes)
        # In the order of keys RocksDB takes them up to eight times faster.
        ordered = sorted(rows.items(), key=_key_of)
        self._write(ranges, ordered, logged=sync is not Sync.NONE)
        if sync is Sync.DISK:
            self.flush()

    def _write(
        self,
        ranges: Sequence[RangeDeletion],
        changes: Iterable[Change],
        *,
        logged: bool,
        note: bytes | None = None,
    ) -> None:
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        try:
            for each in ranges:
                self._delete_range(batch, each)
            for key, value in changes:
                if value is None:
                    delete(key)
                else:
                    put(key, value)
        except Exception as error:
            raise self._failed("write a batch", error) from error
        settles = logged and self._has_prepared
        if settles:
            delete(_PREPARED_KEY, self._main.get_column_family_handle(_NOTES))
        if note is not None:
            put(_NOTE_KEY, note, self._main.get_column_family_handle(_NOTES))
        if not logged:
            self._restored_count += batch.len()
            logged = self._restored_count < UNLOGGED_MIN_COUNT
        try:
            self._db.write(batch, None if logged else _UNLOGGED)
            if settles:
                self._has_prepared = False
            if self._range_deletion_count >= _RANGE_DELETIONS_MAX:
                self._range_deletion_count = 0
                self._db.flush(wait=False)
        except Exception as error:
            raise self._failed("write a batch", error) from error

    def _delete_range(self, batch: WriteBatch, deleted: RangeDeletion) -> None:
        # From the first row there is: deletions that overlap, as those of windows that
        # expire again and again from the beginning would, cost the square of their number.
        first = self._cursor(deleted.lower, deleted.upper, reverse=False).key()
        if first is None:
            return
        upper = deleted.upper
        if upper is None:
            last = self._cursor(first, None, reverse=True).key()
            upper = first_key_after(first if last is None else last)
        batch.delete_range(first, upper)
        self._range_deletion_count += 1

    def approximate_count(self) -> int:
        """Estimates the number of rows: overwritten and deleted ones may still count."""
        try:
            return self._db.property_int_value("rocksdb.estimate-num-keys") or 0
        except Exception as error:
            raise self._failed("count rows", error) from error

    def flush(self) -> None:
        """Waits for the disk; other threads run meanwhile."""
        if not self._is_open:
            raise self._closed()
        try:
            if self._restored_count >= UNLOGGED_MIN_COUNT:
                self._db.flush(wait=True)
            self._restored_count = 0
            self._db.flush_wal(sync=True)
        except Exception as error:
            raise self._failed("wait for the disk", error) from error

    def close(self) -> None:
        """Releases the directory. Closing again does nothing. Open scans end with an error.

        Raises:
            BackendError: the last rows could not be written to the disk. What was written is
                with the operating system still, as after any write that was not durable; what
                was restored since the last durable flush may be lost.
        """
        if not self._is_open:
            return
        self._is_open = False
        self._budget.leave(self._db)
        for scan in list(self._scans):
            scan.release()
        self._notes = None
        try:
            self._db.close()
            self._main.close()
        except Exception as error:
            raise BackendError(f"{self._place()} could not be closed cleanly: {error}") from error

    # -- errors --------------------------------------------------------------------------

    def _place(self) -> str:
        return f"store '{self._name}' in {self._path}"

    def _closed(self) -> StoreClosedError:
        message = f"store '{self._name}' is closed; ask the application for it again"
        return StoreClosedError(message)

    def _failed(self, what: str, error: Exception) -> Exception:
        """Tells what an error of rocksdict means, most of which are bare exceptions."""
        # While it is being closed rocksdict speaks of borrowing rather than of closing.
        if not self._is_open or isinstance(error, DbClosedError):
            return self._closed()
        text = str(error)
        if isinstance(error, TypeError | ValueError | KeyError):
            return TypeError(f"{self._place()}: cannot {what}: keys and values are bytes: {text}")
        if text.startswith("Corruption"):
            return self._damaged(text)
        remedy = "; free space and start again" if "No space left" in text else ""
        return BackendError(f"{self._place()}: cannot {what}: {text}{remedy}")

    def _refused(self, error: Exception) -> StoreError | StorageError:
        """Tells why the database could not be opened."""
        text = str(error)
        if "LOCK: " in text:
            who = "this process" if "current process" in text else "another process"
            message = (
                f"{self._place()} is open already, in {who}; close it there, "
                f"or give this application a state_dir of its own"
            )
            return StoreLockedError(message)
        if text.startswith("Corruption") or "MANIFEST" in text:
            return self._damaged(text)
        message = (
            f"{self._place()} cannot be opened: {text}; "
            f"check that the directory is writable and the disk has space"
        )
        return BackendError(message)

    def _damaged(self, text: str) -> CorruptDataError:
        message = (
            f"{self._place()} is damaged: {text}; delete the directory, "
            f"the store is then restored from its changelog"
        )
        error = CorruptDataError(message)
        error.store = self._name
        return error
