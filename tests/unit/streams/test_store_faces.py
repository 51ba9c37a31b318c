"""Stores read as mappings do, typed where asked; what is printed of them and of errors."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NewType, TypedDict

import msgspec
import pytest

import thalweg as streams
from tests.unit.streams import running
from tests.unit.streams.running import Log
from thalweg import (
    App,
    StreamsBuilder,
    StreamsError,
    TimeWindows,
)
from thalweg.stores.api import ReadOnlyKeyValueStore, ReadOnlyWindowStore, ValueAndTimestamp
from thalweg.stores.builders import (
    StoreBuilder,
    key_value_store,
    lru_store,
    timestamped_key_value_store,
    timestamped_window_store,
    window_store,
)
from thalweg.stores.errors import PUBLIC_MODULE
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.windowed import TimeWindow, Windowed, epoch_ms
from thalweg.streams.queries.service import QueryService
from thalweg.topology.physical import Topology

string, int64 = serdes.string, serdes.int64
MINUTE_MS = 60_000

KEY_VALUE: dict[str, StoreBuilder] = {
    "rocks": key_value_store("s", string, int64),
    "memory": key_value_store("s", string, int64, in_memory=True),
    "cached": key_value_store("s", string, int64).with_caching(),
    "timestamped": timestamped_key_value_store("s", string, int64),
    "lru": lru_store("s", 10, string, int64),
}
SPAN: dict[str, Any] = {"retention_ms": 10 * MINUTE_MS, "window_size_ms": MINUTE_MS}
WINDOWS: dict[str, StoreBuilder] = {
    "rocks": window_store("s", string, int64, **SPAN),
    "memory": window_store("s", string, int64, in_memory=True, **SPAN),
    "cached": window_store("s", string, int64, **SPAN).with_caching(),
    "timestamped": timestamped_window_store("s", string, int64, **SPAN),
}


def faces(builder: StoreBuilder, directory: Path) -> dict[str, Any]:
    """Returns the store of a task, its face for other threads, and that of two such tasks."""
    topology = Topology()
    topology.stores[builder.name] = builder
    tasks = [builder.build(RecordingHost(directory / str(number))) for number in range(2)]

    def here(_name: str, _partition: int | None) -> Sequence[Any]:
        return [task.read_only() for task in tasks]

    composite = QueryService(topology, string, string, here).store("s", timestamped=True)
    return {"task": tasks[0], "face": tasks[0].read_only(), "composite": composite}


def kept(builder: StoreBuilder, number: int) -> Any:
    """Returns a value as the store keeps it."""
    return ValueAndTimestamp(number, 7) if builder.is_timestamped else number


@pytest.mark.parametrize("builder", KEY_VALUE.values(), ids=KEY_VALUE)
def test_a_key_value_store_reads_as_a_mapping(builder: StoreBuilder, tmp_path: Path) -> None:
    made = faces(builder, tmp_path)
    rows = {key: kept(builder, number) for number, key in enumerate("cab")}
    for store in made.values():
        assert len(store) == 0
        assert list(store) == []
        assert "a" not in store
    assert made["task"], "a store that is there is true, also if it is empty"
    assert not made["face"]
    assert not made["composite"]

    for key, value in rows.items():
        made["task"][key] = value

    for store in made.values():
        assert len(store) == 3
        assert store
        assert {key: store[key] for key in store} == rows
        assert list(store) == list(store.keys()) == ["a", "b", "c"]
        assert list(reversed(store)) == ["c", "b", "a"]
        assert list(store.items()) == [(key, rows[key]) for key in "abc"]
        assert list(store.values()) == [rows[key] for key in "abc"]
        assert dict(store) == dict(store.items()) == rows
        assert "a" in store
        assert "x" not in store
        assert (store.get("a"), store.get("x"), store.get("x", 5)) == (rows["a"], None, 5)
        with pytest.raises(KeyError, match=r"store 's' has no key 'x'"):
            store["x"]

    del made["task"]["b"]
    assert list(made["composite"]) == ["a", "c"]
    with pytest.raises(KeyError, match=r"store 's' has no key 'b'"):
        del made["task"]["b"]


@pytest.mark.parametrize("builder", KEY_VALUE.values(), ids=KEY_VALUE)
def test_scans_let_go_when_one_stops_early(builder: StoreBuilder, tmp_path: Path) -> None:
    task = faces(builder, tmp_path)["task"]
    for key in "abc":
        task[key] = kept(builder, 1)

    for scan in (task.items, task.keys, task.values, lambda: iter(task), lambda: reversed(task)):
        with scan() as rows:
            next(rows)
            assert task.open_iterators == 1
        assert task.open_iterators == 0
        assert len(list(scan())) == 3
        assert task.open_iterators == 0
    assert bool(task)
    assert task.open_iterators == 0


@pytest.mark.parametrize("builder", WINDOWS.values(), ids=WINDOWS)
def test_a_window_store_reads_as_a_mapping_of_windowed_keys(
    builder: StoreBuilder, tmp_path: Path
) -> None:
    made = faces(builder, tmp_path)
    for store in made.values():
        assert (len(store), list(store)) == (0, [])
    assert made["task"]
    assert not made["composite"]
    first, second = (TimeWindow(n * MINUTE_MS, (n + 1) * MINUTE_MS) for n in range(2))
    one, two = kept(builder, 1), kept(builder, 2)

    made["task"]["a", 0] = one
    made["task"][Windowed("a", second)] = two
    made["task"]["b", datetime(1970, 1, 1, 0, 1, tzinfo=UTC)] = one

    for store in made.values():
        assert len(store) == 3
        assert store
        assert dict(store) == {
            Windowed("a", first): one,
            Windowed("a", second): two,
            Windowed("b", second): one,
        }
        assert list(store.keys()) == list(store)
        assert list(reversed(store)) == list(store)[::-1]
        assert list(store.items()) == list(zip(store.keys(), store.values(), strict=True))
        assert store["a", MINUTE_MS] == store[Windowed("a", second)] == two
        assert store["a", datetime(1970, 1, 1, 0, 1, tzinfo=UTC)] == two
        assert ("a", 0) in store
        assert Windowed("b", first) not in store
        with pytest.raises(KeyError, match=r"store 's' has no window of key 'b' .* at 0"):
            store["b", 0]
        for wrong in ("a", 5, ("a",), ("a", "b"), ("a", 0, 1)):
            with pytest.raises(TypeError, match=r"store\[key, start\] .* store\.fetch\(key"):
                store[wrong]
            with pytest.raises(TypeError, match=r"store\[key, start\]"):
                _ = wrong in store


@pytest.mark.parametrize("builder", [*KEY_VALUE.values(), *WINDOWS.values()])
def test_a_store_shows_its_name_and_reads_nothing_for_it(
    builder: StoreBuilder, tmp_path: Path
) -> None:
    made = faces(builder, tmp_path)

    assert repr(made["task"]) == f"<{builder.kind} store 's' of task 0_0>"
    kind = "window" if isinstance(builder.spec, WindowSpec) else "key-value"
    for name in ("face", "composite"):
        assert made[name].name == "s"
        assert repr(made[name]) == f"<{kind} store 's', read only>"
    made["task"].close()
    assert repr(made["task"]) == f"<{builder.kind} store 's' of task 0_0, closed>"


@pytest.mark.parametrize("millis", range(0, 1000, 7))
def test_a_moment_is_exact_to_the_millisecond(millis: int) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)

    assert epoch_ms(moment) == 1_767_225_600_000 + millis
    assert epoch_ms(moment.astimezone().replace(tzinfo=None)) == epoch_ms(moment)


# -- types ---------------------------------------------------------------------------------


class Order(msgspec.Struct):
    """A typed value."""

    amount: int


class Person(TypedDict):
    """A typed dict."""

    age: int


Name = NewType("Name", str)
OWN: Serde[Any] = Serde.of(str.encode, bytes.decode, name="own")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """Returns an application with stores of several types."""
    builder = StreamsBuilder()
    words = builder.stream("words", key_serde=string, value_serde=string).group_by_key()
    words.count(name="counts")
    words.windowed_by(TimeWindows.of_size(timedelta(minutes=1))).count(name="per-minute")
    for name, serde in {
        "orders": serdes.json(Order),
        "people": serdes.json(Person),
        "loose": serdes.json,
        "packed": serdes.msgpack,
        "sizes": serdes.json(dict[str, int]),
        "either": serdes.json(Order | int),
        "own": OWN,
        "flags": serdes.bool,
    }.items():
        builder.table(name, key_serde=int64, value_serde=serde, store=name)
    builder.add_state_store(key_value_store("plain", string, int64))
    log = Log()
    log.send("words", ("a", "x"), ("a", "x"), ("b", "x"))
    with log.app(builder, tmp_path) as app:
        running.idle(app)
        yield app


def test_a_typed_store_is_the_store(app: App) -> None:
    counts = app.store("counts", key=str, value=int)
    assert isinstance(counts, ReadOnlyKeyValueStore)
    assert (counts["a"], dict(counts.items())) == (2, {"a": 2, "b": 1})
    stamped = app.store("counts", key=str, value=int, timestamped=True)
    assert stamped["a"].value == 2
    windows = app.store("per-minute", key=str, value=int, windowed=True)
    assert isinstance(windows, ReadOnlyWindowStore)
    assert sorted(windows.values()) == [1, 2]
    assert app.store("counts", windowed=False).get("a") == 2
    with pytest.raises(KeyError, match="store 'counts' has no key 'nope' in this process"):
        counts["nope"]


@pytest.mark.parametrize(
    ("store", "value"),
    [
        *(("counts", known) for known in (int, object, Any)),
        ("orders", Order),
        *(("people", known) for known in (Person, dict)),
        *(("loose", known) for known in (dict, list[int], str, int, float, bool, Person)),
        *(("packed", known) for known in (bytes, dict[str, int])),
        *(("sizes", known) for known in (dict[str, int], dict)),
        *(("either", known) for known in (Order, int, Order | int)),
        *(("own", known) for known in (str, Order)),
        *(("flags", known) for known in (bool, int)),
    ],
)
def test_types_that_fit_are_taken(app: App, store: str, value: Any) -> None:
    key = Name if store == "counts" else int

    assert app.store(store, key=key, value=value).name == store


@pytest.mark.parametrize(
    ("store", "value", "said"),
    [
        ("counts", str, "the values of store 'counts' are int (serde int64), not str"),
        ("counts", float, "not float"),
        ("orders", dict, "are Order (serde json(Order)), not dict"),
        ("people", Order, "are Person (serde json(Person)), not Order"),
        ("loose", Order, "(serde json), not Order"),
        ("loose", bytes, "(serde json), not bytes"),
        ("sizes", dict[str, str], "not dict[str, str]"),
        ("either", str, "not str"),
        ("flags", str, "are bool (serde bool), not str"),
    ],
)
def test_other_types_are_refused(app: App, store: str, value: Any, said: str) -> None:
    with pytest.raises(TypeError) as refused:
        app.store(store, key=str if store == "counts" else int, value=value)

    assert said in str(refused.value)


def test_other_kinds_are_refused_with_the_remedy(app: App) -> None:
    def refused(ask: Callable[[], object], *said: str) -> None:
        with pytest.raises(TypeError) as error:
            ask()
        assert all(text in str(error.value) for text in said), error.value

    refused(
        lambda: app.store("per-minute", key=str, value=int),
        "'per-minute' is a timestamped-window store",
        "windowed=True",
    )
    refused(
        lambda: app.store("counts", key=str, value=int, windowed=True),
        "'counts' is a timestamped-key-value store",
        "leave out windowed=True",
    )
    refused(lambda: app.store("counts", key=int, value=int), "the keys of store 'counts' are str")
    refused(
        lambda: app.store("plain", key=str, value=int, timestamped=True), "leave out timestamped"
    )
    refused(lambda: app.store("counts", key=str), "give both key= and value=")  # type: ignore[call-overload]
    with pytest.raises(streams.UnknownStoreError, match="counts"):
        app.store("nope", key=str, value=int)


# -- what is printed -----------------------------------------------------------------------

ERRORS = [name for name in streams.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_printed_by_the_name_it_is_imported_by(name: str) -> None:
    error = getattr(streams, name)("so it is")

    (line,) = traceback.format_exception_only(error)
    assert line == f"{PUBLIC_MODULE}.{name}: {error}\n"
    assert "so it is" in line
    assert type(pickle.loads(pickle.dumps(error))) is type(error)


def test_an_error_of_a_users_own_keeps_its_module() -> None:
    class Mine(StreamsError):
        """Somebody's own."""

    assert Mine.__module__ == __name__


def test_an_error_needs_nothing_else_to_be_printed_so() -> None:
    with pytest.raises(StreamsError) as raised:
        serdes.int64.deserializer("t")(b"x")

    (line,) = traceback.format_exception_only(raised.value)
    assert line.startswith("thalweg.DeserializationError: serde int64 cannot read")


def test_streams_and_tables_show_what_they_are() -> None:
    builder = StreamsBuilder()
    assert repr(builder) == "<StreamsBuilder: nothing yet>"
    lines = builder.stream("lines", key_serde=string, value_serde=string, name="lines-in")
    grouped = lines.group_by_key()
    counts = grouped.count(name="counts", named="count")
    windows = grouped.windowed_by(TimeWindows.of_size(timedelta(seconds=5)))

    assert repr(lines) == "<KStream lines-in>"
    assert repr(grouped) == "<KGroupedStream of lines-in>"
    assert repr(windows).startswith("<TimeWindowedKStream of lines-in, TimeWindows(size_ms=5000")
    assert repr(counts) == "<KTable count, store 'counts'>"
    assert repr(counts.filter(lambda _k, _v: True, named="some")) == "<KTable some>"
    regrouped = counts.group_by(lambda key, value: (key, value))
    assert repr(regrouped).startswith("<KGroupedTable of KTABLE-SELECT-")
    split = lines.split(name="by-")
    assert repr(split) == "<BranchedKStream of lines-in: branches none yet>"
    split.branch(lambda _k, _v: True, name="all")
    assert repr(split) == "<BranchedKStream of lines-in: branches by-all>"
    assert repr(builder).startswith("<StreamsBuilder: lines-in, ")
    assert repr(builder.build()).startswith("<Topology: ")
    assert "from lines" in repr(builder.build())
    assert "stores counts" in repr(builder.build())
    assert repr(serdes.json(Order)) == "<serde json(Order)>"
