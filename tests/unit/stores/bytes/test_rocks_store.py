"""The RocksDB backend against the public suite, and what only it promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thalweg.stores.bytes.contract import ByteStore, Change, Sync
from thalweg.stores.bytes.rocks import UNLOGGED_MIN_COUNT, RocksByteStore
from thalweg.stores.bytes.rocks_budget import RocksBudget, process_budget
from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    StoreClosedError,
    StoreLockedError,
)
from thalweg.stores.testing.byte_store import ByteStoreSuite
from thalweg.stores.testing.byte_store_model import numbered

MIB = 1024 * 1024
REPOSITORY = Path(__file__).parents[4]


class TestRocksByteStore(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return RocksByteStore("mine", directory / "rows")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "task" / "rocksdb" / "mine"


def files(path: Path, suffix: str) -> list[Path]:
    return sorted(path.glob(f"*{suffix}"))


def damage(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at : at + 100] = bytes(100)
    file.write_bytes(content)


def child(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- one owner -------------------------------------------------------------------------------


def test_another_process_has_it_open(path: Path) -> None:
    script = """
import sys
from thalweg.stores.bytes.rocks import RocksByteStore
with RocksByteStore("mine", sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""
    with child(script, path) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match="in another process; close it") as caught:
            RocksByteStore("mine", path)
        assert "'mine'" in str(caught.value)
        assert str(path) in str(caught.value)
        owner.stdin.close()
    RocksByteStore("mine", path).close()


def test_this_process_has_it_open(path: Path) -> None:
    with RocksByteStore("mine", path), pytest.raises(StoreLockedError, match="in this process"):
        RocksByteStore("again", path)
    RocksByteStore("again", path).close()


# -- what survives ---------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
def test_acknowledged_batches_survive_a_kill(path: Path, durable: bool) -> None:
    """The child says the number of every batch whose writing has returned, until it is killed."""
    script = """
import sys
from thalweg.stores.bytes.contract import Sync
from thalweg.stores.bytes.rocks import RocksByteStore
store = RocksByteStore("mine", sys.argv[1])
durable = sys.argv[2] == "True"
number = len(list(store.range())) // 10
while True:
    rows = [(number.to_bytes(4, "big") + bytes([row]), b"v" * 100) for row in range(10)]
    store.write(rows, sync=Sync.DISK if durable else Sync.PROCESS)
    print(number, flush=True)
    number += 1
"""
    acknowledged = -1
    for batch_count in (1, 40, 400):
        with child(script, path, str(durable)) as writer:
            assert writer.stdout is not None
            for _ in range(batch_count):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            # What it had said but nobody had read yet counts as well.
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split()[:-1])])
        assert writer.returncode == -signal.SIGKILL
        with RocksByteStore("mine", path) as store:
            keys = [key for key, _ in store.range()]
        numbers = sorted({int.from_bytes(key[:4], "big") for key in keys})
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > acknowledged
        # Batches are there whole, also the one nobody heard of.
        assert len(keys) == 10 * len(numbers)


def test_a_torn_end_of_the_log_is_left_out(path: Path, tmp_path: Path) -> None:
    store = RocksByteStore("mine", path)
    store.write(numbered(10, b"whole"))
    store.write(numbered(10, b"torn"))
    copy = _killed_copy(store, tmp_path / "copy")
    log = files(copy, ".log")[-1]
    os.truncate(log, log.stat().st_size - 5)
    with RocksByteStore("mine", copy) as store:
        assert list(store.range()) == numbered(10, b"whole")


def test_a_hole_in_the_log_is_no_end_of_it(path: Path, tmp_path: Path) -> None:
    store = RocksByteStore("mine", path)
    for number in range(100):
        store.write(numbered(100, b"%d" % number))
    copy = _killed_copy(store, tmp_path / "copy")
    log = files(copy, ".log")[-1]
    damage(log, log.stat().st_size // 2)
    with pytest.raises(CorruptDataError, match=r"'mine' in .* is damaged.*changelog"):
        RocksByteStore("mine", copy)


def test_restored_rows_may_be_lost_until_the_next_durable_flush(path: Path, tmp_path: Path) -> None:
    restored, logged = numbered(UNLOGGED_MIN_COUNT, b"restored"), numbered(10, b"logged")
    with RocksByteStore("mine", path) as store:
        store.write(restored, sync=Sync.NONE)
        store.write([(b"later" + key, value) for key, value in logged])
        assert len(list(store.range())) == len(restored) + len(logged)
        copy = _killed_copy(store, tmp_path / "killed")
    with RocksByteStore("mine", copy) as store:
        # What was logged is there, before and after: nothing of it hangs on the rest.
        assert list(store.range(b"later")) == [(b"later" + key, value) for key, value in logged]

    with RocksByteStore("mine", tmp_path / "flushed") as store:
        store.write(restored, sync=Sync.NONE)
        store.write(logged[:1], sync=Sync.DISK)
        copy = _killed_copy(store, tmp_path / "killed-later")
    with RocksByteStore("mine", copy) as store:
        assert len(list(store.range())) == len(restored)


def test_small_batches_past_the_log_last_from_the_next_durable_flush_on(
    path: Path, tmp_path: Path
) -> None:
    rows = numbered(2 * UNLOGGED_MIN_COUNT, b"restored")
    store = RocksByteStore("mine", path)
    for start in range(0, len(rows), 100):
        store.write(rows[start : start + 100], sync=Sync.NONE)
        store.put(b"between", b"%d" % start)
    store.flush()
    with RocksByteStore("mine", _killed_copy(store, tmp_path / "copy")) as store:
        assert list(store.range(b"row")) == rows
        assert store.get(b"between") == b"%d" % (len(rows) - 100)


def test_a_few_restored_rows_are_logged_as_any_others(path: Path, tmp_path: Path) -> None:
    store = RocksByteStore("mine", path)
    store.write(numbered(UNLOGGED_MIN_COUNT - 1), sync=Sync.NONE)
    store.flush()
    store.write(numbered(1, b"again"), sync=Sync.NONE)
    expected = [*numbered(1, b"again"), *numbered(UNLOGGED_MIN_COUNT - 1)[1:]]
    with RocksByteStore("mine", _killed_copy(store, tmp_path / "copy")) as store:
        assert list(store.range()) == expected


def test_many_small_batches_are_restored_past_the_log(path: Path, tmp_path: Path) -> None:
    rows = numbered(2 * UNLOGGED_MIN_COUNT, b"restored")
    store = RocksByteStore("mine", path)
    for start in range(0, len(rows), 100):
        store.write(rows[start : start + 100], sync=Sync.NONE)
    copy = _killed_copy(store, tmp_path / "killed")
    with RocksByteStore("mine", copy) as store:
        assert list(store.range()) == rows[: UNLOGGED_MIN_COUNT - 100]


def _killed_copy(store: RocksByteStore, target: Path) -> Path:
    """Copies the files as a death of the process would leave them."""
    target.mkdir()
    for file in store.path.iterdir():
        if file.name != "LOCK":
            (target / file.name).write_bytes(file.read_bytes())
    store.close()
    return target


# -- damage ----------------------------------------------------------------------------------


@pytest.fixture
def damaged(path: Path) -> Iterator[RocksByteStore]:
    """A store of 10,000 rows with a hole of one block in its only table file."""
    with RocksByteStore("mine", path) as store:
        store.write((key, os.urandom(100)) for key, _ in numbered(10_000))
    (table,) = files(path, ".sst")
    damage(table, table.stat().st_size // 2)
    with RocksByteStore("mine", path) as store:
        yield store


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_does_not_end_at_damage(damaged: RocksByteStore, reverse: bool) -> None:
    scan = damaged.range(reverse=reverse)
    with pytest.raises(CorruptDataError, match=r"'mine' in .* is damaged"):
        list(scan)
    assert len(list(damaged.range(b"row\x00", b"row\x01", reverse=reverse))) == 256


def test_a_read_of_damage_fails(damaged: RocksByteStore) -> None:
    failures = 0
    for key, _ in numbered(10_000):
        try:
            assert damaged.get(key) is not None
        except CorruptDataError:
            failures += 1
    assert 0 < failures < 100


@pytest.mark.parametrize("how", ["truncated", "missing", "no manifest", "empty current"])
def test_a_store_with_damaged_files_is_not_opened(path: Path, how: str) -> None:
    with RocksByteStore("mine", path) as store:
        store.write(numbered(100, b"v"))
    (table,) = files(path, ".sst")
    if how == "truncated":
        os.truncate(table, 100)
    elif how == "missing":
        table.unlink()
    elif how == "no manifest":
        for manifest in path.glob("MANIFEST-*"):
            manifest.unlink()
    else:
        (path / "CURRENT").write_text("")
    with pytest.raises(CorruptDataError, match="delete the directory"):
        RocksByteStore("mine", path)


# -- places that cannot be used --------------------------------------------------------------


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BackendError, match=r"'mine' in .* cannot be opened.*writable"):
            RocksByteStore("mine", path)


def test_a_full_disk_is_an_error_and_loses_nothing(path: Path) -> None:
    """The child may write files of at most 1 MiB."""
    script = """
import resource, signal, sys
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.errors import BackendError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
store = RocksByteStore("mine", sys.argv[1])
for number in range(100):
    rows = [(number.to_bytes(4, "big") + bytes([row]), b"v" * 1000) for row in range(50)]
    try:
        store.write(rows)
    except BackendError as error:
        print(number, error)
        break
"""
    with child(script, path) as writer:
        assert writer.stdout is not None
        number, _, message = writer.stdout.read().partition(" ")
    assert "'mine'" in message
    assert "cannot write a batch: IO error" in message
    with RocksByteStore("mine", path) as store:
        found = {int.from_bytes(key[:4], "big") for key, _ in store.range()}
    assert found == set(range(int(number)))
    assert number


@pytest.mark.parametrize("row", [("text", b"v"), (b"k", "text"), (b"k", 1)])
def test_only_bytes_are_rows(path: Path, row: Change) -> None:
    with RocksByteStore("mine", path) as store:
        with pytest.raises(TypeError, match=r"'mine' in .*keys and values are bytes"):
            store.put(*row)  # type: ignore[arg-type]
        for sync in Sync:
            with pytest.raises(TypeError, match=r"'mine' in .*keys and values are bytes"):
                store.write([row], sync=sync)
        with pytest.raises(TypeError):
            store.write([(b"a", b"1"), row])
        with pytest.raises(TypeError, match=r"'mine' in .*keys and values are bytes"):
            store.write([(b"a", b"1"), row], sync=Sync.NONE)
        assert list(store.range()) == []


# -- memory ----------------------------------------------------------------------------------


def test_stores_share_the_write_buffers(tmp_path: Path) -> None:
    """However many stores are written to in turn, and then left alone."""
    budget = RocksBudget(MIB, 4 * MIB)
    stores = [RocksByteStore(f"s{n}", tmp_path / str(n), budget) for n in range(6)]
    try:
        for store in stores:
            for number in range(60):
                store.write(numbered(300, b"v" * 100, prefix=b"%d" % number))
                assert 0 < budget.write_buffer_used_bytes < 5 * MIB
        busy = stores[-1].path
        # Two MiB in shares of a quarter of one, and not a file with every batch.
        assert len(files(busy, ".sst")) < 12
    finally:
        for store in stores:
            store.close()
    assert budget.write_buffer_used_bytes == 0


def test_the_share_of_a_store_follows_their_number(tmp_path: Path) -> None:
    budget = RocksBudget(MIB, 32 * MIB)
    assert budget.share_bytes == 16 * MIB
    stores = [RocksByteStore(f"s{n}", tmp_path / str(n), budget) for n in range(5)]
    assert budget.share_bytes == 2 * MIB
    stores.pop().close()
    assert budget.share_bytes == 4 * MIB
    budget.resize(MIB, 64 * MIB)
    assert budget.share_bytes == 8 * MIB
    for store in stores:
        store.close()
    assert budget.share_bytes == 32 * MIB


def test_a_smaller_share_also_binds_stores_that_are_open(tmp_path: Path) -> None:
    budget = RocksBudget(MIB, 8 * MIB)
    first = RocksByteStore("first", tmp_path / "first", budget)
    first.write(numbered(10_000, b"v" * 100))
    others = [RocksByteStore(f"s{n}", tmp_path / str(n), budget) for n in range(7)]
    for number in range(3):
        first.write(numbered(10, b"v", prefix=b"%d" % number))
    for store in (first, *others):
        store.close()
    # What stood in the buffer when the others came, and what was left at the end.
    assert len(files(first.path, ".sst")) == 2


def test_a_budget_smaller_than_rocksdb_can_have_still_works(tmp_path: Path) -> None:
    budget = RocksBudget(0, 64 * 1024)
    stores = [RocksByteStore(f"s{n}", tmp_path / str(n), budget) for n in range(3)]
    for store in stores:
        store.write(numbered(5_000, b"v" * 10))
        assert len(list(store.range())) == 5_000
        store.close()


def test_a_store_that_is_opened_again_keeps_to_its_budget(path: Path) -> None:
    """RocksDB's bindings would give it a cache of its own, and the options of its making."""
    with RocksByteStore("mine", path, RocksBudget(64 * MIB, MIB)) as store:
        store.write(numbered(20_000, b"v" * 100))
    budget = RocksBudget(16 * MIB, MIB)
    with RocksByteStore("mine", path, budget) as store:
        assert budget.block_cache_used_bytes < MIB
        assert len(list(store.range())) == 20_000
        assert MIB < budget.block_cache_used_bytes < 17 * MIB


def test_stores_without_a_budget_share_that_of_the_process(tmp_path: Path) -> None:
    before = process_budget().share_bytes
    stores = [RocksByteStore(f"s{n}", tmp_path / str(n)) for n in range(2)]
    assert process_budget().share_bytes < before
    for store in stores:
        store.close()
    assert process_budget().share_bytes == before


def test_a_scan_keeps_its_own_bound(path: Path) -> None:
    """RocksDB's bindings point into the bound's bytes, which the caller may forget."""
    with RocksByteStore("mine", path) as store:
        store.write((b"k" * 600 + key, b"v") for key, _ in numbered(1_000))
        for reverse in (False, True):
            bound = bytearray(b"k" * 600 + b"row\x02\x00")
            scan = store.range(None, bytes(bound), reverse=reverse)
            others = [bytes([byte]) * len(bound) for byte in (0, 0x61, 0x7F, 0xFF) * 50]
            assert len(list(scan)) == 512
            del others


# -- notes and what is kept aside ----------------------------------------------------------


def test_a_note_is_kept_with_the_rows_and_is_none_of_them(tmp_path: Path) -> None:
    with RocksByteStore("rows", tmp_path) as store:
        assert store.note() is None
        store.write([(b"", b"user's"), (b"prepared", b"too")])
        store.write_noted([(b"a", b"1")], b"one")
        store.write_noted([], b"two")
        assert store.note() == b"two"
    with RocksByteStore("rows", tmp_path) as store:
        assert store.note() == b"two"
        assert list(store.range()) == [(b"", b"user's"), (b"a", b"1"), (b"prepared", b"too")]
        store.write([(b"a", None)])
        assert store.note() == b"two"


def test_what_is_kept_aside_goes_with_the_next_batch(tmp_path: Path) -> None:
    changes = [(b"a", b"1"), (b"b", None)]
    with RocksByteStore("rows", tmp_path) as store:
        assert store.prepared() is None
        assert store.prepare(changes, b"note")
        assert list(store.range()) == []
    with RocksByteStore("rows", tmp_path) as store:
        assert store.prepared() == (b"note", changes)
        store.write([(b"c", b"3")], sync=Sync.NONE)
        assert store.prepared() == (b"note", changes)
        store.write(changes)
        assert store.prepared() is None
    with RocksByteStore("rows", tmp_path) as store:
        assert store.prepared() is None
        assert list(store.range()) == [(b"a", b"1"), (b"c", b"3")]


def test_notes_of_a_closed_store_are_refused(tmp_path: Path) -> None:
    store = RocksByteStore("rows", tmp_path)
    store.write_noted([], b"one")
    store.close()
    for call in (
        lambda: store.prepare([], b""),
        lambda: store.write_noted([], b""),
    ):
        with pytest.raises(StoreClosedError):
            call()
