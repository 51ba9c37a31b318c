"""`thalweg run`: runs an application until its clean stop.

Owns the order: log, script, settings, start, display, stop, summary. `App.run` handles signals.
This module must not know how records are processed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Final

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import (
    ExitCode,
    fail,
    is_debug,
    leave_at_once,
    nothing_begun,
    tell,
    told,
)
from thalweg.streams.errors import StreamsError

_UNTIL_IDLE_COMMIT_MS: Final = 1_000
"""How often to commit, at least, where the end is waited for: it shows at commits only."""


@told
def run(
    script: options.Script,
    *,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Number of worker processes; more than one needs a Kafka cluster.",
            rich_help_panel="Settings",
        ),
    ] = None,
    until_idle: Annotated[
        bool,
        options.flag(
            "--until-idle", "Stop when everything in the log is processed; commits every second."
        ),
    ] = False,
    progress: Annotated[
        bool, options.flag("--progress/--no-progress", "Show what is being done.")
    ] = True,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
    state_dir: options.StateDir = None,
    log_format: options.LogFormat = options.LogFormatChoice.PEOPLE,
    log_level: options.LogLevel = options.LogLevelChoice.WARNING,
) -> None:
    """Runs the application in a script.

    The script makes an App at module level; its own app.run() stands under
    if __name__ == "__main__".

    SIGINT or SIGTERM stops it cleanly, at any moment: the record in hand is finished, everything
    is committed and closed, within ten seconds. A second signal stops it at once; nothing that was committed
    is lost, the rest is processed again.

    Brokers that are away are waited for, at the start too; the log says so now and then.

    With several workers each is a process with state of its own. One that crashes is started
    again after a pause; if it crashes more than five times in ten minutes, all are stopped.
    """
    with nothing_begun():
        from thalweg.streams.cli.progress import Report, display
        from thalweg.streams.cli.script import load_app
        from thalweg.streams.cli.settings import given_settings
        from thalweg.streams.cli.workers import worker_command
        from thalweg.streams.clock import SystemClock
        from thalweg.streams.life import State
        from thalweg.streams.observe import logs
        from thalweg.streams.processes.supervisor import stop_with_supervisor, supervise
        from thalweg.streams.worker.progress import Progress

        stop_with_supervisor()
        logs.install(log_format.value, log_level.value, traces=is_debug(), notices=True)
        given = given_settings(
            settings or (),
            config,
            {
                "num_workers": workers,
                "bootstrap_servers": bootstrap_servers,
                "data_dir": data_dir,
                "state_dir": state_dir,
            },
        )
        app = load_app(script, given, config)
    if app.config.num_workers > 1:
        typed = _typed(
            (("--set", pair) for pair in settings or ()),
            [
                ("--config", config),
                ("--bootstrap-servers", bootstrap_servers),
                ("--log-format", log_format.value),
                ("--log-level", log_level.value),
            ],
            ["--until-idle"] * until_idle + ["--debug"] * is_debug(),
            "--progress" if progress else "--no-progress",
        )
        count = app.config.num_workers
        try:
            code = supervise(
                lambda worker: worker_command(script, typed, app.config, worker), count
            )
        except KeyboardInterrupt:  # it came before the first worker was started
            code = ExitCode.DONE
        raise typer.Exit(code)
    if until_idle and app.config.commit_interval_ms > _UNTIL_IDLE_COMMIT_MS:
        app.configure(commit_interval_ms=_UNTIL_IDLE_COMMIT_MS)
    clock = SystemClock()
    report = Report(clock)
    try:
        with display(app.application_id, report, clock, is_shown=progress) as show:

            def watch(done: Progress) -> None:
                show(done)
                if until_idle and done.is_idle:
                    app.close(timedelta(0))

            app.run(on_progress=watch)
    except StreamsError as error:
        if not app.is_application_shut_down:
            raise
        fail(error, ExitCode.SHUT_DOWN)
    except KeyboardInterrupt:
        if app.state is State.CREATED:  # there is nothing yet to be stopped
            raise typer.Exit(ExitCode.DONE) from None
        tell(f"{app.application_id}: stopped at once; what was not committed is done again")
        leave_at_once(ExitCode.INTERRUPTED)
    finally:
        if report.last is not None:
            tell(f"{app.application_id}: {report.summary()}")


def _typed(
    settings: Iterable[tuple[str, str]],
    valued: Iterable[tuple[str, object]],
    flags: Iterable[str],
    progress: str,
) -> list[str]:
    """Returns options as they are typed; those without a value are left out."""
    given = [(name, value) for name, value in (*settings, *valued) if value is not None]
    return [text for name, value in given for text in (name, str(value))] + [*flags, progress]
