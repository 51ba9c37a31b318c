"""Descriptions of stores: their settings, equality, and changelog topics."""

from __future__ import annotations

from datetime import timedelta

import pytest

from thalweg.stores.builders import (
    StoreBuilder,
    key_value_store,
    lru_store,
    timestamped_key_value_store,
    timestamped_window_store,
    window_store,
)
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import serdes
from thalweg.stores.windowed import FOREVER_MS

DAY_MS = 86_400_000


def test_equal_descriptions_are_the_same_store() -> None:
    def store() -> StoreBuilder:
        return key_value_store("st", serdes.string, serdes.json(list[int]))

    assert store() == store()
    assert store().with_logging({"a": "1"}) == store().with_logging({"a": "1"})
    assert store() != store().with_caching()
    assert store() != store().without_logging()
    assert store() != key_value_store("st", serdes.string, serdes.json(list[str]))


def test_a_description_is_changed_by_copying() -> None:
    plain = key_value_store("st", serdes.string, serdes.int64)

    assert plain.with_caching().cached
    assert not plain.with_caching().without_caching().cached
    assert plain.with_logging({"retention.ms": "1"}).log_config == {"retention.ms": "1"}
    assert plain.without_logging().log_config == {}
    assert not plain.without_logging().logged
    assert plain.without_logging().with_logging().logged
    assert not plain.cached
    assert plain.logged


def test_each_kind_has_its_function() -> None:
    stores = [
        key_value_store("kv"),
        key_value_store("kv", in_memory=True),
        timestamped_key_value_store("tkv"),
        lru_store("lru", 2),
        window_store("w", retention_ms=100, window_size_ms=10),
        timestamped_window_store("tw", retention_ms=100, window_size_ms=10, in_memory=True),
    ]

    assert [(s.kind, s.backend, s.is_timestamped) for s in stores] == [
        ("key-value", "rocks", False),
        ("key-value", "memory", False),
        ("timestamped-key-value", "rocks", True),
        ("key-value", "memory", False),
        ("window", "rocks", False),
        ("timestamped-window", "memory", True),
    ]


def test_serdes_are_filled_in_where_there_are_none() -> None:
    half = key_value_store("st", serdes.string).with_default_serdes(serdes.bytes, serdes.int64)

    assert (half.key_serde, half.value_serde) == (serdes.string, serdes.int64)


def test_a_segment_is_half_the_retention_and_at_least_a_minute() -> None:
    def interval(retention_ms: int | timedelta, given: int | None = None) -> int:
        spec = window_store(
            "w", retention_ms=retention_ms, window_size_ms=10, segment_interval_ms=given
        ).spec
        assert isinstance(spec, WindowSpec)
        return spec.segment_interval_ms

    assert interval(100) == 60_000
    assert interval(timedelta(minutes=10)) == 300_000
    assert interval(FOREVER_MS) == FOREVER_MS // 2
    assert interval(100, 25) == 25


def test_durations_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be below its window size of 10 ms, got 9"):
        window_store("w", retention_ms=9, window_size_ms=10)
    with pytest.raises(ValueError, match="window_size_ms of store 'w' must not be negative"):
        window_store("w", retention_ms=9, window_size_ms=-1)
    with pytest.raises(ValueError, match="segment_interval_ms of store 'w' must be at least 1"):
        window_store("w", retention_ms=9, window_size_ms=1, segment_interval_ms=0)
    with pytest.raises(ValueError, match="max_entries of LRU store 'lru' must be at least 1"):
        lru_store("lru", 0)


def test_changelog_topics_are_set_up_as_the_jvm_does() -> None:
    windows = timestamped_window_store("w", retention_ms=30_000, window_size_ms=10_000)
    unlimited = timestamped_window_store("w", retention_ms=FOREVER_MS, window_size_ms=FOREVER_MS)

    assert key_value_store("kv").changelog_config(DAY_MS) == {"cleanup.policy": "compact"}
    assert windows.changelog_config(DAY_MS) == {  # golden window_tumbling_segments
        "cleanup.policy": "compact,delete",
        "retention.ms": "86430000",
    }
    assert unlimited.changelog_config(DAY_MS)["retention.ms"] == "9223372036854775807"
    duplicates = window_store(
        "w", retention_ms=30_000, window_size_ms=10_000, retain_duplicates=True
    )
    assert duplicates.changelog_config(0) == {
        "cleanup.policy": "delete",
        "retention.ms": "30000",
    }
