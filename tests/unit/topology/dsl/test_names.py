"""Names and numbers: what each operation is called, and which numbers it uses up."""

from __future__ import annotations

import pytest

from thalweg.stores.builders import key_value_store
from thalweg.stores.record import Record
from thalweg.stores.serde import serdes
from thalweg.topology.dsl import (
    KStream,
    KTable,
    Materialized,
    StreamsBuilder,
)
from thalweg.topology.errors import TopologyError
from thalweg.topology.processor import FixedKeyProcessor, FixedKeyRecord, Processor


class Forward(Processor[str, str, str, str]):
    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record)


class ForwardValue(FixedKeyProcessor[str, str, str]):
    def process(self, record: FixedKeyRecord[str, str]) -> None:
        self.context.forward(record)


def keep(_key: str, _value: str) -> bool:
    return True


def of_value(_key: str, value: str) -> str:
    return value


def described(builder: StreamsBuilder) -> str:
    return str(builder.build().describe())


def strings(builder: StreamsBuilder, topic: str = "in") -> KStream[str, str]:
    return builder.stream(topic, key_serde=serdes.string, value_serde=serdes.string)


def table(builder: StreamsBuilder, topic: str = "in") -> KTable[str, str]:
    return builder.table(topic, key_serde=serdes.string, value_serde=serdes.string)


def test_a_name_given_in_the_middle_renumbers_nothing() -> None:
    builder = StreamsBuilder()
    strings(builder).filter(keep).map_values(str.upper, name="mid").filter(keep).to("out")

    text = described(builder)

    assert "Processor: KSTREAM-FILTER-0000000001 (stores: [])\n      --> mid" in text
    assert "Processor: mid (stores: [])\n      --> KSTREAM-FILTER-0000000003" in text
    assert "Sink: KSTREAM-SINK-0000000004 (topic: out)" in text


def test_a_grouping_by_a_new_key_repartitions_under_the_name_of_the_store() -> None:
    builder = StreamsBuilder()
    words = strings(builder).flat_map_values(str.split).group_by(of_value)
    words.count().to_stream().to("out", value_serde=serdes.int64)

    text = described(builder)

    store = "KSTREAM-AGGREGATE-STATE-STORE-0000000003"
    assert f"Processor: KSTREAM-AGGREGATE-0000000004 (stores: [{store}])" in text
    assert f"Sink: KSTREAM-SINK-0000000005 (topic: {store}-repartition)" in text
    assert "Processor: KSTREAM-FILTER-0000000006" in text
    assert f"Source: KSTREAM-SOURCE-0000000007 (topics: [{store}-repartition])" in text


def test_counting_into_an_unnamed_materialisation_uses_up_a_number() -> None:
    builder = StreamsBuilder()
    strings(builder).group_by_key().count(materialized=Materialized(value_serde=serdes.int64))

    assert "KSTREAM-AGGREGATE-0000000003 (stores: [KSTREAM-AGGREGATE-STATE-STORE-0000000002])" in (
        described(builder)
    )


def test_a_named_grouping_shares_its_repartition_and_an_unnamed_does_not() -> None:
    shared, single = StreamsBuilder(), StreamsBuilder()
    for builder, name in ((shared, "g"), (single, None)):
        grouped = strings(builder).group_by(of_value, name=name)
        grouped.count()
        grouped.reduce(max)

    assert described(shared).count("Sink: ") == 1
    assert "Source: g-repartition-source (topics: [g-repartition])" in described(shared)
    assert described(single).count("Sink: ") == 2


def test_a_repartition_is_named_after_the_user_or_by_number() -> None:
    builder = StreamsBuilder()
    strings(builder).repartition().repartition("two").repartition("six-repartition").to("out")

    text = described(builder)

    assert "(topic: KSTREAM-REPARTITION-0000000001-repartition)" in text
    assert "Sink: two-repartition-sink (topic: two-repartition)" in text
    assert "Processor: six-repartition-filter" in text
    # Each has used up three numbers, the unnamed one a fourth.
    assert "Sink: KSTREAM-SINK-0000000011 (topic: out)" in text


def test_a_repartition_clears_the_need_of_another() -> None:
    builder = StreamsBuilder()
    strings(builder).select_key(of_value).repartition("r").group_by_key().count()

    assert described(builder).count("-repartition])") == 1


def test_process_changes_keys_and_process_values_does_not() -> None:
    builder = StreamsBuilder()
    strings(builder).process_values(ForwardValue).group_by_key().count("a")
    strings(builder, "in2").process(Forward).group_by_key().count("b")

    text = described(builder)

    assert "KSTREAM-PROCESSVALUES-0000000001" in text
    assert "topic: a-repartition" not in text
    assert "topic: b-repartition" in text


def test_a_processor_brings_its_stores_along_or_names_them() -> None:
    class Supplier:
        stores = (key_value_store("brought", serdes.string, serdes.int64),)

        def __call__(self) -> Forward:
            return Forward()

    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("added", serdes.string, serdes.int64))
    strings(builder).process(Supplier()).process(Forward, "added", name="named").to("out")

    text = described(builder)

    assert "Processor: KSTREAM-PROCESSOR-0000000001 (stores: [brought])" in text
    assert "Processor: named (stores: [added])" in text
    # A named processor uses up no number.
    assert "Sink: KSTREAM-SINK-0000000002" in text


def test_a_split_names_its_branches_by_position_or_name() -> None:
    builder = StreamsBuilder()
    ended: list[KStream[str, str]] = []
    branches = (
        strings(builder)
        .split("sp-")
        .branch(keep)
        .branch(keep, name="long")
        .branch(keep, to=ended.append)
        .branch(keep, name="loud", then=lambda stream: stream.map_values(str.upper))
        .default_branch()
    )

    assert list(branches) == ["sp-1", "sp-long", "sp-loud", "sp-0"]
    assert len(ended) == 1
    text = described(builder)
    for name in ("sp-1", "sp-long", "sp-3", "sp-loud", "sp-0"):
        assert f"Processor: {name} (stores: [])" in text
    # Each branch has used up a number, and so have the source, the splitter and the mapping.
    assert "KSTREAM-MAPVALUES-0000000006" in text


def test_a_table_has_a_store_only_if_named_or_needed() -> None:
    builder = StreamsBuilder()
    table(builder, "lazy").map_values(str.upper, materialized=Materialized()).to_stream().to("a")
    table(builder, "read").join(table(builder, "too"), max)
    builder.table("named", name="node", store="kept").filter(keep, name="filtered", named="f")

    text = described(builder)

    assert "Processor: KTABLE-SOURCE-0000000002 (stores: [])" in text
    # The number 3 was used up by a materialisation without a name.
    assert "Processor: KTABLE-MAPVALUES-0000000004 (stores: [])" in text
    assert "(stores: [read-STATE-STORE-0000000007])" in text
    assert "Source: node-source (topics: [named])\n      --> node\n" in text
    assert "Processor: node (stores: [kept])" in text
    assert "Processor: f (stores: [filtered])" in text


def test_a_join_of_tables_numbers_the_merge_first() -> None:
    builder = StreamsBuilder()
    left, right = table(builder, "l"), table(builder, "r")
    joined = left.join(right, max)
    stored = left.outer_join(right, lambda one, two: one or two, materialized=Materialized())
    named = left.left_join(right, lambda one, _two: one, name="store", named="lj")

    text = described(builder)

    assert joined.queryable_store_name is None
    assert stored.queryable_store_name == "KTABLE-MERGE-STATE-STORE-0000000009"
    assert named.queryable_store_name == "store"
    assert "Processor: KTABLE-MERGE-0000000006 (stores: [])" in text
    assert "Processor: KTABLE-JOINTHIS-0000000007 (stores: [r-STATE-STORE-0000000003])" in text
    assert "Processor: KTABLE-JOINOTHER-0000000008 (stores: [l-STATE-STORE-0000000000])" in text
    assert "Processor: lj-join-this (stores: [r-STATE-STORE-0000000003])" in text
    assert "Processor: lj (stores: [store])" in text


def test_a_grouped_table_always_repartitions() -> None:
    builder = StreamsBuilder()
    grouped = table(builder).group_by(lambda key, value: (value, key), name="g")
    grouped.aggregate(str, lambda _k, v, a: a + v, lambda _k, _v, a: a, "as", named="ag")

    text = described(builder)

    assert "Processor: KTABLE-SOURCE-0000000002 (stores: [in-STATE-STORE-0000000000])" in text
    assert "Sink: ag-sink (topic: g-repartition)\n      <-- g\n" in text
    assert "Source: ag-source (topics: [g-repartition])\n      --> ag\n" in text


def test_joining_a_rekeyed_stream_twice_uses_one_repartition() -> None:
    builder = StreamsBuilder()
    stream, row = strings(builder, "l").select_key(of_value), table(builder, "t")
    stream.join(row, max).to("o1")
    stream.join(row, max).to("o2")
    stream.join(row, max, name="jn").to("o3")

    text = described(builder)

    assert text.count("KSTREAM-KEY-SELECT-0000000001-repartition])") == 1
    assert "Processor: KSTREAM-JOIN-0000000008 (stores: [t-STATE-STORE-0000000002])" in text
    # The second join has used up the three numbers of a repartition all the same.
    assert "Processor: KSTREAM-JOIN-0000000013" in text
    assert "Source: jn-repartition-source (topics: [jn-repartition])" in text


def test_the_same_name_twice_is_refused() -> None:
    builder = StreamsBuilder()
    strings(builder).filter(keep, name="x").filter(keep, name="x")

    with pytest.raises(TopologyError, match="x"):
        builder.build()


def test_illegal_names_are_refused_at_once() -> None:
    with pytest.raises(TopologyError, match="'a b' is illegal"):
        strings(StreamsBuilder()).filter(keep, name="a b")
