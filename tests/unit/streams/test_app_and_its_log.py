"""An application's settings before its start, and scripts that write to its log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.waiting import HANG_S
from thalweg import (
    App,
    AppStateError,
    ConfigError,
    State,
    StreamsBuilder,
    read_topic,
    serdes,
)

SOON = timedelta(seconds=HANG_S)


@pytest.fixture
def app(tmp_path: Path) -> App:
    """Returns an application that counts words, on a log of its own."""
    builder = StreamsBuilder()
    (
        builder.stream("lines", value_serde=serdes.string)
        .flat_map_values(str.split)
        .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(name="counts")
        .to_stream()
        .to("word-counts", value_serde=serdes.int64)
    )
    return App(
        builder,
        application_id="counting",
        data_dir=tmp_path / "log",
        state_dir=tmp_path / "state",
        commit_interval_ms=20,
        poll_ms=5,
    )


def idle(app: App) -> None:
    """Waits until everything is processed."""
    while (progress := app.progress()) is None or not progress.is_idle:
        if app.wait_for(State.ERROR, timeout=timedelta(milliseconds=5)):
            raise AssertionError(app.error)


def test_a_producer_writes_while_the_application_runs_in_the_same_process(app: App) -> None:
    with app, app.producer() as producer:
        assert app.wait_for(State.RUNNING, timeout=SOON)
        for line in ("to be or", "not to be"):
            producer.send("lines", line, value_serde=serdes.string)
        producer.flush()
        idle(app)
        assert dict(app.store("counts").all()) == {"be": 2, "not": 1, "or": 1, "to": 2}

    records = read_topic(
        app.config, "word-counts", key_serde=serdes.string, value_serde=serdes.int64
    )
    assert {record.key: record.value for record in records} == {"be": 2, "not": 1, "or": 1, "to": 2}


def test_an_application_is_idle_when_its_last_subtopology_is_done(app: App) -> None:
    with app.producer() as producer:
        for number in range(5_000):
            producer.send("lines", f"a b c{number}", value_serde=serdes.string)
    with app:
        idle(app)
        assert sum(count for _, count in app.store("counts").all()) == 15_000
        progress = app.progress()
        assert progress is not None
        assert progress.lag_records == 0


def test_what_was_processed_is_still_known_after_the_end(app: App) -> None:
    with app.producer() as producer:
        producer.send("lines", "a b", value_serde=serdes.string)
    with app:
        idle(app)

    progress = app.progress()
    assert progress is not None
    assert progress.processed_records == 3


def test_settings_can_be_changed_before_the_start_only(app: App) -> None:
    app.configure(default_key_serde=serdes.string, commit_interval=timedelta(milliseconds=30))

    assert app.config.commit_interval_ms == 30
    assert app.store_builder("counts").key_serde is serdes.string
    with app, pytest.raises(AppStateError, match=r"change settings before start\(\)"):
        app.configure(commit_interval_ms=5)


def test_a_wrong_setting_changes_nothing(app: App) -> None:
    before = app.config
    with pytest.raises(ConfigError, match="poll_ms cannot be -1"):
        app.configure(poll_ms=-1)
    with pytest.raises(ConfigError, match="THALWEG_TOPOLOGY_OPTIMIZATION"):
        app.configure(topology_optimization="all")

    assert app.config is before
