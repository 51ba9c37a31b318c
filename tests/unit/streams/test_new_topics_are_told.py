"""What is made because it was missing is told: a source topic, a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.streams.running import SOON, Log, word_count
from thalweg import App, State, StreamsBuilder
from thalweg.streams.transport.local import LocalTransport


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="thalweg.notices")


def told(caplog: pytest.LogCaptureFixture, begin: str) -> list[str]:
    return [text for record in caplog.records if (text := record.getMessage()).startswith(begin)]


def started(log: Log, tmp_path: Path, builder: StreamsBuilder, **settings: object) -> None:
    app = log.app(builder, tmp_path, **settings)
    with app:
        assert app.wait_for(State.RUNNING, timeout=SOON)


def test_a_missing_source_topic_is_told_once_with_what_is_called_like_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(default_partitions=3)
    for topic in ("line", "Lines", "payments", "app-lines"):
        log.create(topic)
    started(log, tmp_path, word_count())

    (line,) = told(caplog, "source topic")
    assert line == (
        "source topic 'lines' did not exist and is created, empty, with 3 partitions; "
        "is one of these meant: 'Lines', 'line'?"
    )
    caplog.clear()
    started(log, tmp_path, word_count())
    assert told(caplog, "source topic") == []


def test_without_a_similar_one_it_is_told_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builder = StreamsBuilder()
    builder.stream(["a", "b"]).to("out")
    log = Log()
    log.create("b")
    started(log, tmp_path, builder)

    assert told(caplog, "source topic") == [
        "source topic 'a' did not exist and is created, empty, with 1 partition"
    ]


def test_a_new_log_says_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "log"
    LocalTransport(place).close()
    assert told(caplog, "a new") == [f"a new, empty log is made in {place}"]

    caplog.clear()
    LocalTransport(place).close()
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    with App(builder, application_id="a", data_dir=place, state_dir=tmp_path / "s").producer():
        pass
    assert told(caplog, "a new") == []
