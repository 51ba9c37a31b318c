"""The actions that a membership demands: heartbeats to send, and others.

Owns the input and output values of `membership`. It must not know when or why.

Source: kip1071 reference 1.3, 1.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from thalweg.rebalance.events import Event
from thalweg.rebalance.group_codes import Status
from thalweg.rebalance.values import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    NO_ENDPOINT_EPOCH,
    Endpoint,
    EndpointPartitions,
    TaskAssignment,
)

DEFAULT_INTERVAL_MS: Final = 5_000
"""Between heartbeats until the broker says otherwise: its own default."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What one heartbeat says.

    Attributes:
        number: goes into the answer, which counts for this heartbeat only.
        epoch: the member epoch, 0 to join, -1 to leave.
        endpoint_epoch: of the newest end points known, -1 for none.
        owned: all tasks that run, None where that is not said again.
        is_shutting_down: asks all instances of the application to shut down.
        tells_endpoint: says where queries are answered, if they are.
    """

    number: int
    epoch: int
    endpoint_epoch: int = NO_ENDPOINT_EPOCH
    owned: TaskAssignment | None = None
    is_shutting_down: bool = False
    tells_endpoint: bool = False

    @property
    def is_joining(self) -> bool:
        """Whether it asks to be let in."""
        return self.epoch == JOIN_EPOCH

    @property
    def is_leaving(self) -> bool:
        """Whether it says good-bye."""
        return self.epoch == LEAVE_EPOCH


@dataclass(frozen=True, slots=True)
class Answer:
    """What the coordinator says to a heartbeat it accepts.

    Attributes:
        epoch: the member epoch from now on, negative to a good-bye.
        interval_ms: time between heartbeats, 0 where that does not matter.
        endpoint_epoch: of its end points.
        statuses: all that hold.
        tasks: all tasks to run, None where that did not change.
        endpoints: who has what, None where that did not change.
    """

    epoch: int
    interval_ms: int = DEFAULT_INTERVAL_MS
    endpoint_epoch: int = NO_ENDPOINT_EPOCH
    statuses: tuple[Status, ...] = ()
    tasks: TaskAssignment | None = None
    endpoints: Mapping[Endpoint, EndpointPartitions] | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand these events to the owner, in order."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class FindCoordinator:
    """Look the group's coordinator up; answer `coordinator_found` or `coordinator_failed`."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a heartbeat; answer `answered`, `refused` or `failed`, whatever comes of it."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask what the group says of this member; answer `described`, with None if it cannot tell."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until `until_ms`, or until something happens where that is None."""

    until_ms: float | None = None


Action: TypeAlias = Tell | FindCoordinator | Send | Describe | Wait
