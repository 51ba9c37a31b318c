"""The forms of the command line's log lines: for people, or one JSON object per line.

Owns the two formats and their installation. Only a program installs them: the packages log
with `logging.getLogger(__name__)` and leave the rest to whoever runs them. It must not know
what is logged.

    12:00:00.123 WARNING streams.worker.loop: reading failed, trying again: …
    {"time":"2026-01-02T12:00:00.123Z","level":"warning","logger":"thalweg.streams.worker.loop","message":"…"}
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, TypeAlias

from thalweg.streams.notices import NOTICES

LogFormat: TypeAlias = Literal["people", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

PROGRAM: Final = logging.getLogger("thalweg.program")
"""Where the program itself speaks, in a JSON log: what it does, how it ends."""


class PeopleFormatter(logging.Formatter):
    """Writes a line for people: UTC time of day, level, logger, message.

    Args:
        traces: write the traceback of a logged exception too.
    """

    def __init__(self, *, traces: bool = False) -> None:
        super().__init__()
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line; with a traceback it has several."""
        if record.name == NOTICES.name:
            return record.getMessage()
        moment = datetime.fromtimestamp(record.created, UTC).time().isoformat("milliseconds")
        line = f"{moment} {record.levelname} {record.name}: {record.getMessage()}"
        error = _error_of(record)
        if error is None:
            return line
        if self._traces and record.exc_info:
            return f"{line}\n{self.formatException(record.exc_info)}"
        # Whoever logs an error with its message should not have it twice.
        return line if str(error) in line else f"{line} ({error_text(error)})"


class JsonFormatter(logging.Formatter):
    """Writes a JSON object a line, with `time level logger message` and, if any, `error`.

    `time` is UTC in ISO 8601 with milliseconds, `level` in lower case, `error` the class and
    text of a logged exception. Attributes given as `extra={"fields": {…}}` become members.

    Args:
        traces: put the traceback of a logged exception in `traceback`.
    """

    def __init__(self, *, traces: bool = False) -> None:
        super().__init__()
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        row: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            row.update(fields)
        error = _error_of(record)
        if error is not None:
            row["error"] = error_text(error)
            if self._traces and record.exc_info:
                row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment: a live display may stand in for it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """Does nothing: the stream is not kept."""


def install(
    log_format: LogFormat, level: LogLevel, *, traces: bool = False, notices: bool = False
) -> None:
    """Sends the log to standard error, in place of what the root logger has now.

    Args:
        log_format: for people or for programs.
        level: the least that is written.
        traces: write tracebacks of logged exceptions too.
        notices: write notices at any level; else only where `level` is info or debug.
    """
    handler = _StandardError()
    handler.addFilter(_is_told_here)
    kind = JsonFormatter if log_format == "json" else PeopleFormatter
    handler.setFormatter(kind(traces=traces))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # What the program itself says is not subject to the level of the log.
    PROGRAM.setLevel(logging.INFO)
    NOTICES.setLevel(logging.INFO if notices else logging.NOTSET)
    logging.captureWarnings(capture=True)


def _is_told_here(record: logging.LogRecord) -> bool:
    """Tells whether to write a record; whoever catches what is raised tells it himself."""
    return not getattr(record, "is_raised", False)


def is_json() -> bool:
    """Tells whether the log is JSON, so that nothing else may be written beside it."""
    return any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers)


def error_text(error: BaseException) -> str:
    """Returns class and message of an exception, as the last line of a traceback has them."""
    kind, text = type(error), str(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    return f"{name}: {text}" if text else name


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
