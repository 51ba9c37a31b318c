"""Identities, tasks, statuses and error codes: their values and their text."""

from __future__ import annotations

import logging
import random
import uuid

import pytest

from thalweg.rebalance.backoff import Backoff
from thalweg.rebalance.errors import (
    Code,
    RefusedError,
    code_name,
    is_retriable,
)
from thalweg.rebalance.group_codes import Status, StatusCode
from thalweg.rebalance.values import (
    Endpoint,
    GroupIdentity,
    MemberSettings,
    TaskAssignment,
    TaskId,
    new_id,
)


def test_a_task_is_active_before_it_is_standby_before_it_is_warming_up() -> None:
    tasks = TaskAssignment.of([("0", 1)], [("0", 1), ("0", 2)], [("0", 1), ("0", 2), ("0", 3)])

    assert tasks.active == {TaskId("0", 1)}
    assert tasks.standby == {TaskId("0", 2)}
    assert tasks.warmup == {TaskId("0", 3)}


def test_an_assignment_is_told_by_role() -> None:
    assert str(TaskAssignment.of([("1", 0), ("0", 2)], [("0", 1)])) == "active 0_2 1_0, standby 0_1"
    assert str(TaskAssignment()) == "no tasks"


def test_a_role_counts_when_assignments_are_compared() -> None:
    active = TaskAssignment.of([("0", 1)])
    standby = TaskAssignment.of((), [("0", 1)])

    assert TaskAssignment() <= active
    assert not active <= standby
    assert not standby <= active
    assert active.tasks == standby.tasks


def test_ids_are_uuid_text_and_repeat_with_the_seed() -> None:
    first = new_id(random.Random(1))

    assert uuid.UUID(first).version == 4
    assert first == new_id(random.Random(1))
    assert first != new_id(random.Random(2))


def test_a_member_is_one_from_the_first_epoch_on() -> None:
    assert not GroupIdentity("m", 0).is_member
    assert not GroupIdentity("m", -1).is_member
    assert GroupIdentity("m", 1).is_member


def test_an_end_point_is_host_and_port() -> None:
    assert str(Endpoint("localhost", 8080)) == "localhost:8080"


@pytest.mark.parametrize("name", ["group_id", "member_id", "process_id"])
def test_blank_ids_are_refused(name: str) -> None:
    ids = {"group_id": "g", "member_id": "m", "process_id": "p", name: " "}

    with pytest.raises(ValueError, match=f"{name} is blank"):
        MemberSettings(**ids, subtopology_ids=frozenset())


def test_a_timeout_is_positive() -> None:
    with pytest.raises(ValueError, match="rebalance_timeout_ms must be 1 or more"):
        MemberSettings("g", "m", "p", frozenset(), rebalance_timeout_ms=0)


# Statuses.


@pytest.mark.parametrize(
    ("code", "level", "words"),
    [
        (StatusCode.STALE_TOPOLOGY, logging.WARNING, "older than the group's"),
        (StatusCode.MISSING_SOURCE_TOPICS, logging.WARNING, "source topics do not exist"),
        (StatusCode.INCORRECTLY_PARTITIONED_TOPICS, logging.ERROR, "partition counts do not fit"),
        (StatusCode.MISSING_INTERNAL_TOPICS, logging.INFO, "creating the internal topics"),
        (StatusCode.SHUTDOWN_APPLICATION, logging.WARNING, "to shut down"),
        (StatusCode.ASSIGNMENT_DELAYED, logging.INFO, "waits for more members"),
        (StatusCode.MISSING_CLIENT_TAGS, logging.WARNING, "client tags are missing"),
        (77, logging.WARNING, "status 77, which this version does not know"),
    ],
)
def test_every_status_has_a_text(code: int, level: int, words: str) -> None:
    status = Status(code, "detail")

    assert words in str(status)
    assert str(status).endswith("(detail)")
    assert status.level == level


@pytest.mark.parametrize(
    "detail", ["r. Creation failed: topic exists", "Unauthorized to CREATE on topics r."]
)
def test_internal_topics_that_cannot_be_created_are_told_loudly(detail: str) -> None:
    status = Status(StatusCode.MISSING_INTERNAL_TOPICS, detail)

    assert status.level == logging.ERROR
    assert str(status) == f"the broker cannot create the internal topics ({detail})"


EXISTS = "Topic 'app-{0}' already exists."


@pytest.mark.parametrize(
    "detail",
    [
        f"Internal topics are missing: [app-r]; Creation failed: app-r ({EXISTS.format('r')}).",
        f"Creation failed: app-r ({EXISTS.format('r')}), app-c ({EXISTS.format('c')}).",
        f"Creation failed: app-r ({EXISTS.format('r')}), app-c ({EXISTS.format('c')}) and 3 more.",
        "Creation failed: app-r (TopicExistsException: the topic already exists)",
        "Creation failed: topic 'app-r' already exists",
    ],
)
def test_internal_topics_that_were_created_meanwhile_are_no_failure(detail: str) -> None:
    status = Status(StatusCode.MISSING_INTERNAL_TOPICS, detail)

    assert status.level == logging.INFO
    assert str(status) == f"the broker is creating the internal topics ({detail})"


@pytest.mark.parametrize(
    "detail",
    [
        f"Creation failed: app-r ({EXISTS.format('r')}), app-c (Policy violation).",
        f"Creation failed: app-c (Policy violation), app-r ({EXISTS.format('r')}).",
        f"Creation failed: app-r ({EXISTS.format('r')}); app-c (Policy violation).",
        "Creation failed: app-r (Unable to replicate the partition 3 time(s): only 1 broker(s)).",
        f"Unauthorized to CREATE on topics app-r; Creation failed: app-c ({EXISTS.format('c')}).",
    ],
)
def test_a_failure_beside_topics_that_exist_is_told_loudly(detail: str) -> None:
    assert Status(StatusCode.MISSING_INTERNAL_TOPICS, detail).level == logging.ERROR


# Errors.


def test_codes_have_names_and_numbers() -> None:
    assert code_name(110) == "FENCED_MEMBER_EPOCH (110)"
    assert code_name(999) == "error 999"


def test_whether_to_retry_follows_from_the_code() -> None:
    assert is_retriable(Code.NOT_COORDINATOR)
    assert not is_retriable(Code.GROUP_AUTHORIZATION_FAILED)
    assert not is_retriable(999)
    assert RefusedError("later", code=14).retriable
    assert RefusedError("never", code=30).fatal


def test_every_code_says_what_it_means() -> None:
    assert all(code.meaning for code in Code)


# Waiting.


def test_waits_double_up_to_a_bound() -> None:
    backoff, even = Backoff(100, 1_000), random.Random(3)
    waits = [[backoff.delay_ms(failures, even) for _ in range(100)] for failures in range(8)]

    assert set(waits[0]) == {0}
    for failures, expected in ((1, 100), (2, 200), (3, 400)):
        assert all(0.8 * expected <= wait <= 1.2 * expected for wait in waits[failures])
    assert all(640 <= wait <= 960 for wait in waits[4])
    for failures in (5, 6, 7):
        assert all(800 <= wait <= 1_000 for wait in waits[failures])


def test_waits_are_spread() -> None:
    even = random.Random(4)

    assert len({Backoff().delay_ms(1, even) for _ in range(10)}) > 5


def test_waits_stay_bounded_for_ever() -> None:
    assert Backoff().delay_ms(10**9, random.Random(5)) <= 1_000
