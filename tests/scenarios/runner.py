"""Runs a scenario: pipes its records, compares what comes out, is dropped and is stored.

Owns the form of the data; README.md tells it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios import topologies
from tests.scenarios.registry import SERDES, TOPOLOGIES
from tests.scenarios.store_calls import check_calls
from thalweg.stores.api import ValueAndTimestamp
from thalweg.stores.record import Headers
from thalweg.stores.windowed import Windowed
from thalweg.streams.config import StreamsConfig
from thalweg.streams.testing import ProducedRecord, TopologyTestDriver
from thalweg.topology.dsl import StreamsBuilder

__all__ = ["Scenario", "load_scenarios", "run", "topologies"]

CASES = Path(__file__).parent / "cases"
APPLICATION = "scenario"

_SERDE_SETTINGS = ("default_key_serde", "default_value_serde")
_FIELDS = {
    "name", "test", "topology", "args", "topics", "settings", "commit", "wall_clock_ms", "steps",
    "stores", "dropped", "describe", "error", "different", "note",
}  # fmt: skip
_STEP_FIELDS = {
    "in", "out", "dropped", "commit", "advance", "error", "unordered", "by_topic", "last", "as_map",
    "of", "stores", "calls", "note",
}  # fmt: skip

_MERGED = ("args", "settings")
"""Of which a variant only says what is more."""

Row = list[Any]


@dataclass(frozen=True)
class Scenario:
    """One scenario of a file.

    Attributes:
        path: the file.
        data: its fields; those that it leaves out are the file's.
    """

    path: Path
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """What the test is called."""
        return f"{self.path.stem}-{self.data['name']}"


def load_scenarios(directory: Path = CASES) -> list[Scenario]:
    """Reads all files of a directory."""
    found = []
    for path in sorted(directory.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(content) - {"source", "defaults", "scenarios"}
        assert not unknown, f"{path.name}: unknown fields {unknown}"
        for given in _variants(content["scenarios"]):
            data = content.get("defaults", {}) | given
            unknown = set(data) - _FIELDS
            assert not unknown, f"{path.name} {given['name']}: unknown fields {unknown}"
            for step in data.get("steps", ()):
                unknown = set(step) - _STEP_FIELDS
                assert not unknown, f"{path.name} {given['name']}: unknown fields {unknown}"
            found.append(Scenario(path, data))
    return found


def _variants(scenarios: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for given in scenarios:
        rest = {name: value for name, value in given.items() if name != "variants"}
        for variant in given.get("variants", [{}]):
            own = {"name": f"{given['name']}-{variant['name']}"} if variant else {}
            parts = {part: rest.get(part, {}) | variant.get(part, {}) for part in _MERGED}
            yield rest | variant | own | {part: more for part, more in parts.items() if more}


def run(scenario: Scenario) -> None:
    """Runs a scenario; raises AssertionError where something is not as the data says."""
    data = scenario.data
    if "error" in data:
        says = data["error"].get("says", "")
        with pytest.raises(Exception, match=says) as caught, _driver(data):
            pass
        _check_error(caught.value, data["error"])
        return
    with _driver(data) as (driver, description):
        if "describe" in data:
            assert description == data["describe"]
        dropped = 0
        for index, step in enumerate(data.get("steps", ())):
            where = f"{scenario.id} step {index}"
            _take(driver, data["topics"], step, where)
            dropped += step.get("dropped", 0)
            if "dropped" in data or any("dropped" in step for step in data["steps"]):
                total = driver.dropped_records_total()
                if "dropped" in step or "dropped" not in data:
                    assert total == dropped, f"{where}: {dropped} dropped so far, got {total}"
            _check_stores(driver, step.get("stores", {}), where)
            check_calls(driver, step.get("calls", ()), where)
        if "dropped" in data:
            assert driver.dropped_records_total() == data["dropped"]
        _check_stores(driver, data.get("stores", {}), scenario.id)


@contextmanager
def _driver(data: Mapping[str, Any]) -> Iterator[tuple[TopologyTestDriver, str]]:
    settings: dict[str, Any] = {
        "application_id": APPLICATION,
        "statestore_cache_max_bytes": 0,
        "default_dsl_store": "memory",
    }
    settings |= data.get("settings", {})
    for name in _SERDE_SETTINGS:
        if name in settings:
            settings[name] = SERDES[settings[name]]
    settings.setdefault("default_key_serde", SERDES["string"])
    settings.setdefault("default_value_serde", SERDES["string"])
    config = StreamsConfig(**settings)
    builder = StreamsBuilder()
    TOPOLOGIES[data["topology"]](builder, **data.get("args", {}))
    built = builder.build(config)
    driver = TopologyTestDriver(
        built,
        config=config,
        commit=data.get("commit", "every-record"),
        wall_clock_ms=data.get("wall_clock_ms", 0),
    )
    try:
        yield driver, str(built.describe())
    finally:
        driver.close()


def _check_error(error: BaseException, expected: Mapping[str, Any]) -> None:
    names = [kind.__name__ for kind in type(error).__mro__]
    assert expected["type"] in names, f"{expected['type']} expected, got {error!r}"


# -- steps ---------------------------------------------------------------------------------


def _take(
    driver: TopologyTestDriver, topics: Mapping[str, Sequence[str]], step: Mapping[str, Any],
    where: str,
) -> None:  # fmt: skip
    if "error" in step:
        with pytest.raises(Exception, match=step["error"].get("says", "")) as caught:
            _feed(driver, topics, step)
        _check_error(caught.value, step["error"])
    else:
        _feed(driver, topics, step)
    expected: list[Row] = step.get("out", [])
    produced = [
        _row(record, topics) for record in driver.take_produced() if _is_out(record, topics)
    ]
    if "of" in step:
        produced = [row for row in produced if row[0] in step["of"]]
    if step.get("as_map"):
        produced = list({(row[0], str(row[1])): row for row in produced}.values())
    if step.get("last"):
        produced = produced[-1:]
    got = [
        row[: len(wanted)] if wanted is not None else row
        for wanted, row in zip(_padded(expected, produced), produced, strict=False)
    ]
    if step.get("by_topic"):
        expected, got = sorted(expected, key=_topic), sorted(got, key=_topic)
    if step.get("unordered") or step.get("as_map"):
        expected, got = sorted(expected, key=json.dumps), sorted(got, key=json.dumps)
    if expected != got:
        lines = [
            f"{where} {json.dumps(step.get('in', []))}",
            *(f"  expected {json.dumps(row)}" for row in expected),
            *(f"  got      {json.dumps(row)}" for row in got),
        ]
        raise AssertionError("\n".join(lines))


def _feed(
    driver: TopologyTestDriver, topics: Mapping[str, Sequence[str]], step: Mapping[str, Any]
) -> None:
    if "advance" in step:
        driver.advance_wall_clock_time(step["advance"])
    for topic, key, value, timestamp, *headers in step.get("in", ()):
        key_serde, value_serde = topics[topic]
        entry = driver.create_input_topic(topic, SERDES[key_serde], SERDES[value_serde])
        pairs = [(name, text.encode()) for name, text in (headers[0] if headers else ())]
        entry.pipe_input(key, value, timestamp, Headers(pairs))
    if step.get("commit"):
        driver.commit()


def _topic(row: Row) -> str:
    topic: str = row[0]
    return topic


def _padded(expected: Sequence[Row], produced: Sequence[Row]) -> list[Row | None]:
    return [*expected, *[None] * (len(produced) - len(expected))]


def _is_out(record: ProducedRecord, topics: Mapping[str, Sequence[str]]) -> bool:
    return record.topic in topics or not record.topic.startswith(f"{APPLICATION}-")


def _row(record: ProducedRecord, topics: Mapping[str, Sequence[str]]) -> Row:
    key_serde, value_serde = topics[record.topic]
    key, value = (
        None if half is None else SERDES[serde].deserializer(record.topic)(half)
        for half, serde in ((record.key, key_serde), (record.value, value_serde))
    )
    headers = [[name, None if text is None else text.decode()] for name, text in record.headers]
    return [record.topic, key, value, record.timestamp, headers]


# -- stores --------------------------------------------------------------------------------


def _check_stores(driver: TopologyTestDriver, stores: Mapping[str, list[Row]], where: str) -> None:
    for name, expected in stores.items():
        store = driver.get_state_store(name)
        got = [[*_plain(key), *_plain(value)] for key, value in store.all()]
        got = [row[: len(expected[0])] if expected else row for row in got]
        assert got == expected, f"{where}: store {name} has {expected}, got {got}"


def _plain(half: Any) -> list[Any]:
    """Returns a key or value as the data has it."""
    if isinstance(half, Windowed):
        return [*_plain(half.key), half.window.start_ms, half.window.end_ms]
    if isinstance(half, ValueAndTimestamp):
        return [half.value, half.timestamp]
    return [half]
