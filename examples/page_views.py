"""Counts page views per page and minute, and reports views that came too late.

Views have the time at which they happened, and arrive out of order. A window of one minute accepts
late views for another ten seconds. Then it is closed: later views are dropped and counted.

    thalweg produce page-views --json < views.jsonl
    thalweg run examples/page_views.py --until-idle
    thalweg query examples/page_views.py views-per-minute --key /home
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from thalweg import (
    App,
    ConsumedRecord,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    Windowed,
    serdes,
)


class View(msgspec.Struct, frozen=True):
    """Somebody looked at a page."""

    user: str
    page: str
    at_ms: int


class PageCount(msgspec.Struct, frozen=True):
    """How often a page was viewed in one minute."""

    page: str
    minute: str
    views: int


def time_of_view(record: ConsumedRecord, _partition_time_ms: int) -> int:
    """Returns when the view happened, not when it was sent."""
    view: View = record.value
    return view.at_ms


def page_count(key: Windowed[str], views: int) -> PageCount:
    """Makes a readable row of a windowed count."""
    return PageCount(key.key, key.window.start.strftime("%Y-%m-%d %H:%M"), views)


WINDOWS = TimeWindows.of_size(timedelta(minutes=1), grace=timedelta(seconds=10))

builder = StreamsBuilder()
(
    builder.stream(
        "page-views",
        key_serde=serdes.string,
        value_serde=serdes.json(View),
        timestamp_extractor=time_of_view,
    )
    .group_by(lambda _key, view: view.page, key_serde=serdes.string, value_serde=serdes.json(View))
    .windowed_by(WINDOWS)
    .count(
        materialized=Materialized(
            "views-per-minute", key_serde=serdes.string, retention=timedelta(hours=1)
        )
    )
    .to_stream()
    .map(lambda window, views: (window.key, page_count(window, views)))
    .to("views-per-minute-rows", key_serde=serdes.string, value_serde=serdes.json(PageCount))
)
app = App(builder, application_id="page-views")

if __name__ == "__main__":
    app.run()
