"""The old value of a row's first change: without a cache, the aggregate that was begun with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg import KTable, Materialized, StreamsBuilder, TimeWindows, TopologyTestDriver, serdes
from thalweg.stores.builders import versioned_store

Table = KTable[Any, Any]


def grouped(builder: StreamsBuilder) -> Any:
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    return stream.group_by_key()


def counted(builder: StreamsBuilder) -> Table:
    return grouped(builder).count()


def windowed(builder: StreamsBuilder) -> Table:
    return grouped(builder).windowed_by(TimeWindows.of_size(10)).count()


def folded(builder: StreamsBuilder) -> Table:
    return grouped(builder).aggregate(
        lambda: 0, lambda _key, value, total: total + len(value), value_serde=serdes.int64
    )


def cogrouped(builder: StreamsBuilder) -> Table:
    cogroup = grouped(builder).cogroup(lambda _key, value, total: total + len(value))
    return cogroup.aggregate(lambda: 0, value_serde=serdes.int64)


def versioned(builder: StreamsBuilder) -> Table:
    store = versioned_store("versions", 100, serdes.string, serdes.int64)
    return grouped(builder).count(materialized=Materialized(store=store))


def reduced(builder: StreamsBuilder) -> Table:
    return grouped(builder).reduce(lambda left, right: left + right).map_values(len)


@pytest.mark.parametrize(
    ("make", "cache_bytes", "groups"),
    [
        (counted, 0, ["0", "1"]),
        (windowed, 0, ["0", "1"]),
        (folded, 0, ["0", "1"]),
        (cogrouped, 0, ["0", "1"]),
        (versioned, 0, ["0", "1"]),
        (reduced, 0, ["1"]),
        (counted, 10_000, ["1"]),
        (windowed, 10_000, ["1"]),
        (folded, 10_000, ["1"]),
        (cogrouped, 10_000, ["1"]),
    ],
)
def test_the_first_change_of_a_row(
    make: Callable[[StreamsBuilder], Table], cache_bytes: int, groups: list[str]
) -> None:
    builder = StreamsBuilder()
    by_value = make(builder).group_by(
        lambda _key, value: (str(value), value), key_serde=serdes.string, value_serde=serdes.int64
    )
    by_value.count().to_stream().to("out")
    with TopologyTestDriver(
        builder.build(), statestore_cache_max_bytes=cache_bytes, default_key_serde=serdes.string
    ) as driver:
        driver.pipe_raw("in", b"k", b"v", 5, [])
        out = driver.create_output_topic("out", serdes.string, serdes.int64)

        assert [key for key, _ in out.read_key_values_to_list()] == groups
