"""How a command ends: exit codes, and errors as messages.

Owns the exit codes and the one place where an error of any kind becomes a line on standard
error. Tracebacks are shown with `--debug` only. It must not know what the commands do.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import typer

from thalweg.streams.cli import options
from thalweg.streams.errors import (
    AppStateError,
    AuthenticationError,
    ConfigError,
    MissingTopicsError,
    StoreLockedError,
    StreamsError,
    TopologyError,
    TransportError,
    UnknownStoreError,
    UnsupportedBrokerError,
)
from thalweg.streams.observe import logs


class ExitCode(IntEnum):
    """What the process tells whoever started it."""

    DONE = 0
    """The command did what was asked; an application stopped cleanly."""
    FAILED = 1
    """The application, the log or the disk failed; or the key that was asked for is not there."""
    REFUSED = 2
    """What was asked is wrong: options, settings, script, input; nothing was begun."""
    LOCKED = 3
    """Another process holds the log or the state."""
    SHUT_DOWN = 4
    """An instance of the application asked all of them to stop, this one or another."""
    INTERRUPTED = 130
    """A second signal came, or the clean stop took longer than ten seconds; or a signal
    ended a command that has nothing to stop cleanly."""


class UsageError(StreamsError):
    """What was asked of the command line cannot be done as asked."""


_REFUSALS: Final = (
    AppStateError,
    AuthenticationError,
    ConfigError,
    MissingTopicsError,
    TopologyError,
    TransportError,
    UnknownStoreError,
    UnsupportedBrokerError,
    UsageError,
)

_asked: ContextVar[list[int] | None] = ContextVar("asked", default=None)

_is_debug: ContextVar[bool] = ContextVar("is_debug", default=False)

_Debug = Annotated[bool, options.flag("--debug", "Show the traceback of an error, for reports.")]


def exit_code_of(error: BaseException) -> ExitCode:
    """Returns the exit code an error means."""
    if isinstance(error, StoreLockedError):
        return ExitCode.LOCKED
    return ExitCode.REFUSED if isinstance(error, _REFUSALS) else ExitCode.FAILED


def message_of(error: BaseException) -> str:
    """Returns what an error says to whoever typed the command."""
    if isinstance(error, StreamsError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return f"{logs.error_text(error)}; this is a fault of thalweg: run it again with --debug"


def tell_error(message: str) -> None:
    """Writes an error to standard error, as the log is written there."""
    if logs.is_json():
        logs.PROGRAM.error(message)
        return
    typer.secho("error: ", err=True, nl=False, fg=typer.colors.RED, bold=True)
    typer.echo(message, err=True)


def tell(message: str) -> None:
    """Writes something for people to standard error, so that output stays clean."""
    if logs.is_json():
        logs.PROGRAM.info(message)
        return
    typer.echo(message, err=True)


def fail(error: Exception, code: ExitCode | None = None) -> NoReturn:
    """Ends the command with an error's message, and with `--debug` its traceback.

    Args:
        error: the error that is being handled.
        code: the exit code; by default what the error means.

    Raises:
        typer.Exit: always.
    """
    if is_debug():
        traceback.print_exc()
    tell_error(message_of(error))
    raise typer.Exit(exit_code_of(error) if code is None else code) from error


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command `--debug`, and turns its errors into messages and exit codes."""

    @functools.wraps(command)
    def run(*, debug: bool = False, **options: Any) -> None:
        _is_debug.set(debug)
        try:
            with _terminable():
                command(**options)
                sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError as error:
            # Whoever reads has enough, as `head` does: that is no error.
            _drop_output()
            raise typer.Exit(ExitCode.DONE) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except Exception as error:
            fail(error)

    signature = inspect.signature(command, eval_str=True)
    debug = inspect.Parameter(
        "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_Debug
    )
    parameters = [*signature.parameters.values(), debug]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    # The help keeps the line breaks of a docstring; paragraphs should be as wide as the terminal.
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end a command as SIGINT does, so that it closes what it has opened."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.default_int_handler(number, frame)

    token = _asked.set(asked)
    before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        _asked.reset(token)


@contextmanager
def nothing_begun() -> Iterator[None]:
    """Makes a signal a clean stop for as long as the command has nothing to stop.

    What the signal raises may be caught on its way, as by a script that is being loaded.

    Raises:
        typer.Exit: a signal came.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or _asked.get():
            raise typer.Exit(ExitCode.DONE) from None
        raise
    if _asked.get():
        raise typer.Exit(ExitCode.DONE)


def is_debug() -> bool:
    """Tells whether the command that runs was given `--debug`."""
    return _is_debug.get()


def leave_at_once(code: ExitCode) -> None:
    """Ends the process now, without waiting for the threads that still work."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _drop_output() -> None:
    """Lets what is still buffered for a closed pipe go nowhere, so that exit is silent."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is no file, as under a test
        pass
