"""`thalweg status` against a running application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.queries.asked import PARTITIONS, feed, idle, made_app
from thalweg import App

Thalweg = Callable[..., Any]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """Returns an application that has processed its input and answers over HTTP."""
    app = made_app(tmp_path / "state", application_server="127.0.0.1:0")
    feed(app)
    with app:
        idle(app)
        yield app


def test_a_table_of_tasks_and_a_summary(app: App, thalweg: Thalweg) -> None:
    result = thalweg("status", str(app.endpoint))

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("\t")[:4] == ["instance", "state", "task", "is"]
    assert len(lines) == 1 + 4 * PARTITIONS
    assert lines[1].startswith(f"{app.endpoint}\tRUNNING\t0_0\trunning\t")
    assert "asked: 1 instance · 16 tasks · lag 0" in result.stderr


def test_as_json(app: App, thalweg: Thalweg) -> None:
    result = thalweg("status", f"http://{app.endpoint}/", "--json")

    read = json.loads(result.stdout)
    assert read["application_id"] == "asked"
    assert len(read["instances"][0]["tasks"]) == 4 * PARTITIONS


def test_a_script_may_say_where(
    app: App, thalweg: Thalweg, script: Callable[[str, str], str]
) -> None:
    path = script(
        "served.py",
        "from thalweg import App, StreamsBuilder\n"
        "builder = StreamsBuilder()\n"
        "builder.stream('in').to('out')\n"
        f"app = App(builder, application_id='asked', application_server='{app.endpoint}')\n",
    )

    assert thalweg("status", path).exit_code == 0
    refused = thalweg("status", path, "--set", "application_server=127.0.0.1:0")
    assert refused.exit_code == 2
    assert "takes a free port" in refused.stderr or "take a free port" in refused.stderr


def test_a_script_without_an_address_is_refused(thalweg: Thalweg, word_count: str) -> None:
    result = thalweg("status", word_count)

    assert result.exit_code == 2
    assert "has no application_server" in result.stderr
    assert "give HOST:PORT" in result.stderr


def test_nobody_there(thalweg: Thalweg) -> None:
    result = thalweg("status", "127.0.0.1:1")

    assert result.exit_code == 1
    assert "no worker answers at 127.0.0.1:1" in result.stderr
