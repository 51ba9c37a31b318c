"""Stores come back from their changelogs: from where, how far, and what is not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.streams.running import Log, rows_of
from tests.unit.streams.tasks.steps import Steps, Told
from thalweg import (
    BrokerError,
    KeyValueStore,
    Materialized,
    Processor,
    Record,
    RestoreListener,
    StreamsBuilder,
    TimeWindows,
    Topology,
    key_value_store,
    lru_store,
    serdes,
)
from thalweg.stores.directory import read_checkpoint, write_checkpoint
from thalweg.streams.clock import ManualClock
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.restoration import NO_END, Restorer, StoreRestoration
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import Reader, TopicPartition

COUNTS = "app-counts-changelog"
TASK = TaskId(0, 0)


def counting(**options: Any) -> StreamsBuilder:
    """Counts records by key."""
    builder = StreamsBuilder()
    counts = (
        builder.stream("in").group_by_key().count(materialized=Materialized("counts", **options))
    )
    counts.to_stream().to("out", value_serde=serdes.int64)
    return builder


class Writer(Processor[str, str, Any, Any]):
    """Puts records into the store named by their key; an empty value deletes."""

    def init(self, context: Any) -> None:
        self.context = context

    def process(self, record: Record[str, str]) -> None:
        store: KeyValueStore[str, str] = self.context.get_state_store(record.key)
        key, _, value = record.value.partition("=")
        store.put(key, value or None)


def writing(*stores: Any) -> StreamsBuilder:
    """Writes to stores of texts through the Processor API."""
    builder = StreamsBuilder()
    for store in stores:
        builder.add_state_store(store)
    builder.stream("in").process(Writer, *(store.name for store in stores))
    return builder


def text_store(name: str) -> Any:
    return key_value_store(name, serdes.string, serdes.string)


def run(
    builder: StreamsBuilder | Topology,
    log: Log,
    state_dir: Path,
    *,
    clean: bool = True,
    **more: Any,
) -> int:
    """Restores, processes what there is, closes; returns how many records were restored."""
    with Steps(builder, log, state_dir, **more).start() as steps:
        steps.process()
        steps.commit()
        restored = steps.manager.restorer.restored_total
        if clean:
            steps.close()
    return restored


def counts_of(steps: Steps) -> dict[str, int]:
    rows = rows_of(steps.task().stores["counts"].read_only())
    return {key: value.value for key, value in rows.items()}


def checkpoint_file(state_dir: Path) -> Path:
    return state_dir / "app" / "0_0" / ".checkpoint"


# -- from where ----------------------------------------------------------------------------


def test_a_new_store_has_nothing_to_restore(tmp_path: Path) -> None:
    log = Log()
    with Steps(counting(), log, tmp_path).start() as steps:
        assert steps.manager.restorer.is_idle
        assert counts_of(steps) == {}
        assert steps.manager.restorer.restored_total == 0


def test_without_a_directory_all_is_restored(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("b", "x"), ("a", "x"))
    run(counting(), log, tmp_path / "one")
    log.send("in", ("c", "x"), ("a", "x"))
    run(counting(), log, tmp_path / "one")

    with Steps(counting(), log, tmp_path / "two").start() as steps:
        assert counts_of(steps) == {"a": 3, "b": 1, "c": 1}
        assert steps.manager.restorer.restored_total == log.end(COUNTS) == 4
        assert steps.process() == 0


def test_after_a_clean_end_nothing_is_restored(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("b", "x"))
    run(counting(), log, tmp_path)
    with Steps(counting(), log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == 0
        assert counts_of(steps) == {"a": 1, "b": 1}


def test_after_a_crash_only_what_the_checkpoint_lacks_is_restored(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((f"k{n}", "x") for n in range(50)))
    run(counting(), log, tmp_path)
    log.send("in", ("a", "x"), ("b", "x"), ("a", "x"))
    run(counting(), log, tmp_path, clean=False)
    assert read_checkpoint(checkpoint_file(tmp_path)) == {(COUNTS, 0): 49}
    with Steps(counting(), log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == 2
        assert counts_of(steps) == {"a": 2, "b": 1} | {f"k{n}": 1 for n in range(50)}
        assert read_checkpoint(checkpoint_file(tmp_path)) == {(COUNTS, 0): 51}


def test_a_store_that_is_still_empty_does_not_spoil_the_others(tmp_path: Path) -> None:
    def both() -> StreamsBuilder:
        return writing(text_store("full"), text_store("empty"))

    log = Log()
    log.send("in", ("full", "a=1"), ("full", "b=2"))
    run(both(), log, tmp_path)
    assert run(both(), log, tmp_path) == 0
    log.send("in", ("empty", "c=3"))
    run(both(), log, tmp_path)
    with Steps(both(), log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == 0
        assert rows_of(steps.task().stores["full"]) == {"a": "1", "b": "2"}
        assert rows_of(steps.task().stores["empty"]) == {"c": "3"}


# -- what is not trusted -------------------------------------------------------------------


def store_with_a_stale_row(log: Log, state_dir: Path) -> StreamsBuilder:
    """Leaves a closed store with the row `stale`, of which no changelog knows."""
    builder = writing(text_store("rows"))
    log.send("in", ("rows", "a=1"), ("rows", "stale=1"), ("rows", "b=2"), ("rows", "stale="))
    with Steps(builder, log, state_dir).start() as steps:
        steps.process()
        steps.close()
    elsewhere = Log()
    elsewhere.send("in", ("rows", "stale=1"))
    with Steps(builder, elsewhere, state_dir / "scratch").start() as steps:
        steps.process()
        steps.close()
    scratch = state_dir / "scratch" / "app" / "0_0"
    (state_dir / "app" / "0_0").rename(state_dir / "old")
    scratch.rename(state_dir / "app" / "0_0")
    return builder


@pytest.mark.parametrize("offset", [4, 5, 10**15], ids=lambda offset: f"beyond {offset}")
def test_a_checkpoint_beyond_the_changelog_is_not_trusted(tmp_path: Path, offset: int) -> None:
    log = Log()
    builder = store_with_a_stale_row(log, tmp_path)
    write_checkpoint(checkpoint_file(tmp_path), {("app-rows-changelog", 0): offset})
    with Steps(builder, log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == log.end("app-rows-changelog")
        assert rows_of(steps.task().stores["rows"]) == {"a": "1", "b": "2"}


def test_a_checkpoint_at_the_end_of_the_changelog_is_trusted(tmp_path: Path) -> None:
    log = Log()
    builder = store_with_a_stale_row(log, tmp_path)
    end = log.end("app-rows-changelog")
    write_checkpoint(checkpoint_file(tmp_path), {("app-rows-changelog", 0): end - 1})
    with Steps(builder, log, tmp_path).start() as steps:
        assert rows_of(steps.task().stores["rows"]) == {"stale": "1"}


def test_a_checkpoint_before_the_changelogs_begin_is_not_trusted(tmp_path: Path) -> None:
    log = Log()
    builder = store_with_a_stale_row(log, tmp_path)
    partition = TopicPartition("app-rows-changelog", 0)
    with log.transport() as transport:
        transport.delete_records({partition: 3})
    write_checkpoint(checkpoint_file(tmp_path), {partition: 1})
    with Steps(builder, log, tmp_path).start() as steps:
        assert "stale" not in rows_of(steps.task().stores["rows"])


@pytest.mark.parametrize(
    "content",
    [None, "", "0\n", "0\n1\n", "7\n0\n", "0\n1\nother 0 5\n", "not a checkpoint", "\udcff"],
    ids=["none", "empty", "cut", "cut in entries", "version", "other", "text", "bytes"],
)
def test_rows_that_no_checkpoint_vouches_for_are_wiped(tmp_path: Path, content: str | None) -> None:
    log = Log()
    builder = store_with_a_stale_row(log, tmp_path)
    if content is None:
        checkpoint_file(tmp_path).unlink()
    else:
        checkpoint_file(tmp_path).write_bytes(content.encode(errors="surrogateescape"))
    with Steps(builder, log, tmp_path).start() as steps:
        assert rows_of(steps.task().stores["rows"]) == {"a": "1", "b": "2"}
        assert read_checkpoint(checkpoint_file(tmp_path)) == {
            ("app-rows-changelog", 0): log.end("app-rows-changelog") - 1
        }


def test_a_store_that_cannot_be_read_is_rebuilt(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((f"k{n}", "x") for n in range(100)))
    run(counting(), log, tmp_path)
    directory = tmp_path / "app" / "0_0" / "rocksdb" / "counts"
    for file in [*directory.glob("MANIFEST-*"), *directory.glob("*.sst")]:
        file.write_bytes(b"damaged" * 100)
    with Steps(counting(), log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == 100
        assert len(counts_of(steps)) == 100


def test_records_that_vanish_while_they_are_restored_begin_anew(tmp_path: Path) -> None:
    log, told = Log(), Told()
    with Steps(counting(), log, tmp_path / "one").start() as steps:
        for number in range(10):
            log.send("in", (f"k{number}", "x"))
            steps.process()
            steps.commit()
        steps.close()
    with Steps(counting(), log, tmp_path / "two", listener=told).create() as steps:
        assert steps.manager.restore(3, 0) == 3
        with log.transport() as transport:
            transport.delete_records({TopicPartition(COUNTS, 0): 6})
        steps.restore()
        assert set(counts_of(steps)) == {f"k{n}" for n in range(6, 10)}
    assert [call[0] for call in told.calls] == [
        "start",
        "batch",
        "suspended",
        "start",
        "batch",
        "end",
    ]


class Failing(MemoryTransport):
    """Fails once where it is told to."""

    at = ""

    def high_watermarks(self, partitions: Any) -> Any:
        self._fail_at("high_watermarks")
        return super().high_watermarks(partitions)

    def reader(self, *, in_bulk: bool = False) -> Reader:
        if in_bulk:
            self._fail_at("reader")
        return super().reader(in_bulk=in_bulk)

    def _fail_at(self, at: str) -> None:
        if self.at == at:
            self.at = ""
            raise BrokerError("the log is away", retriable=True)


@pytest.mark.parametrize("at", ["high_watermarks", "reader"])
@pytest.mark.parametrize("is_standby", [False, True])
def test_a_task_whose_restoring_could_not_begin_is_made_anew(
    tmp_path: Path, at: str, is_standby: bool
) -> None:
    log, told = Log(), Told()
    log.send("in", ("a", "x"), ("b", "x"))
    run(counting(), log, tmp_path / "one")
    transport = Failing(log.engine, "app", now_ms=ManualClock(1).now_ms)
    with Steps(
        counting(), log, tmp_path / "two", transport=lambda _: transport, listener=told
    ) as steps:
        manager = steps.manager
        create = manager.create_standby if is_standby else manager.create
        if not (is_standby and at == "high_watermarks"):
            transport.at = at
            with pytest.raises(BrokerError, match="away"):
                create({TASK})
        assert (manager.restoring, manager.standby) == ({}, {})
        create({TASK})
        if is_standby:
            assert manager.update_standby(100) == 2
            return
        steps.restore()
        assert counts_of(steps) == {"a": 1, "b": 1}
        assert [call[0] for call in told.calls] == ["start", "batch", "end"]


# -- who listens ---------------------------------------------------------------------------


def test_a_listener_hears_of_start_batches_and_end(tmp_path: Path) -> None:
    log, told = Log(), Told()
    log.send("in", *((f"k{n}", "x") for n in range(5)))
    run(counting(), log, tmp_path / "one")
    changelog = (COUNTS, 0, "counts")
    with Steps(counting(), log, tmp_path / "two", listener=told).create() as steps:
        assert told.calls == [("start", *changelog, 0, 5)]
        assert steps.manager.restore(3, 0) == 3
        assert told.calls[1:] == [("batch", *changelog, 3, 3)]
        steps.restore()
        assert told.calls[2:] == [("batch", *changelog, 5, 2), ("end", *changelog, 5)]
        del told.calls[:]
        steps.close()
    # What is on disk is not restored, which is told too.
    with Steps(counting(), log, tmp_path / "two", listener=told).start():
        assert told.calls == [("start", *changelog, 5, 5), ("end", *changelog, 0)]


def test_a_listener_hears_that_a_task_goes_away_before_its_stores_are_whole(tmp_path: Path) -> None:
    log, told = Log(), Told()
    log.send("in", *((f"k{n}", "x") for n in range(5)))
    run(counting(), log, tmp_path / "one")
    changelog = (COUNTS, 0, "counts")
    with Steps(counting(), log, tmp_path / "two", listener=told).create() as steps:
        steps.manager.restore(3, 0)
        steps.manager.close(TASK, clean=True)
        assert told.calls[2:] == [("suspended", *changelog, 3)]
        del told.calls[:]
        steps.manager.create({TASK})
        steps.restore()
        batch = ("batch", *changelog, 5, 2)
        assert told.calls == [("start", *changelog, 3, 5), batch, ("end", *changelog, 2)]


def test_a_listener_hears_nothing_of_standby_tasks(tmp_path: Path) -> None:
    log, told = Log(), Told()
    log.send("in", ("a", "x"))
    run(counting(), log, tmp_path / "one")
    with Steps(counting(), log, tmp_path / "two", listener=told) as steps:
        steps.manager.create_standby({TASK})
        assert steps.manager.update_standby(100) == 1
        assert told.calls == []


def test_what_a_listener_raises_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(RestoreListener):
        def on_restore_start(self, *_args: Any) -> None:
            raise ValueError

        on_batch_restored = on_restore_end = on_restore_suspended = on_restore_start

    log = Log()
    log.send("in", ("a", "x"))
    run(counting(), log, tmp_path / "one")
    with Steps(counting(), log, tmp_path / "two", listener=Raising()).create() as steps:
        steps.manager.close(TASK, clean=True)
        steps.manager.create({TASK})
        steps.restore()
        assert counts_of(steps) == {"a": 1}
    told = "the restore listener failed at store 'counts'"
    assert [one.message.startswith(told) for one in caplog.records] == [True] * 5


# -- stores that are kept otherwise --------------------------------------------------------


def test_stores_in_memory_are_restored_each_time(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("a", "x"), ("b", "x"))
    run(counting(store="memory"), log, tmp_path)
    for _ in range(2):
        with Steps(counting(store="memory"), log, tmp_path).start() as steps:
            assert steps.manager.restorer.restored_total == log.end(COUNTS)
            assert counts_of(steps) == {"a": 2, "b": 1}
            steps.close()


def test_stores_in_memory_and_on_disk_share_a_task(tmp_path: Path) -> None:
    def built() -> StreamsBuilder:
        memory = key_value_store("memory", serdes.string, serdes.string, in_memory=True)
        return writing(text_store("disk"), memory)

    log = Log()
    log.send("in", ("disk", "a=1"), ("memory", "b=2"), ("memory", "c=3"))
    run(built(), log, tmp_path)
    with Steps(built(), log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == 2
        assert rows_of(steps.task().stores["disk"]) == {"a": "1"}
        assert rows_of(steps.task().stores["memory"]) == {"b": "2", "c": "3"}


def test_an_lru_store_keeps_the_last_rows_of_its_changelog(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *(("rows", f"k{n}={n}") for n in range(5)))
    builder = writing(lru_store("rows", 2, serdes.string, serdes.string))
    run(builder, log, tmp_path)
    with Steps(builder, log, tmp_path).start() as steps:
        assert rows_of(steps.task().stores["rows"]) == {"k3": "3", "k4": "4"}


def test_what_is_not_logged_is_not_restored_and_stays_on_disk(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("a", "x"))
    run(counting(logging=False), log, tmp_path)
    with Steps(counting(logging=False), log, tmp_path).start() as steps:
        assert steps.manager.restorer.restored_total == 0
        assert counts_of(steps) == {"a": 2}
    with log.transport() as transport:
        assert COUNTS not in transport.topics()
    with Steps(counting(logging=False), log, tmp_path / "new").start() as steps:
        assert counts_of(steps) == {}
        assert steps.process() == 0


def test_window_stores_come_back_whole(tmp_path: Path) -> None:
    builder, log = StreamsBuilder(), Log()
    windows = TimeWindows.of_size(100, grace=1_000)
    builder.stream("in").group_by_key().windowed_by(windows).count(name="counts")
    log.send("in", *(("k", "x") for _ in range(6)), timestamps=(0, 50, 100, 150, 160, 300))
    run(builder, log, tmp_path / "one")
    with Steps(builder, log, tmp_path / "two").start() as steps:
        assert steps.manager.restorer.restored_total == log.end(COUNTS)
        face = steps.task().stores["counts"].read_only()
        with face.fetch("k", 0, 1_000) as rows:
            assert [(start, row.value) for start, row in rows] == [(0, 2), (100, 3), (300, 1)]


# -- stores restored from the topic they are filled from -----------------------------------


REUSE = {"topology_optimization": "reuse.ktable.source.topics"}


def people() -> StreamsBuilder:
    """A table whose topic is its changelog, with `REUSE`."""
    builder = StreamsBuilder()
    builder.table("people", store="people")
    return builder


def people_of(steps: Steps) -> dict[str, str]:
    rows = rows_of(steps.task().stores["people"].read_only())
    return {key: value.value for key, value in rows.items()}


def test_a_table_is_restored_from_its_topic_up_to_what_was_processed(tmp_path: Path) -> None:
    log = Log()
    log.send("people", ("a", "1"), ("b", "2"), ("a", "3"))
    run(people(), log, tmp_path / "one", **REUSE)
    log.send("people", ("c", "4"), ("b", None))
    with Steps(people(), log, tmp_path / "two", **REUSE).start() as steps:
        assert steps.manager.restorer.restored_total == 3
        assert people_of(steps) == {"a": "3", "b": "2"}
        assert steps.process() == 2
        assert people_of(steps) == {"a": "3", "c": "4"}


def test_a_table_on_disk_goes_on_where_its_topic_was_processed_to(tmp_path: Path) -> None:
    log = Log()
    log.send("people", ("a", "1"), ("b", "2"))
    run(people(), log, tmp_path, **REUSE)
    assert read_checkpoint(checkpoint_file(tmp_path)) == {("people", 0): 1}
    log.send("people", ("c", "3"))
    with Steps(people(), log, tmp_path, **REUSE).start() as steps:
        assert steps.manager.restorer.restored_total == 0
        assert steps.process() == 1
        assert people_of(steps) == {"a": "1", "b": "2", "c": "3"}
        steps.close()
    assert read_checkpoint(checkpoint_file(tmp_path)) == {("people", 0): 2}


def test_a_read_only_store_is_restored_from_its_source_topic(tmp_path: Path) -> None:
    class Filling(Processor[str, str, Any, Any]):
        def init(self, context: Any) -> None:
            self.rows: KeyValueStore[str, str] = context.get_state_store("rows")

        def process(self, record: Record[str, str]) -> None:
            self.rows.put(record.key, record.value)

    builder, log = Topology(), Log()
    builder.add_read_only_state_store(text_store("rows"), "source", "in", "filling", Filling)
    log.send("in", ("a", "1"), ("b", "2"), ("a", None))
    run(builder, log, tmp_path / "one")
    with Steps(builder, log, tmp_path / "two").start() as steps:
        assert steps.manager.restorer.restored_total == 3
        assert rows_of(steps.task().stores["rows"]) == {"b": "2"}
    with log.transport() as transport:
        assert list(transport.topics()) == ["in"]


# -- slices and progress -------------------------------------------------------------------


def test_progress_tells_stores_records_and_what_is_left(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((f"k{n}", "x") for n in range(10)))
    run(counting(), log, tmp_path / "one")
    with Steps(counting(), log, tmp_path / "two").create() as steps:
        manager, seen = steps.manager, []
        while not manager.restorer.is_idle:
            progress = manager.restorer.progress()
            seen.append((progress.stores, progress.restored_total, progress.remaining))
            assert manager.restore(4, 0) <= 4
        assert seen == [(1, 0, 10), (1, 4, 6), (1, 8, 2)]
        done = manager.restorer.progress()
        assert (done.stores, done.restored_total, done.remaining) == (0, 10, 0)
        assert steps.task().restored_records_total == 10


def test_tasks_whose_stores_are_complete_run_while_others_are_restored(tmp_path: Path) -> None:
    log = Log(default_partitions=2)
    log.create("in", 2)
    log.send("in", *((f"k{n}", "x") for n in range(100)), partition=0)
    log.send("in", ("b", "x"), partition=1)
    run(counting(), log, tmp_path / "one")
    log.send("in", ("b", "x"), partition=1)
    with Steps(counting(), log, tmp_path / "two").create() as steps:
        manager = steps.manager
        first, second = TaskId(0, 0), TaskId(0, 1)
        slices = 0
        while second not in manager.running:
            manager.restore(10, 0)
            slices += 1
        assert slices <= 2
        assert first in manager.restoring
        assert manager.read_only_stores("counts") is None
        assert manager.read_only_stores("counts", 0) is None
        (face,) = manager.read_only_stores("counts", 1) or ()
        assert face.get("b").value == 1
        assert steps.process() == 1
        steps.commit()
        assert face.get("b").value == 2
        steps.restore()
        assert len(manager.read_only_stores("counts") or ()) == 2
        assert len(rows_of(steps.task("0_0").stores["counts"].read_only())) == 100


def test_a_restoring_task_can_be_closed_and_goes_on_later(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((f"k{n}", "x") for n in range(10)))
    run(counting(), log, tmp_path / "one")
    with Steps(counting(), log, tmp_path / "two").create() as steps:
        steps.manager.restore(4, 0)
        steps.manager.close(TASK, clean=True)
        assert steps.manager.restorer.is_idle
        assert read_checkpoint(checkpoint_file(tmp_path / "two")) == {(COUNTS, 0): 3}
        steps.manager.create({TASK})
        assert steps.manager.restorer.progress().remaining == 6
        steps.restore()
        assert len(counts_of(steps)) == 10


def test_the_restorer_leaves_records_behind_the_end_to_others(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("b", "x"), ("c", "x"))
    run(counting(), log, tmp_path / "one")
    with Steps(counting(store="memory"), log, tmp_path / "two").start() as steps:
        task: ActiveTask = steps.task()
        store, partition = task.stores["counts"], TopicPartition(COUNTS, 0)
        restorer = Restorer(steps.transport)
        restorer.add("0_0", [StoreRestoration("0_0", store, partition, 0, 0, 2)])
        assert restorer.restore(100, 0) == 2
        assert restorer.complete() == ["0_0"]
        (one,) = restorer.remove("0_0")
        assert (one.restored, one.position, one.remaining) == (2, 2, 0)
        restorer.close()


def test_a_store_that_follows_its_changelog_is_never_complete(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"))
    run(counting(), log, tmp_path / "one")
    with Steps(counting(), log, tmp_path / "two").start() as steps:
        manager = steps.manager
        manager.close(TASK, clean=True)
        manager.create_standby({TASK})
        assert manager.update_standby(100) == 0
        log.send("in", ("b", "x"), ("c", "x"))
        run(counting(), log, tmp_path / "three")
        assert manager.update_standby(100) == 2
        assert manager.update_standby(100) == 0
        assert manager.follower.complete() == []
        assert manager.follower.progress().remaining == 0
        (one,) = manager.follower.of_task("0_0")
        assert (one.end_offset, one.position) == (NO_END, 3)
        manager.close_standby(())
        assert read_checkpoint(checkpoint_file(tmp_path / "two")) == {(COUNTS, 0): 2}


# -- whatever happened before --------------------------------------------------------------


updates = st.lists(
    st.tuples(st.sampled_from("abcde"), st.one_of(st.none(), st.integers(0, 9))), max_size=8
)


@given(st.lists(st.tuples(updates, st.booleans(), st.booleans()), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_store_holds_what_was_committed_whatever_became_of_its_worker(
    tmp_path_factory: pytest.TempPathFactory,
    lives: list[tuple[list[tuple[str, int | None]], bool, bool]],
) -> None:
    """Lives of a worker: what it writes, whether it commits, whether it ends cleanly."""
    state_dir, log = tmp_path_factory.mktemp("state"), Log()
    expected: dict[str, str] = {}
    pending: dict[str, str | None] = {}
    for rows, commits, ends_cleanly in lives:
        if rows:
            log.send("in", *(("rows", f"{k}={'' if v is None else v}") for k, v in rows))
        pending.update({k: None if v is None else str(v) for k, v in rows})
        with Steps(writing(text_store("rows")), log, state_dir).start() as steps:
            assert rows_of(steps.task().stores["rows"]) == expected
            steps.process()
            if commits or ends_cleanly:
                steps.commit()
                expected |= {k: v for k, v in pending.items() if v is not None}
                for key in [k for k, v in pending.items() if v is None]:
                    expected.pop(key, None)
                pending.clear()
            if ends_cleanly:
                steps.close()
    with Steps(writing(text_store("rows")), log, state_dir / "elsewhere").start() as steps:
        assert rows_of(steps.task().stores["rows"]) == expected
