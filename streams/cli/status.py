"""`thalweg status`: how a running application is doing.

Owns whom to ask. What is asked and how it looks is told in `streams.status`.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from streams.cli import options
from streams.cli.exits import UsageError, tell, told

_ADDRESS: Final = re.compile(r"(?:http://)?((?:\[[0-9a-fA-F:.]+\]|[^\s:,/]+):\d{1,5})/?")


@told
def status(
    target: Annotated[
        str,
        typer.Argument(
            metavar="HOST:PORT|SCRIPT[:APP]",
            help="The application_server of any of its workers, or a script that sets it.",
            show_default=False,
        ),
    ],
    *,
    as_json: Annotated[
        bool, options.flag("--json", "One JSON object, in place of a table.")
    ] = False,
    settings: options.Set = None,
    config: options.Config = None,
) -> None:
    """Shows the workers of a running application: their tasks, lag and restoring.

    One worker is asked who the others are; then each is asked how it is doing. Workers answer
    where the setting application_server is set.
    """
    import json

    from streams.cli.tables import write_table
    from streams.queries.metadata import endpoint_of
    from streams.status import COLUMNS, InstanceSource, json_of, rows_of, summary_of

    address = _ADDRESS.fullmatch(target)
    where = address[1] if address else _address_in(target, settings, config)
    found = InstanceSource(endpoint_of(where)).status()
    if as_json:
        typer.echo(json.dumps(json_of(found)))
        return
    write_table(COLUMNS, rows_of(found))
    tell(summary_of(found))


def _address_in(script: str, settings: options.Set, config: options.Config) -> str:
    from streams.cli.script import load_app
    from streams.cli.settings import given_settings

    app = load_app(script, given_settings(settings or (), config, {}), config)
    address = app.config.application_server
    if not address or app.endpoint.port == 0:
        why = "lets each worker take a free port" if address else "has no application_server"
        message = (
            f"{script} {why}, so it does not tell where a worker answers; give HOST:PORT, as the "
            "worker logs it"
        )
        raise UsageError(message)
    return address
