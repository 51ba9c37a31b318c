"""`thalweg query`: reads of the stores of an application on the embedded log.

Owns the options, and the choice of who answers. If the application runs, its process answers.
Otherwise the application is started here, paused: it restores its stores and processes nothing,
answers, and is closed. This module must not know how stores answer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import (
    ExitCode,
    UsageError,
    is_debug,
    tell,
    told,
)

if TYPE_CHECKING:
    from thalweg.streams.app import App
    from thalweg.streams.queries.client import Answers, PageAnswers, RunningStore
    from thalweg.streams.queries.kinds.kind import RowsAsked
    from thalweg.streams.worker.progress import Progress

_WATCH: Final = timedelta(milliseconds=100)

_ROWS: Final = "Which rows"
_WINDOWS: Final = "Which times"


@told
def query(
    script: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCRIPT[:APP]]",
            help="Path or module with the application; its name where there are several. Not "
            "with --url.",
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE]", help="Name of a store; without it the stores are listed."
        ),
    ] = None,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="http://HOST:PORT",
            help="Ask a running worker, by its application_server, in place of a script. It "
            "answers with the rows of all workers.",
        ),
    ] = None,
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
            help="Windows that start at this moment or later, versions that are valid then or "
            "later: epoch milliseconds, or ISO 8601 in UTC.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    time_to: Annotated[
        str | None,
        typer.Option(
            "--time-to",
            metavar="TIME",
            help="Windows that start at this moment or earlier, versions that are valid then.",
            rich_help_panel=_WINDOWS,
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="Of a versioned store, the version that is valid at this moment.",
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

    Given a script on the embedded log, the process that runs it answers. Where none does, the
    application is started here without processing anything: local state is used as it is, and
    restored from the changelog where it is behind or missing. On Kafka give --url, and the
    address of any of its workers.

    A key is typed as the store's serde reads it: text as it is, a number, a UUID, or JSON.
    Output is a table, with tabs between the columns when it does not go to a terminal; with
    --json rows look as they do over HTTP. For a key that is not there the exit code is 1.
    """
    from thalweg.streams.cli.question import refuse_contradictions, refuse_unreadable
    from thalweg.streams.cli.script import load_app
    from thalweg.streams.cli.settings import given_settings, refuse_missing_log
    from thalweg.streams.observe import logs
    from thalweg.streams.queries.client import RunningStore
    from thalweg.streams.queries.kinds.kind import RowsAsked

    logs.install("people", log_level.value, traces=is_debug())
    asked = RowsAsked(key, lower, upper, prefix, time_from, time_to, as_of, reverse)
    answer = _Answer(asked, limit, is_count=count, as_json=as_json)
    if url is not None:
        _refuse_beside_url(script, store, settings, config, data_dir, state_dir)
        _ask_worker(url, store or script, answer)
        return
    if script is None:
        message = "give the SCRIPT with the application, or --url of one of its running workers"
        raise UsageError(message)
    given = given_settings(settings or (), config, {"data_dir": data_dir, "state_dir": state_dir})
    app = load_app(script, given, config)
    if store is None:
        answer.write_stores(app.application_id, _stores_of(app))
        return
    builder = app.store_builder(store)
    found = RunningStore.of(builder)
    refuse_contradictions(asked, found)
    refuse_unreadable(asked, builder)
    if not app.config.is_local:
        message = (
            "an application on Kafka is asked while it runs, over HTTP: give --url "
            "http://HOST:PORT, the application_server of any of its workers; started here it would "
            "take tasks from the others"
        )
        raise UsageError(message)
    refuse_missing_log(app.config)
    with _answering(app) as answers:
        answer.write(answers, found)


class _Answer:
    """How rows are written, whoever gives them."""

    def __init__(
        self, asked: RowsAsked, limit: int | None, *, is_count: bool, as_json: bool
    ) -> None:
        self.asked = asked
        self.limit = limit
        self._is_count = is_count
        self.as_json = as_json

    def write_stores(self, whose: str, stores: Sequence[RunningStore]) -> None:
        """Writes which stores there are.

        Raises:
            UsageError: rows were asked for, and of no store.
        """
        if (
            any(part not in (None, False) for part in self.asked)
            or self.limit is not None
            or self._is_count
        ):
            known = ", ".join(one.name for one in stores)
            message = (
                "give the name of the STORE whose rows are asked for; "
                + (f"{whose} has {known}" if known else f"{whose} has no stores")
                + "; without a store, and without options for rows, the stores are listed"
            )
            raise UsageError(message)
        _list_stores(whose, stores, as_json=self.as_json)

    def write(self, answers: Answers, store: RunningStore) -> None:
        """Writes rows, or how many they are.

        Raises:
            typer.Exit: there is nothing of the key that was asked for.
        """
        from thalweg.streams.cli.question import shown_rows, tell_absent, write_json, write_rows
        from thalweg.streams.queries.client import asked_rows

        limit = self.limit
        rows = shown_rows(asked_rows(answers, store, self.asked, limit), store)
        if self._is_count:
            found = sum(1 for _ in itertools.islice(rows, limit))
            typer.echo(str(found))
        elif self.as_json:
            found = write_json(itertools.islice(rows, limit))
        else:
            found = write_rows(rows, limit, store)
        if found or limit == 0:
            return
        is_for_programs = self._is_count or self.as_json
        if self.asked.key is not None or not is_for_programs:
            tell_absent(self.asked, store)
        if self.asked.key is not None:
            raise typer.Exit(ExitCode.FAILED)


# -- stores --------------------------------------------------------------------------------


def _stores_of(app: App) -> list[RunningStore]:
    from thalweg.streams.queries.client import RunningStore

    return [RunningStore.of(app.store_builder(name)) for name in app.store_names]


def _list_stores(whose: str, stores: Sequence[RunningStore], *, as_json: bool) -> None:
    from thalweg.streams.cli.tables import write_table

    rows = [(one.name, one.kind, one.key_serde, one.value_serde) for one in stores]
    columns = ("store", "kind", "key", "value")
    if as_json:
        for row in rows:
            typer.echo(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False))
        return
    if not rows:
        tell(f"{whose} has no stores")
        return
    write_table(columns, rows)


# -- a running worker ----------------------------------------------------------------------


def _refuse_beside_url(script: str | None, store: str | None, *settings: object) -> None:
    if script is not None and store is not None:
        message = f"--url asks a running worker: leave out {script}, and give only the store"
        raise UsageError(message)
    if any(settings):
        message = (
            "--url asks a running worker, which has its settings: leave out --set, --config, "
            "--data-dir and --state-dir"
        )
        raise UsageError(message)


def _ask_worker(url: str, name: str | None, answer: _Answer) -> None:
    """Asks a running worker and writes what it answers.

    Raises:
        UsageError: the address or the question is wrong; says why.
        UnknownStoreError: there is no such store.
        BrokerError: there is no worker.
        RefusedError: it does not answer now; says why.
    """
    from thalweg.streams.errors import BrokerError
    from thalweg.streams.queries.answers import RefusedError
    from thalweg.streams.queries.client import PageAnswers
    from thalweg.streams.queries.peer import PeerError, Site, fetch

    try:
        site = Site.parse(url)
    except ValueError as error:
        message = f"--url: {error}"
        raise UsageError(message) from error

    def get(target: str) -> tuple[int, bytes]:
        page = fetch(site, target)
        return page.status, page.body

    try:
        _ask_pages(PageAnswers(get), str(site), name, answer)
    except PeerError as error:
        what = "no worker is" if error.is_answering else "no worker answers"
        message = f"{what} at {site}: {error}; give the application_server of a running worker"
        raise BrokerError(message, retriable=not error.is_answering) from error
    except RefusedError as error:
        if HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UsageError(str(error)) from error
        raise


def _ask_pages(pages: PageAnswers, whose: str, name: str | None, answer: _Answer) -> None:
    from thalweg.streams.cli.question import refuse_contradictions

    if name is None:
        answer.write_stores(whose, pages.stores())
        return
    store = pages.store(name)
    refuse_contradictions(answer.asked, store)
    answer.write(pages, store)


# -- the application -----------------------------------------------------------------------


@contextmanager
def _answering(app: App) -> Iterator[Answers]:
    """Yields who answers for the stores of an application: its process, or a start of it here.

    Raises:
        StoreLockedError: another process owns its log and does not run it.
        StreamsError: what the application died of.
    """
    from thalweg.streams.cli.running import running
    from thalweg.streams.errors import StoreLockedError
    from thalweg.streams.queries.client import OwnAnswers

    found = running(app)
    if found is not None:
        yield found.answers()
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
        yield OwnAnswers(app) if found is None else found.answers()


@contextmanager
def _restored(app: App) -> Iterator[None]:
    """Starts an application paused, waits until its stores are complete, closes it at the end.

    Raises:
        StoreLockedError: another process owns its log or its state.
        StreamsError: what the application died of.
    """
    from thalweg.streams.life import State

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
