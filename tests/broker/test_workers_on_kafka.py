"""Workers come and go, brokers too: every partition is picked up again and nothing is skipped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker.broker import Broker
from tests.broker.groups import described
from tests.broker.workers import WordCount, Worker
from tests.waiting import HANG_S

LONG_SESSION_MS = 60_000
"""The longest the broker allows; longer than anything here waits."""

SLOW_WORD_COUNT = Path(__file__).with_name("outage_word_count.py")
"""Takes 2 ms for a line."""

Application = Callable[..., WordCount]


@pytest.fixture
def application(broker: Broker, tmp_path: Path) -> Iterator[Application]:
    made: list[WordCount] = []

    def make(**settings: Any) -> WordCount:
        made.append(WordCount(broker.bootstrap_servers, tmp_path, **settings))
        return made[-1]

    yield make
    for application in made:
        application.close()


def in_group(words: WordCount, broker: Broker) -> set[str]:
    """Returns the names of the workers that are members, by their coordinator."""
    group = described(broker.bootstrap_servers, words.application_id)
    assert group is not None
    ports = {member.endpoint.port for member in group.members if member.endpoint is not None}
    assert len(ports) == len(group.members)
    return {worker.name for worker in words.workers.values() if worker.port in ports}


def test_workers_that_come_and_leave_in_order_count_exactly(
    application: Application, broker: Broker
) -> None:
    """Who is stopped says good-bye: no session ends within what is waited here."""
    words = application(statestore_cache_max_bytes=0)
    words.configure_group(session_timeout_ms=LONG_SESSION_MS, initial_rebalance_delay_ms=0)
    words.start("one")
    words.feed()
    words.wait_shared()

    words.start("two", "three")
    words.feed()
    words.wait_shared()
    words.feed()
    assert words.workers["two"].stop() == 0
    assert in_group(words, broker) == {"one", "three"}
    words.wait_shared()
    words.feed()
    assert words.workers["one"].stop() == 0
    assert in_group(words, broker) == {"three"}
    words.wait_shared()
    words.start("two")
    words.feed()
    words.wait_shared()
    words.wait_processed()

    words.stop()
    assert words.workers["three"].restored > 0, "it had all tasks, which others had filled"
    assert not in_group(words, broker)
    words.assert_exact(is_each_written=True)
    words.assert_calm()


def stateful(worker: Worker) -> set[str]:
    """Returns the tasks with a store that a worker runs."""
    return {task for task in worker.tasks("running") if task.startswith("1_")}


def has_restored(workers: Iterable[Worker], tasks: set[str]) -> bool:
    """Whether these workers run all of these tasks, each with records of its changelog."""
    running = [task for worker in workers for task in worker.tasks("running").values()]
    return tasks <= {task.task_id for task in running if task.restored}


def kill_worker(words: WordCount, broker: Broker) -> None:
    """What it did last may be done once more."""
    victim = max(words.alive, key=lambda worker: len(stateful(worker)))
    lost = stateful(victim)
    victim.kill()
    words.feed()
    words.wait_shared()
    assert has_restored(words.alive, lost)


def suspend_worker(words: WordCount, broker: Broker) -> None:
    """Its session runs out while it is halted; when it wakes, others have its tasks."""
    victim = max(words.alive, key=lambda worker: len(stateful(worker)))
    lost = stateful(victim)
    victim.signal(signal.SIGSTOP)
    words.feed()
    others = [worker for worker in words.alive if worker is not victim]
    words.wait(
        lambda: (
            has_restored(others, lost)
            and sum(len(worker.partitions()) for worker in others) == 2 * words.partitions
        ),
        HANG_S,
        "taking over from the suspended worker",
    )
    victim.signal(signal.SIGCONT)
    words.feed()
    words.wait_shared()


def restart_broker(words: WordCount, broker: Broker) -> None:
    """Nobody is missed meanwhile, however slowly the broker and the workers come back."""
    words.configure_group(session_timeout_ms=LONG_SESSION_MS)
    broker.restart()
    words.feed()
    words.wait_processed()


def kill_broker(words: WordCount, broker: Broker) -> None:
    broker.kill()
    broker.start()
    words.feed()
    words.wait_processed()


FAULTS = [kill_worker, suspend_worker, restart_broker, kill_broker]

EXACT_ANYHOW = [restart_broker]
"""No worker loses what it did, so nothing is done twice, by at-least-once either."""


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_skipped_whatever_fails(
    application: Application, broker: Broker, fault: Callable[[WordCount, Broker], None]
) -> None:
    words = application()
    words.start("one", "two", "three")
    words.feed()
    words.wait_shared()
    # Once more: what a worker had of a task before it was shared is not all there is to restore.
    words.feed()
    words.wait_processed()
    words.feed()

    fault(words, broker)

    words.feed()
    words.wait_processed()
    words.stop()
    if fault in EXACT_ANYHOW:
        words.assert_exact(is_each_written=False)
    words.assert_calm()


@pytest.mark.parametrize("fault", FAULTS)
def test_exactly_once_is_exact_whatever_fails(
    application: Application, broker: Broker, fault: Callable[[WordCount, Broker], None]
) -> None:
    words = application(processing_guarantee="exactly_once_v2", statestore_cache_max_bytes=0)
    words.start("one", "two", "three")
    words.feed()
    words.wait_shared()
    # Once more: what a worker had of a task before it was shared is not all there is to restore.
    words.feed()
    words.wait_processed()
    words.feed()

    fault(words, broker)

    words.feed()
    words.wait_processed()
    words.stop()
    words.assert_exact(is_each_written=True)
    words.assert_calm()


def halt_amid_work(words: WordCount, worker: Worker) -> None:
    """Halts a worker that has committed something of its own, and has not done everything."""
    words.wait_shared()  # by then the transactions of others before it are over
    others = len(words.topics.read(words.changelog))
    while True:
        words.feed(lines=4_000)
        words.wait(
            lambda: len(words.topics.read(words.changelog)) > others, HANG_S, "a commit of its own"
        )
        worker.signal(signal.SIGSTOP)
        if len(words.topics.read(words.counts)) < words.truth.total():
            return
        worker.signal(signal.SIGCONT)  # it was too quick for us


def test_a_worker_killed_in_the_middle_of_its_work_is_made_good(
    application: Application, tmp_path: Path
) -> None:
    """Killed twice while it drains what waits for it, alone; its successor goes on from there.

    The first comes back to the state it had. What the second has committed meanwhile is missing
    there, and is all that must be restored.
    """
    (tmp_path / "open").touch()
    words = application(
        script=SLOW_WORD_COUNT,
        environment={"PHASE": "processing", "GATE": str(tmp_path)},
        processing_guarantee="exactly_once_v2",
        statestore_cache_max_bytes=0,
    )
    for name in ("one", "two"):
        (worker,) = words.start(name)
        halt_amid_work(words, worker)
        worker.kill()

    words.start("one")
    words.wait_shared()
    words.wait_counted()

    assert words.workers["one"].stop() == 0
    assert words.workers["one"].restored > 0
    words.assert_exact(is_each_written=True)
    words.assert_calm()
