"""Stores whose values have headers: what is read, what is logged, what is restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import (
    AggregationWithHeaders,
    Headers,
    SessionWindow,
    ValueAndTimestamp,
    ValueTimestampHeaders,
    Windowed,
)
from thalweg.stores.builders import (
    StoreBuilder,
    session_store_with_headers,
    timestamped_key_value_store_with_headers,
    timestamped_window_store_with_headers,
)
from thalweg.stores.errors import DeserializationError
from thalweg.stores.header_formats import (
    decode_headers,
    encode_prefix,
    prefix_length,
    split_row,
    timed_prefix,
)
from thalweg.stores.record import HeaderList
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost

S, N = serdes.string, serdes.int64
ONE: HeaderList = [("h", b"1"), ("n", None), ("h", b"2")]
DELETING: HeaderList = [("d", b"")]

headers = st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=200)), max_size=70)


def value(number: int, timestamp: int, given: HeaderList = ONE) -> ValueTimestampHeaders[int]:
    return ValueTimestampHeaders(number, timestamp, Headers(given))


# -- bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ([], "00"),
        ([("h", b"2"), ("n", None)], "10" + "04" + "0268" + "0232" + "026e" + "01"),
        ([("u", b"''")], "0c" + "02" + "0275" + "042727"),
    ],
)
def test_prefixes_are_those_of_the_jvm(given: HeaderList, prefix: str) -> None:
    assert encode_prefix(given).hex() == prefix


@given(headers, st.integers(0, 2**62), st.binary(max_size=9))
def test_a_row_is_read_as_it_was_written(given: HeaderList, timestamp: int, data: bytes) -> None:
    row = timed_prefix(given, timestamp) + data

    assert decode_headers(row) == given
    assert split_row(row) == (timed_prefix(given, timestamp), data)
    assert prefix_length(row) == len(row) - len(data) - 8


@pytest.mark.parametrize("row", [b"", b"\xff" * 6, b"\x10abc", b"\x01" + bytes(8), b"\x00" * 8])
def test_what_is_no_row_is_refused(row: bytes) -> None:
    with pytest.raises(DeserializationError):
        split_row(row)


def test_headers_that_do_not_fill_their_length_are_refused() -> None:
    with pytest.raises(DeserializationError):
        decode_headers(b"\x0a" + b"\x02\x02h\x01" + bytes(9))


# -- values ----------------------------------------------------------------------------------


def test_a_value_with_headers_stands_where_one_without_does() -> None:
    found = value(3, 5)

    number, timestamp = found
    assert (number, timestamp) == (3, 5) == (found.value, found.timestamp)
    assert isinstance(found, ValueAndTimestamp)
    assert found != ValueAndTimestamp(3, 5)
    assert value(3, 5, []) == ValueAndTimestamp(3, 5)
    assert ValueAndTimestamp(3, 5) == value(3, 5, [])
    assert found == value(3, 5)
    assert "Headers([('h', b'1')" in repr(found)


# -- stores ----------------------------------------------------------------------------------


class Opened:
    """A store of either kind, used in one way."""

    def __init__(self, builder: StoreBuilder, directory: Path, cache_bytes: int | None) -> None:
        self.builder = builder
        self.host = RecordingHost(directory, cache_bytes)
        self.store: Any = builder.build(self.host)
        self.is_window = "window" in builder.kind

    def put(self, key: str, given: Any) -> None:
        if self.is_window:
            self.store.put(key, given, 0)
        else:
            self.store.put(key, given)

    def get(self, key: str) -> Any:
        return self.store.fetch(key, 0) if self.is_window else self.store.get(key)


@pytest.fixture(
    params=[
        (make, cache_bytes, in_memory)
        for make in ("kv", "window")
        for cache_bytes in (None, 1_000_000, 0)
        for in_memory in (True, False)
    ],
    ids=lambda one: f"{one[0]}-{'cached' if one[1] else 'bare'}-{'mem' if one[2] else 'rocks'}",
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    make, cache_bytes, in_memory = request.param
    found = Opened(described(make, in_memory=in_memory).with_caching(), tmp_path, cache_bytes)
    yield found
    found.store.close()


def described(make: str, *, rows: Any = "headers", in_memory: bool = True) -> StoreBuilder:
    if make == "kv":
        return timestamped_key_value_store_with_headers("st", S, N, rows=rows, in_memory=in_memory)
    return timestamped_window_store_with_headers(
        "st", S, N, retention_ms=100, window_size_ms=10, rows=rows, in_memory=in_memory
    )


def test_headers_are_read_as_they_were_put(opened: Opened) -> None:
    opened.put("a", value(1, 5))
    opened.put("b", value(2, 6, []))
    opened.put("c", ValueAndTimestamp(3, 7))

    for _ in ("cached", "stored", "committed"):
        assert opened.get("a") == value(1, 5)
        assert opened.get("b") == value(2, 6, []) == ValueAndTimestamp(2, 6)
        with opened.store.all() as rows:
            assert [found for _, found in rows] == [value(1, 5), value(2, 6, []), value(3, 7, [])]
        opened.store.flush()
        opened.store.apply_pending()
    assert [(one.value, one.timestamp, one.headers) for one in opened.host.changes] == [
        (N.serializer("")(1), 5, ONE),
        (N.serializer("")(2), 6, None),
        (N.serializer("")(3), 7, None),
    ]


def test_a_deletion_is_logged_with_the_headers_of_the_record(opened: Opened) -> None:
    opened.put("a", value(1, 5))
    opened.store.flush()
    opened.host.set_record(9, headers=DELETING)
    opened.put("a", None)
    opened.store.flush()

    assert opened.get("a") is None
    last = opened.host.changes[-1]
    assert (last.value, last.timestamp, last.headers) == (None, 9, DELETING)


def test_a_row_is_restored_with_its_headers(opened: Opened, tmp_path: Path) -> None:
    opened.put("a", value(1, 5))
    opened.put("b", value(2, 6, []))
    opened.put("c", value(3, 7))
    opened.put("c", None)
    opened.store.flush()
    opened.store.apply_pending()

    restored: Any = opened.builder.build(RecordingHost(tmp_path / "restored"))
    restored.restore(opened.host.restore_records())
    assert restored.dump() == opened.store.dump()
    restored.close()


def test_operators_read_a_row_without_its_headers(opened: Opened) -> None:
    opened.put("a", value(1, 5))
    rows = [opened.store.pairs.updates(lambda *_change: None, send_old=False).read]
    key: Any = ("a", 0) if opened.is_window else "a"
    if not opened.is_window:
        rows += [opened.store.read_row, opened.store.forwarded_row]
    for read in rows:
        pair = read(key)
        if pair is not None:  # what waits in a cache was not forwarded
            assert pair == (1, 5)
            assert pair[1].__class__ is int


@pytest.mark.parametrize("make", ["kv", "window"])
@pytest.mark.parametrize(
    ("rows", "row", "timestamp"),
    [("timestamped", "0000000000000005", 5), ("plain", "", -1)],
)
def test_rows_of_an_older_form_give_all_to_the_changelog_only(
    make: str, rows: str, row: str, timestamp: int, tmp_path: Path
) -> None:
    opened = Opened(described(make, rows=rows), tmp_path, None)
    opened.put("a", value(1, 5))

    assert opened.get("a") == value(1, timestamp, [])
    assert opened.store.dump()[1][0]["value"] == row + N.serializer("")(1).hex()
    (logged,) = opened.host.changes
    assert (logged.timestamp, logged.headers) == (5, ONE)


def test_a_cache_weighs_a_row_as_the_jvm_does(tmp_path: Path) -> None:
    sizes: list[int] = []
    for kept in ([], ONE):
        opened = Opened(described("kv").with_caching(), tmp_path, 1_000_000)
        opened.put("a", value(1, 5, kept))
        assert opened.host.record_cache is not None
        sizes.append(opened.host.record_cache.size_bytes)

    assert sizes[1] - sizes[0] == len(encode_prefix(ONE)) - 1


def test_of_duplicates_each_has_its_headers(tmp_path: Path) -> None:
    builder = timestamped_window_store_with_headers(
        "st", S, N, retention_ms=100, window_size_ms=10, retain_duplicates=True, in_memory=True
    )
    opened = Opened(builder, tmp_path, None)
    for number in range(2):
        opened.put("a", value(number, 5, [("h", bytes([number]))]))

    with opened.store.all() as rows:
        assert [one.headers.last("h") for _, one in rows] == [b"\0", b"\1"]
    assert [one.headers for one in opened.host.changes] == [[("h", b"\0")], [("h", b"\1")]]


@pytest.mark.parametrize(
    ("given", "error"),
    [(5, "ValueTimestampHeaders"), (ValueTimestampHeaders(1, 1.5), "int of epoch")],  # type: ignore[arg-type]
)
def test_what_is_no_value_with_headers_is_refused(given: Any, error: str, tmp_path: Path) -> None:
    opened = Opened(described("kv"), tmp_path, None)

    with pytest.raises(TypeError, match=error):
        opened.put("a", given)


def test_without_a_value_a_row_is_deleted(tmp_path: Path) -> None:
    opened = Opened(described("kv"), tmp_path, None)
    opened.put("a", value(1, 5))
    opened.put("a", ValueTimestampHeaders(None, 5))

    assert opened.get("a") is None


# -- sessions --------------------------------------------------------------------------------


def session(key: str, start_ms: int = 0, end_ms: int = 9) -> Windowed[str]:
    return Windowed(key, SessionWindow(start_ms, end_ms))


@pytest.mark.parametrize("cache_bytes", [None, 1_000_000], ids=["bare", "cached"])
def test_sessions_keep_headers(tmp_path: Path, cache_bytes: int | None) -> None:
    builder = session_store_with_headers("st", S, N, retention_ms=100, in_memory=True)
    host = RecordingHost(tmp_path, cache_bytes)
    store: Any = builder.with_caching().build(host)
    host.set_record(5, headers=DELETING)
    store.put(session("a"), AggregationWithHeaders(1, Headers(ONE)))
    store.put(session("b"), AggregationWithHeaders(2, Headers()))

    for _ in ("cached", "stored"):
        assert store.fetch_session("a", 0, 9) == AggregationWithHeaders(1, Headers(ONE))
        with store.all() as rows:
            assert [found.headers.raw() for _, found in rows] == [ONE, []]
        store.flush()
    assert [one.headers for one in host.changes] == [ONE, None]
    assert [one.timestamp for one in host.changes] == [5, 5]
    restored: Any = builder.build(RecordingHost(tmp_path / "restored"))
    restored.restore(host.restore_records())
    assert restored.dump() == store.dump()
    assert store.dump()[0] == "session-headers"

    store.remove(session("a"))
    store.flush()
    assert (host.changes[-1].value, host.changes[-1].headers) == (None, DELETING)
    with pytest.raises(TypeError, match="AggregationWithHeaders"):
        store.put(session("a"), 5)
