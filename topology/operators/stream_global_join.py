"""Join of a stream with a global table: a key is computed from each record, and its row is joined.

Owns the null rules. Records without a value are dropped. A record for which there is no row key is
dropped by an inner join; a left join joins it with None. A record's own key may be None. Only the
stream side makes results, with the stream record's timestamp.

Source: JVM `KStreamGlobalKTableJoin`, `KStreamKTableJoinProcessor`, KIP-962, KIP-1340; kafka-streams
semantics D9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import TableView, newest_rows


@dataclass(frozen=True, eq=False)
class StreamGlobalJoin(Operator):
    """Joins each stream record with the row whose key the selector names.

    Attributes:
        view: reads the table.
        selector: (key, value) -> key of the row.
        joiner: takes as many arguments as told.
        arguments: 2 for (value, row), 3 for (key, value, row), 4 for (key, selected key, value,
            row).
        left: whether a record without a row goes on, joined with None.
    """

    view: TableView
    selector: Callable[[Any, Any], Any]
    joiner: Callable[..., Any]
    arguments: int
    left: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        read = self.view.bind(scope, newest_rows(scope))
        selector, joiner, left = self.selector, self.joiner, self.left
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        takes_values, takes_both_keys = self.arguments == 2, self.arguments == 4

        def join(key: Any, value: Any, timestamp: int) -> None:
            if value is None:
                drop(key, value, timestamp)
                return
            try:
                selected = selector(key, value)
                if selected is None:
                    if not left:
                        drop(None, value, timestamp)
                        return
                    row = None
                else:
                    pair = read(selected)
                    if pair is not None:
                        row = pair[0]
                    elif left:
                        row = None
                    else:
                        return
                if takes_values:
                    joined = joiner(value, row)
                elif takes_both_keys:
                    joined = joiner(key, selected, value, row)
                else:
                    joined = joiner(key, value, row)
                forward(key, joined, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return join
