"""The script of workers that meet an outage: `word_count`, held where a test wants it held.

PHASE says where the worker is when the broker goes. GATE is a directory: the worker writes
`reached` there when it has come to that place, and waits until the test writes `open`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import tests.broker.patient  # noqa: F401 - a busy machine is slow
from thalweg import (
    App,
    RestoreListener,
    StreamsBuilder,
    serdes,
)

PHASE, GATE = os.environ["PHASE"], Path(os.environ["GATE"])


def wait_at_gate() -> None:
    """Tells the test that the worker is here, and waits for it."""
    if (GATE / "open").exists():
        return
    (GATE / "reached").touch()
    while not (GATE / "open").exists():
        time.sleep(0.01)


class Held(RestoreListener):
    """Holds a worker at the first store it opens, or at the first records it restores."""

    def on_restore_start(self, *_told: Any) -> None:
        """Is called while tasks are opened."""
        if PHASE == "opening":
            wait_at_gate()

    def on_batch_restored(self, *_told: Any) -> None:
        """Is called between two slices of records."""
        if PHASE == "restoring":
            wait_at_gate()


def words(line: str) -> list[str]:
    """Splits a line, in its own time."""
    if PHASE in ("processing", "closing"):
        (GATE / "reached").touch()
        time.sleep(0.002)
    return line.split()


builder = StreamsBuilder()
(
    builder.stream(os.environ["LINES"], value_serde=serdes.string)
    .flat_map_values(words)
    .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
    .count(name="counts")
    .to_stream()
    .to(os.environ["COUNTS"], key_serde=serdes.string, value_serde=serdes.int64)
)
app = App(builder, application_id=os.environ["APPLICATION"])
app.set_restore_listener(Held())
