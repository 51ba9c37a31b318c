"""A worker that is killed: commits transactions until it dies. Run as a program.

Each round is one transaction, as an application makes it: it reads the input that it commits
by offset, passes it through a repartition topic in the same transaction, and writes to an
output and a changelog. After each commit it says so on standard output.
"""

from __future__ import annotations

import sys

from thalweg.stores.record import offset_of
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.port import NewTopic, OffsetAndMetadata, TopicPartition

INPUT = [TopicPartition("input", number) for number in range(2)]
REPARTITION = [TopicPartition("app-x-repartition", number) for number in range(2)]
OUTPUT = [TopicPartition("output", number) for number in range(3)]
CHANGELOG = [TopicPartition("app-x-changelog", number) for number in range(2)]


def start_positions(
    transport: LocalTransport, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    committed = transport.committed(partitions)
    begins = transport.begin_offsets(partitions)
    return {at: committed[at].offset if at in committed else begins[at] for at in partitions}


def main(data_dir: str) -> None:
    transport = LocalTransport(data_dir, "app")
    transport.create_topics(
        [
            NewTopic(
                REPARTITION[0].topic,
                len(REPARTITION),
                configs={"cleanup.policy": "delete", "retention.ms": "-1"},
            ),
            NewTopic(OUTPUT[0].topic, len(OUTPUT)),
            NewTopic(
                CHANGELOG[0].topic,
                len(CHANGELOG),
                configs={"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"},
            ),
        ]
    )
    reader = transport.reader()
    reader.add(start_positions(transport, [*INPUT, *REPARTITION]))
    pass_on = transport.sender(REPARTITION[0].topic)
    send = transport.sender(OUTPUT[0].topic)
    log = transport.sender(CHANGELOG[0].topic, track_offsets=True)
    consumed: dict[TopicPartition, int] = {}
    done = 0
    print("open", flush=True)
    for turn in range(1_000_000):
        # An odd number of reads leaves repartition records unread at some commits.
        for _ in range(1 + turn % 4):
            for at, records in reader.poll(200, 0):
                for timestamp, key, value, origin in records:
                    if at in INPUT:
                        pass_on(key, value, timestamp, None, None)
                    else:
                        send(key, value, timestamp, None, None)
                        log(key, value, timestamp, None, at.partition)
                        done += 1
                    consumed[at] = offset_of(origin) + 1
        transport.flush()
        transport.commit({at: OffsetAndMetadata(offset) for at, offset in consumed.items()})
        consumed.clear()
        if turn % 7 == 6:
            committed = transport.committed(REPARTITION)
            transport.delete_records({at: found.offset for at, found in committed.items()})
        print(done, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
