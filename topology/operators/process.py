"""The Processor API inside a chain: where users see `Record` objects.

Owns the bridge between the plain calls of a chain and a user's `Processor`: it builds the record,
initialises the processor when its task starts, and closes it with the task.

Source: JVM `KStreamImpl.process`, `ProcessorAdapter`, KIP-478, KIP-820.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.callables import arity, shown
from thalweg.stores.record import Headers, Record
from thalweg.topology.errors import TopologyError
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.returned import refuse_result
from thalweg.topology.processor import (
    FixedKeyProcessor,
    Processor,
    ReceivedRecord,
    checked_product,
)


def set_up(processor: Any, context: Any) -> None:
    """Gives a processor its context, and calls its `init`, which need not do so again."""
    if isinstance(processor, Processor | FixedKeyProcessor) or not hasattr(processor, "context"):
        with suppress(AttributeError):  # a class of the user's own with slots has no place for it
            processor.context = context
    init = getattr(processor, "init", None)
    if init is not None:
        init(context)


def _live(processor: Any, context: Any, scope: NodeScope) -> None:
    """Has the task set a processor up when it starts, and close it in the end."""
    scope.task.on_start(scope.name, lambda: set_up(processor, context))
    close = getattr(processor, "close", None)
    if close is not None:
        scope.task.on_close(scope.name, close)


@dataclass(frozen=True, eq=False)
class ProcessorApiOperator(Operator):
    """Runs a user's processor, one instance per task.

    Args:
        supplier: makes the processor; a class without arguments will do.
        fixed_key: whether it is a `FixedKeyProcessor`, whose records keep their key.
    """

    supplier: Callable[[], Any]
    fixed_key: bool = False

    def compile(self, scope: NodeScope) -> Process:
        """Makes the processor and returns the closure that feeds it."""
        processor = checked_product(f"processor {scope.name!r}", self.supplier())
        if self.fixed_key:
            return self._with_fixed_keys(processor, scope)
        context = scope.task.processor_context(scope.name, scope.children, scope.stores)
        _live(processor, context, scope)
        current, failed, work = scope.task.current, scope.failed, processor.process

        def process(key: Any, value: Any, timestamp: int) -> None:
            # A node before this one may have changed it, and stores log with it.
            current.timestamp = timestamp
            try:
                result = work(Record(key, value, timestamp, Headers(current.headers() or ())))
                if result is not None:
                    refuse_result("process()", result)
            except Exception as error:
                failed(error, key, value, timestamp)

        return process

    @staticmethod
    def _with_fixed_keys(processor: Any, scope: NodeScope) -> Process:
        """Returns the closure whose context remembers the record in hand."""
        context = scope.task.fixed_key_context(scope.name, scope.children, scope.stores)
        _live(processor, context, scope)
        current, failed, work = scope.task.current, scope.failed, processor.process

        def process(key: Any, value: Any, timestamp: int) -> None:
            current.timestamp = timestamp
            try:
                record = ReceivedRecord(key, value, timestamp, Headers(current.headers() or ()))
                context.received = record
                result = work(record)
                if result is not None:
                    refuse_result("process()", result)
            except Exception as error:
                failed(error, key, value, timestamp)

        return process


def check_supplier(who: str, supplier: Any, *, may_raise: bool = False) -> Any:
    """Looks at two processors of a supplier, as the JVM does, and returns one of them.

    Args:
        who: the processor's name or operator, for messages.
        supplier: what the user gave.
        may_raise: whether one that raises is left to the task, which tells it with its place.

    Raises:
        TypeError: it makes no processors.
        TopologyError: it returns one object twice.
    """
    if not callable(supplier):
        message = (
            f"{who} needs a class or function that makes processors, got {shown(supplier)}; every "
            "task needs its own: give the class itself, or a function that makes one"
        )
        raise TypeError(message)
    arity(supplier, {0: ""}, who)
    try:
        first, second = supplier(), supplier()
    except Exception:
        if may_raise:
            return None
        raise
    checked_product(who, first)
    if first is second:
        message = (
            f"the supplier of {who} returned the same object twice; let it make a new one at each "
            "call, every task needs its own"
        )
        raise TopologyError(message)
    return first


def supplied_stores(supplier: object) -> Sequence[StoreBuilder]:
    """Returns the stores that a processor supplier brings along (KIP-401)."""
    stores: Any = getattr(supplier, "stores", None)
    if callable(stores):
        stores = stores()
    return tuple(stores or ())


def processor_operator(name: str, supplier: Any) -> ProcessorApiOperator:
    """Wraps a supplier, after a look at two of its processors."""
    try:
        first = check_supplier(f"processor {name!r}", supplier)
    except TopologyError as error:
        error.node = name
        raise
    return ProcessorApiOperator(supplier, isinstance(first, FixedKeyProcessor))
