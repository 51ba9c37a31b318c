"""What mypy infers through chains of the DSL; checked by `test_typing.py`, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

import msgspec

from thalweg.stores.api import (
    KeyValueIterator,
    KeyValueStore,
    ReadOnlyKeyValueStore,
    ReadOnlyWindowStore,
    ValueAndTimestamp,
    VersionedKeyValueStore,
    VersionedRecord,
    WindowStore,
)
from thalweg.stores.backends import ByteStoreSupplier
from thalweg.stores.builders import versioned_store
from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.record import Headers, RecordContext
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import Windowed
from thalweg.streams.app import App
from thalweg.streams.queries.state_queries import (
    KeyQuery,
    StateQueryResult,
    TimestampedRangeQuery,
    WindowKeyQuery,
    WindowRangeQuery,
)
from thalweg.streams.testing import TestInputTopic, TestOutputTopic, TopologyTestDriver
from thalweg.topology.dsl import (
    BufferConfig,
    CogroupedKStream,
    EmitStrategy,
    GlobalKTable,
    JoinWindows,
    KGroupedStream,
    KGroupedTable,
    KStream,
    KTable,
    Materialized,
    SessionWindowedCogroupedKStream,
    SessionWindowedKStream,
    SessionWindows,
    SlidingWindows,
    StreamJoined,
    StreamsBuilder,
    Suppressed,
    TimeWindowedCogroupedKStream,
    TimeWindowedKStream,
    TimeWindows,
    UnlimitedWindows,
)

builder = StreamsBuilder()


class Order(msgspec.Struct):
    """A typed value."""

    amount: int


# Serdes know what they read.
assert_type(serdes.json(Order), Serde[Order])
assert_type(serdes.msgpack(list[Order]), Serde[list[Order]])
assert_type(serdes.json(Order | None), Serde[Any])
assert_type(serdes.string.serializer("t")("text"), bytes)
assert_type(serdes.windowed(serdes.int64, 10).deserializer("t")(b""), Windowed[int])
assert_type(Serde.of(str.encode, bytes.decode, name="text"), Serde[str])


def write_order(order: Order, headers: Headers) -> bytes:
    """Writes an order, and says in a header how."""
    headers.add("schema", b"1")
    return str(order.amount).encode()


def read_order(data: bytes, headers: Headers) -> Order:
    """Reads an order as its headers say."""
    return Order(int(data) + len(headers))


sealed = Serde.of(write_order, read_order, name="order", headers=True)
assert_type(sealed, Serde[Order])
assert_type(sealed.header_deserializer("t")(b"", Headers()), Order)
assert_type(sealed.header_serializer("t")(Order(1), Headers()), bytes)
assert_type(builder.stream("t", value_serde=sealed), KStream[Any, Order])
assert_type(builder.stream("t", value_serde=serdes.json(Order)), KStream[Any, Order])
assert_type(builder.stream("t", value_serde=serdes.json), KStream[Any, Any])

assert_type(builder.stream("t"), KStream[Any, Any])
assert_type(builder.stream("t", key_serde=serdes.string), KStream[str, Any])
assert_type(builder.stream("t", value_serde=serdes.int64), KStream[Any, int])
lines = builder.stream(["a", "b"], key_serde=serdes.string, value_serde=serdes.string)
assert_type(lines, KStream[str, str])

# Stateless operators, with value functions of one and of two arguments.
assert_type(lines.filter(lambda key, value: key < value), KStream[str, str])
assert_type(lines.map_values(len), KStream[str, int])
assert_type(lines.map_values(lambda value: value.encode()), KStream[str, bytes])
assert_type(lines.map_values(lambda key, value: (key, value)), KStream[str, tuple[str, str]])
assert_type(lines.map_values(lambda value: len(value) if value else None), KStream[str, int])
assert_type(lines.flat_map_values(str.split), KStream[str, str])
assert_type(lines.flat_map_values(lambda key, value: [key, value]), KStream[str, str])
assert_type(lines.map(lambda key, value: (len(key), value.encode())), KStream[int, bytes])
assert_type(lines.flat_map(lambda key, value: [(len(key), value)]), KStream[int, str])
assert_type(lines.select_key(lambda _key, value: len(value)), KStream[int, str])
assert_type(lines.select_key(lambda _key, value: value or None), KStream[str, str])
assert_type(lines.peek(print).merge(lines).repartition(partitions=3), KStream[str, str])
assert_type(
    lines.split().branch(lambda _key, value: value == "").default_branch(),
    dict[str, KStream[str, str]],
)


def topic_of(key: str, _value: str, context: RecordContext) -> str:
    """Chooses a topic by record."""
    return f"{key}-{context.timestamp}"


lines.to(topic_of)
lines.to("out", key_serde=serdes.string, value_serde=serdes.string)

# Aggregations.
words = lines.flat_map_values(str.split).group_by(lambda _key, word: word)
assert_type(words, KGroupedStream[str, str])
assert_type(words.count(name="counts"), KTable[str, int])
assert_type(words.count(materialized=Materialized("counts", store="memory")), KTable[str, int])
assert_type(words.reduce(max), KTable[str, str])
assert_type(words.reduce(lambda aggregate, value: aggregate + value), KTable[str, str])
assert_type(
    words.aggregate(float, lambda _key, value, total: total + len(value)), KTable[str, float]
)
assert_type(
    words.aggregate(
        lambda: 0,
        lambda _key, value, total: total + len(value),
        materialized=Materialized("lengths", value_serde=serdes.int64),
    ),
    KTable[str, int],
)
assert_type(
    words.aggregate(int, lambda _key, value, total: total + len(value), value_serde=serdes.int64),
    KTable[str, int],
)
hourly = words.windowed_by(TimeWindows.of_size(timedelta(hours=1), timedelta(minutes=5)))
assert_type(hourly, TimeWindowedKStream[str, str])
assert_type(hourly.count(), KTable[Windowed[str], int])
assert_type(
    hourly.aggregate(
        lambda: Order(0),
        lambda _key, value, order: Order(order.amount + len(value)),
        value_serde=serdes.json(Order),
    ),
    KTable[Windowed[str], Order],
)
assert_type(hourly.reduce(min), KTable[Windowed[str], str])
assert_type(
    words.windowed_by(UnlimitedWindows.of()).aggregate(int, lambda _k, _v, total: total + 1),
    KTable[Windowed[str], int],
)
assert_type(hourly.count().to_stream(lambda windowed, _count: windowed.key), KStream[str, int])

# Tables.
names = builder.table("names", key_serde=serdes.int64, value_serde=serdes.string, store="names")
assert_type(names, KTable[int, str])
assert_type(builder.table("any"), KTable[Any, Any])
assert_type(
    builder.table(
        "m", materialized=Materialized("m", key_serde=serdes.string, value_serde=serdes.int64)
    ),
    KTable[str, int],
)
assert_type(names.filter(lambda key, value: key > 1 and value != ""), KTable[int, str])
assert_type(names.map_values(len, name="lengths"), KTable[int, int])
assert_type(names.map_values(lambda key, value: value * key), KTable[int, str])
assert_type(names.to_stream(), KStream[int, str])
assert_type(names.group_by(lambda key, value: (value, key)), KGroupedTable[str, int])
by_name = names.group_by(
    lambda key, value: (value, key), key_serde=serdes.string, value_serde=serdes.int64
)
assert_type(by_name.count(), KTable[str, int])
assert_type(
    by_name.reduce(lambda total, value: total + value, lambda total, value: total - value),
    KTable[str, int],
)
assert_type(
    by_name.aggregate(
        float,
        lambda _key, value, total: total + value,
        lambda _key, value, total: total - value,
    ),
    KTable[str, float],
)
assert_type(
    by_name.aggregate(
        int,
        lambda _key, value, total: total + value,
        lambda _key, value, total: total - value,
        value_serde=serdes.int64,
    ),
    KTable[str, int],
)


class Lengths:
    """A transformer of values."""

    def transform(self, key: int, value: str | None) -> float | None:
        """Returns the length per key."""
        return None if value is None else len(value) / key


assert_type(names.transform_values(Lengths), KTable[int, float])

# Suppression keeps the types of its table.
assert_type(names.suppress(Suppressed.until_time_limit(timedelta(minutes=1))), KTable[int, str])
assert_type(
    names.suppress(Suppressed.until_time_limit(1, BufferConfig(max_records=9), name="late")),
    KTable[int, str],
)
assert_type(BufferConfig(max_bytes=9).shut_down_when_full(), BufferConfig)

# Joins: the side that may be absent is optional.
ages = builder.table("ages", key_serde=serdes.int64, value_serde=serdes.int64)
assert_type(names.join(ages, lambda name, age: f"{name} {age + 1}"), KTable[int, str])
assert_type(
    names.left_join(ages, lambda name, age: (name, age)), KTable[int, tuple[str, int | None]]
)
assert_type(
    names.outer_join(ages, lambda name, age: (name, age)),
    KTable[int, tuple[str | None, int | None]],
)
orders = builder.stream("orders", key_serde=serdes.int64, value_serde=serdes.bytes)
assert_type(orders.join(names, lambda order, name: name.encode() + order), KStream[int, bytes])
assert_type(
    orders.join(names, lambda key, order, name: (key, order, name)),
    KStream[int, tuple[int, bytes, str]],
)
assert_type(
    orders.left_join(names, lambda order, name: (order, name)),
    KStream[int, tuple[bytes, str | None]],
)
assert_type(orders.left_join(names, lambda key, order, name: name or str(key)), KStream[int, str])


# Co-groupings: the streams have one type of keys, each its own of values, and all one aggregate.
def add_order(key: int, order: bytes, totals: tuple[int, str]) -> tuple[int, str]:
    """Counts an order."""
    return totals[0] + 1, totals[1]


def add_name(key: int, name: str, totals: tuple[int, str]) -> tuple[int, str] | None:
    """Takes the newest name."""
    return totals[0], name


cogrouped = orders.group_by_key().cogroup(add_order)
assert_type(cogrouped, CogroupedKStream[int, tuple[int, str]])
cogrouped = cogrouped.cogroup(names.to_stream().group_by_key(), add_name)
assert_type(cogrouped.aggregate(lambda: (0, "")), KTable[int, tuple[int, str]])
assert_type(
    cogrouped.windowed_by(TimeWindows.of_size(10)),
    TimeWindowedCogroupedKStream[int, tuple[int, str]],
)
assert_type(
    cogrouped.windowed_by(TimeWindows.of_size(10)).aggregate(lambda: (0, "")),
    KTable[Windowed[int], tuple[int, str]],
)

# Joins by foreign key, and with global tables by a selected key.
assert_type(
    names.join(ages, lambda name, age: f"{name} {age + 1}", foreign_key_extractor=len),
    KTable[int, str],
)
assert_type(
    names.left_join(
        ages, lambda name, age: (name, age), foreign_key_extractor=lambda key, name: key + len(name)
    ),
    KTable[int, tuple[str, int | None]],
)
countries = builder.global_table("countries", key_serde=serdes.string, value_serde=serdes.int64)
assert_type(countries, GlobalKTable[str, int])
assert_type(builder.global_table("t", value_serde=serdes.int64), GlobalKTable[Any, int])
assert_type(
    orders.join(countries, lambda order, size: (order, size), key_selector=lambda key, _: str(key)),
    KStream[int, tuple[bytes, int]],
)
assert_type(
    orders.left_join(
        countries,
        lambda key, selected, order, size: (key, selected, order, size),
        key_selector=lambda key, _: str(key),
    ),
    KStream[int, tuple[int, str | None, bytes, int | None]],
)

# Topics of the test driver; without a serde it is the application's, which types do not tell.
driver = TopologyTestDriver(builder)
assert_type(driver.create_input_topic("t", serdes.string, serdes.int64), TestInputTopic[str, int])
assert_type(driver.create_input_topic("t", serdes.string), TestInputTopic[str, Any])
assert_type(driver.create_input_topic("t", value_serde=serdes.int64), TestInputTopic[Any, int])
assert_type(driver.create_input_topic("t", None, serdes.int64), TestInputTopic[Any, int])
assert_type(driver.create_input_topic("t", start=0), TestInputTopic[Any, Any])
assert_type(driver.create_output_topic("t", serdes.string, serdes.int64), TestOutputTopic[str, int])
assert_type(driver.create_output_topic("t", serdes.string), TestOutputTopic[str, Any])
assert_type(driver.create_output_topic("t", value_serde=serdes.int64), TestOutputTopic[Any, int])
assert_type(driver.create_output_topic("t").read_value(), Any)


# Stores of a running application.
def stores(app: App) -> None:
    """Asks for stores by type."""
    counts = app.store("counts", key=str, value=int)
    assert_type(counts, ReadOnlyKeyValueStore[str, int])
    assert_type(counts["a"], int)
    assert_type(counts.get("a"), int | None)
    assert_type(counts.get("a", 0), int)
    assert_type(dict(counts.items()), dict[str, int])
    assert_type(list(counts), list[str])
    assert_type(
        app.store("counts", key=str, value=int, timestamped=True),
        ReadOnlyKeyValueStore[str, ValueAndTimestamp[int]],
    )
    hourly_counts = app.store("hourly", key=str, value=int, windowed=True)
    assert_type(hourly_counts, ReadOnlyWindowStore[str, int])
    assert_type(hourly_counts["a", 0], int)
    assert_type(list(hourly_counts.items()), list[tuple[Windowed[str], int]])
    assert_type(
        app.store("hourly", key=str, value=int, windowed=True, timestamped=True),
        ReadOnlyWindowStore[str, ValueAndTimestamp[int]],
    )
    assert_type(app.store("orders", key=int, value=Order), ReadOnlyKeyValueStore[int, Order])
    assert_type(app.store("any"), Any)
    one = app.query("counts", KeyQuery[str, int]("a"))
    assert_type(one, StateQueryResult[int | None])
    assert_type(one.partitions[0].value, int | None)
    found = app.query("counts", TimestampedRangeQuery[str, int](lower="a")).partitions[0].value
    assert_type(dict(found), dict[str, ValueAndTimestamp[int]])
    starts = app.query("hourly", WindowKeyQuery[str, int]("a", 0, 5)).partitions[0].value
    assert_type(list(starts), list[tuple[int, int]])
    windows = app.query("hourly", WindowRangeQuery[str, int](time_from=0, time_to=5))
    assert_type(windows.partitions[0].value, KeyValueIterator[Windowed[str], int])


# Versioned tables and stores.
rates = builder.table(
    "rates",
    key_serde=serdes.string,
    value_serde=serdes.float64,
    materialized=Materialized(store=versioned_store("rates", timedelta(hours=1))),
)
assert_type(rates, KTable[str, float])
assert_type(rates.is_versioned, bool)


def rates_of(store: VersionedKeyValueStore[str, float]) -> None:
    """Reads and writes a versioned store."""
    assert_type(store.get("EUR"), VersionedRecord[float] | None)
    assert_type(store.get("EUR", as_of=5), VersionedRecord[float] | None)
    assert_type(store["EUR"].value, float)
    assert_type(store["EUR"].valid_to, int | None)
    assert_type(store.put("EUR", 1.5, 10), int)
    assert_type(store.delete("EUR", 10), VersionedRecord[float] | None)
    for version in store.versions("EUR", 0, 10):
        assert_type(version, VersionedRecord[float])


# What keeps the rows.
in_sqlite = Materialized[str, int]("counts", store="sqlite")
chosen = Materialized[str, int]("counts", store=lambda store: "files" if store.logged else "lmdb")
own = Materialized[str, int](
    "counts", store=ByteStoreSupplier(lambda name, path: FilesByteStore(name, path))
)
assert_type(own, Materialized[str, int])

assert_type(driver.store("counts", key=str, value=int), KeyValueStore[str, int])
assert_type(
    driver.store("counts", key=str, value=int, timestamped=True),
    KeyValueStore[str, ValueAndTimestamp[int]],
)
assert_type(driver.store("hourly", key=str, value=int, kind="window"), WindowStore[str, int])
assert_type(driver.store("any"), Any)


# Joins of two streams, and with a versioned table.
lines_by_id = builder.stream("lines", key_serde=serdes.int64, value_serde=serdes.string)
near = JoinWindows.of_time_difference(timedelta(seconds=1), grace=5)
assert_type(
    orders.join(lines_by_id, lambda order, line: order + line.encode(), near), KStream[int, bytes]
)
assert_type(
    orders.join(lines_by_id, lambda key, order, line: (key, order, line), near),
    KStream[int, tuple[int, bytes, str]],
)
assert_type(
    orders.left_join(lines_by_id, lambda order, line: (order, line), near),
    KStream[int, tuple[bytes, str | None]],
)
assert_type(
    orders.outer_join(lines_by_id, lambda order, line: (order, line), near),
    KStream[int, tuple[bytes | None, str | None]],
)
assert_type(
    orders.outer_join(
        lines_by_id,
        lambda key, order, line: len(order or b"") + key,
        near,
        joined=StreamJoined(
            name="n",
            key_serde=serdes.int64,
            value_serde=serdes.bytes,
            other_value_serde=serdes.string,
        ),
    ),
    KStream[int, int],
)
assert_type(
    orders.left_join(names, lambda order, name: (order, name), grace=timedelta(seconds=1)),
    KStream[int, tuple[bytes, str | None]],
)


# Sessions and sliding windows.
clicks = builder.stream("clicks", key_serde=serdes.string, value_serde=serdes.int64).group_by_key()
nearby = clicks.windowed_by(SlidingWindows.of_time_difference(timedelta(minutes=1)))
assert_type(nearby, TimeWindowedKStream[str, int])
assert_type(nearby.emit_strategy(EmitStrategy.on_window_close()), TimeWindowedKStream[str, int])
visits = clicks.windowed_by(SessionWindows.of_inactivity_gap(timedelta(minutes=30)))
assert_type(visits, SessionWindowedKStream[str, int])
finals = visits.emit_strategy(EmitStrategy.on_window_close())
assert_type(finals, SessionWindowedKStream[str, int])
assert_type(visits.count(), KTable[Windowed[str], int])
assert_type(visits.reduce(lambda one, two: one + two), KTable[Windowed[str], int])


def longer(_user: str, one: list[int], two: list[int]) -> list[int]:
    """Brings two sessions together."""
    return one + two


def longest(_user: str, value: int, values: list[int]) -> list[int]:
    """Adds to a session."""
    return [*values, value]


many = visits.aggregate(lambda: [0], longest, longer)
assert_type(many, KTable[Windowed[str], list[int]])
together = clicks.cogroup(longest).windowed_by(SessionWindows.of_inactivity_gap(10))
assert_type(together, SessionWindowedCogroupedKStream[str, list[int]])
assert_type(together.aggregate(lambda: [0], longer), KTable[Windowed[str], list[int]])
