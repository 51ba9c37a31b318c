"""Runs one golden case and compares everything its file says.

Owns the form of a golden file, how the JVM's settings become ours, the feeding of steps and
what counts as equal (the README of the golden files, "What to compare"). It must not know
any case by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.golden.builders import Build
from tests.golden.settings import application_id, streams_config, topology_settings
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import RawRecord
from thalweg.streams.testing import ProducedRecord, TopologyTestDriver

STACK_TRACE = "__streams.errors.stacktrace"
ERROR_CLASS = "__streams.errors.exception"
ERROR_MESSAGE = "__streams.errors.message"
KAFKAS_OWN = "org.apache.kafka."

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One golden file."""

    path: Path
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The case, which is also the name of its builder."""
        return str(self.data["case"])

    @property
    def config(self) -> Mapping[str, str]:
        """The settings, by the JVM's names."""
        config: Mapping[str, str] = self.data["config"]
        return config

    @property
    def has_steps(self) -> bool:
        """Whether there is something to run, not only names."""
        return "steps" in self.data


def load_cases(directory: Path) -> list[Case]:
    """Reads the golden files of a directory."""
    cases = []
    for path in sorted(directory.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "case" in data:
            cases.append(Case(path, data))
    return cases


# -- records -------------------------------------------------------------------------------


def check_records(case: Case, build: Build) -> None:
    """Feeds the steps and compares what was produced, dropped, committed and stored."""
    data, error = case.data, case.data.get("error")
    steps, outputs = data["steps"], data["outputs"]
    dropped = data.get("dropped_after_step", [0] * len(steps))
    with _driver(case, build) as driver:
        for index, step in enumerate(steps):
            where = f"{case.path.stem} step {index} {json.dumps(step)}"
            if error is not None and error["step"] == index:
                with pytest.raises(StreamsError):
                    _feed(driver, step)
                _compare_outputs(where, outputs[index], driver.take_produced())
                break
            try:
                _feed(driver, step)
            except Exception as raised:
                raise AssertionError(f"{where}: {type(raised).__name__}: {raised}") from raised
            _compare_outputs(where, outputs[index], driver.take_produced())
            total = driver.dropped_records_total()
            assert total == dropped[index], f"{where}: {dropped[index]} dropped, got {total}"
        assert driver.dropped_records_total() == data["dropped_records_total"]
        if error is not None:
            return
        assert driver.committed_metadata() == data["committed_metadata"]
        for name, expected in data["stores"].items():
            kind, entries = driver.store_entries(name)
            assert kind == expected["kind"], f"{case.path.stem}: kind of store {name}"
            assert entries == _entries(expected), f"{case.path.stem}: entries of store {name}"


@contextmanager
def _driver(case: Case, build: Build) -> Iterator[TopologyTestDriver]:
    topology = build(topology_settings(case.config))
    driver = TopologyTestDriver(
        topology, config=streams_config(case.config), commit=case.data["commit"]
    )
    try:
        yield driver
    finally:
        driver.close()


def _feed(driver: TopologyTestDriver, step: Mapping[str, Any]) -> None:
    if "advance_wall_clock_ms" in step:
        driver.advance_wall_clock_time(step["advance_wall_clock_ms"])
    elif "commit" in step:
        driver.commit()
    else:
        driver.pipe_raw(
            step["topic"],
            _bytes(step["key"]),
            _bytes(step["value"]),
            step["timestamp"],
            _headers(step.get("headers", ())),
        )


def _compare_outputs(where: str, expected: Sequence[Row], produced: list[ProducedRecord]) -> None:
    wanted = [_expected_row(row) for row in expected]
    got = [_row(record) for record in produced]
    for row, other in zip(wanted, got, strict=False):
        _settle_error_headers(row["headers"], other["headers"])
    if wanted == got:
        return
    at = next(
        (at for at, (row, other) in enumerate(zip(wanted, got, strict=False)) if row != other),
        min(len(wanted), len(got)),
    )
    lines = [
        f"{where}: record {at} differs; {len(wanted)} records expected, got {len(got)}",
        *(f"  expected {json.dumps(row)}" for row in wanted),
        *(f"  got      {json.dumps(row)}" for row in got),
    ]
    raise AssertionError("\n".join(lines))


def _expected_row(row: Row) -> Row:
    return {
        "topic": row["topic"],
        "partition": row.get("partition"),
        "key": row["key"],
        "value": row["value"],
        "timestamp": row["timestamp"],
        "headers": [list(header) for header in row.get("headers", ())],
    }


def _row(record: ProducedRecord) -> Row:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "key": _hex(record.key),
        "value": _hex(record.value),
        "timestamp": record.timestamp,
        "headers": [[name, _hex(value)] for name, value in record.headers],
    }


def _settle_error_headers(expected: list[list[Any]], got: list[list[Any]]) -> None:
    """Takes our text where the JVM's names a Java class or is Kafka's own message.

    There has to be one, though, and the message of a user's exception stays as it is.
    """
    ours = {name: value for name, value in got if value}
    is_kafkas = any(
        name == ERROR_CLASS and bytes.fromhex(value).decode().startswith(KAFKAS_OWN)
        for name, value in expected
    )
    for header in expected:
        name = header[0]
        if name in (ERROR_CLASS, STACK_TRACE) or (name == ERROR_MESSAGE and is_kafkas):
            header[1] = ours.get(name, header[1])


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _headers(headers: Sequence[Sequence[Any]]) -> list[tuple[str, bytes | None]]:
    return [(name, _bytes(value)) for name, value in headers]


# -- restoration ---------------------------------------------------------------------------


def check_restoration(case: Case, build: Build) -> None:
    """Restores empty stores from the recorded changelogs and compares their entries."""
    changelogs = restorable_stores(case)
    with _driver(case, build) as driver:
        for name, topic in changelogs.items():
            driver.restore_entries(name, _records_of(case, topic))
            kind, entries = driver.store_entries(name)
            expected = case.data["stores"][name]
            assert kind == expected["kind"]
            assert _logical(entries) == _logical(_entries(expected)), (
                f"{case.path.stem}: store {name} restored from {topic}"
            )


def restorable_stores(case: Case) -> dict[str, str]:
    """Returns store -> topic to restore it from, for each store that has one."""
    topics: set[str] = set()
    sources: set[str] = set()
    for subtopology in case.data.get("subtopologies", ()):
        topics.update(topic["name"] for topic in subtopology["state_changelog_topics"])
        sources.update(subtopology["source_topics"])
    changelogs, others = {}, []
    for name in case.data.get("stores", ()):
        topic = f"{application_id(case.config)}-{name}-changelog"
        if topic in topics:
            changelogs[name] = topic
        else:
            others.append(name)
    # A store may use its source topic instead; which one is certain only if it is the one.
    shared = topics & sources
    if len(shared) == len(others) == 1:
        changelogs[others[0]] = shared.pop()
    return changelogs


def _records_of(case: Case, topic: str) -> list[RawRecord]:
    rows = [row for row in case.data["steps"] if row.get("topic") == topic]
    rows += [row for rows in case.data["outputs"] for row in rows if row["topic"] == topic]
    return [
        (
            row["timestamp"],
            bytes.fromhex(row["key"]),
            _bytes(row["value"]),
            (offset, _headers(row.get("headers", ()))),
        )
        for offset, row in enumerate(rows)
        if row["key"] is not None
    ]


def _entries(store: Mapping[str, Any]) -> list[Row]:
    """Returns the entries of a store; one that has several lists of them is one entry."""
    if "entries" in store:
        entries: list[Row] = store["entries"]
        return entries
    return [{name: rows for name, rows in store.items() if name != "kind"}]


def _logical(entries: Sequence[Row]) -> list[str]:
    """Returns entries in no certain order, without the layout of their keys."""
    return sorted(
        json.dumps({name: row[name] for name in sorted(row) if name != "raw_key"})
        for row in entries
    )
