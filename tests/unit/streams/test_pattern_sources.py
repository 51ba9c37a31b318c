"""Sources by pattern in a running application: topics that come, go and do not fit."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.unit.streams.running import Log, rows_of
from tests.unit.streams.working import NOW_MS, Running, running, worker_of
from thalweg import (
    State,
    StoreNotReadyError,
    StreamsBuilder,
    StreamsConfig,
    TopologyError,
)
from thalweg.streams.clock import ManualClock, SystemClock
from thalweg.streams.errors import TransportError
from thalweg.streams.group.broker import BrokerMember
from thalweg.streams.worker.assignment import WorkerState
from thalweg.topology.subtopologies import subtopologies

CLICKS = re.compile("clicks-.*")


def counting(pattern: re.Pattern[str] = CLICKS) -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.stream(pattern).group_by_key().count(name="counts")
    return builder


def by_value(pattern: re.Pattern[str] = CLICKS) -> StreamsBuilder:
    """Counts values, behind a repartition topic."""
    builder = StreamsBuilder()
    builder.stream(pattern).group_by(lambda _key, value: value).count(name="counts")
    return builder


Start = Callable[[StreamsBuilder], AbstractContextManager["Run"]]


class Run:
    """A worker on a log, and a clock that lets it look for new topics."""

    def __init__(self, run: Running, clock: ManualClock) -> None:
        self.run, self.clock = run, clock

    def until(self, condition: Callable[[], bool]) -> None:
        def looks() -> bool:
            self.clock.advance(1_000)
            return condition()

        self.run.until(looks)

    def counts(self) -> dict[str, int]:
        """Returns the counts of all tasks."""
        found: dict[str, int] = {}
        try:
            faces = self.run.worker.stores("counts")
        except StoreNotReadyError:
            return {}
        for face in faces:
            for key, row in rows_of(face).items():
                found[key] = found.get(key, 0) + row.value
        return found


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def start(log: Log, tmp_path: Path) -> Start:
    """Returns what runs a worker for the time of a with-block."""

    @contextmanager
    def start(builder: StreamsBuilder) -> Iterator[Run]:
        clock = ManualClock(NOW_MS)
        worker = worker_of(builder, log, tmp_path, clock=clock, commit_interval_ms=0)
        with running(worker) as run:
            yield Run(run, clock)

    return start


def test_it_waits_for_its_first_topic(log: Log, start: Start) -> None:
    with start(counting()) as run:
        run.until(lambda: run.run.worker.state is WorkerState.RUNNING)
        assert run.run.worker.progress().running_tasks == 0
        with pytest.raises(StoreNotReadyError, match=r"no topic .* pattern 'clicks-\.\*'"):
            run.run.worker.stores("counts")
        log.create("clicks-a", 3)
        for number in range(9):
            log.send("clicks-a", (f"k{number % 3}", f"k{number % 3}"))
        run.until(lambda: run.counts() == {"k0": 3, "k1": 3, "k2": 3})
    with start(counting()) as run:
        run.until(lambda: run.counts() == {"k0": 3, "k1": 3, "k2": 3})


def test_topics_that_follow_from_it_wait_as_well(log: Log, start: Start) -> None:
    with start(by_value()) as run:
        run.until(lambda: run.run.worker.state is WorkerState.RUNNING)
        with log.transport() as transport:
            assert transport.topics() == []
        log.create("clicks-a", 3)
        log.send("clicks-a", ("k", "x"), ("k", "y"), ("l", "x"))
        run.until(lambda: run.counts() == {"x": 2, "y": 1})


def test_other_sources_go_on_while_a_pattern_matches_nothing(log: Log, start: Start) -> None:
    builder = counting()
    builder.stream("in").to("out")
    with start(builder) as run:
        log.send("in", ("a", "1"))
        run.until(lambda: len(log.read("out")) == 1)
        log.send("clicks-a", ("k", "x"))
        run.until(lambda: run.counts() == {"k": 1})


def test_a_topic_with_too_many_partitions_is_refused_once_and_the_others_go_on(
    log: Log, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def refusals() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]

    log.send("clicks-a", ("k", "x"))
    with start(counting()) as run:
        run.until(lambda: run.counts() == {"k": 1})
        log.create("clicks-b", 3)
        log.send("clicks-b", ("k", "x"), partition=0)
        log.send("clicks-c", ("k", "x"))
        log.send("clicks-a", ("k", "x"))
        run.until(lambda: run.counts() == {"k": 3})
        (refusal,) = refusals()
        for word in ("clicks-b", "3 partitions", "app-counts-changelog", "has 1", "reset"):
            assert word in refusal
    # At the next start it is known before anything is read, and still no reason to end.
    with start(counting()) as run:
        log.send("clicks-c", ("k", "x"))
        run.until(lambda: run.counts() == {"k": 4})
    assert len(refusals()) == 2


def test_a_refused_topic_that_is_made_anew_and_fits_is_read(log: Log, start: Start) -> None:
    log.send("clicks-a", ("k", "x"))
    with start(counting()) as run:
        run.until(lambda: run.counts() == {"k": 1})
        log.create("clicks-b", 2)
        log.send("clicks-a", ("k", "x"))
        run.until(lambda: run.counts() == {"k": 2})
        with log.transport() as transport:
            transport.delete_topics(["clicks-b"])
        log.send("clicks-b", ("k", "x"))
        run.until(lambda: run.counts() == {"k": 3})


def test_behind_a_repartition_topic_any_count_fits(log: Log, start: Start) -> None:
    log.send("clicks-a", ("k", "x"))
    with start(by_value()) as run:
        run.until(lambda: run.counts() == {"x": 1})
        log.create("clicks-b", 3)
        for partition in range(3):
            log.send("clicks-b", ("k", "x"), partition=partition)
        run.until(lambda: run.counts() == {"x": 4})
    with start(by_value()) as run:
        run.until(lambda: run.counts() == {"x": 4})


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_it_goes_on_without_a_topic_that_is_deleted(
    log: Log, start: Start, *, is_made_anew: bool
) -> None:
    log.create("clicks-b", 2)
    log.send("clicks-a", ("a", "x"))
    log.send("clicks-b", ("b", "x"), ("b", "x"), partition=1)
    with start(counting()) as run:
        run.until(lambda: run.counts() == {"a": 1, "b": 2})
        with log.transport() as transport:
            transport.delete_topics(["clicks-b"])
        if is_made_anew:
            log.create("clicks-b", 2)
            log.send("clicks-b", ("b", "x"), partition=1)
        log.send("clicks-a", ("a", "x"))
        after = {"a": 2, "b": 3 if is_made_anew else 2}
        run.until(lambda: run.counts() == after)
    # What came from the deleted topic is still there after a restart, and can be asked for.
    with start(counting()) as run:
        run.until(lambda: run.counts() == after)
        log.send("clicks-a", ("a", "x"))
        run.until(lambda: run.counts() == {**after, "a": 3})


def test_a_deleted_topic_costs_no_record_of_others(log: Log, start: Start) -> None:
    builder = StreamsBuilder()
    builder.stream(CLICKS).to("out")
    for number in range(5):
        log.send(f"clicks-{number}", ("k", f"{number}"))
    with start(builder) as run:
        run.until(lambda: len(log.read("out")) == 5)
        for number in range(1, 5):
            for value in range(50):
                log.send("clicks-0", ("k", f"more {number} {value}"))
            with log.transport() as transport:
                transport.delete_topics([f"clicks-{number}"])
        run.until(lambda: len(log.read("out")) == 205)


def test_a_source_that_names_the_deleted_topic_cannot_go_on(log: Log, start: Start) -> None:
    builder = counting()
    builder.stream("in").to("out")
    log.send("in", ("a", "1"))
    with start(builder) as run:
        run.until(lambda: len(log.read("out")) == 1)
        with log.transport() as transport:
            transport.delete_topics(["in"])
        with pytest.raises(TransportError, match="topic 'in' was deleted"):
            run.run.ended()
        run.run.error = None


def test_topics_that_are_joined_must_fit_the_table(
    log: Log, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    builder = StreamsBuilder()
    users = builder.table("users", name="users")
    builder.stream(CLICKS).join(users, lambda click, user: f"{click} {user}").to("out")
    log.create("users", 2)
    log.send("users", ("u", "Ann"))
    with start(builder) as run:
        log.create("clicks-a", 1)
        log.create("clicks-b", 2)
        log.send("clicks-a", ("u", "a"))
        log.send("clicks-b", ("u", "b"))
        run.until(lambda: [seen.value for seen in log.read("out")] == ["b Ann"])
        assert "'clicks-a' is not read" in caplog.text
        assert "'users'" in caplog.text


def test_an_application_does_not_read_its_own_internal_topics(log: Log, start: Start) -> None:
    builder = by_value(re.compile(".*"))
    log.send("lines", ("k", "x"))
    with start(builder) as run:
        run.until(lambda: run.counts() == {"x": 1})
        log.send("more", ("k", "x"))
        run.until(lambda: run.counts() == {"x": 2})


def test_an_application_is_running_before_its_topics_are_there(log: Log, tmp_path: Path) -> None:
    app = log.app(counting(), tmp_path)
    with app:
        assert app.wait_for(State.RUNNING)
        assert app.wait_until_idle()


def test_kafka_is_not_asked_for_what_it_cannot_do() -> None:
    config = StreamsConfig(application_id="app", bootstrap_servers="127.0.0.1:1")
    parts = subtopologies(counting().build(config), config.topology_config)

    with pytest.raises(TopologyError, match=r"'clicks-\.\*'.*names of the topics.*embedded log"):
        BrokerMember(parts, config, SystemClock(), process_id="p")
