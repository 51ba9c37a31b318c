"""Children that are killed after some time."""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG_S


def child_of(module: str, home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a module as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, str(home), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def kill_at_some_moment(process: subprocess.Popen[str], after_s: float) -> None:
    """Kills a child some time after it says that it runs."""
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "running\n", process.stderr.read()
        with selectors.DefaultSelector() as selector:
            # Nothing more is printed by a healthy child: this is its time to live.
            selector.register(process.stderr, selectors.EVENT_READ)
            if selector.select(after_s):
                pytest.fail(f"the child died by itself: {process.stderr.read()}")
        process.send_signal(signal.SIGKILL)
        assert process.wait(HANG_S) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait(HANG_S)
        process.stdout.close()
        process.stderr.close()
