"""Queries over HTTP: a real application, real sockets."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.unit.streams import running
from tests.unit.streams.queries.asked import (
    BLOBS,
    CLICKS,
    IDS,
    PARTITIONS,
    PEOPLE,
    SOON,
    WINDOW_MS,
    Share,
    idle,
    made_app,
)
from tests.unit.streams.running import Gate, HeldRestoring, Log
from thalweg import (
    App,
    ConfigError,
    State,
    StreamsBuilder,
    StreamsError,
    TimeWindows,
    serdes,
)
from thalweg.rebalance.values import Endpoint
from thalweg.streams.errors import StoreNotReadyError
from thalweg.streams.queries.http import QueryServer
from thalweg.streams.queries.questions import key_target
from thalweg.streams.transport.memory import MemoryTransport, memory_log

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def http(app: App) -> Iterator[httpx.Client]:
    """Returns a client of the application's server."""
    with httpx.Client(base_url=f"http://{app.endpoint}") as client:
        yield client


def shown(person: dict[str, Any]) -> dict[str, Any]:
    """Returns a person as JSON shows it."""
    tags = [
        {"base64": base64.b64encode(tag).decode()} if isinstance(tag, bytes) else tag
        for tag in person["tags"]
    ]
    return {**person, "tags": tags}


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Checks that an answer is a refusal, and returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["title"]
    assert "Traceback" not in response.text
    assert ("retry-after" in response.headers) is (status == 503)
    return body


# -- rows ----------------------------------------------------------------------------------


def test_every_key_has_its_value(http: httpx.Client) -> None:
    for name, person in PEOPLE.items():
        response = http.get(f"/stores/people/{quote(name)}")

        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        row = response.json()
        assert row.pop("timestamp") > 0
        assert row == {"key": name, "value": shown(person)}


def test_keys_of_all_kinds_are_asked_as_text(http: httpx.Client) -> None:
    assert http.get("/stores/rates/-3").json()["value"] == 1.5
    assert http.get("/stores/rates/keys/-3").json()["value"] == 1.5
    assert http.get(f"/stores/rates/{2**62}").json()["value"] == 0.25
    assert http.get("/stores/blobs/0x0000ff").json() | {"timestamp": 0} == {
        "key": {"base64": "AAD/"},
        "value": {"base64": base64.b64encode(BLOBS[b"\0\0\xff"]).decode()},
        "timestamp": 0,
    }
    ident = next(iter(IDS))
    assert http.get(f"/stores/ids/{ident}").json()["key"] == str(ident)


def test_what_json_has_no_number_for_is_a_text(http: httpx.Client) -> None:
    assert http.get("/stores/rates/7").json()["value"] == "Infinity"


def test_a_key_may_be_given_as_a_parameter(http: httpx.Client) -> None:
    asked = http.get("/stores/people", params={"key": "person 3"})

    assert asked.json() == http.get("/stores/people/person%203").json()


def test_all_rows_come_in_the_order_of_their_keys(http: httpx.Client) -> None:
    rows = http.get("/stores/people").json()

    assert [row["key"] for row in rows["rows"]] == sorted(PEOPLE)
    assert rows["cursor"] is None
    assert rows["store"] == "people"


def test_a_range_has_both_its_ends(http: httpx.Client) -> None:
    between = {"from": "person 12", "to": "person 20"}
    wanted = [name for name in sorted(PEOPLE) if "person 12" <= name <= "person 20"]

    for reverse in (False, True):
        rows = http.get("/stores/people", params={**between, "reverse": reverse}).json()["rows"]
        assert [row["key"] for row in rows] == sorted(wanted, reverse=reverse)


def test_a_prefix_finds_the_keys_that_begin_so(http: httpx.Client) -> None:
    rows = http.get("/stores/people", params={"prefix": "person 3"}).json()["rows"]

    assert [row["key"] for row in rows] == [n for n in sorted(PEOPLE) if n.startswith("person 3")]


@pytest.mark.parametrize(
    "asked", [{}, {"reverse": "true"}, {"prefix": "person 2"}, {"from": "person 15"}]
)
def test_pages_lead_through_all_rows(http: httpx.Client, asked: dict[str, str]) -> None:
    whole = http.get("/stores/people", params=asked).json()["rows"]

    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        given = {**asked, "limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = http.get("/stores/people", params=given).json()
        assert len(page["rows"]) <= 3
        found += page["rows"]
        cursor, pages = page["cursor"], pages + 1

    assert found == whole
    assert pages == -(-len(whole) // 3)


def test_a_global_store_answers_whole(http: httpx.Client) -> None:
    rows = http.get("/stores/ids").json()["rows"]

    assert {row["key"]: row["value"] for row in rows} == {str(i): n for i, n in IDS.items()}


def test_rows_are_counted(http: httpx.Client) -> None:
    assert http.get("/stores/people/count").json() == {
        "store": "people",
        "count": len(PEOPLE),
        "is_approximate": True,
    }


# -- windows -------------------------------------------------------------------------------


def hourly(key: str | None = None) -> dict[tuple[str, int], int]:
    """Returns (key, window start) -> clicks."""
    counts: dict[tuple[str, int], int] = {}
    for page, moment_ms in CLICKS:
        if key in (None, page):
            window = page, moment_ms // WINDOW_MS * WINDOW_MS
            counts[window] = counts.get(window, 0) + 1
    return counts


def windows_of(response: httpx.Response) -> dict[tuple[str, int], int]:
    """Returns (key, window start) -> value of an answer."""
    assert response.status_code == 200, response.text
    rows = response.json()["rows"]
    assert all(row["key"]["end"] - row["key"]["start"] == WINDOW_MS for row in rows)
    found = {(row["key"]["key"], row["key"]["start"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


STORES = ["hourly", "hourly-in-memory"]


@pytest.mark.parametrize("store", STORES)
def test_windows_of_a_key_come_in_the_order_of_time(http: httpx.Client, store: str) -> None:
    response = http.get(f"/stores/{store}/page%203/windows")

    assert windows_of(response) == hourly("page 3")
    starts = [row["key"]["start"] for row in response.json()["rows"]]
    assert starts == sorted(starts)
    backwards = http.get(f"/stores/{store}/page%203/windows", params={"reverse": "1"}).json()
    assert [row["key"]["start"] for row in backwards["rows"]] == starts[::-1]


@pytest.mark.parametrize("store", STORES)
def test_windows_between_two_moments_have_both_ends(http: httpx.Client, store: str) -> None:
    first, last = WINDOW_MS, 3 * WINDOW_MS
    wanted = {w: n for w, n in hourly().items() if first <= w[1] <= last}

    for params in (
        {"from": str(first), "to": str(last)},
        {"from": "1970-01-01T01:00:00", "to": "1970-01-01T04:00:00+01:00"},
    ):
        assert windows_of(http.get(f"/stores/{store}/windows", params=params)) == wanted
    one = {w: n for w, n in wanted.items() if w[0] == "page 2"}
    given = {"from": str(first), "to": str(last)}
    assert windows_of(http.get(f"/stores/{store}/page%202/windows", params=given)) == one
    by_parameter = http.get(f"/stores/{store}/windows", params={**given, "key": "page 2"})
    assert windows_of(by_parameter) == one


@pytest.mark.parametrize("store", STORES)
def test_windows_of_a_range_of_keys(http: httpx.Client, store: str) -> None:
    given = {"key_from": "page 2", "key_to": "page 4"}

    assert windows_of(http.get(f"/stores/{store}/windows", params=given)) == {
        w: n for w, n in hourly().items() if "page 2" <= w[0] <= "page 4"
    }


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("asked", [{}, {"reverse": "1"}, {"key": "page 1"}, {"from": "1"}])
def test_pages_lead_through_all_windows(
    http: httpx.Client, store: str, asked: dict[str, str]
) -> None:
    whole = http.get(f"/stores/{store}/windows", params=asked).json()["rows"]
    assert len(whole) >= 2

    found, cursor, is_first = [], None, True
    while is_first or cursor:
        given = {**asked, "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = http.get(f"/stores/{store}/windows", params=given).json()
        found += page["rows"]
        cursor, is_first = page["cursor"], False

    assert found == whole


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code", "told"),
    [
        ("/stores/nothing/a", 404, "unknown-store", "people"),
        ("/stores/people/nobody", 404, "key-not-found", "people"),
        ("/stores/ids/00000000-0000-0000-0000-0000000000ff", 404, "key-not-found", "ids"),
        ("/stores/people/", 404, "unknown-path", "?key="),
        ("/stores/people/a/b/c", 404, "unknown-path", "%2F"),
        ("/elsewhere", 404, "unknown-path", "/elsewhere"),
        ("/stores/rates/abc", 400, "bad-key", "an int from -2**63"),
        ("/stores/rates?from=x", 400, "bad-key", "from: 'x'"),
        ("/stores/people/%ff", 400, "bad-key", "UTF-8"),
        ("/stores/people?limit=0", 400, "bad-number", "1 to 10000"),
        ("/stores/people?limit=99999", 400, "bad-number", "a cursor leads on"),
        ("/stores/people?limit=x", 400, "bad-number", "'x'"),
        ("/stores/people?form=x", 400, "unknown-parameter", "from, to, prefix"),
        ("/stores/people?from=a&from=b", 400, "repeated-parameter", "from"),
        ("/stores/people?prefix=a&from=b", 400, "contradiction", "prefix and from"),
        ("/stores/people?prefix=a&reverse=1", 400, "contradiction", "prefix and reverse"),
        ("/stores/people?reverse=maybe", 400, "bad-flag", "true nor false"),
        ("/stores/people?cursor=!", 400, "bad-cursor", "'!'"),
        ("/stores/people?cursor=_w", 400, "bad-cursor", "begin anew"),
        ("/stores/hourly/windows?cursor=_w", 400, "bad-cursor", "begin anew"),
        ("/stores/people?scope=here", 400, "bad-scope", "all, owner, local"),
        ("/stores/people?partition=x", 400, "bad-number", "0,3"),
        (f"/stores/people?partition={PARTITIONS}", 400, "bad-number", "it has 0 to 3"),
        ("/stores/hourly/page%201/windows?from=soon", 400, "bad-moment", "epoch milliseconds"),
        ("/stores/people/a/windows", 409, "wrong-kind", "timestamped-key-value"),
        ("/stores/people/windows", 409, "wrong-kind", "/stores/people"),
        ("/stores/hourly", 409, "wrong-kind", "/stores/hourly/windows"),
        ("/stores/hourly/page%201", 409, "wrong-kind", "/stores/hourly/keys/{key}/windows"),
        ("/stores/hourly/keys/page%201", 409, "wrong-kind", "/stores/hourly/keys/{key}/windows"),
        # Of two readings the one by the path that keys have of their own: a key named windows.
        ("/stores/hourly/keys/windows", 409, "wrong-kind", "/stores/hourly/keys/{key}/windows"),
        ("/stores/people/keys/nobody", 404, "key-not-found", "people"),
        ("/stores/people/keys/", 404, "key-not-found", "people"),
        ("/stores/people/keys/?key=a", 400, "repeated-parameter", "key"),
        ("/stores/people/keys/a?key=b", 400, "unknown-parameter", "key"),
        ("/stores/rates/keys/abc", 400, "bad-key", "an int from -2**63"),
        ("/stores/people/keys/%ff", 400, "bad-key", "UTF-8"),
        ("/stores/people/keys/a/b", 404, "unknown-path", "%2F"),
        ("/stores/hourly/count", 409, "wrong-kind", "do not count"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_reason(
    http: httpx.Client, path: str, status: int, code: str, told: str
) -> None:
    assert told in refused(http.get(path), status, code)["detail"]


def test_nothing_can_be_written(http: httpx.Client) -> None:
    refused(http.post("/stores/people/a"), 405, "method-not-allowed")


ODD_KEYS = [
    *("a/b", "a b?c#d%", "%2F", "a+b", "a&b=c", "\t\n", "\0", "ä\U0001f600", '{"a": 1}', "0xff"),
    *("count", "windows", "keys", "/", "//", ".", "..", "", "x" * 5000),
]
WORDS_WITH_A_PATH = ("count", "windows", "keys")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Returns an application with a row, and a window, of every odd key."""
    builder = StreamsBuilder()
    builder.table("odd-in", key_serde=serdes.string, value_serde=serdes.string, store="odd")
    builder.table("blobs-in", key_serde=serdes.bytes, value_serde=serdes.string, store="blobs")
    builder.table("objects-in", key_serde=serdes.json, value_serde=serdes.string, store="objects")
    clicks = builder.stream("clicks", key_serde=serdes.string, value_serde=serdes.string)
    hours = TimeWindows.of_size(timedelta(hours=1))
    clicks.group_by_key().windowed_by(hours).count(name="hourly")
    log = memory_log()
    app = App(
        builder,
        application_id="asked",
        state_dir=tmp_path_factory.mktemp("odd"),
        application_server="127.0.0.1:0",
        commit_interval_ms=20,
        poll_ms=5,
        transport=lambda: MemoryTransport(log, "asked", default_partitions=PARTITIONS),
    )
    with app.producer() as producer:
        for key in ODD_KEYS:
            text = {"key_serde": serdes.string, "value_serde": serdes.string}
            producer.send("odd-in", f"v{key}", key=key, **text)
            producer.send("clicks", "x", key=key, timestamp=5, **text)
            producer.send(
                "blobs-in",
                "v",
                key=f"\xff{key}".encode("latin-1", "replace"),
                value_serde=serdes.string,
            )
            producer.send(
                "objects-in",
                "v",
                key=[key, {"n": 1}],
                key_serde=serdes.json,
                value_serde=serdes.string,
            )
    with app:
        idle(app)
        yield app


@pytest.fixture(scope="module")
def odd_urls(odd: App) -> Iterator[list[str]]:
    """Returns where to ask: the application, and one that must ask it for most of its rows."""
    share = Share(odd, {0}, Endpoint("", 0), {odd.endpoint: {1, 2, 3}})
    server = QueryServer("127.0.0.1:0", share)
    share.endpoint = server.endpoint
    server.start()
    yield [f"http://{odd.endpoint}", f"http://{server.endpoint}"]
    server.close()


def raw_get(url: str, path: str) -> Any:
    """Asks with the path as it is; httpx follows dots."""
    connection = HTTPConnection(url.removeprefix("http://"))
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_no_key_is_too_odd_to_be_asked_for(odd_urls: list[str], key: str) -> None:
    for url in odd_urls:
        by_parameter = httpx.get(f"{url}/stores/odd", params={"key": key}).json()
        assert (by_parameter["key"], by_parameter["value"]) == (key, f"v{key}")
        assert raw_get(url, f"/stores/odd/keys/{quote(key, safe='')}") == by_parameter
        if key not in (*WORDS_WITH_A_PATH, ""):
            assert raw_get(url, f"/stores/odd/{quote(key, safe='')}") == by_parameter
        path, parameters = key_target("odd", key)
        assert httpx.get(f"{url}{path}", params=dict(parameters) or None).json() == by_parameter


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_no_key_is_too_odd_to_be_asked_for_its_windows(odd_urls: list[str], key: str) -> None:
    for url in odd_urls:
        by_parameter = httpx.get(f"{url}/stores/hourly/windows", params={"key": key}).json()
        (row,) = by_parameter["rows"]
        assert row["key"] == {"key": key, "start": 0, "end": 3_600_000}
        assert raw_get(url, f"/stores/hourly/keys/{quote(key, safe='')}/windows") == by_parameter
        if key not in ("keys", ""):
            assert raw_get(url, f"/stores/hourly/{quote(key, safe='')}/windows") == by_parameter


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_bytes_and_json_are_keys_as_well(odd_urls: list[str], key: str) -> None:
    blob = f"\xff{key}".encode("latin-1", "replace")
    shown = {"base64": base64.b64encode(blob).decode()}
    written = json.dumps([key, {"n": 1}], ensure_ascii=False)
    for url in odd_urls:
        for text in (f"0x{blob.hex()}", f"base64:{shown['base64']}"):
            row = httpx.get(f"{url}/stores/blobs/keys/{quote(text, safe='')}").json()
            assert (row["key"], row["value"]) == (shown, "v")
        row = httpx.get(f"{url}/stores/objects/keys/{quote(written, safe='')}").json()
        assert (row["key"], row["value"]) == ([key, {"n": 1}], "v")


def test_words_that_had_a_path_before_keep_it(odd_urls: list[str]) -> None:
    for url in odd_urls:
        assert httpx.get(f"{url}/stores/odd/count").json()["count"] == len(ODD_KEYS)
        assert httpx.get(f"{url}/stores/odd/keys").json()["value"] == "vkeys"
        assert len(httpx.get(f"{url}/stores/hourly/windows").json()["rows"]) == len(ODD_KEYS)


# -- several instances ---------------------------------------------------------------------


@pytest.fixture
def shares(app: App) -> Iterator[list[Share]]:
    """Returns three instances that share the partitions, each behind a server of its own."""
    split = [{0, 2}, {1}, {3}]
    made = [Share(app, mine, Endpoint("", 0), {}) for mine in split]
    servers = [QueryServer("127.0.0.1:0", share) for share in made]
    for share, server in zip(made, servers, strict=True):
        share.endpoint = server.endpoint
    for share in made:
        share.others = {one.endpoint: one.partitions for one in made if one is not share}
    for server in servers:
        server.start()
    yield made
    for server in servers:
        server.close()


def test_any_instance_answers_for_every_key(shares: list[Share]) -> None:
    for share in shares:
        with httpx.Client(base_url=f"http://{share.endpoint}") as client:
            for name, person in PEOPLE.items():
                for scope in ("all", "owner"):
                    row = client.get("/stores/people", params={"key": name, "scope": scope}).json()
                    assert row["value"] == shown(person)
            refused(client.get("/stores/people/nobody"), 404, "key-not-found")


def test_any_instance_answers_with_all_rows(shares: list[Share], http: httpx.Client) -> None:
    for path in ("/stores/people?limit=7", "/stores/hourly/windows?reverse=1", "/stores/blobs"):
        whole = http.get(path)
        for share in shares:
            answer = httpx.get(f"http://{share.endpoint}{path}")
            assert answer.json() == whole.json()


def test_counts_of_all_instances_are_added_up(shares: list[Share]) -> None:
    answer = httpx.get(f"http://{shares[2].endpoint}/stores/people/count")

    assert answer.json()["count"] == len(PEOPLE)


def test_an_instance_can_be_asked_for_its_own_rows_only(shares: list[Share]) -> None:
    found: list[str] = []
    for share in shares:
        answer = httpx.get(f"http://{share.endpoint}/stores/people?scope=local").json()
        found += [row["key"] for row in answer["rows"]]

    assert sorted(found) == sorted(PEOPLE)
    assert len({len(share.partitions) for share in shares}) > 1


def test_one_partition_can_be_asked_for(shares: list[Share]) -> None:
    found: list[str] = []
    for partition in range(PARTITIONS):
        answer = httpx.get(f"http://{shares[0].endpoint}/stores/people?partition={partition}")
        found += [row["key"] for row in answer.json()["rows"]]

    assert sorted(found) == sorted(PEOPLE)
    elsewhere = httpx.get(f"http://{shares[0].endpoint}/stores/people?scope=local&partition=3")
    refused(elsewhere, 503, "store-moved")


def test_an_owner_that_is_gone_is_named(shares: list[Share]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = Endpoint("127.0.0.1", gone.getsockname()[1])
    shares[0].others = {nobody: {1, 3}}

    answer = httpx.get(f"http://{shares[0].endpoint}/stores/people")

    assert refused(answer, 503, "owner-unreachable")["instance"] == str(nobody)


def test_a_partition_nobody_has_is_told_rather_than_left_out(shares: list[Share]) -> None:
    shares[0].others = {shares[1].endpoint: {1}}
    url = f"http://{shares[0].endpoint}/stores/people"

    assert refused(httpx.get(url), 503, "owner-unknown")["partition"] == 3
    refused(httpx.get(f"{url}/nobody"), 503, "owner-unknown")
    refused(httpx.get(f"{url}/count"), 503, "owner-unknown")


def test_a_task_that_has_moved_on_is_not_answered_for(shares: list[Share]) -> None:
    shares[0].others = {shares[1].endpoint: {1, 3}}  # as the group said before 3 went on

    answer = httpx.get(f"http://{shares[0].endpoint}/stores/people")

    body = refused(answer, 503, "store-moved")
    assert body["instance"] == str(shares[1].endpoint)
    assert "partition 3" in body["detail"]


def test_a_partition_that_is_restored_holds_back_the_answers_that_need_it(
    shares: list[Share],
) -> None:
    def restoring(name: str, partition: int | None) -> StreamsError | None:
        is_it = partition in (1, None)
        return StoreNotReadyError(f"store {name!r} is being restored") if is_it else None

    shares[1].fault = restoring
    refused_keys = 0
    for name, person in PEOPLE.items():
        answer = httpx.get(f"http://{shares[0].endpoint}/stores/people", params={"key": name})
        if answer.status_code == 200:
            assert answer.json()["value"] == shown(person)
        else:
            refused(answer, 503, "store-not-ready")
            refused_keys += 1

    assert 0 < refused_keys < len(PEOPLE)
    refused(httpx.get(f"http://{shares[0].endpoint}/stores/people"), 503, "store-not-ready")
    refused(httpx.get(f"http://{shares[0].endpoint}/stores/people/nobody"), 503, "store-not-ready")


def test_an_owner_that_reads_the_question_otherwise_is_told_apart(shares: list[Share]) -> None:
    shares[1].unknown_stores = {"people"}  # another version of the application

    answer = httpx.get(f"http://{shares[0].endpoint}/stores/people")

    assert "there is no store" in refused(answer, 503, "owner-refused")["detail"]


def test_an_instance_of_a_later_version_is_not_answered(http: httpx.Client) -> None:
    headers = {"Thalweg-Hop": "2"}

    answer = http.get("/stores/people?scope=local&partition=0", headers=headers)

    assert "Thalweg-Hop 1 only" in refused(answer, 400, "unknown-hop")["detail"]


def test_what_is_no_answer_of_an_instance_is_told(shares: list[Share]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        stranger = Endpoint("127.0.0.1", other.getsockname()[1])
        shares[0].others = {stranger: {1, 3}}

        def answer_once() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(answer_once)
            answer = httpx.get(f"http://{shares[0].endpoint}/stores/people")
            done.result()

    refused(answer, 502, "owner-unreadable")


def test_answers_are_sent_at_once() -> None:
    # asyncio turns Nagle's algorithm off for sockets that say they are TCP, and for no others.
    server = QueryServer("127.0.0.1:0", Share(None, (), Endpoint("", 0), {}))  # type: ignore[arg-type]

    assert server._socket.proto == socket.IPPROTO_TCP

    server.close()


def test_a_failure_inside_is_told_without_its_traceback(shares: list[Share]) -> None:
    def broken(_name: str, _partition: int | None) -> StreamsError | None:
        raise RuntimeError("secret")

    shares[1].fault = broken

    answer = httpx.get(f"http://{shares[0].endpoint}/stores/people")

    refused(answer, 500, "internal-error")
    assert "secret" not in answer.text


def test_a_row_of_a_topic_partitioned_otherwise_is_found_still(app: App, tmp_path: Path) -> None:
    builder = StreamsBuilder()
    builder.table("own-in", key_serde=serdes.string, value_serde=serdes.string, store="own")
    log = memory_log()
    odd = App(
        builder,
        application_id="own",
        state_dir=tmp_path,
        commit_interval_ms=20,
        poll_ms=5,
        default_partitions=4,
        transport=lambda: MemoryTransport(log, "own", default_partitions=4),
    )
    with odd.producer() as producer:
        for number in range(8):
            producer.send(
                "own-in",
                str(number),
                key=f"k{number}",
                key_serde=serdes.string,
                value_serde=serdes.string,
                partition=number % 4,
            )
    with odd:
        idle(odd)
        left, right = (
            Share(odd, {0, 1}, Endpoint("a", 1), {}),
            Share(odd, {2, 3}, Endpoint("", 0), {}),
        )
        server, other = QueryServer("127.0.0.1:0", left), QueryServer("127.0.0.1:0", right)
        right.endpoint = other.endpoint
        left.others = {other.endpoint: {2, 3}}
        server.start()
        other.start()
        try:
            url = f"http://{server.endpoint}/stores/own"
            for number in range(8):
                assert httpx.get(f"{url}/k{number}").json()["value"] == str(number)
            trusting = [httpx.get(f"{url}/k{n}?scope=owner").status_code for n in range(8)]
            assert set(trusting) == {200, 404}
        finally:
            server.close()
            other.close()


# -- the instance --------------------------------------------------------------------------


def test_the_stores_are_listed(http: httpx.Client) -> None:
    stores = {store.pop("name"): store for store in http.get("/stores").json()["stores"]}

    assert stores["people"] == {
        "kind": "timestamped-key-value",
        "key_serde": "string",
        "value_serde": "msgpack",
        "is_global": False,
        "partitions": PARTITIONS,
        "local_partitions": [0, 1, 2, 3],
    }
    assert stores["hourly"]["kind"] == "timestamped-window"
    assert stores["ids"]["is_global"] is True


def test_metadata_tells_who_has_what(shares: list[Share]) -> None:
    body = httpx.get(f"http://{shares[1].endpoint}/metadata").json()

    assert body["application_id"] == "asked"
    here, *others = body["instances"]
    assert here["is_this"] is True
    assert (here["host"], here["port"]) == shares[1].endpoint
    assert here["stores"]["people"] == {"active": [1], "standby": []}
    assert here["topic_partitions"]["people-in"] == [1]
    assert here["global_stores"] == ["ids"]
    assert {one["port"]: one["stores"]["people"]["active"] for one in others} == {
        shares[0].endpoint.port: [0, 2],
        shares[2].endpoint.port: [3],
    }


def test_an_application_says_the_same_in_python(app: App) -> None:
    (own,) = app.metadata_for_all()

    assert (own.host, own.port) == app.endpoint
    assert own.is_local
    assert "hourly" in own.store_names
    assert ("clicks", 3) in own.topic_partitions
    assert app.metadata_for_store("people") == [own]
    found = app.key_query_metadata("people", "person 1")
    assert found.active_host == app.endpoint
    assert found.is_local
    assert app.store("people", partition=found.partition).get("person 1") == PEOPLE["person 1"]
    others = set(range(PARTITIONS)) - {found.partition}
    assert all(app.store("people", partition=p).get("person 1") is None for p in others)


def test_an_application_that_runs_is_healthy_and_ready(http: httpx.Client) -> None:
    health, ready = http.get("/health"), http.get("/ready")

    assert health.status_code == 200
    assert health.json() == {"state": "RUNNING", "error": None}
    assert ready.status_code == 200
    assert ready.json()["is_ready"] is True


def counting() -> StreamsBuilder:
    builder = StreamsBuilder()
    words = builder.stream(re.compile("words-.*"))
    words.group_by_key().count(name="counts")
    return builder


def test_an_application_is_not_ready_while_it_restores(tmp_path: Path) -> None:
    log = Log()
    log.send("words-1", ("a", "x"), ("b", "x"))
    with log.app(counting(), tmp_path / "first") as first:
        running.idle(first)
    app = log.app(counting(), tmp_path / "second", application_server="127.0.0.1:0")
    listener = HeldRestoring()
    app.set_restore_listener(listener)

    with app, httpx.Client(base_url=f"http://{app.endpoint}") as client:
        with listener.gate.held():
            ready, health = client.get("/ready"), client.get("/health")
            assert ready.status_code == 503
            assert ready.json() == {
                "is_ready": False,
                "state": "REBALANCING",
                "running_tasks": 0,
                "restoring_tasks": 1,
                "remaining_restore_records": 2,
            }
            assert health.status_code == 200, "it is no failure: nobody should restart it"
            refused(client.get("/stores/counts/a"), 503, "store-not-ready")
        assert app.wait_for(State.RUNNING, timeout=SOON)
        assert client.get("/ready").status_code == 200
        assert client.get("/stores/counts/a").json()["value"] == 1


def test_an_application_is_not_ready_while_it_rebalances(tmp_path: Path) -> None:
    log = Log()
    log.send("words-1", ("a", "x"))
    app = log.app(counting(), tmp_path, application_server="127.0.0.1:0")
    gate = Gate()
    # The state is told from the worker's thread, which takes no task over meanwhile.
    app.set_state_listener(
        lambda new, old: gate.wait() if (new, old) == (State.REBALANCING, State.RUNNING) else None
    )

    with app, httpx.Client(base_url=f"http://{app.endpoint}") as client:
        running.idle(app)
        assert client.get("/ready").status_code == 200
        log.send("words-2", ("a", "x"))
        with gate.held():
            ready = client.get("/ready")
            assert ready.status_code == 503
            assert ready.json()["state"] == "REBALANCING"
            assert ready.json()["restoring_tasks"] == 0
            assert client.get("/health").status_code == 200
        assert app.wait_for(State.RUNNING, timeout=SOON)
        assert client.get("/ready").status_code == 200


def test_metrics_are_told(http: httpx.Client) -> None:
    response = http.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'kafka_streams_client_state{client="asked",state="RUNNING"} 1.0' in response.text


def test_an_application_that_failed_says_so_until_it_is_closed(tmp_path: Path) -> None:
    app = made_app(tmp_path, application_server="127.0.0.1:0")
    with app.producer() as producer:
        producer.send("ids-in", b"x", key=b"no UUID")
    app.start()
    assert app.wait_for(State.ERROR, timeout=SOON)
    with httpx.Client(base_url=f"http://{app.endpoint}") as client:
        health = client.get("/health")
        assert health.status_code == 503
        assert "uuid" in health.json()["error"]
        assert client.get("/ready").status_code == 503
        assert client.get("/metrics").status_code == 200
        refused(client.get("/stores/people/a"), 503, "not-running")

    app.close()

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{health.url.port}/health")


def test_a_failed_start_lets_the_port_go(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = made_app(tmp_path, application_server=f"127.0.0.1:{port}")

    with pytest.raises(StreamsError):
        app.start()  # the topic of the global store does not exist

    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_in_use_is_told_with_the_remedy(app: App, tmp_path: Path) -> None:
    address = str(app.endpoint)
    second = made_app(tmp_path, application_server=address)

    with pytest.raises(ConfigError, match=rf"port {app.endpoint.port} is in use .* 127.0.0.1:0"):
        second.start()

    assert second.state is State.CREATED


def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    app = made_app(tmp_path, application_server="192.0.2.1:8080")

    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is no address of this machine"):
        app.start()


def test_no_address_is_no_server(tmp_path: Path) -> None:
    app = made_app(tmp_path)

    assert app.endpoint == ("", 0)
    assert [one.is_local for one in app.metadata_for_all()] == [True]


def test_closing_ends_the_server(tmp_path: Path) -> None:
    app = made_app(tmp_path, application_server="127.0.0.1:0")
    with app.producer() as producer:
        producer.create_topic("ids-in", 1)
    with app:
        app.wait_for(State.RUNNING, timeout=SOON)
        endpoint = app.endpoint
        assert httpx.get(f"http://{endpoint}/health").status_code == 200

    assert app.state is State.NOT_RUNNING
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{endpoint}/health")


def test_every_address_of_the_machine_may_be_listened_on(tmp_path: Path) -> None:
    app = made_app(tmp_path, application_server="0.0.0.0:0")
    with app.producer() as producer:
        producer.create_topic("ids-in", 1)
    with app:
        app.wait_for(State.RUNNING, timeout=timedelta(seconds=60))
        assert app.endpoint.host == socket.gethostname()
        assert httpx.get(f"http://127.0.0.1:{app.endpoint.port}/health").status_code == 200
