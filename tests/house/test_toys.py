"""A new store kind and a new operator need one file each: caches, changelogs, restoring, queries.

What the two files import is looked at, too: if they need more than faces, the house is wrong.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.house.toy_latest_pairs import latest_pairs
from tests.house.toy_span_kind import Run, count_runs, run_store
from thalweg import App, StreamsBuilder, Topology, TopologyTestDriver, serdes
from thalweg.stores.formats import pack_int64
from thalweg.stores.record import RawRecord
from thalweg.stores.testing import RecordingHost

HERE = Path(__file__).parent
GAP_MS = 10

FACES = re.compile(
    r"thalweg( |$)|thalweg\.stores\.(api|builders|bytes\.contract|cache\.cached_store|changelog|codec"
    r"|formats|kinds\.typed|pairs|row_format|rows\.(contract|pending)|updates)"
    r"|thalweg\.streams\.queries\.(composite|kinds\.(kind|known)|questions|rows)"
    r"|thalweg\.topology\.(dsl\.table_logic|graph\.(logical|steps)|operators\.(operator|stateless))"
)


@pytest.mark.parametrize("toy", ["toy_span_kind", "toy_latest_pairs"])
def test_a_toy_needs_nothing_but_faces(toy: str) -> None:
    text = (HERE / f"{toy}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^from (thalweg\S*) ", text, re.MULTILINE)

    assert imported
    assert [one for one in imported if not FACES.fullmatch(one)] == []


# -- a store kind --------------------------------------------------------------------------


def runs_topology() -> Topology:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    runs = count_runs(stream.group_by_key(), GAP_MS, "runs")
    texts = runs.to_stream().map(lambda run, count: (run[0], f"{run[1]}-{run[2]}: {count}"))
    texts.to("out", key_serde=serdes.string, value_serde=serdes.string)
    return builder.build()


def fed(driver: TopologyTestDriver, *records: tuple[str, int]) -> None:
    for key, timestamp in records:
        driver.pipe_raw("in", key.encode(), b"v", timestamp, [])


RECORDS = (("a", 1), ("b", 2), ("a", 8), ("a", 30), ("a", 4))
EXPECTED: list[tuple[Run, int]] = [(("a", 1, 8), 3), (("a", 30, 30), 1), (("b", 2, 2), 1)]


@pytest.mark.parametrize("cache_bytes", [0, 10_000])
@pytest.mark.parametrize("commit", ["every-record", "manual"])
def test_a_kind_works_with_and_without_cache(cache_bytes: int, commit: Any) -> None:
    with TopologyTestDriver(
        runs_topology(), commit=commit, statestore_cache_max_bytes=cache_bytes
    ) as driver:
        fed(driver, *RECORDS)
        store = driver.get_state_store("runs")

        assert list(store.runs()) == EXPECTED
        assert list(store.runs("a", 20)) == EXPECTED[1:2]
        driver.commit()
        out = driver.create_output_topic("out", serdes.string, serdes.string)
        assert out.read_key_values_to_list()[-1] == ("a", "1-8: 3")


def test_what_is_cached_goes_down_once_and_old_rows_go_away() -> None:
    with TopologyTestDriver(runs_topology(), commit="manual") as driver:
        fed(driver, *RECORDS)
        assert driver.store_entries("runs") == ("run", [])
        driver.commit()

        logged = [
            (record.key, record.value)
            for record in driver.take_produced()
            if record.topic.endswith("-runs-changelog")
        ]
    live = {key: value for key, value in logged if value is not None}
    assert live == {
        key.encode() + pack_int64(last) + pack_int64(first): pack_int64(count)
        for (key, first, last), count in EXPECTED
    }


def test_a_kind_is_restored_from_its_changelog() -> None:
    with TopologyTestDriver(runs_topology()) as driver:
        fed(driver, *RECORDS)
        entries = driver.store_entries("runs")
        records: list[RawRecord] = [
            (record.timestamp or 0, record.key, record.value, (offset, []))
            for offset, record in enumerate(driver.take_produced())
            if record.topic.endswith("-runs-changelog") and record.key is not None
        ]
    with TopologyTestDriver(runs_topology()) as driver:
        driver.restore_entries("runs", records)

        assert driver.store_entries("runs") == entries
        fed(driver, ("a", 35))
        assert (("a", 30, 35), 2) in list(driver.get_state_store("runs").runs("a"))


def test_a_kind_outlives_its_task_on_disk(tmp_path: Path) -> None:
    for times in range(2):
        host = RecordingHost(tmp_path)
        store: Any = run_store("runs").build(host)
        assert len(list(store.runs())) == times
        store.pairs.put(("a", 1, 2), 7, 2)
        store.apply_pending()
        store.close()


def test_an_application_is_asked_for_it_by_name(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "application_id": "toy",
        "state_dir": str(tmp_path / "state"),
        "data_dir": str(tmp_path / "log"),
        "default_partitions": 3,
    }
    with App(runs_topology(), **settings) as app:
        with app.producer() as producer:
            for key, timestamp in RECORDS:
                producer.send("in", b"v", key=key.encode(), timestamp=timestamp)
        assert app.wait_until_idle(timedelta(seconds=30))

        assert list(app.store("runs").of("a")) == EXPECTED[:2]


# -- an operator of two inputs -------------------------------------------------------------


def pairs_topology(*, cached: bool) -> Topology:
    builder = StreamsBuilder()
    left = builder.stream("l", key_serde=serdes.string, value_serde=serdes.string)
    right = builder.stream("r", key_serde=serdes.string, value_serde=serdes.string)
    latest_pairs(left, right, "pairs", cached=cached).to("out")
    return builder.build()


@pytest.mark.parametrize("cached", [True, False])
def test_an_operator_of_two_inputs(cached: bool) -> None:
    with TopologyTestDriver(pairs_topology(cached=cached)) as driver:
        for topic, value, timestamp in (("l", b"a", 5), ("r", b"b", 3), ("l", b"c", 4)):
            driver.pipe_raw(topic, b"k", value, timestamp, [])
        driver.pipe_raw("l", None, b"x", 9, [])
        out = driver.create_output_topic("out", serdes.string, serdes.string)
        records = out.read_records_to_list()

        assert [(one.value, one.timestamp) for one in records] == [("1: a b", 5), ("2: c b", 4)]
        assert driver.dropped_records_total() == 1
        assert driver.get_state_store("pairs-left").get("k").value == "c"


def test_its_stores_are_restored_and_its_inputs_copartitioned() -> None:
    with TopologyTestDriver(pairs_topology(cached=True)) as driver:
        driver.pipe_raw("l", b"k", b"a", 5, [])
        (logged,) = [one for one in driver.take_produced() if one.topic.endswith("-changelog")]
    assert logged.key is not None
    topology = pairs_topology(cached=True)
    with TopologyTestDriver(topology) as driver:
        driver.restore_entries(
            "pairs-left", [(logged.timestamp or 0, logged.key, logged.value, (0, []))]
        )
        driver.pipe_raw("r", b"k", b"b", 7, [])
        out = driver.create_output_topic("out", serdes.string, serdes.string)

        assert out.read_value() == "1: a b"
    assert len(topology.copartitioned) == 1
    assert "pairs-left-side" in str(topology.describe())
