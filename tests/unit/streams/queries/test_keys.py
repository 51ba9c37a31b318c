"""Keys, prefixes and moments as text."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.serde import Serde, serdes
from thalweg.streams.queries.keys import parse_key, parse_moment_ms, parse_prefix


class Order(msgspec.Struct, frozen=True):
    """A typed key."""

    shop: str
    number: int


@pytest.mark.parametrize(
    ("serde", "text", "key"),
    [
        (serdes.string, "", ""),
        (serdes.string, " a/b ", " a/b "),
        (serdes.bytes, "plain", b"plain"),
        (serdes.bytes, "0x00fF", b"\x00\xff"),
        (serdes.bytes, "base64:AP8=", b"\x00\xff"),
        (serdes.int32, "-5", -5),
        (serdes.int64, "9223372036854775807", 2**63 - 1),
        (serdes.float64, "1.5", 1.5),
        (serdes.bool, "TRUE", True),
        (serdes.uuid, "550e8400-e29b-41d4-a716-446655440000", UUID(int=0x550E8400E29B41D4A716446655440000)),
        (serdes.json, '{"b":1,"a":[null]}', {"b": 1, "a": [None]}),
        (serdes.msgpack, '["x",2]', ["x", 2]),
        (serdes.json(Order), '{"shop":"s","number":3}', Order("s", 3)),
        (serdes.msgpack(Order), '{"shop":"s","number":3}', Order("s", 3)),
    ],
)  # fmt: skip
def test_a_key_is_read_by_its_serde(serde: Serde[Any], text: str, key: Any) -> None:
    read = parse_key(serde, text)

    assert read == key
    assert type(read) is type(key)


@pytest.mark.parametrize(
    ("serde", "text", "form"),
    [
        (serdes.int32, "2147483648", "an int from -2**31 to 2**31 - 1"),
        (serdes.int64, "1_000", "an int from -2**63"),
        (serdes.int64, "1.0", "an int from -2**63"),
        (serdes.int64, "", "an int from -2**63"),
        (serdes.float64, "x", "a number"),
        (serdes.bool, "1", "true or false"),
        (serdes.uuid, "123", "a UUID"),
        (serdes.bytes, "base64:!", "base64: and base64"),
        (serdes.json, "{", "JSON: "),
        (serdes.json(Order), '{"shop":"s"}', "missing required field `number`"),
        (serdes.string, "\udc80", "a text without lone surrogates"),
    ],
)
def test_what_is_no_key_is_refused_with_the_form_it_needs(
    serde: Serde[Any], text: str, form: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(form)):
        parse_key(serde, text)


def test_a_serde_of_ones_own_reads_its_bytes_as_text_though_it_is_named_like_a_builtin() -> None:
    mine = Serde.of(
        lambda key: key.lower().encode(), lambda data: data.decode().upper(), name="int64"
    )

    assert parse_key(mine, "abc") == "ABC"


@given(st.binary())
def test_any_bytes_can_be_asked_for_in_hex(key: bytes) -> None:
    assert parse_key(serdes.bytes, f"0x{key.hex()}") == key


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_number_can_be_asked_for(number: int) -> None:
    assert parse_key(serdes.int64, str(number)) == number


@pytest.mark.parametrize(
    ("serde", "text", "prefix"),
    [
        (serdes.string, "per", b"per"),
        (serdes.string, "0xff", b"\xff"),
        (serdes.uuid, "550e84", b"550e84"),
        (serdes.int32, "1", b"\0\0\0\1"),
        (serdes.int64, "0x00", b"\0"),
        (serdes.json, '{"shop"', b'{"shop"'),
    ],
)
def test_a_prefix_need_be_no_whole_key_where_keys_are_text(
    serde: Serde[Any], text: str, prefix: bytes
) -> None:
    assert parse_prefix(serde, text) == prefix


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0),
        ("1767225600001", 1767225600001),
        ("2026-01-01T00:00:00", 1767225600000),
        ("2026-01-01T01:00:00.001+01:00", 1767225600001),
        ("2026-01-01", 1767225600000),
        ("2026-01-01T00:00:00.057Z", 1767225600057),
    ],
)
def test_a_moment_is_epoch_milliseconds_or_iso(text: str, moment: int) -> None:
    assert parse_moment_ms(text) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1969-12-31", "1e3", str(2**63)])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no moment from 1970 on"):
        parse_moment_ms(text)
