"""The worker's loop: when it polls, processes, punctuates, commits, and what it survives."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Gate, Log, rows_of, string, word_count
from tests.unit.streams.working import NOW_MS, Each, Running, each, nothing, running, worker_of
from thalweg import (
    AutoOffsetReset,
    BrokerError,
    MissingTopicsError,
    ProcessingError,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    StreamsBuilder,
    StreamsError,
    TaskMigratedError,
    key_value_store,
    serdes,
)
from thalweg.stores.errors import (
    CorruptDataError,
    Reaction,
    StoreLockedError,
    StoreNotReadyError,
)
from thalweg.streams.clock import ManualClock
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import (
    Batch,
    OffsetAndMetadata,
    Reader,
    TopicPartition,
)
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.loop import Worker

# -- life cycle ----------------------------------------------------------------------------


def test_its_states_are_those_of_a_stream_thread(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    worker = worker_of(
        word_count(),
        Log(),
        tmp_path,
        on_state=lambda new, old: seen.append((old.name, new.name)),
    )
    assert worker.state is WorkerState.CREATED
    with running(worker) as run:
        run.until(lambda: worker.state is WorkerState.RUNNING)
    assert seen == [
        ("CREATED", "STARTING"),
        ("STARTING", "PARTITIONS_ASSIGNED"),
        ("PARTITIONS_ASSIGNED", "RUNNING"),
        ("RUNNING", "PENDING_SHUTDOWN"),
        ("PENDING_SHUTDOWN", "DEAD"),
    ]


def test_what_is_in_hand_is_committed_when_it_stops(tmp_path: Path) -> None:
    log, gate = Log(), Gate()
    log.send("in", ("a", "1"), ("b", "2"))

    def wait(_context: Any, record: Record[str, str]) -> None:
        if record.key == "a":
            gate.wait()

    worker = worker_of(each(wait), log, tmp_path, commit_interval_ms=3_600_000)
    with running(worker) as run:
        gate.reached()
        worker.stop()
        gate.open()
        run.ended()
    assert [seen.value for seen in log.read("out")][:1] == ["1"]
    assert log.committed("app", "in") == len(log.read("out"))
    assert worker.progress().processed_records == len(log.read("out"))


def test_stopped_before_it_runs_it_closes_at_once(tmp_path: Path) -> None:
    worker = worker_of(word_count(), Log(), tmp_path)
    worker.stop()
    with running(worker) as run:
        run.ended()
    assert worker.state is WorkerState.DEAD


def test_an_error_leaves_nothing_behind_but_the_last_commit(tmp_path: Path) -> None:
    log, seen = Log(), []
    log.send("in", ("a", "1"), ("b", "bad"), ("c", "3"))

    def fail(_context: Any, record: Record[str, str]) -> None:
        if record.value == "bad":
            raise ValueError(record.value)

    worker = worker_of(each(fail), log, tmp_path, on_state=lambda new, _old: seen.append(new))
    with (
        pytest.raises(StreamsError, match=r"ValueError: bad \[task 0_0, topic in, .* offset 1"),
        running(worker) as run,
    ):
        run.ended()
    assert seen[-2:] == [WorkerState.PENDING_SHUTDOWN, WorkerState.DEAD]
    assert log.read("out") == []
    assert log.committed("app", "in") is None


def test_the_state_directory_is_its_own(tmp_path: Path) -> None:
    worker = worker_of(word_count(), Log(), tmp_path)
    with running(worker) as run:
        with pytest.raises(StoreLockedError, match="in use by this process"):
            worker_of(word_count(), Log(), tmp_path)
        worker_of(word_count(), Log(), tmp_path / "other").stop()
        run.until(lambda: worker.state is WorkerState.RUNNING)
    again = worker_of(word_count(), Log(), tmp_path)
    again.stop()
    again.run()


def test_a_worker_that_cannot_be_made_gives_the_directory_back(tmp_path: Path) -> None:
    builder = word_count()
    builder.add_global_store(
        key_value_store("rows", string, string), "missing", lambda: Each(nothing)
    )
    with pytest.raises(MissingTopicsError, match="missing"):
        worker_of(builder, Log(), tmp_path)
    worker = worker_of(word_count(), Log(), tmp_path)
    worker.stop()
    worker.run()


def test_missing_topics_are_created_with_the_default_partitions(tmp_path: Path) -> None:
    log = Log(default_partitions=3)
    with running(worker_of(word_count(), log, tmp_path)) as run:
        run.until(lambda: run.worker.progress().running_tasks == 6)
    with log.transport() as transport:
        counts = transport.partition_counts(transport.topics())
    internal = "app-KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition"
    assert counts.pop("lines") == 3
    assert counts.pop("app-counts-changelog") == 3
    assert {name: count for name, count in counts.items() if name.endswith("-repartition")} in (
        {"app-counts-repartition": 3},
        {internal: 3},
    )


# -- progress ------------------------------------------------------------------------------


def test_progress_tells_what_was_done_and_what_is_left(tmp_path: Path) -> None:
    log, gate = Log(), Gate()
    log.send("in", *((f"k{n}", "x") for n in range(10)))

    def wait(_context: Any, record: Record[str, str]) -> None:
        if record.key == "k4":
            gate.wait()

    worker = worker_of(each(wait), log, tmp_path)
    assert not worker.progress().is_idle
    with running(worker) as run:
        gate.reached()
        waiting = worker.progress()
        assert (waiting.processed_records, waiting.lag_records) == (0, 10)
        assert (waiting.running_tasks, waiting.restoring_tasks) == (1, 0)
        assert not waiting.is_idle
        gate.open()
        run.until(lambda: worker.progress().is_idle)
        done = worker.progress()
        assert (done.processed_records, done.lag_records) == (10, 0)
        assert done.commits > 0
        assert done.state is WorkerState.RUNNING


def test_it_is_not_idle_while_there_is_something_to_do(tmp_path: Path) -> None:
    log = Log()
    worker = worker_of(each(nothing), log, tmp_path)
    with running(worker) as run:
        run.until(lambda: worker.progress().is_idle)
        log.send("in", *((f"k{n}", "x") for n in range(100)))
        run.until(lambda: worker.progress().processed_records == 100)
        run.until(lambda: worker.progress().is_idle)
        assert len(log.read("out")) == 100


# -- commits -------------------------------------------------------------------------------


def test_it_commits_at_its_interval_and_not_before(tmp_path: Path) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", ("a", "1"))
    worker = worker_of(each(nothing), log, tmp_path, clock=clock, commit_interval_ms=1_000)
    with running(worker) as run:
        run.until(lambda: worker.progress().processed_records == 1)
        clock.advance(999)
        log.send("in", ("b", "2"))
        run.until(lambda: worker.progress().processed_records == 2)
        assert log.read("out") == []
        clock.advance(1)
        run.until(lambda: len(log.read("out")) == 2)
        assert log.committed("app", "in") == 2


def test_a_wall_clock_that_jumps_back_does_not_hold_commits_up(tmp_path: Path) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", ("a", "1"))
    worker = worker_of(each(nothing), log, tmp_path, clock=clock, commit_interval_ms=1_000)
    with running(worker) as run:
        run.until(lambda: worker.progress().processed_records == 1)
        clock.set_now_ms(NOW_MS - 3_600_000)
        clock.advance(1_000)
        run.until(lambda: log.committed("app", "in") == 1)


def test_user_code_may_ask_for_a_commit(tmp_path: Path) -> None:
    log = Log()

    def commit_at_b(context: ProcessorContext[str, str], record: Record[str, str]) -> None:
        if record.key == "b":
            context.commit()

    worker = worker_of(
        each(commit_at_b), log, tmp_path, clock=ManualClock(NOW_MS), commit_interval_ms=1_000
    )
    with running(worker) as run:
        log.send("in", ("a", "1"))
        run.until(lambda: worker.progress().processed_records == 1)
        assert log.committed("app", "in") is None
        log.send("in", ("b", "2"))
        run.until(lambda: log.committed("app", "in") == 2)
        log.send("in", ("c", "3"))
        run.until(lambda: worker.progress().processed_records == 3)
        assert log.committed("app", "in") == 2


def test_an_interval_of_zero_commits_every_round(tmp_path: Path) -> None:
    log = Log()
    worker = worker_of(
        each(nothing), log, tmp_path, clock=ManualClock(NOW_MS), commit_interval_ms=0
    )
    with running(worker) as run:
        log.send("in", ("a", "1"))
        run.until(lambda: log.committed("app", "in") == 1)


def test_committed_repartition_records_are_purged(tmp_path: Path) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("lines", ("k", "a b c"), ("k", "d"))
    worker = worker_of(
        word_count(),
        log,
        tmp_path,
        clock=clock,
        commit_interval_ms=100,
        repartition_purge_interval_ms=1_000,
    )
    with log.transport() as transport, running(worker) as run:
        (topic,) = [
            name
            for name in _eventually(run, lambda: transport.topics())
            if name.endswith("-repartition")
        ]
        partition = TopicPartition(topic, 0)

        def begin() -> int:
            return transport.begin_offsets([partition])[partition]

        run.until(lambda: worker.progress().processed_records == 6)
        clock.advance(100)
        run.until(lambda: log.committed("app", topic) == 4)
        assert begin() == 0
        clock.advance(1_000)
        run.until(lambda: begin() == 4)
        log.send("lines", ("k", "e"))
        run.until(lambda: worker.progress().processed_records == 8)
        assert rows_of(worker.stores("counts")[0])["e"].value == 1


def _eventually(run: Running, topics: Callable[[], Sequence[str]]) -> Sequence[str]:
    run.until(lambda: any(name.endswith("-repartition") for name in topics()))
    return topics()


# -- time ----------------------------------------------------------------------------------


def test_wall_clock_punctuations_follow_the_workers_clock(tmp_path: Path) -> None:
    calls: list[int] = []

    class Timed(Each):
        def init(self, context: Any) -> None:
            super().init(context)
            context.schedule(timedelta(seconds=1), PunctuationType.WALL_CLOCK_TIME, self.tick)

        def tick(self, now_ms: int) -> None:
            calls.append(now_ms - NOW_MS)
            self.context.forward(Record("tick", str(now_ms - NOW_MS), now_ms))

    builder, log, clock = StreamsBuilder(), Log(), ManualClock(NOW_MS)
    builder.stream("in").process(lambda: Timed(nothing)).to("out")
    with running(worker_of(builder, log, tmp_path, clock=clock)) as run:
        run.until(lambda: run.worker.state is WorkerState.RUNNING)
        for step_ms, expected in ((999, 0), (1, 1), (2_500, 2), (499, 2), (1, 3)):
            clock.advance(step_ms)
            run.until(lambda n=expected: len(calls) >= n)
        assert calls == [1_000, 3_500, 4_000]
    assert [seen.value for seen in log.read("out")] == ["1000", "3500", "4000"]


def slow_topology(clock: ManualClock, work: Callable[[], None]) -> StreamsBuilder:
    """Takes 10 ms of the clock for each record, and punctuates every second."""

    class Slow(Each):
        def init(self, context: Any) -> None:
            super().init(context)
            context.schedule(1_000, PunctuationType.WALL_CLOCK_TIME, self.tick)

        def tick(self, now_ms: int) -> None:
            self.context.forward(Record("tick", "", now_ms))

    def take_time(_context: Any, _record: Any) -> None:
        clock.advance(10)
        work()

    builder = StreamsBuilder()
    builder.stream("in").process(lambda: Slow(take_time)).to("out")
    return builder


def test_slow_user_code_delays_neither_commits_nor_punctuations_nor_the_end(
    tmp_path: Path,
) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", *((str(n), "x") for n in range(5_000)))
    done = 0
    buffered: list[int] = []

    def work() -> None:
        nonlocal done
        done += 1
        buffered.append(sum(task.group.buffered_count() for task in worker.tasks))
        if done == 2_000:
            worker.stop()

    worker = worker_of(
        slow_topology(clock, work), log, tmp_path, clock=clock, commit_interval_ms=1_000
    )
    with running(worker) as run:
        run.ended()
    out = log.read("out")
    assert sum(seen.key != "tick" for seen in out) == done < 2_050
    assert worker.progress().commits >= 15
    ticks = [seen.timestamp for seen in out if seen.key == "tick"]
    assert max(b - a for a, b in pairwise(ticks)) <= 1_300


def test_slow_user_code_does_not_fill_the_memory(tmp_path: Path) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", *((str(n), "x") for n in range(5_000)))
    done, most = 0, 0

    def work() -> None:
        nonlocal done, most
        done += 1
        most = max(most, sum(task.group.buffered_count() for task in worker.tasks))
        if done == 1_000:
            worker.stop()

    worker = worker_of(
        slow_topology(clock, work),
        log,
        tmp_path,
        clock=clock,
        commit_interval_ms=100,
        max_poll_records=100,
    )
    with running(worker) as run:
        run.ended()
    assert done >= 1_000
    assert most <= 200


# -- several inputs ------------------------------------------------------------------------


def merged(work: Callable[[Any, Any], None] = nothing) -> StreamsBuilder:
    """Returns two inputs in one task."""
    builder = StreamsBuilder()
    inputs = builder.stream("left").merge(builder.stream("right"))
    inputs.process(lambda: Each(work)).to("out")
    return builder


def test_records_of_several_inputs_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    log = Log()
    log.send(
        "left", *((None, f"l{at}") for at in range(0, 3_000, 3)), timestamps=range(0, 3_000, 3)
    )
    log.send(
        "right", *((None, f"r{at}") for at in range(1, 3_000, 2)), timestamps=range(1, 3_000, 2)
    )
    with running(worker_of(merged(), log, tmp_path, max_poll_records=100)) as run:
        run.until(lambda: run.worker.progress().is_idle)
    times = [seen.timestamp for seen in log.read("out")]
    assert len(times) == 2_500
    assert times == sorted(times)


def test_an_input_far_ahead_is_held_back(tmp_path: Path) -> None:
    log = Log()
    log.send("left", *((None, str(at)) for at in range(2_000)), timestamps=range(2_000))
    log.send("right", (None, "late"), timestamps=[5_000])
    most = 0

    def look(_context: Any, _record: Any) -> None:
        nonlocal most
        for task in worker.tasks:
            most = max(most, task.group.buffered_count())

    worker = worker_of(
        merged(look),
        log,
        tmp_path,
        max_poll_records=50,
        buffered_records_per_partition=100,
        max_task_idle_ms=0,
    )
    with running(worker) as run:
        run.until(lambda: worker.progress().is_idle)
    assert len(log.read("out")) == 2_001
    assert most <= 250


def test_it_waits_for_a_silent_input_as_long_as_it_is_told(tmp_path: Path) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("left", (None, "l5"), (None, "l9"), timestamps=(5, 9))
    log.create("right")
    worker = worker_of(
        merged(), log, tmp_path, clock=clock, max_task_idle_ms=1_000, commit_interval_ms=0
    )
    with running(worker) as run:
        run.until(lambda: worker.progress().lag_records == 2)
        run.until(lambda: worker.progress().commits > 3)
        assert worker.progress().processed_records == 0
        log.send("right", (None, "r3"), timestamps=[3])
        run.until(lambda: worker.progress().processed_records == 1)
        clock.advance(999)
        commits = worker.progress().commits
        run.until(lambda: worker.progress().commits > commits + 3)
        assert worker.progress().processed_records == 1
        clock.advance(1)
        run.until(lambda: worker.progress().processed_records == 3)
        run.until(lambda: len(log.read("out")) == 3)
    assert [seen.value for seen in log.read("out")] == ["r3", "l5", "l9"]


# -- pausing -------------------------------------------------------------------------------


def test_paused_it_processes_nothing_and_goes_on_afterwards(tmp_path: Path) -> None:
    log = Log()
    worker = worker_of(each(nothing), log, tmp_path)
    worker.pause()
    with running(worker) as run:
        log.send("in", ("a", "1"))
        run.until(lambda: worker.progress().commits > 2)
        assert worker.progress().processed_records == 0
        worker.resume()
        run.until(lambda: len(log.read("out")) == 1)


def test_paused_it_restores_and_answers(tmp_path: Path) -> None:
    log = Log()
    log.send("lines", ("k", "a b a"))
    with running(worker_of(word_count(), log, tmp_path / "one")) as run:
        run.until(lambda: run.worker.progress().is_idle)
    worker = worker_of(word_count(), log, tmp_path / "two")
    worker.pause()
    log.send("lines", ("k", "a"))
    with running(worker) as run:
        run.until(lambda: worker.state is WorkerState.RUNNING)
        assert worker.progress().restored_records == 2
        rows = rows_of(worker.stores("counts")[0])
        assert {word: row.value for word, row in rows.items()} == {"a": 2, "b": 1}


# -- topics by pattern, records that vanish ------------------------------------------------


def test_topics_that_a_pattern_comes_to_match_are_read(tmp_path: Path) -> None:
    builder, log, clock = StreamsBuilder(), Log(), ManualClock(NOW_MS)
    builder.stream(re.compile("in-.*")).to("out")
    log.send("in-1", ("a", "1"))
    worker = worker_of(builder, log, tmp_path, clock=clock, commit_interval_ms=0)
    with running(worker) as run:
        run.until(lambda: len(log.read("out")) == 1)
        log.create("in-2", 2)
        log.send("in-2", ("b", "2"), partition=1)
        clock.set_now_ms(NOW_MS - 3_600_000)  # a wall clock that jumps back delays nothing
        clock.advance(10_000)
        run.until(lambda: len(log.read("out")) == 2)
        assert worker.progress().running_tasks == 2
        assert worker.state is WorkerState.RUNNING


@pytest.mark.parametrize(
    ("reset", "expected"), [("earliest", ["6", "7", "8", "9"]), ("latest", [])]
)
def test_records_deleted_under_it_are_passed_over(
    tmp_path: Path, reset: str, expected: list[str]
) -> None:
    log = Log()
    policy = AutoOffsetReset.earliest() if reset == "earliest" else AutoOffsetReset.latest()
    for number in range(10):
        log.send("in", (None, str(number)))
    partition = TopicPartition("in", 0)
    with log.transport("app") as transport:
        transport.commit({partition: OffsetAndMetadata(2)})
        transport.delete_records({partition: 6})
    worker = worker_of(each(nothing, offset_reset=policy), log, tmp_path)
    with running(worker) as run:
        run.until(lambda: worker.progress().is_idle)
        log.send("in", (None, "new"))
        run.until(lambda: len(log.read("out")) == len(expected) + 1)
    assert [seen.value for seen in log.read("out")] == [*expected, "new"]


def test_records_deleted_under_a_source_that_may_not_choose_stop_it(tmp_path: Path) -> None:
    log, partition = Log(), TopicPartition("in", 0)
    log.send("in", (None, "1"), (None, "2"))
    with log.transport("app") as transport:
        transport.commit({partition: OffsetAndMetadata(0)})
        transport.delete_records({partition: 1})
    worker = worker_of(each(nothing, offset_reset=AutoOffsetReset.none()), log, tmp_path)
    with (
        pytest.raises(StreamsError, match='offset_reset is "none"'),
        running(worker) as run,
    ):
        run.ended()


# -- errors it survives --------------------------------------------------------------------


class Flaky(MemoryTransport):
    """A transport whose readers and commits fail as often as told."""

    def __init__(self, log: Log, *, polls: int = 0, commits: int = 0) -> None:
        super().__init__(log.engine, "app", now_ms=ManualClock(NOW_MS).now_ms)
        self.polls, self.commits = polls, commits

    def commit(self, offsets: Any) -> None:
        if self.commits and offsets:
            self.commits -= 1
            raise BrokerError("the log is away for a moment", retriable=True)
        super().commit(offsets)

    def reader(self, **options: Any) -> Reader:
        reader, transport = super().reader(**options), self
        poll = reader.poll

        def flaky(most: int, timeout_ms: float) -> Sequence[Batch]:
            if transport.polls:
                transport.polls -= 1
                raise BrokerError("the log is away for a moment", retriable=True)
            return poll(most, timeout_ms)

        reader.poll = flaky  # type: ignore[method-assign] - a fault at the port
        return reader


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
@pytest.mark.parametrize("faults", [{"polls": 3}, {"commits": 2}], ids=str)
def test_a_log_that_is_away_for_a_moment_costs_nothing(
    tmp_path: Path, faults: dict[str, int], guarantee: str
) -> None:
    log = Log()
    log.send("lines", ("k", "a b a"))
    worker = worker_of(
        word_count(),
        log,
        tmp_path,
        transport=Flaky(log, **faults),
        processing_guarantee=guarantee,
    )
    with running(worker) as run:
        run.until(lambda: log.last_counts("word-counts") == {"a": 2, "b": 1})
        log.send("lines", ("k", "a"))
        run.until(lambda: log.last_counts("word-counts") == {"a": 3, "b": 1})


def test_a_log_that_stays_away_ends_it(tmp_path: Path) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", ("a", "1"))

    class Away(Flaky):
        def commit(self, offsets: Any) -> None:
            clock.advance(1_000)
            super().commit(offsets)

    worker = worker_of(
        each(nothing),
        log,
        tmp_path,
        clock=clock,
        transport=Away(log, commits=1_000),
        task_timeout_ms=5_000,
        commit_interval_ms=0,
    )
    with pytest.raises(BrokerError, match="away"), running(worker) as run:
        run.ended()


def test_what_fails_at_each_commit_ends_it_although_rounds_in_between_go_well(
    tmp_path: Path,
) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    log.send("in", ("a", "1"))

    class Refusing(Flaky):
        def partition_counts(self, topics: Any) -> Any:
            clock.advance(100)  # tasks are opened anew, which goes well
            return super().partition_counts(topics)

    worker = worker_of(
        each(nothing),
        log,
        tmp_path,
        clock=clock,
        transport=Refusing(log, commits=1_000),
        task_timeout_ms=5_000,
        commit_interval_ms=50,
        processing_guarantee="exactly_once_v2",
    )
    with pytest.raises(BrokerError, match="away"), running(worker) as run:
        run.ended()


def away(reaction: Reaction) -> BrokerError:
    """Returns the error of a log that cannot be reached."""
    error = BrokerError("no broker answers", retriable=reaction is Reaction.RETRY, is_away=True)
    error.reaction = reaction
    return error


STEPS = ("flush", "commit", "abort", "committed", "high_watermarks", "partition_counts")


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
@pytest.mark.parametrize(
    ("step", "reaction"),
    [(step, reaction) for step in STEPS for reaction in (Reaction.RETRY, Reaction.REJOIN)],
)
def test_brokers_that_are_away_are_waited_for_as_long_as_it_takes(
    tmp_path: Path, step: str, reaction: Reaction, guarantee: str
) -> None:
    log, clock = Log(), ManualClock(NOW_MS)
    faults = 6

    class Away(MemoryTransport):
        """Each call of one kind fails and takes an hour, for some hours."""

        def __getattribute__(self, name: str) -> Any:
            nonlocal faults
            is_met = name == step or (step == "abort" and name == "commit")
            if is_met and faults and log.committed("app", "in") is None:
                faults -= 1
                clock.advance(3_600_000)

                def fail(*_arguments: Any) -> Any:
                    raise away(reaction)

                return fail
            return super().__getattribute__(name)

    log.send("in", ("a", "x"), ("b", "x"), ("a", "x"))
    worker = worker_of(
        counting_with(nothing_of),
        log,
        tmp_path,
        clock=clock,
        transport=Away(log.engine, "app", now_ms=clock.now_ms),
        commit_interval_ms=0,
        processing_guarantee=guarantee,
    )
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in") == 3)
    assert faults == 0
    last = {seen.key: seen.value for seen in log.read("out")}
    assert last == {"a": "2", "b": "1"}


def nothing_of(_record: Any) -> None:
    """Does nothing."""


def test_a_stop_does_not_wait_for_brokers_that_are_away(tmp_path: Path) -> None:
    log = Log()
    hurried: list[bool] = []

    class Away(MemoryTransport):
        def hurry(self) -> None:
            hurried.append(True)

        def commit(self, offsets: Any) -> None:
            raise away(Reaction.RETRY)

    log.send("in", ("a", "1"))
    transport = Away(log.engine, "app", now_ms=ManualClock(NOW_MS).now_ms)
    worker = worker_of(each(nothing), log, tmp_path, transport=transport)
    with running(worker) as run:
        run.until(lambda: worker.progress().processed_records == 1)
        worker.stop()
        assert hurried == [True]
    assert worker.state is WorkerState.DEAD
    assert log.committed("app", "in") is None


class PassingClock(ManualClock):
    """A clock on which time passes while somebody waits, and nobody waits for it."""

    def wait(self, signal: threading.Event, timeout_ms: float) -> bool:
        if not signal.is_set():
            self.sleep_ms(timeout_ms)
        return signal.is_set()


def test_all_waiting_goes_through_the_clock(tmp_path: Path) -> None:
    log, clock = Log(), PassingClock(NOW_MS)
    back_ms, tries = NOW_MS + 600_000, []

    class Away(MemoryTransport):
        """Takes no commits for ten minutes."""

        def commit(self, offsets: Any) -> None:
            tries.append(clock.now_ms())
            if clock.now_ms() < back_ms:
                raise away(Reaction.RETRY)
            super().commit(offsets)
            worker.stop()

    log.send("in", ("a", "1"))
    transport = Away(log.engine, "app", now_ms=clock.now_ms)
    worker = worker_of(
        each(nothing), log, tmp_path, clock=clock, transport=transport, commit_interval_ms=0
    )
    worker.run()  # in this thread, and in no time
    assert log.committed("app", "in") == 1
    assert len(tries) == 6_001 + 1  # every 100 ms, and once when it stops
    assert clock.now_ms() == back_ms


# -- a record that fails for reasons that should pass, and do not ----------------------------


def stuck(
    log: Log, tmp_path: Path, error: Callable[[], StreamsError], **settings: Any
) -> tuple[Worker, list[int]]:
    """Returns a worker whose code always raises at "b", and the times it did."""
    clock, tries = ManualClock(NOW_MS), []

    def fail(_context: Any, record: Record[str, str]) -> None:
        if record.key == "b":
            clock.advance(1_000)
            tries.append(clock.now_ms())
            raise error()

    log.send("in", ("a", "1"), ("b", "2"), ("c", "3"))
    worker = worker_of(
        each(fail), log, tmp_path, clock=clock, task_timeout_ms=5_000, commit_interval_ms=0,
        **settings,
    )  # fmt: skip
    return worker, tries


each_passing = pytest.mark.parametrize(
    "error",
    [
        lambda: BrokerError("it will pass", retriable=True),
        lambda: TaskMigratedError("it will pass"),
    ],
    ids=["retry", "rejoin"],
)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
@each_passing
def test_a_record_that_always_fails_for_passing_reasons_goes_to_its_handler_in_the_end(
    tmp_path: Path, guarantee: str, error: Callable[[], StreamsError]
) -> None:
    log = Log()
    worker, tries = stuck(
        log, tmp_path, error,
        processing_handler="log_and_continue", processing_guarantee=guarantee,
    )  # fmt: skip
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in") == 3)
    assert tries[-1] - tries[0] > 5_000
    assert len(tries) == 7
    assert {seen.value for seen in log.read("out")} == {"1", "3"}


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
@each_passing
def test_several_records_that_always_fail_for_passing_reasons_go_to_their_handler_too(
    tmp_path: Path, guarantee: str, error: Callable[[], StreamsError]
) -> None:
    log, clock, tries = Log(), ManualClock(NOW_MS), []

    def fail(_context: Any, record: Record[str, str]) -> None:
        tries.append(record.key)
        if record.key != "a" and len(tries) < 200:
            clock.advance(1_000)
            raise error()

    # All in one commit, so that each failure goes back to before the first of them.
    log.send("in", ("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("d", "5"), ("a", "6"))
    worker = worker_of(
        each(fail), log, tmp_path, clock=clock, task_timeout_ms=5_000, commit_interval_ms=3_600_000,
        processing_handler="log_and_continue", processing_guarantee=guarantee,
    )  # fmt: skip
    with running(worker) as run:
        run.until(lambda: tries[-2:] == ["d", "a"])
    assert len(tries) < 200, "they are tried without a bound"
    assert log.committed("app", "in") == 6
    assert {seen.value for seen in log.read("out")} == {"1", "3", "6"}


@each_passing
def test_a_record_that_always_fails_for_passing_reasons_ends_it_by_default(
    tmp_path: Path, error: Callable[[], StreamsError]
) -> None:
    worker, tries = stuck(Log(), tmp_path, error)
    with pytest.raises(ProcessingError, match=r"it will pass.*offset 1"), running(worker) as run:
        run.ended()
    assert len(tries) == 7


def test_a_punctuation_that_always_fails_for_passing_reasons_ends_it(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)

    class Punctuating(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            super().init(context)

            def fail(_now_ms: int) -> None:
                raise BrokerError("it will pass", retriable=True)

            context.schedule(100, PunctuationType.WALL_CLOCK_TIME, fail)

        def process(self, record: Record[str, str]) -> None: ...

    class Passing(MemoryTransport):
        def partition_counts(self, topics: Any) -> Any:
            clock.advance(1_000)
            return super().partition_counts(topics)

    builder, log = StreamsBuilder(), Log()
    builder.stream("in").process(Punctuating, name="each")
    log.create("in")
    worker = worker_of(
        builder,
        log,
        tmp_path,
        clock=clock,
        transport=Passing(log.engine, "app", now_ms=clock.now_ms),
        task_timeout_ms=5_000,
        processing_guarantee="exactly_once_v2",
    )
    with running(worker) as run:
        run.until(lambda: worker.progress().running_tasks == 1)
        while run.thread.is_alive():
            clock.advance(100)
            run.thread.join(0.002)
        with pytest.raises(ProcessingError, match="it will pass"):
            run.ended()
        run.error = None


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
def test_a_record_at_which_the_log_failed_is_processed_again(
    tmp_path: Path, guarantee: str
) -> None:
    log, failures = Log(), [BrokerError("away", retriable=True)]

    def fail_once(_context: Any, record: Record[str, str]) -> None:
        if record.key == "b" and failures:
            raise failures.pop()

    log.send("in", ("a", "1"), ("b", "2"), ("c", "3"))
    worker = worker_of(each(fail_once), log, tmp_path, processing_guarantee=guarantee)
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in") == 3)
    assert not failures
    assert [seen.value for seen in log.read("out")] == ["1", "2", "3"]


def counting_with(work: Callable[[Record[str, str]], None]) -> StreamsBuilder:
    """Counts by key in a store of its own, after calling a function."""

    class Counting(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            super().init(context)
            self.rows: Any = context.get_state_store("rows")

        def process(self, record: Record[str, str]) -> None:
            count = (self.rows.get(record.key) or 0) + 1
            self.rows.put(record.key, count)
            work(record)
            self.context.forward(record.with_value(str(count)))

    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("rows", string, serdes.int64))
    builder.stream("in").process(Counting, "rows").to("out")
    return builder


def test_stores_that_cannot_be_trusted_are_rebuilt_once(tmp_path: Path) -> None:
    log, damages = Log(), [CorruptDataError("a row is damaged")]

    def damage(record: Record[str, str]) -> None:
        if record.value == "damage" and damages:
            raise damages.pop()

    log.send("in", ("a", "x"), ("b", "x"), ("a", "x"))
    worker = worker_of(counting_with(damage), log, tmp_path)
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in") == 3)
        log.send("in", ("a", "damage"), ("b", "x"))
        run.until(lambda: log.committed("app", "in") == 5)
        assert worker.progress().restored_records == 3
        assert rows_of(worker.stores("rows")[0]) == {"a": 3, "b": 2}
        assert worker.state is WorkerState.RUNNING
        damages.append(CorruptDataError("another row is damaged"))
        log.send("in", ("a", "damage"))
        with pytest.raises(CorruptDataError, match="another row"):
            run.ended()
        run.error = None
    assert [(seen.key, seen.value) for seen in log.read("out")] == [
        ("a", "1"),
        ("b", "1"),
        ("a", "2"),
        ("a", "3"),
        ("b", "2"),
    ]


# -- questions -----------------------------------------------------------------------------


def test_stores_answer_once_their_tasks_run(tmp_path: Path) -> None:
    log, gate = Log(), Gate()
    log.send("in", ("a", "x"))
    with running(worker_of(counting_with(lambda _record: None), log, tmp_path / "one")) as run:
        run.until(lambda: run.worker.progress().is_idle)

    class Slow(Flaky):
        def begin_offsets(self, partitions: Any) -> Any:
            if any(partition.topic.endswith("changelog") for partition in partitions):
                gate.wait()
            return super().begin_offsets(partitions)

    worker = worker_of(
        counting_with(lambda _record: None), log, tmp_path / "two", transport=Slow(log)
    )
    with pytest.raises(StoreNotReadyError, match="'rows' is not ready"):
        worker.stores("rows")
    with running(worker) as run:
        gate.reached()
        with pytest.raises(StoreNotReadyError):
            worker.stores("rows")
        gate.open()
        run.until(lambda: worker.state is WorkerState.RUNNING)
        assert rows_of(worker.stores("rows")[0]) == {"a": 1}
        assert len(worker.stores("rows", 0)) == 1
        assert [task.id for task in worker.tasks] == [TaskId(0, 0)]
