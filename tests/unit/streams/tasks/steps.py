"""A worker's parts without its loop: a test takes each step itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.unit.streams.running import Log, string
from thalweg import StreamsBuilder
from thalweg.stores.directory import StateDirectory
from thalweg.streams.clock import ManualClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.group.member import SoleMember
from thalweg.streams.restore_listener import NOBODY, RestoreListener
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.tasks.task_manager import TaskManager
from thalweg.streams.transport.port import TopicPartition, Transport
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import subtopologies


class Told(RestoreListener):
    """Keeps what it is told of restoring."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_restore_start(
        self, partition: TopicPartition, store: str, start_offset: int, end_offset: int
    ) -> None:
        self.calls.append(("start", *partition, store, start_offset, end_offset))

    def on_batch_restored(
        self, partition: TopicPartition, store: str, next_offset: int, count: int
    ) -> None:
        self.calls.append(("batch", *partition, store, next_offset, count))

    def on_restore_end(self, partition: TopicPartition, store: str, total: int) -> None:
        self.calls.append(("end", *partition, store, total))

    def on_restore_suspended(self, partition: TopicPartition, store: str, total: int) -> None:
        self.calls.append(("suspended", *partition, store, total))


class Steps:
    """The tasks of one worker on a log in memory.

    Closed without `close`, it is as if the process had died.
    """

    def __init__(
        self,
        builder: StreamsBuilder | Topology,
        log: Log,
        state_dir: Path,
        *,
        transport: Callable[[Transport], Transport] = lambda transport: transport,
        now_ms: int = 1_000_000,
        listener: RestoreListener = NOBODY,
        **settings: Any,
    ) -> None:
        given = {
            "application_id": "app",
            "default_key_serde": string,
            "default_value_serde": string,
            "state_dir": state_dir,
            "default_partitions": log.default_partitions,
            **settings,
        }
        self.config = StreamsConfig(**given)
        self.clock = ManualClock(now_ms)
        topology = builder if isinstance(builder, Topology) else builder.build(self.config)
        parts = subtopologies(topology, self.config.topology_config)
        self.transport = transport(log.transport("app"))
        local = [part for part in parts if not part.is_global]
        self.member = SoleMember(local, self.config, self.transport)
        self.member.start()
        self.directory = StateDirectory(state_dir, "app")
        try:
            self.manager = TaskManager(
                topology,
                parts,
                self.config,
                self.transport,
                self.directory,
                self.clock,
                listener,
            )
        except BaseException:
            self.directory.close()
            raise
        self._is_open = True

    def create(self) -> Self:
        """Makes all tasks; their stores are not restored yet."""
        change = self.member.poll(self.clock.now_ms())
        assert change is not None
        self.manager.create(change.assignment.active)
        return self

    def restore(self) -> Self:
        """Restores all stores and starts the tasks."""
        while not self.manager.restorer.is_idle:
            self.manager.restore(1_000, 0)
        return self

    def start(self) -> Self:
        """Fills the global stores, makes the tasks and restores them."""
        if self.manager.global_task is not None:
            self.manager.global_task.start()
        return self.create().restore()

    def task(self, text: str = "0_0") -> ActiveTask:
        """Returns a running task."""
        return self.manager.running[TaskId.parse(text)]

    @property
    def running(self) -> list[ActiveTask]:
        """All running tasks, in order."""
        return [self.manager.running[task_id] for task_id in sorted(self.manager.running)]

    def process(self) -> int:
        """Polls and processes until nothing comes any more; returns the records."""
        manager, done = self.manager, 0
        while batches := manager.reader.poll(1_000, 0):
            for partition, records in batches:
                manager.by_partition[partition].add(partition, records)
            for task in self.running:
                while count := task.process(self.clock.now_ms()):
                    done += count
        return done

    def commit(self) -> None:
        """Commits all running tasks."""
        self.manager.committer.commit(self.running)

    def close(self, *, clean: bool = True) -> None:
        """Commits, unless it is to be as after an error, and closes everything."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if clean:
                self.commit()
            else:
                self.transport.abort()
            self.manager.close_all(clean=clean)
        finally:
            self.directory.close()
            self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(clean=False)
