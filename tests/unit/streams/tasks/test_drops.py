"""Records that are left out: told once a minute by reason and operator, and counted apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log, string
from tests.unit.streams.tasks.steps import Steps
from tests.unit.streams.working import running, worker_of
from thalweg import (
    Processor,
    Response,
    StreamsBuilder,
    TimeWindows,
    TopologyTestDriver,
    key_value_store,
    log_and_skip_on_invalid_timestamp,
    serdes,
)
from thalweg.stores.record import CurrentRecord
from thalweg.streams.tasks.drops import (
    EVERY_MS,
    REASONS,
    Drops,
    shown_key,
)

Record = tuple[bytes | None, bytes | None, int]
TEN = TimeWindows.of_size(10)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns what gives the lines about records that were left out, since the last time."""
    caplog.set_level(logging.WARNING)

    def told() -> list[str]:
        found = [one.getMessage() for one in caplog.records if " dropped " in one.getMessage()]
        caplog.clear()
        return found

    return told


def counted(metrics: Any) -> dict[str, int]:
    return {
        one.tags["reason"]: one.value
        for one in metrics
        if one.name == "dropped-records-total" and one.value
    }


# -- when a line is written ----------------------------------------------------------------


def drop(drops: Drops, offset: int, node: str = "node") -> None:
    site, current = drops.site(node, "late"), CurrentRecord()
    current.topic, current.partition, current.origin = "in", 0, offset
    site.count += 1
    if site.sample is None:
        drops.keep_sample(site, "0_0", current, ["key 'k'"])


def test_a_line_is_written_once_a_minute_with_a_sample_and_the_number_since(
    lines: Callable[[], list[str]],
) -> None:
    drops = Drops()
    drop(drops, 1)
    drops.tell(1_000)
    first = "node dropped 1 record that came too late for a window (late): in-0 offset 1, key 'k'"
    assert lines() == [f"{first}, task 0_0"]

    for offset in range(2, 1_236):
        drop(drops, offset)
        drops.tell(1_000 + EVERY_MS - 1)
    assert lines() == []
    assert drops.is_untold

    drops.tell(1_000 + EVERY_MS)
    (line,) = lines()
    assert "1,234 records" in line
    assert "since the last line" in line
    assert "the first: in-0 offset 2" in line
    drops.tell(1_000 + 9 * EVERY_MS)
    assert lines() == []
    assert drops.totals() == {"late": 1_235}


def test_operators_have_lines_of_their_own(lines: Callable[[], list[str]]) -> None:
    drops = Drops()
    for offset, node in enumerate(("one", "two", "one")):
        drop(drops, offset, node)
        drops.tell(0)
    assert [line.split()[0] for line in lines()] == ["one", "two"]


def test_what_was_not_told_is_told_at_the_end(lines: Callable[[], list[str]]) -> None:
    drops = Drops()
    drop(drops, 1)
    drops.tell(0)
    drop(drops, 2)
    drops.tell(0)
    assert len(lines()) == 1
    drops.tell(None)
    assert [line.split(": ")[1].split(",")[0] for line in lines()] == ["in-0 offset 2"]
    drops.tell(None)
    assert lines() == []


def test_a_clock_that_is_set_back_keeps_no_line_waiting(lines: Callable[[], list[str]]) -> None:
    drops = Drops()
    for now_ms in (10 * EVERY_MS, 0):
        drop(drops, now_ms)
        drops.tell(now_ms)
    assert len(lines()) == 2


def test_a_key_is_shown_short_whatever_it_is() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError

    assert shown_key("k") == "'k'"
    assert len(shown_key("k" * 1_000)) < 110
    assert "Odd" in shown_key(Odd())


# -- by operator and reason ----------------------------------------------------------------


def windowed(builder: StreamsBuilder) -> None:
    builder.stream("in").group_by_key().windowed_by(TEN).count(name="w")


def reduced(builder: StreamsBuilder) -> None:
    builder.stream("in").group_by_key().reduce(max, name="w")


def counting(builder: StreamsBuilder) -> None:
    builder.stream("in").group_by_key().count(name="w")


def joined(builder: StreamsBuilder) -> None:
    table = builder.table("rows")
    builder.stream("in").join(table, lambda one, other: one + other).to("out")


def table(builder: StreamsBuilder) -> None:
    builder.table("in", store="w")


def bare_table(builder: StreamsBuilder) -> None:
    builder.table("in").to_stream().to("out")


def to_table(builder: StreamsBuilder) -> None:
    builder.stream("in").to_table(name="w")


def grouped(builder: StreamsBuilder) -> None:
    builder.stream("in").group_by(lambda _key, _value: None).count(name="w")


def split_and_grouped(builder: StreamsBuilder) -> None:
    words = builder.stream("in").flat_map_values(str.split)
    words.group_by(lambda _key, _value: None).count(name="w")


def mapped_and_grouped(builder: StreamsBuilder) -> None:
    mapped = builder.stream("in").map(lambda _key, value: (None, value))
    mapped.group_by_key().count(name="w")


def nowhere(builder: StreamsBuilder) -> None:
    builder.stream("in").to("out", partitioner=lambda *_: [])


def skipping(builder: StreamsBuilder) -> None:
    extractor = log_and_skip_on_invalid_timestamp
    builder.stream("in", timestamp_extractor=extractor).to("out")


def negative(builder: StreamsBuilder) -> None:
    builder.stream("in", timestamp_extractor=lambda *_: -1).to("out")


def passing(builder: StreamsBuilder) -> None:
    builder.stream("in").to("out")


NO_KEY: Record = (None, b"x", 5)
NO_VALUE: Record = (b"k", None, 5)
ORDINARY: Record = (b"k", b"x", 5)


@pytest.mark.parametrize(
    ("build", "record", "reason", "node", "sample"),
    [
        (windowed, (b"k", b"x", 5), "late", "AGGREGATE", "key 'k', timestamp 5, window end 10, "),
        (windowed, NO_KEY, "null-key", "AGGREGATE", "key None, timestamp 5"),
        (counting, NO_KEY, "null-key", "AGGREGATE", "key None, timestamp 5"),
        (counting, NO_VALUE, "null-value", "AGGREGATE", "key 'k', timestamp 5"),
        (reduced, NO_VALUE, "null-value", "REDUCE", "key 'k', timestamp 5"),
        (joined, NO_KEY, "null-key", "JOIN", "key None, timestamp 5"),
        (joined, NO_VALUE, "null-value", "JOIN", "key 'k', timestamp 5"),
        (table, NO_KEY, "null-key", "SOURCE", "key None, timestamp 5"),
        (bare_table, NO_KEY, "null-key", "SOURCE", "key None, timestamp 5"),
        (to_table, NO_KEY, "null-key", "TOTABLE", "key None, timestamp 5"),
        (grouped, ORDINARY, "null-group-key", "KEY-SELECT", "key None, timestamp 5"),
        (split_and_grouped, ORDINARY, "null-group-key", "KEY-SELECT", "key None, timestamp 5"),
        (mapped_and_grouped, ORDINARY, "null-group-key", "KSTREAM-MAP-", "key None, timestamp 5"),
        (nowhere, ORDINARY, "no-partition", "SINK", "key 'k', timestamp 5"),
        (skipping, (b"k", b"x", -7), "invalid-timestamp", "SOURCE", "key b'k', timestamp -7"),
        (negative, ORDINARY, "invalid-timestamp", "SOURCE", "key b'k', timestamp -1"),
        (passing, (b"k", b"\xff", 5), "unreadable", "SOURCE", "key b'k', timestamp 5"),
        (passing, (b"\xff", b"x", 5), "unreadable", "SOURCE", "key b'\\xff', timestamp 5"),
    ],
)
def test_each_operator_tells_what_it_leaves_out(
    lines: Callable[[], list[str]],
    build: Callable[[StreamsBuilder], None],
    record: Record,
    reason: str,
    node: str,
    sample: str,
) -> None:
    builder = StreamsBuilder()
    build(builder)
    with TopologyTestDriver(
        builder,
        default_key_serde=string,
        default_value_serde=string,
        deserialization_handler="log_and_continue",
    ) as driver:
        driver.pipe_raw("in", b"other", b"x", 100)
        lines()
        before = counted(driver.metrics()).get(reason, 0)
        driver.pipe_raw("in", *record)
        assert counted(driver.metrics())[reason] == before + 1
        if before:
            driver.clock.advance(EVERY_MS)
            driver.pipe_raw("in", *record)
    (line,) = lines()
    assert node in line.split(" dropped ")[0]
    assert f"({reason}): " in line
    assert "in-0 offset 1, " in line or before
    assert sample in line


class Filling(Processor[str, str, None, None]):
    def init(self, context: Any) -> None:
        super().init(context)
        self.rows: Any = context.get_state_store("facts")

    def process(self, record: Any) -> None:
        self.rows.put(record.key, record.value)


def test_a_global_store_tells_too(tmp_path: Path, lines: Callable[[], list[str]]) -> None:
    log, builder = Log(), StreamsBuilder()
    rows = key_value_store("facts", string, string)
    builder.add_global_store(rows, "facts", Filling)
    builder.stream("in").to("out")
    log.create("in", 1)
    log.send("facts", ("good", "x"), ("bad", b"\xff"))
    worker = worker_of(builder, log, tmp_path, deserialization_handler="log_and_continue")
    with running(worker) as run:
        run.until(lambda: worker.progress().is_idle)
        assert worker.progress().dropped_records == {"unreadable": 1}
    (line,) = lines()
    assert "facts-0 offset 1, key b'bad', " in line


# -- many of them --------------------------------------------------------------------------


def test_many_unreadable_records_are_two_lines(
    tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    log, builder = Log(), StreamsBuilder()
    builder.stream("in", value_serde=serdes.json).to("out", value_serde=serdes.json)
    log.send("in", *(("k", b"{") for _ in range(2_500)))
    with Steps(builder, log, tmp_path, deserialization_handler="log_and_continue") as steps:
        steps.start()
        steps.process()
        (line,) = lines()
        assert "dropped 1,000 records that cannot be decoded (unreadable): the first: " in line
        assert "in-0 offset 0, key b'k', timestamp 0, " in line
        assert "truncated" in line
        steps.close()
        (line,) = lines()
        assert "dropped 1,500 records" in line
        assert "in-0 offset 1000, " in line
        assert steps.manager.dropped_records() == {"unreadable": 2_500}


def test_a_handler_of_ones_own_is_asked_about_each_and_need_not_log(
    lines: Callable[[], list[str]],
) -> None:
    asked: list[int] = []

    def quiet(context: Any, _record: Any, _error: Exception) -> Response:
        asked.append(context.offset)
        return Response.resume()

    builder = StreamsBuilder()
    passing(builder)
    with TopologyTestDriver(
        builder, default_value_serde=string, deserialization_handler=quiet
    ) as driver:
        for _ in range(3):
            driver.pipe_raw("in", b"k", b"\xff", 1)
    assert asked == [0, 1, 2]
    assert [line.split()[2] for line in lines()] == ["1", "2"]


def test_what_a_processing_handler_drops_is_counted_apart(lines: Callable[[], list[str]]) -> None:
    builder = StreamsBuilder()
    builder.stream("in").map_values(lambda _value: 1 // 0).to("out")
    with TopologyTestDriver(
        builder, default_value_serde=string, processing_handler="log_and_continue"
    ) as driver:
        driver.pipe_raw("in", b"k", b"x", 1)
        assert counted(driver.metrics()) == {"failed": 1}
        assert driver.dropped_records_total() == 1
    assert lines() == []  # the handler tells of each by itself


# -- counts --------------------------------------------------------------------------------


def test_every_reason_has_a_metric_from_the_start() -> None:
    builder = StreamsBuilder()
    windowed(builder)
    with TopologyTestDriver(builder, default_value_serde=string) as driver:
        found = [m for m in driver.metrics() if m.name == "dropped-records-total"]
    assert {(m.tags["reason"], m.value) for m in found} == {(reason, 0) for reason in REASONS}


def test_the_count_of_the_test_driver_is_the_jvms() -> None:
    builder = StreamsBuilder()
    grouped(builder)
    with TopologyTestDriver(builder, default_value_serde=string) as driver:
        driver.pipe_raw("in", b"k", b"x", 1)
        assert counted(driver.metrics()) == {"null-group-key": 1}
        assert driver.dropped_records_total() == 0


def test_counts_outlast_the_tasks(tmp_path: Path, lines: Callable[[], list[str]]) -> None:
    log, builder = Log(default_partitions=2), StreamsBuilder()
    windowed(builder)
    log.create("in", 2)
    for partition in (0, 1):
        log.send("in", ("k", "x"), ("k", "x"), timestamps=(100, 1), partition=partition)
    worker = worker_of(builder, log, tmp_path)
    with running(worker) as run:
        run.until(lambda: worker.progress().is_idle)
        assert len(lines()) == 1  # of an operator, not of each of its tasks
    assert worker.progress().dropped_records == {"late": 2}
    assert len(lines()) <= 1
