"""The commands of `thalweg`, as one Typer application.

Owns the list of commands and the program's own help text. Each command is a module of its own.
"""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.streams.cli.command_help import Command, Group
from thalweg.streams.cli.consume import consume
from thalweg.streams.cli.produce import produce
from thalweg.streams.cli.query import query
from thalweg.streams.cli.reset import reset
from thalweg.streams.cli.run import run
from thalweg.streams.cli.status import status
from thalweg.streams.cli.topics import topics
from thalweg.streams.cli.topology import topology

_EPILOG = (
    "Exit codes: 0 done or cleanly stopped · 1 the application, the log or the disk failed · "
    "2 wrong options, settings, script or input · 3 another process holds the log or the state · "
    "130 stopped at once."
)

cli = typer.Typer(
    name="thalweg",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
for _command in (run, status, topology, query, produce, consume, reset):
    cli.command(cls=Command, epilog=_EPILOG if _command is run else None)(_command)
cli.add_typer(topics)


def _show_version(asked: bool) -> None:
    if asked:
        from thalweg.streams.observe.metrics import thalweg_version

        typer.echo(f"thalweg {thalweg_version()}")
        raise typer.Exit


@cli.callback()
def thalweg(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            metavar="",
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Kafka Streams for Python, on Kafka or on an embedded log.

    A script makes an App; these commands run it, draw it, ask it, feed it and reset it.
    """
