"""Durations: lengths of time as users give them, and as they are kept.

Owns the one rule by which a `timedelta` becomes milliseconds. What a duration must not be (negative,
of another type) is said where it is taken, in the words of the setting.

Source: JVM `Duration.toMillis`, which leaves fractions of a millisecond out.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeAlias

Duration: TypeAlias = timedelta | int
"""A length of time: a `timedelta`, or an int of milliseconds."""

_MILLISECOND: Final = timedelta(milliseconds=1)


def to_ms(duration: Duration) -> int:
    """Returns a duration in milliseconds: whole ones of a `timedelta`, anything else as it is."""
    return duration // _MILLISECOND if isinstance(duration, timedelta) else duration
