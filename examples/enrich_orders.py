"""Joins orders with the customers who placed them: a stream with a table, typed structs.

Each order is joined with the row that the table has for its customer at that moment. Orders of
unknown customers go to another topic.

    thalweg produce customers --json < customers.jsonl
    thalweg produce orders --json < orders.jsonl
    thalweg run examples/enrich_orders.py --until-idle
    thalweg consume enriched-orders
"""

from __future__ import annotations

import msgspec

from thalweg import App, StreamsBuilder, serdes


class Customer(msgspec.Struct, frozen=True):
    """Who orders; the key is the customer's id."""

    name: str
    country: str
    tier: str = "standard"


class Order(msgspec.Struct, frozen=True):
    """What was ordered; the key is the order's id."""

    order_id: str
    customer_id: str
    amount: float


class EnrichedOrder(msgspec.Struct, frozen=True):
    """An order, and what is known of its customer; None where nothing is."""

    order_id: str
    amount: float
    customer: Customer | None


def enrich(order: Order, customer: Customer | None) -> EnrichedOrder:
    """Puts an order and its customer together."""
    return EnrichedOrder(order.order_id, order.amount, customer)


builder = StreamsBuilder()
customers = builder.table(
    "customers",
    key_serde=serdes.string,
    value_serde=serdes.json(Customer),
    name="customers",
)
enriched = (
    builder.stream("orders", key_serde=serdes.string, value_serde=serdes.json(Order))
    .select_key(lambda _order_id, order: order.customer_id)
    .repartition("orders-by-customer", key_serde=serdes.string, value_serde=serdes.json(Order))
    .left_join(customers, enrich)
)
known, unknown = (
    enriched.filter(lambda _customer_id, order: order.customer is not None),
    enriched.filter(lambda _customer_id, order: order.customer is None),
)
known.to("enriched-orders", key_serde=serdes.string, value_serde=serdes.json(EnrichedOrder))
unknown.to(
    "orders-without-customer", key_serde=serdes.string, value_serde=serdes.json(EnrichedOrder)
)
app = App(builder, application_id="enrich-orders")

if __name__ == "__main__":
    app.run()
