"""Exponential back-off: longer waits up to a bound, with jitter.

Owns only the rule; it must not know what is attempted. Randomness is an argument, so that a
simulation gets the same waits again.

Source: JVM `ExponentialBackoff`, KIP-580; KAFKA-19813 (jitter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

_JITTER: Final = 0.2
_DOUBLINGS_MAX: Final = 32
"""Keeps 2 ** attempts small in a member that retries for days."""


class Randomness(Protocol):
    """What is needed of a generator of random numbers."""

    def random(self) -> float:
        """Returns a number from [0, 1)."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """Returns a number of `k` random bits."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of `first_ms`, twice that, and so on up to `max_ms`, a fifth more or less.

    Attributes:
        first_ms: the wait after the first failure, more than 0.
        max_ms: no wait is longer.
    """

    first_ms: float = 100
    max_ms: float = 1_000

    def delay_ms(self, failures: int, randomness: Randomness) -> float:
        """Returns the wait after the given number of failures in a row; none after none."""
        if failures < 1:
            return 0
        doublings = min(failures - 1, _DOUBLINGS_MAX)
        spread = 1 - _JITTER + 2 * _JITTER * randomness.random()
        return min(self.max_ms, self.first_ms * float(1 << doublings) * spread)
