"""Every stack of layers over every backend against the public suites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from thalweg.stores.builders import (
    StoreBuilder,
    key_value_store,
    list_store,
    session_store,
    versioned_store,
    window_store,
)
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.testing.key_value import KeyValueStoreSuite
from thalweg.stores.testing.lists import ListStoreSuite
from thalweg.stores.testing.session import SessionStoreSuite
from thalweg.stores.testing.versioned import HISTORY_MS, VersionedStoreSuite
from thalweg.stores.testing.versioned import SEGMENT_INTERVAL_MS as VERSIONS_INTERVAL_MS
from thalweg.stores.testing.window import (
    RETENTION_MS,
    SEGMENT_INTERVAL_MS,
    WINDOW_SIZE_MS,
    WindowStoreSuite,
)

SMALL_CACHE_BYTES = 200
PLACES = ((True, False), (True, True), (False, False), (False, True))
"""(in memory, logged) of stores without a cache."""


class Stack(NamedTuple):
    """Which layers stand over which backend."""

    is_timestamped: bool
    in_memory: bool
    is_logged: bool
    is_cached: bool
    is_decoded: bool = True
    has_headers: bool = False

    @property
    def test_name(self) -> str:
        words = [
            "Headers" if self.has_headers else "",
            "Timestamped" if self.is_timestamped else "Plain",
            "Memory" if self.in_memory else "Rocks",
            "Logged" if self.is_logged else "",
            "Cached" if self.is_cached else "",
            "" if self.is_decoded else "Bytes",
        ]
        return f"Test{''.join(words)}"

    def describe(self, plain: StoreBuilder) -> StoreBuilder:
        """Returns the description of such a store."""
        builder = replace(
            plain,
            backend="memory" if self.in_memory else "rocks",
            logged=self.is_logged,
            cached=self.is_cached,
        )
        if self.is_timestamped:
            builder = replace(builder, spec=plain.spec.with_timestamps())
        if self.has_headers:
            builder = replace(builder, spec=plain.spec.with_headers())
        if not self.is_decoded:
            key_serde, value_serde = _mutable(serdes.string), _mutable(serdes.int64)
            builder = replace(builder, key_serde=key_serde, value_serde=value_serde)
        return builder


def _mutable(inner: Serde[Any]) -> Serde[Any]:
    """A serde the cache must not keep values or keys of decoded."""
    return Serde.of(inner.serializer(""), inner.deserializer(""), name=f"mutable {inner.name}")


def stacks() -> Iterator[Stack]:
    for is_logged in (False, True):
        for is_cached in (False, True):
            for is_timestamped in (False, True):
                yield Stack(is_timestamped, True, is_logged, is_cached)
            # RocksDB takes its time to open: the one or the other kind of store.
            yield Stack(is_logged, False, is_logged, is_cached)
    yield Stack(False, True, True, True, is_decoded=False)
    yield Stack(True, True, True, True, is_decoded=False)
    for is_cached in (False, True):
        yield Stack(True, True, True, is_cached, has_headers=True)
    yield Stack(True, False, True, True, has_headers=True)


def suite_of(base: Any, builder: StoreBuilder, name: str) -> Any:
    """Returns the suite over stores of one description."""

    class Suite(base):
        timestamped = builder.is_timestamped
        is_time_first = getattr(builder.spec, "is_time_first", False)
        logged = builder.logged
        cache_bytes = SMALL_CACHE_BYTES if builder.cached else None
        examples = 50 if builder.backend == "memory" else 10

        def open_store(self, host: RecordingHost) -> Any:
            return builder.build(host)

    Suite.__name__ = Suite.__qualname__ = name
    return Suite


KEY_VALUE = key_value_store("st", serdes.string, serdes.int64)
WINDOW = window_store(
    "st",
    serdes.string,
    serdes.int64,
    retention_ms=RETENTION_MS,
    window_size_ms=WINDOW_SIZE_MS,
    segment_interval_ms=SEGMENT_INTERVAL_MS,
)

LIST = list_store("st", serdes.string, serdes.int64)
VERSIONED = versioned_store(
    "st", HISTORY_MS, serdes.string, serdes.int64, segment_interval=VERSIONS_INTERVAL_MS
)

SESSION = session_store("st", serdes.string, serdes.int64, retention_ms=RETENTION_MS)
SESSION = replace(SESSION, spec=replace(SESSION.spec, segment_interval_ms=SEGMENT_INTERVAL_MS))


def time_first(plain: StoreBuilder) -> StoreBuilder:
    spec: Any = plain.spec
    return replace(plain, spec=replace(spec, is_time_first=True))


for stack in stacks():
    for suite, plain, ending in (
        (KeyValueStoreSuite, KEY_VALUE, "KeyValue"),
        (WindowStoreSuite, WINDOW, "Window"),
        (WindowStoreSuite, time_first(WINDOW), "TimeFirstWindow"),
        (SessionStoreSuite, SESSION, "Session"),
        (SessionStoreSuite, time_first(SESSION), "TimeFirstSession"),
    ):
        if stack.in_memory and ending.startswith("TimeFirst"):
            continue
        if stack.is_timestamped and stack.in_memory and ending == "Session":
            continue
        if stack.has_headers and "Session" in ending:
            continue  # its values are of another form; see test_headers
        name = f"{stack.test_name}{ending}"
        globals()[name] = suite_of(suite, stack.describe(plain), name)
    if not stack.is_timestamped:  # lists have neither a cache nor timestamps
        name = f"{stack.test_name}List"
        globals()[name] = suite_of(ListStoreSuite, stack.describe(LIST), name)
for stack in (Stack(True, in_memory, is_logged, False) for in_memory, is_logged in PLACES):
    name = f"{stack.test_name}Versioned"
    globals()[name] = suite_of(VersionedStoreSuite, stack.describe(VERSIONED), name)
# Each other byte store, under one stack of each kind.
for backend in ("sqlite", "lmdb", "files"):
    for suite, plain, ending in (
        (KeyValueStoreSuite, KEY_VALUE.with_caching(), "KeyValue"),
        (WindowStoreSuite, WINDOW, "Window"),
        (VersionedStoreSuite, VERSIONED, "Versioned"),
    ):
        name = f"Test{backend.title()}{ending}"
        globals()[name] = suite_of(suite, plain.with_backend(backend), name)
del suite  # else pytest would take it for one more test
