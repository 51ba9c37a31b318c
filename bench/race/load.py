"""Deterministic input for every workload, and the plain Python reference of its output.

A generator yields (key, value, partition or None, timestamp) and, while it does so, fills
`Dataset.expected` with what a correct contender must produce. Same seed and size, same bytes;
only the event times shift with the moment of loading.

    python -m bench.race.load WORKLOAD TOPIC [--bootstrap HOST:PORT] [--records N]
"""

from __future__ import annotations

import argparse
import random
import string
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

PARTITIONS = 4
SEED = 20_260_101
BASE_AGE_MS = 3_600_000
WINDOW_MS = 10_000
SESSION_GAP_MS = 3_000
JITTER_MS = 2_000
SPAN_MS = 80_000
TABLE_RECORDS = 200_000
VERSIONED_USERS = 50_000
"""Each of them has some versions in the table of `versioned_join`."""
VERSIONS_SPAN_MS = 600_000
IN_ORDER_RECORDS = 1_000
"""So many records come in order first: a worker that goes by time reads the table before them."""
LOGIN_USERS = 50_000
NEAR_MS = 1_000
"""How far apart a payment and a login are at most that `stream_stream_join` joins."""
SLIDING_USERS = 5_000
SLIDING_MS = 2_000
FK_USERS = 50_000
"""Each of them comes twice in the table of `foreign_key_join`: before the orders, and among them."""
ORDER_UPDATES = 4
"""How often an order of `foreign_key_join` comes on average; it changes its user each time."""
SUPPRESS_GRACE_MS = 5_000
MASK = (1 << 64) - 1

Record = tuple[bytes | None, bytes, int | None, int]
"""Key, value, partition or None, timestamp in ms."""

SIZES = {
    "passthrough": 2_000_000,
    "map_filter": 1_000_000,
    "word_count": 300_000,
    "windowed_sum": 1_000_000,
    "stream_table_join": 1_000_000,
    "versioned_join": 1_000_000,
    "stream_stream_join": 1_000_000,
    "foreign_key_join": 500_000,
    "session_count": 1_000_000,
    "sliding_count": 300_000,
    "suppress_windows": 1_000_000,
    "restore": 2_000_000,
}


@dataclass
class Dataset:
    """One loaded input, and what must come of it."""

    workload: str
    topic: str
    records: int
    base_ms: int
    table_records: int = 0
    expected: dict[str, Any] = field(default_factory=dict)


def passthrough(data: Dataset, rng: random.Random) -> Iterator[Record]:
    filler = "".join(rng.choices(string.ascii_letters, k=4096)).encode()
    count = total = 0
    for number in range(data.records):
        key = b"k%05d" % rng.randrange(10_000)
        cut = number % 4000
        value = b"%010d" % number + filler[cut : cut + 90]
        total += hash((key, value))
        count += 1
        yield key, value, None, data.base_ms + number // 1000
    data.expected.update(count=count, total=total & MASK)


def map_filter(data: Dataset, rng: random.Random) -> Iterator[Record]:
    letters = "".join(rng.choices(string.ascii_lowercase + " ", k=4096))
    count = total = 0
    for number in range(data.records):
        user = f"u{rng.randrange(50_000):05d}"
        amount = rng.randrange(10_000) / 100
        text = letters[number % 4000 : number % 4000 + 68]
        if amount >= 50.0:
            total += hash((number, user, amount, text, amount * 0.2))
            count += 1
        value = f'{{"id":{number},"user":"{user}","amount":{amount},"text":"{text}"}}'
        yield user.encode(), value.encode(), None, data.base_ms + number // 1000
    data.expected.update(count=count, total=total & MASK)


def vocabulary(rng: random.Random) -> tuple[list[str], list[float]]:
    words: dict[str, None] = {}
    while len(words) < 20_000:
        words["".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 10)))] = None
    return list(words), list(accumulate(1 / rank for rank in range(1, 20_001)))


def word_count(data: Dataset, rng: random.Random) -> Iterator[Record]:
    words, weights = vocabulary(rng)
    counts: Counter[str] = Counter()
    for number in range(data.records):
        line = rng.choices(words, cum_weights=weights, k=rng.randint(5, 11))
        counts.update(line)
        yield None, " ".join(line).encode(), number % PARTITIONS, data.base_ms + number // 1000
    data.expected.update(counts={word.encode(): count for word, count in counts.items()})


def payments(
    data: Dataset, rng: random.Random, users: int
) -> Iterator[tuple[int, str, float, int]]:
    for number in range(data.records):
        user = f"user{rng.randrange(users):06d}"
        amount = rng.randrange(10_000) / 100
        ts = data.base_ms + number * SPAN_MS // data.records - rng.randrange(JITTER_MS)
        yield number, user, amount, ts


def payment_json(number: int, user: str, amount: float, ts: int) -> bytes:
    return f'{{"id":{number},"user":"{user}","amount":{amount},"ts":{ts}}}'.encode()


def windowed_sum(data: Dataset, rng: random.Random) -> Iterator[Record]:
    sums: dict[tuple[bytes, int], float] = defaultdict(float)
    for number, user, amount, ts in payments(data, rng, 50_000):
        sums[user.encode(), ts - ts % WINDOW_MS] += amount
        yield user.encode(), payment_json(number, user, amount, ts), None, ts
    data.expected.update(sums=dict(sums))


def suppress_windows(data: Dataset, rng: random.Random) -> Iterator[Record]:
    yield from windowed_sum(data, rng)
    # A window is closed once an event of its partition is later than its end by the grace. Each
    # partition's last event is at most two jitters before the end of the span, and the span is
    # full windows: so no window's close depends on that event.
    latest = data.base_ms + SPAN_MS - 2 * JITTER_MS
    closed = {
        (key, start): total
        for (key, start), total in data.expected["sums"].items()
        if start + WINDOW_MS + SUPPRESS_GRACE_MS <= latest
    }
    data.expected.update(sums=closed)


def sliding_count(data: Dataset, rng: random.Random) -> Iterator[Record]:
    times: dict[bytes, list[int]] = defaultdict(list)
    for number, user, amount, ts in payments(data, rng, SLIDING_USERS):
        times[user.encode()].append(ts)
        yield user.encode(), payment_json(number, user, amount, ts), None, ts
    data.expected.update(
        counts={
            (key, start): count
            for key, all_ts in times.items()
            for start, count in near_events(sorted(all_ts)).items()
        }
    )


def near_events(times: list[int]) -> dict[int, int]:
    """First ms of a window -> events in it, for the windows that end at or begin after an event."""
    counts: dict[int, int] = {}
    for start in {ts - SLIDING_MS for ts in times} | {ts + 1 for ts in times}:
        count = bisect_right(times, start + SLIDING_MS) - bisect_left(times, start)
        if count:
            counts[start] = count
    return counts


def session_count(data: Dataset, rng: random.Random) -> Iterator[Record]:
    times: dict[bytes, list[int]] = defaultdict(list)
    for number, user, amount, ts in payments(data, rng, 20_000):
        times[user.encode()].append(ts)
        yield user.encode(), payment_json(number, user, amount, ts), None, ts
    data.expected.update(
        sessions={key: split_sessions(sorted(all_ts)) for key, all_ts in times.items()}
    )


def split_sessions(times: list[int]) -> dict[tuple[int, int], int]:
    """(first, last event time) -> events, where a pause longer than the gap splits."""
    sessions: dict[tuple[int, int], int] = {}
    start = last = times[0]
    count = 0
    for ts in times:
        if ts - last > SESSION_GAP_MS:
            sessions[start, last] = count
            start, count = ts, 0
        last = ts
        count += 1
    sessions[start, last] = count
    return sessions


def profile(number: int) -> tuple[str, str, int]:
    return f"name {number * 7919 % 100_003}", f"c{number % 200}", number % 5


def join_table(data: Dataset, _rng: random.Random) -> Iterator[Record]:
    for number in range(TABLE_RECORDS):
        user = f"user{number:06d}"
        name, country, tier = profile(number)
        value = f'{{"user":"{user}","name":"{name}","country":"{country}","tier":{tier}}}'
        yield user.encode(), value.encode(), None, data.base_ms - 600_000 + number // 1000


def stream_table_join(data: Dataset, rng: random.Random) -> Iterator[Record]:
    count = total = 0
    for number, user, amount, ts in payments(data, rng, TABLE_RECORDS):
        _name, country, tier = profile(int(user[4:]))
        total += hash((number, user, amount, ts, country, tier))
        count += 1
        yield user.encode(), payment_json(number, user, amount, ts), None, ts
    data.expected.update(count=count, total=total & MASK)


def version_at(data: Dataset, number: int) -> int:
    """Returns the time of a record of the versioned table."""
    return data.base_ms - JITTER_MS - VERSIONS_SPAN_MS + number * VERSIONS_SPAN_MS // TABLE_RECORDS


def versioned_table(data: Dataset, _rng: random.Random) -> Iterator[Record]:
    for number in range(TABLE_RECORDS):
        user = f"user{number % VERSIONED_USERS:06d}"
        name, country, tier = profile(number)
        value = f'{{"user":"{user}","name":"{name}","country":"{country}","tier":{tier}}}'
        yield user.encode(), value.encode(), None, version_at(data, number)


def versioned_join(data: Dataset, rng: random.Random) -> Iterator[Record]:
    count = total = 0
    for number, user, amount, now in payments(data, rng, VERSIONED_USERS):
        ts = now if number < IN_ORDER_RECORDS else now - rng.randrange(VERSIONS_SPAN_MS)
        yield user.encode(), payment_json(number, user, amount, ts), None, ts
        versions = range(int(user[4:]), TABLE_RECORDS, VERSIONED_USERS)
        valid = [version for version in versions if version_at(data, version) <= ts]
        if valid:
            _name, country, tier = profile(valid[-1])
            total += hash((number, user, amount, ts, country, tier))
            count += 1
    data.expected.update(count=count, total=total & MASK)


def login_at(data: Dataset, rng: random.Random) -> Iterator[tuple[int, str, int]]:
    """Yields number, user and time of each login: as many as there are payments."""
    for number in range(data.records):
        user = f"user{rng.randrange(LOGIN_USERS):06d}"
        yield (
            number,
            user,
            data.base_ms + number * SPAN_MS // data.records - rng.randrange(JITTER_MS),
        )


def logins(data: Dataset, rng: random.Random) -> Iterator[Record]:
    for number, user, ts in login_at(data, rng):
        name, country, tier = profile(number)
        value = f'{{"user":"{user}","name":"{name}","country":"{country}","tier":{tier}}}'
        yield user.encode(), value.encode(), None, ts


def stream_stream_join(data: Dataset, rng: random.Random) -> Iterator[Record]:
    # The logins as `load` sends them: of a generator of their own, seeded alike.
    by_user: dict[str, list[tuple[int, int]]] = {}
    for number, user, ts in login_at(data, random.Random(SEED)):
        by_user.setdefault(user, []).append((ts, number))
    count = total = 0
    for number, user, amount, ts in payments(data, rng, LOGIN_USERS):
        yield user.encode(), payment_json(number, user, amount, ts), None, ts
        for login_ms, login in by_user.get(user, ()):
            if abs(login_ms - ts) <= NEAR_MS:
                _name, country, tier = profile(login)
                total += hash((number, user, amount, ts, country, tier))
                count += 1
    data.expected.update(count=count, total=total & MASK)


def changing_users(data: Dataset, _rng: random.Random) -> Iterator[Record]:
    """Yields every user once before the orders, and once more, changed, among them."""
    for number in range(2 * FK_USERS):
        user = f"user{number % FK_USERS:06d}"
        name, country, tier = profile(number)
        value = f'{{"user":"{user}","name":"{name}","country":"{country}","tier":{tier}}}'
        changed = number - FK_USERS
        after = changed * SPAN_MS // FK_USERS if changed >= 0 else -JITTER_MS - 1
        yield user.encode(), value.encode(), None, data.base_ms + after


def foreign_key_join(data: Dataset, rng: random.Random) -> Iterator[Record]:
    """Yields orders that change; what counts in the end is the last of each, with the last user."""
    orders = max(1, data.records // ORDER_UPDATES)
    last: dict[bytes, tuple[int, str, float, int, str, int]] = {}
    for number, user, amount, ts in payments(data, rng, FK_USERS):
        order = b"order%06d" % rng.randrange(orders)
        yield order, payment_json(number, user, amount, ts), None, ts
        _name, country, tier = profile(FK_USERS + int(user[4:]))
        last[order] = number, user, amount, ts, country, tier
    data.expected.update(last=last)


def restore(data: Dataset, rng: random.Random) -> Iterator[Record]:
    checksum = 0
    for number in range(data.records):
        amount = rng.randrange(10**12)
        checksum += amount
        yield b"k%07d" % number, b"%012d" % amount + b"x" * 28, None, data.base_ms + number // 1000
    data.expected.update(entries=data.records, checksum=checksum)


GENERATORS: dict[str, Callable[[Dataset, random.Random], Iterator[Record]]] = {
    "passthrough": passthrough,
    "map_filter": map_filter,
    "word_count": word_count,
    "windowed_sum": windowed_sum,
    "stream_table_join": stream_table_join,
    "versioned_join": versioned_join,
    "stream_stream_join": stream_stream_join,
    "foreign_key_join": foreign_key_join,
    "session_count": session_count,
    "sliding_count": sliding_count,
    "suppress_windows": suppress_windows,
    "restore": restore,
}


TABLES: dict[str, Callable[[Dataset, random.Random], Iterator[Record]]] = {
    "stream_table_join": join_table,
    "versioned_join": versioned_table,
    "stream_stream_join": logins,
    "foreign_key_join": changing_users,
}
"""What makes the table, or the other stream, that a workload joins with."""


def load(bootstrap: str, workload: str, topic: str, records: int) -> Dataset:
    now = int(time.time() * 1000)
    data = Dataset(workload, topic, records, (now - BASE_AGE_MS) // WINDOW_MS * WINDOW_MS)
    create_topic(bootstrap, topic, {"retention.ms": "-1"})
    if workload in TABLES:
        create_topic(bootstrap, table_of(topic), {"retention.ms": "-1"})
        send(bootstrap, table_of(topic), TABLES[workload](data, random.Random(SEED)))
        data.table_records = {"stream_stream_join": records, "foreign_key_join": 2 * FK_USERS}.get(
            workload, TABLE_RECORDS
        )
    send(bootstrap, topic, GENERATORS[workload](data, random.Random(SEED)))
    return data


def table_of(topic: str) -> str:
    return topic + "-table"


def create_topic(bootstrap: str, topic: str, config: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 4})
    new = NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1, config=config)
    admin.create_topics([new])[topic].result(30)


def send(bootstrap: str, topic: str, records: Iterator[Record]) -> None:
    # Java's partitioner, so that keyed topics are co-partitioned for every contender
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,  # a retry on a new topic must not reorder a key
            "linger.ms": 50,
            "batch.size": 1 << 18,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )
    for key, value, partition, timestamp in records:
        where = -1 if partition is None else partition  # -1 leaves it to the partitioner
        while True:
            try:
                producer.produce(topic, value, key, where, timestamp=timestamp)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=sorted(GENERATORS))
    parser.add_argument("topic")
    parser.add_argument("--bootstrap", default="127.0.0.1:29092")
    parser.add_argument("--records", type=int)
    args = parser.parse_args()
    started = time.monotonic()
    data = load(args.bootstrap, args.workload, args.topic, args.records or SIZES[args.workload])
    print(f"{data.records} records in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
