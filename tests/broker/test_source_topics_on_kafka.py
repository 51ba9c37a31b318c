"""Stores that have a source topic as changelog: standbys, take-overs and lost state, on Kafka."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.broker.groups import configure_group
from tests.broker.records import Topics, unique
from tests.broker.workers import HANG_S
from tests.waiting import wait_until
from thalweg import (
    App,
    Processor,
    Record,
    StreamsBuilder,
    Topology,
    key_value_store,
    serdes,
)
from thalweg.streams.errors import StreamsError
from thalweg.streams.observe.status import TaskStatus, instance_at

string, int64 = serdes.string, serdes.int64
GUARANTEES = ["at_least_once", "exactly_once_v2"]
PRICES = "0_0"


def tasks(app: App, state: str) -> dict[str, TaskStatus]:
    """Returns the tasks of an instance in a state, by its own words."""
    return {task.task_id: task for task in instance_at(app.endpoint).tasks if task.state == state}


def found(app: App, store: str, key: str) -> Any:
    """Returns a row, None while there is none or its task is elsewhere or not ready."""
    try:
        return app.store(store).get(key)
    except StreamsError:
        return None


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_standby_that_takes_over_finds_the_rows_of_before(
    kafka: str, tmp_path: Path, guarantee: str
) -> None:
    topics, application_id = Topics(kafka), unique("ahead")
    source = topics.create(unique("prices"))
    configure_group({"bootstrap.servers": kafka}, application_id, num_standby_replicas=1)

    def started(name: str) -> App:
        builder = StreamsBuilder()
        prices = builder.table(source, key_serde=string, value_serde=int64, store="prices")
        prices.group_by(
            lambda _key, price: ("all", price), key_serde=string, value_serde=int64
        ).reduce(lambda a, b: a + b, lambda a, b: a - b, name="sum")
        prices.to_stream().group_by_key(key_serde=string, value_serde=int64).count(name="changes")
        app = App(
            builder,
            application_id=application_id,
            bootstrap_servers=kafka,
            state_dir=tmp_path / name,
            application_server="127.0.0.1:0",
            processing_guarantee=guarantee,
            commit_interval_ms=100,
            topology_optimization="reuse.ktable.source.topics",
        )
        app.start()
        return app

    price = int64.serializer(source)
    topics.produce(source, [(b"k", price(10))])
    with ExitStack() as stack:
        apps = [started(name) for name in ("one", "two")]
        for app in apps:
            stack.callback(app.close)

        def roles() -> tuple[App, App] | None:
            owner = next((app for app in apps if PRICES in tasks(app, "running")), None)
            other = next((app for app in apps if PRICES in tasks(app, "standby")), None)
            if owner is None or other is None:
                return None
            # The row, and its count.
            return (owner, other) if tasks(other, "standby")[PRICES].restored == 2 else None

        owner, other = wait_until(
            roles, HANG_S, lambda: f"{[instance_at(app.endpoint) for app in apps]}"
        ) or (apps[0], apps[0])
        for app in apps:
            app.pause()
        topics.produce(source, [(b"k", price(20))])
        # What comes behind it shows that the standby follows meanwhile.
        changelog = f"{application_id}-changes-changelog"
        topics.produce(changelog, [(b"mark", (1).to_bytes(8))])
        wait_until(lambda: (tasks(other, "standby")[PRICES].restored or 0) > 2, HANG_S, "the mark")
        owner.close()
        other.resume()
        wait_until(lambda: found(other, "prices", "k") == 20, HANG_S, lambda: f"{other}")
        wait_until(
            lambda: other.progress() is not None and found(other, "sum", "all") == 20,
            HANG_S,
            lambda: f"sum {found(other, 'sum', 'all')}",
        )


class Keep(Processor[str, str, Any, Any]):
    """Puts values in capitals, but those that begin with a dash."""

    def process(self, record: Record[str, str]) -> None:
        if not record.value.startswith("-"):
            self.context.get_state_store("names").put(record.key, record.value.upper())


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize("kind", ["table", "read-only store"])
def test_a_store_comes_back_from_its_source_topic_as_it_was(
    kafka: str, tmp_path: Path, guarantee: str, kind: str
) -> None:
    topics, application_id = Topics(kafka), unique("again")
    source = topics.create(unique("names"))
    rows = [(b"%d" % n, b"name %d" % n) for n in range(50)]
    topics.produce(source, [*rows, (b"1", b"\xff"), (b"\xff", b"x"), (b"2", b"-"), (b"3", b"last")])

    def built() -> StreamsBuilder | Topology:
        if kind == "table":
            builder = StreamsBuilder()
            builder.table(source, key_serde=string, value_serde=string, store="names")
            return builder
        topology = Topology()
        store = key_value_store("names", string, string)
        return topology.add_read_only_state_store(
            store, "source", source, "keep", Keep, key_serde=string, value_serde=string
        )

    def held() -> dict[str, str]:
        app = App(
            built(),
            application_id=application_id,
            bootstrap_servers=kafka,
            state_dir=tmp_path / "state",
            processing_guarantee=guarantee,
            deserialization_handler="log_and_continue",
            commit_interval_ms=100,
            topology_optimization="reuse.ktable.source.topics",
        )
        with app:
            wait_until(lambda: found(app, "names", "3") in ("last", "LAST"), HANG_S, f"{app}")
            with app.store("names").all() as all_rows:
                return dict(all_rows)

    before = held()
    assert held() == before
    shutil.rmtree(tmp_path / "state")
    assert held() == before
    assert len(before) == 50
