"""Joins of two streams."""

from __future__ import annotations

from typing import Any

from tests.scenarios.registry import SERDES, topology
from thalweg.topology.dsl import JoinWindows, StreamJoined, StreamsBuilder


def plus(left: object, right: object) -> str:
    """Joins two values by `+`, one that is missing as `null`."""
    return f"{'null' if left is None else left}+{'null' if right is None else right}"


@topology
def stream_stream_join(
    b: StreamsBuilder,
    *,
    kind: str = "inner",
    difference: int = 100,
    grace: int | None = None,
    before: int | None = None,
    after: int | None = None,
    left: str = "left",
    right: str = "right",
    key: str = "int32",
    value: str = "string",
    store: str | None = None,
    store_name: str | None = None,
    logging: bool = True,
    named: bool = False,
) -> None:
    """Two streams, `kind` joined with `+`, into `out`."""
    k, v = SERDES[key], SERDES[value]
    one = b.stream(left, key_serde=k, value_serde=v)
    other = one if left == right else b.stream(right, key_serde=k, value_serde=v)
    windows = JoinWindows.of_time_difference(difference, 0 if grace is None else grace)
    if before is not None:
        windows = windows.before(before)
    if after is not None:
        windows = windows.after(after)
    given: dict[str, Any] = {"store": store} if store else {}
    joined: StreamJoined[Any, Any, Any] = StreamJoined(
        key_serde=k,
        value_serde=v,
        other_value_serde=v,
        store_name=store_name,
        logging=logging,
        **given,
    )
    join = {"inner": one.join, "left": one.left_join, "outer": one.outer_join}[kind]
    join(other, plus, windows, joined=joined).to("out", key_serde=k, value_serde=SERDES["string"])
