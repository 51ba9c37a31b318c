"""Grace buffers against a sorted list of records, with few and with many of them in memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.kinds import grace_buffer
from thalweg.stores.kinds.grace_buffer import GraceBufferSpec
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost

_operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("hold"),
            st.sampled_from(["", "a", "b"]),
            st.integers(0, 20),
            st.booleans(),
        ),
        st.tuples(
            st.just("hold"),
            st.sampled_from(["", "a", "b"]),
            st.integers(0, 20),
            st.booleans(),
        ),
        st.tuples(st.just("let_go"), st.integers(-1, 20)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("restore")),
    ),
    max_size=30,
)


def described(*, in_memory: bool = False) -> StoreBuilder:
    return StoreBuilder(
        name="st",
        spec=GraceBufferSpec(),
        backend="memory" if in_memory else "rocks",
        key_serde=serdes.string,
        value_serde=serdes.int64,
    )


class Run:
    """The buffer, and the records that wait in it: (timestamp, key, number, headers)."""

    def __init__(self, builder: StoreBuilder, directory: Path) -> None:
        self.builder = builder
        self.directory = directory
        self.records: list[tuple[int, bytes, int, Any]] = []
        self.number = self.stores = 0
        self.host = RecordingHost(directory / "0")
        self.store: Any = builder.build(self.host)

    def hold(self, key: str, at_ms: int, has_headers: bool) -> None:
        self.number += 1
        headers: Any = [("n", b"%d" % self.number)] if has_headers else None
        self.host.set_record(at_ms, offset=self.number, headers=headers)
        self.store.hold(key, self.number, at_ms)
        self.records.append((at_ms, key.encode(), self.number, headers))
        self.records.sort(key=lambda row: row[:3])

    def let_go(self, until_ms: int) -> None:
        found = []
        current = self.host.current

        def forward(key: str, value: int, at_ms: int) -> None:
            assert (current.topic, current.timestamp) == ("input", at_ms)
            assert current.offset() == value
            found.append((at_ms, key.encode(), value, current.headers()))

        before = current.topic, current.origin, current.timestamp
        self.store.let_go(until_ms, forward)
        assert (current.topic, current.origin, current.timestamp) == before
        expected = [row for row in self.records if row[0] <= until_ms]
        # After a restart numbers begin anew: those of one time and key may change places.
        assert sorted(found, key=lambda row: row[2]) == sorted(expected, key=lambda row: row[2])
        assert [row[:2] for row in found] == [row[:2] for row in expected]
        self.records = [row for row in self.records if row[0] > until_ms]

    def commit(self) -> None:
        self.store.flush()
        self.store.apply_pending()

    def reopen(self) -> None:
        if self.store.persistent:
            self.commit()
            self.store.close()
            self.store = self.builder.build(self.host)
        else:
            self.restore()

    def restore(self) -> None:
        self.store.close()
        self.stores += 1
        before, self.host = self.host, RecordingHost(self.directory / str(self.stores))
        self.store = self.builder.build(self.host)
        self.store.restore(before.restore_records())
        self.host.changes = before.changes
        assert self.store.observed_ms >= max((row[0] for row in self.records), default=-1)

    def check_rows(self) -> None:
        kind, rows = self.store.dump()
        assert kind == "grace-buffer"
        assert [bytes.fromhex(row["key"])[1:9] for row in rows] == [
            row[0].to_bytes(8, "big") for row in self.records
        ]


@pytest.mark.parametrize("ahead", [1, 3, 1_000])
@pytest.mark.parametrize("in_memory", [True, False])
def test_records_go_in_the_order_of_time(
    in_memory: bool, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grace_buffer, "_AHEAD", ahead)

    @settings(max_examples=100 if in_memory else 20, deadline=None)
    @given(_operations)
    @example([("hold", "a", 5, True), ("reopen",), ("hold", "a", 5, False), ("let_go", 5)])
    @example([("hold", "a", 5, True), ("reopen",), ("hold", "a", 4, False), ("let_go", 4)])
    def behaves(operations: list[tuple[Any, ...]]) -> None:
        with TemporaryDirectory() as directory:
            run = Run(described(in_memory=in_memory), Path(directory))
            try:
                for operation in operations:
                    getattr(run, operation[0])(*operation[1:])
                run.check_rows()
                run.let_go(20)
                run.check_rows()
            finally:
                run.store.close()

    behaves()


def test_the_changelog_holds_the_record_and_its_deletion(tmp_path: Path) -> None:
    host = RecordingHost(tmp_path)
    store: Any = described().build(host)
    host.set_record(7, offset=3, topic="s", headers=[("h", b"1")])
    store.hold("k", 9, 7)
    store.let_go(7, lambda *_record: None)
    store.close()

    key = bytes.fromhex("00" + f"{7:016x}" + "6b" + "00000001")
    value = (
        f"{7:016x}{3:016x}"  # time and offset
        "0000000173"  # topic
        "00000000"  # partition
        "00000001"
        "0000000168"
        "0000000131"  # headers
        "ffffffff"
        "ffffffff"  # neither a prior nor an old value
        f"00000008{9:016x}"
        "0000000000000000"
    )
    assert [(one.key, one.value and one.value.hex()) for one in host.changes] == [
        (key, value),
        (key, None),
    ]
    assert [(one.timestamp, one.headers) for one in host.changes] == [(None, None)] * 2


def test_it_is_no_table(tmp_path: Path) -> None:
    store: Any = described(in_memory=True).build(RecordingHost(tmp_path))
    with pytest.raises(TypeError, match="buffer of a join"):
        store.updates(print, send_old=False)
    assert store.read_row("k") is None
    assert store.read_only().approximate_num_entries() == 0
    store.close()
