"""The byte stores that an application's stores can use: the built-in ones, and the user's.

Owns the names of the byte stores, whether each is persistent, and how each is opened in a store's
directory. A directory that another byte store has written is not opened, because it would look
empty or damaged. This module must not know kinds of stores, nor who chooses the byte store.

Source: JVM `DslStoreSuppliers`, `BuiltInDslStoreSuppliers` (KIP-591, KIP-954).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.callables import arity, shown
from thalweg.stores.errors import BackendError, CorruptDataError
from thalweg.stores.files import make_directory

BackendName: TypeAlias = Literal["rocks", "memory", "sqlite", "lmdb", "files"]

BACKENDS: Final[tuple[BackendName, ...]] = get_args(BackendName)
"""The byte stores by name: RocksDB, the process's memory, SQLite, LMDB, one file a row."""

_CLASSES: Final[dict[str, str]] = {
    "rocks": "rocks:RocksByteStore",
    "sqlite": "sqlite:SqliteByteStore",
    "lmdb": "lmdb:LmdbByteStore",
    "files": "files:FilesByteStore",
}
"""Loaded when one is opened: a library that is not used need not be there."""

_MARKER: Final = ".backend"
"""A file that names the byte store of a directory. RocksDB, the default, has none."""


@dataclass(frozen=True, slots=True)
class ByteStoreSupplier:
    """A byte store of your own, for stores of an application.

    `thalweg.stores.testing.byte_store` has the suite that proves a byte store.

    Example::

        encrypted = ByteStoreSupplier(lambda name, path: EncryptedStore(name, path, key))
        builder.table("cards", materialized=Materialized("cards", store=encrypted))

    Attributes:
        open: (name of the store, its directory) -> the opened byte store. The directory is the
            store's own and need not exist.
        persistent: whether its rows outlive the process. Then a store is restored from where it
            was, not from the beginning.
        name: tells it from others where a directory is opened again.
    """

    open: Callable[[str, Path], ByteStore]
    persistent: bool = True
    name: str = "own"

    def __post_init__(self) -> None:
        """Refuses what cannot open a store.

        Raises:
            TypeError: `open` is no function of two arguments.
        """
        arity(self.open, {2: "name, directory"}, "ByteStoreSupplier")


Backend: TypeAlias = BackendName | ByteStoreSupplier
"""What keeps the bytes of a store."""


def checked_backend(given: object, what: str) -> Backend:
    """Returns what keeps the bytes of a store.

    Args:
        given: what a user gave.
        what: what it was given as, for messages.

    Raises:
        ValueError: it is none.
    """
    if isinstance(given, ByteStoreSupplier):
        return given
    for name in BACKENDS:
        if given == name:
            return name
    names = ", ".join(f'"{name}"' for name in BACKENDS)
    message = f"{what} must be one of {names}, or a ByteStoreSupplier; got {shown(given)}"
    raise ValueError(message)


def is_persistent(backend: Backend) -> bool:
    """Tells whether rows outlive the process."""
    if isinstance(backend, ByteStoreSupplier):
        return backend.persistent
    return backend != "memory"


def open_backend(backend: Backend, name: str, directory: Path, *, has_changelog: bool) -> ByteStore:
    """Opens the byte store of a store.

    Args:
        backend: what keeps the bytes.
        name: the store's name.
        directory: the store's own directory.
        has_changelog: whether the store can be built anew.

    Raises:
        CorruptDataError: another byte store has written the directory, and the store can be
            built anew.
        StoreLockedError: it is open already.
        BackendError: it cannot be opened, or another byte store has the only rows.
    """
    if backend == "memory":
        return MemoryByteStore(name)
    if is_persistent(backend):
        _claim(backend, name, directory, has_changelog=has_changelog)
    if isinstance(backend, ByteStoreSupplier):
        return backend.open(name, directory)
    module, _, kind = _CLASSES[backend].partition(":")
    opened: ByteStore = getattr(import_module(f"thalweg.stores.bytes.{module}"), kind)(
        name, directory
    )
    return opened


def _claim(backend: Backend, name: str, directory: Path, *, has_changelog: bool) -> None:
    """Makes a directory a byte store's own, if it is not another's."""
    own = backend.name if isinstance(backend, ByteStoreSupplier) else backend
    marker = directory / _MARKER
    try:
        owner = marker.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        is_used = directory.is_dir() and any(directory.iterdir())
        owner = "rocks" if is_used else own
        if owner == own != "rocks":
            make_directory(directory)
            marker.write_text(own, encoding="utf-8")
    if owner == own:
        return
    message = (
        f"store '{name}' in {directory} was kept in {owner!r}, and is now to be kept in {own!r}"
    )
    if has_changelog:
        raise CorruptDataError(message)
    message += (
        f"; it has no changelog, so keep it in {owner!r}, or delete the directory with its rows"
    )
    raise BackendError(message)
