"""The application: one topology, its settings, its life and its stores.

Owns the application's state and who hears of it, the thread the worker runs in, the opening
and closing of the transport, and what a failed worker means. It must not know how records
are processed.

    CREATED ──► REBALANCING ◄──► RUNNING
       │             │              │
       │             ├──────────────┴──► PENDING_ERROR ──► ERROR
       └─────────────┴─────────────────► PENDING_SHUTDOWN ──► NOT_RUNNING

Source: JVM `KafkaStreams`, KIP-671 (uncaught errors), KIP-834 (pause); kafka-streams A11.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypeVar, Unpack, overload
from uuid import UUID

from thalweg.rebalance.values import Endpoint, new_id
from thalweg.stores.api import ReadOnlyKeyValueStore, ReadOnlyWindowStore, ValueAndTimestamp
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.callables import arity, refuse_async, shown
from thalweg.stores.directory import StateDirectory
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.config import ENVIRONMENT_PREFIX, Settings, StreamsConfig
from thalweg.streams.consumer import Consumer
from thalweg.streams.error_handlers import error_name
from thalweg.streams.errors import (
    ApplicationShutdownError,
    AppStateError,
    BrokerError,
    ConfigError,
    ProcessingError,
    StoreNotReadyError,
    StreamsError,
)
from thalweg.streams.group.member import GroupMember
from thalweg.streams.loading import refuse_while_loading
from thalweg.streams.observe.metrics import Metric, collect
from thalweg.streams.producer import Producer
from thalweg.streams.queries.composite import QueryService
from thalweg.streams.queries.metadata import (
    NO_ENDPOINT,
    GroupView,
    KeyQueryMetadata,
    StoreDirectory,
    StreamsMetadata,
    endpoint_of,
)
from thalweg.streams.restore_listener import NOBODY, RestoreListener
from thalweg.streams.transport.opening import open_client_transport, open_transport
from thalweg.streams.transport.port import Transport
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.loop import Worker
from thalweg.streams.worker.progress import Progress
from thalweg.topology.dsl.builder import StreamsBuilder
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import subtopologies

if TYPE_CHECKING:
    from thalweg.streams.queries.http import QueryServer
    from thalweg.streams.transport.log.owner_server import Pages

K = TypeVar("K")
V = TypeVar("V")

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
    "upgrade_from",
    "ensure_explicit_internal_resource_naming",
)
"""Settings that shape the topology and cannot change behind it."""

_COLLECTOR_THRESHOLDS: Final = (100_000, 20, 50)

_log = logging.getLogger(__name__)


class State(Enum):
    """Where an application is in its life."""

    CREATED = "CREATED"
    REBALANCING = "REBALANCING"
    RUNNING = "RUNNING"
    PENDING_SHUTDOWN = "PENDING_SHUTDOWN"
    NOT_RUNNING = "NOT_RUNNING"
    PENDING_ERROR = "PENDING_ERROR"
    ERROR = "ERROR"

    @property
    def is_running_or_rebalancing(self) -> bool:
        """Whether the worker is alive and wanted."""
        return self in (State.REBALANCING, State.RUNNING)

    @property
    def has_finished(self) -> bool:
        """Whether nothing will happen any more."""
        return self in (State.NOT_RUNNING, State.ERROR)

    def may_become(self, new: State) -> bool:
        """Tells whether a step to `new` is legal."""
        return new in _MOVES[self]


_MOVES: Final[dict[State, frozenset[State]]] = {
    State.CREATED: frozenset({State.REBALANCING, State.PENDING_SHUTDOWN}),
    State.REBALANCING: frozenset({State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}),
    State.RUNNING: frozenset(
        {State.REBALANCING, State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}
    ),
    State.PENDING_SHUTDOWN: frozenset({State.NOT_RUNNING}),
    State.NOT_RUNNING: frozenset(),
    State.PENDING_ERROR: frozenset({State.ERROR}),
    State.ERROR: frozenset(),
}


class UncaughtResponse(Enum):
    """What to do when a worker died of an error."""

    REPLACE_WORKER = "replace_worker"
    """Start another one, from the last commit."""
    SHUTDOWN_CLIENT = "shutdown_client"
    """Stop this instance; the state becomes ERROR. The default."""
    SHUTDOWN_APPLICATION = "shutdown_application"
    """Stop all instances, which end in ERROR as this one. On the embedded log it is alone."""


StateListener: TypeAlias = Callable[[State, State], None]
"""Hears of a change of state: (new, old), outside any lock."""

UncaughtHandler: TypeAlias = Callable[[StreamsError], UncaughtResponse]
"""Decides what the death of a worker means."""


class App:
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
        open_transport: opens the application's log once more; whoever calls it closes it.

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
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._state = State.CREATED
        self._error: StreamsError | None = None
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._starter: threading.Thread | None = None
        self._server: QueryServer | None = None
        self._is_paused = False
        self._is_stopping = False
        self._is_run = False
        self._failed_workers = 0
        self._response: UncaughtResponse | None = None
        self._is_application_shut_down = False
        self._state_listener: StateListener | None = None
        self._restore_listener: RestoreListener = NOBODY
        self._uncaught_handler: UncaughtHandler = lambda _error: UncaughtResponse.SHUTDOWN_CLIENT
        self._queries = self._query_service()
        self._directory: StoreDirectory | None = None

    def __repr__(self) -> str:
        return f"App({self.config.application_id!r}, {self.state.name})"

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Changes settings before the start, as the command line does for a script's application.

        Args:
            settings: as for `StreamsConfig`; what is not given stays.

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
        self._queries = self._query_service()
        self._directory = None

    # -- state ---------------------------------------------------------------------------

    @property
    def application_id(self) -> str:
        """The application's id."""
        return self.config.application_id

    @property
    def state(self) -> State:
        """Where the application is in its life."""
        return self._state

    @property
    def error(self) -> StreamsError | None:
        """What the application died of, or what failed while it was closed; None otherwise."""
        return self._error

    def set_state_listener(self, listener: StateListener | None) -> None:
        """Sets who hears of changes of state; only before `start`.

        Raises:
            AppStateError: the application was started.
            TypeError: it is no plain function of two arguments.
        """
        self._refuse_started("set a state listener")
        if listener is not None:
            arity(listener, {2: "new, old"}, "set_state_listener()")
        self._state_listener = listener

    def set_restore_listener(self, listener: RestoreListener | None) -> None:
        """Sets who hears how stores are restored; only before `start`.

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
        """Sets who decides when a worker dies of an error; only before `start`.

        Raises:
            AppStateError: the application was started.
            TypeError: it is no plain function of one argument.
        """
        self._refuse_started("set the handler of uncaught errors")
        arity(handler, {1: "error"}, "set_uncaught_error_handler()")
        self._uncaught_handler = handler

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
        is_there = self._wait_for(*states, timeout=timeout)
        if not is_there:
            self._raise_failure()
        return is_there

    def _wait_for(self, *states: State, timeout: timedelta | None = None) -> bool:
        seconds = None if timeout is None else timeout.total_seconds()
        with self._changed:
            self._changed.wait_for(
                lambda: self._state in states or self._state.has_finished, seconds
            )
            return self._state in states

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise self._error

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
        while not self._state.has_finished:
            progress = self.progress()
            if progress is not None:
                # A worker that replaces another counts anew.
                first = progress.commits if first is None else min(first, progress.commits)
                if progress.is_idle and progress.commits >= first + _IDLE_COMMITS:
                    return True
            left_ms = _IDLE_WATCH_MS if end_ms is None else min(end_ms - now_ms(), _IDLE_WATCH_MS)
            if left_ms <= 0:
                break
            self._wait_for(timeout=timedelta(milliseconds=left_ms))
        self._raise_failure()
        return False

    def _refuse_started(self, what: str) -> None:
        if self._state is not State.CREATED:
            message = f"{what} before start(); the application is {self._state.name}"
            raise AppStateError(message)

    def _refuse_second_start(self) -> None:
        if self._state is not State.CREATED:
            message = (
                f"an application starts once, and this one is {self._state.name}: make a new App "
                "to run the topology again"
            )
            raise AppStateError(message)

    def _set_state(self, new: State) -> bool:
        """Makes a legal step and tells the listener; refuses steps out of a shutdown.

        Returns:
            Whether the state changed.
        """
        with self._changed:
            old = self._state
            if new is old or not old.may_become(new):
                return False
            self._state = new
            self._changed.notify_all()
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
                _run(worker, transport)
                self._close_server()
                self._refuse_second_start()
            if server is not None:
                server.start()
            thread.start()
        finally:
            self._starter = None

    def close(self, timeout: timedelta | None = None) -> bool:
        """Stops: finishes the record in hand, commits, closes stores and log.

        Closing again does nothing. From inside (a listener, user code) it only asks for the
        stop. It raises nothing that the application died of, nor what failed while it stopped:
        `error` has that, and the end of a `with` block raises it.

        Args:
            timeout: how long to wait; None waits for as long as it takes.

        Returns:
            Whether everything is closed.
        """
        self._is_stopping = True
        if self._state is State.CREATED:
            self._set_state(State.PENDING_SHUTDOWN)
            self._set_state(State.NOT_RUNNING)
            return True
        self._set_state(State.PENDING_SHUTDOWN)
        worker, thread = self._worker, self._thread
        if self._state is State.ERROR:
            self._close_server()
        if worker is not None:
            worker.stop()
        if thread is None or threading.current_thread() in (thread, self._starter):
            return self._state.has_finished
        if not self._wait_for(State.NOT_RUNNING, State.ERROR, timeout=timeout):
            return False
        thread.join(None if timeout is None else max(0.0, timeout.total_seconds()))
        if self._state is State.ERROR:
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

        The process is taken to be the application's own: Python's garbage collector is told to
        look less often, for records leave no cycles behind, and looking costs a tenth of the time.

        In the main thread SIGINT and SIGTERM stop it cleanly; a second one raises
        KeyboardInterrupt at once. In other threads signals are left alone.

        Brokers that are away at the start are waited for, for as long as it takes; the log says
        so now and then.

        Args:
            on_progress: called about ten times a second with what was done so far.

        Raises:
            StreamsError: what `start` raises, and what the application died of.
            KeyboardInterrupt: a second signal came during the clean stop.
        """
        refuse_while_loading("app.run()")
        asked: list[int] = []
        with _signals(asked, self._note_stopping), _calm_collector():
            self._refuse_second_start()
            self._is_run = True
            if not self._start_patiently(asked):
                return
            deadline_ms: float | None = None
            while not self._wait_for(timeout=timedelta(seconds=_WATCH_SECONDS)):
                if self._state.has_finished:
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
        self._raise_failure()

    def _note_stopping(self) -> None:
        self._is_stopping = True

    def _start_patiently(self, asked: Sequence[int]) -> bool:
        """Starts; waits for brokers that are away.

        Returns:
            Whether it is started; not if it was asked to stop before.
        """
        while not (asked or self._state.has_finished):
            try:
                self.start()
            except BrokerError as error:
                if not error.is_away:
                    raise
                if not self._is_stopping:
                    _log.warning("waiting for the brokers: %s", error)
                    self._wait_unless(lambda: bool(asked) or self._state.has_finished)
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
            self._raise_failure()
        elif self._error is not None and error is not self._error:
            error.add_note(f"The application had failed: {self._error}")

    def pause(self) -> None:
        """Stops processing and keeps everything else: tasks stay, restoration goes on.

        May be called before `start`: the application then restores and waits.
        """
        self._is_paused = True
        if self._worker is not None:
            self._worker.pause()

    def resume(self) -> None:
        """Goes on processing after `pause`."""
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
        if self._state is not State.CREATED and not self._state.has_finished:
            message = f"clean_up() needs a stopped application, it is {self._state.name}; close() it first"
            raise AppStateError(message)
        directory = StateDirectory(self.config.state_dir, self.application_id)
        try:
            directory.clean_up()
        finally:
            directory.close()

    # -- questions -----------------------------------------------------------------------

    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[False] = ...,
        timestamped: Literal[False] = ...,
        partition: int | None = ...,
    ) -> ReadOnlyKeyValueStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[False] = ...,
        timestamped: Literal[True],
        partition: int | None = ...,
    ) -> ReadOnlyKeyValueStore[K, ValueAndTimestamp[V]]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[True],
        timestamped: Literal[False] = ...,
        partition: int | None = ...,
    ) -> ReadOnlyWindowStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[True],
        timestamped: Literal[True],
        partition: int | None = ...,
    ) -> ReadOnlyWindowStore[K, ValueAndTimestamp[V]]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        windowed: bool | None = ...,
        timestamped: bool = ...,
        partition: int | None = ...,
    ) -> Any: ...
    def store(
        self,
        name: str,
        *,
        key: Any = None,
        value: Any = None,
        windowed: bool | None = None,
        timestamped: bool = False,
        partition: int | None = None,
    ) -> Any:
        """Returns the read-only face of a store, over all its partitions in this process.

        A key-value store reads as a dict does, and answers `get range reverse_range prefix_scan
        all reverse_all approximate_num_entries`, a window store `fetch fetch_all …`; see
        `ReadOnlyKeyValueStore` and `ReadOnlyWindowStore`. Reads never wait for the worker and see
        updates that are still in the record cache. The face may be kept: it follows tasks that
        move.

        With `key` and `value` a type checker knows what the face returns:
        `app.store("counts", key=str, value=int)` is a `ReadOnlyKeyValueStore[str, int]`.

        Args:
            name: name of the store, as in `count(name=…)`.
            key: the type of its keys, of a window store without the window. Goes with `value`.
            value: the type of its values, without the timestamp.
            windowed: whether it is a window store. Where types are given it is not, unless this
                says so; else either.
            timestamped: give values as `ValueAndTimestamp`, where the store keeps them so.
            partition: read this partition only, whether or not others are restored.

        Raises:
            UnknownStoreError: no such store; names those there are.
            TypeError: it is of another kind than `windowed` says, or its serdes read other
                types; or only one of `key` and `value` is given.
            StoreNotReadyError: not started, or restoring: ask again.
            StoreMovedError: the partition is not in this instance.
            AppStateError: the application was closed or has failed.
        """
        if (key is None) is not (value is None):
            message = f"store {name!r}: give both key= and value=, or neither"
            raise TypeError(message)
        if key is not None and windowed is None:
            windowed = False
        return self._queries.store(
            name,
            key=key,
            value=value,
            windowed=windowed,
            timestamped=timestamped,
            partition=partition,
        )

    @property
    def store_names(self) -> list[str]:
        """The names of the topology's stores, global ones among them."""
        return sorted({*self.topology.stores, *self.topology.global_stores})

    def store_builder(self, name: str) -> StoreBuilder:
        """Returns the description of a store: its kind, its serdes, how it is kept.

        Raises:
            UnknownStoreError: no such store; names those there are.
        """
        return self._queries.builder(name)

    @property
    def endpoint(self) -> Endpoint:
        """Where this instance answers queries over HTTP, host "" and port 0 where it does not.

        With port 0 in `application_server` the port is known once it is started.
        """
        server, address = self._server, self.config.application_server
        if server is not None:
            return server.endpoint
        return endpoint_of(address) if address else NO_ENDPOINT

    @property
    def directory(self) -> StoreDirectory:
        """Who has which store, by what is known of the group; see `group_view`."""
        directory = self._directory
        if directory is None:
            parts = subtopologies(self.topology, self.config.topology_config)
            directory = self._directory = StoreDirectory(self.topology, parts)
        return directory

    def group_view(self) -> GroupView:
        """Returns what this instance knows of its group now."""
        worker, endpoint = self._worker, self.endpoint
        if worker is None or not self._state.is_running_or_rebalancing:
            return GroupView(endpoint=endpoint)
        return worker.group_view(endpoint)

    def metadata_for_all(self) -> list[StreamsMetadata]:
        """Returns what each instance of the application has, as far as known; this one first.

        Instances whose `application_server` is not set are not known to others.

        Source: JVM `KafkaStreams.metadataForAllStreamsClients`.
        """
        return self.directory.instances(self.group_view())

    def metadata_for_store(self, name: str) -> list[StreamsMetadata]:
        """Returns the instances that have active partitions of a store.

        Raises:
            UnknownStoreError: no such store; names those there are.

        Source: JVM `KafkaStreams.streamsMetadataForStore`.
        """
        self._queries.builder(name)
        return [one for one in self.metadata_for_all() if name in one.store_names]

    def key_query_metadata(self, name: str, key: Any) -> KeyQueryMetadata:
        """Returns which instance has the row of a key, by the default partitioner.

        Args:
            name: the store.
            key: the key, as the store's serde takes it.

        Raises:
            UnknownStoreError: no such store; names those there are.
            SerializationError: the store cannot have such a key.

        Source: JVM `KafkaStreams.queryMetadataForKey`.
        """
        builder = self._queries.builder(name)
        assert builder.key_serde is not None
        raw_key = builder.key_serde.serializer(name)(key)
        return self.directory.key_metadata(name, raw_key, self.group_view())

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
        return self._is_application_shut_down

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

    def _query_service(self) -> QueryService:
        return QueryService(
            self.topology,
            self.config.default_key_serde,
            self.config.default_value_serde,
            self._faces,
        )

    def _faces(self, name: str, partition: int | None) -> Sequence[Any]:
        state, worker = self._state, self._worker
        if state is State.CREATED or (worker is None and state.is_running_or_rebalancing):
            message = f"store {name!r}: the application is not started; call start() first"
            raise StoreNotReadyError(message)
        if not state.is_running_or_rebalancing or worker is None:
            message = f"store {name!r}: the application is {state.name}"
            if self._error is not None:
                message += f", it failed: {self._error}"
            raise AppStateError(message) from self._error
        return worker.stores(name, partition)

    # -- the worker's thread -------------------------------------------------------------

    def _new_worker(self) -> tuple[Worker, Transport]:
        # `configure` may have changed the settings since the application was made.
        if self.config.bootstrap_servers is not None and not self._is_given_a_log:
            return self._new_group_worker()
        transport = self.open_transport()
        worker = self._worker_on(transport)
        if not self._is_given_a_log:
            self._announce(transport)
        return worker, transport

    def _announce(self, transport: Transport) -> None:
        """Lets other processes ask the application, through the log that this one owns."""
        from thalweg.streams.transport.local import LocalTransport  # noqa: PLC0415 - it is loaded by now

        def pages() -> Pages:
            # Its parts take a while to load: only an application that is asked waits for them.
            from thalweg.streams.queries.owner_pages import owner_pages  # noqa: PLC0415

            return owner_pages(self)

        if isinstance(transport, LocalTransport):
            transport.announce(self.application_id, pages)

    def _new_group_worker(self) -> tuple[Worker, Transport]:
        """Makes a worker that is a member of the application's group on a broker."""
        # Kafka's libraries take a while to load: only whoever uses them waits.
        from thalweg.streams.group.broker import BrokerMember  # noqa: PLC0415
        from thalweg.streams.transport.kafka.transport import KafkaTransport  # noqa: PLC0415

        config, clock = self.config, self._clock
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
                is_stopping=lambda: self._is_stopping,
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
                clock=self._clock,
                on_state=self._worker_state_changed,
                member=member,
                directory=directory,
                restore_listener=self._restore_listener,
                on_failure=self._ends_all,
            )
            if self._is_paused:
                worker.pause()
        except BaseException:
            transport.close()
            raise
        return worker

    def _worker_state_changed(self, new: WorkerState, _old: WorkerState) -> None:
        if new is WorkerState.RUNNING:
            self._set_state(State.RUNNING)
        elif new in (WorkerState.PARTITIONS_ASSIGNED, WorkerState.PARTITIONS_REVOKED):
            self._set_state(State.REBALANCING)

    def _work(self, worker: Worker, transport: Transport) -> None:
        """Runs workers until one stops or its error is not to be survived."""
        while True:
            self._response = None
            error = _run(worker, transport)
            if error is None:
                break
            self._failed_workers += 1
            response = self._response or self._answer_to(error)
            if response is not UncaughtResponse.REPLACE_WORKER:
                self._error = error
                # A failure while closing still ends as NOT_RUNNING, as in the JVM.
                self._set_state(State.PENDING_ERROR)
                break
            try:
                replaced = self._replaced_worker()
            except Exception as reopening:
                self._error = _as_streams_error(reopening)
                self._set_state(State.PENDING_ERROR)
                break
            if replaced is None:
                break
            worker, transport = replaced
            self._worker = worker
            if self._state is State.PENDING_SHUTDOWN:
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
        self._response = self._answer_to(_as_streams_error(error))
        return self._response is UncaughtResponse.SHUTDOWN_APPLICATION

    def _answer_to(self, error: StreamsError) -> UncaughtResponse:
        if isinstance(error, ApplicationShutdownError):
            # Whoever asked for it has answered for all.
            self._is_application_shut_down = True
            return UncaughtResponse.SHUTDOWN_CLIENT
        if not self._state.is_running_or_rebalancing:
            return UncaughtResponse.SHUTDOWN_CLIENT
        response: object = None
        try:
            response = self._uncaught_handler(error)
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
            self._is_application_shut_down = True
        if response is UncaughtResponse.REPLACE_WORKER:
            _log.error("a worker failed and is replaced: %s", error, exc_info=error)
            return response
        # `run` raises it to somebody; of an application in the background the log tells first.
        level = logging.DEBUG if self._is_run else logging.ERROR
        stops = "all instances stop" if self._is_application_shut_down else "the application stops"
        _log.log(
            level,
            "a worker failed, %s: %s",
            *(stops, error),
            exc_info=error,
            extra={"is_raised": True},
        )
        return response


def _run(worker: Worker, transport: Transport) -> StreamsError | None:
    """Runs a worker to its end, closes its log, returns what it died of."""
    failure: StreamsError | None = None
    try:
        worker.run()
    except BaseException as error:
        failure = _as_streams_error(error)
    try:
        transport.close()
    except Exception as error:
        failure = failure or _as_streams_error(error)
    return failure


def _as_streams_error(error: BaseException) -> StreamsError:
    if isinstance(error, StreamsError):
        return error
    wrapped = ProcessingError(f"{error_name(error)}: {error}")
    wrapped.__cause__ = error
    return wrapped


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Lets the garbage collector look at young objects a hundred times less often."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _signals(asked: list[int], tell: Callable[[], None]) -> Iterator[None]:
    """Notes SIGINT and SIGTERM in `asked` and tells it, while it lasts; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        tell()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
