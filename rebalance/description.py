"""The broker's description of a whole group: for people, and for a member that missed an answer.

Owns only the values.

Source: StreamsGroupDescribeResponse; kip1071 reference 1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.rebalance.values import Endpoint, TaskAssignment


@dataclass(frozen=True, slots=True)
class MemberDescription:
    """A member as its coordinator sees it.

    Attributes:
        member_id: the member.
        epoch: its member epoch.
        process_id: the process it runs in.
        client_id: the name its connection gave.
        host: from where it is connected.
        endpoint: where it answers queries.
        tasks: what it has, without what it is asked to give up.
        target: what it is to have.
    """

    member_id: str
    epoch: int
    process_id: str
    client_id: str
    host: str
    endpoint: Endpoint | None
    tasks: TaskAssignment
    target: TaskAssignment


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group as its coordinator sees it.

    Attributes:
        code: the error code, 0 for none; with an error the rest means nothing.
        message: the broker's words about it.
        group_id: the group.
        state: `Empty`, `NotReady`, `Assigning`, `Reconciling`, `Stable` or `Dead`.
        epoch: the group epoch.
        assignment_epoch: the group epoch that the targets were made for.
        internal_topics: topic -> partition count, as the broker decided; empty until then.
        members: its members.
    """

    code: int
    message: str
    group_id: str
    state: str
    epoch: int
    assignment_epoch: int
    internal_topics: Mapping[str, int]
    members: tuple[MemberDescription, ...]

    def member(self, member_id: str) -> MemberDescription | None:
        """Returns the member of that id, None if it is not one."""
        return next((one for one in self.members if one.member_id == member_id), None)
