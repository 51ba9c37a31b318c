"""Which partitions answer a query of state: by what their tasks do, and how far they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thalweg import (
    FailureReason,
    KeyQuery,
    Position,
    RangeQuery,
    TopicPartition,
    ValueAndTimestamp,
)
from thalweg.stores.builders import StoreBuilder, key_value_store, timestamped_key_value_store
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.streams.queries.state_query_service import StateQueryService
from thalweg.streams.tasks.queried import QueriedStore, Readiness

BUILDER = key_value_store("rows", serdes.string, serdes.int64, in_memory=True)


class Here:
    """Stores of one name, each in a task that does something else."""

    def __init__(self, builder: StoreBuilder, directory: Path, *readiness: Readiness) -> None:
        self.builder = builder
        self.hosts = [RecordingHost(directory / str(n)) for n in range(len(readiness))]
        for host in self.hosts:
            host.record_cache = RecordCache(1_000_000)
        self.stores: list[Any] = [builder.build(host) for host in self.hosts]
        self.positions = [{TopicPartition("in", n): 10 + n} for n in range(len(readiness))]
        self.readiness = readiness

    def ask(self, query: Any, **options: Any) -> Any:
        def stores(_name: str) -> list[QueriedStore]:
            return [
                QueriedStore(n, self.readiness[n], store, self.positions[n], {})
                for n, store in enumerate(self.stores)
            ]

        service = StateQueryService(stores, lambda _name: 4)
        return service.answer(self.builder, query, **options)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    made = Here(BUILDER, tmp_path, Readiness.RUNNING, Readiness.RESTORING, Readiness.STANDBY)
    for number, store in enumerate(made.stores):
        store.put("a", number)
    return made


def test_tasks_of_every_state_answer(here: Here) -> None:
    answer = here.ask(KeyQuery("a"))

    assert {n: one.value for n, one in answer.partitions.items()} == {0: 0, 1: 1, 2: 2}
    with pytest.raises(ValueError, match=r"several partitions have an answer \(0, 1, 2\)"):
        _ = answer.only
    assert answer.position == {("in", 0): 9, ("in", 1): 10, ("in", 2): 11}


def test_only_running_tasks_answer_where_that_is_required(here: Here) -> None:
    answer = here.ask(KeyQuery("a"), require_active=True)

    assert answer.only.value == 0
    assert [answer.partitions[n].failure for n in (1, 2)] == [FailureReason.NOT_ACTIVE] * 2
    assert "this one is standby" in answer.partitions[2].message


def test_partitions_that_are_not_here_are_told(here: Here) -> None:
    answer = here.ask(KeyQuery("a"), partitions=[0, 3, 4])

    assert [answer.partitions[n].failure for n in (0, 3, 4)] == [
        None,
        FailureReason.NOT_PRESENT,
        FailureReason.DOES_NOT_EXIST,
    ]


def test_a_bound_says_nothing_of_other_partitions(here: Here) -> None:
    bound = Position({("in", 0): 9, ("in", 1): 11, ("other", 2): 0, ("in", 7): 99})

    answer = here.ask(KeyQuery("a"), position_bound=bound)

    late = FailureReason.NOT_UP_TO_BOUND
    assert [one.failure for one in answer.partitions.values()] == [None, late, late]


def test_a_closed_store_has_left(here: Here) -> None:
    here.stores[0].close()

    answer = here.ask(KeyQuery("a"))

    assert answer.partitions[0].failure is FailureReason.NOT_PRESENT
    assert answer.partitions[1].value == 1


def test_a_store_that_fails_says_how(here: Here) -> None:
    answer = here.ask(KeyQuery(5))

    assert {one.failure for one in answer.partitions.values()} == {FailureReason.STORE_EXCEPTION}
    assert "SerializationError" in answer.partitions[0].message


def test_a_scan_is_let_go_of_with_its_answer(here: Here) -> None:
    with here.ask(RangeQuery()) as answer:
        first = {n: next(one.value) for n, one in answer.partitions.items()}
    assert first == {0: ("a", 0), 1: ("a", 1), 2: ("a", 2)}
    assert [next(one.value, None) for one in answer.partitions.values()] == [None] * 3


def test_the_cache_is_read_unless_it_is_skipped(tmp_path: Path) -> None:
    builder = timestamped_key_value_store("rows", serdes.string, serdes.int64).with_caching()
    made = Here(builder, tmp_path, Readiness.RUNNING)
    (store,) = made.stores
    store.put("a", ValueAndTimestamp(1, 5))
    store.flush()
    store.put("a", ValueAndTimestamp(2, 6))

    assert made.ask(KeyQuery("a")).only.value == 2
    below = made.ask(KeyQuery("a", skip_cache=True), execution_info=True)
    assert below.only.value == 1
    assert below.position == {}, "nothing is committed yet"
    assert "below its cache" in below.only.execution_info[0]
    assert list(made.ask(RangeQuery()).only.value) == [("a", 2)]
    store.close()
