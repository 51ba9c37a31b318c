"""Versioned stores asked in the process, over HTTP, by `thalweg query` and in the test driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.unit.streams import running
from tests.unit.streams.running import Log
from thalweg import (
    App,
    FailureReason,
    KeyQuery,
    Materialized,
    MultiVersionedKeyQuery,
    StreamsBuilder,
    TopologyTestDriver,
    VersionedKeyQuery,
    VersionedRecord,
    serdes,
    versioned_store,
)

RATES = [("eur", "1.0", 1_000), ("usd", "0.5", 1_500), ("eur", "1.1", 2_000), ("eur", "1.2", 4_000)]
EUR = [
    VersionedRecord("1.0", 1_000, 2_000),
    VersionedRecord("1.1", 2_000, 4_000),
    VersionedRecord("1.2", 4_000, None),
]


def topology() -> StreamsBuilder:
    """Returns a table of rates that keeps its history."""
    builder = StreamsBuilder()
    rates = versioned_store("rates", timedelta(hours=1), serdes.string, serdes.string)
    builder.table(
        "rates-in",
        key_serde=serdes.string,
        value_serde=serdes.string,
        materialized=Materialized(store=rates),
    )
    builder.table("plain-in", key_serde=serdes.string, value_serde=serdes.string, store="plain")
    return builder


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application with a table of rates over three partitions."""
    log = Log()
    log.create("rates-in", 3)
    log.create("plain-in", 3)
    with log.app(
        topology(), tmp_path_factory.mktemp("state"), application_server="127.0.0.1:0"
    ) as app:
        with app.producer() as producer:
            for key, value, moment in RATES:
                producer.send(
                    "rates-in",
                    value,
                    key=key,
                    key_serde=serdes.string,
                    value_serde=serdes.string,
                    timestamp=moment,
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


def row(key: str, record: VersionedRecord[str]) -> dict[str, Any]:
    """Returns a version as JSON shows it."""
    return {
        "key": key,
        "value": record.value,
        "timestamp": record.timestamp,
        "valid_to": record.valid_to,
    }


def test_in_the_process(app: App) -> None:
    rates = app.store("rates", key=str, value=str, kind="versioned")

    assert rates.get("eur") == rates["eur"] == EUR[2]
    assert rates.get("eur", as_of=1_999) == EUR[0]
    assert rates.get("eur", datetime.fromtimestamp(2, UTC)) == EUR[1]
    assert rates.get("eur", 999) is None
    assert rates.get("nope") is None
    assert "eur" in rates
    assert list(rates.versions("eur")) == EUR
    assert list(rates.versions("eur", 2_500, reverse=True)) == [EUR[2], EUR[1]]
    assert list(rates.versions("eur", to_time=1_000)) == EUR[:1]
    assert repr(rates) == "<versioned store 'rates', read only>"
    with pytest.raises(KeyError, match="store 'rates' has no key 'x' in this process"):
        rates["x"]
    with pytest.raises(ValueError, match="a key cannot be None"):
        rates.get(None)  # type: ignore[arg-type]


def test_a_kind_that_is_not_that_of_the_store_is_told(app: App) -> None:
    for ask, said in (
        ({"key": str, "value": str}, 'versioned store: ask for it with kind="versioned"'),
        ({"windowed": True}, 'versioned store: ask for it with kind="versioned"'),
        ({"kind": "versioned", "windowed": True}, "windowed= or kind=, not both"),
    ):
        store: Any = app.store
        with pytest.raises(TypeError, match=said):
            store("rates", **ask)
    with pytest.raises(TypeError, match='leave out kind="versioned"'):
        app.store("plain", kind="versioned")
    with pytest.raises(ValueError, match=r"no kind of stores 'other'; .* 'key-value', 'window', "):
        app.store("plain", kind="other")


def test_over_http(get: Callable[..., Any]) -> None:
    assert get("/stores/rates/keys/eur") == row("eur", EUR[2])
    assert get("/stores/rates", key="eur") == row("eur", EUR[2])
    assert get("/stores/rates/keys/eur", as_of=1_999) == row("eur", EUR[0])
    assert get("/stores/rates/keys/eur", 404, as_of=999)["code"] == "key-not-found"
    page = get("/stores/rates/keys/eur/versions")
    assert page == {"store": "rates", "rows": [row("eur", one) for one in EUR], "cursor": None}
    assert get("/stores/rates/keys/eur/versions", **{"from": 2_500, "to": 3_000})["rows"] == [
        row("eur", EUR[1])
    ]
    kinds = {one["name"]: one["kind"] for one in get("/stores")["stores"]}
    assert kinds["rates"] == "versioned"


@pytest.mark.parametrize("reverse", ["true", "false"])
def test_pages_over_http(get: Callable[..., Any], reverse: str) -> None:
    found, cursor = [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = get("/stores/rates/keys/eur/versions", limit=1, reverse=reverse, **more)
        found += page["rows"]
        cursor = page["cursor"]
        if cursor is None:
            break
    expected = [row("eur", one) for one in EUR]
    assert found == (expected[::-1] if reverse == "true" else expected)


@pytest.mark.parametrize(
    ("path", "parameters", "status", "code"),
    [
        ("/stores/rates", {}, 409, "wrong-kind"),
        ("/stores/rates/keys/eur/windows", {}, 409, "wrong-kind"),
        ("/stores/rates/versions", {}, 409, "wrong-kind"),
        ("/stores/plain/keys/eur/versions", {}, 409, "wrong-kind"),
        ("/stores/rates/keys/eur/versions", {"cursor": "AAAA"}, 400, "bad-cursor"),
        ("/stores/rates/keys/eur", {"as_of": "x"}, 400, "bad-moment"),
        ("/stores/plain/keys/eur", {"as_of": "5"}, 400, "unknown-parameter"),
    ],
)
def test_what_is_refused(
    get: Callable[..., Any], path: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    assert get(path, status, **parameters)["code"] == code


def test_queries_of_state(app: App, get: Callable[..., Any]) -> None:
    latest = app.query("rates", VersionedKeyQuery[str, str]("eur")).only
    assert latest is not None
    assert latest.value == EUR[2]
    as_of = app.query("rates", VersionedKeyQuery[str, str]("eur", as_of=1_500)).only
    assert as_of is not None
    assert as_of.value == EUR[0]

    def versions(**times: Any) -> list[Any]:
        with app.query("rates", MultiVersionedKeyQuery[str, str]("eur", **times)) as answer:
            return [one for part in answer.partitions.values() for one in part.value]

    assert versions() == EUR[::-1]
    assert versions(ascending=True, time_to=2_000) == EUR[:2]
    unknown = app.query("rates", KeyQuery("eur")).partitions[0]
    assert unknown.failure is FailureReason.UNKNOWN_QUERY_TYPE
    shown = get("/queries/rates/multi-versioned-key", key="eur", ascending="true")["partitions"]
    rows = [one for part in shown.values() for one in part["rows"]]
    assert [one["valid_to"] for one in rows] == [2_000, 4_000, None]
    one = get("/queries/rates/versioned-key", key="eur", as_of=2_000)["partitions"]
    assert [part["value"] for part in one.values() if part["value"]] == ["1.1"]


def test_on_the_command_line(app: App, query: Callable[..., Any]) -> None:
    def ask(*options: str, store: str = "rates") -> Any:
        return query(app, store, *options)

    header = "key\tvalid from\tvalid to\tvalue\n"
    first = "eur\t1970-01-01T00:00:01Z\t1970-01-01T00:00:02Z\t1.0\n"
    last = "eur\t1970-01-01T00:00:04Z\t\t1.2\n"
    assert ask("--key", "eur").stdout == header + last
    assert ask("--key", "eur", "--as-of", "1500").stdout == header + first
    every = ask("--key", "eur", "--time-from", "0").stdout
    assert every.startswith(header + first)
    assert every.endswith(last)
    assert len(every.splitlines()) == 4
    shown = ask("--key", "eur", "--reverse", "--json").stdout.splitlines()
    assert [json.loads(one)["value"] for one in shown] == ["1.2", "1.1", "1.0"]
    for options, said in (
        ((), "is read by key: give --key"),
        (("--from", "a"), "is read by key: give --key"),
        (("--key", "eur", "--as-of", "1", "--time-to", "2"), "--as-of asks for one moment"),
        (("--key", "eur", "--as-of", "soon"), "is no moment"),
    ):
        refused = ask(*options)
        assert refused.exit_code == 2
        assert said in refused.stderr
    assert "'plain' keeps no versions" in ask("--key", "a", "--as-of", "1", store="plain").stderr
    absent = ask("--key", "eur", "--as-of", "1")
    assert absent.exit_code == 1
    assert absent.stderr == "store 'rates' has no version of key 'eur' at these times\n"


def test_in_the_test_driver() -> None:
    with TopologyTestDriver(topology()) as driver:
        rates = driver.create_input_topic("rates-in", serdes.string, serdes.string)
        for key, value, moment in RATES:
            rates.pipe_input(key, value, moment)
        store = driver.store("rates", key=str, value=str, kind="versioned")
        assert store.get("eur", 3_000) == EUR[1]
        assert store.put("usd", "0.6", 3_000) == store.VALID_TO_UNDEFINED
        kind, entries = driver.store_entries("rates")
        assert kind == "versioned"
        assert len(entries[0]["latest"]) == 2
