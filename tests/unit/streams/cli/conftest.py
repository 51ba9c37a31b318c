"""A place to run the command line in, and scripts to run."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import thalweg as streams
from tests.unit.streams.cli.scripts import WORD_COUNT
from thalweg.streams.cli import cli

ROOT = Path(streams.__file__).parent.parent

Thalweg = Callable[..., Result]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Works in a directory of the test's own, and leaves the process as it was."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("THALWEG_")]:
        monkeypatch.delenv(name)
    # Set and taken back, so that what a command sets is taken back as well.
    monkeypatch.setenv("THALWEG_CONFIG", "x")
    monkeypatch.delenv("THALWEG_CONFIG")
    root = logging.getLogger()
    handlers, level, path, modules = (
        list(root.handlers),
        root.level,
        list(sys.path),
        set(sys.modules),
    )
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def thalweg() -> Thalweg:
    """Returns the command line: arguments -> result, with `stdin` as standard input."""
    runner = CliRunner()

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return runner.invoke(cli, list(arguments), input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], str]:
    """Returns the function that writes a script: (name, text) -> path as it is typed."""

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.fixture
def word_count(script: Callable[[str, str], str]) -> str:
    """Returns a script that counts words."""
    return script("word_count.py", WORD_COUNT)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Returns the function that starts a real process; what still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **options.pop("environment", {}),
        }
        for pipe in ("stdin", "stdout", "stderr"):
            options.setdefault(pipe, subprocess.PIPE)
        process = subprocess.Popen(
            [sys.executable, "-m", "thalweg.streams.cli", *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            **options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):  # what was written last was not read
                    stream.close()
