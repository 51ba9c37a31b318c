"""`thalweg run`: an application from its start to its clean stop.

Owns the order: log, script, settings, start, display, stop, summary. What a signal does is
the application's affair (`App.run`). It must not know how records are processed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from streams.cli import options
from streams.cli.exits import ExitCode, is_debug, leave_at_once, tell, told


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
        options.flag("--until-idle", "Stop when everything in the log is processed."),
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

    SIGINT or SIGTERM stops it cleanly: the record in hand is finished, everything is committed
    and closed, within ten seconds. A second signal stops it at once; nothing that was committed
    is lost, the rest is processed again.
    """
    from streams import logs
    from streams.cli.progress import Report, display
    from streams.cli.script import load_app
    from streams.cli.settings import given_settings
    from streams.clock import SystemClock
    from streams.worker import Progress

    logs.install(log_format.value, log_level.value, traces=is_debug())
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
    clock = SystemClock()
    report = Report(clock)
    try:
        with display(app.application_id, report, clock, is_shown=progress) as show:

            def watch(done: Progress) -> None:
                show(done)
                if until_idle and done.is_idle:
                    app.close(timedelta(0))

            app.run(on_progress=watch)
    except KeyboardInterrupt:
        tell(f"{app.application_id}: stopped at once; what was not committed is done again")
        leave_at_once(ExitCode.INTERRUPTED)
    finally:
        if report.last is not None:
            tell(f"{app.application_id}: {report.summary()}")
