"""Page views: counted by the minute they happened in, late ones dropped and counted as such."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from examples import page_views
from examples.page_views import PageCount, View, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, serdes

NOON_MS = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1_000)


def view(page: str, seconds: float) -> View:
    return View("ann", page, NOON_MS + int(seconds * 1_000))


def test_views_count_in_the_minute_they_happened() -> None:
    with TopologyTestDriver(builder) as driver:
        views = driver.create_input_topic("page-views", serdes.string, serdes.json(View))
        rows = driver.create_output_topic(
            "views-per-minute-rows", serdes.string, serdes.json(PageCount)
        )
        for page, seconds in (("/", 0), ("/a", 10), ("/", 59), ("/", 60), ("/", 30)):
            views.pipe_value(view(page, seconds))
        assert rows.read_key_values_to_list() == [
            ("/", PageCount("/", "2026-01-01 12:00", 1)),
            ("/a", PageCount("/a", "2026-01-01 12:00", 1)),
            ("/", PageCount("/", "2026-01-01 12:00", 2)),
            ("/", PageCount("/", "2026-01-01 12:01", 1)),
            ("/", PageCount("/", "2026-01-01 12:00", 3)),
        ]


def test_late_views_are_taken_for_ten_seconds_and_then_dropped() -> None:
    with TopologyTestDriver(builder) as driver:
        views = driver.create_input_topic("page-views", serdes.string, serdes.json(View))
        rows = driver.create_output_topic(
            "views-per-minute-rows", serdes.string, serdes.json(PageCount)
        )
        views.pipe_value(view("/", 0))
        views.pipe_value(view("/", 69.9))
        views.pipe_value(view("/", 59.9))
        assert driver.dropped_records_total() == 0
        assert rows.read_values_to_list()[-1] == PageCount("/", "2026-01-01 12:00", 2)
        views.pipe_value(view("/", 70))
        views.pipe_value(view("/", 59.9))
        assert driver.dropped_records_total() == 1
        assert rows.read_values_to_list() == [PageCount("/", "2026-01-01 12:01", 2)]
        store = driver.get_state_store("views-per-minute")
        assert store.fetch("/", NOON_MS).value == 2


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    lines = "".join(
        json.dumps({"value": {"user": "ann", "page": page, "at_ms": NOON_MS + at_ms}}) + "\n"
        for page, at_ms in (("/home", 0), ("/", 1), ("/home", 2), ("/home", 70_000), ("/home", 3))
    )
    _, _, found = told(page_views, {"views.jsonl": lines})
    assert [line.split()[-1] for line in found.splitlines() if "2026-01-01" in line] == ["2", "1"]
