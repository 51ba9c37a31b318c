"""The command line: `thalweg run status topology query produce consume topics reset`.

Owns the way in. `commands` has the list of commands; each has a module of its own and loads what
it needs when it runs, so that help comes at once. `exits` makes messages and exit codes of errors:

    0      done; an application stopped cleanly, by itself or at the first signal
    1      the application, the log or the disk failed
    2      the request is wrong: options, settings, script, input
    3      another process holds the log or the state
    130    stopped at once by a second signal, or because a clean stop took over ten seconds;
           or interrupted in a command that has nothing to stop cleanly

Nothing else in the project may import it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from thalweg.streams.cli.commands import cli

__all__ = ["cli", "main"]


def __getattr__(name: str) -> Any:
    """Loads the commands when they are first asked for."""
    if name != "cli":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from thalweg.streams.cli.commands import cli

    return cli


def main() -> None:
    """Runs the command line, as `thalweg` and `python -m streams.cli`."""
    if sys.argv[1:2] == ["run"]:
        # What comes now takes a moment to load, in which a signal would end the process by force.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # it was closed by whoever started the process
            nothing = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - till the end
            setattr(sys, name, nothing)
        elif name != "stdin":
            # A terminal that cannot show a character gets an escape, not an error.
            stream.reconfigure(errors="backslashreplace")
    from thalweg.streams.cli.commands import cli

    try:
        cli(prog_name="thalweg")
    except SystemExit as end:
        if sys.argv[1:2] == ["run"] and threading.active_count() == _own_threads():
            _leave(end.code)
        raise


def _own_threads() -> int:
    """Returns how many threads the process need not wait for: the main one, and daemons."""
    return 1 + sum(thread.daemon for thread in threading.enumerate())


def _leave(code: object) -> NoReturn:
    """Ends the process without taking its objects apart, which nobody needs any more.

    A client of Kafka that is destroyed while its brokers are away was seen to take half a minute.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter calls, and what scripts rely on
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it has gone
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _end(_number: int, _frame: FrameType | None) -> None:
    """Ends the process at a signal: nothing is begun that would have to be stopped."""
    os._exit(0)
