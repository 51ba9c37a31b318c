"""Murmur3, 128 bits: the hash by which a foreign-key join knows a version of a left row.

Owns the form of the hash, the sixteen bytes that travel; mmh3 computes it.

Source: JVM `org.apache.kafka.streams.state.internals.Murmur3.hash128` (the x64 variant).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from mmh3 import mmh3_x64_128_digest

HASH_BYTES: Final = 16
_SEED: Final = 104729

_halves: Final = Struct("<QQ").unpack
_pack_hash: Final = Struct(">QQ").pack


def murmur3_128(data: bytes, seed: int = _SEED) -> bytes:
    """Returns the hash of `data`: two big-endian numbers of 8 bytes, one behind the other."""
    return _pack_hash(*_halves(mmh3_x64_128_digest(data, seed)))
