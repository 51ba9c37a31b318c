"""Every stack of layers over every backend against the public suites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from stores.builders import StoreBuilder, key_value_store, window_store
from stores.serde import Serde, serdes
from stores.testing.host import RecordingHost
from stores.testing.key_value import KeyValueStoreSuite
from stores.testing.window import (
    RETENTION_MS,
    SEGMENT_INTERVAL_MS,
    WINDOW_SIZE_MS,
    WindowStoreSuite,
)

Layers = Literal["bare", "logged", "cached", "both"]
SMALL_CACHE_BYTES = 200


def with_layers(builder: StoreBuilder, layers: Layers) -> StoreBuilder:
    if layers in ("bare", "cached"):
        builder = builder.without_logging()
    return builder.with_caching() if layers in ("cached", "both") else builder


def _mutable(inner: Serde[Any]) -> Serde[Any]:
    """A serde the cache must not keep values or keys of decoded."""
    return Serde.of(inner.serializer(""), inner.deserializer(""), name=f"mutable {inner.name}")


def _key_value_suites() -> Iterator[type[KeyValueStoreSuite]]:
    every: tuple[Layers, ...] = ("bare", "logged", "cached", "both")
    for in_memory in (True, False):
        for layers in every:
            for kind in ("key-value", "timestamped-key-value"):
                yield _key_value_suite(layers, in_memory=in_memory, kind=kind)
    yield _key_value_suite("both", kind="timestamped-key-value", is_decoded=False)
    yield _key_value_suite("both", kind="key-value", is_decoded=False)


def _key_value_suite(
    chosen: Layers, *, in_memory: bool = True, kind: Any, is_decoded: bool = True
) -> type[KeyValueStoreSuite]:
    key_serde, value_serde = serdes.string, serdes.int64
    if not is_decoded:
        key_serde, value_serde = _mutable(key_serde), _mutable(value_serde)
    plain = key_value_store("st", key_serde, value_serde, in_memory=in_memory)
    builder = replace(with_layers(plain, chosen), kind=kind)

    class Suite(KeyValueStoreSuite):
        timestamped = builder.is_timestamped
        logged = builder.logged
        cache_bytes = SMALL_CACHE_BYTES if builder.cached else None

        def open_store(self, host: RecordingHost) -> Any:
            return builder.build(host)

    backend = "Memory" if in_memory else "Rocks"
    words = ["Timestamped" if builder.is_timestamped else "Plain", backend, chosen.capitalize()]
    Suite.__name__ = Suite.__qualname__ = f"Test{''.join(words)}{'' if is_decoded else 'Bytes'}"
    return Suite


globals().update({suite.__name__: suite for suite in _key_value_suites()})


def _window_suites() -> Iterator[type[WindowStoreSuite]]:
    every: tuple[Layers, ...] = ("bare", "logged", "cached", "both")
    for in_memory in (True, False):
        for layers in every:
            for kind in ("window", "timestamped-window"):
                yield _window_suite(layers, in_memory=in_memory, kind=kind)
    yield _window_suite("both", kind="timestamped-window", is_decoded=False)


def _window_suite(
    chosen: Layers, *, in_memory: bool = True, kind: Any, is_decoded: bool = True
) -> type[WindowStoreSuite]:
    key_serde, value_serde = serdes.string, serdes.int64
    if not is_decoded:
        key_serde, value_serde = _mutable(key_serde), _mutable(value_serde)
    plain = window_store(
        "st",
        key_serde,
        value_serde,
        retention_ms=RETENTION_MS,
        window_size_ms=WINDOW_SIZE_MS,
        segment_interval_ms=SEGMENT_INTERVAL_MS,
        in_memory=in_memory,
    )
    builder = replace(with_layers(plain, chosen), kind=kind)

    class Suite(WindowStoreSuite):
        timestamped = builder.is_timestamped
        logged = builder.logged
        cache_bytes = SMALL_CACHE_BYTES if builder.cached else None

        def open_store(self, host: RecordingHost) -> Any:
            return builder.build(host)

    backend = "Memory" if in_memory else "Rocks"
    words = ["Timestamped" if builder.is_timestamped else "Plain", backend, chosen.capitalize()]
    name = f"Test{''.join(words)}Window{'' if is_decoded else 'Bytes'}"
    Suite.__name__ = Suite.__qualname__ = name
    return Suite


globals().update({suite.__name__: suite for suite in _window_suites()})
