"""`thalweg topics`: creating, deleting, describing topics, and their configs; on an embedded log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.unit.streams.cli.conftest import ROOT
from tests.unit.streams.cli.test_cli import DONE, LOCKED, REFUSED, line_with, objects, refused, rows

Thalweg = Callable[..., Result]
Started = Callable[..., "subprocess.Popen[str]"]

COMMANDS = (
    (),
    ("run",),
    ("status",),
    ("topology",),
    ("query",),
    ("produce",),
    ("consume",),
    ("reset",),
    ("topics",),
    ("topics", "create"),
    ("topics", "delete"),
    ("topics", "describe"),
    ("topics", "config"),
)


def test_topics_are_created_with_partitions_and_configs(thalweg: Thalweg) -> None:
    created = thalweg(
        *("topics", "create", "a", "b", "--partitions", "3"),
        *("--topic-config", "retention.ms=86400000", "--topic-config", "cleanup.policy=delete"),
    )

    assert created.exit_code == DONE, created.output
    assert "a is created, with 3 partitions\nb is created, with 3 partitions\n" in created.stderr
    assert rows(thalweg("topics")) == [["a", "3", "0"], ["b", "3", "0"]]
    assert rows(thalweg("topics", "config", "b")) == [
        ["cleanup.policy", "delete"],
        ["retention.ms", "86400000"],
    ]


def test_a_topic_is_described(thalweg: Thalweg) -> None:
    thalweg("topics", "create", "t", "--partitions", "2", "--topic-config", "retention.ms=-1")
    thalweg("produce", "t", "--json", stdin='{"value": "a", "partition": 1}\n' * 3)

    told = thalweg("topics", "describe", "t")
    assert told.stdout.splitlines() == [
        "partition\tfirst offset\tend offset\trecords",
        "0\t0\t0\t0",
        "1\t0\t3\t3",
        "",
        "config\tvalue",
        "retention.ms\t-1",
    ]
    (told_json,) = objects(thalweg("topics", "describe", "t", "--json"))
    assert told_json["configs"] == {"retention.ms": "-1"}
    assert told_json["partitions"][1] == {
        "partition": 1,
        "first_offset": 0,
        "end_offset": 3,
        "records": 3,
    }


def test_configs_are_changed_and_taken_back(thalweg: Thalweg) -> None:
    thalweg("topics", "create", "t")
    assert "no configs of its own" in thalweg("topics", "config", "t").stderr

    changed = thalweg("topics", "config", "t", "retention.ms=5", "max.message.bytes=100")
    assert rows(changed) == [["max.message.bytes", "100"], ["retention.ms", "5"]]
    # It is kept, and holds.
    refused(thalweg("produce", "t", stdin="x" * 200), "the topic takes up to 100", 1)
    back = thalweg("topics", "config", "t", "--unset", "max.message.bytes", "--json")
    assert objects(back) == [{"retention.ms": "5"}]
    assert thalweg("produce", "t", stdin="x" * 200).exit_code == DONE
    everything = dict(rows(thalweg("topics", "config", "t", "--all")))
    assert everything["retention.ms"] == "5"
    assert everything["cleanup.policy"] == "delete"


def test_topics_are_deleted(thalweg: Thalweg) -> None:
    thalweg("topics", "create", "a", "b", "c")

    assert thalweg("topics", "delete", "a", "c").stderr == "a is deleted\nc is deleted\n"
    assert rows(thalweg("topics")) == [["b", "1", "0"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "orders"), "topic 'orders' exists, with 1 partition"),
        (("create", "no name"), "is no topic name"),
        (("create", "x", "--partitions", "0"), "--partitions"),
        (("create", "x", "--partitions", "1000000"), "from 1 to 100000"),
        (("create", "x", "--topic-config", "retention.ms"), "is typed NAME=VALUE"),
        (("create", "x", "--topic-config", "retension.ms=5"), "did you mean retention.ms?"),
        (("create", "x", "--topic-config", "colour=red"), "topics have no config 'colour'\n"),
        (("create", "x", "--topic-config", "retention.ms=soon"), "must be a whole number"),
        (("create", "x", "--topic-config", "cleanup.policy=burn"), "compact, delete or both"),
        (("delete", "order"), "there is no topic 'order'; is one of these meant: orders?"),
        (("delete", "orders", "none"), "there is no topic 'none'"),
        (("describe", "none"), "there is no topic 'none'\n"),
        (("config", "none"), "there is no topic 'none'"),
        (("config", "orders", "retention.ms=-7"), "must be a whole number"),
        (("config", "orders", "colour=red"), "topics have no config 'colour'"),
        (("config", "orders", "--unset", "colour"), "topics have no config 'colour'"),
        (("config", "orders", "retention.ms=1", "--unset", "retention.ms"), "both set and"),
        (("describe", "orders", "--data-dir", "elsewhere"), "there is no log in elsewhere"),
        (("--data-dir", "elsewhere", "describe", "orders"), "give the options behind describe"),
    ],
)
def test_what_cannot_be_is_told(thalweg: Thalweg, arguments: tuple[str, ...], said: str) -> None:
    thalweg("topics", "create", "orders")

    result = thalweg("topics", *arguments)

    assert result.exit_code == REFUSED, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert [row[0] for row in rows(thalweg("topics"))] == ["orders"]


def test_internal_topics_are_protected(thalweg: Thalweg, word_count: str) -> None:
    thalweg("produce", "lines", stdin="a b\n")
    thalweg("run", word_count, "--until-idle")
    changelog, repartition = "word-count-counts-changelog", "word-count-counts-repartition"

    for name in (changelog, repartition):
        refused(thalweg("topics", "delete", "lines", name), f"{name}: an internal topic")
        refused(thalweg("topics", "config", name, "retention.ms=5"), f"{name} is an internal topic")
    assert len(rows(thalweg("topics"))) == 4
    assert ["cleanup.policy", "compact"] in rows(thalweg("topics", "config", changelog))
    assert thalweg("topics", "config", changelog, "segment.bytes=5", "--yes").exit_code == DONE
    assert thalweg("topics", "delete", repartition, "--yes").exit_code == DONE
    assert len(rows(thalweg("topics"))) == 3


def test_while_an_application_runs_topics_are_made_but_not_deleted(
    thalweg: Thalweg, word_count: str, started: Started
) -> None:
    run = started("run", word_count)
    line_with(run, "running, 2 tasks")

    assert thalweg("topics", "create", "t", "--partitions", "2").exit_code == DONE
    assert rows(thalweg("topics", "config", "t", "retention.ms=5")) == [["retention.ms", "5"]]
    assert len(rows(thalweg("topics", "describe", "t"))) == 5
    refused(thalweg("topics", "delete", "lines"), f"process {run.pid} runs application", LOCKED)
    refused(thalweg("topics", "config", "t", "retention.ms=x"), "must be a whole number")
    assert run.poll() is None


# -- produce -------------------------------------------------------------------------------

OLD = '{"value": "old", "timestamp": "2013-01-01"}\n'
NEW = '{"value": "new"}\n'


def test_a_topic_that_produce_makes_may_have_configs(thalweg: Thalweg) -> None:
    made = thalweg("produce", "t", "--topic-config", "cleanup.policy=compact", stdin="")
    assert made.exit_code == DONE, made.output
    assert rows(thalweg("topics", "config", "t")) == [["cleanup.policy", "compact"]]
    refused(thalweg("produce", "t", "--topic-config", "retention.ms=5", stdin="a"), "'t' exists")
    refused(thalweg("produce", "u", "--topic-config", "retention=5", stdin="a"), "no config")


def test_records_that_are_deleted_at_once_are_told(thalweg: Thalweg) -> None:
    week = ("--topic-config", "retention.ms=604800000")
    told = thalweg("produce", "t", "--json", *week, stdin=OLD * 2 + NEW)

    assert "3 records written to t" in told.stderr
    assert "2 records are older than the retention.ms of t, 604,800,000" in told.stderr
    assert "thalweg topics config t retention.ms=-1" in told.stderr
    for options in (("kept",), ("compacted", "--topic-config", "cleanup.policy=compact")):
        key = OLD.replace("{", '{"key": "k", ')
        assert "older" not in thalweg("produce", *options, "--json", stdin=key).stderr
    assert "older" not in thalweg("produce", "t", "--json", stdin=NEW).stderr


def test_an_application_that_writes_such_records_says_so(
    thalweg: Thalweg, script: Callable[[str, str], str]
) -> None:
    path = script(
        "copy.py",
        "from thalweg import App, StreamsBuilder\nbuilder = StreamsBuilder()\n"
        "builder.stream('in').to('out')\napp = App(builder, application_id='copy')\n",
    )
    thalweg("topics", "create", "out", "--topic-config", "retention.ms=604800000")
    thalweg("produce", "in", "--json", stdin=OLD)

    result = thalweg("run", path, "--until-idle")

    assert result.stderr.count("older than its retention.ms of 604800000") == 1
    assert "newest is of 2013-01-01; thalweg topics config out retention.ms=-1" in result.stderr


# -- help and completion -------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_tells_no_types_of_flags(
    thalweg: Thalweg, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    told = thalweg(*command, "--help")

    assert told.exit_code == DONE
    assert "<bool>" not in told.stdout
    assert "--help" in told.stdout


def completed(typed: str, tmp_path: Path) -> list[str]:
    """Returns what a shell offers behind what was typed so far."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_THALWEG_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.streams.cli"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("thalweg to", {"topology", "topics"}),
        ("thalweg topics ", {"create", "delete", "describe", "config"}),
        ("thalweg run --until", {"--until-idle"}),
        ("thalweg run --log-level ", {"debug", "info", "warning", "error"}),
        ("thalweg produce --topic-c", {"--topic-config"}),
    ],
)
def test_a_shell_completes(typed: str, offered: set[str], tmp_path: Path) -> None:
    assert set(completed(typed, tmp_path)) == offered


def test_a_shell_can_be_told_how_to_complete(
    thalweg: Thalweg, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else it asks which shell the tests were started from, and there may be none.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "--install-completion" in thalweg("--help").stdout
    shown = json.dumps(thalweg("--show-completion", "bash").stdout)
    assert re.search("_THALWEG_COMPLETE|_completion", shown, re.IGNORECASE)
