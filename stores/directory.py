"""The state directory of an application, and the checkpoints in it.

    <state_dir>/<application id>/
        .lock                                locked by the process that owns the directory
        kafka-streams-process-metadata       the instance's id, as JSON
        <subtopology>_<partition>/           a task; `global` for the global stores
            .checkpoint                      how far the task's stores have come
            rocksdb/<store>/

Owns that layout, the lock, what may be deleted when, and the checkpoint file. It must not
know what a store keeps, nor when a task is made or closed.

A checkpoint says, for each changelog partition, the offset of the last record that the stores
beside it hold::

    0                                        version
    <number of entries>
    <topic> <partition> <offset>             one line each

Source: JVM `StateDirectory`, `StateDirectoryProcessFile`, `OffsetCheckpoint`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    StoreClosedError,
    StoreLockedError,
)
from thalweg.stores.files import delete_file, make_directory, replace_file

LOCK_FILE: Final = ".lock"
CHECKPOINT_FILE: Final = ".checkpoint"
PROCESS_FILE: Final = "kafka-streams-process-metadata"
GLOBAL_DIRECTORY: Final = "global"
STORES_DIRECTORY: Final = "rocksdb"

UNKNOWN_OFFSET: Final = -4
"""What the JVM writes where it does not know how far a store has come."""

_CHECKPOINT_VERSION: Final = 0

_task_id: Final = re.compile(r"\d+_\d+", re.ASCII)
_entry: Final = re.compile(rf"(\S+)\s+(\d+)\s+(\d+|{UNKNOWN_OFFSET})", re.ASCII)


class StateDirectory:
    """The directory of one application's local state, owned by this process while it is open.

    Made where it is missing. One thread uses it.

    Args:
        state_dir: the directory of all applications.
        application_id: names the sub-directory.

    Raises:
        StoreLockedError: another process owns it, or this one does already; names the owner.
        BackendError: it cannot be made or written to.
    """

    def __init__(self, state_dir: str | Path, application_id: str) -> None:
        if application_id in {"", ".."} or Path(application_id).name != application_id:
            message = f"application_id must be the name of a directory, got {application_id!r}"
            raise ValueError(message)
        self.path: Final = Path(state_dir).expanduser() / application_id
        with _usable(self.path):
            make_directory(self.path)
        self._lock: int | None = _locked(self.path)

    def __repr__(self) -> str:
        return f"StateDirectory({str(self.path)!r})"

    def process_id(self, new: Callable[[], UUID]) -> UUID:
        """Returns the instance's id, the same for as long as the directory is there.

        Args:
            new: makes an id, called where none is kept or none that can be read.

        Raises:
            BackendError: a new id cannot be written.
        """
        file = self._own() / PROCESS_FILE
        with _usable(file):
            try:
                return UUID(json.loads(file.read_text(encoding="utf-8"))["processId"])
            except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
                process_id = new()
                replace_file(file, json.dumps({"processId": str(process_id)}))
                return process_id

    # -- tasks ---------------------------------------------------------------------------

    def task_directory(self, task_id: str) -> Path:
        """Returns a task's directory, made where it is missing.

        Args:
            task_id: `<subtopology>_<partition>`, or `GLOBAL_DIRECTORY`.

        Raises:
            BackendError: it cannot be made, or is a file.
        """
        path = self._task_path(task_id)
        with _usable(path):
            make_directory(path)
        return path

    def task_ids(self) -> list[str]:
        """Returns the ids of tasks that have a directory, in order; not the global one."""
        with _usable(self._own()):
            found = [entry.name for entry in self.path.iterdir() if entry.is_dir()]
        ids = [name for name in found if _task_id.fullmatch(name)]
        return sorted(ids, key=lambda task_id: [int(part) for part in task_id.split("_")])

    def remove_task(self, task_id: str) -> None:
        """Deletes a task's directory, whose stores are closed; an absent one is no error.

        The checkpoint goes first: what is left by a process that dies meanwhile is not
        trusted by the next one.

        Raises:
            BackendError: it cannot be deleted.
        """
        path = self._task_path(task_id)
        with _usable(path):
            if path.is_dir():
                delete_checkpoint(path / CHECKPOINT_FILE)
                shutil.rmtree(path)

    def remove_stores(
        self, task_id: str, stores: Collection[str], kept: Mapping[tuple[str, int], int]
    ) -> None:
        """Deletes stores of a task, which are closed; the task's others stay.

        The checkpoint goes first, see `remove_task`.

        Args:
            task_id: the task.
            stores: the stores' names; one that has no files is no error.
            kept: what the checkpoint says from now on, as for `write_checkpoint`.

        Raises:
            BackendError: they cannot be deleted.
        """
        path = self._task_path(task_id)
        write_checkpoint(path / CHECKPOINT_FILE, kept)
        for store in stores:
            files = path / STORES_DIRECTORY / store
            with _usable(files):
                if files.is_dir():
                    shutil.rmtree(files)

    def touch_task(self, task_id: str) -> None:
        """Notes that a task was here until now, for `remove_obsolete`.

        Raises:
            BackendError: its directory cannot be changed.
        """
        path = self._task_path(task_id)
        with _usable(path), suppress(FileNotFoundError):
            os.utime(path)

    def clean_up(self) -> None:
        """Deletes the directories of all tasks and of the global stores.

        Raises:
            BackendError: one cannot be deleted.
        """
        for task_id in [*self.task_ids(), GLOBAL_DIRECTORY]:
            self.remove_task(task_id)

    def remove_obsolete(self, keep: Collection[str], now_ms: int, delay_ms: int) -> list[str]:
        """Deletes directories of tasks that have moved away for good.

        Args:
            keep: tasks that are here.
            now_ms: wall clock.
            delay_ms: how long ago, at least, a directory was modified last; every checkpoint
                modifies it, and the end of its task.

        Returns:
            The tasks whose directories were deleted.

        Raises:
            BackendError: one cannot be deleted.
        """
        removed = []
        for task_id in self.task_ids():
            if task_id in keep:
                continue
            path = self._task_path(task_id)
            with _usable(path):
                modified_ms = path.stat().st_mtime_ns // 1_000_000
            if now_ms - modified_ms >= delay_ms:
                self.remove_task(task_id)
                removed.append(task_id)
        return removed

    # -- the end -------------------------------------------------------------------------

    def close(self) -> None:
        """Gives the directory back; so does the death of the process. Again does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _own(self) -> Path:
        if self._lock is None:
            message = f"state directory {self.path} is closed: another process may own it"
            raise StoreClosedError(message)
        return self.path

    def _task_path(self, task_id: str) -> Path:
        if task_id != GLOBAL_DIRECTORY and not _task_id.fullmatch(task_id):
            message = f"a task id is <subtopology>_<partition>, got {task_id!r}"
            raise ValueError(message)
        return self._own() / task_id


def _locked(directory: Path) -> int:
    """Takes the lock and says by whom it is held; returns the descriptor that holds it.

    Locks of `flock` belong to the opened file, not to the process: this process cannot take
    one twice either, and closing another descriptor of the file does not give it back.
    """
    path = directory / LOCK_FILE
    with _usable(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _locked_error(directory, lock) from error
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BaseException:
            os.close(lock)
            raise
    return lock


def _locked_error(directory: Path, lock: int) -> StoreLockedError:
    process, _, host = os.pread(lock, 1_000, 0).decode(errors="replace").strip().partition(" ")
    owner = f"process {process} on {host}" if host else "another process"
    if (process, host) == (str(os.getpid()), socket.gethostname()):
        owner = f"this process ({process})"
    # The owner wrote its name when it took the lock.
    since = datetime.fromtimestamp(os.fstat(lock).st_mtime, tz=UTC)
    message = (
        f"state directory {directory} is in use by {owner} since {since:%Y-%m-%d %H:%M:%S} UTC; "
        f"stop that one, or give this application a state_dir of its own"
    )
    return StoreLockedError(message)


# -- checkpoints -----------------------------------------------------------------------------


def read_checkpoint(path: Path) -> dict[tuple[str, int], int]:
    """Reads a checkpoint file.

    Args:
        path: `<task directory>/.checkpoint`.

    Returns:
        (topic, partition) -> offset of the last record the stores hold. Empty if there is no
        file; entries of `UNKNOWN_OFFSET` are left out.

    Raises:
        CorruptDataError: it is not what `write_checkpoint` writes. The stores beside it must
            not be trusted then.
        BackendError: it cannot be read.
    """
    with _usable(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return {}
    try:
        offsets = _parsed(content.decode("utf-8").splitlines())
    except ValueError as error:
        message = f"checkpoint {path} is damaged: {error}; the task's stores must be rebuilt"
        raise CorruptDataError(message) from error
    return {entry: offset for entry, offset in offsets.items() if offset != UNKNOWN_OFFSET}


def _parsed(lines: list[str]) -> dict[tuple[str, int], int]:
    if len(lines) < 2:
        raise ValueError("it ends before its entries")
    version, count = int(lines[0]), int(lines[1])
    if version != _CHECKPOINT_VERSION:
        raise ValueError(f"its version is {version}, this program reads {_CHECKPOINT_VERSION}")
    offsets: dict[tuple[str, int], int] = {}
    for line in lines[2:]:
        entry = _entry.fullmatch(line)
        if entry is None:
            raise ValueError(f"no topic, partition and offset: {line!r}")
        topic, partition, offset = entry.groups()
        offsets[topic, int(partition)] = int(offset)
    if not len(offsets) == count == len(lines) - 2:
        raise ValueError(f"it says {count} entries and has {len(lines) - 2}")
    return offsets


def write_checkpoint(path: Path, offsets: Mapping[tuple[str, int], int]) -> None:
    """Replaces a checkpoint file; one without entries is deleted, as in the JVM.

    The new one is there whole, or the old one still is, whatever happens meanwhile. Only
    after the stores were made durable up to these offsets, else they may be behind it.

    Args:
        path: `<task directory>/.checkpoint`.
        offsets: (topic, partition) -> offset of the last record the stores hold.

    Raises:
        BackendError: it cannot be written, for example because the disk is full.
    """
    if not offsets:
        delete_checkpoint(path)
        return
    entries = [
        f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items())
    ]
    lines = [str(_CHECKPOINT_VERSION), str(len(entries)), *entries]
    with _usable(path):
        replace_file(path, "".join(f"{line}\n" for line in lines))


def delete_checkpoint(path: Path) -> None:
    """Deletes a checkpoint file for good; an absent one is no error.

    Raises:
        BackendError: it cannot be deleted.
    """
    with _usable(path):
        delete_file(path)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Tells what an error of the operating system means for whoever set `state_dir`."""
    try:
        yield
    except OSError as error:
        at = error.filename or path
        message = f"{at} cannot be used: {error.strerror}; {_remedy(error)}"
        raise BackendError(message) from error


def _remedy(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "there is a file where a directory should be: move it, or set another state_dir"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return "make it writable, or set another state_dir"
    return "see that its disk has space and works"
