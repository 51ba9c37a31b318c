"""Finds suspicious card payments by joining streams in time: with each other, and with approvals.

Two payments of one card in different countries within ten minutes make an alert: this is a stream
joined with itself. A payment that the card's holder does not approve within two minutes makes an
alert too: this is a left join, which finds missing records. An approval may come half a minute
late.

    thalweg produce payments --json < payments.jsonl
    thalweg produce approvals --json < approvals.jsonl
    thalweg run examples/fraud_join.py --until-idle
    thalweg consume alerts
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from thalweg import App, JoinWindows, StreamJoined, StreamsBuilder, serdes


class Payment(msgspec.Struct, frozen=True):
    """A payment; the key is the card's number."""

    payment_id: str
    country: str
    amount: float


class Approval(msgspec.Struct, frozen=True):
    """The holder's word for a payment; the key is the payment's id."""

    device: str


class Alert(msgspec.Struct, frozen=True):
    """Something to look at; the key is the card's number."""

    kind: str
    payment_ids: tuple[str, ...]
    amount: float


class Checked(msgspec.Struct, frozen=True):
    """A payment, and whether its holder approved it."""

    card: str
    payment: Payment
    is_approved: bool


def travelled(earlier: Payment, later: Payment) -> Alert | None:
    """Returns an alert about two payments, None if they were made in one country."""
    if earlier.country == later.country:
        return None
    return Alert(
        f"{earlier.country} to {later.country}",
        (earlier.payment_id, later.payment_id),
        earlier.amount + later.amount,
    )


def check(by_card: tuple[str, Payment], approval: Approval | None) -> Checked:
    """Puts a payment and what is known of its approval together."""
    return Checked(*by_card, approval is not None)


builder = StreamsBuilder()
payments = builder.stream("payments", key_serde=serdes.string, value_serde=serdes.json(Payment))
approvals = builder.stream("approvals", key_serde=serdes.string, value_serde=serdes.json(Approval))

# The later payment is the right one: a pair is seen once, and no payment meets itself.
soon = JoinWindows.of_time_difference(timedelta(minutes=10), grace=timedelta(seconds=30)).before(-1)
far_apart = (
    payments.join(
        payments, travelled, soon, joined=StreamJoined(name="travel", store_name="travel")
    )
    .filter(lambda _card, alert: alert is not None)
    .map_values(lambda alert: alert)
)

with_card = serdes.json(tuple[str, Payment])
unapproved = (
    payments.map(lambda card, payment: (payment.payment_id, (card, payment)))
    .left_join(
        approvals,
        check,
        JoinWindows.of_time_difference(timedelta(minutes=2), grace=timedelta(seconds=30)).before(0),
        joined=StreamJoined(
            name="approval", store_name="approval", key_serde=serdes.string, value_serde=with_card
        ),
    )
    .filter(lambda _payment_id, checked: not checked.is_approved)
    .map(
        lambda payment_id, checked: (
            checked.card,
            Alert("not approved", (payment_id,), checked.payment.amount),
        )
    )
)
for alerts in (far_apart, unapproved):
    alerts.to("alerts", key_serde=serdes.string, value_serde=serdes.json(Alert))
# By default closed windows are looked for once a second, when records come. The input of a demo is
# over before that.
app = App(builder, application_id="fraud-join", outer_join_emit_interval_ms=0)

if __name__ == "__main__":
    app.run()
