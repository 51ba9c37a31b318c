"""Golden cases of all operators on a broker: the records of every topic, byte by byte.

The steps of a case are written to topics of one partition, and each topic that the JVM wrote has to
have the same records, in one order for each key: those of output, of repartitions, of changelogs.
Cases run side by side, so their topics have names of their own; a buffer's rows name the topic that
a record came from, and there the expected bytes are changed alike.

What the JVM's driver does after each step is done here when the next one is of another topic, or
shall be seen by itself: the application has processed and committed everything by then.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.broker.records import Topics, unique
from tests.golden.builders import BUILDERS
from tests.golden.conftest import shipped_cases
from tests.golden.settings import application_id, streams_config, topology_settings
from tests.waiting import HANG_S, wait_until
from thalweg import App, State, Topology
from thalweg.topology.physical import SinkNode, SourceNode

AT_ONCE = [
    *("agg_nested", "agg_group_by_count", "opt_merge", "versioned_filter", "nulls_table_group"),
    *("window_hopping_repartition", "nulls_session", "emitfinal_session", "emitfinal_sliding"),
    *("joinss_inner_sample", "joinss_left_sample", "joinss_outer_sample"),
    *("nulls_joinss_outer_repartition", "joinss_self_optimized_asymmetric"),
    *("nulls_jointt", "nulls_joinst_repartition", "nulls_joinst_grace_inner"),
    *("opt_fk", "cogroup_repartition_one", "headers_agg"),
]
"""Steps that follow each other in one topic are written at once; there is no cache."""
ONE_BY_ONE = [
    *("process_all_store_kinds", "table_group_aggregate", "session_reduce", "sliding_aggregate"),
    *("emitfinal_tumbling_sample", "jointt_sample", "joinfk_types", "headers_joinfk"),
    *("headers_window", "headers_emitfinal", "headers_table_group"),
    *("suppress_max_bytes", "default_suppress", "headers_joinst_grace"),
]
"""Each step is committed, because it shows: a cache does not write the deletion of what was not there,
and a buffer writes what a commit finds in it."""

RUNNING = 12
"""How many cases run at the same time."""
COMMIT_MS = 10
FOR_EVER = "-1"
LONG_MS = 100 * 366 * 24 * 3_600_000
"""Kept so long, records of 1970 are not deleted."""

Row = tuple[str | None, int | None, list[list[str | None]]]
"""Value in hexadecimal, timestamp and headers of a record."""
Rows = dict[str, dict[str | None, list[Row]]]
"""Topic -> key -> rows."""


class GoldenCase:
    """One case under other names.

    Args:
        name: of the case.
        topics: the cluster.
        home: for its state.
    """

    def __init__(self, name: str, topics: Topics, home: Path) -> None:
        path = next(case.path for case in shipped_cases() if case.path.stem == name)
        self._name = name
        self._data = json.loads(path.read_text(encoding="utf-8"))
        self._topics = topics
        self._id = unique("golden")
        self._topology = BUILDERS[name](topology_settings(self._data["config"]))
        self._producer = Producer(
            {"bootstrap.servers": topics.servers, "enable.idempotence": True, "linger.ms": 0}
        )
        self._consumer = Consumer({"bootstrap.servers": topics.servers, "group.id": self._id})
        self._names = {topic: unique(topic) for topic in outer_topics(self._topology)}
        self._sources = [
            TopicPartition(self._names.get(topic, f"{self._id}-{topic}"), 0)
            for node in self._topology.nodes.values()
            if isinstance(node, SourceNode)
            for topic in node.topics
        ]
        config = streams_config(self._data["config"])
        if name in AT_ONCE:
            config = config.replace(statestore_cache_max_bytes=0)
        self._config = config.replace(
            application_id=self._id,
            bootstrap_servers=topics.servers,
            state_dir=home,
            commit_interval_ms=COMMIT_MS,
            window_emit_interval_ms=0,
            outer_join_emit_interval_ms=0,
            window_store_changelog_additional_retention_ms=LONG_MS,
            repartition_purge_interval_ms=LONG_MS,
        )

    def run(self) -> tuple[Rows, Rows]:
        """Runs it, and returns what the JVM wrote and what was written here."""
        for topic in self._names.values():
            self._topics.create(topic, retention_ms=FOR_EVER)
        with App(renamed(self._topology, self._names), config=self._config) as app:
            assert app.wait_for(State.RUNNING, timeout=timedelta(seconds=HANG_S)), app
            for steps in self._batches():
                self._write(steps)
                wait_until(self._is_done, HANG_S, lambda: f"{app!r}, {app.progress()}")
            assert app.close(timedelta(seconds=HANG_S)), app.error
        expected = self._expected()
        return expected, self._found(expected)

    def _write(self, steps: Sequence[Mapping[str, Any]]) -> None:
        for step in steps:
            self._producer.produce(
                self._names[step["topic"]],
                unhex(step["value"]),
                unhex(step["key"]),
                timestamp=step["timestamp"],
                headers=[(name, unhex(value)) for name, value in step.get("headers", ())],
            )
        assert self._producer.flush(HANG_S) == 0, "the broker does not take the records"

    def _is_done(self) -> bool:
        """Tells whether everything is committed that the application has to read.

        What it has committed is asked before where topics end: what it wrote until then counts.
        """
        committed = self._consumer.committed(self._sources, timeout=HANG_S)
        return all(
            max(known.offset, 0) == self._consumer.get_watermark_offsets(known, HANG_S)[1]
            for known in committed
        )

    def _batches(self) -> Iterator[Sequence[Mapping[str, Any]]]:
        if self._name in ONE_BY_ONE:
            yield from ([step] for step in self._data["steps"])
        else:
            for _, steps in groupby(self._data["steps"], lambda step: step["topic"]):
                yield list(steps)

    def _expected(self) -> Rows:
        there = f"{application_id(self._data['config'])}-"
        internal = {
            row["topic"]
            for rows in self._data["outputs"]
            for row in rows
            if row["topic"].startswith(there)
        }
        assert internal, "the case has no internal topics"
        names = {name: f"{self._id}-{name.removeprefix(there)}" for name in internal} | self._names
        found: Rows = defaultdict(lambda: defaultdict(list))
        for rows in self._data["outputs"]:
            for row in rows:
                value = row["value"]
                if row["timestamp"] is None and value is not None:
                    value = with_names(value, names)
                found[names[row["topic"]]][row["key"]].append(
                    (value, row["timestamp"], row.get("headers", []))
                )
        return {topic: dict(keys) for topic, keys in found.items()}

    def _found(self, expected: Rows) -> Rows:
        """Returns what was written to all these topics, with timestamps that are told there."""
        found: Rows = {}
        for topic, keys in expected.items():
            is_timed = all(time is not None for rows in keys.values() for _, time, _ in rows)
            rows: dict[str | None, list[Row]] = defaultdict(list)
            for record in self._topics.read(topic):
                headers = [[name, hexed(value)] for name, value in record.headers]
                timestamp = record.timestamp if is_timed else None
                rows[hexed(record.key)].append((hexed(record.value), timestamp, headers))
            found[topic] = dict(rows)
        return found


def outer_topics(topology: Topology) -> set[str]:
    """Returns the topics that a topology reads and writes, but for internal ones."""
    topics: set[str] = set()
    for node in topology.nodes.values():
        if isinstance(node, SourceNode):
            topics.update(node.topics)
        elif isinstance(node, SinkNode) and node.topic is not None:
            topics.add(node.topic)
    return topics - topology.internal_topics.keys()


def renamed(topology: Topology, names: Mapping[str, str]) -> Topology:
    """Gives topics of a topology other names; the names of nodes and stores stay."""
    for node in list(topology.nodes.values()):
        if isinstance(node, SourceNode):
            others = tuple(names.get(topic, topic) for topic in node.topics)
            topology.nodes[node.name] = replace(node, topics=others)
        elif isinstance(node, SinkNode) and node.topic is not None:
            topology.nodes[node.name] = replace(node, topic=names.get(node.topic, node.topic))
    for store, topic in topology.store_topics.items():
        topology.store_topics[store] = names.get(topic, topic)
    return topology


def with_names(value: str, names: Mapping[str, str]) -> str:
    """Returns a buffer's row with the other names of topics, each behind its length."""
    data = bytes.fromhex(value)
    for old, new in names.items():
        data = data.replace(with_length(old), with_length(new))
    return data.hex()


def with_length(name: str) -> bytes:
    return struct.pack(f">i{len(name)}s", len(name), name.encode())


def unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def hexed(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


@pytest.fixture(scope="module")
def runs(
    kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[tuple[Rows, Rows]]]]:
    """Runs all cases, some at a time: most of it is waiting."""
    topics = Topics(kafka)
    made = {
        name: GoldenCase(name, topics, tmp_path_factory.mktemp(name))
        for name in [*AT_ONCE, *ONE_BY_ONE]
    }
    with ThreadPoolExecutor(RUNNING) as pool:
        yield {name: pool.submit(case.run) for name, case in made.items()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", [*AT_ONCE, *ONE_BY_ONE])
def test_every_topic_has_the_jvms_bytes(
    runs: dict[str, Future[tuple[Rows, Rows]]], name: str
) -> None:
    expected, found = runs[name].result()

    for topic, rows in expected.items():
        for key, wanted in rows.items():
            assert found[topic].get(key) == wanted, f"{topic}, key {key}"
        assert found[topic].keys() == rows.keys(), topic
