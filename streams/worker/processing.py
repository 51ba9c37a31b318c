"""Records of running tasks: polled into their queues, processed in slices, punctuated.

Owns which partitions are paused because their queues are full, and how long tasks process before
other work gets its turn. It must not know which tasks are assigned, when a commit is due or what an
error means: `worker.loop` handles those.

Source: JVM `StreamThread.pollPhase`, `TaskExecutor.process`, `StreamTask.addRecords`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.samples import LoopMeasures
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.task_manager import TaskManager
from thalweg.streams.transport.port import TopicPartition
from thalweg.streams.worker.pacing import Pacing, Slices


class Processing:
    """Polls and processes for the running tasks of one worker, in its thread.

    Args:
        tasks: the worker's tasks.
        config: the application's settings.
        clock: where time comes from.
        pacing: says how long to process; is told when the next punctuation is due.
        measures: notes what comes and how long punctuations take.
        stop_asked: set when the worker is to stop; nothing long is begun then.
    """

    def __init__(
        self,
        tasks: TaskManager,
        config: StreamsConfig,
        clock: Clock,
        pacing: Pacing,
        measures: LoopMeasures,
        stop_asked: threading.Event,
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        self._pacing = pacing
        self._measures = measures
        self._stop_asked = stop_asked
        self._poll_records = config.max_poll_records
        self._buffered_records = config.buffered_records_per_partition
        self._slices = Slices()
        self._paused: set[TopicPartition] = set()

    def ready_records(self, now_ms: int) -> int:
        """Returns how many records wait that may be processed now."""
        return sum(
            task.group.buffered_count()
            for task in self._tasks.running.values()
            if task.group.is_ready(now_ms)
        )

    def is_drained(self) -> bool:
        """Whether everything in the log that is known of is processed."""
        reader = self._tasks.reader
        return not any(
            task.group.buffered_count()
            or any(reader.known_end_offset(p) != reader.position(p) for p in task.partitions)
            for task in self._tasks.running.values()
        )

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Notes that partitions are not read any more."""
        self._paused.difference_update(partitions)

    def poll(self, timeout_ms: float) -> bool:
        """Puts records into the queues of their tasks; returns whether any came.

        A partition whose queue is full is paused where the task has others to choose from.

        Raises:
            OffsetOutOfRangeError: records were deleted before they were read.
            BrokerError: the log cannot be read.
        """
        tasks, reader = self._tasks, self._tasks.reader
        batches = reader.poll(self._poll_records, timeout_ms)
        full = []
        for partition, records in batches:
            self._measures.polled_records += len(records)
            task = tasks.by_partition[partition]
            buffered = task.add(partition, records)
            if buffered > self._buffered_records and len(task.partitions) > 1:
                full.append(partition)
        if full:
            reader.pause(full)
            self._paused.update(full)
        return bool(batches)

    def process(self) -> int:
        """Processes what is buffered, round after round, until it is time for something else.

        Returns:
            How many records were processed.
        """
        clock = self._clock
        tasks = list(self._tasks.running.values())
        now_ms = clock.now_ms()
        deadline_ms = self._pacing.processing_ends_ms
        work, processed = True, 0
        while work:
            work = False
            for task in tasks:
                done = self._process_slice(task, now_ms)
                if done:
                    processed += done
                    work = work or bool(task.group.buffered_count())
                if self._stop_asked.is_set():
                    break
            now_ms = clock.now_ms()
            self._punctuate(tasks, now_ms)
            if clock.monotonic_ms() >= deadline_ms or any(
                task.scope.commit_requested for task in tasks
            ):
                break
            if self._stop_asked.is_set():
                break
        for task in tasks:
            task.note_positions()
            self._tasks.reader.processed(task.offsets.uncommitted())
        if self._paused:
            self._resume_drained()
        return processed

    def _process_slice(self, task: ActiveTask, now_ms: int) -> int:
        """Processes as many records of a task as its slice allows, by what the last ones took."""
        began_ms = self._clock.monotonic_ms()
        done = task.process(now_ms, self._slices.most(task.id))
        self._slices.note(task.id, done, self._clock.monotonic_ms() - began_ms)
        return done

    def _punctuate(self, tasks: list[ActiveTask], now_ms: int) -> None:
        began_ms, has_run = self._clock.monotonic_ms(), False
        for task in tasks:
            has_run = task.punctuate_wall_clock(now_ms) or has_run
        if has_run:
            self._measures.punctuate.note(self._clock.monotonic_ms() - began_ms, now_ms)
        self._pacing.next_punctuation_ms = min(
            (task.scope.wall_punctuations.next_due_ms for task in tasks), default=now_ms + 1_000
        )

    def _resume_drained(self) -> None:
        tasks, most = self._tasks, self._buffered_records
        drained = [
            partition
            for partition in self._paused
            if len(tasks.by_partition[partition].group.queues[partition]) <= most
        ]
        if drained:
            tasks.reader.resume(drained)
            self._paused.difference_update(drained)
