"""Streams groups as an administrator sees them: settings of one group, and who is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from kio.schema.incremental_alter_configs.v1 import request as alter
from kio.serial import entity_writer
from kio.static.primitive import i8

from tests.broker.broker import INTERVAL_MS
from tests.waiting import HANG_S
from thalweg.rebalance.connection import BrokerConnection
from thalweg.rebalance.connection_settings import ConnectionSettings
from thalweg.rebalance.describe import describe_group
from thalweg.rebalance.description import GroupDescription
from thalweg.rebalance.errors import Code, RebalanceError, RefusedError
from thalweg.rebalance.messages import Api

_GROUP: Final = i8(32)
"""The resource type; confluent-kafka's own number for it is that of access control."""
_SET: Final = i8(0)

_ATTEMPTS: Final = 1_000
_PAUSE_S: Final = 0.1
"""A new broker makes the topic of its groups when the first is asked for."""


def exchange(configs: Mapping[str, Any], group: str, api: Api, body: bytes) -> bytes:
    """Sends one request to the coordinator of a group, from outside of any member."""

    async def find(connection: BrokerConnection) -> None:
        for _ in range(_ATTEMPTS):
            try:
                return await connection.find_coordinator(group)
            except RebalanceError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(_PAUSE_S)
        return await connection.find_coordinator(group)

    async def send() -> bytes:
        connection = BrokerConnection(ConnectionSettings.from_configs(configs))
        try:
            await find(connection)
            return await connection.request(api, body, HANG_S * 1_000)
        finally:
            await connection.close()

    return asyncio.run(send())


def configure_group(configs: Mapping[str, Any], group: str, **values: int) -> None:
    """Changes settings of one group, which may be empty or yet to come.

    A group that has a setting of its own has Kafka's own heartbeats unless it is told others.

    Args:
        configs: client settings by librdkafka's names.
        group: the group.
        values: by name with underscores, without `streams.` in front.
    """
    resource = alter.AlterConfigsResource(
        resource_type=_GROUP,
        resource_name=group,
        configs=tuple(
            alter.AlterableConfig(
                name=f"streams.{name.replace('_', '.')}", config_operation=_SET, value=str(value)
            )
            for name, value in {"heartbeat_interval_ms": INTERVAL_MS, **values}.items()
        ),
    )
    body = BytesIO()
    entity_writer(alter.IncrementalAlterConfigsRequest)(
        body, alter.IncrementalAlterConfigsRequest(resources=(resource,), validate_only=False)
    )
    answered = exchange(configs, group, Api("IncrementalAlterConfigs", 44, 1), body.getvalue())
    assert answered[5:7] == b"\0\0", answered


def described(servers: str, group: str) -> GroupDescription | None:
    """Returns the group as its coordinator sees it now, None if there is none yet."""
    settings = ConnectionSettings.from_configs({"bootstrap.servers": servers, "client.id": "tests"})
    try:
        return describe_group(settings, group)
    except RefusedError as error:
        if error.code == Code.GROUP_ID_NOT_FOUND:
            return None
        raise


def committed(servers: str, group: str) -> dict[tuple[str, int], tuple[int, str]]:
    """Returns (topic, partition) -> committed offset and the metadata beside it.

    confluent-kafka reads beyond the end of metadata, so that it cannot be asked.
    """

    async def ask() -> dict[tuple[str, int], tuple[int, str]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        return {tuple(at): (known.offset, known.metadata) for at, known in found.items()}

    return asyncio.run(ask())
