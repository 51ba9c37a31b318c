"""Who has what, by the topology, the partition counts and what the group says."""

from __future__ import annotations

import re

import pytest

from tests.unit.streams.queries.asked import GlobalUpdate
from thalweg import StreamsBuilder, Topology
from thalweg.rebalance.values import Endpoint, EndpointPartitions
from thalweg.stores.builders import key_value_store
from thalweg.stores.serde import serdes
from thalweg.streams.queries.metadata import (
    NO_ENDPOINT,
    GroupView,
    InstanceTasks,
    StoreDirectory,
    endpoint_of,
    topics_read,
)
from thalweg.streams.transport.partitioning import partition_of
from thalweg.topology.subtopologies import TopologyConfig, subtopologies

HERE, LEFT, RIGHT = Endpoint("here", 1), Endpoint("left", 1), Endpoint("right", 1)


def directory() -> StoreDirectory:
    """Returns the directory of a topology with two subtopologies: words, then counts."""
    builder = StreamsBuilder()
    builder.table("seen", key_serde=serdes.string, value_serde=serdes.string, store="latest")
    (
        builder.stream("lines", value_serde=serdes.string)
        .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(name="counts")
    )
    return directory_of(builder.build())


def directory_of(topology: Topology) -> StoreDirectory:
    return StoreDirectory(topology, subtopologies(topology, TopologyConfig("app")))


COUNTS = {"seen": 2, "lines": 3, "app-counts-repartition": 3}


def part_of(store: str) -> int:
    """Returns the number of a store's subtopology."""
    numbers = [
        number
        for number in range(3)
        if directory().is_local(
            store, 0, GroupView(COUNTS, InstanceTasks(frozenset({(number, 0)})))
        )
    ]
    (found,) = numbers
    return found


def test_a_store_has_as_many_partitions_as_its_subtopology_has_tasks() -> None:
    view = GroupView(COUNTS)

    assert directory().partition_count("latest", view) == 2
    assert directory().partition_count("counts", view) == 3
    assert directory().partition_count("counts", GroupView()) == 0


def test_own_tasks_are_known_best() -> None:
    stores, counts = directory(), part_of("counts")
    claimed = EndpointPartitions(active={"app-counts-repartition": frozenset({0, 1})})
    view = GroupView(
        COUNTS,
        InstanceTasks(active=frozenset({(counts, 0)})),
        HERE,
        {
            # What the group says of this very instance is older than what it knows itself.
            HERE: EndpointPartitions(active={"app-counts-repartition": frozenset({2})}),
            LEFT: claimed,
        },
    )

    assert stores.owner("counts", 0, view) == HERE
    assert stores.owner("counts", 1, view) == LEFT
    assert stores.owner("counts", 2, view) is None
    assert [stores.is_local("counts", p, view) for p in range(3)] == [True, False, False]


def test_a_key_belongs_to_the_partition_of_its_bytes() -> None:
    stores = directory()
    view = GroupView(
        COUNTS,
        endpoint=HERE,
        endpoints={
            LEFT: EndpointPartitions(active={"app-counts-repartition": frozenset({0, 1, 2})}),
            RIGHT: EndpointPartitions(standby={"app-counts-repartition": frozenset({0, 1, 2})}),
        },
    )

    for key in (b"a", b"word", b"\xff\0"):
        found = stores.key_metadata("counts", key, view)
        assert found.partition == partition_of(key, 3)
        assert found.active_host == LEFT
        assert found.standby_hosts == (RIGHT,)
        assert not found.is_local
    assert stores.key_metadata("counts", b"a", GroupView()).active_host is None


def test_instances_are_told_with_their_stores() -> None:
    stores, latest = directory(), part_of("latest")
    view = GroupView(
        COUNTS,
        InstanceTasks(frozenset({(latest, 0)}), frozenset({(latest, 1)})),
        HERE,
        {LEFT: EndpointPartitions(active={"seen": frozenset({1}), "lines": frozenset({0, 2})})},
    )

    here, left = stores.instances(view)

    assert here.is_local
    assert here.store_names == {"latest"}
    assert here.standby_store_names == {"latest"}
    assert here.topic_partitions == {("seen", 0)}
    assert here.standby_topic_partitions == {("seen", 1)}
    assert stores.store_partitions(here, view) == {"latest": ([0], [1])}
    assert (left.host, left.port, left.is_local) == ("left", 1, False)
    assert left.store_names == {"latest"}  # the tasks that read lines have no store
    assert stores.store_partitions(left, view) == {"latest": ([1], [])}


def test_an_instance_alone_needs_no_endpoint() -> None:
    latest = part_of("latest")
    tasks = InstanceTasks(frozenset({(latest, 0), (latest, 1)}))

    (only,) = directory().instances(GroupView(COUNTS, tasks))

    assert only.endpoint == NO_ENDPOINT
    assert directory().key_metadata("latest", b"x", GroupView(COUNTS, tasks)).is_local


def test_topics_are_found_by_pattern() -> None:
    builder = StreamsBuilder()
    builder.stream(re.compile("in-.*"), key_serde=serdes.string, value_serde=serdes.string).group_by_key().count(name="c")  # fmt: skip
    topology = builder.build()
    stores = directory_of(topology)
    view = GroupView({"in-a": 2, "in-b": 5})

    assert stores.partition_count("c", view) == 5
    parts = subtopologies(topology, TopologyConfig("app"))
    assert topics_read(parts, ["in-a", "out", "in-b"]) == ["in-a", "in-b"]


def test_a_global_store_is_whole_everywhere() -> None:
    topology = Topology()
    store = key_value_store("g", serdes.uuid, serdes.string).without_logging()
    topology.add_global_store(store, "s", "topic", "p", GlobalUpdate)
    found = directory_of(topology).key_metadata("g", b"k", GroupView(endpoint=HERE))

    assert found.is_local
    assert found.active_host == HERE
    assert found.partition == -1


@pytest.mark.parametrize(
    ("address", "endpoint"), [("a:1", ("a", 1)), ("[::1]:80", ("[::1]", 80)), ("h:0", ("h", 0))]
)
def test_an_address_is_split(address: str, endpoint: tuple[str, int]) -> None:
    assert endpoint_of(address) == endpoint
    assert str(endpoint_of(address)) == address
