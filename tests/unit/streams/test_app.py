"""The application: its states and who hears of them, its end, its errors, its stores."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import (
    SOON,
    Gate,
    Log,
    idle,
    rows_of,
    settled,
    until,
    word_count,
)
from tests.unit.streams.tasks.steps import Told
from tests.waiting import HANG_S
from thalweg import (
    App,
    AppStateError,
    AuthenticationError,
    BrokerError,
    Materialized,
    ProcessingError,
    Progress,
    State,
    StoreLockedError,
    StoreMovedError,
    StoreNotReadyError,
    StreamsBuilder,
    StreamsError,
    TimeWindows,
    TopologyError,
    UncaughtResponse,
    UnknownStoreError,
    ValueAndTimestamp,
    serdes,
)
from thalweg.streams.clock import SystemClock

COUNTS = "app-counts-changelog"


def passing(work: Callable[[str], Any] = lambda value: value) -> StreamsBuilder:
    """Returns a topology that passes values through a function."""
    builder = StreamsBuilder()
    builder.stream("in").map_values(work).to("out")
    return builder


def running(app: App) -> App:
    """Waits until it runs."""
    assert app.wait_for(State.RUNNING, timeout=SOON), app.error
    return app


def ended(app: App) -> State:
    """Waits until nothing happens any more."""
    assert app.wait_for(State.NOT_RUNNING, State.ERROR, timeout=SOON)
    return app.state


def listened(app: App) -> list[str]:
    """Returns the list into which its states are noted."""
    states: list[str] = []
    app.set_state_listener(lambda new, _old: states.append(new.name))
    return states


# -- life ----------------------------------------------------------------------------------


def test_its_states_are_those_of_kafka_streams(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    moves: list[tuple[str, str]] = []
    app.set_state_listener(lambda new, old: moves.append((old.name, new.name)))
    assert app.state is State.CREATED
    assert repr(app) == "App('app', CREATED)"
    app.start()
    assert app.state in (State.REBALANCING, State.RUNNING)
    running(app)
    assert app.alive_worker_count == 1
    assert app.close()
    assert app.state is State.NOT_RUNNING
    assert app.alive_worker_count == 0
    assert moves == [
        ("CREATED", "REBALANCING"),
        ("REBALANCING", "RUNNING"),
        ("RUNNING", "PENDING_SHUTDOWN"),
        ("PENDING_SHUTDOWN", "NOT_RUNNING"),
    ]
    assert app.error is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (State.CREATED, {State.REBALANCING, State.PENDING_SHUTDOWN}),
        (State.REBALANCING, {State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}),
        (
            State.RUNNING,
            {State.REBALANCING, State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR},
        ),
        (State.PENDING_SHUTDOWN, {State.NOT_RUNNING}),
        (State.PENDING_ERROR, {State.ERROR}),
        (State.NOT_RUNNING, set()),
        (State.ERROR, set()),
    ],
)
def test_legal_steps_are_the_jvms(old: State, new: set[State]) -> None:
    assert {one for one in State if old.may_become(one)} == new


def test_it_starts_once(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    with app:
        with pytest.raises(AppStateError, match=r"starts once.*is (REBALANCING|RUNNING)"):
            app.start()
        running(app)
    with pytest.raises(AppStateError, match=r"starts once.*is NOT_RUNNING"):
        app.start()


def test_listeners_and_handlers_are_set_before_the_start(tmp_path: Path) -> None:
    with Log().app(word_count(), tmp_path) as app:
        with pytest.raises(AppStateError, match="set a state listener before start"):
            app.set_state_listener(None)
        with pytest.raises(AppStateError, match="set the handler of uncaught errors before"):
            app.set_uncaught_error_handler(lambda _error: UncaughtResponse.REPLACE_WORKER)


def test_closed_before_its_start_it_never_starts(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    states = listened(app)
    assert app.close()
    assert app.close()
    assert states == ["PENDING_SHUTDOWN", "NOT_RUNNING"]
    with pytest.raises(AppStateError):
        app.start()


def test_it_can_be_closed_again_and_by_several(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    app.start()
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(app.close())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON.total_seconds())
    assert answers == [True] * 3
    assert app.close()


def test_closed_as_it_starts_it_stops(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    closed: list[bool] = []

    def close(new: State, _old: State) -> None:
        if new is State.REBALANCING:
            closed.append(app.close())

    app.set_state_listener(close)
    app.start()
    assert ended(app) is State.NOT_RUNNING
    assert closed == [False]
    assert app.close()


def test_a_listener_in_the_worker_may_close_it(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    app.set_state_listener(lambda new, _old: app.close() if new is State.RUNNING else None)
    app.start()
    assert ended(app) is State.NOT_RUNNING


def test_user_code_may_close_it(tmp_path: Path) -> None:
    log = Log()
    log.send("in", (None, "1"), (None, "stop"), (None, "2"))
    closed: list[bool] = []

    def work(value: str) -> str:
        if value == "stop":
            closed.append(app.close())
        return value

    app = log.app(passing(work), tmp_path)
    app.start()
    assert ended(app) is State.NOT_RUNNING
    assert closed == [False]
    assert log.committed("app", "in") == len(log.read("out")) >= 2


def test_close_waits_no_longer_than_told(tmp_path: Path) -> None:
    log, gate = Log(), Gate()
    log.send("in", (None, "1"))
    app = log.app(passing(lambda value: gate.wait() or value), tmp_path)
    app.start()
    gate.reached()
    assert not app.close(timedelta(0))
    assert not app.close(timedelta(milliseconds=20))
    assert app.state is State.PENDING_SHUTDOWN
    gate.open()
    assert app.close(SOON)
    assert app.state is State.NOT_RUNNING
    assert log.committed("app", "in") == 1


def test_a_listener_that_raises_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(new: State, _old: State) -> None:
        raise ValueError(new.name)

    log = Log()
    app = log.app(passing(), tmp_path)
    app.set_state_listener(fail)
    with app:
        log.send("in", (None, "1"))
        settled(app, log, "out", 1)
    assert app.state is State.NOT_RUNNING
    assert app.error is None
    assert "the state listener failed at REBALANCING -> RUNNING" in caplog.text


def test_a_restore_listener_is_set_before_the_start(tmp_path: Path) -> None:
    log, told = Log(), Told()
    app = log.app(word_count(), tmp_path)
    app.set_restore_listener(told)
    with app:
        assert app.wait_for(State.RUNNING, timeout=SOON)
        assert {call[0] for call in told.calls} == {"start", "end"}
        with pytest.raises(AppStateError, match="set a restore listener"):
            app.set_restore_listener(None)


def test_waiting_ends_with_the_application_or_the_time(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    assert not app.wait_for(State.RUNNING, timeout=timedelta(0))
    assert app.wait_for(State.CREATED, timeout=timedelta(0))
    app.close()
    assert not app.wait_for(State.RUNNING)


def test_a_log_that_cannot_be_opened_leaves_it_as_it_was(tmp_path: Path) -> None:
    log, faults = Log(), [OSError("no log")]

    def transport() -> Any:
        if faults:
            raise faults.pop()
        return log.transport("app")

    app = App(word_count(), application_id="app", state_dir=tmp_path, transport=transport)
    with pytest.raises(OSError, match="no log"):
        app.start()
    assert app.state is State.CREATED
    with app:
        running(app)


# -- run -----------------------------------------------------------------------------------


def test_run_blocks_until_it_is_closed_and_tells_its_progress(tmp_path: Path) -> None:
    log = Log()
    log.send("in", (None, "1"), (None, "2"))
    app, told = log.app(passing(), tmp_path), []

    def look(progress: Progress) -> None:
        told.append(progress)
        if progress.processed_records == 2:
            app.close(timedelta(0))

    app.run(on_progress=look)
    assert app.state is State.NOT_RUNNING
    assert told[-1].processed_records == 2
    assert [seen.value for seen in log.read("out")] == ["1", "2"]


def test_run_raises_what_it_died_of(tmp_path: Path) -> None:
    log = Log()
    log.send("in", (None, "1"))
    app = log.app(passing(lambda value: value / 2), tmp_path)
    with pytest.raises(ProcessingError, match=r"TypeError.*topic in.*offset 0") as raised:
        app.run()
    assert raised.value is app.error
    assert app.state is State.ERROR


class Hasty(SystemClock):
    """A clock of which pauses cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = 0

    def sleep_ms(self, duration_ms: float) -> None:
        self.pauses += 1


class Awaited:
    """A log whose brokers are away for the first attempts."""

    def __init__(self, log: Log, failures: int) -> None:
        self.log, self.failures, self.attempts = log, failures, 0
        self.on_attempt: Callable[[], None] = lambda: None

    def __call__(self) -> Any:
        self.attempts += 1
        self.on_attempt()
        if self.failures:
            self.failures -= 1
            raise BrokerError("cannot reach Kafka at k:9092", retriable=True, is_away=True)
        return self.log.transport("app")


def waiting(awaited: Awaited, state_dir: Path, **settings: Any) -> App:
    return App(
        passing(settings.pop("work", lambda value: value)),
        application_id="app",
        state_dir=state_dir,
        transport=awaited,
        clock=Hasty(),
        commit_interval_ms=10,
        poll_ms=5,
        default_value_serde=serdes.string,
        **settings,
    )


def test_run_waits_for_brokers_that_are_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    awaited = Awaited(Log(), failures=20)
    awaited.log.send("in", (None, "1"))
    app = waiting(awaited, tmp_path)

    def close(progress: Progress) -> None:
        if progress.processed_records:
            app.close(timedelta(0))

    app.run(on_progress=close)

    assert app.state is State.NOT_RUNNING
    assert awaited.attempts == 21
    assert "waiting for the brokers: cannot reach Kafka at k:9092" in caplog.text
    assert app.failed_worker_count == 0


def test_run_does_not_wait_for_what_does_not_pass(tmp_path: Path) -> None:
    def refused() -> Any:
        raise AuthenticationError("the password is wrong")

    app = App(passing(), application_id="app", state_dir=tmp_path, transport=refused, clock=Hasty())
    with pytest.raises(AuthenticationError):
        app.run()
    assert app.state is State.CREATED


def test_run_that_waits_for_brokers_can_be_closed(tmp_path: Path) -> None:
    awaited = Awaited(Log(), failures=1_000_000)
    app = waiting(awaited, tmp_path)

    def close() -> None:
        if awaited.attempts == 3:
            app.close()

    awaited.on_attempt = close

    app.run()

    assert app.state is State.NOT_RUNNING
    assert awaited.attempts == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits_for_brokers_is_a_clean_stop(
    tmp_path: Path, number: signal.Signals
) -> None:
    awaited = Awaited(Log(), failures=1_000_000)
    app = waiting(awaited, tmp_path)

    def interrupt() -> None:
        if awaited.attempts == 3:
            os.kill(os.getpid(), number)

    awaited.on_attempt = interrupt

    app.run()

    assert app.state is State.NOT_RUNNING
    assert awaited.attempts == 3


def test_a_worker_is_replaced_when_the_brokers_are_back(tmp_path: Path) -> None:
    awaited = Awaited(Log(), failures=0)
    fails = Fails(1)
    awaited.log.send("in", (None, "a"), (None, "bad"), (None, "b"))

    def work(value: str) -> str:
        if value == "bad":
            awaited.failures = 5 * bool(fails.left)
        return fails(value)

    app = waiting(awaited, tmp_path, work=work)
    app.set_uncaught_error_handler(lambda _error: UncaughtResponse.REPLACE_WORKER)
    with app:
        assert len(settled(app, awaited.log, "out", 3)) >= 3
        assert app.failed_worker_count == 1
    assert awaited.attempts == 7


# -- errors --------------------------------------------------------------------------------


class Fails:
    """Raises at "bad", as often as told."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, value: str) -> str:
        if value == "bad" and self.left:
            self.left -= 1
            raise ValueError(value)
        return value


@pytest.mark.parametrize(
    "response", [None, UncaughtResponse.SHUTDOWN_CLIENT, UncaughtResponse.SHUTDOWN_APPLICATION]
)
def test_an_uncaught_error_ends_it(tmp_path: Path, response: UncaughtResponse | None) -> None:
    log, asked = Log(), []
    log.send("in", (None, "1"), (None, "bad"))
    app = log.app(passing(Fails(1)), tmp_path)
    states = listened(app)
    if response is not None:
        app.set_uncaught_error_handler(lambda error: asked.append(error) or response)
    app.start()
    assert ended(app) is State.ERROR
    assert states[-2:] == ["PENDING_ERROR", "ERROR"]
    error = app.error
    assert isinstance(error, ProcessingError)
    assert (error.task_id, error.topic, error.partition, error.offset) == ("0_0", "in", 0, 1)
    assert error.node == "KSTREAM-MAPVALUES-0000000001"
    assert isinstance(error.__cause__, ValueError)
    assert asked == ([] if response is None else [error])
    assert app.is_application_shut_down is (response is UncaughtResponse.SHUTDOWN_APPLICATION)
    assert (app.failed_worker_count, app.alive_worker_count) == (1, 0)
    assert app.close()
    assert app.state is State.ERROR
    assert log.read("out") == []


@pytest.mark.parametrize("answer", ["nonsense", "raise"])
def test_a_handler_that_misbehaves_ends_it(
    tmp_path: Path, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(_error: StreamsError) -> Any:
        if answer == "raise":
            raise KeyError("oops")
        return answer

    log = Log()
    log.send("in", (None, "bad"))
    app = log.app(passing(Fails(1)), tmp_path)
    app.set_uncaught_error_handler(handler)
    app.start()
    assert ended(app) is State.ERROR
    assert "ValueError" in str(app.error)
    assert "the handler of uncaught errors" in caplog.text


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
def test_a_replaced_worker_goes_on_from_the_last_commit(tmp_path: Path, guarantee: str) -> None:
    """On the embedded log nothing of the run that failed is to be seen, and none is lost."""
    log, fails = Log(default_partitions=2), Fails(3)
    builder = StreamsBuilder()
    counts = builder.stream("in").map_values(fails).group_by(lambda _key, value: value)
    counts.count(name="counts").to_stream().to("out", value_serde=serdes.int64)
    app = log.app(builder, tmp_path, processing_guarantee=guarantee)
    app.set_uncaught_error_handler(lambda _error: UncaughtResponse.REPLACE_WORKER)
    log.create("in", 2)
    words = ["a", "b", "a", "bad", "c", "a", "bad", "b"]
    with app:
        for partition in (0, 1):
            log.send("in", *((None, word) for word in words), partition=partition)
        expected = {word: 2 * words.count(word) for word in words}
        until(app, lambda: log.last_counts("out") == expected)
        assert rows_of(app.store("counts")) == expected
        assert app.failed_worker_count == 3
        assert app.alive_worker_count == 1
        assert app.state is State.RUNNING
        idle(app)
    # Each count is there once: what a run that failed had sent was never committed.
    decode = serdes.int64.deserializer("out")
    rows = [(seen.key, seen.value) for seen in log.read("out", decode)]
    assert len(rows) == len(set(rows))
    assert app.error is None


def test_nothing_of_a_batch_in_which_a_record_failed_is_visible(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((None, str(n)) for n in range(500)), (None, "bad"), (None, "last"))
    app = log.app(passing(Fails(1)), tmp_path, processing_guarantee="exactly_once_v2")
    app.start()
    assert ended(app) is State.ERROR
    assert log.read("out") == []
    assert log.committed("app", "in") in (None, 0)


def test_a_worker_that_cannot_be_replaced_ends_it(tmp_path: Path) -> None:
    log, opened = Log(), []

    def transport() -> Any:
        if opened:
            raise OSError("no log any more")
        opened.append(1)
        return log.transport("app")

    log.send("in", (None, "bad"))
    app = App(
        passing(Fails(1)),
        application_id="app",
        state_dir=tmp_path,
        transport=transport,
        default_value_serde=serdes.string,
    )
    app.set_uncaught_error_handler(lambda _error: UncaughtResponse.REPLACE_WORKER)
    app.start()
    assert ended(app) is State.ERROR
    assert "OSError: no log any more" in str(app.error)


def test_an_error_while_it_closes_still_ends_as_not_running(tmp_path: Path) -> None:
    from thalweg import Processor, Record

    class Closing(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None: ...

        def close(self) -> None:
            raise ValueError("no")

    builder = StreamsBuilder()
    builder.stream("in").process(Closing, name="closing")
    app = Log().app(builder, tmp_path)
    app.start()
    running(app)
    assert app.close()
    assert app.state is State.NOT_RUNNING
    assert "node closing" in str(app.error)


# -- pausing -------------------------------------------------------------------------------


def test_paused_before_the_start_it_waits(tmp_path: Path) -> None:
    log = Log()
    log.send("in", (None, "1"))
    app = log.app(passing(), tmp_path)
    app.pause()
    assert app.is_paused
    with app:
        running(app)
        until(app, lambda: (p := app.progress()) is not None and p.commits > 2)
        assert log.read("out") == []
        app.resume()
        assert not app.is_paused
        settled(app, log, "out", 1)


def test_paused_it_keeps_its_state_and_its_stores(tmp_path: Path) -> None:
    log = Log()
    log.send("lines", (None, "a b a"))
    with log.app(word_count(), tmp_path) as app:
        idle(app)
        app.pause()
        log.send("lines", (None, "a"))
        progress = app.progress()
        assert progress is not None
        until(app, lambda: app.progress().commits > progress.commits + 2)  # type: ignore[union-attr]
        assert app.state is State.RUNNING
        assert rows_of(app.store("counts")) == {"a": 2, "b": 1}
        app.resume()
        until(app, lambda: rows_of(app.store("counts")) == {"a": 3, "b": 1})


def test_a_replaced_worker_stays_paused(tmp_path: Path) -> None:
    log = Log()
    app = log.app(passing(Fails(1)), tmp_path)

    def pause(_error: StreamsError) -> UncaughtResponse:
        app.pause()
        return UncaughtResponse.REPLACE_WORKER

    app.set_uncaught_error_handler(pause)
    log.send("in", (None, "bad"))
    with app:
        until(app, lambda: app.failed_worker_count == 1)
        running(app)
        until(app, lambda: (p := app.progress()) is not None and p.commits > 2)
        assert log.read("out") == []
        app.resume()
        settled(app, log, "out", 1)


# -- state on disk -------------------------------------------------------------------------


def test_state_that_was_deleted_is_restored_and_progress_says_so(tmp_path: Path) -> None:
    log = Log()
    log.send("lines", *((None, f"w{n}") for n in range(200)))
    with log.app(word_count(), tmp_path) as app:
        idle(app)
    log.app(word_count(), tmp_path).clean_up()
    assert list((tmp_path / "app").glob("*_*")) == []
    log.send("lines", (None, "w0"))
    with log.app(word_count(), tmp_path) as app:
        until(app, lambda: app.state is State.RUNNING and app.store("counts").get("w0") == 2)
        progress = app.progress()
        assert progress is not None
        assert (progress.restored_records, progress.remaining_restore_records) == (200, 0)
        idle(app)


def test_state_that_was_kept_is_not_restored_again(tmp_path: Path) -> None:
    log = Log()
    log.send("lines", *((None, f"w{n}") for n in range(200)))
    with log.app(word_count(), tmp_path) as app:
        idle(app)
    with log.app(word_count(), tmp_path) as app:
        running(app)
        progress = app.progress()
        assert progress is not None
        assert progress.restored_records == 0
        assert len(rows_of(app.store("counts"))) == 200


def test_state_is_cleaned_up_only_while_it_stands_still(tmp_path: Path) -> None:
    log = Log()
    log.send("lines", (None, "a"))
    app = log.app(word_count(), tmp_path)
    with app:
        idle(app)
        with pytest.raises(AppStateError, match=r"clean_up\(\) needs a stopped application"):
            app.clean_up()
        with pytest.raises(StoreLockedError, match="in use by this process"):
            log.app(word_count(), tmp_path).clean_up()
    app.clean_up()
    assert list((tmp_path / "app").glob("*_*")) == []


def test_two_applications_cannot_share_state(tmp_path: Path) -> None:
    log = Log()
    with log.app(word_count(), tmp_path) as app:
        second = log.app(word_count(), tmp_path)
        with pytest.raises(StoreLockedError, match=rf"this process \({os.getpid()}\).*state_dir"):
            second.start()
        assert second.state is State.CREATED
        with log.app(word_count(), tmp_path, application_id="other") as other:
            running(other)
        running(app)
    with second:
        running(second)


def test_a_second_process_is_told_who_has_the_state_and_the_log(tmp_path: Path) -> None:
    script = """
import sys
from thalweg import App, StreamsBuilder, StreamsError
builder = StreamsBuilder()
builder.stream("in").to("out")
app = App(builder, application_id="app", data_dir=sys.argv[1], state_dir=sys.argv[2])
try:
    app.start()
except StreamsError as error:
    print(type(error).__name__, error)
else:
    app.close()
    print("started")
"""

    def second(log: str, state: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / log), str(tmp_path / state)],
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=True,
        ).stdout

    builder = StreamsBuilder()
    builder.stream("in").to("out")
    dirs = {"data_dir": tmp_path / "log", "state_dir": tmp_path / "state"}
    with App(builder, application_id="app", **dirs) as app:
        running(app)
        for log, state, place in (("log", "other", "log"), ("other", "state", "state")):
            told = second(log, state)
            assert told.startswith("StoreLockedError")
            assert f"process {os.getpid()}" in told
            assert str(tmp_path / place) in told
    assert second("log", "state") == "started\n"


def test_on_the_embedded_log_it_goes_on_where_it_was(tmp_path: Path) -> None:
    def app() -> App:
        return App(
            word_count(),
            application_id="app",
            data_dir=tmp_path / "log",
            state_dir=tmp_path / "state",
            commit_interval_ms=10,
            poll_ms=5,
        )

    def count(number: int) -> None:
        counting = app()
        with counting.producer() as producer:
            producer.send("lines", "a b a", value_serde=serdes.string)
        with counting:
            running(counting)
            expected = {"a": 2 * number, "b": number}
            until(counting, lambda: rows_of(counting.store("counts")) == expected)
            idle(counting)
            progress = counting.progress()
            assert progress is not None
            assert (progress.restored_records, progress.processed_records) == (0, 4)

    count(1)
    count(2)


def test_several_partitions_make_one_store(tmp_path: Path) -> None:
    log = Log(default_partitions=4)
    log.create("lines", 4)
    for number in range(40):
        log.send("lines", (None, f"a w{number % 7}"), partition=number % 4)
    with log.app(word_count(), tmp_path) as app:
        until(app, lambda: app.state is State.RUNNING and app.store("counts").get("a") == 40)
        rows = list(app.store("counts").all())
        assert dict(rows) == {"a": 40} | {f"w{n}": 6 if n < 5 else 5 for n in range(7)}
        assert [word for word, _ in rows] == sorted(word for word, _ in rows)
        progress = app.progress()
        assert progress is not None
        assert progress.running_tasks == 8


# -- questions -----------------------------------------------------------------------------


def test_stores_tell_why_they_do_not_answer(tmp_path: Path) -> None:
    app = Log(default_partitions=2).app(word_count(), tmp_path)
    assert app.store_names == ["counts"]
    with pytest.raises(UnknownStoreError, match=r"no store 'count'.*stores: counts"):
        app.store("count")
    with pytest.raises(StoreNotReadyError, match=r"not started; call start\(\)"):
        app.store("counts")
    with app:
        running(app)
        assert rows_of(app.store("counts")) == {}
        assert app.store("counts", partition=1).get("a") is None
        with pytest.raises(StoreMovedError, match="partition 9"):
            app.store("counts", partition=9)
        kept = app.store("counts")
    with pytest.raises(AppStateError, match="the application is NOT_RUNNING"):
        app.store("counts")
    with pytest.raises(AppStateError):
        kept.get("a")


def test_stores_being_restored_do_not_answer(tmp_path: Path) -> None:
    from thalweg.streams.transport.memory import MemoryTransport

    log, gate = Log(), Gate()
    log.send("lines", (None, "a b"))
    with log.app(word_count(), tmp_path / "one") as app:
        idle(app)

    class Slow(MemoryTransport):
        def high_watermarks(self, partitions: Any) -> Any:
            found = super().high_watermarks(partitions)
            if any(partition.topic == COUNTS for partition in partitions):
                gate.wait()
            return found

    app = App(
        word_count(),
        application_id="app",
        state_dir=tmp_path / "two",
        transport=lambda: Slow(log.engine, "app"),
        poll_ms=5,
    )
    with app:
        gate.reached()
        with pytest.raises(StoreNotReadyError, match="assigned or restored"):
            app.store("counts")
        gate.open()
        running(app)
        assert rows_of(app.store("counts")) == {"a": 1, "b": 1}


def test_a_face_follows_the_stores_of_a_replaced_worker(tmp_path: Path) -> None:
    log = Log()
    builder = word_count()
    builder.stream("in").map_values(Fails(1)).to("out")
    app = log.app(builder, tmp_path)
    app.set_uncaught_error_handler(lambda _error: UncaughtResponse.REPLACE_WORKER)
    log.send("lines", (None, "a b a"))
    with app:
        idle(app)
        face = app.store("counts")
        log.send("in", (None, "bad"))
        settled(app, log, "out", 1)
        assert face.get("a") == 2


def test_values_come_with_their_times_where_asked(tmp_path: Path) -> None:
    log = Log()
    builder = StreamsBuilder()
    windows = TimeWindows.of_size(100, grace=0)
    grouped = builder.stream("in").group_by_key()
    grouped.count(name="counts")
    grouped.windowed_by(windows).count(materialized=Materialized("windows"))
    log.send("in", ("k", "x"), ("k", "x"), timestamps=(5, 30))
    with log.app(builder, tmp_path) as app:
        idle(app)
        assert app.store("counts").get("k") == 2
        assert app.store("counts", timestamped=True).get("k") == ValueAndTimestamp(2, 30)
        assert app.store("windows").fetch("k", 0) == 2
        assert app.store("windows", timestamped=True).fetch("k", 0) == ValueAndTimestamp(2, 30)


@pytest.mark.parametrize("cache_bytes", [0, 2_000, 10_000_000])
def test_answers_are_never_wrong_while_the_worker_writes(tmp_path: Path, cache_bytes: int) -> None:
    """Counts only rise; a scan is in order and its rows belong to one moment of each task."""
    log = Log(default_partitions=2)
    builder = StreamsBuilder()
    grouped = builder.stream("in").group_by_key()
    grouped.count(name="counts")
    grouped.windowed_by(TimeWindows.of_size(1_000, grace=0)).count(name="windows")
    log.create("in", 2)
    app = log.app(builder, tmp_path, statestore_cache_max_bytes=cache_bytes, max_poll_records=50)
    faults: list[str] = []
    is_over = threading.Event()
    questions = dict.fromkeys(("get", "all", "range", "fetch"), 0)

    def rising(kind: str, seen: dict[Any, int], rows: list[tuple[Any, int]]) -> None:
        questions[kind] += 1
        for key, count in rows:
            if count < seen.get(key, 0):
                faults.append(f"{kind}: {key} fell from {seen[key]} to {count}")
            seen[key] = count
        if missing := seen.keys() - dict(rows).keys():
            faults.append(f"{kind}: {sorted(missing)} vanished")

    def ask(kind: str) -> None:
        seen: dict[Any, int] = {}
        counts, windows = app.store("counts"), app.store("windows")
        try:
            while not is_over.is_set():
                if kind == "get":
                    for number in range(20):
                        count = counts.get(f"k{number:02}")
                        if count is not None or f"k{number:02}" in seen:
                            one = {key: seen[key] for key in seen if key == f"k{number:02}"}
                            rising(kind, one, [] if count is None else [(f"k{number:02}", count)])
                            seen.update(one)
                elif kind == "fetch":
                    with windows.fetch_all(0, 10_000) as rows:
                        found = [((row.key, row.window.start_ms), n) for row, n in rows]
                    rising(kind, seen, found)
                else:
                    scan = counts.all() if kind == "all" else counts.range("k05", "k15")
                    with scan as rows:
                        found = list(rows)
                    rising(kind, seen, found)
                    keys = [key for key, _ in found]
                    if keys != sorted(keys):
                        faults.append(f"{kind}: not in order: {keys}")
        except Exception as error:
            faults.append(f"{kind}: {error!r}")

    with app:
        running(app)
        threads = [threading.Thread(target=ask, args=(kind,)) for kind in questions]
        for thread in threads:
            thread.start()
        rounds = 0
        try:
            while rounds < 20 or min(questions.values()) < 20:
                rounds += 1
                rows = [(f"k{number:02}", "x") for number in range(20)] * 5
                log.send("in", *rows, timestamps=[500] * 100)
                expected = 100 * rounds
                until(app, lambda n=expected: (p := app.progress()) and p.processed_records >= n)
        finally:
            is_over.set()
            for thread in threads:
                thread.join(SOON.total_seconds())
        assert faults == []
        assert rows_of(app.store("counts")) == {f"k{n:02}": 5 * rounds for n in range(20)}


# -- what else it tells --------------------------------------------------------------------


def test_before_its_start_it_has_no_progress(tmp_path: Path) -> None:
    app = Log().app(word_count(), tmp_path)
    assert app.progress() is None
    assert app.application_id == "app"
    assert app.alive_worker_count == app.failed_worker_count == 0
    assert app.group_view().counts == {}


def test_metrics_can_be_read_at_any_time(tmp_path: Path) -> None:
    log = Log()
    app = log.app(passing(), tmp_path)
    before = {metric.name for metric in app.metrics()}
    log.send("in", (None, "1"))
    with app:
        settled(app, log, "out", 1)
        during = {metric.name for metric in app.metrics()}
        assert "process-total" in during
        assert app.metrics_text()
    assert before <= during
    assert {metric.name for metric in app.metrics()} >= before


@pytest.mark.parametrize("topology", [None, "topology", object()])
def test_it_needs_a_topology(topology: Any) -> None:
    with pytest.raises(TypeError, match="App needs a Topology or a StreamsBuilder"):
        App(topology, application_id="app")


def test_settings_are_given_in_one_way(tmp_path: Path) -> None:
    from thalweg import StreamsConfig

    config = StreamsConfig(application_id="app", state_dir=tmp_path)
    assert App(passing(), config=config).config is config
    with pytest.raises(TypeError, match=r"config= or settings, not both \(got poll_ms\)"):
        App(passing(), config=config, poll_ms=5)


def test_topics_with_another_partition_count_are_refused(tmp_path: Path) -> None:
    log = Log()
    log.create("lines", 2)
    log.create(COUNTS, 3)
    app = log.app(word_count(), tmp_path)
    with pytest.raises(TopologyError, match=f"{COUNTS}.*has 3 partitions.*needs 2.*thalweg reset"):
        app.run()
    assert app.state is State.ERROR


def test_the_log_of_states_is_for_people(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "thalweg.streams.app"),
        Log().app(word_count(), tmp_path) as app,
    ):
        running(app)
    assert "application app: REBALANCING -> RUNNING" in caplog.text


def test_worker_threads_are_named_and_do_not_outlive_it(tmp_path: Path) -> None:
    with Log().app(word_count(), tmp_path) as app:
        running(app)
        assert "app-worker-1" in [thread.name for thread in threading.enumerate()]
    assert "app-worker-1" not in [thread.name for thread in threading.enumerate()]
