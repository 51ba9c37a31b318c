"""Window stores that keep duplicates, as joins use them, against a list of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.stores.builders import StoreBuilder, window_store
from thalweg.stores.kinds import window_records
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.testing.host import RecordingHost

RETENTION_MS = 100
SIZE_MS = 40

_keys = st.sampled_from(["", "a", "a\0", "ab", "b"])
_starts = st.sampled_from([0, 1, 29, 30, 59, 60, 100, 101, 129, 130, 159, 160, 200, 230, 300])
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _keys, _starts, st.none() | st.integers(-3, 3)),
        st.tuples(st.just("put"), _keys, _starts, st.integers(-3, 3)),
        st.tuples(st.just("fetch"), _keys, _starts, _starts),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("restore")),
    ),
    max_size=30,
)


def mutable(inner: Serde[Any]) -> Serde[Any]:
    """A serde of which neither keys nor values may be kept decoded."""
    return Serde.of(inner.serializer(""), inner.deserializer(""), name=f"mutable {inner.name}")


def described(*, in_memory: bool, is_decoded: bool = True) -> StoreBuilder:
    key_serde: Serde[Any] = serdes.string
    value_serde: Serde[Any] = serdes.int64
    if not is_decoded:
        key_serde, value_serde = mutable(key_serde), mutable(value_serde)
    store = window_store(
        "st",
        key_serde,
        value_serde,
        retention_ms=RETENTION_MS,
        window_size_ms=SIZE_MS,
        segment_interval_ms=30,
        retain_duplicates=True,
        in_memory=in_memory,
    )
    assert isinstance(store.spec, WindowSpec)
    return replace(store, spec=store.spec.of_records(in_memory=in_memory))


class Run:
    """The store of a join, and the records that were put into it."""

    def __init__(self, builder: StoreBuilder, directory: Path) -> None:
        self.builder = builder
        self.directory = directory
        self.records: list[tuple[str, int, int]] = []
        self.newest_ms = -1
        self.logged_ms = -1
        self.number = 0
        self.host = RecordingHost(directory / "0")
        self.open()

    def open(self) -> None:
        self.store: Any = self.builder.build(self.host)
        self.bound = self.store.records()

    def put(self, key: str, start_ms: int, value: int | None) -> None:
        self.host.set_record(start_ms, headers=[("n", b"%d" % self.number)])
        self.bound.put(key, value, start_ms)
        self.logged_ms = max(self.logged_ms, start_ms)
        # A deletion does nothing, and moves time in memory only.
        if value is not None:
            self.newest_ms = max(self.newest_ms, start_ms)
            self.records.append((key, start_ms, value))
        elif not self.store.persistent:
            self.newest_ms = max(self.newest_ms, start_ms)

    def fetch(self, key: str, from_ms: int, to_ms: int) -> None:
        # Time is known exactly only until the store was opened again: what it has then forgotten
        # cannot be told from here.
        exact_from = max(from_ms, self.newest_ms - RETENTION_MS + 1)
        expected = sorted(
            (row[1], row[2])
            for row in self.records
            if row[0] == key and exact_from <= row[1] <= to_ms
        )
        found = [row for row in self.bound.fetch(key, from_ms, to_ms) if row[0] >= exact_from]
        assert sorted(found) == expected
        assert [start_ms for start_ms, _ in found] == [start_ms for start_ms, _ in expected]

    def commit(self) -> None:
        self.store.flush()
        self.store.apply_pending()

    def reopen(self) -> None:
        if self.store.persistent:
            self.commit()
            self.store.close()
            self.open()
        else:
            self.restore()

    def restore(self) -> None:
        self.store.close()
        self.number += 1
        before, self.host = self.host, RecordingHost(self.directory / str(self.number))
        self.open()
        self.store.restore(
            [(change.timestamp or 0, change.key, change.value, 0) for change in before.changes]
        )
        self.host.changes = before.changes
        # As in the JVM, deletions in the changelog move time, too.
        self.newest_ms = self.logged_ms

    def check_all(self) -> None:
        for key in ("", "a", "a\0", "ab", "b"):
            for from_ms in (0, 59, 100, 200):
                self.fetch(key, from_ms, from_ms + SIZE_MS)
                self.fetch(key, from_ms, 1_000)


@pytest.mark.parametrize("max_bytes", [0, 700, 1 << 20])
@pytest.mark.parametrize("is_decoded", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_join_finds_every_live_record(
    in_memory: bool, is_decoded: bool, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_records, "RECENT_BYTES", max_bytes)

    @settings(max_examples=60 if in_memory else 15, deadline=None)
    @given(_operations)
    @example([("put", "a", 0, 1), ("put", "a", 0, 2), ("reopen",), ("put", "a", 0, 3)])
    @example([("put", "", 0, 0), ("reopen",), ("put", "", 0, None), ("restore",)])
    @example([("put", "a", 30, 1), ("commit",), ("put", "a", 29, 2), ("fetch", "a", 0, 60)])
    def behaves(operations: list[tuple[Any, ...]]) -> None:
        with TemporaryDirectory() as directory:
            run = Run(described(in_memory=in_memory, is_decoded=is_decoded), Path(directory))
            try:
                for operation in operations:
                    getattr(run, operation[0])(*operation[1:])
                run.check_all()
            finally:
                run.store.close()

    behaves()


def test_changes_are_logged_with_time_and_headers_of_the_record(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    store: Any = described(in_memory=False).build(host)
    bound = store.records()
    host.set_record(5, headers=[("h", b"1")])
    bound.put("k", 7, 9)  # behind another join the record has a time of its own
    host.set_record(6)
    bound.put("k", None, 6)
    store.close()

    assert [(change.timestamp, change.headers) for change in host.changes] == [
        (9, [("h", b"1")]),
        (6, None),
    ]


def test_rows_in_memory_have_time_and_headers(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    store: Any = described(in_memory=True).build(host)
    bound = store.records()
    host.set_record(5, headers=[("h", b"v28"), ("n", None)])
    bound.put("k", 7, 5)
    host.set_record(6)
    bound.put("k", 8, 6)

    kind, rows = store.dump()
    assert kind == "timestamped-window-headers"
    assert [row["value"] for row in rows] == [
        "14" + "04" + "0268" + "06763238" + "026e" + "01" + f"{5:016x}" + f"{7:016x}",
        "00" + f"{6:016x}" + f"{8:016x}",
    ]
    assert store.fetch("k", 5) == 7
    store.close()


def test_what_a_processor_puts_is_found_by_the_join(tmp_path: Path) -> None:
    store: Any = described(in_memory=False).build(RecordingHost(tmp_path))
    bound = store.records()
    bound.put("k", 1, 5)
    store.put("k", 2, 6)
    assert list(bound.fetch("k", 0, 10)) == [(5, 1), (6, 2)]
    store.close()


def test_a_store_without_duplicates_is_not_for_joins(tmp_path: Path) -> None:
    plain = window_store(
        "st", serdes.string, serdes.int64, retention_ms=10, window_size_ms=10, in_memory=True
    )
    store: Any = plain.build(RecordingHost(tmp_path))
    with pytest.raises(ValueError, match="retain_duplicates=True"):
        store.records()
    store.close()


def test_many_stores_share_the_memory_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_records, "PROCESS_BYTES", 3_000)
    monkeypatch.setattr(window_records, "_open", set())  # other tests may have left some open
    builder = described(in_memory=False)
    stores: list[Any] = [builder.build(RecordingHost(tmp_path / str(n))) for n in range(3)]
    for store in stores:
        bound = store.records()
        for number in range(20):
            bound.put("k", number, 10 * number)
        # 1,000 bytes for each: the last few rows are in memory, all are found.
        assert store._stored.records.recent.complete_from_ms > 0
        assert [value for _, value in bound.fetch("k", 100, 200)] == list(range(10, 20))
        store.close()
    alone: Any = builder.build(RecordingHost(tmp_path / "alone"))
    bound = alone.records()
    for number in range(8):
        bound.put("k", number, number)
    assert alone._stored.records.recent.complete_from_ms == 0
    alone.close()
