"""The two forms of a log line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from thalweg.streams.errors import ConfigError
from thalweg.streams.notices import NOTICES
from thalweg.streams.observe import logs

MOMENT = 1_767_355_200.123  # 2026-01-02T12:00:00.123Z


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """Gives the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("streams.x", logging.WARNING, "x.py", 1, message, args, info)
    made.created = MOMENT
    return made


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_line_for_people_has_time_level_logger_and_message() -> None:
    line = logs.PeopleFormatter().format(record("%d of %s", 3, "x"))

    assert line == "12:00:00.123 WARNING streams.x: 3 of x"


def test_a_line_for_people_names_the_error_once() -> None:
    error = raised(ValueError("no good"))

    assert (
        logs.PeopleFormatter()
        .format(record("failed", error=error))
        .endswith("failed (ValueError: no good)")
    )
    assert (
        logs.PeopleFormatter()
        .format(record("failed: no good", error=error))
        .endswith(": failed: no good")
    )


def test_a_line_for_people_has_a_traceback_on_request_only() -> None:
    error = raised(ValueError("no good"))

    assert "Traceback" not in logs.PeopleFormatter().format(record("failed", error=error))
    assert "Traceback" in logs.PeopleFormatter(traces=True).format(record("failed", error=error))


def test_a_json_line_is_one_object() -> None:
    line = logs.JsonFormatter().format(record("two\nlines, %s", "é"))

    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-01-02T12:00:00.123Z",
        "level": "warning",
        "logger": "streams.x",
        "message": "two\nlines, é",
    }


def test_a_json_line_has_error_and_fields() -> None:
    given = record("failed", error=raised(ConfigError("bad setting")))
    given.fields = {"lag": 3, "path": logs}

    row = json.loads(logs.JsonFormatter().format(given))

    assert row["error"] == "thalweg.ConfigError: bad setting"
    assert row["lag"] == 3
    assert "traceback" not in row
    assert "Traceback" in json.loads(logs.JsonFormatter(traces=True).format(given))["traceback"]


def test_the_log_goes_to_what_standard_error_is_at_that_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.install("people", "warning")
    with capsys.disabled():
        first = sys.stderr
    assert sys.stderr is not first

    logging.getLogger("streams.x").warning("seen")
    logging.getLogger("streams.x").info("not seen")

    assert capsys.readouterr().err.endswith("streams.x: seen\n")


def test_what_the_program_says_is_not_subject_to_the_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.install("json", "error")

    logs.PROGRAM.info("done")

    assert json.loads(capsys.readouterr().err)["message"] == "done"
    assert logs.is_json()


def test_an_error_that_is_raised_is_left_to_whoever_catches_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.install("people", "info")

    logging.getLogger("streams.x").error("worker failed", extra={"is_raised": True})
    logging.getLogger("streams.x").error("worker replaced", extra={"is_raised": False})

    assert capsys.readouterr().err.endswith("ERROR streams.x: worker replaced\n")


def test_installing_again_takes_the_place_of_the_first(root: logging.Logger) -> None:
    logs.install("json", "info")
    logs.install("people", "debug")

    assert len(root.handlers) == 1
    assert root.level == logging.DEBUG
    assert not logs.is_json()


@pytest.mark.parametrize(
    ("level", "notices", "told"),
    [("warning", True, True), ("warning", False, False), ("info", False, True)],
)
def test_notices_are_left_out_where_nobody_looks(
    capsys: pytest.CaptureFixture[str], level: logs.LogLevel, notices: bool, told: bool
) -> None:
    logs.install("people", level, notices=notices)
    NOTICES.info("made")
    logging.getLogger("streams.x").warning("trouble")

    errors = capsys.readouterr().err
    assert "trouble" in errors
    assert ("made\n" in errors) is told
