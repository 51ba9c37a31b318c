"""End-to-end latency at a steady rate, and cold starts.

    python -m bench latency                   map_filter and word_count at 5,000 records/s
    python -m bench latency --cold            process start to first output, memory then

Latency is the time from just before produce() to the broker's append time of the output. Both
clocks are this machine's; the append time is in whole milliseconds. The store cache is off and
commits come every 100 ms. The first WARM_S seconds are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from confluent_kafka import Producer
from msgspec.json import decode

from bench.race import load
from bench.race.preparation import (
    HERE,
    broker,
    build_dir,
    build_jvm,
    command,
    environment,
    stop_on_sigterm,
)
from bench.race.run import Bench, Entry, Row, Values, contenders, cpu_of, watch
from bench.race.verify import Output

START_S = 6
WARM_S = 10
MEASURE_S = 20
TICK_S = 0.005
MARK_EVERY = 10


def latency(
    bench: Bench, name: str, contender: Entry, workload: str, rate: int, guarantee: str, rep: int
) -> Row:
    app = f"b{bench.run_id}-{name}-{workload}-{guarantee}-{rate}-{rep}"
    total = rate * (WARM_S + MEASURE_S)
    values: Values = {
        "bootstrap": bench.args.bootstrap,
        "input": app + "-in",
        "output": app + "-out",
        "app_id": app,
        "workload": workload,
        "threads": 1,
        "guarantee": guarantee,
        "state_dir": str(bench.scratch / app),
        "expected_records": total,
        "commit_ms": 100,
        "cache_bytes": 0,
    }
    load.create_topic(bench.args.bootstrap, values["input"], {})
    load.create_topic(
        bench.args.bootstrap, values["output"], {"message.timestamp.type": "LogAppendTime"}
    )
    bench.hold()
    with (bench.scratch / (app + ".log")).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command(contender["command"], values),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=HERE,
            env=environment(),
        )
        cpu: list[float] = []
        sent: dict[int, float] = {}
        sender = threading.Thread(
            target=pace,
            daemon=True,
            args=(
                bench.args.bootstrap,
                values["input"],
                workload,
                rate,
                total,
                sent,
                process.pid,
                cpu,
            ),
        )
        sender.start()
        peak, _usage, code = watch(process, time.time())
        sender.join()
        assert process.stdout is not None
        process.stdout.close()
    row: Row = {
        "case": f"latency_{workload}",
        "contender": name,
        "guarantee": guarantee,
        "rate": rate,
        "rep": rep,
        "peak_mib": peak / 1024,
    }
    if code != 0:
        return row | {"problem": f"did not keep up ({code})"}
    delays = sorted(measured(bench.args.bootstrap, values["output"], workload, sent, rate * WARM_S))
    bench.clean(app)
    return row | {
        "problem": None,
        "samples": len(delays),
        "cpu_share": cpu[0],
        "p50_ms": delays[len(delays) // 2] * 1e3,
        "p99_ms": delays[len(delays) * 99 // 100] * 1e3,
        "max_ms": delays[-1] * 1e3,
    }


def pace(
    bootstrap: str,
    topic: str,
    workload: str,
    rate: int,
    total: int,
    sent: dict[int, float],
    pid: int,
    cpu: list[float],
) -> None:
    """Sends `rate` records a second and keeps the send time of each marked one."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 0, "partitioner": "murmur2_random"}
    )
    records = make(workload, total)
    time.sleep(START_S)
    started = time.time()
    number = 0
    before = None
    while number < total:
        due = min(total, int((time.time() - started) * rate))
        while number < due:
            key, value = records[number]
            sent[number] = time.time()
            producer.produce(topic, value, key)
            number += 1
        producer.poll(0)
        if before is None and number >= rate * WARM_S:
            before = time.time(), cpu_of(pid)
        time.sleep(TICK_S)
    assert before is not None
    # the process is still there: it waits for this thread's last record
    cpu.append((cpu_of(pid) - before[1]) / (time.time() - before[0]))
    producer.flush()


def make(workload: str, total: int) -> list[tuple[bytes | None, bytes]]:
    data = load.Dataset(workload, "", total, 0)
    rng = random.Random(load.SEED)
    rows = [(key, value) for key, value, _, _ in load.GENERATORS[workload](data, rng)]
    if workload == "word_count":
        rows = [
            (key, value if number % MARK_EVERY else value + b" #%d" % number)
            for number, (key, value) in enumerate(rows)
        ]
    return rows


def measured(
    bootstrap: str, topic: str, workload: str, sent: dict[int, float], skip: int
) -> Iterator[float]:
    for message in Output(bootstrap, topic):
        if workload == "map_filter":
            number = decode(message.value())["id"]
        elif message.key().startswith(b"#"):
            number = int(message.key()[1:])
        else:
            continue
        if number >= skip:
            yield message.timestamp()[1] / 1e3 - sent[number]


def cold(bench: Bench, name: str, contender: Entry, rep: int) -> Row:
    row = bench.run(name, contender | {"scale": 1.0, "scales": {}}, "passthrough", rep)
    return {
        "case": "cold",
        "contender": name,
        "rep": rep,
        "problem": row["problem"],
        "first_output_s": row.get("first_output_s"),
        "peak_mib": row.get("peak_mib"),
        "cpu_s": row.get("cpu_s"),
    }


def summary(rows: list[Row]) -> str:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        group = row["case"], row["contender"], row.get("guarantee", ""), row.get("rate", "")
        groups.setdefault(group, []).append(row)
    lines = []
    for key, runs in groups.items():
        good = [row for row in runs if not row["problem"]]
        if not good:
            lines.append(f"| {' | '.join(map(str, key))} | {runs[0]['problem']} |")
            continue
        fields = [
            field
            for field in ("p50_ms", "p99_ms", "cpu_share", "first_output_s", "cpu_s", "peak_mib")
            if field in good[0]
        ]
        cells = []
        for field in fields:
            found = sorted(row[field] for row in good)
            cells.append(f"{field} {found[0]:.3g} / {median(found):.3g} / {found[-1]:.3g}")
        lines.append(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def arguments(rest: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench latency", description=__doc__)
    parser.add_argument("--contenders", default="thalweg,jvm")
    parser.add_argument("--workloads", default="map_filter,word_count")
    parser.add_argument("--guarantee", default="at_least_once")
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--scale", type=float, default=0.0005, help="input size of a cold start")
    parser.add_argument("--bootstrap", help="a broker that runs already; else one is started")
    parser.add_argument("--broker-pid", type=int)
    parser.add_argument("--lock")
    parser.add_argument("--lock-wait", type=float, default=60)
    parser.add_argument("--out", default=str(build_dir() / "latency.jsonl"))
    parser.add_argument("--keep-logs", action="store_true")
    parser.set_defaults(threads=1)
    args = parser.parse_args(rest)
    known = contenders()
    args.contenders = args.contenders.split(",")
    for name in args.contenders:
        if name not in known:
            parser.error(f"no contender {name!r}; there are {', '.join(known)}")
    return args


def main(rest: list[str]) -> int:
    args = arguments(rest)
    out = Path(args.out)
    args.out = os.devnull  # Bench.run's own rows are not wanted here
    stop_on_sigterm()
    known = contenders()
    build_jvm([known[name]["command"] for name in args.contenders])
    with broker(args.bootstrap, args.broker_pid) as (args.bootstrap, args.broker_pid):
        rows = measure(args, known, out)
    print(summary(rows))
    return 0


def measure(args: argparse.Namespace, known: dict[str, Entry], out: Path) -> list[Row]:
    bench = Bench(args)
    rows = []
    try:
        for workload in ["cold"] if args.cold else args.workloads.split(","):
            for rep in range(args.reps):
                for name in args.contenders:
                    row = (
                        cold(bench, name, known[name], rep)
                        if args.cold
                        else latency(
                            bench, name, known[name], workload, args.rate, args.guarantee, rep
                        )
                    )
                    rows.append(row)
                    print(json.dumps(row), file=sys.stderr, flush=True)
                    with out.open("a", encoding="utf-8") as sink:
                        sink.write(json.dumps(row) + "\n")
    finally:
        bench.close()
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
