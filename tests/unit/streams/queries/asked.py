"""An application with stores of every kind, and instances that share its partitions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from thalweg import (
    App,
    Materialized,
    State,
    StreamsBuilder,
    TimeWindows,
    serdes,
)
from thalweg.rebalance.values import Endpoint, EndpointPartitions
from thalweg.stores.api import KeyValueStore
from thalweg.stores.builders import StoreBuilder, key_value_store
from thalweg.stores.record import Record
from thalweg.streams.errors import StoreMovedError, StreamsError, UnknownStoreError
from thalweg.streams.queries.metadata import GroupView, InstanceTasks, StoreDirectory
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.topology.processor import Processor, ProcessorContext

PARTITIONS = 4
PEOPLE = {f"person {n}": {"age": n, "tags": ["a", b"b"][: n % 2]} for n in range(40)}
BLOBS = {bytes([n, 0, 255]): bytes([255, n]) for n in range(5)}
RATES = {-3: 1.5, 7: float("inf"), 2**62: 0.25}
IDS = {UUID(int=n): f"n{n}" for n in range(3)}
HOURS = 6
WINDOW_MS = 3_600_000
CLICKS = [(f"page {n % 7}", n * WINDOW_MS // 3) for n in range(3 * HOURS)]
SOON = timedelta(seconds=60)


class GlobalUpdate(Processor[UUID, str, Any, Any]):
    """Writes every record to the global store."""

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        super().init(context)
        self.rows: KeyValueStore[UUID, str] = context.get_state_store("ids")

    def process(self, record: Record[UUID, str]) -> None:
        self.rows.put(record.key, record.value)


def topology() -> StreamsBuilder:
    """Returns stores of every kind over `PARTITIONS` partitions."""
    builder = StreamsBuilder()
    builder.table("people-in", key_serde=serdes.string, value_serde=serdes.msgpack, store="people")
    builder.table("blobs-in", key_serde=serdes.bytes, value_serde=serdes.bytes, store="blobs")
    builder.table("rates-in", key_serde=serdes.int64, value_serde=serdes.float64, store="rates")
    builder.add_global_store(
        key_value_store("ids", serdes.uuid, serdes.string).without_logging(),
        "ids-in",
        GlobalUpdate,
        key_serde=serdes.uuid,
        value_serde=serdes.string,
    )
    clicks = builder.stream("clicks", key_serde=serdes.string, value_serde=serdes.string)
    hours = TimeWindows.of_size(timedelta(milliseconds=WINDOW_MS), grace=timedelta(hours=20))
    grouped = clicks.group_by_key()
    # Segments of half the retention, so that rows of one key stand in several of them.
    kept = timedelta(milliseconds=WINDOW_MS * HOURS * 4)
    grouped.windowed_by(hours).count(materialized=Materialized("hourly", retention=kept))
    grouped.windowed_by(hours).count(
        materialized=Materialized("hourly-in-memory", retention=kept, store="memory")
    )
    return builder


def feed(app: App) -> None:
    """Writes the input of `topology`."""
    with app.producer() as producer:
        for name, person in PEOPLE.items():
            producer.send(
                "people-in", person, key=name, key_serde=serdes.string, value_serde=serdes.msgpack
            )
        for key, blob in BLOBS.items():
            producer.send("blobs-in", blob, key=key)
        for number, rate in RATES.items():
            producer.send(
                "rates-in", rate, key=number, key_serde=serdes.int64, value_serde=serdes.float64
            )
        for page, moment_ms in CLICKS:
            producer.send(
                "clicks",
                "x",
                key=page,
                key_serde=serdes.string,
                value_serde=serdes.string,
                timestamp=moment_ms,
            )
        for ident, name in IDS.items():
            producer.send(
                "ids-in", name, key=ident, key_serde=serdes.uuid, value_serde=serdes.string
            )


def idle(app: App) -> None:
    """Waits until everything is processed."""
    while (progress := app.progress()) is None or not progress.is_idle:
        if app.wait_for(State.ERROR, timeout=timedelta(milliseconds=5)):
            raise AssertionError(app.error)


def made_app(state_dir: Any, **settings: Any) -> App:
    """Returns an application on a log in memory, with `topology`."""
    log = memory_log()
    return App(
        topology(),
        application_id="asked",
        state_dir=state_dir,
        commit_interval_ms=20,
        poll_ms=5,
        transport=lambda: MemoryTransport(log, "asked", default_partitions=PARTITIONS),
        **{"default_partitions": PARTITIONS, **settings},
    )


class Share:
    """An instance that has some partitions of an application's stores, and no others.

    What it has it reads from the application; what it does not have it refuses, as an instance
    does whose tasks are elsewhere.
    """

    def __init__(
        self,
        app: App,
        partitions: Collection[int],
        endpoint: Endpoint,
        others: Mapping[Endpoint, Collection[int]],
    ) -> None:
        self.app = app
        self.partitions = set(partitions)
        self.endpoint = endpoint
        self.others = dict(others)
        self.unknown_stores: set[str] = set()
        self.fault: Callable[[str, int | None], StreamsError | None] = lambda _n, _p: None

    application_id = "asked"
    error = None

    @property
    def state(self) -> State:
        return self.app.state

    @property
    def store_names(self) -> list[str]:
        return self.app.store_names

    @property
    def directory(self) -> StoreDirectory:
        return self.app.directory

    def progress(self) -> Any:
        return self.app.progress()

    def metrics_text(self) -> str:
        return self.app.metrics_text()

    def store_builder(self, name: str) -> StoreBuilder:
        if name in self.unknown_stores:
            message = f"there is no store {name!r}"
            raise UnknownStoreError(message)
        return self.app.store_builder(name)

    def group_view(self) -> GroupView:
        view = self.app.group_view()
        mine = {task for task in view.tasks.active if task[1] in self.partitions}
        endpoints = {
            endpoint: EndpointPartitions(
                active={topic: frozenset(partitions) for topic in view.counts}
            )
            for endpoint, partitions in self.others.items()
        }
        tasks = InstanceTasks(frozenset(mine))
        return replace(view, tasks=tasks, endpoint=self.endpoint, endpoints=endpoints)

    def store(self, name: str, *, timestamped: bool, partition: int | None) -> Any:
        fault = self.fault(name, partition)
        if fault is not None:
            raise fault
        if partition is not None and partition not in self.partitions:
            message = f"partition {partition} of store {name!r} is not in this instance"
            raise StoreMovedError(message)
        return self.app.store(name, timestamped=timestamped, partition=partition)
