"""Golden cases `suppress_*`, `cache_suppress`, `naming_suppress`: tables that hold updates back."""

from __future__ import annotations

from tests.golden.builders.registry import L, S, dsl_case
from tests.golden.java import cat, first
from thalweg.topology.dsl import (
    BufferConfig,
    KGroupedStream,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
)


def _grouped(b: StreamsBuilder) -> KGroupedStream[str, str]:
    return b.stream("in").group_by_key(key_serde=S, value_serde=S)


@dsl_case
def suppress_time_limit(b: StreamsBuilder) -> None:
    b.table("in", store="tab").suppress(Suppressed.until_time_limit(10)).to_stream().to("out")


@dsl_case
def suppress_time_limit_sample(b: StreamsBuilder) -> None:
    counts = b.table("in").group_by(lambda k, v: (v, k)).count()
    counts.to_stream().to("raw", key_serde=S, value_serde=L)
    late = counts.suppress(Suppressed.until_time_limit(2, BufferConfig.unbounded()))
    late.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def suppress_max_records(b: StreamsBuilder) -> None:
    suppressed = Suppressed.until_time_limit(1000, BufferConfig(max_records=2)).with_name("sup")
    b.table("in").suppress(suppressed).to_stream().to("out")


@dsl_case
def suppress_max_bytes(b: StreamsBuilder) -> None:
    buffer = BufferConfig(max_bytes=200).emit_early_when_full()
    b.table("in").suppress(Suppressed.until_time_limit(1000, buffer)).to_stream().to("out")


@dsl_case
def suppress_shutdown_when_full(b: StreamsBuilder) -> None:
    counts = _grouped(b).windowed_by(TimeWindows.of_size(20, 5)).count()
    buffer = BufferConfig(max_records=3).shut_down_when_full()
    counts.suppress(Suppressed.until_window_closes(buffer)).to_stream().to("out")


@dsl_case
def suppress_no_log(b: StreamsBuilder) -> None:
    buffer = BufferConfig.unbounded().without_logging()
    b.table("in").suppress(Suppressed.until_time_limit(0, buffer)).to_stream().to("out")


@dsl_case
def suppress_tumbling_sample(b: StreamsBuilder) -> None:
    counts = _grouped(b).windowed_by(TimeWindows.of_size(2, 2)).count()
    counts.to_stream().to("raw")
    counts.suppress(Suppressed.until_window_closes()).to_stream().to("out")


@dsl_case
def suppress_tumbling(b: StreamsBuilder) -> None:
    counts = _grouped(b).windowed_by(TimeWindows.of_size(20, 5)).count("cnt")
    counts.suppress(Suppressed.until_window_closes(name="final")).to_stream().to("out")


@dsl_case
def suppress_session(b: StreamsBuilder) -> None:
    counts = _grouped(b).windowed_by(SessionWindows.of_inactivity_gap(8, 4)).count()
    counts.suppress(Suppressed.until_window_closes()).to_stream().to("out")


@dsl_case
def suppress_sliding(b: StreamsBuilder) -> None:
    counts = _grouped(b).windowed_by(SlidingWindows.of_time_difference(10, 5)).count()
    counts.suppress(Suppressed.until_window_closes()).to_stream().to("out")


@dsl_case
def suppress_before_group(b: StreamsBuilder) -> None:
    late = b.table("in").suppress(Suppressed.until_time_limit(10))
    counts = late.group_by(lambda k, v: (first(v), v)).count()
    counts.to_stream().to("out", key_serde=S, value_serde=L)


@dsl_case
def suppress_before_join(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    late = left.suppress(Suppressed.until_time_limit(10, BufferConfig(max_records=3)))
    late.join(right, cat).to_stream().to("out")


@dsl_case
def cache_suppress(b: StreamsBuilder) -> None:
    table = b.table("in", store="tab")
    table.suppress(Suppressed.until_time_limit(15, name="sup")).to_stream().to("out")


@dsl_case
def naming_suppress(b: StreamsBuilder) -> None:
    late = b.table("in").suppress(Suppressed.until_time_limit(10))
    late.suppress(Suppressed.until_time_limit(10, name="sup")).to_stream().to("out")
