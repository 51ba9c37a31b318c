"""A byte store of plain files: one file a row.

Owns the names of the files, the order in which they are written, renamed and synced, and the
journal that makes a batch of them one change. It must not know what its bytes mean.

    <path>/<key>.bin     the value, as it is
    <path>/%%<hash>.bin  a row whose key is too long for a file's name: length of the key (four
                         bytes, big-endian), key, value; the hash is BLAKE2b of the key
    <path>/%.bin         the row of the empty key
    <path>/.lock         locked by the process that owns the directory
    <path>/.new-<n>      a value that is not in place yet
    <path>/.journal      a batch that is being put in place

In names, letters, digits, `_` and `-` stand for themselves, every other byte is `%` and two
hexadecimal digits.

A batch is written in two steps. First, every new value is written to a file `.new-<n>`, and the
journal lists where these files go and which rows are deleted. When the journal is renamed to its
final name, the batch is committed. Second, files are renamed and deleted. If the process dies, the
next opening finishes the second step. Any tool can read the value of a row: this store is made for
that, not for speed.

Source: storage-tiers T6.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final
from weakref import WeakSet

import msgspec
from sortedcontainers import SortedList

from thalweg.stores.bytes.contract import AnyChange, ByteStore, ByteView, Row, Sync, settle
from thalweg.stores.bytes.moment import Moment, MomentView
from thalweg.stores.bytes.owner import cannot_open, disown, own_directory
from thalweg.stores.errors import BackendError, CorruptDataError, StoreClosedError
from thalweg.stores.files import sync_directory

_SUFFIX: Final = ".bin"
_NAME_BYTES_MAX: Final = 255 - len(_SUFFIX)
"""File systems take names of 255 bytes at the most."""

_LONG: Final = "%%"
_EMPTY: Final = "%"
_JOURNAL: Final = ".journal"
_NEW: Final = ".new-"

_STAY: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_CODES: Final = [chr(byte) if byte in _STAY else f"%{byte:02x}" for byte in range(256)]
_ESCAPED: Final = re.compile(r"%([0-9a-f]{2})")


class _Journal(msgspec.Struct, array_like=True):
    """A batch that is made: files to be renamed, names to be deleted."""

    renamed: list[tuple[str, str]]
    deleted: list[str]


def file_name(key: bytes) -> str:
    """Returns the name of the file in which a row stands."""
    if not key:
        return _EMPTY + _SUFFIX
    name = "".join([_CODES[byte] for byte in key])
    if len(name) > _NAME_BYTES_MAX:
        name = _LONG + blake2b(key, digest_size=32).hexdigest()
    return name + _SUFFIX


def _key_in(name: str) -> bytes | None:
    """Returns the key that a name (without the suffix) tells, None if it tells none."""
    if name == _EMPTY:
        return b""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None


class _Files:
    """The files of a directory as rows. All calls are made under the store's lock."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.is_open = True
        self.keys: SortedList[bytes] = SortedList()
        # Files whose name does not follow from their key: hidden ones that were found.
        self.hidden: dict[bytes, str] = {}

    def check_open(self) -> None:
        if not self.is_open:
            message = f"store '{self.name}' is closed; ask the application for it again"
            raise StoreClosedError(message)

    def file(self, key: bytes) -> str:
        """Returns the name of a row's file."""
        return self.hidden.get(key) or file_name(key)

    def get(self, key: bytes) -> bytes | None:
        if key not in self.keys:
            return None
        file = self.file(key)
        try:
            with open(f"{self.path}/{file}", "rb") as opened:  # noqa: PTH123 - hot, twice as fast
                content = opened.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"store '{self.name}' in {self.path}: cannot read a row: {error}"
            raise BackendError(message) from error
        return self.split(file, content)[1] if file.startswith(_LONG) else content

    def split(self, file: str, content: bytes) -> tuple[bytes, bytes]:
        """Takes the file of a long key apart."""
        end = 4 + int.from_bytes(content[:4], "big")
        key = content[4:end]
        if len(content) < end or file != file_name(key):
            message = (
                f"store '{self.name}' in {self.path}: file {file} is damaged: its key does not "
                f"fit its name; delete the file, its row is lost"
            )
            raise CorruptDataError(message)
        return key, content[end:]


class FilesByteStore(ByteStore):
    """An ordered map in a directory, one file a row.

    For few rows that people want to see, copy and edit by other means: a row costs a file, and
    a scan opens each. What was written survives the death of the process; a loss of power only
    with `Sync.DISK`, after a `flush`, or if the store is `durable`. Without that, a loss of
    power may leave a part of the last writes, or empty files.

    Values are not checked: a byte that the disk flipped is handed to whoever reads the row. On
    a file system that does not tell capital letters from small ones, keys that differ in
    nothing else are one row.

    Args:
        name: the store's name; None for `file:` and the directory.
        path: its directory; made, with its parents, where it is missing.
        durable: every write waits for the disk.
        include_hidden: rows whose file's name begins with a dot are shown too.

    Raises:
        StoreLockedError: it is open already, in another process or in this one.
        CorruptDataError: a batch that was being made when the process died cannot be read.
        BackendError: the directory cannot be used.
    """

    def __init__(
        self,
        name: str | None,
        path: str | Path,
        *,
        durable: bool = False,
        include_hidden: bool = False,
    ) -> None:
        self._path = Path(path)
        self._durable = durable
        self._files = _Files(f"file:{path}" if name is None else name, self._path)
        self._lock = threading.RLock()
        self._moments: WeakSet[Moment] = WeakSet()
        # Files written since the last flush, by name; what was deleted needs no sync of its own.
        self._unsynced: set[str] = set()
        self._is_directory_unsynced = False
        # A batch that is made but not in place yet, and whether it waits for the disk.
        self._unfinished: tuple[_Journal, bool] | None = None
        self._new_count = 0
        self._owned = own_directory(self.name, self._path)
        try:
            self._recover()
            self._files.keys.update(self._found_keys(include_hidden))
            self._keys = self._files.keys
        except OSError as error:
            disown(self._owned)
            raise cannot_open(self._place(), error) from error
        except BaseException:
            disown(self._owned)
            raise

    @property
    def name(self) -> str:
        """The store's name, for messages."""
        return self._files.name

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
        return self._files.is_open

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        with self._lock:
            self._ready()
            return self._files.get(key)

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        return self._rows(self.view().range(lower, upper, reverse=reverse, limit=limit))

    def _rows(self, rows: Iterator[Row]) -> Generator[Row, None, None]:
        yield from rows
        self._files.check_open()

    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        with self._lock:
            self._ready()
            moment = Moment(self._keys, self._files)
            self._moments.add(moment)
        return MomentView(self._lock, moment)

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins.

        One row is one file that gets its name when it is whole. Several go by the journal.
        """
        ranges, rows = settle(changes)
        with self._lock:
            self._ready()
            self._check_types(rows)
            deleted = dict.fromkeys(
                key
                for each in ranges
                for key in self._keys.irange(each.lower, each.upper, inclusive=(True, False))
            )
            # What is not there needs no deletion.
            batch = {
                key: value
                for key, value in {**deleted, **rows}.items()
                if value is not None or key in self._keys
            }
            durable = self._durable or sync is Sync.DISK
            try:
                self._write(batch, durable)
                if durable:
                    self._sync()
            except OSError as error:
                raise self._failed("write rows", error) from error

    def _write(self, batch: dict[bytes, bytes | None], durable: bool) -> None:
        if not batch:
            return
        for moment in self._moments:
            moment.save(batch)
        journal = _Journal([], [self._files.file(k) for k, value in batch.items() if value is None])
        try:
            for key, value in batch.items():
                if value is not None:
                    new = self._new_file(key, value, durable)
                    journal.renamed.append((new, self._files.file(key)))
            if len(batch) == 1:
                self._put_in_place(journal)
            else:
                self._write_journal(journal, durable)
        except BaseException:
            for name, _ in journal.renamed:
                with suppress(OSError):
                    os.unlink(f"{self._path}/{name}")  # noqa: PTH108
            raise
        # Several changes are made from here on, whatever happens; what is left is tried again.
        if len(batch) > 1:
            self._unfinished = journal, durable
        for key, value in batch.items():
            if value is None:
                self._keys.remove(key)
                self._files.hidden.pop(key, None)
            elif key not in self._keys:
                self._keys.add(key)
        if not durable:
            self._unsynced.update(name for _, name in journal.renamed)
        self._is_directory_unsynced = True
        self._finish()

    def _new_file(self, key: bytes, value: bytes, durable: bool) -> str:
        """Writes a row to a file that is not in place yet; returns its name."""
        name = f"{_NEW}{self._new_count}"
        self._new_count += 1
        parts = [value]
        if file_name(key).startswith(_LONG):
            parts = [len(key).to_bytes(4, "big"), key, value]
        self._write_file(name, b"".join(parts), durable)
        return name

    def _write_file(self, name: str, content: bytes, durable: bool) -> None:
        path = f"{self._path}/{name}"
        try:
            with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - half the time of a Path
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
                if durable:
                    os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108
            raise

    def _write_journal(self, journal: _Journal, durable: bool) -> None:
        content = msgspec.msgpack.encode(journal)
        temporary = f"{_NEW}journal"
        checked = zlib.crc32(content).to_bytes(4, "big") + content
        self._write_file(temporary, checked, durable)
        os.replace(f"{self._path}/{temporary}", f"{self._path}/{_JOURNAL}")  # noqa: PTH105
        if durable:
            sync_directory(self._path)

    def _put_in_place(self, journal: _Journal) -> None:
        """Renames and deletes; what is done already is no error."""
        for source, target in journal.renamed:
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}/{source}", f"{self._path}/{target}")  # noqa: PTH105
        for name in journal.deleted:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}/{name}")  # noqa: PTH108

    def _finish(self) -> None:
        """Puts a batch in place that is made."""
        if self._unfinished is not None:
            journal, durable = self._unfinished
            self._put_in_place(journal)
            if durable:
                # Not before the names are on the disk may the journal go.
                sync_directory(self._path)
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}/{_JOURNAL}")  # noqa: PTH108
            self._unfinished = None

    def _sync(self) -> None:
        """Waits until all that was written is on the disk."""
        for name in self._unsynced:
            with suppress(FileNotFoundError):
                descriptor = os.open(f"{self._path}/{name}", os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._unsynced.clear()
        if self._is_directory_unsynced:
            sync_directory(self._path)
            self._is_directory_unsynced = False

    def _ready(self) -> None:
        """Refuses when closed; brings a batch to its end that could not be put in place."""
        self._files.check_open()
        if self._unfinished is not None:
            try:
                self._finish()
            except OSError as error:
                raise self._failed("put the last batch in place", error) from error

    # -- opening -------------------------------------------------------------------------

    def _recover(self) -> None:
        """Finishes the batch that was being put in place; deletes one that was not made."""
        try:
            content = (self._path / _JOURNAL).read_bytes()
        except FileNotFoundError:
            content = b""
        # An empty one was lost with the power, and with it a batch that did not wait for the disk.
        if content:
            try:
                if zlib.crc32(content[4:]) != int.from_bytes(content[:4], "big"):
                    raise ValueError("its checksum does not fit")
                journal = msgspec.msgpack.decode(content[4:], type=_Journal)
            except ValueError as error:
                message = (
                    f"{self._place()}: the journal {_JOURNAL} is damaged: {error}; delete it to "
                    f"take the rows as they are: a part of the last batch may be missing"
                )
                raise CorruptDataError(message) from error
            self._put_in_place(journal)
            sync_directory(self._path)
        with suppress(FileNotFoundError):
            (self._path / _JOURNAL).unlink()
        for name in os.listdir(self._path):  # noqa: PTH208
            if name.startswith(_NEW):
                (self._path / name).unlink()

    def _found_keys(self, include_hidden: bool) -> Iterator[bytes]:
        for file in os.listdir(self._path):  # noqa: PTH208
            name = file.removesuffix(_SUFFIX)
            is_hidden = file.startswith(".")
            if name == file or (is_hidden and not include_hidden):
                continue
            if name.startswith(_LONG):
                yield self._files.split(file, (self._path / file).read_bytes())[0]
                continue
            key = _key_in(name)
            if key is not None and file_name(key) == file:
                yield key
            elif key is not None and is_hidden:
                self._files.hidden[key] = file
                yield key

    # -- the rest ------------------------------------------------------------------------

    def approximate_count(self) -> int:
        """Counts the rows."""
        with self._lock:
            self._ready()
            return len(self._keys)

    def flush(self) -> None:
        """Waits for the disk, file by file."""
        with self._lock:
            self._ready()
            try:
                self._sync()
            except OSError as error:
                raise self._failed("wait for the disk", error) from error

    def close(self) -> None:
        """Releases the directory. Closing again does nothing. Open scans end with an error."""
        with self._lock:
            if self._files.is_open:
                self._files.is_open = False
                disown(self._owned)

    def _check_types(self, batch: dict[bytes, bytes | None]) -> None:
        for key, value in batch.items():
            if not (isinstance(key, bytes) and (value is None or isinstance(value, bytes))):
                raise TypeError(f"{self._place()}: cannot write a row: keys and values are bytes")

    def _place(self) -> str:
        return f"store '{self.name}' in {self._path}"

    def _failed(self, what: str, error: OSError) -> BackendError:
        return BackendError(
            f"{self._place()}: cannot {what}: {error}; check the disk, then try again"
        )
