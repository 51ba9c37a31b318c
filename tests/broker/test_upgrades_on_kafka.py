"""A changed script on Kafka: what the broker does not notice, what it refuses, and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.broker.records import Topics, unique
from tests.docs.documents import RUN_THALWEG
from tests.unit.streams.upgrades import BEGINS_ANEW, GOES_ON, OTHER_TOPICS, Change, first
from tests.waiting import HANG_S, wait_until
from thalweg import (
    App,
    State,
    StreamsBuilder,
    StreamsError,
    TopologyError,
)

REFUSED = {**BEGINS_ANEW, **OTHER_TOPICS}
SCRIPT = """
import os
from thalweg import App
from tests.unit.streams import upgrades

builder = getattr(upgrades, os.environ["CHANGE"])(os.environ["IN"], os.environ["OUT"])
app = App(builder, application_id=os.environ["APPLICATION"])
"""


class Application:
    """An application whose script changes."""

    def __init__(self, servers: str, home: Path) -> None:
        self.topics = Topics(servers)
        self.id = unique("upgraded")
        self.source, self.output = unique("in"), unique("out")
        self.topics.create(self.source)
        self.topics.create(self.output)
        self.home = home

    def app(self, change: Change) -> App:
        return App(
            change(self.source, self.output),
            application_id=self.id,
            bootstrap_servers=self.topics.servers,
            state_dir=self.home,
            commit_interval_ms=100,
        )

    def count(self, change: Change, key: str) -> int:
        """Runs a script until it has done everything; returns the count of a key."""
        app = self.app(change)
        store = next(name for name in app.store_names if name != "lately")
        with app:
            assert app.wait_until_idle(timedelta(seconds=HANG_S)), app
            return app.store(store).get(key)

    def refusal(self, change: Change) -> StreamsError:
        """Runs a script until it is refused."""
        app = self.app(change)
        app.start()
        try:
            assert app.wait_for(State.ERROR, timeout=timedelta(seconds=HANG_S)), app
        finally:
            app.close()
        assert app.error is not None
        return app.error

    def send(self, *keys: bytes) -> None:
        self.topics.produce(self.source, [(key, b"x") for key in keys])

    def reset(self, change: Change) -> None:
        """Does what the refusal says."""
        script = self.home / "script.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, "-c", RUN_THALWEG, "reset", str(script), "--yes"],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "CHANGE": change.__name__,
                "IN": self.source,
                "OUT": self.output,
                "APPLICATION": self.id,
                "THALWEG_BOOTSTRAP_SERVERS": self.topics.servers,
                "THALWEG_STATE_DIR": str(self.home),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def application(kafka: str, tmp_path: Path) -> Application:
    return Application(kafka, tmp_path)


@pytest.mark.parametrize(("before", "after"), GOES_ON.values(), ids=GOES_ON.keys())
def test_what_keeps_its_internal_topics_goes_on(
    application: Application, before: Change, after: Change
) -> None:
    application.send(b"a", b"a")
    assert application.count(before, "a") == 2
    application.send(b"a")

    assert application.count(after, "a") == 3


@pytest.mark.parametrize(("before", "after"), REFUSED.values(), ids=REFUSED.keys())
def test_other_internal_topics_are_refused_until_the_application_is_reset(
    application: Application, before: Change, after: Change
) -> None:
    application.send(b"a", b"a")
    assert application.count(before, "a") == 2

    refusal = application.refusal(after)

    assert isinstance(refusal, TopologyError)
    assert "a group keeps the topology it began with" in str(refusal)
    assert "`thalweg reset`" in str(refusal)
    assert application.count(before, "a") == 2  # nothing was lost by the attempt

    application.reset(after)

    assert application.count(after, "a") == 2


def test_a_source_that_got_more_partitions_is_refused_until_the_application_is_reset(
    application: Application,
) -> None:
    application.send(b"a", b"a")
    assert application.count(first, "a") == 2
    admin = AdminClient({"bootstrap.servers": application.topics.servers})
    grown = admin.create_partitions([NewPartitions(application.source, 2)])
    grown[application.source].result(HANG_S)
    wait_until(lambda: application.topics.partitions(application.source) == 2, HANG_S, "growth")

    refusal = application.refusal(first)

    assert isinstance(refusal, TopologyError)
    assert "partition counts do not fit" in str(refusal)
    assert "`thalweg reset`" in str(refusal)

    application.reset(first)

    assert application.count(first, "a") == 2


def test_a_source_more_is_refused(application: Application) -> None:
    def with_a_source_more(source: str, output: str) -> StreamsBuilder:
        builder = first(source, output)
        builder.stream(more).for_each(lambda _key, _value: None)
        return builder

    more = application.topics.create(unique("more"))
    application.send(b"a")
    assert application.count(first, "a") == 1

    assert "a group keeps the topology it began with" in str(
        application.refusal(with_a_source_more)
    )
