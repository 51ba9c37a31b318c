"""What the documents show of a terminal is what a reader will see.

The ```console blocks below a comment `<!-- session -->` are typed into a shell, those of a document
in one directory, in order. Blocks with a title are files in it. What is printed must be what stands
below the command: "…" stands for anything within a line, and a line of it alone for any lines.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.documents import DOCUMENTS, RUN_THALWEG, blocks, name
from tests.waiting import HANG_S

SESSION = "session"
_WITH_SESSIONS = [path for path in DOCUMENTS if any(b.note == SESSION for b in blocks(path))]


class Step(NamedTuple):
    """A command, and what it is said to print."""

    line: int
    command: str
    printed: str


def steps(path: Path) -> list[Step]:
    """Returns the commands of a document's sessions, in order."""
    found: list[Step] = []
    for block in blocks(path):
        if block.note != SESSION:
            continue
        is_open = False
        for number, line in enumerate(block.text.splitlines(), block.line):
            if line.startswith("$ "):
                found.append(Step(number, line[2:], ""))
            elif is_open:
                found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line}")
            else:
                found[-1] = found[-1]._replace(printed=f"{found[-1].printed}{line}\n")
            is_open = line.endswith("\\")
    return found


def expectation(printed: str) -> re.Pattern[str]:
    """Returns the pattern of what a command may print."""
    lines = [
        "(?:.*\n)*" if line == "…\n" else re.escape(line).replace("…", ".*")
        for line in printed.splitlines(keepends=True)
    ]
    return re.compile("".join(lines))


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """Returns an environment in which `thalweg` is the command line of this tree."""
    programs = tmp_path / "programs"
    programs.mkdir()
    thalweg = programs / "thalweg"
    thalweg.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{RUN_THALWEG}" "$@"\n')
    thalweg.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THALWEG_")}
    paths = os.pathsep.join([str(programs), kept.get("PATH", "")])
    root = str(Path(__file__).parents[2])
    return {**kept, "PATH": paths, "PYTHONPATH": root, "NO_COLOR": "1", "TERM": "dumb"}


@pytest.mark.parametrize("path", _WITH_SESSIONS, ids=name)
def test_sessions_print_what_is_shown(path: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    directory = tmp_path / "session"
    directory.mkdir()
    for block in blocks(path):
        if block.title:
            (directory / block.title).write_text(block.text)

    try:
        for step in steps(path):
            done = subprocess.run(
                ["/bin/sh", "-c", step.command],
                cwd=directory,
                env=shell,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=HANG_S,
            )
            is_right = expectation(step.printed).fullmatch(done.stdout) is not None
            assert is_right, f"{name(path)}:{step.line}: $ {step.command}\n{done.stdout}"
    finally:
        # What a session runs in the background it ends itself, unless it was broken off.
        for note in directory.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(note.read_text()), signal.SIGKILL)


def test_ellipses_stand_for_text_and_lines() -> None:
    shown = expectation("a … b\n…\nend\n")

    assert shown.fullmatch("a 1 b\nend\n")
    assert shown.fullmatch("a 1 2 b\nx\ny\nend\n")
    assert not shown.fullmatch("a 1 b\nend\nmore\n")
    assert not shown.fullmatch("a 1\nb\nend\n")


def test_steps_know_their_output_and_their_continuation(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("<!-- session -->\n\n```console\n$ a \\\n  b\n1\n2\n$ c\n```\n")

    assert steps(document) == [Step(4, "a \\\n  b", "1\n2\n"), Step(8, "c", "")]
