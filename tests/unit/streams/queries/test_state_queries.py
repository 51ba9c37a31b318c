"""Queries of state: each partition by itself, with its position, or a reason why not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.unit.streams import running
from tests.unit.streams.queries.asked import (
    CLICKS,
    IDS,
    PARTITIONS,
    PEOPLE,
    RATES,
    WINDOW_MS,
    made_app,
)
from tests.unit.streams.running import Log
from thalweg import (
    App,
    FailureReason,
    KeyQuery,
    Position,
    QueryFailedError,
    RangeQuery,
    StreamsBuilder,
    TimestampedKeyQuery,
    TimestampedRangeQuery,
    UnknownStoreError,
    WindowKeyQuery,
    WindowRangeQuery,
    serdes,
)
from thalweg.streams.errors import AppStateError, StoreNotReadyError

FOREVER = 2**60


def rows(answer: Any) -> list[Any]:
    """Returns the rows of all partitions."""
    with answer:
        return [row for one in answer.partitions.values() for row in one.value]


def test_a_key_is_in_one_partition(app: App) -> None:
    name = "person 7"

    answer = app.query("people", KeyQuery[str, dict[str, Any]](name))

    assert sorted(answer.partitions) == list(range(PARTITIONS))
    assert answer.only is not None
    assert answer.only.value == PEOPLE[name]
    assert answer.only.execution_info == ()
    stamped = app.query("people", TimestampedKeyQuery[str, Any](name)).only
    assert stamped is not None
    assert stamped.value.value == PEOPLE[name]
    assert stamped.value.timestamp > 0
    assert app.query("people", KeyQuery("nobody")).only is None
    with pytest.raises(ValueError, match="key of a KeyQuery cannot be None"):
        KeyQuery(None)


def test_a_range_is_in_order_in_each_partition(app: App) -> None:
    every = app.query("people", RangeQuery[str, Any]())
    found = rows(every)
    assert dict(found) == PEOPLE
    some = app.query("people", RangeQuery(lower="person 2", upper="person 3", descending=True))
    expected = [name for name in PEOPLE if "person 2" <= name <= "person 3"]
    with some:
        for one in some.partitions.values():
            keys = [key for key, _ in one.value]
            assert keys == sorted(keys, reverse=True)
            expected = [name for name in expected if name not in keys]
    assert expected == []
    assert all(
        value.timestamp > 0 for _, value in rows(app.query("rates", TimestampedRangeQuery()))
    )
    assert dict(rows(app.query("rates", RangeQuery()))) == RATES


def test_windows(app: App) -> None:
    for store in ("hourly", "hourly-in-memory"):
        page, start = CLICKS[4][0], CLICKS[4][1] // WINDOW_MS * WINDOW_MS
        found = rows(app.query(store, WindowKeyQuery[str, int](page, 0, FOREVER)))
        assert start in [moment for moment, _ in found]
        assert all(stored.value >= 1 for _, stored in found)
        of_all = rows(app.query(store, WindowRangeQuery(time_from=start, time_to=start)))
        assert {windowed.window.start_ms for windowed, _ in of_all} == {start}
        wrong = app.query(store, WindowRangeQuery(key=page)).partitions[0]
        assert wrong.failure is FailureReason.UNKNOWN_QUERY_TYPE
        assert "time_from and time_to" in wrong.message


def test_a_store_says_what_it_answers(app: App) -> None:
    one = app.query("hourly", KeyQuery("page 1")).partitions[0]

    assert not one.is_success
    assert one.failure is FailureReason.UNKNOWN_QUERY_TYPE
    assert "timestamped-window store, which does not answer KeyQuery" in one.message
    assert "it answers WindowKeyQuery, WindowRangeQuery" in one.message
    with pytest.raises(QueryFailedError, match="UNKNOWN_QUERY_TYPE"):
        _ = one.value
    with pytest.raises(UnknownStoreError):
        app.query("nothing", KeyQuery("a"))


def test_partitions_that_are_named(app: App) -> None:
    answer = app.query("people", KeyQuery("person 7"), partitions=[1, PARTITIONS])

    assert sorted(answer.partitions) == [1, PARTITIONS]
    assert answer.partitions[1].is_success
    assert answer.partitions[PARTITIONS].failure is FailureReason.DOES_NOT_EXIST


def test_a_global_store_answers_as_a_whole(app: App) -> None:
    ident = next(iter(IDS))

    answer = app.query("ids", KeyQuery(ident))

    assert answer.partitions == {}
    assert answer.global_result is not None
    assert answer.global_result.value == IDS[ident]
    assert {topic for topic, _ in answer.position} == {"ids-in"}


def test_positions_are_those_of_the_sources(app: App) -> None:
    answer = app.query("people", RangeQuery(), require_active=True)
    answer.close()

    assert {topic for topic, _ in answer.position} == {"people-in"}
    assert sum(offset + 1 for offset in answer.position.values()) == len(PEOPLE)
    for partition, one in answer.partitions.items():
        assert all(at == ("people-in", partition) for at in one.position)
    bounded = app.query("people", KeyQuery("person 7"), position_bound=answer.position)
    assert all(one.is_success for one in bounded.partitions.values())
    ahead = Position({("people-in", 2): answer.position["people-in", 2] + 1})
    bounded = app.query("people", KeyQuery("person 7"), position_bound=ahead)
    failed = {n: one.failure for n, one in bounded.partitions.items() if not one.is_success}
    assert failed == {2: FailureReason.NOT_UP_TO_BOUND}
    active = app.query("people", KeyQuery("a"), position_bound=ahead, require_active=True)
    assert all(one.is_success for one in active.partitions.values())


def test_below_the_cache_and_how_it_was_asked(app: App) -> None:
    answer = app.query("people", KeyQuery("person 7", skip_cache=True), execution_info=True)

    assert answer.only is not None
    assert answer.only.value == PEOPLE["person 7"]
    (info,) = answer.only.execution_info
    assert "KeyQuery read timestamped-key-value store 'people'" in info


def test_an_application_that_is_not_started_is_not_asked(tmp_path: Any) -> None:
    app = made_app(tmp_path)

    with pytest.raises(StoreNotReadyError, match="is not started"):
        app.query("people", KeyQuery("a"))
    app.close()
    with pytest.raises((AppStateError, StoreNotReadyError)):
        app.query("people", KeyQuery("a"))


def test_positions_are_values() -> None:
    one = Position({("b", 1): 2, ("a", 0): 5})

    assert one.merged(Position({("a", 0): 3, ("b", 1): 9})) == {("a", 0): 5, ("b", 1): 9}
    assert Position.of_json('{"a":{"0":5},"b":{"1":2}}') == one
    assert one.as_json() == {"a": {"0": 5}, "b": {"1": 2}}
    assert list(one) == [("a", 0), ("b", 1)]
    assert one.covers(Position({("a", 0): 5, ("c", 1): 7}), 0)
    assert not one.covers(Position({("a", 0): 6}), 0)
    assert not Position().covers(one, 0)
    with pytest.raises(ValueError, match="is no position such as"):
        Position.of_json("[]")


# -- over HTTP -----------------------------------------------------------------------------


@pytest.fixture
def get(app: App) -> Any:
    """Returns a function that asks the application over HTTP."""

    def ask(path: str, status: int = 200, **parameters: Any) -> Any:
        page = httpx.get(f"http://{app.endpoint}/queries/{path}", params=parameters)
        assert page.status_code == status, page.text
        return page.json()

    return ask


def test_a_key_over_http(get: Any) -> None:
    answer = get("people/key", key="person 7", execution_info="true")

    assert (answer["store"], answer["query"]) == ("people", "key")
    (value,) = [one["value"] for one in answer["partitions"].values() if one["value"] is not None]
    assert value["age"] == 7
    assert all(len(one["execution_info"]) == 1 for one in answer["partitions"].values())
    assert "global" not in answer
    stamped = get("people/timestamped-key", key="person 7", skip_cache="true")
    assert [one["timestamp"] > 0 for one in stamped["partitions"].values() if one["value"]] == [
        True
    ]
    assert get("ids/key", key=str(next(iter(IDS))))["global"]["value"] == "n0"


def test_rows_over_http(get: Any) -> None:
    answer = get("people/range", lower="person", descending="true", partition="0,1", limit=3)

    assert sorted(answer["partitions"]) == ["0", "1"]
    for one in answer["partitions"].values():
        keys = [row["key"] for row in one["rows"]]
        assert keys == sorted(keys, reverse=True)
        assert len(keys) == 3
        assert one["is_cut"] is True
    page, moment = CLICKS[4]
    windows = get("hourly/window-key", key=page, time_from=0, time_to="2000-01-01")["partitions"]
    starts = [row["start"] for one in windows.values() for row in one["rows"]]
    assert moment // WINDOW_MS * WINDOW_MS in starts
    of_all = get("hourly/window-range", time_from=0, time_to=0)["partitions"]
    assert {row["key"]["start"] for one in of_all.values() for row in one["rows"]} == {0}


def test_positions_over_http(get: Any) -> None:
    answer = get("people/key", key="a")
    bound = {"people-in": {"0": answer["position"]["people-in"]["0"] + 1}}

    asked = {"key": "a", "position_bound": json.dumps(bound)}
    late = get("people/key", **asked)["partitions"]
    assert {n: one.get("failure") for n, one in late.items()} == {
        **dict.fromkeys(map(str, range(PARTITIONS))),
        "0": "NOT_UP_TO_BOUND",
    }
    active = get("people/key", **asked, require_active="true")["partitions"]
    assert not any("failure" in one for one in active.values())
    assert get("people/key", key="a", partition=99)["partitions"]["99"]["failure"] == (
        "DOES_NOT_EXIST"
    )


@pytest.mark.parametrize(
    ("path", "parameters", "status", "code"),
    [
        ("people/nothing", {}, 404, "unknown-path"),
        ("nothing/key", {"key": "a"}, 404, "unknown-store"),
        ("people/key", {}, 400, "missing-parameter"),
        ("people/key", {"key": "a", "lower": "b"}, 400, "unknown-parameter"),
        ("rates/key", {"key": "a"}, 400, "bad-key"),
        ("people/key", {"key": "a", "position_bound": "7"}, 400, "bad-position"),
        ("hourly/window-key", {"key": "a", "time_from": "0"}, 400, "missing-parameter"),
        ("hourly/window-key", {"key": "a", "time_from": "x", "time_to": 0}, 400, "bad-moment"),
    ],
)
def test_what_cannot_be_asked(
    get: Any, path: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    assert get(path, status, **parameters)["code"] == code


def test_what_a_store_does_not_answer_is_told_for_each_partition(get: Any) -> None:
    answer = get("hourly/key", key="a")["partitions"]

    assert {one["failure"] for one in answer.values()} == {"UNKNOWN_QUERY_TYPE"}


def test_a_position_survives_a_restart(tmp_path: Any) -> None:
    log = Log()
    log.send("words", *((key, "x") for key in "abcabc"))

    def position() -> Position:
        builder = StreamsBuilder()
        words = builder.stream("words", key_serde=serdes.string, value_serde=serdes.string)
        words.group_by_key().count(name="counts")
        with log.app(builder, tmp_path) as app:
            running.idle(app)
            return app.query("counts", KeyQuery("a"), require_active=True).position

    first = position()
    assert {topic for topic, _ in first} == {"words"}
    assert sum(offset + 1 for offset in first.values()) == 6
    assert position() == first
