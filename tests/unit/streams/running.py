"""Applications on a log in memory: what is written to it, read from it and waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.waiting import HANG_S
from thalweg import (
    App,
    RestoreListener,
    State,
    StreamsBuilder,
    serdes,
)
from thalweg.stores.record import (
    HeaderList,
    RawRecord,
    headers_of,
    offset_of,
)
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.streams.transport.port import NewTopic, TopicPartition, Transport

SOON = timedelta(seconds=HANG_S)
"""Longer than anything takes that is in order."""

string, int64 = serdes.string, serdes.int64


class Seen(NamedTuple):
    """A record of a topic, key and value decoded where they are texts."""

    key: Any
    value: Any
    timestamp: int
    partition: int
    offset: int
    headers: HeaderList


class Log:
    """A log in memory, as its writers and readers outside an application see it."""

    def __init__(self, default_partitions: int = 1) -> None:
        self.engine: LocalLog = memory_log()
        self.default_partitions = default_partitions

    def transport(self, group: str | None = None) -> Transport:
        """Opens a transport; whoever asks closes it."""
        return MemoryTransport(self.engine, group, default_partitions=self.default_partitions)

    def create(self, topic: str, partitions: int = 1, **configs: str) -> None:
        """Creates a topic; configs with `_` for `.`."""
        named = {name.replace("_", "."): value for name, value in configs.items()}
        with self.transport() as transport:
            transport.create_topics([NewTopic(topic, partitions, configs=named)])

    def send(
        self,
        topic: str,
        *rows: tuple[str | None, str | bytes | None],
        timestamps: Iterable[int] = (),
        partition: int | None = None,
        headers: HeaderList | None = None,
    ) -> None:
        """Writes rows of texts (or bytes), the first at time 0 unless told otherwise, and commits."""
        moments = iter(timestamps)
        with self.transport() as transport:
            send = transport.sender(topic)
            for key, value in rows:
                raw = value.encode() if isinstance(value, str) else value
                raw_key = None if key is None else key.encode()
                send(raw_key, raw, next(moments, 0), headers, partition)
            transport.flush()
            transport.commit({})

    def raw(self, topic: str) -> list[tuple[TopicPartition, RawRecord]]:
        """Reads the committed records of a topic, partition by partition."""
        with self.transport() as transport:
            count = transport.partition_count(topic)
            if count is None:
                return []
            partitions = [TopicPartition(topic, number) for number in range(count)]
            found = []
            for partition, begin in transport.begin_offsets(partitions).items():
                reader = transport.reader()
                reader.add({partition: begin})
                while batches := reader.poll(10_000, 0):
                    found += [(at, record) for at, records in batches for record in records]
                reader.close()
            return found

    def read(self, topic: str, value: Callable[[bytes], Any] = bytes.decode) -> list[Seen]:
        """Reads a topic; keys are texts, values by default too."""
        return [
            Seen(
                None if key is None else key.decode(),
                None if raw is None else value(raw),
                timestamp,
                at.partition,
                offset_of(origin),
                headers_of(origin) or [],
            )
            for at, (timestamp, key, raw, origin) in self.raw(topic)
        ]

    def last_counts(self, topic: str) -> dict[str, int]:
        """Returns the last value of each key of a topic of int64 values."""
        return {seen.key: seen.value for seen in self.read(topic, serdes.int64.deserializer(topic))}

    def committed(self, group: str, topic: str, partition: int = 0) -> int | None:
        """Returns the committed offset of a group."""
        at = TopicPartition(topic, partition)
        with self.transport(group) as transport:
            known = transport.committed((at,)).get(at)
            return None if known is None else known.offset

    def end(self, topic: str, partition: int = 0) -> int:
        """Returns the end offset of a partition."""
        at = TopicPartition(topic, partition)
        with self.transport() as transport:
            return transport.end_offsets((at,))[at]

    def app(self, builder: StreamsBuilder, state_dir: Path, **settings: Any) -> App:
        """Returns an application on this log that does not dawdle."""
        given: Mapping[str, Any] = {
            "application_id": "app",
            "commit_interval_ms": 10,
            "poll_ms": 5,
            "default_key_serde": string,
            "default_value_serde": string,
            "default_partitions": self.default_partitions,
            **settings,
        }
        group = given["application_id"]
        return App(builder, state_dir=state_dir, transport=lambda: self.transport(group), **given)


def word_count(**table: Any) -> StreamsBuilder:
    """Returns a topology that counts words, in two subtopologies."""
    builder = StreamsBuilder()
    (
        builder.stream("lines", key_serde=string, value_serde=string)
        .flat_map_values(str.split)
        .group_by(lambda _key, word: word, key_serde=string, value_serde=string)
        .count(name="counts", **table)
        .to_stream()
        .to("word-counts", key_serde=string, value_serde=int64)
    )
    return builder


def until(app: App, condition: Callable[[], bool], what: str = "it") -> None:
    """Waits for a condition while the application is alive; fails when it dies or it takes long."""
    for _ in range(int(HANG_S / 0.005)):
        if condition():
            return
        if app.wait_for(State.ERROR, timeout=timedelta(milliseconds=5)):
            raise AssertionError(app.error)
        assert not app.state.has_finished, f"{app} ended before {what} happened"
    raise AssertionError(f"{what} did not happen")


def idle(app: App) -> None:
    """Waits until everything is processed and committed."""

    def is_idle() -> bool:
        progress = app.progress()
        return progress is not None and progress.is_idle

    until(app, is_idle, "idleness")


def settled(app: App, log: Log, topic: str, count: int) -> list[Seen]:
    """Waits until a topic has `count` committed records and returns them."""
    until(app, lambda: len(log.raw(topic)) >= count, f"{count} records in {topic}")
    return log.read(topic)


class Gate:
    """Where a worker waits inside user code until a test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def wait(self) -> None:
        """Called by the worker: tells that it is here, and waits."""
        self._reached.set()
        assert self._opened.wait(SOON.total_seconds()), "nobody opened the gate"

    def reached(self) -> None:
        """Waits until the worker is here."""
        assert self._reached.wait(SOON.total_seconds()), "nobody came to the gate"

    def open(self) -> None:
        """Lets the worker go on, now and later."""
        self._opened.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Waits until the worker is here, and lets it go on in the end, whatever happens."""
        try:
            self.reached()
            yield
        finally:
            self.open()


class HeldRestoring(RestoreListener):
    """Holds the worker where it begins to restore."""

    def __init__(self) -> None:
        self.gate = Gate()

    def on_restore_start(self, *_told: Any) -> None:
        self.gate.wait()


def rows_of(face: Any) -> dict[Any, Any]:
    """Reads all rows of a store."""
    with face.all() as rows:
        return dict(rows)


def texts(rows: Iterable[Seen]) -> Iterator[tuple[Any, Any]]:
    """Yields key and value."""
    for row in rows:
        yield row.key, row.value
