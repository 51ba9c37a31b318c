"""thalweg in the race: one process, one worker, one workload, from start to drained.

Arguments are name=value words, as `contenders.toml` fills them in. The last line on stdout is
the report that the harness reads.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from bench.race import workers
from thalweg import (
    App,
    JoinWindows,
    KTable,
    Materialized,
    RestoreListener,
    SessionWindows,
    SlidingWindows,
    State,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    TopicPartition,
    Windowed,
    serdes,
    versioned_store,
)

STORE = "store"
WATCH_SECONDS = 0.002
SAY_SECONDS = 0.02


class Event(msgspec.Struct, frozen=True):
    """Input of map_filter."""

    id: int
    user: str
    amount: float
    text: str


class Taxed(msgspec.Struct, frozen=True):
    """Output of map_filter."""

    id: int
    user: str
    amount: float
    text: str
    tax: float


class Payment(msgspec.Struct, frozen=True):
    """Input of the windowed sum and of the join."""

    id: int
    user: str
    amount: float
    ts: int


class User(msgspec.Struct, frozen=True):
    """A row of the table."""

    user: str
    name: str
    country: str
    tier: int


class Enriched(msgspec.Struct, frozen=True):
    """Output of the join."""

    id: int
    user: str
    amount: float
    ts: int
    country: str
    tier: int


class WindowOut(msgspec.Struct, frozen=True):
    """Output of sums and counts of windows; no value where a session is gone."""

    start: int
    end: int
    value: float | None


def passthrough(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Bytes straight on."""
    builder.stream(options["input"], key_serde=serdes.bytes, value_serde=serdes.bytes).to(
        options["output"]
    )


def map_filter(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Decode, keep the large amounts, add the tax, encode."""
    (
        builder.stream(options["input"], key_serde=serdes.bytes, value_serde=serdes.json(Event))
        .filter(lambda _key, event: event.amount >= 50.0)
        .map_values(lambda e: Taxed(e.id, e.user, e.amount, e.text, e.amount * 0.2))
        .to(options["output"], key_serde=serdes.bytes, value_serde=serdes.json(Taxed))
    )


def word_count(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Split lines, group by word, count."""
    (
        builder.stream(options["input"], key_serde=serdes.bytes, value_serde=serdes.string)
        .flat_map_values(str.split)
        .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(materialized=Materialized(STORE, key_serde=serdes.string))
        .to_stream()
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.int64)
    )


def _row(key: Windowed[str], value: float | None) -> tuple[str, WindowOut]:
    return key.key, WindowOut(key.window.start_ms, key.window.end_ms, value)


def _sums(builder: StreamsBuilder, options: dict[str, str]) -> KTable[Windowed[str], float]:
    return (
        builder.stream(options["input"], key_serde=serdes.string, value_serde=serdes.json(Payment))
        .group_by_key()
        .windowed_by(TimeWindows.of_size(timedelta(seconds=10), grace=timedelta(seconds=5)))
        .aggregate(
            float,
            lambda _user, payment, total: total + payment.amount,
            materialized=Materialized(STORE, key_serde=serdes.string, value_serde=serdes.float64),
        )
    )


def windowed_sum(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Sum the amounts of each user in windows of ten seconds."""
    (
        _sums(builder, options)
        .to_stream()
        .map(_row)
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(WindowOut))
    )


def suppress_windows(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """The same sums, but only the last of each window, once it is closed."""
    (
        _sums(builder, options)
        .suppress(Suppressed.until_window_closes())
        .to_stream()
        .map(_row)
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(WindowOut))
    )


def session_count(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Count each user's payments in sessions that end with three seconds of rest."""
    (
        builder.stream(options["input"], key_serde=serdes.string, value_serde=serdes.json(Payment))
        .group_by_key()
        .windowed_by(
            SessionWindows.of_inactivity_gap(timedelta(seconds=3), grace=timedelta(seconds=5))
        )
        .count(STORE)
        .to_stream()
        .map(_row)
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(WindowOut))
    )


def sliding_count(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Count each user's payments that lie within two seconds, around every payment."""
    (
        builder.stream(options["input"], key_serde=serdes.string, value_serde=serdes.json(Payment))
        .group_by_key()
        .windowed_by(
            SlidingWindows.of_time_difference(timedelta(seconds=2), grace=timedelta(seconds=5))
        )
        .count(STORE)
        .to_stream()
        .map(_row)
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(WindowOut))
    )


def stream_table_join(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Enrich payments by their user."""
    _enrich(builder, options, Materialized(STORE))


def versioned_join(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Enrich payments by their user as he was at the time of the payment."""
    _enrich(builder, options, Materialized(store=versioned_store(STORE, timedelta(hours=1))))


def stream_stream_join(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Enrich payments by the logins of their user that are at most a second away."""
    logins = builder.stream(
        options["input"] + "-table", key_serde=serdes.string, value_serde=serdes.json(User)
    )
    (
        builder.stream(options["input"], key_serde=serdes.string, value_serde=serdes.json(Payment))
        .join(
            logins,
            lambda p, user: Enriched(p.id, p.user, p.amount, p.ts, user.country, user.tier),
            JoinWindows.of_time_difference(timedelta(seconds=1), grace=timedelta(minutes=1)),
        )
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(Enriched))
    )


def foreign_key_join(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Enrich a table of orders by their user, as both change."""
    users = builder.table(
        options["input"] + "-table", key_serde=serdes.string, value_serde=serdes.json(User)
    )
    (
        builder.table(options["input"], key_serde=serdes.string, value_serde=serdes.json(Payment))
        .join(
            users,
            lambda p, user: Enriched(p.id, p.user, p.amount, p.ts, user.country, user.tier),
            foreign_key_extractor=lambda payment: payment.user,
        )
        .to_stream()
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(Enriched))
    )


def _enrich(
    builder: StreamsBuilder, options: dict[str, str], materialized: Materialized[str, User]
) -> None:
    users = builder.table(
        options["input"] + "-table",
        key_serde=serdes.string,
        value_serde=serdes.json(User),
        materialized=materialized,
    )
    (
        builder.stream(options["input"], key_serde=serdes.string, value_serde=serdes.json(Payment))
        .join(
            users,
            lambda p, user: Enriched(p.id, p.user, p.amount, p.ts, user.country, user.tier),
        )
        .to(options["output"], key_serde=serdes.string, value_serde=serdes.json(Enriched))
    )


def table(builder: StreamsBuilder, options: dict[str, str]) -> None:
    """Fill a store, or restore it."""
    builder.table(
        options["input"],
        key_serde=serdes.bytes,
        value_serde=serdes.bytes,
        materialized=Materialized(STORE, key_serde=serdes.bytes, value_serde=serdes.bytes),
    )


WORKLOADS: dict[str, Callable[[StreamsBuilder, dict[str, str]], None]] = {
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
    "restore_build": table,
    "restore": table,
}


REPARTITIONED = frozenset({"word_count", "foreign_key_join"})
"""Workloads with records on their way through topics of the application's own."""


class Marks:
    """Notes the moments the harness asks for."""

    def __init__(self, expected: int) -> None:
        self.report: dict[str, Any] = {}
        self._expected = expected

    def note(self, name: str) -> None:
        """Notes the first time something happens."""
        if name not in self.report:
            self.report[name] = time.time()
            if name == "first_ts":
                self.report["cpu_first"] = time.process_time()

    def seen(self, records: int) -> None:
        """Notes how much of the input was read."""
        if records >= self._expected // 10:
            self.note("t10_ts")
        if records >= self._expected * 9 // 10:
            self.note("t90_ts")
        if records >= self._expected:
            self.note("processed_ts")


def run(options: dict[str, str]) -> dict[str, Any]:
    """Runs one workload and returns the report."""
    workload, expected = options["workload"], int(options["expected"])
    builder = StreamsBuilder()
    WORKLOADS[workload](builder, options)
    app = App(
        builder,
        application_id=options["app"],
        bootstrap_servers=options["bootstrap"],
        state_dir=Path(options["state_dir"]),
        processing_guarantee=options.get("guarantee", "at_least_once"),
        commit_interval_ms=int(options.get("commit_ms", "1000")),
        statestore_cache_max_bytes=int(options.get("cache_bytes", str(10 << 20))),
    )
    # As `App.run` does, which this job cannot use: it has to look at the progress.
    gc.set_threshold(100_000, 20, 50)
    marks = Marks(expected)
    if workload == "restore":
        restore(app, expected, marks)
    elif "shares" in options:
        app.start()
        share(app, marks)
    else:
        app.start()
        drain(app, expected, marks, repartitions=workload in REPARTITIONED)
    if app.error is not None:
        raise app.error
    app.close()
    marks.note("done_ts")
    marks.report["cpu_done"] = time.process_time()
    return marks.report


def drain(app: App, expected: int, marks: Marks, *, repartitions: bool) -> None:
    """Waits until all input went through; the worker's start counts as the first record.

    Behind a repartition topic records are processed once more, and what is on its way there is
    in no lag yet: only two commits without work tell that it is done.
    """
    while not app.state.has_finished:
        progress = app.progress()
        if progress is not None and progress.running_tasks:
            marks.note("first_ts")
            if repartitions:
                is_done = progress.is_idle
            else:
                marks.seen(progress.processed_records)
                is_done = progress.lag_records == 0
            if is_done and progress.processed_records >= expected:
                return
        app.wait_for(State.ERROR, timeout=timedelta(seconds=WATCH_SECONDS))


def share(app: App, marks: Marks) -> None:
    """One worker of several: says how far it is until its standard input ends."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    while not ended.wait(SAY_SECONDS) and not app.state.has_finished:
        progress = app.progress()
        if progress is not None:
            if progress.running_tasks:
                marks.note("first_ts")
            marks.report["processed"] = progress.processed_records
            print(
                json.dumps({"processed": progress.processed_records, "lag": progress.lag_records}),
                flush=True,
            )
    marks.report["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Restores(RestoreListener):
    """Notes the first start and the last end, as the JVM's contender does."""

    def __init__(self, marks: Marks, expected: int) -> None:
        self._marks = marks
        self._expected = expected
        self.restored = 0
        self.done = threading.Event()

    def on_restore_start(
        self, partition: TopicPartition, store: str, start_offset: int, end_offset: int
    ) -> None:
        """The first begins the restoring."""
        self._marks.note("first_ts")

    def on_restore_end(self, partition: TopicPartition, store: str, total: int) -> None:
        """The last ends it."""
        self.restored += total
        self._marks.report["processed_ts"] = time.time()
        if self.restored >= self._expected:
            self.done.set()


def restore(app: App, expected: int, marks: Marks) -> None:
    """Waits until the store is restored, then sums its rows up."""
    restores = Restores(marks, expected)
    app.set_restore_listener(restores)
    app.start()
    while not restores.done.wait(1) and not app.state.has_finished:
        pass
    app.wait_for(State.RUNNING, State.ERROR)
    entries = checksum = 0
    with app.store(STORE).all() as rows:
        for _, value in rows:
            entries += 1
            checksum += int(value[:12])
    marks.report.update(restored=restores.restored, entries=entries, checksum=checksum)


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    count = int(given.get("threads", "1"))
    print(json.dumps(run(given) if count == 1 else workers.run(given, count)), flush=True)
