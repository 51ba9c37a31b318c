"""The directory of an embedded log: its files, its owner, and its sharing.

    <data_dir>/.lock    locked by the process that owns the log; says its id
    <data_dir>/.owner/  where that process answers others, see `owner_server`
    <data_dir>/rows/    the rows, in RocksDB

Owns that layout, the lock, and the logs this process has open: all transports on one
directory share one `LocalLog`, which is closed with the last of them. It must not know what
a log's rows mean, nor what others ask of the owner.

Source: design 4.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import msgspec

from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.bytes.rocks_budget import RocksBudget
from thalweg.streams.errors import ConfigError, StoreLockedError
from thalweg.streams.notices import NOTICES
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.log.owner_server import (
    ABOUT_FILE,
    OWNER_DIRECTORY,
    OwnerServer,
    Pages,
)
from thalweg.streams.transport.log.owner_wire import About

LOCK_FILE: Final = ".lock"
ROWS_DIRECTORY: Final = "rows"

_NO_ONES: Final = ("lost+found",)
"""What may lie in a directory that is as good as empty."""

BLOCK_CACHE_BYTES: Final = 8 * 1024 * 1024
"""Records are read once, in order: a cache only spares the index."""

WRITE_BUFFER_BYTES: Final = 64 * 1024 * 1024


class _OpenLog:
    """A log this process has open, with its lock and how many transports use it."""

    def __init__(self, log: LocalLog, lock: IO[str], path: Path) -> None:
        self.log = log
        self.lock = lock
        self.server = OwnerServer(log, path)
        self.process_id = os.getpid()
        self.user_count = 0


_open_logs: dict[Path, _OpenLog] = {}
# Taken again by who tells who owns a log that cannot be opened.
_open_logs_lock = threading.RLock()


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
            raise locked_error(path, str(found.process_id))
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
            found.server.close()
            log.close()
        finally:
            found.lock.close()


def mount(log: LocalLog, application_id: str, pages: Callable[[], Pages]) -> None:
    """Lets other processes ask an application that runs on an open log.

    Args:
        log: the log.
        application_id: the application's id.
        pages: makes what answers, when it is asked for the first time.
    """
    _server_of(log).mount(application_id, pages)


def unmount(log: LocalLog, application_id: str) -> None:
    """Takes back what `mount` did."""
    _server_of(log).unmount(application_id)


def _server_of(log: LocalLog) -> OwnerServer:
    with _open_logs_lock:
        return next(found.server for found in _open_logs.values() if found.log is log)


def owner_of(data_dir: str | Path) -> About | None:
    """Returns who owns a log, as another process of it; None where nobody can be told of.

    An owner that is about to open the log, or to close it, cannot be told of. One that was killed
    is told of until there is another: it does not answer.
    """
    path = Path(data_dir).expanduser().resolve()
    with _open_logs_lock:
        found = _open_logs.get(path)
        if found is not None and found.process_id == os.getpid():
            # To open the lock's file here, and to close it, would give the lock back.
            return found.server.about
    try:
        about = msgspec.json.decode((path / OWNER_DIRECTORY / ABOUT_FILE).read_bytes(), type=About)
        holder = (path / LOCK_FILE).read_text(encoding="ascii", errors="replace").strip()
    except (OSError, msgspec.MsgspecError):
        return None
    # It may be another's, who was killed.
    return about if holder == str(about.process_id) else None


def _open(path: Path) -> _OpenLog:
    is_new = _check_directory(path)
    lock = _locked(path)
    if is_new:
        # In another directory than one thinks, everything seems to be lost.
        NOTICES.info("a new, empty log is made in %s", path)
    try:
        budget = RocksBudget(BLOCK_CACHE_BYTES, WRITE_BUFFER_BYTES)
        store = RocksByteStore("log", path / ROWS_DIRECTORY, budget)
        try:
            return _OpenLog(LocalLog(store, place=str(path)), lock, path)
        except BaseException:
            store.close()
            raise
    except BaseException:
        lock.close()
        raise


def _check_directory(path: Path) -> bool:
    """Makes the directory, and refuses one that belongs to somebody else; tells if it is new.

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
        return False
    others = sorted(name for name in names if not name.startswith(".") and name not in _NO_ONES)
    if others:
        message = (
            f"data_dir {path} is no log: it holds {others[0]!r} and no {ROWS_DIRECTORY!r}; "
            "name a directory of its own for the log, it is made where it is missing"
        )
        raise ConfigError(message)
    return True


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
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise locked_error(path, holder) from error
        message = (
            f"data_dir {path} cannot be locked: {error.strerror}; name a directory on a local disk"
        )
        raise ConfigError(message) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def locked_error(path: Path, holder: str, trouble: str = "") -> StoreLockedError:
    """Returns the refusal of a log that another process owns: who that is, and what to do.

    Args:
        path: the log's directory.
        holder: the id of the process, "" if it is not known.
        trouble: why the log cannot be used through its owner, where that was tried.
    """
    about = owner_of(path)
    runs = ""
    if about is not None and about.applications:
        named = ", ".join(map(repr, about.applications))
        runs = f", and that one runs application {named}"
    elif about is not None:
        runs = ", and that one runs no application: it is a command or a script"
    message = (
        f"the log in {path} is in use by process {holder or 'unknown'}: one process owns a log "
        f"at a time{runs}; "
    )
    if trouble:
        message += f"it cannot be used through its owner: {trouble}; "
    message += f"stop that one{f' (kill {holder})' if holder else ''}, or choose another data_dir"
    if about is not None and about.socket and not trouble:
        message += (
            "; thalweg produce, consume, topics, query and status work meanwhile, through its owner"
        )
    return StoreLockedError(message)
