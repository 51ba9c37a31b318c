"""The part of an application's configuration that shapes its topology.

Owns the names of the JVM's settings and what their values mean. It must not know what a rewrite
does.

Source: JVM `StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG`, `UPGRADE_FROM_CONFIG`,
`ENSURE_EXPLICIT_INTERNAL_RESOURCE_NAMING_CONFIG`, `DSL_STORE_FORMAT_CONFIG`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.topology.errors import TopologyError

REUSE_SOURCE_TOPICS = "reuse.ktable.source.topics"
MERGE_REPARTITION_TOPICS = "merge.repartition.topics"
SINGLE_STORE_SELF_JOIN = "single.store.self.join"
_OPTIMIZATIONS = frozenset({REUSE_SOURCE_TOPICS, MERGE_REPARTITION_TOPICS, SINGLE_STORE_SELF_JOIN})
_LAST_LEGACY_CHANGES = (3, 4)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The part of an application's configuration that shapes its topology.

    Attributes:
        optimizations: rewrites to apply, by their JVM names.
        legacy_changes: write changes of grouped tables as versions up to 3.4 read them.
        explicit_names: refuse generated names of stores and topics.
        stores_headers: stores of the DSL keep values with their headers.
    """

    optimizations: frozenset[str] = frozenset()
    legacy_changes: bool = False
    explicit_names: bool = False
    stores_headers: bool = False

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
        upgrade_from = _setting(config, "upgrade.from")
        explicit = _setting(config, "ensure.explicit.internal.resource.naming")
        return cls(
            _optimizations(optimize),
            upgrade_from is not None and _is_legacy(str(upgrade_from)),
            str(explicit).lower() == "true",
            str(_setting(config, "dsl.store.format")).lower() == "headers",
        )


def _setting(config: Any, name: str) -> Any:
    snake = name.replace(".", "_")
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


def _is_legacy(version: str) -> bool:
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        raise TopologyError(
            f'upgrade.from {version!r} is not a version; write it like "3.4"'
        ) from None
    return (major, minor) <= _LAST_LEGACY_CHANGES
