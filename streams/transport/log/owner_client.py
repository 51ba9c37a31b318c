"""Calls to the process that owns an embedded log, over its Unix socket.

Owns the connection, its time-outs and what a failure means. It must not know what is asked.

Each call has its own connection. If the owner has ended, the connection is refused, so it is
certain that nothing was done. After any later failure it is unknown whether the call was done.

Source: design 4.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from thalweg.streams.errors import BrokerError, StreamsError
from thalweg.streams.transport.log import owner_wire

CALL_SECONDS: Final = 60.0
"""How long an answer may take, beyond what the owner was asked to wait."""

T = TypeVar("T")


class OwnerGoneError(BrokerError):
    """Nobody answers for the log any more; what was asked was not done."""


class OwnerClient:
    """Calls the owner of one log. Any thread may use it.

    Args:
        directory: the log's directory.
        about: its owner, as it says of itself.
    """

    def __init__(self, directory: Path, about: owner_wire.About) -> None:
        self._directory = directory
        self._socket = directory / about.socket
        self.process_id = about.process_id

    def is_alive(self) -> bool:
        """Tells whether somebody listens there."""
        connection = self._connection(CALL_SECONDS)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def call(self, name: str, request: object, form: type[T], *, wait_ms: float = 0) -> T:
        """Calls the owner and returns what it answers.

        Args:
            name: the call, see `owner_wire`.
            request: what goes with it, to be written as msgpack.
            form: of the answer.
            wait_ms: how long the owner was asked to wait.

        Raises:
            OwnerGoneError: the owner has ended; nothing was done.
            BrokerError: the owner ended meanwhile, or does not answer.
            StreamsError: what the owner says is wrong.
        """
        body = request if isinstance(request, bytes) else owner_wire.encode(request)
        with self._answer("POST", f"/log/{name}", body, wait_ms) as response:
            data = response.read()
            if response.status != HTTPStatus.OK:
                raise self.error_of(response.status, data)
            try:
                return msgspec.msgpack.decode(data, type=form)
            except msgspec.MsgspecError as error:
                message = f"{self} gave an answer that cannot be read ({error}): another version?"
                raise BrokerError(message) from error

    def get(self, application_id: str, target: str) -> tuple[int, bytes]:
        """Asks an application that runs in the owner for a page; returns HTTP status and body.

        Raises:
            BrokerError: the owner has ended, or does not answer.
        """
        path = f"/applications/{quote(application_id, safe='')}{target}"
        with self._answer("GET", path, None, 0) as response:
            return response.status, response.read()

    def error_of(self, status: int, data: bytes) -> StreamsError:
        """Returns the error that an answer of another status than 200 tells of."""
        try:
            return owner_wire.error_of(msgspec.msgpack.decode(data, type=owner_wire.Failure))
        except msgspec.MsgspecError:
            return BrokerError(f"{self} answered with HTTP status {status}")

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, wait_ms: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(CALL_SECONDS + wait_ms / 1000)
        with closing(connection):
            try:
                connection.connect()
            except OSError as error:
                message = f"{self} has ended, or lets nobody in ({error.strerror or error})"
                raise OwnerGoneError(message) from error
            try:
                connection.request(method, path, body=body)
                response = connection.getresponse()
                with closing(response):
                    yield response
            except TimeoutError as error:
                message = f"{self} has not answered for {CALL_SECONDS:.0f} s: does it still work?"
                raise BrokerError(message) from error
            except (OSError, http.client.HTTPException) as error:
                message = f"{self} ended before it had answered"
                raise BrokerError(message) from error

    def _connection(self, seconds: float) -> _UnixConnection:
        return _UnixConnection(str(self._socket), seconds)

    def __str__(self) -> str:
        return f"process {self.process_id}, the owner of the log in {self._directory},"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket."""
        made: Any = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self._path)
        except BaseException:
            made.close()
            raise
        self.sock = made
