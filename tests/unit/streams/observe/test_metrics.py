"""Metrics of a running application, by the JVM's names and in Prometheus' form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.streams.running import SOON, Gate, HeldRestoring, Log, idle, until
from tests.unit.streams.worker.test_reassignment import ONE, ZERO, ToldMember, counting
from tests.unit.streams.working import each, nothing, running, worker_of
from thalweg import (
    App,
    State,
    StreamsBuilder,
    serdes,
)
from thalweg.streams.clock import SystemClock
from thalweg.streams.observe.metrics import THREAD_GROUP, Metric, collect
from thalweg.streams.observe.prometheus import prometheus_name, render_prometheus
from thalweg.streams.testing import TopologyTestDriver
from thalweg.streams.transport.memory import MemoryTransport, memory_log

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]

METRICS_PAGE = Path(__file__).parents[4] / "docs" / "metrics.md"
LINES = ["a b", "b c", "c d a"]


def word_count() -> StreamsBuilder:
    """Returns a topology of two subtopologies with a store in the second."""
    builder = StreamsBuilder()
    (
        builder.stream("lines", value_serde=serdes.string)
        .flat_map_values(str.split)
        .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(name="counts")
        .to_stream()
        .to("word-counts", value_serde=serdes.int64)
    )
    return builder


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """Returns an application that has counted `LINES`."""
    log = memory_log()
    app = App(
        word_count(),
        application_id="counting",
        state_dir=tmp_path,
        commit_interval_ms=20,
        poll_ms=5,
        transport=lambda: MemoryTransport(log, "counting"),
    )
    with app.producer() as producer:
        for line in LINES:
            producer.send("lines", line, value_serde=serdes.string)
    with app:
        while (progress := app.progress()) is None or not progress.is_idle:
            assert not app.wait_for(State.ERROR, timeout=timedelta(milliseconds=5)), app.error
        yield app


def samples_of(text: str) -> Samples:
    """Parses Prometheus' text form."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value_of(samples: Samples, name: str, **labels: str) -> float:
    """Returns the one sample that has these labels among its own."""
    wanted = set(labels.items())
    found = [value for (known, tags), value in samples.items() if known == name and wanted <= tags]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_every_record_is_counted_where_it_passes(app: App) -> None:
    samples = samples_of(app.metrics_text())

    assert value_of(samples, "kafka_streams_thread_process_total") == 3 + 7
    assert value_of(samples, "kafka_streams_thread_poll_records_total") == 3 + 7
    assert value_of(samples, "kafka_streams_task_process_total", task="0_0") == 3
    assert value_of(samples, "kafka_streams_task_process_total", task="1_0") == 7
    consumed = "kafka_streams_topic_records_consumed_total"
    assert value_of(samples, consumed, task="0_0", topic="lines", partition="0") == 3
    produced = "kafka_streams_topic_records_produced_total"
    assert value_of(samples, produced, topic="counting-counts-repartition") == 7
    assert value_of(samples, produced, topic="word-counts") >= 4
    assert value_of(samples, "kafka_streams_thread_records_lag") == 0
    assert value_of(samples, "kafka_streams_consumer_records_lag", topic="lines") == 0


def test_stores_and_their_cache_are_counted(app: App) -> None:
    samples = samples_of(app.metrics_text())

    where = {"task": "1_0", "store": "counts", "client": "counting"}
    assert value_of(samples, "kafka_streams_state_put_total", **where) == 7
    assert value_of(samples, "kafka_streams_state_get_total", **where) == 7
    assert value_of(samples, "kafka_streams_state_num_open_iterators", **where) == 0
    assert value_of(samples, "kafka_streams_state_estimate_num_keys", **where) == 4
    hits = value_of(samples, "kafka_streams_record_cache_hit_total", **where)
    misses = value_of(samples, "kafka_streams_record_cache_miss_total", **where)
    assert hits + misses == 7
    assert (hits, misses) == (3, 4)
    assert value_of(samples, "kafka_streams_record_cache_hit_ratio_avg", **where) == hits / 7
    assert value_of(samples, "kafka_streams_record_cache_size_bytes") > 0
    assert value_of(samples, "kafka_streams_record_cache_max_bytes") == 10 * 1024 * 1024


def test_the_loop_is_measured(app: App) -> None:
    samples = samples_of(app.metrics_text())

    for step in ("poll", "process", "commit", "rebalance"):
        name = f"kafka_streams_thread_{step}_latency_seconds"
        average, most = value_of(samples, f"{name}_avg"), value_of(samples, f"{name}_max")
        assert 0 <= average <= most < 60
        assert value_of(samples, f"{name}_total") >= most
    assert value_of(samples, "kafka_streams_thread_commit_total") >= 2
    assert value_of(samples, "kafka_streams_thread_rebalance_total") == 1
    assert value_of(samples, "kafka_streams_thread_task_created_total") == 2
    assert value_of(samples, "kafka_streams_thread_tasks", state="running") == 2
    assert value_of(samples, "kafka_streams_thread_tasks", state="restoring") == 0


def test_latency_is_told_of_each_source_and_partition(app: App) -> None:
    samples = samples_of(app.metrics_text())

    for topic, task in (("lines", "0_0"), ("counting-counts-repartition", "1_0")):
        name = "kafka_streams_processor_node_record_e2e_latency_seconds"
        least, average, most = (
            value_of(samples, f"{name}_{kind}", topic=topic, task=task, partition="0")
            for kind in ("min", "avg", "max")
        )
        assert least <= average <= most


def test_latency_is_the_time_from_a_record_to_its_turn(tmp_path: Path) -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=serdes.string).to("out", value_serde=serdes.string)
    with TopologyTestDriver(builder, wall_clock_ms=10_000) as driver:
        topic = driver.create_input_topic("in", value_serde=serdes.string)
        topic.pipe_input(None, "x", timestamp=9_000)
        topic.pipe_input(None, "y", timestamp=4_000)
        assert driver._task is not None
        (source,) = driver._task.sources

    recent = source.latency.recent(10_000)
    assert recent is not None
    assert (recent.least, recent.most) == (1_000, 6_000)
    assert source.records_total == 2


def test_a_store_that_is_restored_is_counted(tmp_path: Path) -> None:
    log = memory_log()

    def counting(state: Path) -> App:
        return App(
            word_count(),
            application_id="counting",
            state_dir=state,
            commit_interval_ms=20,
            poll_ms=5,
            transport=lambda: MemoryTransport(log, "counting"),
        )

    first = counting(tmp_path / "first")
    with first.producer() as producer:
        for line in LINES:
            producer.send("lines", line, value_serde=serdes.string)
    with first:
        while (progress := first.progress()) is None or not progress.is_idle:
            assert not first.wait_for(State.ERROR, timeout=timedelta(milliseconds=5)), first.error
    with counting(tmp_path / "second") as second:
        assert second.wait_for(State.RUNNING, timeout=SOON)
        samples = samples_of(second.metrics_text())

    restored = value_of(samples, "kafka_streams_task_restore_total", task="1_0")
    assert restored >= 4
    assert value_of(samples, "kafka_streams_thread_restore_total") == restored
    assert value_of(samples, "kafka_streams_task_restore_remaining_records", task="1_0") == 0


def test_what_is_left_to_restore_is_told_while_it_is(tmp_path: Path) -> None:
    log = Log()
    log.send("in", *((key, "x") for key in "abc"))
    with log.app(counting(), tmp_path / "first") as app:
        idle(app)
    app = log.app(counting(), tmp_path / "second")
    listener = HeldRestoring()
    app.set_restore_listener(listener)

    with app:
        with listener.gate.held():
            samples = samples_of(app.metrics_text())
            assert value_of(samples, "kafka_streams_task_state", task="0_0", state="restoring") == 1
            assert value_of(samples, "kafka_streams_thread_tasks", state="restoring") == 1
            assert value_of(samples, "kafka_streams_thread_tasks", state="running") == 0
            remaining = "restore_remaining_records"
            assert value_of(samples, f"kafka_streams_task_{remaining}", task="0_0") == 3
            assert value_of(samples, f"kafka_streams_thread_{remaining}") == 3
        assert app.wait_for(State.RUNNING, timeout=SOON)
        samples = samples_of(app.metrics_text())
        assert value_of(samples, f"kafka_streams_thread_{remaining}") == 0
        assert value_of(samples, "kafka_streams_task_state", task="0_0", state="running") == 1


def test_lag_is_what_waits_behind_the_record_in_hand(tmp_path: Path) -> None:
    log = Log(default_partitions=2)
    gate = Gate()
    builder = each(lambda _context, record: gate.wait() if record.value == "3" else None)
    log.send("in", *((None, str(n)) for n in range(1, 6)), partition=0)

    with log.app(builder, tmp_path, max_poll_records=1) as app:
        with gate.held():
            samples = samples_of(app.metrics_text())
        consumer = "kafka_streams_consumer_records_lag"
        assert value_of(samples, consumer, topic="in", task="0_0", partition="0") == 3
        assert value_of(samples, consumer, topic="in", task="0_1", partition="1") == 0
        assert value_of(samples, "kafka_streams_thread_records_lag") == 3
        idle(app)
        assert value_of(samples_of(app.metrics_text()), "kafka_streams_thread_records_lag") == 0


def test_a_commit_is_counted_and_timed_when_it_is_asked_for(tmp_path: Path) -> None:
    log = Log()
    builder = each(lambda context, _record: context.commit())

    log.send("in", (None, "x"))
    with log.app(builder, tmp_path, commit_interval_ms=3_600_000) as app:
        until(app, lambda: bool(log.read("out")), "a commit")
        until(app, lambda: "kafka_streams_thread_commit_latency" in app.metrics_text())
        samples = samples_of(app.metrics_text())
    assert value_of(samples, "kafka_streams_thread_commit_total") == 1
    name = "kafka_streams_thread_commit_latency_seconds"
    assert value_of(samples, f"{name}_max") == value_of(samples, f"{name}_total") > 0


def test_a_record_that_waited_an_hour_is_an_hour_late(tmp_path: Path) -> None:
    log = Log()
    hour_ago_ms = SystemClock().now_ms() - 3_600_000
    log.send("in", (None, "x"), timestamps=[hour_ago_ms])

    with log.app(each(nothing), tmp_path) as app:
        idle(app)
        samples = samples_of(app.metrics_text())
    for kind in ("min", "avg", "max"):
        name = f"kafka_streams_processor_node_record_e2e_latency_seconds_{kind}"
        assert 3_600 <= value_of(samples, name, topic="in") < 2 * 3_600


def test_standby_tasks_tell_what_they_followed_and_how_far_they_are_behind(tmp_path: Path) -> None:
    log = Log(default_partitions=2)
    log.send("in", *((key, "x") for key in "abc"), partition=1)
    with log.app(counting(), tmp_path / "first") as app:
        idle(app)
    gate, member = Gate(), ToldMember()
    member.at_acknowledge = gate.wait
    member.tell([ZERO], [ONE])
    worker = worker_of(counting(), log, tmp_path / "second", member=member)

    def told() -> Samples:
        return samples_of(render_prometheus(collect(Told(), worker)))

    with running(worker) as run:
        with gate.held():
            samples = told()
            where = {"task": "0_1", "client": "app"}
            assert value_of(samples, "kafka_streams_task_state", **where, state="standby") == 1
            assert value_of(samples, "kafka_streams_task_update_remaining_records", **where) == 3
            assert value_of(samples, "kafka_streams_task_update_total", **where) == 0
        run.until(lambda: value_of(told(), "kafka_streams_task_update_total", **where) == 3)
        run.until(
            lambda: value_of(told(), "kafka_streams_task_update_remaining_records", **where) == 0
        )
        assert value_of(told(), "kafka_streams_thread_tasks", state="standby") == 1


class Told:
    """An application of one worker, as far as it is told of."""

    application_id = "app"
    state = State.RUNNING
    alive_worker_count = 1
    failed_worker_count = 0


def test_texts_become_labels(app: App) -> None:
    samples = samples_of(app.metrics_text())

    assert value_of(samples, "kafka_streams_client_state", state="RUNNING", client="counting") == 1
    assert value_of(samples, "kafka_streams_client_application_id", application_id="counting") == 1
    assert value_of(samples, "kafka_streams_client_alive_stream_threads") == 1


def test_the_documents_list_what_is_told(app: App) -> None:
    told = {name for name, _ in samples_of(app.metrics_text()) if name.startswith("kafka_streams")}

    listed = set()
    for row in re.findall(r"^\| (`kafka_streams.*?) \|", METRICS_PAGE.read_text(), re.MULTILINE):
        first, *others = re.findall(r"`(\w+)`", row)
        listed |= {first, *(first.removesuffix(first[first.rindex("_") :]) + o for o in others)}

    assert sorted(told - listed) == []
    # No punctuation ran, so nothing is told of the last minute; there are no standby task and no
    # suppression.
    missing = ("punctuate_latency", "kafka_streams_task_update_", "suppression")
    assert not [name for name in listed - told if not any(part in name for part in missing)]


def test_the_process_is_told_too(app: App) -> None:
    samples = samples_of(app.metrics_text())

    assert value_of(samples, "process_resident_memory_bytes") > 1_000_000


def test_an_application_that_was_not_started_tells_its_state(tmp_path: Path) -> None:
    app = App(word_count(), application_id="counting", state_dir=tmp_path)

    samples = samples_of(render_prometheus(app.metrics()))

    assert value_of(samples, "kafka_streams_client_state", state="CREATED") == 1
    assert not any(name.startswith("kafka_streams_thread") for name, _ in samples)


@pytest.mark.parametrize(
    ("name", "prometheus"),
    [
        ("commit-total", "kafka_streams_thread_commit_total"),
        ("commit-latency-avg", "kafka_streams_thread_commit_latency_seconds_avg"),
        ("commit-latency-total", "kafka_streams_thread_commit_latency_seconds_total"),
        ("restore-remaining-records-total", "kafka_streams_thread_restore_remaining_records"),
        ("records-lag", "kafka_streams_thread_records_lag"),
    ],
)
def test_names_follow_one_rule(name: str, prometheus: str) -> None:
    assert prometheus_name(Metric(name, THREAD_GROUP, 0)) == prometheus


def test_what_may_fall_is_no_counter_and_milliseconds_are_seconds() -> None:
    text = render_prometheus(
        [
            Metric("commit-total", THREAD_GROUP, 3, {"thread-id": 'odd "one"\n'}, "commits"),
            Metric("restore-remaining-records-total", THREAD_GROUP, 5),
            Metric("commit-latency-max", THREAD_GROUP, 250.0),
        ]
    )

    assert "# HELP kafka_streams_thread_commit_total commits" in text
    assert "# TYPE kafka_streams_thread_commit_total counter" in text
    assert 'kafka_streams_thread_commit_total{thread="odd \\"one\\"\\n"} 3.0' in text
    assert "# TYPE kafka_streams_thread_restore_remaining_records gauge" in text
    assert "kafka_streams_thread_commit_latency_seconds_max 0.25" in text
