"""Co-grouping: several grouped streams aggregated into one table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import (
    CogroupedKStream,
    KGroupedStream,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    TopologyTestDriver,
    UnlimitedWindows,
    serdes,
)
from thalweg.topology.errors import TopologyError

Grouped = KGroupedStream[str, str]


def grouped(builder: StreamsBuilder, topic: str) -> Grouped:
    stream = builder.stream(topic, key_serde=serdes.string, value_serde=serdes.string)
    return stream.group_by_key()


def rekeyed(builder: StreamsBuilder, topic: str, name: str | None = None) -> Grouped:
    stream = builder.stream(topic, key_serde=serdes.string, value_serde=serdes.string)
    return stream.group_by(lambda _key, value: value[0], name=name, key_serde=serdes.string)


def append(_key: str, value: str, text: str) -> str:
    return text + value


def append_upper(_key: str, value: str, text: str) -> str:
    return text + value.upper()


def both(builder: StreamsBuilder) -> CogroupedKStream[str, str]:
    return grouped(builder, "a").cogroup(append).cogroup(grouped(builder, "b"), append_upper)


def fed(driver: TopologyTestDriver, *records: tuple[str, str, str, int]) -> None:
    for topic, key, value, timestamp in records:
        records_of = driver.create_input_topic(topic, serdes.string, serdes.string)
        records_of.pipe_input(key, value, timestamp)


def rows(driver: TopologyTestDriver, store: str) -> dict[Any, tuple[str, int]]:
    found = driver.get_state_store(store).all()
    return {key: (row.value, row.timestamp) for key, row in found}


@pytest.mark.parametrize("caching", [True, False])
def test_streams_share_one_aggregate_of_a_key(caching: bool) -> None:
    builder = StreamsBuilder()
    table = both(builder).aggregate(
        lambda: "", "texts", value_serde=serdes.string, materialized=Materialized(caching=caching)
    )
    table.to_stream().to("out")
    with TopologyTestDriver(builder.build()) as driver:
        out = driver.create_output_topic("out", serdes.string, serdes.string)
        fed(driver, ("a", "k", "x", 5), ("b", "k", "y", 3), ("a", "j", "z", 4), ("b", "k", "w", 9))

        assert rows(driver, "texts") == {"k": ("xYW", 9), "j": ("z", 4)}
        assert out.read_values_to_list() == ["x", "xY", "z", "xYW"]


def test_records_without_key_or_value_are_left_out_and_counted() -> None:
    builder = StreamsBuilder()
    both(builder).aggregate(lambda: "", "texts", value_serde=serdes.string)
    with TopologyTestDriver(builder.build()) as driver:
        driver.pipe_raw("a", None, b"x", 0)
        driver.pipe_raw("b", b"k", None, 0)

        assert rows(driver, "texts") == {}
        assert driver.dropped_records_total() == 2


def test_none_deletes_the_row() -> None:
    builder = StreamsBuilder()
    cogrouped = grouped(builder, "a").cogroup(append)
    cogrouped.cogroup(grouped(builder, "b"), lambda _key, _value, _text: None)
    cogrouped.aggregate(lambda: "", "texts", value_serde=serdes.string)
    with TopologyTestDriver(builder.build()) as driver:
        fed(driver, ("a", "k", "x", 0), ("b", "k", "gone", 1))

        assert rows(driver, "texts") == {}


def test_a_stream_that_is_added_again_has_its_last_aggregator() -> None:
    builder = StreamsBuilder()
    stream = grouped(builder, "a")
    stream.cogroup(append).cogroup(stream, append_upper).aggregate(
        lambda: "", "texts", value_serde=serdes.string
    )
    with TopologyTestDriver(builder.build()) as driver:
        fed(driver, ("a", "k", "x", 0))

        assert rows(driver, "texts") == {"k": ("X", 0)}


def test_the_table_has_old_values_for_what_is_grouped_anew() -> None:
    builder = StreamsBuilder()
    table = both(builder).aggregate(lambda: "", value_serde=serdes.string)
    lengths = table.group_by(
        lambda _key, text: (str(len(text)), text),
        key_serde=serdes.string,
        value_serde=serdes.string,
    )
    lengths.count("lengths")
    with TopologyTestDriver(builder.build()) as driver:
        fed(driver, ("a", "k", "x", 0), ("b", "k", "y", 1), ("a", "j", "z", 2))

        assert {key: n for key, (n, _) in rows(driver, "lengths").items()} == {
            "1": 1,
            "2": 1,
        }


@pytest.mark.parametrize("optimize", ["none", "all"])
def test_a_table_joined_with_one_made_of_it_is_joined_once(optimize: str) -> None:
    builder = StreamsBuilder()
    table = both(builder).aggregate(lambda: "", "texts", value_serde=serdes.string)
    longer = table.map_values(lambda text: text + "!")
    table.join(longer, lambda left, right: left + right).to_stream().to(
        "out", value_serde=serdes.string
    )
    with TopologyTestDriver(builder.build(optimize=optimize)) as driver:
        out = driver.create_output_topic("out", serdes.string, serdes.string)
        fed(driver, ("a", "k", "x", 0), ("b", "k", "y", 1))

        assert out.read_values_to_list()[-1] == "xYxY!"


def test_windows_are_kept_apart_and_each_stream_has_its_own_time() -> None:
    builder = StreamsBuilder()
    windowed = both(builder).windowed_by(TimeWindows.of_size(10))
    windowed.aggregate(lambda: "", "texts", value_serde=serdes.string)
    with TopologyTestDriver(builder.build()) as driver:
        fed(driver, ("a", "k", "x", 1), ("b", "k", "y", 25), ("a", "k", "z", 2), ("b", "k", "w", 3))
        found = {window.window.start_ms: text for window, (text, _) in _windows(driver)}

        assert found == {0: "xz", 20: "Y"}
        assert driver.dropped_records_total() == 1


def _windows(driver: TopologyTestDriver) -> list[tuple[Any, tuple[str, int]]]:
    return list(rows(driver, "texts").items())


def test_an_unlimited_window_takes_everything() -> None:
    builder = StreamsBuilder()
    windowed = both(builder).windowed_by(UnlimitedWindows.of())
    windowed.aggregate(lambda: "", "texts", value_serde=serdes.string)
    with TopologyTestDriver(builder.build()) as driver:
        fed(driver, ("a", "k", "x", 1_000_000), ("b", "k", "y", 1))

        assert [text for _, (text, _) in _windows(driver)] == ["xY"]


def test_processors_are_named_after_named() -> None:
    builder = StreamsBuilder()
    both(builder).aggregate(lambda: "", "texts", value_serde=serdes.string, named="cg")
    topology = builder.build()

    assert [name for name in topology.nodes if name.startswith("cg")] == [
        "cg-cogroup-agg-0",
        "cg-cogroup-agg-1",
        "cg-cogroup-merge",
    ]


def test_a_second_aggregation_uses_the_repartition_of_the_first() -> None:
    builder = StreamsBuilder()
    cogrouped = rekeyed(builder, "a", "ga").cogroup(append)
    cogrouped.aggregate(lambda: "", "one", value_serde=serdes.string)
    cogrouped.windowed_by(TimeWindows.of_size(10)).aggregate(
        lambda: "", "two", value_serde=serdes.string
    )

    assert list(builder.build().internal_topics) == ["ga-repartition"]


def test_two_streams_with_changed_keys_need_names() -> None:
    builder = StreamsBuilder()
    cogrouped = rekeyed(builder, "a").cogroup(append).cogroup(rekeyed(builder, "b"), append)
    cogrouped.aggregate(lambda: "", "texts", value_serde=serdes.string)

    with pytest.raises(
        TopologyError, match=r"'texts-repartition'.*group_by\(\.\.\., name=\.\.\.\)"
    ):
        builder.build()


def test_what_the_cogrouping_reads_needs_equal_partition_counts() -> None:
    builder = StreamsBuilder()
    cogrouped = rekeyed(builder, "a", "ga").cogroup(append)
    cogrouped.cogroup(grouped(builder, "b"), append).aggregate(
        lambda: "", "texts", value_serde=serdes.string
    )

    (group,) = builder.build().copartitioned
    assert sorted(group) == ["KSTREAM-SOURCE-0000000002", "ga-repartition-source"]


@pytest.mark.parametrize("number", [2, 4])
def test_an_aggregator_of_another_arity_is_refused(number: int) -> None:
    wrong = {2: lambda _key, _value: "", 4: lambda _a, _b, _c, _d: ""}[number]
    builder = StreamsBuilder()

    with pytest.raises(TypeError, match=r"cogroup\(\).*key, value, aggregate"):
        grouped(builder, "a").cogroup(wrong)
    with pytest.raises(TypeError, match=r"aggregate\(\)"):
        both(StreamsBuilder()).aggregate(lambda _start: "")


def test_what_is_no_grouped_stream_is_refused() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("b")

    with pytest.raises(TypeError, match=r"cogroup\(\) takes a grouped stream"):
        grouped(builder, "a").cogroup(append).cogroup(stream, append)
    with pytest.raises(TypeError, match=r"windowed_by\(\) needs windows"):
        both(StreamsBuilder()).windowed_by(10)


def test_streams_of_two_builders_are_refused() -> None:
    cogrouped = grouped(StreamsBuilder(), "a").cogroup(append)

    with pytest.raises(TopologyError, match="different builders"):
        cogrouped.cogroup(grouped(StreamsBuilder(), "b"), append)


def test_it_shows_the_streams_it_is_made_of() -> None:
    cogrouped = both(StreamsBuilder())

    assert repr(cogrouped) == (
        "<CogroupedKStream of KSTREAM-SOURCE-0000000000, KSTREAM-SOURCE-0000000001>"
    )
    assert "TimeWindows" in repr(cogrouped.windowed_by(TimeWindows.of_size(1)))


def test_a_source_read_twice_counts_where_it_was_merged_into() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("a", key_serde=serdes.string, value_serde=serdes.string)
    again = rekeyed(builder, "a", "again")
    stream.group_by_key().cogroup(append).cogroup(again, append).aggregate(
        lambda: "", "texts", value_serde=serdes.string
    )

    (group,) = builder.build().copartitioned
    assert list(group) == ["KSTREAM-SOURCE-0000000000", "KSTREAM-SOURCE-0000000001"]


RECORD = st.tuples(
    st.sampled_from("ab"), st.sampled_from("jkl"), st.sampled_from("xyz"), st.integers(0, 60)
)


@pytest.mark.parametrize("windowed", [False, True])
@settings(max_examples=30, deadline=None)
@given(records=st.lists(RECORD, max_size=30), commits=st.sets(st.integers(0, 30)))
def test_a_cache_of_any_size_ends_with_the_same_rows(
    records: list[tuple[str, str, str, int]], commits: set[int], windowed: bool
) -> None:
    found = []
    for cache_bytes in (0, 400, 100_000):
        builder = StreamsBuilder()
        cogrouped = both(builder)
        if windowed:
            windows = cogrouped.windowed_by(TimeWindows.of_size(10, 60))
            windows.aggregate(lambda: "", "texts", value_serde=serdes.string)
        else:
            cogrouped.aggregate(lambda: "", "texts", value_serde=serdes.string)
        with TopologyTestDriver(
            builder.build(), commit="manual", statestore_cache_max_bytes=cache_bytes
        ) as driver:
            for index, record in enumerate(records):
                fed(driver, record)
                if index in commits:
                    driver.commit()
            driver.commit()
            found.append(driver.store_entries("texts"))
    assert found[0] == found[1] == found[2]
