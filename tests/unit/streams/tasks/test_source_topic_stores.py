"""Stores that have a source topic as changelog: how far they go, and through what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log, rows_of
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    BrokerError,
    DeserializationError,
    Headers,
    Processor,
    PunctuationType,
    Record,
    StreamsBuilder,
    Topology,
    ValueAndTimestamp,
    key_value_store,
    log_and_skip_on_invalid_timestamp,
    lru_store,
    serdes,
    timestamped_key_value_store,
    use_partition_time_on_invalid_timestamp,
    wallclock_timestamp,
    window_store,
)
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.directory import read_checkpoint, write_checkpoint
from thalweg.streams.clock import ManualClock
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import TopicPartition

TASK = TaskId(0, 0)
REUSE = {"topology_optimization": "reuse.ktable.source.topics"}
SETTINGS: dict[str, Any] = {**REUSE, "deserialization_handler": "log_and_continue"}
IN = TopicPartition("in", 0)
LATER_MS = 60_000
"""Longer than the interval at which a standby asks how far the group is."""


def table(**options: Any) -> StreamsBuilder:
    """A table whose topic is its changelog, and the sum of all its rows."""
    builder = StreamsBuilder()
    rows: Any = builder.table("in", value_serde=serdes.string, store="rows", **options)
    rows.group_by(lambda _key, value: ("all", value)).reduce(
        lambda total, value: str(int(total) + int(value)),
        lambda total, value: str(int(total) - int(value)),
        name="sum",
    )
    return builder


def texts() -> StreamsBuilder:
    """A table of texts whose topic is its changelog."""
    builder = StreamsBuilder()
    builder.table("in", store="rows")
    return builder


class Keep(Processor[Any, Any, Any, Any]):
    """Puts values in capitals into the store, but those that begin with a dash."""

    def process(self, record: Record[Any, Any]) -> None:
        if record.value is None or not record.value.startswith("-"):
            value = record.value
            self.context.get_state_store("rows").put(record.key, value and value.upper())


def kept(
    store: Any = None, supplier: Callable[[], Processor[Any, Any, Any, Any]] = Keep, **options: Any
) -> Topology:
    """A read-only store that a processor fills."""
    store = store or key_value_store("rows", serdes.string, serdes.string)
    topology = Topology()
    topology.add_read_only_state_store(store, "source", "in", "keep", supplier, **options)
    return topology


def run(builder: StreamsBuilder | Topology, log: Log, state_dir: Path, **more: Any) -> list[Any]:
    """Processes what there is, commits and closes; returns the store's rows as stored."""
    with Steps(builder, log, state_dir, **{**SETTINGS, **more}).start() as steps:
        steps.process()
        steps.commit()
        found = dump_of(steps)
        steps.close()
    return found


def dump_of(steps: Steps, store: str = "rows") -> list[Any]:
    return steps.task().stores[store].dump()[1]


def restored(
    builder: StreamsBuilder | Topology, log: Log, state_dir: Path, **more: Any
) -> list[Any]:
    """Restores without processing and returns the store's rows as stored."""
    with Steps(builder, log, state_dir, **{**SETTINGS, **more}).start() as steps:
        return dump_of(steps)


def followed(
    builder: StreamsBuilder | Topology, log: Log, state_dir: Path, **more: Any
) -> list[Any]:
    """Follows as a standby does, and returns the store's rows as stored."""
    with Steps(builder, log, state_dir, **{**SETTINGS, **more}) as steps:
        steps.manager.create_standby({TASK})
        while steps.manager.update_standby(2):
            pass
        return steps.manager.standby[TASK].stores["rows"].dump()[1]


# -- how far -------------------------------------------------------------------------------


def standby_rows(steps: Steps) -> dict[str, Any]:
    return rows_of(steps.manager.standby[TASK].stores["rows"].read_only())


@pytest.mark.parametrize("built", [texts, kept], ids=["table", "read-only store"])
def test_a_standby_goes_no_further_than_what_is_processed(
    tmp_path: Path, built: Callable[[], Any]
) -> None:
    log = Log()
    log.send("in", ("a", "1"), ("b", "2"))
    run(built(), log, tmp_path / "one")
    log.send("in", ("a", "3"))
    with Steps(built(), log, tmp_path / "two", **REUSE) as steps:
        manager = steps.manager
        manager.create_standby({TASK})
        assert manager.update_standby(100) == 2
        assert manager.update_standby(100) == 0
        before = standby_rows(steps)
        run(built(), log, tmp_path / "one")
        steps.clock.advance(LATER_MS)
        assert manager.update_standby(100) == 1
        assert standby_rows(steps) != before
        log.send("in", ("c", "4"))
        steps.clock.advance(LATER_MS)
        assert manager.update_standby(100) == 0
        manager.close_standby(())
    checkpoint = read_checkpoint(tmp_path / "two" / "app" / "0_0" / ".checkpoint")
    assert checkpoint == {("in", 0): 2}


def test_a_standby_of_what_nobody_has_processed_holds_nothing(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"))
    with Steps(texts(), log, tmp_path, **REUSE) as steps:
        steps.manager.create_standby({TASK})
        steps.clock.advance(LATER_MS)
        assert steps.manager.update_standby(100) == 0
        assert standby_rows(steps) == {}
        (one,) = steps.manager.follower.of_task("0_0")
        assert steps.manager.follower.behind(one) == 0


def test_what_a_standby_took_over_finds_the_rows_of_before(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("k", "10"))
    run(table(), log, tmp_path / "one")
    with Steps(table(), log, tmp_path / "two", **REUSE) as steps:
        manager = steps.manager
        manager.create_standby({TASK})
        manager.update_standby(100)
        log.send("in", ("k", "20"))  # the owner dies before it gets there
        steps.clock.advance(LATER_MS)
        manager.update_standby(100)
        manager.close_standby(())
        steps.start()
        steps.process()
        steps.commit()
        steps.process()
        steps.commit()
        sums = rows_of(steps.task("1_0").stores["sum"].read_only())
        assert sums["all"].value == "20"


def test_a_store_on_disk_that_is_ahead_of_the_commit_is_rebuilt(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("k", "10"))
    run(table(), log, tmp_path)
    log.send("in", ("k", "20"))
    elsewhere = Log()
    elsewhere.send("in", ("k", "20"))
    run(table(), elsewhere, tmp_path / "ahead")
    files = tmp_path / "app" / "0_0"
    files.rename(tmp_path / "old")
    (tmp_path / "ahead" / "app" / "0_0").rename(files)
    write_checkpoint(files / ".checkpoint", {("in", 0): 1})
    with Steps(table(), log, tmp_path, **REUSE).start() as steps:
        assert rows_of(steps.task().stores["rows"].read_only()) == {"k": ("10", 0)}


def test_a_standby_whose_checkpoint_is_ahead_of_the_commit_begins_anew(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"), ("b", "2"))
    run(texts(), log, tmp_path)
    with log.transport("app") as transport:
        transport.delete_offsets()
    with Steps(texts(), log, tmp_path, **REUSE) as steps:
        steps.manager.create_standby({TASK})
        assert standby_rows(steps) == {}


class Answering(MemoryTransport):
    """A log whose group does not answer for a while."""

    is_away = False
    asked = 0

    def committed(self, partitions: Any) -> Any:
        self.asked += 1
        if self.is_away:
            raise BrokerError("the group is away", retriable=True)
        return super().committed(partitions)


def test_a_standby_waits_where_it_is_while_the_group_does_not_answer(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"))
    run(texts(), log, tmp_path / "one")
    transport = Answering(log.engine, "app", now_ms=ManualClock(1).now_ms)
    with Steps(texts(), log, tmp_path / "two", transport=lambda _: transport, **REUSE) as steps:
        steps.manager.create_standby({TASK})
        assert steps.manager.update_standby(100) == 1
        log.send("in", ("b", "2"))
        run(texts(), log, tmp_path / "one")
        transport.is_away = True
        steps.clock.advance(LATER_MS)
        assert steps.manager.update_standby(100) == 0
        transport.is_away = False
        steps.clock.advance(LATER_MS)
        assert steps.manager.update_standby(100) == 1
        asked = transport.asked
        for _ in range(10):
            steps.manager.update_standby(100)
        assert transport.asked == asked


def test_what_was_processed_while_it_was_restored_is_restored_too(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"), ("b", "2"))
    run(texts(), log, tmp_path / "one")
    with Steps(texts(), log, tmp_path / "two", **REUSE).create() as steps:
        log.send("in", ("c", "3"))
        run(texts(), log, tmp_path / "one")
        steps.restore()
        assert set(rows_of(steps.task().stores["rows"].read_only())) == {"a", "b", "c"}
        assert steps.process() == 0


# -- through what --------------------------------------------------------------------------


def flagged(record: Any, _partition_time_ms: int) -> int:
    """Takes the time from the value; what has none is to be left out."""
    return int(record.value) if record.value and record.value.isdigit() else -1


def by_header(record: Any, _partition_time_ms: int) -> int:
    return int(record.headers.last("at") or b"-1")


class Spread(Processor[Any, Any, Any, Any]):
    """Puts several rows for one record, under other keys, with times of its own."""

    def process(self, record: Record[Any, Any]) -> None:
        store = self.context.get_state_store("rows")
        for part in record.value.split():
            store.put(f"{record.key}/{part}", ValueAndTimestamp(part, record.timestamp + 1))


class Remember(Processor[Any, Any, Any, Any]):
    """Puts what it knows of a record besides its value."""

    def process(self, record: Record[Any, Any]) -> None:
        at = self.context.record_metadata()
        seen = [bytes(value or b"").decode() for _, value in record.headers]
        text = f"{at.topic} {at.partition} {at.offset} {record.timestamp} {seen}"
        self.context.get_state_store("rows").put(record.key, text)


class Add(Processor[Any, Any, Any, Any]):
    """Appends to the row there is."""

    def process(self, record: Record[Any, Any]) -> None:
        store = self.context.get_state_store("rows")
        store.put(record.key, (store.get(record.key) or "") + record.value)


class InWindows(Processor[Any, Any, Any, Any]):
    """Puts rows into a window store."""

    def process(self, record: Record[Any, Any]) -> None:
        start = record.timestamp // 100 * 100
        self.context.get_state_store("rows").put(record.key, record.value, start)


class Purge(Keep):
    """Empties the store at every tenth millisecond of stream time."""

    def init(self, context: Any) -> None:
        super().init(context)
        context.schedule(10, PunctuationType.STREAM_TIME, self.purge)

    def purge(self, _now_ms: int) -> None:
        store = self.context.get_state_store("rows")
        with store.all() as rows:
            keys = [key for key, _ in rows]
        for key in keys:
            store.delete(key)


def text_json() -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.table("in", key_serde=serdes.json, value_serde=serdes.json, store="rows")
    return builder


def extracted(extractor: Any) -> Callable[[], StreamsBuilder]:
    def built() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.table("in", timestamp_extractor=extractor, store="rows")
        return builder

    return built


def window_rows() -> Any:
    return window_store(
        "rows", serdes.string, serdes.string, retention_ms=1_000, window_size_ms=100
    )


FRONTS: dict[str, Callable[[], StreamsBuilder | Topology]] = {
    "texts": texts,
    "serdes that write otherwise": text_json,
    "an extractor": extracted(flagged),
    "an extractor of headers": extracted(by_header),
    "invalid times skipped": extracted(log_and_skip_on_invalid_timestamp),
    "the last valid time": extracted(use_partition_time_on_invalid_timestamp),
    "a processor": kept,
    "a processor that spreads": lambda: kept(
        timestamped_key_value_store("rows", serdes.string, serdes.string), Spread
    ),
    "a processor of metadata": lambda: kept(supplier=Remember),
    "a processor of rows": lambda: kept(supplier=Add),
    "a processor with a cache": lambda: kept(
        key_value_store("rows", serdes.string, serdes.string).with_caching(), Add
    ),
    "a processor behind an extractor": lambda: kept(timestamp_extractor=by_header),
    "a window store": lambda: kept(window_rows(), InWindows),
    "a cached window store": lambda: kept(window_rows().with_caching(), InWindows),
    "a store in memory": lambda: kept(
        key_value_store("rows", serdes.string, serdes.string, in_memory=True)
    ),
    "an LRU store": lambda: kept(lru_store("rows", 3, serdes.string, serdes.string), Add),
    "a punctuation": lambda: kept(supplier=Purge),
}


def send_all_sorts(log: Log) -> None:
    """Sends records of which some are left out on their way into a store."""
    log.send("in", ("a", "1"), ("b", "-2"), (None, "3"), ("c", "4 5"), timestamps=[5, 6, 7, 8])
    log.send("in", ("a", b"\xff"), ("d", "6"), timestamps=[9, 10])
    log.send("in", ("a", "7"), ("e", "8"), timestamps=[300, 2], headers=[("at", b"77")])
    log.send("in", ("e", '{"y": 1,   "x": 2}'), ("f", "true"), timestamps=[5_000, 400])
    log.send("in", ('"e"', '{ "y":1,"x":2 }'), ('{"b":1, "a":2}', "1"), timestamps=[20, 21])
    log.send("in", ('{"a":2,"b":1}', "2"), ("{", "3"), timestamps=[22, 23])


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("again", [restored, followed])
def test_a_store_holds_the_same_after_its_files_were_lost(
    tmp_path: Path, front: str, again: Callable[..., list[Any]]
) -> None:
    log, built = Log(), FRONTS[front]
    send_all_sorts(log)
    processed = run(built(), log, tmp_path / "one", processing_handler="log_and_continue")
    assert processed
    found = again(built(), log, tmp_path / "two", processing_handler="log_and_continue")
    assert found == processed


@pytest.mark.parametrize("front", FRONTS)
def test_a_store_holds_the_same_though_only_a_part_was_followed(tmp_path: Path, front: str) -> None:
    log, built = Log(), FRONTS[front]
    settings = {**SETTINGS, "processing_handler": "log_and_continue"}
    send_all_sorts(log)
    run(built(), log, tmp_path / "one", **settings)
    with Steps(built(), log, tmp_path / "two", **settings) as steps:
        steps.manager.create_standby({TASK})
        steps.manager.update_standby(5)
        steps.manager.close_standby(())
        log.send("in", ("z", "1"), ("a", "2"), timestamps=[6_000, 6_001])
        processed = run(built(), log, tmp_path / "one", **settings)
        steps.start()
        assert dump_of(steps) == processed


def test_rows_of_a_table_by_wall_clock_come_back_with_the_times_of_their_records(
    tmp_path: Path,
) -> None:
    log = Log()
    log.send("in", ("a", "1"), timestamps=[5])
    built = extracted(wallclock_timestamp)
    run(built(), log, tmp_path / "one")
    with Steps(built(), log, tmp_path / "two", **REUSE).start() as steps:
        assert rows_of(steps.task().stores["rows"].read_only()) == {"a": ("1", 5)}


def test_bytes_of_a_table_are_taken_as_they_are(tmp_path: Path) -> None:
    def built() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.table("in", key_serde=serdes.bytes, value_serde=serdes.bytes, store="rows")
        return builder

    log = Log()
    send_all_sorts(log)
    processed = run(built(), log, tmp_path / "one")
    assert restored(built(), log, tmp_path / "two") == processed


def test_what_is_handled_again_is_not_sent_again(tmp_path: Path) -> None:
    class Forward(Keep):
        def process(self, record: Record[Any, Any]) -> None:
            super().process(record)
            self.context.forward(record)
            self.context.forward(record, "sink")

    def built() -> Topology:
        return kept(supplier=Forward).add_sink("sink", "out", "keep")

    log = Log()
    log.send("in", ("a", "1"), ("b", b"\xff"))
    letters = {"dead_letter_queue_topic": "letters"}
    run(built(), log, tmp_path / "one", **letters)
    sent = (len(log.raw("out")), len(log.raw("letters")))
    assert sent == (2, 1)
    run(built(), log, tmp_path / "two", **letters)
    assert (len(log.raw("out")), len(log.raw("letters"))) == sent


def test_a_record_that_cannot_be_decoded_asks_the_handler_again(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"), ("b", b"\xff"))
    run(texts(), log, tmp_path / "one")
    with (
        Steps(texts(), log, tmp_path / "two", **REUSE).create() as steps,
        pytest.raises(DeserializationError, match=r"task 0_0, topic in, partition 0, offset 1"),
    ):
        steps.restore()


def test_other_stores_of_what_fills_a_store_are_not_touched(tmp_path: Path) -> None:
    class Number(Processor[Any, Any, Any, Any]):
        """Numbers records by a store of its own."""

        def process(self, record: Record[Any, Any]) -> None:
            seen = self.context.get_state_store("seen")
            number = str(int(seen.get("all") or "0") + 1)
            seen.put("all", number)
            self.context.get_state_store("rows").put(record.key, number)

    def built() -> Topology:
        topology = kept(supplier=Number)
        seen = key_value_store("seen", serdes.string, serdes.string)
        return topology.add_state_store(seen, "keep")

    log = Log()
    log.send("in", ("a", "x"), ("b", "x"))
    processed = run(built(), log, tmp_path / "one")
    log.send("in", ("c", "x"))
    assert restored(built(), log, tmp_path / "two") == processed
    with Steps(built(), log, tmp_path / "two", **REUSE) as steps:
        steps.manager.create_standby({TASK})
        steps.manager.update_standby(1)
        steps.manager.close_standby(())
        processed = run(built(), log, tmp_path / "one")
        steps.start()
        assert dump_of(steps) == processed
        assert rows_of(steps.task().stores["seen"]) == {"all": "3"}


def test_readers_of_a_store_do_not_see_records_again(tmp_path: Path) -> None:
    seen: list[str] = []

    class Read(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.get_state_store("rows")
            seen.append(record.key)

    def built() -> Topology:
        topology = kept().add_processor("read", Read, "source").add_processor("more", Read, "keep")
        return topology.connect_processor_and_state_stores(
            "read", "rows"
        ).connect_processor_and_state_stores("more", "rows")

    log = Log()
    log.send("in", ("a", "x"))
    run(built(), log, tmp_path / "one")
    assert seen == ["a"]
    restored(built(), log, tmp_path / "two")
    assert seen == ["a"]


def test_processors_that_filled_a_store_are_closed_when_it_is_whole(tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Keep):
        def init(self, context: Any) -> None:
            super().init(context)
            told.append("init")

        def close(self) -> None:
            told.append("close")

    log = Log()
    log.send("in", ("a", "x"))
    run(kept(supplier=Told), log, tmp_path / "one")
    del told[:]
    with Steps(kept(supplier=Told), log, tmp_path / "two", **REUSE).start():
        assert told == ["init", "close", "init"]
    assert told == ["init", "close", "init", "close"]


def test_what_was_left_by_a_dead_worker_is_right_as_well(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"), ("b", "2"))
    run(kept(supplier=Add), log, tmp_path / "one")
    log.send("in", ("a", "3"))
    with Steps(kept(supplier=Add), log, tmp_path / "one", **REUSE).start() as steps:
        steps.process()
        steps.commit()  # the log and the store have it, the checkpoint does not
        processed = dump_of(steps)
    assert restored(kept(supplier=Add), log, tmp_path / "one") == processed


def test_rows_on_disk_can_be_read_as_bytes(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("a", "1"))
    run(kept(), log, tmp_path)
    with RocksByteStore("rows", tmp_path / "app" / "0_0" / "rocksdb" / "rows") as store:
        assert list(store.range()) == [(b"a", b"1")]


def test_headers_are_handed_over_again(tmp_path: Path) -> None:
    class Kept(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            assert isinstance(record.headers, Headers)
            self.context.get_state_store("rows").put(record.key, repr(record.headers))

    log = Log()
    log.send("in", ("a", "1"), headers=[("h", b"1"), ("h", None)])
    processed = run(kept(supplier=Kept), log, tmp_path / "one")
    assert restored(kept(supplier=Kept), log, tmp_path / "two") == processed
