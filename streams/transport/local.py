"""The embedded log in a directory: what an application runs on without a broker.

Owns how a transport gets the log of a directory and returns it. Everything else is in
`streams.transport.log`.

Source: design 4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from thalweg.streams.clock import SystemClock
from thalweg.streams.transport.log.directory import (
    close_log,
    mount,
    open_log,
    unmount,
)
from thalweg.streams.transport.log.owner_server import Pages
from thalweg.streams.transport.log.transport import LogTransport


class LocalTransport(LogTransport):
    """A transport on the log in a directory; what it promises is told at `LogTransport`.

    A commit survives a loss of power; what was not committed is gone after a crash, as after
    `abort`. One process owns a directory. Within it any number of transports share the log:
    workers of several applications, producers, readers, each with its own thread. Producers and
    readers of other processes go through the owner: `streams.transport.through_owner`.

    Args:
        data_dir: the log's directory; made where it is missing.
        group: whose positions `commit` keeps, an application's id. None commits records only.
        default_partitions: partition count of topics that are created by sending to them.
        now_ms: wall clock, for records without a timestamp and for retention; None takes the
            machine's.

    Raises:
        StoreLockedError: another process owns the directory; says which and what to do.
        ConfigError: the directory cannot be used, is no log, or of a later version.
        BackendError: the rows cannot be opened, or the log failed and is still in use.
        CorruptDataError: the rows are damaged.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        data_dir: str | Path,
        group: str | None = None,
        *,
        default_partitions: int = 1,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        log = open_log(data_dir)
        try:
            super().__init__(
                log,
                group,
                default_partitions=default_partitions,
                now_ms=now_ms or SystemClock().now_ms,
            )
        except BaseException:
            close_log(log)
            raise
        self._is_released = False
        self._announced: list[str] = []

    def announce(self, application_id: str, pages: Callable[[], Pages]) -> None:
        """Lets other processes know of an application, and ask it, until the transport is closed.

        Args:
            application_id: its id.
            pages: makes what answers, when it is asked for the first time.
        """
        mount(self._log, application_id, pages)
        self._announced.append(application_id)

    def close(self) -> None:
        """Releases the transport; the last one of a directory closes the log."""
        super().close()
        if not self._is_released:
            self._is_released = True
            for application_id in self._announced:
                unmount(self._log, application_id)
            close_log(self._log)
