"""How far an application is, in words."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest

from thalweg.streams.cli.progress import (
    LINE_EVERY_MS,
    Meter,
    Report,
    display,
)
from thalweg.streams.clock import ManualClock
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.progress import Progress

NOTHING = Progress(
    state=WorkerState.RUNNING,
    running_tasks=2,
    restoring_tasks=0,
    processed_records=0,
    restored_records=0,
    remaining_restore_records=0,
    commits=0,
    lag_records=0,
    is_idle=False,
)


@pytest.fixture
def clock() -> ManualClock:
    """Returns a clock that stands still."""
    return ManualClock()


def test_a_rate_is_that_of_the_last_two_seconds(clock: ManualClock) -> None:
    meter = Meter(clock)
    rates = []
    for done in (1_000, 2_000, 3_000, 3_000, 3_000, 3_000):
        clock.advance(1_000)
        rates.append(meter.rate(done))

    assert rates == [1_000, 1_000, 1_000, 500, 0, 0]
    assert meter.elapsed_seconds == 6


def test_no_rate_without_time(clock: ManualClock) -> None:
    assert Meter(clock).rate(5) == 0


def test_a_line_says_state_tasks_records_and_lag(clock: ManualClock) -> None:
    report = Report(clock)
    clock.advance(1_000)

    assert report.note(replace(NOTHING, processed_records=1_234, lag_records=5_678)) == (
        "running, 2 tasks · 1,234 records, 1,234/s · lag 5,678"
    )
    assert report.note(replace(NOTHING, processed_records=1, running_tasks=1)).startswith(
        "running, 1 task · 1,234 records"
    ), "what is done is never taken back"


def test_a_line_says_how_far_restoring_is(clock: ManualClock) -> None:
    restoring = replace(
        NOTHING,
        state=WorkerState.PARTITIONS_ASSIGNED,
        running_tasks=0,
        restoring_tasks=1,
        restored_records=2_000,
        remaining_restore_records=3_000,
    )
    report = Report(clock)
    clock.advance(1_000)

    assert report.note(restoring) == (
        "restoring, 0 tasks · restoring 1 task: 2,000 done, 3,000 to go, 2,000/s · "
        "0 records, 0/s · lag 0"
    )


def test_the_summary_says_what_was_done_in_all(clock: ManualClock) -> None:
    report = Report(clock)
    assert report.summary() == "nothing was processed in 0.0 s"

    report.note(replace(NOTHING, processed_records=3_000, restored_records=1, commits=2))
    clock.advance(1_500)

    assert report.summary() == (
        "3,000 records in 1.5 s (2,000/s), 1 changelog record restored, 2 commits"
    )


def test_the_summary_says_what_was_left_out_and_why(clock: ManualClock) -> None:
    report = Report(clock)
    dropped = {"null-key": 2, "late": 1_000}
    report.note(replace(NOTHING, processed_records=3_000, dropped_records=dropped))
    clock.advance(1_500)

    assert report.summary() == (
        "3,000 records in 1.5 s (2,000/s), 1,002 dropped (1,000 late, 2 null-key), 0 commits"
    )


def test_lines_come_at_changes_of_state_and_then_every_few_seconds(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with display("app", Report(clock), clock, is_shown=True) as show:
        done = 0
        for _ in range(3 * LINE_EVERY_MS // 100):
            clock.advance(100)
            done += 10
            show(replace(NOTHING, processed_records=done))
        show(replace(NOTHING, processed_records=done, running_tasks=1))
        show(replace(NOTHING, processed_records=done, state=WorkerState.PENDING_SHUTDOWN))

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" · ")[0] for line in lines] == [
        "app: running, 2 tasks",
        "app: running, 2 tasks",
        "app: running, 2 tasks",
        "app: running, 1 task",
    ]


def test_nothing_is_written_while_nothing_happens(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with display("app", Report(clock), clock, is_shown=True) as show:
        for _ in range(1_000):
            clock.advance(1_000)
            show(NOTHING)

    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_not_shown_is_noted(clock: ManualClock, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(clock)
    with display("app", report, clock, is_shown=False) as show:
        show(replace(NOTHING, processed_records=7))

    assert capsys.readouterr().err == ""
    assert report.summary().startswith("7 records in ")


def test_on_a_terminal_one_line_changes_in_place(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with display("app", Report(clock), clock, is_shown=True) as show:
        show(replace(NOTHING, processed_records=7))
        print("a line of the script", file=sys.stderr)

    written = terminal.getvalue()
    assert "app: running, 2 tasks · 7 records" in written
    assert "a line of the script\n" in written
    assert written.count("\n") <= 4
