"""`thalweg query --url`: a running worker is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.streams.queries.asked import (
    BLOBS,
    CLICKS,
    PARTITIONS,
    PEOPLE,
    Share,
    feed,
    idle,
    made_app,
)
from tests.unit.streams.queries.strangers import STRANGERS, Serve, stranger
from thalweg import (
    App,
    StreamsBuilder,
    TimeWindows,
    serdes,
)
from thalweg.rebalance.values import Endpoint
from thalweg.streams.queries.http import QueryServer
from thalweg.streams.transport.memory import MemoryTransport, memory_log

Thalweg = Callable[..., Any]
Ask = Callable[..., Any]

DONE, FAILED, REFUSED = 0, 1, 2


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application that has processed its input and answers over HTTP."""
    app = made_app(tmp_path_factory.mktemp("state"), application_server="127.0.0.1:0")
    feed(app)
    with app:
        idle(app)
        yield app


@pytest.fixture
def ask(thalweg: Thalweg, app: App) -> Ask:
    """Returns `thalweg query --url` of the application."""
    return lambda *arguments: thalweg("query", "--url", f"http://{app.endpoint}", *arguments)


def cells(result: Any) -> list[list[str]]:
    """Returns the cells of a table, without its header."""
    assert result.exit_code == DONE, result.output
    return [line.split("\t") for line in result.stdout.splitlines()[1:]]


def objects(result: Any) -> list[Any]:
    """Returns the JSON objects of an answer."""
    assert result.exit_code == DONE, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_stores_of_a_worker_are_listed(ask: Ask) -> None:
    assert ["people", "timestamped-key-value", "string", "msgpack"] in cells(ask())
    assert {row["store"] for row in objects(ask("--json"))} == {
        *("people", "blobs", "rates", "ids", "hourly", "hourly-in-memory"),
    }


def test_a_running_worker_answers(ask: Ask) -> None:
    def keys(*options: str) -> list[str]:
        return [row[0] for row in cells(ask("people", *options))]

    names = sorted(PEOPLE)
    assert keys() == names
    assert keys("--reverse") == names[::-1]
    assert keys("--limit", "3") == names[:3]
    assert keys("--limit", "0") == []
    assert keys("--prefix", "person 3") == [name for name in names if name.startswith("person 3")]
    assert keys("--from", "person 20", "--to", "person 29") == [
        name for name in names if "person 20" <= name <= "person 29"
    ]
    assert keys("--key", "person 7") == ["person 7"]
    assert ask("people", "--count").stdout == f"{len(PEOPLE)}\n"


def test_rows_in_json_are_those_of_the_page(ask: Ask, app: App) -> None:
    for store, path in (
        ("people", "people"),
        ("blobs", "blobs"),
        ("rates", "rates"),
        ("hourly", "hourly/windows"),
    ):
        page = httpx.get(f"http://{app.endpoint}/stores/{path}").json()
        assert objects(ask(store, "--json")) == page["rows"]


def test_bytes_are_shown_as_they_are_where_they_were_read(ask: Ask) -> None:
    found = cells(ask("blobs"))

    assert [key for key, _ in found] == [f"0x{key.hex()}" for key in sorted(BLOBS)]
    (row,) = cells(ask("people", "--key", "person 1"))
    assert json.loads(row[1]) == {"age": 1, "tags": ["a"]}


def test_windows_of_a_running_worker(ask: Ask) -> None:
    def windows(*options: str) -> list[list[str]]:
        return cells(ask("hourly", *options))

    assert {row[0] for row in windows()} == {page for page, _ in CLICKS}
    assert {row[0] for row in windows("--from", "page 2", "--to", "page 3")} == {"page 2", "page 3"}
    of_one = windows("--key", "page 1")
    assert {row[0] for row in of_one} == {"page 1"}
    assert windows("--key", "page 1", "--reverse") == of_one[::-1]
    late = windows("--key", "page 1", "--time-from", "1970-01-01T02:00:00")
    assert 0 < len(late) < len(of_one)
    assert late == [row for row in of_one if row[1] >= "1970-01-01T02"]
    assert {row[1] for row in windows("--time-to", "0")} == {"1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_key_that_is_not_there_ends_with_1(ask: Ask, more: list[str]) -> None:
    result = ask("people", "--key", "nope", *more)
    assert (result.exit_code, result.stderr) == (FAILED, "store 'people' has no key 'nope'\n")
    result = ask("hourly", "--key", "nope", *more)
    assert result.exit_code == FAILED
    assert result.stderr == "store 'hourly' has no window of key 'nope'\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no store 'nothing'; the stores of that worker: blobs, hourly"),
        (["people", "--time-from", "0"], "'people' has no windows"),
        (["hourly", "--prefix", "a"], "is a window store"),
        (["people", "--key", "a", "--from", "b"], "--key asks for one key"),
        (["people", "--prefix", "a", "--reverse"], "--prefix goes with neither"),
        (["rates", "--key", "x"], "'x' is not an int from -2**63"),
        (["rates", "--from", "x"], "'x' is not an int from -2**63"),
        (["hourly", "--time-from", "soon"], "'soon' is no moment"),
        (["--key", "x"], "give the name of the STORE whose rows are asked for; "),
        (["--count"], " has blobs, hourly"),
        (["app.py", "people"], "leave out app.py"),
        (["people", "--set", "poll_ms=5"], "leave out --set"),
        (["people", "--state-dir", "x"], "leave out --set"),
    ],
)
def test_a_wrong_question_is_told(ask: Ask, arguments: list[str], said: str) -> None:
    result = ask(*arguments)

    assert result.exit_code == REFUSED, result.output
    assert said in result.stderr


@pytest.mark.parametrize("url", ["ftp://a:1", "http://", "http://a:x", "http://a:1/?b=c", ""])
def test_what_is_no_address_is_told(thalweg: Thalweg, url: str) -> None:
    result = thalweg("query", "--url", url, "people")

    assert result.exit_code == REFUSED
    assert "give http://HOST:PORT" in result.stderr


def test_the_scheme_may_be_left_out(thalweg: Thalweg, app: App) -> None:
    assert len(cells(thalweg("query", "--url", str(app.endpoint), "people"))) == len(PEOPLE)


def test_neither_script_nor_address_is_told(thalweg: Thalweg) -> None:
    result = thalweg("query")

    assert result.exit_code == REFUSED
    assert "or --url" in result.stderr


def test_nobody_there(thalweg: Thalweg) -> None:
    result = thalweg("query", "--url", "http://127.0.0.1:1", "people")

    assert result.exit_code == FAILED
    assert "no worker answers at http://127.0.0.1:1" in result.stderr


@pytest.mark.parametrize("serve", STRANGERS.values(), ids=STRANGERS)
def test_what_is_no_worker_is_told(thalweg: Thalweg, serve: Serve) -> None:
    with stranger(serve) as endpoint:
        result = thalweg("query", "--url", f"http://{endpoint}", "people", "--key", "a")

    assert result.exit_code in (FAILED, REFUSED)
    assert result.stdout == ""
    assert "this is a fault of thalweg" not in result.stderr
    assert "has no key" not in result.stderr


def test_an_answer_that_cannot_be_given_is_told(thalweg: Thalweg, app: App) -> None:
    share = Share(app, {0}, Endpoint("", 0), {Endpoint("127.0.0.1", 1): {1, 2, 3}})
    server = QueryServer("127.0.0.1:0", share)
    server.start()
    try:
        result = thalweg("query", "--url", f"http://{server.endpoint}", "people", "--key", "nope")
    finally:
        server.close()

    assert result.exit_code == FAILED
    assert "127.0.0.1:1 has the row and cannot be reached" in result.stderr


def test_pages_follow_each_other_and_odd_keys_are_found(thalweg: Thalweg, tmp_path: Path) -> None:
    builder = StreamsBuilder()
    builder.table("odd-in", key_serde=serdes.string, value_serde=serdes.int64, store="odd")
    clicks = builder.stream("clicks", key_serde=serdes.string, value_serde=serdes.string)
    hours = TimeWindows.of_size(timedelta(hours=1))
    clicks.group_by_key().windowed_by(hours).count(name="hourly")
    log = memory_log()
    app = App(
        builder,
        application_id="odd",
        state_dir=tmp_path,
        application_server="127.0.0.1:0",
        commit_interval_ms=20,
        poll_ms=5,
        transport=lambda: MemoryTransport(log, "odd", default_partitions=PARTITIONS),
    )
    odd = ["count", "windows", "keys", "a/b", "%2F", "..", "", "ä\n\0", "a+b c"]
    count = 2_500 + len(odd)
    with app.producer() as producer:
        for number, key in enumerate([*odd, *(f"n{n:04}" for n in range(2_500))]):
            producer.send(
                "odd-in", number, key=key, key_serde=serdes.string, value_serde=serdes.int64
            )
        for key in odd:
            producer.send(
                "clicks", "x", key=key, key_serde=serdes.string, value_serde=serdes.string
            )
    with app:
        idle(app)
        url = ("--url", f"http://{app.endpoint}")
        assert thalweg("query", *url, "odd", "--count").stdout == f"{count}\n"
        assert thalweg("query", *url, "odd", "--count", "--limit", "2400").stdout == "2400\n"
        assert len(objects(thalweg("query", *url, "odd", "--json"))) == count
        for number, key in enumerate(odd):
            (row,) = objects(thalweg("query", *url, "odd", "--key", key, "--json"))
            assert (row["key"], row["value"]) == (key, number)
            (row,) = objects(thalweg("query", *url, "hourly", "--key", key, "--json"))
            assert (row["key"]["key"], row["value"]) == (key, 1)
