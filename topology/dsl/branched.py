"""Splits: a stream that is divided into branches.

Owns the choice of the branch for a record, and the names of branches. It must not know what is done
with a branch.

Source: JVM `BranchedKStreamImpl`; kafka-streams A2, A13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from thalweg.topology.dsl.options import arity, check_name
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.steps import always, processor_step
from thalweg.topology.operators.stateless import Branch, PassThrough

if TYPE_CHECKING:
    from thalweg.topology.dsl.stream import KStream

K = TypeVar("K")
V = TypeVar("V")

_KEY_VALUE = {2: "key, value"}


class BranchedKStream(Generic[K, V]):
    """A stream being split: each record goes to the first branch whose predicate is true."""

    def __init__(self, stream: KStream[K, V], name: str | None) -> None:
        self._stream = stream
        self._branches: dict[str, KStream[K, V]] = {}
        self._is_closed = False
        predicates: list[Callable[[K, V], object]] = []
        self._predicates = predicates
        node_name = stream.place.names.name_or_new(check_name(name), "KSTREAM-BRANCH-")
        split = processor_step(node_name, lambda _facts: Branch(tuple(predicates)))
        self._splitter = stream.place.then(split)

    def __repr__(self) -> str:
        branches = ", ".join(self._branches) or "none yet"
        return f"<BranchedKStream of {self._stream.place.name}: branches {branches}>"

    def branch(
        self,
        predicate: Callable[[K, V], bool],
        *,
        name: str | None = None,
        to: Callable[[KStream[K, V]], object] | None = None,
        then: Callable[[KStream[K, V]], KStream[K, V] | None] | None = None,
    ) -> BranchedKStream[K, V]:
        """Adds a branch.

        Args:
            predicate: (key, value) -> whether a record belongs to this branch.
            name: the branch's name, which follows that of the split; if not given, its position from 1.
            to: is called with the branch's stream and ends it; the branch is not in the result.
            then: is called with the branch's stream; the stream that it returns is in the result.
        """
        arity(predicate, _KEY_VALUE, "branch")
        self._refuse_if_closed()
        self._predicates.append(predicate)
        self._add(len(self._predicates), name, to, then)
        return self

    def default_branch(
        self,
        *,
        name: str | None = None,
        to: Callable[[KStream[K, V]], object] | None = None,
        then: Callable[[KStream[K, V]], KStream[K, V] | None] | None = None,
    ) -> dict[str, KStream[K, V]]:
        """Adds the branch of all other records and returns the branches; see `branch`."""
        self._refuse_if_closed()
        self._add(0, name, to, then)
        return self.no_default_branch()

    def no_default_branch(self) -> dict[str, KStream[K, V]]:
        """Lets all other records go and returns the branches by splitter's and own name."""
        self._is_closed = True
        return self._branches

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise TopologyError(
                "the split has its default branch already; add branches before it",
                node=self._splitter.name,
            )

    def _add(
        self,
        position: int,
        name: str | None,
        to: Callable[[KStream[K, V]], object] | None,
        then: Callable[[KStream[K, V]], KStream[K, V] | None] | None,
    ) -> None:
        if to is not None and then is not None:
            raise TypeError("a branch takes either `to` or `then`, not both")
        own = str(position) if name is None else name
        full_name = str(check_name(self._splitter.name + own))
        self._splitter.names.new_name(full_name)
        place = self._splitter.then(processor_step(full_name, always(PassThrough())))
        stream = self._stream.at(place)
        if to is not None:
            to(stream)
            return
        result = stream if then is None else then(stream)
        if result is not None:
            self._branches[full_name] = result
