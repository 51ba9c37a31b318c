"""`thalweg consume`: records of a topic as lines on standard output.

Owns where reading begins and ends. `lines` has the forms of a line. It must not know how records
are read.
"""

from __future__ import annotations

import itertools
import sys
from typing import Annotated

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import UsageError, told


@told
def consume(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="What to read.", show_default=False)
    ],
    *,
    from_end: Annotated[
        bool,
        options.flag(
            "--from-end/--from-beginning", "Only what comes from now on; or all there is."
        ),
    ] = False,
    offset: Annotated[
        int | None,
        typer.Option("--offset", metavar="N", min=0, help="Begin at an offset of each partition."),
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", metavar="N", help="Only this partition. May be repeated."),
    ] = None,
    follow: Annotated[
        bool, options.flag("--follow", "Wait for more, until interrupted.", short="-f")
    ] = False,
    most: Annotated[
        int | None, typer.Option("--max", metavar="N", min=0, help="At most so many records.")
    ] = None,
    as_json: Annotated[
        bool, options.flag("--json", "A JSON object a line, with offset, time and headers.")
    ] = False,
    key_separator: Annotated[
        str, typer.Option("--key-separator", metavar="TEXT", help="Between key and value.")
    ] = r"\t",
    key_serde: options.KeySerde = "auto",
    value_serde: options.ValueSerde = "auto",
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Writes the records of a topic to standard output, a line for each.

    A line has key and value, or only the value of a record without a key. Partitions take
    turns. Nothing is committed: reading changes nothing.
    """
    from thalweg.stores.serde import serdes
    from thalweg.streams.cli.lines import json_line, plain_line, serde_or_none
    from thalweg.streams.cli.settings import given_settings, log_config, refuse_missing_log
    from thalweg.streams.consumer import Consumer, Start

    if from_end and offset is not None:
        message = "--from-end and --offset say two things; give one"
        raise UsageError(message)
    start: Start = "beginning" if offset is None else offset
    if from_end:
        start = "end"
    keys, values = serde_or_none(key_serde), serde_or_none(value_serde)
    settled = log_config(
        given_settings(
            settings or (), config, {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
        )
    )
    refuse_missing_log(settled)
    separator = key_separator.replace("\\t", "\t")
    output = sys.stdout
    with Consumer(settled) as consumer:
        records = consumer.read(
            topic,
            key_serde=keys or serdes.bytes,
            value_serde=values or serdes.bytes,
            start=start,
            partitions=partition,
            follow=follow,
        )
        try:
            for record in itertools.islice(records, most):
                line = json_line(record) if as_json else plain_line(record, separator)
                output.write(f"{line}\n")
                if follow:
                    output.flush()
        except KeyboardInterrupt:
            if not follow:
                raise
