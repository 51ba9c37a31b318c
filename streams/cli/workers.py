"""`thalweg run --workers N`: the command lines of the worker processes.

Owns which options the workers share with the typed command, and which are their own: the directory
of their state and their port. The supervisor keeps them running.

    --state-dir DIR                        DIR/worker-1 … DIR/worker-N
    application_server = HOST:PORT         HOST:PORT … HOST:PORT+N-1; port 0 stays 0
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from thalweg.streams.config import StreamsConfig
from thalweg.streams.queries.metadata import endpoint_of

_DIRECTORY: Final = "worker-"


def worker_command(
    script: str, options: Sequence[str], config: StreamsConfig, worker: int
) -> list[str]:
    """Returns the command line of one worker process.

    Args:
        script: the script as it was typed.
        options: the options as they were typed, without those of workers.
        config: the settings of the application.
        worker: its number, from 1.
    """
    command = [
        sys.executable,
        "-m",
        "thalweg.streams.cli",
        "run",
        script,
        *options,
        "--workers",
        "1",
    ]
    command += ["--state-dir", str(config.state_dir / f"{_DIRECTORY}{worker}")]
    if config.application_server:
        command += ["--set", f"application_server={address_of(config.application_server, worker)}"]
    return command


def state_directories(config: StreamsConfig) -> list[Path]:
    """Returns the state directories in which an application has state, of any number of workers.

    Args:
        config: the settings of the application.
    """
    places = [config.state_dir, *sorted(config.state_dir.glob(f"{_DIRECTORY}[0-9]*"))]
    return [place for place in places if (place / config.application_id).is_dir()]


def address_of(address: str, worker: int) -> str:
    """Returns where a worker answers queries: each has a port of its own.

    Args:
        address: that of the first worker.
        worker: the worker's number, from 1.
    """
    host, port = endpoint_of(address)
    return f"{host}:{port and port + worker - 1}"
