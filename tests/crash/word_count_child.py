"""A process to be killed: counts words on the embedded log and feeds itself more of them.

Called with a directory. Prints a line when the application runs; goes on until it is killed,
or with a second argument "drain" until everything that was fed is counted.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from thalweg import (
    App,
    State,
    StreamsBuilder,
    serdes,
)

PARTITIONS = 2
WORDS = [f"w{number}" for number in range(500)]


def lines() -> Iterator[str]:
    """Yields the same endless text each time."""
    rng = random.Random(7)
    while True:
        yield " ".join(rng.choices(WORDS, k=3))


def application(home: Path) -> App:
    """Returns the word count on the log in a directory."""
    builder = StreamsBuilder()
    (
        builder.stream("lines", key_serde=serdes.int64, value_serde=serdes.string)
        .flat_map_values(str.split)
        .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(name="counts")
        .to_stream()
        .to("out", key_serde=serdes.string, value_serde=serdes.int64)
    )
    return App(
        builder,
        application_id="kill",
        data_dir=home / "log",
        state_dir=home / "state",
        default_partitions=PARTITIONS,
        commit_interval=timedelta(milliseconds=20),
        repartition_purge_interval=timedelta(milliseconds=50),
        # Small, so that rows are evicted between commits too.
        statestore_cache_max_bytes=20_000,
    )


def feed(app: App) -> None:
    """Writes lines behind those that are there, in small transactions, for ever."""
    with app.producer() as producer:
        there = producer.record_count("lines")
        for number, line in enumerate(lines()):
            if number < there:
                continue
            producer.send(
                "lines", line, key=number, key_serde=serdes.int64, value_serde=serdes.string
            )
            if number % 50 == 0:
                producer.flush()


def main() -> None:
    """Runs until killed or drained."""
    app = application(Path(sys.argv[1]))
    app.start()
    app.wait_for(State.RUNNING)
    print("running", flush=True)
    if sys.argv[2:] != ["drain"]:
        threading.Thread(target=feed, args=(app,), daemon=True).start()
        app.wait_for(State.ERROR)
        raise SystemExit(f"died: {app.error}")
    while True:
        progress = app.progress()
        if app.state is not State.RUNNING:
            raise SystemExit(f"died: {app.error}")
        if progress is not None and progress.lag_records == 0:
            break
        app.wait_for(State.ERROR, timeout=timedelta(milliseconds=20))
    app.close()


if __name__ == "__main__":
    main()
