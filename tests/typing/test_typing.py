"""The DSL's types: what mypy infers, and which mistakes it reports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_EXPECTED = re.compile(r"# E: (.*)$")
_REPORTED = re.compile(r":(\d+): error: .*(\[[a-z-]+\])$")


def mypy(path: Path, cache: Path) -> list[str]:
    """Runs mypy --strict over a file and returns the lines it reports as errors."""
    search = [str(ROOT), *filter(None, [os.environ.get("MYPYPATH")])]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--namespace-packages",
            "--explicit-package-bases",
            "--no-error-summary",
            "--no-pretty",
            "--hide-error-context",
            "--cache-dir",
            str(cache),
            str(path),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": os.pathsep.join(search)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr or done.stdout
    return [line for line in done.stdout.splitlines() if ": error: " in line]


def test_types_are_inferred_through_a_chain(tmp_path: Path) -> None:
    assert mypy(HERE / "chains.py", tmp_path / "cache") == []


def test_wrong_functions_are_reported(tmp_path: Path) -> None:
    source = (HERE / "wrong_functions.txt").read_text()
    # Kept as text, so that a check of the whole repository does not stumble over it.
    snippet = tmp_path / "wrong_functions.py"
    snippet.write_text(source)
    expected = {
        number: set(match[1].split())
        for number, line in enumerate(source.splitlines(), 1)
        if (match := _EXPECTED.search(line))
    }

    reported: dict[int, set[str]] = {}
    for line in mypy(snippet, tmp_path / "cache"):
        match = _REPORTED.search(line)
        assert match is not None, line
        reported.setdefault(int(match[1]), set()).add(match[2])

    assert reported.keys() == expected.keys()
    for number, codes in reported.items():
        assert codes <= expected[number], f"line {number}: {codes}"
