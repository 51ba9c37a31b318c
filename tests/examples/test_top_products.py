"""Top products: views and purchases in one score, told once when the hour is over."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from examples import top_products
from examples.top_products import Purchase, Score, View, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, serdes

NOON_MS = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1_000)
MINUTE_MS = 60_000


def test_an_hour_is_ranked_when_it_is_over() -> None:
    with TopologyTestDriver(builder) as driver:
        views = driver.create_input_topic("views", serdes.string, serdes.json(View))
        purchases = driver.create_input_topic("purchases", serdes.string, serdes.json(Purchase))
        lists = driver.create_output_topic("top-products", serdes.string, serdes.json(list[Score]))
        for product, minutes in (("pen", 0), ("cup", 1), ("pen", 2), ("hat", 3), ("bag", 4)):
            views.pipe_value(View(product, NOON_MS + minutes * MINUTE_MS))
        purchases.pipe_value(Purchase("cup", 2, NOON_MS + 5 * MINUTE_MS))
        assert lists.queue_size == 0

        # Both streams have left the hour, and the time in which late records count.
        views.pipe_value(View("pen", NOON_MS + 66 * MINUTE_MS))
        purchases.pipe_value(Purchase("pen", 1, NOON_MS + 66 * MINUTE_MS))
        found = lists.read_key_values_to_map()

        assert found == {
            "2026-01-01 12:00": [Score("cup", 1, 2), Score("pen", 2, 0), Score("bag", 1, 0)]
        }
        views.pipe_value(View("cup", NOON_MS))
        assert driver.dropped_records_total() == 1


def lines(*values: dict[str, object]) -> str:
    return "".join(json.dumps({"value": value}) + "\n" for value in values)


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    def at(product: str, minutes: int, **more: int) -> dict[str, object]:
        return {"product": product, **more, "at_ms": NOON_MS + minutes * MINUTE_MS}

    views = lines(at("pen", 0), at("cup", 1), at("pen", 2), at("pen", 70))
    purchases = lines(at("cup", 1, pieces=1), at("cup", 70, pieces=1))
    *_, found = told(top_products, {"views.jsonl": views, "purchases.jsonl": purchases})

    last = found.splitlines()[-1]
    assert "2026-01-01 12:00" in last
    assert last.index("cup") < last.index("pen")
