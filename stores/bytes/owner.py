"""One owner of a directory at a time.

Owns the lock file of byte stores that have no lock of their own against a second process. It
must not know what is in the directory.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from thalweg.stores.errors import BackendError, StoreLockedError
from thalweg.stores.files import make_directory

LOCK_FILE: Final = ".lock"


def own_directory(name: str, path: Path) -> int:
    """Makes a directory where it is missing, and takes it for this byte store.

    Locks of `flock` belong to the opened file, not to the process: this process cannot take
    one twice either, and the system lets go of it when the process dies.

    Returns:
        The descriptor that holds the lock, for `disown`.

    Raises:
        StoreLockedError: it is open already, in another process or in this one.
        BackendError: the directory cannot be used.
    """
    place = f"store '{name}' in {path}"
    try:
        make_directory(path)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise cannot_open(place, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        owner = os.pread(lock, 100, 0).decode(errors="replace").strip()
        os.close(lock)
        who = "this process" if owner == str(os.getpid()) else f"another process ({owner})"
        message = f"{place} is open already, in {who}; close it there, or use another directory"
        raise StoreLockedError(message) from error
    except OSError as error:
        os.close(lock)
        raise cannot_open(place, error) from error
    return lock


def disown(lock: int) -> None:
    """Lets go of a directory."""
    os.close(lock)


def cannot_open(place: str, error: Exception) -> BackendError:
    """Makes the error of a directory that cannot be used."""
    return BackendError(
        f"{place} cannot be opened: {error}; "
        f"check that the directory is writable and the disk has space"
    )
