"""The application: one topology with its settings, from start to end.

Owns the settings, the thread of the worker, the listeners of state changes, and how the application
starts, stops, pauses and replaces a failed worker. It must not know how records are processed.
Reads of stores, the states, uncaught errors and the signals of the process have their own modules:
`queries/store_questions`, `life`, `uncaught`, `own_process`. `worker_thread` opens and runs a
worker.

Source: JVM `KafkaStreams`, KIP-671 (uncaught errors), KIP-834 (pause); kafka-streams A11.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Unpack

from thalweg.rebalance.values import Endpoint
from thalweg.stores.callables import arity, refuse_async, shown
from thalweg.stores.directory import StateDirectory
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.config import ENVIRONMENT_PREFIX, Settings, StreamsConfig
from thalweg.streams.consumer import Consumer
from thalweg.streams.errors import AppStateError, BrokerError, ConfigError, StreamsError
from thalweg.streams.life import Life, State, StateListener
from thalweg.streams.loading import refuse_while_loading
from thalweg.streams.observe.metrics import Metric, collect
from thalweg.streams.own_process import calm_collector, stop_signals
from thalweg.streams.producer import Producer
from thalweg.streams.queries.application_stores import ApplicationStores
from thalweg.streams.queries.metadata import NO_ENDPOINT, endpoint_of
from thalweg.streams.queries.store_questions import StoreQuestions
from thalweg.streams.restore_listener import NOBODY, RestoreListener
from thalweg.streams.transport.opening import open_client_transport, open_transport
from thalweg.streams.transport.port import Transport
from thalweg.streams.uncaught import (
    UncaughtErrors,
    UncaughtHandler,
    UncaughtResponse,
    as_streams_error,
)
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.loop import Worker
from thalweg.streams.worker.progress import Progress
from thalweg.streams.worker_thread import WorkerOpening, run_worker
from thalweg.topology.dsl.builder import StreamsBuilder
from thalweg.topology.physical import Topology

if TYPE_CHECKING:
    from thalweg.streams.queries.http import QueryServer
    from thalweg.streams.transport.log.owner_server import Pages

CLOSE_TIMEOUT: Final = timedelta(seconds=10)
"""How long `run` waits for a clean stop after a signal."""

_WATCH_SECONDS: Final = 0.1
"""How often `run` looks up from waiting: bounds the answer to a signal, costs nothing."""

_BROKER_PAUSES: Final = 20
"""How many times `_WATCH_SECONDS` to wait before brokers that are away are looked for again: an
attempt itself takes up to ten seconds."""

_IDLE_COMMITS: Final = 2
"""Commits after which `Progress.is_idle` says nothing of the time before them."""

_IDLE_WATCH_MS: Final = 10
"""How often who waits for idleness looks."""

_READ_BY_BUILD: Final = (
    "topology_optimization",
    "process_may_change_keys",
    "processor_wrapper",
    "default_dsl_store",
    "upgrade_from",
    "ensure_explicit_internal_resource_naming",
)
"""Settings that shape the topology and cannot change behind it."""

_log = logging.getLogger(__name__)


class App(StoreQuestions):
    """A topology with its settings, ready to run.

    Without `bootstrap_servers` it runs on the embedded log under `data_dir`. All methods may
    be called from any thread.

    Args:
        topology: the topology, or the builder that makes it.
        config: the settings. Without it they are `settings`, the environment and the file
            THALWEG_CONFIG names, in this order of precedence.
        clock: where time comes from.
        transport: opens the log to run on, instead of the one the settings name.
        settings: as for `StreamsConfig`.

    Attributes:
        config: the settings.
        topology: the topology.
        open_transport: opens the application's log again; the caller closes it.

    Raises:
        ConfigError: a setting is unknown, missing or out of range.
        TopologyError: the topology cannot be built.
    """

    def __init__(
        self,
        topology: Topology | StreamsBuilder,
        *,
        config: StreamsConfig | None = None,
        clock: Clock | None = None,
        transport: Callable[[], Transport] | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        if config is not None and settings:
            message = f"give config= or settings, not both (got {', '.join(settings)})"
            raise TypeError(message)
        self.config = StreamsConfig.load(**settings) if config is None else config
        if isinstance(topology, StreamsBuilder):
            topology = topology.build(self.config)
        if not isinstance(topology, Topology):
            message = f"App needs a Topology or a StreamsBuilder, got {type(topology).__name__}"
            raise TypeError(message)
        self.topology = topology
        self._clock = clock or SystemClock()
        self._is_given_a_log = transport is not None
        self.open_transport = transport or (lambda: open_transport(self.config, self._clock))
        self._life = Life()
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._starter: threading.Thread | None = None
        self._server: QueryServer | None = None
        self._is_paused = False
        self._is_stopping = False
        self._failed_workers = 0
        self._response: UncaughtResponse | None = None
        self._state_listener: StateListener | None = None
        self._restore_listener: RestoreListener = NOBODY
        self._uncaught = UncaughtErrors()
        self._stores = self._application_stores()

    def __repr__(self) -> str:
        return f"App({self.config.application_id!r}, {self.state.name})"

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Changes settings before the start, as the command line does for a script's application.

        Args:
            settings: as for `StreamsConfig`; the others do not change.

        Raises:
            AppStateError: the application was started.
            ConfigError: a setting is unknown or out of range, or has shaped the topology already.
        """
        self._refuse_started("change settings")
        changed = self.config.replace(**settings)
        for name in _READ_BY_BUILD:
            if getattr(changed, name) != getattr(self.config, name):
                message = (
                    f"{name} cannot be changed any more: it was read when the topology was built; "
                    f"give it to App(…) or set {ENVIRONMENT_PREFIX}{name.upper()}"
                )
                raise ConfigError(message)
        self.config = changed
        self._stores = self._application_stores()

    # -- state ---------------------------------------------------------------------------

    @property
    def application_id(self) -> str:
        """The application's id."""
        return self.config.application_id

    @property
    def state(self) -> State:
        """Where the application is in its life."""
        return self._life.state

    @property
    def error(self) -> StreamsError | None:
        """What the application died of, or what failed while it was closed; None otherwise."""
        return self._life.error

    def set_state_listener(self, listener: StateListener | None) -> None:
        """Sets the listener of state changes; only before `start`.

        Raises:
            AppStateError: the application was started.
            TypeError: it is no plain function of two arguments.
        """
        self._refuse_started("set a state listener")
        if listener is not None:
            arity(listener, {2: "new, old"}, "set_state_listener()")
        self._state_listener = listener

    def set_restore_listener(self, listener: RestoreListener | None) -> None:
        """Sets the listener of restoration; only before `start`.

        Raises:
            AppStateError: the application was started.
        """
        self._refuse_started("set a restore listener")
        if isinstance(listener, type):
            message = (
                f"set_restore_listener() needs a listener, got {shown(listener)}; did you mean "
                f"{listener.__qualname__}()?"
            )
            raise TypeError(message)
        for name in (name for name in dir(RestoreListener) if name.startswith("on_")):
            refuse_async(getattr(listener, name, None), f"set_restore_listener(): {name}()")
        self._restore_listener = NOBODY if listener is None else listener

    def set_uncaught_error_handler(self, handler: UncaughtHandler) -> None:
        """Sets the handler that decides when a worker dies of an error; only before `start`.

        Raises:
            AppStateError: the application was started.
            TypeError: it is no plain function of one argument.
        """
        self._refuse_started("set the handler of uncaught errors")
        arity(handler, {1: "error"}, "set_uncaught_error_handler()")
        self._uncaught.handler = handler

    def wait_for(self, *states: State, timeout: timedelta | None = None) -> bool:
        """Waits until the application is in one of `states`, or has finished.

        Args:
            states: what to wait for; with none of them, its end.
            timeout: how long to wait; None waits for as long as it takes.

        Returns:
            Whether it is in one of them; False also if it was closed.

        Raises:
            StreamsError: what the application died of, unless its end is one of `states`.
        """
        is_there = self._life.wait_for(*states, timeout=timeout)
        if not is_there:
            self._life.raise_error()
        return is_there

    def wait_until_idle(self, timeout: timedelta | None = None) -> bool:
        """Waits until all that is in the log now is processed and committed.

        For tests, and for work that has an end. It shows at commits, two in a row after the
        call, so it takes twice `commit_interval_ms` at least. What other instances have to do is
        not seen.

        Args:
            timeout: how long to wait; None waits for as long as it takes.

        Returns:
            Whether it is so; False also if the application is closed.

        Raises:
            StreamsError: what the application died of.
        """
        now_ms = self._clock.monotonic_ms
        end_ms = None if timeout is None else now_ms() + timeout / timedelta(milliseconds=1)
        first: int | None = None
        while not self._life.state.has_finished:
            progress = self.progress()
            if progress is not None:
                # A worker that replaces another counts anew.
                first = progress.commits if first is None else min(first, progress.commits)
                if progress.is_idle and progress.commits >= first + _IDLE_COMMITS:
                    return True
            left_ms = _IDLE_WATCH_MS if end_ms is None else min(end_ms - now_ms(), _IDLE_WATCH_MS)
            if left_ms <= 0:
                break
            self._life.wait_for(timeout=timedelta(milliseconds=left_ms))
        self._life.raise_error()
        return False

    def _refuse_started(self, what: str) -> None:
        if self._life.state is not State.CREATED:
            message = f"{what} before start(); the application is {self._life.state.name}"
            raise AppStateError(message)

    def _refuse_second_start(self) -> None:
        if self._life.state is not State.CREATED:
            message = (
                f"an application starts once, and this one is {self._life.state.name}: make a new App "
                "to run the topology again"
            )
            raise AppStateError(message)

    def _set_state(self, new: State) -> bool:
        """Makes a legal step and tells the listener; refuses steps out of a shutdown.

        Returns:
            Whether the state changed.
        """
        old = self._life.move(new)
        if old is None:
            return False
        _log.info("application %s: %s -> %s", self.application_id, old.name, new.name)
        if self._state_listener is not None:
            try:
                self._state_listener(new, old)
            except Exception:  # whoever listens does not stop what they listen to
                _log.exception("the state listener failed at %s -> %s", old.name, new.name)
        return True

    # -- life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Opens log and state and starts processing in a thread of its own.

        With `application_server` it answers queries over HTTP from then on until it is closed,
        after a failure too.

        Raises:
            AppStateError: the application was started before; make a new one. Or a script is only
                being loaded, by a command that looks for its application.
            StoreLockedError: another process owns the log or the state directory.
            ConfigError: the settings name a log that cannot be opened, or an address that
                cannot be listened on.
        """
        self._start("app.start()")

    def _start(self, call: str) -> None:
        """Starts; `call` is how that was asked for."""
        refuse_while_loading(call)
        self._refuse_second_start()
        address = self.config.application_server
        server = self._new_server(address) if address else None
        # The group is told where queries are answered, so the worker may ask for it.
        self._server = server
        try:
            worker, transport = self._new_worker()
        except BaseException:
            self._close_server()
            raise
        thread = threading.Thread(
            target=self._work, args=(worker, transport), name=f"{self.application_id}-worker-1"
        )
        # Before the state says so: whoever closes from then on finds what to stop.
        self._worker, self._thread = worker, thread
        self._starter = threading.current_thread()
        try:
            if not self._set_state(State.REBALANCING):
                self._worker = self._thread = None
                worker.stop()
                run_worker(worker, transport)
                self._close_server()
                self._refuse_second_start()
            if server is not None:
                server.start()
            thread.start()
        finally:
            self._starter = None

    def close(self, timeout: timedelta | None = None) -> bool:
        """Stops: finishes the current record, commits, closes stores and log.

        Closing again does nothing. A call from inside (a listener, user code) only requests the
        stop. It raises neither the error that ended the application nor an error of the stop:
        `error` has it, and the end of a `with` block raises it.

        Args:
            timeout: how long to wait; None waits for as long as it takes.

        Returns:
            Whether everything is closed.
        """
        self._is_stopping = True
        if self._life.state is State.CREATED:
            self._set_state(State.PENDING_SHUTDOWN)
            self._set_state(State.NOT_RUNNING)
            return True
        self._set_state(State.PENDING_SHUTDOWN)
        worker, thread = self._worker, self._thread
        if self._life.state is State.ERROR:
            self._close_server()
        if worker is not None:
            worker.stop()
        if thread is None or threading.current_thread() in (thread, self._starter):
            return self._life.state.has_finished
        if not self._life.wait_for(State.NOT_RUNNING, State.ERROR, timeout=timeout):
            return False
        thread.join(None if timeout is None else max(0.0, timeout.total_seconds()))
        if self._life.state is State.ERROR:
            self._close_server()
        return not thread.is_alive()

    def _new_server(self, address: str) -> QueryServer:
        # An HTTP server takes a while to load: only who wants one waits for it.
        from thalweg.streams.queries.http import QueryServer  # noqa: PLC0415

        return QueryServer(address, self)

    def _close_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def run(self, *, on_progress: Callable[[Progress], None] | None = None) -> None:
        """Starts, and blocks until the application is closed or fails.

        The process is considered the application's own: Python's garbage collector runs less often,
        because records leave no cycles behind and each run costs time, a tenth of the whole.

        In the main thread SIGINT and SIGTERM stop it cleanly; a second one raises
        KeyboardInterrupt at once. In other threads signals are not changed.

        Brokers that are away at the start are waited for, for as long as it takes; the log says
        so now and then.

        Args:
            on_progress: called about ten times a second with the progress so far.

        Raises:
            StreamsError: what `start` raises, and what the application died of.
            KeyboardInterrupt: a second signal came during the clean stop.
        """
        refuse_while_loading("app.run()")
        asked: list[int] = []
        with stop_signals(asked, self._note_stopping), calm_collector():
            self._refuse_second_start()
            self._uncaught.is_raised = True
            if not self._start_patiently(asked):
                return
            deadline_ms: float | None = None
            while not self._life.wait_for(timeout=timedelta(seconds=_WATCH_SECONDS)):
                if self._life.state.has_finished:
                    break
                if on_progress is not None and (progress := self.progress()) is not None:
                    on_progress(progress)
                if not asked:
                    continue
                now_ms = self._clock.monotonic_ms()
                if deadline_ms is None:
                    deadline_ms = now_ms + CLOSE_TIMEOUT / timedelta(milliseconds=1)
                    self.close(timedelta(0))
                if len(asked) > 1 or now_ms > deadline_ms:
                    raise KeyboardInterrupt
            if self._thread is not None:
                self._thread.join()
            self._close_server()
        if on_progress is not None and (progress := self.progress()) is not None:
            on_progress(progress)
        self._life.raise_error()

    def _note_stopping(self) -> None:
        self._is_stopping = True

    def _start_patiently(self, asked: Sequence[int]) -> bool:
        """Starts; waits for brokers that are away.

        Returns:
            Whether it is started; not if it was asked to stop before.
        """
        while not (asked or self._life.state.has_finished):
            try:
                self.start()
            except BrokerError as error:
                if not error.is_away:
                    raise
                if not self._is_stopping:
                    _log.warning("waiting for the brokers: %s", error)
                    self._wait_unless(lambda: bool(asked) or self._life.state.has_finished)
            else:
                return True
        self.close()
        return False

    def _wait_unless(self, is_over: Callable[[], bool]) -> None:
        """Pauses before the next attempt to reach the brokers."""
        for _ in range(_BROKER_PAUSES):
            if is_over():
                break
            self._clock.sleep_ms(_WATCH_SECONDS * 1000)

    def __enter__(self) -> Self:
        """Starts the application."""
        self._start("with app:")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the application and raises what it died of.

        An error of the block comes first: a note on it tells of the application's.
        """
        self.close()
        if error is None:
            self._life.raise_error()
        elif self._life.error is not None and error is not self._life.error:
            error.add_note(f"The application had failed: {self._life.error}")

    def pause(self) -> None:
        """Stops processing and nothing else: tasks stay open, restoration continues.

        May be called before `start`: the application then restores and waits.
        """
        self._is_paused = True
        if self._worker is not None:
            self._worker.pause()

    def resume(self) -> None:
        """Resumes processing after `pause`."""
        self._is_paused = False
        if self._worker is not None:
            self._worker.resume()

    @property
    def is_paused(self) -> bool:
        """Whether `pause` was called last."""
        return self._is_paused

    def clean_up(self) -> None:
        """Deletes the application's local state; it is restored from changelogs at the start.

        Raises:
            AppStateError: the application is running, or its script is only being loaded.
            StoreLockedError: another process uses the state.
        """
        refuse_while_loading("app.clean_up()")
        if self._life.state is not State.CREATED and not self._life.state.has_finished:
            message = f"clean_up() needs a stopped application, it is {self._life.state.name}; close() it first"
            raise AppStateError(message)
        directory = StateDirectory(self.config.state_dir, self.application_id)
        try:
            directory.clean_up()
        finally:
            directory.close()

    # -- what it tells -------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """Where this instance answers queries over HTTP; host "" and port 0 if it does not.

        With port 0 in `application_server` the port is known once it is started.
        """
        server, address = self._server, self.config.application_server
        if server is not None:
            return server.endpoint
        return endpoint_of(address) if address else NO_ENDPOINT

    def progress(self) -> Progress | None:
        """Returns what the worker has done so far, None before the start."""
        worker = self._worker
        return None if worker is None else worker.progress()

    def metrics(self) -> list[Metric]:
        """Collects all metrics now, by the JVM's groups and names."""
        return collect(self, self._worker)

    def metrics_text(self) -> str:
        """Returns all metrics in Prometheus' text form."""
        from thalweg.streams.observe.prometheus import render_prometheus  # noqa: PLC0415 - as the server

        return render_prometheus(self.metrics(), with_process=True)

    @property
    def alive_worker_count(self) -> int:
        """How many workers of this process are running."""
        thread = self._thread
        return int(thread is not None and thread.is_alive())

    @property
    def is_application_shut_down(self) -> bool:
        """Whether all instances were asked to stop, by this one or by another."""
        return self._uncaught.is_application_shut_down

    @property
    def failed_worker_count(self) -> int:
        """How many workers of this process died of an error."""
        return self._failed_workers

    def producer(self) -> Producer:
        """Returns a producer that writes to this application's log, with its default serdes.

        It may be used before, while and after the application runs, here or in another process;
        one per thread; close it.

        Raises:
            ConfigError: the settings name a log that cannot be opened.
            StoreLockedError: another process owns the embedded log and does not answer.
        """
        return Producer(self.config, transport=self._open_client_transport)

    def consumer(self) -> Consumer:
        """Returns a consumer of topics of this application's log, with its default serdes.

        It may be used before, while and after the application runs, here or in another process;
        one per thread; close it. It is not part of the application: nothing is committed.

        Raises:
            ConfigError: the settings name a log that cannot be opened.
            StoreLockedError: another process owns the embedded log and does not answer.
        """
        return Consumer(self.config, transport=self._open_client_transport)

    def _open_client_transport(self) -> Transport:
        if self._is_given_a_log:
            return self.open_transport()
        return open_client_transport(self.config, self._clock)

    def _application_stores(self) -> ApplicationStores:
        return ApplicationStores(
            self.topology, self.config, self._life, lambda: self._worker, lambda: self.endpoint
        )

    # -- the worker's thread -------------------------------------------------------------

    def _new_worker(self) -> tuple[Worker, Transport]:
        # `configure` may have changed the settings since the application was made.
        return WorkerOpening(
            topology=self.topology,
            config=self.config,
            clock=self._clock,
            open_transport=self.open_transport,
            is_given_a_log=self._is_given_a_log,
            endpoint=self.endpoint,
            pages=self._pages,
            restore_listener=self._restore_listener,
            is_paused=lambda: self._is_paused,
            is_stopping=lambda: self._is_stopping,
            on_state=self._worker_state_changed,
            on_failure=self._ends_all,
        ).open()

    def _pages(self) -> Pages:
        # Its parts take a while to load: only an application that is asked waits for them.
        from thalweg.streams.queries.owner_pages import owner_pages  # noqa: PLC0415

        return owner_pages(self)

    def _worker_state_changed(self, new: WorkerState, _old: WorkerState) -> None:
        if new is WorkerState.RUNNING:
            self._set_state(State.RUNNING)
        elif new in (WorkerState.PARTITIONS_ASSIGNED, WorkerState.PARTITIONS_REVOKED):
            self._set_state(State.REBALANCING)

    def _work(self, worker: Worker, transport: Transport) -> None:
        """Runs workers until one stops or its error is not to be survived."""
        while True:
            self._response = None
            error = run_worker(worker, transport)
            if error is None:
                break
            self._failed_workers += 1
            response = self._response or self._answer_to(error)
            if response is not UncaughtResponse.REPLACE_WORKER:
                self._life.error = error
                # A failure while closing still ends as NOT_RUNNING, as in the JVM.
                self._set_state(State.PENDING_ERROR)
                break
            try:
                replaced = self._replaced_worker()
            except Exception as reopening:
                self._life.error = as_streams_error(reopening)
                self._set_state(State.PENDING_ERROR)
                break
            if replaced is None:
                break
            worker, transport = replaced
            self._worker = worker
            if self._life.state is State.PENDING_SHUTDOWN:
                worker.stop()
        self._set_state(State.PENDING_SHUTDOWN)
        if not self._set_state(State.ERROR):
            self._close_server()
            self._set_state(State.NOT_RUNNING)

    def _replaced_worker(self) -> tuple[Worker, Transport] | None:
        """Makes another worker, when the brokers are there; None if all is to stop before."""
        while not self._is_stopping:
            try:
                return self._new_worker()
            except BrokerError as error:
                if not error.is_away:
                    raise
                _log.warning("waiting for the brokers: %s", error)
                self._wait_unless(lambda: self._is_stopping)
        return None

    def _ends_all(self, error: BaseException) -> bool:
        """Asks what a worker's death means while it can still tell the others."""
        self._response = self._answer_to(as_streams_error(error))
        return self._response is UncaughtResponse.SHUTDOWN_APPLICATION

    def _answer_to(self, error: StreamsError) -> UncaughtResponse:
        return self._uncaught.answer(error, is_wanted=self._life.state.is_running_or_rebalancing)
