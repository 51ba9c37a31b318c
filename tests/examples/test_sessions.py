"""Sessions: clicks become visits, late ones join them, and each visit is told once."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from examples import sessions
from examples.sessions import Click, Visit, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, serdes

NOON_MS = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1_000)


def click(user: str, page: str, minutes: float) -> Click:
    return Click(user, page, NOON_MS + int(minutes * 60_000))


def test_a_visit_is_told_once_when_no_click_can_join_it() -> None:
    with TopologyTestDriver(builder) as driver:
        clicks = driver.create_input_topic("clicks", value_serde=serdes.json(Click))
        visits = driver.create_output_topic("visits", serdes.string, serdes.json(Visit))
        for user, page, minutes in (
            ("ann", "/", 0),
            ("bob", "/", 5),
            ("ann", "/cart", 32),
            ("ann", "/shoes", 20),  # late: it brings the two visits of ann together
            ("bob", "/help", 60),
        ):
            clicks.pipe_value(click(user, page, minutes))
        assert visits.read_values_to_list() == [Visit("bob", "2026-01-01 12:05", 0, ["/"])]
        clicks.pipe_value(click("eve", "/", 75.1))
        assert visits.read_values_to_list() == [
            Visit("ann", "2026-01-01 12:00", 1_920, ["/", "/shoes", "/cart"])
        ]


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    lines = "".join(
        json.dumps({"value": {"user": user, "page": page, "at_ms": NOON_MS + at_ms}}) + "\n"
        for user, page, at_ms in (
            ("ann", "/", 0),
            ("ann", "/cart", 60_000),
            ("eve", "/", 3_600_000),
        )
    )
    *_, found = told(sessions, {"clicks.jsonl": lines})
    visits = [json.loads(line)["value"] for line in found.splitlines() if "/cart" in line]
    assert [visit["pages"] for visit in visits] == [["/", "/cart"]]
