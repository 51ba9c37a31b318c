"""Queries of window stores: plain, timestamped, with headers.

Owns their face over all tasks of a process, their questions over HTTP, and how `thalweg query` asks
and shows them. It must not know who answers.

    /stores/S/keys/KEY/windows    from to reverse limit cursor
    /stores/S/windows             key key_from key_to from to reverse limit cursor

In the process, scans follow each other partition by partition, as in the JVM: inside one, the order
is that of the segments. Over HTTP they are merged: by segment, the key's bytes and start, as rows
stand in a partition; one key's windows by start.

Source: JVM `CompositeReadOnlyWindowStore`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar, overload

from thalweg.stores.api import KeyValueIterator, ReadOnlyWindowStore, WindowStoreIterator
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.formats import pack_int64
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.windowed import FOREVER_MS, Windowed, epoch_ms
from thalweg.streams.queries.composite import Composite, Unwrap, records_of
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
from thalweg.streams.queries.rows import Paging, Row, bad_cursor, beside_value
from thalweg.streams.queries.state_queries import (
    Query,
    TimestampedWindowKeyWithHeadersQuery,
    TimestampedWindowRangeWithHeadersQuery,
    UnansweredError,
    WindowKeyQuery,
    WindowRangeQuery,
)

K = TypeVar("K")
V = TypeVar("V")

_START_BYTES: Final = 8


class CompositeWindowStore(Composite[ReadOnlyWindowStore[K, V]], ReadOnlyWindowStore[K, V]):
    """Reads of a window store over all tasks of this process.

    Times are window starts, epoch milliseconds or datetimes, both ends included.
    """

    @overload
    def fetch(self, key: K, start_ms: int | datetime, /) -> V | None: ...
    @overload
    def fetch(
        self, key: K, from_ms: int | datetime, to_ms: int | datetime, /
    ) -> WindowStoreIterator[V]: ...
    def fetch(
        self, key: K, from_ms: int | datetime, to_ms: int | datetime | None = None, /
    ) -> V | WindowStoreIterator[V] | None:
        """Returns the value of one window, or scans a key's windows between two starts."""
        self.refuse_none(key)
        start = epoch_ms(from_ms)
        if to_ms is None:
            found: V | None = self.first(lambda face: face.fetch(key, start))
            return found
        end = epoch_ms(to_ms)
        return self.rows(lambda face: face.fetch(key, start, end))

    def backward_fetch(
        self, key: K, from_ms: int | datetime, to_ms: int | datetime
    ) -> WindowStoreIterator[V]:
        """Scans a key's windows, newest first."""
        self.refuse_none(key)
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self.rows(lambda face: face.backward_fetch(key, start, end))

    def fetch_range(
        self, lower: K | None, upper: K | None, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self.rows(lambda face: face.fetch_range(lower, upper, start, end))

    def backward_fetch_range(
        self, lower: K | None, upper: K | None, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_range`, in reverse."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self.rows(lambda face: face.backward_fetch_range(lower, upper, start, end))

    def fetch_all(
        self, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the windows of all keys."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self.rows(lambda face: face.fetch_all(start, end))

    def backward_fetch_all(
        self, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_all`, in reverse."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self.rows(lambda face: face.backward_fetch_all(start, end))

    def all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live row."""
        return self.rows(lambda face: face.all())

    def backward_all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live row, in reverse."""
        return self.rows(lambda face: face.backward_all())


# -- over HTTP and on the command line -----------------------------------------------------


class WindowKind(StoreKind):
    """Window stores."""

    names: ClassVar[Sequence[str]] = ("window", "timestamped-window")
    family = "window"
    noun = "window of key"
    times = ("window start", "window end")
    forms_of_key = ("windows",)
    hints: ClassVar[Mapping[str, str]] = {
        KEY: "ask /stores/{store}/keys/{key}/windows for the windows of a key",
        ROWS: "ask /stores/{store}/windows for its rows",
        "count": "window stores do not count their rows",
    }
    refused: ClassVar[Mapping[str, str]] = {
        **NO_VERSIONS,
        "prefix": "{store!r} is a window store, it has no --prefix; use --from and --to",
    }

    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        WindowKeyQuery: lambda face, query, _unwrap: face.fetch(
            query.key, epoch_ms(query.time_from), epoch_ms(query.time_to)
        ),
        WindowRangeQuery: lambda face, query, _unwrap: _range(face, query),
    }

    def __init__(self) -> None:
        self.forms = {"windows": windows_question}

    @property
    def asked_by(self) -> str:
        """How `App.store` is asked for it, for messages."""
        return "windowed=True"

    def face(
        self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap
    ) -> CompositeWindowStore[Any, Any]:
        """Returns the read-only face over all tasks."""
        return CompositeWindowStore(builder.name, faces, unwrap)

    def target(self, asked: RowsAsked) -> Target:
        """Returns the question that asks for rows."""
        given = given_only(
            ("key_from", asked.lower),
            ("key_to", asked.upper),
            ("from", asked.time_from),
            ("to", asked.time_to),
            ("reverse", "true" if asked.reverse else None),
        )
        return Target("windows", asked.key, given)

    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        """Returns the key of a row in JSON, and its window."""
        windowed = row["key"]
        return windowed["key"], (windowed["start"], windowed["end"])


class HeadersWindowKind(WindowKind):
    """Window stores whose rows carry the time and the headers of their value."""

    names = ("timestamped-window-with-headers",)
    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        **WindowKind.queries,
        TimestampedWindowKeyWithHeadersQuery: lambda face, query, _unwrap: records_of(
            face.fetch_range(
                query.key, query.key, epoch_ms(query.time_from), epoch_ms(query.time_to)
            )
        ),
        TimestampedWindowRangeWithHeadersQuery: lambda face, query, _unwrap: records_of(
            _range(face, query)
        ),
    }


def _range(
    face: ReadOnlyWindowStore[K, V],
    query: WindowRangeQuery[K, object] | TimestampedWindowRangeWithHeadersQuery[K, object],
) -> KeyValueIterator[Windowed[K], V]:
    if query.key is not None or query.time_from is None or query.time_to is None:
        message = "a window store is asked by time_from and time_to, both of them, and by no key"
        raise UnansweredError(message)
    return face.fetch_all(epoch_ms(query.time_from), epoch_ms(query.time_to))


def windows_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for windows, of one key or many.

    Raises:
        RefusedError: it cannot be understood.
    """
    names = ("from", "to", "reverse", "limit", "cursor")
    known = names if key is not None else ("key", "key_from", "key_to", *names)
    given = Given(builder, path, parameters, known)
    given.refuse_together("key", "key_from")
    given.refuse_together("key", "key_to")
    one = given.key("key", key)
    lower, upper = (one, one) if one is not None else (given.key("key_from"), given.key("key_to"))
    times = given.moment_ms("from", 0), given.moment_ms("to", FOREVER_MS)
    paging = given.paging
    scan = _WindowScan(builder, (lower, upper), times, paging, is_one_key=one is not None)
    return given.question(
        lambda rows: rows.page(scan.rows, paging), Shape.PAGE, key=one, paging=paging
    )


class _WindowScan:
    """A scan of the windows of one partition, from where the cursor stands.

    Args:
        builder: the store.
        keys: the first and the last key; None leaves a side open.
        times: the first and the last start.
        paging: which rows.
        is_one_key: whether the keys are one: its windows are ordered by start.

    Raises:
        RefusedError: the cursor is none of this store.
    """

    def __init__(
        self,
        builder: StoreBuilder,
        keys: tuple[object, object],
        times: tuple[int, int],
        paging: Paging,
        *,
        is_one_key: bool,
    ) -> None:
        assert builder.key_serde is not None
        self._encode = builder.key_serde.serializer(builder.name)
        self._row_of = beside_value(builder)
        self._keys = keys
        self._paging = paging
        self._is_one_key = is_one_key
        # Rows that stand by time first do so where all keys are scanned.
        spec = builder.spec
        assert isinstance(spec, WindowSpec)
        is_by_time = spec.is_time_first and keys == (None, None)
        # Stores in memory keep each start as a segment of its own: see stores.rows.timed.
        is_in_segments = builder.backend == "rocks" and not is_one_key and not is_by_time
        self._span_ms = spec.segment_interval_ms if is_in_segments else 1
        self._times = self._behind_cursor(*times)

    def _behind_cursor(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        """Narrows the times to what can stand behind the cursor."""
        after = self._paging.after
        if after is None:
            return from_ms, to_ms
        if len(after) < _START_BYTES:
            raise bad_cursor()
        first = int.from_bytes(after[:_START_BYTES], "big", signed=True)
        if self._paging.is_reverse:
            return from_ms, min(to_ms, (first + 1) * self._span_ms - 1)
        return max(from_ms, first * self._span_ms), to_ms

    def rows(self, store: CompositeWindowStore[Any, Any]) -> Iterator[Row]:
        """Yields the rows of a partition."""
        fetch = store.backward_fetch_range if self._paging.is_reverse else store.fetch_range
        row_of, order = self._row_of, self._order
        with fetch(*self._keys, *self._times) as scan:
            for windowed, stored in scan:
                yield row_of(order(windowed), windowed, stored)

    def _order(self, windowed: Windowed[object]) -> bytes:
        start = pack_int64(windowed.window.start_ms)
        if self._is_one_key:
            return start
        segment = pack_int64(windowed.window.start_ms // self._span_ms)
        return segment + self._encode(windowed.key) + start
