"""Waiting for something to become true, with an end.

Owns how long any test waits for what has to happen. The end of a wait stops a hang and says nothing
of speed: a test that fails because a machine is busy is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HANG_S = 300.0
"""How long tests wait for what has to happen; less than `timeout` of pytest (`pyproject.toml`), so that
the message of the wait is seen."""

_PAUSE_S = 0.02


def wait_until(condition: Callable[[], T], within_s: float, what: str | Callable[[], str]) -> T:
    """Returns the condition's value as soon as it is true.

    Raises:
        TimeoutError: it was not true in time; the message has `what` was waited for.
    """
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise TimeoutError(f"not within {within_s:g} s: {said}")
        time.sleep(_PAUSE_S)
    return found


class Deadline:
    """One bound for several waits.

    Args:
        within_s: from now on.
    """

    def __init__(self, within_s: float) -> None:
        self._end = time.monotonic() + within_s

    @property
    def left_s(self) -> float:
        """What is left, 0 if it is over."""
        return max(0.0, self._end - time.monotonic())

    @property
    def left_ms(self) -> float:
        """What is left, 0 if it is over."""
        return 1_000 * self.left_s
