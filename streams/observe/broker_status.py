"""The state of an application, from the coordinator of its group.

Owns the requests: the coordinator for the members and their tasks, then each member that answers
queries for what only it knows. Values and their form are those of `streams.observe.status`. It must
not know how they are drawn.

Source: KIP-1071, StreamsGroupDescribe.
"""

from __future__ import annotations

from thalweg.rebalance.describe import describe_group
from thalweg.rebalance.errors import Code, RebalanceError, RefusedError
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import GroupError
from thalweg.streams.group.broker import connection_of, translated
from thalweg.streams.observe.status import ApplicationStatus, instances_at, of_group


class GroupSource:
    """Asks the broker who is in the group, and each member for its own state.

    Args:
        config: the application's settings; `bootstrap_servers` names the cluster.

    Raises:
        ConfigError: a setting of the connection is unknown or wrong.
    """

    def __init__(self, config: StreamsConfig) -> None:
        self._group_id = config.application_id
        self._connection = connection_of(config, f"{config.application_id}-status")

    def status(self) -> ApplicationStatus:
        """Returns the status now; members that do not answer are in it.

        Raises:
            BrokerError: no broker answers, or it refuses the credentials.
            GroupError: there is no such group, or it may not be described.
        """
        try:
            group = describe_group(self._connection, self._group_id)
        except RefusedError as error:
            if error.code != Code.GROUP_ID_NOT_FOUND:
                raise translated(error) from error
            message = (
                f"there is no streams group {self._group_id!r}: no worker of the application has "
                "run on this cluster; check application_id and bootstrap_servers"
            )
            raise GroupError(message) from error
        except RebalanceError as error:
            raise translated(error) from error
        endpoints = {one.endpoint for one in group.members if one.endpoint is not None}
        return of_group(group, instances_at(endpoints, self._group_id))
