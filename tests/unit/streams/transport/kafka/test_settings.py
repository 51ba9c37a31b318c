"""What the Kafka clients are told, and what a user may not tell them."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import ConfigError
from thalweg.streams.transport.kafka.settings import KafkaSettings, kafka_settings


def settings(*, exactly_once: bool = False, **given: Any) -> KafkaSettings:
    config = StreamsConfig(
        application_id="app",
        bootstrap_servers="one:9092,two:9092",
        processing_guarantee="exactly_once_v2" if exactly_once else "at_least_once",
        **given,
    )
    transactional_id = "app-p-1" if exactly_once else None
    return kafka_settings(config, client_id="app-p-1", transactional_id=transactional_id)


def test_every_client_goes_to_the_cluster_under_a_name_of_its_own() -> None:
    told = settings()

    clients = (told.consumer, told.producer, told.admin)
    assert {client["bootstrap.servers"] for client in clients} == {"one:9092,two:9092"}
    assert [client["client.id"] for client in clients] == [
        "app-p-1-consumer",
        "app-p-1-producer",
        "app-p-1-admin",
    ]


def test_offsets_and_partitions_are_the_runtimes_business() -> None:
    told = settings().consumer

    assert told["group.id"] == "app"
    assert told["auto.offset.reset"] == "error"
    assert not told["enable.auto.commit"]
    assert not told["enable.auto.offset.store"]
    assert told["enable.partition.eof"]


def test_keys_go_where_the_jvms_producer_sends_them() -> None:
    assert settings().producer["partitioner"] == "murmur2_random"


def test_at_least_once_reads_everything_and_has_no_transactions() -> None:
    told = settings()

    assert not told.reads_committed
    assert "transactional.id" not in told.producer
    assert told.producer["enable.idempotence"]
    assert told.producer["acks"] == "all"


def test_exactly_once_reads_what_is_committed_and_has_transactions() -> None:
    told = settings(exactly_once=True)

    assert told.reads_committed
    assert told.producer["transactional.id"] == "app-p-1"
    assert told.producer["transaction.timeout.ms"] == told.transaction_timeout_ms == 10_000
    # librdkafka takes the transaction's; another one would be refused where it is longer.
    assert "message.timeout.ms" not in told.producer


def test_at_least_once_may_read_committed_records_only() -> None:
    assert settings(consumer_configs={"isolation.level": "read_committed"}).reads_committed


def test_a_users_setting_wins_over_ours() -> None:
    told = settings(
        consumer_configs={"fetch.wait.max.ms": 500, "check.crcs": True},
        producer_configs={"linger.ms": 100, "delivery.timeout.ms": 7},
        admin_configs={"socket.connection.setup.timeout.ms": "3000"},
        exactly_once=False,
    )

    assert (told.consumer["fetch.wait.max.ms"], told.consumer["check.crcs"]) == (500, True)
    assert told.producer["linger.ms"] == 100
    assert "message.timeout.ms" not in told.producer
    assert told.setup_timeout_ms == 3000


def test_the_transactions_time_out_can_be_set() -> None:
    told = settings(exactly_once=True, producer_configs={"transaction.timeout.ms": "60000"})

    assert told.producer["transaction.timeout.ms"] == told.transaction_timeout_ms == 60_000


@pytest.mark.parametrize(
    ("mapping", "name", "value", "reason"),
    [
        ("consumer_configs", "bootstrap.servers", "x:1", "set bootstrap_servers"),
        ("admin_configs", "metadata.broker.list", "x:1", "set bootstrap_servers"),
        ("consumer_configs", "group.id", "other", "application_id"),
        ("consumer_configs", "group.instance.id", "me", "application_id"),
        ("consumer_configs", "group.protocol", "consumer", "application_id"),
        ("consumer_configs", "partition.assignment.strategy", "range", "application_id"),
        ("consumer_configs", "enable.auto.commit", True, "offsets are committed"),
        ("consumer_configs", "enable.auto.commit", False, "offsets are committed"),
        ("consumer_configs", "enable.auto.offset.store", True, "offsets are committed"),
        ("consumer_configs", "auto.offset.reset", "latest", "offset_reset="),
        ("consumer_configs", "enable.partition.eof", False, "restoring"),
        ("consumer_configs", "max.poll.records", 500, "set max_poll_records"),
        ("consumer_configs", "value.deserializer", repr, "serdes"),
        ("producer_configs", "key.serializer", repr, "serdes"),
        ("producer_configs", "transactional.id", "mine", "names the worker"),
        ("producer_configs", "partitioner", "random", "partitioner="),
        ("producer_configs", "on_delivery", print, "delivery reports"),
        ("producer_configs", "delivery.report.only.error", False, "delivery reports"),
        ("producer_configs", "queuing.strategy", "lifo", "in order"),
        ("producer_configs", "enable.idempotence", False, "lost or doubled"),
        ("producer_configs", "enable.idempotence", "false", "lost or doubled"),
        ("producer_configs", "acks", 1, "what was sent lasts"),
        ("producer_configs", "request.required.acks", "0", "what was sent lasts"),
        ("producer_configs", "error_cb", print, "errors of the application"),
        ("producer_configs", "metadata.recovery.strategy", "rebootstrap", "hang"),
        ("admin_configs", "logger", None, "Python logger"),
    ],
)
def test_what_the_runtime_relies_on_is_refused(
    mapping: str, name: str, value: Any, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(**{mapping: {name: value}})

    assert str(caught.value).startswith(f"{mapping} cannot set {name!r}")
    assert reason in str(caught.value)


def test_exactly_once_keeps_its_isolation() -> None:
    with pytest.raises(ConfigError, match=r"'isolation.level': with \"exactly_once_v2\""):
        settings(exactly_once=True, consumer_configs={"isolation.level": "read_uncommitted"})


@pytest.mark.parametrize("acks", ["all", -1, "-1"])
def test_saying_what_holds_anyway_is_allowed(acks: Any) -> None:
    told = settings(producer_configs={"enable.idempotence": True, "acks": acks})

    assert told.producer["acks"] == acks


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"admin_configs: 'socket.connection.setup.timeout.ms'"):
        settings(admin_configs={"socket.connection.setup.timeout.ms": "soon"})


# -- security -------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["consumer_configs", "producer_configs", "admin_configs"])
def test_security_given_for_one_client_goes_to_all(mapping: str) -> None:
    security = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "me",
        "sasl.password": "secret",
        "ssl.ca.location": "ca.pem",
        "enable.ssl.certificate.verification": True,
    }

    told = settings(**{mapping: {**security, "socket.timeout.ms": 5}})

    for client in (told.consumer, told.producer, told.admin):
        assert {name: client[name] for name in security} == security
    assert told.security == security
    with_timeout = [
        client.get("socket.timeout.ms") for client in (told.consumer, told.producer, told.admin)
    ]
    assert with_timeout.count(5) == 1


def test_a_client_may_have_an_identity_of_its_own() -> None:
    told = settings(
        consumer_configs={"sasl.username": "all", "security.protocol": "SASL_PLAINTEXT"},
        producer_configs={"sasl.username": "writer"},
        admin_configs={"sasl.username": "all"},
    )

    assert [c["sasl.username"] for c in (told.consumer, told.producer, told.admin)] == [
        "all",
        "writer",
        "all",
    ]
    assert told.producer["security.protocol"] == "SASL_PLAINTEXT"
    assert told.security["sasl.username"] == "all"


def test_security_that_could_be_either_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'sasl.username' has different .* in admin_configs too"):
        settings(
            consumer_configs={"sasl.username": "one"}, producer_configs={"sasl.username": "two"}
        )


def test_a_secret_is_not_told_in_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        settings(
            consumer_configs={"sasl.password": "s3cret"},
            producer_configs={"sasl.password": "0ther"},
        )

    assert "s3cret" not in str(caught.value)
    assert "0ther" not in str(caught.value)
