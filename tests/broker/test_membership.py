"""Members on a real broker: how they share tasks, and how they get over what goes wrong."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as RdkafkaPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from tests.broker.broker import INTERVAL_MS, Broker, open_broker
from tests.broker.groups import configure_group, described, exchange
from tests.broker.members import (
    Owner,
    WatchedConnection,
    accepted_of,
    all_tasks,
    turn_until,
    turn_until_heard_again,
    turn_until_shared,
    word_count,
)
from tests.waiting import HANG_S, Deadline, wait_until
from thalweg.rebalance.actions import Heartbeat
from thalweg.rebalance.connection_settings import ConnectionSettings
from thalweg.rebalance.describe import describe_group
from thalweg.rebalance.errors import (
    AuthenticationError,
    Code,
    MembershipLostError,
    MissingTopicsError,
    RebalanceError,
    RefusedError,
    TopologyRefusedError,
    UnreachableError,
    UnsupportedBrokerError,
)
from thalweg.rebalance.events import (
    Lost,
    Revoked,
    ShutdownRequested,
    StatusChanged,
)
from thalweg.rebalance.heartbeat import Answer, Heartbeats, read_answer
from thalweg.rebalance.heartbeat_thread import GroupClient
from thalweg.rebalance.messages import (
    HEARTBEAT,
    OFFSET_COMMIT,
    Api,
    CommittedOffset,
    decode_offset_commit,
    encode_offset_commit,
)
from thalweg.rebalance.values import (
    Endpoint,
    GroupIdentity,
    MemberSettings,
    TaskAssignment,
    new_id,
)

pytestmark = pytest.mark.broker

LONG_SESSION_MS = 60_000
"""Of groups whose members are to be missed by nobody on a busy machine; the longest the broker allows."""
SHORT_SESSION_MS = 2_000
"""Of groups whose members are to outlast one; the shortest the broker allows."""

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def kafka(broker: Broker) -> str:
    """Our own broker, whatever else there is: these tests know how long its sessions last."""
    return broker.bootstrap_servers


@pytest.fixture
def source(create_topic: Callable[..., str], name: str) -> str:
    """A source topic with three partitions."""
    return create_topic(f"{name}-lines", 3)


@pytest.fixture
def member(kafka: str, name: str, source: str) -> Iterator[Callable[..., Owner]]:
    """Makes members of one group, joins them, and has them leave in the end."""
    owners: list[Owner] = []

    def join(configs: Mapping[str, Any] | None = None, **changes: Any) -> Owner:
        owner = Owner(configs or {"bootstrap.servers": kafka}, name, source, **changes)
        owner.client.start()
        owners.append(owner)
        return owner

    yield join
    for owner in owners:
        owner.client.leave(2_000)


# -- sharing tasks -------------------------------------------------------------------------


def test_a_member_gets_all_tasks_and_the_broker_makes_the_internal_topics(
    kafka: str, name: str, member: Callable[..., Owner]
) -> None:
    owner = member()

    turn_until_shared([owner], 3)

    turn_until([owner], lambda: owner.client.describe().state == "Stable", "stability")
    group = owner.client.describe()
    assert group.internal_topics == {
        f"{name}-counts-repartition": 3,
        f"{name}-counts-changelog": 3,
    }
    (known,) = group.members
    assert known.member_id == owner.client.identity().member_id
    assert known.epoch == owner.client.identity().epoch
    assert known.tasks == known.target == TaskAssignment(all_tasks(3))
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{name}-counts-changelog")
    admin = AdminClient({"bootstrap.servers": kafka})
    configs = admin.describe_configs([resource])[resource].result(HANG_S)
    assert configs["cleanup.policy"].value == "compact"


def members_of(kafka: str, group: str) -> set[str]:
    """Returns the ids of a group's members, as its coordinator says to outsiders."""
    found = described(kafka, group)
    assert found is not None
    return {known.member_id for known in found.members}


def ids_of(*owners: Owner) -> set[str]:
    return {owner.client.settings.member_id for owner in owners}


def test_members_share_the_tasks_and_take_over_from_those_that_leave(
    kafka: str, name: str, member: Callable[..., Owner]
) -> None:
    first = member()
    turn_until_shared([first], 3)
    second = member()
    turn_until_shared([first, second], 3)
    assert first.told(Revoked)
    third = member()
    turn_until_shared([first, second, third], 3)

    assert third.client.leave()
    assert members_of(kafka, name) == ids_of(first, second), "the good-bye is heard at once"
    turn_until_shared([first, second], 3)
    assert first.client.leave()
    assert members_of(kafka, name) == ids_of(second)
    turn_until_shared([second], 3)

    assert not any(owner.told(Lost) for owner in (first, second, third))


def test_the_tasks_of_a_member_that_dies_move_on_when_its_session_ends(
    kafka: str, name: str, member: Callable[..., Owner]
) -> None:
    first, second = member(), member()
    turn_until_shared([first, second], 3)

    first.client.close()
    assert members_of(kafka, name) == ids_of(first, second), "it says no good-bye"

    turn_until_shared([second], 3)
    assert members_of(kafka, name) == ids_of(second)


def test_a_member_that_runs_nothing_is_one(member: Callable[..., Owner]) -> None:
    owners = [member() for _ in range(7)]
    busy = lambda: [owner for owner in owners if owner.active]
    turn_until(owners, lambda: len(busy()) == 6, "a task for each of six")

    (idle,) = [owner for owner in owners if not owner.active]

    assert idle.client.identity().is_member


def test_members_tell_where_they_answer(member: Callable[..., Owner], source: str) -> None:
    here, there = Endpoint("localhost", 7001), Endpoint("localhost", 7002)
    process = new_id(random.Random())
    owners = [
        member(endpoint=here, process=process),
        member(endpoint=here, process=process),
        member(endpoint=there),
    ]
    turn_until_shared(owners, 3)

    def partitions_of(owner: Owner) -> dict[Endpoint, frozenset[int]]:
        return {
            endpoint: has.active.get(source, frozenset())
            for endpoint, has in owner.client.endpoints().items()
        }

    expected = {
        here: frozenset(
            task.partition
            for owner in owners[:2]
            for task in owner.active
            if task.subtopology_id == "0"
        ),
        there: frozenset(task.partition for task in owners[2].active if task.subtopology_id == "0"),
    }
    turn_until(
        owners,
        lambda: all(partitions_of(owner) == expected for owner in owners),
        "the end points",
    )


def test_all_members_hear_of_a_shutdown(member: Callable[..., Owner]) -> None:
    first, second = member(), member()
    turn_until_shared([first, second], 3)

    first.client.request_shutdown()
    first.client.leave()

    turn_until([second], lambda: second.told(ShutdownRequested), "the shutdown")


# -- what goes wrong -----------------------------------------------------------------------


def leave_in_the_name_of(configs: Mapping[str, Any], group: str, member_id: str) -> None:
    settings = MemberSettings(group, member_id, "p", frozenset())
    body = Heartbeats(settings, ()).encode(Heartbeat(1, -1))
    assert isinstance(read_answer(exchange(configs, group, HEARTBEAT, body)), Answer)


def join_in_the_name_of(configs: Mapping[str, Any], group: str, member_id: str, source: str) -> int:
    settings = MemberSettings(group, member_id, "p", frozenset())
    heartbeats = Heartbeats(settings, word_count(group, source))
    join = Heartbeat(1, 0, owned=TaskAssignment())
    answer = read_answer(exchange(configs, group, HEARTBEAT, heartbeats.encode(join)))
    assert isinstance(answer, Answer)
    return answer.epoch


@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.FENCED_MEMBER_EPOCH])
def test_a_member_thrown_out_loses_its_tasks_and_gets_them_back(
    kafka: str, name: str, source: str, member: Callable[..., Owner], code: Code
) -> None:
    owner, configs = member(), {"bootstrap.servers": kafka}
    turn_until_shared([owner], 3)
    identity = owner.client.identity()

    leave_in_the_name_of(configs, name, identity.member_id)
    if code == Code.FENCED_MEMBER_EPOCH:
        join_in_the_name_of(configs, name, identity.member_id, source)

    turn_until([owner], lambda: owner.told(Lost), "the loss")
    turn_until_shared([owner], 3)
    assert code.name in owner.told(Lost)[0].reason
    assert owner.client.identity().member_id == identity.member_id
    assert owner.client.identity().epoch > identity.epoch


class LosingConnection(WatchedConnection):
    """Loses answers to heartbeats that change the tasks, as often as it is told to."""

    def __init__(self, settings: ConnectionSettings) -> None:
        super().__init__(settings)
        self.losses = 0
        self.lost: list[TaskAssignment] = []

    async def request(self, api: Api, body: bytes, timeout_ms: float) -> bytes:
        answered = await super().request(api, body, timeout_ms)
        if api == HEARTBEAT and self.losses:
            answer = read_answer(answered)
            if isinstance(answer, Answer) and answer.tasks is not None:
                self.losses -= 1
                self.lost.append(answer.tasks)
                raise UnreachableError("the answer got lost")
        return answered


def test_a_lost_answer_that_takes_tasks_away_is_made_good(member: Callable[..., Owner]) -> None:
    first = member(connection=LosingConnection)
    turn_until_shared([first], 3)
    connection = cast("LosingConnection", first.connection)
    connection.losses = 1

    second = member()

    turn_until_shared([first, second], 3)
    assert len(connection.lost) == 1
    assert not first.told(Lost)


def test_a_lost_answer_that_gives_tasks_is_made_good(member: Callable[..., Owner]) -> None:
    first, second = member(), member(connection=LosingConnection)
    turn_until_shared([first, second], 3)
    connection = cast("LosingConnection", second.connection)
    connection.losses = 1

    first.client.leave()

    turn_until_shared([second], 3)
    assert connection.lost == [TaskAssignment(all_tasks(3))]
    assert not second.told(Lost)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_members_get_over_a_restart_of_the_broker(
    broker: Broker, create_topic: Callable[..., str], name: str, end: str
) -> None:
    """Heartbeats are accepted again, and go on being so."""
    configure_group(
        broker.configs, name, session_timeout_ms=LONG_SESSION_MS, initial_rebalance_delay_ms=0
    )
    source = create_topic(f"{name}-lines", 3)
    with (
        Owner(broker.configs, name, source) as first,
        Owner(broker.configs, name, source) as second,
    ):
        owners = [first, second]
        turn_until_shared(owners, 3)
        first.client.commit_offsets({(source, 0): (1, "")})

        getattr(broker, end)()
        accepted = accepted_of(owners)
        broker.start()
        turn_until_heard_again(owners, accepted)
        turn_until_shared(owners, 3)
        first.client.commit_offsets({(source, 0): (2, "")}, HANG_S * 1_000)

        assert first.client.fetch_offsets([(source, 0)]) == {(source, 0): CommittedOffset(2)}
        later = {member: count + 10 for member, count in accepted.items()}
        turn_until_heard_again(owners, later)
        assert members_of(broker.bootstrap_servers, name) == ids_of(first, second)
        assert not first.told(Lost)
        assert not second.told(Lost)


@pytest.mark.parametrize("session_ms", [LONG_SESSION_MS, SHORT_SESSION_MS])
def test_members_get_over_a_broker_that_hangs(
    broker: Broker, create_topic: Callable[..., str], name: str, session_ms: int
) -> None:
    """For less than a session, and for longer than one.

    What the broker does first when the session is over is up to it: the heartbeat that waits in
    its socket, and all is as before, or the timer, and the member has to join again.
    """
    configure_group(
        broker.configs, name, session_timeout_ms=session_ms, initial_rebalance_delay_ms=0
    )
    source = create_topic(f"{name}-lines", 3)
    with Owner(broker.configs, name, source) as owner:
        turn_until_shared([owner], 3)

        hanging = Deadline((SHORT_SESSION_MS + INTERVAL_MS) / 1000)
        broker.suspend()
        with pytest.raises(UnreachableError):
            owner.client.commit_offsets({(source, 0): (1, "")}, 1_000)
        turn_until([owner], lambda: not hanging.left_s, "the end of a session")
        assert owner.connection.unanswered
        accepted = accepted_of([owner])
        broker.resume()

        turn_until_heard_again([owner], accepted)
        turn_until_shared([owner], 3)
        owner.client.commit_offsets({(source, 0): (2, "")}, HANG_S * 1_000)
        assert owner.client.fetch_offsets([(source, 0)]) == {(source, 0): CommittedOffset(2)}
        if session_ms == LONG_SESSION_MS:
            assert not owner.told(Lost)


class MemberProcess:
    """A member in a process of its own, and what it last told."""

    def __init__(self, configs: Mapping[str, Any], group: str, source: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.member_process", group, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(dict(configs)) + "\n")
        self.process.stdin.flush()
        self.told: dict[str, list[str]] = {"runs": [], "losses": []}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told = json.loads(line)

    def end(self) -> None:
        """Has it leave."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait(HANG_S)
        self._reader.join()
        self.process.stdout.close()


def test_a_process_suspended_past_its_session_comes_back(
    kafka: str, name: str, source: str, member: Callable[..., Owner]
) -> None:
    configs = {"bootstrap.servers": kafka}
    configure_group(
        configs, name, session_timeout_ms=SHORT_SESSION_MS, initial_rebalance_delay_ms=0
    )
    owner = member()
    suspended = MemberProcess(configs, name, source)
    try:
        turn_until([owner], lambda: len(suspended.told["runs"]) == 3, "a share for both")

        suspended.process.send_signal(signal.SIGSTOP)
        turn_until_shared([owner], 3)

        suspended.process.send_signal(signal.SIGCONT)
        turn_until(
            [owner],
            lambda: (
                suspended.told["losses"]
                and len(suspended.told["runs"]) == 3
                and len(owner.active) == 3
            ),
            "the return",
        )
        shared = {*suspended.told["runs"], *map(str, owner.active)}
        assert shared == {str(task) for task in all_tasks(3)}
    finally:
        suspended.end()


def test_a_loop_that_hangs_loses_its_tasks_and_gets_them_back(
    member: Callable[..., Owner],
) -> None:
    hanging, other = member(rebalance_timeout_ms=1_500), member()
    turn_until_shared([hanging, other], 3)

    turn_until_shared([other], 3)

    turn_until_shared([hanging, other], 3)
    assert hanging.told(Lost)
    for lost in hanging.told(Lost):
        assert "the processing loop has not polled for" in lost.reason


@pytest.mark.parametrize("endpoint", [None, Endpoint("localhost", 7001)])
def test_source_topics_that_are_missing_are_the_end(
    kafka: str, name: str, endpoint: Endpoint | None
) -> None:
    configs = {"bootstrap.servers": kafka}
    with Owner(configs, name, f"{name}-nowhere", endpoint=endpoint) as owner:
        turn_until([owner], lambda: owner.failure, "the end")

        assert isinstance(owner.failure, MissingTopicsError)
        assert f"{name}-nowhere" in str(owner.failure)
        assert owner.client.identity().is_member
        assert not owner.client.is_ready


def test_source_topics_may_come_late(
    kafka: str, name: str, create_topic: Callable[..., str]
) -> None:
    configs, topic, here = {"bootstrap.servers": kafka}, f"{name}-late", Endpoint("here", 7001)
    with Owner(configs, name, topic, endpoint=here, missing_topics_timeout_ms=60_000) as owner:
        turn_until([owner], lambda: owner.told(StatusChanged), "the status")
        assert not owner.client.is_ready

        create_topic(topic, 2)

        turn_until_shared([owner], 2)
        turn_until([owner], owner.client.endpoints, "the end point")
        assert owner.client.endpoints()[here].active[topic] == {0, 1}
        assert owner.client.is_ready
        assert owner.failure is None


def test_internal_topics_that_do_not_fit_are_the_end(
    name: str, source: str, create_topic: Callable[..., str], kafka: str
) -> None:
    create_topic(f"{name}-counts-repartition", 5)

    with Owner({"bootstrap.servers": kafka}, name, source) as owner:
        turn_until([owner], lambda: owner.failure, "the end")

        assert isinstance(owner.failure, TopologyRefusedError)
        assert "partition counts do not fit" in str(owner.failure)


def test_another_topology_is_refused(
    kafka: str, name: str, source: str, member: Callable[..., Owner]
) -> None:
    member()
    other = word_count(name, source, created_at="LogAppendTime")
    owner = Owner({"bootstrap.servers": kafka}, name, source, parts=other)

    with pytest.raises(TopologyRefusedError, match="a group keeps the topology it began with"):
        owner.client.start()


def test_a_topology_that_is_not_legal_is_refused(
    kafka: str, name: str, member: Callable[..., Owner], source: str
) -> None:
    turn_until_shared([member()], 3)  # the coordinator knows the topic, so it looks further
    first, second = word_count(f"{name}-2", source)
    never_written = (replace(first, repartition_sink_topics=()), second)
    owner = Owner({"bootstrap.servers": kafka}, f"{name}-2", source, parts=never_written)

    with pytest.raises(TopologyRefusedError, match="STREAMS_INVALID_TOPOLOGY"):
        owner.client.start()


def test_a_group_of_another_type_is_refused(kafka: str, name: str, source: str) -> None:
    from confluent_kafka import Consumer

    settings = {"bootstrap.servers": kafka, "group.id": name, "group.protocol": "consumer"}
    consumer = Consumer(settings)
    try:
        consumer.subscribe([source])
        wait_until(
            lambda: consumer.poll(0.1) or consumer.assignment(), HANG_S, "another's assignment"
        )
        owner = Owner({"bootstrap.servers": kafka}, name, source)

        with pytest.raises(RefusedError, match="use an application id that no other kind"):
            owner.client.start()
    finally:
        consumer.close()


# -- offsets -------------------------------------------------------------------------------


@pytest.fixture
def owner(member: Callable[..., Owner]) -> Owner:
    """A member that runs everything."""
    owner = member()
    turn_until_shared([owner], 3)
    return owner


def test_offsets_come_back_with_their_metadata(owner: Owner, source: str) -> None:
    owner.client.commit_offsets({(source, 0): (5, "AQAAAZ4="), (source, 2): (0, "")})
    owner.client.commit_offsets({(source, 0): (6, "")})
    owner.client.commit_offsets({})

    assert owner.client.fetch_offsets([(source, index) for index in range(3)]) == {
        (source, 0): CommittedOffset(6, ""),
        (source, 2): CommittedOffset(0, ""),
    }
    assert owner.client.fetch_offsets([]) == {}


def test_offsets_are_the_groups_not_the_members(
    owner: Owner, source: str, member: Callable[..., Owner]
) -> None:
    owner.client.commit_offsets({(source, 1): (7, "m")})
    owner.client.leave()
    other = member()

    assert other.client.fetch_offsets([(source, 1)]) == {(source, 1): CommittedOffset(7, "m")}


def test_a_commit_may_lag_behind_the_epoch_while_the_task_stays(
    owner: Owner, source: str, member: Callable[..., Owner]
) -> None:
    """The heartbeat that raises the epoch may be on its way: the broker bears with that."""
    for _ in range(3):
        other = member()
        turn_until_shared([owner, other], 3)
        kept = next(iter(task.partition for task in owner.active if task.subtopology_id == "0"))
        owner.client.commit_offsets({(source, kept): (owner.client.identity().epoch, "")})
        other.client.leave()
        turn_until_shared([owner], 3)
        owner.client.commit_offsets({(source, kept): (owner.client.identity().epoch, "")})


def commit_as(kafka: str, group: str, identity: GroupIdentity, topic: str, partition: int) -> int:
    """Commits from outside of any member and returns the code."""
    at = (topic, partition)
    body = encode_offset_commit(group, identity, {at: (1, "")})
    answered = exchange({"bootstrap.servers": kafka}, group, OFFSET_COMMIT, body)
    return decode_offset_commit(answered)[at]


def test_which_epochs_a_broker_accepts(
    kafka: str, name: str, owner: Owner, source: str, member: Callable[..., Owner]
) -> None:
    """What the member's own handling of codes rests on."""
    old = owner.client.identity()
    other = member()
    turn_until_shared([owner, other], 3)
    turn_until([owner], lambda: owner.client.identity().epoch > old.epoch, "a newer epoch")
    new = owner.client.identity()
    kept = {task.partition for task in owner.active if task.subtopology_id == "0"}
    given_up = {0, 1, 2} - kept

    assert all(commit_as(kafka, name, new, source, one) == Code.NONE for one in kept)
    assert all(commit_as(kafka, name, old, source, one) == Code.NONE for one in kept)
    for one in given_up:
        assert commit_as(kafka, name, old, source, one) == Code.STALE_MEMBER_EPOCH
    newer = GroupIdentity(new.member_id, new.epoch + 1)
    assert commit_as(kafka, name, newer, source, 0) == Code.STALE_MEMBER_EPOCH
    stranger = GroupIdentity("nobody", new.epoch)
    assert commit_as(kafka, name, stranger, source, 0) == Code.UNKNOWN_MEMBER_ID


def test_who_was_thrown_out_commits_nothing(
    kafka: str, name: str, owner: Owner, source: str
) -> None:
    owner.client.commit_offsets({(source, 0): (5, "")})
    leave_in_the_name_of({"bootstrap.servers": kafka}, name, owner.client.identity().member_id)

    with pytest.raises(MembershipLostError, match="commit offsets"):
        owner.client.commit_offsets({(source, 0): (9, "")})

    turn_until([owner], lambda: owner.told(Lost), "the loss", 2)
    turn_until_shared([owner], 3)
    assert owner.client.fetch_offsets([(source, 0)]) == {(source, 0): CommittedOffset(5)}


def test_who_is_no_member_commits_and_reads_nothing(owner: Owner, source: str) -> None:
    owner.client.leave()

    with pytest.raises(MembershipLostError):
        owner.client.commit_offsets({(source, 0): (9, "")})
    with pytest.raises(MembershipLostError):
        owner.client.fetch_offsets([(source, 0)])


def test_metadata_that_is_too_long_is_refused(owner: Owner, source: str) -> None:
    with pytest.raises(RefusedError, match="OFFSET_METADATA_TOO_LARGE") as caught:
        owner.client.commit_offsets({(source, 1): (9, "x" * 10_000)})

    assert (caught.value.topic, caught.value.partition) == (source, 1)
    assert caught.value.fatal


def test_offsets_in_a_transaction_are_waited_for(
    kafka: str, name: str, owner: Owner, source: str
) -> None:
    owner.client.commit_offsets({(source, 0): (1, "")})
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": f"{name}-1"})
    producer.init_transactions(HANG_S)
    producer.begin_transaction()
    identity = owner.client.identity()
    metadata = (
        b"CGMDv2:"
        + identity.epoch.to_bytes(4, sys.byteorder)
        + name.encode()
        + b"\0"
        + identity.member_id.encode()
        + b"\0\1"
    )
    producer.send_offsets_to_transaction([RdkafkaPartition(source, 0, 2)], metadata, HANG_S)

    with pytest.raises(RefusedError, match="UNSTABLE_OFFSET_COMMIT") as caught:
        owner.client.fetch_offsets([(source, 0)], timeout_ms=500)
    assert caught.value.retriable
    producer.commit_transaction(HANG_S)

    assert owner.client.fetch_offsets([(source, 0)]) == {(source, 0): CommittedOffset(2)}


# -- security ------------------------------------------------------------------------------


@pytest.mark.parametrize("listener", ["sasl_configs", "tls_configs"])
def test_members_reach_the_broker_with_security(
    broker: Broker, create_topic: Callable[..., str], name: str, listener: str
) -> None:
    source = create_topic(f"{name}-lines", 3)
    with (
        Owner(getattr(broker, listener), name, source) as owner,
        Owner(broker.configs, name, source) as other,
    ):
        turn_until_shared([owner, other], 3)
        kept = next(iter(owner.active)).partition
        owner.client.commit_offsets({(source, kept): (3, "")})

        assert owner.client.fetch_offsets([(source, kept)]) == {(source, kept): CommittedOffset(3)}


@pytest.mark.parametrize(
    ("listener", "changes", "kind", "words"),
    [
        ("sasl_configs", {"sasl.password": "wrong"}, AuthenticationError, "sasl.password"),
        ("sasl_configs", {"sasl.mechanism": "PLAIN"}, AuthenticationError, "sasl.mechanism"),
        ("sasl_configs", {"security.protocol": "PLAINTEXT"}, UnreachableError, "fits the port"),
        ("configs", {"security.protocol": "SSL"}, RebalanceError, "security.protocol"),
        ("tls_configs", {"ssl.ca.location": None}, AuthenticationError, "ssl.ca.location"),
        (
            "tls_configs",
            {"ssl.certificate.location": None, "ssl.key.location": None},
            AuthenticationError,
            "ssl.certificate.location",
        ),
        ("tls_configs", {"security.protocol": "PLAINTEXT"}, UnreachableError, "PLAINTEXT"),
    ],
)
def test_who_is_not_let_in_is_told_why(
    broker: Broker,
    name: str,
    listener: str,
    changes: Mapping[str, str | None],
    kind: type[RebalanceError],
    words: str,
) -> None:
    configs = {
        **getattr(broker, listener),
        "socket.connection.setup.timeout.ms": 1_500,
        **changes,
    }
    owner = Owner(configs, name, "lines")

    with pytest.raises(kind, match=words):
        owner.client.start(timeout_ms=2_000)


def test_the_name_in_a_certificate_counts_unless_told_otherwise(
    broker: Broker, create_topic: Callable[..., str], name: str
) -> None:
    """The certificate has 127.0.0.1 and localhost, and no name beside."""
    configs = broker.tls_configs
    servers = configs["bootstrap.servers"].replace("127.0.0.1", "127.0.0.2")
    owner = Owner({**configs, "bootstrap.servers": servers}, name, "lines")
    # Nobody listens at 127.0.0.2; what matters here is which setting turns the check off.
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.2"):
        owner.client.start(timeout_ms=500)
    source = create_topic(f"{name}-lines", 3)
    unchecked = {**configs, "ssl.endpoint.identification.algorithm": "none"}
    with Owner(unchecked, name, source) as owner:
        turn_until_shared([owner], 3)


# -- brokers that are no help --------------------------------------------------------------


def test_a_broker_that_cannot_be_reached_is_named_with_the_reason(name: str) -> None:
    owner = Owner({"bootstrap.servers": "127.0.0.1:9,localhost:9"}, name, "lines")

    with pytest.raises(UnreachableError) as caught:
        owner.client.start(timeout_ms=1_000)

    assert "the broker at 127.0.0.1:9 cannot be reached" in caught.value.message
    assert "the broker at localhost:9 cannot be reached" in caught.value.message
    assert not client_runs(owner.client)


def test_a_host_that_has_no_address_is_named(name: str) -> None:
    owner = Owner({"bootstrap.servers": "nowhere.invalid:9092"}, name, "lines")

    with pytest.raises(UnreachableError, match=r"the broker at nowhere\.invalid:9092 cannot be"):
        owner.client.start(timeout_ms=3_000)


def client_runs(client: GroupClient) -> bool:
    name = f"{client.settings.group_id}-heartbeat"
    return any(thread.name == name for thread in threading.enumerate())


def test_a_broker_without_streams_groups_is_told_by_the_version_it_must_have(name: str) -> None:
    with open_broker({"group.coordinator.rebalance.protocols": "classic,consumer"}) as old:
        owner = Owner(old.configs, name, "lines")

        with pytest.raises(UnsupportedBrokerError, match=r"must be Kafka 4\.2\.1 or newer"):
            owner.client.start()


# -- describing ----------------------------------------------------------------------------


def test_a_group_is_described_to_outsiders(
    kafka: str, name: str, member: Callable[..., Owner]
) -> None:
    settings = ConnectionSettings.from_configs({"bootstrap.servers": kafka})
    owners = [member(endpoint=Endpoint("localhost", 7001)), member()]
    turn_until_shared(owners, 3)
    turn_until(owners, lambda: describe_group(settings, name).state == "Stable", "stability")

    group = describe_group(settings, name)

    for owner in owners:
        identity: GroupIdentity = owner.client.identity()
        known = group.member(identity.member_id)
        assert known is not None
        assert known.tasks == owner.runs
        assert known.epoch == identity.epoch
        assert known.client_id == "thalweg"
    assert {known.endpoint for known in group.members} == {Endpoint("localhost", 7001), None}


def test_a_group_that_does_not_exist_is_an_error(kafka: str, name: str) -> None:
    settings = ConnectionSettings.from_configs({"bootstrap.servers": kafka})

    with pytest.raises(RefusedError, match="GROUP_ID_NOT_FOUND"):
        describe_group(settings, name)
