"""The physical graph: what is legal, what belongs together, how it is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from thalweg.stores.builders import StoreBuilder, key_value_store
from thalweg.stores.record import Record, RecordContext
from thalweg.stores.serde import serdes
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.process import ProcessorApiOperator
from thalweg.topology.operators.stateless import PassThrough
from thalweg.topology.physical import (
    ProcessorNode,
    SinkNode,
    SourceNode,
    Topology,
)
from thalweg.topology.processor import (
    AutoOffsetReset,
    FixedKeyProcessor,
    FixedKeyRecord,
    Processor,
)


class Forward(Processor[Any, Any, Any, Any]):
    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record)


class ForwardValue(FixedKeyProcessor[Any, Any, Any]):
    def process(self, record: FixedKeyRecord[Any, Any]) -> None:
        self.context.forward(record)


def store(name: str = "st") -> StoreBuilder:
    return key_value_store(name, serdes.string, serdes.int64)


def one_chain() -> Topology:
    topology = Topology().add_source("src", "in")
    return topology.add_processor("p", Forward, "src").add_sink("snk", "out", "p")


def with_global() -> Topology:
    topology = Topology()
    topology.add_global_store(store("g").without_logging(), "gsrc", "gt", "gproc", Forward)
    return topology.add_source("src", "in")


# What is added.


def test_nodes_are_kept_as_given() -> None:
    topology = Topology()
    topology.add_source("a", ["x", "y"], key_serde=serdes.string, offset_reset="latest")
    topology.add_source("b", re.compile("z.*"))
    topology.add_processor("p", PassThrough(), "a", "b")
    topology.add_sink("s", "out", "p", "a", value_serde=serdes.int64)

    a, b, p, s = topology.nodes.values()
    assert isinstance(a, SourceNode)
    assert isinstance(b, SourceNode)
    assert isinstance(p, ProcessorNode)
    assert isinstance(s, SinkNode)
    assert (a.topics, a.pattern, a.key_serde) == (("x", "y"), None, serdes.string)
    assert a.offset_reset == AutoOffsetReset.latest()
    assert b.topics == ()
    assert b.pattern is not None
    assert p.parents == ("a", "b")
    assert (s.topic, s.parents, s.value_serde) == ("out", ("p", "a"), serdes.int64)
    assert topology.children("a") == ("p", "s")
    assert topology.children("s") == ()


def test_the_kind_of_a_users_processor_is_found_out() -> None:
    topology = Topology().add_source("src", "in")
    topology.add_processor("free", Forward, "src")
    topology.add_processor("fixed", ForwardValue, "src")

    free, fixed = topology.nodes["free"], topology.nodes["fixed"]
    assert isinstance(free, ProcessorNode)
    assert isinstance(fixed, ProcessorNode)
    assert isinstance(free.operator, ProcessorApiOperator)
    assert isinstance(fixed.operator, ProcessorApiOperator)
    assert not free.operator.fixed_key
    assert fixed.operator.fixed_key


def test_a_supplier_brings_its_stores() -> None:
    class Supplier:
        stores = (store("one"), store("two"))

        def __call__(self) -> Forward:
            return Forward()

    topology = Topology().add_source("src", "in").add_processor("p", Supplier(), "src")

    node = topology.nodes["p"]
    assert isinstance(node, ProcessorNode)
    assert node.stores == ["one", "two"]


def test_the_same_store_may_be_added_again() -> None:
    topology = one_chain().add_state_store(store(), "p").add_state_store(store(), "p")

    node = topology.nodes["p"]
    assert isinstance(node, ProcessorNode)
    assert node.stores == ["st"]


def test_a_read_only_store_is_restored_from_its_topic() -> None:
    topology = Topology().add_read_only_state_store(store(), "src", "t", "p", Forward)

    source = topology.nodes["src"]
    assert isinstance(source, SourceNode)
    assert source.offset_reset == AutoOffsetReset.earliest()
    assert topology.store_topics == {"st": "t"}
    assert not topology.stores["st"].logged


# What belongs together.


def test_a_store_joins_what_uses_it() -> None:
    topology = Topology()
    for at in range(3):
        topology.add_source(f"src{at}", f"in{at}").add_processor(f"p{at}", Forward, f"src{at}")
    topology.add_state_store(store(), "p0", "p2")

    assert topology.groups() == [("src0", "p0", "src2", "p2"), ("src1", "p1")]


def test_a_global_store_has_a_number_and_joins_nothing() -> None:
    topology = with_global().add_processor("p", Forward, "src")

    assert topology.groups() == [("gsrc", "gproc"), ("src", "p")]
    assert topology.is_global("gproc")
    assert not topology.is_global("p")
    assert "g" in topology.global_stores
    assert "g" not in topology.stores


# What is refused.


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda t: t.add_source("p", "new"), "node named 'p' is already added"),
        (lambda t: t.add_processor("src", Forward, "p"), "node named 'src' is already added"),
        (lambda t: t.add_sink("snk", "new", "p"), "node named 'snk' is already added"),
        (lambda t: t.add_source("s2", "in"), "topic 'in' of source 's2' is already read by source"),
        (lambda t: t.add_source("s2", ["a", "a"]), "topic 'a' of source 's2' is already read"),
        (lambda t: t.add_source("s2", re.compile("i.")), "matches topic 'in', which source 'src'"),
        (lambda t: t.add_processor("q", Forward), "node 'q' has no parent"),
        (lambda t: t.add_sink("q", "new"), "node 'q' has no parent"),
        (lambda t: t.add_processor("q", Forward, "q"), "'q' cannot be its own parent"),
        (lambda t: t.add_processor("q", Forward, "no"), "parent 'no' of node 'q' is not added"),
        (lambda t: t.add_processor("q", Forward, "snk"), "sink 'snk' cannot be the parent"),
        (lambda t: t.add_processor("q", Forward, "p", "p"), "names a parent twice"),
        (lambda t: t.add_state_store(store(), "no"), "processor 'no' of store 'st' is not added"),
        (lambda t: t.add_state_store(store(), "src"), "'src', which is not a processor"),
        (lambda t: t.add_state_store(store(), "snk"), "'snk', which is not a processor"),
        (lambda t: t.connect_processor_and_state_stores("p", "st"), "'st' of processor 'p' is not"),
        (lambda t: t.connect_processor_and_state_stores("p"), "no store is given"),
        (lambda t: t.connect_source_store_and_topic("st", "in"), "store 'st' is not added yet"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(
    break_it: Callable[[Topology], object], message: str
) -> None:
    with pytest.raises(TopologyError, match=message):
        break_it(one_chain())


def test_a_topic_under_a_pattern_is_refused() -> None:
    topology = Topology().add_source("all", re.compile("in.*"))

    with pytest.raises(TopologyError, match="'in2' of source 's' is already read by source 'all'"):
        topology.add_source("s", "in2")
    topology.add_source("other", "begin")


def test_a_store_name_has_one_meaning() -> None:
    topology = with_global().add_state_store(store("st"))

    for name in ("st", "g"):
        with pytest.raises(TopologyError, match=f"store named '{name}' has already been added"):
            topology.add_state_store(store(name).with_caching())
        with pytest.raises(TopologyError, match=f"store named '{name}' has already been added"):
            topology.add_global_store(store(name).without_logging(), "x", "y", "z", Forward)


def test_a_store_has_one_source_topic() -> None:
    topology = Topology().add_state_store(store())
    topology.connect_source_store_and_topic("st", "a")

    with pytest.raises(TopologyError, match="already restored from topic 'a'"):
        topology.connect_source_store_and_topic("st", "b")
    topology.add_state_store(key_value_store("other", serdes.string, serdes.string))
    with pytest.raises(TopologyError, match="topic 'a' restores store 'st' already"):
        topology.connect_source_store_and_topic("other", "a")


def test_a_global_store_stands_alone() -> None:
    topology = with_global().add_state_store(store())

    with pytest.raises(TopologyError, match="'gsrc' feeds a global store"):
        topology.add_processor("p", Forward, "gsrc")
    with pytest.raises(TopologyError, match="'gproc', which is not a processor of a task"):
        topology.connect_processor_and_state_stores("gproc", "st")
    topology.add_processor("p", Forward, "src")
    with pytest.raises(TopologyError, match="need not be connected with global store 'g'"):
        topology.connect_processor_and_state_stores("p", "g")


def test_a_global_store_has_no_changelog() -> None:
    with pytest.raises(TopologyError, match=r"'g' must not be logged.*without_logging"):
        Topology().add_global_store(store("g"), "gsrc", "gt", "gproc", Forward)


def test_a_refused_global_store_leaves_nothing_behind() -> None:
    topology = Topology().add_source("src", "in")

    for names in (("src", "gp"), ("gs", "src"), ("gs", "gs")):
        with pytest.raises(TopologyError):
            topology.add_global_store(
                store("g").without_logging(), names[0], "gt", names[1], Forward
            )
    with pytest.raises(TopologyError, match="'in' of source 'gs' is already read"):
        topology.add_global_store(store("g").without_logging(), "gs", "in", "gp", Forward)

    assert list(topology.nodes) == ["src"]
    assert topology.global_stores == {}


def test_a_supplier_makes_new_processors() -> None:
    one = Forward()
    topology = Topology().add_source("src", "in")

    with pytest.raises(TopologyError, match="'p' returned the same object twice"):
        topology.add_processor("p", lambda: one, "src")
    with pytest.raises(TypeError, match="'p' needs a class or function that makes processors"):
        topology.add_processor("p", one, "src")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a processor"):
        topology.add_processor("p", dict, "src")  # type: ignore[arg-type]
    assert list(topology.nodes) == ["src"]


def test_fixed_partition_counts_must_agree() -> None:
    topology = Topology().add_internal_topic("a", 2).add_internal_topic("b", 3)
    topology.add_internal_topic("a", 2)
    for name in "abc":
        topology.add_source(name, name)

    topology.copartition(["a", "c", "merged away"])
    with pytest.raises(TopologyError, match=r"same number of partitions \(a: 2, b: 3\)"):
        topology.copartition(["a", "b"])
    with pytest.raises(TopologyError, match="2 partitions and with no fixed partition count"):
        topology.add_internal_topic("a", None)
    with pytest.raises(ValueError, match="at least 1 partition, got 0"):
        topology.add_internal_topic("d", 0)


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (lambda t: t.add_source("", "in"), ValueError),
        (lambda t: t.add_source(1, "in"), TypeError),
        (lambda t: t.add_source("a", []), ValueError),
        (lambda t: t.add_source("a", ""), ValueError),
        (lambda t: t.add_source("a", [1]), TypeError),
        (lambda t: t.add_source("a", 1), TypeError),
        (lambda t: t.add_source("a", "b", offset_reset="begin"), ValueError),
        (lambda t: t.add_sink("a", "", "p"), ValueError),
        (lambda t: t.add_sink("a", 1, "p"), TypeError),
        (lambda t: t.add_state_store("st"), TypeError),
        (lambda t: t.add_global_store("st", "a", "b", "c", Forward), TypeError),
        (lambda t: t.add_read_only_state_store("st", "a", "b", "c", Forward), TypeError),
    ],
)
def test_wrong_arguments_are_refused(
    break_it: Callable[[Any], object], kind: type[Exception]
) -> None:
    topology = one_chain()
    before = list(topology.nodes)

    with pytest.raises(kind):
        break_it(topology)

    assert list(topology.nodes) == before


# How it is printed.


class ByKey:
    def __call__(self, key: Any, value: Any, context: RecordContext) -> str:
        return "out"

    def __repr__(self) -> str:
        return "by-key"


class Plain:
    def __call__(self, key: Any, value: Any, context: RecordContext) -> str:
        return "out"


def by_value(_key: Any, _value: Any, _context: RecordContext) -> str:
    return "out"


def test_a_description_reads_as_the_jvms() -> None:
    topology = with_global()
    topology.add_processor("p", Forward, "src").add_sink("dyn", ByKey(), "p")
    topology.add_state_store(store("b"), "p").add_state_store(store("a"), "p")
    topology.add_source("more", ["y", "x"]).add_source("all", re.compile("z.*"))
    topology.add_sink("snk", "out", "more", "all")

    assert str(topology.describe()) == (
        "Topologies:\n"
        "   Sub-topology: 0 for global store (will not generate tasks)\n"
        "    Source: gsrc (topics: [gt])\n"
        "      --> gproc\n"
        "    Processor: gproc (stores: [g])\n"
        "      --> none\n"
        "      <-- gsrc\n"
        "  Sub-topology: 1\n"
        "    Source: src (topics: [in])\n"
        "      --> p\n"
        "    Processor: p (stores: [a, b])\n"
        "      --> dyn\n"
        "      <-- src\n"
        "    Sink: dyn (extractor class: by-key)\n"
        "      <-- p\n"
        "\n"
        "  Sub-topology: 2\n"
        "    Source: all (topics: z.*)\n"
        "      --> snk\n"
        "    Source: more (topics: [x, y])\n"
        "      --> snk\n"
        "    Sink: snk (topic: out)\n"
        "      <-- more, all\n"
        "\n"
    )


def test_an_empty_topology_can_be_printed() -> None:
    assert str(Topology().describe()) == "Topologies:\n "
    assert Topology().describe().mermaid() == "flowchart TD\n"


@pytest.mark.parametrize(
    ("extractor", "shown"), [(ByKey(), "by-key"), (Plain(), "Plain"), (by_value, "by_value")]
)
def test_an_extractor_is_shown_without_its_address(extractor: Any, shown: str) -> None:
    topology = Topology().add_source("src", "in").add_sink("snk", extractor, "src")

    assert f"Sink: snk (extractor class: {shown})\n" in str(topology.describe())


def test_a_flowchart_shows_topics_and_stores() -> None:
    topology = with_global().add_processor('p "1"', Forward, "src")
    topology.add_state_store(store(), 'p "1"').add_sink("snk", "out", 'p "1"')
    topology.add_source("again", "out").add_sink("dyn", ByKey(), "again")

    assert topology.describe().mermaid() == (
        "flowchart TD\n"
        '  subgraph s0["Sub-topology 0 (global store)"]\n'
        '    n0(["gsrc"])\n'
        '    n1["gproc"]\n'
        '    s0_0[("g")]\n'
        "  end\n"
        '  subgraph s1["Sub-topology 1"]\n'
        '    n2(["src"])\n'
        '    n3["p #quot;1#quot;"]\n'
        '    n4(["snk"])\n'
        '    s1_0[("st")]\n'
        "  end\n"
        '  subgraph s2["Sub-topology 2"]\n'
        '    n5(["again"])\n'
        '    n6(["dyn<br>extractor class: by-key"])\n'
        "  end\n"
        '  t0[["gt"]]\n'
        '  t1[["in"]]\n'
        '  t2[["out"]]\n'
        "  t0 --> n0\n"
        "  n0 --> n1\n"
        "  n1 -.- s0_0\n"
        "  t1 --> n2\n"
        "  n2 --> n3\n"
        "  n3 -.- s1_0\n"
        "  n3 --> n4\n"
        "  n4 --> t2\n"
        "  t2 --> n5\n"
        "  n5 --> n6\n"
        "  classDef topic fill:#dbeafe,stroke:#2563eb,color:#1e3a5f\n"
        "  class t0,t1,t2 topic\n"
        "  classDef store fill:#fef3c7,stroke:#b45309,color:#5f370e\n"
        "  class s0_0,s1_0 store\n"
    )
