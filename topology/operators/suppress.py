"""Suppression: changes of a table are held back, and only the last one of each key is forwarded.

Owns when a change is due, what happens when the buffer is full, and how a row of the suppressed
table is read: a key in the buffer has the value that was forwarded last. The buffer
(`stores.kinds.change_buffer`) decides what is held and in which order.

The operator has its own stream time: the highest timestamp that it has received in this task. The
task keeps it over restarts.

A change is forwarded with its own old value, even if that value was never forwarded, as in the JVM.

Source: JVM `KTableSuppressProcessorSupplier`, `TimeDefinitions`; kafka-streams D7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thalweg.stores.errors import StreamsError
from thalweg.stores.updates import ChangeBuffer, Pair, Unread
from thalweg.topology.edges import Edge
from thalweg.topology.operators.operator import NodeScope, Process, TableMaker, TaskScope
from thalweg.topology.operators.table import Read, Rows, TableView


def buffer_of(task: TaskScope, name: str) -> ChangeBuffer:
    """Returns a buffer of a task by the name of its store."""
    store: object = task.store(name)
    assert isinstance(store, ChangeBuffer)
    return store


@dataclass(frozen=True, eq=False)
class Suppress(TableMaker):
    """Holds changes back.

    Attributes:
        wait_ms: how long a change waits, of stream time.
        waits_for_window: whether it waits from the end of its key's window on, and is final: a
            deletion is then of a row that nobody has heard of. Else it waits from its own time on.
        max_records: most changes that are held, None for any number.
        max_bytes: most bytes that they take, None for any number.
        emits_early: whether a full buffer lets go of the earliest changes. Else it is an error.
    """

    takes = Edge.CHANGE

    store_name: str
    wait_ms: int
    waits_for_window: bool
    max_records: int | None
    max_bytes: int | None
    emits_early: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        max_records, max_bytes = self.max_records, self.max_bytes
        is_bounded = max_records is not None or max_bytes is not None
        deferred = buffer_of(scope.task, self.store_name).deferred(
            drops_deletions=self.waits_for_window, counts_bytes=is_bounded
        )
        hold, let_go, extent = deferred.hold, deferred.let_go, deferred.extent
        forward, failed, propagation = scope.forward, scope.failed, scope.task.propagation
        wait_ms, waits_for_window = self.wait_ms, self.waits_for_window

        def is_full() -> bool:
            records, size_bytes = extent()
            return (max_records is not None and records > max_records) or (
                max_bytes is not None and size_bytes > max_bytes
            )

        def observed() -> int:
            return stream_time

        stream_time = scope.task.keep_time(self.store_name, observed)

        def suppress(key: Any, new: Any, old: Any, timestamp: int) -> None:
            nonlocal stream_time
            if timestamp > stream_time:
                stream_time = timestamp
            try:
                place = key.window.end_ms if waits_for_window else timestamp
                hold(place, key, new, old, timestamp)
                onward = propagation.apart(key, forward) if propagation.depth else forward
                let_go(stream_time - wait_ms, onward)
                if is_bounded and is_full():
                    if not self.emits_early:
                        raise self._full(scope.name, *extent())
                    deferred.let_go_while(is_full, onward)
            except Exception as error:
                failed(error, key, new, timestamp)

        return suppress

    def _full(self, node: str, records: int, size_bytes: int) -> StreamsError:
        most = [
            f"{what} of at most {bound}"
            for what, bound in (
                (f"{records} records", self.max_records),
                (f"{size_bytes} bytes", self.max_bytes),
            )
            if bound is not None
        ]
        return StreamsError(
            f"the buffer of suppress() is full: it holds {', '.join(most)}. Give it more room, or "
            "let it emit early",
            node=node,
        )


class SuppressView(TableView):
    """The rows of a suppressed table: what was let go last, or where nothing is held the parent's."""

    def __init__(self, parent: TableView, store_name: str) -> None:
        self.parent = parent
        self.store_name = store_name

    def store_names(self) -> tuple[str, ...]:
        """Returns the buffer, and the parent's stores."""
        return (self.store_name, *self.parent.store_names())

    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns a read that looks into the buffer first."""
        prior, read = buffer_of(scope.task, self.store_name).prior, self.parent.bind(scope, rows)

        def suppressed(key: Any) -> Pair | None:
            pair = prior(key)
            return read(key) if isinstance(pair, Unread) else pair

        return suppressed
