"""What a transport makes of the errors that its clients hear: refused for good, or for now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from thalweg.streams.errors import AuthenticationError, BrokerError
from thalweg.streams.transport.kafka.clients import Connection
from thalweg.streams.transport.kafka.settings import credentials_of

ONES = credentials_of({"sasl.username": "one", "sasl.password": "secret", "client.id": "a"})
OTHERS = credentials_of({"sasl.username": "other", "sasl.password": "secret"})


@dataclass
class Fault:
    named: str
    text: str = "no"

    def name(self) -> str:
        return self.named

    def str(self) -> str:
        return self.text

    def fatal(self) -> bool:
        return False

    def retriable(self) -> bool:
        return True


def connection() -> Connection:
    return Connection(lambda: 0.0, lambda: None)


def fail(one: Connection, *faults: Any, credentials: Any = ONES) -> None:
    for fault in faults:
        one.failed(fault, credentials)


REFUSED = Fault("_AUTHENTICATION")


def test_credentials_that_were_never_taken_are_wrong() -> None:
    one = connection()
    fail(one, REFUSED)

    with pytest.raises(AuthenticationError):
        one.raise_refusal("cannot reach it")


def test_credentials_that_were_taken_before_need_not_be_wrong() -> None:
    one = connection()
    one.let_in(ONES)
    fail(one, REFUSED)

    with pytest.raises(BrokerError) as caught:
        one.raise_refusal("it refuses")
    assert type(caught.value) is BrokerError


def test_that_one_client_is_let_in_says_nothing_of_another_with_other_credentials() -> None:
    one = connection()
    one.let_in(ONES)
    fail(one, REFUSED, credentials=OTHERS)

    with pytest.raises(AuthenticationError):
        one.raise_refusal("it refuses")


def test_clients_with_the_same_credentials_are_let_in_together() -> None:
    assert (
        credentials_of({"sasl.username": "one", "sasl.password": "secret", "acks": "all"}) == ONES
    )


ALERT = Fault("_TRANSPORT", "Receive failed: ssl/tls alert bad certificate: SSL alert number 42")


def test_a_certificate_that_a_broker_refuses_by_an_alert_is_refused() -> None:
    """With TLS 1.3 that comes when the connection is made, as one that breaks."""
    one = connection()
    fail(one, ALERT)
    one.raise_refusal("it may be one that ends")
    fail(one, ALERT)

    with pytest.raises(AuthenticationError, match="check that bootstrap_servers names a TLS"):
        one.raise_refusal("cannot reach it")


@pytest.mark.parametrize(
    "fault", [Fault("_TRANSPORT", "Disconnected"), Fault("_TRANSPORT", "SSL alert number 0")]
)
def test_a_connection_that_breaks_refuses_nothing(fault: Fault) -> None:
    one = connection()
    fail(one, fault, fault, fault)

    one.raise_refusal("it is away")
    assert one.is_away


def test_alerts_of_who_was_let_in_refuse_nothing() -> None:
    one = connection()
    one.let_in(ONES)
    fail(one, ALERT, ALERT, ALERT)

    one.raise_refusal("it is away")
