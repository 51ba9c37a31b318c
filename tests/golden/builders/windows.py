"""Golden cases `window_*`: tumbling, hopping and unlimited windows."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import length, long_sum, plus, remainder, text
from thalweg.topology.dsl import (
    KGroupedStream,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    UnlimitedWindows,
)


def _grouped(b: StreamsBuilder) -> KGroupedStream[str, str]:
    return b.stream("in").group_by_key(key_serde=S, value_serde=S)


@dsl_case
def window_tumbling_count(b: StreamsBuilder) -> None:
    _grouped(b).windowed_by(TimeWindows.of_size(10)).count().to_stream().to("out")


@dsl_case
def window_tumbling_sample(b: StreamsBuilder) -> None:
    _grouped(b).windowed_by(TimeWindows.of_size(2, 1)).count("cnt").to_stream().to("out")


@dsl_case
def window_tumbling_grace_aggregate(b: StreamsBuilder) -> None:
    def append(_key: str, value: str | None, total: str) -> str | None:
        longer = plus(total, value)
        return None if length(longer) > 12 else longer

    windowed = _grouped(b).windowed_by(TimeWindows.of_size(10, 15))
    windowed.aggregate(lambda: "", append, "agg").to_stream().to("out")


@dsl_case
def window_tumbling_inmemory_retention(b: StreamsBuilder) -> None:
    windowed = _grouped(b).windowed_by(TimeWindows.of_size(10, 5))
    counts = windowed.count(materialized=Materialized("cnt", store="memory", retention=100))
    counts.to_stream().to("out")


@dsl_case
def window_hopping_reduce(b: StreamsBuilder) -> None:
    windowed = _grouped(b).windowed_by(TimeWindows.of_size(10, 6).advance_by(3))
    windowed.reduce(lambda x, y: plus(x, y), "red").to_stream().to("out")


@dsl_case
def window_hopping_repartition(b: StreamsBuilder) -> None:
    grouped = b.stream("in", key_serde=S, value_serde=L).group_by(
        lambda k, v: remainder(v, 3), key_serde=L, value_serde=L
    )
    windowed = grouped.windowed_by(TimeWindows.of_size(20).advance_by(10))
    windowed.reduce(long_sum).to_stream().to("out")


@dsl_case
def window_tumbling_segments(b: StreamsBuilder) -> None:
    windowed = _grouped(b).windowed_by(TimeWindows.of_size(10_000, 20_000))
    windowed.count("cnt").to_stream().to("out")


@dsl_case
def window_unlimited(b: StreamsBuilder) -> None:
    _grouped(b).windowed_by(UnlimitedWindows.of(50)).count().to_stream().to("out")


@dsl_case
def window_rekey(b: StreamsBuilder) -> None:
    windowed = _grouped(b).windowed_by(TimeWindows.of_size(10))
    counts = windowed.count(materialized=Materialized("cnt", logging=False)).to_stream(
        lambda w, n: plus(w.key, "@", w.window.start_ms)
    )
    counts.map_values(lambda n: text(n)).to_table(name="latest").to_stream().to("out")
