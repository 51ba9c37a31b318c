"""Metrics by the JVM's groups and names, collected when asked.

Owns the list of metrics and the source of each number. Stores and tasks count with plain integers
and do not know this module, so metrics cost nothing per record. Durations are milliseconds, as in
the JVM. It must not know who asks; one of the callers is `streams.observe.prometheus`.

There are no rates: a reader of the totals can compute them over any time. Averages and extremes
cover the last 30 to 60 seconds (`streams.samples`).

Source: JVM `StreamsMetricsImpl`, `ThreadMetrics`, `TaskMetrics`, `StateStoreMetrics`,
`ProcessorNodeMetrics`, `TopicMetrics`; kafka-streams reference A12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Protocol

from thalweg.stores.errors import StreamsError
from thalweg.streams.samples import Measure
from thalweg.streams.tasks.drops import REASONS

if TYPE_CHECKING:
    from thalweg.streams.tasks.active_task import ActiveTask
    from thalweg.streams.worker.loop import Worker

CLIENT_GROUP: Final = "stream-metrics"
THREAD_GROUP: Final = "stream-thread-metrics"
TASK_GROUP: Final = "stream-task-metrics"
NODE_GROUP: Final = "stream-processor-node-metrics"
TOPIC_GROUP: Final = "stream-topic-metrics"
STATE_GROUP: Final = "stream-state-metrics"
CACHE_GROUP: Final = "stream-record-cache-metrics"
CONSUMER_GROUP: Final = "consumer-fetch-manager-metrics"


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
    """Collects the metrics of an application and its worker. Any thread may call it."""
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
        metrics.extend(_of_worker(worker, client))
        for task_id in worker.standby_tasks:
            metrics.extend(_of_standby(worker, {**client, "task-id": task_id}))
        for task in worker.tasks:
            state = "running" if task.is_running else "restoring"
            metrics.append(_task_state({**client, "task-id": task.task_id}, state))
            metrics.extend(of_task(task, client))
            metrics.extend(_lags(worker, task, client))
            metrics.extend(_restoration(worker, task, client))
    return metrics


def _task_state(tags: Mapping[str, str], state: str) -> Metric:
    return Metric("state", TASK_GROUP, state, tags, "running, restoring or standby")


# -- the worker ----------------------------------------------------------------------------


def _of_worker(worker: Worker, client: Mapping[str, str]) -> Iterator[Metric]:
    progress, measures, manager = worker.progress(), worker.measures, worker.manager
    tags = {**client, "thread-id": f"{worker.config.application_id}-worker-1"}
    for name, value, description in (
        ("process-total", progress.processed_records, "records processed"),
        ("poll-records-total", measures.polled_records, "records polled"),
        ("commit-total", progress.commits, "commits"),
        ("poll-total", measures.poll.count, "polls"),
        ("punctuate-total", measures.punctuate.count, "rounds with wall-clock punctuations"),
        ("rebalance-total", measures.rebalance.count, "assignments taken over"),
        ("task-created-total", manager.created_total, "tasks made"),
        ("task-closed-total", manager.closed_total, "tasks closed"),
        ("restore-total", progress.restored_records, "changelog records restored"),
        ("restore-remaining-records-total", progress.remaining_restore_records, "left to restore"),
        ("records-lag", progress.lag_records, "records known to be in the log, not processed"),
        (
            "refused-records-total",
            manager.policy.refused_records_total,
            "records dropped because the log refused them",
        ),
    ):
        yield Metric(name, THREAD_GROUP, value, tags, description)
    for name, measure, description in (
        ("poll", measures.poll, "waiting for records, a round"),
        ("process", measures.process, "processing what was polled, a round"),
        ("punctuate", measures.punctuate, "wall-clock punctuations, a round"),
        ("commit", measures.commit, "a commit"),
        ("rebalance", measures.rebalance, "taking over an assignment"),
    ):
        yield from _durations(f"{name}-latency", THREAD_GROUP, measure, tags, description, worker)
        yield Metric(
            *(f"{name}-latency-total", THREAD_GROUP, measure.total, tags),
            f"{description}: all of them together",
        )
    for state, count in (
        ("running", progress.running_tasks),
        ("restoring", progress.restoring_tasks),
        ("standby", len(worker.standby_tasks)),
    ):
        tagged = {**tags, "state": state}
        yield Metric("tasks", THREAD_GROUP, count, tagged, "tasks, by their state")
    for topic, count in worker.sent_records().items():
        tagged = {**tags, "topic-name": topic}
        yield Metric("records-produced-total", TOPIC_GROUP, count, tagged, "records sent")
    cache = manager.cache
    if cache is not None:
        yield Metric("size-bytes", CACHE_GROUP, cache.size_bytes, tags, "what is cached")
        yield Metric("max-bytes", CACHE_GROUP, cache.max_bytes, tags, "what may be cached")


def _durations(
    name: str,
    group: str,
    measure: Measure,
    tags: Mapping[str, str],
    description: str,
    worker: Worker,
    *,
    has_least: bool = False,
) -> Iterator[Metric]:
    recent = measure.recent(worker.now_ms())
    if recent is None:
        return
    yield Metric(f"{name}-avg", group, recent.average, tags, f"{description}: mean, lately")
    yield Metric(f"{name}-max", group, recent.most, tags, f"{description}: the most, lately")
    if has_least:
        yield Metric(f"{name}-min", group, recent.least, tags, f"{description}: the least, lately")


def _lags(worker: Worker, task: ActiveTask, client: Mapping[str, str]) -> Iterator[Metric]:
    for partition, lag in worker.lag_of(task).items():
        tags = {
            **client,
            "task-id": task.task_id,
            "topic-name": partition.topic,
            "partition": str(partition.partition),
        }
        yield Metric(
            *("records-lag", CONSUMER_GROUP, lag, tags),
            "records of a partition known to be in the log, not processed",
        )
    for source in task.sources:
        tags = {
            **client,
            "task-id": task.task_id,
            "processor-node-id": source.source_name,
            "topic-name": source.topic,
            "partition": str(source.partition),
        }
        description = "from a record's timestamp to its turn, of the ends of each batch"
        yield from _durations(
            *("record-e2e-latency", NODE_GROUP, source.latency, tags, description, worker),
            has_least=True,
        )


def _restoration(worker: Worker, task: ActiveTask, client: Mapping[str, str]) -> Iterator[Metric]:
    tags = {**client, "task-id": task.task_id}
    stores = worker.manager.restorer.of_task(task.task_id)
    restored = task.restored_records_total + sum(one.restored for one in stores)
    remaining = sum(one.remaining for one in stores)
    yield Metric("restore-total", TASK_GROUP, restored, tags, "changelog records restored")
    yield Metric(
        *("restore-remaining-records-total", TASK_GROUP, remaining, tags), "left to restore"
    )


def _of_standby(worker: Worker, tags: Mapping[str, str]) -> Iterator[Metric]:
    yield _task_state(tags, "standby")
    follower = worker.manager.follower
    stores = follower.of_task(tags["task-id"])
    updated, remaining = sum(one.restored for one in stores), sum(map(follower.behind, stores))
    yield Metric("update-total", TASK_GROUP, updated, tags, "changelog records followed")
    yield Metric(
        *("update-remaining-records-total", TASK_GROUP, remaining, tags),
        "changelog offsets known that are left to follow",
    )


# -- tasks ---------------------------------------------------------------------------------


def of_task(task: ActiveTask, client: Mapping[str, str] | None = None) -> Iterator[Metric]:
    """Returns the metrics of a task and its stores.

    Args:
        task: the task.
        client: tags of the application it belongs to.
    """
    tags = {**(client or {}), "task-id": task.task_id}
    for name, value, description in (
        ("process-total", task.processed_records_total, "records processed"),
        ("active-buffer-count", task.group.buffered_count(), "records buffered"),
    ):
        yield Metric(name, TASK_GROUP, value, tags, description)
    for reason in REASONS:
        tagged, count = {**tags, "reason": reason}, task.scope.dropped_records[reason]
        yield Metric(
            "dropped-records-total", TASK_GROUP, count, tagged, "records dropped, by reason"
        )
    for source in task.sources:
        source_tags = {
            **tags,
            "processor-node-id": source.source_name,
            "topic-name": source.topic,
            "partition": str(source.partition),
        }
        yield Metric(
            *("records-consumed-total", TOPIC_GROUP, source.records_total, source_tags),
            "records processed of a partition",
        )
    for store_name, store in list(task.stores.items()):
        store_tags = {**tags, "state-id": store_name}
        yield from _counters(store, STATE_GROUP, store_tags, _STORE_COUNTERS)
        yield from _counters(store, CACHE_GROUP, store_tags, _CACHE_COUNTERS)
        yield from _hit_ratio(store, store_tags)
        yield from _entries(store, store_tags)


_STORE_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "open_iterators": ("num-open-iterators", "scans not closed yet"),
    "puts_total": ("put-total", "writes"),
    "gets_total": ("get-total", "reads"),
    "buffered_count": ("suppression-buffer-count", "changes that a suppression holds"),
    "buffered_bytes": ("suppression-buffer-size", "bytes they take, as the JVM counts them"),
    "emitted_total": ("suppression-emit-total", "changes that a suppression has let go"),
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


def _hit_ratio(store: Any, tags: Mapping[str, str]) -> Iterator[Metric]:
    hits, misses = (getattr(store, attribute, None) or 0 for attribute in _CACHE_COUNTERS)
    if hits + misses:
        ratio, description = hits / (hits + misses), "part of the reads the record cache answered"
        yield Metric("hit-ratio-avg", CACHE_GROUP, ratio, tags, description)


def _entries(store: Any, tags: Mapping[str, str]) -> Iterator[Metric]:
    """Asks a store how many rows it has, by the face that any thread may use."""
    estimate = getattr(store.read_only(), "approximate_num_entries", None)
    if estimate is None:
        return
    try:
        count = estimate()
    except StreamsError:  # it was just closed
        return
    yield Metric("estimate-num-keys", STATE_GROUP, count, tags, "about how many rows it has")
