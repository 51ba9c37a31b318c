"""The partition of a record for which none was chosen.

Owns the rule and a cache of hashes: murmur2 in Python costs as much as the rest of sending a
record, and keys repeat. It must not know topics or transports.

Source: JVM `BuiltInPartitioner`, `DefaultStreamPartitioner`.
"""

from __future__ import annotations

from typing import Final

from thalweg.stores.murmur2 import murmur2

HASHES_MAX: Final = 1 << 16
"""Most keys whose hashes are remembered; then all are forgotten. A few megabytes."""

REMEMBERED_KEY_BYTES_MAX: Final = 256
"""Longer keys are hashed anew, so that they cannot make the memory large."""


class KeyHashes(dict[bytes, int]):
    """The hash of a key with the sign bit cleared; reading one that is absent computes it.

    Any thread may read. Where two compute the same hash at once, nothing is lost.
    """

    __slots__ = ()

    def __missing__(self, key: bytes) -> int:
        hashed = murmur2(key) & 0x7FFFFFFF
        if len(key) <= REMEMBERED_KEY_BYTES_MAX:
            if len(self) >= HASHES_MAX:
                self.clear()
            self[key] = hashed
        return hashed


KEY_HASHES: Final = KeyHashes()
"""The hashes of this process; `KEY_HASHES[key] % count` is what `partition_of` returns."""


def partition_of(key: bytes, count: int) -> int:
    """Returns the partition of a key among `count`, as the JVM's producer chooses it."""
    return KEY_HASHES[key] % count
