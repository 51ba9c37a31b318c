"""Joins of tables by primary key: what a join adds to the graph, and what the result is like.

Owns the two sides of a join, their merge, their names and numbers. `topology.operators.table_join`
joins the rows. Joins by foreign key are in `topology.dsl.foreign_key_joins`.

Source: JVM `KTableImpl.doJoin`, `KTableKTableAbstractJoin`; kafka-streams A13, D10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.stores.serde import Serde
from thalweg.topology.dsl.options import Materialized, arity, check_name, materialized_hint, settle
from thalweg.topology.dsl.table_logic import JoinLogic, Table, TableLogic
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import AddProcessor, Step
from thalweg.topology.operators.table import TableView
from thalweg.topology.operators.table_join import (
    JoinView,
    Kind,
    Side,
    TableJoin,
    TableJoinMerge,
)


@dataclass(frozen=True, slots=True)
class Joined:
    """What a table is made of that a join results in.

    Attributes:
        place: where it stands.
        key_serde: of its keys.
        value_serde: of its values.
        queryable_store_name: its store, None if it cannot be queried.
        logic: how it answers for its rows.
    """

    place: Place
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    queryable_store_name: str | None
    logic: TableLogic


def join_by_key(
    left: Table,
    right: Table,
    joiner: Callable[..., Any],
    kind: Kind,
    materialized: Materialized[Any, Any] | None,
    named: str | None,
) -> Joined:
    """Joins two tables by their keys.

    Args:
        left: the left table.
        right: the right table.
        joiner: (left value, right value) -> joined value.
        kind: which side may have no row.
        materialized: how to keep the result.
        named: name of the processors.
    """
    operator = "join" if kind == "inner" else f"{kind}_join"
    arity(joiner, {2: "left, right"}, operator)
    graph, names = left.place.graph, left.place.names
    named = check_name(named)
    store = None
    if materialized is not None:
        store = settle(
            names,
            materialized,
            "KTABLE-MERGE-",
            key_serde=left.key_serde,
            hint=materialized_hint(operator),
        )
    merge_name = names.name_or_new(named, "KTABLE-MERGE-")
    sources = left.place.copartition_with(right.place)
    if kind != "inner":
        left.send_old_values(True)
    if kind == "outer":
        right.send_old_values(True)
    left_view, right_view = left.view(), right.view()
    store_name = store and store.name
    this_name = names.name_or_new(named, "KTABLE-JOINTHIS-", "-join-this")
    other_name = names.name_or_new(named, "KTABLE-JOINOTHER-", "-join-other")

    def side(name: str, side: Side, table: Table, view: TableView) -> AddProcessor:
        """Returns a side: it follows the changes of `table` and reads `view`."""
        return AddProcessor(
            name,
            lambda facts: TableJoin(
                view,
                joiner,
                side,
                kind,
                merge_name,
                is_versioned=table.is_versioned,
                send_old_values=name in facts.old_values,
            ),
            parents=(table.place.name,),
            stores=tuple(dict.fromkeys(view.store_names())),
        )

    merge = AddProcessor(
        merge_name,
        lambda facts: TableJoinMerge(store_name, send_old_values=merge_name in facts.old_values),
        parents=(this_name, other_name),
        store=store and store.key_value(),
    )
    adds = (
        side(this_name, "this", left, right_view),
        side(other_name, "other", right, left_view),
        merge,
    )
    step = graph.add(Step(merge_name, adds), left.place.step, right.place.step)
    return Joined(
        Place(graph, merge_name, step, sources),
        store.key_serde if store else left.key_serde,
        store and store.value_serde,
        store_name,
        JoinLogic(
            (left, right),
            (this_name, other_name, merge_name),
            store_name,
            lambda one, two: JoinView(one, two, joiner, kind),
            is_versioned=store is not None and store.is_versioned,
        ),
    )
