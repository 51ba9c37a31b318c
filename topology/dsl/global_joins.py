"""Joins of streams with global tables: what a join adds to the graph.

Owns the names of these joins and how their functions are called. Nothing is repartitioned, because
every worker has all rows of the table.

Source: JVM `KStreamImpl.globalTableJoin`; kafka-streams A4, KIP-1340.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalweg.stores.callables import arity as arity_of
from thalweg.topology.dsl.global_table import GlobalKTable
from thalweg.topology.dsl.options import arity, check_name
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import always, processor_step
from thalweg.topology.operators.stream_global_join import StreamGlobalJoin

_JOINERS = {
    2: "value, row",
    3: "key, value, row",
    4: "key, selected key, value, row",
}


def join_with_global(
    place: Place,
    table: GlobalKTable[Any, Any],
    joiner: Callable[..., Any],
    key_selector: Callable[..., Any] | None,
    name: str | None,
    *,
    is_left: bool,
) -> Place:
    """Joins a stream with a global table and returns the place of the result.

    Args:
        place: where the stream stands.
        table: the table.
        joiner: (value, row), (key, value, row) or (key, selected key, value, row) -> joined value.
        key_selector: (key, value) -> key of the row.
        name: name of the processor.
        is_left: whether records without a row are joined with None.
    """
    operator = "left_join" if is_left else "join"
    if key_selector is None:
        raise TypeError(
            f"{operator}() with a global table needs a key_selector, a function (key, value) -> key "
            "of the row"
        )
    arity_of(key_selector, {2: "key, value"}, f"the key_selector of {operator}()")
    arguments = arity(joiner, _JOINERS, operator)
    if table.graph is not place.graph:
        raise TopologyError(
            f"{place.name} and {table!r} belong to different builders; make both with one",
            node=place.name,
        )
    node_name = place.names.name_or_new(check_name(name), "KSTREAM-LEFTJOIN-")
    step = processor_step(
        node_name,
        always(
            StreamGlobalJoin(table.view(), key_selector, joiner, arguments=arguments, left=is_left)
        ),
        takes_null_keys=is_left,
    )
    return place.then(step)
