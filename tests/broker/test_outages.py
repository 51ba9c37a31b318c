"""An outage of the broker ends no worker, whatever it is doing: it goes back to the last commit
and on, at the default settings, and exactly-once stays exact.

The normal run has the outage that is longest beside the time-outs of a transaction. `make
torture` has all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.broker.broker import Broker
from tests.broker.outages import Outage, affected, meet

ALL = "OUTAGES"
CORE = [Outage("kill", 12)]
MATRIX = [Outage(how, seconds) for how in ("kill", "stop") for seconds in (3, 8, 12, 20, 60)]


@pytest.mark.timeout(3_000)
def test_no_worker_ends_of_an_outage(broker: Broker, tmp_path: Path) -> None:
    outages = MATRIX if os.environ.get(ALL) else CORE
    with affected(broker, tmp_path) as all_of_them:
        for outage in outages:
            print(f"outage {outage}", flush=True)
            meet(broker, outage, all_of_them)
            closed = [f"{one.closed_s:.1f} s" for one in all_of_them if one.closed_s is not None]
            print(f"outage {outage}: met by {len(all_of_them)}, closed in {closed}", flush=True)
