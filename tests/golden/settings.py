"""How the JVM's settings in a golden file become ours.

Owns the table of names, and refuses a setting it does not know: a case must not pass
because a setting was overlooked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.stores.serde import Serde, serdes
from thalweg.streams.config import StreamsConfig
from thalweg.streams.error_handlers import log_and_continue
from thalweg.topology.subtopologies import TopologyConfig

_KAFKA = "org.apache.kafka.common.serialization.Serdes$"
_SERDES: Mapping[str, Serde[Any]] = {
    f"{_KAFKA}StringSerde": serdes.string,
    f"{_KAFKA}LongSerde": serdes.int64,
    f"{_KAFKA}IntegerSerde": serdes.int32,
    f"{_KAFKA}DoubleSerde": serdes.float64,
    f"{_KAFKA}ByteArraySerde": serdes.bytes,
}
_ERRORS = "org.apache.kafka.streams.errors."
_SUPPLIERS = "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$"
_DSL_STORES = {
    f"{_SUPPLIERS}RocksDBDslStoreSuppliers": "rocks",
    f"{_SUPPLIERS}InMemoryDslStoreSuppliers": "memory",
}
_HANDLERS: Mapping[str, Any] = {
    f"{_ERRORS}LogAndContinueExceptionHandler": log_and_continue,
    f"{_ERRORS}LogAndContinueProcessingExceptionHandler": log_and_continue,
}


def _same(text: str) -> str:
    return text


def _flag(text: str) -> bool:
    return text == "true"


# JVM name -> our name, how to read the text.
_APPLICATION: Mapping[str, tuple[str, Any]] = {
    "application.id": ("application_id", _same),
    "default.key.serde": ("default_key_serde", _SERDES.__getitem__),
    "default.value.serde": ("default_value_serde", _SERDES.__getitem__),
    "processing.guarantee": ("processing_guarantee", _same),
    "statestore.cache.max.bytes": ("statestore_cache_max_bytes", int),
    "deserialization.exception.handler": ("deserialization_handler", _HANDLERS.__getitem__),
    "processing.exception.handler": ("processing_handler", _HANDLERS.__getitem__),
    "processing.exception.handler.global.enabled": ("processing_handler_global_enabled", _flag),
    "errors.dead.letter.queue.topic.name": ("dead_letter_queue_topic", _same),
    "replication.factor": ("replication_factor", int),
    "windowstore.changelog.additional.retention.ms": (
        "window_store_changelog_additional_retention_ms",
        int,
    ),
    "upgrade.from": ("upgrade_from", _same),
    "__emit.interval.ms.kstreams.outer.join.spurious.results.fix__": (
        "outer_join_emit_interval_ms",
        int,
    ),
    "__emit.interval.ms.kstreams.windowed.aggregation__": ("window_emit_interval_ms", int),
    "topology.optimization": ("topology_optimization", _same),
    "dsl.store.format": ("dsl_store_format", str.lower),
    "dsl.store.suppliers.class": ("default_dsl_store", _DSL_STORES.__getitem__),
}
# Read when the topology is built or described, whichever part of it asks.
_TOPOLOGY = frozenset(
    {"topology.optimization", "upgrade.from", "dsl.store.format", "dsl.store.suppliers.class"}
)
# `StreamsBuilder.build(properties)`, which made the files, does not look at it: there the
# setting has to be given to the builder's constructor.
_UNREAD = frozenset({"ensure.explicit.internal.resource.naming"})
_TOPIC = "topic."


def application_id(config: Mapping[str, str]) -> str:
    """Returns the application's id."""
    return config["application.id"]


def streams_config(config: Mapping[str, str]) -> StreamsConfig:
    """Returns the configuration an application would run with."""
    settings: dict[str, Any] = {}
    topic_configs = {}
    for name, value in config.items():
        if name in _UNREAD:
            continue
        if name.startswith(_TOPIC):
            topic_configs[name.removeprefix(_TOPIC)] = value
            continue
        ours, read = _known(name)
        settings[ours] = read(value)
    return StreamsConfig(**settings, topic_configs=topic_configs)


def topology_settings(config: Mapping[str, str]) -> dict[str, str]:
    """Returns what a builder is told, by the JVM's names."""
    return {name: value for name, value in config.items() if name in _TOPOLOGY}


def topology_config(config: Mapping[str, str]) -> TopologyConfig:
    """Returns what shapes the internal topics."""
    return streams_config(config).topology_config


def _known(name: str) -> tuple[str, Any]:
    try:
        return _APPLICATION[name]
    except KeyError:
        raise ValueError(f"the golden setting {name} has no counterpart yet") from None
