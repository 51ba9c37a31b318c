"""Runs a plan on our side, compares it with the JVM's result, and makes a failing plan small.

Owns what counts as equal: every produced record of every step in order, what was dropped, the
topology's description, and the rows of named stores. It must not know how plans are made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.differential.plan import PlanBuilder
from tests.golden.settings import streams_config, topology_settings
from thalweg import (
    ReadOnlySessionStore,
    StreamsBuilder,
    ValueAndTimestamp,
    VersionedKeyValueStore,
    Windowed,
)
from thalweg.stores.errors import StreamsError
from thalweg.streams.testing import ProducedRecord, TopologyTestDriver
from thalweg.topology.errors import TopologyError

Plan = Mapping[str, Any]
Result = Mapping[str, Any]

DEFAULTS = {
    "application.id": "app",
    "default.key.serde": "org.apache.kafka.common.serialization.Serdes$StringSerde",
    "default.value.serde": "org.apache.kafka.common.serialization.Serdes$StringSerde",
}


def ours(plan: Plan) -> dict[str, Any]:
    """Runs a plan on our side; the result has the JVM's form."""
    config = {**DEFAULTS, **plan["config"]}
    result: dict[str, Any] = {}
    try:
        builder = StreamsBuilder()
        PlanBuilder(plan, builder)
        topology = builder.build(topology_settings(config))
        result["describe"] = str(topology.describe())
    except (TopologyError, TypeError, ValueError) as error:
        result["build_error"] = repr(error)
        return result
    outputs: list[Any] = []
    dropped: list[int] = []
    result["outputs"], result["dropped_after_step"] = outputs, dropped
    with TopologyTestDriver(
        topology, config=streams_config(config), commit=plan["commit"]
    ) as driver:
        for step in plan["steps"]:
            try:
                _feed(driver, step)
            except StreamsError as error:
                result["error"], result["error_step"] = repr(error), len(outputs)
                outputs.append([_row(record) for record in driver.take_produced()])
                return result
            outputs.append([_row(record) for record in driver.take_produced()])
            dropped.append(driver.dropped_records_total())
        result["stores"] = {name: _rows_of(driver, name) for name in plan["stores"]}
    return result


KEYS = ("k0", "k1", "k2", "ka", "kb", "kc")
"""Keys by which stores are read that are not read as a whole; Stores.java has the same."""


def _rows_of(driver: TopologyTestDriver, name: str) -> list[list[Any]]:
    """Returns what is in a store as a user reads it, in its order."""
    store: Any = driver.get_all_state_stores().get(name)
    if store is None:
        return []
    if isinstance(store, ReadOnlySessionStore):
        rows = [row for key in KEYS for row in store.fetch(key)]
        return [[*_shown_key(key), *_shown_value(value)] for key, value in rows]
    if isinstance(store, VersionedKeyValueStore):
        records = [(key, store.get(key)) for key in KEYS]
        return [[key, str(row.value), row.timestamp] for key, row in records if row is not None]
    return [[*_shown_key(key), *_shown_value(value)] for key, value in store.all()]


def _shown_key(key: Any) -> list[Any]:
    if isinstance(key, Windowed):
        return [str(key.key), key.window.start_ms, key.window.end_ms]
    return [str(key)]


def _shown_value(value: Any) -> list[Any]:
    if isinstance(value, ValueAndTimestamp):
        return [str(value.value), value.timestamp]
    return [str(value)]


def _feed(driver: TopologyTestDriver, step: Mapping[str, Any]) -> None:
    if "commit" in step:
        driver.commit()
    elif "advance_wall_clock_ms" in step:
        driver.advance_wall_clock_time(step["advance_wall_clock_ms"])
    else:
        headers = [(name, _bytes(value)) for name, value in step.get("headers", ())]
        key, value = _bytes(step["key"]), _bytes(step["value"])
        driver.pipe_raw(step["topic"], key, value, step["timestamp"], headers)


def _row(record: ProducedRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"topic": record.topic}
    if record.partition is not None:
        row["partition"] = record.partition
    row |= {"key": _hex(record.key), "value": _hex(record.value), "timestamp": record.timestamp}
    if record.headers:
        row["headers"] = [[name, _hex(value)] for name, value in record.headers]
    return row


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def difference(theirs: Result, mine: Result) -> str | None:
    """Tells the first difference, None where there is none."""
    if "null keyChangingChild" in theirs.get("build_error", ""):
        return None  # its optimiser refuses what ours builds
    if ("build_error" in theirs) != ("build_error" in mine):
        return f"build: {theirs.get('build_error')} / {mine.get('build_error')}"
    if "build_error" in theirs:
        return None
    if theirs["describe"] != mine["describe"]:
        return f"describe:\n{theirs['describe']}\n{mine['describe']}"
    if "ClassCastException" in theirs.get("error", ""):
        return None  # a serde that the JVM does not pass on, and takes the default instead
    if theirs.get("error_step") != mine.get("error_step"):
        return f"error: {theirs.get('error')} / {mine.get('error')}"
    for at, (expected, got) in enumerate(zip(theirs["outputs"], mine["outputs"], strict=False)):
        if _settled(expected) != _settled(got):
            return f"step {at}:\n{_lines(expected)}\ngot\n{_lines(got)}"
    if theirs["dropped_after_step"] != mine["dropped_after_step"]:
        return f"dropped: {theirs['dropped_after_step']} / {mine['dropped_after_step']}"
    for name, rows in theirs.get("stores", {}).items():
        if rows != mine["stores"][name]:
            return f"store {name}: {rows} / {mine['stores'][name]}"
    return None


def _settled(rows: list[Any]) -> list[Any]:
    """Puts the rows of a suppress buffer's changelog, which leave it in hash order, into one order."""
    loose = [row for row in rows if _is_buffer(row)]
    return [row for row in rows if not _is_buffer(row)] + sorted(loose, key=json.dumps)


def _is_buffer(row: Mapping[str, Any]) -> bool:
    return "SUPPRESS" in row["topic"] and row["topic"].endswith("-changelog")


def _lines(rows: list[Any]) -> str:
    return "\n".join(f"  {json.dumps(row)}" for row in rows)


# -- making a failing plan small -----------------------------------------------------------


def smallest(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Takes away steps, nodes and options as long as the plan still fails."""
    found = dict(plan)
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(found):
            if fails(smaller):
                found, is_smaller = dict(smaller), True
                break
    return found


def _smaller(plan: Plan) -> Iterator[dict[str, Any]]:
    steps = plan["steps"]
    size = len(steps) // 2
    while size:
        for at in range(0, len(steps), size):
            yield {**plan, "steps": steps[:at] + steps[at + size :]}
        size //= 2
    nodes = plan["nodes"]
    for at in reversed(range(len(nodes))):
        if (left := without(nodes, at)) is not None:
            yield {**plan, "nodes": left, "stores": _stores(left), "steps": _read(left, steps)}
    for at, node in enumerate(nodes):
        for option in ("store", "by", "emit", "name"):
            is_needed = (
                node["op"] in ("table_group", "global_lookup")
                if option == "by"
                else option == "store" and ("history_ms" in node or node["op"] == "global_table")
            )
            if option in node and not is_needed:
                bare = {name: value for name, value in node.items() if name != option}
                yield {**plan, "nodes": [*nodes[:at], bare, *nodes[at + 1 :]]}
    if plan["commit"] != "every-record":
        yield {**plan, "commit": "every-record"}
    for name in plan["config"]:
        yield {**plan, "config": {k: v for k, v in plan["config"].items() if k != name}}


def without(nodes: list[dict[str, Any]], at: int) -> list[dict[str, Any]] | None:
    """Takes a node away with all that stands below it; None if nothing is left."""
    gone = {at}
    for index, node in enumerate(nodes):
        if gone & set(node.get("of", ())):
            gone.add(index)
    places = [index for index in range(len(nodes)) if index not in gone]
    if not places:
        return None
    new = {old: index for index, old in enumerate(places)}
    return [
        {**nodes[old], "of": [new[above] for above in nodes[old]["of"]]}
        if "of" in nodes[old]
        else nodes[old]
        for old in places
    ]


def _stores(nodes: list[dict[str, Any]]) -> list[str]:
    return [n["store"]["name"] for n in nodes if "name" in n.get("store", {})]


def _read(nodes: list[dict[str, Any]], steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    topics = {n["topic"] for n in nodes if n["op"] in ("stream", "table", "global_table")}
    return [step for step in steps if step.get("topic", None) in topics or "topic" not in step]
