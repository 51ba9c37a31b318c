"""The built-in handlers, what they log, and the form of a dead letter."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from thalweg import (
    BrokerError,
    ErrorContext,
    ProductionError,
    Response,
)
from thalweg.streams.error_handlers import (
    BUILT_IN,
    Decision,
    ErrorHandler,
    OutgoingRecord,
    dead_letter,
    dead_letters,
    error_name,
    log_and_continue,
    log_and_fail,
    retry_or_fail,
)

SECRET = b"the payload"


def context(**changes: Any) -> ErrorContext:
    given: dict[str, Any] = {
        "topic": "orders",
        "partition": 3,
        "offset": 17,
        "headers": (("h", b"1"), ("h", None)),
        "timestamp": 5,
        "node": "mapper",
        "task_id": "0_3",
        "raw_key": SECRET,
        "raw_value": SECRET,
        "dead_letter_queue_topic": None,
    }
    return ErrorContext(**{**given, **changes})


def raised(error: Exception) -> Exception:
    """Returns an error that has a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


class Strange(Exception):
    """An error of a user's own."""

    class Inner(Exception):
        """One inside it."""


# -- decisions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "error", "decision"),
    [
        (log_and_fail, ValueError("no"), Decision.FAIL),
        (log_and_fail, BrokerError("away", retriable=True), Decision.FAIL),
        (log_and_continue, ValueError("no"), Decision.RESUME),
        (log_and_continue, BrokerError("away", retriable=True), Decision.RESUME),
        (retry_or_fail, ValueError("no"), Decision.FAIL),
        (retry_or_fail, ProductionError("too large"), Decision.FAIL),
        (retry_or_fail, BrokerError("gone"), Decision.FAIL),
        (retry_or_fail, BrokerError("away", retriable=True), Decision.RETRY),
    ],
)
def test_the_built_in_handlers_decide(
    handler: ErrorHandler, error: Exception, decision: Decision
) -> None:
    response = handler(context(), None, error)
    assert (response.decision, response.dead_letters) == (decision, ())


@pytest.mark.parametrize("handler", [log_and_fail, log_and_continue, retry_or_fail])
def test_they_send_a_dead_letter_where_a_topic_is_set(handler: ErrorHandler) -> None:
    (letter,) = handler(
        context(dead_letter_queue_topic="letters"), None, ValueError("no")
    ).dead_letters
    assert letter.topic == "letters"


def test_what_is_sent_again_is_not_given_up() -> None:
    error = BrokerError("away", retriable=True)
    assert retry_or_fail(context(dead_letter_queue_topic="letters"), None, error).dead_letters == ()


def test_they_are_named_in_settings() -> None:
    assert {
        "log_and_fail": log_and_fail,
        "log_and_continue": log_and_continue,
        "retry_or_fail": retry_or_fail,
    } == BUILT_IN


def test_responses_carry_letters_but_for_retry() -> None:
    letter = dead_letter(context(), ValueError("no"), topic="letters")
    assert Response.fail(letter, letter).dead_letters == (letter, letter)
    assert Response.resume(letter) == Response(Decision.RESUME, (letter,))
    assert Response.retry() == Response(Decision.RETRY)


# -- what they log -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "level", "ends"),
    [
        (log_and_fail, logging.ERROR, "; stopping"),
        (log_and_continue, logging.WARNING, "; the record is dropped"),
        (retry_or_fail, logging.ERROR, "; stopping"),
    ],
)
def test_they_log_the_place_and_no_payload(
    caplog: pytest.LogCaptureFixture, handler: ErrorHandler, level: int, ends: str
) -> None:
    handler(context(), OutgoingRecord("out", None, 5, SECRET, SECRET), ValueError("no"))
    (record,) = caplog.records
    assert record.levelno == level
    assert record.message == f"task 0_3, node mapper, orders-3 offset 17: ValueError: no{ends}"
    assert SECRET.decode() not in caplog.text
    assert getattr(record, "is_raised", False) is (level == logging.ERROR)


def test_in_a_punctuation_they_log_its_time(caplog: pytest.LogCaptureFixture) -> None:
    log_and_continue(context(topic=None, partition=-1, offset=-1), None, ValueError("no"))
    assert "node mapper, a punctuation at 5 ms: ValueError: no" in caplog.text


def test_a_passing_error_is_not_logged_as_one(caplog: pytest.LogCaptureFixture) -> None:
    retry_or_fail(context(), None, BrokerError("away", retriable=True))
    assert caplog.records == []


def test_payloads_do_not_show_in_reprs() -> None:
    assert str(SECRET) not in repr(context())
    assert str(SECRET) not in repr(OutgoingRecord("out", None, 5, SECRET, SECRET))


# -- dead letters --------------------------------------------------------------------------


def test_a_dead_letter_is_what_was_read_and_says_why() -> None:
    error = raised(ValueError("no"))
    letter = dead_letter(context(), error, topic="letters")
    assert (letter.topic, letter.key, letter.value) == ("letters", SECRET, SECRET)
    assert (letter.timestamp, letter.partition) == (5, None)
    names, values = zip(*letter.headers, strict=True)
    assert names == (
        "h",
        "h",
        "__streams.errors.exception",
        "__streams.errors.message",
        "__streams.errors.stacktrace",
        "__streams.errors.topic",
        "__streams.errors.partition",
        "__streams.errors.offset",
    )
    assert values[:4] == (b"1", None, b"ValueError", b"no")
    assert values[4].startswith(b"Traceback (most recent call last):")
    assert values[4].rstrip().endswith(b"ValueError: no")
    assert values[5:] == (b"orders", b"3", b"17")


def test_what_is_not_there_is_none() -> None:
    nowhere = context(topic=None, partition=-1, offset=-1, raw_key=None, raw_value=None, headers=())
    letter = dead_letter(nowhere, ValueError(), topic="letters")
    told = dict(letter.headers)
    assert (letter.key, letter.value) == (None, None)
    assert told["__streams.errors.message"] is None
    assert told["__streams.errors.topic"] is None
    assert told["__streams.errors.partition"] == b"-1"
    assert told["__streams.errors.offset"] == b"-1"


def test_texts_that_are_no_unicode_do_not_stop_it() -> None:
    letter = dead_letter(context(), raised(ValueError("\udcff")), topic="letters")
    assert dict(letter.headers)["__streams.errors.message"] == b"?"


def test_without_a_topic_there_are_no_letters() -> None:
    assert dead_letters(context(), ValueError("no")) == ()
    assert len(dead_letters(context(dead_letter_queue_topic="letters"), ValueError("no"))) == 1


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("no"), "ValueError"),
        (Strange("no"), f"{__name__}.Strange"),
        (Strange.Inner("no"), f"{__name__}.Strange.Inner"),
        (BrokerError("no"), "thalweg.BrokerError"),
    ],
)
def test_errors_are_named_as_a_traceback_names_them(error: Exception, name: str) -> None:
    assert error_name(error) == name
