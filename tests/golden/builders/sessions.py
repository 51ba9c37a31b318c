"""Golden cases `session_*`, and the one of stores of all kinds."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from thalweg.stores.api import (
    KeyValueStore,
    SessionStore,
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
    window_store,
)
from thalweg.stores.record import Record
from thalweg.stores.windowed import SessionWindow, Windowed
from thalweg.topology.dsl import StreamsBuilder
from thalweg.topology.processor import Processor, ProcessorContext


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
