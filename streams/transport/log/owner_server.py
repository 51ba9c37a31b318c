"""The server of the process that owns an embedded log: HTTP over a Unix socket.

    <data_dir>/.owner/           0700: only the owner's user comes in
        about                    who owns the log and where it listens, as JSON
        socket                   0600: answers the calls of `owner_wire`

Owns that directory, the socket from its opening to its closing, and the threads that answer. It
must not know what an application answers: its pages are mounted.

The socket costs one sleeping thread until somebody connects for the first time. Only then the HTTP
server is loaded. If no socket can be made beside the log (the path is longer than the system's 108
bytes, or the file system has no sockets), it is made in its own directory under the system's
directory for temporary files, and `about` says where.

Each request has its own transport and thread. The records of a request are one commit, which is
durable before the answer. So an answer has the guarantees of a commit.

Source: design 4.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote

import msgspec

from thalweg.stores.record import headers_of, offset_of
from thalweg.streams.clock import SystemClock
from thalweg.streams.errors import (
    BrokerError,
    ProductionError,
    StoreLockedError,
    StreamsError,
)
from thalweg.streams.transport.log import owner_wire
from thalweg.streams.transport.log.engine import LocalLog
from thalweg.streams.transport.log.transport import LogTransport
from thalweg.streams.transport.port import (
    NewTopic,
    Reader,
    TopicConfig,
    TopicPartition,
)

OWNER_DIRECTORY: Final = ".owner"
ABOUT_FILE: Final = "about"
SOCKET_FILE: Final = "socket"

TEMPORARY_PREFIX: Final = "thalweg-"

BACKLOG: Final = 512
ANSWER_THREADS: Final = 64
"""Most calls at once. Nearly all of them wait for records."""

STOP_SECONDS: Final = 2
"""How long answers that are being given may take when the owner ends."""

_POLL_RECORDS: Final = 256
"""Records read at once: bounds by how much an answer goes over its limit."""

_MSGPACK: Final = (b"content-type", b"application/msgpack")

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class Pages(Protocol):
    """What an application answers, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        ...

    def close(self) -> None:
        """Lets go of what answering took; nothing is asked any more."""
        ...


_log = logging.getLogger(__name__)


class OwnerServer:
    """Answers other processes for as long as this one owns a log.

    Any thread may call any method.

    Args:
        log: the log; it outlives the server.
        directory: the log's directory.

    Attributes:
        about: who this process is, for others.
    """

    def __init__(self, log: LocalLog, directory: Path) -> None:
        self._directory = directory
        self._pages: dict[str, tuple[Callable[[], Pages], Pages | None]] = {}
        self._calls = _Calls(log, lambda: sorted(self._pages))
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(ANSWER_THREADS, "thalweg-owner")
        self._server: Any = None
        self._is_closed = False
        self._listener: socket.socket | None = None
        self._place, reason = "", ""
        try:
            self._listener, self._place = _listening(directory)
        except OSError as error:
            reason = f"no socket can be made: {error}"
            _log.warning("other processes cannot use the log %s: %s", directory, reason)
        self.about = owner_wire.About(os.getpid(), socket=self._place, reason=reason)
        self._write_about()
        self._woken, self._waker = socket.socketpair()
        self._thread: threading.Thread | None = None
        if self._listener is not None:
            self._thread = threading.Thread(target=self._serve, name="thalweg-owner", daemon=True)
            self._thread.start()

    def mount(self, application_id: str, pages: Callable[[], Pages]) -> None:
        """Lets an application of this process be asked.

        Args:
            application_id: its id.
            pages: makes what answers, when it is asked for the first time.
        """
        with self._lock:
            self._pages[application_id] = pages, None
            self._tell_applications()

    def unmount(self, application_id: str) -> None:
        """Takes back what `mount` did."""
        with self._lock:
            _, made = self._pages.pop(application_id, (None, None))
            if not self._is_closed:
                self._tell_applications()
        if made is not None:
            made.close()

    def close(self) -> None:
        """Stops answering and removes the socket. Closing again does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            server = self._server
        _remove(self._directory, self._place)
        _remove(self._directory, f"{OWNER_DIRECTORY}/{ABOUT_FILE}")
        self._calls.close()
        if server is not None:
            server.should_exit = True
        self._waker.send(b"x")
        if self._thread is not None:
            self._thread.join()
        if self._listener is not None:
            self._listener.close()
        self._woken.close()
        self._waker.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    # -- who it is -----------------------------------------------------------------------

    def _tell_applications(self) -> None:
        self.about = msgspec.structs.replace(self.about, applications=sorted(self._pages))
        self._write_about()

    def _write_about(self) -> None:
        path = self._directory / OWNER_DIRECTORY / ABOUT_FILE
        new = path.with_name(f"{ABOUT_FILE}.new")
        try:
            new.write_bytes(msgspec.json.encode(self.about))
            new.replace(path)
        except OSError as error:
            _log.warning("cannot write %s: %s", path, error.strerror)

    # -- serving -------------------------------------------------------------------------

    def _serve(self) -> None:
        """Waits for the first who connects, then answers until the end."""
        assert self._listener is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._listener, selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                selector.select()
            # An HTTP server takes a while to load: only an owner that is asked waits for it.
            import uvicorn  # noqa: PLC0415

            # Its own lines say nothing that those of this module do not.
            logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
            config = uvicorn.Config(
                self._answer,
                interface="asgi3",
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
            server = uvicorn.Server(config)
            with self._lock:
                if self._is_closed:
                    return
                self._server = server
            server.run(sockets=[self._listener])
        except BaseException:
            _log.exception("other processes cannot use the log %s any more", self._directory)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = (scope.get("raw_path") or scope["path"].encode()).decode("ascii", "replace")
        kind, name, page = [*path.split("/", 3)[1:], "", "", ""][:3]
        if kind == "log":
            await self._answer_call(name, receive, send)
        elif kind == "applications":
            await self._answer_page(unquote(name), f"/{page}", scope, receive, send)
        else:
            await _respond(send, HTTPStatus.OK, msgspec.json.encode(self.about))

    async def _answer_call(self, name: str, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            message = f"a request of more than {owner_wire.REQUEST_BYTES_MAX:,} bytes is refused"
            failure = owner_wire.Failure("TransportError", message)
            await _respond(
                send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, owner_wire.encode(failure), _MSGPACK
            )
            return
        loop = asyncio.get_running_loop()
        status, answer = await loop.run_in_executor(self._pool, self._calls.answer, name, body)
        await _respond(send, status, answer, _MSGPACK)

    async def _answer_page(
        self, application_id: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        pages = self._pages_of(application_id)
        if pages is None:
            message = f"application {application_id!r} does not run in this process"
            failure = owner_wire.Failure("TransportError", message)
            await _respond(send, HTTPStatus.NOT_FOUND, owner_wire.encode(failure), _MSGPACK)
            return
        await pages({**scope, "path": unquote(path), "raw_path": path.encode()}, receive, send)

    def _pages_of(self, application_id: str) -> Pages | None:
        with self._lock:
            make, made = self._pages.get(application_id, (None, None))
            if make is not None and made is None:
                made = make()
                self._pages[application_id] = make, made
            return made


class _Calls:
    """The calls of `owner_wire`, by their names. Each runs in a thread of its own."""

    def __init__(self, log: LocalLog, applications: Callable[[], Sequence[str]]) -> None:
        self._log = log
        self._applications = applications
        self._clock = SystemClock()
        self._waiting: set[Reader] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        self._by_name: Mapping[str, tuple[Any, Callable[[Any], Any]]] = {
            "topics": (list[str] | None, self._topics),
            "create": (list[owner_wire.TopicRow], self._create),
            "delete": (list[str], self._delete),
            "configs": (str, self._configs),
            "alter": (owner_wire.AlterRequest, self._alter),
            "offsets": (list[owner_wire.Place], self._offsets),
            "offsets-for-time": (owner_wire.TimeRequest, self._offsets_for_time),
            "send": (list[owner_wire.Batch], self._send),
            "poll": (owner_wire.PollRequest, self._poll),
        }

    def answer(self, name: str, body: bytes) -> tuple[HTTPStatus, bytes]:
        """Answers a call; an error becomes a `Failure`."""
        try:
            if name not in self._by_name:
                message = f"the owner of the log has no call {name!r}: another version?"
                raise BrokerError(message)
            form, call = self._by_name[name]
            request = msgspec.msgpack.decode(body, type=form)
            return HTTPStatus.OK, owner_wire.encode(call(request))
        except StreamsError as error:
            return HTTPStatus.CONFLICT, owner_wire.encode(owner_wire.failure_of(error))
        except msgspec.MsgspecError as error:
            kind = ProductionError if name == "send" else BrokerError
            refused = kind(f"what was asked of the log's owner cannot be read: {error}")
            return HTTPStatus.BAD_REQUEST, owner_wire.encode(owner_wire.failure_of(refused))
        except Exception as error:
            _log.exception("the call %r of another process failed", name)
            failed = BrokerError(f"the owner of the log failed ({type(error).__name__}: {error})")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return status, owner_wire.encode(owner_wire.failure_of(failed))

    def close(self) -> None:
        """Ends the calls that wait."""
        with self._lock:
            self._is_closed = True
            waiting = list(self._waiting)
        for reader in waiting:
            reader.wake()

    def _transport(self) -> LogTransport:
        return LogTransport(self._log, now_ms=self._clock.now_ms)

    def _topics(self, names: list[str] | None) -> dict[str, int]:
        with self._transport() as transport:
            return dict(transport.partition_counts(transport.topics() if names is None else names))

    def _create(self, rows: list[owner_wire.TopicRow]) -> None:
        new = [
            NewTopic(row.name, row.partitions, row.replication_factor, row.configs) for row in rows
        ]
        with self._transport() as transport:
            transport.create_topics(new)

    def _configs(self, topic: str) -> dict[str, TopicConfig]:
        with self._transport() as transport:
            return dict(transport.topic_configs(topic))

    def _alter(self, asked: owner_wire.AlterRequest) -> None:
        with self._transport() as transport:
            transport.alter_topic_configs(asked.topic, asked.changes)

    def _delete(self, names: list[str]) -> None:
        running = self._applications()
        if running:
            message = (
                f"process {os.getpid()} runs application {', '.join(map(repr, running))} on this "
                "log: one that reads a deleted topic fails. Stop it, then delete "
                f"{', '.join(names)}"
            )
            raise StoreLockedError(message)
        with self._transport() as transport:
            transport.delete_topics(names)

    def _offsets(self, places: list[owner_wire.Place]) -> list[owner_wire.OffsetsRow]:
        partitions = [TopicPartition(*place) for place in places]
        with self._transport() as transport:
            begins, ends = transport.begin_offsets(partitions), transport.end_offsets(partitions)
        return [owner_wire.OffsetsRow(*at, begins[at], ends[at]) for at in partitions]

    def _offsets_for_time(self, asked: owner_wire.TimeRequest) -> list[int]:
        partitions = [TopicPartition(*place) for place in asked.places]
        with self._transport() as transport:
            found = transport.offsets_for_time(partitions, asked.timestamp_ms)
        return [found[at] for at in partitions]

    def _send(self, batches: list[owner_wire.Batch]) -> int:
        """Commits records, all or none; returns how many."""
        count = 0
        with self._transport() as transport:
            for topic, partition, rows in map(msgspec.structs.astuple, batches):
                if self._log.topic(topic) is None:
                    message = f"topic {topic!r} was deleted after records were sent to it"
                    raise ProductionError(message, topic=topic)
                send = transport.sender(topic)
                for timestamp, key, value, headers in rows:
                    send(key, value, timestamp, headers, partition)
                count += len(rows)
            transport.flush()
            transport.commit({})
        return count

    def _poll(self, asked: owner_wire.PollRequest) -> list[owner_wire.PolledPartition]:
        positions = {TopicPartition(t, p): offset for t, p, offset in asked.positions}
        rows: dict[TopicPartition, list[owner_wire.ReadRow]] = {at: [] for at in positions}
        with self._transport() as transport:
            reader = transport.reader()
            reader.add(positions)
            wait_ms = min(asked.wait_ms, owner_wire.WAIT_MS_MAX)
            left, room = asked.most, owner_wire.ANSWER_BYTES
            with self._waits(reader):
                while left > 0 and room > 0:
                    batches = reader.poll(min(left, _POLL_RECORDS), wait_ms)
                    wait_ms = 0
                    if not batches:
                        break
                    for at, records in batches:
                        for timestamp, key, value, origin in records:
                            rows[at].append(
                                (timestamp, key, value, offset_of(origin), headers_of(origin))
                            )
                            room -= len(key or b"") + len(value or b"") + 16
                        left -= len(records)
            return [
                owner_wire.PolledPartition(
                    *at, reader.position(at), reader.known_end_offset(at) or 0, rows[at]
                )
                for at in positions
            ]

    def _waits(self, reader: Reader) -> _Waits:
        return _Waits(self, reader)

    def begin_wait(self, reader: Reader) -> None:
        """Notes a reader that is woken at the end."""
        with self._lock:
            if self._is_closed:
                message = f"process {os.getpid()}, the owner of the log, is ending"
                raise BrokerError(message)
            self._waiting.add(reader)

    def end_wait(self, reader: Reader) -> None:
        """Forgets a reader."""
        with self._lock:
            self._waiting.discard(reader)


class _Waits:
    """While it lasts, a reader is woken when the server closes."""

    def __init__(self, calls: _Calls, reader: Reader) -> None:
        self._calls = calls
        self._reader = reader

    def __enter__(self) -> None:
        self._calls.begin_wait(self._reader)

    def __exit__(self, *_error: object) -> None:
        self._calls.end_wait(self._reader)


# -- HTTP ----------------------------------------------------------------------------------


async def read_body(receive: Receive) -> bytes | None:
    """Reads a request's body; None for one that is too large."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # whoever asked has gone
        piece = message.get("body", b"")
        size += len(piece)
        if size > owner_wire.REQUEST_BYTES_MAX:
            return None
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _respond(
    send: Send,
    status: HTTPStatus,
    body: bytes,
    kind: tuple[bytes, bytes] = (b"content-type", b"application/json"),
) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


# -- the socket ----------------------------------------------------------------------------


def _listening(directory: Path) -> tuple[socket.socket, str]:
    """Returns a listening socket, and where it is, as `about` says it."""
    own = directory / OWNER_DIRECTORY
    own.mkdir(mode=0o700, exist_ok=True)
    own.chmod(0o700)
    _remove_left(directory)
    try:
        return _bound(own / SOCKET_FILE), f"{OWNER_DIRECTORY}/{SOCKET_FILE}"
    except OSError as error:
        _log.info("no socket can be made in %s (%s); it is made elsewhere", own, error)
    # Made for this user alone, under a name that nobody can foresee.
    elsewhere = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    try:
        return _bound(elsewhere / SOCKET_FILE), str(elsewhere / SOCKET_FILE)
    except BaseException:
        shutil.rmtree(elsewhere, ignore_errors=True)
        raise


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_left(directory: Path) -> None:
    """Removes what an owner left behind that was killed: whoever holds the lock is alone."""
    (directory / OWNER_DIRECTORY / SOCKET_FILE).unlink(missing_ok=True)
    try:
        about = msgspec.json.decode(
            (directory / OWNER_DIRECTORY / ABOUT_FILE).read_bytes(), type=owner_wire.About
        )
    except (OSError, msgspec.MsgspecError):
        return
    _remove(directory, about.socket)


def _remove(directory: Path, place: str) -> None:
    """Removes a file of the owner's, and its directory where that was made for it."""
    if not place:
        return
    path = directory / place
    try:
        path.unlink(missing_ok=True)
        if path.parent.name.startswith(TEMPORARY_PREFIX):
            path.parent.rmdir()
    except OSError as error:
        _log.info("cannot remove %s: %s", path, error.strerror)
