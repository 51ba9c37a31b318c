"""Join of a stream with a table: each record is joined with the present row of its key.

A versioned table is read as of the record's time instead.

Owns the null rules: an inner join drops records without key or value; a left join joins records
without a key with None. Only the stream side makes results, with the stream record's timestamp.

Source: JVM `KStreamKTableJoinProcessor`, KIP-962; kafka-streams semantics D9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import ReadAsOf, TableView, newest_rows


@dataclass(frozen=True, eq=False)
class StreamTableJoin(Operator):
    """Joins each stream record with the row its key has in the table, or had at its time.

    Args:
        view: reads the table.
        joiner: (left, right) -> value, or (key, left, right) -> value when `with_key`.
        left: whether a record without a row goes on, joined with None.
    """

    view: TableView
    joiner: Callable[..., Any]
    with_key: bool
    left: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        read_as_of = self.view.bind_as_of(scope)
        if read_as_of is not None:
            return self._joining_as_of(scope, read_as_of)
        read = self.view.bind(scope, newest_rows(scope))
        joiner, with_key, left = self.joiner, self.with_key, self.left
        forward, failed, drop = scope.forward, scope.failed, scope.drop

        def join(key: Any, value: Any, timestamp: int) -> None:
            if value is None or (key is None and not left):
                drop(key, value, timestamp)
                return
            try:
                pair = None if key is None else read(key)
                if pair is not None:
                    row = pair[0]
                elif left:
                    row = None
                else:
                    return
                joined = joiner(key, value, row) if with_key else joiner(value, row)
                forward(key, joined, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return join

    def _joining_as_of(self, scope: NodeScope, read_as_of: ReadAsOf) -> Process:
        joiner, with_key, left = self.joiner, self.with_key, self.left
        forward, failed, drop = scope.forward, scope.failed, scope.drop

        def join(key: Any, value: Any, timestamp: int) -> None:
            if value is None or (key is None and not left):
                drop(key, value, timestamp)
                return
            try:
                pair = None if key is None else read_as_of(key, timestamp)
                if pair is not None:
                    row = pair[0]
                elif left:
                    row = None
                else:
                    return
                joined = joiner(key, value, row) if with_key else joiner(value, row)
                forward(key, joined, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return join
