"""Sharing of repartition topics and of the window store of a self-join, seen in the topology."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg import Record, TopologyTestDriver, serdes
from thalweg.stores.serde import SerdeHint
from thalweg.topology.dsl import KStream, StreamsBuilder
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.logical import LogicalGraph
from thalweg.topology.graph.rewrites import single_store_self_joins
from thalweg.topology.graph.shared_repartitions import share_repartitions
from thalweg.topology.graph.steps import (
    AddSource,
    SelfJoin,
    SourceStep,
    Step,
    always,
    processor_step,
)
from thalweg.topology.operators.stateless import PassThrough
from thalweg.topology.physical import SinkNode, Topology
from thalweg.topology.processor import FixedKeyProcessor, FixedKeyRecord, Processor

Text = KStream[str, str]


class Again(Processor[str, str, str, str]):
    """Forwards every record as it is."""

    def process(self, record: Record[str, str]) -> None:
        """Forwards it."""
        self.context.forward(record)


class AgainValue(FixedKeyProcessor[str, str, str]):
    """Forwards every record as it is."""

    def process(self, record: FixedKeyRecord[str, str]) -> None:
        """Forwards it."""
        self.context.forward(record)


def texts(builder: StreamsBuilder, topic: str) -> Text:
    return builder.stream(topic, key_serde=serdes.string, value_serde=serdes.string)


def keyed(builder: StreamsBuilder, topic: str) -> Text:
    return texts(builder, topic).select_key(lambda _key, value: value)


def counts(stream: Text, *stores: str) -> None:
    for store in stores:
        grouped = stream.group_by_key(key_serde=serdes.string, value_serde=serdes.string)
        grouped.count(store).to_stream().to(f"{store}-out")


def rows(driver: TopologyTestDriver, store: str) -> dict[str, int]:
    return {key: row.value for key, row in driver.get_state_store(store).all()}


def topics(builder: StreamsBuilder, optimize: str = "all", **config: Any) -> list[str]:
    return sorted(builder.build(config, optimize=optimize).internal_topics)


def test_what_is_behind_one_change_of_keys_shares_the_topic_of_the_first() -> None:
    builder = StreamsBuilder()
    counts(keyed(builder, "in"), "one", "two")

    assert topics(builder) == ["one-repartition"]
    assert topics(builder, "merge.repartition.topics") == ["one-repartition"]
    assert topics(builder, "none") == ["one-repartition", "two-repartition"]
    assert topics(builder, "reuse.ktable.source.topics") == ["one-repartition", "two-repartition"]


def test_a_build_leaves_the_builder_as_it_was() -> None:
    builder = StreamsBuilder()
    counts(keyed(builder, "in"), "one", "two")
    before = str(builder.build().describe())

    assert str(builder.build(optimize="all").describe()) != before
    assert str(builder.build().describe()) == before


def test_aggregations_behind_one_step_behind_the_change_share_too() -> None:
    """The JVM finds no child of the change for the second, and refuses the topology."""
    builder = StreamsBuilder()
    counts(keyed(builder, "in").filter(lambda _key, value: value != "x"), "one", "two")

    assert topics(builder) == ["one-repartition"]
    with TopologyTestDriver(builder.build(optimize="all")) as driver:
        records = driver.create_input_topic("in", serdes.string, serdes.string)
        for value in "axba":
            records.pipe_input("k", value)
        for store in ("one", "two"):
            assert rows(driver, store) == {"a": 2, "b": 1}


def test_a_change_of_values_in_between_keeps_topics_apart() -> None:
    builder = StreamsBuilder()
    counts(keyed(builder, "in").map_values(lambda value: value + "!"), "one", "two")

    assert topics(builder) == ["one-repartition", "two-repartition"]


def test_a_repartition_that_the_user_asks_for_stays() -> None:
    builder = StreamsBuilder()
    stream = keyed(builder, "in")
    stream.repartition("mine").to("out")
    counts(stream, "one", "two")

    assert topics(builder) == ["mine-repartition", "one-repartition"]


@pytest.mark.parametrize("processor", [Again, AgainValue])
def test_processors_keep_topics_apart_only_if_the_build_is_told_so(processor: Any) -> None:
    builder = StreamsBuilder()
    stream = keyed(builder, "in")
    fixed = processor is AgainValue
    counts(stream.process_values(processor) if fixed else stream.process(processor), "one")
    counts(stream, "two")

    assert topics(builder) == ["one-repartition"]
    assert topics(builder, process_may_change_keys=True) == ["one-repartition", "two-repartition"]


def test_streams_that_are_merged_share_behind_the_merge() -> None:
    builder = StreamsBuilder()
    counts(keyed(builder, "a").merge(keyed(builder, "b")), "one", "two")
    topology = builder.build(optimize="all")

    (sink,) = (node for node in topology.nodes.values() if _is_repartition(node))
    (filter_,) = sink.parents
    (above,) = topology.nodes[filter_].parents
    assert above.startswith("KSTREAM-MERGE-")


def test_a_merge_of_merged_streams_shares_behind_the_last() -> None:
    """The JVM refuses it (KAFKA-20264); records of all three streams are counted here."""
    builder = StreamsBuilder()
    first = keyed(builder, "a").merge(keyed(builder, "b"))
    counts(first.merge(texts(builder, "c")), "one", "two")
    topology = builder.build(optimize="all")

    assert list(topology.internal_topics) == ["one-repartition"]
    with TopologyTestDriver(topology) as driver:
        for topic in "abc":
            driver.create_input_topic(topic, serdes.string, serdes.string).pipe_input("k", "k")
        assert rows(driver, "two") == {"k": 3}


def test_copartition_groups_name_the_shared_source() -> None:
    builder = StreamsBuilder()
    stream = keyed(builder, "in")
    counts(stream, "one")
    table = builder.table("t", key_serde=serdes.string, value_serde=serdes.string)
    stream.join(table, lambda left, right: left + right).to("out")
    topology = builder.build(optimize="all")

    assert ("one-repartition-source", "KSTREAM-SOURCE-0000000009") in topology.copartitioned


def _is_repartition(node: Any) -> bool:
    return isinstance(node, SinkNode) and str(node.topic).endswith("-repartition")


def _source(name: str) -> SourceStep:
    hint = SerdeHint.of("stream")
    return SourceStep(
        AddSource(
            name=name,
            topics=(name,),
            key_serde=None,
            value_serde=None,
            timestamp_extractor=None,
            hint=hint,
        )
    )


@pytest.mark.parametrize("is_self", [True, False])
def test_only_a_stream_that_is_joined_with_itself_gets_the_form_of_a_self_join(
    is_self: bool,
) -> None:
    logical = LogicalGraph()
    left = logical.add(_source("left"))
    right = left if is_self else logical.add(_source("right"))
    nothing = always(PassThrough())
    logical.add(processor_step("this-window", nothing), left)
    logical.add(processor_step("other-window", nothing), right)
    single = processor_step("join", nothing).adds
    both = (*processor_step("join-this", nothing).adds, *single)
    self_join = SelfJoin("this-window", "other-window", single)
    join = logical.add(Step("join", both, self_join=self_join), left, right)

    graph = single_store_self_joins(logical.snapshot())

    names = {step.name for step in graph.steps.values()}
    assert ("other-window" in names) is not is_self
    assert graph.steps[join].adds == (single if is_self else both)


def test_a_graph_without_repartitions_is_left_as_it_is() -> None:
    builder = StreamsBuilder()
    texts(builder, "in").to("out")

    graph = builder._graph.snapshot()
    assert share_repartitions(graph) == graph
    assert single_store_self_joins(graph) == graph


def test_a_long_graph_needs_no_deep_recursion() -> None:
    builder = StreamsBuilder()
    stream = keyed(builder, "in")
    for _ in range(2_000):
        stream = stream.filter(lambda _key, _value: True)
    counts(stream, "one")

    assert isinstance(builder.build(optimize="all"), Topology)


# -- names ---------------------------------------------------------------------------------


def explicit(builder: StreamsBuilder) -> Topology:
    return builder.build({"ensure.explicit.internal.resource.naming": "true"})


def test_names_made_of_generated_ones_are_refused_as_well() -> None:
    builder = StreamsBuilder()
    table = builder.table("t", key_serde=serdes.string, value_serde=serdes.string, store="t-rows")
    keyed(builder, "in").join(table, lambda left, right: left + right).to("out")

    with pytest.raises(TopologyError, match="topic KSTREAM-KEY-SELECT-0000000003-repartition"):
        explicit(builder)


def test_names_that_nothing_uses_are_not_asked_for() -> None:
    builder = StreamsBuilder()
    builder.table("t", key_serde=serdes.string, value_serde=serdes.string).to_stream().to("out")
    texts(builder, "in").group_by_key().count("counts")

    assert list(explicit(builder).stores) == ["counts"]


def test_fixed_partition_counts_that_differ_name_sources_and_remedy() -> None:
    builder = StreamsBuilder()
    left = keyed(builder, "a").repartition("left", partitions=2)
    table = keyed(builder, "b").repartition("right", partitions=3).to_table(name="rows")
    left.join(table, lambda one, two: one + two).to("out")

    with pytest.raises(TopologyError) as raised:
        builder.build()
    assert "left-repartition: 2, right-repartition: 3" in str(raised.value)
    assert "repartition(partitions=...)" in str(raised.value)
    assert raised.value.node == "left-repartition-source"
