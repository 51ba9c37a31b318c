"""Tables: their source, lazy and materialised operators, and views of their current rows.

Owns how a change (new, old) passes each operator and when the old value is known. A *view* says how
the current row of a key is read: from a store, or by applying operators to the row of the table
above. Joins read the other side through a view.

Source: JVM `KTableSource`, `KTableFilter`, `KTableMapValues`, `KTableTransformValues`,
`KTableValueGetter`; kafka-streams semantics D11.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from thalweg.stores.updates import Pair
from thalweg.topology.edges import Edge
from thalweg.topology.operators.operator import (
    NodeScope,
    Operator,
    Process,
    TableMaker,
    TableProcess,
    TaskScope,
)
from thalweg.topology.operators.returned import truth_of

Read = Callable[[Any], Pair | None]
ReadAsOf = Callable[[Any, int], Pair | None]
"""Takes (key, timestamp) and returns the row as it was at that time."""
Rows = Callable[[str], Read]
"""How to read a store by its name; which of its rows, the newest or others, is up to it."""


class TableView(ABC):
    """How to read a table's current row; bound once per task that asks."""

    @abstractmethod
    def store_names(self) -> tuple[str, ...]:
        """Returns the stores that a reader must be connected to."""

    @abstractmethod
    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns read(key) -> (value, timestamp) or None where the table has no row.

        Args:
            scope: the node that asks.
            rows: how stores are read, `newest_rows` or `forwarded_rows`.
        """

    def bind_as_of(self, scope: NodeScope) -> ReadAsOf | None:
        """Returns read(key, timestamp) of rows as they were; None where the table keeps none.

        Args:
            scope: the node that asks.
        """
        return None


def newest_rows(scope: NodeScope) -> Rows:
    """Returns a read of stores as they are now."""

    def rows(store: str) -> Read:
        read: Read = scope.task.store(store).read_row
        return read

    return rows


def forwarded_rows(scope: NodeScope) -> Rows:
    """Returns a read of stores as nodes downstream have heard of them."""

    def rows(store: str) -> Read:
        read: Read = scope.task.store(store).forwarded_row
        return read

    return rows


def latest_only(scope: NodeScope, process: TableProcess) -> TableProcess:
    """Returns `process` for changes of a versioned table: one that is not the latest is left out."""
    current, out_of_order = scope.task.current, scope.left_out("out-of-order")

    def process_latest(key: Any, new: Any, old: Any, timestamp: int) -> None:
        if current.is_latest or key is None:
            process(key, new, old, timestamp)
        else:
            out_of_order(key, timestamp)

    return process_latest


class StoreView(TableView):
    """The rows of a materialised table."""

    def __init__(self, store_name: str) -> None:
        self.store_name = store_name

    def store_names(self) -> tuple[str, ...]:
        """Returns the one store."""
        return (self.store_name,)

    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns the read of the store."""
        return rows(self.store_name)

    def bind_as_of(self, scope: NodeScope) -> ReadAsOf | None:
        """Returns the read of a versioned store, None of another one."""
        return scope.task.store(self.store_name).read_as_of


class FilterView(TableView):
    """The rows of a table that a predicate keeps."""

    def __init__(
        self, parent: TableView, predicate: Callable[[Any, Any], Any], negate: bool = False
    ) -> None:
        self.parent = parent
        self.predicate = predicate
        self.negate = negate

    def store_names(self) -> tuple[str, ...]:
        """Returns the parent's stores."""
        return self.parent.store_names()

    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns a read that filters the parent's."""
        read, predicate, negate = self.parent.bind(scope, rows), self.predicate, self.negate
        truth = truth_of("filter_not" if negate else "filter")

        def filtered(key: Any) -> Pair | None:
            pair = read(key)
            if pair is None or truth(predicate(key, pair[0])) == negate:
                return None
            return pair

        return filtered

    def bind_as_of(self, scope: NodeScope) -> ReadAsOf | None:
        """Returns a read that filters the parent's."""
        read, predicate, negate = self.parent.bind_as_of(scope), self.predicate, self.negate
        if read is None:
            return None
        truth = truth_of("filter_not" if negate else "filter")

        def filtered(key: Any, timestamp: int) -> Pair | None:
            pair = read(key, timestamp)
            if pair is None or truth(predicate(key, pair[0])) == negate:
                return None
            return pair

        return filtered


class MapView(TableView):
    """The rows of a table with mapped values."""

    def __init__(self, parent: TableView, fn: Callable[..., Any], with_key: bool) -> None:
        self.parent = parent
        self.fn = fn
        self.with_key = with_key

    def store_names(self) -> tuple[str, ...]:
        """Returns the parent's stores."""
        return self.parent.store_names()

    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns a read that maps the parent's."""
        read, fn, with_key = self.parent.bind(scope, rows), self.fn, self.with_key

        def mapped(key: Any) -> Pair | None:
            pair = read(key)
            if pair is None:
                return None
            value = fn(key, pair[0]) if with_key else fn(pair[0])
            return None if value is None else (value, pair[1])

        return mapped

    def bind_as_of(self, scope: NodeScope) -> ReadAsOf | None:
        """Returns a read that maps the parent's."""
        read, fn, with_key = self.parent.bind_as_of(scope), self.fn, self.with_key
        if read is None:
            return None

        def mapped(key: Any, timestamp: int) -> Pair | None:
            pair = read(key, timestamp)
            if pair is None:
                return None
            value = fn(key, pair[0]) if with_key else fn(pair[0])
            return None if value is None else (value, pair[1])

        return mapped


class TransformView(TableView):
    """The rows of a table as a value transformer sees them; it is asked for absent rows too."""

    def __init__(self, parent: TableView, supplier: Callable[[], Any]) -> None:
        self.parent = parent
        self.supplier = supplier

    def store_names(self) -> tuple[str, ...]:
        """Returns the parent's stores."""
        return self.parent.store_names()

    def bind(self, scope: NodeScope, rows: Rows) -> Read:
        """Returns a read through a transformer instance of its own."""
        read, transform = self.parent.bind(scope, rows), bind_transformer(self.supplier, scope)

        def transformed(key: Any) -> Pair | None:
            pair = read(key)
            value = transform(key, None if pair is None else pair[0])
            return None if value is None else (value, -1 if pair is None else pair[1])

        return transformed

    def bind_as_of(self, scope: NodeScope) -> ReadAsOf | None:
        """Returns a read through a transformer instance of its own."""
        read = self.parent.bind_as_of(scope)
        if read is None:
            return None
        transform = bind_transformer(self.supplier, scope)

        def transformed(key: Any, timestamp: int) -> Pair | None:
            pair = read(key, timestamp)
            value = transform(key, None if pair is None else pair[0])
            return None if value is None else (value, -1 if pair is None else pair[1])

        return transformed


def bind_transformer(supplier: Callable[[], Any], scope: NodeScope) -> Callable[[Any, Any], Any]:
    """Makes a value transformer for one task and returns its `transform`.

    A supplier may return an object with `transform(key, value)` and optional `init(context)`
    and `close()`, or a plain function of (key, value).
    """
    transformer = supplier()
    task: TaskScope = scope.task
    init = getattr(transformer, "init", None)
    if init is not None:
        context = task.processor_context(scope.name, {}, scope.stores)
        task.on_start(scope.name, lambda: init(context))
    close = getattr(transformer, "close", None)
    if close is not None:
        task.on_close(scope.name, close)
    transform: Callable[[Any, Any], Any] = getattr(transformer, "transform", transformer)
    return transform


@dataclass(frozen=True, eq=False)
class TableOperator(TableMaker):
    """Common part of the operators of a table."""

    takes = Edge.CHANGE

    def bind_updates(self, scope: NodeScope) -> tuple[Read | None, TableProcess]:
        """Returns how the operator reads its own rows, and where its changes go.

        Without a store there are no rows to read, and a change is forwarded.
        """
        if self.store_name is None:
            return None, scope.forward
        store = scope.task.store(self.store_name)
        updates = store.updates(scope.forward, send_old=self.tells_old_values)
        return updates.read, updates.write


@dataclass(frozen=True, eq=False)
class TableSource(TableOperator):
    """Reads a topic as a table: the latest value per key, None deletes."""

    takes = Edge.RECORD

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        forward, drop, failed = scope.forward, scope.drop, scope.failed
        if self.store_name is None:

            def source(key: Any, value: Any, timestamp: int) -> None:
                if key is None:
                    drop(key, value, timestamp)
                else:
                    forward(key, value, None, timestamp)

            return source

        store = scope.task.store(self.store_name)
        updates = store.updates(forward, send_old=self.tells_old_values)
        read, write = updates.read, updates.write

        def stored_source(key: Any, value: Any, timestamp: int) -> None:
            if key is None:
                drop(key, value, timestamp)
                return
            try:
                # Read even where the old value is not asked for: the JVM does, and what its
                # cache holds (so what it evicts) depends on it.
                pair = read(key)
                write(key, value, pair and pair[0], timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return stored_source


@dataclass(frozen=True, eq=False)
class StreamToTable(TableSource):
    """Turns a stream into a table: the same as a table source, in the middle of a chain."""


@dataclass(frozen=True, eq=False)
class TableFilter(TableOperator):
    """Keeps the rows for which `predicate(key, value)` holds (or does not).

    A rejected row is forwarded as a tombstone, even one never seen, unless old values are
    known and the old row was rejected too. Rows of a versioned table are always forwarded: a
    tombstone may hide a row of another time.

    Attributes:
        predicate: tells which rows to keep, or to leave out.
        negate: whether it tells which to leave out.
        is_versioned: whether its changes come from a versioned table.
    """

    predicate: Callable[[Any, Any], Any]
    negate: bool
    is_versioned: bool = field(default=False, kw_only=True)

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        predicate, negate, failed = self.predicate, self.negate, scope.failed
        send_old = self.tells_old_values
        is_quiet = self.send_old_values and not self.is_versioned
        truth = truth_of("filter_not" if negate else "filter")
        read, change = self.bind_updates(scope)

        def filter_(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                kept = new if new is not None and truth(predicate(key, new)) != negate else None
                before = None
                if send_old:
                    if read is not None:
                        pair = read(key)
                        before = pair and pair[0]
                    elif old is not None and truth(predicate(key, old)) != negate:
                        before = old
                    if is_quiet and before is None and kept is None:
                        return
                change(key, kept, before, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        return filter_


@dataclass(frozen=True, eq=False)
class TableMapValues(TableOperator):
    """Maps the value of each row; tombstones pass unmapped."""

    fn: Callable[..., Any]
    with_key: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, failed, send_old = self.fn, scope.failed, self.tells_old_values
        with_key = self.with_key
        read, change = self.bind_updates(scope)

        def map_values(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                if new is not None:
                    new = fn(key, new) if with_key else fn(new)
                before = None
                if send_old:
                    if read is not None:
                        pair = read(key)
                        before = pair and pair[0]
                    elif old is not None:
                        before = fn(key, old) if with_key else fn(old)
                change(key, new, before, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        return map_values


@dataclass(frozen=True, eq=False)
class TableTransformValues(TableOperator):
    """Maps rows by a stateful transformer, tombstones too."""

    supplier: Callable[[], Any]

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        transform = bind_transformer(self.supplier, scope)
        failed, send_old = scope.failed, self.tells_old_values
        read, change = self.bind_updates(scope)

        def transform_values(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                after = transform(key, new)
                before = None
                if send_old:
                    if read is not None:
                        pair = read(key)
                        before = pair and pair[0]
                    else:
                        before = transform(key, old)
                change(key, after, before, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        return transform_values


@dataclass(frozen=True, eq=False)
class TablePassThrough(Operator):
    """Hands every change on: where several aggregations make one table. Costs no call."""

    takes = Edge.CHANGE
    gives = Edge.CHANGE

    def compile(self, scope: NodeScope) -> Process:
        """Returns what follows."""
        return scope.forward


@dataclass(frozen=True, eq=False)
class ToStream(Operator):
    """Turns changes into records: the new value, None for a deleted row."""

    takes = Edge.CHANGE

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        forward = scope.forward

        def to_stream(key: Any, new: Any, _old: Any, timestamp: int) -> None:
            forward(key, new, timestamp)

        return to_stream
