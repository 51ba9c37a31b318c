"""What errors of a running topology tell: which record, which half of it, and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg.stores.serde import Serde, serdes
from thalweg.streams.errors import (
    DeserializationError,
    ProcessingError,
    SerializationError,
    StreamsError,
)
from thalweg.streams.testing import TopologyTestDriver
from thalweg.topology.dsl import StreamsBuilder


def piped(builder: StreamsBuilder, key: bytes | None, value: bytes | None) -> StreamsError:
    """Returns what piping a record into topic `in` raises."""
    with TopologyTestDriver(builder) as driver, pytest.raises(StreamsError) as raised:
        driver.pipe_raw("in", key, value, 0)
    return raised.value


def test_a_key_serde_that_was_forgotten_is_named() -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=serdes.string).group_by(lambda _key, word: word).count()

    error = piped(builder, b"k", b"word")

    assert isinstance(error, SerializationError)
    assert error.message == (
        "sink 'KSTREAM-SINK-0000000004' of group_by() cannot write the key of a record for topic "
        "'test-driver-KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition': serde bytes cannot "
        "write a value of type str: it takes bytes; give the serde of its type: "
        "group_by(..., key_serde=...)"
    )
    assert (error.topic, error.partition, error.offset) == ("in", 0, 0)


@pytest.mark.parametrize("serde", [serdes.int64, serdes.bytes, serdes.json(int)], ids=str)
def test_the_half_that_a_sink_cannot_write_is_named(serde: Serde[Any]) -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    stream.to("out", value_serde=serde)

    error = piped(builder, b"k", b"v")

    assert isinstance(error, SerializationError)
    assert (
        f"cannot write the value of a record for topic 'out': serde {serde.name} cannot"
        in error.message
    )


def test_a_change_of_a_grouped_table_that_cannot_be_written_is_told() -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=serdes.string, value_serde=serdes.string)
    table.group_by(lambda key, value: (key, value), key_serde=serdes.string).count()

    error = piped(builder, b"k", b"v")

    assert isinstance(error, SerializationError)
    assert "cannot write the value of a record" in error.message
    assert "serde bytes cannot write a value of type str" in error.message


def test_a_record_that_cannot_be_read_says_which_and_how_to_go_on() -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=serdes.int64).to("out")

    error = piped(builder, None, b"abc")

    assert isinstance(error, DeserializationError)
    assert "serde int64 cannot read 3 bytes (61 62 63)" in error.message
    assert error.message.endswith(
        'to go on without such records, set deserialization_handler to "log_and_continue"'
    )


def test_what_user_code_raised_is_the_cause() -> None:
    builder = StreamsBuilder()
    builder.stream("in", value_serde=serdes.string).map_values(int, name="to-int").for_each(print)

    error = piped(builder, None, b"twelve")

    assert isinstance(error, ProcessingError)
    assert isinstance(error.__cause__, ValueError)
    assert str(error).endswith(" [task 0_0, topic in, partition 0, offset 0, node to-int]")


def words(builder: StreamsBuilder, select: Callable[[Any, str], str | None]) -> None:
    """Counts what lines are split into, by a selected key."""
    lines = builder.stream("in", value_serde=serdes.string)
    split = lines.flat_map_values(str.split, name="split").select_key(select, name="select")
    counts = split.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(name="n")
    counts.to_stream().to("out")


def test_a_selector_that_fails_behind_a_split_is_the_node_that_is_named() -> None:
    builder = StreamsBuilder()
    words(builder, lambda _key, word: 1 // 0 if word == "bad" else word)  # type: ignore[arg-type, return-value]

    error = piped(builder, None, b"good bad")

    assert (error.node, error.topic, error.offset) == ("select", "in", 0)


def test_a_selector_that_fails_behind_a_split_costs_only_its_own_record() -> None:
    builder = StreamsBuilder()
    keys = {"a": "a", "none": None, "d": "d"}
    words(builder, lambda _key, word: keys[word])
    with TopologyTestDriver(builder, processing_handler="log_and_continue") as driver:
        driver.pipe_raw("in", None, b"a bad none d a", 0)
        counted = driver.get_state_store("n")
        assert [(key, row.value) for key, row in counted.all()] == [("a", 2), ("d", 1)]
