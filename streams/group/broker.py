"""A worker as a member of a group that a broker coordinates.

Owns the connection between `rebalance`, which speaks the protocol and knows no tasks, and the
worker with its transport: events become assignments, offsets are committed through the member,
errors become errors of `streams`. It must not know the protocol.

Source: JVM `DefaultStreamsRebalanceListener`, `StreamThread.handleStreamsRebalanceData`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

from thalweg.rebalance.connection import BrokerConnection
from thalweg.rebalance.connection_settings import ConnectionSettings
from thalweg.rebalance.errors import AuthenticationError as NotLetIn
from thalweg.rebalance.errors import (
    Code,
    ConnectionSettingsError,
    MembershipLostError,
    RebalanceError,
    RefusedError,
    TopologyRefusedError,
    UnreachableError,
)
from thalweg.rebalance.errors import MissingTopicsError as MissingTopics
from thalweg.rebalance.errors import UnsupportedBrokerError as UnsupportedBroker
from thalweg.rebalance.events import (
    Assigned,
    Event,
    Fatal,
    Lost,
    ShutdownRequested,
)
from thalweg.rebalance.heartbeat_thread import GroupClient
from thalweg.rebalance.values import (
    Endpoint,
    EndpointPartitions,
    MemberSettings,
    new_id,
)
from thalweg.streams.clock import Clock
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import (
    ApplicationShutdownError,
    AuthenticationError,
    BrokerError,
    ConfigError,
    GroupError,
    MissingTopicsError,
    StreamsError,
    TaskMigratedError,
    TopologyError,
    UnsupportedBrokerError,
)
from thalweg.streams.group.member import Assignment, GroupChange, GroupMember
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.kafka.group_metadata import MemberIdentity
from thalweg.streams.transport.port import OffsetAndMetadata, TopicPartition
from thalweg.topology.subtopologies import Subtopology

_LEAVE_AWAY_MS: Final = 500
"""How long to try to say good-bye to a coordinator that has not answered lately."""

_NOT_AWAY: Final = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.REBALANCE_IN_PROGRESS,
        Code.UNSTABLE_OFFSET_COMMIT,
        Code.STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED,
    }
)
"""Retriable codes of a coordinator that is there; the others say that it is elsewhere, not ready,
or cannot reach its own log."""

_log = logging.getLogger(__name__)


class BrokerMember(GroupMember):
    """Membership in a streams group (KIP-1071), and the group's offsets for the transport.

    Args:
        parts: the subtopologies without global stores.
        config: the application's settings.
        clock: where time and identifiers come from.
        process_id: the same for all members of this process.
        endpoint: where this instance answers queries, None if it does not.

    Raises:
        ConfigError: a setting of the connection is unknown or wrong.
        TopologyError: a source reads by a pattern.
    """

    def __init__(
        self,
        parts: Sequence[Subtopology],
        config: StreamsConfig,
        clock: Clock,
        *,
        process_id: str,
        endpoint: Endpoint | None = None,
    ) -> None:
        _refuse_patterns(parts)
        self._clock = clock
        self._group_id = config.application_id
        self._held = Assignment()
        settings = MemberSettings(
            group_id=config.application_id,
            member_id=new_id(clock.random),
            process_id=process_id,
            subtopology_ids=frozenset(str(part.id) for part in parts),
            endpoint=endpoint,
        )
        connection = connection_of(config, f"{settings.group_id}-{settings.member_id}")
        self._client = GroupClient(
            settings,
            parts,
            BrokerConnection(connection),
            monotonic_ms=clock.monotonic_ms,
            randomness=clock.random,
        )

    # -- membership ----------------------------------------------------------------------

    def start(self) -> None:
        """Joins the group and returns when the coordinator has let the member in.

        Waits for a coordinator that is away. Returns without it when it is interrupted.

        Raises:
            BrokerError: the brokers refuse the credentials.
            GroupError: the broker refuses the group.
            UnsupportedBrokerError: it is too old, or streams groups are switched off.
            TopologyError: the broker refuses the topology.
        """
        try:
            self._client.start(timeout_ms=None)
        except RebalanceError as error:
            _raise(error)

    def poll(self, now_ms: float) -> GroupChange | None:
        """Returns what changed; to be called in each round, or the group takes the tasks away.

        Raises:
            GroupError: the member cannot go on.
            ApplicationShutdownError: a member asked all to shut down.
            BrokerError: the coordinator refuses for the moment.
            TopologyError: the topology does not fit its topics, or is not the group's.
            MissingTopicsError: source topics do not exist.
        """
        self._client.note_poll(self._clock.monotonic_ms())
        change = None
        for event in self._client.poll():
            change = self._change(event) or change
        return change

    def _change(self, event: Event) -> GroupChange | None:
        # Statuses, refusals and losses are logged where they are heard.
        match event:
            case Assigned(tasks=tasks):
                assignment = Assignment(
                    frozenset(TaskId(int(one[0]), one[1]) for one in tasks.active),
                    frozenset(TaskId(int(one[0]), one[1]) for one in tasks.standby),
                )
                return GroupChange(assignment)
            case Lost():
                return GroupChange(Assignment(), is_lost=True)
            case ShutdownRequested():
                message = (
                    f"a member of group {self._group_id!r} asked all instances to shut down; its "
                    "log says why"
                )
                raise ApplicationShutdownError(message)
            case Fatal(error=error):
                _raise(error)
            case _:
                pass
        return None

    def while_waiting(self, call: Callable[[], None]) -> None:
        """Sets what is called now and then while a question about offsets waits for its answer."""
        self._client.on_wait = call

    def interrupt(self) -> None:
        """Lets `start` return, although the group has not answered yet; for any thread."""
        self._client.interrupt()

    def acknowledge(self, assignment: Assignment) -> None:
        """Tells the group what runs now; what it took away is committed and closed."""
        self._client.acknowledge(
            [(str(task.subtopology), task.partition) for task in assignment.active],
            [
                (str(task.subtopology), task.partition)
                for task in assignment.standby - assignment.active
            ],
        )

    @property
    def is_ready(self) -> bool:
        """Whether the group assigns tasks; not while topics are missing."""
        return self._client.is_ready

    @property
    def is_in_touch(self) -> bool:
        """Whether the coordinator has answered lately."""
        return self._client.is_in_touch

    def prepare_leave(self) -> None:
        """Takes no new tasks any more; offsets can still be committed."""
        self._client.prepare_leave()

    def request_shutdown(self) -> None:
        """Asks all instances of the application to shut down."""
        self._client.request_shutdown()

    def leave(self) -> None:
        """Leaves the group; the others get the tasks at once."""
        if self._client.is_in_touch:
            self._client.leave()
        else:  # nobody hears the good-bye
            self._client.leave(_LEAVE_AWAY_MS)

    def endpoints(self) -> Mapping[Endpoint, EndpointPartitions]:
        """Returns which instance has which partitions; any thread may ask."""
        return self._client.endpoints()

    # -- offsets, for the transport ------------------------------------------------------

    def committed(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Returns committed positions; partitions without are left out.

        Raises:
            TaskMigratedError: not a member any more.
            BrokerError: they cannot be had.
        """
        try:
            found = self._client.fetch_offsets(
                [(topic, partition) for topic, partition in partitions]
            )
        except RebalanceError as error:
            _raise(error)
        return {
            TopicPartition(*partition): OffsetAndMetadata(known.offset, known.metadata or "")
            for partition, known in found.items()
        }

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Makes positions last.

        Raises:
            TaskMigratedError: not a member any more, or its tasks belong to others.
            BrokerError: it is not known whether the commit happened, or it did not.
        """
        try:
            self._client.commit_offsets(
                {
                    (topic, partition): (position.offset, position.metadata)
                    for (topic, partition), position in offsets.items()
                }
            )
        except RebalanceError as error:
            _raise(error)

    def identity(self) -> MemberIdentity:
        """Returns who commits at this moment.

        Raises:
            TaskMigratedError: not a member any more.
        """
        identity = self._client.identity()
        if not identity.is_member:
            message = f"this worker is not a member of group {self._group_id!r} any more"
            raise TaskMigratedError(message)
        return MemberIdentity(self._group_id, identity.member_id, identity.epoch)


def _refuse_patterns(parts: Sequence[Subtopology]) -> None:
    """Refuses what brokers up to 4.4 refuse as an invalid request, in words that help."""
    patterns = [pattern for part in parts for pattern in part.source_topic_regex]
    if patterns:
        shown = ", ".join(map(repr, patterns))
        message = (
            f"a source reads topics by the pattern {shown}, which Kafka's streams groups do not "
            "support: give stream() the names of the topics, or run on the embedded log, without "
            "bootstrap_servers"
        )
        raise TopologyError(message)


def connection_of(config: StreamsConfig, client_id: str) -> ConnectionSettings:
    """Returns the settings of a connection to the group: what was given for any of the clients.

    Raises:
        ConfigError: one of them is unknown or wrong.
    """
    configs: dict[str, Any] = {
        **config.admin_configs,
        **config.producer_configs,
        **config.consumer_configs,
        "bootstrap.servers": config.bootstrap_servers,
        "client.id": client_id,
    }
    try:
        return ConnectionSettings.from_configs(configs)
    except ConnectionSettingsError as error:
        raise ConfigError(error.message) from error


def _raise(error: RebalanceError) -> NoReturn:
    """Raises our error for one of the group's, which says the same: it is no cause to be shown."""
    raise translated(error) from None


def translated(error: RebalanceError) -> StreamsError:
    """Returns our error for one of the group's."""
    if isinstance(error, MembershipLostError):
        return TaskMigratedError(error.message)
    if isinstance(error, MissingTopics):
        return MissingTopicsError(error.message)
    if isinstance(error, UnreachableError):
        return BrokerError(error.message, retriable=True, is_away=True)
    if isinstance(error, NotLetIn):
        kind = BrokerError if error.was_let_in else AuthenticationError
        return kind(error.message)
    if isinstance(error, TopologyRefusedError):
        return TopologyError(error.message)
    if isinstance(error, UnsupportedBroker):
        return UnsupportedBrokerError(error.message)
    if isinstance(error, RefusedError):
        if error.code == Code.STALE_MEMBER_EPOCH:
            # Heartbeats did not bring the newer epoch in time: what it owns is not known.
            return TaskMigratedError(error.message)
        where: dict[str, Any] = {"topic": error.topic, "partition": error.partition}
        if error.retriable:
            is_away = error.code not in _NOT_AWAY
            return BrokerError(error.message, retriable=True, is_away=is_away, **where)
        return GroupError(error.message, **where)
    return GroupError(error.message)
