"""The three most popular products of each hour, by views and purchases.

Two streams, views and purchases, are co-grouped: they have one aggregate for each product and hour.
`suppress` holds the scores back until the hour is over, so that each is sent once. Then they are
combined to the list of the hour. Records that are more than five minutes late are dropped.

    thalweg produce views --json < views.jsonl
    thalweg produce purchases --json < purchases.jsonl
    thalweg run examples/top_products.py --until-idle
    thalweg consume top-products
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from thalweg import (
    App,
    ConsumedRecord,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Windowed,
    serdes,
)


class View(msgspec.Struct, frozen=True):
    """Somebody looked at a product."""

    product: str
    at_ms: int


class Purchase(msgspec.Struct, frozen=True):
    """Somebody bought a product."""

    product: str
    pieces: int
    at_ms: int


class Score(msgspec.Struct, frozen=True):
    """What happened to a product in one hour."""

    product: str = ""
    views: int = 0
    pieces: int = 0

    @property
    def points(self) -> int:
        """A piece that was bought counts as much as ten views."""
        return self.views + 10 * self.pieces


LONGEST = 3
HOURS = TimeWindows.of_size(timedelta(hours=1), grace=timedelta(minutes=5))


def time_of(record: ConsumedRecord, _partition_time_ms: int) -> int:
    """Returns when it happened, not when it was sent."""
    happened: View | Purchase = record.value
    return happened.at_ms


def with_view(product: str, _view: View, score: Score) -> Score:
    """Counts a view."""
    return Score(product, score.views + 1, score.pieces)


def with_purchase(product: str, purchase: Purchase, score: Score) -> Score:
    """Counts the pieces of a purchase."""
    return Score(product, score.views, score.pieces + purchase.pieces)


def hour_of(key: Windowed[str], score: Score) -> tuple[str, Score]:
    """Puts a score below its hour."""
    return key.window.start.strftime("%Y-%m-%d %H:00"), score


def ranked(_hour: str, score: Score, best: list[Score]) -> list[Score]:
    """Puts a score into the hour's list, if it is among the best."""
    return sorted([*best, score], key=lambda one: (-one.points, one.product))[:LONGEST]


builder = StreamsBuilder()
views = builder.stream(
    "views",
    key_serde=serdes.string,
    value_serde=serdes.json(View),
    timestamp_extractor=time_of,
)
purchases = builder.stream(
    "purchases",
    key_serde=serdes.string,
    value_serde=serdes.json(Purchase),
    timestamp_extractor=time_of,
)
viewed = views.group_by(
    lambda _key, view: view.product, name="views-by-product", key_serde=serdes.string
)
bought = purchases.group_by(
    lambda _key, purchase: purchase.product, name="purchases-by-product", key_serde=serdes.string
)
(
    viewed.cogroup(with_view)
    .cogroup(bought, with_purchase)
    .windowed_by(HOURS)
    .aggregate(Score, "scores", value_serde=serdes.json(Score))
    .suppress(Suppressed.until_window_closes())
    .to_stream()
    .map(hour_of)
    .group_by_key(name="scores-by-hour", key_serde=serdes.string, value_serde=serdes.json(Score))
    .aggregate(list[Score], ranked, "top-products", value_serde=serdes.json(list[Score]))
    .to_stream()
    .to("top-products", key_serde=serdes.string)
)
app = App(builder, application_id="top-products")

if __name__ == "__main__":
    app.run()
