"""Reads of a store over all tasks of a process: merged, in order, and honest about what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.stores.api import ValueAndTimestamp
from thalweg.stores.builders import (
    StoreBuilder,
    key_value_store,
    timestamped_key_value_store,
    timestamped_window_store,
    window_store,
)
from thalweg.stores.errors import (
    StoreClosedError,
    StoreMovedError,
    StoreNotReadyError,
    UnknownStoreError,
)
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.streams.queries.kinds.key_value import CompositeKeyValueStore
from thalweg.streams.queries.service import QueryService
from thalweg.topology.physical import Topology

string, int64 = serdes.string, serdes.int64


class Tasks:
    """Stores of one name in several tasks, and the service that asks them."""

    def __init__(self, builder: StoreBuilder, count: int, directory: Path) -> None:
        self.name = builder.name
        topology = Topology()
        topology.stores[builder.name] = builder
        self.service = QueryService(topology, string, string, self._faces)
        settled = self.service.builder(builder.name)
        self.stores: list[Any] = [
            settled.build(RecordingHost(directory / str(number))) for number in range(count)
        ]
        self.here = list(range(count))
        self.asked: list[tuple[str, int | None]] = []
        self.kept: list[Any] | None = None

    def _faces(self, name: str, partition: int | None) -> Sequence[Any]:
        self.asked.append((name, partition))
        if not self.here:
            raise StoreNotReadyError("not yet")
        if self.kept is not None:
            return self.kept
        if partition is not None:
            return [self.stores[partition].read_only()]
        return [self.stores[number].read_only() for number in self.here]

    def store(self, **options: Any) -> Any:
        return self.service.store(self.name, **options)

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Callable[..., Tasks]]:
    """Returns a function that makes tasks; their stores are closed at the end."""
    made: list[Tasks] = []

    def make(builder: StoreBuilder, count: int = 3) -> Tasks:
        made.append(Tasks(builder, count, tmp_path / str(len(made))))
        return made[-1]

    yield make
    for one in made:
        one.close()


def key_values(**options: Any) -> StoreBuilder:
    return key_value_store("rows", string, int64, in_memory=True, **options)


# -- key-value stores ----------------------------------------------------------------------


def test_a_key_is_found_in_whatever_task_has_it(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(key_values())
    for number, store in enumerate(rows.stores):
        store.put(f"k{number}", number)
    store = rows.store()
    assert [store.get(f"k{number}") for number in range(4)] == [0, 1, 2, None]
    assert store.name == "rows"
    assert store.approximate_num_entries() == 3


keys = st.text(st.sampled_from("abc\u00e9\U0001f600"), max_size=3)


@given(st.dictionaries(keys, st.integers(0, 3), max_size=30), st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scans_are_those_of_one_sorted_map(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, int], data: st.DataObject
) -> None:
    made = Tasks(key_values(), 4, tmp_path_factory.mktemp("rows"))
    for number, (key, partition) in enumerate(rows.items()):
        made.stores[partition].put(key, number)
    numbered = {key: number for number, key in enumerate(rows)}
    ordered = sorted(numbered.items(), key=lambda row: row[0].encode())
    store = made.store()
    assert list(store.all()) == ordered
    assert list(store.reverse_all()) == ordered[::-1]
    lower, upper = data.draw(st.none() | keys), data.draw(st.none() | keys)
    within = [
        row
        for row in ordered
        if (lower is None or row[0].encode() >= lower.encode())
        and (upper is None or row[0].encode() <= upper.encode())
    ]
    assert list(store.range(lower, upper)) == within
    assert list(store.reverse_range(lower, upper)) == within[::-1]
    prefix = data.draw(keys)
    with_prefix = [row for row in ordered if row[0].startswith(prefix)]
    assert list(store.prefix_scan(prefix)) == with_prefix
    assert list(store.prefix_scan(prefix.encode())) == with_prefix
    made.close()


def test_the_order_is_that_of_the_bytes(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(key_value_store("rows", int64, string, in_memory=True))
    for number in (-2, -1, 0, 1, 2):
        rows.stores[number % 3].put(number, str(number))
    assert [key for key, _ in rows.store().all()] == [0, 1, 2, -2, -1]


def test_values_come_without_their_times_unless_asked(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(timestamped_key_value_store("rows", string, int64, in_memory=True))
    rows.stores[0].put("a", ValueAndTimestamp(1, 10))
    rows.stores[1].put("b", ValueAndTimestamp(2, 20))
    assert rows.store().get("a") == 1
    assert list(rows.store().all()) == [("a", 1), ("b", 2)]
    timestamped = rows.store(timestamped=True)
    assert timestamped.get("b") == ValueAndTimestamp(2, 20)
    assert list(timestamped.range("a", "a")) == [("a", ValueAndTimestamp(1, 10))]


def test_one_partition_can_be_asked_alone(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(key_values())
    for number, store in enumerate(rows.stores):
        store.put(f"k{number}", number)
    store = rows.store(partition=1)
    assert dict(store.all()) == {"k1": 1}
    assert store.get("k0") is None
    assert set(rows.asked) == {("rows", 1)}


def test_no_key_is_none(tasks: Callable[..., Tasks]) -> None:
    store = tasks(key_values()).store()
    for ask in (store.get, store.prefix_scan):
        with pytest.raises(ValueError, match="a key cannot be None"):
            ask(None)


def test_estimates_do_not_exceed_a_long() -> None:
    class Full:
        def approximate_num_entries(self) -> int:
            return 2**62

    store = CompositeKeyValueStore[str, str]("rows", lambda: [Full()] * 3, str.encode)
    assert store.approximate_num_entries() == 2**63 - 1


# -- window stores -------------------------------------------------------------------------


def windows(timestamped: bool = False) -> StoreBuilder:
    make = timestamped_window_store if timestamped else window_store
    return make("windows", string, int64, retention_ms=1_000_000, window_size_ms=10, in_memory=True)


@pytest.fixture
def counted(tasks: Callable[..., Tasks]) -> Tasks:
    """Returns windows of keys a and c in one task, b in another."""
    rows = tasks(windows(), 2)
    for key, start_ms, value in (("a", 0, 1), ("a", 10, 2), ("c", 20, 3), ("a", 30, 4)):
        rows.stores[0].put(key, value, start_ms)
    for key, start_ms, value in (("b", 10, 5), ("b", 20, 6)):
        rows.stores[1].put(key, value, start_ms)
    return rows


def moment(start_ms: int) -> datetime:
    return datetime.fromtimestamp(start_ms / 1_000, tz=UTC)


def windowed(rows: Any) -> list[tuple[str, int, int]]:
    found = []
    for key, value in rows:
        assert key == Windowed(key.key, TimeWindow(key.window.start_ms, key.window.start_ms + 10))
        found.append((key.key, key.window.start_ms, value))
    return found


def test_a_window_is_found_in_whatever_task_has_it(counted: Tasks) -> None:
    store = counted.store()
    assert store.fetch("a", 10) == store.fetch("a", moment(10)) == 2
    assert store.fetch("b", 20) == 6
    assert store.fetch("b", 0) is None
    assert list(store.fetch("a", 0, 20)) == [(0, 1), (10, 2)]
    assert list(store.fetch("a", moment(10), moment(30))) == [(10, 2), (30, 4)]
    assert list(store.backward_fetch("a", 0, moment(30))) == [(30, 4), (10, 2), (0, 1)]
    assert list(store.fetch("nobody", 0, 100)) == []


def test_scans_of_windows_follow_each_other_task_by_task(counted: Tasks) -> None:
    store = counted.store()
    every = [("a", 0, 1), ("a", 10, 2), ("c", 20, 3), ("a", 30, 4), ("b", 10, 5), ("b", 20, 6)]
    for rows in (store.all(), store.fetch_all(0, 30), store.fetch_all(moment(0), moment(30))):
        found = windowed(rows)
        assert sorted(found) == sorted(every)
        assert [key for key, _, _ in found[-2:]] == ["b", "b"]
    assert windowed(store.fetch_all(15, 25)) == [("c", 20, 3), ("b", 20, 6)]
    assert sorted(windowed(store.fetch_range("a", "b", 10, 20))) == [
        ("a", 10, 2),
        ("b", 10, 5),
        ("b", 20, 6),
    ]
    assert windowed(store.fetch_range("b", None, 0, 100))[0] == ("c", 20, 3)
    for forward, backward in (
        (store.all(), store.backward_all()),
        (store.fetch_all(0, 20), store.backward_fetch_all(0, 20)),
        (store.fetch_range(None, "b", 0, 30), store.backward_fetch_range(None, "b", 0, 30)),
    ):
        there, back = windowed(forward), windowed(backward)
        assert sorted(there) == sorted(back)
        assert back[-2:] == [row for row in reversed(there) if row[0] == "b"]


def test_windows_come_without_their_times_unless_asked(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(windows(timestamped=True))
    rows.stores[2].put("a", ValueAndTimestamp(1, 5), 0)
    assert rows.store().fetch("a", 0) == 1
    assert list(rows.store().fetch("a", 0, 0)) == [(0, 1)]
    assert rows.store(timestamped=True).fetch("a", 0) == ValueAndTimestamp(1, 5)


def test_no_windows_key_is_none(counted: Tasks) -> None:
    store = counted.store()
    for ask in (
        lambda: store.fetch(None, 0),
        lambda: store.fetch(None, 0, 1),
        lambda: store.backward_fetch(None, 0, 1),
    ):
        with pytest.raises(ValueError, match="a key cannot be None"):
            ask()


# -- why there is no answer ----------------------------------------------------------------


def test_an_unknown_store_is_told_with_those_there_are(tasks: Callable[..., Tasks]) -> None:
    service = tasks(key_values()).service
    with pytest.raises(UnknownStoreError, match="no store 'row'; the topology's stores: rows"):
        service.store("row")
    empty = QueryService(Topology(), string, string, lambda _name, _partition: [])
    with pytest.raises(UnknownStoreError, match=r"none; name one, as in count\(name=…\)"):
        empty.store("rows")


def test_a_store_that_cannot_answer_says_so_at_once_and_later(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(key_values())
    store = rows.store()
    rows.here = []
    with pytest.raises(StoreNotReadyError):
        rows.store()
    with pytest.raises(StoreNotReadyError):
        store.get("a")


def test_a_face_follows_the_tasks(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(key_values())
    for number, one in enumerate(rows.stores):
        one.put("k", number)
    rows.here = [0]
    store = rows.store()
    assert store.get("k") == 0
    rows.here = [2]
    assert store.get("k") == 2
    assert list(store.all()) == [("k", 2)]


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.get("k"),
        lambda store: list(store.all()),
        lambda store: list(store.range("a", "z")),
        lambda store: store.approximate_num_entries(),
    ],
    ids=["get", "all", "range", "approximate_num_entries"],
)
def test_a_store_closed_under_the_question_has_moved(
    tasks: Callable[..., Tasks], ask: Callable[[Any], Any]
) -> None:
    rows = tasks(key_values())
    store, faces = rows.store(), [one.read_only() for one in rows.stores]
    rows.kept = faces
    rows.close()
    with pytest.raises(StoreMovedError, match=r"store 'rows' was closed or moved.*ask again"):
        ask(store)


def test_a_store_closed_while_it_is_scanned_has_moved(tasks: Callable[..., Tasks]) -> None:
    rows = tasks(key_value_store("rows", string, int64))
    for one in rows.stores:
        for number in range(2_000):
            one.put(f"k{number:05}", number)
        one.apply_pending()
    scan = rows.store().all()
    next(scan)
    rows.close()
    with pytest.raises(StoreMovedError):
        list(scan)


# -- scans let go of what they hold --------------------------------------------------------


class Scan:
    """Rows that note when they are read and let go."""

    def __init__(self, log: list[str], name: str, rows: list[tuple[str, int]]) -> None:
        self._log, self._name, self._rows = log, name, iter(rows)

    def __iter__(self) -> Scan:
        return self

    def __next__(self) -> tuple[str, int]:
        self._log.append(f"read {self._name}")
        return next(self._rows)

    def close(self) -> None:
        self._log.append(f"close {self._name}")


class Face:
    """A face whose scans are noted."""

    def __init__(self, log: list[str], name: str, *rows: tuple[str, int]) -> None:
        self._log, self._name, self._rows = log, name, list(rows)

    def all(self) -> Scan:
        if not self._rows:
            raise StoreClosedError("closed")
        self._log.append(f"open {self._name}")
        return Scan(self._log, self._name, self._rows)


def composite(*faces: Face) -> CompositeKeyValueStore[str, int]:
    return CompositeKeyValueStore("rows", lambda: list(faces), str.encode)


def test_every_task_is_asked_before_the_first_row_is_read() -> None:
    log: list[str] = []
    rows = composite(Face(log, "x", ("b", 2)), Face(log, "y", ("a", 1))).all()
    assert log == ["open x", "open y"]
    assert next(rows) == ("a", 1)


def test_a_scan_that_is_given_up_lets_go_of_all_tasks() -> None:
    log: list[str] = []
    with composite(Face(log, "x", ("a", 1), ("b", 2)), Face(log, "y", ("c", 3))).all() as rows:
        next(rows)
    assert log[-2:] == ["close x", "close y"]
    assert list(rows) == []


def test_a_scan_read_to_its_end_lets_go_as_well() -> None:
    log: list[str] = []
    rows = composite(Face(log, "x", ("a", 1)), Face(log, "y", ("c", 3))).all()
    assert list(rows) == [("a", 1), ("c", 3)]
    assert log[-2:] == ["close x", "close y"]


def test_a_scan_that_cannot_be_opened_everywhere_lets_go_of_the_rest() -> None:
    log: list[str] = []
    with pytest.raises(StoreMovedError):
        composite(Face(log, "x", ("a", 1)), Face(log, "y")).all()
    assert log == ["open x", "close x"]
