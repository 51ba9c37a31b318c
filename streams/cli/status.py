"""`thalweg status`: the state of a running application.

Owns the choice of whom to ask. `streams.observe.status` has the questions and the form of the
answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import UsageError, tell, told

if TYPE_CHECKING:
    from thalweg.streams.observe.status import StatusSource

_ADDRESS: Final = re.compile(r"(?:http://)?((?:\[[0-9a-fA-F:.]+\]|[^\s:,/]+):\d{1,5})/?")


@told
def status(
    target: Annotated[
        str,
        typer.Argument(
            metavar="HOST:PORT|SCRIPT[:APP]",
            help="The application_server of any of its workers, or the script they run.",
            show_default=False,
        ),
    ],
    *,
    as_json: Annotated[
        bool, options.flag("--json", "One JSON object, in place of a table.")
    ] = False,
    settings: options.Set = None,
    config: options.Config = None,
    data_dir: options.DataDir = None,
) -> None:
    """Shows the workers of a running application: their tasks, lag and restoring.

    Given an address, that worker is asked who the others are; given a script on Kafka, the
    broker is; given a script on the embedded log, the process that runs it. Then each worker is asked how it is doing, as far as it answers: those without
    the setting application_server do not, and only their tasks are known, from the broker.
    """
    import json

    from thalweg.streams.cli.tables import write_table
    from thalweg.streams.observe.status import (
        COLUMNS,
        json_of,
        rows_of,
        summary_of,
    )

    found = _source(target, settings, config, data_dir).status()
    if as_json:
        typer.echo(json.dumps(json_of(found)))
        return
    write_table(COLUMNS, rows_of(found))
    tell(summary_of(found))


def _source(
    target: str, settings: options.Set, config: options.Config, data_dir: options.DataDir
) -> StatusSource:
    from thalweg.streams.observe.status import InstanceSource, OwnerSource
    from thalweg.streams.queries.metadata import endpoint_of

    address = _ADDRESS.fullmatch(target)
    if address:
        return InstanceSource(endpoint_of(address[1]))
    from thalweg.streams.cli.running import running
    from thalweg.streams.cli.script import load_app
    from thalweg.streams.cli.settings import given_settings

    given = given_settings(settings or (), config, {"data_dir": data_dir})
    app = load_app(target, given, config)
    if app.config.bootstrap_servers is not None:
        from thalweg.streams.observe.broker_status import GroupSource

        return GroupSource(app.config)
    found = running(app)
    if found is not None:
        return OwnerSource(found.owner, found.application_id)
    where = app.config.application_server
    if not where or app.endpoint.port == 0:
        why = "lets its worker take a free port" if where else "has no application_server"
        message = (
            f"{app.application_id} does not run on the log in {app.config.data_dir} now, and "
            f"{target} {why}, so it does not tell where its worker answers; start it, or give "
            "HOST:PORT, as the worker logs it"
        )
        raise UsageError(message)
    return InstanceSource(endpoint_of(where))
