"""A group's coordinator moves to another broker, which takes its time to load the group.

The codes of a coordinator that moved or loads are 15, 16 and 14. On one broker alone they can be
met, but not for sure: it answers to the members only once it has loaded such small groups. What
a member does about each code, step by step, is in `tests/unit/rebalance/test_membership.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import timedelta
from io import BytesIO

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kio.schema.alter_partition_reassignments.v0 import request as reassign
from kio.schema.types import BrokerId, TopicName
from kio.serial import entity_writer
from kio.static.primitive import i32, i32Timedelta

from tests.broker.broker import Broker, open_pair
from tests.broker.groups import configure_group, exchange
from tests.broker.members import (
    Owner,
    accepted_of,
    turn_until,
    turn_until_heard_again,
    turn_until_shared,
)
from tests.waiting import HANG_S
from thalweg.rebalance.errors import Code
from thalweg.rebalance.events import Lost
from thalweg.rebalance.messages import Api, CommittedOffset

pytestmark = pytest.mark.broker

OFFSETS = "__consumer_offsets"
REASSIGN = Api("AlterPartitionReassignments", 45, 0)


@pytest.fixture
def pair() -> Iterator[tuple[Broker, Broker]]:
    """Two brokers of one cluster, with one partition for all groups, and quick heartbeats."""
    overrides = {
        "offsets.topic.num.partitions": "1",
        "group.streams.heartbeat.interval.ms": "100",  # so that no member misses the loading
    }
    with open_pair(overrides) as brokers:
        yield brokers


def home(admin: AdminClient) -> int:
    """Returns the broker that coordinates all groups."""
    leader: int = admin.list_topics(OFFSETS, timeout=HANG_S).topics[OFFSETS].partitions[0].leader
    return leader


def make_loading_slow(configs: Mapping[str, str], records: int = 500_000) -> None:
    """Gives the coordinator much to read: tombstones of offsets that never were.

    Brokers take records of their own topics from clients of this name only.
    """
    producer = Producer(
        {
            **configs,
            "client.id": "__admin_client",
            "queue.buffering.max.messages": records,
            "linger.ms": 20,
        }
    )
    for partition in range(records):
        key = struct.pack(">hh6sh6si", 1, 6, b"nobody", 6, b"no one", partition)
        producer.produce(OFFSETS, None, key, 0)
    assert producer.flush(HANG_S) == 0


def move(configs: Mapping[str, str], group: str, broker: int) -> None:
    """Has all groups coordinated by one broker."""
    partition = reassign.ReassignablePartition(partition_index=i32(0), replicas=(BrokerId(broker),))
    request = reassign.AlterPartitionReassignmentsRequest(
        timeout=i32Timedelta.parse(timedelta(seconds=HANG_S)),
        topics=(reassign.ReassignableTopic(name=TopicName(OFFSETS), partitions=(partition,)),),
    )
    body = BytesIO()
    entity_writer(reassign.AlterPartitionReassignmentsRequest)(body, request)
    answered = exchange(configs, group, REASSIGN, body.getvalue())
    assert answered[4:6] == b"\0\0", answered


def test_members_follow_their_coordinator_and_wait_until_it_has_loaded(
    pair: tuple[Broker, Broker], name: str
) -> None:
    servers = ",".join(broker.bootstrap_servers for broker in pair)
    configs, source = {"bootstrap.servers": servers}, f"{name}-lines"
    admin = AdminClient(configs)
    admin.create_topics([NewTopic(source, 3, 1)])[source].result(HANG_S)
    # So that no member is missed on a busy machine, and none misses the loading.
    configure_group(configs, name, session_timeout_ms=60_000, heartbeat_interval_ms=100)
    with Owner(configs, name, source) as first, Owner(configs, name, source) as second:
        owners = [first, second]
        turn_until_shared(owners, 3)
        first.client.commit_offsets({(source, 0): (1, "")})
        make_loading_slow(configs)
        (target,) = {broker.node for broker in pair} - {home(admin)}
        for owner in owners:
            owner.connection.codes.clear()

        move(configs, name, target)
        turn_until(owners, lambda: first.connection.codes and second.connection.codes, "the move")
        accepted = accepted_of(owners)

        turn_until_heard_again(owners, accepted)
        turn_until_shared(owners, 3)
        first.client.commit_offsets({(source, 0): (2, "")}, HANG_S * 1_000)
        assert home(admin) == target
        assert first.client.fetch_offsets([(source, 0)]) == {(source, 0): CommittedOffset(2)}
        for owner in owners:
            assert Code.NOT_COORDINATOR in owner.connection.codes
            assert Code.COORDINATOR_LOAD_IN_PROGRESS in owner.connection.codes
            assert not owner.told(Lost)
