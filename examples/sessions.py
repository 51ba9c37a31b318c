"""Turns clicks into visits: a visit ends when its user has been away for half an hour.

Clicks have the time at which they happened, and arrive out of order. Each click extends a visit,
and a late click may merge two visits. A visit is sent once, five minutes after it has ended, when
no click can extend it any more.

    thalweg produce clicks --json < clicks.jsonl
    thalweg run examples/sessions.py --until-idle
    thalweg consume visits --json
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from thalweg import (
    App,
    ConsumedRecord,
    EmitStrategy,
    Materialized,
    SessionWindows,
    StreamsBuilder,
    Windowed,
    serdes,
)


class Click(msgspec.Struct, frozen=True):
    """Somebody went to a page."""

    user: str
    page: str
    at_ms: int


class Pages(msgspec.Struct, frozen=True):
    """The pages of a visit so far, by the time of the click."""

    clicks: tuple[tuple[int, str], ...] = ()


class Visit(msgspec.Struct, frozen=True):
    """A visit that has ended."""

    user: str
    began: str
    seconds: int
    pages: list[str]


def time_of_click(record: ConsumedRecord, _partition_time_ms: int) -> int:
    """Returns when the click happened, not when it was sent."""
    click: Click = record.value
    return click.at_ms


def with_click(_user: str, click: Click, pages: Pages) -> Pages:
    """Adds a click to a visit."""
    return Pages((*pages.clicks, (click.at_ms, click.page)))


def together(_user: str, one: Pages, two: Pages) -> Pages:
    """Makes one visit of two."""
    return Pages(one.clicks + two.clicks)


def visit(session: Windowed[str], pages: Pages) -> Visit:
    """Makes a readable row of a session. Clicks stand in the order of their time."""
    window = session.window
    return Visit(
        session.key,
        window.start.strftime("%Y-%m-%d %H:%M"),
        (window.end_ms - window.start_ms) // 1_000,
        [page for _at_ms, page in sorted(pages.clicks)],
    )


VISITS = SessionWindows.of_inactivity_gap(timedelta(minutes=30), grace=timedelta(minutes=5))

builder = StreamsBuilder()
(
    builder.stream("clicks", value_serde=serdes.json(Click), timestamp_extractor=time_of_click)
    .group_by(lambda _key, click: click.user, key_serde=serdes.string)
    .windowed_by(VISITS)
    .emit_strategy(EmitStrategy.on_window_close())
    .aggregate(
        Pages,
        with_click,
        together,
        materialized=Materialized(
            "open-visits", value_serde=serdes.json(Pages), retention=timedelta(days=1)
        ),
    )
    .to_stream()
    .map(lambda session, pages: (session.key, visit(session, pages)))
    .to("visits", key_serde=serdes.string, value_serde=serdes.json(Visit))
)
app = App(builder, application_id="sessions", window_emit_interval_ms=0)

if __name__ == "__main__":
    app.run()
