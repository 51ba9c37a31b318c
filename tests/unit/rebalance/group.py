"""A group behind a connection without a socket: bytes in, bytes out, no broker.

The coordinator is the strict one of `coordinator`; offsets are kept, as long as the member that
commits them is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kio.schema.offset_commit.v9 import request as commit_request
from kio.schema.offset_commit.v9 import response as commit_response
from kio.schema.offset_fetch.v9 import request as fetch_request
from kio.schema.offset_fetch.v9 import response as fetch_response
from kio.schema.streams_group_describe.v0 import response as describe_response
from kio.schema.streams_group_heartbeat.v0 import request as heartbeat_request
from kio.schema.streams_group_heartbeat.v0 import response as heartbeat_response
from kio.serial import entity_reader

from tests.unit.rebalance.answers import encoded
from tests.unit.rebalance.coordinator import Coordinator
from thalweg.rebalance.actions import Heartbeat
from thalweg.rebalance.connection import Connection
from thalweg.rebalance.errors import Code, UnreachableError
from thalweg.rebalance.heartbeat import Refusal
from thalweg.rebalance.messages import (
    DESCRIBE,
    HEARTBEAT,
    OFFSET_COMMIT,
    Api,
)
from thalweg.rebalance.values import TaskAssignment, TaskId


class GroupConnection(Connection):
    """One member's way to the group.

    Args:
        coordinator: the group's; several connections may share it.
        offsets: (topic, partition) -> (offset, metadata), likewise.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        offsets: dict[tuple[str, int], tuple[int, str]] | None = None,
    ) -> None:
        self.coordinator = coordinator
        self.offsets = {} if offsets is None else offsets
        self.statuses: list[dict[str, Any]] = []
        self.heartbeats: list[Any] = []
        self.lookups = 0
        self.is_closed = False
        self.before: Callable[[Api], None] = lambda _api: None
        """Called with each request before it is taken; what it raises happens."""

    async def find_coordinator(self, group_id: str) -> None:
        """Is always there."""
        self.lookups += 1

    async def close(self) -> None:
        """Notes that it was closed."""
        self.is_closed = True

    async def request(self, api: Api, body: bytes, timeout_ms: float) -> bytes:
        """Answers at once."""
        if not self.lookups:
            raise UnreachableError("the group's coordinator is not known at the moment")
        self.before(api)
        if api == HEARTBEAT:
            return self._heartbeat(body)
        if api == OFFSET_COMMIT:
            return self._commit(body)
        return self._describe() if api == DESCRIBE else self._fetch(body)

    def _heartbeat(self, body: bytes) -> bytes:
        read, _ = entity_reader(heartbeat_request.StreamsGroupHeartbeatRequest)(body, 0)
        self.heartbeats.append(read)
        lists = (read.active_tasks, read.standby_tasks, read.warmup_tasks)
        assert len({one is None for one in lists}) == 1, "some lists and not others"
        owned = None
        if read.active_tasks is not None:
            owned = TaskAssignment.of(*map(_pairs, lists))
        sent = Heartbeat(0, read.member_epoch, owned=owned)
        answer = self.coordinator.heartbeat(read.member_id, sent)
        kind = heartbeat_response.StreamsGroupHeartbeatResponse
        if isinstance(answer, Refusal):
            return encoded(kind, error_code=answer.code, error_message=answer.message)
        return encoded(
            kind,
            member_epoch=answer.epoch,
            heartbeat_interval=answer.interval_ms,
            status=self.statuses,
            active_tasks=None if answer.tasks is None else _ids(answer.tasks.active),
            standby_tasks=None if answer.tasks is None else _ids(answer.tasks.standby),
            warmup_tasks=None if answer.tasks is None else [],
        )

    def _describe(self) -> bytes:
        members = [
            {
                "member_id": member_id,
                "member_epoch": member.epoch,
                "assignment": {
                    "active_tasks": _ids(member.assigned.active),
                    "standby_tasks": _ids(member.assigned.standby),
                },
            }
            for member_id, member in self.coordinator.members.items()
        ]
        group = {"group_id": "g", "group_state": "Stable", "members": members}
        if not members:
            group["error_code"] = Code.GROUP_ID_NOT_FOUND
        return encoded(describe_response.StreamsGroupDescribeResponse, groups=[group])

    def _commit(self, body: bytes) -> bytes:
        read, _ = entity_reader(commit_request.OffsetCommitRequest)(body, 0)
        member = self.coordinator.members.get(read.member_id)
        code: int = Code.NONE if member is not None else Code.UNKNOWN_MEMBER_ID
        topics = []
        for topic in read.topics:
            answers = []
            for one in topic.partitions:
                answers.append({"partition_index": one.partition_index, "error_code": code})
                if code == Code.NONE:
                    at = (str(topic.name), int(one.partition_index))
                    self.offsets[at] = (int(one.committed_offset), one.committed_metadata or "")
            topics.append({"name": topic.name, "partitions": answers})
        return encoded(commit_response.OffsetCommitResponse, topics=topics)

    def _fetch(self, body: bytes) -> bytes:
        read, _ = entity_reader(fetch_request.OffsetFetchRequest)(body, 0)
        assert read.require_stable
        (group,) = read.groups
        topics = [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": index,
                        "committed_offset": found[0],
                        "metadata": found[1],
                    }
                    for index in topic.partition_indexes
                    for found in [self.offsets.get((str(topic.name), index), (-1, ""))]
                ],
            }
            for topic in group.topics or ()
        ]
        return encoded(
            fetch_response.OffsetFetchResponse,
            groups=[{"group_id": group.group_id, "topics": topics}],
        )


def _pairs(read: Any) -> list[tuple[str, int]]:
    return [(one.subtopology_id, partition) for one in read for partition in one.partitions]


def _ids(tasks: frozenset[TaskId]) -> list[dict[str, Any]]:
    return [
        {"subtopology_id": task.subtopology_id, "partitions": [task.partition]}
        for task in sorted(tasks)
    ]
