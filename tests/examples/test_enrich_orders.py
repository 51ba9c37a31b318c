"""Orders and their customers: joined as the table stands when an order comes."""

from __future__ import annotations

import json

import pytest

from examples import enrich_orders
from examples.enrich_orders import Customer, EnrichedOrder, Order, builder
from tests.examples.conftest import Told
from thalweg import StreamsError, TopologyTestDriver, serdes

ANN, BOB = Customer("Ann", "AT"), Customer("Bob", "BE", tier="gold")


def test_an_order_gets_what_is_known_of_its_customer_then() -> None:
    with TopologyTestDriver(builder) as driver:
        customers = driver.create_input_topic("customers", serdes.string, serdes.json(Customer))
        orders = driver.create_input_topic("orders", serdes.string, serdes.json(Order))
        known = driver.create_output_topic(
            "enriched-orders", serdes.string, serdes.json(EnrichedOrder)
        )
        unknown = driver.create_output_topic(
            "orders-without-customer", serdes.string, serdes.json(EnrichedOrder)
        )
        customers.pipe_key_values([("a", ANN), ("b", BOB)])
        orders.pipe_input("1", Order("1", "a", 9.5))
        orders.pipe_input("2", Order("2", "nobody", 1.0))
        customers.pipe_input("a", Customer("Ann", "AT", tier="gold"))
        customers.pipe_input("b", None)
        orders.pipe_input("3", Order("3", "a", 2.0))
        orders.pipe_input("4", Order("4", "b", 3.0))
        assert known.read_key_values_to_list() == [
            ("a", EnrichedOrder("1", 9.5, ANN)),
            ("a", EnrichedOrder("3", 2.0, Customer("Ann", "AT", tier="gold"))),
        ]
        assert unknown.read_key_values_to_list() == [
            ("nobody", EnrichedOrder("2", 1.0, None)),
            ("b", EnrichedOrder("4", 3.0, None)),
        ]


def test_an_order_of_another_shape_is_refused() -> None:
    with TopologyTestDriver(builder) as driver, pytest.raises(StreamsError, match="orders"):
        driver.pipe_raw("orders", b"1", b'{"order_id": 1}', 0)


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    files = {
        "customers.jsonl": json.dumps({"key": "a", "value": {"name": "Ann", "country": "AT"}}),
        "orders.jsonl": "".join(
            json.dumps({"key": n, "value": {"order_id": n, "customer_id": customer, "amount": 2.5}})
            + "\n"
            for n, customer in (("1", "a"), ("2", "nobody"))
        ),
    }
    *_, consumed = told(enrich_orders, files)
    (line,) = consumed.splitlines()
    assert '"order_id":"1"' in line
    assert '"name":"Ann"' in line
