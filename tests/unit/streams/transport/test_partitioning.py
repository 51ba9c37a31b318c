"""Which partition a key belongs to: Kafka's choice, remembered within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.murmur2 import murmur2
from thalweg.streams.transport.partitioning import (
    HASHES_MAX,
    REMEMBERED_KEY_BYTES_MAX,
    KeyHashes,
    partition_of,
)


def murmur2_by_bytes(data: bytes) -> int:
    """Returns the hash as its definition reads: one byte after the other."""
    mask = 0xFFFFFFFF
    hashed = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        word = data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24
        word = word * 0x5BD1E995 & mask
        word ^= word >> 24
        word = word * 0x5BD1E995 & mask
        hashed = hashed * 0x5BD1E995 & mask
        hashed ^= word
    rest = data[whole:]
    if len(rest) == 3:
        hashed ^= rest[2] << 16
    if len(rest) >= 2:
        hashed ^= rest[1] << 8
    if rest:
        hashed ^= rest[0]
        hashed = hashed * 0x5BD1E995 & mask
    hashed ^= hashed >> 13
    hashed = hashed * 0x5BD1E995 & mask
    return hashed ^ hashed >> 15


@given(st.binary(max_size=300))
def test_murmur2_is_what_its_definition_says(data: bytes) -> None:
    assert murmur2(data) == murmur2_by_bytes(data)


@pytest.mark.parametrize(
    ("key", "signed_hash"),
    # From Kafka's own tests of the hash.
    [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107)],
)
def test_the_sign_bit_is_cleared_before_the_choice(key: bytes, signed_hash: int) -> None:
    for count in (1, 2, 7, 100):
        assert partition_of(key, count) == (signed_hash & 0x7FFFFFFF) % count


def test_hashes_are_remembered_within_bounds() -> None:
    hashes = KeyHashes()
    for number in range(HASHES_MAX + 10):
        key = b"%d" % number
        assert hashes[key] == murmur2(key) & 0x7FFFFFFF
    assert 0 < len(hashes) <= HASHES_MAX


def test_long_keys_are_not_remembered() -> None:
    hashes = KeyHashes()
    key = bytes(REMEMBERED_KEY_BYTES_MAX + 1)
    assert hashes[key] == murmur2(key) & 0x7FFFFFFF
    assert len(hashes) == 0
