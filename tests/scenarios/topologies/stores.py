"""A store of its own, which the scenario calls directly."""

from __future__ import annotations

from typing import Any

from tests.scenarios.registry import SERDES, topology
from thalweg.stores.builders import session_store, versioned_store, window_store
from thalweg.stores.record import Record
from thalweg.topology.dsl import StreamsBuilder
from thalweg.topology.processor import Processor


class Idle(Processor[Any, Any, Any, Any]):
    """Only has the store."""

    def process(self, record: Record[Any, Any]) -> None:
        """Does nothing."""


@topology
def single_store(
    b: StreamsBuilder,
    *,
    kind: str,
    retention: int,
    window: int = 3,
    segment: int | None = None,
    key: str = "int32",
    value: str = "string",
    memory: bool = False,
    duplicates: bool = False,
    cache: bool = False,
) -> None:
    """One store `kept`: a window, session or versioned store."""
    serdes = SERDES[key], SERDES[value]
    if kind == "window":
        store = window_store(
            "kept",
            *serdes,
            retention_ms=retention,
            window_size_ms=window,
            segment_interval_ms=segment,
            retain_duplicates=duplicates,
            in_memory=memory,
        )
    elif kind == "session":
        store = session_store("kept", *serdes, retention_ms=retention, in_memory=memory)
    else:
        store = versioned_store("kept", retention, *serdes, in_memory=memory)
    b.add_state_store(store.with_caching() if cache else store)
    b.stream("in").process(Idle, "kept")
