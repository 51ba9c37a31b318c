"""The root of all errors, and the branches of errors of serdes, stores and storage.

Owns `StreamsError`, which may carry the place of the error, the reactions that an error can ask of
the runtime, and the serde, store and storage branches. The whole tree is drawn in `streams.errors`,
which re-exports it. This module must not know who raises or who catches.

Source: house style 3.7; JVM `org.apache.kafka.streams.errors`.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Final, TypeVar

PUBLIC_MODULE: Final = "thalweg"
"""The package from which users import every public error, and by which a traceback names it."""

E = TypeVar("E", bound=type[BaseException])


def public(error: E) -> E:
    """Gives an error the module that users know it by, for tracebacks and logs."""
    error.__module__ = PUBLIC_MODULE
    return error


class Reaction(Enum):
    """What the runtime does about an error; declared by each class, acted on by the worker."""

    TELL_CALLER = "tell_caller"
    """The call was wrong or came at the wrong time: whoever called hears of it."""
    RETRY = "retry"
    """A passing reason: the same attempt may succeed later."""
    RESTORE_TASK = "restore_task"
    """The task's local state is given up and rebuilt from its changelog."""
    REJOIN = "rejoin"
    """What was done since the last commit cannot be committed, because the task belongs to
    someone else by now or because its records are lost: it is given up without a commit."""
    STOP_APP = "stop_app"
    """Nothing here can mend it: the worker dies, the application's handler is asked."""


@public
class StreamsError(Exception):
    """The root of all errors this project raises on purpose.

    Args:
        message: what happened, the name of the thing, and the remedy.
        task_id: the task it happened in, `<subtopology>_<partition>`.
        topic: the topic it was about.
        partition: its partition.
        offset: the offset of the record.
        node: the topology node.
    """

    reaction: Reaction = Reaction.STOP_APP
    _PLACES: ClassVar[tuple[str, ...]] = ("task_id", "topic", "partition", "offset", "node")

    def __init__(
        self,
        message: str,
        *,
        task_id: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        node: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.task_id = task_id
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.node = node

    def __str__(self) -> str:
        """Returns the message, and behind it in brackets the place as far as it is known."""
        known = [
            f"{place.removesuffix('_id')} {value}"
            for place in self._PLACES
            if (value := getattr(self, place)) is not None
        ]
        return f"{self.message} [{', '.join(known)}]" if known else self.message


@public
class SerdeError(StreamsError):
    """Bytes and values cannot be turned into each other.

    Attributes:
        reason: what is wrong, without a remedy; empty where the message has none.
    """

    reason: str = ""


@public
class SerializationError(SerdeError):
    """A value cannot be written as bytes."""


@public
class DeserializationError(SerdeError):
    """Bytes cannot be read as a value."""


@public
class StoreError(StreamsError):
    """A store cannot answer."""

    reaction = Reaction.TELL_CALLER


@public
class UnknownStoreError(StoreError):
    """There is no store of that name, or the processor is not connected to it."""


@public
class StoreNotReadyError(StoreError):
    """The store is being restored, or its application is not started: ask again."""


@public
class StoreMovedError(StoreError):
    """The store's task left this process while it was read: ask again."""


@public
class StoreClosedError(StoreError):
    """The store was closed."""


@public
class StoreLockedError(StoreError):
    """Another process holds the directory."""


@public
class StorageError(StreamsError):
    """Bytes cannot be kept or found."""


@public
class BackendError(StorageError):
    """A backend failed at what it was asked to do, for example because the disk is full."""


@public
class NoListSupportError(BackendError):
    """A byte store cannot list its keys.

    Attributes:
        name: the byte store or tier that was asked.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"byte store '{name}' cannot list its keys; use one that can, or read by key"
        )
        self.name = name


@public
class CodecError(StorageError):
    """A value cannot be written as bytes or read from them."""


@public
class EncodeError(CodecError):
    """A value cannot be written as bytes."""


@public
class DecodeError(CodecError):
    """Stored bytes cannot be read as a value."""


@public
class CodecMismatchError(CodecError):
    """Stored bytes were written by another codec, or by another version of this one.

    Attributes:
        expected: name and version of the codec that was to read them, as `json/1`.
        found: name and version of the codec that wrote them.
    """

    def __init__(self, message: str, *, expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


@public
class CorruptDataError(StorageError):
    """What is stored cannot be what was written.

    Attributes:
        store: the store whose files are damaged, None where that is not known.
    """

    reaction = Reaction.RESTORE_TASK
    store: str | None = None
