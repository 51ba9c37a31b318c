"""What loops note of themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams.samples import SAMPLE_MS, Measure


def test_nothing_noted_is_nothing_told() -> None:
    assert Measure().recent(0) is None


def test_totals_are_of_all_time_and_extremes_of_late() -> None:
    measure = Measure()
    measure.note(100.0, 0)
    measure.note(2.0, SAMPLE_MS * 5)
    measure.note(4.0, SAMPLE_MS * 5 + 1)

    assert (measure.count, measure.total) == (3, 106.0)
    recent = measure.recent(SAMPLE_MS * 5 + 2)
    assert recent is not None
    assert (recent.value_count, recent.average, recent.least, recent.most) == (2, 3.0, 2.0, 4.0)


def test_the_sample_before_counts_while_the_next_one_fills() -> None:
    measure = Measure()
    measure.note(9.0, 0)
    measure.note(1.0, SAMPLE_MS)

    recent = measure.recent(SAMPLE_MS + 1)

    assert recent is not None
    assert (recent.least, recent.most) == (1.0, 9.0)


def test_what_is_old_is_not_told() -> None:
    measure = Measure()
    measure.note(9.0, 0)

    assert measure.recent(2 * SAMPLE_MS - 1) is not None
    assert measure.recent(2 * SAMPLE_MS) is None


@given(st.lists(st.tuples(st.integers(0, 40_000), st.floats(-1e6, 1e6)), min_size=1, max_size=40))
def test_recent_values_cover_half_a_minute_and_at_most_a_minute(
    steps: list[tuple[int, float]],
) -> None:
    measure, now_ms, noted = Measure(), 0, []
    for step_ms, value in steps:
        now_ms += step_ms
        measure.note(value, now_ms)
        noted.append((now_ms, value))

    recent = measure.recent(now_ms)

    assert recent is not None
    late = [v for at, v in noted if at > now_ms - SAMPLE_MS]
    latest = [v for at, v in noted if at > now_ms - 2 * SAMPLE_MS]
    assert min(latest) <= recent.least <= min(late)
    assert max(late) <= recent.most <= max(latest)
    assert len(late) <= recent.value_count <= len(latest)
    assert measure.count == len(noted)
