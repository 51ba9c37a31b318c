"""Byte layouts against vectors recorded from the JVM, round trips, and broken input."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.formats import (
    decode_change,
    decode_partition_metadata,
    decode_processor_metadata,
    decode_value_and_timestamp,
    decode_window_key,
    decode_windowed_key,
    encode_change,
    encode_partition_metadata,
    encode_value_and_timestamp,
    encode_window_key,
    encode_windowed_key,
)

times = st.integers(0, 2**63 - 1)


def test_layouts_equal_the_jvm() -> None:
    eleven = bytes.fromhex("0000000000000011")

    assert (
        encode_value_and_timestamp(eleven, 165).hex() == "00000000000000a50000000000000011"
    )  # process_all_store_kinds, store tkv
    assert encode_window_key(b"k0", 70, 4).hex() == "6b30000000000000004600000004"  # its store dup
    assert encode_window_key(b"k2", 50).hex() == "6b32000000000000003200000000"  # window_unlimited
    assert encode_windowed_key(b"k2", 50).hex() == "6b320000000000000032"  # its output
    assert encode_partition_metadata(0x167) == "AgAAAAAAAAFn"  # agg_count
    emitted = "AgAAAAAAAAMQAAAAAQAAAANjbnQAAAAAAAADCw=="  # emitfinal_hopping
    assert encode_partition_metadata(0x310, {"cnt": 0x30B}) == emitted
    assert decode_processor_metadata(emitted) == {"cnt": 0x30B}


@pytest.mark.parametrize(
    ("new", "old", "data"),
    [
        ("6b3266", None, "6b326601"),  # table_group_aggregate
        (None, "6b3266", "6b326600"),
        ("6b3265", "6b3265", "066b32656b326502"),
        ("6b3265", "6b326565", "066b32656b32656502"),
        ("000000000000000a", "0000000000000012", "10000000000000000a000000000000001202"),
    ],
)
def test_changes_equal_the_jvm(new: str | None, old: str | None, data: str) -> None:
    pair = new and bytes.fromhex(new), old and bytes.fromhex(old)

    assert encode_change(*pair).hex() == data
    assert decode_change(bytes.fromhex(data)) == pair


@given(st.binary(), times)
def test_rows_and_keys_come_back(data: bytes, time: int) -> None:
    assert decode_value_and_timestamp(encode_value_and_timestamp(data, time)) == (data, time)
    assert decode_window_key(encode_window_key(data, time, 7)) == (data, time, 7)
    assert decode_windowed_key(encode_windowed_key(data, time)) == (data, time)
    assert decode_partition_metadata(encode_partition_metadata(time)) == time


@given(st.none() | st.binary(max_size=300), st.none() | st.binary(max_size=300))
def test_changes_come_back(new: bytes | None, old: bytes | None) -> None:
    if new is None and old is None:
        with pytest.raises(SerializationError, match="neither"):
            encode_change(new, old)
    else:
        assert decode_change(encode_change(new, old)) == (new, old)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"old\x01\x03", (None, b"old")),
        (b"new\x00\x04", (b"new", None)),
        (b"\x06newold\x01\x05", (b"new", b"old")),
    ],
)
def test_changes_of_versioned_tables_are_read(data: bytes, expected: Any) -> None:
    assert decode_change(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",  # no length
        b"\x80\x02",  # the length goes on
        b"\x08new\x02",  # longer than what is there
        b"\x01new\x02",  # negative
        b"\xff\xff\xff\xff\xff\xff\x02",  # longer than any length
        b"\x03",  # no is-latest flag
        b"old\x02\x03",  # no such is-latest flag
        b"old\x06",  # no such kind
    ],
)
def test_broken_changes_are_refused(data: bytes) -> None:
    with pytest.raises(DeserializationError, match="change"):
        decode_change(data)


@given(st.binary(max_size=40))
def test_a_change_is_read_or_refused(data: bytes) -> None:
    try:
        new, old = decode_change(data)
    except DeserializationError:
        return
    assert new is not None or old is not None


@pytest.mark.parametrize(
    ("decode", "least"),
    [(decode_value_and_timestamp, 8), (decode_window_key, 12), (decode_windowed_key, 8)],
)
def test_truncated_rows_are_refused(decode: Callable[[bytes], Any], least: int) -> None:
    decode(bytes(least))
    for size in range(least):
        with pytest.raises(DeserializationError, match=f"at least {least} bytes, got {size}"):
            decode(bytes(size))


@pytest.mark.parametrize(
    "text", ["", "note of an operator", "Ag==", "AgAAAAAAAAA=", "BQAAAAAAAAFn"]
)
def test_metadata_of_others_is_not_understood(text: str) -> None:
    assert decode_partition_metadata(text) == -1
    assert decode_processor_metadata(text) == {}


@given(st.dictionaries(st.text(max_size=20), times, max_size=4), times, st.integers(0, 200))
def test_what_processors_keep_comes_back_whole_or_not_at_all(
    kept: dict[str, int], time: int, cut: int
) -> None:
    text = encode_partition_metadata(time, kept)
    assert decode_partition_metadata(text) == time
    assert decode_processor_metadata(text) == kept
    part = b64encode(b64decode(text)[:cut]).decode()
    assert decode_processor_metadata(part) in ({}, kept)


def test_metadata_is_read_in_either_version_and_with_more_behind() -> None:
    assert decode_partition_metadata("AQAAAAAAAAFn") == 0x167
    assert decode_partition_metadata("AgAAAAAAAAFnAAAAAA==") == 0x167


@given(st.binary(max_size=4), times, times)
def test_rows_of_one_key_are_ordered_by_time(key: bytes, one: int, two: int) -> None:
    assert (encode_window_key(key, one) < encode_window_key(key, two)) == (one < two)
