"""A byte store in RocksDB, by way of rocksdict in raw mode. The only door to rocksdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from stores.backends.contract import ByteStore, Change, Row
from stores.errors import BackendError, StoreClosedError, StoreLockedError


class RocksBudget:
    """What all RocksDB stores that share it may keep in memory.

    Args:
        block_cache_bytes: for blocks read from disk.
        write_buffer_bytes: for rows not written to disk yet.
    """

    def __init__(self, block_cache_bytes: int, write_buffer_bytes: int) -> None:
        self.block_cache_bytes = block_cache_bytes
        self.write_buffer_bytes = write_buffer_bytes


class RocksByteStore(ByteStore):
    """An ordered map in a directory of its own.

    Args:
        name: the store's name.
        path: its directory; made with its parents where it is missing.
        budget: the memory it shares with others; None takes the process's own.

    Raises:
        StoreLockedError: the directory is open elsewhere.
        BackendError: it cannot be opened.
    """

    def __init__(self, name: str, path: str | Path, budget: RocksBudget | None = None) -> None:
        self._name = name
        self._path = Path(path)
        self._is_open = True
        self._path.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(path), Options(raw_mode=True))
        except Exception as error:
            if "lock" in str(error):
                message = f"store '{name}' at {path} is open elsewhere: {error}"
                raise StoreLockedError(message) from error
            raise BackendError(f"store '{name}' at {path}: {error}") from error
        self._durable = WriteOptions()
        self._durable.sync = True

    @property
    def name(self) -> str:
        """The store's name, for messages."""
        return self._name

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
        self._check_open()
        value: bytes | None = self._db.get(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key."""
        self._check_open()
        self._db.put(key, value)

    def delete(self, key: bytes) -> None:
        """Deletes a key; an absent one is no error."""
        self._check_open()
        self._db.delete(key)

    def range(
        self, lower: bytes | None = None, upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`."""
        self._check_open()
        options = ReadOptions()
        if upper is not None:
            options.set_iterate_upper_bound(upper)
        start = upper if reverse else (lower or b"")
        items: Any = self._db.items(backwards=reverse, from_key=start, read_opt=options)
        return _until(items, lower) if reverse and lower else iter(items)

    def write_batch(self, changes: Iterable[Change], *, durable: bool = False) -> None:
        """Applies changes in order, all or none."""
        self._check_open()
        batch = WriteBatch(raw_mode=True)
        for key, value in sorted(dict(changes).items()):
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if durable:
            self._db.write(batch, self._durable)
        else:
            self._db.write(batch)

    def delete_range(self, lower: bytes, upper: bytes) -> None:
        """Deletes [lower, upper), atomically."""
        self._check_open()
        if lower < upper:
            self._db.delete_range(lower, upper)

    def approximate_count(self) -> int:
        """Estimates the number of rows."""
        self._check_open()
        return self._db.property_int_value("rocksdb.estimate-num-keys") or 0

    def flush(self, *, durable: bool = False) -> None:
        """Waits for the disk with `durable`."""
        self._check_open()
        if durable:
            self._db.flush_wal(True)

    def close(self) -> None:
        """Releases the directory. Closing again does nothing."""
        if self._is_open:
            self._is_open = False
            self._db.close()

    def _check_open(self) -> None:
        if not self._is_open:
            message = f"store '{self._name}' is closed; ask the application for it again"
            raise StoreClosedError(message)


def _until(items: Iterable[Row], lower: bytes) -> Iterator[Row]:
    for row in items:
        if row[0] < lower:
            return
        yield row
