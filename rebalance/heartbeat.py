"""The fields of a heartbeat, and the meaning of its answer.

Owns the rules for which field is sent when, and how an answer is read. It is pure. It must not know
states, nor bytes beyond the calls that make and read them.

    field                                   join   while a member     leave
    epoch                                   0      the newest one     -1
    rebalance timeout, topology, process,   yes    no                 no
      client tags
    end point                               maybe  no                 no
    tasks                                   none   all, or not said   not said
    shutdown                                whenever the application asks for it

Source: JVM `StreamsGroupHeartbeatRequestManager.HeartbeatState`; KAFKA-19945 (statuses),
KAFKA-20782 (end points); kip1071 reference 1.3, 1.4, 3.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from thalweg.rebalance.actions import Answer, Heartbeat
from thalweg.rebalance.errors import RebalanceError
from thalweg.rebalance.messages import (
    UNCHANGED_MS,
    HeartbeatBody,
    HeartbeatResponse,
    Partitions,
    SubtopologyFacts,
    decode_heartbeat,
    encode_heartbeat,
    topology_message,
)
from thalweg.rebalance.values import (
    Endpoint,
    EndpointPartitions,
    MemberSettings,
    TaskAssignment,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error.

    Attributes:
        code: the broker's error code.
        message: the broker's own words.
    """

    code: int
    message: str


class Heartbeats:
    """Makes the bodies of one member's heartbeats.

    Args:
        settings: who it is.
        subtopologies: the topology it runs.
    """

    def __init__(self, settings: MemberSettings, subtopologies: Iterable[SubtopologyFacts]) -> None:
        self._settings = settings
        self._topology = topology_message(subtopologies)

    def body(self, heartbeat: Heartbeat) -> HeartbeatBody:
        """Returns the fields of a heartbeat."""
        settings, is_joining = self._settings, heartbeat.is_joining
        return HeartbeatBody(
            group_id=settings.group_id,
            member_id=settings.member_id,
            member_epoch=heartbeat.epoch,
            endpoint_epoch=heartbeat.endpoint_epoch,
            rebalance_timeout_ms=settings.rebalance_timeout_ms if is_joining else UNCHANGED_MS,
            topology=self._topology if is_joining else None,
            owned=heartbeat.owned,
            process_id=settings.process_id if is_joining else None,
            endpoint=settings.endpoint if heartbeat.tells_endpoint else None,
            client_tags=settings.client_tags if is_joining else None,
            is_shutting_down=heartbeat.is_shutting_down,
        )

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """Returns the body of a heartbeat in bytes."""
        return encode_heartbeat(self.body(heartbeat))


def read_answer(body: bytes) -> Answer | Refusal:
    """Reads the body of an answer.

    Raises:
        RebalanceError: the bytes are no answer, or it breaks a rule of the protocol.
    """
    response = decode_heartbeat(body)
    if response.code:
        return Refusal(response.code, response.message)
    return Answer(
        epoch=response.member_epoch,
        interval_ms=response.interval_ms,
        endpoint_epoch=response.endpoint_epoch,
        statuses=response.statuses or (),
        tasks=_tasks(response),
        endpoints=None if response.endpoints is None else _endpoints(response.endpoints),
    )


def _tasks(response: HeartbeatResponse) -> TaskAssignment | None:
    active, standby, warmup = response.active, response.standby, response.warmup
    if active is None and standby is None and warmup is None:
        return None
    if active is None or standby is None or warmup is None:
        raise RebalanceError(
            "the broker's answer to a heartbeat names tasks of some roles and not of the others"
        )
    return TaskAssignment.of(active, standby, warmup)


def _endpoints(
    entries: Iterable[tuple[Endpoint, Partitions, Partitions]],
) -> Mapping[Endpoint, EndpointPartitions]:
    """Joins the entries of one end point: there is one per member, not per instance."""
    found: dict[Endpoint, tuple[dict[str, frozenset[int]], dict[str, frozenset[int]]]] = {}
    for endpoint, active, standby in entries:
        has = found.setdefault(endpoint, ({}, {}))
        for all_of_role, more in zip(has, (active, standby), strict=True):
            for topic, partitions in more.items():
                all_of_role[topic] = all_of_role.get(topic, frozenset()) | partitions
    return {endpoint: EndpointPartitions(*has) for endpoint, has in found.items()}
