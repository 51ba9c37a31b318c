"""A broker that goes away and comes back: nothing is lost, nothing has to be started anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.broker.broker import Broker
from tests.unit.streams.transport.conformance import produce, read, values
from tests.waiting import HANG_S, wait_until
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import BrokerError
from thalweg.streams.transport.kafka.transport import KafkaTransport
from thalweg.streams.transport.port import NewTopic, OffsetAndMetadata, TopicPartition

QUARTER_OF_AN_HOUR_MS = 900_000
"""The longest that the broker lets a transaction take."""


@pytest.fixture(params=["at_least_once", "exactly_once_v2"])
def transport(
    broker: Broker, name: str, request: pytest.FixtureRequest
) -> Iterator[KafkaTransport]:
    config = StreamsConfig(
        application_id=name,
        bootstrap_servers=broker.bootstrap_servers,
        processing_guarantee=request.param,
    )
    with KafkaTransport(config) as transport:
        yield transport


@pytest.mark.parametrize("how", ["stop", "kill", "suspend"])
def test_a_transport_survives_its_broker(
    broker: Broker, transport: KafkaTransport, name: str, how: str
) -> None:
    at = TopicPartition(name, 0)
    transport.create_topics([NewTopic(name, 1)])
    produce(transport, name, *[b"%d" % n for n in range(100)])
    transport.commit({at: OffsetAndMetadata(50)})
    reader = transport.reader()
    reader.add({at: 0})
    found = values(read(reader, 100))

    getattr(broker, how)()
    send = transport.sender(name)

    def send_all() -> None:
        for number in range(100, 200):
            send(b"k", b"%d" % number, 1, None, 0)

    send_all()
    assert not reader.poll(10, 500)
    broker.mend()

    def is_committed() -> bool:
        """A broker on a busy machine takes longer to come back than a transaction lasts."""
        if _is_done(transport.flush) and _is_done(
            lambda: transport.commit({at: OffsetAndMetadata(200)})
        ):
            return True
        if transport.settings.reads_committed:
            wait_until(lambda: _is_done(transport.abort), HANG_S, "what was sent taken back")
            send_all()
        return False

    wait_until(is_committed, HANG_S, "the commit of what was sent")
    found += values(read(reader, 100))
    reader.close()
    assert found == [b"%d" % n for n in range(200)]
    assert transport.committed([at]) == {at: OffsetAndMetadata(200)}


def _is_done(step: Callable[[], None]) -> bool:
    """Tells whether a step works that may be made again while brokers are away."""
    try:
        step()
    except BrokerError as error:
        if not error.is_away:
            raise
        return False
    return True


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_ends_of_partitions_are_known_also_to_who_knew_their_leaders_before(
    broker: Broker, transport: KafkaTransport, name: str, how: str
) -> None:
    """A broker that comes back leads in a new epoch."""
    at = TopicPartition(name, 0)
    transport.create_topics([NewTopic(name, 1)])
    assert transport.high_watermarks([at]) == {at: 0}

    getattr(broker, how)()
    broker.mend()

    assert transport.high_watermarks([at]) == {at: 0}


def test_records_that_reach_no_broker_are_told_when_their_time_is_up(
    broker: Broker, name: str
) -> None:
    config = StreamsConfig(
        application_id=name,
        bootstrap_servers=broker.bootstrap_servers,
        producer_configs={"delivery.timeout.ms": 1_000},
    )
    with KafkaTransport(config) as transport:
        transport.create_topics([NewTopic(name, 1)])
        produce(transport, name, b"before")
        broker.stop()
        transport.sender(name)(b"k", b"lost", 1, None, 0)

        with pytest.raises(BrokerError, match=f"record for topic '{name}' was not delivered"):
            transport.flush()

        broker.mend()
        transport.abort()
        produce(transport, name, b"after")
        reader = transport.reader()
        reader.add({TopicPartition(name, 0): 0})
        assert values(read(reader, 2)) == [b"before", b"after"]
        reader.close()


@pytest.mark.timeout(2 * HANG_S)
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
def test_closing_without_a_broker_does_not_wait_for_what_was_sent(
    broker: Broker, name: str, guarantee: str
) -> None:
    config = StreamsConfig(
        application_id=name,
        bootstrap_servers=broker.bootstrap_servers,
        processing_guarantee=guarantee,
        producer_configs={
            "delivery.timeout.ms": QUARTER_OF_AN_HOUR_MS,
            **({"transaction.timeout.ms": QUARTER_OF_AN_HOUR_MS} if "exactly" in guarantee else {}),
        },
    )
    transport = KafkaTransport(config)
    transport.create_topics([NewTopic(name, 1)])
    produce(transport, name, b"before")
    reader = transport.reader()
    reader.add({TopicPartition(name, 0): 0})
    broker.stop()
    transport.sender(name)(b"k", b"never", 1, None, 0)

    reader.close()
    transport.close()  # without a bound of its own it would take a quarter of an hour
