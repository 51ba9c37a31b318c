"""The broker of the tests: what the other tests in this folder rely on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.broker.broker import (
    GIVEN,
    Broker,
    BrokerUnavailableError,
    dying_with_parent,
    open_broker,
)
from tests.waiting import HANG_S, wait_until

pytestmark = pytest.mark.broker

OWN_BROKER = {
    "test_broker.py::": "it is about our own",
    "test_membership.py::": "the broker's session time-out, and restarts",
    "test_kafka_outage.py::": "outages",
    "test_outages.py::": "outages",
    "test_standby_on_kafka.py::": "a session of its own, with standby tasks",
    "test_supervisor_on_kafka.py::": "sessions of its own",
    "test_workers_on_kafka.py::": "outages, and the broker's session time-out",
    "test_security_on_kafka.py::": "listeners with security",
    "test_kafka_transport.py::test_every_client_gets_the_security_given_once": "TLS, SASL",
    "test_kafka_transport.py::test_credentials_the_broker_refuses_end_the_attempt_at_once": "SASL",
    "test_kafka_transport.py::test_a_certificate_of_a_stranger_ends_the_attempt": "TLS",
    "test_bad_input_on_kafka.py::test_wrong_credentials_": "SASL",
    "test_bad_input_on_kafka.py::test_a_missing_certificate_": "TLS",
}
"""Who may have a broker of their own, by the beginning of a test's name, and what for."""


def produce(servers: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(HANG_S) == 0


def read(servers: str, topic: str, count: int) -> list[bytes | None]:
    settings = {"bootstrap.servers": servers, "group.id": "reader", "log_level": 0}
    consumer = Consumer(settings)
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, HANG_S)]
    finally:
        consumer.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_data_outlives_a_restart(broker: Broker, topic: Callable[..., str], end: str) -> None:
    name = topic()
    produce(broker.bootstrap_servers, name, b"before")

    getattr(broker, end)()
    broker.start()

    produce(broker.bootstrap_servers, name, b"after")
    assert read(broker.bootstrap_servers, name, 2) == [b"before", b"after"]


def test_a_halted_broker_does_not_answer(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    admin.list_topics(timeout=HANG_S)
    broker.suspend()

    def answers() -> bool:
        try:
            admin.list_topics(timeout=1)
        except KafkaException:
            return False
        return True

    # What was on its way when it halted may still come.
    wait_until(lambda: not answers(), HANG_S, "no answer of a halted broker")

    broker.resume()
    assert admin.list_topics(timeout=HANG_S).brokers


def test_topics_have_the_partitions_asked_for(kafka: str, topic: Callable[..., str]) -> None:
    name = topic(3, cleanup_policy="compact")

    found = AdminClient({"bootstrap.servers": kafka}).list_topics(name, HANG_S).topics[name]

    assert len(found.partitions) == 3


@pytest.mark.parametrize("listener", ["configs", "sasl_configs", "tls_configs"])
def test_every_listener_is_reached(broker: Broker, listener: str) -> None:
    assert AdminClient(getattr(broker, listener)).list_topics(timeout=HANG_S).brokers


def refusals(configs: Mapping[str, str]) -> set[str]:
    """Returns the names of the errors that a client with these settings meets."""
    errors: set[str] = set()
    admin = AdminClient(
        {**configs, "error_cb": lambda error: errors.add(error.name()), "log_level": 0}
    )
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=2)
    admin.poll(0)
    return errors


def test_a_wrong_password_is_refused(broker: Broker) -> None:
    assert "_AUTHENTICATION" in refusals({**broker.sasl_configs, "sasl.password": "wrong"})


def test_a_stranger_without_a_certificate_is_refused(broker: Broker) -> None:
    configs = broker.tls_configs
    del configs["ssl.certificate.location"], configs["ssl.key.location"]

    # With TLS 1.3 the broker closes a connection that was made.
    assert refusals(configs) & {"_SSL", "_TRANSPORT"}


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment with no engine at the address and no programs on the path."""
    return {"DOCKER_HOST": f"unix://{tmp_path}/nobody", "PATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("", "set KAFKA_BOOTSTRAP_SERVERS to one of version 4.2.1 or newer, start a Docker engine"),
        ("far.away:9092", "which it does not do to far.away:9092"),
    ],
)
def test_every_way_that_failed_is_named(
    monkeypatch: pytest.MonkeyPatch, bare: Mapping[str, str], given: str, remedy: str
) -> None:
    for name, value in {**bare, GIVEN: given}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(BrokerUnavailableError) as caught, open_broker():
        pass

    message = str(caught.value)
    assert remedy in message
    assert "start a Docker engine, or install Java 17 and Maven" in message
    assert (f"set {GIVEN}" in message) is (not given)
    assert "apache/kafka:4.2.1: no Docker engine answers" in message
    assert "by Maven on Java 17: java not found" in message


def test_a_broker_that_is_given_is_used_and_nothing_is_done_to_it(
    kafka: str, bare: Mapping[str, str]
) -> None:
    """Where nothing but a given broker is to be had, one test passes, the other says why not."""
    uses, stops = (
        "test_topics_have_the_partitions_asked_for",
        "test_a_halted_broker_does_not_answer",
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-rA", "--color=no", "-p", "no:cacheprovider"),
            *(f"{__file__}::{test}" for test in (uses, stops)),
        ],
        env={**os.environ, **bare, GIVEN: kafka},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stdout
    assert re.search(f"^PASSED .*::{uses}$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(f"^ERROR .*::{stops}\\b", done.stdout, re.MULTILINE), done.stdout
    assert f"which it does not do to {kafka}" in done.stdout


def test_only_tests_that_need_a_broker_of_their_own_have_one(
    request: pytest.FixtureRequest,
) -> None:
    """All others that were collected go to the one that is given, if one is."""
    own = {
        f"{item.path.name}::{item.originalname}"
        for item in request.session.items
        if item.path.parent == Path(__file__).parent
        and isinstance(item, pytest.Function)
        and "broker" in item.fixturenames
    }

    needless = {name for name in own if not name.startswith(tuple(OWN_BROKER))}
    assert not needless, f"take the fixture `kafka`, or say in OWN_BROKER why not: {needless}"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_what_was_started_ends_with_its_parent() -> None:
    child = (
        "import subprocess, time; from tests.broker.broker import dying_with_parent;"
        "print(subprocess.Popen(dying_with_parent('sleep', '300')).pid, flush=True);"
        "time.sleep(300)"
    )
    with subprocess.Popen(
        dying_with_parent(sys.executable, "-c", child), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        started = Path(f"/proc/{pid}/cmdline")
        wait_until(lambda: started.read_bytes().startswith(b"sleep"), HANG_S, "sleep")
        parent.kill()

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    wait_until(is_gone, HANG_S, "end of the child")
