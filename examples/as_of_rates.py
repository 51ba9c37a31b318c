"""Converts payments by the exchange rate of their time: a stream with a versioned table.

A payment may arrive long after it was made, when its currency already has another rate. It is
converted by the rate that was valid when it was made, up to a day back. A correction of a former
rate applies to payments that arrive after it.

    thalweg produce rates --json < rates.jsonl
    thalweg produce payments --json < payments.jsonl
    thalweg run examples/as_of_rates.py --until-idle
    thalweg consume converted-payments
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from thalweg import App, KTable, Materialized, StreamsBuilder, serdes, versioned_store


class Payment(msgspec.Struct, frozen=True):
    """What was paid; the record has the time at which it was."""

    payment_id: str
    currency: str
    amount: float


class Converted(msgspec.Struct, frozen=True):
    """A payment in dollars; None where no rate was known at its time."""

    payment_id: str
    dollars: float | None


def convert(payment: Payment, rate: float | None) -> Converted:
    """Converts a payment by the rate of its time."""
    dollars = None if rate is None else round(payment.amount * rate, 2)
    return Converted(payment.payment_id, dollars)


builder = StreamsBuilder()
rates: KTable[str, float] = builder.table(
    "rates",
    materialized=Materialized(
        store=versioned_store(
            "rates", timedelta(days=1), key_serde=serdes.string, value_serde=serdes.json(float)
        )
    ),
    name="rates",
)
(
    builder.stream("payments", key_serde=serdes.string, value_serde=serdes.json(Payment))
    .select_key(lambda _payment_id, payment: payment.currency)
    .repartition("payments-by-currency", key_serde=serdes.string, value_serde=serdes.json(Payment))
    .left_join(rates, convert)
    .to("converted-payments", key_serde=serdes.string, value_serde=serdes.json(Converted))
)
app = App(builder, application_id="as-of-rates")

if __name__ == "__main__":
    app.run()
