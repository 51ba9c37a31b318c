"""Rows of a store's partitions in this instance, in one order, a page at a time.

Owns the order of rows over partitions, where a page begins and ends, and the form a row has in
an answer. It must not know which partitions are here: it is told them, and refuses what cannot
be read of them, so that a page is right or there is none.

    key-value store        by the key's bytes
    window store           by segment, the key's bytes, start: as rows stand in a partition;
                           one key's windows by start

A cursor is the order of the last row of a page. Rows of equal order, as duplicates are and keys
that stand in several partitions, are never divided between pages.

Source: JVM `CompositeReadOnlyKeyValueStore`; here window rows are merged as well.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import SerdeError
from thalweg.stores.formats import pack_int64
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.windowed import FOREVER_MS
from thalweg.streams.queries.answers import (
    Part,
    PartRow,
    bad,
    row_as_json,
)
from thalweg.streams.queries.composite import CompositeKeyValueStore, CompositeWindowStore

OpenStore: TypeAlias = Callable[[int | None], Any]
"""Returns the face of one partition of the store, with timestamps; of a global store of None."""

START_BYTES: Final = 8


class KeyRange(NamedTuple):
    """Which rows of a key-value store are asked for.

    Attributes:
        lower: the first key, None from the beginning.
        upper: the last key, included; None to the end.
        prefix: the bytes with which keys begin; goes with neither bound.
        is_reverse: highest keys first.
        after: the order of the row behind which to begin.
        limit: the most rows, at least 1.
    """

    lower: Any = None
    upper: Any = None
    prefix: bytes | None = None
    is_reverse: bool = False
    after: bytes | None = None
    limit: int = 1


class WindowRange(NamedTuple):
    """Which rows of a window store are asked for.

    Attributes:
        key: of one key; None of all between `lower` and `upper`.
        lower: the first key, None from the beginning.
        upper: the last key, included; None to the end.
        from_ms: the first window start.
        to_ms: the last window start, included.
        is_reverse: newest windows and highest keys first.
        after: the order of the row behind which to begin.
        limit: the most rows, at least 1.
    """

    key: Any = None
    lower: Any = None
    upper: Any = None
    from_ms: int = 0
    to_ms: int = FOREVER_MS
    is_reverse: bool = False
    after: bytes | None = None
    limit: int = 1


class _Row(NamedTuple):
    order: bytes
    key: Any
    value: Any


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
        self._builder = builder
        self._key_serde = builder.key_serde
        self._value_serde = builder.value_serde
        self._encode_key = builder.key_serde.serializer(builder.name)
        self._decode_key = builder.key_serde.deserializer(builder.name)
        self._open_store = open_store
        self._partitions = partitions

    # -- questions -----------------------------------------------------------------------

    def get(self, key: Any) -> Part:
        """Returns the row of a key, of the first partition that has it."""
        for store in self._opened():
            value = store.get(key)
            if value is not None:
                return Part([self._part_row(_Row(self._encode_key(key), key, value))])
        return Part()

    def scan(self, asked: KeyRange) -> Part:
        """Returns a page of rows by key.

        Raises:
            RefusedError: the cursor is none of this store.
        """

        def rows_of(store: CompositeKeyValueStore[Any, Any]) -> Iterator[tuple[Any, Any]]:
            return self._key_scan(store, asked)

        return self._page(rows_of, lambda row: self._encode_key(row[0]), asked)

    def windows(self, asked: WindowRange) -> Part:
        """Returns a page of windows.

        Raises:
            RefusedError: the cursor is none of this store.
        """
        order = self._start_order if asked.key is not None else self._window_order
        asked = self._resumed(asked)

        def rows_of(store: CompositeWindowStore[Any, Any]) -> Iterator[tuple[Any, Any]]:
            lower, upper = (asked.key, asked.key) if asked.key is not None else asked[1:3]
            fetch = store.backward_fetch_range if asked.is_reverse else store.fetch_range
            return fetch(lower, upper, asked.from_ms, asked.to_ms)

        return self._page(rows_of, order, asked)

    def count(self) -> Part:
        """Estimates how many rows there are."""
        return Part(count=sum(store.approximate_num_entries() for store in self._opened()))

    # -- where scans begin ---------------------------------------------------------------

    def _key_scan(
        self, store: CompositeKeyValueStore[Any, Any], asked: KeyRange
    ) -> Iterator[tuple[Any, Any]]:
        lower, upper, prefix, after = asked.lower, asked.upper, asked.prefix, asked.after
        if after is not None:
            last = self._key_of(after)
            # A cursor of another question must not widen this one.
            if asked.is_reverse:
                upper = last if upper is None or after < self._encode_key(upper) else upper
            elif prefix is None or after > prefix:
                lower = last if lower is None or after > self._encode_key(lower) else lower
            else:
                after = None
        if asked.is_reverse:
            return store.reverse_range(lower, upper)
        if prefix is None:
            return store.range(lower, upper)
        if after is None:
            return store.prefix_scan(prefix)
        return self._while_prefixed(store.range(lower, None), prefix)

    def _while_prefixed(self, rows: Any, prefix: bytes) -> Iterator[tuple[Any, Any]]:
        with rows:
            for row in rows:
                if not self._encode_key(row[0]).startswith(prefix):
                    return
                yield row

    def _key_of(self, order: bytes) -> Any:
        try:
            return self._decode_key(order)
        except SerdeError as error:
            raise _bad_cursor() from error

    def _resumed(self, asked: WindowRange) -> WindowRange:
        """Narrows the times to what can stand behind the cursor."""
        if asked.after is None:
            return asked
        if len(asked.after) < START_BYTES:
            raise _bad_cursor()
        first = int.from_bytes(asked.after[:START_BYTES], "big", signed=True)
        span = 1 if asked.key is not None else self._segment_ms
        if asked.is_reverse:
            return asked._replace(to_ms=min(asked.to_ms, (first + 1) * span - 1))
        return asked._replace(from_ms=max(asked.from_ms, first * span))

    # -- order ---------------------------------------------------------------------------

    @property
    def _segment_ms(self) -> int:
        # Stores in memory keep each start as a segment of its own: see stores.rows.segments.
        spec = self._builder.spec
        if isinstance(spec, WindowSpec) and self._builder.backend == "rocks":
            return spec.segment_interval_ms
        return 1

    def _window_order(self, row: tuple[Any, Any]) -> bytes:
        windowed, start = row[0], row[0].window.start_ms
        segment = pack_int64(start // self._segment_ms)
        return segment + self._encode_key(windowed.key) + pack_int64(start)

    @staticmethod
    def _start_order(row: tuple[Any, Any]) -> bytes:
        return pack_int64(row[0].window.start_ms)

    # -- pages ---------------------------------------------------------------------------

    def _opened(self) -> list[Any]:
        """Opens every partition before any is read: what is not here is told at once."""
        return [self._open_store(partition) for partition in self._partitions]

    def _page(
        self,
        rows_of: Callable[[Any], Any],
        order: Callable[[tuple[Any, Any]], bytes],
        asked: KeyRange | WindowRange,
    ) -> Part:
        with ExitStack() as scans:
            opened = [scans.enter_context(closing(rows_of(store))) for store in self._opened()]
            ordered = [(_Row(order(row), *row) for row in rows) for rows in opened]
            rows: Iterable[_Row] = heapq.merge(
                *ordered, key=lambda row: row.order, reverse=asked.is_reverse
            )
            found, is_cut = page(_behind(rows, asked), asked.limit)
            return Part([self._part_row(row) for row in found], is_cut)

    def _part_row(self, row: _Row) -> PartRow:
        value, timestamp = row.value, None
        if self._builder.is_timestamped:
            value, timestamp = row.value
        shown = row_as_json(row.key, value, timestamp, self._key_serde, self._value_serde)
        return PartRow(row.order, msgspec.Raw(shown))


def page(rows: Iterable[Any], limit: int) -> tuple[list[Any], bool]:
    """Takes the first rows, and tells whether there are more.

    Args:
        rows: in order, each with an `order`.
        limit: how many; rows of the last one's order come along.
    """
    found: list[Any] = []
    for row in rows:
        if len(found) >= limit and row.order != found[-1].order:
            return found, True
        found.append(row)
    return found, False


def _behind(rows: Iterable[_Row], asked: KeyRange | WindowRange) -> Iterator[_Row]:
    after = asked.after
    for row in rows:
        if after is None or (row.order < after if asked.is_reverse else row.order > after):
            yield row


def _bad_cursor() -> Exception:
    return bad("bad-cursor", "the cursor is none of this store; leave it out to begin anew")
