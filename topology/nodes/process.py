"""The Processor API inside a chain: where users see `Record` objects.

Owns the bridge between a chain of plain calls and a user's `Processor`: it builds the
record, sets the processor up when its task starts and closes it with the task.

Source: JVM `KStreamImpl.process`, `ProcessorAdapter`, KIP-478, KIP-820.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stores.record import Headers, Record
from topology.nodes.node import Node, NodeScope, Process
from topology.processor import FixedKeyRecord


class ProcessorApiNode(Node):
    """Runs a user's processor, one instance per task.

    Args:
        supplier: makes the processor; a class without arguments will do.
        fixed_key: whether it is a `FixedKeyProcessor`, whose records keep their key.
    """

    def __init__(self, supplier: Callable[[], Any], fixed_key: bool = False) -> None:
        self.supplier = supplier
        self.fixed_key = fixed_key

    def compile(self, scope: NodeScope) -> Process:
        """Makes the processor and returns the closure that feeds it."""
        processor = self.supplier()
        context = scope.task.processor_context(scope.name, scope.children, scope.stores)
        scope.task.on_start(scope.name, lambda: processor.init(context))
        close = getattr(processor, "close", None)
        if close is not None:
            scope.task.on_close(scope.name, close)
        current, failed, work = scope.task.current, scope.failed, processor.process
        record_type: Any = FixedKeyRecord if self.fixed_key else Record

        def process(key: Any, value: Any, timestamp: int) -> None:
            # A node before this one may have changed it, and stores log with it.
            current.timestamp = timestamp
            try:
                work(record_type(key, value, timestamp, Headers(current.headers() or ())))
            except Exception as error:
                failed(error, key, value, timestamp)

        return process
