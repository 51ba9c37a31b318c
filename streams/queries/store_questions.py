"""The public methods of `App` about stores.

Owns these methods, their types, their arguments and what they promise: reading stores, and which
instance has them. `ApplicationStores` answers them.

Source: JVM `KafkaStreams.store`, `metadataForAllStreamsClients`, `queryMetadataForKey`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, TypeVar, overload

from thalweg.stores.api import (
    ReadOnlyKeyValueStore,
    ReadOnlyVersionedKeyValueStore,
    ReadOnlyWindowStore,
    ValueAndTimestamp,
)
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.session_faces import ReadOnlySessionStore
from thalweg.streams.queries.application_stores import ApplicationStores
from thalweg.streams.queries.metadata import (
    GroupView,
    KeyQueryMetadata,
    StoreDirectory,
    StreamsMetadata,
)
from thalweg.streams.queries.position import Position
from thalweg.streams.queries.state_queries import Query, StateQueryResult

K = TypeVar("K")
R = TypeVar("R")
V = TypeVar("V")


class StoreQuestions:
    """What an application can be asked about its stores, from any thread."""

    _stores: ApplicationStores

    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[False] = ...,
        timestamped: Literal[False] = ...,
        partition: int | None = ...,
    ) -> ReadOnlyKeyValueStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[False] = ...,
        timestamped: Literal[True],
        partition: int | None = ...,
    ) -> ReadOnlyKeyValueStore[K, ValueAndTimestamp[V]]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[True],
        timestamped: Literal[False] = ...,
        partition: int | None = ...,
    ) -> ReadOnlyWindowStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        windowed: Literal[True],
        timestamped: Literal[True],
        partition: int | None = ...,
    ) -> ReadOnlyWindowStore[K, ValueAndTimestamp[V]]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["window"],
        timestamped: Literal[False] = ...,
        partition: int | None = ...,
    ) -> ReadOnlyWindowStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["window"],
        timestamped: Literal[True],
        partition: int | None = ...,
    ) -> ReadOnlyWindowStore[K, ValueAndTimestamp[V]]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["session"],
        partition: int | None = ...,
    ) -> ReadOnlySessionStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        kind: Literal["versioned"],
        partition: int | None = ...,
    ) -> ReadOnlyVersionedKeyValueStore[K, V]: ...
    @overload
    def store(
        self,
        name: str,
        *,
        windowed: bool | None = ...,
        kind: str | None = ...,
        timestamped: bool = ...,
        partition: int | None = ...,
    ) -> Any: ...
    def store(
        self,
        name: str,
        *,
        key: object = None,
        value: object = None,
        windowed: bool | None = None,
        kind: str | None = None,
        timestamped: bool = False,
        partition: int | None = None,
    ) -> Any:
        """Returns the read-only face of a store, over all its partitions in this process.

        A key-value store reads as a dict does, and answers `get range reverse_range prefix_scan
        all reverse_all approximate_num_entries`, a window store `fetch fetch_all …`; see
        `ReadOnlyKeyValueStore` and `ReadOnlyWindowStore`. Reads never wait for the worker and see
        updates that are still in the record cache. The face may be kept: it follows tasks that
        move.

        With `key` and `value` a type checker knows what the face returns:
        `app.store("counts", key=str, value=int)` is a `ReadOnlyKeyValueStore[str, int]`.

        Args:
            name: name of the store, as in `count(name=…)`.
            key: the type of its keys, of a window store without the window. Goes with `value`.
            value: the type of its values, without the timestamp.
            windowed: whether it is a window store. Where types are given it is not, unless this
                says so; else either.
            kind: what kind of store it is: "key-value", "window", "session" or "versioned". Not with
                `windowed`.
            timestamped: give values as `ValueAndTimestamp`, where the store keeps them so.
            partition: read this partition only, whether or not others are restored.

        Raises:
            UnknownStoreError: no such store; names those there are.
            TypeError: it is of another kind than `windowed` says, or its serdes read other
                types; or only one of `key` and `value` is given.
            StoreNotReadyError: not started, or restoring: ask again.
            StoreMovedError: the partition is not in this instance.
            AppStateError: the application was closed or has failed.
        """
        if (key is None) is not (value is None):
            message = f"store {name!r}: give both key= and value=, or neither"
            raise TypeError(message)
        if kind is not None and windowed is not None:
            message = f"store {name!r}: give windowed= or kind=, not both"
            raise TypeError(message)
        if windowed is not None:
            kind = "window" if windowed else "key-value"
        elif key is not None and kind is None:
            kind = "key-value"
        return self._stores.service.store(
            name,
            key=key,
            value=value,
            family=kind,
            timestamped=timestamped,
            partition=partition,
        )

    def query(
        self,
        store: str,
        query: Query[R],
        *,
        partitions: Collection[int] | None = None,
        position_bound: Position | None = None,
        require_active: bool = False,
        execution_info: bool = False,
    ) -> StateQueryResult[R]:
        """Asks the partitions of a store that are in this process, each by itself.

        Restoring and standby partitions answer too, unless `require_active`. A partition that does
        not answer says why. The store's kind tells which queries it answers; a value that is an
        iterator is to be closed.

        Example:
            >>> answer = app.query("counts", KeyQuery[str, int]("river"), partitions=[2])
            >>> answer.partitions[2].value
            12
            >>> later = app.query("counts", KeyQuery("rice"), position_bound=answer.position)

        Args:
            store: name of the store.
            query: what to ask, such as `KeyQuery` or `WindowRangeQuery`.
            partitions: ask these only; None for all that are here.
            position_bound: answer only from a partition that is as far as this. Not looked at with
                `require_active`: an active task is as far as any.
            require_active: answer only from a running, active task.
            execution_info: tell how the query was executed.

        Raises:
            UnknownStoreError: no such store; names those there are.
            StoreNotReadyError: the application is not started.
            AppStateError: the application was closed or has failed.

        Source: KIP-796; JVM `KafkaStreams.query`.
        """
        return self._stores.query(
            store,
            query,
            partitions=partitions,
            position_bound=position_bound,
            require_active=require_active,
            execution_info=execution_info,
        )

    @property
    def store_names(self) -> list[str]:
        """The names of the topology's stores, global ones among them."""
        return self._stores.names

    def store_builder(self, name: str) -> StoreBuilder:
        """Returns the description of a store: its kind, its serdes, how it is kept.

        Raises:
            UnknownStoreError: no such store; names those there are.
        """
        return self._stores.service.builder(name)

    @property
    def directory(self) -> StoreDirectory:
        """Who has which store, by what is known of the group; see `group_view`."""
        return self._stores.directory

    def group_view(self) -> GroupView:
        """Returns what this instance knows of its group now."""
        return self._stores.group_view()

    def metadata_for_all(self) -> list[StreamsMetadata]:
        """Returns what each instance of the application has, as far as known; this one first.

        Instances whose `application_server` is not set are not known to others.

        Source: JVM `KafkaStreams.metadataForAllStreamsClients`.
        """
        return self._stores.instances()

    def metadata_for_store(self, name: str) -> list[StreamsMetadata]:
        """Returns the instances that have active partitions of a store.

        Raises:
            UnknownStoreError: no such store; names those there are.

        Source: JVM `KafkaStreams.streamsMetadataForStore`.
        """
        return self._stores.instances_with(name)

    def key_query_metadata(self, name: str, key: Any) -> KeyQueryMetadata:
        """Returns which instance has the row of a key, by the default partitioner.

        Args:
            name: the store.
            key: the key, as the store's serde takes it.

        Raises:
            UnknownStoreError: no such store; names those there are.
            SerializationError: the store cannot have such a key.

        Source: JVM `KafkaStreams.queryMetadataForKey`.
        """
        return self._stores.owner_of_key(name, key)
