"""Every number of the tiers' contract, and every hazard, is in the name of a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
CONTRACTS = {f"t{number}" for number in range(1, 48)}
HAZARDS = {f"th{number}" for number in range(1, 9)}


def test_every_number_has_a_test() -> None:
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = node.name
                if name.startswith("test_"):
                    found.update(re.findall(r"(?<![a-z0-9])th?\d+(?=_)", name))
    assert (CONTRACTS | HAZARDS) - found == set()
