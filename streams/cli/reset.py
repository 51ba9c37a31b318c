"""`thalweg reset`: deletes the state and offsets of an application.

Owns what belongs to an application in its log and on its disk, and the order of its deletion.
Things that a running application holds come first, so that the command is refused before anything
is deleted: local state, which local workers have locked, and the committed offsets, which a group
with members keeps. Internal topics come last. It must not know how topics or state are kept.

Source: JVM `StreamsResetter` (kafka-streams-application-reset).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import (
    ExitCode,
    UsageError,
    tell,
    told,
)

if TYPE_CHECKING:
    from thalweg.streams.app import App
    from thalweg.streams.transport.port import TopicPartition, Transport

_INPUTS = "Where the inputs begin"


class Target(NamedTuple):
    """Where the inputs are to be read from; at most one is given.

    Attributes:
        earliest: from their beginning.
        latest: from their end.
        offset: from this offset of each partition.
        datetime: from the first record that is not older, as text.
    """

    earliest: bool
    latest: bool
    offset: int | None
    datetime: str | None


@told
def reset(
    script: options.Script,
    *,
    to_earliest: Annotated[
        bool,
        options.flag("--to-earliest", "From their beginning.", _INPUTS),
    ] = False,
    to_latest: Annotated[
        bool,
        options.flag("--to-latest", "From their end: only what comes later.", _INPUTS),
    ] = False,
    to_offset: Annotated[
        int | None,
        typer.Option(
            "--to-offset",
            metavar="N",
            min=0,
            help="From an offset of each partition, or its nearer end.",
            rich_help_panel=_INPUTS,
        ),
    ] = None,
    to_datetime: Annotated[
        str | None,
        typer.Option(
            "--to-datetime",
            metavar="TIME",
            help="From the first record that is not older: ISO 8601 in UTC, or epoch milliseconds.",
            rich_help_panel=_INPUTS,
        ),
    ] = None,
    yes: Annotated[bool, options.flag("--yes", "Do not ask.", short="-y")] = False,
    dry_run: Annotated[
        bool, options.flag("--dry-run", "Say what would be done, do nothing.")
    ] = False,
    settings: options.Set = None,
    config: options.Config = None,
    data_dir: options.DataDir = None,
    state_dir: options.StateDir = None,
) -> None:
    """Lets an application begin anew, as if it had never run.

    Its local state, its internal topics (repartition topics and changelogs) and its committed
    offsets are deleted. Input and output topics stay as they are. Without an option the inputs
    are read from where their sources say, as a rule from the beginning.

    The application must not be running.
    """
    from thalweg.streams.cli.script import load_app
    from thalweg.streams.cli.settings import given_settings, refuse_missing_log

    target = Target(to_earliest, to_latest, to_offset, to_datetime)
    if sum((to_earliest, to_latest, to_offset is not None, to_datetime is not None)) > 1:
        message = "--to-earliest, --to-latest, --to-offset, --to-datetime: give one of them"
        raise UsageError(message)
    given = given_settings(settings or (), config, {"data_dir": data_dir, "state_dir": state_dir})
    app = load_app(script, given, config)
    refuse_missing_log(app.config)
    transport = app.open_transport()
    try:
        _reset(app, transport, target, is_asked=not yes, is_dry=dry_run)
    finally:
        transport.close()


def _reset(app: App, transport: Transport, target: Target, *, is_asked: bool, is_dry: bool) -> None:
    from thalweg.stores.directory import StateDirectory
    from thalweg.streams.cli.workers import state_directories
    from thalweg.streams.errors import StreamsError
    from thalweg.streams.transport.port import OffsetAndMetadata

    internal = _internal_topics(app, transport)
    starts = _starts(app, transport, target)
    states = state_directories(app.config)
    steps = [f"delete local state in {path / app.application_id}" for path in states]
    steps.append(f"delete the offsets committed by {app.application_id}")
    steps += [f"delete topic {topic}" for topic in internal]
    steps += [f"begin {partition} at offset {offset:,}" for partition, offset in starts.items()]
    typer.echo("would:" if is_dry else f"resetting {app.application_id} will:")
    for step in steps:
        typer.echo(f"  {step}")
    if is_dry:
        return
    if is_asked:
        _confirm()
    for path in states:
        with closing(StateDirectory(path, app.application_id)) as directory:
            directory.clean_up()
    transport.delete_offsets()
    try:
        transport.delete_topics(internal)
        if starts:
            transport.commit({p: OffsetAndMetadata(offset) for p, offset in starts.items()})
    except StreamsError:
        tell(f"{app.application_id} is reset in part: repeat it before the application runs again")
        raise
    tell(f"{app.application_id} is reset")


def _confirm() -> None:
    if not sys.stdin.isatty():
        message = "nobody can be asked, standard input is no terminal; give --yes"
        raise UsageError(message)
    if not typer.confirm("go on?", err=True):
        tell("nothing was done")
        raise typer.Exit(ExitCode.DONE)


def _internal_topics(app: App, transport: Transport) -> list[str]:
    """Returns the topics that exist for this application alone.

    Those of earlier versions of its topology are found by their names, as the JVM's tool does.
    """
    from thalweg.topology.subtopologies import subtopologies

    parts = subtopologies(app.topology, app.config.topology_config)
    inputs = {topic for part in parts for topic in part.source_topics}
    named = {
        topic.name
        for part in parts
        for topic in (*part.repartition_source_topics, *part.state_changelog_topics)
    }
    begin = f"{app.application_id}-"
    return sorted(
        topic
        for topic in transport.topics()
        if topic not in inputs
        and (
            topic in named
            or (topic.startswith(begin) and topic.endswith(("-changelog", "-repartition")))
        )
    )


def _starts(app: App, transport: Transport, target: Target) -> Mapping[TopicPartition, int]:
    """Returns where each partition of the inputs is to begin; none without a target."""
    from thalweg.streams.cli.text import moment_ms
    from thalweg.streams.transport.port import TopicPartition
    from thalweg.topology.subtopologies import subtopologies

    moment = None if target.datetime is None else moment_ms(target.datetime)
    if not any((target.earliest, target.latest, target.offset is not None, moment is not None)):
        return {}
    parts = subtopologies(app.topology, app.config.topology_config)
    names = {topic for part in parts if not part.is_global for topic in part.source_topics}
    names.update(t for t in transport.topics() if any(part.matches(t) for part in parts))
    partitions = [
        TopicPartition(topic, number)
        for topic, count in sorted(transport.partition_counts(names).items())
        for number in range(count)
    ]
    if moment is not None:
        return transport.offsets_for_time(partitions, moment)
    begins, ends = transport.begin_offsets(partitions), transport.end_offsets(partitions)
    if target.offset is None:
        return begins if target.earliest else ends
    return {p: min(max(target.offset, begins[p]), ends[p]) for p in partitions}
