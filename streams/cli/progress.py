"""The progress of an application: shown while it runs and summarised at the end.

Owns rates, wording and the two displays: one that is redrawn on a terminal, and plain lines every
few seconds elsewhere. It must not know how an application runs; it gets counts and a clock.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeAlias

import typer

from thalweg.streams.clock import Clock
from thalweg.streams.observe import logs
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.progress import Progress

Show: TypeAlias = Callable[[Progress], None]

LINE_EVERY_MS: Final = 5_000
"""How often a plain line is written while something happens."""

_ENDING: Final = (WorkerState.PENDING_SHUTDOWN, WorkerState.DEAD)
_RATE_OVER_MS: Final = 2_000
_DRAWS_PER_SECOND: Final = 8


class Meter:
    """Turns counts into rates over the last two seconds. Not thread-safe.

    Args:
        clock: where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_ms = clock.monotonic_ms()
        self._samples: deque[tuple[float, int]] = deque([(self._started_ms, 0)])

    def rate(self, done: int) -> float:
        """Notes how much was done by now and returns how much that is per second."""
        now_ms = self._clock.monotonic_ms()
        samples = self._samples
        samples.append((now_ms, done))
        while len(samples) > 2 and samples[1][0] <= now_ms - _RATE_OVER_MS:
            samples.popleft()
        then_ms, before = samples[0]
        return 0.0 if now_ms <= then_ms else max(0, done - before) * 1000 / (now_ms - then_ms)

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the meter was made."""
        return (self._clock.monotonic_ms() - self._started_ms) / 1000


class Report:
    """Words what an application did. Not thread-safe.

    Args:
        clock: where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._processed = Meter(clock)
        self._restored = Meter(clock)
        self.last: Progress | None = None
        self.text = ""

    def note(self, progress: Progress) -> str:
        """Takes over how far it is, and returns it as one line."""
        last = self.last
        if last is not None and progress.processed_records < last.processed_records:
            # Tasks that are being closed are not counted for a moment.
            progress = replace(progress, processed_records=last.processed_records)
        self.last = progress
        rate = self._processed.rate(progress.processed_records)
        restoring = self._restored.rate(progress.restored_records)
        state = progress.state.value.lower().replace("_", " ")
        if progress.restoring_tasks and not progress.running_tasks:
            state = "restoring"
        parts = [f"{state}, {_counted(progress.running_tasks, 'task')}"]
        if progress.restoring_tasks:
            parts.append(
                f"restoring {_counted(progress.restoring_tasks, 'task')}: "
                f"{progress.restored_records:,} done, "
                f"{progress.remaining_restore_records:,} to go, {restoring:,.0f}/s"
            )
        parts.append(f"{_counted(progress.processed_records, 'record')}, {rate:,.0f}/s")
        parts.append(f"lag {progress.lag_records:,}")
        self.text = " · ".join(parts)
        return self.text

    def summary(self) -> str:
        """Returns what was done in all."""
        seconds = self._processed.elapsed_seconds
        last = self.last
        if last is None:
            return f"nothing was processed in {seconds:.1f} s"
        text = f"{_counted(last.processed_records, 'record')} in {seconds:.1f} s"
        if last.processed_records and seconds > 0:
            text += f" ({last.processed_records / seconds:,.0f}/s)"
        if last.restored_records:
            text += f", {_counted(last.restored_records, 'changelog record')} restored"
        if last.dropped_records:
            reasons = sorted(last.dropped_records.items())
            told = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
            text += f", {sum(last.dropped_records.values()):,} dropped ({told})"
        return f"{text}, {_counted(last.commits, 'commit')}"


@contextmanager
def display(name: str, report: Report, clock: Clock, *, is_shown: bool) -> Iterator[Show]:
    """Yields the function to hand progress to, and shows it while the context lasts.

    Args:
        name: the application.
        report: words what is shown.
        clock: where time comes from.
        is_shown: show anything; else progress is noted only.
    """
    if not is_shown:
        yield lambda progress: _ignore(report.note(progress))
    elif sys.stderr.isatty() and not logs.is_json():
        with _live(name, report) as show:
            yield show
    else:
        yield _Lines(name, report, clock)


def _ignore(_text: str) -> None:
    """Drops the line."""


@contextmanager
def _live(name: str, report: Report) -> Iterator[Show]:
    """Draws one line that changes in place; what is logged or printed goes above it."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    console = Console(stderr=True)

    def line(text: str) -> Text:
        return Text(f"{name}: {text}", no_wrap=True, overflow="ellipsis")

    spinner = Spinner("dots", line("starting"))
    with Live(
        spinner,
        console=console,
        refresh_per_second=_DRAWS_PER_SECOND,
        transient=True,
        # Output that goes to a file must go there.
        redirect_stdout=sys.stdout.isatty(),
    ):

        def show(progress: Progress) -> None:
            spinner.update(text=line(report.note(progress)))

        yield show


class _Lines:
    """Writes a line when the state changes, and every few seconds while something happens."""

    def __init__(self, name: str, report: Report, clock: Clock) -> None:
        self._name = name
        self._report = report
        self._clock = clock
        self._next_ms = clock.monotonic_ms()
        self._shown: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        text = self._report.note(progress)
        if progress.state in _ENDING:
            return  # the summary follows
        now_ms, shown = self._clock.monotonic_ms(), self._shown
        is_news = shown is None or (shown.state, shown.running_tasks) != (
            progress.state,
            progress.running_tasks,
        )
        is_moved = shown is None or _work(shown) != _work(progress)
        if not is_news and (not is_moved or now_ms < self._next_ms):
            return
        self._shown = progress
        self._next_ms = now_ms + LINE_EVERY_MS
        if logs.is_json():
            logs.PROGRAM.info("progress", extra={"fields": _fields(self._name, progress)})
        else:
            typer.echo(f"{self._name}: {text}", err=True)


def _work(progress: Progress) -> tuple[int, int, int]:
    return progress.processed_records, progress.restored_records, progress.lag_records


def _fields(name: str, progress: Progress) -> dict[str, object]:
    return {
        "application_id": name,
        "state": progress.state.value,
        "running_tasks": progress.running_tasks,
        "restoring_tasks": progress.restoring_tasks,
        "processed_records": progress.processed_records,
        "restored_records": progress.restored_records,
        "remaining_restore_records": progress.remaining_restore_records,
        "lag_records": progress.lag_records,
        "commits": progress.commits,
        "dropped_records": dict(progress.dropped_records),
    }


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
