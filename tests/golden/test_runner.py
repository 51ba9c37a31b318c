"""The golden runner itself: which cases it takes, and that a difference on purpose is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.builders import BUILDERS, DESCRIBED, DIFFERENT
from tests.golden.conftest import SHIPPED, shipped_cases

ROOT = Path(__file__).parents[2]
NOTES = {**DIFFERENT, **DESCRIBED}


def test_a_case_of_the_newer_version_wins() -> None:
    old, new = ({path.name for path in directory.glob("*.json")} for directory in SHIPPED)
    found = {case.path.name: case.path.parent for case in shipped_cases()}

    assert set(found) == old | new
    assert old & new
    assert all(found[name] == SHIPPED[1] for name in new)


@pytest.mark.parametrize("name", sorted(NOTES))
def test_a_difference_on_purpose_stands_in_the_documents(name: str) -> None:
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")

    assert NOTES[name] in " ".join(text.split())
    assert name in BUILDERS
