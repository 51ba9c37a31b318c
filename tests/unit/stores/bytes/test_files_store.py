"""The store of plain files against the public suite, and what only it promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from thalweg.stores.bytes.contract import ByteStore, Sync
from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.errors import BackendError, CorruptDataError
from thalweg.stores.testing.byte_store import ByteStoreSuite

MEMORY = Path("/dev/shm")
REPOSITORY = Path(__file__).parents[4]


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


def test_t6_the_names_of_files(tmp_path: Path) -> None:
    names = {b"aZ9_-": "aZ9_-", "ü/%\0".encode(): "%c3%bc%2f%25%00", b"": "%", b".": "%2e"}
    with FilesByteStore(None, tmp_path) as store:
        store.write([(key, b"value of " + key) for key in names])
        for key, name in names.items():
            assert (tmp_path / f"{name}.bin").read_bytes() == b"value of " + key
        visible = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
        assert visible == {f"{name}.bin" for name in names.values()}


def test_t6_files_of_others_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    for name in ("b.txt", "c.d.bin", "%2F.bin", "%zz.bin", "ü.bin", ".hidden.bin"):
        (tmp_path / name).write_bytes(b"other")
    with FilesByteStore("mine", tmp_path) as store:
        assert list(store.range()) == [(b"a", b"1")]
    with FilesByteStore("mine", tmp_path, include_hidden=True) as store:
        assert list(store.range()) == [(b".hidden", b"other"), (b"a", b"1")]
        assert store.get(b".hidden") == b"other"
        store.put(b".hidden", b"changed")
        store.write([(b"b", b"2"), (b".hidden", None)])
        assert list(store.range()) == [(b"a", b"1"), (b"b", b"2")]
    assert not (tmp_path / ".hidden.bin").exists()


def test_t6_a_file_that_was_deleted_by_other_means_is_an_absent_row(tmp_path: Path) -> None:
    with FilesByteStore("mine", tmp_path / "rows") as store:
        store.put(b"a", b"1")
        shutil.rmtree(tmp_path / "rows")
        assert store.get(b"a") is None


def test_a_long_key_that_does_not_fit_its_file_is_damage(tmp_path: Path) -> None:
    with FilesByteStore("mine", tmp_path) as store:
        store.put(b"k" * 300, b"v")
        (file,) = tmp_path.glob("*.bin")
        file.write_bytes(file.read_bytes().replace(b"kkkk", b"kkkj", 1))
        with pytest.raises(CorruptDataError, match="its key does not fit its name"):
            store.get(b"k" * 300)
    with pytest.raises(CorruptDataError, match="its key does not fit its name"):
        FilesByteStore("mine", tmp_path)


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    FilesByteStore("mine", tmp_path).close()
    (tmp_path / ".journal").write_bytes(b"not a journal")
    with pytest.raises(CorruptDataError, match=r"journal \.journal is damaged.*delete it"):
        FilesByteStore("mine", tmp_path)
    # One that is empty was lost with the power before its batch was safe.
    (tmp_path / ".journal").write_bytes(b"")
    FilesByteStore("mine", tmp_path).close()
    assert not (tmp_path / ".journal").exists()


BEFORE = {b"a": b"old", b"b": b"old", b"c": b"old", b"k" * 300: b"old"}
AFTER = {b"a": b"new", b"c": b"old", b"d": b"new", b"k" * 300: b"new"}

_DYING = """
import os, sys
from thalweg.stores.bytes.contract import Sync
from thalweg.stores.bytes.files import FilesByteStore

def write(path, sync, last):
    left = last
    def count(event, arguments):
        nonlocal left
        if event in ("open", "os.rename", "os.remove") and path in str(arguments[0]):
            if left == 0:
                os._exit(1)
            left -= 1
    store = FilesByteStore("mine", path)
    sys.addaudithook(count)
    new = [(b"a", b"new"), (b"b", None), (b"d", b"new"), (b"k" * 300, b"new")]
    store.write(new, sync=Sync[sync])
    os._exit(0)

root, sync = sys.argv[1:]
number = 0
while True:
    child = os.fork()
    if not child:
        write(f"{root}/{number}", sync, number)
    if os.waitpid(child, 0)[1] == 0:
        break
    number += 1
print(number)
"""


@pytest.mark.parametrize("sync", ["PROCESS", "DISK"])
def test_a_batch_is_there_whole_or_not_at_all_wherever_the_process_dies(
    tmp_path: Path, sync: str
) -> None:
    """It dies before each of its calls that touch a file, in turn."""
    for number in range(40):
        with FilesByteStore("mine", tmp_path / str(number)) as store:
            store.write(BEFORE.items())
    ran = subprocess.run(
        [sys.executable, "-c", _DYING, tmp_path, sync],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    count = int(ran.stdout)
    states = []
    for number in range(count + 1):
        for _ in range(2):
            with FilesByteStore("mine", tmp_path / str(number)) as store:
                states.append(dict(store.range()))
            left = {path.name for path in (tmp_path / str(number)).glob(".*")}
            assert left == {".lock"}
    assert 10 <= count < 40
    turn = states.index(AFTER)
    assert states == [BEFORE] * turn + [AFTER] * (len(states) - turn)
    assert 0 < turn < len(states) - 2


@pytest.mark.parametrize("sync", Sync)
def test_a_batch_that_could_not_be_put_in_place_is_brought_to_its_end(
    tmp_path: Path, sync: Sync
) -> None:
    """A row's file is in the way as a directory: the batch is made but cannot be finished."""
    with FilesByteStore("mine", tmp_path) as store:
        store.write(BEFORE.items())
        view = store.view()
        (tmp_path / "d.bin").mkdir()
        (tmp_path / "d.bin" / "inside").touch()
        with pytest.raises(BackendError, match="cannot write rows"):
            store.write([(b"a", b"new"), (b"b", None), (b"d", b"new"), (b"k" * 300, b"new")])
        # Nobody sees a part of it.
        for read in (lambda: store.get(b"a"), lambda: list(store.range()), store.flush):
            with pytest.raises(BackendError, match="put the last batch in place"):
                read()
        shutil.rmtree(tmp_path / "d.bin")
        store.write([(b"e", b"later")], sync=sync)
        assert dict(store.range()) == {**AFTER, b"e": b"later"}
        assert dict(view.range()) == BEFORE
