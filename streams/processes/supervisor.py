"""The supervisor of worker processes: starts, restarts and stops them, and merges their output.

Owns the child processes of `thalweg run --workers N`: their start, their signals, their output.
`streams.processes.restart_policy` decides what their end means. It must not know what a worker
does.

Children are in sessions of their own, so that an interrupt typed at a terminal reaches only the
supervisor, which stops them in order. Each child holds the reading end of a pipe whose only writing
end is the supervisor's. If the supervisor ends, even by SIGKILL, the pipe closes and the child
stops itself cleanly (`stop_with_supervisor`).

The standard error of all children is one log: plain lines get the worker's number in front, JSON
lines get it as a member. Standard output is passed on line by line.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import IO, Final, NamedTuple, TypeAlias

from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.processes.restart_policy import (
    REFUSED,
    SHUT_DOWN,
    Ending,
    Outcome,
    RestartPolicy,
    Restarts,
)

SUPERVISOR_VARIABLE: Final = "_THALWEG_SUPERVISOR"
"""Environment variable that names the end of the pipe a child listens to."""

ORPHAN_STOP_SECONDS: Final = 15
"""How long a child may take to stop cleanly once its supervisor is gone."""

_OUTPUT_SECONDS: Final = 1
"""How long to wait for the rest of the output of a child that has ended; a process it has
started may hold its pipe open."""

Write: TypeAlias = Callable[[bytes], None]
"""Writes a whole line; called by several threads, one at a time."""

_log = logging.getLogger(__name__)


class _StopAsked(NamedTuple):
    """A signal asked for the stop."""

    signal: int


class _Exited(NamedTuple):
    """A child has ended."""

    worker: int
    code: int


_Event: TypeAlias = _StopAsked | _Exited


def supervise(
    command_of: Callable[[int], Sequence[str]],
    count: int,
    *,
    policy: RestartPolicy | None = None,
    clock: Clock | None = None,
    write_log: Write | None = None,
    write_output: Write | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs worker processes until they are done, are stopped, or crash too often.

    In the main thread SIGINT and SIGTERM stop all of them cleanly; a second one kills them.

    Args:
        command_of: worker's number, from 1 -> its command line.
        count: how many workers.
        policy: how many crashes are put up with, and how long the pauses after them are.
        clock: where time comes from.
        write_log: takes lines of the log; standard error if not given.
        write_output: takes lines of output; standard output if not given.
        environment: of the children; this process's own if not given.

    Returns:
        The exit code: 0 if all are done or were stopped cleanly.
    """
    supervisor = _Supervisor(
        command_of,
        Restarts(count, policy),
        clock or SystemClock(),
        write_log or _writer_to(sys.stderr),
        write_output or _writer_to(sys.stdout),
        dict(os.environ if environment is None else environment),
    )
    with _signals(supervisor.ask_to_stop):
        return supervisor.run()


class _Supervisor:
    """One run of `supervise`."""

    def __init__(
        self,
        command_of: Callable[[int], Sequence[str]],
        restarts: Restarts,
        clock: Clock,
        write_log: Write,
        write_output: Write,
        environment: Mapping[str, str],
    ) -> None:
        self._command_of = command_of
        self._restarts = restarts
        self._clock = clock
        self._write_log = write_log
        self._write_output = write_output
        self._environment = environment
        self._lock = threading.Lock()
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._pumps: list[threading.Thread] = []
        self._listening, self._alive = os.pipe()

    def ask_to_stop(self, signum: int) -> None:
        """Asks for the stop; a signal handler may call it."""
        self._events.put(_StopAsked(signum))

    def run(self) -> int:
        try:
            while True:
                decision = self._restarts.decide(self._clock.monotonic_ms())
                for worker in decision.starts:
                    self._start(worker)
                for workers, number in (
                    (decision.terminates, signal.SIGTERM),
                    (decision.kills, signal.SIGKILL),
                ):
                    for worker in workers:
                        self._children[worker].send_signal(number)
                if decision.exit_code is not None:
                    return decision.exit_code
                if not (decision.starts or decision.terminates or decision.kills):
                    self._handle_next(decision.wait_ms)
        finally:
            for child in self._children.values():
                child.kill()
            os.close(self._alive)
            os.close(self._listening)
            for pump in self._pumps:
                pump.join(_OUTPUT_SECONDS)

    def _handle_next(self, wait_ms: float | None) -> None:
        """Waits for the next event, and hands it on."""
        try:
            event = self._events.get(timeout=None if wait_ms is None else wait_ms / 1000)
        except Empty:
            return
        now_ms = self._clock.monotonic_ms()
        if isinstance(event, _StopAsked):
            _log.info("stopping the workers: %s", signal.Signals(event.signal).name)
            self._restarts.stop(now_ms)
            return
        del self._children[event.worker]
        outcome = self._restarts.exited(event.worker, event.code, now_ms)
        _log_end(event, outcome, self._restarts.policy)

    # -- children ------------------------------------------------------------------------

    def _start(self, worker: int) -> None:
        child = subprocess.Popen(  # noqa: S603 - the command is our own
            list(self._command_of(worker)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self._environment, SUPERVISOR_VARIABLE: str(self._listening)},
            pass_fds=(self._listening,),
            start_new_session=True,
        )
        self._children[worker] = child
        self._restarts.started(worker)
        assert child.stdout is not None
        assert child.stderr is not None
        pumps = [
            self._pump(child.stdout, self._write_output),
            self._pump(child.stderr, lambda line: self._write_log(numbered(line, worker))),
        ]
        self._pumps = [pump for pump in self._pumps if pump.is_alive()] + pumps
        threading.Thread(
            target=self._wait, args=(worker, child, pumps), name=f"worker-{worker}", daemon=True
        ).start()

    def _wait(
        self, worker: int, child: subprocess.Popen[bytes], pumps: Sequence[threading.Thread]
    ) -> None:
        code = child.wait()
        for pump in pumps:  # its last words come before what is said of its end
            pump.join(_OUTPUT_SECONDS)
        self._events.put(_Exited(worker, code))

    def _pump(self, stream: IO[bytes], write: Write) -> threading.Thread:
        def pump() -> None:
            is_heard = True
            with stream:
                for line in stream:
                    if not is_heard:
                        continue  # the child must not wait for a reader that has gone
                    try:
                        with self._lock:
                            write(line if line.endswith(b"\n") else line + b"\n")
                    except (OSError, ValueError):
                        is_heard = False

        thread = threading.Thread(target=pump, name="worker-output", daemon=True)
        thread.start()
        return thread


def numbered(line: bytes, worker: int) -> bytes:
    """Puts a worker's number into a line of its log: as a member of JSON, else in front."""
    if line.startswith(b'{"') and line.rstrip().endswith(b"}"):
        return b'{"worker":%d,' % worker + line[1:]
    return b"[%d] " % worker + line


def _log_end(exited: _Exited, outcome: Outcome, policy: RestartPolicy) -> None:
    worker, code = exited
    how = f"ended with exit code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"
    minutes = policy.window_ms / 60_000
    match outcome.ending:
        case Ending.DONE | Ending.STOPPED:
            _log.info("worker %d %s", worker, how)
        case Ending.RESTARTED:
            _log.warning(
                "worker %d %s; it is started again in %.1f s (crash %d of at most %d in %g minutes)",
                *(worker, how, outcome.pause_ms / 1000),
                *(outcome.crashes, policy.crashes_most, minutes),
            )
        case Ending.GIVEN_UP if code == REFUSED:
            _log.error(
                "worker %d cannot run as it is asked to, and says above why; all workers are "
                "stopped",
                worker,
            )
        case Ending.GIVEN_UP if code == SHUT_DOWN:
            _log.error("worker %d says that the whole application is to stop; it stops", worker)
        case Ending.GIVEN_UP:
            _log.error(
                "worker %d %s: %d crashes in %g minutes; all workers are stopped",
                *(worker, how, outcome.crashes, minutes),
            )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _writer_to(stream: IO[str]) -> Write:
    def write(line: bytes) -> None:
        stream.write(line.decode(errors="replace"))
        stream.flush()

    return write


@contextmanager
def _signals(ask_to_stop: Callable[[int], None]) -> Iterator[None]:
    """Hands SIGINT and SIGTERM to `ask_to_stop` while it lasts; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, _frame: FrameType | None) -> None:
        ask_to_stop(signum)

    before = {one: signal.signal(one, handle) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


# -- the child's side ----------------------------------------------------------------------


def stop_with_supervisor() -> bool:
    """Stops this process when the supervisor that started it is gone, however it went.

    It is sent SIGTERM, which is a clean stop, and SIGKILL when that takes too long. Does
    nothing in a process that no supervisor started.

    Returns:
        Whether this process has a supervisor.

    """
    # What this process starts in turn is none of the supervisor's children.
    listening = os.environ.pop(SUPERVISOR_VARIABLE, None)
    if listening is None:
        return False
    pipe = int(listening)
    os.set_inheritable(pipe, False)

    def listen() -> None:
        os.read(pipe, 1)  # nothing is ever written: it returns when the other end closes
        _log.warning("the process that started this worker has ended, so this worker stops too")
        os.kill(os.getpid(), signal.SIGTERM)
        SystemClock().sleep_ms(ORPHAN_STOP_SECONDS * 1000)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=listen, name="supervisor-watch", daemon=True).start()
    return True
