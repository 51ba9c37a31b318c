"""The tables of the documents are whole: every setting, every public name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import thalweg as streams
from tests.docs.documents import DOCUMENTS, ROOT, table_below
from tests.golden.builders import BUILDERS
from tests.house import architecture_tree
from thalweg.stores.serde import Serde
from thalweg.streams.config import StreamsConfig

CONFIGURATION = ROOT / "docs" / "guide" / "configuration.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
OPERATIONS = ROOT / "docs" / "operations.md"


def shown(value: Any) -> str:
    """Returns a default as the table shows it."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str | int | Path):
        return f"`{value}`"
    if isinstance(value, Serde):
        return f"`{value.name}`"
    return f"`{value.__name__}`" if callable(value) else f"`{dict(value)}`"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    defaults = StreamsConfig(application_id="a").as_dict()
    rows = table_below(CONFIGURATION, "settings: checked against streams/config.py")
    told = {name.strip("`"): default for name, default, _ in rows}

    assert list(told) == list(defaults)
    commit = told.pop("commit_interval_ms")
    assert re.findall(r"\d+", commit) == [
        str(StreamsConfig(application_id="a", **others).commit_interval_ms)
        for others in (
            {},
            {"bootstrap_servers": "b:9092"},
            {"bootstrap_servers": "b:9092", "processing_guarantee": "exactly_once_v2"},
        )
    ]
    del defaults["commit_interval_ms"], defaults["application_id"], told["application_id"]
    assert told == {name: shown(value) for name, value in defaults.items()}


def test_every_public_name_has_a_place_in_the_guide() -> None:
    pages = [path for path in DOCUMENTS if path.is_relative_to(ROOT / "docs")]
    guide = "\n".join(path.read_text() for path in pages)

    assert [name for name in streams.__all__ if not re.search(rf"\b{name}\b", guide)] == []


def texts_of_the_code() -> str:
    """Returns every piece of text in the packages: strings, and what stands between braces."""
    pieces = []
    for package in ("streams", "stores", "topology", "rebalance"):
        for path in sorted((ROOT / package).rglob("*.py")):
            pieces += [
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
    return "\n".join(pieces)


def test_messages_in_the_troubleshooting_table_are_real() -> None:
    rows = table_below(OPERATIONS, "messages: checked against the code")
    told = [message for first, *_ in rows for message in re.findall(r"`([^`]+)`", first)]
    texts = texts_of_the_code()

    assert len(told) >= len(rows)
    fragments = [piece.strip() for message in told for piece in message.split("…")]
    assert [piece for piece in fragments if piece not in texts] == []


def test_metrics_named_in_operations_are_listed() -> None:
    listed = (ROOT / "docs" / "metrics.md").read_text()
    rows = set(re.findall(r"kafka_streams_\w+", listed))
    named = set(re.findall(r"kafka_streams_\w+", OPERATIONS.read_text()))

    missing = {
        name
        for name in named - rows
        # A row lists the endings behind its first name.
        if not any(
            f"{name.rpartition('_')[0]}_" in row and f"`_{name.rpartition('_')[2]}`" in listed
            for row in rows
        )
    }
    assert missing == set()


def test_as_many_recorded_cases_are_run_as_the_front_page_says() -> None:
    told = re.search(r"in more than (\d+)\s+recorded cases", (ROOT / "README.md").read_text())
    recorded = {path.stem for path in (ROOT / "tests" / "golden").glob("cases*/*.json")}

    assert told is not None
    assert len(recorded & BUILDERS.keys()) > int(told[1])


def test_the_tree_in_the_architecture_is_that_of_the_code() -> None:
    assert architecture_tree.shown() == architecture_tree.tree(), (
        "draw it anew: python -m tests.house.architecture_tree"
    )
