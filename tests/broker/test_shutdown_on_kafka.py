"""One instance asks all of them to stop."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.broker.records import Topics, unique
from tests.waiting import HANG_S
from thalweg import (
    App,
    ApplicationShutdownError,
    ProcessingError,
    State,
    StreamsBuilder,
    UncaughtResponse,
    serdes,
)

SOON = timedelta(seconds=HANG_S)


def parsing(servers: str, application: str, topic: str, directory: Path) -> App:
    """Returns an application that fails at what is no number, and ends all instances then."""
    builder = StreamsBuilder()
    builder.stream(topic, value_serde=serdes.string).for_each(lambda _key, value: int(value))
    app = App(builder, application_id=application, bootstrap_servers=servers, state_dir=directory)
    app.set_uncaught_error_handler(lambda _error: UncaughtResponse.SHUTDOWN_APPLICATION)
    return app


def test_an_instance_that_fails_stops_all_of_them(kafka: str, tmp_path: Path) -> None:
    topics, application = Topics(kafka), unique("parsing")
    topic = topics.create(unique("numbers"), 2)
    apps = [parsing(kafka, application, topic, tmp_path / name) for name in ("one", "two")]
    for app in apps:
        app.start()
    try:
        for app in apps:
            assert app.wait_for(State.RUNNING, timeout=SOON)
        topics.produce(topic, [(None, b"no number")])
        for app in apps:
            assert app.wait_for(State.ERROR, timeout=SOON)
            assert app.is_application_shut_down
        kinds = sorted(type(app.error).__name__ for app in apps)
        assert kinds == sorted([ProcessingError.__name__, ApplicationShutdownError.__name__])
    finally:
        for app in apps:
            app.close(SOON)
