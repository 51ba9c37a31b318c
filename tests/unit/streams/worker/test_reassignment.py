"""A worker whose group gives it tasks, takes them back, or tells it that they are lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import SOON, Log, rows_of, string
from tests.unit.streams.working import NOW_MS, each, running, worker_of
from thalweg import (
    BrokerError,
    Processor,
    Record,
    StreamsBuilder,
    TaskMigratedError,
    key_value_store,
    serdes,
)
from thalweg.stores.directory import read_checkpoint
from thalweg.stores.errors import CorruptDataError, StoreMovedError
from thalweg.streams.clock import ManualClock
from thalweg.streams.errors import GroupError
from thalweg.streams.group.member import Assignment, GroupChange, GroupMember
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.worker.assignment import WorkerState
from thalweg.streams.worker.loop import Worker

CHANGELOG = "app-rows-changelog"
ZERO, ONE = TaskId(0, 0), TaskId(0, 1)


class Counting(Processor[str, str, str, str]):
    """Counts by key in a store of its own."""

    def init(self, context: Any) -> None:
        super().init(context)
        self.rows: Any = context.get_state_store("rows")

    def process(self, record: Record[str, str]) -> None:
        count = (self.rows.get(record.key) or 0) + 1
        self.rows.put(record.key, count)
        self.context.forward(record.with_value(str(count)))


def counting() -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("rows", string, serdes.int64))
    builder.stream("in").process(Counting, "rows").to("out")
    return builder


class ToldMember(GroupMember):
    """A member of a group that a test plays."""

    def __init__(self) -> None:
        self.changes: deque[GroupChange] = deque()
        self.acknowledged: list[Assignment] = []
        self.has_left = False
        self.polls = 0
        self.has_asked_all_to_stop = False
        self.is_heard = True
        self.at_acknowledge: Callable[[], None] = lambda: None

    def tell(
        self,
        active: Collection[TaskId] = (),
        standby: Collection[TaskId] = (),
        *,
        is_lost: bool = False,
    ) -> None:
        assignment = Assignment(frozenset(active), frozenset(standby))
        self.changes.append(GroupChange(assignment, is_lost=is_lost))

    def start(self) -> None: ...

    def poll(self, now_ms: int) -> GroupChange | None:
        self.polls += 1
        return self.changes.popleft() if self.changes else None

    def acknowledge(self, assignment: Assignment) -> None:
        self.at_acknowledge()
        self.acknowledged.append(assignment)

    @property
    def is_in_touch(self) -> bool:
        return self.is_heard

    def request_shutdown(self) -> None:
        assert not self.has_left
        self.has_asked_all_to_stop = True

    def leave(self) -> None:
        self.has_left = True


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Returns a log with two partitions of input, all internal topics and first positions."""
    log = Log(default_partitions=2)
    with running(worker_of(counting(), log, tmp_path / "made")) as run:
        run.until(lambda: run.worker.state is WorkerState.RUNNING)
    for partition in (0, 1):
        log.send("in", *((f"p{partition}", "x"),) * 3, partition=partition)
    return log


def told(log: Log, state_dir: Path, **options: Any) -> tuple[Worker, ToldMember]:
    member = ToldMember()
    return worker_of(counting(), log, state_dir, member=member, **options), member


def committed(log: Log) -> list[int | None]:
    return [log.committed("app", "in", partition) for partition in (0, 1)]


def rows(worker: Worker, partition: int) -> dict[str, int]:
    (face,) = worker.stores("rows", partition)
    return rows_of(face)


def test_it_waits_until_it_is_given_tasks(tmp_path: Path, log: Log) -> None:
    worker, member = told(log, tmp_path)
    with running(worker) as run:
        run.until(lambda: worker.progress().commits > 2)
        assert worker.progress().running_tasks == 0
        assert worker.state is WorkerState.STARTING
        member.tell([ZERO])
        run.until(lambda: committed(log) == [3, 0])
        assert worker.state is WorkerState.RUNNING
    assert member.has_left
    assert [one.active for one in member.acknowledged] == [{ZERO}]


def test_a_task_that_is_taken_back_is_committed_and_closed_first(tmp_path: Path, log: Log) -> None:
    states: list[str] = []
    worker, member = told(
        log,
        tmp_path,
        clock=ManualClock(NOW_MS),
        commit_interval_ms=1_000,
        on_state=lambda new, _old: states.append(new.name),
    )
    seen: list[Any] = []
    member.at_acknowledge = lambda: seen.append(
        (worker.progress().running_tasks, committed(log), len(log.read("out")))
    )
    with running(worker) as run:
        member.tell([ZERO, ONE])
        run.until(lambda: worker.progress().processed_records == 6)
        member.tell([ONE])
        run.until(lambda: len(member.acknowledged) == 2)
        assert seen[1] == (1, [3, 3], 6)
        assert rows(worker, 1) == {"p1": 3}
        with pytest.raises(StoreMovedError):
            worker.stores("rows", 0)
        assert read_checkpoint(tmp_path / "app" / "0_0" / ".checkpoint") == {(CHANGELOG, 0): 2}
        log.send("in", ("p0", "x"), partition=0)
        log.send("in", ("p1", "x"), partition=1)
        run.until(lambda: worker.progress().processed_records == 7)
    assert states[:5] == [
        "STARTING",
        "PARTITIONS_ASSIGNED",
        "RUNNING",
        "PARTITIONS_REVOKED",
        "PARTITIONS_ASSIGNED",
    ]
    assert committed(log) == [3, 4]


def test_tasks_move_from_one_worker_to_another(tmp_path: Path, log: Log) -> None:
    one, first = told(log, tmp_path / "one")
    two, second = told(log, tmp_path / "two")
    with running(one) as run, running(two):
        first.tell([ZERO, ONE])
        run.until(lambda: committed(log) == [3, 3])
        first.tell([ZERO])
        run.until(lambda: len(first.acknowledged) == 2)
        second.tell([ONE])
        log.send("in", ("p0", "x"), partition=0)
        log.send("in", ("p1", "x"), partition=1)
        run.until(lambda: committed(log) == [4, 4])
        assert two.progress().restored_records == 3
        assert rows(two, 1) == {"p1": 4}
        second.tell([])
        run.until(lambda: len(second.acknowledged) == 2)
        first.tell([ZERO, ONE])
        log.send("in", ("p1", "x"), partition=1)
        run.until(lambda: committed(log) == [4, 5])
        # What it left behind is brought up to date, not restored anew.
        assert one.progress().restored_records == 1
        assert rows(one, 1) == {"p1": 5}
    assert sorted(seen.value for seen in log.read("out") if seen.key == "p1") == list("12345")


def test_tasks_that_are_lost_are_given_up_without_a_commit(tmp_path: Path, log: Log) -> None:
    worker, member = told(log, tmp_path, clock=ManualClock(NOW_MS), commit_interval_ms=1_000)
    with running(worker) as run:
        member.tell([ZERO, ONE])
        run.until(lambda: worker.progress().processed_records == 6)
        member.tell([ONE], is_lost=True)
        run.until(lambda: worker.progress().processed_records == 9)
        assert committed(log) == [0, 0]
        assert log.read("out") == []
        assert rows(worker, 1) == {"p1": 3}
    assert committed(log) == [0, 3]
    assert [seen.key for seen in log.read("out")] == ["p1"] * 3


def test_a_member_out_of_touch_writes_nothing_until_it_is_heard_again(
    tmp_path: Path, log: Log
) -> None:
    worker, member = told(log, tmp_path)
    with running(worker) as run:
        member.tell([ZERO, ONE])
        run.until(lambda: committed(log) == [3, 3])
        member.is_heard = False
        polled = member.polls
        log.send("in", ("p0", "x"), partition=0)
        run.until(lambda: member.polls > polled + 20)
        assert committed(log) == [3, 3]
        # It hears that its tasks are another's: what came is left to them.
        member.tell([ONE], is_lost=True)
        member.is_heard = True
        run.until(lambda: worker.progress().running_tasks == 1)
    assert committed(log) == [3, 3]
    assert len(log.read("out")) == 6


def test_a_worker_out_of_touch_stops_without_a_commit(tmp_path: Path, log: Log) -> None:
    clock = ManualClock(NOW_MS)
    worker, member = told(log, tmp_path, clock=clock, commit_interval_ms=1_000)
    with running(worker) as run:
        member.tell([ZERO, ONE])
        run.until(lambda: worker.progress().processed_records == 6)
        member.is_heard = False
    assert member.has_left
    assert committed(log) == [0, 0]


def test_an_assignment_that_cannot_be_opened_is_tried_again_before_it_is_acknowledged(
    tmp_path: Path, log: Log
) -> None:
    class Away(MemoryTransport):
        faults = 2

        def high_watermarks(self, partitions: Any) -> Any:
            if self.faults:
                self.faults -= 1
                assert member.acknowledged == []
                raise BrokerError("the log is away", retriable=True)
            return super().high_watermarks(partitions)

    member = ToldMember()
    worker = worker_of(
        counting(),
        log,
        tmp_path,
        member=member,
        transport=Away(log.engine, "app", now_ms=ManualClock(NOW_MS).now_ms),
    )
    member.tell([ZERO])
    with running(worker) as run:
        run.until(lambda: committed(log) == [3, 0])
    assert len(member.acknowledged) == 1


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
def test_a_task_is_given_back_although_its_last_commit_fails_at_first(
    tmp_path: Path, log: Log, guarantee: str
) -> None:
    class Away(MemoryTransport):
        faults = 0

        def commit(self, offsets: Any) -> None:
            if self.faults:
                self.faults -= 1
                raise BrokerError("the coordinator is loading", retriable=True)
            super().commit(offsets)

    member = ToldMember()
    clock = ManualClock(NOW_MS)
    transport = Away(log.engine, "app", now_ms=clock.now_ms)
    worker = worker_of(
        counting(),
        log,
        tmp_path,
        member=member,
        transport=transport,
        clock=clock,
        commit_interval_ms=1_000,
        processing_guarantee=guarantee,
    )
    with running(worker) as run:
        member.tell([ZERO, ONE])
        run.until(lambda: worker.progress().processed_records == 6)
        transport.faults = 1
        member.tell([ONE])
        run.until(lambda: [one.active for one in member.acknowledged] == [{ZERO, ONE}, {ONE}])
        run.until(lambda: worker.state is WorkerState.RUNNING)
        assert worker.progress().running_tasks == 1
        # Exactly-once takes back what could not be committed: whoever gets the task does it.
        assert committed(log)[0] == (3 if guarantee == "at_least_once" else 0)
    assert committed(log)[1] == 3


def test_tasks_whose_closing_fails_at_first_are_counted_once(tmp_path: Path, log: Log) -> None:
    class Away(MemoryTransport):
        faults = 0

        def reader(self) -> Any:
            reader = super().reader()
            remove = reader.remove

            def removing(partitions: Any) -> None:
                if self.faults:
                    self.faults -= 1
                    raise BrokerError("the log is away", retriable=True)
                remove(partitions)

            reader.remove = removing  # type: ignore[method-assign]
            return reader

    member = ToldMember()
    transport = Away(log.engine, "app", now_ms=ManualClock(NOW_MS).now_ms)
    worker = worker_of(counting(), log, tmp_path, member=member, transport=transport)
    with running(worker) as run:
        member.tell([ZERO, ONE])
        run.until(lambda: committed(log) == [3, 3])
        transport.faults = 1
        member.tell([])
        run.until(lambda: len(member.acknowledged) == 2)
        assert not transport.faults
        assert worker.progress().processed_records == 6
        member.tell([ZERO, ONE])  # both were closed: their stores can be opened again
        log.send("in", ("p0", "x"), partition=0)
        run.until(lambda: committed(log) == [4, 3])
        assert worker.progress().processed_records == 7
    assert worker.progress().processed_records == 7


def test_a_worker_that_was_fenced_goes_back_and_takes_its_tasks_up_again(
    tmp_path: Path, log: Log
) -> None:
    class Fenced(MemoryTransport):
        faults = 1

        def commit(self, offsets: Any) -> None:
            if self.faults and offsets:
                self.faults -= 1
                raise TaskMigratedError("another member owns the partitions")
            super().commit(offsets)

    member = ToldMember()
    transport = Fenced(log.engine, "app", now_ms=ManualClock(NOW_MS).now_ms)
    worker = worker_of(counting(), log, tmp_path, member=member, transport=transport)
    member.tell([ZERO, ONE])
    with running(worker) as run:
        run.until(lambda: committed(log) == [3, 3])
        assert rows(worker, 0) == {"p0": 3}
    assert sorted(seen.value for seen in log.read("out")) == ["1", "1", "2", "2", "3", "3"]


# -- the end -------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_all", [True, False])
def test_what_a_worker_dies_of_may_end_all_of_them(
    tmp_path: Path, log: Log, ends_all: bool
) -> None:
    heard: list[BaseException] = []
    worker, member = told(log, tmp_path, on_failure=lambda error: heard.append(error) or ends_all)
    error = GroupError("it is over")
    member.at_acknowledge = lambda: raised(error)
    member.tell([ZERO])
    with pytest.raises(GroupError), running(worker) as run:
        run.ended()
    assert heard == [error]
    assert (member.has_asked_all_to_stop, member.has_left) == (ends_all, True)


def raised(error: Exception) -> None:
    raise error


def test_a_worker_that_is_to_stop_does_not_wait_for_the_group(tmp_path: Path, log: Log) -> None:
    class Waiting(ToldMember):
        def __init__(self) -> None:
            super().__init__()
            self.is_waiting, self.is_interrupted = threading.Event(), threading.Event()

        def start(self) -> None:
            self.is_waiting.set()
            assert self.is_interrupted.wait(SOON.total_seconds())

        def interrupt(self) -> None:
            self.is_interrupted.set()

    member = Waiting()
    with running(worker_of(counting(), log, tmp_path, member=member)):
        assert member.is_waiting.wait(SOON.total_seconds())
    assert member.has_left


# -- standby tasks -------------------------------------------------------------------------


def test_a_standby_follows_and_takes_over_where_it_stands(tmp_path: Path, log: Log) -> None:
    one, first = told(log, tmp_path / "one")
    two, second = told(log, tmp_path / "two")
    with running(one) as run, running(two) as other:
        first.tell([ZERO, ONE])
        second.tell([], [ONE])
        run.until(lambda: committed(log) == [3, 3])
        other.until(lambda: two.standby_tasks == ["0_1"])
        follower = two.manager.follower
        other.until(lambda: [r.position for r in follower.of_task("0_1")] == [3])
        assert two.progress().processed_records == 0
        first.tell([ZERO])
        run.until(lambda: len(first.acknowledged) == 2)
        second.tell([ONE])
        log.send("in", ("p1", "x"), partition=1)
        other.until(lambda: committed(log) == [3, 4])
        assert two.progress().restored_records == 0
        assert rows(two, 1) == {"p1": 4}
        assert two.standby_tasks == []


def test_a_standby_store_that_cannot_be_trusted_is_rebuilt(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, first = told(log, tmp_path / "one")
    with running(one) as run:
        first.tell([ZERO, ONE])
        run.until(lambda: committed(log) == [3, 3])
    two, second = told(log, tmp_path / "two")
    damages = [CorruptDataError("a row is damaged")]
    second.tell([ZERO], [ONE])
    with running(two) as run:
        run.until(lambda: two.manager.standby.keys() == {ONE})
        store: Any = two.manager.standby[ONE].stores["rows"]
        restore = store.restore

        def damaged(batch: Any) -> None:
            if damages and batch:
                raise damages.pop()
            restore(batch)

        monkeypatch.setattr(store, "restore", damaged)
        with log.transport() as transport:
            send = transport.sender(CHANGELOG)
            send(b"p1", (9).to_bytes(8), 0, None, 1)
            transport.commit({})
        run.until(lambda: not damages)
        follower = two.manager.follower
        run.until(lambda: [r.position for r in follower.of_task("0_1")] == [4])
        run.until(lambda: two.state is WorkerState.RUNNING)
        second.tell([ZERO, ONE])
        run.until(lambda: two.progress().running_tasks == 2)
        assert rows(two, 0) == {"p0": 3}
        assert rows(two, 1) == {"p1": 9}


class SlowlyOpened(MemoryTransport):
    """A log on which it takes a second to open a task, by the worker's own clock."""

    def __init__(self, log: Log, clock: ManualClock) -> None:
        super().__init__(log.engine, "app", now_ms=clock.now_ms)
        self.clock = clock

    def begin_offsets(self, partitions: Any) -> Any:
        self.clock.advance(1_000)
        return super().begin_offsets(partitions)


def test_running_tasks_do_not_wait_until_all_standby_tasks_are_open(tmp_path: Path) -> None:
    log = Log(default_partitions=8)
    seen: list[int] = []

    def note(_context: Any, _record: Any) -> None:
        seen.append(len(worker.manager.standby))
        log.send("in", ("p0", "x"), partition=0)

    builder = each(note)
    builder.stream("counted").group_by_key().count(name="rows")
    log.create("in", 1)
    log.create("counted", 8)
    log.create(CHANGELOG, 8)
    log.send("in", ("p0", "x"), partition=0)
    clock = ManualClock(NOW_MS)
    member = ToldMember()
    standby = {TaskId(1, number) for number in range(8)}
    member.tell([ZERO], standby)
    transport = SlowlyOpened(log, clock)
    worker = worker_of(builder, log, tmp_path, member=member, transport=transport, clock=clock)
    with running(worker) as run:
        run.until(lambda: worker.manager.standby.keys() == standby)
    assert seen[0] < 8
    assert len(set(seen)) > 4, "records were processed between one standby task and the next"


def test_a_store_that_says_it_is_damaged_is_rebuilt_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log()
    log.send("in", ("a", "1"))
    damages = [CorruptDataError("a block is damaged")]
    damages[0].store = "logged"

    class Keep(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            for name in ("logged", "unlogged"):
                self.context.get_state_store(name).put(record.key, record.value)
            if record.key == "b" and damages:
                raise damages.pop()

    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("logged", string, string))
    builder.add_state_store(key_value_store("unlogged", string, string).without_logging())
    builder.stream("in").process(Keep, "logged", "unlogged")
    worker = worker_of(builder, log, tmp_path)
    with running(worker) as run:
        run.until(lambda: log.committed("app", "in") == 1)
        log.send("in", ("b", "2"))
        run.until(lambda: log.committed("app", "in") == 2)
        for name in ("logged", "unlogged"):
            (face,) = worker.stores(name)
            assert rows_of(face) == {"a": "1", "b": "2"}
        assert worker.progress().restored_records == 1
    assert "cannot be trusted" in caplog.text
