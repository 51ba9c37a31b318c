"""A toy operator of two inputs: each record with the newest value that the other side had.

It is what a stranger would write for a join that the house does not have: one file, from its
graph step to its closure, only the faces that `topology` documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from thalweg import KStream, serdes
from thalweg.stores.builders import StoreBuilder, timestamped_key_value_store
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import AddProcessor, AddStore, Step, always
from thalweg.topology.operators.operator import NodeScope, Operator, Process, nowhere
from thalweg.topology.operators.stateless import PassThrough

Side = Literal["left", "right"]


class Pairs:
    """What both sides of one task share: how many pairs they have made."""

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, eq=False)
class LatestPair(Operator):
    """One side: keeps its newest value and meets the other's.

    Args:
        name: of the whole operation, by which both sides find what they share.
        side: which one it is.
        own: the store it fills.
        other: the store that the other side fills.
    """

    name: str
    side: Side
    own: str
    other: str

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        pairs = scope.task.shared(("latest-pairs", self.name), Pairs)
        write = scope.task.store(self.own).updates(nowhere, send_old=False).write
        read = scope.task.store(self.other).read_row
        forward, failed, drop, is_left = (
            scope.forward,
            scope.failed,
            scope.drop,
            self.side == "left",
        )

        def pair(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                drop(key, value, timestamp)
                return
            try:
                write(key, value, None, timestamp)
                row = read(key)
                if row is None:
                    return
                pairs.count += 1
                left, right = (value, row[0]) if is_left else (row[0], value)
                forward(key, f"{pairs.count}: {left} {right}", max(timestamp, row[1]))
            except Exception as error:
                failed(error, key, value, timestamp)

        return pair


def latest_pairs(
    left: KStream[str, str], right: KStream[str, str], name: str, *, cached: bool
) -> KStream[str, str]:
    """Puts the operation into a topology, with a store for each side."""
    graph = left.place.graph
    sources = left.place.copartition_with(right.place)
    stores = [_store(f"{name}-{side}", cached=cached) for side in ("left", "right")]
    names = tuple(store.name for store in stores)

    def side(which: Side, stream: KStream[str, str], own: str, other: str) -> AddProcessor:
        operator = LatestPair(name, which, own, other)
        return AddProcessor(
            f"{name}-{which}-side", always(operator), (stream.place.name,), stores=names
        )

    this = side("left", left, names[0], names[1])
    that = side("right", right, names[1], names[0])
    both = AddProcessor(name, always(PassThrough()), (this.name, that.name))
    adds = (*(AddStore(store) for store in stores), this, that, both)
    step = graph.add(Step(name, adds), left.place.step, right.place.step)
    return KStream(Place(graph, name, step, sources), serdes.string, serdes.string)


def _store(name: str, *, cached: bool) -> StoreBuilder:
    store = timestamped_key_value_store(name, serdes.string, serdes.string)
    return store.with_caching() if cached else store
