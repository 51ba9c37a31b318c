"""What keeps the rows of an application's stores: chosen by operator, and by a setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log, idle, word_count
from thalweg import (
    ByteStoreSupplier,
    ConfigError,
    JoinWindows,
    Materialized,
    Processor,
    Record,
    StoreBuilder,
    StreamJoined,
    StreamsBuilder,
    StreamsConfig,
    TopologyTestDriver,
    key_value_store,
    serdes,
    window_store,
)
from thalweg.stores.bytes.memory import MemoryByteStore


def everything() -> StreamsBuilder:
    """Returns a topology with stores of the DSL, told and not told, and one of a processor."""

    class Keeper(Processor[str, str, str, str]):
        stores = [key_value_store("processor", serdes.string, serdes.string)]

        def process(self, record: Record[str, str]) -> None:
            self.context.get_state_store("processor").put(record.key, record.value)

    builder = StreamsBuilder()
    stream, other = builder.stream("in"), builder.stream("other")
    stream.group_by_key().count(name="count")
    stream.group_by_key().count(materialized=Materialized("told", store="files"))
    stream.group_by_key().count(materialized=Materialized(store=key_value_store("given")))
    table = builder.table("t", store="table")
    table.join(
        builder.table("u", store="right"),
        max,
        foreign_key_extractor=lambda value: value,
        named="fk",
    )
    joined = StreamJoined(store_name="join")
    stream.left_join(other, max, JoinWindows.of_time_difference(5), joined=joined)
    told = StreamJoined(store_name="told-join", store="rocks")
    stream.left_join(other, max, JoinWindows.of_time_difference(5), joined=told)
    stream.process(Keeper)
    return builder


def backends(builder: StreamsBuilder, config: dict[str, Any]) -> dict[str, Any]:
    return {name: store.backend for name, store in builder.build(config).stores.items()}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "rocks"),
        ({"default_dsl_store": "sqlite"}, "sqlite"),
        ({"default.dsl.store": "in_memory"}, "memory"),
        ({"default.dsl.store": "rocksDB"}, "rocks"),
    ],
)
def test_stores_that_are_not_told_take_the_default(config: dict[str, Any], expected: str) -> None:
    found = backends(everything(), config)

    told = {name: found.pop(name) for name in ("told", "given", "processor")}
    assert told == {"told": "files", "given": "rocks", "processor": "rocks"}
    told_joins = {name: found.pop(name) for name in list(found) if name.startswith("told-join")}
    assert len(told_joins) == 3
    assert set(told_joins.values()) == {"rocks"}
    assert len([name for name in found if name.startswith("join")]) == 3
    assert set(found.values()) == {expected}


def test_a_function_chooses_by_kind() -> None:
    def choose(store: StoreBuilder) -> Any:
        return "memory" if "window" in store.kind else "sqlite"

    found = backends(everything(), {"default_dsl_store": choose})

    assert found["count"] == "sqlite"
    assert found["join-this-join-store"] == "memory"


def test_an_operator_chooses_by_a_function() -> None:
    builder = StreamsBuilder()
    chosen: Callable[[StoreBuilder], Any] = lambda store: "lmdb" if store.name == "a" else "files"
    grouped = builder.stream("in").group_by_key()
    grouped.count(materialized=Materialized("a", store=chosen))
    grouped.count(materialized=Materialized("b", store=chosen))

    assert backends(builder, {}) == {"a": "lmdb", "b": "files"}


@pytest.mark.parametrize("backend", ["rocks", "memory", "sqlite", "lmdb", "files"])
def test_results_do_not_depend_on_it(backend: str) -> None:
    with TopologyTestDriver(
        everything(),
        default_key_serde=serdes.string,
        default_value_serde=serdes.string,
        default_dsl_store=backend,
    ) as driver:
        driver.create_input_topic("in").pipe_key_values([("a", "x"), ("a", "y"), ("b", "z")])
        driver.create_input_topic("t").pipe_key_values([("k", "v"), ("k", None)])

        counts = driver.get_state_store("count")
        assert {key: row.value for key, row in counts.all()} == {"a": 2, "b": 1}
        assert counts.persistent is (backend != "memory")


def test_rows_last_in_a_store_of_ones_own(tmp_path: Path) -> None:
    kept: dict[str, MemoryByteStore] = {}

    class Kept(MemoryByteStore):
        """Outlives its application, for this test's sake."""

        persistent = True  # type: ignore[assignment]

        def close(self) -> None:
            """Stays open."""

    def open_kept(name: str, _directory: Path) -> Any:
        return kept.setdefault(name, Kept(name))

    log = Log()
    log.create("lines")
    log.send("lines", (None, "a b a"))
    supplier = ByteStoreSupplier(open_kept)
    with log.app(word_count(), tmp_path, default_dsl_store=supplier) as app:
        idle(app)
    log.send("lines", (None, "a"))
    with log.app(word_count(), tmp_path, default_dsl_store=supplier) as app:
        idle(app)

    assert log.last_counts("word-counts") == {"a": 3, "b": 1}
    assert list(kept) == ["counts"]


def test_a_store_that_moves_to_another_one_is_built_anew(tmp_path: Path) -> None:
    log = Log()
    log.create("lines")
    for line, backend in (("a b a", "rocks"), ("a", "sqlite"), ("b", "files"), ("a", "rocks")):
        log.send("lines", (None, line))
        with log.app(word_count(), tmp_path, default_dsl_store=backend) as app:
            idle(app)
            assert app.store_builder("counts").backend == backend

    assert log.last_counts("word-counts") == {"a": 4, "b": 2}


def test_what_keeps_no_rows_is_refused() -> None:
    wrong: Any = "disk"
    with pytest.raises(ConfigError, match="default_dsl_store"):
        StreamsConfig(application_id="a", default_dsl_store=wrong)
    with pytest.raises(ValueError, match="default_dsl_store must be one of"):
        everything().build({"default.dsl.store": "disk"})
    with pytest.raises(ValueError, match="store of Materialized must be one of"):
        Materialized("a", store=wrong)
    with pytest.raises(TypeError, match=r"store of Materialized.*\(store builder\)"):
        Materialized("a", store=lambda: "rocks")  # type: ignore[arg-type, misc]
    store: Any = window_store("w", retention_ms=10, window_size_ms=5)
    with pytest.raises(TypeError, match="this_store= and other_store="):
        StreamJoined(store=store)
