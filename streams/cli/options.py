"""The options that several commands share, each described once.

Owns names and help texts. It must not know what a command does with them.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

_SETTINGS: Final = "Settings"
_LOG: Final = "Log output"


class LogFormatChoice(StrEnum):
    """How the log is written."""

    PEOPLE = "people"
    JSON = "json"


class LogLevelChoice(StrEnum):
    """The least that is written to the log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def flag(name: str, text: str, panel: str | None = None, *, short: str | None = None) -> Any:
    """Returns an option that is there or not, for the annotation of a bool.

    Args:
        name: as it is typed, with the name of its opposite behind a slash where it has one.
        text: its help.
        panel: under which heading the help shows it.
        short: a letter behind a dash that means the same.
    """
    names = (name,) if short is None else (name, short)
    return typer.Option(*names, help=text, metavar="", rich_help_panel=panel)


Script = Annotated[
    str,
    typer.Argument(
        metavar="SCRIPT[:APP]",
        help="Path or module with the application; its name where there are several.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting, as commit_interval_ms=500 or topic_configs.retention.ms=86400000. "
        "May be repeated.",
        rich_help_panel=_SETTINGS,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file of settings.",
        rich_help_panel=_SETTINGS,
    ),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        metavar="HOST:PORT,…",
        help="The Kafka cluster; without one everything is in the embedded log.",
        rich_help_panel=_SETTINGS,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Directory of the embedded log. Without it: .thalweg/log.",
        rich_help_panel=_SETTINGS,
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Directory of local state. Without it: .thalweg/state.",
        rich_help_panel=_SETTINGS,
    ),
]
TopicConfigs = Annotated[
    list[str] | None,
    typer.Option(
        "--topic-config",
        metavar="NAME=VALUE",
        help="A config of the new topic by Kafka's name, as retention.ms=86400000. "
        "May be repeated.",
    ),
]
LogFormat = Annotated[
    LogFormatChoice,
    typer.Option(
        "--log-format", help="Log lines for people or for programs.", rich_help_panel=_LOG
    ),
]
LogLevel = Annotated[
    LogLevelChoice,
    typer.Option("--log-level", help="The least that is logged.", rich_help_panel=_LOG),
]
KeySerde = Annotated[
    str,
    typer.Option(
        "--key-serde",
        metavar="SERDE",
        help="How keys are written: string, bytes, int32, int64, float64, bool, uuid, json, "
        "msgpack, windowed(SERDE,SIZE_MS), module:attribute; auto is text, or else JSON.",
    ),
]
ValueSerde = Annotated[
    str,
    typer.Option("--value-serde", metavar="SERDE", help="How values are written, likewise."),
]
