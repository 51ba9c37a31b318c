"""Orders and the rates of their currencies: joined again whenever either changes."""

from __future__ import annotations

import json

from examples import currency
from examples.currency import Order, Rate, Worth, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, serdes


def test_what_orders_are_worth_follows_orders_and_rates() -> None:
    with TopologyTestDriver(builder) as driver:
        orders = driver.create_input_topic("orders", serdes.string, serdes.json(Order))
        rates = driver.create_input_topic("rates", serdes.string, serdes.json(Rate))
        worths = driver.create_output_topic("worths", serdes.string, serdes.json(Worth))
        customers = driver.create_output_topic("worth-of-customers", serdes.string, serdes.int64)

        rates.pipe_key_values([("EUR", Rate(1.0)), ("USD", Rate(2.0))])
        orders.pipe_key_values([("1", Order("ann", 3.0, "EUR")), ("2", Order("ann", 4.0, "USD"))])
        orders.pipe_input("3", Order("bob", 5.0, "XYZ"))
        assert worths.read_key_values_to_map() == {"1": Worth("ann", 300), "2": Worth("ann", 200)}
        assert customers.read_key_values_to_map() == {"ann": 500}

        rates.pipe_input("USD", Rate(1.6))
        rates.pipe_input("XYZ", Rate(10.0))
        assert worths.read_key_values_to_map() == {"2": Worth("ann", 250), "3": Worth("bob", 50)}
        assert customers.read_key_values_to_map() == {"ann": 550, "bob": 50}

        orders.pipe_input("1", Order("ann", 3.2, "USD"))
        orders.pipe_input("2", None)
        assert worths.read_key_values_to_list()[-1] == ("2", None)
        assert customers.read_key_values_to_map() == {"ann": 200}


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    files = {
        "rates.jsonl": json.dumps({"key": "USD", "value": {"per_euro": 2.0}}),
        "orders.jsonl": "".join(
            json.dumps(
                {"key": n, "value": {"customer": "ann", "amount": amount, "currency": "USD"}}
            )
            + "\n"
            for n, amount in (("1", 3.0), ("2", 4.5))
        ),
    }
    *_, consumed = told(currency, files)
    *_, last = consumed.splitlines()
    assert "ann" in last
    assert "375" in last
