"""The demo: counts the words of a text, goes on where it stopped, counts nothing twice."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

from typer.testing import CliRunner

from examples.word_count import builder, library_files, lines_of, words_of
from tests.examples.conftest import ROOT
from tests.waiting import HANG_S
from thalweg import TopologyTestDriver, serdes
from thalweg.streams.cli import cli

TEXT = """\
To be, or not to be, that is the question:

Whether 'tis nobler in the mind to suffer
The slings and arrows of outrageous fortune,
Or to take arms against a sea of troubles
And by opposing end them.
"""


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo as it is typed."""
    return subprocess.run(
        [sys.executable, "-m", "examples.word_count", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"},
        timeout=HANG_S,
        check=False,
    )


def told(run: subprocess.CompletedProcess[str]) -> str:
    """Returns what was written, without line breaks."""
    return " ".join(run.stdout.split())


def shown(output: str) -> dict[str, int]:
    """Reads the table of words."""
    return {word: int(count) for word, count in re.findall(r"[│┃] (\w+) +[│┃] +(\d+) [│┃]", output)}


def test_words_are_counted_whatever_their_case() -> None:
    with TopologyTestDriver(builder) as driver:
        lines = driver.create_input_topic("lines", serdes.string, serdes.string)
        counts = driver.create_output_topic("word-counts", serdes.string, serdes.int64)
        lines.pipe_input("f", "To be, or not to BE")
        assert counts.read_key_values_to_list() == [
            ("to", 1), ("be", 1), ("or", 1), ("not", 1), ("to", 2), ("be", 2),
        ]  # fmt: skip
        assert driver.get_state_store("counts").get("to").value == 2


def test_it_reads_the_running_pythons_library_and_no_empty_lines() -> None:
    files = list(library_files())
    assert files == sorted(files)
    names = {path.name for path in files}
    assert {"argparse.py", "dataclasses.py"} <= names
    assert not any("site-packages" in path.parts for path in files)
    lines = list(lines_of([path for path in files if path.name == "keyword.py"]))
    assert lines
    assert all(name == "keyword.py" and text.strip() == text != "" for name, text in lines)


def test_a_file_is_counted_once_however_often_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "hamlet.txt").write_text(TEXT)
    expected = Counter(words_of(TEXT.lower()))
    lines = sum(1 for line in TEXT.splitlines() if line.strip())

    first, second = demo("hamlet.txt"), demo("hamlet.txt")
    for run, written in ((first, f"{lines} lines written;"), (second, "0 lines written (5 were")):
        assert run.returncode == 0, run.stderr
        assert f"{expected.total()} words, {len(expected)} different ones" in told(run)
        assert written in told(run)
        words = shown(run.stdout)
        assert len(words) == 10
        assert all(expected[word] == count for word, count in words.items())
        assert min(words.values()) >= sorted(expected.values())[-10]

    # A text that grew is read on, and what is told to type next works.
    with (tmp_path / "hamlet.txt").open("a") as file:
        file.write("To die, to sleep\n")
    third = demo("hamlet.txt")
    assert "1 lines written (5 were there already)" in told(third)
    assert shown(third.stdout)["to"] == expected["to"] + 2

    commands = [line.strip() for line in third.stdout.splitlines() if "  thalweg " in line]
    outputs = []
    for command in commands:
        arguments = shlex.split(command.replace("examples/", f"{ROOT}/examples/"))[1:]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{command}: {result.output}"
        outputs.append(result.stdout)
    query, consume, topology, _reset = outputs
    assert str(expected["to"] + 2) in query.split()
    assert len(consume.splitlines()) == 5
    assert "KSTREAM-AGGREGATE" in topology


def test_texts_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for folder, text in (("a", "one one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text(text)
    first, second = demo("a/text.txt"), demo("b/text.txt")
    assert shown(first.stdout) == {"one": 2}
    assert shown(second.stdout) == {"two": 1}


def test_what_is_no_text_is_told() -> None:
    missing = demo("nowhere.txt")
    assert (missing.returncode, missing.stderr) == (2, "")
    assert "nowhere.txt is not a file" in missing.stdout
    assert demo("a", "b").returncode == 2
    assert demo("--help").returncode == 0


def test_an_empty_text_has_no_words(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    run = demo("empty.txt")
    assert run.returncode == 0, run.stderr
    assert "0 words, 0 different ones" in told(run)
