"""Kafka's murmur2: the hash that decides to which partition a key belongs.

Owns only the hash. Its callers apply the sign bit and the partition count.

Source: JVM `org.apache.kafka.common.utils.Utils.murmur2`.
"""

from __future__ import annotations

from struct import Struct, unpack_from
from typing import Final

_WORDS: Final = tuple(Struct(f"<{count}I").unpack_from for count in range(33))
"""Readers of that many little-endian words; most keys are short."""


def murmur2(data: bytes) -> int:
    """Returns Kafka's 32-bit murmur2 hash (seed 0x9747b28c), unsigned."""
    length = len(data)
    count = length >> 2
    hashed = 0x9747B28C ^ length
    for word in _WORDS[count](data) if count < 33 else unpack_from(f"<{count}I", data):
        block = word * 0x5BD1E995 & 0xFFFFFFFF
        hashed = hashed * 0x5BD1E995 & 0xFFFFFFFF ^ (block ^ block >> 24) * 0x5BD1E995 & 0xFFFFFFFF
    if length & 3:
        rest = int.from_bytes(data[length & ~3 :], "little")
        hashed = (hashed ^ rest) * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return hashed ^ hashed >> 15
