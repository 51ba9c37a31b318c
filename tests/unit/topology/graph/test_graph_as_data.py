"""The graph is data: rewrites and builds leave it as it is, operators are made from facts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from thalweg.stores.serde import SerdeHint, serdes
from thalweg.topology.dsl import StreamsBuilder
from thalweg.topology.graph.logical import LogicalGraph
from thalweg.topology.graph.rewrites import let_null_keys_through, merge_sources
from thalweg.topology.graph.steps import (
    AddSource,
    RepartitionStep,
    SourceStep,
    always,
    processor_step,
)
from thalweg.topology.operators.stateless import Filter, PassThrough
from thalweg.topology.physical import ProcessorNode, Topology


def keep(_key: Any, _value: Any) -> bool:
    return True


def source(name: str, *topics: str) -> SourceStep:
    return SourceStep(
        AddSource(
            name=name,
            topics=topics,
            key_serde=None,
            value_serde=None,
            timestamp_extractor=None,
            hint=SerdeHint.of("stream"),
        )
    )


def operator(topology: Topology, name: str) -> Any:
    node = topology.nodes[name]
    assert isinstance(node, ProcessorNode)
    return node.operator


def test_merging_sources_gives_a_new_graph() -> None:
    logical = LogicalGraph()
    first = logical.add(source("first", "a", "b"))
    second = logical.add(source("second", "b", "a"))
    child = logical.add(processor_step("child", always(PassThrough())), second)
    graph = logical.snapshot()

    merged = merge_sources(graph)

    assert set(merged.steps) == {first, child}
    assert merged.parent_names(child) == ("first",)
    assert graph.parent_names(child) == ("second",)
    assert set(graph.steps) == {first, second, child}


def test_null_keys_pass_ahead_of_a_left_join_only() -> None:
    logical = LogicalGraph()
    top = logical.add(source("in", "a"))
    steps = [
        logical.add(
            RepartitionStep(
                names=logical.names.repartition_names(name),
                key_serde=None,
                value_serde=None,
                hint=SerdeHint.of("repartition"),
            ),
            top,
        )
        for name in ("left", "inner")
    ]
    for name, above in zip(("left-join", "join"), steps, strict=True):
        step = processor_step(name, always(PassThrough()), takes_null_keys=name == "left-join")
        logical.add(step, above)
    graph = logical.snapshot()

    rewritten = let_null_keys_through(graph)

    found = [rewritten.steps[step] for step in steps]
    assert [isinstance(s, RepartitionStep) and s.drops_null_keys for s in found] == [False, True]
    assert all(s.drops_null_keys for s in graph.steps.values() if isinstance(s, RepartitionStep))


def test_later_calls_do_not_change_a_topology_that_was_built() -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=serdes.string, value_serde=serdes.string, name="table")
    before = builder.build()
    table.group_by(lambda k, v: (v, k)).count()

    after = builder.build()

    assert (operator(before, "table").store_name, operator(before, "table").send_old_values) == (
        None,
        False,
    )
    assert operator(after, "table").store_name is not None
    assert operator(after, "table").send_old_values


def test_operators_cannot_be_written_to() -> None:
    made: Any = Filter(keep)

    with pytest.raises(FrozenInstanceError):
        made.negate = True
