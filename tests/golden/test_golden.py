"""Every golden case: the names of its topology, its records, its restoration."""

from __future__ import annotations

import pytest

from tests.golden.builders import BUILDERS
from tests.golden.names import check_bytes, check_names
from tests.golden.runner import Case, check_records, check_restoration


def test_names(case: Case) -> None:
    """The topology, its description and its bytes are the JVM's, or it is refused."""
    check_names(case, BUILDERS[case.name])


@pytest.mark.needs_bytes
def test_topology_bytes(case: Case) -> None:
    """Subtopologies have the JVM's bytes, those included that no builder here makes."""
    check_bytes(case)


@pytest.mark.needs_steps
def test_records(case: Case) -> None:
    """Each step produces, drops, commits and stores what it does in the JVM."""
    check_records(case, BUILDERS[case.name])


@pytest.mark.needs_changelog
def test_restoration(case: Case) -> None:
    """A changelog of the JVM restores the stores."""
    check_restoration(case, BUILDERS[case.name])
