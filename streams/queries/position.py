"""Positions: how far a store is in the topics that its rows come from.

Owns the value, its merging and its form in JSON. It must not know how a store knows its position.

Source: KIP-796; JVM `Position`, `PositionBound`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

_decode: Final = msgspec.json.Decoder(dict[str, dict[int, int]]).decode


class Position(Mapping[tuple[str, int], int]):
    """The position of a store: (topic, partition) -> the last offset that its rows include.

    A query returns the position of the rows that it read. If you pass it to a later query as
    `position_bound`, the rows of that query are at least as new, whichever instance answers. A
    position never changes.

    Example:
        >>> seen = Position({("orders", 0): 41})
        >>> seen.merged(Position({("orders", 0): 7, ("orders", 1): 3}))
        Position({('orders', 0): 41, ('orders', 1): 3})

    Args:
        offsets: (topic, partition) -> offset.
    """

    __slots__ = ("_offsets",)

    def __init__(self, offsets: Mapping[tuple[str, int], int] | None = None) -> None:
        given = {} if offsets is None else offsets
        self._offsets = {
            (topic, partition): offset for (topic, partition), offset in sorted(given.items())
        }

    def __getitem__(self, at: tuple[str, int]) -> int:
        return self._offsets[at]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __hash__(self) -> int:
        return hash(tuple(self._offsets.items()))

    def __repr__(self) -> str:
        return f"Position({self._offsets})"

    def merged(self, *others: Position) -> Position:
        """Returns the position that is as far as this one and all the others."""
        offsets = dict(self._offsets)
        for other in others:
            for at, offset in other.items():
                offsets[at] = max(offset, offsets.get(at, offset))
        return Position(offsets)

    def covers(self, bound: Position, partition: int) -> bool:
        """Tells whether a store's partition that is here is as far as a bound.

        Args:
            bound: a position of the whole store.
            partition: the store's partition: of other partitions of a topic the bound says
                nothing.
        """
        return all(
            self._offsets.get(at, -1) >= offset
            for at, offset in bound.items()
            if at[1] == partition
        )

    def as_json(self) -> dict[str, dict[str, int]]:
        """Returns topic -> partition -> offset, as it goes into JSON."""
        shown: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in self._offsets.items():
            shown.setdefault(topic, {})[str(partition)] = offset
        return shown

    @staticmethod
    def of_json(text: str) -> Position:
        """Reads a position from JSON.

        Raises:
            ValueError: it is none.
        """
        try:
            given = _decode(text.encode())
        except ValueError as error:
            message = f'{text!r} is no position such as {{"topic": {{"0": 12}}}}'
            raise ValueError(message) from error
        return Position(
            {(topic, n): offset for topic, ones in given.items() for n, offset in ones.items()}
        )

    @staticmethod
    def of_all(positions: Iterable[Position]) -> Position:
        """Returns the position that is as far as each of these."""
        return Position().merged(*positions)
