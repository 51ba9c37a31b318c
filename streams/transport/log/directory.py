"""The directory of an embedded log: what lies in it, who owns it, who shares it.

    <data_dir>/.lock    locked by the process that owns the log; says its id
    <data_dir>/rows/    the rows, in RocksDB

Owns that layout, the lock, and the logs this process has open: all transports on one
directory share one `LocalLog`, which is closed with the last of them. It must not know what
a log's rows mean.

Source: design 4.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import IO, Final

from stores.backends.rocks import RocksBudget, RocksByteStore
from streams.errors import ConfigError, StoreLockedError
from streams.transport.log.engine import LocalLog

LOCK_FILE: Final = ".lock"
ROWS_DIRECTORY: Final = "rows"

_NO_ONES: Final = ("lost+found",)
"""What may lie in a directory that is as good as empty."""

BLOCK_CACHE_BYTES: Final = 8 * 1024 * 1024
"""Records are read once, in order: a cache only spares the index."""

WRITE_BUFFER_BYTES: Final = 64 * 1024 * 1024


class _OpenLog:
    """A log this process has open, with its lock and how many transports use it."""

    def __init__(self, log: LocalLog, lock: IO[str]) -> None:
        self.log = log
        self.lock = lock
        self.process_id = os.getpid()
        self.user_count = 0


_open_logs: dict[Path, _OpenLog] = {}
_open_logs_lock = threading.Lock()


def open_log(data_dir: str | Path) -> LocalLog:
    """Opens a log, or shares it where this process has it open; any thread may call this.

    Returns:
        The log; give it back with `close_log`.

    Raises:
        StoreLockedError: another process owns it; says which and what to do.
        ConfigError: the directory cannot be used, or holds something else.
        BackendError: the rows cannot be opened, or the log failed and is still in use.
        CorruptDataError: the rows are damaged.
    """
    path = Path(data_dir).expanduser().resolve()
    with _open_logs_lock:
        found = _open_logs.get(path)
        if found is None:
            found = _open(path)
            _open_logs[path] = found
        elif found.process_id != os.getpid():
            # A forked child has its parent's memory but must not write to its files.
            raise _locked_error(path, str(found.process_id))
        else:
            found.log.check_usable()
        found.user_count += 1
        return found.log


def close_log(log: LocalLog) -> None:
    """Gives a log back; the last one to do so closes it."""
    with _open_logs_lock:
        path = next(path for path, found in _open_logs.items() if found.log is log)
        found = _open_logs[path]
        found.user_count -= 1
        if found.user_count:
            return
        del _open_logs[path]
        try:
            log.close()
        finally:
            found.lock.close()


def _open(path: Path) -> _OpenLog:
    _check_directory(path)
    lock = _locked(path)
    try:
        budget = RocksBudget(BLOCK_CACHE_BYTES, WRITE_BUFFER_BYTES)
        store = RocksByteStore("log", path / ROWS_DIRECTORY, budget)
        try:
            return _OpenLog(LocalLog(store, place=str(path)), lock)
        except BaseException:
            store.close()
            raise
    except BaseException:
        lock.close()
        raise


def _check_directory(path: Path) -> None:
    """Makes the directory, and refuses one that belongs to somebody else.

    Raises:
        ConfigError: it cannot be made or listed, or holds something else.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        message = (
            f"data_dir {path} cannot be used: {error.strerror}; name a directory that can be "
            "written to"
        )
        raise ConfigError(message) from error
    if names & {LOCK_FILE, ROWS_DIRECTORY}:
        return
    others = sorted(name for name in names if not name.startswith(".") and name not in _NO_ONES)
    if others:
        message = (
            f"data_dir {path} is no log: it holds {others[0]!r} and no {ROWS_DIRECTORY!r}; "
            "name a directory of its own for the log, it is made where it is missing"
        )
        raise ConfigError(message)


def _locked(path: Path) -> IO[str]:
    """Takes the directory's lock; closing the file gives it back, and so does dying."""
    try:
        file = (path / LOCK_FILE).open("a+", encoding="ascii")
    except OSError as error:
        message = (
            f"data_dir {path} cannot be written to: {error.strerror}; mend its permissions or "
            "name another"
        )
        raise ConfigError(message) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise _locked_error(path, holder) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _locked_error(path: Path, holder: str) -> StoreLockedError:
    message = (
        f"the log in {path} is in use by process {holder or 'unknown'}: one process owns a log "
        "at a time; stop that one, or choose another data_dir"
    )
    return StoreLockedError(message)
