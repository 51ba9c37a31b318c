"""Join of a stream with a versioned table in which records wait for the table.

Owns how long a record waits: until a record of the stream is later by the grace. Then it is joined
with the row that its key had at the record's time. A record that arrives even later is joined at
once. The buffer (`stores.kinds.grace_buffer`) decides what waits and in which order.

Stream time is the time of records that have waited. The table does not move it, nor do records that
come too late. The task keeps it over restarts.

If a waiting record fails, the error names that record, and the record is then dropped. The JVM
names the current record, and tries the failed one again with each later record.

Source: JVM `KStreamKTableJoinProcessor`, KIP-923; kafka-streams semantics D9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.stores.errors import StreamsError
from thalweg.stores.updates import GraceBuffer
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import TableView


@dataclass(frozen=True, eq=False)
class StreamTableGraceJoin(Operator):
    """Joins each stream record with the row its key had in a versioned table at its time, later.

    Attributes:
        view: reads the table.
        joiner: (left, right) -> value, or (key, left, right) -> value when `with_key`.
        with_key: whether the joiner takes the key.
        left: whether a record without a row goes on, joined with None.
        wait_ms: how long a record waits, of the stream's time.
        buffer: the store in which it waits.
    """

    view: TableView
    joiner: Callable[..., Any]
    with_key: bool
    left: bool
    wait_ms: int
    buffer: str

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        read = self.view.bind_as_of(scope)
        if read is None:
            raise TopologyError(
                "a join with a table waits only for one that is versioned; keep the table in a "
                "versioned_store, or leave grace out",
                node=scope.name,
            )
        store: object = scope.task.store(self.buffer)
        assert isinstance(store, GraceBuffer)
        buffer, hold, let_go = store, store.hold, store.let_go
        joiner, with_key, left = self.joiner, self.with_key, self.left
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        wait_ms, node = self.wait_ms, scope.name

        def observed() -> int:
            return max(stream_ms, buffer.observed_ms)

        stream_ms = scope.task.keep_time(self.buffer, observed)

        def join(key: Any, value: Any, timestamp: int) -> None:
            try:
                pair = read(key, timestamp)
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

        def hold_and_join(key: Any, value: Any, timestamp: int) -> None:
            nonlocal stream_ms
            if value is None or (key is None and not left):
                drop(key, value, timestamp)
                return
            try:
                if key is None:
                    raise StreamsError(
                        "a left join with grace cannot let a record without a key wait; filter "
                        "such records out, or leave grace out",
                        node=node,
                    )
                stream_ms = observed()
                if stream_ms - wait_ms <= timestamp:
                    hold(key, value, timestamp)
                    let_go(buffer.observed_ms - wait_ms, join)
                    return
            except Exception as error:
                failed(error, key, value, timestamp)
                return
            join(key, value, timestamp)

        return hold_and_join
