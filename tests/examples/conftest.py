"""A place to run the examples in, and the commands their texts tell."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import examples
from thalweg.streams.cli import cli

ROOT = Path(examples.__file__).parent.parent

Told = Callable[[ModuleType, dict[str, str]], list[str]]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Works in a directory of the test's own, and leaves logging as it was."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("THALWEG_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def told() -> Told:
    """Returns what runs the commands of a module's docstring, as they stand there.

    It takes the files that stand behind `<`, and returns what each command wrote.
    """
    runner = CliRunner()

    def run(module: ModuleType, files: dict[str, str]) -> list[str]:
        assert module.__doc__ is not None
        lines = [line.strip() for line in module.__doc__.splitlines()]
        outputs = []
        for line in lines:
            if not line.startswith("thalweg "):
                continue
            command, _, file = line.partition(" < ")
            arguments = [
                str(ROOT / word) if word.startswith("examples/") else word
                for word in shlex.split(command)[1:]
            ]
            result = runner.invoke(cli, arguments, input=files[file] if file else None)
            assert result.exit_code == 0, f"{line}: {result.output}"
            outputs.append(result.stdout)
        assert outputs, "the example tells no commands"
        return outputs

    return run
