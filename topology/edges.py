"""The two kinds of edges of a topology: what passes from a node to its children.

Owns the two names and what they mean for a call. It must not know nodes or operators; each of them
declares what it takes and what it sends.

Source: JVM `Change`, which passes an object where this passes two arguments.
"""

from __future__ import annotations

from enum import Enum


class Edge(Enum):
    """What passes along an edge, and so how the function at its end is called."""

    RECORD = "record"
    """A record: (key, value, timestamp)."""
    CHANGE = "change"
    """A change of a table's row: (key, new value, old value, timestamp)."""
