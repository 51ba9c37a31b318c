"""Members for tests: a topology of two subtopologies, and an owner that does what it is told."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.waiting import HANG_S, Deadline, wait_until
from thalweg.rebalance.connection import BrokerConnection
from thalweg.rebalance.connection_settings import ConnectionSettings
from thalweg.rebalance.errors import RebalanceError, UnreachableError
from thalweg.rebalance.events import (
    Assigned,
    Event,
    Fatal,
    Lost,
    Revoked,
)
from thalweg.rebalance.heartbeat import Refusal, read_answer
from thalweg.rebalance.heartbeat_thread import GroupClient
from thalweg.rebalance.messages import HEARTBEAT, Api
from thalweg.rebalance.values import (
    Endpoint,
    MemberSettings,
    TaskAssignment,
    TaskId,
    new_id,
)


@dataclass(frozen=True)
class Topic:
    """An internal topic."""

    name: str
    configs: Mapping[str, str] = field(default_factory=dict)
    partitions: int = 0
    replication_factor: int = -1


@dataclass(frozen=True)
class Part:
    """A subtopology."""

    id: int
    source_topics: tuple[str, ...] = ()
    repartition_source_topics: tuple[Topic, ...] = ()
    repartition_sink_topics: tuple[str, ...] = ()
    state_changelog_topics: tuple[Topic, ...] = ()
    source_topic_regex: tuple[str, ...] = ()
    copartition_groups: tuple[Any, ...] = ()
    is_global: bool = False


def word_count(group: str, source: str, *, created_at: str = "CreateTime") -> tuple[Part, ...]:
    """Reads lines, and counts words by way of a repartition topic and a changelog."""
    repartition = f"{group}-counts-repartition"
    stamped = {"message.timestamp.type": created_at}
    return (
        Part(0, source_topics=(source,), repartition_sink_topics=(repartition,)),
        Part(
            1,
            repartition_source_topics=(
                Topic(repartition, {"cleanup.policy": "delete", "retention.ms": "-1", **stamped}),
            ),
            state_changelog_topics=(
                Topic(f"{group}-counts-changelog", {"cleanup.policy": "compact", **stamped}),
            ),
        ),
    )


def monotonic_ms() -> float:
    """Returns milliseconds that never go back."""
    return time.monotonic_ns() / 1e6


class WatchedConnection(BrokerConnection):
    """A connection to a real broker that counts what came of the heartbeats.

    Attributes:
        accepted: heartbeats the broker accepted.
        unanswered: heartbeats without an answer.
        codes: error codes of the answers, and of those to the search for the coordinator.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        super().__init__(settings)
        self.accepted = 0
        self.unanswered = 0
        self.codes: list[int] = []

    async def find_coordinator(self, group_id: str) -> None:
        try:
            await super().find_coordinator(group_id)
        except RebalanceError as error:
            if error.code is not None:
                self.codes.append(error.code)
            raise

    async def request(self, api: Api, body: bytes, timeout_ms: float) -> bytes:
        try:
            answered = await super().request(api, body, timeout_ms)
        except UnreachableError:
            self.unanswered += api == HEARTBEAT
            raise
        if api == HEARTBEAT:
            answer = read_answer(answered)
            if isinstance(answer, Refusal):
                self.codes.append(answer.code)
            else:
                self.accepted += 1
        return answered


class Owner:
    """A processing loop without records: runs what its member is given.

    Args:
        configs: client settings by librdkafka's names.
        group: the group.
        source: the source topic.
        process: the process id; one of its own if None.
        connection: made of the settings instead of the usual one.
        changes: of the member's settings.
    """

    def __init__(
        self,
        configs: Mapping[str, Any],
        group: str,
        source: str,
        *,
        process: str | None = None,
        parts: tuple[Part, ...] | None = None,
        connection: Callable[[ConnectionSettings], WatchedConnection] = WatchedConnection,
        endpoint: Endpoint | None = None,
        **changes: Any,
    ) -> None:
        randomness = random.Random()
        parts = parts if parts is not None else word_count(group, source)
        settings = MemberSettings(
            group_id=group,
            member_id=new_id(randomness),
            process_id=process or new_id(randomness),
            subtopology_ids=frozenset(str(part.id) for part in parts),
            endpoint=endpoint,
            **changes,
        )
        self.connection = connection(ConnectionSettings.from_configs(configs))
        self.client = GroupClient(
            settings,
            parts,
            self.connection,
            monotonic_ms=monotonic_ms,
            randomness=randomness,
        )
        self.runs = TaskAssignment()
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        """Joins."""
        self.client.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves."""
        self.client.leave()

    @property
    def active(self) -> frozenset[TaskId]:
        """The active tasks it runs."""
        return self.runs.active

    def turn(self) -> None:
        """One round of the loop."""
        self.client.note_poll(monotonic_ms())
        is_owed = False
        for event in self.client.poll():
            self.events.append(event)
            if isinstance(event, Revoked):
                self.runs = TaskAssignment(self.runs.active - event.tasks, self.runs.standby)
            elif isinstance(event, Assigned):
                self.runs, is_owed = event.tasks, True
            elif isinstance(event, Lost):
                self.runs, is_owed = TaskAssignment(), True
        if is_owed:
            self.client.acknowledge(self.runs.active, self.runs.standby, self.runs.warmup)

    def told(self, kind: type) -> list[Any]:
        """Returns the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def failure(self) -> Exception | None:
        """What the application cannot go on for."""
        return next((event.error for event in self.events if isinstance(event, Fatal)), None)

    def is_known(self, timeout_ms: float) -> bool:
        """Tells whether the broker says of this member what it says of itself.

        Raises:
            RebalanceError: the broker does not answer in time.
        """
        known = self.client.describe(timeout_ms).member(self.client.identity().member_id)
        return (
            known is not None
            and known.epoch == self.client.identity().epoch
            and known.tasks == self.runs
        )


def turn_until(
    owners: list[Owner],
    condition: Callable[[], object],
    what: str,
    seconds: float = HANG_S,
) -> None:
    """Lets owners go on until something holds."""

    def is_done() -> object:
        for owner in owners:
            owner.turn()
        return condition()

    wait_until(is_done, seconds, what)


def all_tasks(partitions: int) -> frozenset[TaskId]:
    """Returns the tasks of `word_count`."""
    return frozenset(TaskId(part, index) for part in ("0", "1") for index in range(partitions))


def turn_until_shared(owners: list[Owner], partitions: int) -> None:
    """Lets owners go on until together they run every task once, and each has some."""
    tasks = sorted(all_tasks(partitions))

    def is_shared() -> bool:
        running = sorted(task for owner in owners for task in owner.active)
        return running == tasks and all(owner.active for owner in owners)

    turn_until(owners, is_shared, f"a share of {len(tasks)} tasks for {len(owners)}")


def turn_until_heard_again(owners: list[Owner], accepted: Mapping[str, int]) -> None:
    """Lets owners go on until the broker accepts heartbeats of all, and agrees on their tasks.

    Args:
        owners: all members of the group.
        accepted: member id -> how many were accepted before.
    """
    deadline = Deadline(HANG_S)
    turn_until(
        owners,
        lambda: all(
            owner.connection.accepted > accepted[owner.client.settings.member_id]
            and owner.is_known(deadline.left_ms)
            for owner in owners
        ),
        "heartbeats that are accepted again",
        deadline.left_s,
    )


def accepted_of(owners: list[Owner]) -> dict[str, int]:
    """Returns member id -> how many of its heartbeats the broker accepted so far."""
    return {owner.client.settings.member_id: owner.connection.accepted for owner in owners}
