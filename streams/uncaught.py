"""Uncaught errors: what happens when a worker dies.

Owns the possible responses, the call of the handler, and the log message. It must not know workers:
the caller carries out the response.

Source: KIP-671 (uncaught errors), JVM `StreamsUncaughtExceptionHandler`; kafka-streams A11.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from thalweg.stores.callables import shown
from thalweg.streams.error_handlers import error_name
from thalweg.streams.errors import ApplicationShutdownError, ProcessingError, StreamsError

_log = logging.getLogger(__name__)


class UncaughtResponse(Enum):
    """What to do when a worker died of an error."""

    REPLACE_WORKER = "replace_worker"
    """Start another one, from the last commit."""
    SHUTDOWN_CLIENT = "shutdown_client"
    """Stop this instance; the state becomes ERROR. The default."""
    SHUTDOWN_APPLICATION = "shutdown_application"
    """Stop all instances, which end in ERROR as this one. On the embedded log it is alone."""


UncaughtHandler: TypeAlias = Callable[[StreamsError], UncaughtResponse]
"""Decides what the death of a worker means."""


class UncaughtErrors:
    """Asks the application's handler, and tells the log.

    Attributes:
        handler: who decides.
        is_raised: whether somebody is told by an exception too, as whoever called `run`.
        is_application_shut_down: whether all instances were asked to stop, by this one or by
            another.
    """

    def __init__(self) -> None:
        self.handler: UncaughtHandler = lambda _error: UncaughtResponse.SHUTDOWN_CLIENT
        self.is_raised = False
        self.is_application_shut_down = False

    def answer(self, error: StreamsError, *, is_wanted: bool) -> UncaughtResponse:
        """Returns what the death of a worker means.

        Args:
            error: what it died of.
            is_wanted: whether the application was to go on; only then the handler is asked.
        """
        if isinstance(error, ApplicationShutdownError):
            # Whoever asked for it has answered for all.
            self.is_application_shut_down = True
            return UncaughtResponse.SHUTDOWN_CLIENT
        if not is_wanted:
            return UncaughtResponse.SHUTDOWN_CLIENT
        response: object = None
        try:
            response = self.handler(error)
        except Exception:
            _log.exception("the handler of uncaught errors failed")
        if not isinstance(response, UncaughtResponse):
            _log.error(
                "the handler of uncaught errors returned %s; it must return an UncaughtResponse, "
                "and the application stops as if it were SHUTDOWN_CLIENT",
                shown(response),
            )
            response = UncaughtResponse.SHUTDOWN_CLIENT
        if response is UncaughtResponse.SHUTDOWN_APPLICATION:
            self.is_application_shut_down = True
        if response is UncaughtResponse.REPLACE_WORKER:
            _log.error("a worker failed and is replaced: %s", error, exc_info=error)
            return response
        # `run` raises it to somebody; of an application in the background the log tells first.
        level = logging.DEBUG if self.is_raised else logging.ERROR
        stops = "all instances stop" if self.is_application_shut_down else "the application stops"
        _log.log(
            level,
            "a worker failed, %s: %s",
            *(stops, error),
            exc_info=error,
            extra={"is_raised": True},
        )
        return response


def as_streams_error(error: BaseException) -> StreamsError:
    """Returns an error as one of ours: itself, or one that it is the cause of."""
    if isinstance(error, StreamsError):
        return error
    wrapped = ProcessingError(f"{error_name(error)}: {error}")
    wrapped.__cause__ = error
    return wrapped
