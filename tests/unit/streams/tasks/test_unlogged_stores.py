"""Stores that nothing restores: they hold what was committed, whatever became of the worker."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log, rows_of
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    BrokerError,
    Processor,
    Record,
    StreamsBuilder,
    key_value_store,
    serdes,
    window_store,
)
from thalweg.stores.directory import write_checkpoint
from thalweg.streams.clock import ManualClock
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import TopicPartition

TASK = TaskId(0, 0)
LOGGED, UNLOGGED = "logged", "unlogged"
CHANGELOG = TopicPartition("app-logged-changelog", 0)


class Keep(Processor[str, str, Any, Any]):
    """Puts each record into every store."""

    def process(self, record: Record[str, str]) -> None:
        for name in (LOGGED, UNLOGGED):
            self.context.get_state_store(name).put(record.key, record.value)


def keeping(*, logs: bool = False, more: str = "") -> StreamsBuilder:
    """A logged and an unlogged store; `logs` has the unlogged one logged too."""
    builder = StreamsBuilder()
    unlogged = key_value_store(UNLOGGED, serdes.string, serdes.string)
    builder.add_state_store(key_value_store(LOGGED, serdes.string, serdes.string))
    builder.add_state_store(unlogged if logs else unlogged.without_logging())
    names = [LOGGED, UNLOGGED]
    if more:
        builder.add_state_store(key_value_store(more, serdes.string, serdes.string))
        names.append(more)
    builder.stream("in").process(Keep, *names)
    return builder


def begin(log: Log, state_dir: Path, *rows: tuple[str, str]) -> None:
    """Processes and commits rows, and dies."""
    log.send("in", *rows)
    with Steps(keeping(), log, state_dir).start() as steps:
        steps.process()
        steps.commit()


def rows(steps: Steps) -> tuple[dict[str, str], dict[str, str]]:
    return rows_of(steps.task().stores[LOGGED]), rows_of(steps.task().stores[UNLOGGED])


ROWS = {"a": "1", "b": "2"}


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def dead(tmp_path: Path, log: Log) -> Path:
    """What a worker left that died before its first checkpoint."""
    begin(log, tmp_path, ("a", "1"), ("b", "2"))
    assert not (tmp_path / "app" / "0_0" / ".checkpoint").exists()
    return tmp_path / "app" / "0_0"


def test_rows_stay_after_a_death_before_the_first_checkpoint(
    tmp_path: Path, log: Log, dead: Path
) -> None:
    with Steps(keeping(), log, tmp_path).start() as steps:
        assert rows(steps) == (ROWS, ROWS)
        assert steps.manager.restorer.restored_total == 2
    with Steps(keeping(), log, tmp_path).start() as steps:
        assert rows(steps) == (ROWS, ROWS)


@pytest.mark.parametrize("content", [b"", b"0\n9\n", b"\xff", b"7\n0\n"])
def test_rows_stay_where_the_checkpoint_cannot_be_read(
    tmp_path: Path, log: Log, dead: Path, content: bytes
) -> None:
    (dead / ".checkpoint").write_bytes(content)
    with Steps(keeping(), log, tmp_path).start() as steps:
        assert rows(steps) == (ROWS, ROWS)


@pytest.mark.parametrize("is_beyond", [True, False])
def test_rows_stay_where_a_changelog_does_not_fit_the_checkpoint(
    tmp_path: Path, log: Log, dead: Path, is_beyond: bool
) -> None:
    with log.transport() as transport:
        transport.delete_records({CHANGELOG: 1})
    write_checkpoint(dead / ".checkpoint", {CHANGELOG: 99 if is_beyond else -1})
    with Steps(keeping(), log, tmp_path).start() as steps:
        assert rows(steps) == ({"b": "2"}, ROWS)


def test_rows_stay_when_a_changelog_loses_records_while_it_is_restored(
    tmp_path: Path, log: Log, dead: Path
) -> None:
    with Steps(keeping(), log, tmp_path).create() as steps:
        with log.transport() as transport:
            transport.delete_records({CHANGELOG: 1})
        steps.restore()
        assert rows(steps) == ({"b": "2"}, ROWS)


def damage(files: Path) -> None:
    for file in [*files.glob("MANIFEST-*"), *files.glob("*.sst")]:
        file.write_bytes(b"damaged" * 100)


def test_rows_stay_where_another_store_cannot_be_read(tmp_path: Path, log: Log, dead: Path) -> None:
    damage(dead / "rocksdb" / LOGGED)
    with Steps(keeping(), log, tmp_path).start() as steps:
        assert rows(steps) == (ROWS, ROWS)


def test_files_that_cannot_be_read_are_lost_and_that_is_said(
    tmp_path: Path, log: Log, dead: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Steps(keeping(), log, tmp_path).start() as steps:
        steps.close()
    damage(dead / "rocksdb" / UNLOGGED)
    with Steps(keeping(), log, tmp_path).start() as steps:
        assert rows(steps) == (ROWS, {})
        assert steps.manager.restorer.restored_total == 0
    (said,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "'unlogged' has no changelog: its rows are lost" in said.getMessage()


def test_a_store_that_is_added_costs_the_others_nothing(tmp_path: Path, log: Log) -> None:
    log.send("in", ("a", "1"), ("b", "2"))
    with Steps(keeping(), log, tmp_path).start() as steps:
        steps.process()
        steps.close()
    log.create("app-more-changelog")
    log.send("app-more-changelog", ("x", "y"))
    with Steps(keeping(more="more"), log, tmp_path).start() as steps:
        assert rows(steps) == (ROWS, ROWS)
        assert rows_of(steps.task().stores["more"]) == {"x": "y"}
        assert steps.manager.restorer.restored_total == 1


def test_what_was_written_without_logging_does_not_count_once_it_is_logged(
    tmp_path: Path, log: Log
) -> None:
    """Rows must be those of the changelog, or they are gone where the task moves to."""
    for logs, row in ((True, ("a", "1")), (False, ("b", "2")), (True, None)):
        if row is not None:
            log.send("in", row)
        with Steps(keeping(logs=logs), log, tmp_path).start() as steps:
            steps.process()
            found = rows(steps)
            steps.close()
    assert found == (ROWS, {"a": "1"})


# -- between the commit and the stores -----------------------------------------------------


class Dying(MemoryTransport):
    """Fails behind a commit, or before it."""

    dies = ""

    def commit(self, offsets: Any) -> None:
        if self.dies == "before":
            raise BrokerError("the log is away")
        super().commit(offsets)
        if self.dies == "behind":
            raise BrokerError("nobody knows what became of the commit")


@pytest.mark.parametrize("store", ["rows", "windows"])
@pytest.mark.parametrize("dies", ["before", "behind"])
def test_rows_are_those_of_the_commit_though_the_worker_did_not_hear_of_it(
    tmp_path: Path, log: Log, dies: str, store: str
) -> None:
    class Windows(Processor[str, str, Any, Any]):
        def process(self, record: Record[str, str]) -> None:
            name = record.value
            if name == "windows":
                self.context.get_state_store(name).put(record.key, "x", record.timestamp)
            else:
                self.context.get_state_store(name).put(record.key, "x")

    def built() -> StreamsBuilder:
        builder = StreamsBuilder()
        window = window_store(
            "windows", serdes.string, serdes.string, retention_ms=1_000, window_size_ms=10
        )
        builder.add_state_store(window.without_logging())
        plain = key_value_store("rows", serdes.string, serdes.string).with_caching()
        builder.add_state_store(plain.without_logging())
        builder.stream("in").process(Windows, "windows", "rows")
        return builder

    def found(steps: Steps) -> set[str]:
        face = steps.task().stores[store].read_only()
        return {getattr(key, "key", key) for key in rows_of(face)}

    log.send("in", ("a", store), timestamps=[50_000])
    with Steps(built(), log, tmp_path).start() as steps:
        steps.process()
        steps.commit()
    log.send("in", ("b", store), timestamps=[50_010])
    transport = Dying(log.engine, "app", now_ms=ManualClock(1).now_ms)
    with Steps(built(), log, tmp_path, transport=lambda _: transport).start() as steps:
        steps.process()
        transport.dies = dies
        with pytest.raises(BrokerError):
            steps.commit()
    for _ in range(2):
        with Steps(built(), log, tmp_path).start() as steps:
            assert found(steps) == ({"a"} if dies == "before" else {"a", "b"})
    with Steps(built(), log, tmp_path).start() as steps:
        steps.process()
        steps.commit()
        assert found(steps) == {"a", "b"}


# -- a task that goes away -----------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_a_directory_is_kept_for_a_while_from_when_its_task_left(
    tmp_path: Path, log: Log, clean: bool
) -> None:
    with Steps(keeping(), log, tmp_path).start() as steps:
        directory = tmp_path / "app" / "0_0"
        os.utime(directory, (1, 1))
        steps.manager.close(TASK, clean=clean)
        left_ms = directory.stat().st_mtime_ns // 1_000_000
        assert left_ms > 1_000
        assert steps.directory.remove_obsolete((), left_ms + 999, 1_000) == []
        assert steps.directory.remove_obsolete((), left_ms + 1_000, 1_000) == ["0_0"]
