"""Visible orders that the JVM takes from its hash sets and tree sets.

Owns the order of names behind the arrows of a described topology, of stores that are printed and
opened, and of copartition groups. The copartition groups are sent to the broker, which refuses a
member whose topology differs from the group's even in this order. It must not know topologies, only
names.

Source: `java.lang.String.hashCode`, `java.util.HashMap` and `TreeMap` of JDK 17 (newer ones
size a copied set differently at 12, 24, 48 … names); the golden files' `java_order.py`.
Buckets of more than eight names are taken as lists, not as trees.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from thalweg.stores.hash_order import SMALLEST_TABLE, bucket, grown_table, string_hash

T = TypeVar("T")

_INT: Final = 0xFFFFFFFF
_LOAD: Final = 0.75


def text_order(text: str) -> bytes:
    """Returns a key that sorts as `String.compareTo` does."""
    return text.encode("utf-16-be", "surrogatepass")


def set_order(names: Iterable[str], *, copied: bool = False) -> list[str]:
    """Returns names in the iteration order of a `HashSet`.

    Args:
        names: in the order of insertion, which counts for names of one bucket.
        copied: whether the set was made from a collection at once, not name by name.
    """
    given = list(names)
    unique = list(dict.fromkeys(given))
    size = _sized_table(len(given)) if copied else grown_table(len(unique))
    return sorted(unique, key=lambda name: bucket(string_hash(name), size))


def group_order(groups: Sequence[Collection[str]], count: int) -> list[Collection[str]]:
    """Returns sets of names in the iteration order of a `HashSet` of them.

    Args:
        groups: distinct sets, in the order of insertion.
        count: size of the collection, with repetitions, that the set was made from.
    """
    size = _sized_table(count)
    return sorted(groups, key=lambda group: bucket(sum(map(string_hash, group)) & _INT, size))


def _sized_table(count: int) -> int:
    size = SMALLEST_TABLE
    while size < int(count / _LOAD) + 1:
        size *= 2
    return size


class DescribedOrder(NamedTuple):
    """The nodes of one subtopology as they are printed.

    Attributes:
        nodes: names, heaviest first.
        successors: name -> names behind `-->`.
        predecessors: name -> names behind `<--`.
    """

    nodes: list[str]
    successors: dict[str, list[str]]
    predecessors: dict[str, list[str]]


def described_order(parents: Mapping[str, Sequence[str]]) -> DescribedOrder:
    """Puts the nodes of one subtopology in the order in which the JVM prints them.

    A node weighs 1 and what its children weigh. Nodes stand by falling weight, then by name;
    but the sets behind the arrows are tree sets filled while the weights still grow, and
    never sorted again.

    Args:
        parents: node -> its parents; both as given, parents before their children.
    """
    weights = dict.fromkeys(parents, 1)
    ranks = {name: rank for rank, name in enumerate(parents)}
    names = list(parents)
    texts = {name: text_order(name) for name in parents}

    def is_less(one: str, other: str) -> bool:
        return (-weights[one], texts[one]) < (-weights[other], texts[other])

    above = {name: TreeSet(is_less) for name in parents}
    below = {name: TreeSet(is_less) for name in parents}

    def grow(name: str, weight: int) -> None:
        # Children before parents, so that a node met on several paths is visited once.
        gains = {ranks[name]: weight}
        queue = [-ranks[name]]
        while queue:
            rank = -heapq.heappop(queue)
            gain = gains.pop(rank)
            weights[names[rank]] += gain
            for parent in above[names[rank]]:
                at = ranks[parent]
                if at not in gains:
                    heapq.heappush(queue, -at)
                gains[at] = gains.get(at, 0) + gain

    for name in set_order(parents):
        for parent in parents[name]:
            above[name].add(parent)
            below[parent].add(name)
            grow(parent, weights[name])
    return DescribedOrder(
        sorted(parents, key=lambda name: (-weights[name], texts[name])),
        {name: list(below[name]) for name in parents},
        {name: list(above[name]) for name in parents},
    )


_LEFT: Final = 0
_RIGHT: Final = 1


@dataclass(slots=True, eq=False)
class _Branch(Generic[T]):
    item: T
    parent: _Branch[T] | None
    sides: list[_Branch[T] | None]
    is_red: bool = True


class TreeSet(Generic[T]):
    """A `TreeSet` whose order may change after an item went in.

    Items are compared on the way in only. Where the order has changed since, a new item's
    place depends on the shape of the tree, so the balancing has to be the JVM's.

    Args:
        is_less: the order, asked for items that are not equal.
    """

    __slots__ = ("_is_less", "_root")

    def __init__(self, is_less: Callable[[T, T], bool]) -> None:
        self._is_less = is_less
        self._root: _Branch[T] | None = None

    def add(self, item: T) -> None:
        """Puts an item in, unless the search for its place meets it."""
        at, parent, side = self._root, None, _LEFT
        while at is not None:
            if at.item == item:
                return
            parent, side = at, _LEFT if self._is_less(item, at.item) else _RIGHT
            at = at.sides[side]
        added = _Branch(item, parent, [None, None])
        if parent is None:
            self._root = added
        else:
            parent.sides[side] = added
        self._balance(added)

    def __iter__(self) -> Iterator[T]:
        waiting: list[_Branch[T]] = []
        at = self._root
        while waiting or at is not None:
            while at is not None:
                waiting.append(at)
                at = at.sides[_LEFT]
            branch = waiting.pop()
            yield branch.item
            at = branch.sides[_RIGHT]

    def _balance(self, branch: _Branch[T]) -> None:
        parent = branch.parent
        while parent is not None and parent.is_red:
            # A red node is never the root: there is a grandparent.
            grand = parent.parent
            assert grand is not None
            side = _LEFT if grand.sides[_LEFT] is parent else _RIGHT
            uncle = grand.sides[1 - side]
            if uncle is not None and uncle.is_red:
                parent.is_red = uncle.is_red = False
                grand.is_red = True
                branch = grand
            else:
                if parent.sides[1 - side] is branch:
                    self._lift(branch)
                    branch, parent = parent, branch
                parent.is_red = False
                grand.is_red = True
                self._lift(parent)
            parent = branch.parent
        assert self._root is not None
        self._root.is_red = False

    def _lift(self, child: _Branch[T]) -> None:
        """Rotates: puts `child` in the place of its parent and the parent below it."""
        parent = child.parent
        assert parent is not None
        side = _LEFT if parent.sides[_LEFT] is child else _RIGHT
        grand, moved = parent.parent, child.sides[1 - side]
        parent.sides[side] = moved
        if moved is not None:
            moved.parent = parent
        child.sides[1 - side], parent.parent = parent, child
        child.parent = grand
        if grand is None:
            self._root = child
        else:
            grand.sides[_LEFT if grand.sides[_LEFT] is parent else _RIGHT] = child
