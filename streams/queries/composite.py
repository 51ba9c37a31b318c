"""Reads of a named store over all tasks of this process.

A store's rows are spread over the tasks that own its partitions; a composite face asks each
of them. Owns finding the faces, merging their scans and telling apart why there is no
answer: no such store, not ready, gone. It must not know how a task keeps its stores; it gets
their read-only faces, which are safe to call from any thread while the worker writes, and
takes no lock of its own.

Key-value scans are merged in the byte order of the serialised keys, so that the number of
partitions does not show (the JVM concatenates the partitions). Window scans follow each
other partition by partition, as in the JVM: inside one, the order is that of the segments.

A face stays valid when tasks move: each call looks at the tasks of that moment.

Source: JVM `QueryableStoreProvider`, `CompositeReadOnlyKeyValueStore`,
`CompositeReadOnlyWindowStore`; semantics D18.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, overload

from thalweg.stores.api import (
    KeyValueIterator,
    ReadOnlyKeyValueStore,
    ReadOnlyWindowStore,
    StoreIterator,
    WindowStoreIterator,
)
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import StoreClosedError, StoreMovedError, UnknownStoreError
from thalweg.stores.kinds.typed import CombinesFaces
from thalweg.stores.serde import Serde, may_be, type_name
from thalweg.stores.windowed import Windowed, epoch_ms
from thalweg.topology.physical import Topology

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

Faces = Callable[[], Sequence[Any]]
"""Returns the read-only faces of one store, one per task that has it."""

_MOST_ENTRIES: Final = 2**63 - 1
"""The JVM's estimate is a long; a sum beyond it stays there."""


class QueryService:
    """Finds stores by name and puts their tasks' faces together.

    Args:
        topology: knows which stores there are and of which kind.
        default_key_serde: of stores that name none.
        default_value_serde: of stores that name none.
        faces: (name, partition) -> the read-only faces of the tasks that have it now, of all
            partitions here where it is None; raises StoreNotReadyError while they cannot
            answer, StoreMovedError where the partition is not here.
    """

    def __init__(
        self,
        topology: Topology,
        default_key_serde: Serde[Any],
        default_value_serde: Serde[Any],
        faces: Callable[[str, int | None], Sequence[Any]],
    ) -> None:
        self._topology = topology
        self._default_key_serde = default_key_serde
        self._default_value_serde = default_value_serde
        self._faces = faces

    def builder(self, name: str) -> StoreBuilder:
        """Returns the description of a store, with its serdes settled.

        Raises:
            UnknownStoreError: the topology has no store of that name.
        """
        stores = {**self._topology.stores, **self._topology.global_stores}
        if name not in stores:
            known = ", ".join(sorted(stores)) or "none; name one, as in count(name=…)"
            message = f"there is no store {name!r}; the topology's stores: {known}"
            raise UnknownStoreError(message)
        builder: StoreBuilder = stores[name]
        return builder.with_default_serdes(self._default_key_serde, self._default_value_serde)

    def store(
        self,
        name: str,
        *,
        key: Any = None,
        value: Any = None,
        windowed: bool | None = None,
        timestamped: bool = False,
        partition: int | None = None,
    ) -> Any:
        """Returns the read-only face of a store; that of a kind unknown here is what its spec makes.

        Args:
            name: the store.
            key: the type its keys must have; None for any.
            value: the type its values must have; None for any.
            windowed: whether it must be a window store; None for either.
            timestamped: give values as `ValueAndTimestamp`, where the store keeps them so.
            partition: read this partition only; None for all that are here.

        Raises:
            UnknownStoreError: the topology has no store of that name.
            TypeError: it is of another kind, or of other types.
            StoreNotReadyError: its tasks are not running yet.
            StoreMovedError: the partition is not here.
        """
        builder = self.builder(name)
        _refuse_kind(builder, windowed, needs_timestamps=timestamped and key is not None)
        assert builder.value_serde is not None
        assert builder.key_serde is not None
        _refuse_type(name, "key", key, builder.key_serde)
        _refuse_type(name, "value", value, builder.value_serde)
        unwrap = _value_of if builder.is_timestamped and not timestamped else _same

        def faces() -> Sequence[Any]:
            return self._faces(name, partition)

        faces()  # a store that cannot answer is told here, not at the first read
        if isinstance(builder.spec, CombinesFaces):
            return builder.spec.combined(name, faces)
        if builder.is_window:
            return CompositeWindowStore(name, faces, unwrap)
        return CompositeKeyValueStore(name, faces, builder.key_serde.serializer(name), unwrap)


def _refuse_kind(builder: StoreBuilder, windowed: bool | None, *, needs_timestamps: bool) -> None:
    """Refuses a store of another kind than it was asked for.

    Raises:
        TypeError: it is.
    """
    kind = f"store {builder.name!r} is a {builder.kind} store"
    if windowed is not None and builder.is_window is not windowed:
        remedy = "ask for it with windowed=True" if builder.is_window else "leave out windowed=True"
        message = f"{kind}: {remedy}"
        raise TypeError(message)
    if needs_timestamps and not builder.is_timestamped:
        message = f"{kind}, which keeps no timestamps: leave out timestamped=True"
        raise TypeError(message)


def _refuse_type(name: str, what: str, asked: Any, serde: Serde[Any]) -> None:
    """Refuses a type that the store's keys or values do not have.

    Raises:
        TypeError: its serde reads another.
    """
    if asked is None or may_be(serde.value_type, asked):
        return
    shown = type_name(serde.value_type)
    message = (
        f"the {what}s of store {name!r} are {shown} (serde {serde.name}), not "
        f"{type_name(asked)}: ask for {what}={shown}, or give the store the serde of the type"
    )
    raise TypeError(message)


def _same(value: Any) -> Any:
    return value


def _value_of(value: Any) -> Any:
    return value.value


class _Composite:
    """What both faces share: asking, merging, telling that a task is gone."""

    _where = " in this process"

    def __init__(self, name: str, faces: Faces, unwrap: Callable[[Any], Any]) -> None:
        self._name = name
        self._faces = faces
        self._unwrap = unwrap

    @property
    def name(self) -> str:
        """The store's name."""
        return self._name

    def _refuse_none(self, key: object) -> None:
        if key is None:
            message = f"a key cannot be None (store {self._name!r})"
            raise ValueError(message)

    def _first(self, read: Callable[[Any], Any]) -> Any:
        """Returns the first answer that is not None, of the tasks in turn."""
        for face in self._faces():
            try:
                value = read(face)
            except StoreClosedError as error:
                raise self._moved() from error
            if value is not None:
                return self._unwrap(value)
        return None

    def _scan(
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
            raise self._moved() from error
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
            raise self._moved() from error

    def _moved(self) -> StoreMovedError:
        message = f"store {self._name!r} was closed or moved while it was read; ask again"
        return StoreMovedError(message)


def _one_after_another(scans: Sequence[Iterator[T]]) -> Iterator[T]:
    for scan in scans:
        yield from scan


class CompositeKeyValueStore(_Composite, ReadOnlyKeyValueStore[K, V]):
    """Reads of a key-value store over all tasks of this process.

    Args:
        name: the store.
        faces: its tasks' faces at the moment of the call.
        encode_key: key -> the bytes that give the order.
        unwrap: stored value -> value as returned.
    """

    def __init__(
        self,
        name: str,
        faces: Faces,
        encode_key: Callable[[Any], bytes],
        unwrap: Callable[[Any], Any] = _same,
    ) -> None:
        super().__init__(name, faces, unwrap)
        self._encode_key = encode_key

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """Returns the value of a key, `default` when no task has it."""
        self._refuse_none(key)
        found = self._first(lambda face: face.get(key))
        return default if found is None else found

    def range(self, lower: K | None, upper: K | None) -> KeyValueIterator[K, V]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""
        return self._scan(lambda face: face.range(lower, upper), self._ascending)

    def reverse_range(self, lower: K | None, upper: K | None) -> KeyValueIterator[K, V]:
        """Scans as `range`, highest key first."""
        return self._scan(lambda face: face.reverse_range(lower, upper), self._descending)

    def all(self) -> KeyValueIterator[K, V]:
        """Scans every key."""
        return self._scan(lambda face: face.all(), self._ascending)

    def reverse_all(self) -> KeyValueIterator[K, V]:
        """Scans every key, highest first."""
        return self._scan(lambda face: face.reverse_all(), self._descending)

    def prefix_scan(self, prefix: K | bytes) -> KeyValueIterator[K, V]:
        """Scans keys whose bytes begin with `prefix`, given as bytes or as a key."""
        self._refuse_none(prefix)
        return self._scan(lambda face: face.prefix_scan(prefix), self._ascending)

    def approximate_num_entries(self) -> int:
        """Estimates the number of rows of all tasks, without what is cached."""
        try:
            total: int = sum(face.approximate_num_entries() for face in self._faces())
        except StoreClosedError as error:
            raise self._moved() from error
        return min(total, _MOST_ENTRIES)

    def _ascending(self, scans: Sequence[Iterator[Any]]) -> Iterator[Any]:
        return heapq.merge(*scans, key=self._order)

    def _descending(self, scans: Sequence[Iterator[Any]]) -> Iterator[Any]:
        return heapq.merge(*scans, key=self._order, reverse=True)

    def _order(self, row: tuple[Any, Any]) -> bytes:
        return self._encode_key(row[0])


class CompositeWindowStore(_Composite, ReadOnlyWindowStore[K, V]):
    """Reads of a window store over all tasks of this process.

    Times are window starts, epoch milliseconds or datetimes, both ends included.
    """

    def __init__(self, name: str, faces: Faces, unwrap: Callable[[Any], Any] = _same) -> None:
        super().__init__(name, faces, unwrap)

    @overload
    def fetch(self, key: K, start_ms: int | datetime, /) -> V | None: ...
    @overload
    def fetch(
        self, key: K, from_ms: int | datetime, to_ms: int | datetime, /
    ) -> WindowStoreIterator[V]: ...
    def fetch(
        self, key: K, from_ms: int | datetime, to_ms: int | datetime | None = None, /
    ) -> V | WindowStoreIterator[V] | None:
        """Returns the value of one window, or scans a key's windows between two starts."""
        self._refuse_none(key)
        start = epoch_ms(from_ms)
        if to_ms is None:
            found: V | None = self._first(lambda face: face.fetch(key, start))
            return found
        end = epoch_ms(to_ms)
        return self._scan(lambda face: face.fetch(key, start, end), _one_after_another)

    def backward_fetch(
        self, key: K, from_ms: int | datetime, to_ms: int | datetime
    ) -> WindowStoreIterator[V]:
        """Scans a key's windows, newest first."""
        self._refuse_none(key)
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self._scan(lambda face: face.backward_fetch(key, start, end), _one_after_another)

    def fetch_range(
        self, lower: K | None, upper: K | None, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self._scan(
            lambda face: face.fetch_range(lower, upper, start, end), _one_after_another
        )

    def backward_fetch_range(
        self, lower: K | None, upper: K | None, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_range`, in reverse."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self._scan(
            lambda face: face.backward_fetch_range(lower, upper, start, end), _one_after_another
        )

    def fetch_all(
        self, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the windows of all keys."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self._scan(lambda face: face.fetch_all(start, end), _one_after_another)

    def backward_fetch_all(
        self, from_ms: int | datetime, to_ms: int | datetime
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_all`, in reverse."""
        start, end = epoch_ms(from_ms), epoch_ms(to_ms)
        return self._scan(lambda face: face.backward_fetch_all(start, end), _one_after_another)

    def all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live row."""
        return self._scan(lambda face: face.all(), _one_after_another)

    def backward_all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live row, in reverse."""
        return self._scan(lambda face: face.backward_all(), _one_after_another)
