"""Errors between a member and its group: the broker's codes, and our exceptions.

Owns the table of error codes and the exceptions of this package. It must not know the reaction to
an error: `membership` and `offsets` decide that by code. These classes are not in the application's
tree of errors, because this package imports none of the others; the runtime translates them.

    RebalanceError                  code, retriable, fatal
    ├─ ConnectionSettingsError      a setting of the connection is unknown or wrong
    ├─ UnreachableError             no connection, or it broke, or an answer did not come
    ├─ AuthenticationError          credentials or a certificate are refused
    ├─ UnsupportedBrokerError       the broker does not know the protocol
    ├─ RefusedError                 the broker answered with an error code
    │  └─ TopologyRefusedError      the topology is not legal, or not the group's
    ├─ MissingTopicsError           source topics do not exist
    └─ MembershipLostError          not a member any more: give up the tasks, without a commit

Source: Kafka 4.4 `org.apache.kafka.common.protocol.Errors`; kip1071 reference 2.2 and 4.1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Code(IntEnum):
    """Error codes a member meets, of the heartbeat and the offset messages.

    Attributes:
        is_retriable: whether the same request may succeed later, perhaps at another broker.
        meaning: what the broker wants to say, for people.
    """

    is_retriable: bool
    meaning: str

    def __new__(cls, number: int, is_retriable: bool, meaning: str) -> Self:
        """Makes a code of its number and what is known of it."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.is_retriable = is_retriable
        code.meaning = meaning
        return code

    UNKNOWN_SERVER_ERROR = -1, False, "the broker failed; its log says why"
    NONE = 0, False, "no error"
    UNKNOWN_TOPIC_OR_PARTITION = 3, True, "the topic or partition does not exist"
    LEADER_NOT_AVAILABLE = 5, True, "the partition has no leader at the moment"
    NOT_LEADER_OR_FOLLOWER = 6, True, "another broker leads the partition now"
    REQUEST_TIMED_OUT = 7, True, "the broker could not finish in time"
    BROKER_NOT_AVAILABLE = 8, True, "the broker is not available"
    OFFSET_METADATA_TOO_LARGE = 12, False, "the offset's metadata is longer than the broker allows"
    NETWORK_EXCEPTION = 13, True, "the broker closed the connection"
    COORDINATOR_LOAD_IN_PROGRESS = 14, True, "the coordinator is loading the group"
    COORDINATOR_NOT_AVAILABLE = 15, True, "the group has no coordinator at the moment"
    NOT_COORDINATOR = 16, True, "another broker coordinates the group now"
    INVALID_TOPIC = 17, False, "the topic's name is illegal"
    NOT_ENOUGH_REPLICAS = 19, True, "too few copies of the group's records are up"
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, True, "too few copies of the group's records are up"
    ILLEGAL_GENERATION = 22, False, "the offsets were sent with an old member epoch"
    INCONSISTENT_GROUP_PROTOCOL = 23, False, "the group follows another protocol"
    INVALID_GROUP_ID = 24, False, "the group id is illegal"
    UNKNOWN_MEMBER_ID = 25, False, "the group does not know this member"
    REBALANCE_IN_PROGRESS = 27, True, "the group is rebalancing"
    INVALID_COMMIT_OFFSET_SIZE = 28, False, "the offsets do not fit into one record"
    TOPIC_AUTHORIZATION_FAILED = 29, False, "a topic may not be described or read"
    GROUP_AUTHORIZATION_FAILED = 30, False, "the group may not be read"
    CLUSTER_AUTHORIZATION_FAILED = 31, False, "the cluster refuses the operation"
    UNSUPPORTED_SASL_MECHANISM = 33, False, "the broker does not offer this SASL mechanism"
    ILLEGAL_SASL_STATE = 34, False, "the connection is not authenticated"
    UNSUPPORTED_VERSION = 35, False, "the broker does not support this request"
    INVALID_REQUEST = 42, False, "the request breaks a rule of the protocol"
    KAFKA_STORAGE_ERROR = 56, True, "the broker cannot use its disk"
    SASL_AUTHENTICATION_FAILED = 58, False, "the credentials are refused"
    NON_EMPTY_GROUP = 68, False, "the group has members"
    GROUP_ID_NOT_FOUND = 69, False, "there is no such group, or it is of another type"
    GROUP_MAX_SIZE_REACHED = 81, False, "the group is full"
    FENCED_INSTANCE_ID = 82, False, "another member has taken this instance id"
    GROUP_SUBSCRIBED_TO_TOPIC = 86, False, "the group reads the topic"
    UNSTABLE_OFFSET_COMMIT = 88, True, "a transaction with offsets is not finished"
    FENCED_MEMBER_EPOCH = 110, False, "the member's epoch is not the broker's"
    UNRELEASED_INSTANCE_ID = 111, False, "the instance id is still in use"
    STALE_MEMBER_EPOCH = 113, False, "the offsets were sent with another member epoch"
    STREAMS_INVALID_TOPOLOGY = 130, False, "the topology is not legal"
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, False, "the topology epoch is not legal"
    STREAMS_TOPOLOGY_FENCED = 132, False, "the topology is older than the group's"
    STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED = 135, True, "the topology was not described"


_BY_NUMBER = {int(code): code for code in Code}


def code_name(number: int) -> str:
    """Returns a code as people look it up: `FENCED_MEMBER_EPOCH (110)`, `error 999`."""
    code = _BY_NUMBER.get(number)
    return f"error {number}" if code is None else f"{code.name} ({number})"


def is_retriable(number: int) -> bool:
    """Tells whether a request answered so may succeed later; False for codes not in the table."""
    code = _BY_NUMBER.get(number)
    return code is not None and code.is_retriable


class RebalanceError(Exception):
    """The root of this package's errors.

    Args:
        message: what was attempted, what came of it, and the remedy.
        code: the broker's error code, if it gave one.

    Attributes:
        retriable: whether the same attempt may succeed later.
        fatal: whether the member cannot go on at all.
    """

    retriable: bool = False
    fatal: bool = True

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ConnectionSettingsError(RebalanceError):
    """A setting of the connection is unknown here, or has a value it cannot have."""


class UnreachableError(RebalanceError):
    """There is no connection to the broker, or it broke, or an answer did not come in time."""

    retriable = True
    fatal = False


class AuthenticationError(RebalanceError):
    """The broker refuses the credentials, or one side the other's certificate.

    Attributes:
        was_let_in: whether a broker took them before. Then they need not be wrong: a broker that
            starts may refuse them, too.
    """

    was_let_in: bool = False


class UnsupportedBrokerError(RebalanceError):
    """The broker does not know streams groups, or they are switched off."""


class RefusedError(RebalanceError):
    """The broker answered with an error code.

    Args:
        message: what was attempted, what came of it, and the remedy.
        code: the broker's error code.
        topic: the topic it was about, if it was about one.
        partition: its partition.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        topic: str | None = None,
        partition: int | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.topic = topic
        self.partition = partition
        self.retriable = code is not None and is_retriable(code)
        self.fatal = not self.retriable


class TopologyRefusedError(RefusedError):
    """The topology is not legal, does not fit its topics, or is not that of the group."""


class MissingTopicsError(RebalanceError):
    """Source topics do not exist, and did not appear in time."""


class MembershipLostError(RebalanceError):
    """The caller is not a member any more, or not yet: its tasks belong to others."""

    fatal = False
