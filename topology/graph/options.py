"""The part of an application's configuration that shapes its topology.

Owns the names of the JVM's settings and what their values mean. It must not know what a rewrite
does.

Source: JVM `StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG`, `UPGRADE_FROM_CONFIG`,
`ENSURE_EXPLICIT_INTERNAL_RESOURCE_NAMING_CONFIG`, `PROCESSOR_WRAPPER_CLASS_CONFIG`,
`DSL_STORE_FORMAT_CONFIG`, `TopologyConfig.InternalConfig`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.stores.backends import Backend, ByteStoreSupplier, checked_backend
from thalweg.stores.builders import StoreBuilder, StoreChoice
from thalweg.topology.errors import TopologyError
from thalweg.topology.processor import ProcessorWrapper

REUSE_SOURCE_TOPICS = "reuse.ktable.source.topics"
MERGE_REPARTITION_TOPICS = "merge.repartition.topics"
SINGLE_STORE_SELF_JOIN = "single.store.self.join"
_OPTIMIZATIONS = frozenset({REUSE_SOURCE_TOPICS, MERGE_REPARTITION_TOPICS, SINGLE_STORE_SELF_JOIN})
_LAST_LEGACY_CHANGES = (3, 4)
_LAST_LEGACY_REGISTRATIONS = (3, 3)
_SUPPLIERS = "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$"
_JVM_STORES = {
    "rocksDB": "rocks",
    "in_memory": "memory",
    f"{_SUPPLIERS}RocksDBDslStoreSuppliers": "rocks",
    f"{_SUPPLIERS}InMemoryDslStoreSuppliers": "memory",
}
"""The JVM's values of `default.dsl.store` and `dsl.store.suppliers.class`."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The part of an application's configuration that shapes its topology.

    Attributes:
        optimizations: rewrites to apply, by their JVM names.
        legacy_changes: write changes of grouped tables as versions up to 3.4 read them.
        legacy_registrations: write registrations of foreign-key joins as versions up to 3.3
            read them.
        explicit_names: refuse generated names of stores and topics.
        processors_change: have processors of the user count as changing keys and values, which
            keeps repartitions behind them from being shared.
        processor_wrapper: puts something around each processor.
        stores_headers: stores of the DSL keep values with their headers.
        dsl_store: what keeps the rows of stores that the DSL makes and that are not told.
    """

    optimizations: frozenset[str] = frozenset()
    legacy_changes: bool = False
    legacy_registrations: bool = False
    explicit_names: bool = False
    processors_change: bool = False
    processor_wrapper: ProcessorWrapper | None = None
    stores_headers: bool = False
    dsl_store: Backend | StoreChoice = "rocks"

    @classmethod
    def of(cls, config: Any, optimize: str | Collection[str] | None = None) -> BuildOptions:
        """Reads the options from a configuration.

        Args:
            config: None, a mapping by the JVM's names or their snake_case, or an object with
                snake_case attributes.
            optimize: "all", "none" or names of rewrites; wins over the configuration.

        Raises:
            TopologyError: if a rewrite or version is not known.
        """
        if optimize is None:
            optimize = _setting(config, "topology.optimization")
        version = _version(_setting(config, "upgrade.from"))
        return cls(
            _optimizations(optimize),
            version is not None and version <= _LAST_LEGACY_CHANGES,
            version is not None and version <= _LAST_LEGACY_REGISTRATIONS,
            _is_true(config, "ensure.explicit.internal.resource.naming"),
            _is_true(config, "__enable.process.processValue.fix__", "process_may_change_keys"),
            _setting(config, "processor.wrapper.class", "processor_wrapper"),
            str(_setting(config, "dsl.store.format")).lower() == "headers",
            _dsl_store(config),
        )

    def settled(self, store: StoreBuilder) -> StoreBuilder:
        """Returns a store with what keeps its rows, and with what they keep, if not told yet."""
        if store.backend is None:
            chosen = self.dsl_store
            store = store.with_backend(chosen(store) if callable(chosen) else chosen)
            if not store.persistent:
                return store  # as in the JVM, stores in memory do not ask the setting
        return store.in_dsl_format(with_headers=self.stores_headers)


def _dsl_store(config: Any) -> Backend | StoreChoice:
    """Returns what keeps the rows of the DSL's stores, by our names or the JVM's."""
    given = _setting(config, "dsl.store.suppliers.class")
    if given is None:
        given = _setting(config, "default.dsl.store")
    if given is None or isinstance(given, ByteStoreSupplier) or callable(given):
        return given or "rocks"
    return checked_backend(_JVM_STORES.get(given, given), "default_dsl_store")


def _is_true(config: Any, name: str, snake: str | None = None) -> bool:
    return str(_setting(config, name, snake)).lower() == "true"


def _setting(config: Any, name: str, snake: str | None = None) -> Any:
    snake = snake or name.replace(".", "_")
    if isinstance(config, Mapping):
        return config.get(name, config.get(snake))
    return getattr(config, snake, None)


def _optimizations(given: str | Collection[str] | None) -> frozenset[str]:
    if given is None:
        return frozenset()
    names = given.split(",") if isinstance(given, str) else given
    wanted = frozenset(name.strip() for name in names) - {"", "none"}
    if "all" in wanted:
        return _OPTIMIZATIONS
    unknown = wanted - _OPTIMIZATIONS
    if unknown:
        raise TopologyError(
            f"topology_optimization {', '.join(sorted(unknown))} is not known; use all, none or "
            f"some of {', '.join(sorted(_OPTIMIZATIONS))}"
        )
    return wanted


def _version(given: Any) -> tuple[int, int] | None:
    """Returns major and minor number of the version to upgrade from, None where there is none."""
    if given is None:
        return None
    try:
        major, minor = (int(part) for part in str(given).split(".")[:2])
    except ValueError:
        raise TopologyError(
            f'upgrade.from {str(given)!r} is not a version; write it like "3.4"'
        ) from None
    return major, minor
