"""One log under several threads: producers, a worker, and somebody who watches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import HANG_S
from thalweg.stores.record import offset_of
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.streams.transport.port import (
    NewTopic,
    OffsetAndMetadata,
    TopicPartition,
    Transport,
)

PRODUCERS = 2
ROUNDS = 40
ROUND_RECORDS = 100
TOTAL = PRODUCERS * ROUNDS * ROUND_RECORDS

INPUT = [TopicPartition("input", number) for number in range(3)]
REPARTITION = [TopicPartition("app-x-repartition", number) for number in range(2)]
OUTPUT = TopicPartition("output", 0)
LOOP = TopicPartition("loop", 0)

Open = Callable[[str | None], Transport]


@pytest.fixture(params=["local", "memory"])
def open_transport(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "local":
        return lambda group: LocalTransport(tmp_path, group)
    log = memory_log()
    return lambda group: MemoryTransport(log, group)


class Crew:
    """Threads whose first failure fails the test."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(HANG_S)
            assert not thread.is_alive() or self.failures
        assert self.failures == []


def produce(open_transport: Open, topic: str, number: int) -> None:
    with open_transport(None) as transport:
        send = transport.sender(topic)
        for turn in range(ROUNDS):
            for one in range(ROUND_RECORDS):
                content = b"%d-%d" % (number, turn * ROUND_RECORDS + one)
                send(b"%d-%d" % (number, one % 7), content, 0, None, None)
            transport.flush()
            transport.commit({})


def collect(open_transport: Open, at: TopicPartition, found: list[bytes]) -> None:
    """Reads until everything came, woken by commits alone."""
    with open_transport(None) as transport:
        reader = transport.reader()
        reader.add({at: 0})
        last = -1
        while len(found) < TOTAL:
            for _, records in reader.poll(1000, 60_000):
                for record in records:
                    assert offset_of(record[3]) > last
                    last = offset_of(record[3])
                    assert record[2] is not None
                    found.append(record[2])


def work(open_transport: Open) -> None:
    """Passes the input through a repartition topic to the output, exactly once."""
    with open_transport("app") as transport:
        reader = transport.reader()
        reader.add(dict.fromkeys([*INPUT, *REPARTITION], 0))
        pass_on, send = transport.sender(REPARTITION[0].topic), transport.sender("output")
        done = turn = 0
        consumed: dict[TopicPartition, int] = {}
        while done < TOTAL:
            for at, records in reader.poll(150, 60_000):
                for timestamp, key, value, origin in records:
                    if at in INPUT:
                        pass_on(key, value, timestamp, None, None)
                    else:
                        send(key, value, timestamp, None, None)
                        done += 1
                    consumed[at] = offset_of(origin) + 1
            turn += 1
            if turn % 5 == 0 or done == TOTAL:
                transport.flush()
                transport.commit({at: OffsetAndMetadata(o) for at, o in consumed.items()})


def in_order(contents: list[bytes]) -> bool:
    """Tells whether each key's records came in the order they were sent in."""
    newest: dict[tuple[int, int], int] = {}
    for content in contents:
        number, turn = map(int, content.split(b"-"))
        key = (number, turn % ROUND_RECORDS % 7)
        if newest.get(key, -1) >= turn:
            return False
        newest[key] = turn
    return True


def test_producers_a_worker_and_a_reader_share_a_log(open_transport: Open) -> None:
    keeper = open_transport("app")
    keeper.create_topics(
        [
            NewTopic("input", len(INPUT)),
            NewTopic("output", 1),
            NewTopic(
                REPARTITION[0].topic,
                len(REPARTITION),
                configs={"cleanup.policy": "delete", "retention.ms": "-1"},
            ),
        ]
    )
    found: list[bytes] = []
    crew = Crew()
    crew.start(lambda: collect(open_transport, OUTPUT, found))
    crew.start(lambda: work(open_transport))
    for number in range(PRODUCERS):
        crew.start(lambda number=number: produce(open_transport, "input", number))  # type: ignore[misc]

    crew.join()

    assert len(found) == len(set(found)) == TOTAL
    assert in_order(found)
    ends = keeper.end_offsets([*INPUT, *REPARTITION])
    committed = keeper.committed([*INPUT, *REPARTITION])
    assert {at: position.offset for at, position in committed.items()} == ends
    keeper.close()


def test_a_topic_that_an_application_reads_and_writes_takes_others_records(
    open_transport: Open,
) -> None:
    """A loop: the worker claims what others write to at the same time."""
    keeper = open_transport(None)
    keeper.create_topics([NewTopic("loop", 1), NewTopic("output", 1)])

    def loop() -> None:
        with open_transport("app") as transport:
            reader = transport.reader()
            reader.add({LOOP: 0})
            send, again = transport.sender("output"), transport.sender("loop")
            done = turn = 0
            position: dict[TopicPartition, OffsetAndMetadata] = {}
            while done < TOTAL:
                for at, records in reader.poll(50, 100):
                    for timestamp, key, value, origin in records:
                        assert value is not None
                        if value.startswith(b"again-"):
                            send(key, value.removeprefix(b"again-"), timestamp, None, None)
                            done += 1
                        else:
                            again(key, b"again-" + value, timestamp, None, None)
                        position = {at: OffsetAndMetadata(offset_of(origin) + 1)}
                turn += 1
                # What stands behind its own claim comes only after a commit.
                if turn % 3 == 0 or done == TOTAL:
                    transport.commit(position)

    found: list[bytes] = []
    crew = Crew()
    crew.start(loop)
    crew.start(lambda: collect(open_transport, OUTPUT, found))
    for number in range(PRODUCERS):
        crew.start(lambda number=number: produce(open_transport, "loop", number))  # type: ignore[misc]

    crew.join()

    assert len(found) == len(set(found)) == TOTAL
    assert in_order(found)
    keeper.close()
