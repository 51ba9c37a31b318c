"""The HTTP server: interactive queries, health, readiness and metrics.

Owns the routes, the threads that answer, and the listening socket. `questions`, `routing` and
`rows` decide what is asked and answered. All requests only read. It must not know tasks or
transports; it sees the application through `Instance`.

    GET /stores                              the stores, their kinds and serdes
    GET /stores/S                            rows
    GET /stores/S/keys/KEY                   the row of a key
    GET /stores/S/FORM                       rows in a form of the store's kind, such as windows
    GET /stores/S/keys/KEY/FORM              such rows of one key
    GET /queries/S/QUERY                     a query of state, answered by this instance alone
    GET /metadata                            which instance has which partitions of which store
    GET /health                              200 unless the application has failed
    GET /ready                               200 while it runs and all its stores are restored
    GET /metrics                             for Prometheus

The kind of a store decides which of these it answers (`queries.kinds`). Names and keys in a path
are percent-encoded, a slash in a key as %2F. /stores/S/KEY and /stores/S/KEY/FORM are accepted too,
unless KEY is a word of another path. Errors are problem details (RFC 9457) with a `code`; see
`streams.queries.answers`.

The server has its own thread and three small pools: one for requests, which may wait for other
instances; one for requests of other instances, which never wait for anybody; and one for asking
other instances. So two instances that ask each other cannot block each other.

Source: KIP-67, KIP-535; design 6.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg.rebalance.values import Endpoint
from thalweg.stores.builders import StoreBuilder
from thalweg.streams.errors import ConfigError, StreamsError
from thalweg.streams.queries import peer_client as hop
from thalweg.streams.queries.answers import (
    Part,
    RefusedError,
    bad,
    encode_part,
    json_bytes,
    refusal_of,
)
from thalweg.streams.queries.kinds.kind import KEY, ROWS
from thalweg.streams.queries.kinds.known import kind_of, may_follow_key
from thalweg.streams.queries.metadata import (
    NO_ENDPOINT,
    GroupView,
    StoreDirectory,
    endpoint_of,
)
from thalweg.streams.queries.peer import MARK_HEADER
from thalweg.streams.queries.position import Position
from thalweg.streams.queries.questions import Question, Shape, absent, cursor_text, key_target
from thalweg.streams.queries.routing import Router, StoreAccess
from thalweg.streams.queries.state_pages import asked_state, state_as_json
from thalweg.streams.queries.state_queries import Query, StateQueryResult

QUESTION_THREADS: Final = 8
HOP_THREADS: Final = 16
"""Hops of one question run side by side, most of the time waiting."""

BACKLOG: Final = 512
STOP_SECONDS: Final = 2
"""How long answers that are being given may take when the server stops."""

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_WILDCARDS: Final = ("0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not bound

_log = logging.getLogger(__name__)


class Readiness(Protocol):
    """How far an instance is."""

    @property
    def running_tasks(self) -> int:
        """Tasks that process."""
        ...

    @property
    def restoring_tasks(self) -> int:
        """Tasks that are being restored."""
        ...

    @property
    def remaining_restore_records(self) -> int:
        """Changelog offsets still to go."""
        ...

    @property
    def lag_records(self) -> int:
        """Records not processed yet, as far as known."""
        ...


class Instance(StoreAccess, Protocol):
    """The application as the server sees it. Any thread may call it."""

    @property
    def application_id(self) -> str:
        """The application's id."""
        ...

    @property
    def state(self) -> Enum:
        """Where it is in its life."""
        ...

    @property
    def error(self) -> StreamsError | None:
        """What it died of."""
        ...

    @property
    def store_names(self) -> Sequence[str]:
        """The names of all stores."""
        ...

    def query(
        self,
        store: str,
        query: Query[Any],
        *,
        partitions: Collection[int] | None,
        position_bound: Position | None,
        require_active: bool,
        execution_info: bool,
    ) -> StateQueryResult[Any]:
        """Asks the partitions of a store that are here, each by itself."""
        ...

    def progress(self) -> Readiness | None:
        """Returns how far it is, None before its worker is made."""
        ...

    def metrics_text(self) -> str:
        """Returns all metrics in Prometheus' text form."""
        ...


class QueryServer:
    """Listens for queries from its making on, and answers them between `start` and `close`.

    Args:
        address: `host:port`. Port 0 takes a free one. A host of 0.0.0.0 listens on all
            addresses, and is told to others as the machine's name.
        instance: answers.

    Attributes:
        endpoint: where others reach it.

    Raises:
        ConfigError: the address cannot be listened on; says why and what to do.
    """

    def __init__(self, address: str, instance: Instance) -> None:
        self._socket, self.endpoint = _listening(address)
        questions = ThreadPoolExecutor(QUESTION_THREADS, "thalweg-query")
        parts = ThreadPoolExecutor(QUESTION_THREADS, "thalweg-part")
        hops = ThreadPoolExecutor(HOP_THREADS, "thalweg-hop")
        self._pools = (questions, parts, hops)
        config = uvicorn.Config(
            query_application(instance, questions, parts, hops),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        # Whoever forgets to close a failed application can still end the process.
        self._thread = threading.Thread(
            target=self._serve, name=f"{instance.application_id}-queries", daemon=True
        )

    def start(self) -> None:
        """Begins to answer."""
        _log.info("answering queries at %s", self.endpoint)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and answering; closing again does nothing."""
        self._server.should_exit = True
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._socket.close()
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def _serve(self) -> None:
        # Its own lines say nothing that those of this module do not.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        try:
            self._server.run(sockets=[self._socket])
        except BaseException:
            _log.exception("the query server failed; queries are not answered any more")


# -- the socket ----------------------------------------------------------------------------


def _listening(address: str) -> tuple[socket.socket, Endpoint]:
    host, port = endpoint_of(address)
    bare = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol named, asyncio sends answers at once, not 40 ms later (Nagle).
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise _refused(address, error) from error
    try:
        # A port that a stopped instance has just left may be taken over at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _refused(address, error) from error
    announced = socket.gethostname() if host in _WILDCARDS else host
    return listener, Endpoint(announced, listener.getsockname()[1])


def _refused(address: str, error: Exception) -> ConfigError:
    host, port = endpoint_of(address)
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        reason = (
            f"port {port} is in use by another process; stop it, give another port, or "
            f"{host}:0 for a free one"
        )
    elif code == errno.EACCES:
        reason = f"port {port} needs rights this process does not have; give one above 1023"
    elif code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        reason = (
            f"{host} is no address of this machine; give a name or address of its own by which "
            f"the other instances reach it, or 0.0.0.0:{port} for all of them"
        )
    else:
        reason = str(error)
    return ConfigError(f"application_server is {address!r}, but {reason}")


# -- the application -----------------------------------------------------------------------


def query_application(
    instance: Instance,
    questions: ThreadPoolExecutor,
    parts: ThreadPoolExecutor,
    hops: ThreadPoolExecutor,
    ask: Callable[[Endpoint, Question, Sequence[int], str], Part] = hop.ask,
) -> ASGIApp:
    """Returns the routes as an ASGI application, for a server or a test client.

    Args:
        instance: answers.
        questions: runs what may wait for other instances.
        parts: runs what other instances ask.
        hops: asks other instances.
        ask: reaches another instance of an application, by its id.
    """

    def hop_to(owner: Endpoint, question: Question, partitions: Sequence[int]) -> Part:
        return ask(owner, question, partitions, instance.application_id)

    def together(things: Sequence[Callable[[], Part]]) -> list[Part]:
        if len(things) == 1:
            return [things[0]()]
        waiting = [hops.submit(thing) for thing in things]
        return [one.result() for one in waiting]

    pages = _Pages(instance, Router(instance, hop_to, together))

    def route(path: str, handler: Callable[[Request], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            pool = parts if hop.HOP_HEADER in request.headers else questions
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, _answered, handler, request)

        return Route(path, endpoint, methods=["GET"])

    application = Starlette(
        routes=[
            route("/stores", pages.stores),
            route("/stores/{store}", pages.rows),
            route("/stores/{store}/keys/", pages.key),
            route("/stores/{store}/keys//{form}", pages.rows_of_key),
            route("/stores/{store}/keys/{key}", pages.key),
            route("/stores/{store}/keys/{key}/{form}", pages.rows_of_key),
            # Where the word is none of a path it is a key, as before keys had a path of their own.
            route("/stores/{store}/{word}", pages.word),
            route("/stores/{store}/{key}/{form}", pages.rows_of_key),
            route("/queries/{store}/{query}", pages.state_query),
            route("/metadata", pages.metadata),
            route("/health", pages.health),
            route("/ready", pages.ready),
            route("/metrics", pages.metrics),
        ],
        exception_handlers={HTTPException: _no_route},
    )
    # An empty key is no question for all of them: what ends in a slash is not led elsewhere.
    application.router.redirect_slashes = False
    return _marked(_encoded_paths(application), instance.application_id)


def _encoded_paths(application: ASGIApp) -> ASGIApp:
    """Lets routes see a path as it was sent: an encoded slash does not divide it."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace")}
        await application(scope, receive, send)

    return serve


def _marked(application: ASGIApp, application_id: str) -> ASGIApp:
    """Has every answer say whose it is: without that another instance does not believe it."""
    mark = (MARK_HEADER.lower().encode(), application_id.encode())

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), mark]}
            await send(message)

        await application(scope, receive, send_marked)

    return serve


def _answered(handler: Callable[[Request], Response], request: Request) -> Response:
    try:
        return handler(request)
    except StreamsError as error:
        refusal = refusal_of(error)
        if refusal.status is HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.warning("query %s failed: %s", request.url.path, error, exc_info=error)
        return _problem(refusal)
    except Exception as error:
        _log.exception("query %s failed", request.url.path)
        detail = f"the query failed ({type(error).__name__}); the log of this instance says more"
        return _problem(RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _problem(_no_path(request))
    status = HTTPStatus(error.status_code)
    detail = f"{request.method} is not answered here; all questions are asked with GET"
    refusal = RefusedError(status, status.phrase.lower().replace(" ", "-"), detail)
    return _problem(refusal, error.headers)


def _no_path(request: Request) -> RefusedError:
    detail = (
        f"there is nothing at {request.url.path}; a key is asked for at /stores/STORE/keys/KEY, "
        "a slash in it written %2F, or as /stores/STORE?key="
    )
    return RefusedError(HTTPStatus.NOT_FOUND, "unknown-path", detail)


def _problem(refusal: RefusedError, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        refusal.body(),
        status_code=refusal.status,
        headers={**(headers or {}), **refusal.headers},
        media_type=_PROBLEM,
    )


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(json_bytes(value), status_code=status, media_type=_JSON)


class _Pages:
    """The handlers of all routes. Each runs in a pool's thread and may raise StreamsError."""

    def __init__(self, instance: Instance, router: Router) -> None:
        self._instance = instance
        self._router = router

    # -- stores --------------------------------------------------------------------------

    def stores(self, _request: Request) -> Response:
        instance = self._instance
        view, directory = instance.group_view(), instance.directory
        rows = []
        for name in instance.store_names:
            builder = instance.store_builder(name)
            rows.append({**_described(builder), **_spread(name, directory, view)})
        return _json({"stores": rows})

    def rows(self, request: Request) -> Response:
        return self._answer(request, ROWS, None)

    def key(self, request: Request) -> Response:
        return self._answer(request, KEY, _key_in(request))

    def word(self, request: Request) -> Response:
        word = request.path_params["word"]
        if kind_of(self._builder(request)).has_path(word):
            return self._answer(request, word, None)
        return self._answer(request, KEY, _decoded(word))

    def rows_of_key(self, request: Request) -> Response:
        form = request.path_params["form"]
        if not may_follow_key(form):
            raise _no_path(request)
        return self._answer(request, form, _key_in(request))

    def state_query(self, request: Request) -> Response:
        builder, word = self._builder(request), request.path_params["query"]
        asked = asked_state(builder, word, request.query_params.multi_items())
        with self._instance.query(
            builder.name,
            asked.query,
            partitions=asked.partitions,
            position_bound=asked.position_bound,
            require_active=asked.require_active,
            execution_info=asked.execution_info,
        ) as result:
            return _json(state_as_json(builder, asked, result))

    def _answer(self, request: Request, form: str, key: str | None) -> Response:
        """Answers a question to a store, in whatever form of its kind."""
        builder = self._builder(request)
        path, parameters = request.url.path, request.query_params.multi_items()
        if key is not None:
            # However it came, other instances are asked by the path that keys have of their own.
            path, own = key_target(builder.name, key, ROWS if form == KEY else form)
            parameters, key = [*own, *parameters], None if own else key
        question = kind_of(builder).question(builder, form, path, parameters, key)
        part = self._part(request, question)
        if _is_hop(request):
            headers = {hop.HOP_HEADER: hop.HOP_VERSION}
            return Response(encode_part(part), headers=headers, media_type=_JSON)
        return _shown(part, question)

    def _builder(self, request: Request) -> StoreBuilder:
        return self._instance.store_builder(_decoded(request.path_params["store"]))

    def _part(self, request: Request, question: Question) -> Part:
        if not _is_hop(request):
            return self._router.answer(question)
        if request.headers[hop.HOP_HEADER] != hop.HOP_VERSION:
            detail = f"this instance speaks {hop.HOP_HEADER} {hop.HOP_VERSION} only"
            raise bad("unknown-hop", detail)
        return self._router.local_part(question)

    # -- the instance --------------------------------------------------------------------

    def metadata(self, _request: Request) -> Response:
        instance = self._instance
        view, directory = instance.group_view(), instance.directory
        hosts = []
        for metadata in directory.instances(view):
            stores = directory.store_partitions(metadata, view)
            active, standby = directory.tasks(metadata, view)
            has_endpoint = metadata.endpoint != NO_ENDPOINT
            hosts.append(
                {
                    "host": metadata.host if has_endpoint else None,
                    "port": metadata.port if has_endpoint else None,
                    "is_this": metadata.is_local,
                    "active_tasks": [f"{part}_{partition}" for part, partition in active],
                    "standby_tasks": [f"{part}_{partition}" for part, partition in standby],
                    "stores": {
                        name: {"active": active, "standby": standby}
                        for name, (active, standby) in sorted(stores.items())
                    },
                    "global_stores": sorted(
                        name for name in metadata.store_names if directory.is_global(name)
                    ),
                    "topic_partitions": _by_topic(metadata.topic_partitions),
                    "standby_topic_partitions": _by_topic(metadata.standby_topic_partitions),
                }
            )
        return _json({"application_id": instance.application_id, "instances": hosts})

    def health(self, _request: Request) -> Response:
        instance = self._instance
        error, state = instance.error, instance.state.name
        status = HTTPStatus.OK if error is None else HTTPStatus.SERVICE_UNAVAILABLE
        return _json({"state": state, "error": None if error is None else str(error)}, status)

    def ready(self, _request: Request) -> Response:
        instance = self._instance
        state, progress = instance.state.name, instance.progress()
        restoring = 0 if progress is None else progress.restoring_tasks
        is_ready = state == "RUNNING" and progress is not None and not restoring
        return _json(
            {
                "is_ready": is_ready,
                "state": state,
                "running_tasks": 0 if progress is None else progress.running_tasks,
                "restoring_tasks": restoring,
                "remaining_restore_records": (
                    0 if progress is None else progress.remaining_restore_records
                ),
            },
            HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
        )

    def metrics(self, _request: Request) -> Response:
        return Response(self._instance.metrics_text(), headers={"content-type": _METRICS})


def _described(builder: StoreBuilder) -> dict[str, Any]:
    assert builder.key_serde is not None
    assert builder.value_serde is not None
    return {
        "name": builder.name,
        "kind": builder.kind,
        "key_serde": builder.key_serde.name,
        "value_serde": builder.value_serde.name,
    }


def _spread(name: str, directory: StoreDirectory, view: GroupView) -> dict[str, Any]:
    if directory.is_global(name):
        return {"is_global": True, "partitions": None, "local_partitions": None}
    count = directory.partition_count(name, view)
    here = [p for p in range(count) if directory.is_local(name, p, view)]
    return {"is_global": False, "partitions": count, "local_partitions": here}


def _by_topic(partitions: frozenset[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        found.setdefault(topic, []).append(partition)
    return found


def _is_hop(request: Request) -> bool:
    return hop.HOP_HEADER in request.headers


def _shown(part: Part, question: Question) -> Response:
    """Returns a whole answer as JSON.

    Raises:
        RefusedError: it is one row, which is not there.
    """
    name = question.builder.name
    if question.shape is Shape.COUNT:
        return _json({"store": name, "count": part.count, "is_approximate": True})
    if question.shape is Shape.PAGE:
        cursor = cursor_text(part.rows[-1].order) if part.is_cut else None
        return _json({"store": name, "rows": [row.row for row in part.rows], "cursor": cursor})
    if part.rows:
        return Response(bytes(part.rows[0].row), media_type=_JSON)
    raise absent(question)


def _key_in(request: Request) -> str:
    return _decoded(request.path_params.get("key", ""))


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise bad("bad-key", f"{segment!r} is no text in UTF-8; bytes are written 0x…") from error
