"""The broker of the tests: what the other tests in this folder rely on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.broker.broker import (
    Broker,
    BrokerUnavailableError,
    dying_with_parent,
    open_broker,
)
from tests.broker.waiting import wait_until

pytestmark = pytest.mark.broker


def produce(servers: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def read(servers: str, topic: str, count: int) -> list[bytes | None]:
    settings = {"bootstrap.servers": servers, "group.id": "reader", "log_level": 0}
    consumer = Consumer(settings)
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, 30)]
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
    admin.list_topics(timeout=10)
    broker.suspend()

    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)

    broker.resume()
    assert admin.list_topics(timeout=30).brokers


def test_topics_have_the_partitions_asked_for(kafka: str, topic: Callable[..., str]) -> None:
    name = topic(3, cleanup_policy="compact")

    found = AdminClient({"bootstrap.servers": kafka}).list_topics(name, 10).topics[name]

    assert len(found.partitions) == 3


@pytest.mark.parametrize("listener", ["configs", "sasl_configs", "tls_configs"])
def test_every_listener_is_reached(broker: Broker, listener: str) -> None:
    assert AdminClient(getattr(broker, listener)).list_topics(timeout=20).brokers


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


def test_every_way_that_failed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine at the address, no programs on the path: the message says both."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BrokerUnavailableError) as caught, open_broker():
        pass

    message = str(caught.value)
    assert "KAFKA_BOOTSTRAP_SERVERS" in message
    assert "apache/kafka:4.2.1: no Docker engine answers" in message
    assert "by Maven on Java 17: java not found" in message


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
        wait_until(lambda: started.read_bytes().startswith(b"sleep"), 20, "sleep")
        parent.kill()

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    wait_until(is_gone, 20, "end of the child")
