"""Global tables: every worker has all of their rows.

Owns `GlobalKTable` and what it adds to the graph. Streams join it by any key that they can compute
(`topology.dsl.global_joins`). It can also be queried, and nothing else.

Source: JVM `GlobalKTableImpl`, `InternalStreamsBuilder.globalTable`.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from thalweg.stores.serde import Serde, SerdeHint
from thalweg.topology.dsl.options import Materialized, settle
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.logical import LogicalGraph
from thalweg.topology.graph.steps import AddGlobalStore, Step
from thalweg.topology.operators.table import StoreView, TableSource, TableView
from thalweg.topology.processor import TimestampExtractor

K = TypeVar("K")
V = TypeVar("V")


class GlobalKTable(Generic[K, V]):
    """A table whose partitions are all in every worker; made by `global_table`."""

    def __init__(
        self, graph: LogicalGraph, store_name: str, queryable_store_name: str | None
    ) -> None:
        self._graph = graph
        self._store_name = store_name
        self._queryable_store_name = queryable_store_name

    @property
    def queryable_store_name(self) -> str | None:
        """Name of the store that can be queried, None if there is none."""
        return self._queryable_store_name

    def __repr__(self) -> str:
        return f"<GlobalKTable, store {self._store_name!r}>"

    @property
    def graph(self) -> LogicalGraph:
        """The graph it belongs to; for other parts of the DSL."""
        return self._graph

    def view(self) -> TableView:
        """Says how to read the current row; for other parts of the DSL."""
        return StoreView(self._store_name)


def read_global_table(
    graph: LogicalGraph,
    topic: str,
    key_serde: Serde[Any] | None,
    value_serde: Serde[Any] | None,
    timestamp_extractor: TimestampExtractor | None,
    name: str | None,
    materialized: Materialized[Any, Any] | None,
) -> GlobalKTable[Any, Any]:
    """Adds the source of a global table and the store that it fills.

    Args:
        graph: the graph.
        topic: the topic.
        key_serde: how keys are read and stored; that of `materialized` if not given.
        value_serde: how values are read and stored, likewise.
        timestamp_extractor: gives records their event time.
        name: name of the processor; the name of its source is `<name>-source`.
        materialized: how to keep the table.

    Raises:
        TopologyError: the store that was given is versioned.
    """
    hint = SerdeHint.of("global_table")
    settled = settle(graph.names, materialized, topic + "-", hint=hint)
    if settled.is_versioned:
        raise TopologyError(
            f"the global table of topic {topic!r} cannot be versioned, but is given the versioned "
            f"store '{settled.name}'; give it one of timestamped_key_value_store(...), or read the "
            "topic as a table",
            node=name,
        )
    settled = settled.with_serdes(
        key_serde or settled.key_serde, value_serde or settled.value_serde
    )
    if settled.is_versioned:
        raise TopologyError(
            f"global table of topic {topic!r}: its store {settled.name!r} cannot be versioned; give "
            "it a key_value_store(...), or read the topic as a table()",
            topic=topic,
        )
    source_name = graph.names.name_or_new(name, "KSTREAM-SOURCE-", "-source")
    processor_name = graph.names.name_or_new(name, "KTABLE-SOURCE-")
    added = AddGlobalStore(
        store=settled.key_value().without_logging(),
        source_name=source_name,
        topic=topic,
        processor_name=processor_name,
        supplier=TableSource(settled.name),
        key_serde=settled.key_serde,
        value_serde=settled.value_serde,
        timestamp_extractor=timestamp_extractor,
    )
    graph.add(Step(processor_name, (added,)))
    return GlobalKTable(graph, settled.name, settled.queryable_name)
