"""As `word_count`, and counts the words of each hour too, out of the same repartition topic."""

from __future__ import annotations

import os
from datetime import timedelta

import tests.broker.patient  # noqa: F401 - a busy machine is slow
from thalweg import (
    App,
    StreamsBuilder,
    TimeWindows,
    serdes,
)

builder = StreamsBuilder()
words = (
    builder.stream(os.environ["LINES"], value_serde=serdes.string)
    .flat_map_values(str.split)
    .group_by(
        lambda _key, word: word,
        name="counts",
        key_serde=serdes.string,
        value_serde=serdes.string,
    )
)
(
    words.count(name="counts")
    .to_stream()
    .to(os.environ["COUNTS"], key_serde=serdes.string, value_serde=serdes.int64)
)
hours = TimeWindows.of_size(timedelta(hours=1), grace=timedelta(days=1))
words.windowed_by(hours).count(name="hourly")
app = App(builder, application_id=os.environ["APPLICATION"])
