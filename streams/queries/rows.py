"""Rows of a store's partitions in this instance, in one order, a page at a time.

Owns the merging of partitions, the limits of a page, and the form of a row in an answer. It must
not know which partitions are here: they are arguments. If one cannot be read, the page fails, so
that a page is never incomplete. The kind of a store decides the order of rows and what is read of a
partition (`queries.kinds`).

A cursor is the position of the last row of a page in this order. Rows with an equal position, such
as duplicates and keys that are in several partitions, are never divided between pages.

Source: JVM `CompositeReadOnlyKeyValueStore`; here the rows of all kinds are merged.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from thalweg.stores.api import ValueTimestampHeaders
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import SerdeError
from thalweg.streams.queries.answers import (
    Part,
    PartRow,
    RefusedError,
    bad,
    headers_as_json,
    row_as_json,
)

OpenStore: TypeAlias = Callable[[int | None], Any]
"""Returns the face of one partition of the store, with timestamps; of a global store of None."""

NOTHING: Final[Mapping[str, object]] = {}


class Row(NamedTuple):
    """A row of an answer.

    Attributes:
        order: where it stands among the rows of all partitions.
        key: its key.
        value: its value.
        more: what the store keeps beside the value, by its name in JSON.
    """

    order: bytes
    key: object
    value: object
    more: Mapping[str, object] = NOTHING


class Paging(NamedTuple):
    """Which rows of an answer are asked for.

    Attributes:
        limit: the most rows, at least 1.
        is_reverse: highest rows first.
        after: the order of the row behind which to begin.
    """

    limit: int = 1
    is_reverse: bool = False
    after: bytes | None = None

    def begins_behind(self, order: bytes) -> bool:
        """Tells whether a row stands behind the cursor."""
        after = self.after
        return after is None or (order < after if self.is_reverse else order > after)


class Ordered(Protocol):
    """What has a place among the rows of an answer."""

    @property
    def order(self) -> bytes:
        """Where it stands."""
        ...


O = TypeVar("O", bound=Ordered)  # noqa: E741 - an order, no zero


class StoreRows:
    """Reads some partitions of one store. Any thread may use it.

    Args:
        builder: the store's description, with its serdes.
        open_store: opens one partition.
        partitions: which to read; (None,) for a global store.
    """

    def __init__(
        self, builder: StoreBuilder, open_store: OpenStore, partitions: Sequence[int | None]
    ) -> None:
        assert builder.key_serde is not None
        assert builder.value_serde is not None
        self._key_serde = builder.key_serde
        self._value_serde = builder.value_serde
        self._open_store = open_store
        self._partitions = partitions

    def first(self, read: Callable[[Any], Row | None]) -> Part:
        """Returns the row of the first partition that has it.

        Args:
            read: reads a partition's face.
        """
        for store in self._opened():
            row = read(store)
            if row is not None:
                return Part([self._part_row(row)])
        return Part()

    def page(self, scan: Callable[[Any], Iterator[Row]], paging: Paging) -> Part:
        """Returns a page of rows.

        Args:
            scan: reads a partition's face, in order; what it returns is closed.
            paging: which rows.

        Raises:
            RefusedError: the cursor is none of this store.
        """
        with ExitStack() as scans:
            opened: list[Any] = [scan(store) for store in self._opened()]
            for rows in opened:
                scans.enter_context(closing(rows))
            merged: Iterable[Row] = heapq.merge(
                *opened, key=lambda row: row.order, reverse=paging.is_reverse
            )
            behind = (row for row in merged if paging.begins_behind(row.order))
            found, is_cut = page(behind, paging.limit)
            return Part([self._part_row(row) for row in found], is_cut)

    def count(self) -> Part:
        """Estimates how many rows there are."""
        return Part(count=sum(store.approximate_num_entries() for store in self._opened()))

    def _opened(self) -> list[Any]:
        """Opens every partition before any is read: what is not here is told at once."""
        return [self._open_store(partition) for partition in self._partitions]

    def _part_row(self, row: Row) -> PartRow:
        shown = row_as_json(row.key, row.value, row.more, self._key_serde, self._value_serde)
        return PartRow(row.order, msgspec.Raw(shown))


def page(rows: Iterable[O], limit: int) -> tuple[list[O], bool]:
    """Takes the first rows, and tells whether there are more.

    Args:
        rows: in order, each with an `order`.
        limit: how many; rows of the last one's order come along.
    """
    found: list[O] = []
    for row in rows:
        if len(found) >= limit and row.order != found[-1].order:
            return found, True
        found.append(row)
    return found, False


# -- what kinds need -----------------------------------------------------------------------


def beside_value(builder: StoreBuilder) -> Callable[[bytes, object, Any], Row]:
    """Returns the function that makes rows of a store: (order, key, what it keeps) -> row."""
    if not builder.is_timestamped:
        return Row

    def row_of(order: bytes, key: object, stored: Any) -> Row:
        value, timestamp = stored
        more: dict[str, object] = {"timestamp": timestamp}
        if isinstance(stored, ValueTimestampHeaders):
            more["headers"] = headers_as_json(stored.headers)
        return Row(order, key, value, more)

    return row_of


def key_of(builder: StoreBuilder, order: bytes) -> Any:
    """Returns the key that a cursor names.

    Raises:
        RefusedError: it names none.
    """
    assert builder.key_serde is not None
    try:
        return builder.key_serde.deserializer(builder.name)(order)
    except SerdeError as error:
        raise bad_cursor() from error


def bad_cursor() -> RefusedError:
    """Returns the refusal of a cursor."""
    return bad("bad-cursor", "the cursor is none of this store; leave it out to begin anew")
