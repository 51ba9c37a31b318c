"""Typed stores without a cache: what they log, restore, count, and refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thalweg.stores.api import TaskStore, ValueAndTimestamp
from thalweg.stores.builders import (
    StoreBuilder,
    key_value_store,
    lru_store,
    timestamped_key_value_store,
    timestamped_window_store,
    window_store,
)
from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.serde import serdes
from thalweg.stores.testing import RecordingHost
from thalweg.stores.windowed import FOREVER_MS, TimeWindow, Windowed

GOLDEN = Path(__file__).parents[3] / "golden" / "cases"
TEXT, LONG = serdes.string, serdes.int64


@pytest.fixture
def host(tmp_path: Path) -> RecordingHost:
    return RecordingHost(tmp_path)


@pytest.fixture
def opened(host: RecordingHost) -> Iterator[Any]:
    stores: list[TaskStore] = []

    def open_store(builder: StoreBuilder) -> Any:
        stores.append(builder.build(host))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def logged(host: RecordingHost, store: str | None = None) -> list[tuple[Any, ...]]:
    return [tuple(change)[1:] for change in host.changes if store in (None, change.store)]


# Changelogs.


def test_every_kind_of_store_logs_and_keeps_what_the_jvm_does(
    host: RecordingHost, opened: Any
) -> None:
    """The golden case process_all_store_kinds, but for its session store."""
    case = json.loads((GOLDEN / "process_all_store_kinds.json").read_text())
    windows: dict[str, Any] = {"retention_ms": 1000, "window_size_ms": 10}
    kv = opened(key_value_store("kv", TEXT, LONG))
    tkv = opened(timestamped_key_value_store("tkv", TEXT, LONG))
    lru = opened(lru_store("lru", 2, TEXT, LONG))
    win = opened(window_store("win", TEXT, LONG, **windows))
    dup = opened(window_store("dup", TEXT, LONG, **windows, retain_duplicates=True))
    twin = opened(timestamped_window_store("twin", TEXT, LONG, **windows))

    for step, outputs in zip(case["steps"], case["outputs"], strict=True):
        key, time = bytes.fromhex(step["key"]).decode(), step["timestamp"]
        value = int.from_bytes(bytes.fromhex(step["value"]), "big", signed=True)
        host.set_record(time)
        host.changes.clear()
        kv.put(key, value)
        kv.put_if_absent("first", time)
        tkv.put(key, ValueAndTimestamp(value, time + 1))
        lru.put(key, value)
        win.put(key, value, time // 10 * 10)
        dup.put(key, value, time // 10 * 10)
        twin.put(key, ValueAndTimestamp(value, time), time // 10 * 10)

        assert [
            (
                f"app-{one.store}-changelog",
                one.key.hex(),
                one.value and one.value.hex(),
                one.timestamp,
            )
            for one in host.changes
        ] == [
            (row["topic"], row["key"], row["value"], row["timestamp"])
            for row in outputs
            if row["topic"].endswith("-changelog") and "-ses-" not in row["topic"]
        ]
        assert all(change.headers is None for change in host.changes)

    for store in (kv, tkv, lru, win, dup, twin):
        expected = case["stores"][store.name]
        assert store.dump() == (expected["kind"], expected["entries"])


def test_a_value_is_logged_with_its_time_a_deletion_with_that_of_its_record(
    host: RecordingHost, opened: Any
) -> None:
    store = opened(timestamped_key_value_store("st", TEXT, LONG, in_memory=True))
    host.set_record(50)

    store.put("a", ValueAndTimestamp(1, 10))
    store.put("a", None)
    store.put("b", ValueAndTimestamp(None, 10))
    store.delete("c")
    store.pairs.put("d", 2, 20)
    store.pairs.put("d", None, 30)

    one, two = (1).to_bytes(8, "big"), (2).to_bytes(8, "big")
    assert logged(host) == [
        (b"a", one, 10, None),
        (b"a", None, 50, None),
        (b"b", None, 50, None),
        (b"c", None, 50, None),
        (b"d", two, 20, None),
        (b"d", None, 30, None),
    ]


def test_a_plain_store_logs_with_the_time_of_the_record(host: RecordingHost, opened: Any) -> None:
    store = opened(key_value_store("st", TEXT, TEXT, in_memory=True))
    host.set_record(7, headers=[("h", b"not logged")])

    store.put("a", "x")
    assert store.put_if_absent("a", "y") == "x"
    assert store.delete("a") == "x"
    assert store.put_if_absent("a", "z") is None

    assert logged(host) == [(b"a", b"x", 7, None), (b"a", None, 7, None), (b"a", b"z", 7, None)]


def test_an_unlogged_store_logs_nothing(host: RecordingHost, opened: Any) -> None:
    for builder in (
        key_value_store("kv", TEXT, LONG, in_memory=True),
        lru_store("lru", 1, TEXT, LONG),
    ):
        store = opened(builder.without_logging())
        store.put("a", 1)
        store.put("b", 1)
    window = window_store("w", TEXT, LONG, retention_ms=10, window_size_ms=10, in_memory=True)
    opened(window.without_logging()).put("a", 1, 0)

    assert host.changes == []


def test_a_window_put_that_came_too_late_is_counted_and_logged_all_the_same(
    host: RecordingHost, opened: Any
) -> None:
    store = opened(
        timestamped_window_store(
            "w", TEXT, LONG, retention_ms=100, window_size_ms=10, in_memory=True
        )
    )
    store.pairs.put(("a", 200), 1, 205)
    store.pairs.put(("a", 50), 1, 55)

    assert host.expired == 1
    assert [change.timestamp for change in host.changes] == [205, 55]
    assert store.pairs.read(("a", 50)) is None


def test_duplicates_are_numbered_in_the_changelog_deletions_too(
    host: RecordingHost, opened: Any
) -> None:
    store = opened(
        window_store(
            "w",
            TEXT,
            LONG,
            retention_ms=100,
            window_size_ms=10,
            retain_duplicates=True,
            in_memory=True,
        )
    )
    for value in (1, None, 2):
        store.put("a", value, 10)

    assert [change.key[-4:].hex() for change in host.changes] == [
        "00000001",
        "00000002",
        "00000003",
    ]
    assert [value for _, value in store.fetch("a", 0, 99)] == [1, 2]


# LRU stores.


def test_a_plain_lru_store_logs_what_it_forgets_a_timestamped_one_does_not(
    host: RecordingHost, opened: Any
) -> None:
    plain = opened(lru_store("plain", 1, TEXT, TEXT))
    untimed = lru_store("timestamped", 1, TEXT, TEXT)
    timestamped = opened(replace(untimed, spec=untimed.spec.with_timestamps()))
    host.set_record(9)
    for key in ("a", "b"):
        plain.put(key, "x")
        timestamped.put(key, ValueAndTimestamp("x", 5))

    assert logged(host, "plain") == [
        (b"a", b"x", 9, None),
        (b"a", None, 9, None),
        (b"b", b"x", 9, None),
    ]
    assert logged(host, "timestamped") == [(b"a", b"x", 5, None), (b"b", b"x", 5, None)]
    assert [key for key, _ in plain.all()] == ["b"]
    assert timestamped.get("a") is None


def test_reads_of_other_threads_are_no_use_of_a_row(opened: Any) -> None:
    store = opened(lru_store("lru", 2, TEXT, LONG))
    store.put("a", 1)
    store.put("b", 2)

    assert store.read_only().get("a") == 1
    store.put("c", 3)

    assert [key for key, _ in store.all()] == ["b", "c"]


def test_a_restored_lru_store_logs_nothing(host: RecordingHost, opened: Any) -> None:
    store = opened(lru_store("lru", 2, TEXT, TEXT))
    store.restore([(1, key.encode(), b"x", 0) for key in "abc"])

    assert store.dump() == ("kv", [{"key": key.encode().hex(), "value": "78"} for key in "bc"])
    assert host.changes == []


# Restoration.


def test_the_last_change_of_a_key_is_restored(opened: Any) -> None:
    store = opened(timestamped_key_value_store("st", TEXT, TEXT, in_memory=True))
    store.restore(
        [
            (1, b"a", b"old", 0),
            (2, b"b", b"gone", 1),
            (3, b"a", b"new", (2, [("h", None)])),
            (4, b"b", None, 3),
            (5, None, b"a record without a key", 4),
        ]
    )

    assert list(store.all()) == [("a", ValueAndTimestamp("new", 3))]
    store.restore([(7, b"c", b"no deletion is among them", 5)])
    assert store.get("c") == ValueAndTimestamp("no deletion is among them", 7)
    store.close()


# What users see.


def test_values_of_a_timestamped_store_are_put_with_their_time(opened: Any) -> None:
    store = opened(timestamped_key_value_store("st", TEXT, LONG, in_memory=True))

    with pytest.raises(TypeError, match="store 'st' keeps values with their timestamp: put Value"):
        store.put("a", 5)
    with pytest.raises(TypeError, match="not a tuple"):
        store.put_all([("a", (5, 1))])
    store.put("a", ValueAndTimestamp(5, 1))
    assert store.get("a") == ValueAndTimestamp(5, 1)
    assert store.get("a").value == 5


def test_what_no_serde_writes_or_reads_is_an_error_that_names_the_changelog(opened: Any) -> None:
    store = opened(key_value_store("st", TEXT, LONG, in_memory=True))
    store.restore([(0, b"a", b"too short", 0)])

    with pytest.raises(SerializationError, match=r"serde int64 .* \[topic app-st-changelog\]"):
        store.put("a", "text")
    with pytest.raises(SerializationError, match="serde string cannot write a value of type int"):
        store.get(5)
    with pytest.raises(DeserializationError, match="serde int64 cannot read 9 bytes"):
        store.get("a")


def test_windows_have_the_size_of_the_store(opened: Any) -> None:
    sized = opened(
        window_store("w", TEXT, LONG, retention_ms=99, window_size_ms=10, in_memory=True)
    )
    endless = opened(
        window_store(
            "e", TEXT, LONG, retention_ms=FOREVER_MS, window_size_ms=FOREVER_MS, in_memory=True
        )
    )
    for store in (sized, endless):
        store.put("a", 1, 50)

    assert list(sized.all()) == [(Windowed("a", TimeWindow(50, 60)), 1)]
    assert list(endless.all()) == [(Windowed("a", TimeWindow(50, FOREVER_MS)), 1)]


def test_a_prefix_may_be_any_bytes(opened: Any) -> None:
    store = opened(key_value_store("st", LONG, LONG, in_memory=True))
    for key in (1, 2, 256, -1):
        store.put(key, key)

    assert [key for key, _ in store.prefix_scan(bytes(7))] == [1, 2]
    assert [key for key, _ in store.prefix_scan(b"\xff")] == [-1]
    assert [key for key, _ in store.prefix_scan(2)] == [2]
    # Order is that of bytes: negative numbers come last.
    assert [key for key, _ in store.all()] == [1, 2, 256, -1]
    assert list(store.range(2, 1)) == []


def test_reads_and_writes_are_counted(opened: Any) -> None:
    store = opened(key_value_store("st", TEXT, LONG, in_memory=True))
    store.put("a", 1)
    store.get("a")
    store.get("b")
    store.delete("a")

    assert (store.puts_total, store.gets_total) == (2, 3)


# Building.


def test_a_store_needs_serdes(host: RecordingHost) -> None:
    with pytest.raises(ValueError, match="store 'st' has no serdes; give it key_serde="):
        key_value_store("st", TEXT, in_memory=True).build(host)


def test_files_are_kept_in_a_directory_of_the_store(host: RecordingHost, opened: Any) -> None:
    opened(key_value_store("st", TEXT, LONG))

    assert (host.directory / "rocksdb" / "st").is_dir()
