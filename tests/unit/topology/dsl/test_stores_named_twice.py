"""Two stores of one name are refused, however they come to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import pytest

from thalweg.stores.builders import key_value_store, timestamped_key_value_store
from thalweg.stores.serde import serdes
from thalweg.topology.dsl import Materialized, StreamsBuilder, TimeWindows
from thalweg.topology.errors import TopologyError
from thalweg.topology.physical import ProcessorNode, Topology
from thalweg.topology.processor import Processor

S, N = serdes.string, serdes.int64
NAME = "kept"
SIMILAR = key_value_store(NAME, S, S)


def supplier(stores: Any) -> Callable[[], Processor[Any, Any, Any, Any]]:
    class Passing(Processor[Any, Any, Any, Any]):
        def process(self, record: Any) -> None:
            self.context.forward(record)

    Passing.stores = stores  # type: ignore[attr-defined]
    return Passing


class Builder:
    """A builder, and streams and tables of topics that nobody else reads."""

    def __init__(self) -> None:
        self.builder = StreamsBuilder()
        self.topics = 0
        self.shared_stream = self.builder.stream("shared", key_serde=S, value_serde=S)

    def topic(self) -> str:
        self.topics += 1
        return f"topic{self.topics}"

    def stream(self) -> Any:
        return self.builder.stream(self.topic(), key_serde=S, value_serde=S)

    def table(self) -> Any:
        return self.builder.table(self.topic(), key_serde=S, value_serde=S)


def same(key: Any, value: Any) -> Any:
    return (key, value)


def either(one: Any, _other: Any) -> Any:
    return one


WAYS: dict[str, Callable[[Builder], object]] = {
    "count": lambda b: b.shared_stream.group_by_key().count(NAME),
    "count of another key": lambda b: b.shared_stream.group_by(either).count(NAME),
    "reduce": lambda b: b.shared_stream.group_by_key().reduce(either, NAME),
    "aggregate": lambda b: b.shared_stream.group_by_key().aggregate(str, lambda k, v, a: v, NAME),
    "windowed count": lambda b: (
        b.shared_stream.group_by_key().windowed_by(TimeWindows.of_size(10)).count(NAME)
    ),
    "count of a table": lambda b: b.table().group_by(same).count(NAME),
    "reduce of a table": lambda b: b.table().group_by(same).reduce(either, either, NAME),
    "table": lambda b: b.builder.table(b.topic(), key_serde=S, value_serde=S, store=NAME),
    "to_table": lambda b: b.shared_stream.to_table(name=NAME),
    "filter": lambda b: b.table().filter(lambda k, v: True, name=NAME),
    "filter_not": lambda b: b.table().filter_not(lambda k, v: True, name=NAME),
    "map_values": lambda b: b.table().map_values(lambda v: v, name=NAME),
    "transform_values": lambda b: b.table().transform_values(lambda: either, name=NAME),
    "join": lambda b: b.table().join(b.table(), either, name=NAME),
    "outer_join": lambda b: b.table().outer_join(b.table(), either, name=NAME),
    "materialized by a builder": lambda b: b.shared_stream.group_by_key().count(
        materialized=Materialized(store=SIMILAR)
    ),
    "add_state_store": lambda b: b.builder.add_state_store(
        timestamped_key_value_store(NAME, S, N).with_caching()
    ),
    "supplier": lambda b: b.stream().process(supplier([key_value_store(NAME, S, S)])),
    "supplier with a function": lambda b: b.stream().process(
        supplier(lambda: [key_value_store(NAME, S, S)])
    ),
    "global store": lambda b: b.builder.add_global_store(
        key_value_store(NAME, S, S), b.topic(), supplier(None)
    ),
}  # fmt: skip


@pytest.mark.parametrize("ways", [*combinations_with_replacement(WAYS, 2)], ids=" and ".join)
def test_two_stores_of_one_name_are_refused(ways: tuple[str, ...]) -> None:
    b = Builder()
    if ways == ("add_state_store", "add_state_store"):
        b.builder.add_state_store(SIMILAR.with_caching())
        ways = ways[:1]
    for way in ways:
        WAYS[way](b)

    with pytest.raises(TopologyError, match="a store named 'kept' has already been added") as told:
        b.builder.build()

    places = re.findall(
        r"(processor '[A-Z0-9-]+'|add_state_store\(\)|add_global_store\(\) of topic 'topic\d')",
        str(told.value),
    )
    assert len(places) == 2
    assert "give each store a name of its own" in str(told.value)


def test_one_builder_object_is_one_store_wherever_it_is_named() -> None:
    store = key_value_store(NAME, S, S)
    b = Builder()
    b.builder.add_state_store(store).add_state_store(store)
    b.stream().process(supplier([store]))
    b.stream().process(supplier(lambda: [store]), NAME)
    b.stream().process(supplier(None), NAME)

    topology = b.builder.build()

    users = [
        node for node in topology.nodes.values() if isinstance(node, ProcessorNode) and node.stores
    ]
    assert len(users) == 3
    assert list(topology.stores) == [NAME]
    b.builder.build()  # and once more


def test_processors_may_use_a_store_of_a_table() -> None:
    b = Builder()
    b.shared_stream.group_by_key().count(NAME)
    b.stream().process(supplier(None), NAME)
    assert list(b.builder.build().stores) == [NAME]


@pytest.mark.parametrize("is_same", [True, False])
def test_suppliers_of_one_topology_share_a_store_by_its_builder(is_same: bool) -> None:
    one = key_value_store(NAME, S, S)
    other = one if is_same else key_value_store(NAME, S, S)
    topology = Topology().add_source("src", "in").add_processor("p", supplier([one]), "src")
    if is_same:
        topology.add_processor("q", supplier([other]), "src")
        topology.add_state_store(one, "q")
    else:
        message = "'kept' has already been added by processor 'p', and processor 'q' names"
        with pytest.raises(TopologyError, match=message):
            topology.add_processor("q", supplier([other]), "src")


def test_a_read_only_store_is_a_store_like_others() -> None:
    topology = Topology().add_read_only_state_store(SIMILAR, "src", "t", "p", supplier(None))
    others: list[Callable[[], object]] = [
        lambda: topology.add_state_store(SIMILAR.without_logging()),
        lambda: topology.add_read_only_state_store(
            SIMILAR.with_caching(), "s", "u", "q", supplier(None)
        ),
        lambda: topology.add_global_store(
            SIMILAR.without_logging(), "s2", "v", "r", supplier(None)
        ),
    ]
    for add in others:
        with pytest.raises(TopologyError, match="'kept' has already been added by processor 'p'"):
            add()
