"""Members whose end point is answered by something else: what they have is never left out."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.unit.streams.queries.asked import PEOPLE, Share
from tests.unit.streams.queries.strangers import STRANGERS, Serve, http, saying, stranger
from tests.waiting import HANG_S
from thalweg import App, BrokerError
from thalweg.rebalance.description import GroupDescription, MemberDescription
from thalweg.rebalance.values import Endpoint, TaskAssignment
from thalweg.streams.clock import SystemClock
from thalweg.streams.observe.status import (
    UNREACHABLE,
    InstanceSource,
    instance_at,
    json_of,
    of_group,
    summary_of,
)
from thalweg.streams.queries.http import QueryServer
from thalweg.streams.queries.peer import PeerError, Site, fetch

PATHS = (
    "/stores/people",
    "/stores/people?limit=1",
    "/stores/people?prefix=person%201&limit=1",
    "/stores/people/count",
    "/stores/people?key=nobody",
    "/stores/hourly/windows",
)


@pytest.fixture
def share(app: App) -> Iterator[Share]:
    """Returns an instance that has half of the partitions, behind a server."""
    share = Share(app, {0, 1}, Endpoint("", 0), {})
    server = QueryServer("127.0.0.1:0", share)
    share.endpoint = server.endpoint
    server.start()
    yield share
    server.close()


@pytest.mark.parametrize("serve", STRANGERS.values(), ids=STRANGERS)
def test_no_question_is_answered_without_the_rows_a_stranger_stands_before(
    share: Share, serve: Serve
) -> None:
    with stranger(serve) as endpoint:
        share.others = {endpoint: {2, 3}}
        with httpx.Client(base_url=f"http://{share.endpoint}", timeout=HANG_S) as client:
            for path in PATHS:
                answer = client.get(path)
                body = answer.json()
                assert (answer.status_code, body["code"]) == (502, "owner-unreadable"), path
                assert "Retry-After" not in answer.headers
                assert body["instance"] == str(endpoint)
                assert str(endpoint) in body["detail"]
            found = {}
            for name in PEOPLE:
                answer = client.get("/stores/people", params={"key": name})
                found[name] = answer.status_code
                assert answer.status_code in (200, 502), "a key the other has is no 404"
            assert 0 < sum(status == 200 for status in found.values()) < len(PEOPLE)
            assert client.get("/stores/people?scope=local").status_code == 200


def test_a_host_that_is_no_name_is_unreachable(share: Share) -> None:
    share.others = {Endpoint("a..b", 8080): {2, 3}}

    answer = httpx.get(f"http://{share.endpoint}/stores/people")

    assert (answer.status_code, answer.json()["code"]) == (503, "owner-unreachable")


class Fast(SystemClock):
    """A clock on which a second passes whenever somebody looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0

    def monotonic_ms(self) -> float:
        self._seconds += 1
        return self._seconds * 1000.0


MARKED = b"HTTP/1.1 200 OK\r\nThalweg-Application: asked\r\nContent-Length: 10000000\r\n"


@pytest.mark.parametrize("head", [b"", MARKED[:17], MARKED, MARKED + b"\r\n"])
def test_an_answer_that_comes_drop_by_drop_is_not_waited_for(head: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")

    with stranger(drip) as endpoint, pytest.raises(PeerError, match="timed out"):
        fetch(Site.of(endpoint), "/", clock=Fast())


# -- how the application is doing ----------------------------------------------------------


def member(endpoint: Endpoint) -> MemberDescription:
    """Returns a member that has tasks, as the broker tells of it."""
    tasks = TaskAssignment.of([("0", 1), ("1", 0)], [("0", 0)])
    return MemberDescription("m1", 1, "p1", "c1", "/h", endpoint, tasks, TaskAssignment())


METRICS = {
    "metrics of its own": http(b"jvm_threads 5.0\n", kind="text/plain"),
    "metrics that look like ours": http(
        b'kafka_streams_client_state{state="RUNNING"} 1.0\n', kind="text/plain"
    ),
    "metrics that are no text": http(
        b"\xff\xfe\x00", kind="text/plain", more="Thalweg-Application: asked\r\n"
    ),
    "metrics that are none": http(
        b"<html>{</html>", kind="text/plain", more="Thalweg-Application: asked\r\n"
    ),
    "metrics without a label": http(
        b"kafka_streams_client_state 1.0\n", more="Thalweg-Application: asked\r\n"
    ),
    "metrics that are no number": http(
        b'kafka_streams_client_state{state="RUNNING"} 1.0\n'
        b'kafka_streams_task_process_total{task="0_0"} NaN\n',
        more="Thalweg-Application: asked\r\n",
    ),
    "metrics of nothing": http(b"", more="Thalweg-Application: asked\r\n"),
}


@pytest.mark.parametrize(
    "serve",
    [*STRANGERS.values(), *map(saying, METRICS.values())],
    ids=[*STRANGERS, *METRICS],
)
def test_a_member_behind_a_stranger_is_unreachable_and_has_the_tasks_the_broker_tells(
    serve: Serve,
) -> None:
    with stranger(serve) as endpoint:
        told = instance_at(endpoint, "asked")
        group = GroupDescription(0, "", "asked", "Stable", 1, 1, {}, (member(endpoint),))
        status = of_group(group, [told])

    (instance,) = status.instances
    assert instance.state == UNREACHABLE
    assert instance.reason
    assert [(task.task_id, task.state) for task in instance.tasks] == [
        ("0_0", "standby"),
        ("0_1", "active"),
        ("1_0", "active"),
    ]
    assert f"{endpoint} cannot be reached: {instance.reason}" in summary_of(status)
    assert json_of(status)["instances"][0]["reason"] == instance.reason


def test_an_instance_tells_of_the_tasks_of_a_member_behind_a_stranger(share: Share) -> None:
    with stranger(STRANGERS["a page"]) as endpoint:
        share.others = {endpoint: {2, 3}}
        status = InstanceSource(share.endpoint).status()

    (other,) = (one for one in status.instances if one.endpoint == endpoint)
    assert other.state == UNREACHABLE
    assert "another program answers there (HTTP status 200" in str(other.reason)
    (here,) = (one for one in status.instances if one.endpoint == share.endpoint)
    # The instance runs all tasks; half of them it knows of as the other's.
    assert {task.task_id for task in other.tasks} == {
        task.task_id for task in here.tasks if task.task_id.endswith(("_2", "_3"))
    }
    assert {task.state for task in other.tasks} == {"active"}
    assert other.tasks


@pytest.mark.parametrize("serve", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_that_is_asked_for_the_status_is_told_apart(serve: Serve) -> None:
    with stranger(serve) as endpoint, pytest.raises(BrokerError, match=str(endpoint)):
        InstanceSource(endpoint).status()
