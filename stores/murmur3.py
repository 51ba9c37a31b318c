"""Murmur3, 128 bits: the hash that identifies the value of a left row in a foreign-key join.

Owns only the hash, as sixteen bytes. Hashes of short values are cached, because a row is hashed
when it is sent to the right side and again at each response. The cache has room for the rows that
may be under way at one time.

Source: JVM `org.apache.kafka.streams.state.internals.Murmur3.hash128` (the x64 variant).
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, unpack_from
from typing import Final

HASH_BYTES: Final = 16
_SEED: Final = 104729
_KEPT_VALUE_BYTES: Final = 512
_KEPT_COUNT: Final = 32768
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F
_C3: Final = 0xFF51AFD7ED558CCD
_C4: Final = 0xC4CEB9FE1A85EC53

_pack_hash: Final = Struct(">QQ").pack


def murmur3_128(data: bytes, seed: int = _SEED) -> bytes:
    """Returns the hash of `data`: two big-endian numbers of 8 bytes, one behind the other."""
    if len(data) <= _KEPT_VALUE_BYTES:
        return _kept(data, seed)
    return _hashed(data, seed)


def _hashed(data: bytes, seed: int) -> bytes:
    length = len(data)
    first = second = seed
    whole = length & ~15
    if whole:
        words = unpack_from(f"<{whole >> 3}Q", data)
        for one, two in zip(words[::2], words[1::2], strict=True):
            low = one * _C1 & _MASK
            first ^= (low << 31 | low >> 33) * _C2 & _MASK
            first = (first << 27 & _MASK | first >> 37) + second
            first = first * 5 + 0x52DCE729 & _MASK
            high = two * _C2 & _MASK
            second ^= (high << 33 | high >> 31) * _C1 & _MASK
            second = (second << 31 & _MASK | second >> 33) + first
            second = second * 5 + 0x38495AB5 & _MASK
    rest = length & 15
    if rest:
        if rest > 8:
            high = int.from_bytes(data[whole + 8 :], "little") * _C2 & _MASK
            second ^= (high << 33 | high >> 31) * _C1 & _MASK
        low = int.from_bytes(data[whole : whole + 8], "little") * _C1 & _MASK
        first ^= (low << 31 | low >> 33) * _C2 & _MASK
    first ^= length
    second ^= length
    first = first + second & _MASK
    second = second + first & _MASK
    # Lets each bit of a word change every other.
    first = (first ^ first >> 33) * _C3 & _MASK
    first = (first ^ first >> 33) * _C4 & _MASK
    second = (second ^ second >> 33) * _C3 & _MASK
    second = (second ^ second >> 33) * _C4 & _MASK
    second ^= second >> 33
    first = (first ^ first >> 33) + second & _MASK
    return _pack_hash(first, second + first & _MASK)


_kept: Final = lru_cache(_KEPT_COUNT)(_hashed)
