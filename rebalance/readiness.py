"""Whether the group can run, and which of its statuses stop the application.

Owns the consequences of the coordinator's statuses. It is pure: it takes statuses with `now_ms` and
returns events. It must not know membership: a member that is told to stop stays a member until it
leaves.

* Missing source topics may appear; if they are still missing after a while, it is an error.
* Partition counts that do not fit are an error at once: they do not mend themselves.
* A delayed assignment stops nobody who has tasks: newer brokers delay for a moment whenever
  they gather changes. (The JVM's member pauses then.)
* A status of a newer broker changes nothing.

Source: JVM `StreamsMembershipManager.isGroupReady`, `StreamThread.handleStreamsRebalanceData`
(KAFKA-19521, KAFKA-19978, KAFKA-20291, KAFKA-20744); kip1071 reference 2.1.
"""

from __future__ import annotations

from typing import Final

from thalweg.rebalance.errors import MissingTopicsError, RebalanceError, TopologyRefusedError
from thalweg.rebalance.events import (
    Event,
    Fatal,
    ShutdownRequested,
    StatusChanged,
)
from thalweg.rebalance.group_codes import Status, StatusCode

_NOT_READY: Final = frozenset(
    {
        StatusCode.MISSING_SOURCE_TOPICS,
        StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
        StatusCode.MISSING_INTERNAL_TOPICS,
    }
)

ENDS_THE_MEMBER: Final = frozenset({StatusCode.INCORRECTLY_PARTITIONED_TOPICS})
"""Statuses that are an error at once."""


class Readiness:
    """The statuses of one member's group. Not thread-safe: it belongs to its membership."""

    def __init__(self) -> None:
        self.statuses: tuple[Status, ...] = ()
        self.is_ready = True
        self._missing_since_ms: float | None = None
        self._reported: set[int] = set()
        self._has_shutdown = False

    def take(
        self, statuses: tuple[Status, ...], *, has_tasks: bool, missing_ms: float, now_ms: float
    ) -> list[Event]:
        """Takes in all statuses that hold now.

        Args:
            statuses: as the newest answer has them.
            has_tasks: whether the member is given tasks.
            missing_ms: how long source topics may be missing.
            now_ms: the time.

        Returns:
            What the owner has to hear; nothing that it has heard before and that still holds.
        """
        events: list[Event] = []
        codes = {status.code for status in statuses}
        is_waiting = StatusCode.ASSIGNMENT_DELAYED in codes and not has_tasks
        is_ready = not codes & _NOT_READY and not is_waiting
        if statuses != self.statuses or is_ready != self.is_ready:
            events.append(StatusChanged(statuses, is_ready))
        self.statuses, self.is_ready = statuses, is_ready
        self._reported &= codes
        if StatusCode.MISSING_SOURCE_TOPICS not in codes:
            self._missing_since_ms = None
        elif self._missing_since_ms is None:
            self._missing_since_ms = now_ms
        for status in statuses:
            error = self._error(status, missing_ms, now_ms)
            if error is not None and status.code not in self._reported:
                self._reported.add(status.code)
                events.append(Fatal(error))
        if StatusCode.SHUTDOWN_APPLICATION in codes and not self._has_shutdown:
            self._has_shutdown = True
            events.append(ShutdownRequested())
        return events

    def _error(self, status: Status, missing_ms: float, now_ms: float) -> RebalanceError | None:
        if status.code in ENDS_THE_MEMBER:
            return TopologyRefusedError(str(status))
        since_ms = self._missing_since_ms
        if status.code == StatusCode.MISSING_SOURCE_TOPICS and since_ms is not None:
            return MissingTopicsError(str(status)) if now_ms - since_ms >= missing_ms else None
        return None
