"""The stores of the test driver, as a test reads and writes them.

Owns their types and which requests are refused. It must not know how records come into them.

Source: JVM `TopologyTestDriver.getStateStore` and its typed kin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, overload

from thalweg.stores.api import (
    Dump,
    KeyValueStore,
    TaskStore,
    ValueAndTimestamp,
    VersionedKeyValueStore,
    WindowStore,
)
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.record import RawRecord
from thalweg.stores.session_faces import SessionStore
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import UnknownStoreError
from thalweg.streams.queries.kinds.known import kind_of
from thalweg.streams.queries.service import refuse_kind, refuse_types
from thalweg.streams.tasks.active_task import ActiveTask
from thalweg.topology.physical import Topology

K = TypeVar("K")
V = TypeVar("V")


class DriverStores(ABC):
    """The stores of a driver's tasks.

    Attributes:
        config: the application's settings.
    """

    config: StreamsConfig
    _topology: Topology

    @property
    @abstractmethod
    def _tasks(self) -> list[ActiveTask]:
        """The driver's tasks, that of global stores first."""

    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["key-value"] = ...,
        timestamped: Literal[False] = ...,
    ) -> KeyValueStore[K, V]: ...

    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["key-value"] = ...,
        timestamped: Literal[True],
    ) -> KeyValueStore[K, ValueAndTimestamp[V]]: ...

    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["window"],
        timestamped: Literal[False] = ...,
    ) -> WindowStore[K, V]: ...

    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["window"],
        timestamped: Literal[True],
    ) -> WindowStore[K, ValueAndTimestamp[V]]: ...

    @overload
    def store(
        self, name: str, *, key: type[K], value: type[V], kind: Literal["session"]
    ) -> SessionStore[K, V]: ...

    @overload
    def store(
        self, name: str, *, key: type[K], value: type[V], kind: Literal["versioned"]
    ) -> VersionedKeyValueStore[K, V]: ...

    @overload
    def store(self, name: str) -> Any: ...

    def store(
        self,
        name: str,
        *,
        key: object = None,
        value: object = None,
        kind: str = "key-value",
        timestamped: bool = False,
    ) -> Any:
        """Returns a store of its kind, for reading and writing as a processor would.

        With `key` and `value` a type checker knows what it is, and the driver checks it.

        Example:
            >>> driver.store("counts", key=str, value=int, timestamped=True)["river"].value
            12

        Args:
            name: the store.
            key: the type of its keys. Goes with `value`.
            value: the type of its values, without the timestamp.
            kind: "key-value", "window", "session" or "versioned".
            timestamped: whether its values have their event time, as those of the DSL have.

        Raises:
            UnknownStoreError: there is no store of that name.
            TypeError: it is of another kind, or of other types.
            ValueError: there is no such kind.
        """
        store = self._store(name)
        if key is None and value is None:
            return store
        builder = self._builder(name)
        refuse_kind(builder, kind)
        if timestamped is not kind_of(builder).gives_timestamps(builder):
            remedy = "leave out timestamped=True" if timestamped else "ask with timestamped=True"
            stamps = "no timestamps" if timestamped else "timestamps"
            message = f"store {name!r} keeps {stamps} beside its values: {remedy}"
            raise TypeError(message)
        refuse_types(builder, key, value)
        return store

    def _builder(self, name: str) -> StoreBuilder:
        topology, config = self._topology, self.config
        builder: StoreBuilder = topology.stores.get(name) or topology.global_stores[name]
        return builder.with_default_serdes(config.default_key_serde, config.default_value_serde)

    def get_state_store(self, name: str) -> Any:
        """Returns a store, as `store` without types does.

        Raises:
            UnknownStoreError: there is no store of that name.
        """
        return self._store(name)

    def get_all_state_stores(self) -> dict[str, Any]:
        """Returns all stores by name, global ones too."""
        found: dict[str, Any] = {}
        for task in self._tasks:
            found.update(task.stores)
        return found

    def _store(self, name: str) -> TaskStore:
        stores = self.get_all_state_stores()
        if name not in stores:
            known = ", ".join(sorted(stores)) or "none"
            message = f"there is no store {name!r}; the topology's stores: {known}"
            raise UnknownStoreError(message)
        store: TaskStore = stores[name]
        return store

    def store_entries(self, name: str) -> Dump:
        """Returns the kind of a store and its rows below cache and logging, as hex.

        Rows are in the store's own order; see `dump` of the stores.
        """
        return self._store(name).dump()

    def restore_entries(self, name: str, records: Sequence[RawRecord]) -> None:
        """Restores a store from the records of its changelog."""
        self._store(name).restore(records)
