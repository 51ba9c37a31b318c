"""Serdes: the JVM's bytes, refusals, and what the cache is told of them."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import (
    FOREVER_MS,
    TimeWindow,
    UnlimitedWindow,
    Windowed,
)


class Order(msgspec.Struct):
    id: int
    items: list[str] = []


class Line(msgspec.Struct, frozen=True):
    text: str
    tags: tuple[str, ...] = ()
    next: Line | None = None


class Basket(msgspec.Struct, frozen=True):
    lines: list[Line]


@dataclass(frozen=True)
class Point:
    x: float
    y: float


@dataclass
class Pen:
    at: Point


class Pair(NamedTuple):
    left: int
    right: Point


class Color(enum.Enum):
    RED = "red"


class Row(TypedDict):
    id: int


def write(serde: Serde[Any], value: Any) -> bytes:
    return serde.serializer("topic")(value)


def read(serde: Serde[Any], data: bytes) -> Any:
    return serde.deserializer("topic")(data)


# The JVM's types.


@pytest.mark.parametrize(
    ("serde", "value", "data"),
    [
        (serdes.bytes, b"\x00\xff", "00ff"),
        (serdes.string, "k0é€😀", "6b30c3a9e282acf09f9880"),
        (serdes.int32, -2, "fffffffe"),
        (serdes.int64, 17, "0000000000000011"),
        (serdes.int64, -(2**63), "8000000000000000"),
        (serdes.float64, 1.5, "3ff8000000000000"),
        (serdes.bool, True, "01"),
        (serdes.bool, False, "00"),
        (serdes.uuid, UUID(int=0xAB), b"00000000-0000-0000-0000-0000000000ab".hex()),
    ],
)
def test_bytes_equal_the_jvm(serde: Serde[Any], value: Any, data: str) -> None:
    assert write(serde, value).hex() == data
    assert read(serde, bytes.fromhex(data)) == value
    assert type(read(serde, bytes.fromhex(data))) is type(value)


BASIC = {
    "bytes": (serdes.bytes, st.binary()),
    "string": (serdes.string, st.text(st.characters(codec="utf-8"))),
    "int32": (serdes.int32, st.integers(-(2**31), 2**31 - 1)),
    "int64": (serdes.int64, st.integers(-(2**63), 2**63 - 1)),
    "float64": (serdes.float64, st.floats()),
    "bool": (serdes.bool, st.booleans()),
    "uuid": (serdes.uuid, st.uuids()),
}


@given(st.data())
@pytest.mark.parametrize("name", BASIC)
def test_values_come_back_as_the_facts_say(name: str, data: st.DataObject) -> None:
    serde, values = BASIC[name]
    one, two = data.draw(values), data.draw(values)
    encoded = write(serde, one)

    back = read(serde, encoded)
    assert back == one or (math.isnan(one) and math.isnan(back))
    assert serde.fixed_size_bytes in (None, len(encoded))
    assert serde.immutable
    if serde.keyable:
        assert (one == two) == (encoded == write(serde, two))
        assert hash(back) == hash(one)


def test_only_numbers_with_unlike_bytes_for_equal_values_cannot_be_keys() -> None:
    assert [name for name, (serde, _) in BASIC.items() if not serde.keyable] == ["float64"]


@pytest.mark.parametrize(
    ("serde", "value"),
    [
        (serdes.bytes, "text"),
        (serdes.bytes, bytearray(b"x")),
        (serdes.string, b"bytes"),
        (serdes.string, "\ud800"),
        (serdes.int32, 2**31),
        (serdes.int64, 2**63),
        (serdes.int64, 1.0),
        (serdes.int64, "1"),
        (serdes.float64, "1"),
        (serdes.bool, 1),
        (serdes.bool, 0.0),
        (serdes.uuid, "00000000-0000-0000-0000-0000000000ab"),
        (serdes.json(Order), {"id": 1}),
        (serdes.json(int), "1"),
        (serdes.json(Row), [1]),
        (serdes.json(tuple[int, ...]), [1]),
        (serdes.json, object()),
        (serdes.windowed(serdes.string, 10), "key"),
        (serdes.windowed(serdes.string, 10), Windowed(1, TimeWindow(0, 10))),
    ],
)
def test_a_value_of_another_type_is_refused(serde: Serde[Any], value: Any) -> None:
    with pytest.raises(SerializationError) as refused:
        write(serde, value)

    message = str(refused.value)
    if not isinstance(value, Windowed):
        assert f"serde {serde.name} cannot write a value of type {type(value).__name__}" in message
    assert "give the operator or store the serde of its type" in message
    assert refused.value.topic == "topic"


@pytest.mark.parametrize(
    ("serde", "data"),
    [
        (serdes.string, b"\xff\xfe"),
        (serdes.int32, b"abc"),
        (serdes.int64, b"123456789"),
        (serdes.float64, b""),
        (serdes.bool, b"\x02"),
        (serdes.bool, b""),
        (serdes.uuid, b"not a uuid"),
        (serdes.json, b"{"),
        (serdes.json(Order), b'{"id": "one"}'),
        (serdes.msgpack(Order), b"\xc1"),
        (serdes.windowed(serdes.string, 10), b"short"),
        (serdes.windowed(serdes.string, 10), b"k" + b"\xff" * 8),
    ],
)
def test_bytes_of_another_layout_are_refused(serde: Serde[Any], data: bytes) -> None:
    with pytest.raises(DeserializationError) as refused:
        read(serde, data)

    assert f"serde {serde.name} cannot read {len(data)} bytes (" in str(refused.value)
    assert refused.value.topic == "topic"


def test_a_message_shows_no_more_than_the_head_of_the_bytes() -> None:
    with pytest.raises(DeserializationError, match=r"12 bytes \(73 65 63 72 65 74 20 74 …\)"):
        read(serdes.int64, b"secret token")


def test_a_serde_of_two_functions_keeps_the_cause() -> None:
    serde = Serde.of(lambda value: value["b"], dict, name="mine")

    with pytest.raises(SerializationError, match="serde mine cannot write a value of type dict"):
        write(serde, {})
    with pytest.raises(DeserializationError) as refused:
        read(serde, b"abc")
    assert isinstance(refused.value.__cause__, TypeError)
    assert not serde.keyable
    assert not serde.immutable


def test_a_serde_of_two_functions_says_what_it_is_told() -> None:
    serde = Serde.of(str.encode, bytes.decode, name="text", keyable=True, immutable=True)

    assert (serde.name, serde.keyable, serde.immutable) == ("text", True, True)
    assert read(serde, write(serde, "x")) == "x"


# JSON and msgpack.


@pytest.mark.parametrize("kind", [serdes.json, serdes.msgpack])
def test_values_are_read_as_the_type_given(kind: Any) -> None:
    order = Order(1, ["a"])
    line = Line("x", ("t",), Line("y"))

    assert read(kind(Order), write(kind(Order), order)) == order
    assert read(kind(Line), write(kind(Line), line)) == line
    assert read(kind(Pair), write(kind(Pair), Pair(1, Point(0.5, 2)))) == Pair(1, Point(0.5, 2))
    assert read(kind(int | str), write(kind(int | str), "x")) == "x"
    assert read(kind, write(kind, {"a": [1, None, "x"]})) == {"a": [1, None, "x"]}


def test_a_float_may_be_given_as_int() -> None:
    assert read(serdes.json(float), write(serdes.json(float), 3)) == 3.0


def test_equal_dicts_are_the_same_bytes() -> None:
    assert write(serdes.json, {"b": 1, "a": 2}) == write(serdes.json, {"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (int, True),
        (str, True),
        (datetime, True),
        (Color, True),
        (Line, True),
        (Point, True),
        (Pair, True),
        (tuple[int, Line], True),
        (tuple[Line, ...], True),
        (frozenset[str], True),
        (Order, False),
        (Basket, False),
        (Pen, False),
        (Row, False),
        (list[int], False),
        (dict[str, int], False),
        (tuple[list[int], ...], False),
        (int | str, False),  # no class to check: what is written may be anything
    ],
)
def test_what_cannot_change_may_be_kept_decoded(type_: Any, expected: bool) -> None:
    assert serdes.json(type_).immutable is expected
    assert not serdes.json(type_).keyable


def test_schemaless_values_can_change() -> None:
    assert not serdes.json.immutable
    assert not serdes.msgpack.immutable


def test_serdes_of_one_type_are_equal() -> None:
    assert serdes.json(Order) == serdes.json(Order)
    assert hash(serdes.json(Order)) == hash(serdes.json(Order))
    assert serdes.json(Order) != serdes.json(Line)
    assert serdes.json(Order) != serdes.msgpack(Order)
    assert serdes.json(list[int]) == serdes.json(list[int])


def test_names_say_the_type() -> None:
    assert [
        serde.name for serde in (serdes.json, serdes.json(Order), serdes.msgpack(list[int]))
    ] == [
        "json",
        "json(Order)",
        "msgpack(list[int])",
    ]
    assert repr(serdes.json(Order)) == "<serde json(Order)>"


# Windowed keys.


def test_windowed_keys_are_key_and_start() -> None:
    serde = serdes.windowed(serdes.string, 10)

    assert write(serde, Windowed("k2", TimeWindow(50, 60))).hex() == "6b320000000000000032"
    assert read(serde, bytes.fromhex("6b320000000000000032")) == Windowed("k2", TimeWindow(50, 60))
    assert serde.inner is serdes.string


def test_an_unlimited_window_ends_with_time() -> None:
    serde = serdes.windowed(serdes.int64, FOREVER_MS)
    data = write(serde, Windowed(1, UnlimitedWindow(50)))

    assert read(serde, data) == Windowed(1, TimeWindow(50, FOREVER_MS))


def test_windowed_serdes_tell_what_their_keys_are() -> None:
    longs, texts = serdes.windowed(serdes.int64, 10), serdes.windowed(serdes.string, 10)

    assert (longs.fixed_size_bytes, texts.fixed_size_bytes) == (16, None)
    assert longs.immutable
    assert not longs.keyable  # windows of 10 and 20 ms from the same start have the same bytes
    assert serdes.windowed(serdes.string, 10) == texts
    assert serdes.windowed(serdes.string, 11) != texts
    assert longs.name == "windowed(int64, 10 ms)"
    with pytest.raises(ValueError, match="window_size_ms must be at least 1"):
        serdes.windowed(serdes.string, 0)
