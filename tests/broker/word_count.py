"""The script that worker processes run in these tests: counts words, as the README does.

The topics come from the environment, everything else from options of the command.
"""

from __future__ import annotations

import os

import tests.broker.patient  # noqa: F401 - a busy machine is slow
from thalweg import App, StreamsBuilder, serdes

builder = StreamsBuilder()
(
    builder.stream(os.environ["LINES"], value_serde=serdes.string)
    .flat_map_values(str.split)
    .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
    .count(name="counts")
    .to_stream()
    .to(os.environ["COUNTS"], key_serde=serdes.string, value_serde=serdes.int64)
)
app = App(builder, application_id=os.environ["APPLICATION"])
