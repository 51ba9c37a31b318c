"""The same work by hand: closures that call each other, and no runtime.

What somebody would write who needs just this one job: records come as a list, go through a
closure for each step of the job, bound to the next, state sits in a write-back dict over
RocksDB, and every so many records a commit writes the dirty rows to store, changelog and
output. The runtime is measured against these in the same run; they do the same encoding and
decoding and keep the same rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.workloads import (
    GRACE_MS,
    WINDOW_MS,
    Enriched,
    Payment,
    Rows,
    Taxed,
    User,
    Workload,
)
from thalweg.stores.bytes.rocks import RocksByteStore

POLL_RECORDS = 10_000
"""Most records taken at once, as the runtime does."""

COMMIT_RECORDS = 50_000
"""Input records between two commits: what the runtime's word count does in its second, so
that both commit as often."""

_pack_long = struct.Struct(">q").pack
_pack_double = struct.Struct(">d").pack
_unpack_double = struct.Struct(">d").unpack

Out = list[tuple[bytes, bytes, int]]
Job = tuple[Callable[[str, Rows], None], Callable[[], None]]


def run(workload: Workload, directory: Path) -> Out:
    """Runs a workload by hand and returns its output."""
    out: Out = []
    feed, commit = JOBS[workload.name](out, directory)
    fed = 0
    for topic, rows in workload.inputs.items():
        for start in range(0, len(rows), POLL_RECORDS):
            feed(topic, rows[start : start + POLL_RECORDS])
            fed += POLL_RECORDS
            if fed % COMMIT_RECORDS == 0:
                commit()
    commit()
    return out


def passthrough(out: Out, _directory: Path) -> Job:
    """Bytes straight on."""
    send = out.append

    def sink(key: bytes, value: bytes, timestamp: int) -> None:
        send((key, value, timestamp))

    def feed(_topic: str, rows: Rows) -> None:
        for key, value, timestamp in rows:
            sink(key, value, timestamp)  # type: ignore[arg-type]

    return feed, lambda: None


def map_filter(out: Out, _directory: Path) -> Job:
    """JSON in, JSON out."""
    send, decode, encode = out.append, msgspec.json.Decoder(Payment).decode, msgspec.json.encode

    def sink(key: str, value: Taxed, timestamp: int) -> None:
        send((key.encode(), encode(value), timestamp))

    def tax(key: str, p: Payment, timestamp: int) -> None:
        sink(key, Taxed(p.id, p.user, p.amount, p.text, p.amount * 0.2), timestamp)

    def keep(key: str, p: Payment, timestamp: int) -> None:
        if p.amount >= 50.0:
            tax(key, p, timestamp)

    def feed(_topic: str, rows: Rows) -> None:
        for key, value, timestamp in rows:
            keep(key.decode(), decode(value), timestamp)  # type: ignore[union-attr]

    return feed, lambda: None


def word_count(out: Out, directory: Path) -> Job:
    """Split, hand over by word, count behind a write-back dict."""
    store = RocksByteStore("counts", directory)
    repartition: list[tuple[bytes, bytes, int]] = []
    changelog: Out = []
    cache: dict[str, list[Any]] = {}
    dirty: list[list[Any]] = []
    to_repartition, send, log, read = repartition.append, out.append, changelog.append, store.get

    def write(key: str, value: str, timestamp: int) -> None:
        to_repartition((key.encode(), value.encode(), timestamp))

    def group(_key: bytes | None, word: str, timestamp: int) -> None:
        write(word, word, timestamp)

    def split(key: bytes | None, line: str, timestamp: int) -> None:
        for word in line.split():
            group(key, word, timestamp)

    def count(word: str, _value: str, timestamp: int) -> None:
        row = cache.get(word)
        if row is None:
            stored = read(word.encode())
            before = 0 if stored is None else int.from_bytes(stored[8:])
            row = cache[word] = [word, before, -1, False]
        row[1] += 1
        row[2] = max(row[2], timestamp)
        if not row[3]:
            row[3] = True
            dirty.append(row)

    def feed(_topic: str, rows: Rows) -> None:
        for key, value, timestamp in rows:
            split(key, value.decode(), timestamp)
        for raw_key, raw_value, timestamp in repartition:
            count(raw_key.decode(), raw_value.decode(), timestamp)
        repartition.clear()

    def emit(key: str, total: int, timestamp: int) -> None:
        send((key.encode(), _pack_long(total), timestamp))

    def commit() -> None:
        batch = []
        for row in dirty:
            word, total, timestamp, _ = row
            raw_key, raw_total = word.encode(), _pack_long(total)
            batch.append((raw_key, _pack_long(timestamp) + raw_total))
            log((raw_key, raw_total, timestamp))
            emit(word, total, timestamp)
            row[3] = False
        dirty.clear()
        store.write(batch)
        changelog.clear()

    return feed, commit


def windowed_sum(out: Out, directory: Path) -> Job:
    """Sums per key and window behind a write-back dict."""
    store = RocksByteStore("sums", directory)
    decode = msgspec.json.Decoder(Payment).decode
    changelog: Out = []
    cache: dict[tuple[str, int], list[Any]] = {}
    dirty: list[tuple[tuple[str, int], list[Any]]] = []
    send, log, read = out.append, changelog.append, store.get
    stream_time = -1

    def raw(key: str, start: int) -> bytes:
        return key.encode() + _pack_long(start) + b"\0\0\0\0"

    def add(key: str, amount: float, timestamp: int) -> None:
        nonlocal stream_time
        stream_time = max(stream_time, timestamp)
        start = timestamp - timestamp % WINDOW_MS
        if start + WINDOW_MS <= stream_time - GRACE_MS:
            return
        place = (key, start)
        row = cache.get(place)
        if row is None:
            stored = read(raw(key, start))
            before = 0.0 if stored is None else _unpack_double(stored[8:])[0]
            row = cache[place] = [before, -1, False]
        row[0] += amount
        row[1] = max(row[1], timestamp)
        if not row[2]:
            row[2] = True
            dirty.append((place, row))

    def feed(_topic: str, rows: Rows) -> None:
        for key, value, timestamp in rows:
            add(key.decode(), decode(value).amount, timestamp)  # type: ignore[union-attr]

    def commit() -> None:
        batch = []
        for (key, start), row in dirty:
            total, timestamp, _ = row
            raw_key, raw_total = raw(key, start), _pack_double(total)
            batch.append((raw_key, _pack_long(timestamp) + raw_total))
            log((raw_key, raw_total, timestamp))
            send((f"{key}@{start}".encode(), raw_total, timestamp))
            row[2] = False
        dirty.clear()
        if len(cache) > 100_000:
            cache.clear()
        store.write(batch)
        changelog.clear()

    return feed, commit


def stream_table_join(out: Out, directory: Path) -> Job:
    """Look each payment's user up."""
    store = RocksByteStore("users", directory)
    decode_user, decode = msgspec.json.Decoder(User).decode, msgspec.json.Decoder(Payment).decode
    encode = msgspec.json.encode
    changelog: Out = []
    cache: dict[str, tuple[User, int]] = {}
    dirty: dict[str, None] = {}
    send, log, read = out.append, changelog.append, store.get

    def update(key: str, user: User, timestamp: int) -> None:
        cache[key] = (user, timestamp)
        dirty[key] = None

    def join(key: str, p: Payment, timestamp: int) -> None:
        row = cache.get(key)
        if row is None:
            stored = read(key.encode())
            if stored is None:
                return
            row = cache[key] = (decode_user(stored[8:]), int.from_bytes(stored[:8]))
        user = row[0]
        enriched = Enriched(p.id, p.user, p.amount, user.country, user.tier)
        send((key.encode(), encode(enriched), timestamp))

    def feed(topic: str, rows: Rows) -> None:
        if topic == "table":
            for key, value, timestamp in rows:
                update(key.decode(), decode_user(value), timestamp)  # type: ignore[union-attr]
        else:
            for key, value, timestamp in rows:
                join(key.decode(), decode(value), timestamp)  # type: ignore[union-attr]

    def commit() -> None:
        batch = []
        for key in dirty:
            user, timestamp = cache[key]
            raw_key, raw_user = key.encode(), encode(user)
            batch.append((raw_key, _pack_long(timestamp) + raw_user))
            log((raw_key, raw_user, timestamp))
        dirty.clear()
        store.write(batch)
        changelog.clear()

    return feed, commit


JOBS: dict[str, Callable[[Out, Path], Job]] = {
    "passthrough": passthrough,
    "map_filter": map_filter,
    "word_count": word_count,
    "windowed_sum": windowed_sum,
    "stream_table_join": stream_table_join,
}
