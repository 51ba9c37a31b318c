"""What can be done in a second terminal while an application runs on the embedded log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.unit.streams.cli.conftest import ROOT
from tests.unit.streams.cli.scripts import WINDOWED, WORD_COUNT
from tests.unit.streams.cli.test_cli import (
    DONE,
    FAILED,
    LOCKED,
    REFUSED,
    line_with,
    refused,
)
from tests.waiting import HANG_S

Thalweg = Callable[..., Result]
Script = Callable[[str, str], str]
Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(started: Started, word_count: str) -> subprocess.Popen[str]:
    """Returns an application that runs in a process of its own."""
    process = started("run", word_count)
    line_with(process, "running, 2 tasks")
    return process


def lines_of(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def test_lines_are_counted_as_they_are_typed(
    thalweg: Thalweg, run: subprocess.Popen[str], started: Started
) -> None:
    typing = started("produce", "lines")
    assert typing.stdin is not None
    thalweg("produce", "word-counts", stdin="")
    following = started("consume", "word-counts", "--value-serde", "int64", "--follow")
    for line, counts in (
        ("to be or", ["to\t1\n", "be\t1\n", "or\t1\n"]),
        ("not to be", ["not\t1\n", "to\t2\n", "be\t2\n"]),
    ):
        typing.stdin.write(f"{line}\n")
        typing.stdin.flush()
        assert sorted(lines_of(following, 3)) == sorted(counts)
    typing.stdin.close()
    assert typing.wait(HANG_S) == DONE
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=HANG_S)
    assert (following.returncode, errors) == (DONE, "")

    assert thalweg("consume", "lines").stdout == "to be or\nnot to be\n"
    assert "lines\t1\t2\n" in thalweg("topics").stdout


def test_much_is_produced_in_batches(thalweg: Thalweg, run: subprocess.Popen[str]) -> None:
    result = thalweg("produce", "lines", stdin="a b c d\n" * 50_000)

    assert result.exit_code == DONE, result.output
    assert "50,000 records written to lines" in result.stderr
    line_with(run, "250,000 records")


def test_stores_and_status_are_those_of_the_running_application(
    thalweg: Thalweg, run: subprocess.Popen[str], word_count: str
) -> None:
    thalweg("produce", "lines", stdin="to be or\nnot to be\n")
    line_with(run, "8 records")

    def rows(*options: str) -> list[list[str]]:
        result = thalweg("query", word_count, "counts", *options)
        assert result.exit_code == DONE, result.output
        return [line.split("\t") for line in result.stdout.splitlines()[1:]]

    assert rows() == [["be", "2"], ["not", "1"], ["or", "1"], ["to", "2"]]
    assert rows("--key", "to") == [["to", "2"]]
    absent = thalweg("query", word_count, "counts", "--key", "nope")
    assert absent.exit_code == FAILED
    assert "store 'counts' has no key 'nope'" in absent.output
    assert rows("--from", "c", "--to", "or") == [["not", "1"], ["or", "1"]]
    assert rows("--prefix", "t") == [["to", "2"]]
    assert rows("--reverse", "--limit", "1") == [["to", "2"]]
    assert thalweg("query", word_count, "counts", "--count").stdout == "4\n"
    first = json.loads(thalweg("query", word_count, "counts", "--json", "--limit", "1").stdout)
    assert (first["key"], first["value"], type(first["timestamp"])) == ("be", 2, int)
    refused(thalweg("query", word_count, "none"), "there is no store 'none'")

    status = json.loads(thalweg("status", word_count, "--json").stdout)
    assert status["application_id"] == "word-count"
    assert [task["task"] for task in status["instances"][0]["tasks"]] == ["0_0", "1_0"]
    assert f"process {run.pid}\tRUNNING\t0_0" in thalweg("status", word_count).stdout


def test_odd_keys_are_found_in_the_running_application(
    thalweg: Thalweg, run: subprocess.Popen[str], word_count: str
) -> None:
    odd = ["a/b", "..", "%2F", "count", "windows", "keys", "ä?&=#"]
    thalweg("produce", "lines", stdin=" ".join(odd))
    line_with(run, f"{len(odd) + 1} records")

    for key in odd:
        result = thalweg("query", word_count, "counts", "--key", key)
        assert (result.stdout, result.stderr) == (f"key\tvalue\n{key}\t1\n", "")
    assert thalweg("query", word_count, "counts", "--count").stdout == f"{len(odd)}\n"


def test_windows_are_shown_as_those_of_a_stopped_application(
    thalweg: Thalweg, script: Script, started: Started
) -> None:
    path = script("clicks.py", WINDOWED)
    clicks = "".join(
        json.dumps({"key": key, "value": "x", "timestamp": moment}) + "\n"
        for key, moment in (("b", 60_000), ("a", 1_000), ("a", 61_000), ("a", 62_000))
    )
    process = started("run", path)
    line_with(process, "running, 1 task")
    thalweg("produce", "clicks", "--json", stdin=clicks)
    line_with(process, "4 records")

    questions = (
        (),
        ("--key", "a"),
        ("--from", "b"),
        ("--time-from", "60000", "--json"),
        ("--time-to", "0"),
        ("--reverse",),
        ("--key", "a", "--reverse", "--json"),
    )
    running = [thalweg("query", path, "per-minute", *options) for options in questions]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=HANG_S)

    for options, result in zip(questions, running, strict=True):
        assert result.exit_code == DONE, result.output
        assert result.stdout.count("\n") >= 1
        stopped = thalweg("query", path, "per-minute", *options)
        assert (result.stdout, result.stderr) == (stopped.stdout, stopped.stderr)


def test_what_only_one_process_can_do_says_who_that_is(
    thalweg: Thalweg, run: subprocess.Popen[str], script: Script
) -> None:
    other = script("other.py", WORD_COUNT.replace('"word-count"', '"other"'))
    for arguments in (("run", other), ("reset", other, "--yes"), ("query", other, "counts")):
        result = thalweg(*arguments)
        refused(result, f"in use by process {run.pid}", LOCKED)
        assert "runs application 'word-count'" in result.stderr
    refused(thalweg("status", other), "other does not run on the log in")


def test_bad_input_is_told_by_its_line(thalweg: Thalweg, run: subprocess.Popen[str]) -> None:
    refused(thalweg("produce", "lines", "--json", stdin='{"value": "a"}\n{"value":\n'), "line 2")
    assert thalweg("consume", "lines").stdout == "a\n"
    refused(thalweg("produce", "no topic", stdin="a\n"), "is no topic name")
    refused(thalweg("consume", "none"), "there is no topic 'none'")
    refused(
        thalweg("produce", "lines", "--json", stdin='{"value": "a", "partition": 7}\n'),
        "partition 7",
        FAILED,
    )
    refused(
        thalweg("produce", "lines", "--partitions", "3", stdin="a\n"), "3 are asked for", REFUSED
    )


def test_an_application_that_was_killed_leaves_the_log_to_the_next(
    thalweg: Thalweg, run: subprocess.Popen[str], word_count: str
) -> None:
    thalweg("produce", "lines", stdin="to be\n")
    run.kill()
    run.wait()

    assert thalweg("consume", "lines").stdout == "to be\n"
    result = thalweg("run", word_count, "--until-idle")
    assert result.exit_code == DONE, result.output
    assert thalweg("query", word_count, "counts", "--key", "to").stdout == "key\tvalue\nto\t1\n"


def test_a_follower_hears_that_the_application_has_ended(
    thalweg: Thalweg, run: subprocess.Popen[str], started: Started
) -> None:
    thalweg("produce", "lines", stdin="to be\n")
    following = started("consume", "lines", "--follow")
    assert lines_of(following, 1) == ["to be\n"]

    run.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=HANG_S)

    assert following.returncode == FAILED
    assert f"process {run.pid}, the owner of the log" in errors
    assert "Traceback" not in errors


SCRIPT = """
from word_count import app
from thalweg import serdes

with app.producer() as producer:
    producer.send("lines", "to be", value_serde=serdes.string)
with app.consumer() as consumer:
    for record in consumer.read("word-counts", follow=True, key_serde=serdes.string,
                                value_serde=serdes.int64):
        print(record.key, record.value, flush=True)
        if record.key == "be":
            break
"""


def test_a_script_of_its_own_writes_and_reads(
    run: subprocess.Popen[str], tmp_path: Path, thalweg: Thalweg
) -> None:
    thalweg("produce", "word-counts", stdin="")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert (done.returncode, done.stdout) == (DONE, "to 1\nbe 1\n"), done.stderr


def test_a_new_log_and_a_missing_topic_are_told_in_a_terminal(
    started: Started, word_count: str, tmp_path: Path
) -> None:
    run = started("run", word_count, "--until-idle")
    _, errors = run.communicate(timeout=HANG_S)
    assert run.returncode == DONE
    assert f"a new, empty log is made in {tmp_path / '.thalweg' / 'log'}\n" in errors
    assert "source topic 'lines' did not exist and is created, empty, with 1 partition\n" in errors

    run = started("run", word_count, "--until-idle")
    assert "a new, empty log" not in run.communicate(timeout=HANG_S)[1]

    again = started("produce", "line")
    _, errors = again.communicate("a\n", timeout=HANG_S)
    assert "line is a new topic; is one of these meant: lines?" in errors
