"""What the embedded log forgets: retention by age, compaction by key."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.record import offset_of
from thalweg.streams.errors import OffsetOutOfRangeError
from thalweg.streams.transport.log.cleaner import RETENTION_CHECK_MS
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.log.formats import chunk_head
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import NewTopic, TopicPartition

AT = TopicPartition("t", 0)
DAY_MS = 86_400_000

Content = tuple[bytes, bytes | None]


class Rows(MemoryByteStore):
    """A byte store that outlives its log."""

    def __init__(self) -> None:
        super().__init__("rows")

    def close(self) -> None:
        pass


class Bench:
    """A log with one topic of one partition, a clock, and eyes for its chunks."""

    def __init__(self, *, dirty_records_min: int = 10, **configs: str) -> None:
        self.rows = Rows()
        self.dirty_records_min = dirty_records_min
        self.now_ms = 100 * DAY_MS
        self.reopen()
        named = {name.replace("_", "."): value for name, value in configs.items()}
        self.transport.create_topics([NewTopic("t", 1, configs=named)])

    def reopen(self) -> None:
        self.log = LocalLog(self.rows, place="here", dirty_records_min=self.dirty_records_min)
        self.transport = MemoryTransport(self.log, "app", now_ms=lambda: self.now_ms)

    def commit(self, contents: Iterable[Content], timestamp: int | None = None) -> None:
        send = self.transport.sender("t")
        for key, value in contents:
            send(key, value, timestamp, None, None)
        self.transport.commit({})

    def settle(self) -> None:
        """Commits until the cleaner has nothing more to do."""
        self.transport.create_topics([NewTopic("elsewhere", 1)])
        for _ in range(100):
            self.transport.sender("elsewhere")(b"k", b"v", 0, None, None)
            self.transport.commit({})

    def records(self, position: int | None = None) -> list[tuple[int, bytes | None, bytes | None]]:
        """Reads all there is: (offset, key, value)."""
        reader = self.transport.reader()
        begin = self.transport.begin_offsets([AT])[AT]
        reader.add({AT: begin if position is None else position})
        end = self.transport.end_offsets([AT])[AT]
        found = []
        while reader.position(AT) < end:
            for _, records in reader.poll(7, 0):
                found += [(offset_of(r[3]), r[1], r[2]) for r in records]
        reader.close()
        return found

    def chunk_count(self) -> int:
        return len(self.chunks())

    def chunks(self) -> list[bytes]:
        prefix = self.log.partition(AT).chunks_prefix
        return [value for key, value in self.rows.range() if key.startswith(prefix)]


def last_values(contents: Iterable[Content]) -> dict[bytes, bytes | None]:
    return dict(contents)


# -- compaction ------------------------------------------------------------------------------


def test_the_last_record_of_each_key_stays_with_its_offset() -> None:
    bench = Bench(cleanup_policy="compact")

    bench.commit([(b"k%d" % (n % 3), b"v%d" % n) for n in range(20)])

    assert bench.records() == [
        (17, b"k2", b"v17"),
        (18, b"k0", b"v18"),
        (19, b"k1", b"v19"),
    ]
    assert bench.transport.begin_offsets([AT]) == {AT: 0}
    assert bench.transport.end_offsets([AT]) == {AT: 20}


def test_compaction_waits_for_enough_dirty_records() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=10)
    bench.commit([(b"k", b"%d" % n) for n in range(9)])
    bench.settle()
    assert len(bench.records()) == 9

    bench.commit([(b"k", b"9")])
    bench.settle()

    assert bench.records() == [(9, b"k", b"9")]


def test_compaction_waits_until_the_dirty_part_is_large_beside_the_rest() -> None:
    bench = Bench(cleanup_policy="compact", min_cleanable_dirty_ratio="0.5", dirty_records_min=10)
    bench.commit([(b"%d" % n, b"old") for n in range(40)])

    bench.commit([(b"0", b"new") for _ in range(39)])
    bench.settle()
    assert len(bench.records()) == 79
    bench.commit([(b"0", b"new")])
    bench.settle()

    assert len(bench.records()) == 40


def test_compaction_goes_on_over_many_commits_and_loses_nothing() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=100)
    expected: dict[bytes, bytes | None] = {}
    for turn in range(60):
        contents = [(b"k%d" % (n * turn % 250), b"%d-%d" % (turn, n)) for n in range(173)]
        expected.update(contents)
        bench.commit(contents)
        found = bench.records()
        offsets = [offset for offset, _, _ in found]
        assert offsets == sorted(set(offsets))
        assert {key: value for _, key, value in found} == expected
    assert len(bench.records()) < 60 * 173 / 4
    assert bench.chunk_count() < 10


def test_a_position_within_joined_chunks_is_found() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=30)
    for turn in range(10):
        bench.commit([(b"k%d" % (n if n < 2 else turn + 2), b"%d" % turn) for n in range(3)])
    bench.settle()
    assert bench.chunk_count() == 1
    remaining = bench.records()
    assert len(remaining) < 30

    for position in range(31):
        expected = [record for record in remaining if record[0] >= position]
        assert bench.records(position) == expected


def test_a_reader_under_way_is_not_disturbed_by_compaction() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=40)
    for turn in range(13):
        bench.commit([(b"k%d" % n, b"%d" % turn) for n in range(3)])
    reader = bench.transport.reader()
    reader.add({AT: 0})
    state: dict[bytes | None, bytes | None] = {}
    for _ in range(3):
        ((_, records),) = reader.poll(4, 0)
        state.update((record[1], record[2]) for record in records)

    bench.commit([(b"other", b"1")])
    bench.settle()
    assert len(bench.records()) == 4
    while reader.position(AT) < 40:
        for _, records in reader.poll(4, 0):
            state.update((record[1], record[2]) for record in records)

    assert state == {b"k0": b"12", b"k1": b"12", b"k2": b"12", b"other": b"1"}


def test_tombstones_stay_for_a_while_and_then_go() -> None:
    bench = Bench(cleanup_policy="compact", delete_retention_ms=str(DAY_MS), dirty_records_min=4)
    bench.commit([(b"a", b"1"), (b"b", b"1"), (b"a", None), (b"c", b"1")])
    assert bench.records() == [(1, b"b", b"1"), (2, b"a", None), (3, b"c", b"1")]

    bench.now_ms += DAY_MS
    bench.commit([(b"d", b"%d" % n) for n in range(5)])
    assert (2, b"a", None) in bench.records()
    bench.now_ms += 1
    bench.commit([(b"d", b"%d" % n) for n in range(5, 10)])

    assert bench.records() == [(1, b"b", b"1"), (3, b"c", b"1"), (13, b"d", b"9")]


def test_a_tombstone_without_a_value_before_it_stays_as_long() -> None:
    bench = Bench(cleanup_policy="compact", delete_retention_ms="0", dirty_records_min=2)

    bench.commit([(b"a", None), (b"b", b"1")])

    # A reader that restores a store from an old checkpoint must still hear of it.
    assert (0, b"a", None) in bench.records()
    bench.now_ms += 1
    bench.commit([(b"b", b"2"), (b"b", b"3")])
    assert bench.records() == [(3, b"b", b"3")]


def test_records_above_a_lag_are_left_alone() -> None:
    bench = Bench(cleanup_policy="compact", min_compaction_lag_ms=str(DAY_MS), dirty_records_min=4)
    old = bench.now_ms - 2 * DAY_MS
    bench.commit([(b"a", b"1"), (b"a", b"2")], old)
    bench.commit([(b"a", b"3"), (b"a", b"4")], bench.now_ms)
    bench.settle()
    assert bench.records() == [(1, b"a", b"2"), (2, b"a", b"3"), (3, b"a", b"4")]

    bench.now_ms += DAY_MS
    bench.commit([(b"b", b"1"), (b"b", b"2")], bench.now_ms)
    bench.settle()

    assert bench.records() == [(3, b"a", b"4"), (4, b"b", b"1"), (5, b"b", b"2")]


def test_topics_that_are_not_compacted_keep_everything() -> None:
    bench = Bench(dirty_records_min=1)
    bench.commit([(b"k", b"%d" % n) for n in range(50)])
    bench.settle()
    assert len(bench.records()) == 50


def test_uncommitted_records_are_not_compacted() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=2)
    reader = bench.transport.reader()
    reader.add({AT: 0})
    bench.transport.sender("t")(b"k", b"mine", 0, None, None)
    reader.poll(10, 0)
    other = MemoryTransport(bench.log, now_ms=lambda: bench.now_ms)
    other.create_topics([NewTopic("elsewhere", 1, configs={"cleanup.policy": "compact"})])
    for topic in ("t", "elsewhere"):
        for value in (b"1", b"2", b"3"):
            other.sender(topic)(b"k", value, 0, None, None)
    other.commit({})

    bench.transport.abort()
    bench.commit([(b"z", b"")])

    assert bench.records()[-2:] == [(3, b"k", b"3"), (4, b"z", b"")]


def test_records_behind_a_claim_replace_nothing_yet() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=1000)
    bench.commit([(b"a", b"1"), (b"b", b"1"), (b"b", b"2")])
    bench.dirty_records_min = 3
    bench.reopen()
    reader = bench.transport.reader()
    reader.add({AT: 3})
    bench.transport.sender("t")(b"k", b"mine", 0, None, None)
    reader.poll(10, 0)
    other = MemoryTransport(bench.log, now_ms=lambda: bench.now_ms)
    other.sender("t")(b"a", b"2", 0, None, None)

    other.commit({})

    assert bench.records(0) == [(0, b"a", b"1"), (2, b"b", b"2"), (3, b"k", b"mine")]
    bench.transport.commit({})
    assert bench.records(0)[2:] == [(3, b"k", b"mine"), (4, b"a", b"2")]


def test_what_is_cleaned_is_known_after_a_restart() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=10)
    bench.commit([(b"%d" % n, b"1") for n in range(10)])
    bench.reopen()

    bench.commit([(b"0", b"2") for _ in range(9)])
    bench.settle()
    assert len(bench.records()) == 19
    bench.commit([(b"0", b"3")])
    bench.settle()

    assert len(bench.records()) == 10


def test_a_dirty_part_left_by_an_earlier_process_is_compacted() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=1000)
    bench.commit([(b"k", b"%d" % n) for n in range(100)])
    bench.dirty_records_min = 10

    bench.reopen()
    bench.settle()

    assert bench.records() == [(99, b"k", b"99")]


def test_a_run_that_was_cut_short_is_made_again() -> None:
    bench = Bench(cleanup_policy="compact", dirty_records_min=20_000, delete_retention_ms="0")
    # The first commit's slice is far smaller than the whole.
    for turn in range(2):
        bench.commit([(b"%d" % n, b"%d" % turn) for n in range(9_000)])
    bench.commit([(b"%d" % n, None) for n in range(1_990)])
    bench.commit([(b"z", b"") for _ in range(10)])
    assert len(bench.records()) > 9_001
    bench.now_ms += DAY_MS
    bench.reopen()

    bench.settle()

    state = {key: value for _, key, value in bench.records()}
    assert len(bench.records()) == len(state) == 9_001
    assert [key for key, value in state.items() if value is None] == [
        b"%d" % n for n in range(1_990)
    ]
    assert all(chunk_head(chunk).record_count <= 1000 for chunk in bench.chunks())


# -- retention -------------------------------------------------------------------------------


def test_chunks_go_when_their_newest_record_is_too_old() -> None:
    bench = Bench(retention_ms=str(DAY_MS))
    bench.commit([(b"a", b"1"), (b"a", b"2")], bench.now_ms - DAY_MS)
    bench.commit([(b"a", b"3")], bench.now_ms)
    assert len(bench.records()) == 3

    bench.now_ms += RETENTION_CHECK_MS
    bench.settle()

    assert bench.records() == [(2, b"a", b"3")]
    assert bench.transport.begin_offsets([AT]) == {AT: 2}
    assert bench.transport.end_offsets([AT]) == {AT: 3}
    with pytest.raises(OffsetOutOfRangeError):
        bench.records(1)


def test_everything_may_go_and_offsets_go_on() -> None:
    bench = Bench(retention_ms="1000")
    bench.commit([(b"a", b"1"), (b"a", b"2")], bench.now_ms)
    bench.now_ms += DAY_MS
    bench.settle()
    assert bench.transport.begin_offsets([AT]) == bench.transport.end_offsets([AT]) == {AT: 2}
    assert bench.chunk_count() == 0
    bench.reopen()

    bench.commit([(b"a", b"3")], bench.now_ms)

    assert bench.records() == [(2, b"a", b"3")]


def test_an_old_chunk_behind_a_young_one_waits_for_it() -> None:
    bench = Bench(retention_ms="1000")
    bench.commit([(b"a", b"young")], bench.now_ms)
    bench.commit([(b"a", b"old")], 0)
    bench.now_ms += 500
    bench.settle()
    assert len(bench.records()) == 2


@pytest.mark.parametrize("configs", [{}, {"retention_ms": "-1"}])
def test_without_retention_old_records_stay_for_ever(configs: dict[str, str]) -> None:
    bench = Bench(**configs)
    bench.commit([(b"a", b"1")], 0)
    bench.now_ms += 10_000 * DAY_MS
    bench.settle()
    assert bench.records() == [(0, b"a", b"1")]


def test_a_changelog_of_windows_follows_stream_time_where_it_is_behind() -> None:
    bench = Bench(cleanup_policy="compact,delete", retention_ms="1000", dirty_records_min=1_000_000)
    for start in (0, 500, 1_000):
        bench.commit([(b"w%d" % start, b"1")], start)
    bench.now_ms += DAY_MS
    bench.reopen()
    bench.settle()
    assert len(bench.records()) == 3

    bench.commit([(b"w1600", b"1")], 1_600)
    bench.now_ms += RETENTION_CHECK_MS
    bench.settle()

    assert [key for _, key, _ in bench.records()] == [b"w1000", b"w1600"]


def test_stream_time_of_a_changelog_outlives_a_restart() -> None:
    bench = Bench(cleanup_policy="compact,delete", retention_ms="1000")
    bench.commit([(b"w0", b"1")], 0)
    bench.commit([(b"w5000", b"1")], 5_000)
    assert len(bench.records()) == 2

    bench.reopen()
    bench.settle()

    assert [key for _, key, _ in bench.records()] == [b"w5000"]


def test_a_record_from_the_future_does_not_empty_a_changelog() -> None:
    bench = Bench(cleanup_policy="compact,delete", retention_ms=str(10 * RETENTION_CHECK_MS))
    bench.commit([(b"a", b"1")], bench.now_ms)
    bench.commit([(b"b", b"1")], bench.now_ms + 1000 * DAY_MS)
    bench.now_ms += RETENTION_CHECK_MS
    bench.settle()
    assert len(bench.records()) == 2


def test_age_is_looked_at_again_after_the_clock_was_set_back() -> None:
    bench = Bench(retention_ms="1000")
    bench.commit([(b"a", b"1")], bench.now_ms)
    bench.now_ms -= 50 * DAY_MS
    bench.transport.delete_records({AT: 1})
    bench.commit([(b"a", b"2")], bench.now_ms)
    assert len(bench.records()) == 1

    bench.now_ms += RETENTION_CHECK_MS
    bench.settle()

    assert bench.records() == []


def test_many_old_chunks_go_over_several_commits() -> None:
    bench = Bench(retention_ms="1000")
    for n in range(350):
        bench.commit([(b"a", b"%d" % n)], bench.now_ms)
    bench.now_ms += DAY_MS

    bench.commit([], None)
    bench.commit([(b"a", b"last")], bench.now_ms)
    assert bench.chunk_count() > 0
    bench.settle()

    assert bench.records() == [(350, b"a", b"last")]


# -- deleted records -------------------------------------------------------------------------


def test_deleted_records_take_their_chunks_with_them() -> None:
    bench = Bench()
    for n in range(10):
        bench.commit([(b"a", b"%d" % n), (b"b", b"%d" % n)])

    bench.transport.delete_records({AT: 7})

    assert [offset for offset, _, _ in bench.records()] == list(range(7, 20))
    assert bench.chunk_count() == 7
    bench.transport.delete_records({AT: 3})
    assert bench.transport.begin_offsets([AT]) == {AT: 7}
    bench.transport.delete_records({AT: -1})
    assert bench.records() == []
    assert bench.chunk_count() == 0
    bench.reopen()
    assert bench.transport.begin_offsets([AT]) == {AT: 20}


def test_records_are_deleted_up_to_the_end_at_most() -> None:
    bench = Bench()
    bench.commit([(b"a", b"1")])
    bench.transport.delete_records({AT: 100})
    bench.commit([(b"a", b"2")])
    assert bench.records() == [(1, b"a", b"2")]


def test_uncommitted_records_are_not_deleted() -> None:
    bench = Bench()
    reader = bench.transport.reader()
    reader.add({AT: 0})
    bench.transport.sender("t")(b"k", b"mine", 0, None, None)
    reader.poll(10, 0)

    bench.transport.delete_records({AT: 1})
    bench.transport.commit({})

    assert bench.records() == [(0, b"k", b"mine")]


def test_deleted_records_are_not_found_by_time() -> None:
    bench = Bench()
    bench.commit([(b"a", b"1"), (b"a", b"2"), (b"a", b"3")], 50)
    bench.transport.delete_records({AT: 1})
    assert bench.transport.offsets_for_time([AT], 0) == {AT: 1}
    assert bench.transport.offsets_for_time([AT], 51) == {AT: 3}
