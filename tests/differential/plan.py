"""Builds the topology of a plan with the DSL; jvm/…/Plan.java does the same in Java.

Owns what each operation of a plan means in Python. It must not know how plans are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.differential import functions
from thalweg import (
    BufferConfig,
    EmitStrategy,
    JoinWindows,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamJoined,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    versioned_store,
)
from thalweg.stores.serde import serdes

Node = Mapping[str, Any]


class PlanBuilder:
    """Builds one plan.

    Args:
        plan: nodes in order; a node names those above it by their index.
        builder: what it is built with.
    """

    def __init__(self, plan: Mapping[str, Any], builder: StreamsBuilder) -> None:
        self._builder = builder
        self._made: list[Any] = []
        for node in plan["nodes"]:
            self._made.append(MAKERS[node["op"]](self, node))

    def of(self, node: Node, at: int = 0) -> Any:
        """Returns what a node stands below."""
        return self._made[node["of"][at]]

    # -- sources and sinks ---------------------------------------------------------------

    def stream(self, node: Node) -> Any:
        """A stream of a topic."""
        return self._builder.stream(node["topic"])

    def table(self, node: Node) -> Any:
        """A table of a topic, versioned or not."""
        if "history_ms" in node:
            store = versioned_store(node["store"]["name"], node["history_ms"])
            return self._builder.table(node["topic"], materialized=Materialized(store=store))
        return self._builder.table(node["topic"], materialized=stored(node))

    def global_table(self, node: Node) -> Any:
        """A global table."""
        return self._builder.global_table(node["topic"], materialized=stored(node))

    def to(self, node: Node) -> Any:
        """A sink."""
        return self.of(node).to(node["topic"])

    # -- streams -------------------------------------------------------------------------

    def filter(self, node: Node) -> Any:
        """A filter, which may have a name."""
        return self.of(node).filter(functions.PREDICATES[node["fn"]], name=node.get("name"))

    def map_values(self, node: Node) -> Any:
        """Other values."""
        return self.of(node).map_values(functions.VALUES[node["fn"]])

    def select_key(self, node: Node) -> Any:
        """Other keys."""
        return self.of(node).select_key(functions.KEYS[node["fn"]])

    def flat_map(self, node: Node) -> Any:
        """Several records for one."""
        return self.of(node).flat_map(functions.spread)

    def flat_map_values(self, node: Node) -> Any:
        """Several values for one."""
        return self.of(node).flat_map_values(functions.letters)

    def merge(self, node: Node) -> Any:
        """Two streams as one."""
        return self.of(node).merge(self.of(node, 1))

    def repartition(self, node: Node) -> Any:
        """A way through a topic."""
        return self.of(node).repartition(name=node.get("name"))

    def to_table(self, node: Node) -> Any:
        """The newest value of each key."""
        return self.of(node).to_table(materialized=stored(node))

    # -- aggregations --------------------------------------------------------------------

    def aggregate(self, node: Node) -> Any:
        """A count, reduction or aggregation, in windows or not."""
        grouped = self._grouped(node)
        windows = node.get("windows")
        if windows is not None:
            grouped = grouped.windowed_by(windows_of(windows))
        if node.get("emit") == "close":
            grouped = grouped.emit_strategy(EmitStrategy.on_window_close())
        kind, kept = node["kind"], {"materialized": stored(node)}
        if kind == "count":
            return text(grouped.count(**kept))
        if kind == "reduce":
            return grouped.reduce(functions.reduce, **kept)
        if windows is not None and windows["kind"] == "session":
            return grouped.aggregate(str, functions.add, functions.merge_sessions, **kept)
        adder = functions.add_or_drop if kind == "aggregate_or_drop" else functions.add
        return grouped.aggregate(str, adder, **kept)

    def _grouped(self, node: Node, at: int = 0) -> Any:
        stream = self.of(node, at)
        return (
            stream.group_by(functions.KEYS[node["by"]]) if "by" in node else stream.group_by_key()
        )

    def cogroup(self, node: Node) -> Any:
        """Several streams aggregated into one table, in windows or not."""
        cogrouped: Any = None
        for at in range(len(node["of"])):
            adder = functions.add if at % 2 == 0 else functions.take
            grouped = self._grouped(node, at)
            cogrouped = (
                grouped.cogroup(adder) if cogrouped is None else cogrouped.cogroup(grouped, adder)
            )
        if "windows" in node:
            cogrouped = cogrouped.windowed_by(windows_of(node["windows"]))
            if node["windows"]["kind"] == "session":
                merger = functions.merge_sessions
                return cogrouped.aggregate(str, merger, materialized=stored(node))
        return cogrouped.aggregate(str, materialized=stored(node))

    # -- joins ---------------------------------------------------------------------------

    def stream_join(self, node: Node) -> Any:
        """A stream joined with a stream."""
        windows = JoinWindows.of_time_difference(node["before"], node["grace"]).after(node["after"])
        joined = StreamJoined(
            name=node.get("name"),
            key_serde=serdes.string,
            value_serde=serdes.string,
            other_value_serde=serdes.string,
        )
        kind = node["kind"]
        join = getattr(self.of(node), "join" if kind == "inner" else f"{kind}_join")
        return join(self.of(node, 1), functions.joined, windows, joined=joined)

    def global_lookup(self, node: Node) -> Any:
        """A stream joined with a global table."""
        join = self.of(node).join if node["kind"] == "inner" else self.of(node).left_join
        key = functions.KEYS[node["by"]]
        return join(self.of(node, 1), functions.joined, key_selector=key)

    def foreign_key_join(self, node: Node) -> Any:
        """A table joined with a table by foreign key."""
        join = self.of(node).join if node["kind"] == "inner" else self.of(node).left_join
        return join(
            self.of(node, 1),
            functions.joined,
            foreign_key_extractor=functions.foreign,
            materialized=stored(node),
        )

    def suppress(self, node: Node) -> Any:
        """A table whose updates are held back."""
        if node["until"] == "closed":
            return self.of(node).suppress(Suppressed.until_window_closes())
        buffer = BufferConfig.unbounded()
        if "max_records" in node:
            buffer = BufferConfig(max_records=node["max_records"]).emit_early_when_full()
        elif "max_bytes" in node:
            buffer = BufferConfig(max_bytes=node["max_bytes"]).emit_early_when_full()
        return self.of(node).suppress(Suppressed.until_time_limit(node["limit_ms"], buffer))

    def table_lookup(self, node: Node) -> Any:
        """A stream joined with a table."""
        join = self.of(node).join if node["kind"] == "inner" else self.of(node).left_join
        return join(
            self.of(node, 1),
            functions.joined,
            name=node.get("name"),
            key_serde=serdes.string,
            value_serde=serdes.string,
            grace=node.get("grace"),
        )

    def table_join(self, node: Node) -> Any:
        """A table joined with a table."""
        join = getattr(self.of(node), "join" if node["kind"] == "inner" else f"{node['kind']}_join")
        joiner = functions.joined if node["fn"] == "joined" else functions.joined_or_none
        return join(self.of(node, 1), joiner, materialized=stored(node))

    # -- tables --------------------------------------------------------------------------

    def table_filter(self, node: Node) -> Any:
        """A filter of rows."""
        return self.of(node).filter(functions.PREDICATES[node["fn"]], materialized=stored(node))

    def table_map_values(self, node: Node) -> Any:
        """Other values of rows."""
        return self.of(node).map_values(functions.VALUES[node["fn"]], materialized=stored(node))

    def windowed_map_values(self, node: Node) -> Any:
        """Other values of windows."""
        return self.of(node).map_values(lambda v: None if v is None else functions.cut(f"{v}!"))

    def table_group(self, node: Node) -> Any:
        """Rows grouped anew."""
        key = functions.KEYS[node["by"]]
        grouped = self.of(node).group_by(lambda k, v: (key(k, v), v))
        kept = {"materialized": stored(node)}
        if node["kind"] == "count":
            return text(grouped.count(**kept))
        if node["kind"] == "reduce":
            return grouped.reduce(functions.reduce, functions.unreduce, **kept)
        return grouped.aggregate(str, functions.add, functions.take, **kept)

    def to_stream(self, node: Node) -> Any:
        """The changes of a table."""
        return self.of(node).to_stream()

    def windowed_to_stream(self, node: Node) -> Any:
        """The changes of windows, with their bounds in the key."""
        return self.of(node).to_stream(
            lambda k, _v: f"{k.key}@{k.window.start_ms}-{k.window.end_ms}"
        )


MAKERS: Final[dict[str, Callable[[PlanBuilder, Node], Any]]] = {
    name: maker
    for name, maker in vars(PlanBuilder).items()
    if callable(maker) and not name.startswith("_") and name != "of"
}
"""The maker of each operation: what the grammar may use."""


def text(counts: Any) -> Any:
    """Makes texts of counts."""
    return counts.map_values(lambda count: None if count is None else str(count))


def windows_of(windows: Node) -> Any:
    """Returns the windows of an aggregation."""
    if windows["kind"] == "session":
        return SessionWindows.of_inactivity_gap(windows["gap"], windows["grace"])
    if windows["kind"] == "sliding":
        return SlidingWindows.of_time_difference(windows["size"], windows["grace"])
    return TimeWindows.of_size(windows["size"], windows["grace"]).advance_by(windows["advance"])


def stored(node: Node) -> Materialized[Any, Any] | None:
    """Returns how a node keeps its table, None where that is left to the library."""
    store = node.get("store")
    if store is None:
        return None
    return Materialized(
        store.get("name"),
        caching=store.get("caching", True),
        logging=store.get("logging", True),
        store="memory" if "memory" in store else "rocks",
    )
