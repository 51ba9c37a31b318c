"""A query of a store: the options of `thalweg query`, and how rows are shown.

Owns which options contradict each other, and the two forms of a row: cells of a table, and the JSON
of the HTTP interface. `streams.queries.kinds` says what each kind of store can be asked and which
columns it has. This module must not know who answers.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import typer

from thalweg.stores.builders import StoreBuilder
from thalweg.streams.cli import text
from thalweg.streams.cli.exits import UsageError, tell
from thalweg.streams.cli.tables import is_terminal, write_table
from thalweg.streams.queries.answers import RefusedError
from thalweg.streams.queries.client import RunningStore, question_of
from thalweg.streams.queries.kinds.kind import RowsAsked

TABLE_ROWS: Final = 1_000
"""Rows of a table on a terminal, where no limit is given: its columns need all rows at once."""

_OPTIONS: Final = {
    "key": "--key",
    "key_from": "--from",
    "key_to": "--to",
    "from": "--from",
    "to": "--to",
}
"""Parameter of a question that takes a key -> the option that gives it."""


class Shown(NamedTuple):
    """One row of a store, in either form.

    Attributes:
        cells: returns it as cells of a table.
        json: it as JSON.
    """

    cells: Callable[[], Sequence[str]]
    json: bytes


# -- the question --------------------------------------------------------------------------


def refuse_contradictions(asked: RowsAsked, store: RunningStore) -> None:
    """Refuses options that contradict each other or the kind of the store.

    Raises:
        UsageError: they do.
    """
    has_range = asked.lower is not None or asked.upper is not None
    if asked.key is not None and (has_range or asked.prefix is not None):
        message = "--key asks for one key: leave out --from, --to and --prefix"
        raise UsageError(message)
    if asked.prefix is not None and (has_range or asked.reverse):
        message = "--prefix goes with neither --from, --to nor --reverse"
        raise UsageError(message)
    if asked.as_of is not None and asked.has_times:
        message = "--as-of asks for one moment: leave out --time-from and --time-to"
        raise UsageError(message)
    if asked.key is None and store.asked.needs_key:
        raise UsageError(store.asked.needs_key.format(store=store.name))
    for field, reason in store.asked.refused.items():
        if getattr(asked, field):
            raise UsageError(reason.format(store=store.name))


def refuse_unreadable(asked: RowsAsked, builder: StoreBuilder) -> None:
    """Refuses a question to a store of which the serdes are known, before anybody is asked.

    Raises:
        UsageError: a key or a moment cannot be read.
    """
    try:
        question_of(builder, RunningStore.of(builder).asked.target(asked))
    except RefusedError as error:
        name = str(error.facts.get("parameter", ""))
        message = str(error).removeprefix(f"{name}: ")
        if error.code == "bad-key" and name in _OPTIONS:
            message = f"{_OPTIONS[name]}: {message}"
        raise UsageError(message) from error


# -- the answer ----------------------------------------------------------------------------


def shown_rows(rows: Iterable[bytes], store: RunningStore) -> Iterator[Shown]:
    """Returns rows that came as JSON."""
    return (_shown(row, store) for row in rows)


def _shown(row: bytes, store: RunningStore) -> Shown:
    return Shown(lambda: _cells(row, store), row)


def write_json(rows: Iterable[Shown]) -> int:
    """Writes rows as JSON objects, one a line, and returns how many."""
    written = 0
    for row in rows:
        typer.echo(row.json)
        written += 1
    return written


def write_rows(rows: Iterator[Shown], limit: int | None, store: RunningStore) -> int:
    """Writes rows as a table and returns how many; says so where there are more than fit."""
    columns = ("key", *store.asked.times, "value")
    most = TABLE_ROWS if limit is None and is_terminal() else limit
    written = write_table(columns, (row.cells() for row in itertools.islice(rows, most)))
    if limit is None and written == most and next(rows, None) is not None:
        tell(f"there are more rows; these are the first {most:,}: give --limit, or --json")
    return written


def tell_absent(asked: RowsAsked, store: RunningStore) -> None:
    """Says that nothing was found."""
    if asked.key is None:
        tell("no such row")
        return
    has_times = asked.has_times or asked.as_of is not None
    when = " at these times" if has_times else ""
    tell(f"store {store.name!r} has no {store.asked.noun} {asked.key!r}{when}")


def _cells(row: bytes, store: RunningStore) -> Sequence[str]:
    """Returns the cells of a row in JSON."""
    given = msgspec.json.decode(row)
    key, times = store.asked.parts(given)
    return (
        text.shown(_unmarked(key, store.key_serde)),
        *("" if moment is None else text.shown_moment(moment) for moment in times),
        text.shown(_unmarked(given["value"], store.value_serde)),
    )


def _unmarked(value: Any, serde: str) -> Any:
    """Returns a value of JSON with bytes in place of what marks them."""
    if serde.startswith("json"):
        return value  # it holds no bytes: what looks like the mark is the user's
    if isinstance(value, dict):
        if value.keys() == {"base64"} and isinstance(value["base64"], str):
            return base64.b64decode(value["base64"])
        return {key: _unmarked(item, serde) for key, item in value.items()}
    return [_unmarked(item, serde) for item in value] if isinstance(value, list) else value
