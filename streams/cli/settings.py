"""The settings given on a command line, and the log they name.

Owns how they are written and merged: `--set` and the options of their own win over the file
of `--config`. It must not know applications.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from thalweg.streams.cli import modules
from thalweg.streams.cli.exits import UsageError
from thalweg.streams.config import (
    Settings,
    StreamsConfig,
    settings_of_text,
    settings_of_toml,
)
from thalweg.streams.loading import only_loading


def given_settings(
    pairs: Iterable[str], config: Path | None, options: Mapping[str, object]
) -> dict[str, Any]:
    """Returns the settings given on a command line.

    Args:
        pairs: `name=value` of each `--set`.
        config: a TOML file.
        options: settings that have an option of their own; those that are None are left out.

    Raises:
        ConfigError: a setting is unknown or out of range, the file cannot be read.
        UsageError: a pair has no "=".
    """
    modules.look_here()
    texts = []
    for pair in pairs:
        name, has_value, text = pair.partition("=")
        if not has_value:
            message = f"--set takes name=value, got {pair!r}"
            raise UsageError(message)
        texts.append((name.strip(), text))
    with only_loading("a module that a setting names"):
        given: dict[str, Any] = {} if config is None else settings_of_toml(config)
    own = {name: value for name, value in options.items() if value is not None}
    # A serde or handler may be named by its module, which is loaded.
    with only_loading("a module that a setting names"):
        typed = settings_of_text(texts)
    for source in (typed, own):
        for name, value in source.items():
            given[name] = _merged(given.get(name), value)
    return given


def _merged(old: object, new: object) -> object:
    """Returns a setting given twice: the later value, of mappings the entries of both."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **new}
    return new


def log_config(given: Mapping[str, Any]) -> StreamsConfig:
    """Returns settings for commands that need a log, not an application.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    with only_loading("a module that a setting names"):
        return StreamsConfig.load(**cast("Settings", {"application_id": "thalweg", **given}))


def refuse_missing_log(config: StreamsConfig) -> None:
    """Refuses to read an embedded log that is not there, instead of making an empty one.

    Raises:
        UsageError: there is none.
    """
    if config.is_local and not config.data_dir.exists():
        message = (
            f"there is no log in {config.data_dir}: nothing has been written here yet; "
            "go to where it is, or name its --data-dir"
        )
        raise UsageError(message)
