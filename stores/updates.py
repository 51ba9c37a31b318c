"""The seam between operators and stores: how an operator reads, writes and folds rows.

Owns `Updates`, which an operator asks its store for when it is compiled; the updates of a store
without a cache; and `Deferred`, for operators that hold changes back. An operator says where
changes go. The store decides whether they are forwarded at once or when a cache is flushed. This
module must not know operators, serdes or caches.

A key is opaque here: a key-value store finds a row by its key, a window store by the tuple
(key, window start in ms).

Source: JVM `TimestampedTupleForwarder`, `TimestampedCacheFlushListener`; DESIGN 2.1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NoReturn, Protocol, TypeAlias, TypeVar

Key = TypeVar("Key")
Key_contra = TypeVar("Key_contra", contravariant=True)

Pair: TypeAlias = tuple[Any, int]
"""(value, timestamp) of a row."""

Forward: TypeAlias = Callable[[Any, Any, Any, int], None]
"""Takes a change: (key, new value, old value, timestamp)."""

Step: TypeAlias = Callable[[Any, Any, Any], Any]
"""(key, value, old aggregate or None) -> new aggregate, None to delete the row."""

Process: TypeAlias = Callable[[Any, Any, int], None]
"""Takes a record: (key, value, timestamp)."""

Failed: TypeAlias = Callable[[Exception, Any, Any, int], None]
"""Takes (error, key, value, timestamp) of a step that raised."""


class Unread:
    """Marks that nobody has read yet which value a row has."""

    __slots__ = ()


UNREAD: Final = Unread()


class Write(Protocol[Key_contra]):
    """Stores a row and forwards the change, at once or when the cache is flushed."""

    def __call__(
        self, key: Key_contra, new: Any, old: Any, timestamp: int, deleted_at: int | None = None, /
    ) -> None:
        """Writes one row.

        Args:
            key: the row's key.
            new: the value; None deletes the row.
            old: the value before, `UNREAD` if the operator has not read it. It is forwarded
                only where the operator asked for old values.
            timestamp: event time of the value; the change is forwarded with it.
            deleted_at: the time with which a deletion is stored, if not `timestamp`.
        """


@dataclass(frozen=True, slots=True)
class Updates(Generic[Key]):
    """What an operator does with its store, bound once per task.

    Attributes:
        read: returns the newest row of a key, None where there is none.
        write: stores a row and forwards the change.
        fold: binds a whole aggregation: returns the function (key, value, timestamp) that
            reads the row of `key`, computes `step(key, value, old)` and writes the result with
            the later of both timestamps. A key or value of None goes to the second argument
            instead, an error to the third. The step `add_one` is done without a call.
    """

    read: Callable[[Key], Pair | None]
    write: Write[Key]
    fold: Callable[[Step, Process, Failed], Process]


@dataclass(frozen=True, slots=True)
class Records:
    """What a join of streams does with a window store that keeps duplicates, bound once per task.

    Attributes:
        put: keeps one more record: (key, value, timestamp). A value of None is logged only.
        fetch: returns the (timestamp, value) of the records of a key between two timestamps, both
            included, oldest first. The result must not be changed, nor kept beyond the next
            `put`.
    """

    put: Callable[[Any, Any, int], None]
    fetch: Callable[[Any, int, int], Sequence[tuple[int, Any]]]


class KeepsRecords(Protocol):
    """A store that keeps the records of one side of a join."""

    def records(self) -> Records:
        """Returns what the join does with it."""
        ...


class KeepsLists(Protocol):
    """A store that keeps lists of values, in the order of their keys' bytes."""

    def append(self, key: Any, value: Any, timestamp: int, /) -> None:
        """Adds a value to the end of a key's list, logged with a timestamp."""
        ...

    def remove(self, key: Any, timestamp: int, /) -> None:
        """Deletes a key with its list, whether there is one or not."""
        ...

    def remove_if_present(self, key: Any, timestamp: int, /) -> None:
        """Deletes a key with its list; where there is none, nothing is logged."""
        ...

    def entries(self) -> Iterator[tuple[Any, Any]]:
        """Scans each value under its key."""
        ...


class Materialized(Protocol[Key]):
    """A store as operators see it."""

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Key]:
        """Returns what an operator that fills the store uses.

        Several operators fill the store of a co-grouping. They forward to the same children, so
        any of them may hear of what is flushed.

        Args:
            forward: takes the changes; those of a flush go to the last one given. None
                forwards nothing.
            send_old: whether changes carry the old value; else it is None.
        """
        ...

    def read_row(self, key: Any, /) -> Pair | None:
        """Reads the newest row, for an operator that does not fill the store."""
        ...

    def forwarded_row(self, key: Any, /) -> Pair | None:
        """Reads the row that was forwarded last, which is not one that waits for a flush."""
        ...

    @property
    def read_as_of(self) -> Callable[[Any, int], Pair | None] | None:
        """Reads the row of a key as it was at a time; None for stores that keep the newest only."""
        ...


def add_one(_key: Any, _value: Any, old: int | None) -> int:
    """Counts: the step that adds one."""
    return 1 if old is None else old + 1


def raise_error(error: Exception, _key: Any, _value: Any, _timestamp: int) -> NoReturn:
    """Lets the error of a step pass, for an operator that deals with it itself."""
    raise error


def unheard(_key: Any, _new: Any, _old: Any, _timestamp: int) -> None:
    """Forwards a change to nobody."""


def read_and_write(updates: Updates[Key], step: Step) -> Callable[[Key, Any, int], None]:
    """Returns a fold that also takes values of None, and lets errors pass."""
    read, write = updates.read, updates.write

    def fold(key: Key, value: Any, timestamp: int) -> None:
        pair = read(key)
        old, newest = (None, timestamp) if pair is None else (pair[0], max(timestamp, pair[1]))
        write(key, step(key, value, old), old, newest, timestamp)

    return fold


def immediate_updates(
    read: Callable[[Key], Pair | None],
    put: Callable[[Key, Any, int], None],
    forward: Forward,
    *,
    send_old: bool,
) -> Updates[Key]:
    """Returns the updates of a store without a cache: each write is forwarded at once.

    Args:
        read: reads a row.
        put: writes a row: (key, value or None to delete, timestamp).
        forward: takes the changes.
        send_old: whether changes carry the old value.
    """

    def write(
        key: Key, new: Any, old: Any, timestamp: int, deleted_at: int | None = None, /
    ) -> None:
        if not send_old:
            old = None
        elif old is UNREAD:
            pair = read(key)
            old = pair and pair[0]
        put(key, new, timestamp if new is not None or deleted_at is None else deleted_at)
        forward(key, new, old, timestamp)

    def fold(step: Step, on_null: Process, failed: Failed) -> Process:
        def process(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                on_null(key, value, timestamp)
                return
            try:
                pair = read(key)
                if pair is None:
                    old, newest = None, timestamp
                else:
                    old, newest = pair[0], max(timestamp, pair[1])
                new = step(key, value, old)
                put(key, new, timestamp if new is None else newest)
                forward(key, new, old if send_old else None, newest)
            except Exception as error:
                failed(error, key, value, timestamp)

        return process

    return Updates(read, write, fold)


Hold: TypeAlias = Callable[[int, Any, Any, Any, int], None]
"""Takes a change into a buffer: (place in time, key, new value, old value, timestamp)."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """What an operator does with its buffer of changes, bound once per task.

    A change that is let go is forwarded with the timestamp, topic, partition, offset and headers
    of the record that made it, and is in the buffer until that is done.

    Attributes:
        hold: takes a change in. The first one of a key fixes its place; one that comes while
            the key is held replaces it there.
        let_go: lets changes go, the earliest first and of one time in the order of encoded keys:
            those whose place is at or before a time, to a `Forward`.
        let_go_while: lets changes go as long as a condition holds.
        extent: returns how many changes are held, and how many bytes they take as the JVM counts.
    """

    hold: Hold
    let_go: Callable[[int, Forward], None]
    let_go_while: Callable[[Callable[[], bool], Forward], None]
    extent: Callable[[], tuple[int, int]]


class ChangeBuffer(ABC):
    """A store that holds changes of a table back, one for each key, in the order of time."""

    @abstractmethod
    def deferred(self, *, drops_deletions: bool, counts_bytes: bool) -> Deferred:
        """Returns what the one operator uses that fills the buffer.

        Args:
            drops_deletions: whether a deletion that is let go is not forwarded.
            counts_bytes: whether `extent` is asked often enough to keep the bytes counted.
        """

    @abstractmethod
    def prior(self, key: Any) -> Pair | Unread | None:
        """Returns the row of a key that was let go last, `UNREAD` for a key that is not held."""


class GraceBuffer(ABC):
    """A store in which records of a stream wait, in the order of time."""

    @property
    @abstractmethod
    def observed_ms(self) -> int:
        """The latest timestamp of a record that was held, -1 before the first."""

    @abstractmethod
    def hold(self, key: Any, value: Any, timestamp: int) -> None:
        """Takes in a record, with what the task's current record says of it."""

    @abstractmethod
    def let_go(self, until_ms: int, forward: Process) -> None:
        """Lets records up to a time go, the earliest first.

        Each is forwarded with the topic, partition, offset and headers it came with, and is in the
        buffer until that is done.
        """
