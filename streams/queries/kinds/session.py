"""Queries of session stores.

Owns their face over all tasks of a process, their questions over HTTP, and how `thalweg query` asks
and shows them. It must not know who answers.

    /stores/S/keys/KEY/sessions    from to reverse limit cursor
    /stores/S/sessions             key key_from key_to from to reverse limit cursor

`from` and `to` ask for the sessions that a span of time touches: those that end at `from` or later and
start at `to` or earlier.

In the process, scans follow each other partition by partition, as in the JVM: inside one, the order
is that of the segments. Over HTTP they are merged: by segment of the end, the key's bytes, end and
start, as rows stand in a partition; one key's sessions by end and start.

Source: JVM `CompositeReadOnlySessionStore`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar

from thalweg.stores.api import KeyValueIterator, StoreIterator
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.formats import pack_int64
from thalweg.stores.kinds.session import SessionSpec
from thalweg.stores.record import Record
from thalweg.stores.session_faces import AggregationWithHeaders, ReadOnlySessionStore
from thalweg.stores.windowed import FOREVER_MS, Windowed, epoch_ms
from thalweg.streams.queries.composite import Composite, Unwrap, unwrapped
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
    TimestampedWindowRangeWithHeadersQuery,
    UnansweredError,
    WindowRangeQuery,
)

K = TypeVar("K")
V = TypeVar("V")

_END_BYTES: Final = 8
_SESSIONS: Final = "sessions"


class CompositeSessionStore(Composite[ReadOnlySessionStore[K, V]], ReadOnlySessionStore[K, V]):
    """Reads of a session store over all tasks of this process.

    Times are epoch milliseconds or datetimes, both ends included.
    """

    def fetch_session(self, key: K, start_ms: int | datetime, end_ms: int | datetime) -> V | None:
        """Returns the value of one session, None when there is no such session."""
        self.refuse_none(key)
        start, end = epoch_ms(start_ms), epoch_ms(end_ms)
        found: V | None = self.first(lambda face: face.fetch_session(key, start, end))
        return found

    def fetch(self, key: K) -> KeyValueIterator[Windowed[K], V]:
        """Scans a key's sessions, oldest first."""
        self.refuse_none(key)
        return self.rows(lambda face: face.fetch(key))

    def backward_fetch(self, key: K) -> KeyValueIterator[Windowed[K], V]:
        """Scans a key's sessions, newest first."""
        self.refuse_none(key)
        return self.rows(lambda face: face.backward_fetch(key))

    def fetch_range(self, lower: K | None, upper: K | None) -> KeyValueIterator[Windowed[K], V]:
        """Scans the sessions of a range of keys, both ends included, None leaves one open."""
        return self.rows(lambda face: face.fetch_range(lower, upper))

    def backward_fetch_range(
        self, lower: K | None, upper: K | None
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_range`, in reverse."""
        return self.rows(lambda face: face.backward_fetch_range(lower, upper))

    def find_sessions(
        self, key: K, earliest_end_ms: int | datetime, latest_start_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans a key's sessions that a span of time touches, oldest first."""
        self.refuse_none(key)
        times = epoch_ms(earliest_end_ms), epoch_ms(latest_start_ms)
        return self.rows(lambda face: face.find_sessions(key, *times))

    def backward_find_sessions(
        self, key: K, earliest_end_ms: int | datetime, latest_start_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `find_sessions`, newest first."""
        self.refuse_none(key)
        times = epoch_ms(earliest_end_ms), epoch_ms(latest_start_ms)
        return self.rows(lambda face: face.backward_find_sessions(key, *times))

    def find_sessions_range(
        self,
        lower: K | None,
        upper: K | None,
        earliest_end_ms: int | datetime,
        latest_start_ms: int | datetime,
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `find_sessions` a range of keys; None leaves one end open."""
        times = epoch_ms(earliest_end_ms), epoch_ms(latest_start_ms)
        return self.rows(lambda face: face.find_sessions_range(lower, upper, *times))

    def backward_find_sessions_range(
        self,
        lower: K | None,
        upper: K | None,
        earliest_end_ms: int | datetime,
        latest_start_ms: int | datetime,
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `find_sessions_range`, in reverse."""
        times = epoch_ms(earliest_end_ms), epoch_ms(latest_start_ms)
        return self.rows(lambda face: face.backward_find_sessions_range(lower, upper, *times))

    def find_ended(
        self, earliest_end_ms: int | datetime, latest_end_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the sessions of all keys that end between two times, both included."""
        times = epoch_ms(earliest_end_ms), epoch_ms(latest_end_ms)
        return self.rows(lambda face: face.find_ended(*times))

    def all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live session."""
        return self.rows(lambda face: face.all())

    def backward_all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live session, in reverse."""
        return self.rows(lambda face: face.backward_all())


# -- over HTTP and on the command line -----------------------------------------------------


class SessionKind(StoreKind):
    """Session stores."""

    names: ClassVar[Sequence[str]] = ("session",)
    family = "session"
    noun = "session of key"
    times = ("session start", "session end")
    forms_of_key = (_SESSIONS,)
    hints: ClassVar[Mapping[str, str]] = {
        KEY: "ask /stores/{store}/keys/{key}/sessions for the sessions of a key",
        ROWS: "ask /stores/{store}/sessions for its rows",
        "windows": "ask /stores/{store}/sessions for its rows",
        "count": "session stores do not count their rows",
    }
    refused: ClassVar[Mapping[str, str]] = {
        **NO_VERSIONS,
        "prefix": "{store!r} is a session store, it has no --prefix; use --from and --to",
    }
    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        WindowRangeQuery: lambda face, query, _unwrap: _of_key(face, query),
    }

    def __init__(self) -> None:
        self.forms = {_SESSIONS: sessions_question}

    def face(
        self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap
    ) -> CompositeSessionStore[Any, Any]:
        """Returns the read-only face over all tasks."""
        return CompositeSessionStore(builder.name, faces, unwrap)

    def target(self, asked: RowsAsked) -> Target:
        """Returns the question that asks for rows."""
        given = given_only(
            ("key_from", asked.lower),
            ("key_to", asked.upper),
            ("from", asked.time_from),
            ("to", asked.time_to),
            ("reverse", "true" if asked.reverse else None),
        )
        return Target(_SESSIONS, asked.key, given)

    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        """Returns the key of a row in JSON, and its session."""
        windowed = row["key"]
        return windowed["key"], (windowed["start"], windowed["end"])


class HeadersSessionKind(SessionKind):
    """Session stores whose rows carry headers; all but queries of records leave these out."""

    names = ("session-with-headers",)
    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        WindowRangeQuery: lambda face, query, _unwrap: unwrapped(
            _of_key(face, query), _aggregation
        ),
        TimestampedWindowRangeWithHeadersQuery: lambda face, query, _unwrap: _records(
            _of_key(face, query)
        ),
    }

    def face(
        self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap
    ) -> CompositeSessionStore[Any, Any]:
        """Returns the read-only face over all tasks."""
        return CompositeSessionStore(builder.name, faces, _aggregation)


def _aggregation(stored: AggregationWithHeaders[V]) -> V:
    return stored.aggregation


def _records(
    rows: KeyValueIterator[Windowed[K], AggregationWithHeaders[V]],
) -> StoreIterator[Record[Windowed[K], V]]:
    """Returns sessions as records with the time of their end."""
    records = (
        Record(key, stored.aggregation, key.window.end_ms, stored.headers) for key, stored in rows
    )
    return StoreIterator(records, rows.close)


def _of_key(
    face: ReadOnlySessionStore[K, V],
    query: WindowRangeQuery[K, object] | TimestampedWindowRangeWithHeadersQuery[K, object],
) -> KeyValueIterator[Windowed[K], V]:
    if query.key is None or query.time_from is not None or query.time_to is not None:
        message = "a session store is asked by key, and by no times"
        raise UnansweredError(message)
    return face.fetch(query.key)


def sessions_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for sessions, of one key or many.

    Raises:
        RefusedError: it cannot be understood.
    """
    names = ("from", "to", "reverse", "limit", "cursor")
    known = names if key is not None else ("key", "key_from", "key_to", *names)
    given = Given(builder, path, parameters, known)
    given.refuse_together("key", "key_from")
    given.refuse_together("key", "key_to")
    one = given.key("key", key)
    keys = (one, one) if one is not None else (given.key("key_from"), given.key("key_to"))
    times = given.moment_ms("from", 0), given.moment_ms("to", FOREVER_MS)
    paging = given.paging
    scan = _SessionScan(builder, keys, times, paging, is_one_key=one is not None)
    return given.question(
        lambda rows: rows.page(scan.rows, paging), Shape.PAGE, key=one, paging=paging
    )


class _SessionScan:
    """A scan of the sessions of one partition, from where the cursor stands.

    Args:
        builder: the store.
        keys: the first and the last key; None leaves a side open.
        times: the earliest end and the latest start.
        paging: which rows.
        is_one_key: whether the keys are one: its sessions are ordered by end and start.

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
        spec = builder.spec
        assert isinstance(spec, SessionSpec)
        is_on_disk = builder.backend == "rocks"
        self._encode = builder.key_serde.serializer(builder.name)
        self._row_of = beside_value(builder)
        self._keys = keys
        self._paging = paging
        self._is_one_key = is_one_key
        # Stores in memory keep each end as a segment of its own: see stores.rows.timed.
        self._span_ms = spec.segment_interval_ms if is_on_disk and not is_one_key else 1
        self._is_by_time = is_on_disk and spec.is_time_first and keys == (None, None)
        self._earliest_end_ms, self._latest_start_ms = times
        after = paging.after
        if after is not None:
            if len(after) < _END_BYTES:
                raise bad_cursor()
            if not paging.is_reverse:
                first = int.from_bytes(after[:_END_BYTES], "big", signed=True)
                self._earliest_end_ms = max(times[0], first * self._span_ms)

    def rows(self, store: CompositeSessionStore[Any, Any]) -> Iterator[Row]:
        """Yields the rows of a partition."""
        is_reverse = self._paging.is_reverse
        find = store.backward_find_sessions_range if is_reverse else store.find_sessions_range
        row_of, order = self._row_of, self._order
        with find(*self._keys, self._earliest_end_ms, self._latest_start_ms) as scan:
            for windowed, stored in scan:
                yield row_of(order(windowed), windowed, stored)

    def _order(self, windowed: Windowed[object]) -> bytes:
        window = windowed.window
        segment = pack_int64(window.end_ms // self._span_ms)
        times = pack_int64(window.end_ms) + pack_int64(window.start_ms)
        if self._is_one_key:
            return times
        key = self._encode(windowed.key)
        return segment + times + key if self._is_by_time else segment + key + times
