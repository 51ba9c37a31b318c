"""When to start a worker process again, and when to give up: decisions without processes.

Owns what the end of each worker means, the pause before it is started again, the order of a stop,
and the exit code of the whole. It takes events with their times and returns what to do. It must not
know what a process is; `streams.processes.supervisor` acts.

    waiting ──► running ──► done                 it ended by itself: all is processed
       ▲           │
       └── pause ──┤ crashed                     1 s, 2 s, 4 s, … 30 s
                   └──► too often, or refused    all others are stopped

    stop: ask all ──► time-out ──► kill          a second request kills at once

Source: as a process supervisor of an operating system has it; exit codes of `thalweg run`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
"""The application cannot run as it is asked to: trying again changes nothing."""
SHUT_DOWN: Final = 4
"""An instance of the application asked all of them to stop."""
STOPPED_AT_ONCE: Final = 130


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How many crashes are put up with, and how long the pauses after them are.

    Attributes:
        pause_ms: before the first restart; doubled for each further crash in the window.
        pause_most_ms: the longest pause.
        window_ms: crashes older than this are forgotten.
        crashes_most: crashes of one worker in the window that are put up with.
        stop_ms: how long a clean stop may take.
    """

    pause_ms: float = 1_000
    pause_most_ms: float = 30_000
    window_ms: float = 600_000
    crashes_most: int = 5
    stop_ms: float = 15_000


class Ending(Enum):
    """What the end of a worker meant."""

    DONE = "done"
    """It ended by itself, having done everything."""
    STOPPED = "stopped"
    """It was asked to."""
    RESTARTED = "restarted"
    """It crashed and is started again."""
    GIVEN_UP = "given up"
    """It crashed too often, cannot run at all, or all are to stop; the others are stopped."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from the end of a worker.

    Attributes:
        ending: what it meant.
        pause_ms: until it is started again.
        crashes: how often it crashed in the window.
    """

    ending: Ending
    pause_ms: float = 0
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Attributes:
        starts: workers to start.
        terminates: workers to ask to stop; each is asked once.
        kills: workers to kill; each is told once.
        wait_ms: how long nothing else needs to be done, unless something happens; None for ever.
        exit_code: the end, once no worker is left; None before.
    """

    starts: tuple[int, ...] = ()
    terminates: tuple[int, ...] = ()
    kills: tuple[int, ...] = ()
    wait_ms: float | None = None
    exit_code: int | None = None


@dataclass(slots=True)
class _Worker:
    """What is known of one worker."""

    start_ms: float | None = 0
    """When to start it; None while it runs and when it is done."""
    is_running: bool = False
    is_asked_to_stop: bool = False
    is_killed: bool = False
    crashes_ms: list[float] = field(default_factory=list)


class Restarts:
    """Decides about some workers, numbered from 1. Not thread-safe.

    Args:
        count: how many workers.
        policy: how many crashes are put up with.

    Attributes:
        policy: the same.
    """

    def __init__(self, count: int, policy: RestartPolicy | None = None) -> None:
        self.policy = policy or RestartPolicy()
        self._workers = {number: _Worker() for number in range(1, count + 1)}
        self._exit_code = DONE
        self._stop_deadline_ms: float | None = None

    # -- what happens --------------------------------------------------------------------

    def started(self, number: int) -> None:
        """Notes that a worker runs."""
        worker = self._workers[number]
        worker.is_running, worker.start_ms = True, None

    def exited(self, number: int, code: int, now_ms: float) -> Outcome:
        """Notes that a worker ended.

        Args:
            number: the worker.
            code: its exit code, negative for a signal that ended it.
            now_ms: a time that never goes back.
        """
        worker = self._workers[number]
        worker.is_running = False
        if self._stop_deadline_ms is not None:
            self._note_stopped(worker, code)
            return Outcome(Ending.STOPPED)
        if code == DONE:
            return Outcome(Ending.DONE)
        policy = self.policy
        worker.crashes_ms = [at for at in worker.crashes_ms if at > now_ms - policy.window_ms]
        worker.crashes_ms.append(now_ms)
        crashes = len(worker.crashes_ms)
        if code in (REFUSED, SHUT_DOWN) or crashes > policy.crashes_most:
            self._exit_code = code if code > 0 else FAILED
            self._begin_stop(now_ms)
            return Outcome(Ending.GIVEN_UP, crashes=crashes)
        pause_ms = min(policy.pause_ms * 2 ** (crashes - 1), policy.pause_most_ms)
        worker.start_ms = now_ms + pause_ms
        return Outcome(Ending.RESTARTED, pause_ms, crashes)

    def _note_stopped(self, worker: _Worker, code: int) -> None:
        if worker.is_killed or code == STOPPED_AT_ONCE:
            self._exit_code = self._exit_code or STOPPED_AT_ONCE
        elif code > 0:
            self._exit_code = self._exit_code or code
        elif code < 0 and not worker.is_asked_to_stop:
            self._exit_code = self._exit_code or FAILED

    def stop(self, now_ms: float) -> None:
        """Notes that everything is to stop; the second time, at once."""
        if self._stop_deadline_ms is None:
            self._begin_stop(now_ms)
        else:
            self._stop_deadline_ms = now_ms

    def _begin_stop(self, now_ms: float) -> None:
        self._stop_deadline_ms = now_ms + self.policy.stop_ms
        for worker in self._workers.values():
            worker.start_ms = None

    # -- what to do ----------------------------------------------------------------------

    def decide(self, now_ms: float) -> Decision:
        """Returns what to do now."""
        running = {number: w for number, w in self._workers.items() if w.is_running}
        if self._stop_deadline_ms is not None:
            return self._stopping(running, now_ms, self._stop_deadline_ms)
        starts = tuple(n for n, w in self._workers.items() if _is_due(w, now_ms))
        waits = [w.start_ms for w in self._workers.values() if w.start_ms is not None]
        if not running and not waits:
            return Decision(exit_code=self._exit_code)
        later = [at - now_ms for at in waits if at > now_ms]
        return Decision(starts=starts, wait_ms=min(later, default=None))

    def _stopping(self, running: dict[int, _Worker], now_ms: float, deadline_ms: float) -> Decision:
        if not running:
            return Decision(exit_code=self._exit_code)
        terminates = tuple(
            number for number, worker in running.items() if not worker.is_asked_to_stop
        )
        for number in terminates:
            running[number].is_asked_to_stop = True
        if now_ms < deadline_ms:
            return Decision(terminates=terminates, wait_ms=deadline_ms - now_ms)
        kills = tuple(number for number, worker in running.items() if not worker.is_killed)
        for number in kills:
            running[number].is_killed = True
        return Decision(terminates=terminates, kills=kills)


def _is_due(worker: _Worker, now_ms: float) -> bool:
    return worker.start_ms is not None and not worker.is_running and worker.start_ms <= now_ms
