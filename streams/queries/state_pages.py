"""Interactive queries v2 over HTTP: their parameters, and their answers as JSON.

Owns both forms. They follow from the fields of a query (`queries.state_queries`), so a query that is
added there is asked here too. It must not know who answers.

    /queries/S/key?key=KEY&skip_cache=true
    /queries/S/range?lower=KEY&upper=KEY&descending=true
    /queries/S/window-range?time_from=…&time_to=…
    each: partition=0,3 position_bound={"topic":{"0":12}} require_active execution_info limit

Source: KIP-796; the JVM has no such server.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import MISSING, Field, dataclass, fields
from http import HTTPStatus
from typing import Any, Final, TypeVar

from thalweg.stores.api import ValueAndTimestamp, VersionedRecord
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.record import Record
from thalweg.streams.queries.answers import RefusedError, bad, headers_as_json, plain
from thalweg.streams.queries.kinds.known import known_queries
from thalweg.streams.queries.position import Position
from thalweg.streams.queries.questions import Given, Parameters
from thalweg.streams.queries.state_queries import Query, QueryResult, Rows, StateQueryResult

T = TypeVar("T")

_KEYS: Final = ("key", "lower", "upper")
_FLAGS: Final = ("skip_cache", "ascending", "descending")
_REQUEST: Final = ("position_bound", "require_active", "execution_info", "limit")


@dataclass(frozen=True, slots=True)
class AskedState:
    """A query of state, as it came.

    Attributes:
        name: the query's name in the path.
        query: what is asked.
        partitions: ask these only; None for all.
        position_bound: how far a partition must be.
        require_active: ask only running, active tasks.
        execution_info: tell how the query was executed.
        limit: the most rows of a partition.
    """

    name: str
    query: Query[Any]
    partitions: tuple[int, ...] | None
    position_bound: Position | None
    require_active: bool
    execution_info: bool
    limit: int


def name_of(query: type[Query[Any]]) -> str:
    """Returns the name of a query in a path: `WindowRangeQuery` is window-range."""
    words = re.findall("[A-Z][a-z]*", query.__name__.removesuffix("Query"))
    return "-".join(words).lower()


def asked_state(builder: StoreBuilder, name: str, parameters: Parameters) -> AskedState:
    """Reads a query of state.

    Raises:
        RefusedError: there is no such query, or it cannot be understood.
    """
    known = {name_of(query): query for query in known_queries()}
    if name not in known:
        detail = f"there is no query {name!r}; queries: {', '.join(sorted(known))}"
        raise RefusedError(HTTPStatus.NOT_FOUND, "unknown-path", detail)
    make: Any = known[name]  # every query is a dataclass
    parts = fields(make)
    given = Given(builder, name, parameters, (*(one.name for one in parts), *_REQUEST))
    asked = {one.name: _read(given, one) for one in parts}
    for one in parts:
        if asked[one.name] is None and one.default is MISSING:
            raise bad("missing-parameter", f"query {name} needs {one.name}", parameter=one.name)
    return AskedState(
        name,
        make(**asked),
        given.partitions,
        given.read("position_bound", "bad-position", Position.of_json, None),
        given.flag("require_active"),
        given.flag("execution_info"),
        given.paging.limit,
    )


def _read(given: Given, part: Field[object]) -> object:
    if part.name in _KEYS:
        return given.key(part.name)
    if part.name in _FLAGS:
        return given.flag(part.name)
    return given.moment_ms(part.name, None)


def state_as_json(
    builder: StoreBuilder, asked: AskedState, result: StateQueryResult[Any]
) -> dict[str, object]:
    """Returns an answer made of what JSON knows."""
    shown: dict[str, object] = {
        "store": builder.name,
        "query": asked.name,
        "partitions": {
            str(number): _result(builder, asked, one) for number, one in result.partitions.items()
        },
        "position": result.position.as_json(),
    }
    if result.global_result is not None:
        shown["global"] = _result(builder, asked, result.global_result)
    return shown


def _result(builder: StoreBuilder, asked: AskedState, one: QueryResult[Any]) -> dict[str, object]:
    shown: dict[str, object] = {"position": one.position.as_json()}
    if one.execution_info:
        shown["execution_info"] = list(one.execution_info)
    if one.failure is not None:
        return {"failure": one.failure.name, "message": one.message, **shown}
    value = one.value
    if asked.query.rows is Rows.NONE:
        return {**(_value(builder, value) if value is not None else {"value": None}), **shown}
    first = list(itertools.islice(value, asked.limit))
    is_cut = next(value, None) is not None
    rows = [_row(builder, asked.query.rows, row) for row in first]
    return {"rows": rows, "is_cut": is_cut, **shown}


def _row(builder: StoreBuilder, form: Rows, row: Any) -> dict[str, object]:
    assert builder.key_serde is not None
    if form is Rows.VERSIONS:
        return _value(builder, row)
    if form is Rows.RECORDS:
        return {"key": plain(row.key, builder.key_serde), **_value(builder, row)}
    key, stored = row
    if form is Rows.STARTS:
        return {"start": key, **_value(builder, stored)}
    return {"key": plain(key, builder.key_serde), **_value(builder, stored)}


def _value(builder: StoreBuilder, stored: object) -> dict[str, object]:
    """Returns a value, and what the store keeps beside it."""
    assert builder.value_serde is not None
    if isinstance(stored, Record):
        value, headers = plain(stored.value, builder.value_serde), headers_as_json(stored.headers)
        return {"value": value, "timestamp": stored.timestamp, "headers": headers}
    if isinstance(stored, ValueAndTimestamp):
        value = plain(stored.value, builder.value_serde)
        return {"value": value, "timestamp": stored.timestamp}
    if isinstance(stored, VersionedRecord):
        value = plain(stored.value, builder.value_serde)
        return {"value": value, "timestamp": stored.timestamp, "valid_to": stored.valid_to}
    return {"value": plain(stored, builder.value_serde)}
