"""What every byte store on a disk must do on a bad day: a kill, a full disk, a second process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.stores.bytes.contract import ByteStore, Change
from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.bytes.lmdb import LmdbByteStore
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.bytes.sqlite import SqliteByteStore
from thalweg.stores.errors import BackendError, CorruptDataError, StoreLockedError

REPOSITORY = Path(__file__).parents[4]
NOBODY = 65534

STORES: dict[str, Callable[[str, Path], ByteStore]] = {
    "files": FilesByteStore,
    "lmdb": LmdbByteStore,
    "rocks": RocksByteStore,
    "sqlite": SqliteByteStore,
}

every = pytest.mark.parametrize("kind", STORES)
our_own = pytest.mark.parametrize("kind", [kind for kind in STORES if kind != "rocks"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows"


def child(kind: str, script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Runs a script that finds `open_store(path)` and `sys`."""
    store = STORES[kind].__name__  # type: ignore[attr-defined]
    head = (
        f"import os, sys\n"
        f"from thalweg.stores.bytes.contract import Sync\n"
        f"from thalweg.stores.bytes.{kind} import {store}\n"
        f"def open_store(path): return {store}('mine', path)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@every
@pytest.mark.parametrize("sync", ["PROCESS", "DISK"])
def test_acknowledged_batches_survive_a_kill_and_none_is_there_in_part(
    path: Path, kind: str, sync: str
) -> None:
    """The child says the number of every batch whose writing has returned, until it is killed."""
    script = """
store = open_store(sys.argv[1])
last = store.get(b"last")
number = 0 if last is None else int.from_bytes(last, "big") + 1
while True:
    # The rows of the batch, one of an earlier batch to change, one to delete.
    rows = [(b"row" + number.to_bytes(4, "big") + bytes([row]), b"v" * 100) for row in range(4)]
    rows.append((b"last", number.to_bytes(4, "big")))
    rows.append((b"gone" + (number - 1).to_bytes(4, "big", signed=True), None))
    rows.append((b"gone" + number.to_bytes(4, "big"), b"v" * 700))
    store.write(rows, sync=Sync[sys.argv[2]])
    print(number, flush=True)
    number += 1
"""
    acknowledged = -1
    for batch_count in (1, 7, 30):
        with child(kind, script, path, sync) as writer:
            assert writer.stdout is not None
            for _ in range(batch_count):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split()[:-1])])
        assert writer.returncode == -signal.SIGKILL
        with STORES[kind]("mine", path) as store:
            rows = dict(store.range())
        last = int.from_bytes(rows.pop(b"last"), "big")
        assert last >= acknowledged
        gone = [key for key in rows if key.startswith(b"gone")]
        assert gone == [b"gone" + last.to_bytes(4, "big")]
        numbers = [int.from_bytes(key[3:7], "big") for key in rows if key.startswith(b"row")]
        assert sorted(numbers) == [number for number in range(last + 1) for _ in range(4)]


@every
def test_a_full_disk_is_an_error_and_loses_nothing(path: Path, kind: str) -> None:
    """The child may write files of at most 1 MiB: the limit is met within a batch."""
    script = """
import resource, signal
from thalweg.stores.errors import BackendError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
store = open_store(sys.argv[1])
for number in range(100):
    rows = [(number.to_bytes(4, "big") + bytes([row]), b"v" * 1000) for row in range(50)]
    if number == 30:
        rows.append((b"large", b"v" * (2 << 20)))
    try:
        store.write(rows)
    except BackendError as error:
        print(number, error)
        break
# The store answers still, and takes what there is room for.
assert len(list(store.range())) == 50 * number
"""
    with child(kind, script, path) as writer:
        assert writer.stdout is not None
        number, _, message = writer.stdout.read().partition(" ")
    assert writer.returncode == 0
    assert "'mine'" in message
    assert "cannot write" in message
    with STORES[kind]("mine", path) as store:
        found = {int.from_bytes(key[:4], "big") for key, _ in store.range()}
        assert found == set(range(int(number)))
        store.put(b"after", b"")


@every
def test_another_process_has_it_open(path: Path, kind: str) -> None:
    script = """
with open_store(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""
    with child(kind, script, path) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match="in another process") as caught:
            STORES[kind]("mine", path)
        assert "'mine'" in str(caught.value)
        assert str(path) in str(caught.value)
        owner.stdin.close()
    STORES[kind]("mine", path).close()


@every
def test_this_process_has_it_open(path: Path, kind: str) -> None:
    with (
        STORES[kind]("mine", path),
        pytest.raises(StoreLockedError, match="in this process"),
    ):
        STORES[kind]("again", path)
    STORES[kind]("again", path).close()


@every
def test_a_directory_that_cannot_be_written_is_an_error(path: Path, kind: str) -> None:
    """Root may write anywhere: the child becomes someone else, within the directory."""
    STORES[kind]("mine", path).close()
    script = """
from thalweg.stores.errors import BackendError
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.seteuid(int(sys.argv[2]))
try:
    open_store("rows")
except BackendError as error:
    print(error)
"""
    for file in (path, *path.iterdir()):
        file.chmod(0o555 if file.is_dir() else 0o444)
    path.parent.chmod(0o755)
    try:
        with child(kind, script, path.parent, str(NOBODY)) as reader:
            assert reader.stdout is not None
            message = reader.stdout.read()
    finally:
        path.chmod(0o755)
    assert reader.returncode == 0
    assert "store 'mine' in rows cannot be opened" in message
    assert "check that the directory is writable" in message


@every
def test_a_file_is_no_directory(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BackendError, match=r"'mine' in .* cannot be opened.*writable"):
            STORES[kind]("mine", path)


def flip(path: Path, value: bytes) -> None:
    """Flips a bit of a value in whichever file it stands."""
    found = [file for file in path.iterdir() if file.is_file() and value in file.read_bytes()]
    assert found
    for file in found:
        content = file.read_bytes()
        file.write_bytes(content.replace(value, bytes([value[0] ^ 1]) + value[1:]))


@pytest.mark.parametrize("kind", ["lmdb", "rocks", "sqlite"])
def test_a_flipped_byte_is_found(path: Path, kind: str) -> None:
    with STORES[kind]("mine", path) as store:
        store.write([(b"a", b"unharmed"), (b"b", b"to be flipped")])
    flip(path, b"to be flipped")
    with STORES[kind]("mine", path) as store, store.view() as view:
        for read in (
            lambda: store.get(b"b"),
            lambda: list(store.range()),
            lambda: view.get(b"b"),
            lambda: list(view.range()),
        ):
            with pytest.raises(CorruptDataError, match=r"'mine' in .* is damaged"):
                read()


def test_files_hand_a_flipped_byte_to_the_reader(path: Path) -> None:
    with FilesByteStore("mine", path) as store:
        store.put(b"b", b"to be flipped")
        flip(path, b"to be flipped")
        assert store.get(b"b") == b"uo be flipped"


@our_own
def test_a_directory_of_something_else_is_no_store(path: Path, kind: str) -> None:
    path.mkdir()
    for file in ("rows.sqlite", "data.mdb"):
        (path / file).write_bytes(b"something else, and longer than a header of any kind " * 200)
    if kind == "files":
        with FilesByteStore("mine", path) as store:
            assert list(store.range()) == []
        return
    with pytest.raises(CorruptDataError, match=r"'mine' in .* is damaged"):
        STORES[kind]("mine", path)


@our_own
@pytest.mark.parametrize("row", [("text", b"v"), (b"k", "text"), (b"k", 1), (1, b"v"), ([], b"v")])
def test_only_bytes_are_rows(path: Path, kind: str, row: Change) -> None:
    with STORES[kind]("mine", path) as store:
        with pytest.raises(TypeError):
            store.put(*row)
        with pytest.raises(TypeError):
            store.write([(b"a", b"1"), row, (b"b", None)])
        assert list(store.range()) == []


NAMES = [
    "a/b",
    "../../outside",
    "50%",
    "%2f",
    "nul\0nul",
    "x" * 300,
    "x" * 300 + "y",
    "ü" * 300,
    "🙂" * 40,
    "🙂" * 200,
    ".",
    "..",
    "",
    " ",
    "CON",
    "a\nb",
    "UPPER",
    "upper",
]


@every
def test_any_name_is_a_key(path: Path, kind: str) -> None:
    rows = {name.encode(): name.encode()[::-1] for name in NAMES}
    with STORES[kind]("mine", path) as store:
        store.write(rows.items())
    with STORES[kind]("mine", path) as store:
        assert list(store.range()) == sorted(rows.items())
        for key, value in rows.items():
            assert store.get(key) == value
            store.delete(key)
        assert list(store.range()) == []
    assert [file.name for file in path.parent.iterdir()] == ["rows"]


@our_own
def test_the_name_of_a_store_defaults_to_its_kind_and_place(path: Path, kind: str) -> None:
    word = "file" if kind == "files" else kind
    with STORES[kind](None, path) as store:  # type: ignore[arg-type]
        assert store.name == f"{word}:{path}"


@pytest.mark.parametrize("kind", ["files", "sqlite"])
def test_a_durable_store_keeps_what_any_keeps(path: Path, kind: str) -> None:
    with STORES[kind]("mine", path, durable=True) as store:  # type: ignore[call-arg]
        store.write([(b"a", b"1"), (b"b", b"2")])
        store.put(b"c", b"3")
        store.delete(b"a")
        store.flush()
    with STORES[kind]("mine", path) as store:
        assert list(store.range()) == [(b"b", b"2"), (b"c", b"3")]
