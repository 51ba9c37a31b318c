"""Real worker processes under a real supervisor; what they run is trivial."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Queue

import pytest

from tests.waiting import HANG_S
from thalweg.streams.processes.restart_policy import (
    DONE,
    FAILED,
    REFUSED,
    SHUT_DOWN,
    STOPPED_AT_ONCE,
    RestartPolicy,
)
from thalweg.streams.processes.supervisor import (
    SUPERVISOR_VARIABLE,
    numbered,
    stop_with_supervisor,
    supervise,
)

QUICK = RestartPolicy(pause_ms=10, pause_most_ms=20, crashes_most=2, stop_ms=HANG_S * 1_000)

# A worker that works until it is asked to stop; says so at both ends.
STEADY = """
import os, signal, sys
from thalweg.streams.processes.supervisor import stop_with_supervisor
# Blocked first: a signal that came between a check and pause() would be slept through.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
stop_with_supervisor()
print("up", os.getpid(), flush=True)
signal.sigwait([signal.SIGTERM])
print("bye", flush=True)
"""


def python(code: str, *arguments: str) -> list[str]:
    """Returns the command line of a worker."""
    return [sys.executable, "-c", code, *arguments]


class Heard:
    """Collects lines of workers, and lets a test wait for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()

    def __call__(self, line: bytes) -> None:
        self.lines.append(line.decode())
        self._queue.put(line.decode())

    def wait(self) -> str:
        """Returns the next line."""
        return self._queue.get(timeout=HANG_S)


class Supervised:
    """A supervisor in a process of its own, as `thalweg run` is one."""

    CODE = """
import logging, sys
from thalweg.streams.processes.supervisor import supervise
from thalweg.streams.processes.restart_policy import RestartPolicy
logging.basicConfig(level=logging.INFO, format="supervisor: %(message)s")
sys.exit(supervise(
    lambda worker: [sys.executable, "-c", sys.argv[1], str(worker)], int(sys.argv[2]),
    policy=RestartPolicy(pause_ms=10, pause_most_ms=20, crashes_most=3, stop_ms=float(sys.argv[3])),
))
"""

    def __init__(self, code: str, count: int, stop_ms: int = 30_000) -> None:
        self.process = subprocess.Popen(
            python(self.CODE, code, str(count), str(stop_ms)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, count: int) -> dict[int, int]:
        """Waits until so many workers are up and returns their process ids."""
        assert self.process.stdout is not None
        found: list[int] = []
        while len(found) < count:
            word, _, pid = self.process.stdout.readline().partition(" ")
            assert word in ("up", "bye\n"), word
            found += [int(pid)] if word == "up" else []
        return dict(enumerate(found))

    def end(self) -> tuple[int, str, str]:
        """Waits for the end and returns exit code, output and log."""
        out, log = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, out, log


def wait_until_gone(pids: Sequence[int]) -> None:
    """Waits for processes that are not children of this one."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            gone, _, _ = select.select([process], [], [], HANG_S)
            assert gone, f"process {pid} is still there"
        finally:
            os.close(process)


def test_workers_that_are_done_end_it() -> None:
    output, log = Heard(), Heard()

    code = supervise(
        lambda worker: python("import sys; print('out', sys.argv[1])", str(worker)),
        3,
        write_log=log,
        write_output=output,
    )

    assert code == DONE
    assert sorted(output.lines) == ["out 1\n", "out 2\n", "out 3\n"]
    assert log.lines == []


def test_one_log_of_all_with_their_numbers() -> None:
    worker = """
import sys
print('12:00:00.123 WARNING app: text', file=sys.stderr)
print('{"level":"info","message":"json"}', file=sys.stderr)
sys.stderr.write('no end of line')
"""
    log = Heard()

    assert supervise(lambda _w: python(worker), 2, write_log=log, write_output=log) == DONE

    for number in (1, 2):
        mine = [line for line in log.lines if line.startswith(f"[{number}]")]
        assert mine == [
            f"[{number}] 12:00:00.123 WARNING app: text\n",
            f"[{number}] no end of line\n",
        ]
    rows = [json.loads(line) for line in log.lines if line.startswith("{")]
    assert sorted(row["worker"] for row in rows) == [1, 2]
    assert all(row["message"] == "json" for row in rows)


def test_a_line_of_json_stays_json() -> None:
    assert numbered(b'{"a":1}\n', 7) == b'{"worker":7,"a":1}\n'
    assert numbered(b"{} is no log line\n", 7) == b"[7] {} is no log line\n"
    assert numbered(b"\n", 7) == b"[7] \n"


def test_a_worker_that_crashes_is_started_again_until_it_is_too_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Heard()
    worker = "import sys; print('dying', file=sys.stderr); sys.exit(1)"

    code = supervise(lambda _w: python(worker), 1, policy=QUICK, write_log=log, write_output=log)

    assert code == FAILED
    assert log.lines == ["[1] dying\n"] * 3
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "started again" in line] == [
        f"worker 1 ended with exit code 1; it is started again in 0.0 s (crash {n} of at most 2 in "
        "10 minutes)"
        for n in (1, 2)
    ]
    assert told[-1] == (
        "worker 1 ended with exit code 1: 3 crashes in 10 minutes; all workers are stopped"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (REFUSED, "worker 2 cannot run as it is asked to, and says above why"),
        (SHUT_DOWN, "worker 2 says that the whole application is to stop"),
    ],
)
def test_a_worker_that_is_refused_stops_the_others(
    caplog: pytest.LogCaptureFixture, code: int, said: str
) -> None:
    output = Heard()

    ended = supervise(
        lambda worker: python(STEADY if worker == 1 else f"import sys; sys.exit({code})"),
        2,
        write_log=output,
        write_output=output,
    )

    assert ended == code
    assert said in caplog.text


def test_a_killed_worker_is_started_again_and_the_others_go_on() -> None:
    supervised = Supervised(STEADY, 2)
    first = supervised.pids(2)

    os.kill(first[0], signal.SIGKILL)
    again = supervised.pids(1)
    os.kill(first[1], 0)
    supervised.process.send_signal(signal.SIGTERM)
    code, out, log = supervised.end()

    assert code == DONE
    assert out.count("bye") == 2
    assert "was ended by SIGKILL; it is started again" in log
    wait_until_gone([*first.values(), *again.values()])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_all_cleanly(number: signal.Signals) -> None:
    supervised = Supervised(STEADY, 3)
    pids = supervised.pids(3)

    supervised.process.send_signal(number)
    code, out, log = supervised.end()

    assert code == DONE
    assert out.count("bye") == 3
    assert f"stopping the workers: {number.name}" in log
    wait_until_gone(list(pids.values()))


DEAF = STEADY.replace('"bye"', '"not yet"') + "signal.sigwait([signal.SIGTERM])\n"


def test_a_worker_that_does_not_stop_is_killed_in_the_end() -> None:
    supervised = Supervised(DEAF, 1, stop_ms=200)
    pids = supervised.pids(1)

    supervised.process.send_signal(signal.SIGTERM)
    code, _, _ = supervised.end()

    assert code == STOPPED_AT_ONCE
    wait_until_gone(list(pids.values()))


def test_a_second_signal_kills_at_once() -> None:
    supervised = Supervised(DEAF, 2)
    pids = supervised.pids(2)

    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.stdout is not None
    assert supervised.process.stdout.readline() == "not yet\n"
    supervised.process.send_signal(signal.SIGTERM)
    code, _, _ = supervised.end()

    assert code == STOPPED_AT_ONCE
    wait_until_gone(list(pids.values()))


def test_workers_stop_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.touch()
    worker = STEADY.replace('print("bye", flush=True)', f'open({str(said)!r}, "a").write("bye ")')
    supervised = Supervised(worker, 2)
    pids = supervised.pids(2)

    supervised.process.kill()
    supervised.end()
    wait_until_gone(list(pids.values()))

    assert said.read_text() == "bye bye "


def test_what_a_worker_starts_is_none_of_the_supervisors_children() -> None:
    worker = f"""
import os, subprocess, sys
from thalweg.streams.processes.supervisor import stop_with_supervisor
stop_with_supervisor()
print({SUPERVISOR_VARIABLE!r} in os.environ, flush=True)
"""
    output = Heard()

    assert supervise(lambda _w: python(worker), 1, write_log=output, write_output=output) == DONE

    assert output.lines == ["False\n"]


def test_a_process_without_a_supervisor_listens_to_nobody() -> None:
    threads = threading.active_count()

    assert stop_with_supervisor() is False

    assert threading.active_count() == threads


def test_a_reader_that_has_gone_does_not_hold_the_workers_up() -> None:
    def broken(_line: bytes) -> None:
        raise BrokenPipeError

    worker = (
        "import sys; sys.stdout.write('x' * 300_000 + chr(10)); sys.stdout.write('y' * 300_000)"
    )

    assert supervise(lambda _w: python(worker), 1, write_log=broken, write_output=broken) == DONE
