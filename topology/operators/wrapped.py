"""Processors that the user puts around the operators of a topology.

Owns how an operator of the DSL is presented as a processor, which takes `Record` objects one by
one, and how the processor that wraps it is run in its place. A wrapped operator costs as much as a
user's processor. A topology without a wrapper pays nothing.

Source: JVM `ProcessorWrapper`, `WrappedProcessorSupplier` (KIP-1112).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.record import Headers, Record
from thalweg.topology.edges import Edge
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.process import (
    ProcessorApiOperator,
    check_supplier,
    set_up,
    supplied_stores,
)
from thalweg.topology.operators.returned import refuse_result
from thalweg.topology.processor import (
    AnySupplier,
    Processor,
    ProcessorWrapper,
    TableChange,
    checked_product,
)


@dataclass(slots=True)
class _Place:
    """A wrapped node in one task.

    Attributes:
        scope: the node's place in the task.
        arrived_ms: timestamp of the record that the node was called with last.
    """

    scope: NodeScope
    arrived_ms: int = -1


_place: Final[ContextVar[_Place | None]] = ContextVar("place", default=None)
"""The node that is being compiled: processors that are made meanwhile are bound to it."""


class OperatorProcessor(Processor[Any, Any, Any, Any]):
    """An operator of the DSL as a processor: what a wrapper's processor hands records to.

    Args:
        operator: the operator.
        place: the node; None for one that is only looked at while the topology is built.
    """

    def __init__(self, operator: Operator, place: _Place | None) -> None:
        self._takes = operator.takes
        self._place = place
        self._inner = None if place is None else operator.compile(place.scope)

    def process(self, record: Record[Any, Any]) -> None:
        """Has the operator process a record.

        Headers or a timestamp that the record has been given on its way here are the current ones
        meanwhile.
        """
        place, inner = self._place, self._inner
        assert place is not None
        assert inner is not None
        current, headers = place.scope.task.current, record.headers.raw()
        origin, timestamp = current.origin, current.timestamp
        if headers != list(current.headers() or ()):
            current.origin = (current.offset(), headers) if headers else current.offset()
        if record.timestamp != place.arrived_ms:
            current.timestamp = record.timestamp
        try:
            if self._takes is Edge.CHANGE:
                new, old = record.value
                inner(record.key, new, old, record.timestamp)
            else:
                inner(record.key, record.value, record.timestamp)
        finally:
            current.origin, current.timestamp = origin, timestamp


def wrapped(
    name: str, operator: Operator, wrapper: ProcessorWrapper
) -> tuple[Operator, AnySupplier | None, Sequence[StoreBuilder]]:
    """Asks a wrapper about a node.

    Returns:
        The node's operator, what makes the processors around it (None if the operator itself is
        the user's processor, wrapped), and the stores that the wrapper adds.

    Raises:
        TypeError: the wrapper returned no supplier of processors.
        TopologyError: the supplier returns one object twice.
    """
    own = operator if isinstance(operator, ProcessorApiOperator) else None
    inner: AnySupplier = own.supplier if own else lambda: OperatorProcessor(operator, _place.get())
    outer = wrapper(name, inner)
    try:
        check_supplier(f"what processor_wrapper makes of {name!r}", outer, may_raise=True)
    except TopologyError as error:
        error.node = name
        raise
    stores = supplied_stores(outer)
    return (replace(own, supplier=outer), None, stores) if own else (operator, outer, stores)


def compile_wrapped(operator: Operator, supplier: AnySupplier, scope: NodeScope) -> Process:
    """Makes the processor around an operator of the DSL and returns the closure that feeds it."""
    place = _Place(scope)
    token = _place.set(place)
    try:
        processor = checked_product(f"processor {scope.name!r}", supplier())
    finally:
        _place.reset(token)
    children = scope.children
    if operator.gives is Edge.CHANGE:
        children = {child: _of_changes(process) for child, process in children.items()}
    context = scope.task.processor_context(scope.name, children, scope.stores)
    scope.task.on_start(scope.name, lambda: set_up(processor, context))
    close = getattr(processor, "close", None)
    if close is not None:
        scope.task.on_close(scope.name, close)
    current, failed, work = scope.task.current, scope.failed, processor.process

    def process(key: Any, value: Any, timestamp: int) -> None:
        place.arrived_ms = timestamp
        try:
            result = work(Record(key, value, timestamp, Headers(current.headers() or ())))
            if result is not None:
                refuse_result("process()", result)
        except Exception as error:
            failed(error, key, value, timestamp)

    if operator.takes is not Edge.CHANGE:
        return process

    def process_change(key: Any, new: Any, old: Any, timestamp: int) -> None:
        process(key, TableChange(new, old), timestamp)

    return process_change


def _of_changes(process: Process) -> Process:
    """Returns what takes a change as the value of a record."""

    def forward(key: Any, change: Any, timestamp: int) -> None:
        new, old = change
        process(key, new, old, timestamp)

    return forward
