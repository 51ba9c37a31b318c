"""Every scenario, and that the data and the topologies belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.registry import TOPOLOGIES
from tests.scenarios.runner import Scenario, load_scenarios, run

SCENARIOS = load_scenarios()
DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"


@pytest.mark.parametrize(
    "scenario", [pytest.param(scenario, id=scenario.id) for scenario in SCENARIOS]
)
def test_scenario(scenario: Scenario) -> None:
    """The topology does what Kafka's own test says."""
    if "different" in scenario.data:
        pytest.skip(scenario.data["different"])
    run(scenario)


def test_every_topology_has_a_scenario() -> None:
    """No builder is left over."""
    assert {scenario.data["topology"] for scenario in SCENARIOS} == set(TOPOLOGIES)


def test_names_are_unique() -> None:
    """No scenario hides another."""
    names = [scenario.id for scenario in SCENARIOS]
    assert len(names) == len(set(names))


def test_differences_are_told() -> None:
    """What is not run has its reason in docs/differences.md."""
    told = DIFFERENCES.read_text(encoding="utf-8")
    sentences = {
        scenario.data["different"] for scenario in SCENARIOS if "different" in scenario.data
    }
    assert not {sentence for sentence in sentences if sentence not in told}
