"""Golden cases of stores that the application's settings keep in memory."""

from __future__ import annotations

from tests.golden.builders.registry import dsl_case
from tests.golden.java import cat
from thalweg.topology.dsl import JoinWindows, StreamsBuilder


@dsl_case
def default_joinss_inmemory(b: StreamsBuilder) -> None:
    left, right = b.stream("l"), b.stream("r")
    left.left_join(right, cat, JoinWindows.of_time_difference(10, grace=5)).to("out")
