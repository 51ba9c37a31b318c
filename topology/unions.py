"""Sets of names that only ever grow together.

Owns which names belong together. It must not know what they name.

Source: none, union-find with path halving.
"""

from __future__ import annotations


class Unions:
    """Sets of names that only ever grow together."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def add(self, name: str) -> None:
        """Adds a name in a set of its own."""
        self._above[name] = name

    def root(self, name: str) -> str:
        """Returns the name that stands for the set of a name."""
        above = self._above
        while above[name] != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    def unite(self, one: str, other: str) -> None:
        """Makes one set of those of two names."""
        self._above[self.root(one)] = self.root(other)
