"""What all tests start from."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# How long an example takes says nothing about it on a machine that is busy with other work.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Lets processes that tests start be interrupted.

    A shell that starts something in the background has it ignore SIGINT, and so all below it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
