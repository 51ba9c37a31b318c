"""The command line as a whole: what commands do, say and return."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.streams.cli.scripts import FAILING, WINDOWED, WORD_COUNT
from tests.waiting import HANG_S
from thalweg.streams.cli.produce import produce
from thalweg.streams.cli.settings import log_config
from thalweg.streams.consumer import Consumer
from thalweg.streams.observe.metrics import thalweg_version

Thalweg = Callable[..., Result]
Script = Callable[[str, str], str]
Started = Callable[..., "subprocess.Popen[str]"]

DONE, FAILED, REFUSED, LOCKED, SHUT_DOWN, INTERRUPTED = 0, 1, 2, 3, 4, 130


def rows(result: Result) -> list[list[str]]:
    """Returns the cells of a table, without its header."""
    assert result.exit_code == DONE, result.output
    return [line.split("\t") for line in result.stdout.splitlines()[1:]]


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == DONE, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(result: Result, said: str, code: int = REFUSED) -> None:
    """Checks that a command ended with one message and no traceback."""
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.count("error: ") == 1


@pytest.fixture
def counted(thalweg: Thalweg, word_count: str) -> str:
    """Returns a script that has counted the words of two lines."""
    thalweg("produce", "lines", stdin="to be or\nnot to be\n")
    result = thalweg("run", word_count, "--until-idle")
    assert result.exit_code == DONE, result.output
    return word_count


# -- the whole -----------------------------------------------------------------------------


def test_help_names_commands_and_exit_codes(thalweg: Thalweg) -> None:
    result = thalweg("--help")

    assert result.exit_code == DONE
    for word in ("run", "topology", "query", "produce", "consume", "topics", "reset", "130"):
        assert word in result.stdout


@pytest.mark.parametrize(
    "command", ["run", "topology", "query", "produce", "consume", "topics", "reset"]
)
def test_every_command_has_help(thalweg: Thalweg, command: str) -> None:
    result = thalweg(command, "-h")

    assert result.exit_code == DONE
    assert "--debug" in result.stdout


def test_the_version_is_shown(thalweg: Thalweg) -> None:
    assert thalweg("--version").stdout == f"thalweg {thalweg_version()}\n"


@pytest.mark.parametrize(
    "arguments", [["nope"], ["run"], ["run", "x.py", "--nope"], ["topics", "x"]]
)
def test_wrong_usage_is_refused(thalweg: Thalweg, arguments: list[str]) -> None:
    result = thalweg(*arguments)

    assert result.exit_code == REFUSED
    assert "Traceback" not in result.output


# -- run -----------------------------------------------------------------------------------


def test_a_run_counts_what_was_produced(thalweg: Thalweg, counted: str) -> None:
    result = thalweg("consume", "word-counts", "--value-serde", "int64")

    assert dict(line.split("\t") for line in result.stdout.splitlines()) == {
        "to": "2",
        "be": "2",
        "or": "1",
        "not": "1",
    }


def test_a_second_run_goes_on_where_the_first_stopped(thalweg: Thalweg, counted: str) -> None:
    thalweg("produce", "lines", stdin="to\n")
    result = thalweg("run", counted, "--until-idle")

    assert result.exit_code == DONE
    assert "word-count: 2 records in " in result.stderr
    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "3"]]


def test_progress_is_written_as_lines_where_there_is_no_terminal(
    thalweg: Thalweg, word_count: str
) -> None:
    thalweg("produce", "lines", stdin="to be\n" * 3)
    result = thalweg("run", word_count, "--until-idle")

    lines = result.stderr.splitlines()
    assert result.stdout == ""
    assert all(line.startswith("word-count: ") for line in lines)
    assert any("running, 2 tasks · " in line for line in lines)
    assert "word-count: 9 records in " in lines[-1]
    assert "commits" in lines[-1]


def test_a_run_until_idle_does_not_wait_for_rare_commits(thalweg: Thalweg, word_count: str) -> None:
    thalweg("produce", "lines", stdin="to be\n")

    result = thalweg("run", word_count, "--until-idle", "--set", "commit_interval_ms=3600000")

    assert result.exit_code == DONE
    assert "word-count: 3 records in " in result.stderr


def test_without_progress_only_what_was_made_and_the_summary_are_written(
    thalweg: Thalweg, word_count: str
) -> None:
    """Whoever mistyped a topic sees why nothing is counted."""
    thalweg("topics", "create", "line")

    result = thalweg("run", word_count, "--until-idle", "--no-progress")

    made, summary = result.stderr.splitlines()
    assert made == (
        "source topic 'lines' did not exist and is created, empty, with 1 partition; "
        "is one of these meant: 'line'?"
    )
    assert summary.startswith("word-count: 0 records in ")
    (summary,) = thalweg("run", word_count, "--until-idle", "--no-progress").stderr.splitlines()
    assert summary.startswith("word-count: 0 records in ")


def test_with_a_json_log_every_line_is_an_object(thalweg: Thalweg, word_count: str) -> None:
    arguments = ("--until-idle", "--log-format", "json", "--log-level", "info")
    result = thalweg("run", word_count, *arguments)

    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert any(line["message"] == "progress" and line["running_tasks"] == 2 for line in lines)
    assert any("REBALANCING -> RUNNING" in line["message"] for line in lines)
    assert lines[-1]["message"].startswith("word-count: 0 records in ")


def test_a_lost_state_directory_is_restored(thalweg: Thalweg, counted: str) -> None:
    shutil.rmtree(".thalweg/state")

    result = thalweg("run", counted, "--until-idle")

    assert "4 changelog records restored" in result.stderr
    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "2"]]


def test_settings_of_the_command_line_reach_the_application(
    thalweg: Thalweg, word_count: str
) -> None:
    options = ("--data-dir", "log", "--state-dir", "state", "--set", "application_id=other")
    result = thalweg("run", word_count, "--until-idle", *options)

    assert result.exit_code == DONE, result.output
    assert (Path("state") / "other").is_dir()
    assert Path("log").is_dir()
    assert not Path(".thalweg").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "poll=5"], "poll takes a timedelta"),
        (["--set", "pol_ms=5"], "did you mean 'poll_ms'?"),
        (["--config", "nope.toml"], "cannot read the settings in nope.toml: No such file"),
        (["--workers", "2"], "num_workers is 2, but one process owns the embedded log"),
        (["--workers", "0"], "num_workers cannot be 0"),
        (["--bootstrap-servers", "nonsense"], "bootstrap_servers cannot be 'nonsense'"),
    ],
)
def test_a_wrong_setting_is_told(
    thalweg: Thalweg, word_count: str, options: list[str], said: str
) -> None:
    refused(thalweg("run", word_count, *options), said)


def test_a_missing_script_is_told(thalweg: Thalweg) -> None:
    refused(thalweg("run", "nope.py"), "there is no file nope.py")


def test_a_directory_that_cannot_be_used_is_told(thalweg: Thalweg, word_count: str) -> None:
    Path("file").write_text("")

    result = thalweg("run", word_count, "--data-dir", "file/log", "--until-idle")
    assert result.exit_code in (FAILED, REFUSED)
    refused(result, "file/log", result.exit_code)
    result = thalweg("run", word_count, "--state-dir", "file/state", "--until-idle")
    assert result.exit_code in (FAILED, REFUSED)
    refused(result, "file/state", result.exit_code)


def test_an_application_that_fails_is_told_with_the_record(
    thalweg: Thalweg, script: Script
) -> None:
    path = script("failing.py", FAILING)
    thalweg("produce", "lines", stdin="1\nx\n")

    result = thalweg("run", path, "--no-progress")

    refused(result, "invalid literal for int() with base 10: 'x'", FAILED)
    for place in ("task 0_0", "topic lines", "partition 0", "offset 1", "node parse"):
        assert place in result.stderr


def test_debug_shows_the_traceback(thalweg: Thalweg, script: Script) -> None:
    path = script("failing.py", FAILING)
    thalweg("produce", "lines", stdin="x\n")

    result = thalweg("run", path, "--debug")

    assert result.exit_code == FAILED
    assert "Traceback (most recent call last)" in result.stderr
    assert "in parse" in result.stderr


@pytest.mark.parametrize("debug", [True, False])
def test_an_application_that_ends_all_instances_is_not_to_be_started_again(
    thalweg: Thalweg, script: Script, debug: bool
) -> None:
    answer = "app.set_uncaught_error_handler(lambda _: UncaughtResponse.SHUTDOWN_APPLICATION)\n"
    path = script("failing.py", "from thalweg import UncaughtResponse\n" + FAILING + answer)
    thalweg("produce", "lines", stdin="x\n")

    result = thalweg("run", path, *["--debug"] * debug)

    assert result.exit_code == SHUT_DOWN
    assert "invalid literal for int() with base 10: 'x'" in result.stderr
    assert ("Traceback" in result.stderr) is debug


def test_a_failing_application_is_told_in_json(thalweg: Thalweg, script: Script) -> None:
    path = script("failing.py", FAILING)
    thalweg("produce", "lines", stdin="x\n")

    result = thalweg("run", path, "--log-format", "json")

    last = json.loads(result.stderr.splitlines()[-1])
    assert result.exit_code == FAILED
    assert (last["level"], last["logger"]) == ("error", "thalweg.program")
    assert "invalid literal" in last["message"]


# -- signals and other processes -----------------------------------------------------------


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Reads standard error up to the line that has a text."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return line
    pytest.fail(f"{text!r} was never written, only: {''.join(seen)}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(
    thalweg: Thalweg, word_count: str, started: Started, number: signal.Signals
) -> None:
    thalweg("produce", "lines", stdin="to be or not to be\n")
    process = started("run", word_count, "--set", "commit_interval_ms=3600000")
    line_with(process, "running, 2 tasks · 7 records")

    process.send_signal(number)
    _, errors = process.communicate(timeout=HANG_S)

    assert process.returncode == DONE, errors
    assert "word-count: 7 records in " in errors
    assert "Traceback" not in errors
    assert rows(thalweg("query", word_count, "counts", "--key", "to")) == [["to", "2"]]


def test_a_second_signal_stops_at_once(thalweg: Thalweg, script: Script, started: Started) -> None:
    stuck = """
        def wait(line):
            import sys, threading
            print("stuck", file=sys.stderr, flush=True)
            threading.Event().wait()
    """
    path = script(
        "stuck.py",
        textwrap.dedent(stuck)
        + WORD_COUNT.replace(".flat_map_values(str.split)", ".peek(lambda k, v: wait(v))"),
    )
    thalweg("produce", "lines", stdin="x\n")
    process = started("run", path)
    line_with(process, "stuck")

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=HANG_S)

    assert process.returncode == INTERRUPTED, errors
    assert "stopped at once; what was not committed is done again" in errors
    assert "Traceback" not in errors


def test_what_another_process_holds_is_told(
    thalweg: Thalweg, counted: str, started: Started
) -> None:
    process = started("run", counted)
    line_with(process, "running, 2 tasks")

    for arguments in (("run", counted), ("reset", counted, "--yes")):
        result = thalweg(*arguments)
        refused(result, f"in use by process {process.pid}", LOCKED)
        assert "runs application 'word-count'" in result.stderr
        assert f"stop that one (kill {process.pid})" in result.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG_S)
    assert process.returncode == DONE


def test_a_state_directory_of_another_log_is_locked_too(
    thalweg: Thalweg, word_count: str, started: Started
) -> None:
    process = started("run", word_count)
    line_with(process, "running, 2 tasks")

    refused(thalweg("run", word_count, "--data-dir", "other"), str(process.pid), LOCKED)


def test_a_reader_that_has_enough_is_no_error(thalweg: Thalweg, started: Started) -> None:
    thalweg("produce", "t", stdin="x" * 100 + "\n" + "y\n" * 200_000)
    process = started("consume", "t")
    assert process.stdout is not None
    assert process.stdout.readline() == "x" * 100 + "\n"

    process.stdout.close()

    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(HANG_S) == DONE


def test_lines_that_trickle_in_are_committed_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    with (
        os.fdopen(reads) as stdin,
        os.fdopen(writes, "w", buffering=1) as typing,
        Consumer(log_config({})) as consumer,
    ):
        monkeypatch.setattr("sys.stdin", stdin)
        thread = threading.Thread(target=produce, kwargs={"topic": "t"})
        typing.write("first\n")
        thread.start()
        while "t" not in consumer.topics() and thread.is_alive():
            thread.join(0.01)
        records = consumer.read("t", follow=True)
        assert next(records).value == b"first"
        typing.write("second\n")
        assert next(records).value == b"second"
        typing.close()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_read_is_committed_at_a_signal(
    thalweg: Thalweg, script: Script, started: Started, number: signal.Signals
) -> None:
    script(
        "noisy.py",
        "import sys\nfrom streams import Serde\n"
        "def encode(value):\n"
        "    print('seen', file=sys.stderr, flush=True)\n"
        "    return value.encode()\n"
        "serde = Serde.of(encode, bytes.decode, name='noisy')\n",
    )
    process = started("produce", "t", "--value-serde", "noisy:serde")
    assert process.stdin is not None
    assert process.stderr is not None
    for line, looks in (("first", 2), ("second", 1)):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        for _ in range(looks):  # a line is looked at when it is read, and when it is sent
            line_with(process, "seen")

    process.send_signal(number)

    assert "written to t\n" in process.stderr.read()
    assert process.wait(HANG_S) == INTERRUPTED
    assert thalweg("consume", "t").stdout.startswith("first\n")


def test_following_ends_at_a_signal(thalweg: Thalweg, started: Started) -> None:
    thalweg("produce", "t", stdin="first\n")
    process = started("consume", "t", "--follow")
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=HANG_S)

    assert (process.returncode, output, errors) == (DONE, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "eager.py"),
        ("run", "eager.py", "--until-idle", "--workers", "2"),
        ("topology", "eager.py"),
        ("query", "eager.py", "counts"),
        ("query", "eager.py"),
        ("status", "eager.py"),
        ("reset", "eager.py", "--yes"),
        ("produce", "t", "--value-serde", "eager:serde"),
        ("consume", "t", "--value-serde", "eager:serde"),
        ("topics", "--set", "default_key_serde=eager:serde"),
    ],
)
def test_a_script_without_a_guard_is_refused(
    thalweg: Thalweg, script: Script, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    script("eager.py", WORD_COUNT + "serde = serdes.string\napp.run()\n")

    refused(thalweg(*arguments), 'put app.run() under if __name__ == "__main__":')
    assert not (tmp_path / ".thalweg" / "state").exists()


# -- topology ------------------------------------------------------------------------------


def test_a_topology_is_described(thalweg: Thalweg, word_count: str) -> None:
    text = thalweg("topology", word_count)
    picture = thalweg("topology", word_count, "--format", "mermaid")

    assert text.exit_code == picture.exit_code == DONE
    assert text.stdout.startswith("Topologies:\n   Sub-topology: 0\n    Source: KSTREAM-SOURCE-")
    assert picture.stdout.startswith("flowchart TD\n  subgraph s0")
    assert not Path(".thalweg").exists()


def test_a_topology_in_json_has_the_names_of_the_log(thalweg: Thalweg, word_count: str) -> None:
    found = json.loads(thalweg("topology", word_count, "--format", "json").stdout)

    first, second = found["subtopologies"]
    assert found["application_id"] == "word-count"
    assert first["source_topics"] == ["lines"]
    assert first["nodes"][0]["kind"] == "source"
    assert second["repartition_topics"] == ["word-count-counts-repartition"]
    assert second["changelog_topics"] == ["word-count-counts-changelog"]
    assert second["stores"] == ["counts"]


# -- query ---------------------------------------------------------------------------------


def test_stores_are_listed_without_a_name(thalweg: Thalweg, word_count: str) -> None:
    result = thalweg("query", word_count)

    assert rows(result) == [["counts", "timestamped-key-value", "string", "int64"]]
    assert objects(thalweg("query", word_count, "--json"))[0]["store"] == "counts"
    assert not Path(".thalweg").exists()


def test_a_store_answers(thalweg: Thalweg, counted: str) -> None:
    def ask(*options: str) -> list[str]:
        return [key for key, _ in rows(thalweg("query", counted, "counts", *options))]

    assert rows(thalweg("query", counted, "counts")) == [
        ["be", "2"],
        ["not", "1"],
        ["or", "1"],
        ["to", "2"],
    ]
    assert ask("--reverse") == ["to", "or", "not", "be"]
    assert ask("--from", "not", "--to", "or") == ["not", "or"]
    assert ask("--from", "not", "--reverse") == ["to", "or", "not"]
    assert ask("--prefix", "n") == ["not"]
    assert ask("--key", "be") == ["be"]
    assert ask("--limit", "2") == ["be", "not"]
    assert ask("--limit", "0") == []
    assert thalweg("query", counted, "counts", "--count").stdout == "4\n"


def test_a_store_answers_in_json(thalweg: Thalweg, counted: str) -> None:
    (row,) = objects(thalweg("query", counted, "counts", "--key", "to", "--json"))

    assert (row["key"], row["value"]) == ("to", 2)
    assert row["timestamp"] > 1_600_000_000_000


def test_a_key_that_is_not_there_is_said(thalweg: Thalweg, counted: str) -> None:
    result = thalweg("query", counted, "counts", "--key", "nope")

    said = "store 'counts' has no key 'nope'\n"
    assert (result.exit_code, result.stderr) == (FAILED, said)
    assert result.stdout == "key\tvalue\n"
    result = thalweg("query", counted, "counts", "--key", "nope", "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (FAILED, "", said)
    result = thalweg("query", counted, "counts", "--key", "nope", "--count")
    assert (result.exit_code, result.stdout, result.stderr) == (FAILED, "0\n", said)


def test_no_row_in_a_range_is_an_answer(thalweg: Thalweg, counted: str) -> None:
    result = thalweg("query", counted, "counts", "--prefix", "nope")

    assert (result.exit_code, result.stderr) == (DONE, "no such row\n")
    assert thalweg("query", counted, "counts", "--key", "nope", "--limit", "0").exit_code == DONE


def test_a_query_processes_nothing(thalweg: Thalweg, counted: str) -> None:
    thalweg("produce", "lines", stdin="to to\n")

    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "2"]]


def test_a_query_restores_lost_state(thalweg: Thalweg, counted: str) -> None:
    shutil.rmtree(".thalweg/state")

    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "2"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nope"], "there is no store 'nope'; the topology's stores: counts"),
        (["counts", "--key", "a", "--from", "b"], "--key asks for one key"),
        (["counts", "--prefix", "a", "--reverse"], "--prefix goes with neither"),
        (["counts", "--time-from", "0"], "'counts' has no windows"),
    ],
)
def test_a_wrong_question_is_told(
    thalweg: Thalweg, word_count: str, options: list[str], said: str
) -> None:
    refused(thalweg("query", word_count, *options), said)


@pytest.mark.parametrize(
    "options",
    [
        *(["--key", "to"], ["--key", ""], ["--from", "a"], ["--to", "a"], ["--prefix", "a"]),
        *(["--time-from", "0"], ["--time-to", "0"], ["--reverse"], ["--limit", "0"], ["--count"]),
        ["--key", "to", "--json"],
    ],
)
def test_rows_of_no_store_are_refused(
    thalweg: Thalweg, word_count: str, options: list[str]
) -> None:
    refused(
        thalweg("query", word_count, *options),
        "give the name of the STORE whose rows are asked for; word-count has counts; without",
    )


def test_an_application_on_kafka_is_not_started_for_a_question(
    thalweg: Thalweg, word_count: str
) -> None:
    on_kafka = ("--set", "bootstrap_servers=localhost:1")

    refused(thalweg("query", word_count, "counts", *on_kafka), "is asked while it runs, over HTTP")
    assert rows(thalweg("query", word_count, *on_kafka))[0][0] == "counts"


def test_a_log_that_is_not_there_is_not_made(thalweg: Thalweg, word_count: str) -> None:
    refused(thalweg("query", word_count, "counts"), "there is no log in .thalweg/log")
    refused(thalweg("consume", "lines"), "there is no log in .thalweg/log")
    refused(thalweg("topics"), "there is no log in .thalweg/log")
    refused(thalweg("reset", word_count, "--yes"), "there is no log in .thalweg/log")
    assert not Path(".thalweg").exists()


def test_a_window_store_answers(thalweg: Thalweg, script: Script) -> None:
    path = script("clicks.py", WINDOWED)
    clicks = [("a", 0), ("a", 1_000), ("b", 61_000), ("a", 61_000), ("a", 125_000)]
    lines = [json.dumps({"key": k, "value": "x", "timestamp": t}) for k, t in clicks]
    thalweg("produce", "clicks", "--json", stdin="\n".join(lines))
    assert thalweg("run", path, "--until-idle").exit_code == DONE

    def ask(*options: str) -> list[tuple[str, str, str]]:
        table = rows(thalweg("query", path, "per-minute", *options))
        return [(key, start[14:16], count) for key, start, _, count in table]

    assert ask("--key", "a") == [("a", "00", "2"), ("a", "01", "1"), ("a", "02", "1")]
    assert ask("--key", "a", "--reverse")[0] == ("a", "02", "1")
    assert ask("--key", "a", "--time-from", "60000") == [("a", "01", "1"), ("a", "02", "1")]
    assert ask("--key", "a", "--time-to", "1970-01-01T00:01:00") == [
        ("a", "00", "2"),
        ("a", "01", "1"),
    ]
    assert sorted(ask("--time-from", "60000", "--time-to", "60000")) == [
        ("a", "01", "1"),
        ("b", "01", "1"),
    ]
    assert ask("--from", "b") == [("b", "01", "1")]
    assert len(ask()) == 4
    assert objects(thalweg("query", path, "per-minute", "--key", "b", "--json")) == [
        {
            "key": {"key": "b", "start": 60_000, "end": 120_000},
            "value": 1,
            "timestamp": 61_000,
        }
    ]
    refused(thalweg("query", path, "per-minute", "--prefix", "a"), "is a window store")
    refused(thalweg("query", path, "per-minute", "--time-to", "soon"), "'soon' is no moment")
    absent = thalweg("query", path, "per-minute", "--key", "nope")
    assert absent.exit_code == FAILED
    assert absent.stderr == "store 'per-minute' has no window of key 'nope'\n"
    absent = thalweg("query", path, "per-minute", "--key", "b", "--time-to", "0")
    assert absent.exit_code == FAILED
    assert absent.stderr == "store 'per-minute' has no window of key 'b' at these times\n"


# -- produce and consume -------------------------------------------------------------------


def test_lines_go_in_and_come_out(thalweg: Thalweg) -> None:
    result = thalweg("produce", "t", "--key-separator", ":", stdin="a:1\nb:é:2\nc:")

    assert (result.exit_code, result.stdout) == (DONE, "")
    assert result.stderr == "3 records written to t\n"
    assert thalweg("consume", "t").stdout == "a\t1\nb\té:2\nc\t\n"
    assert thalweg("consume", "t", "--key-separator", " = ").stdout.startswith("a = 1\n")


def test_records_go_in_and_come_out_as_json(thalweg: Thalweg) -> None:
    given = {
        "key": "k",
        "value": {"a": [1, None]},
        "timestamp": 5,
        "headers": {"h": "x"},
        "partition": 1,
    }
    thalweg("produce", "t", "--json", "--partitions", "2", stdin=json.dumps(given))

    (found,) = objects(thalweg("consume", "t", "--json"))
    assert found == {**given, "topic": "t", "offset": 0}


def test_serdes_are_chosen_by_name(thalweg: Thalweg) -> None:
    serdes = ("--key-serde", "int64", "--value-serde", "float64")
    thalweg("produce", "t", "--key-separator", "=", *serdes, stdin="5=1.5\n")

    assert thalweg("consume", "t", *serdes).stdout == "5\t1.5\n"
    assert thalweg("consume", "t", "--key-serde", "int64").stdout == "5\t0x3ff8000000000000\n"


def test_a_part_can_be_consumed(thalweg: Thalweg) -> None:
    thalweg("produce", "t", stdin="a\nb\nc\n")

    assert thalweg("consume", "t", "--max", "2").stdout == "a\nb\n"
    assert thalweg("consume", "t", "--offset", "1").stdout == "b\nc\n"
    assert thalweg("consume", "t", "--from-end").stdout == ""
    assert thalweg("consume", "t", "--from-beginning").stdout == "a\nb\nc\n"
    assert thalweg("consume", "t", "--partition", "0").stdout == "a\nb\nc\n"
    assert thalweg("consume", "t", "--follow", "--max", "3").stdout == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("options", "stdin", "said", "kept"),
    [
        (["--value-serde", "int64"], "1\nx\n3\n", "line 2: 'x' is not an int", 1),
        (["--key-separator", ":"], "a:1\nb\n", "line 2: there is no ':' between key", 1),
        (["--json"], '{"value": 1}\n{"val": 1}\n', "line 2: it is not a record in JSON", 1),
        ([], b"ok\n\xff\n", "line 2: it is not UTF-8", 1),
        (["--value-serde", "nope"], "", "there is no serde 'nope'", 0),
        (["--json", "--key-separator", ":"], "", "two forms of a line", 0),
        (["--key-separator", ""], "", "--key-separator must not be empty", 0),
    ],
)
def test_a_bad_line_is_told_and_those_before_it_stay(
    thalweg: Thalweg, options: list[str], stdin: str | bytes, said: str, kept: int
) -> None:
    result = thalweg("produce", "t", *options, stdin=stdin)

    refused(result, said)
    assert ("1 record written to t" in result.stderr) == bool(kept)
    if kept:
        assert thalweg("topics").stdout.splitlines()[1] == "t\t1\t1"


@pytest.mark.parametrize(
    ("topic", "options", "said"),
    [
        ("no topic", [], "'no topic' is no topic name"),
        ("t", ["--partitions", "3"], "topic 't' exists with 1 partition"),
    ],
)
def test_a_topic_that_cannot_be_made_is_told(
    thalweg: Thalweg, topic: str, options: list[str], said: str
) -> None:
    thalweg("produce", "t", stdin="x\n")

    refused(thalweg("produce", topic, *options, stdin="x\n"), said)


def test_what_cannot_be_consumed_is_told(thalweg: Thalweg) -> None:
    thalweg("produce", "t", stdin="x\n")

    refused(thalweg("consume", "nope"), "there is no topic 'nope'; the log's topics: t")
    refused(thalweg("consume", "t", "--partition", "7"), "topic 't' has no partition 7; it has 1")
    refused(thalweg("consume", "t", "--from-end", "--offset", "1"), "say two things")
    result = thalweg("consume", "t", "--value-serde", "int64")
    refused(result, "serde int64 cannot read", FAILED)
    assert "[topic t, partition 0, offset 0]" in result.stderr


def test_topics_are_listed(thalweg: Thalweg, counted: str) -> None:
    listed = rows(thalweg("topics"))

    assert ["lines", "1", "2"] in listed
    assert [row[0] for row in listed] == sorted(row[0] for row in listed)
    assert {"topic": "lines", "partitions": 1, "records": 2} in objects(thalweg("topics", "--json"))


# -- reset ---------------------------------------------------------------------------------


def test_a_reset_lets_the_application_begin_anew(thalweg: Thalweg, counted: str) -> None:
    result = thalweg("reset", counted, "--yes")

    assert result.exit_code == DONE, result.output
    assert result.stderr == "word-count is reset\n"
    assert [row[0] for row in rows(thalweg("topics"))] == ["lines", "word-counts"]
    assert "word-count: 8 records in " in thalweg("run", counted, "--until-idle").stderr
    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "2"]]


def test_a_dry_run_does_nothing(thalweg: Thalweg, counted: str) -> None:
    result = thalweg("reset", counted, "--dry-run", "--to-earliest")

    assert result.exit_code == DONE
    assert result.stdout.splitlines() == [
        "would:",
        "  delete local state in .thalweg/state/word-count",
        "  delete the offsets committed by word-count",
        "  delete topic word-count-counts-changelog",
        "  delete topic word-count-counts-repartition",
        "  begin lines-0 at offset 0",
    ]
    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "2"]]


@pytest.mark.parametrize(
    ("option", "counts"),
    [
        (["--to-earliest"], {"to": "2", "be": "2", "or": "1", "not": "1"}),
        (["--to-latest"], {}),
        (["--to-offset", "1"], {"to": "1", "be": "1", "not": "1"}),
        (["--to-offset", "99"], {}),
        (["--to-datetime", "1970-01-01"], {"to": "2", "be": "2", "or": "1", "not": "1"}),
        (["--to-datetime", "9999-01-01"], {}),
    ],
)
def test_a_reset_may_say_where_the_inputs_begin(
    thalweg: Thalweg, counted: str, option: list[str], counts: dict[str, str]
) -> None:
    assert thalweg("reset", counted, "--yes", *option).exit_code == DONE
    thalweg("run", counted, "--until-idle")

    found = thalweg("query", counted, "counts")
    assert dict(line.split("\t") for line in found.stdout.splitlines()[1:]) == counts


def test_a_reset_asks_before_it_deletes(thalweg: Thalweg, counted: str) -> None:
    refused(thalweg("reset", counted, stdin="y\n"), "nobody can be asked")
    refused(thalweg("reset", counted, "--yes", "--to-latest", "--to-earliest"), "give one of them")
    refused(thalweg("reset", counted, "--yes", "--to-datetime", "soon"), "'soon' is no moment")
    assert rows(thalweg("query", counted, "counts", "--key", "to")) == [["to", "2"]]


def test_a_reset_of_something_never_run_is_no_error(thalweg: Thalweg, word_count: str) -> None:
    thalweg("produce", "lines", stdin="x\n")

    assert thalweg("reset", word_count, "--yes").exit_code == DONE


def test_a_reset_deletes_the_state_of_every_worker(
    thalweg: Thalweg, counted: str, tmp_path: Path
) -> None:
    state = tmp_path / ".thalweg" / "state"
    for worker in ("worker-1", "worker-12"):
        shutil.copytree(state / "word-count", state / worker / "word-count")
    shutil.copytree(state / "word-count", state / "worker-2" / "another")
    tasks = "*/word-count/*_*"
    assert len(list(state.glob(tasks))) > 0

    result = thalweg("reset", counted, "--yes")

    assert result.exit_code == DONE
    assert "delete local state in .thalweg/state/worker-12/word-count" in result.stdout
    assert list(state.glob(tasks)) == []
    assert len(list(state.glob("worker-2/another/*_*"))) > 0


REFUSING = """
from thalweg import App, BrokerError, StreamsBuilder
from thalweg.streams.transport.local import LocalTransport

class Refusing(LocalTransport):
    def delete_offsets(self):
        raise BrokerError("the group has members")

class Failing(LocalTransport):
    def delete_topics(self, topics):
        raise BrokerError("the disk is full")

builder = StreamsBuilder()
builder.stream("lines").group_by_key().count(name="counts")
of = {"application_id": "word-count", "commit_interval_ms": 50}
refusing = App(builder, transport=lambda: Refusing(".thalweg/log", "word-count"), **of)
failing = App(builder, transport=lambda: Failing(".thalweg/log", "word-count"), **of)
"""


def test_a_reset_of_a_group_with_members_deletes_nothing_in_the_log(
    thalweg: Thalweg, counted: str, script: Script
) -> None:
    before = rows(thalweg("topics"))
    path = script("refusing.py", REFUSING)

    result = thalweg("reset", f"{path}:refusing", "--yes")

    refused(result, "the group has members", FAILED)
    assert "in part" not in result.stderr
    assert rows(thalweg("topics")) == before


def test_a_reset_that_breaks_off_says_that_it_must_be_repeated(
    thalweg: Thalweg, counted: str, script: Script
) -> None:
    path = script("failing.py", REFUSING)

    result = thalweg("reset", f"{path}:failing", "--yes")

    refused(result, "the disk is full", FAILED)
    assert "word-count is reset in part: repeat it" in result.stderr
