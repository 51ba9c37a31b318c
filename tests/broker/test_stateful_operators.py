"""Every stateful operator on a broker: a worker dies in the middle, and nobody can tell by the results.

One application has all operators (`stateful_operators`). Two workers share its partitions, with
exactly_once_v2. What they must write is what the test driver writes for the same records, one
driver for each partition: stream time is a partition's own. Operators whose records pass through a
repartition topic have no certain order between two partitions: their last results are compared,
with those of one driver for everything.

The input comes in three parts, all of them with records that come late, too late as well. One worker
is killed in the midst of the second, with a transaction open; the survivor restores its tasks. What
an operator has seen of stream time is kept as well: what is late is the same as ever.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.broker.records import Follower, HeaderRows, Record, Topics, unique
from tests.broker.stateful_operators import stateful_operators, told
from tests.broker.workers import Worker
from tests.waiting import HANG_S, wait_until
from thalweg import (
    AggregationWithHeaders,
    TopologyTestDriver,
    ValueAndTimestamp,
    ValueTimestampHeaders,
)
from thalweg.stores.murmur2 import murmur2

SCRIPT = Path(__file__).with_name("stateful_operators.py")
PARTITIONS = 2
KEYS = [f"k{n}" for n in range(12)]
HOUR_MS = 3_600_000
LATE_MS = 900
"""The latest a record comes; longer than most windows are kept open."""
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

FORMS = {
    **dict.fromkeys(["cogroup", "lefts", "rights", "tables", "grouped", "rows", "foreign"], ""),
    **dict.fromkeys(["windowed", "sliding", "closed", "counted"], "/windows"),
    "session": "/sessions",
}
"""Stores that the survivor is asked for, and the form of the question."""

Result = tuple[bytes | None, int, tuple[tuple[str, bytes | None], ...]]
Results = dict[str, list[Result]]
Rows = dict[str, str]


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


class Input:
    """Records of all sides, many of them late.

    No two of a partition have one timestamp: rows that a store keeps by time and number would
    have to share a key.
    """

    def __init__(self, start_ms: int) -> None:
        self._rng = random.Random(20261201)
        self._now_ms = start_ms
        self._count = 0
        self._taken: set[tuple[int, int]] = set()

    def part(self, count: int, late: int = 0) -> list[Event]:
        """Returns some records.

        Args:
            count: how many.
            late: so many of them come first, all of them earlier than what has been.
        """
        events = []
        for number in range(count):
            is_late = number < late or self._rng.random() < 0.3
            if number >= late:
                self._now_ms += self._rng.randrange(1, 15)
            back_ms = self._rng.randrange(100, LATE_MS) if is_late else 0
            events.append(self._event(self._rng.choice(KEYS), self._side(), self._now_ms - back_ms))
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
    """What an application has written, and has in its stores.

    Attributes:
        results: by operator, of each key in order.
        changelogs: by store, key -> last value, without those that are deleted.
        stores: rows by key, as text.
    """

    results: dict[str, Results]
    changelogs: dict[str, dict[bytes, bytes]]
    stores: dict[str, Rows]

    @classmethod
    def of(
        cls,
        records: dict[str, list[Record]],
        stores: dict[str, Rows],
        application_id: str,
        results: str,
    ) -> Written:
        """Sorts records by topic."""
        changelogs: dict[str, dict[bytes, bytes]] = {}
        for topic, rows in records.items():
            if topic.endswith("-changelog"):
                store = topic.removeprefix(f"{application_id}-").removesuffix("-changelog")
                changelogs[store] = last_rows(rows)
        return cls(by_operator(records.get(results, ())), changelogs, stores)


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
                # An operator that has forgotten its stream time takes these for timely.
                self.feed(self.input.part(250, late=60))
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

    def driven(self, events: list[Event]) -> Written:
        """Returns what the test driver makes of records."""
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
            stores = {store: rows_of(driver.store(store)) for store in FORMS}
        return Written.of(written, stores, self.id, self.results)

    def expected(self) -> Written:
        """Returns what has to be written for all that was fed."""
        everything = self.driven(self.fed)
        parts = [
            self.driven([event for event in self.fed if event.partition == number])
            for number in range(PARTITIONS)
        ]
        results = {
            operator: merged(part.results.get(operator, {}) for part in parts)
            for operator in IN_ORDER
        }
        results |= {operator: everything.results[operator] for operator in AT_THE_END}
        behind = {store for operator in AT_THE_END for store in BYTES[operator]}

        def of_parts(whole: Mapping[str, Any], side: str) -> dict[str, Any]:
            return {
                store: rows
                if store in behind
                else merged(getattr(part, side).get(store, {}) for part in parts)
                for store, rows in whole.items()
            }

        return Written(
            results,
            of_parts(everything.changelogs, "changelogs"),
            of_parts(everything.stores, "stores"),
        )

    def written(self, stores: dict[str, Rows]) -> Written:
        """Returns what the workers wrote, beside the rows of stores."""
        names = [self.results]
        names += [
            name
            for name in self.topics.names()
            if name.startswith(f"{self.id}-") and name.endswith("-changelog")
        ]
        records = {name: self.topics.read(name) for name in names}
        return Written.of(records, stores, self.id, self.results)


def merged(parts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Returns what parts have together."""
    return {key: value for part in parts for key, value in part.items()}


def rows_of(store: Any) -> Rows:
    """Returns the rows of a store of the test driver."""
    with closing(store.all()) as rows:
        return {told(key): str(plain(value)) for key, value in rows}


def plain(row: Any) -> Any:
    """Returns a value without what stores keep beside it."""
    if isinstance(row, AggregationWithHeaders):
        return row.aggregation
    return row.value if isinstance(row, ValueAndTimestamp | ValueTimestampHeaders) else row


def asked(worker: Worker, store: str, form: str) -> Rows:
    """Asks a worker for all rows of a store."""
    answer = worker.ask(f"/stores/{store}{form}?limit=10000")
    assert answer.status == 200, answer.text
    body = answer.body
    assert body["cursor"] is None, "there are more rows than were asked for"

    def key_of(row: Any) -> str:
        key = row["key"]
        return key if isinstance(key, str) else f"{key['key']}@{key['start']}-{key['end']}"

    return {key_of(row): str(row["value"]) for row in body["rows"]}


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
    application.feed(application.input.part(250))
    application.wait_committed()

    survivor, victim = sorted(
        application.workers, key=lambda worker: len(application.partitions_of(worker))
    )
    application.halt_amid_work(victim)
    victim.kill()
    application.wait_shared()
    application.wait_committed()

    application.feed(application.input.part(250))
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
    stores = {store: asked(survivor, store, form) for store, form in FORMS.items()}
    assert survivor.stop() == 0, survivor.log
    assert survivor.restored > 0
    assert "Traceback" not in survivor.log, survivor.log
    return Run(application.written(stores), expected)


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


@pytest.mark.parametrize("store", FORMS)
def test_the_survivor_has_all_rows(run: Run, store: str) -> None:
    assert run.expected.stores[store], "the input leaves nothing there"
    assert run.written.stores[store] == run.expected.stores[store]


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
