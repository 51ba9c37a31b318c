"""The meaning of librdkafka's errors: our class, text and remedy.

Owns the table of all error codes and the reaction to each (`VERDICTS`), our classes for them, and
the remedy for the reader. It must not know the library, only the interface of its errors, nor who
acts on an error.

Source: Kafka 4.4 `org.apache.kafka.common.protocol.Errors`; librdkafka `rd_kafka_resp_err_t`
(names that begin with `_` are its own).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, Protocol

from thalweg.stores.errors import Reaction
from thalweg.streams.errors import (
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


class Verdict(Enum):
    """What an error code asks of whoever met it."""

    AWAY = "away"
    """A broker, a leader or a coordinator cannot be reached or is not ready. The same attempt
    succeeds once it is, however long that takes."""
    PASSES = "passes"
    """The same attempt may succeed later."""
    FENCED = "fenced"
    """Somebody else owns the tasks, or the broker gave the transaction up."""
    REJOIN = "rejoin"
    """What was sent since the last commit cannot be committed. A new producer can go on from
    the last commit."""
    FATAL = "fatal"
    """Trying again changes nothing."""


VERDICTS: Final[Mapping[str, Verdict]] = {
    **dict.fromkeys(
        (
            # No broker answered, or not in time.
            "_ALL_BROKERS_DOWN",
            "_DESTROY_BROKER",
            "_FAIL",
            "_MSG_TIMED_OUT",
            "_NODE_UPDATE",
            "_RESOLVE",
            "_TIMED_OUT",
            "_TIMED_OUT_QUEUE",
            "_TRANSPORT",
            "_UNKNOWN_BROKER",
            "BROKER_NOT_AVAILABLE",
            "NETWORK_EXCEPTION",
            "REQUEST_TIMED_OUT",
            # A partition has no leader, or another one than the client knows; an admin client
            # says "no leaders found" as _NOENT.
            "_NOENT",
            "ELIGIBLE_LEADERS_NOT_AVAILABLE",
            "FENCED_LEADER_EPOCH",
            "INCONSISTENT_TOPIC_ID",
            "LEADER_NOT_AVAILABLE",
            "LISTENER_NOT_FOUND",
            "NOT_LEADER_FOR_PARTITION",
            "OFFSET_NOT_AVAILABLE",
            "PREFERRED_LEADER_NOT_AVAILABLE",
            "REPLICA_NOT_AVAILABLE",
            "UNKNOWN_LEADER_EPOCH",
            # Too few copies of a partition are up.
            "_ISR_INSUFF",
            "NOT_ENOUGH_REPLICAS",
            "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
            # The coordinator or the controller is elsewhere, or not ready.
            "_WAIT_CACHE",
            "_WAIT_COORD",
            "COORDINATOR_LOAD_IN_PROGRESS",
            "COORDINATOR_NOT_AVAILABLE",
            "NOT_CONTROLLER",
            "NOT_COORDINATOR",
            "REBOOTSTRAP_REQUIRED",
            "STALE_BROKER_EPOCH",
            "STALE_CTRL_EPOCH",
            "TRANSACTION_COORDINATOR_FENCED",
            "UNKNOWN_CONTROLLER_ID",
        ),
        Verdict.AWAY,
    ),
    **dict.fromkeys(
        (
            "_IN_PROGRESS",
            "_INTR",
            "_OUTDATED",
            "_PARTIAL",
            "_PREV_IN_PROGRESS",
            "_QUEUE_FULL",
            "_RETRY",
            "_UNDERFLOW",
            "CONCURRENT_TRANSACTIONS",
            "FETCH_SESSION_ID_NOT_FOUND",
            "INVALID_FETCH_SESSION_EPOCH",
            "KAFKA_STORAGE_ERROR",
            "OPERATION_NOT_ATTEMPTED",
            "REASSIGNMENT_IN_PROGRESS",
            "REBALANCE_IN_PROGRESS",
            "THROTTLING_QUOTA_EXCEEDED",
            "UNSTABLE_OFFSET_COMMIT",
        ),
        Verdict.PASSES,
    ),
    **dict.fromkeys(
        (
            "_ASSIGNMENT_LOST",
            "_FENCED",
            "FENCED_INSTANCE_ID",
            "FENCED_MEMBER_EPOCH",
            "ILLEGAL_GENERATION",
            "INVALID_PRODUCER_EPOCH",
            "INVALID_PRODUCER_ID_MAPPING",
            "MEMBER_ID_REQUIRED",
            "PRODUCER_FENCED",
            "STALE_MEMBER_EPOCH",
            "UNKNOWN_MEMBER_ID",
        ),
        Verdict.FENCED,
    ),
    **dict.fromkeys(
        (
            "_FATAL",
            "_GAPLESS_GUARANTEE",
            "_INCONSISTENT",
            "_PURGE_INFLIGHT",
            "_PURGE_QUEUE",
            "DUPLICATE_SEQUENCE_NUMBER",
            "INVALID_TXN_STATE",
            "OUT_OF_ORDER_SEQUENCE_NUMBER",
            "TRANSACTION_ABORTABLE",
            "UNKNOWN_PRODUCER_ID",
        ),
        Verdict.REJOIN,
    ),
    **dict.fromkeys(
        (
            # The settings, the request or its credentials are wrong.
            "_AUTHENTICATION",
            "_CONFLICT",
            "_CRIT_SYS_RESOURCE",
            "_EXISTING_SUBSCRIPTION",
            "_FS",
            "_INVALID_ARG",
            "_INVALID_TYPE",
            "_NOT_CONFIGURED",
            "_NOT_IMPLEMENTED",
            "_READ_ONLY",
            "_SSL",
            "_STATE",
            "_UNKNOWN_GROUP",
            "_UNKNOWN_PROTOCOL",
            "_UNSUPPORTED_FEATURE",
            "CLUSTER_AUTHORIZATION_FAILED",
            "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
            "DELEGATION_TOKEN_AUTH_DISABLED",
            "DELEGATION_TOKEN_EXPIRED",
            "DELEGATION_TOKEN_NOT_FOUND",
            "DELEGATION_TOKEN_OWNER_MISMATCH",
            "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
            "GROUP_AUTHORIZATION_FAILED",
            "ILLEGAL_SASL_STATE",
            "INVALID_PRINCIPAL_TYPE",
            "PRINCIPAL_DESERIALIZATION_FAILURE",
            "SASL_AUTHENTICATION_FAILED",
            "SECURITY_DISABLED",
            "TOPIC_AUTHORIZATION_FAILED",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "UNACCEPTABLE_CREDENTIAL",
            "UNSUPPORTED_SASL_MECHANISM",
            "UNSUPPORTED_VERSION",
            # A topic, a partition, a position, a group or a resource is not what was asked for.
            "_AUTO_OFFSET_RESET",
            "_LOG_TRUNCATION",
            "_NO_OFFSET",
            "_UNKNOWN_PARTITION",
            "_UNKNOWN_TOPIC",
            "DUPLICATE_RESOURCE",
            "ELECTION_NOT_NEEDED",
            "GROUP_ID_NOT_FOUND",
            "GROUP_MAX_SIZE_REACHED",
            "GROUP_SUBSCRIBED_TO_TOPIC",
            "INCONSISTENT_GROUP_PROTOCOL",
            "INVALID_COMMIT_OFFSET_SIZE",
            "INVALID_CONFIG",
            "INVALID_GROUP_ID",
            "INVALID_PARTITIONS",
            "INVALID_REPLICATION_FACTOR",
            "INVALID_REPLICA_ASSIGNMENT",
            "INVALID_REQUEST",
            "INVALID_REQUIRED_ACKS",
            "INVALID_SESSION_TIMEOUT",
            "INVALID_TRANSACTION_TIMEOUT",
            "LOG_DIR_NOT_FOUND",
            "NON_EMPTY_GROUP",
            "NO_REASSIGNMENT_IN_PROGRESS",
            "OFFSET_METADATA_TOO_LARGE",
            "OFFSET_OUT_OF_RANGE",
            "POLICY_VIOLATION",
            "RESOURCE_NOT_FOUND",
            "TOPIC_ALREADY_EXISTS",
            "TOPIC_DELETION_DISABLED",
            "TOPIC_EXCEPTION",
            "UNKNOWN_TOPIC_ID",
            "UNKNOWN_TOPIC_OR_PART",
            # A record or an answer cannot be used.
            "_BAD_COMPRESSION",
            "_BAD_MSG",
            "_INVALID_DIFFERENT_RECORD",
            "_KEY_DESERIALIZATION",
            "_KEY_SERIALIZATION",
            "_VALUE_DESERIALIZATION",
            "_VALUE_SERIALIZATION",
            "INVALID_MSG",
            "INVALID_MSG_SIZE",
            "INVALID_RECORD",
            "INVALID_TIMESTAMP",
            "MSG_SIZE_TOO_LARGE",
            "RECORD_LIST_TOO_LARGE",
            "UNSUPPORTED_COMPRESSION_TYPE",
            "UNSUPPORTED_FOR_MESSAGE_FORMAT",
            # The client was closed, or somebody stopped what it did.
            "_APPLICATION",
            "_DESTROY",
            # No failures of ours: they are told to other kinds of clients, or to brokers.
            "_ASSIGN_PARTITIONS",
            "_MAX_POLL_EXCEEDED",
            "_NOOP",
            "_PARTITION_EOF",
            "_REVOKE_PARTITIONS",
            "DUPLICATE_VOTER",
            "FEATURE_UPDATE_FAILED",
            "FENCED_STATE_EPOCH",
            "INCONSISTENT_VOTER_SET",
            "INVALID_RECORD_STATE",
            "INVALID_REGISTRATION",
            "INVALID_REGULAR_EXPRESSION",
            "INVALID_SHARE_SESSION_EPOCH",
            "INVALID_UPDATE_VERSION",
            "INVALID_VOTER_KEY",
            "MISMATCHED_ENDPOINT_TYPE",
            "NO_ERROR",
            "SHARE_SESSION_LIMIT_REACHED",
            "SHARE_SESSION_NOT_FOUND",
            "STREAMS_INVALID_TOPOLOGY",
            "STREAMS_INVALID_TOPOLOGY_EPOCH",
            "STREAMS_TOPOLOGY_FENCED",
            "TELEMETRY_TOO_LARGE",
            "UNKNOWN",
            "UNKNOWN_SUBSCRIPTION_ID",
            "UNRELEASED_INSTANCE_ID",
            "UNSUPPORTED_ASSIGNOR",
            "UNSUPPORTED_ENDPOINT_TYPE",
            "VOTER_NOT_FOUND",
        ),
        Verdict.FATAL,
    ),
}
"""Name of an error -> what it asks for. One that is not here is fatal, unless the client itself
calls it retriable; a test holds the table against the client's codes."""


def _having(*verdicts: Verdict) -> frozenset[str]:
    return frozenset(name for name, verdict in VERDICTS.items() if verdict in verdicts)


MIGRATED: Final = _having(Verdict.FENCED)
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

DISCONNECTED: Final = UNREACHABLE - {
    "_MSG_TIMED_OUT",
    "_TIMED_OUT",
    "_TIMED_OUT_QUEUE",
    "REQUEST_TIMED_OUT",
}
"""There is no connection: waiting for an answer is for nothing."""

LEADER_CHANGED: Final = frozenset(
    {
        "_NOENT",
        "FENCED_LEADER_EPOCH",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "REPLICA_NOT_AVAILABLE",
        "UNKNOWN_LEADER_EPOCH",
    }
)
"""What the client knows of the partition's leader is not true any more, or not yet."""

PASSING: Final = _having(Verdict.AWAY, Verdict.PASSES)
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

OUT_OF_STEP: Final = frozenset({"_CONFLICT", "_PREV_IN_PROGRESS", "_STATE"})
"""What a producer says whose transaction failed, or that has not come to the end of a step."""

OUT_OF_RANGE: Final = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})

_HANDSHAKE: Final = ("SSL handshake", "SSL_HANDSHAKE")
_ALERT: Final = re.compile(r"SSL alert number (\d+)")
_ENDING_ALERTS: Final = frozenset({"0", "90"})
"""Alerts of TLS by which one side only says that it ends."""

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


def is_tls_refusal(fault: Fault) -> bool:
    """Tells whether TLS could not be agreed on.

    With TLS 1.3 a broker refuses a certificate when the connection is made already. That comes as
    an alert, by which the connection breaks.
    """
    alert = _ALERT.search(fault.str())
    return fault.name() == "_SSL" or (alert is not None and alert[1] not in _ENDING_ALERTS)


def told(what: str, fault: Fault) -> str:
    """Returns the message of an error: what failed, why, and the remedy."""
    name, text = fault.name(), fault.str()
    # A handshake with a listener that does not speak TLS fails as any connection may.
    is_tls = is_tls_refusal(fault) or any(sign in text for sign in _HANDSHAKE)
    remedy = remedy_of("_SSL" if is_tls else name)
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
    if VERDICTS.get(name) is Verdict.REJOIN:
        return rejoining(message, topic=topic, partition=partition, offset=offset)
    is_passing = not fault.fatal() and (fault.retriable() or name in PASSING)
    return BrokerError(
        message,
        retriable=is_passing,
        is_away=is_passing and is_away(fault),
        topic=topic,
        partition=partition,
        offset=offset,
    )


def verdict_of(fault: Fault) -> Verdict:
    """Returns what a fault asks for."""
    return VERDICTS.get(
        fault.name(),
        Verdict.PASSES if fault.retriable() and not fault.fatal() else Verdict.FATAL,
    )


def is_away(fault: Fault) -> bool:
    """Tells whether a fault means that a broker is away or not ready yet."""
    return verdict_of(fault) is Verdict.AWAY


def rejoining(
    message: str,
    *,
    is_away: bool = False,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
) -> BrokerError:
    """Returns the error of what cannot be committed any more, but can be done again.

    Args:
        message: what happened.
        is_away: because a broker is away.
        topic: the topic it was about.
        partition: its partition.
        offset: the offset.
    """
    error = BrokerError(message, is_away=is_away, topic=topic, partition=partition, offset=offset)
    error.reaction = Reaction.REJOIN
    return error


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
    verdict = Verdict.REJOIN if name in OUT_OF_STEP else VERDICTS.get(name)
    if name in NOT_LET_IN or verdict in (Verdict.AWAY, Verdict.PASSES, Verdict.REJOIN):
        message = told(f"a record for topic {topic!r} was not delivered", fault)
        if name in NOT_LET_IN:
            return BrokerError(message, topic=topic)
        # The client has given the record up: only all since the last commit can be sent again.
        return rejoining(message, is_away=verdict is Verdict.AWAY, topic=topic)
    if size_bytes is None:
        message = told(f"a batch of records for topic {topic!r} was refused", fault)
        if name in TOO_LARGE:
            message += "; or lower batch.size there to what the topic takes"
        return ProductionError(message, topic=topic)
    message = told(f"a record of {size_bytes} bytes for topic {topic!r} was refused", fault)
    return ProductionError(message, topic=topic)
