"""Subtopologies: their topics, configs and copartition groups, and partition counts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from thalweg.stores.builders import StoreBuilder, key_value_store, timestamped_window_store
from thalweg.stores.serde import serdes
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.stateless import PassThrough
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import (
    CopartitionGroup,
    InternalTopic,
    Subtopology,
    TopologyConfig,
    changelog_topics,
    copartition_problems,
    internal_topic_partitions,
    stores_in_order,
    subtopologies,
    task_count,
    topic_names,
)

APP = TopologyConfig("app")


def store(name: str) -> StoreBuilder:
    return key_value_store(name, serdes.string, serdes.int64)


def through(topology: Topology, name: str, parent: str, partitions: int | None = None) -> None:
    """Puts a repartition topic below a node; its source is called like the topic."""
    topology.add_internal_topic(name, partitions)
    topology.add_sink(f"{name}-sink", name, parent)
    topology.add_source(name, name)


def rekeyed(partitions: int | None = None) -> Topology:
    """A re-keyed stream joined with a table."""
    topology = Topology().add_source("s", "orders").add_processor("key", PassThrough(), "s")
    through(topology, "by-customer", "key", partitions)
    topology.add_source("t", "customers").add_processor("table", PassThrough(), "t")
    topology.add_state_store(store("st"), "table")
    topology.add_processor("join", PassThrough(), "by-customer")
    topology.connect_processor_and_state_stores("join", "st")
    return topology.copartition(["by-customer", "t"])


def counts_of(topology: Topology, counts: Mapping[str, int]) -> dict[str, int]:
    return internal_topic_partitions(subtopologies(topology, APP), counts)


def configs_of(builder: StoreBuilder, config: TopologyConfig) -> Mapping[str, str]:
    topology = Topology().add_source("s", "in").add_processor("p", PassThrough(), "s")
    (part,) = subtopologies(topology.add_state_store(builder, "p"), config)
    return part.state_changelog_topics[0].configs


# Topics.


def test_internal_topics_are_named_after_the_application() -> None:
    first, second = subtopologies(rekeyed(), APP)

    assert first == Subtopology(
        id=0,
        node_names=("s", "key", "by-customer-sink"),
        source_topics=("orders",),
        repartition_sink_topics=("app-by-customer",),
    )
    assert second.source_topics == ("customers",)
    assert second.repartition_source_topics == (
        InternalTopic(
            "app-by-customer",
            0,
            -1,
            {
                "cleanup.policy": "delete",
                "message.timestamp.type": "CreateTime",
                "retention.ms": "-1",
                "segment.bytes": "52428800",
            },
        ),
    )
    assert second.state_changelog_topics == (
        InternalTopic(
            "app-st-changelog",
            0,
            -1,
            {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"},
        ),
    )
    assert second.copartition_groups == (CopartitionGroup(("customers",), ("app-by-customer",)),)
    assert second.stores == ("st",)


def test_a_fixed_partition_count_is_sent() -> None:
    assert subtopologies(rekeyed(6), APP)[1].repartition_source_topics[0].partitions == 6


def test_global_stores_and_patterns_are_listed() -> None:
    topology = Topology()
    topology.add_global_store(store("g").without_logging(), "gs", "gt", "gp", PassThrough())
    topology.add_source("s", re.compile("logs-.*"))

    first, second = subtopologies(topology, APP)

    assert first.is_global
    assert (first.source_topics, first.stores) == (("gt",), ("g",))
    assert second.id == 1
    assert second.source_topics == ()
    assert second.source_topic_regex == ("logs-.*",)


def test_a_store_can_do_without_a_changelog_of_its_own() -> None:
    topology = Topology()
    topology.add_read_only_state_store(store("ro"), "s", "users", "p", PassThrough())
    topology.add_state_store(store("unlogged").without_logging(), "p")
    topology.add_state_store(store("unused"))

    (part,) = subtopologies(topology, APP)

    assert [topic.name for topic in part.state_changelog_topics] == ["users"]
    assert set(part.stores) == {"ro", "unlogged"}
    assert changelog_topics(topology, "app") == {"ro": "users", "unused": "app-unused-changelog"}


def test_names_in_the_topology_and_in_the_log() -> None:
    assert topic_names(rekeyed(), "app") == {"by-customer": "app-by-customer"}


def test_stores_are_opened_node_by_node_and_by_hash() -> None:
    topology = Topology().add_source("s", "in")
    topology.add_processor("p", PassThrough(), "s").add_processor("q", PassThrough(), "p")
    for name in ("z", "b", "a"):
        topology.add_state_store(store(name), "q")
    topology.add_state_store(store("y"), "p").add_state_store(store("b"), "p")

    assert stores_in_order(topology, ("s", "p", "q")) == ("b", "y", "a", "z")


@pytest.mark.parametrize("name", ["two words", "x" * 240, "a/b"])
def test_illegal_topic_names_are_refused(name: str) -> None:
    topology = Topology().add_source("s", "in").add_processor("p", PassThrough(), "s")
    topology.add_state_store(store(name), "p")

    with pytest.raises(TopologyError, match="not a legal topic name for a changelog"):
        subtopologies(topology, APP)


# Configs.


def test_configs_of_a_store_win_over_those_of_the_application() -> None:
    config = TopologyConfig("app", {"retention.ms": "5", "min.insync.replicas": "2"}, 3)
    logged = store("st").with_logging({"retention.ms": "77", "segment.bytes": "1000000"})

    assert configs_of(logged, config) == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": "2",
        "retention.ms": "77",
        "segment.bytes": "1000000",
    }
    assert list(configs_of(logged, config)) == sorted(configs_of(logged, config))


def test_the_application_can_override_repartition_topics() -> None:
    config = TopologyConfig("app", {"segment.bytes": "1"}, 3)
    topic = subtopologies(rekeyed(), config)[1].repartition_source_topics[0]

    assert topic.replication_factor == 3
    assert topic.configs["segment.bytes"] == "1"


def test_a_window_store_keeps_its_retention_unless_it_says_otherwise() -> None:
    config = TopologyConfig(
        "app", {"retention.ms": "5"}, window_changelog_additional_retention_ms=1000
    )
    windows = timestamped_window_store("w", retention_ms=7000, window_size_ms=10)

    kept = configs_of(windows, config)
    assert (kept["retention.ms"], kept["cleanup.policy"]) == ("8000", "compact,delete")
    assert configs_of(windows.with_logging({"retention.ms": "9"}), config)["retention.ms"] == "9"


# Copartition groups.


def sources(*topics: str) -> Topology:
    """One subtopology with sources named like their topics."""
    topology = Topology()
    for topic in topics:
        topology.add_source(topic, topic)
    return topology.add_processor("p", PassThrough(), *topics)


def test_groups_that_share_a_topic_are_one() -> None:
    topology = sources("a", "b", "c", "d").copartition(["b", "a"]).copartition(["c", "b"])

    (part,) = subtopologies(topology, APP)

    assert part.copartition_groups == (CopartitionGroup(("a", "b", "c"), ()),)


def test_a_merged_away_source_has_no_place_in_a_group() -> None:
    topology = sources("a").copartition(["gone", "a"]).copartition(["gone"])

    (part,) = subtopologies(topology, APP)

    assert part.copartition_groups == (CopartitionGroup(("a",), ()),)


def test_only_one_subtopology_can_be_copartitioned() -> None:
    topology = Topology().add_source("a", "a").add_source("b", "b").copartition(["a", "b"])

    with pytest.raises(TopologyError, match=r"topics a of subtopology 0 .* as b of another"):
        subtopologies(topology, APP)


# Partition counts.


def test_a_repartition_topic_follows_what_its_writers_read() -> None:
    topology = sources("a", "b")
    through(topology, "r1", "p")
    through(topology, "r2", "r1")
    topology.add_processor("last", PassThrough(), "r2").add_state_store(store("st"), "last")

    assert counts_of(topology, {"a": 2, "b": 5, "unrelated": 9}) == {
        "app-r1": 5,
        "app-r2": 5,
        "app-st-changelog": 5,
    }


def test_a_fixed_count_stays() -> None:
    topology = sources("a")
    through(topology, "r1", "p", 7)
    through(topology, "r2", "r1")

    assert counts_of(topology, {"a": 2}) == {"app-r1": 7, "app-r2": 7}


def test_a_topic_with_several_writers_takes_the_most() -> None:
    topology = Topology().add_source("a", "a").add_source("b", "b")
    topology.add_internal_topic("r", None)
    topology.add_sink("a-sink", "r", "a").add_sink("b-sink", "r", "b").add_source("r", "r")

    assert counts_of(topology, {"a": 2, "b": 3}) == {"app-r": 3}


def test_what_is_joined_with_a_topic_takes_its_count() -> None:
    assert counts_of(rekeyed(), {"orders": 3, "customers": 8}) == {
        "app-by-customer": 8,
        "app-st-changelog": 8,
    }


def test_repartition_topics_that_are_joined_take_the_most_or_the_fixed_count() -> None:
    for fixed, expected in ((None, 4), (3, 3)):
        topology = Topology().add_source("a", "a").add_source("b", "b")
        through(topology, "r1", "a", fixed)
        through(topology, "r2", "b")
        topology.add_processor("join", PassThrough(), "r1", "r2").copartition(["r1", "r2"])

        assert counts_of(topology, {"a": 2, "b": 4}) == {"app-r1": expected, "app-r2": expected}


def test_a_pattern_counts_the_topics_it_matches() -> None:
    topology = Topology().add_source("s", re.compile("logs-.*"))
    topology.add_processor("p", PassThrough(), "s").add_state_store(store("st"), "p")
    through(topology, "r", "p")

    assert counts_of(topology, {"logs-a": 2, "logs-b": 3, "catalogs-c": 9}) == {
        "app-r": 3,
        "app-st-changelog": 3,
    }


def test_a_source_topic_that_is_a_changelog_is_not_internal() -> None:
    topology = Topology()
    topology.add_read_only_state_store(store("ro"), "s", "users", "p", PassThrough())

    assert counts_of(topology, {"users": 4}) == {}


def test_global_stores_have_no_tasks() -> None:
    topology = Topology()
    topology.add_global_store(store("g").without_logging(), "gs", "gt", "gp", PassThrough())
    parts = subtopologies(topology.add_source("s", "in"), APP)

    assert [task_count(part, {"gt": 5, "in": 2}) for part in parts] == [0, 2]
    assert internal_topic_partitions(parts, {"in": 2}) == {}


def test_known_internal_counts_are_worked_out_anew() -> None:
    found = counts_of(rekeyed(), {"orders": 3, "customers": 8, "app-by-customer": 99})

    assert found["app-by-customer"] == 8


def test_missing_sources_are_named() -> None:
    with pytest.raises(TopologyError, match="subtopology 0 do not exist: orders; create them"):
        counts_of(rekeyed(), {"customers": 8})


def test_repartition_topics_nobody_feeds_are_named() -> None:
    topology = Topology().add_internal_topic("r", None).add_source("s", "r")
    with pytest.raises(TopologyError, match="app-r does not follow from any source topic"):
        counts_of(topology, {})

    topology.add_sink("loop", "r", "s")
    with pytest.raises(TopologyError, match="app-r does not follow from any source topic"):
        counts_of(topology, {})


# Copartition problems.


def test_topics_that_are_joined_need_equal_counts() -> None:
    parts = subtopologies(sources("a", "b", "c").copartition(["a", "b"]), APP)

    assert copartition_problems(parts, {"a": 2, "b": 2, "c": 3}) == []
    assert copartition_problems(parts, {"a": 2}) == []
    (problem,) = copartition_problems(parts, {"a": 2, "b": 3, "c": 3})
    assert "(a: 2, b: 3)" in problem
    with pytest.raises(TopologyError, match=r"\(a: 2, b: 3\)"):
        internal_topic_partitions(parts, {"a": 2, "b": 3, "c": 3})


def test_a_fixed_count_must_fit_what_is_joined() -> None:
    parts = subtopologies(rekeyed(6), APP)

    assert copartition_problems(parts, {"orders": 1, "customers": 6}) == []
    (problem,) = copartition_problems(parts, {"orders": 1, "customers": 8})
    assert "(app-by-customer: 6, customers: 8)" in problem
