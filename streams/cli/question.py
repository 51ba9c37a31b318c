"""A question to a store: what the options of `thalweg query` ask, and how rows are shown.

Owns which read of a store answers which options, and the two forms of a row: cells of a table,
and JSON, which is that of the HTTP interface. It must not know how the application came to be
running, nor how a running worker is reached.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
import typer

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.windowed import FOREVER_MS, Windowed
from thalweg.streams.app import App
from thalweg.streams.cli import text
from thalweg.streams.cli.exits import UsageError, tell
from thalweg.streams.cli.tables import is_terminal, write_table
from thalweg.streams.queries.answers import row_as_json
from thalweg.streams.queries.client import RowsAsked, RunningStore

TABLE_ROWS: Final = 1_000
"""Rows of a table on a terminal, where no limit is given: its columns need all rows at once."""


class Shown(NamedTuple):
    """One row of a store, in either form.

    Attributes:
        cells: returns it as cells of a table.
        json: returns it as JSON.
    """

    cells: Callable[[], Sequence[str]]
    json: Callable[[], bytes]


class HasStores(Protocol):
    """An application that runs, here or in another process."""

    def store(self, name: str, *, timestamped: bool = False) -> Any:
        """Returns the read-only face of a store."""
        ...


Ask: TypeAlias = Callable[[HasStores], Iterator[Shown]]
"""Asks the store of a running application."""


class Row(NamedTuple):
    """One row of a store, read here.

    Attributes:
        key: the key, of a window store a `Windowed`.
        value: the value.
        timestamp: its event time, where the store keeps it.
    """

    key: Any
    value: Any
    timestamp: int | None


# -- the question --------------------------------------------------------------------------


def refuse_contradictions(asked: RowsAsked, store: str, *, is_window: bool) -> None:
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
    if is_window and asked.prefix is not None:
        message = f"{store!r} is a window store, it has no --prefix; use --from and --to"
        raise UsageError(message)
    if not is_window and _has_times(asked):
        message = f"{store!r} has no windows: --time-from and --time-to ask window stores"
        raise UsageError(message)


def planned(app: App, store: str, asked: RowsAsked) -> Ask:
    """Returns the function that asks; what is wrong with the question is told before.

    Raises:
        UnknownStoreError: there is no such store.
        UsageError: the options contradict each other, the store or the key's serde.
    """
    builder = app.store_builder(store)
    serde: Any = builder.key_serde
    refuse_contradictions(asked, store, is_window=builder.is_window)
    key = _key("--key", asked.key, serde)
    lower, upper = _key("--from", asked.lower, serde), _key("--to", asked.upper, serde)

    def face(app: HasStores) -> Any:
        return app.store(store, timestamped=builder.is_timestamped)

    def shown(rows: Iterator[Row]) -> Iterator[Shown]:
        return (_shown(row, builder) for row in rows)

    if builder.is_window:
        if key is not None:
            lower = upper = key
        scan = _window_scan(asked, lower, upper)
        return lambda app: shown(_rows(scan(face(app)), builder))
    if key is not None:
        return lambda app: shown(_row(key, face(app).get(key), builder))
    prefix = None if asked.prefix is None else text.prefix_of(asked.prefix, serde)

    def scan_keys(face: Any) -> Any:
        if prefix is not None:
            return face.prefix_scan(prefix)
        if lower is not None or upper is not None:
            return face.reverse_range(lower, upper) if asked.reverse else face.range(lower, upper)
        return face.reverse_all() if asked.reverse else face.all()

    return lambda app: shown(_rows(scan_keys(face(app)), builder))


def _has_times(asked: RowsAsked) -> bool:
    return asked.time_from is not None or asked.time_to is not None


def _key(option: str, given: str | None, serde: Any) -> Any:
    if given is None:
        return None
    try:
        return text.value_of(given, serde)
    except UsageError as error:
        message = f"{option}: {error}"
        raise UsageError(message) from error


def _window_scan(asked: RowsAsked, lower: Any, upper: Any) -> Callable[[Any], Any]:
    start = 0 if asked.time_from is None else text.moment_ms(asked.time_from)
    end = FOREVER_MS if asked.time_to is None else text.moment_ms(asked.time_to)
    has_keys = lower is not None or upper is not None

    def scan(face: Any) -> Any:
        if has_keys:
            fetch = face.backward_fetch_range if asked.reverse else face.fetch_range
            return fetch(lower, upper, start, end)
        if _has_times(asked):
            fetch = face.backward_fetch_all if asked.reverse else face.fetch_all
            return fetch(start, end)
        return face.backward_all() if asked.reverse else face.all()

    return scan


def _row(key: Any, value: Any, builder: StoreBuilder) -> Iterator[Row]:
    if value is not None:
        yield Row(key, *value) if builder.is_timestamped else Row(key, value, None)


def _rows(scan: Any, builder: StoreBuilder) -> Iterator[Row]:
    with scan:
        for key, value in scan:
            yield Row(key, *value) if builder.is_timestamped else Row(key, value, None)


# -- the answer ----------------------------------------------------------------------------


def _shown(row: Row, builder: StoreBuilder) -> Shown:
    key_serde, value_serde = builder.key_serde, builder.value_serde
    assert key_serde is not None
    assert value_serde is not None
    return Shown(
        lambda: _cells(row.key, row.value), lambda: row_as_json(*row, key_serde, value_serde)
    )


def shown_rows(rows: Iterable[bytes], store: RunningStore) -> Iterator[Shown]:
    """Returns rows that a running worker gave as JSON."""
    return (_shown_json(row, store) for row in rows)


def _shown_json(row: bytes, store: RunningStore) -> Shown:
    return Shown(lambda: _cells_of_json(row, store), lambda: row)


def write_json(rows: Iterable[Shown]) -> int:
    """Writes rows as JSON objects, one a line, and returns how many."""
    written = 0
    for row in rows:
        typer.echo(row.json())
        written += 1
    return written


def write_rows(rows: Iterator[Shown], limit: int | None, *, is_window: bool) -> int:
    """Writes rows as a table and returns how many; says so where there are more than fit."""
    columns = ("key", "window start", "window end", "value") if is_window else ("key", "value")
    most = TABLE_ROWS if limit is None and is_terminal() else limit
    written = write_table(columns, (row.cells() for row in itertools.islice(rows, most)))
    if limit is None and written == most and next(rows, None) is not None:
        tell(f"there are more rows; these are the first {most:,}: give --limit, or --json")
    return written


def tell_absent(asked: RowsAsked, store: str, *, is_window: bool) -> None:
    """Says that nothing was found."""
    if asked.key is None:
        tell("no such row")
        return
    what = f"window of key {asked.key!r}" if is_window else f"key {asked.key!r}"
    when = " at these times" if _has_times(asked) else ""
    tell(f"store {store!r} has no {what}{when}")


def _cells(key: Any, value: Any) -> Sequence[str]:
    if not isinstance(key, Windowed):
        return text.shown(key), text.shown(value)
    return text.shown(key.key), *_moments(key.window.start_ms, key.window.end_ms), text.shown(value)


def _moments(start_ms: int, end_ms: int) -> tuple[str, str]:
    return text.shown_moment(start_ms), text.shown_moment(end_ms)


def _cells_of_json(row: bytes, store: RunningStore) -> Sequence[str]:
    """Returns the cells of a row in JSON, as they were if it had been read here."""
    given = msgspec.json.decode(row)
    key, value = given["key"], _unmarked(given["value"], store.value_serde)
    if not store.is_window:
        return text.shown(_unmarked(key, store.key_serde)), text.shown(value)
    inner = _unmarked(key["key"], store.key_serde)
    return text.shown(inner), *_moments(key["start"], key["end"]), text.shown(value)


def _unmarked(value: Any, serde: str) -> Any:
    """Returns a value of JSON with bytes in place of what marks them."""
    if serde.startswith("json"):
        return value  # it holds no bytes: what looks like the mark is the user's
    if isinstance(value, dict):
        if value.keys() == {"base64"} and isinstance(value["base64"], str):
            return base64.b64decode(value["base64"])
        return {key: _unmarked(item, serde) for key, item in value.items()}
    return [_unmarked(item, serde) for item in value] if isinstance(value, list) else value
