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
from tests.broker.outages import CLOSED_S, Outage, affected, meet

ALL = "OUTAGES"
CORE = [Outage("kill", 12)]
MATRIX = [Outage(how, seconds) for how in ("kill", "stop") for seconds in (3, 8, 12, 20, 60)]


@pytest.mark.timeout(3_000)
def test_no_worker_ends_of_an_outage(broker: Broker, tmp_path: Path) -> None:
    is_torture = bool(os.environ.get(ALL))
    with affected(broker, tmp_path) as all_of_them:
        for outage in MATRIX if is_torture else CORE:
            meet(broker, outage, all_of_them)
            closed_s = [one.closed_s for one in all_of_them if one.closed_s is not None]
            print(
                f"outage {outage}: met by {len(all_of_them)}, closed in "
                f"{max(closed_s):.1f} s at most",
                flush=True,
            )
            assert not is_torture or max(closed_s) < CLOSED_S
