"""Reads of a named store over all tasks of this process.

A store's rows are spread over the tasks that own its partitions; a composite face asks each
of them. Owns merging their scans and telling that a task is gone; what a face of a kind is asked
stands in `queries.kinds`. It must not know how a task keeps its stores; it gets their read-only
faces, which are safe to call from any thread while the worker writes, and takes no lock of its
own.

A face stays valid when tasks move: each call looks at the tasks of that moment.

Source: JVM `StateStoreProvider`, `CompositeReadOnlyKeyValueStore`; semantics D18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from thalweg.stores.api import StoreIterator
from thalweg.stores.errors import StoreClosedError, StoreMovedError

T = TypeVar("T")

Faces: TypeAlias = Callable[[], Sequence[Any]]
"""Returns the read-only faces of one store, one per task that has it."""

Unwrap: TypeAlias = Callable[[Any], Any]
"""Stored value -> value as returned."""


def same(value: Any) -> Any:
    """Returns a value as the store keeps it."""
    return value


def value_of(stored: Any) -> Any:
    """Returns a value without what the store keeps beside it."""
    return stored.value


def unwrapped(
    rows: StoreIterator[tuple[Any, Any]], unwrap: Unwrap
) -> StoreIterator[tuple[Any, Any]]:
    """Returns a scan with values as `unwrap` returns them."""
    if unwrap is same:
        return rows
    return StoreIterator(((key, unwrap(value)) for key, value in rows), rows.close)


class Composite:
    """What the faces of every kind share: asking, merging, telling that a task is gone.

    Args:
        name: the store.
        faces: its tasks' faces at the moment of the call.
        unwrap: stored value -> value as returned.
    """

    _where = " in this process"

    def __init__(self, name: str, faces: Faces, unwrap: Unwrap) -> None:
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

    def first(self, read: Callable[[Any], Any]) -> Any:
        """Returns the first answer that is not None, of the tasks in turn."""
        for face in self._faces():
            try:
                value = read(face)
            except StoreClosedError as error:
                raise self.moved() from error
            if value is not None:
                return self._unwrap(value)
        return None

    def scan(
        self,
        open_scan: Callable[[Any], Iterator[tuple[Any, Any]]],
        merge: Callable[[Sequence[Iterator[tuple[Any, Any]]]], Iterable[tuple[Any, Any]]],
    ) -> StoreIterator[tuple[Any, Any]]:
        """Opens a scan on every task, all of them before the first row is read."""
        scans: list[Iterator[tuple[Any, Any]]] = []

        def close() -> None:
            for scan in scans:
                release = getattr(scan, "close", None)
                if release is not None:
                    release()

        try:
            scans.extend(map(open_scan, self._faces()))
        except StoreClosedError as error:
            close()
            raise self.moved() from error
        except BaseException:
            close()
            raise
        rows = scans[0] if len(scans) == 1 else merge(scans)
        return StoreIterator(self._rows(rows), close)

    def _rows(self, rows: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        unwrap = self._unwrap
        try:
            for key, value in rows:
                yield key, unwrap(value)
        except StoreClosedError as error:
            raise self.moved() from error

    def moved(self) -> StoreMovedError:
        """Returns the error of a store that went away meanwhile."""
        message = f"store {self._name!r} was closed or moved while it was read; ask again"
        return StoreMovedError(message)


def one_after_another(scans: Sequence[Iterator[T]]) -> Iterator[T]:
    """Puts scans of several tasks behind each other, as the JVM does."""
    for scan in scans:
        yield from scan
