"""Joins of tables: results follow their rows, whatever caches hold back and in which order.

Random tables are made of three topics by filters, mappings and joins, tables joined with what
was derived from them included. They are compared with the same operations on dicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg import (
    Materialized,
    Processor,
    Record,
    StreamsBuilder,
    TimeWindows,
    TopologyTestDriver,
    Windowed,
    key_value_store,
    serdes,
)
from thalweg.stores.serde import Serde
from thalweg.topology.dsl import KTable

S, N = serdes.string, serdes.int64
Rows: TypeAlias = dict[str, int]
Table: TypeAlias = "KTable[str, int]"
Kept: TypeAlias = Literal["not", "cached", "uncached"]
KEYS = ("k1", "k2", "k3")
TOPICS = ("a", "b", "c")


def joined(left: int | None, right: int | None) -> int:
    return 3 * (-1 if left is None else left) + 7 * (-1 if right is None else right)


def is_kept(_key: str, value: int) -> bool:
    return value % 3 != 0


def mapped(value: int) -> int | None:
    return None if value % 5 == 0 else value + 1


class Plan:
    """How a table is made of others: with the runtime, and with dicts."""

    def table(self, maker: Maker) -> Table:
        raise NotImplementedError

    def rows(self, topics: dict[str, Rows]) -> Rows:
        raise NotImplementedError


class Maker:
    """Makes the tables of one topology; a topic is read once."""

    def __init__(self, sources: dict[str, Kept], numbers: Serde[int] = N) -> None:
        self.numbers = numbers
        self.builder = StreamsBuilder()
        self.stores: list[str] = []
        self.topics = {topic: self._source(topic, kept) for topic, kept in sources.items()}
        self.made: dict[Plan, Table] = {}

    def _source(self, topic: str, kept: Kept) -> Table:
        stream = self.builder.stream(topic, key_serde=S, value_serde=self.numbers)
        return stream.to_table(materialized=self.kept("cached" if kept == "not" else kept))

    def kept(self, kept: Kept) -> Materialized[str, int] | None:
        if kept == "not":
            return None
        name = f"store{len(self.stores)}"
        self.stores.append(name)
        return Materialized(
            name, key_serde=S, value_serde=self.numbers, caching=kept == "cached", store="memory"
        )

    def make(self, plan: Plan) -> Table:
        # What is equal is one table, as it would be in a program: a join of it with itself.
        if plan not in self.made:
            self.made[plan] = plan.table(self)
        return self.made[plan]


@dataclass(frozen=True)
class Topic(Plan):
    topic: str

    def table(self, maker: Maker) -> Table:
        return maker.topics[self.topic]

    def rows(self, topics: dict[str, Rows]) -> Rows:
        return topics[self.topic]


@dataclass(frozen=True)
class Filtered(Plan):
    parent: Plan
    kept: Kept

    def table(self, maker: Maker) -> Table:
        return maker.make(self.parent).filter(is_kept, materialized=maker.kept(self.kept))

    def rows(self, topics: dict[str, Rows]) -> Rows:
        return {k: v for k, v in self.parent.rows(topics).items() if is_kept(k, v)}


@dataclass(frozen=True)
class Mapped(Plan):
    parent: Plan
    kept: Kept

    def table(self, maker: Maker) -> Table:
        return maker.make(self.parent).map_values(mapped, materialized=maker.kept(self.kept))

    def rows(self, topics: dict[str, Rows]) -> Rows:
        rows = {key: mapped(value) for key, value in self.parent.rows(topics).items()}
        return {key: value for key, value in rows.items() if value is not None}


@dataclass(frozen=True)
class Again(Plan):
    """The table of the changes of another one."""

    parent: Plan
    kept: Kept

    def table(self, maker: Maker) -> Table:
        stream = maker.make(self.parent).to_stream()
        kept = maker.kept(self.kept) or Materialized[str, int](key_serde=S, value_serde=N)
        return stream.to_table(materialized=kept)

    def rows(self, topics: dict[str, Rows]) -> Rows:
        return self.parent.rows(topics)


@dataclass(frozen=True)
class Joined(Plan):
    left: Plan
    right: Plan
    kind: Literal["join", "left_join", "outer_join"]
    kept: Kept

    def table(self, maker: Maker) -> Table:
        left, right = maker.make(self.left), maker.make(self.right)
        join: Callable[..., Table] = getattr(left, self.kind)
        return join(right, joined, materialized=maker.kept(self.kept))

    def rows(self, topics: dict[str, Rows]) -> Rows:
        left, right = self.left.rows(topics), self.right.rows(topics)
        keys = {
            "join": left.keys() & right.keys(),
            "left_join": left.keys(),
            "outer_join": left.keys() | right.keys(),
        }[self.kind]
        return {key: joined(left.get(key), right.get(key)) for key in keys}


class Reader(Processor[str, int, str, int]):
    """Reads every row of stores for each record, so that full caches give way meanwhile."""

    stores: tuple[str, ...]

    def process(self, record: Record[str, int]) -> None:
        for name in self.stores:
            store: Any = self.context.get_state_store(name)
            for key in (*KEYS, record.key):
                store.get(key)
            list(store.all())


kepts = st.sampled_from(["not", "cached", "uncached"])
kinds = st.sampled_from(["join", "left_join", "outer_join"])
plans: st.SearchStrategy[Plan] = st.recursive(
    st.builds(Topic, st.sampled_from(TOPICS)),
    lambda inner: st.one_of(
        st.builds(Filtered, inner, kepts),
        st.builds(Mapped, inner, kepts),
        st.builds(Again, inner, kepts),
        st.builds(Joined, inner, inner, kinds, kepts),
    ),
    max_leaves=5,
)
joins = st.builds(Joined, plans, plans, kinds, kepts)
puts = st.tuples(st.sampled_from(TOPICS), st.sampled_from(KEYS), st.integers(0, 20) | st.none())
steps = st.lists(puts | st.just("commit"), min_size=1, max_size=25)
budgets = st.sampled_from([0, 1, 150, 300, 500, 10_000_000])
sources = st.fixed_dictionaries(
    {topic: st.sampled_from(["cached", "uncached"]) for topic in TOPICS}
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(joins, sources, steps, budgets, st.booleans(), st.sampled_from([N, serdes.json(int)]))
def test_what_is_made_of_joined_tables_follows_their_rows(
    plan: Joined,
    sources: dict[str, Kept],
    steps: list[Any],
    budget: int,
    is_read: bool,
    numbers: Serde[int],
) -> None:
    maker = Maker(sources, numbers)
    table = maker.make(plan)
    if is_read:
        names = tuple(maker.stores)
        table.to_stream().process(lambda: reader_of(names), *names)
    table.to_stream().to("out", key_serde=S, value_serde=N)
    grouped = table.group_by(lambda _key, v: (str(v % 3), v), key_serde=S, value_serde=N)
    grouped.count(materialized=Materialized("counts", store="memory"))
    grouped.reduce(
        lambda total, v: total + v,
        lambda total, v: total - v,
        materialized=Materialized("sums", value_serde=N, store="memory"),
    )
    topics: dict[str, Rows] = {topic: {} for topic in TOPICS}
    with TopologyTestDriver(
        maker.builder, commit="manual", statestore_cache_max_bytes=budget
    ) as driver:
        inputs = {topic: driver.create_input_topic(topic, S, numbers) for topic in TOPICS}
        for number, step in enumerate(steps):
            if step == "commit":
                driver.commit()
                continue
            topic, key, value = step
            inputs[topic].pipe_input(key, value, number)
            if value is None:
                topics[topic].pop(key, None)
            else:
                topics[topic][key] = value
        driver.commit()
        # What the first commit sent to the repartition topic.
        driver.commit()

        rows = plan.rows(topics)
        assert last_values(driver, "out") == rows
        for made, kept in maker.made.items():
            name = kept.queryable_store_name
            if name is not None:
                assert stored(driver, name) == made.rows(topics)
                assert logged(driver, name, numbers) == made.rows(topics)
        groups: dict[str, list[int]] = {}
        for value in rows.values():
            groups.setdefault(str(value % 3), []).append(value)
        counts, sums = stored(driver, "counts"), stored(driver, "sums")
        assert counts == {key: len(groups.get(key, ())) for key in counts}
        assert sums == {key: sum(groups.get(key, ())) for key in sums}
        assert groups.keys() <= counts.keys() & sums.keys()


def reader_of(stores: tuple[str, ...]) -> Reader:
    reader = Reader()
    reader.stores = stores
    return reader


def stored(driver: TopologyTestDriver, store: str) -> Rows:
    return {key: pair.value for key, pair in driver.get_state_store(store).all()}


def logged(driver: TopologyTestDriver, store: str, numbers: Serde[int]) -> Rows:
    application = driver.config.application_id
    return last_values(driver, f"{application}-{store}-changelog", numbers)


def last_values(driver: TopologyTestDriver, topic: str, numbers: Serde[int] = N) -> Rows:
    told: dict[str, Any] = dict(
        driver.create_output_topic(topic, S, numbers).read_key_values_to_list()
    )
    return {key: value for key, value in told.items() if value is not None}


# One case at a time.

KINDS = pytest.mark.parametrize("kind", ["join", "left_join", "outer_join"])
CACHES = pytest.mark.parametrize("cache_bytes", [0, 1, 10_000_000])


@KINDS
@CACHES
def test_a_row_deleted_from_a_table_joined_with_one_derived_from_it_is_deleted(
    kind: str, cache_bytes: int
) -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=N, store="rows")
    derived = table.filter(lambda _key, value: value > 5).map_values(lambda value: value + 100)
    both: Table = getattr(table, kind)(derived, joined)
    both.to_stream().to("out", key_serde=S, value_serde=N)
    with TopologyTestDriver(builder, statestore_cache_max_bytes=cache_bytes) as driver:
        rows = driver.create_input_topic("in", S, N)
        rows.pipe_key_values([("k", 7), ("k", 8), ("k", None)])
        out: list[Any] = driver.create_output_topic("out", S, N).read_key_values_to_list()
    assert joined(8, 108) in [value for _, value in out]
    assert out[-1] == ("k", None)


@KINDS
def test_a_change_of_both_sides_between_two_commits_replaces_what_was_there(kind: str) -> None:
    builder = StreamsBuilder()
    one = builder.table("one", key_serde=S, value_serde=N)
    two = builder.table("two", key_serde=S, value_serde=N)
    both: Table = getattr(one, kind)(two, joined)
    there: list[int] = []

    def add(_key: str, value: int, count: int) -> int:
        there.append(value)
        return count + 1

    def subtract(_key: str, value: int, count: int) -> int:
        there.remove(value)
        return count - 1

    grouped = both.group_by(lambda key, value: (key, value), key_serde=S, value_serde=N)
    counts = Materialized[str, int]("counts", value_serde=N)
    grouped.aggregate(lambda: 0, add, subtract, materialized=counts)
    with TopologyTestDriver(builder, commit="manual") as driver:
        first, second = (driver.create_input_topic(topic, S, N) for topic in ("one", "two"))
        for left, right in ((1, 2), (3, 4), (None, 6), (7, None)):
            first.pipe_input("k", left)
            second.pipe_input("k", right)
            driver.commit()
    assert there == ([] if kind == "join" else [joined(7, None)])


def test_what_full_caches_would_forward_meanwhile_does_not_overtake_a_result() -> None:
    builder = StreamsBuilder()
    one = builder.table("one", key_serde=S, value_serde=N, store="ones")
    two = builder.table("two", key_serde=S, value_serde=N, store="twos")
    results = one.join(two, lambda left, right: 10 * left + right).to_stream()
    results.process(lambda: reader_of(("twos",)), "twos")
    results.to("out", key_serde=S, value_serde=N)
    with TopologyTestDriver(builder, commit="manual", statestore_cache_max_bytes=100) as driver:
        first, second = (driver.create_input_topic(topic, S, N) for topic in ("one", "two"))
        second.pipe_key_values([("k1", 1), ("k", 1)])
        first.pipe_input("k", 1)
        driver.commit()
        # The change of k in the second table waits in the cache, until the reader of the
        # first result needs room for another row.
        second.pipe_input("k", 2)
        first.pipe_input("k", 5)
        driver.commit()
        out = driver.create_output_topic("out", S, N).read_key_values_to_list()
    assert out == [("k", 11), ("k", 51), ("k", 52)]


@CACHES
def test_tables_of_windows_can_be_joined(cache_bytes: int) -> None:
    builder = StreamsBuilder()

    def counts(topic: str) -> KTable[Windowed[str], int]:
        grouped = builder.stream(topic, key_serde=S, value_serde=N).group_by_key()
        return grouped.windowed_by(TimeWindows.of_size(10)).count()

    both = counts("one").left_join(counts("two"), joined)
    grouped = both.group_by(lambda window, value: (window.key, value), key_serde=S, value_serde=N)
    grouped.reduce(
        lambda total, v: total + v,
        lambda total, v: total - v,
        materialized=Materialized("sums", value_serde=N),
    )
    with TopologyTestDriver(
        builder, commit="manual", statestore_cache_max_bytes=cache_bytes
    ) as driver:
        inputs = [driver.create_input_topic(topic, S, N) for topic in ("one", "two")]
        for time in (1, 2, 12):
            for topic in inputs:
                topic.pipe_input("k", 0, time)
            driver.commit()
        driver.commit()
        assert stored(driver, "sums") == {"k": joined(2, 2) + joined(1, 1)}


class Probe(Processor[str, int, str, int]):
    """Tells what a store has for the record's key."""

    def process(self, record: Record[str, int]) -> None:
        store: Any = self.context.get_state_store("rows")
        found = list(store.all()) if record.value else [(record.key, store.get(record.key))]
        for key, pair in found:
            self.context.forward(record.with_key(key).with_value(pair and pair.value))


@pytest.mark.parametrize("scans", [0, 1])
@CACHES
def test_the_deletion_of_a_row_that_a_processor_has_read_is_told(
    scans: int, cache_bytes: int
) -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=N, store="rows")
    probes = builder.stream("probes", key_serde=S, value_serde=N).process(Probe, "rows")
    table.to_stream().merge(probes).to("out", key_serde=S, value_serde=N)
    with TopologyTestDriver(
        builder, commit="manual", statestore_cache_max_bytes=cache_bytes
    ) as driver:
        rows = driver.create_input_topic("in", S, N)
        rows.pipe_input("k", 1)
        driver.create_input_topic("probes", S, N).pipe_input("k", scans)
        rows.pipe_input("k", None)
        driver.commit()
        out: list[Any] = driver.create_output_topic("out", S, N).read_key_values_to_list()
        assert stored(driver, "rows") == logged(driver, "rows", N) == {}
    assert ("k", 1) in out
    assert out[-1] == ("k", None)


class Notes(Processor[str, int, str, int]):
    """Notes the last value of each key."""

    def process(self, record: Record[str, int]) -> None:
        store: Any = self.context.get_state_store("notes")
        store.put(record.key, record.value)
        self.context.forward(record)


def test_a_commit_holds_what_flushing_wrote_to_a_store_that_was_flushed_before() -> None:
    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("notes", S, N).with_caching())
    noted = builder.stream("in", key_serde=S, value_serde=N).process(Notes, "notes")
    table = noted.to_table(materialized=Materialized("rows", key_serde=S, value_serde=N))
    table.map_values(lambda value: 10 * value).to_stream().process(Notes, "notes")
    with TopologyTestDriver(builder, commit="manual") as driver:
        driver.create_input_topic("in", S, N).pipe_input("k", 1)
        driver.commit()
        assert logged(driver, "notes", N) == {"k": 10}


WINDOW_MS = 10
Windows: TypeAlias = dict[tuple[str, int], tuple[int | None, int | None]]
moments = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.sampled_from(KEYS), st.integers(0, 15)),
    max_size=60,
)


@pytest.mark.parametrize("kind", ["join", "left_join", "outer_join"])
@given(moments, st.sampled_from([100, 160, 240, 320, 500, 1_000, 100_000]), st.integers(1, 30))
def test_a_join_of_windows_follows_them_even_where_a_side_has_expired_meanwhile(
    kind: str, records: list[tuple[str, str, int]], cache_bytes: int, commit_every: int
) -> None:
    """Rows of one side expire while changes of the other wait in a cache."""
    builder = StreamsBuilder()

    def counts(topic: str) -> KTable[Windowed[str], int]:
        grouped = builder.stream(topic, key_serde=S, value_serde=N).group_by_key()
        return grouped.windowed_by(TimeWindows.of_size(WINDOW_MS)).count()

    both = getattr(counts("one"), kind)(counts("two"), joined)
    both.to_stream(lambda key, _value: f"{key.key}@{key.window.start_ms}").to(
        "out", key_serde=S, value_serde=N
    )
    both.group_by(lambda key, value: (key.key, value), key_serde=S, value_serde=N).aggregate(
        int,
        lambda _key, value, total: total + value,
        lambda _key, value, total: total - value,
        materialized=Materialized("sums", value_serde=N),
    )
    counted: Windows = {}
    now = 0
    with TopologyTestDriver(
        builder, commit="manual", statestore_cache_max_bytes=cache_bytes
    ) as driver:
        inputs = {topic: driver.create_input_topic(topic, S, N) for topic in ("one", "two")}
        for number, (topic, key, later) in enumerate(records):
            now += later
            inputs[topic].pipe_input(key, 0, now)
            window = key, now // WINDOW_MS * WINDOW_MS
            left, right = counted.get(window, (None, None))
            if topic == "one":
                counted[window] = (left or 0) + 1, right
            else:
                counted[window] = left, (right or 0) + 1
            if number % commit_every == 0:
                driver.commit()
        driver.commit()
        needed = {"join": (0, 1), "left_join": (0,), "outer_join": ()}[kind]
        wanted = {
            window: joined(*sides)
            for window, sides in counted.items()
            if all(sides[side] is not None for side in needed)
        }
        assert last_values(driver, "out") == {f"{k}@{s}": value for (k, s), value in wanted.items()}
        sums: Rows = {}
        for (key, _), value in wanted.items():
            sums[key] = sums.get(key, 0) + value
        assert stored(driver, "sums") == sums
