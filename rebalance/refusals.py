"""The reaction of a member to a heartbeat that is answered with an error code.

Owns the table from code to consequence, and the message for people. It is pure and has no state. It
must not know states: `membership` acts on the consequence.

Source: JVM `StreamsGroupHeartbeatRequestManager.onErrorResponse` (4.2); kip1071 reference 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from thalweg.rebalance.errors import (
    Code,
    RebalanceError,
    RefusedError,
    TopologyRefusedError,
    UnsupportedBrokerError,
    code_name,
    is_retriable,
)

BROKER_VERSION: Final = "4.2.1"
"""The oldest broker to use: 4.1 has the protocol as a preview, and 4.2.0 loads groups wrongly."""


class Consequence(Enum):
    """What follows from an error code."""

    RETRY = "retry"
    """Ask the same coordinator again, after a while."""
    PAUSE = "pause"
    """Ask the same coordinator again when the next heartbeat would be due: it is no failure."""
    REDISCOVER = "rediscover"
    """Look the coordinator up and ask it."""
    REJOIN = "rejoin"
    """The broker does not count this member in: give up all tasks and join again."""
    REPORT = "report"
    """Tell the owner, who may mend it, and ask again."""
    STOP = "stop"
    """This member cannot go on."""


_CONSEQUENCES: Final[Mapping[int, Consequence]] = {
    Code.COORDINATOR_LOAD_IN_PROGRESS: Consequence.RETRY,
    Code.COORDINATOR_NOT_AVAILABLE: Consequence.REDISCOVER,
    Code.NOT_COORDINATOR: Consequence.REDISCOVER,
    Code.UNKNOWN_MEMBER_ID: Consequence.REJOIN,
    Code.FENCED_MEMBER_EPOCH: Consequence.REJOIN,
    Code.TOPIC_AUTHORIZATION_FAILED: Consequence.REPORT,
    Code.STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED: Consequence.PAUSE,
}

_REMEDIES: Final[Mapping[int, str]] = {
    Code.TOPIC_AUTHORIZATION_FAILED: (
        "grant DESCRIBE on all source and internal topics, also on those that do not exist yet"
    ),
    Code.GROUP_AUTHORIZATION_FAILED: "grant READ on the group",
    Code.CLUSTER_AUTHORIZATION_FAILED: "grant CREATE on the cluster or on the internal topics",
    Code.GROUP_ID_NOT_FOUND: "use an application id that no other kind of group has",
    Code.GROUP_MAX_SIZE_REACHED: (
        "run fewer workers, or raise group.streams.max.size in the brokers' configuration"
    ),
}


def consequence(code: int, message: str, *, is_joining: bool) -> Consequence:
    """Decides what to do about an error code.

    Of codes that are not in the table, those that may pass are asked about again, as of a broker
    that starts or stops; all others stop the member.

    Args:
        code: the code, not 0.
        message: the broker's own words.
        is_joining: whether the heartbeat asked to be let in.
    """
    if code == Code.GROUP_ID_NOT_FOUND and not is_joining:
        # Either the group was deleted under its members, or its id belongs to another type.
        is_other_type = "is not a streams group" in message
        return Consequence.STOP if is_other_type else Consequence.REJOIN
    default = Consequence.REDISCOVER if is_retriable(code) else Consequence.STOP
    return _CONSEQUENCES.get(code, default)


def refusal(group_id: str, code: int, message: str) -> RebalanceError:
    """Returns the error of a code: what the broker says, and what people can do."""
    said = f"{code_name(code)}: {message.rstrip('.')}" if message else code_name(code)
    if code == Code.UNSUPPORTED_VERSION:
        return UnsupportedBrokerError(
            f"the broker has streams groups switched off, {said}; it must be Kafka "
            f"{BROKER_VERSION} or newer, with the feature streams.version at 1 and `streams` "
            "among group.coordinator.rebalance.protocols",
            code=code,
        )
    text = f"the group {group_id!r} refuses this member, {said}"
    if _is_about_topology(code, message):
        return TopologyRefusedError(
            f"{text}; a group keeps the topology it began with: its source topics, stores, "
            "repartition topics and their configs. Run the script it began with, or stop all "
            "instances and begin anew with `thalweg reset`, or use another application_id",
            code=code,
        )
    remedy = _REMEDIES.get(code)
    return RefusedError(f"{text}; {remedy}" if remedy else text, code=code)


def _is_about_topology(code: int, message: str) -> bool:
    return code in (
        Code.STREAMS_INVALID_TOPOLOGY,
        Code.STREAMS_INVALID_TOPOLOGY_EPOCH,
        Code.STREAMS_TOPOLOGY_FENCED,
    ) or (code == Code.INVALID_REQUEST and "opology" in message)
