"""Stores whose rows have headers, asked in the process, over HTTP and by queries of state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.unit.streams import running
from tests.unit.streams.running import Log
from thalweg import (
    AggregationWithHeaders,
    App,
    FailureReason,
    Headers,
    KeyQuery,
    Processor,
    ProcessorContext,
    RangeQuery,
    Record,
    SessionWindow,
    StreamsBuilder,
    TimestampedKeyQuery,
    TimestampedKeyWithHeadersQuery,
    TimestampedRangeWithHeadersQuery,
    TimestampedWindowKeyWithHeadersQuery,
    TimestampedWindowRangeWithHeadersQuery,
    TimeWindow,
    ValueAndTimestamp,
    ValueTimestampHeaders,
    Windowed,
    WindowRangeQuery,
    serdes,
    session_store_with_headers,
    timestamped_key_value_store_with_headers,
    timestamped_window_store_with_headers,
)

SIZE_MS = 10
HEADERS: list[tuple[str, bytes | None]] = [("h", b"1"), ("raw", b"\xff"), ("none", None)]


class Keep(Processor[str, str, Any, Any]):
    """Writes each record with its headers to all stores."""

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        super().init(context)
        self.rows: list[Any] = [context.get_state_store(name) for name in ("rows", "untimed")]
        self.sessions: Any = context.get_state_store("sessions")
        self.windows: Any = context.get_state_store("windows")

    def process(self, record: Record[str, str]) -> None:
        row = ValueTimestampHeaders(record.value, record.timestamp, record.headers)
        for store in self.rows:
            store.put(record.key, row)
        session = Windowed(record.key, SessionWindow(record.timestamp, record.timestamp))
        self.sessions.put(session, AggregationWithHeaders(record.value, record.headers))
        self.windows.put(record.key, row, record.timestamp // SIZE_MS * SIZE_MS)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application with rows that have headers."""
    text = serdes.string
    builder = StreamsBuilder()
    builder.add_state_store(timestamped_key_value_store_with_headers("rows", text, text))
    builder.add_state_store(
        timestamped_key_value_store_with_headers("untimed", text, text, rows="plain")
    )
    builder.add_state_store(
        timestamped_window_store_with_headers(
            "windows", text, text, retention_ms=1_000, window_size_ms=SIZE_MS
        )
    )
    builder.add_state_store(session_store_with_headers("sessions", text, text, retention_ms=1_000))
    stream = builder.stream("in", key_serde=text, value_serde=text)
    stream.process(Keep, "rows", "untimed", "windows", "sessions")
    log = Log()
    log.send("in", ("a", "x"), ("b", "y"), timestamps=(5, 25), headers=HEADERS)
    log.send("in", ("b", "z"), timestamps=(37,))
    with log.app(builder, tmp_path_factory.mktemp("s"), application_server="127.0.0.1:0") as app:
        running.idle(app)
        yield app


def asked(app: App, store: str, query: Any) -> Any:
    """Returns the one answer of the one partition."""
    return app.query(store, query).partitions[0].value


def told(record: Any) -> tuple[Any, ...]:
    """Returns a record as a value."""
    return record.key, record.value, record.timestamp, list(record.headers)


def test_the_older_questions_answer_without_headers(app: App) -> None:
    assert app.store("rows", key=str, value=str)["a"] == "x"
    assert app.store("rows", timestamped=True)["a"] == ValueTimestampHeaders(
        "x", 5, Headers(HEADERS)
    )
    assert asked(app, "rows", KeyQuery("a")) == "x"
    assert dict(asked(app, "rows", RangeQuery())) == {"a": "x", "b": "z"}
    stamped = asked(app, "rows", TimestampedKeyQuery("a"))
    assert isinstance(stamped, ValueAndTimestamp)
    assert tuple(stamped) == ("x", 5)


def test_queries_of_records(app: App) -> None:
    record = asked(app, "rows", TimestampedKeyWithHeadersQuery[str, str]("a"))
    assert told(record) == ("a", "x", 5, HEADERS)
    assert asked(app, "rows", TimestampedKeyWithHeadersQuery("nope")) is None
    every = list(map(told, asked(app, "rows", TimestampedRangeWithHeadersQuery(descending=True))))
    assert every == [("b", "z", 37, []), ("a", "x", 5, HEADERS)]
    of_key = asked(app, "windows", TimestampedWindowKeyWithHeadersQuery("b", 0, 100))
    assert list(map(told, of_key)) == [
        (Windowed("b", TimeWindow(20, 30)), "y", 25, HEADERS),
        (Windowed("b", TimeWindow(30, 40)), "z", 37, []),
    ]
    of_all = asked(app, "windows", TimestampedWindowRangeWithHeadersQuery(time_from=0, time_to=20))
    assert sorted(one[0].key for one in map(told, of_all)) == ["a", "b"]


def test_a_row_without_a_time_is_no_record(app: App) -> None:
    one = app.query("untimed", TimestampedKeyWithHeadersQuery("a")).partitions[0]

    assert one.failure is FailureReason.STORE_EXCEPTION
    assert "negative timestamp -1" in one.message
    unknown = app.query("windows", TimestampedKeyWithHeadersQuery("a")).partitions[0]
    assert unknown.failure is FailureReason.UNKNOWN_QUERY_TYPE


def test_sessions_with_headers(app: App) -> None:
    session = Windowed("a", SessionWindow(5, 5))
    assert dict(app.store("sessions", key=str, value=str, kind="session").fetch("a")) == {
        session: "x"
    }
    assert list(asked(app, "sessions", WindowRangeQuery(key="a"))) == [(session, "x")]
    records = asked(app, "sessions", TimestampedWindowRangeWithHeadersQuery(key="a"))
    assert list(map(told, records)) == [(session, "x", 5, HEADERS)]
    page = httpx.get(f"http://{app.endpoint}/stores/sessions/keys/a/sessions").json()
    assert [row["value"] for row in page["rows"]] == ["x"]


def test_over_http_and_on_the_command_line(app: App, query: Callable[..., Any]) -> None:
    def get(path: str, **parameters: Any) -> Any:
        page = httpx.get(f"http://{app.endpoint}{path}", params=parameters)
        assert page.status_code == 200, page.text
        return page.json()

    shown = [["h", "1"], ["raw", {"base64": "/w=="}], ["none", None]]
    row = {"key": "a", "value": "x", "timestamp": 5, "headers": shown}
    assert get("/stores/rows/keys/a") == row
    assert [one["key"] for one in get("/stores/rows")["rows"]] == ["a", "b"]
    (window,) = get("/stores/windows/keys/a/windows")["rows"]
    assert window == {**row, "key": {"key": "a", "start": 0, "end": 10}}
    one = get("/queries/rows/timestamped-key-with-headers", key="a")["partitions"]["0"]
    assert {name: one[name] for name in ("value", "timestamp", "headers")} == {
        name: row[name] for name in ("value", "timestamp", "headers")
    }
    rows = get("/queries/rows/timestamped-range-with-headers")["partitions"]["0"]["rows"]
    assert rows[0] == row
    result = query(app, "rows")
    assert result.stdout == "key\tvalue\na\tx\nb\tz\n"
