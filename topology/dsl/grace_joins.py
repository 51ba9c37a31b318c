"""Joins of a stream with a versioned table in which records wait: the buffer and its demands.

Owns the name and the store of the buffer, and the rule that the history of the table covers the
time that a record waits.

Source: JVM `KStreamImpl.doStreamTableJoin`, `StreamTableJoinNode`, KIP-923.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.kinds.grace_buffer import GraceBufferSpec
from thalweg.stores.kinds.versioned import VersionedSpec
from thalweg.stores.serde import Serde, SerdeHint
from thalweg.topology.dsl.table import KTable
from thalweg.topology.errors import TopologyError


def grace_buffer(
    table: KTable[Any, Any],
    node: str,
    serdes: tuple[Serde[Any] | None, Serde[Any] | None],
    operator: str,
) -> StoreBuilder:
    """Describes the store in which records wait.

    Args:
        table: what they are joined with.
        node: the processor of the join.
        serdes: how keys and values of the stream are written.
        operator: the join as users call it.

    Raises:
        TopologyError: the table is not versioned.
    """
    if not table.is_versioned:
        raise TopologyError(
            f"{operator}() with grace looks up what a row was at the time of a record, and the table "
            "keeps its newest rows only; keep it in a versioned_store, or leave grace out",
            node=node,
        )
    return StoreBuilder(
        name=f"{node}-Buffer",
        spec=GraceBufferSpec(),
        backend="rocks",  # as in the JVM, whatever keeps other stores
        key_serde=serdes[0],
        value_serde=serdes[1],
        hint=SerdeHint.of(operator),
    )


def history_demand(
    node: str, tables: Sequence[str], grace_ms: int
) -> Callable[[Mapping[str, StoreBuilder]], None]:
    """Returns a check that refuses a table whose history is shorter than the grace.

    Args:
        node: the processor of the join.
        tables: the stores that the join reads.
        grace_ms: how long its records wait.
    """

    def check(stores: Mapping[str, StoreBuilder]) -> None:
        for name in tables:
            spec = stores[name].spec
            if not isinstance(spec, VersionedSpec):
                raise TopologyError(
                    f"a join with grace reads store '{name}', which is not versioned; give the table "
                    "a versioned_store, or leave grace out",
                    node=node,
                )
            if spec.history_retention_ms < grace_ms:
                raise TopologyError(
                    f"store '{name}' keeps former rows for {spec.history_retention_ms} ms, and a "
                    f"join lets records wait for {grace_ms} ms; keep them as long at least",
                    node=node,
                )

    return check
