"""Buffers of changes: the suite over each kind of serde, and changelogs of every version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.change_formats import (
    ChangeContext,
    decode_logged,
    encode_buffered,
    encode_logged,
)
from thalweg.stores.errors import DeserializationError
from thalweg.stores.hash_order import MOST_ORDERED, HashOrder, bytes_hash
from thalweg.stores.kinds.change_buffer import ChangeBufferSpec
from thalweg.stores.record import HeaderList
from thalweg.stores.serde import Serde, serdes
from thalweg.stores.testing.change_buffer import ChangeBufferSuite
from thalweg.stores.testing.host import RecordingHost


def mutable(inner: Serde[Any]) -> Serde[Any]:
    """A serde of whose values nothing may be kept decoded."""
    return Serde.of(inner.serializer(""), inner.deserializer(""), name=f"mutable {inner.name}")


def described(*, keeps_headers: bool = False) -> StoreBuilder:
    return StoreBuilder(
        name="st",
        spec=ChangeBufferSpec(keeps_headers),
        backend="memory",
        key_serde=serdes.string,
        value_serde=serdes.int64,
    )


class TestLogged(ChangeBufferSuite):
    def open_store(self, host: RecordingHost) -> Any:
        return described().build(host)


class TestUnlogged(ChangeBufferSuite):
    logged = False

    def open_store(self, host: RecordingHost) -> Any:
        return described().without_logging().build(host)


class TestBytes(ChangeBufferSuite):
    def open_store(self, host: RecordingHost) -> Any:
        key_serde, value_serde = mutable(serdes.string), mutable(serdes.int64)
        return StoreBuilder(
            name="st",
            spec=ChangeBufferSpec(),
            backend="memory",
            key_serde=key_serde,
            value_serde=value_serde,
        ).build(host)


class TestHeaders(ChangeBufferSuite):
    keeps_headers = True

    def open_store(self, host: RecordingHost) -> Any:
        return described(keeps_headers=True).build(host)


del ChangeBufferSuite  # else pytest would take it for one more test


# -- changelogs ------------------------------------------------------------------------------

CONTEXT = ChangeContext(7, 3, "in", 0, [("h", b"1"), ("n", None)])
OWN = ChangeContext(9, 4, "changelog", 0, [])
RAW_CONTEXT = bytes.fromhex(
    "0000000000000007" + "0000000000000003" + "00000002696e" + "00000000"
    "00000002" + "0000000168" + "0000000131" + "000000016e" + "ffffffff"
)
PAIR = bytes.fromhex("000000016f" + "000000016e")  # old "o", new "n"
SIZED_PAIR = bytes.fromhex("0000000a") + PAIR
PRIOR = bytes.fromhex("0000000170")  # "p"
TIME = bytes.fromhex("0000000000000005")


@pytest.mark.parametrize(
    ("version", "data", "context", "prior"),
    [
        (b"\x03", RAW_CONTEXT + PRIOR + PAIR + TIME, CONTEXT, b"p"),
        (b"\x02", RAW_CONTEXT + SIZED_PAIR + PRIOR + TIME, CONTEXT, b"p"),
        (b"\x02", RAW_CONTEXT + PRIOR + PAIR + TIME, CONTEXT, b"p"),
        (b"\x01", TIME + RAW_CONTEXT + SIZED_PAIR, CONTEXT, b"o"),
        (None, TIME + PAIR, OWN, b"o"),
    ],
)
def test_every_version_is_read(
    version: bytes | None, data: bytes, context: ChangeContext, prior: bytes
) -> None:
    change = decode_logged(version, data, OWN, None)

    assert change == (5, context, prior, b"o", b"n")


@pytest.mark.parametrize("version", [None, b"\x01"])
def test_old_versions_keep_the_prior_value_that_is_held(version: bytes | None) -> None:
    data = TIME + PAIR if version is None else TIME + RAW_CONTEXT + SIZED_PAIR

    assert decode_logged(version, data, OWN, b"held").prior == b"held"


def test_an_old_value_that_is_the_prior_one_is_written_once() -> None:
    data = encode_logged(encode_buffered(CONTEXT, b"p", b"p", None), 5)

    assert data == RAW_CONTEXT + PRIOR + bytes.fromhex("fffffffe" + "ffffffff") + TIME
    assert decode_logged(b"\x03", data, OWN, None) == (5, CONTEXT, b"p", b"p", None)


def test_a_change_made_in_a_punctuation_has_no_topic() -> None:
    context = ChangeContext(7, -1, None, -1, [])
    data = encode_logged(encode_buffered(context, None, None, b"n"), 5)

    assert decode_logged(b"\x03", data, OWN, None).context == context


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (b"\x03", b""),
        (b"\x03", RAW_CONTEXT),
        (b"\x02", RAW_CONTEXT + b"\x00"),
        (b"\x01", TIME),
        (None, b"\x00" * 9),
        (b"\x04", TIME + PAIR),
        (b"", TIME + PAIR),
    ],
)
def test_what_is_no_change_is_refused(version: bytes | None, data: bytes) -> None:
    with pytest.raises(DeserializationError):
        decode_logged(version, data, OWN, None)


def test_headers_of_each_value_are_restored(tmp_path: Path) -> None:
    store = described(keeps_headers=True).build(RecordingHost(tmp_path))
    deferred = store.deferred(drops_deletions=False, counts_bytes=False)  # type: ignore[attr-defined]
    value = bytes(7)
    same = encode_buffered(CONTEXT, value + b"1", value + b"1", value + b"2")
    unknown = bytes.fromhex("00" + "0000000000000007")  # those of its record are not known
    known = bytes.fromhex("0a" + "02" + "0268" + "0232" + "0000000000000005")

    def restored(headers: HeaderList) -> str:
        record = (1, b"k", encode_logged(same, 5), (1, [("v", b"\x03"), *headers]))
        store.restore([record])
        return str(store.dump()[1][0]["value"])

    assert unknown.hex() + value.hex() + "31" + "fffffffe" in restored([])
    shared = restored([("vh.old", known)])
    assert known.hex() + value.hex() + "31" + "fffffffe" in shared
    apart = restored([("vh.old", known), ("vh.prior", unknown)])
    assert known.hex() in apart
    assert unknown.hex() + value.hex() + "31" in apart
    assert "fffffffe" not in apart
    assert deferred.extent()[0] == 1


def test_a_deletion_of_a_key_that_is_not_held_restores_nothing(tmp_path: Path) -> None:
    store = described().build(RecordingHost(tmp_path))

    store.restore([(1, b"k", None, 0)])

    assert store.dump() == ("suppress-buffer", [])


# -- the order of a hash set -----------------------------------------------------------------


def test_hashes_are_those_of_java() -> None:
    # java.util.Arrays.hashCode: 31-adic from 1 over signed bytes.
    assert bytes_hash(b"") == 1
    assert bytes_hash(b"a") == 31 + 97
    assert bytes_hash(b"\xff") == 30
    assert bytes_hash(b"ab") == (31 + 97) * 31 + 98


def one_byte(bucket: int) -> bytes:
    """A key whose hash is a small number: 31 and the byte."""
    return bytes([(bucket - 31) % 256])


def test_keys_come_by_bucket_then_as_they_were_added() -> None:
    order = HashOrder()

    # Buckets of 16: hashes 33 and 49 share bucket 1.
    assert order.ordered([one_byte(49), one_byte(40), one_byte(33)]) == [
        one_byte(49),
        one_byte(33),
        one_byte(40),
    ]


def test_a_set_that_has_grown_stays_so() -> None:
    order = HashOrder()
    order.ordered([one_byte(number) for number in range(32, 32 + 13)])

    # Buckets of 32: 33 is in bucket 1, 49 in 17.
    assert order.ordered([one_byte(49), one_byte(40), one_byte(33)]) == [
        one_byte(33),
        one_byte(40),
        one_byte(49),
    ]


def test_a_long_bucket_makes_a_small_set_grow() -> None:
    order = HashOrder()
    # Nine keys of bucket 1 of 16 make it grow though it is not full.
    shared = [bytes([0, 0, number]) for number in range(256)]
    in_one = [key for key in shared if bytes_hash(key) % 16 == bytes_hash(shared[0]) % 16][:9]
    assert len(in_one) == 9

    order.ordered(in_one)

    assert order.ordered([one_byte(49), one_byte(33)]) == [one_byte(33), one_byte(49)]


def test_many_keys_keep_the_order_in_which_they_were_added() -> None:
    order = HashOrder()
    many = [number.to_bytes(2, "big") for number in range(MOST_ORDERED + 1)]

    assert order.ordered(many) == many
    assert order.ordered([b"b", b"a"]) == [b"a", b"b"]
