"""Workers in threads of their own, on a log in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.unit.streams.running import SOON, Log, string
from tests.waiting import HANG_S
from thalweg import (
    Processor,
    ProcessorContext,
    Record,
    StreamsBuilder,
)
from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.group.member import GroupMember
from thalweg.streams.transport.port import Transport
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.loop import Worker

NOW_MS = 1_000_000_000


def worker_of(
    builder: StreamsBuilder,
    log: Log,
    state_dir: Path,
    *,
    clock: Clock | None = None,
    on_state: Callable[[WorkerState, WorkerState], None] | None = None,
    transport: Transport | None = None,
    member: GroupMember | None = None,
    on_failure: Callable[[BaseException], bool] = lambda _error: False,
    **settings: Any,
) -> Worker:
    """Returns a worker on a log in memory; whoever asks runs it."""
    given = {
        "application_id": "app",
        "state_dir": state_dir,
        "default_key_serde": string,
        "default_value_serde": string,
        "default_partitions": log.default_partitions,
        "commit_interval_ms": 10,
        "poll_ms": 5,
        **settings,
    }
    config = StreamsConfig(**given)
    return Worker(
        builder.build(config),
        config,
        transport or log.transport("app"),
        clock=clock,
        on_state=on_state,
        member=member,
        on_failure=on_failure,
    )


class Running:
    """A worker in a thread of its own."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="worker under test")

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def until(self, condition: Callable[[], bool], what: str = "it") -> None:
        """Waits for a condition, as long as the worker lives."""
        never = threading.Event()
        for _ in range(int(HANG_S / 0.002)):
            if condition():
                return
            if not self.thread.is_alive():
                break
            never.wait(0.002)
        if condition():
            return
        raise AssertionError(f"{what} did not happen: {self.worker.state} {self.error!r}")

    def stop(self) -> None:
        """Stops it and raises what it died of."""
        self.worker.stop()
        self.ended()

    def ended(self) -> None:
        """Waits for its end and raises what it died of."""
        self.thread.join(SOON.total_seconds())
        assert not self.thread.is_alive(), "the worker does not stop"
        if self.error is not None:
            raise self.error


@contextmanager
def running(worker: Worker) -> Iterator[Running]:
    """Runs a worker, and stops it at the end of a test that went well."""
    run = Running(worker)
    run.thread.start()
    try:
        yield run
    except BaseException:
        worker.stop()
        run.thread.join(SOON.total_seconds())
        raise
    run.stop()


class Each(Processor[str, str, str, str]):
    """Calls a function with context and record, then forwards the record."""

    def __init__(
        self, work: Callable[[ProcessorContext[str, str], Record[str, str]], None]
    ) -> None:
        self._work = work

    def process(self, record: Record[str, str]) -> None:
        self._work(self.context, record)
        self.context.forward(record)


def each(
    work: Callable[[ProcessorContext[str, str], Record[str, str]], None], **options: Any
) -> StreamsBuilder:
    """Returns a topology that does something with each record."""
    builder = StreamsBuilder()
    builder.stream("in", **options).process(lambda: Each(work), name="each").to("out")
    return builder


def nothing(_context: Any, _record: Any) -> None:
    """Does nothing."""
