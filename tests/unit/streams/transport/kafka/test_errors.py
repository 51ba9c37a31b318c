"""What librdkafka's errors become, and in what form it is told who commits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaError

from thalweg.stores.errors import Reaction
from thalweg.streams.errors import (
    BrokerError,
    GroupError,
    OffsetOutOfRangeError,
    ProductionError,
    StreamsError,
    TaskMigratedError,
    TransportError,
)
from thalweg.streams.transport.kafka.errors import (
    VERDICTS,
    Verdict,
    delivery_failure,
    failure_of,
)
from thalweg.streams.transport.kafka.group_metadata import MemberIdentity, consumer_group_metadata


@dataclass
class Fault:
    """An error with the face of confluent-kafka's."""

    named: str
    is_fatal: bool = False
    is_retriable: bool = False

    def name(self) -> str:
        return self.named

    def str(self) -> str:
        return "the reason"

    def fatal(self) -> bool:
        return self.is_fatal

    def retriable(self) -> bool:
        return self.is_retriable


@pytest.mark.parametrize(
    ("fault", "expected", "reaction"),
    [
        (Fault("ILLEGAL_GENERATION"), TaskMigratedError, Reaction.REJOIN),
        (Fault("UNKNOWN_MEMBER_ID"), TaskMigratedError, Reaction.REJOIN),
        (Fault("_FENCED", is_fatal=True), TaskMigratedError, Reaction.REJOIN),
        (Fault("_AUTO_OFFSET_RESET"), OffsetOutOfRangeError, Reaction.STOP_APP),
        (Fault("UNKNOWN_TOPIC_OR_PART"), TransportError, Reaction.STOP_APP),
        (Fault("INVALID_REPLICATION_FACTOR"), TransportError, Reaction.STOP_APP),
        (Fault("_TRANSPORT"), BrokerError, Reaction.RETRY),
        (Fault("NOT_COORDINATOR"), BrokerError, Reaction.RETRY),
        (Fault("SOMETHING_NEW"), BrokerError, Reaction.STOP_APP),
        (Fault("SOMETHING_NEW", is_retriable=True), BrokerError, Reaction.RETRY),
        (Fault("_TRANSPORT", is_fatal=True), BrokerError, Reaction.STOP_APP),
        (Fault("TOPIC_AUTHORIZATION_FAILED"), BrokerError, Reaction.STOP_APP),
    ],
)
def test_a_fault_is_told_by_class_and_reaction(
    fault: Fault, expected: type[StreamsError], reaction: Reaction
) -> None:
    failure = failure_of("cannot do it", fault, topic="t", partition=3, offset=7)

    assert type(failure) is expected
    assert failure.reaction is reaction
    assert (failure.topic, failure.partition, failure.offset) == ("t", 3, 7)
    assert failure.message.startswith(f"cannot do it: the reason ({fault.named})")


def codes() -> list[int]:
    """Returns all codes the client knows."""
    values = (getattr(KafkaError, name) for name in dir(KafkaError) if name.isupper())
    return sorted({value for value in values if isinstance(value, int)})


def test_there_are_codes_to_look_at() -> None:
    assert len(codes()) > 180


@pytest.mark.parametrize("code", codes(), ids=lambda code: KafkaError(code).name())
def test_every_code_of_the_client_has_its_verdict(code: int) -> None:
    fault = KafkaError(code)

    verdict = VERDICTS[fault.name()]

    failure = failure_of("cannot do it", fault)
    expected = {
        Verdict.AWAY: Reaction.RETRY,
        Verdict.PASSES: Reaction.RETRY,
        Verdict.FENCED: Reaction.REJOIN,
        Verdict.REJOIN: Reaction.REJOIN,
        Verdict.FATAL: Reaction.STOP_APP,
    }
    assert failure.reaction is expected[verdict]
    assert isinstance(failure, TaskMigratedError) is (verdict is Verdict.FENCED)
    is_away = isinstance(failure, BrokerError) and failure.is_away
    assert is_away is (verdict is Verdict.AWAY)


def test_the_table_has_no_code_the_client_does_not_know() -> None:
    assert VERDICTS.keys() == {KafkaError(code).name() for code in codes()}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("_ALL_BROKERS_DOWN", "check bootstrap_servers"),
        ("_RESOLVE", "host names in bootstrap_servers"),
        ("SASL_AUTHENTICATION_FAILED", "sasl.password in consumer_configs"),
        ("_SSL", "ssl.ca.location"),
        ("GROUP_AUTHORIZATION_FAILED", "read the group"),
        ("UNKNOWN_TOPIC_OR_PART", "create the topic"),
        ("NON_EMPTY_GROUP", "stop all workers"),
    ],
)
def test_an_error_says_what_can_be_done(name: str, remedy: str) -> None:
    assert remedy in failure_of("cannot", Fault(name)).message


@pytest.mark.parametrize("name", ["MSG_SIZE_TOO_LARGE", "INVALID_RECORD", "_UNKNOWN_PARTITION"])
def test_a_record_the_log_refuses_is_named(name: str) -> None:
    failure = delivery_failure(Fault(name), "orders", 12)

    assert type(failure) is ProductionError
    assert failure.topic == "orders"
    assert failure.message.startswith("a record of 12 bytes for topic 'orders' was refused")


def test_a_record_too_large_names_the_settings() -> None:
    message = delivery_failure(Fault("MSG_SIZE_TOO_LARGE"), "orders", 12).message

    assert "max.message.bytes" in message
    assert "message.max.bytes in producer_configs" in message


@pytest.mark.parametrize(
    "name", [name for name, verdict in VERDICTS.items() if verdict is Verdict.AWAY]
)
def test_a_record_that_reached_no_broker_is_sent_again_from_the_last_commit(name: str) -> None:
    failure = delivery_failure(Fault(name, is_retriable=True), "orders", 12)

    assert type(failure) is BrokerError
    assert failure.reaction is Reaction.REJOIN
    assert failure.is_away
    assert not failure.retriable, "it is not sent again by itself"


@pytest.mark.parametrize("name", ["_STATE", "_FATAL", "_PURGE_QUEUE", "UNKNOWN_PRODUCER_ID"])
def test_a_record_of_a_transaction_that_broke_is_none_the_log_refuses(name: str) -> None:
    failure = delivery_failure(Fault(name), "orders", 12)

    assert type(failure) is BrokerError
    assert failure.reaction is Reaction.REJOIN
    assert not failure.is_away


def test_a_record_of_whoever_is_not_let_in_stops_it() -> None:
    failure = delivery_failure(Fault("_AUTHENTICATION", is_retriable=True), "orders", 12)

    assert type(failure) is BrokerError
    assert failure.reaction is Reaction.STOP_APP


def test_a_record_of_a_fenced_producer_means_that_the_tasks_moved() -> None:
    assert type(delivery_failure(Fault("_FENCED"), "orders", None)) is TaskMigratedError


# -- who commits ----------------------------------------------------------------------------


def test_an_identity_has_the_bytes_librdkafka_reads() -> None:
    identity = MemberIdentity("wordcount", "m", 3)

    # As librdkafka 2.12 read it on a little-endian machine.
    expected = "43474d4476323a03000000776f7264636f756e74006d0001"
    assert consumer_group_metadata(identity).hex() == expected


def test_nobody_has_the_bytes_librdkafka_writes() -> None:
    assert consumer_group_metadata(MemberIdentity("g1")) == b"CGMDv2:\xff\xff\xff\xffg1\x00\x00\x01"


@pytest.mark.parametrize("identity", [MemberIdentity("é"), MemberIdentity("g", "m\n", 1)])
def test_an_identity_librdkafka_cannot_read_is_refused(identity: MemberIdentity) -> None:
    with pytest.raises(GroupError, match="printable ASCII"):
        consumer_group_metadata(identity)
