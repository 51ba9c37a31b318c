"""The thread of a worker: what it is given beside the worker itself."""

from __future__ import annotations

import resource
import sys
from typing import Any

import pytest

from thalweg.streams.worker_thread import run_worker

ROUNDS = 2_000


class DeepWorker:
    """Calls itself as deep as a long chain of operators does, record for record."""

    def __init__(self) -> None:
        self.page_faults = 0

    def run(self) -> None:
        def descend(depth: int) -> int:
            return depth and descend(depth - 1)

        def faults() -> int:
            return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

        descend(500)  # touches the memory once
        before = faults()
        for depth in range(ROUNDS):
            descend(100 + depth % 400)
        self.page_faults = faults() - before


class NoLog:
    def close(self) -> None:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of a thread")
def test_records_may_go_deep_without_new_memory_for_each() -> None:
    worker: Any = DeepWorker()
    log: Any = NoLog()

    assert run_worker(worker, log) is None

    assert worker.page_faults < ROUNDS / 10
