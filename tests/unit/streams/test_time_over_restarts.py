"""The stream time of windowed operators goes on after a restart, and where a task moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import SOON, Log, string
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    App,
    EmitStrategy,
    FixedKeyProcessor,
    FixedKeyRecord,
    Materialized,
    PunctuationType,
    StreamsBuilder,
    TimeWindows,
    serdes,
)
from thalweg.stores.formats import decode_processor_metadata, encode_partition_metadata
from thalweg.streams.tasks.commit import METADATA_CHARS_MAX
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition

TEN = TimeWindows.of_size(10)
IN = TopicPartition("in", 0)


def counts(builder: StreamsBuilder, windows: TimeWindows = TEN, name: str = "w") -> None:
    builder.stream("in").group_by_key().windowed_by(windows).count(name=name)


def reduced(builder: StreamsBuilder) -> None:
    grouped = builder.stream("in").group_by_key().windowed_by(TEN)
    grouped.reduce(lambda one, other: one + other, name="w")


def aggregated(builder: StreamsBuilder) -> None:
    grouped = builder.stream("in").group_by_key().windowed_by(TEN)
    grouped.aggregate(lambda: "", lambda _key, value, all_: all_ + value, name="w")


def hopping(builder: StreamsBuilder) -> None:
    counts(builder, TimeWindows.of_size(10).advance_by(5))


def repartitioned(builder: StreamsBuilder) -> None:
    grouped = builder.stream("in").group_by(lambda _key, value: value, key_serde=string)
    grouped.windowed_by(TEN).count(name="w")


def stepped(
    build: Callable[[StreamsBuilder], None], log: Log, state_dir: Path, **settings: Any
) -> Steps:
    builder = StreamsBuilder()
    build(builder)
    return Steps(builder, log, state_dir, **settings).start()


def dropped(steps: Steps) -> int:
    return sum(task.scope.dropped_records_total for task in steps.running)


@pytest.mark.parametrize("build", [counts, hopping, reduced, aggregated, repartitioned])
@pytest.mark.parametrize("moves", [False, True], ids=["restarts", "moves"])
@pytest.mark.parametrize("cache", [0, 1_000_000], ids=["bare", "cached"])
def test_a_window_that_was_closed_stays_closed(
    tmp_path: Path, build: Callable[[StreamsBuilder], None], cache: int, *, moves: bool
) -> None:
    log = Log()
    log.send("in", ("k", "x"), ("k", "x"), timestamps=(1, 100))
    with stepped(build, log, tmp_path / "one", statestore_cache_max_bytes=cache) as steps:
        steps.process()
        steps.close()
    home = tmp_path / ("two" if moves else "one")
    for late in range(2):  # also where the time did not move meanwhile
        log.send("in", ("k", "x"), timestamps=[2])
        with stepped(build, log, home, statestore_cache_max_bytes=cache) as steps:
            assert steps.process() == (2 if build is repartitioned else 1)
            assert dropped(steps) >= 1, late
            steps.close()


def test_the_grace_of_a_window_is_what_it_was(tmp_path: Path) -> None:
    def build(builder: StreamsBuilder) -> None:
        counts(builder, TimeWindows.of_size(10, grace=50))

    log = Log()
    log.send("in", ("k", "x"), timestamps=[59])
    with stepped(build, log, tmp_path) as steps:
        steps.process()
        steps.close()
    log.send("in", ("k", "x"), ("k", "x"), ("k", "x"), timestamps=(9, 60, 9))
    with stepped(build, log, tmp_path) as steps:
        steps.process()
        assert dropped(steps) == 1
        assert steps.task().stores["w"].read_only().fetch("k", 0).value == 1


def test_a_time_is_the_operators_own_not_that_of_its_input(tmp_path: Path) -> None:
    def build(builder: StreamsBuilder) -> None:
        records = builder.stream("in")
        for store, kept in (("even", "ev"), ("odd", "od")):
            few = records.filter(lambda _key, value, kept=kept: value == kept)
            few.group_by_key().windowed_by(TEN).count(name=store)

    log = Log()
    log.send("in", ("k", "ev"), ("k", "od"), timestamps=(100, 5))
    with stepped(build, log, tmp_path) as steps:
        steps.process()
        steps.close()
    log.send("in", ("k", "od"), ("k", "ev"), timestamps=(6, 6))
    with stepped(build, log, tmp_path) as steps:
        steps.process()
        assert dropped(steps) == 1
        assert steps.task().stores["odd"].read_only().fetch("k", 0).value == 2


def test_what_was_not_committed_is_not_remembered(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("k", "x"), timestamps=[1])
    with stepped(counts, log, tmp_path) as steps:
        steps.process()
        steps.commit()
        log.send("in", ("k", "x"), timestamps=[100])
        steps.process()
        steps.close(clean=False)
    with stepped(counts, log, tmp_path) as steps:
        assert steps.process() == 1
        assert dropped(steps) == 0


def test_what_is_read_again_from_the_beginning_is_not_late(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("k", "x"), ("k", "x"), timestamps=(1, 100))
    with stepped(counts, log, tmp_path) as steps:
        steps.process()
        steps.close()
    log.engine.delete_offsets("app")
    with stepped(counts, log, tmp_path) as steps:
        assert steps.process() == 2
        assert dropped(steps) == 0


class Later(FixedKeyProcessor[str, str, str]):
    """Forwards its last record in a punctuation, with a later time."""

    def init(self, context: Any) -> None:
        super().init(context)
        self.last: list[FixedKeyRecord[str, str]] = []
        context.schedule(1, PunctuationType.WALL_CLOCK_TIME, self.tick)

    def process(self, record: FixedKeyRecord[str, str]) -> None:
        self.last = [record]

    def tick(self, _now_ms: int) -> None:
        for record in self.last:
            self.context.forward(record.with_timestamp(100))


def kept(log: Log, at: TopicPartition = IN) -> dict[str, int]:
    with log.transport("app") as transport:
        return decode_processor_metadata(transport.committed([at])[at].metadata)


def test_a_time_that_a_punctuation_moves_is_kept_as_well(tmp_path: Path) -> None:
    builder = StreamsBuilder()
    later = builder.stream("in").process_values(Later)
    later.group_by_key(value_serde=string).windowed_by(TEN).count(name="w")
    log = Log()
    log.send("in", ("k", "x"), timestamps=[1])
    with Steps(builder, log, tmp_path).start() as steps:
        steps.process()
        steps.commit()
        assert kept(log) == {}
        assert steps.task().punctuate_wall_clock(steps.clock.now_ms() + 10)
        steps.close()
    assert (kept(log), log.committed("app", "in")) == ({"stream-time/w": 100}, 1)


def test_what_a_jvm_member_keeps_stays_and_goes_with_ours(tmp_path: Path) -> None:
    # A member on the JVM carries names it does not know, as it carries those of its own.
    log = Log()
    log.send("in", ("k", "x"))
    metadata = encode_partition_metadata(70, {"w": 60, "stream-time/w": 50, "stream-time/gone": 9})
    with log.transport("app") as transport:
        transport.commit({IN: OffsetAndMetadata(1, metadata)})
    log.send("in", ("k", "x"), ("k", "x"), timestamps=(49, 50))
    with stepped(counts, log, tmp_path) as steps:
        steps.process()
        assert dropped(steps) == 1
        steps.close()
    assert kept(log) == {"w": 60, "stream-time/w": 50}


@pytest.mark.parametrize("note", ["", "by hand", "AgAAAAAAAAFnAAAABQ=="])
def test_where_nothing_is_known_of_a_time_it_begins_anew(tmp_path: Path, note: str) -> None:
    log = Log()
    log.send("in", ("k", "x"), timestamps=[100])
    with stepped(counts, log, tmp_path) as steps:
        steps.process()
        steps.close()
    with log.transport("app") as transport:
        transport.commit({IN: OffsetAndMetadata(1, note)})
    log.send("in", ("k", "x"), timestamps=[2])
    with stepped(counts, log, tmp_path) as steps:
        steps.process()
        assert dropped(steps) == 0


def test_times_that_a_broker_would_not_take_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def build(builder: StreamsBuilder) -> None:
        records = builder.stream("in").group_by_key().windowed_by(TEN)
        for number in range(30):
            records.count(name=f"{number:0200}")

    log = Log()
    log.send("in", ("k", "x"), timestamps=[100])
    with stepped(build, log, tmp_path, statestore_cache_max_bytes=0) as steps:
        for timestamp in (101, 102):
            steps.process()
            steps.commit()
            log.send("in", ("k", "x"), timestamps=[timestamp])
        steps.close()
    with log.transport("app") as transport:
        assert 3_500 < len(transport.committed([IN])[IN].metadata) <= METADATA_CHARS_MAX
    assert set(kept(log).values()) == {101}
    (told,) = (one.getMessage() for one in caplog.records if "do not fit" in one.getMessage())
    assert "task 0_0: the times of 17 operators" in told


def test_a_window_stays_closed_over_a_restart_on_the_log_of_a_directory(tmp_path: Path) -> None:
    def app() -> App:
        builder = StreamsBuilder()
        counts(builder)
        return App(
            builder,
            application_id="app",
            state_dir=tmp_path / "state",
            data_dir=tmp_path / "data",
            commit_interval=timedelta(milliseconds=20),
            default_key_serde=string,
            default_value_serde=string,
        )

    for timestamps, dropped_records in (((1, 100), 0), ((2,), 1)):
        with app().producer() as producer:
            for timestamp in timestamps:
                producer.send(
                    *("in", "x"),
                    key="k",
                    timestamp=timestamp,
                    key_serde=serdes.string,
                    value_serde=serdes.string,
                )
        with app() as running:
            assert running.wait_until_idle(SOON)
            assert running.store("w").fetch("k", 0) == 1
            counted = {
                m.tags["reason"]: m.value
                for m in running.metrics()
                if m.name == "dropped-records-total"
            }
            assert counted["late"] == sum(counted.values()) == dropped_records


def test_results_sent_on_at_a_close_are_not_sent_again(tmp_path: Path) -> None:
    def build(builder: StreamsBuilder) -> None:
        grouped = builder.stream("in").group_by_key().windowed_by(TEN)
        finals = grouped.emit_strategy(EmitStrategy.on_window_close()).count(
            materialized=Materialized("w", retention=1_000)
        )
        finals.to_stream(lambda key, _count: str(key.window.start_ms)).to("out")

    log = Log()
    log.send("in", ("k", "x"), ("k", "x"), timestamps=(1, 15))
    for home, more in (("one", 16), ("one", 25), ("two", 26), ("two", 31)):
        with stepped(build, log, tmp_path / home, window_emit_interval_ms=0) as steps:
            steps.process()
            steps.close()
        log.send("in", ("k", "x"), timestamps=[more])
    with stepped(build, log, tmp_path / "two", window_emit_interval_ms=0) as steps:
        steps.process()
        steps.close()
    assert [seen[0] for seen in log.read("out", int.from_bytes)] == ["0", "10", "20"]
    # As a JVM member would find it, under the store's own name.
    assert kept(log)["w"] == 31
