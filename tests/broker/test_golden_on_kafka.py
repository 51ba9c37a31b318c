"""The JVM's records, byte by byte: out of a broker, and not only out of the test driver.

The steps of golden cases are written to topics of one partition, so that every topic has one
order. The JVM committed after each record; with a cache of no bytes each change is written
here, too. The application has a name of its own, and so have its internal topics; the topics
that the topologies name keep their names and are taken away again.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.broker.records import Topics, unique
from tests.golden.builders import BUILDERS
from tests.golden.settings import application_id, streams_config, topology_settings
from tests.waiting import HANG_S, wait_until
from thalweg import App

CASES = Path(__file__).parents[1] / "golden" / "cases"
FOR_EVER = "-1"
NAMED = {"in", "out"}

Row = tuple[str | None, str | None, int]
"""Key and value in hexadecimal, and the timestamp."""


@pytest.fixture
def topics(kafka: str) -> Iterator[Topics]:
    """A cluster without the topics that the golden topologies name, before and after."""
    topics = Topics(kafka)
    taken = topics.names() & NAMED
    assert not taken, f"the golden topologies need these names, which others have: {taken}"
    yield topics
    topics.delete(NAMED)


@pytest.mark.parametrize("name", ["agg_word_count", "agg_count_eos"])
def test_internal_topics_have_the_jvms_bytes(topics: Topics, name: str, tmp_path: Path) -> None:
    data = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    name_there, name_here = application_id(data["config"]), unique("golden")
    # Kafka's clients cannot send timestamp 0: all are a millisecond later here and there.
    expected = {
        re.sub(f"^{name_there}-", f"{name_here}-", topic): rows
        for topic, rows in expected_rows(data, later_ms=1).items()
    }
    for topic in NAMED:
        topics.create(topic, retention_ms=FOR_EVER)
    (source,) = {step["topic"] for step in data["steps"]}
    topics.produce(
        source,
        [(unhex(step["key"]), unhex(step["value"])) for step in data["steps"]],
        timestamps=[step["timestamp"] + 1 for step in data["steps"]],
    )
    config = streams_config(data["config"]).replace(
        application_id=name_here,
        bootstrap_servers=topics.servers,
        state_dir=tmp_path,
        statestore_cache_max_bytes=0,
        commit_interval_ms=100,
    )

    with App(BUILDERS[name](topology_settings(data["config"])), config=config) as app:
        wait_until(
            lambda: len(topics.read("out")) >= len(expected["out"]),
            HANG_S,
            lambda: f"{len(expected['out'])} records of output, but {app!r}, {app.progress()}",
        )
        assert app.close(timedelta(seconds=HANG_S)), app.error

    found = {
        topic: [
            (hexed(record.key), hexed(record.value), record.timestamp)
            for record in topics.read(topic)
        ]
        for topic in expected
    }
    for topic, rows in expected.items():
        if config.is_exactly_once and topic.endswith("-changelog"):
            # A transaction's marker has today's time, so that the broker closes the segment of
            # these old records, and may have compacted it by now.
            assert is_left_of(found.pop(topic), rows)
        else:
            assert found.pop(topic) == rows
    assert not found
    internal = [topic for topic in expected if topic.startswith(name_here)]
    assert internal, "the case has no internal topics"


def expected_rows(data: dict[str, Any], later_ms: int) -> dict[str, list[Row]]:
    """Returns what the JVM wrote, by topic."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for outputs in data["outputs"]:
        for row in outputs:
            rows[row["topic"]].append((row["key"], row["value"], row["timestamp"] + later_ms))
    return dict(rows)


def is_left_of(found: list[Row], written: list[Row]) -> bool:
    """Tells whether compaction may have left `found` of what was written."""
    remaining = iter(written)
    last = {key: value for key, value, _ in written}
    return all(row in remaining for row in found) and last == {
        key: value for key, value, _ in found
    }


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def hexed(data: bytes | None) -> str | None:
    return None if data is None else data.hex()
