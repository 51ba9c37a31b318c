"""Requests the description of a group from its coordinator, as a member or from outside.

Owns the request, and how long it is repeated while the coordinator is not ready. It must not know
what the answer is for.

Source: JVM `KafkaAdminClient.describeStreamsGroups`; kip1071 reference 1.5.
"""

from __future__ import annotations

import asyncio
from typing import Final

from thalweg.rebalance.connection import BrokerConnection, Connection
from thalweg.rebalance.connection_settings import SETUP_TIMEOUT_MS, ConnectionSettings
from thalweg.rebalance.description import GroupDescription
from thalweg.rebalance.errors import (
    RebalanceError,
    RefusedError,
    UnreachableError,
    code_name,
)
from thalweg.rebalance.messages import DESCRIBE, decode_describe, encode_describe

_PAUSE_SECONDS: Final = 0.1
"""Between two looks for a coordinator that is not there yet."""


def describe_group(
    settings: ConnectionSettings, group_id: str, timeout_ms: float = SETUP_TIMEOUT_MS
) -> GroupDescription:
    """Asks for a group without being a member of it. Blocks; not for a running event loop.

    Raises:
        RefusedError: the coordinator refuses, or there is no such group.
        RebalanceError: as `Connection.request`.
    """

    async def ask() -> GroupDescription:
        connection = BrokerConnection(settings)
        try:
            return await describe_within(connection, group_id, timeout_ms)
        finally:
            await connection.close()

    return asyncio.run(ask())


async def describe(connection: Connection, group_id: str, timeout_ms: float) -> GroupDescription:
    """Asks once for a group.

    Raises:
        RefusedError: the coordinator refuses, or there is no such group.
        RebalanceError: as `Connection.request`.
    """
    body = await connection.request(DESCRIBE, encode_describe(group_id), timeout_ms)
    group = decode_describe(body)
    if group.code:
        said = f"{code_name(group.code)}{group.message and ': ' + group.message}"
        raise RefusedError(f"group {group_id!r} cannot be described, {said}", code=group.code)
    return group


async def describe_within(
    connection: Connection, group_id: str, timeout_ms: float
) -> GroupDescription:
    """Asks until there is an answer that is not a passing error, or time is up.

    Raises:
        RefusedError: the coordinator refuses, or there is no such group.
        RebalanceError: as `Connection.request`.
    """
    failure: RebalanceError | None = None
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            while True:
                try:
                    return await describe(connection, group_id, timeout_ms)
                except RebalanceError as error:
                    if not error.retriable:
                        raise
                    failure = failure or error
                    if isinstance(error, RefusedError):
                        await asyncio.sleep(_PAUSE_SECONDS)
                try:
                    await connection.find_coordinator(group_id)
                except RebalanceError as error:
                    if not error.retriable:
                        raise
                    failure = error
                    await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError as error:
        raise failure or UnreachableError(
            f"group {group_id!r} was not described within {timeout_ms:.0f} ms"
        ) from error
