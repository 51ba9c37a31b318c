"""Session stores asked in the process, over HTTP, by `thalweg query` and in the test driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.unit.streams import running
from tests.unit.streams.running import Log
from thalweg import (
    App,
    FailureReason,
    Processor,
    ProcessorContext,
    Record,
    SessionStore,
    SessionWindow,
    StreamsBuilder,
    TopologyTestDriver,
    Windowed,
    WindowKeyQuery,
    WindowRangeQuery,
    serdes,
    session_store,
)

STORES = ("visits", "visits-in-memory")
MINUTE = 60_000
VISITS = [
    (f"user {n % 5}", start * MINUTE, (start + n % 3) * MINUTE)
    for n, start in enumerate(range(0, 120, 4))
]
"""(key, start, end) of each session: over two hours, more than one segment of an hour's retention."""


class Visits(Processor[str, str, Any, Any]):
    """Writes each record, a start and an end, as a session of both stores."""

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        super().init(context)
        self.stores: list[SessionStore[str, str]] = [
            context.get_state_store(name) for name in STORES
        ]

    def process(self, record: Record[str, str]) -> None:
        start, end = map(int, record.value.split())
        for store in self.stores:
            store[Windowed(record.key, SessionWindow(start, end))] = f"{start}-{end}"


def topology() -> StreamsBuilder:
    """Returns two session stores, filled by a processor."""
    builder = StreamsBuilder()
    for name in STORES:
        builder.add_state_store(
            session_store(
                name,
                serdes.string,
                serdes.string,
                retention_ms=timedelta(hours=4),
                in_memory=name.endswith("memory"),
            )
        )
    visits = builder.stream("visits-in", key_serde=serdes.string, value_serde=serdes.string)
    visits.process(Visits, *STORES)
    return builder


def window(key: str, start: int, end: int) -> Windowed[str]:
    """Returns the key of a row."""
    return Windowed(key, SessionWindow(start, end))


def of_key(key: str) -> list[Windowed[str]]:
    """Returns the sessions of a key, oldest first."""
    return sorted((window(*one) for one in VISITS if one[0] == key), key=by_time)


def by_time(one: Windowed[str]) -> tuple[int, int]:
    """Returns what orders the sessions of a key."""
    return one.window.end_ms, one.window.start_ms


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application with sessions over three partitions."""
    log = Log()
    log.create("visits-in", 3)
    with log.app(
        topology(), tmp_path_factory.mktemp("state"), application_server="127.0.0.1:0"
    ) as app:
        with app.producer() as producer:
            for key, start, end in VISITS:
                producer.send(
                    "visits-in",
                    f"{start} {end}",
                    key=key,
                    key_serde=serdes.string,
                    value_serde=serdes.string,
                    timestamp=end,
                )
        running.idle(app)
        yield app


@pytest.fixture
def get(app: App) -> Callable[..., Any]:
    """Returns a function that asks the application over HTTP."""

    def ask(path: str, status: int = 200, **parameters: Any) -> Any:
        page = httpx.get(f"http://{app.endpoint}{path}", params=parameters)
        assert page.status_code == status, page.text
        return page.json()

    return ask


def keys(rows: list[Any]) -> list[Windowed[str]]:
    """Returns the keys of rows in JSON."""
    return [window(one["key"]["key"], one["key"]["start"], one["key"]["end"]) for one in rows]


@pytest.mark.parametrize("name", STORES)
def test_in_the_process(app: App, name: str) -> None:
    store = app.store(name, key=str, value=str, kind="session")
    mine = of_key("user 1")

    assert {key for key, _ in store.all()} == {window(*one) for one in VISITS}
    assert len(list(reversed(store))) == len(VISITS)
    assert [key for key, _ in store.fetch("user 1")] == mine
    assert [key for key, _ in store.backward_fetch("user 1")] == mine[::-1]
    first = mine[0]
    bounds = first.window.start_ms, first.window.end_ms
    assert store[first] == store.fetch_session("user 1", *bounds) == f"{bounds[0]}-{bounds[1]}"
    assert first in store
    assert store.fetch_session("user 1", bounds[0], bounds[1] + 1) is None
    touched = [
        one
        for one in mine
        if one.window.end_ms >= MINUTE * 30 and one.window.start_ms <= MINUTE * 70
    ]
    assert [key for key, _ in store.find_sessions("user 1", MINUTE * 30, MINUTE * 70)] == touched
    assert [
        key for key, _ in store.backward_find_sessions("user 1", MINUTE * 30, MINUTE * 70)
    ] == touched[::-1]
    some = {key.key for key, _ in store.fetch_range("user 1", "user 3")}
    assert some == {"user 1", "user 2", "user 3"}
    assert {key.key for key, _ in store.backward_fetch_range(None, "user 2")} == {
        *("user 0", "user 1", "user 2")
    }
    both = store.find_sessions_range("user 4", None, MINUTE * 100, MINUTE * 200)
    back = store.backward_find_sessions_range("user 4", None, MINUTE * 100, MINUTE * 200)
    assert {key for key, _ in both} == {key for key, _ in back}
    ended = {key for key, _ in store.find_ended(MINUTE * 10, MINUTE * 20)}
    assert ended == {window(*one) for one in VISITS if MINUTE * 10 <= one[2] <= MINUTE * 20}
    assert len(store) == len(VISITS)
    assert repr(store) == f"<session store {name!r}, read only>"
    with pytest.raises(TypeError, match='session store: ask for it with kind="session"'):
        app.store(name, key=str, value=str)
    with pytest.raises(ValueError, match="a key cannot be None"):
        store.fetch(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("reverse", ["true", "false"])
@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_over_http(get: Callable[..., Any], name: str, reverse: str, limit: int) -> None:
    def pages(path: str, **parameters: Any) -> list[Windowed[str]]:
        found: list[Any] = []
        cursor = None
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            page = get(path, limit=limit, reverse=reverse, **parameters, **more)
            found += page["rows"]
            cursor = page["cursor"]
            if cursor is None:
                return keys(found)

    step = -1 if reverse == "true" else 1
    mine = of_key("user 1")
    assert pages(f"/stores/{name}/keys/user%201/sessions") == mine[::step]
    assert pages(f"/stores/{name}/sessions", key="user 1") == mine[::step]
    times = {"from": MINUTE * 30, "to": MINUTE * 70}
    touched = [
        one
        for one in mine
        if one.window.end_ms >= MINUTE * 30 and one.window.start_ms <= MINUTE * 70
    ]
    assert pages(f"/stores/{name}/keys/user%201/sessions", **times) == touched[::step]
    every = pages(f"/stores/{name}/sessions")
    assert sorted(every, key=str) == sorted((window(*one) for one in VISITS), key=str)
    assert len(every) == len(VISITS)
    some = pages(f"/stores/{name}/sessions", key_from="user 3", **times)
    assert {one.key for one in some} == {"user 3", "user 4"}
    assert len(some) == len(set(some))


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("/stores/visits", 409, "wrong-kind", "ask /stores/visits/sessions for its rows"),
        ("/stores/visits/keys/a", 409, "wrong-kind", "/stores/visits/keys/{key}/sessions"),
        ("/stores/visits/windows", 409, "wrong-kind", "ask /stores/visits/sessions for its rows"),
        ("/stores/visits/sessions?cursor=AAAA", 400, "bad-cursor", ""),
        ("/stores/visits/sessions?key=a&key_from=b", 400, "contradiction", ""),
    ],
)
def test_what_is_refused(app: App, path: str, status: int, code: str, said: str) -> None:
    page = httpx.get(f"http://{app.endpoint}{path}")

    assert (page.status_code, page.json()["code"]) == (status, code)
    assert said in page.json()["detail"]


def test_queries_of_state(app: App, get: Callable[..., Any]) -> None:
    with app.query("visits", WindowRangeQuery[str, str](key="user 1")) as answer:
        found = [key for part in answer.partitions.values() for key, _ in part.value]
    assert found == of_key("user 1")
    for query in (WindowRangeQuery(time_from=0, time_to=5), WindowKeyQuery("user 1", 0, 5)):
        failed = app.query("visits", query).partitions[0]
        assert failed.failure is FailureReason.UNKNOWN_QUERY_TYPE
    shown = get("/queries/visits/window-range", key="user 1")["partitions"]
    assert keys([row for part in shown.values() for row in part["rows"]]) == of_key("user 1")


def test_on_the_command_line(app: App, query: Callable[..., Any]) -> None:
    def ask(*options: str) -> Any:
        return query(app, "visits", *options)

    lines = ask("--key", "user 0").stdout.splitlines()
    assert lines[0] == "key\tsession start\tsession end\tvalue"
    assert lines[1] == "user 0\t1970-01-01T00:00:00Z\t1970-01-01T00:00:00Z\t0-0"
    assert len(lines) == 1 + len(of_key("user 0"))
    assert ask("--key", "user 0", "--reverse").stdout.splitlines()[1:] == lines[:0:-1]
    assert ask("--key", "user 0", "--time-to", "0").stdout.splitlines() == lines[:2]
    assert ask("--count").stdout == f"{len(VISITS)}\n"
    assert "is a session store, it has no --prefix" in ask("--prefix", "u").stderr
    assert ask("--key", "x").stderr == "store 'visits' has no session of key 'x'\n"


def test_in_the_test_driver() -> None:
    with TopologyTestDriver(topology()) as driver:
        visits = driver.create_input_topic("visits-in", serdes.string, serdes.string)
        visits.pipe_input("a", "5 9", 9)
        store = driver.store("visits", key=str, value=str, kind="session")
        assert store.fetch_session("a", 5, 9) == "5-9"
        store.remove(window("a", 5, 9))
        assert list(store.fetch("a")) == []
        kind, entries = driver.store_entries("visits-in-memory")
        assert (kind, len(entries)) == ("session", 1)
