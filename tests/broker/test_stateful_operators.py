"""Every stateful operator on a broker: a worker dies in the middle, and nobody can tell by the results.

One application has all operators (`stateful_operators`). Two workers share its partitions, with
exactly_once_v2. What they must write is what the test driver writes for the same records, one
driver for each partition: stream time is a partition's own. Operators whose records pass through a
repartition topic have no certain order between two partitions: their last results are compared,
with those of one driver for everything.

The input comes in three parts. One worker is killed in the midst of the second, with a transaction
open; the survivor restores its tasks. Records of the second part are in the order of time, those of
the others come late, too late as well. The third begins with a record that is later than all
others: what an operator has seen of stream time is then the same whether it was restarted or not.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.broker.records import Follower, HeaderRows, Record, Topics, unique
from tests.broker.stateful_operators import stateful_operators
from tests.broker.workers import Worker
from tests.waiting import HANG_S, wait_until
from thalweg import TopologyTestDriver
from thalweg.stores.murmur2 import murmur2

SCRIPT = Path(__file__).with_name("stateful_operators.py")
PARTITIONS = 2
KEYS = [f"k{n}" for n in range(12)]
HOUR_MS = 3_600_000
PLAIN, HEADERS = "default", "headers"

IN_ORDER = [
    *("session", "sliding", "windowed", "closed", "suppress", "cogroup"),
    *("inner", "left", "outer", "tables", "versioned", "graced", "global"),
]
"""Operators of records of one partition: every result is compared."""
AT_THE_END = ["grouped", "foreign"]
"""Operators behind a repartition: the last result of each key is compared."""

BYTES = {
    "session": ["session"],
    "sliding": ["sliding"],
    "windowed": ["windowed"],
    "closed": ["closed"],
    "suppress": ["counted"],
    "cogroup": ["cogroup"],
    "left": ["left-left-shared-join-store"],
    "outer": ["outer-outer-shared-join-store"],
    "tables": ["lefts", "rights", "tables"],
    "versioned": ["versions"],
    "grouped": ["grouped"],
    "foreign": ["rows", "foreign"],
}
"""Stores by operator whose changelog ends with the driver's bytes."""
KEYS_ONLY = {
    # Rows have the partition and offset that their records came from.
    "suppress": [("held-store", False)],
    "graced": [("asked-Buffer", True)],
}
"""Stores whose changelog ends with the driver's keys; are they numbered, as below?"""
NUMBERED = {
    "inner": ["inner-this-join-store", "inner-other-join-store"],
    "left": ["left-this-join-store", "left-outer-other-join-store"],
    "outer": ["outer-outer-this-join-store", "outer-outer-other-join-store"],
}
"""Stores that keep duplicates: a restarted task numbers them anew, as the JVM's does."""
NUMBER_BYTES = 4

Result = tuple[bytes | None, int, tuple[tuple[str, bytes | None], ...]]
Results = dict[str, list[Result]]


class Event(NamedTuple):
    """A record of the input."""

    key: str
    value: str
    timestamp: int
    headers: HeaderRows

    @property
    def partition(self) -> int:
        """Where it goes."""
        return (murmur2(self.key.encode()) & 0x7FFFFFFF) % PARTITIONS


CLOCKS = {
    Event(name, "", 0, ()).partition: name for name in ("clock-a", "clock-b", "clock-c", "clock-d")
}
"""A key of each partition."""


class Input:
    """Records of all sides.

    No two of a partition have one timestamp: rows that a store keeps by time and number would
    have to share a key.
    """

    def __init__(self, start_ms: int) -> None:
        self._rng = random.Random(20261201)
        self._now_ms = start_ms
        self._count = 0
        self._taken: set[tuple[int, int]] = set()

    def part(self, count: int, *, in_order: bool) -> list[Event]:
        """Returns some records, each 0 to 15 ms after the last one or, not in order, before it."""
        events = []
        for _ in range(count):
            self._now_ms += self._rng.randrange(1, 15)
            late = 0 if in_order or self._rng.random() < 0.6 else self._rng.randrange(200)
            events.append(self._event(self._rng.choice(KEYS), self._side(), self._now_ms - late))
        return events

    def clocks(self) -> list[Event]:
        """Returns records of all sides and partitions that are later than any other so far."""
        events = []
        for _ in range(2):
            self._now_ms += 1_000
            for key in CLOCKS.values():
                events += [self._event(key, side, self._now_ms) for side in "lrfv"]
        return events

    def _side(self) -> str:
        return self._rng.choice("lllrrrffvvvd")

    def _event(self, key: str, side: str, timestamp: int) -> Event:
        self._count += 1
        value = f"{side}{self._count}"
        if side == "f":
            value += f":{self._rng.choice(KEYS)}"
        partition = Event(key, "", 0, ()).partition
        while (partition, timestamp) in self._taken:
            timestamp += 1
        self._taken.add((partition, timestamp))
        self._now_ms = max(self._now_ms, timestamp)
        return Event(key, value, timestamp, [("n", b"%d" % self._count)])


class Written(NamedTuple):
    """What an application has written.

    Attributes:
        results: by operator, of each key in order.
        changelogs: by store, key -> last value, without those that are deleted.
    """

    results: dict[str, Results]
    changelogs: dict[str, dict[bytes, bytes]]

    @classmethod
    def of(cls, records: dict[str, list[Record]], application_id: str, results: str) -> Written:
        """Sorts records by topic."""
        changelogs: dict[str, dict[bytes, bytes]] = {}
        for topic, rows in records.items():
            if topic.endswith("-changelog"):
                store = topic.removeprefix(f"{application_id}-").removesuffix("-changelog")
                changelogs[store] = last_rows(rows)
        return cls(by_operator(records.get(results, ())), changelogs)


def by_operator(records: Iterable[Record]) -> dict[str, Results]:
    """Returns results by operator and key."""
    found: dict[str, Results] = defaultdict(lambda: defaultdict(list))
    for record in records:
        assert record.key is not None
        operator, _, key = record.key.decode().partition("/")
        found[operator][key].append((record.value, record.timestamp, record.headers))
    return found


def last_rows(records: Iterable[Record]) -> dict[bytes, bytes]:
    """Returns the last value of each key that has one."""
    last = {record.key: record.value for record in records}
    return {key: value for key, value in last.items() if key is not None and value is not None}


def last_results(results: Results) -> dict[str, bytes]:
    """Returns the last value of each key that has one."""
    last = {key: rows[-1][0] for key, rows in results.items()}
    return {key: value for key, value in last.items() if value is not None}


class Application:
    """The application, its workers and its input.

    Args:
        servers: bootstrap servers.
        home: for state and logs.
        store_format: `dsl_store_format`.
    """

    def __init__(self, servers: str, home: Path, store_format: str) -> None:
        self.topics = Topics(servers)
        self.id = unique("stateful")
        self.format = store_format
        self.events = self.topics.create(unique("events"), PARTITIONS)
        self.rates = self.topics.create(unique("rates"))
        self.results = self.topics.create(unique("results"), PARTITIONS)
        start_ms = int(time.time() * 1_000) // HOUR_MS * HOUR_MS - HOUR_MS
        self.input = Input(start_ms)
        self.fed: list[Event] = []
        self._is_closed = False
        self.global_rows = [Event(key, f"rate-{key}", start_ms, ()) for key in KEYS[::2]]
        self._write(self.rates, self.global_rows)
        options = [
            *("--bootstrap-servers", servers, "--log-level", "info"),
            *(
                text
                for name, value in {**self._settings, "commit_interval_ms": 200}.items()
                for text in ("--set", f"{name}={value}")
            ),
        ]
        environment = {
            "EVENTS": self.events,
            "RATES": self.rates,
            "RESULTS": self.results,
            "APPLICATION": self.id,
        }
        self.workers = [Worker(name, home, options, environment, SCRIPT) for name in ("one", "two")]

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "processing_guarantee": "exactly_once_v2",
            "statestore_cache_max_bytes": 0,
            "outer_join_emit_interval_ms": 0,
            "window_emit_interval_ms": 0,
            "dsl_store_format": self.format,
        }

    def feed(self, events: list[Event]) -> None:
        """Writes records."""
        self.fed += events
        self._write(self.events, events)

    def _write(self, topic: str, events: list[Event]) -> None:
        self.topics.produce(
            topic,
            [(event.key.encode(), event.value.encode()) for event in events],
            timestamps=[event.timestamp for event in events],
            headers=[event.headers for event in events],
        )

    # -- workers -------------------------------------------------------------------------

    def wait(self, is_true: Any, what: Any) -> None:
        """Waits until something is true, but not when a worker has failed."""

        def checked() -> bool:
            assert not self._is_closed, "the test is over"
            failed = [worker.name for worker in self.workers if worker.has_failed]
            assert not failed, f"{failed} ended while waiting\n{self.logs()}"
            return bool(is_true())

        wait_until(checked, HANG_S, lambda: f"{what() if callable(what) else what}\n{self.logs()}")

    def logs(self) -> str:
        """Returns the end of all logs."""
        return "\n".join(f"--- {worker.name}\n{worker.log[-3000:]}" for worker in self.workers)

    def partitions_of(self, worker: Worker) -> set[int]:
        """Returns the partitions of the events that a worker reads."""
        return {number for topic, number in worker.partitions() if topic == self.events}

    def halt_amid_work(self, worker: Worker) -> None:
        """Halts a worker that has written something it has not committed, and has more to do."""
        mine = self.partitions_of(worker)
        changelog = f"{self.id}-cogroup-changelog"
        with Follower(self.topics, changelog, is_committed=False) as follower:
            follower.all()
            while True:
                self.feed(self.input.part(250, in_order=True))
                self.wait(
                    lambda: any(change.partition in mine for change in follower.more()),
                    "a change of the second part",
                )
                worker.signal(signal.SIGSTOP)
                ends, committed = (
                    self.topics.ends(self.events),
                    self.topics.committed(self.id, self.events),
                )
                if any(committed[number] < ends[number] for number in mine):
                    return
                worker.signal(signal.SIGCONT)  # it was too quick for us
                self.wait_committed()
                follower.all()

    def wait_shared(self) -> None:
        """Waits until each partition of the events has a living worker, and both work."""

        def is_shared() -> bool:
            alive = [worker for worker in self.workers if worker.is_alive]
            owned = [len(self.partitions_of(worker)) for worker in alive]
            return sum(owned) == PARTITIONS and all(worker.is_ready for worker in alive)

        self.wait(is_shared, "sharing of all partitions")

    def wait_committed(self) -> None:
        """Waits until all events are committed."""
        ends = self.topics.ends(self.events)
        self.wait(
            lambda: self.topics.committed(self.id, self.events) == ends, f"commits up to {ends}"
        )

    def close(self) -> None:
        """Ends the workers, and what waits for them."""
        self._is_closed = True
        for worker in self.workers:
            worker.kill()

    # -- what was written ------------------------------------------------------------------

    def driven(self, events: list[Event]) -> dict[str, list[Record]]:
        """Returns what the test driver writes, by topic."""
        builder = stateful_operators(self.events, self.rates, self.results)
        written: dict[str, list[Record]] = defaultdict(list)
        with TopologyTestDriver(builder, application_id=self.id, **self._settings) as driver:
            for topic, rows in ((self.rates, self.global_rows), (self.events, events)):
                for row in rows:
                    driver.pipe_raw(
                        topic, row.key.encode(), row.value.encode(), row.timestamp, row.headers
                    )
            for record in driver.take_produced():
                written[record.topic].append(
                    Record(
                        record.partition or 0,
                        record.key,
                        record.value,
                        -1 if record.timestamp is None else record.timestamp,
                        tuple(record.headers),
                    )
                )
        return written

    def expected(self) -> Written:
        """Returns what has to be written for all that was fed."""
        written = self.driven(self.fed)
        everything = Written.of(written, self.id, self.results)
        parts = [
            Written.of(
                self.driven([event for event in self.fed if event.partition == number]),
                self.id,
                self.results,
            )
            for number in range(PARTITIONS)
        ]
        results = {
            operator: {
                key: rows
                for part in parts
                for key, rows in part.results.get(operator, Results()).items()
            }
            for operator in IN_ORDER
        }
        results |= {operator: everything.results[operator] for operator in AT_THE_END}
        behind = {store for operator in AT_THE_END for store in BYTES[operator]}
        changelogs = {
            store: rows
            if store in behind
            else {
                key: value
                for part in parts
                for key, value in part.changelogs.get(store, {}).items()
            }
            for store, rows in everything.changelogs.items()
        }
        return Written(results, changelogs)

    def written(self) -> Written:
        """Returns what the workers wrote."""
        names = [self.results]
        names += [
            name
            for name in self.topics.names()
            if name.startswith(f"{self.id}-") and name.endswith("-changelog")
        ]
        return Written.of({name: self.topics.read(name) for name in names}, self.id, self.results)


class Run(NamedTuple):
    """A run that has ended.

    Attributes:
        written: by the workers.
        expected: by the test driver.
    """

    written: Written
    expected: Written


@pytest.fixture(scope="module")
def runs(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Runs the application with either format of stores, both at once: most of it is waiting."""
    made = {
        name: Application(kafka, tmp_path_factory.mktemp(name), name) for name in (PLAIN, HEADERS)
    }
    with ThreadPoolExecutor(len(made)) as pool:
        try:
            yield {name: pool.submit(run_with_a_kill, one) for name, one in made.items()}
        finally:
            for application in made.values():
                application.close()


@pytest.fixture(params=[PLAIN, HEADERS])
def run(runs: dict[str, Future[Run]], request: pytest.FixtureRequest) -> Run:
    """A run with one format of stores."""
    return runs[request.param].result()


def run_with_a_kill(application: Application) -> Run:
    """Runs two workers, kills one of them, and lets the other one do the rest."""
    for worker in application.workers:
        worker.start()
    application.wait_shared()
    application.feed(application.input.part(250, in_order=False))
    application.wait_committed()

    survivor, victim = sorted(
        application.workers, key=lambda worker: len(application.partitions_of(worker))
    )
    application.halt_amid_work(victim)
    victim.kill()
    application.wait_shared()
    application.wait_committed()

    application.feed(application.input.clocks())
    application.feed(application.input.part(250, in_order=False))
    application.feed(application.input.clocks())
    application.wait_committed()

    expected = application.expected()
    lacking: dict[str, Any] = {}

    def is_settled() -> bool:
        found = by_operator(application.topics.read(application.results))
        lacking.clear()
        for operator in AT_THE_END:
            wanted, got = last_results(expected.results[operator]), last_results(found[operator])
            lacking.update(
                {
                    f"{operator}/{key}": (wanted.get(key), got.get(key))
                    for key in wanted.keys() | got.keys()
                    if wanted.get(key) != got.get(key)
                }
            )
        return not lacking

    application.wait(is_settled, lambda: f"last results: {lacking}")
    assert survivor.stop() == 0, survivor.log
    assert survivor.restored > 0
    assert "Traceback" not in survivor.log, survivor.log
    return Run(application.written(), expected)


@pytest.mark.parametrize("operator", IN_ORDER)
def test_each_result_is_written_once_and_in_order(run: Run, operator: str) -> None:
    expected, written = run.expected.results[operator], run.written.results[operator]

    assert expected, "the input says nothing about this operator"
    for key, rows in expected.items():
        assert written.get(key) == rows, f"{operator}/{key}"
    assert written.keys() == expected.keys()


@pytest.mark.parametrize("operator", AT_THE_END)
def test_last_results_are_right(run: Run, operator: str) -> None:
    expected = last_results(run.expected.results[operator])

    assert expected, "the input says nothing about this operator"
    assert last_results(run.written.results[operator]) == expected


@pytest.mark.parametrize("operator", BYTES)
def test_changelogs_end_with_the_same_bytes(run: Run, operator: str) -> None:
    for store in BYTES[operator]:
        assert run.written.changelogs[store] == run.expected.changelogs[store], store


@pytest.mark.parametrize("operator", KEYS_ONLY)
def test_changelogs_of_buffers_end_with_the_same_keys(run: Run, operator: str) -> None:
    for store, is_numbered in KEYS_ONLY[operator]:
        written, expected = (
            {key[:-NUMBER_BYTES] if is_numbered else key for key in rows}
            for rows in (run.written.changelogs[store], run.expected.changelogs[store])
        )
        assert written == expected, store


@pytest.mark.parametrize("operator", NUMBERED)
def test_changelogs_of_join_windows_have_the_same_rows(run: Run, operator: str) -> None:
    for store in NUMBERED[operator]:
        written, expected = (
            Counter((key[:-NUMBER_BYTES], value) for key, value in side.changelogs[store].items())
            for side in run
        )
        assert written == expected, store


def test_the_operators_are_all_that_there_are(run: Run) -> None:
    """A new operator of the script stands in the lists above."""
    assert set(run.written.results) == {*IN_ORDER, *AT_THE_END}
    named = {name for table in (BYTES, NUMBERED) for row in table.values() for name in row}
    named |= {name for row in KEYS_ONLY.values() for name, _ in row}
    others = {name for name in run.expected.changelogs if name not in named}
    assert all("FK-JOIN-SUBSCRIPTION" in name for name in others), others
