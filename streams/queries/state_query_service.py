"""Answers interactive queries v2: each partition of this process separately.

Owns which partitions are read, the checks before that, and what a failure means. The kinds of
stores (`queries.kinds`) give the answers. It must not know how a task keeps its stores.

Rows include the record cache, as everywhere else; only `skip_cache` reads below it. In the JVM all
queries except the key queries read below it.

Source: KIP-796; JVM `KafkaStreams.query`, `StoreQueryUtils`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, TypeVar

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import StoreClosedError
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.queries.composite import same, value_of
from thalweg.streams.queries.kinds.known import kind_of
from thalweg.streams.queries.position import Position
from thalweg.streams.queries.state_queries import (
    FailureReason,
    Query,
    QueryResult,
    StateQueryResult,
    UnansweredError,
)
from thalweg.streams.tasks.queried import QueriedStore, Readiness

R = TypeVar("R")

_ANYWHERE: Final = Position()


class StateQueryService:
    """Asks the stores of one application.

    Args:
        stores: name -> the stores of the tasks that are here, with their positions.
        partition_count: name -> over how many partitions a store is spread, 0 where that is not
            known.
        clock: measures how long a query takes.
    """

    def __init__(
        self,
        stores: Callable[[str], Iterable[QueriedStore]],
        partition_count: Callable[[str], int],
        clock: Clock | None = None,
    ) -> None:
        self._stores = stores
        self._partition_count = partition_count
        self._clock = clock or SystemClock()

    def answer(
        self,
        builder: StoreBuilder,
        query: Query[R],
        *,
        partitions: Collection[int] | None = None,
        position_bound: Position | None = None,
        require_active: bool = False,
        execution_info: bool = False,
    ) -> StateQueryResult[R]:
        """Asks the partitions of a store; see `App.query`."""
        bound = _ANYWHERE if position_bound is None or require_active else position_bound
        found: dict[int, QueryResult[R]] = {}
        for one in self._stores(builder.name):
            if one.partition is None:
                result = self._asked(builder, one, query, bound, execution_info=execution_info)
                return StateQueryResult({}, result)
            if partitions is not None and one.partition not in partitions:
                continue
            if require_active and one.readiness is not Readiness.RUNNING:
                message = f"an active task is required, and this one is {one.readiness.value}"
                result = QueryResult(failure=FailureReason.NOT_ACTIVE, message=message)
            else:
                result = self._asked(builder, one, query, bound, execution_info=execution_info)
            found[one.partition] = result
        for partition in sorted(set(partitions or ()) - found.keys()):
            found[partition] = self._missing(builder.name, partition)
        return StateQueryResult(dict(sorted(found.items())))

    def _asked(
        self,
        builder: StoreBuilder,
        one: QueriedStore,
        query: Query[R],
        bound: Position,
        *,
        execution_info: bool,
    ) -> QueryResult[R]:
        """Asks one partition."""
        begun = self._clock.monotonic_ms()
        skips_cache = one.store.is_cached and getattr(query, "skip_cache", False)
        # Taken before the rows are read: these are as new as it, or newer.
        position = _position(one.flushed_positions if skips_cache else one.positions)

        def result(failure: FailureReason | None, message: str, value: R | None) -> QueryResult[R]:
            info: tuple[str, ...] = ()
            if execution_info:
                took = self._clock.monotonic_ms() - begun
                cache = " below its cache" if skips_cache else ""
                told = (
                    f"{type(query).__name__} read {builder.kind} store {builder.name!r}{cache}, "
                    f"partition {one.partition}, {one.readiness.value}, in {took:.3f} ms"
                )
                info = (told,)
            return QueryResult(
                value, position=position, failure=failure, message=message, execution_info=info
            )

        kind = kind_of(builder)
        answer = kind.queries.get(type(query))
        if answer is None:
            known = ", ".join(one.__name__ for one in kind.queries) or "none"
            message = (
                f"store {builder.name!r} is a {builder.kind} store, which does not answer "
                f"{type(query).__name__}; it answers {known}"
            )
            return result(FailureReason.UNKNOWN_QUERY_TYPE, message, None)
        if one.partition is not None and not position.covers(bound, one.partition):
            message = f"the store is at {position}, not yet at the bound {bound}"
            return result(FailureReason.NOT_UP_TO_BOUND, message, None)
        unwrap = value_of if kind.gives_timestamps(builder) else same
        try:
            face = (one.store.uncached if skips_cache else one.store).read_only()
            value: Any = answer(face, query, unwrap)
        except UnansweredError as error:
            return result(FailureReason.UNKNOWN_QUERY_TYPE, str(error), None)
        except StoreClosedError as error:
            return result(FailureReason.NOT_PRESENT, f"it has just left: {error}", None)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return result(FailureReason.STORE_EXCEPTION, message, None)
        return result(None, "", value)

    def _missing(self, name: str, partition: int) -> QueryResult[R]:
        count = self._partition_count(name)
        if count and not 0 <= partition < count:
            message = f"store {name!r} has partitions 0 to {count - 1}"
            return QueryResult(failure=FailureReason.DOES_NOT_EXIST, message=message)
        message = f"partition {partition} of store {name!r} is not in this instance"
        return QueryResult(failure=FailureReason.NOT_PRESENT, message=message)


def _position(next_offsets: Any) -> Position:
    return Position(
        {(at.topic, at.partition): offset - 1 for at, offset in next_offsets.items() if offset > 0}
    )
