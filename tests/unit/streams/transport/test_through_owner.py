"""An embedded log used by a process that does not own it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import HANG_S
from thalweg import App, StreamsBuilder, serdes
from thalweg.stores.record import headers_of, offset_of
from thalweg.streams.clock import SystemClock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.consumer import Consumer
from thalweg.streams.errors import (
    BrokerError,
    OffsetOutOfRangeError,
    ProductionError,
    StoreLockedError,
    TransportError,
)
from thalweg.streams.producer import Producer
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.log import owner_wire
from thalweg.streams.transport.log.directory import owner_of
from thalweg.streams.transport.log.owner_client import OwnerClient
from thalweg.streams.transport.port import NewTopic, OffsetAndMetadata, TopicPartition
from thalweg.streams.transport.through_owner import ThroughOwner

AT = TopicPartition("t", 0)

OWNER = """
import sys
from thalweg.streams.transport.local import LocalTransport
transport = LocalTransport(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
transport.close()
"""


def client_of(path: Path) -> OwnerClient:
    """Returns the way to the owner of a log, which may be this process."""
    about = owner_of(path)
    assert about is not None
    return OwnerClient(path.resolve(), about)


def through(path: Path, **options: int) -> ThroughOwner:
    """Opens a transport to the owner of a log."""
    settings = {"default_partitions": 1, **options}
    return ThroughOwner(client_of(path), now_ms=SystemClock().now_ms, **settings)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[LocalTransport]:
    """Returns the owner's own transport."""
    with LocalTransport(tmp_path / "log") as transport:
        yield transport


@pytest.fixture
def other(owner: LocalTransport, tmp_path: Path) -> Iterator[ThroughOwner]:
    """Returns a transport of another process."""
    with through(tmp_path / "log") as transport:
        yield transport


@pytest.fixture
def started() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Returns the function that starts a process that owns a log."""
    processes = []

    def start(path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def raw(transport: LocalTransport | ThroughOwner, at: TopicPartition = AT) -> list[object]:
    """Reads a partition: (timestamp, key, value, offset, headers)."""
    reader = transport.reader()
    reader.add({at: transport.begin_offsets([at])[at]})
    found = []
    while batches := reader.poll(10_000, 0):
        for _, records in batches:
            found += [(t, k, v, offset_of(o), headers_of(o)) for t, k, v, o in records]
    reader.close()
    return found


# -- writing and reading -------------------------------------------------------------------


def test_records_are_what_they_were(owner: LocalTransport, other: ThroughOwner) -> None:
    send = other.sender("t")
    send(b"k", b"v", 7, [("h", b"1"), ("h", None)], None)
    send(None, b"", 8, None, None)
    send(b"k", None, 9, [], 0)
    other.flush()
    assert raw(owner) == []
    other.commit({})

    expected = [
        (7, b"k", b"v", 0, [("h", b"1"), ("h", None)]),
        (8, None, b"", 1, None),
        (9, b"k", None, 2, None),
    ]
    assert raw(owner) == expected
    assert raw(other) == expected


def test_keys_and_keyless_records_are_spread_as_by_the_owner(
    owner: LocalTransport, other: ThroughOwner
) -> None:
    for transport, topic in ((owner, "own"), (other, "others")):
        transport.create_topics([NewTopic(topic, 4)])
        send = transport.sender(topic)
        for number in range(100):
            send(b"%d" % number, b"", 0, None, None)
            send(None, b"", 0, None, None)
        transport.commit({})

    for number in range(4):
        own = raw(owner, TopicPartition("own", number))
        assert raw(owner, TopicPartition("others", number)) == own
        assert len(own) > 25


def test_topics_are_seen_created_and_deleted(owner: LocalTransport, other: ThroughOwner) -> None:
    other.create_topics([NewTopic("a", 3, configs={"retention.ms": "5"})])
    other.sender("b")
    assert other.topics() == owner.topics() == ["a", "b"]
    assert other.partition_counts(["a", "b", "c"]) == {"a": 3, "b": 1}
    with pytest.raises(TransportError, match="exists with 3 partitions, and 2 are asked for"):
        other.create_topics([NewTopic("a", 2)])
    with pytest.raises(TransportError, match=r"retention\.ms must be"):
        other.create_topics([NewTopic("c", 1, configs={"retention.ms": "x"})])
    other.delete_topics(["a"])
    assert owner.topics() == ["b"]


def test_offsets_are_told(owner: LocalTransport, other: ThroughOwner) -> None:
    send = owner.sender("t")
    for moment in (10, 20, 30):
        send(b"", b"", moment, None, None)
    owner.commit({})
    owner.delete_records({AT: 1})

    assert other.begin_offsets([AT]) == {AT: 1}
    assert other.end_offsets([AT]) == {AT: 3}
    assert other.offsets_for_time([AT], 15) == {AT: 1}
    assert other.offsets_for_time([AT], 25) == {AT: 2}
    with pytest.raises(TransportError, match="does not exist in this log"):
        other.end_offsets([TopicPartition("none", 0)])


def test_a_reader_waits_until_the_owner_commits(owner: LocalTransport, other: ThroughOwner) -> None:
    owner.create_topics([NewTopic("t", 1)])
    reader = other.reader()
    reader.add({AT: 0})
    assert reader.poll(10, 0) == []

    def write() -> None:
        owner.sender("t")(b"k", b"v", 1, None, None)
        owner.commit({})

    thread = threading.Timer(0.05, write)
    thread.start()
    assert reader.poll(10, HANG_S * 1000) == [(AT, [(1, b"k", b"v", 0)])]
    thread.join()
    assert reader.position(AT) == reader.known_end_offset(AT) == 1


def test_reading_much_is_divided_into_answers(
    owner: LocalTransport, other: ThroughOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_wire, "ANSWER_BYTES", 100_000)
    send = owner.sender("t")
    for number in range(2_000):
        send(b"%d" % number, b"x" * 1_000, 0, None, None)
    owner.commit({})

    reader = other.reader()
    reader.add({AT: 0})
    ((_, records),) = reader.poll(10_000, 0)
    assert len(records) < 1_000
    assert len(raw(other)) == 2_000


def test_a_position_out_of_range_is_told(owner: LocalTransport, other: ThroughOwner) -> None:
    owner.create_topics([NewTopic("t", 1)])
    reader = other.reader()
    reader.add({AT: 5})
    with pytest.raises(OffsetOutOfRangeError, match="has offsets 0 to 0"):
        reader.poll(1, 0)


def test_paused_partitions_bring_nothing(owner: LocalTransport, other: ThroughOwner) -> None:
    owner.sender("t")(b"k", b"v", 1, None, None)
    owner.commit({})
    reader = other.reader()
    reader.add({AT: 0})
    reader.pause([AT])
    assert reader.poll(1, 0) == []
    reader.resume([AT])
    assert len(reader.poll(1, 0)) == 1


# -- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "headers", "partition", "said"),
    [
        (b"k", "text", None, 0, "topic 't'"),
        (5, b"v", None, 0, "topic 't'"),
        (b"k", object(), None, 0, "cannot be written"),
        (b"k", b"v", [("h", 5)], 0, "topic 't'"),
        (b"k", b"v", [("h",)], 0, "cannot be read"),
        (b"k", b"v", None, 3, "partition 3 of topic 't', which has 0 to 0"),
        (b"k", b"x" * 2_000_000, None, 0, "max.message.bytes"),
        (None, b"v", None, 0, "key"),
    ],
)
def test_a_record_that_is_none_is_refused_with_its_whole_batch(
    owner: LocalTransport,
    other: ThroughOwner,
    key: object,
    value: object,
    headers: object,
    partition: int,
    said: str,
) -> None:
    owner.create_topics([NewTopic("t", 1, configs={"cleanup.policy": "compact"})])
    send = other.sender("t")
    send(b"good", b"v", 1, None, None)
    send(key, value, 2, headers, partition)  # type: ignore[arg-type]
    with pytest.raises(ProductionError, match=said.replace(".", r"\.")):
        other.commit({})
    other.abort()

    assert raw(owner) == []
    send(b"good", b"v", 1, None, None)
    other.commit({})
    assert len(raw(owner)) == 1


def test_a_topic_deleted_meanwhile_is_not_made_again(
    owner: LocalTransport, other: ThroughOwner
) -> None:
    send = other.sender("t")
    send(b"k", b"v", 1, None, None)
    owner.delete_topics(["t"])
    with pytest.raises(ProductionError, match="was deleted after records were sent"):
        other.commit({})
    assert owner.topics() == []


def test_a_request_has_a_limit_on_both_sides(
    owner: LocalTransport, other: ThroughOwner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_wire, "REQUEST_BYTES_MAX", 10_000)
    other.sender("t")(b"k", b"x" * 20_000, 1, None, None)
    with pytest.raises(ProductionError, match=r"flush\(\) more often"):
        other.commit({})
    with pytest.raises(TransportError, match="more than 10,000 bytes is refused"):
        client_of(tmp_path / "log").call("send", b"x" * 20_000, int)
    assert raw(owner) == []


def test_what_needs_a_log_of_its_own_is_refused(owner: LocalTransport, other: ThroughOwner) -> None:
    for call in (
        lambda: other.commit({AT: OffsetAndMetadata(1)}),
        lambda: other.committed([AT]),
        other.delete_offsets,
        lambda: other.delete_records({AT: 1}),
    ):
        with pytest.raises(StoreLockedError, match=f"process {os.getpid()} owns the log"):
            call()


def test_an_unknown_call_is_told(owner: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no call 'dance'"):
        client_of(tmp_path / "log").call("dance", None, int)


# -- the socket ----------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owners_user_may_connect(owner: LocalTransport, tmp_path: Path) -> None:
    socket = tmp_path / "log" / ".owner" / "socket"
    assert mode(socket) == 0o600
    assert mode(socket.parent) == 0o700
    assert socket.is_socket()


def test_a_directory_that_was_open_to_all_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / ".owner").mkdir(mode=0o777)
    (tmp_path / ".owner").chmod(0o777)
    with LocalTransport(tmp_path):
        assert mode(tmp_path / ".owner") == 0o700


def test_the_socket_is_gone_with_the_log(tmp_path: Path) -> None:
    with LocalTransport(tmp_path) as transport:
        with through(tmp_path) as other:
            other.topics()
        client = client_of(tmp_path)
        transport.topics()
    assert list((tmp_path / ".owner").iterdir()) == []
    with pytest.raises(BrokerError, match=r"has ended, or lets nobody in"):
        client.call("topics", None, dict[str, int])
    LocalTransport(tmp_path).close()


def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / ("e" * 100)
    with LocalTransport(path):
        about = owner_of(path)
        assert about is not None
        socket = Path(about.socket)
        assert len(str(socket)) < 108
        assert (mode(socket), mode(socket.parent)) == (0o600, 0o700)
        with through(path) as other:
            other.sender("t")(b"k", b"v", 1, None, None)
            other.commit({})
    assert not socket.parent.exists()


@pytest.mark.parametrize("length", [10, 200])
def test_what_a_killed_owner_left_is_replaced(
    tmp_path: Path, length: int, started: Callable[[Path], subprocess.Popen[str]]
) -> None:
    path = tmp_path / ("d" * length)
    process = started(path)
    about = owner_of(path)
    assert about is not None
    assert about.process_id == process.pid
    left = path / about.socket
    process.kill()
    process.wait()
    assert left.is_socket()

    with LocalTransport(path), through(path) as other:
        assert other.topics() == []
        about = owner_of(path)
        assert about is not None
        assert about.process_id == os.getpid()
    assert not left.exists()


def test_a_log_where_no_socket_can_be_made_is_not_used_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("t" * 120)))
    (tmp_path / ("t" * 120)).mkdir()
    with LocalTransport(tmp_path / ("d" * 100)):
        assert "other processes cannot use the log" in caplog.text
        about = owner_of(tmp_path / ("d" * 100))
        assert about is not None
        assert about.reason.startswith("no socket can be made")


# -- other processes -----------------------------------------------------------------------


def config(path: Path) -> StreamsConfig:
    return StreamsConfig(application_id="a", data_dir=path)


def test_producers_and_consumers_find_the_owner(
    tmp_path: Path, started: Callable[[Path], subprocess.Popen[str]]
) -> None:
    started(tmp_path)
    with Producer(config(tmp_path)) as producer:
        producer.create_topic("t", 2)
        for number in range(25_000):
            producer.send("t", b"%d" % number, key=b"%d" % (number % 7))
        producer.flush()
        assert producer.committed_records == 25_000
        assert producer.record_count("t") == 25_000

    with Consumer(config(tmp_path)) as consumer:
        assert consumer.topics() == {"t": 2}
        found = [int(record.value) for record in consumer.read("t")]
    assert sorted(found) == list(range(25_000))


def test_a_forked_child_goes_through_its_parent(tmp_path: Path) -> None:
    with LocalTransport(tmp_path) as transport:
        child = os.fork()
        if child == 0:
            try:
                with Producer(config(tmp_path)) as producer:
                    producer.send("t", b"from the child")
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert [row[2] for row in raw(transport)] == [b"from the child"]  # type: ignore[index]


def test_an_application_stays_with_a_log_of_its_own(
    tmp_path: Path, started: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = started(tmp_path / "log")
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    app = App(
        builder, application_id="app", data_dir=tmp_path / "log", state_dir=tmp_path / "state"
    )
    with pytest.raises(StoreLockedError, match=rf"process {process.pid}.*runs no application"):
        app.start()
    with app.producer() as producer:
        producer.send("in", "x", value_serde=serdes.string)
    with app.consumer() as consumer:
        assert [record.value for record in consumer.read("in")] == [b"x"]


def test_nothing_that_was_acknowledged_is_lost_by_a_kill(
    tmp_path: Path, started: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = started(tmp_path)
    acknowledged = 0
    killer = threading.Timer(0.3, lambda: process.send_signal(signal.SIGKILL))
    with Producer(config(tmp_path)) as producer:
        producer.create_topic("t", 1)
        killer.start()
        try:
            for number in range(10_000_000):
                producer.send("t", b"%d" % number)
                if number % 10 == 9:
                    producer.flush()
                    acknowledged = number + 1
        except BrokerError as error:
            told = str(error)
    killer.join()
    process.wait()

    assert "10 records were" in told
    with LocalTransport(tmp_path) as transport:
        found = [int(row[2]) for row in raw(transport)]  # type: ignore[index]
    # A batch that was not acknowledged is there as a whole or not at all.
    assert len(found) in (acknowledged, acknowledged + 10)
    assert found == list(range(len(found)))


def test_a_reader_hears_that_the_owner_ended(
    tmp_path: Path, started: Callable[[Path], subprocess.Popen[str]]
) -> None:
    process = started(tmp_path)
    with Producer(config(tmp_path)) as producer:
        producer.send("t", b"1")
    with Consumer(config(tmp_path)) as consumer:
        records = consumer.read("t", follow=True)
        assert next(records).value == b"1"
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(BrokerError, match=f"process {process.pid}, the owner of the log"):
            next(records)
    assert process.wait(HANG_S) == 0
