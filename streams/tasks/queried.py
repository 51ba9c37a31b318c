"""The stores of a worker's tasks for interactive queries v2: one by one, with their positions.

Owns which tasks have a store (running, restoring or standby) and the position of each. Any thread
may use it. It must not know queries.

The position is that of the task, not of each put: every store of a task includes all records that
the task has processed. The rows may already include later records, so the position is a lower
bound, as positions are meant to be.

Source: JVM `TaskManager.readyOnlyAllTasks`, `StoreQueryUtils.updatePosition`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from thalweg.stores.api import TaskStore
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.global_task import GlobalTask
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import TopicPartition


class Readiness(Enum):
    """What the task of a store does."""

    RUNNING = "running"
    RESTORING = "restoring"
    STANDBY = "standby"


class QueriedStore(NamedTuple):
    """One store of one task.

    Attributes:
        partition: the task's partition, None of a global store.
        readiness: what the task does.
        store: the store.
        positions: source partition -> the next record to be processed; empty where nothing is
            known, as of a standby.
        flushed_positions: the same as of the last commit, when its cache was written down.
    """

    partition: int | None
    readiness: Readiness
    store: TaskStore
    positions: Mapping[TopicPartition, int]
    flushed_positions: Mapping[TopicPartition, int]


class TaskTables(Protocol):
    """A worker's tasks."""

    global_task: GlobalTask | None
    running: dict[TaskId, ActiveTask]
    restoring: dict[TaskId, ActiveTask]
    standby: dict[TaskId, ActiveTask]


def queried_stores(tasks: TaskTables, name: str) -> Iterator[QueriedStore]:
    """Yields the stores of a name, with their positions as of this moment."""
    global_task = tasks.global_task
    if global_task is not None and name in global_task.stores:
        store, positions = global_task.stores[name], global_task.positions
        yield QueriedStore(None, Readiness.RUNNING, store, positions, positions)
        return
    # A task on its way from restoring to running is in both: no moment finds it in neither.
    tables = (
        (Readiness.STANDBY, tasks.standby),
        (Readiness.RESTORING, tasks.restoring),
        (Readiness.RUNNING, tasks.running),
    )
    found: dict[int, QueriedStore] = {}
    for readiness, table in tables:
        for task in table.copy().values():
            if name not in task.plan.store_names:
                continue
            offsets, store_here = task.offsets, task.stores.get(name)
            if store_here is not None:
                found[task.id.partition] = QueriedStore(
                    task.id.partition,
                    readiness,
                    store_here,
                    offsets.next.copy(),
                    offsets.committed_so_far(),
                )
    yield from found.values()
