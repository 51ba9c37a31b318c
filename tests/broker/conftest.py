"""A real broker for the tests in this folder; started once, stopped always, never skipped."""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker.broker import GIVEN, Broker, BrokerUnavailableError, open_broker
from tests.broker.records import when_ready
from tests.waiting import HANG_S

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything in this folder as in need of a broker."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A broker of our own, which tests may stop, kill and suspend."""
    with contextlib.ExitStack() as stack:
        try:
            broker = stack.enter_context(open_broker())
        except BrokerUnavailableError as error:
            pytest.fail(str(error), pytrace=False)
        yield broker


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of a broker: that of KAFKA_BOOTSTRAP_SERVERS, else our own."""
    given = os.environ.get(GIVEN)
    if given:
        return given
    broker: Broker = request.getfixturevalue("broker")
    return broker.bootstrap_servers


@pytest.fixture(autouse=True)
def _running_broker(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leaves the broker running behind a test that failed while it had stopped it."""
    yield
    if "broker" in request.fixturenames:
        broker: Broker = request.getfixturevalue("broker")
        broker.mend()


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name nobody else has, for a group or a topic."""
    return f"test-{next(_numbers)}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def create_topic(kafka: str) -> Callable[..., str]:
    """Creates a topic and waits for it: `create_topic(name, partitions=1, **configs)`."""
    admin = AdminClient({"bootstrap.servers": kafka})

    def create(topic: str, partitions: int = 1, **configs: str) -> str:
        named = {key.replace("_", "."): value for key, value in configs.items()}
        wanted = [NewTopic(topic, partitions, 1, config=named)]
        when_ready(lambda: admin.create_topics(wanted)[topic].result(HANG_S))
        return topic

    return create


@pytest.fixture
def topic(create_topic: Callable[..., str]) -> Callable[..., str]:
    """Creates a topic nobody else has: `topic(partitions=1, **configs)`."""
    return lambda partitions=1, **configs: create_topic(
        f"topic-{next(_numbers)}-{uuid.uuid4().hex[:8]}", partitions, **configs
    )
