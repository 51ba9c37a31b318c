"""Whoever waits for an application that has died, or lets go of it, hears of what."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import SOON, Gate, Log
from thalweg import (
    App,
    AppStateError,
    ProcessingError,
    Processor,
    Record,
    State,
    StreamsBuilder,
    StreamsError,
    UncaughtResponse,
)


def failing_at(gate: Gate | None = None) -> StreamsBuilder:
    """Fails at the first record, once the gate is open."""

    def fail(_value: str) -> str:
        if gate is not None:
            gate.wait()
        raise ValueError("what it died of")

    builder = StreamsBuilder()
    builder.stream("in").map_values(fail).to("out")
    return builder


def failing(tmp_path: Path, gate: Gate | None = None) -> App:
    """Returns an application that fails as soon as it is started."""
    log = Log()
    log.send("in", ("k", "v"))
    return log.app(failing_at(gate), tmp_path)


def dead(tmp_path: Path) -> App:
    """Returns an application that has failed."""
    app = failing(tmp_path)
    app.start()
    assert app.wait_for(State.ERROR, timeout=SOON)
    return app


WAITS: dict[str, Callable[[App], Any]] = {
    "for a state it can have": lambda app: app.wait_for(State.REBALANCING),
    "for its clean end": lambda app: app.wait_for(State.NOT_RUNNING),
    "for its end": lambda app: app.wait_for(),
    "for a moment": lambda app: app.wait_for(State.PENDING_SHUTDOWN, timeout=SOON),
    "for idleness": lambda app: app.wait_until_idle(),
    "for idleness, a moment": lambda app: app.wait_until_idle(SOON),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_waiting_for_a_dead_application_raises_its_error(
    tmp_path: Path, wait: Callable[[App], Any]
) -> None:
    app = dead(tmp_path)
    with pytest.raises(ProcessingError, match="what it died of") as raised:
        wait(app)
    assert raised.value is app.error
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "wait",
    [lambda app: app.wait_for(State.NOT_RUNNING), lambda app: app.wait_until_idle()],
    ids=["for its end", "for idleness"],
)
def test_waiting_while_it_dies_raises_its_error(tmp_path: Path, wait: Callable[[App], Any]) -> None:
    gate = Gate()
    app = failing(tmp_path, gate)
    app.set_state_listener(lambda new, _old: gate.open() if new is State.RUNNING else None)
    app.start()
    with pytest.raises(ProcessingError, match="what it died of") as raised:
        wait(app)
    assert raised.value is app.error


def test_who_waits_for_the_error_is_answered(tmp_path: Path) -> None:
    app = dead(tmp_path)
    assert app.wait_for(State.ERROR)
    assert app.wait_for(State.RUNNING, State.ERROR)


def test_the_end_of_a_with_block_raises_what_the_application_died_of(tmp_path: Path) -> None:
    app = failing(tmp_path)
    with pytest.raises(ProcessingError, match="what it died of") as raised, app:
        assert app.wait_for(State.ERROR, timeout=SOON)
    assert raised.value is app.error
    assert app.state is State.ERROR


def test_an_error_of_the_block_is_not_masked_and_tells_of_the_other(tmp_path: Path) -> None:
    app, mine = failing(tmp_path), KeyError("mine")

    def block() -> None:
        with app:
            assert app.wait_for(State.ERROR, timeout=SOON)
            raise mine

    with pytest.raises(KeyError) as raised:
        block()
    assert raised.value is mine
    assert any("what it died of" in note for note in mine.__notes__)


def test_what_was_raised_inside_is_raised_as_it_was(tmp_path: Path) -> None:
    app = failing(tmp_path)
    with pytest.raises(ProcessingError) as raised, app:
        app.wait_until_idle()
    assert raised.value is app.error
    assert not hasattr(raised.value, "__notes__")


def test_a_question_in_the_block_says_what_the_application_died_of(tmp_path: Path) -> None:
    builder = failing_at()
    builder.stream("more").group_by_key().count(name="counts")
    log = Log()
    log.send("in", ("k", "v"))
    app = log.app(builder, tmp_path)
    app.start()
    assert app.wait_for(State.ERROR, timeout=SOON)
    with pytest.raises(AppStateError, match=r"'counts'.*ERROR.*what it died of") as raised:
        app.store("counts").get("k")
    assert raised.value.__cause__ is app.error


def test_closing_is_not_refused_by_a_failure(tmp_path: Path) -> None:
    app = dead(tmp_path)
    assert app.close()
    assert app.close(timedelta(0))
    assert app.error is not None


def test_a_failure_of_the_stop_itself_is_raised_by_the_block(tmp_path: Path) -> None:
    class Closing(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None: ...

        def close(self) -> None:
            raise ValueError("not closed")

    builder = StreamsBuilder()
    builder.stream("in").process(Closing, name="closing")
    app = Log().app(builder, tmp_path)
    with pytest.raises(StreamsError, match="not closed") as raised, app:
        assert app.wait_for(State.RUNNING, timeout=SOON)
    assert raised.value is app.error
    assert app.state is State.NOT_RUNNING


def test_a_worker_that_is_replaced_is_nobodys_failure(tmp_path: Path) -> None:
    failures = [ValueError("once")]

    def once(value: str) -> str:
        if failures:
            raise failures.pop()
        return value

    builder, log = StreamsBuilder(), Log()
    builder.stream("in").map_values(once).to("out")
    log.send("in", ("k", "v"))
    app = log.app(builder, tmp_path)
    app.set_uncaught_error_handler(lambda _error: UncaughtResponse.REPLACE_WORKER)
    with app:
        assert app.wait_until_idle(SOON)
    assert [seen.value for seen in log.read("out")] == ["v"]
    assert app.failed_worker_count == 1


def test_a_clean_end_is_no_failure(tmp_path: Path) -> None:
    app = Log().app(failing_at(), tmp_path)
    with app:
        assert app.wait_for(State.RUNNING, timeout=SOON)
    assert not app.wait_for(State.RUNNING)
    assert not app.wait_until_idle()


# -- what the log says ---------------------------------------------------------------------


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_what_run_raises_is_not_logged_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ProcessingError):
        failing(tmp_path).run()
    assert errors(caplog) == []


def test_what_ends_an_application_in_the_background_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = dead(tmp_path)
    (told,) = errors(caplog)
    assert told == f"a worker failed, the application stops: {app.error}"
    assert "topic in, partition 0, offset 0, node KSTREAM-MAPVALUES" in told


def test_a_second_start_says_what_to_do(tmp_path: Path) -> None:
    app = Log().app(failing_at(), tmp_path)
    said = (
        r"an application starts once, and this one is \w+: make a new App to run the topology again"
    )
    with app:
        for again in (app.start, app.run):
            with pytest.raises(AppStateError, match=said):
                again()
    with pytest.raises(AppStateError, match="this one is NOT_RUNNING"):
        app.start()
