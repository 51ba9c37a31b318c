"""Joins of two tables by primary key.

Owns what a change of one side does to the joined row: which values the joiner sees, when
nothing is forwarded, and the result timestamp (the later of both rows). A join is two
nodes, one per side, each reading the other side through its view, and a merge behind them.

A side is read as the join has received it, never newer: a row that waits in the side's cache
arrives later as a change of its own. So each result replaces the one before it, in whatever order
caches are flushed. If one change reaches both sides, the side that it has not reached is read as it
was before (`topology.operators.propagation`). The JVM reads the newest row, and forwards old values
that it never forwarded as new ones (docs/differences.md).

Source: JVM `KTableKTableInnerJoin`, `…LeftJoin`, `…RightJoin`, `…OuterJoin`,
`KTableKTableJoinMerger`; kafka-streams semantics D10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from thalweg.stores.updates import UNREAD, Pair
from thalweg.topology.operators.operator import NodeScope, Process
from thalweg.topology.operators.table import (
    Read,
    Rows,
    TableOperator,
    TableView,
    forwarded_rows,
    latest_only,
)

Kind = Literal["inner", "left", "outer"]
Side = Literal["this", "other"]
UNKNOWN = -1


class JoinView(TableView):
    """The joined row, computed from both sides' views."""

    def __init__(
        self, left: TableView, right: TableView, joiner: Callable[[Any, Any], Any], kind: Kind
    ) -> None:
        self.left = left
        self.right = right
        self.joiner = joiner
        self.kind = kind

    def store_names(self) -> tuple[str, ...]:
        """Returns the stores of both sides."""
        return self.left.store_names() + self.right.store_names()

    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns a read that joins both sides' rows."""
        left, right = self.left.bind(scope, rows), self.right.bind(scope, rows)
        joiner = self.joiner
        needs_left, needs_right = self.kind != "outer", self.kind == "inner"

        def joined(key: Any) -> Pair | None:
            one = left(key)
            if one is None and needs_left:
                return None
            two = right(key)
            if two is None and (needs_right or one is None):
                return None
            value = joiner(one and one[0], two and two[0])
            if value is None:
                return None
            return value, max(one[1] if one else UNKNOWN, two[1] if two else UNKNOWN)

        return joined


@dataclass(frozen=True, eq=False)
class TableJoin(TableOperator):
    """One side of a table-table join.

    Attributes:
        other_view: reads the other side's row.
        joiner: (left value, right value) -> joined value; either may be None where the kind
            of join allows an absent row.
        side: "this" for the left table's changes, "other" for the right table's.
        kind: which side may be absent.
        join: what both sides belong to, the name of the merge behind them.
        is_versioned: whether the side's changes come from a versioned table. Then only the latest
            of a key is joined.
        is_self_join: whether one change may reach both sides (`topology.self_joins`).
    """

    store_name: None = field(default=None, init=False)
    other_view: TableView
    joiner: Callable[[Any, Any], Any]
    side: Side
    kind: Kind
    join: str
    is_versioned: bool = field(default=False, kw_only=True)
    is_self_join: bool = field(default=False, kw_only=True)

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        join = (
            self._telling(scope)
            if self.is_self_join
            else self._joining(scope, self.other_view.bind(scope, forwarded_rows(scope)))
        )
        return latest_only(scope, join) if self.is_versioned else join

    def _telling(self, scope: NodeScope) -> Process:
        """Returns the closure of a side that one change may reach along with the other."""
        propagation, forwarded = scope.task.propagation, forwarded_rows(scope)
        before = self.other_view.bind(
            scope, lambda store: propagation.row_before(store, forwarded(store))
        )
        other: Side = "other" if self.side == "this" else "this"
        join = self._joining(scope, propagation.row_told(self.join, other, before))
        told, place = propagation.told, (self.join, self.side)

        def tell_and_join(key: Any, new: Any, old: Any, timestamp: int) -> None:
            told[place] = None if new is None else (new, timestamp)
            join(key, new, old, timestamp)

        return tell_and_join

    def _joining(self, scope: NodeScope, read: Read) -> Process:
        joiner, forward, drop, failed = self.joiner, scope.forward, scope.drop, scope.failed
        send_old = self.send_old_values
        if self.side == "other":
            given = joiner

            def joiner(mine: Any, theirs: Any) -> Any:
                return given(theirs, mine)

        # Whether a row of mine is needed for a result, and whether one of theirs is.
        needs_theirs = self.kind == "inner" or (self.kind == "left" and self.side == "other")
        needs_mine = self.kind == "inner" or (self.kind == "left" and self.side == "this")

        def join(key: Any, new: Any, old: Any, timestamp: int) -> None:
            if key is None:
                drop(key, new, timestamp)
                return
            try:
                pair = read(key)
                if pair is None:
                    if needs_theirs or (new is None and old is None):
                        return
                    theirs = None
                else:
                    theirs = pair[0]
                    timestamp = max(timestamp, pair[1])
                after = before = None
                if new is not None or (theirs is not None and not needs_mine):
                    after = joiner(new, theirs)
                if send_old and (old is not None or (theirs is not None and not needs_mine)):
                    before = joiner(old, theirs)
                forward(key, after, before, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        return join


@dataclass(frozen=True, eq=False)
class TableJoinMerge(TableOperator):
    """Brings both sides' results together, into a store where the join is materialised."""

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        forward, failed, send_old = scope.forward, scope.failed, self.tells_old_values
        if self.store_name is None:
            if send_old:
                return forward

            def merge(key: Any, new: Any, _old: Any, timestamp: int) -> None:
                forward(key, new, None, timestamp)

            return merge

        _, change = self.bind_updates(scope)
        # The sides give old values only where they were asked for them. Where they were not and
        # they are needed, the store reads its own rows.
        gives_old = self.send_old_values or not self.begins_propagation

        def stored_merge(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                change(key, new, old if gives_old else UNREAD, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        return stored_merge
