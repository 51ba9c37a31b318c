"""Writing files and directories so that they survive a loss of power.

Owns the order of writing, syncing and renaming. It must not know what the files contain.

A new file name is durable only after its directory was synced. A renamed file may be empty after a
loss of power if its bytes were not synced before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_directory(path: Path) -> None:
    """Makes a directory with its missing parents; one that is there stays as it is.

    Raises:
        OSError: it cannot be made, or is no directory.
    """
    missing = [path, *path.parents]
    del missing[next((at for at, one in enumerate(missing) if one.exists()), len(missing)) :]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_directory(made.parent)


def replace_file(path: Path, text: str) -> None:
    """Writes a file so that at any moment the old one or the new one is there, whole.

    Raises:
        OSError: it cannot be written; the old one is there then.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def delete_file(path: Path) -> None:
    """Deletes a file so that it stays deleted; an absent one is no error.

    Raises:
        OSError: it cannot be deleted.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Waits until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
