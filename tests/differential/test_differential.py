"""A hundred random topologies, run by the JVM and by us; `make fuzz SEEDS=20000` runs more."""

from __future__ import annotations

import pytest

from tests.differential.compare import difference, ours
from tests.differential.grammar import plan_of
from tests.differential.oracle import Oracle
from tests.differential.scripts import java_command, python_script

SEEDS = range(1, 101)


@pytest.mark.filterwarnings("ignore")  # what a random topology is warned of
def test_random_topologies_do_what_they_do_on_the_jvm() -> None:
    with Oracle() as oracle:
        for seed in SEEDS:
            plan = plan_of(seed)
            found = difference(oracle.run(plan), ours(plan))
            assert found is None, (
                f"seed {seed}: python -m tests.differential {seed} {seed} makes it small\n"
                f"{python_script(plan)}\n{java_command(plan)}\n{found}"
            )
