"""How far changelogs are written, by counting: against a log with other writers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thalweg.streams.transport.changelog_ends import WrittenOffsets
from thalweg.streams.transport.port import TopicPartition

ZERO, ONE = TopicPartition("changelog", 0), TopicPartition("changelog", 1)


def counting(ends: Mapping[TopicPartition, int], *, transactional: bool) -> WrittenOffsets:
    return WrittenOffsets(ends.__getitem__, transactional=transactional)


def test_nothing_is_told_before_something_is_flushed() -> None:
    written = counting({ZERO: 5}, transactional=False)
    written.counts("changelog")[0] += 1

    assert written.offsets() == {}


def test_records_are_counted_from_the_end_before_the_first() -> None:
    written = counting({ZERO: 5, ONE: 0}, transactional=False)
    counts = written.counts("changelog")
    for partition in (0, 1, 0, 0):
        counts[partition] += 1
    written.flushed()

    assert written.offsets() == {ZERO: 8, ONE: 1}


def test_the_end_is_asked_for_once() -> None:
    asked = []

    def end_of(partition: TopicPartition) -> int:
        asked.append(partition)
        return 0

    written = WrittenOffsets(end_of, transactional=False)
    for _ in range(3):
        written.counts("changelog")[0] += 1
        written.flushed()

    assert asked == [ZERO]
    assert written.offsets() == {ZERO: 3}


def test_the_end_is_not_asked_for_where_it_was_noted() -> None:
    written = counting({}, transactional=False)
    written.note_end(ZERO, 100)
    written.counts("changelog")[0] += 1
    written.flushed()

    assert written.offsets() == {ZERO: 101}


def test_a_transactions_marker_counts_with_the_records_behind_it() -> None:
    written = counting({ZERO: 0}, transactional=True)
    counts = written.counts("changelog")
    seen = []
    for _ in range(3):
        counts[0] += 2
        written.flushed()
        written.committed()
        seen.append(written.offsets()[ZERO])

    # Records at 0 1, 3 4, 6 7; markers at 2, 5, 8.
    assert seen == [2, 5, 8]


def test_flushing_twice_in_a_transaction_counts_one_marker() -> None:
    written = counting({ZERO: 0}, transactional=True)
    counts = written.counts("changelog")
    for _ in range(2):
        counts[0] += 1
        written.flushed()
    written.committed()
    counts[0] += 1
    written.flushed()

    assert written.offsets() == {ZERO: 4}


def test_an_aborted_transaction_is_forgotten_and_the_marker_before_it_is_not() -> None:
    written = counting({ZERO: 0}, transactional=True)
    counts = written.counts("changelog")
    counts[0] += 1
    written.flushed()
    written.committed()
    counts[0] += 5
    written.flushed()
    counts[0] += 5
    written.aborted()
    assert written.offsets() == {ZERO: 1}
    counts[0] += 1
    written.flushed()

    assert written.offsets() == {ZERO: 3}


def test_an_end_noted_while_records_are_under_way_is_not_taken() -> None:
    written = counting({ZERO: 0}, transactional=False)
    written.counts("changelog")[0] += 3
    written.note_end(ZERO, 2)
    written.flushed()

    assert written.offsets() == {ZERO: 3}


@pytest.mark.parametrize("transactional", [False, True])
def test_counting_begins_anew_where_a_task_returns(transactional: bool) -> None:
    written = counting({ZERO: 0}, transactional=transactional)
    counts = written.counts("changelog")
    counts[0] += 1
    written.flushed()
    written.committed()
    written.note_end(ZERO, 50)
    counts[0] += 1
    written.flushed()

    assert written.offsets() == {ZERO: 51}


class Log(RuleBasedStateMachine):
    """A changelog with a transport that counts, another writer, and restoring tasks."""

    @initialize(transactional=st.booleans())
    def begin(self, transactional: bool) -> None:
        self.transactional = transactional
        self.end = 0
        self.own_end = 0
        self.in_flight = 0
        self.in_transaction = False
        self.has_others = False
        self.written = WrittenOffsets(lambda _: self.end, transactional=transactional)
        self.counts = self.written.counts("changelog")

    @rule(records=st.integers(1, 5))
    def send(self, records: int) -> None:
        for _ in range(records):
            self.counts[0] += 1
        self.in_flight += records

    @rule()
    def flush(self) -> None:
        self.arrive()
        self.written.flushed()

    def arrive(self) -> None:
        if self.in_flight:
            self.end += self.in_flight
            self.own_end = self.end
            self.in_transaction = self.transactional
            self.in_flight = 0

    @rule()
    def commit(self) -> None:
        self.flush()
        self.written.committed()
        if self.in_transaction:
            self.end += 1
            self.in_transaction = False

    @precondition(lambda self: self.transactional)
    @rule()
    def abort(self) -> None:
        self.arrive()
        if self.in_transaction:
            self.end += 1
            self.in_transaction = False
            self.has_others = True
        self.own_end = 0
        self.written.aborted()

    @rule(records=st.integers(1, 5))
    def others_write(self, records: int) -> None:
        self.end += records
        self.has_others = True

    @precondition(lambda self: not self.in_flight and not self.in_transaction)
    @rule()
    def restore(self) -> None:
        self.written.note_end(ZERO, self.end)
        self.own_end = self.end
        self.has_others = False

    @invariant()
    def never_more_than_was_written(self) -> None:
        told = self.written.offsets().get(ZERO) if hasattr(self, "written") else None
        if told is None:
            return
        assert told <= self.end
        if not self.has_others and not self.in_flight and self.own_end:
            assert told == self.own_end
        if self.own_end:
            assert told <= self.own_end or self.in_flight


TestLog = Log.TestCase
TestLog.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
