"""Several worker processes by one command; what they run needs no broker."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import HANG_S
from thalweg.streams.cli.workers import address_of, worker_command
from thalweg.streams.config import StreamsConfig

Started = Callable[..., "subprocess.Popen[str]"]
Script = Callable[[str, str], str]

# An application that says what it was given in place of running.
TELLING = """
import logging, signal, sys
from thalweg import App, StreamsBuilder, serdes

class Telling(App):
    def run(self, **_options):
        # Blocked first: a signal that came between a check and pause() would be slept through.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        config = self.config
        print(config.num_workers, config.state_dir, config.application_server,
              config.commit_interval_ms, flush=True)
        logging.getLogger("app").warning("told")
        {end}

builder = StreamsBuilder()
builder.stream("in", value_serde=serdes.string).to("out", value_serde=serdes.string)
app = Telling(builder, application_id="telling", application_server="localhost:7000")
"""
WAITING = TELLING.format(end="signal.sigwait([signal.SIGTERM])")


def run(started: Started, script: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts two workers of a script."""
    return started(
        *("run", script, "--workers", "2", "--bootstrap-servers", "localhost:9092"), *arguments
    )


def test_each_worker_has_state_and_port_of_its_own(started: Started, script: Script) -> None:
    process = run(
        started,
        script("telling.py", TELLING.format(end="pass")),
        *("--state-dir", "state dir", "--set", "commit_interval_ms=77"),
    )

    output, log = process.communicate(timeout=HANG_S)

    assert process.returncode == 0, log
    assert sorted(output.splitlines()) == [
        "1 state dir/worker-1 localhost:7000 77",
        "1 state dir/worker-2 localhost:7001 77",
    ]
    assert sorted(line[:4] for line in log.splitlines() if "told" in line) == ["[1] ", "[2] "]


def test_a_log_in_json_stays_json(started: Started, script: Script) -> None:
    process = run(started, script("telling.py", TELLING.format(end="pass")), "--log-format", "json")

    _, log = process.communicate(timeout=HANG_S)

    lines = [line for line in log.splitlines() if '"told"' in line]
    assert sorted(line[:12] for line in lines) == ['{"worker":1,', '{"worker":2,']


def test_one_signal_stops_them_all(started: Started, script: Script) -> None:
    process = run(started, script("waiting.py", WAITING))
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline().startswith("1 ")

    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=HANG_S)

    assert process.returncode == 0, log


def test_what_no_worker_can_run_is_refused_once(started: Started, script: Script) -> None:
    broken = TELLING.format(end="raise ConfigError('it cannot run')").replace(
        "import App,", "import App, ConfigError,"
    )
    process = run(started, script("broken.py", broken))

    _, log = process.communicate(timeout=HANG_S)

    assert process.returncode == 2
    assert "it cannot run" in log
    assert "started again" not in log


def test_workers_need_a_cluster(started: Started, script: Script) -> None:
    process = started("run", script("telling.py", TELLING.format(end="pass")), "--workers", "2")

    _, log = process.communicate(timeout=HANG_S)

    assert process.returncode == 2
    assert "num_workers is 2, but one process owns the embedded log" in log


def test_a_command_line_is_what_was_typed_and_what_is_the_workers_own() -> None:
    config = StreamsConfig(
        application_id="a",
        bootstrap_servers="k:1",
        num_workers=3,
        state_dir="s",
        application_server="[::1]:80",
    )

    assert worker_command("app.py:one", ["--set", "a=b"], config, 3) == [
        *(sys.executable, "-m", "thalweg.streams.cli", "run", "app.py:one", "--set", "a=b"),
        *("--workers", "1", "--state-dir", str(Path("s/worker-3"))),
        *("--set", "application_server=[::1]:82"),
    ]
    assert "application_server" not in " ".join(
        worker_command("app.py", [], config.replace(application_server=""), 1)
    )


@pytest.mark.parametrize(
    ("address", "worker", "own"),
    [("h:7000", 1, "h:7000"), ("h:7000", 4, "h:7003"), ("h:0", 1, "h:0"), ("h:0", 2, "h:0")],
)
def test_ports_follow_each_other(address: str, worker: int, own: str) -> None:
    assert address_of(address, worker) == own
