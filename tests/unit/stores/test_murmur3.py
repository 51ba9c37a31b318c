"""The 128-bit hash: the vectors of the JVM's own test, and those that the JVM's topics hold."""

from __future__ import annotations

import struct

import pytest

from thalweg.stores.murmur3 import murmur3_128


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("21", (5857341059704281894, -5288187638297930763)),
        ("foobar", (-351361463397418609, 8959716011862540668)),
        ("a-little-bit-long-string", (8836256500583638442, -198172363548498523)),
        ("a-little-bit-longer-string", (1838346159335108511, 8794688210320490705)),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            (-4024021876037397259, -1482317706335141238),
        ),
        ("abc", (1489494923063836066, -5440978547625122829)),
    ],
)
def test_the_vectors_of_the_jvm(text: str, expected: tuple[int, int]) -> None:
    assert struct.unpack(">qq", murmur3_128(text.encode(), 123)) == expected


def test_the_seed_of_foreign_key_joins() -> None:
    assert murmur3_128(b"").hex() == "9d2764a018e329428c3cf3b035938518"
    assert murmur3_128(b"hello").hex() == "30bfb4f39919e764566aea857401d1c6"


def test_every_length_of_the_rest_has_a_hash_of_its_own() -> None:
    data = bytes(range(200, 256)) * 20

    assert len({murmur3_128(data[:length]) for length in range(600)}) == 600
