"""Scripts as they change over time: what they were first, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from thalweg import (
    KStream,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    serdes,
)

S = serdes.string
Change = Callable[[str, str], StreamsBuilder]
"""Makes a script of the names of a source and an output topic."""


def _stream(builder: StreamsBuilder, source: str) -> KStream[str, str]:
    return builder.stream(source, key_serde=S, value_serde=S)


def first(source: str, output: str, store: str = "counts") -> StreamsBuilder:
    """Counts by key in a named store."""
    builder = StreamsBuilder()
    counts = _stream(builder, source).group_by_key().count(name=store)
    counts.to_stream().map_values(str).to(output, key_serde=S, value_serde=S)
    return builder


def with_a_filter(source: str, output: str) -> StreamsBuilder:
    """Has an operator more before the store, so that the numbers of those behind it are others."""
    builder = StreamsBuilder()
    stream = _stream(builder, source).filter(lambda _key, value: value != "")
    counts = stream.group_by_key().count(name="counts")
    counts.to_stream().map_values(str).to(output, key_serde=S, value_serde=S)
    return builder


def with_an_output_less(source: str, _output: str) -> StreamsBuilder:
    """Writes no topic any more."""
    builder = StreamsBuilder()
    _stream(builder, source).group_by_key().count(name="counts")
    return builder


def with_another_store_name(source: str, output: str) -> StreamsBuilder:
    """Has another name for its store."""
    return first(source, output, "counted")


def with_a_store_more(source: str, output: str) -> StreamsBuilder:
    """Counts in windows as well."""
    builder = first(source, output)
    windowed = _stream(builder, source).group_by_key()
    windowed.windowed_by(TimeWindows.of_size(timedelta(minutes=1))).count(
        materialized=Materialized("lately")
    )
    return builder


def with_another_config(source: str, output: str) -> StreamsBuilder:
    """Has its changelog kept in another way."""
    builder = StreamsBuilder()
    counts = (
        _stream(builder, source)
        .group_by_key()
        .count(materialized=Materialized("counts", logging={"segment.ms": "600000"}))
    )
    counts.to_stream().map_values(str).to(output, key_serde=S, value_serde=S)
    return builder


def unnamed(source: str, output: str, *, filtered: bool = False) -> StreamsBuilder:
    """Counts in a store whose name is made of its number."""
    builder = StreamsBuilder()
    stream = _stream(builder, source)
    if filtered:
        stream = stream.filter(lambda _key, value: value != "")
    counts = stream.group_by_key().count()
    counts.to_stream().map_values(str).to(output, key_serde=S, value_serde=S)
    return builder


def unnamed_with_a_filter(source: str, output: str) -> StreamsBuilder:
    """Has an operator more before that store: its number, and so its name, is another."""
    return unnamed(source, output, filtered=True)


GOES_ON: dict[str, tuple[Change, Change]] = {
    "a filter before a named store": (first, with_a_filter),
    "an output less": (first, with_an_output_less),
    "code only": (first, first),
}
"""Name of a change -> the scripts before and after it, where the state stays."""

BEGINS_ANEW: dict[str, tuple[Change, Change]] = {
    "another name of a store": (first, with_another_store_name),
    "a filter before a store without a name": (unnamed, unnamed_with_a_filter),
}
"""Changes that give a store another name."""

OTHER_TOPICS: dict[str, tuple[Change, Change]] = {
    "a store more": (first, with_a_store_more),
    "another config of a changelog": (first, with_another_config),
}
"""Changes of what a broker is told, where all stores keep their names."""
