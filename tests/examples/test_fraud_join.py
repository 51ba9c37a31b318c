"""Payments joined in time: with each other, and with what approves them."""

from __future__ import annotations

import json

from examples import fraud_join
from examples.fraud_join import Alert, Approval, Payment, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, serdes

BASE_MS = 1_700_000_000_000
MINUTE_MS = 60_000


class Run:
    """The example's topics, in a test driver."""

    def __init__(self, driver: TopologyTestDriver) -> None:
        self.payments = driver.create_input_topic("payments", serdes.string, serdes.json(Payment))
        self.approvals = driver.create_input_topic(
            "approvals", serdes.string, serdes.json(Approval)
        )
        self.alerts = driver.create_output_topic("alerts", serdes.string, serdes.json(Alert))

    def pay(self, card: str, payment_id: str, country: str, at_ms: int) -> None:
        self.payments.pipe_input(card, Payment(payment_id, country, 10.0), BASE_MS + at_ms)

    def approve(self, payment_id: str, at_ms: int) -> None:
        self.approvals.pipe_input(payment_id, Approval("phone"), BASE_MS + at_ms)


def test_payments_in_two_countries_within_ten_minutes_are_told_once() -> None:
    with TopologyTestDriver(builder) as driver:
        run = Run(driver)
        run.pay("1", "a", "AT", 0)
        run.pay("2", "b", "BE", 1)
        run.pay("1", "d", "FR", 10 * MINUTE_MS)
        run.pay("1", "c", "AT", 5 * MINUTE_MS)  # out of order
        run.pay("1", "e", "AT", 10 * MINUTE_MS + 1)
        found = [one for one in run.alerts.read_key_values_to_list() if "to" in one[1].kind.split()]
        assert found == [
            ("1", Alert("AT to FR", ("a", "d"), 20.0)),
            ("1", Alert("AT to FR", ("c", "d"), 20.0)),
            ("1", Alert("FR to AT", ("d", "e"), 20.0)),
        ]


def test_a_payment_is_told_when_its_approval_does_not_come() -> None:
    with TopologyTestDriver(builder) as driver:
        run = Run(driver)
        run.pay("1", "a", "AT", 0)
        run.pay("2", "b", "AT", 1_000)
        run.pay("3", "c", "AT", 2_000)
        run.approve("a", 2 * MINUTE_MS)
        run.pay("9", "y", "AT", 2 * MINUTE_MS + 20_000)
        run.approve("b", 2 * MINUTE_MS)  # late, and within the grace
        assert run.alerts.is_empty
        run.pay("9", "z", "AT", 2 * MINUTE_MS + 32_001)
        assert run.alerts.read_key_values_to_list() == [("3", Alert("not approved", ("c",), 10.0))]


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    payments = (
        ("1", "a", "AT", "2026-01-01T00:00:00Z"),
        ("1", "b", "FR", "2026-01-01T00:01:00Z"),
        ("2", "c", "AT", "2026-01-01T00:09:00Z"),
    )
    files = {
        "payments.jsonl": "".join(
            json.dumps(
                {
                    "key": card,
                    "value": {"payment_id": payment, "country": country, "amount": 2.5},
                    "timestamp": at,
                }
            )
            + "\n"
            for card, payment, country, at in payments
        ),
        "approvals.jsonl": json.dumps(
            {"key": "a", "value": {"device": "phone"}, "timestamp": "2026-01-01T00:00:10Z"}
        ),
    }
    *_, consumed = told(fraud_join, files)
    assert '"kind":"AT to FR"' in consumed
    assert '"kind":"not approved","payment_ids":["b"]' in consumed
    assert len(consumed.splitlines()) == 2
