"""Fetches a page of another instance over HTTP, with a time limit and a check of its identity.

Owns the connection, its time-outs, and the mark that identifies an instance of the application.
`application.server` of a JVM member is usually an HTTP server of the user, so an answer without the
mark says nothing about rows; its body is not even read. It must not know what is asked, or why.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from thalweg.rebalance.values import Endpoint
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.errors import StreamsError

MARK_HEADER: Final = "Thalweg-Application"
"""Every answer of an instance has it; its value is the application's id."""

ANSWER_SECONDS: Final = 5.0
"""How long an instance may take to begin its answer: longer than any page needs, shorter than
people's patience."""

BODY_SECONDS: Final = 30.0
"""How long the rest of an answer may take."""

_REASON_CHARACTERS: Final = 100
"""How much of a foreign text goes into a message."""


class PeerError(StreamsError):
    """An address gave no answer of an instance.

    Args:
        message: why, without the address, so that it fits into a sentence of the caller.
        is_answering: whether something answers there that is no instance of the application.
    """

    def __init__(self, message: str, *, is_answering: bool) -> None:
        super().__init__(message)
        self.is_answering = is_answering


class Site(NamedTuple):
    """Where an instance answers.

    Attributes:
        host: a name or an address; an IPv6 address without brackets.
        port: its port.
        is_secure: whether it speaks TLS, as what stands in front of an instance may.
        prefix: what comes before the paths of an instance, without a slash at its end.
    """

    host: str
    port: int
    is_secure: bool = False
    prefix: str = ""

    @staticmethod
    def of(endpoint: Endpoint) -> Site:
        """Returns where an instance of the group answers."""
        return Site(_bare(endpoint.host), endpoint.port)

    @staticmethod
    def parse(url: str) -> Site:
        """Reads `http://host:port`, `https://host:port/prefix` or `host:port`.

        Raises:
            ValueError: it is none of these; says what it takes.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            is_secure = parts.scheme == "https"
            port = parts.port or (443 if is_secure else 80)
        except ValueError as error:
            raise ValueError(_no_url(url)) from error
        is_plain = parts.username is None and not parts.query and not parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
            raise ValueError(_no_url(url))
        return Site(parts.hostname, port, is_secure, parts.path.rstrip("/"))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.is_secure else "http"
        return f"{scheme}://{host}:{self.port}{self.prefix}"


class Page(NamedTuple):
    """What an instance answered.

    Attributes:
        status: the HTTP status.
        application_id: the application it is an instance of.
        headers: of the answer; names in any case.
        body: of the answer.
    """

    status: int
    application_id: str
    headers: http.client.HTTPMessage
    body: bytes


def fetch(
    site: Site,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    application_id: str | None = None,
    clock: Clock | None = None,
) -> Page:
    """Fetches a page of an instance. Waits; any thread may call it.

    Redirects are not followed: instances send none.

    Args:
        site: where it answers.
        target: path and query.
        headers: of the request.
        application_id: the application it must be an instance of; None for any.
        clock: measures how long it takes.

    Raises:
        PeerError: it cannot be reached, takes too long, or what answers is no instance of the
            application.
    """
    deadline = _Deadline(clock or SystemClock(), ANSWER_SECONDS)
    connection = _connection(site, deadline)
    try:
        connection.request("GET", site.prefix + target, headers=dict(headers or {}))
        # The connection lets go of an answer without a length, which holds the socket.
        with connection.getresponse() as response:
            told = response.headers.get(MARK_HEADER)
            if told is None:
                raise PeerError(_foreign(response), is_answering=True)
            if application_id is not None and told != application_id:
                message = f"a worker of another application, {_short(told)!r}, answers there"
                raise PeerError(message, is_answering=True)
            deadline.extend(BODY_SECONDS)
            return Page(response.status, told, response.headers, response.read())
    except (OSError, ValueError, OverflowError) as error:
        # A host that is no name, as "a..b", is a ValueError.
        raise PeerError(_reason(error), is_answering=False) from error
    except http.client.HTTPException as error:
        message = f"another program answers there, and its answer is not HTTP: {_reason(error)}"
        raise PeerError(message, is_answering=True) from error
    finally:
        connection.close()


def _connection(site: Site, deadline: _Deadline) -> http.client.HTTPConnection:
    connection: http.client.HTTPConnection
    if site.is_secure:
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            site.host, site.port, timeout=ANSWER_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(site.host, site.port, timeout=ANSWER_SECONDS)

    def response(sock: socket.socket, **options: Any) -> http.client.HTTPResponse:
        made = http.client.HTTPResponse(sock, **options)
        made.fp.close()
        made.fp = io.BufferedReader(_TimedReader(sock, deadline))
        return made

    connection.response_class = response  # type: ignore[assignment]  # it is only called
    return connection


class _Deadline:
    """When an answer has taken too long, however often a little of it came."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end_ms = 0.0
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """Begins anew."""
        self._end_ms = self._clock.monotonic_ms() + seconds * 1000

    def left_seconds(self) -> float:
        """Returns how long there is left.

        Raises:
            TimeoutError: nothing.
        """
        left_ms = self._end_ms - self._clock.monotonic_ms()
        if left_ms <= 0:
            message = "timed out"
            raise TimeoutError(message)
        return left_ms / 1000


class _TimedReader(io.RawIOBase):
    """Reads a socket until a deadline. A time-out of the socket only bounds each read."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        """Says yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Reads what comes next."""
        self._sock.settimeout(min(self._deadline.left_seconds(), ANSWER_SECONDS))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Lets go of the socket."""
        self._raw.close()
        super().close()


# -- messages ------------------------------------------------------------------------------


def _foreign(response: http.client.HTTPResponse) -> str:
    """Says what a foreign answer looks like."""
    kind = response.headers.get("content-type")
    shown = f", {_short(kind)}" if kind else ""
    return (
        f"another program answers there (HTTP status {response.status}{shown}): a thalweg worker "
        f"sends the header {MARK_HEADER}, and this answer has none"
    )


def _short(text: str) -> str:
    printable = re.sub(r"[^\x20-\x7e]", "?", text)
    return printable[:_REASON_CHARACTERS]


def _reason(error: Exception) -> str:
    return _short(str(error)) or type(error).__name__


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


def _no_url(url: str) -> str:
    return f"{url!r} is no address of a worker: give http://HOST:PORT, its application_server"
