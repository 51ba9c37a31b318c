"""Waiting until nothing is left to do: for what is in the log at the call, and no longer than told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.streams.running import SOON, Gate, Log, string, word_count
from thalweg import App, State


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def app(log: Log, tmp_path: Path) -> Iterator[App]:
    app = log.app(word_count(), tmp_path)
    yield app
    app.close()


def test_each_wait_covers_what_was_written_before_it(log: Log, app: App) -> None:
    app.start()
    for number in range(1, 6):
        log.send("lines", (None, "a b"), (None, "a"))

        assert app.wait_until_idle(SOON)

        assert log.last_counts("word-counts") == {"a": 2 * number, "b": number}


def test_it_waits_no_longer_than_told(log: Log, tmp_path: Path) -> None:
    gate = Gate()
    builder = word_count()
    builder.stream("held", value_serde=string).for_each(lambda _key, _value: gate.wait())
    app = log.app(builder, tmp_path)
    log.send("held", (None, "x"))
    app.start()
    try:
        gate.reached()
        assert not app.wait_until_idle(timedelta(milliseconds=30))
        gate.open()
        assert app.wait_until_idle(SOON)
    finally:
        gate.open()
        app.close()


def test_an_application_that_has_ended_is_not_idle(log: Log, app: App) -> None:
    app.start()
    app.close()

    assert app.state is State.NOT_RUNNING
    assert not app.wait_until_idle()


def test_one_that_is_not_started_is_not_idle(app: App) -> None:
    assert not app.wait_until_idle(timedelta(milliseconds=1))
