"""How an application is doing, told by its instances and by its group."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.unit.streams.queries.asked import PARTITIONS, Share, feed, idle, made_app
from tests.waiting import HANG_S
from thalweg import App, BrokerError
from thalweg.rebalance.description import GroupDescription, MemberDescription
from thalweg.rebalance.values import Endpoint, TaskAssignment
from thalweg.streams.observe.metrics import TASK_GROUP, Metric
from thalweg.streams.observe.prometheus import render_prometheus
from thalweg.streams.observe.status import (
    COLUMNS,
    UNREACHABLE,
    ApplicationStatus,
    InstanceSource,
    InstanceStatus,
    TaskStatus,
    instance_at,
    instances_at,
    json_of,
    of_group,
    rows_of,
    summary_of,
)
from thalweg.streams.queries.http import QueryServer
from thalweg.streams.queries.peer import PeerError, Site


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application that has processed its input and answers over HTTP."""
    app = made_app(tmp_path_factory.mktemp("state"), application_server="127.0.0.1:0")
    feed(app)
    with app:
        idle(app)
        yield app


@pytest.fixture
def gone() -> Endpoint:
    """Returns an end point at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Endpoint("127.0.0.1", server.getsockname()[1])


def test_an_instance_tells_of_its_tasks(app: App) -> None:
    status = InstanceSource(app.endpoint).status()

    assert status.application_id == "asked"
    (instance,) = status.instances
    assert (instance.state, instance.endpoint) == ("RUNNING", app.endpoint)
    assert len(instance.tasks) == 4 * PARTITIONS
    assert {task.state for task in instance.tasks} == {"running"}
    progress = app.progress()
    assert progress is not None
    assert sum(task.processed or 0 for task in instance.tasks) == progress.processed_records
    assert all(task.lag == 0 for task in instance.tasks)
    assert status.lag == status.remaining == 0


def test_every_instance_is_asked_and_those_that_are_gone_are_told(app: App, gone: Endpoint) -> None:
    share = Share(app, {0}, Endpoint("", 0), {})
    server = QueryServer("127.0.0.1:0", share)
    share.endpoint = server.endpoint
    share.others = {app.endpoint: {1}, gone: {2, 3}}
    server.start()
    try:
        status = InstanceSource(server.endpoint).status()
    finally:
        server.close()

    states = {one.endpoint: one.state for one in status.instances}
    assert states == {server.endpoint: "RUNNING", app.endpoint: "RUNNING", gone: UNREACHABLE}
    assert f"{gone} cannot be reached: " in summary_of(status)


def test_instances_are_asked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes seconds to be given up: here none is before all were asked."""
    endpoints = [Endpoint("nowhere", port) for port in range(1, 11)]
    all_asked = threading.Barrier(len(endpoints), timeout=HANG_S)

    def fetch(site: Site, *_target: object, **_options: object) -> NoReturn:
        all_asked.wait()
        raise PeerError(f"{site} takes too long", is_answering=False)

    monkeypatch.setattr("thalweg.streams.observe.status.fetch", fetch)
    found = instances_at(endpoints)

    assert [one.endpoint for one in found] == endpoints
    assert {one.state for one in found} == {UNREACHABLE}
    assert instances_at([]) == []


def test_where_nobody_answers_the_remedy_is_told(gone: Endpoint) -> None:
    with pytest.raises(BrokerError, match=f"no worker answers at {gone}.*application_server"):
        InstanceSource(gone).status()


def test_standby_tasks_tell_what_they_followed(app: App) -> None:
    """An instance with a task in both states, as in between two assignments, has two rows."""
    tags = {"client-id": "asked", "task-id": "0_0"}
    metrics = [
        Metric("state", TASK_GROUP, "standby", tags),
        Metric("update-total", TASK_GROUP, 7, tags),
        Metric("update-remaining-records-total", TASK_GROUP, 2, tags),
        Metric("state", TASK_GROUP, "running", tags),
        Metric("process-total", TASK_GROUP, 5, tags),
        Metric("restore-total", TASK_GROUP, 3, tags),
        Metric("restore-remaining-records-total", TASK_GROUP, 0, tags),
    ]

    class Telling(Share):
        def metrics_text(self) -> str:
            return render_prometheus(metrics)

    server = QueryServer("127.0.0.1:0", Telling(app, {0}, Endpoint("", 0), {}))
    server.start()
    try:
        told = instance_at(server.endpoint)
    finally:
        server.close()

    assert told.tasks == (
        TaskStatus("0_0", "running", 5, None, 3, 0),
        TaskStatus("0_0", "standby", None, None, 7, 2),
    )


GROUP = GroupDescription(
    code=0,
    message="",
    group_id="asked",
    state="Reconciling",
    epoch=3,
    assignment_epoch=3,
    internal_topics={},
    members=(
        MemberDescription(
            member_id="m1",
            epoch=3,
            process_id="p1",
            client_id="c1",
            host="/127.0.0.1",
            endpoint=Endpoint("left", 1),
            tasks=TaskAssignment.of([("10", 0), ("2", 1)], [("2", 0)]),
            target=TaskAssignment(),
        ),
        MemberDescription(
            member_id="m2",
            epoch=3,
            process_id="p2",
            client_id="c2",
            host="/127.0.0.1",
            endpoint=None,
            tasks=TaskAssignment(),
            target=TaskAssignment(),
        ),
    ),
)


def test_a_group_tells_what_its_members_have() -> None:
    status = of_group(GROUP)

    assert status.group_state == "Reconciling"
    left, other = status.instances
    assert left.name == "left:1"
    assert [(t.task_id, t.state) for t in left.tasks] == [
        ("2_0", "standby"),
        ("2_1", "active"),
        ("10_0", "active"),
    ]
    assert (other.name, other.tasks, other.state) == ("m2", (), "UNKNOWN")


def test_what_instances_tell_is_better_known() -> None:
    told = InstanceStatus(
        "left:1", "RUNNING", (TaskStatus("2_1", "running", lag=5),), Endpoint("left", 1)
    )

    left, _ = of_group(GROUP, [told]).instances

    assert left.tasks == told.tasks
    assert left.member_id == "m1"


def test_an_instance_that_cannot_be_asked_has_the_tasks_its_group_tells(gone: Endpoint) -> None:
    lost = instance_at(gone)
    member = MemberDescription(
        "m", 1, "p", "c", "/h", gone, TaskAssignment.of([("0", 0)]), TaskAssignment()
    )
    group = GroupDescription(0, "", "g", "Stable", 1, 1, {}, (member,))

    (instance,) = of_group(group, [lost]).instances

    assert (instance.state, instance.reason) == (UNREACHABLE, lost.reason)
    assert [task.task_id for task in instance.tasks] == ["0_0"]


STATUS = ApplicationStatus(
    "counts",
    (
        InstanceStatus(
            "left:1",
            "RUNNING",
            (
                TaskStatus("0_0", "running", 1234567, 12, 3, 0),
                TaskStatus("0_1", "restoring", 0, None, 500, 1500),
                TaskStatus("0_2", "standby", None, None, 700, 20),
            ),
            Endpoint("left", 1),
        ),
        InstanceStatus("m2", "UNKNOWN", member_id="m2"),
    ),
)


def test_a_row_for_each_task_and_for_an_instance_without() -> None:
    assert rows_of(STATUS) == [
        ("left:1", "RUNNING", "0_0", "running", "1,234,567", "12", "3", "0"),
        ("left:1", "RUNNING", "0_1", "restoring", "0", "", "500", "1,500"),
        ("left:1", "RUNNING", "0_2", "standby", "", "", "700", "20"),
        ("m2", "UNKNOWN", "", "", "", "", "", ""),
    ]
    assert all(len(row) == len(COLUMNS) for row in rows_of(STATUS))


def test_all_in_one_line() -> None:
    # What standby tasks follow is nothing that anybody waits for.
    assert summary_of(STATUS) == "counts: 2 instances · 3 tasks · lag 12 · 1,500 to restore"
    assert summary_of(of_group(GROUP)) == "asked: group Reconciling · 2 instances · 3 tasks · lag 0"


def test_as_json_what_is_not_known_is_null() -> None:
    read = json.loads(json.dumps(json_of(STATUS)))

    assert (read["lag"], read["remaining_restore_records"]) == (12, 1500)
    left, other = read["instances"]
    assert left["endpoint"] == "left:1"
    assert left["tasks"][1] == {
        "task": "0_1",
        "state": "restoring",
        "processed_records": 0,
        "lag": None,
        "restored_records": 500,
        "remaining_restore_records": 1500,
    }
    assert (other["endpoint"], other["member_id"], other["tasks"]) == (None, "m2", [])
