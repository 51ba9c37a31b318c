"""Payments and rates: each payment meets the rate of its own time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from examples import as_of_rates
from examples.as_of_rates import Converted, Payment, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, VersionedRecord, serdes


def at(hour: int) -> datetime:
    return datetime(2024, 5, 1, hour, tzinfo=UTC)


def test_a_payment_is_converted_by_the_rate_of_its_time() -> None:
    with TopologyTestDriver(builder) as driver:
        rates = driver.create_input_topic("rates", serdes.string, serdes.json(float))
        payments = driver.create_input_topic("payments", serdes.string, serdes.json(Payment))
        out = driver.create_output_topic(
            "converted-payments", serdes.string, serdes.json(Converted)
        )
        rates.pipe_input("EUR", 1.5, at(8))
        rates.pipe_input("EUR", 2.0, at(12))
        payments.pipe_input("1", Payment("1", "EUR", 10.0), at(13))
        payments.pipe_input("2", Payment("2", "EUR", 10.0), at(9))
        payments.pipe_input("3", Payment("3", "EUR", 10.0), at(7))
        payments.pipe_input("4", Payment("4", "CHF", 10.0), at(13))
        rates.pipe_input("EUR", 1.75, at(10))
        payments.pipe_input("5", Payment("5", "EUR", 10.0), at(11))

        assert out.read_key_values_to_list() == [
            ("EUR", Converted("1", 20.0)),
            ("EUR", Converted("2", 15.0)),
            ("EUR", Converted("3", None)),
            ("CHF", Converted("4", None)),
            ("EUR", Converted("5", 17.5)),
        ]
        store = driver.get_state_store("rates")
        assert store.get("EUR", as_of=at(9)) == VersionedRecord(
            1.5, int(at(8).timestamp() * 1_000), int(at(10).timestamp() * 1_000)
        )


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    def lines(*records: tuple[str, Any, datetime]) -> str:
        return "".join(
            json.dumps({"key": key, "value": value, "timestamp": time.isoformat()}) + "\n"
            for key, value, time in records
        )

    def payment(number: str, hour: int) -> tuple[str, Any, datetime]:
        return number, {"payment_id": number, "currency": "EUR", "amount": 10.0}, at(hour)

    *_, consumed = told(
        as_of_rates,
        {
            "rates.jsonl": lines(("EUR", 1.5, at(8)), ("EUR", 2.0, at(12))),
            "payments.jsonl": lines(payment("1", 13), payment("2", 9)),
        },
    )
    assert sorted(line.partition("payment_id")[2] for line in consumed.splitlines()) == [
        '":"1","dollars":20.0}',
        '":"2","dollars":15.0}',
    ]
