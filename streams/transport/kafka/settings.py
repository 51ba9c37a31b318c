"""The settings of the Kafka clients: ours, the user's, and those that are refused.

Owns the settings of the consumers, the producer and the admin client of one transport, by
librdkafka's names. A user's setting overrides ours. Settings that the guarantees of the runtime
depend on are refused, by name and with the reason. Security settings of one client hold for all. It
must not know the library; the library checks whether a name exists.

Source: reference runtime-facts 3 (measured); JVM `StreamsConfig.getMainConsumerConfigs`,
`getProducerConfigs`; kafka-streams reference A18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import ConfigError

READ_COMMITTED: Final = "read_committed"

_SETUP_TIMEOUT: Final = "socket.connection.setup.timeout.ms"

_COMMON: Final[Mapping[str, Any]] = {
    # The JVM's; librdkafka's own waits up to 10 s before it tries a restarted broker again.
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    # How long a client may take to reach its first broker, TLS and SASL included.
    _SETUP_TIMEOUT: 10_000,
    # With librdkafka's "rebootstrap", questions to a group's coordinator (offsets of a transaction
    # among them) hang for good once all brokers were away (seen with 2.16).
    "metadata.recovery.strategy": "none",
    # A partition whose leader was none for a moment is not asked about again before the next
    # refresh (librdkafka issue 5430); the default leaves it alone for five minutes.
    "topic.metadata.refresh.interval.ms": 10_000,
    # Brokers close idle connections: no news.
    "log.connection.close": False,
}

_CONSUMER: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    # Tells the end of a partition where its last offsets are no records.
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
    # The default of 1,000 ms stops fetching for a second whenever the queue is full.
    "fetch.queue.backoff.ms": 2,
    # A partition just added waits for the fetch under way; so does the end of a partition.
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32_768,
}

_PRODUCER: Final[Mapping[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    # Each record without a key goes anywhere; the default keeps to one partition for 10 ms, in
    # which a fast task sends all it has.
    "sticky.partitioning.linger.ms": 0,
    "batch.size": 512 * 1024,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 65_536,
    # How long records wait for a topic no broker knows: less than a commit may take.
    "topic.metadata.propagation.max.ms": 10_000,
    # Successes cost nothing then; what failed is told.
    "delivery.report.only.error": True,
}
_TRANSACTION_TIMEOUT: Final = "transaction.timeout.ms"
_TRANSACTION_TIMEOUT_MS: Final = 10_000
_DELIVERY_TIMEOUT_MS: Final = 120_000
"""The JVM's delivery.timeout.ms."""

_SECURITY_PREFIXES: Final = ("security.", "sasl.", "ssl.", "enable.ssl.", "https.")
_SECURITY_NAMES: Final = frozenset({"oauth_cb", "enable.sasl.oauthbearer.unsecure.jwt"})

_SERVERS: Final = "set bootstrap_servers instead"
_LOGS: Final = "librdkafka's log goes to the Python logger of this module"
_SERDES: Final = "keys and values are bytes here; give sources and sinks their serdes"
_GROUP: Final = "partitions are assigned by the application's group, application_id"
_COMMIT: Final = "offsets are committed with the tasks that consumed them"
_DELIVERY: Final = "delivery reports are how the runtime knows that a commit is safe"

_OWNED: Final[Mapping[str, str]] = {
    "bootstrap.servers": _SERVERS,
    "metadata.broker.list": _SERVERS,
    "error_cb": "errors of the connection become errors of the application",
    "log_cb": _LOGS,
    "logger": _LOGS,
    "log.queue": _LOGS,
    "metadata.recovery.strategy": "after a rebootstrap, transactions may hang",
    "key.serializer": _SERDES,
    "value.serializer": _SERDES,
    "key.deserializer": _SERDES,
    "value.deserializer": _SERDES,
}
_OWNED_CONSUMER: Final[Mapping[str, str]] = {
    "group.id": _GROUP,
    "group.instance.id": _GROUP,
    "group.protocol": _GROUP,
    "group.remote.assignor": _GROUP,
    "partition.assignment.strategy": _GROUP,
    "enable.auto.commit": _COMMIT,
    "auto.commit.interval.ms": _COMMIT,
    "enable.auto.offset.store": _COMMIT,
    "on_commit": _COMMIT,
    "auto.offset.reset": "each source has its own: consumed with offset_reset=",
    "enable.partition.eof": "restoring stores relies on it",
    "allow.auto.create.topics": "a source topic must exist before the application starts",
    "max.poll.records": "set max_poll_records instead",
}
_OWNED_PRODUCER: Final[Mapping[str, str]] = {
    "transactional.id": "it names the worker; see application_id",
    "partitioner": "a key must go where the JVM's producer sends it; give a sink partitioner=",
    "partitioner_cb": "give a sink partitioner=",
    "msg_order_cmp": "records of a key must stay in order",
    "queuing.strategy": "records of a key must stay in order",
    "on_delivery": _DELIVERY,
    "dr_cb": _DELIVERY,
    "dr_msg_cb": _DELIVERY,
    "delivery.report.only.error": _DELIVERY,
    "produce.offset.report": _DELIVERY,
}
_ONLY: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "enable.idempotence": (("true",), "without it records are lost or doubled when a send fails"),
    "acks": (("all", "-1"), "a commit promises that what was sent lasts"),
    "request.required.acks": (("all", "-1"), "a commit promises that what was sent lasts"),
}
"""Settings of the producer with one value they may have."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The settings of the clients of one transport, by librdkafka's names.

    Attributes:
        consumer: for each reader.
        producer: for the producer.
        admin: for the admin client.
        security: the part that says how to connect, for the group's own connection.
        setup_timeout_ms: how long a broker may take to be reached at the start.
        transaction_timeout_ms: how long the broker keeps a transaction open.
    """

    consumer: Mapping[str, Any]
    producer: Mapping[str, Any]
    admin: Mapping[str, Any]
    security: Mapping[str, Any]
    setup_timeout_ms: int
    transaction_timeout_ms: int

    @property
    def reads_committed(self) -> bool:
        """Whether readers pass over records of transactions that are open or aborted."""
        return str(self.consumer.get("isolation.level")) == READ_COMMITTED


def credentials_of(settings: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Returns what a client shows to be let in: its settings of security."""
    return frozenset(
        (name, str(value))
        for name, value in settings.items()
        if name.startswith(_SECURITY_PREFIXES) or name in _SECURITY_NAMES
    )


def kafka_settings(
    config: StreamsConfig, *, client_id: str, transactional_id: str | None = None
) -> KafkaSettings:
    """Puts together what the clients of a transport are told.

    Args:
        config: the application's settings; `bootstrap_servers` is set.
        client_id: how the clients call themselves: `<client_id>-consumer` and so on.
        transactional_id: what the producer's transactions are known by, None without.

    Raises:
        ConfigError: a setting is the runtime's own, or the three sets contradict each other.
    """
    given = {
        "consumer_configs": config.consumer_configs,
        "producer_configs": config.producer_configs,
        "admin_configs": config.admin_configs,
    }
    _refuse_owned(given, reads_committed=transactional_id is not None)
    shared = _security(given)
    base = {"bootstrap.servers": config.bootstrap_servers, **_COMMON}
    consumer = {
        **base,
        "client.id": f"{client_id}-consumer",
        "group.id": config.application_id,
        **_CONSUMER,
        **shared["consumer_configs"],
        **config.consumer_configs,
    }
    producer = {
        **base,
        "client.id": f"{client_id}-producer",
        **_PRODUCER,
        **shared["producer_configs"],
        **config.producer_configs,
    }
    admin = {
        **base,
        "client.id": f"{client_id}-admin",
        **shared["admin_configs"],
        **config.admin_configs,
    }
    timeout_ms = _TRANSACTION_TIMEOUT_MS
    if transactional_id is not None:
        consumer["isolation.level"] = READ_COMMITTED
        producer["transactional.id"] = transactional_id
        timeout_ms = _whole(producer, "producer_configs", _TRANSACTION_TIMEOUT, timeout_ms)
        producer[_TRANSACTION_TIMEOUT] = timeout_ms
    elif not {"delivery.timeout.ms", "message.timeout.ms"} & producer.keys():
        # Within a transaction librdkafka takes the transaction's.
        producer["message.timeout.ms"] = _DELIVERY_TIMEOUT_MS
    return KafkaSettings(
        consumer=consumer,
        producer=producer,
        admin=admin,
        security={name: value for name, value in consumer.items() if _is_security(name)},
        setup_timeout_ms=_whole(admin, "admin_configs", _SETUP_TIMEOUT, 0),
        transaction_timeout_ms=timeout_ms,
    )


def _is_security(name: str) -> bool:
    return name.startswith(_SECURITY_PREFIXES) or name in _SECURITY_NAMES


def _security(given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns what each set takes over from the others.

    Raises:
        ConfigError: a set lacks a setting, and the two others do not agree on it.
    """
    names = {name for settings in given.values() for name in settings if _is_security(name)}
    shared: dict[str, dict[str, Any]] = {mapping: {} for mapping in given}
    for name in sorted(names):
        known = [settings[name] for settings in given.values() if name in settings]
        lacking = [mapping for mapping, settings in given.items() if name not in settings]
        if lacking and any(value != known[0] for value in known):
            raise ConfigError(
                f"{name!r} has different values in the settings of the Kafka clients; "
                f"give it in {lacking[0]} too"
            )
        for mapping in lacking:
            shared[mapping][name] = known[0]
    return shared


def _refuse_owned(given: Mapping[str, Mapping[str, Any]], *, reads_committed: bool) -> None:
    consumer = dict(_OWNED_CONSUMER)
    if reads_committed:
        consumer["isolation.level"] = 'with "exactly_once_v2" only committed records are read'
    own = {"consumer_configs": consumer, "producer_configs": _OWNED_PRODUCER, "admin_configs": {}}
    for mapping, settings in given.items():
        for name, value in settings.items():
            reason = _OWNED.get(name) or own[mapping].get(name)
            if reason is not None:
                raise ConfigError(f"{mapping} cannot set {name!r}: {reason}")
            allowed, why = _ONLY.get(name, ((), ""))
            if allowed and mapping == "producer_configs" and str(value).lower() not in allowed:
                raise ConfigError(
                    f"{mapping} cannot set {name!r} to {value!r}: {why}; leave it out"
                )


def _whole(settings: Mapping[str, Any], mapping: str, name: str, default: int) -> int:
    value = settings.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        message = f"{mapping}: {name!r} cannot be {value!r}; it takes a whole number (milliseconds)"
        raise ConfigError(message) from None
