"""`thalweg topics`: the topics of a log, and `create`, `delete`, `describe`, `config` for one.

Owns the columns, how a topic's configs are typed, and the confirmations before data is deleted. It
must not know how a log keeps topics.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.command_help import Command, Group
from thalweg.streams.cli.exits import (
    ExitCode,
    UsageError,
    tell,
    told,
)

if TYPE_CHECKING:
    from thalweg.streams.config import StreamsConfig
    from thalweg.streams.transport.port import Transport

_HELP: Final = (
    "Lists the topics of a log, or changes them.\n\n"
    "Without a command it lists them, with their partitions and the number of their records. "
    "The number is that of the offsets a topic has: a compacted topic has fewer records."
)

topics = typer.Typer(name="topics", help=_HELP, cls=Group, invoke_without_command=True)

_INTERNAL_ENDS: Final = ("-changelog", "-repartition")
_BROKERS_OWN: Final = "__"

_Name = Annotated[
    str, typer.Argument(metavar="TOPIC", help="The topic's name.", show_default=False)
]
_Names = Annotated[
    list[str], typer.Argument(metavar="TOPIC…", help="Names of topics.", show_default=False)
]
_Yes = Annotated[bool, options.flag("--yes", "Do not ask.", short="-y")]
_Json = Annotated[bool, options.flag("--json", "JSON, in place of a table.")]


# -- the log -------------------------------------------------------------------------------


@contextmanager
def _log(
    settings: options.Set,
    config: options.Config,
    given: Mapping[str, object],
    *,
    is_made: bool = False,
) -> Iterator[tuple[StreamsConfig, Transport]]:
    """Opens the log that the options name.

    Args:
        settings: of `--set`.
        config: of `--config`.
        given: settings with an option of their own.
        is_made: make an embedded log that is not there.
    """
    from thalweg.streams.cli.settings import given_settings, log_config, refuse_missing_log
    from thalweg.streams.clock import SystemClock
    from thalweg.streams.transport.opening import open_client_transport

    settled = log_config(given_settings(settings or (), config, given))
    if not is_made:
        refuse_missing_log(settled)
    with open_client_transport(settled, SystemClock()) as transport:
        yield settled, transport


def _refuse_unknown(transport: Transport, names: Sequence[str]) -> None:
    """Refuses topics that do not exist, with those that may be meant.

    Raises:
        UsageError: names the first one.
    """
    from thalweg.streams.similar_names import similar_names

    known = transport.topics()
    for name in names:
        if name not in known:
            alike = similar_names(name, known)
            meant = f"; is one of these meant: {', '.join(alike)}?" if alike else ""
            message = f"there is no topic {name!r}{meant}"
            raise UsageError(message)


def topic_configs_of(pairs: Sequence[str], *, is_local: bool) -> dict[str, str]:
    """Reads configs of a topic, each typed as NAME=VALUE.

    Args:
        pairs: as they were typed.
        is_local: whether they are for the embedded log, which takes any name: misspelt ones are
            refused here. Kafka's brokers refuse them by themselves.

    Raises:
        UsageError: one has no "=", or no topic has such a config.
    """
    found = {}
    for pair in pairs:
        name, has_value, value = pair.partition("=")
        if not has_value or not name.strip():
            message = (
                f"a topic's config is typed NAME=VALUE, as retention.ms=86400000; got {pair!r}"
            )
            raise UsageError(message)
        found[name.strip()] = value.strip()
    if is_local:
        _refuse_unknown_configs(found)
    return found


def _refuse_unknown_configs(names: Sequence[str] | Mapping[str, str]) -> None:
    from thalweg.streams.similar_names import similar_names
    from thalweg.streams.transport.log.topics import CONFIG_NAMES

    for name in names:
        if name not in CONFIG_NAMES:
            alike = similar_names(name, CONFIG_NAMES)
            meant = f"; did you mean {alike[0]}?" if alike else ""
            message = f"topics have no config {name!r}{meant}"
            raise UsageError(message)


def _is_internal(topic: str) -> bool:
    """Tells whether a topic is called as an application calls those of its own."""
    return topic.endswith(_INTERNAL_ENDS)


# -- listing -------------------------------------------------------------------------------


@topics.callback(invoke_without_command=True)
@told
def list_topics(
    context: typer.Context,
    *,
    as_json: Annotated[bool, options.flag("--json", "A JSON object a line.")] = False,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Lists the topics of a log."""
    from thalweg.streams.cli.tables import write_table
    from thalweg.streams.consumer import Consumer

    if context.invoked_subcommand is not None:
        if as_json or settings or config or bootstrap_servers or data_dir:
            message = f"give the options behind {context.invoked_subcommand}, whose they are"
            raise UsageError(message)
        return
    given = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    with (
        _log(settings, config, given) as (settled, transport),
        Consumer(settled, transport=lambda: transport) as consumer,
    ):
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


# -- one topic -----------------------------------------------------------------------------


@topics.command(cls=Command, name="create")
@told
def create(
    names: _Names,
    *,
    partitions: Annotated[
        int | None, typer.Option("--partitions", metavar="N", min=1, help="Number of partitions.")
    ] = None,
    replication_factor: Annotated[
        int,
        typer.Option(
            "--replication-factor",
            metavar="N",
            min=-1,
            help="Copies in a Kafka cluster; -1 leaves it to the brokers.",
        ),
    ] = -1,
    topic_config: options.TopicConfigs = None,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Creates topics.

    One that exists already is refused. On the embedded log records stay for ever unless
    retention.ms says otherwise.
    """
    from thalweg.streams.observe import logs
    from thalweg.streams.transport.port import NewTopic

    logs.install("people", "warning", notices=sys.stderr.isatty())
    given = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    with _log(settings, config, given, is_made=True) as (settled, transport):
        configs = topic_configs_of(topic_config or (), is_local=settled.is_local)
        for name, count in transport.partition_counts(names).items():
            message = f"topic {name!r} exists, with {count} partition{'s' * (count != 1)}"
            raise UsageError(message)
        count = partitions or settled.default_partitions
        new = [NewTopic(n, count, replication_factor, configs) for n in dict.fromkeys(names)]
        transport.create_topics(new)
    for one in new:
        tell(f"{one.name} is created, with {count} partition{'s' * (count != 1)}")


@topics.command(cls=Command, name="delete")
@told
def delete(
    names: _Names,
    *,
    yes: _Yes = False,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Deletes topics with all their records.

    Of an application's internal topics, changelogs and repartition topics, it asks first: they
    are the application's state. thalweg reset deletes them with all that belongs to them.
    """
    given = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    with _log(settings, config, given) as (_, transport):
        _refuse_unknown(transport, names)
        for name in names:
            if name.startswith(_BROKERS_OWN):
                message = f"topic {name!r} is the brokers' own; it is not deleted"
                raise UsageError(message)
        internal = [name for name in names if _is_internal(name)]
        if internal and not yes:
            _confirm(internal)
        transport.delete_topics(names)
    for name in names:
        tell(f"{name} is deleted")


def _confirm(internal: Sequence[str]) -> None:
    what = (
        f"{', '.join(internal)}: an internal topic of an application, which loses its state with "
        "it; thalweg reset deletes it with all that belongs to it"
    )
    if not sys.stdin.isatty():
        message = f"{what}. Nobody can be asked, standard input is no terminal; give --yes"
        raise UsageError(message)
    tell(what)
    if not typer.confirm("delete it all the same?", err=True):
        tell("nothing was done")
        raise typer.Exit(ExitCode.DONE)


@topics.command(cls=Command, name="describe")
@told
def describe(
    name: _Name,
    *,
    as_json: _Json = False,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Shows the partitions of a topic, with their offsets, and its own configs."""
    from thalweg.streams.cli.tables import write_table
    from thalweg.streams.transport.port import TopicPartition

    given = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    with _log(settings, config, given) as (_, transport):
        _refuse_unknown(transport, [name])
        count = transport.partition_count(name) or 0
        partitions = [TopicPartition(name, number) for number in range(count)]
        begins, ends = transport.begin_offsets(partitions), transport.end_offsets(partitions)
        configs = {n: c.value for n, c in transport.topic_configs(name).items() if not c.is_default}
    rows = [(at.partition, begins[at], ends[at], ends[at] - begins[at]) for at in partitions]
    columns = ("partition", "first offset", "end offset", "records")
    if as_json:
        told_rows = [
            {"partition": number, "first_offset": begin, "end_offset": end, "records": records}
            for number, begin, end, records in rows
        ]
        shown: dict[str, Any] = {
            "topic": name,
            "is_internal": _is_internal(name),
            "configs": configs,
            "partitions": told_rows,
        }
        typer.echo(json.dumps(shown))
        return
    write_table(columns, ([str(cell) for cell in row] for row in rows))
    if configs:
        typer.echo()
        write_table(("config", "value"), configs.items())


@topics.command(cls=Command, name="config")
@told
def change_config(
    name: _Name,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE…]",
            help="Configs to set, as retention.ms=86400000.",
            show_default=False,
        ),
    ] = None,
    *,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset", metavar="NAME", help="Take a config back to the default. May be repeated."
        ),
    ] = None,
    show_all: Annotated[
        bool, options.flag("--all", "Show those too that the topic has by default.")
    ] = False,
    yes: _Yes = False,
    as_json: _Json = False,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Shows or changes the configs of a topic, by Kafka's names.

    Without changes it shows those that are the topic's own. For changes of an application's
    internal topic give --yes: its state depends on them.
    """
    from thalweg.streams.cli.tables import write_table

    given = {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    with _log(settings, config, given) as (settled, transport):
        values = topic_configs_of(changes or (), is_local=settled.is_local)
        wanted: dict[str, str | None] = {**values, **dict.fromkeys(unset or ())}
        if set(values) & set(unset or ()):
            message = "a config is both set and given to --unset; leave one out"
            raise UsageError(message)
        if settled.is_local:
            _refuse_unknown_configs(unset or ())
        _refuse_unknown(transport, [name])
        if wanted:
            if name.startswith(_BROKERS_OWN) or (_is_internal(name) and not yes):
                message = (
                    f"{name} is an internal topic: an application's state depends on its configs; "
                    "give --yes to change them all the same"
                )
                raise UsageError(message)
            transport.alter_topic_configs(name, wanted)
        configs = {
            n: c.value
            for n, c in transport.topic_configs(name).items()
            if show_all or not c.is_default
        }
    if as_json:
        typer.echo(json.dumps(configs))
    elif configs:
        write_table(("config", "value"), configs.items())
    else:
        tell(f"{name} has no configs of its own; --all shows those it has by default")
