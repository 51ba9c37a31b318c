"""When a worker does what recurs: due times, time-outs, slices, and what counts as idle."""

from __future__ import annotations

import pytest

from thalweg.streams.worker.pacing import (
    FIRST_RECORDS,
    PROCESS_RECORDS,
    Every,
    Idleness,
    Pacing,
    Slices,
)

BEGIN_MS, WALL_MS = 5_000.0, 1_000_000_000


def pacing_of(**given: int) -> Pacing:
    """Returns a pacing that has begun."""
    settings = {
        "commit_interval_ms": 1_000,
        "purge_interval_ms": 30_000,
        "cleanup_delay_ms": 600_000,
        "poll_ms": 100,
        **given,
    }
    pacing = Pacing(**settings)
    pacing.begin(BEGIN_MS)
    pacing.next_punctuation_ms = WALL_MS + 1_000_000
    return pacing


def test_intervals_count_from_the_beginning_of_the_loop() -> None:
    pacing = pacing_of()
    for one, interval_ms in (
        (pacing.commit, 1_000),
        (pacing.purge, 30_000),
        (pacing.cleanup, 600_000),
    ):
        assert not one.is_due(BEGIN_MS + interval_ms - 1)
        assert one.is_due(BEGIN_MS + interval_ms)
        one.done(BEGIN_MS + interval_ms)
        assert not one.is_due(BEGIN_MS + interval_ms + 1)


def test_an_interval_of_nothing_is_always_due() -> None:
    every = Every(0)
    every.done(7)
    assert every.is_due(7)


def test_old_state_is_looked_for_at_most_once_a_second() -> None:
    assert pacing_of(cleanup_delay_ms=0).cleanup.interval_ms == 1_000


def test_processing_ends_when_a_commit_is_due() -> None:
    pacing = pacing_of()
    assert pacing.processing_ends_ms == BEGIN_MS + 1_000
    pacing.commit.done(BEGIN_MS + 1_010)
    assert pacing.processing_ends_ms == BEGIN_MS + 2_010
    assert pacing_of(commit_interval_ms=0).processing_ends_ms == BEGIN_MS + 1


@pytest.mark.parametrize(
    ("passed_ms", "punctuation_in_ms", "expected"),
    [
        (0, 10_000, 100),  # nothing is due before
        (950, 10_000, 50),  # the next commit
        (1_200, 10_000, 0),  # a commit that is overdue
        (0, 30, 30),  # the next punctuation
        (0, -30, 0),  # one that is overdue
    ],
)
def test_a_poll_waits_until_something_is_due(
    passed_ms: int, punctuation_in_ms: int, expected: int
) -> None:
    pacing = pacing_of()
    pacing.next_punctuation_ms = WALL_MS + punctuation_in_ms
    assert pacing.poll_timeout_ms(BEGIN_MS + passed_ms, WALL_MS) == expected


def test_a_commit_in_each_round_does_not_shorten_a_poll() -> None:
    pacing = pacing_of(commit_interval_ms=0)
    assert pacing.poll_timeout_ms(BEGIN_MS + 5_000, WALL_MS) == 100


@pytest.mark.parametrize(("poll_ms", "expected"), [(5, 5), (100, 100), (3_000, 100)])
def test_without_tasks_it_looks_often_whether_it_is_given_some(poll_ms: int, expected: int) -> None:
    assert pacing_of(poll_ms=poll_ms).idle_ms == expected


def test_a_failure_that_lasts_is_told_now_and_then() -> None:
    pacing = pacing_of()
    assert pacing.is_news(0)
    assert not pacing.is_news(9_999)
    assert pacing.is_news(10_000)
    assert not pacing.is_news(10_001)


def test_a_slice_grows_while_records_are_quick_and_shrinks_when_they_are_not() -> None:
    slices = Slices()
    assert slices.most("a") == FIRST_RECORDS == 16
    slices.note("a", 16, 1)
    assert slices.most("a") == 32
    slices.note("a", 31, 1)  # no more were there: that says nothing
    assert slices.most("a") == 32
    slices.note("a", 32, 100)  # 3.125 ms each, and 50 ms are allowed
    assert slices.most("a") == 16
    slices.note("a", 1, 900)
    assert slices.most("a") == 1
    assert slices.most("b") == FIRST_RECORDS
    for _ in range(20):
        slices.note("b", slices.most("b"), 1)
    assert slices.most("b") == PROCESS_RECORDS


def test_two_commits_in_a_row_must_have_found_nothing_to_do() -> None:
    idleness = Idleness()
    idleness.note_commit(10)
    assert not idleness.is_idle
    idleness.note_commit(10)
    assert idleness.is_idle
    idleness.note_records()
    assert not idleness.is_idle
    idleness.note_commit(12)
    assert not idleness.is_idle
    idleness.note_commit(None)
    idleness.note_commit(12)
    assert not idleness.is_idle
    idleness.note_commit(12)
    assert idleness.is_idle
