"""The tasks of one worker: what they are made with, what they take up, how they end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    AutoOffsetReset,
    Materialized,
    Processor,
    Record,
    StreamsBuilder,
    StreamsError,
    serdes,
)
from thalweg.stores.api import KeyValueStore
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.bytes.rocks_budget import process_budget
from thalweg.stores.errors import StoreMovedError
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import BrokerError
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import TopicPartition

MIB = 1024 * 1024


def passing() -> StreamsBuilder:
    """Passes records on."""
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    return builder


def counting() -> StreamsBuilder:
    """Counts the records of each key."""
    builder = StreamsBuilder()
    counts = builder.stream("in").group_by_key().count(materialized=Materialized("counts"))
    counts.to_stream().to("out", value_serde=serdes.int64)
    return builder


@pytest.fixture
def budget() -> Iterator[Any]:
    """Returns the process's budget and sets it back to the defaults."""
    defaults = StreamsConfig(application_id="defaults")
    yield process_budget()
    process_budget().resize(defaults.rocksdb_block_cache_bytes, defaults.rocksdb_write_buffer_bytes)


def test_the_settings_bound_the_memory_of_all_rocksdb_stores(tmp_path: Path, budget: Any) -> None:
    with RocksByteStore("rows", tmp_path / "rows") as store:
        store.write((b"%06d" % n, b"v" * 100) for n in range(40_000))
    sizes = {"rocksdb_block_cache_bytes": MIB, "rocksdb_write_buffer_bytes": 32 * MIB}
    with Steps(passing(), Log(), tmp_path / "state", **sizes):
        share_bytes = budget.share_bytes
        with RocksByteStore("rows", tmp_path / "rows") as store:
            assert len(list(store.range())) == 40_000
            assert budget.block_cache_used_bytes < 2 * MIB
    with Steps(passing(), Log(), tmp_path / "state"):
        assert budget.share_bytes == 2 * share_bytes
        with RocksByteStore("rows", tmp_path / "rows") as store:
            assert len(list(store.range())) == 40_000
            assert budget.block_cache_used_bytes > 3 * MIB


@pytest.mark.parametrize("where", ["checkpoint", "compile", "read"])
def test_a_task_whose_start_met_a_passing_fault_is_started_later(
    tmp_path: Path, where: str
) -> None:
    log = Log()
    log.send("in", ("a", "1"))
    with Steps(counting(), log, tmp_path).start() as steps:
        assert steps.process() == 1
        steps.close()
    log.send("in", ("a", "2"))
    steps = Steps(counting(), log, tmp_path).create()
    with steps, pytest.MonkeyPatch.context() as patch:

        def away(*_arguments: Any, **_more: Any) -> Any:
            raise BrokerError("the log is away", retriable=True)

        if where == "checkpoint":
            patch.setattr(steps.manager.committer, "checkpoint", away)
        elif where == "compile":
            patch.setattr(steps.transport, "sender", away)
        else:
            patch.setattr(steps.manager.reader, "add", away)
        with pytest.raises(BrokerError):
            steps.restore()
        assert not steps.running
        patch.undo()
        steps.restore()
        assert steps.process() == 1
        steps.commit()
        assert steps.manager.by_partition.keys() == {TopicPartition("in", 0)}
        store = steps.task().stores["counts"]
        assert isinstance(store, KeyValueStore)
        assert store.get("a").value == 2


# -- topics that a pattern comes to match --------------------------------------------------


def by_pattern() -> StreamsBuilder:
    """Passes on what any topic `in…` brings."""
    builder = StreamsBuilder()
    builder.stream(re.compile("in.*")).to("out")
    return builder


def take_up(steps: Steps) -> None:
    """Lets the member look for new topics and the tasks take them up."""
    steps.clock.advance(10_000)
    change = steps.member.poll(steps.clock.now_ms())
    assert change is not None
    steps.manager.create(change.assignment.active)


def test_a_running_task_takes_up_topics_that_its_pattern_comes_to_match(tmp_path: Path) -> None:
    log = Log()
    log.send("in-1", ("a", "1"))
    with Steps(by_pattern(), log, tmp_path).start() as steps:
        assert steps.process() == 1
        log.send("in-2", ("b", "2"))
        assert steps.process() == 0
        take_up(steps)
        assert steps.process() == 1
        steps.commit()
        assert log.committed("app", "in-2") == 1
    with Steps(by_pattern(), log, tmp_path).start() as steps:
        assert steps.process() == 0


def test_a_task_holds_on_to_no_records_it_has_processed(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"), ("b", "2"))
    builder = StreamsBuilder()
    held: list[int] = []
    tasks: list[Any] = []
    builder.stream("in").for_each(lambda *_: held.append(len(tasks[0].current.run)))
    with Steps(builder, log, tmp_path).start() as steps:
        tasks += steps.manager.running.values()
        assert steps.process() == 2
        assert held == [2, 2]  # for as long as one of them may fail
        assert list(tasks[0].current.run) == []


def test_a_task_still_being_restored_takes_up_new_topics_as_well(tmp_path: Path) -> None:
    builder = StreamsBuilder()
    builder.stream(re.compile("in.*")).group_by_key().count(name="counts")
    log = Log()
    log.send("in-1", *((f"k{n}", "x") for n in range(10)))
    with Steps(builder, log, tmp_path / "one").start() as steps:
        steps.process()
        steps.close()
    with Steps(builder, log, tmp_path / "two").create() as steps:
        steps.manager.restore(3, 0)
        log.send("in-2", ("k0", "x"))
        take_up(steps)
        steps.restore()
        assert steps.process() == 1
        steps.commit()
        assert steps.task().stores["counts"].read_only().get("k0").value == 2


def test_more_partitions_make_more_tasks(tmp_path: Path) -> None:
    log = Log()
    log.create("in-1", 1)
    with Steps(by_pattern(), log, tmp_path).start() as steps:
        log.create("in-2", 3)
        take_up(steps)
        steps.restore()
        assert [str(task.id) for task in steps.running] == ["0_0", "0_1", "0_2"]
        assert steps.task("0_0").partitions == [("in-1", 0), ("in-2", 0)]
        assert steps.task("0_2").partitions == [("in-2", 2)]


# -- where a source begins -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        (None, ["1", "2", "3"]),
        ("earliest", ["1", "2", "3"]),
        ("latest", []),
        ("by_duration", ["2", "3"]),
    ],
)
def test_a_source_without_a_committed_offset_begins_where_it_says(
    tmp_path: Path, reset: str | None, expected: list[str]
) -> None:
    now_ms = 1_000_000_000
    resets = {
        None: None,
        "earliest": AutoOffsetReset.earliest(),
        "latest": AutoOffsetReset.latest(),
        "by_duration": AutoOffsetReset.by_duration(timedelta(hours=1)),
    }
    builder, log = StreamsBuilder(), Log()
    builder.stream("in", offset_reset=resets[reset]).to("out")
    hour_ms = 3_600_000
    log.send(
        "in",
        *((None, str(n)) for n in (1, 2, 3)),
        timestamps=(now_ms - hour_ms - 1, now_ms - hour_ms, now_ms),
    )
    with Steps(builder, log, tmp_path, now_ms=now_ms).start() as steps:
        steps.process()
        log.send("in", (None, "new"), timestamps=[now_ms])
        steps.process()
        steps.close()
    assert [seen.value for seen in log.read("out")] == [*expected, "new"]
    with Steps(builder, log, tmp_path, now_ms=now_ms).start() as steps:
        assert steps.process() == 0


def test_a_source_that_may_not_choose_says_so(tmp_path: Path) -> None:
    builder, log = StreamsBuilder(), Log()
    builder.stream("in", offset_reset=AutoOffsetReset.none()).to("out")
    with (
        Steps(builder, log, tmp_path).create() as steps,
        pytest.raises(StreamsError, match=r'"none".*"earliest" or "latest"') as raised,
    ):
        steps.restore()
    assert (raised.value.topic, raised.value.partition) == ("in", 0)


# -- closing -------------------------------------------------------------------------------


def test_closing_a_task_gives_its_partitions_back(tmp_path: Path) -> None:
    log = Log(default_partitions=2)
    log.create("in", 2)
    with Steps(passing(), log, tmp_path).start() as steps:
        log.send("in", ("a", "0"), partition=0)
        log.send("in", ("a", "1"), partition=1)
        steps.manager.close(TaskId(0, 0), clean=True)
        assert steps.process() == 1
        assert set(steps.manager.by_partition) == {TopicPartition("in", 1)}
        steps.manager.create({TaskId(0, 0), TaskId(0, 1)})
        steps.restore()
        assert steps.process() == 1
        assert (steps.manager.created_total, steps.manager.closed_total) == (3, 1)


def test_all_tasks_are_closed_though_one_fails(tmp_path: Path) -> None:
    class Closing(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None: ...

        def close(self) -> None:
            raise ValueError("no")

    builder, log = StreamsBuilder(), Log(default_partitions=2)
    builder.stream("in").process(Closing, name="closing")
    with Steps(builder, log, tmp_path).start() as steps:
        with pytest.raises(StreamsError, match=r"ValueError: no \[task 0_0, node closing\]"):
            steps.close()
        assert steps.manager.running == {}


# -- questions -----------------------------------------------------------------------------


def test_faces_of_a_partition_that_is_not_here_are_said_to_be_elsewhere(tmp_path: Path) -> None:
    builder, log = StreamsBuilder(), Log()
    builder.stream("in").group_by_key().count(name="counts")
    with Steps(builder, log, tmp_path).start() as steps:
        assert len(steps.manager.read_only_stores("counts", 0) or ()) == 1
        with pytest.raises(StoreMovedError, match="partition 7 of store 'counts'"):
            steps.manager.read_only_stores("counts", 7)
        steps.manager.close(TaskId(0, 0), clean=True)
        assert steps.manager.read_only_stores("counts") is None


def test_a_group_with_another_topology_is_told_so(tmp_path: Path) -> None:
    with (
        Steps(passing(), Log(), tmp_path) as steps,
        pytest.raises(StreamsError, match="all members of a group must run the same topology"),
    ):
        steps.manager.create({TaskId(7, 0)})


def test_task_ids_are_read_as_they_are_written() -> None:
    assert TaskId.parse(str(TaskId(3, 14))) == TaskId(3, 14)
    for text in ("", "1", "1_", "_1", "a_1", "1_-1", "1__1"):
        with pytest.raises(ValueError, match="a task id looks like 0_1"):
            TaskId.parse(text)
