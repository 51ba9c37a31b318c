"""The runtime on the memory and the embedded log, against the same work by hand.

    python -m bench.embedded [--transports memory,local] [--workloads word_count,...]
                             [--scale 1.0] [--repeats 3] [--json FILE]

Input is written first. The time of a run is that of draining it: from the worker's start to
the commit that follows the last record. The hand-written job of the same workload runs
between the repeats, so that both see the same machine; the best of each counts, output is
checked every time.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import handwritten, workloads
from bench.workloads import Rows, Workload
from thalweg import App, State, StreamsConfig
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.streams.transport.port import NewTopic, TopicPartition, Transport

APPLICATION = "bench"
_WIDEST = 1_000
Open = Callable[[], Transport]


def opener(transport: str, home: Path) -> Open:
    """Returns the function that opens a transport on one and the same log."""
    if transport == "memory":
        log = memory_log()
        return lambda: MemoryTransport(log, APPLICATION)
    return lambda: LocalTransport(home / "log", APPLICATION)


def write_input(workload: Workload, open_: Open) -> None:
    """Writes a workload's records."""
    with open_() as transport:
        for topic, rows in workload.inputs.items():
            transport.create_topics([NewTopic(topic, 1)])
            send = transport.sender(topic)
            for key, value, timestamp in rows:
                send(key, value, timestamp, None, 0)
            transport.flush()
            transport.commit({})
        transport.create_topics([NewTopic("out", 1)])


def read_output(open_: Open) -> Rows:
    """Returns everything that was written to the output topic."""
    out: list[tuple[bytes | None, bytes, int]] = []
    with open_() as transport:
        partition = TopicPartition("out", 0)
        end = transport.end_offsets((partition,))[partition]
        reader = transport.reader()
        reader.add({partition: 0})
        while reader.position(partition) < end:
            for _, records in reader.poll(100_000, 1_000):
                out.extend((key, value or b"", timestamp) for timestamp, key, value, _ in records)
        reader.close()
    return out


def run(workload: Workload, transport: str, home: Path, commit_ms: int) -> float:
    """Drains a workload by the runtime and returns the seconds it took."""
    open_ = opener(transport, home)
    keep = open_()  # so that the log stays open between the steps
    write_input(workload, open_)
    config = StreamsConfig(
        application_id=APPLICATION,
        state_dir=home / "state",
        data_dir=home / "log",
        commit_interval_ms=commit_ms,
    )
    app = App(workload.build(), config=config, transport=open_)
    started = time.perf_counter()
    app.start()
    app.wait_for(State.RUNNING)
    processed, moved = 0, started
    while app.state is State.RUNNING:
        progress = app.progress()
        if progress is not None and progress.running_tasks:
            if progress.processed_records != processed:
                processed, moved = progress.processed_records, time.perf_counter()
            if progress.lag_records == 0 and (progress.is_idle or not workload.hands_on):
                break
        time.sleep(0.02)
    app.close()
    # What hands records on is done only when commits bring no more: waiting for that is no work.
    seconds = (moved if workload.hands_on else time.perf_counter()) - started
    if app.error is not None:
        raise app.error
    workload.check(read_output(open_))
    keep.close()
    return seconds


def run_by_hand(workload: Workload, home: Path) -> float:
    """Does a workload by hand and returns the seconds it took."""
    started = time.perf_counter()
    out = handwritten.run(workload, home / "store")
    seconds = time.perf_counter() - started
    workload.check(out)
    return seconds


def best(repeats: int, *jobs: Callable[[Path], float]) -> list[float]:
    """Runs jobs in turn and returns the best time of each."""
    times: list[list[float]] = [[] for _ in jobs]
    gc.set_threshold(100_000, 20, 50)  # as `App.run` does; for the work by hand as well
    for _ in range(repeats):
        for job, taken in zip(jobs, times, strict=True):
            home = Path(tempfile.mkdtemp(prefix="thalweg-bench-"))
            try:
                taken.append(job(home))
            finally:
                shutil.rmtree(home, ignore_errors=True)
    return [min(taken) for taken in times]


def main(arguments: list[str]) -> int:
    """Measures, prints a table, and appends a JSON line per figure if asked."""
    parser = argparse.ArgumentParser(prog="bench.embedded", description=__doc__)
    parser.add_argument("--transports", default="memory,local")
    parser.add_argument("--workloads", default=",".join(workloads.WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commit-ms", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    table = Table(title=f"whole drain, commit every {args.commit_ms} ms, best of {args.repeats}")
    for column in ("workload", "transport", "records", "runtime s", "by hand s", "ratio", "per s"):
        table.add_column(column, justify="left" if column in ("workload", "transport") else "right")
    rows = []
    for name in args.workloads.split(","):
        workload = workloads.make(name, args.scale)
        for transport in args.transports.split(","):
            jobs: list[Callable[[Path], float]] = [
                lambda home, w=workload, t=transport: run(w, t, home, args.commit_ms)  # type: ignore[misc]
            ]
            if name in handwritten.JOBS:
                jobs.append(lambda home, w=workload: run_by_hand(w, home))  # type: ignore[misc]
            ours, *by_hand = best(args.repeats, *jobs)
            hand = by_hand[0] if by_hand else None
            unit, count = next(iter(workload.units.items()), ("records", workload.records))
            row = {
                "workload": name,
                "transport": transport,
                "records": workload.records,
                "seconds": round(ours, 3),
                "by_hand_seconds": None if hand is None else round(hand, 3),
                "ratio": None if hand is None else round(ours / hand, 2),
                "per_second": round(count / ours),
                "unit": unit,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
            rows.append(row)
            table.add_row(
                name,
                transport,
                f"{workload.records:,}",
                f"{ours:.2f}",
                "" if hand is None else f"{hand:.2f}",
                "" if hand is None else f"{ours / hand:.2f}",
                f"{count / ours / 1000:,.0f} K {unit}",
            )
    # As wide as the table is: names that are cut tell nothing.
    Console(width=Console(width=_WIDEST).measure(table).maximum).print(table)
    if args.json:
        with args.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
