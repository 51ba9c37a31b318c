"""Queries of versioned stores.

Owns their face over all tasks of a process, their questions over HTTP, and how `thalweg query` asks
and shows them. It must not know who answers.

    /stores/S/keys/KEY             as_of: the version that is valid then; the latest without it
    /stores/S/keys/KEY/versions    from to reverse limit cursor: the versions that are valid at some
                                   time between these, oldest first

There is no question for the rows of many keys: as in the JVM, a versioned store is read by key.

Source: KIP-960, KIP-968; in the JVM only queries of state read a versioned store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar

from thalweg.stores.api import ReadOnlyVersionedKeyValueStore, StoreIterator, VersionedRecord
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.formats import pack_int64
from thalweg.stores.windowed import FOREVER_MS
from thalweg.streams.queries.composite import Composite, Unwrap
from thalweg.streams.queries.kinds.kind import (
    KEY,
    ROWS,
    Answer,
    Faces,
    RowsAsked,
    StoreKind,
    Target,
    given_only,
)
from thalweg.streams.queries.questions import Given, Parameters, Question, Shape
from thalweg.streams.queries.rows import Row, bad_cursor
from thalweg.streams.queries.state_queries import (
    MultiVersionedKeyQuery,
    Query,
    VersionedKeyQuery,
)

K = TypeVar("K")
V = TypeVar("V")

_TIME_BYTES: Final = 8
_VERSIONS: Final = "versions"


class CompositeVersionedStore(
    Composite[ReadOnlyVersionedKeyValueStore[K, V]], ReadOnlyVersionedKeyValueStore[K, V]
):
    """Reads of a versioned store over all tasks of this process."""

    def get(self, key: K, as_of: int | datetime | None = None) -> VersionedRecord[V] | None:
        """Returns the version of a key that is valid at a time, the latest without one."""
        self.refuse_none(key)
        found: VersionedRecord[V] | None = self.first(lambda face: face.get(key, as_of))
        return found

    def versions(
        self,
        key: K,
        from_time: int | datetime | None = None,
        to_time: int | datetime | None = None,
        *,
        reverse: bool = False,
    ) -> StoreIterator[VersionedRecord[V]]:
        """Scans the versions of a key that are valid at some time of a span, oldest first."""
        self.refuse_none(key)
        return self.scan(lambda face: face.versions(key, from_time, to_time, reverse=reverse))


class VersionedKind(StoreKind):
    """Versioned stores."""

    names = ("versioned",)
    family = "versioned"
    noun = "version of key"
    times = ("valid from", "valid to")
    forms_of_key = (_VERSIONS,)
    needs_key = "{store!r} is a versioned store, which is read by key: give --key"
    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (ROWS, "windows", "sessions", "count", _VERSIONS),
        "ask /stores/{store}/keys/{key} for a key, /stores/{store}/keys/{key}/versions for all its "
        "versions",
    )
    refused: ClassVar[Mapping[str, str]] = {
        "prefix": "{store!r} is a versioned store, which is read by key: leave out --prefix",
    }
    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {
        VersionedKeyQuery: lambda face, query, _unwrap: face.get(query.key, query.as_of),
        MultiVersionedKeyQuery: lambda face, query, _unwrap: face.versions(
            query.key, query.time_from, query.time_to, reverse=not query.ascending
        ),
    }

    def __init__(self) -> None:
        self.forms = {KEY: version_question, _VERSIONS: versions_question}

    def face(
        self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap
    ) -> CompositeVersionedStore[Any, Any]:
        """Returns the read-only face over all tasks; a version tells its time by itself."""
        return CompositeVersionedStore(builder.name, faces)

    def gives_timestamps(self, builder: StoreBuilder) -> bool:
        """Says no: a version has its time in it."""
        return False

    def target(self, asked: RowsAsked) -> Target:
        """Returns the question that asks for the versions of some time, or for one version."""
        if asked.has_times or asked.reverse:
            given = given_only(
                ("from", asked.time_from),
                ("to", asked.time_to),
                ("reverse", "true" if asked.reverse else None),
            )
            return Target(_VERSIONS, asked.key, given)
        return Target(KEY, asked.key, given_only(("as_of", asked.as_of)), is_one_row=True)

    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        """Returns the key of a row in JSON, and in which times it is valid."""
        return row["key"], (row["timestamp"], row["valid_to"])

    def question(
        self, builder: StoreBuilder, form: str, path: str, parameters: Parameters, key: str | None
    ) -> Question:
        """Returns the question of a path; rows are asked for by key only."""
        has_key = key is not None or any(name == "key" for name, _ in parameters)
        if not has_key:
            raise self.no_such(builder, form)
        return super().question(builder, KEY if form == ROWS else form, path, parameters, key)


def version_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for one version of a key.

    Raises:
        RefusedError: it cannot be understood.
    """
    known = ("as_of",) if key is not None else ("key", "as_of")
    given = Given(builder, path, parameters, known)
    asked, as_of = given.key("key", key), given.moment_ms("as_of", None)

    def read(store: CompositeVersionedStore[Any, Any]) -> Row | None:
        record = store.get(asked, as_of)
        return None if record is None else _row(asked, record)

    return given.question(lambda rows: rows.first(read), Shape.ROW, key=asked)


def versions_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for the versions of a key.

    Raises:
        RefusedError: it cannot be understood.
    """
    names = ("from", "to", "reverse", "limit", "cursor")
    given = Given(builder, path, parameters, names if key is not None else ("key", *names))
    asked, paging = given.key("key", key), given.paging
    from_ms, to_ms = given.moment_ms("from", 0), given.moment_ms("to", FOREVER_MS)
    if paging.after is not None:
        if len(paging.after) != _TIME_BYTES:
            raise bad_cursor()
        last = int.from_bytes(paging.after, "big", signed=True)
        if paging.is_reverse:
            to_ms = min(to_ms, last)
        else:
            from_ms = max(from_ms, last)

    def scan(store: CompositeVersionedStore[Any, Any]) -> Iterator[Row]:
        with store.versions(asked, from_ms, to_ms, reverse=paging.is_reverse) as records:
            for record in records:
                yield _row(asked, record)

    return given.question(
        lambda rows: rows.page(scan, paging), Shape.PAGE, key=asked, paging=paging
    )


def _row(key: object, record: VersionedRecord[object]) -> Row:
    times = {"timestamp": record.timestamp, "valid_to": record.valid_to}
    return Row(pack_int64(record.timestamp), key, record.value, times)
