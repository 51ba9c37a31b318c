"""Golden cases `session_*`, `sliding_*`, `emitfinal_*`, and the one of stores of all kinds."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import cat, first, plus
from thalweg.stores.api import (
    KeyValueStore,
    TimestampedKeyValueStore,
    TimestampedWindowStore,
    ValueAndTimestamp,
    WindowStore,
)
from thalweg.stores.builders import (
    key_value_store,
    lru_store,
    session_store,
    timestamped_key_value_store,
    timestamped_window_store,
    versioned_store,
    window_store,
)
from thalweg.stores.record import Record
from thalweg.stores.session_faces import SessionStore
from thalweg.stores.windowed import SessionWindow, Windowed
from thalweg.topology.dsl import (
    EmitStrategy,
    JoinWindows,
    KGroupedStream,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    TimeWindows,
)
from thalweg.topology.processor import Processor, ProcessorContext

ON_CLOSE = EmitStrategy.on_window_close()


class AllKinds(Processor[str, int, str, int]):
    """Puts each record into a store of each kind and forwards an estimate."""

    def init(self, context: ProcessorContext[str, int]) -> None:
        super().init(context)
        self.kv: KeyValueStore[str, int] = context.get_state_store("kv")
        self.lru: KeyValueStore[str, int] = context.get_state_store("lru")
        self.tkv: TimestampedKeyValueStore[str, int] = context.get_state_store("tkv")
        self.win: WindowStore[str, int] = context.get_state_store("win")
        self.dup: WindowStore[str, int] = context.get_state_store("dup")
        self.twin: TimestampedWindowStore[str, int] = context.get_state_store("twin")
        self.ses: SessionStore[str, int] = context.get_state_store("ses")

    def process(self, record: Record[str, int]) -> None:
        key, value, time = record.key, record.value, record.timestamp
        self.kv.put(key, value)
        self.kv.put_if_absent("first", time)
        self.tkv.put(key, ValueAndTimestamp(value, time + 1))
        self.lru.put(key, value)
        self.win.put(key, value, time // 10 * 10)
        self.dup.put(key, value, time // 10 * 10)
        self.twin.put(key, ValueAndTimestamp(value, time), time // 10 * 10)
        session = SessionWindow(time // 50 * 50, time // 50 * 50 + 49)
        self.ses.put(Windowed(key, session), None if value % 5 == 0 else value)
        self.context.forward(record.with_value(self.kv.approximate_num_entries()))


@dsl_case
def process_all_store_kinds(b: StreamsBuilder) -> None:
    b.add_state_store(key_value_store("kv", S, L))
    b.add_state_store(timestamped_key_value_store("tkv", S, L))
    b.add_state_store(window_store("win", S, L, retention_ms=1000, window_size_ms=10))
    b.add_state_store(
        window_store("dup", S, L, retention_ms=1000, window_size_ms=10, retain_duplicates=True)
    )
    b.add_state_store(timestamped_window_store("twin", S, L, retention_ms=1000, window_size_ms=10))
    b.add_state_store(session_store("ses", S, L, retention_ms=1000))
    b.add_state_store(lru_store("lru", 2, S, L))
    kinds = ("kv", "tkv", "win", "dup", "twin", "ses", "lru")
    counted = b.stream("in", key_serde=S, value_serde=L).process(AllKinds, *kinds)
    counted.to("out", key_serde=S, value_serde=L)


def _grouped(b: StreamsBuilder) -> KGroupedStream[str, str]:
    return b.stream("in").group_by_key(key_serde=S, value_serde=S)


def _append(_key: str, value: str | None, total: str) -> str:
    return plus(total, value)


def _slash(_key: str, one: str, two: str) -> str:
    return plus(one, "/", two)


@dsl_case
def session_sample(b: StreamsBuilder) -> None:
    _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(5)).count().to_stream().to("out")


@dsl_case
def session_reduce(b: StreamsBuilder) -> None:
    sessions = _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(8, 10))
    sessions.reduce(lambda x, y: plus(x, y), "red").to_stream().to("out")


@dsl_case
def session_aggregate_inmemory(b: StreamsBuilder) -> None:
    sessions = _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(8, 20))
    kept: Materialized[str, str] = Materialized("agg", store="memory")
    table = sessions.aggregate(lambda: "", _append, _slash, materialized=kept)
    table.to_stream().to("out")


@dsl_case
def session_count_no_cache(b: StreamsBuilder) -> None:
    grouped = b.stream("in").group_by(lambda k, v: first(v), name="by", key_serde=S, value_serde=S)
    sessions = grouped.windowed_by(SessionWindows.of_inactivity_gap(5, 5))
    kept: Materialized[str, int] = Materialized("cnt", caching=False)
    sessions.count(materialized=kept).to_stream().to("out")


@dsl_case
def cache_session(b: StreamsBuilder) -> None:
    sessions = _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(6, 10))
    sessions.reduce(lambda x, y: plus(x, y), "red").to_stream().to("out")


@dsl_case
def nulls_session(b: StreamsBuilder) -> None:
    grouped = b.stream("in", key_serde=S, value_serde=S).group_by_key()
    sessions = grouped.windowed_by(SessionWindows.of_inactivity_gap(10))
    sessions.count().to_stream().to("count")
    sessions = grouped.windowed_by(SessionWindows.of_inactivity_gap(10))
    sessions.reduce(lambda x, y: plus(x, y)).to_stream().to("reduce")
    sessions = grouped.windowed_by(SessionWindows.of_inactivity_gap(10))
    kept: Materialized[str, str] = Materialized(key_serde=S, value_serde=S)
    table = sessions.aggregate(lambda: "", _append, _slash, materialized=kept)
    table.to_stream().to("aggregate")


@dsl_case
def emitfinal_session_sample(b: StreamsBuilder) -> None:
    sessions = _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(10))
    sessions.emit_strategy(ON_CLOSE).count().to_stream().to("out")


@dsl_case
def emitfinal_session(b: StreamsBuilder) -> None:
    sessions = _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(8, 6))
    table = sessions.emit_strategy(ON_CLOSE).aggregate(lambda: "", _append, _slash, "agg")
    table.to_stream().to("out")


@dsl_case
def sliding_sample(b: StreamsBuilder) -> None:
    _grouped(b).windowed_by(SlidingWindows.of_time_difference(10)).count().to_stream().to("out")


@dsl_case
def sliding_aggregate(b: StreamsBuilder) -> None:
    sliding = _grouped(b).windowed_by(SlidingWindows.of_time_difference(10, 20))
    sliding.aggregate(lambda: "", _append, "agg").to_stream().to("out")


@dsl_case
def sliding_reduce_inmemory(b: StreamsBuilder) -> None:
    sliding = _grouped(b).windowed_by(SlidingWindows.of_time_difference(10, 30))
    kept: Materialized[str, str] = Materialized("red", store="memory")
    sliding.reduce(lambda x, y: plus(x, y), materialized=kept).to_stream().to("out")


@dsl_case
def sliding_no_cache(b: StreamsBuilder) -> None:
    sliding = _grouped(b).windowed_by(SlidingWindows.of_time_difference(10, 20))
    kept: Materialized[str, int] = Materialized("cnt", caching=False)
    sliding.count(materialized=kept).to_stream().to("out")


@dsl_case
def cache_sliding(b: StreamsBuilder) -> None:
    sliding = _grouped(b).windowed_by(SlidingWindows.of_time_difference(6, 20))
    sliding.count("cnt").to_stream().to("out")


@dsl_case
def nulls_sliding(b: StreamsBuilder) -> None:
    grouped = b.stream("in", key_serde=S, value_serde=S).group_by_key()
    grouped.windowed_by(SlidingWindows.of_time_difference(10)).count().to_stream().to("out")


@dsl_case
def emitfinal_sliding(b: StreamsBuilder) -> None:
    sliding = _grouped(b).windowed_by(SlidingWindows.of_time_difference(10, 5))
    sliding.emit_strategy(ON_CLOSE).count("cnt").to_stream().to("out")


@dsl_case
def emitfinal_tumbling_sample(b: StreamsBuilder) -> None:
    windows = _grouped(b).windowed_by(TimeWindows.of_size(10))
    windows.emit_strategy(ON_CLOSE).count().to_stream().to("out")


@dsl_case
def emitfinal_hopping(b: StreamsBuilder) -> None:
    windows = _grouped(b).windowed_by(TimeWindows.of_size(20, 5).advance_by(10))
    windows.emit_strategy(ON_CLOSE).count("cnt").to_stream().to("out")


@dsl_case
def emitfinal_throttled(b: StreamsBuilder) -> None:
    windows = _grouped(b).windowed_by(TimeWindows.of_size(10))
    windows.emit_strategy(ON_CLOSE).count().to_stream().to("out")


@dsl_case
def emitfinal_tumbling_inmemory(b: StreamsBuilder) -> None:
    windows = _grouped(b).windowed_by(TimeWindows.of_size(10, 5))
    kept: Materialized[str, int] = Materialized("cnt", store="memory")
    windows.emit_strategy(ON_CLOSE).count(materialized=kept).to_stream().to("out")


@dsl_case
def naming_windows(b: StreamsBuilder) -> None:
    s = b.stream("in")
    g, h = s.group_by_key(), s.group_by(lambda k, v: v)
    g.windowed_by(TimeWindows.of_size(100)).count()
    hopping = g.windowed_by(TimeWindows.of_size(100, 10).advance_by(50))
    hopping.count(materialized=Materialized(key_serde=S, value_serde=L))
    h.windowed_by(SlidingWindows.of_time_difference(100, 10)).reduce(lambda x, y: x, "sl")
    h.windowed_by(SessionWindows.of_inactivity_gap(100)).aggregate(
        lambda: "", lambda k, v, a: a, lambda k, x, y: x, named="sess"
    )
    g.windowed_by(SessionWindows.of_inactivity_gap(100, 10)).count("ss", named="sc")
    g.windowed_by(TimeWindows.of_size(100)).emit_strategy(ON_CLOSE).reduce(lambda x, y: x)


@dsl_case
def naming_retention(b: StreamsBuilder) -> None:
    source = b.stream("in", key_serde=S, value_serde=S)
    g = source.group_by_key()
    g.windowed_by(TimeWindows.of_size(3_600_000, 5000)).count("w")
    kept: Materialized[str, int] = Materialized("wr", retention=500_000)
    g.windowed_by(TimeWindows.of_size(10, 5)).count(materialized=kept)
    g.windowed_by(SlidingWindows.of_time_difference(1000, 7)).count("sl")
    g.windowed_by(SessionWindows.of_inactivity_gap(1000, 7)).count("se")
    left = b.stream("in", key_serde=S, value_serde=S)
    right = b.stream("r", key_serde=S, value_serde=S)
    left.join(right, cat, JoinWindows.of_time_difference(1000, grace=7).after(50))
    b.table("vt", materialized=Materialized(store=versioned_store("vts", 5000, S, S)))
