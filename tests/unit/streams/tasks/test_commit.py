"""The order of a commit, as the log sees it; and what is left where a commit fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    BrokerError,
    Materialized,
    ProcessingError,
    ProductionError,
    StreamsBuilder,
    StreamsError,
    TaskMigratedError,
    serdes,
)
from thalweg.stores.directory import read_checkpoint
from thalweg.stores.formats import decode_partition_metadata
from thalweg.streams.clock import ManualClock
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.commit import CHECKPOINT_RECORDS
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition, Transport

COUNTS = "app-counts-changelog"
Offsets = Mapping[TopicPartition, OffsetAndMetadata]


class Watched(MemoryTransport):
    """A transport that lets a test look around at each step, and fail there."""

    def __init__(self, log: Log) -> None:
        super().__init__(log.engine, "app", now_ms=ManualClock(1_000_000).now_ms)
        self.at_flush: Callable[[], None] = lambda: None
        self.at_commit: Callable[[Offsets], None] = lambda _offsets: None
        self._commits = False

    def flush(self) -> None:
        if not self._commits:
            self.at_flush()
        super().flush()

    def commit(self, offsets: Offsets) -> None:
        self.at_commit(offsets)
        self._commits = True
        try:
            super().commit(offsets)
        finally:
            self._commits = False


def counting(**count: Any) -> StreamsBuilder:
    """Counts records by key, with one store that writes behind a cache."""
    builder = StreamsBuilder()
    counts = builder.stream("in").group_by_key().count(name="counts", **count)
    counts.to_stream().to("out", value_serde=serdes.int64)
    return builder


def watched(
    log: Log, state_dir: Path, builder: StreamsBuilder | None = None, **settings: Any
) -> tuple[Steps, Watched]:
    """Returns started tasks and the transport they write to."""
    transport = Watched(log)

    def wrap(opened: Transport) -> Transport:
        opened.close()
        return transport

    steps = Steps(builder or counting(), log, state_dir, transport=wrap, **settings)
    return steps.start(), transport


def sent(transport: Transport, topic: str) -> int:
    """Counts what a transport has sent to a topic, committed or not."""
    count = transport.partition_count(topic)
    if count is None:
        return 0
    reader, found = transport.reader(), 0
    reader.add(transport.begin_offsets([TopicPartition(topic, p) for p in range(count)]))
    while batches := reader.poll(100_000, 0):
        found += sum(len(records) for _, records in batches)
    reader.close()
    return found


def stored(task: ActiveTask) -> int:
    """Counts the rows that have left the process's memory for the backend."""
    rows: Any = task.stores["counts"]
    return len(list(rows.rows.backend.range(None, None)))


def checkpoint(task: ActiveTask) -> dict[tuple[str, int], int]:
    return read_checkpoint(task.directory / ".checkpoint")


def test_caches_then_log_then_offsets_then_stores(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("b", "x"), ("a", "x"), timestamps=(5, 9, 7))
    steps, transport = watched(log, tmp_path)
    seen: list[Any] = []
    with steps:
        task = steps.task()
        steps.process()
        seen.append(("processed", sent(transport, "out"), sent(transport, COUNTS), stored(task)))
        transport.at_flush = lambda: seen.append(
            ("flush", sent(transport, "out"), sent(transport, COUNTS), stored(task))
        )
        transport.at_commit = lambda offsets: seen.append(
            ("commit", dict(offsets), stored(task), log.committed("app", "in"))
        )
        steps.commit()
        seen.append(("committed", log.committed("app", "in"), stored(task), len(log.read("out"))))
    (at, (offset, metadata)) = next(iter(seen[2][1].items()))
    assert seen == [
        ("processed", 0, 0, 0),
        ("flush", 2, 2, 0),
        ("commit", {at: (offset, metadata)}, 0, None),
        ("committed", 3, 2, 2),
    ]
    assert (at, offset) == (("in", 0), 3)
    assert decode_partition_metadata(metadata) == 9


def test_the_tasks_of_a_worker_are_committed_as_one(tmp_path: Path) -> None:
    log = Log(default_partitions=3)
    log.create("in", 3)
    for partition in range(3):
        log.send("in", (f"k{partition}", "x"), partition=partition)
    steps, transport = watched(log, tmp_path)
    commits: list[Offsets] = []
    with steps:
        steps.process()
        transport.at_flush = lambda: commits.append({})
        transport.at_commit = commits.append
        steps.commit()
        assert commits[0] == {}
        assert {at: known.offset for at, known in commits[1].items()} == {
            ("in", partition): 1 for partition in range(3)
        }
        assert len(commits) == 2
        assert log.last_counts("out") == {"k0": 1, "k1": 1, "k2": 1}


def test_only_what_was_consumed_since_the_last_commit_is_committed(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"))
    steps, transport = watched(log, tmp_path)
    commits: list[Offsets] = []
    transport.at_commit = commits.append
    with steps:
        task = steps.task()
        steps.process()
        task.scope.commit_requested = True
        steps.commit()
        steps.commit()
        assert [len(offsets) for offsets in commits] == [1, 0]
        assert not task.scope.commit_requested
        assert steps.manager.committer.commits_total == 2


# -- checkpoints ---------------------------------------------------------------------------


def test_a_checkpoint_comes_once_enough_was_logged_and_after_the_commit(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((f"k{n}", "x") for n in range(CHECKPOINT_RECORDS - 1)))
    steps, transport = watched(log, tmp_path, statestore_cache_max_bytes=0)
    seen: list[Any] = []
    with steps:
        task = steps.task()
        transport.at_commit = lambda _offsets: seen.append(checkpoint(task))
        steps.process()
        steps.commit()
        assert checkpoint(task) == {}
        log.send("in", ("one more", "x"))
        steps.process()
        steps.commit()
        assert seen == [{}, {}]
        assert checkpoint(task) == {(COUNTS, 0): CHECKPOINT_RECORDS - 1}
        assert log.end(COUNTS) == CHECKPOINT_RECORDS
        log.send("in", ("and another", "x"))
        steps.process()
        steps.commit()
        assert checkpoint(task) == {(COUNTS, 0): CHECKPOINT_RECORDS - 1}
        steps.close()
    assert checkpoint(task) == {(COUNTS, 0): CHECKPOINT_RECORDS}


@pytest.mark.parametrize("options", [{"store": "memory"}, {"logging": False}], ids=str)
def test_what_is_not_kept_on_disk_or_not_logged_has_no_checkpoint(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    builder, log = StreamsBuilder(), Log()
    builder.stream("in").group_by_key().count(materialized=Materialized("counts", **options))
    log.send("in", ("a", "x"))
    with Steps(builder, log, tmp_path).start() as steps:
        task = steps.task()
        steps.process()
        steps.close()
        assert not (task.directory / ".checkpoint").exists()


def test_flushing_pushes_everything_into_the_log_without_a_commit(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"))
    steps, transport = watched(log, tmp_path)
    with steps:
        steps.process()
        steps.manager.committer.flush(steps.running)
        assert sent(transport, "out") == 1
        assert log.read("out") == []
        assert log.committed("app", "in") is None
        assert stored(steps.task()) == 0


# -- commits that fail ---------------------------------------------------------------------


def refuse(error: Exception) -> Callable[..., None]:
    def raise_it(*_: Any) -> None:
        raise error

    return raise_it


@pytest.mark.parametrize("step", ["flush", "commit"])
@pytest.mark.parametrize(
    "error",
    [
        ProductionError("a record is too large"),
        BrokerError("the log is gone"),
        TaskMigratedError("fenced"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_commit_that_fails_leaves_stores_and_checkpoint_behind(
    tmp_path: Path, step: str, error: StreamsError
) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("b", "x"))
    steps, transport = watched(log, tmp_path)
    with steps:
        steps.process()
        steps.commit()
        log.send("in", ("c", "x"), ("a", "x"))
        steps.process()
        setattr(transport, f"at_{step}", refuse(error))
        with pytest.raises(type(error)) as raised:
            steps.commit()
        assert raised.value is error
        task = steps.task()
        assert stored(task) == 2
        assert checkpoint(task) == {}
        assert log.committed("app", "in") == 2
        assert log.last_counts("out") == {"a": 1, "b": 1}
        assert steps.manager.committer.commits_total == 1
        steps.close(clean=False)

    with Steps(counting(), log, tmp_path).start() as again:
        assert again.process() == 2
        again.commit()
        assert log.last_counts("out") == {"a": 2, "b": 1, "c": 1}


def test_a_record_the_log_refuses_commits_nothing(tmp_path: Path) -> None:
    log = Log()
    log.create("out", max_message_bytes="100")
    log.send("in", ("k", "small"), ("k", "x" * 1_000))
    builder = StreamsBuilder()
    records = builder.stream("in")
    records.to("out")
    records.to("copy")
    with Steps(builder, log, tmp_path).start() as steps:
        steps.process()
        with pytest.raises(ProductionError, match=r"out.*max\.message\.bytes|max\.message\.bytes"):
            steps.commit()
        assert log.committed("app", "in") is None
        assert log.read("out") == log.read("copy") == []


def test_an_error_behind_a_cache_commits_nothing(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "x"))
    builder = StreamsBuilder()
    counts = builder.stream("in").group_by_key().count(name="counts").to_stream()
    counts.map_values(lambda count: 1 // (count - 1)).to("out", value_serde=serdes.int64)
    steps, transport = watched(log, tmp_path, builder)
    commits: list[Offsets] = []
    transport.at_commit = commits.append
    with steps:
        steps.process()
        with pytest.raises(ProcessingError, match="ZeroDivisionError"):
            steps.commit()
        assert commits == []
        assert stored(steps.task()) == 0


def test_a_store_that_cannot_write_leaves_the_checkpoint_behind(tmp_path: Path) -> None:
    # The commit has happened: a restart restores what the store lacks.
    log = Log()
    log.send("in", ("a", "x"))
    steps, transport = watched(log, tmp_path)
    with steps:
        task = steps.task()
        steps.process()

        def close_under(_offsets: Offsets) -> None:
            rows: Any = task.stores["counts"]
            rows.rows.backend.close()

        transport.at_commit = close_under
        with pytest.raises(StreamsError, match="task 0_0"):
            steps.commit()
        assert checkpoint(task) == {}
        assert log.committed("app", "in") == 1
        steps.close(clean=False)

    with Steps(counting(), log, tmp_path).create() as again:
        assert again.manager.restorer.progress().remaining == 1
        again.restore()
        assert again.process() == 0
        assert again.task().stores["counts"].read_only().get("a").value == 1
