"""What librdkafka's errors mean here: class, text and remedy.

Owns the table from the names of errors to our classes and to what the reader can do. It must
not know the library, only the face its errors have, nor who acts on an error.

Source: Kafka 4.4 `org.apache.kafka.common.protocol.Errors`; librdkafka `rd_kafka_resp_err_t`
(names that begin with `_` are its own).
"""

from __future__ import annotations

from typing import Final, Protocol

from streams.errors import (
    BrokerError,
    OffsetOutOfRangeError,
    ProductionError,
    StreamsError,
    TaskMigratedError,
    TransportError,
)


class Fault(Protocol):
    """An error of librdkafka, as confluent-kafka shows it."""

    def name(self) -> str:
        """Returns its name, such as `_TRANSPORT` or `MSG_SIZE_TOO_LARGE`."""
        ...

    def str(self) -> str:
        """Returns its text."""
        ...

    def fatal(self) -> bool:
        """Tells whether the client cannot go on."""
        ...

    def retriable(self) -> bool:
        """Tells whether the same call may succeed later."""
        ...


MIGRATED: Final = frozenset(
    {
        "_FENCED",
        "FENCED_INSTANCE_ID",
        "FENCED_MEMBER_EPOCH",
        "ILLEGAL_GENERATION",
        "INVALID_PRODUCER_EPOCH",
        "INVALID_PRODUCER_ID_MAPPING",
        "PRODUCER_FENCED",
        "STALE_MEMBER_EPOCH",
        "UNKNOWN_MEMBER_ID",
    }
)
"""Someone else owns the tasks by now, or the broker gave the transaction up meanwhile."""

UNREACHABLE: Final = frozenset(
    {
        "_ALL_BROKERS_DOWN",
        "_MSG_TIMED_OUT",
        "_RESOLVE",
        "_TIMED_OUT",
        "_TIMED_OUT_QUEUE",
        "_TRANSPORT",
        "BROKER_NOT_AVAILABLE",
        "NETWORK_EXCEPTION",
        "REQUEST_TIMED_OUT",
    }
)
"""No broker answered in time."""

LEADER_CHANGED: Final = frozenset(
    {
        "FENCED_LEADER_EPOCH",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "UNKNOWN_LEADER_EPOCH",
    }
)
"""What the client knows of the partition's leader is not true any more, or not yet."""

PASSING: Final = (
    UNREACHABLE
    | LEADER_CHANGED
    | {
        "_WAIT_COORD",
        "CONCURRENT_TRANSACTIONS",
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "KAFKA_STORAGE_ERROR",
        "NOT_CONTROLLER",
        "NOT_COORDINATOR",
        "OFFSET_NOT_AVAILABLE",
        "UNSTABLE_OFFSET_COMMIT",
    }
)
"""The same attempt may succeed later."""

MISSING: Final = frozenset(
    {"_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_ID", "UNKNOWN_TOPIC_OR_PART"}
)
"""A topic or partition does not exist."""

IMPOSSIBLE: Final = MISSING | {
    "INVALID_CONFIG",
    "INVALID_PARTITIONS",
    "INVALID_REPLICATION_FACTOR",
    "INVALID_REPLICA_ASSIGNMENT",
    "POLICY_VIOLATION",
    "TOPIC_DELETION_DISABLED",
    "TOPIC_EXCEPTION",
}
"""The cluster cannot do what it was asked for."""

TOO_LARGE: Final = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})

CREDENTIALS: Final = frozenset(
    {"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"}
)

NOT_LET_IN: Final = CREDENTIALS | {"_SSL"}

OUT_OF_RANGE: Final = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})

_HANDSHAKE: Final = ("SSL handshake", "SSL_HANDSHAKE")

_WHERE: Final = "consumer_configs (it goes for all Kafka clients)"

_REMEDIES: Final = {
    **dict.fromkeys(UNREACHABLE, "check bootstrap_servers, and that its brokers are running"),
    "_RESOLVE": "check the host names in bootstrap_servers",
    **dict.fromkeys(
        CREDENTIALS,
        f"check security.protocol, sasl.mechanism, sasl.username and sasl.password in {_WHERE}",
    ),
    "_SSL": (
        "check that bootstrap_servers names a TLS listener, and security.protocol, "
        f"ssl.ca.location and the certificate in {_WHERE}"
    ),
    "TOPIC_AUTHORIZATION_FAILED": "allow the principal to describe and read or write the topic",
    "GROUP_AUTHORIZATION_FAILED": "allow the principal to read the group application_id names",
    "CLUSTER_AUTHORIZATION_FAILED": "allow the principal the operation on the cluster",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": (
        "allow the principal to write and describe the transactional ids that begin with "
        "application_id"
    ),
    **dict.fromkeys(MISSING, "create the topic, or correct its name"),
    **dict.fromkeys(
        TOO_LARGE,
        "send smaller values, or raise the topic's max.message.bytes and message.max.bytes in "
        "producer_configs",
    ),
    "INVALID_REPLICATION_FACTOR": "set replication_factor to no more than there are brokers",
    "INVALID_TRANSACTION_TIMEOUT": (
        "lower transaction.timeout.ms in producer_configs, or raise the brokers' "
        "transaction.max.timeout.ms"
    ),
    "NON_EMPTY_GROUP": (
        "stop all workers of the application first; one that was killed is a member until its "
        "session has run out"
    ),
    "_STATE": "take the records since the last commit back with abort()",
}


def remedy_of(name: str) -> str:
    """Returns what the reader of an error can do, "" where nothing general can be said."""
    return _REMEDIES.get(name, "")


def told(what: str, fault: Fault) -> str:
    """Returns the message of an error: what failed, why, and the remedy."""
    name, text = fault.name(), fault.str()
    # A handshake with a listener that does not speak TLS fails as any connection may.
    remedy = remedy_of("_SSL" if any(sign in text for sign in _HANDSHAKE) else name)
    return f"{what}: {text} ({name})" + (f"; {remedy}" if remedy else "")


def failure_of(
    what: str,
    fault: Fault,
    *,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
) -> StreamsError:
    """Returns what a fault is to the runtime.

    Args:
        what: what was attempted, on what.
        fault: what came of it.
        topic: the topic it was about.
        partition: its partition.
        offset: the offset.
    """
    name, message = fault.name(), told(what, fault)
    if name in MIGRATED:
        return TaskMigratedError(message, topic=topic, partition=partition, offset=offset)
    if name in OUT_OF_RANGE:
        return OffsetOutOfRangeError(message, topic=topic, partition=partition, offset=offset)
    if name in IMPOSSIBLE:
        return TransportError(message, topic=topic, partition=partition, offset=offset)
    return BrokerError(
        message,
        retriable=is_passing(fault),
        topic=topic,
        partition=partition,
        offset=offset,
    )


def is_passing(fault: Fault) -> bool:
    """Tells whether the same attempt may succeed later."""
    return not fault.fatal() and (fault.retriable() or fault.name() in PASSING)


def delivery_failure(fault: Fault, topic: str, size_bytes: int | None) -> StreamsError:
    """Returns what it means that a record was not delivered.

    Args:
        fault: why.
        topic: where it was to go.
        size_bytes: of key and value together; None where it was one of a batch, all of which
            were refused for the sake of one, or for the size of the batch.
    """
    name = fault.name()
    if name in MIGRATED:
        return failure_of(f"a record for topic {topic!r} was refused", fault, topic=topic)
    if name in UNREACHABLE or name in NOT_LET_IN or name == "_FATAL":
        # The client has given the record up: only the whole batch can be sent again.
        message = told(f"a record for topic {topic!r} was not delivered", fault)
        return BrokerError(message, topic=topic)
    if size_bytes is None:
        message = told(f"a batch of records for topic {topic!r} was refused", fault)
        if name in TOO_LARGE:
            message += "; or lower batch.size there to what the topic takes"
        return ProductionError(message, topic=topic)
    message = told(f"a record of {size_bytes} bytes for topic {topic!r} was refused", fault)
    return ProductionError(message, topic=topic)
