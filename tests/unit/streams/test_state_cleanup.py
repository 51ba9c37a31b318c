"""State of tasks that moved away goes after a while; that of tasks that are here stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.streams.running import SOON, Log, until, word_count
from tests.unit.streams.working import running as running_worker
from tests.unit.streams.working import worker_of
from thalweg import App, State
from thalweg.streams.clock import ManualClock
from thalweg.streams.group.member import Assignment, GroupMember

NOW_MS = 1_000_000_000_000
DELAY_MS = 60_000


def old_state(state_dir: Path, task: str, modified_ms: int) -> Path:
    """Makes the directory of a task that is not here, last used at a moment."""
    path = state_dir / "app" / task
    path.mkdir(parents=True)
    (path / ".checkpoint").write_text("0\n0\n")
    os.utime(path, (modified_ms / 1000, modified_ms / 1000))
    return path


def running(log: Log, clock: ManualClock, state_dir: Path, delay_ms: int = DELAY_MS) -> App:
    """Starts a word count whose tasks are 0_0 and 1_0."""
    app = log.app(word_count(), state_dir, clock=clock, state_cleanup_delay_ms=delay_ms)
    app.start()
    assert app.wait_for(State.RUNNING, timeout=SOON)
    return app


def test_state_that_nobody_came_back_to_is_deleted(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    long_gone = old_state(tmp_path, "1_7", NOW_MS - 1)
    just_gone = old_state(tmp_path, "0_7", NOW_MS + 1)

    app = running(Log(), clock, tmp_path)
    try:
        before = [long_gone.exists(), just_gone.exists()]
        clock.advance(DELAY_MS)
        until(app, lambda: not long_gone.exists(), "the deletion")
        after = just_gone.exists()
        clock.advance(DELAY_MS)
        until(app, lambda: not just_gone.exists(), "the second deletion")
        kept = [(tmp_path / "app" / task).is_dir() for task in ("0_0", "1_0")]
    finally:
        app.close()

    assert before == [True, True]
    assert after
    assert kept == [True, True]


def test_without_a_delay_it_goes_at_once(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    gone = old_state(tmp_path, "1_7", NOW_MS)

    app = running(Log(), clock, tmp_path, delay_ms=0)
    try:
        clock.advance(1_000)
        until(app, lambda: not gone.exists(), "the deletion")
    finally:
        app.close()


def test_state_that_cannot_be_deleted_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(NOW_MS)
    gone = old_state(tmp_path, "1_7", NOW_MS - 1)
    (gone / ".checkpoint").unlink()
    (gone / ".checkpoint").mkdir()  # no file that could be unlinked

    app = running(Log(), clock, tmp_path)
    try:
        clock.advance(DELAY_MS)
        os.utime(gone, (0, 0))
        until(app, lambda: "old state stays for the moment" in caplog.text, "the warning")
        state = app.state
    finally:
        app.close()

    assert state is State.RUNNING


def test_nothing_is_deleted_before_the_group_has_said_whose_it_is(tmp_path: Path) -> None:
    """As where the broker is away for long after a start."""
    rounds: list[int] = []

    class Silent(GroupMember):
        is_ready = False

        def start(self) -> None: ...

        def acknowledge(self, assignment: Assignment) -> None: ...

        def leave(self) -> None: ...

        def poll(self, now_ms: int) -> None:
            rounds.append(now_ms)

    clock = ManualClock(NOW_MS)
    ours = old_state(tmp_path, "0_0", 0)
    worker = worker_of(
        word_count(), Log(), tmp_path, clock=clock, member=Silent(), state_cleanup_delay_ms=DELAY_MS
    )
    with running_worker(worker) as run:
        clock.advance(10 * DELAY_MS)
        seen = len(rounds)
        run.until(lambda: len(rounds) > seen + 3, "some rounds")
    assert ours.exists()
