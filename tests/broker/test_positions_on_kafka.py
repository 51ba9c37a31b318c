"""Committed positions, as tools outside see them, and the times beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.broker.groups import committed
from tests.broker.records import Topics, unique
from tests.waiting import HANG_S
from thalweg import (
    App,
    AutoOffsetReset,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    serdes,
)
from thalweg.stores.formats import decode_processor_metadata

GUARANTEES = ["at_least_once", "exactly_once_v2"]
SOON = timedelta(seconds=HANG_S)


class Transactions:
    """Writes transactions to one topic."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": servers, "transactional.id": unique("writer"), "log_level": 0}
        )
        self._producer.init_transactions()

    def write(self, *keys: str, is_aborted: bool = False) -> None:
        """Writes one transaction."""
        self._producer.begin_transaction()
        for key in keys:
            self._producer.produce(self._topic, key=key, value=key, timestamp=1)
        self._producer.flush()
        if is_aborted:
            self._producer.abort_transaction()
        else:
            self._producer.commit_transaction()


def committed_only(writer: Transactions) -> None:
    writer.write("a", "b")
    writer.write("c")


def aborted_last(writer: Transactions) -> None:
    writer.write("a", "b", "c")
    writer.write("d", "e", is_aborted=True)


def aborted_only(writer: Transactions) -> None:
    writer.write("a", is_aborted=True)
    writer.write("b", "c", is_aborted=True)


def app_of(builder: StreamsBuilder, kafka: str, state: Path, name: str, **settings: str) -> App:
    return App(
        builder,
        application_id=name,
        bootstrap_servers=kafka,
        state_dir=state,
        commit_interval=timedelta(milliseconds=100),
        default_key_serde=serdes.string,
        default_value_serde=serdes.string,
        **settings,  # type: ignore[arg-type]  # one of the literals
    )


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("write", [committed_only, aborted_last, aborted_only])
def test_nothing_is_left_of_a_topic_written_in_transactions(
    kafka: str, tmp_path: Path, write: Callable[[Transactions], None], guarantee: str
) -> None:
    topics, name = Topics(kafka), unique("app")
    source = topics.create(unique("in"))
    sink = topics.create(unique("out"))
    builder = StreamsBuilder()
    counts = builder.stream(source).group_by_key().count(name="counts")
    counts.to_stream().to(sink, value_serde=serdes.int64)
    write(Transactions(kafka, source))
    # The second run restores a changelog that, exactly-once, ends in a marker.
    for run in ("one", "two"):
        with app_of(builder, kafka, tmp_path / run, name, processing_guarantee=guarantee) as app:
            assert app.wait_until_idle(SOON)
            assert committed(kafka, name)[source, 0][0] == topics.ends(source)[0]
            assert {m.value for m in app.metrics() if m.name == "records-lag"} == {0}


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_what_comes_between_a_stop_and_the_next_start_is_read(
    kafka: str, tmp_path: Path, guarantee: str
) -> None:
    topics, name = Topics(kafka), unique("app")
    source, sink = topics.create(unique("in"), 2), topics.create(unique("out"))
    builder = StreamsBuilder()
    builder.stream(source, offset_reset=AutoOffsetReset.latest()).to(sink)
    topics.produce(source, [(b"old", b"old")], partition=0)
    with app_of(builder, kafka, tmp_path / "one", name, processing_guarantee=guarantee) as app:
        assert app.wait_until_idle(SOON)
        assert [committed(kafka, name)[source, p][0] for p in (0, 1)] == [1, 0]
    for partition in (0, 1):
        topics.produce(source, [(b"between", b"between")], partition=partition)
    with app_of(builder, kafka, tmp_path / "two", name, processing_guarantee=guarantee) as app:
        assert app.wait_until_idle(SOON)
    assert [record.key for record in topics.read(sink)] == [b"between"] * 2


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("is_regrouped", [False, True], ids=["", "repartitioned"])
def test_a_window_that_was_closed_stays_closed_where_its_task_moves(
    kafka: str, tmp_path: Path, guarantee: str, *, is_regrouped: bool
) -> None:
    topics, name = Topics(kafka), unique("app")
    source = topics.create(unique("in"))
    builder = StreamsBuilder()
    records = builder.stream(source)
    grouped = records.group_by(lambda key, _: key) if is_regrouped else records.group_by_key()
    store = Materialized[str, int]("w", retention=timedelta(days=1))
    grouped.windowed_by(TimeWindows.of_size(10)).count(materialized=store)
    # A changelog of windows forgets what is old by the clock.
    start = time.time_ns() // 10_000_000 * 10
    for run, timestamps in (("one", (start + 1, start + 100)), ("two", (start + 2,))):
        topics.produce(source, [(b"k", b"x")] * len(timestamps), timestamps=timestamps)
        with app_of(builder, kafka, tmp_path / run, name, processing_guarantee=guarantee) as app:
            assert app.wait_until_idle(SOON)
            assert app.store("w").fetch("k", start) == 1
    read = f"{name}-w-repartition" if is_regrouped else source
    _, metadata = committed(kafka, name)[read, 0]
    assert decode_processor_metadata(metadata.rstrip("\0")) == {"stream-time/w": start + 100}
