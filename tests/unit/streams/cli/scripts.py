"""Topology scripts, as users write them."""

from __future__ import annotations

WORD_COUNT = """
from thalweg import App, StreamsBuilder, serdes

builder = StreamsBuilder()
(
    builder.stream("lines", value_serde=serdes.string)
    .flat_map_values(str.split)
    .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
    .count(name="counts")
    .to_stream()
    .to("word-counts", key_serde=serdes.string, value_serde=serdes.int64)
)
app = App(builder, application_id="word-count", commit_interval_ms=50, poll_ms=10)
"""

WINDOWED = """
from datetime import timedelta
from thalweg import (
    App,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    serdes,
)

builder = StreamsBuilder()
(
    builder.stream("clicks", key_serde=serdes.string, value_serde=serdes.string)
    .group_by_key()
    .windowed_by(TimeWindows.of_size(timedelta(minutes=1)))
    .count(materialized=Materialized("per-minute", retention=timedelta(days=9000)))
)
app = App(builder, application_id="clicks", commit_interval_ms=50, poll_ms=10)
"""

FAILING = """
from thalweg import App, StreamsBuilder, serdes

def parse(value):
    return int(value)

builder = StreamsBuilder()
builder.stream("lines", value_serde=serdes.string).map_values(parse, name="parse").to("out", value_serde=serdes.int64)
app = App(builder, application_id="failing", commit_interval_ms=50, poll_ms=10)
"""
