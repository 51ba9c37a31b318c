"""Runs contenders one after another on one broker, checks their output, prints a table.

    python -m bench race                                every case, every contender
    python -m bench race --cases word_count --contenders thalweg,jvm --reps 3

The contract a contender has to keep, and what the columns mean, is in bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from confluent_kafka.admin import AdminClient

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
from bench.race.verify import verify

TIMEOUT_S = 150
LEASE_S = 200
QUIET = 0.15  # CPUs that others may use for a run to count as undisturbed
TRIES = 2
TICKS = os.sysconf("SC_CLK_TCK")


Row = dict[str, Any]
"""A line of the results."""
Entry = dict[str, Any]
"""A contender's entry in contenders.toml."""
Values = dict[str, Any]
"""What the placeholders of a command stand for."""


@dataclass(frozen=True)
class Case:
    """A workload under its settings."""

    workload: str
    guarantee: str = "at_least_once"
    commit_ms: int = 1000
    cache_bytes: int = 10 << 20


CASES = {
    "passthrough": Case("passthrough"),
    "map_filter": Case("map_filter"),
    "word_count": Case("word_count"),
    "word_count_nocache": Case("word_count", cache_bytes=0),
    "windowed_sum": Case("windowed_sum"),
    "stream_table_join": Case("stream_table_join"),
    "versioned_join": Case("versioned_join"),
    "stream_stream_join": Case("stream_stream_join"),
    "foreign_key_join": Case("foreign_key_join"),
    "session_count": Case("session_count"),
    "sliding_count": Case("sliding_count"),
    "suppress_windows": Case("suppress_windows"),
    "restore": Case("restore"),
    "map_filter_eos": Case("map_filter", guarantee="exactly_once_v2"),
    "map_filter_eos_100ms": Case("map_filter", guarantee="exactly_once_v2", commit_ms=100),
    "word_count_eos": Case("word_count", guarantee="exactly_once_v2"),
    "word_count_eos_100ms": Case("word_count", guarantee="exactly_once_v2", commit_ms=100),
}


@dataclass
class Finished:
    """What the operating system and the contender itself say about one process."""

    code: int | str
    report: Row
    wall_s: float
    cpu_s: float
    peak_mib: float
    broker_cpu_s: float
    foreign_cpu: float


class Bench:
    """One invocation: its inputs, its topics, its scratch directory."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.run_id = uuid.uuid4().hex[:6]
        self.admin = AdminClient({"bootstrap.servers": args.bootstrap, "log_level": 4})
        self.scratch = Path(tempfile.mkdtemp(prefix="run-", dir=build_dir()))
        self.inputs: dict[tuple[str, int], load.Dataset] = {}
        self.lease: IO[str] | None = None
        self.held_since = 0.0

    def input(self, workload: str, records: int) -> load.Dataset:
        """Loaded once per invocation; contenders only read it."""
        key = workload, records
        if key not in self.inputs:
            topic = f"in-{self.run_id}-{workload}-{records}"
            self.inputs[key] = load.load(self.args.bootstrap, workload, topic, records)
        return self.inputs[key]

    def run(self, name: str, contender: Entry, case_name: str, rep: int) -> Row:
        """Runs a contender once, again if it was disturbed, and returns and appends its row."""
        case = CASES[case_name]
        data = self.input(case.workload, self.records(contender, case_name))
        app = f"b{self.run_id}-{name}-{case_name}-{rep}"
        values: Values = {
            "bootstrap": self.args.bootstrap,
            "input": data.topic,
            "app_id": app,
            "workload": case.workload,
            "threads": self.args.threads,
            "guarantee": case.guarantee,
            "state_dir": str(self.scratch / app),
            "expected_records": data.records,
            "commit_ms": case.commit_ms,
            "cache_bytes": case.cache_bytes,
        }
        row: Row = {
            "case": case_name,
            "contender": name,
            "rep": rep,
            "records": data.records + data.table_records,
        }
        for attempt in range(TRIES):
            again = {field: f"{values[field]}-{attempt}" for field in ("app_id", "state_dir")}
            again["output"] = again["app_id"] + "-out"
            found = self.once(contender, values | again, data)
            if self.args.lock is None or found.get("foreign_cpu", 0) < QUIET:
                break
        row |= found
        self.clean(app)
        with Path(self.args.out).open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        return row

    def once(self, contender: Entry, values: Values, data: load.Dataset) -> Row:
        """Runs a contender into a new output topic."""
        load.create_topic(
            self.args.bootstrap, values["output"], {"message.timestamp.type": "LogAppendTime"}
        )
        if values["workload"] == "restore":
            return self.restore(contender, values, data)
        return self.drain(contender, values, data)

    def records(self, contender: Entry, case_name: str) -> int:
        """Returns the input size that a contender gets."""
        scale = contender.get("scales", {}).get(case_name, contender.get("scale", 1.0))
        return int(load.SIZES[CASES[case_name].workload] * self.args.scale * scale)

    def drain(self, contender: Entry, values: Values, data: load.Dataset) -> Row:
        """Runs a contender over the input and checks its output."""
        done = self.execute(contender, values)
        if done.code != 0:
            return {"problem": f"exit code {done.code}", "log": done.report.get("log")}
        outcome = verify(self.args.bootstrap, values["output"], data, contender)
        total = data.records + data.table_records
        return rates(total, done, outcome.last_append) | {
            "problem": outcome.problem,
            "outputs": outcome.outputs,
            "processed_by": done.report.get("processed_by"),
            "first_output_s": outcome.first_append - done.report.get("started_ts", 0.0),
        }

    def restore(self, contender: Entry, values: Values, data: load.Dataset) -> Row:
        """Lets a contender fill a store, takes it away, and measures how it comes back."""
        built = self.execute(contender, values | {"workload": "restore_build"})
        if built.code != 0:
            return {"problem": f"exit code {built.code} while building"}
        shutil.rmtree(values["state_dir"], ignore_errors=True)
        done = self.execute(contender, values)
        if done.code != 0:
            return {"problem": f"exit code {done.code}"}
        found = {name: done.report.get(name) for name in data.expected}
        build_s = built.report["processed_ts"] - built.report["first_ts"]
        return rates(data.records, done, done.report["processed_ts"]) | {
            "problem": None if found == data.expected else f"restored {found}",
            "outputs": 0,
            "build_rate": data.records / build_s,
        }

    def execute(self, contender: Entry, values: Values) -> Finished:
        """Runs a contender's process to its end under the eyes of the operating system."""
        words = command(contender["command"], values)
        log_path = self.scratch / (values["app_id"] + ".log")
        self.hold()
        with log_path.open("w", encoding="utf-8") as log:
            broker_before, busy_before = cpu_of(self.args.broker_pid), busy() - time.process_time()
            started = time.time()
            process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=HERE,
                text=True,
                env=environment(),
            )
            peak, usage, code = watch(process, started)
            wall = time.time() - started
            broker = cpu_of(self.args.broker_pid) - broker_before
            own = usage.ru_utime + usage.ru_stime
            foreign = busy() - time.process_time() - busy_before - broker - own
        assert process.stdout is not None
        with process.stdout as stdout:
            report = last_json(stdout.read())
        report["started_ts"] = started
        if code != 0:
            report["log"] = log_path.read_text()[-2000:]
            print(report["log"], file=sys.stderr)
        # Several processes know their peaks themselves.
        peak_mib = max(peak / 1024, report.get("peak_mib", 0))
        return Finished(code, report, wall, own, peak_mib, broker, foreign / wall)

    def hold(self) -> None:
        """Takes the shared machine for itself, for at most LEASE_S in one stretch.

        Where others do not let go for too long, it shares; `foreign_cpu` of the row shows the cost.
        """
        if self.lease and time.monotonic() - self.held_since > LEASE_S:
            self.release()
            time.sleep(0.5)
        if not self.args.lock or self.lease:
            return
        self.lease = Path(self.args.lock).open("a", encoding="utf-8")  # noqa: SIM115 - until release()
        signal.signal(signal.SIGALRM, too_late)
        signal.setitimer(signal.ITIMER_REAL, self.args.lock_wait)
        try:
            fcntl.flock(self.lease, fcntl.LOCK_EX)
        except TimeoutError:
            fcntl.flock(self.lease, fcntl.LOCK_SH)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.held_since = time.monotonic()

    def release(self) -> None:
        """Lets others have the machine."""
        if self.lease:
            self.lease.close()
            self.lease = None

    def clean(self, prefix: str) -> None:
        """Only topics of this invocation: every name carries its random id."""
        names = [name for name in self.admin.list_topics(timeout=10).topics if prefix in name]
        if names:
            for result in self.admin.delete_topics(names).values():
                result.result(30)
        for state in self.scratch.glob(prefix + "*"):
            if state.is_dir():
                shutil.rmtree(state, ignore_errors=True)

    def close(self) -> None:
        """Removes all that this invocation made."""
        self.release()
        self.clean(self.run_id)
        if not self.args.keep_logs:
            shutil.rmtree(self.scratch, ignore_errors=True)


def rates(total: int, done: Finished, end_ts: float) -> Row:
    """Records per second over the whole drain, its middle 80 % and up to the exit."""
    report = done.report
    first = report.get("first_ts") or report["started_ts"]
    span = max(end_ts - first, 1e-3)
    row: Row = {
        "drain_s": span,
        "rate": total / span,
        "exit_rate": total / max(report.get("done_ts", end_ts) - first, 1e-3),
        "wall_s": done.wall_s,
        "cpu_s": done.cpu_s,
        "broker_cpu_s": done.broker_cpu_s,
        "peak_mib": done.peak_mib,
        "cpu_per_m": done.cpu_s / total * 1e6,
        "foreign_cpu": done.foreign_cpu,
    }
    if "t90_ts" in report and "entries" not in report:
        row["steady_rate"] = 0.8 * total / max(report["t90_ts"] - report["t10_ts"], 1e-3)
    if "cpu_first" in report:
        row["drain_cpu_per_m"] = (report["cpu_done"] - report["cpu_first"]) / total * 1e6
    return row


Watched = tuple[int, resource.struct_rusage, int | str]
"""Peak KiB, usage, exit code or "timeout"."""


def watch(process: subprocess.Popen[str], started: float) -> Watched:
    """Peak RSS is sampled: rusage of a forked child can carry over the parent's."""
    try:
        return sample(process, started)
    except BaseException:
        process.kill()
        process.wait()
        raise


def sample(process: subprocess.Popen[str], started: float) -> Watched:
    peak = 0
    while True:
        peak = max(peak, high_water_kib(process.pid))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return peak, usage, process.returncode
        if time.time() - started > TIMEOUT_S:
            process.kill()
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = -9
            return peak, usage, "timeout"
        time.sleep(0.05)


def high_water_kib(pid: int) -> int:
    with (
        contextlib.suppress(OSError, StopIteration),
        Path(f"/proc/{pid}/status").open(encoding="utf-8") as status,
    ):
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    return 0


def cpu_of(pid: int | None) -> float:
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy() -> float:
    """CPU seconds the whole machine has spent on anything but idling."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / TICKS


def too_late(*_: object) -> None:
    raise TimeoutError


def last_json(text: str) -> Row:
    for line in reversed(text.splitlines()):
        if line.endswith("}"):
            found: Row = json.loads(line[line.index("{") :])  # a terminal code may stand before it
            return found
    return {}


def contenders() -> dict[str, Entry]:
    return tomllib.loads((HERE / "contenders.toml").read_text(encoding="utf-8"))


def available(known: dict[str, Entry]) -> list[str]:
    """Peers take part unasked only where their interpreter is given."""
    peers = bool(os.environ.get("BENCH_PEER_PYTHON"))
    return [
        name for name, entry in known.items() if peers or "{peer_python}" not in entry["command"]
    ]


def summary(rows: list[Row]) -> str:
    """A Markdown table, min / median / max over the repetitions; disturbed ones only if all were."""
    lines = [
        "| case | contender | runs | records | records/s (min / **median** / max) | steady /s | CPU s/M | drain CPU s/M | broker CPU s/M | peak MiB | outputs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["contender"]), []).append(row)
    order = list(CASES)
    for (case, name), runs in sorted(
        groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
    ):
        bad = next((row for row in runs if row["problem"]), None)
        if bad:
            lines.append(
                f"| {case} | {name} | {len(runs)} | {bad['records']} | **no figure**: {bad['problem']} | | | | | | |"
            )
            continue
        quiet = [row for row in runs if row.get("foreign_cpu", 0) < QUIET] or runs
        rate = sorted(row["rate"] for row in quiet)
        lines.append(
            f"| {case} | {name} | {len(quiet)} | {quiet[0]['records']:,} "
            f"| {rate[0]:,.0f} / **{median(rate):,.0f}** / {rate[-1]:,.0f} "
            f"| {middle(quiet, 'steady_rate', ',.0f')} | {middle(quiet, 'cpu_per_m', '.1f')} "
            f"| {middle(quiet, 'drain_cpu_per_m', '.1f')} "
            f"| {median(row['broker_cpu_s'] / row['records'] * 1e6 for row in quiet):.1f} "
            f"| {middle(quiet, 'peak_mib', '.0f')} | {quiet[0]['outputs']:,} |"
        )
    return "\n".join(lines)


def middle(runs: Sequence[Row], field: str, form: str) -> str:
    values = [row[field] for row in runs if field in row]
    return format(median(values), form) if values else ""


def arguments(rest: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench race", description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES), help="all by default")
    parser.add_argument(
        "--contenders", help="names from contenders.toml; by default all that can run"
    )
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of Kafka Streams, processes of thalweg, for the cases of a drain",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every input size")
    parser.add_argument("--bootstrap", help="a broker that runs already; else one is started")
    parser.add_argument("--broker-pid", type=int, help="its pid, to report its CPU time as well")
    parser.add_argument("--lock", help="file to flock exclusively around each measured process")
    parser.add_argument(
        "--lock-wait", type=float, default=60, help="seconds to wait for it before sharing it"
    )
    parser.add_argument(
        "--out",
        default=str(build_dir() / "results.jsonl"),
        help="one JSON line per run is appended",
    )
    parser.add_argument("--report", action="store_true", help="only print the table of --out")
    parser.add_argument("--keep-logs", action="store_true")
    args = parser.parse_args(rest)
    known = contenders()
    args.contenders = args.contenders.split(",") if args.contenders else available(known)
    args.cases = args.cases.split(",")
    for name in args.contenders:
        if name not in known:
            parser.error(f"no contender {name!r}; there are {', '.join(known)}")
    for case in args.cases:
        if case not in CASES:
            parser.error(f"no case {case!r}; there are {', '.join(CASES)}")
    return args


def main(rest: list[str]) -> int:
    args = arguments(rest)
    if args.report:
        lines = Path(args.out).read_text(encoding="utf-8").splitlines()
        print(summary([json.loads(line) for line in lines]))
        return 0
    stop_on_sigterm()
    known = contenders()
    build_jvm([known[name]["command"] for name in args.contenders])
    with broker(args.bootstrap, args.broker_pid) as (args.bootstrap, args.broker_pid):
        rows = race(args, known)
    print(summary(rows))
    return 0


def race(args: argparse.Namespace, known: dict[str, Entry]) -> list[Row]:
    bench = Bench(args)
    rows = []
    try:
        for case in args.cases:
            for rep in range(args.reps):
                for name in args.contenders:
                    if case not in known[name]["cases"]:
                        continue
                    row = bench.run(name, known[name], case, rep)
                    rows.append(row)
                    print(
                        f"{case:22} {name:14} rep {rep}  {row.get('rate', 0):>12,.0f}/s  "
                        f"foreign {row.get('foreign_cpu', 0):.2f}  {row['problem'] or ''}",
                        file=sys.stderr,
                        flush=True,
                    )
            bench.clean(f"in-{bench.run_id}")
            bench.inputs.clear()
    finally:
        bench.close()
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
