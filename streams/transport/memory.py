"""The embedded log without a directory: for tests and measurements.

Owns only the choice of the byte store: it follows the same rules as the log of
`streams.transport.local`, and ends with the process.
"""

from __future__ import annotations

from collections.abc import Callable

from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.streams.clock import SystemClock
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.log.transport import LogTransport


def memory_log() -> LocalLog:
    """Returns an empty log in memory, for the transports that are to share it."""
    return LocalLog(MemoryByteStore("log"), place="in memory")


class MemoryTransport(LogTransport):
    """A transport on a log in memory; what it promises is told at `LogTransport`.

    Args:
        log: the log, shared with other transports; None makes one of its own.
        group: whose positions `commit` keeps, an application's id. None commits records only.
        default_partitions: partition count of topics that are created by sending to them.
        now_ms: wall clock, for records without a timestamp and for retention; None takes the
            machine's.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        log: LocalLog | None = None,
        group: str | None = None,
        *,
        default_partitions: int = 1,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            memory_log() if log is None else log,
            group,
            default_partitions=default_partitions,
            now_ms=now_ms or SystemClock().now_ms,
        )
