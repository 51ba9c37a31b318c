"""What keeps the bytes of stores: by name, one's own, and in a directory of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from thalweg.stores.backends import (
    BACKENDS,
    BackendName,
    ByteStoreSupplier,
    is_persistent,
    open_backend,
)
from thalweg.stores.builders import key_value_store, lru_store
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import BackendError, CorruptDataError

ON_DISK = [name for name in BACKENDS if name != "memory"]


def opened(backend: Any, directory: Path, *, has_changelog: bool = True) -> ByteStore:
    return open_backend(backend, "st", directory / "st", has_changelog=has_changelog)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_keeps_rows_as_long_as_it_says(backend: BackendName, tmp_path: Path) -> None:
    with opened(backend, tmp_path) as store:
        store.write([(b"k", b"v")])
    with opened(backend, tmp_path) as store:
        assert store.persistent is is_persistent(backend)
        assert store.get(b"k") == (b"v" if is_persistent(backend) else None)


@pytest.mark.parametrize("now", ON_DISK)
@pytest.mark.parametrize("before", ON_DISK)
def test_a_directory_of_another_one_is_not_opened(
    before: BackendName, now: BackendName, tmp_path: Path
) -> None:
    if before == now:
        return
    with opened(before, tmp_path) as store:
        store.write([(b"k", b"v")])

    with pytest.raises(CorruptDataError, match=f"was kept in '{before}', .* in '{now}'"):
        opened(now, tmp_path)
    with pytest.raises(BackendError, match="it has no changelog"):
        opened(now, tmp_path, has_changelog=False)
    with opened(before, tmp_path) as store:
        assert store.get(b"k") == b"v"


def test_one_of_your_own_is_told_name_and_directory(tmp_path: Path) -> None:
    asked: list[tuple[str, Path]] = []

    def open_files(name: str, directory: Path) -> ByteStore:
        asked.append((name, directory))
        return FilesByteStore(name, directory)

    with opened(ByteStoreSupplier(open_files, name="vault"), tmp_path) as store:
        store.write([(b"k", b"v")])

    assert asked == [("st", tmp_path / "st")]
    with pytest.raises(CorruptDataError, match="was kept in 'vault'"):
        opened("files", tmp_path)


def test_one_that_does_not_last_has_no_directory(tmp_path: Path) -> None:
    supplier = ByteStoreSupplier(lambda name, _: MemoryByteStore(name), persistent=False)
    opened(supplier, tmp_path).close()

    assert list(tmp_path.iterdir()) == []


def test_what_is_no_backend_is_refused() -> None:
    wrong: Any = "disk"
    with pytest.raises(ValueError, match=r'backend of store \'st\'.*"rocks", .*ByteStoreSupplier'):
        key_value_store("st").with_backend(wrong)
    with pytest.raises(TypeError, match=r"\(name, directory\)"):
        ByteStoreSupplier(lambda: MemoryByteStore("st"))  # type: ignore[arg-type, misc]
    with pytest.raises(ValueError, match="lru_store 'st' keeps its rows in memory"):
        lru_store("st", 2).with_backend("sqlite")
    assert get_args(BackendName) == BACKENDS
