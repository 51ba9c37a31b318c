"""Keys and values as text, both ways."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.serde import Serde, serdes
from thalweg.stores.windowed import (
    FOREVER_MS,
    TimeWindow,
    UnlimitedWindow,
    Windowed,
)
from thalweg.streams.cli import text
from thalweg.streams.cli.exits import UsageError


class Order(msgspec.Struct, frozen=True):
    """A typed value."""

    order_id: str
    raw: bytes = b""


@dataclasses.dataclass(frozen=True)
class Point:
    """A typed value of another make."""

    x: int


own = Serde.of(lambda value: value.encode(), lambda data: data.decode().upper(), name="own")

UUID_TEXT = "550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("typed", "serde", "value"),
    [
        ("a b", serdes.string, "a b"),
        ("5", serdes.string, "5"),
        ("-5", serdes.int32, -5),
        ("9223372036854775807", serdes.int64, 2**63 - 1),
        ("1.5", serdes.float64, 1.5),
        ("True", serdes.bool, True),
        ("false", serdes.bool, False),
        (UUID_TEXT, serdes.uuid, UUID(UUID_TEXT)),
        ("abc", serdes.bytes, b"abc"),
        ("0x00ff", serdes.bytes, b"\x00\xff"),
        ("0xf", serdes.bytes, b"0xf"),
        ('{"a": [1]}', serdes.json, {"a": [1]}),
        ('{"a": [1]}', serdes.msgpack, {"a": [1]}),
        ('{"order_id": "7"}', serdes.json(Order), Order("7")),
        ('{"order_id": "7"}', serdes.msgpack(Order), Order("7")),
        ("x", own, "X"),
    ],
)
def test_a_typed_key_becomes_what_its_serde_writes(
    typed: str, serde: Serde[Any], value: Any
) -> None:
    assert text.value_of(typed, serde) == value


@pytest.mark.parametrize(
    ("typed", "serde", "said"),
    [
        ("x", serdes.int64, "'x' is not an int from -2**63 to 2**63 - 1"),
        ("1.0", serdes.int32, "'1.0' is not an int"),
        ("2147483648", serdes.int32, "from -2**31 to 2**31 - 1"),
        ("yes", serdes.bool, "'yes' is not true or false"),
        ("1", serdes.uuid, "'1' is not a UUID"),
        ("{", serdes.json, "'{' is not JSON: Input data was truncated"),
        ("{}", serdes.json(Order), "missing required field `order_id`"),
        ("\udcff", serdes.string, "lone surrogates"),
    ],
)
def test_a_wrong_key_is_told_by_the_form_it_should_have(
    typed: str, serde: Serde[Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        text.value_of(typed, serde)
    assert said in str(caught.value)


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(), st.booleans(), st.uuids()))
def test_what_is_shown_of_a_key_can_be_typed_again(value: Any) -> None:
    serde = {int: serdes.int64, str: serdes.string, bool: serdes.bool, UUID: serdes.uuid}
    shown = text.shown(value).strip('"') if isinstance(value, UUID) else text.shown(value)

    assert text.value_of(shown, serde[type(value)]) == value


@pytest.mark.parametrize("name", list(text.SERDES))
def test_every_serde_is_found_by_its_name(name: str) -> None:
    assert text.serde_named(name).name == name


def test_a_serde_of_windowed_keys_is_found() -> None:
    assert text.serde_named("windowed(string, 60000)") == serdes.windowed(serdes.string, 60_000)


def test_a_serde_of_a_module_is_found() -> None:
    assert text.serde_named("thalweg.stores.serde:serdes.json") is serdes.json


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text", "there is no serde 'text'; give one of string, bytes,"),
        ("windowed(string,0)", "at least 1 ms"),
        ("windowed(text,5)", "there is no serde 'text'"),
        ("nowhere:serde", "cannot be loaded: ModuleNotFoundError"),
        ("thalweg.stores.serde:Struct", "is a type, no Serde"),
    ],
)
def test_a_wrong_serde_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        text.serde_named(name)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "serde", "prefix"),
    [
        ("ab", serdes.string, b"ab"),
        ("0x00ff", serdes.string, b"\x00\xff"),
        ("5", serdes.int32, b"\x00\x00\x00\x05"),
        ("550e", serdes.uuid, b"550e"),
        ('{"a"', serdes.json, b'{"a"'),
    ],
)
def test_a_prefix_need_not_be_a_whole_key(typed: str, serde: Serde[Any], prefix: bytes) -> None:
    assert text.prefix_of(typed, serde) == prefix


@pytest.mark.parametrize(
    ("typed", "moment"),
    [
        ("0", 0),
        ("1700000000123", 1_700_000_000_123),
        ("1970-01-01T00:00:01", 1_000),
        ("1970-01-01T01:00:01+01:00", 1_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:00.5Z", 500),
    ],
)
def test_a_moment_is_milliseconds_or_iso(typed: str, moment: int) -> None:
    assert text.moment_ms(typed) == moment


@pytest.mark.parametrize("typed", ["-1", "tomorrow", "1969-12-31", "", "99999999999999999999"])
def test_no_moment_before_1970(typed: str) -> None:
    with pytest.raises(UsageError, match="is no moment from 1970 on"):
        text.moment_ms(typed)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\tb", "a\tb"),
        (b"abc", "abc"),
        (b"\xff\x00", "0xff00"),
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ({"a": [1, b"\xff"]}, '{"a":[1,"0xff"]}'),
        ({1: 2}, '{"1":2}'),
        (Order("7", b"\xff"), '{"order_id":"7","raw":"0xff"}'),
        (Point(3), '{"x":3}'),
        (Windowed("k", TimeWindow(0, 60_000)), "k@1970-01-01T00:00:00Z/1970-01-01T00:01:00Z"),
        (Windowed("k", UnlimitedWindow(1)), "k@1970-01-01T00:00:00.001Z/forever"),
    ],
)
def test_values_are_shown_as_text_or_json(value: Any, shown: str) -> None:
    assert text.shown(value) == shown


def test_what_json_does_not_know_is_shown_as_text() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    assert text.shown(Odd()) == '"odd"'
    assert text.shown({(1, 2): 3}) == '"{(1, 2): 3}"'


def test_a_windowed_key_is_an_object_in_json() -> None:
    window = Windowed(b"k", TimeWindow(0, 5))

    assert json.loads(text.json_text(window)) == {
        "key": "k",
        "start": 0,
        "end": 5,
    }


def test_a_moment_beyond_all_calendars_is_a_number() -> None:
    assert text.shown_moment(FOREVER_MS - 1) == str(FOREVER_MS - 1)
    assert text.shown_moment(1_700_000_000_120) == "2023-11-14T22:13:20.120Z"
