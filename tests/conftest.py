"""What all tests start from."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Lets processes that tests start be interrupted.

    A shell that starts something in the background has it ignore SIGINT, and so all below it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
