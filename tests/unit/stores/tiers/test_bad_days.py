"""Waves of tiers on real disks: the process is killed, and the disk is full for a while."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.bytes.lmdb import LmdbByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.bytes.sqlite import SqliteByteStore
from thalweg.stores.tiers import AppendLogTier, KeyValueTier, SnapshotTier

REPOSITORY = Path(__file__).parents[4]

STORES: dict[str, Callable[[str, Path], ByteStore]] = {
    "files": FilesByteStore,
    "lmdb": LmdbByteStore,
    "rocks": RocksByteStore,
    "sqlite": SqliteByteStore,
}
each_store = pytest.mark.parametrize("kind", STORES)

_TIERS = """
import resource, signal, sys
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.bytes.{kind} import {store} as Store
from thalweg.stores.errors import BackendError
from thalweg.stores.tiers import AppendLogTier, KeyValueTier, SnapshotTier, wave
store = Store("mine", sys.argv[1])
values = KeyValueTier(Namespace(store, b"v/"))
log = AppendLogTier(Namespace(store, b"l/"), key_of=lambda entry: "log " + str(entry % 3))
newest = SnapshotTier(Namespace(store, b"s/"), name="newest")
"""


def child(kind: str, script: str, path: Path) -> subprocess.Popen[str]:
    head = _TIERS.format(kind=kind, store=STORES[kind].__name__)  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, "-c", head + script, str(path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def waves_in(kind: str, path: Path) -> int:
    """Returns how many waves are there, each of which is there whole."""
    with STORES[kind]("mine", path) as store:
        values = KeyValueTier[int](Namespace(store, b"v/"))
        log = AppendLogTier[int](Namespace(store, b"l/")).load_entries_all()
        newest = SnapshotTier[int](Namespace(store, b"s/"), name="newest").load()
        keys = sorted(map(int, values.list()))
    count = 0 if newest is None else newest + 1
    assert keys == sorted(log) == list(range(count))
    assert log == sorted(log, key=lambda entry: (entry % 3, entry))
    return count


@each_store
def test_waves_that_were_acknowledged_survive_a_kill_and_none_is_there_in_part(
    tmp_path: Path, kind: str
) -> None:
    script = """
number = len(values.list())
while True:
    with wave(values, log, newest):
        values.save(str(number), number)
        log.append(number)
        newest.save(number)
    print(number, flush=True)
    number += 1
"""
    for wave_count in (1, 10, 40):
        with child(kind, script, tmp_path / "rows") as writer:
            assert writer.stdout is not None
            acknowledged = [int(writer.stdout.readline()) for _ in range(wave_count)][-1]
            writer.send_signal(signal.SIGKILL)
        assert waves_in(kind, tmp_path / "rows") > acknowledged


@each_store
def test_what_a_full_disk_refused_is_written_once_there_is_space(tmp_path: Path, kind: str) -> None:
    """A value too large for the largest file the child may write, until it may write more."""
    script = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with wave(values, log, newest):
    values.save("0", 0)
    log.append(0)
    newest.save(0)
large = KeyValueTier(Namespace(store, b"large/"))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    with wave(values, log, newest, large):
        values.save("1", 1)
        log.append(1)
        newest.save(1)
        large.save("large", "x" * (4 << 20))
except BackendError as error:
    print(error)
assert values.list() == ["0"] and log.load_entries_all() == [0] and newest.load() == 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    with wave(values, log, newest, large):
        pass
except BackendError:
    # RocksDB writes nothing after such an error until it is opened again.
    assert Store.__name__ == "RocksByteStore"
else:
    assert large.load("large") == "x" * (4 << 20)
print("done", flush=True)
"""
    with child(kind, script, tmp_path / "rows") as writer:
        assert writer.stdout is not None
        message, done = writer.stdout.read().splitlines()
    assert writer.returncode == 0
    assert "'mine'" in message
    assert done == "done"
    assert waves_in(kind, tmp_path / "rows") == (1 if kind == "rocks" else 2)
