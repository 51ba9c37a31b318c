"""Runs many seeds: python -m tests.differential FIRST LAST [--only OPERATION …]."""

from __future__ import annotations

import argparse
import json
import logging
import sys

from tests.differential.compare import Plan, difference, ours, smallest
from tests.differential.grammar import OPERATIONS, plan_of
from tests.differential.oracle import Oracle
from tests.differential.scripts import java_command, python_script


def made_small(oracle: Oracle, plan: Plan, found: str) -> Plan:
    """Makes a plan small that differs in the same respect: build, describe, step, dropped, error."""
    respect = found.split(":", maxsplit=1)[0].split(" ", maxsplit=1)[0]

    def fails(plan: Plan) -> bool:
        told = difference(oracle.run(plan), ours(plan))
        return told is not None and told.split(":")[0].split(" ")[0] == respect

    return smallest(plan, fails)


def main() -> int:
    """Runs the seeds and prints each that differs, made small."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int, nargs="?", default=1)
    parser.add_argument("last", type=int, nargs="?", default=100)
    parser.add_argument("--jvm", metavar="PLAN", help="print what the JVM makes of one plan")
    parser.add_argument("--whole", action="store_true", help="do not make failing plans small")
    parser.add_argument("--most", type=int, default=5, help="stop after so many that differ")
    asked = parser.parse_args()
    if asked.jvm:
        with Oracle() as oracle:
            print(json.dumps(oracle.run(json.loads(asked.jvm)), indent=1))
        return 0
    logging.disable()
    failed = 0
    refused = 0
    with Oracle() as oracle:
        for seed in range(asked.first, asked.last + 1):
            plan: Plan = plan_of(seed, OPERATIONS)
            theirs = oracle.run(plan)
            refused += "build_error" in theirs
            found = difference(theirs, ours(plan))
            if found is None:
                continue
            failed += 1
            if not asked.whole:
                plan = made_small(oracle, plan, found)
                found = difference(oracle.run(plan), ours(plan)) or found
            print(
                f"# seed {seed} differs\n{python_script(plan)}\n\n{java_command(plan)}\n\n{found}\n"
            )
            sys.stdout.flush()
            if failed >= asked.most:
                break
    print(f"{asked.last - asked.first + 1} seeds, {refused} refused, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
