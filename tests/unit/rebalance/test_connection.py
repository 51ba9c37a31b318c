"""Connections, to a socket that answers as a broker would."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kio.schema.api_versions.v0 import response as versions_schema
from kio.schema.find_coordinator.v4 import response as find_schema

from tests.unit.rebalance.answers import encoded
from thalweg.rebalance.connection import BrokerConnection
from thalweg.rebalance.connection_settings import ConnectionSettings
from thalweg.rebalance.errors import (
    Code,
    RefusedError,
    UnreachableError,
    UnsupportedBrokerError,
)
from thalweg.rebalance.messages import (
    FIND_COORDINATOR,
    HEARTBEAT,
    OFFSET_COMMIT,
    Api,
)

API_VERSIONS = 18
KNOWN = {API_VERSIONS: (0, 4), 8: (2, 10), 9: (1, 10), 10: (0, 6), 88: (0, 0), 89: (0, 0)}

Answer = Callable[[int, bytes], "bytes | None"]


class Broker:
    """A listening socket; what it answers is up to the test.

    Args:
        known: API key -> oldest and newest version it offers.
    """

    def __init__(self, known: dict[int, tuple[int, int]] | None = None) -> None:
        self.known = known or KNOWN
        self.port = 0
        self.is_silent = False
        self.connections = 0
        self.frames: list[bytes] = []
        self.requests: list[tuple[int, int, bytes]] = []
        self.coordinator: dict[str, Any] = {}
        self.answer: Answer = lambda _key, body: body
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Closes all connections, and goes on listening."""
        for writer in list(self._writers):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    (size,) = struct.unpack(">i", await reader.readexactly(4))
                    await self._take(await reader.readexactly(size), writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _take(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        if self.is_silent:
            return
        self.frames.append(frame)
        key, version, correlation, name = struct.unpack(">hhih", frame[:10])
        is_flexible = key != API_VERSIONS
        body = frame[10 + name + (1 if is_flexible else 0) :]
        header = struct.pack(">i", correlation) + (b"\0" if is_flexible else b"")
        if key == API_VERSIONS:
            answer: bytes | None = encoded(
                versions_schema.ApiVersionsResponse,
                api_keys=[
                    {"api_key": known, "min_version": low, "max_version": high}
                    for known, (low, high) in self.known.items()
                ],
            )
        else:
            self.requests.append((key, version, body))
            answer = self._found() if key == FIND_COORDINATOR.key else self.answer(key, body)
        if answer is not None:
            writer.write(struct.pack(">i", len(header) + len(answer)) + header + answer)
            await writer.drain()

    def _found(self) -> bytes:
        at = {"key": "g", "node_id": 1, "host": "127.0.0.1", "port": self.port, "error_message": ""}
        return encoded(
            find_schema.FindCoordinatorResponse, coordinators=[{**at, **self.coordinator}]
        )


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    one = Broker()
    await one.start()
    yield one
    await one.stop()


def connection(*brokers: Broker, **more: Any) -> BrokerConnection:
    servers = tuple(("127.0.0.1", one.port) for one in brokers)
    return BrokerConnection(ConnectionSettings(servers, **{"setup_timeout_ms": 5_000, **more}))


async def test_a_body_goes_to_the_coordinator_and_an_answer_comes_back(broker: Broker) -> None:
    one = connection(broker)
    await one.find_coordinator("g")

    assert await one.request(HEARTBEAT, b"hello", 5_000) == b"hello"
    assert await one.request(OFFSET_COMMIT, b"again", 5_000) == b"again"

    assert [(key, version) for key, version, _ in broker.requests] == [(10, 4), (88, 0), (8, 9)]
    assert broker.connections == 1, "one socket for all requests to one broker"
    await one.close()


async def test_a_frame_is_the_golden_header_and_the_body(broker: Broker) -> None:
    """Key 88, version 0, correlation 7, client id "py": generated from Kafka's own schema."""
    one = connection(broker, client_id="py")
    await one.find_coordinator("g")
    for number in range(3, 8):
        await one.request(HEARTBEAT, b"body %d" % number, 5_000)

    assert broker.frames[-1] == bytes.fromhex("00580000000000070002707900") + b"body 7"
    await one.close()


async def test_a_request_needs_a_coordinator(broker: Broker) -> None:
    one = connection(broker)

    with pytest.raises(UnreachableError, match="coordinator is not known"):
        await one.request(HEARTBEAT, b"", 5_000)
    assert broker.connections == 0


async def test_a_coordinator_elsewhere_is_connected_to(broker: Broker) -> None:
    other = Broker()
    await other.start()
    broker.coordinator = {"port": other.port}
    one = connection(broker)
    await one.find_coordinator("g")

    await one.request(HEARTBEAT, b"x", 5_000)

    assert [key for key, _, _ in other.requests] == [88]
    await one.close()
    await other.stop()


async def test_a_group_without_a_coordinator_is_told(broker: Broker) -> None:
    broker.coordinator = {"error_code": 15, "error_message": "later", "port": -1}
    one = connection(broker)

    with pytest.raises(RefusedError, match=r"COORDINATOR_NOT_AVAILABLE \(15\): later") as caught:
        await one.find_coordinator("g")

    assert caught.value.code == Code.COORDINATOR_NOT_AVAILABLE
    assert caught.value.retriable
    await one.close()


async def test_another_broker_is_asked_when_the_first_is_gone(broker: Broker) -> None:
    gone = Broker()
    await gone.start()
    await gone.stop()
    one = connection(gone, broker)

    await one.find_coordinator("g")

    assert broker.connections == 1
    await one.close()


async def test_brokers_that_are_gone_are_all_named() -> None:
    gone = [Broker(), Broker()]
    for each in gone:
        await each.start()
    for each in gone:
        await each.stop()

    with pytest.raises(UnreachableError) as caught:
        await connection(*gone).find_coordinator("g")

    for each in gone:
        assert f"the broker at 127.0.0.1:{each.port} cannot be reached" in caught.value.message


async def test_a_connection_that_was_cut_is_made_again(broker: Broker) -> None:
    one = connection(broker)
    await one.find_coordinator("g")
    broker.answer = lambda _key, _body: None
    waiting = asyncio.create_task(one.request(HEARTBEAT, b"lost", 5_000))
    while len(broker.requests) < 2:
        await asyncio.sleep(0)
    await broker.cut()
    with pytest.raises(UnreachableError, match="closed the connection"):
        await waiting
    broker.answer = lambda _key, body: body

    assert await one.request(HEARTBEAT, b"found", 5_000) == b"found"
    assert broker.connections == 2
    await one.close()


async def test_an_answer_that_does_not_come_is_not_taken_for_the_next(broker: Broker) -> None:
    one = connection(broker)
    await one.find_coordinator("g")
    broker.answer = lambda _key, _body: None
    with pytest.raises(UnreachableError, match="does not answer StreamsGroupHeartbeat within 50"):
        await one.request(HEARTBEAT, b"first", 50)
    broker.answer = lambda _key, body: body

    assert await one.request(HEARTBEAT, b"second", 5_000) == b"second"
    assert broker.connections == 2
    await one.close()


async def test_who_waits_on_a_connection_that_hangs_is_told(broker: Broker) -> None:
    one = connection(broker)
    await one.find_coordinator("g")
    broker.answer = lambda _key, _body: None
    other = asyncio.create_task(one.request(OFFSET_COMMIT, b"", 5_000))
    with pytest.raises(UnreachableError, match="does not answer"):
        await one.request(HEARTBEAT, b"", 50)

    with pytest.raises(UnreachableError, match="hangs"):
        await other
    await one.close()


async def test_a_request_that_is_given_up_leaves_no_answer_behind(broker: Broker) -> None:
    one = connection(broker)
    await one.find_coordinator("g")
    broker.answer = lambda _key, _body: None
    given_up = asyncio.create_task(one.request(HEARTBEAT, b"", 5_000))
    while len(broker.requests) < 2:
        await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    broker.answer = lambda _key, body: body

    assert await one.request(HEARTBEAT, b"mine", 5_000) == b"mine"
    await one.close()


@pytest.mark.parametrize(
    ("missing", "api", "words"),
    [
        ({88: None}, HEARTBEAT, "does not know streams groups"),
        ({8: (2, 8)}, OFFSET_COMMIT, "does not know OffsetCommit version 9"),
    ],
)
async def test_a_broker_that_is_too_old_is_told_by_the_version_it_must_have(
    missing: dict[int, Any], api: Api, words: str
) -> None:
    known = {key: missing.get(key, versions) for key, versions in KNOWN.items()}
    old = Broker({key: versions for key, versions in known.items() if versions is not None})
    await old.start()
    one = connection(old)
    await one.find_coordinator("g")

    with pytest.raises(UnsupportedBrokerError, match=words) as caught:
        await one.request(api, b"", 5_000)

    assert "must be Kafka 4.2.1 or newer" in caught.value.message
    await one.close()
    await old.stop()


async def test_a_socket_that_says_nothing_is_given_up(broker: Broker) -> None:
    broker.is_silent = True

    with pytest.raises(UnreachableError, match="does not answer within 100 ms"):
        await connection(broker, setup_timeout_ms=100).find_coordinator("g")
