"""The messages between a process and the owner of an embedded log.

Owns the names of the calls, the messages of each, their limits, and how an error crosses from
one process to the other. It must not know sockets or logs.

    POST /log/<call>                     a message in msgpack, answered by one
    *    /applications/<id>/<page>       the pages of an application that runs in the owner

A call that fails is answered with a status of 400 or more and a `Failure`. A mistake of the caller
raises the same error there that it would raise in the owner.

Source: design 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from thalweg.stores.errors import (
    BackendError,
    CorruptDataError,
    DeserializationError,
    SerializationError,
    StoreClosedError,
    StoreLockedError,
    StoreMovedError,
    StoreNotReadyError,
    StreamsError,
    UnknownStoreError,
)
from thalweg.stores.record import HeaderList
from thalweg.streams.errors import (
    AppStateError,
    BrokerError,
    ConfigError,
    OffsetOutOfRangeError,
    ProductionError,
    TransportError,
)

VERSION: Final = 1
"""Rises where a process of another version would misread a message."""

REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024
"""Most bytes of a request: bounds the owner's memory. A batch of a producer is far smaller."""

ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Records of an answer stop where they come to so many bytes; the next call goes on."""

WAIT_MS_MAX: Final = 30_000
"""How long the owner waits for records before it answers that there are none."""

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""

SentRow: TypeAlias = tuple[Any, Any, Any, list[tuple[Any, Any]] | None]
"""Timestamp, key, value, headers of a record to send: what is wrong with one the log tells."""

ReadRow: TypeAlias = tuple[int, bytes | None, bytes | None, int, HeaderList | None]
"""Timestamp, key, value, offset, headers of a record that was read."""


class About(msgspec.Struct, frozen=True):
    """Who owns a log.

    Attributes:
        process_id: the process.
        version: of what it speaks.
        socket: where it listens, below the log's directory or absolute; "" where it does not.
        applications: ids of the applications that run in it.
        reason: why it does not listen.
    """

    process_id: int
    version: int = VERSION
    socket: str = ""
    applications: list[str] = []
    reason: str = ""


class TopicRow(msgspec.Struct, frozen=True, array_like=True):
    """A topic to create."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


class AlterRequest(msgspec.Struct, frozen=True):
    """Changes configs of a topic; None takes one back."""

    topic: str
    changes: dict[str, str | None]


class OffsetsRow(msgspec.Struct, frozen=True, array_like=True):
    """The ends of a partition: its first offset, and the one behind the last committed record."""

    topic: str
    partition: int
    begin: int
    end: int


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Records to send to one partition, in order."""

    topic: str
    partition: int
    rows: list[SentRow]


class PollRequest(msgspec.Struct, frozen=True):
    """Asks for records from positions on.

    Attributes:
        positions: topic, partition, offset of each partition.
        most: the most records.
        wait_ms: how long to wait where there are none.
    """

    positions: list[tuple[str, int, int]]
    most: int
    wait_ms: float


class PolledPartition(msgspec.Struct, frozen=True, array_like=True):
    """What was read of one partition.

    Attributes:
        topic: the topic.
        partition: the partition.
        position: where to go on.
        end: the end of the partition.
        rows: the records, in the order of their offsets.
    """

    topic: str
    partition: int
    position: int
    end: int
    rows: list[ReadRow]


class TimeRequest(msgspec.Struct, frozen=True):
    """Asks for the first offsets that are not older than a moment."""

    places: list[Place]
    timestamp_ms: int


class Failure(msgspec.Struct, frozen=True):
    """An error of the owner.

    Attributes:
        kind: the name of its class.
        message: what it says, without its place.
        topic: its place.
        partition: likewise.
        offset: likewise.
    """

    kind: str
    message: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


encode: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode

_ERRORS: Final[Mapping[str, type[StreamsError]]] = {
    kind.__name__: kind
    for kind in (
        AppStateError,
        BackendError,
        BrokerError,
        ConfigError,
        CorruptDataError,
        DeserializationError,
        OffsetOutOfRangeError,
        ProductionError,
        SerializationError,
        StoreClosedError,
        StoreLockedError,
        StoreMovedError,
        StoreNotReadyError,
        TransportError,
        UnknownStoreError,
    )
}


def failure_of(error: StreamsError) -> Failure:
    """Returns an error as it is told to another process."""
    return Failure(type(error).__name__, error.message, error.topic, error.partition, error.offset)


def error_of(failure: Failure) -> StreamsError:
    """Returns the error that another process told of."""
    kind = _ERRORS.get(failure.kind, BrokerError)
    return kind(
        failure.message,
        topic=failure.topic,
        partition=failure.partition,
        offset=failure.offset,
    )
