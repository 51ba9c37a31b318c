"""What the Kafka transport needs of the application's group: positions and our identity.

Owns the face between records and group membership. Records travel through librdkafka, which
knows nothing of streams groups; offsets are committed by the member. Exactly-once sends them
through the producer instead, with the member's identity in the form in which librdkafka keeps
a consumer's:

    "CGMDv2:" | generation int32, host byte order | group id, NUL | member id, NUL | 1

This module must not know how a group is joined, nor either library.

Source: KIP-447, KIP-1071; librdkafka `rd_kafka_consumer_group_metadata_write`; kip1071
reference 7.4.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from thalweg.streams.errors import GroupError
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition


class MemberIdentity(NamedTuple):
    """Who commits, as the group's coordinator knows it.

    Attributes:
        group_id: the group.
        member_id: the member; "" for none, whom the coordinator does not check.
        epoch: its epoch, -1 for none.
    """

    group_id: str
    member_id: str = ""
    epoch: int = -1


class GroupOffsets(Protocol):
    """The committed positions of a group, as one of its members keeps them."""

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Returns committed positions; partitions without are left out.

        Raises:
            BrokerError: they cannot be had.
        """
        ...

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Makes positions last. Asked at least-once only.

        Raises:
            TaskMigratedError: the member does not own the partitions any more.
            BrokerError: it is not known whether the commit happened, or it did not.
        """
        ...

    def identity(self) -> MemberIdentity:
        """Returns who commits at this moment; exactly-once asks right before each commit.

        Raises:
            TaskMigratedError: not a member any more.
        """
        ...


def consumer_group_metadata(identity: MemberIdentity) -> bytes:
    """Returns an identity as librdkafka reads it back.

    Raises:
        GroupError: an id has characters other than printable ASCII, which librdkafka refuses.
    """
    for name, text in (("application_id", identity.group_id), ("member id", identity.member_id)):
        if not (text.isascii() and text.isprintable()):
            message = f"{name} {text!r} must consist of printable ASCII characters"
            raise GroupError(message)
    return b"".join(
        (
            b"CGMDv2:",
            struct.pack("=i", identity.epoch),
            identity.group_id.encode() + b"\0",
            identity.member_id.encode() + b"\0",
            b"\x01",  # there is no group.instance.id
        )
    )
