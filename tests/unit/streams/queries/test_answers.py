"""Keys and values as JSON, pages, and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from thalweg.stores.errors import (
    BackendError,
    StoreClosedError,
    StoreMovedError,
    UnknownStoreError,
)
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.streams.queries.answers import (
    RefusedError,
    json_bytes,
    plain,
    refusal_of,
)
from thalweg.streams.queries.rows import page


class Order(msgspec.Struct):
    """A typed value."""

    at: datetime
    paid: bytes


@dataclass
class Shop:
    """A value that is a dataclass."""

    name: str


class Opaque:
    """A value msgspec knows nothing of."""


OPAQUE: Serde[Any] = Serde.of(lambda _value: b"\1\2", lambda _data: Opaque(), name="opaque")


@pytest.mark.parametrize(
    ("value", "serde", "shown"),
    [
        ("a", serdes.string, "a"),
        (2**63 - 1, serdes.int64, 2**63 - 1),
        (True, serdes.bool, True),
        (1.5, serdes.float64, 1.5),
        (float("nan"), serdes.float64, "NaN"),
        (float("-inf"), serdes.float64, "-Infinity"),
        (b"\0\1", serdes.bytes, {"base64": "AAE="}),
        (b"", serdes.bytes, {"base64": ""}),
        (UUID(int=5), serdes.uuid, str(UUID(int=5))),
        ({"a": [1, None, {"b": b"x"}]}, serdes.msgpack, {"a": [1, None, {"b": {"base64": "eA=="}}]}),
        ({1: "x"}, serdes.msgpack, {"1": "x"}),
        (Shop("s"), serdes.json(Shop), {"name": "s"}),
        (
            Order(datetime(2026, 1, 1, tzinfo=UTC), b"y"),
            serdes.msgpack(Order),
            {"at": "2026-01-01T00:00:00Z", "paid": {"base64": "eQ=="}},
        ),
        (Opaque(), OPAQUE, {"base64": "AQI="}),
        ([Opaque()], OPAQUE, {"base64": "AQI="}),
        (Windowed(b"k", TimeWindow(5, 7)), serdes.bytes, {"key": {"base64": "aw=="}, "start": 5, "end": 7}),
    ],
)  # fmt: skip
def test_a_value_looks_the_same_whatever_holds_it(
    value: Any, serde: Serde[Any], shown: Any
) -> None:
    assert json.loads(json_bytes(plain(value, serde))) == shown


class Ordered(NamedTuple):
    """Something with an order."""

    order: bytes
    number: int


def test_rows_of_equal_order_are_not_divided_between_pages() -> None:
    rows = [Ordered(b"a", 1), Ordered(b"b", 2), Ordered(b"b", 3), Ordered(b"c", 4)]

    assert page(rows, 2) == (rows[:3], True)
    assert page(rows, 1) == (rows[:1], True)
    assert page(rows[:3], 2) == (rows[:3], False)
    assert page(rows, 4) == (rows, False)
    assert page([], 1) == ([], False)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnknownStoreError("x"), 404, "unknown-store"),
        (StoreMovedError("x"), 503, "store-moved"),
        (StoreClosedError("x"), 503, "store-moved"),
        (BackendError("x"), 500, "store-failed"),
    ],
)
def test_an_error_of_a_store_is_a_refusal(error: Any, status: int, code: str) -> None:
    refusal = refusal_of(error)

    body = json.loads(refusal.body())
    assert (body["status"], body["code"], body["detail"]) == (status, code, "x")
    assert ("Retry-After" in refusal.headers) is (status == 503)


def test_a_refusal_stays_what_it_is() -> None:
    refusal = RefusedError(HTTPStatus.CONFLICT, "odd", "so it is", store="s")

    assert refusal_of(refusal) is refusal
    assert json.loads(refusal.body()) == {
        "title": "Conflict",
        "status": 409,
        "code": "odd",
        "detail": "so it is",
        "store": "s",
    }
