"""Imported by the scripts of workers: a clean stop may take as long as a busy machine makes it take.

Without it a worker ends with 130 after ten seconds, and its supervisor kills it after fifteen: a
test would fail for the load of the machine.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial

import thalweg.streams.app
from tests.waiting import HANG_S
from thalweg.streams.processes import restart_policy

# Tests import some of these scripts for their topology: their own process keeps its bounds.
if "pytest" not in sys.modules:
    vars(thalweg.streams.app)["CLOSE_TIMEOUT"] = timedelta(seconds=HANG_S)
    vars(restart_policy)["RestartPolicy"] = partial(
        restart_policy.RestartPolicy, stop_ms=HANG_S * 1_000
    )
