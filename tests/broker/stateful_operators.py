"""The script of workers that run every stateful operator of the DSL in one application.

One topic has the records of all sides, so that their order within a partition is one order: the
first letter of a value says which side it belongs to. Every result goes to one topic, its key
begins with the name of its operator.

Sides: `l` and `r` of joins, `f` of rows with a foreign key, `v` of a versioned table, `d` of its
deletions.
"""

from __future__ import annotations

import os
from typing import Any

import tests.broker.patient  # noqa: F401 - a busy machine is slow
from thalweg import (
    App,
    EmitStrategy,
    JoinWindows,
    KStream,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamJoined,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Windowed,
    serdes,
    versioned_store,
)

S = serdes.string


def cat(one: Any, other: Any) -> str:
    """Joins two values."""
    return f"{one}+{other}"


def append(_key: str, value: str, total: str) -> str:
    """Aggregates values."""
    return f"{total}{value}."


def foreign_key(value: str) -> str:
    """Returns the key that a row of the side `f` names: `f7:k3` names k3."""
    return value.partition(":")[2]


def texts(name: str) -> Materialized[Any, str]:
    """Names a store of texts."""
    return Materialized(name, key_serde=S, value_serde=S)


def told(key: Any) -> str:
    """Returns a key as text."""
    if isinstance(key, Windowed):
        return f"{key.key}@{key.window.start}-{key.window.end}"
    return str(key)


def stateful_operators(events_topic: str, rates_topic: str, results_topic: str) -> StreamsBuilder:
    """Builds the application.

    Args:
        events_topic: all sides.
        rates_topic: of the global table.
        results_topic: of all results.
    """
    builder = StreamsBuilder()
    events = builder.stream(events_topic, key_serde=S, value_serde=S)

    def side(letters: str) -> KStream[str, str]:
        return events.filter(lambda _key, value: value[0] in letters)

    def results(operator: str, stream: KStream[Any, Any]) -> None:
        named = stream.map(
            lambda key, value: (
                f"{operator}/{told(key)}",
                None if value is None else str(value),
            )
        )
        named.to(results_topic, key_serde=S, value_serde=S)

    left, right = side("l"), side("r")
    grouped = left.group_by_key(key_serde=S, value_serde=S)

    # -- aggregations ----------------------------------------------------------------------
    sessions = SessionWindows.of_inactivity_gap(30, 100)
    merged = grouped.windowed_by(sessions).aggregate(
        lambda: "",
        append,
        lambda _key, one, other: one + other,
        materialized=texts("session"),
    )
    results("session", merged.to_stream())
    sliding = grouped.windowed_by(SlidingWindows.of_time_difference(30, 100))
    results(
        "sliding",
        sliding.aggregate(lambda: "", append, materialized=texts("sliding")).to_stream(),
    )
    hops = grouped.windowed_by(TimeWindows.of_size(40, 100).advance_by(20))
    results(
        "windowed", hops.aggregate(lambda: "", append, materialized=texts("windowed")).to_stream()
    )
    tumbling = grouped.windowed_by(TimeWindows.of_size(40, 20))
    closing = tumbling.emit_strategy(EmitStrategy.on_window_close())
    # Kept longer than stream time may jump: what is forgotten before it closes is not sent on.
    kept: Materialized[Any, str] = Materialized(
        "closed", key_serde=S, value_serde=S, retention=10_000
    )
    results("closed", closing.aggregate(lambda: "", append, materialized=kept).to_stream())
    counted = tumbling.aggregate(lambda: "", append, materialized=texts("counted"))
    held = counted.suppress(Suppressed.until_window_closes().with_name("held"))
    results("suppress", held.to_stream())
    both = grouped.cogroup(append).cogroup(
        right.group_by_key(key_serde=S, value_serde=S),
        lambda _key, value, total: f"{total}{value}#",
    )
    last = both.aggregate(lambda: "", materialized=texts("cogroup"))
    results("cogroup", last.map_values(lambda value: value[-200:]).to_stream())

    # -- joins of streams ------------------------------------------------------------------
    within = JoinWindows.of_time_difference(20, 60)

    def joined(name: str) -> StreamJoined[str, str, str]:
        return StreamJoined(
            key_serde=S, value_serde=S, other_value_serde=S, name=name, store_name=name
        )

    results("inner", left.join(right, cat, within, joined=joined("inner")))
    results("left", left.left_join(right, cat, within, joined=joined("left")))
    results("outer", left.outer_join(right, cat, within, joined=joined("outer")))

    # -- tables ----------------------------------------------------------------------------
    left_table = left.to_table(materialized=texts("lefts"))
    right_table = right.to_table(materialized=texts("rights"))
    tables = left_table.outer_join(right_table, cat, materialized=texts("tables"))
    results("tables", tables.to_stream())
    lengths = left_table.group_by(
        lambda _key, value: (value[-1], value), key_serde=S, value_serde=S
    )
    results("grouped", lengths.count("grouped").to_stream())
    rows = side("f").to_table(materialized=texts("rows"))
    foreign = rows.left_join(
        right_table, cat, foreign_key_extractor=foreign_key, materialized=texts("foreign")
    )
    results("foreign", foreign.to_stream())

    # -- versioned tables, and streams joined to tables ---------------------------------------
    versions = (
        side("vd")
        .map_values(lambda value: None if value[0] == "d" else value)
        .to_table(
            materialized=Materialized(
                store=versioned_store("versions", 400), key_serde=S, value_serde=S
            )
        )
    )
    results("versioned", versions.to_stream())
    asked = left.join(versions, cat, grace=25, name="asked", key_serde=S, value_serde=S)
    results("graced", asked)
    rates = builder.global_table(rates_topic, key_serde=S, value_serde=S, store="rates")
    results("global", left.left_join(rates, cat, key_selector=lambda key, _value: key))
    return builder


if "EVENTS" in os.environ:
    app = App(
        stateful_operators(os.environ["EVENTS"], os.environ["RATES"], os.environ["RESULTS"]),
        application_id=os.environ["APPLICATION"],
    )
