"""Several thalweg workers in the race: as many processes, each a member of the same group.

Owns their start, when they are through with the input together, and their common report. Each
runs `bench.race.job` with `threads=1 shares=1`: it says how far it is until its input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

STILL_S = 0.5
"""Nothing moves for so long: records on their way from one worker to another have arrived."""

LOOK_S = 0.01


class Share:
    """One worker process and what it said last."""

    def __init__(self, number: int, options: dict[str, str]) -> None:
        own = options | {
            "threads": "1",
            "shares": "1",
            "state_dir": f"{options['state_dir']}/{number}",
        }
        self.said: dict[str, Any] = {}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.race.job",
                *(f"{name}={value}" for name, value in own.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said = json.loads(line)

    def finish(self) -> dict[str, Any]:
        """Lets it commit and close, and returns its report."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.wait(60) != 0:
            message = f"a worker ended with exit code {self.process.returncode}"
            raise RuntimeError(message)
        self._listener.join(10)
        return self.said


def run(options: dict[str, str], count: int) -> dict[str, Any]:
    """Runs `count` workers through one workload and returns the report of all.

    Raises:
        RuntimeError: a worker failed.
    """
    expected = int(options["expected"])
    shares = [Share(number, options) for number in range(count)]
    try:
        moments = wait(shares, expected)
        reports = [share.finish() for share in shares]
    finally:
        for share in shares:
            share.process.kill()
            share.process.wait()
    first = min(report["first_ts"] for report in reports if "first_ts" in report)
    return moments | {
        "first_ts": first,
        "done_ts": time.time(),
        "processed_by": [report["processed"] for report in reports],
        "peak_mib": sum(report["peak_mib"] for report in reports),
    }


def wait(shares: Iterable[Share], expected: int) -> dict[str, float]:
    """Waits until the input is through and nothing moves any more."""
    moments: dict[str, float] = {}
    last, moved = -1, time.time()
    while True:
        said = [share.said for share in shares]
        total, now = sum(one.get("processed", 0) for one in said), time.time()
        for name, part in (("t10_ts", 0.1), ("t90_ts", 0.9), ("processed_ts", 1)):
            if total >= expected * part:
                moments.setdefault(name, now)
        if total != last:
            last, moved = total, now
        is_through = total >= expected and all(one.get("lag") == 0 for one in said)
        if is_through and now - moved > STILL_S:
            return moments
        if any(share.process.poll() is not None for share in shares):
            message = "a worker ended before the input did"
            raise RuntimeError(message)
        time.sleep(LOOK_S)
