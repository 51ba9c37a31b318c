"""A process to be killed: each record changes stores of all sorts, and it feeds itself more.

Called with a directory. Prints a line when the application runs, and goes on until it is
killed; with a second argument "idle" it feeds nothing.
"""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from thalweg import (
    App,
    Processor,
    Record,
    State,
    StreamsBuilder,
    key_value_store,
    serdes,
)

KEYS = 20
LOGGED, MEMORY, UNLOGGED, FILLED = "logged", "memory", "unlogged", "filled"


class Count(Processor[str, str, Any, Any]):
    """Counts each record in every store."""

    def process(self, record: Record[str, str]) -> None:
        for name in (LOGGED, MEMORY, UNLOGGED):
            count(self.context.get_state_store(name), record)


class Fill(Processor[str, str, Any, Any]):
    """Counts each record of a topic in the store that is restored from it."""

    def process(self, record: Record[str, str]) -> None:
        count(self.context.get_state_store(FILLED), record)


def count(store: Any, record: Record[str, str]) -> None:
    """Adds one to the row of a record."""
    store.put(record.key, (store.get(record.key) or 0) + 1)


def application(home: Path) -> App:
    """Returns the application on the log in a directory."""
    builder = StreamsBuilder()
    for name in (LOGGED, MEMORY):
        in_memory = name == MEMORY
        builder.add_state_store(
            key_value_store(name, serdes.string, serdes.int64, in_memory=in_memory)
        )
    builder.add_state_store(
        key_value_store(UNLOGGED, serdes.string, serdes.int64).without_logging()
    )
    builder.stream("in").process(Count, LOGGED, MEMORY, UNLOGGED)
    topology = builder.build()
    topology.add_read_only_state_store(
        key_value_store(FILLED, serdes.string, serdes.int64), "source", "facts", "fill", Fill
    )
    return App(
        topology,
        application_id="kill",
        data_dir=home / "log",
        state_dir=home / "state",
        default_key_serde=serdes.string,
        default_value_serde=serdes.string,
        commit_interval=timedelta(milliseconds=10),
    )


def feed(app: App) -> None:
    """Writes records for ever."""
    with app.producer() as producer:
        number = 0
        while True:
            for topic in ("in", "facts"):
                key = f"k{number % KEYS}"
                producer.send(
                    topic, "x", key=key, key_serde=serdes.string, value_serde=serdes.string
                )
            number += 1
            if number % 20 == 0:
                producer.flush()


def main() -> None:
    """Runs until it is killed."""
    app = application(Path(sys.argv[1]))
    with app.producer() as producer:
        for topic in ("in", "facts"):
            producer.create_topic(topic, 1)
    app.start()
    app.wait_for(State.RUNNING)
    print("running", flush=True)
    if sys.argv[2:] != ["idle"]:
        threading.Thread(target=feed, args=(app,), daemon=True).start()
    app.wait_for(State.ERROR)
    raise SystemExit(f"died: {app.error}")


if __name__ == "__main__":
    main()
