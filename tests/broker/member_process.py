"""A member in a process of its own: `python -m tests.broker.member_process <group> <source>`.

Settings of the connection come as JSON on standard input. It tells what it runs, a line of
JSON whenever that changes, until standard input ends; then it leaves.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from tests.broker.members import Owner
from thalweg.rebalance.events import Lost


def main() -> None:
    """Runs the member."""
    group, source = sys.argv[1:]
    configs = json.loads(sys.stdin.readline())
    is_over = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=watch, daemon=True).start()
    told = ""
    with Owner(configs, group, source) as owner:
        while not is_over.is_set():
            owner.turn()
            losses = [event.reason for event in owner.told(Lost)]
            line = json.dumps({"runs": sorted(map(str, owner.active)), "losses": losses})
            if line != told:
                told = line
                print(line, flush=True)
            time.sleep(0.02)


if __name__ == "__main__":
    main()
