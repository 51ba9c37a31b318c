"""`thalweg query`: questions to the stores of an application on the embedded log.

Owns the options and who answers. Where the application runs, its process does. Else it has a short
life here: it is started paused, so it restores its stores and processes nothing, and closed when it
has answered. It must not know how stores answer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli import options
from streams.cli.exits import UsageError, is_debug, tell, told

if TYPE_CHECKING:
    from streams.app import App
    from streams.cli.question import HasStores
    from streams.worker import Progress

_WATCH: Final = timedelta(milliseconds=100)

_ROWS: Final = "Which rows"
_WINDOWS: Final = "Which windows"


@told
def query(
    script: options.Script,
    store: Annotated[
        str | None,
        typer.Argument(metavar="STORE", help="Name of a store; without it the stores are listed."),
    ] = None,
    *,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The row of one key.", rich_help_panel=_ROWS),
    ] = None,
    lower: Annotated[
        str | None,
        typer.Option("--from", metavar="KEY", help="Rows from this key on.", rich_help_panel=_ROWS),
    ] = None,
    upper: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="KEY", help="Rows up to this key, included.", rich_help_panel=_ROWS
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="TEXT",
            help="Rows whose keys begin so; 0x and hex digits stand for bytes.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    time_from: Annotated[
        str | None,
        typer.Option(
            "--time-from",
            metavar="TIME",
            help="Windows that start at this moment or later: epoch milliseconds, or ISO 8601 "
            "in UTC.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    time_to: Annotated[
        str | None,
        typer.Option(
            "--time-to",
            metavar="TIME",
            help="Windows that start at this moment or earlier.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    reverse: Annotated[
        bool, options.flag("--reverse", "Highest keys, newest windows first.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, help="At most so many rows.")
    ] = None,
    count: Annotated[bool, options.flag("--count", "Only how many rows there are.")] = False,
    as_json: Annotated[
        bool, options.flag("--json", "A JSON object a line, in place of a table.")
    ] = False,
    settings: options.Set = None,
    config: options.Config = None,
    data_dir: options.DataDir = None,
    state_dir: options.StateDir = None,
    log_level: options.LogLevel = options.LogLevelChoice.ERROR,
) -> None:
    """Asks a store of an application, whether it runs or not.

    While the application runs, its process answers. Else it is started here without processing
    anything: local state is used as it is, and restored from the changelog where it is behind or
    missing.

    A key is typed as the store's serde reads it: text as it is, a number, a UUID, or JSON.
    Output is a table, with tabs between the columns when it does not go to a terminal.
    """
    from streams import logs
    from streams.cli.question import Question, planned, write_json, write_rows
    from streams.cli.script import load_app
    from streams.cli.settings import given_settings, refuse_missing_log

    logs.install("people", log_level.value, traces=is_debug())
    given = given_settings(settings or (), config, {"data_dir": data_dir, "state_dir": state_dir})
    app = load_app(script, given, config)
    if store is None:
        _list_stores(app, as_json=as_json)
        return
    question = Question(key, lower, upper, prefix, time_from, time_to, reverse)
    rows_of = planned(app, store, question)
    if not app.config.is_local:
        message = (
            "an application on Kafka is asked while it runs, over HTTP (application_server); "
            "started here it would take tasks from the others"
        )
        raise UsageError(message)
    refuse_missing_log(app.config)
    with _answering(app) as answers:
        rows = rows_of(answers)
        if count:
            typer.echo(str(sum(1 for _ in itertools.islice(rows, limit))))
        elif as_json:
            write_json(itertools.islice(rows, limit))
        else:
            write_rows(rows, limit, is_window=app.store_builder(store).is_window)


def _list_stores(app: App, *, as_json: bool) -> None:
    from streams.cli.tables import write_table

    rows = []
    for name in app.store_names:
        builder = app.store_builder(name)
        assert builder.key_serde is not None
        assert builder.value_serde is not None
        rows.append((name, builder.kind, builder.key_serde.name, builder.value_serde.name))
    columns = ("store", "kind", "key", "value")
    if as_json:
        for row in rows:
            typer.echo(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False))
        return
    if not rows:
        tell(f"{app.application_id} has no stores")
        return
    write_table(columns, rows)


# -- the application -----------------------------------------------------------------------


@contextmanager
def _answering(app: App) -> Iterator[HasStores]:
    """Yields who answers for the stores of an application: its process, or a start of it here.

    Raises:
        StoreLockedError: another process owns its log and does not run it.
        StreamsError: what the application died of.
    """
    from streams.cli.running import running
    from streams.errors import StoreLockedError

    found = running(app)
    if found is not None:
        yield found
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(_restored(app))
        except StoreLockedError as error:
            # It may have begun just now.
            found = running(app)
            if found is None:
                message = (
                    f"{error}. A store is asked in the process that has its log, and that one "
                    f"does not run {app.application_id!r}"
                )
                raise StoreLockedError(message) from error
        yield found or app


@contextmanager
def _restored(app: App) -> Iterator[None]:
    """Starts an application paused, waits until its stores are complete, closes it at the end.

    Raises:
        StoreLockedError: another process owns its log or its state.
        StreamsError: what the application died of.
    """
    from streams.app import State

    app.pause()
    app.start()
    try:
        told_at = 0
        while not app.wait_for(State.RUNNING, timeout=_WATCH):
            if app.state.has_finished:
                break
            told_at = _tell_restoring(app.progress(), told_at)
        if app.error is not None:
            raise app.error
        yield
    finally:
        app.close()


def _tell_restoring(progress: Progress | None, told_at: int) -> int:
    """Says how far restoring is, each time it has come a good way on."""
    if progress is None or not progress.remaining_restore_records:
        return told_at
    whole = progress.restored_records + progress.remaining_restore_records
    if progress.restored_records - told_at < max(whole // 10, 100_000):
        return told_at
    tell(f"restoring: {progress.restored_records:,} of {whole:,} changelog records")
    return progress.restored_records
