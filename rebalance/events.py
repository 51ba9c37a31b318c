"""The events that a member sends to its owner, the processing loop.

Owns the events and the owner's duty after each of them. They come in order. Only `Assigned` and
`Lost` must be acknowledged, each with the tasks that run then.

    Revoked    commit and close these tasks, with the identity of the moment
    Assigned   run exactly these tasks, then acknowledge: what is missing is taken away
    Lost       close all tasks without a commit, then acknowledge: nothing runs
    StatusChanged, ShutdownRequested, Refused, Fatal     nothing is owed

Source: JVM `StreamsRebalanceListener`, `StreamsRebalanceData`; kip1071 reference 3.5, 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from thalweg.rebalance.errors import RebalanceError
from thalweg.rebalance.group_codes import Status
from thalweg.rebalance.values import TaskAssignment, TaskId


@dataclass(frozen=True, slots=True)
class Revoked:
    """Active tasks to give up; comes right before the `Assigned` they are missing from.

    They are still this member's until that is acknowledged: their offsets can be committed,
    and must be, before it is.

    Attributes:
        tasks: the tasks.
    """

    tasks: frozenset[TaskId]


@dataclass(frozen=True, slots=True)
class Assigned:
    """The whole of what to run from now on.

    Attributes:
        number: tells this assignment from others; goes into the acknowledgement.
        tasks: the tasks.
    """

    number: int
    tasks: TaskAssignment


@dataclass(frozen=True, slots=True)
class Lost:
    """The tasks held so far are not this member's any more: no commit can reach them.

    Attributes:
        number: goes into the acknowledgement, before which the member does not join again.
        reason: for the log.
    """

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The coordinator says something else of the group than before.

    Attributes:
        statuses: all that hold now; none means that all is well.
        is_ready: whether the group assigns tasks.
    """

    statuses: tuple[Status, ...]
    is_ready: bool


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """A member asked all instances of the application to shut down."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker refuses heartbeats for a reason that people can mend; it is asked again.

    Attributes:
        error: what is refused and why.
    """

    error: RebalanceError


@dataclass(frozen=True, slots=True)
class Fatal:
    """The application cannot go on: close the tasks and stop.

    Attributes:
        error: why.
    """

    error: RebalanceError


Event: TypeAlias = Revoked | Assigned | Lost | StatusChanged | ShutdownRequested | Refused | Fatal
