"""Window rows in segments: where they stand, when they expire, what scans find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.formats import encode_window_key, pack_int64
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.rows.segments import SegmentedRows, window_key_of


class LastingByteStore(MemoryByteStore):
    """A backend of which the store above believes that it outlives the process."""

    @property
    def persistent(self) -> bool:
        return True


class Rows:
    """Window rows that keep 100 ms, in segments of 30 ms where they are on disk."""

    def __init__(
        self,
        backend: MemoryByteStore | RocksByteStore,
        *,
        retention_ms: int = 100,
        segment_interval_ms: int = 30,
        retain_duplicates: bool = False,
    ) -> None:
        self.expired = 0
        self.backend = backend
        self.segments = SegmentedRows(
            PendingByteStore(backend),
            retention_ms=retention_ms,
            segment_interval_ms=segment_interval_ms,
            retain_duplicates=retain_duplicates,
            expired=self._count,
        )

    def _count(self) -> None:
        self.expired += 1

    def put(self, *starts: int, key: bytes = b"k") -> None:
        for start in starts:
            self.segments.put(key, start, b"%d" % start)

    def commit(self) -> None:
        self.segments.rows.apply()

    def starts(self) -> list[int]:
        return [window_key_of(row_key)[1] for row_key, _ in self.segments.all()]


def on_disk(**settings: int | bool) -> Rows:
    return Rows(LastingByteStore("w"), **settings)  # type: ignore[arg-type]


def in_memory(**settings: int | bool) -> Rows:
    return Rows(MemoryByteStore("w"), **settings)  # type: ignore[arg-type]


def test_a_row_stands_at_segment_key_start_and_seqnum() -> None:
    rows = on_disk()
    rows.put(70, key=b"key")
    rows.commit()

    assert list(rows.backend.range()) == [
        (pack_int64(2) + b"key" + pack_int64(70) + bytes(4), b"70")
    ]


def test_on_disk_a_put_is_dropped_when_its_segment_is_dead() -> None:
    rows = on_disk()
    rows.put(200)
    rows.put(90)  # 200 - 100 is in the segment that begins at 90
    assert rows.expired == 0
    rows.put(89)
    assert rows.expired == 1

    # Both are hidden: rows are kept for the 100 ms after their start.
    assert rows.starts() == [200]
    assert rows.segments.get(b"k", 90) is None
    rows.put(101)
    assert rows.starts() == [101, 200]


def test_in_memory_a_put_is_dropped_when_it_is_expired_itself() -> None:
    rows = in_memory()
    rows.put(200)
    rows.put(100)
    assert rows.expired == 1
    rows.put(101)
    assert rows.expired == 1

    assert rows.starts() == [101, 200]


def test_time_is_the_highest_start_that_was_put_even_if_it_deletes() -> None:
    for rows in (on_disk(), in_memory()):
        rows.put(100)
        rows.segments.put(b"other", 250, None)

        assert rows.segments.observed_ms == 250
        assert rows.starts() == []


@pytest.mark.parametrize("make", [on_disk, in_memory])
def test_expired_rows_leave_the_backend_with_the_next_commit(make: Callable[..., Rows]) -> None:
    rows = make()
    rows.put(0, 30, 60)
    rows.commit()
    assert rows.backend.approximate_count() == 3

    rows.put(160)
    assert rows.backend.approximate_count() == 3
    rows.commit()

    assert [window_key_of(key)[1] for key, _ in rows.backend.range()] == (
        [60, 160] if make is on_disk else [160]
    )


def test_a_row_that_expires_before_its_commit_is_never_written() -> None:
    rows = on_disk()
    rows.put(0, 500)
    rows.commit()

    assert [window_key_of(key)[1] for key, _ in rows.backend.range()] == [500]


def test_deleted_rows_are_gone() -> None:
    for rows in (on_disk(), in_memory()):
        rows.put(10, 20)
        rows.commit()
        rows.segments.put(b"k", 10, None)
        assert rows.starts() == [20]
        rows.commit()
        assert rows.starts() == [20]


def test_nothing_uncommitted_survives(tmp_path: Path) -> None:
    rows = Rows(RocksByteStore("w", tmp_path))
    rows.put(10, 40)
    rows.commit()
    rows.put(50, 300)
    rows.segments.rows.close()

    again = Rows(RocksByteStore("w", tmp_path))
    assert again.starts() == [10, 40]
    again.segments.rows.close()


def test_a_store_opened_again_knows_time_by_its_newest_segment(tmp_path: Path) -> None:
    rows = Rows(RocksByteStore("w", tmp_path))
    rows.put(95, 200)
    rows.commit()
    assert rows.starts() == [200]
    rows.segments.rows.close()

    again = Rows(RocksByteStore("w", tmp_path))
    # 200 is in the segment that begins at 180: rows up to 80 are known to be expired.
    assert again.segments.observed_ms == 180
    assert again.starts() == [95, 200]
    again.put(59)
    assert again.expired == 1
    again.segments.rows.close()


# Scans.


def test_rows_of_longer_keys_that_begin_alike_are_not_found() -> None:
    for rows in (on_disk(), in_memory()):
        for key in (b"k", b"k\0", b"k\0\0\0\0\0\0\0\0\0\0\0\0", b"", b"kk"):
            rows.put(10, 40, 70, key=key)

        found = list(rows.segments.fetch(b"k", 10, 40))

        assert [(window_key_of(key), value) for key, value in found] == [
            ((b"k", 10), b"10"),
            ((b"k", 40), b"40"),
        ]


def test_scans_go_segment_by_segment() -> None:
    rows = on_disk()
    rows.put(10, 40, key=b"b")
    rows.put(20, 50, key=b"a")

    found = [window_key_of(key) for key, _ in rows.segments.all()]
    assert found == [(b"a", 20), (b"b", 10), (b"a", 50), (b"b", 40)]
    backward = [window_key_of(key) for key, _ in rows.segments.all(reverse=True)]
    assert backward == found[::-1]


def test_in_memory_scans_go_by_time() -> None:
    rows = in_memory()
    rows.put(10, 40, key=b"b")
    rows.put(20, 40, key=b"a")

    found = [window_key_of(key) for key, _ in rows.segments.all()]
    assert found == [(b"b", 10), (b"a", 20), (b"a", 40), (b"b", 40)]


def test_spans_out_of_all_time_find_nothing_or_everything() -> None:
    for rows in (on_disk(), in_memory()):
        assert list(rows.segments.fetch(b"k", 0, 2**63 - 1)) == []
        rows.put(10, 20)
        assert len(list(rows.segments.fetch(b"k", -(2**63), 2**63 - 1))) == 2
        assert len(list(rows.segments.fetch(b"k", -5, 2**70))) == 2
        assert list(rows.segments.fetch(b"k", 20, 10)) == []
        assert list(rows.segments.fetch(b"k", 2**70, 2**71)) == []


keys = st.sampled_from([b"", b"a", b"a\0", b"ab", b"b\xff"])
starts = st.integers(0, 150)


@given(
    st.lists(st.tuples(keys, starts), max_size=25),
    st.none() | keys,
    st.none() | keys,
    starts,
    starts,
    st.integers(1, 40),
    st.booleans(),
)
def test_scans_find_what_is_there(
    puts: list[tuple[bytes, int]],
    lower: bytes | None,
    upper: bytes | None,
    from_ms: int,
    to_ms: int,
    interval: int,
    is_on_disk: bool,
) -> None:
    rows = (on_disk if is_on_disk else in_memory)(retention_ms=1000, segment_interval_ms=interval)
    for number, (key, start) in enumerate(puts):
        rows.segments.put(key, start, b"%d" % start)
        if number == 10:
            rows.commit()
    if not is_on_disk:
        interval = 1
    ordered = sorted(
        set(puts), key=lambda row: (row[1] // interval, encode_window_key(row[0], row[1]))
    )
    in_span = [row for row in ordered if from_ms <= row[1] <= to_ms]
    in_range = [
        row
        for row in in_span
        if (lower is None or row[0] >= lower) and (upper is None or row[0] <= upper)
    ]

    for shared in (False, True):
        for reverse in (False, True):

            def found(scan: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, int]]:
                return [window_key_of(row_key) for row_key, _ in scan]

            step = -1 if reverse else 1
            segments = rows.segments
            assert (
                found(
                    segments.fetch_range(
                        lower, upper, from_ms, to_ms, reverse=reverse, shared=shared
                    )
                )
                == in_range[::step]
            )
            assert found(segments.all(reverse=reverse, shared=shared)) == ordered[::step]
            if lower is not None:
                of_key = [row for row in in_span if row[0] == lower]
                assert (
                    found(segments.fetch(lower, from_ms, to_ms, reverse=reverse, shared=shared))
                    == of_key[::step]
                )


# Duplicates.


@pytest.mark.parametrize("make", [on_disk, in_memory])
def test_duplicates_are_kept_in_the_order_of_their_puts(make: Callable[..., Rows]) -> None:
    rows = make(retain_duplicates=True)
    for value in (b"one", b"two", b"three"):
        rows.segments.put(b"k", 10, value)
    rows.segments.put(b"k", 10, None)  # deletes nothing
    rows.commit()
    rows.segments.put(b"k", 10, b"four")

    assert [value for _, value in rows.segments.fetch(b"k", 10, 10)] == [
        b"one", b"two", b"three", b"four",
    ]  # fmt: skip
    assert rows.segments.get(b"k", 10) == b"four"
    assert rows.segments.get(b"k", 11) is None


def test_a_store_opened_again_does_not_overwrite_duplicates(tmp_path: Path) -> None:
    for value in (b"one", b"two"):
        rows = Rows(RocksByteStore("w", tmp_path), retain_duplicates=True)
        rows.segments.put(b"k", 10, value)
        rows.commit()
        rows.segments.rows.close()

    rows = Rows(RocksByteStore("w", tmp_path), retain_duplicates=True)
    assert [value for _, value in rows.segments.fetch(b"k", 10, 10)] == [b"one", b"two"]
    rows.segments.rows.close()


# Restoration.


@pytest.mark.parametrize("make", [on_disk, in_memory])
def test_what_is_expired_is_not_restored(make: Callable[..., Rows]) -> None:
    rows = make()
    rows.segments.restore(
        [(encode_window_key(b"k", start), b"%d" % start) for start in (10, 20, 300, 50, 250)]
    )

    assert rows.starts() == [250, 300]
    assert rows.segments.observed_ms == 300
    assert rows.segments.rows.pending_count == 0
    rows.commit()
    assert [window_key_of(key)[1] for key, _ in rows.backend.range()] == [250, 300]
    assert rows.expired == 0


def test_restored_duplicates_are_counted_on() -> None:
    rows = on_disk(retain_duplicates=True)
    rows.segments.restore([(encode_window_key(b"k", 10, 7), b"old")])

    assert rows.segments.put(b"k", 10, b"new") == 8
    assert [value for _, value in rows.segments.fetch(b"k", 0, 99)] == [b"old", b"new"]
