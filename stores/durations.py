"""Durations: a `timedelta` or milliseconds become milliseconds.

Owns the one rule by which a `timedelta` becomes milliseconds. Each caller checks its own limits
(negative, wrong type), so that the message can name the setting.

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
