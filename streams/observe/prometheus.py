"""Metrics in Prometheus' text form.

Owns the translation of the JVM's names to Prometheus', and all use of Prometheus' library. It must
not know where a number comes from.

    JVM                                              Prometheus
    stream-thread-metrics: commit-total              kafka_streams_thread_commit_total
    stream-thread-metrics: commit-latency-avg        kafka_streams_thread_commit_latency_seconds_avg
    stream-task-metrics: restore-remaining-…-total   kafka_streams_task_restore_remaining_records
    stream-metrics: state = RUNNING                  kafka_streams_client_state{state="RUNNING"} 1
    tags client-id thread-id task-id                 labels client thread task
         processor-node-id topic-name state-id              node topic store

Milliseconds become seconds, Prometheus' unit of time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from thalweg.streams.observe.metrics import (
    CACHE_GROUP,
    CLIENT_GROUP,
    CONSUMER_GROUP,
    NODE_GROUP,
    STATE_GROUP,
    TASK_GROUP,
    THREAD_GROUP,
    TOPIC_GROUP,
    Metric,
)

PREFIX: Final = "kafka_streams"

_GROUPS: Final[Mapping[str, str]] = {
    CLIENT_GROUP: "client",
    THREAD_GROUP: "thread",
    TASK_GROUP: "task",
    NODE_GROUP: "processor_node",
    TOPIC_GROUP: "topic",
    STATE_GROUP: "state",
    CACHE_GROUP: "record_cache",
    CONSUMER_GROUP: "consumer",
}
_LABELS: Final[Mapping[str, str]] = {
    "client-id": "client",
    "thread-id": "thread",
    "task-id": "task",
    "processor-node-id": "node",
    "topic-name": "topic",
    "state-id": "store",
}
_GAUGES_CALLED_TOTAL: Final = (
    "restore-remaining-records-total",
    "update-remaining-records-total",
)
"""What the JVM calls a total and may fall: for Prometheus only what never falls is one."""

_MS_PER_SECOND: Final = 1000


def prometheus_name(metric: Metric) -> str:
    """Returns a metric's name for Prometheus; a counter's ends in `_total`."""
    name = metric.name
    if name in _GAUGES_CALLED_TOTAL:
        name = name.removesuffix("-total")
    name = name.replace("-latency-", "-latency-seconds-").replace("-", "_")
    return f"{PREFIX}_{_GROUPS[metric.group]}_{name}"


def render_prometheus(metrics: Iterable[Metric], *, with_process: bool = False) -> str:
    """Returns metrics in Prometheus' text form, version 0.0.4.

    A text becomes a label, named like the metric, of a sample that is 1.

    Args:
        metrics: what to tell.
        with_process: tell memory, processor time and files of this process too, by the names
            all Prometheus clients use (`process_resident_memory_bytes` and so on).
    """
    registry = CollectorRegistry()
    registry.register(_Collected(metrics))
    if with_process:
        ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


Samples: TypeAlias = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
"""name -> its samples: (labels, value)."""


def samples_of(text: str) -> Samples:
    """Reads Prometheus' text form.

    Raises:
        ValueError: the text is none.
    """
    found: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


class _Collected(Collector):
    """Hands collected metrics to Prometheus' library, a family for each name."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._by_name: dict[str, list[Metric]] = defaultdict(list)
        for metric in metrics:
            self._by_name[prometheus_name(metric)].append(metric)

    def collect(self) -> Iterator[Family]:
        """Yields the families."""
        for name, metrics in self._by_name.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            family = Family(name.removesuffix("_total"), metrics[0].description, kind)
            for metric in metrics:
                labels = {_LABELS.get(tag, tag): text for tag, text in metric.tags.items()}
                value = metric.value
                if isinstance(value, str):
                    labels[metric.name.replace("-", "_")] = value
                    value = 1
                elif "-latency-" in metric.name:
                    value /= _MS_PER_SECOND
                family.add_sample(name, labels, value)
            yield family
