"""Connections to the brokers: the only use of aiokafka, and the only sockets of the group.

Owns connecting with TLS and SASL, finding the group's coordinator, sending bodies and waiting for
answers, and the errors of these. It must not know what the bodies mean.

aiokafka gives the connection of one socket (`AIOKafkaConnection`: versions, TLS, SASL, headers,
correlation); its client on top, which keeps metadata of all topics up to date, is not needed.
All requests to one broker share one socket, so they are answered in order.

Source: aiokafka 0.14 `aiokafka.conn`; kip1071 reference 1.1 and 7.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from abc import ABC, abstractmethod
from io import BytesIO
from typing import Any, Final

from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Schema

from thalweg.rebalance.connection_settings import ConnectionSettings
from thalweg.rebalance.errors import (
    AuthenticationError,
    RebalanceError,
    RefusedError,
    UnreachableError,
    UnsupportedBrokerError,
    code_name,
)
from thalweg.rebalance.messages import (
    FIND_COORDINATOR,
    HEARTBEAT,
    Api,
    decode_find_coordinator,
    encode_find_coordinator,
)
from thalweg.rebalance.refusals import BROKER_VERSION

_CLOSE_SECONDS: Final = 1.0
"""How long to wait for a peer that does not end its side of a connection."""

Address = tuple[str, int]
"""(host, port)."""


class Connection(ABC):
    """What a member needs of the network. Used from one event loop."""

    @abstractmethod
    async def find_coordinator(self, group_id: str) -> None:
        """Finds the group's coordinator and connects to it; knows it until the next call.

        Raises:
            RebalanceError: see `request`; a `RefusedError` if the group has none.
        """

    @abstractmethod
    async def request(self, api: Api, body: bytes, timeout_ms: float) -> bytes:
        """Sends a body to the coordinator and returns the body of the answer.

        Raises:
            UnreachableError: the coordinator is not known, or the connection broke, or the
                answer did not come in time. The broker may have taken the request all the same.
            AuthenticationError: this client is not let in.
            UnsupportedBrokerError: the broker does not know the request.
        """

    @abstractmethod
    async def close(self) -> None:
        """Closes all connections."""


class BrokerConnection(Connection):
    """Connections to the brokers of one cluster.

    Args:
        settings: where they are and how to be let in.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._connections: dict[Address, AIOKafkaConnection] = {}
        self._coordinator: Address | None = None
        self._connecting = asyncio.Lock()
        self._was_let_in = False

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext | None:
        tls = self._settings.tls
        return None if tls is None else tls.context()

    async def find_coordinator(self, group_id: str) -> None:
        """Asks a broker that answers, of those connected to and those in the settings."""
        self._coordinator = None
        broker = await self._any_broker()
        timeout_ms = self._settings.setup_timeout_ms
        body = encode_find_coordinator(group_id)
        found = decode_find_coordinator(
            await self._send(broker, FIND_COORDINATOR, body, timeout_ms)
        )
        if found.code:
            said = f"{code_name(found.code)}{found.message and ': ' + found.message}"
            raise RefusedError(
                f"the coordinator of group {group_id!r} cannot be found, {said}", code=found.code
            )
        await self._connect((found.host, found.port))
        self._coordinator = (found.host, found.port)

    async def request(self, api: Api, body: bytes, timeout_ms: float) -> bytes:
        """Sends a body to the coordinator, on a new connection if the old one broke."""
        coordinator = self._coordinator
        if coordinator is None:
            raise UnreachableError("the group's coordinator is not known at the moment")
        await self._connect(coordinator)
        return await self._send(coordinator, api, body, timeout_ms)

    async def close(self) -> None:
        """Closes all connections."""
        self._coordinator = None
        for address, connection in list(self._connections.items()):
            await self._drop(address, connection)

    async def _any_broker(self) -> Address:
        """Returns the address of a broker there is a connection to, or makes one."""
        for address, connection in self._connections.items():
            if connection.connected():
                return address
        failures = []
        for address in dict.fromkeys((*self._settings.servers, *self._connections)):
            try:
                await self._connect(address)
            except UnreachableError as error:
                failures.append(error.message)
            else:
                return address
        raise UnreachableError("; ".join(failures))

    async def _connect(self, address: Address) -> None:
        async with self._connecting:
            known = self._connections.get(address)
            if known is not None:
                if known.connected():
                    return
                await self._drop(address, known)
            self._connections[address] = await self._connected(address)

    async def _connected(self, address: Address) -> AIOKafkaConnection:
        """Makes one connection and gives every failure its name."""
        settings = self._settings
        (host, port), at = address, _shown(address)
        try:
            async with asyncio.timeout(settings.setup_timeout_ms / 1000):
                made = await create_conn(
                    host,
                    port,
                    client_id=settings.client_id,
                    request_timeout_ms=settings.setup_timeout_ms,
                    ssl_context=self._tls,
                    security_protocol=settings.protocol,
                    sasl_mechanism=settings.mechanism,
                    sasl_plain_username=settings.username,
                    sasl_plain_password=settings.password,
                )
            self._was_let_in = True
            return made
        except TimeoutError as error:
            raise UnreachableError(
                f"the broker at {at} does not answer within {settings.setup_timeout_ms} ms"
            ) from error
        except (kafka_errors.KafkaError, OSError, ValueError) as error:
            failure = self._failure(at, error)
            if isinstance(failure, AuthenticationError):
                failure.was_let_in = self._was_let_in
            raise failure from error

    def _failure(self, at: str, error: Exception) -> RebalanceError:
        settings = self._settings
        cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return AuthenticationError(
                f"the certificate of the broker at {at} is refused: {cause.verify_message}; check "
                "ssl.ca.location and ssl.endpoint.identification.algorithm"
            )
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return AuthenticationError(
                f"TLS with the broker at {at} fails: {cause.reason or cause}; check that "
                "security.protocol fits the port, ssl.certificate.location and ssl.key.location"
            )
        if isinstance(error, kafka_errors.SaslAuthenticationFailed):
            return AuthenticationError(
                f"the broker at {at} refuses user {settings.username!r} with "
                f"{settings.mechanism}: {_text(error)}; check sasl.username and sasl.password"
            )
        if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
            return AuthenticationError(
                f"the broker at {at} does not offer {settings.mechanism}: {_text(error)}; check "
                "sasl.mechanism"
            )
        if isinstance(error, kafka_errors.IllegalSaslStateError | ValueError):
            return AuthenticationError(
                f"the broker at {at} does not let this client in: {_text(error)}; check that "
                f"security.protocol {settings.protocol} fits the port"
            )
        if isinstance(error, kafka_errors.KafkaConnectionError | ConnectionResetError):
            return UnreachableError(
                f"the broker at {at} closes the connection; check that security.protocol "
                f"{settings.protocol} fits the port"
            )
        reason = getattr(error, "strerror", None) or _text(error)
        return UnreachableError(f"the broker at {at} cannot be reached: {reason}")

    async def _send(self, address: Address, api: Api, body: bytes, timeout_ms: float) -> bytes:
        connection, at = self._connections[address], _shown(address)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                answer = await connection.send(_builder(api)(body))
        except TimeoutError as error:
            # What is answered late would be taken for the answer to the next request.
            await self._drop(address, connection)
            raise UnreachableError(
                f"the broker at {at} does not answer {api.name} within {timeout_ms:.0f} ms"
            ) from error
        except (kafka_errors.IncompatibleBrokerVersion, NotImplementedError) as error:
            raise _unsupported(at, api) from error
        except (kafka_errors.KafkaError, OSError) as error:
            await self._drop(address, connection)
            if error.__cause__ is None:  # an answer to another request did not come: see above
                raise UnreachableError(f"the connection to the broker at {at} hangs") from error
            raise UnreachableError(
                f"the broker at {at} closed the connection; if it always does, check that "
                f"security.protocol {self._settings.protocol} fits the port"
            ) from error
        except asyncio.CancelledError:
            await self._drop(address, connection)
            raise
        result: bytes = answer.body
        return result

    async def _drop(self, address: Address, connection: AIOKafkaConnection) -> None:
        if self._connections.get(address) is connection:
            del self._connections[address]
        closed = connection.close()
        if closed is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await closed


def _unsupported(at: str, api: Api) -> UnsupportedBrokerError:
    what = "streams groups" if api.key >= HEARTBEAT.key else f"{api.name} version {api.version}"
    return UnsupportedBrokerError(
        f"the broker at {at} does not know {what} (KIP-1071): it must be Kafka {BROKER_VERSION} "
        "or newer"
    )


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _text(error: Exception) -> str:
    """Returns an error's own words, without the name of its class."""
    return str(error.args[0]) if error.args else type(error).__name__


# aiokafka untyped: its classes are Any to the type checker, hence the ignores below.
class _Body(AbstractType):  # type: ignore[misc]
    """A whole body, as it is."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """Returns the body."""
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        """Returns all that is left."""
        return data.read()

    @classmethod
    def repr(cls, value: bytes) -> str:
        """Tells the length: bodies are for decoders, not for logs."""
        return f"<{len(value)} bytes>"


@functools.cache
def _builder(api: Api) -> Any:
    """Returns what aiokafka sends: a class that is called with a body."""

    class Answer(Response):  # type: ignore[misc]
        API_KEY = api.key
        API_VERSION = api.version
        SCHEMA = Schema(("body", _Body))

    class Struct(RequestStruct):  # type: ignore[misc]
        API_KEY = api.key
        API_VERSION = api.version
        FLEXIBLE_VERSION = True
        RESPONSE_TYPE = Answer
        SCHEMA = Schema(("body", _Body))

    class Builder(Request[Struct]):  # type: ignore[misc]
        API_KEY = api.key

        def __init__(self, body: bytes) -> None:
            self._body = body

        def build(self, request_struct_class: type[Struct]) -> Struct:
            return request_struct_class(self._body)

    return Builder
