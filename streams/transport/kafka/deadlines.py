"""Time limits of waiting for the brokers, and how a stop shortens them.

Owns the time limits of requests, transactions and closing, and the deadline of a stop. It must not
know the clients, nor what is waited for.

Source: design 2.5; JVM `StreamsConfig` (`default.api.timeout.ms`), `KafkaStreams.close`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from thalweg.streams.errors import BrokerError

REQUEST_MS: Final = 30_000
"""How long a question to the brokers may take; a broker restarts in less."""

HURRY_MS: Final = 6_000
"""How long anything waits for the brokers once the worker is to stop, all together: less than the
ten seconds a stop may take."""

HURRY_AWAY_MS: Final = 500
"""The same where no broker is to be reached: what it waits for does not come."""

STEP_MS: Final = 500
"""How long a call into librdkafka may block that can be made again to go on: a stop is noticed
in between."""

RETRY_MS: Final = 100
"""How long to pause before the same call is made again."""


class Reachable(Protocol):
    """What is known of the connection."""

    @property
    def is_away(self) -> bool:
        """Whether a connection broke, and nothing was answered since."""
        ...


class Deadlines:
    """How long the calls of one transport may wait.

    Args:
        monotonic_ms: a clock that never goes back.
        connection: tells whether the brokers are away.
        is_stopping: whether whoever opened the transport is about to stop.
    """

    def __init__(
        self,
        monotonic_ms: Callable[[], float],
        connection: Reachable,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._monotonic_ms = monotonic_ms
        self._connection = connection
        self._is_stopping = is_stopping
        self._hurried_ms: float | None = None
        self._has_given_up = False

    @property
    def is_hurried(self) -> bool:
        """Whether nothing may wait for long any more."""
        return self._hurried_ms is not None

    def hurry(self) -> None:
        """Lets nothing wait for long any more; see `Transport.hurry`. Any thread may call."""
        if not self._has_given_up:
            self._hurried_ms = self._monotonic_ms()

    def left_ms(self, deadline_ms: float) -> float:
        """Returns how long may be waited yet; less than 0 for not at all."""
        if self._hurried_ms is None and self._is_stopping():
            self.hurry()
        if self._hurried_ms is not None:
            most_ms = HURRY_AWAY_MS if self._connection.is_away else HURRY_MS
            deadline_ms = min(deadline_ms, self._hurried_ms + most_ms)
        return deadline_ms - self._monotonic_ms()

    def raise_hurried(self, what: str) -> None:
        """Raises BrokerError if there is a stop and it has waited long enough."""
        if self.left_ms(float("inf")) <= 0:
            self._has_given_up = True
            message = f"{what}: the brokers did not answer in the time a stop may take"
            raise BrokerError(message, retriable=True, is_away=True)
