"""Heartbeats in bytes; expected bytes are golden: generated from Kafka's own schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from thalweg.rebalance.actions import Answer, Heartbeat
from thalweg.rebalance.errors import RebalanceError
from thalweg.rebalance.group_codes import Status
from thalweg.rebalance.heartbeat import Heartbeats, Refusal, read_answer
from thalweg.rebalance.values import (
    Endpoint,
    EndpointPartitions,
    MemberSettings,
    TaskAssignment,
)

REPARTITION = "wordcount-KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition"
CHANGELOG = "wordcount-KSTREAM-AGGREGATE-STATE-STORE-0000000003-changelog"

JOIN = bytes.fromhex(
    "0a776f7264636f756e742531313131313131312d323232322d333333332d343434342d353535353535353535"
    "35353500000000ffffffff0000000493e00100000000030230021873747265616d732d706c61696e74657874"
    "2d696e7075740101023f776f7264636f756e742d4b53545245414d2d4147475245474154452d53544154452d"
    "53544f52452d303030303030303030332d7265706172746974696f6e01010002310101023d776f7264636f75"
    "6e742d4b53545245414d2d4147475245474154452d53544154452d53544f52452d303030303030303030332d"
    "6368616e67656c6f6700000000ffff030f636c65616e75702e706f6c69637908636f6d7061637400176d6573"
    "736167652e74696d657374616d702e747970650b43726561746554696d65000001023f776f7264636f756e74"
    "2d4b53545245414d2d4147475245474154452d53544154452d53544f52452d303030303030303030332d7265"
    "706172746974696f6e00000000ffff050f636c65616e75702e706f6c6963790764656c65746500176d657373"
    "6167652e74696d657374616d702e747970650b43726561746554696d65000d726574656e74696f6e2e6d7303"
    "2d31000e7365676d656e742e627974657309353234323838303000000100000101012561616161616161612d"
    "626262622d636363632d646464642d656565656565656565656565ff0100000000"
)
ACKNOWLEDGEMENT = (
    "0a776f7264636f756e74026d00000003000000000000ffffffffff030230030000000000000001000231020000"
    "000000010100ff0000000000"
)
IDLE = "0a776f7264636f756e74026d00000003000000000000ffffffffff00000000ff0000000000"
RESPONSE = bytes.fromhex(
    "00000000000000026d000000030000138800000000000000000205026400020230020000000000010100000001"
    "0202681b9e00020274020000000000010000"
)


@dataclass(frozen=True)
class Topic:
    name: str
    configs: Mapping[str, str]
    partitions: int = 0
    replication_factor: int = -1


@dataclass(frozen=True)
class Part:
    id: int
    source_topics: tuple[str, ...] = ()
    repartition_source_topics: tuple[Topic, ...] = ()
    repartition_sink_topics: tuple[str, ...] = ()
    state_changelog_topics: tuple[Topic, ...] = ()
    source_topic_regex: tuple[str, ...] = ()
    copartition_groups: tuple[Any, ...] = ()
    is_global: bool = field(default=False)


WORD_COUNT = (
    Part(0, source_topics=("streams-plaintext-input",), repartition_sink_topics=(REPARTITION,)),
    Part(
        1,
        repartition_source_topics=(
            Topic(
                REPARTITION,
                {
                    "segment.bytes": "52428800",
                    "retention.ms": "-1",
                    "message.timestamp.type": "CreateTime",
                    "cleanup.policy": "delete",
                },
            ),
        ),
        state_changelog_topics=(
            Topic(CHANGELOG, {"message.timestamp.type": "CreateTime", "cleanup.policy": "compact"}),
        ),
    ),
)


def settings(member_id: str = "m", **changes: Any) -> MemberSettings:
    return MemberSettings(
        group_id="wordcount",
        member_id=member_id,
        process_id="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        subtopology_ids=frozenset({"0", "1"}),
        **changes,
    )


def response(hexed: str) -> Answer:
    read = read_answer(bytes.fromhex(hexed))
    assert isinstance(read, Answer)
    return read


# Requests.


def test_a_join_is_encoded_as_the_jvm_does() -> None:
    heartbeats = Heartbeats(settings("11111111-2222-3333-4444-555555555555"), WORD_COUNT)

    body = heartbeats.encode(Heartbeat(1, 0, owned=TaskAssignment()))

    assert len(body) == 517
    assert body == JOIN


def test_an_acknowledgement_names_all_tasks() -> None:
    owned = TaskAssignment.of([("1", 0), ("0", 1), ("0", 0)])

    body = Heartbeats(settings(), WORD_COUNT).encode(Heartbeat(1, 3, 0, owned))

    assert body.hex() == ACKNOWLEDGEMENT


def test_an_idle_heartbeat_says_nothing_again() -> None:
    assert Heartbeats(settings(), WORD_COUNT).encode(Heartbeat(1, 3, 0)).hex() == IDLE


def test_a_good_bye_is_short_and_may_ask_all_to_stop() -> None:
    body = Heartbeats(settings(), WORD_COUNT).encode(Heartbeat(9, -1, 4, is_shutting_down=True))

    assert body.hex() == (
        "0a776f7264636f756e74026dffffffff000000040000ffffffffff00000000ff0000000100"
    )


def test_a_join_says_where_queries_are_answered() -> None:
    told = settings(endpoint=Endpoint("h", 7070), client_tags={"zone": "b", "cloud": "a"})

    join = Heartbeat(1, 0, 7, TaskAssignment(), tells_endpoint=True)
    body = Heartbeats(told, WORD_COUNT).body(join)

    assert body.endpoint == Endpoint("h", 7070)
    assert body.endpoint_epoch == 7
    encoded = Heartbeats(told, WORD_COUNT).encode(join)
    assert bytes.fromhex("0102681b9e000306636c6f7564026100057a6f6e65026200") in encoded


def test_a_join_may_leave_the_end_point_out() -> None:
    heartbeats = Heartbeats(settings(endpoint=Endpoint("h", 7070)), WORD_COUNT)

    assert heartbeats.body(Heartbeat(1, 0, -1, TaskAssignment())).endpoint is None


@pytest.mark.parametrize("epoch", [3, -1])
def test_what_a_join_said_is_not_said_again(epoch: int) -> None:
    body = Heartbeats(settings(endpoint=Endpoint("h", 1)), WORD_COUNT).body(Heartbeat(2, epoch))

    assert body.rebalance_timeout_ms == -1
    assert body.topology is None
    assert body.process_id is None
    assert body.endpoint is None
    assert body.client_tags is None


# Answers.


def test_an_answer_is_read() -> None:
    assert read_answer(RESPONSE) == Answer(
        epoch=3,
        interval_ms=5000,
        endpoint_epoch=1,
        statuses=(Status(5, "d"),),
        tasks=TaskAssignment.of([("0", 0)]),
        endpoints={Endpoint("h", 7070): EndpointPartitions({"t": frozenset({0})}, {})},
    )


def test_nothing_said_of_tasks_and_end_points_is_no_change() -> None:
    read = response("00000000000000026d0000000300001388000000000000000001000000000000020000")

    assert read.tasks is None
    assert read.endpoints is None
    assert read.statuses == ()
    assert read.endpoint_epoch == 2


def test_empty_tasks_are_a_change() -> None:
    read = response("00000000000000026d0000000300001388000000000000000001010101000000020000")

    assert read.tasks == TaskAssignment()


def test_no_statuses_and_null_statuses_are_the_same() -> None:
    read = response("00000000000000026d0000000300001388000000000000000000000000000000020000")

    assert read.statuses == ()


def test_entries_of_one_end_point_are_joined() -> None:
    read = response(
        "0000000000000002"
        "6d0000000300001388000000000000000001"
        "000000"
        "00000002"
        "03"
        "02681b9e00"
        "02"
        "0274"
        "0200000000"
        "00"
        "01"
        "00"
        "02681b9e00"
        "02"
        "0274"
        "0200000001"
        "00"
        "02"
        "0275"
        "0200000005"
        "00"
        "00"
        "00"
    )

    assert read.endpoints == {
        Endpoint("h", 7070): EndpointPartitions({"t": frozenset({0, 1})}, {"u": frozenset({5})})
    }


def test_tasks_of_some_roles_only_break_the_protocol() -> None:
    with pytest.raises(RebalanceError, match="some roles and not of the others"):
        response("00000000000000026d0000000300001388000000000000000001010001000000020000")


def test_an_error_is_a_refusal() -> None:
    body = bytes.fromhex(
        "00000000006e04626164010000000000000000000000000000000001000000ffffffff0000"
    )

    assert read_answer(body) == Refusal(110, "bad")


def test_an_error_code_of_a_newer_broker_is_kept() -> None:
    body = bytes.fromhex(
        "000000000fff04626164010000000000000000000000000000000001000000ffffffff0000"
    )

    assert read_answer(body) == Refusal(0x0FFF, "bad")


@pytest.mark.parametrize("length", [0, 5, 20, len(RESPONSE) - 1])
def test_a_cut_off_answer_is_an_error(length: int) -> None:
    with pytest.raises(RebalanceError, match="StreamsGroupHeartbeat version 0 cannot be read"):
        read_answer(RESPONSE[:length])
