"""Workers come and go, brokers too: every partition is picked up again and nothing is skipped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker.broker import Broker
from tests.broker.workers import WordCount

LOST_S = 60.0
"""A member whose session has run out is gone, the others have restored what was its."""

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


def test_workers_that_come_and_leave_in_order_count_exactly(application: Application) -> None:
    words = application(statestore_cache_max_bytes=0)
    words.start("one")
    words.feed()
    words.wait_shared()

    words.start("two", "three")
    words.feed()
    words.wait_shared()
    words.feed()
    assert words.workers["two"].stop() == 0
    words.wait_shared()
    words.feed()
    assert words.workers["one"].stop() == 0
    words.wait_shared()
    words.start("two")
    words.feed()
    words.wait_shared()
    words.wait_counted()

    words.stop()
    words.assert_exact(is_each_written=True)
    words.assert_calm()


def kill_worker(words: WordCount, broker: Broker) -> None:
    words.workers["two"].kill()
    words.feed()
    words.wait_shared(LOST_S)


def suspend_worker(words: WordCount, broker: Broker) -> None:
    """Its session runs out while it is halted; when it wakes, others have its tasks."""
    two = words.workers["two"]
    two.signal(signal.SIGSTOP)
    words.feed()
    others = [worker for worker in words.alive if worker is not two]
    words.wait(
        lambda: sum(len(worker.partitions()) for worker in others) == 2 * words.partitions,
        LOST_S,
        "taking over from the suspended worker",
    )
    two.signal(signal.SIGCONT)
    words.feed()
    words.wait_shared(LOST_S)


def restart_broker(words: WordCount, broker: Broker) -> None:
    broker.restart()
    words.feed()
    words.wait_shared(LOST_S)


def kill_broker(words: WordCount, broker: Broker) -> None:
    broker.kill()
    broker.start()
    words.feed()
    words.wait_shared(LOST_S)


FAULTS = [kill_worker, suspend_worker, restart_broker, kill_broker]


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_skipped_whatever_fails(
    application: Application, broker: Broker, fault: Callable[[WordCount, Broker], None]
) -> None:
    words = application()
    words.start("one", "two", "three")
    words.feed()
    words.wait_shared()
    words.feed()

    fault(words, broker)

    words.feed()
    words.wait_counted()
    words.stop()
    words.assert_calm()


@pytest.mark.parametrize("fault", FAULTS)
def test_exactly_once_is_exact_whatever_fails(
    application: Application, broker: Broker, fault: Callable[[WordCount, Broker], None]
) -> None:
    words = application(processing_guarantee="exactly_once_v2", statestore_cache_max_bytes=0)
    words.start("one", "two", "three")
    words.feed()
    words.wait_shared()
    words.feed()

    fault(words, broker)

    words.feed()
    words.wait_counted()
    words.stop()
    words.assert_exact(is_each_written=True)
    words.assert_calm()


def test_a_worker_killed_in_the_middle_of_its_work_is_made_good(application: Application) -> None:
    """Killed twice while it drains what waits for it, alone; its successor goes on from there."""
    words = application(processing_guarantee="exactly_once_v2", statestore_cache_max_bytes=0)
    words.feed(lines=12_000)
    for name in ("one", "two"):
        (worker,) = words.start(name)
        already = sum(map(len, words.outputs().values()))
        words.wait(
            lambda: sum(map(len, words.outputs().values())) > already,  # noqa: B023
            LOST_S,
            "output",
        )
        worker.kill()
    assert sum(map(len, words.outputs().values())) < words.truth.total(), "it was too late to kill"

    words.start("one")
    words.wait_shared(LOST_S)
    words.wait_counted(LOST_S)

    assert words.workers["one"].stop() == 0
    words.assert_exact(is_each_written=True)
    words.assert_calm()
