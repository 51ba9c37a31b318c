"""Global stores: filled before anything runs, from all partitions, and kept up to date."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.streams.running import Log, rows_of
from tests.unit.streams.tasks.steps import Steps, Told
from thalweg import (
    DeserializationError,
    KeyValueStore,
    MissingTopicsError,
    Processor,
    Record,
    StreamsBuilder,
    StreamsError,
    key_value_store,
    serdes,
)
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.directory import read_checkpoint, write_checkpoint
from thalweg.stores.errors import CorruptDataError
from thalweg.streams.tasks.global_task import GlobalTask
from thalweg.streams.testing import TopologyTestDriver
from thalweg.streams.transport.port import TopicPartition


class Filling(Processor[str, str, Any, Any]):
    """Writes what it gets into the global store, in capitals."""

    seen: ClassVar[list[str]] = []

    def init(self, context: Any) -> None:
        self.rows: KeyValueStore[str, str] = context.get_state_store("rows")

    def process(self, record: Record[str, str]) -> None:
        self.seen.append(record.key)
        self.rows.put(record.key, None if record.value is None else record.value.upper())


class Looking(Processor[str, str, str, str]):
    """Looks its records' keys up in the global store, without being connected to it."""

    def process(self, record: Record[str, str]) -> None:
        rows: KeyValueStore[str, str] = self.context.get_state_store("rows")
        self.context.forward(record.with_value(str(rows.get(record.key))))


def looking(store: StoreBuilder | None = None) -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.add_global_store(
        store or key_value_store("rows", serdes.string, serdes.string),
        "facts",
        Filling,
        name="fill",
    )
    builder.stream("in").process(Looking).to("out")
    return builder


def text_rows() -> StoreBuilder:
    return key_value_store("rows", serdes.string, serdes.string)


def in_memory() -> StoreBuilder:
    return key_value_store("rows", serdes.string, serdes.string, in_memory=True)


def global_task(steps: Steps) -> GlobalTask:
    assert steps.manager.global_task is not None
    return steps.manager.global_task


def rows(steps: Steps) -> dict[str, str]:
    return rows_of(global_task(steps).stores["rows"].read_only())


def checkpoint_file(state_dir: Path) -> Path:
    return state_dir / "app" / "global" / ".checkpoint"


@pytest.fixture
def log() -> Log:
    """Returns a log with some facts, spread over three partitions."""
    Filling.seen.clear()
    log = Log()
    log.create("facts", 3)
    for number in range(9):
        log.send("facts", (f"k{number}", "x"), partition=number % 3)
    return log


ALL = {f"k{number}": "X" for number in range(9)}


# -- filling -------------------------------------------------------------------------------


def test_it_is_complete_when_it_is_started_with_all_partitions(tmp_path: Path, log: Log) -> None:
    with Steps(looking(), log, tmp_path) as steps:
        global_task(steps).start()
        assert rows(steps) == ALL


def test_a_listener_hears_how_it_is_filled(tmp_path: Path, log: Log) -> None:
    told = Told()
    with Steps(looking(), log, tmp_path, listener=told).start() as steps:
        for partition in range(3):
            facts = ("facts", partition, "rows")
            assert [call for call in told.calls if call[2] == partition] == [
                ("start", *facts, 0, 3),
                ("batch", *facts, 3, 3),
                ("end", *facts, 3),
            ]
        del told.calls[:]
        log.send("facts", ("k1", "later"), partition=1)
        assert global_task(steps).update() == 1
        assert told.calls == []


def test_filling_ends_when_the_worker_is_to_stop(tmp_path: Path, log: Log) -> None:
    told = Told()
    with Steps(looking(), log, tmp_path, listener=told) as steps:
        global_task(steps).start(lambda: True)
        assert rows(steps) == {}
        assert [call[0] for call in told.calls] == ["start"] * 3 + ["suspended"] * 3


def test_records_go_through_the_processor_at_the_first_and_at_later_times(
    tmp_path: Path, log: Log
) -> None:
    with Steps(looking(), log, tmp_path).start() as steps:
        log.send("facts", ("k1", "later"), ("new", "y"), ("k2", None), partition=1)
        assert global_task(steps).update() == 3
        assert global_task(steps).update() == 0
        expected = ALL | {"k1": "LATER", "new": "Y"}
        del expected["k2"]
        assert rows(steps) == expected


def test_every_task_sees_it_without_being_connected(tmp_path: Path, log: Log) -> None:
    log.create("in", 2)
    log.send("in", ("k1", "?"), ("nobody", "?"), partition=0)
    log.send("in", ("k2", "?"), partition=1)
    with Steps(looking(), log, tmp_path).start() as steps:
        steps.process()
        steps.close()
    assert {seen.key: seen.value for seen in log.read("out")} == {
        "k1": "X",
        "k2": "X",
        "nobody": "None",
    }


def test_an_empty_topic_makes_an_empty_store(tmp_path: Path) -> None:
    log = Log()
    log.create("facts")
    with Steps(looking(), log, tmp_path).start() as steps:
        assert rows(steps) == {}
        assert not checkpoint_file(tmp_path).exists()


def test_a_topic_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingTopicsError, match="global store does not exist: facts") as raised:
        Steps(looking(), Log(), tmp_path)
    assert raised.value.topic == "facts"


def test_nothing_is_sent_and_nothing_committed(tmp_path: Path, log: Log) -> None:
    with Steps(looking(), log, tmp_path).start() as steps:
        steps.close()
    with log.transport() as transport:
        assert set(transport.topics()) == {"facts", "in", "out"}
    assert log.committed("app", "facts", 0) is None


# -- checkpoints ---------------------------------------------------------------------------


def test_it_goes_on_where_its_checkpoint_stands(tmp_path: Path, log: Log) -> None:
    with Steps(looking(), log, tmp_path).start() as steps:
        assert read_checkpoint(checkpoint_file(tmp_path)) == {("facts", p): 2 for p in range(3)}
        steps.close()
    log.send("facts", ("new", "y"), partition=2)
    Filling.seen.clear()
    with Steps(looking(), log, tmp_path).start() as steps:
        assert Filling.seen == ["new"]
        assert rows(steps) == ALL | {"new": "Y"}
        assert read_checkpoint(checkpoint_file(tmp_path))["facts", 2] == 3


def test_a_clean_end_leaves_a_checkpoint_a_crash_does_not(tmp_path: Path, log: Log) -> None:
    with Steps(looking(), log, tmp_path).start() as steps:
        log.send("facts", ("new", "y"), partition=0)
        global_task(steps).update()
        steps.close(clean=False)
    assert read_checkpoint(checkpoint_file(tmp_path))["facts", 0] == 2
    with Steps(looking(), log, tmp_path).start() as steps:
        assert rows(steps)["new"] == "Y"
        log.send("facts", ("newer", "y"), partition=0)
        global_task(steps).update()
        steps.close()
    assert read_checkpoint(checkpoint_file(tmp_path))["facts", 0] == 4


def test_a_processor_sees_no_record_twice_though_the_checkpoint_was_not_written(
    tmp_path: Path, log: Log
) -> None:
    class Adding(Filling):
        def process(self, record: Record[str, str]) -> None:
            self.rows.put(record.key, (self.rows.get(record.key) or "") + record.value)

    def adding() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.add_global_store(text_rows(), "facts", Adding, name="fill")
        builder.stream("in").to("out")
        return builder

    with Steps(adding(), log, tmp_path).start() as steps:
        before = checkpoint_file(tmp_path).read_text()
        log.send("facts", ("k1", "y"), partition=1)
        global_task(steps).update()
        global_task(steps).commit()
        steps.close(clean=False)
    checkpoint_file(tmp_path).write_text(before)  # as if it had died before it wrote that
    with Steps(adding(), log, tmp_path).start() as steps:
        assert rows(steps)["k1"] == "xy"


@pytest.mark.parametrize("clean", [True, False])
def test_an_extractor_is_told_the_time_of_its_partition_after_a_restart_too(
    tmp_path: Path, clean: bool
) -> None:
    told: list[tuple[str, int]] = []

    def extract(record: Any, partition_time: int) -> int:
        told.append((record.key, partition_time))
        return int(record.value)

    def extracting() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.add_global_store(
            text_rows(), "facts", Filling, name="fill", timestamp_extractor=extract
        )
        builder.stream("in").to("out")
        return builder

    log = Log()
    log.create("facts", 2)
    log.send("facts", ("a", "5"), ("b", "3"), partition=0)
    log.send("facts", ("e", "2"), partition=1)
    with Steps(extracting(), log, tmp_path).start() as steps:
        steps.close(clean=clean)
    log.send("facts", ("c", "7"), ("d", "1"), partition=0)
    log.send("facts", ("f", "1"), partition=1)
    with Steps(extracting(), log, tmp_path).start():
        pass
    assert sorted(told) == [("a", -1), ("b", 5), ("c", 5), ("d", 7), ("e", -1), ("f", 2)]


def test_a_store_in_memory_is_filled_each_time(tmp_path: Path, log: Log) -> None:
    for life in (1, 2):
        with Steps(looking(in_memory()), log, tmp_path).start() as steps:
            assert rows(steps) == ALL
            assert len(Filling.seen) == 9 * life
            steps.close()
            assert not checkpoint_file(tmp_path).exists()


def leave_a_stale_row(log: Log, state_dir: Path) -> None:
    """Leaves a closed global store with a row whose deletion the topic has forgotten."""
    log.send("facts", ("stale", "y"), partition=0)
    with Steps(looking(), log, state_dir).start() as steps:
        steps.close()
    with log.transport() as transport:
        transport.delete_records({TopicPartition("facts", 0): 4})


@pytest.mark.parametrize("damage", ["missing", "corrupt", "beyond", "before"])
def test_rows_that_no_checkpoint_vouches_for_are_wiped(
    tmp_path: Path, log: Log, damage: str
) -> None:
    leave_a_stale_row(log, tmp_path)
    file = checkpoint_file(tmp_path)
    if damage == "missing":
        file.unlink()
    elif damage == "corrupt":
        file.write_text("nonsense")
    else:
        offsets = read_checkpoint(file)
        write_checkpoint(file, offsets | {("facts", 0): 99 if damage == "beyond" else 1})
    with Steps(looking(), log, tmp_path).start() as steps:
        assert rows(steps) == {f"k{n}": "X" for n in range(9) if n % 3}
        log.send("facts", ("new", "y"), partition=0)
        global_task(steps).update()
        assert rows(steps)["new"] == "Y"


def test_a_store_that_cannot_be_read_is_filled_anew(tmp_path: Path, log: Log) -> None:
    with Steps(looking(), log, tmp_path).start() as steps:
        steps.close()
    directory = tmp_path / "app" / "global" / "rocksdb" / "rows"
    for path in [*directory.glob("MANIFEST-*"), *directory.glob("*.sst")]:
        path.write_bytes(b"damaged" * 100)
    with Steps(looking(), log, tmp_path).start() as steps:
        assert rows(steps) == ALL


def test_stores_in_memory_and_on_disk_do_not_disturb_each_other(tmp_path: Path, log: Log) -> None:
    class Remembering(Filling):
        def init(self, context: Any) -> None:
            self.rows = context.get_state_store("remembered")

    def both() -> StreamsBuilder:
        builder = looking()
        remembered = key_value_store("remembered", serdes.string, serdes.string, in_memory=True)
        builder.add_global_store(remembered, "others", Remembering)
        return builder

    log.create("others")
    log.send("others", ("o", "x"))
    for _ in range(2):
        Filling.seen.clear()
        with Steps(both(), log, tmp_path).start() as steps:
            assert rows(steps) == ALL
            assert rows_of(global_task(steps).stores["remembered"]) == {"o": "X"}
            steps.close()
    assert Filling.seen == ["o"]


def test_a_partition_that_is_still_empty_does_not_spoil_the_others(tmp_path: Path) -> None:
    log = Log()
    log.create("facts", 2)
    log.send("facts", ("a", "x"), partition=1)
    for _ in range(2):
        Filling.seen.clear()
        with Steps(looking(), log, tmp_path).start() as steps:
            assert rows(steps) == {"a": "X"}
            steps.close()
    assert Filling.seen == []


def test_a_store_found_damaged_while_it_is_written_is_not_trusted_again(
    tmp_path: Path, log: Log
) -> None:
    class Finding(Filling):
        def process(self, record: Record[str, str]) -> None:
            if record.key == "bad":
                raise CorruptDataError("a row is damaged")
            super().process(record)

    builder = StreamsBuilder()
    builder.add_global_store(text_rows(), "facts", Finding, name="fill")
    builder.stream("in").to("out")
    with Steps(builder, log, tmp_path).start() as steps:
        log.send("facts", ("bad", "x"))
        with pytest.raises(CorruptDataError):
            global_task(steps).update()
        steps.close(clean=False)
    Filling.seen.clear()
    with Steps(looking(), log, tmp_path).start() as steps:
        assert rows(steps) == ALL | {"bad": "X"}
        assert len(Filling.seen) == 10


# -- records that fail ---------------------------------------------------------------------


def test_a_record_that_cannot_be_decoded_stops_unless_told_otherwise(
    tmp_path: Path, log: Log
) -> None:
    log.send("facts", ("bad", b"\xff"), partition=2)
    with (
        Steps(looking(), log, tmp_path) as steps,
        pytest.raises(DeserializationError, match=r"topic facts, partition 2, offset 3"),
    ):
        global_task(steps).start()
    with Steps(
        looking(), log, tmp_path, deserialization_handler="log_and_continue"
    ).start() as steps:
        assert rows(steps) == ALL


def test_dead_letters_of_global_stores_are_not_sent(
    tmp_path: Path, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    # Each instance reads the topic, as often as it starts: letters would multiply.
    log.send("facts", ("bad", b"\xff"), ("bad", b"\xfe"), partition=2)
    settings = {
        "deserialization_handler": "log_and_continue",
        "dead_letter_queue_topic": "letters",
    }
    with (
        caplog.at_level(logging.WARNING),
        Steps(looking(), log, tmp_path, **settings).start() as steps,
    ):
        steps.close()
    assert log.raw("letters") == []
    told = [one.message for one in caplog.records if "letters" in one.message]
    assert len(told) == 1
    assert "global store" in told[0]


def test_a_processor_that_raises_is_named(tmp_path: Path, log: Log) -> None:
    class Broken(Filling):
        def process(self, record: Record[str, str]) -> None:
            raise ValueError("no")

    builder = StreamsBuilder()
    builder.add_global_store(in_memory(), "facts", Broken, name="broken")
    builder.stream("in").to("out")
    with (
        Steps(builder, log, tmp_path) as steps,
        pytest.raises(StreamsError, match=r"ValueError: no \[task .*topic facts.*node broken\]"),
    ):
        global_task(steps).start()


# -- in the test driver --------------------------------------------------------------------


def test_the_test_driver_fills_global_stores_before_others_look() -> None:
    with TopologyTestDriver(
        looking(), default_key_serde=serdes.string, default_value_serde=serdes.string
    ) as driver:
        facts, asked = driver.create_input_topic("facts"), driver.create_input_topic("in")
        answers = driver.create_output_topic("out")
        asked.pipe_input("k", "?")
        facts.pipe_input("k", "v")
        asked.pipe_input("k", "?")
        facts.pipe_input("k", None)
        asked.pipe_input("k", "?")
        assert answers.read_values_to_list() == ["None", "V", "None"]
        assert rows_of(driver.get_state_store("rows")) == {}
