"""Codecs: what they write, what they refuse, and rows of the wrong codec."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.bytes.files import FilesByteStore
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import (
    BackendError,
    CodecError,
    CodecMismatchError,
    CorruptDataError,
    DecodeError,
    EncodeError,
    NoListSupportError,
    StorageError,
)
from thalweg.stores.tiers import (
    AppendLogTier,
    BytesCodec,
    Codec,
    JsonCodec,
    KeyValueTier,
    MsgpackCodec,
    SnapshotTier,
    memory_kv,
)


class Point(msgspec.Struct):
    y: int
    x: int


class Reversing:
    """A codec of someone else's, without anything but what a codec must have."""

    name = "reversing"
    version = 3

    def encode(self, value: Any) -> bytes:
        return json.dumps(value).encode()[::-1]

    def decode(self, data: bytes) -> Any:
        return json.loads(data[::-1])


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_json)
def test_t8_json_is_the_default_and_canonical(value: Any) -> None:
    codec: JsonCodec[Any] = JsonCodec()
    assert (codec.name, codec.version) == ("json", 1)
    data = codec.encode(value)
    assert codec.decode(data) == value
    assert json.loads(data) == value
    shuffled = json.loads(json.dumps(value), object_pairs_hook=lambda pairs: dict(pairs[::-1]))
    assert codec.encode(shuffled) == data


def test_t8_canonical_json_has_sorted_keys_no_spaces_and_utf8() -> None:
    codec: JsonCodec[Any] = JsonCodec()
    assert codec.encode({"b": [1, 2], "ä": 1.5, "a": {"d": None, "c": "🙂"}}) == (
        '{"a":{"c":"🙂","d":null},"b":[1,2],"ä":1.5}'.encode()
    )
    assert codec.encode({2: "b", 1: "a"}) == b'{"1":"a","2":"b"}'
    assert JsonCodec(Point).encode(Point(y=1, x=2)) == b'{"x":2,"y":1}'


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, [None, {"a": (1.0, math.nan)}], object(), "\ud800"]
)
def test_t9_json_refuses_what_it_has_no_form_for(value: Any) -> None:
    tier = memory_kv("mine")
    with pytest.raises(EncodeError, match=r"tier 'mine': a value of key 'k' .* json/1"):
        tier.save("k", value)
    assert tier.load("k") is None


@pytest.mark.parametrize("codec", [JsonCodec(Point), MsgpackCodec(Point)])
def test_a_typed_codec_gives_values_of_its_type_back(codec: Codec[Point]) -> None:
    store = MemoryByteStore("mine")
    tier = KeyValueTier[Point](store, name="typed", codec=codec)
    tier.save("p", Point(1, 2))
    assert tier.load("p") == Point(1, 2)
    with pytest.raises(EncodeError, match="Point was expected, not int"):
        tier.save("q", 1)  # type: ignore[arg-type]
    tier.rollback()
    log = AppendLogTier[Point](MemoryByteStore("log"), codec=codec)
    log.append_entries([Point(1, 2), Point(3, 4)])
    assert log.load_entries_all() == [Point(1, 2), Point(3, 4)]
    with pytest.raises(EncodeError, match="Point was expected, not dict"):
        log.append({"x": 1, "y": 2})  # type: ignore[arg-type]


def test_a_row_of_another_type_is_told() -> None:
    store = MemoryByteStore("mine")
    KeyValueTier[Any](store, codec=JsonCodec()).save("p", {"x": "one", "y": 2})
    with pytest.raises(DecodeError, match="row of key 'p' cannot be read with the codec json/1"):
        KeyValueTier(store, codec=JsonCodec(Point)).load("p")


CODECS: list[Codec[Any]] = [
    JsonCodec(),
    JsonCodec(version=2),
    MsgpackCodec(),
    MsgpackCodec(version=7),
    BytesCodec(),
    Reversing(),
]


def label(codec: Codec[Any]) -> str:
    return f"{codec.name}/{codec.version}"


@pytest.mark.parametrize("written", CODECS, ids=label)
@pytest.mark.parametrize("read", CODECS, ids=label)
def test_t9_a_row_of_another_codec_or_version_is_told(
    written: Codec[Any], read: Codec[Any]
) -> None:
    value = b"bytes" if written.name == "bytes" else "text"
    store, logs = MemoryByteStore("mine"), MemoryByteStore("logs")
    KeyValueTier[Any](store, codec=written).save("k", value)
    SnapshotTier[Any](store, name="s", codec=written).save(value)
    AppendLogTier[Any](logs, codec=written).append_entries([value, value])
    tier = KeyValueTier[Any](store, name="reader", codec=read)
    snapshots = SnapshotTier[Any](store, name="s", codec=read)
    log = AppendLogTier[Any](logs, codec=read)
    if label(written) == label(read):
        assert tier.load("k") == snapshots.load() == value
        assert log.load_entries_all() == [value, value]
        assert [written.decode(data) for _, data in tier.list_by_prefix_bytes("k")] == [value]
        return
    for call in (
        lambda: tier.load("k"),
        snapshots.load,
        log.load_entries_all,
        lambda: log.append(value),
        lambda: list(tier.list_by_prefix_bytes("")),
    ):
        with pytest.raises(CodecMismatchError) as caught:
            call()
        assert caught.value.expected == label(read)
        assert caught.value.found == label(written)
        assert label(read) in str(caught.value)
        assert label(written) in str(caught.value)


def test_t9_a_damaged_mark_is_told() -> None:
    store = MemoryByteStore("mine")
    tier = KeyValueTier[bytes](store, codec=BytesCodec())
    for row in (b"\xc1", b"\xc1\x00\x00\x00\x00\x00x", b"\xc1\x05byt", b"\xc1\x02\xff\xff\0\0\0\1"):
        store.put(b"k", row)
        with pytest.raises(CorruptDataError, match="row of key 'k' is damaged"):
            tier.load("k")


def test_t9_all_errors_are_of_one_family() -> None:
    for kind in (NoListSupportError, EncodeError, DecodeError, CodecMismatchError, BackendError):
        assert issubclass(kind, StorageError)
    for kind in (EncodeError, DecodeError, CodecMismatchError):
        assert issubclass(kind, CodecError)
    assert issubclass(NoListSupportError, BackendError)
    assert NoListSupportError("mine").name == "mine"


class Silent:
    """A codec that writes nothing."""

    name = "silent"
    version = 1

    def encode(self, value: Any) -> bytes:
        return b""

    def decode(self, data: bytes) -> Any:
        return None


def test_th8_an_empty_encoding_is_refused() -> None:
    for tier in (
        KeyValueTier[Any](MemoryByteStore("mine"), codec=Silent()),
        KeyValueTier[Any](MemoryByteStore("mine"), codec=BytesCodec()),
    ):
        with pytest.raises(EncodeError, match="tier 'mine'"):
            tier.save("k", b"")
    with pytest.raises(EncodeError, match="silent/1 wrote nothing for key 'mine'"):
        SnapshotTier[Any](MemoryByteStore("mine"), codec=Silent()).save(1)
    with pytest.raises(EncodeError, match="silent/1 wrote nothing for key 'mine'"):
        AppendLogTier[Any](MemoryByteStore("mine"), codec=Silent()).append(1)


def test_th8_empty_bytes_are_refused_by_the_save_also_where_it_would_wait() -> None:
    tier = KeyValueTier(MemoryByteStore("mine"), codec=BytesCodec(), debounce_ms=0)
    tier.save("good", b"1")
    with pytest.raises(EncodeError, match="delete the key"):
        tier.save("bad", b"")
    with pytest.raises(EncodeError, match="not str"):
        tier.save("bad", "text")  # type: ignore[arg-type]
    tier.flush()
    assert (tier.list(), tier.count) == (["good"], 1)


def test_bytes_in_a_log_may_be_empty() -> None:
    log = AppendLogTier(MemoryByteStore("mine"), codec=BytesCodec())
    log.append_entries([b"", b"\xc1", b"a"])
    assert log.load_entries_all() == [b"", b"\xc1", b"a"]
    with pytest.raises(EncodeError, match="not str"):
        log.append("text")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "version"), [("", 1), ("x" * 256, 1), ("x", -1), ("x", 2**32)])
def test_a_codec_needs_a_name_and_a_version(name: str, version: int) -> None:
    codec = Reversing()
    codec.name, codec.version = name, version
    with pytest.raises(ValueError, match="a codec needs a name"):
        KeyValueTier[Any](MemoryByteStore("mine"), codec=codec)


def test_a_json_row_is_a_file_that_people_can_read(tmp_path: Path) -> None:
    with FilesByteStore(None, tmp_path) as store:
        KeyValueTier[Any](store).save("settings", {"theme": "dark", "size": 12})
    assert (tmp_path / "settings.bin").read_text() == '{"size":12,"theme":"dark"}'


def test_the_bytes_of_rows() -> None:
    store = MemoryByteStore("mine")
    KeyValueTier[Any](store, codec=MsgpackCodec(version=258)).save("m", 1)
    KeyValueTier[Any](store, codec=BytesCodec()).save("b", b"v")
    KeyValueTier[Any](store).save("j", "v")
    assert {key: value.hex(" ") for key, value in store.range()} == {
        b"m": "c1 07 6d 73 67 70 61 63 6b 00 00 01 02 01",
        b"b": "c1 05 62 79 74 65 73 00 00 00 01 76",
        b"j": "22 76 22",
    }
