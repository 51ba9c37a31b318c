"""A question to a store: what the options of `thalweg query` ask, and how rows are shown.

Owns which read of a store answers which options, and the two forms of a row. It must not
know how the application came to be running.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import typer

from stores.windowed import FOREVER_MS, Windowed
from streams.app import App
from streams.cli import text
from streams.cli.exits import UsageError, tell
from streams.cli.tables import is_terminal, write_table

TABLE_ROWS: Final = 1_000
"""Rows of a table on a terminal, where no limit is given: its columns need all rows at once."""


class HasStores(Protocol):
    """An application that runs, here or in another process."""

    def store(self, name: str, *, timestamped: bool = False) -> Any:
        """Returns the read-only face of a store."""
        ...


Ask: TypeAlias = Callable[[HasStores], Iterator["Row"]]
"""Asks the store of a running application."""


class Row(NamedTuple):
    """One row of a store.

    Attributes:
        key: the key, of a window store a `Windowed`.
        value: the value.
        timestamp: its event time, where the store keeps it.
    """

    key: Any
    value: Any
    timestamp: int | None


class Question(NamedTuple):
    """What the options ask, as text."""

    key: str | None
    lower: str | None
    upper: str | None
    prefix: str | None
    time_from: str | None
    time_to: str | None
    reverse: bool

    @property
    def has_range(self) -> bool:
        """Whether a range of keys is asked for."""
        return self.lower is not None or self.upper is not None

    @property
    def has_times(self) -> bool:
        """Whether an interval of window starts is asked for."""
        return self.time_from is not None or self.time_to is not None


# -- the question --------------------------------------------------------------------------


def planned(app: App, store: str, asked: Question) -> Ask:
    """Returns the function that asks; what is wrong with the question is told before.

    Raises:
        UnknownStoreError: there is no such store.
        UsageError: the options contradict each other, the store or the key's serde.
    """
    builder = app.store_builder(store)
    serde: Any = builder.key_serde
    if asked.key is not None and (asked.has_range or asked.prefix is not None):
        message = "--key asks for one key: leave out --from, --to and --prefix"
        raise UsageError(message)
    if asked.prefix is not None and (asked.has_range or asked.reverse):
        message = "--prefix goes with neither --from, --to nor --reverse"
        raise UsageError(message)
    key = _key("--key", asked.key, serde)
    lower, upper = _key("--from", asked.lower, serde), _key("--to", asked.upper, serde)

    def face(app: HasStores) -> Any:
        return app.store(store, timestamped=builder.is_timestamped)

    if builder.is_window:
        if asked.prefix is not None:
            message = f"{store!r} is a window store, it has no --prefix; use --from and --to"
            raise UsageError(message)
        if key is not None:
            lower = upper = key
        scan = _window_scan(asked, lower, upper)
        return lambda app: _rows(scan(face(app)), is_timestamped=builder.is_timestamped)
    if asked.has_times:
        message = f"{store!r} has no windows: --time-from and --time-to ask window stores"
        raise UsageError(message)
    if key is not None:
        return lambda app: _row(key, face(app).get(key), is_timestamped=builder.is_timestamped)
    prefix = None if asked.prefix is None else text.prefix_of(asked.prefix, serde)

    def scan_keys(face: Any) -> Any:
        if prefix is not None:
            return face.prefix_scan(prefix)
        if asked.has_range:
            return face.reverse_range(lower, upper) if asked.reverse else face.range(lower, upper)
        return face.reverse_all() if asked.reverse else face.all()

    return lambda app: _rows(scan_keys(face(app)), is_timestamped=builder.is_timestamped)


def _key(option: str, given: str | None, serde: Any) -> Any:
    if given is None:
        return None
    try:
        return text.value_of(given, serde)
    except UsageError as error:
        message = f"{option}: {error}"
        raise UsageError(message) from error


def _window_scan(asked: Question, lower: Any, upper: Any) -> Callable[[Any], Any]:
    start = 0 if asked.time_from is None else text.moment_ms(asked.time_from)
    end = FOREVER_MS if asked.time_to is None else text.moment_ms(asked.time_to)
    has_keys = lower is not None or upper is not None

    def scan(face: Any) -> Any:
        if has_keys:
            fetch = face.backward_fetch_range if asked.reverse else face.fetch_range
            return fetch(lower, upper, start, end)
        if asked.has_times:
            fetch = face.backward_fetch_all if asked.reverse else face.fetch_all
            return fetch(start, end)
        return face.backward_all() if asked.reverse else face.all()

    return scan


def _row(key: Any, value: Any, *, is_timestamped: bool) -> Iterator[Row]:
    if value is not None:
        yield Row(key, *value) if is_timestamped else Row(key, value, None)


def _rows(scan: Any, *, is_timestamped: bool) -> Iterator[Row]:
    with scan:
        for key, value in scan:
            yield Row(key, *value) if is_timestamped else Row(key, value, None)


# -- the answer ----------------------------------------------------------------------------


def write_json(rows: Iterable[Row]) -> None:
    """Writes rows as JSON objects, one a line."""
    for row in rows:
        shown: dict[str, Any] = {"key": text.plain(row.key)}
        if isinstance(row.key, Windowed):
            shown = text.plain(row.key)
        shown["value"] = text.plain(row.value)
        if row.timestamp is not None:
            shown["timestamp"] = row.timestamp
        typer.echo(text.json_text(shown))


def write_rows(rows: Iterator[Row], limit: int | None, *, is_window: bool) -> None:
    """Writes rows as a table; says so where there is none, or more than fit."""
    columns = ("key", "window start", "window end", "value") if is_window else ("key", "value")
    most = TABLE_ROWS if limit is None and is_terminal() else limit
    written = write_table(columns, (_cells(row) for row in itertools.islice(rows, most)))
    if limit is None and written == most and next(rows, None) is not None:
        tell(f"there are more rows; these are the first {most:,}: give --limit, or --json")
    elif not written and limit != 0:
        tell("no such row")


def _cells(row: Row) -> tuple[str, ...]:
    key = row.key
    if not isinstance(key, Windowed):
        return text.shown(key), text.shown(row.value)
    start, end = key.window.start_ms, key.window.end_ms
    moments = text.shown_moment(start), text.shown_moment(end)
    return text.shown(key.key), *moments, text.shown(row.value)
