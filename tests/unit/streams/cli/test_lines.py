"""Records as lines, in and out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.record import Headers
from thalweg.stores.serde import serdes
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.streams.cli.exits import UsageError
from thalweg.streams.cli.lines import (
    chunks_of_lines,
    json_line,
    json_lines,
    plain_line,
    plain_lines,
    serde_or_none,
)
from thalweg.topology.processor import ConsumedRecord


def consumed(key: Any, value: Any, *headers: tuple[str, bytes | None]) -> ConsumedRecord:
    return ConsumedRecord(key, value, 5, "t", 1, 7, Headers(headers))


def test_a_plain_line_is_a_value() -> None:
    line = plain_lines(None, None, None)("a:b é".encode())

    assert line is not None
    assert (line.key, line.value, line.value_serde) == (None, "a:b é", serdes.string)


def test_a_separator_stands_between_key_and_value() -> None:
    line = plain_lines(serdes.int64, serdes.string, ":")(b"5:1.5:x")

    assert line is not None
    assert (line.key, line.value) == (5, "1.5:x")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no separator", "there is no ':' between key and value"),
        (b"x:1", "'x' is not an int"),
        (b"\xff:1", "it is not UTF-8 (invalid start byte at byte 0)"),
    ],
)
def test_a_wrong_plain_line_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        plain_lines(serdes.int64, None, ":")(data)
    assert said in str(caught.value)


def test_bytes_are_taken_as_they_are() -> None:
    line = plain_lines(None, serdes.bytes, None)(b"\xff\x00")

    assert line is not None
    assert line.value == b"\xff\x00"


def test_a_json_line_says_all_of_a_record() -> None:
    line = json_lines(None, None)(
        b'{"key": "k", "value": {"b": 1, "a": null}, "timestamp": "1970-01-01T00:00:01Z",'
        b' "headers": {"h": "x", "n": null, "b": "0xff"}, "partition": 2, "offset": 9}'
    )

    assert line is not None
    assert (line.key, line.key_serde) == ("k", serdes.string)
    assert (line.value, line.value_serde) == ({"b": 1, "a": None}, serdes.json)
    assert line.timestamp == 1_000
    assert line.headers == [("h", b"x"), ("n", None), ("b", b"\xff")]
    assert line.partition == 2


def test_headers_may_repeat_as_pairs() -> None:
    line = json_lines(None, None)(b'{"value": 1, "headers": [["h", "x"], ["h", null]]}')

    assert line is not None
    assert line.headers == [("h", b"x"), ("h", None)]


def test_a_null_value_is_none() -> None:
    line = json_lines(None, serdes.int64)(b'{"key": "k", "value": null}')

    assert line is not None
    assert line.value is None


def test_a_blank_line_of_json_says_nothing() -> None:
    assert json_lines(None, None)(b"  ") is None


@pytest.mark.parametrize(
    ("serde", "given_value", "value"),
    [
        ("string", '"x"', "x"),
        ("int64", "5", 5),
        ("int64", '"5"', 5),
        ("float64", "1", 1.0),
        ("bool", "true", True),
        ("bytes", '"0xff"', b"\xff"),
        ("json", '"x"', "x"),
        ("msgpack", "[1]", [1]),
        (
            "windowed(string,5)",
            '{"key": "k", "start": 10, "end": 15}',
            Windowed("k", TimeWindow(10, 15)),
        ),
        (
            "windowed(string,5)",
            '{"key": "k", "window": {"start_ms": 10, "end_ms": 15}}',
            Windowed("k", TimeWindow(10, 15)),
        ),
    ],
)
def test_a_json_value_becomes_what_its_serde_writes(
    serde: str, given_value: str, value: Any
) -> None:
    line = json_lines(None, serde_or_none(serde))(f'{{"value": {given_value}}}'.encode())

    assert line is not None
    assert line.value == value
    line.value_serde.serializer("t")(line.value)


@pytest.mark.parametrize(
    ("serde", "data", "said"),
    [
        ("auto", b"{", "it is not a record in JSON: Input data was truncated"),
        ("auto", b"[]", "Expected `object`, got `array`"),
        ("auto", b'{"key": 1}', "missing required field `value`"),
        ("auto", b'{"value": 1, "ts": 1}', "unknown field `ts`"),
        ("auto", b'{"value": 1, "timestamp": "soon"}', "'soon' is no moment"),
        ("string", b'{"value": 5}', "value: 5 is not a text"),
        ("int64", b'{"value": "x"}', "value: 'x' is not an int"),
        ("int64", b'{"value": [1]}', "value: '[1]' is not an int"),
        ("windowed(string,5)", b'{"value": {"key": "k"}}', "is not {key, start, end}"),
    ],
)
def test_a_wrong_json_line_is_refused(serde: str, data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        json_lines(None, serde_or_none(serde))(data)
    assert said in str(caught.value)


def test_a_record_is_shown_with_its_key_where_it_has_one() -> None:
    assert plain_line(consumed(b"k", 5), "\t") == "k\t5"
    assert plain_line(consumed(None, b"v"), "\t") == "v"
    assert plain_line(consumed("k", None), ":") == "k:null"


def test_a_record_is_shown_whole_in_json() -> None:
    row = json.loads(json_line(consumed(b"k", b'{"a": 1}', ("h", b"x"), ("n", None))))

    assert row == {
        "topic": "t",
        "partition": 1,
        "offset": 7,
        "timestamp": 5,
        "key": "k",
        "value": {"a": 1},
        "headers": {"h": "x", "n": None},
    }


def test_headers_that_repeat_are_shown_as_pairs() -> None:
    row = json.loads(json_line(consumed(None, b"{x", ("h", b"x"), ("h", b"\xff"))))

    assert row["headers"] == [["h", "x"], ["h", "0xff"]]
    assert row["value"] == "{x"


@given(
    st.one_of(st.none(), st.text()),
    st.one_of(st.text(), st.dictionaries(st.text(), st.integers(0, 2**53)), st.lists(st.text())),
)
def test_what_is_consumed_as_json_can_be_produced_again(key: str | None, value: Any) -> None:
    key_bytes = None if key is None else key.encode()
    serde = serdes.string if isinstance(value, str) else serdes.json
    value_bytes = serde.serializer("")(value)
    if isinstance(value, str) and value.startswith(("{", "[")):
        return  # text that is JSON is taken for JSON, which may be written another way

    line = json_lines(None, None)(json_line(consumed(key_bytes, value_bytes)).encode())

    assert line is not None
    assert line.key == key
    assert line.value_serde.serializer("")(line.value) == value_bytes
    assert (line.timestamp, line.partition) == (5, 1)


@given(st.lists(st.binary(max_size=6)), st.data())
def test_lines_do_not_depend_on_how_they_arrive(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"\n".join(part.replace(b"\n", b"").replace(b"\r", b"") for part in parts)
    chunks, rest = [], whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        chunks.append(rest[:size])
        rest = rest[size:]
    source = iter([*chunks, b""])

    found = [line for lines in chunks_of_lines(lambda: next(source)) for line in lines]

    expected = whole.split(b"\n")
    assert found == (expected[:-1] if not expected[-1] else expected)


def test_a_carriage_return_belongs_to_the_end_of_a_line() -> None:
    source = iter([b"a\r\nb\r", b"\nc\r", b""])

    assert list(chunks_of_lines(lambda: next(source))) == [[b"a"], [b"b"], [b"c"]]
