"""The application that is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.streams.queries.asked import feed, idle, made_app
from thalweg import App
from thalweg.streams.cli import cli


@pytest.fixture
def query() -> Iterator[Callable[..., Any]]:
    """Returns `thalweg query --url` of an application; logging is put back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(app: App, *arguments: str) -> Any:
        return CliRunner().invoke(cli, ["query", "--url", f"http://{app.endpoint}", *arguments])

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application that has processed its input and answers over HTTP."""
    app = made_app(tmp_path_factory.mktemp("state"), application_server="127.0.0.1:0")
    feed(app)
    with app:
        idle(app)
        yield app
