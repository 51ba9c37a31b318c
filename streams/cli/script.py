"""Finds the application in a script, and gives it the settings of the command line.

Owns how SCRIPT[:app] is read, what can be wrong with a script, and the order in which
settings win:

    --set, --data-dir, … ─► --config FILE ─► the script's arguments ─► THALWEG_* ─► its own file

It must not know what is done with the application.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from thalweg.streams.app import App
from thalweg.streams.cli import modules
from thalweg.streams.cli.exits import UsageError
from thalweg.streams.config import CONFIG_FILE_VARIABLE, Settings
from thalweg.streams.errors import AppStateError, StreamsError
from thalweg.streams.life import State
from thalweg.streams.loading import only_loading
from thalweg.streams.observe.logs import error_text


class ScriptError(UsageError):
    """A script cannot be loaded, or has no application."""


def load_app(target: str, given: Mapping[str, Any], config: Path | None = None) -> App:
    """Loads a script and returns its application, with the given settings.

    Args:
        target: a path or a module, and after a colon the application's name in it.
        given: settings that win over the script's.
        config: a TOML file the script's own settings may come from.

    Raises:
        ScriptError: the script cannot be loaded, or it is not clear which application is meant.
        ConfigError: a setting cannot have its value.
    """
    source, name = _split(target)
    if config is not None:
        # For applications that take their settings, such as their id, from a file.
        os.environ[CONFIG_FILE_VARIABLE] = str(config)
    app = _find(_load(source), source, name)
    if app.state is not State.CREATED:
        message = (
            f"{source} ran its application when it was loaded; put app.run() under "
            'if __name__ == "__main__":'
        )
        raise ScriptError(message)
    mappings = {
        setting: {**getattr(app.config, setting), **value}
        for setting, value in given.items()
        if isinstance(value, Mapping)
    }
    app.configure(**cast("Settings", {**given, **mappings}))
    return app


def _split(target: str) -> tuple[str, str | None]:
    """Splits SCRIPT[:app]; a path may have colons of its own."""
    source, colon, name = target.rpartition(":")
    if not colon or not source or Path(target).is_file() or not name.isidentifier():
        return target, None
    return source, name


def _load(source: str) -> ModuleType:
    path = Path(source)
    if path.is_file():
        return _guarded(source, path, lambda: _load_file(path))
    if path.is_dir():
        message = f"{source} is a directory; give the script in it"
        raise ScriptError(message)
    if path.suffix == ".py" or len(path.parts) > 1:
        message = f"there is no file {source}"
        raise ScriptError(message)
    spec = modules.spec_of(source)
    if spec is None:
        message = f"there is neither a file nor a module {source!r}"
        raise ScriptError(message)
    origin = Path(spec.origin) if spec.has_location and spec.origin else path
    return _guarded(source, origin, lambda: modules.load(source))


def _load_file(path: Path) -> ModuleType:
    """Loads a file as Python runs a script: its directory comes first on the path."""
    directory = str(path.parent.resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    # Under its own name, so that what it defines can be found again by module and name; a
    # script that is called like something loaded already must not stand in for it.
    name = path.stem if path.stem not in sys.modules and path.stem.isidentifier() else ""
    name = name or "thalweg_script"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        message = f"{path} is no Python script: its name has to end in .py"
        raise ScriptError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(source: str, path: Path, load: Callable[[], ModuleType]) -> ModuleType:
    """Loads a script; what it raises becomes one message that says where."""
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        with only_loading(source):
            return load()
    except ScriptError:
        raise
    except SyntaxError as error:
        is_own = error.filename is None or Path(error.filename).resolve() == path.resolve()
        file = path if is_own else error.filename
        message = f"{file}:{error.lineno or 0}: {type(error).__name__}: {error.msg}"
        raise ScriptError(message) from error
    except SystemExit as error:
        message = f"{_place(error, path)}: the script ended itself when it was loaded"
        raise ScriptError(message) from error
    except AppStateError as error:
        message = f"{_place(error, path)}: {error}"
        raise ScriptError(message) from error
    except StreamsError as error:
        message = f"{_place(error, path)}: {type(error).__name__}: {error}"
        raise ScriptError(message) from error
    except UnicodeDecodeError as error:
        message = f"{source} is no Python script: {error}"
        raise ScriptError(message) from error
    except Exception as error:
        message = f"{_place(error, path)}: {error_text(error)}"
        raise ScriptError(message) from error
    finally:
        sys.argv = arguments


def _place(error: BaseException, path: Path) -> str:
    """Returns file and line of the script at which an exception came through it."""
    own = path.resolve()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == own
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _find(module: ModuleType, source: str, name: str | None) -> App:
    apps = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    known = ", ".join(sorted(apps)) or "none"
    if name is not None:
        found = getattr(module, name, None)
        if isinstance(found, App):
            return found
        what = "is not there" if found is None else f"is a {type(found).__name__}, no App"
        message = f"{source}: {name!r} {what}; its applications: {known}"
        raise ScriptError(message)
    if "app" in apps:
        return apps["app"]
    different = list({id(app): app for app in apps.values()}.values())
    if len(different) == 1:
        return different[0]
    if different:
        message = f"{source} has several applications ({known}); say which: {source}:NAME"
    else:
        message = f"{source} has no App at module level; make one: app = App(builder, …)"
    raise ScriptError(message)
