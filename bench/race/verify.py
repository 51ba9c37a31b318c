"""Reads a contender's output topic back and compares it with the reference.

A check returns (problem or None, number of output records, first and last append time in seconds).
Output topics carry the broker's append time, so the last output's timestamp closes the drain.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from msgspec.json import decode

from bench.race.load import MASK, PARTITIONS, SESSION_GAP_MS, SLIDING_MS, WINDOW_MS, Dataset

Facts = dict[str, Any]
"""`Dataset.expected`, or a contender's entry."""


@dataclass
class Outcome:
    """What was found: a problem or None, how many records, when the first and last came (s)."""

    problem: str | None
    outputs: int = 0
    first_append: float = 0.0
    last_append: float = 0.0


class Output:
    """Every record of a topic up to its present end, committed ones only.

    Messages go untyped: a contender may have written anything, and a check that cannot read it
    ends the race.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.count = 0
        self.first = float("inf")
        self.last = 0.0

    def __iter__(self) -> Iterator[Any]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "verify-" + self.topic,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.min.messages": 200_000,
                "fetch.wait.max.ms": 10,
            }
        )
        with contextlib.closing(consumer):
            consumer.assign([TopicPartition(self.topic, number, 0) for number in range(PARTITIONS)])
            open_partitions = PARTITIONS
            while open_partitions:
                for message in consumer.consume(5000, 5.0):
                    if message.error():
                        open_partitions -= 1
                        continue
                    append = message.timestamp()[1]
                    self.first = min(self.first, append)
                    self.last = max(self.last, append)
                    self.count += 1
                    yield message


def verify(bootstrap: str, topic: str, data: Dataset, contender: Facts) -> Outcome:
    output = Output(bootstrap, topic)
    problem = CHECKS[data.workload](output, data.expected, contender)
    if not output.count:
        return Outcome(problem or "no output")
    return Outcome(problem, output.count, output.first / 1e3, output.last / 1e3)


def compare_multiset(expected: Facts, count: int, total: int) -> str | None:
    if count != expected["count"]:
        return f"{count} outputs instead of {expected['count']}"
    return None if total & MASK == expected["total"] else "the outputs differ"


def passthrough(output: Output, expected: Facts, _contender: Facts) -> str | None:
    total = 0
    last: dict[bytes, bytes] = {}
    for message in output:
        key, value = message.key(), message.value()
        total += hash((key, value))
        number = value[:10]
        if last.get(key, b"") >= number:
            return f"key {key} is out of order"
        last[key] = number
    return compare_multiset(expected, output.count, total)


def map_filter(output: Output, expected: Facts, _contender: Facts) -> str | None:
    total = 0
    for message in output:
        row = decode(message.value())
        total += hash((row["id"], row["user"], row["amount"], row["text"], row["tax"]))
    return compare_multiset(expected, output.count, total)


def stream_table_join(output: Output, expected: Facts, _contender: Facts) -> str | None:
    total = 0
    for message in output:
        row = decode(message.value())
        total += hash(
            (row["id"], row["user"], row["amount"], row["ts"], row["country"], row["tier"])
        )
    return compare_multiset(expected, output.count, total)


def word_count(output: Output, expected: Facts, contender: Facts) -> str | None:
    binary = contender.get("count_format") == "int64"
    last: dict[bytes, int] = {}
    for message in output:
        key, value = message.key(), message.value()
        count = int.from_bytes(value, "big") if binary else int(value)
        if count <= last.get(key, 0):
            return f"the count of {key} falls to {count}"
        last[key] = count
    return None if last == expected["counts"] else "the final counts differ"


def windowed_sum(output: Output, expected: Facts, _contender: Facts) -> str | None:
    last: dict[tuple[bytes, int], float] = {}
    for message in output:
        row = decode(message.value())
        if row["end"] - row["start"] != WINDOW_MS:
            return f"a window of {row}"
        last[message.key(), row["start"]] = row["value"]
    sums = expected["sums"]
    if last.keys() != sums.keys():
        return f"{len(last)} windows instead of {len(sums)}"
    wrong = sum(abs(last[window] - sums[window]) > 1e-6 for window in sums)
    return f"{wrong} sums differ" if wrong else None


def suppress_windows(output: Output, expected: Facts, _contender: Facts) -> str | None:
    """Every closed window was emitted once, and no other."""
    sums = expected["sums"]
    missing = set(sums)
    for message in output:
        row = decode(message.value())
        window = message.key(), row["start"]
        if window not in missing:
            return f"a window of {row} that is not closed, or a second time"
        missing.discard(window)
        if row["end"] - row["start"] != WINDOW_MS or abs(row["value"] - sums[window]) > 1e-6:
            return f"a window of {row} instead of the sum {sums[window]}"
    return f"{len(missing)} windows are missing" if missing else None


def sliding_count(output: Output, expected: Facts, _contender: Facts) -> str | None:
    last: dict[tuple[bytes, int], float] = {}
    for message in output:
        row = decode(message.value())
        if row["end"] - row["start"] != SLIDING_MS:
            return f"a window of {row}"
        last[message.key(), row["start"]] = row["value"]
    counts = expected["counts"]
    if last.keys() != counts.keys():
        return f"{len(last)} windows instead of {len(counts)}"
    wrong = sum(last[window] != counts[window] for window in counts)
    return f"{wrong} counts differ" if wrong else None


def foreign_key_join(output: Output, expected: Facts, _contender: Facts) -> str | None:
    """The last row of each order is right: those before depend on which side was read first."""
    last: dict[bytes, tuple[Any, ...] | None] = {}
    for message in output:
        value = message.value()
        row = None if value is None else decode(value)
        last[message.key()] = row and tuple(
            row[field] for field in ("id", "user", "amount", "ts", "country", "tier")
        )
    wanted = expected["last"]
    wrong = sum(last.get(key) != row for key, row in wanted.items())
    if wrong:
        return f"{wrong} of {len(wanted)} orders differ"
    return None if len(last) == len(wanted) else "there are orders nobody gave"


def session_count(output: Output, expected: Facts, contender: Facts) -> str | None:
    """Every final session was emitted, and nothing that is not a part of one."""
    sessions = expected["sessions"]
    shift = 1 if contender.get("session_end") == "exclusive" else 0
    missing = {(key, span) for key, spans in sessions.items() for span in spans}
    for message in output:
        row = decode(message.value())
        if row["value"] is None:
            continue
        key, start, end = message.key(), row["start"], row["end"] - shift
        if sessions[key].get((start, end)) == row["value"]:
            missing.discard((key, (start, end)))
            continue
        whole = any(
            first <= start and end <= last and row["value"] < count
            for (first, last), count in sessions[key].items()
        )
        if not whole:
            return f"{key} has no session {row} (gap {SESSION_GAP_MS} ms)"
    return f"{len(missing)} sessions are missing" if missing else None


CHECKS: dict[str, Callable[[Output, Facts, Facts], str | None]] = {
    "passthrough": passthrough,
    "map_filter": map_filter,
    "word_count": word_count,
    "windowed_sum": windowed_sum,
    "stream_table_join": stream_table_join,
    "versioned_join": stream_table_join,
    "stream_stream_join": stream_table_join,
    "foreign_key_join": foreign_key_join,
    "session_count": session_count,
    "sliding_count": sliding_count,
    "suppress_windows": suppress_windows,
}
