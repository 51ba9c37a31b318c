"""Messages about groups and offsets in bytes; bodies of requests are golden.

Heartbeats are in `test_heartbeat`, the header before each body in `test_connection`. Of the
reference's frames TxnOffsetCommit is left out: librdkafka makes it, from the bytes of
`streams.transport.kafka.group_metadata.consumer_group_metadata`.
"""

from __future__ import annotations

import struct

import pytest

from thalweg.rebalance.errors import Code, RebalanceError
from thalweg.rebalance.messages import (
    CommittedOffset,
    Coordinator,
    FetchedOffsets,
    decode_describe,
    decode_find_coordinator,
    decode_offset_commit,
    decode_offset_fetch,
    encode_describe,
    encode_find_coordinator,
    encode_offset_commit,
    encode_offset_fetch,
)
from thalweg.rebalance.values import Endpoint, GroupIdentity, TaskAssignment

MEMBER = GroupIdentity("m", 3)


def text(value: str) -> bytes:
    return bytes([len(value) + 1]) + value.encode()


def int32(value: int) -> bytes:
    return struct.pack(">i", value)


# Requests.


def test_a_description_is_asked_for() -> None:
    assert encode_describe("wordcount").hex() == "020a776f7264636f756e740000"


def test_offsets_are_committed_as_the_member() -> None:
    body = encode_offset_commit("wordcount", MEMBER, {("t", 0): (42, "")})

    assert body.hex() == (
        "0a776f7264636f756e7400000003026d000202740200000000000000000000002affffffff01000000"
    )


def test_partitions_of_one_topic_are_sent_together() -> None:
    offsets = {("t", 2): (1, "x"), ("s", 0): (2, ""), ("t", 1): (3, "")}

    body = encode_offset_commit("g", MEMBER, offsets)

    assert body.count(b"\x02t") == 1
    assert body.index(b"\x02s") < body.index(b"\x02t")


def test_offsets_are_fetched_as_the_member() -> None:
    body = encode_offset_fetch("wordcount", MEMBER, [("t", 0)])

    assert body.hex() == "020a776f7264636f756e74026d00000003020274020000000000000100"


def test_offsets_can_be_fetched_by_others() -> None:
    body = encode_offset_fetch("wordcount", None, [("t", 0)], require_stable=False)

    assert body.hex() == "020a776f7264636f756e7400ffffffff020274020000000000000000"


def test_a_coordinator_is_asked_for() -> None:
    assert encode_find_coordinator("g").hex() == "0002026700"


# Answers.


def test_a_coordinator_is_read() -> None:
    body = (
        int32(0) + b"\x02" + text("g") + int32(1) + text("host") + int32(9092)
        + b"\x00\x00" + b"\x00" + b"\x00\x00"
    )  # fmt: skip

    assert decode_find_coordinator(body) == Coordinator(0, "", "host", 9092)


def test_a_coordinator_that_is_not_there_is_read() -> None:
    body = (
        int32(0) + b"\x02" + text("g") + int32(-1) + text("") + int32(-1)
        + struct.pack(">h", 15) + text("later") + b"\x00\x00"
    )  # fmt: skip

    assert decode_find_coordinator(body).code == Code.COORDINATOR_NOT_AVAILABLE
    assert decode_find_coordinator(body).message == "later"


def test_no_coordinator_at_all_counts_as_not_available() -> None:
    body = int32(0) + b"\x01" + b"\x00"

    assert decode_find_coordinator(body).code == Code.COORDINATOR_NOT_AVAILABLE


def test_what_became_of_a_commit_is_read() -> None:
    body = (
        int32(0) + b"\x02" + text("t") + b"\x03"
        + int32(0) + b"\x00\x00" + b"\x00"
        + int32(1) + struct.pack(">h", 113) + b"\x00"
        + b"\x00\x00"
    )  # fmt: skip

    assert decode_offset_commit(body) == {("t", 0): 0, ("t", 1): Code.STALE_MEMBER_EPOCH}


def test_fetched_offsets_are_read_and_those_never_committed_left_out() -> None:
    def partition(index: int, offset: int, metadata: bytes, code: int) -> bytes:
        return (
            int32(index) + struct.pack(">q", offset) + int32(-1) + metadata
            + struct.pack(">h", code) + b"\x00"
        )  # fmt: skip

    body = (
        int32(0) + b"\x02" + text("g") + b"\x02" + text("t") + b"\x05"
        + partition(0, 42, text("AQ=="), 0)
        + partition(1, -1, text(""), 0)
        + partition(2, -1, b"\x00", 88)
        + partition(3, 0, b"\x00", 0)
        + b"\x00" + b"\x00\x00" + b"\x00" + b"\x00"
    )  # fmt: skip

    assert decode_offset_fetch(body) == FetchedOffsets(
        0,
        {("t", 0): CommittedOffset(42, "AQ=="), ("t", 3): CommittedOffset(0, "")},
        {("t", 2): Code.UNSTABLE_OFFSET_COMMIT},
    )


def test_a_group_that_is_not_there_has_no_offsets() -> None:
    assert decode_offset_fetch(int32(0) + b"\x01" + b"\x00").code == Code.GROUP_ID_NOT_FOUND


def described_member() -> bytes:
    tasks = b"\x02" + text("0") + b"\x03" + int32(0) + int32(1) + b"\x00"
    standby = b"\x02" + text("1") + b"\x02" + int32(1) + b"\x00"
    return (
        text("m") + int32(3) + b"\x00\x00" + text("thalweg") + text("/127.0.0.1") + int32(0)
        + text("p") + b"\x01" + text("h") + b"\x1b\x9e\x00" + b"\x01\x01\x01"
        + tasks + standby + b"\x01\x00"
        + tasks + b"\x01\x01\x00"
        + b"\x00" + b"\x00"
    )  # fmt: skip


def test_a_description_is_read() -> None:
    topic = text("r") + int32(3) + b"\x00\x01" + b"\x01" + b"\x00"
    topology = (
        b"\x01" + int32(0) + b"\x02"
        + text("0") + b"\x01" + b"\x01" + b"\x01" + b"\x02" + topic + b"\x00"
        + b"\x00"
    )  # fmt: skip
    body = (
        int32(0) + b"\x02" + b"\x00\x00" + b"\x00" + text("g") + text("Stable") + int32(4) + int32(4)
        + topology + b"\x02" + described_member() + int32(-(2**31)) + b"\x00" + b"\x00"
    )  # fmt: skip

    group = decode_describe(body)

    assert (group.code, group.group_id, group.state, group.epoch) == (0, "g", "Stable", 4)
    assert group.internal_topics == {"r": 3}
    member = group.member("m")
    assert member is not None
    assert (member.epoch, member.process_id, member.endpoint) == (3, "p", Endpoint("h", 7070))
    assert member.tasks == TaskAssignment.of([("0", 0), ("0", 1)], [("1", 1)])
    assert member.target == TaskAssignment.of([("0", 0), ("0", 1)])
    assert group.member("x") is None


def test_a_group_without_a_topology_is_read() -> None:
    body = (
        int32(0) + b"\x02" + struct.pack(">h", 69) + text("gone") + text("g") + text("Dead")
        + int32(0) + int32(0) + b"\xff" + b"\x01" + int32(0) + b"\x00" + b"\x00"
    )  # fmt: skip

    group = decode_describe(body)

    assert (group.code, group.message) == (Code.GROUP_ID_NOT_FOUND, "gone")
    assert group.internal_topics == {}


@pytest.mark.parametrize(
    ("decode", "name"),
    [
        (decode_describe, "StreamsGroupDescribe version 0"),
        (decode_find_coordinator, "FindCoordinator version 4"),
        (decode_offset_commit, "OffsetCommit version 9"),
        (decode_offset_fetch, "OffsetFetch version 9"),
    ],
)
def test_a_cut_off_answer_is_an_error(decode: type, name: str) -> None:
    with pytest.raises(RebalanceError, match=f"{name} cannot be read"):
        decode(b"\x00\x00\x00\x00\x02")
