"""What a record costs as a topology and its state grow; none of it should tell.

    python -m bench growth [--parts keys,stores] [--records 200000] [--repeats 3] [--most 1000000]

Runs on the log in memory, one worker, without a cache, so that each record does the same work
whatever the cache would hold. State is filled first; only the records behind that are timed, in
CPU time, which others on the machine hardly disturb. Commits that fall into it count. The slope is that of the cost over the size, both as logarithms: 0 is flat, 1 is proportional.

    keys         rows in the store of a count
    windows      windows kept of each of a hundred keys
    operators    behind a filter that lets nothing through
    stores       of counts behind such a filter
    chain        operators that each record passes: this one grows, by what an operator costs
    partitions   of the input, each with a task and a store of its own
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.embedded import APPLICATION, opener
from thalweg import (
    App,
    KStream,
    Materialized,
    StreamsBuilder,
    StreamsConfig,
    TimeWindows,
    Topology,
    key_value_store,
    serdes,
)
from thalweg.streams.transport.port import NewTopic

SEED = 20_260_101
BASE_MS = 1_700_000_000_000
FEW_KEYS = 100
WINDOW_MS = 1_000
KEYS = 1_000
LOOK_S = 0.002

Event = tuple[int, int]
"""Number of the key, time in ms after `BASE_MS`."""


@dataclass(frozen=True)
class Setup:
    """One point of a curve.

    Attributes:
        build: makes the topology.
        filling: events before the timed ones.
        timed: the events that are timed.
        partitions: of the input.
    """

    build: Callable[[], Topology]
    filling: Sequence[Event]
    timed: Sequence[Event]
    partitions: int = 1


def _source(builder: StreamsBuilder) -> KStream[str, bytes]:
    return builder.stream("in", key_serde=serdes.string, value_serde=serdes.bytes)


def _random_keys(keys: int, records: int) -> list[Event]:
    rng = random.Random(SEED)
    return [(rng.randrange(keys), keys + number) for number in range(records)]


def keys(size: int, records: int) -> Setup:
    """Counts of so many keys."""

    def build() -> Topology:
        builder = StreamsBuilder()
        _source(builder).group_by_key().count("counts")
        return builder.build()

    return Setup(build, [(key, key) for key in range(size)], _random_keys(size, records))


def windows(size: int, records: int) -> Setup:
    """Counts in the newest window, while so many older ones of each key are kept."""

    def build() -> Topology:
        builder = StreamsBuilder()
        kept = TimeWindows.of_size(
            timedelta(milliseconds=WINDOW_MS), grace=timedelta(milliseconds=WINDOW_MS * size)
        )
        _source(builder).group_by_key().windowed_by(kept).count("counts")
        return builder.build()

    filling = [(key, window * WINDOW_MS) for window in range(size) for key in range(FEW_KEYS)]
    rng = random.Random(SEED)
    newest = (size - 1) * WINDOW_MS
    timed = [(rng.randrange(FEW_KEYS), newest) for _ in range(records)]
    return Setup(build, filling, timed)


def operators(size: int, records: int) -> Setup:
    """Passes events on, past so many operators that get none."""

    def build() -> Topology:
        builder = StreamsBuilder()
        source = _source(builder)
        source.to("out")
        quiet = source.filter(lambda _key, _value: False)
        for _ in range(size):
            quiet = quiet.map_values(bytes)
        return builder.build()

    return Setup(build, [], _random_keys(KEYS, records))


def stores(size: int, records: int) -> Setup:
    """Counts, beside so many stores that get no events."""

    def build() -> Topology:
        builder = StreamsBuilder()
        source = _source(builder)
        source.group_by_key().count("counts")
        quiet = source.filter(lambda _key, _value: False)
        for number in range(size):
            quiet.group_by_key().count(f"quiet-{number}")
        return builder.build()

    return Setup(build, [], _random_keys(KEYS, records))


def chain(size: int, records: int) -> Setup:
    """Passes events through so many operators."""

    def build() -> Topology:
        builder = StreamsBuilder()
        passed = _source(builder)
        for _ in range(size):
            passed = passed.map_values(bytes)
        passed.to("out")
        return builder.build()

    return Setup(build, [], _random_keys(KEYS, records))


def partitions(size: int, records: int) -> Setup:
    """Counts in so many tasks."""

    def build() -> Topology:
        builder = StreamsBuilder()
        counts = Materialized[str, int](store=key_value_store("counts", in_memory=True))
        _source(builder).group_by_key().count(materialized=counts)
        return builder.build()

    return Setup(build, [], _random_keys(KEYS, records), size)


PARTS: Mapping[str, tuple[Callable[[int, int], Setup], Sequence[int]]] = {
    "keys": (keys, (10_000, 100_000, 1_000_000, 10_000_000)),
    "windows": (windows, (10, 100, 1_000, 10_000)),
    "operators": (operators, (1, 10, 50, 200)),
    "stores": (stores, (1, 5, 20, 50)),
    "chain": (chain, (1, 10, 50, 200)),
    "partitions": (partitions, (1, 10, 100, 400)),
}
"""Name -> (maker, sizes)."""


def measure(setup: Setup, home: Path) -> float:
    """Runs through a setup once and returns the CPU microseconds per timed record.

    Raises:
        RuntimeError: the application ended before its input did.
    """
    open_ = opener("memory", home)
    keep = open_()  # so that the log stays open between the steps
    keep.create_topics([NewTopic("in", setup.partitions), NewTopic("out", 1)])
    send = keep.sender("in")
    for events in (setup.filling, setup.timed):
        for key, after_ms in events:
            send(b"key%07d" % key, b"x", BASE_MS + after_ms, None, key % setup.partitions)
    keep.flush()
    keep.commit({})
    config = StreamsConfig(
        application_id=APPLICATION,
        state_dir=home / "state",
        data_dir=home / "log",
        statestore_cache_max_bytes=0,
    )
    app = App(setup.build(), config=config, transport=open_)
    app.start()
    try:
        return 1e6 * _cpu_per_record(app, len(setup.filling), len(setup.timed))
    finally:
        app.close()
        keep.close()


def _cpu_per_record(app: App, filled: int, timed: int) -> float:
    """Waits for all records and returns CPU seconds of each; the clock runs from the first look that sees the filling done."""
    began: tuple[float, int] | None = None
    while not app.state.has_finished:
        progress = app.progress()
        if progress is not None and progress.running_tasks:
            now, processed = time.process_time(), progress.processed_records
            if processed >= filled + timed:
                if began is None or began[1] == processed:
                    raise RuntimeError("too few records to time: give more by --records")
                return (now - began[0]) / (processed - began[1])
            if began is None and processed > filled:
                began = now, processed
        time.sleep(LOOK_S)
    raise RuntimeError("the application ended before its input did") from app.error


def slope(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Returns the slope of the line through the logarithms that is nearest to them."""
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if spread == 0:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread


def best(make: Callable[[int, int], Setup], size: int, records: int, repeats: int) -> float:
    """Returns the lowest cost of a few runs."""
    setup, costs = make(size, records), []
    for _ in range(repeats):
        home = Path(tempfile.mkdtemp(prefix="thalweg-growth-"))
        try:
            costs.append(measure(setup, home))
        finally:
            shutil.rmtree(home, ignore_errors=True)
    return min(costs)


def main(arguments: list[str]) -> int:
    """Measures, and prints a table and the slope of each part."""
    parser = argparse.ArgumentParser(
        prog="bench.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--records", type=int, default=200_000, help="that are timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=1_000_000, help="the largest size")
    parser.add_argument("--json", type=Path, help="file that gets a JSON line for each point")
    args = parser.parse_args(arguments)
    chosen = args.parts.split(",")
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    gc.set_threshold(100_000, 20, 50)  # as `App.run` does
    table = Table(title=f"cost per record, {args.records:,} records, best of {args.repeats}")
    for column in ("part", "size", "CPU µs per record", "slope"):
        table.add_column(column, justify="left" if column == "part" else "right")
    rows = []
    for part in chosen:
        make, all_sizes = PARTS[part]
        sizes = [size for size in all_sizes if size <= args.most] or all_sizes[:1]
        costs = [best(make, size, args.records, args.repeats) for size in sizes]
        found = slope(sizes, costs)
        for size, cost in zip(sizes, costs, strict=True):
            is_last = size == sizes[-1]
            table.add_row(
                part, f"{size:,}", f"{cost:.2f}", f"{found:+.3f}" if is_last else "",
                end_section=is_last,
            )  # fmt: skip
            rows.append({"part": part, "size": size, "us": round(cost, 3), "slope": found})
    Console().print(table)
    if args.json:
        with args.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
