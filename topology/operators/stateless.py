"""Stateless stream operators: filter, map and others.

Owns one description per operator. Each compiles to one closure that is bound to its children. The
`try` around user code costs nothing unless it raises.

Source: JVM `KStreamFilter`, `KStreamMap`, `KStreamFlatMap`, `KStreamBranch`, ….
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from thalweg.topology.operators.operator import (
    NodeScope,
    Operator,
    Process,
)
from thalweg.topology.operators.returned import (
    ITERABLES,
    iterable_of,
    pair_of,
    truth_of,
)

Predicate = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Filter(Operator):
    """Lets the records through for which `predicate(key, value)` holds (or does not)."""

    predicate: Predicate
    negate: bool = False

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        predicate, forward, failed = self.predicate, scope.forward, scope.failed
        truth = truth_of("filter_not" if self.negate else "filter")
        if self.negate:

            def filter_not(key: Any, value: Any, timestamp: int) -> None:
                try:
                    kept = predicate(key, value)
                    if kept is False or (kept is not True and not truth(kept)):
                        forward(key, value, timestamp)
                except Exception as error:
                    failed(error, key, value, timestamp)

            return filter_not

        def filter_(key: Any, value: Any, timestamp: int) -> None:
            try:
                kept = predicate(key, value)
                if kept is True or (kept is not False and truth(kept)):
                    forward(key, value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return filter_


@dataclass(frozen=True, eq=False)
class NullKeyFilter(Operator):
    """Keeps records without a key from a repartition topic; the JVM does not count them."""

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        forward, drop = scope.forward, scope.ungrouped

        def not_null(key: Any, value: Any, timestamp: int) -> None:
            if key is not None:
                forward(key, value, timestamp)
            else:
                drop(key, value, timestamp)

        return not_null


@dataclass(frozen=True, eq=False)
class Map(Operator):
    """Replaces key and value by the pair `fn(key, value)`."""

    fn: Callable[[Any, Any], tuple[Any, Any]]

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, forward, failed = self.fn, scope.forward, scope.failed

        def map_(key: Any, value: Any, timestamp: int) -> None:
            try:
                pair = fn(key, value)
                if pair.__class__ is not tuple:
                    pair = pair_of("map", pair)
                try:
                    new_key, new_value = pair
                except ValueError:
                    new_key, new_value = pair_of("map", pair)  # says what is wrong
                forward(new_key, new_value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return map_


@dataclass(frozen=True, eq=False)
class FlatMap(Operator):
    """Replaces a record by the pairs of `fn(key, value)`, possibly none."""

    fn: Callable[[Any, Any], Iterable[tuple[Any, Any]]]

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, forward, failed = self.fn, scope.forward, scope.failed

        def flat_map(key: Any, value: Any, timestamp: int) -> None:
            try:
                pairs = fn(key, value)
                if pairs.__class__ not in ITERABLES:
                    pairs = iterable_of("flat_map", pairs, "pairs (key, value)")
                for pair in pairs:
                    try:
                        new_key, new_value = (
                            pair
                            if pair.__class__ is tuple
                            else pair_of("flat_map", pair, is_one_of_many=True)
                        )
                    except ValueError:
                        new_key, new_value = pair_of("flat_map", pair, is_one_of_many=True)
                    forward(new_key, new_value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return flat_map


@dataclass(frozen=True, eq=False)
class MapValues(Operator):
    """Replaces the value by `fn(value)`, or `fn(key, value)` when `with_key`."""

    fn: Callable[..., Any]
    with_key: bool = False

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, forward, failed = self.fn, scope.forward, scope.failed
        if self.with_key:

            def map_values_with_key(key: Any, value: Any, timestamp: int) -> None:
                try:
                    forward(key, fn(key, value), timestamp)
                except Exception as error:
                    failed(error, key, value, timestamp)

            return map_values_with_key

        def map_values(key: Any, value: Any, timestamp: int) -> None:
            try:
                forward(key, fn(value), timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return map_values


@dataclass(frozen=True, eq=False)
class FlatMapValues(Operator):
    """Replaces the value by each of `fn(value)`, or `fn(key, value)` when `with_key`."""

    fn: Callable[..., Iterable[Any]]
    with_key: bool = False

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, forward, failed = self.fn, scope.forward, scope.failed
        if self.with_key:

            def flat_map_values_with_key(key: Any, value: Any, timestamp: int) -> None:
                try:
                    values = fn(key, value)
                    if values.__class__ not in ITERABLES:
                        values = iterable_of("flat_map_values", values, "values")
                    for new_value in values:
                        forward(key, new_value, timestamp)
                except Exception as error:
                    failed(error, key, value, timestamp)

            return flat_map_values_with_key

        def flat_map_values(key: Any, value: Any, timestamp: int) -> None:
            try:
                values = fn(value)
                if values.__class__ not in ITERABLES:
                    values = iterable_of("flat_map_values", values, "values")
                for new_value in values:
                    forward(key, new_value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return flat_map_values


@dataclass(frozen=True, eq=False)
class SelectKey(Operator):
    """Replaces the key by `fn(key, value)`."""

    fn: Callable[[Any, Any], Any]

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, forward, failed = self.fn, scope.forward, scope.failed

        def select_key(key: Any, value: Any, timestamp: int) -> None:
            try:
                forward(fn(key, value), value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return select_key


@dataclass(frozen=True, eq=False)
class Peek(Operator):
    """Calls `fn(key, value)` and passes the record on, or ends the stream (`for_each`)."""

    fn: Callable[[Any, Any], Any]
    forward: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        fn, forward, failed = self.fn, scope.forward, scope.failed

        def peek(key: Any, value: Any, timestamp: int) -> None:
            try:
                fn(key, value)
                forward(key, value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return peek


@dataclass(frozen=True, eq=False)
class Branch(Operator):
    """Hands a record to the child of the first predicate that holds.

    Child i belongs to predicate i; one child more than predicates is the default branch.
    """

    predicates: tuple[Predicate, ...]

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        children = list(scope.children.values())
        routes = tuple(zip(self.predicates, children, strict=False))
        default = children[len(self.predicates)] if len(children) > len(self.predicates) else None
        failed, truth = scope.failed, truth_of("branch")

        def branch(key: Any, value: Any, timestamp: int) -> None:
            try:
                for predicate, child in routes:
                    kept = predicate(key, value)
                    if kept is True or (kept is not False and truth(kept)):
                        child(key, value, timestamp)
                        return
                if default is not None:
                    default(key, value, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return branch


@dataclass(frozen=True, eq=False)
class PassThrough(Operator):
    """Hands every record on: merge, and the heads of branches. Costs no call."""

    def compile(self, scope: NodeScope) -> Process:
        """Returns what follows."""
        return scope.forward
