"""The layouts of foreign-key joins: bytes of the JVM, and what is no such bytes."""

from __future__ import annotations

import pytest

from thalweg import DeserializationError
from thalweg.stores.foreign_keys import (
    FORGET,
    FORGET_AND_TELL,
    TELL,
    TELL_IF_FOUND,
    checked_registration,
    decode_response,
    encode_registration,
    pack_partition,
    partition_of,
    primary_key_of,
    response_head,
    subscriptions_prefix,
    without_partition,
)

HASH = bytes(range(16))


def test_the_deletion_of_a_row_has_no_hash() -> None:
    registration = encode_registration(None, FORGET, b"pk", pack_partition(0))

    assert registration.hex(" ") == "81 00 70 6b 00 00 00 00"
    assert (primary_key_of(registration), partition_of(registration)) == (b"pk", 0)
    assert response_head(registration) == b"\x80"


@pytest.mark.parametrize("instruction", [FORGET, FORGET_AND_TELL, TELL, TELL_IF_FOUND])
def test_a_registration_carries_hash_key_and_partition(instruction: int) -> None:
    registration = encode_registration(HASH, instruction, b"key", pack_partition(258))

    assert registration == bytes((1, instruction)) + HASH + b"key\x00\x00\x01\x02"
    assert checked_registration(registration) is registration
    assert (primary_key_of(registration), partition_of(registration)) == (b"key", 258)
    assert response_head(registration) == b"\x00" + HASH


@pytest.mark.parametrize("hashed", [None, HASH])
def test_version_0_has_no_partition(hashed: bytes | None) -> None:
    legacy = encode_registration(hashed, TELL, b"key", None)
    newer = encode_registration(hashed, TELL, b"key", pack_partition(7))

    assert legacy == bytes((0x80 if hashed is None else 0, TELL)) + (hashed or b"") + b"key"
    assert (primary_key_of(legacy), partition_of(legacy)) == (b"key", None)
    assert without_partition(newer) == legacy == without_partition(legacy)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"\x01\x02short", "7 bytes"),
        (b"\x81\x02\x00\x00\x00", "5 bytes"),
        (b"\x02\x00", "version 2"),
        (b"\x80\x04key", "instruction 4"),
    ],
)
def test_what_is_no_registration_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DeserializationError, match=reason):
        checked_registration(data)


def test_a_response_has_a_right_value_or_none() -> None:
    assert decode_response(b"\x00" + HASH + b"value") == (HASH, b"value")
    assert decode_response(b"\x00" + HASH) == (HASH, None)
    assert decode_response(b"\x80") == (None, None)


@pytest.mark.parametrize(("data", "reason"), [(b"", "0 bytes"), (b"\x01" + HASH, "version 1")])
def test_what_is_no_response_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DeserializationError, match=reason):
        decode_response(data)


def test_no_foreign_key_is_the_beginning_of_another() -> None:
    assert subscriptions_prefix(b"ab") == b"\x00\x00\x00\x02ab"
    assert not subscriptions_prefix(b"abc").startswith(subscriptions_prefix(b"ab"))
