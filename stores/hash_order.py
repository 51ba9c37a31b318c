"""The order in which the JVM walks a hash set of keys in bytes, or of names.

Owns hash codes of byte arrays and strings, buckets, and how a hash set grows. If the JVM logs the
rows of such a set, they are in this order in the changelog. It must not know what the keys are.

Source: `java.util.Arrays.hashCode`, `java.lang.String.hashCode`, `java.util.HashMap` of JDK 17.
Buckets with more than eight keys are treated as lists, not as trees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

SMALLEST_TABLE: Final = 16
MOST_ORDERED: Final = 2_000
"""How many keys are put in the order of the set at most."""
_INT: Final = 0xFFFFFFFF
_LOAD: Final = 0.75
_TREES_FROM: Final = 64
"""A table below this size grows where a larger one makes a tree of a long bucket."""
_LONGEST_BUCKET: Final = 8


def bucket(hashed: int, size: int) -> int:
    """Returns the bucket of a hash code in a table of `size` buckets."""
    return (hashed ^ hashed >> 16) & (size - 1)


def grown_table(count: int) -> int:
    """Returns the size of a table that `count` items were added to, one by one."""
    size = SMALLEST_TABLE
    while count > size * _LOAD:
        size *= 2
    return size


def string_hash(text: str) -> int:
    """Returns `String.hashCode()` as an unsigned number: 31-adic over UTF-16 units."""
    data, hashed = text.encode("utf-16-be", "surrogatepass"), 0
    for at in range(0, len(data), 2):
        hashed = (31 * hashed + (data[at] << 8 | data[at + 1])) & _INT
    return hashed


def names_order(texts: Sequence[str]) -> list[str]:
    """Returns texts, given in the order of insertion, in the order of a hash map of them."""
    size = grown_table(len(texts))
    return sorted(texts, key=lambda text: bucket(string_hash(text), size))


def bytes_hash(data: bytes) -> int:
    """Returns `Arrays.hashCode(byte[])` as an unsigned number: 31-adic over signed bytes."""
    powers = _powers(len(data))
    return (powers[0] + sum(map(int.__mul__, memoryview(data).cast("b"), powers[1:]))) & _INT


@cache
def _powers(length: int) -> tuple[int, ...]:
    """Returns the powers of 31 from `length` down to 0."""
    return tuple(pow(31, exponent, _INT + 1) for exponent in range(length, -1, -1))


class HashOrder:
    """Orders keys as one hash set does that is filled, walked and cleared again and again.

    A set that is cleared keeps its size, so what was in it before counts.
    """

    __slots__ = ("_size",)

    def __init__(self) -> None:
        self._size = SMALLEST_TABLE

    def ordered(self, keys: Iterable[bytes]) -> list[bytes]:
        """Returns distinct keys, given in the order of insertion, in the order of the set.

        Of more than `MOST_ORDERED` keys the order is that of insertion: it means nothing, and
        hash codes of so many keys cost more than the rest of a commit.
        """
        given = list(keys)
        if len(given) < 2:
            return given
        if len(given) > MOST_ORDERED:
            self._size = max(self._size, grown_table(len(given)))
            return given
        hashes = list(map(bytes_hash, given))
        size = self._size = max(self._grown(hashes), grown_table(len(given)))
        buckets = [bucket(hashed, size) for hashed in hashes]
        return [given[at] for at in sorted(range(len(given)), key=buckets.__getitem__)]

    def _grown(self, hashes: Sequence[int]) -> int:
        """Returns the size of the table, small ones of which also grow with a long bucket."""
        size = self._size
        if size >= _TREES_FROM or len(hashes) > _TREES_FROM * _LOAD:
            return size  # or the number of keys alone tells it
        lengths: Counter[int] = Counter()
        for count, hashed in enumerate(hashes, 1):
            lengths[bucket(hashed, size)] += 1
            grows = size < _TREES_FROM and lengths[bucket(hashed, size)] > _LONGEST_BUCKET
            for must_grow in (grows, count > size * (2 if grows else 1) * _LOAD):
                if must_grow:
                    size *= 2
                    lengths = Counter(bucket(one, size) for one in hashes[:count])
        return size
