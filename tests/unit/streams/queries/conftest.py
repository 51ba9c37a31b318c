"""The application that is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.streams.queries.asked import feed, idle, made_app
from thalweg import App


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application that has processed its input and answers over HTTP."""
    app = made_app(tmp_path_factory.mktemp("state"), application_server="127.0.0.1:0")
    feed(app)
    with app:
        idle(app)
        yield app
