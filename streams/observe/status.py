"""The state of a whole application: its instances, their tasks, lag and restoration.

Owns the values, their sources, and their form as rows and as JSON. What an instance knows comes
from its pages `/metadata` and `/metrics`. What the broker knows of the group comes from the group's
description, or from an instance that has it. A member is unreachable if something else answers at
its end point, such as the server of a JVM member. It must not know how rows are drawn.

Source: `kafka-streams-groups --describe`, with what only the instances know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

import msgspec

from thalweg.rebalance.description import GroupDescription, MemberDescription
from thalweg.rebalance.values import Endpoint
from thalweg.streams.errors import BrokerError
from thalweg.streams.observe.prometheus import Samples, samples_of
from thalweg.streams.queries.metadata import NO_ENDPOINT
from thalweg.streams.queries.peer import PeerError, Site, fetch
from thalweg.streams.transport.log.owner_client import OwnerClient

UNREACHABLE: Final = "UNREACHABLE"
"""The state of an instance that does not answer."""

UNKNOWN: Final = "UNKNOWN"
"""The state of an instance that answers no queries, so that only the broker tells of it."""

STANDBY: Final = "standby"
"""The state of a task that only follows its changelogs."""

T = TypeVar("T")

_ASKED_AT_ONCE: Final = 32
"""Instances that are asked at the same time: one that is gone takes seconds."""

COLUMNS: Final = ("instance", "state", "task", "is", "processed", "lag", "restored", "to restore")


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task in one instance.

    Attributes:
        task_id: `<subtopology>_<partition>`.
        state: running, restoring, standby; or active where only the broker tells of it.
        processed: records processed since it was made; None where it is not known, as for
            the others.
        lag: records in the log that are not processed yet.
        restored: changelog records restored; by a standby task, those it has followed.
        remaining: changelog offsets still to restore; for a standby task, how far its stores
            are behind, as far as known.
    """

    task_id: str
    state: str
    processed: int | None = None
    lag: int | None = None
    restored: int | None = None
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance.

    Attributes:
        name: its endpoint, or where it has none its member id.
        state: of the application there, by the JVM's names; UNREACHABLE or UNKNOWN.
        tasks: its tasks, in order.
        endpoint: where it answers queries.
        member_id: its id in the group, where the broker told it.
        reason: why it cannot be reached.
    """

    name: str
    state: str
    tasks: tuple[TaskStatus, ...] = ()
    endpoint: Endpoint | None = None
    member_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ApplicationStatus:
    """An application.

    Attributes:
        application_id: its id.
        instances: its instances, as far as known.
        group_state: of the group, where the broker told it: `Stable` and so on.
    """

    application_id: str
    instances: tuple[InstanceStatus, ...]
    group_state: str | None = None

    @property
    def lag(self) -> int:
        """Records not processed yet, as far as known."""
        return sum(task.lag or 0 for one in self.instances for task in one.tasks)

    @property
    def remaining(self) -> int:
        """Changelog offsets still to restore, as far as known.

        Standby tasks do not count: they follow for ever, and nobody waits for them.
        """
        tasks = (task for one in self.instances for task in one.tasks)
        return sum(task.remaining or 0 for task in tasks if task.state != STANDBY)


class StatusSource(Protocol):
    """Where a status comes from."""

    def status(self) -> ApplicationStatus:
        """Returns the status now.

        Raises:
            BrokerError: nobody answers.
        """
        ...


# -- from instances ------------------------------------------------------------------------


class InstanceSource:
    """Asks one instance who the others are, and each for its own state.

    Args:
        endpoint: any instance.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def status(self) -> ApplicationStatus:
        """Returns the status now; instances that do not answer are among it.

        Raises:
            BrokerError: the instance does not answer, or not as one.
        """
        asked = self._endpoint
        try:
            page = fetch(Site.of(asked), "/metadata")
        except PeerError as error:
            remedy = "give the application_server of a running worker"
            if error.is_answering:
                message = f"no worker is at {asked}: {error}; {remedy}"
                raise BrokerError(message) from error
            message = f"no worker answers at {asked}: {error}; {remedy}"
            raise BrokerError(message, retriable=True) from error
        try:
            if page.status != HTTPStatus.OK:
                message = f"HTTP status {page.status}"
                raise ValueError(message)
            told = _decode_metadata(page.body)
        except ValueError as error:
            message = (
                f"the worker at {asked} answers, but its list of all workers cannot be read: "
                f"{error}; run the same version of thalweg in all of them"
            )
            raise BrokerError(message) from error
        return ApplicationStatus(
            told.application_id,
            tuple(together(lambda one: self._instance(one, told.application_id), told.instances)),
        )

    def _instance(self, known: _KnownInstance, application_id: str) -> InstanceStatus:
        endpoint = self._endpoint
        if not known.is_this and known.host is not None and known.port is not None:
            endpoint = Endpoint(known.host, known.port)
        told = instance_at(endpoint, application_id)
        if told.state != UNREACHABLE:
            return told
        tasks = [
            TaskStatus(task, state)
            for state, ids in (("active", known.active_tasks), (STANDBY, known.standby_tasks))
            for task in ids
        ]
        return replace(told, tasks=tuple(_sorted(tasks)))


class _KnownInstance(msgspec.Struct, frozen=True):
    """What an instance knows of one of the group, from the page `/metadata`."""

    is_this: bool
    host: str | None = None
    port: int | None = None
    active_tasks: list[str] = []
    standby_tasks: list[str] = []


class _Metadata(msgspec.Struct, frozen=True):
    """The page `/metadata`."""

    application_id: str
    instances: list[_KnownInstance]


_decode_metadata: Final[Callable[[bytes], _Metadata]] = msgspec.json.Decoder(_Metadata).decode


class OwnerSource:
    """Asks an application that runs in the process that owns its embedded log.

    Args:
        owner: the owner.
        application_id: the application.
    """

    def __init__(self, owner: OwnerClient, application_id: str) -> None:
        self._owner = owner
        self._application_id = application_id

    def status(self) -> ApplicationStatus:
        """Returns the status now: on the embedded log an application is one instance.

        Raises:
            BrokerError: the owner has ended, or does not answer.
        """
        code, body = self._owner.get(self._application_id, "/metrics")
        if code != HTTPStatus.OK:
            raise self._owner.error_of(code, body)
        told = _instance_of(NO_ENDPOINT, samples_of(body.decode()))
        name = f"process {self._owner.process_id}"
        return ApplicationStatus(self._application_id, (replace(told, name=name, endpoint=None),))


def instances_at(
    endpoints: Collection[Endpoint], application_id: str | None = None
) -> list[InstanceStatus]:
    """Asks several instances at once; see `instance_at`. Takes as long as the slowest answer."""
    return together(lambda one: instance_at(one, application_id), endpoints)


def together(ask: Callable[[T], InstanceStatus], whom: Collection[T]) -> list[InstanceStatus]:
    """Asks all at once, up to a bound, and returns the answers in the same order."""
    with ThreadPoolExecutor(max(1, min(len(whom), _ASKED_AT_ONCE)), "status") as pool:
        return list(pool.map(ask, whom))


def instance_at(endpoint: Endpoint, application_id: str | None = None) -> InstanceStatus:
    """Asks an instance for its state; one that does not answer as one is UNREACHABLE.

    Args:
        endpoint: where it should answer.
        application_id: the application it must be an instance of; None for any.
    """
    try:
        page = fetch(Site.of(endpoint), "/metrics", application_id=application_id)
    except PeerError as error:
        return _unreachable(endpoint, str(error))
    if page.status != HTTPStatus.OK:
        return _unreachable(endpoint, f"HTTP status {page.status}")
    try:
        return _instance_of(endpoint, samples_of(page.body.decode()))
    except (ValueError, LookupError, OverflowError) as error:
        return _unreachable(endpoint, f"its metrics cannot be read: {error}")


def _unreachable(endpoint: Endpoint, reason: str) -> InstanceStatus:
    return InstanceStatus(str(endpoint), UNREACHABLE, endpoint=endpoint, reason=reason)


def _instance_of(endpoint: Endpoint, samples: Samples) -> InstanceStatus:
    """Reads an instance's metrics.

    Raises:
        ValueError: they are none; likewise LookupError and OverflowError.
    """
    states = [labels["state"] for labels, _ in samples.get("kafka_streams_client_state", ())]
    processed = _by_task(samples, "kafka_streams_task_process_total")
    lags = _by_task(samples, "kafka_streams_consumer_records_lag")
    # A task that becomes active while it is asked may be told of as both.
    filled = {
        is_standby: (
            _by_task(samples, f"kafka_streams_task_{verb}_total"),
            _by_task(samples, f"kafka_streams_task_{verb}_remaining_records"),
        )
        for is_standby, verb in ((False, "restore"), (True, "update"))
    }
    tasks = []
    for labels, _ in samples.get("kafka_streams_task_state", ()):
        task, is_standby = labels["task"], labels["state"] == STANDBY
        restored, remaining = filled[is_standby]
        tasks.append(
            TaskStatus(
                task,
                labels["state"],
                None if is_standby else processed.get(task),
                None if is_standby else lags.get(task),
                restored.get(task),
                remaining.get(task),
            )
        )
    if not states and not tasks:
        message = "they name no application"
        raise ValueError(message)
    state = states[0] if states else UNKNOWN
    return InstanceStatus(str(endpoint), state, tuple(_sorted(tasks)), endpoint)


def _by_task(samples: Samples, name: str) -> dict[str, int]:
    """Returns task -> the sum of its samples."""
    found: dict[str, int] = {}
    for labels, value in samples.get(name, ()):
        task = labels["task"]
        found[task] = found.get(task, 0) + int(value)
    return found


# -- from the group ------------------------------------------------------------------------


def of_group(
    group: GroupDescription, instances: Iterable[InstanceStatus] = ()
) -> ApplicationStatus:
    """Returns the status the broker tells, with what instances told of themselves.

    Args:
        group: the broker's description.
        instances: what was told by those that answer queries (`instance_at`).
    """
    told = {one.endpoint: one for one in instances}
    return ApplicationStatus(
        group.group_id,
        tuple(_member(member, told.get(member.endpoint)) for member in group.members),
        group.state,
    )


def _member(member: MemberDescription, told: InstanceStatus | None) -> InstanceStatus:
    if told is not None and told.state != UNREACHABLE:
        return replace(told, member_id=member.member_id)
    tasks = [
        TaskStatus(str(task), state)
        for state, ids in (
            ("active", member.tasks.active),
            (STANDBY, member.tasks.standby),
            ("warm-up", member.tasks.warmup),
        )
        for task in ids
    ]
    return InstanceStatus(
        name=str(member.endpoint or member.member_id),
        state=UNKNOWN if told is None else told.state,
        tasks=tuple(_sorted(tasks)),
        endpoint=member.endpoint,
        member_id=member.member_id,
        reason=None if told is None else told.reason,
    )


def _sorted(tasks: Iterable[TaskStatus]) -> list[TaskStatus]:
    """Sorts tasks by their numbers, 2_0 before 10_0."""

    def order(task: TaskStatus) -> tuple[int, int, str]:
        subtopology, _, partition = task.task_id.partition("_")
        return int(subtopology), int(partition), task.state

    return sorted(tasks, key=order)


# -- to people and programs ----------------------------------------------------------------


def rows_of(status: ApplicationStatus) -> list[Sequence[str]]:
    """Returns a row for each task, and one for an instance without; see `COLUMNS`."""
    rows: list[Sequence[str]] = []
    for instance in status.instances:
        name, state = instance.name, instance.state
        if not instance.tasks:
            rows.append((name, state, *[""] * (len(COLUMNS) - 2)))
        for task in instance.tasks:
            counts = (task.processed, task.lag, task.restored, task.remaining)
            told = ("" if count is None else f"{count:,}" for count in counts)
            rows.append((name, state, task.task_id, task.state, *told))
    return rows


def summary_of(status: ApplicationStatus) -> str:
    """Returns it all in one line."""
    count = len(status.instances)
    tasks = sum(len(one.tasks) for one in status.instances)
    parts = [f"{count} instance{'s' * (count != 1)}", f"{tasks} task{'s' * (tasks != 1)}"]
    if status.group_state is not None:
        parts.insert(0, f"group {status.group_state}")
    parts.append(f"lag {status.lag:,}")
    if status.remaining:
        parts.append(f"{status.remaining:,} to restore")
    lost = [one for one in status.instances if one.state == UNREACHABLE]
    parts += [f"{one.name} cannot be reached: {one.reason}" for one in lost]
    return f"{status.application_id}: " + " · ".join(parts)


def json_of(status: ApplicationStatus) -> Mapping[str, Any]:
    """Returns it as what JSON knows; what is not known is null."""
    return {
        "application_id": status.application_id,
        "group_state": status.group_state,
        "lag": status.lag,
        "remaining_restore_records": status.remaining,
        "instances": [
            {
                "endpoint": None if one.endpoint is None else str(one.endpoint),
                "member_id": one.member_id,
                "state": one.state,
                "reason": one.reason,
                "tasks": [
                    {
                        "task": task.task_id,
                        "state": task.state,
                        "processed_records": task.processed,
                        "lag": task.lag,
                        "restored_records": task.restored,
                        "remaining_restore_records": task.remaining,
                    }
                    for task in one.tasks
                ],
            }
            for one in status.instances
        ],
    }
