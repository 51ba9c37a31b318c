"""State directories: who owns one, what is deleted when; and checkpoint files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.directory import (
    CHECKPOINT_FILE,
    GLOBAL_DIRECTORY,
    LOCK_FILE,
    PROCESS_FILE,
    UNKNOWN_OFFSET,
    StateDirectory,
    delete_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    StoreClosedError,
    StoreLockedError,
)

REPOSITORY = Path(__file__).parents[3]
DAY_MS = 86_400_000


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDirectory]:
    directory = StateDirectory(tmp_path / "state", "app")
    yield directory
    directory.close()


def child(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- who owns it -----------------------------------------------------------------------------


def test_it_is_made_with_its_parents(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "a" / "b", "app")
    assert directory.path == tmp_path / "a" / "b" / "app"
    assert directory.path.is_dir()
    directory.close()


@pytest.mark.parametrize("how", ["close", "kill"])
def test_another_process_owns_it_until_it_closes_or_dies(tmp_path: Path, how: str) -> None:
    script = """
import sys
from thalweg.stores.directory import StateDirectory
directory = StateDirectory(sys.argv[1], "app")
print("open", flush=True)
sys.stdin.readline()
directory.close()
print("closed", flush=True)
sys.stdin.read()
"""
    with child(script, tmp_path) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=rf"process {owner.pid} on ") as caught:
            StateDirectory(tmp_path, "app")
        message = str(caught.value)
        assert str(tmp_path / "app") in message
        assert os.uname().nodename in message
        assert " since 20" in message
        assert "state_dir of its own" in message
        StateDirectory(tmp_path, "other").close()
        if how == "kill":
            owner.send_signal(signal.SIGKILL)
            owner.wait()
        else:
            owner.stdin.write("close\n")
            owner.stdin.flush()
            assert owner.stdout.readline() == "closed\n"
        StateDirectory(tmp_path, "app").close()
        owner.stdin.close()


def test_this_process_owns_it_until_it_closes_it(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path, "app")
    for _ in range(2):
        with pytest.raises(StoreLockedError, match=rf"by this process \({os.getpid()}\) since"):
            StateDirectory(tmp_path, "app")
    first.close()
    first.close()
    second = StateDirectory(tmp_path, "app")
    first.close()
    with pytest.raises(StoreLockedError):
        StateDirectory(tmp_path, "app")
    second.close()


def test_a_child_does_not_inherit_it(tmp_path: Path) -> None:
    """A process that outlives the owner, started by it, must not keep the directory."""
    directory = StateDirectory(tmp_path, "app")
    with child("import sys; print(1, flush=True); sys.stdin.read()") as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        directory.close()
        StateDirectory(tmp_path, "app").close()
        other.stdin.close()


def test_an_owner_that_left_no_name_is_another_process(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path, "app")
    (tmp_path / "app" / LOCK_FILE).write_text("")
    with pytest.raises(StoreLockedError, match="by another process since"):
        StateDirectory(tmp_path, "app")
    directory.close()


def test_a_closed_directory_refuses(directory: StateDirectory) -> None:
    directory.task_directory("0_0")
    directory.close()
    for call in (
        lambda: directory.task_directory("0_0"),
        directory.task_ids,
        lambda: directory.remove_task("0_0"),
        directory.clean_up,
        lambda: directory.remove_obsolete((), DAY_MS, 0),
        lambda: directory.process_id(lambda: UUID(int=1)),
    ):
        with pytest.raises(StoreClosedError, match="another process may own it"):
            call()
    assert (directory.path / "0_0").is_dir()


# -- places that cannot be used --------------------------------------------------------------


def test_a_file_stands_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for state_dir, application_id in (
        (tmp_path, "file"),
        (tmp_path / "file", "app"),
        (tmp_path / "file" / "below", "app"),
    ):
        with pytest.raises(BackendError, match=r"file.* cannot be used: .*file where a directory"):
            StateDirectory(state_dir, application_id)


def test_a_file_stands_in_the_way_of_a_task(directory: StateDirectory) -> None:
    (directory.path / "0_0").write_text("")
    with pytest.raises(BackendError, match=r"0_0 cannot be used: .*file where a directory"):
        directory.task_directory("0_0")
    assert directory.task_ids() == []


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    """The child is nobody, if it can become that: root may write anywhere."""
    script = """
import os, sys
from thalweg.stores.directory import StateDirectory
from thalweg.stores.errors import BackendError
if os.getuid() == 0:
    os.setuid(65534)
try:
    StateDirectory(sys.argv[1], "app")
except BackendError as error:
    print(error)
"""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with child(script, locked) as other:
        assert other.stdout is not None
        message = other.stdout.read()
    assert str(locked) in message
    assert "Permission denied; make it writable, or set another state_dir" in message


@pytest.mark.parametrize("application_id", ["", ".", "..", "a/b", "/a"])
def test_an_application_is_one_directory(tmp_path: Path, application_id: str) -> None:
    with pytest.raises(ValueError, match="name of a directory"):
        StateDirectory(tmp_path, application_id)


# -- the instance's id -----------------------------------------------------------------------


def test_the_process_id_stays(tmp_path: Path) -> None:
    for number in (7, 8):
        directory = StateDirectory(tmp_path, "app")
        assert directory.process_id(lambda: UUID(int=number)) == UUID(int=7)  # noqa: B023
        directory.clean_up()
        directory.close()
    kept = (tmp_path / "app" / PROCESS_FILE).read_text()
    assert kept == '{"processId": "00000000-0000-0000-0000-000000000007"}'


@pytest.mark.parametrize("kept", [b"", b"{}", b"[]", b"1", b"\xff", b'{"processId": 1}', b'{"a'])
def test_a_process_id_that_cannot_be_read_is_made_anew(
    directory: StateDirectory, kept: bytes
) -> None:
    (directory.path / PROCESS_FILE).write_bytes(kept)
    assert directory.process_id(lambda: UUID(int=7)) == UUID(int=7)
    assert directory.process_id(lambda: UUID(int=8)) == UUID(int=7)


# -- tasks -----------------------------------------------------------------------------------


def test_task_directories_are_made_and_listed(directory: StateDirectory) -> None:
    assert directory.task_ids() == []
    for task_id in ("0_10", "10_0", "0_2", "2_0", "0_2", GLOBAL_DIRECTORY):
        path = directory.task_directory(task_id)
        assert path == directory.path / task_id
        assert path.is_dir()
    (directory.path / "notes").mkdir()
    (directory.path / "1_1").write_text("")
    assert directory.task_ids() == ["0_2", "0_10", "2_0", "10_0"]


@pytest.mark.parametrize("task_id", ["", "0", "0_", "0_0_0", "..", "0_0/..", "a_b", "٣_٣"])
def test_other_names_are_no_tasks(directory: StateDirectory, task_id: str) -> None:
    with pytest.raises(ValueError, match="a task id is"):
        directory.task_directory(task_id)
    with pytest.raises(ValueError, match="a task id is"):
        directory.remove_task(task_id)


def test_a_task_can_be_removed(directory: StateDirectory) -> None:
    path = directory.task_directory("0_0")
    directory.task_directory("0_1")
    with RocksByteStore("counts", path / "rocksdb" / "counts") as store:
        store.put(b"a", b"1")
    write_checkpoint(path / CHECKPOINT_FILE, {("t", 0): 1})
    directory.remove_task("0_0")
    directory.remove_task("0_0")
    assert not path.exists()
    assert directory.task_ids() == ["0_1"]
    assert read_checkpoint(directory.task_directory("0_0") / CHECKPOINT_FILE) == {}


def test_a_removal_begins_with_the_checkpoint(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a removal leaves that does not come to its end must not be believed."""

    def failing(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    path = directory.task_directory("0_0")
    write_checkpoint(path / CHECKPOINT_FILE, {("t", 0): 1})
    monkeypatch.setattr(shutil, "rmtree", failing)
    with pytest.raises(BackendError, match=r"0_0 cannot be used: Device or resource busy"):
        directory.remove_task("0_0")
    assert path.is_dir()
    assert read_checkpoint(path / CHECKPOINT_FILE) == {}


def test_clean_up_removes_tasks_and_nothing_else(directory: StateDirectory) -> None:
    for name in ("0_0", "1_0", GLOBAL_DIRECTORY):
        (directory.task_directory(name) / "file").write_text("")
    (directory.path / "notes").mkdir()
    directory.process_id(lambda: UUID(int=7))
    directory.clean_up()
    left = {path.name for path in directory.path.iterdir()}
    assert left == {LOCK_FILE, PROCESS_FILE, "notes"}


def test_obsolete_tasks_are_removed_after_a_delay(directory: StateDirectory) -> None:
    now_ms = 1_000 * DAY_MS
    for task_id, age_ms in (("0_0", 500), ("0_1", 1_000), ("0_2", 5_000), ("0_3", 5_000)):
        path = directory.task_directory(task_id)
        os.utime(path, ns=((now_ms - age_ms) * 1_000_000,) * 2)
    os.utime(directory.task_directory(GLOBAL_DIRECTORY), (0, 0))
    assert directory.remove_obsolete({"0_3"}, now_ms, 1_000) == ["0_1", "0_2"]
    assert directory.task_ids() == ["0_0", "0_3"]
    assert directory.remove_obsolete({"0_3"}, now_ms + 499, 1_000) == []
    assert directory.remove_obsolete({"0_3"}, now_ms + 500, 1_000) == ["0_0"]
    assert (directory.path / GLOBAL_DIRECTORY).is_dir()


def test_a_checkpoint_makes_a_task_new_again(directory: StateDirectory) -> None:
    path = directory.task_directory("0_0")
    os.utime(path, (0, 0))
    write_checkpoint(path / CHECKPOINT_FILE, {("t", 0): 1})
    modified_ms = path.stat().st_mtime_ns // 1_000_000
    assert directory.remove_obsolete((), modified_ms + 999, 1_000) == []
    assert directory.remove_obsolete((), modified_ms + 1_000, 1_000) == ["0_0"]


# -- checkpoints -----------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / CHECKPOINT_FILE


def test_a_checkpoint_is_the_text_of_the_jvm(checkpoint: Path) -> None:
    write_checkpoint(checkpoint, {("app-counts-changelog", 1): 41, ("a.b", 0): 0})
    assert checkpoint.read_bytes() == b"0\n2\na.b 0 0\napp-counts-changelog 1 41\n"
    assert read_checkpoint(checkpoint) == {("app-counts-changelog", 1): 41, ("a.b", 0): 0}


def test_a_checkpoint_of_the_jvm_can_be_read(checkpoint: Path) -> None:
    checkpoint.write_text(f"0\n3\nb  0\t7\nlost 1 {UNKNOWN_OFFSET}\na 12 9223372036854775807\n")
    assert read_checkpoint(checkpoint) == {("b", 0): 7, ("a", 12): 2**63 - 1}


def test_no_checkpoint_is_an_empty_one(checkpoint: Path) -> None:
    assert read_checkpoint(checkpoint) == {}
    assert read_checkpoint(checkpoint / "0_0" / CHECKPOINT_FILE) == {}


def test_an_empty_checkpoint_is_deleted(checkpoint: Path) -> None:
    write_checkpoint(checkpoint, {("t", 0): 1})
    write_checkpoint(checkpoint, {})
    assert not checkpoint.exists()
    delete_checkpoint(checkpoint)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"0\n",
        b"\x00" * 20,
        b"\xff\xfe\n1\nt 0 1\n",
        b"1\n1\nt 0 1\n",
        b"zero\n1\nt 0 1\n",
        b"0\none\nt 0 1\n",
        b"0\n2\nt 0 1\n",
        b"0\n1\nt 0 1\nt 1 1\n",
        b"0\n2\nt 0 1\nt 0 1\n",
        b"0\n1\nt 0\n",
        b"0\n1\nt 0 1 2\n",
        b"0\n1\nt -1 1\n",
        b"0\n1\nt 0 -1\n",
        b"0\n1\nt 0 one\n",
        b"0\n1\nt 0 1_000\n",
        b"0\n1\nt 0 1\n\n",
    ],
)
def test_nonsense_is_no_checkpoint(checkpoint: Path, content: bytes) -> None:
    checkpoint.write_bytes(content)
    with pytest.raises(CorruptDataError, match=rf"checkpoint {checkpoint} is damaged: .*rebuilt"):
        read_checkpoint(checkpoint)


def test_a_cut_checkpoint_is_none(checkpoint: Path) -> None:
    """At any byte, but within the last number, which nothing tells from a shorter one."""
    write_checkpoint(checkpoint, {("a", 0): 5, ("b", 1): 6})
    whole = checkpoint.read_bytes()
    for length in range(len(whole) - 2):
        checkpoint.write_bytes(whole[:length])
        with pytest.raises(CorruptDataError):
            read_checkpoint(checkpoint)


@given(
    offsets=st.dictionaries(
        st.tuples(st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), st.integers(0, 2**31)),
        st.integers(0, 2**63 - 1),
        max_size=5,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, offsets: dict[tuple[str, int], int]
) -> None:
    path = tmp_path_factory.getbasetemp() / CHECKPOINT_FILE
    write_checkpoint(path, offsets)
    assert read_checkpoint(path) == offsets


def test_a_checkpoint_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT_FILE).mkdir()
    with pytest.raises(BackendError, match=r"\.checkpoint cannot be used: Is a directory"):
        read_checkpoint(tmp_path / CHECKPOINT_FILE)


def test_a_full_disk_leaves_the_old_checkpoint(checkpoint: Path) -> None:
    """The child may write files of at most 1,000 bytes."""
    script = """
import resource, signal, sys
from pathlib import Path
from thalweg.stores.directory import write_checkpoint
from thalweg.stores.errors import BackendError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
write_checkpoint(Path(sys.argv[1]), {("t", 0): 1})
try:
    write_checkpoint(Path(sys.argv[1]), {("t", number): 1 for number in range(1_000)})
except BackendError as error:
    print(error)
"""
    with child(script, checkpoint) as writer:
        assert writer.stdout is not None
        message = writer.stdout.read()
    assert "cannot be used: File too large; see that its disk has space" in message
    assert read_checkpoint(checkpoint) == {("t", 0): 1}
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_a_kill_leaves_a_whole_checkpoint(checkpoint: Path) -> None:
    """The child writes one after the other, all its entries with one number."""
    script = """
import sys
from pathlib import Path
from thalweg.stores.directory import write_checkpoint
number = 0
while True:
    write_checkpoint(Path(sys.argv[1]), {("t", partition): number for partition in range(500)})
    print(number, flush=True)
    number += 1
"""
    for count in (1, 5, 20):
        with child(script, checkpoint) as writer:
            assert writer.stdout is not None
            for _ in range(count):
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        offsets = read_checkpoint(checkpoint)
        assert len(offsets) == 500
        (number,) = set(offsets.values())
        assert number >= said
