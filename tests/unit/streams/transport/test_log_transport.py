"""What the embedded log does beyond the port: own records at once, and what is not written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from thalweg.stores.bytes.contract import Change, Sync
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.record import headers_of, offset_of
from thalweg.streams.errors import (
    BackendError,
    BrokerError,
    ConfigError,
    OffsetOutOfRangeError,
    ProductionError,
    TransportError,
)
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.log.formats import CHUNK_BYTES, CHUNK_RECORDS
from thalweg.streams.transport.memory import MemoryTransport
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    Reader,
    TopicPartition,
)

REPARTITION = {"cleanup.policy": "delete", "retention.ms": "-1", "segment.bytes": "52428800"}
AT = TopicPartition("app-words-repartition", 0)
PLAIN = TopicPartition("plain", 0)


class Rows(MemoryByteStore):
    """A byte store that outlives its log, counts what it is given, and fails when told."""

    def __init__(self) -> None:
        super().__init__("rows")
        self.batches: list[tuple[list[Change], bool]] = []
        self.failure: Exception | None = None

    def write(self, changes: object, *, sync: Sync = Sync.PROCESS) -> None:
        changes = list(changes)  # type: ignore[call-overload]
        if self.failure is not None:
            raise self.failure
        self.batches.append((changes, sync is Sync.DISK))
        super().write(changes, sync=sync)

    def close(self) -> None:
        pass

    def chunk_count(self) -> int:
        return sum(1 for key, _ in self.range() if key.startswith(b"c"))


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def log(rows: Rows) -> LocalLog:
    return LocalLog(rows, place="here")


Open = Callable[..., MemoryTransport]


@pytest.fixture
def open_transport(log: LocalLog) -> Iterator[Open]:
    opened: list[MemoryTransport] = []

    def new(group: str | None = None, on: LocalLog | None = None) -> MemoryTransport:
        transport = MemoryTransport(on or log, group, now_ms=lambda: 1_000_000)
        opened.append(transport)
        return transport

    yield new
    for transport in opened:
        transport.close()


def reading(transport: MemoryTransport, at: TopicPartition, position: int = 0) -> Reader:
    reader = transport.reader()
    reader.add({at: position})
    return reader


def polled(reader: Reader, most: int = 10_000) -> list[tuple[int, bytes | None]]:
    """Returns (offset, value) of what one poll brings."""
    return [(offset_of(r[3]), r[2]) for _, records in reader.poll(most, 0) for r in records]


def send(transport: MemoryTransport, at: TopicPartition, *contents: bytes) -> None:
    sender = transport.sender(at.topic)
    for content in contents:
        sender(b"k", content, 5, None, at.partition)


@pytest.fixture
def app(open_transport: Open) -> MemoryTransport:
    app = open_transport("app")
    app.create_topics([NewTopic(AT.topic, 1, configs=REPARTITION), NewTopic("plain", 1)])
    return app


# -- turns -----------------------------------------------------------------------------------


def test_repartition_topics_come_before_others(app: MemoryTransport) -> None:
    reader = app.reader()
    reader.add({PLAIN: 0, AT: 0})
    send(app, PLAIN, b"1", b"2", b"3")
    send(app, AT, b"a", b"b")

    found = [[(at, len(records)) for at, records in reader.poll(most, 0)] for most in (1, 2, 9)]

    assert found == [[(AT, 1)], [(AT, 1), (PLAIN, 1)], [(PLAIN, 2)]]


def test_of_two_other_topics_none_waits_for_ever(app: MemoryTransport) -> None:
    other = TopicPartition("other", 0)
    app.create_topics([NewTopic("other", 1)])
    reader = app.reader()
    reader.add({PLAIN: 0, other: 0, AT: 0})
    send(app, PLAIN, *[b"1"] * 9)
    send(app, other, *[b"2"] * 9)
    order = []
    for _ in range(4):
        send(app, AT, b"a")
        order += [at for at, _ in reader.poll(2, 0)]

    assert order == [AT, PLAIN, AT, other, AT, PLAIN, AT, other]


def test_a_poll_that_waits_returns_when_it_is_woken(app: MemoryTransport) -> None:
    reader = reading(app, PLAIN)
    waker = threading.Thread(target=reader.wake)
    waker.start()
    assert reader.poll(1, 60_000) == []
    waker.join()


# -- records that were processed ---------------------------------------------------------------


def test_what_was_processed_is_let_go_and_never_written(app: MemoryTransport, rows: Rows) -> None:
    reader = reading(app, AT)
    send(app, AT, b"a", b"b", b"c")
    assert polled(reader, 2) == [(0, b"a"), (1, b"b")]
    reader.processed({AT: 2})
    send(app, AT, b"d")
    assert polled(reader) == [(2, b"c"), (3, b"d")]
    reader.processed({AT: 3})
    app.commit({AT: OffsetAndMetadata(3)})

    again = reading(app, AT, 3)
    assert polled(again) == [(3, b"d")]
    assert rows.chunk_count() == 1
    assert app.end_offsets((AT,)) == {AT: 4}


def test_all_may_be_processed_before_a_commit(app: MemoryTransport, rows: Rows) -> None:
    reader = reading(app, AT)
    for _ in range(3):
        send(app, AT, b"a", b"b")
        polled(reader)
        reader.processed({AT: reader.position(AT)})
        app.commit({AT: OffsetAndMetadata(reader.position(AT))})

    assert rows.chunk_count() == 0
    assert app.end_offsets((AT,)) == {AT: 6}


def test_what_was_processed_comes_back_only_by_an_abort(app: MemoryTransport) -> None:
    reader = reading(app, AT)
    send(app, AT, b"a", b"b")
    polled(reader)
    reader.processed({AT: 1})
    with pytest.raises(TransportError, match="after they were processed"):
        app.commit({AT: OffsetAndMetadata(0)})
    reader.add({AT: 0})
    with pytest.raises(TransportError, match="after they were processed"):
        polled(reader)

    app.abort()
    send(app, AT, b"c")
    reader.add({AT: 0})
    assert polled(reader) == [(0, b"c")]


def test_only_repartition_records_are_let_go(app: MemoryTransport, open_transport: Open) -> None:
    reader = reading(app, PLAIN)
    send(app, PLAIN, b"a", b"b")
    polled(reader)
    reader.processed({PLAIN: 2})
    app.commit({PLAIN: OffsetAndMetadata(2)})

    assert polled(reading(open_transport(), PLAIN)) == [(0, b"a"), (1, b"b")]


# -- own records -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", [AT, PLAIN])
def test_a_transport_reads_what_it_has_not_committed(
    app: MemoryTransport, open_transport: Open, at: TopicPartition
) -> None:
    own, others = reading(app, at), reading(open_transport(), at)
    send(app, at, b"a", b"b")

    assert own.known_end_offset(at) == 2
    assert polled(own, 1) == [(0, b"a")]
    assert own.position(at) == 1
    send(app, at, b"c")
    assert polled(own) == [(1, b"b"), (2, b"c")]
    assert polled(own) == []
    assert (own.position(at), own.known_end_offset(at)) == (3, 3)
    assert polled(others) == []
    assert others.known_end_offset(at) == 0
    assert app.end_offsets([at]) == {at: 0}


def test_own_records_are_the_tuples_that_were_sent(app: MemoryTransport) -> None:
    own = reading(app, PLAIN)
    key, value, headers = b"key", b"value", [("h", b"1")]
    sender = app.sender("plain")
    sender(key, value, 7, headers, None)

    ((_, (record,)),) = own.poll(10, 0)

    assert record[1] is key
    assert record[2] is value
    assert headers_of(record[3]) is headers


def test_own_records_come_behind_committed_ones(app: MemoryTransport) -> None:
    send(app, PLAIN, b"a", b"b")
    app.commit({})
    own = reading(app, PLAIN)
    send(app, PLAIN, b"c")

    found = polled(own) + polled(own)

    assert found == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_own_records_keep_their_offsets_when_they_are_committed(
    app: MemoryTransport, open_transport: Open
) -> None:
    own = reading(app, PLAIN)
    send(app, PLAIN, b"a", b"b")
    seen = polled(own)

    app.commit({PLAIN: OffsetAndMetadata(2)})

    assert polled(own) == []
    assert polled(reading(open_transport(), PLAIN)) == seen


def test_after_an_abort_the_reader_is_out_of_range_and_the_offsets_are_free(
    app: MemoryTransport,
) -> None:
    own = reading(app, PLAIN)
    send(app, PLAIN, b"a", b"b")
    polled(own)

    app.abort()

    with pytest.raises(OffsetOutOfRangeError, match=r"plain-0 has offsets 0 to 0, .* at 2"):
        own.poll(10, 0)
    own.add({PLAIN: 0})
    send(app, PLAIN, b"c")
    assert polled(own) == [(0, b"c")]


def test_others_commits_to_a_claimed_partition_wait_behind_the_claim(
    app: MemoryTransport, open_transport: Open
) -> None:
    other = open_transport("other")
    own, watching = reading(app, PLAIN), reading(open_transport(), PLAIN)
    send(app, PLAIN, b"a1", b"a2")
    assert polled(own) == [(0, b"a1"), (1, b"a2")]
    send(other, PLAIN, b"b1")

    other.commit({})
    send(app, PLAIN, b"a3")

    # Nobody may see what stands behind records that could still be taken back.
    assert polled(watching) == []
    assert polled(own) == []
    assert other.end_offsets([PLAIN]) == {PLAIN: 0}
    app.commit({PLAIN: OffsetAndMetadata(2)})
    everything = [(0, b"a1"), (1, b"a2"), (2, b"b1"), (3, b"a3")]
    assert polled(watching) == everything
    assert polled(own) == everything[2:]


def test_an_abort_leaves_a_gap_where_others_have_committed_behind_it(
    app: MemoryTransport, open_transport: Open
) -> None:
    other = open_transport("other")
    own, watching = reading(app, PLAIN), reading(open_transport(), PLAIN)
    send(app, PLAIN, b"a1", b"a2")
    polled(own)
    send(other, PLAIN, b"b1")
    other.commit({})

    app.abort()
    send(app, PLAIN, b"a3")
    app.commit({})

    assert polled(watching) == [(2, b"b1"), (3, b"a3")]


def test_only_one_transport_at_a_time_sees_its_own_records(
    app: MemoryTransport, open_transport: Open
) -> None:
    other = open_transport("other")
    own, others = reading(app, PLAIN), reading(other, PLAIN)
    send(app, PLAIN, b"a")
    send(other, PLAIN, b"b")
    assert polled(own) == [(0, b"a")]
    assert polled(others) == []
    assert others.known_end_offset(PLAIN) == 0

    other.commit({})
    app.commit({})

    assert polled(others) == [(0, b"a"), (1, b"b")]


def test_a_guessed_offset_is_mended_when_others_were_first(
    app: MemoryTransport, open_transport: Open
) -> None:
    other = open_transport("other")
    headers = [("h", b"1")]
    send(app, PLAIN, b"a1")
    app.sender("plain")(b"k", b"a2", 5, headers, 0)
    app.flush()
    send(other, PLAIN, b"b1", b"b2")
    other.commit({})

    app.commit({})
    send(app, PLAIN, b"a3")
    app.commit({})

    ((_, records),) = reading(open_transport(), PLAIN).poll(10, 0)
    assert [(offset_of(r[3]), r[2], headers_of(r[3])) for r in records] == [
        (0, b"b1", None),
        (1, b"b2", None),
        (2, b"a1", None),
        (3, b"a2", headers),
        (4, b"a3", None),
    ]


def test_close_takes_back_what_was_read_and_not_committed(
    app: MemoryTransport, open_transport: Open
) -> None:
    own, watching = reading(app, PLAIN), reading(open_transport(), PLAIN)
    send(app, PLAIN, b"a")
    polled(own)

    app.close()

    other = open_transport()
    send(other, PLAIN, b"b")
    other.commit({})
    assert polled(watching) == [(0, b"b")]


def test_flushed_offsets_of_tracked_topics_do_not_change(
    app: MemoryTransport, open_transport: Open
) -> None:
    other = open_transport("other")
    app.sender("plain", track_offsets=True)
    send(app, PLAIN, b"a")
    app.flush()
    written = dict(app.written_offsets())
    send(other, PLAIN, b"b")
    other.commit({})

    app.commit({})

    assert written == app.written_offsets() == {PLAIN: 1}


def test_an_abort_takes_back_what_flush_told_of_offsets(app: MemoryTransport) -> None:
    app.sender("plain", track_offsets=True)
    send(app, PLAIN, b"a")
    app.commit({})
    send(app, PLAIN, b"b")
    app.flush()
    assert app.written_offsets() == {PLAIN: 2}

    app.abort()

    assert app.written_offsets() == {PLAIN: 1}


def sent_while_polling(app: MemoryTransport, at: TopicPartition, count: int) -> list[bytes]:
    """Sends as a worker does: polls in between, at which full chunks are written."""
    reader = reading(app, TopicPartition("elsewhere", 0))
    contents = [b"%d" % number for number in range(count)]
    for start in range(0, count, 700):
        send(app, at, *contents[start : start + 700])
        reader.poll(1, 0)
    reader.close()
    return contents


@pytest.fixture
def full(app: MemoryTransport) -> list[bytes]:
    app.create_topics([NewTopic("elsewhere", 1)])
    return sent_while_polling(app, PLAIN, 3 * CHUNK_RECORDS + 100)


def everything(reader: Reader, at: TopicPartition) -> list[tuple[int, bytes | None]]:
    found = polled(reader, 100_000)
    while batch := polled(reader, 100_000):
        found += batch
    assert reader.position(at) == reader.known_end_offset(at)
    return found


def test_records_written_ahead_are_committed_with_the_rest(
    app: MemoryTransport, full: list[bytes], open_transport: Open
) -> None:
    assert app.end_offsets([PLAIN]) == {PLAIN: 0}
    app.commit({})
    assert everything(reading(open_transport(), PLAIN), PLAIN) == list(enumerate(full))


def test_records_written_ahead_are_taken_back(
    app: MemoryTransport, full: list[bytes], rows: Rows, open_transport: Open
) -> None:
    app.abort()
    send(app, PLAIN, b"a")
    app.commit({})
    assert everything(reading(open_transport(), PLAIN), PLAIN) == [(0, b"a")]
    assert rows.chunk_count() == 1


def test_records_written_ahead_can_be_read_by_their_transport(
    app: MemoryTransport, full: list[bytes]
) -> None:
    own = reading(app, PLAIN)
    assert own.known_end_offset(PLAIN) == len(full)
    assert everything(own, PLAIN) == list(enumerate(full))
    send(app, PLAIN, b"a")
    assert everything(own, PLAIN) == [(len(full), b"a")]


def test_records_written_ahead_make_way_for_others_that_were_first(
    app: MemoryTransport, full: list[bytes], open_transport: Open
) -> None:
    other = open_transport()
    send(other, PLAIN, b"first")
    other.commit({})
    send(app, PLAIN, b"last")

    app.commit({})

    found = everything(reading(open_transport(), PLAIN), PLAIN)
    assert found == list(enumerate([b"first", *full, b"last"]))


def test_written_offsets_count_records_written_ahead(
    app: MemoryTransport, full: list[bytes]
) -> None:
    app.sender("plain", track_offsets=True)
    app.flush()
    assert app.written_offsets() == {PLAIN: len(full)}
    app.commit({})
    assert app.written_offsets() == {PLAIN: len(full)}
    assert app.sent_records() == {"plain": len(full)}


def test_a_small_last_chunk_of_large_records_written_ahead_is_not_written_again(
    app: MemoryTransport, open_transport: Open
) -> None:
    app.create_topics([NewTopic("elsewhere", 1)])
    # The size of the first half splits the thousand; the second half is a chunk with room.
    contents = [bytes(4000)] * (CHUNK_RECORDS // 2) + [b"small"] * (CHUNK_RECORDS // 2)
    send(app, PLAIN, *contents)
    reading(app, TopicPartition("elsewhere", 0)).poll(1, 0)
    send(app, PLAIN, b"last")

    app.commit({})

    found = everything(reading(open_transport(), PLAIN), PLAIN)
    assert found == list(enumerate([*contents, b"last"]))


def test_what_is_wrong_with_records_written_ahead_is_told_by_flush(app: MemoryTransport) -> None:
    app.create_topics([NewTopic("elsewhere", 1)])
    app.sender("plain")(b"k", "text", 1, None, 0)  # type: ignore[arg-type]

    sent_while_polling(app, PLAIN, 2000)

    for _ in range(2):
        with pytest.raises(ProductionError, match="value of type str"):
            app.flush()
    app.abort()
    app.flush()


# -- what is not written ---------------------------------------------------------------------


def test_repartition_records_consumed_before_the_commit_are_not_written(
    app: MemoryTransport, rows: Rows, open_transport: Open
) -> None:
    own = reading(app, AT)
    send(app, AT, b"a", b"b", b"c")
    polled(own, 2)

    app.commit({AT: OffsetAndMetadata(2, "AQ==")})

    assert rows.chunk_count() == 1
    assert polled(reading(open_transport(), AT)) == [(2, b"c")]
    assert polled(own) == [(2, b"c")]
    assert app.end_offsets([AT]) == {AT: 3}


def test_positions_in_a_repartition_topic_only_rise(rows: Rows, open_transport: Open) -> None:
    app = open_transport("app")
    app.create_topics([NewTopic(AT.topic, 1, configs=REPARTITION)])
    own = reading(app, AT)
    for turn in range(3):
        send(app, AT, b"a", b"b")
        polled(own)
        app.commit({AT: OffsetAndMetadata(2 * turn + 2)})
    assert rows.chunk_count() == 0

    # As after a restart: nothing but the rows is left.
    again = open_transport("app", LocalLog(rows, place="here"))

    assert again.committed([AT]) == {AT: OffsetAndMetadata(6)}
    assert again.end_offsets([AT]) == {AT: 6}
    own = reading(again, AT, 6)
    assert polled(own) == []
    send(again, AT, b"c")
    assert polled(own) == [(6, b"c")]


def test_a_reader_passes_over_records_that_were_never_written(
    app: MemoryTransport, open_transport: Open
) -> None:
    own = reading(app, AT)
    send(app, AT, b"a")
    polled(own)
    app.commit({AT: OffsetAndMetadata(1)})
    watching = reading(open_transport(), AT)

    # Its owner hears of the move without waiting: restoring ends at an offset, not a record.
    assert watching.poll(10, 3_600_000) == []

    assert watching.position(AT) == watching.known_end_offset(AT) == 1


def test_consumed_but_not_committed_repartition_records_are_written(
    app: MemoryTransport, open_transport: Open
) -> None:
    own = reading(app, AT)
    send(app, AT, b"a", b"b")
    polled(own)

    app.commit({})

    assert polled(reading(open_transport(), AT)) == [(0, b"a"), (1, b"b")]


@pytest.mark.parametrize(
    ("topic", "configs"),
    [
        ("plain", REPARTITION),
        ("app-words-repartition", {}),
        ("app-words-repartition", {"cleanup.policy": "delete"}),
        ("app-words-repartition", {"cleanup.policy": "compact", "retention.ms": "-1"}),
        ("application-words-repartition", REPARTITION),
        ("other-words-repartition", REPARTITION),
        ("app-words-changelog", REPARTITION),
    ],
)
def test_records_of_all_other_topics_are_written(
    open_transport: Open, topic: str, configs: dict[str, str]
) -> None:
    app, at = open_transport("app"), TopicPartition(topic, 0)
    app.create_topics([NewTopic(topic, 1, configs=configs)])
    own = reading(app, at)
    send(app, at, b"a")
    polled(own)

    app.commit({at: OffsetAndMetadata(1)})

    assert polled(reading(open_transport(), at)) == [(0, b"a")]


def test_others_repartition_topics_are_written_to_as_any_topic(open_transport: Open) -> None:
    owner, other = open_transport("app"), open_transport("other")
    owner.create_topics([NewTopic(AT.topic, 1, configs=REPARTITION)])
    others = reading(other, AT)
    send(other, AT, b"a")
    polled(others)

    other.commit({AT: OffsetAndMetadata(1)})

    assert polled(reading(owner, AT)) == [(0, b"a")]


# -- commits and failures --------------------------------------------------------------------


def test_a_commit_is_one_durable_batch(app: MemoryTransport, rows: Rows) -> None:
    send(app, PLAIN, *[b"%d" % n for n in range(3000)])
    send(app, AT, b"a")
    app.flush()
    rows.batches.clear()

    app.commit({PLAIN: OffsetAndMetadata(1)})

    assert [durable for _, durable in rows.batches] == [True]


def test_flush_writes_nothing(app: MemoryTransport, rows: Rows) -> None:
    app.sender("plain")
    rows.batches.clear()
    send(app, PLAIN, b"a")

    app.flush()

    assert rows.batches == []


def test_after_a_failed_write_the_log_must_be_opened_again(
    app: MemoryTransport, rows: Rows, open_transport: Open
) -> None:
    send(app, PLAIN, b"a")
    rows.failure = BackendError("the disk is full")
    with pytest.raises(BackendError, match="the disk is full"):
        app.commit({PLAIN: OffsetAndMetadata(1)})
    rows.failure = None
    app.abort()
    send(app, PLAIN, b"b")

    with pytest.raises(BackendError, match=r"here failed earlier \(the disk is full\)"):
        app.commit({})

    assert app.committed([PLAIN]) == {}
    again = open_transport("app", LocalLog(rows, place="here"))
    send(again, PLAIN, b"c")
    again.commit({})
    assert polled(reading(again, PLAIN)) == [(0, b"c")]


def test_positions_need_a_group(open_transport: Open) -> None:
    transport = open_transport()
    transport.create_topics([NewTopic("plain", 1)])
    with pytest.raises(ValueError, match="open the transport with group="):
        transport.commit({PLAIN: OffsetAndMetadata(1)})
    assert transport.committed([PLAIN]) == {}


def test_a_position_of_an_unknown_partition_commits_nothing(
    app: MemoryTransport, open_transport: Open
) -> None:
    send(app, PLAIN, b"a")

    with pytest.raises(TransportError, match="partitions 0 to 0 only"):
        app.commit({TopicPartition("plain", 1): OffsetAndMetadata(1)})

    assert polled(reading(open_transport(), PLAIN)) == []


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ((b"k", b"v", 1.5, None), "timestamp 1.5"),
        ((b"k", b"v", 1 << 63, None), "timestamp 9223372036854775808"),
        ((b"k", b"v", 1 << 70, None), "cannot be written|timestamp"),
        ((b"k", "v", 1, None), "value of type str: its serde must return bytes"),
        ((b"k", bytearray(b"v"), 1, None), "value of type bytearray"),
        ((b"k", b"v", 1, [("h", "text")]), "header 'h'"),
        ((b"k", b"v", 1, [(b"h", b"1")]), "header b'h'"),
        ((b"k", b"v", 1, [("h",)]), "header 'h'"),
    ],
)
def test_what_would_be_read_back_as_something_else_is_refused(
    app: MemoryTransport, record: tuple[object, ...], fault: str
) -> None:
    sender = app.sender("plain")
    sender(b"k", b"fine", 1, None, None)
    sender(*record, None)  # type: ignore[arg-type, call-arg]

    with pytest.raises(ProductionError, match=fault) as caught:
        app.flush()

    assert (caught.value.topic, caught.value.partition) == ("plain", 0)
    with pytest.raises(ProductionError):
        app.commit({})
    app.abort()
    assert app.end_offsets([PLAIN]) == {PLAIN: 0}


def test_a_key_that_is_no_bytes_is_refused(app: MemoryTransport) -> None:
    app.sender("plain")("text", b"v", 1, None, 0)  # type: ignore[arg-type]
    with pytest.raises(ProductionError, match="key of type str"):
        app.flush()


def test_repartition_records_are_checked_when_they_are_written(app: MemoryTransport) -> None:
    app.sender(AT.topic)(b"k", "text", 1, None, None)  # type: ignore[arg-type]
    app.flush()

    with pytest.raises(ProductionError, match="value of type str"):
        app.commit({})
    with pytest.raises(ProductionError, match="value of type str"):
        app.commit({})

    app.abort()
    app.commit({})


def test_the_first_refusal_is_told(app: MemoryTransport) -> None:
    sender = app.sender("plain")
    sender(b"k", b"v", 1, None, 3)
    sender(b"k", b"v", 1, None, -1)
    app.sender("no name")(b"k", b"v", 1, None, None)

    for _ in range(2):
        with pytest.raises(ProductionError, match="partition 3 of topic 'plain', which has 0 to 0"):
            app.flush()


def test_records_for_a_topic_deleted_meanwhile_are_refused(app: MemoryTransport) -> None:
    send(app, PLAIN, b"a")
    app.delete_topics(["plain"])

    with pytest.raises(ProductionError, match="'plain' was deleted"):
        app.commit({})

    app.abort()
    send(app, PLAIN, b"b")
    app.commit({})
    assert polled(reading(app, PLAIN)) == [(0, b"b")]


def test_a_reader_of_a_deleted_topic_hears_of_it(app: MemoryTransport) -> None:
    reader = reading(app, PLAIN)
    app.delete_topics(["plain"])
    with pytest.raises(TransportError, match="'plain' was deleted"):
        reader.poll(10, 3_600_000)


@pytest.mark.parametrize("fault", ["deleted", "out of range"])
def test_a_partition_that_cannot_be_read_costs_no_records_of_others(
    app: MemoryTransport, fault: str
) -> None:
    app.create_topics([NewTopic("more", 1)])
    bad = TopicPartition("more", 0)
    send(app, PLAIN, b"a", b"b")
    send(app, bad, b"c")
    app.commit({})
    reader = app.reader()
    reader.add({PLAIN: 0, bad: 0})
    if fault == "deleted":
        app.delete_topics(["more"])
    else:
        app.delete_records({bad: 1})

    found, failed = [], []
    for _ in range(4):
        try:
            found += polled(reader)
        except BrokerError as error:
            failed.append(error.topic)

    assert found == [(0, b"a"), (1, b"b")]
    assert set(failed) == {"more"}


def test_sending_after_close_is_refused(open_transport: Open) -> None:
    transport = open_transport()
    transport.create_topics([NewTopic("plain", 1), NewTopic("two", 2)])
    senders = [transport.sender("plain"), transport.sender("two")]
    transport.close()
    for sender in senders:
        with pytest.raises(TransportError, match="closed"):
            sender(b"k", b"v", 1, None, None)


@pytest.mark.parametrize("group", ["", "a b", ".", "x" * 250])
def test_a_group_is_called_like_a_topic(log: LocalLog, group: str) -> None:
    with pytest.raises(ValueError, match="application id"):
        MemoryTransport(log, group)


# -- rows ------------------------------------------------------------------------------------


def test_chunks_are_neither_long_nor_large(
    app: MemoryTransport, rows: Rows, open_transport: Open
) -> None:
    contents = [b"small"] * 2500 + [bytes(50_000)] * 60 + [bytes(1_000_000)] * 3
    send(app, PLAIN, *contents)

    app.commit({})

    chunks = [value for key, value in rows.range() if key.startswith(b"c")]
    assert len(chunks) >= 2500 // CHUNK_RECORDS + 3 + 3
    assert max(map(len, chunks)) <= CHUNK_BYTES + 100
    reader = reading(open_transport(), PLAIN)
    found = [
        row
        for _ in iter(lambda: reader.position(PLAIN) < len(contents), False)
        for row in polled(reader, 777)
    ]
    assert found == list(enumerate(contents))


def test_flushing_often_makes_no_small_chunks(app: MemoryTransport, rows: Rows) -> None:
    for _ in range(50):
        send(app, PLAIN, b"a")
        app.flush()

    app.commit({})

    assert rows.chunk_count() == 1


def test_deleted_topics_leave_no_rows(app: MemoryTransport, rows: Rows) -> None:
    before = dict(rows.range())
    app.create_topics([NewTopic("t", 3)])
    at = TopicPartition("t", 2)
    send(app, at, b"a")
    app.commit({at: OffsetAndMetadata(1)})

    app.delete_topics(["t"])

    after = dict(rows.range())
    assert after.pop(b"n") != before.pop(b"n")
    assert after == before


def test_a_deletion_that_was_cut_short_is_finished_when_the_log_is_opened(
    app: MemoryTransport, rows: Rows
) -> None:
    send(app, PLAIN, b"a")
    app.commit({})
    # As a crash right behind the deletion's first batch leaves it.
    real = rows.delete_range
    rows.delete_range = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        app.delete_topics(["plain"])
    rows.delete_range = real  # type: ignore[method-assign]
    assert rows.chunk_count() == 1

    again = LocalLog(rows, place="here")

    assert rows.chunk_count() == 0
    assert again.topic("plain") is None
    assert not [key for key, _ in rows.range() if key.startswith(b"d")]


def test_a_log_of_a_later_format_is_refused(rows: Rows) -> None:
    rows.put(b"f", b"2")
    with pytest.raises(ConfigError, match="the log here has format 2, this version reads 1"):
        LocalLog(rows, place="here")


def test_rows_of_something_else_are_refused(rows: Rows) -> None:
    rows.put(b"key", b"value")
    with pytest.raises(ConfigError, match="holds something else"):
        LocalLog(rows, place="here")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cleanup.policy", "shrink"),
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("max.message.bytes", "-1"),
        ("min.cleanable.dirty.ratio", "2"),
        ("min.cleanable.dirty.ratio", "half"),
    ],
)
def test_configs_that_cannot_be_are_refused(app: MemoryTransport, name: str, value: str) -> None:
    with pytest.raises(TransportError, match=f"its config {name} must be .*, got '{value}'"):
        app.create_topics([NewTopic("fine", 1), NewTopic("t", 1, configs={name: value})])
    assert app.partition_counts(["fine", "t"]) == {}


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_partition_counts_that_cannot_be_are_refused(app: MemoryTransport, count: int) -> None:
    with pytest.raises(TransportError, match="partitions must be a whole number"):
        app.create_topics([NewTopic("t", count)])
