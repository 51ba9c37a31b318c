"""Committing and reading offsets as the member of a streams group.

Owns the meaning of the answer to a commit or a fetch, and how often it is retried. The decisions
are functions of codes and identities; `Offsets` carries them out. It must not know tasks: the
caller decides what is committed together.

A commit carries the member's newest epoch, read when it is sent. While a heartbeat that raises the
epoch is under way, a broker may call that epoch stale; the commit is then sent again with the next
epoch. A member that was fenced must not commit at all.

Source: JVM `CommitRequestManager`; Kafka 4.2 `StreamsGroup.validateOffsetCommit`; kip1071
reference 4.1, 4.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import Final, TypeVar

from thalweg.rebalance.backoff import Backoff, Randomness
from thalweg.rebalance.connection import Connection
from thalweg.rebalance.errors import (
    Code,
    MembershipLostError,
    RebalanceError,
    RefusedError,
    UnreachableError,
    code_name,
    is_retriable,
)
from thalweg.rebalance.messages import (
    OFFSET_COMMIT,
    OFFSET_FETCH,
    Api,
    CommittedOffset,
    TopicPartition,
    decode_offset_commit,
    decode_offset_fetch,
    encode_offset_commit,
    encode_offset_fetch,
)
from thalweg.rebalance.values import GroupIdentity

T = TypeVar("T")


class Verdict(Enum):
    """What follows from the code of an answer about offsets."""

    DONE = "done"
    RETRY = "retry"
    """The same again, after a while; with a newer epoch if there is one by then."""
    REDISCOVER = "rediscover"
    """Look the coordinator up and send it again."""
    LOST = "lost"
    """This is no member: give up the tasks."""
    REFUSED = "refused"
    """It will never be accepted."""


_RETRIED: Final = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.REQUEST_TIMED_OUT,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.REBALANCE_IN_PROGRESS,
        Code.UNSTABLE_OFFSET_COMMIT,
    }
)
_LOST: Final = frozenset(
    {
        Code.UNKNOWN_MEMBER_ID,
        Code.ILLEGAL_GENERATION,
        Code.FENCED_MEMBER_EPOCH,
        Code.GROUP_ID_NOT_FOUND,
    }
)


def verdict(code: int, identity: GroupIdentity) -> Verdict:
    """Decides what to do about one code.

    Args:
        code: of a partition or of the whole group; 0 for none.
        identity: the member now, which may be newer than what was sent.
    """
    if code == Code.NONE:
        return Verdict.DONE
    if code in (Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR):
        return Verdict.REDISCOVER
    if code in _RETRIED:
        return Verdict.RETRY
    if code == Code.STALE_MEMBER_EPOCH:
        return Verdict.RETRY if identity.is_member else Verdict.LOST
    if code in _LOST:
        return Verdict.LOST
    return Verdict.REDISCOVER if is_retriable(code) else Verdict.REFUSED


_ORDER: Final = (
    Verdict.LOST,
    Verdict.REFUSED,
    Verdict.REDISCOVER,
    Verdict.RETRY,
    Verdict.DONE,
)


def worst(codes: Iterable[int], identity: GroupIdentity) -> tuple[Verdict, int]:
    """Returns the verdict that decides about all, and the code it comes from."""
    verdicts = {verdict(code, identity): code for code in codes}
    return next(
        ((one, verdicts[one]) for one in _ORDER if one in verdicts), (Verdict.DONE, Code.NONE)
    )


def commit_verdict(
    codes: Mapping[TopicPartition, int],
    wanted: Collection[TopicPartition],
    identity: GroupIdentity,
) -> tuple[Verdict, int]:
    """Decides about an answer to a commit; partitions it does not name are tried again."""
    if codes.keys() >= set(wanted):
        return worst(codes.values(), identity)
    return worst([*codes.values(), Code.UNKNOWN_TOPIC_OR_PARTITION], identity)


def fetch_verdict(
    code: int, codes: Mapping[TopicPartition, int], identity: GroupIdentity
) -> tuple[Verdict, int]:
    """Decides about an answer to a fetch; a partition that does not exist has no offsets."""
    partitions = [one for one in codes.values() if one != Code.UNKNOWN_TOPIC_OR_PARTITION]
    return worst([code, *partitions], identity)


class Offsets:
    """The offsets of one group, by way of its coordinator. Used from one event loop.

    Args:
        group_id: the group.
        connection: to the brokers.
        identity: returns who the member is, at the moment of the call.
        monotonic_ms: returns milliseconds that never go back.
        randomness: for the jitter of back-offs.
        backoff: how long to wait between attempts.
    """

    def __init__(
        self,
        group_id: str,
        connection: Connection,
        identity: Callable[[], GroupIdentity],
        *,
        monotonic_ms: Callable[[], float],
        randomness: Randomness,
        backoff: Backoff | None = None,
    ) -> None:
        self._group_id = group_id
        self._connection = connection
        self._identity = identity
        self._monotonic_ms = monotonic_ms
        self._randomness = randomness
        self._backoff = backoff or Backoff()

    async def commit(
        self, offsets: Mapping[TopicPartition, tuple[int, str]], timeout_ms: float
    ) -> None:
        """Commits offsets as the member; on return they are committed.

        Args:
            offsets: (topic, partition) -> (offset of the next record, metadata).
            timeout_ms: how long to try.

        Raises:
            MembershipLostError: this is no member; nothing was committed by it.
            RefusedError: the broker refuses, see its code, topic and partition.
            UnreachableError: the coordinator did not answer in time. The offsets may have been
                committed all the same.
        """
        if not offsets:
            return

        def encode(identity: GroupIdentity) -> bytes:
            return encode_offset_commit(self._group_id, identity, offsets)

        def read(body: bytes) -> tuple[Verdict, int, TopicPartition | None, None]:
            codes = decode_offset_commit(body)
            found, code = commit_verdict(codes, offsets.keys(), self._identity())
            return found, code, _first(codes, code), None

        await self._try("commit offsets", OFFSET_COMMIT, encode, read, timeout_ms)

    async def fetch(
        self, partitions: Collection[TopicPartition], timeout_ms: float
    ) -> dict[TopicPartition, CommittedOffset]:
        """Reads committed offsets as the member, behind all transactions that are finished.

        Args:
            partitions: (topic, partition) each.
            timeout_ms: how long to try, waiting for transactions included.

        Returns:
            What is committed; partitions without a committed offset are left out.

        Raises:
            MembershipLostError: this is no member.
            RefusedError: the broker refuses, or transactions did not finish in time.
            UnreachableError: the coordinator did not answer in time.
        """
        if not partitions:
            return {}

        def encode(identity: GroupIdentity) -> bytes:
            return encode_offset_fetch(self._group_id, identity, partitions)

        def read(
            body: bytes,
        ) -> tuple[Verdict, int, TopicPartition | None, dict[TopicPartition, CommittedOffset]]:
            fetched = decode_offset_fetch(body)
            found, code = fetch_verdict(fetched.code, fetched.codes, self._identity())
            return found, code, _first(fetched.codes, code), fetched.offsets

        return await self._try("read committed offsets", OFFSET_FETCH, encode, read, timeout_ms)

    async def _try(
        self,
        what: str,
        api: Api,
        encode: Callable[[GroupIdentity], bytes],
        read: Callable[[bytes], tuple[Verdict, int, TopicPartition | None, T]],
        timeout_ms: float,
    ) -> T:
        """Sends until it is accepted, refused, or time is up."""
        deadline_ms = self._monotonic_ms() + timeout_ms
        failures = 0
        while True:
            identity = self._identity()
            if not identity.is_member:
                raise self._lost(what, "it is not a member at the moment")
            error: RebalanceError
            must_find = True
            try:
                body = await self._connection.request(
                    api, encode(identity), max(1, deadline_ms - self._monotonic_ms())
                )
            except UnreachableError as failure:
                error = failure
            else:
                found, code, at, result = read(body)
                if found is Verdict.DONE:
                    return result
                if found is Verdict.LOST:
                    raise self._lost(what, code_name(code))
                error = self._refused(what, code, at)
                if found is Verdict.REFUSED:
                    raise error
                must_find = found is Verdict.REDISCOVER
                if code == Code.STALE_MEMBER_EPOCH and self._identity() != identity:
                    continue
            failures += 1
            delay_ms = self._backoff.delay_ms(failures, self._randomness)
            if self._monotonic_ms() + delay_ms >= deadline_ms:
                raise error
            await asyncio.sleep(delay_ms / 1000)
            if must_find:
                await self._find_coordinator()

    async def _find_coordinator(self) -> None:
        try:
            await self._connection.find_coordinator(self._group_id)
        except RebalanceError as error:
            # What can be mended later shows up as the next attempt's failure.
            if not error.retriable:
                raise

    def _lost(self, what: str, why: str) -> MembershipLostError:
        return MembershipLostError(
            f"group {self._group_id!r} does not let this member {what}: {why}"
        )

    def _refused(self, what: str, code: int, at: TopicPartition | None) -> RefusedError:
        where = "" if at is None else f" of {at[0]}-{at[1]}"
        topic, partition = (None, None) if at is None else at
        meaning = next((f" ({one.meaning})" for one in Code if one == code), "")
        return RefusedError(
            f"group {self._group_id!r} does not let this member {what}{where}: "
            f"{code_name(code)}{meaning}",
            code=code,
            topic=topic,
            partition=partition,
        )


def _first(codes: Mapping[TopicPartition, int], code: int) -> TopicPartition | None:
    return next((at for at, one in sorted(codes.items()) if one == code), None)
