"""The newest rows in memory: complete from a time on, whatever went for want of room."""

from __future__ import annotations

from bisect import insort_right
from operator import itemgetter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.rows.recent import RecentRows

_rows = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(1, 5)))


@given(_rows, st.integers(0, 40), st.integers(1, 60))
def test_reads_from_the_complete_time_on_find_every_row(
    rows: list[tuple[str, int, int]], reach_ms: int, max_bytes: int
) -> None:
    recent = RecentRows(reach_ms, lambda: max_bytes, lambda: -1)
    every: dict[str, list[tuple[int, Any]]] = {}
    complete_from = recent.complete_from_ms
    for number, (key, start_ms, weight) in enumerate(rows):
        recent.add(key, start_ms, number, weight)
        insort_right(every.setdefault(key, []), (start_ms, number), key=itemgetter(0))
        assert recent.complete_from_ms >= complete_from
        complete_from = recent.complete_from_ms
        for asked in "abc":
            for from_ms in range(complete_from, 61, 7):
                for to_ms in (from_ms, from_ms + reach_ms, 61):
                    found = list(recent.read(asked, from_ms, to_ms))
                    assert found == [
                        row for row in every.get(asked, ()) if from_ms <= row[0] <= to_ms
                    ]


def test_spans_below_the_live_rows_go_when_a_span_begins() -> None:
    live_from = 0
    recent = RecentRows(20, lambda: 1_000, lambda: live_from)
    for start_ms in range(0, 100, 10):
        recent.add("k", start_ms, start_ms, 1)
    assert recent.span_count == 10

    live_from = 75
    recent.add("k", 100, 100, 1)

    assert recent.span_count == 4
    assert recent.complete_from_ms == 70
    assert list(recent.read("k", 70, 100)) == [(ms, ms) for ms in (70, 80, 90, 100)]


def test_what_starts_before_the_complete_time_is_not_taken_in() -> None:
    recent = RecentRows(20, lambda: 1_000, lambda: -1)
    recent.clear(95)  # rounded up to a whole span
    recent.add("k", 96, "early", 1)
    recent.add("k", 100, "in time", 1)

    assert recent.complete_from_ms == 100
    assert list(recent.read("k", 0, 200)) == [(100, "in time")]
