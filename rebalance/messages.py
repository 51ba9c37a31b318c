"""The messages between a member and the group's coordinator, in bytes.

Owns the translation between this package's values and the bodies of requests and responses,
and the order of everything in a topology, which the coordinator compares byte for byte with
that of the group. Headers and frames are the connection's. It must not know when a message is
sent or what an answer means, nor how a topology is built; the protocols here say what of it
is needed.

    message                  API key   version
    StreamsGroupHeartbeat    88        0
    StreamsGroupDescribe     89        0
    OffsetCommit             8         9, the first that knows member epochs
    OffsetFetch              9         9
    FindCoordinator          10        4

Source: Kafka's message schemas by way of kio; KIP-1071; kip1071 reference 1, 4.1, 4.2 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from kio.schema.errors import ErrorCode
from kio.schema.find_coordinator.v4 import request as find_request
from kio.schema.find_coordinator.v4 import response as find_response
from kio.schema.offset_commit.v9 import request as commit_request
from kio.schema.offset_commit.v9 import response as commit_response
from kio.schema.offset_fetch.v9 import request as fetch_request
from kio.schema.offset_fetch.v9 import response as fetch_response
from kio.schema.streams_group_describe.v0 import request as describe_request
from kio.schema.streams_group_describe.v0 import response as describe_response
from kio.schema.streams_group_heartbeat.v0 import request as schema
from kio.schema.streams_group_heartbeat.v0 import response as heartbeat_response
from kio.schema.types import GroupId, TopicName
from kio.serial import entity_reader, entity_writer
from kio.serial.errors import SerialError
from kio.static.primitive import i8, i16, i32, i32Timedelta, i64, u16
from kio.static.protocol import Entity

from thalweg.rebalance.description import GroupDescription, MemberDescription
from thalweg.rebalance.errors import Code, RebalanceError
from thalweg.rebalance.group_codes import Status
from thalweg.rebalance.values import (
    Endpoint,
    GroupIdentity,
    TaskAssignment,
    TaskId,
)

TOPOLOGY_EPOCH: Final = 0
"""The only epoch there is: brokers know no topology updates."""

UNCHANGED_MS: Final = -1
"""A timeout that is not said again."""


class Api(NamedTuple):
    """Which request a body belongs to.

    Attributes:
        name: for messages to people.
        key: the API key.
        version: of body and answer; all of them have flexible headers.
    """

    name: str
    key: int
    version: int


HEARTBEAT: Final = Api("StreamsGroupHeartbeat", 88, 0)
DESCRIBE: Final = Api("StreamsGroupDescribe", 89, 0)
OFFSET_COMMIT: Final = Api("OffsetCommit", 8, 9)
OFFSET_FETCH: Final = Api("OffsetFetch", 9, 9)
FIND_COORDINATOR: Final = Api("FindCoordinator", 10, 4)

E = TypeVar("E", bound=Entity)


class TopicFacts(Protocol):
    """An internal topic as the coordinator is to create it."""

    @property
    def name(self) -> str:
        """Its name in the log."""
        ...

    @property
    def partitions(self) -> int:
        """The fixed partition count, 0 if it follows from others; 0 for changelogs."""
        ...

    @property
    def replication_factor(self) -> int:
        """The replication factor, -1 for the broker's default."""
        ...

    @property
    def configs(self) -> Mapping[str, str]:
        """Its configs."""
        ...


class CopartitionFacts(Protocol):
    """Source topics that need equal partition counts, in the order to be sent."""

    @property
    def source_topics(self) -> Sequence[str]:
        """The topics of users."""
        ...

    @property
    def repartition_source_topics(self) -> Sequence[str]:
        """The internal topics."""
        ...


class SubtopologyFacts(Protocol):
    """A subtopology as the coordinator is told it."""

    @property
    def id(self) -> int:
        """Its number."""
        ...

    @property
    def source_topics(self) -> Sequence[str]:
        """The topics of users that it reads."""
        ...

    @property
    def source_topic_regex(self) -> Sequence[str]:
        """Patterns (RE2) of further topics; brokers up to 4.4 refuse them."""
        ...

    @property
    def repartition_source_topics(self) -> Sequence[TopicFacts]:
        """The internal topics that it reads."""
        ...

    @property
    def repartition_sink_topics(self) -> Sequence[str]:
        """The internal topics that it writes."""
        ...

    @property
    def state_changelog_topics(self) -> Sequence[TopicFacts]:
        """The changelogs of its stores."""
        ...

    @property
    def copartition_groups(self) -> Sequence[CopartitionFacts]:
        """Its copartition groups, in the order to be sent."""
        ...

    @property
    def is_global(self) -> bool:
        """Whether it is a global store, which the coordinator is not told."""
        ...


def encode_topology(subtopologies: Iterable[SubtopologyFacts]) -> bytes:
    """Returns the `Topology` struct of a member's first heartbeat."""
    return _written(topology_message(subtopologies))


def topology_message(subtopologies: Iterable[SubtopologyFacts]) -> schema.Topology:
    """Returns the topology as a part of a heartbeat; numbers are sorted as text."""
    sent = sorted((one for one in subtopologies if not one.is_global), key=lambda one: str(one.id))
    return schema.Topology(
        epoch=i32(TOPOLOGY_EPOCH), subtopologies=tuple(_subtopology(one) for one in sent)
    )


def _subtopology(one: SubtopologyFacts) -> schema.Subtopology:
    sources = sorted(one.source_topics)
    repartitions = sorted(topic.name for topic in one.repartition_source_topics)
    return schema.Subtopology(
        subtopology_id=str(one.id),
        source_topics=_names(sources),
        source_topic_regex=tuple(sorted(one.source_topic_regex)),
        state_changelog_topics=_topics(one.state_changelog_topics),
        repartition_sink_topics=_names(sorted(one.repartition_sink_topics)),
        repartition_source_topics=_topics(one.repartition_source_topics),
        copartition_groups=tuple(
            schema.CopartitionGroup(
                source_topics=_indexes(group.source_topics, sources),
                repartition_source_topics=_indexes(group.repartition_source_topics, repartitions),
            )
            for group in one.copartition_groups
        ),
    )


def _topics(topics: Iterable[TopicFacts]) -> tuple[schema.TopicInfo, ...]:
    return tuple(
        schema.TopicInfo(
            name=TopicName(topic.name),
            partitions=i32(topic.partitions),
            replication_factor=i16(topic.replication_factor),
            topic_configs=tuple(
                schema.KeyValue(key=key, value=value)
                for key, value in sorted(topic.configs.items())
            ),
        )
        for topic in sorted(topics, key=lambda topic: topic.name)
    )


def _names(names: Iterable[str]) -> tuple[TopicName, ...]:
    return tuple(TopicName(name) for name in names)


def _indexes(names: Iterable[str], among: Sequence[str]) -> tuple[i16, ...]:
    return tuple(i16(among.index(name)) for name in names)


# -- heartbeats ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatBody:
    """The fields of a heartbeat that this member uses; None where one is not said again.

    Static membership, racks and task offsets are left out: brokers before 4.4 refuse them.

    Attributes:
        group_id: the group.
        member_id: the member.
        member_epoch: 0 to join, -1 to leave.
        endpoint_epoch: of the newest end points known.
        rebalance_timeout_ms: how long the broker waits for tasks to be given up.
        topology: from `topology_message`.
        owned: all tasks that run.
        process_id: the process.
        endpoint: where it answers queries.
        client_tags: for assignors.
        is_shutting_down: asks all instances to shut down.
    """

    group_id: str
    member_id: str
    member_epoch: int
    endpoint_epoch: int
    rebalance_timeout_ms: int = UNCHANGED_MS
    topology: schema.Topology | None = None
    owned: TaskAssignment | None = None
    process_id: str | None = None
    endpoint: Endpoint | None = None
    client_tags: Mapping[str, str] | None = None
    is_shutting_down: bool = False


class HeartbeatResponse(NamedTuple):
    """The fields of an answer that this member uses, as they came.

    Attributes:
        code: the error code, 0 for none; with an error the rest means nothing.
        message: the broker's words about it.
        member_epoch: the member epoch.
        interval_ms: time between heartbeats.
        statuses: None from brokers that have nothing to say.
        active: tasks, None where unchanged.
        standby: likewise.
        warmup: likewise.
        endpoint_epoch: of the end points.
        endpoints: one entry per member: end point, active and standby topic partitions; None
            where unchanged.
    """

    code: int
    message: str
    member_epoch: int
    interval_ms: int
    statuses: tuple[Status, ...] | None
    active: frozenset[TaskId] | None
    standby: frozenset[TaskId] | None
    warmup: frozenset[TaskId] | None
    endpoint_epoch: int
    endpoints: tuple[tuple[Endpoint, Partitions, Partitions], ...] | None


Partitions = Mapping[str, frozenset[int]]
"""topic -> partitions."""


def encode_heartbeat(body: HeartbeatBody) -> bytes:
    """Returns the body of a StreamsGroupHeartbeat request."""
    owned, tags = body.owned, body.client_tags
    return _written(
        schema.StreamsGroupHeartbeatRequest(
            group_id=GroupId(body.group_id),
            member_id=body.member_id,
            member_epoch=i32(body.member_epoch),
            endpoint_information_epoch=i32(body.endpoint_epoch),
            rebalance_timeout=i32Timedelta.parse(timedelta(milliseconds=body.rebalance_timeout_ms)),
            topology=body.topology,
            active_tasks=None if owned is None else _task_ids(owned.active),
            standby_tasks=None if owned is None else _task_ids(owned.standby),
            warmup_tasks=None if owned is None else _task_ids(owned.warmup),
            process_id=body.process_id,
            user_endpoint=None
            if body.endpoint is None
            else schema.Endpoint(host=body.endpoint.host, port=u16(body.endpoint.port)),
            client_tags=None
            if tags is None
            else tuple(
                schema.KeyValue(key=key, value=value) for key, value in sorted(tags.items())
            ),
            task_offsets=None,
            task_end_offsets=None,
            shutdown_application=body.is_shutting_down,
        )
    )


def decode_heartbeat(body: bytes) -> HeartbeatResponse:
    """Reads the body of a StreamsGroupHeartbeat response; codes not in the schema included.

    Raises:
        RebalanceError: the bytes are not such a body.
    """
    code = int.from_bytes(body[4:6], "big", signed=True)
    if code not in _SCHEMA_CODES:
        body = body[:4] + int(Code.UNKNOWN_SERVER_ERROR).to_bytes(2, "big", signed=True) + body[6:]
    read = _read(heartbeat_response.StreamsGroupHeartbeatResponse, body, HEARTBEAT)
    statuses, endpoints = read.status, read.partitions_by_user_endpoint
    return HeartbeatResponse(
        code=code,
        message=read.error_message or "",
        member_epoch=int(read.member_epoch),
        interval_ms=_milliseconds(read.heartbeat_interval),
        statuses=None
        if statuses is None
        else tuple(Status(int(one.status_code), one.status_detail) for one in statuses),
        active=_tasks(read.active_tasks),
        standby=_tasks(read.standby_tasks),
        warmup=_tasks(read.warmup_tasks),
        endpoint_epoch=int(read.endpoint_information_epoch),
        endpoints=None
        if endpoints is None
        else tuple(
            (
                Endpoint(one.user_endpoint.host, int(one.user_endpoint.port)),
                _partitions(one.active_partitions),
                _partitions(one.standby_partitions),
            )
            for one in endpoints
        ),
    )


_SCHEMA_CODES: Final = frozenset(int(code) for code in ErrorCode)


def _task_ids(tasks: Iterable[TaskId]) -> tuple[schema.TaskIds, ...]:
    by_subtopology: dict[str, list[i32]] = {}
    for task in sorted(tasks):
        by_subtopology.setdefault(task.subtopology_id, []).append(i32(task.partition))
    return tuple(
        schema.TaskIds(subtopology_id=subtopology_id, partitions=tuple(partitions))
        for subtopology_id, partitions in by_subtopology.items()
    )


class _TaskIds(Protocol):
    @property
    def subtopology_id(self) -> str: ...
    @property
    def partitions(self) -> tuple[i32, ...]: ...


def _tasks(ids: Iterable[_TaskIds] | None) -> frozenset[TaskId] | None:
    if ids is None:
        return None
    return frozenset(
        TaskId(one.subtopology_id, int(partition)) for one in ids for partition in one.partitions
    )


def _partitions(topics: Iterable[heartbeat_response.TopicPartition]) -> Partitions:
    return {str(one.topic): frozenset(map(int, one.partitions)) for one in topics}


# -- the group -----------------------------------------------------------------------------


class Coordinator(NamedTuple):
    """Where a group's coordinator is, or why that cannot be told.

    Attributes:
        code: the error code, 0 for none.
        message: the broker's words about it.
        host: its host.
        port: its port.
    """

    code: int
    message: str
    host: str
    port: int


def encode_find_coordinator(group_id: str) -> bytes:
    """Returns the body of a FindCoordinator request for a group."""
    return _written(
        find_request.FindCoordinatorRequest(key_type=i8(0), coordinator_keys=(group_id,))
    )


def decode_find_coordinator(body: bytes) -> Coordinator:
    """Reads the body of a FindCoordinator response for one group.

    Raises:
        RebalanceError: the bytes are not such a body.
    """
    read = _read(find_response.FindCoordinatorResponse, body, FIND_COORDINATOR)
    if not read.coordinators:
        return Coordinator(Code.COORDINATOR_NOT_AVAILABLE, "", "", -1)
    one = read.coordinators[0]
    return Coordinator(int(one.error_code), one.error_message or "", one.host, int(one.port))


def encode_describe(group_id: str) -> bytes:
    """Returns the body of a StreamsGroupDescribe request for one group."""
    return _written(
        describe_request.StreamsGroupDescribeRequest(
            group_ids=(GroupId(group_id),), include_authorized_operations=False
        )
    )


def decode_describe(body: bytes) -> GroupDescription:
    """Reads the body of a StreamsGroupDescribe response for one group.

    Raises:
        RebalanceError: the bytes are not such a body.
    """
    read = _read(describe_response.StreamsGroupDescribeResponse, body, DESCRIBE)
    if not read.groups:
        raise RebalanceError("the broker described no group", code=Code.GROUP_ID_NOT_FOUND)
    group = read.groups[0]
    parts = (group.topology.subtopologies if group.topology is not None else None) or ()
    return GroupDescription(
        code=int(group.error_code),
        message=group.error_message or "",
        group_id=str(group.group_id),
        state=group.group_state,
        epoch=int(group.group_epoch),
        assignment_epoch=int(group.assignment_epoch),
        internal_topics={
            str(topic.name): int(topic.partitions)
            for part in parts
            for topic in (*part.repartition_source_topics, *part.state_changelog_topics)
        },
        members=tuple(_member(one) for one in group.members),
    )


def _member(one: describe_response.Member) -> MemberDescription:
    at = one.user_endpoint
    return MemberDescription(
        member_id=one.member_id,
        epoch=int(one.member_epoch),
        process_id=one.process_id,
        client_id=one.client_id,
        host=one.client_host,
        endpoint=None if at is None else Endpoint(at.host, int(at.port)),
        tasks=_assignment(one.assignment),
        target=_assignment(one.target_assignment),
    )


def _assignment(one: describe_response.Assignment) -> TaskAssignment:
    return TaskAssignment.of(
        _tasks(one.active_tasks) or (),
        _tasks(one.standby_tasks) or (),
        _tasks(one.warmup_tasks) or (),
    )


# -- offsets -------------------------------------------------------------------------------

TopicPartition = tuple[str, int]
"""(topic, partition)."""


class CommittedOffset(NamedTuple):
    """A committed position.

    Attributes:
        offset: the next record to read.
        metadata: what the application stored with it.
    """

    offset: int
    metadata: str = ""


class FetchedOffsets(NamedTuple):
    """An answer to OffsetFetch.

    Attributes:
        code: the group's error code, 0 for none.
        offsets: what is committed; partitions without are left out.
        codes: the error codes of partitions that have one.
    """

    code: int
    offsets: dict[TopicPartition, CommittedOffset]
    codes: dict[TopicPartition, int]


def encode_offset_commit(
    group_id: str, identity: GroupIdentity, offsets: Mapping[TopicPartition, tuple[int, str]]
) -> bytes:
    """Returns the body of an OffsetCommit request of a member.

    Args:
        group_id: the group.
        identity: the member and its epoch.
        offsets: (topic, partition) -> (offset of the next record, metadata).
    """
    return _written(
        commit_request.OffsetCommitRequest(
            group_id=GroupId(group_id),
            generation_id_or_member_epoch=i32(identity.epoch),
            member_id=identity.member_id,
            topics=tuple(
                commit_request.OffsetCommitRequestTopic(
                    name=TopicName(topic),
                    partitions=tuple(
                        commit_request.OffsetCommitRequestPartition(
                            partition_index=i32(partition),
                            committed_offset=i64(offsets[topic, partition][0]),
                            committed_metadata=offsets[topic, partition][1],
                        )
                        for partition in partitions
                    ),
                )
                for topic, partitions in _by_topic(offsets).items()
            ),
        )
    )


def decode_offset_commit(body: bytes) -> dict[TopicPartition, int]:
    """Reads the body of an OffsetCommit response: (topic, partition) -> error code, 0 for none.

    Raises:
        RebalanceError: the bytes are not such a body.
    """
    read = _read(commit_response.OffsetCommitResponse, body, OFFSET_COMMIT)
    return {
        (str(topic.name), int(one.partition_index)): int(one.error_code)
        for topic in read.topics
        for one in topic.partitions
    }


def encode_offset_fetch(
    group_id: str,
    identity: GroupIdentity | None,
    partitions: Iterable[TopicPartition],
    *,
    require_stable: bool = True,
) -> bytes:
    """Returns the body of an OffsetFetch request.

    Args:
        group_id: the group.
        identity: the member and its epoch, which must be the broker's; None reads without
            being a member.
        partitions: the partitions.
        require_stable: whether to be told to wait where a transaction is not finished.
    """
    return _written(
        fetch_request.OffsetFetchRequest(
            groups=(
                fetch_request.OffsetFetchRequestGroup(
                    group_id=GroupId(group_id),
                    member_id=None if identity is None else identity.member_id,
                    member_epoch=i32(-1 if identity is None else identity.epoch),
                    topics=tuple(
                        fetch_request.OffsetFetchRequestTopics(
                            name=TopicName(topic), partition_indexes=tuple(map(i32, indexes))
                        )
                        for topic, indexes in _by_topic(partitions).items()
                    ),
                ),
            ),
            require_stable=require_stable,
        )
    )


def decode_offset_fetch(body: bytes) -> FetchedOffsets:
    """Reads the body of an OffsetFetch response for one group.

    Raises:
        RebalanceError: the bytes are not such a body.
    """
    read = _read(fetch_response.OffsetFetchResponse, body, OFFSET_FETCH)
    if not read.groups:
        return FetchedOffsets(Code.GROUP_ID_NOT_FOUND, {}, {})
    (group, *_) = read.groups
    offsets: dict[TopicPartition, CommittedOffset] = {}
    codes: dict[TopicPartition, int] = {}
    for topic in group.topics:
        for one in topic.partitions:
            at = (str(topic.name), int(one.partition_index))
            if one.error_code:
                codes[at] = int(one.error_code)
            elif one.committed_offset >= 0:
                offsets[at] = CommittedOffset(int(one.committed_offset), one.metadata or "")
    return FetchedOffsets(int(group.error_code), offsets, codes)


def _by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    by_topic: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        by_topic.setdefault(topic, []).append(partition)
    return by_topic


# -- bytes ---------------------------------------------------------------------------------


def _written(entity: Entity) -> bytes:
    buffer = BytesIO()
    write: Callable[[BytesIO, Any], None] = entity_writer(type(entity))
    write(buffer, entity)
    return buffer.getvalue()


def _read(kind: type[E], body: bytes, api: Api) -> E:
    try:
        entity, _ = entity_reader(kind)(body, 0)
    except (SerialError, ValueError) as error:
        raise RebalanceError(
            f"the broker's answer to {api.name} version {api.version} cannot be read: {error}"
        ) from error
    return entity


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
