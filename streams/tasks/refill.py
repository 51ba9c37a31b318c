"""Filling a store from its source topic again, through the nodes that filled it.

A store whose changelog is a source topic contains the results of the nodes in front of it: keys and
values that the store's serdes write, timestamps of an extractor, no records that could not be
decoded or had no key, and the writes of a user's processor. So when the store is restored or
followed, the records go through the same nodes again.

Owns the nodes in front of one store, compiled a second time for this purpose. What they forward is
discarded, dead letters are not sent again, and wall-clock punctuators are not called. Other stores
of such a node are copies in memory that begin empty, because they are restored from their own
changelogs. It must not know where records come from, nor the position.

Source: JVM `GlobalStateManagerImpl.reprocessState` (KAFKA-7663), KIP-813.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from thalweg.stores.api import TaskStore
from thalweg.stores.record import RawRecord
from thalweg.stores.serde import serdes
from thalweg.streams.config import StreamsConfig
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.failures import FailurePolicy
from thalweg.streams.tasks.global_task import NoLetters
from thalweg.streams.tasks.plan import TaskPlan
from thalweg.streams.tasks.store_notes import RefillNote
from thalweg.streams.transport.port import TopicPartition
from thalweg.topology.operators.table import TableSource
from thalweg.topology.physical import ProcessorNode, SourceNode
from thalweg.topology.processor import fail_on_invalid_timestamp, wallclock_timestamp

_AT_ONCE: Final = 1 << 62


class Refill:
    """Fills one store of a task that does not run. Its worker owns it.

    Args:
        task: the task; its stores are open.
        store: the store, one of the plan's `refills`.
        partition: the source topic's partition.
        partition_time_ms: the highest timestamp of the records before the first one to come,
            -1 where that is not known.
    """

    def __init__(
        self, task: ActiveTask, store: str, partition: TopicPartition, partition_time_ms: int = -1
    ) -> None:
        plan, config = task.plan, task.config
        nodes = plan.refills[store]
        policy = FailurePolicy(config, NoLetters("a store that is restored"))
        self._partition = partition
        self._store = task.stores[store].uncached
        self._task = ActiveTask(
            task.id,
            replace(plan, node_names=nodes, store_names=(store, *others(plan, store))),
            [partition],
            config=config,
            collector=RecordCollector(NoLetters(), plan.topic_names, policy),
            policy=policy,
            cache=None,
            directory=task.directory,
            now_ms=task.now_ms,
            global_store=task.global_store,
            # The store has the cell of the task that it was opened for.
            current=task.current,
        )
        self._task.stores.adopt(store, self._store)
        for name in others(plan, store):
            self._task.stores.adopt(name, self._copy(name))
        source = plan.topology.nodes[nodes[0]]
        assert isinstance(source, SourceNode)
        self._keeps_times = _extractor(source, config) is wallclock_timestamp
        self._now_ms: Callable[[], int] = task.now_ms
        self._task.compile()
        self._task.start({partition: partition_time_ms})

    def _copy(self, name: str) -> TaskStore:
        builder = self._task.stores.builder(name)
        if builder.persistent:
            builder = replace(builder, backend="memory")
        return builder.without_logging().without_caching().build(self._task.stores)

    def apply(self, records: Sequence[RawRecord]) -> None:
        """Fills the store from records of its source topic; they are in it on return.

        Raises:
            StreamsError: a record failed, and its handler said to stop.
        """
        task = self._task
        if self._keeps_times:
            # The moment at which they were processed is gone: the time they carry is nearest.
            stamped = [(max(0, time), key, value, origin) for time, key, value, origin in records]
            task.group.add(self._partition, stamped)
        else:
            task.add(self._partition, list(records))
        while task.group.buffered_count():
            task.process(self._now_ms(), _AT_ONCE)
        note = self._note()
        task.stores.apply(notes={} if note is None else {self._store.name: note})

    def _note(self) -> bytes | None:
        at, offsets = self._partition, self._task.offsets
        offset = offsets.next.get(at)
        if offset is None:
            return None
        return RefillNote(at.topic, offset, offsets.times[at].ms).packed()

    def close(self) -> None:
        """Closes the nodes; the store stays open.

        Raises:
            ProcessingError: a processor's `close` raised.
        """
        self._task.stores.release(self._store.name)
        self._task.close()


def needs_refill(plan: TaskPlan, store: str, config: StreamsConfig) -> bool:
    """Tells whether a source topic's records differ from the rows that nodes make of them.

    They do not where a table takes bytes and times as they are.
    """
    nodes = plan.refills.get(store)
    if nodes is None:
        return False
    source, *between, last = (plan.topology.nodes[name] for name in nodes)
    builder = plan.topology.stores[store].with_default_serdes(
        config.default_key_serde, config.default_value_serde
    )
    assert isinstance(source, SourceNode)
    read = (
        source.key_serde or config.default_key_serde,
        source.value_serde or config.default_value_serde,
    )
    return (
        bool(between)
        or not (isinstance(last, ProcessorNode) and isinstance(last.operator, TableSource))
        or _extractor(source, config) is not fail_on_invalid_timestamp
        or any(serde is not serdes.bytes for serde in read)
        or any(serde is not serdes.bytes for serde in (builder.key_serde, builder.value_serde))
    )


def needs_all(plan: TaskPlan, store: str) -> bool:
    """Tells whether a store can be filled only from the beginning of its source topic."""
    return store in plan.refills and bool(others(plan, store))


def others(plan: TaskPlan, store: str) -> list[str]:
    """Returns the other stores of the nodes that fill a store."""
    found: dict[str, None] = {}
    for name in plan.refills[store]:
        node = plan.topology.nodes[name]
        if isinstance(node, ProcessorNode):
            found.update(dict.fromkeys(node.stores))
    found.pop(store, None)
    return list(found)


def _extractor(source: SourceNode, config: StreamsConfig) -> object:
    return source.timestamp_extractor or config.default_timestamp_extractor
