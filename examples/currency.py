"""Converts orders to euros: two tables joined by foreign key, typed structs.

An order names its currency, and the rates of currencies are another table. The value of an order
changes when the order or the rate of its currency changes. A deleted order is removed from the
result. The total of each customer is computed from the values of the orders.

    thalweg produce rates --json < rates.jsonl
    thalweg produce orders --json < orders.jsonl
    thalweg run examples/currency.py --until-idle
    thalweg consume worth-of-customers --value-serde int64
"""

from __future__ import annotations

import msgspec

from thalweg import App, KTable, Materialized, StreamsBuilder, serdes


class Order(msgspec.Struct, frozen=True):
    """What was ordered; the key is the order's id."""

    customer: str
    amount: float
    currency: str


class Rate(msgspec.Struct, frozen=True):
    """How much of a currency an euro is; the key is the currency."""

    per_euro: float


class Worth(msgspec.Struct, frozen=True):
    """What an order is worth in cents of an euro."""

    customer: str
    cents: int


def in_euros(order: Order, rate: Rate) -> Worth:
    """Tells what an order is worth at a rate."""
    return Worth(order.customer, round(100 * order.amount / rate.per_euro))


builder = StreamsBuilder()
orders = builder.table("orders", key_serde=serdes.string, value_serde=serdes.json(Order))
rates = builder.table("rates", key_serde=serdes.string, value_serde=serdes.json(Rate))
worths: KTable[str, Worth] = orders.join(
    rates,
    in_euros,
    foreign_key_extractor=lambda order: order.currency,
    named="with-rate",
    materialized=Materialized("worths", value_serde=serdes.json(Worth)),
)
worths.to_stream().to("worths", value_serde=serdes.json(Worth))
(
    worths.group_by(
        lambda _order_id, worth: (worth.customer, worth.cents),
        name="by-customer",
        key_serde=serdes.string,
        value_serde=serdes.int64,
    )
    .aggregate(
        int,
        lambda _customer, cents, total: total + cents,
        lambda _customer, cents, total: total - cents,
        materialized=Materialized("worth-of-customers", value_serde=serdes.int64),
    )
    .to_stream()
    .to("worth-of-customers", key_serde=serdes.string, value_serde=serdes.int64)
)
app = App(builder, application_id="currency")

if __name__ == "__main__":
    app.run()
