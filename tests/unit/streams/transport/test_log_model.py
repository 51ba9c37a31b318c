"""The embedded log against a model: two applications, transactions, restarts, clean-up.

The model knows of each partition the records in their final order and who may see them. Its
own words for offsets are none: it holds that a record, once committed, keeps the offset it
was first seen with, and that offsets rise.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.record import headers_of, offset_of
from thalweg.streams.transport.log import cleaner, formats, outbox, transport
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    Reader,
    TopicPartition,
)

REPARTITION = TopicPartition("app-x-repartition", 0)
COMPACTED = TopicPartition("compacted", 0)
AGED = TopicPartition("aged", 0)
PLAIN = [TopicPartition("plain", 0), TopicPartition("plain", 1)]
READ = [REPARTITION, *PLAIN]
ALL = [REPARTITION, COMPACTED, AGED, *PLAIN]
RETENTION_MS = 100_000

TOPICS = [
    NewTopic("plain", 2),
    NewTopic(REPARTITION.topic, 1, configs={"cleanup.policy": "delete", "retention.ms": "-1"}),
    NewTopic(
        "compacted",
        1,
        configs={"cleanup.policy": "compact", "delete.retention.ms": str(RETENTION_MS)},
    ),
    NewTopic("aged", 1, configs={"retention.ms": str(RETENTION_MS)}),
]


NAMES = st.sampled_from(["app", "other"])


def action(what: str, /, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(what), st.fixed_dictionaries(arguments))


WEIGHTED: list[tuple[int, st.SearchStrategy[Any]]] = [
    (
        6,
        action(
            "send",
            name=NAMES,
            at=st.sampled_from([*ALL, *[PLAIN[0]] * 5, *[REPARTITION] * 3]),
            keys=st.lists(st.integers(0, 4), min_size=1, max_size=6),
            is_tombstone=st.booleans(),
            has_headers=st.booleans(),
        ),
    ),
    (
        8,
        action(
            "read",
            name=NAMES,
            at=st.sampled_from([*READ, *[PLAIN[0]] * 5, *[REPARTITION] * 3]),
            most=st.sampled_from([1, 2, 5, 100, 100, 100]),
        ),
    ),
    (3, action("commit", name=NAMES, with_positions=st.booleans())),
    (1, action("abort", name=NAMES)),
    (1, action("restart", is_clean=st.booleans())),
    (1, action("delete_records", at=st.sampled_from(PLAIN), share=st.floats(0, 1))),
    (1, action("let_time_pass", passed_ms=st.sampled_from([1, 30_000, 61_000, 200_000]))),
]
ACTIONS = st.sampled_from(
    [strategy for weight, strategy in WEIGHTED for _ in range(weight)]
).flatmap(lambda strategy: strategy)


@dataclass(frozen=True)
class Sent:
    """A record; `number` tells it from all others."""

    number: int
    key: bytes
    timestamp: int
    is_tombstone: bool
    has_headers: bool

    def value(self) -> bytes | None:
        return None if self.is_tombstone else b"%d" % self.number


@dataclass
class Claimed:
    """Records whose sender has read them before the commit."""

    owner: str
    records: list[Sent]
    behind: list[Sent] = field(default_factory=list)


@dataclass
class ModelPartition:
    """A partition: everybody sees `entries`, some of which were never written."""

    entries: list[Sent] = field(default_factory=list)
    unwritten: set[int] = field(default_factory=set)
    claim: Claimed | None = None
    deleted: int = 0


class App:
    """An application: what it has sent and not committed, and what its reader has seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending: dict[TopicPartition, list[Sent]] = {at: [] for at in ALL}
        self.seen: dict[TopicPartition, list[int]] = {}
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.transport: MemoryTransport
        self.readers: dict[TopicPartition, Reader] = {}


class Rows(MemoryByteStore):
    """A byte store that outlives its log."""

    def __init__(self) -> None:
        super().__init__("rows")

    def close(self) -> None:
        pass


class LogModel(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        # Chunks of three, so that few records make several.
        self.patch = pytest.MonkeyPatch()
        for module in (cleaner, formats, outbox, transport):
            self.patch.setattr(module, "CHUNK_RECORDS", 3)
        self.now_ms = 10_000_000
        self.numbers = 0
        self.by_number: dict[int, Sent] = {}
        self.model = {at: ModelPartition() for at in ALL}
        self.offsets: dict[TopicPartition, dict[int, int]] = {at: {} for at in ALL}
        self.apps = {name: App(name) for name in ("app", "other")}
        self.new_store = self.stores()
        self.open()
        self.apps["app"].transport.create_topics(TOPICS)
        self.open_readers()

    def stores(self) -> Callable[[], ByteStore]:
        rows = Rows()
        return lambda: rows

    def open(self) -> None:
        self.log = LocalLog(self.new_store(), place="here", dirty_records_min=5)
        for app in self.apps.values():
            app.transport = MemoryTransport(self.log, app.name, now_ms=lambda: self.now_ms)

    def open_readers(self) -> None:
        for app in self.apps.values():
            for at in READ:
                self.open_reader(app, at)

    def open_reader(self, app: App, at: TopicPartition) -> None:
        """Begins to read a partition anew, from its first record."""
        if at in app.readers:
            app.readers[at].close()
        reader = app.readers[at] = app.transport.reader()
        reader.add(app.transport.begin_offsets([at]))
        partition = self.model[at]
        app.seen[at] = [sent.number for sent in partition.entries[: partition.deleted]]

    def teardown(self) -> None:
        self.patch.undo()
        for app in self.apps.values():
            app.transport.close()
        self.log.close()

    # -- what happens --------------------------------------------------------------------

    # One rule for all: hypothesis would leave out rules, and it is their mixture that tells.
    @rule(actions=st.lists(ACTIONS, min_size=1, max_size=20))
    def act(self, actions: list[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in actions:
            getattr(self, name)(**arguments)

    def send(
        self,
        name: str,
        at: TopicPartition,
        keys: list[int],
        is_tombstone: bool,
        has_headers: bool,
    ) -> None:
        app = self.apps[name]
        sender = app.transport.sender(at.topic)
        for key in keys:
            self.numbers += 1
            sent = Sent(
                self.numbers,
                b"k%d" % key,
                self.now_ms,
                is_tombstone and at == COMPACTED,
                has_headers,
            )
            self.by_number[sent.number] = sent
            app.pending[at].append(sent)
            # The number travels in a header where the value is a tombstone.
            headers = [("n", b"%d" % sent.number)] if has_headers or sent.is_tombstone else None
            sender(sent.key, sent.value(), sent.timestamp, headers, at.partition)

    def read(self, name: str, at: TopicPartition, most: int) -> None:
        app = self.apps[name]
        left = self.visible(app, at, most)[len(app.seen[at]) :]
        coming = [sent.number for sent in left if self.is_written(at, sent)][:most]

        batches = app.readers[at].poll(most, 0)

        assert [self.number_of(r) for _, records in batches for r in records] == coming
        # Records that were never written are passed over.
        passed = [sent.number for sent in left]
        if len(coming) == most:
            passed = passed[: passed.index(coming[-1]) + 1]
        app.seen[at] += passed

    def visible(self, app: App, at: TopicPartition, most: int) -> list[Sent]:
        """Returns what an application may read; reading what is its own claims it."""
        partition, pending = self.model[at], app.pending[at]
        left = [s for s in partition.entries[len(app.seen[at]) :] if self.is_written(at, s)]
        claim = partition.claim
        if len(left) < most:
            if claim is None and pending:
                claim = partition.claim = Claimed(app.name, list(pending))
            elif claim is not None and claim.owner == app.name and not claim.behind:
                claim.records = list(pending)
        if claim is not None and claim.owner == app.name:
            return partition.entries + claim.records
        return list(partition.entries)

    def is_written(self, at: TopicPartition, sent: Sent) -> bool:
        return sent.number not in self.model[at].unwritten

    def commit(self, name: str, with_positions: bool) -> None:
        app = self.apps[name]
        positions = {}
        if with_positions:
            for at in READ:
                position = app.readers[at].position(at)
                positions[at] = OffsetAndMetadata(position, f"{self.numbers}")

        app.transport.flush()
        app.transport.commit(positions)

        app.committed.update(positions)
        for at in ALL:
            self.settle(app, at, is_consumed=with_positions)

    def settle(self, app: App, at: TopicPartition, *, is_consumed: bool) -> None:
        partition, pending = self.model[at], app.pending[at]
        claim = partition.claim
        if claim is None:
            partition.entries += pending
        elif claim.owner != app.name:
            claim.behind += pending
        else:
            if at == REPARTITION and app.name == "app" and is_consumed:
                seen = set(app.seen[at])
                partition.unwritten |= {s.number for s in claim.records} & seen
            partition.entries += claim.records + claim.behind + pending[len(claim.records) :]
            partition.claim = None
        app.pending[at] = []

    def abort(self, name: str) -> None:
        app = self.apps[name]
        app.transport.flush()
        app.transport.abort()
        self.forget(app)
        for at in READ:
            self.open_reader(app, at)

    def forget(self, app: App) -> None:
        for at in ALL:
            partition = self.model[at]
            app.pending[at] = []
            if partition.claim is not None and partition.claim.owner == app.name:
                partition.entries += partition.claim.behind
                partition.claim = None

    def restart(self, is_clean: bool) -> None:
        if is_clean:
            for app in self.apps.values():
                app.transport.close()
        self.log.close()
        for app in self.apps.values():
            app.readers.clear()
        # What others committed behind a claim is there, whoever dies first.
        for app in self.apps.values():
            self.forget(app)
        self.open()
        self.open_readers()

    def delete_records(self, at: TopicPartition, share: float) -> None:
        partition = self.model[at]
        found = self.observed(at)
        if not found:
            return
        stop = int(share * len(found))
        offset = found[stop][0] if stop < len(found) else found[-1][0] + 1
        self.apps["app"].transport.delete_records({at: offset})
        partition.deleted += stop
        for app in self.apps.values():
            self.open_reader(app, at)

    def let_time_pass(self, passed_ms: int) -> None:
        self.now_ms += passed_ms

    # -- what must hold ------------------------------------------------------------------

    def observed(self, at: TopicPartition) -> list[tuple[int, Sent]]:
        """Reads a partition as somebody who came just now: (offset, record)."""
        with MemoryTransport(self.log, now_ms=lambda: self.now_ms) as observer:
            reader = observer.reader()
            reader.add(observer.begin_offsets([at]))
            end = observer.end_offsets([at])[at]
            found = []
            while reader.position(at) < end:
                for _, records in reader.poll(3, 0):
                    for record in records:
                        sent = self.by_number[self.number_of(record)]
                        assert (record[0], record[1]) == (sent.timestamp, sent.key)
                        assert record[2] == sent.value()
                        found.append((offset_of(record[3]), sent))
            assert reader.position(at) == reader.known_end_offset(at) == end
        return found

    @staticmethod
    def number_of(record: tuple) -> int:  # type: ignore[type-arg]
        headers = headers_of(record[3])
        number = int(headers[0][1] or 0) if headers else int(record[2])
        assert record[2] is None or int(record[2]) == number
        return number

    @invariant()
    def everybody_sees_what_was_committed(self) -> None:
        for at in ALL:
            found, partition = self.observed(at), self.model[at]
            offsets = [offset for offset, _ in found]
            assert offsets == sorted(set(offsets))
            for offset, sent in found:
                assert self.offsets[at].setdefault(sent.number, offset) == offset
            numbers = [sent.number for _, sent in found]
            entries = [s for s in partition.entries if s.number not in partition.unwritten]
            if at == COMPACTED:
                self.check_compacted(numbers, entries)
            elif at == AGED:
                self.check_aged(numbers, entries)
            else:
                assert numbers == [
                    s.number
                    for s in partition.entries[partition.deleted :]
                    if s.number not in partition.unwritten
                ]

    def check_compacted(self, numbers: list[int], entries: list[Sent]) -> None:
        remaining = iter(entries)
        assert all(any(s.number == number for s in remaining) for number in numbers), "order"
        last = {s.key: s for s in entries}
        kept = {self.by_number[number].key: number for number in numbers}
        for key, sent in last.items():
            if key in kept:
                assert kept[key] == sent.number
            else:
                assert sent.is_tombstone
                assert self.now_ms - sent.timestamp > RETENTION_MS

    def check_aged(self, numbers: list[int], entries: list[Sent]) -> None:
        all_numbers = [s.number for s in entries]
        assert numbers == all_numbers[len(all_numbers) - len(numbers) :]
        young = [s.number for s in entries if self.now_ms - s.timestamp <= RETENTION_MS]
        assert set(young) <= set(numbers)

    @invariant()
    def positions_are_those_last_committed(self) -> None:
        for app in self.apps.values():
            assert app.transport.committed(ALL) == app.committed


class RocksLogModel(LogModel):
    """The same on RocksDB."""

    def stores(self) -> Callable[[], ByteStore]:
        self.directory = Path(tempfile.mkdtemp(prefix="thalweg-log-"))
        return lambda: RocksByteStore("log", self.directory)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


TestLogInMemory = pytest.mark.timeout(300)(LogModel.TestCase)
TestLogInMemory.settings = settings(
    max_examples=150,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

TestLogInRocks = pytest.mark.timeout(300)(RocksLogModel.TestCase)
TestLogInRocks.settings = settings(
    max_examples=10,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
