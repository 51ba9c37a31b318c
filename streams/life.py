"""The states of an application: the legal transitions, and waiting for a state.

Owns the state, the error that ended the application, and the waiting for a state. It must not know
what the application does in a state, nor who listens to changes.

    CREATED ──► REBALANCING ◄──► RUNNING
       │             │              │
       │             ├──────────────┴──► PENDING_ERROR ──► ERROR
       └─────────────┴─────────────────► PENDING_SHUTDOWN ──► NOT_RUNNING

Source: JVM `KafkaStreams.State`; kafka-streams A11.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias

from thalweg.streams.errors import StreamsError


class State(Enum):
    """Where an application is in its life."""

    CREATED = "CREATED"
    REBALANCING = "REBALANCING"
    RUNNING = "RUNNING"
    PENDING_SHUTDOWN = "PENDING_SHUTDOWN"
    NOT_RUNNING = "NOT_RUNNING"
    PENDING_ERROR = "PENDING_ERROR"
    ERROR = "ERROR"

    @property
    def is_running_or_rebalancing(self) -> bool:
        """Whether the worker is alive and wanted."""
        return self in (State.REBALANCING, State.RUNNING)

    @property
    def has_finished(self) -> bool:
        """Whether nothing will happen any more."""
        return self in (State.NOT_RUNNING, State.ERROR)

    def may_become(self, new: State) -> bool:
        """Tells whether a step to `new` is legal."""
        return new in _MOVES[self]


_MOVES: Final[dict[State, frozenset[State]]] = {
    State.CREATED: frozenset({State.REBALANCING, State.PENDING_SHUTDOWN}),
    State.REBALANCING: frozenset({State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}),
    State.RUNNING: frozenset(
        {State.REBALANCING, State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}
    ),
    State.PENDING_SHUTDOWN: frozenset({State.NOT_RUNNING}),
    State.NOT_RUNNING: frozenset(),
    State.PENDING_ERROR: frozenset({State.ERROR}),
    State.ERROR: frozenset(),
}


StateListener: TypeAlias = Callable[[State, State], None]
"""Hears of a change of state: (new, old), outside any lock."""


class Life:
    """The state of one application. Any thread may ask and change it.

    Attributes:
        state: where the application is in its life.
        error: what it died of, or what failed while it was closed; None otherwise.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.state = State.CREATED
        self.error: StreamsError | None = None

    def move(self, new: State) -> State | None:
        """Makes a legal step; refuses steps out of a shutdown.

        Returns:
            The state before; None where it did not change.
        """
        with self._changed:
            old = self.state
            if new is old or not old.may_become(new):
                return None
            self.state = new
            self._changed.notify_all()
        return old

    def wait_for(self, *states: State, timeout: timedelta | None = None) -> bool:
        """Waits until the application is in one of `states`, or has finished.

        Returns:
            Whether it is in one of them.
        """
        seconds = None if timeout is None else timeout.total_seconds()
        with self._changed:
            self._changed.wait_for(lambda: self.state in states or self.state.has_finished, seconds)
            return self.state in states

    def raise_error(self) -> None:
        """Raises what the application died of, if it did."""
        if self.error is not None:
            raise self.error
