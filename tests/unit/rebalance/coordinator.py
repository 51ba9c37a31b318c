"""A group coordinator as strict as Kafka's, without topics, sockets or time.

It follows Kafka 4.2 in what decides about tasks: epochs, the three lists, when an answer
carries lists, and when a task is free. What it accepts, a broker accepts; what a broker
refuses, it refuses. Topics are taken to exist.

Source: Kafka 4.2 `GroupMetadataManager.streamsGroupHeartbeat`, `CurrentAssignmentBuilder`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from thalweg.rebalance.actions import Answer, Heartbeat
from thalweg.rebalance.errors import Code
from thalweg.rebalance.heartbeat import Refusal
from thalweg.rebalance.values import NO_TASKS, TaskAssignment, TaskId


@dataclass
class KnownMember:
    """A member as the coordinator has it: a process of its own, without warm-up tasks."""

    epoch: int
    previous_epoch: int = 0
    assigned: TaskAssignment = NO_TASKS
    revoking: TaskAssignment = NO_TASKS

    @property
    def holds(self) -> TaskAssignment:
        """What it was given and has not given back."""
        return self.assigned | self.revoking


@dataclass
class Coordinator:
    """One group. Whoever joins or leaves makes it share the tasks out anew.

    Attributes:
        tasks: all there are.
        interval_ms: between heartbeats.
        has_standbys: whether each task is a standby task of one more member, if there is one.
    """

    tasks: frozenset[TaskId]
    interval_ms: int = 500
    has_standbys: bool = False
    epoch: int = 0
    members: dict[str, KnownMember] = field(default_factory=dict)
    target: dict[str, TaskAssignment] = field(default_factory=dict)
    exists: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    """Held by who looks at several members; members of the client's tests have threads."""

    def heartbeat(self, member_id: str, sent: Heartbeat) -> Answer | Refusal:
        """Takes a heartbeat and answers it."""
        with self.lock:
            return self._answer(member_id, sent)

    def _answer(self, member_id: str, sent: Heartbeat) -> Answer | Refusal:
        if sent.is_leaving:
            return self._leave(member_id)
        owned = sent.owned
        if sent.is_joining:
            if owned != NO_TASKS:
                return Refusal(Code.INVALID_REQUEST, "ActiveTasks must be empty when (re-)joining.")
            self.exists = True
            if member_id not in self.members:
                self.members[member_id] = KnownMember(0)
                self.share_out()
        elif not self.exists:
            return Refusal(Code.GROUP_ID_NOT_FOUND, "Group g not found.")
        member = self.members.get(member_id)
        if member is None:
            return Refusal(Code.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member.")
        if not sent.is_joining and not self._is_epoch_right(member, sent.epoch, owned):
            return Refusal(Code.FENCED_MEMBER_EPOCH, f"The epoch {sent.epoch} is wrong.")
        if owned is not None and not owned.tasks <= self.tasks:
            return Refusal(Code.INVALID_REQUEST, "Unknown tasks are owned.")
        before = member.assigned
        self._progress(member_id, member, owned)
        has_lists = sent.is_joining or member.assigned != before
        return Answer(
            member.epoch,
            self.interval_ms,
            tasks=member.assigned if has_lists else None,
        )

    @staticmethod
    def _is_epoch_right(member: KnownMember, epoch: int, owned: TaskAssignment | None) -> bool:
        if epoch == member.epoch:
            return True
        is_repeated = epoch == member.previous_epoch and owned is not None
        return is_repeated and owned is not None and owned <= member.assigned

    def _progress(self, member_id: str, member: KnownMember, owned: TaskAssignment | None) -> None:
        """Moves a member as far towards its target as it can go in one heartbeat."""
        target = self.target.get(member_id, NO_TASKS)
        if member.revoking and (owned is None or common(owned, member.revoking)):
            return
        kept = common(member.assigned, target)
        revoking = without(member.assigned, target)
        if revoking and (owned is None or common(owned, revoking)):
            member.assigned, member.revoking = kept, revoking
            return
        # A task runs once as an active task, and once in a process, whatever its role.
        taken = {task for other in self.members.values() for task in other.holds.active}
        given, held = without(target, kept), member.holds
        free = TaskAssignment(given.active - taken - held.tasks, given.standby - held.tasks)
        member.assigned, member.revoking = kept | free, NO_TASKS
        if member.epoch != self.epoch:
            member.previous_epoch, member.epoch = member.epoch, self.epoch

    def _leave(self, member_id: str) -> Answer | Refusal:
        if member_id not in self.members:
            return Refusal(Code.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member.")
        self.expire(member_id)
        return Answer(-1, 0)

    def expire(self, member_id: str) -> None:
        """Removes a member whose session is over."""
        with self.lock:
            if self.members.pop(member_id, None) is not None:
                self.share_out()

    def delete(self) -> None:
        """Deletes the group under its members."""
        self.members.clear()
        self.target.clear()
        self.exists = False

    def share_out(self, order: Iterable[str] | None = None) -> None:
        """Makes new targets, tasks in turn over the members in the order given."""
        self.epoch += 1
        members = [one for one in (order or sorted(self.members)) if one in self.members]
        ordered = sorted(self.tasks)
        count = max(1, len(members))
        shares = [frozenset(ordered[index::count]) for index in range(count)]
        has_standbys = self.has_standbys and count > 1
        self.target = {
            one: TaskAssignment(shares[index], shares[index - 1] if has_standbys else frozenset())
            for index, one in enumerate(members)
        }

    def has(self) -> Mapping[str, TaskAssignment]:
        """Returns what each member was given and has not given back."""
        return {member_id: member.holds for member_id, member in self.members.items()}


def common(one: TaskAssignment, other: TaskAssignment) -> TaskAssignment:
    """Returns the tasks that both have in the same role."""
    return TaskAssignment(one.active & other.active, one.standby & other.standby)


def without(one: TaskAssignment, other: TaskAssignment) -> TaskAssignment:
    """Returns the tasks that `other` does not have in the same role."""
    return TaskAssignment(one.active - other.active, one.standby - other.standby)
