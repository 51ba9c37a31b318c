"""Aggregations per key: of streams (count, reduce, aggregate) and of grouped tables.

Owns how each aggregation computes a new aggregate from an old one, the null rules, and the result
timestamps (the later of record and stored aggregate; a deletion is stored with the time of the
record that deletes). The store decides whether a result is forwarded at once or when the cache is
flushed.

Source: JVM `KStreamAggregate`, `KStreamReduce`, `KTableAggregate`, `KTableReduce`,
`KTableRepartitionMap`, `TimestampedTupleForwarder`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from thalweg.stores.errors import StreamsError
from thalweg.stores.updates import Step, add_one
from thalweg.topology.edges import Edge
from thalweg.topology.operators.operator import (
    NodeScope,
    Operator,
    Process,
    TableMaker,
)
from thalweg.topology.operators.returned import pair_of

Warn = Callable[[], None]

_LOOKS: Final = 10
"""So many calls of a subtractor are looked at, at most: a look copies the aggregate."""

_log = logging.getLogger(__name__)


class MissingResult:
    """Warns, once per operator, of a function that returned None where that is rarely meant."""

    def __init__(self) -> None:
        self._is_told = False

    def of(self, node: str, store: str) -> Warn:
        """Returns the function that warns.

        Args:
            node: the operator's name.
            store: the name of its store.
        """

        def warn() -> None:
            if not self._is_told:
                self._is_told = True
                _log.warning(
                    "the function of operator '%s' with store '%s' returned None, which deletes "
                    "the row; if it changes the aggregate in place, let it return the aggregate "
                    "(this is said once)",
                    node,
                    store,
                )

        return warn


@dataclass(frozen=True, eq=False)
class KeyedAggregate(TableMaker):
    """Common part of the stream-side aggregations: a store and a step."""

    store_name: str
    missing_result: MissingResult = field(default_factory=MissingResult, init=False)

    def step(self, warn: Warn) -> Step:
        """Returns the function (key, value, old aggregate or None) -> new aggregate or None.

        Args:
            warn: what to call when user code returned None where that is rarely meant.
        """
        raise NotImplementedError

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        store = scope.task.store(self.store_name)
        updates = store.updates(scope.forward, send_old=self.tells_old_values)
        step = self.step(self.missing_result.of(scope.name, self.store_name))
        return updates.fold(step, scope.drop, scope.failed)


@dataclass(frozen=True, eq=False)
class Count(KeyedAggregate):
    """Counts the records of each key."""

    def step(self, warn: Warn) -> Step:
        """Returns the counting step."""
        return add_one


@dataclass(frozen=True, eq=False)
class Reduce(KeyedAggregate):
    """Combines the values of each key with `fn(aggregate, value)`; the first stands as it is."""

    fn: Callable[[Any, Any], Any]

    def step(self, warn: Warn) -> Step:
        """Returns the reducing step."""
        return reduce_step(self.fn, warn)


@dataclass(frozen=True, eq=False)
class Aggregate(KeyedAggregate):
    """Folds the values of each key with `fn(key, value, aggregate)` from `initializer()`."""

    initializer: Callable[[], Any]
    fn: Step

    def step(self, warn: Warn) -> Step:
        """Returns the folding step."""
        return aggregate_step(self.initializer, self.fn, warn)


def reduce_step(reducer: Callable[[Any, Any], Any], warn: Warn) -> Step:
    """Makes a step of a reducer; warns if its first result is None.

    A reducer that changes the aggregate in place returns nothing but None. One that deletes
    rows does so now and then. Only the first result is looked at: the others cost nothing.
    """
    fn = reducer

    def first(aggregate: Any, value: Any) -> Any:
        nonlocal fn
        fn = reducer
        result = reducer(aggregate, value)
        if result is None:
            warn()
        return result

    fn = first

    def reduce_(_key: Any, value: Any, old: Any) -> Any:
        return value if old is None else fn(old, value)

    return reduce_


def aggregate_step(initializer: Callable[[], Any], fn: Step, warn: Warn) -> Step:
    """Makes a step of an initializer and an aggregator; warns if it makes no row of the first."""

    def fold(key: Any, value: Any, old: Any) -> Any:
        if old is not None:
            return fn(key, value, old)
        new = fn(key, value, initializer())
        if new is None:
            warn()
        return new

    return fold


def watched_subtractor(subtract: Step, add: Step, warn: Warn, settle: Callable[[], None]) -> Step:
    """Watches a user's subtractor until it is known whether it returns what it makes.

    One that returns None deletes the row of the whole group. That is right for the last row of a
    group only: there the aggregate is what the adder makes of this one row.

    Args:
        subtract: the subtractor.
        add: the adder, as a step.
        warn: what to call when None was returned while the group has other rows.
        settle: called when it need not be watched any more.
    """
    looks = 0

    def watched(key: Any, value: Any, aggregate: Any) -> Any:
        nonlocal looks
        before = _copied(aggregate)
        result = subtract(key, value, aggregate)
        looks += 1
        is_told = result is None and before is not None and _has_more(before, add, key, value)
        if is_told:
            warn()
        if is_told or result is not None or looks == _LOOKS:
            settle()
        return result

    return watched


def _copied(aggregate: Any) -> Any:
    """Returns a copy that equals the aggregate, None where there is none."""
    with suppress(Exception):  # whatever copying and comparing objects of the user's raise
        copy = deepcopy(aggregate)
        if copy == aggregate:
            return copy
    return None


def _has_more(aggregate: Any, add: Step, key: Any, value: Any) -> bool:
    """Tells whether an aggregate is not of this one row alone, as far as that can be told."""
    with suppress(Exception):  # as above, and the adder's own
        alone = add(key, value, None)
        return alone is not None and bool(alone != aggregate)
    return False


@dataclass(frozen=True, eq=False)
class TableGroupBySelect(Operator):
    """Sends both halves of a table change to the group each belongs to.

    Args:
        mapper: (key, value) -> (group, value); a half with a None in either, or None, is left out.
        legacy: send two records even when both halves go to one group (`upgrade.from` up to 3.4).
        is_versioned: whether the table is versioned. Then only the latest change of a row counts
            in its group.
    """

    takes = Edge.CHANGE
    gives = Edge.CHANGE

    mapper: Callable[[Any, Any], tuple[Any, Any] | None]
    legacy: bool = False
    is_versioned: bool = False

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        mapper, forward, failed, legacy = self.mapper, scope.forward, scope.failed, self.legacy
        node = scope.name

        def grouped(key: Any, value: Any) -> tuple[Any, Any]:
            pair = mapper(key, value)
            if pair.__class__ is tuple and len(pair) == 2:
                return pair
            if pair is None:  # the JVM takes a null for a row that belongs to no group
                return None, None
            return pair_of("group_by", pair)

        def select(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                if key is None:
                    message = "a grouped table got a record without a key; filter such rows first"
                    raise StreamsError(message, node=node)
                new_group, new_value = (None, None) if new is None else grouped(key, new)
                old_group, old_value = (None, None) if old is None else grouped(key, old)
                has_new = new_group is not None and new_value is not None
                has_old = old_group is not None and old_value is not None
                if has_new and has_old and not legacy and old_group == new_group:
                    forward(old_group, new_value, old_value, timestamp)
                    return
                if has_old:
                    forward(old_group, None, old_value, timestamp)
                if has_new:
                    forward(new_group, new_value, None, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        if not self.is_versioned:
            return select
        current = scope.task.current

        def select_latest(key: Any, new: Any, old: Any, timestamp: int) -> None:
            if current.is_latest:
                select(key, new, old, timestamp)

        return select_latest


@dataclass(frozen=True, eq=False)
class GroupedTableAggregate(TableMaker):
    """Common part of the aggregations of a grouped table: subtract old, add new."""

    takes = Edge.CHANGE

    watches_subtractor: ClassVar[bool] = True

    store_name: str
    missing_result: MissingResult = field(default_factory=MissingResult, init=False)

    def steps(self, warn: Warn) -> tuple[Step, Step]:
        """Returns add(key, value, aggregate or None) and subtract(key, value, aggregate).

        Args:
            warn: what to call when user code returned None where that is rarely meant. A
                subtractor returns None for the last row of a group.
        """
        raise NotImplementedError

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        store = scope.task.store(self.store_name)
        warn = self.missing_result.of(scope.name, self.store_name)
        add, plain = self.steps(warn)
        subtract = plain

        def settle() -> None:
            nonlocal subtract
            subtract = plain

        if self.watches_subtractor:
            subtract = watched_subtractor(plain, add, warn, settle)
        updates = store.updates(scope.forward, send_old=self.tells_old_values)
        read, write, failed, node = updates.read, updates.write, scope.failed, scope.name

        def aggregate(key: Any, new: Any, old: Any, timestamp: int) -> None:
            try:
                if key is None:
                    message = "an aggregated table got a record without a key"
                    raise StreamsError(message, node=node)
                pair = read(key)
                before = after = None if pair is None else pair[0]
                newest = timestamp
                if pair is not None and old is not None:
                    after = subtract(key, old, before)
                    newest = max(timestamp, pair[1])
                if new is not None:
                    after = add(key, new, after)
                    if pair is not None:
                        newest = max(timestamp, pair[1])
                write(key, after, before, newest, timestamp)
            except Exception as error:
                failed(error, key, new, timestamp)

        return aggregate


@dataclass(frozen=True, eq=False)
class TableCount(GroupedTableAggregate):
    """Counts the rows of each group."""

    watches_subtractor = False

    def steps(self, warn: Warn) -> tuple[Step, Step]:
        """Returns adding and subtracting one."""
        return add_one, lambda _key, _value, aggregate: aggregate - 1


@dataclass(frozen=True, eq=False)
class TableReduce(GroupedTableAggregate):
    """Keeps `adder(aggregate, new)` and `subtractor(aggregate, old)` of each group's rows."""

    adder: Callable[[Any, Any], Any]
    subtractor: Callable[[Any, Any], Any]

    def steps(self, warn: Warn) -> tuple[Step, Step]:
        """Returns the reducers as steps."""
        subtractor = self.subtractor
        add = reduce_step(self.adder, warn)
        return add, lambda _key, value, aggregate: subtractor(aggregate, value)


@dataclass(frozen=True, eq=False)
class TableAggregate(GroupedTableAggregate):
    """Folds each group's rows with `adder` and `subtractor` (key, value, aggregate)."""

    initializer: Callable[[], Any]
    adder: Step
    subtractor: Step

    def steps(self, warn: Warn) -> tuple[Step, Step]:
        """Returns the aggregators as steps."""
        return aggregate_step(self.initializer, self.adder, warn), self.subtractor
