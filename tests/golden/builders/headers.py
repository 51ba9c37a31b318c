"""Golden cases of Kafka 4.4 about headers: `headers_*`, `papi_header_*`, `default_suppress`."""

from __future__ import annotations

from collections.abc import Collection

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import cat, first, fk, length, plus
from thalweg import (
    AggregationWithHeaders,
    Headers,
    Processor,
    Record,
    SessionWindow,
    ValueTimestampHeaders,
    Windowed,
    session_store_with_headers,
    timestamped_key_value_store_with_headers,
    timestamped_window_store_with_headers,
)
from thalweg.topology.dsl import (
    EmitStrategy,
    JoinWindows,
    KGroupedStream,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
)


def _grouped(b: StreamsBuilder) -> KGroupedStream[str, str]:
    return b.stream("in").group_by_key(key_serde=S, value_serde=S)


@dsl_case
def headers_agg(b: StreamsBuilder) -> None:
    def append(_key: str, value: str, total: str) -> str | None:
        longer = plus(total, value)
        return None if length(longer) > 6 else longer

    grouped = b.stream("in").group_by_key()
    grouped.count("n").to_stream().to("counts", key_serde=S, value_serde=L)
    grouped.reduce(lambda _x, y: y, "last").to_stream().to("lasts")
    grouped.aggregate(lambda: "", append, "agg").to_stream().to("aggs")


@dsl_case
def headers_agg_cached(b: StreamsBuilder) -> None:
    b.stream("in").group_by_key().reduce(lambda _x, y: y, "last").to_stream().to("out")


@dsl_case
def headers_table(b: StreamsBuilder) -> None:
    table = b.table("t", store="src")
    table.map_values(lambda v: plus(v, "!"), name="mapped").to_stream().to("mapped-out")
    table.filter(lambda _k, v: length(v) > 1, name="kept").to_stream().to("kept-out")
    b.stream("s").to_table(name="made").to_stream().to("made-out")


@dsl_case
def headers_table_group(b: StreamsBuilder) -> None:
    grouped = b.table("t", store="src").group_by(lambda _k, v: (first(v), v))
    grouped.aggregate(
        lambda: "", lambda _k, v, a: plus(a, "+", v), lambda _k, v, a: plus(a, "-", v), "agg"
    ).to_stream().to("out")


@dsl_case
def headers_jointt(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat, name="inner").to_stream().to("inner-out")
    left.outer_join(right, cat, name="outer").to_stream().to("outer-out")


@dsl_case
def default_suppress(b: StreamsBuilder) -> None:
    counts = _grouped(b).windowed_by(TimeWindows.of_size(10, 5)).count()
    final = counts.suppress(Suppressed.until_window_closes())
    final.to_stream(lambda w, _n: w.key).to("final", key_serde=S, value_serde=L)
    table = b.table("t", store="t-store")
    table.suppress(Suppressed.until_time_limit(20)).to_stream().to("limited")


@dsl_case
def headers_suppress(b: StreamsBuilder) -> None:
    default_suppress(b)


@dsl_case
def headers_suppress_steps(b: StreamsBuilder) -> None:
    late = b.table("t", store="src").suppress(Suppressed.until_time_limit(20))
    late.group_by(lambda _k, v: ("all", v)).aggregate(
        lambda: "", lambda _k, v, a: plus(a, "+", v), lambda _k, v, a: plus(a, "-", v), "agg"
    ).to_stream().to("out")


def _shown(headers: Headers) -> str:
    return "".join(
        f"{name}={'null' if value is None else value.decode()};" for name, value in headers
    )


def _row(old: ValueTimestampHeaders[str] | None) -> str:
    return "none" if old is None else f"{old.value}@{old.timestamp} {_shown(old.headers)}"


@dsl_case
def papi_header_adapters(b: StreamsBuilder) -> None:
    class Keep(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            for name in ("plain", "timed", "mem"):
                store = self.context.get_state_store(name)
                shown = f"{name}:{_row(store.get(record.key))}"
                self.context.forward(record.with_value(shown))
                value = ValueTimestampHeaders(record.value, record.timestamp, record.headers)
                store.put(record.key, value)

    make = timestamped_key_value_store_with_headers
    b.add_state_store(make("plain", S, S, rows="plain"))
    b.add_state_store(make("timed", S, S, rows="timestamped"))
    b.add_state_store(make("mem", S, S, in_memory=True))
    b.stream("in").process(Keep, "plain", "timed", "mem").to("out")


@dsl_case
def stateless_partitioner_headers(b: StreamsBuilder) -> None:
    def by_header(
        _topic: str, _key: str, _value: str, headers: Headers, _partitions: int
    ) -> Collection[int]:
        return () if headers.last("h") is None else (0,)

    records = b.stream("in")
    records.to("sink", key_serde=S, value_serde=S, partitioner=by_header)
    records.repartition("rep", partitions=1, partitioner=by_header).to("out")


@dsl_case
def headers_joinfk(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat, foreign_key_extractor=fk, name="result").to_stream().to("out")


@dsl_case
def headers_joinss_left(b: StreamsBuilder) -> None:
    windows = JoinWindows.of_time_difference(10, 5)
    b.stream("l").left_join(b.stream("r"), cat, windows).to("out")


@dsl_case
def headers_window(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by_key()
    tumbling = grouped.windowed_by(TimeWindows.of_size(10, 5)).count("tumbling")
    tumbling.to_stream(lambda w, _n: w.key).to("t-out", key_serde=S, value_serde=L)
    hopping = grouped.windowed_by(TimeWindows.of_size(20, 5).advance_by(10))
    reduced = hopping.reduce(lambda x, y: plus(x, y), "hopping")
    reduced.to_stream(lambda w, _v: w.key).to("h-out")
    sliding = grouped.windowed_by(SlidingWindows.of_time_difference(8, 5)).count("sliding")
    sliding.to_stream(lambda w, _n: w.key).to("s-out", key_serde=S, value_serde=L)


@dsl_case
def headers_session(b: StreamsBuilder) -> None:
    sessions = b.stream("in").group_by_key().windowed_by(SessionWindows.of_inactivity_gap(6, 5))
    sessions.aggregate(
        lambda: "", lambda _k, v, a: plus(a, v), lambda _k, x, y: plus(x, y), "s"
    ).to_stream(lambda w, _v: w.key).to("out")


@dsl_case
def headers_emitfinal(b: StreamsBuilder) -> None:
    grouped, on_close = b.stream("in").group_by_key(), EmitStrategy.on_window_close()
    for windowed, name in (
        (grouped.windowed_by(TimeWindows.of_size(10, 5)), "t"),
        (grouped.windowed_by(SlidingWindows.of_time_difference(8, 5)), "sl"),
        (grouped.windowed_by(SessionWindows.of_inactivity_gap(6, 5)), "se"),
    ):
        counts = windowed.emit_strategy(on_close).count(name)
        counts.to_stream(lambda w, _n: w.key).to(f"{name}-out", key_serde=S, value_serde=L)


@dsl_case
def headers_inmemory(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by_key()
    counts = grouped.count(materialized=Materialized("n", store="memory"))
    counts.to_stream().to("counts", key_serde=S, value_serde=L)
    windows = grouped.windowed_by(TimeWindows.of_size(10, 5))
    counted = windows.count(materialized=Materialized("w", store="memory"))
    counted.to_stream(lambda w, _n: w.key).to("windows", key_serde=S, value_serde=L)
    sessions = grouped.windowed_by(SessionWindows.of_inactivity_gap(6, 5))
    counted = sessions.count(materialized=Materialized("s", store="memory"))
    counted.to_stream(lambda w, _n: w.key).to("sessions", key_serde=S, value_serde=L)


@dsl_case
def papi_header_stores(b: StreamsBuilder) -> None:
    class Keep(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            get = self.context.get_state_store
            kv, win, ses = get("kv"), get("win"), get("ses")
            key, value, time = record.key, record.value, record.timestamp
            session = Windowed(key, SessionWindow(time // 50 * 50, time // 50 * 50 + 49))
            self.context.forward(record.with_value(_row(kv.get(key))))
            if value is None:
                kv.delete(key)
                ses.remove(session)
                return
            kv.put(key, ValueTimestampHeaders(value, time + 1, record.headers))
            by = Headers([("by", b"\x01")])
            kv.put_if_absent("first", ValueTimestampHeaders(value, time, by))
            row = ValueTimestampHeaders(value, time, record.headers)
            win.put(key, row, time // 10 * 10)
            ses.put(session, AggregationWithHeaders(value, record.headers))

    b.add_state_store(timestamped_key_value_store_with_headers("kv", S, S))
    b.add_state_store(
        timestamped_window_store_with_headers("win", S, S, retention_ms=1000, window_size_ms=10)
    )
    b.add_state_store(session_store_with_headers("ses", S, S, retention_ms=1000))
    b.stream("in").process(Keep, "kv", "win", "ses").to("out")
