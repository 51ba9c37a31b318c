"""The stores of an application for its own process: rows, and which instance has which.

Owns how a store's name leads to its read-only face and to the instances that have it. It knows only
the state of the application: the worker is asked only while the application runs.

Source: JVM `KafkaStreams.store`, `metadataForAllStreamsClients`, `queryMetadataForKey`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from thalweg.rebalance.values import Endpoint
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import AppStateError, StoreNotReadyError
from thalweg.streams.life import Life, State
from thalweg.streams.queries.metadata import (
    GroupView,
    KeyQueryMetadata,
    StoreDirectory,
    StreamsMetadata,
)
from thalweg.streams.queries.position import Position
from thalweg.streams.queries.service import QueryService
from thalweg.streams.queries.state_queries import Query, StateQueryResult
from thalweg.streams.queries.state_query_service import StateQueryService
from thalweg.streams.tasks.queried import TaskTables, queried_stores
from thalweg.topology.physical import Topology
from thalweg.topology.subtopologies import subtopologies

R = TypeVar("R")


class StoreOwner(Protocol):
    """A worker, as far as its stores are asked for."""

    def stores(self, name: str, partition: int | None) -> Sequence[Any]:
        """Returns the read-only faces of a store's partitions."""
        ...

    def group_view(self, endpoint: Endpoint) -> GroupView:
        """Returns what it knows of the group."""
        ...

    @property
    def manager(self) -> TaskTables:
        """Its tasks."""
        ...


class ApplicationStores:
    """Answers questions about the stores of one application.

    Args:
        topology: the application's topology.
        config: its settings.
        life: its state.
        worker: returns its worker, None before the start.
        endpoint: returns where this instance answers queries.
    """

    def __init__(
        self,
        topology: Topology,
        config: StreamsConfig,
        life: Life,
        worker: Callable[[], StoreOwner | None],
        endpoint: Callable[[], Endpoint],
    ) -> None:
        self._topology = topology
        self._config = config
        self._life = life
        self._worker = worker
        self._endpoint = endpoint
        self._directory: StoreDirectory | None = None
        self.service = QueryService(
            topology, config.default_key_serde, config.default_value_serde, self._faces
        )
        self._state_queries = StateQueryService(
            lambda name: queried_stores(self._running_worker(name).manager, name),
            lambda name: self.directory.partition_count(name, self.group_view()),
        )

    def query(
        self,
        name: str,
        query: Query[R],
        *,
        partitions: Collection[int] | None,
        position_bound: Position | None,
        require_active: bool,
        execution_info: bool,
    ) -> StateQueryResult[R]:
        """Returns what the partitions of a store here answer.

        Raises:
            UnknownStoreError: no such store; names those there are.
            StoreNotReadyError: the application is not started.
            AppStateError: the application was closed or has failed.
        """
        builder = self.service.builder(name)
        self._running_worker(name)
        return self._state_queries.answer(
            builder,
            query,
            partitions=partitions,
            position_bound=position_bound,
            require_active=require_active,
            execution_info=execution_info,
        )

    @property
    def names(self) -> list[str]:
        """The names of the topology's stores, global ones among them."""
        return sorted({*self._topology.stores, *self._topology.global_stores})

    @property
    def directory(self) -> StoreDirectory:
        """Who has which store, by what is known of the group; see `group_view`."""
        directory = self._directory
        if directory is None:
            parts = subtopologies(self._topology, self._config.topology_config)
            directory = self._directory = StoreDirectory(self._topology, parts)
        return directory

    def group_view(self) -> GroupView:
        """Returns what this instance knows of its group now."""
        worker, endpoint = self._worker(), self._endpoint()
        if worker is None or not self._life.state.is_running_or_rebalancing:
            return GroupView(endpoint=endpoint)
        return worker.group_view(endpoint)

    def instances(self) -> list[StreamsMetadata]:
        """Returns what each instance of the application has, as far as known; this one first."""
        return self.directory.instances(self.group_view())

    def instances_with(self, name: str) -> list[StreamsMetadata]:
        """Returns the instances that have active partitions of a store.

        Raises:
            UnknownStoreError: no such store; names those there are.
        """
        self.service.builder(name)
        return [one for one in self.instances() if name in one.store_names]

    def owner_of_key(self, name: str, key: Any) -> KeyQueryMetadata:
        """Returns which instance has the row of a key, by the default partitioner.

        Raises:
            UnknownStoreError: no such store; names those there are.
            SerializationError: the store cannot have such a key.
        """
        builder = self.service.builder(name)
        assert builder.key_serde is not None
        raw_key = builder.key_serde.serializer(name)(key)
        return self.directory.key_metadata(name, raw_key, self.group_view())

    def _faces(self, name: str, partition: int | None) -> Sequence[Any]:
        return self._running_worker(name).stores(name, partition)

    def _running_worker(self, name: str) -> StoreOwner:
        """Returns the worker, while it can be asked.

        Raises:
            StoreNotReadyError: the application is not started.
            AppStateError: the application was closed or has failed.
        """
        state, worker = self._life.state, self._worker()
        if state is State.CREATED or (worker is None and state.is_running_or_rebalancing):
            message = f"store {name!r}: the application is not started; call start() first"
            raise StoreNotReadyError(message)
        if not state.is_running_or_rebalancing or worker is None:
            message = f"store {name!r}: the application is {state.name}"
            if self._life.error is not None:
                message += f", it failed: {self._life.error}"
            raise AppStateError(message) from self._life.error
        return worker
