"""`thalweg topics` and the configs of `produce`, on a real broker."""

from __future__ import annotations

import json

from typer.testing import CliRunner, Result

from tests.broker.records import unique
from thalweg.streams.cli import cli


def thalweg(kafka: str, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(
        cli, [*arguments, "--bootstrap-servers", kafka], input=stdin, catch_exceptions=False
    )


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_topics_are_made_described_changed_and_deleted(kafka: str) -> None:
    name = unique("topic")
    created = ("topics", "create", name, "--partitions", "3", "--topic-config")
    done(thalweg(kafka, *created, "retention.ms=86400000"))
    refused(thalweg(kafka, *created, "retention.ms=5"), f"topic {name!r} exists, with 3 partitions")
    refused(thalweg(kafka, "topics", "create", f"{name}-x", "--topic-config", "a=b"), "a")

    done(thalweg(kafka, "produce", name, "--json", stdin='{"value": "v", "partition": 2}\n'))
    told = json.loads(done(thalweg(kafka, "topics", "describe", name, "--json")))
    assert told["configs"] == {"retention.ms": "86400000"}
    assert [row["records"] for row in told["partitions"]] == [0, 0, 1]

    changed = thalweg(kafka, "topics", "config", name, "cleanup.policy=compact", "--json")
    assert json.loads(done(changed)) == {"cleanup.policy": "compact", "retention.ms": "86400000"}
    unset = thalweg(kafka, "topics", "config", name, "--unset", "retention.ms", "--json")
    assert json.loads(done(unset)) == {"cleanup.policy": "compact"}
    everything = json.loads(done(thalweg(kafka, "topics", "config", name, "--all", "--json")))
    assert everything.keys() > {"cleanup.policy", "retention.ms", "segment.ms"}
    refused(thalweg(kafka, "topics", "config", name, "colour=red"), "colour")

    done(thalweg(kafka, "topics", "delete", name))
    refused(thalweg(kafka, "topics", "describe", name), f"there is no topic {name!r}")


def test_internal_topics_are_protected(kafka: str) -> None:
    name = f"{unique('app')}-counts-changelog"
    done(thalweg(kafka, "topics", "create", name))
    refused(thalweg(kafka, "topics", "delete", name), "an internal topic")
    refused(thalweg(kafka, "topics", "config", name, "retention.ms=5"), "an internal topic")
    done(thalweg(kafka, "topics", "delete", name, "--yes"))


def test_records_older_than_a_topic_keeps_them_are_told(kafka: str) -> None:
    name = unique("old")
    made = thalweg(
        kafka,
        *("produce", name, "--json", "--topic-config", "retention.ms=604800000"),
        stdin='{"value": "v", "timestamp": "2013-01-01"}\n',
    )
    done(made)
    assert f"1 record is older than the retention.ms of {name}, 604,800,000" in made.stderr
    done(thalweg(kafka, "topics", "delete", name))
