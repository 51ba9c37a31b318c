"""The thread of a worker: it opens the log, runs the worker, and closes both.

Owns the choice of a worker's log and of its kind of group membership by the settings. It must not
know the application's states, nor what a failed worker means.

Source: JVM `StreamThread.create`, `StreamThread.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from thalweg.rebalance.values import Endpoint, new_id
from thalweg.stores.directory import StateDirectory
from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import StreamsError
from thalweg.streams.group.member import GroupMember
from thalweg.streams.restore_listener import RestoreListener
from thalweg.streams.transport.port import Transport
from thalweg.streams.uncaught import as_streams_error
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.loop import Worker
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import subtopologies

if TYPE_CHECKING:
    from thalweg.streams.transport.log.owner_server import Pages


@dataclass(frozen=True, slots=True)
class WorkerOpening:
    """What a worker is opened with.

    Attributes:
        topology: what it runs.
        config: the application's settings.
        clock: where time comes from.
        open_transport: opens its log.
        is_given_a_log: whether `open_transport` is the user's, not the one the settings name.
        endpoint: where this instance answers queries, host "" where it does not.
        pages: answers other processes, through the log that this one owns.
        restore_listener: hears how stores are restored.
        is_paused: tells whether it begins paused, once it is opened.
        is_stopping: tells whether it is about to stop, so that nothing waits for long.
        on_state: hears of its states: (new, old).
        on_failure: hears of its death while it can still tell the others; returns whether all
            instances are to stop.
    """

    topology: Topology
    config: StreamsConfig
    clock: Clock
    open_transport: Callable[[], Transport]
    is_given_a_log: bool
    endpoint: Endpoint
    pages: Callable[[], Pages]
    restore_listener: RestoreListener
    is_paused: Callable[[], bool]
    is_stopping: Callable[[], bool]
    on_state: Callable[[WorkerState, WorkerState], None]
    on_failure: Callable[[BaseException], bool]

    def open(self) -> tuple[Worker, Transport]:
        """Opens a worker and its log; the log is to be closed after the worker.

        Raises:
            StoreLockedError: another process owns the log or the state directory.
            ConfigError: the settings name a log that cannot be opened.
            BrokerError: the brokers cannot be reached.
        """
        if self.config.bootstrap_servers is not None and not self.is_given_a_log:
            return self._group_worker()
        transport = self.open_transport()
        worker = self._worker_on(transport)
        if not self.is_given_a_log:
            self._announce(transport)
        return worker, transport

    def _announce(self, transport: Transport) -> None:
        """Lets other processes ask the application, through the log that this one owns."""
        from thalweg.streams.transport.local import LocalTransport  # noqa: PLC0415 - it is loaded by now

        if isinstance(transport, LocalTransport):
            transport.announce(self.config.application_id, self.pages)

    def _group_worker(self) -> tuple[Worker, Transport]:
        """Makes a worker that is a member of the application's group on a broker."""
        # Kafka's libraries take a while to load: only whoever uses them waits.
        from thalweg.streams.group.broker import BrokerMember  # noqa: PLC0415
        from thalweg.streams.transport.kafka.transport import KafkaTransport  # noqa: PLC0415

        config, clock = self.config, self.clock
        parts = subtopologies(self.topology, config.topology_config)
        directory = StateDirectory(config.state_dir, config.application_id)
        try:
            process_id = str(directory.process_id(lambda: UUID(new_id(clock.random))))
            host, port = self.endpoint
            member = BrokerMember(
                [part for part in parts if not part.is_global],
                config,
                clock,
                process_id=process_id,
                endpoint=Endpoint(host, port) if host else None,
            )
            transport = KafkaTransport(
                config,
                group=member,
                clock=clock,
                process_id=process_id,
                is_stopping=self.is_stopping,
            )
        except BaseException:
            directory.close()
            raise
        member.while_waiting(transport.hear)
        return self._worker_on(transport, member=member, directory=directory), transport

    def _worker_on(
        self,
        transport: Transport,
        *,
        member: GroupMember | None = None,
        directory: StateDirectory | None = None,
    ) -> Worker:
        try:
            worker = Worker(
                self.topology,
                self.config,
                transport,
                clock=self.clock,
                on_state=self.on_state,
                member=member,
                directory=directory,
                restore_listener=self.restore_listener,
                on_failure=self.on_failure,
            )
            if self.is_paused():
                worker.pause()
        except BaseException:
            transport.close()
            raise
        return worker


_ROOM_SLOTS = 20_000
"""Room for some 1,500 calls in each other.

CPython keeps frames in chunks of 16 KiB, about a hundred calls, and gives a chunk back to the
system as soon as it is left: a chain of operators that crosses the end of one maps and unmaps
memory for every record. A frame that wants so much stack gets a chunk of 256 KiB, whose rest is
for the calls below. A record through 100 operators takes half the time, through 200 four tenths
(17.5 → 9.0 µs and 40 → 17 µs, `bench growth --parts chain`); what is not used is not touched.
"""


def run_worker(worker: Worker, transport: Transport) -> StreamsError | None:
    """Runs a worker to its end, closes its log, returns what it died of."""
    failure: StreamsError | None = None
    try:
        worker.run()
    except BaseException as error:
        failure = as_streams_error(error)
    try:
        transport.close()
    except Exception as error:
        failure = failure or as_streams_error(error)
    return failure


run_worker.__code__ = run_worker.__code__.replace(co_stacksize=_ROOM_SLOTS)
