"""Reads of a named store over all tasks of this process.

A store's rows are spread over the tasks that own its partitions. A composite face reads all of
them. Owns the merging of their scans and the error for a task that is gone. The methods of each
kind's face are in `queries.kinds`. It must not know how a task keeps its stores. It gets their
read-only faces, which any thread may call while the worker writes, and takes no locks.

A face stays valid when tasks move: each call uses the tasks of that moment.

Source: JVM `StateStoreProvider`, `CompositeReadOnlyKeyValueStore`; semantics D18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from thalweg.stores.api import StoreIterator, ValueTimestampHeaders
from thalweg.stores.errors import StoreClosedError, StoreMovedError
from thalweg.stores.record import Record

A = TypeVar("A")
F = TypeVar("F")
S = TypeVar("S")
T = TypeVar("T")

Unwrap: TypeAlias = Callable[[Any], Any]
"""Stored value -> value as returned."""

Merge: TypeAlias = Callable[[Sequence[StoreIterator[T]]], Iterable[T]]
"""Puts the scans of several tasks together."""


def same(value: T) -> T:
    """Returns a value as the store keeps it."""
    return value


def value_of(stored: Any) -> Any:
    """Returns a value without what the store keeps beside it."""
    return stored.value


def one_after_another(scans: Sequence[StoreIterator[T]]) -> Iterator[T]:
    """Puts scans of several tasks behind each other, as the JVM does."""
    for scan in scans:
        yield from scan


def unwrapped(rows: StoreIterator[tuple[A, S]], unwrap: Unwrap) -> StoreIterator[tuple[A, S]]:
    """Returns a scan with values as `unwrap` returns them."""
    if unwrap is same:
        return rows
    return StoreIterator(((key, unwrap(value)) for key, value in rows), rows.close)


def record_of(key: A, stored: ValueTimestampHeaders[S]) -> Record[A, S]:
    """Returns a row with headers as a record.

    Raises:
        StreamsError: the row has no time, as it was written without one.
    """
    return Record(key, stored.value, stored.timestamp, stored.headers)


def records_of(
    rows: StoreIterator[tuple[A, ValueTimestampHeaders[S]]],
) -> StoreIterator[Record[A, S]]:
    """Returns a scan of rows with headers as records."""
    return StoreIterator((record_of(key, stored) for key, stored in rows), rows.close)


class Composite(Generic[F]):
    """What the faces of every kind share: asking, merging, telling that a task is gone.

    Args:
        name: the store.
        faces: returns its read-only faces, one per task that has it at the moment of the call.
        unwrap: stored value -> value as returned.
    """

    _where = " in this process"

    def __init__(self, name: str, faces: Callable[[], Sequence[F]], unwrap: Unwrap = same) -> None:
        self._name = name
        self._faces = faces
        self._unwrap = unwrap

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    def refuse_none(self, key: object) -> None:
        """Refuses None as a key."""
        if key is None:
            message = f"a key cannot be None (store {self._name!r})"
            raise ValueError(message)

    def first(self, read: Callable[[F], object]) -> Any:
        """Returns the first answer that is not None, of the tasks in turn."""
        for face in self._faces():
            try:
                value = read(face)
            except StoreClosedError as error:
                raise self.moved() from error
            if value is not None:
                return self._unwrap(value)
        return None

    def total(self, count: Callable[[F], int]) -> int:
        """Adds up what the tasks count."""
        try:
            return sum(map(count, self._faces()))
        except StoreClosedError as error:
            raise self.moved() from error

    def rows(
        self,
        open_scan: Callable[[F], StoreIterator[tuple[A, S]]],
        merge: Merge[tuple[A, S]] = one_after_another,
    ) -> StoreIterator[tuple[A, S]]:
        """Opens a scan of keys and values on every task, see `scan`."""
        return unwrapped(self.scan(open_scan, merge), self._unwrap)

    def scan(
        self, open_scan: Callable[[F], StoreIterator[T]], merge: Merge[T] = one_after_another
    ) -> StoreIterator[T]:
        """Opens a scan on every task, all of them before the first row is read."""
        scans: list[StoreIterator[T]] = []

        def close() -> None:
            for scan in scans:
                scan.close()

        try:
            scans.extend(map(open_scan, self._faces()))
        except StoreClosedError as error:
            close()
            raise self.moved() from error
        except BaseException:
            close()
            raise
        return StoreIterator(self._told(scans[0] if len(scans) == 1 else merge(scans)), close)

    def _told(self, rows: Iterable[T]) -> Iterator[T]:
        try:
            yield from rows
        except StoreClosedError as error:
            raise self.moved() from error

    def moved(self) -> StoreMovedError:
        """Returns the error of a store that went away meanwhile."""
        message = f"store {self._name!r} was closed or moved while it was read; ask again"
        return StoreMovedError(message)
