"""`thalweg topics`: which topics a log has.

Owns the columns. It must not know how a log keeps topics.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streams.cli import options
from streams.cli.exits import tell, told


@told
def topics(
    *,
    as_json: Annotated[bool, options.flag("--json", "A JSON object a line.")] = False,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Lists the topics of a log, with their partitions and the number of their records.

    The number is that of the offsets a topic has: a compacted topic has fewer records.
    """
    from streams.cli.settings import given_settings, log_config, refuse_missing_log
    from streams.cli.tables import write_table
    from streams.consumer import Consumer

    settled = log_config(
        given_settings(
            settings or (), config, {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
        )
    )
    refuse_missing_log(settled)
    with Consumer(settled) as consumer:
        rows = [
            (topic, count, sum(end - begin for begin, end in consumer.offsets(topic)))
            for topic, count in consumer.topics().items()
        ]
    if as_json:
        for topic, count, records in rows:
            typer.echo(json.dumps({"topic": topic, "partitions": count, "records": records}))
    elif rows:
        write_table(
            ("topic", "partitions", "records"), ([str(cell) for cell in row] for row in rows)
        )
    else:
        tell("there are no topics")
