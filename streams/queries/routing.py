"""Routing: a request goes to the instances that have the rows, and their parts are merged.

Owns the choice of instances, which are asked directly, and the merging of their parts. Every
partition of a request is read exactly once, from an instance that has it. If one cannot be read,
the request fails; an answer never lacks rows. It must not know how a request reaches another
instance, nor how rows are read.

Source: KIP-67, KIP-535 (routing by metadata); the hop itself is not in the JVM.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from thalweg.rebalance.values import Endpoint
from thalweg.stores.builders import StoreBuilder
from thalweg.streams.queries.answers import Part, bad, not_now
from thalweg.streams.queries.metadata import GroupView, StoreDirectory
from thalweg.streams.queries.questions import Question, Scope
from thalweg.streams.queries.rows import StoreRows, page

Hop: TypeAlias = Callable[[Endpoint, Question, Sequence[int]], Part]
"""Asks another instance for its part: (end point, question, partitions); raises RefusedError."""

Together: TypeAlias = Callable[[Sequence[Callable[[], Part]]], list[Part]]
"""Does several things, if it can at once, and returns what they return, in their order."""


class StoreAccess(Protocol):
    """What routing asks of its own instance. Any thread may call it."""

    @property
    def directory(self) -> StoreDirectory:
        """Who has which store."""
        ...

    def group_view(self) -> GroupView:
        """Returns what is known of the group now."""
        ...

    def store_builder(self, name: str) -> StoreBuilder:
        """Returns the description of a store."""
        ...

    def store(self, name: str, *, timestamped: bool, partition: int | None) -> Any:
        """Returns the face of a store, or of one partition of it.

        Raises:
            StoreNotReadyError: its task is being restored.
            StoreMovedError: the partition is not here.
            AppStateError: the application does not run.
        """
        ...


class Router:
    """Answers questions with the rows of all instances. Any thread may use it.

    Args:
        instance: this one.
        hop: reaches the others.
        together: waits for several of them.
    """

    def __init__(self, instance: StoreAccess, hop: Hop, together: Together) -> None:
        self._instance = instance
        self._hop = hop
        self._together = together

    @staticmethod
    def alone(instance: StoreAccess) -> Router:
        """Returns a router for an application that has no other instances."""

        def hop(owner: Endpoint, question: Question, _partitions: Sequence[int]) -> Part:
            message = f"store {question.builder.name!r} has rows at {owner}, which is not asked"
            raise not_now("owner-unreachable", message)

        return Router(instance, hop, lambda asks: [ask() for ask in asks])

    def answer(self, question: Question) -> Part:
        """Returns the whole answer.

        Raises:
            RefusedError: an instance cannot be asked, or refused.
            StreamsError: this instance cannot answer.
        """
        view, name = self._instance.group_view(), question.builder.name
        directory = self._instance.directory
        if directory.is_global(name):
            return self._local(question, (None,))
        count = directory.partition_count(name, view)
        if not count:
            # Says why, if it is not only the assignment that is missing.
            self._instance.store(name, timestamped=False, partition=None)
            message = f"store {name!r}: its tasks are not assigned yet; ask again"
            raise not_now("store-not-ready", message, store=name)
        wanted = self._wanted(question, count)
        if question.scope is Scope.LOCAL:
            return self._local(question, self._here(question, wanted, view))
        if question.key is None:
            return self._gathered(question, wanted, view)
        return self._of_key(question, wanted, view)

    def local_part(self, question: Question) -> Part:
        """Returns what this instance has of the partitions asked for, for another instance.

        Raises:
            StreamsError: it cannot answer for all of them.
        """
        return self._local(question, question.partitions or ())

    def _local(self, question: Question, partitions: Sequence[int | None]) -> Part:
        builder, instance = question.builder, self._instance

        def open_store(partition: int | None) -> Any:
            return instance.store(
                builder.name, timestamped=builder.is_timestamped, partition=partition
            )

        return question.read(StoreRows(builder, open_store, partitions))

    # -- partitions ----------------------------------------------------------------------

    @staticmethod
    def _wanted(question: Question, count: int) -> tuple[int, ...]:
        if question.partitions is None:
            return tuple(range(count))
        for partition in question.partitions:
            if partition >= count:
                name = question.builder.name
                message = f"partition {partition} of store {name!r}: it has 0 to {count - 1}"
                raise bad("bad-number", message, parameter="partition")
        return question.partitions

    def _here(
        self, question: Question, wanted: tuple[int, ...], view: GroupView
    ) -> tuple[int, ...]:
        """Returns the partitions to read here; those that were named must be here."""
        if question.partitions is not None:
            return wanted
        name, directory = question.builder.name, self._instance.directory
        return tuple(p for p in wanted if directory.is_local(name, p, view))

    # -- asking --------------------------------------------------------------------------

    def _of_key(self, question: Question, wanted: tuple[int, ...], view: GroupView) -> Part:
        """Asks the key's owner, and where it has no such row, whoever else may have it."""
        builder, directory = question.builder, self._instance.directory
        assert builder.key_serde is not None
        raw_key = builder.key_serde.serializer(builder.name)(question.key)
        owned = directory.key_metadata(builder.name, raw_key, view).partition
        others = wanted
        if owned in wanted:
            part = self._gathered(question, (owned,), view)
            if part.rows or question.scope is Scope.OWNER:
                return part
            others = tuple(p for p in wanted if p != owned)
        elif question.scope is Scope.OWNER:
            return Part()
        return self._gathered(question, others, view) if others else Part()

    def _gathered(self, question: Question, wanted: Sequence[int], view: GroupView) -> Part:
        """Asks each instance for its partitions, and puts their parts together."""
        name, directory = question.builder.name, self._instance.directory
        here: list[int] = []
        elsewhere: dict[Endpoint, list[int]] = defaultdict(list)
        for partition in wanted:
            if directory.is_local(name, partition, view):
                here.append(partition)
                continue
            owner = directory.owner(name, partition, view)
            if owner is None:
                message = (
                    f"no instance is known that has partition {partition} of store {name!r}: it "
                    "is being assigned, or its instance has no application_server; ask again"
                )
                raise not_now("owner-unknown", message, store=name, partition=partition)
            elsewhere[owner].append(partition)
        asks = [self._ask(question, owner, theirs) for owner, theirs in elsewhere.items()]
        if not asks:
            return self._local(question, here)
        if here:
            asks.append(lambda: self._local(question, here))
        return merged(self._together(asks), question)

    def _ask(
        self, question: Question, owner: Endpoint, partitions: Sequence[int]
    ) -> Callable[[], Part]:
        return lambda: self._hop(owner, question, partitions)


def merged(parts: Sequence[Part], question: Question) -> Part:
    """Puts parts together: rows in order, as many as were asked for; counts added up.

    A part that was cut has all its first rows, so the first rows of all are right.
    """
    rows = heapq.merge(
        *(part.rows for part in parts), key=lambda row: row.order, reverse=question.is_reverse
    )
    found, is_cut = page(rows, question.limit)
    return Part(
        found,
        is_cut or any(part.is_cut for part in parts),
        sum(part.count for part in parts),
    )
