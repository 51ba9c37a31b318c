"""Queries of key-value stores: plain, timestamped, with headers.

Owns their face over all tasks of a process, their questions over HTTP, and how `thalweg query` asks
and shows them. It must not know who answers.

    /stores/S/keys/KEY, /stores/S?key=KEY    the row of a key
    /stores/S                                from to prefix reverse limit cursor
    /stores/S/count                          about how many rows there are

Scans are merged in the byte order of the serialised keys, so that the number of partitions does not
show (the JVM concatenates the partitions).

Source: JVM `CompositeReadOnlyKeyValueStore`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar, overload

from thalweg.stores.api import KeyValueIterator, ReadOnlyKeyValueStore, ValueTimestampHeaders
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.record import Record
from thalweg.streams.queries.composite import (
    Composite,
    Unwrap,
    record_of,
    records_of,
    same,
    unwrapped,
)
from thalweg.streams.queries.keys import parse_prefix
from thalweg.streams.queries.kinds.kind import (
    KEY,
    NO_VERSIONS,
    ROWS,
    Answer,
    Faces,
    RowsAsked,
    StoreKind,
    Target,
    given_only,
)
from thalweg.streams.queries.questions import Given, Parameters, Question, Shape
from thalweg.streams.queries.rows import Paging, Row, StoreRows, beside_value, key_of
from thalweg.streams.queries.state_queries import (
    KeyQuery,
    Query,
    RangeQuery,
    TimestampedKeyQuery,
    TimestampedKeyWithHeadersQuery,
    TimestampedRangeQuery,
    TimestampedRangeWithHeadersQuery,
)

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_MOST_ENTRIES: Final = 2**63 - 1
"""The JVM's estimate is a long; a sum beyond it stays there."""

_NO_WINDOWS: Final = "{store!r} has no windows: --time-from and --time-to ask window stores"


class CompositeKeyValueStore(Composite[ReadOnlyKeyValueStore[K, V]], ReadOnlyKeyValueStore[K, V]):
    """Reads of a key-value store over all tasks of this process.

    Args:
        name: the store.
        faces: its tasks' faces at the moment of the call.
        encode_key: key -> the bytes that give the order.
        unwrap: stored value -> value as returned.
    """

    def __init__(
        self,
        name: str,
        faces: Callable[[], Sequence[ReadOnlyKeyValueStore[K, V]]],
        encode_key: Callable[[K], bytes],
        unwrap: Unwrap = same,
    ) -> None:
        super().__init__(name, faces, unwrap)
        self._encode_key = encode_key

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """Returns the value of a key, `default` when no task has it."""
        self.refuse_none(key)
        found = self.first(lambda face: face.get(key))
        return default if found is None else found

    def range(self, lower: K | None, upper: K | None) -> KeyValueIterator[K, V]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""
        return self.rows(lambda face: face.range(lower, upper), self._ascending)

    def reverse_range(self, lower: K | None, upper: K | None) -> KeyValueIterator[K, V]:
        """Scans as `range`, highest key first."""
        return self.rows(lambda face: face.reverse_range(lower, upper), self._descending)

    def all(self) -> KeyValueIterator[K, V]:
        """Scans every key."""
        return self.rows(lambda face: face.all(), self._ascending)

    def reverse_all(self) -> KeyValueIterator[K, V]:
        """Scans every key, highest first."""
        return self.rows(lambda face: face.reverse_all(), self._descending)

    def prefix_scan(self, prefix: K | bytes) -> KeyValueIterator[K, V]:
        """Scans keys whose bytes begin with `prefix`, given as bytes or as a key."""
        self.refuse_none(prefix)
        return self.rows(lambda face: face.prefix_scan(prefix), self._ascending)

    def approximate_num_entries(self) -> int:
        """Estimates the number of rows of all tasks, without what is cached."""
        total = self.total(lambda face: face.approximate_num_entries())
        return min(total, _MOST_ENTRIES)

    def _ascending(self, scans: Sequence[KeyValueIterator[K, V]]) -> Iterator[tuple[K, V]]:
        return heapq.merge(*scans, key=self._order)

    def _descending(self, scans: Sequence[KeyValueIterator[K, V]]) -> Iterator[tuple[K, V]]:
        return heapq.merge(*scans, key=self._order, reverse=True)

    def _order(self, row: tuple[K, V]) -> bytes:
        return self._encode_key(row[0])


# -- over HTTP and on the command line -----------------------------------------------------


class KeyValueKind(StoreKind):
    """Key-value stores."""

    names: ClassVar[Sequence[str]] = ("key-value",)
    family = "key-value"
    noun = "key"
    is_default = True
    hints: ClassVar[Mapping[str, str]] = {
        "windows": "ask /stores/{store}/keys/{key} for a key, also one called windows, or "
        "/stores/{store}",
    }
    refused: ClassVar[Mapping[str, str]] = {
        **NO_VERSIONS,
        "time_from": _NO_WINDOWS,
        "time_to": _NO_WINDOWS,
    }

    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        KeyQuery: lambda face, query, unwrap: _plain(face.get(query.key), unwrap),
        RangeQuery: lambda face, query, unwrap: unwrapped(_range(face, query), unwrap),
    }

    def __init__(self) -> None:
        self.forms = {KEY: key_question, ROWS: rows_question, "count": count_question}

    def face(
        self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap
    ) -> CompositeKeyValueStore[Any, Any]:
        """Returns the read-only face over all tasks."""
        assert builder.key_serde is not None
        encode = builder.key_serde.serializer(builder.name)
        return CompositeKeyValueStore(builder.name, faces, encode, unwrap)

    def target(self, asked: RowsAsked) -> Target:
        """Returns the question that asks for rows."""
        if asked.key is not None:
            return Target(KEY, asked.key, (), is_one_row=True)
        return Target(
            ROWS,
            None,
            given_only(
                ("from", asked.lower),
                ("to", asked.upper),
                ("prefix", asked.prefix),
                ("reverse", "true" if asked.reverse else None),
            ),
        )

    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        """Returns the key of a row in JSON; it has no times."""
        return row["key"], ()


class TimestampedKeyValueKind(KeyValueKind):
    """Key-value stores whose rows carry the event time of their value."""

    names = ("timestamped-key-value",)
    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        **KeyValueKind.queries,
        TimestampedKeyQuery: lambda face, query, _unwrap: face.get(query.key),
        TimestampedRangeQuery: lambda face, query, _unwrap: _range(face, query),
    }


class HeadersKeyValueKind(TimestampedKeyValueKind):
    """Key-value stores whose rows carry the time and the headers of their value."""

    names = ("timestamped-key-value-with-headers",)
    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        **TimestampedKeyValueKind.queries,
        TimestampedKeyWithHeadersQuery: lambda face, query, _unwrap: _record(face, query.key),
        TimestampedRangeWithHeadersQuery: lambda face, query, _unwrap: records_of(
            _range(face, query)
        ),
    }


def _record(
    face: ReadOnlyKeyValueStore[K, ValueTimestampHeaders[V]], key: K
) -> Record[K, V] | None:
    stored = face.get(key)
    return None if stored is None else record_of(key, stored)


def _plain(stored: object, unwrap: Unwrap) -> object:
    return None if stored is None else unwrap(stored)


def _range(
    face: ReadOnlyKeyValueStore[K, V],
    query: RangeQuery[K, object] | TimestampedRangeWithHeadersQuery[K, object],
) -> KeyValueIterator[K, V]:
    scan = face.reverse_range if query.descending else face.range
    return scan(query.lower, query.upper)


def key_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for one key, in the path or the parameters.

    Raises:
        RefusedError: it cannot be understood.
    """
    given = Given(builder, path, parameters, () if key is not None else ("key",))
    asked = given.key("key", key)
    assert builder.key_serde is not None
    encode, row_of = builder.key_serde.serializer(builder.name), beside_value(builder)

    def read(store: CompositeKeyValueStore[Any, Any]) -> Row | None:
        stored = store.get(asked)
        return None if stored is None else row_of(encode(asked), asked, stored)

    return given.question(lambda rows: rows.first(read), Shape.ROW, key=asked)


def rows_question(
    builder: StoreBuilder, path: str, parameters: Parameters, _key: str | None
) -> Question:
    """Returns the question for rows by key.

    Raises:
        RefusedError: it cannot be understood.
    """
    if any(name == "key" for name, _ in parameters):
        return key_question(builder, path, parameters, None)
    known = ("from", "to", "prefix", "reverse", "limit", "cursor")
    given = Given(builder, path, parameters, known)
    given.refuse_together("prefix", "from")
    given.refuse_together("prefix", "to")
    paging = given.paging
    if paging.is_reverse:
        given.refuse_together("prefix", "reverse")
    serde: Any = builder.key_serde
    scan = _KeyScan(
        builder,
        given.key("from"),
        given.key("to"),
        given.read("prefix", "bad-key", lambda text: parse_prefix(serde, text), None),
        paging,
    )
    return given.question(lambda rows: rows.page(scan.rows, paging), Shape.PAGE, paging=paging)


def count_question(
    builder: StoreBuilder, path: str, parameters: Parameters, _key: str | None
) -> Question:
    """Returns the question for the number of rows.

    Raises:
        RefusedError: it cannot be understood.
    """
    return Given(builder, path, parameters, ()).question(StoreRows.count, Shape.COUNT)


class _KeyScan:
    """A scan by key of one partition, from where the cursor stands.

    Args:
        builder: the store.
        lower: the first key, None from the beginning.
        upper: the last key, included; None to the end.
        prefix: the bytes with which keys begin; goes with neither bound.
        paging: which rows.
    """

    def __init__(
        self, builder: StoreBuilder, lower: Any, upper: Any, prefix: bytes | None, paging: Paging
    ) -> None:
        assert builder.key_serde is not None
        self._builder = builder
        self._encode = builder.key_serde.serializer(builder.name)
        self._row_of = beside_value(builder)
        self._bounds = lower, upper, prefix
        self._paging = paging

    def rows(self, store: CompositeKeyValueStore[Any, Any]) -> Iterator[Row]:
        """Yields the rows of a partition."""
        encode, row_of = self._encode, self._row_of
        prefix = self._bounds[2]
        scan = self._opened(store)
        with scan:
            for key, stored in scan:
                order = encode(key)
                if prefix is not None and not order.startswith(prefix):
                    return
                yield row_of(order, key, stored)

    def _opened(self, store: CompositeKeyValueStore[Any, Any]) -> KeyValueIterator[Any, Any]:
        (lower, upper, prefix), after = self._bounds, self._paging.after
        if after is not None:
            last = key_of(self._builder, after)
            # A cursor of another question must not widen this one.
            if self._paging.is_reverse:
                upper = last if upper is None or after < self._encode(upper) else upper
            elif prefix is None or after > prefix:
                lower = last if lower is None or after > self._encode(lower) else lower
            else:
                after = None
        if self._paging.is_reverse:
            return store.reverse_range(lower, upper)
        if prefix is None:
            return store.range(lower, upper)
        return store.prefix_scan(prefix) if after is None else store.range(lower, None)
