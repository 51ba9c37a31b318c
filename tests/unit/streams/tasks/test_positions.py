"""Which positions a group has: up to the end of what was processed, and from the very first."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.streams.running import Log, word_count
from tests.unit.streams.tasks.steps import Steps
from tests.unit.streams.working import NOW_MS, running, worker_of
from thalweg import AutoOffsetReset, StreamsBuilder, serdes
from thalweg.stores.formats import decode_partition_metadata
from thalweg.streams.clock import ManualClock
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition

WORDS = "app-counts-repartition"
RESETS = {
    "earliest": AutoOffsetReset.earliest(),
    "latest": AutoOffsetReset.latest(),
    "by_duration": AutoOffsetReset.by_duration(timedelta(hours=1)),
}


def passing(topic: str = "in", **source: AutoOffsetReset) -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.stream(topic, **source).to("out")
    return builder


@pytest.fixture
def gap(tmp_path: Path) -> Log:
    """Returns a log with a topic of three offsets that are no records.

    What an application consumes in the commit that makes it is never written.
    """
    log = Log()
    log.send("lines", (None, "a b a"))
    with Steps(word_count(), log, tmp_path / "gap").start() as steps:
        steps.process()
        steps.commit()
    assert (log.raw(WORDS), log.end(WORDS)) == ([], 3)
    log.engine.delete_offsets("app")
    return log


# -- up to the end -------------------------------------------------------------------------


def test_offsets_that_are_no_records_are_committed(tmp_path: Path, gap: Log) -> None:
    with Steps(passing(WORDS), gap, tmp_path).start() as steps:
        assert steps.process() == 0
        steps.commit()
        assert gap.committed("app", WORDS) == 3


def test_offsets_behind_records_that_wait_are_not(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((None, str(n)) for n in range(3)), timestamps=(5, 6, 7))
    with Steps(passing(), log, tmp_path).start() as steps:
        task, manager = steps.task(), steps.manager
        for partition, records in manager.reader.poll(1_000, 0):
            task.add(partition, records)
        assert manager.reader.position(TopicPartition("in", 0)) == 3
        steps.commit()
        assert log.committed("app", "in") == 0
        assert task.process(steps.clock.now_ms(), 2) == 2
        steps.commit()
        assert log.committed("app", "in") == 2


def test_a_position_that_moves_without_records_keeps_the_time(tmp_path: Path) -> None:
    log = Log()
    log.send("in", (None, "1"), timestamps=[7])
    with Steps(passing(), log, tmp_path).start() as steps:
        steps.process()
        steps.commit()
        steps.task().offsets.move(TopicPartition("in", 0), 0)  # as if it had stood before
        steps.commit()
        with log.transport("app") as transport:
            at = TopicPartition("in", 0)
            known = transport.committed([at])[at]
        assert known.offset == 1
        assert decode_partition_metadata(known.metadata) == 7


def test_nothing_is_left_where_the_rest_of_a_topic_is_no_records(tmp_path: Path, gap: Log) -> None:
    worker = worker_of(passing(WORDS), gap, tmp_path)
    with running(worker) as run:
        run.until(lambda: worker.progress().is_idle)
        assert worker.progress().lag_records == 0
        assert gap.committed("app", WORDS) == 3


# -- from the very first -------------------------------------------------------------------


@pytest.mark.parametrize("reset", RESETS)
def test_what_comes_between_a_stop_and_the_next_start_is_read(tmp_path: Path, reset: str) -> None:
    log = Log()
    log.send("in", (None, "old"))
    for state_dir in ("one", "two"):
        builder = passing(offset_reset=RESETS[reset])
        worker = worker_of(builder, log, tmp_path / state_dir)
        with running(worker) as run:
            run.until(lambda worker=worker: worker.progress().is_idle)
        log.send("in", (None, "between"))
    expected = ["old", "between"] if reset == "earliest" else ["between"]
    assert [seen.value for seen in log.read("out")] == expected


@pytest.mark.parametrize("reset", RESETS)
def test_a_quiet_partition_has_a_position(tmp_path: Path, reset: str) -> None:
    log = Log(default_partitions=2)
    log.create("in", 2)
    log.send("in", (None, "x"), partition=0)
    with Steps(passing(offset_reset=RESETS[reset]), log, tmp_path).start() as steps:
        steps.process()
        steps.close()
    first = 0 if reset == "earliest" else 1
    assert [log.committed("app", "in", p) for p in (0, 1)] == [first or 1, 0]


@pytest.mark.parametrize("reset", ["latest", "by_duration"])
def test_a_position_that_would_be_another_one_later_is_committed_at_once(
    tmp_path: Path, reset: str
) -> None:
    # The clock stands still, so that no commit is due: a kill may come before the first.
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", (None, "old"))
    worker = worker_of(
        passing(offset_reset=RESETS[reset]), log, tmp_path, clock=clock, commit_interval_ms=60_000
    )
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in") == 1)


def test_topics_and_partitions_that_come_later_have_positions(tmp_path: Path) -> None:
    log = Log()
    log.create("in-1", 1)
    builder = StreamsBuilder()
    builder.stream(re.compile("in.*"), offset_reset=RESETS["latest"]).to("out")
    clock = ManualClock(NOW_MS)
    worker = worker_of(builder, log, tmp_path, clock=clock, commit_interval_ms=60_000)
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in-1") == 0)
        log.create("in-2", 2)
        clock.advance(10_000)
        run.until(lambda: [log.committed("app", "in-2", p) for p in (0, 1)] == [0, 0])
    log.send("in-2", (None, "between"), partition=1)
    worker = worker_of(builder, log, tmp_path)
    with running(worker) as run:
        run.until(lambda: [seen.value for seen in log.read("out")] == ["between"])


def test_a_topic_that_comes_back_goes_on_where_the_group_is(tmp_path: Path) -> None:
    log = Log()
    log.send("in-1", (None, "a"))
    builder = StreamsBuilder()
    builder.stream(re.compile("in.*"), value_serde=serdes.string).to("out")
    with Steps(builder, log, tmp_path).start() as steps:
        steps.process()
        log.send("in-2", (None, "b"), (None, "c"))
        with log.transport("app") as other:
            other.commit({TopicPartition("in-2", 0): OffsetAndMetadata(1)})
        steps.clock.advance(10_000)
        change = steps.member.poll(steps.clock.now_ms())
        assert change is not None
        steps.manager.create(change.assignment.active)
        assert steps.process() == 1
        steps.commit()
    assert [seen.value for seen in log.read("out")] == ["a", "c"]
