"""The store of plain files against the public suite, and what only it promises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from stores.backends.contract import ByteStore
from stores.backends.files import FilesByteStore
from stores.backends.namespace import Namespace
from stores.testing.byte_store import ByteStoreSuite

MEMORY = Path("/dev/shm")


class _FilesSuite(ByteStoreSuite):
    """A row is a file here: the suite makes few of them, and in memory where there is such a disk."""

    example_count = 10
    round_count = 15
    large_count = 2_000

    @pytest.fixture
    def tmp_path(self, tmp_path: Path) -> Iterator[Path]:
        if not MEMORY.is_dir():
            yield tmp_path
            return
        path = Path(mkdtemp(dir=MEMORY))
        yield path
        shutil.rmtree(path)


class TestFilesByteStore(_FilesSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return FilesByteStore("mine", directory / "rows")


class _Owning(Namespace):
    """A namespace that closes the store below, as the suite opens both anew."""

    def close(self) -> None:
        super().close()
        self._store.close()


class TestNamespaceOfFiles(_FilesSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return _Owning(FilesByteStore("below", directory / "rows"), b"mine/", name="mine")
