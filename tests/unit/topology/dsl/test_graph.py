"""Rules over the whole graph: sources, null keys, old values, options, misuse."""

from __future__ import annotations

import re
from typing import Any

import pytest

from thalweg.stores.serde import serdes
from thalweg.topology.dsl import (
    KStream,
    KTable,
    Materialized,
    StreamsBuilder,
    TimeWindows,
)
from thalweg.topology.dsl.windows import WindowedStreamPartitioner
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.options import BuildOptions
from thalweg.topology.operators.stateless import NullKeyFilter
from thalweg.topology.physical import (
    ProcessorNode,
    SinkNode,
    SourceNode,
    Topology,
)


def keep(_key: Any, _value: Any) -> bool:
    return True


def first(one: Any, _two: Any) -> Any:
    return one


def strings(builder: StreamsBuilder, topic: str = "in") -> KStream[str, str]:
    return builder.stream(topic, key_serde=serdes.string, value_serde=serdes.string)


def table(builder: StreamsBuilder, topic: str = "in") -> KTable[str, str]:
    return builder.table(topic, key_serde=serdes.string, value_serde=serdes.string)


def processor(topology: Topology, name: str) -> Any:
    node = topology.nodes[name]
    assert isinstance(node, ProcessorNode)
    return node.operator


def sends_old_values(topology: Topology, name: str) -> bool:
    node: Any = processor(topology, name)
    return bool(node.send_old_values)


def source(topology: Topology, name: str) -> SourceNode:
    node = topology.nodes[name]
    assert isinstance(node, SourceNode)
    return node


def sink(topology: Topology, name: str) -> SinkNode:
    node = topology.nodes[name]
    assert isinstance(node, SinkNode)
    return node


# Sources.


def test_sources_of_the_same_topics_become_one() -> None:
    builder = StreamsBuilder()
    builder.stream(["a", "b"]).to("o1")
    builder.stream(["b", "a"]).to("o2")
    builder.stream(re.compile("x.*")).to("o3")
    builder.stream(re.compile("x.*")).to("o4")

    text = str(builder.build().describe())

    assert text.count("Source: ") == 2


def test_overlapping_sources_are_refused() -> None:
    builder = StreamsBuilder()
    builder.stream(["a", "b"]).to("o1")
    builder.stream(["b", "c"]).to("o2")

    with pytest.raises(TopologyError, match="overlapping but not equal input topics"):
        builder.build()


def test_one_source_cannot_start_at_two_places() -> None:
    builder = StreamsBuilder()
    builder.stream("a", offset_reset="earliest").to("o1")
    builder.stream("a", offset_reset="latest").to("o2")

    with pytest.raises(TopologyError, match="different offset resets"):
        builder.build()


def test_a_topic_cannot_be_stream_and_table() -> None:
    builder = StreamsBuilder()
    builder.stream("a").to("o1")
    builder.table("a").to_stream().to("o2")

    with pytest.raises(TopologyError, match="a"):
        builder.build()


def test_a_builder_builds_again() -> None:
    builder = StreamsBuilder()
    strings(builder).group_by(first).count().to_stream().to("out", value_serde=serdes.int64)

    once, again = builder.build(), builder.build()

    assert str(once.describe()) == str(again.describe())


# Null keys.


def test_a_repartition_keeps_null_keys_out_unless_a_left_join_follows() -> None:
    builder = StreamsBuilder()
    stream, row = strings(builder), table(builder, "t")
    stream.repartition("inner").join(row, first).to("o1")
    stream.repartition("left").map_values(str.upper).left_join(row, first).to("o2")

    topology = builder.build()

    assert isinstance(processor(topology, "inner-repartition-filter"), NullKeyFilter)
    assert not isinstance(processor(topology, "left-repartition-filter"), NullKeyFilter)


# Old values.


def test_a_filter_takes_old_values_from_a_store_that_is_there_already() -> None:
    builder = StreamsBuilder()
    table(builder, "lazy").filter(keep, named="plain")
    builder.table("kept", name="source", store="kept").filter(keep, named="informed")

    topology = builder.build()

    assert not sends_old_values(topology, "plain")
    assert sends_old_values(topology, "source")
    assert sends_old_values(topology, "informed")


def test_a_grouping_demands_old_values_all_the_way_up() -> None:
    builder = StreamsBuilder()
    (
        builder.table("t", name="source")
        .map_values(str.upper, named="mapped")
        .filter(keep, named="filtered")
        .group_by(first, name="g")
        .count()
    )

    topology = builder.build()

    assert [sends_old_values(topology, name) for name in ("source", "mapped", "filtered")] == [
        True,
        True,
        True,
    ]
    assert "source (stores: [t-STATE-STORE-0000000000])" in str(topology.describe())


def test_a_stored_table_is_asked_for_old_values_and_not_its_parent() -> None:
    builder = StreamsBuilder()
    mapped = builder.table("t", name="source").map_values(str.upper, name="m", named="mapped")
    mapped.group_by(first, name="g").count()

    topology = builder.build()

    assert not sends_old_values(topology, "source")
    assert sends_old_values(topology, "mapped")


@pytest.mark.parametrize(
    ("kind", "left", "right"),
    [("join", False, False), ("left_join", True, False), ("outer_join", True, True)],
)
def test_a_join_demands_old_values_of_sides_that_may_stand_alone(
    kind: str, left: bool, right: bool
) -> None:
    builder = StreamsBuilder()
    one, two = builder.table("l", name="left"), builder.table("r", name="right")
    getattr(one, kind)(two, first, named="joined")

    topology = builder.build()

    assert sends_old_values(topology, "left") is left
    assert sends_old_values(topology, "right") is right
    assert not sends_old_values(topology, "joined")


def test_what_follows_a_join_can_demand_old_values_of_both_sides() -> None:
    builder = StreamsBuilder()
    one, two = builder.table("l", name="left"), builder.table("r", name="right")
    one.join(two, first, named="joined").group_by(first).count()

    topology = builder.build()

    for name in ("left", "right", "joined", "joined-join-this", "joined-join-other"):
        assert sends_old_values(topology, name)


# Serdes.


def test_serdes_are_inherited_until_a_type_may_change() -> None:
    builder = StreamsBuilder()
    stream = strings(builder)
    stream.filter(keep).to("same", name="same")
    stream.map_values(len).to("values", name="values")
    stream.select_key(first).to("keys", name="keys")
    stream.group_by_key().count().to_stream().to("counts", name="counts")

    topology = builder.build()
    serdes_of = {
        name: (sink(topology, name).key_serde, sink(topology, name).value_serde)
        for name in ("same", "values", "keys", "counts")
    }

    assert serdes_of == {
        "same": (serdes.string, serdes.string),
        "values": (serdes.string, None),
        "keys": (None, serdes.string),
        "counts": (serdes.string, serdes.int64),
    }


def test_windowed_keys_are_written_and_placed_by_the_serde_of_the_grouping() -> None:
    builder = StreamsBuilder()
    counts = strings(builder).group_by_key().windowed_by(TimeWindows.of_size(10)).count()
    counts.to_stream().to("out", name="out")

    written = sink(builder.build(), "out")

    assert written.key_serde is not None
    assert isinstance(written.partitioner, WindowedStreamPartitioner)
    assert written.partitioner.inner is serdes.string


def test_an_internal_topic_is_written_and_read_with_one_serde() -> None:
    builder = StreamsBuilder()
    table(builder).group_by(
        lambda key, value: (value, key), key_serde=serdes.string, value_serde=serdes.string
    ).count(named="c")

    topology = builder.build()

    assert source(topology, "c-source").value_serde is sink(topology, "c-sink").value_serde
    assert source(topology, "c-source").key_serde is serdes.string


# Options.


def test_options_come_from_a_mapping_an_object_or_the_call() -> None:
    class Config:
        topology_optimization = "all"
        upgrade_from = None
        ensure_explicit_internal_resource_naming = True

    assert BuildOptions.of(None) == BuildOptions()
    assert BuildOptions.of({"upgrade.from": "3.4"}).legacy_changes
    assert not BuildOptions.of({"upgrade_from": "3.5"}).legacy_changes
    assert BuildOptions.of(Config()).explicit_names
    assert len(BuildOptions.of(Config()).optimizations) == 3
    assert BuildOptions.of(Config(), "none").optimizations == frozenset()
    with pytest.raises(TopologyError, match="faster is not known"):
        BuildOptions.of(None, "faster")
    with pytest.raises(TopologyError, match="is not a version"):
        BuildOptions.of({"upgrade.from": "old"})


def test_generated_names_of_state_are_refused_on_demand() -> None:
    builder = StreamsBuilder()
    stream = strings(builder)
    stream.group_by(first).count().to_stream().to("out", value_serde=serdes.int64)
    stream.repartition().to("out2")
    stream.group_by(first, name="fine").count("fine")
    table(builder, "lazy").to_stream().to("out3")

    with pytest.raises(TopologyError) as refused:
        builder.build({"ensure.explicit.internal.resource.naming": "true"})

    text = str(refused.value)
    assert "store KSTREAM-AGGREGATE-STATE-STORE-0000000002" in text
    assert "repartition topic KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition" in text
    assert "repartition topic KSTREAM-REPARTITION-0000000009-repartition" in text
    assert "fine" not in text
    assert "lazy" not in text


# Misuse.


def test_wrong_arguments_are_refused_where_they_are_given() -> None:
    builder = StreamsBuilder()
    stream, row = strings(builder), table(builder, "t")

    with pytest.raises(ValueError, match="at least one topic"):
        builder.stream([])
    for topics in ([1], 1, None, b"t"):
        with pytest.raises(TypeError, match="by name or by a compiled pattern"):
            builder.stream(topics)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"filter\(\) needs a function of \(key, value\)"):
        stream.filter(lambda value: True)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match="needs to know how far apart records may be"):
        stream.join(stream, first)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="can only be joined with a table"):
        row.join(stream, first)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="can only be merged with a stream"):
        stream.merge(row)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1 partition"):
        stream.repartition(partitions=0)
    with pytest.raises(TypeError, match=r"windowed_by\(\) needs windows"):
        stream.group_by_key().windowed_by(10)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="either `to` or `then`"):
        stream.split().branch(keep, to=print, then=lambda branch: branch)
    with pytest.raises(TypeError, match=r"needs a store of stores\.builders"):
        builder.add_state_store("store")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="named twice"):
        row.filter(keep, name="a", materialized=Materialized("b"))


def test_streams_of_two_builders_do_not_mix() -> None:
    one, two = strings(StreamsBuilder()), StreamsBuilder()

    with pytest.raises(TopologyError, match="different builders"):
        one.merge(strings(two))
    with pytest.raises(TopologyError, match="different builders"):
        one.join(table(two), first)


def test_a_split_is_closed_by_its_default_branch() -> None:
    split = strings(StreamsBuilder()).split().branch(keep)
    split.default_branch()

    with pytest.raises(TopologyError, match="default branch already"):
        split.branch(keep)
