"""Metrics by the JVM's groups and names, collected when asked.

Owns the list of metrics and where each number comes from. Stores and tasks count with plain
integers and never hear of this module: a record pays nothing for being counted here.

Source: JVM `StreamsMetricsImpl`, `ThreadMetrics`, `TaskMetrics`, `StateStoreMetrics`;
kafka-streams reference A16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from streams.tasks.active_task import ActiveTask
    from streams.worker import Worker

CLIENT_GROUP: Final = "stream-metrics"
THREAD_GROUP: Final = "stream-thread-metrics"
TASK_GROUP: Final = "stream-task-metrics"
STATE_GROUP: Final = "stream-state-metrics"
CACHE_GROUP: Final = "stream-record-cache-metrics"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, or one text, at the moment it was collected.

    Attributes:
        name: the JVM's name.
        group: the JVM's group.
        value: the number, for a few the text.
        tags: what it is about, such as `task-id`.
        description: what it says.
    """

    name: str
    group: str
    value: float | str
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


class Application(Protocol):
    """What is told of an application as a whole."""

    @property
    def application_id(self) -> str:
        """Its name."""
        ...

    @property
    def state(self) -> Enum:
        """Where it is in its life."""
        ...

    @property
    def alive_worker_count(self) -> int:
        """Workers that run."""
        ...

    @property
    def failed_worker_count(self) -> int:
        """Workers that died of an error."""
        ...


def thalweg_version() -> str:
    """Returns the version of the installed distribution, "unknown" in a bare source tree."""
    try:
        return version("thalweg")
    except PackageNotFoundError:
        return "unknown"


def collect(app: Application, worker: Worker | None) -> list[Metric]:
    """Collects the metrics of an application and its worker."""
    client = {"client-id": app.application_id}
    metrics = [
        Metric("state", CLIENT_GROUP, app.state.name, client, "state of the application"),
        Metric("version", CLIENT_GROUP, thalweg_version(), client, "version of thalweg"),
        Metric("application-id", CLIENT_GROUP, app.application_id, client, "the application's id"),
        Metric(
            *("alive-stream-threads", CLIENT_GROUP, app.alive_worker_count, client),
            "workers that run",
        ),
        Metric(
            *("failed-stream-threads", CLIENT_GROUP, app.failed_worker_count, client),
            "workers that died of an error",
        ),
    ]
    if worker is not None:
        metrics.extend(_of_worker(worker))
        for task in worker.tasks:
            metrics.extend(of_task(task))
    return metrics


def _of_worker(worker: Worker) -> Iterator[Metric]:
    progress = worker.progress()
    tags = {"thread-id": f"{worker.config.application_id}-worker-1"}
    for name, value, description in (
        ("process-total", progress.processed_records, "records processed"),
        ("commit-total", progress.commits, "commits"),
        ("restore-total", progress.restored_records, "changelog records restored"),
        ("restore-remaining-records-total", progress.remaining_restore_records, "left to restore"),
        ("running-tasks", progress.running_tasks, "tasks that process"),
        ("restoring-tasks", progress.restoring_tasks, "tasks that are being restored"),
        ("records-lag", progress.lag_records, "records known to be in the log, not processed"),
    ):
        yield Metric(name, THREAD_GROUP, value, tags, description)


def of_task(task: ActiveTask) -> Iterator[Metric]:
    """Returns the metrics of a task and its stores."""
    tags = {"task-id": task.task_id}
    for name, value, description in (
        ("process-total", task.processed_records_total, "records processed"),
        ("dropped-records-total", task.dropped_records_total, "records dropped"),
        ("active-buffer-count", task.group.buffered_count(), "records buffered"),
    ):
        yield Metric(name, TASK_GROUP, value, tags, description)
    for store_name, store in list(task.stores.items()):
        store_tags = {**tags, "state-id": store_name}
        yield from _counters(store, STATE_GROUP, store_tags, _STORE_COUNTERS)
        yield from _counters(store, CACHE_GROUP, store_tags, _CACHE_COUNTERS)


_STORE_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "open_iterators": ("num-open-iterators", "scans not closed yet"),
    "puts_total": ("put-total", "writes"),
    "gets_total": ("get-total", "reads"),
}
_CACHE_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "cache_hits": ("hit-total", "reads the record cache answered"),
    "cache_misses": ("miss-total", "reads that went to the store"),
}


def _counters(
    store: Any, group: str, tags: Mapping[str, str], counters: Mapping[str, tuple[str, str]]
) -> Iterator[Metric]:
    for attribute, (name, description) in counters.items():
        value = getattr(store, attribute, None)
        if isinstance(value, int):
            yield Metric(name, group, value, tags, description)
