"""The order of a commit, and the checkpoints after it. No other file knows it.

    flush caches ──► flush the log ──► offsets + all that was sent ──► stores ──► checkpoint
    (may send more)  (first error)     (one step, where the log can)   (pending)  (now and then)

The worker's tasks, its global task and the test driver all commit with this file. A log without
commits, such as that of the test driver, does nothing in each step. A task that sends nothing
writes directly from its caches to its stores, see `commit_positions`.

Rows of stores without a changelog are saved before the offsets are committed. After a crash between
the two steps, the committed offsets tell whether these rows are valid.

Owns that order and the time of a checkpoint. Stores get their rows only after the log has them, so
a store is never ahead of its changelog. A checkpoint is written after the store is durable, so it
is never ahead of the store. After any failure in between, restoration from the checkpoint repairs
the store. It must not know why a commit happens now.

Source: design, a record's way 8; JVM `TaskExecutor.commitOffsetsOrTransaction`,
`ProcessorStateManager.checkpoint`; semantics D15, D19.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from thalweg.stores.directory import CHECKPOINT_FILE, write_checkpoint
from thalweg.stores.formats import encode_partition_metadata
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.failures import out_of_carriers
from thalweg.streams.tasks.store_notes import packed_offsets
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition

CHECKPOINT_RECORDS: Final = 10_000
"""A checkpoint is written once so many changelog records came since the last one: bounds
what a killed worker restores. As in the JVM."""

METADATA_CHARS_MAX: Final = 4_000
"""Most characters of metadata beside an offset: a broker refuses more than 4,096 by default
(`offset.metadata.max.bytes`)."""

_log = logging.getLogger(__name__)


class CommitLog(Protocol):
    """What a commit asks of a log; every transport is one."""

    def flush(self) -> None:
        """Waits until everything that was sent is in the log."""
        ...

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commits offsets, and everything that was sent, in one step."""
        ...

    def written_offsets(self) -> Mapping[TopicPartition, int]:
        """Returns where the changelogs that were written end."""
        ...


class Committer:
    """Commits the tasks of one worker.

    Args:
        log: the worker's log.
    """

    def __init__(self, log: CommitLog) -> None:
        self._log = log
        self._checkpointed: dict[str, int] = {}
        self._told: set[str] = set()
        self.commits_total = 0

    def commit(self, tasks: Collection[ActiveTask]) -> None:
        """Makes everything the tasks have done last.

        Raises:
            ProductionError: a record was refused; nothing is committed.
            BrokerError: the log cannot be reached.
            TaskMigratedError: the tasks belong to someone else by now.
        """
        self.flush(tasks)
        offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        for task in tasks:
            moved = task.committable()
            kept = self._fitting(task) if moved else {}
            for partition, (offset, partition_time_ms) in moved.items():
                metadata = encode_partition_metadata(partition_time_ms, kept)
                offsets[partition] = OffsetAndMetadata(offset, metadata)
        for task in tasks:
            task.prepare()
        with out_of_carriers():
            self._log.commit(offsets)
        self.commits_total += 1
        written = self._log.written_offsets()
        for task in tasks:
            task.stores.note_written(written)
            if self._is_due(task):
                self.checkpoint(task)
            else:
                task.committed()

    def _fitting(self, task: ActiveTask) -> Mapping[str, int]:
        """Returns what the task's operators keep, as much of it as a broker takes."""
        kept = task.offsets.kept()
        left_out = []
        while len(encode_partition_metadata(0, kept)) > METADATA_CHARS_MAX:
            left_out.append(max(kept))
            del kept[left_out[-1]]
        if left_out and task.task_id not in self._told:
            self._told.add(task.task_id)
            _log.warning(
                "task %s: the times of %d operators do not fit beside its offsets and are not kept "
                "over a restart (%s); shorter store names let more of them fit",
                *(task.task_id, len(left_out), ", ".join(sorted(left_out))),
            )
        return kept

    def flush(self, tasks: Collection[ActiveTask]) -> None:
        """Pushes everything the tasks have done into the log, without a commit."""
        for task in tasks:
            task.flush_caches()
        with out_of_carriers():
            self._log.flush()

    def checkpoint(self, task: ActiveTask) -> None:
        """Makes a task's stores durable and notes how far they are; after a commit only."""
        task.committed(durable=True)
        self._write_checkpoint(task)

    def checkpoint_if_due(self, task: ActiveTask) -> None:
        """Checkpoints a standby task once enough came since the last time."""
        if self._is_due(task):
            self.checkpoint(task)

    def _is_due(self, task: ActiveTask) -> bool:
        came = task.stores.changelog_records_total - self._checkpointed.get(task.task_id, 0)
        return came >= CHECKPOINT_RECORDS

    def forget(self, task: ActiveTask) -> None:
        """Forgets a task that was closed."""
        self._checkpointed.pop(task.task_id, None)

    def _write_checkpoint(self, task: ActiveTask) -> None:
        self._checkpointed[task.task_id] = task.stores.changelog_records_total
        offsets = checkpoint_of(task.stores.positions())
        if offsets:
            write_checkpoint(task.directory / CHECKPOINT_FILE, offsets)


def commit_positions(
    task: ActiveTask, positions: Mapping[str, Mapping[TopicPartition, int]]
) -> None:
    """Commits a task that sends nothing and whose offsets no group keeps.

    Args:
        task: the task, for example one of global stores.
        positions: store -> how far it is in each partition of its topic, for the stores that
            are kept on disk.
    """
    task.flush_caches()
    # With the rows in one step: the checkpoint is behind them after a crash, and a processor
    # that makes a row from the one before would do so twice.
    times = {at: time.ms for at, time in task.offsets.times.items()}
    notes = {name: packed_offsets(offsets, times) for name, offsets in positions.items()}
    task.committed(durable=bool(positions), notes=notes)
    if positions:
        every = {at: one for offsets in positions.values() for at, one in offsets.items()}
        write_checkpoint(task.directory / CHECKPOINT_FILE, checkpoint_of(every))


def checkpoint_of(positions: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
    """Returns what a checkpoint file says: the last offset a store holds, as the JVM writes it.

    Args:
        positions: changelog partition -> offset of the next record to restore.
    """
    return {
        (topic, partition): position - 1
        for (topic, partition), position in positions.items()
        if position > 0
    }


def positions_of(checkpoint: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int]:
    """Returns the positions a checkpoint stands for."""
    return {TopicPartition(*partition): offset + 1 for partition, offset in checkpoint.items()}
