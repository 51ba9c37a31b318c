"""The values of the group protocol: a member's identity and its tasks.

Owns identities and tasks. It must not know how they are sent or what follows from them.

Source: KIP-1071; JVM `StreamsRebalanceData`; kip1071 reference 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from thalweg.rebalance.backoff import Randomness

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
NO_ENDPOINT_EPOCH: Final = -1


class TaskId(NamedTuple):
    """One task; the text form is `<subtopology>_<partition>`.

    Attributes:
        subtopology_id: the subtopology's id as the broker knows it: text.
        partition: the partition of the subtopology's topics.
    """

    subtopology_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.subtopology_id}_{self.partition}"


@dataclass(frozen=True, slots=True)
class TaskAssignment:
    """Tasks by role; no task has two roles, see `of`.

    Attributes:
        active: tasks that process records.
        standby: tasks whose state is kept up to date.
        warmup: tasks whose state is brought up to date before they become active.
    """

    active: frozenset[TaskId] = frozenset()
    standby: frozenset[TaskId] = frozenset()
    warmup: frozenset[TaskId] = frozenset()

    @classmethod
    def of(
        cls,
        active: Iterable[tuple[str, int]] = (),
        standby: Iterable[tuple[str, int]] = (),
        warmup: Iterable[tuple[str, int]] = (),
    ) -> TaskAssignment:
        """Returns an assignment; a task named twice is active, else standby.

        Source: JVM `DefaultStreamsRebalanceListener.deduplicateTasks`.
        """
        is_active = frozenset(TaskId(*task) for task in active)
        is_standby = frozenset(TaskId(*task) for task in standby) - is_active
        is_warmup = frozenset(TaskId(*task) for task in warmup) - is_active - is_standby
        return cls(is_active, is_standby, is_warmup)

    @property
    def tasks(self) -> frozenset[TaskId]:
        """All of them."""
        return self.active | self.standby | self.warmup

    def __bool__(self) -> bool:
        return bool(self.active or self.standby or self.warmup)

    def __le__(self, other: TaskAssignment) -> bool:
        """Tells whether `other` has every task of this one, in the same role."""
        return (
            self.active <= other.active
            and self.standby <= other.standby
            and self.warmup <= other.warmup
        )

    def __or__(self, other: TaskAssignment) -> TaskAssignment:
        """Returns the tasks of both; see `of` for those that change their role."""
        return TaskAssignment.of(
            self.active | other.active, self.standby | other.standby, self.warmup | other.warmup
        )

    def __str__(self) -> str:
        roles = (("active", self.active), ("standby", self.standby), ("warm-up", self.warmup))
        told = [f"{role} {' '.join(map(str, sorted(ids)))}" for role, ids in roles if ids]
        return ", ".join(told) or "no tasks"


NO_TASKS: Final = TaskAssignment()


class GroupIdentity(NamedTuple):
    """As whom offsets are committed.

    Attributes:
        member_id: the same for the member's whole life.
        epoch: the newest member epoch; 0 while it is not a member.
    """

    member_id: str
    epoch: int

    @property
    def is_member(self) -> bool:
        """Whether the group's coordinator knows this identity, as far as we know."""
        return self.epoch > JOIN_EPOCH

    def __str__(self) -> str:
        return f"member {self.member_id} with epoch {self.epoch}"


class Endpoint(NamedTuple):
    """Where an instance answers queries; the text form is `<host>:<port>`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EndpointPartitions:
    """What an instance has, as topic -> partitions of the tasks' source topics.

    Attributes:
        active: of active tasks.
        standby: of standby tasks.
    """

    active: Mapping[str, frozenset[int]] = field(default_factory=dict)
    standby: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """What a member says of itself when it joins, and how long it waits for what.

    Attributes:
        group_id: the application's id.
        member_id: from `new_id`; one per member, never used again by another.
        process_id: from `new_id`; shared by all members of one process.
        subtopology_ids: of the topology it runs; a task of any other is an error.
        rebalance_timeout_ms: how long the broker waits for tasks to be given up, and the
            longest time between two polls of the processing loop, 1 or more.
        endpoint: where this instance answers queries.
        client_tags: for assignors that look at them.
        missing_topics_timeout_ms: how long source topics may be missing; None for twice the
            heartbeat interval, as the JVM.
    """

    group_id: str
    member_id: str
    process_id: str
    subtopology_ids: frozenset[str]
    rebalance_timeout_ms: int = 300_000
    endpoint: Endpoint | None = None
    client_tags: Mapping[str, str] = field(default_factory=dict)
    missing_topics_timeout_ms: int | None = None

    def __post_init__(self) -> None:
        """Refuses what a broker would refuse.

        Raises:
            ValueError: an id is blank, or the timeout is not positive.
        """
        for name in ("group_id", "member_id", "process_id"):
            if not getattr(self, name).strip():
                message = f"{name} is blank"
                raise ValueError(message)
        if self.rebalance_timeout_ms < 1:
            message = f"rebalance_timeout_ms must be 1 or more, got {self.rebalance_timeout_ms}"
            raise ValueError(message)


def new_id(randomness: Randomness) -> str:
    """Returns a random id as UUID text, which every client and broker can print."""
    return str(UUID(int=randomness.getrandbits(128), version=4))
