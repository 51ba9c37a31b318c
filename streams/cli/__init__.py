"""The command line: `thalweg run status topology query produce consume topics reset`.

Owns the list of commands; each has a module of its own and loads what it needs when it runs,
so that help comes at once. `exits` makes messages and exit codes of errors:

    0      done; an application stopped cleanly, by itself or at the first signal
    1      the application, the log or the disk failed
    2      what was asked is wrong: options, settings, script, input
    3      another process holds the log or the state
    130    stopped at once by a second signal, or because a clean stop took over ten seconds;
           or interrupted in a command that has nothing to stop cleanly

Nothing else in the project may import it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.commands import Command, Group
from streams.cli.consume import consume
from streams.cli.produce import produce
from streams.cli.query import query
from streams.cli.reset import reset
from streams.cli.run import run
from streams.cli.status import status
from streams.cli.topics import topics
from streams.cli.topology import topology

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
        from streams.metrics import thalweg_version

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


def main() -> None:
    """Runs the command line, as `thalweg` and `python -m streams.cli`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # it was closed by whoever started the process
            nothing = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - till the end
            setattr(sys, name, nothing)
        elif name != "stdin":
            # A terminal that cannot show a character gets an escape, not an error.
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="thalweg")
