"""Offsets: what an answer means, and how often it is asked again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import pytest
from kio.schema.offset_commit.v9 import response as commit_schema
from kio.schema.offset_fetch.v9 import response as fetch_schema

from tests.unit.rebalance.answers import encoded
from thalweg.rebalance.backoff import Backoff
from thalweg.rebalance.connection import Connection
from thalweg.rebalance.errors import (
    AuthenticationError,
    Code,
    MembershipLostError,
    RebalanceError,
    RefusedError,
    UnreachableError,
)
from thalweg.rebalance.messages import (
    OFFSET_COMMIT,
    OFFSET_FETCH,
    Api,
    CommittedOffset,
)
from thalweg.rebalance.offsets import (
    Offsets,
    Verdict,
    commit_verdict,
    fetch_verdict,
    verdict,
    worst,
)
from thalweg.rebalance.values import GroupIdentity

MEMBER = GroupIdentity("m", 3)
NOBODY = GroupIdentity("m", 0)
AT, OTHER = ("t", 0), ("t", 1)


# Decisions.


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (0, Verdict.DONE),
        (3, Verdict.RETRY),
        (7, Verdict.RETRY),
        (14, Verdict.RETRY),
        (27, Verdict.RETRY),
        (88, Verdict.RETRY),
        (15, Verdict.REDISCOVER),
        (16, Verdict.REDISCOVER),
        (22, Verdict.LOST),
        (25, Verdict.LOST),
        (69, Verdict.LOST),
        (110, Verdict.LOST),
        (12, Verdict.REFUSED),
        (28, Verdict.REFUSED),
        (29, Verdict.REFUSED),
        (30, Verdict.REFUSED),
        (-1, Verdict.REFUSED),
        (4711, Verdict.REFUSED),
    ],
)
def test_a_code_decides(code: int, found: Verdict) -> None:
    assert verdict(code, MEMBER) is found


def test_a_stale_epoch_is_tried_again_by_a_member_only() -> None:
    assert verdict(Code.STALE_MEMBER_EPOCH, MEMBER) is Verdict.RETRY
    assert verdict(Code.STALE_MEMBER_EPOCH, NOBODY) is Verdict.LOST


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ((), (Verdict.DONE, 0)),
        ((0, 0), (Verdict.DONE, 0)),
        ((0, 14), (Verdict.RETRY, 14)),
        ((14, 16), (Verdict.REDISCOVER, 16)),
        ((16, 12), (Verdict.REFUSED, 12)),
        ((12, 25, 0), (Verdict.LOST, 25)),
    ],
)
def test_the_worst_code_decides_about_all(
    codes: tuple[int, ...], found: tuple[Verdict, int]
) -> None:
    assert worst(codes, MEMBER) == found


def test_a_partition_without_an_answer_is_not_committed() -> None:
    assert commit_verdict({AT: 0}, [AT], MEMBER)[0] is Verdict.DONE
    assert commit_verdict({AT: 0}, [AT, OTHER], MEMBER)[0] is Verdict.RETRY
    assert commit_verdict({}, [AT], MEMBER)[0] is Verdict.RETRY


def test_a_partition_that_does_not_exist_has_no_offset_to_fetch() -> None:
    assert fetch_verdict(0, {AT: 3}, MEMBER)[0] is Verdict.DONE
    assert fetch_verdict(0, {AT: 88}, MEMBER) == (Verdict.RETRY, 88)
    assert fetch_verdict(113, {}, NOBODY) == (Verdict.LOST, 113)
    assert fetch_verdict(69, {}, MEMBER)[0] is Verdict.LOST


# Attempts.


class Script(Connection):
    """A connection that answers from a list, and counts."""

    def __init__(self, *answers: bytes | RebalanceError) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[Api, bytes]] = []
        self.lookups = 0
        self.lookup: RebalanceError | None = None
        self.on_request: Callable[[], None] = lambda: None

    async def find_coordinator(self, group_id: str) -> None:
        self.lookups += 1
        if self.lookup is not None:
            raise self.lookup

    async def request(self, api: Api, body: bytes, timeout_ms: float) -> bytes:
        assert timeout_ms > 0
        self.sent.append((api, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.on_request()
        if isinstance(answer, RebalanceError):
            raise answer
        return answer

    async def close(self) -> None:
        """Has nothing to close."""


class Group:
    """A member with offsets, and a clock that a wait moves."""

    def __init__(self, connection: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        self.identity = MEMBER
        self.now_ms = 0.0
        self.offsets = Offsets(
            "g",
            connection,
            lambda: self.identity,
            monotonic_ms=lambda: self.now_ms,
            randomness=random.Random(1),
            backoff=Backoff(10, 40),
        )
        self.waits: list[float] = []

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds * 1000)
            self.now_ms += seconds * 1000

        monkeypatch.setattr(asyncio, "sleep", sleep)


def committed(*codes: tuple[int, int]) -> bytes:
    """An answer to a commit: (partition of t, code)."""
    return encoded(
        commit_schema.OffsetCommitResponse,
        topics=[
            {
                "name": "t",
                "partitions": [
                    {"partition_index": partition, "error_code": code} for partition, code in codes
                ],
            }
        ],
    )


def fetched(code: int, *partitions: tuple[int, int, int]) -> bytes:
    """An answer to a fetch: (partition of t, offset, code)."""
    return encoded(
        fetch_schema.OffsetFetchResponse,
        groups=[
            {
                "group_id": "g",
                "error_code": code,
                "topics": [
                    {
                        "name": "t",
                        "partitions": [
                            {
                                "partition_index": partition,
                                "committed_offset": offset,
                                "metadata": "",
                                "error_code": error,
                            }
                            for partition, offset, error in partitions
                        ],
                    }
                ],
            }
        ],
    )


OK = committed((0, 0))


async def test_a_commit_that_is_accepted_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(OK)
    group = Group(connection, monkeypatch)

    await group.offsets.commit({AT: (5, "")}, 1_000)

    assert [api for api, _ in connection.sent] == [OFFSET_COMMIT]
    assert group.waits == []


async def test_nothing_to_commit_or_fetch_needs_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Script(OK)
    group = Group(connection, monkeypatch)
    await group.offsets.commit({}, 1_000)

    assert await group.offsets.fetch([], 1_000) == {}
    assert connection.sent == []


async def test_a_loading_coordinator_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(committed((0, 14)), committed((0, 14)), OK)
    group = Group(connection, monkeypatch)

    await group.offsets.commit({AT: (5, "")}, 1_000)

    assert len(connection.sent) == 3
    assert connection.lookups == 0
    assert 8 <= group.waits[0] <= 12
    assert 16 <= group.waits[1] <= 24


@pytest.mark.parametrize("answer", [committed((0, 16)), UnreachableError("broken")])
async def test_a_coordinator_that_is_not_there_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | RebalanceError
) -> None:
    connection = Script(answer, OK)
    connection.lookup = UnreachableError("not yet")
    group = Group(connection, monkeypatch)

    await group.offsets.commit({AT: (5, "")}, 1_000)

    assert connection.lookups == 1


async def test_a_stale_epoch_is_sent_again_with_the_newer_one_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Script(committed((0, 113)), OK)
    group = Group(connection, monkeypatch)

    def raise_epoch() -> None:
        group.identity = GroupIdentity("m", 4)

    connection.on_request = raise_epoch
    await group.offsets.commit({AT: (5, "")}, 1_000)

    assert group.waits == []
    # The epoch comes behind the group's name.
    assert [body[2:6].hex() for _, body in connection.sent] == ["00000003", "00000004"]


async def test_a_stale_epoch_waits_for_the_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(committed((0, 113)))
    group = Group(connection, monkeypatch)

    with pytest.raises(RefusedError, match=r"STALE_MEMBER_EPOCH \(113\)"):
        await group.offsets.commit({AT: (5, "")}, 100)

    assert len(connection.sent) > 2
    assert sum(group.waits) <= 100


@pytest.mark.parametrize("code", [22, 25, 69, 110])
async def test_who_is_no_member_any_more_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    group = Group(Script(committed((0, code))), monkeypatch)

    with pytest.raises(MembershipLostError, match="does not let this member commit offsets"):
        await group.offsets.commit({AT: (5, "")}, 1_000)


async def test_who_is_no_member_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(OK)
    group = Group(connection, monkeypatch)
    group.identity = NOBODY

    with pytest.raises(MembershipLostError, match="not a member at the moment"):
        await group.offsets.commit({AT: (5, "")}, 1_000)
    with pytest.raises(MembershipLostError, match="read committed offsets"):
        await group.offsets.fetch([AT], 1_000)
    assert connection.sent == []


async def test_who_is_thrown_out_while_waiting_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(committed((0, 14)))
    group = Group(connection, monkeypatch)

    def throw_out() -> None:
        group.identity = NOBODY

    connection.on_request = throw_out
    with pytest.raises(MembershipLostError):
        await group.offsets.commit({AT: (5, "")}, 1_000)
    assert len(connection.sent) == 1


async def test_a_refusal_names_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(Script(committed((0, 0), (1, 12))), monkeypatch)

    with pytest.raises(RefusedError) as caught:
        await group.offsets.commit({AT: (5, ""), OTHER: (5, "x")}, 1_000)

    error = caught.value
    assert (error.code, error.topic, error.partition) == (12, "t", 1)
    assert "t-1: OFFSET_METADATA_TOO_LARGE (12) (the offset's metadata is longer" in error.message
    assert error.fatal


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(committed((0, 14)), RefusedError), (UnreachableError("broken"), UnreachableError)],
)
async def test_time_is_bounded(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | RebalanceError, kind: type[RebalanceError]
) -> None:
    connection = Script(answer)
    group = Group(connection, monkeypatch)

    with pytest.raises(kind) as caught:
        await group.offsets.commit({AT: (5, "")}, 300)

    assert caught.value.retriable
    assert sum(group.waits) < 300
    assert all(wait <= 40 for wait in group.waits)


async def test_a_lookup_that_can_never_succeed_is_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Script(UnreachableError("broken"))
    connection.lookup = AuthenticationError("no")
    group = Group(connection, monkeypatch)

    with pytest.raises(AuthenticationError):
        await group.offsets.commit({AT: (5, "")}, 1_000)


async def test_fetched_offsets_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(fetched(0, (0, 7, 0), (1, -1, 0)))
    group = Group(connection, monkeypatch)

    assert await group.offsets.fetch([AT, OTHER], 1_000) == {AT: CommittedOffset(7)}
    assert connection.sent[0][0] == OFFSET_FETCH


async def test_transactions_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Script(fetched(0, (0, -1, 88)), fetched(0, (0, 8, 0)))
    group = Group(connection, monkeypatch)

    assert await group.offsets.fetch([AT], 1_000) == {AT: CommittedOffset(8)}


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([fetched(25)], MembershipLostError),
        ([fetched(30)], RefusedError),
        ([fetched(0, (0, -1, 29))], RefusedError),
    ],
)
async def test_a_fetch_that_is_refused_is_told(
    monkeypatch: pytest.MonkeyPatch, answers: Iterable[bytes], kind: type[RebalanceError]
) -> None:
    group = Group(Script(*answers), monkeypatch)

    with pytest.raises(kind):
        await group.offsets.fetch([AT], 1_000)
