"""The errors of the runtime, and the tree of all errors.

Owns the branches above the stores: settings, user code, tasks, group, broker. The store, serde and
storage branches are in `stores.errors`, the error of topologies is in `topology.errors`. They are
re-exported here, so that a script can import every error from one place. This module must not know
who raises or who catches.

    StreamsError                      task, topic, partition, offset, node: each optional, in str()
    ├─ ConfigError                    a setting is unknown, missing or out of range
    ├─ AppStateError                  the application is not in a state that allows the call
    ├─ TopologyError                  the graph cannot be built or does not fit its topics
    ├─ SerdeError
    │  ├─ SerializationError
    │  └─ DeserializationError
    ├─ ProcessingError                user code raised; the original is __cause__
    ├─ ProductionError                the log refused a record
    ├─ StoreError
    │  ├─ UnknownStoreError
    │  ├─ StoreNotReadyError          restoring or not started: ask again
    │  ├─ StoreMovedError             served elsewhere now
    │  ├─ StoreClosedError
    │  └─ StoreLockedError            another process holds the directory
    ├─ StorageError
    │  ├─ BackendError
    │  │  └─ NoListSupportError       a byte store cannot list its keys
    │  ├─ CodecError                  a value of a tier and its bytes
    │  │  ├─ EncodeError
    │  │  ├─ DecodeError
    │  │  └─ CodecMismatchError       another codec wrote the bytes
    │  └─ CorruptDataError
    ├─ TaskError
    │  ├─ TaskMigratedError           fenced: give up the task, rejoin
    │  └─ TaskCorruptedError          wipe local state, restore
    ├─ GroupError                     the application's group cannot be joined or kept
    │  ├─ MissingTopicsError          source or internal topics are absent
    │  ├─ UnsupportedBrokerError      the broker has no streams groups
    │  └─ ApplicationShutdownError    an instance asked all of them to stop
    └─ BrokerError                    the transport failed; `retriable` tells whether to try again
       ├─ TransportError              the transport was asked for something it cannot do
       ├─ AuthenticationError         credentials or a certificate are refused
       └─ OffsetOutOfRangeError       a position lies outside what the log still has

Every class declares how the runtime reacts to it (`reaction`); only the worker acts on that.

Source: house style 3.7; JVM `org.apache.kafka.streams.errors`.
"""

from __future__ import annotations

from thalweg.stores.errors import (
    BackendError,
    CodecError,
    CodecMismatchError,
    CorruptDataError,
    DecodeError,
    DeserializationError,
    EncodeError,
    NoListSupportError,
    Reaction,
    SerdeError,
    SerializationError,
    StorageError,
    StoreClosedError,
    StoreError,
    StoreLockedError,
    StoreMovedError,
    StoreNotReadyError,
    StreamsError,
    UnknownStoreError,
    public,
)
from thalweg.stores.record import RawRecord
from thalweg.topology.errors import TopologyError

__all__ = [
    "AppStateError",
    "ApplicationShutdownError",
    "AuthenticationError",
    "BackendError",
    "BrokerError",
    "CodecError",
    "CodecMismatchError",
    "ConfigError",
    "CorruptDataError",
    "DecodeError",
    "DeserializationError",
    "EncodeError",
    "GroupError",
    "MissingTopicsError",
    "NoListSupportError",
    "OffsetOutOfRangeError",
    "ProcessingError",
    "ProductionError",
    "Reaction",
    "SerdeError",
    "SerializationError",
    "StorageError",
    "StoreClosedError",
    "StoreError",
    "StoreLockedError",
    "StoreMovedError",
    "StoreNotReadyError",
    "StreamsError",
    "TaskCorruptedError",
    "TaskError",
    "TaskMigratedError",
    "TopologyError",
    "TransportError",
    "UnknownStoreError",
    "UnsupportedBrokerError",
]


@public
class ConfigError(StreamsError):
    """A setting is unknown, missing or has a value it cannot have."""

    reaction = Reaction.TELL_CALLER


@public
class AppStateError(StreamsError):
    """The application is not in a state in which the call makes sense."""

    reaction = Reaction.TELL_CALLER


@public
class ProcessingError(StreamsError):
    """User code raised while a record or a punctuation was processed.

    The original exception is `__cause__`.
    """

    reaction = Reaction.STOP_APP


@public
class ProductionError(StreamsError):
    """A record that was produced is refused by the log, or could not be delivered.

    Attributes:
        record: the raw record that is to blame, None where that is not known.
    """

    reaction = Reaction.STOP_APP
    record: RawRecord | None = None


@public
class TaskError(StreamsError):
    """One task cannot go on; the others can."""

    reaction = Reaction.RESTORE_TASK


@public
class TaskMigratedError(TaskError):
    """The task belongs to another member now."""

    reaction = Reaction.REJOIN


@public
class TaskCorruptedError(TaskError):
    """The task's local state cannot be trusted: it is wiped and restored."""

    reaction = Reaction.RESTORE_TASK


@public
class GroupError(StreamsError):
    """The application's group cannot be joined or kept."""

    reaction = Reaction.STOP_APP


@public
class ApplicationShutdownError(GroupError):
    """An instance of the application asked all of them to stop."""


@public
class UnsupportedBrokerError(GroupError):
    """The broker does not know streams groups, or they are switched off there."""


@public
class MissingTopicsError(GroupError):
    """A topic the topology reads does not exist."""

    reaction = Reaction.STOP_APP


@public
class BrokerError(StreamsError):
    """The transport failed at what it was asked to do.

    Args:
        message: what was attempted, on what, and what the reader can do.
        retriable: whether the same attempt may succeed later.
        is_away: whether that is because a broker is away or not ready. Workers wait for it as
            long as it takes.
        task_id: the task that asked.
        topic: the topic it was about.
        partition: the partition.
        offset: the offset.
        node: the topology node that asked.
    """

    reaction = Reaction.STOP_APP

    def __init__(
        self,
        message: str,
        *,
        retriable: bool = False,
        is_away: bool = False,
        task_id: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        node: str | None = None,
    ) -> None:
        super().__init__(
            message, task_id=task_id, topic=topic, partition=partition, offset=offset, node=node
        )
        self.retriable = retriable
        self.is_away = is_away
        if retriable:
            self.reaction = Reaction.RETRY


@public
class TransportError(BrokerError):
    """The transport was asked for something it cannot do, such as reading an unknown topic."""


@public
class AuthenticationError(BrokerError):
    """The credentials are refused, or one side refuses the other's certificate, from the beginning.

    Where that was well before, as when a broker starts again, it is a `BrokerError`.
    """


@public
class OffsetOutOfRangeError(BrokerError):
    """A reader stands before the first or behind the last record its partition has."""
