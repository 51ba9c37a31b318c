"""Every scenario, and that the data and the topologies belong together."""

from __future__ import annotations

import pytest

from tests.scenarios.registry import TOPOLOGIES
from tests.scenarios.runner import Scenario, load_scenarios, run

SCENARIOS = load_scenarios()


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
